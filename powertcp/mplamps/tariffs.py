"""The document of a market, TOML, with line and column of every fault.

```toml
currency = "EUR"
default = "any"
supplier = [
  {id = 7, name = "Watt and Sons", sources = ["es1"], capacity = "2MW", prices = [
    {at = "00:00", price = "0.2100/kWh"},
  ]},
]
meter = [
  {at = "h1/lamp-1", customer = "Ada", supplier = 7, best_priority = 8, credit = "50.00"},
]
```
MPLampS section 6.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from powertcp.errors import Fault, nearest
from powertcp.mplamps.market import Contract, Market, MeterPoint, PriceStep, Supplier
from powertcp.mplamps.places import Places, TomlError, read_toml
from powertcp.mplamps.plans import MAX_CHARACTERS, MAX_TOLD, InvalidPlan, find_mismatch
from powertcp.mplamps.topology import NodeKind, Topology, TopologyFault
from powertcp.units import parse_power_mw, parse_price_micro

# MPLampS section 4.10
MAX_SUPPLIERS: Final = 64
# a change every quarter of an hour, as the exchanges have it
MAX_STEPS: Final = 96
# a thousand times what a kWh has ever cost, and a product with 2^64 uJ is still an integer
MAX_PRICE: Final = 10**12
MAX_NUMBER: Final = 0xFFFF_FFFF
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_AMOUNT = re.compile(r"(\d{1,12})(?:\.(\d{1,6}))?")
_CURRENCY = re.compile(r"[A-Z]{3}")


class _Power(int):
    """A power in mW, written with its unit."""


class _Price(int):
    """A price in millionths per kWh, written with its unit."""


class _Clock(int):
    """A time of day in seconds, written HH:MM."""


class _Amount(int):
    """An amount in millionths of the currency unit, written as decimal number."""


def _clock(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f'a time of day is HH:MM, 00:00 to 23:59, got "{text[:40]}"')
    return int(found[1]) * 3600 + int(found[2]) * 60


def _amount(text: str) -> int:
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise ValueError(f'an amount is a number such as "50.00", got "{text[:40]}"')
    return int(found[1] + (found[2] or "").ljust(6, "0"))


_QUANTITIES: dict[type, Callable[[str], int]] = {
    _Power: parse_power_mw,
    _Price: parse_price_micro,
    _Clock: _clock,
    _Amount: _amount,
}


class _StepRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the array prices."""

    at: _Clock
    price: _Price


