"""Bounded reading and writing of octets, and the walk over kind, length, value options.

The only place where octets of a peer are indexed one by one. Every read is preceded by a check of
its length, every loop consumes input, and nothing is allocated before the caps are checked.
```
 0                   1                   2
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3
+---------------+---------------+---------------
|     kind      |    length     |   value ...        length counts both octets before the value
+---------------+---------------+---------------     kind 0 END and kind 1 NOP are single octets
```
PoTCP section 2.3.
"""

from collections.abc import Sequence
from typing import NamedTuple

from powertcp.errors import DecodeError, LocalProtocolError

Buffer = bytes | bytearray | memoryview

BAD_LENGTH = 502
BAD_OPTION = 503
UNSUPPORTED_OPTION = 505
LIMIT = 508

END = 0
NOP = 1
# PTCP-2.3-03: an area longer than this costs more to refuse than any handshake needs
MAX_AREA = 512
# PTCP-2.3-03: more options than any segment has, few enough that walking them costs nothing
MAX_OPTIONS = 32


class Reader:
    """Reads fields of `octets` in order; every read checks the length first.

    offset: added to the position in errors, for octets that lie inside a larger layout.
    Raises DecodeError(BAD_LENGTH), position unchanged, when fewer octets are left than asked for.
    """

    __slots__ = ("_at", "_base", "_octets")

    def __init__(self, octets: Buffer, offset: int = 0) -> None:
        """Read a copy of `octets`; errors count offsets from `offset`."""
        self._octets = bytes(octets)
        self._at = 0
        self._base = offset

    @property
    def offset(self) -> int:
        """Offset of the next field, in octets of the larger layout."""
        return self._base + self._at

    @property
    def left(self) -> int:
        """Octets not yet read."""
        return len(self._octets) - self._at

    def take(self, count: int, field: str) -> bytes:
        """Return the next `count` octets."""
        if not 0 <= count <= self.left:
            raise DecodeError(self.offset, field, BAD_LENGTH, self.left, count)
        at = self._at
        self._at = at + count
        return self._octets[at : at + count]

    def unsigned(self, count: int, field: str) -> int:
        """Return the next `count` octets as an unsigned big-endian integer."""
        return int.from_bytes(self.take(count, field), "big")

    def signed(self, count: int, field: str) -> int:
        """Return the next `count` octets as a two's complement big-endian integer."""
        return int.from_bytes(self.take(count, field), "big", signed=True)

    def rest(self) -> bytes:
        """Return everything that is left."""
        return self.take(self.left, "rest")

    def finish(self, field: str) -> None:
        """Raise DecodeError(BAD_LENGTH) unless everything was read."""
        if self.left:
            raise DecodeError(self.offset, field, BAD_LENGTH, self.left, 0)


class Writer:
    """Collects fields of one layout, at most `limit` octets.

    Raises LocalProtocolError, nothing written, when a value does not fit its field or the limit is
    passed: what is written is our own, so either is a bug.
    """

    __slots__ = ("_limit", "_octets")

    def __init__(self, limit: int) -> None:
        """Take at most `limit` octets."""
        self._octets = bytearray()
        self._limit = limit

    def __len__(self) -> int:
        """Octets written so far."""
        return len(self._octets)

    def put(self, octets: Buffer) -> None:
        """Append `octets` as they are."""
        if len(self._octets) + len(octets) > self._limit:
            text = f"{len(self._octets) + len(octets)} octets, limit {self._limit}"
            raise LocalProtocolError(text)
        self._octets += octets

    def unsigned(self, value: int, count: int) -> None:
        """Append `value` as `count` octets, big-endian."""
        if not 0 <= value < 1 << 8 * count:
            raise LocalProtocolError(f"{value} does not fit {count} unsigned octets")
        self.put(value.to_bytes(count, "big"))

    def signed(self, value: int, count: int) -> None:
        """Append `value` as `count` octets, big-endian, two's complement."""
        half = 1 << 8 * count - 1
        if not -half <= value < half:
            raise LocalProtocolError(f"{value} does not fit {count} signed octets")
        self.put(value.to_bytes(count, "big", signed=True))

    def pad(self, multiple: int) -> None:
        """Append zero octets up to a multiple of `multiple`."""
        self.put(bytes(-len(self._octets) % multiple))

    def octets(self) -> bytes:
        """Return what was written."""
        return bytes(self._octets)


class KindRule(NamedTuple):
    """What the walk demands of one kind.

    shortest, longest: bounds of the length octet. times: how often the kind may appear.
    known: False for a kind that no row of the registry names. critical: refuse it if unknown.
    """

    shortest: int
    longest: int
    times: int = 1
    known: bool = True
    critical: bool = False


def walk(area: Buffer, base: int, rules: Sequence[KindRule]) -> list[tuple[int, int, bytes]]:
    """Return (kind, offset, value) of each option but NOP in `area`, in order, values copied.

    base: offset of the area within the segment; offsets returned and reported count from there.
    rules: one per kind, 0..255.
    Raises DecodeError: 503 with the offset as value, 505 with the kind as value, 508 with the
    number of options or octets as value. PTCP-2.3-01, PTCP-2.3-02, PTCP-2.3-03.
    """
    size = len(area)
    if size > MAX_AREA:  # PTCP-2.3-03
        raise DecodeError(base, "options", LIMIT, size, MAX_AREA)
    octets = bytes(area)
    found: list[tuple[int, int, bytes]] = []
    seen: set[int] = set()
    at = count = 0
    while at < size:
        kind = octets[at]
        if kind == END:
            _check_padding(octets, at, base)
            break
        count += 1
        if count > MAX_OPTIONS:  # PTCP-2.3-03
            raise DecodeError(base + at, "options", LIMIT, count, MAX_OPTIONS)
        if kind == NOP:
            at += 1
            continue
        # PTCP-2.3-02
        length = octets[at + 1] if at + 1 < size else 0
        if length < 2 or at + length > size:
            raise DecodeError(base + at, "length", BAD_OPTION, base + at)
        shortest, longest, times, known, critical = rules[kind]
        if critical and not known:  # PTCP-2.3-01
            raise DecodeError(base + at, "kind", UNSUPPORTED_OPTION, kind)
        if kind in seen:
            _check_repeat(found, kind, times, base + at)
        if not shortest <= length <= longest:
            raise DecodeError(base + at, "length", BAD_OPTION, base + at)
        seen.add(kind)
        found.append((kind, base + at, octets[at + 2 : at + length]))
        at += length
    return found


def _check_padding(octets: bytes, end: int, base: int) -> None:
    """Refuse anything but zero after END."""
    # PTCP-2.3-02
    tail = octets[end:].lstrip(b"\0")
    if tail:
        offset = base + len(octets) - len(tail)
        raise DecodeError(offset, "padding", BAD_OPTION, base + end)


def _check_repeat(found: list[tuple[int, int, bytes]], kind: int, times: int, offset: int) -> None:
    """Refuse a kind that appears once more than its rule allows."""
    if times == 1:  # PTCP-2.3-02
        raise DecodeError(offset, "kind", BAD_OPTION, offset)
    count = 1 + sum(1 for row in found if row[0] == kind)
    if count > times:  # PTCP-2.3-03
        raise DecodeError(offset, "kind", LIMIT, count, times)
