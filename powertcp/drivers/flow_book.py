"""The book of one contract: what its flows bring, page by page or without pages, and what it costs.

A page is countersigned when it is on the disk; one that differs from our own numbers is kept and
disputed. Ledger sections 6 and 7.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

import trio

from powertcp.drivers.clock import stamp
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.ledger import Ledger
from powertcp.errors import DecodeError, LocalProtocolError, PowerRefused, known
from powertcp.ledger import Clock, Page, PageChain, Side, cost_micro
from powertcp.ledger.posting import page_transfers, unsigned_transfers
from powertcp.loads import Load
from powertcp.machine import Entropy
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    FlowClosed,
    FlowEvent,
    PageReceived,
    PowerGranted,
    PowerReady,
    SamplesReceived,
)
from powertcp.registry import Reason, Refusal
from powertcp.store import PageState
from powertcp.units import Instant
from powertcp.wire.options import Meter, Tariff

IDENTITY_OCTETS: Final = 32
MAX_PARTY_OCTETS: Final = 200  # of a load or a provider in the name of an account

Job = Callable[[], Awaitable[None]]


class Contract(Protocol):
    """Whose energy is booked: an `Appliance`."""

    flow_name: str

    @property
    def load(self) -> Load:
        """What is powered."""

    def say(self, event: str, facts: Mapping[str, object] | None = None) -> None:
        """Report `event`."""


class Books(Protocol):
    """The books of which this is one: `ConsumerBooks`.

    meter: what a SYN says of receipts.
    """

    ledger: Ledger
    meter: Meter
    unix_ns: Callable[[], int]
    clock: Callable[[], Clock]
    entropy: Entropy

    def refusal(self) -> Refusal | None:
        """Return why no contract can be made; None: the ledger can be written."""

    def currencies(self, there: str) -> set[str]:
        """Return the currencies in which we or the provider `there` were paid."""

    def open(self, contract: Contract) -> "FlowBook":
        """Return another book of one contract."""

    def close(self, book: "FlowBook") -> None:
        """Forget a book that is over and was added to another."""

    def start(self, job: Job) -> None:
        """Run what posts for one contract."""


class _Run:
    """One flow on all its paths: from its first READY until it is over.

    there: the provider it began with, as accounts name it. identity: 32 octets, of postings
    without pages; the number-th is next. taken_uj: banked.
    booked_uj: of it in the ledger. priced_uj: of it settled at a price.
    """

    __slots__ = (
        "booked_uj",
        "chain",
        "identity",
        "is_metered",
        "number",
        "priced_uj",
        "taken_uj",
        "tariff",
        "there",
    )

    def __init__(self, chain: PageChain, identity: bytes, there: str, *, is_metered: bool) -> None:
        self.chain = chain
        self.there = there
        self.identity = identity
        self.is_metered = is_metered
        self.number = self.taken_uj = self.booked_uj = self.priced_uj = 0
        self.tariff: Tariff | None = None

    @property
    def open_cost_micro(self) -> int:
        """Return what the energy costs that no page and no change of price has settled yet."""
        price = self.tariff.price if self.tariff else 0
        return cost_micro(price, 0, 0, self.taken_uj - self.priced_uj)


class FlowBook:
    """What the books know of one contract, over all flows that power it.

    contract: whose energy is booked. there: the provider of the next flow, as accounts name it.
    pages, signed_uj: countersigned. disputed: pages that were not. unsigned_uj: energy that was to
    have a receipt and has none. costs: millionths, by currency.
    """

    def __init__(self, books: Books, contract: Contract) -> None:
        """Begin without a flow. `on_answer` is set by who has the paths."""
        self.on_answer: Callable[[], None] = _nothing
        self.there = ""
        self.pages = self.signed_uj = self.disputed = self.unsigned_uj = 0
        self.costs: dict[str, int] = {}
        self._books = books
        self.contract = contract
        self._run: _Run | None = None
        self._granted: PowerGranted | None = None
        self._answer: bytes | Refusal | None = None
        self._jobs: deque[Job] = deque()

    @property
    def meter(self) -> Meter:
        """What a SYN says of receipts."""
        return self._books.meter

    @property
    def is_metered(self) -> bool:
        """Whether the flow there is has receipts, or may have."""
        return self._run is None or self._run.is_metered

    def refusal(self) -> Refusal | None:
        """Return why no contract can be made; None: the ledger can be written."""
        return self._books.refusal()

    # LEDG-7-03
    def foreign(self, tariff: Tariff | None) -> Refusal | None:
        """Return why `tariff` cannot be booked: an account has one unit."""
        if tariff is None:
            return None
        kept = self._books.currencies(self.there)
        if self._run is not None and self._run.tariff is not None:
            kept.add(self._run.tariff.currency)
        if kept <= {tariff.currency}:
            return None
        rule = f"the ledger is in {'/'.join(sorted(kept))}, not in {tariff.currency}"
        return Refusal(Reason.TARIFF, tariff.price, tariff.price, rule=rule)

    def facts(self) -> dict[str, object]:
        """Return what readings say: pages, and the cost so far with what is open."""
        run = self._run
        facts: dict[str, object] = {}
        if self.pages or (run is not None and run.is_metered):
            facts = {"pages": self.pages, "signed_uj": self.signed_uj}
        return facts | cost_facts(self.all_costs())

    def all_costs(self) -> dict[str, int]:
        """Return the costs by currency, with those of energy that is not settled yet."""
        costs, run = dict(self.costs), self._run
        if run is not None and run.tariff is not None:
            name = run.tariff.currency
            costs[name] = costs.get(name, 0) + run.open_cost_micro
        return costs

    # --- what happens on a flow --------------------------------------------------------------

    def take(self, event: FlowEvent | SamplesReceived) -> None:
        """Book one event of the flow that powers the contract."""
        match event:
            case SamplesReceived(energy_uj=energy_uj):
                if self._run is not None:
                    self._run.taken_uj += energy_uj
            case PageReceived():
                self._look(event)
            case PowerGranted():
                self._granted = event
            case PowerReady():
                self._ready(event)
            case FlowClosed(truncated=truncated):
                self._granted = None
                if not truncated:
                    self.end()

    def _ready(self, event: PowerReady) -> None:
        granted, self._granted = self._granted, None
        if granted is not None and not event.resumed:
            self.end()
            books = self._books
            # page 0 begins with the first READY
            chain = PageChain(
                books.ledger.meter, Side.SINK, stamp(books.unix_ns(), books.clock())[0]
            )
            identity = books.entropy(IDENTITY_OCTETS)
            self._run = _Run(chain, identity, self.there, is_metered=granted.meter is not None)
        run = self._run
        if run is not None and run.tariff != event.tariff:
            if not run.is_metered:
                self._settle_price(run)
            run.tariff = event.tariff

    def _settle_price(self, run: _Run) -> None:
        """Another price holds from here on: what was taken is paid at that of before."""
        if run.tariff is not None:
            self._add_cost(run.tariff.currency, run.open_cost_micro)
        run.priced_uj = run.taken_uj

    def _add_cost(self, currency: str, micro: int) -> None:
        self.costs[currency] = self.costs.get(currency, 0) + micro

    def end(self) -> None:
        """The flow does not go on: what no page covers is posted, or noted."""
        run, self._run, self._answer = self._run, None, None
        if run is None:
            return
        if run.is_metered:
            self._queue(lambda: self._note_rest(run))
        else:
            self._settle_price(run)
            self._post_rest(run)

    # --- two providers at a time -------------------------------------------------------------

    # DPDP-10-02
    def another(self, contract: Contract) -> "FlowBook":
        """Return a book for `contract`, beside this one."""
        return self._books.open(contract)

    def leave(self, current: Callable[[], "FlowBook | None"]) -> None:
        """The flow that was left is over: once all is posted, its sums are those of `current`."""
        self.end()

        async def add() -> None:
            await trio.lowlevel.checkpoint()
            self._books.close(self)
            after = current()
            if after is not None:
                after.add(self)

        self._queue(add)

    def add(self, other: "FlowBook") -> None:
        """Count what is in `other` as ours."""
        self.pages += other.pages
        self.signed_uj += other.signed_uj
        self.disputed += other.disputed
        self.unsigned_uj += other.unsigned_uj
        for currency, micro in other.costs.items():
            self._add_cost(currency, micro)

    # --- pages -------------------------------------------------------------------------------

    # LEDG-6-02
    def _look(self, event: PageReceived) -> None:
        """Compare a page of the source with our own numbers; sign it, or say what differs."""
        run = known(self._run, "pages come after READY")
        books, facts = self._books, event.facts
        # it may have waited for the answer to the one before
        unix_ns, clock = stamp(books.unix_ns(), books.clock())
        end_ns = unix_ns - (now_ns() - facts.at_ns)
        try:
            found = run.chain.check(event.octets, facts, end_ns, clock)
        except DecodeError as error:
            no = Refusal(Reason.RECEIPT_INVALID, facts.page, facts.page, text=str(error))
            self._queue(lambda: self._contest(run, event, no, [no.text], is_page=False))
            return
        if found:
            no = found[0].refusal()
            said = [str(difference) for difference in found]
            self._queue(lambda: self._contest(run, event, no, said, is_page=True))
            return
        signed = run.chain.countersign(event.octets)
        self._queue(lambda: self._bank(run, event, signed))

    async def _bank(self, run: _Run, event: PageReceived, signed: bytes) -> None:
        """Post a page with its energy and money; it is countersigned once that is on the disk."""
        page = Page.from_wire(signed)
        currency = event.facts.tariff.currency if event.facts.tariff else ""
        here = self._here
        transfers = page_transfers(
            page, Side.SINK, here=here, there=run.there, load=here, currency=currency
        )
        # LEDG-7-06
        try:
            await self._books.ledger.post_page(
                page.transcript, page.page, Side.SINK, signed, PageState.COUNTERSIGNED, *transfers
            )
        except (PowerRefused, LocalProtocolError) as refused:
            if self._books.refusal() is None:
                no = Refusal(Reason.RECEIPT_INVALID, page.page, page.page, text=str(refused))
                self._say_no(run, event, no, [no.text])
            return
        run.booked_uj += page.energy_uj
        run.priced_uj = run.booked_uj
        self.pages += 1
        self.signed_uj += page.energy_uj
        facts: dict[str, object] = {
            "transcript": page.transcript.hex(),
            "page": page.page,
            "energy_uj": page.energy_uj,
        }
        if currency:
            self._add_cost(currency, page.cost_micro)
            facts |= cost_facts({currency: page.cost_micro})
        self.contract.say("receipt", facts)
        self._give(run, signed)

    async def _contest(
        self, run: _Run, event: PageReceived, no: Refusal, said: list[str], *, is_page: bool
    ) -> None:
        """Keep what is not what we counted, then say so."""
        facts, ledger = event.facts, self._books.ledger
        noted = {
            "flow": self.contract.flow_name,
            "transcript": facts.transcript.hex(),
            "page": facts.page,
            "differences": said,
            "body": event.octets.hex(),
        }
        with suppress(PowerRefused):
            await ledger.record("dispute", noted)
            if is_page:
                await ledger.post_page(
                    facts.transcript, facts.page, Side.SINK, event.octets, PageState.DISPUTED
                )
        self._say_no(run, event, no, said)

    def _say_no(self, run: _Run, event: PageReceived, no: Refusal, said: list[str]) -> None:
        self.disputed += 1
        sentence = f"receipt not signed: {'; '.join(said)}"
        self.contract.say("disputed", {"page": event.facts.page, "sentence": sentence})
        self._give(run, no)

    def _give(self, run: _Run, answer: bytes | Refusal) -> None:
        """Have the source told, unless the flow is over."""
        if run is self._run:
            self._answer = answer
            self.on_answer()

    def answer(self, machine: PowerConnection, flow: int, now: Instant) -> None:
        """Tell the source what we say to its page, if that is known and not told yet.

        Raises LocalProtocolError when `flow` cannot take it: then after READY on the next path.
        """
        answer = self._answer
        if isinstance(answer, bytes):
            machine.countersign(flow, answer, now=now)
        elif answer is not None:
            machine.dispute(flow, answer, now=now)
        self._answer = None

    # --- energy without pages ----------------------------------------------------------------

    def post_unsigned(self) -> None:
        """Post what was taken since the last posting, if the flow has no receipts."""
        if self._run is not None and not self._run.is_metered:
            self._post_rest(self._run)

    def _post_rest(self, run: _Run) -> None:
        here = self._here
        transfers = unsigned_transfers(
            run.identity,
            run.number,
            run.taken_uj - run.booked_uj,
            Side.SINK,
            here=here,
            there=run.there,
            load=here,
        )
        if not transfers:
            return
        run.number, run.booked_uj = run.number + 1, run.taken_uj

        async def post() -> None:
            # that nothing can be written is said once, by who watches the ledger
            with suppress(PowerRefused):
                await self._books.ledger.post(*transfers)

        self._queue(post)

    async def _note_rest(self, run: _Run) -> None:
        """Note energy that was to have a receipt and has none."""
        rest_uj = run.taken_uj - run.booked_uj
        if rest_uj:
            self.unsigned_uj += rest_uj
            facts = {"flow": self.contract.flow_name, "unsigned_uj": rest_uj}
            with suppress(PowerRefused):
                await self._books.ledger.record("unsigned", facts)

    @property
    def _here(self) -> str:
        """The load in names of accounts: without the number of its process."""
        return party(self.contract.load.name.partition("[")[0])

    # --- the queue ---------------------------------------------------------------------------

    def _queue(self, job: Job) -> None:
        """Do `job` after those of this contract that wait."""
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._books.start(self._drain)

    async def _drain(self) -> None:
        while self._jobs:
            await self._jobs[0]()
            self._jobs.popleft()


def party(name: str) -> str:
    """Return a name of the command line as accounts bear it."""
    printable = "".join(one if one.isprintable() else "?" for one in name)
    return printable.encode()[:MAX_PARTY_OCTETS].decode(errors="ignore") or "?"


def cost_facts(costs: Mapping[str, int]) -> dict[str, object]:
    """Return costs as fields: of one currency as people write it, else one for each."""
    if len(costs) > 1:
        return {"costs_micro": dict(costs)}
    for currency, micro in costs.items():
        return {"currency": currency, "cost_micro": micro}
    return {}


def _nothing() -> None:
    """Do nothing: nobody wants to know."""
