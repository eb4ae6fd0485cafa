"""How one side of a connection seals, and who the other side has proven to be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from powertcp import crypto
from powertcp.crypto import ExchangeKey
from powertcp.units import NS_PER_S, Duration
from powertcp.vppn.epochs import EpochLimits
from powertcp.vppn.noise import PROTOCOLS, Encapsulate, PatternId
from powertcp.vppn.patterns import Token
from powertcp.vppn.record import Privacy

OPENING_NS: Final[Duration] = 5 * NS_PER_S
# key_log(ephemeral of the initiator, epoch, "I" or "R" of who sends with it, key)
KeyLog = Callable[[bytes, int, str, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealConfig:
    """How one side seals.

    key: our static key; a guest has none. peer: the responder's static key, for an initiator.
    certificate: of our key. renewed: the certificate as it is now, for power that lasts
    longer than a shift. allow_classic: whether handshakes without ML-KEM are taken. stealth:
    whether a responder says nothing before a valid message 1.
    """

    key: ExchangeKey | None = None
    peer: bytes | None = None
    pattern: PatternId = PatternId.IK
    certificate: bytes = b""
    renewed: Callable[[], bytes] | None = None
    allow_classic: bool = False
    stealth: bool = False
    privacy: Privacy = Privacy.POLICE
    opening_ns: Duration = OPENING_NS
    limits: EpochLimits = field(default_factory=EpochLimits)
    key_log: KeyLog | None = None
    # the library draws its own entropy here: an argument, so that vectors replay
    encapsulate: Encapsulate = crypto.encapsulate

    # VPPN-2.2-01
    def certificate_in(self, message: int) -> bytes:
        """Return our certificate where it goes; messages count from 1, the second is a responder's.

        That of an initiator goes with its static key.
        """
        if message != 2 and Token.S not in PROTOCOLS[self.pattern].messages[message - 1]:
            return b""
        return self.renewed() if self.renewed is not None else self.certificate


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the peer has proven to be. key: its static key, None for a guest and for a provider."""

    pattern: PatternId
    key: bytes | None
    certificate: bytes

    @property
    def party(self) -> bytes:
        """Return the octets by which tickets know whom they were given to."""
        return b"sealed" + (self.key or b"")
