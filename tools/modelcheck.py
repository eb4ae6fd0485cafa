"""Explicit-state model checker of the two state tables, driving the real classes.

Two `PowerConnection`s, one flow, a lossless ordered channel each way that may be cut at any time.
Owners, timers and the cut choose freely; time stands still and deadlines are fired at will, so a
state is what the ends know and what is under way. Protocol section 9.

    python -m tools.modelcheck --json
    python -m tools.modelcheck --plant clear-outstanding     a fault it must find
"""

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import Ask, FlowClosed, Offer
from powertcp.potcp.flow import Flow
from powertcp.potcp.source import SourceFlow
from powertcp.potcp.states import Cause, Sink, Source
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, Refusal
from powertcp.wire.frames import HEADER, Splitter, decode_segment
from powertcp.wire.segments import Control

FLOW = 1
SINK, SOURCE = 0, 1
FULL = PowerProfile.parse("12V/2A,lease=60s", ProfileType.GRANT)
PART = PowerProfile.parse("12V/1A,lease=60s", ProfileType.GRANT)
FLOOR = PowerProfile.parse("12V/0.5A,lease=60s", ProfileType.FALLBACK)
ASK = Ask(FULL.with_type(ProfileType.REQUEST), PART.with_type(ProfileType.MINIMUM))
LESS = Ask(PART.with_type(ProfileType.REQUEST))
WHY = Refusal(Reason.BUDGET, 1, 1)
# reasons that only a broken rule can cause between two honest ends
FAULTS = frozenset({106, 108, 400, 401, 405, 500, 501, 502, 503, 504, 505, 506, 508, 511})
# counters and instants that never decide anything while time stands still
_IGNORED = frozenset({"link", "protector", "register", "syn", "transcript", "request", "key"})


class State(NamedTuple):
    """Both ends, what is under way each way (whole segments), closings seen at the source."""

    ends: tuple[PowerConnection, PowerConnection]
    channels: tuple[tuple[bytes, ...], tuple[bytes, ...]]
    opened: bool
    closed: int


Step = Callable[[tuple[PowerConnection, PowerConnection]], None]


def _zeros(count: int) -> bytes:
    return bytes(count)


def first_state() -> State:
    """Return two connected ends before the first SYN."""
    config = ConnectionConfig(churn_per_s=1_000_000)
    sink = PowerConnection(client=True, config=config, entropy=_zeros)
    source = PowerConnection(client=False, config=config, entropy=_zeros)
    source.start(0)
    return State((sink, source), ((), ()), opened=False, closed=0)


def _copy(end: PowerConnection) -> PowerConnection:
    """Return an end with its flows copied; what no step changes is shared."""
    twin = object.__new__(type(end))
    for kind in type(end).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(end, name):
                setattr(twin, name, getattr(end, name))
    parts = vars(_Private)
    for name in parts["lists"]:
        setattr(twin, name, list(getattr(end, name)))
    twin_flows: dict[int, Flow] = {}
    for number in end.flows:
        flow = _flow(end, number)
        other = object.__new__(type(flow))
        for kind in type(flow).__mro__:
            for name in getattr(kind, "__slots__", ()):
                setattr(other, name, getattr(flow, name))
        other.link = twin
        twin_flows[number] = other
    setattr(twin, parts["flows"], twin_flows)
    return twin


class _Private:
    """Names of the parts of a connection that a copy must not share."""

    lists = ("_out", "_events", "_group", "_churn")
    flows = "_flows"


def _flow(end: PowerConnection, number: int = FLOW) -> Flow:
    flows: dict[int, Flow] = getattr(end, _Private.flows)
    return flows[number]


def _has(end: PowerConnection) -> bool:
    return FLOW in end.flows


