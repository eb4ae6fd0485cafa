"""The door to the `cryptography` library: sealing and signing with keys given as arguments.

Entropy is an argument everywhere: nothing here rolls dice.
"""

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from powertcp.errors import DecodeError

KEY_OCTETS = 32
NONCE_OCTETS = 12
TAG_OCTETS = 16
SIGNATURE_OCTETS = 64
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


class SigningKey:
    """An Ed25519 key that signs (RFC 8032). seed: 32 octets, the private part."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """Take the seed; `public` is the key that verifies, 32 octets."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature of `message`, 64 octets; the same message gives the same one."""
        return self._key.sign(message)


def is_signed_by(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether `signature` is that of `message` under `public`; False also for no key at all."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
