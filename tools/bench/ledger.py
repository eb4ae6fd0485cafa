"""Acknowledged postings a second, on the disk: the ledger of a daemon against bare SQLite."""

import hashlib
import itertools
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trio

from powertcp.drivers.ledger import GROUP, Ledger, open_ledger
from powertcp.ledger import START, Code, Entry, Transfer, entry_chain, transfer_key
from powertcp.store import LedgerStore
from tools.bench.harness import Options, Pair, Sample, Side, WrongResultError, bench

APPENDERS = 200
MOST_A_SECOND = 40_000
NOON = 1_800_000_000_000_000_000
TABLES = """
CREATE TABLE account (id INTEGER PRIMARY KEY, debit INTEGER DEFAULT 0, credit INTEGER DEFAULT 0);
CREATE TABLE journal (
  seq INTEGER PRIMARY KEY, at INTEGER, kind INTEGER, code INTEGER, key BLOB UNIQUE, debit INTEGER,
  credit INTEGER, amount INTEGER, pending INTEGER, link INTEGER, memo TEXT, chain BLOB
);
"""
DEBIT = "UPDATE account SET debit = debit + ? WHERE id = ?"
CREDIT = "UPDATE account SET credit = credit + ? WHERE id = ?"
INSERT = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that holds temporary files."""
    name = tempfile.mkdtemp(prefix="powertcp-bench-")
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name)


def transfer(number: int) -> Transfer:
    """Energy of one of 200 flows."""
    debit = f"sink:{number % APPENDERS}"
    key = transfer_key(START, number, "energy", debit, "source:main")
    return Transfer(
        key=key, debit=debit, credit="source:main", unit="uJ", amount=1 + number % 1000,
        code=Code.RECEIPT,
    )  # fmt: skip


def judged(path: Path, count: int) -> None:
    """What was acknowledged is in the ledger, and the ledger is right."""
    with LedgerStore(path, read_only=True) as store:
        entries, wrong = sum(1 for _ in store.entries()), store.verify()
    if entries != count or wrong:
        raise WrongResultError(f"{count} acknowledged, {entries} found, {wrong[:3]}")


def appenders(seconds: float) -> Sample:
    """200 tasks that post and wait for the disk."""

    # what is posted is there before: the peer's records are made of a number, too
    made = [transfer(number) for number in range(round(MOST_A_SECOND * seconds))]

    async def post(ledger: Ledger, numbers: Iterator[int], end: float) -> None:
        while time.monotonic() < end:
            await ledger.post(made[next(numbers)])

    async def run(path: Path) -> tuple[int, float, float]:
        numbers = itertools.count()
        async with open_ledger(path, os.urandom) as ledger:
            start, cpu = time.monotonic(), time.process_time()
            async with trio.open_nursery() as nursery:
                for _ in range(APPENDERS):
                    nursery.start_soon(post, ledger, numbers, start + seconds)
            return next(numbers), time.monotonic() - start, time.process_time() - cpu

    with folder() as path:
        count, wall, cpu = trio.run(run, path)
        judged(path / "ledger.db", count)
    return Sample(count / wall, {"cpu_us": cpu / count * 1e6})


def bare(seconds: float) -> Sample:
    """Chained records and both balances in groups of 64, with the same durability."""
    with folder() as path:
        connection = sqlite3.connect(path / "bare.db", isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(TABLES)
        connection.executemany(
            "INSERT INTO account (id) VALUES (?)", [(number,) for number in range(APPENDERS + 1)]
        )
        chain, count = START, 0
        start, cpu = time.monotonic(), time.process_time()
        while time.monotonic() < start + seconds:
            rows = []
            for number in range(count, count + GROUP):
                key = hashlib.blake2s(number.to_bytes(8, "big")).digest()[:16]
                debit, amount = number % APPENDERS, 1 + number % 1000
                entry = Entry(number + 1, NOON, 0, 1, key, debit, APPENDERS, amount, 0, 0, "")
                chain = entry_chain(chain, entry)
                rows.append((*entry[:-1], chain))
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, rows)
            connection.executemany(DEBIT, [(row[7], row[5]) for row in rows])
            connection.executemany(CREDIT, [(row[7], row[6]) for row in rows])
            connection.execute("COMMIT")
            count += GROUP
        wall, cpu = time.monotonic() - start, time.process_time() - cpu
        wrong = connection.execute("SELECT sum(debit) - sum(credit) FROM account").fetchone()[0]
        connection.close()
        if wrong:
            raise WrongResultError(f"the peer is {wrong} uJ out of balance")
    return Sample(count / wall, {"cpu_us": cpu / count * 1e6})


def stored(size: int) -> Side:
    """The store alone, without tasks: groups of `size`."""

    def run(seconds: float) -> Sample:
        with folder() as path:
            count = 0
            with LedgerStore(path / "ledger.db") as store:
                start = time.monotonic()
                while time.monotonic() < start + seconds:
                    batches = [(transfer(number),) for number in range(count, count + size)]
                    store.append(batches, NOON)
                    count += size
                wall = time.monotonic() - start
            judged(path / "ledger.db", count)
        return Sample(count / wall)

    return run


def verified(count: int) -> float:
    """Microseconds of CPU for each record that a full verification checks."""
    with folder() as path, LedgerStore(path / "ledger.db") as store:
        for first in range(0, count, GROUP):
            last = min(count, first + GROUP)
            store.append([(transfer(number),) for number in range(first, last)], NOON)
        cpu = time.process_time()
        if wrong := store.verify():
            raise WrongResultError(f"{wrong[:3]}")
        return (time.process_time() - cpu) / count * 1e6


def figures(options: Options) -> Mapping[str, float]:
    """Groups against single commits, and the cost of a verification at n and 10 n."""
    seconds, count = (0.05, 200) if options.smoke else (1.0, 5_000)
    alone, group = stored(1)(seconds).value, stored(GROUP)(seconds).value
    few, many = verified(count), verified(10 * count)
    return {
        "group_per_single": group / alone,
        "single": alone,
        "verify_us": many,
        "verify_10n_per_n": many / few,
    }


@bench(
    "ledger-append",
    unit="acknowledged/s",
    peer="sqlite3: record, balances, groups of 64",
    must=0.8,
    stretch=0.95,
    seconds=2.0,
)
def ledger_append(options: Options) -> Pair:
    """200 appenders that wait for the disk; wall time, as the disk is what they wait for."""
    ours: Callable[[float], Sample] = appenders
    return Pair(ours, bare, figures=lambda: figures(options))
