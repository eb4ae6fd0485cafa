"""What README shows is what the commands print; its daemons are under test with the drivers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(
    r"^```\n\$ powertcp ((?:decode|explain [A-Z0-9]|mplamps topology (?:check|show|paths)).*)\n"
    r"((?s:.*?))```$",
    re.MULTILINE,
)
EXAMPLES = EXAMPLE.findall(README)
COMMANDS = (
    "provider", "consumer", "discover", "status", "ledger", "vppn", "mplamps", "decode", "explain",
)  # fmt: skip


def test_readme_has_a_section_and_a_line_to_paste_per_command() -> None:
    assert len(EXAMPLES) >= 4
    for name in COMMANDS:
        assert f"\n## {name}\n" in README
        assert f"\n$ powertcp {name}" in README


@pytest.mark.parametrize(("words", "shown"), EXAMPLES, ids=[words for words, _ in EXAMPLES])
def test_an_example_prints_what_is_shown(words: str, shown: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "powertcp", *words.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, shown)
