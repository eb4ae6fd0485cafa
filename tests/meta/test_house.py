"""The figures of the house, on a house of two rooms."""

import json
from pathlib import Path

import pytest

from tools import house

PROJECT = """
[tool.coverage.run]
branch = true
dynamic_context = "test_function"
source = ["powertcp"]
[tool.pytest.ini_options]
addopts = "--import-mode=importlib"
"""
FILES = {
    "pyproject.toml": PROJECT,
    "powertcp/__init__.py": "",
    "powertcp/units.py": "def sign(x):\n    if x < 0:\n        return -1\n    return 1\n",
    "powertcp/wire/__init__.py": "",
    "powertcp/wire/buffer.py": "SIZE = 4\n",
    "powertcp/drivers/__init__.py": "",
    "powertcp/drivers/dial.py": "def dial():\n    return 7\n",
    "tests/unit/test_units.py": "from powertcp.units import sign\n\n\ndef test_plus():\n    assert sign(2) == 1\n",
    # what another file covers proves nothing about this one
    "tests/unit/wire/test_buffer.py": "import powertcp.wire.buffer\nfrom powertcp.units import sign\n\n\ndef test_minus():\n    assert sign(-2) == -1\n",
}


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Write the house of two rooms."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_module_is_covered_by_its_own_test_file_alone(rooms: Path) -> None:
    found = house.own_branch_coverage(rooms)
    # 4 lines and 2 branches of which the own test takes 3 and 1; drivers are not asked
    assert found == {"powertcp.units": 66.7, "powertcp.wire.buffer": 100.0}
    own = rooms / "tests/unit/test_units.py"
    own.write_text(own.read_text(encoding="utf-8") + "    assert sign(-2) == -1\n")
    assert house.own_branch_coverage(rooms)["powertcp.units"] == 100.0


def test_sizes_ratio_and_citations(rooms: Path) -> None:
    (rooms / "powertcp/wire/buffer.py").write_text("# PTCP-2.3-03\nSIZE = 4\n")
    table = house.figures(rooms)
    assert (table["modules"], table["package_lines"]) == (6, 8)
    assert (table["max_module_lines"], table["max_function_lines"]) == (4, 4)
    assert table["spec_citations_per_kloc"] == 500.0
    assert table["test_ratio"] == 1.38
    assert table["over_limit"] == []


def test_a_run_that_failed_gives_no_figure(rooms: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own = rooms / "tests/unit/test_units.py"
    own.write_text(own.read_text(encoding="utf-8") + "    assert sign(2) == 2\n")
    assert house.main(["--json", "--root", str(rooms)]) == 1
    said = capfd.readouterr()
    assert "no figure" in said.err
    assert "own_branch_coverage" not in json.loads(said.out)
    assert not (rooms / "build" / ".coverage-own").exists()
