"""The graph of a network: lamps, sources and load-switching routers, and the links between them.

A topology is made by a Draft, which numbers nodes and links in their order; `find_faults` says what
must not be, `find_warnings` what is hardly meant. MPLampS section 7.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Final, NamedTuple, TypeAlias

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.address import address_of
from powertcp.mplamps.label import MAX_VOLTAGE_MV, NEUTRAL, label_of
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_MS, Duration, format_power, format_voltage

DEFAULT_BASE: Final = IPv4Address("10.0.0.0")
DEFAULT_DELAY_NS: Final[Duration] = NS_PER_MS
DEFAULT_METRIC: Final = 10
DEFAULT_REQUEST: Final = PowerProfile.parse("230V/260mA@50Hz")
# mV to mW
DEFAULT_CAPACITIES: Final = {
    380_000_000: 1_000_000_000_000,
    110_000_000: 100_000_000_000,
    20_000_000: 10_000_000_000,
    400_000: 250_000_000,
    230_000: 3_680_000,
}
# a million lamps with their houses
MAX_NODES: Final = 2_000_000
# MPLA-4.10-03
MAX_NEIGHBOURS: Final = 256
MAX_LOSS_PPM: Final = 1_000_000
# 24 bits, so that the sum along any path fits 64
MAX_METRIC: Final = 0xFF_FFFF

_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_FIRST_ADDRESS = 1 << 24
_FIRST_MULTICAST = 224 << 24
_U32 = 0xFFFF_FFFF


class NodeKind(StrEnum):
    """What a node is."""

    ES = "es"
    TRANSFORMER = "transformer"
    SWITCH = "switch"
    LAMP = "lamp"
    PDP = "pdp"

    @property
    def is_lsr(self) -> bool:
        """Whether packets may pass through it."""
        return self in (NodeKind.TRANSFORMER, NodeKind.SWITCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node. capacity_mw: of an ES, None: that of its links. supply: what an ES has, None: any.

    provider: address of the provider that serves an ES, "" if it serves itself. request: of a lamp.
    """

    name: str
    kind: NodeKind
    address: IPv4Address
    capacity_mw: int | None = None
    supply: PowerProfile | None = None
    provider: str = ""
    request: PowerProfile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link between two nodes, numbered from 1. label: that of its voltage.

    rate_bps: None without limit. loss_ppm: packets lost of a million. fee: of passing, millionths
    of the currency unit per kWh.
    """

    number: int
    a: str
    b: str
    voltage_mv: int
    label: int
    capacity_mw: int
    rate_bps: int | None = None
    delay_ns: Duration = DEFAULT_DELAY_NS
    loss_ppm: int = 0
    metric: int = DEFAULT_METRIC
    fee: int = 0

    @property
    def name(self) -> str:
        """Both ends: "c1--h3"."""
        return f"{self.a}--{self.b}"

    def other(self, name: str) -> str:
        """Return the end that is not `name`."""
        return self.b if name == self.a else self.a


class Topology:
    """Nodes and links with what is near what; read only. Names of nodes are their ids."""

    __slots__ = (
        "_at",
        "_between",
        "_links_of",
        "_nodes",
        "_of_kind",
        "base",
        "links",
        "name",
        "nodes",
    )

    def __init__(
        self, name: str, base: IPv4Address, nodes: Iterable[Node], links: Iterable[Link]
    ) -> None:
        """Take nodes and links that `find_faults` finds nothing wrong with, or look for faults."""
        self.name = name
        self.base = base
        self.nodes = tuple(nodes)
        self.links = tuple(links)
        self._nodes = {node.name: node for node in self.nodes}
        self._at = {node.address: node for node in self.nodes}
        self._of_kind: dict[NodeKind, list[Node]] = {kind: [] for kind in NodeKind}
        for node in self.nodes:
            self._of_kind[node.kind].append(node)
        self._between = {frozenset((link.a, link.b)): link for link in self.links}
        links_of: dict[str, list[Link]] = {}
        for link in self.links:
            for end in {link.a, link.b}:
                links_of.setdefault(end, []).append(link)
        self._links_of = {name: tuple(found) for name, found in links_of.items()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        mine = (self.name, self.base, self.nodes, self.links)
        return mine == (other.name, other.base, other.nodes, other.links)

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def node(self, name: str) -> Node:
        """Return a node. Raises LocalProtocolError for a name that is none."""
        if name not in self._nodes:
            raise LocalProtocolError(f'no node of topology {self.name} is called "{name}"')
        return self._nodes[name]

    def at(self, address: IPv4Address) -> Node | None:
        """Return the node with an address, None if nobody has it."""
        return self._at.get(address)

    def link(self, number: int) -> Link:
        """Return a link, 1..len(links). Raises LocalProtocolError for another number."""
        if not 1 <= number <= len(self.links):
            raise LocalProtocolError(f"link {number} of 1..{len(self.links)}")
        return self.links[number - 1]

    def links_of(self, name: str) -> tuple[Link, ...]:
        """Return the links of a node, in their order."""
        return self._links_of.get(name, ())

    def between(self, a: str, b: str) -> Link | None:
        """Return the link between two nodes, None if there is none."""
        return self._between.get(frozenset((a, b)))

    def of_kind(self, *kinds: NodeKind) -> list[Node]:
        """Return the nodes of some kinds, in their order."""
        if len(kinds) == 1:
            return list(self._of_kind[kinds[0]])
        return [node for node in self.nodes if node.kind in kinds]

    def pdp(self) -> Node | None:
        """Return the policy decision point, None if there is none."""
        return next(iter(self._of_kind[NodeKind.PDP]), None)

    def is_edge(self, name: str) -> bool:
        """Whether a node is an LSR with a lamp as neighbour."""
        return self.node(name).kind.is_lsr and any(
            self.node(link.other(name)).kind is NodeKind.LAMP for link in self.links_of(name)
        )

    def capacity_of(self, source: str) -> int:
        """Return the mW of an ES: its own capacity, or else what its links carry."""
        own = self.node(source).capacity_mw
        if own is not None:
            return own
        return sum(link.capacity_mw for link in self.links_of(source))


class Draft:
    """A topology in the making: gives addresses and numbers in the order of the calls."""

    def __init__(self, name: str, base: IPv4Address = DEFAULT_BASE) -> None:
        self._name = name
        self._base = base
        self._nodes: list[Node] = []
        self._links: list[Link] = []

    # MPLA-7-02
    def node(
        self,
        name: str,
        kind: NodeKind,
        *,
        capacity_mw: int | None = None,
        supply: PowerProfile | None = None,
        provider: str = "",
        request: PowerProfile | None = None,
    ) -> str:
        """Add a node with the next address and return its name."""
        asks = (request or DEFAULT_REQUEST) if kind is NodeKind.LAMP else request
        address = address_of(int(self._base) + len(self._nodes) + 1 & _U32)
        self._nodes.append(
            Node(
                name=name,
                kind=kind,
                address=address,
                capacity_mw=capacity_mw,
                supply=supply,
                provider=provider,
                request=asks,
            )
        )
        return name

    # MPLA-7-02
    def link(
        self,
        a: str,
        b: str,
        voltage_mv: int,
        *,
        capacity_mw: int | None = None,
        rate_bps: int | None = None,
        delay_ns: Duration = DEFAULT_DELAY_NS,
        loss_ppm: int = 0,
        metric: int = DEFAULT_METRIC,
        fee: int = 0,
    ) -> None:
        """Add a link with the next number; its capacity is by default that of its voltage, else 0."""
        if capacity_mw is None:
            capacity_mw = DEFAULT_CAPACITIES.get(voltage_mv, 0)
        is_labelled = 0 <= voltage_mv <= MAX_VOLTAGE_MV
        self._links.append(
            Link(
                number=len(self._links) + 1,
                a=a,
                b=b,
                voltage_mv=voltage_mv,
                label=label_of(voltage_mv) if is_labelled else NEUTRAL,
                capacity_mw=capacity_mw,
                rate_bps=rate_bps,
                delay_ns=delay_ns,
                loss_ppm=loss_ppm,
                metric=metric,
                fee=fee,
            )
        )

    def finish(self) -> Topology:
        """Return what was made, right or wrong: `find_faults` says which."""
        return Topology(self._name, self._base, self._nodes, self._links)


# ---- faults -------------------------------------------------------------------------------------

Path: TypeAlias = tuple[str | int, ...]


class TopologyFault(NamedTuple):
    """What must not be, and where it stands: ("link", 3, "voltage") is of the fourth link."""

    path: Path
    text: str


def find_faults(topology: Topology) -> list[TopologyFault]:
    """Return all that is wrong with a topology, [] if nothing is. MPLA-7-03.

    What is not connected is told only where nothing else is wrong.
    """
    # MPLA-7-03
    found = [*_node_faults(topology), *_link_faults(topology)]
    return found or [*_label_faults(topology), *_reach_faults(topology)]


def _said_of_names(name: str) -> str:
    return f'a name has 1 to 32 letters, digits, "-", "_" and ".", got "{name[:40]}"'


def _node_faults(topology: Topology) -> Iterator[TopologyFault]:
    count = len(topology.nodes)
    if not 1 <= count <= MAX_NODES:
        yield TopologyFault(("node",), f"1 to {MAX_NODES:,} nodes, got {count:,}")
        return
    if not _NAME.fullmatch(topology.name):
        yield TopologyFault(("topology", "name"), _said_of_names(topology.name))
    last = int(topology.base) + count
    strays = topology.base.is_loopback and not IPv4Address(last & _U32).is_loopback
    if int(topology.base) < _FIRST_ADDRESS or last >= _FIRST_MULTICAST or strays:
        text = f"no {count:,} addresses of nodes follow {topology.base}"
        yield TopologyFault(("topology", "base"), text)
    seen: set[str] = set()
    pdp = ""
    for at, node in enumerate(topology.nodes):
        if not _NAME.fullmatch(node.name):
            yield TopologyFault(("node", at, "name"), _said_of_names(node.name))
        elif node.name in seen:
            yield TopologyFault(("node", at, "name"), f'a second node is called "{node.name}"')
        seen.add(node.name)
        if node.kind is NodeKind.PDP:
            if pdp:
                yield TopologyFault(("node", at, "kind"), f"a second pdp, the first is {pdp}")
            pdp = pdp or node.name
        if len(topology.links_of(node.name)) > MAX_NEIGHBOURS:
            links = len(topology.links_of(node.name))
            text = f"{node.name} has {links:,} neighbours, at most {MAX_NEIGHBOURS}"
            yield TopologyFault(("node", at), text)


def _link_faults(topology: Topology) -> Iterator[TopologyFault]:
    pairs: set[frozenset[str]] = set()
    for at, link in enumerate(topology.links):
        pair = frozenset((link.a, link.b))
        unknown = next((end for end in ("a", "b") if getattr(link, end) not in topology), "")
        if unknown:
            text = f'no node is called "{getattr(link, unknown)[:40]}"'
            yield TopologyFault(("link", at, unknown), text)
        elif link.a == link.b:
            yield TopologyFault(("link", at, "b"), f"a link from {link.a} to itself")
        elif pair in pairs:
            yield TopologyFault(("link", at), f"a second link between {link.a} and {link.b}")
        elif text := _misplaced(topology.node(link.a), topology.node(link.b)):
            yield TopologyFault(("link", at), text)
        pairs.add(pair)
        yield from _value_faults(at, link)


def _misplaced(a: Node, b: Node) -> str:
    """Return what is wrong with a link between nodes of these kinds, "" if nothing is."""
    for node, other in ((a, b), (b, a)):
        if node.kind is NodeKind.PDP:
            return f"{node.name} is the pdp, which has no links"
        if node.kind is NodeKind.LAMP and not other.kind.is_lsr:
            return f"{node.name} is a lamp: {other.name} must be a switch or a transformer"
    if a.kind is b.kind is NodeKind.ES:
        return f"{a.name} and {b.name} are sources: nothing passes between them"
    return ""


def _value_faults(at: int, link: Link) -> Iterator[TopologyFault]:
    if link.label == NEUTRAL:
        text = f"above 0 V and up to {format_voltage(MAX_VOLTAGE_MV)}, got "
        said = format_voltage(link.voltage_mv)
        yield TopologyFault(("link", at, "voltage"), text + said)
    elif link.capacity_mw <= 0:
        said = format_voltage(link.voltage_mv)
        text = f"the capacity of a link of {said} must be stated, above 0 W"
        yield TopologyFault(("link", at), text)
    for name, value, least, most in (
        ("loss", link.loss_ppm, 0, MAX_LOSS_PPM),
        ("metric", link.metric, 1, MAX_METRIC),
        ("fee", link.fee, 0, 10**12),
    ):
        if not least <= value <= most:
            text = f"{name} is {value:,}, the limit is {least:,}..{most:,}"
            yield TopologyFault(("link", at, name), text)


def _label_faults(topology: Topology) -> Iterator[TopologyFault]:
    for node in topology.nodes:
        links = topology.links_of(node.name)
        if node.kind is NodeKind.TRANSFORMER or not links:
            continue
        first = links[0]
        # MPLA-2.3-02
        for link in links[1:]:
            if link.label != first.label:
                text = (
                    f"{node.name} is no transformer: its links {first.name} and {link.name} have"
                    f" {format_voltage(first.voltage_mv)} and {format_voltage(link.voltage_mv)}"
                )
                yield TopologyFault(("link", link.number - 1, "voltage"), text)
                break


def _spread(topology: Topology, start: Iterable[str], *, through_all: bool) -> set[str]:
    """Return what is reached from `start`, through LSRs only unless `through_all`."""
    seen = set(start)
    queue = deque(seen)
    is_first = set(seen)
    while queue:
        name = queue.popleft()
        if not (through_all or name in is_first or topology.node(name).kind.is_lsr):
            continue
        for link in topology.links_of(name):
            other = link.other(name)
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return seen


def _reach_faults(topology: Topology) -> Iterator[TopologyFault]:
    sources = [node.name for node in topology.of_kind(NodeKind.ES)]
    lit = _spread(topology, sources, through_all=False)
    joined: set[str] = set()
    for at, node in enumerate(topology.nodes):
        if node.kind is NodeKind.PDP:
            continue
        if node.name not in joined:
            if joined:
                first = next(n.name for n in topology.nodes if n.name in joined)
                yield TopologyFault(("node", at), f"{node.name} is not connected with {first}")
            joined |= _spread(topology, [node.name], through_all=True)
        if node.kind is NodeKind.LAMP and node.name not in lit:
            yield TopologyFault(("node", at), f"no source can be reached from {node.name}")


# ---- sanity -------------------------------------------------------------------------------------


def find_warnings(topology: Topology) -> list[str]:
    """Return where the lamps ask for more than can ever come, of a topology without faults."""
    # MPLA-7-05
    return [*_feeder_warnings(topology), *_source_warnings(topology)]


def _demand_mw(node: Node) -> int:
    return node.request.power_mw if node.kind is NodeKind.LAMP and node.request else 0


def _source_warnings(topology: Topology) -> Iterator[str]:
    asked = sum(_demand_mw(node) for node in topology.nodes)
    had = sum(topology.capacity_of(node.name) for node in topology.of_kind(NodeKind.ES))
    if asked > had:
        yield f"all lamps ask for {format_power(asked)}, all sources have {format_power(had)}"


def _feeder_warnings(topology: Topology) -> Iterator[str]:
    """Warn of bridges: all power for the lamps behind one has to pass it."""
    sources = topology.of_kind(NodeKind.ES)
    if not sources:
        return
    order, above, lowest = _depth_first(topology, sources[0].name)
    demand = {name: _demand_mw(topology.node(name)) for name in order}
    supplied = {name: int(topology.node(name).kind is NodeKind.ES) for name in order}
    for name in reversed(order):
        if (link := above.get(name)) is not None:
            parent = link.other(name)
            demand[parent] += demand[name]
            supplied[parent] += supplied[name]
    at = {name: number for number, name in enumerate(order)}
    total = demand[order[0]]
    for link in topology.links:
        below = next((end for end in (link.a, link.b) if above.get(end) is link), None)
        # a bridge: nothing below reaches above but by this link
        if below is None or lowest[below] < at[below]:
            continue
        if supplied[below] not in (0, len(sources)):
            continue
        asked = total - demand[below] if supplied[below] else demand[below]
        if asked > link.capacity_mw:
            yield (
                f"feeder {link.name} ({format_voltage(link.voltage_mv)}) carries"
                f" {format_power(link.capacity_mw)}, the lamps behind it ask for"
                f" {format_power(asked)}"
            )


def _depth_first(
    topology: Topology, root: str
) -> tuple[list[str], dict[str, Link], dict[str, int]]:
    """Return names in depth-first order, the link above each, and the lowest number each reaches."""
    order: list[str] = []
    above: dict[str, Link] = {}
    lowest: dict[str, int] = {}
    at: dict[str, int] = {}
    stack: list[tuple[str, Iterator[Link]]] = []

    def enter(name: str) -> None:
        at[name] = lowest[name] = len(order)
        order.append(name)
        stack.append((name, iter(topology.links_of(name))))

    enter(root)
    while stack:
        name, links = stack[-1]
        for link in links:
            other = link.other(name)
            if other not in at:
                above[other] = link
                enter(other)
                break
            if above.get(name) is not link:
                lowest[name] = min(lowest[name], at[other])
        else:
            stack.pop()
            if stack:
                parent = stack[-1][0]
                lowest[parent] = min(lowest[parent], lowest[name])
    return order, above, lowest
