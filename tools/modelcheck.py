"""Explicit-state model checker of the two state tables, driving the real classes.

Two `PowerConnection`s, one flow, a lossless ordered channel each way that may be cut at any time;
once without receipts, once with pages that become due, overdue, signed and disputed at any time.
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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from struct import Struct
from typing import NamedTuple, TypeVar

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from powertcp.dve import EnergyRegister, encode_block
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import Ask, FlowClosed, Offer, PageFacts, PageReceived
from powertcp.potcp.flow import Flow
from powertcp.potcp.pages import Pages
from powertcp.potcp.sink import SinkFlow
from powertcp.potcp.source import SourceFlow
from powertcp.potcp.states import Cause, Sink, Source
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, Refusal
from powertcp.wire.frames import HEADER, Splitter, decode_segment
from powertcp.wire.options import Meter, Tariff
from powertcp.wire.segments import Control

FLOW = 1
SINK, SOURCE = 0, 1
CUT = -2
FULL = PowerProfile.parse("12V/2A,lease=60s", ProfileType.GRANT)
PART = PowerProfile.parse("12V/1A,lease=60s", ProfileType.GRANT)
FLOOR = PowerProfile.parse("12V/0.5A,lease=60s", ProfileType.FALLBACK)
ASK = Ask(FULL.with_type(ProfileType.REQUEST), PART.with_type(ProfileType.MINIMUM))
LESS = Ask(PART.with_type(ProfileType.REQUEST))
WHY = Refusal(Reason.BUDGET, 1, 1)
# reasons that only a broken rule can cause between two honest ends
FAULTS = frozenset({106, 108, 400, 401, 403, 405, 500, 501, 502, 503, 504, 505, 506, 508, 511})
# counters and instants that never decide anything while time stands still
_IGNORED = frozenset(
    {"link", "protector", "register", "syn", "transcript", "request", "key", "batch", "blocks"}
    | {"pages", "handshake", "times", "meter", "peer_meter", "peer_key"}
    | {"copy", "held", "page_at", "sent_at", "expose_at"}
    | {"open_end_uj", "open_contract", "open_tariff", "open_sim", "is_open_final"}
)
METER = Meter(60, 0, bytes(32))
PRICE = Tariff(bytes(32), "EUR", 300_000)
LIE = Refusal(Reason.RECEIPT_INVALID, 1, 0)
# bounds of the exploration with receipts, and blocks of one sample that a flow may carry there
METERED_LIMIT, METERED_QUEUE, BLOCKS = 2, 1, 1
SAMPLE = np.array([[12_000, 100_000]])


class State(NamedTuple):
    """Both ends, what is under way each way (whole segments), closings seen at the source.

    parts: what tells the ends apart from those of other states.
    """

    ends: tuple[PowerConnection, PowerConnection]
    channels: tuple[tuple[bytes, ...], tuple[bytes, ...]]
    opened: bool
    closed: int
    parts: tuple[tuple[object, ...], tuple[object, ...]]


TwinT = TypeVar("TwinT")


class Ends:
    """The ends of a state, each copied when a step touches it."""

    def __init__(self, ends: tuple[PowerConnection, PowerConnection]) -> None:
        self.before = ends
        self.after: dict[int, PowerConnection] = {}

    def __getitem__(self, side: int) -> PowerConnection:
        """Return an end that may be changed."""
        if side not in self.after:
            self.after[side] = _copy(self.before[side])
        return self.after[side]

    def now(self, side: int) -> PowerConnection:
        """Return an end as it is."""
        return self.after.get(side, self.before[side])


Step = Callable[[Ends], None]


def _zeros(count: int) -> bytes:
    return bytes(count)


# --- receipts: a page that says what it was told, and any signature is valid -----------------------

_PAGE = Struct(">BBH32sIIQQQ8xq32s32s32s")


def page_of(facts: PageFacts) -> bytes:
    """Return the page of a source that says exactly what it counted."""
    flags = 2 * facts.final + 4 * facts.truncated + 8 * facts.resumed + 16 * facts.sim
    price = facts.tariff.price if facts.tariff else 0
    span = (facts.page, facts.samples, facts.start_uj, facts.end_uj)
    head = (1, flags, 0, facts.transcript, facts.contract)
    return _PAGE.pack(*head, *span, price, bytes(32), bytes(32), facts.digest).ljust(380, b"\0")


def signed(page: bytes) -> bytes:
    """Return the copy of a page."""
    return page[:316] + b"\1" * 64


def _any_is_valid(key: bytes, message: bytes, signature: bytes) -> bool:
    return True


# --- states ----------------------------------------------------------------------------------------


def first_state(*, metered: bool = False) -> State:
    """Return two connected ends before the first SYN."""
    config = ConnectionConfig(churn_per_s=1_000_000)
    sink = PowerConnection(client=True, config=config, entropy=_zeros)
    source = PowerConnection(client=False, config=config, entropy=_zeros)
    if metered:
        source.sign_page = page_of
    sink.is_signed_by = source.is_signed_by = _any_is_valid
    source.start(0)
    ends = (sink, source)
    return State(ends, ((), ()), opened=False, closed=0, parts=(_part(sink), _part(source)))


class Shape:
    """How objects of one class are copied and told apart: all their slots, by one getter each."""

    def __init__(self, kind: type, ignored: frozenset[str]) -> None:
        names = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
        self.get = attrgetter(*names)
        self.setters = [getattr(kind, name).__set__ for name in names]
        self.key = attrgetter(*(name for name in names if name not in ignored))

    def copy(self, old: object, new: object) -> None:
        """Make `new` what `old` is; what no step changes is shared."""
        for put, value in zip(self.setters, self.get(old), strict=True):
            put(new, value)


_SHAPES: dict[type, Shape] = {
    kind: Shape(kind, _IGNORED)
    for kind in (PowerConnection, SinkFlow, SourceFlow, Pages, EnergyRegister)
}


def _twin(old: TwinT) -> TwinT:
    """Return a copy of an object, of which no part is copied."""
    new: TwinT = object.__new__(type(old))
    _SHAPES[type(old)].copy(old, new)
    return new


def _copy(end: PowerConnection) -> PowerConnection:
    """Return an end with its flows copied."""
    twin: PowerConnection = _twin(end)
    parts = vars(_Private)
    for name in parts["lists"]:
        setattr(twin, name, list(getattr(end, name)))
    twin_flows: dict[int, Flow] = {}
    for number in end.flows:
        flow: Flow = _twin(_flow(end, number))
        flow.link = twin
        if flow.pages is not None:
            flow.pages, flow.register = _twin(flow.pages), _twin(flow.register)
        twin_flows[number] = flow
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


def _part(end: PowerConnection) -> tuple[object, ...]:
    """Return what tells an end apart."""
    if not _has(end):
        return (end.is_terminated,)
    flow = _flow(end)
    pages, energy = flow.pages, 0
    if pages is not None and flow.register is not None:
        energy = flow.register.a
    said: tuple[object, ...] = ()
    if pages is not None:
        said = (_SHAPES[Pages].key(pages), pages.open and _OPEN(pages), bool(pages.held))
    return (end.is_terminated, _SHAPES[type(flow)].key(flow), said, energy)


# of a page under way; nothing reads them without one
_OPEN = attrgetter("open_end_uj", "open_contract", "open_tariff", "is_open_final")


def key_of(state: State) -> tuple[object, ...]:
    """Return what tells two states apart."""
    return (state.channels, state.opened, state.closed, state.parts)


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
    if flow.pages is not None and flow.pages.open:
        copy = signed(flow.pages.open)
        yield "sink signs", lambda e: e[SINK].countersign(FLOW, copy, now=0)
        yield "sink disputes", lambda e: e[SINK].dispute(FLOW, LIE, now=0)
    yield from _endings(flow, SINK)


def source_steps(end: PowerConnection, limit: int) -> Iterator[tuple[str, Step]]:
    """Yield what the provider's owner and timers may do."""
    flow = _flow(end)
    room = flow.top_contract < limit
    meter = METER if end.sign_page is not None else None
    if flow.may(Cause.GRANT):
        yield "grant", lambda e: e[SOURCE].grant(FLOW, FULL, fallback=FLOOR, meter=meter, now=0)
        yield (
            "counter",
            lambda e: e[SOURCE].counter(FLOW, [Offer(PART)], WHY, meter=meter, now=0),
        )
        yield "refuse", lambda e: e[SOURCE].refuse(FLOW, WHY, now=0)
    if flow.may(Cause.STABLE):
        yield "ready", lambda e: e[SOURCE].ready(FLOW, now=0)
    if flow.may(Cause.PROPOSE) and not flow.outstanding and room:
        if flow.profile is not None and flow.profile.current_ma >= PART.current_ma:
            yield "shed", lambda e: e[SOURCE].shed(FLOW, PART, refusal=WHY, now=0)
            yield "lower", lambda e: e[SOURCE].shed(FLOW, PART, refusal=WHY, urgent=True, now=0)
        price = PRICE if flow.pages is not None else None
        yield (
            "source renegotiates",
            lambda e: e[SOURCE].renegotiate(FLOW, [ASK], tariff=price, now=0),
        )
    if flow.may(Cause.AGREE) and flow.peer_proposal:
        terms = flow.peer_proposal[1][0].desired
        yield "source agrees", lambda e: e[SOURCE].answer(FLOW, accept=True, profile=terms, now=0)
        yield "source rejects", lambda e: e[SOURCE].answer(FLOW, accept=False, now=0)
    if flow.pages is not None and flow.pages.held:
        held = flow.pages.held
        yield "source keeps", lambda e: e[SOURCE].keep_page(FLOW, held, now=0)
    if isinstance(flow, SourceFlow) and flow.pages is not None and flow.delivers:
        if flow.counter < BLOCKS and not flow.is_withheld:
            yield "block", _send_block
        if flow.pages.give_up_at is not None:
            yield "page is overdue for good", lambda e: _pass_page(e[SOURCE], "give_up_at")
        elif flow.pages.open:
            yield "page is overdue", lambda e: _pass_page(e[SOURCE], "expose_at")
        elif flow.pages.has_news(flow.esn_uj):
            yield "page is due", lambda e: _pass_page(e[SOURCE], "page_at")
    yield from _endings(flow, SOURCE)


