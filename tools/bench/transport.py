"""Bulk DATA between two processes: the driver alone, without a flow machine."""

import socket
import time
from typing import Any

import trio

from powertcp.drivers import Poll, SegmentStream
from powertcp.machine import Buffer
from powertcp.units import Instant
from tools.bench.harness import Options, Pair, bench
from tools.bench.peers import BlockBatch, Counter, blocking_ends
from tools.bench.streams import Ends, Span, accepted, both_ends

UNIT = "segments/CPU s"
ROOM = 262144
TURN_S = 0.001
PEER = "blocking sockets, same codec and batches"


class BulkMachine:
    """The least machine that sends and counts DATA: what is left is the driver."""

    def __init__(self, payload_octets: int) -> None:
        """Send nothing yet."""
        self._batch = BlockBatch(payload_octets)
        self._waiting: list[list[bytes]] = []
        self.counter = Counter()
        self.news: list[int] = []

    @property
    def queued(self) -> int:
        """Octets queued and not yet given out."""
        return len(self._waiting) * self._batch.octets

    def offer(self) -> tuple[int, int]:
        """Queue one batch; its segments and payload octets."""
        self._waiting.append(self._batch.pieces())
        return self._batch.segments, self._batch.octets

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Count segments."""
        self.news.append(self.counter.take(memoryview(data)))

    def receive_eof(self, now: Instant) -> None:
        """Nothing is owed to the peer."""

    def data_to_send(self) -> bytes:
        """Give out the oldest batch."""
        return b"".join(self._waiting.pop(0)) if self._waiting else b""

    def next_event(self) -> int | None:
        """Give out how many segments one read completed."""
        return self.news.pop() if self.news else None

    def get_timer(self) -> Instant | None:
        """Return None: nothing is ever due."""
        return None

    def handle_timer(self, now: Instant) -> None:
        """Nothing is ever due."""


def stream_ends(payload_octets: int) -> Ends:
    """SegmentStream at both ends; the receiver is served by the poll task."""

    def send(sock: socket.socket, seconds: float) -> dict[str, Any]:
        return trio.run(_send, sock, payload_octets, seconds)

    def receive(listening: socket.socket, seconds: float) -> dict[str, Any]:
        return trio.run(_receive, accepted(listening), payload_octets, seconds)

    return Ends(send, receive)


async def _send(sock: socket.socket, payload_octets: int, seconds: float) -> dict[str, Any]:
    machine = BulkMachine(payload_octets)
    span = Span(seconds)
    async with trio.open_nursery() as nursery:
        stream = SegmentStream(sock, machine, nursery=nursery)
        turn = time.monotonic()
        while span.add(*machine.offer()):
            stream.flush()
            if stream.queued > ROOM or time.monotonic() - turn > TURN_S:
                await stream.room()
                turn = time.monotonic()
        answer = span.answer()
        while not stream.flush():
            await trio.lowlevel.checkpoint()
        stream.close()
    return answer


async def _receive(sock: socket.socket, payload_octets: int, seconds: float) -> dict[str, Any]:
    machine = BulkMachine(payload_octets)
    span = Span(seconds)
    before = 0

    def handle(events: list[int]) -> None:
        nonlocal before
        octets = machine.counter.octets
        span.add(sum(events), octets - before)
        before = octets

    async with trio.open_nursery() as nursery:
        poll = Poll()
        poll.register(
            SegmentStream(
                sock, machine, handle, nursery=nursery, on_close=nursery.cancel_scope.cancel
            )
        )
        await poll.run()
    return span.answer()


def _transport(payload_octets: int) -> Pair:
    return Pair(both_ends(stream_ends(payload_octets)), both_ends(blocking_ends(payload_octets)))


@bench("transport-16k", unit=UNIT, peer=PEER, must=0.7, stretch=0.95)
def transport_16k(options: Options) -> Pair:
    """DATA of 2047 samples."""
    return _transport(16384)


@bench("transport-1k", unit=UNIT, peer=PEER, must=0.7, stretch=0.95)
def transport_1k(options: Options) -> Pair:
    """DATA of 127 samples."""
    return _transport(1024)


@bench("transport-100", unit=UNIT, peer=PEER)
def transport_100(options: Options) -> Pair:
    """DATA of 9 samples, 100 octets with their header."""
    return _transport(80)
