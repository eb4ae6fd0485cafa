"""Captures of live links: what nodes of this process send and receive, written by one thread.

Nobody waits for a disk: what does not fit the queue is dropped, counted, and said at the end.
"""

import errno
import logging
import os
import queue
import stat
import threading
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import IO, Final

from powertcp.drivers.clock import unix_ns
from powertcp.errors import HostError
from powertcp.mplamps.topology import Topology
from powertcp.wire.capture import CaptureWriter, Packet, udp_packet

QUEUE_PACKETS: Final = 16_384
# what the thread gets to empty its queue at the end
CLOSE_S: Final = 2.0
_NO_FILE: Final = "write a capture to what is no regular file"
_log = logging.getLogger("capture")


def open_capture(path: Path) -> IO[bytes]:
    """Begin a file, and wait for nobody: it must be a regular one. Raises HostError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        number = os.open(path, flags, 0o666)
    except OSError as error:
        # it is a FIFO that nobody reads
        what = _NO_FILE if error.errno == errno.ENXIO else "write a capture"
        raise HostError(error.errno or errno.EIO, str(path), what) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise HostError(errno.EINVAL, str(path), _NO_FILE)
    return os.fdopen(number, "wb")


class CaptureFile:
    """A pcapng with one interface for each link; `here` are the addresses of this process.

    dropped: packets that the disk was too slow for, or did not take.
    """

    def __init__(self, path: Path, topology: Topology, here: Iterable[IPv4Address]) -> None:
        """Begin the file. Raises HostError when it cannot be made."""
        self.dropped = 0
        self._names = {link.number: link.name for link in topology.links}
        self._here = frozenset(here)
        self._writer = CaptureWriter([link.name for link in topology.links])
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE_PACKETS)
        self._why = "the disk was too slow"
        file = open_capture(path)
        self._put(self._writer.header())
        self._thread = threading.Thread(
            target=self._write, args=(file, path), name="capture", daemon=True
        )
        self._thread.start()

    # MPLA-10-01
    def take(
        self, link: int, source: IPv4Address, target: IPv4Address, port: int, octets: bytes
    ) -> None:
        """Add a datagram. It is seen once: what comes from a node of this process was when it left."""
        datagram = udp_packet(source, target, port, octets)
        self._put(self._writer.packet(Packet(unix_ns(), self._names[link], datagram)))

    def is_here(self, address: IPv4Address) -> bool:
        """Whether a node of this process has an address."""
        return address in self._here

    def close(self) -> None:
        """Write what is queued; waits 2 s for the disk at most."""
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            self.dropped += self._queue.qsize()
        else:
            self._thread.join(CLOSE_S)
        if self.dropped:
            _log.warning("the capture lacks %d packets: %s", self.dropped, self._why)

    def _put(self, octets: bytes) -> None:
        try:
            self._queue.put_nowait(octets)
        except queue.Full:
            self.dropped += 1

    def _write(self, file: IO[bytes], path: Path) -> None:
        """The thread: the only one who touches the disk. A full disk ends a capture, not power."""
        try:
            with file:
                while (octets := self._queue.get()) is not None:
                    file.write(octets)
                    if self._queue.empty():
                        file.flush()
        except OSError as error:
            self._why = str(error)
            _log.warning("capture %s ends: %s", path, error)
            while self._queue.get() is not None:
                self.dropped += 1
