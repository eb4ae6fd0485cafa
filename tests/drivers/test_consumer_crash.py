"""A consumer that is killed, or whose disk fills: what it countersigned is in its books, and once."""

import logging
import random
import resource
import time
from collections import Counter
from pathlib import Path

import pytest
import trio

from powertcp.ledger import Code, Page
from powertcp.potcp.events import FlowClosed
from powertcp.registry import Reason
from powertcp.store import LedgerStore, PageState
from powertcp.wire.options import Tariff
from tests.drivers.metered import MeteredProvider
from tests.drivers.processes import running
from tests.full import size

FLOWS = 4
PRICE = Tariff(bytes([7]) * 32, "EUR", 36_000_000)
_log = logging.getLogger("test")


def words(address: str, state: Path, *more: str) -> tuple[str, ...]:
    return ("consumer", "--connect", address, "--state-dir", str(state), "--receipts", "1s", *more)


def check(state: Path, signed: list[bytes]) -> tuple[int, int]:
    """Compare the books with what was countersigned; returns their pages and their energy."""
    with LedgerStore(state / "ledger.db", read_only=True) as store:
        assert store.verify() == []
        held = {row.body: row.state for row in store.pages()}
        for body in signed:
            assert held[body] == PageState.COUNTERSIGNED
        pages = [Page.from_wire(body) for body in held]
        posted = Counter((entry.code, entry.memo) for entry in store.entries())
        due = [f"flow {page.transcript.hex()}/{page.page}" for page in pages if page.energy_uj]
        codes = (Code.RECEIPT, Code.LOAD, Code.MONEY)
        assert posted == Counter((code, memo) for memo in due for code in codes)
        balance = {one.name: one.debit - one.credit for one in store.accounts()}
    energy_uj = sum(page.energy_uj for page in pages)
    assert balance.get("load:none", 0) == energy_uj
    assert balance.get("payer:self", 0) == sum(page.cost_micro for page in pages)
    assert sum(balance.values()) == 0
    return len(pages), energy_uj


@pytest.mark.requirement("LEDG-7-06")
async def test_a_consumer_that_is_killed_has_every_page_it_countersigned_once(
    tmp_path: Path,
) -> None:
    chance = random.Random(1955)
    state = tmp_path / "books"
    rounds = size(3, 200)
    provider = MeteredProvider(tariff=PRICE, receipts=(1, 0), unix_ns=time.time_ns)
    requests = ("--request", "12V/1A") * FLOWS
    pages = energy_uj = 0
    async with provider.serving() as address:
        for _ in range(rounds):
            wanted = len(provider.signed) + chance.randint(1, 3 * FLOWS)
            async with running(tmp_path, *words(address, state, *requests)) as sink:
                await provider.until_signed(wanted)
                await trio.sleep(chance.uniform(0, 0.02))
                sink.process.kill()
                await sink.end()
            pages, energy_uj = check(state, provider.signed)
        # and it goes on with the books as they are
        async with running(tmp_path, *words(address, state, *requests, "--for", "1s")) as sink:
            assert await sink.end() == 0
        pages, energy_uj = check(state, provider.signed)
    assert len(provider.signed) >= rounds
    said = "%d rounds, %d pages countersigned, %d in the books, %d uJ posted, balance 0"
    _log.info(said, rounds, len(provider.signed), pages, energy_uj)


@pytest.mark.requirement("LEDG-7-07")
async def test_on_a_full_disk_nothing_is_countersigned_and_metered_flows_are_closed(
    tmp_path: Path,
) -> None:
    state = tmp_path / "books"
    provider = MeteredProvider(tariff=PRICE, receipts=(1, 0), unix_ns=time.time_ns)
    async with provider.serving() as address:
        async with running(tmp_path, *words(address, state, "--request", "12V/1A")) as sink:
            await provider.until_signed(1)
            # no file of it grows any more
            resource.prlimit(sink.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            failed = await sink.until("ledger failed")
            assert await sink.end() == 1
        assert "602 MAINTENANCE" in failed["sentence"]
        assert "ledger.db" in failed["sentence"]
        closed = await provider.until(FlowClosed)
        assert isinstance(closed, FlowClosed)
        assert closed.refusal is not None
        assert closed.refusal.code == Reason.MAINTENANCE
        assert len(sink.all("ledger failed")) == 1
        signed = list(provider.signed)
        assert check(state, signed)[0] == len(signed)
        # the disk has room again
        again = words(address, state, "--request", "12V/1A", "--for", "1s")
        async with running(tmp_path, *again) as sink:
            assert await sink.end() == 0
        assert check(state, provider.signed)[0] == len(provider.signed) > len(signed)


@pytest.mark.requirement("LEDG-7-07")
async def test_a_ledger_that_cannot_be_written_at_the_start_is_one_line_and_exit_2(
    tmp_path: Path,
) -> None:
    state = tmp_path / "books"
    await trio.Path(state / "ledger.db").mkdir(parents=True)
    asked = words("127.0.0.1:1", state, "--request", "12V/1A")
    async with running(tmp_path, *asked) as sink:
        assert await sink.end() == 2
        await sink.until_closed()
    assert sink.log.count("\n") == 1
    assert str(state) in sink.log


async def test_a_ledger_that_was_altered_is_one_line_and_exit_1(tmp_path: Path) -> None:
    state = tmp_path / "books"
    await trio.Path(state).mkdir(mode=0o700)
    await trio.Path(state / "ledger.db").write_bytes(b"not what was written" * 500)
    asked = words("127.0.0.1:1", state, "--request", "12V/1A")
    async with running(tmp_path, *asked) as sink:
        assert await sink.end() == 1
        await sink.until_closed()
    assert sink.log.count("\n") == 1
    assert "ledger.db" in sink.log


async def test_without_a_ledger_there_are_no_receipts_and_no_files(tmp_path: Path) -> None:
    provider = MeteredProvider(receipts=(1, 0), unix_ns=time.time_ns)
    asked = ("--request", "12V/1A", "--for", "1500ms", "--no-ledger")
    async with (
        provider.serving() as address,
        running(tmp_path, "consumer", "--connect", address, *asked) as sink,
    ):
        assert await sink.end() == 0
    assert provider.sent == []
    assert not await trio.Path(tmp_path / "state").exists()


async def test_a_second_consumer_takes_the_next_folder(tmp_path: Path) -> None:
    provider = MeteredProvider(receipts=(1, 0), unix_ns=time.time_ns)
    async with provider.serving() as address:
        asked = ("consumer", "--connect", address, "--request", "12V/1A", "--receipts", "1s")
        async with running(tmp_path, *asked) as one, running(tmp_path, *asked) as two:
            for sink in (one, two):
                await sink.until("receipt")
            state = tmp_path / "state" / "powertcp"
            refused = (*asked, "--state-dir", str(state / "consumer"))
            async with running(tmp_path, *refused) as three:
                assert await three.end() == 2
                await three.until_closed()
            assert three.log.count("\n") == 1
            assert any(f"which process {sink.pid} writes" in three.log for sink in (one, two))
            assert "--no-ledger" in three.log
        for name in ("consumer", "consumer.2"):
            with LedgerStore(state / name / "ledger.db", read_only=True) as store:
                assert list(store.pages())
