"""What a gateway writes down of each employee: pages that both signed, each once."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.drivers.vppn_books import CUT_MAX, CUT_NS, EmployeeBooks
from powertcp.errors import HostError
from powertcp.reclaim.relay import CopyHeld
from powertcp.reclaim.track import End, TrackedFlow
from powertcp.store import LedgerStore
from powertcp.units import NS_PER_S
from powertcp.vppn.limits import Period
from tests.conversation import counting_entropy, profile
from tests.drivers.employees import drawing
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


def drawn(blocks: int = 10, power: str = "12V/1A") -> tuple[TrackedFlow, bytes]:
    """Return a flow that was drawn from and closed, and its only page."""
    pair = MiddlePair()
    number = pair.energise(power)
    flow = pair.flow
    pair.run(number, blocks)
    pair.sink.close_flow(number, now=pair.now)
    pair.exchange()
    (held,) = pair.all(CopyHeld)
    return flow, held.page


async def came(where: Site, flow: TrackedFlow, page: bytes) -> int:
    """Hand a page to the books; returns how often they said that it may pass, less that it may not."""
    said: list[int] = []
    where.books.copy_came(flow, "HERE/1", page, lambda: said.append(1), lambda: said.append(-1))
    await where.books.settle()
    return sum(said)


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


async def test_a_page_that_both_did_not_sign_is_not_posted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow, page = drawn()
    strange, _ = drawn(3)
    async with site(tmp_path) as where:
        assert await came(where, flow, page) == 1
        # of a flow that has no power yet nothing else says whose it is
        assert caplog.messages == ["HERE/1: this page is not what both signed"]
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        # less energy, another signature, no page at all
        less = page[:60] + (5).to_bytes(8, "big") + page[68:]
        for forged in (less, page[:-1] + bytes([page[-1] ^ 1]), bytes(380), b"x"):
            assert await came(where, flow, forged) == 1
        flow.source_key = bytes(32)
        assert await came(where, flow, page) == 1
        assert where.had_uj() == 0
        # what is known of it is what passed
        where.books.left(flow, is_cut=False)
        where.books.left(strange, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == flow.verified_uj == 12_000_000


async def test_a_cut_flow_goes_on_by_either_of_its_last_tickets(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        for ticket in (b"new", b"old"):
            flow, _ = drawn()
            name = f"alice {ticket!r}"
            account = where.books.open(flow, name, "inside", "by alice", "HERE/1")
            for one in (b"older", b"old", b"new"):
                account.note_ticket(one)
            where.books.left(flow, is_cut=True)
            assert where.books.used_uj(name)[Period.DAY] == 12_000_000
            again = TrackedFlow(1, End.CLIENT, 0, ticket=ticket, base_uj=12_000_000)
            resumed = where.books.open(again, name, "inside", "by alice", "HERE/1")
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
            flow = drawing(number + 1)
            flow.source_key = flow.sink_key = b"k" * 32
            account = where.books.open(flow, "alice", "inside", "", "HERE/1")
            account.note_ticket(b"%d" % number)
            where.books.left(flow, is_cut=True)
        await where.books.settle()
        # the oldest, by what passed
        assert where.had_uj() == 1


@pytest.mark.requirement("VPPN-6-03")
@pytest.mark.parametrize("said_uj", [0, 700])
async def test_power_without_receipts_is_counted_as_it_passed(tmp_path: Path, said_uj: int) -> None:
    async with site(tmp_path) as where:
        flow = drawing(700)
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        flow.acked_uj = said_uj
        await where.books.post_due()
        assert where.had_uj() == 700
        drawing(900, flow)
        where.books.left(flow, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == 900
        # another one, alike in every octet
        again = drawing(50)
        where.books.open(again, "alice", "inside", "by alice", "HERE/1")
        where.books.left(again, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == 950


@pytest.mark.requirement("VPPN-6-03")
async def test_what_a_device_signed_no_page_for_is_counted_at_the_end(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        flow, _ = drawn()
        flow.acked_uj = 0
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        where.books.left(flow, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == 12_000_000
        # after the last page there is no rest: both have signed that this was all
        flow, page = drawn()
        where.books.open(flow, "bob", "inside", "by bob", "HERE/1")
        assert await came(where, flow, page) == 1
        drawing(13_000_000, flow)
        where.books.left(flow, is_cut=False)
        await where.books.settle()
        assert where.had_uj("bob") == 12_000_000


@pytest.mark.requirement("VPPN-6-03")
async def test_a_page_of_another_flow_counts_nothing(tmp_path: Path) -> None:
    before, page = drawn()
    flow, _ = drawn(power="12V/2A")
    assert before.transcript != flow.transcript
    assert (before.source_key, before.sink_key) == (flow.source_key, flow.sink_key)
    async with site(tmp_path) as where:
        where.books.open(before, "alice", "inside", "by alice", "HERE/1")
        assert await came(where, before, page) == 1
        where.books.left(before, is_cut=False)
        where.books.open(flow, "alice", "inside", "by alice", "HERE/3")
        assert await came(where, flow, page) == 1
        where.books.left(flow, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == 12_000_000 + 24_000_000
        # nor on a path that goes on, where the last copy is shown again
        account = where.books.open(before, "bob", "inside", "by bob", "HERE/1")
        account.note_ticket(b"t")
        where.books.left(before, is_cut=True)
        again = TrackedFlow(1, End.CLIENT, 0, ticket=b"t", base_uj=12_000_000)
        again.source_key, again.sink_key = before.source_key, before.sink_key
        resumed = where.books.open(again, "bob", "inside", "by bob", "HERE/1")
        _, other = drawn(5, "12V/2A")
        assert await came(where, again, other) == 1
        assert resumed.counted_uj == 0
        # but its own does
        assert await came(where, again, page) == 1
        assert resumed.counted_uj == 12_000_000


@pytest.mark.requirement("VPPN-6-03", "PTCP-10-03")
@pytest.mark.parametrize(
    "is_early", [False, True], ids=["old path ends first", "new path is first"]
)
async def test_a_device_that_roams_is_counted_once(tmp_path: Path, is_early: bool) -> None:
    async with site(tmp_path) as where:
        flow, page = drawn()
        account = where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        account.note_ticket(b"t")
        again = TrackedFlow(1, End.CLIENT, 0, ticket=b"t", base_uj=12_000_000)
        again.source_key, again.sink_key, again.page = flow.source_key, flow.sink_key, page
        if not is_early:
            where.books.left(flow, is_cut=True)
        where.books.open(again, "alice", "inside", "by alice", "THERE/1")
        where.books.left(flow, is_cut=True)
        assert where.books.used_uj("alice")[Period.DAY] == 12_000_000
        assert await came(where, again, page) == 1
        where.books.left(again, is_cut=False)
        where.clock[0] += CUT_NS
        await where.books.post_due()
        assert where.had_uj() == where.books.used_uj("alice")[Period.DAY] == 12_000_000


@pytest.mark.requirement("VPPN-6-03")
@pytest.mark.parametrize("is_metered", [False, True])
async def test_what_a_device_says_to_have_lost_with_a_path_has_a_bound(
    tmp_path: Path, is_metered: bool
) -> None:
    async with site(tmp_path) as where:
        # 12 W: of what is on the way at most 24 J
        flow = drawing(100_000_000)
        flow.profile = profile("12V/1A")
        flow.source_key = flow.sink_key = b"k" * 32 if is_metered else b""
        account = where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        account.note_ticket(b"t")
        where.books.left(flow, is_cut=True)
        again = TrackedFlow(1, End.CLIENT, 0, ticket=b"t", base_uj=1_000_000)
        where.books.open(again, "alice", "inside", "by alice", "HERE/1")
        await where.books.settle()
        assert where.had_uj() == (75_000_000 if is_metered else 100_000_000)
        where.books.left(again, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == (76_000_000 if is_metered else 100_000_000)


@pytest.mark.requirement("VPPN-6-03", "LEDG-7-06")
async def test_a_page_that_cannot_be_written_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, page = drawn()

    def fail(*_: object) -> None:
        raise HostError(errno.ENOSPC, "ledger.db", "write")

    async with site(tmp_path) as where:
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        with monkeypatch.context() as patch:
            patch.setattr(LedgerStore, "commit", fail)
            assert await came(where, flow, page) == -1
        assert where.had_uj() == 0


async def test_nothing_is_counted_twice_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, page = drawn()
    seen: list[int] = []
    async with site(tmp_path) as where:
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        tell = Ledger._tell  # noqa: SLF001

        def look(ledger: Ledger) -> None:
            # on the disk, and nobody knows
            seen.append(where.books.used_uj("alice")[Period.DAY])
            tell(ledger)

        monkeypatch.setattr(Ledger, "_tell", look)
        assert await came(where, flow, page) == 1
        seen.append(where.books.used_uj("alice")[Period.DAY])
    assert set(seen) == {12_000_000}
    assert len(seen) >= 2


async def test_what_is_open_is_summed_as_it_passes(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        flows = [drawing(10) for _ in range(5)]
        for flow in flows:
            where.books.open(flow, "alice", "inside", "", "HERE/1")
        assert where.books.used_uj("alice")[Period.DAY] == 50
        for flow in flows:
            drawing(20, flow)
        where.books.note(flows[0])
        # the others are not looked at
        assert where.books.used_uj("alice")[Period.DAY] == 60
        for flow in flows:
            where.books.note(flow)
            where.books.note(flow)
        assert where.books.used_uj("alice")[Period.DAY] == 100
        for flow in flows:
            where.books.left(flow, is_cut=False)
        await where.books.settle()
        where.books.note(flows[0])
        assert where.had_uj() == where.books.used_uj("alice")[Period.DAY] == 100


async def test_what_is_booked_is_what_came_into_the_ledger(tmp_path: Path) -> None:
    flow, page = drawn()
    async with site(tmp_path) as where:
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        for _ in range(3):
            assert await came(where, flow, page) == 1
        assert where.books.balance()["booked_uj"] == where.had_uj() == 12_000_000


async def test_a_page_that_ends_elsewhere_than_we_verified_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow, _ = drawn()
    async with site(tmp_path) as where:
        where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        # more has passed after it, in the same read
        where.books.page_passed(flow, 11_000_000, 11_000_000)
        assert "verified" not in caplog.text
        where.books.page_passed(flow, 11_000_000, 12_000_000)
        assert "HERE/1: page up to 11000000 uJ, verified 12000000" in caplog.text


@pytest.mark.requirement("VPPN-6-03")
async def test_power_without_receipts_is_written_as_soon_as_it_is_much(tmp_path: Path) -> None:
    async with site(tmp_path) as where:
        bare, metered = drawing(600), drawing(5_000)
        metered.source_key = metered.sink_key = b"k" * 32
        for flow in (bare, metered):
            where.books.open(flow, "alice", "inside", "", "HERE/1")
        assert where.books.used_uj("alice")[Period.DAY] == 5_600
        where.books.post_bare("nobody", 0)
        where.books.post_bare("alice", 601)
        await where.books.settle()
        assert where.had_uj() == 0
        where.books.post_bare("alice", 600)
        await where.books.settle()
        assert where.had_uj() == 600
        assert where.books.used_uj("alice")[Period.DAY] == 5_600
        # pages come for the other one
        where.books.post_bare("alice", 600)
        where.books.left(metered, is_cut=False)
        where.books.left(bare, is_cut=False)
        await where.books.settle()
        assert where.had_uj() == where.books.used_uj("alice")[Period.DAY] == 5_600


@pytest.mark.requirement("VPPN-6-03")
@pytest.mark.parametrize("is_resumed", [False, True])
async def test_what_is_open_of_a_cut_flow_is_not_forgotten_at_the_end(
    tmp_path: Path, is_resumed: bool
) -> None:
    flow, page = drawn()
    async with site(tmp_path) as where:
        account = where.books.open(flow, "alice", "inside", "by alice", "HERE/1")
        for ticket in (b"old", b"new"):
            account.note_ticket(ticket)
        where.books.left(flow, is_cut=True)
    again = TrackedFlow(1, End.CLIENT, 0, ticket=b"old", base_uj=12_000_000)
    again.source_key, again.sink_key, again.page = flow.source_key, flow.sink_key, page
    for _ in range(2):
        # also after another restart
        async with site(tmp_path) as where:
            assert where.had_uj() == 0
            assert where.books.used_uj("alice")[Period.DAY] == 12_000_000
    async with site(tmp_path) as where:
        if is_resumed:
            assert where.books.open(again, "alice", "inside", "", "HERE/1").counted_uj == 0
            assert where.books.used_uj("alice")[Period.DAY] == 12_000_000
            assert await came(where, again, page) == 1
            where.books.left(again, is_cut=False)
        where.clock[0] += CUT_NS
        await where.books.post_due()
        assert where.had_uj() == where.books.used_uj("alice")[Period.DAY] == 12_000_000
    async with site(tmp_path) as where:
        assert where.ledger.reserved == ()
        assert where.had_uj() == 12_000_000
