"""What a provider's flows owe to its books: receipts, prices, and the end without either."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.session import FlowRecord, Session
from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    FlowClosing,
    Origin,
    PageDisputed,
    PageSigned,
    RenegotiationAnswered,
)
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.units import Instant
from powertcp.wire.options import Meter, Tariff

if TYPE_CHECKING:
    from powertcp.drivers.provider_books import ProviderBooks


class Office(Protocol):
    """Whoever admits the flows."""

    def is_busy(self, key: object) -> bool:
        """Say whether nothing can be proposed on a flow now."""

    def attempt(self, record: FlowRecord, now: Instant, verb: Callable[[], None]) -> None:
        """Do something on a flow, outside of a wake-up of its wire."""

    def quiet(self, record: FlowRecord, state: str) -> None:
        """Deliver nothing more on a flow."""

    def changed(self, record: FlowRecord) -> None:
        """Receipts of a flow are others."""


class Billing:
    """Flows and the books of their provider. books: None where nothing is written down."""

    def __init__(self, office: Office) -> None:
        """Begin without books."""
        self.books: ProviderBooks | None = None
        self._office = office

    # LEDG-7-07
    def refusal(self, record: FlowRecord) -> Refusal | None:
        """Return why a flow gets no contract; None: nothing is against."""
        if self.books is None:
            return None
        return self.unmetered(record) or self.books.refusal(record)

    # LEDG-7-05
    def unmetered(self, record: FlowRecord) -> Refusal | None:
        """Return why a flow without receipts gets neither a contract nor other terms."""
        books = self.books
        if books is None or record.metered:
            return None
        limited = books.allowances.limit_uj(f"sink:{record.party}", record) is not None
        if books.requires_receipts or limited:
            return Refusal(Reason.PAYMENT_REQUIRED, rule="receipts are required")
        return None

    def offer(self, record: FlowRecord) -> tuple[Meter | None, Tariff | None]:
        """Return what a grant on a flow says of receipts and price."""
        return (self.books.meter_of(record), self.books.tariff()) if self.books else (None, None)

    def terms(self, record: FlowRecord, supply: PowerProfile, tariff: Tariff | None) -> None:
        """Terms took effect on a flow, perhaps its first ones."""
        if self.books is not None:
            record.offered = None
            self.books.terms(record, supply, tariff)

    def page(self, session: Session, event: PageSigned | PageDisputed | FlowClosing) -> None:
        """A page came back, or the last one is awaited."""
        record = session.flows.get(event.flow)
        if record is None or self.books is None:
            return
        if isinstance(event, FlowClosing):
            self._office.quiet(record, "closing")
            return
        self.books.take(record, event)

    # LEDG-7-06
    def kept(self, record: FlowRecord, octets: bytes) -> None:
        """The copy of a page is on the disk: whoever waited for that goes on."""
        machine, now = record.session.machine, now_ns()
        self._office.changed(record)
        if record.flow in machine.flows:
            record.blocked = False
            self._office.attempt(
                record, now, partial(machine.keep_page, record.flow, octets, now=now)
            )

    def moved(self, old: FlowRecord, new: FlowRecord) -> None:
        """A ticket moved a flow."""
        if self.books is not None:
            self.books.moved(old, new)

    # DPDP-10-05
    def taken_over(
        self, record: FlowRecord, supply: PowerProfile, esn_uj: int, origin: Origin
    ) -> None:
        """A flow of another provider of the realm goes on here, from `esn_uj`."""
        if self.books is not None:
            self.books.taken_over(record, supply, esn_uj, origin)

    # DPDP-10-06
    def handed_over(self, record: FlowRecord, esn_uj: int) -> None:
        """Another provider of the realm goes on with a flow, from `esn_uj`."""
        if self.books is not None:
            self.books.handed_over(record, esn_uj)

    def closed(self, record: FlowRecord, event: FlowClosed) -> None:
        """A flow is over."""
        if self.books is not None:
            self.books.closed(record, event)

    # LEDG-6-04
    def reprice(self, record: FlowRecord, tariff: Tariff) -> None:
        """Propose another price under the terms of now; not while a proposal is unanswered."""
        now = now_ns()
        profile, machine = record.profile, record.session.machine
        if profile is None or self._office.is_busy(record) or not is_metered(record):
            return
        propose = partial(machine.renegotiate, record.flow, (Ask(profile),), tariff=tariff, now=now)
        record.offered = tariff
        self._office.attempt(record, now, propose)

    # LEDG-7-05
    def spent(self, record: FlowRecord, refusal: Refusal) -> None:
        """Close a flow that has had all its address may have."""
        self._close(record, refusal, now_ns())

    def rejected(self, record: FlowRecord, event: RenegotiationAnswered, now: Instant) -> None:
        """The sink keeps its terms; one that keeps an old price gets no more power."""
        offered, record.offered = record.offered, None
        if offered is not None and record.state == "energised":
            limit = event.refusal.limit if event.refusal else 0
            refusal = Refusal(Reason.TARIFF, offered.price, limit)
            self._office.quiet(record, "closing")
            record.session.machine.close_flow(record.flow, refusal=refusal, now=now)

    # LEDG-7-07
    def end(self, record: FlowRecord, now: Instant) -> None:
        """Close a flow with receipts: nobody can write them down any more."""
        if is_metered(record):
            refusal = Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written")
            self._close(record, refusal, now)

    def _close(self, record: FlowRecord, refusal: Refusal, now: Instant) -> None:
        """Say FIN on a flow that delivers; one that does not ends by itself."""
        machine = record.session.machine
        if record.state == "energised" and record.flow in machine.flows:
            self._office.quiet(record, "closing")
            close = partial(machine.close_flow, record.flow, refusal=refusal, now=now)
            self._office.attempt(record, now, close)


def is_metered(record: FlowRecord) -> bool:
    """Return whether receipts are agreed on a flow that lives."""
    machine = record.session.machine
    return record.flow in machine.flows and machine.status(record.flow).signed_uj is not None
