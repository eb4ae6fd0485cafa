"""A vector with one changed octet, and a set below its floor, fail the test of the vectors."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FAILED = re.compile(
    r"^FAILED tests/property/test_vectors\.py::(\w+)(?:\[([^\]]+)\])?", re.MULTILINE
)
PAIR = re.compile(r"[0-9a-f]{2}(?![\s\S]*[0-9a-f]{2})")
# their last octet is one that a receiver passes over
PASSED_OVER = {"options-nops", "type-80-skipped", "type-ff-skipped"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a tree of the vectors and what tests them."""
    for name in ("tests/conftest.py", "tests/wire_values.py", "tests/property/test_vectors.py",
                 "tests/meta/skips.txt", "rfc/requirements.toml"):  # fmt: skip
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "rfc" / "vectors", tmp_path / "rfc" / "vectors")
    return tmp_path


def failures(tree: Path) -> list[tuple[str, str]]:
    """Run the test of the vectors; return (test, vector) of each failure."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=no", "tests"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
    )
    return FAILED.findall(done.stdout)


def test_every_changed_octet_and_a_missing_vector_are_found(tree: Path) -> None:
    folder = tree / "rfc" / "vectors" / "protocol"
    good = sorted(folder.glob("*.hex"))
    bad = sorted((folder / "bad").glob("*.hex"))
    bad[0].write_text(good[0].read_text())
    for path in bad[59:]:
        path.unlink()
        path.with_suffix(".json").unlink()
    for path in good:
        text = path.read_text()
        last = PAIR.search(text)
        assert last is not None
        path.write_text(text[: last.start()] + f"{int(last[0], 16) ^ 1:02x}" + text[last.end() :])
    found = failures(tree)
    assert ("test_there_are_vectors_enough", "") in found
    assert ("test_bad_vector", bad[0].stem) in found
    changed = {name for test, name in found if test == "test_good_vector"}
    assert {path.stem for path in good} - changed == PASSED_OVER
