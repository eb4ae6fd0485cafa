"""Our door to `cryptography` against the edge cases of Project Wycheproof (Apache-2.0)."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from powertcp import crypto
from powertcp.errors import DecodeError, LocalProtocolError

FOLDER = Path(__file__).parent / "wycheproof"
Case = dict[str, Any]
Tally = Counter[str]


def cases(name: str) -> Iterator[tuple[Case, Case]]:
    """Yield group and test of each case; the file itself says how many it has."""
    table = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    found = [(group, test) for group in table["testGroups"] for test in group["tests"]]
    assert len(found) == table["numberOfTests"]
    yield from found


def octets(case: Case, *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def test_chacha20_poly1305() -> None:
    seen: Tally = Counter()
    for group, case in cases("chacha20_poly1305_test.json"):
        key, nonce, associated, text, sealed, tag = octets(
            case, "key", "iv", "aad", "msg", "ct", "tag"
        )
        if group["ivSize"] != 8 * crypto.NONCE_OCTETS:
            # our own nonce: the library's own error
            with pytest.raises(ValueError, match="Nonce"):
                crypto.unseal(key, nonce, sealed + tag, associated)
        elif case["result"] == "valid":
            assert crypto.seal(key, nonce, text, associated) == sealed + tag
            assert crypto.unseal(key, nonce, sealed + tag, associated) == text
        else:
            with pytest.raises(DecodeError):
                crypto.unseal(key, nonce, sealed + tag, associated)
        seen[case["result"]] += 1
    assert seen == {"valid": 256, "invalid": 69}
    assert seen.total() >= 325


@pytest.mark.requirement("VPPN-2.1-03")
def test_x25519() -> None:
    seen: Tally = Counter()
    for _, case in cases("x25519_test.json"):
        public, secret, shared = octets(case, "public", "private", "shared")
        key = crypto.ExchangeKey(secret)
        if "ZeroSharedSecret" in case["flags"]:
            with pytest.raises(DecodeError) as caught:
                key.exchange(public)
            assert caught.value.code == 509
            seen["refused"] += 1
        else:
            assert key.exchange(public) == shared
            seen["agreed"] += 1
    assert seen == {"agreed": 487, "refused": 31}
    assert seen.total() >= 518


def test_ed25519() -> None:
    seen: Tally = Counter()
    for group, case in cases("ed25519_test.json"):
        (public,) = octets(group["publicKey"], "pk")
        message, signature = octets(case, "msg", "sig")
        assert crypto.is_signed_by(public, message, signature) == (case["result"] == "valid")
        seen[case["result"]] += 1
    assert seen.total() >= 151


@pytest.mark.requirement("VPPN-2.1-03")
def test_ml_kem_768() -> None:
    seen: Tally = Counter()
    for _, case in cases("mlkem_768_test.json"):
        seed, ciphertext, secret = octets(case, "seed", "c", "K")
        if len(seed) != crypto.KEM_SEED_OCTETS:
            # our own seed: the library's own error
            with pytest.raises(ValueError, match="seed"):
                crypto.KemKey(seed)
            seen["no key"] += 1
            continue
        key = crypto.KemKey(seed)
        assert case["ek"] == key.public.hex()
        if case["result"] == "valid":
            assert key.decapsulate(ciphertext) == secret
            seen["agreed"] += 1
        else:
            with pytest.raises(DecodeError) as caught:
                key.decapsulate(ciphertext)
            assert caught.value.code == 509
            seen["refused"] += 1
    assert seen["refused"] + seen["no key"] == 40
    assert seen.total() >= 193


def test_hkdf_sha256() -> None:
    seen: Tally = Counter()
    for _, case in cases("hkdf_sha256_test.json"):
        secret, salt, info, made = octets(case, "ikm", "salt", "info", "okm")
        if case["result"] == "valid":
            assert crypto.hkdf("SHA256", salt, secret, case["size"], info) == made
        else:
            with pytest.raises(LocalProtocolError):
                crypto.hkdf("SHA256", salt, secret, case["size"], info)
        seen[case["result"]] += 1
    assert seen == {"valid": 83, "invalid": 3}
