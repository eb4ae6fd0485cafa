"""Adverts: what a provider says of itself in a TXT record, sections 2 and 3 of the DPDP draft.

```
txtvers=1
id=7f31a2c4d5e60718293a4b5c6d7e8f90
p1=4c00002ee0000bb80000000000000000 64000013880000000000000000000000   (without the blank)
cap=36000
src=grid
tariff=EUR:250000
```
An advert is a hint: voltage, price and identity are decided by the handshake.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2s
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

from powertcp.crypto import KEY_OCTETS, SIGNATURE_OCTETS
from powertcp.dpdp.txt import MAX_KEY, MAX_TXT, Pair, TxtString, join_txt, read_txt
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import OCTETS, PowerProfile, ProfileType, is_minimum_of
from powertcp.registry import Reason

# DPDP-2-01
TYPE_TCP: Final = "_powertcp._tcp.local."
# DPDP-2-01
TYPE_UDP: Final = "_powertcp._udp.local."
DOMAIN: Final = "local."
# DPDP-2-02
MAX_INSTANCE: Final = 63
VERSION: Final = b"1"
ID_OCTETS: Final = 16
MAX_OFFERS: Final = 4
# what fits a signed integer of 64 bits
MAX_CAP_MW: Final = 10**18 - 1
# a million units of a currency per kWh
MAX_MICRO: Final = 10**12
MAX_SOURCE: Final = 32
MAX_LOC: Final = 32
MAX_UNIX_S: Final = 10**12 - 1
MAX_SOC: Final = 100
SOURCES: Final = ("grid", "reclaimed", "battery", "feed")
SEALS: Final = ("req", "opt")
HOTS: Final = ("guest", "ticket")
_ID_PREFIX: Final = b"DPDP id 1"
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_TARIFF: Final = re.compile(r"([A-Z]{3}):(0|-?[1-9][0-9]{0,12})")
_SOURCE: Final = re.compile(rf"[!-~]{{1,{MAX_SOURCE}}}")
_PRINTABLE: Final = re.compile(rb"[ -~]*")


class UnknownVersion(DecodeError):
    """An advert of another version of DPDP, or of none: to be shown, never to be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """A price. currency: ISO 4217, "" when free. micro_per_kwh: millionths of it, may be < 0."""

    currency: str
    micro_per_kwh: int

    @classmethod
    def parse(cls, text: str) -> "Tariff":
        """Parse `EUR:250000` or `0`. Raises ValueError with a sentence."""
        if text == "0":
            return cls(currency="", micro_per_kwh=0)
        found = _TARIFF.fullmatch(text)
        micro = int(found[2]) if found else 0
        if found is None or abs(micro) > MAX_MICRO:
            raise ValueError(f'a tariff is 0 or, for example, EUR:250000, got "{text}"')
        return cls(currency=found[1], micro_per_kwh=micro)

    def format(self) -> str:
        """Return the text form that `parse` reads back."""
        return f"{self.currency}:{self.micro_per_kwh}" if self.currency else "0"


