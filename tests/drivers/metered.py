"""A provider as small as receipts allow: real machine, real sockets, its pages in memory."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import ParamSpec

import trio

from powertcp.crypto import SigningKey
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import accept, format_address, listen
from powertcp.drivers.stream import SegmentStream
from powertcp.drivers.wheel import Wheel
from powertcp.dve import Synth, encode_block
from powertcp.errors import LocalProtocolError, WireBroken
from powertcp.ledger import Clock, PageChain, Side
from powertcp.machine import Event
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Ask,
    CreditReceived,
    PageFacts,
    PageSigned,
    PowerAccepted,
    PowerRequested,
)
from powertcp.potcp.tickets import TicketOffice
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_S
from powertcp.wire.options import Meter, Tariff

ParamsT = ParamSpec("ParamsT")
KEY = SigningKey(bytes(range(32)))
NEVER_S = 120
POWERED = frozenset({"ENERGISED", "SHED_SENT", "RENEG_SENT"})


def virtual_unix_ns() -> int:
    """Return a Unix time that goes as the clock of trio does."""
    return 1_700_000_000 * NS_PER_S + now_ns()


class Path:
    """One connection: its machine, its stream, the blocks of its flows."""

    def __init__(self, machine: PowerConnection, stream: SegmentStream[Event]) -> None:
        self.machine = machine
        self.stream = stream
        self._blocks: dict[int, tuple[Synth, int]] = {}

    def powered(self) -> Iterator[tuple[int, PowerProfile]]:
        """Yield the flows that deliver, with their terms."""
        for flow in self.machine.flows:
            status = self.machine.status(flow)
            if status.state in POWERED and status.profile is not None:
                yield flow, status.profile

    def do(
        self, verb: Callable[ParamsT, object], *args: ParamsT.args, **kwargs: ParamsT.kwargs
    ) -> None:
        """Do something on this path unless it is gone."""
        with suppress(WireBroken, LocalProtocolError):
            self.stream.queue(verb, *args, **kwargs)

    def deliver(self, flow: int, seconds: float) -> None:
        """Send the next block of a flow."""
        status = self.machine.status(flow)
        profile, sampling = status.profile, status.sampling
        assert profile is not None
        assert sampling is not None
        synth, counter = self._blocks.get(flow) or (Synth(profile, sampling), 0)
        samples = max(1, round(sampling.rate_hz * seconds))
        power_mw = min(status.demand_mw, profile.power_mw)
        block = encode_block(counter, synth.block(counter, samples, power_mw))
        if self.stream.queue(self.machine.send_samples, flow, [block], now=now_ns()):
            counter += samples
        self._blocks[flow] = (synth, counter)


class MeteredProvider:
    """Grants what is asked for, delivers, and keeps every page.

    receipts: when pages are due, s and uJ; None: no receipts. alter: what is done to a page before
    it is sent.
    """

    def __init__(
        self,
        *,
        tariff: Tariff | None = None,
        receipts: tuple[int, int] | None = (60, 0),
        every_s: float = 0.1,
        unix_ns: Callable[[], int] = virtual_unix_ns,
        config: ConnectionConfig | None = None,
    ) -> None:
        self.tariff = tariff
        self._meter = Meter(*receipts, KEY.public) if receipts else None
        self.alter: Callable[[bytes], bytes] = lambda octets: octets
        self.sent: list[bytes] = []
        self.signed: list[bytes] = []
        self.events: list[Event] = []
        self.paths: list[Path] = []
        self._config = config or ConnectionConfig()
        self._office = TicketOffice(os.urandom)
        self._chains: dict[bytes, PageChain] = {}
        self._every_s = every_s
        self._unix_ns = unix_ns
        self._wheel = Wheel()
        self._news = trio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a free port of the loopback; yields the address."""
        async with trio.open_nursery() as nursery:
            (listener,) = listen([("127.0.0.1", 0)])
            with listener:
                nursery.start_soon(self._wheel.run)
                nursery.start_soon(self._accept, listener, nursery)
                nursery.start_soon(self._deliver)
                yield format_address(*listener.getsockname()[:2])
                nursery.cancel_scope.cancel()

    async def until(self, kind: type[Event], count: int = 1) -> Event:
        """Wait for the `count`th event of this kind."""
        with trio.fail_after(NEVER_S):
            while len(found := [one for one in self.events if isinstance(one, kind)]) < count:
                await self._news.wait()
        return found[count - 1]

    async def until_signed(self, count: int) -> None:
        """Wait for so many countersigned pages."""
        with trio.fail_after(NEVER_S):
            while len(self.signed) < count:
                await self._news.wait()

    def cut(self) -> None:
        """Lose every path; flows are held."""
        for path in self.paths:
            if path.stream is not None:
                path.stream.abort()
        self.paths.clear()

    def propose(self, tariff: Tariff) -> None:
        """Propose another price on every flow."""
        for path in self.paths:
            for flow, profile in list(path.powered()):
                asks = [Ask(profile.with_type(ProfileType.REQUEST))]
                path.do(path.machine.renegotiate, flow, asks, tariff=tariff, now=now_ns())

    # --- inside ------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for sock, (host, port) in accept(listener):
                nursery.start_soon(self._serve, sock, format_address(host, port), nursery)

    async def _serve(self, sock: socket.socket, peer: str, nursery: trio.Nursery) -> None:
        machine = PowerConnection(
            client=False,
            config=self._config,
            entropy=os.urandom,
            office=self._office,
            peer=peer.encode(),
        )
        machine.sign_page = self._sign
        machine.start(now_ns())
        stream = SegmentStream(
            sock,
            machine,
            lambda events: self._take(path, events),
            nursery=nursery,
            wheel=self._wheel,
        )
        path = Path(machine, stream)
        self.paths.append(path)
        try:
            await stream.read()
        finally:
            stream.abort()
            if path in self.paths:
                self.paths.remove(path)

    def _take(self, path: Path, events: list[Event]) -> None:
        machine = path.machine
        for event in events:
            match event:
                case PowerRequested(flow=flow, asks=asks):
                    machine.grant(
                        flow, asks[0].desired, tariff=self.tariff, meter=self._meter, now=now_ns()
                    )
                case PowerAccepted(flow=flow) if flow in machine.flows:
                    machine.ready(flow, now=now_ns())
                case PageSigned(flow=flow, octets=octets):
                    self.signed.append(octets)
                    if flow in machine.flows:
                        machine.keep_page(flow, octets, now=now_ns())
            if not isinstance(event, CreditReceived):
                self.events.append(event)
        self._news.set()
        self._news = trio.Event()

    def _sign(self, facts: PageFacts) -> bytes:
        begun = PageChain(KEY, Side.SOURCE, self._unix_ns())
        chain = self._chains.setdefault(facts.transcript, begun)
        octets = chain.next_page(facts, self._unix_ns(), Clock.SYNCHRONISED)
        octets = self.alter(octets)
        self.sent.append(octets)
        return octets

    async def _deliver(self) -> None:
        due = trio.current_time()
        while True:
            due += self._every_s
            await trio.sleep_until(due)
            for path in list(self.paths):
                for flow, _ in list(path.powered()):
                    path.deliver(flow, self._every_s)
