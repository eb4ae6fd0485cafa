"""Words of limits: what they say, what both of two lines allow, and texts that are none."""

import ipaddress
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.profile import Waveform
from powertcp.vppn.faults import WordError, tokens
from powertcp.vppn.limits import (
    MAX_LIMIT,
    Limits,
    Period,
    format_moment,
    parse_groups,
    parse_moment,
    parse_words,
)

VALUES = st.integers(0, MAX_LIMIT)
# 9999-12-31T23:59:59Z
TIMES = st.integers(0, 253_402_300_799)
VOLTAGES = st.just((0, None)) | st.tuples(VALUES, VALUES).map(lambda two: (min(two), max(two)))


def maybe(values: "st.SearchStrategy[object]") -> "st.SearchStrategy[object]":
    return st.none() | values


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    low, high = draw(VOLTAGES)
    periods = draw(st.dictionaries(st.sampled_from(Period), VALUES))
    networks = draw(maybe(st.lists(st.ip_addresses(), min_size=1, max_size=3, unique=True)))
    shapes = draw(maybe(st.sets(st.sampled_from(Waveform), min_size=1)))
    return Limits(
        power_mw=draw(maybe(VALUES)),  # type: ignore[arg-type]
        least_mv=low,
        most_mv=high,
        current_ma=draw(maybe(VALUES)),  # type: ignore[arg-type]
        priority=draw(maybe(st.integers(1, 15))),  # type: ignore[arg-type]
        quotas=tuple((period, periods[period]) for period in Period if period in periods),
        networks=None if networks is None else tuple(map(ipaddress.ip_network, networks)),  # type: ignore[call-overload]
        expires_s=draw(maybe(TIMES)),  # type: ignore[arg-type]
        tariff=draw(st.sampled_from(["", "staff"])),
        waveforms=None if shapes is None else tuple(s for s in Waveform if s in shapes),  # type: ignore[operator]
    )


def parse(text: str) -> Limits:
    return parse_words(tokens(text))[0]


@given(limits())
def test_limits_and_their_words(given: Limits) -> None:
    assert parse(given.format()) == given


@pytest.mark.requirement("VPPN-5-08")
@given(limits(), limits())
def test_both_allow_no_more_than_each(one: Limits, other: Limits) -> None:
    both = one.within(other)
    assert both.within(one) == both.within(both) == both
    for field in fields(Limits):
        if field.name not in ("tariff", "networks", "quotas"):
            name = field.name
            assert getattr(both, name) == getattr(other.within(one), name)
    assert dict(both.quotas).keys() == dict(one.quotas).keys() | dict(other.quotas).keys()
    assert one.within(Limits()) == Limits().within(one) == one


@given(TIMES)
def test_a_moment_and_its_text(unix_s: int) -> None:
    assert parse_moment(format_moment(unix_s)) == unix_s


@pytest.mark.requirement("VPPN-5-01")
def test_every_word_of_the_document() -> None:
    found = parse(
        "max-power=65W voltage=5V-20V max-current=3A priority=3 quota=2kWh/day,50Wh/hour"
        " from=10.0.0.0/8,2001:db8::/32 expires=2027-01-01 tariff=staff waveform=sine,dc"
    )
    assert found == Limits(
        power_mw=65_000,
        least_mv=5_000,
        most_mv=20_000,
        current_ma=3_000,
        priority=3,
        quotas=((Period.HOUR, 180_000_000_000), (Period.DAY, 7_200_000_000_000)),
        networks=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")),
        expires_s=1_798_761_600,
        tariff="staff",
        waveforms=(Waveform.DC, Waveform.SINE),
    )
    assert parse("voltage=12V") == Limits(least_mv=12_000, most_mv=12_000)
    assert parse("expires=2027-01-01T00:00:01Z").expires_s == 1_798_761_601
    assert parse("quota=1uJ/month").format() == "quota=0.000001J/month"


@pytest.mark.requirement("VPPN-5-08")
def test_networks_in_both_are_the_narrower_ones() -> None:
    wide = parse("from=10.0.0.0/8,2001:db8::/32")
    narrow = parse("from=10.1.0.0/16,192.0.2.0/24,2001:db8:1::/48")
    both = wide.within(narrow)
    assert both == narrow.within(wide)
    assert both.format() == "from=10.1.0.0/16,2001:db8:1::/48"
    nowhere = both.within(parse("from=198.51.100.1"))
    assert nowhere.networks == ()
    assert not nowhere.allows_from(ipaddress.ip_address("198.51.100.1"))


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [("10.9.9.9", True), ("::ffff:10.9.9.9", True), ("11.0.0.1", False), ("2001:db8::1", False)],
)
def test_where_it_comes_from(address: str, is_inside: bool) -> None:
    here = ipaddress.ip_address(address)
    assert parse("from=10.0.0.0/8").allows_from(here) is is_inside
    assert Limits().allows_from(here)


