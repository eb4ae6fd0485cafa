"""INTEGRITY: a keyed digest over the whole message, and a number that makes replays visible.

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---------------+---------------+-------------------------------+
|    flags      |       0       |                               |
+---------------+---------------+        key id (48)            |
|                                                               |
+---------------------------------------------------------------+
|                      sequence number (64)                     |
|                                                               |
+---------------------------------------------------------------+
|          HMAC-SHA-256 (32 octets) or HMAC-MD5 (16)            |
+---------------------------------------------------------------+
```
RFC 2747 section 2.1. The digest is made with checksum and digest 0; the checksum comes after it.
"""

from struct import Struct
from typing import Final, NamedTuple

from powertcp.crypto import is_mac, mac_octets
from powertcp.errors import LocalProtocolError

_LAYOUT = Struct(">HBBBxHIQ")
_CLASS, _C_TYPE = 4, 1
_NAMES = {16: "MD5", 32: "SHA256"}
_SENT = 32
INTEGRITY_SIZES: Final = frozenset(_LAYOUT.size + size for size in _NAMES)
INTEGRITY_OCTETS: Final = _LAYOUT.size + _SENT
MAX_KEY_ID: Final = (1 << 48) - 1
# RFC 2104: a secret shorter than the digest is the weakest part
MIN_SECRET: Final = 16


class Integrity(NamedTuple):
    """An INTEGRITY as it stands in a message; `at` is its offset, `size` that of its digest."""

    key_id: int
    sequence: int
    at: int
    size: int

    def is_of(self, octets: bytes, secret: bytes) -> bool:
        """Return whether the digest is that of the message, under `secret`."""
        start = self.at + _LAYOUT.size
        end = start + self.size
        blank = octets[:2] + b"\0\0" + octets[4:start] + bytes(self.size) + octets[end:]
        return is_mac(_NAMES[self.size], secret, blank, octets[start:end])


class Key(NamedTuple):
    """A key under which messages are sent: id of 48 bits, and a secret of at least 16 octets."""

    key_id: int
    secret: bytes

    def blank(self, sequence: int) -> bytes:
        """Return an INTEGRITY whose digest is 0. Raises LocalProtocolError for a key of no use."""
        if not 0 <= self.key_id <= MAX_KEY_ID or len(self.secret) < MIN_SECRET:
            text = f"key id {self.key_id} with {len(self.secret)} octets"
            raise LocalProtocolError(f"{text}, a key has 48 bits and {MIN_SECRET} octets or more")
        high, low = self.key_id >> 32, self.key_id & 0xFFFF_FFFF
        head = _LAYOUT.pack(INTEGRITY_OCTETS, _CLASS, _C_TYPE, 0, high, low, sequence)
        return head + bytes(_SENT)


def seal(octets: bytes, key: Key) -> bytes:
    """Return a message that begins with the blank INTEGRITY of `key`, with its digest."""
    at = 8 + _LAYOUT.size
    digest = mac_octets(_NAMES[_SENT], key.secret, octets)
    return octets[:at] + digest + octets[at + _SENT :]


def integrity_at(octets: bytes, at: int, length: int) -> Integrity:
    """Decode the object at `at`, whose length is one of INTEGRITY_SIZES."""
    _, _, _, _, high, low, sequence = _LAYOUT.unpack_from(octets, at)
    return Integrity(high << 32 | low, sequence, at, length - _LAYOUT.size)
