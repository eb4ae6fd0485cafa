"""A relay between a device and its provider: what passes, what is answered, how flows are ended."""

from collections.abc import Sequence

import pytest

from powertcp.potcp.events import (
    FlowClosed,
    FlowCut,
    FlowRefused,
    PowerOffered,
    PowerRequested,
    RenegotiationAnswered,
    RenegotiationRequested,
)
from powertcp.profile import ProfileType
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.relay import (
    REFUSALS_MAX,
    CopyHeld,
    Denial,
    Denied,
    FlowLeft,
    Seen,
    UpstreamWanted,
)
from powertcp.reclaim.track import End, Phase, What
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.vppn.record import MAX_PLAIN
from powertcp.wire.frames import encode_segment, pack_segment
from powertcp.wire.options import Feed, Options
from powertcp.wire.segments import (
    Answer,
    Control,
    CookieSegment,
    FeedSegment,
    Receipt,
    Segment,
)
from tests.conversation import SINK, SOURCE, ask, profile, segments
from tests.middle import MiddlePair

OVER = Denial(Refusal(Reason.WATT_LIMIT, 66_000, 65_000, rule="watts:1"), profile("12V/5A"))
QUOTA = Refusal(Reason.ENERGY_QUOTA, 1_000, 1_000, 5_000)


@pytest.mark.requirement("VPPN-6-01")
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_segments_pass_octet_for_octet_and_receipts_agree(size: int) -> None:
    def cut(octets: bytes) -> Sequence[bytes]:
        return [octets[at : at + size] for at in range(0, len(octets), size)]

    pair = MiddlePair()
    pair.chunk = cut
    flow = pair.energise("12V/1A")
    tracked = pair.flow
    pair.run(flow, 10)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    for side in (SINK, SOURCE):
        said, told = pair.octets(side)
        assert said == told
    (page,) = pair.signed
    assert page[4:36] == tracked.transcript
    assert tracked.verified_uj == 12_000_000
    assert [event.page for event in pair.all(CopyHeld)] == [page]
    assert pair.all(UpstreamWanted) == [UpstreamWanted(via=None, resumes=False)]
    (left,) = pair.all(FlowLeft)
    assert (left.flow, left.is_cut) == (tracked, False)
    assert pair.relay.is_idle


@pytest.mark.requirement("VPPN-6-02")
def test_a_syn_above_the_limits_is_answered_and_never_passed_on() -> None:
    pair = MiddlePair()
    pair.denial = OVER
    pair.request(ask("12V/5.5A"))
    refused = pair.one(SINK, FlowRefused)
    assert (refused.refusal.code, refused.refusal.value) == (Reason.WATT_LIMIT, 66_000)
    assert refused.best is not None
    assert (refused.best.type, refused.best.current_ma) == (ProfileType.REFUSE, 5000)
    assert pair.passed[SOURCE] == []
    assert pair.take(SOURCE, PowerRequested) == []
    (denied,) = pair.all(Denied)
    assert denied.denial == OVER
    assert pair.all(UpstreamWanted) == []
    assert pair.relay.is_idle
    # what is within them passes on the same connection
    pair.denial = None
    pair.request(ask("12V/1A"))
    assert pair.one(SOURCE, PowerRequested).asks[0].desired.current_ma == 1000


