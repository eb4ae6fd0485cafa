"""Port: one UDP socket of a node, for one protocol, toward its neighbours.

A wake-up takes up to 64 datagrams. What the kernel does not take waits in a queue for each link.
"""

import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import trio

from powertcp.drivers.wire import Watcher
from powertcp.units import Instant

# datagrams of one wake-up: each costs some microseconds, an await many more
BURST: Final = 64
# longer messages are not accepted: MPLA-4.1-01
MAX_DATAGRAM: Final = 4096
# messages that wait for one link: they are sent again where they are lost
MAX_MESSAGES: Final = 1024
# what the kernel is asked to keep until we read: it gives what it may
RECEIVE_OCTETS: Final = 4 << 20
_log = logging.getLogger("lsr")

Place = tuple[str, int]
Take = Callable[[int, bytes, Instant], object]
Done = Callable[[Instant], None]
# of a link, what came (False) or went (True)
Tap = Callable[[int, bool, bytes], None]


class Queue(Protocol):
    """Octets that wait for a link."""

    def __len__(self) -> int:
        """Return how many wait."""

    def push(self, packet: bytes) -> bytes | None:
        """Let one wait; return the one that has to go for it."""

    def pop(self) -> bytes | None:
        """Return the one that waits longest."""


class MessageQueue:
    """Messages of one link; of a full queue the oldest goes."""

    def __init__(self) -> None:
        """Begin empty."""
        self._held: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def push(self, packet: bytes) -> bytes | None:
        """Let a message wait; return the one that has to go for it."""
        self._held.append(packet)
        return self._held.popleft() if len(self._held) > MAX_MESSAGES else None

    def pop(self) -> bytes | None:
        """Return the message that waits longest."""
        return self._held.popleft() if self._held else None


def open_port(address: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address of this host. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)
        sock.bind((address, port))
        sock.settimeout(0)
    except BaseException:
        sock.close()
        raise
    return sock


class Port:
    """A socket with neighbours. take: gets each datagram with its link; done: called after a burst.

    drops: not_neighbour, receive, queue and send, each counted.
    """

    watcher: Watcher | None

    def __init__(
        self,
        sock: socket.socket,
        links: Mapping[Place, int],
        take: Take,
        done: Done,
        *,
        queue: Callable[[], Queue],
        nursery: trio.Nursery,
        drop: Callable[[str], object],
        tap: Tap | None = None,
    ) -> None:
        """Take over `sock`. links: by address and port of the neighbour. drop: told each reason."""
        self.watcher = None
        self.drops: Counter[str] = Counter()
        self._sock: socket.socket | None = sock
        self._links = links
        self._places = {link: place for place, link in links.items()}
        self._take, self._done = take, done
        self._queue, self._nursery = queue, nursery
        self._drop, self._tap = drop, tap
        self._queues: dict[int, Queue] = {}

    def fileno(self) -> int:
        """Return the descriptor, -1 when closed."""
        return -1 if self._sock is None else self._sock.fileno()

    def readable(self, now: Instant) -> bool:
        """Take up to 64 datagrams; False when closed. What the host refuses is counted."""
        sock, links, tap = self._sock, self._links, self._tap
        if sock is None:
            return False
        for _ in range(BURST):
            try:
                octets, place = sock.recvfrom(MAX_DATAGRAM + 1)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                _log.debug("receiving: %s", error)
                self._count("receive")
                break
            # MPLA-4.1-01, MPLA-4.10-02
            link = links.get(place)
            if link is None:
                self._count("not_neighbour")
                continue
            if tap is not None:
                tap(link, False, octets)  # noqa: FBT003 - it came
            try:
                self._take(link, octets, now)
            except OSError as error:
                _log.debug("taking: %s", error)
                self._count("receive")
        try:
            self._done(now)
        except OSError as error:
            _log.debug("answering: %s", error)
            self._count("receive")
        return self._sock is not None

    def send(self, link: int, octets: bytes) -> None:
        """Send to the neighbour on a link, after what waits for it."""
        if self._sock is None:
            return
        queue = self._queues.get(link)
        if queue is not None:
            self._push(queue, octets)
        elif not self._send(link, octets):
            self._wait(link, octets)

    def close(self) -> None:
        """Close; what waits is lost."""
        if self._sock is None:
            return
        if self.watcher is not None:
            self.watcher.unregister(self)
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self._sock = None
        self._queues.clear()

    def _send(self, link: int, octets: bytes) -> bool:
        """Send now; False when the kernel takes no more."""
        if self._sock is None:
            return True
        try:
            self._sock.sendto(octets, self._places[link])
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            # no route, no memory: as lost on the link
            _log.debug("sending: %s", error)
            self._count("send")
            return True
        if self._tap is not None:
            self._tap(link, True, octets)  # noqa: FBT003 - it went
        return True

    def _wait(self, link: int, octets: bytes) -> None:
        is_first = not self._queues
        queue = self._queues[link] = self._queue()
        self._push(queue, octets)
        if is_first:
            self._nursery.start_soon(self._write)

    def _push(self, queue: Queue, octets: bytes) -> None:
        # MPLA-2.2-03
        if queue.push(octets) is not None:
            self._count("queue")

    def _count(self, reason: str) -> None:
        self.drops[reason] += 1
        self._drop(reason)

    async def _write(self) -> None:
        """Send what waits, one of each link in turn; it exists while anything does."""
        while self._queues:
            try:
                await trio.lowlevel.wait_writable(self.fileno())
            except (trio.ClosedResourceError, ValueError):
                return
            self._write_on()

    def _write_on(self) -> None:
        """Send until the kernel takes no more or nothing waits."""
        while self._queues:
            for link, queue in tuple(self._queues.items()):
                octets = queue.pop()
                if octets is None:
                    del self._queues[link]
                elif not self._send(link, octets):
                    self._put_back(link, octets)
                    return

    def _put_back(self, link: int, octets: bytes) -> None:
        """Let what was refused be the first again."""
        before, queue = self._queues[link], self._queue()
        queue.push(octets)
        while (one := before.pop()) is not None:
            queue.push(one)
        self._queues[link] = queue
