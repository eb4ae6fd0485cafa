"""What a gateway writes down of each employee: pages that both signed, each once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.drivers.vppn_books import CUT_MAX, CUT_NS, EmployeeBooks
from powertcp.reclaim.relay import CopyHeld
from powertcp.reclaim.track import End, TrackedFlow
from powertcp.units import NS_PER_S
from powertcp.vppn.limits import Period
from tests.conversation import counting_entropy
from tests.middle import MiddlePair

NOW_NS = 1_795_000_000 * NS_PER_S


@dataclass
class Site:
    """Books on a disk, with a clock of the wall that stands still unless it is set."""

    books: EmployeeBooks
    ledger: Ledger
    clock: list[int]

    def had_uj(self, name: str = "alice") -> int:
        account = self.ledger.account(f"employee:{name}")
        return account.debit if account else 0


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    clock = [NOW_NS]
    async with open_ledger(folder, counting_entropy(), unix_ns=lambda: clock[0]) as ledger:
        books = EmployeeBooks(ledger, lambda: clock[0])
        async with books.keeping():
            yield Site(books, ledger, clock)


def drawn(blocks: int = 10) -> tuple[TrackedFlow, bytes]:
    """Return a flow that was drawn from and closed, and its only page."""
    pair = MiddlePair()
    number = pair.energise("12V/1A")
    flow = pair.flow
    pair.run(number, blocks)
    pair.sink.close_flow(number, now=pair.now)
    pair.exchange()
    (held,) = pair.all(CopyHeld)
    return flow, held.page


async def came(where: Site, flow: TrackedFlow, page: bytes) -> int:
    """Hand a page to the books; returns how often they said that it may pass."""
    done: list[bool] = []
    where.books.copy_came(flow, page, lambda: done.append(True))
    await where.books.settle()
    return len(done)


async def test_a_page_is_posted_once_and_let_go_each_time(tmp_path: Path) -> None:
    flow, page = drawn()
    async with site(tmp_path) as where:
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        assert where.books.used_uj("alice")[Period.DAY] == 12_000_000
        assert where.had_uj() == 0
        assert await came(where, flow, page) == 1
        assert await came(where, flow, page) == 1
        assert where.had_uj() == where.books.used_uj("alice")[Period.DAY] == 12_000_000
        where.books.left(flow, is_cut=False)
        assert where.books.accounts == ()
        assert where.books.balance()["pages"] == 2
    async with site(tmp_path) as where:
        # a window holds over a restart
        assert where.books.used_uj("alice")[Period.DAY] == 12_000_000
        where.clock[0] += 32 * 86_400 * NS_PER_S
        assert where.books.used_uj("alice")[Period.MONTH] == 0


async def test_a_page_that_both_did_not_sign_is_not_posted(tmp_path: Path) -> None:
    flow, page = drawn()
    strange, _ = drawn(3)
    async with site(tmp_path) as where:
        assert await came(where, flow, page) == 1
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        # less energy, another signature, no page at all
        less = page[:60] + (5).to_bytes(8, "big") + page[68:]
        for forged in (less, page[:-1] + bytes([page[-1] ^ 1]), bytes(380), b"x"):
            assert await came(where, flow, forged) == 1
        flow.source_key = bytes(32)
        assert await came(where, flow, page) == 1
        assert where.had_uj() == 0
        # what is known of it is what the device acknowledged
        where.books.left(flow, is_cut=False)
        where.books.left(strange, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == flow.acked_uj == 12_000_000


async def test_a_cut_flow_goes_on_by_either_of_its_last_tickets(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        for ticket in (b"new", b"old"):
            flow, _ = drawn()
            account = where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
            for one in (b"older", b"old", b"new"):
                account.note_ticket(one)
            where.books.left(flow, is_cut=True)
            assert where.books.used_uj("alice")[Period.DAY] == 12_000_000
            again = TrackedFlow(1, End.CLIENT, 0, ticket=ticket, base_uj=12_000_000)
            resumed = where.books.open(again, "alice", "inside", "by alice", "HERE/1")
            assert resumed.counted_uj == 0
            assert resumed.open_uj == 12_000_000
            where.books.left(again, is_cut=False)
            await where.books.settle()
        flow, _ = drawn()
        account = where.books.open(flow, "bob", "inside", "by bob", "HERE/1")
        account.note_ticket(b"bob")
        where.books.left(flow, is_cut=True)
        # a ticket of somebody else, and one that nobody knows
        for ticket in (b"bob", b"older"):
            other = TrackedFlow(3, End.CLIENT, 0, ticket=ticket, base_uj=5)
            assert where.books.open(other, "eve", "inside", "", "HERE/3").counted_uj == 5


async def test_a_cut_flow_that_nobody_resumes_is_posted_in_the_end(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        flow, _ = drawn()
        account = where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        account.note_ticket(b"t")
        where.books.left(flow, is_cut=True)
        assert where.books.used_uj("alice")[Period.DAY] == 12_000_000
        where.clock[0] += CUT_NS
        await where.books.post_due()
        assert where.had_uj() == 12_000_000
        assert where.books.used_uj("alice")[Period.DAY] == 12_000_000


async def test_so_many_cut_flows_are_remembered_and_no_more(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        for number in range(CUT_MAX + 1):
            flow = TrackedFlow(1, End.CLIENT, 0, acked_uj=number + 1)
            flow.source_key = flow.sink_key = b"k" * 32
            account = where.books.open(flow, "alice", "inside", "", "HERE/1")
            account.note_ticket(b"%d" % number)
            where.books.left(flow, is_cut=True)
        await where.books.settle()
        # the oldest, by what its device said
        assert where.had_uj() == 1


async def test_power_without_receipts_is_counted_by_what_the_device_says(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        flow = TrackedFlow(1, End.CLIENT, 0)
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        flow.acked_uj = 700
        await where.books.post_due()
        assert where.had_uj() == 700
        flow.acked_uj = 900
        where.books.left(flow, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == 900
