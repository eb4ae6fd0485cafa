"""The policeman on real sockets: nothing is told before it is on disk, nothing is charged twice."""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio

from powertcp.cli.pdp_bills import ledger_difference
from powertcp.drivers import pdp
from powertcp.drivers.dial import listen
from powertcp.drivers.ledger import open_ledger
from powertcp.drivers.pdp import PdpServer
from powertcp.drivers.pdp_books import MarketBooks
from powertcp.drivers.pdp_desk import PdpDesk
from powertcp.drivers.pdp_lines import Kept
from powertcp.errors import HostError, LedgerBroken
from powertcp.mplamps.market import Bill, amount_of
from powertcp.mplamps.policeman import MAX_UNOPENED
from powertcp.mplamps.tariffs import parse_market
from powertcp.registry import Reason, Refusal
from powertcp.store import Answer, Event, Job, LedgerStore
from tests.drivers.policing import Caller
from tests.policed import MARKET, limit, path_objects, street

TOPOLOGY = street()
# prices that the time of day does not change
FLAT = MARKET.replace(', {at = "18:00", price = "0.3100/kWh"}', "")


def entropy(count: int) -> bytes:
    return bytes(range(count))


class Watched(PdpServer):
    """A policeman whose every turn is news, and once more when it is on the disk."""

    news = trio.Event()

    def turn(self) -> None:
        super().turn()
        self._tell()
        self.books.when_written(self._tell)

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()


class Station:
    """A policeman that serves."""

    def __init__(self, server: Watched, port: int) -> None:
        self.server, self.port = server, port
        self.desk = PdpDesk(server)

    async def until(self, is_there: Callable[[], object]) -> None:
        """Wait until something holds of the policeman, who hears on sockets."""
        with trio.fail_after(30):
            while not is_there():
                await self.server.news.wait()

    async def booked(self, energy_uj: int) -> None:
        await self.until(lambda: self.server.books.booked_uj == energy_uj)


@asynccontextmanager
async def station(state: Path, market: str = FLAT) -> AsyncIterator[Station]:
    server = Watched(TOPOLOGY, parse_market(market, "market", TOPOLOGY))
    async with open_ledger(state, entropy) as ledger:
        kept = Kept()
        await ledger.read_events(kept.take)
        books = MarketBooks(ledger, "EUR", kept)
        server.begin(books, kept)
        async with books.keeping(), trio.open_nursery() as nursery:
            listeners = listen([("127.0.0.1", 0)])
            port = listeners[0].getsockname()[1]
            await nursery.start(server.serve, listeners)
            yield Station(server, port)
            server.stop()


def difference(state: Path, bills: list[Bill]) -> int:
    with LedgerStore(state / "ledger.db", read_only=True) as store:
        assert set(store.trial_balance().values()) <= {0}
        return ledger_difference(store, bills)


@pytest.mark.requirement("MPLA-6-03", "MPLA-6-04", "MPLA-6-07")
async def test_a_circuit_is_billed_and_the_ledger_agrees(tmp_path: Path) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        handle = await caller.light()
        # the parts of a bill are rounded: they go up and down by a millionth
        for energy_uj in (1, 17, 10**6, 123_456_789, 3):
            await caller.tell(handle, energy_uj)
        total_uj = caller.registers[handle]
        await caller.end(handle)
        await one.until(lambda: not len(one.server.police))
        assert await one.server.books.written()
        bills = one.server.police.bills()
        status = await one.desk.status({})
        assert isinstance(status, dict)
        assert (status["circuits"], status["edges"], status["booked_uj"]) == (0, ["h1"], total_uj)
    amount, fee = amount_of(total_uj * 290_000), amount_of(total_uj * 80_000)
    assert bills == [Bill("Ada", 7, total_uj, amount, amount - fee, fee)]
    assert difference(tmp_path, bills) == 0


@pytest.mark.requirement("MPLA-6-07")
async def test_a_price_below_zero_is_paid_to_the_customer(tmp_path: Path) -> None:
    caller = Caller(TOPOLOGY)
    market = FLAT.replace('"0.2100/kWh"', '"-0.5000/kWh"')
    async with station(tmp_path, market) as one, caller.connected(one.port):
        handle = await caller.light()
        await caller.tell(handle, 3_600_000_000)
        await one.booked(3_600_000_000)
        bills = one.server.police.bills()
    assert bills == [Bill("Ada", 7, 3_600_000_000, -420, -500, 80)]
    assert difference(tmp_path, bills) == 0


