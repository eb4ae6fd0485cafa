"""What flows of one address reserve, beside each other, over changes of terms, paths and quotas."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from powertcp.drivers.allowance import LEAST_S, Allowance, Allowances
from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.drivers.postings import Job
from powertcp.drivers.provider_books import ProviderBooks
from powertcp.drivers.session import FlowRecord, Session
from powertcp.drivers.supplied import IDENTITY_OCTETS, SuppliedFlow
from powertcp.errors import PowerRefused, known
from powertcp.ledger import Account, Clock, Flags, Page, Side, Transfer
from powertcp.ledger.posting import page_transfers
from powertcp.machine import Event
from powertcp.potcp import ConnectionConfig, PowerConnection
from powertcp.potcp.events import (
    FlowClosed,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.store import LedgerStore, PageState
from powertcp.wire.options import Meter
from tests.drivers.test_provider import eventually

HOST, NAME, SUPPLY = "10.0.0.7", "sink:10.0.0.7", "source:12V/50A"
J = 1_000_000
PAGE_UJ = 1_000 * J
METER = Meter(60, PAGE_UJ, bytes(32))
STRONG, WEAK = "100V/10A", "100V/0.01A"  # 1 kW: two pages; 1 W: the energy of two minutes


class Nobody:
    """Whoever keeps a session that has no path."""

    def heed(self, session: Session, events: list[Event]) -> None:
        """Hear nothing."""

    def leave(self, session: Session) -> None:
        """Hear nothing."""


def flow_of(number: int, power: str = STRONG) -> FlowRecord:
    machine = PowerConnection(client=False, config=ConnectionConfig(), entropy=os.urandom)
    session = Session(Nobody(), machine, HOST, 50_000, bytes(4))
    record = FlowRecord(session, number)
    record.profile = PowerProfile.parse(power, ProfileType.GRANT)
    return record


def booked(number: int, power: str = STRONG, seed: bytes = b"") -> SuppliedFlow:
    """A flow that is to reserve."""
    identity = seed or os.urandom(IDENTITY_OCTETS)
    book = SuppliedFlow(flow_of(number, power), "12V/50A", 0, identity)
    book.allowance = Allowance(identity, NAME, SUPPLY, METER)
    book.record.allowed_uj = 0
    return book


def held_uj(book: SuppliedFlow) -> int:
    held = known(book.allowance, "it has one").held
    return held.amount if held else 0


class Bench:
    """Flows of one address and their ledger, without sockets."""

    def __init__(self, ledger: Ledger, quota_uj: int) -> None:
        self.ledger = ledger
        self.allowances = Allowances(ledger)
        self.allowances.quota_uj = quota_uj
        self.allowances.on_spent = self._note
        self.spent: dict[str, Refusal] = {}

    def _note(self, record: FlowRecord, refusal: Refusal) -> None:
        self.spent[record.name] = refusal

    @property
    def account(self) -> Account:
        return known(self.ledger.account(NAME), "a flow began")

    def page(
        self, book: SuppliedFlow, number: int, start_uj: int, end_uj: int, final: bool = False
    ) -> tuple[Page, tuple[Transfer, ...]]:
        """A page of a flow and what it moves."""
        page = Page(
            flags=Flags.FINAL if final else Flags(0), clock=Clock.SYNCHRONISED,
            transcript=book.identity, contract=1, page=number, samples=1, start_uj=start_uj,
            end_uj=end_uj, start_ns=0, end_ns=1, source_key=bytes(32), sink_key=bytes(32),
        )  # fmt: skip
        return page, page_transfers(page, Side.SOURCE, here="12V/50A", there=HOST, currency="EUR")

    async def post(
        self, book: SuppliedFlow, number: int, start_uj: int, end_uj: int, final: bool = False
    ) -> None:
        page, transfers = self.page(book, number, start_uj, end_uj, final)
        await self.allowances.post(book, page, transfers)

    async def look(self, clock: trio.testing.MockClock, *books: SuppliedFlow) -> None:
        """Let a second go by."""
        async with trio.open_nursery() as nursery:

            def put(book: SuppliedFlow, job: Job) -> None:
                nursery.start_soon(job)

            nursery.start_soon(self.allowances.keep, books, put)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(1.5)
            await trio.testing.wait_all_tasks_blocked()
            # whatever came of that is written before this
            await self.ledger.record("looked", {})
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def bench(state: Path, quota_uj: int) -> AsyncIterator[Bench]:
    async with open_ledger(state, os.urandom) as ledger:
        yield Bench(ledger, quota_uj)


def stored(state: Path) -> list[tuple[int, int]]:
    with LedgerStore(state / "ledger.db", read_only=True) as store:
        assert store.verify() == []
        return [(row.page, row.state) for row in store.pages()]


# -- less power while a page is under way ----------------------------------------------------


@pytest.mark.requirement("LEDG-7-05")
async def test_under_terms_of_less_power_a_flow_keeps_what_it_may_have_delivered(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, 20 * PAGE_UJ) as ours:
        book = booked(1)
        await ours.allowances.begin(book)
        assert held_uj(book) == LEAST_S * 1_000 * J
        # a page, and half of one beyond it, is delivered when the terms change
        book.record.profile = PowerProfile.parse(WEAK, ProfileType.GRANT)
        await ours.allowances.widen(book)
        await ours.post(book, 0, 0, PAGE_UJ)
        assert held_uj(book) == 3_000 * J
        assert book.record.allowed_uj == 4_000 * J
        others = [booked(number) for number in range(2, 8)]
        for other in others:
            await ours.allowances.begin(other)
        await ours.post(book, 1, PAGE_UJ, 3_500 * J)
        assert held_uj(book) == 500 * J
        # and then what two pages of the new terms take
        await ours.post(book, 2, 3_500 * J, 3_995 * J)
        assert held_uj(book) == 5 * J
        await ours.post(book, 3, 3_995 * J, 4_000 * J, final=True)
        for other in others:
            await ours.allowances.end(other.allowance or known(None, "each has one"))
        assert (ours.account.debit, ours.account.reserved) == (4_000 * J, 0)
    assert stored(tmp_path) == [(number, PageState.COUNTERSIGNED) for number in range(4)]


@pytest.mark.requirement("LEDG-7-05", "LEDG-7-06")
@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("is_open", [True, False])
async def test_a_page_of_more_than_is_reserved_is_posted_and_leaves_nothing_reserved(
    tmp_path: Path, final: bool, is_open: bool
) -> None:
    async with bench(tmp_path, 4_000 * J) as ours:
        book = booked(1)
        allowance = known(book.allowance, "it has one")
        await ours.allowances.begin(book)
        held = allowance.held
        if not is_open:
            await ours.allowances.end(allowance)
            allowance.held = held
        await ours.post(book, 0, 0, 5_000 * J, final)
        assert (ours.account.debit, ours.account.reserved) == (5_000 * J, 0)
        # nobody has more of that quota
        assert ours.account.free == 0
        assert allowance.held is None
        assert bool(ours.spent) is not final
    assert stored(tmp_path) == [(0, PageState.COUNTERSIGNED)]


async def test_a_page_that_is_refused_for_another_reason_leaves_its_reservation_to_the_end(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, 8_000 * J) as ours:
        book = booked(1)
        allowance = known(book.allowance, "it has one")
        await ours.allowances.begin(book)
        await ours.post(book, 0, 0, 1_000 * J)
        page, transfers = ours.page(book, 0, 0, 999 * J)
        for other in (page, replace(page, flags=Flags.FINAL)):
            with pytest.raises(PowerRefused, match="403"):
                await ours.allowances.post(book, other, transfers)
        await ours.allowances.end(allowance)
        assert (ours.account.debit, ours.account.reserved) == (1_000 * J, 0)


# -- names of flows ---------------------------------------------------------------------------


@pytest.mark.requirement("LEDG-7-04")
@pytest.mark.parametrize("at_ns", [-(10**18), 1 << 63])
async def test_with_a_clock_that_stands_still_no_two_flows_have_one_name(
    tmp_path: Path, at_ns: int
) -> None:
    supply = PowerProfile.parse("12V/50A", ProfileType.OFFER)
    for run in (1, 2):
        async with open_ledger(tmp_path, os.urandom) as ledger:
            books = ProviderBooks(ledger, unix_ns=lambda: at_ns)
            # at the end it waits for what is to be posted
            async with books.keeping():
                record = flow_of(1)
                books.terms(record, supply, None)
                books.closed(record, over(acked_uj=5 * J))
            assert known(ledger.account(NAME), "it had power").debit == run * 5 * J


@pytest.mark.requirement("LEDG-7-05")
async def test_what_was_reserved_before_is_not_there_for_another_flow(tmp_path: Path) -> None:
    async with bench(tmp_path, 8_000 * J) as ours:
        seed = bytes(IDENTITY_OCTETS)
        for number in (1, 2):
            book = booked(number, seed=seed)
            await ours.allowances.begin(book)
            if number == 1:
                await ours.allowances.end(known(book.allowance, "it has one"))
        assert (book.record.allowed_uj, held_uj(book)) == (0, 0)
        assert ours.account.reserved == 0
        assert list(ours.spent) == [book.record.name]


def over(acked_uj: int, signed_uj: int | None = None) -> FlowClosed:
    return FlowClosed(
        flow=1, refusal=None, truncated=False, esn_uj=acked_uj, acked_uj=acked_uj, heat_uj=0,
        signed_uj=signed_uj,
    )  # fmt: skip


# -- accounts that flows without a reservation are posted on ----------------------------------


@pytest.mark.requirement("LEDG-7-05")
@pytest.mark.parametrize("is_exempt", [False, True])
async def test_flows_that_begin_together_share_a_quota(tmp_path: Path, is_exempt: bool) -> None:
    async with bench(tmp_path, 20_000 * J) as ours:
        ours.allowances.exempt.update([NAME] * is_exempt)
        books = [booked(number) for number in range(8)]
        async with trio.open_nursery() as nursery:
            for book in books:
                nursery.start_soon(ours.allowances.begin, book)
        # five have all they ask for, nobody has what another one has
        assert sorted(map(held_uj, books)) == [0] * 3 + [4_000 * J] * 5
        assert ours.account.reserved == 20_000 * J
        assert len(ours.spent) == 3


@pytest.mark.requirement("LEDG-7-05")
async def test_who_begins_with_others_has_what_they_leave(tmp_path: Path) -> None:
    async with bench(tmp_path, 10_000 * J) as ours:
        books = [booked(number) for number in range(3)]
        async with trio.open_nursery() as nursery:
            for book in books:
                nursery.start_soon(ours.allowances.begin, book)
        assert sorted(map(held_uj, books)) == [2_000 * J, 4_000 * J, 4_000 * J]
        assert not ours.spent


@pytest.mark.requirement("LEDG-7-05")
async def test_an_account_has_a_floor_again_when_the_last_flow_from_before_is_over(
    tmp_path: Path,
) -> None:
    supply = PowerProfile.parse("12V/50A", ProfileType.OFFER)
    async with open_ledger(tmp_path, os.urandom) as ledger:
        books = ProviderBooks(ledger)

        def floor() -> int | None:
            account = ledger.account(NAME)
            return account.floor if account else None

        async with books.keeping():
            before = [flow_of(1), flow_of(2)]
            for record in before:
                books.terms(record, supply, None)
            books.limit(requires_receipts=False, quota_uj=10 * J)
            limited = flow_of(3)
            books.terms(limited, supply, None)
            await eventually(lambda: limited.allowed_uj == 10 * J)
            assert floor() is None
            books.closed(before[0], over(acked_uj=3 * J))
            await eventually(lambda: not books.balance(0)["waiting"])
            assert floor() is None
            books.closed(before[1], over(acked_uj=5 * J))
            await eventually(lambda: not books.balance(0)["waiting"])
            # what they had is above the quota, and is in the books all the same
            assert floor() == -18 * J
            assert books.balance(8 * J)["residual_uj"] == 0
            assert books.allowances.exempt == {}


# -- another path, and what others give back --------------------------------------------------


@pytest.mark.requirement("LEDG-7-05")
async def test_a_flow_that_moves_while_it_reserves_may_have_what_is_reserved(
    tmp_path: Path,
) -> None:
    supply = PowerProfile.parse("12V/50A", ProfileType.OFFER)
    async with open_ledger(tmp_path, os.urandom) as ledger:
        books = ProviderBooks(ledger, quota_uj=160 * J)
        async with books.keeping():
            old, new = flow_of(1), flow_of(1)
            books.terms(old, supply, None)
            books.moved(old, new)
            await eventually(lambda: not books.balance(0)["waiting"])
            [book] = books.supplied
            assert (old.allowed_uj, new.allowed_uj) == (0, held_uj(book))
            assert held_uj(book) == 160 * J


@pytest.mark.requirement("LEDG-7-05")
async def test_a_flow_that_moves_while_its_page_is_written_goes_on_with_what_is_reserved(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, 8_000 * J) as ours:
        book = booked(1)
        await ours.allowances.begin(book)
        for change in (
            partial(ours.post, book, 0, 0, 1_000 * J),
            partial(stronger, ours.allowances, book),
        ):
            old, new = book.record, flow_of(1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(change)
                await trio.lowlevel.checkpoint()
                new.profile, new.allowed_uj, book.record = old.profile, old.allowed_uj, new
            assert known(new.allowed_uj, "it is limited") > known(old.allowed_uj, "it was")
        assert book.record.allowed_uj == 1_000 * J + held_uj(book)


async def stronger(allowances: Allowances, book: SuppliedFlow) -> None:
    """Change the terms of a flow to twice the power."""
    book.record.profile = PowerProfile.parse("100V/20A", ProfileType.GRANT)
    await allowances.widen(book)


@pytest.mark.requirement("LEDG-7-05")
async def test_who_waits_for_energy_has_what_others_gave_back(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with bench(tmp_path, 5_000 * J) as ours:
        first, second = booked(1), booked(2)
        for book in (first, second):
            await ours.allowances.begin(book)
        assert (held_uj(first), held_uj(second)) == (4_000 * J, 1_000 * J)
        await ours.allowances.end(known(first.allowance, "it has one"))
        second.record.blocked = True
        second.is_draining = True
        await ours.look(mock_clock, second)
        # something of it is being written: it waits for that
        assert (second.record.blocked, ours.spent) == (True, {})
        second.is_draining = False
        await ours.look(mock_clock, second)
        assert (held_uj(second), second.record.allowed_uj) == (4_000 * J, 4_000 * J)
        assert (second.record.blocked, ours.spent) == (False, {})
        third = booked(3)
        await ours.allowances.begin(third)
        assert held_uj(third) == 1_000 * J
        third.record.blocked = True
        await ours.look(mock_clock, third)
        assert ours.spent[third.record.name].code == Reason.ENERGY_QUOTA
        assert ours.account.reserved == 5_000 * J


@pytest.mark.requirement("LEDG-7-05")
async def test_those_who_wait_share_what_others_gave_back(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with bench(tmp_path, 7_000 * J) as ours:
        first, *waiting = (booked(number) for number in range(3))
        await ours.allowances.begin(first)
        for book, had_uj in zip(waiting, (2_000 * J, 1_000 * J), strict=True):
            ours.allowances.quota_uj = ours.account.reserved + had_uj
            await ours.allowances.begin(book)
        assert [held_uj(book) for book in waiting] == [2_000 * J, 1_000 * J]
        # 3 kJ are free: the first one takes 2 of them, the second one what is left
        await ours.allowances.end(known(first.allowance, "it has one"))
        ours.allowances.quota_uj = 6_000 * J
        for book in waiting:
            book.record.blocked = True
        await ours.look(mock_clock, waiting[0])
        assert [held_uj(book) for book in waiting] == [4_000 * J, 1_000 * J]
        assert not ours.spent
        await ours.look(mock_clock, *waiting)
        assert [held_uj(book) for book in waiting] == [4_000 * J, 2_000 * J]
        assert not ours.spent
