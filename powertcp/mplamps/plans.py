"""The document of a topology, TOML both ways, with line and column of every fault.

```toml
topology = {name = "street", base = "127.80.0.0"}
node = [
  {name = "es1", kind = "es", capacity = "1MW", supply = "230V/1kA@50Hz"},
  {name = "s1", kind = "transformer"},
]
link = [
  {a = "es1", b = "s1", voltage = "110kV"},
]
```
MPLampS section 7.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

import msgspec

from powertcp.errors import Fault, InvalidText, nearest
from powertcp.mplamps.places import Places, TomlError, read_toml
from powertcp.mplamps.topology import (
    DEFAULT_BASE,
    DEFAULT_CAPACITIES,
    DEFAULT_DELAY_NS,
    DEFAULT_METRIC,
    DEFAULT_REQUEST,
    Draft,
    Link,
    Node,
    NodeKind,
    Path,
    Topology,
    TopologyFault,
    find_faults,
)
from powertcp.profile import PowerProfile
from powertcp.units import (
    parse_duration_ns,
    parse_power_mw,
    parse_price_micro,
    parse_rate_bps,
    parse_voltage_mv,
)

# some hundred octets for each of as many nodes as there may be would be more than anybody writes
MAX_CHARACTERS: Final = 64 * 1024 * 1024
# what somebody reads before they mend the first ones
MAX_TOLD: Final = 100

_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_STRANGE = re.compile(r"Invalid enum value '(.*)'", re.DOTALL)
_WHERE = re.compile(r" - at `\$([^`]*)`$")
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]")
_PROVIDER = re.compile(r"[A-Za-z0-9._:\[\]-]{1,64}:\d{1,5}")


class _Voltage(int):
    """A voltage in mV, written with its unit."""


class _Power(int):
    """A power in mW, written with its unit."""


class _Rate(int):
    """A rate in bit/s, written with its unit."""


class _Delay(int):
    """A duration in ns, written with its unit."""


class _Fee(int):
    """A price in millionths per kWh, written with its unit."""


class _Terms:
    """A power profile, written as V/I[@Hz]."""

    __slots__ = ("profile",)

    def __init__(self, text: str) -> None:
        """Parse `text`. Raises ValueError with a sentence."""
        self.profile = PowerProfile.parse(text)


_QUANTITIES: dict[type, Callable[[str], int]] = {
    _Voltage: parse_voltage_mv,
    _Power: parse_power_mw,
    _Rate: parse_rate_bps,
    _Delay: parse_duration_ns,
    _Fee: parse_price_micro,
}


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table topology."""

    name: str = "topology"
    base: IPv4Address = DEFAULT_BASE


