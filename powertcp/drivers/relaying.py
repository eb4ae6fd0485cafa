"""What relays have in common: pairs of wires, accepted, polled, counted, forgotten when both are gone.

One poll task and one wheel serve all of them. What stands between the wires of a pair, and where
the second one leads, is up to whoever relays.
"""

import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Final, Generic, TypeVar

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import accept, format_address
from powertcp.drivers.poll import Poll
from powertcp.drivers.relay_wire import RelayWire
from powertcp.drivers.session import AddressLimit, party_of, peer_of
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import SegmentMachine
from powertcp.machine import Event
from powertcp.reclaim.leg import Leg
from powertcp.reclaim.track import End
from powertcp.units import NS_PER_S, Duration, Instant

PER_ADDRESS: Final = 64  # connections of one address, protocol section 14
ACCEPTS_PER_STEP: Final = 8
EMFILE_PAUSE_S: Final = 0.1
# T_DRAIN for one side, once more for the other
DRAIN_NS: Final = 10 * NS_PER_S
_NO_ROOM: Final = 1 << 62


class Pair(ABC):
    """A connection that came, and the one that is made for it.

    client: the wire of who came; server: None as long as nobody was dialled. is_dialling: nothing
    that is for the server is taken meanwhile.
    """

    def __init__(self, host: str, port: int, peer: bytes) -> None:
        """Begin without wires. peer: by which connections are counted."""
        self.host, self.port, self.peer = host, port, peer
        self.client: RelayWire | None = None
        self.server: RelayWire | None = None
        self.is_dialling = self.is_hanging = self.is_leaving = False

    @abstractmethod
    def leg(self, end: End) -> Leg:
        """Return what stands behind the wire of one side."""

    @property
    def where(self) -> str:
        """Who came, as people see it: ADDRESS:PORT."""
        return format_address(self.host, self.port)

    @property
    def party(self) -> str:
        """Its address for the books."""
        return party_of(self.host)

    @property
    def wires(self) -> tuple[RelayWire, ...]:
        """The wires that there are."""
        return tuple(wire for wire in (self.client, self.server) if wire is not None)

    @property
    def is_closed(self) -> bool:
        """Whether both sides are gone."""
        return not self.is_dialling and all(wire.closed for wire in self.wires)

    def backlog(self, end: End) -> int:
        """Return what waits for one side, octets; for one that is not there yet it is too much."""
        if end is End.SERVER and self.is_dialling:
            return _NO_ROOM
        wire = self.client if end is End.CLIENT else self.server
        return wire.queued if wire is not None and not wire.closed else self.leg(end).queued

    def flush(self) -> None:
        """Send what waits for both sides."""
        for wire in self.wires:
            wire.flush()
            wire.rearm()

    def join(self, server: RelayWire, now: Instant) -> None:
        """Go on with a second wire: what waits for it goes there."""
        self.server = server
        if self.client is not None:
            server.partner, self.client.partner = self.client, server
        server.now = now
        server.begin(now)
        self.flush()

    def retire(self) -> None:
        """Forget the wires: both are closed."""
        for wire in self.wires:
            wire.partner = None
            wire.retire()


PairT = TypeVar("PairT", bound=Pair)


