"""What an identity may draw at most: the words of authorized_watts and of certificates."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final, TypeAlias

from powertcp.errors import nearest
from powertcp.profile import Waveform
from powertcp.units import (
    parse_current_ma,
    parse_energy_uj,
    parse_power_mw,
    parse_voltage_mv,
)
from powertcp.vppn.faults import Token, WordError, check_name, shown

# value and limit of a REASON are signed, 64 bit
MAX_LIMIT: Final = (1 << 63) - 1
# what one line may list: addresses, groups
MAX_LISTED: Final = 64
WORST_PRIORITY: Final = 15
_UJ_PER_MWH: Final = 3_600_000
_MOMENT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Period(StrEnum):
    """What a quota is renewed by, in UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    def window(self, now_s: int) -> tuple[int, int]:
        """Return the Unix seconds at which the period of `now_s` began and the next one begins."""
        if self is not Period.MONTH:
            seconds = 3_600 if self is Period.HOUR else 86_400
            start = now_s - now_s % seconds
            return start, start + seconds
        now = datetime.fromtimestamp(now_s, UTC)
        first = datetime(now.year, now.month, 1, tzinfo=UTC)
        after = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
        return int(first.timestamp()), int(after.timestamp())


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one line; None is no limit.

    power_mw: over all flows of the identity. least_mv, most_mv, current_ma: of one flow. priority:
    the best class, 1..15. quotas: uJ by period. networks: where it may come from. expires_s: Unix
    time at which the line ends. tariff: name of a price list. waveforms: allowed ones.
    """

    power_mw: int | None = None
    least_mv: int = 0
    most_mv: int | None = None
    current_ma: int | None = None
    priority: int | None = None
    quotas: tuple[tuple[Period, int], ...] = ()
    networks: tuple[Network, ...] | None = None
    expires_s: int | None = None
    tariff: str = ""
    waveforms: tuple[Waveform, ...] | None = None

    def within(self, other: "Limits") -> "Limits":
        """Return what both allow; the tariff is that of this one, or of the other if it has none."""
        quotas = dict(self.quotas)
        for period, energy_uj in other.quotas:
            quotas[period] = min(energy_uj, quotas.get(period, energy_uj))
        # VPPN-5-08
        return Limits(
            power_mw=_least(self.power_mw, other.power_mw),
            least_mv=max(self.least_mv, other.least_mv),
            most_mv=_least(self.most_mv, other.most_mv),
            current_ma=_least(self.current_ma, other.current_ma),
            priority=max(self.priority or 1, other.priority or 1)
            if self.priority or other.priority
            else None,
            quotas=tuple((period, quotas[period]) for period in Period if period in quotas),
            networks=_overlaps(self.networks, other.networks),
            expires_s=_least(self.expires_s, other.expires_s),
            tariff=self.tariff or other.tariff,
            waveforms=_common(self.waveforms, other.waveforms),
        )

    def allows_from(self, address: Address) -> bool:
        """Return whether it may come from `address`; an IPv4 address in an IPv6 one counts as such."""
        inside = getattr(address, "ipv4_mapped", None) or address
        return self.networks is None or any(inside in network for network in self.networks)

    def format(self) -> str:
        """Return the words that `parse_words` reads back, "" for no limit at all."""
        written = [f"{name}={text}" for name, write in _WRITERS.items() if (text := write(self))]
        return " ".join(written)


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _common(
    one: tuple[Waveform, ...] | None, other: tuple[Waveform, ...] | None
) -> tuple[Waveform, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(shape for shape in one if shape in other)


def _overlaps(
    one: tuple[Network, ...] | None, other: tuple[Network, ...] | None
) -> tuple[Network, ...] | None:
    """Return the networks that are in both: of two that overlap, one lies within the other."""
    if one is None or other is None:
        return other if one is None else one
    both = [
        ours if ours.prefixlen >= theirs.prefixlen else theirs
        for ours in one
        for theirs in other
        if ours.version == theirs.version and ours.overlaps(theirs)
    ]
    return tuple(dict.fromkeys(both))


# ---- times --------------------------------------------------------------------------------------


def format_moment(unix_s: int) -> str:
    """Return `2026-11-21T08:00:00Z`."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_moment(text: str) -> int:
    """Return the Unix time of `2026-11-21T08:00:00Z`, s. Raises ValueError with a sentence."""
    sentence = f"a time is 2026-11-21T08:00:00Z, in UTC and since 1970, got {shown(text)}"
    if not _MOMENT.fullmatch(text):
        raise ValueError(sentence)
    try:
        unix_s = int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise ValueError(sentence) from None
    return _since_1970(unix_s, sentence)


def _parse_expires(text: str) -> int:
    if not _DATE.fullmatch(text):
        return parse_moment(text)
    sentence = f"a date is 2027-01-01, since 1970, got {shown(text)}"
    try:
        days = date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        raise ValueError(sentence) from None
    return _since_1970(days * 86_400, sentence)


def _since_1970(unix_s: int, sentence: str) -> int:
    if unix_s < 0:
        raise ValueError(sentence)
    return unix_s


# ---- words --------------------------------------------------------------------------------------


def _bounded(parse: Callable[[str], int], text: str) -> int:
    value = parse(text)
    # VPPN-5-01
    if value > MAX_LIMIT:
        raise ValueError(f"{shown(text)} is more than a limit can say: leave the word out")
    return value


def _parse_voltage(text: str) -> dict[str, object]:
    least, dash, most = text.partition("-")
    low = _bounded(parse_voltage_mv, least)
    high = _bounded(parse_voltage_mv, most) if dash else low
    if low > high:
        raise ValueError(f"a voltage range is LEAST-MOST, for example 5V-20V, got {shown(text)}")
    return {"least_mv": low, "most_mv": high}


