"""What this host draws of the wall: measured where the kernel can tell, else as it was declared."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from powertcp.errors import HostError
from powertcp.linux import Battery, Zone, find_batteries, find_counters
from powertcp.linux.rapl import counted_uj
from powertcp.linux.supply import BatteryReading, drawn_uj
from powertcp.units import NS_PER_S, Duration, Instant, format_power

SEARCH_NS: Final = 60 * NS_PER_S  # how often somebody is looked for who measures
_log = logging.getLogger("reservoir")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpan:
    """What the host drew in `span_ns`, in uJ of the wall. source: who says so, for people."""

    energy_uj: int
    span_ns: Duration
    source: str
    is_measured: bool


class Meter(Protocol):
    """Whoever measures."""

    @property
    def source(self) -> str:
        """Its name, for people."""

    def take(self, now: Instant) -> int | None:
        """Return what was drawn since the last time, uJ; None if it does not know. HostError."""


class Counters:
    """Energy counters of the kernel, those of RAPL."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        """Read the ranges of `zones`. Raises HostError."""
        self._zones = zones
        self._ranges = [zone.energy_range_uj() for zone in zones]
        self._last: list[int] | None = None
        self.source = f"powercap {', '.join(zone.name for zone in zones)}"

    def take(self, now: Instant) -> int | None:
        """Return what all of them have counted. Raises HostError."""
        before, self._last = self._last, [zone.energy_uj() for zone in self._zones]
        if before is None:
            return None
        return sum(map(counted_uj, before, self._last, self._ranges))


class Batteries:
    """All batteries of the machine; they know what it draws while one of them discharges."""

    def __init__(self, batteries: Sequence[Battery]) -> None:
        """Begin with no reading."""
        self._batteries = batteries
        self._last: list[BatteryReading] | None = None
        self._at: Instant = 0
        self.source = f"battery {', '.join(battery.name for battery in batteries)}"

    def take(self, now: Instant) -> int | None:
        """Return what flowed out of them. Raises HostError."""
        before, self._last = self._last, [battery.read() for battery in self._batteries]
        span_ns, self._at = now - self._at, now
        if before is None:
            return None
        flowed = map(partial(drawn_uj, span_ns=span_ns), before, self._last)
        known = [uj for uj in flowed if uj is not None]
        return sum(known) if known else None


class HostLoad:
    """What this host draws from look to look; it reads files, and belongs in a thread.

    The first of these that knows: energy counters of the kernel, batteries that discharge, and
    `declared_mw`, None for nothing declared.
    """

    def __init__(self, declared_mw: int | None = None, root: str = "/") -> None:
        """Read nothing yet; `root` is where this machine's files are."""
        self._declared_mw = declared_mw
        self._root = root
        self._meters: list[Meter] = []
        self._search_at: Instant = 0
        self._at: Instant | None = None
        self._rest = 0  # of what is declared, below 1 uJ

    # FWRL-4-03
    def look(self, now: Instant) -> HostSpan | None:
        """Return what was drawn since the last look; None at the first, and when nobody knows."""
        if self._at is None or (not self._meters and now >= self._search_at):
            self._search(now)
        before, self._at = self._at, now
        found: HostSpan | None = None
        span_ns = 0 if before is None else now - before
        for meter in tuple(self._meters):
            energy_uj = self._take(meter, now)
            if energy_uj is not None and found is None and span_ns > 0:
                found = HostSpan(
                    energy_uj=energy_uj, span_ns=span_ns, source=meter.source, is_measured=True
                )
        if found is not None or self._declared_mw is None or span_ns <= 0:
            return found
        energy_uj, self._rest = divmod(self._declared_mw * 1000 * span_ns + self._rest, NS_PER_S)
        source = f"{format_power(self._declared_mw)} by the policy"
        return HostSpan(energy_uj=energy_uj, span_ns=span_ns, source=source, is_measured=False)

    def _take(self, meter: Meter, now: Instant) -> int | None:
        try:
            return meter.take(now)
        except HostError as error:
            _log.warning("%s", error)
            self._meters.remove(meter)
            self._search_at = now + SEARCH_NS
            return None

    def _search(self, now: Instant) -> None:
        self._search_at = now + SEARCH_NS
        ways: tuple[Callable[[], Meter], ...] = (
            lambda: Counters(find_counters(self._root)),
            lambda: Batteries(find_batteries(self._root)),
        )
        for find in ways:
            try:
                self._meters.append(find())
            except HostError as error:
                _log.info("%s", error)
