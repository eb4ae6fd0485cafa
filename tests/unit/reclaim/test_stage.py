"""A virtual clock, a ledger in memory, a firewall that is killed."""

from dataclasses import replace

import pytest

from powertcp.ledger import Code, LedgerBroken
from powertcp.reclaim.accounts import Posting
from powertcp.reclaim.firewall import RuleCount
from powertcp.reclaim.policy_lines import PolicyError
from powertcp.reclaim.scenario import SCENARIOS
from powertcp.reclaim.stage import START, Instruments, Journal, Stage
from powertcp.units import NS_PER_MS, NS_PER_S, Instant


def bank(energy_uj: int, heat_uj: int) -> list[Posting]:
    peer = "intercepted:192.0.2.66"
    return [
        Posting("reservoir:main", peer, "uJ", energy_uj, Code.BANK),
        Posting("heat:firewall", peer, "uJ", heat_uj, Code.BANK),
    ]


def a_stage() -> Stage:
    return Stage(SCENARIOS["S1"], 1, Instruments())


def counted(hits: int, energy_uj: int) -> RuleCount:
    count = RuleCount()
    count.hits, count.uj = hits, energy_uj
    return count


class Bell:
    """Rings each 300 ms, so many times; when: as the clock said."""

    def __init__(self, stage: Stage, times: int) -> None:
        self.stage = stage
        self.times = times
        self.when: list[Instant] = []

    @property
    def is_over(self) -> bool:
        return len(self.when) >= self.times

    def get_timer(self) -> Instant | None:
        return START + len(self.when) * 300 * NS_PER_MS

    def act(self, now: Instant) -> None:
        self.when.append(now)


@pytest.mark.requirement("FWRL-4-01")
def test_a_journal_says_where_joules_are() -> None:
    journal = Journal("one")
    journal.post(bank(95, 5), 1)
    journal.post(bank(19, 1), 2)
    assert dict(journal.balances) == {
        "reservoir:main": 114, "intercepted:192.0.2.66": -120, "heat:firewall": 6,
    }  # fmt: skip
    found = journal.joules
    assert (found.in_uj, found.reclaimed_uj, found.heat_uj, found.residual_uj) == (120, 114, 6, 0)
    assert len(journal) == 4
    assert journal.check() == ""


def test_a_journal_takes_more_than_a_batch() -> None:
    journal = Journal("many")
    journal.post(
        [Posting(f"lent:{n}", "reservoir:main", "uJ", 1, Code.LEND) for n in range(200)], 1
    )
    assert len(journal) == 200
    assert journal.joules.out_uj == 200
    journal.post([], 2)
    assert len(journal) == 200


def test_a_changed_entry_of_a_journal_is_found() -> None:
    journal = Journal("one")
    journal.post(bank(95, 5), 1)
    journal.entries[0] = journal.entries[0]._replace(amount=96)
    with pytest.raises(LedgerBroken, match="journal 1"):
        journal.check()
    del journal.entries[1]
    with pytest.raises(LedgerBroken):
        journal.check()


def test_everybody_acts_at_his_time_and_seconds_are_posted() -> None:
    stage = a_stage()
    bell, other = Bell(stage, 12), Bell(stage, 3)
    stage.run([bell, other], START + 60 * NS_PER_S)
    assert bell.when == [START + n * 300 * NS_PER_MS for n in range(12)]
    assert other.when == bell.when[:3]
    assert stage.now == START + 3_300 * NS_PER_MS
    assert stage.tick_at == START + 4 * NS_PER_S


def test_a_run_ends_before_its_end() -> None:
    stage = a_stage()
    bell = Bell(stage, 12)
    stage.run([bell], START + 900 * NS_PER_MS)
    assert len(bell.when) == 3
    assert stage.now == START + 900 * NS_PER_MS
    stage.run([bell], START)
    assert stage.now == START + 900 * NS_PER_MS
    stage.run([bell], START + 901 * NS_PER_MS)
    assert len(bell.when) == 4


def test_waiting_lets_seconds_pass() -> None:
    stage = a_stage()
    stage.wait(2_500 * NS_PER_MS)
    assert stage.now == START + 2_500 * NS_PER_MS
    assert stage.tick_at == START + 3 * NS_PER_S


def test_what_is_killed_begins_with_what_its_journal_says() -> None:
    stage = a_stage()
    before = stage.firewall
    stage.journal.post(bank(950, 50), 1)
    stage.now += 300 * NS_PER_MS
    stage.kill()
    assert stage.firewall is not before
    assert stage.stored_uj == 950
    assert stage.firewall.joules.in_uj == 0
    # its seconds are its own
    assert stage.tick_at == START + 1_300 * NS_PER_MS


def test_the_work_of_the_firewall_is_measured() -> None:
    ticks = iter(range(0, 1000, 7))
    stage = Stage(SCENARIOS["S1"], 1, Instruments(cpu_ns=lambda: next(ticks)))
    stage.post()
    stage.post()
    assert stage.cpu_ns == 14


@pytest.mark.requirement("FWRL-3-02")
def test_rules_keep_their_counts_over_a_reload_and_a_kill() -> None:
    stage = Stage(SCENARIOS["S8"], 1, Instruments())
    stage.firewall.rules[8] = counted(2, 100)
    stage.kill()
    stage.firewall.rules[8] = counted(1, 7)
    stage.reload()
    stage.firewall.rules[8] = counted(1, 0)
    first, second = stage.rules()
    assert (first.line, first.hits, first.energy_uj) == (8, 3, 107)
    assert first.text.endswith("count attacks")
    assert (second.line, second.hits) == (8, 1)
    assert second.text.endswith("reject 206")


def test_a_policy_that_is_none_is_not_played() -> None:
    with pytest.raises(PolicyError):
        Stage(replace(SCENARIOS["S1"], policy="policy perhaps\n"), 1, Instruments())
