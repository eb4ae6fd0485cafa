"""Links and what is left of them; trees, routes and exclusions that follow."""

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.ted import (
    EXCLUSION_NS,
    MAX_EXCLUSIONS,
    MAX_TREES,
    PRIORITIES,
    Exclusions,
    LinkState,
    Metric,
    Reservations,
    RouteFault,
    Ted,
    Unroutable,
    faulty_link,
)
from powertcp.mplamps.topology import Draft, NodeKind, Topology

V400 = 400_000
KW = 1_000_000


def diamond(*, first_fee: int = 0, first_metric: int = 10, rate_bps: int | None = None) -> Topology:
    """es1 to c1 over a (links 1, 3) or b (2, 4); c1 to lamp-1 (5), and es2 at a (6)."""
    draft = Draft("diamond")
    draft.node("es1", NodeKind.ES)
    for name in ("a", "b", "c1"):
        draft.node(name, NodeKind.SWITCH)
    draft.node("lamp-1", NodeKind.LAMP)
    draft.node("es2", NodeKind.ES)
    draft.link("es1", "a", V400, fee=first_fee, metric=first_metric, rate_bps=rate_bps)
    draft.link("es1", "b", V400)
    draft.link("a", "c1", V400)
    draft.link("b", "c1", V400, capacity_mw=10 * KW)
    draft.link("c1", "lamp-1", V400)
    draft.link("a", "es2", V400)
    return draft.finish()


def down(ted: Ted, number: int) -> None:
    ted.update(number, Reservations(ted.topology.link(number)).state(is_up=False))


def held(ted: Ted, number: int, mw: int, priority: int = 4, rate: int = 0) -> None:
    reservations = Reservations(ted.topology.link(number))
    reservations.hold(mw, rate, priority)
    ted.update(number, reservations.state())


def way(ted: Ted, mw: int = KW, priority: int = 4, rate: int = 0) -> list[int]:
    tree = ted.reverse_tree("es1", mw, priority, rate=rate)
    return [step.link.number for step in tree.path("lamp-1")]


# ---- reservations -------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.6-03")
def test_what_less_important_circuits_hold_is_free() -> None:
    reservations = Reservations(diamond(rate_bps=80_007).link(1))
    assert (reservations.free(0), reservations.free(7)) == ((250 * KW, 10_000),) * 2
    reservations.hold(200 * KW, 4000, 4)
    reservations.hold(10 * KW, 1000, 2)
    assert [reservations.free(at)[0] // KW for at in range(PRIORITIES)] == [
        250, 250, 240, 240, 40, 40, 40, 40,
    ]  # fmt: skip
    assert [reservations.free(at)[1] for at in (0, 2, 4)] == [10_000, 9000, 5000]
    assert reservations.may_hold(240 * KW, 9000, 3)
    assert not reservations.may_hold(240 * KW + 1, 9000, 3)
    assert not reservations.may_hold(240 * KW, 9001, 3)
    assert reservations.held_mw == 210 * KW
    reservations.capacity_mw = 100 * KW
    state = reservations.state()
    assert (state.free_mw[7], state.free_rate[7], state.is_up) == (-110 * KW, 5000, True)


def test_no_more_is_given_back_than_is_held() -> None:
    reservations = Reservations(diamond().link(1))
    reservations.hold(5, 3, 4)
    for mw, rate, priority in ((6, 3, 4), (5, 4, 4), (1, 0, 5)):
        with pytest.raises(LocalProtocolError, match="are given back at priority"):
            reservations.release(mw, rate, priority)
    reservations.release(5, 3, 4)
    assert reservations.state() == Reservations(diamond().link(1)).state()


# ---- trees --------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-5-02")
def test_of_equal_ways_the_lower_number_is_taken() -> None:
    tree = Ted(diamond()).reverse_tree("es1", KW, 4)
    assert [(step.link.number, step.node) for step in tree.path("lamp-1")] == [
        (5, "c1"),
        (3, "a"),
        (1, "es1"),
    ]
    assert (tree.source, tree.next_hop("es1"), tree.path("es1")) == ("es1", None, [])
    assert (step := tree.next_hop("b")) is not None
    assert step.node == "es1"
    assert all(name in tree for name in ("es1", "lamp-1", "b", "es2"))
    assert "nobody" not in tree


