"""Both ends of a power connection keep the machine contract, whatever their flows are doing."""

import pytest

from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.states import SINK, SOURCE, Sink, Source
from powertcp.wire.frames import HEADER
from tests.contract import (
    Subject,
    check_chunkings,
    check_clock,
    check_deterministic,
    check_end,
    check_garbage,
    check_limit,
    check_misuse,
    check_table,
    check_timers,
    play,
)
from tests.talks import SCENARIOS, SUBJECTS

MSP = ConnectionConfig().msp
each = pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
# where the peer never speaks there is nothing to cut
SPOKEN_TO = {
    name: subject
    for name, subject in SUBJECTS.items()
    if any(octets for _, octets in subject.turns)
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_talk_gets_where_it_should(name: str) -> None:
    for role, state in zip(("sink", "source"), SCENARIOS[name].ends, strict=True):
        machine, heard = play(SUBJECTS[f"{role}, {name}"])
        assert [machine.status(flow).state for flow in machine.flows[:1]] == (
            [state] if state else []
        )
        assert sum(map(len, heard.octets)) >= (0 if name == "no flow" else 40 * (role == "sink"))
        if name in ("delivering", "resumed", "shed", "traced", "receipts", "a receipt, disputed"):
            energy = 12 * 180_000 + 120_000 * (name == "resumed")
            assert machine.status(1).esn_uj == energy


@each
def test_misuse_changes_nothing(subject: Subject[PowerConnection]) -> None:
    check_misuse(subject)


@each
@pytest.mark.parametrize("garbage", [b"\0" * 40, bytes(range(256)), b"GET / HTTP/1.1\r\n\r\n" * 3])
def test_garbage_ends_in_one_event(subject: Subject[PowerConnection], garbage: bytes) -> None:
    check_garbage(subject, garbage)


@each
def test_the_end_of_the_stream_is_the_last_event(subject: Subject[PowerConnection]) -> None:
    check_end(subject)


@each
def test_time_runs_forwards(subject: Subject[PowerConnection]) -> None:
    check_clock(subject)
    check_timers(subject)


@pytest.mark.parametrize("subject", SPOKEN_TO.values(), ids=SPOKEN_TO)
def test_three_chunkings(subject: Subject[PowerConnection]) -> None:
    check_chunkings(subject)


@each
def test_same_inputs_same_outputs(subject: Subject[PowerConnection]) -> None:
    check_deterministic(subject)


@each
def test_the_longest_payload_and_one_octet_more(subject: Subject[PowerConnection]) -> None:
    """A skipped segment of an unknown type shows the limit and nothing else."""
    at, above = (HEADER.pack(0x504F, 1, 5, 0x90, 0, size, 1, 0) for size in (MSP, MSP + 1))
    check_limit(subject, at + bytes(MSP), above + bytes(MSP + 1))


def test_a_trace_changes_nothing() -> None:
    for role in ("sink", "source"):
        assert play(SUBJECTS[f"{role}, traced"])[1] == play(SUBJECTS[f"{role}, delivering"])[1]
        receipts = play(SUBJECTS[f"{role}, receipts"])[1]
        assert play(SUBJECTS[f"{role}, receipts, traced"])[1] == receipts


def test_the_talks_are_many() -> None:
    assert len(SUBJECTS) == 2 * len(SCENARIOS) >= 30
    assert len(SPOKEN_TO) == len(SUBJECTS) - 3


def test_the_tables_are_closed() -> None:
    check_table(SINK, {Sink.CLOSED})
    check_table(SOURCE, {Source.LISTEN})
