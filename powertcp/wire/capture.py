"""Captures: pcapng of raw IPv4, one interface for each link, times in ns.

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---------------------------------------------------------------+
|                          block type                           |
+---------------------------------------------------------------+
|                    length of all, 4 octets each                |
+---------------------------------------------------------------+
|                     body, padded to 32 bits                   |
+---------------------------------------------------------------+
|                      length of all, again                     |
+---------------------------------------------------------------+
```
MPLampS section 10; draft-ietf-opsawg-pcapng. Section header, interface descriptions and enhanced
packets are written; of what others wrote the same is read, in either order of octets.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from struct import Struct
from typing import Final, NamedTuple

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.buffer import BAD_LENGTH, BAD_OPTION, LIMIT, Buffer

RAW_IPV4: Final = 101
# as long as an IPv4 packet can be
MAX_PACKET: Final = 65_535
# a grid of 37,000 nodes has as many links; more is no capture of ours
MAX_INTERFACES: Final = 1 << 17
# as long as those of Wireshark may be
MAX_BLOCK: Final = 1 << 24
UDP: Final = 17

_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_PACKET = 6
_MAGIC = 0x1A2B3C4D
_IF_NAME, _IF_TSRESOL = 2, 9
_NANO = 9
_FRAME = 12
_IPV4 = Struct(">BBHHHBBHII")
_UDP = Struct(">HHHH")


class Packet(NamedTuple):
    """One packet: when (ns since 1970), on which link, its octets from the IPv4 header on."""

    at_ns: Instant
    interface: str
    octets: bytes


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = (_FRAME + len(body)).to_bytes(4, "little")
    return kind.to_bytes(4, "little") + size + body + size


def _option(code: int, value: bytes) -> bytes:
    head = code.to_bytes(2, "little") + len(value).to_bytes(2, "little")
    return head + value + bytes(-len(value) % 4)


_INTERFACE_HEAD = Struct("<HHI")
_PACKET_HEAD = Struct("<IIIII")


# MPLA-10-01
class CaptureWriter:
    """Makes the octets of a capture; the caller writes them to a file, in order.

    interfaces: names of the links; the n-th one is the interface n of the file.
    """

    __slots__ = ("_head", "_numbers")

    def __init__(self, interfaces: Sequence[str]) -> None:
        if len(set(interfaces)) < len(interfaces) or len(interfaces) > MAX_INTERFACES:
            text = f"{len(interfaces)} links, all of different names, at most {MAX_INTERFACES:,}"
            raise LocalProtocolError(text)
        self._numbers = {name: number for number, name in enumerate(interfaces)}
        section = _MAGIC.to_bytes(4, "little") + b"\1\0\0\0" + b"\xff" * 8
        described = (
            _INTERFACE_HEAD.pack(RAW_IPV4, 0, MAX_PACKET)
            + _option(_IF_NAME, name.encode())
            + _option(_IF_TSRESOL, bytes((_NANO,)))
            + bytes(4)
            for name in interfaces
        )
        blocks = [_block(_SECTION, section), *(_block(_INTERFACE, one) for one in described)]
        self._head = b"".join(blocks)

    def header(self) -> bytes:
        """Return the octets with which the file begins."""
        return self._head

    def packet(self, packet: Packet) -> bytes:
        """Return the octets of one packet. Raises LocalProtocolError for a link that is not named."""
        if packet.interface not in self._numbers:
            raise LocalProtocolError(f'no link "{packet.interface}" in this capture')
        size = len(packet.octets)
        if size > MAX_PACKET:
            raise LocalProtocolError(f"a packet of {size:,} octets, limit {MAX_PACKET:,}")
        number = self._numbers[packet.interface]
        high, low = packet.at_ns >> 32, packet.at_ns & 0xFFFF_FFFF
        return _block(_PACKET, _PACKET_HEAD.pack(number, high, low, size, size) + packet.octets)


class _Interface(NamedTuple):
    name: str
    ticks: int


class CaptureReader:
    """Reads a capture of raw IPv4 in pieces; of what it was given it holds at most one block."""

    __slots__ = ("_at", "_interfaces", "_left", "_order")

    def __init__(self) -> None:
        """Begin at the first octet of a file."""
        self._left = b""
        self._at = 0
        self._order = ""
        self._interfaces: list[_Interface] = []

    def receive(self, octets: Buffer) -> Iterator[Packet]:
        """Yield the packets that are complete with these octets; to be iterated to its end.

        Raises DecodeError for what is no pcapng, a link type that is not raw IPv4, and a block of
        more than 16 MiB; the reader cannot be used after it.
        """
        view = self._left + bytes(octets)
        if not self._order and len(view) >= 4 and view[:4] != _SECTION.to_bytes(4, "big"):
            number = int.from_bytes(view[:4], "big")
            raise DecodeError(0, "block type", BAD_OPTION, number, _SECTION)
        at = 0
        while len(view) - at >= _FRAME:
            if view[at : at + 4] == _SECTION.to_bytes(4, "big"):
                self._order = _order(view, at, self._at + at)
                self._interfaces = []
            kind, size = Struct(f"{self._order}II").unpack_from(view, at)
            if size < _FRAME or size % 4 or size > MAX_BLOCK:
                raise DecodeError(self._at + at + 4, "block length", BAD_LENGTH, size, MAX_BLOCK)
            if size > len(view) - at:
                break
            packet = self._block(kind, view[at + 8 : at + size - 4], self._at + at + 8)
            if packet is not None:
                yield packet
            at += size
        self._left = view[at:]
        self._at += at

    def finish(self) -> None:
        """Raise DecodeError if the file ends within a block, or has none."""
        left = self._left
        if not self._order and len(left) < _FRAME:
            number = int.from_bytes(left[:4], "big")
            raise DecodeError(0, "block type", BAD_OPTION, number, _SECTION)
        if len(left) >= _FRAME:
            size = Struct(f"{self._order}I").unpack_from(left, 4)[0]
            raise DecodeError(self._at + 4, "block length", BAD_LENGTH, size, len(left))
        if left:
            raise DecodeError(self._at, "block", BAD_LENGTH, len(left), _FRAME)

    def _block(self, kind: int, body: bytes, at: int) -> Packet | None:
        """Take one block, its frame left out; only a packet is returned."""
        if kind == _INTERFACE:
            if len(self._interfaces) == MAX_INTERFACES:
                raise DecodeError(at, "interfaces", LIMIT, MAX_INTERFACES + 1, MAX_INTERFACES)
            self._interfaces.append(_interface(body, at, self._order))
        return _packet(body, at, self._order, self._interfaces) if kind == _PACKET else None


def read_capture(octets: Buffer) -> Iterator[Packet]:
    """Yield the packets of a capture of raw IPv4. Raises DecodeError for what is no pcapng."""
    reader = CaptureReader()
    yield from reader.receive(octets)
    reader.finish()


def _order(view: bytes, at: int, offset: int) -> str:
    for order in "<>":
        if Struct(f"{order}I").unpack_from(view, at + 8)[0] == _MAGIC:
            return order
    raise DecodeError(offset + 8, "byte order", BAD_OPTION, 0, _MAGIC)


def _interface(body: bytes, at: int, order: str) -> _Interface:
    head = Struct(f"{order}HHI")
    if len(body) < head.size:
        raise DecodeError(at, "interface", BAD_LENGTH, len(body), head.size)
    link_type = head.unpack_from(body)[0]
    if link_type != RAW_IPV4:
        raise DecodeError(at, "link type", BAD_OPTION, link_type, RAW_IPV4)
    name, ticks = "", 1_000_000
    here = head.size
    while here + 4 <= len(body):
        code, size = Struct(f"{order}HH").unpack_from(body, here)
        value = body[here + 4 : here + 4 + size]
        if not code or len(value) < size:
            break
        if code == _IF_NAME:
            name = value.decode("utf-8", "replace")
        elif code == _IF_TSRESOL and size == 1:
            ticks = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        here += 4 + size + -size % 4
    return _Interface(name, ticks)


def _packet(body: bytes, at: int, order: str, interfaces: Sequence[_Interface]) -> Packet:
    head = Struct(f"{order}IIIII")
    if len(body) < head.size:
        raise DecodeError(at, "packet", BAD_LENGTH, len(body), head.size)
    number, high, low, size, _ = head.unpack_from(body)
    if number >= len(interfaces):
        raise DecodeError(at, "interface", BAD_OPTION, number, len(interfaces))
    if size > len(body) - head.size:
        raise DecodeError(at + 12, "captured length", BAD_LENGTH, size, len(body) - head.size)
    name, ticks = interfaces[number]
    at_ns = ((high << 32 | low) * NS_PER_S) // ticks
    return Packet(at_ns, name, body[head.size : head.size + size])


def _checksum(octets: bytes) -> int:
    """Return the checksum of RFC 1071; 2^16 is 1 modulo 65535."""
    return 0xFFFF - int.from_bytes(octets + bytes(len(octets) % 2), "big") % 0xFFFF


def ipv4_packet(
    source: IPv4Address, target: IPv4Address, protocol: int, payload: bytes, ttl: int = 64
) -> bytes:
    """Return an IPv4 packet around `payload`, with its checksum; DF, DSCP CS6."""
    size = _IPV4.size + len(payload)
    fields = (0x45, 0xC0, size, 0, 0x4000, ttl, protocol)
    head = _IPV4.pack(*fields, 0, int(source), int(target))
    return _IPV4.pack(*fields, _checksum(head), int(source), int(target)) + payload


def udp_packet(
    source: IPv4Address, target: IPv4Address, port: int, payload: bytes, ttl: int = 64
) -> bytes:
    """Return an IPv4 packet with a datagram from `port` to `port`, with both checksums."""
    size = _UDP.size + len(payload)
    pseudo = source.packed + target.packed + bytes((0, UDP)) + size.to_bytes(2, "big")
    bare = _UDP.pack(port, port, size, 0) + payload
    datagram = _UDP.pack(port, port, size, _checksum(pseudo + bare) or 0xFFFF) + payload
    return ipv4_packet(source, target, UDP, datagram, ttl)
