"""What is asked of the tables: rows as they were written, in order, by any connection."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from powertcp.ledger import MAX_AMOUNT, START, Account, Entry
from powertcp.store.rows import Event, Head, PageRow

_ENTRY = "SELECT seq, at, kind, code, key, debit, credit, amount, pending, link, memo, chain FROM journal"
_ACCOUNT = "SELECT id, name, unit, debit, credit, reserved, floor FROM account"
_EVENT = "SELECT seq, at, kind, json, chain FROM event"
_PAGE = "SELECT transcript, page, side, body, state FROM receipt"
_HEAD = "SELECT number, seq, chain, events, event_chain, at, key, signature FROM head"

Position = tuple[int, bytes]
_AT_ONCE = 500  # values of one statement

_MOVED = """
SELECT name, sum(amount) FROM (
  SELECT debit AS id, amount FROM journal WHERE at >= ? AND kind IN (0, 2)
  UNION ALL SELECT credit, -amount FROM journal WHERE at >= ? AND kind IN (0, 2)
) JOIN account USING (id) GROUP BY id
"""


class Reads:
    """The rows of one connection."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Read `connection`, which has `path` open."""
        self.connection = connection
        self.path = path

    def all(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of `statement`."""
        yield from self.connection.execute(statement, values)

    def one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        """Return the first row of `statement`."""
        found: tuple[Any, ...] | None = self.connection.execute(statement, values).fetchone()
        return found

    def account(self, name: str) -> Account | None:
        """Return the account `name`."""
        row = self.one(f"{_ACCOUNT} WHERE name = ?", name)
        return Account._make(row) if row else None

    def accounts(self) -> Iterator[Account]:
        """Yield every account, in the order of opening."""
        return map(Account._make, self.all(f"{_ACCOUNT} ORDER BY id"))

    def pending(self) -> Iterator[Entry]:
        """Yield the pending transfers that are neither posted nor voided."""
        rows = self.all(f"{_ENTRY} JOIN reservation USING (seq) ORDER BY seq")
        return map(Entry._make, rows)

    def entry(self, key: bytes) -> Entry | None:
        """Return the entry with that key."""
        row = self.one(f"{_ENTRY} WHERE key = ?", key)
        return Entry._make(row) if row else None

    def known(self, keys: list[bytes]) -> dict[bytes, Entry | None]:
        """Return for each of the keys its entry, None where there is none."""
        found: dict[bytes, Entry | None] = dict.fromkeys(keys)
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            where = f"WHERE key IN ({', '.join('?' * len(some))})"
            # sqlite3 takes a bytearray faster than bytes
            for row in self.all(f"{_ENTRY} {where}", *map(bytearray, some)):
                entry = Entry._make(row)
                found[entry.key] = entry
        return found

    def entries(
        self, *, after: int = 0, since_ns: int = 0, until_ns: int = MAX_AMOUNT
    ) -> Iterator[Entry]:
        """Yield the entries after number `after`, of since_ns <= time < until_ns."""
        rows = self.all(f"{_ENTRY} WHERE seq > ? AND at >= ? AND at < ? ORDER BY seq",
                        after, since_ns, until_ns)  # fmt: skip
        return map(Entry._make, rows)

    def debited(self, since_ns: int) -> dict[str, int]:
        """Return what each account has received less what it gave, from since_ns on."""
        # what is reserved and what is void moves nothing
        return dict(self.all(_MOVED, since_ns, since_ns))

    def events(
        self, *, after: int = 0, since_ns: int = 0, until_ns: int = MAX_AMOUNT
    ) -> Iterator[Event]:
        """Yield the events after number `after`, of since_ns <= time < until_ns."""
        rows = self.all(f"{_EVENT} WHERE seq > ? AND at >= ? AND at < ? ORDER BY seq",
                        after, since_ns, until_ns)  # fmt: skip
        return (Event(*row) for row in rows)

    def page(self, transcript: bytes, page: int, side: int) -> PageRow | None:
        """Return one page."""
        where = "WHERE transcript = ? AND page = ? AND side = ?"
        row = self.one(f"{_PAGE} {where}", transcript, page, side)
        return PageRow(*row) if row else None

    def last_page(self, transcript: bytes, side: int) -> PageRow | None:
        """Return the page with the highest number of a flow."""
        where = "WHERE transcript = ? AND side = ? ORDER BY page DESC LIMIT 1"
        row = self.one(f"{_PAGE} {where}", transcript, side)
        return PageRow(*row) if row else None

    def pages(self, transcript: bytes = b"") -> Iterator[PageRow]:
        """Yield the pages of a flow, or all, by transcript, number and side."""
        where, values = ("WHERE transcript = ?", (transcript,)) if transcript else ("", ())
        rows = self.all(f"{_PAGE} {where} ORDER BY transcript, page, side", *values)
        return (PageRow(*row) for row in rows)

    def heads(self) -> Iterator[Head]:
        """Yield the signed heads in order."""
        return (Head(*row) for row in self.all(f"{_HEAD} ORDER BY number"))

    def last_head(self) -> Head | None:
        """Return the head signed last."""
        row = self.one(f"{_HEAD} ORDER BY number DESC LIMIT 1")
        return Head(*row) if row else None

    def position(self, table: str) -> Position:
        """Return number and chain value of the last row of "journal" or "event"."""
        row = self.one(f"SELECT seq, chain FROM {table} ORDER BY seq DESC LIMIT 1")  # noqa: S608
        return (row[0], row[1]) if row else (0, START)

    def position_at(self, table: str, seq: int) -> bytes | None:
        """Return the chain value of row `seq` of "journal" or "event"; of row 0 the start."""
        if seq == 0:
            return START
        row = self.one(f"SELECT chain FROM {table} WHERE seq = ?", seq)  # noqa: S608
        return row[0] if row else None
