"""The receipts of a flow at either end: pages made and awaited, looked at and countersigned.

`MeteredOutflow` is the source's half, `MeteredInflow` the sink's; without METER neither does
anything. Protocol section 13, receipts section 6.
"""

from dataclasses import replace
from hashlib import blake2s

from powertcp.dve import BlockSums
from powertcp.errors import LocalProtocolError, invariant, known
from powertcp.machine import Buffer
from powertcp.potcp.events import (
    FlowClosing,
    FlowTripped,
    PageDisputed,
    PageMark,
    PageReceived,
    PageSigned,
    SupplyWithheld,
)
from powertcp.potcp.flow import FIN_ACK, NORMAL, Breach, Flow, Link
from powertcp.potcp.inflow import Inflow
from powertcp.potcp.outflow import Outflow
from powertcp.potcp.pages import (
    CLAIMED_OCTETS,
    FINAL_BIT,
    PAGE_GAP_NS,
    PAGE_OCTETS,
    PAGES_MAX,
    PAGES_SPAN_NS,
    PAGES_WAITING_MAX,
    SIGNED_OCTETS,
    SINK_CONTEXT,
    SOURCE_CONTEXT,
    TRUNCATED_BIT,
    Claim,
    Pages,
)
from powertcp.potcp.states import Cause, Sink, Source
from powertcp.registry import Reason, Refusal, SegmentType
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.frames import COOKIE_OCTETS, encode_segment
from powertcp.wire.options import Meter, Options, Tariff
from powertcp.wire.segments import Alert, Receipt

_RECEIPT = int(SegmentType.RECEIPT)


def stricter(ours: Meter, theirs: Meter) -> Meter:
    """Return when pages are due if each side gets them as often as it wishes; with our key."""
    return Meter(
        min(filter(None, (ours.receipt_s, theirs.receipt_s)), default=0),
        min(filter(None, (ours.receipt_uj, theirs.receipt_uj)), default=0),
        ours.key,
    )


def _settle(flow: Flow, now: Instant, refusal: Refusal) -> None:
    """The peer closes and the last page lacks a signature: FIN+ACK waits for it, T_DRAIN long."""
    flow.farewell(refusal)
    flow.arm(now, flow.link.config.drain_ns)


def _linger(flow: Flow, now: Instant) -> None:
    """The peer may take T_DRAIN for the last page before it answers our FIN or TRIP."""
    if flow.owes:
        flow.arm(now, 2 * flow.link.config.drain_ns)