@pytest.mark.requirement("VPPN-6-02")
@pytest.mark.parametrize("is_sent_back", [False, True])
def test_a_syn_that_comes_again_with_another_wish_leaves_no_flow(is_sent_back: bool) -> None:
    pair = MiddlePair()
    leg = pair.relay.device

    def request(text: str, cookie: bytes | None = None) -> None:
        options = Options(profiles=(profile(text),), cookie=cookie)
        leg.receive_data(encode_segment(Control(1, Flag.SYN, 0, options)), pair.now)

    request("12V/1A")
    tracked = pair.flow
    if is_sent_back:
        cookie = CookieSegment(1, 0, b"c" * 32)
        pair.relay.provider.receive_data(encode_segment(cookie), pair.now)
    pair.denial = OVER
    leg.data_to_send()
    request("12V/20A", b"c" * 32)
    (reset,) = segments(leg.data_to_send())
    assert isinstance(reset, Control)
    assert reset.options.reason is not None
    pair.hear()
    # it is the same SYN only if the provider asked for it again
    assert reset.options.reason.code == (Reason.WATT_LIMIT if is_sent_back else Reason.STATE)
    assert len(pair.all(Denied)) == is_sent_back
    assert [left.flow for left in pair.all(FlowLeft)] == [tracked]
    assert pair.relay.is_idle


@pytest.mark.requirement("VPPN-6-02")
def test_a_reneg_above_the_limits_is_rejected_here() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    before = pair.flow.asks
    pair.denial = OVER
    pair.sink.renegotiate(flow, [ask("12V/5.5A")], now=pair.now)
    pair.exchange()
    answered = pair.one(SINK, RenegotiationAnswered)
    assert not answered.accepted
    assert pair.take(SOURCE, RenegotiationRequested) == []
    assert pair.flow.asks == before
    pair.denial = None
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    pair.one(SOURCE, RenegotiationRequested)
    pair.source.answer(
        flow, accept=True, profile=profile("12V/2A", ProfileType.GRANT), now=pair.now
    )
    pair.exchange()
    assert pair.flow.profile is not None
    assert pair.flow.profile.current_ma == 2000


@pytest.mark.requirement("VPPN-6-02")
def test_a_wish_that_the_provider_rejects_is_held_no_more() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    before = pair.flow.asks
    pair.sink.renegotiate(flow, [ask("12V/5A")], now=pair.now)
    pair.exchange()
    assert pair.flow.asks[0].desired.power_mw == 60_000
    # what the device says to a wish of the provider says nothing of its own
    own = encode_segment(Answer(flow, 0, accepted=False, options=Options(contract=9)))
    pair.relay.device.receive_data(own, pair.now)
    pair.relay.provider.data_to_send()
    assert pair.flow.asks[0].desired.power_mw == 60_000
    pair.source.answer(flow, accept=False, refusal=Refusal(Reason.BUDGET), now=pair.now)
    pair.exchange()
    assert pair.flow.asks == before
    # one that is accepted stays
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    terms = profile("12V/2A", ProfileType.GRANT)
    pair.source.answer(flow, accept=True, profile=terms, now=pair.now)
    pair.exchange()
    assert pair.flow.asks[0].desired.power_mw == 24_000


def offered(pair: MiddlePair, text: str) -> int:
    """Ask for 12 W, and be offered something else."""
    flow = pair.request(ask("12V/1A"))
    offers = [(profile(text, ProfileType.OFFER), None)]
    pair.source.counter(flow, offers, Refusal(Reason.BUDGET), now=pair.now)
    pair.exchange()
    return flow


@pytest.mark.requirement("VPPN-6-02")
def test_a_counter_offer_above_the_limits_that_is_taken_ends_the_flow_on_both_sides() -> None:
    pair = MiddlePair()
    flow = offered(pair, "12V/5.5A")
    (offer,) = pair.one(SINK, PowerOffered).offers
    tracked, pair.denial = pair.flow, OVER
    pair.sink.accept(flow, offer.offer, now=pair.now)
    pair.exchange()
    assert pair.asked[-1][0][0].desired.power_mw == 66_000
    for side in (SINK, SOURCE):
        closed = pair.one(side, FlowClosed)
        assert closed.refusal is not None
        assert closed.refusal.code == Reason.WATT_LIMIT
    assert not any(
        isinstance(one, Control) and one.flags == Flag.ACK
        for octets in pair.passed[SOURCE]
        for one in segments(octets)
    )
    (left,) = pair.all(FlowLeft)
    assert (left.flow, left.refusal) == (tracked, OVER.refusal)
    assert pair.relay.is_idle


