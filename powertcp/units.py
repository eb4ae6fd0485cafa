"""Integer quantities: mV, mA, mW, uJ, ns and 0.01 Hz, with the text forms people write.

No float crosses a wire, and none is used here: text is parsed as decimal digits and scaled exactly.
"""

import re
from typing import TypeAlias

Instant: TypeAlias = int
"""Nanoseconds on one monotonic clock."""
Duration: TypeAlias = int
"""Nanoseconds."""

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

_QUANTITY = re.compile(
    r"(?P<sign>-?)(?P<whole>\d{1,18})(?:\.(?P<part>\d{1,18}))?(?P<unit>[^\d\s.,-]+)"
)

_VOLTAGE = {"uV": -3, "mV": 0, "V": 3, "kV": 6}
_CURRENT = {"uA": -3, "mA": 0, "A": 3, "kA": 6}
_POWER = {"uW": -3, "mW": 0, "W": 3, "kW": 6, "MW": 9}
_ENERGY = {"uJ": 0, "mJ": 3, "J": 6, "kJ": 9, "MJ": 12}
_WATT_HOURS = {"mWh": 3, "Wh": 6, "kWh": 9, "MWh": 12}
_FREQUENCY = {"Hz": 2, "kHz": 5}
_DURATION = {"ns": 0, "us": 3, "ms": 6, "s": 9}
_RATE = {"bit/s": 0, "kbit/s": 3, "Mbit/s": 6, "Gbit/s": 9}
_PRICE = {"micro/kWh": 0, "/kWh": 6}
_LONG_DURATION = {"min": 60, "h": 3600, "d": 86_400}


