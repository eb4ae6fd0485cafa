"""The checks of this project, one line each; the first failure stops: `tools/go.py check [NAME..]`.

Without names the checks that are not tests run; tests are the rows `meta`, `unit` and `drivers`.
The fast ones, lint to meta, share the processors; the others have the machine for themselves.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
# besides 113 and 114: "a checkpoint on every path", which is against one wake-up, one batch
OPTIONAL_RULES = "ASYNC113,ASYNC114,ASYNC910,ASYNC911,ASYNC912,ASYNC913"
WORKERS = os.cpu_count() or 1
ASYNC_ROOMS = ("loads", "drivers", "conformance", "web")


@dataclass(frozen=True, slots=True)
class Check:
    """One row: its commands need nothing of each other, any that fails fails the check."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    is_test: bool = False
    is_fast: bool = True


class Said(NamedTuple):
    """How a command ended and all that it printed."""

    command: tuple[str, ...]
    status: int
    output: str
    started: float
    ended: float


def _dealt(start: tuple[str, ...], files: list[str]) -> tuple[tuple[str, ...], ...]:
    """Deal the files to as many processes as run at once."""
    return tuple((*start, *files[first::WORKERS]) for first in range(min(WORKERS, len(files))))


def _flake8_async() -> tuple[tuple[str, ...], ...]:
    rooms = [ROOT / "powertcp" / room for room in ASYNC_ROOMS]
    files = [str(path.relative_to(ROOT)) for room in rooms for path in sorted(room.rglob("*.py"))]
    start = (PYTHON, "-m", "flake8_async", "--disable", OPTIONAL_RULES)
    return _dealt(start, files)


def _meta() -> tuple[tuple[str, ...], ...]:
    """Large files of tests take long: they are dealt first."""
    found = sorted((ROOT / "tests" / "meta").glob("test_*.py"), key=lambda p: -p.stat().st_size)
    return _dealt((PYTHON, "-m", "pytest", "-q"), [str(path.relative_to(ROOT)) for path in found])


def checks() -> list[Check]:
    """List every check in the order in which they run."""
    lint_imports = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    pytest = (PYTHON, "-m", "pytest", "-q")
    unit = ("-m", "pytest", "-q", "tests/unit", "tests/property", "tests/vectors", "-p", "no:trio")
    return [
        Check(
            "lint",
            (
                (PYTHON, "-m", "ruff", "check", "--quiet"),
                (PYTHON, "-m", "ruff", "format", "--check", "--quiet"),
            ),
        ),
        Check("layers", ((PYTHON, "-c", lint_imports, "--no-cache"),)),
        Check("types", ((PYTHON, "-m", "mypy", "--strict", "powertcp", "tests"),)),
        Check("async", _flake8_async()),
        Check(
            "cites",
            ((PYTHON, "-m", "tools.check_citations"), (PYTHON, "-m", "tools.rfc", "check")),
        ),
        Check("docs", ((PYTHON, "-m", "tools.docs", "--check"),)),
        Check("meta", _meta(), is_test=True),
        Check("unit", ((PYTHON, "-m", "coverage", "run", *unit),), is_test=True, is_fast=False),
        Check("drivers", ((*pytest, "tests/drivers"),), is_test=True, is_fast=False),
        Check("bench", ((PYTHON, "-m", "tools.bench", "--smoke"),), is_fast=False),
        Check("dist", ((PYTHON, "-m", "tools.check_dist"),), is_fast=False),
    ]


class Runner:
    """Runs commands, several at once; ends those still running when one check failed."""

    def __init__(self) -> None:
        self._environment = os.environ | {"PYTHONPATH": _path()}
        self._running: set[subprocess.Popen[str]] = set()
        self._is_over = False

    def _execute(self, command: tuple[str, ...]) -> Said:
        started = time.monotonic()
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.add(child)
        if self._is_over:
            child.terminate()
        output = child.communicate()[0]
        self._running.discard(child)
        return Said(command, child.returncode, output, started, time.monotonic())

    def run(self, checks: Iterable[Check], workers: int) -> bool:
        """Run the checks, print their lines in order; return False at the first that failed."""
        with ThreadPoolExecutor(workers) as pool:
            jobs = [
                (check, [pool.submit(self._execute, c) for c in check.commands]) for check in checks
            ]
            for check, futures in jobs:
                if not report(check, [future.result() for future in futures]):
                    self._is_over = True
                    pool.shutdown(wait=False, cancel_futures=True)
                    for child in list(self._running):
                        child.terminate()
                    return False
        return True


def report(check: Check, said: list[Said]) -> bool:
    """Print the line of a check; what a failed command said follows it."""
    failed = next((one for one in said if one.status), None)
    seconds = max(one.ended for one in said) - min(one.started for one in said)
    verdict = "ok" if failed is None else f"FAILED, exit {failed.status}"
    print(f"{check.name:<8} {seconds:6.1f} s  {verdict}", flush=True)
    if failed:
        shown = " ".join(word for word in failed.command if word != PYTHON)
        print(f"{failed.output.rstrip()}\n{check.name}: {shown}", flush=True)
    return failed is None


def _path() -> str:
    """Put the checkout first, once, before whatever holds the dependencies."""
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return os.pathsep.join([str(ROOT), *(entry for entry in rest if entry != str(ROOT))])


def main(arguments: list[str] | None = None) -> int:
    """Run the named checks, or all that are not tests; 0 all ok, 1 one failed, 2 unknown name."""
    table = {check.name: check for check in checks()}
    parser = argparse.ArgumentParser(
        prog="tools/go.py check",
        description="Run checks; the first failure stops.",
        epilog=f"names: {', '.join(table)}",
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args(arguments).names
    unknown = [name for name in names if name not in table]
    if unknown:
        print(f"no check {', '.join(unknown)}; there are {', '.join(table)}", file=sys.stderr)
        return 2
    chosen = [table[name] for name in names] or [c for c in table.values() if not c.is_test]
    runner = Runner()
    for is_fast, group in itertools.groupby(chosen, key=lambda check: check.is_fast):
        if not runner.run(group, WORKERS if is_fast else 1):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
