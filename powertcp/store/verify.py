"""Whether what is in the tables is what was written: of the tail at start, of everything on demand."""

import functools
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from powertcp.ledger import START, Account, Book, Entry, LedgerBroken
from powertcp.ledger import entry_chain as chain_of_entry
from powertcp.store.files import host_error
from powertcp.store.reads import Reads
from powertcp.store.rows import (
    Event,
    Finding,
    Head,
    OwnEvent,
    PageRow,
    event_chain,
    facts_text,
    page_facts,
)
from powertcp.store.schema import APPLICATION, STATEMENTS, VERSION

HEADS = "heads.log"
TAIL = 10_000  # records of each chain that are checked at a start: some 50 ms
_MOST_FINDINGS = 1000  # a file of another kind has one for each record
# what computing a chain value raises when a field is not of its type
_WRONG_TYPE = (AttributeError, TypeError, ValueError, OverflowError, struct.error)

Record = Entry | Event


def check_tail(reads: Reads, lines: list[str] | None) -> Iterator[Finding]:
    """Yield what is wrong with the end of the ledger: structure, chains, sums, the last head."""
    yield from _structure(reads, "quick_check")
    yield from _layout(reads)
    for table, rows, chain_of in (
        ("journal", reads.entries, chain_of_entry),
        ("event", reads.events, event_chain),
    ):
        first = max(0, reads.position(table)[0] - TAIL)
        start = reads.position_at(table, first)
        walk = _Walk(table, chain_of, first, start or START)
        for _, findings in walk.over(rows(after=first)):
            yield from findings
    yield from _sums(reads)
    last = reads.last_head()
    if last is not None:
        yield from _head(reads, last)
    yield from _heads_log(reads, lines)


def check_all(reads: Reads, lines: list[str] | None) -> Iterator[Finding]:
    """Yield everything that is wrong, record by record."""
    yield from _structure(reads, "integrity_check")
    yield from _layout(reads)
    told = _Told()
    walk = _Walk("event", event_chain)
    for event, findings in walk.over(reads.events()):
        yield from findings
        if event is not None and not findings:
            yield from told.take(event)
    yield from _journal(reads, told)
    yield from told.compare_pages(reads)
    number = 0
    for head in _guarded("head", reads.heads()):
        if isinstance(head, Finding):
            yield head
            break
        number += 1
        if head.number != number:
            yield Finding(f"head {number}", f"it is missing, head {head.number} follows")
            number = head.number
        yield from _head(reads, head)
    yield from _heads_log(reads, lines)


def findings(found: Iterator[Finding]) -> list[Finding]:
    """Return `found`; what SQLite cannot read at all ends the list with a finding."""
    kept: list[Finding] = []
    try:
        for finding in found:
            kept.append(finding)
            if len(kept) == _MOST_FINDINGS:
                break
    except (sqlite3.Error, *_WRONG_TYPE) as error:
        kept.append(Finding("file", str(error)))
    return kept


class _Walk:
    """One chain, record by record; each is judged by the chain value stated before it."""

    def __init__(
        self,
        table: str,
        chain_of: Callable[[bytes, Any], bytes],
        seq: int = 0,
        chain: bytes = START,
    ) -> None:
        self._table = table
        self._chain_of = chain_of
        self.seq = seq
        self.chain = chain

    def over(self, rows: Iterator[Any]) -> Iterator[tuple[Any, list[Finding]]]:
        """Yield each record, None where it cannot be read, with what is wrong with it."""
        for record in _guarded(self._table, rows, self):
            if isinstance(record, Finding):
                yield None, [record]
                return
            yield record, self._judge(record)

    def _judge(self, record: Record) -> list[Finding]:
        found = []
        due, stated = self.seq + 1, record.chain
        if record.seq != due:
            text = f"it is missing, {self._table} {record.seq} follows"
            found.append(Finding(f"{self._table} {due}", text))
        else:
            try:
                is_so = self._chain_of(self.chain, record) == stated
            except _WRONG_TYPE:
                is_so = False
            if not is_so:
                text = "its chain value is not that of its fields after the record before"
                found.append(Finding(f"{self._table} {due}", text))
        self.seq, self.chain = record.seq, stated
        return found