@pytest.mark.requirement("VPPN-6-02")
def test_a_counter_offer_within_the_limits_is_held_before_it_is_ready() -> None:
    pair = MiddlePair()
    flow = offered(pair, "12V/2A")
    (offer,) = pair.one(SINK, PowerOffered).offers
    pair.sink.accept(flow, offer.offer, now=pair.now)
    pair.exchange()
    assert pair.flow.taken is not None
    assert pair.flow.taken.power_mw == 24_000
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    assert pair.sink.status(flow).state == "ENERGISED"
    assert pair.flow.taken is None


@pytest.mark.requirement("VPPN-6-02")
def test_terms_above_the_limits_that_come_into_force_end_the_flow_on_both_sides() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 3)
    tracked = pair.flow
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    # the page of the contract that ends here comes too late
    pair.denial, pair.answers = OVER, False
    pair.source.answer(
        flow, accept=True, profile=profile("12V/2A", ProfileType.GRANT), now=pair.now
    )
    pair.exchange()
    assert [one.desired.power_mw for one in pair.asked[-1][0]] == [24_000]
    for side in (SINK, SOURCE):
        closed = pair.one(side, FlowClosed)
        assert closed.refusal is not None
        assert closed.refusal.code == Reason.WATT_LIMIT
    assert [one.flow for one in pair.all(FlowLeft)] == [tracked]


@pytest.mark.requirement("VPPN-6-02")
def test_terms_of_a_flow_that_is_being_ended_are_not_judged() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 3)
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    pair.source.answer(
        flow, accept=True, profile=profile("12V/2A", ProfileType.GRANT), now=pair.now
    )
    pair.denial = OVER
    pair.relay.end(pair.flow, QUOTA, pair.now)
    pair.exchange()
    # the last page of each contract
    assert len(pair.signed) == 2
    assert pair.one(SINK, FlowClosed).refusal == QUOTA


@pytest.mark.requirement("VPPN-6-02")
def test_a_proposal_of_the_provider_above_the_limits_is_rejected_too() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/2A", "12V/0.5A")
    pair.source.shed(
        flow, profile("12V/1A", ProfileType.OFFER), refusal=Refusal(Reason.BUDGET), now=pair.now
    )
    pair.exchange()
    pair.denial = OVER
    pair.source.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    assert pair.source.status(flow).state == "ENERGISED"
    assert pair.source.status(flow).profile == pair.sink.status(flow).profile
    assert pair.take(SINK, RenegotiationRequested) == []
    assert any(isinstance(one, Answer) for one in segments(pair.passed[SOURCE][-1]))


# LEDG-7-06
def test_nothing_of_the_device_passes_a_page_that_is_not_written() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 5)
    pair.is_slow = True
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    leg = pair.relay.provider
    assert leg.is_held
    assert leg.queued
    assert leg.data_to_send() == b""
    assert pair.signed == []
    pair.write()
    assert not leg.is_held
    assert len(pair.signed) == 1
    assert pair.source.flows == ()
    # told twice, nothing happens
    leg.release(1)


def test_pages_are_let_go_in_order_whichever_is_written_first() -> None:
    leg = MiddlePair().relay.provider
    leg.send(b"a")
    leg.hold(1)
    leg.send(b"b")
    leg.hold(2)
    leg.send(b"c")
    leg.release(2)
    assert leg.data_to_send() == b"a"
    leg.release(1)
    assert leg.data_to_send() == b"bc"
    assert leg.queued == 0


