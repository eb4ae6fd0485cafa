"""Fail when a test file is not collected, or holds no test: a file that nobody runs proves nothing."""

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUICK = ("--collect-only", "-q", "--no-header", "--assert=plain", "-p", "no:cacheprovider")


def collected(root: Path) -> Counter[str]:
    """Return how many tests pytest finds in each file under `root`/tests."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *QUICK, "tests"],
        cwd=root,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 5):
        raise RuntimeError(done.stdout + done.stderr)
    return Counter(line.split("::")[0] for line in done.stdout.splitlines() if "::" in line)


def faults(root: Path) -> list[str]:
    """Return one sentence for each test file without a collected test."""
    try:
        counts = collected(root)
    except RuntimeError as error:
        return [f"collection fails: {error}"]
    names = [str(path.relative_to(root)) for path in sorted((root / "tests").rglob("test_*.py"))]
    missing = [f"{name}: no test is collected" for name in names if not counts[name]]
    return missing if names else ["tests: no test file at all"]


def main(arguments: list[str] | None = None) -> int:
    """Print the faults; 1 when there are any."""
    parser = argparse.ArgumentParser(prog="tools/check_collected.py", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to check")
    found = faults(parser.parse_args(arguments).root)
    print("\n".join(found) or "collected: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
