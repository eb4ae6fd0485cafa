"""The ledger on disk: one SQLite file that only grows, one writer, groups in one transaction."""

import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from powertcp.crypto import SigningKey
from powertcp.errors import HostError, LocalProtocolError, PowerRefused, known
from powertcp.ledger import MAX_AMOUNT, Account, Book, Entry, Kind, LedgerBroken, Posted, Transfer
from powertcp.registry import Reason, Refusal
from powertcp.store import files, verify, wal
from powertcp.store.reads import Reads
from powertcp.store.rows import (
    Event,
    Finding,
    Head,
    Job,
    OwnEvent,
    PageRow,
    PageState,
    check_event,
    check_page,
    facts_text,
    is_same_but_signed,
    next_event,
    page_facts,
    sign_head,
)
from powertcp.store.schema import APPLICATION, STATEMENTS, VERSION

NAME = "ledger.db"
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
BUSY_S = 5.0  # somebody else's transaction on the file, which there should not be
_INSERT_ENTRY = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?)"
_INSERT_HEAD = "INSERT INTO head VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_ACCOUNT = "INSERT INTO account (id, name, unit) VALUES (?, ?, ?)"
_UPDATE_ACCOUNT = "UPDATE account SET debit = ?, credit = ?, reserved = ? WHERE id = ?"
_UPDATE_FLOOR = "UPDATE account SET floor = ? WHERE id = ?"
_BEGIN_RESERVATION = "INSERT INTO reservation VALUES (?)"
_END_RESERVATION = "DELETE FROM reservation WHERE seq = ?"
_PUT_PAGE = """
INSERT INTO receipt VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET body = excluded.body, state = excluded.state
"""

_PRAGMAS = (
    "synchronous = FULL",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
)
_BROKEN = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_ERRORS = {
    "SQLITE_FULL": errno.ENOSPC,
    "SQLITE_READONLY": errno.EROFS,
    "SQLITE_CANTOPEN": errno.EACCES,
    "SQLITE_BUSY": errno.EBUSY,
    "SQLITE_NOMEM": errno.ENOMEM,
}

Answer = Posted | PowerRefused | LocalProtocolError
NOTHING_POSTED = Posted(())


class _Writes:
    """What a group has decided and not yet written."""

    def __init__(self, last_event: tuple[int, bytes]) -> None:
        self.last_event = last_event
        self.opened: list[Account] = []
        self.touched: set[str] = set()
        self.floors: list[Account] = []
        self.entries: list[Entry] = []
        self.events: list[Event] = []
        self.pages: dict[tuple[bytes, int, int], PageRow] = {}

    def note(self, at_ns: int, kind: str, facts: str) -> None:
        """Add an event."""
        event = next_event(self.last_event, at_ns, kind, facts)
        self.last_event = (event.seq, event.chain)
        self.events.append(event)

    def open(self, at_ns: int, account: Account) -> None:
        """Add an account."""
        self.opened.append(account)
        facts = {"id": account.id, "name": account.name, "unit": account.unit}
        self.note(at_ns, OwnEvent.ACCOUNT, facts_text(facts))


