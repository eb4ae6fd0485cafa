"""Graphs of lamps, sources and routers: what they say, and every fault that makes them none."""

from ipaddress import IPv4Address

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.topology import (
    DEFAULT_REQUEST,
    MAX_NEIGHBOURS,
    Draft,
    NodeKind,
    Topology,
    find_faults,
    find_warnings,
)
from powertcp.profile import PowerProfile

ES, TRANSFORMER, SWITCH, LAMP, PDP = (
    NodeKind.ES,
    NodeKind.TRANSFORMER,
    NodeKind.SWITCH,
    NodeKind.LAMP,
    NodeKind.PDP,
)
V230, V400, KV20 = 230_000, 400_000, 20_000_000


def house(draft: Draft) -> Draft:
    """es1 -400 V- h1 -230 V- lamp-1."""
    draft.node("es1", ES)
    draft.node("h1", TRANSFORMER)
    draft.node("lamp-1", LAMP)
    draft.link("es1", "h1", V400)
    draft.link("h1", "lamp-1", V230)
    return draft


def said(draft: Draft) -> list[tuple[tuple[str | int, ...], str]]:
    return [(path, text) for path, text in find_faults(draft.finish())]


@pytest.mark.requirement("MPLA-7-02")
def test_addresses_and_numbers_follow_the_order() -> None:
    topology = house(Draft("house", IPv4Address("127.80.0.0"))).finish()
    assert find_faults(topology) == []
    assert [str(node.address) for node in topology.nodes] == [
        "127.80.0.1",
        "127.80.0.2",
        "127.80.0.3",
    ]
    assert [(link.number, link.name, link.label) for link in topology.links] == [
        (1, "es1--h1", 400),
        (2, "h1--lamp-1", 230),
    ]
    assert topology.node("lamp-1").request == DEFAULT_REQUEST
    assert (topology.link(1).capacity_mw, topology.link(2).capacity_mw) == (250_000_000, 3_680_000)
    assert (topology.link(1).delay_ns, topology.link(1).metric) == (1_000_000, 10)


def test_what_is_near_what() -> None:
    draft = house(Draft("house"))
    draft.node("pdp", PDP)
    topology = draft.finish()
    first, second = topology.links
    assert topology.links_of("h1") == (first, second)
    assert topology.links_of("pdp") == ()
    assert topology.between("h1", "es1") is first
    assert topology.between("es1", "lamp-1") is None
    assert (first.other("es1"), first.other("h1")) == ("h1", "es1")
    assert topology.at(IPv4Address("10.0.0.2")) is topology.node("h1")
    assert topology.at(IPv4Address("10.0.0.9")) is None
    assert [node.name for node in topology.of_kind(LAMP, ES)] == ["es1", "lamp-1"]
    assert [topology.is_edge(node.name) for node in topology.nodes] == [False, True, False, False]
    assert (pdp := topology.pdp()) is not None
    assert pdp.name == "pdp"
    assert "h1" in topology
    assert "h2" not in topology
    assert house(Draft("house")).finish().pdp() is None
    for number in (0, 3):
        with pytest.raises(LocalProtocolError):
            topology.link(number)
    with pytest.raises(LocalProtocolError, match='"h2"'):
        topology.node("h2")


def test_a_source_has_what_its_links_carry_unless_it_is_stated() -> None:
    draft = Draft("t")
    draft.node("es1", ES)
    draft.node("es2", ES, capacity_mw=7)
    draft.node("s1", SWITCH)
    draft.link("es1", "s1", V400)
    draft.link("es2", "s1", V400)
    topology = draft.finish()
    assert (topology.capacity_of("es1"), topology.capacity_of("es2")) == (250_000_000, 7)


def test_topologies_are_equal_by_what_they_hold() -> None:
    one, other = house(Draft("t")), house(Draft("t"))
    assert one.finish() == other.finish()
    other.node("pdp", PDP)
    assert one.finish() != other.finish()
    assert one.finish() != "t"


@pytest.mark.requirement("MPLA-7-03")
def test_each_fault_of_a_node_is_told_with_its_place() -> None:
    assert said(Draft("t")) == [(("node",), "1 to 2,000,000 nodes, got 0")]
    draft = house(Draft("a name"))
    draft.node("h1", SWITCH)
    draft.node("", SWITCH)
    draft.node("x" * 33, SWITCH)
    draft.node("pdp", PDP)
    draft.node("pdp2", PDP)
    paths = [path for path, _ in said(draft)]
    assert paths == [
        ("topology", "name"),
        ("node", 3, "name"),
        ("node", 4, "name"),
        ("node", 5, "name"),
        ("node", 7, "kind"),
    ]
    assert said(draft)[1][1] == 'a second node is called "h1"'
    assert said(draft)[4][1] == "a second pdp, the first is pdp"


