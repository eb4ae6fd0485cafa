"""Deliveries that repeat and reorder, in groups, over restarts: the same balances as once, in order."""

import os
import random
from pathlib import Path

import pytest

from powertcp.ledger import Kind, Posted
from powertcp.store import Job, LedgerStore, PageState
from tests.ledgers import NOON, page_row, transfer

LONG = os.environ.get("POWERTCP_LONG", "0") != "0"
DELIVERIES = 100_000 if LONG else 4_000
BATCHES = DELIVERIES // 10


def job(number: int) -> Job:
    """A page, with its money and a reservation that it uses at once."""
    sink = f"sink:{number % 20}"
    energy = transfer(number, 1 + number % 1000, debit=sink)
    money = transfer(number, 1 + number % 7, debit=f"payer:{number % 20}", credit="payee:main",
                     unit="micro-EUR", role="money")  # fmt: skip
    hold = transfer(number, 2000, debit=sink, kind=Kind.PENDING, role="hold")
    void = transfer(number, 2000, debit=sink, kind=Kind.VOID, pending=hold.key, role="void")
    match number % 4:
        case 0:
            return Job(transfers=(energy,))
        case 1:
            return Job(transfers=(energy, money))
        case 2:
            page = page_row(number, number // 4 % 2, PageState.COUNTERSIGNED)
            return Job(transfers=(energy, money), page=page)
        case _:
            return Job(transfers=(hold, energy, void))


def balances(store: LedgerStore) -> dict[str, tuple[int, int, int]]:
    return {one.name: (one.debit, one.credit, one.reserved) for one in store.accounts()}


@pytest.mark.requirement("LEDG-7-04")
def test_repeats_and_reordering_change_nothing(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    jobs = [job(number) for number in range(BATCHES)]
    once, often = tmp_path / "once", tmp_path / "often"
    once.mkdir()
    often.mkdir()
    with LedgerStore(once / "ledger.db") as store:
        for first in range(0, BATCHES, 64):
            store.commit(jobs[first : first + 64], NOON)
        due, entries = balances(store), len(list(store.entries()))
    deliveries = [*jobs, *(dice.choice(jobs) for _ in range(DELIVERIES - BATCHES))]
    dice.shuffle(deliveries)
    done = 0
    while done < DELIVERIES:
        restart = done + DELIVERIES // 3
        with LedgerStore(often / "ledger.db") as store:
            while done < min(restart, DELIVERIES):
                group = deliveries[done : done + dice.randrange(1, 65)]
                # the clock goes where it likes
                answers = store.commit(group, NOON + dice.randrange(-(10**12), 10**12))
                assert all(isinstance(answer, Posted) for answer in answers)
                done += len(group)
    with LedgerStore(often / "ledger.db", read_only=True) as store:
        assert balances(store) == due
        assert len(list(store.entries())) == entries
        assert store.trial_balance() == {"uJ": 0, "micro-EUR": 0}
        assert store.verify() == []
