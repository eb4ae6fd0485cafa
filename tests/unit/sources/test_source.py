"""Supplies, and sources with the faults of their voltage."""

import pytest

from powertcp.dve import Harmonic
from powertcp.dve.waveform import sag, swell
from powertcp.errors import ConfigError
from powertcp.profile import PowerProfile
from powertcp.sources.source import (
    EXAMPLE,
    MAX_FAULTS,
    Disturbance,
    Source,
    make_source,
    parse_supply,
)
from powertcp.units import NS_PER_S

BENCH = parse_supply("12V/5A")


def test_a_supply_feeds_its_own_voltage_and_kind() -> None:
    assert BENCH.rating_mw == 60_000
    assert BENCH.feeds(PowerProfile.parse("12V/1A"))
    assert not BENCH.feeds(PowerProfile.parse("12V/1A@50Hz"))
    assert not BENCH.feeds(PowerProfile.parse("5V/1A"))
    assert BENCH.retire().retiring


@pytest.mark.parametrize("text", ["12V/0A", "0V/1A", "12/1A"])
def test_a_supply_needs_voltage_current_and_units(text: str) -> None:
    with pytest.raises(ValueError, match=r"V|unit"):
        parse_supply(text)


def test_mains_are_clean_unless_told() -> None:
    source = make_source("mains")
    assert source == Source()
    assert (source.name, source.noise_ppm) == ("mains", 0)
    assert source.harmonics == ()
    assert source.disturbances == ()


def test_the_faults_of_a_source_are_read_in_order() -> None:
    source = make_source(EXAMPLE)
    assert source.noise_ppm == 2_000
    assert source.harmonics == (Harmonic(3, 50_000),)
    dip, rise = source.disturbances
    assert dip == Disturbance(at_ns=10 * NS_PER_S, for_ns=NS_PER_S // 2, gain_ppm=700_000)
    assert rise.gain_ppm == 1_500_000
    assert dip.event(4000) == sag(40_000, 2_000, 700_000)
    assert rise.event(100) == swell(2_000, 100, 1_500_000)


def test_a_disturbance_lasts_one_sample_at_least() -> None:
    [dip] = make_source("mains:sag=0%@1s/1ms").disturbances
    assert dip.event(10).count == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sun", 'unknown source "sun"'),
        ("mains:2", '"2" is none of noise'),
        ("mains:noise=2", "no share"),
        ("mains:noise=1001%", "no share"),
        ("mains:noise=0.00001%", "no share"),
        ("mains:harmonic=1/5%", "order of a harmonic"),
        ("mains:harmonic=3", "no share"),
        ("mains:sag=100%@1s/1s", "a sag is below 100%"),
        ("mains:swell=99%@1s/1s", "a swell above"),
        ("mains:sag=70%@10/1s", "unit"),
        ("mains:sag=70%", "as in sag=70%@10s/500ms"),
        ("mains:" + ",".join(["sag=1%@1s/1s"] * (MAX_FAULTS + 1)), "65 faults, at most 64"),
    ],
)
def test_a_source_that_is_none_is_a_configuration_error(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_source(spec)


def test_as_many_faults_as_may_be() -> None:
    source = make_source("mains:" + ",".join(["sag=1%@1s/1s"] * MAX_FAULTS))
    assert len(source.disturbances) == MAX_FAULTS
