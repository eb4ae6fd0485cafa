"""Removes each security check of the VPPN in turn and runs the tests that are to notice.

`python -m tools.mutate_vppn [WORD..]`: in a copy of the tree; only mutants with WORD in their name
or file. Exit 1 when one survives, or when the text of a check is no longer found once.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.vppn_mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_LIMIT_S = 300


def wrong_text(mutant: Mutant) -> str:
    """Return what is wrong with the text of a mutant, nothing if it can be applied."""
    path = ROOT / "powertcp" / mutant.file
    source = path.read_text(encoding="utf-8") if path.exists() else ""
    count = source.count(mutant.before)
    if count != 1:
        return f"{mutant.file}: found {count} times: {mutant.before!r}"
    try:
        compile(source.replace(mutant.before, mutant.after), str(path), "exec")
    except SyntaxError as error:
        return f"{mutant.file}: {mutant.name}: {error}"
    return ""


def copy_tree(folder: Path) -> None:
    """Copy what the tests need."""
    skipped = shutil.ignore_patterns("__pycache__", "vectors", "drivers", "meta", "data", "mibs")
    for name in ("powertcp", "tests"):
        ignored = skipped if name == "tests" else shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "rfc/requirements.toml", "tests/meta/skips.txt"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, folder / name)


def killer(mutant: Mutant, folder: Path) -> str:
    """Return the test that notices that a check is gone, nothing if none does."""
    path = folder / "powertcp" / mutant.file
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace(mutant.before, mutant.after), encoding="utf-8")
    try:
        return _run(mutant, folder)
    finally:
        path.write_text(source, encoding="utf-8")


def _run(mutant: Mutant, folder: Path) -> str:
    options = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:trio", "--no-header")
    command = (sys.executable, "-B", "-m", "pytest", *options, *mutant.tests)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path[1:]])}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"no end within {_LIMIT_S} s"
    found = _FAILED.search(done.stdout)
    if found:
        return found[1]
    return "" if done.returncode == 0 else f"pytest: exit {done.returncode}"


def main(words: list[str]) -> int:
    """Run the mutants; return 0 when each is killed."""
    chosen = [
        one for one in MUTANTS if not words or any(w in f"{one.file} {one.name}" for w in words)
    ]
    wrong = [text for mutant in chosen if (text := wrong_text(mutant))]
    if wrong:
        print("\n".join(wrong))
        return 1
    survived = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_tree(folder)
        for mutant in chosen:
            test = killer(mutant, folder)
            survived += not test
            print(
                f"{mutant.file}: {mutant.name}: {f'killed by {test}' if test else 'SURVIVED'}",
                flush=True,
            )
    print(f"{len(chosen)} mutants, {len(chosen) - survived} killed, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
