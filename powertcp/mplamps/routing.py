"""Where a PATH goes on: the ERO that came with it, the one that is made here, and crank-back.

MPLampS sections 4.5 and 5.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from powertcp.mplamps.ports import Port
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.rsvp.messages import Path
from powertcp.mplamps.rsvp.objects import MAX_HOPS, ErrorSpec, RouteHop
from powertcp.mplamps.ted import Exclusions, ReverseTree, RouteFault, Ted, Unroutable, faulty_link
from powertcp.mplamps.topology import NodeKind
from powertcp.profile import ProfileType
from powertcp.units import Instant

# MPLA-5-01
MAX_TRIES: Final = 3
_ROUTING: Final = 24


class Routed(NamedTuple):
    """The next link toward the source.

    route: what the ERO says from there on. names: the nodes of a route that was made here, this
    node first; () where somebody else has made it.
    """

    link: int
    route: tuple[RouteHop, ...]
    names: tuple[str, ...]


class _Need(NamedTuple):
    """What each link of a route must have left, and the links it does not use."""

    mw: int
    rate: int
    without: frozenset[int]


class Router:
    """The ways of one node; links that have failed a route of its own are excluded for 30 s."""

    __slots__ = ("_address", "_cached", "_failed", "_full", "_links", "_name", "_ted")

    def __init__(self, name: str, ted: Ted, ports: Mapping[int, Port]) -> None:
        """Take the name of the node and its links."""
        self._name = name
        self._ted = ted
        self._address = ted.topology.node(name).address
        # where the next hop of an ERO may be: lamps are never passed through
        self._links = {port.address: port for port in ports.values() if not port.is_lamp}
        # links that cannot be passed, and those that had no power left
        self._failed = Exclusions()
        self._full = Exclusions()
        # the last route to each source, and the tree that it was read from
        self._cached: dict[str, tuple[ReverseTree, Routed]] = {}

    def find(self, path: Path, power: PowerObject, now: Instant) -> Routed:
        """Return where a PATH goes on. Raises Unroutable with the value of error 24. MPLA-4.5-05.

        power: what is left of its REQUEST after admission.
        """
        if not path.route:
            return self._lead(path, power, now)
        # MPLA-4.5-05
        route = self._rest(path.route)
        if not route:
            return self._lead(path, power, now)
        port = self._links.get(route[0].node)
        if port is not None and not route[0].is_loose:
            self._check(port, path.session.es)
            return Routed(port.number, route, ())
        return self._fill(path, power, route, now)

    def _rest(self, route: tuple[RouteHop, ...]) -> tuple[RouteHop, ...]:
        """Return an ERO without this node at its head."""
        head = route[0]
        if len(route) > MAX_HOPS:
            text = f"an ERO of {len(route)} hops, limit {MAX_HOPS}"
            raise Unroutable(RouteFault.BAD_ERO, text)
        if head.node == self._address:
            return route[1:]
        # MPLA-4.5-05
        if not head.is_loose:
            text = f"the strict hop {head.node} is not {self._name}"
            raise Unroutable(RouteFault.BAD_STRICT, text)
        return route

    def finish(self, path: Path) -> None:
        """Check the ERO of a PATH that has come to its source. Raises Unroutable."""
        if path.route and self._rest(path.route):
            text = f"the ERO goes on behind {self._name}"
            raise Unroutable(RouteFault.BAD_ERO, text)

    def again(self, path: Path, power: PowerObject, now: Instant) -> Routed:
        """Return another route in place of one that has failed. Raises Unroutable. MPLA-5-01.

        It has the power or at least the MINIMUM left: what is sure to fail is not tried.
        """
        return self._lead(path, power, now, is_hopeful=False)

    def blame(self, names: Sequence[str], error: ErrorSpec, now: Instant) -> bool:
        """Exclude the link that an error rules out; False if that is none of the route."""
        node = self._ted.topology.at(error.node)
        if not names or node is None:
            return False
        link = faulty_link(self._ted.topology, names, node.name, error.code)
        if link is None:
            return False
        # MPLA-5-01
        exclusions = self._failed if error.code == _ROUTING else self._full
        exclusions.exclude(link.number, now)
        return True

    def exclude(self, link: int, now: Instant) -> None:
        """Exclude a link that cannot be passed for 30 s."""
        self._failed.exclude(link, now)

    def include(self, link: int) -> None:
        """Use a link again whose other end has been heard of."""
        self._failed.include(link)

    def nearest_source(self, mw: int, rate: int, priority: int, now: Instant) -> IPv4Address | None:
        """Return the ES to which the path is least, of equal ones the first; None without one.

        One whose links have not the power left is taken only if no other is there.
        """
        sources = self._ted.topology.of_kind(NodeKind.ES)
        if len(sources) == 1:
            return sources[0].address
        without = self._failed.numbers(now)
        for need in (_Need(mw, rate, without), _Need(0, 0, without)):
            best: tuple[int, IPv4Address] | None = None
            for source in sources:
                tree = self._ted.reverse_tree(
                    source.name, need.mw, priority, need.without, rate=need.rate
                )
                steps = tree.path(self._name)
                cost = sum(step.link.metric for step in steps)
                if steps and (best is None or cost < best[0]):
                    best = cost, source.address
            if best is not None:
                return best[1]
        return None

    # ---- routes that are made here ----------------------------------------------------------

    def _lead(
        self, path: Path, power: PowerObject, now: Instant, *, is_hopeful: bool = True
    ) -> Routed:
        """Return a route to the source of a PATH without ERO, strict from here on."""
        node = self._ted.topology.at(path.session.es)
        if node is None or node.kind is not NodeKind.ES:
            text = f"{path.session.es} is no source"
            raise Unroutable(RouteFault.NO_ROUTE, text)
        priority = path.attribute.setup
        for need in self._needs(path, power, now, is_hopeful=is_hopeful):
            tree = self._ted.reverse_tree(
                node.name, need.mw, priority, need.without, rate=need.rate
            )
            cached = self._cached.get(node.name)
            if cached is not None and cached[0] is tree:
                routed = cached[1]
            elif steps := tree.path(self._name):
                names = [self._name, *(step.node for step in steps)]
                routed = self._made(names)
                self._cached[node.name] = tree, routed
            else:
                continue
            # MPLA-4.6-05
            if path.session.is_shared:
                return Routed(routed.link, (), ())
            return routed
        text = f"no path from {self._name} to {node.name}"
        raise Unroutable(RouteFault.NO_ROUTE, text)

    def _fill(
        self, path: Path, power: PowerObject, route: tuple[RouteHop, ...], now: Instant
    ) -> Routed:
        """Return a strict route for an ERO with loose hops, or whose next hop is no neighbour."""
        topology = self._ted.topology
        hops = []
        for hop in route:
            node = topology.at(hop.node)
            hops.append((str(hop.node) if node is None else node.name, hop.is_loose))
        source = topology.at(path.session.es)
        if source is None or source.kind is not NodeKind.ES:
            raise Unroutable(RouteFault.NO_ROUTE, f"{path.session.es} is no source")
        priority = path.attribute.setup
        last: Unroutable | None = None
        for need in self._needs(path, power, now, is_hopeful=True):
            try:
                names = self._ted.route(
                    self._name, source.name, need.mw, priority, need.without,
                    rate=need.rate, hops=hops,
                )  # fmt: skip
            except Unroutable as error:
                last = error
            else:
                return self._made([self._name, *names])
        raise last or Unroutable(RouteFault.NO_ROUTE, f"no path to {source.name}")

    def _made(self, names: Sequence[str]) -> Routed:
        topology = self._ted.topology
        hops = [RouteHop(topology.node(name).address) for name in names[1 : MAX_HOPS + 1]]
        return Routed(self._links[hops[0].node].number, tuple(hops), tuple(names))

    @staticmethod
    def _check(port: Port, source: IPv4Address) -> None:
        """Refuse a next hop that is another source than that of the session."""
        if port.is_source and port.address != source:
            text = f"no path to {source} leads over {port.other}"
            raise Unroutable(RouteFault.BAD_STRICT, text)

    def _needs(
        self, path: Path, power: PowerObject, now: Instant, *, is_hopeful: bool
    ) -> Iterator[_Need]:
        """Yield what the links of a route should have left, the best first.

        Where there is no such route, a hopeful one leads over links that were full before, and at
        last over any: their admission says then what is left, counts circuits of one session once,
        and knows who is less important.
        """
        rate = path.tspec.rate
        powers = [power.profile.power_mw]
        # MPLA-4.5-03
        if power.second is not None and power.second.type is ProfileType.MINIMUM:
            powers.append(power.second.power_mw)
        failed, full = self._failed.numbers(now), self._full.numbers(now)
        # MPLA-5-01
        for mw in powers:
            yield _Need(mw, rate, failed | full)
        if is_hopeful:
            for mw in powers if full else ():
                yield _Need(mw, rate, failed)
            yield _Need(0, 0, failed)
            # another link may have failed while one that had is there again
            for fewer in self._failed.relaxed(now):
                yield _Need(0, 0, fewer)