@pytest.mark.parametrize(
    ("period", "now", "start", "end"),
    [
        ("hour", "2026-11-21T18:04:01Z", "2026-11-21T18:00:00Z", "2026-11-21T19:00:00Z"),
        ("day", "2026-11-21T23:59:59Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        ("month", "2026-11-21T18:04:01Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("month", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
    ],
)
def test_windows_of_quotas(period: str, now: str, start: str, end: str) -> None:
    window = Period(period).window(parse_moment(now))
    assert window == (parse_moment(start), parse_moment(end))


@pytest.mark.requirement("VPPN-5-01")
@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("max-powr=1W", 1, 'unknown word "max-powr", did you mean "max-power"?; known: max-power'),
        ("tariff=a max-power", 19, "max-power needs a value: max-power=VALUE"),
        ("max-power=", 10, "max-power needs a value"),
        ("priority=3 priority=4", 12, "priority stands twice"),
        ("max-power=65", 11, "max-power: a power needs a number and a unit (uW, mW, W, kW, MW)"),
        ("max-power=9223372036854776kW", 11, "is more than a limit can say: leave the word out"),
        ("max-power=-1W", 11, "a power cannot be negative"),
        ("voltage=20V-5V", 9, "a voltage range is LEAST-MOST, for example 5V-20V"),
        ("voltage=5V-", 9, "a voltage needs a number and a unit"),
        ("max-current=3V", 13, "a current needs a unit of"),
        ("priority=0", 10, "a priority is 1 (best) to 15"),
        ("priority=16", 10, "a priority is 1 (best) to 15"),
        ("quota=2kWh", 7, "a quota is ENERGY/hour, /day or /month, for example 2kWh/day"),
        ("quota=2kWh/week", 7, "a quota is ENERGY/hour, /day or /month"),
        ("quota=2kWh/day,1J/day", 7, "there are two quotas of a day"),
        ("quota=2W/day", 7, "an energy needs a unit of"),
        ("from=10.0.0.1/8", 6, 'got "10.0.0.1/8": bits beyond the prefix are set'),
        ("from=home", 6, 'a network is 10.0.0.0/8 or 2001:db8::/32, got "home"'),
        ("from=" + ",".join(["10.0.0.1"] * 65), 6, "65 networks, at most 64"),
        ("expires=tomorrow", 9, "a time is 2026-11-21T08:00:00Z, in UTC and since 1970"),
        ("expires=2027-02-30", 9, "a date is 2027-01-01, since 1970"),
        ("expires=1969-12-31", 9, "a date is 2027-01-01, since 1970"),
        ("expires=2027-02-30T00:00:00Z", 9, "a time is 2026-11-21T08:00:00Z"),
        ("expires=1969-12-31T00:00:00Z", 9, "a time is 2026-11-21T08:00:00Z"),
        ("tariff=a=b", 8, 'a tariff has 1 to 64 signs, no blank and none of "=#,"'),
        ("waveform=sin", 10, 'one of dc, sine, arbitrary, by-id, got "sin", did you mean "sine"?'),
    ],
)
def test_words_that_are_none(text: str, column: int, said: str) -> None:
    with pytest.raises(WordError) as caught:
        parse(text)
    assert caught.value.column == column
    assert said in str(caught.value)


def test_words_of_a_place_are_texts() -> None:
    found = parse_words(tokens("groups=a,b max-power=1W"), ("groups",))
    assert found == (Limits(power_mw=1000), {"groups": "a,b"})
    with pytest.raises(WordError, match="unknown word"):
        parse("groups=a")


def test_groups_are_names_each_once() -> None:
    assert parse_groups("staff,lab,staff") == ("staff", "lab")
    assert len(parse_groups(",".join(f"g{n}" for n in range(64)))) == 64
    with pytest.raises(ValueError, match="65 groups, at most 64"):
        parse_groups(",".join(f"g{n}" for n in range(65)))
    with pytest.raises(ValueError, match="a group has 1 to 64 signs"):
        parse_groups("a,,b")
