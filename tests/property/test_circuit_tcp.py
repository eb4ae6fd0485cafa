"""Two TCP ends with a hostile way between them: every octet once, in order, or a loud end."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from powertcp.mplamps.packet import Packet
from powertcp.mplamps.tcp import Ended, Endpoint, Opened, PeerFinished, State
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from tests.full import size

LAMP, ES = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.1")
REQUEST = PowerProfile.parse("230V/260mA@50Hz")
FOREVER = 3600 * NS_PER_S


@dataclass
class Way:
    """What happens to packets, in percent."""

    loss: int = 0
    twice: int = 0
    damage: int = 0
    jitter_ms: int = 0


@dataclass
class Side:
    end: Endpoint
    to_send: list[bytes]
    got: bytearray = field(default_factory=bytearray)
    events: list[object] = field(default_factory=list)
    starts: set[int] = field(default_factory=set)
    written: int = 0


class Run:
    """A heap of packets under way, and timers."""

    def __init__(self, way: Way, seed: int, there: list[bytes], back: list[bytes]) -> None:
        self.way, self.random = way, Random(seed)
        lamp = Endpoint(LAMP, 49152, self.random.getrandbits(32))
        es = Endpoint(ES, 3251, self.random.getrandbits(32))
        self.sides = Side(lamp, there), Side(es, back)
        self.heap: list[tuple[Instant, int, int, bytes]] = []
        self.now = self.count = 0
        self.seen: set[tuple[int, int]] = set()
        es.listen()
        lamp.connect(ES, REQUEST, 0)

    def until_closed(self) -> None:
        while self.now < FOREVER:
            for index, side in enumerate(self.sides):
                self.serve(side)
                for octets in side.end.packets_to_send():
                    self.carry(octets, 1 - index)
            times = [timer for side in self.sides if (timer := side.end.get_timer()) is not None]
            if self.heap:
                times.append(self.heap[0][0])
            if not times:
                return
            self.now = max(self.now, min(times))
            while self.heap and self.heap[0][0] <= self.now:
                _, _, index, octets = heappop(self.heap)
                self.sides[index].end.receive_packet(octets, self.now)
            for side in self.sides:
                side.end.handle_timer(self.now)

    def serve(self, side: Side) -> None:
        """Write what there is room for, each piece at the start of a packet; read, and close."""
        end = side.end
        while (happened := end.next_event()) is not None:
            side.events.append(happened)
        side.got += end.read()
        if end.state not in (State.ESTABLISHED, State.CLOSE_WAIT):
            return
        while side.to_send and len(side.to_send[0]) <= end.room:
            piece = side.to_send.pop(0)
            end.send(piece, self.now, starts_packet=True)
            side.starts.add(side.written)
            side.written += len(piece)
        if not side.to_send:
            end.close(self.now)

    def carry(self, octets: bytes, index: int) -> None:
        self.count += 1
        if self.random.randrange(100) < self.way.loss:
            return
        copies = 1 + (self.random.randrange(100) < self.way.twice)
        for copy in range(copies):
            sent = octets
            if self.random.randrange(100) < self.way.damage:
                changed = bytearray(octets)
                changed[self.random.randrange(len(changed))] ^= self.random.randrange(1, 256)
                sent = bytes(changed)
            delay_ms = 5 + self.random.randrange(self.way.jitter_ms + 1)
            entry = self.now + delay_ms * NS_PER_MS, self.count * 2 + copy, index, sent
            heappush(self.heap, entry)


WAYS = st.builds(
    Way,
    loss=st.integers(0, 20),
    twice=st.integers(0, 20),
    damage=st.integers(0, 10),
    jitter_ms=st.sampled_from([0, 1, 30, 300]),
)
PIECES = st.lists(st.integers(1, 5000), max_size=25)


def octets_of(sizes: list[int], seed: int) -> list[bytes]:
    random = Random(seed)
    return [random.randbytes(one) for one in sizes]


@pytest.mark.requirement("MPLA-9-01", "MPLA-9-03")
@settings(max_examples=size(60, 1000), deadline=None)
@given(WAYS, st.integers(0, 2**32), PIECES, PIECES)
def test_every_octet_once_and_in_order(
    way: Way, seed: int, there: list[int], back: list[int]
) -> None:
    pieces = octets_of(there, seed), octets_of(back, seed + 1)
    whole = [b"".join(one) for one in pieces]
    run = Run(way, seed, *(list(one) for one in pieces))
    run.until_closed()
    lamp, es = run.sides
    assert lamp.events[0] == Opened(request=None)
    assert es.events[0] == Opened(request=REQUEST)
    got = bytes(es.got), bytes(lamp.got)
    # what came is what was sent, as far as it came
    assert all(all_of.startswith(part) for all_of, part in zip(whole, got, strict=True))
    ends = [side.events[-1] for side in run.sides]
    assert all(isinstance(end, Ended) for end in ends)
    is_whole = all(isinstance(end, Ended) and end.refusal is None for end in ends)
    event("whole" if is_whole else "given up")
    for side, expected, part in zip((es, lamp), whole, got, strict=True):
        if PeerFinished() in side.events:
            assert part == expected
    if is_whole:
        assert got == tuple(whole)
        assert [side.events.count(PeerFinished()) for side in run.sides] == [1, 1]
    # nothing stays
    assert all(side.end.state is State.CLOSED for side in run.sides)
    assert all(side.end.backlog == side.end.unread == 0 for side in run.sides)


@pytest.mark.requirement("MPLA-9-01")
@pytest.mark.parametrize("seed", range(size(3, 30)))
def test_a_tenth_of_everything_goes_wrong_and_nothing_is_lost(seed: int) -> None:
    """Fixed ways on which no end gives up: the sweep above may not be empty of whole ones."""
    way = Way(loss=10, twice=10, damage=2, jitter_ms=20)
    pieces = octets_of([3000] * 60, seed)
    run = Run(way, seed, list(pieces), list(pieces[:10]))
    run.until_closed()
    lamp, es = run.sides
    assert (lamp.events[-1], es.events[-1]) == (Ended(refusal=None), Ended(refusal=None))
    assert bytes(es.got) == b"".join(pieces)
    assert bytes(lamp.got) == b"".join(pieces[:10])


@pytest.mark.requirement("MPLA-9-03")
@settings(max_examples=size(40, 500), deadline=None)
@given(WAYS, st.integers(0, 2**32), st.lists(st.integers(1, 4000), min_size=1, max_size=20))
def test_each_piece_begins_a_packet_also_when_it_is_sent_again(
    way: Way, seed: int, sizes: list[int]
) -> None:
    run = Run(way, seed, octets_of(sizes, seed), [])
    begun: set[int] = set()
    first: list[int] = []
    carry = run.carry

    def watch(octets: bytes, index: int) -> None:
        packet = Packet.from_wire(octets)
        if index == 1:
            if packet.request:
                first.append(packet.seq + 1)
            elif packet.payload:
                begun.add(packet.seq - first[0] & 0xFFFF_FFFF)
        carry(octets, index)

    run.carry = watch  # type: ignore[method-assign]
    run.until_closed()
    lamp = run.sides[0]
    if bytes(run.sides[1].got) and PeerFinished() in run.sides[1].events:
        assert lamp.starts <= begun
    assert len(begun) <= sum(-(-one // 1400) for one in sizes)


NEAR = st.one_of(st.integers(-3, 3), st.integers(-70_000, 70_000), st.integers(0, 2**32 - 1))


@settings(max_examples=size(200, 2000), deadline=None)
@given(st.lists(st.tuples(NEAR, NEAR, st.integers(0, 63), st.binary(max_size=3)), max_size=8),
       st.booleans(), st.binary(max_size=80))  # fmt: skip
def test_whatever_a_peer_says_is_taken_or_refused(
    said: list[tuple[int, int, int, bytes]], is_closing: bool, noise: bytes
) -> None:
    lamp, es = Endpoint(LAMP, 49152, 7), Endpoint(ES, 3251, 2**32 - 2)
    es.listen()
    lamp.connect(ES, REQUEST, 0)
    for _ in range(3):
        for one, other in ((lamp, es), (es, lamp)):
            for octets in one.packets_to_send():
                other.receive_packet(octets, 0)
    es.send(bytes(5000), 0)
    if is_closing:
        es.close(0)
    sent = len(es.packets_to_send())
    for seq, ack, flags, payload in said:
        packet = Packet(
            source=LAMP,
            destination=ES,
            source_port=49152,
            destination_port=3251,
            seq=8 + seq & 0xFFFF_FFFF,
            ack=2**32 - 1 + ack & 0xFFFF_FFFF,
            flags=flags,
            payload=payload,
        )
        es.receive_packet(packet.to_wire(), 0)
        assert len(es.packets_to_send()) <= sent + 1
        assert es.unread <= sum(len(one[3]) for one in said)
        assert 0 <= es.backlog <= 5000
    assert not es.receive_packet(noise, 0)
    while (timer := es.get_timer()) is not None:
        es.handle_timer(timer)
    lasts = []
    while (happened := es.next_event()) is not None:
        lasts.append(happened)
    assert sum(isinstance(one, Ended) for one in lasts) <= 1
    assert es.backlog == 0 or es.state is not State.CLOSED
