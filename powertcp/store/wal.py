"""The write-ahead log of a ledger nobody has open: is every commit that was acknowledged in it?

SQLite ends its recovery at the first frame that does not check, so one altered octet would take
back every later commit without a word. Two witnesses are asked before SQLite is: the index beside
the log, which says how many frames were on the disk, and whole frames after a broken one.
```
log     header 32: magic, version, page size, sequence, salt 2 x 32, checksum 2 x 32; big-endian
frame   header 24: page, pages after a commit or 0, salt 2 x 32, checksum 2 x 32; then one page
index   two copies of 48 octets, byte order of the host: 16 mxFrame, 24 checksum of that frame,
        32 salt, 40 checksum of octets 0 to 39
```
File format of SQLite 3, section 4.
"""

import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from powertcp.store.files import host_error
from powertcp.store.rows import Finding

DATABASE_HEADER = 100
LOG_HEADER = 32
FRAME_HEADER = 24
INDEX_HEADER = 48
_MAGIC = 0x377F0682  # the last bit says that checksums are over big-endian words
_MASK = 0xFFFF_FFFF

Sums = tuple[int, int]


def _checksum(octets: bytes, sums: Sums, order: str) -> Sums:
    one, two = sums
    words = struct.unpack(f"{order}{len(octets) // 4}I", octets)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _MASK
        two = (two + second + one) & _MASK
    return one, two


@dataclass(frozen=True, slots=True)
class _Index:
    """What the index says of the log."""

    frames: int
    salt: bytes


def _index(path: Path) -> _Index | None:
    """Return what the index says, None when there is none or it does not check."""
    try:
        with path.open("rb") as file:
            octets = file.read(2 * INDEX_HEADER)
    except OSError:
        return None
    header = octets[:INDEX_HEADER]
    if len(octets) < 2 * INDEX_HEADER or header != octets[INDEX_HEADER:]:
        return None
    order = "<" if sys.byteorder == "little" else ">"
    if _checksum(header[:40], (0, 0), order) != struct.unpack(f"{order}II", header[40:]):
        return None
    return _Index(struct.unpack(f"{order}I", header[16:20])[0], header[32:40])


@dataclass(slots=True)
class _Log:
    """What the log says of itself."""

    salt: bytes = b""
    frames: int = 0
    """Frames that check, from the first."""
    commits_after: int = 0
    """Commits in frames of this log after the first that does not check."""
    is_torn: bool = False
    """Whether frames of this log follow that do not check or are no commit."""


def _read_log(octets: bytes) -> _Log | None:
    """Return what is in the log, None when its header does not check."""
    header = octets[:LOG_HEADER]
    magic, _, page_size = struct.unpack(">III", header[:12])
    order = ">" if magic & 1 else "<"
    sums = _checksum(header[:24], (0, 0), order)
    if magic & ~1 != _MAGIC or sums != struct.unpack(">II", header[24:]) or not page_size:
        return None
    log = _Log(salt=header[16:24])
    step, last_commit, is_whole = FRAME_HEADER + page_size, 0, True
    for number, at in enumerate(range(LOG_HEADER, len(octets) - FRAME_HEADER + 1, step), 1):
        frame = octets[at : at + step]
        stated = struct.unpack(">II", frame[16:24])
        of_this = frame[8:16] == log.salt
        pages = int.from_bytes(frame[4:8], "big")
        if is_whole and len(frame) == step and of_this:
            sums = _checksum(frame[24:], _checksum(frame[:8], sums, order), order)
            if sums == stated:
                last_commit = number if pages else last_commit
                log.frames = number
                continue
        is_whole = False
        log.is_torn = log.is_torn or of_this
        log.commits_after += bool(of_this and pages)
    log.is_torn = log.is_torn or last_commit < log.frames
    return log


def check_files(path: Path) -> list[Finding]:
    """Judge the log of the ledger `path`, or its length if there is none; nobody has it open.

    Raises HostError when it cannot be read.
    """
    return check_log(path) or check_length(path)


def check_length(path: Path) -> list[Finding]:
    """Judge the length of the database by its header, which tells it while the log is empty."""
    log_path = path.with_name(f"{path.name}-wal")
    try:
        if log_path.exists() and log_path.stat().st_size:
            return []
        with path.open("rb") as file:
            header = file.read(DATABASE_HEADER)
            length = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise host_error(error, path, "read the ledger") from error
    if not length:
        return []
    page_size = int.from_bytes(header[16:18], "big")
    due = int.from_bytes(header[28:32], "big") * (0x10000 if page_size == 1 else page_size)
    if length == due:
        return []
    return [Finding("file", f"it has {length} octets, {due} by its header")]


def check_log(path: Path) -> list[Finding]:
    """Judge the log of the ledger `path`. Raises HostError when it cannot be read."""
    log_path = path.with_name(f"{path.name}-wal")
    index = _index(path.with_name(f"{path.name}-shm"))
    try:
        octets = log_path.read_bytes()
    except FileNotFoundError:
        octets = b""
    except OSError as error:
        raise host_error(error, log_path, "read the log of the ledger") from error
    name = log_path.name
    log = _read_log(octets) if len(octets) > LOG_HEADER else _Log()
    if log is None:
        return [Finding(name, "its header is not as it was written")]
    if index and index.frames > log.frames and (index.salt == log.salt or not log.salt):
        text = f"{index.frames} frames were committed, {log.frames} are as they were written"
        return [Finding(f"{name} frame {log.frames + 1}", text)]
    if log.commits_after > 1:
        return [Finding(f"{name} frame {log.frames + 1}", "it is not as it was written")]
    if log.is_torn:
        text = "the last commit is torn: it was never acknowledged, or an octet of it was altered"
        return [Finding(f"{name} frame {log.frames + 1}", text, is_warning=True)]
    return []
