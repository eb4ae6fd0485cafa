"""The key log: read whole or not at all, and sealed segments of real conversations opened by it."""

import random
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

import pytest

from powertcp.errors import DecodeError, InvalidText
from powertcp.registry import Flag, Reason
from powertcp.vppn import keylog
from powertcp.vppn.keylog import (
    FREE_TRIALS,
    HANDSHAKES_MAX,
    MAX_KEYS,
    MAX_OCTETS,
    TRIALS_MAX,
    KeyRing,
    LoggedKey,
    parse_key_log,
)
from powertcp.vppn.message import MESSAGE_1, decode_message, split_first
from powertcp.vppn.noise import PatternId
from powertcp.vppn.record import Privacy, read_seal
from powertcp.wire.frames import Splitter, whole_segment
from tests.sealed import ALL_PATTERNS, OFTEN, SealedPair, device_config, provider_config, raw_of

KEY = LoggedKey(bytes([0xE1]) * 32, 7, "I", bytes([0x4B]) * 32)


class HeardPair(SealedPair):
    """A pair of which somebody on the path keeps all octets."""

    heard: list[bytes]

    def pump(self, side: int) -> bytes:
        octets = super().pump(side)
        self.heard += [whole_segment(raw) for raw in Splitter(65535).receive(octets)]
        return octets


@cache
def held(
    pattern: PatternId, privacy: Privacy = Privacy.POLICE, seed: int = 1000
) -> tuple[tuple[bytes, ...], tuple[LoggedKey, ...]]:
    """Hold a conversation of two epochs; return the segments of both sides and the key log."""
    keys: list[LoggedKey] = []
    device = device_config(
        pattern,
        limits=OFTEN,
        privacy=privacy,
        key_log=lambda *row: keys.append(LoggedKey(*row)),
    )
    pair = HeardPair(device, provider_config(limits=OFTEN, privacy=privacy), seed=seed)
    pair.heard = []
    flow = pair.energise()
    for _ in range(3):
        pair.advance(0.5)
        pair.deliver(flow)
    assert {(one.epoch, one.sender) for one in keys} >= {(0, "I"), (0, "R"), (1, "I"), (1, "R")}
    return tuple(pair.heard), tuple(keys)


def transports(heard: Sequence[bytes]) -> list[bytes]:
    return [octets for octets in heard if not octets[5] & ~Flag.ECE]


def line(one: LoggedKey) -> str:
    return f"VPPN_KEY {one.ephemeral.hex()} {one.epoch:08x} {one.sender} {one.key.hex()}"


def parse(*lines: str) -> list[LoggedKey]:
    return parse_key_log("\n".join(lines).encode(), "keys.log")


def opens(ring: KeyRing, octets: bytes) -> int:
    """Return whether a segment opens, and how many keys were tried in vain where not."""
    try:
        ring.open(raw_of(octets))
    except DecodeError as error:
        return -error.value if (error.code, error.field) == (Reason.DECRYPT, "tag") else 0
    return 1


# ---- the file -----------------------------------------------------------------------------------


def test_a_log_is_read_back_as_it_is_written() -> None:
    _, keys = held(PatternId.IK_CLASSIC)
    lines = [line(one) for one in keys]
    assert parse(*lines) == list(keys)
    assert parse("# a comment", "", *lines, *lines, "") == list(keys)
    assert parse(lines[0].replace("VPPN_KEY", "vppn_key").upper()) == [keys[0]]
    assert parse_key_log(b"") == []


def test_keys_are_shown_to_nobody() -> None:
    assert KEY.key.hex() not in repr(KEY)
    assert str(KEY.key) not in repr(KEY)
    assert KEY.ephemeral.hex()[:8] == "e1e1e1e1"


