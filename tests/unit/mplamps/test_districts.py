"""Grids as topologies: routers, sources, districts of houses, names and limits."""

from ipaddress import IPv4Address

import pytest

from powertcp.mplamps.districts import Imported, capacity_for, make_topology, share_lamps
from powertcp.mplamps.grids import Grid, Place, Supply, Wire
from powertcp.mplamps.topology import (
    DEFAULT_CAPACITIES,
    DEFAULT_REQUEST,
    MAX_NEIGHBOURS,
    MAX_NODES,
    NodeKind,
    Topology,
    find_faults,
    find_warnings,
)

MW = 10**9
KV = 10**6
LAMP_MW = DEFAULT_REQUEST.power_mw


def grid(
    *places: Place, wires: tuple[Wire, ...] = (), supplies: tuple[Supply, ...] = (Supply(0),)
) -> Grid:
    return Grid("library:some/grid", places, wires, supplies)


def made(lamps: int, what: Grid) -> Topology:
    topology = make_topology(what, lamps).topology
    assert find_faults(topology) == []
    assert find_warnings(topology) == []
    return topology


def kinds(topology: Topology) -> dict[str, str]:
    return {node.name: str(node.kind) for node in topology.nodes}


def spans(topology: Topology) -> dict[str, int]:
    return {link.name: link.voltage_mv for link in topology.links}


# ---- routers ------------------------------------------------------------------------------------


def test_a_load_is_a_district_with_a_house_for_five_lamps() -> None:
    topology = made(7, grid(Place("Town", 110 * KV, MW)))
    assert topology.name == "some-grid"
    assert kinds(topology) == {
        "es1": "es",
        "Town": "switch",
        "d1": "transformer",
        "c1": "transformer",
        "h1": "transformer",
        "h2": "transformer",
        **{f"lamp-{number}": "lamp" for number in range(1, 8)},
    }
    assert spans(topology) == {
        "es1--Town": 110 * KV,
        "Town--d1": 110 * KV,
        "d1--c1": 20 * KV,
        "c1--h1": 400_000,
        **{f"h1--lamp-{number}": 230_000 for number in range(1, 6)},
        "c1--h2": 400_000,
        **{f"h2--lamp-{number}": 230_000 for number in (6, 7)},
    }


@pytest.mark.parametrize(
    ("voltage_mv", "above_house"),
    [
        (20 * KV, ["Bus--c1", "c1--h1"]),
        (10 * KV, ["Bus--c1", "c1--h1"]),
        (400_000, ["Bus--h1"]),
        (230_000, ["Bus--h1"]),
    ],
)
def test_steps_that_a_voltage_does_not_need_are_left_out(
    voltage_mv: int, above_house: list[str]
) -> None:
    topology = made(1, grid(Place("Bus", voltage_mv, LAMP_MW)))
    assert [*spans(topology)] == ["es1--Bus", *above_house, "h1--lamp-1"]
    assert topology.link(1).voltage_mv == voltage_mv
    is_step = voltage_mv != 230_000
    assert topology.node("h1").kind.value == ("transformer" if is_step else "switch")


def test_a_step_between_two_buses_has_the_higher_voltage_and_its_transformer_below() -> None:
    topology = made(
        1,
        grid(
            Place("High", 110 * KV),
            Place("Low", 20 * KV, MW),
            wires=(Wire(0, 1, 25 * MW, 0),),
        ),
    )
    link = topology.between("High", "Low")
    assert link is not None
    assert (link.voltage_mv, link.capacity_mw, link.delay_ns) == (110 * KV, 25 * MW, 1000)
    assert (kinds(topology)["High"], kinds(topology)["Low"]) == ("switch", "transformer")


def test_wires_between_the_same_places_are_one_link() -> None:
    topology = made(
        1,
        grid(
            Place("A", 20 * KV),
            Place("B", 20 * KV, MW),
            wires=(Wire(0, 1, 3 * MW, 2000), Wire(1, 0, 4 * MW, 1000), Wire(0, 1)),
        ),
    )
    link = topology.between("A", "B")
    assert link is not None
    # 5 ns each metre; a wire without a rating carries what is usual
    assert (link.capacity_mw, link.delay_ns) == (17 * MW, 1000)
    far = grid(Place("A", 20 * KV), Place("B", 20 * KV, MW), wires=(Wire(0, 1, None, 200_000),))
    link = made(1, far).between("A", "B")
    assert link is not None
    assert link.delay_ns == 1_000_000


