"""Codes that are good for one certificate each: what a hot spot prints for those who come.

```
code 64HEX until=1797889200 hours=8 name=guest-1 groups=guests limits=max-power=10W     (one line)
code 64HEX until=1797889200 hours=8 name=guest-2 groups= limits= spent=1795298400
wrong 1795298390
```
Kept is the hash of a code only: a code has 80 random bits, which nobody tries through. Section 9 of
the DPDP draft.
"""

from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s
from typing import Final, NamedTuple

from powertcp.errors import ConfigError

CODE_OCTETS: Final = 10
MAX_CODES: Final = 10_000  # a year of a small site; the file is read whole
MAX_WRONG: Final = 10  # in a minute, of all who try: a person mistypes a few times
WRONG_S: Final = 60
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_SIGNS: Final = 16
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


class Vouchers(NamedTuple):
    """The codes of a site. wrong: Unix times of tries in the last minute that were none."""

    codes: Mapping[bytes, Voucher]
    wrong: Sequence[int] = ()


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


def redeem(vouchers: Vouchers, code: str, now_s: int) -> tuple[Vouchers, Voucher | None, str]:
    """Return the codes after somebody tried `code`; the one it is, or None and a sentence why not.

    Write the first before anything is given for the second: a code is good once.
    """
    recent = tuple(each for each in vouchers.wrong if now_s - WRONG_S < each <= now_s)
    if len(recent) >= MAX_WRONG:
        wait_s = recent[0] + WRONG_S - now_s
        return vouchers, None, f"{MAX_WRONG} wrong codes in a minute: try again in {wait_s} s"
    said = "no such code"
    try:
        found = vouchers.codes.get(digest_of(code))
    except ValueError as error:
        found, said = None, str(error)
    if found is not None and found.spent_s:
        found, said = None, "the code was redeemed before"
    if found is not None and found.until_s <= now_s:
        found, said = None, "the code has expired"
    if found is None:
        return Vouchers(vouchers.codes, (*recent, now_s)), None, said
    spent = replace(found, spent_s=now_s)
    return Vouchers({**vouchers.codes, spent.digest: spent}, recent), spent, ""


def format_vouchers(vouchers: Vouchers) -> str:
    """Return the text of the file that `parse_vouchers` reads back."""
    lines = [_line(each) for each in vouchers.codes.values()]
    return "".join([*lines, *(f"wrong {each}\n" for each in vouchers.wrong)])


def _line(one: Voucher) -> str:
    spent = f" spent={one.spent_s}" if one.spent_s else ""
    return (
        f"code {one.digest.hex()} until={one.until_s} hours={one.hours}"
        f" name={one.name} groups={one.groups} limits={'|'.join(one.limits.split())}{spent}\n"
    )


def parse_vouchers(text: str, file: str) -> Vouchers:
    """Return the codes of a file. Raises ConfigError that names the line it cannot read."""
    codes: dict[bytes, Voucher] = {}
    wrong: list[int] = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        try:
            kind, *words = line.split(" ")
            if kind == "wrong" and len(wrong) < MAX_WRONG:
                wrong.append(_moment(*words))
                continue
            one = _parse_code(kind, words)
            if one.digest in codes or len(codes) == MAX_CODES:
                raise ValueError(f"a code stands twice, or there are more than {MAX_CODES:,}")
            codes[one.digest] = one
        except (ValueError, KeyError, TypeError) as error:
            said = f"a line of codes cannot be read: {error}"
            raise ConfigError(file, f"line {number}", said) from error
    return Vouchers(codes, tuple(wrong))


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