@pytest.mark.requirement("VPPN-6-04")
@pytest.mark.parametrize("end", list(End))
def test_a_side_that_is_lost_is_a_cut_for_the_other(end: End) -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 3)
    tracked = pair.flow
    leg = pair.relay.device if end is End.CLIENT else pair.relay.provider
    leg.receive_eof(pair.now)
    leg.receive_eof(pair.now)
    pair.hear()
    (left,) = pair.all(FlowLeft)
    assert (left.flow, left.is_cut, left.flow.phase) == (tracked, True, Phase.OVER)
    assert pair.all(Hung) == [Hung(end=end, refusal=None)]
    assert leg.is_terminated
    # the ends keep what they may resume
    for one in (pair.sink, pair.source):
        one.receive_eof(pair.now)
    pair.collect()
    assert pair.one(SINK, FlowCut).esn_uj == tracked.verified_uj == 3_600_000


@pytest.mark.requirement("VPPN-2.3-03")
def test_nothing_passes_before_the_device_is_proven() -> None:
    pair = MiddlePair(is_proven=False)
    pair.request(ask("12V/1A"))
    assert pair.asked == []
    assert pair.passed == [[], []]
    pair.relay.proven(pair.now)
    pair.exchange()
    pair.one(SOURCE, PowerRequested)


@pytest.mark.requirement("VPPN-2.2-04")
def test_clear_power_is_refused() -> None:
    pair = MiddlePair(is_proven=False, is_sealed=False)
    pair.request(ask("12V/1A"))
    (hung,) = pair.all(Hung)
    assert hung.refusal is not None
    assert hung.refusal.code == Reason.SEAL_REQUIRED
    assert pair.sink.is_terminated
    assert pair.passed[SOURCE] == [
        encode_segment(Control(0, Flag.RST, 0, Options(reason=hung.refusal)))
    ]


@pytest.mark.requirement("VPPN-6-04")
def test_via_goes_to_the_judge_and_no_further() -> None:
    pair = MiddlePair()
    flow = pair.request(ask("12V/1A"), via="lab")
    assert pair.asked[0][1] == "lab"
    assert pair.all(UpstreamWanted) == [UpstreamWanted(via="lab", resumes=False)]
    pair.one(SOURCE, PowerRequested)
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    assert pair.sink.status(flow).state == "ENERGISED"
    # one connection of a device is one upstream
    pair.request(ask("12V/1A"), via="hall")
    assert pair.one(SINK, FlowRefused).refusal.code == Reason.POLICY


def test_a_provider_asks_for_nothing_and_broadcasts_nothing() -> None:
    pair = MiddlePair()
    syn = Control(2, Flag.SYN, 0, Options(profiles=(profile("12V/1A"),)))
    pair.relay.provider.receive_data(encode_segment(syn), pair.now)
    (reset,) = segments(pair.relay.provider.data_to_send())
    assert isinstance(reset, Control)
    assert reset.options.reason is not None
    assert (reset.flags, reset.options.reason.code) == (Flag.RST, Reason.POLICY)
    feed = Options(feed=Feed(b"f" * 16, 1))
    asked = encode_segment(FeedSegment(0, Flag.SYN, 0, feed, b""))
    pair.relay.device.receive_data(asked, pair.now)
    alert, fin = segments(pair.relay.device.data_to_send())
    assert isinstance(fin, FeedSegment)
    assert fin.flags == Flag.FIN
    assert pair.relay.provider.queued == 0
    pair.relay.provider.receive_data(encode_segment(FeedSegment(0, 0, 0, feed, b"x")), pair.now)
    assert pair.relay.device.queued == 0
    del alert


