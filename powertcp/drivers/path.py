"""One connection to one provider: its socket, its machine, what it has shown of itself."""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ParamSpec, TypeVar

import trio

from powertcp.dpdp.trust import Shown
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.dial import connect, format_address
from powertcp.drivers.guide import Place
from powertcp.drivers.interfaces import Interface, carrier, is_carried, read_interfaces
from powertcp.drivers.proof import has_signed, shown_by
from powertcp.drivers.sealing import seal_client, sealed_limits
from powertcp.drivers.stream import SegmentMachine, SegmentStream
from powertcp.drivers.tracer import Tracer
from powertcp.drivers.wheel import Wheel
from powertcp.errors import HostError, WireBroken, known
from powertcp.machine import Event
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import PowerGranted
from powertcp.potcp.traced import TracedConnection
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

OPEN_S = 5  # T_OPEN
ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


class Path:
    """One connection, from TCP that is open to its end.

    handle: gets the events of each wake-up. on_end: called once, when nothing comes any more. Both
    may be others later. where: our end, by which the provider names our flows. is_sealed: the
    provider has proved its key. stale_at: since when it does not answer. carrier: the interface it
    came over, once that was looked for.
    """

    def __init__(
        self,
        place: Place,
        sock: socket.socket,
        machine: PowerConnection,
        wheel: Wheel,
        nursery: trio.Nursery,
        handle: "Callable[[Path, list[Event]], None]",
        on_end: "Callable[[Path], None]",
    ) -> None:
        """Take over `sock`; `serve` reads it."""
        self.place, self.machine = place, machine
        self.handle, self.on_end = handle, on_end
        self.where = format_address(*sock.getsockname()[:2])
        self.is_sealed = False
        self.is_over = False
        self.stale_at: Instant | None = None
        self.shown = Shown()
        self.carrier: Interface | None = None
        self._local = sock.getsockname()[0]
        self._flowing = trio.Event()
        self._flowing.set()
        self._reading = trio.CancelScope()
        carried: SegmentMachine[Event] = machine
        if place.seal is not None:
            carried = seal_client(machine, place.seal, os.urandom, now_ns())
        self._stream: SegmentStream[Event] = SegmentStream(
            sock,
            carried,
            lambda events: self.handle(self, events),
            nursery=nursery,
            wheel=wheel,
            give_up=lambda refusal, now: machine.abort(refusal, now=now),
            write_ns=lambda: machine.write_limit_ns,
        )

    async def serve(self) -> None:
        """Read until nothing comes any more."""
        try:
            while not self._stream.ended:
                await self._flowing.wait()
                with trio.CancelScope() as self._reading:
                    await self._stream.read()
        finally:
            self._stream.abort()
            self.is_over = True
            self.on_end(self)
            self._stream.retire()

    # -- what is done with it ------------------------------------------------------------------

    def queue(
        self, verb: Callable[ParamsT, ResultT], *args: ParamsT.args, **kwargs: ParamsT.kwargs
    ) -> ResultT:
        """Call a verb of the machine and send what follows. Raises WireBroken."""
        return self._stream.queue(verb, *args, **kwargs)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due: a busy host may look before its wheel does."""
        self._stream.handle_timer(now)

    def finish(self) -> None:
        """Say goodbye to TCP."""
        self._stream.finish()

    def abort(self) -> None:
        """End with a TCP reset; the machine is told nothing."""
        self._stream.abort()
        self.go_on()

    def cut(self) -> None:
        """End at once; flows are cut, and may be resumed elsewhere."""
        with suppress(WireBroken):
            self._stream.queue(self.machine.cut, None, now_ns())
        self.abort()

    def pause(self) -> None:
        """Read nothing until `go_on`: what is sent meanwhile is neither banked nor lost."""
        self._flowing = trio.Event()
        self._reading.cancel()

    def go_on(self) -> None:
        """Read again."""
        self._flowing.set()

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read."""
        return not self._flowing.is_set()

    # -- what is known of it -------------------------------------------------------------------

    @property
    def interval_ns(self) -> Duration:
        """Between two probes, as both sides agreed."""
        return self.machine.interval_ms * NS_PER_MS

    def is_carried(self, found: Sequence[Interface]) -> bool:
        """Whether the interface it came over is there, with a link and our address."""
        if self.carrier is None:
            self.carrier = carrier(found, self._local)
            return True
        return is_carried(found, self.carrier, self._local)

    @property
    def is_answering(self) -> bool:
        """Whether the provider answers, as far as is known: not STALE, and its link is there."""
        try:
            return self.stale_at is None and self.is_carried(read_interfaces())
        except HostError:
            return self.stale_at is None

    def show(self, certificate: bytes) -> None:
        """The provider has proved its key in a VPPN handshake, and shows a certificate or none."""
        self.is_sealed = True
        self.shown = shown_by(self.place, certificate, unix_ns() // NS_PER_S)

    # DPDP-7-07
    def lacks(self, event: PowerGranted) -> str:
        """Return what the provider has not proved of whom we trust, "" for nothing."""
        meter_key = event.meter.key if event.meter is not None else None
        signs = meter_key is not None and has_signed(self.place, meter_key)
        self.shown = replace(self.shown, meter_key=meter_key, signs=signs)
        return self.place.proof.missing(self.shown) if self.place.proof else ""


class Dialler:
    """Opens paths that share a nursery, a wheel and a folder of traces."""

    def __init__(
        self,
        config: ConnectionConfig,
        wheel: Wheel,
        tracer: Tracer | None,
        firewall: tuple[str, int] | None = None,
    ) -> None:
        """Open connections by `config`. nursery: is set before the first one.

        firewall: host and port of who connects to the places in our stead, None: we do.
        """
        self._config, self._wheel, self._tracer = config, wheel, tracer
        self._firewall = firewall
        self.nursery: trio.Nursery | None = None

    async def dial(
        self,
        place: Place,
        handle: Callable[[Path, list[Event]], None],
        on_end: Callable[[Path], None],
    ) -> Path:
        """Connect and serve in the nursery. Raises OSError, after 5 s at the latest."""
        sock = None
        with trio.move_on_after(OPEN_S):
            sock = await connect(*(self._firewall or (place.host, place.port)))
        if sock is None:
            raise TimeoutError(f"no answer within {OPEN_S} s")
        return self._serve(place, sock, handle, on_end)

    def _serve(
        self,
        place: Place,
        sock: socket.socket,
        handle: Callable[[Path, list[Event]], None],
        on_end: Callable[[Path], None],
    ) -> Path:
        peer = str(place)
        trace = self._tracer.open("sink", peer) if self._tracer else None
        kind = PowerConnection if trace is None else TracedConnection
        machine = kind(
            client=True,
            config=sealed_limits(self._config) if place.seal else self._config,
            entropy=os.urandom,
            peer=peer.encode(),
            trace=trace,
        )
        machine.unix_offset_ns = unix_offset_ns()
        nursery = known(self.nursery, "nothing is dialled before there is a nursery")
        path = Path(place, sock, machine, self._wheel, nursery, handle, on_end)

        async def serve() -> None:
            try:
                await path.serve()
            finally:
                if trace is not None:
                    trace.close()

        nursery.start_soon(serve)
        return path
