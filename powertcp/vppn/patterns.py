"""The tables of the Noise framework: its patterns, its modifiers, and how a protocol is named.

Noise Protocol Framework, revision 34, sections 7 to 9; the hybrid tokens e1 and ekem1 are those of
section 2.1 of the VPPN document.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from powertcp.crypto import CIPHERS, HASHES, hash_octets
from powertcp.errors import LocalProtocolError


class Token(StrEnum):
    """What a handshake message is made of, in order."""

    E = "e"
    S = "s"
    EE = "ee"
    ES = "es"
    SE = "se"
    SS = "ss"
    PSK = "psk"
    E1 = "e1"
    EKEM1 = "ekem1"


# whose key of which kind: initiator's, responder's
DH_KEYS: Mapping[Token, tuple[Token, Token]] = MappingProxyType(
    {
        Token.EE: (Token.E, Token.E),
        Token.ES: (Token.E, Token.S),
        Token.SE: (Token.S, Token.E),
        Token.SS: (Token.S, Token.S),
    }
)
Messages = tuple[tuple[Token, ...], ...]

# name: what is known before ("i", "r": the static key of that side), then the messages; the
# initiator sends the first
_PATTERNS = {
    "N": "r: e es",
    "K": "i r: e es ss",
    "X": "r: e es s ss",
    "NN": ": e / e ee",
    "NK": "r: e es / e ee",
    "NX": ": e / e ee s es",
    "XN": ": e / e ee / s se",
    "XK": "r: e es / e ee / s se",
    "XX": ": e / e ee s es / s se",
    "KN": "i: e / e ee se",
    "KK": "i r: e es ss / e ee se",
    "KX": "i: e / e ee se s es",
    "IN": ": e s / e ee se",
    "IK": "r: e es s ss / e ee se",
    "IX": ": e s / e ee se s es",
    "NK1": "r: e / e ee es",
    "NX1": ": e / e ee s / es",
    "X1N": ": e / e ee / s / se",
    "X1K": "r: e es / e ee / s / se",
    "XK1": "r: e / e ee es / s se",
    "X1K1": "r: e / e ee es / s / se",
    "X1X": ": e / e ee s es / s / se",
    "XX1": ": e / e ee s / es s se",
    "X1X1": ": e / e ee s / es s / se",
    "K1N": "i: e / e ee / se",
    "K1K": "i r: e es / e ee / se",
    "KK1": "i r: e / e ee se es",
    "K1K1": "i r: e / e ee es / se",
    "K1X": "i: e / e ee s es / se",
    "KX1": "i: e / e ee se s / es",
    "K1X1": "i: e / e ee s / se es",
    "I1N": ": e s / e ee / se",
    "I1K": "r: e es s / e ee / se",
    "IK1": "r: e s / e ee se es",
    "I1K1": "r: e s / e ee es / se",
    "I1X": ": e s / e ee s es / se",
    "IX1": ": e s / e ee se s / es",
    "I1X1": ": e s / e ee s / se es",
}
PATTERNS = tuple(_PATTERNS)
HYBRID = "25519+MLKEM768"
CLASSIC = "25519"
_NAME = re.compile(
    r"Noise_(?P<base>[A-Z][A-Z0-9]*)(?P<modifiers>[a-z0-9+]*)"
    r"_(?P<agreement>[^_]+)_(?P<cipher>[^_]+)_(?P<hash>[^_]+)"
)
# a longer name is hashed before it is used, by section 5.2 of Noise
NAME_LIMIT = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseProtocol:
    """One protocol of the framework, from its name.

    name: as it is hashed into the handshake.
    cipher, hashing: names that `crypto` knows.
    known: the sides ("i", "r") whose static key the other one has before the first message.
    messages: their tokens; the initiator sends the first, then the sides take turns.
    start: what the hash of a conversation begins with: section 5.2 of Noise.
    psks: how many pre-shared keys are mixed in. statics: the sides whose static key travels.
    """

    name: str
    cipher: str
    hashing: str
    known: tuple[str, ...]
    messages: Messages
    # found once: a protocol makes many handshakes
    start: bytes = field(init=False)
    psks: int = field(init=False)
    statics: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find what every handshake asks of its protocol."""
        name = self.name.encode("ascii")
        size = len(hash_octets(self.hashing, b""))
        fits = len(name) <= size
        found = {
            "start": name.ljust(size, b"\0") if fits else hash_octets(self.hashing, name),
            "psks": sum(tokens.count(Token.PSK) for tokens in self.messages),
            "statics": tuple(
                side
                for number, side in enumerate("ir")
                if any(Token.S in tokens for tokens in self.messages[number::2])
            ),
        }
        for word, value in found.items():
            object.__setattr__(self, word, value)

    @classmethod
    def make(cls, name: str) -> Self:
        """Read a name such as Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s.

        Raises LocalProtocolError for a pattern, a modifier or a primitive that is not there.
        """
        found = _NAME.fullmatch(name)
        if found is None or found["base"] not in _PATTERNS or len(name) > NAME_LIMIT:
            raise LocalProtocolError(f"no Noise protocol is called {name}")
        known, _, text = _PATTERNS[found["base"]].partition(":")
        messages = [[Token(word) for word in part.split()] for part in text.split("/")]
        modifiers = found["modifiers"].split("+") if found["modifiers"] else []
        if len(set(modifiers)) < len(modifiers):
            raise LocalProtocolError(f"{name} has a modifier twice")
        is_hybrid = "hfs" in modifiers
        for modifier in modifiers:
            _modify(messages, modifier, name)
        primitives = (found["agreement"], found["cipher"] in CIPHERS, found["hash"] in HASHES)
        if primitives != (HYBRID if is_hybrid else CLASSIC, True, True):
            raise LocalProtocolError(f"{name} names a primitive that is not there")
        return cls(
            name=name,
            cipher=found["cipher"],
            hashing=found["hash"],
            known=tuple(known.split()),
            messages=tuple(tuple(tokens) for tokens in messages),
        )

    @property
    def is_one_way(self) -> bool:
        """Return whether only the initiator ever sends."""
        return len(self.messages) == 1

    @property
    def is_hybrid(self) -> bool:
        """Return whether ML-KEM-768 takes part."""
        return Token.E1 in self.messages[0]

    def sends_static(self, *, is_initiator: bool) -> bool:
        """Return whether that side's static key travels in a message."""
        return ("i" if is_initiator else "r") in self.statics


def _modify(messages: list[list[Token]], modifier: str, name: str) -> None:
    """Add the tokens of one modifier; section 9 of Noise for psk, VPPN-2.1-02 for hfs."""
    places = [f"psk{number}" for number in range(len(messages) + 1)]
    if modifier == "psk0":
        messages[0].insert(0, Token.PSK)
    # VPPN-2.1-02
    elif modifier == "hfs" and len(messages) > 1:
        first, second = messages[:2]
        # after the first DH, if there is one: then it is encrypted
        first.insert(first.index(Token.ES if Token.ES in first else Token.E) + 1, Token.E1)
        second.insert(second.index(Token.EE) + 1, Token.EKEM1)
    elif modifier in places:
        messages[places.index(modifier) - 1].append(Token.PSK)
    else:
        raise LocalProtocolError(f"{name}: there is no modifier {modifier} of this pattern")
