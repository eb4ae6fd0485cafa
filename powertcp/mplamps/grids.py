"""Grids and backbones as others write them: tables of buses, lines, transformers; nodes and edges.

What is read is a Grid: places, what joins them, where power is wanted and where it comes from. What
is out of service is not part of it. MPLampS section 7.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, sqrt
from typing import Final, NamedTuple

import msgspec

# of the substations of a backbone, mV
BACKBONE_MV: Final = 380_000_000

_MV_PER_KV = 10**6
_MW_PER_MEGAWATT = 10**9
_M_PER_KM = 1000
_Number = int | float | None


class Place(NamedTuple):
    """A bus or a city. name: "" if it has none. load_mw: the mW that are wanted there."""

    name: str
    voltage_mv: int
    load_mw: int = 0


class Wire(NamedTuple):
    """What joins two places, by their index. capacity_mw: None if it is not rated; length in m."""

    a: int
    b: int
    capacity_mw: int | None = None
    length_m: int = 0


class Supply(NamedTuple):
    """A source at a place, by its index; capacity_mw: None if it has no limit."""

    at: int
    capacity_mw: int | None = None


class Grid(NamedTuple):
    """A network of power or of cities, as far as it is in service."""

    name: str
    places: tuple[Place, ...]
    wires: tuple[Wire, ...]
    supplies: tuple[Supply, ...]


# ---- tables, as pandapower has them -------------------------------------------------------------


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows have; `index` is what other tables call it by."""

    index: int = 0
    in_service: bool = True


class _Bus(_Row, frozen=True, kw_only=True):
    """A bus, its voltage in kV."""

    name: str | int | float | None = None
    vn_kv: float


class _Line(_Row, frozen=True, kw_only=True):
    """A line: kA of each of its systems, derated by df."""

    from_bus: int
    to_bus: int
    length_km: _Number = None
    max_i_ka: _Number = None
    parallel: _Number = None
    df: _Number = None


class _Trafo(_Row, frozen=True, kw_only=True):
    """A transformer of two windings."""

    hv_bus: int
    lv_bus: int
    sn_mva: _Number = None
    parallel: _Number = None


class _Trafo3w(_Row, frozen=True, kw_only=True):
    """A transformer of three windings."""

    hv_bus: int
    mv_bus: int
    lv_bus: int
    sn_mv_mva: _Number = None
    sn_lv_mva: _Number = None


class _Impedance(_Row, frozen=True, kw_only=True):
    """A branch that is no line."""

    from_bus: int
    to_bus: int
    sn_mva: _Number = None


class _Switch(msgspec.Struct, frozen=True, kw_only=True):
    """A switch between a bus and, by `et`, a bus b, line l, transformer t or t3."""

    bus: int
    element: int
    et: str
    closed: bool = True


class _Load(_Row, frozen=True, kw_only=True):
    """What is wanted at a bus: of all phases, or of each."""

    bus: int
    p_mw: _Number = None
    p_a_mw: _Number = None
    p_b_mw: _Number = None
    p_c_mw: _Number = None
    scaling: _Number = None


class _Feed(_Row, frozen=True, kw_only=True):
    """An external grid, or a generator, which is one if it is the slack."""

    bus: int
    max_p_mw: _Number = None
    slack: bool = False