def _send_block(ends: Ends) -> None:
    flow = _flow(ends[SOURCE])
    flow.limit_uj = 1_000_000
    block = encode_block(flow.counter, SAMPLE) if isinstance(flow, SourceFlow) else b""
    ends[SOURCE].send_samples(FLOW, [block], now=0)


def _pass_page(end: PowerConnection, deadline: str) -> None:
    flow = _flow(end)
    setattr(flow.pages, deadline, 0)
    if isinstance(flow, SourceFlow):
        flow.pass_pages(0)


def _endings(flow: Flow, side: int) -> Iterator[tuple[str, Step]]:
    if flow.may(Cause.CLOSE):
        yield f"{side} closes", lambda e: e[side].close_flow(FLOW, now=0)
    if flow.may(Cause.VIOLATION):
        yield f"{side} trips", lambda e: e[side].trip(FLOW, WHY, now=0)
    if flow.deadline is not None and flow.may(Cause.TIMEOUT):
        yield f"{side} times out", lambda e: _fire_timer(_flow(e[side]))
    if flow.lease_until is not None and not flow.lapsed:
        yield f"{side} lease lapses", lambda e: _fire_lapse(_flow(e[side]))


def _cut(ends: Ends) -> None:
    ends[SINK].receive_eof(0)
    ends[SOURCE].receive_eof(0)


