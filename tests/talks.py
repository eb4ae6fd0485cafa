"""Conversations of two power connections, kept turn by turn: what the machine contract is held to.

Imported by tests, not collected.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from powertcp.crypto import SigningKey
from powertcp.dve import encode_block
from powertcp.ledger import Clock, Flags, Page, countersign, page_hash, sign_as_source
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    ConnectionTerminated,
    PageFacts,
    PageReceived,
    PageSigned,
    PowerAccepted,
    PowerReady,
    PowerRequested,
    RenegotiationRequested,
    SamplesReceived,
    TicketReceived,
)
from powertcp.potcp.tickets import TicketOffice
from powertcp.potcp.traced import TracedConnection
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS
from powertcp.wire.options import Meter
from tests.contract import Subject, drain, drain_octets
from tests.conversation import SINK, START, Pair, ask, counting_entropy, profile

REFUSAL = Refusal(Reason.NO_CAPACITY, 1, 0)
TURNS, TURN_NS = 16, 150 * NS_PER_MS
# from this turn on both ends are energised
LIVE = 5
SAMPLES = np.array([[12_000, 500_000]] * 30)

Verbs = Mapping[int, Callable[[PowerConnection, int], object]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """What happens on a connection, turn by turn, by the doing of either owner.

    flows: opened by the sink. ends: (state of the sink, of the source) of flow 1, None: over.
    resumed: the flow comes from another connection, by ticket. metered: with receipts each second.
    signs: the sink's owner countersigns what comes.
    """

    sink: Verbs = dataclasses.field(default_factory=dict)
    source: Verbs = dataclasses.field(default_factory=dict)
    ends: tuple[str | None, str | None] = ("ENERGISED", "ENERGISED")
    flows: int = 1
    is_answered: bool = True
    resumed: bool = False
    metered: bool = False
    signs: bool = True
    kind: type[PowerConnection] = PowerConnection


def deliver(at: int) -> Callable[[PowerConnection, int], object]:
    """Send three blocks, each turn the next."""
    blocks = [encode_block(30 * count, SAMPLES) for count in range(3 * at, 3 * at + 3)]
    return lambda end, now: end.send_samples(1, blocks, now=now)


DELIVERY: Verbs = {LIVE + at: deliver(at) for at in range(4)}
SCENARIOS = {
    "no flow": Scenario(flows=0, ends=(None, None)),
    "half open": Scenario(is_answered=False, ends=("SYN_SENT", "LISTEN")),
    "energised": Scenario(),
    "two flows": Scenario(flows=2),
    "delivering": Scenario(source=DELIVERY),
    "traced": Scenario(source=DELIVERY, kind=TracedConnection),
    "renegotiated": Scenario(
        sink={LIVE: lambda end, now: end.renegotiate(1, [ask("12V/0.8A")], now=now)},
        source={LIVE + 5: lambda end, now: end.renegotiate(1, [ask("12V/1A")], now=now)},
    ),
    "shed": Scenario(
        source={
            **DELIVERY,
            LIVE + 5: lambda end, now: end.shed(1, profile("12V/0.6A"), refusal=REFUSAL, now=now),
        }
    ),
    "tripped by the sink": Scenario(
        sink={LIVE + 2: lambda end, now: end.trip(1, REFUSAL, now=now)},
        source={LIVE: deliver(0), LIVE + 1: deliver(1)},
        ends=(None, None),
    ),
    "tripped by the source": Scenario(
        source={
            **DELIVERY,
            LIVE + 4: lambda end, now: end.trip(1, REFUSAL, now=now),
        },
        ends=(None, None),
    ),
    "after TRIP, unanswered": Scenario(
        sink={TURNS - 1: lambda end, now: end.trip(1, REFUSAL, now=now)},
        ends=("TRIPPED", "ENERGISED"),
    ),
    "closed by the sink": Scenario(
        sink={LIVE + 2: lambda end, now: end.close_flow(1, now=now)}, ends=(None, None)
    ),
    "closed by the source": Scenario(
        source={**DELIVERY, LIVE + 4: lambda end, now: end.close_flow(1, now=now)},
        ends=(None, None),
    ),
    "after FIN, unanswered": Scenario(
        source={TURNS - 1: lambda end, now: end.close_flow(1, now=now)},
        ends=("ENERGISED", "FIN_SENT"),
    ),
    "resumed": Scenario(resumed=True, source=DELIVERY),
    "receipts": Scenario(source=DELIVERY, metered=True),
    "receipts, traced": Scenario(source=DELIVERY, metered=True, kind=TracedConnection),
    "receipts, closed by the sink": Scenario(
        sink={LIVE + 4: lambda end, now: end.close_flow(1, now=now)},
        source=DELIVERY,
        metered=True,
        ends=(None, None),
    ),
    "receipts, closed by the source": Scenario(
        source={**DELIVERY, LIVE + 4: lambda end, now: end.close_flow(1, now=now)},
        metered=True,
        ends=(None, None),
    ),
    "receipts, tripped by the sink": Scenario(
        sink={LIVE + 2: lambda end, now: end.trip(1, REFUSAL, now=now)},
        source={LIVE: deliver(0), LIVE + 1: deliver(1)},
        metered=True,
        ends=(None, None),
    ),
    "the last receipt, unanswered": Scenario(
        source={**DELIVERY, LIVE + 4: lambda end, now: end.close_flow(1, now=now)},
        metered=True,
        signs=False,
        ends=("SETTLING", "FIN_SENT"),
    ),
    "the last receipt, unanswered by the sink that closed": Scenario(
        sink={LIVE + 4: lambda end, now: end.close_flow(1, now=now)},
        source=DELIVERY,
        metered=True,
        signs=False,
        ends=("FIN_SENT", "SETTLING"),
    ),
    "a receipt, disputed": Scenario(
        sink={TURNS - 2: lambda end, now: end.dispute(1, REFUSAL, now=now)},
        source=DELIVERY,
        metered=True,
        signs=False,
    ),
}
SOURCE_KEY, SINK_KEY = SigningKey(bytes(32)), SigningKey(bytes([1]) * 32)


def page_of(facts: PageFacts) -> bytes:
    """Return the source's page, without a price; times stand still."""
    page = Page(
        flags=Flags(2 * facts.final + 4 * facts.truncated + 8 * facts.resumed + 16 * facts.sim),
        clock=Clock.RELATIVE,
        transcript=facts.transcript,
        contract=facts.contract,
        page=facts.page,
        samples=facts.samples,
        start_uj=facts.start_uj,
        end_uj=facts.end_uj,
        start_ns=0,
        end_ns=0,
        previous=page_hash(facts.previous) if facts.previous else bytes(32),
        digest=facts.digest,
        source_key=SOURCE_KEY.public,
        sink_key=facts.peer_key,
    )
    return sign_as_source(page, SOURCE_KEY).to_wire()