@pytest.mark.requirement("MPLA-7-02", "MPLA-7-03")
@pytest.mark.parametrize(
    ("base", "is_good"),
    [
        ("10.0.0.0", True),
        ("127.255.255.252", True),
        ("127.255.255.253", False),
        ("0.0.0.1", False),
        ("0.255.255.255", False),
        ("223.255.255.252", True),
        ("223.255.255.253", False),
        ("239.0.0.0", False),
        ("255.255.255.255", False),
    ],
)
def test_addresses_are_those_of_nodes(base: str, is_good: bool) -> None:
    found = said(house(Draft("t", IPv4Address(base))))
    assert (found == []) is is_good
    assert {path for path, _ in found} <= {("topology", "base")}


@pytest.mark.requirement("MPLA-7-03")
@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        ("h1", "nobody", 'no node is called "nobody"'),
        ("nobody", "h1", 'no node is called "nobody"'),
        ("h1", "h1", "a link from h1 to itself"),
        ("h1", "es1", "a second link between h1 and es1"),
        ("es1", "lamp-1", "lamp-1 is a lamp: es1 must be a switch or a transformer"),
        ("lamp-1", "lamp-2", "lamp-1 is a lamp: lamp-2 must be a switch or a transformer"),
        ("h1", "pdp", "pdp is the pdp, which has no links"),
        ("es2", "es1", "es2 and es1 are sources: nothing passes between them"),
    ],
)
def test_what_a_link_cannot_join(a: str, b: str, text: str) -> None:
    draft = house(Draft("t"))
    draft.node("pdp", PDP)
    draft.node("es2", ES)
    draft.node("lamp-2", LAMP)
    draft.link("es2", "h1", V400)
    draft.link("h1", "lamp-2", V230)
    draft.link(a, b, V400)
    path, told = said(draft)[0]
    assert (path[:2], told) == (("link", 4), text)


@pytest.mark.requirement("MPLA-7-03", "MPLA-2.1-01")
@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("voltage_mv", [0, -1, 1_000_000_001]),
        ("capacity_mw", [0, -1]),
        ("loss_ppm", [-1, 1_000_001]),
        ("metric", [0, -1, 2**24]),
        ("fee", [-1, 10**12 + 1]),
    ],
)
def test_a_value_of_a_link_has_bounds(key: str, values: list[int]) -> None:
    for value in values:
        draft = house(Draft("t"))
        draft.node("lamp-2", LAMP)
        link = {"voltage_mv": V230, key: value}
        draft.link("h1", "lamp-2", **link)
        ((path, text),) = said(draft)
        assert path[:2] == ("link", 2)
        assert text


@pytest.mark.requirement("MPLA-7-03")
def test_a_voltage_without_a_usual_capacity_needs_one() -> None:
    draft = Draft("t")
    draft.node("es1", ES)
    draft.node("s1", SWITCH)
    draft.link("es1", "s1", 12_000)
    ((path, text),) = said(draft)
    assert (path, text) == (("link", 0), "the capacity of a link of 12 V must be stated, above 0 W")
    draft = Draft("t")
    draft.node("es1", ES)
    draft.node("s1", SWITCH)
    draft.link("es1", "s1", 12_000, capacity_mw=60_000)
    assert said(draft) == []
    assert draft.finish().link(1).label == 1_012_000


@pytest.mark.requirement("MPLA-2.3-02", "MPLA-7-03")
@pytest.mark.parametrize("kind", [SWITCH, ES])
def test_only_a_transformer_has_links_of_different_labels(kind: NodeKind) -> None:
    draft = Draft("t")
    draft.node("es1", ES)
    draft.node("t1", TRANSFORMER)
    draft.node("x", kind)
    draft.node("t2", TRANSFORMER)
    draft.node("t3", TRANSFORMER)
    draft.link("es1", "t1", KV20)
    draft.link("t1", "x", V400)
    draft.link("x", "t2", V400)
    # the label is that of 400 V
    draft.link("x", draft.node("t4", TRANSFORMER), V400 + 400, capacity_mw=1)
    draft.link("t2", "t3", KV20)
    assert said(draft) == []
    draft.link("x", "t3", V230)
    assert said(draft) == [
        (
            ("link", 5, "voltage"),
            "x is no transformer: its links t1--x and x--t3 have 400 V and 230 V",
        )
    ]


@pytest.mark.requirement("MPLA-7-03", "MPLA-4.10-03")
def test_a_node_has_256_neighbours_and_not_one_more() -> None:
    draft = Draft("t")
    draft.node("es1", ES)
    draft.node("s1", SWITCH)
    draft.link("es1", "s1", V230)
    for number in range(1, MAX_NEIGHBOURS):
        draft.link("s1", draft.node(f"lamp-{number}", LAMP), V230)
    assert said(draft) == []
    draft.link("s1", draft.node("one-more", LAMP), V230)
    assert said(draft) == [(("node", 1), "s1 has 257 neighbours, at most 256")]


