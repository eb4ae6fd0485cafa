"""The grids of pandapower and simbench themselves; both are large, so that they may be missing."""

import json
from pathlib import Path

import pytest

from powertcp.cli.topologies import load_topology
from powertcp.cli.topology_import import tables_of
from powertcp.errors import ConfigError
from powertcp.mplamps.grids import TABLES, read_tables
from powertcp.mplamps.topology import NodeKind, find_faults, find_warnings

pytestmark = [
    pytest.mark.interop,
    # of their own making
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
GRIDS = Path(__file__).resolve().parent.parent / "data" / "grids"


@pytest.mark.parametrize("name", ["mv_oberrhein", "case118"])
def test_pandapower_has_the_tables_of_the_recordings(name: str) -> None:
    networks = pytest.importorskip("pandapower.networks", reason="pip install pandapower")
    kept = json.loads((GRIDS / f"{name}.json").read_text(encoding="utf-8"))
    tables = tables_of(getattr(networks, name)())
    assert set(tables) == set(kept) <= set(TABLES)
    for key, rows in tables.items():
        assert len(rows) == len(kept[key])
        for row, other in zip(rows, kept[key], strict=True):
            stated = {column: value for column, value in row.items() if value is not None}
            assert stated == pytest.approx(other, abs=1e-6)
    found, recorded = read_tables(name, tables), read_tables(name, kept)
    assert found.places == recorded.places
    assert [wire[:2] for wire in found.wires] == [wire[:2] for wire in recorded.wires]


@pytest.mark.parametrize(
    "name", ["mv_oberrhein", "case118", "GBnetwork", "create_cigre_network_lv", "example_simple"]
)
def test_pandapower_lights_lamps(name: str) -> None:
    pytest.importorskip("pandapower", reason="pip install pandapower")
    topology = load_topology(f"pandapower:{name},50")
    assert find_faults(topology) == []
    assert find_warnings(topology) == []
    assert len(topology.of_kind(NodeKind.LAMP)) == 50


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("case11", 'pandapower has no network "case11", did you mean "case118"'),
        ("create_bus", 'pandapower has no network "create_bus"'),
        ("__class__", 'pandapower has no network "__class__"'),
    ],
)
def test_pandapower_makes_nothing_but_its_networks(word: str, said: str) -> None:
    pytest.importorskip("pandapower", reason="pip install pandapower")
    with pytest.raises(ConfigError, match=said):
        load_topology(f"pandapower:{word}")


def test_simbench_lights_lamps() -> None:
    pytest.importorskip("simbench", reason="pip install simbench")
    topology = load_topology("simbench:1-LV-rural1--0-sw,50")
    assert find_faults(topology) == []
    assert len(topology.of_kind(NodeKind.LAMP)) == 50
    with pytest.raises(ConfigError, match='simbench has no grid "1-LV-rural"'):
        load_topology("simbench:1-LV-rural")
