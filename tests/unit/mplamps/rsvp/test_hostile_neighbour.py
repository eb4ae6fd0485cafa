"""A neighbour that says what it may not: what it can take from others, and how much it can grow."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp import (
    Acknowledgement,
    Attribute,
    ErrorSpec,
    ForeignObject,
    Hop,
    Message,
    MessageId,
    Path,
    PathErr,
    PathTear,
    RecordedHop,
    Resv,
    ResvErr,
    ResvTear,
    RouteHop,
    Sendable,
    Sender,
    Session,
    Srefresh,
    Style,
    TokenBucket,
    decode_message,
    encode_message,
    wire,
)
from powertcp.mplamps.rsvp.events import CircuitId, CircuitRemoved, LinkTo, PathArrived
from powertcp.mplamps.rsvp.machine import Rsvp
from powertcp.mplamps.rsvp.messages import Circuit
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.rsvp.state import (
    MAX_REFRESH_MS,
    MIN_REFRESH_MS,
    Circuits,
    CircuitState,
    lifetime_ns,
)
from powertcp.mplamps.rsvp.verdict import MAX_CIRCUITS
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_MS, NS_PER_S

ES, HOUSE = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.4")
ADA, EVE = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6")
TO_ES, TO_ADA, TO_EVE = 1, 2, 3
REQUEST = PowerProfile.parse("230V/260mA@50Hz")
GRANT = replace(REQUEST, type=ProfileType.GRANT)
TSPEC = TokenBucket(17585, 2880, 17585, 40, 1440)
NOBODY = IPv4Address(0)


def path_of(
    lamp: IPv4Address, *, link: int, session: Session | None = None, sender: Sender | None = None
) -> Path:
    return Path(
        session=session or Session(ES, 1, lamp),
        hop=Hop(lamp, link),
        refresh_ms=30_000,
        attribute=Attribute(4, 4, 4, "lamp"),
        sender=sender or Sender(lamp, 1),
        tspec=TSPEC,
        upstream_label=230,
        flow_label=16,
        power=PowerObject.make(REQUEST),
    )


class House:
    """An edge LSR with two lamps; what it is told, and what it says."""

    def __init__(self, settings: Settings | None = None) -> None:
        links = {
            TO_ES: LinkTo(ES, 400),
            TO_ADA: LinkTo(ADA, 230, is_lamp=True),
            TO_EVE: LinkTo(EVE, 230, is_lamp=True),
        }
        self.now = 0
        how = settings or Settings(is_reliable=False)
        self.rsvp = Rsvp(HOUSE, links, how, lambda count: bytes(count), 0)

    def hear(self, who: IPv4Address, message: Sendable, ttl: int = 64) -> list[object]:
        """Take a message; return the events, PATHs forwarded."""
        return self.hear_octets(who, encode_message(message, ttl))

    def hear_octets(self, who: IPv4Address, octets: bytes) -> list[object]:
        self.rsvp.receive_datagram(octets, who, self.now)
        events: list[object] = []
        while (event := self.rsvp.next_event()) is not None:
            events.append(event)
            if isinstance(event, PathArrived):
                self.rsvp.forward(
                    event.circuit, TO_ES, flow_label=30, route=(),
                    power=event.path.power, now=self.now,
                )  # fmt: skip
        return events

    def says(self) -> list[tuple[int, Message]]:
        found = self.rsvp.datagrams_to_send()
        return [(link, decode_message(octets).message) for octets, link in found]

    def light(self, lamp: IPv4Address, link: int) -> CircuitId:
        """Close a circuit of a lamp."""
        path = path_of(lamp, link=link)
        circuit = CircuitId(path.session, path.sender)
        self.hear(lamp, path)
        self.hear(ES, resv_of(circuit))
        self.rsvp.answer(circuit, flow_label=50, power=PowerObject.make(GRANT), now=self.now)
        self.says()
        return circuit

    def pass_time(self, seconds: float) -> None:
        end = self.now + round(seconds * NS_PER_S)
        while (at := self.rsvp.get_timer()) is not None and at <= end:
            self.now = max(self.now, at)
            self.rsvp.handle_timer(self.now)
            self.says()
            while self.rsvp.next_event() is not None:
                pass
        self.now = end


def resv_of(circuit: CircuitId, who: IPv4Address = ES, link: int = TO_ES) -> Resv:
    row = Circuit(sender=circuit.sender, flow_label=40, power=PowerObject.make(GRANT))
    return Resv(
        session=circuit.session, hop=Hop(who, link), refresh_ms=30_000, style=Style.SE,
        flowspec=TSPEC, circuits=(row,),
    )  # fmt: skip


# ---- the circuits of others -----------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.5-08")
@pytest.mark.parametrize("kind", ["tear", "resv-tear", "path-err", "resv-err", "resv"])
def test_a_lamp_cannot_touch_the_circuit_of_another(kind: str) -> None:
    house = House()
    circuit = house.light(ADA, TO_ADA)
    session, sender = circuit
    hop, refusal = Hop(EVE, TO_EVE), ErrorSpec.refusal(EVE, 3, 0)
    forged: dict[str, Sendable] = {
        "tear": PathTear(session=session, hop=hop, sender=sender, tspec=TSPEC),
        "resv-tear": ResvTear(session=session, hop=hop, style=Style.SE, sender=sender),
        "path-err": PathErr(session=session, error=refusal, sender=sender, tspec=TSPEC),
        "resv-err": ResvErr(
            session=session, hop=hop, error=refusal, style=Style.SE, flowspec=TSPEC, sender=sender
        ),
        "resv": replace(resv_of(circuit, EVE, TO_EVE), circuits=(
            Circuit(sender=sender, flow_label=77, power=PowerObject.make(GRANT)),
        )),
    }  # fmt: skip
    assert house.hear(EVE, forged[kind]) == []
    assert all(link == TO_EVE for link, _ in house.says())
    state = house.rsvp.state(circuit)
    assert state is not None
    assert (state.in_link, state.out_link) == (TO_ADA, TO_ES)
    assert state.granted is not None
    assert state.granted.flow_label == 40
    assert state.passed is not None


@pytest.mark.requirement("MPLA-4.5-02")
def test_a_lamp_cannot_take_the_place_of_another() -> None:
    """A PATH in the name of another lamp would replace its circuit, and get its power."""
    house = House()
    circuit = house.light(ADA, TO_ADA)
    stolen = path_of(EVE, link=TO_EVE, session=circuit.session, sender=circuit.sender)
    assert house.hear(EVE, stolen) == []
    ((link, said),) = house.says()
    assert isinstance(said, PathErr)
    assert (link, said.error.code, said.error.value) == (TO_EVE, 2, 0)
    state = house.rsvp.state(circuit)
    assert state is not None
    assert state.in_link == TO_ADA


@pytest.mark.requirement("MPLA-4.6-01")
def test_a_lamp_cannot_share_the_session_of_another() -> None:
    """Circuits of one session count once: it would have power that nobody has reserved."""
    house = House()
    circuit = house.light(ADA, TO_ADA)
    guest = path_of(EVE, link=TO_EVE, session=circuit.session)
    assert house.hear(EVE, guest) == []
    assert len(house.rsvp) == 1
    shared = path_of(EVE, link=TO_EVE, session=Session(ES, 1, NOBODY))
    assert [type(event) for event in house.hear(EVE, shared)] == [PathArrived]


def test_a_router_may_send_the_circuit_of_a_lamp_another_way() -> None:
    """What a lamp may not, a router has to: after a crank-back the PATH comes on another link."""
    links = {1: LinkTo(ES, 400), 2: LinkTo(ADA, 400), 3: LinkTo(EVE, 400)}
    rsvp = Rsvp(HOUSE, links, Settings(is_reliable=False), bytes, 0)
    for who, link in ((ADA, 2), (EVE, 3)):
        path = replace(path_of(who, link=link), upstream_label=400)
        path = replace(path, session=Session(ES, 1, ADA), sender=Sender(ADA, 1))
        rsvp.receive_datagram(encode_message(path), who, 0)
    events = []
    while (event := rsvp.next_event()) is not None:
        events.append(event)
    assert [type(event) for event in events] == [PathArrived, CircuitRemoved, PathArrived]


# ---- routes and records that go round --------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.5-05")
def test_a_record_that_names_this_node_is_a_loop() -> None:
    house = House()
    path = replace(path_of(ADA, link=TO_ADA), record=(RecordedHop(ES), RecordedHop(HOUSE)))
    assert house.hear(ADA, path) == []
    ((_, said),) = house.says()
    assert isinstance(said, PathErr)
    assert (said.error.code, said.error.value) == (24, 7)


@pytest.mark.requirement("MPLA-4.3-05")
@pytest.mark.parametrize(("hops", "is_lawful"), [(32, True), (33, False)])
def test_a_route_has_at_most_32_hops(hops: int, is_lawful: bool) -> None:
    house = House()
    far = tuple(RouteHop(IPv4Address(f"10.9.0.{number}")) for number in range(1, hops + 1))
    octets = encode_message(replace(path_of(ADA, link=TO_ADA), route=far[:32]))
    if not is_lawful:
        # one more subobject in the ERO, and the lengths that go with it
        at = octets.index(bytes((20, 1))) - 2
        size = int.from_bytes(octets[at : at + 2], "big")
        hop = far[-1].node.packed
        octets = (
            octets[:2] + bytes(2) + octets[4:6] + (len(octets) + 8).to_bytes(2, "big")
            + octets[8:at] + (size + 8).to_bytes(2, "big") + octets[at + 2 : at + size]
            + bytes((1, 8)) + hop + bytes((32, 0)) + octets[at + size :]
        )  # fmt: skip
    assert len(house.hear_octets(ADA, octets)) == is_lawful
    assert len(house.rsvp) == is_lawful


# ---- what it can grow -----------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.7-02")
@pytest.mark.parametrize(("refresh_ms", "counts_as"), [
    (0, MIN_REFRESH_MS), (30_000, 30_000), (MAX_REFRESH_MS, MAX_REFRESH_MS),
    (MAX_REFRESH_MS + 1, MAX_REFRESH_MS), ((1 << 32) - 1, MAX_REFRESH_MS),
])  # fmt: skip
def test_no_refresh_is_so_rare_that_state_lasts_for_months(refresh_ms: int, counts_as: int) -> None:
    assert lifetime_ns(refresh_ms) == counts_as * NS_PER_MS * 21 // 4
    house = House()
    house.hear(ADA, replace(path_of(ADA, link=TO_ADA), refresh_ms=refresh_ms))
    state = house.rsvp.state(CircuitId(Session(ES, 1, ADA), Sender(ADA, 1)))
    assert state is not None
    assert state.expires == lifetime_ns(refresh_ms)
    house.pass_time(lifetime_ns(MAX_REFRESH_MS) / NS_PER_S + 60)
    assert (len(house.rsvp), house.rsvp.get_timer()) == (0, None)


@pytest.mark.requirement("MPLA-4.7-02")
@pytest.mark.requirement("MPLA-4.5-08")
def test_a_period_that_becomes_shorter_counts_at_once() -> None:
    house = House()
    path = replace(path_of(ADA, link=TO_ADA), refresh_ms=MAX_REFRESH_MS)
    circuit = CircuitId(path.session, path.sender)
    house.hear(ADA, path)
    house.hear(ES, replace(resv_of(circuit), refresh_ms=MAX_REFRESH_MS))
    house.rsvp.answer(circuit, flow_label=50, power=PowerObject.make(GRANT), now=0)
    house.says()
    # 3.5 * 1.5 * 10 s = 52.5 s, and twice that
    house.hear(ES, replace(resv_of(circuit), refresh_ms=10_000))
    house.hear(ADA, replace(path, refresh_ms=20_000))
    house.pass_time(52)
    state = house.rsvp.state(circuit)
    assert state is not None
    assert state.granted is not None
    house.pass_time(1)
    assert state.granted is None
    house.pass_time(51)
    assert len(house.rsvp) == 1
    house.pass_time(2)
    assert len(house.rsvp) == 0


@pytest.mark.requirement("MPLA-4.10-03")
def test_a_node_refuses_the_circuit_after_the_hundred_thousandth() -> None:
    """With all of them there, in octets: a neighbour says what it likes."""
    links = {1: LinkTo(ES, 400)}
    rsvp = Rsvp(HOUSE, links, Settings(is_reliable=False), bytes, 0)
    octets = bytearray(encode_message(replace(path_of(ES, link=1), upstream_label=400)))
    octets[2:4] = bytes(2)
    for number in range(MAX_CIRCUITS + 1):
        # tunnel id and extended tunnel id, in the SESSION after the header
        octets[18:24] = (0x0001_0B000000 + (number % 50_000 << 32) + number // 50_000).to_bytes(6)
        rsvp.receive_datagram(bytes(octets), ES, 0)
    assert len(rsvp) == MAX_CIRCUITS
    assert rsvp.drops == {"limit": 1}
    ((answer, _),) = rsvp.datagrams_to_send()
    said = decode_message(answer).message
    assert isinstance(said, PathErr)
    assert (said.error.code, said.error.value) == (24, 9)


def test_a_circuit_that_changes_all_the_time_is_looked_at_once() -> None:
    """Each PATH of another label is a new circuit; what was of the old one must not pile up."""
    circuits = Circuits()
    states: list[CircuitState] = []
    for turn in range(10_000):
        state = CircuitState(CircuitId(Session(ES, 1, ADA), Sender(ADA, 1)), PATH, TO_ADA, 64)
        if states:
            circuits.remove(states[-1])
        circuits.add(state)
        states.append(state)
        circuits.expect(state, 1_000_000 + turn)
        # granted again and again
        circuits.expect(state, 2_000_000 + turn)
    assert circuits.entries <= 2_000
    assert circuits.next_end() == 1_009_999
    assert list(circuits.due(3_000_000)) == [states[-1]]
    assert (circuits.entries, circuits.next_end()) == (0, None)


def test_a_circuit_granted_again_and_again_has_one_deadline() -> None:
    house = House()
    circuit = house.light(ADA, TO_ADA)
    tear = ResvTear(
        session=circuit.session, hop=Hop(ES, TO_ES), style=Style.SE, sender=circuit.sender
    )
    for _ in range(500):
        house.hear(ES, tear)
        house.hear(ES, resv_of(circuit))
        house.says()
    woken = 0
    while (at := house.rsvp.get_timer()) is not None and len(house.rsvp):
        house.now = at
        house.rsvp.handle_timer(at)
        house.says()
        woken += 1
    assert woken < 40


@pytest.mark.requirement("MPLA-4.7-04")
def test_a_summary_of_unknown_numbers_is_answered_and_nothing_is_kept() -> None:
    house = House(Settings())
    numbers = tuple(range(1, 365))
    for _ in range(50):
        assert house.hear(EVE, Srefresh(epoch=9, numbers=numbers)) == []
    house.pass_time(1)
    neighbour = house.rsvp.neighbours[TO_EVE]
    assert (len(house.rsvp), neighbour.states, neighbour.waiting) == (0, 0, 0)
    assert house.rsvp.get_timer() is None


def test_acknowledgements_of_what_was_never_sent_change_nothing() -> None:
    house = House(Settings())
    acks = tuple(Acknowledgement(0, number, is_nack=bool(number % 2)) for number in range(8))
    circuit = house.light(ADA, TO_ADA)
    path = replace(path_of(EVE, link=TO_EVE), message_id=MessageId(7, 1), acks=acks)
    house.hear(EVE, path)
    assert len(house.rsvp) == 2
    assert house.rsvp.state(circuit) is not None


PATH = path_of(ADA, link=TO_ADA)


# ---- what does not fit, and what comes together -----------------------------------------------------


def long_path(octets: int, *, hops: int = 0) -> Path:
    """Return a PATH with an object that is forwarded unexamined, as long as a peer may send it."""
    far = tuple(RecordedHop(IPv4Address(f"10.9.0.{number}"), 20_000, 0) for number in range(hops))
    return replace(
        path_of(ADA, link=TO_ADA), others=(ForeignObject(200, 1, bytes(octets)),), record=far
    )


def unlimited(message: Sendable) -> bytes:
    """Encode what is longer than we send."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "MAX_SENT", wire.MAX_RECEIVED)
        return encode_message(message)