WHOLE = line(KEY)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("CLIENT_RANDOM" + WHOLE[8:], 1, "begins with VPPN_KEY, here stand 13 octets"),
        (WHOLE.replace("e1e1", "e1e", 1), 10, "has 64 hex digits, here stand 63"),
        (WHOLE.replace("00000007", "7"), 75, "an epoch has 8 hex digits, here stand 1"),
        (WHOLE.replace(" I ", " X "), 84, "who seals is I or R"),
        (WHOLE[:-1], 86, "a key has 64 hex digits, here stand 63"),
        (WHOLE + "b", 86, "here stand 65"),
        (WHOLE + "\r", 86, "here stand 65"),
        (WHOLE[:85], 86, "here stand 0"),
        (WHOLE[:83], 84, "here stand 0"),
        (WHOLE + " ", 151, "nothing follows a key"),
        (WHOLE + " 4b4b more", 151, "nothing follows a key"),
        (" " + WHOLE, 1, "here stand 0"),
        (WHOLE.replace("4b", "4ß", 1), 86, "here stand 65"),
    ],
)
def test_a_line_that_is_none_is_named_and_not_shown(text: str, column: int, said: str) -> None:
    with pytest.raises(InvalidText) as caught:
        parse(WHOLE, "# more", text)
    shown = str(caught.value)
    assert shown.startswith(f"keys.log: line 3, column {column}: ")
    assert said in shown
    assert "4b4b" not in shown
    assert "e1e1" not in shown


def test_garbage_is_one_error() -> None:
    dice = random.Random(1)
    for _ in range(200):
        octets = dice.randbytes(dice.randrange(1, 400))
        with pytest.raises(InvalidText):
            parse_key_log(b"V" + octets)
        bent = bytearray(f"{WHOLE}\n{WHOLE}\n".encode())
        bent[dice.randrange(len(bent))] ^= 1 << dice.randrange(8)
        with suppress(InvalidText):
            assert len(parse_key_log(bytes(bent))) <= 2


def test_a_log_has_a_greatest_length_and_number_of_keys() -> None:
    most = b"#" * MAX_OCTETS
    assert parse_key_log(most) == []
    with pytest.raises(InvalidText, match="more than 20,971,520 octets"):
        parse_key_log(most + b"#")
    many = f"{WHOLE}\n".encode() * MAX_KEYS
    assert parse_key_log(many) == [KEY]
    with pytest.raises(InvalidText, match=r"line 65537, .*more than 65,536 keys"):
        parse_key_log(many + WHOLE.encode())


# ---- segments -----------------------------------------------------------------------------------


@pytest.mark.requirement("VPPN-3-02", "VPPN-3-03")
@pytest.mark.parametrize("privacy", Privacy)
@pytest.mark.parametrize("pattern", ALL_PATTERNS, ids=lambda pattern: pattern.word)
def test_every_segment_opens_in_any_order_either_way(pattern: PatternId, privacy: Privacy) -> None:
    heard, keys = held(pattern, privacy)
    sealed = transports(heard)
    assert len(sealed) > 10
    for order in (sealed, sealed[::-1], random.Random(2).sample(sealed, len(sealed))):
        ring = KeyRing(keys)
        assert ring.keys == len(keys)
        found = [ring.open(raw_of(octets)) for octets in order]
        seals = [read_seal(raw_of(octets)) for octets in order]
        assert [(one.by.epoch, one.counter) for one in found] == [
            (seal.epoch, seal.counter) for seal in seals
        ]
        assert {(one.by.sender, one.by.epoch) for one in found} == {
            (sender, epoch) for sender in "IR" for epoch in (0, 1)
        }
        assert all(one.plain[:2] == b"PO" for one in found)


