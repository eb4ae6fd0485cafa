"""Conversations of edge LSR and policeman: answers, prices, meters, silence and coming back."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.cops import (
    CircuitDecided,
    CircuitDeleted,
    CircuitReported,
    CircuitRequested,
    ClientAccept,
    ClientClose,
    ClientOpen,
    Code,
    Command,
    ConnectionLost,
    Decision,
    DecisionError,
    DeleteReason,
    Interface,
    KeepAlive,
    Message,
    MeterWanted,
    Pdp,
    Pep,
    PepOpened,
    PriceChanged,
    ReportKind,
    Splitter,
    StateSynchronized,
    SynchronizeRequest,
    decode_message,
    encode_message,
)
from powertcp.mplamps.cops.machine import QUOTE_NS
from powertcp.mplamps.power import MeterObject
from powertcp.units import NS_PER_S
from tests.cops_messages import ERROR_SPEC, MESSAGES, METER, PATH_OBJECTS, POLICEMAN, QUOTE

LAMP = Interface(IPv4Address("10.0.0.5"), 4)
DEARER = replace(QUOTE, price=400_000)


class Pair:
    """An edge LSR and the policeman's end of its connection."""

    def __init__(self) -> None:
        self.now = 0
        self.pep = Pep(IPv4Address("10.0.0.4"), bytes)
        self.pdp = Pdp(0)
        self.said: list[Message] = []

    def connect(self) -> list[object]:
        self.pep.connect(POLICEMAN, self.now)
        self.pdp = Pdp(self.now)
        return self.exchange()

    def exchange(self) -> list[object]:
        """Carry octets until there are none, and return the events of both."""
        while True:
            up, down = self.pep.data_to_send(), self.pdp.data_to_send()
            self.said += [decode_message(one) for one in Splitter().receive(up + down)]
            self.pdp.receive_data(up, self.now)
            self.pep.receive_data(down, self.now)
            if not up and not down:
                return self.events()

    def events(self) -> list[object]:
        found: list[object] = []
        for machine in (self.pep, self.pdp):
            while event := machine.next_event():
                found.append(event)
        return found

    def wait(self, until: int) -> list[object]:
        """Let time pass for both, timer by timer."""
        found: list[object] = []
        while True:
            times = [at for at in (self.pep.get_timer(), self.pdp.get_timer()) if at is not None]
            if not times or min(times) > until:
                self.now = until
                return found
            self.now = max(self.now, min(times))
            self.pep.handle_timer(self.now)
            self.pdp.handle_timer(self.now)
            found += self.exchange()

    def light(self) -> bytes:
        """Have one circuit, closed."""
        handle = self.pep.ask(LAMP, PATH_OBJECTS, 7, self.now)
        self.exchange()
        self.pdp.install(handle, QUOTE)
        self.exchange()
        self.pep.report(handle, ReportKind.SUCCESS, self.now, is_answer=True)
        self.exchange()
        return handle


@pytest.fixture(name="pair")
def connected() -> Pair:
    pair = Pair()
    assert pair.connect() == [PepOpened(pep_id="10.0.0.4", has_state=False)]
    return pair


@pytest.mark.requirement("MPLA-6-03")
def test_opening(pair: Pair) -> None:
    assert pair.said == [
        ClientOpen(pep_id="10.0.0.4"), ClientAccept(keep_alive_s=30, accounting_s=60)
    ]  # fmt: skip
    pair.pep.receive_eof(pair.now)
    pair.pdp.receive_eof(pair.now)
    pair.said.clear()
    events = pair.connect()
    assert pair.said[0] == ClientOpen(pep_id="10.0.0.4", last_pdp=POLICEMAN)
    assert PepOpened(pep_id="10.0.0.4", has_state=True) in events
    assert StateSynchronized() in events


