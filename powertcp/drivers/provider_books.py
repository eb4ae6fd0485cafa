"""The books of a provider: pages it signs, what is posted when they come back, energy without one.

Without METER a flow is posted each minute by its acknowledged register (ledger section 7.2). What
concerns one flow is done in order; the ledger's writer groups what comes from all of them.
"""

import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from powertcp.drivers.allowance import QUOTA_PAGES, Allowance, Allowances
from powertcp.drivers.clock import clock_kind, stamp
from powertcp.drivers.ledger import Ledger
from powertcp.drivers.postings import Postings
from powertcp.drivers.pricing import Pricing, check_currency
from powertcp.drivers.session import FlowRecord, Session
from powertcp.drivers.supplied import IDENTITY_OCTETS, SuppliedFlow
from powertcp.errors import known
from powertcp.ledger import Clock, Page, PageChain, Side, Transfer
from powertcp.ledger.pairing import PageState
from powertcp.ledger.posting import SELF, page_transfers, unsigned_transfers
from powertcp.ledger.tariff import TariffDocument
from powertcp.machine import Entropy
from powertcp.potcp.config import RECEIPT_S, RECEIPT_UJ
from powertcp.potcp.events import FlowClosed, Origin, PageDisputed, PageFacts, PageSigned
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.wire.options import Meter, Tariff

UNSIGNED_S = 60.0
SETTLE_S = 5.0  # T_DRAIN: what the last postings may take
_log = logging.getLogger("ledger")


