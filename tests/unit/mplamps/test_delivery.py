"""Inner connections through circuits of real nodes: they open, move with the circuit, and end."""

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.delivery import Delivery
from powertcp.mplamps.node import StreamCut, StreamOpened, StreamTimedOut
from powertcp.mplamps.packet import Packet
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Sender, Session, Style
from powertcp.mplamps.tcp import Endpoint, Opened, State
from powertcp.profile import PowerProfile
from powertcp.registry import Flag
from powertcp.units import NS_PER_MS
from tests.mplamps_network import SECOND, Network, dice

REQUEST = PowerProfile.parse("230V/260mA@50Hz")


class Talk:
    """A lamp with a connection to its source."""

    def __init__(self) -> None:
        self.network = Network("street:2")
        self.tunnel = self.network.on("lamp-1")
        self.network.run()
        self.lamp, self.source = self.network.nodes["lamp-1"], self.network.nodes["es1"]
        self.end = self.lamp.open_stream(self.tunnel, self.network.now)
        self.network.settle("lamp-1")
        self.network.run()
        [opened] = [event for event in self.network.drain("es1") if isinstance(event, StreamOpened)]
        self.opened = opened
        self.other: Endpoint = opened.end

    def send(self, octets: bytes) -> None:
        self.end.send(octets, self.network.now)
        self.lamp.flush_ends(self.network.now, self.end)
        self.network.settle("lamp-1")

    def answer(self, octets: bytes) -> None:
        self.other.send(octets, self.network.now)
        self.source.flush_ends(self.network.now)
        self.network.settle("es1")


def taps(network: Network, name: str) -> int:
    """Return the packets that have passed a node."""
    return sum(row.packets for row in network.nodes[name].circuits(network.now))


@pytest.mark.requirement("MPLA-9-04")
def test_octets_pass_both_ways_through_all_routers() -> None:
    talk = Talk()
    assert talk.opened.lamp == talk.lamp.address
    assert talk.opened.circuit.session.lamp == talk.lamp.address
    assert talk.other.next_event() == Opened(request=REQUEST)
    talk.send(b"power?" * 1000)
    talk.network.run()
    assert talk.other.read() == b"power?" * 1000
    talk.answer(b"power!" * 1000)
    talk.network.run()
    assert talk.end.read() == b"power!" * 1000
    assert taps(talk.network, "s1") == taps(talk.network, "c1") > 10
    assert sum(talk.network.nodes["c1"].lfib.drops.values()) == 0
    assert talk.lamp.tunnel_of(talk.end) == talk.tunnel


@pytest.mark.requirement("MPLA-3-05")
def test_a_source_is_silent_until_the_lamp_has_spoken() -> None:
    network = Network("street:1")
    network.on("lamp-1")
    network.run(10 * SECOND)
    assert [taps(network, name) for name in ("es1", "s1", "c1", "h1")] == [0, 0, 0, 0]


@pytest.mark.requirement("MPLA-2.2-03")
def test_packets_have_the_traffic_class_of_their_circuit() -> None:
    network = Network("tree:1,1")
    tunnel = network.nodes["lamp-1"].switch_on(PowerProfile.parse("230V/1A@50Hz,prio=5"), 0)
    network.settle("lamp-1")
    network.run()
    lamp = network.nodes["lamp-1"]
    lamp.open_stream(tunnel, network.now)
    [(_, packet)] = lamp.packets_to_send()
    assert (packet[2] >> 1 & 7, packet[6] >> 1 & 7) == (5, 5)
    assert (packet[3], packet[7]) == (64, 64)


@pytest.mark.requirement("MPLA-4.9-01")
@pytest.mark.requirement("MPLA-4.9-02")
def test_a_connection_moves_with_its_circuit_and_loses_nothing() -> None:
    talk = Talk()
    network = talk.network
    network.sever("es1", "s1")
    for number in range(200):
        talk.send(b"%6d" % number)
        talk.answer(b"%6d" % number)
        network.run(10 * NS_PER_MS)
    expected = b"".join(b"%6d" % number for number in range(200))
    assert talk.other.read() == expected
    assert talk.end.read() == expected
    assert taps(network, "s2") > 300
    assert network.nodes["s1"].circuits(network.now) == [], "torn after a second"


@pytest.mark.requirement("MPLA-4.9-02")
def test_a_source_answers_on_the_circuit_of_the_newest_packet() -> None:
    lamp, source = (Network("tree:1,1").nodes[name].address for name in ("lamp-1", "es1"))
    delivery = Delivery(source, dice("es"), is_source=True)
    old, new = (CircuitId(Session(source, 1, lamp), Sender(lamp, lsp)) for lsp in (1, 2))
    delivery.add_way(old, 1, (400, 16), 3)
    other = Endpoint(lamp, 49_152, 5)
    other.connect(source, REQUEST, 0)
    [syn] = other.packets_to_send()
    end = delivery.receive(old, syn, 0)
    assert end is not None
    [(link, answer)] = delivery.packets_to_send()
    assert link == 1
    other.receive_packet(answer[8:], 0)
    delivery.add_way(new, 2, (400, 17), 3)
    for circuit, expected in ((old, 1), (new, 2), (old, 1)):
        other.send(b"octets", 0)
        for packet in other.packets_to_send():
            assert delivery.receive(circuit, packet, 0) is end
        assert {link for link, _ in delivery.packets_to_send()} == {expected}
        end.send(b"more", 0)
        delivery.flush(end)
        assert {link for link, _ in delivery.packets_to_send()} == {expected}
    delivery.remove_way(old, 0)
    end.send(b"more", 0)
    delivery.flush(end)
    assert {link for link, _ in delivery.packets_to_send()} == {2}, "what is left"


