"""Messages of RSVP to octets and back: the common header, the checksum, which objects a type has.

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------+-------+---------------+-------------------------------+
|   1   | flags |     type      |            checksum           |
+-------+-------+---------------+-------------------------------+
|   Send_TTL    |       0       |      length, header too       |
+---------------+---------------+-------------------------------+
```
MPLampS sections 4.1 to 4.4; RFC 2205 section 3.1. A message that may not be answered raises
DecodeError and is dropped; one that is answered with an error is decoded as `Rejected`.
"""

import struct
from collections.abc import Mapping
from struct import Struct
from typing import Final

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.mplamps.rsvp.integrity import Integrity, Key, seal
from powertcp.mplamps.rsvp.layout import learn_layout, read_alike
from powertcp.mplamps.rsvp.messages import Bundle, Kind, Received, Sendable
from powertcp.mplamps.rsvp.sending import objects_of
from powertcp.mplamps.rsvp.walk import HEADER_OCTETS, Walk
from powertcp.registry import Reason
from powertcp.wire.buffer import Buffer

PORT: Final = 3455
FIRST_TTL: Final = 64
# MPLA-4.1-01: what fits into a frame of Ethernet, and what a peer with larger ones may send
MAX_SENT: Final = 1472
MAX_RECEIVED: Final = 4096
VERSION: Final = 1
REFRESH_REDUCTION: Final = 1

COMMON = Struct(">BBHBBH")
_MODULUS = 0xFFFF
_KINDS = {int(kind): kind for kind in Kind}


class MessageTooLongError(LocalProtocolError):
    """A message of more octets than are sent: what others have put into it does not fit."""


def _sum(octets: bytes) -> int:
    """Return the sum of all words of 16 bits modulo 65535, 0 for a right checksum.

    2^16 is 1 modulo 65535, so that the octets are one number in this arithmetic.
    """
    return int.from_bytes(octets, "big") % _MODULUS


def checked(octets: bytes) -> bytes:
    """Return a message with its checksum, which must be 0 before. Never sends 0, which is none."""
    # MPLA-4.1-02
    value = _MODULUS - _sum(octets)
    return octets[:2] + value.to_bytes(2, "big") + octets[4:]


def encode_message(
    message: Sendable, ttl: int = FIRST_TTL, key: Key | None = None, sequence: int = 0
) -> bytes:
    """Return the octets of a message, with INTEGRITY first if there is a key.

    sequence: greater than that of every message before it under this key, 64 bits.
    Raises LocalProtocolError for values that do not fit their fields, MessageTooLongError for more than
    1472 octets.
    """
    try:
        kind, body = objects_of(message)
        if key is not None:
            body = key.blank(sequence) + body
        size = HEADER_OCTETS + len(body)
        # MPLA-4.1-01
        if size > MAX_SENT:
            raise MessageTooLongError(f"{kind.name} has {size:,} octets, limit {MAX_SENT:,}")
        flags = VERSION << 4 | REFRESH_REDUCTION
        octets = COMMON.pack(flags, kind, 0, ttl, 0, size) + body
    except struct.error as error:
        raise LocalProtocolError(f"{type(message).__name__}: {error}") from error
    return checked(octets if key is None else seal(octets, key))


def decode_message(octets: Buffer, keys: Mapping[int, bytes] | None = None) -> Received:
    """Return the message of one datagram, at most 4096 octets.

    keys: secrets by their ids; with them a message without INTEGRITY, or with a wrong one, is
    refused. Raises DecodeError: 501 version, 502 length, 503 checksum or value, 504 type, 505 an
    unknown object in what cannot be answered, 506 an object too many, too few, or in the wrong
    place, 508 too large, 509 INTEGRITY. MPLA-4.1-02, MPLA-4.2-01, MPLA-4.2-02.
    """
    whole = bytes(octets)
    if len(whole) > MAX_RECEIVED:
        raise DecodeError(0, "length", Reason.LIMIT, len(whole), MAX_RECEIVED)
    return _decode(whole, keys, may_bundle=True)


def _decode(octets: bytes, keys: Mapping[int, bytes] | None, *, may_bundle: bool) -> Received:
    size = len(octets)
    if size < HEADER_OCTETS:
        raise DecodeError(0, "header", Reason.BAD_LENGTH, size, HEADER_OCTETS)
    flags, number, checksum, ttl, _, length = COMMON.unpack_from(octets)
    if flags >> 4 != VERSION:
        raise DecodeError(0, "version", Reason.BAD_VERSION, flags >> 4, VERSION)
    if length != size or length % 4:
        raise DecodeError(6, "length", Reason.BAD_LENGTH, length, size)
    # MPLA-4.1-02
    if checksum and _sum(octets):
        raise DecodeError(2, "checksum", Reason.BAD_OPTION, checksum)
    kind = _KINDS.get(number)
    if kind is None or (kind is Kind.BUNDLE and not may_bundle):
        raise DecodeError(1, "type", Reason.UNSUPPORTED_TYPE, number)
    if kind is Kind.BUNDLE:
        return Received(_bundle(octets, keys), ttl)
    if keys is None and (alike := read_alike(kind, octets)) is not None:
        return Received(alike, ttl)
    walk = Walk(octets, kind)
    walk.run()
    mark = walk.integrity
    if keys is not None:
        # MPLA-4.10-01
        _verify(octets, mark, keys)
    message = walk.message()
    if mark is None:
        learn_layout(octets, message)
        return Received(message, ttl)
    return Received(message, ttl, mark.key_id, mark.sequence)


def _verify(octets: bytes, mark: Integrity | None, keys: Mapping[int, bytes]) -> None:
    if mark is None:
        raise DecodeError(HEADER_OCTETS, "INTEGRITY", Reason.DECRYPT)
    if mark.key_id not in keys or not mark.is_of(octets, keys[mark.key_id]):
        raise DecodeError(mark.at, "INTEGRITY", Reason.DECRYPT, mark.key_id)


def _bundle(octets: bytes, keys: Mapping[int, bytes] | None) -> Bundle:
    """Decode the messages of a bundle, one by one; one that is wrong spoils them all."""
    # MPLA-4.2-03
    received = []
    at = HEADER_OCTETS
    while at < len(octets):
        left = len(octets) - at
        length = COMMON.unpack_from(octets, at)[5] if left >= HEADER_OCTETS else 0
        if not HEADER_OCTETS <= length <= left:
            raise DecodeError(at, "length", Reason.BAD_LENGTH, length, left)
        try:
            received.append(_decode(octets[at : at + length], keys, may_bundle=False))
        except DecodeError as error:
            raise DecodeError(
                at + error.offset, error.field, error.code, error.value, error.limit
            ) from error
        at += length
    if not received:
        raise DecodeError(at, "Bundle", Reason.BAD_LENGTH, len(octets), 2 * HEADER_OCTETS)
    return Bundle(received=tuple(received))