class LedgerStore:
    """The ledger in one file; for one thread at a time, and one process that writes.

    A ledger that cannot be written is read-only from then on: the file is opened again by another
    object, after somebody has looked.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open `path`, whose folder exists; a writer makes the file if there is none.

        Raises HostError when this machine refuses, or another process writes the ledger; raises
        LedgerBroken, which names file and record, when what is there is not what was written.
        """
        self.path = path
        self.fault: HostError | None = None
        self._read_only = read_only
        self._heads = path.with_name(verify.HEADS) if path.name == NAME else None
        self._known: dict[bytes, Entry | None] = {}
        """What is written under the keys of a group: whatever it asks for is there, or None."""
        self._book = Book(self._known.__getitem__)
        self._committed: dict[str, Account] = {}
        self._rows: Reads | None = None
        self._torn: list[Finding] = []
        self._lock = -1
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            wanted = f"keep a ledger with SQLite {sqlite3.sqlite_version}, 3.37 is needed"
            raise HostError(errno.ENOSYS, str(path), wanted)
        try:
            with self._reported():
                self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written: opened so, or something went wrong."""
        return self._read_only or self.fault is not None

    def close(self) -> None:
        """Close the file and give the lock back."""
        rows, self._rows = self._rows, None
        if rows is not None:
            with suppress(sqlite3.Error):
                rows.connection.close()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    # ---- writing --------------------------------------------------------------------------------

    # LEDG-7-06
    def append(self, batches: Sequence[tuple[Transfer, ...]], at_ns: int) -> list[Answer]:
        """Post batches in one transaction; return for each what it came to. See `commit`."""
        return self.commit([Job(transfers=batch) for batch in batches], at_ns)

    # LEDG-7-07
    def commit(self, jobs: Sequence[Job], at_ns: int) -> list[Answer]:
        """Do jobs in one transaction, each whole or not at all; they are on the disk afterwards.

        at_ns: Unix time of all of them. Returns for each job what is posted, or why it was refused;
        a job that is refused takes nothing from the others.
        Raises PowerRefused 602 when the ledger is read-only. Raises HostError when the file cannot
        be written: it is read-only for good, and whether these jobs are in it shows when it is
        opened again.
        """
        self._may_write()
        with self._written() as rows:
            writes = _Writes(rows.position("event"))
            self._known.update(rows.known(_keys(jobs)))
            answers = [self._answer(job, at_ns, writes) for job in jobs]
            touched = [known(self._book.account(name), name) for name in writes.touched]
            self._write(rows.connection, writes, touched)
        self._book.written()
        self._known.clear()
        self._committed.update((account.name, account) for account in touched)
        return answers

    def put_page(
        self, transcript: bytes, page: int, side: int, body: bytes, state: int, at_ns: int
    ) -> None:
        """Store one page; see `Job.page`. Raises what `commit` returns and raises."""
        self._single(Job(page=PageRow(transcript, page, side, body, state)), at_ns)

    def put_event(self, kind: str, facts: Mapping[str, object], at_ns: int) -> None:
        """Add a line to the audit log. Raises what `commit` returns and raises."""
        self._single(Job(events=((kind, facts_text(facts)),)), at_ns)

    def set_floor(self, name: str, unit: str, floor: int | None, at_ns: int) -> None:
        """Limit what an account may be debited. Raises what `commit` returns and raises."""
        self._single(Job(floor=(name, unit, floor)), at_ns)

    def sign_head(self, key: SigningKey, at_ns: int) -> Head:
        """Sign where both chains stand, unless that was done; return the last head.

        Raises as `commit` does.
        """
        self._may_write()
        with self._written() as rows:
            last = rows.last_head()
            journal, events = rows.position("journal"), rows.position("event")
            if last and (last.seq, last.events, last.key) == (journal[0], events[0], key.public):
                head = last
            else:
                head = sign_head(last.number + 1 if last else 1, journal, events, at_ns, key)
                row = (head.number, head.seq, head.chain, head.events, head.event_chain, head.at_ns)
                rows.connection.execute(_INSERT_HEAD, (*row, head.key, head.signature))
        if head is not last and self._heads is not None:
            with self._failing():
                files.append_line(self._heads, head.line())
        return head

    def _single(self, job: Job, at_ns: int) -> None:
        answer = self.commit([job], at_ns)[0]
        if not isinstance(answer, Posted):
            raise answer

    def _answer(self, job: Job, at_ns: int, writes: _Writes) -> Answer:
        try:
            return self._decide(job, at_ns, writes)
        except (PowerRefused, LocalProtocolError) as refused:
            return refused

    def _decide(self, job: Job, at_ns: int, writes: _Writes) -> Posted:
        """Put what a job comes to into `writes`; raise before anything of it is there."""
        page = self._judge_page(job.page, writes) if job.page else None
        for kind, _ in job.events:
            check_event(kind)
        posted = NOTHING_POSTED
        if job.floor is not None:
            if job.records:
                raise LocalProtocolError("a floor is set alone")
            self._set_floor(job.floor, at_ns, writes)
        if job.transfers:
            batch = self._book.post(job.transfers, at_ns)
            posted = batch.posted
            for account in batch.opened:
                writes.open(at_ns, account)
            writes.entries += batch.entries
            writes.touched.update(batch.touched)
        if page is not None:
            writes.pages[page.transcript, page.page, page.side] = page
            writes.note(at_ns, OwnEvent.PAGE, page_facts(page))
        for event in job.events:
            writes.note(at_ns, *event)
        return posted

    def _judge_page(self, page: PageRow, writes: _Writes) -> PageRow | None:
        """Return the page to be written, None when it is there; raise when it cannot be."""
        check_page(page)
        key = (page.transcript, page.page, page.side)
        known = writes.pages.get(key) or self._reads().page(*key)
        if known is None:
            return page
        is_same = known.body == page.body
        if is_same and page.state in (known.state, PageState.SENT):
            return None
        may_sign = page.state == PageState.COUNTERSIGNED and is_same_but_signed(known, page)
        if known.state == PageState.SENT and (is_same or may_sign):
            return page
        rule = f"page {page.page} is stored with other octets or another state"
        raise PowerRefused(Refusal(Reason.RECEIPT_INVALID, page.page, rule=rule))

    def _set_floor(self, wanted: tuple[str, str, int | None], at_ns: int, writes: _Writes) -> None:
        account, is_new = self._book.set_floor(*wanted)
        if is_new:
            writes.open(at_ns, account)
        writes.touched.add(account.name)
        writes.floors.append(account)
        facts = {"account": account.name, "floor": account.floor}
        writes.note(at_ns, OwnEvent.FLOOR, facts_text(facts))

    def _write(
        self, connection: sqlite3.Connection, writes: _Writes, touched: Sequence[Account]
    ) -> None:
        entries = writes.entries
        inserts: tuple[tuple[str, Sequence[Sequence[object]]], ...] = (
            (_INSERT_ACCOUNT, [account[:3] for account in writes.opened]),
            (_INSERT_ENTRY, [
                # sqlite3 takes a plain tuple and a bytearray faster than what is derived and bytes
                (*entry[:4], bytearray(entry.key), *entry[5:11], bytearray(entry.chain))
                for entry in entries
            ]),
            (_UPDATE_ACCOUNT, [(now.debit, now.credit, now.reserved, now.id) for now in touched]),
            (_UPDATE_FLOOR, [(account.floor, account.id) for account in writes.floors]),
            (_BEGIN_RESERVATION, [(one.seq,) for one in entries if one.kind == Kind.PENDING]),
            (_END_RESERVATION, [(one.pending,) for one in entries if one.pending]),
            (_INSERT_EVENT, [
                (event.seq, event.at_ns, event.kind, event.facts, event.chain)
                for event in writes.events
            ]),
            (_PUT_PAGE, [
                (page.transcript, page.page, page.side, page.body, int(page.state))
                for page in writes.pages.values()
            ]),
        )  # fmt: skip
        for statement, rows in inserts:
            if rows:
                connection.executemany(statement, rows)

    @contextmanager
    def _written(self) -> Iterator[Reads]:
        """One transaction; the ledger is read-only unless it is committed."""
        rows = self._reads()
        with self._failing():
            rows.connection.execute("BEGIN IMMEDIATE")
            yield rows
            rows.connection.execute("COMMIT")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Make the ledger read-only, for good, when anything goes wrong within."""
        try:
            with self._reported():
                yield
        except HostError as error:
            self._fail(error)
            raise
        except BaseException as error:
            self._fail(HostError(errno.EIO, str(self.path), f"write the ledger ({error!r})"))
            raise

    def _fail(self, error: HostError) -> None:
        """Give up the connection: what it has not on the disk is not tried again."""
        self.fault = error
        # while another connection is there, closing this one writes nothing
        with suppress(sqlite3.Error):
            rows = Reads(self._connect(read_only=True), self.path)
            self._reads().connection.close()
            self._rows = rows

    def _may_write(self) -> None:
        if self.is_read_only:
            why = f": {self.fault}" if self.fault else ""
            raise PowerRefused(Refusal(Reason.MAINTENANCE, rule=f"the ledger is read-only{why}"))

    # ---- reading --------------------------------------------------------------------------------

    def account(self, name: str) -> Account | None:
        """Return the account `name` as it was committed last; from any thread of the writer."""
        return self._reads().account(name) if self._read_only else self._committed.get(name)

    def accounts(self) -> list[Account]:
        """Return every account, in the order of opening."""
        with self._reported():
            return list(self._reads().accounts())

    def trial_balance(self) -> dict[str, int]:
        """Return debits less credits of each unit: 0, or something is wrong."""
        sums: dict[str, int] = {}
        for one in self.accounts():
            sums[one.unit] = sums.get(one.unit, 0) + one.debit - one.credit
        return sums

    def pending(self) -> list[Entry]:
        """Return the pending transfers that are neither posted nor voided."""
        with self._reported():
            return list(self._reads().pending())

    def entry(self, key: bytes) -> Entry | None:
        """Return the entry of that key."""
        with self._reported():
            return self._reads().entry(key)

    def entries(self, since_ns: int = 0, until_ns: int = MAX_AMOUNT) -> Iterator[Entry]:
        """Yield the entries of since_ns <= time < until_ns, in order."""
        with self._reported():
            yield from self._reads().entries(since_ns=since_ns, until_ns=until_ns)

    def debited(self, since_ns: int) -> dict[str, int]:
        """Return what each account has received less what it gave, from since_ns on."""
        with self._reported():
            return self._reads().debited(since_ns)

    def events(self, since_ns: int = 0, until_ns: int = MAX_AMOUNT) -> Iterator[Event]:
        """Yield the audit log of since_ns <= time < until_ns, in order."""
        with self._reported():
            yield from self._reads().events(since_ns=since_ns, until_ns=until_ns)

    def page(self, transcript: bytes, page: int, side: int) -> PageRow | None:
        """Return one page."""
        with self._reported():
            return self._reads().page(transcript, page, side)

    def page_state(self, transcript: bytes, page: int, side: int) -> PageState | None:
        """Return how far a page is; None when it is not there."""
        row = self.page(transcript, page, side)
        return PageState(row.state) if row else None

    def last_page(self, transcript: bytes, side: int) -> PageRow | None:
        """Return the page of a flow with the highest number: where a resumed flow goes on."""
        with self._reported():
            return self._reads().last_page(transcript, side)

    def pages(self, transcript: bytes = b"") -> Iterator[PageRow]:
        """Yield the pages of a flow, or all, by transcript, number and side."""
        with self._reported():
            yield from self._reads().pages(transcript)

    def heads(self) -> Iterator[Head]:
        """Yield the signed heads in order."""
        with self._reported():
            yield from self._reads().heads()

    def last_head(self) -> Head | None:
        """Return the head signed last."""
        with self._reported():
            return self._reads().last_head()

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Read as of one moment within, whatever a writer commits meanwhile; not around `verify`.

        For a ledger that is read only. Raises HostError or LedgerBroken.
        """
        connection = self._reads().connection
        with self._reported():
            connection.execute("BEGIN")
            # the first look fixes the moment
            self._reads().position("journal")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    # LEDG-7-08
    def verify(self, *, full: bool = True) -> list[Finding]:
        """Return what is not as it was written; full: of everything, else of the end as at start.

        It takes time in proportion to the records; a writer may go on meanwhile. Raises HostError
        when the file cannot be read.
        """
        rows = self._reads()
        lines = verify.head_lines(self._heads) if self._heads else None
        check = verify.check_all if full else verify.check_tail
        rows.connection.execute("BEGIN")
        try:
            return self._torn + verify.findings(check(rows, lines))
        finally:
            with suppress(sqlite3.Error):
                rows.connection.execute("ROLLBACK")

    def backup(self, path: Path) -> None:
        """Copy the ledger, as it is at one moment, to the new file `path`. Raises HostError."""
        with self._reported():
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise files.host_error(error, path, "make a backup") from error
            copy = sqlite3.connect(path)
            try:
                self._reads().connection.backup(copy)
            finally:
                copy.close()
            files.sync_file(path)
            files.sync_folder(path.parent)

    # ---- opening --------------------------------------------------------------------------------

    @property
    def _lock_path(self) -> Path:
        return self.path.with_suffix(".lock")

    def _open(self) -> None:
        if not self._read_only:
            self._lock = files.take_lock(self._lock_path)
            files.make_file(self.path)
        # before SQLite takes back what it cannot read, and whoever looks changes the index
        with files.while_unlocked(self._lock_path, is_ours=not self._read_only) as is_unlocked:
            self._torn = wal.check_files(self.path) if is_unlocked else []
        self._refuse(self._torn)
        self._rows = rows = Reads(self._connect(read_only=self._read_only), self.path)
        if self._read_only:
            if rows.one("PRAGMA user_version") != (VERSION,):
                raise LedgerBroken(str(self.path), "file", "it holds no ledger of this version")
            return
        execute = rows.connection.execute
        mode = execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            wanted = f"keep the ledger in mode {mode}, WAL is needed"
            raise HostError(errno.ENOTSUP, str(self.path), wanted)
        for pragma in _PRAGMAS:
            execute(f"PRAGMA {pragma}")
        if rows.one("SELECT count(*) FROM sqlite_schema") == (0,):
            self._make_tables(rows.connection)
        lines = verify.head_lines(self._heads) if self._heads else None
        self._refuse(verify.findings(verify.check_tail(rows, lines)))
        self._complete_heads(rows, lines)
        self._book.restore(rows.accounts(), rows.pending(), *rows.position("journal"))
        self._committed = {account.name: account for account in self._book.accounts()}

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        """Open the file, which exists; in a folder that cannot be written, as it is."""
        mode = "ro" if read_only else "rw"
        log = self.path.with_name(f"{self.path.name}-wal")
        is_quiet = not log.exists() or not log.stat().st_size
        if read_only and is_quiet and not os.access(self.path.parent, os.W_OK):
            mode += "&immutable=1"
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S,
            isolation_level=None, check_same_thread=False,
        )  # fmt: skip

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement in STATEMENTS:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")

    # LEDG-7-08
    def _refuse(self, found: list[Finding]) -> None:
        """Raise LedgerBroken for the first finding that is no warning."""
        for finding in found:
            if not finding.is_warning:
                raise LedgerBroken(str(self.path), finding.record, finding.text)

    def _complete_heads(self, rows: Reads, lines: list[str] | None) -> None:
        """Append the head that was committed while its line was not written yet, or in part."""
        last = rows.last_head()
        if self._heads is None or lines is None or last is None:
            return
        is_missing = len(lines) < last.number
        rest = last.line() if is_missing else last.line()[len(lines[-1]) :]
        if rest:
            files.append_line(self._heads, rest)

    def _reads(self) -> Reads:
        if self._rows is None:
            raise LocalProtocolError(f"the ledger {self.path} is closed")
        return self._rows

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what SQLite and the host say into the errors of this house."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._said(error) from error
        except UnicodeDecodeError as error:
            raise LedgerBroken(str(self.path), "file", str(error)) from error
        except OSError as error:
            raise files.host_error(error, self.path, "keep the ledger") from error

    def _said(self, error: sqlite3.Error) -> HostError | LedgerBroken:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name.startswith(_BROKEN):
            return LedgerBroken(str(self.path), "file", str(error))
        number = next(
            (number for start, number in _ERRORS.items() if name.startswith(start)), errno.EIO
        )
        return HostError(number, str(self.path), f"keep the ledger ({error}, {name})")


def _keys(jobs: Sequence[Job]) -> list[bytes]:
    """Return the keys of the entries that `jobs` may be about."""
    keys = []
    for job in jobs:
        for transfer in job.transfers:
            keys.append(transfer.key)
            if transfer.pending:
                keys.append(transfer.pending)
    return keys
