"""`powertcp mplamps pdp` as a process: killed and begun again, ordered about, and billing exactly."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from powertcp.mplamps.market import amount_of
from powertcp.mplamps.plans import parse_topology
from powertcp.store import LedgerStore
from tests.drivers.policing import Caller, free_port
from tests.drivers.processes import Running, running
from tests.policed import MARKET, street_text

FLAT = MARKET.replace(', {at = "18:00", price = "0.3100/kWh"}', "")


class Town:
    """Documents of a street and its market, and what is said to `powertcp mplamps pdp`."""

    def __init__(self, folder: Path, market: str = FLAT) -> None:
        self.folder = folder
        self.street, self.market = folder / "street.toml", folder / "market.toml"
        self.street.write_text(street_text())
        self.market.write_text(market)
        self.state = folder / "books"
        self.socket = folder / "pdp.sock"
        self.port = free_port()
        self.topology = parse_topology(street_text(), "street")

    @property
    def words(self) -> tuple[str, ...]:
        plans = "--topology", str(self.street), "--market", str(self.market)
        return ("mplamps", "pdp", *plans, "--state-dir", str(self.state))

    @asynccontextmanager
    async def policed(self, *words: str) -> AsyncIterator[Running]:
        where = "--listen", f"127.0.0.1:{self.port}", "--control", str(self.socket)
        async with running(self.folder, *self.words, *where, "-v", *words) as one:
            await one.until("listening")
            yield one

    async def order(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "powertcp", "mplamps", "pdp", *words]
        return await _run(command)

    async def told(self, *words: str) -> subprocess.CompletedProcess[str]:
        return await self.order("--control", str(self.socket), *words)

    async def bills(self) -> tuple[list[dict[str, object]], int]:
        """Return the lines of `--bill --json`, and the exit status."""
        done = await _run([sys.executable, "-m", "powertcp", *self.words, "--bill", "--json"])
        return [json.loads(line) for line in done.stdout.splitlines()], done.returncode

    def register(self) -> int:
        """Return the energy that is on the disk."""
        with LedgerStore(self.state / "ledger.db", read_only=True) as store:
            return sum(one.debit for one in store.accounts() if one.name == "sink:Ada")


async def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(command, done.returncode, out, err)


@pytest.mark.requirement("MPLA-6-02", "MPLA-6-04", "MPLA-6-07")
async def test_killed_again_and_again_it_bills_what_was_metered(tmp_path: Path) -> None:
    town = Town(tmp_path)
    caller = Caller(town.topology)
    handle = b""
    for round_ in range(4):
        async with town.policed() as police, caller.connected(town.port):
            if not round_:
                handle = await caller.light()
            else:
                # it is asked for again, and answered
                await police.until_logged("h1/lamp-1: 59.8 W for Ada from supplier 7")
            for step in range(25):
                await caller.tell(handle, 1_000 + 37 * step + round_)
            if round_ < 3:
                police.signal(signal.SIGKILL)
                await police.end()
                assert town.register() <= caller.registers[handle]
                continue
            energy_uj = caller.registers[handle]
            await caller.end(handle)
            done = await town.told("--pay", "Ada=0.01")
            assert done.returncode == 0, done.stderr
            police.signal(signal.SIGTERM)
            assert await police.end() == 0
    rows, status = await town.bills()
    assert status == 0, rows
    [bill] = [row for row in rows if "energy_uj" in row]
    assert bill["energy_uj"] == energy_uj == town.register()
    assert bill["amount_micro"] == amount_of(energy_uj * 290_000)
    assert rows[-1] == {"residual_micro": 0, "ledger_difference_micro": 0}
    assert {"customer": "Ada", "paid_micro": 10_000} in rows


@pytest.mark.requirement("MPLA-6-01", "MPLA-6-07")
async def test_prices_and_withdrawals_are_ordered_and_billed(tmp_path: Path) -> None:
    town = Town(tmp_path)
    caller = Caller(town.topology)
    async with town.policed() as police, caller.connected(town.port):
        handle = await caller.light()
        caller.registers[handle] = 3_600_000_000
        done = await town.told("--set-price", "7=0.40")
        assert (done.returncode, done.stdout) == (0, "set-price 7=0.40: done\n"), done.stderr
        await caller.until(lambda: caller.prices == [480_000])
        await caller.tell(handle, 1_800_000_000)
        done = await town.told("--withdraw", "7", "--json")
        assert json.loads(done.stdout) == {"supplier": 7, "is_selling": False}
        await caller.until(lambda: caller.decided[handle].quote is None)
        done = await town.told("--set-price", "7=0.30")
        assert (done.returncode, "supplier 7 is withdrawn" in done.stderr) == (1, True)
        assert "rule line" not in done.stderr
        done = await town.told("--restore", "7")
        assert (done.returncode, done.stdout) == (0, "restore 7: done\n"), done.stderr
        done = await town.told("--pay", "Ada=0.000100")
        assert done.returncode == 0, done.stderr
        refusals = [
            await town.told("--set-price", "8=0.40"),
            await town.told("--withdraw", "8"),
            await town.told("--pay", "Eve=1"),
        ]
        assert [one.returncode for one in refusals] == [1, 1, 1]
        assert "no supplier 8 in the market" in refusals[0].stderr
        police.signal(signal.SIGTERM)
        assert await police.end() == 0
    assert "h1/lamp-1: a circuit was ended: 104, supplier 7 sells nothing" in police.log
    done = await _run([sys.executable, "-m", "powertcp", *town.words, "--bill"])
    assert done.returncode == 0, done.stderr
    # 1 Wh at 0.21, half of one at 0.40, and 0.08 for the network
    assert re.sub(r" {2,}", "  ", done.stdout) == (
        "INVOICE  Ada\n"
        "  SUPPLIER  ENERGY  SUPPLY  NETWORK  AMOUNT\n"
        "  7 Watt and Sons  5,400.000000 J  0.000410 EUR  0.000120 EUR  0.000530 EUR\n"
        "  sum 0.000530 EUR; paid 0.000100 EUR, open 0.000430 EUR\n\n"
        "residual 0 micro-EUR, difference to the ledger 0 micro-EUR\n"
    )


async def test_the_market_is_read_again_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    town = Town(tmp_path)
    caller = Caller(town.topology)
    async with town.policed() as police, caller.connected(town.port):
        await caller.light()
        for wrong in (FLAT.replace("0.2100/kWh", "cheap"), FLAT.replace('"EUR"', '"SEK"')):
            town.market.write_text(wrong)
            police.signal(signal.SIGHUP)
            await police.until_logged("configuration kept", 1 + ("SEK" in wrong))
        assert caller.prices == []
        town.market.write_text(FLAT.replace("0.2100/kWh", "0.2200/kWh"))
        police.signal(signal.SIGHUP)
        await police.until_logged("market read again: 2 suppliers")
        await caller.until(lambda: caller.prices == [300_000])
        police.signal(signal.SIGUSR1)
        await police.until_logged("serves 1 circuit, 1 of 2 edge LSRs are there")


async def test_what_cannot_be_served_is_said_in_one_line(tmp_path: Path) -> None:
    town = Town(tmp_path)
    plans = "--topology", str(town.street), "--market", str(town.market)
    for words, status, said in (
        ((), 2, "--topology FILE"),
        (("--topology", str(town.street)), 2, "--market FILE"),
        (("--topology", "street:1", "--market", str(town.market)), 2, "is no ES of the topology"),
        (("--set-price", "7"), 2, "ID=PRICE"),
        (("--set-price", "x=1"), 2, "a supplier is a number"),
        (("--set-price", "7=much"), 2, "at most 6 decimals"),
        (("--pay", "Ada"), 2, "NAME=AMOUNT"),
        (("--withdraw", "Watt"), 2, "a supplier is a number"),
        (("--restore", "Watt"), 2, "a supplier is a number"),
        (("--bill", "--withdraw", "7"), 2, "choose one"),
        (("--withdraw", "7", "--control", str(tmp_path / "none.sock")), 3, "no running policeman"),
        ((*plans, "--bill", "--state-dir", str(tmp_path)), 2, "no ledger in"),
        ((*plans, "--listen", "192.0.2.1", "--state-dir", str(town.state)), 2, "not an address"),
    ):
        done = await town.order(*words)
        assert (done.returncode, said in done.stderr) == (status, True), (words, done.stderr)
        if "choose" not in said:
            assert len(done.stderr.splitlines()) == 1, done.stderr
    town.market.write_text(FLAT.replace('"Ada"', '"network"'))
    done = await town.order(*plans, "--check")
    assert done.returncode == 2
    assert "another party" in done.stderr
    town.market.write_text(FLAT)
    done = await town.order(*plans, "--check")
    assert done.returncode == 0, done.stderr


async def test_books_in_one_currency_are_not_gone_on_with_in_another(tmp_path: Path) -> None:
    town = Town(tmp_path)
    caller = Caller(town.topology)
    async with town.policed() as police, caller.connected(town.port):
        await caller.light()
        police.signal(signal.SIGTERM)
        assert await police.end() == 0
    town.market.write_text(FLAT.replace('"EUR"', '"SEK"'))
    done = await _run([sys.executable, "-m", "powertcp", *town.words, "--bill"])
    assert done.returncode == 2
    assert "the books are in EUR" in done.stderr
