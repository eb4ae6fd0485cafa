"""Whatever is done to a handshake message on its way: 509, and nothing more of that side."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.vppn import PROTOCOLS, Handshake, PatternId, prologue
from tests.noise_sides import Sides, drawn, talk

NAMED = pytest.mark.parametrize("pattern", PatternId, ids=lambda pattern: pattern.word)


def sides_of(pattern: PatternId, seed: int = 1) -> Sides:
    return drawn(PROTOCOLS[pattern].name, seed, prologue(pattern))


def reader(sides: Sides, messages: list[bytes], number: int) -> Handshake:
    """Return the side that is about to read message `number`, as it was when that was written.

    The ephemeral keys are drawn from the same octets again; encapsulation is by the one recorded.
    """
    side = sides.side(1 - number % 2)
    for before in range(number):
        if before % 2 == number % 2:
            side.read_message(messages[before])
        else:
            assert side.write_message() == messages[before]
    return side


def record(sides: Sides) -> list[bytes]:
    """Hold the handshake; from then on the sides encapsulate as they did in it."""
    fresh = sides.encapsulate
    made: list[tuple[bytes, bytes]] = []

    def again(public: bytes) -> tuple[bytes, bytes]:
        if not made:
            made.append(fresh(public))
        return made[0]

    sides.encapsulate = again
    return talk(sides)[0]


def is_refused(side: Handshake, message: bytes) -> bool:
    """Return whether 509 comes of it, and whether the side knows that it is over."""
    try:
        side.read_message(message)
    except DecodeError as error:
        return error.code == 509 and not (side.is_complete or side.may_write)
    return False


def refused(side: Handshake, message: bytes) -> None:
    """Expect 509 and a side that can do nothing more."""
    assert is_refused(side, message)
    for call in (side.write_message, side.split, lambda: side.read_message(message)):
        with pytest.raises(LocalProtocolError):
            call()


def flipped(message: bytes) -> Iterator[bytes]:
    """Yield the message with each of its bits turned over."""
    for at, octet in enumerate(message):
        for bit in range(8):
            yield message[:at] + bytes([octet ^ 1 << bit]) + message[at + 1 :]


@NAMED
@pytest.mark.requirement("VPPN-2.1-03")
def test_every_bit_of_every_message_counts(pattern: PatternId) -> None:
    sides = sides_of(pattern)
    messages = record(sides)
    count = 0
    for number, message in enumerate(messages):
        for bent in flipped(message):
            assert is_refused(reader(sides, messages, number), bent)
            count += 1
    assert count == 8 * sum(len(message) for message in messages)
    assert count >= 8 * 96


@NAMED
@pytest.mark.requirement("VPPN-2.1-03")
def test_every_length_but_the_right_one_is_refused(pattern: PatternId) -> None:
    sides = sides_of(pattern)
    messages = record(sides)
    for number, message in enumerate(messages):
        for size in range(len(message)):
            refused(reader(sides, messages, number), message[:size])
        for more in (b"\0", message):
            refused(reader(sides, messages, number), message + more)


@NAMED
@pytest.mark.requirement("VPPN-2.1-03")
def test_messages_of_another_place_or_another_conversation_are_refused(pattern: PatternId) -> None:
    sides, others = sides_of(pattern), sides_of(pattern, 2)
    messages, foreign = record(sides), record(others)
    for number in range(len(messages)):
        wrong = [message for at, message in enumerate(messages) if at != number]
        assert messages[number - 1] in wrong  # what was just sent, reflected
        for message in (*wrong, foreign[number]):
            refused(reader(sides, messages, number), message)
        assert reader(sides, messages, number).read_message(messages[number]) == b""


@pytest.mark.requirement("VPPN-2.1-01", "VPPN-2.1-04")
def test_no_handshake_is_taken_for_another() -> None:
    """Nobody turns a hybrid into a classic one, nor one pattern into another."""
    recorded = {pattern: record(sides_of(pattern)) for pattern in PatternId}
    count = 0
    for pattern in PatternId:
        for other in PatternId:
            if other is not pattern:
                refused(sides_of(pattern).side(1), recorded[other][0])
                count += 1
    assert count == 30


@given(st.sampled_from(PatternId), st.binary(max_size=1400))
def test_garbage_is_refused(pattern: PatternId, garbage: bytes) -> None:
    refused(sides_of(pattern).side(1), garbage)


@given(st.sampled_from(PatternId), st.integers(0, 1 << 32), st.data())
def test_every_conversation_comes_to_one_hash_and_two_keys(
    pattern: PatternId, seed: int, data: st.DataObject
) -> None:
    sides = sides_of(pattern, seed)
    count = len(sides.protocol.messages)
    payloads = data.draw(st.lists(st.binary(max_size=200), min_size=count, max_size=count))
    _, initiator, responder = talk(sides, payloads)
    assert initiator.handshake_hash == responder.handshake_hash
    assert initiator.split() == responder.split()
    other = drawn(sides.protocol.name, Random(seed).randrange(1 << 32) | 1 << 40)
    assert talk(other)[1].handshake_hash != initiator.handshake_hash
