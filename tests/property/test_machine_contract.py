"""Both ends of a power connection keep the machine contract."""

from typing import Any

import pytest

from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    ConnectionTerminated,
    PowerAccepted,
    PowerReady,
    PowerRequested,
)
from powertcp.potcp.states import SINK, SOURCE, Sink, Source
from powertcp.potcp.tickets import TicketOffice
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS
from powertcp.wire.frames import HEADER
from tests.contract import (
    Subject,
    check_chunkings,
    check_clock,
    check_deterministic,
    check_garbage,
    check_limit,
    check_misuse,
    check_table,
    drain,
    drain_octets,
)
from tests.conversation import START, ask, counting_entropy, profile

REFUSAL = Refusal(Reason.NO_CAPACITY, 1, 0)
MSP = ConnectionConfig().msp


def make_sink() -> PowerConnection:
    sink = PowerConnection(client=True, config=ConnectionConfig(), entropy=counting_entropy(5))
    sink.start(START)
    sink.open_flow([ask("12V/1.5A", "5V/0.5A")], now=START)
    return sink


def make_source() -> PowerConnection:
    source = PowerConnection(
        client=False,
        config=ConnectionConfig(),
        entropy=counting_entropy(6),
        office=TicketOffice(counting_entropy(7)),
        peer=b"peer",
    )
    source.start(START)
    return source


def react(machine: PowerConnection, event: Any, now: int) -> None:
    """Grant what is asked and make it stable at once."""
    match event:
        case PowerRequested(flow=flow):
            machine.grant(flow, profile("12V/1A"), now=now)
        case PowerAccepted(flow=flow):
            machine.ready(flow, now=now)
        case PowerReady(flow=flow) if machine.client:
            machine.set_demand(flow, 6000, now=now)


MISUSE = {
    "no such flow": lambda end, now: end.close_flow(77, now=now),
    "no ask": lambda end, now: end.open_flow([], now=now),
    "time backwards": lambda end, now: end.shutdown(now=now - 1),
    "status of nothing": lambda end, now: end.status(78),
    "shed of nothing": lambda end, now: end.shed(79, profile("12V/1A"), refusal=REFUSAL, now=now),
}


def subjects() -> dict[str, Subject[PowerConnection]]:
    """Let two machines talk and keep what each was told, turn by turn."""
    ends = {"sink": make_sink(), "source": make_source()}
    turns: dict[str, list[tuple[int, bytes]]] = {"sink": [], "source": []}
    now = START
    for _ in range(12):
        now += 50 * NS_PER_MS
        said = {name: drain_octets(end) for name, end in ends.items()}
        for name, other in (("sink", "source"), ("source", "sink")):
            turns[name].append((now, said[other]))
            ends[name].handle_timer(now)
            ends[name].receive_data(said[other], now)
        for end in ends.values():
            for event in drain(end):
                react(end, event, now)
    makers = {"sink": make_sink, "source": make_source}
    return {
        name: Subject(makers[name], react, MISUSE, ConnectionTerminated, START, turns[name])
        for name in ends
    }


SUBJECTS = subjects()
both = pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)


@both
def test_the_talk_says_something(subject: Subject[PowerConnection]) -> None:
    assert sum(len(octets) for _, octets in subject.turns) >= 100


@both
def test_misuse_changes_nothing(subject: Subject[PowerConnection]) -> None:
    check_misuse(subject)


@both
@pytest.mark.parametrize("garbage", [b"\0" * 40, bytes(range(256)), b"GET / HTTP/1.1\r\n\r\n" * 3])
def test_garbage_ends_in_one_event(subject: Subject[PowerConnection], garbage: bytes) -> None:
    check_garbage(subject, garbage)


@both
def test_time_runs_forwards(subject: Subject[PowerConnection]) -> None:
    check_clock(subject)


@both
def test_three_chunkings(subject: Subject[PowerConnection]) -> None:
    check_chunkings(subject)


@both
def test_same_inputs_same_outputs(subject: Subject[PowerConnection]) -> None:
    check_deterministic(subject)


@both
def test_the_longest_payload_and_one_octet_more(subject: Subject[PowerConnection]) -> None:
    """A skipped segment of an unknown type shows the limit and nothing else."""
    at, above = (HEADER.pack(0x504F, 1, 5, 0x90, 0, size, 1, 0) for size in (MSP, MSP + 1))
    check_limit(subject, at + bytes(MSP), above + bytes(MSP + 1))


def test_the_tables_are_closed() -> None:
    check_table(SINK, {Sink.CLOSED})
    check_table(SOURCE, {Source.LISTEN})
