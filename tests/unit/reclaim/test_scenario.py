"""The table of attacks: what must come of each, and how a difference is seen."""

from dataclasses import replace

import pytest

from powertcp.reclaim.accounts import Joules
from powertcp.reclaim.policy_text import parse_policy
from powertcp.reclaim.scenario import (
    AS_POSTED,
    NAMES,
    SCENARIOS,
    Amount,
    Check,
    Measured,
    Outcome,
    Scenario,
    exactly,
)

S1 = Joules(60_000_000_000, 0, 57_000_000_000, 3_000_000_000)


def outcome(joules: Joules, name: str = "S1", *checks: Check) -> Outcome:
    return Outcome(
        scenario=SCENARIOS[name],
        joules=joules,
        sent_uj=joules.in_uj,
        blocks=600,
        virtual_ns=60_000_000_000,
        rules=(),
        checks=checks,
    )


def test_the_table_has_ten_rows_and_its_policies_load() -> None:
    assert list(SCENARIOS) == [f"S{number}" for number in range(1, 11)]
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        for text in filter(None, (scenario.policy, scenario.reload)):
            assert len(parse_policy(text.encode(), name).rules) == 4


@pytest.mark.requirement("FWRL-5-01")
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_what_is_expected_adds_up(scenario: Scenario) -> None:
    """in = authorised + reclaimed + heat + out, in every row that is numbers."""
    wanted = {name: amount.field() for name, amount in scenario.expected}
    assert list(wanted) == list(NAMES)
    exact = {name: value for name, value in wanted.items() if isinstance(value, int)}
    parts = ("authorised_uj", "reclaimed_uj", "heat_uj", "out_uj")
    if all(name in exact for name in ("in_uj", *parts)):
        assert exact["in_uj"] == sum(exact[name] for name in parts)
    if scenario.name == "S10":
        # 3,600 = 3,789.474 - 189.474, to the mJ
        assert scenario.expected.reclaimed_uj.holds(-3_789_473_700)
        assert not scenario.expected.reclaimed_uj.holds(-3_789_474_501)


def test_an_amount_is_a_number_a_range_or_what_the_journal_says() -> None:
    assert exactly(5).holds(5)
    assert not exactly(5).holds(4)
    assert not exactly(5).holds(6)
    assert exactly(5).field() == 5
    bound = Amount(0, 100)
    assert bound.holds(0)
    assert bound.holds(100)
    assert not bound.holds(101)
    assert bound.field() == [0, 100]
    assert AS_POSTED.holds(-7)
    assert AS_POSTED.field() is None


def test_a_uj_more_or_less_of_anything_is_a_difference() -> None:
    assert outcome(S1).is_as_expected
    for name in NAMES:
        for more_uj in (1, -1):
            changed = replace(S1, **{name: getattr(S1, name) + more_uj})
            found = outcome(changed)
            assert found.differences == [name]
            assert not found.is_as_expected


def test_sums_that_leave_something_over_are_not_as_expected() -> None:
    # S9 takes what the journal says, as long as it adds up
    assert outcome(Joules(100, 0, 95, 5), "S9").is_as_expected
    assert not outcome(Joules(100, 0, 95, 4), "S9").is_as_expected


def test_a_check_that_does_not_hold_is_not_as_expected() -> None:
    assert outcome(S1, "S1", Check(True, "all well")).is_as_expected
    assert not outcome(S1, "S1", Check(True, "well"), Check(False, "not")).is_as_expected


def test_recovery_is_of_what_attacked() -> None:
    assert outcome(S1).recovery_ppm == 950_000
    assert outcome(replace(S1, in_uj=62_700_000_000, authorised_uj=2_700_000_000)).recovery_ppm == (
        950_000
    )
    assert outcome(Joules()).recovery_ppm is None


def test_real_work_is_told_by_the_banked_kilojoule() -> None:
    real = Measured(
        verdicts=1, verdict_p50_ns=1, verdict_p99_ns=1, cpu_ns=114_000_000, resident_octets=1
    )
    assert outcome(S1).cpu_ns_per_kj is None
    assert replace(outcome(S1), measured=real).cpu_ns_per_kj == 2_000_000
    assert replace(outcome(Joules()), measured=real).cpu_ns_per_kj is None
