"""A network stands: a policeman who comes back, a supplier who is gone, a move of a hundred lamps."""

import json
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypeVar

import pytest

from powertcp.mplamps.engine import Engine, EngineSettings
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.lfib import Drop
from powertcp.mplamps.node import LampChanged, LampState, NodeEvent, NodeSettings
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.recorder import Recorder
from powertcp.mplamps.rsvp import (
    Path,
    PathErr,
    PathTear,
    RouteHop,
    Sender,
    Style,
    decode_message,
    encode_message,
)
from powertcp.mplamps.script import parse_script
from powertcp.mplamps.tariffs import parse_market
from powertcp.mplamps.topology import Topology
from powertcp.mplamps.wires import Wire
from powertcp.units import NS_PER_MS, NS_PER_S
from tests.standing import check_powers, leftovers

MessageT = TypeVar("MessageT")
MARKET = """
currency = "EUR"
default = "any"
[[supplier]]
id = 7
name = "Watt and Sons"
sources = ["es1"]
capacity = "2MW"
prices = [{at = "00:00", price = "0.2100/kWh"}]
"""
# the first octet but one of a message of COPS
REQ, DRQ, SSQ, SSC = 1, 4, 5, 10


class Town:
    """A simulated network, what its lamps have told, and each message of RSVP."""

    def __init__(self, topology: str | Topology, script: str, *, has_pdp: bool = False) -> None:
        if isinstance(topology, str):
            topology = generate_topology(topology, has_pdp=has_pdp)
        self.topology = topology
        self.trace = bytearray()
        self.police = (
            Policeman(topology, parse_market(MARKET, "m", topology), 0) if has_pdp else None
        )
        self.engine = Engine(
            topology, 1, EngineSettings(node=NodeSettings()), policeman=self.police,
            recorder=Recorder(topology, trace=self.trace.extend),
        )  # fmt: skip
        self.changes: list[LampChanged] = []
        self.said: list[tuple[int, Wire, bytes]] = []
        self.engine.watch = self.note
        self.engine.observe = lambda wire, octets, now: self.said.append((now, wire, octets))
        self.engine.play(parse_script(script, topology))

    def note(self, _name: str, event: NodeEvent, _now: int) -> None:
        if isinstance(event, LampChanged):
            self.changes.append(event)

    def until(self, seconds: float) -> Engine:
        while self.engine.step(64, round(seconds * NS_PER_S)):
            check_powers(self.engine, Style.SE)
        return self.engine

    def states(self) -> Counter[LampState]:
        return Counter(lamp.state for lamp in self.engine.lamps.values())

    def asked(self) -> Counter[int]:
        """Return how many messages of each type were said between edge LSRs and policeman."""
        lines = [line for line in bytes(self.trace).split(b"\x1e") if b'"cops:' in line]
        events = [json.loads(line) for line in lines]
        return Counter(int(event["data"]["hex"][2:4], 16) for event in events)

    def tables(self) -> dict[str, list[str]]:
        return {node.name: node.label_table() for node in self.engine.nodes()}

    def heard(self, kind: type[MessageT], since: int = 0) -> list[tuple[int, Wire, MessageT]]:
        found = [(at, wire, decode_message(octets).message) for at, wire, octets in self.said]
        return [(at, wire, one) for at, wire, one in found if isinstance(one, kind) and at >= since]


# ---- the policeman ----------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-6-02")
def test_a_policeman_who_is_killed_and_started_again_finds_all_lamps_lit() -> None:
    town = Town("street:6", "0s on *\n5s pdp-down\n20s pdp-up", has_pdp=True)
    town.until(4.9)
    assert town.states() == {LampState.SIGNALLED: 6}
    before, changed = town.asked(), len(town.changes)
    town.until(60)
    assert town.states() == {LampState.SIGNALLED: 6}
    assert len(town.changes) == changed
    after = town.asked()
    # each of six edge LSRs has one circuit
    assert {kind: after[kind] - before[kind] for kind in (REQ, DRQ, SSQ, SSC)} == {
        REQ: 6, DRQ: 0, SSQ: 6, SSC: 6,
    }  # fmt: skip
    assert town.police is not None
    assert len(town.police) == 6


@pytest.mark.requirement("MPLA-6-02")
def test_without_policeman_what_he_said_last_holds_for_a_while_and_then_nobody_is_let_in() -> None:
    script = "0s on lamp-1\n5s pdp-down\n10s off lamp-1\n12s on lamp-1\n400s off lamp-1\n420s on *"
    town = Town("street:2", script, has_pdp=True)
    town.until(30)
    assert town.engine.lamps["lamp-1"].state is LampState.SIGNALLED
    town.until(440)
    assert town.states() == {LampState.DARK: 2}
    refusals = [lamp.refusal for lamp in town.engine.lamps.values()]
    assert [refusal.code for refusal in refusals if refusal] == [206, 206]
    assert leftovers_without_tunnels(town.engine) == []


@pytest.mark.requirement("MPLA-6-04")
def test_a_supplier_who_is_bankrupt_leaves_his_lamps_dark_and_nothing_else() -> None:
    town = Town("street:3", "0s on *", has_pdp=True)
    engine = town.until(5)
    assert town.states() == {LampState.SIGNALLED: 3}
    assert town.police is not None
    town.police.withdraw(7, engine.now)
    engine.do(parse_script("0s pdp-up", town.topology)[0])
    town.until(8)
    assert LampState.SIGNALLED not in town.states()
    codes = {change.refusal.code for change in town.changes if change.refusal is not None}
    assert codes == {104}
    engine.do(parse_script("0s off *", town.topology)[0])
    town.until(200)
    assert leftovers(engine) == []
    assert len(town.police) == 0