@pytest.mark.requirement("MPLA-5-02")
def test_the_lower_number_is_taken_though_it_is_found_later() -> None:
    draft = Draft("late")
    draft.node("es1", NodeKind.ES)
    for name in ("a", "b", "c"):
        draft.node(name, NodeKind.SWITCH)
    for a, b, metric in (("es1", "a", 5), ("es1", "b", 10), ("b", "c", 5), ("a", "c", 10)):
        draft.link(a, b, V400, metric=metric)
    step = Ted(draft.finish()).reverse_tree("es1", KW, 4).next_hop("c")
    assert step is not None
    assert (step.link.number, step.node) == (3, "b")


@pytest.mark.requirement("MPLA-5-02")
def test_lamps_and_sources_are_not_passed_through() -> None:
    ted = Ted(diamond())
    for number in (1, 2):
        down(ted, number)
    tree = ted.reverse_tree("es1", KW, 4)
    assert not any(name in tree for name in ("a", "b", "c1", "lamp-1", "es2"))
    draft = Draft("row")
    for name, kind in (("es1", NodeKind.ES), ("a", NodeKind.SWITCH), ("l", NodeKind.LAMP)):
        draft.node(name, kind)
    draft.node("b", NodeKind.SWITCH)
    for a, b in (("es1", "a"), ("a", "l"), ("l", "b")):
        draft.link(a, b, V400)
    tree = Ted(draft.finish()).reverse_tree("es1", KW, 4)
    assert ("l" in tree, "b" in tree, tree.path("b")) == (True, False, [])


@pytest.mark.requirement("MPLA-5-02")
def test_metrics_or_fees_are_the_least() -> None:
    assert way(Ted(diamond(first_metric=11))) == [5, 4, 2]
    cheap = diamond(first_metric=11)
    assert way(Ted(cheap, Metric.TARIFF)) == [5, 4, 2]
    assert way(Ted(diamond(first_fee=1), Metric.TARIFF)) == [5, 4, 2]
    assert way(Ted(diamond(first_fee=1), Metric.IGP)) == [5, 3, 1]
    # a way that was found first is not the least
    draft = Draft("detour")
    draft.node("es1", NodeKind.ES)
    for name in ("a", "b", "c"):
        draft.node(name, NodeKind.SWITCH)
    draft.link("es1", "a", V400, metric=50)
    for a, b in (("es1", "b"), ("b", "c"), ("c", "a")):
        draft.link(a, b, V400)
    assert [step.node for step in Ted(draft.finish()).reverse_tree("es1", 1, 4).path("a")] == [
        "c",
        "b",
        "es1",
    ]


@pytest.mark.requirement("MPLA-5-02")
def test_links_have_the_power_and_the_rate_left() -> None:
    ted = Ted(diamond(rate_bps=80_000))
    assert way(ted, rate=10_000) == [5, 3, 1]
    assert way(ted, rate=10_001) == [5, 4, 2]
    held(ted, 1, 249 * KW)
    assert way(ted, KW) == [5, 3, 1]
    assert way(ted, KW + 1) == [5, 4, 2]
    assert way(ted, 10 * KW + 1) == []
    # what it holds at priority 4 is free at 3
    assert way(ted, 10 * KW + 1, priority=3) == [5, 3, 1]


@pytest.mark.requirement("MPLA-5-02")
def test_one_tree_serves_all_nodes_and_powers_of_a_class() -> None:
    ted = Ted(generate_topology("tree:3,3,3,2,5"))
    for number in range(1, 270):
        tree = ted.reverse_tree("es1", 32_768 + number, 4)
        assert len(tree.path(f"lamp-{number}")) == 5
    assert ted.trees_grown == 1
    ted.reverse_tree("es1", 32_767, 4)
    ted.reverse_tree("es1", 32_768, 5)
    ted.reverse_tree("es1", 32_768, 4, rate=7)
    ted.reverse_tree("es1", 32_768, 4, [7])
    assert ted.trees_grown == 5