def office_with_a_flow() -> tuple[TicketOffice, bytes]:
    """Return an office that holds a flow whose path was cut, and its ticket."""
    pair = Pair(office=TicketOffice(counting_entropy(7)), now=START)
    flow = pair.energise("12V/1A")
    pair.deliver(flow, 10)
    ticket = pair.one(SINK, TicketReceived).ticket
    pair.cut()
    return pair.office, ticket


def unheard(name: str, data: Mapping[str, object]) -> None:
    """Take a trace event nobody reads."""


def make_sink(scenario: Scenario) -> PowerConnection:
    sink = scenario.kind(
        client=True, config=ConnectionConfig(), entropy=counting_entropy(5), trace=unheard
    )
    sink.start(START)
    resume: dict[str, Any] = {}
    if scenario.resumed:
        resume = {"ticket": office_with_a_flow()[1], "esn_uj": 120_000}
    if scenario.metered:
        resume["meter"] = Meter(1, 0, SINK_KEY.public)
    for _ in range(scenario.flows):
        sink.open_flow([ask("12V/1A", "5V/0.5A")], want_samples=True, now=START, **resume)
    return sink


def make_source(scenario: Scenario) -> PowerConnection:
    resumed = scenario.resumed
    source = scenario.kind(
        client=False,
        config=ConnectionConfig(),
        entropy=counting_entropy(6),
        office=office_with_a_flow()[0] if resumed else TicketOffice(counting_entropy(7)),
        peer=b"peer",
        trace=unheard,
    )
    source.sign_page = page_of
    source.start(START)
    return source


