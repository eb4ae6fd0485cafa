"""The door to the `cryptography` library: authenticated encryption with keys given as arguments.

Entropy is an argument everywhere: nothing here rolls dice.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from powertcp.errors import DecodeError

KEY_OCTETS = 32
NONCE_OCTETS = 12
TAG_OCTETS = 16
# Reason.DECRYPT; the table of reasons is a sibling of this module
DECRYPT = 509


class Aead:
    """ChaCha20-Poly1305 under one key, for many texts: setting it up costs more than a text."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        """Take a key of 32 octets."""
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, nonce: bytes, text: bytes, associated: bytes = b"") -> bytes:
        """Return `text` sealed, 16 octets longer; a nonce is used once per key."""
        return self._cipher.encrypt(nonce, text, associated)

    def unseal(self, nonce: bytes, sealed: bytes, associated: bytes = b"") -> bytes:
        """Return the text of `seal`. Raises DecodeError 509 when the tag is wrong."""
        try:
            return self._cipher.decrypt(nonce, sealed, associated)
        except InvalidTag as error:
            raise DecodeError(0, "tag", DECRYPT, len(sealed)) from error


def seal(key: bytes, nonce: bytes, text: bytes, associated: bytes = b"") -> bytes:
    """Return `text` under ChaCha20-Poly1305, 16 octets longer; a nonce is used once per key."""
    return Aead(key).seal(nonce, text, associated)


def unseal(key: bytes, nonce: bytes, sealed: bytes, associated: bytes = b"") -> bytes:
    """Return the text of `seal`. Raises DecodeError 509 when the tag is wrong."""
    return Aead(key).unseal(nonce, sealed, associated)