FREE: Final = Tariff(currency="", micro_per_kwh=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One power a provider offers: exactly `offer`, or anything from `minimum` up to it."""

    offer: PowerProfile
    minimum: PowerProfile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """What a provider says of itself. `__init__` trusts; `encode_txt` validates.

    id: 16 octets. offers: 1..4, the preferred one first. cap_mw: what a new flow could get, mW.
    source: one of SOURCES, or a word that nobody knows. tariff: None when not stated.
    exchange_key: X25519, 32 octets. seal: one of SEALS. group, feed: of a feed, its multicast
    address and 16 octets. hot: one of HOTS. soc: percent. loc: for people, 32 octets of UTF-8.
    expires_s: Unix time. signature: 64 octets. others: unknown pairs. ignored: optional keys with
    a malformed value.
    """

    id: bytes
    offers: tuple[Offer, ...]
    cap_mw: int
    source: str
    tariff: Tariff | None = None
    exchange_key: bytes | None = None
    seal: str | None = None
    group: str = ""
    feed: bytes | None = None
    hot: str = ""
    soc: int | None = None
    loc: str = ""
    expires_s: int | None = None
    signature: bytes | None = None
    others: tuple[Pair, ...] = ()
    ignored: int = field(default=0, compare=False)


def provider_id(meter_key: bytes) -> bytes:
    """Return the id of the provider whose meter signs with this key (Ed25519, 32 octets)."""
    # DPDP-3-05
    return blake2s(_ID_PREFIX + meter_key, digest_size=ID_OCTETS).digest()


def decode_txt(octets: bytes) -> Advert:
    """Return what a TXT record says; a malformed optional key is left out and counted.

    Raises UnknownVersion (501, field txtvers), and DecodeError for a record that is no TXT record
    (502, 508, field txt) or whose `id`, `p1`, `cap` or `src` is missing or malformed (503).
    """
    found = read_txt(octets)
    version = found.pop("txtvers", TxtString(0, "txtvers", None))
    # DPDP-3-01
    if version.value != VERSION:
        raise UnknownVersion(version.offset, "txtvers", Reason.BAD_VERSION)
    values = {name: _required(found, key, parse) for key, name, parse in _REQUIRED}
    offers = [values.pop("offer")]
    ignored = 0
    for key, name, parse in _OPTIONAL:
        string = found.pop(key, None)
        if string is None:
            continue
        # DPDP-3-03
        try:
            value = parse(string.value or b"")
        except ValueError:
            ignored += 1
            continue
        if name == "offer":
            offers.append(value)
        else:
            values[name] = value
    others = tuple((key, string.value) for key, string in found.items())
    return Advert(offers=tuple(offers), others=others, ignored=ignored, **values)


def encode_txt(advert: Advert) -> bytes:
    """Return the TXT record of `advert`, at most 400 octets; see `fit` for what is left out.

    Raises LocalProtocolError for a value that a receiver would not read as it is here.
    """
    fitted = fit(advert)
    # DPDP-3-02
    for key, value in fitted.others:
        if len(key) > MAX_KEY or key != key.lower() or " " in key:
            raise LocalProtocolError(f'a key is up to {MAX_KEY} lower-case letters, got "{key}"')
        if not _PRINTABLE.fullmatch(value or b""):
            raise LocalProtocolError(f"{key}: a value is printable ASCII")
    octets = join_txt(_pairs(fitted))
    if len(octets) > MAX_TXT:
        raise LocalProtocolError(f"an advert of {len(octets):,} octets, at most {MAX_TXT}")
    try:
        read = decode_txt(octets)
    except DecodeError as error:
        raise LocalProtocolError(f"the advert has no valid {error.field}") from error
    for name in (one.name for one in fields(Advert) if one.compare):
        if getattr(read, name) != getattr(fitted, name):
            raise LocalProtocolError(f"{name} cannot be said: {getattr(fitted, name)!r}")
    return octets


# DPDP-3-06
def fit(advert: Advert) -> Advert:
    """Return `advert` as it is sent: p4, p3 and p2 left out, in this order, above 400 octets."""
    sent = tuple(
        Offer(offer=one.offer.as_sent(), minimum=one.minimum and one.minimum.as_sent())
        for one in advert.offers[:MAX_OFFERS]
    )
    fitted = replace(advert, offers=sent)
    while len(fitted.offers) > 1 and len(join_txt(_pairs(fitted))) > MAX_TXT:
        fitted = replace(fitted, offers=fitted.offers[:-1])
    return fitted


def _pairs(advert: Advert) -> list[Pair]:
    """Return the pairs of `advert` in the order in which they are sent."""
    offers = {f"p{at}": _offer_hex(offer) for at, offer in enumerate(advert.offers, 1)}
    texts: dict[str, str | None] = {
        "txtvers": "1",
        "id": advert.id.hex(),
        **offers,
        "cap": str(advert.cap_mw),
        "src": advert.source,
        "tariff": None if advert.tariff is None else advert.tariff.format(),
        "vk": _letters(advert.exchange_key),
        "seal": advert.seal,
        "grp": advert.group or None,
        "feed": None if advert.feed is None else advert.feed.hex(),
        "hot": advert.hot or None,
        "soc": None if advert.soc is None else str(advert.soc),
        "loc": advert.loc or None,
        "exp": None if advert.expires_s is None else str(advert.expires_s),
        "sig": _letters(advert.signature),
    }
    pairs: list[Pair] = [
        (key, text.encode("utf-8", "surrogatepass"))
        for key, text in texts.items()
        if text is not None
    ]
    return pairs + list(advert.others)


def _offer_hex(offer: Offer) -> str:
    minimum = b"" if offer.minimum is None else offer.minimum.to_wire()
    return (offer.offer.to_wire() + minimum).hex()


def _letters(octets: bytes | None) -> str | None:
    """Return octets in base64url without padding (RFC 4648, section 5)."""
    if octets is None:
        return None
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _required(found: dict[str, TxtString], key: str, parse: Callable[[bytes], Any]) -> Any:  # noqa: ANN401  of the field
    """Return the value of a key without which there is no advert. Raises DecodeError."""
    string = found.pop(key, TxtString(0, key, None))
    # DPDP-3-03
    try:
        return parse(string.value or b"")
    except ValueError as error:
        raise DecodeError(string.offset, key, Reason.BAD_OPTION) from error


def _hex(value: bytes, count: int) -> bytes:
    if len(value) != 2 * count:
        raise ValueError
    return binascii.unhexlify(value)


def _id(value: bytes) -> bytes:
    return _hex(value, ID_OCTETS)


def _offer(value: bytes) -> Offer:
    """Parse the octets of an OFFER, alone or with its MINIMUM. Raises ValueError."""
    is_range = len(value) > 2 * OCTETS
    octets = _hex(value, 2 * OCTETS if is_range else OCTETS)
    try:
        offer = PowerProfile.from_wire(octets)
        minimum = PowerProfile.from_wire(octets, OCTETS) if is_range else None
    except DecodeError as error:
        raise ValueError from error
    # DPDP-3-04
    if offer.type is not ProfileType.OFFER or offer.tag or offer.lease_s:
        raise ValueError
    if minimum is not None:
        is_below = minimum.voltage_mv <= offer.voltage_mv and minimum.current_ma <= offer.current_ma
        if not is_minimum_of(minimum, offer) or not is_below or minimum.lease_s:
            raise ValueError
    return Offer(offer=offer, minimum=minimum)


def _number(value: bytes, most: int) -> int:
    text = value.decode("ascii")
    if not _NUMBER.fullmatch(text) or int(text) > most:
        raise ValueError
    return int(text)


def _word(value: bytes, words: tuple[str, ...]) -> str:
    text = value.decode("ascii")
    if text not in words:
        raise ValueError
    return text


def _source(value: bytes) -> str:
    text = value.decode("ascii")
    if not _SOURCE.fullmatch(text):
        raise ValueError
    return text


def _from_letters(value: bytes, count: int) -> bytes:
    """Parse base64url without padding, of which one text only stands for `count` octets."""
    octets = base64.b64decode(value + b"=" * (-len(value) % 4), b"-_", validate=True)
    if len(octets) != count or _letters(octets) != value.decode("ascii"):
        raise ValueError
    return octets


def _group(value: bytes) -> str:
    address = ip_address(value.decode("ascii"))
    if not address.is_multicast or b"%" in value:
        raise ValueError
    return str(address)


def _loc(value: bytes) -> str:
    text = value.decode()
    if len(value) > MAX_LOC or not text.isprintable():
        raise ValueError
    return text


# DPDP-3-07: key, field of the advert, parser that raises ValueError
_Rows: TypeAlias = tuple[tuple[str, str, Callable[[bytes], Any]], ...]
_REQUIRED: Final[_Rows] = (
    ("id", "id", _id),
    ("p1", "offer", _offer),
    ("cap", "cap_mw", lambda value: _number(value, MAX_CAP_MW)),
    ("src", "source", _source),
)
_OPTIONAL: Final[_Rows] = (
    ("p2", "offer", _offer),
    ("p3", "offer", _offer),
    ("p4", "offer", _offer),
    ("tariff", "tariff", lambda value: Tariff.parse(value.decode("ascii"))),
    ("vk", "exchange_key", lambda value: _from_letters(value, KEY_OCTETS)),
    ("seal", "seal", lambda value: _word(value, SEALS)),
    ("grp", "group", _group),
    ("feed", "feed", _id),
    ("hot", "hot", lambda value: _word(value, HOTS)),
    ("soc", "soc", lambda value: _number(value, MAX_SOC)),
    ("loc", "loc", _loc),
    ("exp", "expires_s", lambda value: _number(value, MAX_UNIX_S)),
    ("sig", "signature", lambda value: _from_letters(value, SIGNATURE_OCTETS)),
)
