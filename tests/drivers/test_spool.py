"""Streams that never wait: order, bounds, what is said about lost lines, refusals."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from powertcp.drivers.spool import Scribe, Spool, count_lines

LONG_S = 10.0
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
}
WHOLE = "x" * (1 << 17)  # more than a pipe holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The reading end of a pipe, and a stream to it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield reading, stream
    os.close(reading)


def read(descriptor: int, octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        found += os.read(descriptor, octets - len(found))
    return found


def stuck(pipe: tuple[int, TextIO], scribe: Scribe) -> Spool:
    """Return a spool whose scribe is in the middle of a line that nobody reads."""
    reading, stream = pipe
    spool = Spool(stream, scribe)
    spool.write(f"{WHOLE}\n")
    assert read(reading, 1) == b"x"
    return spool


def test_lines_of_two_streams_with_one_scribe_keep_their_order(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    scribe = Scribe("both")
    spools = [Spool(stream, scribe), Spool(stream, scribe)]
    expected = b""
    for index in range(1000):
        print(index, "of", 1000, file=spools[index % 2])
        expected += f"{index} of 1000\n".encode()
    scribe.settle(LONG_S)
    assert read(reading, len(expected)) == expected


def test_a_warning_about_garbage_while_a_line_is_taken_waits_for_nobody(
    pipe: tuple[int, TextIO],
) -> None:
    reading, stream = pipe
    scribe = Scribe("both")
    spool = Spool(stream, scribe)
    with scribe.lock:
        other = threading.Thread(target=spool.write, args=("b\n",))
        other.start()
        spool.write("a\n")
    other.join(LONG_S)
    assert read(reading, 4) == b"a\nb\n"


def test_part_of_a_line_is_handed_over_when_flushed(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    scribe = Scribe("out")
    spool = Spool(stream, scribe)
    assert spool.write("a\u00e9") == 2
    scribe.settle(LONG_S)
    spool.write("b")
    spool.flush()
    spool.flush()
    assert read(reading, 4) == "a\u00e9b".encode()
    assert (spool.fileno(), spool.isatty(), spool.writable()) == (stream.fileno(), False, True)


@pytest.mark.parametrize(("count", "lost"), [(4, 0), (5, 1)])
@pytest.mark.parametrize(("max_lines", "max_octets"), [(4, 1 << 20), (100, len(WHOLE) + 1)])
def test_beyond_a_limit_the_oldest_lines_are_lost_and_that_is_said_once(
    pipe: tuple[int, TextIO],
    caplog: pytest.LogCaptureFixture,
    max_lines: int,
    max_octets: int,
    count: int,
    lost: int,
) -> None:
    scribe = Scribe("out", max_lines=max_lines, max_octets=max_octets)
    spool = stuck(pipe, scribe)
    lines = [str(index) * (len(WHOLE) // 4 - 1) + "\n" for index in range(count)]
    for line in lines:
        spool.write(line)
    kept = "".join(lines[lost:]).encode()
    assert read(pipe[0], len(WHOLE) + len(kept)) == f"{WHOLE[1:]}\n".encode() + kept
    scribe.settle(LONG_S)
    scribe.settle(LONG_S)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["lines of out that nobody read and are lost: 1"] * lost


def test_the_end_does_not_wait_for_a_reader_that_does_not_read(
    pipe: tuple[int, TextIO], caplog: pytest.LogCaptureFixture
) -> None:
    scribe = Scribe("out")
    spool = stuck(pipe, scribe)
    spool.write("a\nb\n")
    scribe.settle(0)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["lines of out that nobody read and are lost: 3"]
    # the thread goes on by itself: nothing is left behind
    read(pipe[0], len(WHOLE) + 4)
    scribe.settle(LONG_S)


@pytest.mark.parametrize("tells", [True, False])
def test_a_refused_line_is_told_until_one_is_taken(tells: bool) -> None:
    with open("/dev/full", "w", encoding="utf-8") as stream:
        scribe = Scribe("out")
        spool = Spool(stream, scribe, tells=tells)
        spool.write("a\n")
        scribe.settle(LONG_S)
        if tells:
            with pytest.raises(OSError, match="No space left"):
                spool.write("b\n")
        else:
            spool.write("b\n")
        scribe.settle(LONG_S)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        spool.flush()
        if tells:
            with pytest.raises(OSError, match="No space left"):
                spool.write("c\n")
        scribe.settle(LONG_S)
        spool.write("d\n" if tells else "c\n")
        scribe.settle(LONG_S)


def test_a_descriptor_that_somebody_made_non_blocking_is_waited_for(
    pipe: tuple[int, TextIO], caplog: pytest.LogCaptureFixture
) -> None:
    os.set_blocking(pipe[1].fileno(), False)
    scribe = Scribe("out")
    stuck(pipe, scribe)
    assert read(pipe[0], len(WHOLE)) == f"{WHOLE[1:]}\n".encode()
    scribe.settle(LONG_S)
    assert not caplog.records


def test_lines_are_counted_a_piece_is_one() -> None:
    assert [count_lines(text) for text in (b"a", b"a\n", b"a\nb\n")] == [1, 1, 2]


@pytest.mark.parametrize("where", [">out 2>&1", ">out 2>errors"])
def test_streams_of_one_file_keep_their_order_to_the_end_of_the_process(
    tmp_path: Path, where: str
) -> None:
    script = (
        "import sys; from powertcp.drivers.spool import spool_streams; print(0); spool_streams()\n"
        "for i in range(1, 1000): print(i, file=(sys.stdout, sys.stderr)[i % 2])"
    )
    command = ["bash", "-c", f'"$0" -c "$1" {where}', sys.executable, script]
    subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=True)
    words = (tmp_path / "out").read_text().split()
    found = [int(word) for word in words]
    if "errors" in where:
        found += [int(word) for word in (tmp_path / "errors").read_text().split()]
        assert found == [*range(0, 1000, 2), *range(1, 1000, 2)]
    else:
        assert found == list(range(1000))
