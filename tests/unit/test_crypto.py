"""The door to the library: vectors of the RFCs, and nothing opens when a bit differs."""

from hashlib import blake2s

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from powertcp import crypto
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.registry import Reason

KEY = bytes(range(0x80, 0xA0))
NONCE = bytes.fromhex("070000004041424344454647")
ASSOCIATED = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
TEXT = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future,"
    b" sunscreen would be it."
)
TAG = bytes.fromhex("1ae10b594f09e26a7e902ecbd0600691")


def test_the_vector_of_rfc_8439_section_2_8_2() -> None:
    sealed = crypto.seal(KEY, NONCE, TEXT, ASSOCIATED)
    assert sealed[:8] == bytes.fromhex("d31a8d34648e60db")
    assert sealed[-crypto.TAG_OCTETS :] == TAG
    assert crypto.unseal(KEY, NONCE, sealed, ASSOCIATED) == TEXT
    assert (len(KEY), len(NONCE)) == (crypto.KEY_OCTETS, crypto.NONCE_OCTETS)


def test_the_code_of_a_failure_is_the_registered_one() -> None:
    assert crypto.DECRYPT == Reason.DECRYPT


@given(st.binary(max_size=64), st.binary(max_size=16), st.data())
def test_one_changed_bit_anywhere_does_not_open(
    text: bytes, associated: bytes, data: st.DataObject
) -> None:
    sealed = crypto.seal(KEY, NONCE, text, associated)
    assert len(sealed) == len(text) + crypto.TAG_OCTETS
    assert crypto.unseal(KEY, NONCE, sealed, associated) == text
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    bent = (int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(len(sealed), "big")
    with pytest.raises(DecodeError) as caught:
        crypto.unseal(KEY, NONCE, bent, associated)
    assert caught.value.code == 509
    with pytest.raises(DecodeError):
        crypto.unseal(KEY, NONCE, sealed, associated + b"\0")


def test_fewer_octets_than_a_tag_do_not_open() -> None:
    with pytest.raises(DecodeError):
        crypto.unseal(KEY, NONCE, b"short")


def test_the_first_vector_of_rfc_8032_section_7_1() -> None:
    key = crypto.SigningKey(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    assert key.public == bytes.fromhex(
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    signature = key.sign(b"")
    assert signature == bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555f"
        "b8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert len(signature) == crypto.SIGNATURE_OCTETS
    assert crypto.is_signed_by(key.public, b"", signature)


@given(st.binary(max_size=64), st.data())
def test_one_changed_bit_anywhere_is_not_signed(text: bytes, data: st.DataObject) -> None:
    key = crypto.SigningKey(KEY)
    whole = key.sign(text) + text
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    bent = (int.from_bytes(whole, "big") ^ 1 << bit).to_bytes(len(whole), "big")
    assert crypto.is_signed_by(key.public, text, whole[: crypto.SIGNATURE_OCTETS])
    signature, said = bent[: crypto.SIGNATURE_OCTETS], bent[crypto.SIGNATURE_OCTETS :]
    assert not crypto.is_signed_by(key.public, said, signature)


def test_what_is_no_key_has_signed_nothing() -> None:
    signature = crypto.SigningKey(KEY).sign(b"")
    assert not crypto.is_signed_by(b"short", b"", signature)
    assert not crypto.is_signed_by(KEY, b"", b"short")


def test_the_vector_of_rfc_7748_section_6_1() -> None:
    alice, bob = (
        crypto.ExchangeKey(bytes.fromhex(secret))
        for secret in (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        )
    )
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.exchange(bob.public).hex() == bob.exchange(alice.public).hex() == shared


@pytest.mark.parametrize("public", [bytes(32), bytes([1]) + bytes(31), b"", bytes(31), bytes(33)])
@pytest.mark.requirement("VPPN-2.1-03")
def test_no_secret_is_shared_with_what_is_no_key(public: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        crypto.ExchangeKey(KEY).exchange(public)
    assert caught.value.code == 509


def test_what_is_encapsulated_is_decapsulated() -> None:
    key = crypto.KemKey(bytes(range(crypto.KEM_SEED_OCTETS)))
    secret, ciphertext = crypto.encapsulate(key.public)
    assert len(key.public) == crypto.KEM_PUBLIC_OCTETS
    assert (len(ciphertext), len(secret)) == (crypto.KEM_CIPHERTEXT_OCTETS, crypto.KEY_OCTETS)
    assert key.decapsulate(ciphertext) == secret
    assert crypto.encapsulate(key.public) != (secret, ciphertext)
    forged = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    assert key.decapsulate(forged) != secret


@pytest.mark.requirement("VPPN-2.1-03")
def test_a_kem_refuses_wrong_lengths_and_what_is_not_reduced() -> None:
    key = crypto.KemKey(bytes(crypto.KEM_SEED_OCTETS))
    for public in (b"", key.public[1:], key.public + b"\0", b"\xff" * crypto.KEM_PUBLIC_OCTETS):
        with pytest.raises(DecodeError) as caught:
            crypto.encapsulate(public)
        assert caught.value.code == 509
    for size in (0, crypto.KEM_CIPHERTEXT_OCTETS - 1, crypto.KEM_CIPHERTEXT_OCTETS + 1):
        with pytest.raises(DecodeError) as caught:
            key.decapsulate(bytes(size))
        assert caught.value.code == 509


def test_a_library_without_the_kem_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert crypto.HAS_KEM
    assert crypto.is_kem_there()

    def refuse(_seed: bytes) -> None:
        raise UnsupportedAlgorithm("ML-KEM-768 is not there")

    monkeypatch.setattr(crypto, "KemKey", refuse)
    assert not crypto.is_kem_there()


def test_the_first_vector_of_rfc_5869_appendix_a() -> None:
    made = crypto.hkdf(
        "SHA256",
        bytes(range(0x0D)),
        b"\x0b" * 22,
        42,
        bytes(range(0xF0, 0xFA)),
    )
    assert made.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_hkdf_ends_at_255_hashes() -> None:
    assert len(crypto.hkdf("BLAKE2s", KEY, b"", 255 * 32)) == 255 * 32
    with pytest.raises(LocalProtocolError, match="8,161"):
        crypto.hkdf("BLAKE2s", KEY, b"", 255 * 32 + 1)


def test_hashes_and_ciphers_by_name() -> None:
    assert crypto.hash_octets("BLAKE2s", TEXT) == blake2s(TEXT).digest()
    sizes = [len(crypto.hash_octets(name, b"")) for name in crypto.HASHES]
    assert dict(zip(crypto.HASHES, sizes, strict=True)) == {
        "BLAKE2s": 32, "BLAKE2b": 64, "SHA256": 32, "SHA512": 64,
    }  # fmt: skip
    sealed = [crypto.Aead(KEY, name).seal(NONCE, TEXT) for name in crypto.CIPHERS]
    assert len(set(sealed)) == len(crypto.CIPHERS) == 2
    for name, octets in zip(crypto.CIPHERS, sealed, strict=True):
        assert crypto.Aead(KEY, name).unseal(NONCE, octets) == TEXT


def test_hmac_is_that_of_rfc_4231_and_rfc_2202() -> None:
    sha = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    md5 = "750c783e6ab0b503eaa86e310a5db738"
    text = b"what do ya want for nothing?"
    for name, digest in (("SHA256", sha), ("MD5", md5)):
        mac = bytes.fromhex(digest)
        assert crypto.mac_octets(name, b"Jefe", text) == mac
        assert crypto.is_mac(name, b"Jefe", text, mac)
        assert not crypto.is_mac(name, b"Jefe", text, mac[:-1] + b"!")
        assert not crypto.is_mac(name, b"Jefe", text, mac[:-1])
