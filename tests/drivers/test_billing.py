"""Receipts on real sockets at the provider: pages posted, prices changed, and who gets no power."""

# ruff: noqa: SIM117 - a client belongs to its provider

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from powertcp.crypto import SigningKey
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.ledger import open_ledger
from powertcp.drivers.provider import Provider
from powertcp.drivers.provider_books import ProviderBooks
from powertcp.drivers.report import ProviderReport
from powertcp.drivers.supplied import SuppliedFlow
from powertcp.errors import ConfigError, known
from powertcp.ledger import Account, Clock, Page, PageChain, Side
from powertcp.ledger.tariff import TariffDocument, parse_tariff
from powertcp.machine import Event
from powertcp.potcp import ConnectionConfig
from powertcp.potcp.config import RECEIPT_UJ
from powertcp.potcp.events import (
    Alerted,
    Ask,
    FlowClosed,
    FlowCut,
    FlowRefused,
    PageReceived,
    PowerReady,
    RenegotiationRequested,
    SamplesReceived,
    TicketReceived,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.store import LedgerStore, PageState
from powertcp.units import NS_PER_S
from powertcp.wire.options import Meter
from tests.drivers.test_provider import Client, client, eventually, serving

KEY = SigningKey(bytes(range(32)))
EACH_SECOND = Meter(1, 0, KEY.public)
NEVER = Meter(0, 0, KEY.public)


class Payer:
    """A consumer that countersigns what it counted too."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.chain = PageChain(KEY, Side.SINK, time.time_ns())
        self.pages: list[Page] = []
        self.takes_price = True
        self.signs = True
        self._seen = 0

    def ask(self, request: str, meter: Meter = EACH_SECOND) -> int:
        return self.client.ask(request, meter=meter)

    def queue(self, verb: object, *args: object, **more: object) -> None:
        self.client.stream.queue(verb, *args, now=now_ns(), **more)  # type: ignore[arg-type]

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.client.seen)

    async def until(self, kind: type[Event], count: int = 1) -> Event:
        """Go on, answering, until `kind` has come so often."""
        machine = self.client.machine
        with trio.fail_after(15):
            while True:
                for event in self.client.seen[self._seen :]:
                    self._seen += 1
                    if isinstance(event, PageReceived) and self.signs:
                        self.answer(event)
                    elif isinstance(event, RenegotiationRequested):
                        no = None if self.takes_price else Refusal(Reason.TARIFF, 0, 7)
                        self.queue(machine.answer, event.flow, accept=self.takes_price, refusal=no)
                found = [event for event in self.client.seen if isinstance(event, kind)]
                if len(found) >= count:
                    return found[count - 1]
                batch = await self.client.stream.receive_batch()
                assert batch, f"the connection ended before {kind.__name__}: {self.client.seen}"
                self.client.seen.extend(batch)

    def answer(self, event: PageReceived) -> None:
        page = Page.from_wire(event.octets)
        found = self.chain.check(event.octets, event.facts, page.end_ns, Clock.UNSYNCHRONISED)
        assert found == ()
        signed = self.chain.countersign(event.octets)
        self.pages.append(Page.from_wire(signed))
        self.queue(self.client.machine.countersign, event.flow, signed)

    async def close(self, flow: int) -> FlowClosed:
        self.queue(self.client.machine.close_flow, flow)
        closed = await self.until(FlowClosed)
        assert isinstance(closed, FlowClosed)
        return closed


class Clockwork:
    """A clock of the wall that a test sets."""

    def __init__(self) -> None:
        self.offset_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.offset_ns


def prices(
    price_micro: int, for_six_hours: int | None = None, currency: str = "EUR"
) -> TariffDocument:
    """One price; or another one from this hour on, for six hours."""
    document: dict[str, object] = {"currency": currency, "price_micro_per_kwh": price_micro}
    if for_six_hours is not None:
        hour = time.gmtime().tm_hour
        slot = {"from": f"{hour:02}:00", "to": f"{(hour + 6) % 24:02}:00"}
        document["slots"] = [slot | {"price_micro_per_kwh": for_six_hours}]
    return parse_tariff(json.dumps(document).encode(), "prices.json")


@asynccontextmanager
async def billed(
    state: Path,
    *,
    tariff: TariffDocument | None = None,
    requires_receipts: bool = False,
    quota_uj: int | None = None,
    clock: Clockwork | None = None,
    connection: ConnectionConfig | None = None,
) -> AsyncIterator[tuple[Provider, ProviderBooks, str]]:
    """A provider that writes down what it delivers, 12 V."""
    connection = connection or ConnectionConfig()
    async with open_ledger(state, os.urandom) as ledger:
        books = ProviderBooks(
            ledger,
            tariff=tariff,
            requires_receipts=requires_receipts,
            quota_uj=quota_uj,
            unix_ns=clock or time.time_ns,
        )
        async with books.keeping():
            async with serving("12V/50A", connection=connection) as (provider, [address]):
                provider.keep_books(books)
                yield provider, books, address


async def balance_of(provider: Provider) -> dict[str, int]:
    """What the status says of the ledger."""
    status = await ProviderReport(provider).status({})
    assert isinstance(status, dict)
    ledger = status["ledger"]
    assert isinstance(ledger, dict)
    return {name: int(value) for name, value in ledger.items()}


async def settled_of(provider: Provider) -> dict[str, int]:
    """What the status says of the ledger once all flows are over and everything is on the disk."""
    with trio.fail_after(10):
        while (held := await balance_of(provider))["open_uj"]:  # noqa: ASYNC110 - no trio.Event
            await trio.sleep(0.002)
        return held


def balances(state: Path) -> dict[str, int]:
    """What each account received, less what it gave; the whole store is checked first."""
    with LedgerStore(state / "ledger.db", read_only=True) as store:
        assert store.verify() == []
        return {account.name: -account.balance for account in store.accounts()}


def stored(state: Path) -> list[tuple[int, int]]:
    with LedgerStore(state / "ledger.db", read_only=True) as store:
        return [(row.page, row.state) for row in store.pages()]


@pytest.mark.requirement("LEDG-6-01", "LEDG-7-06")
async def test_what_both_signed_is_posted_with_its_price(tmp_path: Path) -> None:
    tariff = prices(36_000_000_000)
    async with billed(tmp_path, tariff=tariff) as (provider, _, address), client(address) as sink:
        payer = Payer(sink)
        flow = payer.ask("12V/5A")
        await payer.until(PageReceived, 2)
        held = await balance_of(provider)
        assert (held["residual_uj"], held["unsigned_uj"]) == (0, 0)
        assert held["booked_uj"] > 0
        closed = await payer.close(flow)
        assert closed.esn_uj == closed.signed_uj
        held = await settled_of(provider)
        assert (held["booked_uj"], held["open_uj"], held["residual_uj"]) == (closed.esn_uj, 0, 0)
    uj = closed.esn_uj
    cost = sum(page.cost_micro for page in payer.pages)
    assert cost == uj // 100
    assert balances(tmp_path) == {
        "sink:127.0.0.1": uj, "source:12V/50A": -uj,
        "payer:127.0.0.1": cost, "payee:self": -cost,
    }  # fmt: skip
    assert len(payer.pages) >= 3
    assert stored(tmp_path) == [
        (number, PageState.COUNTERSIGNED) for number in range(len(payer.pages))
    ]


async def test_energy_without_receipts_is_posted_when_the_flow_ends(tmp_path: Path) -> None:
    async with billed(tmp_path) as (_, _, address), client(address) as sink:
        flow = sink.ask("12V/5A")
        await sink.until(SamplesReceived, 3)
        sink.stream.queue(sink.machine.close_flow, flow, now=now_ns())
        closed = await sink.until(FlowClosed)
    assert isinstance(closed, FlowClosed)
    assert balances(tmp_path) == {
        "sink:127.0.0.1": closed.esn_uj,
        "source:12V/50A": -closed.esn_uj,
    }


async def test_a_provider_that_ends_posts_what_flows_without_receipts_have_had(
    tmp_path: Path,
) -> None:
    async with billed(tmp_path) as (provider, _, address), client(address) as sink:
        sink.ask("12V/5A")
        await sink.until(SamplesReceived, 15)
        [session] = provider.sessions
        await eventually(lambda: session.machine.status(1).acked_uj > 0)
        acked_uj = session.machine.status(1).acked_uj
    assert balances(tmp_path)["sink:127.0.0.1"] == acked_uj


@pytest.mark.requirement("LEDG-6-03")
async def test_who_does_not_sign_gets_no_more_power(tmp_path: Path) -> None:
    connection = ConnectionConfig(receipt_ns=NS_PER_S // 5, unpaid_ns=NS_PER_S // 5)
    billing = billed(tmp_path, connection=connection)
    async with billing as (provider, _, address), client(address) as sink:
        payer = Payer(sink)
        payer.signs = False
        payer.ask("12V/5A")
        alerted = await payer.until(Alerted)
        closed = await payer.until(FlowClosed)
        assert isinstance(alerted, Alerted)
        assert isinstance(closed, FlowClosed)
        held = await balance_of(provider)
        assert held["residual_uj"] == 0
        assert held["booked_uj"] == 0
        for refusal in (alerted.refusal, closed.refusal):
            assert refusal is not None
            assert refusal.code == Reason.RECEIPT_MISSING
        await eventually(lambda: provider.breaker.held_mw == 0)
    assert balances(tmp_path) == {}
    assert stored(tmp_path) == [(0, PageState.SENT)]


@pytest.mark.requirement("LEDG-6-02")
async def test_a_page_that_is_disputed_is_kept_as_such(tmp_path: Path) -> None:
    async with billed(tmp_path) as (_, _, address), client(address) as sink:
        payer = Payer(sink)
        payer.signs = False
        flow = payer.ask("12V/5A")
        await payer.until(PageReceived)
        payer.queue(sink.machine.dispute, flow, Refusal(Reason.RECEIPT_INVALID, 1, 2))
        await eventually(lambda: stored(tmp_path) == [(0, PageState.DISPUTED)])
    assert balances(tmp_path) == {}


@pytest.mark.requirement("LEDG-6-04")
async def test_a_change_of_price_is_a_new_page_at_the_new_price(tmp_path: Path) -> None:
    clock = Clockwork()
    tariff = prices(36_000_000_000, -36_000_000_000)
    async with billed(tmp_path, tariff=tariff, clock=clock) as (_, _, address):
        async with client(address) as sink:
            payer = Payer(sink)
            flow = payer.ask("12V/5A", NEVER)
            await payer.until(SamplesReceived, 3)
            clock.offset_ns = 7 * 3600 * NS_PER_S
            await payer.until(PowerReady, 2)
            await payer.until(SamplesReceived, 3 + payer.count(SamplesReceived))
            await payer.close(flow)
    assert [page.cost_micro > 0 for page in payer.pages] == [False, True]
    for page in payer.pages:
        assert abs(page.cost_micro) == page.energy_uj // 100
    found = balances(tmp_path)
    assert found["payer:self"] == -payer.pages[0].cost_micro
    assert found["payer:127.0.0.1"] == payer.pages[1].cost_micro


@pytest.mark.requirement("LEDG-6-04")
async def test_who_keeps_the_old_price_gets_no_more_power(tmp_path: Path) -> None:
    clock = Clockwork()
    tariff = prices(9, 1)
    async with billed(tmp_path, tariff=tariff, clock=clock) as (_, _, address):
        async with client(address) as sink:
            payer = Payer(sink)
            payer.takes_price = False
            payer.ask("12V/5A")
            await payer.until(SamplesReceived)
            clock.offset_ns = 7 * 3600 * NS_PER_S
            closed = await payer.until(FlowClosed)
            assert isinstance(closed, FlowClosed)
            assert closed.refusal is not None
            assert (closed.refusal.code, closed.refusal.value) == (Reason.TARIFF, 9)


async def test_receipts_that_are_required_are_required(tmp_path: Path) -> None:
    async with billed(tmp_path, requires_receipts=True) as (_, _, address):
        async with client(address) as sink:
            sink.ask("12V/5A")
            refused = await sink.until(FlowRefused)
            assert isinstance(refused, FlowRefused)
            assert refused.refusal.code == Reason.PAYMENT_REQUIRED
            Payer(sink).ask("12V/5A")
            await sink.until(PowerReady)


async def test_receipts_are_required_from_a_moment_on(tmp_path: Path) -> None:
    async with billed(tmp_path) as (_, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            sink.ask("12V/1A")
            await payer.until(PowerReady)
            books.limit(requires_receipts=True, quota_uj=None)
            sink.ask("12V/1A")
            refused = await payer.until(FlowRefused)
            assert isinstance(refused, FlowRefused)
            assert refused.refusal.code == Reason.PAYMENT_REQUIRED
            await payer.until(SamplesReceived, 3)
            books.limit(requires_receipts=False, quota_uj=None)
            sink.ask("12V/1A")
            await payer.until(PowerReady, 2)
            # the one that was refused
            assert payer.count(FlowClosed) == 1


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-06")
@pytest.mark.parametrize(("year", "held_ns"), [(1960, 0), (2300, (1 << 63) - 2)])
async def test_a_clock_of_another_century_is_not_trusted_and_stops_nothing(
    tmp_path: Path, year: int, held_ns: int
) -> None:
    clock = Clockwork()
    clock.offset_ns = (year - 2026) * 31_556_952 * NS_PER_S
    async with billed(tmp_path, tariff=prices(36_000_000_000), clock=clock) as (provider, _, to):
        async with client(to) as sink:
            payer = Payer(sink)
            flow = payer.ask("12V/2A")
            await payer.until(PageReceived, 2)
            closed = await payer.close(flow)
        held = await settled_of(provider)
    assert (held["booked_uj"], held["residual_uj"], held["unsigned_uj"]) == (closed.esn_uj, 0, 0)
    assert len(payer.pages) >= 2
    for page in payer.pages:
        assert (page.clock, page.start_ns, page.end_ns) == ("U", held_ns, held_ns)


@pytest.mark.requirement("PTCP-10-03", "LEDG-6-01")
async def test_a_flow_that_is_resumed_goes_on_with_its_pages(tmp_path: Path) -> None:
    async with billed(tmp_path) as (_, _, address):
        async with client(address) as first:
            payer = Payer(first)
            payer.ask("12V/5A")
            ticket = await payer.until(TicketReceived)
            await payer.until(PageReceived, 2)
            await payer.until(SamplesReceived, 25)
            machine = first.machine
        assert isinstance(ticket, TicketReceived)
        machine.receive_eof(now_ns())
        [cut] = [event for event in iter(machine.next_event, None) if isinstance(event, FlowCut)]
        async with client(address) as second:
            payer.client, payer._seen = second, 0  # noqa: SLF001 - its other path
            flow = second.ask(
                "12V/5A",
                meter=EACH_SECOND,
                ticket=ticket.ticket,
                esn_uj=cut.esn_uj,
                pages=cut.pages,
            )
            await payer.until(PageReceived, 2)
            closed = await payer.close(flow)
    assert closed.signed_uj == closed.esn_uj == sum(page.energy_uj for page in payer.pages)
    assert [page.page for page in payer.pages] == list(range(len(payer.pages)))
    assert balances(tmp_path) == {
        "sink:127.0.0.1": closed.esn_uj,
        "source:12V/50A": -closed.esn_uj,
    }


@pytest.mark.requirement("LEDG-7-07")
async def test_a_ledger_that_cannot_be_written_ends_what_it_cannot_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with billed(tmp_path) as (_, books, address):
        async with client(address) as sink, client(address) as plain:
            payer = Payer(sink)
            payer.ask("12V/5A")
            plain.ask("12V/1A")
            await plain.until(PowerReady)
            await payer.until(SamplesReceived)
            monkeypatch.setattr(
                "powertcp.store.ledger._INSERT_ENTRY", "INSERT INTO nowhere VALUES (1)"
            )
            closed = await payer.until(FlowClosed)
            assert isinstance(closed, FlowClosed)
            assert closed.refusal is not None
            assert closed.refusal.code == Reason.MAINTENANCE
            assert books.ledger.is_read_only
            refused_flow = plain.ask("12V/1A")
            refused = await plain.until(FlowRefused)
            assert isinstance(refused, FlowRefused)
            assert (refused.flow, refused.refusal.code) == (refused_flow, Reason.MAINTENANCE)
            await plain.until(SamplesReceived, 3)


@pytest.mark.requirement("LEDG-7-05")
async def test_an_address_gets_no_more_than_its_quota_over_all_its_flows(tmp_path: Path) -> None:
    quota_uj = 40_000_000
    async with billed(tmp_path, quota_uj=quota_uj) as (provider, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            for _ in range(2):
                payer.ask("12V/2A")
            await payer.until(FlowClosed, 2)
            payer.ask("12V/2A")
            refused = await payer.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert refused.refusal.code == Reason.ENERGY_QUOTA

        def sink_account() -> Account:
            return known(books.ledger.account("sink:127.0.0.1"), "it has had power")

        await eventually(lambda: sink_account().reserved == 0)
        account = sink_account()
        # what no block of 2.4 J fitted into any more
        assert quota_uj - 2 * 2_400_000 <= account.debit <= quota_uj
        assert provider.breaker.held_mw == 0
    assert balances(tmp_path)["source:12V/50A"] == -account.debit


@pytest.mark.requirement("LEDG-7-05")
async def test_a_quota_outlives_the_provider(tmp_path: Path) -> None:
    for had in (False, True):
        async with billed(tmp_path, quota_uj=4_800_000) as (_, _, address):
            async with client(address) as sink:
                payer = Payer(sink)
                payer.ask("12V/2A")
                if had:
                    refused = await payer.until(FlowRefused)
                    assert isinstance(refused, FlowRefused)
                    assert refused.refusal.code == Reason.ENERGY_QUOTA
                else:
                    await payer.until(FlowClosed)
        assert balances(tmp_path)["sink:127.0.0.1"] == 4_800_000


@pytest.mark.requirement("LEDG-7-05")
async def test_a_quota_ends_with_the_provider_that_set_it(tmp_path: Path) -> None:
    for quota_uj in (4_800_000, None):
        async with billed(tmp_path, quota_uj=quota_uj) as (provider, _, address):
            async with client(address) as sink:
                payer = Payer(sink)
                flow = payer.ask("12V/2A")
                if quota_uj is not None:
                    await payer.until(FlowClosed)
                    continue
                await payer.until(SamplesReceived, 3)
                closed = await payer.close(flow)
            held = await settled_of(provider)
            assert (held["booked_uj"], held["unsigned_uj"]) == (closed.esn_uj, 0)
    assert balances(tmp_path)["sink:127.0.0.1"] == 4_800_000 + closed.esn_uj


async def until_had(payer: Payer, energy_uj: int) -> int:
    """Go on until the flows of a client had so much; return what they had."""
    count = had_uj = 0
    while had_uj < energy_uj:
        count += 1
        samples = await payer.until(SamplesReceived, count)
        assert isinstance(samples, SamplesReceived)
        had_uj += samples.energy_uj
    return had_uj


@pytest.mark.requirement("LEDG-7-05")
@pytest.mark.parametrize("larger_uj", [72_000_000, None])
async def test_a_larger_quota_is_for_flows_that_there_are(
    tmp_path: Path, larger_uj: int | None
) -> None:
    async with billed(tmp_path, quota_uj=24_000_000) as (provider, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            flow = payer.ask("12V/2A")
            await payer.until(PowerReady)
            books.limit(requires_receipts=False, quota_uj=larger_uj)
            await until_had(payer, 48_000_000)
            if larger_uj is None:
                assert payer.count(FlowClosed) == 0
                await payer.close(flow)
                # and receipts are not required any more
                sink.ask("12V/1A")
                await payer.until(PowerReady, 2)
            else:
                closed = await payer.until(FlowClosed)
                assert isinstance(closed, FlowClosed)
                assert closed.refusal is not None
                assert closed.refusal.code == Reason.ENERGY_QUOTA
                assert 48_000_000 <= closed.esn_uj <= larger_uj
        held = await balance_of(provider)
        assert (held["residual_uj"], held["unsigned_uj"]) == (0, 0)


@pytest.mark.requirement("LEDG-7-05")
async def test_under_a_smaller_quota_flows_keep_what_they_have_reserved(tmp_path: Path) -> None:
    async with billed(tmp_path, quota_uj=96_000_000) as (provider, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            payer.ask("12V/2A")
            await payer.until(SamplesReceived)
            assert known(books.ledger.account("sink:127.0.0.1"), "ready").reserved == 96_000_000
            books.limit(requires_receipts=False, quota_uj=12_000_000)
            # over the page of the first second
            await until_had(payer, 36_000_000)
            assert payer.count(FlowClosed) == 0
            payer.ask("12V/1A")
            refused = await payer.until(FlowRefused)
            assert isinstance(refused, FlowRefused)
            assert refused.refusal.code == Reason.ENERGY_QUOTA
            assert refused.refusal.limit == 12_000_000
            # after the one that was refused
            closed = await payer.until(FlowClosed, 2)
            assert isinstance(closed, FlowClosed)
            assert 90_000_000 < closed.esn_uj <= 96_000_000
        held = await settled_of(provider)
        assert (held["residual_uj"], held["unsigned_uj"]) == (0, 0)
        assert held["booked_uj"] == closed.esn_uj


@pytest.mark.requirement("LEDG-7-05")
async def test_flows_from_before_a_quota_go_on_without_one(tmp_path: Path) -> None:
    async with billed(tmp_path) as (provider, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            flows = [payer.ask("12V/2A"), sink.ask("12V/2A")]
            await payer.until(PowerReady, 2)
            books.limit(requires_receipts=False, quota_uj=60_000_000)
            sink.ask("12V/1A")
            without = await payer.until(FlowRefused)
            assert isinstance(without, FlowRefused)
            assert without.refusal.code == Reason.PAYMENT_REQUIRED
            # a flow that has a reservation beside them
            payer.ask("12V/0.5A")
            await payer.until(PowerReady, 3)
            limited = await payer.until(FlowClosed, 2)
            assert isinstance(limited, FlowClosed)
            assert limited.flow not in flows
            assert limited.refusal is not None
            assert limited.refusal.code == Reason.ENERGY_QUOTA
            assert limited.esn_uj < 60_000_000
            payer.ask("12V/1A")
            spent = await payer.until(FlowRefused, 2)
            assert isinstance(spent, FlowRefused)
            assert spent.refusal.code == Reason.ENERGY_QUOTA
            for flow in flows:
                payer.queue(sink.machine.close_flow, flow)
            await payer.until(FlowClosed, 5)
        held = await balance_of(provider)
        assert (held["residual_uj"], held["unsigned_uj"]) == (0, 0)


@pytest.mark.requirement("LEDG-7-05")
async def test_what_is_signed_is_posted_though_its_reservation_was_given_back(
    tmp_path: Path,
) -> None:
    async with billed(tmp_path, quota_uj=90_000_000) as (_, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            flow = payer.ask("12V/2A", NEVER)
            await payer.until(SamplesReceived, 3)
            [book] = books.supplied
            allowance = known(book.allowance, "there is a quota")
            held = allowance.held
            await books.allowances.end(allowance)
            allowance.held = held
            closed = await payer.close(flow)
    assert balances(tmp_path)["sink:127.0.0.1"] == closed.esn_uj > 0


@pytest.mark.requirement("LEDG-7-05")
async def test_who_signs_nothing_has_no_more_than_its_quota(tmp_path: Path) -> None:
    quota_uj = 12_000_000
    async with billed(tmp_path, quota_uj=quota_uj) as (provider, books, address):

        def booked_uj() -> int:
            account = books.ledger.account("sink:127.0.0.1")
            return account.debit if account else 0

        taken_uj = 0
        while taken_uj < quota_uj:
            async with client(address) as sink:
                payer = Payer(sink)
                payer.signs = False
                flow = payer.ask("12V/2A")
                batch = await payer.until(SamplesReceived)
                assert isinstance(batch, SamplesReceived)
                payer.queue(sink.machine.reset_flow, flow, Refusal(Reason.NORMAL))
                taken_uj += batch.esn_uj
                await eventually(partial(lambda least_uj: booked_uj() >= least_uj, taken_uj))
        async with client(address) as sink:
            payer = Payer(sink)
            payer.ask("12V/2A")
            refused = await payer.until(FlowRefused)
        assert isinstance(refused, FlowRefused)
        assert refused.refusal.code == Reason.ENERGY_QUOTA
        held = await settled_of(provider)
        assert (held["booked_uj"], held["residual_uj"], held["unsigned_uj"]) == (quota_uj, 0, 0)
    assert balances(tmp_path)["sink:127.0.0.1"] == quota_uj


@pytest.mark.requirement("LEDG-7-05")
async def test_a_flow_reserves_no_more_of_a_quota_than_its_power_takes(tmp_path: Path) -> None:
    # of two pages of 100 Wh the first flow would have the whole quota
    async with billed(tmp_path, quota_uj=2 * RECEIPT_UJ) as (_, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            flows = [payer.ask(request, NEVER) for request in ("12V/2A", "12V/1A")]
            await payer.until(PowerReady, 2)
            await eventually(lambda: all(delivered_uj(book) for book in books.supplied))
            held = {book.record.flow: known(book.allowance, "a quota") for book in books.supplied}
            amounts = [known(held[flow].held, "it is powered").amount for flow in flows]
            # two minutes of 24 W and of 12 W
            assert amounts == [2_880_000_000, 1_440_000_000]
            account = known(books.ledger.account("sink:127.0.0.1"), "it has power")
            assert account.reserved == sum(amounts)
            assert not payer.count(FlowClosed)


@pytest.mark.requirement("LEDG-7-05")
async def test_flows_of_an_address_share_a_small_quota(tmp_path: Path) -> None:
    quota_uj = 800_000_000
    async with billed(tmp_path, quota_uj=quota_uj) as (_, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            for _ in range(8):
                payer.ask("12V/1A", NEVER)
            await payer.until(PowerReady, 8)
            await eventually(lambda: all(delivered_uj(book) for book in books.supplied))
            account = known(books.ledger.account("sink:127.0.0.1"), "it has power")
            # two of the 16 pages of the quota each, though two minutes of 12 W are more
            assert account.reserved == quota_uj
            assert not payer.count(FlowClosed)


@pytest.mark.requirement("LEDG-7-05")
async def test_more_power_reserves_more(tmp_path: Path) -> None:
    async with billed(tmp_path, quota_uj=2 * RECEIPT_UJ) as (_, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            flow = payer.ask("12V/1A", NEVER)
            await payer.until(PowerReady)
            [book] = books.supplied
            allowance = known(book.allowance, "there is a quota")

            def held_uj() -> int:
                return allowance.held.amount if allowance.held else 0

            await eventually(lambda: held_uj() == 1_440_000_000)
            more = Ask(PowerProfile.parse("12V/2A", ProfileType.REQUEST))
            payer.queue(sink.machine.renegotiate, flow, [more])
            await payer.until(PowerReady, 2)
            await eventually(lambda: held_uj() == 2_880_000_000)
            record, name = book.record, "sink:127.0.0.1"
            record.profile = PowerProfile.parse("12V/3A", ProfileType.GRANT)
            # in its turn: the page of the old terms may be on its way
            books.terms(record, record.profile, None)
            await eventually(lambda: held_uj() == 4_320_000_000)

            def start_uj() -> int:
                return record.session.machine.status(record.flow).signed_uj or 0

            await eventually(lambda: record.allowed_uj == start_uj() + held_uj())
            books.terms(record, record.profile, None)
            await eventually(lambda: not books.balance(0)["waiting"])
            account = known(books.ledger.account(name), "it has power")
            assert account.reserved == held_uj() == 4_320_000_000


def delivered_uj(book: SuppliedFlow) -> int:
    """Return what a flow got."""
    return book.record.session.machine.status(book.record.flow).esn_uj


@pytest.mark.requirement("LEDG-7-05")
async def test_what_was_sent_and_never_acknowledged_stays_reserved(tmp_path: Path) -> None:
    async with billed(tmp_path, quota_uj=90_000_000) as (_, books, address):
        async with client(address) as sink:
            Payer(sink).ask("12V/2A", NEVER)
            await sink.until(SamplesReceived, 3)
            [book] = books.supplied
            allowance = known(book.allowance, "there is a quota")
            await books.allowances.end(allowance, 5, 7)
            account = known(books.ledger.account("sink:127.0.0.1"), "it has had power")
            assert (account.debit, account.reserved) == (5, 7)


@pytest.mark.requirement("LEDG-6-04")
async def test_one_price_instead_of_another_is_proposed_to_every_flow(tmp_path: Path) -> None:
    async with billed(tmp_path, tariff=prices(36_000_000_000)) as (_, books, address):
        async with client(address) as sink:
            payer = Payer(sink)
            flow = payer.ask("12V/5A", NEVER)
            await payer.until(SamplesReceived, 3)
            pricing = known(books.pricing, "there is a tariff")
            pricing.replace(prices(72_000_000_000))
            await payer.until(PowerReady, 2)
            await payer.until(SamplesReceived, 3 + payer.count(SamplesReceived))
            await payer.close(flow)
    assert [page.cost_micro * 50 // page.energy_uj for page in payer.pages] == [0, 1]


@pytest.mark.requirement("LEDG-7-03")
async def test_a_ledger_has_one_currency(tmp_path: Path) -> None:
    async with billed(tmp_path, tariff=prices(36_000_000_000)) as (_, books, address):
        pricing = known(books.pricing, "there is a tariff")
        with pytest.raises(ConfigError, match="prices in USD, the accounts are in EUR"):
            pricing.replace(prices(1, currency="USD"))
        assert pricing.document.currency == "EUR"
        async with client(address) as sink:
            payer = Payer(sink)
            flow = payer.ask("12V/5A")
            await payer.until(SamplesReceived, 3)
            await payer.close(flow)
    async with open_ledger(tmp_path, os.urandom) as ledger:
        with pytest.raises(ConfigError, match="prices in USD, the accounts are in EUR"):
            ProviderBooks(ledger, tariff=prices(1, currency="USD"))
        ProviderBooks(ledger, tariff=prices(2))
