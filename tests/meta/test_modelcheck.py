"""The model checker finds nothing in the tables as they are, and a planted fault at once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "tools.modelcheck", "--json", "--limit", "2", "--queue", "2"]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    facts: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, facts


@pytest.mark.requirement("PTCP-9-01", "PTCP-9-02", "PTCP-9-05", "PTCP-9-08")
def test_every_state_of_a_small_bound_is_sound() -> None:
    code, facts = run()
    assert facts["states"] > 5_000
    assert facts["metered_states"] > 1_500
    assert (facts["violations"], facts["deadlocks"], facts["leaks"]) == (0, 0, 0)
    assert facts["unclosable"] == 0
    assert code == 0


@pytest.mark.requirement("PTCP-9-01")
def test_a_shed_deadline_that_forgets_its_answer_is_found() -> None:
    code, facts = run("--plant", "clear-outstanding", "--most", "2000")
    assert facts["violations"] > 0
    assert "shed" in facts["first"]
    assert code == 1
