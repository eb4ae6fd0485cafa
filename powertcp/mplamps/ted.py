"""The database of links: which have power left, and the ways of all nodes to a source in one tree.

A tree is one Dijkstra from the source, against the direction of the PATHs; every node has its next
hop from it. MPLampS sections 4.6 and 5.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from heapq import heappop, heappush
from itertools import accumulate
from typing import Final, NamedTuple

from powertcp.errors import LocalProtocolError, PowerError
from powertcp.mplamps.topology import MAX_METRIC, MAX_NODES, Link, Topology
from powertcp.units import NS_PER_S, Duration, Instant

PRIORITIES: Final = 8
# MPLA-5-01
EXCLUSION_NS: Final[Duration] = 30 * NS_PER_S
# 8 octets a node each; of more the one that was not asked for longest goes
MAX_TREES: Final = 64
# each is the answer to an error; of more the one that ends first goes
MAX_EXCLUSIONS: Final = 1024

# above what any link has or anybody asks for
_WITHOUT_LIMIT: Final = 1 << 64
# fees are compared before the sums of metrics along any path
_FEE_SHIFT: Final = (MAX_METRIC * MAX_NODES).bit_length()
# errors of RSVP: admission failed, pre-empted; routing
_TOWARD_LAMP: Final = (1, 12)
_TOWARD_SOURCE: Final = 24


class Metric(StrEnum):
    """What paths have least of: the metrics of their links, or first of all their fees."""

    IGP = "igp"
    TARIFF = "tariff"


class RouteFault(IntEnum):
    """Why there is no route: the value of error 24."""

    BAD_ERO = 1
    BAD_STRICT = 2
    BAD_LOOSE = 3
    NO_ROUTE = 5


class Unroutable(PowerError):
    """There is no such route; `fault` is the value of error 24."""

    def __init__(self, fault: RouteFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


# ---- the state of a link ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkState:
    """What is left of a link at each of 8 priorities, in mW and octets/s; below 0 when derated."""

    free_mw: tuple[int, ...]
    free_rate: tuple[int, ...]
    is_up: bool = True


class Reservations:
    """What is held of a link at each holding priority, 0 the most important: mW and octets/s."""

    __slots__ = ("_held_mw", "_held_rate", "_rate", "capacity_mw", "capacity_rate", "held_mw")

    def __init__(self, link: Link) -> None:
        """Begin with nothing held. `capacity_mw` may be set: a link is derated so."""
        self.capacity_mw = link.capacity_mw
        self.capacity_rate = _WITHOUT_LIMIT if link.rate_bps is None else link.rate_bps // 8
        self._held_mw = [0] * PRIORITIES
        self._held_rate = [0] * PRIORITIES
        self.held_mw = 0
        """All that is held, in mW."""
        self._rate = 0

    # MPLA-4.6-03
    def free(self, priority: int) -> tuple[int, int]:
        """Return mW and octets/s that are not held with this priority, 0..7, or a better one."""
        if priority == PRIORITIES - 1:
            return self.capacity_mw - self.held_mw, self.capacity_rate - self._rate
        end = priority + 1
        free_mw = self.capacity_mw - sum(self._held_mw[:end])
        return free_mw, self.capacity_rate - sum(self._held_rate[:end])

    # MPLA-4.6-03
    def may_hold(self, mw: int, rate: int, priority: int) -> bool:
        """Return whether mW and octets/s fit into what is free at a setup priority."""
        free_mw, free_rate = self.free(priority)
        return mw <= free_mw and rate <= free_rate

    def hold(self, mw: int, rate: int, priority: int) -> None:
        """Hold mW and octets/s with a holding priority; whoever admitted them pre-empts others."""
        self._held_mw[priority] += mw
        self._held_rate[priority] += rate
        self.held_mw += mw
        self._rate += rate

    def release(self, mw: int, rate: int, priority: int) -> None:
        """Give back what was held. Raises LocalProtocolError, state unchanged, for more than that."""
        held_mw, held_rate = self._held_mw[priority], self._held_rate[priority]
        if mw > held_mw or rate > held_rate:
            raise LocalProtocolError(
                f"{mw:,} mW and {rate:,} octets/s are given back at priority {priority},"
                f" {held_mw:,} mW and {held_rate:,} octets/s are held"
            )
        self.hold(-mw, -rate, priority)

    def state(self, *, is_up: bool = True) -> LinkState:
        """Return what `Ted.update` takes."""
        free_mw = tuple([self.capacity_mw - held for held in accumulate(self._held_mw)])
        free_rate = tuple([self.capacity_rate - held for held in accumulate(self._held_rate)])
        return LinkState(free_mw, free_rate, is_up)


# ---- trees --------------------------------------------------------------------------------------


class Step(NamedTuple):
    """The next link of a node toward the source, and the node at its other end."""

    link: Link
    node: str


class ReverseTree:
    """The least path of every node to a source, for a power at a priority; read only."""

    __slots__ = ("_at", "_via", "source")

    def __init__(self, source: str, at: dict[str, int], via: list[Step | None]) -> None:
        """Take the place of each name, and at it the next step."""
        self.source = source
        self._at = at
        self._via = via

    def __contains__(self, name: object) -> bool:
        return name == self.source or (name in self._at and self._via[self._at[name]] is not None)

    def next_hop(self, name: str) -> Step | None:
        """Return where a node goes on toward the source; None at the source, and without a way."""
        return self._via[self._at[name]]

    def path(self, name: str) -> list[Step]:
        """Return all steps from a node to the source, [] at the source and without a way."""
        at, via = self._at, self._via
        steps: list[Step] = []
        while (step := via[at[name]]) is not None:
            steps.append(step)
            name = step.node
        return steps


class _Need(NamedTuple):
    """What each link of a tree must have left."""

    mw: int
    rate: int
    priority: int

    def is_met(self, state: LinkState) -> bool:
        """Return whether a link in this state may be part of the tree."""
        free_mw, free_rate = state.free_mw[self.priority], state.free_rate[self.priority]
        return state.is_up and free_mw >= self.mw and free_rate >= self.rate


class _Grown:
    """A tree with the powers and rates that it is true for: above the one, up to the other."""

    __slots__ = ("_mw_above", "_mw_up_to", "_rate_above", "_rate_up_to", "need", "tree")

    def __init__(self, tree: ReverseTree, need: _Need) -> None:
        self.tree = tree
        self.need = need
        self._mw_above = self._rate_above = -_WITHOUT_LIMIT
        self._mw_up_to = self._rate_up_to = _WITHOUT_LIMIT

    def narrow(self, states: Iterable[LinkState]) -> None:
        """Learn what links have left."""
        mw, rate, priority = self.need
        for free in {state.free_mw[priority] for state in states}:
            if free >= mw:
                self._mw_up_to = min(self._mw_up_to, free)
            else:
                self._mw_above = max(self._mw_above, free)
        for free in {state.free_rate[priority] for state in states}:
            if free >= rate:
                self._rate_up_to = min(self._rate_up_to, free)
            else:
                self._rate_above = max(self._rate_above, free)

    def is_for(self, mw: int, rate: int) -> bool:
        """Return whether the same links have this power and rate left."""
        is_power = self._mw_above < mw <= self._mw_up_to
        return is_power and self._rate_above < rate <= self._rate_up_to


_Key = tuple[str, int, int, int, frozenset[int]]


class Ted:
    """What is known of all links, and the trees that follow from it.

    It may be shared by all nodes of a process: what a node excludes is an argument.
    """

    def __init__(self, topology: Topology, metric: Metric = Metric.IGP) -> None:
        """Begin with all links up and free. `find_faults` must have found nothing."""
        self.topology = topology
        self.trees_grown = 0
        """Dijkstras so far."""
        self._at = {node.name: place for place, node in enumerate(topology.nodes)}
        # lamps and sources are never passed through
        self._passes = [node.kind.is_lsr for node in topology.nodes]
        # at the place of each node: number of a link, place of its other end, cost, step from there
        self._near: list[list[tuple[int, int, int, Step]]] = [[] for _ in topology.nodes]
        for link in topology.links:
            a, b, cost = self._at[link.a], self._at[link.b], _cost(link, metric)
            self._near[a].append((link.number, b, cost, Step(link, link.a)))
            self._near[b].append((link.number, a, cost, Step(link, link.b)))
        self._states = [Reservations(link).state() for link in topology.links]
        self._grown: OrderedDict[_Key, _Grown] = OrderedDict()

    def state(self, number: int) -> LinkState:
        """Return what is known of a link. Raises LocalProtocolError for a number that is none."""
        return self._states[self.topology.link(number).number - 1]

    def update(self, number: int, state: LinkState) -> None:
        """Learn the state of a link; trees that it leaves or joins are forgotten.

        Raises LocalProtocolError, state unchanged, for a number that is no link.
        """
        before = self.state(number)
        self._states[number - 1] = state
        for key, grown in list(self._grown.items()):
            if grown.need.is_met(before) != grown.need.is_met(state) and number not in key[-1]:
                del self._grown[key]
            else:
                grown.narrow((state,))

    def reverse_tree(
        self, source: str, mw: int, priority: int, exclude: Iterable[int] = (), *, rate: int = 0
    ) -> ReverseTree:
        """Return the least paths of all nodes to a source, or to the LSR of a loose hop.

        mw, rate: what each link must have left at a setup priority, 0..7, in mW and octets/s.
        exclude: numbers of links that are not used. One Dijkstra serves all nodes, and all powers
        of as many bits for which the same links have enough left. Raises LocalProtocolError for a
        name that is no node. MPLA-5-02.
        """
        without = frozenset(exclude)
        key = (source, mw.bit_length(), rate.bit_length(), priority, without)
        found = self._grown.get(key)
        if found is not None and found.is_for(mw, rate):
            self._grown.move_to_end(key)
            return found.tree
        root = self._at[self.topology.node(source).name]
        need = _Need(mw, rate, priority)
        # numbers of links begin with 1
        may_use = [False, *map(need.is_met, self._states)]
        for number in without:
            may_use[self.topology.link(number).number] = False
        tree = ReverseTree(source, self._at, self._grow(root, may_use))
        grown = self._grown[key] = _Grown(tree, need)
        grown.narrow(self._states)
        self._grown.move_to_end(key)
        if len(self._grown) > MAX_TREES:
            self._grown.popitem(last=False)
        return tree

    # MPLA-5-02
    def _grow(self, root: int, may_use: Sequence[bool]) -> list[Step | None]:
        """Return the next step of every node toward the root: Dijkstra over links it may use."""
        self.trees_grown += 1
        size = len(self._near)
        near, passes = self._near, self._passes
        via: list[Step | None] = [None] * size
        costs: list[int | None] = [None] * size
        costs[root] = 0
        # cost * size + place: an integer compares faster than a tuple
        heap = [root]
        while heap:
            cost, place = divmod(heappop(heap), size)
            if cost != costs[place]:
                continue
            for number, other, more, step in near[place]:
                if not may_use[number]:
                    continue
                known = costs[other]
                if known is None or cost + more < known:
                    costs[other] = cost + more
                    via[other] = step
                    if passes[other]:
                        heappush(heap, (cost + more) * size + other)
                elif cost + more == known:
                    chosen = via[other]
                    if chosen is not None and number < chosen.link.number:
                        via[other] = step
        return via

    def route(
        self,
        start: str,
        source: str,
        mw: int,
        priority: int,
        exclude: Iterable[int] = (),
        *,
        rate: int = 0,
        hops: Iterable[tuple[str, bool]] = (),
    ) -> list[str]:
        """Return the names of all nodes after `start` up to the source: a strict ERO.

        hops: (name, is loose) of an ERO, its own node taken off; what is loose or missing is
        filled. Whether a strict hop has enough left is for its admission to say. Raises Unroutable
        with the value of error 24. A route may be longer than an ERO: its last hop fills the rest.
        """
        without = frozenset(exclude)
        names = [start]

        # MPLA-4.5-05
        def fill(end: str, fault: RouteFault) -> None:
            steps = self.reverse_tree(end, mw, priority, without, rate=rate).path(names[-1])
            if not steps:
                text = (
                    f"no path from {names[-1]} to {end} has {mw:,} mW left at priority {priority}"
                )
                raise Unroutable(fault, text)
            names.extend(step.node for step in steps)

        for name, is_loose in hops:
            if name == names[-1]:
                continue
            if name not in self._at or not (name == source or self._passes[self._at[name]]):
                fault = RouteFault.BAD_LOOSE if is_loose else RouteFault.BAD_STRICT
                raise Unroutable(fault, f"no path to {source} leads over {name}")
            if is_loose:
                fill(name, RouteFault.BAD_LOOSE)
            elif self.topology.between(names[-1], name) is None:
                text = f"{name} is no neighbour of {names[-1]}"
                raise Unroutable(RouteFault.BAD_STRICT, text)
            else:
                names.append(name)
        if names[-1] != source:
            fill(source, RouteFault.NO_ROUTE)
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise Unroutable(RouteFault.BAD_ERO, f"the route passes {twice} twice")
        return names[1:]


def _cost(link: Link, metric: Metric) -> int:
    # metrics are above 0: no way comes back to where it was for nothing
    return link.metric if metric is Metric.IGP else link.fee << _FEE_SHIFT | link.metric


# ---- crank-back ---------------------------------------------------------------------------------


def faulty_link(topology: Topology, names: Sequence[str], at: str, code: int) -> Link | None:
    """Return the link that an error rules out: toward the lamp for 1 and 12, the source for 24.

    names: the nodes of the route from the lamp, or its edge LSR, to the source. at: the node of the
    error. None: the error rules out no link of the route.
    """
    if at not in names:
        return None
    place = names.index(at)
    # MPLA-5-01
    if code in _TOWARD_LAMP and place:
        return topology.between(names[place - 1], at)
    if code == _TOWARD_SOURCE and place + 1 < len(names):
        return topology.between(at, names[place + 1])
    return None


class Exclusions:
    """The links that a node does not use for the EROs it makes, each for 30 s."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        """Begin with none."""
        # in the order in which they end
        self._until: dict[int, Instant] = {}

    def exclude(self, number: int, now: Instant) -> None:
        """Exclude a link from now on."""
        # MPLA-5-01
        self._until.pop(number, None)
        self._until[number] = now + EXCLUSION_NS
        if len(self._until) > MAX_EXCLUSIONS:
            del self._until[next(iter(self._until))]

    def numbers(self, now: Instant) -> frozenset[int]:
        """Return the numbers of the links that are excluded now."""
        for number, until in list(self._until.items()):
            if until > now:
                break
            del self._until[number]
        return frozenset(self._until)

    def include(self, number: int) -> None:
        """Use a link again: its other end has been heard of."""
        self._until.pop(number, None)

    def relaxed(self, now: Instant) -> Iterator[frozenset[int]]:
        """Yield what is left without the oldest link, the oldest two, four and so on.

        For who finds no way: what failed long ago may be there again. The newest link stays.
        """
        self.numbers(now)
        newest = list(self._until)
        without = 1
        while without < len(newest):
            yield frozenset(newest[without:])
            without *= 2