def key_of(state: State) -> tuple[object, ...]:
    """Return what tells two states apart."""
    parts: list[object] = [state.channels, state.opened, state.closed]
    for end in state.ends:
        parts.append(end.is_terminated)
        if _has(end):
            flow = _flow(end)
            for kind in type(flow).__mro__:
                parts.extend(
                    getattr(flow, name)
                    for name in getattr(kind, "__slots__", ())
                    if name not in _IGNORED and name not in ("batch", "blocks")
                )
    return tuple(parts)


def _fire_timer(flow: Flow) -> None:
    flow.fire(Cause.TIMEOUT, 0)


def _fire_lapse(flow: Flow) -> None:
    flow.lease_until = 0
    flow.pass_time(0)


def sink_steps(end: PowerConnection, limit: int) -> Iterator[tuple[str, Step]]:
    """Yield what the consumer's owner and timers may do."""
    flow = _flow(end)
    room = flow.top_contract < limit
    if flow.state is Sink.OFFERED:
        yield "accept", lambda e: e[SINK].accept(FLOW, PART, now=0)
        yield "decline", lambda e: e[SINK].decline(FLOW, now=0)
    if flow.may(Cause.PROPOSE) and not flow.outstanding and room:
        yield "sink renegotiates", lambda e: e[SINK].renegotiate(FLOW, [LESS], now=0)
    if flow.may(Cause.AGREE) and flow.peer_proposal:
        yield "sink agrees", lambda e: e[SINK].answer(FLOW, accept=True, now=0)
    if flow.may(Cause.REJECT) and flow.peer_proposal:
        yield "sink rejects", lambda e: e[SINK].answer(FLOW, accept=False, now=0)
    yield from _endings(flow, SINK)


def source_steps(end: PowerConnection, limit: int) -> Iterator[tuple[str, Step]]:
    """Yield what the provider's owner and timers may do."""
    flow = _flow(end)
    room = flow.top_contract < limit
    if flow.may(Cause.GRANT):
        yield "grant", lambda e: e[SOURCE].grant(FLOW, FULL, fallback=FLOOR, now=0)
        yield "counter", lambda e: e[SOURCE].counter(FLOW, [Offer(PART)], WHY, now=0)
        yield "refuse", lambda e: e[SOURCE].refuse(FLOW, WHY, now=0)
    if flow.may(Cause.STABLE):
        yield "ready", lambda e: e[SOURCE].ready(FLOW, now=0)
    if flow.may(Cause.PROPOSE) and not flow.outstanding and room:
        if flow.profile is not None and flow.profile.current_ma >= PART.current_ma:
            yield "shed", lambda e: e[SOURCE].shed(FLOW, PART, refusal=WHY, now=0)
            yield "lower", lambda e: e[SOURCE].shed(FLOW, PART, refusal=WHY, urgent=True, now=0)
        yield "source renegotiates", lambda e: e[SOURCE].renegotiate(FLOW, [ASK], now=0)
    if flow.may(Cause.AGREE) and flow.peer_proposal:
        terms = flow.peer_proposal[1][0].desired
        yield "source agrees", lambda e: e[SOURCE].answer(FLOW, accept=True, profile=terms, now=0)
        yield "source rejects", lambda e: e[SOURCE].answer(FLOW, accept=False, now=0)
    yield from _endings(flow, SOURCE)


def _endings(flow: Flow, side: int) -> Iterator[tuple[str, Step]]:
    if flow.may(Cause.CLOSE):
        yield f"{side} closes", lambda e: e[side].close_flow(FLOW, now=0)
    if flow.may(Cause.VIOLATION):
        yield f"{side} trips", lambda e: e[side].trip(FLOW, WHY, now=0)
    if flow.deadline is not None and flow.may(Cause.TIMEOUT):
        yield f"{side} times out", lambda e: _fire_timer(_flow(e[side]))
    if flow.lease_until is not None and not flow.lapsed:
        yield f"{side} lease lapses", lambda e: _fire_lapse(_flow(e[side]))


def _cut(ends: tuple[PowerConnection, PowerConnection]) -> None:
    ends[SINK].receive_eof(0)
    ends[SOURCE].receive_eof(0)