def test_capacities_lie_between_the_usual_ones() -> None:
    assert {mv: capacity_for(mv) for mv in DEFAULT_CAPACITIES} == DEFAULT_CAPACITIES
    assert capacity_for(10 * KV) == 250_000_000 + 9_750_000_000 * 9_600_000 // 19_600_000
    assert capacity_for(760 * KV) == 2 * DEFAULT_CAPACITIES[380 * KV]
    assert capacity_for(1) == DEFAULT_CAPACITIES[230_000]


def test_a_source_is_after_the_feeds_of_its_voltage() -> None:
    topology = made(
        1,
        grid(
            Place("A", 110 * KV, MW),
            Place("B", 110 * KV),
            Place("C", 20 * KV),
            wires=(Wire(0, 2),),
            supplies=(Supply(0, 5 * MW), Supply(1, 900 * MW), Supply(2)),
        ),
    )
    assert [node.name for node in topology.of_kind(NodeKind.ES)] == ["es1", "es2"]
    assert topology.node("es1").capacity_mw == 905 * MW
    assert topology.node("es2").capacity_mw is None
    assert [*spans(topology)][1:4] == ["es1--A", "es1--B", "es2--C"]
    link = topology.between("es1", "B")
    assert link is not None
    assert link.capacity_mw == 900 * MW


def test_of_separate_parts_the_greatest_is_kept() -> None:
    names = ("A", "B", "C", "D", "E")
    places = (Place(name, 110 * KV if name == "A" else 20 * KV, MW) for name in names)
    wires = (Wire(1, 2), Wire(3, 4))
    imported = make_topology(grid(*places, wires=wires, supplies=(Supply(0), Supply(2))), 4)
    assert imported.left_out == 3
    assert [*kinds(imported.topology)][:3] == ["es1", "B", "C"]
    assert find_faults(imported.topology) == []


# ---- lamps --------------------------------------------------------------------------------------


def test_lamps_are_shared_by_power_and_the_rest_goes_to_the_greatest_remainders() -> None:
    assert share_lamps({0: 10 * LAMP_MW, 1: 20 * LAMP_MW, 2: 0, 3: 70 * LAMP_MW}, 10) == {
        0: 1,
        1: 2,
        3: 7,
    }
    assert share_lamps({0: 5 * LAMP_MW, 1: 5 * LAMP_MW, 2: 5 * LAMP_MW}, 4) == {0: 2, 1: 1, 2: 1}
    assert share_lamps({0: 2 * LAMP_MW, 1: 3 * LAMP_MW - 1}, 100) == {0: 2, 1: 2}
    assert share_lamps({0: LAMP_MW - 1}, 100) == {}


