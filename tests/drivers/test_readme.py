"""The daemons of README print lines of the shape that it shows; numbers and addresses may differ."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.drivers.feeding import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"^```\n\$ powertcp (.+)\n((?s:.*?))```$", re.MULTILINE).findall(README)
# digests, and "clock U" where no clock is synchronised
HASH = re.compile(r"\b[0-9a-f]{8,64}\b")
CLOCK = " clock U"
ADDRESS = re.compile(r"[^\s,]*127\.0\.0\.1[^\s,]*|\[::\]:\d+")
Environ = dict[str, str]
Child = subprocess.Popen[str]


def shape(line: str) -> str:
    """Return a line without its numbers, what follows from them, and addresses."""
    plain = re.sub(r"\d[\d.,:]*", "#", ADDRESS.sub("ADDRESS", line))
    return " ".join(plain.replace("# pages", "# page").split())


def shapes(lines: str | Sequence[str]) -> set[str]:
    return {shape(line) for line in (lines.splitlines() if isinstance(lines, str) else lines)}


def example(start: str) -> tuple[list[str], list[str]]:
    """Return the words and the lines shown of the example that begins so."""
    ((words, text),) = [row for row in SHOWN if row[0].startswith(start)]
    return shlex.split(words), text.splitlines()


def until(stream: IO[str] | None, word: str) -> list[str]:
    """Read lines up to the first that holds `word`."""
    assert stream is not None
    lines = [stream.readline()]
    while lines[-1] and word not in lines[-1]:
        lines.append(stream.readline())
    assert lines[-1], lines
    return lines


@pytest.fixture
def environ(tmp_path: Path) -> Environ:
    own = {name: str(tmp_path) for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    return dict(os.environ) | own


def ask(words: Sequence[str], environ: Environ) -> str:
    command = [sys.executable, "-m", "powertcp", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    ).stdout


@contextmanager
def running(words: Sequence[str], environ: Environ) -> Iterator[Child]:
    """Run one command; whatever happens, its process ends."""
    child = subprocess.Popen(
        [sys.executable, "-m", "powertcp", *words],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        child.communicate()


@contextmanager
def provider_of(start: str, environ: Environ) -> Iterator[tuple[Child, str, list[str]]]:
    """Run a provider of README on a free port: yields it, its port, and the log that is shown."""
    words, shown = example(start)
    with running([*words, "--listen", "127.0.0.1:0", "--no-mdns"], environ) as child:
        (first,) = until(child.stdout, "listening")
        assert shape(first) == shape(shown[0])
        yield child, first.split("127.0.0.1:")[1].split()[0].rstrip(","), shown[1:]


def test_a_provider_a_consumer_and_their_status(environ: Environ) -> None:
    words, shown = example("consumer --connect")
    words[words.index("--for") + 1] = "60s"
    with provider_of("provider --supply 12V/5A --supply", environ) as (provider, port, log):
        words[words.index("--connect") + 1] = f"127.0.0.1:{port}"
        with running(words, environ) as consumer:
            said = until(consumer.stdout, "powered")
            status, status_shown = example("status")
            assert shapes(ask(status, environ)) == shapes(status_shown)
            consumer.send_signal(signal.SIGINT)
            said += consumer.communicate()[0].splitlines()
        assert consumer.returncode == 0
        assert shapes(said) == shapes(shown)
        provider.send_signal(signal.SIGTERM)
        assert shapes(log) <= shapes(provider.communicate()[1])


@pytest.mark.parametrize("start", ["ledger audit", "ledger invoice"])
def test_the_books_of_a_provider_and_a_consumer(start: str, environ: Environ) -> None:
    words, _ = example("consumer --connect")
    with provider_of("provider --supply 12V/5A --supply", environ) as (provider, port, _):
        words[words.index("--connect") + 1] = f"127.0.0.1:{port}"
        with running(words, environ) as consumer:
            until(consumer.stdout, "powered")
            consumer.send_signal(signal.SIGINT)
            consumer.communicate()
        provider.send_signal(signal.SIGTERM)
        provider.communicate()
    words, shown = example(start)
    words = [word.replace("~/.local/state", environ["XDG_STATE_HOME"]) for word in words]

    def plain(lines: Sequence[str]) -> list[str]:
        return [shape(HASH.sub("7", line.removesuffix(CLOCK))) for line in lines]

    assert plain(ask(words, environ).splitlines()) == plain(shown)


def test_a_source_that_misbehaves_and_what_explain_says(environ: Environ) -> None:
    with provider_of("provider --supply 12V/5A --source", environ) as (provider, port, log):
        words = ["consumer", "--connect", f"127.0.0.1:{port}", "--request", "12V/1A"]
        with running([*words, "--load", "none"], environ):
            assert shapes(log) <= shapes(until(provider.stderr, "closed"))
            explain, shown = example("explain flows")
            assert shapes(shown) <= shapes(ask(explain, environ))


def test_a_feed_and_who_hears_it(environ: Environ, tmp_path: Path) -> None:
    group = f"239.255.80.84:{free_port()}"
    here = ["--feed-interface", "lo"]
    words, (listening,) = example("provider --feed")
    words[words.index("--state-dir") + 1] = str(tmp_path / "hall")
    hears, shown = example("consumer --feed")
    hears[hears.index("--state-dir") + 1] = str(tmp_path / "phone")
    hears[hears.index("multicast")] = group
    hears[hears.index("--for") + 1] = "2s"

    def plain(line: str) -> str:
        return shape(HASH.sub("7", line))

    there = ["--listen", "127.0.0.1:0", "--no-mdns"]
    with running([*words, *here, "--feed-to", group, *there], environ) as source:
        (first,) = until(source.stdout, "listening")
        assert plain(first) == plain(listening).replace(" [ff#]:#", "")
        with running([*hears, *here], environ) as sink:
            said = sink.communicate()[0].splitlines()
        assert sink.returncode == 0
        assert {plain(line) for line in said[1:]} == {plain(line) for line in shown[1:]}