class ProviderBooks:
    """Everything a provider writes down of its flows; `keeping` runs it.

    on_failure: called once, when the ledger can be written no more. on_kept: told of each copy of a
    page that is on the disk; on_page: of each flow with a page under way.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        tariff: TariffDocument | None = None,
        requires_receipts: bool = False,
        quota_uj: int | None = None,
        receipt_s: int = RECEIPT_S,
        receipt_uj: int = RECEIPT_UJ,
        unix_ns: Callable[[], int] = time.time_ns,
        clock: Clock | None = None,
        entropy: Entropy = os.urandom,
    ) -> None:
        """Write to `ledger`, at the prices of `tariff`.

        Raises ConfigError when the ledger is in another currency.
        requires_receipts: power only who asks for METER. quota_uj: what each address may have in
        all, which takes receipts.
        clock: what pages say of their times; by default what the kernel says.
        entropy: names flows in the ledger, which no clock that stands still can.
        """
        self.ledger = ledger
        self.on_failure: Callable[[], None] = _nothing
        self.on_kept: Callable[[FlowRecord, bytes], None] = _nothing
        self.on_page: Callable[[FlowRecord], None] = _nothing
        self.allowances = Allowances(ledger)
        self.pricing = Pricing(tariff, unix_ns) if tariff else None
        # LEDG-7-03
        for name in (f"payer:{SELF}", f"payee:{SELF}"):
            account = ledger.account(name)
            if tariff is not None and account is not None:
                check_currency(tariff, account.unit.removeprefix("micro-"))
        self.pages = self._lost_uj = 0
        self.handed_uj = self.received_uj = 0  # of pages that others of the realm write, or wrote
        self._postings = Postings(ledger, self._fail)
        self._unix_ns = unix_ns
        self._clock = clock or clock_kind()
        self._entropy = entropy
        self._books: set[SuppliedFlow] = set()
        self._due = receipt_s, receipt_uj
        self.limit(requires_receipts=requires_receipts, quota_uj=quota_uj)

    # LEDG-7-05
    def limit(self, *, requires_receipts: bool, quota_uj: int | None) -> None:
        """Require receipts, and limit what each address may have in all, None: do not.

        Flows that there are keep their terms and what they have reserved; those without a
        reservation go on without one, and what they take counts.
        """
        receipt_s, receipt_uj = self._due
        page_uj = receipt_uj if quota_uj is None else min(receipt_uj, quota_uj // QUOTA_PAGES)
        self.meter = Meter(receipt_s, max(1, page_uj), self.ledger.meter.public)
        self.requires_receipts = requires_receipts or quota_uj is not None
        if quota_uj != self.allowances.quota_uj:
            self.allowances.quota_uj = quota_uj
            self.revise()

    # LEDG-7-05
    def revise(self) -> None:
        """Let every flow reserve as its limits are now."""
        for book in self._books:
            self._postings.put(book, partial(self.allowances.revise, book))

    def meter_of(self, record: FlowRecord) -> Meter:
        """Return how often who draws signs: often enough that flows share its quota."""
        quotas = record.rights.limits.quotas if record.rights else ()
        quota_uj = min((uj for _, uj in quotas), default=None)
        if quota_uj is None:
            return self.meter
        page_uj = min(self.meter.receipt_uj, max(1, quota_uj // QUOTA_PAGES))
        return Meter(self.meter.receipt_s, page_uj, self.meter.key)

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Post what comes; at the end, all that still waits, T_DRAIN at the longest."""
        async with trio.open_nursery() as nursery:
            self._postings.nursery = nursery
            nursery.start_soon(self._watch)
            nursery.start_soon(self._post_regularly)
            if self.pricing is not None:
                nursery.start_soon(self.pricing.keep, self._books)
            nursery.start_soon(self.allowances.keep, self._books, self._postings.put)
            try:
                yield
            finally:
                with trio.move_on_after(SETTLE_S, shield=True):
                    await self._settle()
                nursery.cancel_scope.cancel()

    def tariff(self) -> Tariff | None:
        """Return the price of now, None without a tariff."""
        return self.pricing.terms() if self.pricing else None

    # LEDG-7-07
    def refusal(self, record: FlowRecord | None = None) -> Refusal | None:
        """Return why a flow gets no contract; None: the ledger can be written, and has some left."""
        if self._postings.is_stuck:
            return Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written")
        return self.allowances.refusal(record) if record else None

    @property
    def supplied(self) -> frozenset[SuppliedFlow]:
        """The flows that there are."""
        return frozenset(self._books)

    # -- one flow ----------------------------------------------------------------------------

    def terms(self, record: FlowRecord, supply: PowerProfile, tariff: Tariff | None) -> None:
        """Terms took effect on `record`, perhaps its first ones."""
        book: SuppliedFlow | None = record.book
        if book is None:
            book = self._open(record, supply)
            self._reserve(book)
        elif book.allowance is not None:
            self._postings.put(book, partial(self.allowances.widen, book))
        book.tariff = tariff

    def _open(self, record: FlowRecord, supply: PowerProfile) -> SuppliedFlow:
        identity = self._entropy(IDENTITY_OCTETS)
        book = record.book = SuppliedFlow(record, supply.format(), self._now()[0], identity)
        self._books.add(book)
        return book

    # DPDP-10-05
    def taken_over(
        self, record: FlowRecord, supply: PowerProfile, esn_uj: int, origin: Origin
    ) -> None:
        """Go on where another provider of the realm ended; pages cover what it delivered last."""
        book = self._open(record, supply)
        book.start_ns, book.posted_uj = origin.start_ns, esn_uj
        if origin.signed_uj is not None:
            book.paged_uj = origin.signed_uj
            self.received_uj += esn_uj - origin.signed_uj
        self._reserve(book)

    # DPDP-10-06
    def handed_over(self, record: FlowRecord, esn_uj: int) -> None:
        """Another provider of the realm goes on from `esn_uj`, with the pages if there are any."""
        book, record.book = record.book, None
        if book is None:
            return
        self._books.discard(book)
        status = record.session.machine.status(record.flow)
        if status.signed_uj is None:
            self._post_unsigned(book, esn_uj - book.posted_uj)
        else:
            self.handed_uj += esn_uj - status.signed_uj
        if book.allowance is not None:
            end = partial(self.allowances.end, book.allowance, 0, max(0, status.esn_uj - esn_uj))
            self._postings.put(book, end)

    def _reserve(self, book: SuppliedFlow) -> None:
        """Reserve energy for a flow; until that is on the disk nothing is delivered."""
        allowances, name = self.allowances, f"sink:{book.there}"
        if allowances.limit_uj(name, book.record) is not None:
            self._begin(book, self.meter_of(book.record))
            return
        allowances.exempt[name] += 1
        account = self.ledger.account(name)
        if account is not None and account.floor is not None:
            # a quota of before, which nobody sets any more
            self._postings.put(book, lambda: self.ledger.set_floor(name, account.unit, None))

    def _begin(self, book: SuppliedFlow, meter: Meter) -> None:
        name, source = f"sink:{book.there}", f"source:{book.here}"
        book.allowance = Allowance(book.identity, name, source, meter, book.who)
        book.record.allowed_uj = 0
        self._postings.put(book, lambda: self.allowances.begin(book, book.paged_uj))

    # LEDG-7-05
    def limited(self, record: FlowRecord) -> None:
        """Whoever draws on `record` has a quota: a flow that began without one reserves too."""
        book: SuppliedFlow | None = record.book
        if book is not None and book.allowance is None:
            name = f"sink:{book.there}"
            # its pages are due as they were agreed
            self._begin(book, self.meter)
            self._postings.put(book, lambda: self.allowances.included(name))

    def moved(self, old: FlowRecord, new: FlowRecord) -> None:
        """A ticket moved a flow: its pages and postings go on."""
        book, old.book = old.book, None
        if book is not None:
            book.record, book.name, new.book = new, new.name, book
            new.allowed_uj = old.allowed_uj

    def signer(self, session: Session) -> Callable[[PageFacts], bytes]:
        """Return who makes the pages of the flows of `session`."""
        return partial(self._sign, session)

    def _sign(self, session: Session, facts: PageFacts) -> bytes:
        book: SuppliedFlow = known(session.flows[facts.flow].book, "a flow with pages has a book")
        if book.chain is None:
            book.chain = PageChain(self.ledger.meter, Side.SOURCE, book.start_ns)
        octets = book.chain.next_page(facts, *self._now())
        self.on_page(book.record)
        self._keep(book, octets, PageState.SENT)
        return octets

    def _now(self) -> tuple[int, Clock]:
        return stamp(self._unix_ns(), self._clock)

    def take(self, record: FlowRecord, event: PageSigned | PageDisputed) -> None:
        """A page came back, or the sink says that it does not sign it."""
        book: SuppliedFlow | None = record.book
        if book is None:
            return
        if isinstance(event, PageDisputed):
            _log.warning("%s: %s", book.record.name, event.refusal.sentence())
            self._keep(book, event.octets, PageState.DISPUTED)
            return
        self.pages += 1
        if record.origin is not None:
            # DPDP-10-09: pages of another provider that are in its ledger only
            start_uj = Page.from_wire(event.octets).start_uj
            self.received_uj -= max(0, start_uj - book.paged_uj)
        self._keep(book, event.octets, PageState.COUNTERSIGNED)

    def _keep(self, book: SuppliedFlow, octets: bytes, state: PageState) -> None:
        """Store a page; one that both have signed is posted with it."""
        page = Page.from_wire(octets)
        currency = self.pricing.document.currency if self.pricing else ""
        transfers = page_transfers(
            page, Side.SOURCE, here=book.here, there=book.there, currency=currency, who=book.who
        ) if state is PageState.COUNTERSIGNED else ()  # fmt: skip
        energy_uj = page.energy_uj if state is PageState.COUNTERSIGNED else 0
        self._postings.put(
            book, partial(self._store, book, page, octets, state, transfers), energy_uj
        )

    # LEDG-7-06
    async def _store(
        self,
        book: SuppliedFlow,
        page: Page,
        octets: bytes,
        state: PageState,
        transfers: tuple[Transfer, ...],
    ) -> None:
        """Commit a page; only then the flow may go on to the next one, or end."""
        if book.allowance is not None and transfers:
            await self.allowances.post(book, page, transfers)
        else:
            await self.ledger.post_page(
                page.transcript, page.page, Side.SOURCE, octets, state, *transfers
            )
        if state is PageState.COUNTERSIGNED:
            book.paged_uj = page.end_uj
            self.on_kept(book.record, octets)

    def closed(self, record: FlowRecord, event: FlowClosed) -> None:
        """The flow is over: post what no page covers and none ever will."""
        book, record.book = record.book, None
        if book is None:
            return
        self._books.discard(book)
        self._end(book, event)
        if book.allowance is None:
            name = f"sink:{book.there}"
            self._postings.put(book, lambda: self.allowances.included(name))

    def _end(self, book: SuppliedFlow, event: FlowClosed) -> None:
        signed_uj = _signed_uj(book, event.signed_uj)
        if signed_uj is None:
            self._post_unsigned(book, event.acked_uj - book.posted_uj)
            return
        unsigned_uj = max(0, event.acked_uj - signed_uj)
        allowance = book.allowance
        if allowance is not None:
            given_uj = event.esn_uj - max(event.acked_uj, signed_uj)
            end = partial(self.allowances.end, allowance, unsigned_uj, given_uj)
            self._postings.put(book, end, unsigned_uj)
        elif book.record.rights is not None:
            # a quota that comes later counts it too
            self._post_unsigned(book, unsigned_uj)
        else:
            self._lost_uj += unsigned_uj
        if unsigned_uj:
            facts: dict[str, object] = {"flow": book.name, "unsigned_uj": unsigned_uj}
            if book.who:
                facts["who"] = book.who
            self._postings.put(book, lambda: self.ledger.record("unsigned", facts))

    # -- energy without pages ----------------------------------------------------------------

    async def _post_regularly(self) -> None:
        while True:
            await trio.sleep_until(trio.current_time() + UNSIGNED_S)
            for book in tuple(self._books):
                self._look(book)
                await trio.lowlevel.checkpoint()

    def _look(self, book: SuppliedFlow) -> None:
        record = book.record
        machine = record.session.machine
        if book.chain is not None or record.flow not in machine.flows:
            return
        status = machine.status(record.flow)
        if status.signed_uj is None:
            self._post_unsigned(book, status.acked_uj - book.posted_uj)

    def _post_unsigned(self, book: SuppliedFlow, energy_uj: int) -> None:
        transfers = unsigned_transfers(
            book.identity,
            book.number,
            energy_uj,
            Side.SOURCE,
            here=book.here,
            there=book.there,
            who=book.who,
        )
        if transfers:
            book.number, book.posted_uj = book.number + 1, book.posted_uj + energy_uj
            self._postings.put(book, lambda: self.ledger.post(*transfers), energy_uj)

    def balance(self, energy_uj: int) -> dict[str, object]:
        """Hold what flows took, `energy_uj` in all, against the books; the residual must be 0.

        booked_uj: on the disk since the start. open_uj: will be, with the next page or posting.
        unsigned_uj: never will, for want of a signature or of a disk. handed_uj: delivered here, in a page
        of another provider of the realm; received_uj: the other way.
        """
        open_uj, lost_uj = self._postings.queued_uj, self._lost_uj + self._postings.lost_uj
        for book in self._books:
            machine, flow = book.record.session.machine, book.record.flow
            if flow in machine.flows:
                status = machine.status(flow)
                signed_uj = _signed_uj(book, status.signed_uj)
                covered_uj = book.posted_uj if signed_uj is None else signed_uj
                open_uj += status.acked_uj - covered_uj
        return {
            "pages": self.pages,
            "booked_uj": self._postings.booked_uj,
            "open_uj": open_uj,
            "unsigned_uj": lost_uj,
            "handed_uj": self.handed_uj,
            "received_uj": self.received_uj,
            "residual_uj": energy_uj
            + self.received_uj
            - self.handed_uj
            - self._postings.booked_uj
            - open_uj
            - lost_uj,
            "waiting": self._postings.waiting,
            "is_read_only": self.ledger.is_read_only,
        }

    async def _settle(self) -> None:
        """Post the rest of every flow, and wait until all is on the disk."""
        for book in tuple(self._books):
            self._look(book)
        await self._postings.settle()

    async def _watch(self) -> None:
        await self.ledger.wait_read_only()
        _log.error("ledger: it cannot be written any more; no new contracts")
        self._fail()

    def _fail(self) -> None:
        self.on_failure()


def _signed_uj(book: SuppliedFlow, signed_uj: int | None) -> int | None:
    """Return what pages cover: before READY here, those of the provider that had the flow."""
    event = book.record.origin
    if signed_uj is None and event is not None and event.origin is not None:
        return event.origin.signed_uj
    return signed_uj


def _nothing(*_: object) -> None:
    """Do nothing: nobody wants to know."""