class RelayServer(ABC, Generic[PairT]):
    """Listeners, one poll task and one wheel for all pairs. log: who says what goes wrong."""

    def __init__(self, per_address: int, log: logging.Logger) -> None:
        """Prepare to serve; nothing is opened yet. per_address: connections of one address."""
        self.wheel, self.poll = Wheel(), Poll()
        self.sessions: set[PairT] = set()
        self.refused_connections = 0
        self.draining = False
        # at which we listen
        self.ports: frozenset[int] = frozenset()
        self.nursery: trio.Nursery | None = None
        self._per_address, self._log = per_address, log
        self._addresses = AddressLimit(per_address)
        self._gone: list[PairT] = []
        self._drained, self._stop = trio.Event(), trio.Event()

    # -- what is up to whoever relays ----------------------------------------------------------

    @abstractmethod
    def begin(
        self, sock: socket.socket, host: str, port: int, peer: bytes, now: Instant
    ) -> PairT | None:
        """Make the pair of a connection that came, with its first wire; None: it was closed."""

    @abstractmethod
    def heed(self, pair: PairT, end: End, events: list[Event]) -> None:
        """Act on what a wake-up of either side brought."""

    @abstractmethod
    def closed(self, pair: PairT) -> None:
        """Both sides of `pair` are gone."""

    @abstractmethod
    def end_all(self, pair: PairT, now: Instant) -> None:
        """Say goodbye on every flow of `pair`: we drain."""

    @abstractmethod
    def hang(self, pair: PairT) -> None:
        """End both sides, after what waits for them."""

    @abstractmethod
    def is_idle(self, pair: PairT) -> bool:
        """Whether `pair` has no flow."""

    def prepare(self, listeners: Sequence[socket.socket]) -> None:
        """Do what is to be done with listeners before they serve. Raises PowerError."""

    # -- serving -------------------------------------------------------------------------------

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until drained or cancelled; started with the addresses of `listeners`."""
        try:
            self.prepare(listeners)
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                self.ports = frozenset(one.getsockname()[1] for one in listeners)
                nursery.start_soon(self.wheel.run)
                nursery.start_soon(self.poll.run)
                for listener in listeners:
                    nursery.start_soon(self._accept_loop, listener)
                task_status.started([format_address(*one.getsockname()[:2]) for one in listeners])
                await self._stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            for pair in tuple(self.sessions):
                for wire in pair.wires:
                    wire.abort()
            self.poll.close()
            for listener in listeners:
                listener.close()

    async def _accept_loop(self, listener: socket.socket) -> None:
        while not self.draining:
            try:
                await trio.lowlevel.wait_readable(listener)
                accepted = accept(listener, ACCEPTS_PER_STEP)
            except trio.ClosedResourceError:
                return
            except OSError as error:
                self._log.warning("accept: %s", error)
                await trio.sleep_until(trio.current_time() + EMFILE_PAUSE_S)
                continue
            for sock, (host, port) in accepted:
                self._open(sock, host, port, now_ns())

    def _open(self, sock: socket.socket, host: str, port: int, now: Instant) -> None:
        """Begin a pair, unless its address has too many."""
        peer = peer_of(host)
        # PTCP-14-01
        if self.nursery is None or self.draining or not self._addresses.enter(peer):
            self.refused_connections += 1
            sock.close()
            why = "draining" if self.draining else f"more than {self._per_address}"
            self._log.info("connection of %s refused: %s", host, why)
            return
        pair = self.begin(sock, host, port, peer, now)
        if pair is None or pair.client is None:
            self._addresses.leave(peer)
            return
        self.sessions.add(pair)
        pair.client.begin(now)

    def wire(
        self,
        pair: PairT,
        sock: socket.socket,
        machine: SegmentMachine[Event],
        end: End,
        nursery: trio.Nursery,
    ) -> RelayWire:
        """Return the wire of one side of `pair`."""
        return RelayWire(
            sock,
            machine,
            partial(self.heed, pair, end),
            poll=self.poll,
            backlog=partial(pair.backlog, end.other),
            nursery=nursery,
            wheel=self.wheel,
            on_close=partial(self._leave, pair, end),
            on_turn=self.turned,
        )

    def turned(self) -> None:
        """A wire has done a turn of work."""

    def drain_events(self, pair: PairT) -> None:
        """Handle what happened outside of a wake-up."""
        events: list[Event] = []
        for end in End:
            while (event := pair.leg(end).next_event()) is not None:
                events.append(event)
        self.heed(pair, End.SERVER, events)
        pair.flush()
        self.turned()

    # -- the end -------------------------------------------------------------------------------

    def look(self, pair: PairT) -> None:
        """Hang up on whoever has no flow left, once we drain."""
        if self.draining and self.is_idle(pair):
            self.hang(pair)

    def _leave(self, pair: PairT, end: End) -> None:
        """The wire of one side is being closed."""
        if end is End.CLIENT:
            self._addresses.leave(pair.peer)
        self.forget(pair)

    def get_timer(self) -> Instant | None:
        """Return when `handle_timer` is due: as soon as somebody left."""
        return now_ns() if self._gone else None

    def handle_timer(self, now: Instant) -> None:
        """Forget who left, once its wires have said all they had to."""
        gone, self._gone = self._gone, []
        for pair in gone:
            self.sessions.discard(pair)
            self.closed(pair)
            pair.retire()
        if self.draining and not self.sessions:
            self._drained.set()

    def flush(self) -> bool:
        """Do nothing: each change flushes its own wires."""
        return True

    def forget(self, pair: PairT) -> None:
        """Forget `pair` soon, if both its sides are gone."""
        if pair.is_closed and pair in self.sessions and not pair.is_leaving:
            pair.is_leaving = True
            self._gone.append(pair)
            self.wheel.arm(self, now_ns())

    async def drain(self, most_ns: Duration = DRAIN_NS) -> None:
        """Say goodbye on every flow to both sides, wait for that, then end `serve`."""
        self.draining = True
        for pair in tuple(self.sessions):
            self.end_all(pair, now_ns())
            pair.flush()
            self.look(pair)
        self.turned()
        if self.sessions:
            with trio.move_on_after(most_ns / NS_PER_S):
                await self._drained.wait()
        self._stop.set()

    def stop(self) -> None:
        """End `serve` at once: connections are reset."""
        self._stop.set()