@pytest.mark.requirement("MPLA-9-04")
def test_a_circuit_carries_one_connection() -> None:
    talk = Talk()
    network = talk.network
    with pytest.raises(LocalProtocolError, match="one connection"):
        talk.lamp.open_stream(talk.tunnel, network.now)
    talk.end.abort()
    talk.lamp.flush_ends(network.now, talk.end)
    network.settle("lamp-1")
    network.run()
    assert talk.other.state is State.CLOSED
    again = talk.lamp.open_stream(talk.tunnel, network.now)
    network.settle("lamp-1")
    network.run()
    assert again.state is State.ESTABLISHED


def test_no_stream_without_a_circuit() -> None:
    network = Network("tree:1,1")
    tunnel = network.on("lamp-1")
    with pytest.raises(LocalProtocolError, match="requesting"):
        network.nodes["lamp-1"].open_stream(tunnel, network.now)


def test_an_end_without_a_circuit_is_cut_after_two_seconds() -> None:
    talk = Talk()
    network = talk.network
    talk.lamp.switch_off(talk.tunnel, network.now)
    network.settle("lamp-1")
    network.run(SECOND)
    assert talk.other.may_send
    network.run(2 * SECOND)
    assert talk.other.state is State.CLOSED
    cuts = [event for event in network.drain("es1") if isinstance(event, StreamCut)]
    assert [event.end for event in cuts] == [talk.other]
    cuts = [event for event in network.drain("lamp-1") if isinstance(event, StreamCut)]
    assert [event.end for event in cuts] == [talk.end]
    network.run(10 * SECOND)
    assert len(talk.source.ends or ()) == 0
    network.assert_empty()


@pytest.mark.requirement("MPLA-4.6-01")
def test_lamps_of_a_shared_session_have_a_connection_each() -> None:
    network = Network("street:2")
    ends = []
    for name in ("lamp-1", "lamp-2"):
        tunnel = network.on(name, style=Style.WF)
        network.run()
        lamp = network.nodes[name]
        end = lamp.open_stream(tunnel, network.now)
        end.send(name.encode(), network.now)
        lamp.flush_ends(network.now, end)
        network.settle(name)
        network.run()
        ends.append(end)
    opened = [event for event in network.drain("es1") if isinstance(event, StreamOpened)]
    assert [event.end.read() for event in opened] == [b"lamp-1", b"lamp-2"]
    for event in opened:
        event.end.send(b"for " + str(event.lamp).encode(), network.now)
    network.nodes["es1"].flush_ends(network.now)
    network.settle("es1")
    network.run()
    lamps = [network.nodes[name].address for name in ("lamp-1", "lamp-2")]
    assert [end.read() for end in ends] == [b"for " + str(lamp).encode() for lamp in lamps]


def test_a_lamp_that_opens_again_and_again_has_one_connection() -> None:
    lamp, source = (Network("street:1").nodes[name].address for name in ("lamp-1", "es1"))
    delivery = Delivery(source, dice("es"), is_source=True)
    circuit = CircuitId(Session(source, 1, lamp), Sender(lamp, 1))
    delivery.add_way(circuit, 1, (110_000, 16), 3)
    for port in range(49_152, 49_252):
        syn = Packet(
            source=lamp, destination=source, source_port=port, destination_port=3251,
            seq=1, flags=int(Flag.SYN),
        ).to_wire()  # fmt: skip
        assert delivery.receive(circuit, syn, 0) is not None
        # those before are forgotten at once, not when time passes
        assert len(delivery.ends) == 1


def test_an_end_that_has_waited_in_vain_is_told() -> None:
    talk = Talk()
    network = talk.network
    network.drain("es1")
    # the lamp is gone without a word; the circuit stays for a while
    network.cut |= {link.number for link in network.topology.links_of("lamp-1")}
    talk.answer(b"power!")
    network.run(60 * SECOND)
    timed_out = [event for event in network.drain("es1") if isinstance(event, StreamTimedOut)]
    assert [event.end for event in timed_out] == [talk.other]


def test_a_packet_of_another_lamp_is_a_stray() -> None:
    lamp, other, source = (Network("street:2").nodes[name].address for name in
                           ("lamp-1", "lamp-2", "es1"))  # fmt: skip
    delivery = Delivery(source, dice("es"), is_source=True)
    circuit = CircuitId(Session(source, 1, lamp), Sender(lamp, 1))
    delivery.add_way(circuit, 1, (110_000, 16), 3)
    syn = Packet(
        source=other, destination=source, source_port=49_152, destination_port=3251,
        seq=1, flags=int(Flag.SYN),
    ).to_wire()  # fmt: skip
    assert delivery.receive(circuit, syn, 0) is None
    assert (delivery.strays, len(delivery.ends), delivery.packets_to_send()) == (1, 0, [])
    mine = Packet(
        source=lamp, destination=source, source_port=49_152, destination_port=9,
        seq=1, flags=int(Flag.SYN),
    ).to_wire()  # fmt: skip
    assert delivery.receive(circuit, mine, 0) is None
    [(link, reset)] = delivery.packets_to_send()
    assert link == 1
    assert Packet.from_wire(reset[8:]).flags & Flag.RST
