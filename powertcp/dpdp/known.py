"""known_providers: whom this node has met before, and by which keys; one line for each.

```
7f31a2c4d5e60718293a4b5c6d7e8f90 first=1795212000 last=1795298400 meter=ed25519:BASE64 \\
    key=x25519:BASE64 site=ed25519:BASE64 signed pinned name="Bench PSU"      (one line)
```
Section 7.2 of the DPDP draft. Lines that begin with # are comments.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from powertcp.crypto import KEY_OCTETS
from powertcp.dpdp.advert import ID_OCTETS, MAX_INSTANCE, MAX_UNIX_S, provider_id
from powertcp.errors import ConfigError, nearest

# more providers than one device meets in its life; read whole at each start
MAX_KNOWN: Final = 4096
FILE: Final = "known_providers"
_HEAD: Final = "# providers met before; a line that is deleted is forgotten\n"
_NAME: Final = " name="
_WORDS: Final = ("first", "last", "meter", "key", "site")
_FLAGS: Final = ("signed", "pinned")
_SHOWN: Final = 60


class KeyKind(StrEnum):
    """What a key is for: X25519 agrees on keys (VPPN), Ed25519 signs (meters, sites)."""

    X25519 = "x25519"
    ED25519 = "ed25519"


def parse_key(text: str, kind: KeyKind) -> bytes:
    """Return the 32 octets of `x25519:BASE64` or `ed25519:BASE64`, whichever `kind` is.

    Raises ValueError with a sentence. One text only stands for a key.
    """
    name, _, letters = text.partition(":")
    try:
        octets = base64.b64decode(letters.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if name != kind or len(octets) != KEY_OCTETS or format_key(octets, kind) != text:
        raise ValueError(f'a key is {kind}: and 44 letters of base64, got "{_shown(text)}"')
    return octets


def format_key(octets: bytes, kind: KeyKind) -> str:
    """Return the text of a key that `parse_key` reads back."""
    return f"{kind}:{base64.b64encode(octets).decode('ascii')}"


def parse_id(text: str) -> bytes:
    """Return the 16 octets of a provider id in 32 hex digits. Raises ValueError with a sentence."""
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if octets.hex() != text.lower() or len(octets) != ID_OCTETS:
        raise ValueError(f'an id has {2 * ID_OCTETS} hex digits, got "{_shown(text)}"')
    return octets


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownProvider:
    """What handshakes have shown of one provider.

    id: 16 octets. first_s, last_s: Unix time of the first and the last handshake. name: of its
    instance, for people. meter_key: Ed25519, its hash is `id`. exchange_key: X25519 of its VPPN.
    site_key: Ed25519 of the site that certified it in a handshake. has_signed: an advert of it
    was signed by the meter key. is_pinned: by `powertcp discover --pin`.
    """

    id: bytes
    first_s: int
    last_s: int
    name: str = ""
    meter_key: bytes | None = None
    exchange_key: bytes | None = None
    site_key: bytes | None = None
    has_signed: bool = False
    is_pinned: bool = False


def format_known(known: Iterable[KnownProvider]) -> str:
    """Return the text of the file, sorted by id, one line for each provider."""
    return _HEAD + "".join(sorted(_line(one) for one in known))


def parse_known(text: str, file: str = FILE) -> dict[bytes, KnownProvider]:
    """Return the providers of a file by their id.

    Raises ConfigError that names the line: for what `format_known` would not write, for an id that
    stands twice, and for more than MAX_KNOWN providers.
    """
    known: dict[bytes, KnownProvider] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        place = f"line {number}"
        try:
            one = _parse_line(line)
        except ValueError as error:
            raise ConfigError(file, place, str(error)) from error
        if one.id in known:
            raise ConfigError(file, place, f"{one.id.hex()} stands twice")
        # DPDP-7-04
        if len(known) == MAX_KNOWN:
            raise ConfigError(file, place, f"more than {MAX_KNOWN:,} providers")
        known[one.id] = one
    return known


# DPDP-7-04
def remember(
    known: Mapping[bytes, KnownProvider], met: KnownProvider, *, is_vouched: bool = False
) -> dict[bytes, KnownProvider]:
    """Return `known` with what a handshake has shown of one provider.

    The first exchange key of an id stays: who shows another one changes nothing, unless
    `is_vouched` (the advert with that key was signed by the known meter key) and the old one is
    not pinned, or `met` is pinned itself. A meter key whose hash is not the id is not kept. Above
    MAX_KNOWN the one not pinned that was met least recently is forgotten; when all are pinned,
    `met` is not kept.
    """
    table = dict(known)
    if met.meter_key is not None and provider_id(met.meter_key) != met.id:
        met = replace(met, meter_key=None)
    old = known.get(met.id)
    if old is not None:
        is_same = old.exchange_key is None or met.exchange_key in (None, old.exchange_key)
        if not (is_same or met.is_pinned or (is_vouched and not old.is_pinned)):
            return table
        met = replace(
            met,
            first_s=min(old.first_s, met.first_s),
            last_s=max(old.last_s, met.last_s),
            name=met.name or old.name,
            meter_key=met.meter_key or old.meter_key,
            exchange_key=met.exchange_key or old.exchange_key,
            site_key=met.site_key or (old.site_key if is_same else None),
            has_signed=met.has_signed or old.has_signed,
            is_pinned=met.is_pinned or old.is_pinned,
        )
    table[met.id] = met
    if len(table) > MAX_KNOWN:
        loose = [one for one in known.values() if not one.is_pinned]
        forgotten = min(loose, key=lambda one: (one.last_s, one.id), default=met)
        del table[forgotten.id]
    return table


def _line(one: KnownProvider) -> str:
    words = [one.id.hex(), f"first={one.first_s}", f"last={one.last_s}"]
    for word, octets, kind in (
        ("meter", one.meter_key, KeyKind.ED25519),
        ("key", one.exchange_key, KeyKind.X25519),
        ("site", one.site_key, KeyKind.ED25519),
    ):
        if octets is not None:
            words.append(f"{word}={format_key(octets, kind)}")
    words += ["signed"] * one.has_signed + ["pinned"] * one.is_pinned
    # what a terminal would act on is written as \uNNNN; it ends no line either
    quoted = json.dumps(one.name, ensure_ascii=not one.name.isprintable())
    return f"{' '.join(words)}{_NAME}{quoted}\n"


def _parse_line(line: str) -> KnownProvider:
    head, equals, quoted = line.partition(_NAME)
    ident, *words = head.split(" ")
    provider = parse_id(ident)
    values: dict[str, str] = {}
    for word in words:
        name, has_value, value = word.partition("=")
        if name not in (_WORDS if has_value else _FLAGS):
            near = nearest(name, (*_WORDS, *_FLAGS))
            raise ValueError(f'unknown word "{_shown(word)}"{near}')
        if name in values:
            raise ValueError(f"{name} stands twice")
        values[name] = value
    meter_key = _key(values, "meter", KeyKind.ED25519)
    if meter_key is not None and provider_id(meter_key) != provider:
        raise ValueError(f"the meter key is not that of {ident}")
    return KnownProvider(
        id=provider,
        first_s=_moment(values, "first"),
        last_s=_moment(values, "last"),
        name=_parse_name(quoted) if equals else "",
        meter_key=meter_key,
        exchange_key=_key(values, "key", KeyKind.X25519),
        site_key=_key(values, "site", KeyKind.ED25519),
        has_signed="signed" in values,
        is_pinned="pinned" in values,
    )


def _key(values: Mapping[str, str], word: str, kind: KeyKind) -> bytes | None:
    return parse_key(values[word], kind) if word in values else None


def _moment(values: Mapping[str, str], word: str) -> int:
    text = values.get(word, "")
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(MAX_UNIX_S)):
        raise ValueError(f'{word}= is a Unix time in seconds, got "{_shown(text)}"')
    return int(text)


def _parse_name(quoted: str) -> str:
    sentence = f"a name is text of up to {MAX_INSTANCE} octets in double quotes"
    # each octet is written as six signs at most
    if len(quoted) > 6 * MAX_INSTANCE + 2:
        raise ValueError(sentence)
    try:
        name = json.loads(quoted)
        if isinstance(name, str) and len(name.encode()) <= MAX_INSTANCE:
            return name
    except ValueError:
        pass
    raise ValueError(f'{sentence}, got "{_shown(quoted)}"')


def _shown(text: str) -> str:
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}.."
    return cut.encode("unicode_escape").decode("ascii")