class MeteredOutflow(Outflow):
    """The source's half: it signs a page, sends it, and counts on the copy.

    meter: what SYN+ACK says, None: no receipts. pages: from READY on. kept: of the flow that is
    resumed. tariff: in force.
    """

    kept: Pages | None

    __slots__ = ("meter", "peer_key", "transcript")

    def __init__(self, link: Link, flow: int) -> None:
        super().__init__(link, flow)
        self.meter: Meter | None = None
        self.peer_key = b""
        self.transcript = b""

    # LEDG-6-10
    def agree_meter(self, ours: Meter | None, theirs: Meter | None) -> Meter | None:
        """Return the METER of SYN+ACK: receipts are agreed when both sides carry it."""
        if ours is None or theirs is None:
            return None
        if self.link.sign_page is None:
            raise LocalProtocolError(f"flow {self.id}: METER needs somebody who signs pages")
        self.meter, self.peer_key = stricter(ours, theirs), theirs.key
        return self.meter

    # LEDG-6-13
    def draw_cookie(self) -> bytes | None:
        """Return what makes the transcript of a metered flow its own, whatever SYN came again."""
        return self.link.entropy(COOKIE_OCTETS) if self.meter is not None else None

    def open_pages(self, now: Instant) -> None:
        """Power flows: count from here on, or continue what the ticket brought."""
        meter, kept = self.meter, self.kept
        if meter is None:
            return
        self.is_watched, self.kept = True, None
        if kept is not None:
            self.pages = kept
            self._continue(now, kept)
            return
        pages = Pages(meter, self.peer_key, self.transcript, self.contract, self.tariff)
        self.pages = pages
        self._schedule(now, pages)

    # LEDG-6-12
    def _continue(self, now: Instant, pages: Pages) -> None:
        """After a resume: send the open page again, or withdraw it; the sink verified `start_uj`."""
        pages.clear()
        pages.resumed = pages.is_fresh = True
        if pages.open and pages.open_end_uj > self.start_uj:
            pages.withdraw()
        if pages.open and not pages.is_disputed:
            self._send(pages.open)
        elif pages.is_due:
            self._turn(now, pages)
        self._weigh()

    def _schedule(self, now: Instant, pages: Pages) -> None:
        interval_s = pages.meter.receipt_s
        pages.sent_at = now
        pages.page_at = now + interval_s * NS_PER_S if interval_s else None

    def _send(self, octets: bytes) -> None:
        self.link.send(encode_segment(Receipt(self.id, self.esn_uj, octets)))

    def _weigh(self) -> None:
        """Blocks wait while a page is overdue, and while one at a change of terms cannot be made."""
        pages = known(self.pages, "a metered flow has pages")
        self.is_withheld = pages.is_due or pages.give_up_at is not None

    # LEDG-6-01
    def _turn(self, now: Instant, pages: Pages) -> None:
        """Sign and send the page of the span that ends here; the page before is countersigned."""
        end_uj = self.acked_uj if pages.is_truncated else self.esn_uj
        pages.is_due = False
        if not pages.is_closing and not pages.has_news(end_uj):
            pages.contract, pages.tariff = self.contract, self.tariff
            self._schedule(now, pages)
            return
        facts = pages.facts(
            self.id, end_uj, now, final=pages.is_closing, truncated=pages.is_truncated
        )
        octets = known(self.link.sign_page, "METER was agreed with a signer")(facts)
        invariant(len(octets) == PAGE_OCTETS, "a page has 380 octets")
        pages.open, pages.open_end_uj, pages.is_open_final = octets, end_uj, pages.is_closing
        pages.begin(end_uj, self.contract, self.tariff)
        self._schedule(now, pages)
        pages.expose_at = now + self.link.config.receipt_ns
        self._send(octets)

    # LEDG-6-11
    def turn_page(self, now: Instant) -> None:
        """The terms change here: the span ends, now or when the page before comes back."""
        pages = self.pages
        if pages is None:
            return
        pages.is_due = pages.has_news(self.esn_uj)
        if pages.is_due and not pages.open:
            self._turn(now, pages)
        self._weigh()

    def relabel(self) -> None:
        """New terms hold: they are those of a span in which nothing came yet."""
        pages = self.pages
        if pages is not None and not pages.is_due:
            pages.contract, pages.tariff = self.contract, self.tariff

    def after_block(self, now: Instant, block: Buffer, sums: BlockSums, esn_uj: int) -> None:
        """Count a block that was sent; a page is due by energy, or the granted energy is over."""
        pages = self.pages
        if pages is not None:
            pages.note(block, sums.n, sums.sync)
        super().after_block(now, block, sums, esn_uj)
        if pages is not None and self.delivers and not pages.open and self._is_full(now, pages):
            self._turn(now, pages)

    # LEDG-6-11
    def _is_full(self, now: Instant, pages: Pages) -> bool:
        most_uj = pages.meter.receipt_uj
        return (
            most_uj != 0
            and self.esn_uj - pages.start_uj >= most_uj
            and now >= pages.sent_at + PAGE_GAP_NS
        )

    # --- the copy ----------------------------------------------------------------------------

    def take_copy(self, now: Instant, receipt: Receipt) -> None:
        """RECEIPT: the page under way with the sink's signature, or the one before once more."""
        pages, copy = self.pages, receipt.page
        if pages is None:
            raise Breach(Refusal(Reason.STATE, _RECEIPT, self.state.value, rule="no METER"))
        # LEDG-6-10
        if copy in (pages.copy, pages.held):
            return
        if self._recall(pages, copy):
            return
        if not pages.open or pages.held or pages.is_disputed:
            raise Breach(Refusal(Reason.STATE, _RECEIPT, self.state.value, rule="no page is open"))
        # LEDG-6-03
        message, signature = copy[:SIGNED_OCTETS], copy[SIGNED_OCTETS:]
        if message != pages.open[:SIGNED_OCTETS] or not self.link.is_signed_by(
            pages.peer_key, SINK_CONTEXT + message, signature
        ):
            raise Breach(Refusal(Reason.RECEIPT_INVALID, pages.number))
        pages.held = copy
        self.link.emit(PageSigned(flow=self.id, octets=copy))

    # DPDP-10-09
    def _recall(self, pages: Pages, copy: bytes) -> bool:
        """Take the copy of a page that another provider of the realm made and that we were not
        told of: both have signed it, so that it counts, and ours of that place does not.
        """
        claim, message = Claim.of(copy), copy[:SIGNED_OCTETS]
        if not pages.is_foreign or pages.held or pages.is_disputed:
            return False
        is_next = (
            claim.transcript == pages.transcript
            and pages.signed_uj <= claim.start_uj <= claim.end_uj <= self.start_uj
            and (claim.page > pages.number or claim.start_uj == pages.signed_uj)
            and claim.page >= pages.number
            and not claim.flags & FINAL_BIT
        )
        if not is_next or message == pages.open[:SIGNED_OCTETS]:
            return False
        claimed, signature = copy[:CLAIMED_OCTETS], copy[CLAIMED_OCTETS:SIGNED_OCTETS]
        is_signed_by = self.link.is_signed_by
        if not (
            is_signed_by(pages.meter.key, SOURCE_CONTEXT + claimed, signature)
            and is_signed_by(pages.peer_key, SINK_CONTEXT + message, copy[SIGNED_OCTETS:])
        ):
            return False
        pages.recover(claim, copy, self.contract, self.tariff)
        self.link.emit(PageSigned(flow=self.id, octets=copy))
        return True

    # LEDG-7-06
    def keep_page(self, now: Instant, copy: bytes) -> None:
        """The copy is on our disk: it counts from here on, and the next page may go."""
        pages = self.pages
        if pages is None or not copy or pages.held != copy:
            return
        pages.close(copy)
        if pages.is_done:
            self._settled(now)
        elif pages.is_closing or (self.delivers and self._is_due(now, pages)):
            self._turn(now, pages)
        self._weigh()

    def _is_due(self, now: Instant, pages: Pages) -> bool:
        is_late = pages.page_at is not None and now >= pages.page_at
        return pages.is_due or is_late or self._is_full(now, pages)

    def note_alert(self, now: Instant, alert: Alert) -> None:
        """Report an alert; 403 is the sink's word that it does not sign."""
        super().note_alert(now, alert)
        pages, refusal = self.pages, alert.options.reason
        if pages is None or refusal is None or refusal.code != Reason.RECEIPT_INVALID:
            return
        if pages.open and not pages.held and not pages.is_disputed:
            pages.is_disputed = True
            self.link.emit(PageDisputed(flow=self.id, octets=pages.open, refusal=refusal))
            self._settled(now)

    def _settled(self, now: Instant) -> None:
        if self.state is Source.SETTLING:
            self.fire(Cause.SETTLED, now)

    # --- time --------------------------------------------------------------------------------

    def page_times(self) -> tuple[Instant | None, ...]:
        """Return when a page is due, overdue, and overdue for good; while power flows."""
        pages = self.pages
        if pages is None or not self.delivers:
            return ()
        if not pages.open:
            return (pages.page_at,)
        return (pages.give_up_at or pages.expose_at,)

    # LEDG-6-03
    def pass_pages(self, now: Instant) -> None:
        """Do what is due: a page, ALERT 404 and no more blocks, FIN 404."""
        pages = self.pages
        if pages is None or not self.delivers:
            return
        config = self.link.config
        if not pages.open:
            if pages.page_at is not None and now >= pages.page_at:
                self._turn(now, pages)
        elif pages.give_up_at is not None:
            if now >= pages.give_up_at:
                waited_s = (now - pages.sent_at) // NS_PER_S
                limit_s = (config.receipt_ns + config.unpaid_ns) // NS_PER_S
                self.fire(Cause.CLOSE, now, Refusal(Reason.RECEIPT_MISSING, waited_s, limit_s))
        elif pages.expose_at is not None and now >= pages.expose_at:
            pages.give_up_at = now + config.unpaid_ns
            waited_s = (now - pages.sent_at) // NS_PER_S
            refusal = Refusal(Reason.RECEIPT_MISSING, waited_s, config.receipt_ns // NS_PER_S)
            self._weigh()
            self.alert(2, refusal)
            self.link.emit(SupplyWithheld(flow=self.id, refusal=refusal))

    # --- endings -----------------------------------------------------------------------------

    @property
    def signed_uj(self) -> int | None:
        """Energy that pages cover which both have signed; None: no receipts."""
        pages = self.pages
        return pages.open_end_uj if pages is not None and pages.held else super().signed_uj

    # PTCP-13-01
    def close_pages(self, now: Instant) -> None:
        """Nothing more is delivered: the last page, when the page before has come back."""
        pages = self.pages
        if pages is None or pages.is_done or pages.is_disputed:
            return
        pages.is_closing = True
        if not pages.open:
            self._turn(now, pages)

    def send_fin(self, now: Instant, refusal: Refusal | None = None) -> None:
        """Send the last page, then FIN."""
        self.close_pages(now)
        super().send_fin(now, refusal)
        _linger(self, now)

    def send_trip(self, now: Instant, refusal: Refusal) -> None:
        """Send the last page, then TRIP."""
        self.close_pages(now)
        super().send_trip(now, refusal)
        _linger(self, now)

    def settle(self, now: Instant, options: Options) -> None:
        """The sink closes: the last page goes, FIN+ACK follows its copy. PTCP-13-01."""
        reason = options.reason or NORMAL
        _settle(self, now, reason)
        self.link.emit(FlowClosing(flow=self.id, refusal=reason))
        self.close_pages(now)

    def settle_trip(self, now: Instant, options: Options) -> None:
        """The sink tripped: the last page says what it verified, whatever was under way. PTCP-8-02."""
        pages = known(self.pages, "a page is owed")
        reason = options.reason or Refusal(Reason.OPERATOR)
        _settle(self, now, reason)
        self.link.emit(FlowTripped(flow=self.id, refusal=reason, by_peer=True))
        # LEDG-6-12
        pages.is_truncated = True
        if pages.open and pages.open_end_uj > self.acked_uj:
            pages.withdraw()
        self.close_pages(now)

    def answer_late(self, now: Instant, *_: object) -> None:
        """The last page is signed, or T_DRAIN is over: FIN+ACK. PTCP-13-01."""
        self.control(FIN_ACK)
        self.end(self.ending)


class MeteredInflow(Inflow):
    """The sink's half: it hands each page to its owner with its own numbers, and answers.

    meter: what our SYN asked for, None: no receipts. kept: of the flow that is resumed.
    """

    kept: PageMark | None

    __slots__ = ("handshake", "meter", "offered_tariff", "peer_meter")

    def __init__(self, link: Link, flow: int, *, wants_samples: bool = False) -> None:
        super().__init__(link, flow, wants_samples=wants_samples)
        self.meter: Meter | None = None
        self.peer_meter: Meter | None = None
        self.handshake = b""
        # the price of a proposal of the source that is not in force yet
        self.offered_tariff: Tariff | None = None

    def open_pages(self, now: Instant) -> None:
        """Power flows: count from here on, or continue where the lost path left off."""
        ours, theirs, mark = self.meter, self.peer_meter, self.kept
        if ours is None or theirs is None or self.pages is not None:
            return
        self.keeps = True
        if mark is None:
            transcript = blake2s(self.handshake).digest()
            self.pages = Pages(theirs, theirs.key, transcript, self.contract, self.tariff)
            return
        self.pages, self.kept = Pages.of(mark, theirs), None
        # LEDG-6-12
        if mark.answered:
            self._send(mark.answered)

    def _send(self, octets: bytes) -> None:
        self.link.send(encode_segment(Receipt(self.id, self.esn_uj, octets)))

    def keep(self, sums: BlockSums, payload: memoryview) -> None:
        """Keep what somebody wants of a block: its samples, its place in the digest."""
        super().keep(sums, payload)
        if self.pages is not None:
            self.pages.note(payload, sums.n, sums.sync)

    def witness(self, sums: BlockSums, payload: memoryview) -> None:
        """A block is heat: the digest counts it all the same, as the source does."""
        if self.pages is not None:
            self.pages.note(payload, sums.n, sums.sync)

    def relabel(self) -> None:
        """New terms hold: they are those of a span in which nothing came yet."""
        pages = self.pages
        if pages is not None and not (pages.is_due or pages.has_news(self.esn_uj)):
            pages.contract, pages.tariff = self.contract, self.tariff

    def note_ready(self, now: Instant, options: Options) -> None:
        """READY while we close: no terms of ours any more, but those of the last page."""
        if self.pages is not None and options.contract is not None:
            self.contract = options.contract
            self.tariff = self.offered_tariff or self.tariff
            self.relabel()

    # --- the page ----------------------------------------------------------------------------

    # LEDG-6-02
    def take_page(self, now: Instant, receipt: Receipt) -> None:
        """RECEIPT: hand a page to our owner with our own numbers; an old one is no news."""
        pages, octets = self.pages, receipt.page
        if pages is None:
            raise Breach(Refusal(Reason.STATE, _RECEIPT, self.state.value, rule="no METER"))
        claimed = octets[:CLAIMED_OCTETS]
        if pages.is_disputed or octets == pages.open or claimed == pages.copy[:CLAIMED_OCTETS]:
            return
        if pages.is_done:
            raise Breach(Refusal(Reason.STATE, _RECEIPT, self.state.value, rule="after the last"))
        self._bound(now, pages)
        signature = octets[CLAIMED_OCTETS:SIGNED_OCTETS]
        if not self.link.is_signed_by(pages.peer_key, SOURCE_CONTEXT + claimed, signature):
            raise Breach(Refusal(Reason.RECEIPT_INVALID, pages.number))
        claim = Claim.of(octets)
        if pages.is_truncated and claim.end_uj > self.esn_uj:
            # it crossed our TRIP, another one comes: what it counted is in no digest of ours
            pages.clear()
            pages.is_due = True
            return
        if pages.is_fresh and claim.samples:
            pages.recall(claim)
        facts = pages.facts(
            self.id,
            self.esn_uj,
            now,
            final=claim.flags & FINAL_BIT != 0,
            truncated=pages.is_truncated and claim.flags & TRUNCATED_BIT != 0,
        )
        pages.waiting += ((octets, facts),)
        pages.begin(self.esn_uj, self.contract, self.tariff)
        self._look(pages)

    def _look(self, pages: Pages) -> None:
        """Hand the next page to our owner, one at a time."""
        found = pages.look()
        if found is not None:
            self.link.emit(PageReceived(flow=self.id, octets=found[0], facts=found[1]))

    # LEDG-6-11
    def _bound(self, now: Instant, pages: Pages) -> None:
        """Refuse more pages than anybody needs: each costs a signature and a commit."""
        pages.times = (*(one for one in pages.times if now - one < PAGES_SPAN_NS), now)
        if len(pages.times) > PAGES_MAX:
            raise Breach(Refusal(Reason.LIMIT, len(pages.times), PAGES_MAX, rule="pages"))
        if len(pages.waiting) >= PAGES_WAITING_MAX:
            raise Breach(
                Refusal(Reason.LIMIT, len(pages.waiting) + 1, PAGES_WAITING_MAX, rule="pages")
            )

    def countersign(self, now: Instant, octets: bytes) -> None:
        """Return the page under way with our signature."""
        pages = self.pages
        if pages is None and self.kept is not None:
            self.kept = _answered(self.id, self.kept, octets)
            return
        if pages is None or not _completes(octets, pages.open):
            raise LocalProtocolError(f"flow {self.id}: this is not the page to be signed")
        pages.close(octets)
        self._send(octets)
        self._look(pages)
        if pages.is_done:
            self._settled(now)

    def dispute(self, now: Instant, refusal: Refusal) -> None:
        """Do not sign the page under way: ALERT with what differs."""
        pages = self.pages
        if pages is None or not pages.open:
            raise LocalProtocolError(f"flow {self.id}: there is no page to dispute")
        pages.open, pages.waiting, pages.is_disputed = b"", (), True
        # LEDG-6-02
        self.alert(2, refusal)
        self._settled(now)

    def _settled(self, now: Instant) -> None:
        if self.state is Sink.SETTLING:
            self.fire(Cause.SETTLED, now)

    # --- endings -----------------------------------------------------------------------------

    def send_fin(self, now: Instant, refusal: Refusal | None = None) -> None:
        """FIN: what still comes is banked, the last page too."""
        super().send_fin(now, refusal)
        _linger(self, now)

    def send_trip(self, now: Instant, refusal: Refusal) -> None:
        """TRIP: nothing more is banked; the last page says what was."""
        super().send_trip(now, refusal)
        if self.pages is not None:
            self.pages.is_truncated = True
        _linger(self, now)

    def settle(self, now: Instant, options: Options) -> None:
        """The source closes: FIN+ACK follows the signature under the last page. PTCP-13-01."""
        reason = options.reason or NORMAL
        _settle(self, now, reason)
        self.link.emit(FlowClosing(flow=self.id, refusal=reason))

    def settle_trip(self, now: Instant, options: Options) -> None:
        """The source tripped: FIN+ACK follows the signature under the last page. PTCP-8-02."""
        reason = options.reason or Refusal(Reason.OPERATOR)
        _settle(self, now, reason)
        self.link.emit(FlowTripped(flow=self.id, refusal=reason, by_peer=True))

    def answer_late(self, now: Instant, *_: object) -> None:
        """The last page is answered, or T_DRAIN is over: FIN+ACK. PTCP-13-01."""
        self.control(FIN_ACK)
        self.end(self.ending)


def _answered(flow: int, mark: PageMark, octets: bytes) -> PageMark:
    """Return `mark` with its unanswered page countersigned: the copy goes after READY."""
    if not _completes(octets, mark.unanswered):
        raise LocalProtocolError(f"flow {flow}: this is not the page to be signed")
    return replace(
        mark, page=mark.page + 1, signed_uj=mark.start_uj, unanswered=b"", answered=octets
    )


def _completes(octets: bytes, page: bytes) -> bool:
    """Return whether `octets` are `page` with a signature of the sink."""
    signed = page[:SIGNED_OCTETS]
    return len(octets) == PAGE_OCTETS and bool(page) and octets[:SIGNED_OCTETS] == signed
