"""`powertcp firewall check` and `test`: policies as people leave them in files."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from powertcp.cli.main import main
from tests.policies import EXAMPLE, KEYS

Run = Callable[..., tuple[int, str, str]]
BROKEN = "policy drop\nrule powr > 1W -> drop\nrule load > 90 -> drop\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def ran(*words: object) -> tuple[int, str, str]:
        try:
            status = main(["firewall", *map(str, words)])
        except SystemExit as left:
            status = int(str(left.code))
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "authorized_watts").write_text(KEYS)
    path = tmp_path / "attic.policy"
    path.write_text(EXAMPLE)
    return path


def test_a_valid_policy_is_counted(run: Run, policy: Path) -> None:
    status, said, _ = run("check", policy)
    assert status == 0
    assert said == (
        f"VALID  {policy}: 10 rules, 3 sets, 1 reservoir, 1 lender, 2 tests;"
        " otherwise reclaim main\n"
    )
    status, said, _ = run("check", "--json", policy)
    assert status == 0
    assert json.loads(said) == {
        "file": str(policy), "valid": True, "faults": [],
        "rules": 10, "sets": 3, "reservoirs": 1, "lenders": 1, "tests": 2,
    }  # fmt: skip


@pytest.mark.requirement("FWRL-3-15")
def test_each_fault_has_its_place(run: Run, policy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text(BROKEN)
    status, said, _ = run("check", broken, policy)
    assert status == 2
    first, second, third = said.splitlines()
    assert first.startswith(f'INVALID  {broken}:2:6: "powr" is no match, did you mean "power"?')
    assert second.startswith(f"INVALID  {broken}:3:13: ")
    assert second.endswith("expected a percentage (%)")
    assert third.startswith(f"VALID  {policy}")
    status, said, _ = run("check", "--json", broken)
    row = json.loads(said)
    assert (status, row["valid"], len(row["faults"])) == (2, False, 2)
    assert row["faults"][1]["found"] == "90"
    assert row["faults"][1]["expected"] == ["a percentage (%)"]


def test_the_tests_of_a_policy_are_run(run: Run, policy: Path) -> None:
    status, said, _ = run("test", policy)
    assert status == 0
    assert said.splitlines() == [
        f"ok      {policy}:21: reclaim main limit 1kW burst 2kJ by line 11",
        f"ok      {policy}:22: drop by line 9",
        f"{policy}: 2 tests, all as expected",
    ]


def test_a_test_that_differs_says_what_was_found(run: Run, policy: Path) -> None:
    policy.write_text(EXAMPLE.replace("-> drop line 9", "-> accept line 8"))
    status, said, _ = run("test", policy)
    assert status == 1
    assert said.splitlines()[1:] == [
        f"DIFFERS {policy}:22: expected accept, found drop; expected line 8, found line 9"
        " (drop by line 9: rule sealed yes -> drop log)",
        f"{policy}: 2 tests, 1 of them as not expected",
    ]
    status, said, _ = run("test", "--json", policy)
    rows = [json.loads(line) for line in said.splitlines()]
    assert (status, [row["ok"] for row in rows]) == (1, [True, False])
    assert rows[1] == {
        "file": str(policy),
        "line": 22,
        "text": "test sealed=yes peer=unknown -> accept line 8",
        "ok": False,
        "differences": ["expected accept, found drop", "expected line 8, found line 9"],
        "verdict": "drop",
        "decided_by": {"line": 9, "text": "rule sealed yes -> drop log"},
        "values": {"sealed": "yes"},
    }


def test_a_policy_that_does_not_load_is_not_tested(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text(BROKEN)
    status, said, error = run("test", broken)
    assert (status, said) == (2, "")
    assert len(error.splitlines()) == 2
    status, said, error = run("test", "--json", broken)
    assert (status, error) == (2, "")
    assert json.loads(said)["valid"] is False


def test_a_policy_without_tests(run: Run, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("policy drop\n")
    assert run("test", plain) == (0, f"{plain}: 0 tests\n", "")


def test_keys_stand_beside_the_policy(run: Run, policy: Path) -> None:
    (policy.parent / "authorized_watts").unlink()
    status, said, _ = run("check", policy)
    assert status == 2
    assert f"INVALID  {policy}:2:18: it cannot be read: cannot read a file:" in said
    assert "expected a file of authorized_watts" in said


def test_a_laboratory_may_have_no_losses(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "lab"
    path.write_text("reservoir a capacity 1J charge 100%\npolicy drop\n")
    assert run("check", path)[0] == 2
    assert run("check", "--lab", path)[0] == 0


@pytest.mark.parametrize("action", ["check", "test"])
def test_files_that_are_none(run: Run, tmp_path: Path, action: str) -> None:
    status, said, error = run(action, tmp_path / "nowhere")
    assert (status, said) == (2, "")
    assert "cannot read a file" in error
    os.mkfifo(tmp_path / "pipe")
    status, said, error = run(action, tmp_path / "pipe")
    assert status == 2
    assert "there is no policy statement" in said + error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "an ACTION is needed: run, load, list, trace, explain, check, test"),
        (("chek",), 'got "chek", did you mean "check"?'),
        (("check",), "check needs a POLICY"),
        (("test", "--json"), "test needs a POLICY"),
        (("check", "--jsn", "x"), 'unknown option "--jsn", did you mean "--json"?'),
    ],
)
def test_words_that_are_wrong(run: Run, words: tuple[str, ...], said: str) -> None:
    status, _, error = run(*words)
    assert status == 2
    assert said in error
    assert error.count("\n") == 1
