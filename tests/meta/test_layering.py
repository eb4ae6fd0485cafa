"""Each import contract bites: every planted violation makes lint-imports exit 1."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.meta.plants import PLANTS

ROOT = Path(__file__).resolve().parent.parent.parent


@functools.cache
def _said(folder: str) -> dict[str, Any]:
    copy = Path(folder)
    shutil.copytree(
        ROOT / "powertcp", copy / "powertcp", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.copy(ROOT / "tests" / "meta" / "plants.py", copy)
    rest = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = os.pathsep.join(entry for entry in rest if Path(entry).resolve() != ROOT)
    done = subprocess.run(
        [sys.executable, "plants.py"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.fixture(scope="session")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _said(str(tmp_path_factory.mktemp("plants")))


def _contracts() -> set[str]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {row["id"] for row in table["tool"]["importlinter"]["contracts"]}


def test_there_are_enough_plants_and_one_for_each_contract() -> None:
    assert len(PLANTS) >= 25
    assert {plant.contract for plant in PLANTS} == _contracts()


@pytest.mark.parametrize("contract", sorted(_contracts()))
def test_the_tree_keeps_its_contracts(contract: str, said: dict[str, Any]) -> None:
    status, output = said["clean"][contract]
    assert status == 0, output


@pytest.mark.parametrize("plant", [f"{plant.contract}: {plant.what}" for plant in PLANTS])
def test_a_planted_violation_is_caught(plant: str, said: dict[str, Any]) -> None:
    assert said["clean"][plant.partition(":")[0]][0] == 0, "proves nothing on a broken tree"
    assert said["planted"][plant] == 1
