"""What comes into a sink: blocks verified and banked, credit granted, demand stated."""

import numpy as np
import pytest

from powertcp.dve import BlockSums, encode_block
from powertcp.errors import BrokenInvariant, LocalProtocolError
from powertcp.potcp.events import (
    FlowClosed,
    FlowTripped,
    HeatCounted,
    SamplesReceived,
    SupplyBlocked,
)
from powertcp.potcp.sink import SinkFlow
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import data_header, encode_segment
from powertcp.wire.segments import (
    DEMAND_MAX,
    Alert,
    Blocked,
    Credit,
)
from tests.conversation import SINK, Pair, ask, profile
from tests.metered import MeteredPair

WHY = Refusal(Reason.BUDGET, 60_000, 14_200)


def samples_of(pair: Pair, flow: int, values: list[tuple[int, int]]) -> bytes:
    """Return DATA octets for the sink with the right ESN and counter and these samples."""
    status = pair.source.status(flow)
    payload = encode_block(pair.counters.get(flow, 0), np.array(values))
    return data_header(flow, status.esn_uj, len(payload)) + payload


def test_samples_are_kept_only_where_they_are_wanted() -> None:
    pair = Pair()
    flow = pair.energise(want_samples=True)
    pair.deliver(flow, 7)
    assert len(pair.one(SINK, SamplesReceived).samples or b"") == 7 * 8


@pytest.mark.requirement("PTCP-3.3-02")
@pytest.mark.parametrize("off", [-1, 1])
def test_a_meter_that_is_off_by_one_microjoule_trips_400(off: int) -> None:
    pair = Pair()
    flow = pair.energise()
    pair.deliver(flow)
    esn = pair.sink.status(flow).esn_uj
    payload = pair.block(flow, 10)
    pair.inject(SINK, data_header(flow, esn + off, len(payload)) + payload)
    refusal = pair.one(SINK, FlowTripped).refusal
    assert (refusal.code, refusal.value, refusal.limit) == (400, esn + off, esn)
    assert pair.one(SINK, HeatCounted).energy_uj == 180_000


