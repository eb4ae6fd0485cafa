"""The codec of COPS and the construct schema agree: same values, or both refuse."""

import random
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from powertcp.errors import DecodeError
from powertcp.mplamps.cops import (
    Splitter,
    decode_message,
    encode_message,
    inner_objects,
)
from powertcp.wire.cops_values import build_message, parse_inner, parse_message
from powertcp.wire.schema import Rejected
from tests.cops_messages import MESSAGES, PATH_OBJECTS
from tests.cops_values import own_values
from tests.full import size
from tests.rsvp_messages import objects
from tools.mplamps_vectors import bad_cops, cops

SEEDS = [vector.octets for vector in (*cops(), *bad_cops())]
SEEDS += [encode_message(message) for message in MESSAGES.values()]


def cut(octets: bytes) -> list[bytes]:
    """Return the objects of a message with their padding."""
    found, at = [], 8
    while at < len(octets):
        length = max(int.from_bytes(octets[at : at + 2], "big"), 4)
        length += -length % 4
        found.append(octets[at : at + length])
        at += length
    return found


PARTS = sorted({part for octets in SEEDS for part in cut(octets)})
INNER = sorted({*objects(bytes(8) + PATH_OBJECTS),
                *(part[4:] for part in PARTS if part[2] in (6, 9) and len(part) > 8)})  # fmt: skip


def whole(head: bytes, parts: list[bytes]) -> bytes:
    """Return a message of these objects with its length."""
    body = b"".join(parts)
    return head[:4] + (8 + len(body)).to_bytes(4, "big") + body


def by_hand(octets: bytes) -> Any:
    try:
        message = decode_message(octets)
    except DecodeError as error:
        return error.code
    return own_values(message)


def by_schema(octets: bytes) -> Any:
    try:
        return own_values(parse_message(octets))
    except Rejected as fault:
        return fault.code


def agree(octets: bytes, seen: dict[str, int]) -> None:
    got, wanted = by_hand(octets), by_schema(octets)
    is_refused = isinstance(got, int)
    # which of several faults is told is not laid down
    assert is_refused if isinstance(wanted, int) else got == wanted
    verdict = "refused" if is_refused else "values"
    seen[verdict] = seen.get(verdict, 0) + 1


@st.composite
def shuffled(draw: st.DrawFn) -> bytes:
    """A message with objects added, taken away, exchanged or in another order."""
    octets = draw(st.sampled_from(SEEDS))
    parts = cut(octets)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(parts)))
        match draw(st.integers(0, 3)):
            case 0:
                parts.insert(at, draw(st.sampled_from(PARTS)))
            case 1:
                parts[at : at + 1] = []
            case 2:
                parts[at : at + 1] = [draw(st.sampled_from(PARTS))]
            case _:
                parts = parts[at:] + parts[:at]
    op = draw(st.sampled_from([octets[1], octets[1], octets[1], *range(12)]))
    return whole(octets[:1] + bytes((op,)) + octets[2:], parts)


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04")
def test_any_sequence_of_objects_has_the_same_values_or_is_refused() -> None:
    seen: dict[str, int] = {}

    @hypothesis.settings(max_examples=size(600, 50_000), database=None)
    @hypothesis.given(shuffled())
    def check(octets: bytes) -> None:
        agree(octets, seen)

    check()
    assert min(seen.get(verdict, 0) for verdict in ("values", "refused")) > 50


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A vector with up to four octets changed."""
    octets = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(octets) - 1))
        octets[at] = draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 2, 4, 8, 16])))
    return bytes(octets)


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04")
def test_any_mutated_vector_has_the_same_values_or_is_refused() -> None:
    seen: dict[str, int] = {}

    @hypothesis.settings(max_examples=size(600, 100_000), database=None)
    @hypothesis.given(mutated())
    def check(octets: bytes) -> None:
        agree(octets, seen)

    check()
    assert min(seen.get(verdict, 0) for verdict in ("values", "refused")) > 50


@st.composite
def inside(draw: st.DrawFn) -> bytes:
    """Objects of RSVP, some of them changed."""
    octets = bytearray(b"".join(draw(st.lists(st.sampled_from(INNER), max_size=4))))
    for _ in range(draw(st.integers(0, 2)) if octets else 0):
        octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    return bytes(octets)


@pytest.mark.requirement("MPLA-4.4-01", "MPLA-4.4-05", "MPLA-4.4-06")
def test_what_is_inside_is_the_same_to_both() -> None:
    seen = {"ours": 0, "others": 0, "refused": 0}

    @hypothesis.settings(max_examples=size(600, 50_000), database=None)
    @hypothesis.given(inside())
    def check(octets: bytes) -> None:
        try:
            wanted = parse_inner(octets)
        except Rejected:
            with pytest.raises(DecodeError):
                inner_objects(octets)
            seen["refused"] += 1
            return
        got = inner_objects(octets)
        assert len(got) == len(wanted)
        for one, said in zip(got, wanted, strict=True):
            if one.private is None:
                assert said["object"] not in ("POWER", "FLOW_LABEL", "TARIFF", "METER")
                seen["others"] += 1
                continue
            assert parse_inner(one.private.to_wire()) == [said]
            seen["ours"] += 1

    check()
    assert min(seen.values()) > 50, seen


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04")
@pytest.mark.parametrize("name", MESSAGES)
def test_what_one_encodes_the_other_decodes(name: str) -> None:
    octets = encode_message(MESSAGES[name])
    assert build_message(parse_message(octets)) == octets
    assert decode_message(build_message(parse_message(octets))) == MESSAGES[name]


def mutate(rng: random.Random) -> bytes:
    """Return a vector with some octets changed, cut or exchanged, its length mostly right."""
    octets = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(octets))
        match rng.randrange(6):
            case 0 | 1:
                octets[at] = rng.choice((0, 1, 3, 4, 8, 9, 16, 127, 252, 255))
            case 2:
                octets[at] ^= 1 << rng.randrange(8)
            case 3:
                octets[at:at] = rng.choice(PARTS)
            case 4:
                octets[at : at + 4 * rng.randrange(1, 9)] = b""
            case _:
                octets[at : at + 4] = rng.randbytes(4)
        octets = octets or bytearray(b"\x10")
    if rng.random() < 0.9 and len(octets) >= 8:
        octets[0] = octets[0] & 1 | 0x10
        octets[4:8] = len(octets).to_bytes(4, "big")
    return bytes(octets)


def test_mutated_octets_raise_nothing_but_decode_errors(seed: int) -> None:
    rng = random.Random(seed)
    decoded = opened = 0
    for _ in range(size(10_000, 100_000)):
        octets = mutate(rng)
        try:
            for one in Splitter().receive(octets):
                message = decode_message(one)
                decoded += 1
                inner_objects(getattr(message, "info", b"") or getattr(message, "data", b""))
                opened += 1
        except DecodeError:
            continue
    assert decoded >= 1_000
    assert opened >= 500
