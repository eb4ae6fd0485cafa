"""Why a provider is taken or left: one word, the numbers on both sides, and a sentence."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from powertcp.dpdp.advert import Tariff
from powertcp.units import (
    NS_PER_MS,
    Duration,
    format_current,
    format_duration,
    format_frequency,
    format_power,
    format_voltage,
)

_MICRO: Final = 10**6


class Why(StrEnum):
    """The word for people and scripts; those of filters in the order in which they are tried."""

    CHOSEN = "chosen"
    NEXT = "next"
    VERSION = "version"
    MALFORMED = "malformed"
    DEAD = "dead"
    FEED = "feed"
    ADDRESS = "address"
    REFUSED = "refused"
    SEAL = "seal"
    TRUST = "trust"
    VOLTAGE = "voltage"
    CURRENT = "current"
    WAVEFORM = "waveform"
    FREQUENCY = "frequency"
    FULL = "full"
    TARIFF = "tariff"
    SOURCE = "source"

    @property
    def place(self) -> int:
        """0, 1, ..: the greater the later the filter is tried."""
        return _PLACES[self]


_PLACES: Final = {why: place for place, why in enumerate(Why)}


class Finding(NamedTuple):
    """What stopped an advert. numbers: by name with the unit in it. words: for its sentence."""

    why: Why
    numbers: tuple[tuple[str, int], ...] = ()
    words: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Return what is in the way, with the numbers of both sides."""
        say = _SENTENCES.get(self.why)
        return say(dict(self.numbers)) if say else "".join(self.words)


def format_price(micro: int) -> str:
    """Return a price with two decimals or more: "0.25", "0.3125", "-0.05"."""
    whole, part = divmod(abs(micro), _MICRO)
    digits = f"{part:06}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro < 0 else ''}{whole:,}.{digits}"


def format_tariff(tariff: Tariff | None) -> str:
    """Return a tariff for people: "0.25 EUR/kWh", "free", "price not stated"."""
    if tariff is None:
        return "price not stated"
    if not tariff.currency:
        return "free"
    return f"{format_price(tariff.micro_per_kwh)} {tariff.currency}/kWh"


def format_distance(rtt_ns: Duration) -> str:
    """Return the time of a connect for people: "same host", "0.4 ms", "120 ms"."""
    if rtt_ns <= 0:
        return "same host"
    tenths = (rtt_ns * 10 + NS_PER_MS // 2) // NS_PER_MS
    return f"{tenths // 10:,}.{tenths % 10} ms" if tenths < 1_000 else f"{tenths // 10:,} ms"


def _between(least: int, most: int, text: Callable[[int], str]) -> str:
    return text(most) if least == most else f"{text(least)} to {text(most)}"


def _voltage(numbers: Mapping[str, int]) -> str:
    offered = _between(numbers["offered_least_mv"], numbers["offered_mv"], format_voltage)
    asked = _between(numbers["asked_least_mv"], numbers["asked_mv"], format_voltage)
    return f"offers {offered}, asked {asked}"


def _current(numbers: Mapping[str, int]) -> str:
    if numbers["offered_ma"] < numbers["asked_least_ma"]:
        offered = f"up to {format_current(numbers['offered_ma'])}"
        return f"offers {offered}, asked at least {format_current(numbers['asked_least_ma'])}"
    offered = f"at least {format_current(numbers['offered_least_ma'])}"
    return f"offers {offered}, asked up to {format_current(numbers['asked_ma'])}"


def _frequency(numbers: Mapping[str, int]) -> str:
    offered, asked = numbers["offered_chz"], numbers["asked_chz"]
    return f"offers {format_frequency(offered)}, asked {format_frequency(asked)}"


def _full(numbers: Mapping[str, int]) -> str:
    return (
        f"{format_power(numbers['free_mw'])} free, asked {format_power(numbers['asked_least_mw'])}"
    )


def _again(what: str) -> Callable[[Mapping[str, int]], str]:
    def say(numbers: Mapping[str, int]) -> str:
        return f"{what}, asked again in {format_duration(numbers['wait_ns'])}"

    return say


_SENTENCES: Final[Mapping[Why, Callable[[Mapping[str, int]], str]]] = {
    Why.DEAD: _again("did not answer"),
    Why.REFUSED: _again("has refused"),
    Why.VOLTAGE: _voltage,
    Why.CURRENT: _current,
    Why.FREQUENCY: _frequency,
    Why.FULL: _full,
}
