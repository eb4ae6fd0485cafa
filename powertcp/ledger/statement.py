"""Statements of a period: what one party took or gave, from pages that both sides signed.

Whoever has the same pages gets the same octets: pages are counted once, in the order of transcript
and number, whatever their copies and the order in which they come. Only flows are kept in memory.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import blake2s
from itertools import groupby
from typing import Final, NamedTuple

from powertcp.errors import DecodeError
from powertcp.ledger.pairing import Span
from powertcp.ledger.receipt import NO_HASH, NO_SIGNATURE, Clock, Flags, Page, Side, page_hash
from powertcp.units import NS_PER_S

# notes that are listed; the rest is counted
MAX_NOTES: Final = 50
SHORT: Final = 16
_ORDER: Final = slice(4, 36)
_NUMBER: Final = slice(40, 44)
_METER: Final = slice(220, 252)
_SIGNED: Final = slice(0, 316)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Given(NamedTuple):
    """A page that belongs to a statement: which end of it the party is, and its 380 octets."""

    side: Side
    octets: bytes


class Note(StrEnum):
    """What a statement does not count, or counts with a remark."""

    UNREADABLE = "unreadable"
    UNSIGNED = "not countersigned"
    FORGED = "signature wrong"
    UNLIKE = "unlike copies"
    CHAIN = "chain broken"
    GAP = "pages missing"


# what says that the pages are not those that both sides signed
FAULTS: Final = frozenset({Note.UNREADABLE, Note.FORGED, Note.UNLIKE, Note.CHAIN})


class Line(NamedTuple):
    """One page of a statement."""

    side: Side
    page: Page
    currency: str
    digest: bytes


@dataclass(slots=True)
class Piece:
    """The pages of one flow under one tariff."""

    side: Side
    transcript: bytes
    tariff: bytes
    pages: int = 0
    start_ns: int = 0
    end_ns: int = 0
    samples: int = 0
    energy_uj: int = 0
    cost_micro: int = 0
    flags: Flags = field(default=Flags(0))
    clocks: set[Clock] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Total:
    """What one party took (as sink) or gave (as source) in one currency, "" if it is not known."""

    side: Side
    currency: str
    pages: int
    energy_uj: int
    cost_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A tariff document: its text as hashed, "" if it is not at hand, and its currency."""

    text: str
    currency: str


def in_order(pages: Iterable[Given]) -> list[Given]:
    """Return pages in the order a statement takes them: for pages of files, which may be in any."""
    return sorted(set(pages), key=_sort_key)


def _sort_key(given: Given) -> tuple[bytes, bytes, bytes, bytes, int]:
    octets = given.octets
    return octets[_ORDER], octets[_NUMBER], octets[_METER], octets, given.side