@pytest.mark.requirement("MPLA-5-02")
def test_a_tree_is_forgotten_when_a_link_leaves_or_joins_it() -> None:
    ted = Ted(diamond())
    tree = ted.reverse_tree("es1", KW, 4)
    held(ted, 1, 249 * KW)
    assert ted.reverse_tree("es1", KW, 4) is tree
    held(ted, 1, 249 * KW + 1)
    assert (way(ted), ted.trees_grown) == ([5, 4, 2], 2)
    held(ted, 1, 0)
    assert (way(ted), ted.trees_grown) == ([5, 3, 1], 3)
    down(ted, 3)
    assert not ted.state(3).is_up
    assert way(ted) == [5, 4, 2]
    # a link that is not used anyway changes nothing
    without = ted.reverse_tree("es1", KW, 4, {4})
    assert "c1" not in without
    down(ted, 4)
    assert ted.reverse_tree("es1", KW, 4, {4}) is without
    assert way(ted) == []


@pytest.mark.requirement("MPLA-5-02")
def test_a_tree_knows_which_powers_of_its_class_it_is_for() -> None:
    ted = Ted(diamond())
    # of 11 bits each
    held(ted, 1, 250 * KW - 1500)
    assert way(ted, 1400) == way(ted, 1500) == [5, 3, 1]
    assert ted.trees_grown == 1
    assert way(ted, 1501) == way(ted, 2047) == [5, 4, 2]
    assert ted.trees_grown == 2
    assert (way(ted, 1500), ted.trees_grown) == ([5, 3, 1], 3)
    rates = Ted(diamond(rate_bps=12_000))
    assert way(rates, rate=1400) == way(rates, rate=1500) == [5, 3, 1]
    assert way(rates, rate=1501) == [5, 4, 2]
    assert way(rates, rate=1500) == [5, 3, 1]


