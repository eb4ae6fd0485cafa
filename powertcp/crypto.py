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


def seal(key: bytes, nonce: bytes, text: bytes, associated: bytes = b"") -> bytes:
    """Return `text` under ChaCha20-Poly1305, 16 octets longer; a nonce is used once per key."""
    return ChaCha20Poly1305(key).encrypt(nonce, text, associated)


def unseal(key: bytes, nonce: bytes, sealed: bytes, associated: bytes = b"") -> bytes:
    """Return the text of `seal`. Raises DecodeError 509 when the tag is wrong."""
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, associated)
    except InvalidTag as error:
        raise DecodeError(0, "tag", DECRYPT, len(sealed)) from error