def test_as_many_lamps_come_out_as_were_wanted() -> None:
    places = tuple(Place(f"b{at}", 20 * KV, at * MW // 7) for at in range(1, 40))
    wires = tuple(Wire(at, at + 1) for at in range(38))
    topology = made(1000, grid(*places, wires=wires))
    lamps = topology.of_kind(NodeKind.LAMP)
    assert len(lamps) == 1000
    assert len({lamp.address for lamp in lamps}) == 1000


def test_a_load_of_many_lamps_has_several_cabinets() -> None:
    topology = made(501, grid(Place("Bus", 20 * KV, MW)))
    assert [kinds(topology)[f"c{number}"] for number in (1, 2, 3)] == ["transformer"] * 3
    assert len(topology.links_of("c1")) == 51
    assert len(topology.links_of("h101")) == 2


# ---- limits -------------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-4.10-03")
@pytest.mark.parametrize(
    ("neighbours", "routers"), [(254, 0), (255, 2), (255 * 256 - 2, 256), (255 * 256 - 1, 259)]
)
def test_routers_are_put_between_where_one_has_too_many_neighbours(
    neighbours: int, routers: int
) -> None:
    # the source and the cabinet of the lamp are two more
    outer = (Place("", 20 * KV) for _ in range(neighbours))
    wires = (Wire(0, at) for at in range(1, neighbours + 1))
    topology = made(1, grid(Place("Bus", 20 * KV, MW), *outer, wires=tuple(wires)))
    between = [kind for name, kind in kinds(topology).items() if name.startswith("x")]
    assert between == ["switch"] * routers
    assert max(len(topology.links_of(node.name)) for node in topology.nodes) <= MAX_NEIGHBOURS


def test_only_wires_of_one_voltage_share_a_router_between() -> None:
    outer = tuple(Place(f"far{at}", 20 * KV) for at in range(300))
    wires = (Wire(0, 1), *(Wire(1, at + 2) for at in range(300)))
    topology = made(
        1, grid(Place("High", 110 * KV), Place("Hub", 20 * KV, MW), *outer, wires=wires)
    )
    hub = topology.links_of("Hub")
    assert sorted(link.voltage_mv for link in hub) == [20 * KV, 20 * KV, 110 * KV]
    bundled = topology.between("Hub", "x1")
    assert bundled is not None
    assert bundled.capacity_mw == 255 * capacity_for(20 * KV)
    assert kinds(topology)["x1"] == "switch"


def test_too_many_neighbours_of_as_many_voltages_are_told() -> None:
    outer = (Place("", (20 + at) * KV) for at in range(MAX_NEIGHBOURS))
    wires = (Wire(0, at) for at in range(1, MAX_NEIGHBOURS + 1))
    # the lamp is behind the hub: its cabinet is one more
    odd = grid(Place("Hub", KV, MW), *outer, wires=tuple(wires), supplies=(Supply(1),))
    with pytest.raises(ValueError, match="Hub has 257 neighbours, at most 256"):
        make_topology(odd, 1)


@pytest.mark.parametrize("lamps", [0, MAX_NODES + 1])
def test_a_number_of_lamps_has_a_limit(lamps: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 2,000,000 lamps, got {lamps:,}"):
        make_topology(grid(Place("A", 20 * KV, MW)), lamps)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (grid(Place("A", 20 * KV, MW), supplies=()), "no lamp can be lit: 0 sources"),
        (grid(Place("A", 20 * KV, LAMP_MW - 1)), "no lamp can be lit: 1 sources"),
        (grid(Place("A", 0, MW)), '"A" has 0 V, the limit is 1,000 kV'),
        (grid(Place("A", 1_000_001_000, MW)), "the limit is"),
    ],
)
def test_a_grid_in_which_no_lamp_can_be_lit_is_told(what: Grid, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_topology(what, 10)


def test_addresses_that_do_not_follow_a_base_are_told() -> None:
    with pytest.raises(ValueError, match="no 9 addresses of nodes follow 127"):
        make_topology(grid(Place("A", 20 * KV, MW)), 5, IPv4Address("127.255.255.250"))


# ---- names --------------------------------------------------------------------------------------


def test_names_are_made_of_what_a_name_may_have_and_differ() -> None:
    said = (
        "Umspannwerk Süd (110 kV)",
        "1",
        "",
        "北京",
        "h1",
        "es1",
        "Zentrum",
        "Zentrum",
        "A" * 40,
        "A" * 41,
        "pdp",
    )
    places = tuple(Place(name, 20 * KV, MW) for name in said)
    wires = tuple(Wire(0, at) for at in range(1, len(said)))
    imported = make_topology(grid(*places, wires=wires), 11, has_pdp=True)
    names = [node.name for node in imported.topology.nodes]
    assert names[:12] == [
        "es1",
        "Umspannwerk-Sud-110-kV",
        "bus-1",
        "bus-2",
        "bus-3",
        "h1",
        "es1-1",
        "Zentrum",
        "Zentrum-1",
        "A" * 32,
        "A" * 24 + "-1",
        "pdp",
    ]
    assert imported.topology.node(names[-1]).kind is NodeKind.PDP
    assert names[-1] == "pdp1"
    assert "h2" in names
    assert find_faults(imported.topology) == []


def test_the_same_grid_makes_the_same_topology() -> None:
    def make() -> Imported:
        places = (Place("A", 20 * KV, MW), Place("B", 20 * KV, 3 * MW))
        return make_topology(grid(*places, wires=(Wire(0, 1),)), 50, has_pdp=True)

    assert make() == make()
    pdp = make().topology.pdp()
    assert pdp is not None
    assert pdp.name == "pdp"