@pytest.mark.requirement("MPLA-6-04")
def test_a_circuit_from_request_to_deletion(pair: Pair) -> None:
    handle = pair.pep.ask(LAMP, PATH_OBJECTS, 7, pair.now)
    assert len(handle) == 4
    assert pair.exchange() == [CircuitRequested(handle=handle, interface=LAMP, info=PATH_OBJECTS)]
    pair.pdp.install(handle, QUOTE)
    assert pair.exchange() == [CircuitDecided(handle=handle, quote=QUOTE)]
    pair.pep.report(handle, ReportKind.SUCCESS, pair.now, is_answer=True)
    [closed] = pair.exchange()
    assert closed == CircuitReported(
        handle=handle, kind=ReportKind.SUCCESS, meter=None, is_answer=True
    )
    assert pair.wait(59 * NS_PER_S) == []
    assert pair.wait(60 * NS_PER_S) == [MeterWanted(handle=handle)]
    pair.pep.report(handle, ReportKind.ACCOUNTING, pair.now, METER)
    [metered] = pair.exchange()
    assert isinstance(metered, CircuitReported)
    assert (metered.meter, metered.is_answer) == (METER, False)
    last = replace(METER, is_final=True)
    pair.pep.delete(handle, DeleteReason.TEAR, last)
    report, deleted = pair.exchange()
    assert isinstance(report, CircuitReported)
    assert report.meter == last
    assert deleted == CircuitDeleted(handle=handle, reason=Code(DeleteReason.TEAR))
    assert (len(pair.pep), len(pair.pdp)) == (0, 0)


@pytest.mark.requirement("MPLA-6-04")
def test_nothing_is_said_of_a_circuit_that_was_deleted_in_the_same_octets(pair: Pair) -> None:
    """A lamp that is switched on and off before the policeman has read that it wants to."""
    handle = pair.pep.ask(LAMP, PATH_OBJECTS, 7, pair.now)
    pair.pep.delete(handle, DeleteReason.TEAR, None)
    pair.pdp.receive_data(pair.pep.data_to_send(), pair.now)
    asked = pair.pdp.next_event()
    assert isinstance(asked, CircuitRequested)
    pair.pdp.install(handle, QUOTE)
    pair.pdp.remove(handle, ERROR_SPEC)
    assert pair.pdp.data_to_send() == b""
    assert isinstance(pair.pdp.next_event(), CircuitDeleted)
    assert len(pair.pdp) == 0
    with pytest.raises(LocalProtocolError):
        pair.pdp.install(handle, QUOTE)


@pytest.mark.requirement("MPLA-6-04")
def test_a_refusal_has_the_error_and_ends_the_circuit(pair: Pair) -> None:
    handle = pair.pep.ask(LAMP, PATH_OBJECTS, 7, pair.now)
    pair.exchange()
    pair.pdp.remove(handle, ERROR_SPEC)
    assert pair.exchange() == [CircuitDecided(handle=handle, quote=None, data=ERROR_SPEC)]
    decision = pair.said[-1]
    assert isinstance(decision, Decision)
    assert (decision.command, decision.is_error_triggered) == (Command.REMOVE, True)
    assert (len(pair.pep), len(pair.pdp)) == (0, 0)
    with pytest.raises(LocalProtocolError, match="no circuit has the handle"):
        pair.pep.report(handle, ReportKind.FAILURE, pair.now)
    with pytest.raises(LocalProtocolError, match="no circuit has the handle"):
        pair.pdp.install(handle, QUOTE)


@pytest.mark.requirement("MPLA-6-01")
def test_a_new_price_comes_unasked_and_the_meter_answers(pair: Pair) -> None:
    handle = pair.light()
    pair.pdp.install(handle, QUOTE, is_answer=False)
    assert pair.exchange() == [], "the same price"
    pair.pdp.install(handle, DEARER, is_answer=False)
    assert pair.exchange() == [PriceChanged(handle=handle, quote=DEARER)]
    pair.pep.report(handle, ReportKind.ACCOUNTING, pair.now, METER, is_answer=True)
    [answer] = pair.exchange()
    assert isinstance(answer, CircuitReported)
    assert answer.is_answer


@pytest.mark.requirement("MPLA-6-04")
def test_a_circuit_that_is_ended_has_its_last_meter(pair: Pair) -> None:
    handle = pair.light()
    pair.pdp.remove(handle, ERROR_SPEC, is_answer=False)
    assert pair.exchange() == [CircuitDecided(handle=handle, quote=None, data=ERROR_SPEC)]
    assert (len(pair.pep), len(pair.pdp)) == (0, 1)
    pair.pep.delete(handle, DeleteReason.DIRECTIVE, replace(METER, is_final=True))
    report, deleted = pair.exchange()
    assert isinstance(report, CircuitReported)
    assert report.meter == replace(METER, is_final=True)
    assert deleted == CircuitDeleted(handle=handle, reason=Code(DeleteReason.DIRECTIVE))
    assert len(pair.pdp) == 0
    with pytest.raises(LocalProtocolError, match="no circuit has the handle"):
        pair.pep.delete(handle, DeleteReason.DIRECTIVE, None)


