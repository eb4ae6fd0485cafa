"""The waiting room of a receiver: who takes a place from whom, at the bounds and one above."""

import pytest

from powertcp.machine import Address
from powertcp.potcp.epoch import Block
from powertcp.potcp.waiting import KNOWN_NS, PENDING_MAX, SENDER_MAX, STRANGERS_MAX, Waiting
from powertcp.profile import PowerProfile
from powertcp.wire.options import Feed, Sampling

SOURCE: Address = ("192.0.2.1", 1)
PROFILE = PowerProfile.parse("12V/1A")
pytestmark = pytest.mark.requirement("PTCP-14-01")


def block(number: int) -> Block:
    """Return a block that differs from others in its counter."""
    return Block(Feed(bytes(16), 1), PROFILE, Sampling(1000, 1, 1, 1), 0, number, 1, False, b"")


def fill(waiting: Waiting, sender: Address | None, count: int, first: int = 0) -> int:
    """Put blocks of a sender; return how many others went."""
    return sum(
        waiting.put(digest(sender, n), block(n), sender) for n in range(first, first + count)
    )


def digest(sender: Address | None, number: int) -> bytes:
    return f"{sender} {number}".encode()


def test_a_sender_above_its_bound_loses_its_own_oldest() -> None:
    waiting = Waiting()
    assert fill(waiting, SOURCE, 1) == 0
    assert fill(waiting, None, SENDER_MAX) == 0
    assert fill(waiting, None, 1, SENDER_MAX) == 1
    assert digest(None, 0) not in waiting
    assert digest(None, 1) in waiting
    assert digest(SOURCE, 0) in waiting


def test_strangers_above_their_bound_lose_the_oldest_and_never_that_of_the_source() -> None:
    waiting = Waiting()
    waiting.known = SOURCE
    assert fill(waiting, SOURCE, SENDER_MAX) == 0
    assert sum(fill(waiting, ("192.0.2.2", port), 1) for port in range(STRANGERS_MAX)) == 0
    assert len(waiting) == PENDING_MAX
    assert fill(waiting, ("192.0.2.2", STRANGERS_MAX), 1) == 1
    assert len(waiting) == PENDING_MAX
    assert digest(("192.0.2.2", 0), 0) not in waiting
    assert all(digest(SOURCE, number) in waiting for number in range(SENDER_MAX))


def test_what_is_taken_out_gives_its_place_back() -> None:
    waiting = Waiting()
    fill(waiting, SOURCE, SENDER_MAX)
    assert waiting.pop(digest(SOURCE, 3)) == block(3)
    assert waiting.pop(digest(SOURCE, 3)) is None
    assert fill(waiting, SOURCE, 1, SENDER_MAX) == 0
    waiting.keep(lambda one: one.counter == 5)
    assert len(waiting) == 1
    assert waiting.pop(digest(SOURCE, 5)) == block(5)
    fill(waiting, None, 2)
    waiting.clear()
    assert len(waiting) == 0
    assert fill(waiting, None, SENDER_MAX) == 0


def test_who_sends_one_new_signature_does_not_take_the_place_of_who_sends_them_all() -> None:
    waiting, other = Waiting(), ("192.0.2.2", 1)
    waiting.note_signer(other, 0, is_first=True)
    waiting.note_signer(SOURCE, 1, is_first=False)
    assert waiting.known == SOURCE, "nobody has sent two"
    waiting.note_signer(SOURCE, 2, is_first=False)
    waiting.note_signer(other, 1 + KNOWN_NS, is_first=False)
    assert waiting.known == SOURCE
    waiting.note_signer(other, 2 + KNOWN_NS, is_first=False)
    assert waiting.known == other
    waiting.note_signer(other, 3 + KNOWN_NS, is_first=False)
    waiting.note_signer(SOURCE, 4 + KNOWN_NS, is_first=True)
    assert waiting.known == SOURCE, "another epoch, which its source alone can begin"
