"""Budget to flows: the sum, the order of classes, the equal level, determinism."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powertcp.potcp.allocate import Claim, allocate

claims = st.lists(
    st.tuples(st.integers(0, 15), st.integers(0, 50_000), st.integers(0, 50_000)), max_size=12
).map(
    lambda rows: [
        Claim(key, priority, key, minimum, minimum + more)
        for key, (priority, minimum, more) in enumerate(rows)
    ]
)


def test_everyone_gets_the_request_when_there_is_enough() -> None:
    flows = [Claim("a", 1, 0, 10, 100), Claim("b", 9, 1, 0, 50)]
    assert allocate(150, flows) == {"a": 100, "b": 50}


@pytest.mark.requirement("PTCP-7-06")
def test_minima_come_first_in_order_of_priority_and_age() -> None:
    flows = [Claim("late", 3, 9, 60, 60), Claim("old", 3, 1, 60, 60), Claim("best", 1, 20, 30, 90)]
    assert allocate(100, flows) == {"best": 40, "old": 60, "late": 0}


@pytest.mark.requirement("PTCP-7-06")
def test_a_smaller_minimum_fits_where_a_greater_one_did_not() -> None:
    flows = [Claim("big", 2, 0, 500, 500), Claim("small", 5, 1, 10, 20)]
    assert allocate(100, flows) == {"big": 0, "small": 20}


@pytest.mark.requirement("PTCP-7-06")
def test_a_class_is_filled_to_one_level_and_the_rest_goes_to_the_oldest() -> None:
    flows = [Claim("c", 4, 2, 0, 100), Claim("a", 4, 0, 0, 100), Claim("b", 4, 1, 0, 10)]
    assert allocate(101, flows) == {"a": 46, "b": 10, "c": 45}


@pytest.mark.requirement("PTCP-7-06")
def test_a_minimum_above_the_level_is_kept() -> None:
    flows = [Claim("a", 4, 0, 80, 100), Claim("b", 4, 1, 0, 100), Claim("c", 4, 2, 0, 100)]
    assert allocate(100, flows) == {"a": 80, "b": 10, "c": 10}


def test_priority_zero_is_handled_as_eight() -> None:
    flows = [
        Claim("unset", 0, 0, 0, 100),
        Claim("seven", 7, 5, 0, 100),
        Claim("nine", 9, 1, 0, 100),
    ]
    assert allocate(150, flows) == {"seven": 100, "unset": 50, "nine": 0}


def test_no_budget_and_no_flows() -> None:
    assert allocate(-5, [Claim("a", 1, 0, 0, 10)]) == {"a": 0}
    assert allocate(100, []) == {}


@pytest.mark.requirement("PTCP-7-06")
@settings(max_examples=300, deadline=None)
@given(budget=st.integers(0, 400_000), flows=claims)
def test_sum_order_and_determinism(budget: int, flows: list[Claim]) -> None:
    granted = allocate(budget, flows)
    assert sum(granted.values()) <= budget
    assert granted == allocate(budget, list(reversed(flows)))
    for claim in flows:
        mine = granted[claim.key]
        assert mine in (0, *range(claim.minimum_mw, claim.request_mw + 1))
    # no inversion: while a served flow is short of its request, no worse class is above its minimum
    short = [c for c in flows if granted[c.key] and granted[c.key] < c.request_mw]
    for better in short:
        for worse in flows:
            if worse.rank[0] > better.rank[0]:
                assert granted[worse.key] <= worse.minimum_mw


@settings(max_examples=200, deadline=None)
@given(budget=st.integers(0, 400_000), flows=claims)
def test_nothing_is_left_while_a_served_flow_is_short(budget: int, flows: list[Claim]) -> None:
    granted = allocate(budget, flows)
    left = budget - sum(granted.values())
    served = [c for c in flows if granted[c.key] > 0 or c.minimum_mw == 0]
    assert left == 0 or all(granted[c.key] == c.request_mw for c in served)
