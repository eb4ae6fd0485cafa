"""What one flow holds: rounded up, changed rarely, ranked by class and age."""

import pytest

from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.sources.holding import (
    CHANGES_PER_MINUTE,
    DWELL_NS,
    Holding,
    Waiting,
    held_mw,
    hold,
    range_of,
    rank_of,
    with_power,
    worst_first,
)
from powertcp.units import NS_PER_S

S = NS_PER_S


def terms(text: str, kind: ProfileType = ProfileType.REQUEST) -> PowerProfile:
    return PowerProfile.parse(text, kind)


def holding(text: str = "12V/1A", age: int = 1) -> Holding:
    profile = terms(text)
    return Holding("a", b"peer", age, profile, held_mw(profile), ((2, 1_000),), profile, None)


@pytest.mark.parametrize(
    ("text", "mw"),
    [
        ("12V/1A", 12_000),
        ("3.333V/0.001A", 4),  # 3.333 mW: held in full, never below what may flow
        ("5V/0A", 0),
        ("230V/16A@50Hz/wye", 11_040_000),
    ],
)
def test_the_power_held_is_rounded_up(text: str, mw: int) -> None:
    assert held_mw(terms(text)) == mw
    assert held_mw(terms(text)) >= terms(text).power_mw


@pytest.mark.requirement("PTCP-7-07")
def test_a_flow_rests_five_seconds_between_changes() -> None:
    one = holding()
    assert one.may_change(0)
    one.note_change(10 * S)
    assert not one.may_change(10 * S + DWELL_NS - 1)
    assert one.may_change(10 * S + DWELL_NS)


@pytest.mark.requirement("PTCP-7-07")
def test_six_changes_in_a_minute_and_the_seventh_a_minute_after_the_first() -> None:
    one = holding()
    for count in range(CHANGES_PER_MINUTE):
        assert one.may_change(count * DWELL_NS)
        one.note_change(count * DWELL_NS)
    assert not one.may_change(60 * S - 1)
    assert one.may_change(60 * S)
    one.note_change(60 * S)
    # only the last six count
    assert len(one.changed) == CHANGES_PER_MINUTE
    assert one.changed[0] == DWELL_NS


def test_holding_other_terms_replaces_amperes_and_power() -> None:
    one = holding()
    assert one.supply == 2
    hold(one, terms("5V/3A"), 1)
    assert (one.mw, one.amps, one.supply) == (15_000, ((1, 3_000),), 1)


@pytest.mark.parametrize("power_mw", [0, 11, 12, 13, 11_999, 12_000, 12_001])
def test_terms_of_a_power_never_hold_more_than_it(power_mw: int) -> None:
    offer = with_power(terms("12V/5A,prio=3"), power_mw)
    assert offer.type is ProfileType.OFFER
    assert offer.priority == 3
    assert power_mw - 12 < held_mw(offer) <= power_mw


def test_the_range_of_a_grant_is_the_first_that_holds_it() -> None:
    wide = Ask(terms("12V/2A"), terms("9V/1A", ProfileType.MINIMUM))
    exact = Ask(terms("5V/1A"))
    grant = terms("12V/1.5A", ProfileType.GRANT)
    assert range_of([exact, wide], grant) == tuple(wide)
    assert range_of([exact, wide], terms("5V/1A", ProfileType.GRANT)) == tuple(exact)
    alone = terms("230V/1A@50Hz", ProfileType.GRANT)
    assert range_of([exact, wide], alone) == (alone, None)


def test_best_class_first_among_those_that_wait_and_worst_first_among_those_that_hold() -> None:
    waiting = [
        Waiting(text, [Ask(terms(text))], b"", age, 0)
        for age, text in enumerate(["12V/1A", "12V/1A,prio=9", "12V/1A,prio=2", "12V/2A"])
    ]
    assert [one.age for one in sorted(waiting, key=rank_of)] == [2, 0, 3, 1]
    held = [holding(one.asks[0].desired.format(), one.age) for one in waiting]
    assert [one.age for one in sorted(held, key=worst_first)] == [1, 3, 0, 2]
