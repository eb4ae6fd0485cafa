"""Topologies of real grids and backbones: nothing wrong with them, and each lamp has a path."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from powertcp.cli.main import main
from powertcp.cli.topologies import load_topology
from powertcp.mplamps.districts import make_topology
from powertcp.mplamps.grids import read_tables
from powertcp.mplamps.plans import format_topology, parse_topology
from powertcp.mplamps.ted import Ted
from powertcp.mplamps.topology import (
    DEFAULT_REQUEST,
    MAX_NEIGHBOURS,
    NodeKind,
    Topology,
    find_faults,
    find_warnings,
)

GRIDS = Path(__file__).resolve().parent.parent / "data" / "grids"
LAMPS = 10_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def ran(*words: object) -> tuple[int, str, str]:
        status = main(["mplamps", "topology", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


def check(topology: Topology) -> None:
    """Nothing is wrong or strange, and each lamp has a path to the source with its power."""
    assert find_faults(topology) == []
    assert find_warnings(topology) == []
    assert max(len(topology.links_of(node.name)) for node in topology.nodes) <= MAX_NEIGHBOURS
    source = topology.of_kind(NodeKind.ES)[0].name
    tree = Ted(topology).reverse_tree(source, DEFAULT_REQUEST.power_mw, 4)
    lamps = topology.of_kind(NodeKind.LAMP)
    assert all(lamp.name in tree for lamp in lamps)
    assert parse_topology(format_topology(topology), "again") == topology


@pytest.mark.requirement("MPLA-2.3-02")
@pytest.mark.requirement("MPLA-7-03")
@pytest.mark.parametrize(
    ("name", "buses", "voltages", "branches"),
    [
        # two trees: a loop is open somewhere
        ("mv_oberrhein", 179, {110_000_000, 20_000_000}, 177),
        ("case118", 118, {345_000_000, 138_000_000, 161_000_000}, 179),
    ],
)
def test_a_grid_of_pandapower_lights_as_many_lamps_as_are_wanted(
    name: str, buses: int, voltages: set[int], branches: int
) -> None:
    tables = json.loads((GRIDS / f"{name}.json").read_text(encoding="utf-8"))
    grid = read_tables(f"pandapower:{name}", tables)
    assert len(grid.places) == buses
    made = make_topology(grid, LAMPS)
    topology = made.topology
    check(topology)
    assert (topology.name, made.left_out) == (name, 0)
    assert len(topology.of_kind(NodeKind.LAMP)) == LAMPS
    used = {link.voltage_mv for link in topology.links}
    assert used == voltages | {20_000_000, 400_000, 230_000}
    inner = {node.name for node in topology.nodes[: 1 + buses]}
    joined = [link for link in topology.links if {link.a, link.b} <= inner]
    fed = len(grid.supplies)
    pairs = {frozenset((wire.a, wire.b)) for wire in grid.wires}
    assert len(joined) == fed + len(pairs) == fed + branches


def test_lamps_stand_where_the_loads_of_the_grid_are() -> None:
    tables = json.loads((GRIDS / "case118.json").read_text(encoding="utf-8"))
    topology = make_topology(read_tables("case118", tables), LAMPS).topology
    assert topology.of_kind(NodeKind.ES)[0].capacity_mw == 805_200_000_000
    ted = Ted(topology).reverse_tree("es1", DEFAULT_REQUEST.power_mw, 4)
    buses = {node.name for node in topology.nodes[1:119]}
    lit: Counter[str] = Counter()
    for lamp in topology.of_kind(NodeKind.LAMP):
        lit[next(step.node for step in ted.path(lamp.name) if step.node in buses)] += 1
    loads = {f"bus-{row['bus'] + 1}": row["p_mw"] for row in tables["load"]}
    total = sum(loads.values())
    assert set(lit) == set(loads)
    for bus, megawatts in loads.items():
        assert abs(lit[bus] - LAMPS * megawatts / total) < 1


def test_germany_is_imported_and_checked(run: Run, tmp_path: Path) -> None:
    status, said, fault = run("import", "topohub:sndlib/germany50", "--lamps", LAMPS, "--pdp")
    assert (status, fault) == (0, "")
    assert said.splitlines()[0].startswith("# topohub:sndlib/germany50, topohub 1.")
    path = tmp_path / "germany.toml"
    path.write_text(said, encoding="utf-8")
    status, said, _ = run("check", path)
    assert (status, said) == (
        0,
        f"VALID    {path}: 10,000 lamps, 1 source, 2,100 transformers, 50 switches, 1 pdp,"
        " 12,189 links\n",
    )
    topology = load_topology(str(path))
    check(topology)
    hub = topology.links_of("es1")[0].b
    path_of_graph = files("topohub") / "data" / "sndlib" / "germany50.json"
    graph = json.loads(path_of_graph.read_bytes())
    names = [node["name"] for node in graph["nodes"]]
    near = Counter(names[edge[end]] for edge in graph["edges"] for end in ("source", "target"))
    # the first of those that have the most
    assert hub == max(names, key=lambda name: near[name])
    for name in names:
        # and its district
        assert len(topology.links_of(name)) == near[name] + 1 + (name == hub)
    for edge in graph["edges"]:
        link = topology.between(names[edge["source"]], names[edge["target"]])
        assert link is not None
        # 200 km each ms
        assert abs(link.delay_ns - edge["dist"] * 1_000_000 / 200) <= 5
        assert link.voltage_mv == 380_000_000


def test_a_grid_is_a_topology_wherever_one_is_wanted(run: Run) -> None:
    status, said, _ = run("check", "topohub:sndlib/polska,3", "topohub:topozoo/Abilene")
    assert status == 0
    assert said == (
        "VALID    topohub:sndlib/polska,3: 3 lamps, 1 source, 9 transformers, 12 switches, 31 links\n"
        "VALID    topohub:topozoo/Abilene: 1,000 lamps, 1 source, 230 transformers, 11 switches,"
        " 1,245 links\n"
    )
    assert run("import", "topohub:sndlib/polska", "--base", "10.9.0.0")[0] == 0


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("topohub:sndlib/polen", 'topohub has no network "sndlib/polen"'),
        ("topohub:../../polska", 'topohub has names such as sndlib/germany50, got "../../polska"'),
        ("topohub:sndlib/polska,0", "1 to 2,000,000 lamps, got 0"),
    ],
)
def test_a_grid_that_is_not_there_is_told_in_one_line(run: Run, word: str, said: str) -> None:
    status, shown, fault = run("import", word)
    assert (status, shown) == (2, "")
    assert said in fault
    assert len(fault.splitlines()) == 1


@pytest.mark.parametrize("library", ["pandapower", "simbench", "topohub"])
def test_a_library_that_is_not_there_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    status, shown, fault = run("import", f"{library}:case/118")
    assert (status, shown) == (2, "")
    assert f"{library} is not there" in fault
    assert 'pip install "powertcp[grid]"' in fault
