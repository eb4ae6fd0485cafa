"""The door to the `cryptography` library: sealing, signing, agreeing on keys given as arguments.

Entropy is an argument everywhere but in `encapsulate`: the library draws what that needs itself.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from powertcp.errors import DecodeError, LocalProtocolError

KEY_OCTETS = 32
NONCE_OCTETS = 12
TAG_OCTETS = 16
SIGNATURE_OCTETS = 64
# ML-KEM-768 (FIPS 203): what makes the key pair, the public half, the ciphertext
KEM_SEED_OCTETS = 64
KEM_PUBLIC_OCTETS = 1184
KEM_CIPHERTEXT_OCTETS = 1088
# RFC 5869: the counter of HKDF is one octet
HKDF_BLOCKS = 255
_COUNTERS = tuple(bytes([number]) for number in range(HKDF_BLOCKS + 1))
# RFC 2104: a key is mixed into both hashes, each time with another octet
_INNER = bytes(octet ^ 0x36 for octet in range(256))
_OUTER = bytes(octet ^ 0x5C for octet in range(256))
# Reason.DECRYPT; the table of reasons is a sibling of this module
DECRYPT = 509
Octets = bytes | bytearray | memoryview


# by the names that Noise protocols call them
_HASHES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "BLAKE2s": hashlib.blake2s,
        "BLAKE2b": hashlib.blake2b,
        "SHA256": hashlib.sha256,
        "SHA512": hashlib.sha512,
    }
)
_BLOCKS = {name: int(hashing().block_size) for name, hashing in _HASHES.items()}
_CIPHERS: Mapping[str, type[ChaCha20Poly1305] | type[AESGCM]] = MappingProxyType(
    {"ChaChaPoly": ChaCha20Poly1305, "AESGCM": AESGCM}
)
HASHES = tuple(_HASHES)
CIPHERS = tuple(_CIPHERS)


class Aead:
    """An AEAD cipher under one key, for many texts: setting it up costs more than a text."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes, name: str = "ChaChaPoly") -> None:
        """Take a key of 32 octets and the name of one of CIPHERS."""
        self._cipher = _CIPHERS[name](key)

    def seal(self, nonce: bytes, text: bytes, associated: bytes = b"") -> bytes:
        """Return `text` sealed, 16 octets longer; a nonce is used once per key."""
        return self._cipher.encrypt(nonce, text, associated)

    def unseal(self, nonce: bytes, sealed: Octets, associated: bytes = b"") -> bytes:
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


class ExchangeKey:
    """An X25519 key (RFC 7748). secret: 32 octets, any."""

    __slots__ = ("_key", "public")

    def __init__(self, secret: bytes) -> None:
        """Take the secret; `public` is what peers are told, 32 octets."""
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def exchange(self, public: "bytes | PeerKey") -> bytes:
        """Return the secret shared with the holder of `public`, 32 octets.

        Raises DecodeError 509 for a point of low order and for a wrong length.
        """
        peer = public if isinstance(public, PeerKey) else PeerKey(public)
        # VPPN-2.1-03
        try:
            return self._key.exchange(peer.key)
        except ValueError as error:
            raise DecodeError(0, "key", DECRYPT, KEY_OCTETS, KEY_OCTETS) from error


class PeerKey:
    """The public half of somebody's X25519 key, for more than one exchange."""

    __slots__ = ("key",)

    def __init__(self, public: bytes) -> None:
        """Take 32 octets. Raises DecodeError 509 for a wrong length."""
        # VPPN-2.1-03
        try:
            self.key = X25519PublicKey.from_public_bytes(public)
        except ValueError as error:
            raise DecodeError(0, "key", DECRYPT, len(public), KEY_OCTETS) from error


class KemKey:
    """An ML-KEM-768 key (FIPS 203). seed: 64 octets, d || z."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """Take the seed; `public` is what peers encapsulate for, 1184 octets."""
        self._key = MLKEM768PrivateKey.from_seed_bytes(seed)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the shared secret, 32 octets; another one, not an error, for a forged ciphertext.

        Raises DecodeError 509 for a wrong length.
        """
        # VPPN-2.1-03
        try:
            return self._key.decapsulate(ciphertext)
        except ValueError as error:
            size = len(ciphertext)
            raise DecodeError(0, "ciphertext", DECRYPT, size, KEM_CIPHERTEXT_OCTETS) from error


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Return a fresh shared secret (32 octets) and its ciphertext (1088) for an ML-KEM-768 key.

    Raises DecodeError 509 for a wrong length and for coefficients that are not reduced.
    """
    # VPPN-2.1-03
    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError as error:
        raise DecodeError(0, "key", DECRYPT, len(public), KEM_PUBLIC_OCTETS) from error


def is_kem_there() -> bool:
    """Return whether the library under `cryptography` has ML-KEM-768: tried, not looked up."""
    try:
        KemKey(bytes(KEM_SEED_OCTETS))
    except UnsupportedAlgorithm:
        return False
    return True


HAS_KEM = is_kem_there()


def hash_octets(name: str, octets: bytes) -> bytes:
    """Return the hash of `octets` by one of HASHES."""
    digest: bytes = _HASHES[name](octets).digest()
    return digest


def hkdf(name: str, salt: bytes, secret: bytes, size: int, info: bytes = b"") -> bytes:
    """Return `size` octets of HKDF (RFC 5869) with one of HASHES; Noise gives no `info`.

    Raises LocalProtocolError for more than 255 hashes.
    """
    hashing = _HASHES[name]
    width = _BLOCKS[name]
    inner, outer = _pads(hashing, width, salt)
    extracted: bytes = hashing(outer + hashing(inner + secret).digest()).digest()
    blocks = -(-size // len(extracted))
    if blocks > HKDF_BLOCKS:
        raise LocalProtocolError(
            f"HKDF: {size:,} octets wanted of {HKDF_BLOCKS * len(extracted):,}"
        )
    inner, outer = _pads(hashing, width, extracted)
    block = made = b""
    for counter in range(1, blocks + 1):
        text = inner + block + info + _COUNTERS[counter]
        block = hashing(outer + hashing(text).digest()).digest()
        made += block
    return made[:size]


def _pads(hashing: Callable[..., Any], width: int, key: bytes) -> tuple[bytes, bytes]:
    """Return what HMAC (RFC 2104) puts before the text and before the inner hash.

    The library pads a key anew for each text, and HKDF has two texts for one key.
    """
    padded = (hashing(key).digest() if len(key) > width else key).ljust(width, b"\0")
    return padded.translate(_INNER), padded.translate(_OUTER)


# by the names that other protocols call them: MD5 only where an old one wants it
_MACS = MappingProxyType({"SHA256": "sha256", "MD5": "md5"})


def mac_octets(name: str, key: bytes, octets: Octets) -> bytes:
    """Return the HMAC (RFC 2104) of `octets` under `key`: SHA256 of 32 octets, MD5 of 16."""
    return hmac.digest(key, octets, _MACS[name])


def is_mac(name: str, key: bytes, octets: Octets, mac: bytes) -> bool:
    """Return whether `mac` is that of `octets`, in a time that does not tell where it differs."""
    return hmac.compare_digest(mac_octets(name, key, octets), mac)
