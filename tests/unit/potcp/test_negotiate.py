"""What a source answers: the grant, the counter-offers, the refusal with its numbers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powertcp.potcp.events import Ask
from powertcp.potcp.negotiate import MAX_OFFERS, choose
from powertcp.profile import FREQUENCY_ANY, PowerProfile, ProfileType, in_range
from powertcp.registry import Reason

MAINS = PowerProfile.parse("230V/16A@50Hz")
BENCH = PowerProfile.parse("12V/5A")
USB = PowerProfile.parse("5V/3A")
PLENTY_MW = 10_000_000


def ask(request: str, minimum: str | None = None, tag: int = 7) -> Ask:
    desired = PowerProfile.parse(request).with_type(ProfileType.REQUEST, tag=tag)
    if minimum is None:
        return Ask(desired)
    return Ask(desired, PowerProfile.parse(minimum).with_type(ProfileType.MINIMUM, tag=tag))


@pytest.mark.requirement("PTCP-4-01")
def test_an_exact_request_is_granted_exactly() -> None:
    choice = choose([ask("12V/1.5A,prio=2")], [USB, BENCH, MAINS], PLENTY_MW)
    assert choice.grant is not None
    assert choice.refusal is None
    assert choice.supply_index == 1
    assert choice.grant.type is ProfileType.GRANT
    assert (choice.grant.voltage_mv, choice.grant.current_ma) == (12_000, 1_500)
    assert (choice.grant.priority, choice.grant.tag, choice.grant.lease_s) == (2, 7, 0)


@pytest.mark.requirement("PTCP-4-02")
def test_the_first_pair_that_can_be_served_wins_and_in_it_the_greatest_power() -> None:
    asks = [ask("48V/1A"), ask("12V/2A", "5V/0.5A"), ask("5V/3A")]
    choice = choose(asks, [USB, BENCH], PLENTY_MW)
    assert choice.grant is not None
    assert choice.grant.power_mw == 24_000
    assert choice.supply_index == 1


@pytest.mark.requirement("PTCP-4-02")
def test_equal_power_goes_to_the_voltage_nearest_the_request_then_to_the_first_supply() -> None:
    low, high = PowerProfile.parse("10V/2A"), PowerProfile.parse("20V/1A")
    choice = choose([ask("20V/2A", "5V/0.1A")], [low, high, high], 20_000)
    assert choice.supply_index == 1


@pytest.mark.requirement("PTCP-4-01")
def test_within_a_range_the_budget_decides_the_current() -> None:
    choice = choose([ask("12V/5A", "12V/1A")], [BENCH], 30_000)
    assert choice.grant is not None
    assert choice.grant.power_mw == 30_000


def test_what_is_left_of_a_supply_decides_the_current() -> None:
    choice = choose([ask("12V/5A", "12V/1A")], [BENCH], PLENTY_MW, [1_200])
    assert choice.grant is not None
    assert choice.grant.current_ma == 1_200


@pytest.mark.requirement("PTCP-4-01")
@pytest.mark.requirement("PTCP-4-07")
def test_an_exact_request_is_never_clamped_but_offered_less() -> None:
    choice = choose([ask("12V/5A")], [BENCH], 30_000)
    assert choice.grant is None
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.NO_CAPACITY
    assert (choice.refusal.value, choice.refusal.limit) == (60_000, 30_000)
    offer, minimum = choice.offers[0]
    assert (offer.type, offer.current_ma, minimum) == (ProfileType.OFFER, 2_500, None)
    assert choice.offer_supplies == (0,)
    assert choice.best is not None
    assert choice.best.type is ProfileType.REFUSE


def test_another_voltage_is_refused_with_both_numbers() -> None:
    choice = choose([ask("12V/1A")], [MAINS], PLENTY_MW)
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.VOLTAGE_RANGE
    assert (choice.refusal.value, choice.refusal.limit) == (12_000, 230_000)
    assert choice.offers == ()
    assert choice.best is not None
    assert choice.best.current_ma == 0


def test_a_voltage_limit_names_a_supply_of_the_same_kind() -> None:
    choice = choose([ask("12V/1A")], [PowerProfile.parse("11V/1A@50Hz"), USB], PLENTY_MW)
    assert choice.refusal is not None
    assert choice.refusal.limit == 5_000
    assert choice.offers[0][0].voltage_mv == 5_000


@pytest.mark.parametrize("other", ["12V/5A@50Hz", "12V/5A/wye"])
def test_another_waveform_or_arrangement_is_refused(other: str) -> None:
    choice = choose([ask("12V/1A")], [PowerProfile.parse(other)], PLENTY_MW)
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.WAVEFORM
    assert other in choice.refusal.text


def test_another_frequency_is_refused_and_any_frequency_is_served() -> None:
    assert choose([ask("230V/1A@60Hz")], [MAINS], PLENTY_MW).grant is None
    choice = choose([ask("230V/1A@any")], [MAINS], PLENTY_MW)
    assert choice.grant is not None
    assert choice.grant.frequency_chz == 5_000 != FREQUENCY_ANY


def test_more_current_than_a_supply_ever_has_names_the_current() -> None:
    choice = choose([ask("12V/6A")], [BENCH], PLENTY_MW)
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.CURRENT_RANGE
    assert (choice.refusal.value, choice.refusal.limit) == (6_000, 5_000)


def test_no_supply_at_all() -> None:
    choice = choose([ask("12V/6A")], [], PLENTY_MW)
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.NO_CAPACITY


def test_a_negative_budget_grants_nothing() -> None:
    choice = choose([ask("12V/1A", "12V/0.1A")], [BENCH], -1)
    assert choice.grant is None
    assert choice.offers == ()
    assert choice.refusal is not None
    assert choice.refusal.limit == 0


@pytest.mark.requirement("PTCP-4-06")
@pytest.mark.parametrize(("lease", "limit"), [("4s", 5), ("3952s", 3600)])
def test_a_lease_out_of_range_is_refused(lease: str, limit: int) -> None:
    choice = choose([ask(f"12V/1A,lease={lease}")], [BENCH], PLENTY_MW)
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.LEASE_RANGE
    assert choice.refusal.limit == limit


@pytest.mark.requirement("PTCP-4-06")
@pytest.mark.parametrize(("lease", "granted"), [("5s", 5), ("3696s", 3568)])
def test_a_lease_in_range_is_granted_as_the_octet_says(lease: str, granted: int) -> None:
    choice = choose([ask(f"12V/1A,lease={lease}")], [BENCH], PLENTY_MW)
    assert choice.grant is not None
    assert choice.grant.lease_s == granted


def test_a_counter_offer_has_at_most_eight_pairs() -> None:
    many = [PowerProfile.parse(f"{volts}V/1A") for volts in range(20, 40)]
    choice = choose([ask("12V/1A")], many, PLENTY_MW)
    assert len(choice.offers) == len(choice.offer_supplies) == MAX_OFFERS
    assert choice.offers[0][0].voltage_mv == 20_000


profiles = st.builds(
    lambda volts, milliamps, hertz: PowerProfile.make(
        ProfileType.REQUEST,
        volts * 1000,
        milliamps,
        waveform=1 if hertz else 0,
        frequency_chz=hertz * 100,
    ),
    st.sampled_from([5, 9, 12, 230, 220_000]),
    st.integers(0, 2_000_000),
    st.sampled_from([0, 50]),
)


@pytest.mark.requirement("PTCP-4-01")
@settings(max_examples=300, deadline=None)
@given(
    desired=profiles,
    share=st.integers(0, 100),
    supplies=st.lists(profiles, max_size=4),
    budget=st.integers(0, 10**9),
)
def test_a_grant_is_in_range_in_budget_and_in_supply(
    desired: PowerProfile, share: int, supplies: list[PowerProfile], budget: int
) -> None:
    minimum = desired.with_type(
        ProfileType.MINIMUM, voltage_mv=desired.voltage_mv // 2,
        current_ma=desired.current_ma * share // 100,
    )  # fmt: skip
    choice = choose([Ask(desired, minimum)], supplies, budget)
    assert (choice.grant is None) == (choice.refusal is not None)
    for offer, _ in choice.offers:
        assert offer.power_mw <= budget
    if choice.grant is not None:
        assert in_range(choice.grant, desired, minimum)
        assert choice.grant.power_mw <= budget
        assert choice.grant.current_ma <= supplies[choice.supply_index].current_ma
        assert PowerProfile.from_wire(choice.grant.to_wire()) == choice.grant
