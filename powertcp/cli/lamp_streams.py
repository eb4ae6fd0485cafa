"""Messages of COPS out of the TCP segments of a capture: in order, each octet once."""

from collections import OrderedDict
from collections.abc import Iterator
from ipaddress import IPv4Address
from struct import Struct
from typing import Final, NamedTuple

from powertcp.errors import DecodeError
from powertcp.mplamps.cops import MAX_MESSAGE, PORT, Splitter
from powertcp.mplamps.packet import find_segment
from powertcp.registry import Flag

# two directions for each edge LSR of a city; of more the oldest are forgotten
MAX_STREAMS: Final = 4096
# segments that wait for an earlier one, more than a window has that is in flight
MAX_HELD: Final = 64
_TCP = Struct(">HHIIBB")
_ADDRESSES = Struct(">II")
_HEADER = Struct(">BBHI")
_HALF: Final = 1 << 31
_ALL: Final = 1 << 32


class Piece(NamedTuple):
    """A message between two nodes, or octets in which none can be found."""

    source: IPv4Address
    target: IPv4Address
    octets: bytes
    fault: DecodeError | None = None


class _Stream:
    """One direction of a connection."""

    __slots__ = ("held", "is_lost", "next", "splitter")

    def __init__(self) -> None:
        self.next: int | None = None
        self.held: dict[int, bytes] = {}
        self.splitter = Splitter()
        # where the next message begins is not known: until a segment begins with one
        self.is_lost = False


class Streams:
    """Follows each connection between an edge LSR and the policeman."""

    def __init__(self) -> None:
        """Begin with no connection."""
        self._streams: OrderedDict[tuple[int, int, int, int], _Stream] = OrderedDict()

    def take(self, packet: bytes) -> Iterator[Piece]:
        """Yield the messages that an IPv4 packet with TCP completes.

        Raises DecodeError for a packet that has no whole TCP segment in it. Other ports have none.
        """
        at = find_segment(packet)
        source, target = _ADDRESSES.unpack_from(packet, 12)
        from_port, to_port, seq, _, words, flags = _TCP.unpack_from(packet, at)
        if PORT not in (from_port, to_port):
            return
        key = source, from_port, target, to_port
        end = int.from_bytes(packet[2:4], "big")
        payload = packet[at + (words >> 4 << 2) : end]
        stream = self._stream(key, is_new=bool(flags & Flag.SYN))
        if flags & Flag.SYN:
            stream.next = (seq + 1) % _ALL
            seq = stream.next
        ends = IPv4Address(source), IPv4Address(target)
        if payload:
            for octets in _in_order(stream, seq, payload):
                yield from _messages(stream, ends, octets)
        if flags & (Flag.FIN | Flag.RST):
            self._streams.pop(key, None)

    def _stream(self, key: tuple[int, int, int, int], *, is_new: bool) -> _Stream:
        if is_new or key not in self._streams:
            self._streams[key] = _Stream()
        self._streams.move_to_end(key)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        return self._streams[key]


def _ahead(seq: int, now: int) -> int:
    """Return how far a number is ahead of another one, of 32 bits."""
    return (seq - now + _HALF) % _ALL - _HALF


def _in_order(stream: _Stream, seq: int, payload: bytes) -> Iterator[bytes]:
    """Yield what follows what was there, and what waited for it."""
    if stream.next is None:
        # the capture began later than the connection
        stream.next, stream.is_lost = seq, True
    if len(payload) > len(stream.held.get(seq, b"")):
        stream.held[seq] = payload
    while stream.held:
        first = min(stream.held, key=lambda at: _ahead(at, stream.next or 0))
        ahead = _ahead(first, stream.next)
        if ahead > 0:
            if len(stream.held) <= MAX_HELD:
                return
            # what is between is not in this capture
            stream.next, stream.is_lost, ahead = first, True, 0
        # what came before is left out
        octets = stream.held.pop(first)[-ahead:]
        stream.next = (stream.next + len(octets)) % _ALL
        if octets:
            yield octets


def _is_head(octets: bytes) -> bool:
    if len(octets) < _HEADER.size:
        return False
    version, op, client, length = _HEADER.unpack_from(octets)
    is_size = 8 <= length <= MAX_MESSAGE and length % 4 == 0
    return bool(version >> 4 == 1 and 1 <= op <= 10 and client <= 1 and is_size)


def _messages(
    stream: _Stream, ends: tuple[IPv4Address, IPv4Address], octets: bytes
) -> Iterator[Piece]:
    if stream.is_lost:
        if not _is_head(octets):
            return
        stream.splitter, stream.is_lost = Splitter(), False
    try:
        for message in stream.splitter.receive(octets):
            yield Piece(*ends, message)
    except DecodeError as error:
        stream.is_lost = True
        yield Piece(*ends, b"", error)
