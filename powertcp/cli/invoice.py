"""`powertcp ledger invoice`: the statement of one party for a period, from a ledger or page files."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from powertcp.cli.books import (
    Asked,
    Rows,
    facts_of,
    is_ledger,
    only,
    open_ledger,
    read_file,
    read_pages,
)
from powertcp.cli.journal import head_text
from powertcp.errors import ConfigError, nearest
from powertcp.ledger.audit import plain
from powertcp.ledger.book import Code
from powertcp.ledger.memo import FeedMemo, FlowMemo, read_memo
from powertcp.ledger.receipt import NO_HASH, PAGE_OCTETS, Side
from powertcp.ledger.statement import (
    COLUMNS,
    Document,
    Given,
    Statement,
    end_fields,
    in_order,
    joules,
    line_fields,
    text,
)
from powertcp.ledger.tariff import parse_tariff
from powertcp.store import LedgerStore
from powertcp.wire.feeds import feed_transcript

DONE = 0
NO = 1
_PARTIES = ("sink", "from", "payer", "payee", "employee", "lent", "feed")
_KEY_DIGITS = 64
_LEAST_DIGITS = 8

Documents = dict[bytes, Document]


class _Found(NamedTuple):
    """What an account of a party says: its flows, their currencies, and what has no pages."""

    transcripts: frozenset[bytes]
    currencies: Mapping[bytes, str]
    unsigned_uj: int


def invoice(asked: Asked, tariffs: Iterable[str]) -> int:
    """Print a statement; returns the exit status."""
    party, *files = asked.what
    documents = dict(_documents(tariffs))
    if files:
        return _of_files(asked, party, files, documents)
    with open_ledger(only(asked.ledgers)) as store, store.at_one_moment():
        documents = _of_events(store) | documents
        head = store.last_head()
        said = head_text(head) if head else "none is signed"
        key = _meter(party, (row.body for row in store.pages())) if _is_hex(party) else None
        if key is not None:
            statement = Statement(key.hex(), asked.span, documents)
            _learn_currencies(store, documents)
            return _print(asked, statement, _of_meter(store, key), said)
        found = _account(store, asked, party)
        if found is None:
            return _nobody(party, [account.name for account in store.accounts()])
        statement = Statement(plain(party), asked.span, documents)
        if found.unsigned_uj:
            amount = joules(found.unsigned_uj)
            statement.remark(f"{amount} were posted without pages and are not in the sums")
        return _print(asked, statement, _of_flows(store, found, documents), said)


def _print(asked: Asked, statement: Statement, pages: Iterable[Given], head: str) -> int:
    rows = Rows(asked.form, COLUMNS)
    rows.begin()
    for line in statement.lines(pages):
        if asked.form != "text":
            rows.put(line_fields(line), "")
    if asked.form == "text":
        print(text(statement, head), end="")
    else:
        for record in end_fields(statement, head):
            rows.put(record, "")
    return NO if statement.faults else DONE


def _nobody(party: str, names: list[str]) -> int:
    known = {name.partition(":")[2] for name in names if name.partition(":")[0] in _PARTIES}
    hint = nearest(party, known - {"", "self"})
    print(f'powertcp ledger: no pages of "{plain(party)}"{hint}', file=sys.stderr)
    return NO


# ---- parties by their meter ---------------------------------------------------------------------


def _is_hex(party: str) -> bool:
    digits = set(party.lower()) <= set("0123456789abcdef")
    return digits and _LEAST_DIGITS <= len(party) <= _KEY_DIGITS


def _meter(party: str, pages: Iterable[bytes]) -> bytes | None:
    """Return the one meter key that begins so. Raises ConfigError when there are two."""
    found: set[bytes] = set()
    for octets in pages:
        for key in (octets[188:220], octets[220:252]):
            if key.hex().startswith(party.lower()):
                found.add(key)
    if len(found) > 1:
        text_ = f"{len(found)} meters begin with {party}, give more digits"
        raise ConfigError("command line", "ledger", text_)
    return next(iter(found), None)


def _given(key: bytes, octets: bytes) -> Given | None:
    if octets[220:252] == key:
        return Given(Side.SINK, octets)
    return Given(Side.SOURCE, octets) if octets[188:220] == key else None


def _of_meter(store: LedgerStore, key: bytes) -> Iterator[Given]:
    return (given for row in store.pages() if (given := _given(key, row.body)))


# ---- parties by their account -------------------------------------------------------------------


def _account(store: LedgerStore, asked: Asked, party: str) -> _Found | None:
    """Return what the accounts of `party` name; None when there are none."""
    accounts = {account.id: account for account in store.accounts()}
    own = {
        account.id
        for account in accounts.values()
        if party == account.name
        or (account.name.partition(":")[0] in _PARTIES and party == account.name.partition(":")[2])
    }
    if not own:
        return None
    transcripts: set[bytes] = set()
    currencies: dict[bytes, str] = {}
    unsigned = 0
    for entry in store.entries():
        if entry.debit not in own and entry.credit not in own:
            continue
        memo = read_memo(entry.memo)
        if isinstance(memo, FlowMemo):
            transcripts.add(memo.transcript)
            if entry.code == Code.MONEY:
                currencies[memo.transcript] = accounts[entry.debit].unit.removeprefix("micro-")
        elif isinstance(memo, FeedMemo):
            transcripts.add(feed_transcript(memo.feed, memo.epoch))
        elif entry.code == Code.UNSIGNED and asked.span.holds(entry.at_ns):
            unsigned += entry.amount
    return _Found(frozenset(transcripts), currencies, unsigned)


def _of_flows(store: LedgerStore, found: _Found, documents: Documents) -> Iterator[Given]:
    """Yield the pages of flows; the party is the end that this ledger's owner is not."""
    for transcript in sorted(found.transcripts):
        currency = found.currencies.get(transcript)
        for row in store.pages(transcript):
            if currency is not None:
                _learn(documents, row.body, currency)
            yield Given(Side.SINK if row.side == Side.SOURCE else Side.SOURCE, row.body)


