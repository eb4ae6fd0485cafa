"""The file known_providers of a folder: read whole, written whole or not at all, by one at a time."""

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from powertcp.dpdp.known import (
    FILE,
    MAX_KNOWN,
    KnownProvider,
    format_known,
    parse_known,
    remember,
)
from powertcp.drivers.daemon import make_private
from powertcp.errors import ConfigError, HostError

# a line has at most 560 octets
MAX_OCTETS: Final = 1024 * MAX_KNOWN
LOCK: Final = f"{FILE}.lock"  # beside the file, which is another one after each change
LOCK_S: Final = 5.0  # a change takes some 10 ms of a disk
PAUSE_S: Final = 0.01


def read_acquaintances(folder: Path) -> dict[bytes, KnownProvider]:
    """Return whom this node has met, by id; nobody without a file.

    Raises HostError, and ConfigError that names the line which cannot be read.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_OCTETS + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "read known providers") from error
    if len(octets) > MAX_OCTETS:
        raise ConfigError(str(path), "$", f"more than {MAX_OCTETS:,} octets")
    try:
        return parse_known(octets.decode(), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "$", "not a text in UTF-8") from error


# DPDP-7-04
def acquaint(
    folder: Path, met: KnownProvider, *, is_vouched: bool = False
) -> dict[bytes, KnownProvider]:
    """Write down who was met beside whom other processes write down; return all of them.

    See `remember`. Waits up to 5 s for the others: call it in a thread. Raises HostError, and
    ConfigError as `read_acquaintances` does; then the file is as before.
    """
    with _alone(folder):
        found = remember(read_acquaintances(folder), met, is_vouched=is_vouched)
        write_acquaintances(folder, found)
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only process that changes the file. Raises HostError."""
    make_private(folder)
    path = folder / LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "write known providers") from error
    try:
        end = time.monotonic() + LOCK_S
        while not _is_locked(lock):
            # whoever is stopped with the lock holds nobody up for ever
            if time.monotonic() > end:
                raise HostError(errno.EAGAIN, str(path), "write known providers")
            time.sleep(PAUSE_S)
        yield
    finally:
        os.close(lock)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_acquaintances(folder: Path, known: Mapping[bytes, KnownProvider]) -> None:
    """Write whom this node has met, for its owner alone; the folder is made. Raises HostError."""
    make_private(folder)
    part = ""
    try:
        descriptor, part = tempfile.mkstemp(prefix=f"{FILE}.", dir=folder)
        with open(descriptor, "wb") as file:
            file.write(format_known(known.values()).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, folder / FILE)
    except OSError as error:
        if part:
            with suppress(OSError):
                os.unlink(part)
        raise HostError(error.errno or 5, str(folder / FILE), "write known providers") from error
