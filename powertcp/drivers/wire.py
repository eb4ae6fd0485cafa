"""Wire: one machine on one plain socket, work per wake-up, one writer.

Called by the poll task, the wheel and the reader task; nothing here waits. What a client awaits is
in `stream`.
"""

import errno
import logging
import socket
import struct
from collections.abc import Callable
from typing import ClassVar, Generic, Protocol, TypeVar

import trio

from powertcp.drivers.bugs import BUGS
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.wheel import Wheel
from powertcp.machine import Buffer, StreamMachine
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

RECEIVE_OCTETS = 256 * 1024  # one read; control answers of a peer must not wait longer than this
ROOM_LOW = 64 * 1024  # who waits for room waits until no more than this is queued, D3
WRITE_NS = 65 * NS_PER_S  # T_WRITE: default lease of 60 s + 5 s
DRAIN_NS = 5 * NS_PER_S  # T_DRAIN: what a goodbye may take
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends a TCP reset

# the only receive buffer of the process: what is cut from it dies when receive_data returns (P4)
_BUFFER = memoryview(bytearray(RECEIVE_OCTETS))

_NOTHING = memoryview(b"")
_NEVER: Instant = 1 << 63

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)
_log = logging.getLogger("stream")


def _ignore(_: object) -> None:
    """Handle the events of a machine whose owner has left."""


class SegmentMachine(StreamMachine[EventT_co], Protocol[EventT_co]):
    """A StreamMachine that says how much it has queued."""

    @property
    def queued(self) -> int:
        """Octets that data_to_send has not yet given out."""


class Watcher(Protocol):
    """Whoever polls a wire and must forget it before its descriptor is closed."""

    def unregister(self, wire: "Pollable") -> None:
        """Forget `wire`."""


class Pollable(Protocol):
    """What a poll task serves."""

    watcher: Watcher | None

    def fileno(self) -> int:
        """Return the descriptor to watch."""

    def readable(self, now: Instant) -> bool:
        """Do one turn of work; False: forget me."""