class Statement:
    """A statement in the making: run `lines` to its end, then the rest can be asked for."""

    def __init__(self, party: str, span: Span, tariffs: Mapping[bytes, Document]) -> None:
        """Begin. tariffs: the documents at hand, by their digest."""
        self.party = party
        self.span = span
        self.notes: list[str] = []
        self.remarks = 0
        self.counts: dict[Note, int] = {}
        self._tariffs = tariffs
        self._pieces: dict[tuple[Side, bytes, bytes], Piece] = {}
        self._digest = blake2s()
        # of the flow that is being read: number, end and hash of its last page
        self._flow: tuple[bytes, bytes] = (b"", b"")
        self._last: tuple[int, int, bytes] | None = None
        # of the last page of each flow; and what resumed flows follow
        self._ends: dict[tuple[bytes, bytes], bytes] = {}
        self._resumed: list[tuple[str, bytes]] = []

    @property
    def faults(self) -> int:
        """How many pages are not what both sides signed."""
        return sum(count for note, count in self.counts.items() if note in FAULTS)

    @property
    def digest(self) -> str:
        """BLAKE2s-256 of all counted pages, one after another."""
        return self._digest.hexdigest()

    def pieces(self) -> list[Piece]:
        """Return what was counted, by flow and tariff, in the order of time."""
        found = self._pieces.values()
        return sorted(found, key=lambda it: (it.side, it.start_ns, it.transcript, it.tariff))

    def totals(self) -> list[Total]:
        """Return the sums, one for each side and currency: currencies are not added up."""
        sums: dict[tuple[Side, str], list[int]] = {}
        for piece in self._pieces.values():
            row = sums.setdefault((piece.side, self._currency(piece.tariff)), [0, 0, 0])
            for at, more in enumerate((piece.pages, piece.energy_uj, piece.cost_micro)):
                row[at] += more
        return [Total(*key, *row) for key, row in sorted(sums.items())]

    def documents(self) -> list[tuple[bytes, Document | None]]:
        """Return the tariffs of what was counted; None for one that is not at hand."""
        digests = {piece.tariff for piece in self._pieces.values()} - {NO_HASH}
        return [(digest, self._tariffs.get(digest)) for digest in sorted(digests)]

    # LEDG-8-03
    def lines(self, pages: Iterable[Given]) -> Iterator[Line]:
        """Yield each page that counts; `pages` come in the order of transcript and number."""
        for _, copies in groupby(pages, key=lambda given: _sort_key(given)[:3]):
            line = self._choose(list(dict.fromkeys(copies)))
            if line is None or not self.span.holds(line.page.end_ns):
                continue
            self._digest.update(line.page.to_wire())
            self._count(line)
            yield line
        ends = set(self._ends.values())
        for where, previous in self._resumed:
            if previous not in ends:
                self._note(Note.GAP, f"{where}: the page that it resumes after is not here")

    def _choose(self, copies: Sequence[Given]) -> Line | None:
        """Return the one page that both sides signed among copies of the same number."""
        valid: dict[bytes, Line] = {}
        reasons: list[tuple[Note, str]] = []
        for given in copies:
            found = self._read(given)
            if isinstance(found, Line):
                valid.setdefault(given.octets[_SIGNED], found)
            else:
                reasons.append(found)
        for note, said in reasons:
            if note is not Note.UNSIGNED or not valid:
                self._note(note, said)
        if len(valid) == 1:
            (line,) = valid.values()
            self._follow(line)
            return line
        if any(self.span.holds(line.page.end_ns) for line in valid.values()):
            where = _place(next(iter(valid.values())).page)
            self._note(Note.UNLIKE, f"{where}: {len(valid)} unlike pages are signed, none counts")
        return None

    def _read(self, given: Given) -> Line | tuple[Note, str]:
        """Return a page, its signatures checked if it is of the span; or why it does not count."""
        try:
            page = Page.from_wire(given.octets)
        except DecodeError as error:
            return Note.UNREADABLE, f"{given.octets[_ORDER].hex()[:SHORT]}: {error}"
        if self.span.holds(page.end_ns):
            if not page.is_feed and not page.is_signed_by_source():
                return Note.FORGED, f"{_place(page)}: the signature of its source is wrong"
            if page.sink_signature == NO_SIGNATURE:
                return Note.UNSIGNED, f"{_place(page)}: its sink has not signed it"
            if not page.is_signed_by_sink():
                return Note.FORGED, f"{_place(page)}: the signature of its sink is wrong"
        return Line(given.side, page, self._currency(page.tariff), page_hash(given.octets))

    def _follow(self, line: Line) -> None:
        """Compare a page with the one before of its flow."""
        page, flow = line.page, (line.page.transcript, line.page.sink_key)
        number, end_uj, before = 0, 0, NO_HASH
        if flow == self._flow and self._last is not None:
            number, end_uj, before = self._last
            number += 1
        where = _place(page)
        is_first, self._ends[flow] = flow not in self._ends, line.digest
        self._flow, self._last = flow, (page.page, page.end_uj, line.digest)
        if not self.span.holds(page.end_ns):
            return
        if is_first and Flags.RESUMED in page.flags:
            # a resume goes on under another transcript, or without a page before it
            if page.previous != NO_HASH:
                self._resumed.append((where, page.previous))
        elif page.page != number:
            missing = f"page {number}" if page.page == number + 1 else f"pages {number} to"
            missing += "" if page.page == number + 1 else f" {page.page - 1}"
            self._note(Note.GAP, f"{where}: {missing} before it not here")
        elif page.previous != before or page.start_uj != end_uj:
            self._note(Note.CHAIN, f"{where}: it does not follow the page before")

    def _count(self, line: Line) -> None:
        page = line.page
        key = (line.side, page.transcript, page.tariff)
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = Piece(*key, start_ns=page.start_ns, end_ns=page.end_ns)
        piece.pages += 1
        piece.start_ns = min(piece.start_ns, page.start_ns)
        piece.end_ns = max(piece.end_ns, page.end_ns)
        piece.samples += page.samples
        piece.energy_uj += page.energy_uj
        piece.cost_micro += page.cost_micro
        piece.flags |= page.flags
        piece.clocks.add(page.clock)

    def _currency(self, tariff: bytes) -> str:
        document = self._tariffs.get(tariff)
        return document.currency if document else ""

    def remark(self, sentence: str) -> None:
        """Add what is to be said and changes no sum."""
        self.notes.append(sentence)
        self.remarks += 1

    def _note(self, note: Note, sentence: str) -> None:
        self.counts[note] = self.counts.get(note, 0) + 1
        if len(self.notes) < MAX_NOTES:
            self.notes.append(f"{note}: {sentence}")


