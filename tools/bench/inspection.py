"""Where time and memory go: profile, task steps, system calls, flame graph, RSS of our side."""

import cProfile
import io
import os
import pathlib
import pstats
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from tools.bench.harness import INSPECT_SWITCH, RESULTS, Bench, Options, Sample, measured
from tools.bench.steps import seen

PROFILE_S = 1.0
TOP = 25
TOP_LINES = 20
TICKS = "ticks-"
MEMORY_COUNT = 1000
EXIT_MISSING = 3

T = TypeVar("T")


def inspect_side(rows: list[Bench], options: Options, what: str) -> int:
    """Run our side of each row once while its processes note `what`: profile, steps or memory.

    They print it when they end. Of a profile read the counts, not the times. Exit status 0.
    """
    os.environ[INSPECT_SWITCH] = what
    for row in rows:
        print(f"== {row.name}")
        run_ours(row, options)
    return 0


def run_ours(row: Bench, options: Options) -> Sample:
    """One round of our side alone, after a line with its value."""
    sample = measured(row.make(options).ours, PROFILE_S)
    print(f"{row.name} {sample.value:,.0f} {row.unit} {dict(sample.extra)}")
    return sample


def profiled(work: Callable[[], T]) -> T:
    """Run `work`, the body of a measured process; print what was asked for when it ends."""
    match os.environ.get(INSPECT_SWITCH):
        case "profile":
            profile = cProfile.Profile()
            return _told(lambda: profile.runcall(work), lambda: _profile(profile))
        case "steps":
            return _told(work, seen)
        case "memory":
            tracemalloc.start()
            return _told(work, _allocated)
    return work()


def _told(work: Callable[[], T], tell: Callable[[], str]) -> T:
    """Run `work`; whatever ended it, write what `tell` says."""
    try:
        return work()
    finally:
        os.write(1, f"-- process {os.getpid()}\n{tell()}\n".encode())


def _profile(profile: cProfile.Profile) -> str:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(TOP)
    return text.getvalue()


def _allocated() -> str:
    """The lines that hold most."""
    found = tracemalloc.take_snapshot().statistics("lineno")[:TOP_LINES]
    return "\n".join(
        f"{row.size / 1024:>10,.0f} KiB in {row.count:>8,}  {row.traceback}" for row in found
    )


def memory_side(rows: list[Bench], options: Options) -> int:
    """RSS per connection from runs of n and 2n, then the lines that hold most. Exit status 0."""
    for row in rows:
        if TICKS not in row.name:
            print(f"{row.name}: nothing of it stays in memory, try {TICKS}1k")
            continue
        grown = [
            sample.extra["kib_per_connection"] * count
            for count in (MEMORY_COUNT, 2 * MEMORY_COUNT)
            for sample in [measured(row.make(replace(options, count=count)).ours, PROFILE_S)]
        ]
        each = (grown[1] - grown[0]) / MEMORY_COUNT
        print(f"{row.name}: {each:.2f} KiB for each connection above {MEMORY_COUNT:,}")
        os.environ[INSPECT_SWITCH] = "memory"
        run_ours(row, replace(options, count=MEMORY_COUNT))
    return 0


def sample_side(rows: list[Bench]) -> int:
    """A flame graph of our side by py-spy beside the results. 3 without py-spy."""
    sampler = shutil.which("py-spy")
    if sampler is None:
        print("missing: py-spy", file=sys.stderr)
        return EXIT_MISSING
    for row in rows:
        graph = RESULTS / f"{row.name}.svg"
        command = [sampler, "record", "--native", "--subprocesses", "-o", str(graph), "--"]
        command += [sys.executable, "-m", "tools.bench", "--ours", row.name]
        status = subprocess.run(command, check=False).returncode
        if status:
            return status
    return 0


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
