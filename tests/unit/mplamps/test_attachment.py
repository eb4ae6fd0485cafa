"""Octets between an end of an inner connection and the machine on it."""

from ipaddress import IPv4Address

from powertcp.machine import Buffer, Event
from powertcp.mplamps.attachment import Attachment
from powertcp.mplamps.tcp import MAX_BACKLOG, Ended, Endpoint, Opened, PeerFinished, State
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_S
from tests.conversation import Pair

LAMP, ES = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.1")
REQUEST = PowerProfile.parse("230V/260mA@50Hz")


class Echo:
    """A machine that notes what comes, says what it is told to, and has an event for each read."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.to_say = bytearray()
        self.events: list[Event] = []
        self.has_ended = False
        self.timers: list[int] = []

    def receive_data(self, data: Buffer, now: int) -> None:
        self.got += data
        self.events.append(Opened(request=None))

    def receive_eof(self, now: int) -> None:
        self.has_ended = True

    def data_to_send(self) -> bytes:
        said = bytes(self.to_say)
        self.to_say.clear()
        return said

    def next_event(self) -> Event | None:
        return self.events.pop(0) if self.events else None

    def get_timer(self) -> int | None:
        return 77

    def handle_timer(self, now: int) -> None:
        self.timers.append(now)


class Line:
    """Two attachments on the ends of a connection without loss."""

    def __init__(self) -> None:
        self.now = 0
        self.machines = Echo(), Echo()
        self.told: tuple[list[Event], list[Event]] = ([], [])
        lamp, source = Endpoint(LAMP, 49_152, 1), Endpoint(ES, 3251, 2)
        source.listen()
        lamp.connect(ES, REQUEST, 0)
        self.ends = lamp, source
        self.sides = tuple(
            Attachment(end, machine, lambda event, _, told=told: told.append(event))  # type: ignore[misc]
            for end, machine, told in zip(self.ends, self.machines, self.told, strict=True)
        )
        self.packets: list[bytes] = []

    def exchange(self) -> None:
        is_busy = True
        while is_busy:
            moved = [side.pump(self.now) for side in self.sides]
            is_busy = any(moved)
            for end, other in (self.ends, self.ends[::-1]):
                for packet in end.packets_to_send():
                    is_busy = True
                    self.packets.append(packet)
                    other.receive_packet(packet, self.now)


def test_octets_cross_both_ways_and_events_are_told() -> None:
    line = Line()
    line.machines[0].to_say += b"volt"
    line.machines[1].to_say += b"ampere"
    line.exchange()
    assert [bytes(machine.got) for machine in line.machines] == [b"ampere", b"volt"]
    # the end has opened, and the machine has read
    assert [len(told) for told in line.told] == [2, 2]


def test_more_than_an_end_takes_waits_for_room() -> None:
    line = Line()
    line.exchange()
    octets = bytes(range(256)) * (3 * MAX_BACKLOG // 256)
    line.machines[0].to_say += octets
    assert line.sides[0].pump(0)
    assert line.ends[0].room == 0
    line.exchange()
    assert line.machines[1].got == octets


def test_a_metered_segment_begins_a_packet() -> None:
    line = Line()
    line.exchange()
    pair = Pair()
    flow = pair.energise("12V/1.5A")
    octets = b""
    for number in range(3):
        pair.counters[flow] = 10 * number
        assert pair.source.send_samples(flow, [pair.block(flow, 10)], now=pair.now) == 1
        octets += pair.source.data_to_send()
    line.packets.clear()
    # in pieces that end within a header
    for at in range(0, len(octets), 7):
        line.machines[1].to_say += octets[at : at + 7]
        line.sides[1].pump(line.now)
    line.exchange()
    assert line.machines[0].got == octets
    begins = [packet[40:43] == b"PO\x01" and packet[44] for packet in line.packets]
    assert sum(map(bool, begins)) >= 3


def test_the_end_of_the_peer_comes_after_its_octets() -> None:
    line = Line()
    line.machines[0].to_say += b"last"
    line.exchange()
    line.sides[0].close()
    line.exchange()
    assert line.machines[1].has_ended
    assert isinstance(line.told[1][-1], PeerFinished)
    assert line.machines[1].got == b"last"
    assert not line.sides[1].is_over
    line.sides[1].close()
    line.exchange()
    assert all(side.is_over for side in line.sides)
    assert [isinstance(told[-1], Ended) for told in line.told] == [True, True]
    assert line.ends[1].state is State.CLOSED


def test_what_the_machine_says_last_goes_before_the_end() -> None:
    line = Line()
    line.exchange()
    octets = bytes(3 * MAX_BACKLOG)
    line.machines[0].to_say += octets
    line.sides[0].close()
    line.exchange()
    assert line.machines[1].got == octets
    # a FIN is something to send too
    line.sides[1].close()
    assert line.sides[1].pump(line.now)
    assert not line.sides[1].pump(line.now)
    assert line.machines[1].has_ended


def test_a_reset_ends_the_machine() -> None:
    line = Line()
    line.exchange()
    line.ends[0].abort()
    line.exchange()
    assert line.machines[1].has_ended
    assert line.sides[1].is_over
    said = line.told[1][-1]
    assert isinstance(said, Ended)
    assert said.refusal is not None


def test_time_is_the_machines_until_all_is_over() -> None:
    line = Line()
    line.exchange()
    lamp = line.sides[0]
    assert lamp.get_timer() == 77
    lamp.handle_timer(NS_PER_S)
    line.ends[1].abort()
    line.exchange()
    assert lamp.get_timer() is None
    lamp.handle_timer(2 * NS_PER_S)
    assert line.machines[0].timers == [NS_PER_S]