# ---- tariffs ------------------------------------------------------------------------------------


def _documents(names: Iterable[str]) -> Iterator[tuple[bytes, Document]]:
    for name in names:
        octets = read_file(Path(name))
        document = parse_tariff(octets, name)
        yield document.digest, Document(text=octets.decode(), currency=document.currency)


def _of_events(store: LedgerStore) -> Documents:
    """Return the tariff documents that a daemon wrote down."""
    found: Documents = {}
    for event in store.events():
        if event.kind != "tariff":
            continue
        said = facts_of(event).get("document")
        if not isinstance(said, str):
            continue
        try:
            document = parse_tariff(said.encode(), "event")
        except ConfigError:
            continue
        found[document.digest] = Document(text=said, currency=document.currency)
    return found


def _learn_currencies(store: LedgerStore, documents: Documents) -> None:
    """Take the currency of a tariff that is not at hand from the money that was posted with it."""
    accounts = {account.id: account for account in store.accounts()}
    known: dict[bytes, str] = {}
    for entry in store.entries():
        memo = read_memo(entry.memo) if entry.code == Code.MONEY else None
        if isinstance(memo, FlowMemo) and memo.transcript not in known:
            currency = accounts[entry.debit].unit.removeprefix("micro-")
            known[memo.transcript] = currency
            for row in store.pages(memo.transcript):
                _learn(documents, row.body, currency)


def _learn(documents: Documents, octets: bytes, currency: str) -> None:
    digest = octets[92:124]
    if digest != NO_HASH and digest not in documents:
        documents[digest] = Document(text="", currency=currency)


# ---- page files ---------------------------------------------------------------------------------


def _of_files(asked: Asked, party: str, files: list[str], documents: Documents) -> int:
    for name in files:
        if is_ledger(Path(name)):
            text_ = "it is a ledger, which --state-dir names; after PARTY there are page files"
            raise ConfigError("command line", name, text_)
    cut = [
        octets[at : at + PAGE_OCTETS]
        for _, octets in read_pages(files)
        for at in range(0, len(octets), PAGE_OCTETS)
    ]
    key = _meter(party, cut) if _is_hex(party) else None
    if key is None:
        return _nobody(party, [])
    statement = Statement(key.hex(), asked.span, documents)
    given = [found for octets in cut if (found := _given(key, octets))]
    return _print(asked, statement, in_order(given), "")
