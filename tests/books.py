"""Nodes with books of their own, flows and feeds between them: what an audit is shown in tests."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from powertcp.crypto import SigningKey
from powertcp.ledger.audit import NodeBook
from powertcp.ledger.book import START, Account, Book, Code, Entry, Transfer, transfer_key
from powertcp.ledger.memo import feed_memo, flow_memo
from powertcp.ledger.pairing import Held, PageState
from powertcp.ledger.receipt import (
    NO_HASH,
    Clock,
    Flags,
    Page,
    Side,
    countersign,
    page_hash,
    sign_as_source,
)
from powertcp.store import LedgerStore
from powertcp.wire.feeds import feed_id, feed_transcript

SECOND = 1_000_000_000
START_NS = 1_790_000_000 * SECOND


class Node:
    """One node: its meter, its book, the pages it holds."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.meter = SigningKey(seed.to_bytes(32, "big"))
        self.by_key: dict[bytes, Entry] = {}
        self.book = Book(self.by_key.get)
        self.entries: list[Entry] = []
        self.pages: dict[tuple[bytes, int, int, bytes], Held] = {}
        self.clock_ns = START_NS

    def post(self, *transfers: Transfer) -> None:
        """Post a batch; what was posted before is not posted again."""
        entries = self.book.post(transfers, self.clock_ns).entries
        self.entries += entries
        self.by_key.update((entry.key, entry) for entry in entries)
        self.book.written()

    def restart(self) -> None:
        """Lose what is in memory only: the book is made again from the journal."""
        book = Book(self.by_key.get)
        accounts = self.book.accounts()
        empty = [Account(id=it.id, name=it.name, unit=it.unit) for it in accounts]
        book.restore(empty, (), 0, START)
        for entry in self.entries:
            book.replay(entry)
        self.book = book

    def hold(self, page: Page, side: Side, state: PageState) -> None:
        """Keep a page; a later state replaces an earlier one."""
        held = Held(page.transcript, page.page, side, state, page.to_wire())
        self.pages[page.transcript, page.page, side, page.sink_key] = held

    def shown(self, *, backwards: bool = False) -> NodeBook:
        """Return what an audit reads."""
        pages = sorted(self.pages.values(), reverse=backwards)
        pages.sort(key=lambda held: held[:2])
        accounts = {account.id: account for account in self.book.accounts()}
        return NodeBook(
            name=self.name,
            accounts=accounts,
            entries=self.entries,
            pages=pages,
            meters=(self.meter.public,),
        )


def transfer(
    transcript: bytes, page: int, debit: str, credit: str, amount: int, code: Code, **more: str
) -> Transfer:
    """Return one transfer; `memo` and `unit` as given."""
    unit, memo = more.get("unit", "uJ"), more.get("memo", flow_memo(transcript, page))
    key = transfer_key(transcript, page, f"test {code} {unit}", debit, credit)
    return Transfer(
        key=key, debit=debit, credit=credit, unit=unit, amount=amount, code=code, memo=memo
    )


@dataclass
class Flow:
    """A unicast flow of pages from one node to another."""

    transcript: bytes
    source: Node
    sink: Node
    supply: str = "source:mains"
    load: str = "store:lamp"
    price_micro: int = 0
    page: int = 0
    esn_uj: int = 0
    end_ns: int = START_NS
    previous: bytes = NO_HASH
    flags: Flags = field(default=Flags(0))
    tariff: bytes = NO_HASH

    def next_page(self, energy_uj: int, seconds: int = 60) -> Page:
        """Return the next page, signed by its source, which holds it."""
        page = Page(
            flags=self.flags,
            clock=Clock.SYNCHRONISED,
            transcript=self.transcript,
            contract=1,
            page=self.page,
            samples=seconds * 100,
            start_uj=self.esn_uj,
            end_uj=self.esn_uj + energy_uj,
            start_ns=self.end_ns,
            end_ns=self.end_ns + seconds * SECOND,
            cost_micro=self.price_micro * energy_uj // 3_600_000_000_000,
            tariff=self.tariff,
            previous=self.previous,
            digest=bytes([self.page % 256]) * 32,
            source_key=self.source.meter.public,
            sink_key=self.sink.meter.public,
        )
        page = sign_as_source(page, self.source.meter)
        self.page, self.esn_uj, self.end_ns = self.page + 1, page.end_uj, page.end_ns
        self.previous = page_hash(page.to_wire())
        self.source.hold(page, Side.SOURCE, PageState.SENT)
        return page

    def sign(self, page: Page) -> Page:
        """The sink posts and holds a page, and returns it with both signatures."""
        page = countersign(page, self.sink.meter)
        self.sink.hold(page, Side.SINK, PageState.COUNTERSIGNED)
        self._post(self.sink, page, self.load, f"from:{self.source.name}")
        return page

    def settle(self, page: Page) -> None:
        """The source has the countersigned copy: posts and holds it."""
        self.source.hold(page, Side.SOURCE, PageState.COUNTERSIGNED)
        self._post(self.source, page, f"sink:{self.sink.name}", self.supply)

    def _post(self, node: Node, page: Page, debit: str, credit: str) -> None:
        node.clock_ns = max(node.clock_ns, page.end_ns)
        if page.energy_uj:
            node.post(
                transfer(page.transcript, page.page, debit, credit, page.energy_uj, Code.RECEIPT)
            )

    def deliver(self, energy_uj: int, seconds: int = 60) -> Page:
        """One page all the way."""
        page = self.sign(self.next_page(energy_uj, seconds))
        self.settle(page)
        return page


