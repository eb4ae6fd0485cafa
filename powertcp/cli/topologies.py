"""The topologies of the command line, files or the words of a generator: made, checked, shown."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from powertcp.cli.topology_import import import_topology, is_import, print_import
from powertcp.errors import ConfigError, Fault, HostError
from powertcp.mplamps.generators import generate_topology, is_generator
from powertcp.mplamps.plans import (
    MAX_CHARACTERS,
    InvalidPlan,
    format_topology,
    parse_topology,
)
from powertcp.mplamps.topology import (
    DEFAULT_BASE,
    DEFAULT_METRIC,
    Link,
    Node,
    NodeKind,
    Topology,
    find_warnings,
)
from powertcp.units import NS_PER_US, format_duration, format_power, format_voltage

DONE = 0
USAGE = 2
# the number of an I/O error that has none
_EIO = 5


def load_topology(word: str) -> Topology:
    """Return the topology of a file, the one that a generator makes, or the grid of a library.

    Raises HostError if the file cannot be read, ConfigError if it is no topology.
    """
    if is_generator(word):
        return make_topology(word)
    if is_import(word):
        return import_topology(word)
    octets = _read(Path(word))
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode()
        place = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise InvalidPlan(word, [Fault(*place, "it is not UTF-8")]) from error
    return parse_topology(text, word)


def make_topology(
    spec: str, base: IPv4Address = DEFAULT_BASE, *, has_pdp: bool = False
) -> Topology:
    """Return what a generator makes. Raises ConfigError with a sentence."""
    try:
        return generate_topology(spec, base=base, has_pdp=has_pdp)
    except ValueError as error:
        raise ConfigError("command line", "TOPOLOGY", str(error)) from error


def _read(path: Path) -> bytes:
    """Return what a file holds, at most one octet more than a topology may have."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            return file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise HostError(error.errno or _EIO, str(path), "read a topology") from error


def _at_once(name: str, flags: int) -> int:
    # a pipe that nobody writes into is empty
    return os.open(name, flags | os.O_NONBLOCK)


def generate(arguments: Namespace) -> int:
    """Print the document of a generated topology."""
    topology = make_topology(arguments.what[0], _base(arguments), has_pdp=arguments.pdp)
    sys.stdout.write(format_topology(topology))
    return DONE


def import_grid(arguments: Namespace) -> int:
    """Print the document of the grid of a library."""
    return print_import(arguments, _base(arguments))


def _base(arguments: Namespace) -> IPv4Address:
    try:
        return IPv4Address(arguments.base) if arguments.base else DEFAULT_BASE
    except ValueError as error:
        raise ConfigError("command line", "--base", str(error)) from error


# ---- check --------------------------------------------------------------------------------------


def check(arguments: Namespace) -> int:
    """Say of each topology what it holds, or what is wrong with it."""
    status = DONE
    for name in arguments.what:
        faults: Sequence[Fault] = ()
        warnings: list[str] = []
        counts: dict[str, int] = {}
        try:
            topology = load_topology(name)
        except InvalidPlan as error:
            status, faults = USAGE, error.faults
        else:
            counts = _counts(topology)
            warnings = [] if arguments.suppress_sanity else find_warnings(topology)
        if arguments.json:
            rows = [fault._asdict() for fault in faults]
            said = {"file": name, "valid": not faults, "faults": rows, "warnings": warnings}
            print(json.dumps(said | counts))
            continue
        for fault in faults:
            print(f"INVALID  {name}:{fault.line}:{fault.column}: {fault.text}")
        if not faults:
            said_counts = ", ".join(_count(n, what) for what, n in counts.items() if n)
            print(f"VALID    {name}: {said_counts}")
        for warning in warnings:
            print(f"SANITY   {name}: {warning}")
    return status