def test_what_no_endpoint_takes_ends_its_flow_on_both_sides() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    pair.relay.device.receive_data(encode_segment(Control(flow, Flag.ACK, 0)), pair.now)
    pair.exchange()
    for side in (SINK, SOURCE):
        refusal = pair.one(side, FlowClosed).refusal
        assert refusal is not None
        assert refusal.code == Reason.STATE
    assert pair.relay.is_idle
    # of no flow: dropped, a FIN is answered
    pair.relay.device.receive_data(encode_segment(Control(9, Flag.FIN, 0)), pair.now)
    (answer,) = segments(pair.relay.device.data_to_send())
    assert isinstance(answer, Control)
    assert answer.flags == Flag.FIN | Flag.ACK
    pair.relay.device.receive_data(encode_segment(Control(2, Flag.SYN, 0)), pair.now)
    (reset,) = segments(pair.relay.device.data_to_send())
    assert isinstance(reset, Control)
    assert reset.flags == Flag.RST


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n\r\n----", encode_segment(Control(0, Flag.FIN, 0))]
)
def test_a_fault_of_framing_ends_the_connection(octets: bytes) -> None:
    pair = MiddlePair()
    pair.energise("12V/1A")
    pair.relay.device.receive_data(octets, pair.now)
    pair.hear()
    assert len(pair.all(Hung)) == 1
    assert pair.relay.is_over
    for leg in (pair.relay.device, pair.relay.provider):
        (reset,) = segments(leg.data_to_send())
        assert isinstance(reset, Control)
        assert (reset.flow, reset.flags) == (0, Flag.RST)
    pair.relay.device.receive_data(octets, pair.now)
    assert pair.relay.provider.queued == 0


def test_an_end_that_terminates_the_connection_is_heard_by_the_other() -> None:
    pair = MiddlePair()
    pair.energise("12V/1A")
    pair.source.abort(Refusal(Reason.MAINTENANCE), now=pair.now)
    pair.exchange()
    assert pair.sink.is_terminated
    (hung,) = pair.all(Hung)
    assert hung.end is End.SERVER


def test_requests_above_the_limits_are_churn_when_there_are_many() -> None:
    pair = MiddlePair()
    pair.denial = OVER
    for _ in range(REFUSALS_MAX):
        pair.request(ask("12V/5.5A"))
        pair.now += NS_PER_S // 40
    assert not pair.relay.is_over
    pair.request(ask("12V/5.5A"))
    (hung,) = pair.all(Hung)
    assert hung.refusal == Refusal(Reason.CHURN, REFUSALS_MAX + 1, REFUSALS_MAX)


@pytest.mark.requirement("PTCP-13-02")
@pytest.mark.parametrize(
    "said",
    [
        Control(9, Flag.FIN, 0),
        Control(2, Flag.SYN, 0),
        FeedSegment(0, Flag.SYN, 0, Options(feed=Feed(b"f" * 16, 1)), b""),
    ],
    ids=["FIN", "INVALID", "FEED"],
)
def test_what_is_answered_here_is_churn_when_there_is_much_of_it(said: Segment) -> None:
    pair = MiddlePair()
    octets = encode_segment(said)
    pair.relay.device.receive_data(octets * REFUSALS_MAX, pair.now)
    pair.now += NS_PER_S
    pair.relay.device.receive_data(octets * (REFUSALS_MAX - 1), pair.now)
    assert not pair.relay.is_over
    pair.relay.device.receive_data(octets * 2, pair.now)
    pair.hear()
    (hung,) = pair.all(Hung)
    assert hung.refusal == Refusal(Reason.CHURN, REFUSALS_MAX + 1, REFUSALS_MAX)


@pytest.mark.requirement("PTCP-13-02")
def test_a_goodbye_that_crosses_the_end_of_its_flow_is_no_churn() -> None:
    pair = MiddlePair()
    flows, wish = range(1, 4 * REFUSALS_MAX, 2), Options(profiles=(profile("12V/1A"),))
    for flow in flows:
        syn = encode_segment(Control(flow, Flag.SYN, 0, wish))
        pair.relay.device.receive_data(syn, pair.now)
    assert len(pair.relay.tracker.flows) == 2 * REFUSALS_MAX
    for flow in flows:
        reset = encode_segment(Control(flow, Flag.RST, 0))
        pair.relay.provider.receive_data(reset, pair.now)
        fin = encode_segment(Control(flow, Flag.FIN, 0))
        pair.relay.device.receive_data(fin, pair.now)
    assert not pair.relay.is_over
    # the second one of a flow crosses nothing
    for flow in flows:
        fin = encode_segment(Control(flow, Flag.FIN, 0))
        pair.relay.device.receive_data(fin, pair.now)
    assert pair.relay.is_over