def _guarded(table: str, rows: Iterator[Any], walk: _Walk | None = None) -> Iterator[Any]:
    """Yield the rows, and a finding for the place after which SQLite cannot go on."""
    count = 0
    try:
        for row in rows:
            yield row
            count += 1
    except (sqlite3.Error, UnicodeDecodeError) as error:
        yield Finding(f"{table} {walk.seq + 1 if walk else count + 1}", f"unreadable: {error}")


def _structure(reads: Reads, pragma: str) -> Iterator[Finding]:
    for row in _guarded("file", reads.all(f"PRAGMA {pragma}")):
        if isinstance(row, Finding):
            yield Finding("file", row.text)
        elif row[0] != "ok":
            yield Finding("file", str(row[0]))


@functools.cache
def _due_layout() -> dict[tuple[str, str], str | None]:
    connection = sqlite3.connect(":memory:")
    try:
        for statement in STATEMENTS:
            connection.execute(statement)
        return _found_layout(connection)
    finally:
        connection.close()


def _found_layout(connection: sqlite3.Connection) -> dict[tuple[str, str], str | None]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
    return {(str(row[0]), str(row[1])): f"{row[2]}: {row[3]}" for row in rows}


def _layout(reads: Reads) -> Iterator[Finding]:
    """Tables and triggers are those of this program, to the letter."""
    row = reads.one("PRAGMA application_id"), reads.one("PRAGMA user_version")
    if row != ((APPLICATION,), (VERSION,)):
        yield Finding("file", f"application and version are {row}")
    due, found = _due_layout(), _found_layout(reads.connection)
    for name in sorted(due.keys() | found.keys()):
        if due.get(name) != found.get(name):
            yield Finding(" ".join(name), "it is not as this program makes it")


def _sums(reads: Reads) -> Iterator[Finding]:
    """The sums of the accounts, which are a cache, can be true."""
    for unit, debit, credit in reads.all(
        "SELECT unit, sum(debit), sum(credit) FROM account GROUP BY unit"
    ):
        if debit != credit:
            yield Finding("account", f"debits are {debit} {unit}, credits are {credit} {unit}")
    reserved = dict(
        reads.all("SELECT debit, sum(amount) FROM journal JOIN reservation USING (seq) GROUP BY 1")
    )
    for account in reads.accounts():
        due = reserved.get(account.id, 0)
        if account.reserved != due:
            text = f"{account.name} has {account.reserved} {account.unit} reserved, {due} are due"
            yield Finding(f"account {account.id}", text)


def _head(reads: Reads, head: Head) -> Iterator[Finding]:
    name = f"head {head.number}"
    try:
        is_signed = head.is_signed()
    except _WRONG_TYPE:
        is_signed = False
    if not is_signed:
        yield Finding(name, "its signature is not that of its fields")
        return
    for table, seq, chain in (
        ("journal", head.seq, head.chain),
        ("event", head.events, head.event_chain),
    ):
        found = reads.position_at(table, seq)
        if found is None:
            yield Finding(f"{table} {seq}", f"it is missing, {name} was signed after it")
        elif found != chain:
            yield Finding(f"{table} {seq}", f"{name} was signed over another chain value")


