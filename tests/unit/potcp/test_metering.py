"""Receipts between two ends: made at their time, countersigned, overdue, disputed, resumed."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from powertcp.dve import encode_block
from powertcp.errors import LocalProtocolError
from powertcp.potcp.events import (
    Alerted,
    Ask,
    FlowClosed,
    FlowClosing,
    FlowCut,
    FlowTripped,
    PageDisputed,
    PageMark,
    PageReceived,
    PageSigned,
    PowerGranted,
    PowerReady,
    RenegotiationRequested,
    SamplesReceived,
    SupplyWithheld,
    TicketReceived,
)
from powertcp.potcp.pages import PAGES_MAX, PAGES_WAITING_MAX
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import data_header, encode_segment
from powertcp.wire.options import Meter, Options
from powertcp.wire.segments import Alert, Blocked, Control, Ready, Receipt
from tests.conversation import SINK, SOURCE, Pair, ask, profile, segments
from tests.metered import DAY, NIGHT, SINK_KEY, SOURCE_KEY, Books, MeteredPair, meter_of

WHY = Refusal(Reason.BUDGET, 1, 1)
LIE = Refusal(Reason.RECEIPT_INVALID, 5, 4)
MARK = PageMark(
    transcript=bytes(32),
    peer_key=SOURCE_KEY.public,
    page=0,
    start_uj=0,
    signed_uj=0,
    contract=1,
    tariff=None,
    unanswered=b"",
    answered=b"",
)


def code_of(pair: Pair, side: int) -> int:
    """Return the code with which a flow was closed."""
    refusal = pair.one(side, FlowClosed).refusal
    return refusal.code if refusal is not None else 0


def receipt(flow: int, page: bytes, esn_uj: int = 0) -> bytes:
    return encode_segment(Receipt(flow, esn_uj, page))


@pytest.mark.requirement("LEDG-6-01")
def test_a_page_each_interval_is_countersigned() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 10), tariff=DAY)
    granted = pair.one(SINK, PowerGranted)
    assert granted.meter == meter_of(SOURCE, 10)
    assert granted.tariff == DAY
    assert pair.run(flow, 300) == 300
    facts = pair.books.facts
    assert [one.page for one in facts] == [0, 1, 2]
    assert [(one.start_uj, one.end_uj) for one in facts] == [
        (0, 118_800_000), (118_800_000, 238_800_000), (238_800_000, 358_800_000)
    ]  # fmt: skip
    assert [one.samples for one in facts] == [9_900, 10_000, 10_000]
    assert all(one.sim and not one.final and one.tariff == DAY for one in facts)
    assert {one.peer_key for one in facts} == {SOURCE_KEY.public}
    assert SINK_KEY.public in pair.signed[0]
    assert len(pair.signed) == 3
    assert pair.source.status(flow).signed_uj == pair.sink.status(flow).signed_uj == 358_800_000


@pytest.mark.requirement("PTCP-13-01")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_the_last_page_is_signed_before_fin_is_answered(side: int) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 7)
    pair.ends[side].close_flow(flow, now=pair.now)
    pair.exchange()
    (facts,) = pair.books.facts
    assert (facts.final, facts.end_uj) == (True, 8_400_000)
    assert pair.one(1 - side, FlowClosing).refusal.code == 600
    for end in (SINK, SOURCE):
        closed = pair.one(end, FlowClosed)
        assert closed.signed_uj == closed.acked_uj == 8_400_000


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-11")
def test_a_page_is_due_by_energy_once_a_second_at_most() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 0, 3_000_000), theirs=meter_of(SOURCE, 0, 0))
    assert pair.run(flow, 30) == 30
    assert [one.end_uj for one in pair.books.facts] == [12_000_000, 24_000_000, 36_000_000]


def _repeated(serial: int, count: int) -> bytes:
    return bytes([serial]) * count


@pytest.mark.requirement("LEDG-6-13")
def test_the_same_syn_again_gives_pages_of_another_flow() -> None:
    books = Books()
    for serial in range(2):
        pair = MeteredPair(books=books)
        # the sink repeats its handshake to the octet; only the source is another moment's
        pair.source.entropy = partial(_repeated, serial)
        flow = pair.energise()
        pair.run(flow, 10)
        pair.sink.close_flow(flow, now=pair.now)
        pair.exchange()
        said = [one for one in pair.said(SOURCE, Control) if isinstance(one, Control)]
        assert said[0].options.cookie == bytes([serial]) * 32
    assert [one.page for one in books.facts] == [0, 0]
    assert len({one.transcript for one in books.facts}) == 2


@pytest.mark.requirement("LEDG-6-10")
@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [((60, 0), (10, 5), (10, 5)), ((0, 7), (0, 9), (0, 7)), ((0, 0), (0, 0), (0, 0))],
)
def test_the_stricter_wish_holds(
    ours: tuple[int, int], theirs: tuple[int, int], agreed: tuple[int, int]
) -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, *ours), theirs=meter_of(SOURCE, *theirs))
    assert pair.one(SINK, PowerGranted).meter == meter_of(SOURCE, *agreed)
    assert pair.sink.status(flow).state == "ENERGISED"


@pytest.mark.requirement("LEDG-6-10")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_without_meter_at_either_end_there_are_no_receipts(side: int) -> None:
    pair = MeteredPair()
    flow = pair.request(ask("12V/1A"), meter=meter_of(SINK) if side else None)
    meter = None if side else meter_of(SOURCE)
    pair.source.grant(flow, profile("12V/1A"), meter=meter, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, PowerGranted).meter is None
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    assert pair.run(flow, 700) == 700
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    assert pair.one(SOURCE, FlowClosed).signed_uj is None
    assert pair.said(SOURCE, Receipt) == []


def test_a_meter_needs_somebody_who_signs() -> None:
    pair = MeteredPair()
    pair.source.sign_page = None
    flow = pair.request(ask("12V/1A"), meter=meter_of(SINK))
    with pytest.raises(LocalProtocolError, match="signs pages"):
        pair.source.grant(flow, profile("12V/1A"), meter=meter_of(SOURCE), now=pair.now)
    assert pair.source.status(flow).state == "LISTEN"


@pytest.mark.requirement("LEDG-6-11")
def test_a_span_in_which_nothing_came_has_no_page() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 10))
    pair.advance(35)
    assert pair.books.facts == []
    pair.run(flow, 60)
    assert [one.samples for one in pair.books.facts] == [4_900]


# --- change of terms -----------------------------------------------------------------------------


@pytest.mark.requirement("LEDG-6-01")
def test_a_change_of_contract_ends_a_page_before_ready() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 3)
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    pair.exchange()
    order = [type(one) for one in pair.sent[SOURCE] if isinstance(one, Receipt | Ready)]
    assert order == [Ready, Receipt, Ready]
    pair.counters.clear()
    pair.advance(1)
    pair.counters[flow] = 300
    pair.run(flow, 2)
    pair.sink.renegotiate(flow, [ask("12V/0.2A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, accept=True, profile=profile("12V/0.2A"), now=pair.now)
    pair.exchange()
    assert [(one.contract, one.end_uj) for one in pair.books.facts] == [
        (1, 3_600_000), (3, 4_800_000)
    ]  # fmt: skip
    pair.source.close_flow(flow, now=pair.now)
    pair.exchange()
    last = pair.books.facts[-1]
    assert (last.contract, last.samples, last.final) == (4, 0, True)


@pytest.mark.requirement("LEDG-6-01")
def test_terms_that_change_before_anything_came_label_the_span() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    pair.exchange()
    pair.run(flow, 2)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    assert [one.contract for one in pair.books.facts] == [3]


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-11")
def test_no_block_goes_until_the_page_at_a_change_of_terms_can_be_made() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 9)
    pair.answers = False
    pair.run(flow, 3)
    (first,) = pair.take(SINK, PageReceived)
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    pair.exchange()
    assert pair.source.credit_left_uj(flow) == 0
    assert pair.deliver(flow) == 0
    assert pair.said(SOURCE, Blocked) == []
    assert pair.sink.status(flow).contract == 3
    pair.answer(first)
    pair.answers = True
    pair.exchange()
    assert [(one.contract, one.end_uj) for one in pair.books.facts] == [
        (1, 10_800_000), (1, 14_400_000)
    ]  # fmt: skip
    assert pair.deliver(flow) == 1


@pytest.mark.requirement("LEDG-6-04")
@pytest.mark.parametrize("accepted", [True, False])
def test_another_price_holds_from_the_ready_of_its_proposal(accepted: bool) -> None:
    pair = MeteredPair()
    flow = pair.energise(tariff=DAY)
    assert pair.one(SINK, PowerReady).tariff == DAY
    pair.run(flow, 3)
    pair.source.renegotiate(flow, [ask("12V/1A")], tariff=NIGHT, now=pair.now)
    pair.exchange()
    asked = pair.one(SINK, RenegotiationRequested)
    assert asked.tariff == NIGHT
    pair.sink.answer(flow, accept=accepted, now=pair.now)
    pair.exchange()
    price = NIGHT if accepted else DAY
    assert [one.tariff for one in pair.take(SINK, PowerReady)] == [NIGHT] * accepted
    assert pair.sink.status(flow).tariff == pair.source.status(flow).tariff == price
    pair.run(flow, 3)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    assert [one.tariff for one in pair.books.facts] == ([DAY, NIGHT] if accepted else [DAY])


@pytest.mark.requirement("LEDG-6-04")
def test_a_price_whose_proposal_loses_against_a_shed_never_holds() -> None:
    pair = MeteredPair()
    flow = pair.energise(tariff=DAY)
    with pytest.raises(LocalProtocolError, match="price"):
        pair.sink.renegotiate(flow, [ask("12V/1A")], tariff=NIGHT, now=pair.now)
    pair.source.renegotiate(flow, [ask("12V/1A")], tariff=NIGHT, now=pair.now)
    pair.exchange()
    pair.sink.answer(flow, accept=False, now=pair.now)
    pair.exchange()
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    pair.exchange()
    assert pair.sink.status(flow).tariff == pair.source.status(flow).tariff == DAY


# --- overdue and disputed ------------------------------------------------------------------------


@pytest.mark.requirement("LEDG-6-03")
def test_ten_seconds_without_a_copy_stop_delivery_until_it_comes() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 10))
    pair.answers = False
    pair.run(flow, 199)
    assert pair.take(SOURCE, SupplyWithheld) == []
    assert pair.run(flow, 3) == 0
    (alert,) = pair.take(SINK, Alerted)
    assert alert.refusal == Refusal(Reason.RECEIPT_MISSING, 10, 10)
    assert pair.one(SOURCE, SupplyWithheld).refusal == alert.refusal
    assert pair.source.credit_left_uj(flow) == 0
    pair.answers = True
    pair.exchange()
    assert pair.source.credit_left_uj(flow) > 0
    assert pair.run(flow, 5) == 5
    assert [one.page for one in pair.books.facts] == [0, 1]


@pytest.mark.requirement("LEDG-6-03")
def test_sixty_seconds_more_close_the_flow() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 10))
    pair.answers = False
    pair.run(flow, 100)
    pair.advance(69.8)
    assert pair.source.status(flow).state == "ENERGISED"
    pair.advance(0.2)
    assert pair.source.status(flow).state == "FIN_SENT"
    closing = pair.one(SINK, FlowClosing)
    assert closing.refusal == Refusal(Reason.RECEIPT_MISSING, 70, 70)
    pair.advance(5)
    for side in (SINK, SOURCE):
        closed = pair.one(side, FlowClosed)
        assert closed.refusal == closing.refusal
        assert closed.signed_uj == 0
    assert pair.source.flows == ()


@pytest.mark.requirement("LEDG-6-03")
def test_what_is_not_signed_is_bounded_by_a_page_and_ten_seconds() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 10))
    pair.answers = False
    while pair.source.may_propose(flow):
        pair.deliver(flow)
        pair.advance(0.1)
    pair.advance(5)
    assert pair.one(SOURCE, FlowClosed).acked_uj == 200 * 1_200_000
    assert pair.sink.flows == ()


@pytest.mark.requirement("LEDG-6-02")
def test_a_disputed_page_is_alerted_and_not_signed() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 10))
    pair.answers = False
    pair.run(flow, 101)
    page = pair.one(SINK, PageReceived)
    pair.sink.dispute(flow, LIE, now=pair.now)
    with pytest.raises(LocalProtocolError):
        pair.sink.dispute(flow, LIE, now=pair.now)
    with pytest.raises(LocalProtocolError):
        pair.sink.countersign(flow, page.octets, now=pair.now)
    pair.exchange()
    disputed = pair.one(SOURCE, PageDisputed)
    assert (disputed.octets, disputed.refusal) == (page.octets, LIE)
    pair.advance(10)
    assert pair.one(SOURCE, SupplyWithheld).refusal.code == Reason.RECEIPT_MISSING
    pair.advance(60)
    # nobody waits for a page that will not be signed
    assert pair.one(SOURCE, FlowClosed).refusal == Refusal(Reason.RECEIPT_MISSING, 70, 70)
    assert pair.one(SINK, FlowClosed).signed_uj == 0


@pytest.mark.requirement("LEDG-6-02")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_a_dispute_of_the_last_page_ends_the_flow(side: int) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.answers = False
    pair.run(flow, 5)
    pair.ends[side].close_flow(flow, now=pair.now)
    pair.exchange()
    assert pair.ends[1 - side].status(flow).state == "SETTLING"
    pair.sink.dispute(flow, LIE, now=pair.now)
    pair.exchange()
    assert pair.one(SOURCE, FlowClosed).signed_uj == 0
    assert pair.one(SINK, FlowClosed).refusal == Refusal(Reason.NORMAL)


@pytest.mark.requirement("LEDG-6-02")
def test_pages_after_a_dispute_are_nothing() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.answers = False
    pair.run(flow, 1)
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    pair.exchange()
    pair.sink.dispute(flow, LIE, now=pair.now)
    pair.take(SINK, PageReceived)
    pair.inject(SINK, receipt(flow, bytes(380)))
    assert pair.take(SINK, PageReceived) == []
    assert pair.sink.status(flow).state == "ENERGISED"


# --- endings -------------------------------------------------------------------------------------


@pytest.mark.requirement("PTCP-13-01")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_fin_is_answered_after_t_drain_without_the_signature(side: int) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.answers = False
    pair.run(flow, 5)
    pair.ends[side].close_flow(flow, now=pair.now)
    pair.exchange()
    pair.advance(4.9)
    assert pair.ends[1 - side].status(flow).state == "SETTLING"
    assert pair.ends[side].status(flow).state == "FIN_SENT"
    pair.advance(0.1)
    for end in (SINK, SOURCE):
        closed = pair.one(end, FlowClosed)
        assert closed.refusal == Refusal(Reason.NORMAL)
        assert (closed.signed_uj, closed.acked_uj) == (0, 6_000_000)


@pytest.mark.requirement("PTCP-13-01")
def test_a_side_that_never_answers_fin_is_reset_in_the_end() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    pair.source.close_flow(flow, now=pair.now)
    pair.source.data_to_send()
    pair.now += 10 * NS_PER_S
    pair.source.handle_timer(pair.now)
    pair.collect()
    closed = pair.one(SOURCE, FlowClosed)
    assert closed.refusal == Refusal(Reason.TIMEOUT, 10_000, 10_000)


@pytest.mark.requirement("PTCP-13-01")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_the_last_page_waits_for_the_copy_of_the_page_before(side: int) -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.answers = False
    pair.run(flow, 12)
    pair.ends[side].close_flow(flow, now=pair.now)
    pair.exchange()
    assert len(pair.said(SOURCE, Receipt)) == 1
    pair.answers = True
    pair.exchange()
    assert [one.final for one in pair.books.facts] == [False, True]
    assert pair.one(SOURCE, FlowClosed).signed_uj == 14_400_000
    assert pair.one(SINK, FlowClosed).signed_uj == 14_400_000


@pytest.mark.requirement("PTCP-13-01")
def test_a_signature_that_is_there_when_fin_comes_needs_no_wait() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 2)
    pair.source.close_flow(flow, now=pair.now)
    octets = pair.source.data_to_send()
    page, fin = octets[:400], octets[400:]
    pair.inject(SINK, page)
    assert pair.sink.status(flow).signed_uj == 2_400_000
    pair.inject(SINK, fin)
    assert pair.take(SINK, FlowClosing) == []
    assert pair.one(SINK, FlowClosed).signed_uj == 2_400_000


@pytest.mark.requirement("PTCP-13-01")
@pytest.mark.parametrize("answers", [True, False])
def test_fins_that_cross_end_with_one_last_page(answers: bool) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 2)
    pair.answers = answers
    pair.source.close_flow(flow, now=pair.now)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    pair.advance(5)
    assert pair.one(SOURCE, FlowClosed).signed_uj == 2_400_000 * answers
    assert pair.one(SINK, FlowClosed).signed_uj == 2_400_000 * answers
    assert len(pair.said(SOURCE, Receipt)) == 1


@pytest.mark.requirement("PTCP-8-02", "LEDG-6-12")
def test_after_a_trip_of_the_sink_the_last_page_says_what_it_verified() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    blocks = []
    for _ in range(3):
        blocks.append(pair.block(flow, 100))
        pair.counters[flow] += 100
    assert pair.source.send_samples(flow, blocks, now=pair.now) == 3
    pair.sink.trip(flow, WHY, now=pair.now)
    pair.exchange()
    (facts,) = pair.books.facts
    assert (facts.final, facts.truncated) == (True, True)
    assert (facts.end_uj, facts.samples) == (6_000_000, 800)
    assert pair.one(SOURCE, FlowTripped).by_peer
    closed = pair.one(SOURCE, FlowClosed)
    assert (closed.esn_uj, closed.acked_uj, closed.signed_uj) == (9_600_000, 6_000_000, 6_000_000)
    assert pair.one(SINK, FlowClosed).heat_uj == 3_600_000


@pytest.mark.requirement("PTCP-8-02", "LEDG-6-12")
@pytest.mark.parametrize("by", ["shed", "close", "trip"])
def test_a_page_that_crosses_the_trip_of_the_sink_is_taken_back(by: str) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    pair.source.send_samples(flow, [pair.block(flow, 100)], now=pair.now)
    if by == "shed":
        lower = profile("12V/0.5A")
        pair.source.shed(flow, lower, refusal=WHY, urgent=True, now=pair.now)
    elif by == "close":
        pair.source.close_flow(flow, now=pair.now)
    else:
        pair.source.trip(flow, WHY, now=pair.now)
    pair.sink.trip(flow, WHY, now=pair.now)
    pair.exchange()
    pages = pair.said(SOURCE, Receipt)
    assert len(pages) == 2
    (facts,) = pair.books.facts
    assert (facts.page, facts.final, facts.truncated) == (0, True, True)
    assert (facts.end_uj, facts.samples) == (6_000_000, 0)
    assert pair.one(SOURCE, FlowClosed).signed_uj == 6_000_000
    assert pair.one(SINK, FlowClosed).signed_uj == 6_000_000


@pytest.mark.requirement("PTCP-8-02")
def test_a_page_of_what_was_verified_before_the_trip_stays() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 9)
    pair.now += 100_000_000
    pair.source.handle_timer(pair.now)
    pair.sink.trip(flow, WHY, now=pair.now)
    pair.exchange()
    assert [(one.final, one.truncated) for one in pair.books.facts] == [
        (False, False), (True, True)
    ]  # fmt: skip
    assert pair.one(SOURCE, FlowClosed).signed_uj == 10_800_000


@pytest.mark.requirement("PTCP-8-02")
def test_after_a_trip_of_the_source_the_sink_signs_the_last_page() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    pair.source.trip(flow, WHY, now=pair.now)
    pair.exchange()
    (facts,) = pair.books.facts
    assert (facts.final, facts.truncated, facts.end_uj) == (True, False, 6_000_000)
    assert pair.one(SINK, FlowTripped).by_peer
    assert pair.one(SINK, FlowClosed).signed_uj == 6_000_000


@pytest.mark.requirement("PTCP-8-02")
@pytest.mark.parametrize("answers", [True, False])
def test_a_trip_after_fin_closes_all_the_same(answers: bool) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    pair.answers = answers
    pair.source.send_samples(flow, [pair.block(flow, 100)], now=pair.now)
    pair.sink.close_flow(flow, now=pair.now)
    fin = pair.sink.data_to_send()
    pair.sink.trip(flow, WHY, now=pair.now)
    pair.source.receive_data(fin, pair.now)
    pair.exchange()
    pair.advance(5)
    assert pair.one(SOURCE, FlowClosed).signed_uj == 6_000_000 * answers
    assert pair.one(SINK, FlowClosed).signed_uj == 6_000_000 * answers


@pytest.mark.requirement("PTCP-8-01", "LEDG-6-12")
def test_a_block_that_trips_is_heat_and_in_the_digest() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 2)
    block = pair.block(flow, 100)
    pair.source.send_samples(flow, [block], now=pair.now)
    pair.source.data_to_send()
    pair.inject(SINK, data_header(flow, 2_400_001, len(block), False) + block)
    assert pair.one(SOURCE, FlowTripped).refusal.code == Reason.METER_MISMATCH
    (facts,) = pair.books.facts
    assert (facts.end_uj, facts.samples, facts.truncated) == (2_400_000, 300, True)
    assert pair.one(SINK, FlowClosed).signed_uj == 2_400_000


@pytest.mark.requirement("LEDG-6-01")
def test_energy_that_is_delivered_ends_with_the_last_page() -> None:
    pair = MeteredPair()
    flow = pair.energise("12V/1A,energy=6J")
    assert pair.run(flow, 5) == 5
    (facts,) = pair.books.facts
    assert (facts.final, facts.end_uj) == (True, 6_000_000)
    assert pair.source.flows == ()


# --- what a peer may not do ----------------------------------------------------------------------


@pytest.mark.requirement("LEDG-6-10")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_a_page_on_a_flow_without_meter_is_reset_506(side: int) -> None:
    pair = Pair()
    flow = pair.energise()
    pair.inject(side, receipt(flow, bytes(380)))
    assert code_of(pair, side) == Reason.STATE
    assert code_of(pair, 1 - side) == Reason.STATE


@pytest.mark.requirement("LEDG-6-10")
def test_a_page_before_power_flows_is_reset_506() -> None:
    pair = MeteredPair()
    flow = pair.request(ask("12V/1A"), meter=meter_of(SINK))
    pair.inject(SINK, receipt(flow, bytes(380)))
    assert code_of(pair, SINK) == Reason.STATE


@pytest.mark.requirement("LEDG-6-11")
@pytest.mark.parametrize("place", [0, 44, 60, 251, 252, 315])
def test_a_page_that_the_source_did_not_sign_is_reset_403(place: int) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 2)
    pair.source.close_flow(flow, now=pair.now)
    octets = bytearray(pair.source.data_to_send())
    octets[20 + place] ^= 1
    pair.inject(SINK, bytes(octets))
    assert pair.one(SINK, FlowClosed).refusal == Refusal(Reason.RECEIPT_INVALID)
    assert pair.take(SINK, PageReceived) == []


@pytest.mark.requirement("LEDG-6-03")
@pytest.mark.parametrize("place", [0, 44, 60, 251, 252, 315, 316, 379])
def test_a_copy_that_is_not_what_was_sent_or_not_signed_is_reset_403(place: int) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.answers = False
    pair.run(flow, 2)
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    pair.exchange()
    pair.answer(pair.one(SINK, PageReceived))
    octets = bytearray(pair.sink.data_to_send())
    octets[20 + place] ^= 1
    pair.inject(SOURCE, bytes(octets))
    assert pair.one(SOURCE, FlowClosed).refusal == Refusal(Reason.RECEIPT_INVALID)
    assert pair.take(SOURCE, PageSigned) == []


@pytest.mark.requirement("LEDG-6-10")
def test_a_copy_that_comes_again_is_nothing_and_one_unasked_for_is_reset_506() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 21)
    first, last = pair.signed
    events = len(pair.events[SOURCE])
    for _ in range(1000):
        pair.source.receive_data(receipt(flow, last, 24_000_000), pair.now)
    pair.collect()
    assert len(pair.events[SOURCE]) == events
    assert pair.source.data_to_send() == b""
    pair.inject(SOURCE, receipt(flow, first, 24_000_000))
    assert code_of(pair, SOURCE) == Reason.STATE


@pytest.mark.requirement("LEDG-6-10")
def test_a_page_that_comes_again_is_nothing() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 9)
    pair.answers = False
    pair.run(flow, 2)
    (page,) = (one for one in pair.said(SOURCE, Receipt) if isinstance(one, Receipt))
    copy = receipt(flow, page.page)
    for _ in range(100):
        pair.sink.receive_data(copy, pair.now)
    pair.collect()
    pair.answer(pair.one(SINK, PageReceived))
    pair.exchange()
    for _ in range(100):
        pair.sink.receive_data(copy, pair.now)
    pair.exchange()
    assert pair.take(SINK, PageReceived) == []
    assert pair.run(flow, 1) == 1


@pytest.mark.requirement("LEDG-6-02")
def test_an_old_page_is_looked_at_and_not_signed() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 21)
    old = next(one.page for one in pair.said(SOURCE, Receipt) if isinstance(one, Receipt))
    pair.answers = False
    pair.inject(SINK, receipt(flow, old))
    event = pair.one(SINK, PageReceived)
    assert event.facts.page == 2
    assert pair.books.answer(event) is None
    assert pair.books.differences[0].startswith("page 0: page is 0, our meter says 2")


def source_page(pair: MeteredPair, number: int) -> bytes:
    """Return what the source could sign of a span in which nothing came."""
    last = pair.books.facts[-1]
    facts = replace(
        last,
        page=number,
        peer_key=SINK_KEY.public,
        samples=number,
        digest=bytes(32),
        start_uj=last.end_uj,
        previous=pair.signed[-1],
    )
    return pair.books.sign(facts)


@pytest.mark.requirement("LEDG-6-02")
def test_a_page_after_the_last_one_is_reset_506() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 1)
    pair.source.close_flow(flow, now=pair.now)
    octets = pair.source.data_to_send()
    pair.inject(SINK, octets[:400])
    assert pair.sink.status(flow).state == "ENERGISED"
    pair.signed = [one.page for one in pair.said(SINK, Receipt) if isinstance(one, Receipt)]
    pair.inject(SINK, receipt(flow, source_page(pair, 1)))
    assert code_of(pair, SINK) == Reason.STATE


@pytest.mark.requirement("LEDG-6-11")
def test_pages_wait_for_the_answer_to_the_one_before_and_not_without_end() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 11)
    pair.answers = False
    pair.run(flow, 10)
    waits = pair.one(SINK, PageReceived)
    for number in range(2, 2 + PAGES_WAITING_MAX):
        pair.inject(SINK, receipt(flow, source_page(pair, number)))
    assert pair.take(SINK, PageReceived) == []
    pair.answer(waits)
    pair.collect()
    follows = pair.one(SINK, PageReceived)
    (copy,) = segments(pair.sink.data_to_send())
    assert isinstance(copy, Receipt)
    assert (follows.facts.page, follows.facts.previous) == (2, copy.page)
    pair.sink.receive_data(receipt(flow, source_page(pair, 30)), pair.now)
    assert pair.sink.flows == (flow,)
    pair.sink.receive_data(receipt(flow, source_page(pair, 31)), pair.now)
    pair.collect()
    assert pair.one(SINK, FlowClosed).refusal == Refusal(
        Reason.LIMIT, PAGES_WAITING_MAX + 1, PAGES_WAITING_MAX, rule="pages"
    )


@pytest.mark.requirement("LEDG-6-11")
def test_so_many_pages_in_ten_seconds_and_one_more() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 2)
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    pair.exchange()
    pair.answers = False
    for number in range(1, PAGES_MAX + 1):
        assert pair.sink.flows == (flow,)
        pair.sink.receive_data(receipt(flow, source_page(pair, number)), pair.now)
        for event in pair.sink.take_events():
            if isinstance(event, PageReceived):
                copy = event.octets[:316] + bytes(64)
                pair.sink.countersign(flow, copy, now=pair.now)
    assert pair.sink.flows == ()


# --- the verbs -----------------------------------------------------------------------------------


def test_misuse_of_the_verbs_changes_nothing() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.answers = False
    pair.run(flow, 1)
    with pytest.raises(LocalProtocolError, match="not the page"):
        pair.sink.countersign(flow, bytes(380), now=pair.now)
    with pytest.raises(LocalProtocolError, match="no page"):
        pair.sink.dispute(flow, LIE, now=pair.now)
    with pytest.raises(LocalProtocolError, match="not ours to consume"):
        pair.source.countersign(flow, bytes(380), now=pair.now)
    with pytest.raises(LocalProtocolError, match="not ours to consume"):
        pair.source.dispute(flow, LIE, now=pair.now)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    page = pair.one(SINK, PageReceived)
    for octets in (page.octets[:379], page.octets + b"\0", bytes(380)):
        with pytest.raises(LocalProtocolError, match="not the page"):
            pair.sink.countersign(flow, octets, now=pair.now)
    assert pair.sink.data_to_send() == b""
    with pytest.raises(LocalProtocolError, match="meter and the ticket"):
        pair.sink.open_flow([ask("12V/1A")], pages=MARK, now=pair.now)
    plain = Pair()
    other = plain.energise()
    with pytest.raises(LocalProtocolError, match="not the page"):
        plain.sink.countersign(other, bytes(380), now=plain.now)


@pytest.mark.requirement("PTCP-11-01")
def test_each_flow_has_its_own_pages() -> None:
    pair = MeteredPair()
    one = pair.energise(ours=meter_of(SINK, 1))
    two = pair.energise("230V/1A@50Hz", ours=meter_of(SINK, 2))
    for _ in range(25):
        pair.advance(0.1)
        pair.deliver(one)
        pair.deliver(two, 400)
    pair.source.trip(two, WHY, now=pair.now)
    pair.exchange()
    pair.run(one, 10)
    pages = [(fact.flow, fact.page) for fact in pair.books.facts]
    assert pages == [(1, 0), (1, 1), (3, 0), (3, 1), (1, 2)]
    assert len({fact.transcript for fact in pair.books.facts}) == 2


# --- over a lost path ----------------------------------------------------------------------------


class Lost:
    """A flow whose path was cut: what its two ends keep."""

    def __init__(self, pair: MeteredPair) -> None:
        self.ticket = pair.take(SINK, TicketReceived)[-1].ticket
        flow = pair.sink.flows[0]
        status = pair.sink.status(flow)
        assert status.profile is not None
        self.before: PowerProfile = status.profile
        pair.cut()
        cut = pair.one(SINK, FlowCut)
        self.esn_uj = cut.esn_uj
        self.mark = cut.pages
        self.pair = pair

    def show(self) -> tuple[MeteredPair, int]:
        """Show the ticket on another path, and no more."""
        after = MeteredPair(books=self.pair.books, office=self.pair.office, now=self.pair.now)
        flow = after.request(
            Ask(self.before.with_type(ProfileType.REQUEST)),
            ticket=self.ticket,
            esn_uj=self.esn_uj,
            before=self.before,
            meter=meter_of(SINK),
            pages=self.mark,
        )
        return after, flow

    def resume(self, meter: Meter | None = None) -> tuple[MeteredPair, int]:
        return self.pair.resume(self.ticket, self.esn_uj, self.mark, self.before, meter=meter)


def finish(pair: MeteredPair, flow: int) -> FlowClosed:
    """Close a flow that both ends agree upon."""
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    closed = pair.one(SOURCE, FlowClosed)
    assert closed.signed_uj == closed.acked_uj == pair.one(SINK, FlowClosed).signed_uj
    pages = [(fact.page, fact.start_uj, fact.end_uj) for fact in pair.books.facts]
    assert [page for page, _, _ in pages] == list(range(len(pages)))
    assert [0, *(end for _, _, end in pages)] == [*(start for _, start, _ in pages), pages[-1][2]]
    assert len({fact.transcript for fact in pair.books.facts}) == 1
    return closed


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-12")
def test_pages_go_on_over_a_resume() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 2), tariff=DAY)
    pair.run(flow, 25)
    pair.source.send_samples(flow, [pair.block(flow, 100)], now=pair.now)
    lost = Lost(pair)
    after, flow = lost.resume()
    ready = after.one(SINK, PowerReady)
    assert (ready.resumed, ready.tariff) == (True, DAY)
    assert after.run(flow, 20) == 20
    closed = finish(after, flow)
    assert closed.signed_uj == 45 * 1_200_000
    assert [fact.resumed for fact in after.books.facts] == [False, True, False]
    assert [fact.samples for fact in after.books.facts] == [1_900, 1_400, 600]
    pair.collect()
    assert pair.one(SOURCE, FlowClosed).signed_uj == 22_800_000


@pytest.mark.requirement("LEDG-6-01")
@pytest.mark.parametrize("when", ["before READY", "after READY"])
def test_a_page_that_was_not_answered_is_answered_on_the_new_path(when: str) -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.answers = False
    pair.run(flow, 15)
    event = pair.one(SINK, PageReceived)
    lost = Lost(pair)
    assert lost.mark is not None
    assert lost.mark.unanswered == event.octets
    copy = pair.books.answer(event)
    assert copy is not None
    if when == "after READY":
        after, flow = lost.resume()
        assert after.take(SINK, PageReceived) == []
        after.sink.countersign(flow, copy, now=after.now)
        after.exchange()
    else:
        after = MeteredPair(books=pair.books, office=pair.office, now=pair.now)
        flow = after.sink.open_flow(
            [Ask(lost.before.with_type(ProfileType.REQUEST))],
            ticket=lost.ticket,
            esn_uj=lost.esn_uj,
            before=lost.before,
            meter=meter_of(SINK),
            pages=lost.mark,
            now=after.now,
        )
        with pytest.raises(LocalProtocolError, match="not the page"):
            after.sink.countersign(flow, bytes(380), now=after.now)
        after.sink.countersign(flow, copy, now=after.now)
        after.exchange()
        after.source.ready(flow, now=after.now)
        after.exchange()
    assert after.signed == [copy]
    after.run(flow, 5)
    assert finish(after, flow).signed_uj == 24_000_000


@pytest.mark.requirement("LEDG-6-12")
def test_a_copy_that_was_lost_with_the_path_comes_again() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.answers = False
    pair.run(flow, 15)
    pair.answer(pair.one(SINK, PageReceived))
    after, flow = Lost(pair).resume()
    assert len(after.signed) == 1
    after.run(flow, 5)
    assert finish(after, flow).signed_uj == 24_000_000


@pytest.mark.requirement("LEDG-6-12")
@pytest.mark.parametrize("idle", [False, True])
def test_a_page_that_was_lost_with_the_path_comes_again(idle: bool) -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 9)
    if idle:
        # a block without energy is lost too: nobody can tell from the ESN
        block = encode_block(900, np.array([[12_000, 0]] * 50))
        assert pair.source.send_samples(flow, [block], now=pair.now) == 1
    pair.now += 100_000_000
    pair.source.handle_timer(pair.now)
    after, flow = Lost(pair).resume()
    (facts,) = after.books.facts
    assert (facts.samples, facts.end_uj) == (950 if idle else 900, 10_800_000)
    assert not facts.resumed
    after.run(flow, 5)
    assert finish(after, flow).signed_uj == 16_800_000


@pytest.mark.requirement("PTCP-10-03", "LEDG-6-12")
def test_a_page_that_says_more_than_the_sink_verified_is_taken_back() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 9)
    pair.source.send_samples(flow, [pair.block(flow, 100)], now=pair.now)
    pair.now += 100_000_000
    pair.source.handle_timer(pair.now)
    after, flow = Lost(pair).resume()
    (facts,) = after.books.facts
    assert (facts.page, facts.samples, facts.end_uj, facts.resumed) == (0, 0, 10_800_000, True)
    after.run(flow, 5)
    assert finish(after, flow).signed_uj == 16_800_000


@pytest.mark.requirement("LEDG-6-01")
@pytest.mark.parametrize("lost_blocks", [0, 1])
def test_a_change_of_contract_that_was_lost_with_the_path_ends_a_page(lost_blocks: int) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    for _ in range(lost_blocks):
        pair.source.send_samples(flow, [pair.block(flow, 100)], now=pair.now)
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, urgent=True, now=pair.now)
    after, flow = Lost(pair).resume()
    assert after.sink.status(flow).contract == 3
    after.run(flow, 5)
    assert finish(after, flow).signed_uj == 9_000_000
    assert [fact.contract for fact in after.books.facts] == [1, 3]


@pytest.mark.requirement("LEDG-6-03")
def test_a_cut_does_not_give_a_page_more_time() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.answers = False
    pair.run(flow, 105)
    lost = Lost(pair)
    pair.now += 5 * NS_PER_S
    after = MeteredPair(books=pair.books, office=pair.office, now=pair.now)
    after.answers = False
    flow = after.request(
        Ask(lost.before.with_type(ProfileType.REQUEST)),
        ticket=lost.ticket,
        esn_uj=lost.esn_uj,
        before=lost.before,
        meter=meter_of(SINK),
        pages=lost.mark,
    )
    after.source.ready(flow, now=after.now)
    after.exchange()
    after.advance(0.1)
    assert after.one(SOURCE, SupplyWithheld).refusal.value == 14
    assert after.source.credit_left_uj(flow) == 0


@pytest.mark.requirement("LEDG-6-02")
def test_a_dispute_outlives_the_path() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.answers = False
    pair.run(flow, 15)
    pair.take(SINK, PageReceived)
    pair.sink.dispute(flow, LIE, now=pair.now)
    pair.exchange()
    after, flow = Lost(pair).resume()
    assert after.said(SOURCE, Receipt) == []
    assert after.books.facts == []
    after.sink.close_flow(flow, now=after.now)
    after.exchange()
    assert after.one(SOURCE, FlowClosed).signed_uj == 0


@pytest.mark.requirement("PTCP-10-04")
@pytest.mark.parametrize("meter", [None, Meter(60, 0, bytes(32))])
def test_a_ticket_with_another_meter_is_a_plain_syn(meter: Meter | None) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    lost = Lost(pair)
    after = MeteredPair(books=pair.books, office=pair.office, now=pair.now)
    flow = after.request(
        Ask(lost.before.with_type(ProfileType.REQUEST)),
        ticket=lost.ticket,
        esn_uj=lost.esn_uj,
        before=lost.before,
        meter=meter,
    )
    (alert,) = after.take(SINK, Alerted)
    assert alert.refusal == Refusal(Reason.TICKET_INVALID)
    after.source.grant(flow, profile("12V/1A"), meter=meter_of(SOURCE), now=after.now)
    after.exchange()
    after.source.ready(flow, now=after.now)
    after.exchange()
    status = after.sink.status(flow)
    assert (status.esn_uj, status.signed_uj) == (0, None if meter is None else 0)


@pytest.mark.requirement("PTCP-10-04")
def test_a_meter_where_there_was_none_is_a_plain_syn() -> None:
    pair = MeteredPair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    lost = Lost(pair)
    assert lost.mark is None
    after, _ = lost.resume()
    (alert,) = after.take(SINK, Alerted)
    assert alert.refusal == Refusal(Reason.TICKET_INVALID)


@pytest.mark.requirement("PTCP-10-03")
@pytest.mark.parametrize("theirs", [None, Meter(60, 0, bytes(32))])
def test_a_source_that_comes_back_with_another_meter_is_reset_403(theirs: Meter | None) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    lost = Lost(pair)
    after = MeteredPair(books=pair.books, office=pair.office, now=pair.now)
    flow = after.sink.open_flow(
        [Ask(lost.before.with_type(ProfileType.REQUEST))],
        ticket=lost.ticket,
        esn_uj=lost.esn_uj,
        before=lost.before,
        meter=meter_of(SINK),
        pages=lost.mark,
        now=after.now,
    )
    after.pump(SINK)
    (answer,) = segments(after.source.data_to_send())
    assert isinstance(answer, Control)
    changed = replace(answer, options=replace(answer.options, meter=theirs))
    after.sink.receive_data(encode_segment(changed), after.now)
    after.collect()
    closed = after.one(SINK, FlowClosed)
    assert closed.refusal == Refusal(Reason.RECEIPT_INVALID, rule="another meter")
    assert closed.signed_uj == 0


@pytest.mark.requirement("PTCP-10-03")
def test_a_resume_that_comes_to_nothing_still_says_what_was_signed() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 15)
    lost = Lost(pair)
    after, flow = lost.show()
    after.cut()
    signed_uj = 10_800_000
    assert after.one(SOURCE, FlowClosed).signed_uj == signed_uj
    assert after.one(SINK, FlowClosed).signed_uj == signed_uj


@pytest.mark.requirement("PTCP-13-01")
@pytest.mark.parametrize("answers", [False, True])
def test_a_path_that_is_lost_while_the_last_page_is_signed_ends_the_flow(answers: bool) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 5)
    pair.answers = False
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    if answers:
        pair.answer(pair.one(SINK, PageReceived))
    pair.cut()
    assert pair.one(SOURCE, FlowClosed).signed_uj == 0
    assert pair.one(SINK, FlowClosed).signed_uj == 6_000_000 * answers


@pytest.mark.requirement("LEDG-6-01")
def test_terms_that_come_while_the_sink_closes_are_those_of_the_last_page() -> None:
    pair = MeteredPair()
    flow = pair.energise(tariff=DAY)
    pair.source.renegotiate(flow, [ask("12V/1A")], tariff=NIGHT, now=pair.now)
    pair.exchange()
    pair.sink.answer(flow, accept=True, now=pair.now)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    (facts,) = pair.books.facts
    assert (facts.contract, facts.tariff, facts.final) == (3, NIGHT, True)
    plain = Pair()
    flow = plain.energise("12V/1A")
    plain.source.shed(flow, profile("12V/0.5A"), refusal=WHY, urgent=True, now=plain.now)
    plain.sink.close_flow(flow, now=plain.now)
    plain.exchange()
    assert plain.one(SINK, FlowClosed).refusal == Refusal(Reason.NORMAL)


@pytest.mark.requirement("PTCP-8-02")
def test_a_page_taken_back_at_a_trip_keeps_the_terms_it_had() -> None:
    pair = MeteredPair()
    flow = pair.energise(tariff=DAY)
    pair.source.send_samples(flow, [pair.block(flow, 100)], now=pair.now)
    lower = profile("12V/0.5A")
    pair.source.shed(flow, lower, refusal=WHY, urgent=True, now=pair.now)
    pair.sink.trip(flow, WHY, now=pair.now)
    pair.exchange()
    (facts,) = pair.books.facts
    assert (facts.contract, facts.end_uj, facts.truncated) == (1, 0, True)
    assert pair.one(SOURCE, FlowClosed).signed_uj == 0


@pytest.mark.requirement("LEDG-6-12")
def test_a_path_that_is_lost_again_before_ready_loses_no_receipt() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 15)
    lost = Lost(pair)
    after, flow = lost.show()
    assert after.sink.status(flow).signed_uj == 10_800_000
    after.cut()
    assert after.one(SINK, FlowCut).pages == lost.mark


@pytest.mark.requirement("LEDG-6-03")
@pytest.mark.parametrize("interval_s", [11, 13])
def test_what_else_is_due_meanwhile_moves_no_deadline_of_a_page(interval_s: int) -> None:
    """A ticket is due 60 s after READY: 5 s after page 5 of 11 s, 8 s after page 4 of 13 s."""
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, interval_s))
    late_s = interval_s * (60 // interval_s)
    pair.run(flow, 10 * late_s - 5)
    pair.answers = False
    pair.run(flow, 100 + 4)
    assert pair.take(SOURCE, SupplyWithheld) == []
    pair.run(flow, 2)
    assert pair.one(SOURCE, SupplyWithheld).refusal.value == 10


@pytest.mark.requirement("LEDG-6-03")
def test_a_ticket_goes_while_delivery_is_withheld() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 45))
    pair.answers = False
    pair.run(flow, 590)
    assert pair.one(SOURCE, SupplyWithheld).refusal.value == 10
    tickets = len(pair.take(SINK, TicketReceived))
    pair.advance(2)
    assert len(pair.take(SINK, TicketReceived)) == tickets
    assert pair.source.status(flow).state == "ENERGISED"


@pytest.mark.requirement("LEDG-6-02")
@pytest.mark.parametrize("refusal", [LIE, WHY, None])
def test_an_alert_without_a_page_disputes_nothing(refusal: Refusal | None) -> None:
    pair = MeteredPair()
    flow = pair.energise()
    alert = Alert(flow, 0, 2, Options(reason=refusal))
    pair.inject(SOURCE, encode_segment(alert))
    assert pair.one(SOURCE, Alerted).refusal == refusal
    assert pair.take(SOURCE, PageDisputed) == []


def test_what_was_measured_is_not_marked_as_synthesised() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    block = encode_block(0, np.array([[12_000, 500_000]] * 100), sync=1)
    assert pair.source.send_samples(flow, [block], now=pair.now) == 1
    pair.exchange()
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    (facts,) = pair.books.facts
    assert (facts.samples, facts.sim) == (100, False)


def test_a_flow_without_meter_keeps_nothing_of_its_blocks() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,energy=2J", want_samples=True)
    block = encode_block(0, np.array([[12_000, 500_000]] * 100))
    assert pair.source.send_samples(flow, [block], now=pair.now) == 1
    pair.exchange()
    (report,) = pair.take(SINK, SamplesReceived)
    assert report.samples == block[8:]
    late = encode_block(100, np.array([[12_000, 500_000]] * 10))
    pair.source.send_samples(flow, [late], now=pair.now)
    pair.sink.trip(flow, WHY, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, FlowClosed).heat_uj == 60_000
    assert pair.one(SOURCE, FlowClosed).signed_uj is None


@pytest.mark.requirement("LEDG-6-11")
def test_a_ticket_that_is_due_makes_no_page() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 70), theirs=meter_of(SOURCE, 70))
    pair.run(flow, 650)
    assert pair.books.facts == []
    pair.run(flow, 60)
    assert [fact.page for fact in pair.books.facts] == [0]


@pytest.mark.requirement("LEDG-7-06", "LEDG-6-11")
def test_the_next_page_waits_until_the_copy_of_the_one_before_is_on_the_disk() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.keeps = False
    pair.run(flow, 35)
    (copy,) = pair.take(SOURCE, PageSigned)
    assert len(pair.books.facts) == 1
    signed_uj = pair.source.status(flow).signed_uj
    assert signed_uj == pair.books.facts[0].end_uj
    pair.source.keep_page(flow, copy.octets, now=pair.now)
    pair.exchange()
    assert len(pair.books.facts) == 2
    assert pair.books.facts[1].start_uj == signed_uj
    # what is said again, or of another page, is no news
    pair.source.keep_page(flow, copy.octets, now=pair.now)
    pair.source.keep_page(flow, b"", now=pair.now)
    pair.exchange()
    assert len(pair.books.facts) == 2


@pytest.mark.requirement("LEDG-7-06", "PTCP-13-01")
def test_a_goodbye_of_the_sink_is_answered_when_the_last_copy_is_on_the_disk() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 3)
    pair.keeps = False
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    (copy,) = pair.take(SOURCE, PageSigned)
    assert pair.take(SINK, FlowClosed) == []
    pair.source.keep_page(flow, copy.octets, now=pair.now)
    pair.exchange()
    (closed,) = pair.take(SINK, FlowClosed)
    assert closed.signed_uj == closed.esn_uj


@pytest.mark.requirement("LEDG-6-03", "LEDG-7-06")
def test_a_disk_that_takes_too_long_stops_delivery_as_a_missing_copy_does() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.keeps = False
    pair.run(flow, 130)
    assert len(pair.take(SOURCE, SupplyWithheld)) == 1
    assert pair.source.credit_left_uj(flow) == 0
    pair.keeps = True
    pair.exchange()
    assert pair.source.credit_left_uj(flow) > 0


@pytest.mark.requirement("LEDG-6-02", "LEDG-7-06")
def test_a_sink_cannot_dispute_what_it_has_signed() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.keeps = False
    pair.run(flow, 15)
    pair.source.receive_data(
        encode_segment(Alert(flow, 0, 2, Options(reason=Refusal(Reason.RECEIPT_INVALID, 1, 0)))),
        pair.now,
    )
    assert pair.take(SOURCE, PageDisputed) == []


@pytest.mark.requirement("LEDG-6-12")
def test_what_began_before_the_first_block_of_a_new_path_is_marked_as_resumed() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.run(flow, 9)
    again, flow = Lost(pair).resume()
    assert again.books.facts == []
    # due before any block came on this path, and lost with it
    again.now += 100_000_000
    again.source.handle_timer(again.now)
    after, flow = Lost(again).resume()
    assert len(after.books.facts) == 1
    after.run(flow, 15)
    finish(after, flow)
    facts = after.books.facts
    assert [fact.samples for fact in facts] == [0, 900, 600]
    assert [fact.resumed for fact in facts] == [True, True, False]
