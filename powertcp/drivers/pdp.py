"""The policeman of a network on TCP: its edge LSRs, its clock, and what it says once it is on disk.

One poll task and one wheel serve all connections; what a decision leads to in the books is written
before the edge LSR hears of it. MPLampS section 6.
"""

import logging
import socket
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Address, ip_address
from typing import Final

import trio

from powertcp.drivers.daemon import listen_error, now_ns, unix_offset_ns
from powertcp.drivers.dial import accept, format_address, listen
from powertcp.drivers.pdp_books import MarketBooks
from powertcp.drivers.pdp_lines import Kept
from powertcp.drivers.pdp_notes import Notes
from powertcp.drivers.poll import Poll
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import Wire
from powertcp.errors import PowerRefused, known
from powertcp.machine import Buffer, Event
from powertcp.mplamps.cops import PORT
from powertcp.mplamps.market import Market
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.topology import Topology
from powertcp.units import Duration, Instant

# of an edge LSR that reads too slowly: the decisions on all circuits that it can have, twice
MAX_QUEUED: Final = 32 << 20
ACCEPTS_PER_STEP: Final = 8
EMFILE_PAUSE_S: Final = 0.1
DRAIN_S: Final = 5.0
_log = logging.getLogger("pdp")


class _Line:
    """The machine of one connection: octets to the policeman, and his once they may be sent."""

    def __init__(self, server: "PdpServer", number: int, where: str) -> None:
        self.number, self.where = number, where
        self.wire: Wire[Event] | None = None
        self._server = server
        self._out = bytearray()
        self._held = 0

    @property
    def queued(self) -> int:
        """Octets that may be sent."""
        return len(self._out)

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the edge LSR."""
        self._server.police.receive_data(self.number, data, self._server.time(now))
        self._server.turn()

    def receive_eof(self, now: Instant) -> None:
        """Take the end of the connection."""
        self._server.police.receive_eof(self.number, self._server.time(now))
        self._server.turn()

    def data_to_send(self) -> bytes:
        """Drain what may be sent."""
        octets = bytes(self._out)
        self._out.clear()
        return octets

    def next_event(self) -> Event | None:
        """Return nothing: the policeman reports for all."""
        return None

    def get_timer(self) -> Instant | None:
        """Return nothing: the policeman has the deadlines of all."""
        return None

    def handle_timer(self, now: Instant) -> None:
        """Do nothing."""

    def hold(self, octets: bytes) -> bool:
        """Note that octets wait for the books; False for too many."""
        self._held += len(octets)
        return self._held + len(self._out) <= MAX_QUEUED

    def release(self, octets: bytes, *, is_last: bool) -> None:
        """Send octets, and after the last ones say goodbye."""
        self._held -= len(octets)
        self._out += octets
        wire = self.wire
        if wire is not None and not wire.closed:
            wire.flush()
            if is_last:
                wire.finish()


class PdpServer:
    """The policeman with his listeners, books and time of day. notes: what people are told.

    where: address and port on which he listens where no listener is given.
    """

    def __init__(self, topology: Topology, market: Market) -> None:
        """Prepare to serve; `begin` follows when the books are open."""
        self.topology, self.market = topology, market
        self.draining = False
        self.fault = ""
        self.notes = Notes(topology)
        self.police: Policeman
        self.books: MarketBooks
        self._offset: Duration = 0
        self._wheel, self._poll = Wheel(), Poll()
        self._lines: dict[int, _Line] = {}
        self._nursery: trio.Nursery | None = None
        self._stop, self._drained = trio.Event(), trio.Event()

    @property
    def where(self) -> tuple[str, int] | None:
        """Address and port of the policeman in the topology, None if it has none."""
        node = self.topology.pdp()
        return None if node is None else (str(node.address), PORT)

    def begin(self, books: MarketBooks, kept: Kept) -> None:
        """Go on where the books end. The clock of the day is read here, and then kept by trio's."""
        self.books = books
        books.on_failure = self._fail
        self._offset = unix_offset_ns()
        self.police = Policeman(self.topology, self.market, self.now())
        self.police.restore(
            kept.standings.values(),
            kept.totals.values(),
            prices=kept.prices,
            withdrawn=kept.withdrawn,
            paid=kept.paid,
        )

    def time(self, now: Instant) -> Instant:
        """Return the time of day, ns since 1970 in UTC, of a time of trio's clock."""
        return now + self._offset

    def now(self) -> Instant:
        """Return the time of day, ns since 1970 in UTC."""
        return self.time(now_ns())

    # -- serving -----------------------------------------------------------------------------------

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until drained or cancelled; started with the addresses of `listeners`.

        Without one he listens where the topology has him. Raises ConfigError, HostError if he can
        not.
        """
        listeners = listeners or self._listen()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._wheel.run)
                nursery.start_soon(self._poll.run)
                for listener in listeners:
                    nursery.start_soon(self._accept_loop, listener)
                self.turn()
                task_status.started([format_address(*one.getsockname()[:2]) for one in listeners])
                await self._stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            for line in tuple(self._lines.values()):
                known(line.wire, "a line has its wire").abort()
            self._poll.close()
            for listener in listeners:
                listener.close()

    def _listen(self) -> list[socket.socket]:
        host, port = known(self.where, "a topology without policeman has a listener")
        try:
            return listen([(host, port)])
        except OSError as error:
            raise listen_error(error, format_address(host, port)) from error

    async def _accept_loop(self, listener: socket.socket) -> None:
        while not self.draining:
            try:
                await trio.lowlevel.wait_readable(listener)
                accepted = accept(listener, ACCEPTS_PER_STEP)
            except trio.ClosedResourceError:
                return
            except OSError as error:
                _log.warning("accept: %s", error)
                await trio.sleep_until(trio.current_time() + EMFILE_PAUSE_S)
                continue
            for sock, (host, port) in accepted:
                self._open(sock, host, port)

    def _open(self, sock: socket.socket, host: str, port: int) -> None:
        nursery, where = self._nursery, format_address(host, port)
        if nursery is None or self.draining:
            sock.close()
            return
        try:
            number = self.police.connect(self.now(), _vouched(host))
        except PowerRefused as refused:
            _log.warning("connection of %s refused: %s", where, refused)
            sock.close()
            return
        line = self._lines[number] = _Line(self, number, where)
        wire: Wire[Event] = Wire(
            sock, line, _nothing, nursery=nursery, wheel=self._wheel,
            on_close=partial(self._leave, number),
        )  # fmt: skip
        line.wire = wire
        if wire.readable(now_ns()) and not wire.closed:
            self._poll.register(wire)
        self.turn()

    def _leave(self, number: int) -> None:
        """The descriptor of a connection is closed."""
        self._lines.pop(number, None)
        if not self.police.is_closed(number):
            self.police.receive_eof(number, self.now())
        self.turn()
        if not self._lines:
            self._drained.set()

    def turn(self) -> None:
        """Write down what happened, then let each edge LSR hear what is for it."""
        police = self.police
        events = []
        while (event := police.next_event()) is not None:
            events.append(event)
            self.notes.take(event)
        self.books.put(events)
        for number in police.ready():
            octets, is_last = police.data_to_send(number), police.is_closed(number)
            line = self._lines.get(number)
            if line is None or not (octets or is_last):
                continue
            if not line.hold(octets):
                _log.warning("%s reads too slowly: %d octets wait", line.where, MAX_QUEUED)
                known(line.wire, "a line has its wire").abort()
                continue
            self.books.when_written(partial(line.release, octets, is_last=is_last))
        due = self.get_timer()
        if due is not None:
            self._wheel.arm(self, due)

    # -- what the wheel calls ----------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return the next deadline of the policeman, of trio's clock."""
        due = self.police.get_timer()
        return None if due is None else due - self._offset

    def handle_timer(self, now: Instant) -> None:
        """Let the policeman do what is due."""
        self.police.handle_timer(self.time(now))
        self.turn()

    def flush(self) -> bool:
        """Do nothing: each change sends what it leads to."""
        return True

    # -- the end -----------------------------------------------------------------------------------

    def _fail(self) -> None:
        """The books cannot be written: edge LSRs go on without a policeman."""
        self.fault = self.books.fault
        self.stop()

    async def drain(self) -> None:
        """Tell every edge LSR that the policeman goes off duty, then end `serve`."""
        self.draining = True
        self.police.close(self.now())
        self.turn()
        self._drained = trio.Event()
        with trio.move_on_after(DRAIN_S if self._lines else 0):
            await self._drained.wait()
        self._stop.set()

    def stop(self) -> None:
        """End `serve` at once: connections are reset."""
        self.draining = True
        self._stop.set()


def _vouched(host: str) -> IPv4Address | None:
    """Return the address that a peer has for sure: on one host any process may have any."""
    address = ip_address(host.partition("%")[0])
    found = getattr(address, "ipv4_mapped", None) or address
    return found if isinstance(found, IPv4Address) and not found.is_loopback else None


def _nothing(_: object) -> None:
    """The policeman reports for all."""
