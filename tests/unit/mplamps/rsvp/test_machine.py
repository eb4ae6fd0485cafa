"""Conversations of three nodes in a row: a lamp (.5), a router (.4) and a source (.1).

The router forwards whatever comes and closes what is granted; the source grants what is asked.
"""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp import (
    IN_PLACE,
    LABEL_RECORDING,
    MAX_SENDERS,
    SE_DESIRED,
    STATE_REMOVED,
    Attribute,
    Circuit,
    ErrorSpec,
    Fault,
    Hop,
    Path,
    PathErr,
    PathTear,
    RecordedHop,
    Resv,
    ResvConf,
    ResvErr,
    RouteHop,
    Sender,
    Session,
    Style,
    TokenBucket,
    decode_message,
    encode_message,
)
from powertcp.mplamps.rsvp import verdict as module
from powertcp.mplamps.rsvp.events import (
    Cause,
    CircuitId,
    CircuitOpened,
    CircuitRemoved,
    LinkTo,
    NeighbourFound,
    NeighbourLost,
    PathArrived,
    PathRefused,
    ResvArrived,
    ResvConfirmed,
    ResvRefused,
    RsvpEvent,
)
from powertcp.mplamps.rsvp.machine import Rsvp
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.profile import PowerProfile, ProfileType

SECOND = 1_000_000_000
MS = 1_000_000
LAMP, ROUTER, ES = (IPv4Address(f"10.0.0.{number}") for number in (5, 4, 1))
LAMP_LINK, ES_LINK = 7, 1
HOUSE, STREET = 230, 400
TSPEC = TokenBucket(17585, 2880, 17585, 40, 1440)
REQUEST = PowerProfile.parse("230V/260mA@50Hz")
ASKED = PowerObject.make(REQUEST)
GRANT = PowerObject.make(replace(REQUEST, type=ProfileType.GRANT))
REFUSED = PowerObject.make(REQUEST, replace(REQUEST, type=ProfileType.REFUSE, current_ma=100))
SESSION = Session(ES, 1, LAMP)
SHARED = Session(ES, 1, IPv4Address(0))
REPLY = Fault(1, 2)


def entropy_of(seed: int) -> Callable[[int], bytes]:
    state = [seed]

    def draw(count: int) -> bytes:
        state[0] = state[0] * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407 & (1 << 64) - 1
        return (state[0] >> 8).to_bytes(8, "big")[-count:].rjust(count, b"\x2a")

    return draw


def path_of(
    lsp: int = 1,
    *,
    session: Session = SESSION,
    lamp: IPv4Address = LAMP,
    flow_label: int = 16,
    flags: int = SE_DESIRED,
    route: tuple[RouteHop, ...] = (),
    record: tuple[RecordedHop, ...] = (),
) -> Path:
    return Path(
        session=session,
        hop=Hop(lamp, LAMP_LINK),
        refresh_ms=30_000,
        attribute=Attribute(4, 4, flags, "lamp-1"),
        sender=Sender(lamp, lsp),
        tspec=TSPEC,
        upstream_label=HOUSE,
        flow_label=flow_label,
        power=ASKED,
        route=route,
        record=record,
    )


