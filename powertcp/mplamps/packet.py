"""The packets inside a circuit: IPv4 with TCP, and the power option of a SYN.

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------+-------+-----------+---+-------------------------------+
|   4   |words 5| DSCP CS6  | 0 |         total length          |
+-------+-------+-----------+---+-----+-------------------------+
|        identification 0       |0|1|0|    fragment offset 0    |
+---------------+---------------+-----+-------------------------+
|    TTL 64     |  protocol 6   |       header checksum         |
+---------------+---------------+-------------------------------+
|                source, destination: 2 * 32 bits               |
+-------------------------------+-------------------------------+
|         source port           |       destination port        |
+-------------------------------+-------------------------------+
|         sequence number, acknowledgment number: 2 * 32 bits   |
+-------+-------+---------------+-------------------------------+
| words |   0   |     flags     |         window 65,535         |
+-------+-------+---------------+-------------------------------+
|           checksum            |       urgent pointer 0        |
+---------------+---------------+-------------------------------+
|       2       |       4       |          MSS 1,400            |   in SYN and SYN+ACK
+---------------+---------------+-------------------------------+
|      253      |      20       |         ExID 0x3251           |   in the SYN of the lamp
+---------------+---------------+-------------------------------+
|            power profile: 128 bits            |    payload ...
```
MPLampS section 9; RFC 791, RFC 9293, RFC 6994.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from struct import Struct
from typing import Final, Self

from powertcp.errors import DecodeError
from powertcp.profile import OCTETS as PROFILE_OCTETS
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason
from powertcp.wire.buffer import Buffer, KindRule, walk

MSS: Final = 1400
WINDOW: Final = 65_535
TTL: Final = 64
EXPERIMENT: Final = 0x3251
# the least that any host can receive: RFC 9293, section 3.7.1
DEFAULT_MSS: Final = 536

_CS6 = 48 << 2
_DONT_FRAGMENT = 0x4000
_FRAGMENT = 0x3FFF
_PROTOCOL = 6
_MSS_KIND = 2
_POWER_KIND = 253
_IP = Struct(">BBHHHBBH4s4s")
_TCP = Struct(">HHIIBBHHH")
_PSEUDO = Struct(">4s4sHH")
_MSS = Struct(">BBH")
_POWER = Struct(">BBH16s")
_EXID = EXPERIMENT.to_bytes(2, "big")
_WORDS = 5
# a list, because walking it asks for one of 256 kinds: those not named here are skipped
_RULES = [KindRule(2, 40, 40, known=False) for _ in range(256)]
_RULES[_MSS_KIND] = KindRule(4, 4)


def internet_checksum(octets: Buffer) -> int:
    """Return the checksum of RFC 1071 over `octets`; 0 if they hold their own and it is right."""
    number = int.from_bytes(octets, "big")
    # 2^16 is 1 modulo 65,535: the number and the sum of its 16-bit words leave the same rest
    return -(number << 8 if len(octets) & 1 else number) % 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One TCP segment and the addresses it goes between.

    flags: of `registry.Flag`, TCP's values. seq, ack: 0..2^32-1. window: octets, 0..65,535. mss,
    request: options of a SYN, None if there are none.
    """

    source: IPv4Address
    destination: IPv4Address
    source_port: int
    destination_port: int
    seq: int
    ack: int = 0
    flags: int
    window: int = WINDOW
    mss: int | None = None
    request: PowerProfile | None = None
    payload: bytes = b""

    @property
    def length(self) -> int:
        """Sequence numbers it takes: those of its payload, SYN and FIN."""
        return len(self.payload) + bool(self.flags & Flag.SYN) + bool(self.flags & Flag.FIN)

    def to_wire(self) -> bytes:
        """Return the octets of the packet, with both checksums."""
        options = b""
        # MPLA-9-02
        if self.mss is not None:
            options = _MSS.pack(_MSS_KIND, _MSS.size, self.mss)
        if self.request is not None:
            profile = self.request.to_wire()
            options += _POWER.pack(_POWER_KIND, _POWER.size, EXPERIMENT, profile)
        words = _WORDS + (len(options) >> 2)
        length = (words << 2) + len(self.payload)
        source, destination = self.source.packed, self.destination.packed
        ports = self.source_port, self.destination_port
        control = words << 4, self.flags, self.window
        head = _TCP.pack(*ports, self.seq, self.ack, *control, 0, 0)
        body = b"".join((head, options, self.payload))
        pseudo = _PSEUDO.pack(source, destination, _PROTOCOL, length)
        checksum = internet_checksum(pseudo + body)
        # MPLA-9-01
        fixed = 0x45, _CS6, _IP.size + length, 0, _DONT_FRAGMENT, TTL, _PROTOCOL
        proof = internet_checksum(_IP.pack(*fixed, 0, source, destination))
        return b"".join(
            (
                _IP.pack(*fixed, proof, source, destination),
                _TCP.pack(*ports, self.seq, self.ack, *control, checksum, 0),
                body[_TCP.size :],
            )
        )

    @classmethod
    def from_wire(cls, octets: Buffer) -> Self:
        """Decode one packet; octets after its total length are ignored.

        Raises DecodeError: 502 for a length, 503 for a checksum, a fragment, another protocol or
        an option that is malformed.
        """
        packet = bytes(octets)
        body = find_segment(packet)
        source, destination = packet[12:16], packet[16:20]
        segment = packet[body : int.from_bytes(packet[2:4], "big")]
        if internet_checksum(packet[:body]):
            raise DecodeError(10, "header checksum", Reason.BAD_OPTION)
        pseudo = _PSEUDO.pack(source, destination, _PROTOCOL, len(segment))
        if internet_checksum(pseudo + segment):
            raise DecodeError(body + 16, "checksum", Reason.BAD_OPTION)
        fields = _TCP.unpack_from(segment)
        source_port, destination_port, seq, ack, words, flags, window, _, _ = fields
        start = (words >> 4) << 2
        mss, request = _read_options(segment[_TCP.size : start], body + _TCP.size)
        return cls(
            source=IPv4Address(source),
            destination=IPv4Address(destination),
            source_port=source_port,
            destination_port=destination_port,
            seq=seq,
            ack=ack,
            flags=flags,
            window=window,
            mss=mss,
            request=request,
            payload=segment[start:],
        )