def _deliver(octets: bytes, side: int) -> Step:
    return lambda ends: ends[side].receive_data(octets, 0)


def steps(state: State, limit: int, queue: int) -> Iterator[tuple[str, Step, int]]:
    """Yield (name, step, channel whose head it takes or -1) for everything that may happen."""
    if not state.opened:
        yield "open", lambda e: _open(e[SINK]), -1
    for channel in (SINK, SOURCE):
        if state.channels[channel]:
            head = state.channels[channel][0]
            yield "deliver", _deliver(head, channel), channel
    if max(map(len, state.channels)) < queue:
        for side, options in ((SINK, sink_steps), (SOURCE, source_steps)):
            if _has(state.ends[side]):
                for name, step in options(state.ends[side], limit):
                    yield name, step, -1
    if state.opened and not state.ends[SINK].is_terminated:
        yield "cut", _cut, -2


def _open(end: PowerConnection) -> None:
    end.open_flow([ASK], fallback=FLOOR, now=0)


def _segments(octets: bytes) -> tuple[bytes, ...]:
    """Cut queued octets into whole segments, CREDIT, TICKET and probes left out."""
    found, at = [], 0
    while at < len(octets):
        _, _, words, kind, _, length, _, _ = HEADER.unpack_from(octets, at)
        end = at + 4 * words + length
        if kind not in (0x03, 0x0A, 0x0C):
            found.append(octets[at:end])
        at = end
    return tuple(found)


def advance(state: State, step: Step, channel: int) -> tuple[State, list[str]]:
    """Return the state after a step, and what it broke."""
    ends = (_copy(state.ends[SINK]), _copy(state.ends[SOURCE]))
    step(ends)
    to_source, to_sink = (_segments(end.data_to_send()) for end in ends)
    channels = list(state.channels)
    if channel >= 0:
        channels[channel] = channels[channel][1:]
    channels[SINK] += to_sink
    channels[SOURCE] += to_source
    if channel == -2:
        channels = [(), ()]
        to_sink = to_source = ()
    broken = [fault for part in (to_sink, to_source) for fault in _faults(part)]
    closed = state.closed
    for event in ends[SOURCE].take_events():
        closed += isinstance(event, FlowClosed)
    ends[SINK].take_events()
    after = State(ends, (channels[SINK], channels[SOURCE]), opened=True, closed=closed)
    return after, broken


def _faults(sent: tuple[bytes, ...]) -> Iterator[str]:
    for octets in sent:
        segment = decode_segment(Splitter().receive(octets)[0])
        if isinstance(segment, Control) and segment.flags == Flag.RST:
            reason = segment.options.reason
            if reason is not None and reason.code in FAULTS:
                yield reason.sentence()


def disagreement(state: State) -> str | None:
    """Return how two quiet, energised ends differ, None when they agree."""
    sink, source = state.ends
    if any(state.channels) or not (_has(sink) and _has(source)):
        return None
    ours, theirs = _flow(sink), _flow(source)
    if ours.state is Sink.ENERGISED and theirs.state is Source.ENERGISED:
        mine, other = ours.profile, theirs.profile
        if ours.contract != theirs.contract or mine is None or other is None:
            return f"contract {ours.contract} against {theirs.contract}"
        if mine.to_wire()[:14] != other.to_wire()[:14]:
            return f"terms {mine.format()} against {other.format()}"
    return None


def leak(state: State) -> bool:
    """Return whether budget is held though the flow is gone, or was released other than once."""
    source = state.ends[SOURCE]
    if not state.opened:
        return False
    holds = _has(source) and not _flow(source).is_over
    return state.closed > 1 or (holds and state.closed == 1)


def is_rest(state: State) -> bool:
    """Return whether both ends are done and nothing is under way."""
    return state.opened and not any(map(_has, state.ends)) and not any(state.channels)