class _NodeRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the array node."""

    name: str
    kind: NodeKind
    capacity: _Power | None = None
    supply: _Terms | None = None
    provider: str = ""
    request: _Terms | None = None


class _LinkRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the array link."""

    a: str
    b: str
    voltage: _Voltage
    capacity: _Power | None = None
    rate: _Rate | None = None
    delay: _Delay = _Delay(DEFAULT_DELAY_NS)
    loss: int = 0
    metric: int = DEFAULT_METRIC
    fee: _Fee = _Fee(0)


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A topology as it is written."""

    topology: _Head = _Head()
    node: tuple[_NodeRow, ...]
    link: tuple[_LinkRow, ...] = ()


_ROWS: dict[str, type[msgspec.Struct]] = {"node": _NodeRow, "link": _LinkRow, "topology": _Head}


class InvalidPlan(InvalidText):
    """A document that is no topology, or no market, with every fault that is told; nothing of it holds."""


def parse_topology(text: str, file: str) -> Topology:
    """Read a topology; `file` is its name in errors.

    Raises InvalidPlan with line and column of each fault. MPLA-7-01, MPLA-7-03.
    """
    # MPLA-7-01
    if len(text) > MAX_CHARACTERS:
        said = f"{len(text):,} characters, at most {MAX_CHARACTERS:,}"
        raise InvalidPlan(file, [Fault(1, 1, said)])
    try:
        table = read_toml(text)
    except TomlError as error:
        raise InvalidPlan(file, [Fault(*error.place, str(error))]) from error
    try:
        document = msgspec.convert(table, _Document, dec_hook=_decode)
    except msgspec.ValidationError as error:
        fault = find_mismatch(str(error), text, _Document, _ROWS, tuple(NodeKind))
        raise InvalidPlan(file, [fault]) from error
    topology = _topology(document)
    faults = [*_kind_faults(document), *find_faults(topology)][:MAX_TOLD]
    if faults:
        places = Places(text)
        placed = [Fault(*places.value(fault.path), fault.text) for fault in faults]
        raise InvalidPlan(file, sorted(placed))
    return topology


def _decode(kind: type, value: object) -> object:
    """Decode a value with its unit, an address, or a profile."""
    if not isinstance(value, str):
        raise ValueError(f'a text is needed, such as "230V", got {value}')
    if kind is _Terms:
        return _Terms(value)
    if kind is IPv4Address:
        return IPv4Address(value)
    return kind(_QUANTITIES[kind](value))


def find_mismatch(
    said: str,
    text: str,
    document: type[msgspec.Struct],
    rows: Mapping[str, type[msgspec.Struct]],
    kinds: Sequence[str] = (),
) -> Fault:
    """Return the fault of a document whose keys or values are of another kind.

    said: what msgspec says. rows: the kinds of the tables named by the keys of `document`. kinds:
    the words of the one value that has a list of words.
    """
    where = _WHERE.search(said)
    path: Path = ()
    if where:
        steps = _STEP.findall(where[1])
        path = tuple(int(index) if index else name for name, index in steps)
        said = said[: where.start()]
    places = Places(text)
    if unknown := _UNKNOWN.search(said):
        names = [step for step in path if isinstance(step, str)]
        kind = rows.get(names[-1], document) if names else document
        hint = nearest(unknown[1], kind.__struct_encode_fields__)
        return Fault(*places.key((*path, unknown[1])), f'unknown key "{unknown[1]}"{hint}')
    if missing := _MISSING.search(said):
        return Fault(*places.value(path), f'the key "{missing[1]}" is missing')
    if strange := _STRANGE.fullmatch(said):
        known = ", ".join(kinds)
        said = f'a kind is {known}, got "{strange[1][:40]}"{nearest(strange[1], kinds)}'
    return Fault(*places.value(path), said)


def _topology(document: _Document) -> Topology:
    draft = Draft(document.topology.name, document.topology.base)
    for row in document.node:
        draft.node(
            row.name,
            row.kind,
            capacity_mw=None if row.capacity is None else int(row.capacity),
            supply=row.supply.profile if row.supply else None,
            provider=row.provider,
            request=row.request.profile if row.request else None,
        )
    for link in document.link:
        draft.link(
            link.a,
            link.b,
            int(link.voltage),
            capacity_mw=None if link.capacity is None else int(link.capacity),
            rate_bps=None if link.rate is None else int(link.rate),
            delay_ns=int(link.delay),
            loss_ppm=link.loss,
            metric=link.metric,
            fee=int(link.fee),
        )
    return draft.finish()


def _kind_faults(document: _Document) -> Iterator[TopologyFault]:
    """Yield keys that are of nodes of another kind, and values that mean nothing."""
    for at, row in enumerate(document.node):
        for key, value, kind in (
            ("capacity", row.capacity is not None, NodeKind.ES),
            ("supply", row.supply is not None, NodeKind.ES),
            ("provider", bool(row.provider), NodeKind.ES),
            ("request", row.request is not None, NodeKind.LAMP),
        ):
            if value and row.kind is not kind:
                text = f"{key} is of nodes of kind {kind}, {row.name} is of kind {row.kind}"
                yield TopologyFault(("node", at, key), text)
        if row.provider and not _PROVIDER.fullmatch(row.provider):
            text = f'a provider is HOST:PORT, got "{row.provider[:64]}"'
            yield TopologyFault(("node", at, "provider"), text)
    for at, link in enumerate(document.link):
        if link.rate == 0:
            yield TopologyFault(("link", at, "rate"), "a rate is above 0 bit/s")


# ---- writing ------------------------------------------------------------------------------------

_VOLTS = (("kV", 10**6), ("V", 10**3), ("mV", 1))
_WATTS = (("MW", 10**9), ("kW", 10**6), ("W", 10**3), ("mW", 1))
_RATES = (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3), ("bit/s", 1))
_TIMES = (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1))
_FEES = (("/kWh", 10**6), ("micro/kWh", 1))


def _exact(value: int, units: Sequence[tuple[str, int]]) -> str:
    """Return a quantity in the greatest unit in which it is whole."""
    name, scale = next(row for row in units if value % row[1] == 0)
    return f"{value // scale}{name}"


def _row(pairs: Sequence[tuple[str, str | int | None]]) -> str:
    """Return one inline table; what is None or "" is left out."""
    said = (f"{key} = {json.dumps(value)}" for key, value in pairs if value not in (None, ""))
    return "  {" + ", ".join(said) + "},"


def _node_row(node: Node) -> str:
    asks = node.request if node.request != DEFAULT_REQUEST else None
    capacity = None if node.capacity_mw is None else _exact(node.capacity_mw, _WATTS)
    return _row(
        [
            ("name", node.name),
            ("kind", str(node.kind)),
            ("capacity", capacity),
            ("supply", node.supply.format() if node.supply else None),
            ("provider", node.provider),
            ("request", asks.format() if asks else None),
        ]
    )


def _link_row(link: Link) -> str:
    is_usual = link.capacity_mw == DEFAULT_CAPACITIES.get(link.voltage_mv)
    return _row(
        [
            ("a", link.a),
            ("b", link.b),
            ("voltage", _exact(link.voltage_mv, _VOLTS)),
            ("capacity", None if is_usual else _exact(link.capacity_mw, _WATTS)),
            ("rate", None if link.rate_bps is None else _exact(link.rate_bps, _RATES)),
            ("delay", _exact(link.delay_ns, _TIMES) if link.delay_ns != DEFAULT_DELAY_NS else None),
            ("loss", link.loss_ppm or None),
            ("metric", link.metric if link.metric != DEFAULT_METRIC else None),
            ("fee", _exact(link.fee, _FEES) if link.fee else None),
        ]
    )


def format_topology(topology: Topology) -> str:
    """Return the document of a topology, one line for each node and link, without defaults."""
    head = f"name = {json.dumps(topology.name)}"
    if topology.base != DEFAULT_BASE:
        head += f', base = "{topology.base}"'
    lines = [f"topology = {{{head}}}", "node = ["]
    lines += [_node_row(node) for node in topology.nodes]
    lines += ["]", "link = ["]
    lines += [_link_row(link) for link in topology.links]
    return "\n".join([*lines, "]"]) + "\n"