@pytest.mark.requirement("MPLA-6-02", "MPLA-6-04")
def test_circuits_stay_without_a_policeman_and_all_come_again(pair: Pair) -> None:
    handles = [pair.light(), pair.light()]
    pair.pep.receive_eof(pair.now)
    assert pair.events() == [ConnectionLost(retry_at=NS_PER_S)]
    local = pair.pep.ask(LAMP, PATH_OBJECTS, 0, pair.now)
    assert pair.events() == [CircuitDecided(handle=local, quote=QUOTE, is_local=True)]
    assert len(pair.pep) == 3
    pair.said.clear()
    events = pair.connect()
    asked = [event.handle for event in events if isinstance(event, CircuitRequested)]
    assert asked == [*handles, local]
    assert events[-1] == StateSynchronized()
    for handle in asked:
        pair.pdp.install(handle, QUOTE)
    assert pair.exchange() == []


@pytest.mark.requirement("MPLA-6-04")
def test_a_circuit_that_ends_without_a_policeman_is_told_when_he_is_back(pair: Pair) -> None:
    handles = [pair.light(), pair.light()]
    pair.pep.receive_eof(pair.now)
    last = MeterObject(seconds=9, energy_uj=58_600_000, packets=7, octets=700, is_final=True)
    pair.pep.delete(handles[0], DeleteReason.TEAR, last)
    pair.events()
    events = pair.connect()
    asked = [event.handle for event in events if isinstance(event, CircuitRequested)]
    assert asked == [handles[1], handles[0]]
    kind = ReportKind.ACCOUNTING
    report = CircuitReported(handle=handles[0], kind=kind, meter=last, is_answer=False)
    assert report in events
    assert CircuitDeleted(handle=handles[0], reason=Code(DeleteReason.TEAR)) in events
    assert events[-1] == StateSynchronized()
    # once, and no more
    pair.pep.receive_eof(pair.now)
    pair.events()
    assert report not in pair.connect()


@pytest.mark.requirement("MPLA-6-02")
def test_a_policeman_to_whom_nobody_has_spoken_yet_has_a_second() -> None:
    pair = Pair()
    handle = pair.pep.ask(LAMP, PATH_OBJECTS, 7, 0)
    assert pair.events() == []
    pair.now = NS_PER_S // 2
    events = pair.connect()
    assert [event.handle for event in events if isinstance(event, CircuitRequested)] == [handle]
    lonely = Pair()
    handle = lonely.pep.ask(LAMP, PATH_OBJECTS, 7, 0)
    assert lonely.pep.get_timer() == NS_PER_S
    lonely.pep.handle_timer(NS_PER_S)
    assert lonely.events() == [CircuitDecided(handle=handle, quote=None, is_local=True)]
    assert len(lonely.pep) == 0


@pytest.mark.requirement("MPLA-6-02")
def test_a_silent_policeman_is_gone_after_a_second(pair: Pair) -> None:
    pair.light()
    handle = pair.pep.ask(LAMP, PATH_OBJECTS, 7, pair.now)
    other = pair.pep.ask(LAMP, PATH_OBJECTS, 8, pair.now)
    pair.pep.data_to_send()
    pair.pep.handle_timer(NS_PER_S - 1)
    assert pair.pep.next_event() is None
    assert pair.pep.get_timer() == NS_PER_S
    pair.pep.handle_timer(NS_PER_S)
    assert pair.events() == [
        ConnectionLost(retry_at=2 * NS_PER_S),
        CircuitDecided(handle=handle, quote=QUOTE, is_local=True),
        CircuitDecided(handle=other, quote=None, is_local=True),
    ]
    assert isinstance(decode_message(pair.pep.data_to_send()), ClientClose)
    for now, quote in ((NS_PER_S + QUOTE_NS - 1, QUOTE), (NS_PER_S + QUOTE_NS, None)):
        late = pair.pep.ask(LAMP, PATH_OBJECTS, 7, now)
        assert pair.events() == [CircuitDecided(handle=late, quote=quote, is_local=True)]


