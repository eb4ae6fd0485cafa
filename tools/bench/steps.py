"""Task steps of a trio run: the longest, shared with the process that measures, or all of them."""

import collections
import mmap
import os
import statistics
import time

import trio

from tools.bench.harness import INSPECT_SWITCH


class Board:
    """A number that a forked process raises and its parent reads: the longest step, ns of CPU."""

    def __init__(self) -> None:
        """Share a page with children forked from here on."""
        self._cells = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

    @property
    def longest(self) -> int:
        """The greatest step since `clear`, ns."""
        return self._cells[0]

    def clear(self) -> None:
        """Begin anew."""
        self._cells[0] = 0

    def note(self, took: int) -> None:
        """Remember a step."""
        if took > self._cells[0]:
            self._cells[0] = took


class Longest(trio.abc.Instrument):
    """Notes the longest step on a board."""

    def __init__(self, board: Board) -> None:
        """Note on `board`."""
        self._board = board
        self._began = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task goes on."""
        self._began = time.thread_time_ns()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It waits again."""
        self._board.note(time.thread_time_ns() - self._began)


class Steps(trio.abc.Instrument):
    """Keeps the CPU time of every step by task name; `table` says what they were."""

    def __init__(self) -> None:
        """Nothing has run yet."""
        self._steps: dict[str, list[int]] = collections.defaultdict(list)
        self._began = 0
        self._wakes = 0
        self._since = time.monotonic()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task goes on."""
        self._began = time.thread_time_ns()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It waits again."""
        self._steps[task.name].append(time.thread_time_ns() - self._began)

    def after_io_wait(self, timeout: float) -> None:
        """The process was woken."""
        self._wakes += 1

    def table(self) -> str:
        """Steps p50, p99 and longest in us, wake-ups a second, then a line for each task name."""
        every = [took for some in self._steps.values() for took in some]
        if not every:
            return "no step"
        wakes = self._wakes / (time.monotonic() - self._since)
        lines = [f"{_line('all', every)}  {wakes:,.0f} wake-ups/s"]
        by_longest = sorted(self._steps.items(), key=lambda row: -max(row[1]))
        lines += [_line(name.rpartition(".")[2], some) for name, some in by_longest]
        return "\n".join(lines)


def _line(name: str, steps: list[int]) -> str:
    cuts = statistics.quantiles(steps, n=100) if len(steps) > 1 else steps * 99
    p50, p99, longest = (f"{value / 1000:,.0f}" for value in (cuts[49], cuts[98], max(steps)))
    return f"{name:<20} {len(steps):>8,} steps  p50 {p50} us  p99 {p99} us  longest {longest} us"


def watchers() -> list[trio.abc.Instrument]:
    """What `--steps` adds to a run of our side."""
    return [_ALL] if os.environ.get(INSPECT_SWITCH) == "steps" else []


def seen() -> str:
    """The table of this process, for `--steps`."""
    return _ALL.table()


_ALL = Steps()
