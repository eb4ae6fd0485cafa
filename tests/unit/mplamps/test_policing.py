"""The policeman of a simulation, and the connections on which he is asked."""

from collections import Counter
from typing import NamedTuple

import pytest

from powertcp.mplamps.blotter import CircuitAdmitted, PepJoined, PepLeft, PolicemanEvent
from powertcp.mplamps.cops import PORT, Splitter, decode_message
from powertcp.mplamps.engine import Engine, EngineSettings
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import LampState, NodeSettings
from powertcp.mplamps.packet import Packet
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.recorder import Recorder
from powertcp.mplamps.script import parse_script
from powertcp.mplamps.tariffs import parse_market
from powertcp.registry import Flag
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.wire.capture import read_capture

STREET = generate_topology("street:2", has_pdp=True)
MARKET = """currency = "EUR"
default = "any"
supplier = [
  {id = 7, name = "Watt", sources = ["es1"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.2841/kWh"},
  ]},
]
"""


class Seen(NamedTuple):
    """A segment of TCP between an edge LSR and the policeman."""

    at_ms: float
    interface: str
    packet: Packet


class Beat:
    """A street with a policeman."""

    def __init__(self, script: str = "0s on *") -> None:
        self.capture = bytearray()
        self.told: list[PolicemanEvent] = []
        recorder = Recorder(STREET, capture=self.capture.extend)
        self.policeman = Policeman(STREET, parse_market(MARKET, "market", STREET), 0)
        settings = EngineSettings(node=NodeSettings())
        self.engine = Engine(STREET, 1, settings, recorder=recorder, policeman=self.policeman)
        self.engine.listen(lambda event, _: self.told.append(event))
        self.engine.play(parse_script(script, STREET))

    def until(self, seconds: float) -> Engine:
        self.engine.run(round(seconds * NS_PER_S))
        return self.engine

    def segments(self, interface: str = "h1--pdp") -> list[Seen]:
        found = list(read_capture(bytes(self.capture)))
        start = 1_017_619_200_000_000_000
        return [
            Seen((one.at_ns - start) / NS_PER_MS, one.interface, Packet.from_wire(one.octets))
            for one in found
            if one.interface == interface
        ]


def states(engine: Engine) -> set[LampState]:
    return {lamp.state for lamp in engine.lamps.values()}


@pytest.mark.requirement("MPLA-10-01")
def test_a_connection_begins_with_a_handshake_before_anybody_asks() -> None:
    beat = Beat()
    beat.until(1)
    first = beat.segments()[:4]
    flags = [one.packet.flags for one in first]
    assert flags == [Flag.SYN, Flag.SYN | Flag.ACK, Flag.ACK, Flag.ACK | Flag.PSH]
    assert [one.at_ms for one in first] == [0, 1, 2, 2]
    assert first[0].packet.destination_port == PORT
    assert first[0].packet.mss == first[1].packet.mss == 1400
    assert states(beat.engine) == {LampState.SIGNALLED}


def test_every_octet_is_numbered_and_acknowledged() -> None:
    beat = Beat("0s on *\n1s off lamp-1\n2s on lamp-1")
    beat.until(200)
    expected: dict[int, int] = {}
    messages: Counter[str] = Counter()
    splitters = {PORT: Splitter(), 0: Splitter()}
    segments = beat.segments()
    for _, _, packet in segments:
        side = PORT if packet.source_port == PORT else 0
        assert packet.seq == expected.get(side, packet.seq)
        expected[side] = packet.seq + packet.length
        if packet.flags & Flag.ACK and PORT - side in expected:
            assert packet.ack <= expected[PORT - side]
        for octets in splitters[side].receive(packet.payload):
            messages[type(decode_message(octets)).__name__] += 1
    assert segments[-1].packet.ack in expected.values()
    assert messages["ClientOpen"] == messages["ClientAccept"] == 1
    assert messages["Request"] == messages["Decision"]
    assert messages["DeleteRequest"] >= 1
    assert messages["KeepAlive"] > 10


def test_what_the_policeman_does_is_told() -> None:
    beat = Beat()
    beat.until(1)
    kinds = Counter(type(event) for event in beat.told)
    assert kinds[PepJoined] == 2
    assert kinds[CircuitAdmitted] == 2


def test_a_policeman_who_is_away_is_looked_for_and_found() -> None:
    beat = Beat("0s on *\n2s pdp-down\n6s pdp-up")
    beat.until(5)
    assert states(beat.engine) == {LampState.SIGNALLED}
    assert beat.policeman.peps == ()
    assert {type(event) for event in beat.told} >= {PepLeft}
    segments = beat.segments()
    resets = [one.at_ms for one in segments if one.packet.flags & Flag.RST]
    # the one that was open, and tries 1 s and then 2 s after
    assert resets[0] == 2000
    assert [round(at) for at in resets[1:]] == [3002, 5003][: len(resets) - 1]
    beat.until(60)
    assert len(beat.policeman.peps) == 2
    assert len(beat.policeman) == 2
    assert states(beat.engine) == {LampState.SIGNALLED}


def test_a_policeman_is_taken_down_and_brought_up_once() -> None:
    beat = Beat("0s on *\n2s pdp-down\n2s pdp-down\n2.5s pdp-up\n2.5s pdp-up")
    beat.until(30)
    assert len(beat.policeman.peps) == 2


def test_an_edge_that_crashes_resets_its_connection_and_comes_again() -> None:
    beat = Beat("0s on *\n2s crash h1\n4s restart h1")
    beat.until(3)
    assert len(beat.policeman.peps) == 1
    reset = [one for one in beat.segments() if one.packet.flags & Flag.RST]
    assert [one.at_ms for one in reset] == [2000]
    beat.until(5)
    assert len(beat.policeman.peps) == 2


def test_a_new_price_reaches_the_lamps() -> None:
    beat = Beat("0s on *\n2s price 7 0.40")
    engine = beat.until(5)
    node = engine.node("lamp-1")
    assert node is not None
    (row,) = node.tunnels()
    assert row.quote is not None
    assert row.quote.price == 400_000
