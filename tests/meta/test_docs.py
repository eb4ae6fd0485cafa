"""Manual pages and completions say what the parsers say; a stale one is found."""

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from powertcp.cli import main as cli
from tools import docs

SHARE = docs.SHARE
PAGES = sorted((SHARE / "man" / "man1").glob("*.1"))
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "FILES", "EXAMPLES"]
Say = pytest.CaptureFixture[str]


@pytest.fixture
def share(tmp_path: Path, capsys: Say) -> Path:
    """A fresh set to plant faults in."""
    assert docs.main(["--folder", str(tmp_path)]) == 0
    capsys.readouterr()
    return tmp_path


def check(folder: Path) -> int:
    return docs.main(["--check", "--folder", str(folder)])


def test_pages_and_completions_are_fresh(capsys: Say) -> None:
    assert check(SHARE) == 0, capsys.readouterr().out


def test_there_is_a_page_for_each_command() -> None:
    named = {path.stem for path in PAGES}
    assert named == {"powertcp", *(f"powertcp-{name}" for name in (*cli.COMMANDS, *docs.ACTIONS))}


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_a_page_has_every_section(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for title in [*SECTIONS, "SEE ALSO"]:
        body = text.partition(f"\n.SH {title}\n")[2].partition("\n.SH ")[0]
        assert body.strip(), title
    assert ".I draft" in text


@pytest.mark.interop
@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_a_page_renders_without_a_warning(path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is missing: apt install groff-base")
    command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_changed_a_lost_and_a_foreign_file_are_stale(share: Path, capsys: Say) -> None:
    changed = share / "man/man1/powertcp-provider.1"
    changed.write_text(changed.read_text().replace("rating", "Rating", 1))
    (share / docs.COMPLETIONS["zsh"]).unlink()
    (share / "man/man1/powertcp-toaster.1").write_text(".TH TOASTER 1\n")
    assert check(share) == 1
    stale = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert stale == [
        "man/man1/powertcp-provider.1",
        "man/man1/powertcp-toaster.1",
        docs.COMPLETIONS["zsh"],
    ]
    assert docs.main(["--folder", str(share)]) == 0
    assert check(share) == 0


def test_a_changed_parser_makes_page_and_completions_stale(
    share: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    def planted(words: list[str]) -> int:
        parser = argparse.ArgumentParser(prog="powertcp status", epilog="example: powertcp status")
        parser.add_argument("--toast", help="make toast")
        parser.parse_args(words)
        return 0

    find = cli.find
    monkeypatch.setattr(cli, "find", lambda name: planted if name == "status" else find(name))
    assert check(share) == 1
    said = capsys.readouterr().out
    assert "powertcp-provider.1" not in said
    for name in ("man/man1/powertcp-status.1", *docs.COMPLETIONS.values()):
        assert f"{name}: stale" in said


def test_a_help_without_example_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    def planted(words: list[str]) -> int:
        argparse.ArgumentParser(prog="powertcp x").parse_args(words)
        return 0

    monkeypatch.setattr(cli, "find", lambda name: planted)
    assert check(SHARE) == 1
    assert "the help of powertcp x lacks an example" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cons", "consumer"),
        ("provider --supp", "--supply"),
        ("consumer --on-shed c", "cap"),
        ("vppn gat", "gateway"),
        ("vppn gateway --upstream-", "--upstream-peer"),
        ("vppn gateway --privacy pol", "police"),
        ("vppn revoke --k", "--krl"),
    ],
)
def test_bash_completes(words: str, offered: str) -> None:
    line = ["powertcp", *words.split()]
    script = (
        f"source {SHARE / docs.COMPLETIONS['bash']}; COMP_WORDS=({' '.join(line)});"
        f" COMP_CWORD={len(line) - 1}; $(complete -p powertcp | sed 's/.*-F //; s/ .*//');"
        ' echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [offered], done.stderr
