"""The door to authenticated encryption: RFC 8439's vector, and nothing opens when a bit differs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp import crypto
from powertcp.errors import DecodeError
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
