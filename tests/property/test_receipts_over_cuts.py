"""Paths cut again and again at any octet, either way: receipts cover each joule once."""

from collections.abc import Iterable
from random import Random

import pytest

from powertcp.ledger import Page, Verdict, verify_pages
from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    FlowCut,
    PageReceived,
    PageSigned,
    RenegotiationRequested,
    SamplesReceived,
    TicketReceived,
)
from powertcp.profile import ProfileType
from powertcp.units import NS_PER_MS
from tests.conversation import SINK, SOURCE, profile
from tests.full import size
from tests.metered import DAY, NIGHT, Books, MeteredPair, meter_of

CUTS = size(60, 1000)
ASK = Ask(profile("12V/1.5A"))
WISH = meter_of(SINK, 1, 2_000_000)


class Owners:
    """What both owners do and remember, over all paths.

    signed: pages that came back to the source with the sink's signature.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.books = Books()
        self.signed: list[bytes] = []
        self.waiting: list[PageReceived] = []
        self.banked_uj = 0
        self.ticket = b""
        self.is_day = True

    def heed(self, pair: MeteredPair, flow: int) -> None:
        """Take what happened; the sink's owner is quick at times."""
        pair.collect()
        self.banked_uj += sum(one.energy_uj for one in pair.take(SINK, SamplesReceived))
        for ticket in pair.take(SINK, TicketReceived):
            self.ticket = ticket.ticket
        self.waiting += pair.take(SINK, PageReceived)
        self.note_copies(pair)
        if self.waiting and self.random.random() < 0.6:
            self.answer(pair, flow)
        if self.random.random() < 0.6:
            self.keep(pair, flow)
        for _ in pair.take(SINK, RenegotiationRequested):
            pair.sink.answer(flow, accept=self.random.random() < 0.7, now=pair.now)

    def answer(self, pair: MeteredPair, flow: int) -> None:
        copy = self.books.answer(self.waiting.pop(0))
        assert copy is not None, self.books.differences
        pair.sink.countersign(flow, copy, now=pair.now)

    def note_copies(self, pair: MeteredPair) -> None:
        self.signed += [one.octets for one in pair.take(SOURCE, PageSigned)]

    def keep(self, pair: MeteredPair, flow: int) -> None:
        """The disk of the source has what came back; on a path that may be another one."""
        for copy in self.signed[-2:]:
            pair.source.keep_page(flow, copy, now=pair.now)

    def act(self, pair: MeteredPair, flow: int) -> None:
        """Let time pass, send blocks, change the price."""
        random = self.random
        pair.now += random.randrange(1, 600) * NS_PER_MS
        for carrier in pair.carriers:
            carrier.handle_timer(pair.now)
        for _ in range(random.randrange(0, 3)):
            samples = random.randrange(1, 60)
            taken = pair.source.send_samples(flow, [pair.block(flow, samples)], now=pair.now)
            pair.counters[flow] = pair.counters.get(flow, 0) + samples * taken
        if random.random() < 0.1 and pair.source.may_propose(flow):
            self.is_day = not self.is_day
            price = DAY if self.is_day else NIGHT
            pair.source.renegotiate(flow, [ASK], tariff=price, now=pair.now)

    def cut(self, pair: MeteredPair) -> FlowCut:
        """Cut the path; of what is under way each way, some octets arrive."""
        for side, other in ((SINK, SOURCE), (SOURCE, SINK)):
            octets = pair.carriers[side].data_to_send()
            some = octets[: self.random.randrange(len(octets) + 1)]
            pair.carriers[other].receive_data(some, pair.now)
        pair.collect()
        self.banked_uj += sum(one.energy_uj for one in pair.take(SINK, SamplesReceived))
        self.waiting += pair.take(SINK, PageReceived)
        for ticket in pair.take(SINK, TicketReceived):
            self.ticket = ticket.ticket
        pair.cut()
        self.note_copies(pair)
        cut = pair.one(SINK, FlowCut)
        if self.random.random() < 0.3:
            self.keep(pair, cut.flow)
        return cut

    def connect(self, before: MeteredPair | None = None) -> MeteredPair:
        """Return a new path, after `before`."""
        if before is None:
            pair = MeteredPair(books=self.books)
        else:
            pair = MeteredPair(books=self.books, office=before.office, now=before.now + 1)
        pair.answers = pair.keeps = False
        return pair

    def ask_again(self, after: MeteredPair, cut: FlowCut) -> int:
        return after.sink.open_flow(
            [ASK],
            ticket=self.ticket,
            esn_uj=cut.esn_uj,
            before=ASK.desired.with_type(ProfileType.GRANT, lease_s=60),
            meter=WISH,
            pages=cut.pages,
            now=after.now,
        )

    def resume(self, pair: MeteredPair, cut: FlowCut) -> tuple[MeteredPair, int]:
        after = self.connect(pair)
        flow = self.ask_again(after, cut)
        after.exchange()
        after.source.ready(flow, now=after.now)
        after.exchange()
        return after, flow


def carry(pair: MeteredPair) -> None:
    for side in (SINK, SOURCE):
        pair.pump(side)


def in_order(pages: Iterable[bytes]) -> list[bytes]:
    return sorted({*pages}, key=lambda octets: Page.from_wire(octets).page)


def cut_and_resume(owners: Owners) -> list[Page]:
    """Cut a path CUTS times, close the flow; return its pages, as both owners have them."""
    pair = owners.connect()
    flow = pair.energise("12V/1.5A", tariff=DAY, ours=WISH)
    for _ in range(CUTS):
        for _ in range(owners.random.randrange(1, 6)):
            owners.act(pair, flow)
            carry(pair)
            owners.heed(pair, flow)
        cut = owners.cut(pair)
        assert cut.esn_uj == owners.banked_uj
        pair, flow = owners.resume(pair, cut)
        owners.note_copies(pair)
    pair.answers = pair.keeps = True
    owners.keep(pair, flow)
    while owners.waiting:
        owners.answer(pair, flow)
    pair.exchange()
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    closed = pair.one(SOURCE, FlowClosed)
    assert closed.signed_uj == closed.acked_uj == owners.banked_uj > 0
    assert owners.books.differences == []
    signed = in_order([*owners.signed, *pair.signed])
    # octet by octet what the sink signed
    assert signed == in_order(owners.books.copies)
    pages = [Page.from_wire(octets) for octets in signed]
    assert [page.page for page in pages] == list(range(len(pages)))
    assert sum(page.end_uj - page.start_uj for page in pages) == owners.banked_uj
    assert any(int(page.flags) & 8 for page in pages)
    (verdict,) = verify_pages([("flow.ptr", b"".join(signed))])
    assert verdict.verdict is not Verdict.INVALID, verdict.reason
    assert verdict.pages == len(pages) > CUTS // 4
    return pages


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-12", "PTCP-10-03")
@pytest.mark.parametrize("seed", range(size(3, 10)))
def test_receipts_cover_each_joule_once_however_often_the_path_is_cut(seed: int) -> None:
    cut_and_resume(Owners(seed))
