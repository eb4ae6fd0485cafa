"""A provider, a consumer and an audit of their books, as real processes."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from powertcp.registry import Reason
from tests.drivers.processes import Running, provider, running


def ledger(*words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "powertcp", "ledger", *words]
    return subprocess.run(command, capture_output=True, timeout=60)


def records(*words: str) -> list[dict[str, object]]:
    ran = ledger(*words, "--json")
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.requirement("LEDG-8-01", "LEDG-6-02")
async def test_the_books_of_both_ends_agree_and_so_do_their_bills(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"currency": "EUR", "price_micro_per_kwh": 36000000000}')
    ours, theirs = tmp_path / "provider", tmp_path / "consumer"
    offered = ("--supply", "12V/5A", "--state-dir", str(ours), "--tariff", str(prices))
    async with provider(tmp_path, *offered) as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--state-dir", str(theirs),
            "--request", "12V/1A", "--for", "3s",
        ) as sink:  # fmt: skip
            assert await sink.end() == 0
            banked = sink.all("done")[0]["energy_uj"]
        source.signal(signal.SIGTERM)
        assert await source.end() == 0
    books = [str(folder / "ledger.db") for folder in (ours, theirs)]
    [law] = [one for one in records("audit", *books) if one["record"] == "law"]
    assert (law["residual_uj"], law["faults"], law["open_pages"]) == (0, 0, 0)
    assert law["energy_uj"] == banked == 36_000_000
    for book in books:
        ran = ledger("verify", "--full", "--state-dir", book)
        assert ran.returncode == 0
    pages = [ledger("export", "pages", "--state-dir", book).stdout for book in books]
    assert pages[0] == pages[1]


async def test_a_ledger_that_another_process_has_is_one_line(tmp_path: Path) -> None:
    words = ("--supply", "12V/5A", "--state-dir", str(tmp_path / "books"))
    async with provider(tmp_path, *words):
        async with running(tmp_path, "provider", "--listen", "127.0.0.1:0", *words) as other:
            assert await other.end() == 2
            await other.until_closed()
            assert other.log.count("\n") == 1
            assert "which process" in other.log
            assert "another --state-dir" in other.log


async def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    words = ("provider", "--supply", "12V/5A", "--listen", "127.0.0.1:0")
    async with running(tmp_path, *words, "--state-dir", "/proc/powertcp") as source:
        assert await source.end() == 2
        await source.until_closed()
        assert source.log.count("\n") == 1
        assert "/proc/powertcp" in source.log


async def test_a_ledger_that_was_altered_is_not_opened(tmp_path: Path) -> None:
    state = tmp_path / "books"
    words = ("--supply", "12V/5A", "--state-dir", str(state))
    async with provider(tmp_path, *words) as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "12V/1A", "--for", "1s"
        ) as sink:
            assert await sink.end() == 0
        source.signal(signal.SIGTERM)
        assert await source.end() == 0
    path = state / "ledger.db"
    octets = path.read_bytes()
    assert octets.count(b"sink:127.0.0.1") >= 1
    path.write_bytes(octets.replace(b"sink:127.0.0.1", b"sink:127.0.0.2"))
    async with running(tmp_path, "provider", "--listen", "127.0.0.1:0", *words) as again:
        assert await again.end() == 1
        await again.until_closed()
        assert again.log.count("\n") == 1
        assert "ledger.db: " in again.log
        assert "chain" in again.log


async def test_prices_in_another_currency_than_the_accounts_are_one_line(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"currency": "EUR", "price_micro_per_kwh": 36000000000}')
    words = ("--supply", "12V/5A", "--state-dir", str(tmp_path / "books"), "--tariff", str(prices))
    async with provider(tmp_path, *words) as (source, address):
        async with running(
            tmp_path, "consumer", "--connect", address, "--request", "12V/1A", "--for", "1s"
        ) as sink:
            assert await sink.end() == 0
        prices.write_text('{"currency": "CHF", "price_micro_per_kwh": 36000000000}')
        source.signal(signal.SIGHUP)
        await source.until_logged("configuration kept: configuration: tariff: prices in CHF")
        source.signal(signal.SIGTERM)
        assert await source.end() == 0
    async with running(tmp_path, "provider", "--listen", "127.0.0.1:0", *words) as again:
        assert await again.end() == 2
        await again.until_closed()
        assert again.log.count("\n") == 1
        assert "prices in CHF, the accounts are in EUR" in again.log


@pytest.mark.requirement("LEDG-7-05")
async def test_quota_and_receipts_are_read_again_and_power_stays_on(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"

    def offer(text: str) -> None:
        said = f'listen = ["127.0.0.1:0"]\nsupply = ["12V/5A"]\nstate_dir = "{tmp_path}/books"\n'
        file.write_text(f"{said}{text}\n", encoding="utf-8")

    async def asking(address: str, status: int, *words: str) -> Running:
        ask = ("consumer", "--connect", address, "--request", "12V/0.1A", "--for", "200ms")
        async with running(tmp_path, *ask, *words) as sink:
            assert await sink.end() == status
            await sink.until_closed()
        return sink

    offer('rating = "50W"')
    async with running(tmp_path, "provider", "--config", str(file)) as source:
        address = (await source.until("listening"))["addresses"][0]
        lamp = ("consumer", "--connect", address, "--request", "12V/1A", "--receipts", "1s")
        async with running(tmp_path, *lamp, "--state-dir", str(tmp_path / "lamp")) as sink:
            await sink.until("ready")
            await asking(address, 0, "--no-ledger")
            offer('rating = "51W"\nrequire_receipts = true')
            source.signal(signal.SIGHUP)
            await source.until_logged("rating 51 W")
            refused = await asking(address, 1, "--no-ledger")
            assert refused.all("refused")[0]["code"] == Reason.PAYMENT_REQUIRED
            offer('rating = "52W"\nquota = "1J"')
            source.signal(signal.SIGHUP)
            await source.until_logged("rating 52 W")
            await sink.until("receipt")
            spent = await asking(address, 1, "--state-dir", str(tmp_path / "other"))
            assert spent.all("refused")[0]["code"] == Reason.ENERGY_QUOTA
            offer('rating = "53W"')
            source.signal(signal.SIGHUP)
            await source.until_logged("rating 53 W")
            await asking(address, 0, "--no-ledger")
            await sink.until("receipt", 2)
            assert sink.names() == ["granted", "ready"]
            sink.signal(signal.SIGTERM)
            assert await sink.end() == 0


async def test_a_quota_needs_the_ledger_from_the_start(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    said = 'listen = ["127.0.0.1:0"]\nsupply = ["12V/5A"]\n'
    file.write_text(f"{said}ledger = false\n", encoding="utf-8")
    async with running(tmp_path, "provider", "--config", str(file)) as source:
        await source.until("listening")
        file.write_text(f'{said}quota = "1J"\n', encoding="utf-8")
        source.signal(signal.SIGHUP)
        await source.until_logged(
            "configuration kept: configuration: ledger: receipts and quotas need one, and it is"
        )
