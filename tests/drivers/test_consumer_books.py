"""The books of a consumer against a provider that signs pages: nothing is signed before the commit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.consumer_books import ConsumerBooks, open_consumer_ledger
from powertcp.drivers.dial import parse_address
from powertcp.drivers.flow_book import party
from powertcp.drivers.guide import Named, Place
from powertcp.drivers.ledger import Ledger
from powertcp.drivers.price import MaxPrice
from powertcp.errors import ConfigError
from powertcp.ledger import Clock, Code, Page, Posted, cost_micro, sign_as_source
from powertcp.loads import make_load
from powertcp.potcp import ConnectionConfig
from powertcp.potcp.events import (
    Alerted,
    Ask,
    FlowClosed,
    PageDisputed,
    RenegotiationAnswered,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason
from powertcp.store import LedgerStore, PageState
from powertcp.units import NS_PER_S
from powertcp.wire.options import Tariff
from tests.drivers.metered import KEY, MeteredProvider, virtual_unix_ns
from tests.drivers.test_consumer import Said

DAY = Tariff(bytes([7]) * 32, "EUR", 250_000)
NIGHT = Tariff(bytes([8]) * 32, "EUR", -40_000)
# virtual time passes while the disk works
PATIENT = ConnectionConfig(drain_ns=60 * NS_PER_S, receipt_ns=60 * NS_PER_S)


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """A clock that jumps when sockets and disk have been quiet for a moment."""
    return trio.testing.MockClock(autojump_threshold=0.005)


@asynccontextmanager
async def consuming(
    address: str, folder: Path, said: Said, *requests: str, **wishes: object
) -> AsyncIterator[Consumer]:
    """A consumer whose books are in `folder`; run it."""
    host, port = parse_address(address)
    place = Named(Place(host=host, port=port))
    asks = [Ask(PowerProfile.parse(text, ProfileType.REQUEST)) for text in requests]
    async with open_consumer_ledger(folder, is_given=True) as ledger:
        books = ConsumerBooks(ledger, unix_ns=virtual_unix_ns, clock=lambda: Clock.SYNCHRONISED)
        sink = Consumer(
            Wishes(guide=place, asks=asks, connection=PATIENT, **wishes),  # type: ignore[arg-type]
            [make_load("none") for _ in requests],
            said,
            books=books,
        )
        with trio.fail_after(600):
            yield sink


def read(folder: Path) -> LedgerStore:
    """Open the ledger as it was left; it is whole."""
    store = LedgerStore(folder / "ledger.db", read_only=True)
    assert store.verify() == []
    return store


def balances(store: LedgerStore) -> dict[str, int]:
    """Return what every account was debited less what it was credited, by name."""
    return {one.name: one.debit - one.credit for one in store.accounts()}


@pytest.mark.requirement("LEDG-6-02")
@pytest.mark.requirement("LEDG-7-06")
async def test_pages_are_checked_posted_and_countersigned(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    said = Said()
    provider = MeteredProvider(tariff=DAY, receipts=(2, 0), config=PATIENT)
    async with provider.serving() as address:
        async with consuming(address, tmp_path, said, "230V/10A@50Hz", for_ns=5 * NS_PER_S) as sink:
            assert await sink.run() == 0
        await provider.until(FlowClosed)
    assert [Page.from_wire(one).page for one in provider.signed] == [0, 1, 2]
    pages = [Page.from_wire(one) for one in provider.signed]
    energy_uj = sink.appliances[0].energy_uj
    assert sum(page.energy_uj for page in pages) == energy_uj
    cost = sum(page.cost_micro for page in pages)
    assert cost == cost_micro(DAY.price, 0, 0, energy_uj)
    with read(tmp_path) as store:
        rows = list(store.pages())
        assert [row.body for row in rows] == provider.signed
        assert all(row.state == PageState.COUNTERSIGNED for row in rows)
        assert balances(store) == {
            "store:none": 0,
            f"from:{address}": -energy_uj,
            "load:none": energy_uj,
            "payer:self": cost,
            f"payee:{address}": -cost,
        }
        assert {entry.memo for entry in store.entries()} == {
            f"flow {page.transcript.hex()}/{page.page}" for page in pages
        }
    done = said.all("done")[0]
    assert (done["pages"], done["signed_uj"], done["unsigned_uj"]) == (3, energy_uj, 0)
    assert (done["cost_micro"], done["currency"], done["disputed"]) == (cost, "EUR", 0)


@pytest.mark.requirement("LEDG-6-02")
async def test_a_page_that_differs_is_kept_and_disputed_not_signed(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    said = Said()
    provider = MeteredProvider(tariff=DAY, receipts=(2, 0), config=PATIENT)

    def dearer(octets: bytes) -> bytes:
        """Ask for a millionth more, and sign that."""
        page = Page.from_wire(octets)
        return sign_as_source(replace(page, cost_micro=page.cost_micro + 1), KEY).to_wire()

    provider.alter = dearer
    async with provider.serving() as address:
        async with consuming(address, tmp_path, said, "230V/10A@50Hz", for_ns=4 * NS_PER_S) as sink:
            assert await sink.run() == 1
        await provider.until(PageDisputed)
    assert provider.signed == []
    alert = next(one for one in provider.events if isinstance(one, Alerted))
    assert alert.refusal is not None
    assert alert.refusal.code == Reason.RECEIPT_INVALID
    assert alert.refusal.value == alert.refusal.limit + 1
    assert "cost_micro" in str(said.all("disputed")[0]["sentence"])
    with read(tmp_path) as store:
        assert [(row.body, row.state) for row in store.pages()] == [
            (provider.sent[0], PageState.DISPUTED)
        ]
        assert list(store.entries()) == []
        noted = {event.kind: event.data() for event in store.events()}
        assert noted["dispute"]["page"] == 0
        assert noted["unsigned"]["unsigned_uj"] == sink.appliances[0].energy_uj
    done = said.all("done")[0]
    assert (done["pages"], done["disputed"]) == (0, 1)


@pytest.mark.requirement("LEDG-6-02")
async def test_what_is_no_page_is_disputed(tmp_path: Path, clock: trio.testing.MockClock) -> None:
    said = Said()
    provider = MeteredProvider(receipts=(2, 0), config=PATIENT)

    def of_no_version(octets: bytes) -> bytes:
        claim = b"\x07" + octets[1:252]
        return claim + KEY.sign(b"powertcp receipt source " + claim) + bytes(64)

    provider.alter = of_no_version
    async with provider.serving() as address:
        async with consuming(address, tmp_path, said, "230V/1A@50Hz", for_ns=3 * NS_PER_S) as sink:
            assert await sink.run() == 1
        await provider.until(PageDisputed)
    with read(tmp_path) as store:
        assert list(store.pages()) == []
        assert "version" in next(event.facts for event in store.events() if event.kind == "dispute")


async def test_a_page_that_the_book_refuses_is_disputed(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    said = Said()
    provider = MeteredProvider(tariff=DAY, receipts=(2, 0), config=PATIENT)
    async with open_consumer_ledger(tmp_path, is_given=True) as ledger:
        await ledger.set_floor("load:none", "uJ", -1_000)
    async with provider.serving() as address:
        async with consuming(address, tmp_path, said, "230V/10A@50Hz", for_ns=3 * NS_PER_S) as sink:
            assert await sink.run() == 1
        await provider.until(PageDisputed)
    assert provider.signed == []
    assert "205 ENERGY_QUOTA" in str(said.all("disputed")[0]["sentence"])
    with read(tmp_path) as store:
        assert list(store.pages()) == []
        assert list(store.entries()) == []


@pytest.mark.requirement("LEDG-7-06")
async def test_a_page_whose_path_is_lost_before_the_commit_is_signed_on_the_next(
    tmp_path: Path, clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    provider = MeteredProvider(receipts=(2, 0), config=PATIENT)
    commit = Ledger.post_page
    held = trio.Event()

    async def slow(ledger: Ledger, *page: object) -> Posted:
        """Lose the path while the first page is on its way to the disk."""
        if not held.is_set():
            held.set()
            provider.cut()
            await said.until("cut")
            await said.until("ready", 2)
        return await commit(ledger, *page)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "post_page", slow)
    async with provider.serving() as address:
        async with consuming(address, tmp_path, said, "230V/10A@50Hz", for_ns=6 * NS_PER_S) as sink:
            assert await sink.run() == 0
        await provider.until(FlowClosed, 2)
    assert said.all("ready")[1]["resumed"]
    pages = [Page.from_wire(one) for one in provider.signed]
    assert [page.page for page in pages] == list(range(len(pages)))
    assert len({page.transcript for page in pages}) == 1
    assert sum(page.energy_uj for page in pages) == sink.appliances[0].energy_uj
    with read(tmp_path) as store:
        assert [row.body for row in store.pages()] == provider.signed
        assert balances(store)["load:none"] == sink.appliances[0].energy_uj


async def test_a_page_is_signed_where_the_copy_of_the_one_before_was_lost(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    said = Said()
    provider = MeteredProvider(receipts=(1, 0), config=PATIENT)

    async def cut_often() -> None:
        for count in (1, 3, 5):
            await said.until("receipt", count)
            provider.cut()

    async with (
        provider.serving() as address,
        consuming(address, tmp_path, said, "230V/10A@50Hz", for_ns=9 * NS_PER_S) as sink,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(cut_often)
        assert await sink.run() == 0
    assert said.names().count("cut") == 3
    with read(tmp_path) as store:
        rows = list(store.pages())
        assert [row.page for row in rows] == list(range(len(rows)))
        assert balances(store)["load:none"] == sink.appliances[0].energy_uj
    # the source has each of them: what was lost came again
    assert [row.body for row in rows] == provider.signed


@pytest.mark.requirement("LEDG-6-04")
async def test_a_tariff_within_the_limit_is_taken_and_a_dearer_one_is_not(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    said = Said()
    provider = MeteredProvider(tariff=DAY, receipts=(60, 0), config=PATIENT)
    dear = Tariff(bytes([9]) * 32, "EUR", 300_001)

    async def propose() -> None:
        for count, tariff in enumerate((dear, NIGHT), 1):
            await said.until("readings", 2 * count)
            provider.propose(tariff)
            await provider.until(RenegotiationAnswered, count)

    async with provider.serving() as address:
        limit = MaxPrice(300_000, "EUR")
        async with (
            consuming(
                address, tmp_path, said, "230V/10A@50Hz", for_ns=6 * NS_PER_S, max_price=limit
            ) as sink,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(propose)
            assert await sink.run() == 0
        await provider.until(FlowClosed)
    answers = [one for one in provider.events if isinstance(one, RenegotiationAnswered)]
    assert [one.accepted for one in answers] == [False, True]
    assert answers[0].refusal is not None
    assert (answers[0].refusal.code, answers[0].refusal.value) == (Reason.TARIFF, 300_001)
    by_day, by_night = (Page.from_wire(one) for one in provider.signed)
    assert (by_day.tariff, by_night.tariff) == (DAY.digest, NIGHT.digest)
    assert by_day.cost_micro > 0 > by_night.cost_micro
    done = said.all("done")[0]
    assert done["cost_micro"] == by_day.cost_micro + by_night.cost_micro
    with read(tmp_path) as store:
        sums = balances(store)
        assert sums[f"payer:{address}"] == -by_night.cost_micro
        assert sums["payee:self"] == by_night.cost_micro


@pytest.mark.requirement("LEDG-6-04")
@pytest.mark.parametrize("limit", [MaxPrice(249_999), MaxPrice(900_000, "CHF")])
async def test_a_grant_that_is_too_dear_is_declined_before_power_flows(
    tmp_path: Path, clock: trio.testing.MockClock, limit: MaxPrice
) -> None:
    said = Said()
    provider = MeteredProvider(tariff=DAY, config=PATIENT)
    async with provider.serving() as address:
        async with consuming(address, tmp_path, said, "12V/1A", max_price=limit) as sink:
            assert await sink.run() == 1
        closed = await provider.until(FlowClosed)
    assert isinstance(closed, FlowClosed)
    assert closed.refusal is not None
    assert closed.refusal.code == Reason.TARIFF
    assert closed.esn_uj == 0
    refused = said.all("refused")[0]
    assert (refused["code"], refused["value"], refused["limit"]) == (104, 250_000, limit.micro)
    assert sink.appliances[0].energy_uj == 0


async def test_without_meter_energy_is_posted_each_minute_and_at_the_end(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    said = Said()
    provider = MeteredProvider(tariff=DAY, receipts=None, every_s=0.5)

    async def cut() -> None:
        await said.until("readings", 70)
        provider.cut()

    async with (
        provider.serving() as address,
        consuming(address, tmp_path, said, "230V/10A@50Hz", for_ns=130 * NS_PER_S) as sink,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(cut)
        assert await sink.run() == 0
    assert [one["resumed"] for one in said.all("ready")] == [False, True]
    energy_uj = sink.appliances[0].energy_uj
    with read(tmp_path) as store:
        entries = list(store.entries())
        assert [entry.code for entry in entries] == [Code.UNSIGNED, Code.LOAD] * 3
        assert balances(store)["load:none"] == energy_uj
        assert list(store.pages()) == []
    done = said.all("done")[0]
    assert (done["pages"], done["unsigned_uj"]) == (0, 0)
    # nobody posts money that nobody signed; it is shown all the same
    assert done["cost_micro"] == cost_micro(DAY.price, 0, 0, energy_uj)


@pytest.mark.requirement("LEDG-7-03")
async def test_a_tariff_of_another_currency_than_the_ledger_is_not_taken(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    said = Said()
    francs = Tariff(bytes([3]) * 32, "CHF", 500_000)
    provider = MeteredProvider(tariff=DAY, receipts=(60, 0), config=PATIENT)

    async def propose() -> None:
        await said.until("readings", 2)
        provider.propose(francs)

    async with provider.serving() as address:
        async with (
            consuming(address, tmp_path, said, "230V/10A@50Hz", for_ns=4 * NS_PER_S) as sink,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(propose)
            assert await sink.run() == 0
        answer = await provider.until(RenegotiationAnswered)
        assert isinstance(answer, RenegotiationAnswered)
        assert not answer.accepted
        # what was booked in euros is not continued in francs, whoever asks for them
        provider.tariff = francs
        async with consuming(address, tmp_path, said, "230V/10A@50Hz") as sink:
            assert await sink.run() == 1
    assert "the ledger is in EUR, not in CHF" in str(said.all("refused")[0]["sentence"])
    with read(tmp_path) as store:
        assert {one.unit for one in store.accounts()} == {"uJ", "micro-EUR"}


async def test_two_flows_that_are_billed_in_two_currencies_are_not_both_signed(
    tmp_path: Path, clock: trio.testing.MockClock
) -> None:
    said = Said()
    provider = MeteredProvider(tariff=DAY, receipts=(2, 0), config=PATIENT)

    async def change() -> None:
        await said.until("granted")
        provider.tariff = Tariff(bytes([3]) * 32, "CHF", 500_000)

    async with (
        provider.serving() as address,
        consuming(
            address, tmp_path, said, "230V/10A@50Hz", "12V/9A", mux=True, for_ns=3 * NS_PER_S
        ) as sink,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(change)
        assert await sink.run() == 1
    assert "micro-CHF" in str(said.all("disputed")[0]["sentence"])
    with read(tmp_path) as store:
        assert {one.unit for one in store.accounts()} == {"uJ", "micro-EUR"}


@pytest.mark.parametrize(
    ("name", "account"),
    [("lamp", "lamp"), ("a\tb", "a?b"), ("", "?"), ("\u00e4" * 150, "\u00e4" * 100)],
)
async def test_a_name_of_the_command_line_is_a_name_of_an_account(name: str, account: str) -> None:
    assert party(name) == account


async def test_the_first_free_folder_is_taken_and_a_given_one_is_not_shared(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "consumer"
    async with (
        open_consumer_ledger(folder, is_given=False) as first,
        open_consumer_ledger(folder, is_given=False) as second,
    ):
        assert await trio.Path(tmp_path / "consumer.2" / "ledger.db").exists()
        assert first.meter.public != second.meter.public
        with pytest.raises(ConfigError, match=r"which process \d+ writes.*name another folder"):
            async with open_consumer_ledger(folder, is_given=True):
                pass
    async with open_consumer_ledger(folder, is_given=True) as again:
        assert again.meter.public == first.meter.public
