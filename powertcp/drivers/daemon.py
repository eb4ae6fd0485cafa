"""What every daemon needs of its host: the clock, the service manager, the log, its folders."""

import errno
import gc
import json
import logging
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path

import trio

from powertcp.drivers.clock import unix_ns
from powertcp.errors import ConfigError, HostError
from powertcp.units import NS_PER_S, Duration, Instant

LOG_LIMIT_PER_MINUTE = 10  # the same line more often only says how often it was left out
LOG_TEMPLATES = 1024  # different lines remembered for that
PEER_TEXT_CHARACTERS = 128
GC_THRESHOLDS = (1_000, 5, 1_000_000)  # the second generation takes 1 ms, the third never comes
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


def now_ns() -> Instant:
    """Return the time of trio's clock: the only `now` a driver hands to a machine."""
    return round(trio.current_time() * NS_PER_S)


def unix_offset_ns() -> Duration:
    """Return what is to be added to `now_ns` for Unix time, ns."""
    return unix_ns() - now_ns()


def printable(text: str) -> str:
    """Return a peer's text cut at 128 characters, control characters escaped."""
    cut = text[:PEER_TEXT_CHARACTERS]
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", cut)


def whole(variable: str, text: str) -> int:
    """Read a whole number of the environment, 0 for "". Raises ConfigError."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ConfigError("environment", variable, f'a whole number is needed, got "{text}"')
    return int(text)


class Notifier:
    """The service manager's end: sd_notify datagrams, silent when nobody asked for them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read where the manager listens; an empty environment means nowhere.

        Raises ConfigError when an interval is no number.
        """
        self._path = environ.get("NOTIFY_SOCKET", "")
        watchdog_us = whole("WATCHDOG_USEC", environ.get("WATCHDOG_USEC", ""))
        owner = environ.get("WATCHDOG_PID", "")
        self.watchdog_s = watchdog_us / 2e6 if owner in ("", str(os.getpid())) else 0.0

    def send(self, **fields: str | int) -> None:
        """Send `fields`, for example READY=1, STATUS="..."; failures are nobody's business."""
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
            end.settimeout(0)
            try:
                end.sendto(message.encode(), address)
            except OSError as error:
                logging.getLogger("daemon").debug("sd_notify: %s", error)

    def reloading(self) -> None:
        """Announce that the configuration is being read again; follow with READY=1."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    async def watch(self) -> None:
        """Send WATCHDOG=1 at half of the interval the manager asked for, until cancelled."""
        if not self._path or not self.watchdog_s:
            return
        while True:
            self.send(WATCHDOG=1)
            await trio.sleep_until(trio.current_time() + self.watchdog_s)


def activated_sockets(
    environ: MutableMapping[str, str], name: str = "potcp"
) -> list[socket.socket]:
    """Return the listening sockets that the service manager opened for us under `name`.

    The three variables are removed, so that no child takes the descriptors for its own.
    Raises ConfigError when they name what is not there.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()):
        return []
    found: list[socket.socket] = []
    for index in range(whole("LISTEN_FDS", count)):
        label = names[index] if index < len(names) else ""
        if label in ("", name):
            try:
                found.append(socket.socket(fileno=3 + index))
            except OSError as error:
                said = f"descriptor {3 + index} is no socket: {error.strerror}"
                raise ConfigError("environment", "LISTEN_FDS", said) from error
            found[-1].set_inheritable(False)
            found[-1].settimeout(0)
    return found


def runtime_folder(environ: Mapping[str, str], state: Path) -> Path:
    """Return the folder of control sockets: RUNTIME_DIRECTORY, XDG_RUNTIME_DIR, else `state`."""
    given = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    session = environ.get("XDG_RUNTIME_DIR", "")
    return Path(session) / "powertcp" if session else state


def state_folder(environ: Mapping[str, str], command: str, flag: str = "") -> Path:
    """Return the folder of persistent state of `command`; it is not made here."""
    given = flag or environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "powertcp" / command


def make_private(folder: Path) -> None:
    """Make `folder` with mode 0700. Raises HostError when that is refused or others may enter."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        raise HostError(error.errno or 0, str(folder), "make a folder") from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HostError(errno.EPERM, str(folder), "use a folder that others may write")


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; return it."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def settle_memory() -> None:
    """Spare the garbage collector what start-up has made, and the daemon its full collections.

    Those walk every object, 0.2 s at 10,000 connections. What belongs to a connection is freed
    with the last reference to it; the cycles of short-lived work end in the two young generations.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class _RateLimit(logging.Filter):
    """Let the same line pass ten times a minute, then say how many were left out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Count `record`; False drops it."""
        key = f"{record.name}:{record.levelno}:{record.getMessage()}"
        now = self._clock()
        started, count = self._seen.get(key, (now, 0))
        if now - started >= 60:
            if count > LOG_LIMIT_PER_MINUTE:
                left_out = count - LOG_LIMIT_PER_MINUTE
                record.msg, record.args = f"{record.getMessage()} ({left_out:,} more)", ()
            started, count = now, 0
        if key not in self._seen and len(self._seen) >= LOG_TEMPLATES:
            self._seen.clear()
        self._seen[key] = (started, count + 1)
        return count < LOG_LIMIT_PER_MINUTE


class _Line(logging.Formatter):
    """One line per fact, with a priority for the journal or a time of day for people."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`."""
        if self._journal:
            return f"<{_PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return f"{clock} {mark}{super().format(record)}"


class _Json(logging.Formatter):
    """One JSON object per line: level, room, msg and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object of `record`."""
        facts = getattr(record, "facts", {})
        said = {
            "level": record.levelname.lower(),
            "room": record.name,
            "msg": super().format(record),
        }
        return json.dumps({"time_ms": round(record.created * 1000), **said, **facts})


def journal_reads(environ: Mapping[str, str], descriptor: int) -> bool:
    """Say whether `descriptor` is the journal's stream that JOURNAL_STREAM names."""
    try:
        device, inode = (int(part) for part in environ.get("JOURNAL_STREAM", "").split(":"))
        there = os.fstat(descriptor)
    except (ValueError, OSError):
        return False
    return (there.st_dev, there.st_ino) == (device, inode)


def set_up_logging(
    environ: Mapping[str, str], *, level: int = logging.INFO, form: str = "text"
) -> None:
    """Send the log to stderr: `text` (journal priorities or times) or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    journal = journal_reads(environ, sys.stderr.fileno())
    handler.setFormatter(_Json("%(message)s") if form == "json" else _Line(journal=journal))
    handler.addFilter(_RateLimit(time.monotonic))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def listen_error(error: OSError, wanted: str) -> ConfigError | HostError:
    """Turn the refusal of a listening address into one line a stranger can act on."""
    if isinstance(error, socket.gaierror):
        return ConfigError("command line", "listen", f"{wanted}: {error.strerror}")
    if error.errno == errno.EADDRINUSE:
        return ConfigError("command line", "listen", f"{wanted} is in use by another process")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError("command line", "listen", f"no permission to listen on {wanted}")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError("command line", "listen", f"{wanted} is not an address of this host")
    return HostError(error.errno or 0, wanted, "listen")


def peer_line(words: Iterable[str]) -> str:
    """Join the words of one log line, the empty ones left out."""
    return "  ".join(word for word in words if word)
