"""The paths of the command line: how each lamp of a topology reaches a source."""

import json
from argparse import Namespace

from powertcp.cli.topologies import DONE, columns, load_topology
from powertcp.errors import ConfigError, nearest
from powertcp.mplamps.ted import Metric, Step, Ted
from powertcp.mplamps.topology import DEFAULT_REQUEST, Node, NodeKind, Topology
from powertcp.units import format_power

PATHLESS = 1


def show(arguments: Namespace) -> int:
    """Print the path of every lamp to a source; PATHLESS if one has none."""
    topology = load_topology(arguments.what[0])
    source = _source(topology, arguments.es)
    metric = Metric(arguments.metric or Metric.IGP)
    ted = Ted(topology, metric)
    found = [(lamp, _path(ted, lamp, source)) for lamp in topology.of_kind(NodeKind.LAMP)]
    if arguments.json:
        for lamp, steps in found:
            print(json.dumps(_values(lamp, source, steps)))
    else:
        what = "metrics" if metric is Metric.IGP else "fees, in micro-units per kWh"
        print(f"paths to {source}, least sum of {what}\n")
        cost = "METRIC" if metric is Metric.IGP else "FEE"
        rows: list[tuple[str, ...]] = [("LAMP", "ASKS FOR", cost, "HOPS", "PATH")]
        rows += [_row(lamp, steps, metric) for lamp, steps in found]
        for line in columns(rows):
            print(line)
    return DONE if all(steps for _, steps in found) else PATHLESS


def _source(topology: Topology, name: str | None) -> str:
    """Return the source that is meant. Raises ConfigError if there is none, or more than one."""
    names = [node.name for node in topology.of_kind(NodeKind.ES)]
    if name is None and len(names) == 1:
        return names[0]
    if name in names:
        return name
    known = f"{len(names):,} sources of topology {topology.name}: {', '.join(names[:8])}"
    if name is None:
        raise ConfigError("command line", "--es", f"one of the {known}")
    text = f'none of the {known}, got "{name[:40]}"{nearest(name, names)}'
    raise ConfigError("command line", "--es", text)


def _asked(lamp: Node) -> tuple[int, int]:
    """Return the mW of a lamp and its setup priority."""
    request = lamp.request or DEFAULT_REQUEST
    return request.power_mw, request.effective_priority // 2


def _path(ted: Ted, lamp: Node, source: str) -> list[Step]:
    mw, priority = _asked(lamp)
    return ted.reverse_tree(source, mw, priority).path(lamp.name)


def _row(lamp: Node, steps: list[Step], metric: Metric) -> tuple[str, ...]:
    asks = format_power(_asked(lamp)[0])
    if not steps:
        return lamp.name, asks, "-", "-", "none: no path carries that"
    igp = sum(step.link.metric for step in steps)
    cost = igp if metric is Metric.IGP else sum(step.link.fee for step in steps)
    way = " ".join((lamp.name, *(step.node for step in steps)))
    return lamp.name, asks, f"{cost:,}", str(len(steps)), way


def _values(lamp: Node, source: str, steps: list[Step]) -> dict[str, object]:
    return {
        "lamp": lamp.name,
        "es": source,
        "request_mw": _asked(lamp)[0],
        "priority": _asked(lamp)[1],
        "metric": sum(step.link.metric for step in steps) if steps else None,
        "fee_micro_per_kwh": sum(step.link.fee for step in steps) if steps else None,
        "path": [step.node for step in steps],
        "links": [step.link.number for step in steps],
    }