def _place(page: Page) -> str:
    return f"{page.transcript.hex()[:SHORT]} page {page.page}"


# ---- text forms -----------------------------------------------------------------------------------


def utc(at_ns: int) -> str:
    """Return Unix time as text, to the second: 2026-11-21T18:04:01Z."""
    moment = _EPOCH + timedelta(seconds=at_ns // NS_PER_S)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def joules(uj: int) -> str:
    """Return an energy to the microjoule: 1,204.331000 J."""
    return f"{_six(uj)} J"


def money(micro: int, currency: str) -> str:
    """Return an amount to the millionth: 0.000105 EUR."""
    return f"{_six(micro)} {currency or 'units'}"


def _six(value: int) -> str:
    sign, value = "-" * (value < 0), abs(value)
    return f"{sign}{value // 1_000_000:,}.{value % 1_000_000:06}"


def period(span: Span) -> str:
    """Return a span as text."""
    if span.is_open:
        return "all pages"
    since = "the beginning" if span.since_ns is None else utc(span.since_ns)
    return f"{since} to {'the end' if span.until_ns is None else utc(span.until_ns)}"


def text(statement: Statement, head: str) -> str:
    """Return the statement for people, at most 100 columns.

    head: where the journal stood from which the pages came; "" for pages of files.
    """
    rows = [f"Statement for {statement.party}, {period(statement.span)}", ""]
    for side in Side:
        pieces = [piece for piece in statement.pieces() if piece.side is side]
        if not pieces:
            continue
        rows.append(f"{'received' if side is Side.SINK else 'delivered'} by this party")
        rows.append(
            f"{'flow':<8} {'pages':>5} {'from':<20} {'to':<20} {'energy':>17} {'tariff':<6} remarks"
        )
        rows += [_piece_line(piece) for piece in pieces]
        rows += [_total_line(total) for total in statement.totals() if total.side is side]
        rows.append("")
    if not statement.totals():
        rows += ["no pages", ""]
    for digest, document in statement.documents():
        said = " ".join(document.text.split()) if document else ""
        said = said or "its document is not at hand"
        rows.append(f"tariff {digest.hex()}: {said}")
    rows += [f"note: {note}" for note in statement.notes]
    more = sum(statement.counts.values()) + statement.remarks - len(statement.notes)
    rows += [f"note: {more:,} more"] if more else []
    rows.append(f"pages {statement.digest}")
    rows += [f"head {head}"] if head else []
    return "\n".join(rows) + "\n"


def _piece_line(piece: Piece) -> str:
    tariff = piece.tariff.hex()[:6] if piece.tariff != NO_HASH else "none"
    return (
        f"{piece.transcript.hex()[:8]} {piece.pages:>5,} {utc(piece.start_ns)}"
        f" {utc(piece.end_ns)} {joules(piece.energy_uj):>17} {tariff:<6} {_remarks(piece)}"
    ).rstrip()


def _remarks(piece: Piece) -> str:
    said = [
        word
        for flag, word in (
            (Flags.FEED, "feed"),
            (Flags.TRUNCATED, "truncated"),
            (Flags.SIMULATED, "(simulated)"),
        )
        if flag in piece.flags
    ]
    doubtful = sorted(piece.clocks & {Clock.UNSYNCHRONISED, Clock.RELATIVE})
    said += [f"clock {','.join(doubtful)}"] if doubtful else []
    return " ".join(said)


def _total_line(total: Total) -> str:
    sums = joules(total.energy_uj)
    if total.cost_micro or total.currency:
        sums += f", {money(total.cost_micro, total.currency)}"
    return f"total {total.pages:,} {'page' if total.pages == 1 else 'pages'}: {sums}"


COLUMNS: Final = (
    "record", "side", "transcript", "page", "pages", "contract", "start_ns", "end_ns", "clock", "samples",
    "start_uj", "end_uj", "energy_uj", "cost_micro", "currency", "tariff", "flags", "hash",
)  # fmt: skip


def line_fields(line: Line) -> dict[str, object]:
    """Return one page of a statement as a record, integers with the unit in the key."""
    page = line.page
    return {
        "record": "page",
        "side": line.side.name.lower(),
        "transcript": page.transcript.hex(),
        "page": page.page,
        "contract": page.contract,
        "start_ns": page.start_ns,
        "end_ns": page.end_ns,
        "clock": str(page.clock),
        "samples": page.samples,
        "start_uj": page.start_uj,
        "end_uj": page.end_uj,
        "energy_uj": page.energy_uj,
        "cost_micro": page.cost_micro,
        "currency": line.currency,
        "tariff": page.tariff.hex() if page.tariff != NO_HASH else "",
        "flags": int(page.flags),
        "hash": line.digest.hex(),
    }


def end_fields(statement: Statement, head: str) -> list[dict[str, object]]:
    """Return the records after the pages: totals, notes, and what commits to all of them."""
    totals: list[dict[str, object]] = [
        {
            "record": "total",
            "side": total.side.name.lower(),
            "pages": total.pages,
            "energy_uj": total.energy_uj,
            "cost_micro": total.cost_micro,
            "currency": total.currency,
        }
        for total in statement.totals()
    ]
    tariffs: list[dict[str, object]] = [
        {
            "record": "tariff",
            "tariff": digest.hex(),
            "document": document.text if document else None,
        }
        for digest, document in statement.documents()
    ]
    notes: list[dict[str, object]] = [{"record": "note", "text": note} for note in statement.notes]
    span = statement.span
    last: dict[str, object] = {
        "record": "statement",
        "party": statement.party,
        "since_ns": span.since_ns,
        "until_ns": span.until_ns,
        "faults": statement.faults,
        "hash": statement.digest,
        "head": head,
    }
    return [*totals, *tariffs, *notes, last]


def json_line(record: Mapping[str, object]) -> str:
    """Return one record as a line of JSON."""
    return json.dumps(record, separators=(", ", ": ")) + "\n"


def csv_line(record: Mapping[str, object]) -> str:
    """Return one record as a line of CSV; fields that are no column are left out."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([record.get(name, "") for name in COLUMNS])
    return out.getvalue()
