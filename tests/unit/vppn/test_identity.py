"""Keys as texts: one text for each key, and nothing of a secret in any sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.vppn.identity import (
    Algorithm,
    PublicKey,
    SecretKey,
    decode_base64,
    encode_base64,
)

ZERO = "A" * 43 + "="
KEYS = st.builds(PublicKey, st.sampled_from(Algorithm), st.binary(min_size=32, max_size=32))


@given(KEYS)
def test_a_key_and_its_text(key: PublicKey) -> None:
    text = str(key)
    assert len(text) == len(key.algorithm) + 1 + 44
    assert PublicKey.parse(text) == PublicKey.parse(text, key.algorithm) == key


@given(st.sampled_from(Algorithm), st.binary(min_size=32, max_size=32))
def test_a_secret_and_its_file(algorithm: Algorithm, octets: bytes) -> None:
    secret = SecretKey(algorithm, octets)
    assert SecretKey.parse(secret.format(), algorithm) == secret
    assert encode_base64(octets) not in repr(secret)
    assert str(secret.public) in repr(secret)


def test_public_halves_are_those_of_the_standards() -> None:
    # RFC 7748 section 6.1, RFC 8032 section 7.1
    secret = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert SecretKey(Algorithm.X25519, secret).public.octets.hex() == public
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert SecretKey(Algorithm.ED25519, seed).public.octets.hex() == public


@pytest.mark.requirement("VPPN-5-06")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a key is x25519:BASE64 or ed25519:BASE64, got"),
        ("x25519", "a key is x25519:BASE64 or"),
        ("x2551:" + ZERO, 'did you mean "x25519"'),
        ("x25519:", "a key of x25519 is 44 letters of base64, got 0"),
        ("x25519:" + "A" * 43, "got 43"),
        ("x25519:" + "A" * 42 + "B=", "a key of x25519 is 44 letters"),
        ("x25519:" + "A" * 42 + "!=", "a key of x25519 is 44 letters"),
        ("x25519:" + "é" * 44, "a key of x25519 is 44 letters"),
        ("x25519:" + ZERO + "\n", "got 45"),
    ],
)
def test_no_keys(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="a key") as caught:
        PublicKey.parse(text)
    assert said in str(caught.value)


def test_a_key_of_the_other_kind_is_none() -> None:
    with pytest.raises(ValueError, match="a key is ed25519:BASE64, got"):
        PublicKey.parse(f"x25519:{ZERO}", Algorithm.ED25519)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"ed25519-secret:{ZERO}\n", "it holds a key of ed25519; a key of x25519 is needed"),
        (f"x25519:{ZERO}\n", "it holds no key; a key of x25519 is needed"),
        ("x25519-secret:AAAA\n", "its key is not 44 letters of base64"),
        (f"x25519-secret:{ZERO}\n\n", "its key is not 44 letters of base64"),
    ],
)
def test_no_secrets(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="it") as caught:
        SecretKey.parse(text, Algorithm.X25519)
    assert str(caught.value) == said
    assert "AAAA" not in str(caught.value)


def test_lengths_are_of_what_was_asked() -> None:
    assert decode_base64("AAECAw==", 4, "it") == bytes([0, 1, 2, 3])
    with pytest.raises(ValueError, match="it is 4 letters of base64, got 8"):
        decode_base64("AAECAw==", 3, "it")
