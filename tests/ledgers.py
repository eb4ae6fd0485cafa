"""A ledger with some of everything, its records, and rough hands that alter them."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from powertcp.crypto import SigningKey
from powertcp.errors import HostError
from powertcp.ledger import Code, Kind, LedgerBroken, Posted, Transfer, transfer_key
from powertcp.store import Job, LedgerStore, PageRow, PageState

NOON = 1_800_000_000_000_000_000
TRANSCRIPT = bytes([7]) * 32
METER = SigningKey(bytes(range(32)))
TABLES = ("account", "reservation", "journal", "receipt", "event", "head")
Columns = tuple[object, ...]
Dump = dict[str, list[Columns]]


def transfer(
    page: int,
    amount: int = 1000,
    *,
    debit: str = "sink:lamp",
    credit: str = "source:main",
    unit: str = "uJ",
    kind: Kind = Kind.POST,
    pending: bytes = b"",
    role: str = "energy",
    memo: str = "",
) -> Transfer:
    return Transfer(
        key=transfer_key(TRANSCRIPT, page, role, debit, credit),
        debit=debit, credit=credit, unit=unit, amount=amount, code=Code.RECEIPT, kind=kind,
        pending=pending, memo=memo,
    )  # fmt: skip


def body(page: int) -> bytes:
    return page.to_bytes(4, "big") + bytes(range(256)) + bytes(56)


def page_row(page: int, side: int, state: PageState) -> PageRow:
    signature = bytes(64) if state is PageState.SENT else b"\x5a" * 64
    return PageRow(TRANSCRIPT, page, side, body(page) + signature, state)


def page_job(page: int, *, side: int = 0, state: PageState = PageState.COUNTERSIGNED) -> Job:
    """A page with its energy, its money, the reservation it ends and the one it begins."""
    hold = transfer(page, 2000, kind=Kind.PENDING, role="hold")
    before = transfer(max(page - 1, 0), 2000, kind=Kind.PENDING, role="hold")
    kind = Kind.POST_PENDING if page else Kind.POST
    energy = transfer(page, 1000 + page, kind=kind, pending=before.key if page else b"")
    money = transfer(page, 3, debit="payer:lamp", credit="payee:main", unit="micro-EUR",
                     role="money", memo=f"page {page}")  # fmt: skip
    return Job(page=page_row(page, side, state), transfers=(energy, money, hold))


def fill(store: LedgerStore, pages: int = 12) -> None:
    """Write accounts, pages, events, reservations, floors and heads."""
    store.set_floor("sink:lamp", "uJ", -(10**9), NOON)
    store.sign_head(METER, NOON)
    for page in range(pages):
        at_ns = NOON + page * 10**9
        store.put_page(TRANSCRIPT, page, 0, page_row(page, 0, PageState.SENT).body, 0, at_ns)
        answers = store.commit([page_job(page)], at_ns)
        assert all(isinstance(answer, Posted) for answer in answers), answers
        store.put_event("noted", {"page": page, "reason": "a line of the audit log"}, at_ns)
        if page % 4 == 3:
            store.sign_head(METER, at_ns)


def dump(path: Path) -> Dump:
    """Return every row of every table, as SQLite reads them."""
    connection = sqlite3.connect(f"file://{path}?mode=ro", uri=True)
    try:
        return {
            table: list(connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"))  # noqa: S608
            if table != "reservation"
            else list(connection.execute("SELECT * FROM reservation ORDER BY 1"))
            for table in TABLES
        }
    finally:
        connection.close()


def copy(source: Path, target: Path) -> Path:
    """Copy the files of a ledger; return the path of its database."""
    target.mkdir()
    for file in source.parent.iterdir():
        if file.name != "ledger.lock":
            shutil.copy(file, target / file.name)
    return target / source.name


def found(path: Path) -> list[str]:
    """Return the records that a full verification names, `file` where it cannot be opened."""
    try:
        with LedgerStore(path, read_only=True) as store:
            return [finding.record for finding in store.verify()]
    except (LedgerBroken, HostError):
        return ["file"]


class Rough:
    """A hand that changes rows as no writer can: without triggers, constraints or chains."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        triggers = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        self._triggers = self._connection.execute(triggers).fetchall()
        for name, _ in self._triggers:
            self._connection.execute(f"DROP TRIGGER {name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _, sql in self._triggers:
            self._connection.execute(sql)
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def run(self, statement: str, *values: object) -> None:
        """Do it."""
        self._connection.execute(statement, values)


def names(row: dict[str, object], table: str) -> str:
    """Return how a finding names that row."""
    match table:
        case "receipt":
            transcript = row["transcript"]
            assert isinstance(transcript, bytes)
            return f"receipt {transcript.hex()}:{row['page']}:{row['side']}"
        case "account":
            return f"account {row['id']}"
        case "head":
            return f"head {row['number']}"
        case _:
            return f"{table} {row['seq']}"


def rows(path: Path, table: str) -> Iterator[dict[str, object]]:
    """Yield the rows of a table by column."""
    connection = sqlite3.connect(path)
    try:
        cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608
        columns = [column[0] for column in cursor.description]
        yield from [dict(zip(columns, row, strict=True)) for row in cursor]
    finally:
        connection.close()
