"""Quantities are parsed exactly, with units, and written for people."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp import units

Parser = Callable[[str], int]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.parse_voltage_mv, "230V", 230_000),
        (units.parse_voltage_mv, "12.5V", 12_500),
        (units.parse_voltage_mv, "220kV", 220_000_000),
        (units.parse_voltage_mv, "5000uV", 5),
        (units.parse_voltage_mv, " 7mV ", 7),
        (units.parse_voltage_mv, "-0V", 0),
        (units.parse_current_ma, "40mA", 40),
        (units.parse_current_ma, "1.50A", 1_500),
        (units.parse_current_ma, "2kA", 2_000_000),
        (units.parse_power_mw, "3.6kW", 3_600_000),
        (units.parse_power_mw, "1MW", 10**9),
        (units.parse_energy_uj, "10kJ", 10**10),
        (units.parse_energy_uj, "3.5J", 3_500_000),
        (units.parse_energy_uj, "1MJ", 10**12),
        (units.parse_energy_uj, "5kWh", 5 * 3_600 * 10**9),
        (units.parse_energy_uj, "0.5Wh", 1_800 * 10**6),
        (units.parse_duration_ns, "60s", 60 * 10**9),
        (units.parse_duration_ns, "200ms", 200 * 10**6),
        (units.parse_duration_ns, "1.5h", 5_400 * 10**9),
        (units.parse_duration_ns, "2min", 120 * 10**9),
        (units.parse_duration_ns, "1d", 86_400 * 10**9),
        (units.parse_frequency_chz, "16.7Hz", 1_670),
        (units.parse_frequency_chz, "0.4kHz", 40_000),
        (units.parse_rate_bps, "64kbit/s", 64_000),
        (units.parse_rate_bps, "1Gbit/s", 10**9),
        (units.parse_price_micro, "0.2841/kWh", 284_100),
        (units.parse_price_micro, "-5micro/kWh", -5),
        (units.parse_frequency_chz, "5cHz", 5),
    ],
)
def test_a_quantity_is_parsed_exactly(parse: Parser, text: str, value: int) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "sentence"),
    [
        (units.parse_voltage_mv, "230", "a voltage needs a number and a unit"),
        (units.parse_voltage_mv, "", "a voltage needs a number and a unit"),
        (units.parse_voltage_mv, "1e3V", "a voltage needs a number and a unit"),
        (units.parse_current_ma, "5V", 'a current needs a unit of uA, mA, A, kA, got "V"'),
        (units.parse_current_ma, "0.5mA", 'a current "0.5mA" is finer than 1 mA'),
        (units.parse_current_ma, "1uA", 'a current "1uA" is finer than 1 mA'),
        (units.parse_power_mw, "-1W", 'a power cannot be negative, got "-1W"'),
        (units.parse_energy_uj, "-1Wh", 'an energy cannot be negative, got "-1Wh"'),
        (units.parse_energy_uj, "0.1uJ", "is finer than 1 uJ"),
        (units.parse_duration_ns, "5parsec", "a duration needs a unit of ns, us, ms, s, min, h, d"),
        (units.parse_duration_ns, "-1h", "a duration cannot be negative"),
        (units.parse_duration_ns, "-1s", "a duration cannot be negative"),
        (units.parse_frequency_chz, "0.001Hz", "is finer than 1 cHz"),
    ],
)
def test_what_is_no_quantity_is_refused_with_a_sentence(
    parse: Parser, text: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(text)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (units.format_voltage(12_000), "12 V"),
        (units.format_voltage(99_999_999), "99,999.999 V"),
        (units.format_voltage(220_000_000), "220 kV"),
        (units.format_voltage(-5), "-0.005 V"),
        (units.format_current(40), "40 mA"),
        (units.format_current(1_500), "1.5 A"),
        (units.format_power(500), "500 mW"),
        (units.format_power(18_000), "18 W"),
        (units.format_power(3_600_000), "3.6 kW"),
        (units.format_energy(12), "12 uJ"),
        (units.format_energy(1_204_331_499), "1,204.331 J"),
        (units.format_energy(13_800_000_000), "13.8 kJ"),
        (units.format_duration(1_500), "1.5 us"),
        (units.format_duration(1_100_000), "1.1 ms"),
        (units.format_duration(60 * 10**9), "60 s"),
        (units.format_duration(7_200 * 10**9), "2 h"),
        (units.format_duration(7_201 * 10**9), "7,201 s"),
        (units.format_frequency(1_670), "16.7 Hz"),
    ],
)
def test_a_quantity_is_written_for_people(said: str, text: str) -> None:
    assert said == text


@given(st.decimals("0", "999999999", places=3, allow_nan=False))
def test_decimal_text_is_scaled_without_a_float(volts: Decimal) -> None:
    assert units.parse_voltage_mv(f"{volts:f}V") == int(volts * 1000)


@given(st.integers(0, 10**12))
def test_what_is_written_in_volts_is_read_back(mv: int) -> None:
    said = units.format_voltage(mv)
    if mv < 100_000_000 or mv % 1_000 == 0:
        assert units.parse_voltage_mv(said.replace(",", "").replace(" ", "")) == mv


@given(st.integers(0, 10**15), st.sampled_from(["ns", "us", "ms", "s", "min", "h", "d"]))
def test_durations_scale_by_their_unit(count: int, unit: str) -> None:
    scale = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
    scale |= {"h": 3_600 * 10**9, "d": 86_400 * 10**9}
    assert units.parse_duration_ns(f"{count}{unit}") == count * scale[unit]
