"""The codec of RSVP and the construct schema agree: same values, same refusals, or both drop."""

import random
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from powertcp.errors import DecodeError
from powertcp.mplamps.label import StackEntry
from powertcp.mplamps.rsvp import MAX_SENT, Bundle, Key, Rejected, decode_message, encode_message
from powertcp.wire.rsvp_schema import LABEL_ENTRY, NUMBERS
from powertcp.wire.rsvp_values import build_message, parse_message
from powertcp.wire.schema import Rejected as Refused
from tests.full import size
from tests.rsvp_messages import MESSAGES, message, objects
from tests.rsvp_values import own_values
from tools.mplamps_vectors import bad, others, paths, tolerated

KEY = Key(7, b"a secret of one feeder")
SEEDS = [vector.octets for vector in (*paths(), *others(), *tolerated(), *bad())]
PARTS = sorted({part for octets in SEEDS if octets[0] == 0x11
                for part in objects(octets) if len(part) >= 4 and not len(part) % 4})  # fmt: skip


def by_hand(octets: bytes) -> Any:
    """Return the values, (code, value) of the error in answer, or "dropped"."""
    try:
        received = decode_message(octets)
    except DecodeError:
        return "dropped"
    said = received.message
    if isinstance(said, Rejected):
        return tuple(map(int, said.fault))
    if isinstance(said, Bundle):
        return "bundle"
    try:
        return own_values(received)
    except Exception as error:
        raise AssertionError(f"decoded, and cannot be encoded: {octets.hex()}") from error


def by_schema(octets: bytes) -> Any:
    try:
        return own_values(parse_message(octets))
    except Refused as fault:
        return "dropped" if fault.code >= 500 else (fault.code, fault.value)


def kind_of(verdict: Any) -> str:
    if isinstance(verdict, dict):
        return "values"
    return verdict if isinstance(verdict, str) else "answered"


@st.composite
def shuffled(draw: st.DrawFn) -> bytes:
    """A message with objects added, taken away, exchanged or in another order."""
    octets = draw(st.sampled_from(SEEDS))
    if octets[0] != 0x11:
        return octets
    parts = list(objects(octets))
    for _ in range(draw(st.integers(0, 3))):
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
    body = b"".join(parts)
    return message(octets[1], [body])


def agree(octets: bytes, seen: dict[str, int]) -> None:
    if len(octets) > MAX_SENT:
        return
    got = by_hand(octets)
    if got != "bundle":
        assert got == by_schema(octets)
    seen[kind_of(got)] = seen.get(kind_of(got), 0) + 1


@pytest.mark.requirement("MPLA-4.2-01", "MPLA-4.2-02", "MPLA-4.3-01", "MPLA-4.4-01", "MPLA-4.4-06")
def test_any_sequence_of_objects_has_the_same_values_or_the_same_refusal() -> None:
    seen: dict[str, int] = {}

    @hypothesis.settings(max_examples=size(600, 50_000), database=None)
    @hypothesis.given(shuffled())
    def check(octets: bytes) -> None:
        agree(octets, seen)

    check()
    assert min(seen.get(verdict, 0) for verdict in ("values", "answered", "dropped")) > 20


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A vector with up to four octets changed; its length and checksum are right, or not."""
    octets = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(8 if len(octets) > 8 else 0, len(octets) - 1))
        octets[at] = draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 4, 7, 127, 252])))
    if draw(st.integers(0, 9)):
        octets[2:4] = bytes(2)
    return bytes(octets)


@pytest.mark.requirement("MPLA-4.1-02", "MPLA-4.2-02", "MPLA-4.4-06")
def test_any_mutated_vector_has_the_same_values_or_the_same_refusal() -> None:
    seen: dict[str, int] = {}

    @hypothesis.settings(max_examples=size(600, 100_000), database=None)
    @hypothesis.given(mutated())
    def check(octets: bytes) -> None:
        agree(octets, seen)

    check()
    assert min(seen.get(verdict, 0) for verdict in ("values", "answered", "dropped")) > 20


@pytest.mark.requirement("MPLA-4.2-01")
@pytest.mark.parametrize("name", MESSAGES)
def test_what_one_encodes_the_other_decodes(name: str) -> None:
    octets = encode_message(MESSAGES[name], 7)
    values = parse_message(octets)
    assert values["ttl"] == 7
    assert build_message(values) == octets


def test_every_object_of_the_schema_has_a_vector() -> None:
    named = {one["object"] for vector in (*paths(), *others()) for one in vector.decoded["objects"]}
    assert set(NUMBERS) - named == {"METER"}


def mutate(rng: random.Random) -> bytes:
    """Return a vector, mostly keyed or whole, with some octets changed, cut or exchanged."""
    octets = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(octets))
        match rng.randrange(6):
            case 0 | 1:
                octets[at] = rng.choice((0, 1, 3, 4, 8, 36, 127, 128, 252, 255))
            case 2:
                octets[at] ^= 1 << rng.randrange(8)
            case 3:
                octets[at:at] = rng.choice(PARTS)
            case 4:
                octets[at : at + 4 * rng.randrange(1, 9)] = b""
            case _:
                octets[at : at + 4] = rng.randbytes(4)
        octets = octets or bytearray(b"\x11")
    if rng.random() < 0.9 and len(octets) >= 8:
        octets[0], octets[2:4], octets[6:8] = 0x11, bytes(2), len(octets).to_bytes(2, "big")
    if rng.random() < 0.1:
        return message(12, [bytes(octets)])
    return bytes(octets)


@pytest.mark.requirement("MPLA-4.2-02", "MPLA-4.4-06")
def test_mutated_octets_raise_nothing_but_decode_errors(seed: int) -> None:
    rng = random.Random(seed)
    keys = {KEY.key_id: KEY.secret}
    decoded = 0
    for number in range(size(6_000, 100_000)):
        try:
            decode_message(mutate(rng), keys if number % 10 == 0 else None)
        except DecodeError:
            continue
        decoded += 1
    assert decoded >= 100


@pytest.mark.requirement("MPLA-2.2-02")
@hypothesis.given(
    st.one_of(st.just(0), st.integers(16, 2**20 - 1)), st.integers(0, 7), st.integers(0, 255),
    st.booleans(),
)  # fmt: skip
def test_an_entry_of_a_stack_is_the_same_to_both(label: int, tc: int, ttl: int, last: bool) -> None:
    octets = StackEntry(label, tc, ttl, is_last=last).to_wire()
    entry = LABEL_ENTRY.parse(octets)
    assert (entry.label, entry.tc, entry.ttl, entry.last) == (label, tc, ttl, last)
    assert LABEL_ENTRY.build(entry) == octets