def find_segment(packet: bytes, at: int = 0) -> int:
    """Return the offset of the TCP header of the IPv4 packet at `at`, all of whose headers are there.

    Raises DecodeError: 502 for a length, 503 for a fragment or another protocol. Checksums are not
    looked at.
    """
    left = len(packet) - at
    if left < _IP.size + _TCP.size:
        raise DecodeError(at, "packet", Reason.BAD_LENGTH, left, _IP.size + _TCP.size)
    version, _, total, _, fragment, _, protocol, _, _, _ = _IP.unpack_from(packet, at)
    body: int = (version & 0xF) << 2
    if version >> 4 != 4 or protocol != _PROTOCOL or fragment & _FRAGMENT:
        raise DecodeError(at, "IPv4 header", Reason.BAD_OPTION, version >> 4, 4)
    if not (body >= _IP.size and body + _TCP.size <= total <= left):
        raise DecodeError(at + 2, "total length", Reason.BAD_LENGTH, total, left)
    start = (packet[at + body + 12] >> 4) << 2
    if not _TCP.size <= start <= total - body:
        raise DecodeError(at + body + 12, "data offset", Reason.BAD_LENGTH, start, total - body)
    return at + body


def _read_options(area: bytes, base: int) -> tuple[int | None, PowerProfile | None]:
    """Return the MSS and the REQUEST among the options in `area`; others are skipped."""
    mss = request = None
    for kind, _, value in walk(area, base, _RULES):
        if kind == _MSS_KIND:
            mss = int.from_bytes(value, "big")
        # MPLA-9-02
        elif kind == _POWER_KIND and value[:2] == _EXID and request is None:
            request = _read_request(value)
    return mss, request


def _read_request(value: bytes) -> PowerProfile | None:
    """Return the REQUEST of an option; None in any doubt, as one that was not sent."""
    if len(value) != len(_EXID) + PROFILE_OCTETS:
        return None
    try:
        profile = PowerProfile.from_wire(value, len(_EXID))
    except DecodeError:
        return None
    return profile if profile.type is ProfileType.REQUEST else None
