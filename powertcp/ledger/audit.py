"""The first law, per node, per feed and overall: what came in went out, is stored, or became heat.

Everything is exact in integers. Virtual joules (uJ), wall joules (uJ-wall) and claims (uJ-claimed)
are units of their own and are never summed; only pages that a receiver signed count for a feed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Final

from powertcp.errors import LedgerBroken
from powertcp.ledger.book import Account, Code, Entry, Kind, Transfer, transfer_key
from powertcp.ledger.memo import FeedMemo, read_memo
from powertcp.ledger.pairing import (
    ALL_TIME,
    EVIDENCE,
    Fault,
    Finding,
    Findings,
    Held,
    Pairing,
    Receiver,
    Span,
    pair,
)
from powertcp.units import format_energy
from powertcp.wire.feeds import feed_transcript

VIRTUAL: Final = "uJ"
WALL: Final = "uJ-wall"
CLAIMED: Final = "uJ-claimed"
FIRST_LAW: Final = "equity:first-law:"
PPM: Final = 1_000_000
_MOVES: Final = (Kind.POST, Kind.POST_PENDING)
# account prefix -> (term, sign of a debit)
_TERMS: Final = {
    "source": ("generated_uj", -1),
    "from": ("taken_uj", -1),
    "intercepted": ("taken_uj", -1),
    "equity": ("miracle_uj", -1),
    "sink": ("delivered_uj", 1),
    "employee": ("delivered_uj", 1),
    "lent": ("delivered_uj", 1),
    "load": ("used_uj", 1),
    "infrastructure": ("used_uj", 1),
    "store": ("stored_uj", 1),
    "reservoir": ("stored_uj", 1),
    "heat": ("heat_uj", 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeBook:
    """The book of one node, to be read once: entries as written, pages by transcript and page.

    meters: keys that signed its heads; those of its pages are learnt from them.
    """

    name: str
    accounts: Mapping[int, Account]
    entries: Iterable[Entry]
    pages: Iterable[Held]
    meters: tuple[bytes, ...] = ()


@dataclass(slots=True, kw_only=True)
class NodeLaw:
    """The statement of one node: taken + generated (+ miracle) = delivered + used + stored + heat.

    stored_uj: by how much its stores rose. miracle_uj: what its own books say nobody generated.
    unsigned_uj: the part that was posted without pages. feeds_uj: energy of feeds it banked.
    unclassed_uj: energy of accounts that no term has. moved: per unit, what all accounts together
    received.
    """

    name: str
    meters: tuple[str, ...] = ()
    generated_uj: int = 0
    taken_uj: int = 0
    miracle_uj: int = 0
    delivered_uj: int = 0
    used_uj: int = 0
    stored_uj: int = 0
    heat_uj: int = 0
    unsigned_uj: int = 0
    posted_uj: int = 0
    feeds_uj: int = 0
    entries: int = 0
    unclassed: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)

    # LEDG-8-01
    @property
    def residual_uj(self) -> int:
        """What came in less what went out, is stored, or became heat: 0, or the books are wrong."""
        given = self.generated_uj + self.taken_uj + self.miracle_uj
        return given - self.delivered_uj - self.used_uj - self.stored_uj - self.heat_uj


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLaw:
    """The statement of one feed.

    source: name of the book of its emitter, "" if that is not here. emitted_uj: debited once, at
    the emitter; None if its book is not here, or not for this time. receivers: what each meter signed, by its key.
    posted_uj: the miracle that the books have already.
    """

    feed: str
    source: str
    emitted_uj: int | None
    posted_uj: int
    receivers: Mapping[str, Receiver]

    @property
    def received_uj(self) -> int:
        """The energy of all receivers, from pages they signed."""
        return sum(receiver.energy_uj for receiver in self.receivers.values())

    # LEDG-8-02
    @property
    def miracle_uj(self) -> int:
        """What was received beyond what was emitted."""
        return 0 if self.emitted_uj is None else max(0, self.received_uj - self.emitted_uj)

    @property
    def lost_uj(self) -> int:
        """What was emitted and nobody signed for."""
        return 0 if self.emitted_uj is None else max(0, self.emitted_uj - self.received_uj)

    @property
    def chi_ppm(self) -> int | None:
        """Received through emitted in millionths, rounded down: a lower bound. None: not known."""
        return self.received_uj * PPM // self.emitted_uj if self.emitted_uj else None

    def closing(self) -> Transfer | None:
        """Return the transfer that makes the account of the feed balance, if one is due."""
        due = self.miracle_uj - self.posted_uj
        if due <= 0:
            return None
        debit, credit = f"feed:{self.feed}", f"{FIRST_LAW}{self.feed}"
        seed = blake2s(self.feed.encode()).digest()
        key = transfer_key(seed, 0, f"miracle {self.miracle_uj}", debit, credit)
        memo = f"{self.received_uj} uJ received, {self.emitted_uj} uJ emitted"
        return Transfer(
            key=key,
            debit=debit,
            credit=credit,
            unit=VIRTUAL,
            amount=due,
            code=Code.MIRACLE,
            memo=memo,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLaw:
    """The statement of all books together."""

    span: Span
    nodes: tuple[NodeLaw, ...]
    feeds: tuple[FeedLaw, ...]
    pairing: Pairing
    findings: tuple[Finding, ...]
    broken: int

    def total(self, term: str) -> int:
        """Return the sum of one term, for example "heat_uj", over all nodes."""
        return sum(getattr(node, term) for node in self.nodes)

    # LEDG-8-03
    def moved(self, unit: str) -> int:
        """Return what the accounts of one unit received, over all nodes."""
        return sum(node.moved.get(unit, 0) for node in self.nodes)

    @property
    def residual_uj(self) -> int:
        """The residuals of all nodes, none set off against another."""
        return sum(abs(node.residual_uj) for node in self.nodes)

    @property
    def signed_residual_uj(self) -> int:
        """The residuals of all nodes as they add up: what a balance of all of them lacks."""
        return sum(node.residual_uj for node in self.nodes)

    @property
    def miracle_uj(self) -> int:
        """What nobody generated, of all feeds."""
        return sum(feed.miracle_uj for feed in self.feeds)

    @property
    def lost_uj(self) -> int:
        """What was emitted and nobody signed for, of all feeds."""
        return sum(feed.lost_uj for feed in self.feeds)

    @property
    def given_uj(self) -> int:
        """All energy of all books, each microjoule once: generated, from outside, and the miracle."""
        return self.total("generated_uj") + self.outside_in_uj + self.miracle_uj

    @property
    def outside_in_uj(self) -> int:
        """What came from nodes whose books are not here."""
        known = [feed for feed in self.feeds if feed.emitted_uj is not None]
        inner = self.pairing.paired_uj + sum(self._inner(feed) for feed in known)
        return self.total("taken_uj") - inner

    @property
    def outside_out_uj(self) -> int:
        """What went to nodes whose books are not here."""
        known = [feed for feed in self.feeds if feed.emitted_uj is not None]
        inner = self.pairing.paired_uj + self.total("miracle_uj")
        inner += sum((feed.emitted_uj or 0) - self._outer(feed) for feed in known)
        return self.total("delivered_uj") - inner

    def _inner(self, feed: FeedLaw) -> int:
        meters = {meter for node in self.nodes for meter in node.meters}
        return sum(r.energy_uj for meter, r in feed.receivers.items() if meter in meters)

    def _outer(self, feed: FeedLaw) -> int:
        return feed.received_uj - self._inner(feed)

    def sentence(self) -> str:
        """Return the law in one sentence."""
        said = f"First law: {self._unicast()}"
        said += "".join(f"; {_of_feed(feed)}" for feed in self.feeds)
        return f"{said}{', as specified in 2007' if self.miracle_uj else ''}."

    def _unicast(self) -> str:
        count = self.pairing.flows
        flows = f"{count:,} unicast {'flow' if count == 1 else 'flows'}"
        if self.residual_uj:
            return f"broken by {self.residual_uj:,} uJ in these books, {flows}"
        if self.broken:
            faults = "fault" if self.broken == 1 else "faults"
            return f"not shown on {flows}, {self.broken:,} {faults} in these books"
        return f"obeyed to 0 uJ on {flows}"


def _of_feed(feed: FeedLaw) -> str:
    name = f"feed {short(feed)}"
    if feed.emitted_uj is None:
        return f"not known on {name}, whose emission is in none of these books"
    ratio = f" (chi = {chi(feed)})"
    if feed.miracle_uj:
        return f"violated by {format_energy(feed.miracle_uj)}{ratio} on {name}"
    return f"obeyed{ratio} on {name}"


def plain(text: str) -> str:
    """Return a name of a peer with its control characters escaped."""
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)


def short(feed: FeedLaw) -> str:
    """Return the beginning of the id of a feed."""
    return f"{plain(feed.feed[:4])}.."


def chi(feed: FeedLaw) -> str:
    """Return received through emitted as text, "-" if it is not known."""
    if feed.chi_ppm is None:
        return "-"
    whole, rest = divmod(feed.chi_ppm // 10_000, 100)
    return f"{whole:,}.{rest:02}"


def audit(
    books: Sequence[NodeBook], span: Span = ALL_TIME, evidence: Iterable[Held] = ()
) -> FirstLaw:
    """Return what `books` say together about energy; the order of books does not matter.

    evidence: pages of feeds that receivers signed and sent, of no book, by transcript and page.
    An entry belongs to the instant at which it was written, a page to that at which it ended.
    Reads each book once. Each book has a name of its own. Raises LedgerBroken for an entry without
    its accounts.
    """
    findings = Findings()
    feeds = _Feeds()
    nodes = {book.name: _node(book, span, feeds) for book in sorted(books, key=_name)}
    meters = _meters(books, findings)
    pages = [(EVIDENCE, evidence), *((book.name, book.pages) for book in books)]
    pairing = pair(pages, span, findings, meters, feeds.ids)
    for meter, name in sorted(pairing.meters.items()):
        nodes[name].meters += (meter.hex(),)
    for node in nodes.values():
        _judge(node, pairing, span, findings)
    laws = feeds.laws(pairing, findings)
    if span.is_open:
        feeds.judge(pairing, findings)
    else:
        # an epoch may have been emitted before the span and signed for in it
        for law in laws:
            _above(law, findings)
    return FirstLaw(
        span=span,
        nodes=tuple(nodes.values()),
        feeds=laws,
        pairing=pairing,
        findings=tuple(findings.listed),
        broken=findings.broken,
    )


def _meters(books: Sequence[NodeBook], findings: Findings) -> dict[bytes, str]:
    """Return whose book that of each meter is: a ledger and its copy would count everything twice."""
    meters: dict[bytes, str] = {}
    for book in sorted(books, key=_name):
        for meter in book.meters:
            first = meters.setdefault(meter, book.name)
            if first != book.name:
                said = f"{first} and {book.name} are books of one meter {meter.hex()[:16]}"
                findings.add(Fault.TWICE, said)
    return meters


def _name(book: NodeBook) -> str:
    return book.name


def _judge(node: NodeLaw, pairing: Pairing, span: Span, findings: Findings) -> None:
    for name, amount in sorted(node.unclassed.items()):
        said = f"{node.name}: account {plain(name)} with {amount:,} uJ is of no kind an audit knows"
        findings.add(Fault.UNCLASSED, said)
    if node.residual_uj:
        findings.add(Fault.RESIDUAL, f"{node.name}: residual {node.residual_uj:,} uJ")
    if not span.is_open:
        # a page is posted after it ended: at the ends of a span the two need not be equal
        return
    signed = pairing.signed[node.name]
    for what, posted, held in (
        ("flows", node.posted_uj, signed.flows_uj),
        ("feeds", node.feeds_uj, signed.feeds_uj),
    ):
        if posted != held:
            said = f"{node.name}: {posted:,} uJ of {what} are posted, its pages say {held:,} uJ"
            findings.add(Fault.UNPOSTED, said)


def _node(book: NodeBook, span: Span, feeds: "_Feeds") -> NodeLaw:
    """Sum the entries of one book."""
    node = NodeLaw(name=book.name)
    sums: dict[int, int] = {}
    for entry in book.entries:
        if entry.kind not in _MOVES:
            continue
        debit, credit = _account(book, entry, entry.debit), _account(book, entry, entry.credit)
        feeds.note(entry, debit.name, credit.name)
        if not span.holds(entry.at_ns):
            continue
        node.entries += 1
        sums[entry.debit] = sums.get(entry.debit, 0) + entry.amount
        sums[entry.credit] = sums.get(entry.credit, 0) - entry.amount
        if debit.unit == VIRTUAL:
            _count(node, entry, debit.name, credit.name, feeds)
    for number, amount in sorted(sums.items()):
        account = book.accounts[number]
        if amount > 0:
            node.moved[account.unit] = node.moved.get(account.unit, 0) + amount
        if account.unit == VIRTUAL:
            _term(node, account.name, amount)
    return node


def _account(book: NodeBook, entry: Entry, number: int) -> Account:
    account = book.accounts.get(number)
    if account is None:
        raise LedgerBroken(book.name, f"entry {entry.seq}", f"no account has the number {number}")
    return account


def _term(node: NodeLaw, name: str, amount: int) -> None:
    """Add what one account received to the term it belongs to; feeds are counted by entry."""
    prefix = name.partition(":")[0]
    if prefix == "feed":
        return
    if prefix not in _TERMS or (prefix == "equity" and not name.startswith(FIRST_LAW)):
        node.unclassed[name] = amount
        return
    term, sign = _TERMS[prefix]
    setattr(node, term, getattr(node, term) + sign * amount)


def _count(node: NodeLaw, entry: Entry, debit: str, credit: str, feeds: "_Feeds") -> None:
    """Count an entry by what it is for, and by direction if it is of a feed."""
    if entry.code == Code.UNSIGNED:
        node.unsigned_uj += entry.amount
    is_emitted, amount = debit.startswith("feed:"), entry.amount
    feed, other = (debit, credit) if is_emitted else (credit, debit)
    if not feed.startswith("feed:"):
        node.posted_uj += amount if entry.code == Code.RECEIPT else 0
        return
    # a correction goes the other way round: the other account tells what it corrects
    if other.startswith(("source:", "equity:")):
        sign = 1 if is_emitted else -1
        node.delivered_uj += sign * amount
        feeds.emit(node.name, entry, feed, other, sign * amount)
    else:
        sign = -1 if is_emitted else 1
        node.taken_uj += sign * amount
        node.feeds_uj += sign * amount


class _Feeds:
    """What entries say about feeds: emissions, and the transcripts of their epochs."""

    def __init__(self) -> None:
        self._emitted: dict[str, int] = {}
        self._posted: dict[str, int] = {}
        self._sources: dict[str, str] = {}
        self.ids: dict[bytes, bytes] = {}
        """By transcript."""
        self._epochs: set[tuple[bytes, int]] = set()
        self._of_epoch: dict[bytes, int] = {}

    def note(self, entry: Entry, debit: str, credit: str) -> None:
        """Learn the transcript of a feed's epoch from the memo of an entry."""
        if not (debit.startswith("feed:") or credit.startswith("feed:")):
            return
        memo = read_memo(entry.memo)
        if isinstance(memo, FeedMemo) and memo[:2] not in self._epochs:
            self._epochs.add(memo[:2])
            self.ids[feed_transcript(memo.feed, memo.epoch)] = memo.feed

    def emit(self, node: str, entry: Entry, feed: str, other: str, amount: int) -> None:
        """Count an emission, or a miracle that is in the books."""
        sums = self._posted if other.startswith(FIRST_LAW) else self._emitted
        name = feed.removeprefix("feed:")
        self._sources.setdefault(name, node)
        sums[name] = sums.get(name, 0) + amount
        memo = read_memo(entry.memo)
        if sums is self._emitted and isinstance(memo, FeedMemo):
            transcript = feed_transcript(memo.feed, memo.epoch)
            self._of_epoch[transcript] = self._of_epoch.get(transcript, 0) + amount

    def laws(self, pairing: Pairing, findings: Findings) -> tuple[FeedLaw, ...]:
        """Return the statement of each feed, in the order of their ids."""
        receivers: dict[str, dict[str, Receiver]] = {name: {} for name in self._emitted}
        for transcript, of_epoch in sorted(pairing.feeds.items()):
            feed_id = self.ids.get(transcript)
            if feed_id is None:
                amount = sum(receiver.energy_uj for receiver in of_epoch.values())
                said = f"pages of transcript {transcript.hex()[:16]} name no feed of these books"
                findings.add(Fault.UNKNOWN_FEED, f"{said}, {amount:,} uJ")
                continue
            known = receivers.setdefault(feed_id.hex(), {})
            for meter, receiver in of_epoch.items():
                _merge(known.setdefault(meter.hex(), Receiver()), receiver)
        return tuple(
            FeedLaw(
                feed=feed,
                source=self._sources.get(feed, ""),
                emitted_uj=self._emission(feed),
                posted_uj=self._posted.get(feed, 0),
                receivers={meter: r for meter, r in sorted(of_feed.items()) if r.pages},
            )
            for feed, of_feed in sorted(receivers.items())
        )

    def _emission(self, feed: str) -> int | None:
        """Return what was emitted, None if it is not known.

        A source posts ahead and corrects at the end: a span with the end alone holds less than 0.
        """
        emitted = self._emitted.get(feed)
        return None if emitted is not None and emitted < 0 else emitted

    # LEDG-8-02
    def judge(self, pairing: Pairing, findings: Findings) -> None:
        """Find who signed more of an epoch than was emitted in it: so much nobody can have had."""
        for transcript, of_epoch in sorted(pairing.feeds.items()):
            feed = self.ids.get(transcript, b"").hex()
            if feed not in self._emitted:
                continue
            emitted = self._of_epoch.get(transcript, 0)
            for meter, receiver in sorted(of_epoch.items()):
                if receiver.energy_uj > emitted:
                    said = f"feed {feed[:4]}..: receiver {meter.hex()[:16]} signed"
                    said += f" {receiver.energy_uj:,} uJ of an epoch"
                    findings.add(Fault.ABOVE_EMISSION, f"{said}, {emitted:,} uJ were emitted")


def _merge(into: Receiver, other: Receiver) -> None:
    into.energy_uj += other.energy_uj
    into.pages += other.pages
    into.gaps += other.gaps
    into.samples += other.samples


def _above(law: FeedLaw, findings: Findings) -> None:
    for meter, receiver in law.receivers.items():
        if law.emitted_uj is not None and receiver.energy_uj > law.emitted_uj:
            said = f"feed {short(law)}: receiver {meter[:16]} signed {receiver.energy_uj:,} uJ"
            findings.add(Fault.ABOVE_EMISSION, f"{said}, {law.emitted_uj:,} uJ were emitted")
