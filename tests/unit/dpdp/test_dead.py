"""Addresses at which nobody answered: how long they are left alone, and how many are remembered."""

from itertools import pairwise

import pytest

from powertcp.dpdp.dead import FIRST_NS, LONGEST_NS, MAX_DEAD, MAX_GONE, PARDON_NS, DeadList
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


def test_news_lets_an_address_be_tried_now_and_the_next_pause_is_no_shorter() -> None:
    dead = DeadList()
    dead.failed(ID, HERE, 0)
    dead.pardon(ID, [HERE, THERE], 5)
    assert dead.alive(ID, [HERE], 5) == ((HERE,), 0)
    dead.failed(ID, HERE, 6)
    assert dead.alive(ID, [HERE], 6) == ((), 6 + 2 * FIRST_NS)


def test_who_announces_itself_in_a_loop_is_asked_once_in_30_s() -> None:
    dead, asked = DeadList(), []
    second = NS_PER_S // 2
    for now in range(0, 3600 * NS_PER_S, second):
        if dead.alive(ID, [HERE], now)[0]:
            asked.append(now)
            dead.failed(ID, HERE, now)
        dead.pardon(ID, [HERE], now)
    pauses = [later - before for before, later in pairwise(asked)]
    # the first pardon is at once; a SYN is due 30 s after the one before, whatever is announced
    assert pauses[0] == second
    assert min(pauses[1:]) >= PARDON_NS - second
    assert len(asked) <= 2 + 3600 * NS_PER_S // PARDON_NS


def test_news_within_30_s_of_a_pardon_is_heeded_when_they_are_over() -> None:
    dead = DeadList()
    dead.failed(ID, HERE, 0)
    dead.pardon(ID, [HERE], 1)
    dead.failed(ID, HERE, 2)
    for now in (3, 4):
        dead.pardon(ID, [HERE], now)
        assert dead.alive(ID, [HERE], now) == ((), 1 + PARDON_NS)
    # one id cannot spend the pardons of another
    dead.failed(OTHER_ID, HERE, 4)
    dead.pardon(OTHER_ID, [HERE], 5)
    assert dead.alive(OTHER_ID, [HERE], 5) == ((HERE,), 0)


def test_news_never_makes_a_pause_longer() -> None:
    dead = DeadList()
    dead.failed(ID, HERE, 0)
    dead.pardon(ID, [HERE], FIRST_NS - 9)
    dead.failed(ID, THERE, FIRST_NS - 8)
    until = 2 * FIRST_NS - 8
    # the next pardon would be a moment before
    dead.pardon(ID, [THERE], until - 10)
    assert dead.alive(ID, [THERE], until - 10) == ((), until - 1)
    dead.pardon(ID, [THERE], until - 1)
    assert dead.alive(ID, [THERE], until - 1) == ((THERE,), 0)


def test_who_left_and_came_back_is_pardoned_and_who_was_there_is_not() -> None:
    dead = DeadList()
    dead.failed(ID, HERE, 0)
    dead.came(ID, [HERE], 1)
    assert dead.alive(ID, [HERE], 1)[0] == ()
    dead.gone(ID)
    dead.came(OTHER_ID, [HERE], 2)
    assert dead.alive(ID, [HERE], 2)[0] == ()
    dead.came(ID, [HERE], 3)
    assert dead.alive(ID, [HERE], 3)[0] == (HERE,)
    dead.failed(ID, HERE, 4)
    dead.came(ID, [HERE], 5 + PARDON_NS)
    assert dead.alive(ID, [HERE], 5 + PARDON_NS)[0] == ()


@pytest.mark.parametrize("count", [MAX_GONE, MAX_GONE + 1])
def test_above_the_bound_who_left_longest_ago_is_forgotten(count: int) -> None:
    dead = DeadList()
    dead.failed(bytes(16), HERE, 0)
    for number in range(count):
        dead.gone(number.to_bytes(16, "big"))
    dead.came(bytes(16), [HERE], 1)
    assert dead.alive(bytes(16), [HERE], 1)[0] == ((HERE,) if count == MAX_GONE else ())