@pytest.mark.requirement("VPPN-3-02")
def test_a_mark_of_congestion_is_no_harm_and_any_other_bit_is() -> None:
    heard, keys = held(PatternId.IK_CLASSIC)
    octets = transports(heard)[-1]
    ring = KeyRing(keys)
    marked = 5 * 8 + 6
    tried = 0
    for at in range(8 * len(octets)):
        bent = bytearray(octets)
        bent[at // 8] ^= 1 << at % 8
        for raw in Splitter(65535).receive(bytes(bent)):
            tried += 1
            if at == marked:
                ring.open(raw)
                continue
            with pytest.raises(DecodeError) as caught:
                ring.open(raw)
            assert caught.value.code == Reason.DECRYPT
    assert tried > 6 * len(octets)


def test_a_log_without_the_epoch_and_one_of_others_are_told_apart() -> None:
    heard, keys = held(PatternId.IK_CLASSIC)
    _, others = held(PatternId.IK_CLASSIC, seed=3000)
    last = transports(heard)[-1]
    early = KeyRing([one for one in keys if one.epoch == 0])
    with pytest.raises(DecodeError) as caught:
        early.open(raw_of(last))
    assert (caught.value.code, caught.value.field, caught.value.value) == (509, "key", 1)
    assert not set(others) & set(keys)
    wrong = KeyRing(others)
    assert [opens(wrong, octets) for octets in transports(heard)] == [-2] * len(transports(heard))
    with pytest.raises(DecodeError, match="field key"):
        KeyRing([]).open(raw_of(last))
    # the handshake itself is under other keys
    both = KeyRing([*others, *keys])
    assert opens(both, heard[0]) < 0


def test_a_segment_without_a_seal_or_a_tag_is_the_same_error() -> None:
    heard, keys = held(PatternId.IK_CLASSIC)
    octets = transports(heard)[0]
    ring = KeyRing(keys)
    bare = octets[:3] + b"\5" + octets[4:20] + octets[36:]
    with pytest.raises(DecodeError, match="field SEAL"):
        ring.open(raw_of(bare))
    for size in (0, 15, 16):
        short = octets[:6] + size.to_bytes(2, "big") + octets[8 : 36 + size]
        assert opens(ring, short) == -2


def strangers(count: int, epoch: int = 0) -> list[LoggedKey]:
    return [
        LoggedKey(number.to_bytes(32, "big"), epoch, "I", number.to_bytes(32, "little"))
        for number in range(count)
    ]


def test_a_key_far_down_is_found_once_and_then_first(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, keys = held(PatternId.IK_CLASSIC)
    first, *rest = [one for one in transports(heard) if not read_seal(raw_of(one)).epoch]
    # as many as the first segment needs, the key that fits included
    monkeypatch.setattr(keylog, "TRIALS_MAX", 501 - FREE_TRIALS)
    ring = KeyRing([*strangers(500), *keys])
    assert [opens(ring, octets) for octets in (first, *rest)] == [1] * (len(rest) + 1)
    monkeypatch.setattr(keylog, "TRIALS_MAX", 500 - FREE_TRIALS)
    ring = KeyRing([*strangers(500), *keys])
    assert opens(ring, first) == -500


def test_keys_tried_in_vain_are_counted_over_all_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TRIALS_MAX == 4 * MAX_KEYS
    heard, keys = held(PatternId.IK_CLASSIC)
    octets = transports(heard)[0]
    bent = octets[:-1] + bytes([octets[-1] ^ 1])
    monkeypatch.setattr(keylog, "TRIALS_MAX", 10)
    ring = KeyRing([*strangers(8), *keys])
    # ten keys, of which four are free
    assert [opens(ring, bent) for _ in range(3)] == [-10, -8, -FREE_TRIALS]
    assert opens(ring, octets) == -FREE_TRIALS
    # its handshake tells which keys are the likely ones
    (first,) = [
        one for one in heard if one[5] == MESSAGE_1 and not decode_message(raw_of(one)).epoch
    ]
    ring.meet(split_first(decode_message(raw_of(first)).octets)[1])
    assert opens(ring, octets) == 1


@pytest.mark.parametrize("others", [HANDSHAKES_MAX - 1, HANDSHAKES_MAX])
def test_so_many_handshakes_are_remembered(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, keys = held(PatternId.IK_CLASSIC)
    monkeypatch.setattr(keylog, "TRIALS_MAX", 0)
    ring = KeyRing([*strangers(100), *keys])
    ring.meet(keys[0].ephemeral)
    for number in range(others):
        ring.meet(bytes([0xFF]) * 31 + bytes([number]))
    assert opens(ring, transports(heard)[0]) == (1 if others < HANDSHAKES_MAX else -FREE_TRIALS)
