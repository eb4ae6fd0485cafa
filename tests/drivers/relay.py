"""A relay on the path that holds no key: it reads what is clear, claims energy, and may alter octets."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from powertcp.registry import SegmentType
from powertcp.wire.frames import RawSegment, Splitter

UP, DOWN = 0, 1
# alter(direction, octets so far, octets) returns what is passed on instead; None: cut the path
Alter = Callable[[int, int, bytes], bytes | None]


class Relay:
    """What passed: all octets of each direction and connection, and the energy that was claimed."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = host, port
        self.address = ""
        self.alter: Alter = lambda _direction, _at, octets: octets
        self.octets = [b"", b""]
        self.connections = 0
        self.claimed_uj = 0
        self.raws: list[tuple[int, int, int]] = []

    def note(self, direction: int, raw: RawSegment) -> None:
        """Take the outer header as a firewall does that has no key."""
        self.raws.append((direction, raw[0], raw[2]))
        if direction == DOWN and raw[0] == SegmentType.SEALED and raw[2]:
            self.claimed_uj = max(self.claimed_uj, raw[3])

    async def carry(
        self, direction: int, source: trio.SocketStream, sink: trio.SocketStream, ends: trio.Nursery
    ) -> None:
        splitter, at = Splitter(65535), 0
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                octets = bytes(data)
                self.octets[direction] += octets
                for raw in splitter.receive(octets):
                    self.note(direction, raw)
                altered = self.alter(direction, at, octets)
                at += len(octets)
                if altered is None:
                    break
                await sink.send_all(altered)
        ends.cancel_scope.cancel()

    async def serve(self, device: trio.SocketStream) -> None:
        self.connections += 1
        host, port = self.upstream
        async with (
            device,
            await trio.open_tcp_stream(host, port) as provider,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self.carry, UP, device, provider, nursery)
            nursery.start_soon(self.carry, DOWN, provider, device, nursery)


@asynccontextmanager
async def relaying(address: str) -> AsyncIterator[Relay]:
    """Relay connections to `address`, HOST:PORT of the loopback."""
    host, _, port = address.rpartition(":")
    relay = Relay(host, int(port))
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=host)
        relay.address = f"{host}:{listener.socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, relay.serve, [listener])
        yield relay
        nursery.cancel_scope.cancel()
