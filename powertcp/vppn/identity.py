"""Identities: X25519 keys of nodes, Ed25519 keys of meters and employers, and their text forms."""

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from powertcp.crypto import KEY_OCTETS, ExchangeKey, SigningKey
from powertcp.errors import nearest
from powertcp.vppn.faults import shown

_LETTERS = 44


class Algorithm(StrEnum):
    """What a key is for: a node agrees on keys (X25519), a meter or an employer signs (Ed25519)."""

    X25519 = "x25519"
    ED25519 = "ed25519"


def encode_base64(octets: bytes) -> str:
    """Return `octets` in the base64 alphabet of RFC 4648, padded."""
    return base64.b64encode(octets).decode("ascii")


def decode_base64(text: str, octets: int, what: str) -> bytes:
    """Return the `octets` that `text` stands for; one text only stands for them.

    Raises ValueError with a sentence that begins with `what`.
    """
    letters = (octets + 2) // 3 * 4
    try:
        found = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    # VPPN-5-06
    if len(found) != octets or encode_base64(found) != text:
        raise ValueError(f"{what} is {letters} letters of base64, got {len(text)}: {shown(text)}")
    return found


@dataclass(frozen=True, slots=True, order=True)
class PublicKey:
    """The public half of a key. algorithm: of it. octets: 32."""

    algorithm: Algorithm
    octets: bytes

    @classmethod
    def parse(cls, text: str, algorithm: Algorithm | None = None) -> Self:
        """Parse `x25519:BASE64` or `ed25519:BASE64`; `algorithm`: the only one that will do.

        Raises ValueError with a sentence.
        """
        name, colon, letters = text.partition(":")
        wanted = [algorithm] if algorithm else list(Algorithm)
        if not colon or name not in wanted:
            forms = " or ".join(f"{one}:BASE64" for one in wanted)
            raise ValueError(f"a key is {forms}, got {shown(text)}{nearest(name, wanted)}")
        return cls(Algorithm(name), decode_base64(letters, KEY_OCTETS, f"a key of {name}"))

    def __str__(self) -> str:
        return f"{self.algorithm}:{encode_base64(self.octets)}"


@dataclass(frozen=True, slots=True, repr=False)
class SecretKey:
    """The private half of a key, which no text of an error or a log holds. octets: 32."""

    algorithm: Algorithm
    octets: bytes

    @classmethod
    def parse(cls, text: str, algorithm: Algorithm) -> Self:
        """Parse the text of a key file, one line `x25519-secret:BASE64`.

        Raises ValueError with a sentence that holds nothing of the text.
        """
        name, _, letters = text.removesuffix("\n").partition(":")
        if name != f"{algorithm}-secret":
            other = next(one for one in Algorithm if one is not algorithm)
            what = f"a key of {other}" if name == f"{other}-secret" else "no key"
            raise ValueError(f"it holds {what}; a key of {algorithm} is needed")
        try:
            octets = decode_base64(letters, KEY_OCTETS, "a key")
        except ValueError:
            raise ValueError(f"its key is not {_LETTERS} letters of base64") from None
        return cls(algorithm, octets)

    def format(self) -> str:
        """Return the text of a key file."""
        return f"{self.algorithm}-secret:{encode_base64(self.octets)}\n"

    @property
    def public(self) -> PublicKey:
        """The public half."""
        if self.algorithm is Algorithm.ED25519:
            return PublicKey(self.algorithm, SigningKey(self.octets).public)
        return PublicKey(self.algorithm, ExchangeKey(self.octets).public)

    def __repr__(self) -> str:
        return f"SecretKey({self.public})"
