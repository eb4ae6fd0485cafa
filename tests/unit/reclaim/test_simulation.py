"""The ten attacks, played on the real machines, and what must come of each of them."""

from dataclasses import replace
from functools import cache

import pytest

from powertcp.reclaim.scenario import SCENARIOS, Outcome, Scenario, exactly, policy_text
from powertcp.reclaim.simulation import VERDICTS, first_verdicts, play
from powertcp.reclaim.stage import Instruments
from powertcp.units import NS_PER_S

# these are played in full once only: they are long
LONG = ("S4", "S9")
SHORT = [name for name in SCENARIOS if name not in LONG]


@cache
def played(name: str) -> Outcome:
    return play(SCENARIOS[name], 7)


def shortened(name: str, seconds: float, **fields: int) -> Scenario:
    scenario = SCENARIOS[name]
    attack = replace(scenario.attack, duration_ns=round(seconds * NS_PER_S))
    return replace(scenario, attack=attack, **fields)  # type: ignore[arg-type]


def said(outcome: Outcome) -> str:
    return "\n".join(check.said for check in outcome.checks)


@pytest.mark.requirement("FWRL-5-01")
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_ends_as_the_table_says(name: str) -> None:
    found = played(name)
    assert [check.said for check in found.checks if not check.is_held] == []
    assert found.differences == []
    assert found.joules.residual_uj == 0
    assert found.is_as_expected
    assert found.measured is None


@pytest.mark.parametrize("name", SHORT)
def test_the_same_seed_gives_the_same(name: str) -> None:
    assert play(SCENARIOS[name], 7) == played(name)


def test_the_same_seed_gives_the_same_tiny_blocks_and_kills() -> None:
    tiny = shortened("S4", 2)
    assert play(tiny, 3) == play(tiny, 3)
    killed = shortened("S9", 60, kills=50)
    assert play(killed, 3) == play(killed, 3)


def test_another_seed_kills_at_other_moments() -> None:
    killed = shortened("S9", 60, kills=50)
    assert play(killed, 3).joules != play(killed, 4).joules
    # chance decides nothing else
    assert play(SCENARIOS["S2"], 8).joules == played("S2").joules


@pytest.mark.requirement("FWRL-3-04", "FWRL-3-08")
def test_a_spike_spoils_its_block_and_no_more() -> None:
    # 100 samples, one of them of 400 kV: 1,699 J that nobody keeps
    assert played("S2").joules.heat_uj == 1_699_000_000 + 59_900_000_000 * 5 // 100


def test_a_sealed_flood_ends_with_its_first_segment() -> None:
    found = played("S3")
    assert found.blocks == 1
    assert found.joules.claimed_uj == 100_000_000
    assert [(hit.text, hit.hits) for hit in found.rules] == [("rule sealed yes -> drop log", 1)]


def test_an_attack_is_decided_once() -> None:
    (hit,) = played("S4").rules
    assert (hit.hits, hit.energy_uj) == (1, 60_000_000_000)
    assert hit.text.startswith("rule state unsolicited -> reclaim main")


@pytest.mark.requirement("FWRL-4-02")
def test_a_full_reservoir_ends_the_attack_before_its_time() -> None:
    found = played("S5")
    assert found.virtual_ns < 60 * NS_PER_S
    assert found.sent_uj == found.joules.in_uj == 31_578_947_368


@pytest.mark.requirement("FWRL-5-01")
def test_good_flows_lose_nothing_while_it_attacks() -> None:
    found = played("S6")
    assert "5 of 5 devices have a signed receipt of 540 J" in said(found)
    assert found.joules.authorised_uj == 5 * 540_000_000
    # what it does about the attack is what it does without them
    attack = played("S1").joules
    assert (found.joules.reclaimed_uj, found.joules.heat_uj) == (
        attack.reclaimed_uj,
        attack.heat_uj,
    )


@pytest.mark.requirement("FWRL-3-02")
def test_a_reload_in_mid_attack_is_for_all_of_the_next_block() -> None:
    found = played("S8")
    assert found.blocks == 300
    reclaim, reject = found.rules
    assert (reclaim.hits, reclaim.energy_uj) == (1, 30_000_000_000)
    assert (reject.text, reject.hits) == ("rule state unsolicited -> reject 206", 1)


@pytest.mark.requirement("FWRL-4-01")
def test_a_thousand_kills_lose_a_second_each_at_most() -> None:
    found = played("S9")
    assert "after 1,000 of 1,000 kills" in said(found)
    assert "of 1,000 J a second" in said(found)
    assert found.joules.in_uj < found.sent_uj
    (hit,) = found.rules
    # a firewall that began anew knows nothing of the attack; some were killed before they heard of it
    assert 500 < hit.hits <= 1_001


@pytest.mark.requirement("FWRL-4-04")
def test_what_was_reclaimed_runs_a_device() -> None:
    found = played("S10")
    assert "1 of 1 devices have a signed receipt of 3,600 J" in said(found)
    # drawn each second: 60 J out of 63.157895 J
    assert found.joules.reclaimed_uj == -60 * 63_157_895
    assert found.joules.out_uj == 3_600_000_000


def test_a_draw_of_more_than_there_is_is_refused() -> None:
    # 100 J came in, and 60 W for a lease of 10 s need 600 J
    found = play(shortened("S10", 0.1), 1)
    assert not found.is_as_expected
    assert "0 of 1 devices" in said(found)
    assert found.joules.out_uj == 0
    assert found.joules.residual_uj == 0


def test_other_expectations_and_other_policies_are_differences() -> None:
    row = replace(SCENARIOS["S8"].expected, heat_uj=exactly(1_500_000_001))
    found = play(replace(SCENARIOS["S8"], expected=row), 1)
    assert found.differences == ["heat_uj"]
    assert not found.is_as_expected
    refusing = replace(shortened("S1", 2), policy=policy_text(verdict="reject 206"))
    found = play(refusing, 1)
    assert found.differences == ["in_uj", "reclaimed_uj", "heat_uj"]
    # what was refused is heat, and the rest is in order
    assert found.joules.heat_uj == found.joules.in_uj == 100_000_000
    assert all(check.is_held for check in found.checks)


def test_the_next_connection_is_not_served_where_the_policy_is_against_it() -> None:
    text = policy_text().replace("-> accept", "-> reject 206")
    found = play(replace(shortened("S1", 2), policy=text), 1)
    (check,) = (check for check in found.checks if not check.is_held)
    assert check.said == "the next connection had 0 uJ"


def test_real_time_and_memory_are_measured_apart() -> None:
    wall = iter(range(10**9))
    cpu = iter(range(10**9))
    instruments = Instruments(lambda: next(wall) ** 2, lambda: next(cpu), lambda: 4096)
    found = play(SCENARIOS["S3"], 7, instruments)
    assert replace(found, measured=None) == played("S3")
    real = found.measured
    assert real is not None
    assert (real.verdicts, real.resident_octets) == (VERDICTS, 4096)
    # the n-th span is 4n + 1
    assert real.verdict_p50_ns == 4 * (VERDICTS // 2 - 1) + 1
    assert real.verdict_p99_ns == 4 * (VERDICTS * 99 // 100 - 1) + 1
    assert real.cpu_ns > 0


def test_a_verdict_falls_on_each_stranger() -> None:
    times = iter(range(10**6))
    assert first_verdicts(SCENARIOS["S1"], 1, Instruments(lambda: next(times)), 3) == [1, 1, 1]
