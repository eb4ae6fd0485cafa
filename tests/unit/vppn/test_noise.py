"""The handshake engine: who may do what and when, and what ends it."""

from collections.abc import Callable

import pytest

from powertcp import crypto
from powertcp.crypto import ExchangeKey
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.vppn import PROTOCOLS, Cipher, Handshake, NoiseProtocol, PatternId, prologue
from powertcp.vppn.noise import COUNTER_LIMIT, MESSAGE_LIMIT
from tests.noise_sides import ciphers, drawn, talk

KEY = bytes(range(32))
IK = "Noise_IK_25519_ChaChaPoly_BLAKE2s"
XX = "Noise_XX_25519_ChaChaPoly_BLAKE2s"
LOW_ORDER = bytes(32)
# octets of each message with an empty payload
SIZES = {
    PatternId.IK: [1296, 1152],
    PatternId.XK: [1248, 1152, 64],
    PatternId.NK: [1248, 1152],
    PatternId.IK_CLASSIC: [96, 48],
    PatternId.XK_CLASSIC: [48, 48, 64],
    PatternId.NK_CLASSIC: [48, 48],
}


def refused(call: Callable[[], object]) -> None:
    """Expect 509."""
    with pytest.raises(DecodeError) as caught:
        call()
    assert caught.value.code == 509


def unusable(side: Handshake) -> None:
    """Nothing more can be had of this side."""
    assert not side.is_complete
    assert not side.may_write
    with pytest.raises(LocalProtocolError):
        side.read_message(bytes(64))
    with pytest.raises(LocalProtocolError):
        side.write_message()
    with pytest.raises(LocalProtocolError):
        side.split()


# ---- what is offered ----------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.1-01")
def test_six_handshakes_are_offered() -> None:
    assert {number.word: (int(number), number.is_classic) for number in PatternId} == {
        "ik": (1, False),
        "xk": (2, False),
        "nk": (3, False),
        "ik-classic": (17, True),
        "xk-classic": (18, True),
        "nk-classic": (19, True),
    }
    assert [protocol.name for protocol in PROTOCOLS.values()] == [
        "Noise_IKhfs_25519+MLKEM768_ChaChaPoly_BLAKE2s",
        "Noise_XKhfs_25519+MLKEM768_ChaChaPoly_BLAKE2s",
        "Noise_NKhfs_25519+MLKEM768_ChaChaPoly_BLAKE2s",
        "Noise_IK_25519_ChaChaPoly_BLAKE2s",
        "Noise_XK_25519_ChaChaPoly_BLAKE2s",
        "Noise_NK_25519_ChaChaPoly_BLAKE2s",
    ]
    assert set(PROTOCOLS) == set(PatternId) == set(SIZES)
    assert all(row.is_hybrid != number.is_classic for number, row in PROTOCOLS.items())


@pytest.mark.requirement("VPPN-2.1-04")
def test_the_prologue_names_pattern_and_epoch_before() -> None:
    assert prologue(PatternId.IK) == b"powertcp-vppn-1\x01"
    assert prologue(PatternId.NK_CLASSIC, KEY) == b"powertcp-vppn-1\x13" + KEY


# ---- a whole conversation -----------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PatternId, ids=lambda pattern: pattern.word)
@pytest.mark.requirement("VPPN-2.1-01", "VPPN-2.1-02")
def test_both_sides_come_to_the_same_keys(pattern: PatternId) -> None:
    sides = drawn(PROTOCOLS[pattern].name, pattern, prologue(pattern))
    messages, initiator, responder = talk(sides)
    assert [len(message) for message in messages] == SIZES[pattern]
    assert initiator.is_complete
    assert responder.is_complete
    assert initiator.split() == responder.split()
    assert len(set(initiator.split())) == 2
    assert initiator.handshake_hash == responder.handshake_hash
    assert initiator.remote_static == sides.keys[1].public
    is_anonymous = sides.protocol.name.startswith("Noise_NK")
    assert responder.remote_static == (None if is_anonymous else sides.keys[0].public)
    assert responder.remote_ephemeral == messages[0][:32]
    assert initiator.remote_ephemeral == messages[1][:32]


def test_payloads_and_psks_and_aes() -> None:
    sides = drawn("Noise_XXpsk0+psk3_25519_AESGCM_SHA512", 7, b"same")
    payloads = [b"one", b"", b"three"]
    _, initiator, responder = talk(sides, payloads)
    sealing, opening = ciphers(initiator, sides.protocol)[0], ciphers(responder, sides.protocol)[0]
    for text in (b"first", b"second"):
        assert opening.unseal(sealing.seal(text, b"seen"), b"seen") == text