def _counts(topology: Topology) -> dict[str, int]:
    return {
        "lamps": len(topology.of_kind(NodeKind.LAMP)),
        "sources": len(topology.of_kind(NodeKind.ES)),
        "transformers": len(topology.of_kind(NodeKind.TRANSFORMER)),
        "switches": len(topology.of_kind(NodeKind.SWITCH)),
        "pdps": len(topology.of_kind(NodeKind.PDP)),
        "links": len(topology.links),
    }


def _count(number: int, what: str) -> str:
    one = "switch" if what == "switches" else what[:-1]
    return f"{number:,} {one if number == 1 else what}"


# ---- show ---------------------------------------------------------------------------------------


def show(arguments: Namespace) -> int:
    """Print nodes with their addresses, then links with their labels."""
    topology = load_topology(arguments.what[0])
    if arguments.json:
        for node in topology.nodes:
            print(json.dumps(_node_values(topology, node)))
        for link in topology.links:
            print(json.dumps(_link_values(link)))
        return DONE
    print(f"topology {topology.name}, addresses after {topology.base}\n")
    nodes: list[tuple[str, ...]] = [("NODE", "KIND", "ADDRESS", "LINKS", "")]
    nodes += [_node_row(topology, node) for node in topology.nodes]
    links: list[tuple[str, ...]] = [("NO", "LINK", "VOLTAGE", "LABEL", "CAPACITY", "DELAY", "")]
    links += [_link_row(link) for link in topology.links]
    for line in (*columns(nodes), "", *columns(links)):
        print(line)
    return DONE


def columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows as lines, columns as wide as their widest cell."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _node_row(topology: Topology, node: Node) -> tuple[str, ...]:
    said: list[str] = []
    if node.kind is NodeKind.ES:
        said.append(f"has {format_power(topology.capacity_of(node.name))}")
    if node.supply:
        said.append(f"supplies {node.supply.format()}")
    if node.provider:
        said.append(f"provider {node.provider}")
    if node.request:
        said.append(f"asks for {node.request.format()}, {format_power(node.request.power_mw)}")
    if topology.is_edge(node.name):
        said.append("edge")
    links = str(len(topology.links_of(node.name)))
    return node.name, str(node.kind), str(node.address), links, "; ".join(said)


def _link_row(link: Link) -> tuple[str, ...]:
    said: list[str] = []
    if link.rate_bps is not None:
        said.append(f"rate {link.rate_bps:,} bit/s")
    if link.loss_ppm:
        said.append(f"loss {link.loss_ppm:,} ppm")
    said += [f"metric {link.metric}"] if link.metric != DEFAULT_METRIC else []
    said += [f"fee {link.fee:,} micro/kWh"] if link.fee else []
    return (
        str(link.number),
        link.name,
        format_voltage(link.voltage_mv),
        str(link.label),
        format_power(link.capacity_mw),
        format_duration(link.delay_ns),
        "; ".join(said),
    )


def _node_values(topology: Topology, node: Node) -> dict[str, object]:
    values: dict[str, object] = {
        "node": node.name,
        "kind": str(node.kind),
        "address": str(node.address),
        "links": [link.number for link in topology.links_of(node.name)],
        "edge": topology.is_edge(node.name),
    }
    if node.kind is NodeKind.ES:
        values["capacity_mw"] = topology.capacity_of(node.name)
        values["supply"] = node.supply.format() if node.supply else ""
        values["provider"] = node.provider
    if node.request:
        values["request"] = node.request.format()
        values["request_mw"] = node.request.power_mw
    return values


def _link_values(link: Link) -> dict[str, object]:
    return {
        "link": link.number,
        "a": link.a,
        "b": link.b,
        "voltage_mv": link.voltage_mv,
        "label": link.label,
        "capacity_mw": link.capacity_mw,
        "rate_bps": link.rate_bps,
        "delay_us": link.delay_ns // NS_PER_US,
        "loss_ppm": link.loss_ppm,
        "metric": link.metric,
        "fee_micro_per_kwh": link.fee,
    }