@dataclass
class Feed:
    """A broadcast: one emission, any number of receivers. meter: another than its source's."""

    epoch: int
    source: Node
    supply: str = "source:mains"
    meter: SigningKey | None = None
    emissions: int = 0
    pages: dict[str, tuple[int, int]] = field(default_factory=dict)
    previous: dict[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """The meter key that its pages name."""
        return (self.meter or self.source.meter).public

    @property
    def feed(self) -> bytes:
        """Its id."""
        return feed_id(self.key)

    @property
    def transcript(self) -> bytes:
        """What its pages carry as transcript."""
        return feed_transcript(self.feed, self.epoch)

    @property
    def account(self) -> str:
        """The account of the feed, in every book."""
        return f"feed:{self.feed.hex()}"

    def emit(self, energy_uj: int) -> None:
        """The source posts what it emitted, once."""
        number, self.emissions = self.emissions, self.emissions + 1
        memo = feed_memo(self.feed, self.epoch, number)
        row = transfer(
            self.transcript, number, self.account, self.supply, energy_uj, Code.EMIT, memo=memo
        )
        self.source.post(row)

    def page_of(self, node: Node, energy_uj: int) -> Page:
        """Return the next page of one receiver, signed; nothing is posted or held."""
        number, end_uj = self.pages.get(node.name, (0, 0))
        self.pages[node.name] = number + 1, end_uj + energy_uj
        page = Page(
            flags=Flags.FEED,
            clock=Clock.SYNCHRONISED,
            transcript=self.transcript,
            contract=0,
            page=number,
            samples=100,
            start_uj=end_uj,
            end_uj=end_uj + energy_uj,
            start_ns=START_NS + number * SECOND,
            end_ns=START_NS + (number + 1) * SECOND,
            source_key=self.key,
            previous=self.previous.get(node.name, NO_HASH) if number else NO_HASH,
            sink_key=node.meter.public,
        )
        page = countersign(page, node.meter)
        self.previous[node.name] = page_hash(page.to_wire())
        return page

    def receive(self, node: Node, energy_uj: int, *, load: str = "store:lamp") -> Page:
        """One receiver signs, holds and posts what it banked."""
        page = self.page_of(node, energy_uj)
        node.hold(page, Side.SINK, PageState.COUNTERSIGNED)
        memo = feed_memo(self.feed, self.epoch, page.page)
        row = transfer(
            self.transcript, page.page, load, self.account, energy_uj, Code.RECEIPT, memo=memo
        )
        node.post(row)
        return page


def altered(page: Page, **fields: object) -> Page:
    """Return a page with other fields; its signatures stay as they are."""
    return replace(page, **fields)  # type: ignore[arg-type]


def save(node: Node, folder: Path) -> Path:
    """Write the book and the pages of a node into a ledger of its own, with a signed head."""
    folder.mkdir(parents=True)
    path = folder / "ledger.db"
    names = {account.id: account for account in node.book.accounts()}
    with LedgerStore(path) as store:
        for entry in node.entries:
            account = names[entry.debit]
            row = Transfer(
                key=entry.key,
                debit=account.name,
                credit=names[entry.credit].name,
                unit=account.unit,
                amount=entry.amount,
                code=entry.code,
                memo=entry.memo,
            )
            (answer,) = store.append([(row,)], entry.at_ns)
            assert not isinstance(answer, Exception), answer
        for held in node.pages.values():
            row_of_page = (held.transcript, held.page, int(held.side), held.octets, int(held.state))
            store.put_page(*row_of_page, node.clock_ns)
        store.sign_head(node.meter, node.clock_ns)
    return path