class Report(NamedTuple):
    """What an exploration found."""

    states: int
    transitions: int
    violations: int
    deadlocks: int
    leaks: int
    unclosable: int
    first: str


def explore(
    *, limit: int = 3, queue: int = 4, most: int = 1_000_000, progress: bool = False
) -> Report:
    """Explore every state with contract numbers up to `limit` and channels up to `queue`."""
    start = first_state()
    numbers = {key_of(start): 0}
    frontier = deque([start])
    before: list[list[int]] = [[]]
    paths: list[tuple[int, str]] = [(0, "")]
    resting: list[int] = []
    tally = {"transitions": 0, "violations": 0, "deadlocks": 0, "leaks": 0}
    first = ""
    while frontier and len(numbers) < most:
        state = frontier.popleft()
        here = numbers[key_of(state)]
        moved = False
        for name, step, channel in steps(state, limit, queue):
            moved = True
            after, broken = advance(state, step, channel)
            tally["transitions"] += 1
            if (differ := disagreement(after)) is not None:
                broken.append(differ)
            tally["violations"] += len(broken)
            tally["leaks"] += leak(after)
            if (broken or leak(after)) and not first:
                first = _story(paths, here) + f" > {name}: {broken or 'budget leaked'}"
            key = key_of(after)
            there = numbers.get(key)
            if there is None:
                there = numbers[key] = len(numbers)
                before.append([])
                paths.append((here, name))
                frontier.append(after)
            before[there].append(here)
        if is_rest(state):
            resting.append(here)
        elif not moved:
            tally["deadlocks"] += 1
            first = first or _story(paths, here)
        if progress and len(numbers) % 5000 < 5:
            print(f"\r{len(numbers):,} states", end="", file=sys.stderr)
    unclosable = len(numbers) - len(_ancestors(before, resting)) if not frontier else 0
    return Report(states=len(numbers), unclosable=unclosable, first=first, **tally)


def _ancestors(before: list[list[int]], seeds: list[int]) -> set[int]:
    """Return every state from which one of `seeds` can be reached."""
    seen, todo = set(seeds), list(seeds)
    while todo:
        for number in before[todo.pop()]:
            if number not in seen:
                seen.add(number)
                todo.append(number)
    return seen


def _story(paths: list[tuple[int, str]], number: int) -> str:
    names = []
    while number:
        number, name = paths[number]
        names.append(name)
    return " > ".join(reversed(names))


def _clear_outstanding(self: SourceFlow, now: int) -> None:
    """The fault to plant: a SHED deadline forgets that its answer is still due."""
    number = self.outstanding
    _SHED_DEADLINE(self, now)
    self.outstanding = 0 if number else number


_SHED_DEADLINE = SourceFlow.shed_deadline
PLANTS: dict[str, Callable[[SourceFlow, int], None]] = {"clear-outstanding": _clear_outstanding}


def main(argv: list[str] | None = None) -> int:
    """Explore and report; exit 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.modelcheck", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--limit", type=int, default=3, help="largest contract number proposed from (3)"
    )
    parser.add_argument("--queue", type=int, default=4, help="segments under way each way (4)")
    parser.add_argument("--most", type=int, default=1_000_000, help="states at most (1,000,000)")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="plant a fault that must be found")
    args = parser.parse_args(argv)
    if args.plant:
        SourceFlow.shed_deadline = PLANTS[args.plant]  # type: ignore[method-assign, assignment]
    began = time.perf_counter()
    report = explore(
        limit=args.limit,
        queue=args.queue,
        most=args.most,
        progress=sys.stderr.isatty() and not args.json,
    )
    facts: dict[str, object] = report._asdict()
    facts["seconds"] = round(time.perf_counter() - began, 1)
    if args.json:
        print(json.dumps(facts))
    else:
        print("  ".join(f"{name} {value}" for name, value in facts.items()))
    wrong = report.violations + report.deadlocks + report.leaks + report.unclosable
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
