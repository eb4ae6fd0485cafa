"""What is known of one advert on the link: its service, what it says, how far it can be used."""

from dataclasses import dataclass
from enum import StrEnum
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from powertcp.dpdp.advert import Advert
from powertcp.units import Instant

# names are compared without the case of ASCII letters, RFC 6762 section 16
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


def key_of(kind: str, instance: str) -> str:
    """Return what an entry is kept under: one instance of one service type, whatever its case."""
    return f"{instance}.{kind}".translate(_LOWER)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a provider listens.

    host: IPv4 or IPv6 text. scope: name of the interface of a link-local address, else "".
    port: 0..65,535.
    """

    host: str
    scope: str
    port: int

    def __str__(self) -> str:
        """Return 10.0.0.7:3251 or [fe80::1%eth0]:3251."""
        scoped = f"{self.host}%{self.scope}" if self.scope else self.host
        return f"[{scoped}]:{self.port}" if ":" in self.host else f"{scoped}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a resolver says of one instance.

    instance: its name without the type. kind: TYPE_TCP or TYPE_UDP. host: target of SRV. addresses:
    those of the target, with `port`. txt: octets of the TXT record. interfaces: where it was heard.
    """

    instance: str
    kind: str
    host: str
    port: int
    addresses: tuple[Address, ...]
    txt: bytes
    interfaces: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What its entry is kept under."""
        return key_of(self.kind, self.instance)

    @property
    def target(self) -> str:
        """The target of SRV, in lower case."""
        return self.host.translate(_LOWER)


class Standing(StrEnum):
    """How far an advert can be used: DEAD, MALFORMED and UNKNOWN_VERSION never, SUSPECT last."""

    GOOD = "good"
    MALFORMED = "malformed"
    UNKNOWN_VERSION = "unknown version"
    DEAD = "dead"
    SUSPECT = "suspect"


class Signed(StrEnum):
    """What the signature of an advert is worth: UNKNOWN is one of a key that we do not have."""

    NONE = "none"
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One advert of the table.

    key: see `key_of`. advert: None when it cannot be read, and `fault` says why. why: for SUSPECT
    `id-clash`, `downgrade` or `off-link`, else "". pinned, site: whether a pin or a site of ours
    names it. first_ns, last_ns: when it was heard first and last. dead_until_ns: for DEAD when it
    may be tried again, else 0. addresses: in the order in which to try them, dead ones left out.
    """

    key: str
    service: Service
    advert: Advert | None
    fault: str
    standing: Standing
    why: str
    signed: Signed
    pinned: bool
    site: bool
    first_ns: Instant
    last_ns: Instant
    dead_until_ns: Instant
    addresses: tuple[Address, ...]