def _split(text: str, what: str, units: str) -> tuple[int, str, str, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{what} needs a number and a unit ({units}), got "{text}"')
    sign = -1 if match["sign"] else 1
    return sign, match["whole"], match["part"] or "", match["unit"]


def _scaled(text: str, what: str, scales: dict[str, int]) -> int:
    """Return `text` in the base unit, which is the one of scale 0; the value must be whole."""
    units = ", ".join(scales)
    sign, whole, part, unit = _split(text, what, units)
    exponent = scales.get(unit)
    if exponent is None:
        raise ValueError(f'{what} needs a unit of {units}, got "{unit}" in "{text}"')
    part = part.rstrip("0")
    shift = exponent - len(part)
    digits = int(whole + part)
    if shift >= 0:
        return int(sign * digits * 10**shift)
    value, rest = divmod(digits, 10**-shift)
    if rest:
        finest = next(name for name, scale in scales.items() if scale == 0)
        raise ValueError(f'{what} "{text}" is finer than 1 {finest}')
    return int(sign * value)


def _not_negative(value: int, text: str, what: str) -> int:
    if value < 0:
        raise ValueError(f'{what} cannot be negative, got "{text}"')
    return value


def parse_voltage_mv(text: str) -> int:
    """Parse "230V", "12.5V", "220kV" to mV >= 0. Raises ValueError with a sentence."""
    return _not_negative(_scaled(text, "a voltage", _VOLTAGE), text, "a voltage")


def parse_current_ma(text: str) -> int:
    """Parse "1.5A", "40mA" to mA >= 0. Raises ValueError with a sentence."""
    return _not_negative(_scaled(text, "a current", _CURRENT), text, "a current")


def parse_power_mw(text: str) -> int:
    """Parse "3.6kW", "65W" to mW >= 0. Raises ValueError with a sentence."""
    return _not_negative(_scaled(text, "a power", _POWER), text, "a power")


def parse_energy_uj(text: str) -> int:
    """Parse "10kJ", "3.5J", "5kWh" to uJ >= 0. Raises ValueError with a sentence."""
    if text.strip().endswith("Wh"):
        hours = {"uWh": 0, **_WATT_HOURS}
        return _not_negative(_scaled(text, "an energy", hours) * 3600, text, "an energy")
    return _not_negative(_scaled(text, "an energy", _ENERGY), text, "an energy")


def parse_duration_ns(text: str) -> int:
    """Parse "60s", "200ms", "1.5h" to ns >= 0. Raises ValueError with a sentence."""
    units = ", ".join([*_DURATION, *_LONG_DURATION])
    sign, whole, part, unit = _split(text, "a duration", units)
    if unit in _LONG_DURATION:
        value = int(whole + part) * _LONG_DURATION[unit] * NS_PER_S * sign
        return _not_negative(value // 10 ** len(part), text, "a duration")
    if unit not in _DURATION:
        raise ValueError(f'a duration needs a unit of {units}, got "{unit}" in "{text}"')
    return _not_negative(_scaled(text, "a duration", _DURATION), text, "a duration")


def parse_frequency_chz(text: str) -> int:
    """Parse "50Hz", "16.7Hz" to 0.01 Hz >= 0. Raises ValueError with a sentence."""
    scales = {"cHz": 0} | _FREQUENCY
    return _not_negative(_scaled(text, "a frequency", scales), text, "a frequency")


def parse_rate_bps(text: str) -> int:
    """Parse "64kbit/s", "1Gbit/s" to bit/s >= 0. Raises ValueError with a sentence."""
    return _not_negative(_scaled(text, "a rate", _RATE), text, "a rate")


def parse_price_micro(text: str) -> int:
    """Parse "0.2841/kWh" to millionths of a currency unit per kWh, of either sign.

    Raises ValueError with a sentence.
    """
    return _scaled(text, "a price", _PRICE)


def _decimal(value: int, exponent: int, places: int, unit: str) -> str:
    """Return value * 10^-exponent with at most `places` decimals, trailing zeros cut."""
    sign = "-" if value < 0 else ""
    value = abs(value)
    if places < exponent:
        step: int = 10 ** (exponent - places)
        value = (value + step // 2) // step
        exponent = places
    whole, part = divmod(value, 10**exponent)
    digits = str(part).zfill(exponent).rstrip("0") if exponent else ""
    return f"{sign}{whole:,}{'.' + digits if digits else ''} {unit}"


def format_voltage(mv: int) -> str:
    """Return mV as text: "12 V", "230 V", "220 kV"."""
    if abs(mv) >= 100_000_000:
        return _decimal(mv, 6, 3, "kV")
    return _decimal(mv, 3, 3, "V")


def format_current(ma: int) -> str:
    """Return mA as text: "40 mA", "1.5 A"."""
    return _decimal(ma, 0, 0, "mA") if abs(ma) < 100 else _decimal(ma, 3, 3, "A")


def format_power(mw: int) -> str:
    """Return mW as text: "500 mW", "18 W", "3.6 kW"."""
    if abs(mw) < 1_000:
        return _decimal(mw, 0, 0, "mW")
    if abs(mw) < 1_000_000:
        return _decimal(mw, 3, 3, "W")
    return _decimal(mw, 6, 3, "kW")


def format_energy(uj: int) -> str:
    """Return uJ as text: "12 uJ", "1,204.331 J", "13.8 kJ"."""
    if abs(uj) < 1_000:
        return _decimal(uj, 0, 0, "uJ")
    if abs(uj) < 10_000_000_000:
        return _decimal(uj, 6, 3, "J")
    return _decimal(uj, 9, 3, "kJ")


def format_duration(ns: int) -> str:
    """Return ns as text: "1.1 ms", "60 s", "2 h"."""
    if abs(ns) < NS_PER_MS:
        return _decimal(ns, 3, 1, "us")
    if abs(ns) < NS_PER_S:
        return _decimal(ns, 6, 1, "ms")
    if abs(ns) >= 7_200 * NS_PER_S and ns % (3_600 * NS_PER_S) == 0:
        return f"{ns // (3_600 * NS_PER_S):,} h"
    return _decimal(ns, 9, 3, "s")


def format_frequency(chz: int) -> str:
    """Return 0.01 Hz as text: "50 Hz", "16.7 Hz"."""
    return _decimal(chz, 2, 2, "Hz")
