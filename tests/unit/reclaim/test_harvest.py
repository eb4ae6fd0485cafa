"""One harvested flow: its integral, what of it may be banked, and the credit it is given."""

import pytest

from powertcp.dve import integrate_many
from powertcp.profile import PowerProfile, ProfileType
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.bucket import Bucket
from powertcp.reclaim.harvest import (
    DEFAULT_SAMPLING,
    GRANT_NS,
    OPEN_WINDOW_UJ,
    PEAK_MAX_MV,
    Harvest,
    Intake,
)
from powertcp.sources import Reservoir, ReservoirTerms, Split
from powertcp.units import NS_PER_S
from powertcp.wire.options import Sampling
from powertcp.wire.segments import DEMAND_MAX, Credit
from tests.conversation import profile, segments
from tests.screens import watts

J = 1_000_000
NOW = 5 * NS_PER_S


def intake(capacity_uj: int = 1_000_000 * J, **terms: object) -> Intake:
    given = {"name": "main", "capacity_uj": capacity_uj} | terms
    return Intake(Reservoir(ReservoirTerms(**given)), NOW)  # type: ignore[arg-type]


def harvest(into: Intake | None = None, limit: Bucket | None = None, **options: object) -> Harvest:
    account = FlowAccount("a/1", "a", NOW)
    return Harvest(1, account, into or intake(), limit, **options)  # type: ignore[arg-type]


def take(one: Harvest, volts_mv: int, current_ua: int, samples: int = 100, now: int = NOW) -> tuple[int, int]:  # fmt: skip
    [sums] = integrate_many([watts(volts_mv, current_ua, 0, samples)])
    return one.take(sums, now)


def grant(one: Harvest, now: int = NOW) -> Credit | None:
    octets = one.grant(now)
    if octets is None:
        return None
    (credit,) = segments(octets)
    assert isinstance(credit, Credit)
    return credit


# ---- what comes ---------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-07")
def test_samples_nobody_agreed_upon_are_millivolts_and_microamperes_at_a_kilohertz() -> None:
    one = harvest()
    assert one.sampling == DEFAULT_SAMPLING == Sampling(1000, 1_000_000, 1_000, 1, 0)
    assert take(one, 250_000, 4_000_000) == (100 * J, 100 * J)
    assert (one.esn_uj, one.power_mw) == (100 * J, 1_000_000)


@pytest.mark.requirement("FWRL-4-07")
def test_a_flow_goes_on_where_it_stood_at_its_own_sampling() -> None:
    one = harvest(sampling=Sampling(500), esn_uj=7 * J)
    assert take(one, 10_000, 1_000_000) == (2 * J, 2 * J)
    assert (one.esn_uj, one.power_mw) == (9 * J, 10_000)


@pytest.mark.requirement("FWRL-4-07")
@pytest.mark.parametrize("current_ua", [0, -1_000_000])
def test_a_block_that_draws_power_counts_for_nothing(current_ua: int) -> None:
    one = harvest()
    take(one, 10_000, 1_000_000)
    assert take(one, 10_000, current_ua) == (0, 0)
    assert (one.esn_uj, one.power_mw) == (J, 10_000)


@pytest.mark.requirement("FWRL-3-08")
@pytest.mark.parametrize(
    ("contract", "most_mv"),
    [
        (None, PEAK_MAX_MV),
        ("12V/1A", 13_200),
        ("230V/1A@50Hz", 357_811),
        ("5000V/1A", PEAK_MAX_MV),
    ],
)
def test_a_block_beyond_a_safe_voltage_is_heat_as_a_whole(
    contract: str | None, most_mv: int
) -> None:
    terms = profile(contract, ProfileType.GRANT) if contract is not None else None
    for volts_mv in (most_mv, -most_mv):
        amps_ua = 1_000_000 if volts_mv > 0 else -1_000_000
        beyond_mv = volts_mv + (1 if volts_mv > 0 else -1)
        came_uj, kept_uj = take(harvest(profile=terms), volts_mv, amps_ua)
        assert came_uj == kept_uj > 0
        came_uj, kept_uj = take(harvest(profile=terms), beyond_mv, amps_ua)
        assert came_uj > 0
        assert kept_uj == 0


def test_a_contract_without_a_voltage_has_the_limit_of_none() -> None:
    terms = PowerProfile.make(ProfileType.GRANT, 0, 0)
    assert take(harvest(profile=terms), PEAK_MAX_MV, 1_000_000)[1] > 0


@pytest.mark.requirement("FWRL-4-07", "FWRL-4-08")
def test_terms_that_come_later_hold_from_then_on() -> None:
    one = harvest()
    one.agree(Sampling(2000), profile("12V/1A", ProfileType.GRANT), 0)
    assert take(one, 12_000, 1_000_000) == (600_000, 600_000)
    assert take(one, 14_000, 1_000_000)[1] == 0


