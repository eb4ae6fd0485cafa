"""Addresses at which nobody answered: how long they are left alone, and how many are remembered."""

import pytest

from powertcp.dpdp.dead import FIRST_NS, LONGEST_NS, MAX_DEAD, DeadList
from powertcp.dpdp.entry import Address
from powertcp.units import NS_PER_S

ID, OTHER_ID = bytes(16), bytes([1]) * 16
HERE, THERE = Address("10.0.0.7", "", 3251), Address("10.0.0.8", "", 3251)
pytestmark = pytest.mark.requirement("DPDP-4-06")


def test_each_time_it_is_left_alone_for_twice_as_long_and_one_hour_at_most() -> None:
    dead, now, pauses = DeadList(), 7, []
    for _ in range(9):
        dead.failed(ID, HERE, now)
        alive, until = dead.alive(ID, [HERE], now)
        assert alive == ()
        pauses.append((until - now) // NS_PER_S)
        assert dead.alive(ID, [HERE], until - 1) == ((), until)
        assert dead.alive(ID, [HERE], until) == ((HERE,), 0)
        now = until
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert (FIRST_NS, LONGEST_NS) == (30 * NS_PER_S, 3600 * NS_PER_S)


def test_two_attempts_at_one_time_count_once() -> None:
    dead = DeadList()
    dead.failed(ID, HERE, 0)
    dead.failed(ID, HERE, FIRST_NS - 1)
    assert dead.alive(ID, [HERE], 0) == ((), FIRST_NS)


def test_a_flow_clears_what_was_held_against_an_address() -> None:
    dead = DeadList()
    for now in (0, FIRST_NS):
        dead.failed(ID, HERE, now)
    dead.succeeded(ID, HERE)
    dead.succeeded(ID, THERE)
    assert dead.alive(ID, [HERE], FIRST_NS) == ((HERE,), 0)
    dead.failed(ID, HERE, 2 * FIRST_NS)
    assert dead.alive(ID, [HERE], 2 * FIRST_NS) == ((), 3 * FIRST_NS)


def test_what_is_dead_is_an_address_of_an_id() -> None:
    dead = DeadList()
    dead.failed(ID, HERE, 0)
    dead.failed(ID, THERE, 5)
    assert dead.alive(OTHER_ID, [HERE], 9) == ((HERE,), 0)
    assert dead.alive(ID, [THERE, HERE], 9) == ((), FIRST_NS)
    assert dead.alive(ID, [THERE, HERE], FIRST_NS) == ((HERE,), FIRST_NS + 5)


@pytest.mark.parametrize("count", [MAX_DEAD, MAX_DEAD + 1])
def test_above_the_bound_the_one_that_failed_longest_ago_is_forgotten(count: int) -> None:
    dead = DeadList()
    for number in range(count):
        dead.failed(number.to_bytes(16, "big"), HERE, number)
    assert len(dead) == MAX_DEAD
    is_forgotten = count > MAX_DEAD
    assert dead.alive(bytes(16), [HERE], count)[0] == ((HERE,) if is_forgotten else ())
    assert dead.alive((count - 1).to_bytes(16, "big"), [HERE], count)[0] == ()


def test_who_failed_again_is_remembered_longer_than_who_failed_once() -> None:
    dead = DeadList()
    for number in range(MAX_DEAD):
        dead.failed(number.to_bytes(16, "big"), HERE, number)
    dead.failed(bytes(16), HERE, FIRST_NS)
    dead.failed(b"\xff" * 16, HERE, FIRST_NS)
    assert dead.alive(bytes(16), [HERE], FIRST_NS) == ((), 3 * FIRST_NS)
    assert dead.alive((1).to_bytes(16, "big"), [HERE], FIRST_NS) == ((HERE,), 0)
