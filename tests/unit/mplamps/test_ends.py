"""Many connections at one address."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from powertcp.errors import PowerRefused
from powertcp.mplamps.ends import FIRST_PORT, MAX_OF_SOURCE, Ends
from powertcp.mplamps.packet import Packet
from powertcp.mplamps.tcp import Ended, Endpoint, Opened, State
from powertcp.profile import PowerProfile
from powertcp.registry import Flag

ES = IPv4Address("10.0.0.1")
LAMPS = [IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6")]
REQUEST = PowerProfile.parse("230V/260mA@50Hz")
SYN, ACK, FIN, RST = int(Flag.SYN), int(Flag.ACK), int(Flag.FIN), int(Flag.RST)


def entropy(count: int) -> bytes:
    return bytes(range(count))


def source() -> Ends:
    return Ends(ES, entropy, is_source=True)


def lamp(which: int = 0) -> Ends:
    return Ends(LAMPS[which], entropy, is_source=False)


def exchange(*ends: Ends) -> None:
    """Carry everything until nothing is under way."""
    while packets := [packet for one in ends for packet in drained(one)]:
        for octets in packets:
            address = Packet.from_wire(octets).destination
            for one in ends:
                if one.local == address:
                    one.receive_packet(octets, 0)


def drained(ends: Ends) -> list[bytes]:
    return [packet for end in ends for packet in end.packets_to_send()] + ends.packets_to_send()


def packet(flags: int, *, port: int = 50_000, to: int = 3251, payload: bytes = b"") -> bytes:
    return Packet(
        source=LAMPS[0],
        source_port=port,
        destination=ES,
        destination_port=to,
        seq=100,
        ack=7,
        flags=flags,
        payload=payload,
    ).to_wire()


def only(packets: list[bytes]) -> Packet:
    (octets,) = packets
    return Packet.from_wire(octets)


def test_each_packet_finds_its_end() -> None:
    es, one, other = source(), lamp(0), lamp(1)
    ends = [one.connect(ES, REQUEST, 0), one.connect(ES, REQUEST, 0), other.connect(ES, REQUEST, 0)]
    assert [end.local_port for end in ends] == [FIRST_PORT, FIRST_PORT + 1, FIRST_PORT]
    exchange(es, one, other)
    assert (len(es), len(one), len(other)) == (3, 2, 1)
    for number, end in enumerate(ends):
        end.send(b"I am %d" % number, 0)
    exchange(es, one, other)
    assert [end.read() for end in es] == [b"I am 0", b"I am 1", b"I am 2"]
    assert [end.peer for end in es] == [LAMPS[0], LAMPS[0], LAMPS[1]]
    assert [end.next_event() for end in es] == [Opened(request=REQUEST)] * 3


def test_timers_of_all_ends_and_ends_that_are_forgotten() -> None:
    es, one = source(), lamp()
    assert es.get_timer() is None
    first = one.connect(ES, REQUEST, 0)
    second = one.connect(ES, REQUEST, 5)
    assert one.get_timer() == first.get_timer()
    first.abort()
    assert one.get_timer() == second.get_timer()
    timer = second.get_timer()
    assert timer is not None
    drained(one)
    one.handle_timer(timer)
    assert len(one) == 1
    assert len(drained(one)) == 1
    # each has a port of its own
    assert one.connect(ES, REQUEST, 0).local_port == FIRST_PORT + 2


def test_ports_are_taken_in_turn() -> None:
    one = lamp()
    kept = one.connect(ES, REQUEST, 0)
    ports = []
    for _ in range(65_536 - FIRST_PORT):
        end = one.connect(ES, REQUEST, 0)
        ports.append(end.local_port)
        end.abort()
        one.forget(end)
    assert ports == [*range(FIRST_PORT + 1, 65_536), FIRST_PORT + 1]
    assert kept.local_port == FIRST_PORT


def test_a_lamp_that_starts_again_gets_a_new_end() -> None:
    es = source()
    first = es.receive_packet(packet(SYN), 0)
    assert isinstance(first, Endpoint)
    assert es.receive_packet(packet(SYN), 0) is first
    first.abort()
    assert first.state is State.CLOSED
    second = es.receive_packet(packet(SYN), 0)
    assert isinstance(second, Endpoint)
    assert second is not first
    assert list(es) == [second]


@pytest.mark.parametrize(
    ("octets", "flags", "seq", "ack"),
    [
        (packet(ACK, payload=b"abc"), RST, 7, 0),
        (packet(FIN, payload=b"abc"), RST | ACK, 0, 104),
        (packet(SYN | FIN), RST | ACK, 0, 102),
        (packet(SYN, to=3252), RST | ACK, 0, 101),
    ],
)
def test_what_has_no_end_is_reset(octets: bytes, flags: int, seq: int, ack: int) -> None:
    es = source()
    assert es.receive_packet(octets, 0) is None
    answer = only(es.packets_to_send())
    assert (answer.flags, answer.seq, answer.ack) == (flags, seq, ack)
    assert (answer.destination, answer.destination_port) == (LAMPS[0], 50_000)
    assert es.packets_to_send() == []
    assert len(es) == 0


def test_a_reset_and_what_is_not_for_us_are_not_answered() -> None:
    es, one = source(), lamp()
    assert es.receive_packet(packet(RST), 0) is None
    assert es.receive_packet(packet(SYN)[:-1], 0) is None
    assert one.receive_packet(packet(SYN), 0) is None
    assert es.packets_to_send() == one.packets_to_send() == []
    assert (es.malformed, one.malformed) == (1, 1)


def test_a_lamp_is_asked_by_nobody() -> None:
    one = lamp()
    asks = Packet(source=ES, source_port=3251, destination=LAMPS[0], destination_port=3251,
                  seq=1, flags=SYN)  # fmt: skip
    assert one.receive_packet(asks.to_wire(), 0) is None
    assert only(one.packets_to_send()).flags == RST | ACK


@pytest.mark.requirement("MPLA-4.10-03")
def test_a_lamp_has_1024_connections_and_what_is_beyond_is_counted() -> None:
    one = lamp()
    ends = [one.connect(ES, REQUEST, 0) for _ in range(1_024)]
    with pytest.raises(PowerRefused, match="1,025 is over the limit of 1,024") as caught:
        one.connect(ES, REQUEST, 0)
    assert caught.value.refusal.code == 508
    assert (len(one), one.refused) == (1_024, 1)
    # one that is closed makes room
    ends[3].close(0)
    assert ends[3].next_event() == Ended(refusal=None)
    # not at the port that was given back: others may still know it
    assert one.connect(ES, REQUEST, 0).local_port == FIRST_PORT + 1_024


@pytest.mark.requirement("MPLA-4.10-03")
def test_a_source_refuses_and_counts_what_is_beyond_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_OF_SOURCE == 100_000
    monkeypatch.setattr("powertcp.mplamps.ends.MAX_OF_SOURCE", 3)
    es = source()
    for port in range(60_000, 60_003):
        assert es.receive_packet(packet(SYN, port=port), 0) is not None
    drained(es)
    assert es.receive_packet(packet(SYN, port=60_003), 0) is None
    assert only(es.packets_to_send()).flags == RST | ACK
    assert (len(es), es.refused) == (3, 1)
    # one that is closed makes room
    next(iter(es)).abort()
    assert es.receive_packet(packet(SYN, port=60_003), 0) is not None


def test_an_end_is_forgotten_but_not_the_one_in_its_place() -> None:
    es = source()
    first = es.receive_packet(packet(SYN), 0)
    assert first is not None
    first.abort()
    es.forget(first)
    assert len(es) == 0
    second = es.receive_packet(packet(SYN), 0)
    es.forget(first)
    assert list(es) == [second]


def test_a_connection_that_is_over_gives_way_to_a_new_one_of_the_same_lamp() -> None:
    es, one = source(), lamp()
    end = one.connect(ES, REQUEST, 0)
    exchange(es, one)
    (served,) = es
    served.close(0)
    exchange(es, one)
    end.close(0)
    exchange(es, one)
    assert served.state is State.TIME_WAIT
    again = Packet.from_wire(packet(SYN, port=FIRST_PORT))
    beyond = replace(again, seq=(1 << 31) - 1, ack=0).to_wire()
    fresh = es.receive_packet(beyond, 0)
    assert fresh is not None
    assert fresh is not served
    assert fresh.state is State.SYN_RECEIVED


def test_an_old_syn_does_not_end_a_connection_that_is_over() -> None:
    es, one = source(), lamp()
    end = one.connect(ES, REQUEST, 0)
    (first,) = drained(one)
    es.receive_packet(first, 0)
    exchange(es, one)
    (served,) = es
    served.close(0)
    exchange(es, one)
    end.close(0)
    exchange(es, one)
    assert es.receive_packet(first, 0) is served
    assert served.state is State.TIME_WAIT