# ---- what may be banked -------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-06")
def test_what_was_not_granted_is_banked_as_far_as_there_is_room() -> None:
    into = intake(95, charge_percent=95)
    one = harvest(into)
    assert into.free_uj(NOW) == 100
    # 120 uJ came
    assert take(one, 1_200, 1_000, 100) == (120, 100)
    assert one.bank(100) == Split(95, 5)
    assert into.is_full
    assert take(one, 1_200, 1_000, 100) == (120, 0)


@pytest.mark.requirement("FWRL-4-05")
def test_not_more_is_banked_than_max_in_allows() -> None:
    one = harvest(intake(max_in_mw=1_000))
    # 2 s of 1 W at once, and 1 W from then on
    assert take(one, 100_000, 1_000_000) == (10 * J, 2 * J)
    assert take(one, 100_000, 1_000_000) == (10 * J, 0)
    assert take(one, 100_000, 1_000_000, now=NOW + NS_PER_S) == (10 * J, J)


@pytest.mark.requirement("FWRL-3-13")
def test_not_more_is_banked_than_the_rule_allows() -> None:
    one = harvest(limit=Bucket(1_000, 500_000, NOW))
    assert take(one, 100_000, 1_000_000) == (10 * J, 500_000)
    assert take(one, 100_000, 1_000_000, now=NOW + NS_PER_S // 4) == (10 * J, 250_000)


@pytest.mark.requirement("FWRL-4-06")
def test_what_was_granted_is_banked_whenever_it_comes() -> None:
    into = intake(max_in_mw=1_000)
    one = harvest(into)
    credit = grant(one)
    assert credit is not None
    assert (credit.limit_uj, into.promised_uj, into.free_uj(NOW)) == (2 * J, 2 * J, 0)
    assert take(one, 20_000, 1_000_000) == (2 * J, 2 * J)
    assert (into.promised_uj, one.credit_uj) == (0, 0)


# ---- credit -------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-06", "FWRL-4-09")
def test_credit_is_up_to_the_head_room_exactly() -> None:
    one = harvest(intake(95 * J, charge_percent=95), esn_uj=3 * J)
    credit = grant(one)
    assert credit == Credit(1, 3 * J, 103 * J, DEMAND_MAX)
    # there is nothing left to promise, until what was promised has come and is lost in part
    assert grant(one) is None
    take(one, 250_000, 4_000_000)
    one.bank(100 * J)
    assert grant(one) is None
    assert one.is_full


@pytest.mark.requirement("FWRL-4-06")
def test_all_flows_together_are_promised_what_there_is_room_for() -> None:
    into = intake(95 * J, charge_percent=95)
    one, two, three = (harvest(into) for _ in range(3))
    take(one, 10_000, 1_000_000)
    assert grant(one) is not None
    assert grant(two) is None
    assert two.get_timer() == NOW + GRANT_NS
    assert not two.is_full
    one.close()
    assert (into.promised_uj, one.credit_uj) == (0, 0)
    credit = grant(three, NOW + GRANT_NS)
    assert credit is not None
    assert credit.limit_uj == 100 * J


@pytest.mark.requirement("FWRL-4-06")
@pytest.mark.parametrize(
    ("max_in_mw", "limit_mw", "window_uj", "demand_mw"),
    [
        (None, None, OPEN_WINDOW_UJ, DEMAND_MAX),
        (3_000, None, 6 * J, 3_000),
        (None, 2_000, 4 * J, 2_000),
        (3_000, 2_000, 4 * J, 2_000),
        (1_000, 2_000, 2 * J, 1_000),
    ],
)
def test_a_window_is_two_seconds_of_what_is_stated(
    max_in_mw: int | None, limit_mw: int | None, window_uj: int, demand_mw: int
) -> None:
    limit = Bucket(limit_mw, 4 * J, NOW) if limit_mw else None
    one = harvest(intake(max_in_mw=max_in_mw), limit)
    assert grant(one) == Credit(1, 0, window_uj, demand_mw)
    # more when half of it is used, and no sooner
    assert grant(one, NOW + NS_PER_S) is None
    assert one.get_timer() is None


@pytest.mark.requirement("FWRL-4-06")
def test_half_a_window_later_there_is_more() -> None:
    one = harvest(intake(max_in_mw=1_000))
    grant(one)
    take(one, 10_000, 1_000_000, now=NOW + NS_PER_S)
    assert one.credit_uj == J
    credit = grant(one, NOW + NS_PER_S)
    assert credit == Credit(1, J, 3 * J, 1_000)


@pytest.mark.requirement("FWRL-4-06")
def test_less_than_half_a_window_is_granted_and_looked_at_again() -> None:
    one = harvest(limit=Bucket(1_000, 900_000, NOW))
    credit = grant(one)
    assert credit is not None
    assert credit.limit_uj == 900_000
    assert one.get_timer() == NOW + GRANT_NS
    credit = grant(one, NOW + GRANT_NS)
    assert credit is not None
    assert credit.limit_uj == J
    assert one.get_timer() == NOW + 2 * GRANT_NS
    one.refuse_at = NOW + 1
    assert one.get_timer() == NOW + 1


@pytest.mark.requirement("FWRL-4-06")
def test_small_grants_are_apart() -> None:
    one = harvest(limit=Bucket(1_000, 900_000, NOW))
    grant(one)
    take(one, 1_000, 1_000_000)
    soon = NOW + GRANT_NS - 1
    assert grant(one, soon) is None
    assert one.get_timer() == NOW + GRANT_NS
    assert grant(one, soon + 1) is not None
    assert one.get_timer() == NOW + 2 * GRANT_NS


def test_a_source_of_much_power_has_two_seconds_of_it() -> None:
    one = harvest()
    take(one, 1_000_000, 100_000_000)
    credit = grant(one)
    assert credit is not None
    assert credit.limit_uj - one.esn_uj == 200_000 * J


def test_a_counter_that_has_no_more_room_says_so() -> None:
    one = harvest(intake(2**62), esn_uj=2**64 - 10)
    credit = grant(one)
    assert credit is not None
    assert credit.limit_uj == 2**64 - 1


@pytest.mark.requirement("FWRL-4-02")
def test_a_reservoir_that_heats_is_never_full() -> None:
    into = intake(10, is_stopping=False)
    one = harvest(into)
    take(one, 1_000, 1_000_000)
    one.bank(100_000)
    assert into.reservoir.room_uj == 0
    assert (into.is_full, one.room_uj) == (False, 0)
    credit = grant(one)
    assert credit is not None
    assert credit.limit_uj == 100_000 + OPEN_WINDOW_UJ


# ---- another rule -------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-02")
def test_another_reservoir_takes_what_was_promised() -> None:
    one, old, new = harvest(first := intake(max_in_mw=1_000)), first, intake(name="other")
    grant(one)
    one.go_by(new, None)
    assert (one.reservoir, old.promised_uj, new.promised_uj) == ("other", 0, 2 * J)
    assert take(one, 20_000, 1_000_000) == (2 * J, 2 * J)
    assert new.promised_uj == 0


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-13")
def test_the_same_limit_again_is_no_new_burst_and_another_one_is() -> None:
    into = intake()
    one = harvest(into, Bucket(1_000, 2 * J, NOW))
    assert take(one, 20_000, 1_000_000) == (2 * J, 2 * J)
    one.go_by(into, Bucket(1_000, 2 * J, NOW))
    assert take(one, 20_000, 1_000_000) == (2 * J, 0)
    one.go_by(into, Bucket(1_000, J, NOW))
    assert take(one, 20_000, 1_000_000) == (2 * J, J)
    one.go_by(into, None)
    assert take(one, 20_000, 1_000_000) == (2 * J, 2 * J)
    one.go_by(into, Bucket(1_000, J, NOW))
    assert take(one, 20_000, 1_000_000) == (2 * J, J)


@pytest.mark.requirement("FWRL-3-02", "FWRL-4-05")
def test_terms_that_change_nothing_of_max_in_give_no_new_burst() -> None:
    into = intake(max_in_mw=1_000)
    into.promise(2 * J, NOW)
    into.forget(2 * J)
    into.change(NOW)
    assert (into.rate_mw, into.free_uj(NOW)) == (1_000, 0)
    into.reservoir.change(ReservoirTerms(name="main", capacity_uj=J, max_in_mw=3_000))
    into.change(NOW)
    assert (into.rate_mw, into.free_uj(NOW)) == (3_000, J * 100 // 95)
    into.reservoir.change(ReservoirTerms(name="main", capacity_uj=J))
    into.change(NOW)
    assert into.rate_mw is None


@pytest.mark.requirement("FWRL-4-06")
def test_a_register_beyond_64_bits_is_told_as_far_as_they_go() -> None:
    # a flow that went on where its source said: at the end of what a header holds
    one = harvest(esn_uj=(1 << 64) - 1)
    assert take(one, 250_000, 4_000_000) == (100 * J, 100 * J)
    credit = grant(one)
    assert credit is not None
    assert (credit.esn, credit.limit_uj) == ((1 << 64) - 1, (1 << 64) - 1)
