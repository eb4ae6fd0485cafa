"""When a provider is left: each reason, what it waits for, and what undoes it."""

import pytest

from powertcp.dpdp.roam import (
    BETTER_NS,
    GOODBYE_NS,
    MAX_BETTER,
    VOLUNTARY_NS,
    Cause,
    Move,
    Roam,
    Roaming,
)
from powertcp.units import NS_PER_S

S = NS_PER_S


def spoilt(policy: Roam) -> Roaming:
    """Return the state of a provider against which everything speaks since 0 s."""
    one = Roaming(policy)
    one.stale(S, 0)
    one.goodbye(0)
    one.drained()
    one.carried(False)
    one.better(["a"], 0)
    return one


@pytest.mark.requirement("DPDP-10-03")
def test_never_is_never() -> None:
    one = spoilt(Roam.NEVER)
    assert one.decide(100 * S) is None
    assert one.get_timer() is None


@pytest.mark.requirement("DPDP-10-03")
def test_silence_counts_from_two_intervals_on_and_ends_with_an_answer() -> None:
    one = Roaming(Roam.NEEDED)
    one.stale(3 * S, 10 * S)
    one.stale(3 * S, 14 * S)
    assert one.get_timer() == 16 * S
    assert one.decide(16 * S - 1) is None
    assert one.decide(16 * S) == Move(Cause.SILENT)
    assert one.may_cross(Cause.SILENT, 17 * S) is True
    one.fresh()
    assert one.decide(20 * S) is None
    assert one.may_cross(Cause.SILENT, 20 * S) is False


@pytest.mark.requirement("DPDP-10-03")
def test_a_goodbye_is_prepared_for_and_heeded_when_it_is_true() -> None:
    one = Roaming(Roam.NEEDED)
    one.goodbye(5 * S)
    assert one.decide(5 * S) == Move(Cause.GOODBYE)
    assert one.may_cross(Cause.GOODBYE, 5 * S) is None
    assert one.get_timer() == 5 * S + GOODBYE_NS
    one.gone()
    assert one.may_cross(Cause.GOODBYE, 6 * S) is True
    assert one.decide(60 * S) == Move(Cause.GOODBYE)
    one.returned()
    assert one.decide(60 * S) is None


@pytest.mark.requirement("DPDP-10-03")
def test_a_goodbye_that_nothing_comes_of_is_prepared_for_once_in_30_s() -> None:
    one = Roaming(Roam.NEEDED)
    one.goodbye(0)
    assert one.may_cross(Cause.GOODBYE, GOODBYE_NS) is False
    assert one.decide(GOODBYE_NS) is None
    one.goodbye(VOLUNTARY_NS - 1)
    assert one.decide(VOLUNTARY_NS - 1) is None
    one.goodbye(VOLUNTARY_NS)
    assert one.decide(VOLUNTARY_NS) == Move(Cause.GOODBYE)


@pytest.mark.requirement("DPDP-10-03")
def test_601_and_a_link_that_is_lost_are_reasons_at_once() -> None:
    one = Roaming(Roam.NEEDED)
    one.goodbye(0)
    one.drained()
    assert one.decide(0) == Move(Cause.DRAINED)
    assert one.may_cross(Cause.GOODBYE, 0) is True
    other = Roaming(Roam.NEEDED)
    other.carried(False)
    assert other.decide(0) == Move(Cause.LINK)
    assert other.may_cross(Cause.LINK, 0) is True
    other.carried(True)
    assert other.decide(0) is None


@pytest.mark.requirement("DPDP-10-03")
def test_who_is_better_without_interruption_for_10_s_is_moved_to_only_if_asked_for() -> None:
    needed, better = Roaming(Roam.NEEDED), Roaming(Roam.BETTER)
    for one in (needed, better):
        one.better(["a", "b"], 0)
        one.better(["b", "a"], 4 * S)
    assert needed.decide(BETTER_NS) is None
    assert better.get_timer() == BETTER_NS
    assert better.decide(BETTER_NS - 1) is None
    assert better.decide(BETTER_NS) == Move(Cause.BETTER, ("b", "a"))
    assert better.may_cross(Cause.BETTER, BETTER_NS) is True


@pytest.mark.requirement("DPDP-10-03")
def test_an_interruption_begins_the_10_s_anew_for_who_was_interrupted() -> None:
    one = Roaming(Roam.BETTER)
    one.better(["a", "b"], 0)
    one.better(["b"], 5 * S)
    one.better(["a", "b"], 6 * S)
    assert one.decide(10 * S) == Move(Cause.BETTER, ("b",))
    assert one.decide(16 * S) == Move(Cause.BETTER, ("a", "b"))


@pytest.mark.requirement("DPDP-10-03")
def test_between_two_changes_of_choice_are_30_s_but_not_before_one_of_need() -> None:
    one = Roaming(Roam.BETTER)
    one.arrived(Cause.BETTER, 100 * S)
    one.better(["a"], 101 * S)
    assert one.decide(129 * S) is None
    assert one.get_timer() == 130 * S
    assert one.decide(130 * S) == Move(Cause.BETTER, ("a",))
    one.drained()
    assert one.decide(112 * S) == Move(Cause.DRAINED)


def test_who_arrives_begins_anew() -> None:
    one = spoilt(Roam.BETTER)
    one.arrived(None, 50 * S)
    assert one.decide(100 * S) is None
    assert one.get_timer() is None
    assert not one.is_watched("a")


def test_the_better_ones_that_are_watched_are_bounded() -> None:
    one = Roaming(Roam.BETTER)
    one.better([f"{number}" for number in range(MAX_BETTER + 1)], 0)
    assert one.is_watched(f"{MAX_BETTER - 1}")
    assert not one.is_watched(f"{MAX_BETTER}")


def test_each_reason_has_a_sentence() -> None:
    assert all(cause.sentence for cause in Cause)
