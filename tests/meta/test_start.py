"""The command starts light: no library is imported before a command needs it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from powertcp.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = {"trio", "cryptography", "numpy", "construct", "zeroconf", "msgspec", "asyncio", "sqlite3"}
LINE = re.compile(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", re.MULTILINE)


def imported(*words: str) -> set[str]:
    """Return the top packages that the interpreter says it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "powertcp", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return {name.partition(".")[0] for name in LINE.findall(done.stderr)}


@pytest.mark.parametrize("words", [["--version"], ["--help"], [], ["provder"]])
def test_powertcp_itself_imports_no_library(words: list[str]) -> None:
    found = imported(*words)
    assert {"powertcp", "os", "site"} <= found, "proves nothing when nothing was read"
    assert not found & HEAVY


# what a command does only once it has parsed its words
@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize("word", ["--help", "--version", "--colour"])
def test_help_and_version_of_a_command_import_no_library(name: str, word: str) -> None:
    found = imported(name, word)
    assert {"powertcp", "os", "site"} <= found
    assert ("argparse" in found) is (word != "--version")
    assert not found & HEAVY


def test_a_library_would_be_seen() -> None:
    assert "trio" in imported("demo", "--terminal", "--for", "x")
