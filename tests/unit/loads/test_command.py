import pytest

from powertcp.errors import ConfigError
from powertcp.loads import (
    Ceiling,
    CommandLoad,
    Delivered,
    Ended,
    Fresh,
    Lease,
    Lost,
    Powered,
    Stale,
)
from powertcp.loads.command import Answers, OnShed, Orders, share_ppm
from powertcp.profile import PowerProfile

S = 1_000_000_000
POWERED = Powered(profile=PowerProfile.parse("10V/1A"), until_ns=60 * S, fallback_mw=1000)
SHED = Ceiling(limit_mw=2500, rated_mw=10_000)
WHOLE = Ceiling(limit_mw=10_000, rated_mw=10_000)


def test_power_starts_a_command_on_its_lease() -> None:
    assert Orders().obey(POWERED) == [
        ("lease", 60 * S),
        ("fallback", 100_000),
        ("share", 1_000_000),
        ("start", 0),
    ]


def test_a_ceiling_throttles_in_proportion() -> None:
    orders = Orders()
    orders.obey(POWERED)
    assert orders.obey(SHED) == [("share", 250_000)]
    assert orders.obey(WHOLE) == [("share", 1_000_000)]


def test_on_shed_stop_pauses_and_goes_on() -> None:
    orders = Orders(OnShed.STOP)
    orders.obey(POWERED)
    assert orders.obey(SHED) == [("share", 0)]
    assert orders.obey(WHOLE) == [("share", 1_000_000)]


def test_on_shed_term_ends() -> None:
    orders = Orders(OnShed.TERM, grace_ns=2 * S)
    orders.obey(POWERED)
    assert orders.obey(SHED) == [("end", 2000)]


def test_a_ceiling_never_wakes_what_lost_its_power() -> None:
    orders = Orders()
    assert orders.obey(WHOLE) == []
    orders.obey(POWERED)
    assert orders.obey(Lost(returning=True)) == [("share", 0)]
    assert orders.obey(WHOLE) == []


def test_power_that_does_not_return_ends_the_command() -> None:
    assert Orders().obey(Lost(returning=False)) == [("end", 5000)]
    assert Orders().obey(Ended()) == [("end", 5000)]


@pytest.mark.requirement("PTCP-5-03")
def test_a_silent_provider_changes_nothing() -> None:
    orders = Orders()
    orders.obey(POWERED)
    assert orders.obey(Stale()) == []
    assert orders.obey(Fresh()) == []
    assert orders.obey(Delivered(power_mw=1, energy_uj=1, total_uj=1)) == []


def test_a_lease_is_passed_on() -> None:
    assert Orders().obey(Lease(until_ns=77)) == [("lease", 77)]


def test_shares_are_whole_millionths() -> None:
    assert share_ppm(1, 3) == 333_333
    assert share_ppm(9, 3) == 1_000_000
    assert share_ppm(-1, 3) == 0
    assert share_ppm(1, 0) == 0


def test_one_string_is_split_as_a_shell_would() -> None:
    assert CommandLoad("sh -c 'exit 3'").argv == ["sh", "-c", "exit 3"]
    assert CommandLoad(["a b", "c"]).argv == ["a b", "c"]


@pytest.mark.parametrize("words", ["", [], "unclosed 'quote"])
def test_words_that_are_no_command_are_refused(words: str | list[str]) -> None:
    with pytest.raises(ConfigError, match="--run"):
        CommandLoad(words)


def test_an_unknown_reaction_to_shedding_is_refused() -> None:
    with pytest.raises(ConfigError, match="cap, stop, term"):
        CommandLoad("true", on_shed="panic")


def test_a_guard_owes_nothing_before_it_started_the_command() -> None:
    answers = Answers()
    answers.ordered(("lease", 5 * S), 0)
    answers.heard("guarding", 0)
    assert answers.due_ns() is None


@pytest.mark.requirement("PTCP-5-06")
def test_a_guard_has_a_second_to_say_that_the_lease_is_over() -> None:
    answers = Answers()
    answers.ordered(("lease", 5 * S), 0)
    answers.heard("started", 0)
    assert answers.due_ns() == 6 * S
    answers.ordered(("lease", 9 * S), 4 * S)
    assert answers.due_ns() == 10 * S
    answers.heard("lapsed", 9 * S)
    assert answers.due_ns() is None
    answers.ordered(("lease", 20 * S), 10 * S)
    answers.heard("restored", 10 * S)
    assert answers.due_ns() == 21 * S


def test_a_guard_has_a_second_to_hear_of_the_end_and_the_grace_to_end() -> None:
    answers = Answers()
    answers.heard("guarding", 0)
    answers.ordered(("end", 5000), 2 * S)
    answers.ordered(("end", 5000), 3 * S)
    assert answers.is_ending
    assert answers.due_ns() == 3 * S
    answers.heard("ending", 2 * S + 1)
    assert answers.due_ns() == 10 * S + 1


def test_a_guard_that_is_not_up_yet_has_time_to_hear_of_the_end() -> None:
    answers = Answers()
    answers.ordered(("end", 5000), 2 * S)
    assert answers.due_ns() == 10 * S
