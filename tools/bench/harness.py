"""Paired rounds, CPU clocks and statistics: what every bench of this folder is run by.

A bench is a function under `@bench(..)` that returns a `Pair` of sides. A side is a function of
the seconds it may take; each round runs it in a process forked for that round, and it returns a
`Sample`. A side raises WrongResultError if what it computed is not right, MissingError if a peer, a tool or
a limit of this machine is not there.
"""

import contextlib
import gc
import json
import os
import pathlib
import resource
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

WARM_UP_S = 0.1
NOISY = 0.25
GO_FIRST = -15
RESULTS = pathlib.Path(__file__).parent / "results"
# profile, steps or memory: what `inspection` has the measured processes print
INSPECT_SWITCH = "POWERTCP_BENCH_INSPECT"


class WrongResultError(Exception):
    """A side computed something else than it must: no ratio is worth printing."""


class MissingError(Exception):
    """A peer, a tool or a limit of this machine is missing; the text names it and the need."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one side measured in one round."""

    value: float
    """In the unit of the bench."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further figures of this side."""


Side = Callable[[float], Sample]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sides of a bench and the bounds that hold beside the ratio."""

    ours: Side
    peer: Side
    bounds: Callable[[Mapping[str, float]], bool] | None = None
    """Given the medians of our extra figures: do the other bounds of the row hold?"""
    figures: Callable[[], Mapping[str, float]] | None = None
    """Further figures, computed once per run and printed in `extra` (accuracy and the like)."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One row of the table: what is measured, against whom, and what is asked of it."""

    name: str
    unit: str
    peer: str
    must: float | None
    stretch: float | None
    seconds: float
    lower: bool
    """True if a smaller value is better: then the ratio is peer / ours."""
    make: Callable[["Options"], Pair]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How this run was asked for; a bench reads it to scale itself."""

    smoke: bool = False
    rounds: int = 7
    rate: int = 1
    """Ticks a second of each connection."""
    count: int | None = None
    """Connections, where a bench has them: instead of its own number."""
    against: str | None = None


BENCHES: dict[str, Bench] = {}


def bench(
    name: str,
    *,
    unit: str,
    peer: str,
    must: float | None = None,
    stretch: float | None = None,
    seconds: float = 0.7,
    lower: bool = False,
) -> Callable[[Callable[[Options], Pair]], Callable[[Options], Pair]]:
    """Register the decorated function, called with Options, as the bench `name`.

    seconds: how long one side of one round measures. must, stretch: None = informative.
    """

    def register(make: Callable[[Options], Pair]) -> Callable[[Options], Pair]:
        BENCHES[name] = Bench(name, unit, peer, must, stretch, seconds, lower, make)
        return make

    return register


def loop(step: Callable[[], int], *, check: Callable[[], None] | None = None) -> Side:
    """A side that calls `step` in one thread; the value is units per CPU second.

    step: does some work and returns the number of units done, at most some 50 ms of it.
    check: called once before the clock starts; raises WrongResultError.
    """

    def run(seconds: float) -> Sample:
        if check is not None:
            check()
        warm = time.monotonic() + min(WARM_UP_S, seconds)
        while time.monotonic() < warm:
            step()
        done = 0
        wall = time.monotonic()
        end = wall + seconds
        cpu = time.thread_time_ns()
        while time.monotonic() < end:
            done += step()
        spent = time.thread_time_ns() - cpu
        wall = time.monotonic() - wall
        return Sample(done * 1e9 / spent, {"wall": done / wall})

    return run


def cpu_ns() -> int:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return round((usage.ru_utime + usage.ru_stime) * 1e9)


def pin(cpu: int) -> None:
    """Keep this process on one CPU of those it may use, counted modulo their number."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[cpu % len(allowed)]})


