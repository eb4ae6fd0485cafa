"""The peers: what a program without this package would do, each in its best documented form."""

import asyncio
import logging
import socket
import warnings
from typing import Any

from powertcp.wire import HEADER_OCTETS, Splitter, data_header
from tools.bench.streams import BATCH, RECV, Ends, Span, accepted

DATA = 2
WEBSOCKET_QUEUE = 16


class BlockBatch:
    """64 KiB of DATA segments of one size, headers packed anew for every batch."""

    def __init__(self, payload_octets: int) -> None:
        """Make the payload once: what it says is not looked at by a transport."""
        self.payload = bytes(range(256)) * (payload_octets // 256) + bytes(payload_octets % 256)
        self.segments = max(1, BATCH // (HEADER_OCTETS + payload_octets))
        self.octets = self.segments * payload_octets
        self.esn = 0

    def pieces(self) -> list[bytes]:
        """Header, payload, header, payload, ...: the next batch."""
        payload, size = self.payload, len(self.payload)
        pieces: list[bytes] = []
        for esn in range(self.esn, self.esn + self.segments):
            pieces.append(data_header(1, esn, size))
            pieces.append(payload)
        self.esn += self.segments
        return pieces


class Counter:
    """What a receiver of DATA does where there is no flow machine: check the type, count."""

    __slots__ = ("octets", "segments", "splitter")

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        self.splitter = Splitter()
        self.segments = 0
        self.octets = 0

    def take(self, data: memoryview) -> int:
        """Count the DATA segments which `data` completes; their number."""
        found = self.splitter.receive(data)
        octets = 0
        for kind, _, _, _, _, payload in found:
            if kind == DATA:
                octets += len(payload)
        self.octets += octets
        self.segments += len(found)
        return len(found)


def blocking_ends(payload_octets: int) -> Ends:
    """Blocking sockets: one sendall per batch, one recv_into per read, the same codec."""

    def send(sock: socket.socket, seconds: float) -> dict[str, Any]:
        batch, span = BlockBatch(payload_octets), Span(seconds)
        with sock:
            sock.sendall(b"".join(batch.pieces()))
            while span.add(batch.segments, batch.octets):
                sock.sendall(b"".join(batch.pieces()))
        return span.answer()

    def receive(listening: socket.socket, seconds: float) -> dict[str, Any]:
        counter = Counter()
        buffer = bytearray(RECV)
        view = memoryview(buffer)
        with accepted(listening) as sock:
            span = Span(seconds)
            while size := sock.recv_into(buffer):
                before = counter.octets
                span.add(counter.take(view[:size]), counter.octets - before)
        return span.answer()

    return Ends(send, receive)


def websocket_ends(octets: int) -> Ends:
    """websockets on asyncio with its C speed-ups; no compression, no pings; it counts."""

    def send(sock: socket.socket, seconds: float) -> dict[str, Any]:
        from websockets.asyncio.client import connect

        async def main() -> dict[str, Any]:
            message = bytes(octets)
            async with connect(
                "ws://127.0.0.1/", sock=sock, compression=None, ping_interval=None
            ) as socket_:
                span = Span(seconds)
                await socket_.send(message)
                while span.add(1, octets):
                    await socket_.send(message)
                return span.answer()

        answer: dict[str, Any] = quiet(main())
        return answer

    def receive(listening: socket.socket, seconds: float) -> dict[str, Any]:
        from websockets.asyncio.server import ServerConnection, serve

        answers: list[dict[str, Any]] = []

        async def main() -> None:
            done = asyncio.Event()

            async def count(connection: ServerConnection) -> None:
                span = Span(seconds)
                async for message in connection:
                    span.add(1, len(message))
                answers.append(span.answer())
                done.set()

            async with serve(count, sock=listening, compression=None, ping_interval=None):
                await done.wait()

        quiet(main())
        return answers[0]

    return Ends(send, receive)


def quiet(coroutine: Any) -> Any:  # noqa: ANN401  whatever the coroutine returns
    """Run a coroutine of asyncio without its debug notes."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return asyncio.run(coroutine)
