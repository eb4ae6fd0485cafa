"""Trace files: one for each connection, filled by one thread behind a bounded queue.

Nobody waits for a disk: what does not fit is dropped and counted in the file it is missing from.
"""

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import powertcp
from powertcp.errors import HostError
from powertcp.units import Instant
from powertcp.wire import trace

QUEUE_EVENTS = 4096
OPEN_FILES = 256  # connections traced at a time
FILE_OCTETS = 64 << 20
CLOSE_S = 2.0  # what the thread gets to empty its queue at the end
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
_log = logging.getLogger("trace")


class TraceFile:
    """The trace of one connection: call it with a name and data, as a machine does."""

    def __init__(self, tracer: "Tracer", path: Path, head: bytes, started: Instant) -> None:
        """Begin with `head`; `started` is time 0."""
        self.path = path
        self.dropped = 0
        self.octets = 0
        self.handle: IO[bytes] | None = None  # of the thread
        self._tracer = tracer
        self._started = started
        self._put(head)

    def __call__(self, name: str, data: Mapping[str, object]) -> None:
        """Add an event; never waits, never raises."""
        since = self._tracer.clock() - self._started
        if self.dropped:
            lost = trace.event(since, "sys:trace_dropped", {"n": self.dropped})
            if not self._put(lost):
                self.dropped += 1
                return
            self.dropped = 0
        if not self._put(trace.event(since, name, data)):
            self.dropped += 1

    def close(self) -> None:
        """Nothing more will come."""
        self._tracer.close_file(self)

    def _put(self, octets: bytes) -> bool:
        if self.octets + len(octets) > FILE_OCTETS or not self._tracer.put(self, octets):
            return False
        self.octets += len(octets)
        return True


class Tracer:
    """Makes trace files in one folder."""

    def __init__(self, folder: Path, clock: Callable[[], Instant]) -> None:
        """Write into `folder`, which is made. Raises HostError when it cannot be."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(error.errno or 0, str(folder), "make a folder for traces") from error
        self.clock = clock
        self._folder = folder
        self._files: set[TraceFile] = set()
        self._number = 0
        self._queue: queue.Queue[tuple[TraceFile, bytes] | None] = queue.Queue(QUEUE_EVENTS)
        self._thread = threading.Thread(target=self._write, name="traces", daemon=True)
        self._thread.start()

    def open(self, role: str, name: str) -> TraceFile | None:
        """Return the trace of a connection; None when too many are traced.

        role: sink, source or gateway. name: of the peer, it becomes part of the file's name.
        """
        if len(self._files) >= OPEN_FILES:
            return None
        self._number += 1
        wall = time.time_ns()
        stamp = datetime.fromtimestamp(wall // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
        path = self._folder / f"{stamp}-{role}-{_UNSAFE.sub('_', name)}-{self._number}.sqlog"
        head = trace.opening(powertcp.__version__, role, wall // 1_000_000)
        file = TraceFile(self, path, head, self.clock())
        self._files.add(file)
        return file

    def put(self, file: TraceFile, octets: bytes) -> bool:
        """Queue octets for `file`; False when the queue is full."""
        try:
            self._queue.put_nowait((file, octets))
        except queue.Full:
            return False
        return True

    def close_file(self, file: TraceFile) -> None:
        """Let the thread close `file` after what is queued for it."""
        if file in self._files:
            self._files.discard(file)
            self.put(file, b"")

    def close(self) -> None:
        """Write what is queued and end the thread; waits 2 s for the disk at most."""
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _write(self) -> None:
        """The thread: the only one who touches the disk. A full disk ends a trace, not power."""
        opened: set[TraceFile] = set()
        failed: set[TraceFile] = set()
        while (item := self._queue.get()) is not None:
            file, octets = item
            if file in failed:
                continue
            try:
                if file.handle is None:
                    file.handle = file.path.open("ab", buffering=0)
                    opened.add(file)
                file.handle.write(octets)
                if not octets:
                    file.handle.close()
                    opened.discard(file)
            except OSError as error:
                failed.add(file)
                _log.warning("trace %s ends: %s", file.path, error)
        for file in opened:
            if file.handle is not None:
                file.handle.close()


def open_tracer(folder: str) -> Tracer | None:
    """Return a tracer for the folder of `--trace`, None for "". Raises HostError."""
    return Tracer(Path(folder), time.monotonic_ns) if folder else None
