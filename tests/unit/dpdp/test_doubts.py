"""Removals: each is asked for once, sixteen at a time, and nobody is asked for all the time."""

import pytest

from powertcp.dpdp.doubts import MAX_ASKED, SPACING_NS, VERIFY_NS, Doubts
from powertcp.units import NS_PER_S

pytestmark = pytest.mark.requirement("DPDP-4-05")


def test_a_removal_is_asked_for_at_once_and_lost_when_nobody_answers() -> None:
    doubts = Doubts()
    assert doubts.get_timer() is None
    assert doubts.due(0) == ([], [])
    doubts.doubt("a", 1)
    doubts.doubt("a", 1)
    assert doubts.get_timer() == 1
    assert doubts.due(1) == (["a"], [])
    doubts.doubt("a", 2)
    assert "a" in doubts
    assert doubts.get_timer() == 1 + VERIFY_NS
    assert doubts.due(VERIFY_NS) == ([], [])
    assert doubts.due(1 + VERIFY_NS) == ([], ["a"])
    assert "a" not in doubts
    assert doubts.get_timer() is None


def test_who_is_heard_again_is_in_doubt_no_more() -> None:
    doubts = Doubts()
    doubts.doubt("a", 0)
    doubts.settle("a")
    assert doubts.due(0) == ([], [])
    doubts.doubt("b", 0)
    assert doubts.due(0) == (["b"], [])
    doubts.settle("b")
    doubts.settle("b")
    assert doubts.due(VERIFY_NS) == ([], [])


def test_goodbyes_that_others_send_cost_one_query_in_two_seconds() -> None:
    doubts, asked = Doubts(), 0
    for tenth in range(600):
        now = tenth * NS_PER_S // 10
        doubts.doubt("a", now)
        found, lost = doubts.due(now)
        assert not lost
        asked += len(found)
        if found:
            doubts.settle("a")
    assert asked == 60 * NS_PER_S // SPACING_NS


def test_a_goodbye_between_is_not_forgotten() -> None:
    doubts = Doubts()
    doubts.doubt("a", 0)
    doubts.due(0)
    doubts.settle("a")
    assert doubts.due(1) == ([], [])
    doubts.doubt("a", 1)
    assert doubts.due(SPACING_NS - 1) == ([], [])
    assert doubts.get_timer() == SPACING_NS
    assert doubts.due(SPACING_NS) == (["a"], [])


def test_the_first_deadline_is_told() -> None:
    doubts = Doubts()
    doubts.doubt("a", 0)
    doubts.due(0)
    doubts.settle("a")
    doubts.doubt("a", 1)
    doubts.doubt("b", 2)
    assert doubts.get_timer() == 2
    assert doubts.due(2) == (["b"], [])
    assert doubts.get_timer() == SPACING_NS
    assert doubts.due(SPACING_NS) == (["a"], [])
    assert doubts.get_timer() == 2 + VERIFY_NS


@pytest.mark.parametrize("count", [MAX_ASKED, MAX_ASKED + 1])
def test_no_more_queries_at_a_time_than_the_bound(count: int) -> None:
    doubts = Doubts()
    names = [f"{number}" for number in range(count)]
    for name in names:
        doubts.doubt(name, 0)
    assert doubts.due(0) == (names[:MAX_ASKED], [])
    assert doubts.due(0) == ([], [])
    assert doubts.get_timer() == VERIFY_NS
    doubts.settle(names[0])
    assert doubts.due(1) == (names[MAX_ASKED:], [])
    assert doubts.due(VERIFY_NS + 1) == ([], names[1:])


def test_all_may_be_settled_at_once() -> None:
    doubts = Doubts()
    doubts.doubt("a", 0)
    doubts.due(0)
    doubts.doubt("b", 0)
    doubts.clear()
    doubts.doubt("a", 0)
    assert doubts.due(0) == (["a"], [])