class _Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of a grid that are read; others are left."""

    bus: tuple[_Bus, ...]
    line: tuple[_Line, ...] = ()
    trafo: tuple[_Trafo, ...] = ()
    trafo3w: tuple[_Trafo3w, ...] = ()
    impedance: tuple[_Impedance, ...] = ()
    switch: tuple[_Switch, ...] = ()
    load: tuple[_Load, ...] = ()
    asymmetric_load: tuple[_Load, ...] = ()
    ext_grid: tuple[_Feed, ...] = ()
    gen: tuple[_Feed, ...] = ()


# keys and columns that are read
TABLES: Final = {
    "bus": ("name", "vn_kv", "in_service"),
    "line": ("from_bus", "to_bus", "length_km", "max_i_ka", "parallel", "df", "in_service"),
    "trafo": ("hv_bus", "lv_bus", "sn_mva", "parallel", "in_service"),
    "trafo3w": ("hv_bus", "mv_bus", "lv_bus", "sn_mv_mva", "sn_lv_mva", "in_service"),
    "impedance": ("from_bus", "to_bus", "sn_mva", "in_service"),
    "switch": ("bus", "element", "et", "closed"),
    "load": ("bus", "p_mw", "scaling", "in_service"),
    "asymmetric_load": ("bus", "p_a_mw", "p_b_mw", "p_c_mw", "scaling", "in_service"),
    "ext_grid": ("bus", "max_p_mw", "in_service"),
    "gen": ("bus", "max_p_mw", "slack", "in_service"),
}


def read_tables(name: str, tables: Mapping[str, Sequence[Mapping[str, object]]]) -> Grid:
    """Return the grid of tables by their names; each row has its number as `index`.

    Voltages are in kV, powers in MW, currents in kA. Raises ValueError with a sentence for tables
    that are none.
    """
    try:
        found = msgspec.convert(tables, _Tables, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name} is no grid: {error}") from error
    buses = [bus for bus in found.bus if bus.in_service]
    at = {bus.index: place for place, bus in enumerate(buses)}
    wanted: Counter[int] = Counter()
    for bus_of_load, megawatts in _loads(found):
        wanted[bus_of_load] += max(_milliwatts(megawatts) or 0, 0)
    places = tuple(
        Place(_text(bus.name), _millivolts(name, bus), wanted[bus.index]) for bus in buses
    )
    wires = tuple(
        Wire(at[a], at[b], capacity_mw, length_m)
        for a, b, capacity_mw, length_m in _branches(found)
        if a in at and b in at and a != b
    )
    feeds = [*found.ext_grid, *(gen for gen in found.gen if gen.slack)]
    supplies: dict[int, Supply] = {}
    for feed in feeds:
        if feed.in_service and feed.bus in at:
            supply = Supply(at[feed.bus], _rating(feed.max_p_mw))
            # a second feed of a bus feeds what the first one does
            supplies.setdefault(supply.at, supply)
    return Grid(name, places, wires, tuple(supplies.values()))


def _loads(tables: _Tables) -> Iterator[tuple[int, float]]:
    """Yield bus and MW of each load in service."""
    for load in (*tables.load, *tables.asymmetric_load):
        if load.in_service:
            powers = (load.p_mw, load.p_a_mw, load.p_b_mw, load.p_c_mw)
            scaling = 1.0 if load.scaling is None else load.scaling
            yield load.bus, sum(power or 0 for power in powers) * scaling


def _text(name: str | float | None) -> str:
    return "" if name is None else str(name)


def _millivolts(name: str, bus: _Bus) -> int:
    if not isfinite(bus.vn_kv):
        raise ValueError(f"{name} is no grid: bus {bus.index} has {bus.vn_kv} kV")
    return round(bus.vn_kv * _MV_PER_KV)


def _milliwatts(megawatts: _Number, times: float = 1.0) -> int | None:
    """Return MW in mW, None for what is not stated or has no limit."""
    if megawatts is None or not isfinite(megawatts * times):
        return None
    return round(megawatts * times * _MW_PER_MEGAWATT)


def _rating(megawatts: _Number, times: _Number = None) -> int | None:
    """Return the mW of something rated, None where the rating says nothing."""
    found = _milliwatts(megawatts, 1.0 if times is None else times)
    return found if found is not None and found > 0 else None


_Branch = tuple[int, int, int | None, int]


def _branches(tables: _Tables) -> Iterator[_Branch]:
    """Yield the buses that each branch in service joins, its mW and its metres."""
    opened = {(row.et, row.element) for row in tables.switch if not row.closed}
    volts = {bus.index: bus.vn_kv for bus in tables.bus}
    for line in tables.line:
        if line.in_service and ("l", line.index) not in opened:
            systems = (line.parallel or 1) * (1.0 if line.df is None else line.df)
            kiloamperes = None if line.max_i_ka is None else line.max_i_ka * systems
            capacity_mw = _rating(kiloamperes, sqrt(3) * volts.get(line.from_bus, 0))
            kilometres = line.length_km or 0
            length_m = round(kilometres * _M_PER_KM) if isfinite(kilometres) else 0
            yield line.from_bus, line.to_bus, capacity_mw, max(length_m, 0)
    for trafo in tables.trafo:
        if trafo.in_service and ("t", trafo.index) not in opened:
            yield trafo.hv_bus, trafo.lv_bus, _rating(trafo.sn_mva, trafo.parallel or 1), 0
    for wide in tables.trafo3w:
        yield from _windings(wide, tables.switch)
    for branch in tables.impedance:
        if branch.in_service:
            yield branch.from_bus, branch.to_bus, _rating(branch.sn_mva), 0
    for switch in tables.switch:
        if switch.et == "b" and switch.closed:
            yield switch.bus, switch.element, None, 0


def _windings(wide: _Trafo3w, switches: Sequence[_Switch]) -> Iterator[_Branch]:
    """Yield both lower windings of a transformer of three, as far as they are switched on."""
    opened = {
        row.bus
        for row in switches
        if (row.et, row.element, row.closed) == ("t3", wide.index, False)
    }
    if wide.in_service and wide.hv_bus not in opened:
        for bus, sn_mva in ((wide.mv_bus, wide.sn_mv_mva), (wide.lv_bus, wide.sn_lv_mva)):
            if bus not in opened:
                yield wide.hv_bus, bus, _rating(sn_mva), 0


# ---- nodes and edges, as networkx writes them and topohub has them ------------------------------


class _City(msgspec.Struct, frozen=True, kw_only=True):
    """A node."""

    id: str | int
    name: str | int | float | None = None


class _Edge(msgspec.Struct, frozen=True, kw_only=True):
    """An edge and its length in km."""

    source: str | int
    target: str | int
    dist: _Number = None


class _Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A graph as a node-link document."""

    nodes: tuple[_City, ...]
    edges: tuple[_Edge, ...]


