"""Supplies and sources."""

import pytest

from powertcp.errors import ConfigError
from powertcp.profile import PowerProfile
from powertcp.sources.source import Mains, make_source, parse_supply

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


def test_mains_only_counts() -> None:
    mains = make_source("mains")
    assert isinstance(mains, Mains)
    assert mains.rating_mw() is None
    assert mains.take(100) == 100
    mains.give_back(30)
    assert mains.taken_uj == 70


@pytest.mark.parametrize("spec", ["sun", "mains:2"])
def test_an_unknown_source_is_a_configuration_error(spec: str) -> None:
    with pytest.raises(ConfigError):
        make_source(spec)
