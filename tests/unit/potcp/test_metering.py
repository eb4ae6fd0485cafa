"""Receipts between two ends: made at their time, countersigned, overdue, disputed, resumed."""

import pytest

from powertcp.potcp.events import FlowClosed, FlowClosing, PowerGranted
from tests.conversation import SINK, SOURCE
from tests.metered import DAY, SINK_KEY, SOURCE_KEY, MeteredPair, meter_of


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
