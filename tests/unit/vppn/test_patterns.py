"""Names of protocols and the tokens they stand for."""

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.vppn.patterns import DH_KEYS, PATTERNS, NoiseProtocol, Token

PATTERN_FLOOR = 38


def shown(name: str) -> str:
    return " / ".join(" ".join(tokens) for tokens in NoiseProtocol.make(name).messages)


def classic(pattern: str) -> str:
    return f"Noise_{pattern}_25519_ChaChaPoly_BLAKE2s"


def hybrid(pattern: str) -> str:
    return f"Noise_{pattern}_25519+MLKEM768_ChaChaPoly_BLAKE2s"


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        (classic("IK"), "e es s ss / e ee se"),
        (classic("NNpsk0"), "psk e / e ee"),
        (classic("XXpsk0+psk1+psk2+psk3"), "psk e psk / e ee s es psk / s se psk"),
        (classic("Kpsk1"), "e es ss psk"),
        (hybrid("IKhfs"), "e es e1 s ss / e ee ekem1 se"),
        (hybrid("XKhfs"), "e es e1 / e ee ekem1 / s se"),
        (hybrid("NKhfs"), "e es e1 / e ee ekem1"),
        (hybrid("XXhfs"), "e e1 / e ee ekem1 s es / s se"),
        (hybrid("IKhfs+psk2"), "e es e1 s ss / e ee ekem1 se psk"),
    ],
)
def test_what_a_name_stands_for(name: str, tokens: str) -> None:
    assert shown(name) == tokens


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Noise_IK_25519_ChaChaPoly",
        "Noise_QQ_25519_ChaChaPoly_BLAKE2s",
        "Noise_IK_448_ChaChaPoly_BLAKE2s",
        "Noise_IK_25519_Salsa_BLAKE2s",
        "Noise_IK_25519_ChaChaPoly_MD5",
        classic("IKhfs"),
        hybrid("IK"),
        "Noise_IKhfs_25519+ML-KEM-768_ChaChaPoly_BLAKE2s",
        hybrid("Nhfs"),
        hybrid("IKhfs+hfs"),
        classic("IKpsk3"),
        classic("IKpsk02"),
        classic("IKpsk2+"),
        classic("IK+psk2"),
        classic("IKpsk2+psk2"),
        classic("IKfallback"),
        classic("IK") + "\n",
    ],
)
def test_no_protocol_has_this_name(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        NoiseProtocol.make(name)


def test_every_pattern_makes_sense() -> None:
    """Each DH token's keys are there before it, and every message ends a turn."""
    assert len(PATTERNS) >= PATTERN_FLOOR
    for name in PATTERNS:
        protocol = NoiseProtocol.make(classic(name))
        has = {("i", Token.S): "i" in protocol.known, ("r", Token.S): "r" in protocol.known}
        for number, tokens in enumerate(protocol.messages):
            side = "ir"[number % 2]
            for token in tokens:
                if token in DH_KEYS:
                    mine, theirs = DH_KEYS[token]
                    assert has[("i", mine)], name
                    assert has[("r", theirs)], name
                else:
                    assert not has.get((side, token)), name
                    has[(side, token)] = True
        assert protocol.is_one_way == (len(protocol.messages) == 1)
        assert not protocol.is_hybrid
        assert protocol.psks == 0
        sends = (
            protocol.sends_static(is_initiator=True),
            protocol.sends_static(is_initiator=False),
        )
        assert sends[0] == (name[0] in "XI")
        assert sends[1] == ("X" in name[1:] and not protocol.is_one_way)


def test_what_a_protocol_knows_of_itself() -> None:
    protocol = NoiseProtocol.make(hybrid("KKhfs+psk0+psk2"))
    assert protocol.is_hybrid
    assert protocol.psks == 2
    assert protocol.known == ("i", "r")
    assert (protocol.cipher, protocol.hashing) == ("ChaChaPoly", "BLAKE2s")
    assert not protocol.sends_static(is_initiator=True)