def go_first() -> None:
    """Put this process before the other work of a shared machine, where that is permitted.

    CPU time is what is compared; but a deadline missed by a process that was not let run says
    nothing about it. Children inherit it: both sides, their loads and their peers alike. The
    kernel weighs sessions before processes, so it is a session of its own that goes first.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, GO_FIRST)
        os.setsid()
        pathlib.Path("/proc/self/autogroup").write_text(str(GO_FIRST))


def raise_open_files(need: int) -> None:
    """Raise the soft limit of open files to the hard one; MissingError if that is below `need`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need:
        raise MissingError(f"open files: the hard limit is {hard}, {need} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Child:
    """A forked process that runs one function and sends its JSON answer back by a pipe."""

    def __init__(self, work: Callable[[], Any], cpu: int | None = None) -> None:
        """Fork; the child runs `work` on the CPU numbered `cpu` and ends."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._fd, out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._fd)
            _in_child(work, out, cpu)
        os.close(out)

    def result(self) -> Any:  # noqa: ANN401  whatever JSON carries
        """Wait for the end; the answer, or WrongResultError, MissingError or RuntimeError as it ended."""
        with os.fdopen(self._fd, "rb") as pipe:
            text = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        if not text:
            raise RuntimeError(f"a process of the bench ended with status {status}, no answer")
        kind, answer = json.loads(text)
        if kind == "wrong":
            raise WrongResultError(answer)
        if kind == "missing":
            raise MissingError(answer)
        if kind == "error":
            raise RuntimeError(answer)
        return answer

    def end(self) -> None:
        """End the process, which gives no answer; its traceback is shown if it ended before."""
        try:
            with os.fdopen(self._fd, "rb") as pipe:
                # an inspected server lives on until it has printed
                inspected = INSPECT_SWITCH in os.environ
                os.kill(self.pid, signal.SIGINT if inspected else signal.SIGKILL)
                text = pipe.read()
        finally:
            os.waitpid(self.pid, 0)
        if text and not inspected:
            raise RuntimeError(f"the server ended: {json.loads(text)[1]}")


def _in_child(work: Callable[[], Any], out: int, cpu: int | None) -> None:
    """Run `work`, write its answer, end the process without the parent's clean-up."""
    try:
        if cpu is not None:
            pin(cpu)
        gc.collect()
        answer: tuple[str, Any] = ("ok", work())
    except WrongResultError as wrong:
        answer = ("wrong", str(wrong))
    except (MissingError, ModuleNotFoundError) as missing:
        answer = ("missing", str(missing))
    except BaseException:  # noqa: BLE001  the parent reports whatever ended the child
        answer = ("error", traceback.format_exc())
    try:
        text = json.dumps(answer).encode()
        while text:
            text = text[os.write(out, text) :]
    finally:
        os._exit(0)


def measured(side: Side, seconds: float, prepare: Callable[[], None] | None = None) -> Sample:
    """One side of one round, in a process of its own."""

    def work() -> dict[str, Any]:
        go_first()
        if prepare is not None:
            prepare()
        sample = side(seconds)
        return {"value": sample.value, "extra": dict(sample.extra)}

    answer = Child(work).result()
    return Sample(answer["value"], answer["extra"])


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the output."""

    bench: Bench
    value: float | None = None
    peer_value: float | None = None
    ratio: float | None = None
    ok: bool | None = None
    rounds: int = 0
    spread: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    missing: str | None = None
    noisy: bool = False

    def as_json(self, machine: str) -> str:
        """The one line of `--json`."""
        row: dict[str, Any] = {
            "name": self.bench.name,
            "value": _short(self.value),
            "unit": self.bench.unit,
            "peer": self.bench.peer,
            "peer_value": _short(self.peer_value),
            "ratio": _short(self.ratio),
            "must": self.bench.must,
            "stretch": self.bench.stretch,
            "ok": self.ok,
            "rounds": self.rounds,
            "spread": _short(self.spread),
            "extra": {key: _short(value) for key, value in self.extra.items()},
            "machine": machine,
        }
        if self.missing is not None:
            row["missing"] = self.missing
        if self.noisy:
            row["noisy"] = True
        return json.dumps(row)


def _short(value: float | None) -> float | None:
    """Four significant digits; whole numbers from 1000 on."""
    if value is None:
        return None
    if abs(value) >= 1000:
        return round(value)
    return float(f"{value:.4g}")


def run_bench(row: Bench, options: Options, peer_tree: Callable[[], None] | None = None) -> Result:
    """Run all rounds of one bench; raises WrongResultError, never a wrong ratio.

    peer_tree: with `--against`, called in the child before it makes our side once more.
    """
    try:
        pair = row.make(options)
        if peer_tree is not None:
            pair = Pair(pair.ours, _other_tree(row.name, options, peer_tree), pair.bounds)
        result = _rounds(row, pair, options)
        if result.spread is not None and result.spread > NOISY and not options.smoke:
            again = replace(options, rounds=2 * options.rounds + 1)
            result = _rounds(row, pair, again)
    except (MissingError, ModuleNotFoundError) as missing:
        return Result(row, missing=str(missing))
    return result


def _other_tree(name: str, options: Options, peer_tree: Callable[[], None]) -> Side:
    """Our side as another checkout has it, for `--against`."""

    def run(seconds: float) -> Sample:
        peer_tree()
        return BENCHES[name].make(options).ours(seconds)

    return run


def _rounds(row: Bench, pair: Pair, options: Options) -> Result:
    """Alternating rounds, and the medians of what they gave."""
    count = 1 if options.smoke else options.rounds
    seconds = row.seconds
    if options.smoke:
        # what runs for seconds needs one of them to show anything
        seconds = 1.0 if seconds > 1.0 else min(seconds, 0.2)
    ours: list[Sample] = []
    theirs: list[Sample] = []
    for number in range(count):
        if number % 2:
            theirs.append(measured(pair.peer, seconds))
            ours.append(measured(pair.ours, seconds))
        else:
            ours.append(measured(pair.ours, seconds))
            theirs.append(measured(pair.peer, seconds))
    ratios = [_ratio(row, a.value, b.value) for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    spread = _spread(ratios)
    extra = _extras(row, ours, theirs)
    held = pair.bounds is None or pair.bounds(extra)
    if pair.figures is not None:
        extra.update(pair.figures())
    ok = None
    if not options.smoke and options.against is None and (row.must is not None or pair.bounds):
        ok = held and (row.must is None or ratio >= row.must)
    return Result(
        row,
        statistics.median(sample.value for sample in ours),
        statistics.median(sample.value for sample in theirs),
        ratio,
        ok,
        count,
        spread,
        extra,
        noisy=spread > NOISY and not options.smoke,
    )


def _ratio(row: Bench, ours: float, theirs: float) -> float:
    """Above 1 is better for us, always."""
    return theirs / ours if row.lower else ours / theirs


def _spread(ratios: list[float]) -> float:
    """Interquartile range over median; 0 for fewer than three rounds."""
    if len(ratios) < 3:
        return 0.0
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return (high - low) / middle


def _extras(row: Bench, ours: list[Sample], theirs: list[Sample]) -> dict[str, float]:
    """Medians of the extra figures: ours by name, the peer's as peer_NAME, walls as a ratio."""
    extra: dict[str, float] = {}
    for prefix, samples in (("", ours), ("peer_", theirs)):
        for key in samples[0].extra:
            extra[prefix + key] = statistics.median(one.extra.get(key, 0.0) for one in samples)
    if "wall" in extra and "peer_wall" in extra:
        extra["wall_ratio"] = _ratio(row, extra.pop("wall"), extra.pop("peer_wall"))
    return extra
