"""Codes that are good for one certificate each: what a hot spot prints for those who come.

```
code 64HEX until=1797889200 hours=8 name=guest-8a03f1c2579e groups=guests limits=max-power=10W
code 64HEX until=1797889200 hours=8 name=guest-e41b7705d6a3 groups= limits= spent=1795298400
```
Kept is the hash of a code only. A code has 80 random bits, which nobody tries through: wrong ones are
not counted, since a count would let one visitor lock all others out. Section 9 of the DPDP draft.
"""

from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s
from typing import Final

from powertcp.errors import ConfigError

CODE_OCTETS: Final = 10
MAX_CODES: Final = 10_000  # a year of a small site; the file is read whole
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_SIGNS: Final = 16
_NAME_OCTETS: Final = 6  # of 10,000 codes, two share a name once in five million sites
_PERSON: Final = b"ptcpcode"
_KEYS: Final = ("until", "hours", "name", "groups", "limits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """One code. digest: of the code. until_s: Unix time. hours: of the certificate it is good for.

    name, groups, limits: those of the certificate, as words. spent_s: when it was redeemed, 0 for
    not yet.
    """

    digest: bytes
    until_s: int
    hours: int
    name: str
    groups: str = ""
    limits: str = ""
    spent_s: int = 0


def format_code(octets: bytes) -> str:
    """Return the code of ten random octets: ABCD-EFGH-IJKL-MNOP."""
    letters = b32encode(octets).decode("ascii")
    return "-".join(letters[at : at + 4] for at in range(0, _SIGNS, 4))


def digest_of(code: str) -> bytes:
    """Return the hash of a code however it was typed. Raises ValueError for what is no code."""
    letters = "".join(sign for sign in code.upper() if sign not in "- ")
    if len(letters) != _SIGNS or not _LETTERS.issuperset(letters):
        raise ValueError("a code is four groups of four signs, A to Z and 2 to 7")
    return blake2s(letters.encode("ascii"), person=_PERSON).digest()


def name_of(name: str, digest: bytes) -> str:
    """Return the name of the guest with a code: no two codes, in whatever file, share one."""
    return f"{name}-{digest[:_NAME_OCTETS].hex()}"


def redeem(vouchers: Mapping[bytes, Voucher], code: str, now_s: int) -> tuple[Voucher | None, str]:
    """Return the code, spent now; or None and a sentence why not.

    Write it in the place of the one it was before anything is given for it: a code is good once.
    """
    try:
        found = vouchers.get(digest_of(code))
    except ValueError as error:
        return None, str(error)
    if found is None:
        return None, "no such code"
    if found.spent_s:
        return None, "the code was redeemed before"
    if found.until_s <= now_s:
        return None, "the code has expired"
    return replace(found, spent_s=now_s), ""


def format_vouchers(vouchers: Mapping[bytes, Voucher]) -> str:
    """Return the text of the file that `parse_vouchers` reads back."""
    return "".join(map(_line, vouchers.values()))


def _line(one: Voucher) -> str:
    spent = f" spent={one.spent_s}" if one.spent_s else ""
    return (
        f"code {one.digest.hex()} until={one.until_s} hours={one.hours}"
        f" name={one.name} groups={one.groups} limits={'|'.join(one.limits.split())}{spent}\n"
    )


def parse_vouchers(text: str, file: str) -> dict[bytes, Voucher]:
    """Return the codes of a file by their hashes. Raises ConfigError that names the line it cannot read."""
    codes: dict[bytes, Voucher] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        try:
            kind, *words = line.split(" ")
            one = _parse_code(kind, words)
            if one.digest in codes or len(codes) == MAX_CODES:
                raise ValueError(f"a code stands twice, or there are more than {MAX_CODES:,}")
            codes[one.digest] = one
        except (ValueError, KeyError, TypeError) as error:
            said = f"a line of codes cannot be read: {error}"
            raise ConfigError(file, f"line {number}", said) from error
    return codes


def _parse_code(kind: str, words: Sequence[str]) -> Voucher:
    digest = bytes.fromhex(words[0] if words else "")
    values = dict(word.split("=", 1) for word in words[1:])
    if kind != "code" or len(digest) != 32 or set(values) - {"spent"} != set(_KEYS):
        raise ValueError("it is not of the form code HASH until= hours= name= groups= limits=")
    return Voucher(
        digest=digest,
        until_s=_moment(values["until"]),
        hours=_moment(values["hours"]),
        name=values["name"],
        groups=values["groups"],
        limits=values["limits"].replace("|", " "),
        spent_s=_moment(values.get("spent", "0")),
    )


def _moment(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise ValueError(f"a number of seconds or hours, got {text[:20]!r}")
    return int(text)