class Row:
    """Lamp, router and source; messages take no time, but only go when `run` is called."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now = 0
        how = settings or Settings()
        house, street = LinkTo(ROUTER, HOUSE), LinkTo(ES, STREET)
        self.lamp = Rsvp(LAMP, {LAMP_LINK: house}, how, entropy_of(1), 0)
        router = {LAMP_LINK: LinkTo(LAMP, HOUSE), ES_LINK: street}
        self.router = Rsvp(ROUTER, router, how, entropy_of(2), 0)
        self.es = Rsvp(ES, {ES_LINK: LinkTo(ROUTER, STREET)}, how, entropy_of(3), 0)
        self.seen: dict[IPv4Address, list[RsvpEvent]] = {LAMP: [], ROUTER: [], ES: []}
        self.messages: list[tuple[IPv4Address, IPv4Address, object]] = []
        self.is_cut = False
        self.refuses: Fault | None = None

    def nodes(self) -> dict[IPv4Address, Rsvp]:
        return {LAMP: self.lamp, ROUTER: self.router, ES: self.es}

    def peer(self, node: IPv4Address, link: int) -> IPv4Address:
        if link == ES_LINK:
            return ROUTER if node == ES else ES
        return ROUTER if node == LAMP else LAMP

    def run(self) -> None:
        """Carry messages and answer events until nobody has anything to say."""
        busy = True
        while busy:
            busy = False
            for address, node in self.nodes().items():
                while (event := node.next_event()) is not None:
                    self.seen[address].append(event)
                    self.react(address, node, event)
                    busy = True
                for octets, link in node.datagrams_to_send():
                    peer = self.peer(address, link)
                    self.messages.append((address, peer, decode_message(octets).message))
                    if self.is_cut and link == ES_LINK:
                        continue
                    self.nodes()[peer].receive_datagram(octets, address, self.now)
                    busy = True

    def react(self, address: IPv4Address, node: Rsvp, event: RsvpEvent) -> None:
        match event:
            case PathArrived(circuit=circuit) if address == ES:
                if self.refuses:
                    node.refuse(circuit, self.refuses, power=REFUSED, now=self.now)
                else:
                    node.answer(circuit, flow_label=40, power=GRANT, now=self.now)
            case PathArrived(circuit=circuit):
                node.forward(
                    circuit, ES_LINK, flow_label=30 + circuit.sender.lsp, route=(),
                    power=event.path.power, now=self.now,
                )  # fmt: skip
            case ResvArrived(circuit=circuit) if address == ROUTER:
                node.answer(circuit, flow_label=50, power=event.power, now=self.now)
            case PathRefused(circuit=circuit) if address == ROUTER:
                node.pass_error(circuit, event, self.now)

    def advance(self, ns: int) -> None:
        """Let time pass, deadline by deadline."""
        end = self.now + ns
        while True:
            timers = [node.get_timer() for node in self.nodes().values()]
            due = [at for at in timers if at is not None and at <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            for node in self.nodes().values():
                node.handle_timer(self.now)
            self.run()
        self.now = end

    def of(self, node: IPv4Address, kind: type) -> list[object]:
        return [event for event in self.seen[node] if isinstance(event, kind)]

    def sent(self, kind: type) -> list[object]:
        return [message for _, _, message in self.messages if isinstance(message, kind)]

    def light(self, path: Path | None = None) -> CircuitId:
        path = path or path_of()
        self.lamp.request(path, LAMP_LINK, self.now)
        self.run()
        return CircuitId(path.session, path.sender)


def test_a_path_runs_to_the_source_and_its_resv_back() -> None:
    row = Row()
    circuit = row.light()
    assert [type(event) for event in row.seen[ROUTER]] == [PathArrived, ResvArrived]
    (arrived,) = row.of(ES, PathArrived)
    assert isinstance(arrived, PathArrived)
    assert (arrived.path.upstream_label, arrived.path.flow_label) == (STREET, 31)
    assert arrived.path.hop == Hop(ROUTER, ES_LINK)
    (granted,) = row.of(LAMP, ResvArrived)
    assert isinstance(granted, ResvArrived)
    assert (granted.circuit, granted.flow_label, granted.is_new) == (circuit, 50, True)
    assert granted.power == GRANT


@pytest.mark.requirement("MPLA-4.1-02")
def test_each_node_that_forwards_a_path_lowers_its_ttl() -> None:
    row = Row()
    row.lamp.request(path_of(), LAMP_LINK, 0)
    ((first, _),) = row.lamp.datagrams_to_send()
    row.router.receive_datagram(first, LAMP, 0)
    event = row.router.next_event()
    assert isinstance(event, PathArrived)
    row.react(ROUTER, row.router, event)
    second = next(octets for octets, link in row.router.datagrams_to_send() if link == ES_LINK)
    assert (decode_message(first).ttl, decode_message(second).ttl) == (64, 63)


@pytest.mark.requirement("MPLA-4.1-01")
def test_who_is_no_neighbour_is_not_heard() -> None:
    row = Row()
    octets = encode_message(path_of())
    row.router.receive_datagram(octets, IPv4Address("10.0.0.99"), 0)
    assert row.router.next_event() is None
    assert row.router.drops["not_neighbour"] == 1


@pytest.mark.requirement("MPLA-4.5-01")
@pytest.mark.parametrize(
    ("path", "fault"),
    [
        (replace(path_of(), upstream_label=STREET), (24, 6)),
        (replace(path_of(), record=(RecordedHop(LAMP), RecordedHop(ROUTER))), (24, 7)),
        (replace(path_of(), l3pid=0x86DD), (24, 10)),
        (replace(path_of(), hop=Hop(ES, 1)), (24, 1)),
        (path_of(session=SHARED, route=(RouteHop(ES),)), (24, 1)),
    ],
    ids=["label", "loop", "protocol", "hop", "shared"],
)
@pytest.mark.requirement("MPLA-4.3-02")
@pytest.mark.requirement("MPLA-4.6-05")
def test_a_path_that_cannot_be_is_refused_and_leaves_nothing(
    path: Path, fault: tuple[int, int]
) -> None:
    row = Row()
    row.router.receive_datagram(encode_message(path), LAMP, 0)
    row.run()
    assert len(row.router) == 0
    assert row.seen[ROUTER] == []
    (error,) = row.sent(PathErr)
    assert isinstance(error, PathErr)
    assert (error.error.code, error.error.value) == fault
    assert error.error.flags & STATE_REMOVED
    assert error.error.node == ROUTER


@pytest.mark.requirement("MPLA-4.3-06")
@pytest.mark.requirement("MPLA-4.5-09")
def test_a_refusal_of_the_source_leaves_no_state_anywhere() -> None:
    row = Row()
    row.refuses = REPLY
    row.light()
    assert [len(node) for node in row.nodes().values()] == [0, 0, 0]
    (refused,) = row.of(LAMP, PathRefused)
    assert isinstance(refused, PathRefused)
    assert refused.is_removed
    assert (refused.error.node, refused.error.code) == (ES, 1)
    assert refused.power == REFUSED


def test_a_router_may_try_another_way_instead_of_passing_the_error_on() -> None:
    row = Row()
    row.refuses = REPLY
    row.lamp.request(path_of(), LAMP_LINK, 0)

    def react(address: IPv4Address, node: Rsvp, event: RsvpEvent) -> None:
        if address == ROUTER and isinstance(event, PathRefused):
            row.refuses = None
            node.forward(event.circuit, ES_LINK, flow_label=77, route=(), power=ASKED, now=row.now)
        else:
            Row.react(row, address, node, event)

    row.react = react  # type: ignore[method-assign]
    row.run()
    assert row.of(LAMP, PathRefused) == []
    assert len(row.of(LAMP, ResvArrived)) == 1


@pytest.mark.requirement("MPLA-4.5-08")
def test_a_torn_circuit_is_no_more_on_the_way_to_the_source() -> None:
    row = Row()
    circuit = row.light()
    row.lamp.tear(circuit, 0)
    row.run()
    removed = CircuitRemoved(circuit=circuit, cause=Cause.TORN)
    assert row.of(ROUTER, CircuitRemoved) == row.of(ES, CircuitRemoved) == [removed]
    assert [len(node) for node in row.nodes().values()] == [0, 0, 0]
    assert row.of(LAMP, CircuitRemoved) == []


@pytest.mark.requirement("MPLA-4.5-08")
def test_a_source_that_withdraws_opens_the_circuit_and_keeps_its_path() -> None:
    row = Row()
    circuit = row.light()
    row.es.open(circuit, 0)
    row.run()
    opened = CircuitOpened(circuit=circuit, cause=Cause.TORN)
    assert row.of(ROUTER, CircuitOpened) == row.of(LAMP, CircuitOpened) == [opened]
    assert [len(node) for node in row.nodes().values()] == [1, 1, 1]
    row.es.answer(circuit, flow_label=41, power=GRANT, now=0)
    row.run()
    again = row.of(LAMP, ResvArrived)[-1]
    assert isinstance(again, ResvArrived)
    assert again.is_new


@pytest.mark.requirement("MPLA-4.6-02")
def test_a_circuit_that_is_ended_is_torn_both_ways() -> None:
    row = Row()
    circuit = row.light()
    row.router.end(circuit, Fault(12, 0), now=0)
    row.run()
    (refused,) = row.of(LAMP, PathRefused)
    assert isinstance(refused, PathRefused)
    assert (refused.error.node, refused.error.code, refused.is_removed) == (ROUTER, 12, True)
    assert row.of(ES, CircuitRemoved) == [CircuitRemoved(circuit=circuit, cause=Cause.TORN)]
    assert [len(node) for node in row.nodes().values()] == [0, 0, 0]


@pytest.mark.requirement("MPLA-4.5-04")
@pytest.mark.parametrize(
    ("session", "sender", "style", "code"),
    [
        (Session(ES, 9, LAMP), Sender(LAMP, 1), Style.SE, 3),
        (SESSION, Sender(LAMP, 2), Style.SE, 4),
        (SESSION, Sender(LAMP, 1), Style.FF, 5),
    ],
    ids=["session", "sender", "style"],
)
def test_a_resv_that_nobody_waits_for_is_answered(
    session: Session, sender: Sender, style: Style, code: int
) -> None:
    row = Row(Settings(is_reliable=False))
    row.light()
    told = len(row.of(ROUTER, ResvArrived))
    row.messages.clear()
    resv = Resv(
        session=session, hop=Hop(ES, ES_LINK), refresh_ms=30_000, style=style, flowspec=TSPEC,
        circuits=(Circuit(sender=sender, flow_label=99, power=GRANT),),
    )  # fmt: skip
    row.router.receive_datagram(encode_message(resv), ES, 0)
    row.run()
    (error,) = row.sent(ResvErr)
    assert isinstance(error, ResvErr)
    assert (error.error.code, error.error.value) == (code, 0)
    assert len(row.of(ROUTER, ResvArrived)) == told


def test_a_resv_that_is_refused_on_the_lamp_side_opens_the_circuit() -> None:
    row = Row(Settings(is_reliable=False))
    row.light()
    error = ErrorSpec.refusal(LAMP, 3, 0)
    message = ResvErr(
        session=SESSION, hop=Hop(LAMP, LAMP_LINK), error=error, style=Style.SE, flowspec=TSPEC,
        sender=Sender(LAMP, 1),
    )  # fmt: skip
    row.router.receive_datagram(encode_message(message), LAMP, 0)
    row.run()
    circuit = CircuitId(SESSION, Sender(LAMP, 1))
    refused = ResvRefused(circuit=circuit, error=error)
    assert row.of(ROUTER, ResvRefused) == row.of(ES, ResvRefused) == [refused]


@pytest.mark.requirement("MPLA-4.2-03")
def test_a_resv_is_confirmed_only_if_it_asks_for_that() -> None:
    row = Row(Settings(is_reliable=False))
    row.light()
    assert row.sent(ResvConf) == []
    (resv,) = (message for _, to, message in row.messages if to == LAMP and type(message) is Resv)
    assert isinstance(resv, Resv)
    grown = replace(resv.circuits[0], flow_label=51)
    asks = replace(resv, confirm=ES, circuits=(grown,))
    row.lamp.receive_datagram(encode_message(asks), ROUTER, 0)
    row.run()
    (confirmed,) = row.of(ES, ResvConfirmed)
    assert confirmed == ResvConfirmed(circuit=CircuitId(SESSION, Sender(LAMP, 1)))


@pytest.mark.requirement("MPLA-4.7-02")
def test_state_that_nobody_refreshes_ends_after_its_lifetime() -> None:
    row = Row(Settings(is_reliable=False))
    circuit = row.light()
    row.is_cut = True
    row.advance(157 * SECOND)
    assert len(row.es) == 1
    row.advance(8 * SECOND)
    assert len(row.es) == 0
    assert row.of(ES, CircuitRemoved) == [CircuitRemoved(circuit=circuit, cause=Cause.TIMED_OUT)]
    timed = CircuitOpened(circuit=circuit, cause=Cause.TIMED_OUT)
    assert timed in row.of(ROUTER, CircuitOpened)


@pytest.mark.requirement("MPLA-4.7-04")
@pytest.mark.parametrize("is_reliable", [True, False])
def test_state_that_is_refreshed_lives_on(is_reliable: bool) -> None:
    row = Row(Settings(is_reliable=is_reliable))
    row.light()
    row.advance(2_000 * SECOND)
    assert [len(node) for node in row.nodes().values()] == [1, 1, 1]
    assert row.of(ROUTER, CircuitOpened) == []
    assert len(row.of(ES, PathArrived)) == 1
    assert len(row.of(LAMP, ResvArrived)) == 1


def test_a_path_that_has_changed_takes_the_place_of_the_old_one() -> None:
    row = Row(Settings(is_reliable=False))
    circuit = row.light()
    changed = replace(path_of(flow_label=99), hop=Hop(LAMP, LAMP_LINK))
    row.router.receive_datagram(encode_message(changed), LAMP, 0)
    row.run()
    replaced = CircuitRemoved(circuit=circuit, cause=Cause.REPLACED)
    assert row.of(ROUTER, CircuitRemoved) == [replaced]
    # toward the source nothing has changed, and so nothing was torn there
    assert row.sent(PathTear) == []
    assert [len(node) for node in row.nodes().values()] == [1, 1, 1]


def test_circuits_of_a_session_share_one_resv() -> None:
    row = Row()
    row.light()
    row.light(path_of(2, flow_label=17))
    last = [message for _, to, message in row.messages if to == LAMP and type(message) is Resv][-1]
    assert isinstance(last, Resv)
    assert [circuit.sender for circuit in last.circuits] == [Sender(LAMP, 1), Sender(LAMP, 2)]
    assert len(row.of(LAMP, ResvArrived)) == 2


@pytest.mark.requirement("MPLA-4.6-01")
def test_lamps_of_a_shared_session_have_one_resv_without_a_filter() -> None:
    row = Row()
    row.light(path_of(1, session=SHARED))
    row.messages.clear()
    row.light(path_of(2, session=SHARED, flow_label=17))
    assert len(row.of(LAMP, ResvArrived)) == 2
    # what the others have is given to the new one at once, and its PATH goes on all the same
    assert len(row.of(ES, PathArrived)) == 2
    for message in row.sent(Resv):
        assert isinstance(message, Resv)
        assert message.style is Style.WF
        assert [circuit.sender for circuit in message.circuits] == [None]


@pytest.mark.requirement("MPLA-4.10-03")
def test_a_session_has_at_most_eight_senders() -> None:
    row = Row(Settings(is_reliable=False))
    for lsp in range(1, MAX_SENDERS + 1):
        row.light(path_of(lsp, flow_label=15 + lsp))
    assert row.sent(PathErr) == []
    row.light(path_of(MAX_SENDERS + 1, flow_label=99))
    (error,) = row.sent(PathErr)
    assert isinstance(error, PathErr)
    assert (error.error.code, error.error.value) == (24, 9)
    assert len(row.router) == MAX_SENDERS
    assert row.router.drops["limit"] == 1


@pytest.mark.requirement("MPLA-4.10-03")
def test_a_node_has_a_limit_of_circuits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CIRCUITS", 2)
    row = Row(Settings(is_reliable=False))
    for tunnel in (1, 2, 3):
        row.light(path_of(session=Session(ES, tunnel, LAMP)))
    assert len(row.router) == 2
    assert len(row.sent(PathErr)) == 1


@pytest.mark.requirement("MPLA-4.3-05")
def test_labels_are_recorded_hop_by_hop_if_the_lamp_wants_them() -> None:
    row = Row()
    row.light(path_of(flags=SE_DESIRED | LABEL_RECORDING))
    (granted,) = row.of(LAMP, ResvArrived)
    assert isinstance(granted, ResvArrived)
    assert granted.record == (RecordedHop(ROUTER, HOUSE, 0), RecordedHop(ES, STREET, 0))
    (arrived,) = row.of(ES, PathArrived)
    assert isinstance(arrived, PathArrived)
    assert [hop.node for hop in arrived.path.record] == [ROUTER, LAMP]


def test_nothing_is_recorded_that_nobody_asked_for() -> None:
    row = Row()
    row.light()
    (granted,) = row.of(LAMP, ResvArrived)
    assert isinstance(granted, ResvArrived)
    assert granted.record == ()


@pytest.mark.requirement("MPLA-4.7-01")
def test_the_lamps_behind_a_lost_neighbour_are_told_and_nothing_is_torn() -> None:
    row = Row(Settings(hello_ns=300 * MS))
    row.light()
    row.advance(2 * SECOND)
    row.is_cut = True
    row.advance(2 * SECOND)
    assert row.of(ROUTER, NeighbourLost) == [NeighbourLost(link=ES_LINK)]
    (told,) = row.of(LAMP, PathRefused)
    assert isinstance(told, PathRefused)
    assert (told.error.node, told.error.flags) == (ROUTER, IN_PLACE)
    assert (told.error.code, told.error.value, told.is_removed) == (24, 5, False)
    assert [len(node) for node in row.nodes().values()] == [1, 1, 1]
    row.is_cut = False
    row.advance(2 * SECOND)
    assert row.of(ROUTER, NeighbourFound)


@pytest.mark.requirement("MPLA-4.7-01")
def test_a_neighbour_that_was_started_again_gets_all_state() -> None:
    row = Row(Settings(hello_ns=300 * MS))
    row.light()
    row.advance(SECOND)
    links = {ES_LINK: LinkTo(ROUTER, STREET)}
    row.es = Rsvp(ES, links, Settings(hello_ns=300 * MS), entropy_of(9), row.now)
    row.advance(3 * SECOND)
    assert len(row.es) == 1
    assert len(row.of(ES, PathArrived)) == 2
    assert any(isinstance(event, NeighbourFound) for event in row.seen[ROUTER])


def test_a_link_that_is_mended_carries_all_state_again() -> None:
    row = Row()
    row.is_cut = True
    row.light()
    assert row.of(ES, PathArrived) == []
    row.advance(60 * SECOND)
    row.is_cut = False
    row.router.find(ES_LINK, row.now)
    row.run()
    assert len(row.of(LAMP, ResvArrived)) == 1


def test_verbs_at_a_wrong_time_change_nothing() -> None:
    row = Row()
    circuit = row.light()
    with pytest.raises(LocalProtocolError):
        row.lamp.request(path_of(), LAMP_LINK, 0)
    with pytest.raises(LocalProtocolError):
        row.router.forward(circuit, ES_LINK, flow_label=16, route=(), power=ASKED, now=0)
    with pytest.raises(LocalProtocolError):
        row.router.refuse(circuit, REPLY, now=0)
    with pytest.raises(LocalProtocolError):
        row.lamp.answer(circuit, flow_label=16, power=GRANT, now=0)
    with pytest.raises(LocalProtocolError):
        row.router.tear(CircuitId(SESSION, Sender(LAMP, 77)), 0)
    row.run()
    assert [len(node) for node in row.nodes().values()] == [1, 1, 1]


def test_an_answer_again_sends_nothing_and_a_new_one_a_resv() -> None:
    row = Row()
    circuit = row.light()
    row.messages.clear()
    row.es.answer(circuit, flow_label=40, power=GRANT, now=0)
    row.run()
    assert row.sent(Resv) == []
    row.es.answer(circuit, flow_label=42, power=GRANT, now=0)
    row.run()
    again = row.of(ROUTER, ResvArrived)[-1]
    assert isinstance(again, ResvArrived)
    assert (again.flow_label, again.is_new) == (42, False)


def other_lamp(row: Row, lamp: IPv4Address, flow_label: int, link: int) -> CircuitId:
    """Let a lamp of a shared session ask behind another house of the router."""
    path = replace(path_of(session=SHARED, lamp=lamp, flow_label=flow_label), hop=Hop(lamp, link))
    row.router.receive_datagram(encode_message(path), lamp, row.now)
    return CircuitId(path.session, path.sender)


@pytest.mark.requirement("MPLA-4.6-01")
def test_a_shared_reservation_outlives_the_error_of_one_house() -> None:
    second, link = IPv4Address("10.0.0.6"), 8
    row = Row(Settings(is_reliable=False))
    links = {
        LAMP_LINK: LinkTo(LAMP, HOUSE),
        ES_LINK: LinkTo(ES, STREET),
        link: LinkTo(second, HOUSE),
    }
    row.router = Rsvp(ROUTER, links, Settings(is_reliable=False), entropy_of(2), 0)
    row.nodes()[second] = row.lamp

    def carry() -> None:
        for _ in range(6):
            for address, node in ((ROUTER, row.router), (ES, row.es)):
                while (event := node.next_event()) is not None:
                    row.seen[address].append(event)
                    row.react(address, node, event)
                for octets, out in node.datagrams_to_send():
                    row.messages.append((address, second, decode_message(octets).message))
                    if out == ES_LINK:
                        peer = row.es if address == ROUTER else row.router
                        peer.receive_datagram(octets, address, row.now)

    one = other_lamp(row, LAMP, 16, LAMP_LINK)
    two = other_lamp(row, second, 17, link)
    carry()
    row.messages.clear()
    for lamp, at, is_last in ((LAMP, LAMP_LINK, False), (second, link, True)):
        error = ErrorSpec.refusal(lamp, 3, 0)
        message = ResvErr(
            session=SHARED, hop=Hop(lamp, at), error=error, style=Style.WF, flowspec=TSPEC
        )
        row.router.receive_datagram(encode_message(message), lamp, 0)
        carry()
        refused = [event.circuit for event in row.of(ROUTER, ResvRefused)]  # type: ignore[attr-defined]
        assert refused == ([one, two] if is_last else [one])
        # toward the source the error only goes when nobody is served any more
        assert len(row.of(ES, ResvRefused)) == (2 if is_last else 0)
        state = row.router.state(two)
        assert state is not None
        assert (state.granted is None) is is_last


def test_a_summary_renews_what_the_last_resv_names() -> None:
    row = Row()
    first = row.light()
    row.light(path_of(2, flow_label=17))
    # the source withdraws the first one, and its tear is lost
    row.is_cut = True
    row.es.open(first, 0)
    row.es.datagrams_to_send()
    row.is_cut = False
    state = row.router.state(first)
    assert state is not None
    row.es.answer(CircuitId(SESSION, Sender(LAMP, 2)), flow_label=43, power=GRANT, now=0)
    for octets, _ in row.es.datagrams_to_send():
        if isinstance(decode_message(octets).message, Resv):
            row.router.receive_datagram(octets, ES, 0)
    row.run()
    ends = state.granted_expires
    row.advance(60 * SECOND)
    assert state.granted_expires == ends
    second = row.router.state(CircuitId(SESSION, Sender(LAMP, 2)))
    assert second is not None
    assert second.granted_expires > ends


@pytest.mark.requirement("MPLA-4.5-01")
@pytest.mark.parametrize("change", [{"upstream_label": STREET}, {"l3pid": 0x86DD}])
def test_a_known_path_that_turns_wrong_is_refused_and_gone(change: dict[str, int]) -> None:
    row = Row(Settings(is_reliable=False))
    circuit = row.light()
    wrong = replace(path_of(), **change)  # type: ignore[arg-type]
    row.router.receive_datagram(encode_message(wrong), LAMP, 0)
    row.run()
    assert row.of(ROUTER, CircuitRemoved) == [CircuitRemoved(circuit=circuit, cause=Cause.TORN)]
    assert [len(row.router), len(row.es)] == [0, 0]
    assert len(row.sent(PathErr)) == 1


def test_no_sender_has_the_address_of_all() -> None:
    row = Row(Settings(is_reliable=False))
    nobody = path_of(session=SHARED, lamp=IPv4Address(0))
    row.router.receive_datagram(encode_message(replace(nobody, hop=Hop(LAMP, 7))), LAMP, 0)
    row.run()
    (error,) = row.sent(PathErr)
    assert isinstance(error, PathErr)
    assert (error.error.code, error.error.value) == (252, 503)
    assert len(row.router) == 0