def test_requests_far_apart_are_none() -> None:
    pair = MiddlePair()
    pair.denial = OVER
    for _ in range(2 * REFUSALS_MAX):
        pair.request(ask("12V/5.5A"))
        pair.now += NS_PER_S // 10
    assert not pair.relay.is_over


@pytest.mark.requirement("VPPN-3-07")
def test_a_payload_passes_up_to_the_msp_of_the_other_side() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    octets = encode_segment(Receipt(flow, 0, bytes(380)))
    # a provider in clear fills the MSP and knows of no seal
    pair.relay.device.peer_msp = 380
    pair.relay.provider.receive_data(octets, pair.now)
    pair.hear()
    assert pair.all(FlowLeft) == []
    assert pair.relay.device.data_to_send() == octets
    pair.relay.device.peer_msp = 379
    pair.relay.provider.receive_data(octets, pair.now)
    pair.hear()
    (left,) = pair.all(FlowLeft)
    assert left.refusal == Refusal(Reason.LIMIT, 380, 379)


@pytest.mark.requirement("VPPN-3-07")
def test_a_segment_that_fits_no_seal_is_refused() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    leg = pair.relay.device
    leg.peer_msp = 65_535
    fits, above = (pack_segment(0x90, 0, flow, 0, b"", bytes(MAX_PLAIN - 20 + n)) for n in (0, 1))
    pair.relay.provider.receive_data(fits, pair.now)
    assert leg.data_to_send() == fits
    pair.relay.provider.receive_data(above, pair.now)
    assert leg.data_to_send() == b""
    (reset,) = segments(pair.relay.provider.data_to_send())
    assert isinstance(reset, Control)
    assert reset.options.reason == Refusal(Reason.LIMIT, MAX_PLAIN + 1, MAX_PLAIN)


def test_all_flows_end_and_a_connection_may_be_closed() -> None:
    pair = MiddlePair()
    pair.energise("12V/1A")
    pair.energise("12V/2A")
    pair.relay.end_all(QUOTA, pair.now)
    pair.exchange()
    assert pair.relay.is_idle
    assert len(pair.all(FlowLeft)) == 2
    pair.relay.close(QUOTA)
    pair.relay.close(QUOTA)
    pair.hear()
    assert len(pair.all(Hung)) == 1


@pytest.mark.requirement("PTCP-10-03", "VPPN-6-04")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_a_flow_that_its_ticket_moved_is_cut_here_if_the_provider_says_so(side: int) -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    reason = Options(reason=Refusal(Reason.HANDOVER))
    leg = (pair.relay.device, pair.relay.provider)[side]
    leg.receive_data(encode_segment(Control(flow, Flag.RST, 0, reason)), pair.now)
    pair.hear()
    (left,) = pair.all(FlowLeft)
    assert left.is_cut == (side == SOURCE)


def test_a_page_is_told_with_what_was_verified_where_it_stands() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 3)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    (told,) = [one.sighting for one in pair.all(Seen) if one.sighting.what is What.PAGE]
    assert told.energy_uj == 3_600_000


@pytest.mark.requirement("VPPN-6-03")
def test_what_waits_may_be_dropped_and_then_nothing_is_left() -> None:
    pair = MiddlePair()
    pair.is_slow = True
    flow = pair.energise("12V/1A")
    pair.run(flow, 3)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    leg = pair.relay.provider
    assert leg.is_held
    assert leg.queued
    leg.drop()
    assert not leg.is_held
    assert leg.queued == 0
    # the disk was done with it after all
    pair.write()
    assert leg.data_to_send() == b""
