"""Strings of a TXT record (RFC 6763, section 6), and text that may be shown to people.

```
 0                   1                   2
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3
+---------------+---------------+---------------
|    length     | key = value ...                 repeated to the end of the record; a key alone
+---------------+---------------+---------------  has no value; what begins with "=" is no pair
```
Section 3 of the DPDP draft.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.wire.buffer import LIMIT, Reader

# what avahi-browse still shows in one line and every resolver takes (RFC 6763, section 6.2)
MAX_TXT: Final = 400
# what fits into one frame of Ethernet: longer records come from nobody who means well
MAX_HEARD_TXT: Final = 1300
# its length is one octet
MAX_STRING: Final = 255
# RFC 6763, section 6.4
MAX_KEY: Final = 9

Pair: TypeAlias = tuple[str, bytes | None]


class TxtString(NamedTuple):
    """One pair of a record and the octet at which it begins."""

    offset: int
    key: str
    value: bytes | None


def read_txt(octets: bytes) -> dict[str, TxtString]:
    """Return the strings of a TXT record by key, in their order.

    Keys in lower case; of a repeated one the first counts. Strings without a key of printable
    ASCII are no pairs and are left out. Raises DecodeError: 508 for more than 1300 octets, 502
    for a string that is longer than what is left.
    """
    # DPDP-3-02
    if len(octets) > MAX_HEARD_TXT:
        raise DecodeError(0, "txt", LIMIT, len(octets), MAX_HEARD_TXT)
    found: dict[str, TxtString] = {}
    reader = Reader(octets)
    while reader.left:
        offset = reader.offset
        string = reader.take(reader.unsigned(1, "txt"), "txt")
        name, equals, value = string.partition(b"=")
        key = name.decode("ascii", "replace").lower()
        # DPDP-3-01
        if is_key(key):
            found.setdefault(key, TxtString(offset, key, value if equals else None))
    return found


def split_txt(octets: bytes) -> list[Pair]:
    """Return the pairs of a TXT record in their order; the value of a key alone is None.

    As `read_txt`, which says what is left out and what is raised.
    """
    return [(key, value) for _, key, value in read_txt(octets).values()]


def join_txt(pairs: Iterable[Pair]) -> bytes:
    """Return the TXT record of `pairs`.

    Raises LocalProtocolError for a key that is none and for a string above 255 octets.
    """
    strings = []
    for key, value in pairs:
        if not is_key(key):
            raise LocalProtocolError(f'a key is printable ASCII without "=", got "{key}"')
        octets = key.encode("ascii") + (b"" if value is None else b"=" + value)
        if len(octets) > MAX_STRING:
            text = f"{key}: {len(octets):,} octets in one string, at most {MAX_STRING}"
            raise LocalProtocolError(text)
        strings.append(bytes([len(octets)]) + octets)
    return b"".join(strings)


def is_key(text: str) -> bool:
    """Return whether `text` can be a key: printable ASCII without "=", at least one sign."""
    return bool(text) and text.isascii() and text.isprintable() and "=" not in text


# DPDP-7-02
def show_text(text: bytes | str) -> str:
    r"""Return what may be shown of a name or a value that a stranger has chosen.

    Control characters, and all others that show nothing or turn what follows, become `\xNN`,
    `\uNNNN` or `\UNNNNNNNN`; octets that are not UTF-8 become `\xNN`.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else _escaped(ord(sign)) for sign in text)


def _escaped(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
