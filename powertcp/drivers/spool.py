"""Standard streams that never wait: a thread writes them, and what nobody reads is lost, not power."""

import atexit
import io
import logging
import os
import select
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TextIO, cast

MAX_LINES = 16_384  # held for a reader that is behind: a status of 10,000 flows; the oldest go
MAX_OCTETS = 1 << 22  # the same in octets
FLUSH_S = 1.0  # what a reader has at the end of the process to take what is held for it
_log = logging.getLogger("output")


class Scribe:
    """A thread that writes lines in the order they came; those for a full pipe stay bounded."""

    def __init__(
        self, name: str, *, max_lines: int = MAX_LINES, max_octets: int = MAX_OCTETS
    ) -> None:
        """Begin the thread. name: of what is written, for the warning about lost lines."""
        self._name = name
        self._max_lines = max_lines
        self._max_octets = max_octets
        # reentrant, and the only one: a warning about garbage may be written at any moment, also
        # while a line is being taken
        self.lock = threading.RLock()
        self._turn = threading.Condition(self.lock)
        self._held: deque[tuple[Spool, bytes]] = deque()
        self._octets = 0
        self._lost = 0
        self._is_writing = False
        # a daemon: a write that never returns does not keep the process
        threading.Thread(target=self._write_on, name=f"scribe {name}", daemon=True).start()

    def add(self, spool: "Spool", line: bytes) -> None:
        """Hold `line` for `spool`; beyond a limit the oldest lines are lost."""
        with self._turn:
            self._held.append((spool, line))
            self._octets += len(line)
            while len(self._held) > self._max_lines or self._octets > self._max_octets:
                self._lost += count_lines(self._take()[1])
            self._turn.notify_all()

    def settle(self, wait_s: float) -> None:
        """Wait until all is written, `wait_s` at the most; then say how many lines are lost."""
        with self._turn:
            is_done = self._turn.wait_for(lambda: not (self._held or self._is_writing), wait_s)
            lost, self._lost = self._lost, 0
            lost += sum(count_lines(line) for _, line in self._held) + (not is_done)
        self._say(lost)

    def _write_on(self) -> None:
        while True:
            with self._turn:
                self._is_writing = False
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._held)
                spool, line = self._take()
                self._is_writing = True
                lost = self._recovered()
            self._say(lost)
            spool.put(line)

    def _take(self) -> "tuple[Spool, bytes]":
        spool, line = self._held.popleft()
        self._octets -= len(line)
        return spool, line

    def _recovered(self) -> int:
        """Return what was lost once there is room again, so that saying it costs no line."""
        if 2 * len(self._held) > self._max_lines or 2 * self._octets > self._max_octets:
            return 0
        lost, self._lost = self._lost, 0
        return lost

    def _say(self, lost: int) -> None:
        if lost:
            _log.warning("lines of %s that nobody read and are lost: %s", self._name, f"{lost:,}")


class Spool(io.TextIOBase):
    """A text stream whose writer never waits; a line is whole or lost."""

    def __init__(self, stream: TextIO, scribe: Scribe, *, tells: bool = True) -> None:
        """Write to the descriptor of `stream` through `scribe`.

        tells: whether what the descriptor refuses is raised by the next `write`.
        """
        self._part = b""
        self._lock = scribe.lock
        self._stream = stream
        self._scribe = scribe
        self._tells = tells
        self._descriptor = stream.fileno()
        self._error: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What becomes of characters that the encoding lacks."""
        return self._stream.errors

    def writable(self) -> bool:
        """Lines may be written."""
        return True

    def isatty(self) -> bool:
        """Whether lines may be written over."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Hand over what was written once a line ends, without waiting; the rest at `flush`.

        Raises OSError when a line before this one was refused, as long as none is taken.
        """
        with self._lock:
            self._part += text.encode(self.encoding, self.errors or "strict")
            if "\n" in text:
                self.flush()
        if self._error is not None and self._tells:
            raise self._error
        return len(text)

    def flush(self) -> None:
        """Hand over what was written, without waiting."""
        with self._lock:
            part, self._part = self._part, b""
            if part:
                self._scribe.add(self, part)

    def put(self, line: bytes) -> None:
        """Write `line` now, however long it takes; the scribe does this."""
        rest = memoryview(line)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    # somebody who shares the terminal made it so
                    select.select([], [self._descriptor], [])
            self._error = None
        except OSError as error:
            self._error = error


def count_lines(text: bytes) -> int:
    """Return the number of lines in `text`, a piece of one counts."""
    return max(1, text.count(b"\n"))


def spool_streams() -> None:
    """Let a thread write each standard stream from here to the end of the process.

    A full pipe or a terminal that is held then never holds up the caller. Streams of one file
    share a thread, so that their lines keep their order. The end waits for the readers, FLUSH_S.
    """
    try:
        descriptors = [stream.fileno() for stream in (sys.stdout, sys.stderr)]
    except (OSError, ValueError):
        # in memory, where nobody waits
        return
    with suppress(OSError):
        sys.stdout.flush()
    out = errors = Scribe("standard output")
    if not os.path.samestat(*map(os.fstat, descriptors)):
        errors = Scribe("standard error")
    sys.stdout = cast("TextIO", Spool(sys.stdout, out))
    sys.stderr = cast("TextIO", Spool(sys.stderr, errors, tells=False))
    atexit.register(_settle, out, errors)


def _settle(out: Scribe, errors: Scribe) -> None:
    with suppress(KeyboardInterrupt):
        out.settle(FLUSH_S)
        if errors is not out:
            # its reader has had the same time already
            errors.settle(FLUSH_S / 2)
