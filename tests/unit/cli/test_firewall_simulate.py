"""`powertcp firewall simulate`: what it prints, and how it exits."""

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace

import pytest

from powertcp.cli.firewall_simulate import simulate
from powertcp.cli.main import main
from powertcp.reclaim.scenario import SCENARIOS, exactly
from powertcp.units import NS_PER_S

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def ran(*words: str) -> tuple[int, str, str]:
        try:
            status = main(["firewall", "simulate", *words])
        except SystemExit as left:
            status = int(str(left.code))
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


def given(*what: str, as_json: bool = False) -> Namespace:
    return Namespace(what=list(what), json=as_json, seed=None, no_host=True)


def test_scenarios_are_lines_of_a_table(run: Run) -> None:
    status, said, _ = run("S8", "s5", "S3", "S5", "--no-host")
    assert status == 0
    lines = said.splitlines()
    # the order is that of the table, each once
    assert [line.split()[0] for line in lines[1:4]] == ["S3", "S5", "S8"]
    heads, *rows = (line.split("  ") for line in lines[:4])
    assert [cell.strip() for cell in heads if cell.strip()] == [
        "J, virtual", "in", "authorised", "reclaimed", "heat", "out", "claimed", "residual",
        "recovered",
    ]  # fmt: skip
    assert [cell.strip() for cell in rows[1] if cell.strip()] == [
        "S5", "room for 30 kJ, then stop", "31,578.947368", "0", "29,999.999999", "1,578.947369",
        "0", "0", "0", "94.99 %", "as expected",
    ]  # fmt: skip
    # numbers end where their heads end
    assert lines[0].index("residual") + 8 == lines[2].index("  94.99 %") - 2
    assert lines[4].split() == [
        "all", "61,578.947368", "0", "58,499.999999", "3,078.947369", "0", "100", "0",
    ]  # fmt: skip
    assert lines[-1] == (
        "3 of 3 as expected with seed 1: attacked with 61.579 kJ, the firewall has 58.5 kJ more in"
        " its reservoir and 0 uJ unaccounted for."
    )


def test_one_scenario_is_told_whole(run: Run) -> None:
    status, said, _ = run("S8", "--no-host")
    assert status == 0
    assert "expected" in said.splitlines()[2]
    assert "S8  ok       the next connection had 9 J" in said
    assert "S8  line 8 once, 30 kJ: rule state unsolicited -> reclaim main" in said
    assert "S8  line 8 once, 0 uJ: rule state unsolicited -> reject 206" in said


def test_expectations_are_numbers_bounds_or_what_the_journal_says(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said, _ = run("S3", "--no-host")
    assert said.splitlines()[2].split() == ["expected", "0", "0", "0", "0", "0", "<=100", "0"]
    _, said, _ = run("S10", "--no-host")
    assert said.splitlines()[2].split() == [
        "expected", "0", "0", "-3,789.474+-0.0005", "189.474+-0.0005", "3,600", "0", "0",
    ]  # fmt: skip
    attack = replace(SCENARIOS["S9"].attack, duration_ns=10 * NS_PER_S)
    killed = {"S9": replace(SCENARIOS["S9"], attack=attack, kills=9)}
    assert simulate(given("S9"), killed) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == [
        "expected", "journal", "0", "journal", "journal", "0", "0", "0",
    ]  # fmt: skip


def test_twice_is_the_same(run: Run) -> None:
    words = ("S1", "S3", "S10", "--seed", "5", "--json", "--no-host")
    assert run(*words) == run(*words)


def test_what_is_of_this_host_stands_apart(run: Run) -> None:
    _, said, _ = run("S3")
    _, without, _ = run("S3", "--no-host")
    assert said.startswith(without)
    heads, row = said[len(without) :].strip().splitlines()
    assert heads.split("  ")[0] == "of this host"
    assert "CPU per reclaimed kJ" in heads
    assert row.startswith("S3")
    assert row.endswith(" MB")


def test_json_has_integers_with_units(run: Run) -> None:
    status, said, _ = run("S7", "--json")
    assert status == 0
    found, total = map(json.loads, said.splitlines())
    assert found["scenario"] == "S7"
    assert found["expected"] == {
        "in_uj": 60_000_000_000, "authorised_uj": 0, "reclaimed_uj": 57_000_000_000,
        "heat_uj": 3_000_000_000, "out_uj": 0, "claimed_uj": 540_000_000_000,
    }  # fmt: skip
    assert found["measured"] == {**found["expected"], "residual_uj": 0}
    assert found["is_as_expected"] is True
    assert found["recovery_ppm"] == 950_000
    assert found["rules"][0]["hits"] == 1
    assert all(check["is_held"] for check in found["checks"])
    host = found["host"]
    assert 0 < host["first_verdict_p50_ns"] <= host["first_verdict_p99_ns"]
    assert host["cpu_ns_per_reclaimed_kj"] * 57 == pytest.approx(host["cpu_ns"], abs=57)
    assert host["resident_octets"] > 1_000_000
    assert (total["scenarios"], total["as_expected"]) == (1, 1)
    assert total["measured"]["residual_uj"] == 0


@pytest.mark.requirement("FWRL-5-01")
@pytest.mark.parametrize("name", ["in_uj", "authorised_uj", "heat_uj", "out_uj", "claimed_uj"])
def test_another_expectation_is_a_difference(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(given("S3"), {"S3": SCENARIOS["S3"]}) == 0
    capsys.readouterr()
    scenarios = {"S3": replace(SCENARIOS["S3"], expected=replace(
        SCENARIOS["S3"].expected, **{name: exactly(1)}))}  # fmt: skip
    assert simulate(given("S3"), scenarios) == 1
    said = capsys.readouterr().out
    assert "DIFFERS" in said
    assert "0 of 1 as expected" in said
    assert simulate(given("all", as_json=True), scenarios) == 1
    found, total = map(json.loads, capsys.readouterr().out.splitlines())
    assert found["differences"] == [name]
    assert (found["is_as_expected"], total["as_expected"]) == (False, 0)


def test_one_that_differs_among_others_shows_what_was_expected(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = replace(SCENARIOS["S8"].expected, in_uj=exactly(30_000_000_001))
    scenarios = {
        "S3": SCENARIOS["S3"],
        "S8": replace(SCENARIOS["S8"], expected=wrong),
    }
    assert simulate(given("all"), scenarios) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("as expected")
    assert lines[2].endswith("DIFFERS")
    assert lines[3].split()[:2] == ["expected", "30,000.000001"]
    assert lines[-1].startswith("1 of 2 as expected")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("S11",), "S11: no such scenario, there are S1, S2"),
        (("S1", "--seed", "-1"), "--seed: -1 is not 0 to"),
        (("S1", "--seed", "x"), "--seed"),
        (("S1", "--lab"), "--lab is for"),
        ((), "simulate needs a SCENARIO, or all"),
    ],
)
def test_wrong_words_are_told(run: Run, words: tuple[str, ...], text: str) -> None:
    status, said, wrong = run(*words)
    assert (status, said) == (2, "")
    assert text in wrong
