"""Two ranges of power: what they have in common, what keeps them apart, what can be expected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.dpdp.advert import Offer
from powertcp.dpdp.ranges import Ask, Misfit, Overlap, format_asked, overlap
from powertcp.dpdp.why import Why
from powertcp.profile import PowerProfile, ProfileType, in_range
from tests.adverts import ask, offer, power

BENCH = offer("12V/3A", "5V/0A")
LAMP = ask("12V/1.5A", "5V/0.5A")


def common(found: Overlap | Misfit) -> Overlap:
    assert isinstance(found, Overlap)
    return found


def apart(found: Overlap | Misfit) -> Misfit:
    assert isinstance(found, Misfit)
    return found


@pytest.mark.requirement("DPDP-6-04")
@pytest.mark.parametrize(
    ("offered", "asked", "corners", "is_full"),
    [
        (BENCH, LAMP, (5_000, 12_000, 500, 1_500), True),
        (offer("12V/5A"), LAMP, (12_000, 12_000, 500, 1_500), True),
        (offer("9V/5A"), LAMP, (9_000, 9_000, 500, 1_500), False),
        (offer("12V/1A", "5V/0A"), LAMP, (5_000, 12_000, 500, 1_000), False),
        (offer("20V/5A", "9V/1A"), LAMP, (9_000, 12_000, 1_000, 1_500), True),
        (BENCH, ask("12V/3A"), (12_000, 12_000, 3_000, 3_000), True),
        (BENCH, ask("5V/1A"), (5_000, 5_000, 1_000, 1_000), True),
        (offer("230V/16A@50Hz"), ask("230V/1A@any"), (230_000, 230_000, 1_000, 1_000), True),
    ],
)
def test_what_two_ranges_have_in_common(
    offered: Offer, asked: Ask, corners: tuple[int, ...], is_full: bool
) -> None:
    found = common(overlap(offered, asked))
    assert (found.least_mv, found.most_mv, found.least_ma, found.most_ma) == corners
    assert found.is_full == is_full


@pytest.mark.requirement("DPDP-6-04")
@pytest.mark.parametrize(
    ("offered", "asked", "why", "gap", "sentence"),
    [
        ("230V/16A@50Hz", LAMP, Why.VOLTAGE, 218_000, "offers 230 V, asked 5 V to 12 V"),
        ("12V/5A", ask("20V/1A"), Why.VOLTAGE, 8_000, "offers 12 V, asked 20 V"),
        ("12V/1A", ask("12V/2A", "5V/1.5A"), Why.CURRENT, 500, "up to 1 A, asked at least 1.5 A"),
        ("12V/1A", ask("12V/2A"), Why.CURRENT, 1_000, "offers up to 1 A, asked at least 2 A"),
        ("12V/1A@50Hz", LAMP, Why.WAVEFORM, 0, "offers AC, asked DC"),
        ("12V/1A@50Hz/wye", ask("12V/1A@50Hz"), Why.WAVEFORM, 0, "offers AC wye, asked AC"),
        ("12V/1A/arbitrary", ask("12V/1A/by-id"), Why.WAVEFORM, 0, "as its profile says"),
        ("12V/1A@50Hz", ask("12V/1A@60Hz"), Why.FREQUENCY, 1_000, "offers 50 Hz, asked 60 Hz"),
    ],
)
def test_what_keeps_two_ranges_apart(
    offered: str, asked: Ask, why: Why, gap: int, sentence: str
) -> None:
    found = apart(overlap(OFFERED[offered], asked))
    assert (found.finding.why, found.gap) == (why, gap)
    assert sentence in found.finding.sentence


OFFERED = {
    text: offer(text)
    for text in (
        "230V/16A@50Hz",
        "12V/5A",
        "12V/1A",
        "12V/1A@50Hz",
        "12V/1A@50Hz/wye",
        "12V/1A/arbitrary",
    )
}


def test_a_greatest_current_below_the_least_that_is_offered() -> None:
    found = apart(overlap(offer("12V/3A", "12V/2A"), ask("12V/1A", "12V/0.5A")))
    assert found.finding.sentence == "offers at least 2 A, asked up to 1 A"


def test_the_nearest_is_what_failed_last_and_least() -> None:
    volts, fewer_volts = (apart(overlap(offer(text), LAMP)) for text in ("24V/9A", "20V/9A"))
    amps = apart(overlap(offer("12V/0.1A"), LAMP))
    assert volts.nearness < fewer_volts.nearness < amps.nearness


WIDE = common(overlap(BENCH, LAMP))
NINE = common(overlap(offer("9V/5A"), LAMP))


@pytest.mark.parametrize(
    ("found", "free_mw", "is_within", "is_served", "served"),
    [
        (WIDE, 18_000, True, True, "12V/1.5A"),
        (WIDE, 17_999, True, False, "12V/1.499A"),
        # 12 V at the least current would be 6 W
        (WIDE, 5_000, True, False, "10V/0.5A"),
        (WIDE, 2_500, True, False, "5V/0.5A"),
        (WIDE, 2_499, False, False, "5V/0.499A"),
        (NINE, 99_000, True, False, "9V/1.5A"),
        # nobody can do that, and the handshake will say so
        (NINE, 3_000, True, False, "9V/0.333A"),
    ],
)
def test_what_can_be_expected(
    found: Overlap, free_mw: int, is_within: bool, is_served: bool, served: str
) -> None:
    assert found.is_within(free_mw) == is_within
    assert found.is_served(free_mw) == is_served
    assert format_asked(found.served(free_mw)) == served


def test_nothing_free_is_full_even_for_no_power() -> None:
    nothing = common(overlap(BENCH, ask("12V/0A")))
    assert nothing.is_full
    assert not nothing.is_within(0)
    assert not nothing.is_served(0)
    assert nothing.is_within(1)
    assert nothing.is_served(1)
    assert format_asked(nothing.served(1)) == "12V/0A"


POWER = power("12V/1.5A,prio=3,energy=10J,lease=60s,giveback")


def test_a_power_is_named_by_its_voltage_current_and_kind() -> None:
    assert format_asked(POWER) == "12V/1.5A"


SMALL = st.integers(0, 6)


@given(SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, st.booleans())
def test_an_overlap_is_where_some_power_lies_in_both_ranges(
    ov: int, oi: int, rv: int, ri: int, ov_least: int, oi_least: int, rv_least: int, ri_least: int,
    has_least: bool,
) -> None:  # fmt: skip
    offered = PowerProfile.make(ProfileType.OFFER, max(ov, ov_least), max(oi, oi_least))
    offered_least = PowerProfile.make(
        ProfileType.MINIMUM, min(ov, ov_least) if has_least else offered.voltage_mv,
        min(oi, oi_least) if has_least else 0,
    )  # fmt: skip
    desired = PowerProfile.make(ProfileType.REQUEST, max(rv, rv_least), max(ri, ri_least))
    least = PowerProfile.make(ProfileType.MINIMUM, min(rv, rv_least), min(ri, ri_least))
    powers = [
        PowerProfile.make(ProfileType.GRANT, volts, amps) for volts in range(7) for amps in range(7)
    ]
    both = [
        one
        for one in powers
        if in_range(one, offered, offered_least) and in_range(one, desired, least)
    ]
    made = Offer(offer=offered, minimum=offered_least if has_least else None)
    found = overlap(made, Ask(desired, least))
    assert isinstance(found, Overlap) == bool(both)
    if isinstance(found, Overlap):
        assert (found.least_mv, found.least_ma) == (both[0].voltage_mv, both[0].current_ma)
        assert (found.most_mv, found.most_ma) == (both[-1].voltage_mv, both[-1].current_ma)
