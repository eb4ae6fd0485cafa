"""What a policy judges and what it says: the facts of a flow, and verdicts in the policy's words."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter
from typing import Any, Final, TypeAlias

from powertcp.profile import Waveform
from powertcp.registry import Reason
from powertcp.units import (
    format_current,
    format_energy,
    format_frequency,
    format_power,
    format_voltage,
)
from powertcp.vppn.identity import Algorithm, PublicKey

Address: TypeAlias = IPv4Address | IPv6Address


class State(StrEnum):
    """Where a flow is, as it is seen from the middle."""

    NEW = "new"
    OFFERED = "offered"
    ENERGISED = "energised"
    RENEGOTIATING = "renegotiating"
    STALE = "stale"
    CLOSING = "closing"
    UNSOLICITED = "unsolicited"
    INVALID = "invalid"


class Way(StrEnum):
    """Who asked for the flow: somebody outside (in), or inside (out)."""

    IN = "in"
    OUT = "out"


@dataclass(slots=True, kw_only=True)
class Facts:
    """What is known of a flow when it is judged; None is not known, and then no match holds.

    peer: X25519 key of the other end, 32 octets. entity: UUID, 16 octets; feed: 16 octets.
    energy_uj: of the flow so far. priority: effective, 1..15. frequency_chz: 0.01 Hz, 0 is DC; any
    frequency is not a known one. tariff_micro: millionths of `currency` per kWh. load_percent: of
    the firewall's rating. minute: local, 0..1439. unix_s: without it a key that has an end has ended.
    """

    state: State | None = None
    way: Way | None = None
    is_sealed: bool | None = None
    peer: bytes | None = None
    src: Address | None = None
    dst: Address | None = None
    entity: bytes | None = None
    voltage_mv: int | None = None
    current_ma: int | None = None
    power_mw: int | None = None
    energy_uj: int | None = None
    priority: int | None = None
    waveform: Waveform | None = None
    frequency_chz: int | None = None
    tariff_micro: int | None = None
    currency: str | None = None
    load_percent: int | None = None
    minute: int | None = None
    feed: bytes | None = None
    unix_s: int | None = None


# ---- verdicts -----------------------------------------------------------------------------------

UNITS_OF_POWER: Final = (("kW", 1_000_000), ("W", 1_000), ("mW", 1))
UNITS_OF_ENERGY: Final = (
    ("MJ", 10**12),
    ("kJ", 10**9),
    ("J", 10**6),
    ("mJ", 10**3),
    ("uJ", 1),
)


def written(value: int, units: tuple[tuple[str, int], ...]) -> str:
    """Return a quantity as a policy has it, in the largest unit of `units` that keeps it whole."""
    name, scale = next((one for one in units if value % one[1] == 0), units[-1])
    return f"{value // scale}{name}"


def _limit(limit_mw: int | None, burst_uj: int | None) -> str:
    if limit_mw is None:
        return ""
    burst = "" if burst_uj is None else f" burst {written(burst_uj, UNITS_OF_ENERGY)}"
    return f" limit {written(limit_mw, UNITS_OF_POWER)}{burst}"


@dataclass(frozen=True, slots=True)
class Accept:
    """The flow passes. limit_mw, burst_uj: a bucket on the credit that passes. is_marking: sets ECE."""

    limit_mw: int | None = None
    burst_uj: int | None = None
    is_marking: bool = False

    def __str__(self) -> str:
        marking = " mark-ece" if self.is_marking else ""
        return f"accept{_limit(self.limit_mw, self.burst_uj)}{marking}"


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection is closed without a word."""

    def __str__(self) -> str:
        return "drop"


@dataclass(frozen=True, slots=True)
class Reject:
    """The flow is refused by `code`."""

    code: Reason

    def __str__(self) -> str:
        return f"reject {self.code.value}"


@dataclass(frozen=True, slots=True)
class Reclaim:
    """The firewall takes the power into a reservoir. limit_mw, burst_uj: a bucket on what it banks."""

    reservoir: str
    limit_mw: int | None = None
    burst_uj: int | None = None

    def __str__(self) -> str:
        return f"reclaim {self.reservoir}{_limit(self.limit_mw, self.burst_uj)}"


Verdict: TypeAlias = Accept | Drop | Reject | Reclaim


# ---- what a value is called ---------------------------------------------------------------------

UNKNOWN: Final = "unknown"
# texts of values that were seen of late: a few states and peers are most of them
_REMEMBERED: Final = 4096


def clock(minute: int) -> str:
    """Return a minute of the day as HH:MM."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _price(tariff: tuple[int | None, str | None]) -> str:
    micro, currency = tariff
    if micro is None or currency is None:
        return UNKNOWN
    sign = "-" if micro < 0 else ""
    whole, part = divmod(abs(micro), 10**6)
    digits = f".{part:06}".rstrip("0") if part else ""
    return f"{sign}{whole}{digits} {currency}/kWh"


def _named(waveform: int) -> str:
    return Waveform(waveform).name.lower().replace("_", "-")


def _key(octets: bytes) -> str:
    return str(PublicKey(Algorithm.X25519, octets))


# by word of the policy: what it looks at, and what that is called
SAYING: Final[Mapping[str, tuple[Callable[[Facts], Any], Callable[[Any], str]]]] = {
    "state": (attrgetter("state"), str),
    "sealed": (attrgetter("is_sealed"), lambda value: "yes" if value else "no"),
    "direction": (attrgetter("way"), str),
    "peer": (attrgetter("peer"), _key),
    "src": (attrgetter("src"), str),
    "dst": (attrgetter("dst"), str),
    "entity": (attrgetter("entity"), bytes.hex),
    "voltage": (attrgetter("voltage_mv"), format_voltage),
    "current": (attrgetter("current_ma"), format_current),
    "power": (attrgetter("power_mw"), format_power),
    "energy": (attrgetter("energy_uj"), format_energy),
    "priority": (attrgetter("priority"), str),
    "waveform": (attrgetter("waveform"), _named),
    "frequency": (attrgetter("frequency_chz"), format_frequency),
    "tariff": (attrgetter("tariff_micro", "currency"), _price),
    "load": (attrgetter("load_percent"), lambda value: f"{value} %"),
    "time": (attrgetter("minute"), clock),
    "feed": (attrgetter("feed"), bytes.hex),
}


def say(word: str, facts: Facts) -> str:
    """Return what is known under a word of the policy, with its unit, or "unknown"."""
    value = SAYING[word][0](facts)
    return UNKNOWN if value is None else _called(word, value)


@lru_cache(_REMEMBERED)
def _called(word: str, value: Hashable) -> str:
    return SAYING[word][1](value)