@pytest.mark.requirement("MPLA-4.1-01")
@pytest.mark.parametrize(
    ("octets", "hops", "has_record", "has_others"),
    [
        (1_000, 0, False, True), (1_300, 0, False, True), (3_500, 0, False, False),
        (500, 8, True, True), (1_000, 31, False, True), (1_400, 31, False, False),
    ],
)  # fmt: skip
def test_a_path_that_grows_too_long_goes_on_without_what_others_put_in(
    octets: int, hops: int, has_record: bool, has_others: bool
) -> None:
    house = House()
    events = house.hear_octets(ADA, unlimited(long_path(octets, hops=hops)))
    assert [type(event) for event in events] == [PathArrived]
    ((link, onward),) = house.says()
    assert isinstance(onward, Path)
    assert (link, bool(onward.record), bool(onward.others)) == (TO_ES, has_record, has_others)


@pytest.mark.requirement("MPLA-4.3-05")
def test_what_is_granted_to_eight_senders_with_long_records_fits_without_them() -> None:
    house = House()
    record = tuple(RecordedHop(IPv4Address(f"10.9.0.{number}"), 20_000, 0) for number in range(20))
    for lsp in range(1, 9):
        path = path_of(ADA, link=TO_ADA, sender=Sender(ADA, lsp))
        house.hear(ADA, replace(path, record=(RecordedHop(ADA, 230, 0),)))
        circuit = CircuitId(path.session, path.sender)
        resv = resv_of(circuit)
        house.hear(ES, replace(resv, circuits=(replace(resv.circuits[0], record=record),)))
        house.rsvp.answer(circuit, flow_label=50, power=PowerObject.make(GRANT), now=0)
    said = [message for _, message in house.says() if isinstance(message, Resv)]
    assert [len(message.circuits) for message in said] == list(range(1, 9))
    assert said[0].circuits[0].record
    assert not said[-1].circuits[0].record


def bundle(*messages: Sendable) -> bytes:
    body = b"".join(encode_message(message) for message in messages)
    return bytes((0x11, 12, 0, 0, 64, 0)) + (8 + len(body)).to_bytes(2) + body


@pytest.mark.requirement("MPLA-4.2-03")
def test_a_circuit_that_is_torn_in_the_bundle_that_asks_for_it_leaves_nothing() -> None:
    """The node is told of one message after another: what it answers is still there."""
    house = House()
    path = path_of(ADA, link=TO_ADA)
    tear = PathTear(session=path.session, hop=path.hop, sender=path.sender, tspec=TSPEC)
    events = house.hear_octets(ADA, bundle(path, tear, path, replace(path, flow_label=17), tear))
    assert [type(event) for event in events] == [
        PathArrived, CircuitRemoved, PathArrived, CircuitRemoved, PathArrived, CircuitRemoved,
    ]  # fmt: skip
    assert len(house.rsvp) == 0
    said = [type(message) for _, message in house.says()]
    assert said == [Path, PathTear, Path, Path, PathTear]
