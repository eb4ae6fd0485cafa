"""A Grid as a topology: buses are load-switching routers, loads are districts of houses with lamps.

```
bus --V-- [district --20 kV--] cabinet --400 V-- house --230 V-- lamp
```
A bus above 20 kV has a district of its own, one of 400 V or less has its houses at once. All that
feeds the grid at one voltage is one source. MPLampS section 7.
"""

import re
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import pairwise
from typing import Final, NamedTuple

from powertcp.mplamps.grids import Grid, Place
from powertcp.mplamps.label import MAX_VOLTAGE_MV
from powertcp.mplamps.topology import (
    DEFAULT_BASE,
    DEFAULT_CAPACITIES,
    DEFAULT_DELAY_NS,
    DEFAULT_REQUEST,
    MAX_NEIGHBOURS,
    MAX_NODES,
    Draft,
    NodeKind,
    Topology,
    find_faults,
)
from powertcp.units import Duration, format_voltage

DISTRICT_MV: Final = 20_000_000
STREET_MV: Final = 400_000
HOUSE_MV: Final = 230_000
LAMPS_IN_HOUSE: Final = 5
HOUSES_AT_CABINET: Final = 50
# 200 km each ms, as light in a fibre
NS_PER_M: Final[Duration] = 5
# across a substation
LEAST_DELAY_NS: Final[Duration] = 1000

_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 32
# one neighbour of a router that was put between is the router it is for
_BUNDLE = MAX_NEIGHBOURS - 1


class Imported(NamedTuple):
    """A topology made from a grid, and how many of its places it has not.

    Those are without a source, or with one that is not connected with the greatest part.
    """

    topology: Topology
    left_out: int


@dataclass(slots=True, kw_only=True)
class _Span:
    """A link in the making."""

    a: str
    b: str
    voltage_mv: int
    capacity_mw: int
    delay_ns: Duration = DEFAULT_DELAY_NS


def make_topology(
    grid: Grid, lamps: int, base: IPv4Address = DEFAULT_BASE, *, has_pdp: bool = False
) -> Imported:
    """Return a topology with the places of a grid and up to `lamps` lamps, always the same one.

    Each load has lamps by its power, as many as it could light at most. Raises ValueError with a
    sentence for a grid that no lamp can be lit in.
    """
    if not 1 <= lamps <= MAX_NODES:
        raise ValueError(f"{grid.name} with 1 to {MAX_NODES:,} lamps, got {lamps:,}")
    for place in grid.places:
        if not 0 < place.voltage_mv <= MAX_VOLTAGE_MV:
            said = f'"{place.name}" has {format_voltage(place.voltage_mv)}'
            raise ValueError(f"{grid.name}: {said}, the limit is {format_voltage(MAX_VOLTAGE_MV)}")
    reached = _reached(grid)
    loads = {at: place.load_mw for at, place in enumerate(grid.places) if at in reached}
    shares = share_lamps(loads, lamps)
    if not shares:
        said = f"{len(grid.supplies):,} sources, {len(reached):,} places that they reach"
        raise ValueError(f"{grid.name}: no lamp can be lit: {said}, no load of a lamp")
    builder = _Builder(grid, reached)
    for at, count in shares.items():
        builder.add_load(at, count)
    topology = builder.finish(base, has_pdp=has_pdp)
    if faults := find_faults(topology):
        raise ValueError(f"{grid.name}: {faults[0].text}")
    return Imported(topology, len(grid.places) - len(reached))


