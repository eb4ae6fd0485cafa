"""An edge LSR on a real socket: it asks, meters, and answers to prices as a node does."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.mplamps.cops import (
    CircuitDecided,
    DeleteReason,
    Interface,
    Pep,
    PriceChanged,
    ReportKind,
    ServerAddress,
)
from powertcp.mplamps.power import MeterObject, TariffObject
from powertcp.mplamps.topology import Topology
from tests.policed import path_objects

NEVER_S = 30


class Caller:
    """One edge LSR with one lamp, and the registers of its circuits in uJ."""

    def __init__(self, topology: Topology, name: str = "h1", lamp: str = "lamp-1") -> None:
        link = topology.between(name, lamp)
        assert link is not None
        self.topology = topology
        self.node, self.lamp = topology.node(name), topology.node(lamp)
        self.interface = Interface(self.lamp.address, link.number)
        self.pep = Pep(self.node.address, bytes)
        self.registers: dict[bytes, int] = {}
        self.decided: dict[bytes, CircuitDecided] = {}
        self.prices: list[int] = []
        self.is_connected = False
        self._stream: trio.SocketStream | None = None
        self._news = trio.Event()
        self._writing = trio.Lock()

    @asynccontextmanager
    async def connected(self, port: int, host: str = "127.0.0.1") -> AsyncIterator[None]:
        """Be connected with the policeman, from opening to the loss of the connection."""
        self._stream = await trio.open_tcp_stream(host, port)
        self.is_connected = True
        self.pep.connect(ServerAddress(IPv4Address(host), port), now_ns())
        async with trio.open_nursery() as nursery:
            await self.flush()
            nursery.start_soon(self._read, self._stream)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
                self.is_connected = False
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(self._stream)
                self.pep.receive_eof(now_ns())

    async def flush(self) -> None:
        async with self._writing:
            octets = self.pep.data_to_send()
            if self._stream is not None and self.is_connected and octets:
                await self._stream.send_all(octets)

    async def _read(self, stream: trio.SocketStream) -> None:
        while True:
            try:
                octets = await stream.receive_some(65_536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                octets = b""
            if octets:
                self.pep.receive_data(octets, now_ns())
            else:
                self.pep.receive_eof(now_ns())
                self.is_connected = False
                await trio.aclose_forcefully(stream)
            self._heed()
            self._news.set()
            self._news = trio.Event()
            if not octets:
                return
            try:
                await self.flush()
            except trio.BrokenResourceError:
                continue

    def _heed(self) -> None:
        while event := self.pep.next_event():
            match event:
                case CircuitDecided(handle=handle):
                    self.decided[handle] = event
                    if event.quote is None and handle in self.registers:
                        meter = self.meter(handle, is_final=True)
                        self.pep.delete(handle, DeleteReason.DIRECTIVE, meter)
                        del self.registers[handle]
                case PriceChanged(handle=handle, quote=quote):
                    self.prices.append(quote.price)
                    kind, meter = ReportKind.ACCOUNTING, self.meter(handle)
                    self.pep.report(handle, kind, now_ns(), meter, is_answer=True)

    async def until(self, is_there: Callable[[], object]) -> None:
        with trio.fail_after(NEVER_S):
            while not is_there():
                await self._news.wait()

    async def ask(
        self, es: str = "es1", *, tunnel: int = 1, limit: TariffObject | None = None
    ) -> CircuitDecided:
        """Ask for a circuit and wait for the decision."""
        source = self.topology.node(es).address
        path = path_objects(source, self.lamp.address, tunnel=tunnel, limit=limit)
        handle = self.pep.ask(self.interface, path, 0, now_ns())
        await self.flush()
        await self.until(lambda: handle in self.decided)
        return self.decided[handle]

    async def light(self, es: str = "es1", *, tunnel: int = 1) -> bytes:
        """Have a circuit, closed; returns its handle."""
        decided = await self.ask(es, tunnel=tunnel)
        assert decided.quote is not None, decided
        self.registers[decided.handle] = 0
        self.pep.report(decided.handle, ReportKind.SUCCESS, now_ns(), is_answer=True)
        await self.flush()
        return decided.handle

    def meter(self, handle: bytes, *, is_final: bool = False) -> MeterObject:
        return MeterObject.make(
            seconds=60, energy_uj=self.registers[handle], packets=1, octets=1, is_final=is_final
        )

    async def tell(self, handle: bytes, energy_uj: int) -> None:
        """Let energy pass, and report the meter."""
        self.registers[handle] += energy_uj
        self.pep.report(handle, ReportKind.ACCOUNTING, now_ns(), self.meter(handle))
        await self.flush()

    async def end(self, handle: bytes) -> None:
        """End a circuit with its last meter."""
        meter = self.meter(handle, is_final=True)
        del self.registers[handle]
        self.pep.delete(handle, DeleteReason.TEAR, meter)
        await self.flush()


def free_port() -> int:
    """Return a port at which nobody listens now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
