"""Below the loads no event loop is needed: the unit tests know none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.check_dist import without

ROOT = Path(__file__).resolve().parent.parent.parent


def blind(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python where trio is not there."""
    path = [without("trio", folder), str(ROOT), *filter(None, sys.path)]
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        # trio registers itself with Hypothesis
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "HYPOTHESIS_NO_PLUGINS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_where_it_is_not_there_it_cannot_be_imported(tmp_path: Path) -> None:
    done = blind(tmp_path, "-c", "import powertcp.drivers.wheel")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
    assert "trio" in done.stderr


@pytest.mark.parametrize(
    ("words", "least"),
    [
        # every file is imported; `dist` runs them all the same way
        (["tests/unit", "--collect-only"], 1500),
        # commands are imported when they are asked for: these have to be run
        (["tests/unit/cli", "tests/unit/linux"], 60),
    ],
)
def test_the_unit_tests_do_without_it(tmp_path: Path, words: list[str], least: int) -> None:
    done = blind(tmp_path, "-m", "pytest", "-q", "-x", "-p", "no:trio", *words)
    assert done.returncode == 0, done.stdout
    count = next(
        int(word)
        for word, what in zip(done.stdout.split(), done.stdout.split()[1:], strict=False)
        if word.isdecimal() and what in ("passed", "tests")
    )
    assert count >= least