def _deliver(octets: bytes, side: int) -> Step:
    return lambda ends: ends[side].receive_data(octets, 0)


def steps(state: State, limit: int, queue: int) -> Iterator[tuple[str, Step, int]]:
    """Yield (name, step, channel whose head it takes or -1) for everything that may happen."""
    if not state.opened:
        metered = state.ends[SOURCE].sign_page is not None
        yield "open", lambda e: _open(e[SINK], metered=metered), -1
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
        yield "cut", _cut, CUT


def _open(end: PowerConnection, *, metered: bool) -> None:
    end.open_flow([ASK], fallback=FLOOR, meter=METER if metered else None, now=0)


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
    ends = Ends(state.ends)
    step(ends)
    sent: list[tuple[bytes, ...]] = [(), ()]
    channels, parts = list(state.channels), list(state.parts)
    broken: list[str] = []
    closed = state.closed
    if channel >= 0:
        channels[channel] = channels[channel][1:]
    for side, end in ends.after.items():
        sent[side] = _segments(end.data_to_send())
        parts[side] = _part(end)
        for event in end.take_events():
            closed += side == SOURCE and isinstance(event, FlowClosed)
            if isinstance(event, PageReceived) and page_of(event.facts)[:252] != event.octets[:252]:
                broken.append(f"page {event.facts.page} is not what the sink counted")
    if channel == CUT:
        channels = [(), ()]
    else:
        channels[SINK] += sent[SOURCE]
        channels[SOURCE] += sent[SINK]
        broken += [fault for part in sent for fault in _faults(part)]
    after = State(
        (ends.now(SINK), ends.now(SOURCE)),
        (channels[SINK], channels[SOURCE]),
        opened=True,
        closed=closed,
        parts=(parts[SINK], parts[SOURCE]),
    )
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
        return _other_receipts(ours, theirs)
    return None


