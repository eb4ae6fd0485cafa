"""The handshake against what other implementations wrote: snow, flynn/noise, and the hybrids.

snow.txt is of the Rust crate snow (MIT), flynn.txt is `vectors.txt` of Debian's
golang-github-flynn-noise-dev (BSD-3-Clause); their licences are beside them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kyber_py.ml_kem import ML_KEM_768

from powertcp.crypto import KEM_CIPHERTEXT_OCTETS
from powertcp.vppn import PROTOCOLS, NoiseProtocol, PatternId, prologue
from tests.noise_sides import Sides, ciphers, talk

FOLDER = Path(__file__).parent / "noise"
NO_KEY = bytes(32)
SNOW_FLOOR = 408
FLYNN_FLOOR = 1920
FLYNN_SUITES = 8


class Vector(NamedTuple):
    """One conversation: what makes it, payload and octets of each message, who sends them after."""

    sides: Sides
    messages: list[tuple[bytes, bytes]]
    senders: tuple[int, int]


def snow() -> Iterator[Vector]:
    for row in json.loads((FOLDER / "snow.txt").read_text(encoding="ascii"))["vectors"]:
        octets = {key: bytes.fromhex(said) for key, said in row.items() if isinstance(said, str)
                  and key != "protocol_name"}  # fmt: skip
        assert row["init_psks"] == row["resp_psks"]
        assert octets["init_prologue"] == octets["resp_prologue"]
        sides = Sides(
            protocol=NoiseProtocol.make(row["protocol_name"]),
            statics=(octets.get("init_static", NO_KEY), octets.get("resp_static", NO_KEY)),
            ephemerals=(octets["init_ephemeral"], octets["resp_ephemeral"]),
            prologue=octets["init_prologue"],
            psks=tuple(bytes.fromhex(psk) for psk in row["init_psks"]),
        )
        known = ("resp_remote_static", "init_remote_static")
        for key, name in zip(sides.keys, known, strict=True):
            assert octets.get(name, key.public) == key.public
        messages = [
            (bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"]))
            for message in row["messages"]
        ]
        # after the handshake the sides go on taking turns
        turn = len(sides.protocol.messages) % 2
        yield Vector(sides, messages, (0, 0) if sides.protocol.is_one_way else (turn, 1 - turn))


def flynn() -> Iterator[Vector]:
    for block in (FOLDER / "flynn.txt").read_text(encoding="ascii").strip().split("\n\n"):
        row: dict[str, Any] = dict(line.split("=", 1) for line in block.splitlines())
        protocol = NoiseProtocol.make(row.pop("handshake"))
        octets = {key: bytes.fromhex(said) for key, said in row.items()}
        sides = Sides(
            protocol=protocol,
            statics=(octets.get("init_static", NO_KEY), octets.get("resp_static", NO_KEY)),
            ephemerals=(octets["gen_init_ephemeral"], octets["gen_resp_ephemeral"]),
            prologue=octets.get("prologue", b""),
            psks=(octets.get("preshared_key", NO_KEY),) * protocol.psks,
        )
        count = sum(key.endswith("_ciphertext") for key in row)
        messages = [
            (octets[f"msg_{number}_payload"], octets[f"msg_{number}_ciphertext"])
            for number in range(count)
        ]
        # after the handshake the initiator begins, in one-way patterns, too
        yield Vector(sides, messages, (0, 1))


def replay(vectors: Iterable[Vector]) -> Counter[str]:
    """Hold every conversation, handshake and after; return how many there were of each suite."""
    seen: Counter[str] = Counter()
    for sides, messages, senders in vectors:
        size = len(sides.protocol.messages)
        payloads = [payload for payload, _ in messages]
        written, initiator, responder = talk(sides, payloads[:size])
        assert written == [octets for _, octets in messages[:size]]
        assert initiator.split() == responder.split()
        assert initiator.handshake_hash == responder.handshake_hash
        sealing, opening = (ciphers(side, sides.protocol) for side in (initiator, responder))
        for number, (payload, octets) in enumerate(messages[size:]):
            way = senders[number % 2]
            assert sealing[way].seal(payload) == octets
            assert opening[way].unseal(octets) == payload
        seen[sides.protocol.name.split("_", 2)[2]] += 1
    return seen


# @pytest.mark.requirement("VPPN-2.1-01")
@pytest.mark.requirement("VPPN-2.1-01")
def test_all_vectors_of_snow() -> None:
    seen = replay(snow())
    assert seen.total() >= SNOW_FLOOR


# @pytest.mark.requirement("VPPN-2.1-01")
@pytest.mark.requirement("VPPN-2.1-01")
def test_all_vectors_of_flynn() -> None:
    seen = replay(flynn())
    assert seen.total() >= FLYNN_FLOOR
    assert set(seen.values()) == {FLYNN_FLOOR // FLYNN_SUITES}
    assert len(seen) == FLYNN_SUITES


# ---- hybrids ------------------------------------------------------------------------------------


def encapsulate_with(random: bytes) -> Any:
    """Return an encapsulation of another implementation whose one random value is given."""

    def encapsulate(public: bytes) -> tuple[bytes, bytes]:
        secret, ciphertext = ML_KEM_768._encaps_internal(public, random)  # noqa: SLF001
        assert len(ciphertext) == KEM_CIPHERTEXT_OCTETS
        return secret, ciphertext

    return encapsulate


def hybrid(protocol: NoiseProtocol, agreed: bytes) -> Sides:
    """Return the sides of section 2.1: each secret is one octet, repeated."""
    return Sides(
        protocol=protocol,
        statics=(b"\x11" * 32, b"\x12" * 32),
        ephemerals=(b"\x13" * 32, b"\x14" * 32),
        kem_seed=b"\x15" * 64,
        prologue=agreed,
        encapsulate=encapsulate_with(b"\x16" * 32),
    )


HYBRIDS = {
    PatternId.IK: (
        (1296, 1152),
        ("e3fe2dc1bfabd151b9e1e5ac8210796c", "ed4e4188a1967fef0633edd9765866a1"),
        "934f16eee2bba60f9dddcbb9251aaab615a40fa28fe3de3b62ca1ee9a5322f22",
    ),
    PatternId.XK: (
        (1248, 1152, 64),
        (
            "e8ca093c1f1f7991f217b0fbce1dc492",
            "78dbafaf82fcb92580138c4731676ba5",
            "76fd21b33cf12bb3aafecedce527df5f",
        ),
        "26e60695053c3cabad2bae9ab5dbfe1d6f42dbc2245270de5a50daf549c4e0c2",
    ),
    PatternId.NK: (
        (1248, 1152),
        ("d5abd399d7bac7b2ad2e5348fd6c7a23", "047b21c72c7e2c8474d23b42d2cedd74"),
        "a4fc2889266d8734800a88f2d245a8887c99b0c66fcf26a52e71e3e6427d8d77",
    ),
}


# @pytest.mark.requirement("VPPN-2.1-02", "VPPN-2.1-04")
@pytest.mark.requirement("VPPN-2.1-02", "VPPN-2.1-04")
@pytest.mark.parametrize("pattern", HYBRIDS, ids=lambda pattern: pattern.word)
def test_the_hybrid_vectors(pattern: PatternId) -> None:
    sizes, digests, bound = HYBRIDS[pattern]
    messages, initiator, responder = talk(hybrid(PROTOCOLS[pattern], prologue(pattern)))
    assert tuple(len(message) for message in messages) == sizes
    assert tuple(sha256(message).hexdigest()[:32] for message in messages) == digests
    assert initiator.handshake_hash.hex() == responder.handshake_hash.hex() == bound
    assert initiator.split() == responder.split()


def test_the_transport_keys_of_ik() -> None:
    sides = hybrid(PROTOCOLS[PatternId.IK], prologue(PatternId.IK))
    keys = [key.hex()[:32] for key in talk(sides)[1].split()]
    assert keys == ["49650cf422e4b240493f6da1cc0dce42", "9c55f34500c37ce3a47b6dfb90f97266"]


# @pytest.mark.requirement("VPPN-2.1-02")
@pytest.mark.requirement("VPPN-2.1-02")
def test_the_hybrid_of_libp2p() -> None:
    """Figures of libp2p/specs, noise-mlkem768-hfs: a third party's."""
    protocol = NoiseProtocol.make("Noise_XXhfs_25519+MLKEM768_ChaChaPoly_SHA256")
    messages, initiator, responder = talk(hybrid(protocol, b""))
    assert [len(message) for message in messages] == [1216, 1200, 64]
    bound = "b5a3c9854777aa5dad0a633c769bcc6662713f20f14e0371e4bfd253e1869eef"
    assert initiator.handshake_hash.hex() == responder.handshake_hash.hex() == bound
    assert [key.hex() for key in responder.split()] == [
        "0a825d67cbf14170dcccf6f5c54d50f46a9a23541122654f5bec41ef0a5657e5",
        "f8546817671a440fd8df45b26fd6b45ebbf39e4207455ca12bc6d56ac0b35ebc",
    ]
