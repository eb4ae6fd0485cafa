"""Pages held against each other: what one book says was owed, another says was held.

Books are read side by side in the order of (transcript, page), so that memory depends on the number
of books, meters, flows and receivers, not on that of pages.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from heapq import merge
from itertools import groupby
from typing import Final, NamedTuple

from powertcp.errors import DecodeError
from powertcp.ledger.receipt import SINK_SIGNS, Flags, Page, Side, page_hash
from powertcp.wire.feeds import feed_id

# findings of one kind that are listed; the rest is counted
MAX_LISTED: Final = 20
# the name of pages that are in no book: what receivers of feeds signed and sent
EVIDENCE: Final = "page files"


class PageState(IntEnum):
    """How far a page came in the book that holds it."""

    SENT = 0
    COUNTERSIGNED = 1
    DISPUTED = 2


class Held(NamedTuple):
    """A page as one book holds it: as which end of the flow, how far it came, its octets."""

    transcript: bytes
    page: int
    side: int
    state: int
    octets: bytes


class Span(NamedTuple):
    """From `since_ns` on, before `until_ns`, both Unix time; None is open."""

    since_ns: int | None = None
    until_ns: int | None = None

    def holds(self, at_ns: int) -> bool:
        """Return whether an instant lies inside."""
        return (self.since_ns is None or at_ns >= self.since_ns) and (
            self.until_ns is None or at_ns < self.until_ns
        )

    @property
    def is_open(self) -> bool:
        """Whether it is all of time."""
        return self.since_ns is None and self.until_ns is None


ALL_TIME: Final = Span()


class Fault(StrEnum):
    """What is the matter with books or pages."""

    UNREADABLE = "unreadable"
    MISFILED = "misfiled"
    FORGED = "forged"
    DIFFERENT = "different"
    TWICE = "held twice"
    EQUIVOCAL = "signed twice"
    STRANGE_SOURCE = "another source"
    OVERLAP = "overlap"
    MISSING = "missing"
    UNPOSTED = "unposted"
    IN_FLIGHT = "in flight"
    DISPUTED = "disputed"
    UNKNOWN_FEED = "unknown feed"
    UNCLASSED = "unclassed"
    RESIDUAL = "residual"
    ABOVE_EMISSION = "above emission"
    CUT = "cut"


# what may be so in books that are in order
OPEN_FAULTS: Final = frozenset(
    {Fault.IN_FLIGHT, Fault.DISPUTED, Fault.UNKNOWN_FEED, Fault.ABOVE_EMISSION, Fault.CUT}
)


class Finding(NamedTuple):
    """One fault and the sentence that says where it is."""

    fault: Fault
    sentence: str


class Findings:
    """Faults: the first of each kind are listed, all are counted."""

    def __init__(self) -> None:
        """Begin with none."""
        self.listed: list[Finding] = []
        self.counts: dict[Fault, int] = {}

    def add(self, fault: Fault, sentence: str) -> None:
        """Note one."""
        count = self.counts.get(fault, 0)
        self.counts[fault] = count + 1
        if count < MAX_LISTED:
            self.listed.append(Finding(fault, sentence))

    @property
    def broken(self) -> int:
        """How many cannot be in books that are in order."""
        return sum(count for fault, count in self.counts.items() if fault not in OPEN_FAULTS)


@dataclass(slots=True)
class Receiver:
    """What one meter signed of one feed: its energy is what `powertcp ledger audit` believes."""

    energy_uj: int = 0
    pages: int = 0
    gaps: int = 0
    samples: int = 0
    end_uj: int | None = None
    last_page: int = -1


@dataclass(slots=True)
class Alone:
    """Pages whose other side was not met: of one own meter against one other."""

    pages: int = 0
    energy_uj: int = 0
    countersigned: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Signed:
    """The energy of the signed pages of one book: of flows and, as a receiver, of feeds."""

    flows_uj: int = 0
    feeds_uj: int = 0


@dataclass(slots=True, kw_only=True)
class Pairing:
    """What the pages of all books say together.

    flows: unicast flows with a page in the span. paired: pages both ends hold alike. outside: pages
    whose other end is in none of the books. meters: book of each meter key. feeds: by transcript,
    what each receiver signed. signed: per book.
    """

    flows: int = 0
    paired: int = 0
    paired_uj: int = 0
    outside: int = 0
    outside_uj: int = 0
    open_pages: int = 0
    open_uj: int = 0
    simulated: int = 0
    meters: dict[bytes, str] = field(default_factory=dict)
    feeds: dict[bytes, dict[bytes, Receiver]] = field(default_factory=dict)
    signed: dict[str, Signed] = field(default_factory=dict)


class _Row(NamedTuple):
    """A page of one book, read."""

    book: str
    held: Held
    page: Page


def pair(
    books: Sequence[tuple[str, Iterable[Held]]],
    span: Span,
    findings: Findings,
    meters: Mapping[bytes, str] | None = None,
    feeds: Mapping[bytes, bytes] | None = None,
) -> Pairing:
    """Return what the pages of `books` say together; faults are added to `findings`.

    Each book gives its pages in ascending order of transcript and page, its name is its own. Of
    EVIDENCE only pages of feeds count.
    meters: whose book that of a meter is, as far as it is known before. feeds: ids by transcript; a
    page that names another source than the one of its feed does not count.
    A page belongs to the instant at which it ended, so both its ends agree on its span.
    """
    return _Pairer(span, findings, meters or {}, feeds or {}).run(books)


class _Pairer:
    """One walk over all pages."""

    def __init__(
        self,
        span: Span,
        findings: Findings,
        meters: Mapping[bytes, str],
        feeds: Mapping[bytes, bytes],
    ) -> None:
        self._span = span
        self._findings = findings
        self._feeds = feeds
        self._result = Pairing(meters=dict(meters))
        # (own meter, other meter, own side) -> pages
        self._alone: dict[tuple[bytes, bytes, Side], Alone] = {}
        # by receiver: its pages of feeds that it was not seen to hold
        self._unheld: dict[bytes, Alone] = {}
        # of the last page of each transcript; and what resumed flows follow
        self._ends: list[bytes] = []
        self._resumed: list[bytes] = []
        self._last: Page | None = None

    def run(self, books: Sequence[tuple[str, Iterable[Held]]]) -> Pairing:
        """Walk over the pages of all books."""
        self._result.signed = {name: Signed() for name, _ in books}
        streams = [_named(name, pages) for name, pages in sorted(books, key=lambda book: book[0])]
        rows = merge(*streams, key=lambda row: row[1][:2])
        for _, group in groupby(rows, key=lambda row: row[1][:2]):
            pages: list[_Row] = []
            for book, held in group:
                if row := self._read(book, held, pages):
                    pages.append(row)
            self._group(pages)
        self._end_flow()
        self._settle()
        return self._result

    def _read(self, book: str, held: Held, before: list[_Row]) -> _Row | None:
        if before and book != EVIDENCE and before[-1].held.octets == held.octets:
            # the same page in another book: most are
            return _Row(book, held, before[-1].page)
        try:
            page = Page.from_wire(held.octets)
        except DecodeError as error:
            where = _place(held.transcript, held.page)
            self._findings.add(Fault.UNREADABLE, f"{book}: {where}: {error}")
            return None
        if (page.transcript, page.page) != held[:2]:
            where = _place(held.transcript, held.page)
            said = _place(page.transcript, page.page)
            self._findings.add(Fault.MISFILED, f"{book}: {where} holds {said}")
            return None
        row = _Row(book, held, page)
        return row if book != EVIDENCE or self._is_evidence(row) else None

    def _is_evidence(self, row: _Row) -> bool:
        """Return whether a page of no book is of a feed; one of a flow must be whole all the same."""
        page = row.page
        if page.is_feed:
            return True
        if not (page.is_signed_by_source() and page.is_signed_by_sink()):
            where = _place(row.held.transcript, row.held.page)
            said = f"{row.book}: {where}: of no feed, and not signed by both ends"
            self._findings.add(Fault.FORGED, said)
        return False

    def _group(self, rows: list[_Row]) -> None:
        feeds = [row for row in rows if row.page.is_feed]
        flows = [row for row in rows if not row.page.is_feed]
        if flows:
            self._flow(flows)
        if feeds:
            self._feed(feeds)

    # ---- unicast ----

    def _flow(self, rows: list[_Row]) -> None:
        ends: dict[int, _Row] = {}
        for row in rows:
            side = Side.SOURCE if row.held.side == Side.SOURCE else Side.SINK
            if (first := ends.setdefault(side, row)) is not row:
                where = _place(row.held.transcript, row.held.page)
                said = f"{where}: {first.book} and {row.book} both hold the {side.name.lower()}'s"
                self._findings.add(Fault.TWICE, said)
            self._know(row, side)
        shown = next(iter(ends.values())).page
        if not self._span.holds(shown.end_ns):
            return
        if self._last is None or shown.transcript != self._last.transcript:
            self._end_flow()
            if Flags.RESUMED in shown.flags:
                self._resumed.append(shown.previous)
        self._last = shown
        self._result.simulated += Flags.SIMULATED in shown.flags
        for row in ends.values():
            if row.held.state == PageState.COUNTERSIGNED:
                self._result.signed[row.book].flows_uj += row.page.energy_uj
        source, sink = ends.get(Side.SOURCE), ends.get(Side.SINK)
        if source and sink:
            self._both(source, sink)
        else:
            self._one(*next(iter(ends.items())))

    def _end_flow(self) -> None:
        """Remember the last page of the transcript that was read."""
        if self._last is not None:
            self._ends.append(page_hash(self._last.to_wire()))

    def _know(self, row: _Row, side: Side) -> None:
        meter = row.page.source_key if side is Side.SOURCE else row.page.sink_key
        book = self._result.meters.setdefault(meter, row.book)
        if book != row.book:
            said = f"{book} and {row.book} are books of one meter {meter.hex()[:16]}"
            self._findings.add(Fault.TWICE, said)

    # LEDG-8-01
    def _both(self, source: _Row, sink: _Row) -> None:
        result, where = self._result, _place(source.held.transcript, source.held.page)
        names = f"{source.book} and {sink.book}"
        states = {source.held.state, sink.held.state}
        is_signed = states == {PageState.COUNTERSIGNED}
        compared = None if is_signed else SINK_SIGNS
        if source.held.octets[:compared] != sink.held.octets[:compared]:
            said = f"{source.page.energy_uj:,} uJ and {sink.page.energy_uj:,} uJ"
            self._findings.add(Fault.DIFFERENT, f"{where}: {names} hold unlike pages, {said}")
        elif not is_signed and not all(_is_signed(row) for row in (source, sink)):
            self._findings.add(Fault.FORGED, f"{where}: a signature is wrong in {names}")
        elif PageState.DISPUTED in states:
            self._open(Fault.DISPUTED, source, f"{where}: {names} do not agree")
        elif is_signed:
            result.paired += 1
            result.paired_uj += source.page.energy_uj
        else:
            self._open(Fault.IN_FLIGHT, source, f"{where}: signed on one side only of {names}")

    def _open(self, fault: Fault, row: _Row, sentence: str) -> None:
        self._result.open_pages += 1
        self._result.open_uj += row.page.energy_uj
        self._findings.add(fault, f"{sentence}, {row.page.energy_uj:,} uJ")

    def _one(self, side: int, row: _Row) -> None:
        page, where = row.page, _place(row.held.transcript, row.held.page)
        if row.held.state == PageState.DISPUTED:
            self._open(Fault.DISPUTED, row, f"{where}: {row.book} disputes it")
            return
        is_whole = row.held.state == PageState.COUNTERSIGNED
        if not _is_signed(row):
            said = f"{row.book}: {where}: a signature is wrong, {page.energy_uj:,} uJ"
            self._findings.add(Fault.FORGED, said)
            return
        keys = page.source_key, page.sink_key
        own, other = keys if side == Side.SOURCE else keys[::-1]
        alone = self._alone.setdefault((own, other, Side(side)), Alone())
        alone.pages += 1
        alone.energy_uj += page.energy_uj
        alone.countersigned += is_whole
        if len(alone.examples) < MAX_LISTED:
            alone.examples.append(f"{where}, {page.energy_uj:,} uJ")

    def _settle(self) -> None:
        """Judge the pages with one side: those whose other meter has a book here miss in it."""
        result, ends = self._result, set(self._ends)
        # a resume goes on under another transcript
        result.flows = len(self._ends) - sum(previous in ends for previous in self._resumed)
        for (own, other, side), alone in sorted(self._alone.items()):
            book = result.meters.get(other)
            if book is None:
                result.outside += alone.pages
                result.outside_uj += alone.energy_uj
                continue
            # the sink signs after its own book has the page: what it signed it must hold
            lost = side is Side.SOURCE and alone.countersigned
            fault = Fault.MISSING if lost else Fault.IN_FLIGHT
            result.open_pages += alone.pages
            result.open_uj += alone.energy_uj
            for example in alone.examples:
                said = f"{example}: held by {result.meters[own]}, not by {book}"
                self._findings.add(fault, said)
            more = alone.pages - len(alone.examples)
            if more:
                self._findings.add(fault, f"{more} more pages of {result.meters[own]} and {book}")
        for meter, unheld in sorted(self._unheld.items()):
            if book := result.meters.get(meter):
                for example in unheld.examples:
                    self._findings.add(
                        Fault.MISSING, f"{example}: signed by {book}, not held by it"
                    )
                if more := unheld.pages - len(unheld.examples):
                    self._findings.add(Fault.MISSING, f"{more} more pages of feeds of {book}")

    # ---- broadcast ----

    def _feed(self, rows: list[_Row]) -> None:
        """Take the pages of one number of one feed: each receiver's once, however many copies."""
        by_meter: dict[bytes, list[_Row]] = {}
        for row in rows:
            if row.held.side == Side.SINK:
                self._know(row, Side.SINK)
            by_meter.setdefault(row.page.sink_key, []).append(row)
        for meter, copies in sorted(by_meter.items()):
            self._receiver(meter, copies)

    # LEDG-8-02
    def _receiver(self, meter: bytes, copies: list[_Row]) -> None:
        pages: dict[bytes, Page] = {}
        where = f"feed {_place(copies[0].held.transcript, copies[0].held.page)}"
        for row in copies:
            if row.held.octets in pages or not self._is_of_its_feed(row, where):
                continue
            if not row.page.is_signed_by_sink():
                said = f"{row.book}: {where} of receiver {meter.hex()[:16]}: its signature is wrong"
                self._findings.add(Fault.FORGED, said)
                continue
            pages[row.held.octets] = row.page
        if not pages:
            return
        if len(pages) > 1:
            said = f"{where}: receiver {meter.hex()[:16]} signed {len(pages)} unlike pages"
            self._findings.add(Fault.EQUIVOCAL, said)
        # a lower bound: of unlike pages the least
        page = min(pages.values(), key=lambda page: (page.energy_uj, page.to_wire()))
        for row in copies:
            if row.held.side == Side.SINK and self._span.holds(page.end_ns):
                self._result.signed[row.book].feeds_uj += page.energy_uj
                break
        # LEDG-8-01
        if self._span.holds(page.end_ns) and not any(it.held.side == Side.SINK for it in copies):
            unheld = self._unheld.setdefault(meter, Alone())
            unheld.pages += 1
            if len(unheld.examples) < MAX_LISTED:
                unheld.examples.append(f"{where}, {page.energy_uj:,} uJ")
        self._tally(meter, page, where)

    # PTCP-12-06
    def _is_of_its_feed(self, row: _Row, where: str) -> bool:
        """Return whether a page names the source to which the id of its feed is bound."""
        source, feed = row.page.source_key, self._feeds.get(row.page.transcript)
        if feed is None or feed_id(source) == feed:
            return True
        said = (
            f"{row.book}: {where} of receiver {row.page.sink_key.hex()[:16]}: {source.hex()[:16]}"
        )
        said += f" is not the source of feed {feed.hex()[:16]}, not counted"
        self._findings.add(Fault.STRANGE_SOURCE, f"{said}, {row.page.energy_uj:,} uJ")
        return False

    def _tally(self, meter: bytes, page: Page, where: str) -> None:
        of_feed = self._result.feeds.setdefault(page.transcript, {})
        receiver = of_feed.setdefault(meter, Receiver())
        start = page.start_uj
        if receiver.end_uj is not None and start < receiver.end_uj:
            said = f"{where}: receiver {meter.hex()[:16]} begins at {start:,} uJ"
            self._findings.add(
                Fault.OVERLAP, f"{said}, its page before ends at {receiver.end_uj:,}"
            )
            start = min(receiver.end_uj, page.end_uj)
        is_next = page.page == receiver.last_page + 1 and start == (receiver.end_uj or 0)
        receiver.end_uj = max(receiver.end_uj or 0, page.end_uj)
        receiver.last_page = page.page
        if not self._span.holds(page.end_ns):
            return
        receiver.gaps += not is_next
        receiver.pages += 1
        receiver.samples += page.samples
        receiver.energy_uj += page.end_uj - start


def _is_signed(row: _Row) -> bool:
    """Return whether the page has the signatures that its state says; no sink signs a dispute."""
    if row.held.state == PageState.COUNTERSIGNED and not row.page.is_signed_by_sink():
        return False
    return row.held.state == PageState.DISPUTED or row.page.is_signed_by_source()


def _named(book: str, pages: Iterable[Held]) -> Iterator[tuple[str, Held]]:
    return ((book, page) for page in pages)


def _place(transcript: bytes, page: int) -> str:
    return f"{transcript.hex()[:16]} page {page}"