def reactions(scenario: Scenario) -> Callable[[PowerConnection, Any, int], None]:
    """Return an owner that grants what is asked and agrees to what is proposed."""

    def react(machine: PowerConnection, event: Any, now: int) -> None:
        match event:
            case PowerRequested(flow=flow) if scenario.is_answered:
                meter = Meter(60, 0, SOURCE_KEY.public) if scenario.metered else None
                machine.grant(flow, profile("12V/1A"), meter=meter, now=now)
            case PageReceived(flow=flow, octets=octets) if scenario.signs:
                copy = countersign(Page.from_wire(octets), SINK_KEY).to_wire()
                machine.countersign(flow, copy, now=now)
            case PageSigned(flow=flow, octets=octets) if flow in machine.flows:
                machine.keep_page(flow, octets, now=now)
            case PowerAccepted(flow=flow):
                machine.ready(flow, now=now)
            case PowerReady(flow=flow) if machine.client:
                machine.set_demand(flow, 6000, now=now)
            case RenegotiationRequested(flow=flow, asks=asks) if not machine.client:
                machine.answer(flow, True, profile=asks[0].desired, now=now)
            case RenegotiationRequested(flow=flow):
                machine.answer(flow, True, now=now)

    return react


def merged(events: list[Any]) -> list[Any]:
    """Return events with what was banked in one go as one: a wake-up is what a read brings."""
    found: list[Any] = []
    for event in events:
        before = found[-1] if found else None
        if (
            isinstance(event, SamplesReceived)
            and isinstance(before, SamplesReceived)
            and (event.flow == before.flow)
        ):
            found[-1] = dataclasses.replace(
                event,
                count=before.count + event.count,
                energy_uj=before.energy_uj + event.energy_uj,
                samples=(before.samples or b"") + (event.samples or b""),
            )
        else:
            found.append(event)
    return found


MISUSE: dict[str, Callable[[PowerConnection, int], object]] = {
    "no such flow": lambda end, now: end.close_flow(77, now=now),
    "no ask": lambda end, now: end.open_flow([], now=now),
    "time backwards": lambda end, now: end.shutdown(now=now - 1),
    "status of nothing": lambda end, now: end.status(78),
    "shed of nothing": lambda end, now: end.shed(79, profile("12V/1A"), refusal=REFUSAL, now=now),
    "demand of nothing": lambda end, now: end.set_demand(77, 1, now=now),
    "samples of nothing": lambda end, now: end.send_samples(78, [], now=now),
    "grant of nothing": lambda end, now: end.grant(79, profile("12V/1A"), now=now),
    "trip of nothing": lambda end, now: end.trip(77, REFUSAL, now=now),
    "wishes of nothing": lambda end, now: end.renegotiate(77, [ask("12V/1A")], now=now),
    "copy of nothing": lambda end, now: end.keep_page(77, bytes(380), now=now),
    "receipt of nothing": lambda end, now: end.countersign(77, bytes(380), now=now),
    "dispute of nothing": lambda end, now: end.dispute(77, REFUSAL, now=now),
    "answer of nothing": lambda end, now: end.answer(77, True, now=now),
}


def subjects(scenario: Scenario) -> dict[str, Subject[PowerConnection]]:
    """Let two machines talk and keep what each was told, turn by turn."""
    ends = {"sink": make_sink(scenario), "source": make_source(scenario)}
    verbs = {"sink": scenario.sink, "source": scenario.source}
    turns: dict[str, list[tuple[int, bytes]]] = {"sink": [], "source": []}
    react = reactions(scenario)
    now = START
    for turn in range(TURNS):
        now += TURN_NS
        said = {name: drain_octets(end) for name, end in ends.items()}
        for name, other in (("sink", "source"), ("source", "sink")):
            turns[name].append((now, said[other]))
            ends[name].handle_timer(now)
            ends[name].receive_data(said[other], now)
        for name, end in ends.items():
            for event in drain(end):
                react(end, event, now)
            if turn in verbs[name]:
                verbs[name][turn](end, now)
    makers = {"sink": make_sink, "source": make_source}
    return {
        name: Subject(
            lambda make=makers[name]: make(scenario),  # type: ignore[misc]
            react,
            MISUSE,
            ConnectionTerminated,
            START,
            turns[name],
            verbs[name],
            merged,
        )
        for name in ends
    }


SUBJECTS = {
    f"{role}, {name}": subject
    for name, scenario in SCENARIOS.items()
    for role, subject in subjects(scenario).items()
}