@pytest.mark.requirement("MPLA-7-03")
def test_all_is_connected_and_each_lamp_reaches_a_source() -> None:
    draft = house(Draft("t"))
    draft.node("pdp", PDP)
    assert said(draft) == []
    draft.node("s9", SWITCH)
    draft.link("s9", draft.node("lamp-9", LAMP), V230)
    assert said(draft) == [
        (("node", 4), "s9 is not connected with es1"),
        (("node", 5), "no source can be reached from lamp-9"),
    ]


@pytest.mark.requirement("MPLA-7-03")
def test_no_power_passes_through_a_lamp() -> None:
    draft = house(Draft("t"))
    draft.node("s9", SWITCH)
    draft.node("lamp-9", LAMP)
    draft.link("lamp-1", "s9", V230)
    draft.link("s9", "lamp-9", V230)
    assert said(draft) == [(("node", 4), "no source can be reached from lamp-9")]


def test_a_network_without_a_source_lights_nothing() -> None:
    draft = Draft("t")
    draft.node("s1", SWITCH)
    draft.link("s1", draft.node("lamp-1", LAMP), V230)
    assert [text for _, text in said(draft)] == ["no source can be reached from lamp-1"]
    assert find_warnings(draft.finish()) == ["all lamps ask for 59.8 W, all sources have 0 mW"]


def lamps(draft: Draft, at: str, count: int, request: str) -> None:
    for _ in range(count):
        number = len(draft.finish().nodes)
        name = draft.node(f"lamp-{number}", LAMP, request=PowerProfile.parse(request))
        draft.link(at, name, V230)


def feeders(count: int, *, has_second_feeder: bool) -> Topology:
    draft = Draft("t")
    draft.node("es1", ES)
    draft.node("s1", TRANSFORMER)
    draft.node("h1", TRANSFORMER)
    draft.link("es1", "s1", KV20)
    draft.link("s1", "h1", V400, capacity_mw=100_000)
    if has_second_feeder:
        draft.node("s2", TRANSFORMER)
        draft.link("es1", "s2", KV20)
        draft.link("s2", "h1", V400, capacity_mw=100_000)
    lamps(draft, "h1", count, "230V/200mA@50Hz")
    return draft.finish()


@pytest.mark.requirement("MPLA-7-05")
def test_more_lamp_than_feeder_is_hardly_meant() -> None:
    assert find_warnings(feeders(2, has_second_feeder=False)) == []
    assert find_warnings(feeders(3, has_second_feeder=False)) == [
        "feeder s1--h1 (400 V) carries 100 W, the lamps behind it ask for 138 W"
    ]
    # neither of two feeders has to carry all
    assert find_warnings(feeders(3, has_second_feeder=True)) == []


@pytest.mark.requirement("MPLA-7-05")
def test_the_side_of_the_lamps_counts_wherever_the_search_began() -> None:
    draft = Draft("t")
    draft.node("es1", ES)
    draft.node("s1", TRANSFORMER)
    draft.node("h1", TRANSFORMER)
    draft.node("es2", ES)
    draft.link("s1", "es1", KV20)
    draft.link("h1", "s1", V400, capacity_mw=1_000)
    draft.link("s1", "es2", KV20)
    lamps(draft, "h1", 1, "230V/200mA@50Hz")
    assert find_warnings(draft.finish()) == [
        "feeder h1--s1 (400 V) carries 1 W, the lamps behind it ask for 46 W"
    ]


@pytest.mark.requirement("MPLA-7-05")
def test_sources_on_both_sides_of_a_feeder_share_the_lamps() -> None:
    draft = Draft("t")
    draft.node("es1", ES)
    draft.node("s1", TRANSFORMER)
    draft.node("s2", TRANSFORMER)
    draft.node("es2", ES)
    draft.link("es1", "s1", KV20)
    draft.link("s1", "s2", V400, capacity_mw=1_000)
    draft.link("s2", "es2", KV20)
    lamps(draft, "s2", 1, "230V/200mA@50Hz")
    assert find_warnings(draft.finish()) == []


@pytest.mark.requirement("MPLA-7-05")
def test_more_lamp_than_source_is_hardly_meant() -> None:
    draft = Draft("t")
    draft.node("es1", ES, capacity_mw=50_000)
    draft.node("s1", SWITCH)
    draft.link("es1", "s1", V230)
    lamps(draft, "s1", 2, "230V/200mA@50Hz")
    assert find_warnings(draft.finish()) == ["all lamps ask for 92 W, all sources have 50 W"]
