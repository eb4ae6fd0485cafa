"""What leaves a source: blocks under credit and protection, in conversation with a real sink."""

import numpy as np
import pytest

from powertcp.dve import encode_block, integrate_many
from powertcp.errors import LocalProtocolError
from powertcp.potcp.events import (
    Alerted,
    CreditReceived,
    FlowClosed,
    FlowTripped,
)
from powertcp.registry import Reason
from powertcp.wire.frames import credit_segment, pack_segment
from powertcp.wire.segments import (
    Alert,
    Blocked,
    Data,
)
from tests.conversation import SINK, SOURCE, Pair, ask, profile
from tests.metered import MeteredPair, meter_of


def powered(text: str = "12V/1A", **options: str) -> tuple[Pair, int]:
    pair = Pair()
    flow = pair.energise(text, **options)
    return pair, flow


def reason_of(pair: Pair, side: int = SOURCE) -> int:
    refusal = pair.one(side, FlowClosed).refusal
    assert refusal is not None
    return refusal.code


@pytest.mark.requirement("PTCP-4-05")
def test_nothing_is_delivered_before_ready() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    block = encode_block(0, np.array([[12_000, 0]]))
    with pytest.raises(LocalProtocolError, match="no power flows"):
        pair.source.send_samples(flow, [block], now=pair.now)
    pair.source.ready(flow, now=pair.now)
    assert pair.source.send_samples(flow, [block], now=pair.now) == 1


@pytest.mark.requirement("PTCP-6-01", "PTCP-6-05")
def test_a_block_beyond_credit_is_not_sent_and_blocked_is_said_each_second() -> None:
    pair, flow = powered()
    pair.sink.set_headroom(flow, 0, now=pair.now)
    while pair.deliver(flow):
        pass
    assert pair.source.status(flow).esn_uj <= pair.source.status(flow).limit_uj == 24_000_000
    assert pair.source.credit_left_uj(flow) < 1_200_000
    assert pair.deliver(flow) == 0
    assert len(pair.said(SOURCE, Blocked)) == 1
    pair.advance(2.0)
    assert len(pair.said(SOURCE, Blocked)) == 2
    assert len(pair.said(SOURCE, Data)) == 20


def test_a_block_out_of_order_is_our_own_bug() -> None:
    pair, flow = powered()
    with pytest.raises(LocalProtocolError, match="sample 5 where 0 is next"):
        pair.source.send_samples(flow, [encode_block(5, np.array([[1, 1]]))], now=pair.now)


@pytest.mark.requirement("PTCP-8-04", "PTCP-3.1-02")
@pytest.mark.parametrize(
    ("row", "code"),
    [([10_000_000, 0], 300), ([12_000, 5_000_000], 303), ([12_000, -1_000_000], 304)],
)
def test_the_source_never_sends_what_protection_refuses(row: list[int], code: int) -> None:
    pair, flow = powered()
    pair.said(SOURCE, Data)
    block = encode_block(0, np.array([row] * 100))
    assert pair.source.send_samples(flow, [block, block], now=pair.now) == 0
    pair.collect()
    assert pair.one(SOURCE, FlowTripped).refusal.code == code
    pair.exchange()
    assert pair.said(SOURCE, Data) == []
    assert reason_of(pair) == code


@pytest.mark.requirement("PTCP-7-03", "PTCP-8-07")
def test_the_source_alerts_its_own_brown_out() -> None:
    pair, flow = powered()
    block = encode_block(0, np.array([[10_000, 1_000_000]] * 100))
    assert pair.source.send_samples(flow, [block], now=pair.now) == 1
    pair.exchange()
    assert pair.one(SINK, Alerted).refusal is not None
    assert len(pair.said(SOURCE, Alert)) == 1


@pytest.mark.requirement("PTCP-6-06")
def test_a_grant_of_so_much_energy_ends_with_fin_when_it_is_delivered() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,energy=3J")
    assert [pair.deliver(flow) for _ in range(3)] == [1, 1, 1]
    assert reason_of(pair) == Reason.NORMAL
    assert pair.one(SINK, FlowClosed).esn_uj == 3_600_000


@pytest.mark.requirement("PTCP-2.1-02")
def test_an_acknowledgement_of_more_than_was_sent_is_a_breach() -> None:
    pair, flow = powered()
    pair.inject(SOURCE, credit_segment(flow, 1, 50_000_000))
    assert reason_of(pair) == Reason.METER_MISMATCH