class Wire(Generic[EventT]):
    """A machine on a non-blocking socket that is ours alone.

    handle: gets all events of a wake-up. nursery: where
    the writer task lives while the kernel takes no more. wheel: armed after every flush.
    on_close: called once, when the descriptor is closed. give_up: tells the machine that the
    peer reads nothing (T_WRITE); without it the machine sees the end of the stream. write_ns:
    T_WRITE, or who knows it when it begins to run, as it goes by the leases of the flows.
    Nothing here raises on what a peer does, be it by a bug of ours: the wire is closed and said
    so in the log.
    """

    __slots__ = (
        "_armed",
        "_broken",
        "_deadline",
        "_end_by",
        "_ending",
        "_eof",
        "_give_up",
        "_handle",
        "_handling",
        "_on_close",
        "_roomy",
        "_sock",
        "_tail",
        "_wheel",
        "_writing",
        "machine",
        "now",
        "nursery",
        "watcher",
        "write_ns",
    )
    faults: ClassVar[int] = 0

    def __init__(
        self,
        sock: socket.socket | None,
        machine: SegmentMachine[EventT],
        handle: Callable[[list[EventT]], None],
        *,
        nursery: trio.Nursery,
        wheel: Wheel | None = None,
        on_close: Callable[[], None] | None = None,
        give_up: Callable[[Refusal, Instant], None] | None = None,
        write_ns: Duration | Callable[[], Duration] = WRITE_NS,
    ) -> None:
        """Take over `sock`, which nobody else may touch from here on."""
        if sock is not None:
            sock.settimeout(0)
        self._sock = sock
        self.machine = machine
        self._handle = handle
        self.nursery = nursery
        self._wheel = wheel
        self._on_close = on_close
        self._give_up = give_up
        self.write_ns = write_ns
        self.watcher: Watcher | None = None
        self.now: Instant = 0  # of the wake-up whose events are handled
        self._tail = _NOTHING  # taken from the machine, not yet by the kernel
        self._writing = False  # the writer task exists
        self._broken = False
        self._eof = False
        self._ending = False
        self._handling = False
        self._deadline: Instant | None = None  # T_WRITE
        self._end_by: Instant | None = None  # T_DRAIN of `finish`
        self._roomy: trio.Event | None = None
        self._armed: Instant = _NEVER  # the wheel calls at this time, or before

    # what it is

    @property
    def closed(self) -> bool:
        """Whether the wire is gone; the machine may still have deadlines."""
        return self._sock is None

    @property
    def ended(self) -> bool:
        """Whether the peer's octets have come to their end."""
        return self._eof or self.closed

    @property
    def queued(self) -> int:
        """Octets that neither the kernel has taken nor anybody given up."""
        return len(self._tail) + self.machine.queued

    @property
    def write_limit_ns(self) -> Duration:
        """How long the peer may read nothing from now on, T_WRITE."""
        limit = self.write_ns
        return limit if isinstance(limit, int) else limit()

    def has_room(self, most: int) -> bool:
        """Whether the wire is open and at most `most` octets wait in it."""
        return self._sock is not None and len(self._tail) + self.machine.queued <= most

    def fileno(self) -> int:
        """Return the descriptor, -1 when closed."""
        return -1 if self._sock is None else self._sock.fileno()

    # the synchronous core

    def readable(self, now: Instant) -> bool:
        """Read once, feed the machine, hand over all events, flush; False when no more will come."""
        sock = self._sock
        self.now = now
        if sock is None:
            return False
        try:
            count = sock.recv_into(_BUFFER)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            self._lose(error, now)
            return False
        if count:
            self._take(_BUFFER[:count], now)
        else:
            self._take_eof(now)
        return self._sock is not None and not self._eof

    def handle_timer(self, now: Instant) -> None:
        """Do what is due: the machine's deadlines, T_WRITE, the end of a goodbye."""
        self.now = now
        self._armed = _NEVER
        try:
            if self._deadline is not None and now >= self._deadline and not self.closed:
                self._stuck(now)
            if self._end_by is not None and now >= self._end_by:
                self.abort()
            self.machine.handle_timer(now)
            self._drain()
        except Exception as error:  # noqa: BLE001 - ends at its connection
            self.fail(error)

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline of machine and wire."""
        earliest = self.machine.get_timer()
        for time in (self._deadline, self._end_by):
            if time is not None and (earliest is None or time < earliest):
                earliest = time
        return earliest

    def flush(self) -> bool:
        """Give the kernel what is queued, without waiting; True when nothing is left.

        The only caller of send, with `_write`, which exists after a refusal of the kernel alone.
        """
        machine = self.machine
        done = True
        if self._sock is None:
            self._discard()
        elif self._writing:
            done = False
        elif machine.queued or self._tail or self._ending or self._roomy is not None:
            done = self._push()
            if not done and self._sock is not None:
                self._start_writer()
        time = machine.get_timer()
        if time is not None and time < self._armed:
            self.rearm()
        return done

    def push(self, octets: bytes) -> bool:
        """Send whole segments that many wires share, past the machine; False: not now, or never.

        Taken are all of them or none. What the kernel leaves is kept, not copied, and nothing else
        is sent before it.
        """
        sock = self._sock
        if sock is None or self._writing or self._ending or len(self._tail) or self.machine.queued:
            return False
        try:
            sent = sock.send(octets)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lose(error, now_ns())
            return False
        if sent != len(octets):
            self._tail = memoryview(octets)[sent:]
            self._start_writer()
        return True

    def rearm(self) -> None:
        """Tell the wheel the earliest deadline."""
        if self._wheel is not None:
            time = self.get_timer()
            if time is not None:
                self._armed = time
                self._wheel.arm(self, time)

    def finish(self) -> None:
        """Send what is queued, then say goodbye to TCP and close; T_DRAIN is the longest it takes."""
        if self._ending or self.closed:
            return
        self._ending = True
        self._end_by = now_ns() + DRAIN_NS
        self.flush()
        self.rearm()

    def close(self) -> None:
        """Close at once; octets still queued make the wire broken."""
        if self.closed:
            return
        if len(self._tail):
            self._broken = True
        if self.watcher is not None:
            self.watcher.unregister(self)
            self.watcher = None
        self._shut()
        self._end_by = self._deadline = None
        self._discard()
        self._awake()
        if self._on_close is not None:
            self._on_close()

    def fail(self, error: Exception) -> None:
        """Close at once for an error met on behalf of this connection: it ends here (P12)."""
        Wire.faults += 1
        if not BUGS.judge(error):
            _log.warning("connection closed: %s", error)
        self.abort()
        self._tell_eof(now_ns())

    def retire(self) -> None:
        """Forget who handles events: nothing is left to say, and nobody keeps the other alive."""
        self._handle, self._on_close = _ignore, None
        self._give_up, self.write_ns = None, WRITE_NS
        if self._wheel is not None:
            self._wheel.disarm(self)

    def abort(self) -> None:
        """Close at once with a TCP reset."""
        sock = self._sock
        if sock is not None:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError as error:
                _log.debug("no reset: %s", error)
        self.close()

    # inside

    def _take(self, data: Buffer, now: Instant) -> None:
        """Give octets to the machine, its events to their handler, its answers to the wire."""
        if self._ending:
            return
        try:
            self.machine.receive_data(data, now)
            self._drain()
            self.flush()
        except Exception as error:  # noqa: BLE001 - ends at its connection
            self.fail(error)

    def _take_eof(self, now: Instant) -> None:
        self._eof = True
        if self._ending:
            self.close()
            return
        try:
            self.machine.receive_eof(now)
            self._drain()
        except Exception as error:  # noqa: BLE001 - ends at its connection
            self.fail(error)
        self.finish()

    def _drain(self) -> None:
        """Hand over events in order; what a handler causes comes after what it was given."""
        if self._handling:
            return
        next_event = self.machine.next_event
        event = next_event()
        if event is None:
            return
        self._handling = True
        try:
            while event is not None:
                events = [event]
                while (event := next_event()) is not None:
                    events.append(event)
                self._handle(events)
                event = next_event()
        finally:
            self._handling = False

    def _push(self) -> bool:
        """Send until nothing is left (True) or the kernel takes no more (False)."""
        sock, machine = self._sock, self.machine
        while sock is not None:
            octets = self._tail or machine.data_to_send()
            if not octets:
                break
            try:
                sent = sock.send(octets)
            except (BlockingIOError, InterruptedError):
                self._tail = memoryview(octets)
                return False
            except OSError as error:
                self._lose(error, now_ns())
                return True
            self._deadline = None
            if sent != len(octets):
                self._tail = memoryview(octets)[sent:]
                return False
            self._tail = _NOTHING
            if not machine.queued:
                break
        if self._ending or self._roomy is not None:
            self._all_sent()
        return True

    def _all_sent(self) -> None:
        if self._roomy is not None and self.queued <= ROOM_LOW:
            self._roomy.set()
            self._roomy = None
        if self._ending and self._sock is not None:
            if self._eof:
                self.close()
                return
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.close()

    def _start_writer(self) -> None:
        self._writing = True
        if self._deadline is None:
            self._deadline = now_ns() + self.write_limit_ns
            self.rearm()
        self.nursery.start_soon(self._write)

    async def _write(self) -> None:
        """Go on with the tail whenever the kernel takes more; ends when nothing is left.

        Cancelled, the tail stays and the next flush goes on with it.
        """
        try:
            while not self.closed:
                await trio.lowlevel.wait_writable(self.fileno())
                before = self.queued
                if self.closed or self._push():
                    break
                if self.queued != before:
                    self._deadline = now_ns() + self.write_limit_ns
                if self._roomy is not None and self.queued <= ROOM_LOW:
                    self._roomy.set()
                    self._roomy = None
        except trio.ClosedResourceError:
            return
        except Exception as error:  # noqa: BLE001 - ends at its connection
            self.fail(error)
        finally:
            self._writing = False
            self.rearm()

    def _stuck(self, now: Instant) -> None:
        """T_WRITE is over: the peer reads nothing."""
        waited_ms = self.write_limit_ns // NS_PER_MS
        refusal = Refusal(Reason.TIMEOUT, waited_ms, waited_ms)
        _log.warning("peer reads nothing: %s", refusal.sentence())
        self._deadline = None
        if self._give_up is not None:
            self._give_up(refusal, now)
        else:
            self.machine.receive_eof(now)
        self.abort()

    def _lose(self, error: OSError, now: Instant) -> None:
        """The kernel says that the connection is gone."""
        if error.errno not in (errno.ECONNRESET, errno.EPIPE):
            Wire.faults += 1
            _log.warning("wire lost: %s", error)
        self._eof = True
        self._tail = _NOTHING
        self.close()
        self._tell_eof(now)

    def _tell_eof(self, now: Instant) -> None:
        """Let the machine know that its path is gone, unless the goodbye was said."""
        self.now = now
        if not self._ending:
            self._ending = True
            try:
                self.machine.receive_eof(now)
                self._drain()
            except Exception as error:  # noqa: BLE001 - ends at its connection
                if not BUGS.judge(error):
                    _log.warning("after the end of a connection: %s", error)
        self.rearm()

    def _discard(self) -> None:
        self._tail = _NOTHING
        while self.machine.data_to_send():
            pass

    def _shut(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            trio.lowlevel.notify_closing(sock)
            sock.close()

    def _awake(self) -> None:
        if self._roomy is not None:
            self._roomy.set()
            self._roomy = None
