"""`powertcp ledger show` and `export`: accounts, entries, pages, events and heads as they stand."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from powertcp.cli.books import Asked, Rows, amount_text, bounds, cut, facts_of, only, open_ledger
from powertcp.errors import ConfigError, DecodeError, nearest
from powertcp.ledger.audit import plain
from powertcp.ledger.book import Account, Code, Entry, Kind
from powertcp.ledger.receipt import NO_HASH, Flags, Page, Side
from powertcp.ledger.statement import joules, utc
from powertcp.store import Event, Head, LedgerStore, PageRow, PageState

DONE = 0
NO = 1
# what is left of 100 columns; --json has all
FACTS_COLUMNS = 71
NAME_COLUMNS = 18
_MOVES = (Kind.POST, Kind.POST_PENDING)

Record = dict[str, object]

ACCOUNT_COLUMNS = ("account", "unit", "debit", "credit", "balance", "reserved", "floor")
ENTRY_COLUMNS = (
    "seq", "at_ns", "kind", "code", "debit", "credit", "unit", "amount", "pending", "link", "memo",
    "key", "chain",
)  # fmt: skip
PAGE_COLUMNS = (
    "transcript", "page", "side", "state", "contract", "start_ns", "end_ns", "clock", "samples",
    "start_uj", "end_uj", "energy_uj", "cost_micro", "tariff", "flags", "source_key", "sink_key",
    "body", "error",
)  # fmt: skip
EVENT_COLUMNS = ("seq", "at_ns", "kind", "facts", "chain")
EXPORTS = ("all", "journal", "receipts", "events", "pages")
SHOWN = ("journal", "receipts", "events")


def show(asked: Asked) -> int:
    """Show the trial balance, an account, or a table; returns the exit status."""
    with open_ledger(only(asked.ledgers)) as store, store.at_one_moment():
        what = asked.what[0] if asked.what else ""
        match what:
            case "journal":
                return _journal(store, asked)
            case "receipts":
                return _receipts(store, asked)
            case "events":
                return _events(store, asked)
            case "":
                return _accounts(store, asked)
            case _:
                return _account(store, asked, what)


def export(asked: Asked) -> int:
    """Write records out, for other programs; returns the exit status."""
    what = asked.what[0] if asked.what else "journal" if asked.form == "csv" else "all"
    if what not in EXPORTS:
        choices = ", ".join(EXPORTS)
        text = f'export is one of {choices}, got "{what}"{nearest(what, EXPORTS)}'
        raise ConfigError("command line", "ledger", text)
    if what == "all" and asked.form == "csv":
        raise ConfigError(
            "command line", "ledger", "a CSV has one table: journal, receipts, events"
        )
    form = "json" if asked.form == "text" else asked.form
    with open_ledger(only(asked.ledgers)) as store, store.at_one_moment():
        match what:
            case "pages":
                return _raw_pages(store, asked)
            case "receipts":
                return _receipts(store, asked._replace(form=form))
            case "events":
                return _events(store, asked._replace(form=form))
            case "journal":
                return _journal(store, asked._replace(form=form))
            case _:
                return _everything(store, asked._replace(form=form))


# ---- accounts -----------------------------------------------------------------------------------


def _accounts(store: LedgerStore, asked: Asked) -> int:
    """Show what every account came to, and that each unit sums to 0."""
    accounts = list(_sums(store, asked))
    rows = Rows(asked.form, ACCOUNT_COLUMNS)
    rows.begin()
    rows.say(f"{'account':<40} {'debit':>18} {'credit':>18} {'balance':>20}")
    for account in accounts:
        rows.put(_account_record(account), _account_line(account))
    sums: dict[str, int] = {}
    for account in accounts:
        sums[account.unit] = sums.get(account.unit, 0) + account.debit - account.credit
    for unit, over in sorted(sums.items()):
        rows.say(f"trial balance {amount_text(over, unit)}")
    rows.say(_head_line(store.last_head()))
    return NO if any(sums.values()) else DONE


def _sums(store: LedgerStore, asked: Asked) -> Iterator[Account]:
    """Yield the accounts; with a span, what they came to in it."""
    accounts = store.accounts()
    if asked.span.is_open:
        yield from accounts
        return
    given: dict[int, int] = {}
    taken: dict[int, int] = {}
    for entry in store.entries(*bounds(asked.span)):
        if entry.kind in _MOVES:
            given[entry.debit] = given.get(entry.debit, 0) + entry.amount
            taken[entry.credit] = taken.get(entry.credit, 0) + entry.amount
    for account in accounts:
        debit, credit = given.get(account.id, 0), taken.get(account.id, 0)
        if debit or credit:
            yield Account(
                id=account.id, name=account.name, unit=account.unit, debit=debit, credit=credit
            )


def _account_record(account: Account) -> Record:
    return {
        "account": account.name,
        "unit": account.unit,
        "debit": account.debit,
        "credit": account.credit,
        "balance": account.balance,
        "reserved": account.reserved,
        "floor": account.floor,
    }


def _account_line(account: Account) -> str:
    debit, credit = (amount_text(it, account.unit) for it in (account.debit, account.credit))
    line = f"{plain(account.name):<40} {debit:>18} {credit:>18}"
    line += f" {amount_text(account.balance, account.unit):>20}"
    if account.reserved:
        line += f"  reserved {amount_text(account.reserved, account.unit)}"
    if account.floor is not None:
        line += f"  not below {amount_text(account.floor, account.unit)}"
    return line


def _account(store: LedgerStore, asked: Asked, name: str) -> int:
    """Show the entries of one account and what they come to."""
    accounts = {account.id: account for account in store.accounts()}
    chosen = next((account for account in accounts.values() if account.name == name), None)
    if chosen is None:
        hint = nearest(name, [*(account.name for account in accounts.values()), *SHOWN])
        print(f'powertcp ledger: no account is named "{plain(name)}"{hint}', file=sys.stderr)
        return NO
    rows = Rows(asked.form, ENTRY_COLUMNS)
    rows.begin()
    for entry in store.entries(*bounds(asked.span)):
        if chosen.id in (entry.debit, entry.credit):
            rows.put(_entry_record(entry, accounts), _entry_line(entry, accounts))
    for account in _sums(store, asked):
        if account.id == chosen.id:
            rows.say(_account_line(account))
    return DONE


# ---- tables -------------------------------------------------------------------------------------


def _journal(store: LedgerStore, asked: Asked) -> int:
    accounts = {account.id: account for account in store.accounts()}
    rows = Rows(asked.form, ENTRY_COLUMNS)
    rows.begin()
    for entry in store.entries(*bounds(asked.span)):
        rows.put(_entry_record(entry, accounts), _entry_line(entry, accounts))
    return DONE


def _entry_record(entry: Entry, accounts: Mapping[int, Account]) -> Record:
    debit, credit = accounts.get(entry.debit), accounts.get(entry.credit)
    return {
        "seq": entry.seq,
        "at_ns": entry.at_ns,
        "kind": _named(Kind, entry.kind),
        "code": _named(Code, entry.code),
        "debit": debit.name if debit else entry.debit,
        "credit": credit.name if credit else entry.credit,
        "unit": debit.unit if debit else None,
        "amount": entry.amount,
        "pending": entry.pending or None,
        "link": entry.link or None,
        "memo": entry.memo,
        "key": entry.key.hex(),
        "chain": entry.chain.hex(),
    }


def _entry_line(entry: Entry, accounts: Mapping[int, Account]) -> str:
    record = _entry_record(entry, accounts)
    how = "" if entry.kind == Kind.POST else f" {record['kind']}"
    amount = amount_text(entry.amount, str(record["unit"]))
    names = (cut(plain(str(record[end])), NAME_COLUMNS) for end in ("debit", "credit"))
    ways = " <- ".join(names)
    return f"{entry.seq:>7,} {utc(entry.at_ns)} {record['code']:<10} {amount:>18}  {ways}{how}"


def _named(kind: type[Kind] | type[Code], value: int) -> str:
    try:
        return kind(value).name
    except ValueError:
        return str(value)


def _receipts(store: LedgerStore, asked: Asked) -> int:
    rows = Rows(asked.form, PAGE_COLUMNS)
    rows.begin()
    status = DONE
    for row in store.pages():
        try:
            page = Page.from_wire(row.body)
        except DecodeError as error:
            status = NO
            record = _row_record(row) | {"body": row.body.hex(), "error": str(error)}
            rows.put(record, f"{row.transcript.hex()[:16]} {row.page:>6,}  unreadable: {error}")
            continue
        if asked.span.holds(page.end_ns):
            rows.put(_page_record(row, page), _page_line(row, page))
    return status


def _row_record(row: PageRow) -> Record:
    return {
        "transcript": row.transcript.hex(),
        "page": row.page,
        "side": Side(row.side).name.lower(),
        "state": PageState(row.state).name.lower(),
    }


def _page_record(row: PageRow, page: Page) -> Record:
    return _row_record(row) | {
        "contract": page.contract,
        "start_ns": page.start_ns,
        "end_ns": page.end_ns,
        "clock": str(page.clock),
        "samples": page.samples,
        "start_uj": page.start_uj,
        "end_uj": page.end_uj,
        "energy_uj": page.energy_uj,
        "cost_micro": page.cost_micro,
        "tariff": page.tariff.hex() if page.tariff != NO_HASH else None,
        "flags": int(page.flags),
        "source_key": page.source_key.hex(),
        "sink_key": page.sink_key.hex(),
        "body": row.body.hex(),
    }


def _page_line(row: PageRow, page: Page) -> str:
    record = _row_record(row)
    said = "  (simulated)" if Flags.SIMULATED in page.flags else ""
    other = page.sink_key if row.side == Side.SOURCE else page.source_key
    return (
        f"{row.transcript.hex()[:16]} {row.page:>6,} {record['side']:<6} {record['state']:<13}"
        f" {utc(page.end_ns)} {joules(page.energy_uj):>16}  {other.hex()[:8]}{said}"
    )


def _events(store: LedgerStore, asked: Asked) -> int:
    rows = Rows(asked.form, EVENT_COLUMNS)
    rows.begin()
    for event in store.events(*bounds(asked.span)):
        said = cut(f"{plain(event.kind)} {plain(event.facts)}", FACTS_COLUMNS)
        rows.put(_event_record(event, asked.form), f"{event.seq:>7,} {utc(event.at_ns)} {said}")
    return DONE


def _event_record(event: Event, form: str) -> Record:
    facts = event.facts if form == "csv" else facts_of(event)
    return {
        "seq": event.seq,
        "at_ns": event.at_ns,
        "kind": event.kind,
        "facts": facts,
        "chain": event.chain.hex(),
    }


def _head_record(head: Head) -> Record:
    return {
        "number": head.number,
        "seq": head.seq,
        "chain": head.chain.hex(),
        "events": head.events,
        "event_chain": head.event_chain.hex(),
        "at_ns": head.at_ns,
        "meter_key": head.key.hex(),
        "signature": head.signature.hex(),
    }


def _head_line(head: Head | None) -> str:
    return f"head {head_text(head)}" if head else "no head is signed"


def head_text(head: Head) -> str:
    """Return where a journal stood when its head was signed."""
    return f"{head.seq} {head.chain.hex()} {utc(head.at_ns)}"


# ---- everything ---------------------------------------------------------------------------------


def _everything(store: LedgerStore, asked: Asked) -> int:
    """Write every record as a line of JSON, the table it is of first."""
    rows = Rows(asked.form, ())
    accounts = {account.id: account for account in store.accounts()}
    for account in accounts.values():
        rows.put({"record": "account"} | _account_record(account), "")
    for entry in store.entries(*bounds(asked.span)):
        rows.put({"record": "entry"} | _entry_record(entry, accounts), "")
    status = DONE
    for row in store.pages():
        try:
            page = Page.from_wire(row.body)
        except DecodeError as error:
            status = NO
            record = _row_record(row) | {"body": row.body.hex(), "error": str(error)}
        else:
            if not asked.span.holds(page.end_ns):
                continue
            record = _page_record(row, page)
        rows.put({"record": "page"} | record, "")
    for event in store.events(*bounds(asked.span)):
        rows.put({"record": "event"} | _event_record(event, asked.form), "")
    for head in store.heads():
        if asked.span.holds(head.at_ns):
            rows.put({"record": "head"} | _head_record(head), "")
    return status


def _raw_pages(store: LedgerStore, asked: Asked) -> int:
    """Write the octets of countersigned pages: all that `powertcp ledger verify` needs."""
    out = sys.stdout.buffer
    if out.isatty():
        text = "pages are octets: write them to a file, powertcp ledger export pages > FILE.ptr"
        raise ConfigError("command line", "ledger", text)
    for row in store.pages():
        if row.state == PageState.COUNTERSIGNED and asked.span.holds(_end_ns(row.body)):
            out.write(row.body)
    out.flush()
    return DONE


def _end_ns(body: bytes) -> int:
    """Return when a page ended; what it is otherwise is for `verify` to say."""
    return int.from_bytes(body[76:84], "big")


def backup(asked: Asked) -> int:
    """Copy the ledger as it is at one moment, and look at the copy; returns the exit status."""
    (name,) = asked.what
    path = Path(name)
    with open_ledger(only(asked.ledgers)) as store:
        store.backup(path)
    with open_ledger(path) as copy:
        wrong = [finding for finding in copy.verify(full=False) if not finding.is_warning]
        head = copy.last_head()
        records = sum(1 for _ in copy.entries())
    for finding in wrong:
        print(f"powertcp ledger: {path}: {finding}", file=sys.stderr)
    record: Record = {
        "file": str(path),
        "entries": records,
        "head": head.chain.hex() if head else None,
    }
    line = f"{path}: {records:,} entries, {_head_line(head)}"
    Rows(asked.form, tuple(record)).put(record, line)
    return NO if wrong else DONE
