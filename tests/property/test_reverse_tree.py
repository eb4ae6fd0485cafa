"""Random networks under changing load: each way of a tree is that of a Dijkstra of its own."""

from heapq import heappop, heappush
from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from powertcp.mplamps.ted import PRIORITIES, Exclusions, Metric, Reservations, Ted
from powertcp.mplamps.topology import Draft, Link, NodeKind, Topology, find_faults

V400 = 400_000
STEPS = 12
Cost = tuple[int, int]


def network(random: Random) -> Topology:
    """Return a connected network of a few sources, switches in meshes, and lamps."""
    draft = Draft("mesh")
    sources = [draft.node(f"es{at}", NodeKind.ES) for at in range(random.randint(1, 3))]
    switches = [draft.node(f"s{at}", NodeKind.SWITCH) for at in range(random.randint(1, 12))]
    lamps = [draft.node(f"lamp-{at}", NodeKind.LAMP) for at in range(random.randint(1, 8))]
    pairs = {(random.choice(switches[:at]), name) for at, name in enumerate(switches) if at}
    pairs |= {(name, random.choice(switches)) for name in (*sources, *lamps)}
    for _ in range(random.randint(0, 20)):
        a = random.choice((*sources, *switches, *lamps))
        pairs.add((a, random.choice(switches)))
    seen: set[frozenset[str]] = set()
    for a, b in random.sample(sorted(pairs), len(pairs)):
        if a == b or frozenset((a, b)) in seen:
            continue
        seen.add(frozenset((a, b)))
        draft.link(
            a,
            b,
            V400,
            capacity_mw=random.randint(1, 3000),
            rate_bps=random.choice((None, random.randint(8, 24_000))),
            metric=random.randint(1, 4),
            fee=random.choice((0, 0, 1, 2)),
        )
    return draft.finish()


def cost_of(link: Link, metric: Metric) -> Cost:
    return (0, link.metric) if metric is Metric.IGP else (link.fee, link.metric)


def least(
    topology: Topology, start: str, source: str, room: set[int], metric: Metric
) -> Cost | None:
    """Return the cost of the least way from one node to one source, None if there is none."""
    done: set[str] = set()
    heap = [((0, 0), start)]
    while heap:
        cost, name = heappop(heap)
        if name == source:
            return cost
        if name in done or not (name == start or topology.node(name).kind.is_lsr):
            continue
        done.add(name)
        for link in topology.links_of(name):
            if link.number in room:
                more = cost_of(link, metric)
                heappush(heap, ((cost[0] + more[0], cost[1] + more[1]), link.other(name)))
    return None


class Load:
    """Circuits that come and go, links that are cut and mended, and what the database is told."""

    def __init__(self, seed: int, metric: Metric) -> None:
        self.random = Random(seed)
        self.topology = network(self.random)
        assert find_faults(self.topology) == []
        self.metric = metric
        self.ted = Ted(self.topology, metric)
        self.links = {link.number: Reservations(link) for link in self.topology.links}
        self.held: list[tuple[int, int, int, int]] = []
        self.cut: set[int] = set()
        self.exclusions = Exclusions()
        self.ways = 0

    def change(self) -> None:
        random = self.random
        number = random.choice(list(self.links))
        act = random.randrange(4)
        if act == 0:
            self.cut ^= {number}
        elif act == 1 and self.held:
            number, mw, rate, priority = self.held.pop(random.randrange(len(self.held)))
            self.links[number].release(mw, rate, priority)
        elif act == 2:
            self.links[number].capacity_mw = random.randint(1, 3000)
        else:
            mw, rate = random.randint(1, 1500), random.randint(0, 1500)
            priority = random.randrange(PRIORITIES)
            if not self.links[number].may_hold(mw, rate, priority):
                return
            self.links[number].hold(mw, rate, priority)
            self.held.append((number, mw, rate, priority))
        self.ted.update(number, self.links[number].state(is_up=number not in self.cut))

    def check(self) -> None:
        """Ask for a tree, and look for the way of each node without it."""
        random, topology = self.random, self.topology
        source = random.choice(topology.of_kind(NodeKind.ES)).name
        # of few classes, so that trees are found again
        mw, rate = random.choice((0, 100, 513, 700, 1023)), random.choice((0, 600, 900))
        priority = random.choice((3, 4))
        exclude = frozenset(random.choice(((), (), (1,))))
        room = {
            number
            for number, link in self.links.items()
            if number not in self.cut | exclude and link.may_hold(mw, rate, priority)
        }
        tree = self.ted.reverse_tree(source, mw, priority, exclude, rate=rate)
        for node in topology.nodes:
            expected = least(topology, node.name, source, room, self.metric)
            assert (node.name in tree) == (expected is not None)
            path = tree.path(node.name)
            if expected is None or node.name == source:
                assert path == []
                continue
            self.ways += 1
            assert path[-1].node == source
            assert len({step.node for step in path} - {node.name}) == len(path)
            costs = [cost_of(step.link, self.metric) for step in path]
            assert (sum(fee for fee, _ in costs), sum(cost for _, cost in costs)) == expected
            assert path[0].link.number == self.first(node.name, source, room, expected)

    def first(self, name: str, source: str, room: set[int], expected: Cost) -> int:
        """Return the lowest number of the links that least ways begin with."""
        numbers = []
        for link in self.topology.links_of(name):
            other = link.other(name)
            if link.number not in room:
                continue
            if other != source and not self.topology.node(other).kind.is_lsr:
                continue
            rest = least(self.topology, other, source, room, self.metric)
            more = cost_of(link, self.metric)
            if rest is not None and (rest[0] + more[0], rest[1] + more[1]) == expected:
                numbers.append(link.number)
        return min(numbers)


@pytest.mark.requirement("MPLA-5-02")
@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(Metric))
def test_each_way_is_that_of_a_dijkstra_of_its_own(seed: int, metric: Metric) -> None:
    load = Load(seed, metric)
    for _ in range(STEPS):
        for _ in range(load.random.randrange(3)):
            load.change()
        load.check()
    assert load.ted.trees_grown <= STEPS
    event(f"trees found again: {load.ted.trees_grown < STEPS}")
    event(f"ways: {load.ways > 0}")


def test_load_finds_ways_and_trees_again() -> None:
    loads = [Load(seed, Metric.IGP) for seed in range(20)]
    for load in loads:
        for _ in range(STEPS):
            load.change()
            load.check()
    assert sum(load.ways for load in loads) > 500
    assert sum(load.ted.trees_grown for load in loads) < 20 * STEPS
