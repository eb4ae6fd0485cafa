"""Metered DATA between two processes: PowerConnection at both ends against a message library."""

import math
import secrets
import socket
import time
from typing import Any

import numpy
import trio

from powertcp.drivers import Poll, SegmentStream
from powertcp.drivers.daemon import now_ns
from powertcp.dve import EnergyRegister, encode_block, integrate
from powertcp.machine import Event
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Ask,
    CreditReceived,
    PowerAccepted,
    PowerReady,
    PowerRequested,
    SamplesReceived,
)
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_S
from powertcp.wire import Sampling
from tools.bench.harness import Options, Pair, WrongResultError, bench
from tools.bench.peers import websocket_ends
from tools.bench.streams import BATCH, Ends, Span, accepted, both_ends

UNIT = "segments/CPU s"
PEER = "websockets, messages of the same size, counted"
# a lease that octets hold exactly: what is granted is what was asked
REQUEST = PowerProfile.parse("230V/1A@50Hz,lease=3568s")
CYCLE_HZ = 50
# the limits that real time would set are raised: blocks are sent as fast as they can be made
CONFIG = ConnectionConfig(lease_s=3600, window_ns=500 * NS_PER_S)
ROOM = 262144
TURN_S = 0.001


class Blocks:
    """Groups of equal blocks of whole cycles of 230 V and 1 A, whose counters go on."""

    def __init__(self, samples: int, cycles: int) -> None:
        """Make one group; later ones differ in their counters."""
        self.samples = samples
        self.octets = 8 + 8 * samples
        self.group = max(1, BATCH // self.octets)
        sine = numpy.sin(numpy.arange(samples) * (2 * math.pi * cycles / samples)) * math.sqrt(2)
        columns = numpy.rint(numpy.outer(sine, [230_000, 990_000]))
        block = encode_block(0, columns.astype(numpy.int32))
        self.sum = integrate(block)
        rows = numpy.frombuffer(block * self.group, dtype=numpy.uint8).copy()
        self._rows = rows.reshape(self.group, self.octets)
        self._counters = self._rows[:, :4].view(">u4")[:, 0]
        self._steps = numpy.arange(self.group, dtype=numpy.int64) * samples

    def next_group(self, sent: int) -> list[bytes]:
        """Return the blocks after the first `sent`."""
        self._counters[:] = (self._steps + sent * self.samples) & 0xFFFF_FFFF
        octets, size = self._rows.tobytes(), self.octets
        return [octets[at : at + size] for at in range(0, len(octets), size)]


class Supplier:
    """The source: grants what is asked and delivers as fast as credit and kernel allow."""

    def __init__(self, samples: int, cycles: int, seconds: float) -> None:
        """Wait for a SYN."""
        self.machine = PowerConnection(client=False, config=CONFIG, entropy=secrets.token_bytes)
        self.flow = 0
        self._blocks = Blocks(samples, cycles)
        self._seconds = seconds
        self._ready = trio.Event()
        self._credit = trio.Event()

    def handle(self, events: list[Event]) -> None:
        """Answer what the sink asks."""
        for event in events:
            match event:
                case PowerRequested(flow=flow, asks=asks, sampling=sampling):
                    profile = asks[0].desired
                    self.machine.grant(flow, profile, sampling=sampling, now=now_ns())
                case PowerAccepted(flow=flow):
                    self.machine.ready(flow, now=now_ns())
                case PowerReady(flow=flow):
                    self.flow = flow
                    self._ready.set()
                case CreditReceived():
                    self._credit.set()

    async def pump(self, stream: SegmentStream[Event]) -> dict[str, Any]:
        """Deliver until the time is over; what was sent."""
        await self._ready.wait()
        blocks, machine, flow = self._blocks, self.machine, self.flow
        span, turn = Span(self._seconds), time.monotonic()
        more = True
        while more:
            group = blocks.next_group(span.total)
            taken = machine.send_samples(flow, group, now=now_ns())
            more = span.add(taken, taken * blocks.octets)
            stream.flush()
            if taken < len(group):
                self._credit = trio.Event()
                await self._credit.wait()
            elif stream.queued > ROOM or time.monotonic() - turn > TURN_S:
                await stream.room()
                turn = time.monotonic()
        esn = machine.status(flow).esn_uj
        answer = span.answer(esn=esn)
        stream.finish()
        return answer


class Metered:
    """The sink: asks for power and verifies every block."""

    def __init__(self, samples: int, cycles: int, span: Span) -> None:
        """Send SYN."""
        self.sampling = Sampling(samples * CYCLE_HZ // cycles)
        self.machine = PowerConnection(client=True, config=CONFIG, entropy=secrets.token_bytes)
        self.machine.open_flow([Ask(REQUEST, None)], sampling=self.sampling, now=now_ns())
        self.esn_uj = 0
        self._samples = samples
        self._span = span

    def handle(self, events: list[Event]) -> None:
        """Count what was banked."""
        for event in events:
            if isinstance(event, SamplesReceived):
                count, rest = divmod(event.count, self._samples)
                if rest:
                    raise WrongResultError(f"{event.count} samples are no whole blocks")
                self._span.add(count, count * (8 + 8 * self._samples))
                self.esn_uj = event.esn_uj


async def supply(sock: socket.socket, samples: int, cycles: int, seconds: float) -> dict[str, Any]:
    """The source's process."""
    async with trio.open_nursery() as nursery:
        supplier = Supplier(samples, cycles, seconds)
        stream = SegmentStream(sock, supplier.machine, supplier.handle, nursery=nursery)
        nursery.start_soon(stream.read)
        return await supplier.pump(stream)


async def consume(sock: socket.socket, samples: int, cycles: int, seconds: float) -> dict[str, Any]:
    """The sink's process."""
    span = Span(seconds)
    async with trio.open_nursery() as nursery:
        sink = Metered(samples, cycles, span)
        poll = Poll()
        stream = SegmentStream(
            sock,
            sink.machine,
            sink.handle,
            nursery=nursery,
            on_close=nursery.cancel_scope.cancel,
        )
        poll.register(stream)
        stream.flush()
        await poll.run()
    register = EnergyRegister(sink.sampling)
    due = register.add(Blocks(samples, cycles).sum * span.total)
    if sink.esn_uj != due:
        raise WrongResultError(f"{sink.esn_uj} uJ were banked, {due} uJ delivered")
    return span.answer(esn=sink.esn_uj)


def metered_ends(samples: int, cycles: int) -> Ends:
    """Source and sink, each in its own process; blocks of whole cycles, as AC is cut."""

    def send(sock: socket.socket, seconds: float) -> dict[str, Any]:
        return trio.run(supply, sock, samples, cycles, seconds)

    def receive(listening: socket.socket, seconds: float) -> dict[str, Any]:
        return trio.run(consume, accepted(listening), samples, cycles, seconds)

    return Ends(send, receive)


@bench("transport-1k-metered", unit=UNIT, peer=PEER, must=1.0, stretch=3.0)
def transport_1k_metered(options: Options) -> Pair:
    """Blocks of 127 samples, one cycle each: every check, integral and ESN, credit granted and consumed."""
    return Pair(both_ends(metered_ends(127, 1)), both_ends(websocket_ends(1024)))


@bench("transport-16k-metered", unit=UNIT, peer=PEER)
def transport_16k_metered(options: Options) -> Pair:
    """Blocks of 2047 samples, 23 cycles each."""
    return Pair(both_ends(metered_ends(2047, 23)), both_ends(websocket_ends(16384)))
