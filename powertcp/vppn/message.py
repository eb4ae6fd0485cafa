"""Messages of the handshake as SEALED segments, and what they carry: VPPN section 2.2.

```
SEALED SYN      SEAL {epoch, 0} [COOKIE] | pattern u8 | zero u8 | Noise message 1
SEALED SYN+ACK  SEAL {epoch, 0}          | Noise message 2
SEALED ACK      SEAL {epoch, 0}          | Noise message 3
payload of each | Unix time ns u64 | certificate length u16 | certificate | plain segments
```
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from powertcp.crypto import DECRYPT
from powertcp.errors import DecodeError
from powertcp.registry import Flag, SegmentType
from powertcp.vppn.certificate import MAX_OCTETS
from powertcp.vppn.noise import PatternId
from powertcp.vppn.record import inner_segments
from powertcp.wire.frames import HEADER_OCTETS, RawSegment, pack_segment
from powertcp.wire.options import Options, Seal, decode_options, encode_options

MESSAGE_1: Final = int(Flag.SYN)
MESSAGE_2: Final = int(Flag.SYN | Flag.ACK)
MESSAGE_3: Final = int(Flag.ACK)
# what of a first flight travels in a message of the handshake: with it within the default MSP
FLIGHT_MAX: Final = 8 * 1024
_HEAD: Final = Struct(">QH")
_SEALED: Final = int(SegmentType.SEALED)
_CTL: Final = int(SegmentType.CTL)


class Message(NamedTuple):
    """One message of the handshake of `epoch` as it came."""

    epoch: int
    cookie: bytes | None
    octets: bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """What a message says. time_ns: Unix time of its sender. plain: whole segments."""

    time_ns: int
    certificate: bytes = b""
    plain: bytes = b""

    def encode(self) -> bytes:
        """Return the octets; a certificate has at most 1024."""
        return _HEAD.pack(self.time_ns, len(self.certificate)) + self.certificate + self.plain


# VPPN-2.2-07
def decode_payload(octets: bytes) -> Payload:
    """Return what a message says. Raises DecodeError 509."""
    if len(octets) < _HEAD.size:
        raise DecodeError(0, "payload", DECRYPT, len(octets), _HEAD.size)
    time_ns, length = _HEAD.unpack_from(octets)
    end = _HEAD.size + length
    if length > MAX_OCTETS or end > len(octets):
        raise DecodeError(8, "certificate", DECRYPT, length, MAX_OCTETS)
    plain, stop = octets[end:], 0
    for start, after, kind, _, _ in inner_segments(plain):
        if kind == _SEALED:
            raise DecodeError(end + start, "type", DECRYPT, kind)
        stop = after
    # no padding here
    if stop != len(plain):
        raise DecodeError(end + stop, "payload", DECRYPT, len(plain), stop)
    return Payload(time_ns, octets[_HEAD.size : end], plain)


def _area(epoch: int, cookie: bytes | None) -> bytes:
    return encode_options(Options(cookie=cookie, seal=Seal(epoch, 0)))


def encode_message(flags: int, epoch: int, octets: bytes, cookie: bytes | None = None) -> bytes:
    """Return a whole SEALED segment with a message of the handshake of `epoch`."""
    return pack_segment(SegmentType.SEALED, flags, 0, 0, _area(epoch, cookie), octets)


def decode_message(raw: RawSegment) -> Message:
    """Return the message in a SEALED segment. Raises DecodeError 509.

    Nothing of the segment is free to be altered: its header and options are taken in one form only.
    """
    try:
        options = decode_options(raw[4])
    except DecodeError as error:
        raise DecodeError(error.offset, error.field, DECRYPT, error.value) from error
    # VPPN-2.2-05
    if options.seal is None or bytes(raw[4]) != _area(options.seal.epoch, options.cookie):
        raise DecodeError(HEADER_OCTETS, "options", DECRYPT, len(raw[4]))
    if raw[2] or raw[3]:
        raise DecodeError(8, "flow identifier", DECRYPT, raw[2], 0)
    return Message(options.seal.epoch, options.cookie, bytes(raw[5]))


def split_first(octets: bytes) -> tuple[PatternId, bytes]:
    """Return pattern and Noise message of a first message. Raises DecodeError 509."""
    # VPPN-2.1-01
    if len(octets) < 2 or octets[1] or octets[0] not in _PATTERNS:
        raise DecodeError(0, "pattern", DECRYPT, octets[0] if octets else 0)
    return PatternId(octets[0]), octets[2:]


_PATTERNS = frozenset(int(pattern) for pattern in PatternId)


# VPPN-2.3-01
def first_syn(plain: bytes) -> bytes:
    """Return the first plain segment if it is a SYN that may travel in message 1, else nothing.

    Raises DecodeError 509 for one whose options cannot be read.
    """
    for start, end, kind, _, _ in inner_segments(plain):
        if kind != _CTL or plain[start + 5] != MESSAGE_1 or end > FLIGHT_MAX:
            return b""
        try:
            options = decode_options(plain[start + HEADER_OCTETS : start + (plain[start + 3] << 2)])
        except DecodeError as error:
            raise DecodeError(error.offset, error.field, DECRYPT, error.value) from error
        # VPPN-2.3-07
        return b"" if options.ticket is not None else plain[start:end]
    return b""