class _SupplierRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the array supplier."""

    id: int
    name: str
    sources: tuple[str, ...]
    capacity: _Power | None = None
    prices: tuple[_StepRow, ...]


class _MeterRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the array meter."""

    at: str
    customer: str
    supplier: int = 0
    best_priority: int = 1
    credit: _Amount | None = None
    fee: _Price = _Price(0)


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A market as it is written."""

    currency: str
    default: Literal["any", "none"] = "none"
    supplier: tuple[_SupplierRow, ...] = ()
    meter: tuple[_MeterRow, ...] = ()


_ROWS: dict[str, type[msgspec.Struct]] = {
    "supplier": _SupplierRow,
    "meter": _MeterRow,
    "prices": _StepRow,
}


def parse_market(text: str, file: str, topology: Topology) -> Market:
    """Read a market whose sources and meter points are nodes of `topology`.

    file: its name in errors. Raises InvalidPlan with line and column of each fault.
    """
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
        fault = find_mismatch(str(error), text, _Document, _ROWS, ("any", "none"))
        raise InvalidPlan(file, [fault]) from error
    faults = [
        *_head_faults(document),
        *_supplier_faults(document, topology),
        *_meter_faults(document, topology),
    ]
    if faults:
        places = Places(text)
        placed = [Fault(*places.value(fault.path), fault.text) for fault in faults[:MAX_TOLD]]
        raise InvalidPlan(file, sorted(placed))
    return _market(document, topology)


def _decode(kind: type, value: object) -> object:
    """Decode a value that is written as text."""
    if not isinstance(value, str):
        raise ValueError(f'a text is needed, such as "2MW" or "0.21/kWh", got {value}')
    return kind(_QUANTITIES[kind](value))


def _head_faults(document: _Document) -> Iterator[TopologyFault]:
    if not _CURRENCY.fullmatch(document.currency):
        text = f'a currency is three capital letters, got "{document.currency[:40]}"'
        yield TopologyFault(("currency",), text)
    count = len(document.supplier)
    if count > MAX_SUPPLIERS:
        yield TopologyFault(("supplier",), f"{count} suppliers, at most {MAX_SUPPLIERS}")


def _supplier_faults(document: _Document, topology: Topology) -> Iterator[TopologyFault]:
    seen: set[int] = set()
    for at, row in enumerate(document.supplier):
        path = ("supplier", at)
        if not 0 < row.id <= MAX_NUMBER:
            yield TopologyFault((*path, "id"), f"an id is 1 to {MAX_NUMBER:,}, got {row.id:,}")
        if row.id in seen:
            yield TopologyFault((*path, "id"), f"supplier {row.id} is there already")
        seen.add(row.id)
        names = [node.name for node in topology.of_kind(NodeKind.ES)]
        for index, name in enumerate(row.sources):
            if name not in names:
                text = f'"{name[:64]}" is no ES of the topology{nearest(name, names)}'
                yield TopologyFault((*path, "sources", index), text)
        if not row.sources or len(set(row.sources)) < len(row.sources):
            yield TopologyFault((*path, "sources"), "sources are at least one, each once")
        yield from _step_faults(path, row.prices)


def _step_faults(
    path: tuple[str | int, ...], steps: tuple[_StepRow, ...]
) -> Iterator[TopologyFault]:
    if not 0 < len(steps) <= MAX_STEPS:
        text = f"prices are 1 to {MAX_STEPS}, got {len(steps)}"
        yield TopologyFault((*path, "prices"), text)
    for index, step in enumerate(steps):
        if index and step.at <= steps[index - 1].at:
            text = "prices are in the order of the day, each time once"
            yield TopologyFault((*path, "prices", index, "at"), text)
        if abs(step.price) > MAX_PRICE:
            text = f"a price is at most {MAX_PRICE // 10**6:,} per kWh"
            yield TopologyFault((*path, "prices", index, "price"), text)


def _meter_faults(document: _Document, topology: Topology) -> Iterator[TopologyFault]:
    known = {row.id for row in document.supplier}
    seen: set[str] = set()
    for at, row in enumerate(document.meter):
        path = ("meter", at)
        if row.at in seen:
            yield TopologyFault((*path, "at"), f"the meter point {row.at[:80]} is there already")
        elif _point(row.at, topology) is None:
            text = f'a meter point is LSR/LAMP, neighbours in the topology, got "{row.at[:80]}"'
            yield TopologyFault((*path, "at"), text)
        seen.add(row.at)
        if not row.customer:
            yield TopologyFault((*path, "customer"), "a customer has a name")
        if row.supplier and row.supplier not in known:
            yield TopologyFault((*path, "supplier"), f"no supplier {row.supplier} in this market")
        if not 1 <= row.best_priority <= 15:
            text = f"a priority is 1 to 15, got {row.best_priority}"
            yield TopologyFault((*path, "best_priority"), text)
        if abs(row.fee) > MAX_PRICE:
            text = f"a fee is at most {MAX_PRICE // 10**6:,} per kWh"
            yield TopologyFault((*path, "fee"), text)


def _point(text: str, topology: Topology) -> MeterPoint | None:
    """Return the meter point written LSR/LAMP, None if there is none."""
    edge, _, lamp = text.partition("/")
    if edge not in topology or lamp not in topology:
        return None
    node = topology.node(edge)
    if not node.kind.is_lsr or topology.node(lamp).kind is not NodeKind.LAMP:
        return None
    link = topology.between(edge, lamp)
    return MeterPoint(node.address, link.number) if link else None


def _market(document: _Document, topology: Topology) -> Market:
    suppliers = {}
    for row in document.supplier:
        own = sum(topology.capacity_of(name) for name in row.sources)
        suppliers[row.id] = Supplier(
            number=row.id,
            name=row.name,
            sources=tuple(topology.node(name).address for name in row.sources),
            capacity_mw=own if row.capacity is None else int(row.capacity),
            steps=tuple(PriceStep(int(step.at), int(step.price)) for step in row.prices),
        )
    contracts = {}
    for meter in document.meter:
        if point := _point(meter.at, topology):
            contracts[point] = Contract(
                customer=meter.customer,
                supplier=meter.supplier,
                best_priority=meter.best_priority,
                credit=None if meter.credit is None else int(meter.credit),
                fee=int(meter.fee),
            )
    return Market(
        currency=document.currency,
        suppliers=suppliers,
        contracts=contracts,
        serves_any=document.default == "any",
    )
