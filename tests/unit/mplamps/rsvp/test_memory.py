"""Numbers of a neighbour: what is new, what is the last one again, what is late, what is replayed."""

import pytest

from powertcp.mplamps.rsvp.memory import MAX_FORMER, REMEMBERED_NS, Age, Memory, Replays, StateKey

A: StateKey = ("path", "a")
B: StateKey = ("path", "b")


def memory(max_states: int = 10, max_remembered: int = 10) -> Memory:
    made = Memory(max_states, max_remembered)
    assert made.has_epoch(1, 0)
    return made


@pytest.mark.requirement("MPLA-4.7-03")
def test_numbers_count_for_each_key_and_wrap() -> None:
    one = memory()
    assert one.take_state(A, 5, 0) is Age.NEW
    assert one.take_state(B, 4, 0) is Age.NEW
    assert one.take_state(A, 5, 0) is Age.SAME
    assert one.take_state(A, 4, 0) is Age.OLD
    assert one.take_state(A, 5 + (1 << 31) - 1, 0) is Age.NEW
    assert one.take_state(A, 3, 0) is Age.NEW
    assert one.take_state(A, 0xFFFF_FFFF, 0) is Age.OLD


@pytest.mark.requirement("MPLA-4.7-03")
def test_what_is_removed_is_remembered_for_10_s() -> None:
    one = memory()
    one.take_state(A, 5, 0)
    assert one.take(A, 6, 0) is Age.NEW
    assert one.states == 0
    assert one.take_state(A, 5, REMEMBERED_NS - 1) is Age.OLD
    assert one.take(A, 6, REMEMBERED_NS - 1) is Age.OLD
    assert one.take_state(A, 5, REMEMBERED_NS) is Age.NEW
    assert one.removed == 0


@pytest.mark.requirement("MPLA-4.7-04")
def test_a_summary_finds_states_and_not_what_is_gone() -> None:
    one = memory()
    one.take_state(A, 1, 0)
    one.take_state(B, 2, 0)
    one.take_state(A, 3, 0)
    assert one.named(1, (1, 2, 3)) == ((B, A), (1,))
    one.remove(B, 0)
    one.remove(B, 0)
    one.take(A, 4, 0)
    assert one.named(1, (2, 3, 4)) == ((), (2, 3, 4))
    assert one.named(2, (2,)) == ((), (2,))


def test_a_number_given_to_two_states_is_that_of_the_later() -> None:
    one = memory()
    one.take_state(A, 1, 0)
    one.take_state(B, 1, 0)
    one.remove(A, 0)
    assert one.named(1, (1,)) == ((B,), ())


@pytest.mark.requirement("MPLA-4.7-03")
def test_another_epoch_begins_anew_and_the_last_ones_are_over_for_10_s() -> None:
    one = memory()
    one.take_state(A, 9, 0)
    assert one.has_epoch(2, 0)
    assert one.states == 0
    assert one.take_state(A, 1, 0) is Age.NEW
    assert not one.has_epoch(1, REMEMBERED_NS - 1)
    assert one.has_epoch(2, REMEMBERED_NS - 1)
    assert one.has_epoch(1, REMEMBERED_NS)


def test_so_many_epochs_are_known_to_be_over() -> None:
    one = memory()
    for epoch in range(2, 2 + MAX_FORMER):
        assert one.has_epoch(epoch, 0)
    assert not one.has_epoch(1, 0)
    assert one.has_epoch(2 + MAX_FORMER, 0)
    assert one.has_epoch(1, 0)


def test_of_states_that_refreshed_longest_ago_is_forgotten_first() -> None:
    one = memory(max_states=2)
    one.take_state(A, 1, 0)
    one.take_state(B, 2, 0)
    assert one.states == 2
    one.named(1, (1,))
    one.take_state(("path", "c"), 3, 0)
    assert one.states == 2
    assert one.named(1, (2,)) == ((), (2,))
    assert one.take_state(A, 1, 0) is Age.SAME
    one.take_state(B, 4, 0)
    assert one.named(1, (1, 3, 4)) == ((A, B), (3,))
    one.take_state(A, 5, 0)
    one.take_state(("path", "c"), 6, 0)
    assert one.named(1, (4, 5, 6)) == ((A, ("path", "c")), (4,))


def test_of_what_is_removed_the_oldest_is_forgotten_first() -> None:
    one = memory(max_remembered=2)
    for number in (1, 2):
        one.take(("path", number), number, 0)
    assert one.removed == 2
    assert one.take(("path", 1), 1, 0) is Age.OLD
    one.take(("path", 3), 3, 0)
    assert one.removed == 2
    assert one.take(("path", 2), 2, 0) is Age.OLD
    assert one.take(("path", 1), 1, 0) is Age.NEW


@pytest.mark.requirement("MPLA-4.10-01")
def test_a_number_of_integrity_is_new_once_and_for_its_key() -> None:
    replays = Replays()
    order = [(1, 100), (1, 100), (2, 100), (1, 37), (1, 37), (1, 36), (1, 164), (1, 100), (1, 101)]
    new = [replays.is_new(key, sequence) for key, sequence in order]
    assert new == [True, False, True, True, False, False, True, False, True]
    assert [replays.is_new(1, at) for at in (163, 165, 163, 1 << 64, 165)] == [
        True, True, False, True, False,
    ]  # fmt: skip