def share_lamps(loads: dict[int, int], lamps: int) -> dict[int, int]:
    """Return how many lamps each load has: by its mW, whole ones, and no more than it could light.

    The remainders go to the loads that have the greatest ones, of equal ones to the first.
    """
    most = {at: load_mw // DEFAULT_REQUEST.power_mw for at, load_mw in loads.items()}
    total = sum(most.values())
    if total <= lamps:
        return {at: count for at, count in most.items() if count}
    shares = {at: lamps * count // total for at, count in most.items()}
    by_rest = sorted(most, key=lambda at: (-(lamps * most[at] % total), at))
    for at in by_rest[: lamps - sum(shares.values())]:
        shares[at] += 1
    return {at: count for at, count in shares.items() if count}


def capacity_for(voltage_mv: int) -> int:
    """Return the mW that a link carries if nobody says: between usual voltages in proportion."""
    usual = sorted(DEFAULT_CAPACITIES)
    if voltage_mv <= usual[0]:
        return DEFAULT_CAPACITIES[usual[0]]
    if voltage_mv >= usual[-1]:
        return DEFAULT_CAPACITIES[usual[-1]] * voltage_mv // usual[-1]
    low, high = next(pair for pair in pairwise(usual) if voltage_mv <= pair[1])
    least_mw, most_mw = DEFAULT_CAPACITIES[low], DEFAULT_CAPACITIES[high]
    return least_mw + (most_mw - least_mw) * (voltage_mv - low) // (high - low)


def _reached(grid: Grid) -> set[int]:
    """Return the places that are connected with a source; of several parts the greatest."""
    near: dict[int, list[int]] = defaultdict(list)
    pairs = [(wire.a, wire.b) for wire in grid.wires]
    # all supplies of one voltage are one source
    pairs += [(ats[0], at) for ats in _feeds(grid, range(len(grid.places))).values() for at in ats]
    for a, b in pairs:
        near[a].append(b)
        near[b].append(a)
    most: set[int] = set()
    for supply in grid.supplies:
        if supply.at not in most:
            part = _spread(near, supply.at)
            most = max(most, part, key=len)
    return most


def _feeds(grid: Grid, places: Container[int]) -> dict[int, list[int]]:
    """Return the places with a supply by their voltage: what feeds them is one source."""
    feeds: dict[int, list[int]] = {}
    for supply in grid.supplies:
        if supply.at in places:
            feeds.setdefault(grid.places[supply.at].voltage_mv, []).append(supply.at)
    return feeds


def _spread(near: Mapping[int, Sequence[int]], start: int) -> set[int]:
    """Return all that is connected with a place."""
    seen = {start}
    queue = deque(seen)
    while queue:
        for other in near.get(queue.popleft(), ()):
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return seen


class _Names:
    """Names of nodes: those of the grid as far as they may be names, each once."""

    __slots__ = ("_next", "_taken")

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: Counter[str] = Counter()

    def numbered(self, prefix: str) -> str:
        """Return the next name of a kind: "h1", "h2"."""
        while True:
            self._next[prefix] += 1
            name = f"{prefix}{self._next[prefix]}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def take(self, said: str) -> str:
        """Return a name like `said`, with a number if it is taken or was nothing but one."""
        plain = unicodedata.normalize("NFKD", said).encode("ascii", "ignore").decode()
        name = _STRANGE.sub("-", plain).strip("-")[:_LONGEST_NAME]
        if not name or name.isdigit():
            name = f"bus-{name}" if name else ""
        if not name:
            return self.numbered("bus-")
        if name in self._taken:
            return self.numbered(name[: _LONGEST_NAME - 8] + "-")
        self._taken.add(name)
        return name


class _Builder:
    """Nodes and spans of a topology, before they have addresses and numbers."""

    def __init__(self, grid: Grid, reached: set[int]) -> None:
        said = grid.name.rpartition(":")[2]
        self._name = _STRANGE.sub("-", said).strip("-")[:_LONGEST_NAME] or "grid"
        self._names = _Names()
        self._sources: list[tuple[str, int | None]] = []
        self._buses: list[str] = []
        self._inner: list[str] = []
        self._lamps: list[str] = []
        self._spans: list[_Span] = []
        self._places = grid.places
        self._at: dict[int, str] = {}
        feeds = _feeds(grid, reached)
        names = [self._names.numbered("es") for _ in feeds]
        for at in sorted(reached):
            self._at[at] = self._names.take(grid.places[at].name)
            self._buses.append(self._at[at])
        self._add_wires(grid)
        carried_mw: Counter[str] = Counter()
        for span in self._spans:
            carried_mw.update({span.a: span.capacity_mw, span.b: span.capacity_mw})
        limits = {supply.at: supply.capacity_mw for supply in grid.supplies}
        for name, (voltage_mv, ats) in zip(names, feeds.items(), strict=True):
            stated = [limits[at] or 0 for at in ats]
            self._sources.append((name, sum(stated) if all(stated) else None))
            for at, limit_mw in zip(ats, stated, strict=True):
                # as much as goes on from there
                bus = self._at[at]
                most_mw = max(limit_mw, carried_mw[bus], capacity_for(voltage_mv))
                self._span(name, bus, voltage_mv, most_mw, LEAST_DELAY_NS)

    def _span(
        self,
        a: str,
        b: str,
        voltage_mv: int,
        capacity_mw: int | None = None,
        delay_ns: Duration = DEFAULT_DELAY_NS,
    ) -> None:
        if capacity_mw is None:
            capacity_mw = capacity_for(voltage_mv)
        self._spans.append(
            _Span(a=a, b=b, voltage_mv=voltage_mv, capacity_mw=capacity_mw, delay_ns=delay_ns)
        )

    def _add_wires(self, grid: Grid) -> None:
        """Add one span for all wires between two places: their sum, and the shortest of them."""
        between: dict[tuple[int, int], tuple[int, Duration]] = {}
        for wire in grid.wires:
            if wire.a not in self._at or wire.b not in self._at:
                continue
            key = min(wire.a, wire.b), max(wire.a, wire.b)
            delay_ns = max(wire.length_m * NS_PER_M, LEAST_DELAY_NS)
            capacity_mw = wire.capacity_mw or capacity_for(_higher(grid.places, *key))
            before_mw, before_ns = between.get(key, (0, delay_ns))
            between[key] = before_mw + capacity_mw, min(before_ns, delay_ns)
        for (a, b), (capacity_mw, delay_ns) in between.items():
            # at the lower voltage of a step is its transformer
            voltage_mv = _higher(grid.places, a, b)
            self._span(self._at[a], self._at[b], voltage_mv, capacity_mw, delay_ns)

    def add_load(self, at: int, lamps: int) -> None:
        """Add a district with its houses and lamps at a place."""
        above, voltage_mv = self._at[at], self._places[at].voltage_mv
        if voltage_mv > DISTRICT_MV:
            district = self._router("d")
            self._span(above, district, voltage_mv)
            above, voltage_mv = district, DISTRICT_MV
        houses = -(-lamps // LAMPS_IN_HOUSE)
        if voltage_mv <= STREET_MV:
            self._add_houses(above, voltage_mv, houses, lamps)
            return
        in_cabinet = HOUSES_AT_CABINET * LAMPS_IN_HOUSE
        for first in range(0, lamps, in_cabinet):
            cabinet = self._router("c")
            self._span(above, cabinet, voltage_mv)
            here = min(in_cabinet, lamps - first)
            self._add_houses(cabinet, STREET_MV, -(-here // LAMPS_IN_HOUSE), here)

    def _add_houses(self, above: str, voltage_mv: int, houses: int, lamps: int) -> None:
        for number in range(houses):
            house = self._router("h")
            self._span(above, house, voltage_mv)
            for _ in range(min(LAMPS_IN_HOUSE, lamps - number * LAMPS_IN_HOUSE)):
                lamp = self._names.numbered("lamp-")
                self._lamps.append(lamp)
                self._span(house, lamp, HOUSE_MV)

    def _router(self, prefix: str) -> str:
        name = self._names.numbered(prefix)
        self._inner.append(name)
        return name

    def _bundle(self) -> None:
        """Put routers between where one has more neighbours than a node may have."""
        ends: dict[str, list[_Span]] = defaultdict(list)
        for span in self._spans:
            ends[span.a].append(span)
            ends[span.b].append(span)
        for name, spans in list(ends.items()):
            while len(spans) > MAX_NEIGHBOURS:
                groups: dict[int, list[_Span]] = defaultdict(list)
                for span in spans:
                    groups[span.voltage_mv].append(span)
                most = max(groups.values(), key=len)
                if len(most) == 1:
                    break
                others = [span for span in spans if span.voltage_mv != most[0].voltage_mv]
                spans = [*others, *self._bundled(name, most)]

    def _bundled(self, name: str, spans: Sequence[_Span]) -> Iterator[_Span]:
        """Put a router at the end of each bundle of spans of one voltage; yield those to them."""
        for first in range(0, len(spans), _BUNDLE):
            bundle = spans[first : first + _BUNDLE]
            router = self._router("x")
            for span in bundle:
                span.a, span.b = (router if end == name else end for end in (span.a, span.b))
            carried_mw = sum(span.capacity_mw for span in bundle)
            self._span(name, router, spans[0].voltage_mv, carried_mw, LEAST_DELAY_NS)
            yield self._spans[-1]

    def finish(self, base: IPv4Address, *, has_pdp: bool) -> Topology:
        """Return the topology: sources, buses, what is between, lamps, and the pdp last."""
        self._bundle()
        labels: dict[str, set[int]] = defaultdict(set)
        for span in self._spans:
            labels[span.a].add(span.voltage_mv)
            labels[span.b].add(span.voltage_mv)
        draft = Draft(self._name, base)
        for name, capacity_mw in self._sources:
            draft.node(name, NodeKind.ES, capacity_mw=capacity_mw)
        for name in (*self._buses, *self._inner):
            is_step = len(labels[name]) > 1
            draft.node(name, NodeKind.TRANSFORMER if is_step else NodeKind.SWITCH)
        for name in self._lamps:
            draft.node(name, NodeKind.LAMP)
        if has_pdp:
            draft.node(self._names.numbered("pdp") if "pdp" in labels else "pdp", NodeKind.PDP)
        for span in self._spans:
            draft.link(
                span.a,
                span.b,
                span.voltage_mv,
                capacity_mw=span.capacity_mw,
                delay_ns=span.delay_ns,
            )
        return draft.finish()


def _higher(places: Sequence[Place], a: int, b: int) -> int:
    """Return the higher voltage of two places, in mV."""
    return max(places[a].voltage_mv, places[b].voltage_mv)
