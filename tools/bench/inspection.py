"""Where the time goes: cProfile counts and system calls of our side of a bench."""

import cProfile
import io
import os
import pathlib
import pstats
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import TypeVar

from tools.bench.harness import PROFILE_SWITCH, Bench, Options, measured

PROFILE_S = 1.0
TOP = 25
EXIT_MISSING = 3

T = TypeVar("T")


def profile_side(rows: list[Bench]) -> int:
    """Print the top functions of our side; read the counts, not the times. Exit status 0."""
    os.environ[PROFILE_SWITCH] = "1"
    for row in rows:
        print(f"== {row.name}")
        run_ours(row)
    return 0


def run_ours(row: Bench) -> None:
    """One round of our side alone, after a line with its value."""
    sample = measured(row.make(Options()).ours, PROFILE_S)
    print(f"{row.name} {sample.value:,.0f} {row.unit} {dict(sample.extra)}")


def profiled(work: Callable[[], T]) -> T:
    """Run `work`, the body of a measured process; print its profile if that was asked for."""
    if PROFILE_SWITCH not in os.environ:
        return work()
    profile = cProfile.Profile()
    try:
        return profile.runcall(work)
    finally:
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(TOP)
        os.write(1, f"-- process {os.getpid()}\n{text.getvalue()}".encode())


def count_calls(rows: list[Bench]) -> int:
    """System calls of one round of our side, all its processes together. 3 without strace."""
    strace = shutil.which("strace")
    if strace is None:
        print("missing: strace", file=sys.stderr)
        return EXIT_MISSING
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            table = pathlib.Path(folder, "calls")
            command = [strace, "-f", "-c", "-o", str(table), sys.executable]
            command += ["-m", "tools.bench", "--ours", row.name]
            status = subprocess.run(command, check=False).returncode
            if status:
                return status
            print("\n".join(table.read_text().splitlines()[:TOP]))
    return 0