def head_lines(path: Path) -> list[str]:
    """Return the lines of heads.log, the last one perhaps in part. Raises HostError."""
    try:
        return path.read_bytes().decode("ascii", "replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise host_error(error, path, "read the signed heads") from error


def _heads_log(reads: Reads, lines: list[str] | None) -> Iterator[Finding]:
    """The same heads are in the file and in heads.log; the last line may be on its way."""
    if lines is None:
        return
    heads = 0
    for heads, head in enumerate(reads.heads(), 1):
        if heads > len(lines):
            continue
        try:
            due = head.line()
        except _WRONG_TYPE:
            continue
        line = lines[heads - 1]
        if line != due and not (heads == len(lines) and due.startswith(line)):
            yield Finding(f"{HEADS} line {heads}", f"it is not that of head {head.number}")
    missing = heads - len(lines)
    if missing > 1:
        yield Finding(f"{HEADS} line {len(lines) + 1}", f"{missing} heads are missing")
    if missing < 0:
        text = f"it is missing, {HEADS} has it: what was committed before it was taken back"
        yield Finding(f"head {heads + 1}", text)


class _Told:
    """What the chain of events says of accounts and pages."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self._names: set[str] = set()
        self._floors: dict[str, int | None] = {}
        self._pages: dict[tuple[object, ...], str] = {}

    def take(self, event: Event) -> Iterator[Finding]:
        """Take one event, whose chain value is right."""
        try:
            self._note(event.kind, event.data())
        except (KeyError, *_WRONG_TYPE) as error:
            yield Finding(f"event {event.seq}", f"its facts are not those of its kind: {error}")

    def _note(self, kind: str, facts: dict[str, Any]) -> None:
        match kind:
            case OwnEvent.ACCOUNT:
                account = Account(id=facts["id"], name=facts["name"], unit=facts["unit"])
                if account.id in self.accounts or account.name in self._names:
                    raise ValueError(f"account {account.id} {account.name} is opened twice")
                self.accounts[account.id] = account
                self._names.add(account.name)
            case OwnEvent.FLOOR:
                self._floors[facts["account"]] = facts["floor"]
            case OwnEvent.PAGE:
                key = (facts["transcript"], facts["page"], facts["side"])
                self._pages[key] = facts_text(facts)

    def floor(self, name: str) -> int | None:
        """Return the floor that was set last."""
        return self._floors.get(name)

    def compare_pages(self, reads: Reads) -> Iterator[Finding]:
        """Yield the pages that are not as the events say."""
        left = dict(self._pages)
        for row in _guarded("receipt", reads.pages()):
            if isinstance(row, Finding):
                yield row
                continue
            name, key, due = _page_name(row), None, None
            try:
                key = (row.transcript.hex(), row.page, row.side)
                due = left.pop(key, None)
                is_so = due == page_facts(row)
            except _WRONG_TYPE:
                is_so = False
            if not is_so:
                text = "it is not as it was stored" if due else "no event tells of it"
                yield Finding(name, text)
        for transcript, page, side in left:
            yield Finding(f"receipt {transcript}:{page}:{side}", "it is missing")


def _page_name(row: PageRow) -> str:
    transcript = row.transcript.hex() if isinstance(row.transcript, bytes) else row.transcript
    return f"receipt {transcript}:{row.page}:{row.side}"


def _journal(reads: Reads, told: _Told) -> Iterator[Finding]:
    """Every entry again, from sums of 0: chain, rules, and what the accounts come to."""
    book = Book()
    book.restore(told.accounts.values(), (), 0, START)
    for entry in _guarded("journal", reads.entries()):
        if isinstance(entry, Finding):
            yield Finding(f"journal {book.seq + 1}", entry.text)
            break
        try:
            book.replay(entry)
        except LedgerBroken as broken:
            yield Finding(broken.record, broken.text)
        except _WRONG_TYPE:
            yield Finding(f"journal {book.seq}", "a field is not of its type")
    due = {account.id: account for account in book.accounts()}
    for account in _guarded("account", reads.accounts()):
        if isinstance(account, Finding):
            yield account
            return
        expected = due.pop(account.id, None)
        if expected is None or not _is_account(account, expected, told.floor(account.name)):
            text = f"{account} is not what events and journal say: {expected}"
            yield Finding(f"account {account.id}", text)
    for account_id in due:
        yield Finding(f"account {account_id}", "it is missing")
    pending = [entry.seq for entry in book.pending()]
    if [row[0] for row in reads.all("SELECT seq FROM reservation ORDER BY seq")] != pending:
        yield Finding("reservation", "it is not what the journal says")


def _is_account(found: Account, due: Account, floor: int | None) -> bool:
    sums = (due.id, due.name, due.unit, due.debit, due.credit, due.reserved, floor)
    return sums == (
        found.id, found.name, found.unit, found.debit, found.credit, found.reserved, found.floor
    )  # fmt: skip
