"""Sealed DATA between two processes: a tunnel at both ends against TLS with the same batches."""

import secrets
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import trio

from powertcp.crypto import ExchangeKey
from powertcp.drivers import Poll, SegmentStream
from powertcp.drivers.daemon import now_ns
from powertcp.machine import Buffer, Event
from powertcp.registry import Refusal
from powertcp.units import Instant
from powertcp.vppn.config import SealConfig
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Tunnel, TunnelBroken, TunnelOpened
from powertcp.wire import MAX_MSP, data_header
from tools.bench.agreement import tls_contexts
from tools.bench.harness import Options, Pair, WrongResultError, bench, measured
from tools.bench.peers import DATA, BlockBatch, Counter
from tools.bench.streams import RECV, Ends, Span, accepted, both_ends, set_options
from tools.bench.transport import ROOM, TURN_S, BulkMachine, stream_ends

UNIT = "segments/CPU s"
PEER = "trio.SSLStream, same segments, batches and codec"
# the least DATA: what an initiator has to say before it is known how much may be said at once
GREETING = 24
NAME = "localhost"
CLEAR_ROUNDS = 5
Keys = tuple[ExchangeKey, ExchangeKey]


class Judge(Counter):
    """Counts DATA and compares what came last in each read with what was sent."""

    def __init__(self, payload: bytes) -> None:
        """Take the payload that every segment but a greeting has."""
        super().__init__()
        self.splitter.msp = MAX_MSP
        self._payload = payload

    def take(self, data: memoryview) -> int:
        """Count the DATA segments which `data` completes; their number."""
        count, octets, last = 0, 0, b""
        for kind, _, _, _, _, payload in self.splitter.receive(data):
            if kind == DATA:
                count += 1
                octets += len(payload)
                last = payload
        self.octets += octets
        self.segments += count
        if count and bytes(last) not in (self._payload, bytes(GREETING)):
            raise WrongResultError("a segment is not what was sent")
        return count