def _parse_priority(text: str) -> int:
    if not re.fullmatch(r"[1-9]|1[0-5]", text):
        raise ValueError(f"a priority is 1 (best) to {WORST_PRIORITY}, got {shown(text)}")
    return int(text)


def _parse_quotas(text: str) -> tuple[tuple[Period, int], ...]:
    found: dict[Period, int] = {}
    for part in text.split(","):
        energy, slash, period = part.partition("/")
        if not slash or period not in list(Period):
            raise ValueError(
                f"a quota is ENERGY/hour, /day or /month, for example 2kWh/day, got {shown(part)}"
            )
        if period in found:
            raise ValueError(f"there are two quotas of a {period}")
        found[Period(period)] = _bounded(parse_energy_uj, energy)
    return tuple((period, found[period]) for period in Period if period in found)


def _parse_networks(text: str) -> tuple[Network, ...]:
    parts = text.split(",")
    if len(parts) > MAX_LISTED:
        raise ValueError(f"{len(parts)} networks, at most {MAX_LISTED}")
    found: list[Network] = []
    for part in parts:
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ValueError(
                f"a network is 10.0.0.0/8 or 2001:db8::/32, got {shown(part)}"
                f"{': bits beyond the prefix are set' if 'host bits' in str(error) else ''}"
            ) from error
    return tuple(dict.fromkeys(found))


_SHAPES: Final = {shape.name.lower().replace("_", "-"): shape for shape in Waveform}


def _parse_waveforms(text: str) -> tuple[Waveform, ...]:
    names = text.split(",")
    for name in names:
        if name not in _SHAPES:
            known = ", ".join(_SHAPES)
            raise ValueError(
                f"a waveform is one of {known}, got {shown(name)}{nearest(name, _SHAPES)}"
            )
    return tuple(shape for name, shape in _SHAPES.items() if name in names)


_READERS: Final[Mapping[str, Callable[[str], dict[str, object]]]] = {
    "max-power": lambda text: {"power_mw": _bounded(parse_power_mw, text)},
    "voltage": _parse_voltage,
    "max-current": lambda text: {"current_ma": _bounded(parse_current_ma, text)},
    "priority": lambda text: {"priority": _parse_priority(text)},
    "quota": lambda text: {"quotas": _parse_quotas(text)},
    "from": lambda text: {"networks": _parse_networks(text)},
    "expires": lambda text: {"expires_s": _parse_expires(text)},
    "tariff": lambda text: {"tariff": check_name(text, "a tariff")},
    "waveform": lambda text: {"waveforms": _parse_waveforms(text)},
}
WORDS: Final = tuple(_READERS)


def parse_groups(text: str) -> tuple[str, ...]:
    """Parse names with commas between them, each once. Raises ValueError with a sentence."""
    names = text.split(",")
    if len(names) > MAX_LISTED:
        raise ValueError(f"{len(names)} groups, at most {MAX_LISTED}")
    return tuple(dict.fromkeys(check_name(name, "a group") for name in names))


def parse_words(words: Iterable[Token], more: Iterable[str] = ()) -> tuple[Limits, dict[str, str]]:
    """Parse `NAME=VALUE` tokens to limits, and those whose name is in `more` to texts.

    Raises WordError for an unknown name, one that stands twice, or a value that is none.
    """
    known = [*WORDS, *more]
    fields: dict[str, object] = {}
    others: dict[str, str] = {}
    seen: set[str] = set()
    for token in words:
        name, equals, value = token.text.partition("=")
        # VPPN-5-01
        if name not in known:
            text = f"unknown word {shown(name)}{nearest(name, known)}; known: {', '.join(known)}"
            raise WordError(token.column, text)
        if not equals or not value:
            raise WordError(token.column + len(name), f"{name} needs a value: {name}=VALUE")
        # VPPN-5-01
        if name in seen:
            raise WordError(token.column, f"{name} stands twice")
        seen.add(name)
        try:
            if name in _READERS:
                fields |= _READERS[name](value)
            else:
                others[name] = value
        except ValueError as error:
            raise WordError(token.column + len(name) + 1, f"{name}: {error}") from error
    return replace(Limits(), **fields), others  # type: ignore[arg-type]


# ---- text forms ---------------------------------------------------------------------------------


def _decimal(value: int, places: int) -> str:
    whole, part = divmod(value, 10**places)
    digits = str(part).zfill(places).rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def _energy(energy_uj: int) -> str:
    hours, rest = divmod(energy_uj, _UJ_PER_MWH)
    return f"{_decimal(energy_uj, 6)}J" if rest else f"{_decimal(hours, 3)}Wh"


def _write_voltage(limits: Limits) -> str:
    if limits.most_mv is None:
        return ""
    return f"{_decimal(limits.least_mv, 3)}V-{_decimal(limits.most_mv, 3)}V"


def _write_optional(value: int | None, places: int, unit: str) -> str:
    return "" if value is None else f"{_decimal(value, places)}{unit}"


_WRITERS: Final[Mapping[str, Callable[[Limits], str]]] = {
    "max-power": lambda limits: _write_optional(limits.power_mw, 3, "W"),
    "voltage": _write_voltage,
    "max-current": lambda limits: _write_optional(limits.current_ma, 3, "A"),
    "priority": lambda limits: str(limits.priority or ""),
    "quota": lambda limits: ",".join(f"{_energy(uj)}/{period}" for period, uj in limits.quotas),
    "from": lambda limits: ",".join(map(str, limits.networks or ())),
    "expires": lambda limits: "" if limits.expires_s is None else format_moment(limits.expires_s),
    "tariff": lambda limits: limits.tariff,
    "waveform": lambda limits: ",".join(
        name for name, shape in _SHAPES.items() if shape in (limits.waveforms or ())
    ),
}
