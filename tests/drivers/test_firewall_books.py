"""The books of a firewall: what is committed together, what is left out, and what is reserved."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from powertcp.drivers.firewall_books import EVENTS_PER_S, FirewallBooks
from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.drivers.reserves import MEMO, recover
from powertcp.ledger import Code
from powertcp.ledger.book import MAX_AMOUNT, MAX_BATCH
from powertcp.reclaim.accounts import Posting
from powertcp.store import LedgerStore

if TYPE_CHECKING:
    from powertcp.registry import Refusal


class Books:
    """Books whose postings the test gives."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.postings: list[Posting] = []
        self.wanted: dict[str, int] = {}
        self.failed: list[Refusal] = []
        self.books = FirewallBooks(
            ledger, self._take, lambda: 1, self.failed.append,
            node="here", reserve=lambda: self.wanted,
        )  # fmt: skip

    def _take(self) -> list[Posting]:
        found, self.postings = self.postings, []
        return found

    def bank(self, peer: str, uj: int) -> None:
        self.postings += [
            Posting("reservoir:main", f"intercepted:{peer}", "uJ", uj, Code.BANK),
            Posting("heat:here", f"intercepted:{peer}", "uJ", 5, Code.BANK),
        ]

    def balance(self, name: str) -> int:
        account = self.ledger.account(name)
        return -account.balance if account is not None else 0


@asynccontextmanager
async def keeping(folder: Path) -> AsyncIterator[Books]:
    async with open_ledger(folder, lambda n: bytes(n)) as ledger:
        yield Books(ledger)


def entries(folder: Path) -> list[tuple[int, int]]:
    """Return seq and link of each entry, of a ledger that verifies."""
    store = LedgerStore(folder / "ledger.db")
    try:
        assert store.verify(full=True) == []
        return [(one.seq, one.link) for one in store.entries()]
    finally:
        store.close()


async def test_what_a_second_brought_is_one_transaction_and_of_a_peer_always(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as one:
        for number in range(10):
            one.bank(f"10.0.0.{number}", 95)
        await one.books.write()
        assert one.balance("reservoir:main") == 950
        for number in range(MAX_BATCH):
            one.bank(f"10.0.1.{number}", 95)
        await one.books.write()
        assert one.books.booked_uj == (10 + MAX_BATCH) * 100
    links = [link for _, link in entries(tmp_path)]
    assert links == [1] * 20 + [21] * 64 + [85] * 64


@pytest.mark.requirement("LEDG-7-04")
async def test_equal_postings_of_two_seconds_are_two(tmp_path: Path) -> None:
    async with keeping(tmp_path) as one:
        for _ in range(3):
            one.bank("10.0.0.1", 95)
            await one.books.write()
        assert one.balance("reservoir:main") == 285


@pytest.mark.requirement("FWRL-1-04")
async def test_the_65th_event_of_a_second_and_those_after_it_are_one(tmp_path: Path) -> None:
    async with keeping(tmp_path) as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.books.run)
        for number in range(EVENTS_PER_S + 30):
            one.books.note("firewall refused", {"n": number})
        await one.books.finish()
        nursery.cancel_scope.cancel()
        assert (one.books.written, one.books.left_out) == (EVENTS_PER_S + 1, 30)
    store = LedgerStore(tmp_path / "ledger.db")
    found = list(store.events())
    store.close()
    assert [one.kind for one in found[:-1]] == ["firewall refused"] * EVENTS_PER_S
    assert (found[-1].kind, found[-1].facts) == ("firewall more", '{"count":30}')


@pytest.mark.requirement("FWRL-1-01")
async def test_a_ledger_that_refuses_is_told_once_and_nothing_is_booked(tmp_path: Path) -> None:
    async with keeping(tmp_path) as one:
        one.ledger.close()
        for _ in range(2):
            one.bank("10.0.0.1", 95)
            one.books.note("firewall refused", {})
            await one.books.write()
        assert [refusal.code for refusal in one.failed] == [602]
        assert (one.books.booked_uj, one.books.lost_uj) == (0, 200)
        assert one.books.is_failed


@pytest.mark.requirement("FWRL-4-04")
async def test_what_may_be_delivered_is_reserved_and_after_a_crash_it_is_heat(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path) as one:
        one.bank("10.0.0.1", 1_000)
        one.wanted = {"main": 100}
        await one.books.write()
        assert [held.amount for held in one.ledger.reserved] == [125]
        # enough, and not twice too much: it stays
        one.wanted = {"main": 63}
        await one.books.write()
        assert [held.amount for held in one.ledger.reserved] == [125]
        one.wanted = {"main": 40}
        await one.books.write()
        assert [(held.amount, held.memo) for held in one.ledger.reserved] == [(50, MEMO)]
    async with keeping(tmp_path) as again:
        assert await recover(again.ledger) == 50
        assert await recover(again.ledger) == 0
        assert again.balance("reservoir:main") == 950
        assert again.balance("heat:here") == 55
        assert again.ledger.reserved == ()


async def test_no_more_is_lost_than_there_is(tmp_path: Path) -> None:
    async with keeping(tmp_path) as one:
        one.bank("10.0.0.1", 20)
        one.wanted = {"main": 100, "none": 7}
        await one.books.write()
    async with keeping(tmp_path) as again:
        assert await recover(again.ledger) == 20
        assert (again.balance("reservoir:main"), again.ledger.reserved) == (0, ())


async def test_cancelled_while_it_writes_nothing_is_lost(tmp_path: Path) -> None:
    async with keeping(tmp_path) as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.books.run)
        for number in range(2 * MAX_BATCH):
            one.bank(f"10.0.1.{number}", 95)
        one.books.note("firewall refused", {})
        # it has taken them, and waits for the first batch
        while one.postings:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert one.books.booked_uj == 2 * MAX_BATCH * 100
    assert one.books.written == 1


async def test_an_orderly_end_reserves_nothing(tmp_path: Path) -> None:
    async with keeping(tmp_path) as one:
        one.bank("10.0.0.1", 1_000)
        one.wanted = {"main": 100}
        await one.books.write()
        await one.books.finish()
        assert one.ledger.reserved == ()
        assert one.balance("reservoir:main") == 1_000


async def test_what_an_attacker_may_say_or_send_fills_no_account(tmp_path: Path) -> None:
    async with keeping(tmp_path) as one:
        for _ in range(3):
            one.postings += [
                Posting("claimed:192.0.2.66", "claims", "uJ-claimed", MAX_AMOUNT, Code.CLAIM),
                Posting("heat:here", "intercepted:192.0.2.66", "uJ", MAX_AMOUNT, Code.BANK),
            ]
            one.bank("192.0.2.66", 95)
            one.bank("10.0.0.1", 95)
            await one.books.write()
            assert one.failed == []
        # what is banked is in the ledger, and what was in the same second
        assert one.balance("reservoir:main") == 6 * 95
        assert one.balance("claimed:192.0.2.66") == MAX_AMOUNT // 2
        assert one.balance("heat:here") <= MAX_AMOUNT // 2
        assert one.books.unbooked_uj > 2 * MAX_AMOUNT
        assert one.books.fields()["is_read_only"] is False
    assert entries(tmp_path)
