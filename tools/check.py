"""The checks of this project, one line each; the first failure stops: `tools/go.py check [NAME..]`.

Without names the checks that are not tests run; tests are the rows `meta`, `unit` and `drivers`.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
# besides 113 and 114: "a checkpoint on every path", which is against one wake-up, one batch
OPTIONAL_RULES = "ASYNC113,ASYNC114,ASYNC910,ASYNC911,ASYNC912,ASYNC913"
ASYNC_ROOMS = ("loads", "drivers", "conformance", "web")


@dataclass(frozen=True, slots=True)
class Check:
    """One row: its commands run in order, the first that fails fails the check."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    is_test: bool = False


def _flake8_async() -> tuple[str, ...]:
    rooms = [ROOT / "powertcp" / room for room in ASYNC_ROOMS]
    files = [str(path.relative_to(ROOT)) for room in rooms for path in sorted(room.rglob("*.py"))]
    return (PYTHON, "-m", "flake8_async", "--disable", OPTIONAL_RULES, *files)


def checks() -> list[Check]:
    """List every check in the order in which they run."""
    lint_imports = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    pytest = (PYTHON, "-m", "pytest", "-q")
    unit = ("-m", "pytest", "-q", "tests/unit", "tests/property", "-p", "no:trio")
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
        Check("async", (_flake8_async(),)),
        Check(
            "cites",
            ((PYTHON, "-m", "tools.check_citations"), (PYTHON, "-m", "tools.rfc", "check")),
        ),
        Check("docs", ((PYTHON, "-m", "tools.docs", "--check"),)),
        Check("meta", ((*pytest, "tests/meta"),), is_test=True),
        Check("unit", ((PYTHON, "-m", "coverage", "run", *unit),), is_test=True),
        Check("drivers", ((*pytest, "tests/drivers"),), is_test=True),
        Check("bench", ((PYTHON, "-m", "tools.bench", "--smoke"),)),
        Check("dist", ((PYTHON, "-m", "tools.check_dist"),)),
    ]


def run(check: Check) -> bool:
    """Run one check and print its line; what a failed command said follows it."""
    started = time.monotonic()
    environment = os.environ | {"PYTHONPATH": _path()}
    for command in check.commands:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            break
    verdict = "ok" if done.returncode == 0 else f"FAILED, exit {done.returncode}"
    print(f"{check.name:<8} {time.monotonic() - started:6.1f} s  {verdict}", flush=True)
    if done.returncode:
        shown = " ".join(word for word in command if word != PYTHON)
        print(f"{done.stdout.rstrip()}\n{check.name}: {shown}", flush=True)
    return done.returncode == 0


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
    return 0 if all(run(check) for check in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