def read_graph(name: str, document: Mapping[str, object]) -> Grid:
    """Return the grid of a node-link document with lengths `dist` in km.

    Each node is a substation of 380 kV where equally much is wanted; the source is at the one that
    has the most neighbours. Raises ValueError with a sentence for a document that is none.
    """
    try:
        graph = msgspec.convert(document, _Graph)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name} is no graph: {error}") from error
    at = {city.id: place for place, city in enumerate(graph.nodes)}
    wires: list[Wire] = []
    near: list[set[int]] = [set() for _ in graph.nodes]
    for edge in graph.edges:
        if edge.source not in at or edge.target not in at:
            strange = edge.source if edge.source not in at else edge.target
            raise ValueError(f'{name} is no graph: no node has the id "{strange}"')
        a, b = at[edge.source], at[edge.target]
        kilometres = edge.dist or 0
        length_m = round(kilometres * _M_PER_KM) if isfinite(kilometres) else 0
        if a != b:
            wires.append(Wire(a, b, None, max(length_m, 0)))
            near[a].add(b)
            near[b].add(a)
    # of equal ones the first
    hub = max(range(len(near)), key=lambda place: (len(near[place]), -place), default=None)
    supplies = () if hub is None else (Supply(hub),)
    places = (Place(_text(city.name), BACKBONE_MV, _MW_PER_MEGAWATT) for city in graph.nodes)
    return Grid(name, tuple(places), tuple(wires), supplies)
