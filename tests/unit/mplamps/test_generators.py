"""Generated topologies: what they are made of, and that they are without fault."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.mplamps.generators import generate_topology, is_generator
from powertcp.mplamps.plans import format_topology, parse_topology
from powertcp.mplamps.topology import NodeKind, Topology, find_faults


def links(topology: Topology) -> list[tuple[str, int]]:
    return [(link.name, link.voltage_mv) for link in topology.links]


@pytest.mark.requirement("MPLA-7-04")
def test_a_chain_steps_down_from_380_kv_to_230_v() -> None:
    topology = generate_topology("tree:1,1,1,1,1")
    assert links(topology) == [
        ("es1--g1", 380_000_000),
        ("g1--s1", 110_000_000),
        ("s1--c1", 20_000_000),
        ("c1--h1", 400_000),
        ("h1--lamp-1", 230_000),
    ]
    assert [link.label for link in topology.links] == [380_000, 110_000, 20_000, 400, 230]
    assert [node.kind.value for node in topology.nodes] == ["es", *["transformer"] * 4, "lamp"]
    assert str(topology.node("lamp-1").address) == "10.0.0.6"


@pytest.mark.requirement("MPLA-7-04")
def test_a_tree_has_its_fan_outs() -> None:
    topology = generate_topology("tree:2,3,2")
    names = [node.name for node in topology.nodes]
    assert names[:9] == ["es1", "c1", "c2", "h1", "h2", "h3", "h4", "h5", "h6"]
    assert names[9:] == [f"lamp-{number}" for number in range(1, 13)]
    assert links(topology)[:3] == [
        ("es1--c1", 20_000_000),
        ("es1--c2", 20_000_000),
        ("c1--h1", 400_000),
    ]
    assert links(topology)[-1] == ("h6--lamp-12", 230_000)


@pytest.mark.requirement("MPLA-7-04")
def test_more_levels_add_20_kv_and_switches() -> None:
    topology = generate_topology("tree:1,1,1,1,1,1,1")
    assert [voltage // 1000 for _, voltage in links(topology)] == [
        380_000,
        110_000,
        20_000,
        20_000,
        20_000,
        400,
        230,
    ]
    kinds = {node.name: node.kind for node in topology.nodes}
    assert kinds["l6-1"] is kinds["l5-1"] is NodeKind.TRANSFORMER
    assert (kinds["g1"], kinds["s1"], kinds["c1"]) == (
        NodeKind.SWITCH,
        NodeKind.SWITCH,
        NodeKind.TRANSFORMER,
    )


@pytest.mark.requirement("MPLA-7-04")
def test_the_default_storm_has_ten_thousand_lamps() -> None:
    topology = generate_topology("tree:10,10,10,2,5")
    assert len(topology.of_kind(NodeKind.LAMP)) == 10_000
    assert (len(topology.nodes), len(topology.links)) == (13_111, 13_110)


@pytest.mark.requirement("MPLA-7-04")
def test_a_street_has_two_substations_and_a_lamp_in_each_house() -> None:
    topology = generate_topology("street:2")
    assert links(topology) == [
        ("es1--s1", 110_000_000),
        ("es1--s2", 110_000_000),
        ("s1--c1", 20_000_000),
        ("s2--c1", 20_000_000),
        ("c1--h1", 400_000),
        ("c1--h2", 400_000),
        ("h1--lamp-1", 230_000),
        ("h2--lamp-2", 230_000),
    ]


@pytest.mark.requirement("MPLA-7-04")
def test_a_ring_is_closed() -> None:
    topology = generate_topology("ring:3")
    assert links(topology)[:7] == [
        ("es1--r1", 110_000_000),
        ("r1--r2", 20_000_000),
        ("r2--r3", 20_000_000),
        ("r3--r1", 20_000_000),
        ("r1--h1", 400_000),
        ("r2--h2", 400_000),
        ("r3--h3", 400_000),
    ]


@pytest.mark.requirement("MPLA-7-04")
def test_a_ladder_stands_without_any_one_of_its_rungs() -> None:
    topology = generate_topology("ladder:2")
    assert links(topology) == [
        ("es1--a1", 110_000_000),
        ("es1--b1", 110_000_000),
        ("a1--a2", 20_000_000),
        ("b1--b2", 20_000_000),
        ("a1--b1", 20_000_000),
        ("a2--b2", 20_000_000),
        ("a1--h1", 400_000),
        ("b1--h1", 400_000),
        ("a2--h2", 400_000),
        ("b2--h2", 400_000),
        ("h1--lamp-1", 230_000),
        ("h2--lamp-2", 230_000),
    ]


SPECS = st.one_of(
    st.lists(st.integers(1, 4), min_size=2, max_size=6).map(
        lambda counts: "tree:" + ",".join(map(str, counts))
    ),
    st.builds("{}:{}".format, st.sampled_from(["street", "ring", "ladder"]), st.integers(3, 12)),
)


@pytest.mark.requirement("MPLA-7-02", "MPLA-7-03", "MPLA-7-04")
@given(SPECS, st.booleans())
def test_what_is_generated_has_no_fault_and_is_read_as_it_is_written(
    spec: str, has_pdp: bool
) -> None:
    base = IPv4Address("127.80.0.0")
    topology = generate_topology(spec, base=base, has_pdp=has_pdp)
    assert is_generator(spec)
    assert find_faults(topology) == []
    assert generate_topology(spec, base=base, has_pdp=has_pdp) == topology
    assert parse_topology(format_topology(topology), spec) == topology
    without = generate_topology(spec, base=base)
    assert topology.nodes[: len(without.nodes)] == without.nodes
    assert topology.links == without.links


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("tree", 'a generator is tree:A,B,..,Z, street:N, ring:N, ladder:N, got "tree"'),
        ("strete:3", 'did you mean "street"?'),
        ("tree:", "takes numbers from 1 to 9,999,999"),
        ("tree:1,0", "takes numbers from 1 to 9,999,999"),
        ("tree:1,-1", "takes numbers from 1 to 9,999,999"),
        ("tree:1, 1", "takes numbers from 1 to 9,999,999"),
        ("tree:3", "2 to 32 levels, got 1"),
        ("tree:" + ",".join("1" * 33), "2 to 32 levels, got 33"),
        ("tree:100,100,100,1", "a tree of 2,010,101 nodes, at most 2,000,000"),
        ("tree:257,1", "es1 has 257 neighbours, at most 256"),
        ("street:255", "c1 has 257 neighbours, at most 256"),
        ("street:1,2", "takes one number from 1 to"),
        ("ring:2", "takes one number from 3 to"),
        ("ladder:9999999", "takes one number from 1 to 2,000,000"),
    ],
)
def test_words_that_make_no_topology(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^.") as caught:
        generate_topology(spec)
    assert said in str(caught.value)


def test_the_largest_street_fits() -> None:
    assert len(generate_topology("street:254").of_kind(NodeKind.LAMP)) == 254


def test_a_file_is_no_generator() -> None:
    words = ("street.toml", "tree", "C:1", "./tree:1", "forest:3")
    assert not any(is_generator(word) for word in words)


def test_too_many_nodes_for_a_base_are_told() -> None:
    with pytest.raises(ValueError, match=r"no 5 addresses of nodes follow 127\.255"):
        generate_topology("tree:1,1,1,1", base=IPv4Address("127.255.255.253"))