def _other_receipts(ours: Flow, theirs: Flow) -> str | None:
    """Return how the receipts of two quiet ends differ: number, signed energy, span."""
    mine, other = ours.pages, theirs.pages
    if mine is None or other is None or mine.is_disputed or other.is_disputed or other.held:
        return None
    if ours.tariff != theirs.tariff or (mine.open != other.open):
        return "one end knows of a page or a price that the other does not"
    if _SPAN(mine) != _SPAN(other):
        return f"span {_SPAN(mine)} against {_SPAN(other)}"
    return None


_SPAN = attrgetter("number", "signed_uj", "start_uj", "samples", "digest", "contract", "tariff")


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

    def plus(self, other: "Report") -> "Report":
        """Return the findings of two explorations."""
        return Report(
            states=self.states + other.states,
            transitions=self.transitions + other.transitions,
            violations=self.violations + other.violations,
            deadlocks=self.deadlocks + other.deadlocks,
            leaks=self.leaks + other.leaks,
            unclosable=self.unclosable + other.unclosable,
            first=self.first or other.first,
        )


def explore(
    *,
    limit: int = 3,
    queue: int = 4,
    most: int = 1_000_000,
    progress: bool = False,
    metered: bool = False,
) -> Report:
    """Explore every state with contract numbers up to `limit` and channels up to `queue`.

    metered: with receipts, and blocks for them to count.
    """
    start = first_state(metered=metered)
    numbers = {key_of(start): 0}
    frontier = deque([(0, start)])
    before: list[list[int]] = [[]]
    paths: list[tuple[int, str]] = [(0, "")]
    resting: list[int] = []
    tally = {"transitions": 0, "violations": 0, "deadlocks": 0, "leaks": 0}
    first = ""
    while frontier and len(numbers) < most:
        here, state = frontier.popleft()
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
                frontier.append((there, after))
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


def _planted(
    plant: str | None,
    limit: int,
    queue: int,
    most: int,
    *,
    progress: bool = False,
    metered: bool = False,
) -> Report:
    """Explore with a fault planted, or none; each exploration has a process of its own."""
    if plant:
        SourceFlow.shed_deadline = PLANTS[plant]  # type: ignore[method-assign, assignment]
    return explore(limit=limit, queue=queue, most=most, progress=progress, metered=metered)


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
    began = time.perf_counter()
    progress = sys.stderr.isatty() and not args.json
    # receipts multiply the states: proposals are few and channels short beside them
    limit, queue = min(args.limit - 1, METERED_LIMIT), min(args.queue, METERED_QUEUE)
    with ProcessPoolExecutor(1, get_context("spawn")) as beside:
        pages = beside.submit(_planted, args.plant, limit, queue, args.most, metered=True)
        report = _planted(args.plant, args.limit, args.queue, args.most, progress=progress)
        paged = pages.result()
    report = report.plus(paged)
    facts: dict[str, object] = report._asdict()
    facts["metered_states"] = paged.states
    facts["seconds"] = round(time.perf_counter() - began, 1)
    if args.json:
        print(json.dumps(facts))
    else:
        print("  ".join(f"{name} {value}" for name, value in facts.items()))
    wrong = report.violations + report.deadlocks + report.leaks + report.unclosable
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