def leftovers_without_tunnels(engine: Engine) -> list[str]:
    return [row for row in leftovers(engine) if "tunnels" not in row]


# ---- a move of all lamps ----------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.9-02")
@pytest.mark.requirement("MPLA-5-03")
def test_a_hundred_lamps_migrate_and_none_gets_dark() -> None:
    town = Town("tree:2,5,10", "0s on *\n5s migrate *\n30s migrate * overlay")
    town.until(4.9)
    assert town.states() == {LampState.SIGNALLED: 100}
    overlay, changed = town.tables(), len(town.changes)
    town.until(29)
    assert town.states() == {LampState.SIGNALLED: 100}
    assert {change.state for change in town.changes[changed:]} == {LampState.SIGNALLED}
    peer = town.tables()
    assert {
        name: [row.replace("/2 ", "/1 ") for row in rows] for name, rows in peer.items()
    } == overlay
    moved = {change.circuit: change.at for change in town.changes[changed:] if change.circuit}
    assert len(moved) == 100
    tears = [
        (at, said) for at, wire, said in town.heard(PathTear, 5 * NS_PER_S)
        if wire.source.startswith("lamp")
    ]  # fmt: skip
    firsts = {said.session: at for at, said in reversed(tears)}
    assert len(firsts) == 100
    for circuit, at in moved.items():
        assert firsts[circuit.session] == at + NS_PER_S
    routes = [
        path.route for _, wire, path in town.heard(Path, 5 * NS_PER_S) if wire.source == "lamp-1"
    ]
    assert routes
    assert all(routes)
    town.until(60)
    assert town.states() == {LampState.SIGNALLED: 100}


# ---- volts, and routes that go round ------------------------------------------------------------------


@pytest.mark.requirement("MPLA-2.2-02")
def test_a_packet_of_380_kv_is_kept_from_a_lamp() -> None:
    town = Town("street:1", "0s on *")
    engine = town.until(3)
    lamp = engine.node("lamp-1")
    assert lamp is not None
    [row] = lamp.tunnels()
    end = lamp.open_stream(row.number, engine.now)
    packets: list[bytes] = []
    engine.settle("lamp-1")
    engine.run(4 * NS_PER_S)
    link = town.topology.links_of("lamp-1")[0].number
    flow = 16
    packets = [(label << 12 | 0x640).to_bytes(4) + (flow << 12 | 0x740).to_bytes(4) for label in (
        400_000, 380_000, 400, 231)]  # fmt: skip
    before = engine.node("lamp-1").lfib.drops[Drop.WRONG_VOLTAGE]  # type: ignore[union-attr]
    for stack in packets:
        assert lamp.receive_packet(link, stack + bytes(40), engine.now) is None
        engine.settle("lamp-1")
    assert lamp.lfib.drops[Drop.WRONG_VOLTAGE] == before + len(packets)
    town.until(10)
    assert lamp.lamp_state is LampState.SIGNALLED
    assert end.state.name == "ESTABLISHED"


@pytest.mark.requirement("MPLA-4.5-05")
@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_route_that_goes_round_ends_and_leaves_nothing(*, is_recorded: bool) -> None:
    """A ring of five, twice around: with a record it is a loop, without one it is replaced."""
    town = Town("ring:5", "0s on lamp-1")
    engine = town.until(2)
    real = next(path for _, wire, path in town.heard(Path) if wire.source == "lamp-1")
    hops = around(town.topology, "lamp-1", 14)
    path = replace(
        real, message_id=None, acks=(), sender=Sender(real.sender.lamp, 77), route=hops,
        record=real.record if is_recorded else (),
    )  # fmt: skip
    edge = town.topology.at(hops[0].node)
    assert edge is not None
    node = engine.node(edge.name)
    assert node is not None
    began = engine.now
    node.receive_rsvp(real.hop.link, encode_message(path), engine.now)
    engine.settle(edge.name)
    town.until(10)
    errors = [said for _, _, said in town.heard(PathErr, began)]
    assert {(one.error.code, one.error.value) for one in errors} == {
        (24, 7) if is_recorded else (24, 1)
    }
    assert engine.lamps["lamp-1"].state is LampState.SIGNALLED
    engine.do(parse_script("0s off *", town.topology)[0])
    # nobody refreshes the forged one
    town.until(300)
    assert leftovers(engine) == []


def around(topology: Topology, lamp: str, count: int) -> tuple[RouteHop, ...]:
    """Return the edge LSR of a lamp and then the ring, on and on."""
    names = [topology.links_of(lamp)[0].other(lamp)]
    before = lamp
    while len(names) < count:
        here = names[-1]
        others = [link.other(here) for link in topology.links_of(here)]
        ways = [
            name for name in others
            if name != before and topology.node(name).kind.is_lsr
            and not topology.is_edge(name)
        ]  # fmt: skip
        before = here
        names.append(ways[0])
    return tuple(RouteHop(IPv4Address(int(topology.node(name).address))) for name in names)


# ---- who says that it starts, and numbers of before ----------------------------------------------------


@pytest.mark.requirement("MPLA-4.7-03")
def test_what_was_said_before_says_nothing_when_it_is_said_again() -> None:
    """Each message of a lamp's life is replayed after it: late PATHs raise nothing."""
    town = Town("street:2", "0s on *\n2s off lamp-1")
    engine = town.until(3)
    kept = [(wire, octets) for _, wire, octets in town.said]
    tables = town.tables()
    for wire, octets in kept:
        node = engine.node(wire.target)
        assert node is not None
        node.receive_rsvp(wire.number, octets, engine.now)
        engine.settle(wire.target)
    engine.run(engine.now + 100 * NS_PER_MS)
    assert town.tables() == tables
    assert engine.lamps["lamp-1"].state is LampState.DARK
    assert engine.lamps["lamp-2"].state is LampState.SIGNALLED
