"""Flows that a relay ends: both ends are told why, the last page is signed, nobody is waited for."""

import pytest

from powertcp.potcp.events import Alerted, FlowClosed
from powertcp.reclaim.endings import DRAIN_NS
from powertcp.reclaim.relay import FlowLeft
from powertcp.registry import Flag, Reason, Refusal
from powertcp.wire.frames import encode_segment
from powertcp.wire.segments import Control
from tests.conversation import SINK, SOURCE, segments
from tests.middle import MiddlePair

QUOTA = Refusal(Reason.ENERGY_QUOTA, 1_000, 1_000, 5_000)


@pytest.mark.requirement("VPPN-6-05")
def test_an_ended_flow_has_its_final_receipt_signed_by_both() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 10)
    tracked = pair.flow
    pair.relay.alert(tracked, QUOTA)
    pair.exchange()
    assert pair.one(SINK, Alerted).refusal == QUOTA
    pair.relay.end(tracked, QUOTA, pair.now)
    assert pair.relay.is_ending(tracked)
    # once is enough
    pair.relay.end(tracked, QUOTA, pair.now)
    pair.exchange()
    for side in (SINK, SOURCE):
        closed = pair.one(side, FlowClosed)
        assert closed.refusal is not None
        assert closed.refusal.code == Reason.ENERGY_QUOTA
        assert closed.esn_uj == 12_000_000
    (page,) = pair.signed
    assert int.from_bytes(page[60:68], "big") == 12_000_000
    # final
    assert page[1] & 2
    assert pair.relay.is_idle
    (left,) = pair.all(FlowLeft)
    assert left.refusal == QUOTA
    assert pair.source.flows == pair.sink.flows == ()


@pytest.mark.requirement("VPPN-6-05")
@pytest.mark.parametrize("closer", [SINK, SOURCE])
def test_an_end_may_cross_those_of_the_ends(closer: int) -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 3)
    (pair.sink, pair.source)[closer].close_flow(flow, now=pair.now)
    pair.relay.end(pair.flow, QUOTA, pair.now)
    pair.exchange()
    assert pair.source.flows == pair.sink.flows == ()
    assert pair.relay.is_idle
    assert len(pair.all(FlowLeft)) == 1
    assert len(pair.signed) == 1


@pytest.mark.requirement("VPPN-6-05")
def test_whoever_does_not_answer_an_end_is_reset() -> None:
    pair = MiddlePair()
    flow = pair.energise("12V/1A")
    tracked, relay = pair.flow, pair.relay
    relay.end(tracked, QUOTA, pair.now)
    relay.provider.data_to_send()
    assert relay.device.get_timer() == pair.now + 2 * DRAIN_NS
    assert relay.provider.get_timer() is None
    relay.device.handle_timer(pair.now + 2 * DRAIN_NS - 1)
    assert relay.provider.queued == 0
    relay.device.handle_timer(pair.now + 2 * DRAIN_NS)
    (reset,) = segments(relay.provider.data_to_send())
    (fin,) = segments(relay.device.data_to_send())
    assert isinstance(reset, Control)
    assert isinstance(fin, Control)
    assert (reset.flags, fin.flags, fin.flow) == (Flag.RST, Flag.FIN, flow)
    relay.device.handle_timer(pair.now + 3 * DRAIN_NS)
    (reset,) = segments(relay.device.data_to_send())
    assert isinstance(reset, Control)
    assert reset.flags == Flag.RST
    assert relay.is_idle
    assert relay.get_timer() is None


def test_a_flow_that_is_being_ended_may_be_reset_by_either() -> None:
    for side in (SINK, SOURCE):
        pair = MiddlePair()
        flow = pair.energise("12V/1A")
        pair.relay.end(pair.flow, QUOTA, pair.now)
        leg = (pair.relay.device, pair.relay.provider)[side]
        leg.receive_data(encode_segment(Control(flow, Flag.RST, 0)), pair.now)
        pair.hear()
        assert pair.relay.is_idle
        assert len(pair.all(FlowLeft)) == 1


@pytest.mark.requirement("VPPN-6-05")
@pytest.mark.parametrize("is_late", [False, True], ids=["the provider answered", "it did not"])
def test_a_device_that_hangs_up_in_place_of_a_goodbye_leaves_no_flow(is_late: bool) -> None:
    pair = MiddlePair()
    pair.energise("12V/1A")
    tracked, relay = pair.flow, pair.relay
    relay.end(tracked, QUOTA, pair.now)
    if is_late:
        relay.device.handle_timer(pair.now + 2 * DRAIN_NS)
    else:
        fin_ack = Control(tracked.number, Flag.FIN | Flag.ACK, 0)
        relay.provider.receive_data(encode_segment(fin_ack), pair.now)
    assert relay.tracker.flows == ()
    relay.device.receive_eof(pair.now)
    pair.hear()
    (left,) = pair.all(FlowLeft)
    assert (left.flow, left.refusal, left.is_cut) == (tracked, QUOTA, False)
    assert relay.is_idle


def test_a_flow_whose_end_is_not_answered_yet_is_cut_with_its_connection() -> None:
    pair = MiddlePair()
    pair.energise("12V/1A")
    tracked = pair.flow
    pair.relay.end(tracked, QUOTA, pair.now)
    pair.relay.device.receive_eof(pair.now)
    pair.hear()
    (left,) = pair.all(FlowLeft)
    assert (left.flow, left.is_cut) == (tracked, True)