@pytest.mark.requirement("PTCP-3.1-01")
@pytest.mark.parametrize(("counter", "width"), [(1, 2), (0, 4)])
def test_a_gap_or_another_number_of_pairs_trips_405(counter: int, width: int) -> None:
    pair = Pair()
    flow = pair.energise()
    pair.deliver(flow, 0x10)
    payload = encode_block(16 + counter, np.array([[12_000, 0] * (width // 2)] * 4))
    esn = pair.sink.status(flow).esn_uj
    pair.inject(SINK, data_header(flow, esn, len(payload)) + payload)
    assert pair.one(SINK, FlowTripped).refusal.code == Reason.SAMPLE_GAP


@pytest.mark.requirement("PTCP-8-04", "PTCP-8-01")
@pytest.mark.parametrize("position", range(20))
def test_one_10_kv_sample_anywhere_trips_300_and_nothing_is_banked(position: int) -> None:
    pair = Pair()
    flow = pair.energise()
    values = [(12_000, 1_000_000)] * 20
    values[position] = (10_000_000, 0)
    before = pair.sink.status(flow).esn_uj
    pair.inject(SINK, samples_of(pair, flow, values))
    refusal = pair.one(SINK, FlowTripped).refusal
    assert (refusal.code, refusal.value, refusal.limit) == (300, 10_000_000, 13_200)
    assert pair.one(SINK, FlowClosed).esn_uj == before
    with pytest.raises(LocalProtocolError):
        pair.source.status(flow)


@pytest.mark.requirement("PTCP-6-02")
def test_a_block_beyond_credit_is_banked_to_the_limit() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    limit = pair.sink.status(flow).limit_uj
    assert limit == 24_000_000
    for _ in range(15):
        pair.sink.set_headroom(flow, 0, now=pair.now)
        pair.deliver(flow)
    left = limit - pair.sink.status(flow).esn_uj
    pair.take(SINK, SamplesReceived)
    payload = encode_block(pair.counters[flow], np.array([[12_000, 1_000_000]] * 600))
    octets = data_header(flow, pair.sink.status(flow).esn_uj, len(payload)) + payload
    pair.inject(SINK, octets)
    assert pair.one(SINK, SamplesReceived).energy_uj == left
    assert pair.one(SINK, FlowTripped).refusal.code == Reason.CREDIT_OVERRUN
    assert pair.one(SINK, HeatCounted).energy_uj == 600 * 12_000 - left
    assert pair.one(SINK, FlowClosed).esn_uj == limit


@pytest.mark.requirement("PTCP-6-01", "PTCP-6-03", "PTCP-6-04")
def test_credit_is_granted_again_at_half_of_the_window_and_at_once_below_a_tenth() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.said(SINK, Credit)
    pair.deliver(flow)
    assert pair.said(SINK, Credit) == []
    for _ in range(9):
        pair.now += NS_PER_S // 10
        pair.deliver(flow)
    (credit,) = pair.said(SINK, Credit)
    assert isinstance(credit, Credit)
    assert (credit.limit_uj, credit.demand_mw) == (12_000_000 + 24_000_000, DEMAND_MAX)
    for _ in range(20):
        pair.deliver(flow)
    assert len(pair.said(SINK, Credit)) == 1


def test_credit_that_is_due_too_early_is_granted_by_its_own_timer() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.said(SINK, Credit)
    for _ in range(12):
        pair.deliver(flow)
    assert pair.said(SINK, Credit) == []
    pair.advance(0.1)
    assert len(pair.said(SINK, Credit)) == 1


@pytest.mark.requirement("PTCP-6-03")
def test_another_demand_is_stated_at_most_once_per_gap() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.said(SINK, Credit)
    pair.now += NS_PER_S
    pair.sink.set_demand(flow, 5_000, now=pair.now)
    pair.sink.set_demand(flow, 5_000, now=pair.now)
    pair.sink.set_demand(flow, 6_000, now=pair.now)
    pair.exchange()
    assert pair.source.demand_mw(flow) == 5_000
    pair.advance(0.1)
    assert pair.source.demand_mw(flow) == 6_000


def test_demand_before_power_flows_is_kept_for_the_first_credit() -> None:
    pair = Pair()
    flow = pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.sink.set_demand(flow, 3_000, now=pair.now)
    pair.exchange()
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    assert pair.source.demand_mw(flow) == 3_000


@pytest.mark.requirement("PTCP-6-05")
def test_blocked_is_answered_with_credit_when_there_is_room() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.sink.set_headroom(flow, 0, now=pair.now)
    while pair.deliver(flow):
        pass
    assert pair.one(SINK, SupplyBlocked).limit_uj == 24_000_000
    pair.said(SINK, Credit)
    pair.sink.set_headroom(flow, None, now=pair.now)
    pair.advance(1.0)
    assert len(pair.said(SINK, Credit)) == 1
    assert pair.deliver(flow) == 1


@pytest.mark.requirement("PTCP-6-01", "PTCP-6-04")
def test_a_store_fills_while_energy_is_banked() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.sink.set_headroom(flow, 30_000_000, now=pair.now)
    while pair.deliver(flow):
        pair.advance(0.1)
    status = pair.sink.status(flow)
    assert status.limit_uj == 30_000_000
    assert status.esn_uj == 30_000_000


@pytest.mark.requirement("PTCP-7-01", "PTCP-7-02", "PTCP-2.1-05")
def test_ece_lowers_the_demand_by_an_eighth_with_cwr_and_it_rises_again() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A", "12V/0.9A")
    pair.said(SINK, Credit)

    def marked() -> None:
        block = pair.block(flow, 10)
        pair.source.send_samples(flow, [block], ece=True, now=pair.now)
        pair.counters[flow] = pair.counters.get(flow, 0) + 10
        pair.exchange()

    marked()
    (credit,) = pair.said(SINK, Credit)
    assert isinstance(credit, Credit)
    # an eighth less would be 10.5 W; the minimum holds
    assert (credit.cwr, credit.demand_mw) == (True, 10_800)
    assert pair.one(SINK, SamplesReceived).ece
    marked()
    assert pair.said(SINK, Credit) == []
    pair.advance(1.0)
    demands = [pair.source.demand_mw(flow)]
    for _ in range(6):
        pair.advance(1.0)
        demands.append(pair.source.demand_mw(flow))
    assert demands[0] == 10_800
    assert demands[1] == 10_800 + 375
    assert demands[-1] == 12_000


@pytest.mark.requirement("PTCP-13-01")
def test_data_after_fin_is_still_banked() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.source.send_samples(flow, [pair.block(flow, 10)], now=pair.now)
    late = pair.source.data_to_send()
    pair.sink.close_flow(flow, now=pair.now)
    pair.sink.receive_data(late, pair.now)
    pair.collect()
    assert pair.one(SINK, SamplesReceived).energy_uj == 120_000
    pair.sink.set_demand(flow, 1, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, FlowClosed).refusal == Refusal(Reason.NORMAL)


@pytest.mark.requirement("PTCP-8-07")
def test_under_voltage_is_alerted_once_per_dip() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.inject(SINK, samples_of(pair, flow, [(10_000, 1_000_000)] * 100))
    assert len(pair.said(SINK, Alert)) == 1


def test_a_block_that_is_out_of_credit_is_reported_and_forgotten_in_the_end() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.sink.close_flow(flow, now=pair.now)
    pair.sink.receive_data(encode_segment(Blocked(flow, 0, 5)), pair.now)
    pair.collect()
    assert pair.take(SINK, SupplyBlocked) == []


def test_blocks_of_one_wake_up_are_one_report() -> None:
    pair = Pair()
    flow = pair.energise(want_samples=True)
    for _ in range(3):
        pair.source.send_samples(flow, [pair.block(flow, 7)], now=pair.now)
        pair.counters[flow] = pair.counters.get(flow, 0) + 7
    pair.exchange()
    banked = pair.one(SINK, SamplesReceived)
    assert (banked.count, len(banked.samples or b"")) == (21, 21 * 8)
    assert banked.energy_uj == banked.esn_uj == 378_000


@pytest.mark.requirement("PTCP-6-05", "PTCP-6-04")
def test_blocked_with_room_in_the_window_is_answered_at_once() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.deliver(flow)
    pair.said(SINK, Credit)
    pair.inject(SINK, encode_segment(Blocked(flow, 1_200_000, 24_000_000)))
    assert pair.one(SINK, SupplyBlocked).limit_uj == 24_000_000
    (credit,) = [one for one in pair.said(SINK, Credit) if isinstance(one, Credit)]
    assert credit.limit_uj == 25_200_000
    # without room there is nothing to grant
    pair.inject(SINK, encode_segment(Blocked(flow, 1_200_000, 25_200_000)))
    assert pair.said(SINK, Credit) == []


@pytest.mark.requirement("PTCP-6-04")
def test_head_room_stated_before_power_flows_bounds_the_first_window() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.sink.set_headroom(flow, 5_000_000, now=pair.now)
    assert pair.sink.data_to_send() == b""
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    assert pair.sink.status(flow).limit_uj == 5_000_000


@pytest.mark.requirement("PTCP-3.1-01")
@pytest.mark.parametrize(("follows", "code"), [(5, None), (6, 405), (4, 405), (15, 405)])
def test_the_counter_goes_on_at_nought_after_32_bits(follows: int, code: int | None) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    rows = np.array([[12_000, 1_000_000]] * 10)
    first, second = encode_block(2**32 - 5, rows), encode_block(follows, rows)
    octets = data_header(flow, 0, len(first)) + first
    octets += data_header(flow, 120_000, len(second)) + second
    pair.inject(SINK, octets)
    assert pair.one(SINK, SamplesReceived).count == (20 if code is None else 10)
    assert [one.refusal.code for one in pair.take(SINK, FlowTripped)] == ([code] if code else [])


@pytest.mark.requirement("PTCP-6-01")
def test_a_limit_of_credit_beyond_64_bits_is_saturated() -> None:
    pair = Pair()
    most = "16000000V/16000000A"
    flow = pair.energise(most)
    (credit, *_) = pair.said(SINK, Credit)
    assert isinstance(credit, Credit)
    assert credit.limit_uj == 2**64 - 1
    assert pair.source.status(flow).limit_uj == 2**64 - 1


def test_judging_a_block_before_there_are_terms_is_our_own_bug() -> None:
    sums = BlockSums(0, 0, 1, 1, 0, 0, 0, 0, [1], [[0]], [[0]], [[0]])
    with pytest.raises(BrokenInvariant):
        SinkFlow(Pair().sink, 1).check_block(sums, 0)


@pytest.mark.requirement("PTCP-5-06")
def test_a_lapse_lowers_what_is_asked_for() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A", fallback="12V/0.2A")
    pair.pass_at(SINK, 61)
    assert pair.sink.demand_mw(flow) == 2_400
    other = Pair()
    flow = other.energise("12V/1A")
    other.pass_at(SINK, 61)
    assert other.sink.demand_mw(flow) == 0


@pytest.mark.requirement("LEDG-6-01")
def test_a_flow_with_receipts_keeps_no_samples_that_nobody_wants() -> None:
    pair = MeteredPair()
    flow = pair.energise()
    pair.run(flow, 2)
    assert [one.samples for one in pair.take(SINK, SamplesReceived)] == [None, None]