@pytest.mark.requirement("PTCP-6-01")
def test_a_limit_never_falls() -> None:
    pair, flow = powered()
    pair.inject(SOURCE, credit_segment(flow, 0, 5, 7_000))
    credit = pair.take(SOURCE, CreditReceived)[-1]
    assert (credit.limit_uj, credit.demand_mw) == (24_000_000, 7_000)


@pytest.mark.requirement("PTCP-6-01", "PTCP-6-03")
def test_a_credit_is_news_when_its_owner_can_act_on_it() -> None:
    pair, flow = powered()
    pair.take(SOURCE, CreditReceived)
    pair.inject(SOURCE, credit_segment(flow, 0, 30_000_000))
    assert not pair.take(SOURCE, CreditReceived)
    assert pair.source.credit_left_uj(flow) == 30_000_000
    # congestion is relieved
    pair.inject(SOURCE, credit_segment(flow, 0, 30_000_000, cwr=True))
    assert pair.take(SOURCE, CreditReceived)[-1].cwr
    # delivery may go on
    assert pair.source.send_samples(flow, [pair.block(flow, 8_000)], now=pair.now) == 0
    pair.inject(SOURCE, credit_segment(flow, 0, 30_000_000))
    assert not pair.take(SOURCE, CreditReceived)
    pair.inject(SOURCE, credit_segment(flow, 0, 60_000_000))
    assert pair.take(SOURCE, CreditReceived)[-1].limit_uj == 60_000_000


@pytest.mark.requirement("PTCP-6-01", "PTCP-6-03", "PTCP-9-08")
@pytest.mark.parametrize("demand_mw", [0, 7_000, 12_000, 2**64 - 1])
@pytest.mark.parametrize("limit_uj", [0, 24_000_000, 50_000_000])
@pytest.mark.parametrize("acked_uj", [0, 1_200_000, 1_200_001])
@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("cwr", [False, True])
def test_a_plain_credit_does_what_one_with_options_does(
    *, demand_mw: int, limit_uj: int, acked_uj: int, blocked: bool, cwr: bool
) -> None:
    said = []
    for area in (b"", bytes((1, 1, 1, 1))):
        pair, flow = powered()
        pair.source.send_samples(flow, [pair.block(flow, 100)], now=pair.now)
        pair.counters[flow] = 100
        if blocked:
            pair.source.send_samples(flow, [pair.block(flow, 8_000)], now=pair.now)
        whole = credit_segment(flow, acked_uj, limit_uj, demand_mw, cwr=cwr)
        octets = pack_segment(3, whole[5], flow, acked_uj, area, whole[20:])
        pair.source.data_to_send()
        pair.source.take_events()
        pair.source.receive_data(octets, pair.now)
        status = pair.source.status(flow) if pair.source.flows else None
        said.append((pair.source.take_events(), status, pair.source.data_to_send()))
    assert said[0] == said[1]


def test_one_block_is_refused_when_no_power_flows_or_it_does_not_follow() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    block = encode_block(0, np.array([[12_000, 0]]))
    (sums,) = integrate_many([block], 20)
    with pytest.raises(LocalProtocolError, match="no power flows in state RAMPING"):
        pair.source.send_block(flow, block, sums, now=pair.now)
    pair.source.ready(flow, now=pair.now)
    assert pair.source.send_block(flow, block, sums, now=pair.now)
    with pytest.raises(LocalProtocolError, match="sample 0 where 1 is next"):
        pair.source.send_block(flow, block, sums, now=pair.now)


@pytest.mark.requirement("PTCP-6-06")
@pytest.mark.parametrize("given", [False, True])
def test_blocks_behind_the_last_of_the_granted_energy_are_not_taken(*, given: bool) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,energy=3J")
    samples = np.array([[12_000, 1_000_000]] * 100)
    blocks = [encode_block(100 * at, samples) for at in range(5)]
    sums = integrate_many(blocks, 20) if given else None
    assert pair.source.send_samples(flow, blocks, sums, now=pair.now) == 3
    pair.exchange()
    assert reason_of(pair) == Reason.NORMAL


@pytest.mark.requirement("LEDG-6-03")
def test_no_block_is_taken_while_a_receipt_is_overdue() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.answers = False
    assert pair.run(flow, 110) == 109
    assert pair.run(flow, 3) == 0
    assert pair.said(SOURCE, Blocked) == []
    pair.answers = True
    pair.exchange()
    assert pair.run(flow, 3) == 3
