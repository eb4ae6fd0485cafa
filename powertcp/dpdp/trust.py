"""Whom to believe: levels of trust, pins and sites, and what a handshake must still prove.

An advert proves nothing. It names keys, and with them what the VPPN handshake must show after
connecting: section 7.3 of the DPDP draft.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from powertcp.dpdp.advert import Advert, provider_id
from powertcp.dpdp.known import KeyKind, KnownProvider, format_key, parse_id, parse_key

NO_TRUST: Final = "no trust configured: taking power from any provider on this link"
_ID: Final = "id"


class Level(StrEnum):
    """How far a provider is believed: anybody, one that a site certifies, one that is named."""

    ANY = "any"
    SITE = "site"
    PINNED = "pinned"

    @property
    def strength(self) -> int:
        """0, 1, 2: the greater the more is proved."""
        return _STRENGTHS[self]


_STRENGTHS: Final = {level: strength for strength, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class Pin:
    """One provider named by hand. kind: x25519 (its VPPN key) or id. octets: 32 or 16."""

    kind: str
    octets: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `x25519:BASE64` or `id:HEX`. Raises ValueError with a sentence."""
        name, colon, rest = text.partition(":")
        if colon and name == _ID:
            return cls(_ID, parse_id(rest))
        if name != KeyKind.X25519:
            raise ValueError(f"a pin is x25519:BASE64 or id:HEX, got {text[:60]!r}")
        return cls(KeyKind.X25519, parse_key(text, KeyKind.X25519))

    def __str__(self) -> str:
        """Return the text form that `parse` reads back."""
        if self.kind == _ID:
            return f"{_ID}:{self.octets.hex()}"
        return format_key(self.octets, KeyKind.X25519)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a handshake has shown of the other side.

    static_key: X25519, None on a clear connection. issuer: Ed25519 of the certificate in message
    2, None without a valid one; its time and revocation are judged by the VPPN. subject: the key
    it names, 32 octets. is_meter_key: the subject is an Ed25519 key. has_signed: that key has
    signed the advert which led here. meter_key: Ed25519 of METER in SYN+ACK, None without.
    signs: that key has signed the advert which led here.
    """

    static_key: bytes | None = None
    issuer: bytes | None = None
    subject: bytes = b""
    is_meter_key: bool = False
    has_signed: bool = False
    meter_key: bytes | None = None
    signs: bool = False


class Proof(NamedTuple):
    """What the handshake must show before any power is taken.

    provider: id of the advert, empty without one. static_key: that the VPPN handshake must be with; None: none is
    needed. sites: Ed25519 keys, one of which must have issued a certificate; empty: none is needed.
    meter_key: Ed25519, which SYN+ACK must name; None: any will do. is_id: the meter key that SYN+ACK
    names must be that of the id, and have signed the advert where power is sealed. ids: without an
    advert, any of which will do for the id.
    """

    provider: bytes
    static_key: bytes | None = None
    sites: frozenset[bytes] = frozenset()
    meter_key: bytes | None = None
    is_id: bool = False
    ids: frozenset[bytes] = frozenset()

    @property
    def is_sealed(self) -> bool:
        """Whether a VPPN handshake is needed."""
        return self.static_key is not None

    # DPDP-7-07
    def missing(self, shown: Shown) -> str:
        """Return what `shown` lacks, a sentence; "" when all is proved.

        A certificate counts when its subject is the static key of the handshake, or the meter key
        whose hash is the id and which has signed the advert.
        """
        if self.static_key is not None and shown.static_key != self.static_key:
            wanted = format_key(self.static_key, KeyKind.X25519)
            if shown.static_key is None:
                return f"a VPPN handshake with {wanted} is needed"
            return f"it is {format_key(shown.static_key, KeyKind.X25519)}, not {wanted}"
        if self.meter_key is not None and shown.meter_key != self.meter_key:
            return f"its meter is not {format_key(self.meter_key, KeyKind.ED25519)}"
        if self.is_id and (said := self._unidentified(shown)):
            return said
        return self._uncertified(shown) if self.sites else ""

    # DPDP-7-08
    def _unidentified(self, shown: Shown) -> str:
        """Return why it is not proved that the provider has the id of its advert, "" when it is."""
        if shown.meter_key is None:
            return (
                "it shows no meter key, of which its id would be the hash: a pin by key needs none"
            )
        if provider_id(shown.meter_key) not in (self.ids or (self.provider,)):
            return "its meter is that of another id"
        is_bound = shown.signs or self.static_key is None
        return "" if is_bound else "the meter of its id has not signed the advert with this key"

    def _uncertified(self, shown: Shown) -> str:
        """Return what is wrong with the certificate of a site, "" when nothing is."""
        if shown.issuer is None:
            return "it shows no certificate of a site"
        if shown.issuer not in self.sites:
            return f"{format_key(shown.issuer, KeyKind.ED25519)} is no site of ours"
        if not shown.is_meter_key:
            is_own = shown.subject == shown.static_key
            return "" if is_own else "its certificate names another key"
        if provider_id(shown.subject) != self.provider:
            return "its certificate names the meter of another provider"
        return "" if shown.has_signed else "the meter that is certified has not signed the advert"


class Verdict(NamedTuple):
    """How far an advert may be followed.

    level: that which the provider has once `proof` is shown. refusal: why it is not followed, a
    sentence, "" when it is. is_downgrade: it lacks the key that is pinned for its provider.
    """

    level: Level
    proof: Proof
    refusal: str = ""
    is_downgrade: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom a consumer believes. level: the least that will do. ids, keys: of pins. sites: Ed25519.

    known: whom it has met, by id. warning: what is to be said once, "" for nothing.
    """

    level: Level = Level.ANY
    ids: frozenset[bytes] = frozenset()
    keys: frozenset[bytes] = frozenset()
    sites: frozenset[bytes] = frozenset()
    known: Mapping[bytes, KnownProvider] = field(default_factory=lambda: MappingProxyType({}))
    warning: str = ""

    @classmethod
    def make(
        cls,
        level: Level | None = None,
        pins: Iterable[Pin] = (),
        sites: Iterable[bytes] = (),
        known: Mapping[bytes, KnownProvider] | None = None,
    ) -> Self:
        """Return the trust that pins and sites make; without `level` the strictest of them.

        That is `pinned` with a pin, of options or of `known`, else `site` with a site, else `any`.
        Raises ValueError for a level that nobody could have.
        """
        given = tuple(pins)
        met = known or {}
        ids = frozenset(pin.octets for pin in given if pin.kind == _ID)
        pinned = frozenset(one.id for one in met.values() if one.is_pinned)
        keys = frozenset(pin.octets for pin in given if pin.kind != _ID)
        trusted = frozenset(sites)
        warning = ""
        # DPDP-7-08
        if level is None:
            level = Level.PINNED if given or pinned else Level.SITE if trusted else Level.ANY
            warning = NO_TRUST if level is Level.ANY else ""
        if level is Level.PINNED and not (given or pinned):
            raise ValueError("trust in pinned providers needs a pin, x25519:BASE64 or id:HEX")
        if level is Level.SITE and not (trusted or given or pinned):
            raise ValueError("trust in a site needs its key, ed25519:BASE64")
        return cls(
            level=level,
            ids=ids | pinned,
            keys=keys,
            sites=trusted,
            known=met,
            warning=warning,
        )

    def pinned_key(self, advert: Advert) -> bytes | None:
        """Return the VPPN key that the provider of `advert` must have; None: none is pinned."""
        if advert.exchange_key in self.keys:
            return advert.exchange_key
        met = self.known.get(advert.id)
        if met is None:
            return None
        return met.exchange_key if met.id in self.ids or met.exchange_key in self.keys else None

    def is_pinned(self, advert: Advert) -> bool:
        """Return whether a pin names the provider that `advert` says to be of."""
        return advert.id in self.ids or self.pinned_key(advert) is not None

    def is_site(self, advert: Advert) -> bool:
        """Return whether a site has certified the key of `advert` in a handshake before."""
        met = self.known.get(advert.id)
        return (
            met is not None
            and met.site_key in self.sites
            and advert.exchange_key is not None
            and advert.exchange_key == met.exchange_key
        )

    # DPDP-7-09
    def is_downgrade(self, advert: Advert) -> bool:
        """Return whether `advert` lacks the VPPN key that is pinned for its provider."""
        return self.pinned_key(advert) not in (None, advert.exchange_key)

    # DPDP-8-01
    def judge_named(self, key: bytes | None) -> Proof | None:
        """Return what a provider that was named by its address must prove; None: nothing.

        key: X25519, of the VPPN handshake by which it is reached, None in clear. Raises ValueError
        with a sentence where nothing that it could show would be enough.
        """
        if self.level is Level.ANY:
            return None
        met = self.known.values()
        pinned = {one.id: one.exchange_key for one in met if one.id in self.ids}
        # DPDP-7-07
        if key is not None:
            if key in self.keys or key in pinned.values():
                return Proof(b"", key)
            if self.level is Level.SITE and self.sites:
                return Proof(b"", key, sites=self.sites)
            raise ValueError(f"no pin names {format_key(key, KeyKind.X25519)}")
        # a pin with a key is reached by VPPN only
        ids = frozenset(one for one in self.ids if pinned.get(one) is None)
        if ids:
            return Proof(b"", is_id=True, ids=ids)
        raise ValueError(
            f"trust is {self.level}: in clear only a provider could prove itself whose id is"
            " pinned and whose key is not"
        )

    def judge(self, advert: Advert, *, is_suspect: bool = False, can_seal: bool = True) -> Verdict:
        """Return how far `advert` may be followed, and what must be proved after connecting.

        is_suspect: its standing. can_seal: a VPPN is configured.
        """
        pinned = self.pinned_key(advert)
        if pinned is not None:
            return _judge_pinned(advert, pinned, can_seal=can_seal)
        own = advert.exchange_key if can_seal else None
        proof = Proof(advert.id, own)
        # whoever copies an id is suspect with the provider it belongs to, and no key tells them
        # DPDP-5-03
        if advert.id in self.ids and not is_suspect:
            met = self.known.get(advert.id)
            meter_key = None if met is None else met.meter_key
            return Verdict(Level.PINNED, proof._replace(meter_key=meter_key, is_id=True))
        # DPDP-7-07
        is_to_certify = self.level is Level.SITE or (self.sites and self.is_site(advert))
        if self.sites and own is not None and is_to_certify:
            level, proof = Level.SITE, proof._replace(sites=self.sites)
        else:
            level = Level.ANY
        refusal = ""
        if level.strength < self.level.strength:
            refusal = f"{level}, below {self.level}"
            if self.level is Level.SITE and own is None:
                why = "it shows no key" if can_seal else "no VPPN is configured"
                refusal = f"{refusal}: {why}"
        return Verdict(level, proof, refusal)


# DPDP-7-09
def _judge_pinned(advert: Advert, pinned: bytes, *, can_seal: bool) -> Verdict:
    """Return the verdict about a provider whose key is pinned: that key by VPPN, or nothing."""
    own = advert.exchange_key
    wanted = format_key(pinned, KeyKind.X25519)
    if own is None:
        refusal = f"it shows no key, pinned is {wanted}"
    elif own != pinned:
        refusal = f"it shows {format_key(own, KeyKind.X25519)}, pinned is {wanted}"
    else:
        refusal = "" if can_seal else "pinned by its key, and no VPPN is configured"
    return Verdict(Level.PINNED, Proof(advert.id, pinned), refusal, own != pinned)
