"""Tables and graphs of others, read as grids: what is in service, in our units."""

from typing import Any

import pytest

from powertcp.mplamps.grids import Place, Supply, Wire, read_graph, read_tables

MW = 10**9
KV = 10**6


def tables(**more: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Two buses of 20 kV and one of 110 kV, numbered 7, 8, 9, and what is added."""
    found: dict[str, list[dict[str, Any]]] = {
        "bus": [
            {"index": 7, "name": "West", "vn_kv": 20.0, "in_service": True},
            {"index": 8, "name": None, "vn_kv": 20, "in_service": True},
            {"index": 9, "name": 3, "vn_kv": 110.0, "in_service": True},
        ],
        "ext_grid": [{"index": 0, "bus": 9, "in_service": True}],
    }
    return found | more


def test_buses_are_places_with_what_is_wanted_there() -> None:
    loads: list[dict[str, Any]] = [
        {"index": 0, "bus": 7, "p_mw": 0.5, "scaling": 0.6},
        {"index": 1, "bus": 7, "p_mw": 0.1, "scaling": None},
        {"index": 2, "bus": 8, "p_mw": 4.0, "in_service": False},
        {"index": 3, "bus": 8, "p_mw": -2.0},
        {"index": 4, "bus": 9, "p_mw": None},
    ]
    phases: list[dict[str, Any]] = [
        {"index": 0, "bus": 7, "p_a_mw": 0.001, "p_b_mw": None, "p_c_mw": 0.003, "scaling": 0.5},
        {"index": 1, "bus": 8, "p_a_mw": 1, "in_service": False},
    ]
    grid = read_tables("x", tables(load=loads, asymmetric_load=phases))
    assert grid.places == (
        Place("West", 20 * KV, 402_000_000),
        Place("", 20 * KV),
        Place("3", 110 * KV),
    )
    assert grid.supplies == (Supply(2),)


def test_lines_carry_what_their_current_and_their_systems_say() -> None:
    line: dict[str, Any] = {"index": 0, "from_bus": 7, "to_bus": 8}
    lines = [
        line | {"length_km": 1.5, "max_i_ka": 0.1, "parallel": 2, "df": 0.5},
        line | {"max_i_ka": None, "length_km": None},
        line | {"max_i_ka": float("inf"), "length_km": -1.0},
        line | {"max_i_ka": 0.0},
        line | {"in_service": False},
        line | {"to_bus": 7},
        line | {"to_bus": 77},
    ]
    wires = read_tables("x", tables(line=lines)).wires
    assert wires == (
        # sqrt(3) * 20 kV * 100 A
        Wire(0, 1, 3_464_101_615, 1500),
        Wire(0, 1, None, 0),
        Wire(0, 1, None, 0),
        Wire(0, 1, None, 0),
    )


def test_an_open_switch_takes_its_branch_out_of_service() -> None:
    lines = [{"index": at, "from_bus": 7, "to_bus": 8, "max_i_ka": 1.0} for at in (4, 5)]
    trafos = [{"index": at, "hv_bus": 9, "lv_bus": 8, "sn_mva": at} for at in (4, 5)]
    switches = [
        {"bus": 7, "element": 4, "et": "l", "closed": False},
        {"bus": 7, "element": 5, "et": "l", "closed": True},
        {"bus": 9, "element": 5, "et": "t", "closed": False},
    ]
    wires = read_tables("x", tables(line=lines, trafo=trafos, switch=switches)).wires
    assert [(wire.a, wire.b) for wire in wires] == [(0, 1), (2, 1)]
    assert wires[1].capacity_mw == 4 * MW


def test_a_closed_switch_between_buses_joins_them() -> None:
    switches = [
        {"bus": 7, "element": 8, "et": "b", "closed": True},
        {"bus": 7, "element": 9, "et": "b", "closed": False},
    ]
    assert read_tables("x", tables(switch=switches)).wires == (Wire(0, 1),)


@pytest.mark.parametrize(("opened", "kept"), [(0, [0, 1]), (9, []), (8, [0]), (7, [1])])
def test_a_transformer_of_three_windings_is_opened_by_winding(opened: int, kept: list[int]) -> None:
    wide = {"index": 3, "hv_bus": 9, "mv_bus": 8, "lv_bus": 7, "sn_mv_mva": 30, "sn_lv_mva": 10}
    switches = [
        {"bus": opened, "element": 3, "et": "t3", "closed": False},
        {"bus": 9, "element": 4, "et": "t3", "closed": False},
        {"bus": 9, "element": 3, "et": "t3", "closed": True},
    ]
    wires = read_tables("x", tables(trafo3w=[wide], switch=switches)).wires
    both = {1: Wire(2, 1, 30 * MW), 0: Wire(2, 0, 10 * MW)}
    assert sorted(wires) == [both[at] for at in kept]


def test_impedances_join_buses_too() -> None:
    row: dict[str, Any] = {"index": 0, "from_bus": 7, "to_bus": 9, "sn_mva": 100.0}
    rows = [row, row | {"to_bus": 8, "in_service": False}]
    assert read_tables("x", tables(impedance=rows)).wires == (Wire(0, 2, 100 * MW),)


def test_external_grids_and_slack_generators_are_supplies() -> None:
    feeds: list[dict[str, Any]] = [
        {"index": 0, "bus": 9, "max_p_mw": 805.2},
        {"index": 1, "bus": 9},
        {"index": 2, "bus": 8, "in_service": False},
        {"index": 3, "bus": 77},
    ]
    generators = [{"index": 0, "bus": 7, "slack": True}, {"index": 1, "bus": 8, "max_p_mw": 5}]
    grid = read_tables("x", tables(ext_grid=feeds, gen=generators))
    assert grid.supplies == (Supply(2, 805_200_000_000), Supply(0))


def test_what_is_out_of_service_is_no_place() -> None:
    buses = [
        {"index": 1, "vn_kv": 0.4, "in_service": False},
        {"index": 2, "vn_kv": 0.4, "in_service": True},
    ]
    lines = [{"index": 0, "from_bus": 1, "to_bus": 2}]
    grid = read_tables("x", {"bus": buses, "line": lines})
    assert (grid.places, grid.wires) == ((Place("", 400_000),), ())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "missing required field `bus`"),
        ({"bus": [{"index": 0}]}, "missing required field `vn_kv`"),
        ({"bus": [{"index": 0, "vn_kv": "high"}]}, r"\$.bus\[0\].vn_kv"),
        ({"bus": [{"index": 4, "vn_kv": float("nan")}]}, "bus 4 has nan kV"),
    ],
)
def test_tables_that_are_none_are_told(found: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"x is no grid: .*{said}"):
        read_tables("x", found)


# ---- graphs -------------------------------------------------------------------------------------


def test_cities_are_substations_and_the_best_connected_one_has_the_source() -> None:
    names = ("Abend", "Bern", "Chur", "Dorf")
    document = {
        "graph": {"name": "little"},
        "nodes": [{"id": at, "name": name, "pos": [0, 0]} for at, name in enumerate(names)],
        "edges": [
            {"source": 0, "target": 1, "dist": 61.63, "ecmp": {}},
            {"source": 1, "target": 2, "dist": 10},
            {"source": 1, "target": 1},
            {"source": 2, "target": 3, "dist": None},
        ],
    }
    grid = read_graph("little", document)
    assert [place.name for place in grid.places] == list(names)
    assert {(place.voltage_mv, place.load_mw) for place in grid.places} == {(380 * KV, MW)}
    assert grid.wires == (Wire(0, 1, None, 61_630), Wire(1, 2, None, 10_000), Wire(2, 3))
    # Bern and Chur have two neighbours each
    assert grid.supplies == (Supply(1),)


def test_ids_may_be_texts_and_names_may_be_missing() -> None:
    nodes = [{"id": "0"}, {"id": "x", "name": 5}]
    document = {"nodes": nodes, "edges": [{"source": "x", "target": "0", "dist": 1.0}]}
    grid = read_graph("texts", document)
    assert [place.name for place in grid.places] == ["", "5"]
    assert grid.wires == (Wire(1, 0, None, 1000),)


def test_a_graph_of_nothing_has_no_source() -> None:
    assert read_graph("nothing", {"nodes": [], "edges": []}).supplies == ()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"nodes": []}, "missing required field `edges`"),
        ({"nodes": [{"id": 0}], "edges": [{"source": 0, "target": 1}]}, 'no node has the id "1"'),
        ({"nodes": [{"id": 0}], "edges": [{"source": 9, "target": 0}]}, 'no node has the id "9"'),
    ],
)
def test_documents_that_are_none_are_told(document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"x is no graph: .*{said}"):
        read_graph("x", document)
