"""Files of the store: one writer, private, and on the disk when they are said to be."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from powertcp.errors import HostError

# a reader holds the lock for a moment while it looks at the log; whoever opens waits in a thread
LOCK_TRIES = 10
LOCK_PAUSE_S = 0.1
_OTHERS = 0o077


def host_error(error: OSError, path: Path, wanted: str) -> HostError:
    """Return what `error` means for somebody who wanted that of `path`."""
    return HostError(error.errno or errno.EIO, str(path), wanted)


def take_lock(path: Path) -> int:
    """Lock `path` for this process and return its descriptor, which keeps the lock while it is open.

    Raises HostError, which names the process that has it, when it is taken.
    """
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise host_error(error, path, "lock the ledger") from error
    for attempt in range(LOCK_TRIES):
        if attempt:
            time.sleep(LOCK_PAUSE_S)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            refused = error
        else:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            return lock
    holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
    os.close(lock)
    raise host_error(refused, path, f"open the ledger, which process {holder} writes")


@contextmanager
def while_unlocked(path: Path, *, is_ours: bool = False) -> Iterator[bool]:
    """Keep writers off for a moment; False where one has the lock already.

    path: the lock; where there is none, there is no writer. is_ours: the lock is this process's.
    """
    if is_ours:
        yield True
        return
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        is_free = True
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            is_free = False
        yield is_free
    finally:
        os.close(lock)


def make_file(path: Path) -> None:
    """Make `path`, empty and for its owner alone, unless it exists. Raises HostError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_folder(path.parent)
    except OSError as error:
        raise host_error(error, path, "open the ledger") from error


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Have what is in `path` on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Append `line` to `path`, on the disk when this returns. Raises OSError."""
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        octets = line.encode()
        while octets:
            octets = octets[os.write(descriptor, octets) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_folder(path.parent)


def read_secret(path: Path, octets: int) -> bytes | None:
    """Return the `octets` in `path`, which is for its owner alone; None when there is no file.

    Raises HostError when others may read it, or it has another length.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = file.read(octets + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise host_error(error, path, "read a secret") from error
    if mode & _OTHERS:
        raise HostError(errno.EPERM, str(path), "use a secret that others may read")
    if len(found) != octets:
        raise HostError(errno.EINVAL, str(path), f"use a secret that has not {octets} octets")
    return found


def write_secret(path: Path, secret: bytes) -> None:
    """Make `path` with `secret` in it, for its owner alone, whole or not at all. Raises HostError."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        append_line(part, "")
        descriptor = os.open(part, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, secret)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise host_error(error, path, "write a secret") from error