@pytest.mark.parametrize("other", ["prologue", "psks", "static"])
@pytest.mark.requirement("VPPN-2.1-04")
def test_sides_that_do_not_agree_do_not_meet(other: str) -> None:
    sides = drawn("Noise_IKpsk1_25519_ChaChaPoly_BLAKE2s", 8, b"one")
    message = sides.side(0).write_message()
    if other == "prologue":
        sides.prologue = b"two"
    elif other == "psks":
        sides.psks = (KEY,)
    else:
        sides.keys[1] = ExchangeKey(KEY)
    responder = sides.side(1)
    refused(lambda: responder.read_message(message))
    unusable(responder)


@pytest.mark.requirement("VPPN-2.1-03")
def test_a_forged_ciphertext_gives_another_secret_and_that_is_found_out() -> None:
    def lie(public: bytes) -> tuple[bytes, bytes]:
        secret, ciphertext = crypto.encapsulate(public)
        return secret, bytes([ciphertext[0] ^ 1]) + ciphertext[1:]

    sides = drawn(PROTOCOLS[PatternId.IK].name, 9)
    sides.encapsulate = lie
    initiator, responder = sides.both()
    responder.read_message(initiator.write_message())
    message = responder.write_message()
    refused(lambda: initiator.read_message(message))
    unusable(initiator)


# ---- turns --------------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-2.1-01")
def test_out_of_turn_nothing_changes() -> None:
    initiator, responder = drawn(XX, 1).both()
    assert initiator.may_write
    assert not responder.may_write
    with pytest.raises(LocalProtocolError, match="nothing to read, after 0 messages"):
        initiator.read_message(bytes(64))
    with pytest.raises(LocalProtocolError, match="nothing to write, after 0 messages"):
        responder.write_message()
    with pytest.raises(LocalProtocolError, match="not complete"):
        initiator.split()
    responder.read_message(initiator.write_message())
    assert responder.may_write
    with pytest.raises(LocalProtocolError):
        initiator.write_message()
    initiator.read_message(responder.write_message())
    responder.read_message(initiator.write_message())
    for side in (initiator, responder):
        assert side.is_complete
        assert not side.may_write
        with pytest.raises(LocalProtocolError):
            side.write_message()
        with pytest.raises(LocalProtocolError):
            side.read_message(b"")
        assert side.is_complete


def test_one_way_patterns_are_over_after_one_message() -> None:
    messages, initiator, responder = talk(drawn("Noise_Xpsk1_25519_ChaChaPoly_BLAKE2b", 2))
    assert len(messages) == 1
    assert initiator.split() == responder.split()


# ---- what ends a handshake ----------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PatternId, ids=lambda pattern: pattern.word)
@pytest.mark.requirement("VPPN-2.1-03")
def test_a_key_of_low_order_ends_it(pattern: PatternId) -> None:
    sides = drawn(PROTOCOLS[pattern].name, 3)
    initiator, responder = sides.both()
    message = initiator.write_message()
    refused(lambda: responder.read_message(LOW_ORDER + message[32:]))
    unusable(responder)
    responder = sides.side(1)
    responder.read_message(message)
    answer = responder.write_message()
    refused(lambda: initiator.read_message(LOW_ORDER + answer[32:]))
    unusable(initiator)


@pytest.mark.requirement("VPPN-2.1-03")
def test_a_key_of_low_order_that_comes_in_clear_ends_it_when_it_is_used() -> None:
    responder = drawn(XX, 4).side(1)
    responder.read_message(LOW_ORDER)
    refused(responder.write_message)
    unusable(responder)


@pytest.mark.requirement("VPPN-2.1-03")
def test_a_kem_key_that_is_none_ends_it_when_it_is_used() -> None:
    responder = drawn("Noise_XXhfs_25519+MLKEM768_ChaChaPoly_SHA256", 5).side(1)
    responder.read_message(ExchangeKey(KEY).public + b"\xff" * crypto.KEM_PUBLIC_OCTETS)
    refused(responder.write_message)
    unusable(responder)


