"""The books of a provider and of its consumer, through lost paths, sheds and another price."""

from pathlib import Path

import pytest
import trio

from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.consumer_books import ConsumerBooks, open_consumer_ledger
from powertcp.drivers.dial import parse_address
from powertcp.drivers.guide import Named, Place
from powertcp.drivers.provider import Provider
from powertcp.ledger import Code, Page
from powertcp.loads import make_load
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.store import LedgerStore, PageState
from powertcp.units import NS_PER_S
from tests.drivers.test_billing import Clockwork, billed, prices
from tests.drivers.test_consumer import Said

HOUR_NS = 3_600 * NS_PER_S


def signed_pages(folder: Path) -> dict[bytes, int]:
    """Return the countersigned pages of a ledger that is whole, each with its money."""
    with LedgerStore(folder / "ledger.db", read_only=True) as store:
        assert store.verify() == []
        sums: dict[str, int] = {}
        for account in store.accounts():
            sums[account.unit] = sums.get(account.unit, 0) + account.balance
        assert set(sums.values()) == {0}
        money = {e.memo: e.amount for e in store.entries() if e.code == Code.MONEY}
        pages = [row.body for row in store.pages() if row.state == PageState.COUNTERSIGNED]
    found = {}
    for body in pages:
        page = Page.from_wire(body)
        found[body] = money.get(f"flow {page.transcript.hex()}/{page.page}", 0)
        assert found[body] == abs(page.cost_micro)
    return found


async def disturb(provider: Provider, said: Said, clock: Clockwork) -> None:
    """Lose every path, lower and restore the rating, let the night begin."""
    for count in range(1, 4):
        await said.until("receipt", 3 * count)
        for session in list(provider.sessions):
            session.wire.abort()
    provider.set_rating(20_000)
    await said.until("shed")
    clock.offset_ns += 7 * HOUR_NS
    await said.until("receipt", 12)
    provider.set_rating(60_000)


@pytest.mark.requirement("LEDG-6-02", "LEDG-6-04")
async def test_both_books_hold_the_same_pages_and_the_same_bill(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "provider", tmp_path / "consumer"
    said, clock = Said(), Clockwork()
    asks = [
        Ask(
            PowerProfile.parse("12V/2A", ProfileType.REQUEST),
            PowerProfile.parse("12V/0.2A", ProfileType.MINIMUM),
        )
    ] * 2
    tariff = prices(36_000_000_000, 90_000_000_000)
    async with billed(ours, tariff=tariff, clock=clock) as (provider, _, address):
        host, port = parse_address(address)
        wishes = Wishes(guide=Named(Place(host=host, port=port)), asks=asks, for_ns=9 * NS_PER_S)
        async with open_consumer_ledger(theirs, is_given=True) as ledger:
            books = ConsumerBooks(ledger, receipt_s=1, unix_ns=clock)
            sink = Consumer(wishes, [make_load("none") for _ in asks], said, books=books)
            with trio.fail_after(50):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(disturb, provider, said, clock)
                    assert await sink.run() == 0
    assert said.names().count("cut") >= 3
    assert "disputed" not in said.names()
    pages = signed_pages(theirs)
    assert pages == signed_pages(ours)
    banked_uj = sum(each.energy_uj for each in sink.appliances)
    assert sum(Page.from_wire(body).energy_uj for body in pages) == banked_uj
    rates = {
        round(100 * micro / Page.from_wire(body).energy_uj, 1) for body, micro in pages.items()
    }
    assert rates == {1.0, 2.5}
    done = said.all("done")[0]
    assert (done["signed_uj"], done["unsigned_uj"]) == (banked_uj, 0)
    assert done["cost_micro"] == sum(pages.values())
    assert len({Page.from_wire(body).transcript for body in pages}) == 2