@pytest.mark.requirement("MPLA-6-04")
def test_each_of_many_circuits_has_its_own_deadlines(pair: Pair) -> None:
    handles = []
    for number in range(50):
        pair.wait(pair.now + NS_PER_S // 10)
        handles.append(pair.light())
        if number % 5 == 0:
            pair.pep.delete(handles.pop(), DeleteReason.TEAR, None)
            pair.exchange()
    closed_at = pair.now
    metered = pair.wait(closed_at + 60 * NS_PER_S)
    wanted = [event.handle for event in metered if isinstance(event, MeterWanted)]
    assert wanted == handles, "each a minute after it was closed, in that order"
    assert len(pair.pep) == 40
    again = pair.wait(closed_at + 120 * NS_PER_S)
    assert [event.handle for event in again if isinstance(event, MeterWanted)] == handles


@pytest.mark.requirement("MPLA-6-02")
def test_the_waits_between_attempts_grow_to_thirty_seconds(pair: Pair) -> None:
    waits = []
    for _ in range(7):
        pair.pep.lose(0)
        [event] = pair.events()
        assert isinstance(event, ConnectionLost)
        assert event.retry_at is not None
        waits.append(event.retry_at // NS_PER_S)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    pair.connect()
    pair.pep.lose(0)
    assert pair.events() == [ConnectionLost(retry_at=NS_PER_S)]


def test_a_policeman_that_does_not_accept_is_none() -> None:
    pair = Pair()
    pair.pep.connect(POLICEMAN, 0)
    handle = pair.pep.ask(LAMP, PATH_OBJECTS, 0, 0)
    pair.pep.handle_timer(NS_PER_S)
    assert pair.events() == [
        ConnectionLost(retry_at=2 * NS_PER_S),
        CircuitDecided(handle=handle, quote=None, is_local=True),
    ]
    early = pair.pep
    early.connect(POLICEMAN, pair.now)
    handle = early.ask(LAMP, PATH_OBJECTS, 0, pair.now)
    assert CircuitRequested(handle=handle, interface=LAMP, info=PATH_OBJECTS) in pair.exchange()


def test_keep_alives_keep_a_quiet_connection(pair: Pair) -> None:
    pair.said.clear()
    assert pair.wait(120 * NS_PER_S) == []
    assert pair.said
    assert set(pair.said) == {KeepAlive()}
    quiet = Pair()
    quiet.connect()
    quiet.pdp.handle_timer(30 * NS_PER_S - 1)
    assert quiet.events() == []
    quiet.pdp.handle_timer(30 * NS_PER_S)
    assert quiet.events() == [ConnectionLost()]
    assert quiet.pdp.get_timer() is None
    quiet.pep.handle_timer(30 * NS_PER_S)
    assert quiet.events() == [ConnectionLost(retry_at=31 * NS_PER_S)]
    assert quiet.pep.get_timer() is None


def test_what_is_not_understood(pair: Pair) -> None:
    handle = pair.pep.ask(LAMP, b"", 0, pair.now)
    assert pair.exchange() == [CircuitDecided(handle=handle, quote=None)]
    assert isinstance(pair.said[-1], DecisionError)
    lit = pair.light()
    pair.pep.receive_data(encode_message(SynchronizeRequest(handle=b"none")), pair.now)
    pair.pep.receive_data(encode_message(SynchronizeRequest(handle=lit)), pair.now)
    events = pair.exchange()
    assert [type(event) for event in events] == [
        CircuitDeleted, CircuitRequested, StateSynchronized
    ]  # fmt: skip
    pair.pdp.receive_data(bytes(8), pair.now)
    assert pair.exchange() == [ConnectionLost(retry_at=NS_PER_S), ConnectionLost()]
    stranger = Pdp(0)
    stranger.receive_data(encode_message(MESSAGES["request"]), 0)
    assert isinstance(decode_message(stranger.data_to_send()), ClientClose)


@given(st.lists(st.sampled_from(sorted(MESSAGES)), max_size=12), st.binary(max_size=20))
def test_no_message_of_a_peer_raises(names: list[str], tail: bytes) -> None:
    octets = b"".join(encode_message(MESSAGES[name]) for name in names) + tail
    pair = Pair()
    pair.pep.connect(POLICEMAN, 0)
    pair.pep.ask(LAMP, PATH_OBJECTS, 0, 0)
    for machine in (pair.pep, pair.pdp):
        machine.receive_data(octets, 0)
        machine.handle_timer(NS_PER_S)
        machine.receive_eof(NS_PER_S)
    assert any(isinstance(event, ConnectionLost) for event in pair.events())