def test_trees_are_bounded() -> None:
    ted = Ted(diamond())
    for power in range(MAX_TREES):
        ted.reverse_tree("es1", 1 << power // 2, power % 2)
    assert ted.trees_grown == MAX_TREES
    ted.reverse_tree("es1", 1, 0)
    ted.reverse_tree("es1", 1, 7)
    ted.reverse_tree("es1", 1, 0)
    assert ted.trees_grown == MAX_TREES + 1
    ted.reverse_tree("es1", 1, 1)
    assert ted.trees_grown == MAX_TREES + 2


def test_strange_names_and_numbers_are_refused() -> None:
    ted = Ted(diamond())
    with pytest.raises(LocalProtocolError, match='is called "es9"'):
        ted.reverse_tree("es9", KW, 4)
    with pytest.raises(LocalProtocolError, match=r"link 7 of 1\.\.6"):
        ted.reverse_tree("es1", KW, 4, [7])
    with pytest.raises(LocalProtocolError, match=r"link 0 of 1\.\.6"):
        ted.update(0, LinkState((0,) * PRIORITIES, (0,) * PRIORITIES))


# ---- routes -------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.5-05", "MPLA-5-03")
def test_missing_and_loose_hops_are_filled() -> None:
    ted = Ted(diamond())
    assert ted.route("lamp-1", "es1", KW, 4) == ["c1", "a", "es1"]
    assert ted.route("c1", "es1", KW, 4, [3]) == ["b", "es1"]
    assert ted.route("c1", "es1", KW, 4, hops=[("b", True)]) == ["b", "es1"]
    assert ted.route("lamp-1", "es1", KW, 4, hops=[("b", True)]) == ["c1", "b", "es1"]
    strict = [("c1", False), ("b", False), ("b", True), ("es1", False)]
    assert ted.route("lamp-1", "es1", KW, 4, hops=strict) == ["c1", "b", "es1"]
    assert ted.route("c1", "es1", KW, 4, hops=[("es1", True)]) == ["a", "es1"]
    assert ted.route("es1", "es1", KW, 4) == []
    # whether a strict hop has it left is for admission to say
    assert ted.route("c1", "es1", 11 * KW, 4, hops=[("b", False)]) == ["b", "es1"]


@pytest.mark.requirement("MPLA-4.5-05")
@pytest.mark.parametrize(
    ("hops", "fault", "text"),
    [
        ([("es1", False)], RouteFault.BAD_STRICT, "es1 is no neighbour of c1"),
        ([("nobody", False)], RouteFault.BAD_STRICT, "no path to es1 leads over nobody"),
        ([("lamp-1", False)], RouteFault.BAD_STRICT, "no path to es1 leads over lamp-1"),
        ([("es2", True)], RouteFault.BAD_LOOSE, "no path to es1 leads over es2"),
        (
            [("b", True)],
            RouteFault.BAD_LOOSE,
            "no path from c1 to b has 300,000,000 mW left at priority 4",
        ),
        (
            [],
            RouteFault.NO_ROUTE,
            "no path from c1 to es1 has 300,000,000 mW left at priority 4",
        ),
        (
            [("a", False), ("c1", False), ("b", False), ("es1", False)],
            RouteFault.BAD_ERO,
            "the route passes c1 twice",
        ),
    ],
)
def test_what_is_no_route_has_its_value(
    hops: list[tuple[str, bool]], fault: RouteFault, text: str
) -> None:
    with pytest.raises(Unroutable) as caught:
        Ted(diamond()).route("c1", "es1", 300 * KW, 4, hops=hops)
    assert (caught.value.fault, str(caught.value)) == (fault, text)


# ---- crank-back ---------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-5-01")
@pytest.mark.parametrize(
    ("at", "code", "number"),
    [
        ("a", 1, 3),
        ("a", 12, 3),
        ("a", 24, 1),
        ("es1", 1, 1),
        ("es1", 24, None),
        ("c1", 1, None),
        ("c1", 24, 3),
        ("a", 2, None),
        ("b", 24, None),
    ],
)
def test_an_error_rules_out_a_link_of_the_route(at: str, code: int, number: int | None) -> None:
    link = faulty_link(diamond(), ["c1", "a", "es1"], at, code)
    assert (link.number if link else None) == number


@pytest.mark.requirement("MPLA-5-01")
def test_an_exclusion_lasts_30_s() -> None:
    exclusions = Exclusions()
    assert exclusions.numbers(0) == frozenset()
    exclusions.exclude(3, 0)
    exclusions.exclude(1, 5)
    exclusions.exclude(2, 6)
    exclusions.exclude(3, 7)
    assert exclusions.numbers(EXCLUSION_NS + 4) == {1, 2, 3}
    assert exclusions.numbers(EXCLUSION_NS + 5) == {2, 3}
    assert exclusions.numbers(EXCLUSION_NS + 6) == {3}
    assert exclusions.numbers(EXCLUSION_NS + 7) == frozenset()
    ted = Ted(diamond())
    exclusions.exclude(3, 100)
    assert ted.route("c1", "es1", KW, 4, exclusions.numbers(100)) == ["b", "es1"]
    assert ted.route("c1", "es1", KW, 4, exclusions.numbers(100 + EXCLUSION_NS)) == ["a", "es1"]


def test_exclusions_are_bounded() -> None:
    exclusions = Exclusions()
    for number in range(1, MAX_EXCLUSIONS + 2):
        exclusions.exclude(number, 0)
    assert exclusions.numbers(0) == set(range(2, MAX_EXCLUSIONS + 2))


@pytest.mark.requirement("MPLA-5-01")
def test_who_finds_no_way_tries_what_failed_long_ago_first() -> None:
    exclusions = Exclusions()
    for number in range(1, 6):
        exclusions.exclude(number, number)
    relaxed = list(exclusions.relaxed(10))
    assert relaxed == [frozenset({2, 3, 4, 5}), frozenset({3, 4, 5}), frozenset({5})]
    exclusions.include(5)
    exclusions.include(99)
    assert exclusions.numbers(10) == {1, 2, 3, 4}
    alone = Exclusions()
    alone.exclude(1, 0)
    assert list(alone.relaxed(0)) == []