class Carried(BulkMachine):
    """Bulk DATA as a tunnel carries it."""

    peer_msp = MAX_MSP
    party = b""
    is_terminated = False

    def __init__(self, payload_octets: int) -> None:
        """Send nothing yet."""
        super().__init__(payload_octets)
        self.counter = Judge(self._batch.payload)

    def greet(self) -> tuple[int, int]:
        """Queue one small segment; one, and its payload octets."""
        self._waiting.append([data_header(1, 0, GREETING), bytes(GREETING)])
        return 1, GREETING

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Count segments."""
        self.news.append(self.counter.take(memoryview(data)))

    def cut(self, refusal: Refusal | None, now: Instant) -> None:
        """End: nothing of this may fail."""
        raise WrongResultError(f"the tunnel is cut: {refusal}")


def tunnel(machine: Carried, keys: Keys, *, sends: bool) -> Tunnel:
    """One end of the tunnel as the product makes it: IK, hybrid, police."""
    own, their = keys if sends else keys[::-1]
    config = SealConfig(key=own, peer=their.public if sends else None)
    session = Session(
        config,
        is_initiator=sends,
        entropy=secrets.token_bytes,
        unix_offset_ns=time.time_ns() - now_ns(),
    )
    made = Tunnel(machine, session, now_ns(), is_initiator=sends)
    made.start(now_ns())
    return made


def sealed_ends(payload_octets: int) -> Ends:
    """SegmentStream and tunnel at both ends; the receiver is served by the poll task."""
    keys = ExchangeKey(secrets.token_bytes(32)), ExchangeKey(secrets.token_bytes(32))

    def send(sock: socket.socket, seconds: float) -> dict[str, Any]:
        return trio.run(_send, sock, Carried(payload_octets), keys, seconds)

    def receive(listening: socket.socket, seconds: float) -> dict[str, Any]:
        return trio.run(_receive, accepted(listening), Carried(payload_octets), keys, seconds)

    return Ends(send, receive)


async def _send(
    sock: socket.socket, machine: Carried, keys: Keys, seconds: float
) -> dict[str, Any]:
    span, opened = Span(seconds), trio.Event()
    answer: dict[str, Any] = {}
    sealing = tunnel(machine, keys, sends=True)

    def handle(events: list[Event]) -> None:
        if any(isinstance(event, TunnelBroken) for event in events):
            raise WrongResultError("the tunnel broke")
        if any(isinstance(event, TunnelOpened) for event in events):
            opened.set()

    async with trio.open_nursery() as nursery:
        stream = SegmentStream(
            sock, sealing, handle, nursery=nursery, on_close=nursery.cancel_scope.cancel
        )
        nursery.start_soon(stream.read)
        span.add(*machine.greet())
        stream.flush()
        await opened.wait()
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
    if not answer:
        raise WrongResultError("the connection was closed before the time was over")
    return answer


async def _receive(
    sock: socket.socket, machine: Carried, keys: Keys, seconds: float
) -> dict[str, Any]:
    span, sealing = Span(seconds), tunnel(machine, keys, sends=False)
    before = 0

    def handle(events: list[Any]) -> None:
        nonlocal before
        octets = machine.counter.octets
        span.add(sum(event for event in events if isinstance(event, int)), octets - before)
        before = octets

    async with trio.open_nursery() as nursery:
        poll = Poll()
        poll.register(
            SegmentStream(
                sock, sealing, handle, nursery=nursery, on_close=nursery.cancel_scope.cancel
            )
        )
        await poll.run()
    return span.answer()


def tls_ends(payload_octets: int) -> Ends:
    """trio.SSLStream with what the ssl module chooses: TLS 1.3, the batches of the tunnel."""
    client, server = tls_contexts(is_mutual=False)

    def send(sock: socket.socket, seconds: float) -> dict[str, Any]:
        return trio.run(_send_tls, sock, client, payload_octets, seconds)

    def receive(listening: socket.socket, seconds: float) -> dict[str, Any]:
        return trio.run(_receive_tls, accepted(listening), server, payload_octets, seconds)

    return Ends(send, receive)


def _tls(
    sock: socket.socket, context: ssl.SSLContext, *, serves: bool
) -> trio.SSLStream[trio.SocketStream]:
    carrier = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    set_options(sock)
    name = None if serves else NAME
    return trio.SSLStream(carrier, context, server_hostname=name, server_side=serves)


async def _send_tls(
    sock: socket.socket, context: ssl.SSLContext, payload_octets: int, seconds: float
) -> dict[str, Any]:
    stream, batch, span = (
        _tls(sock, context, serves=False),
        BlockBatch(payload_octets),
        Span(seconds),
    )
    await stream.send_all(b"".join(batch.pieces()))
    if stream.version() != "TLSv1.3":
        raise WrongResultError(f"the peer speaks {stream.version()}")
    while span.add(batch.segments, batch.octets):
        await stream.send_all(b"".join(batch.pieces()))
    answer = span.answer()
    await stream.aclose()
    return answer


async def _receive_tls(
    sock: socket.socket, context: ssl.SSLContext, payload_octets: int, seconds: float
) -> dict[str, Any]:
    stream, span = _tls(sock, context, serves=True), Span(seconds)
    judge = Judge(BlockBatch(payload_octets).payload)
    while data := await stream.receive_some(RECV):
        before = judge.octets
        span.add(judge.take(memoryview(data)), judge.octets - before)
    await stream.aclose()
    return span.answer()


def _share(payload_octets: int, options: Options) -> Callable[[], Mapping[str, float]]:
    """How much of the throughput in clear is left."""

    def figures() -> Mapping[str, float]:
        seconds, rounds = (0.2, 1) if options.smoke else (0.7, CLEAR_ROUNDS)
        sealed, clear = (
            both_ends(sealed_ends(payload_octets)),
            both_ends(stream_ends(payload_octets)),
        )
        shares = []
        for number in range(rounds):
            order = (sealed, clear) if number % 2 else (clear, sealed)
            values = {side: measured(side, seconds).value for side in order}
            shares.append(values[sealed] / values[clear])
        return {"share_of_clear": statistics.median(shares)}

    return figures


def _sealed(payload_octets: int, options: Options) -> Pair:
    return Pair(
        both_ends(sealed_ends(payload_octets)),
        both_ends(tls_ends(payload_octets)),
        figures=_share(payload_octets, options),
    )


@bench("vppn-seal-1k", unit=UNIT, peer=PEER, must=0.8, stretch=1.7)
def vppn_seal_1k(options: Options) -> Pair:
    """DATA of 127 samples in sealed segments of 64 KiB."""
    return _sealed(1024, options)


@bench("vppn-seal-16k", unit=UNIT, peer=PEER, must=1.5, stretch=2.6)
def vppn_seal_16k(options: Options) -> Pair:
    """DATA of 2047 samples in sealed segments of 48 KiB."""
    return _sealed(16384, options)