@pytest.mark.parametrize("pattern", PatternId, ids=lambda pattern: pattern.word)
@pytest.mark.requirement("VPPN-2.1-03")
def test_a_message_that_ends_early_ends_it(pattern: PatternId) -> None:
    sides = drawn(PROTOCOLS[pattern].name, 5)
    message = sides.side(0).write_message()
    for size in (0, 31, 32, 47, len(message) - 17, len(message) - 1):
        responder = sides.side(1)
        with pytest.raises(DecodeError) as caught:
            responder.read_message(message[:size])
        assert caught.value.code == 509
        unusable(responder)


@pytest.mark.requirement("VPPN-2.1-03")
def test_messages_have_a_limit() -> None:
    sides = drawn(XX, 6)
    initiator, responder = sides.both()
    longest = initiator.write_message(bytes(MESSAGE_LIMIT - 32))
    assert len(longest) == MESSAGE_LIMIT
    assert len(responder.read_message(longest)) == MESSAGE_LIMIT - 32
    responder = sides.side(1)
    refused(lambda: responder.read_message(longest + b"\0"))
    unusable(responder)
    initiator = sides.side(0)
    with pytest.raises(LocalProtocolError, match="65,536 octets, at most 65,535"):
        initiator.write_message(bytes(MESSAGE_LIMIT - 31))
    unusable(initiator)


# ---- keys ---------------------------------------------------------------------------------------


def make(
    name: str = IK,
    *,
    is_initiator: bool = True,
    static: ExchangeKey | None = None,
    remote_static: bytes | None = None,
    psks: tuple[bytes, ...] = (),
) -> Handshake:
    return Handshake(
        NoiseProtocol.make(name),
        is_initiator=is_initiator,
        entropy=bytes,
        static=static,
        remote_static=remote_static,
        psks=psks,
    )


def test_the_keys_that_a_side_needs() -> None:
    own, their = ExchangeKey(KEY), ExchangeKey(KEY[::-1]).public
    make(static=own, remote_static=their)
    make(is_initiator=False, static=own)
    psk = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s"
    make(psk, psks=(KEY,))
    for name, is_initiator, static, remote, psks, said in (
        (IK, True, None, their, (), "needs a static key"),
        (IK, True, own, None, (), "needs the peer's static key"),
        (IK, False, None, None, (), "needs a static key"),
        (IK, False, own, their, (), "no use for the peer's static key"),
        (IK.replace("IK", "NK"), True, own, their, (), "no use for a static key"),
        (IK, True, own, their[1:], (), "each key of 32 octets"),
        (IK, True, own, b"", (), "each key of 32 octets"),
        (IK, True, own, their, (KEY,), "0 pre-shared keys"),
        (psk, True, None, None, (), "1 pre-shared keys"),
        (psk, True, None, None, (KEY[1:],), "each key of 32 octets"),
    ):
        with pytest.raises(LocalProtocolError, match=said):
            make(name, is_initiator=is_initiator, static=static, remote_static=remote, psks=psks)


@pytest.mark.requirement("VPPN-2.1-02")
def test_hybrids_are_refused_where_there_is_no_kem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypto, "HAS_KEM", False)
    for pattern, protocol in PROTOCOLS.items():
        sides = drawn(protocol.name, 10)
        if pattern.is_classic:
            talk(sides)
        else:
            for number in (0, 1):
                with pytest.raises(LocalProtocolError, match="has no ML-KEM-768"):
                    sides.side(number)


# ---- one direction after it ---------------------------------------------------------------------


@pytest.mark.parametrize("name", crypto.CIPHERS)
def test_the_last_counter_is_never_used(name: str) -> None:
    cipher = Cipher(name, KEY, COUNTER_LIMIT - 1)
    sealed = cipher.seal(b"last")
    with pytest.raises(LocalProtocolError, match="never used"):
        cipher.seal(b"one more")
    with pytest.raises(LocalProtocolError):
        cipher.unseal(sealed)
    assert Cipher(name, KEY, COUNTER_LIMIT - 1).unseal(sealed) == b"last"
    other = Cipher(name, KEY, COUNTER_LIMIT - 2)
    refused(lambda: other.unseal(sealed))


def test_counters_are_little_endian_for_chacha_and_big_endian_for_aes() -> None:
    for name, order in (("ChaChaPoly", "little"), ("AESGCM", "big")):
        nonce = bytes(4) + (0x0102).to_bytes(8, "little" if order == "little" else "big")
        assert Cipher(name, KEY, 0x0102).seal(b"text") == crypto.Aead(KEY, name).seal(
            nonce, b"text"
        )