class Slow:
    """Holds each commit back until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        commit = LedgerStore.commit

        def held(store: LedgerStore, jobs: list[Job], at_ns: int) -> list[Answer]:
            self.begun.set()
            self.go.wait(30)
            return commit(store, jobs, at_ns)

        monkeypatch.setattr(LedgerStore, "commit", held)


@pytest.mark.requirement("LEDG-7-06")
async def test_no_decision_is_told_before_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        slow = Slow(monkeypatch)
        asked = trio.Event()

        async def ask() -> None:
            await caller.ask()
            asked.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.to_thread.run_sync(slow.begun.wait)
            assert len(one.server.police) == 1
            with trio.move_on_after(0.1):
                await asked.wait()
            assert not asked.is_set()
            slow.go.set()
            with trio.fail_after(30):
                await asked.wait()


@pytest.mark.requirement("LEDG-7-07")
async def test_who_cannot_write_the_books_goes_off_duty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(store: LedgerStore, jobs: list[Job], at_ns: int) -> list[Answer]:
        raise HostError(28, "ledger.db", "write")

    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        monkeypatch.setattr(LedgerStore, "commit", refused)
        await caller.ask()
        assert caller.decided.popitem()[1].is_local or not caller.is_connected
        await caller.until(lambda: not caller.is_connected)
        assert "602" in one.server.fault
        assert not await one.server.books.written()
        answer = await one.desk.set_price({"supplier": 7, "price": 1})
        assert isinstance(answer, Refusal)
        assert answer.code == Reason.MAINTENANCE
        monkeypatch.undo()
    assert "ledger: 602" in caplog.text


@pytest.mark.requirement("MPLA-6-04", "MPLA-6-07")
async def test_who_begins_again_charges_nothing_twice(tmp_path: Path) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        handle, other = await caller.light(), await caller.light(tunnel=2)
        await caller.tell(handle, 1_000)
        await caller.tell(other, 50)
        await one.booked(1_050)
        assert isinstance(await one.desk.set_price({"supplier": 9, "price": 77}), dict)
        assert isinstance(await one.desk.pay({"customer": "Ada", "amount": 5}), dict)
    caller.registers[handle] += 500
    async with station(tmp_path) as one:
        assert len(one.server.police) == 2
        assert one.server.police.state.price(9, one.server.now()) == 77
        async with caller.connected(one.port):
            await one.until(lambda: one.server.notes.counts["admitted again"] == 2)
            await caller.end(handle)
            await caller.end(other)
            await one.booked(500)
            await one.until(lambda: not len(one.server.police))
        bills = one.server.police.bills()
    assert [bill.energy_uj for bill in bills] == [1_550]
    assert difference(tmp_path, bills) == 0


@pytest.mark.requirement("MPLA-6-01")
async def test_a_price_is_told_to_running_circuits(tmp_path: Path) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        handle = await caller.light()
        caller.registers[handle] = 1_000_000
        assert isinstance(await one.desk.set_price({"supplier": 7, "price": 400_000}), dict)
        await caller.until(lambda: caller.prices == [480_000])
        await one.booked(1_000_000)
        await caller.tell(handle, 10)
        await one.booked(1_000_010)
        total = one.server.police.state.total("Ada", 7)
    assert total.for_supply == 1_000_000 * 210_000 + 10 * 400_000


@pytest.mark.requirement("MPLA-6-06")
async def test_orders_that_are_none_change_nothing(tmp_path: Path) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        desk = one.desk
        for answer in (
            await desk.set_price({"supplier": 8, "price": 1}),
            await desk.set_price({"supplier": 7, "price": "1"}),
            await desk.set_price({"supplier": 7, "price": 10**12 + 1}),
            await desk.set_price({"supplier": True, "price": 1}),
            await desk.withdraw({"supplier": 8}),
            await desk.withdraw({}),
            await desk.pay({"customer": "Eve", "amount": 1}),
            await desk.pay({"customer": "Ada", "amount": 0}),
            await desk.bills({"from": -1}),
        ):
            assert isinstance(answer, Refusal)
            assert answer.code == Reason.POLICY
        refused = await caller.ask(limit=limit(1))
        assert refused.quote is None
        found = await desk.explain({"what": "h1/lamp-1"})
        assert isinstance(found, dict)
        rows = found["explanations"]
        assert isinstance(rows, list)
        assert [row["code"] for row in rows] == [Reason.TARIFF]
        assert "limit 1" in rows[0]["sentence"]
        assert await desk.explain({"what": "h2/lamp-2"}) == {"explanations": []}
        # who asks its edge LSR wants to be told what there is: nothing is refused
        asked = await caller.ask("h1")
        assert asked.quote is None
        assert one.server.notes.counts["asked for offers"] == 1
        assert await desk.explain({}) == found
        assert await desk.bills({}) == {"bills": [], "count": 0, "residual_micro": 0}


@pytest.mark.requirement("MPLA-6-04")
async def test_a_bankrupt_supplier_is_told_and_the_last_meter_is_on_the_bill(
    tmp_path: Path,
) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        handle = await caller.light()
        caller.registers[handle] = 4_242
        assert isinstance(await one.desk.withdraw({"supplier": 7}), dict)
        await caller.until(lambda: caller.decided[handle].quote is None)
        await one.until(lambda: not len(one.server.police))
        await one.booked(4_242)
    async with station(tmp_path) as one:
        assert [row.number for row in one.server.police.state.sellers()] == [9]
        answer = await one.desk.set_price({"supplier": 7, "price": 400_000})
        assert isinstance(answer, Refusal)
        assert answer.sentence() == (
            "206 POLICY: refused by policy (supplier 7 is withdrawn: restore it first)"
        )
        assert await one.desk.restore({"supplier": 7}) == {"supplier": 7, "is_selling": True}
        for wrong in ({"supplier": 7}, {"supplier": 8}, {"supplier": "7"}):
            assert isinstance(await one.desk.restore(wrong), Refusal)
    async with station(tmp_path) as one, caller.connected(one.port):
        await caller.light()
        assert one.server.police.state.withdrawn == []


async def test_octets_of_strangers_end_their_connection_only(tmp_path: Path) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        handle = await caller.light()
        for octets in (b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\x10\x06\x00\x01\xff\xff\xff\xff"):
            stranger = await trio.open_tcp_stream("127.0.0.1", one.port)
            async with stranger:
                await stranger.send_all(octets)
                with trio.fail_after(30):
                    while await stranger.receive_some():
                        pass
        await caller.tell(handle, 9)
        await one.booked(9)
        assert len(one.server.police.peps) == 1


@pytest.mark.requirement("MPLA-4.10-03")
async def test_connections_that_say_nothing_are_few_and_others_are_served(tmp_path: Path) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one:
        silent = []
        for _ in range(MAX_UNOPENED + 1):
            stream = await trio.open_tcp_stream("127.0.0.1", one.port)
            silent.append(stream)
        with trio.fail_after(30):
            assert await silent[-1].receive_some() == b""
        await one.until(lambda: one.server.police.counters["too many connections"] == 1)
        await silent.pop().aclose()
        await silent.pop().aclose()
        async with caller.connected(one.port):
            await caller.light()
        for stream in silent:
            await stream.aclose()


async def test_who_reads_too_slowly_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        await caller.light()
        slow = Slow(monkeypatch)
        monkeypatch.setattr(pdp, "MAX_QUEUED", 1_000)
        for tunnel in range(2, 40):
            source = TOPOLOGY.node("es1").address
            path = pdp_path(source, caller, tunnel)
            caller.pep.ask(caller.interface, path, 0, 0)
        await caller.flush()
        await one.until(lambda: not one.server.police.peps)
        slow.go.set()
    assert "reads too slowly: 1000 octets wait" in caplog.text


def pdp_path(source: IPv4Address, caller: Caller, tunnel: int) -> bytes:
    return path_objects(source, caller.lamp.address, tunnel=tunnel)


async def test_drained_it_tells_edge_lsrs_and_their_circuits_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caller = Caller(TOPOLOGY)
    async with station(tmp_path) as one, caller.connected(one.port):
        await caller.light()
        await one.server.drain()
        await caller.until(lambda: not caller.is_connected)
        assert len(caller.pep) == 1
    async with station(tmp_path) as one:
        assert len(one.server.police) == 1
    assert "edge LSR h1 is there" in caplog.text


def test_a_line_that_is_none_breaks_the_ledger() -> None:
    for facts in ("{}", '{"supplier":"7","price":1}', '{"supplier":7,"price":"1"}'):
        with pytest.raises(LedgerBroken, match="event 5"):
            Kept().take(Event(5, 0, "market-price", facts))
    kept = Kept()
    kept.take(Event(6, 0, "tariff", "{}"))
    kept.take(Event(7, 0, "market-price", '{"supplier":7,"price":1}'))
    assert kept.prices == {7: 1}
    kept.take(Event(8, 0, "market-taken", "{}"))
    assert kept.prices == {}
