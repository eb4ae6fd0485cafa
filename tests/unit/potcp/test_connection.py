"""The verbs of a connection: what they refuse, and several powers side by side."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from powertcp.dve import integrate_many
from powertcp.errors import LocalProtocolError
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    ConnectionTerminated,
    FlowClosed,
    FlowRefused,
    FlowResumed,
    FlowTripped,
    HeatCounted,
    PageReceived,
    PageSigned,
    PowerGranted,
    PowerOffered,
    PowerReady,
    PowerRequested,
    SamplesReceived,
    TicketReceived,
)
from powertcp.potcp.pages import Pages
from powertcp.profile import ProfileType
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import Maintain, Options
from powertcp.wire.segments import Answer, Control, Ready
from tests.conversation import SINK, SOURCE, START, Pair, ask, counting_entropy, profile, segments
from tests.metered import NIGHT, MeteredPair, meter_of

WHY = Refusal(Reason.BUDGET, 60_000, 14_200)
DC, AC = "5V/3A", "230V/10A@50Hz"


@pytest.mark.requirement("PTCP-11-01")
def test_two_powers_on_one_connection_each_with_its_own_contract_and_energy() -> None:
    pair = Pair()
    flows = pair.energise(DC), pair.energise(AC)
    assert flows == (1, 3)
    for _ in range(3):
        for flow in flows:
            assert pair.deliver(flow, 100) == 1
    for flow, text in zip(flows, (DC, AC), strict=True):
        near, far = (end.status(flow) for end in pair.ends)
        assert near.profile is not None
        assert near.profile.format().startswith(text)
        assert near.esn_uj == far.esn_uj > 0
        assert near.contract == far.contract == 1
        assert pair.source.credit_left_uj(flow) == far.limit_uj - far.esn_uj
        assert pair.source.demand_mw(flow) == profile(text).power_mw
        assert pair.source.key(flow) > 0
        assert pair.sink.key(flow) == 0


@pytest.mark.requirement("PTCP-11-02")
def test_a_trip_or_reset_of_one_flow_leaves_the_other_alone() -> None:
    pair = Pair()
    first, second, third = pair.energise(DC), pair.energise(AC), pair.energise("12V/1A")
    pair.source.trip(first, WHY, now=pair.now)
    pair.sink.reset_flow(third, WHY, now=pair.now)
    pair.exchange()
    assert {event.flow for event in pair.take(SINK, FlowTripped)} == {first}
    assert {event.flow for event in pair.take(SOURCE, FlowClosed)} == {first, third}
    assert pair.sink.flows == pair.source.flows == (second,)
    pair.take(SINK, SamplesReceived)
    assert pair.deliver(second, 100) == 1
    assert pair.one(SINK, SamplesReceived).flow == second


@pytest.mark.requirement("PTCP-11-01", "PTCP-14-01")
def test_256_flows_and_not_257() -> None:
    pair = Pair(churn_per_s=10_000)
    for _ in range(256):
        pair.sink.open_flow([ask("5V/0.1A")], now=pair.now)
    pair.exchange()
    assert len(pair.take(SOURCE, PowerRequested)) == 256
    with pytest.raises(LocalProtocolError, match="256 flows, 256 are allowed"):
        pair.sink.open_flow([ask("5V/0.1A")], now=pair.now)
    assert len(pair.source.flows) == 256


@pytest.mark.requirement("PTCP-11-01", "PTCP-14-01")
def test_the_257th_syn_of_a_peer_is_refused_508_and_costs_no_flow() -> None:
    pair = Pair(churn_per_s=10_000, flows=4)
    greedy = Pair(churn_per_s=10_000, flows=5)
    greedy.source = pair.source
    for _ in range(5):
        greedy.sink.open_flow([ask("5V/0.1A")], now=greedy.now)
    greedy.exchange()
    refused = greedy.one(SINK, FlowRefused)
    assert (refused.flow, refused.refusal.code) == (9, Reason.LIMIT)
    assert (refused.refusal.value, refused.refusal.limit) == (5, 4)
    assert len(greedy.source.flows) == 4


@pytest.mark.parametrize("count", [0, 5])
def test_one_to_four_wishes(count: int) -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError, match=r"asks, 1\.\.4 are allowed"):
        pair.sink.open_flow([ask("5V/1A")] * count, now=pair.now)
    assert pair.sink.data_to_send() == b""


def test_a_wish_for_a_fallback_reaches_the_owner() -> None:
    pair = Pair()
    pair.request(ask("12V/1A", "9V/0.5A"), fallback=profile("12V/0.1A"))
    request = pair.one(SOURCE, PowerRequested)
    assert request.fallback is not None
    assert request.fallback.current_ma == 100
    tags = {one.tag for one in (*request.asks[0], request.fallback) if one is not None}
    assert len(tags) == 1


MISUSES: dict[str, Callable[[Pair, int], object]] = {
    "accept": lambda p, f: p.sink.accept(f, profile("12V/1A"), now=p.now),
    "decline": lambda p, f: p.sink.decline(f, now=p.now),
    "grant": lambda p, f: p.source.grant(f, profile("12V/1A"), now=p.now),
    "counter": lambda p, f: p.source.counter(f, [(profile("12V/1A"), None)], WHY, now=p.now),
    "no offers": lambda p, f: p.source.counter(f, [], WHY, now=p.now),
    "refuse": lambda p, f: p.source.refuse(f, WHY, now=p.now),
    "ready": lambda p, f: p.source.ready(f, now=p.now),
    "answer nothing": lambda p, f: p.sink.answer(f, True, now=p.now),
    "reject nothing": lambda p, f: p.source.answer(f, False, now=p.now),
    "no terms": lambda p, f: p.source.answer(f, True, now=p.now),
    "no proposal": lambda p, f: p.source.answer(f, True, profile=profile("12V/1A"), now=p.now),
    "sink of a source": lambda p, f: p.source.set_demand(f, 1, now=p.now),
    "source of a sink": lambda p, f: p.sink.ready(f, now=p.now),
    "samples of a sink": lambda p, f: p.sink.send_samples(f, [], now=p.now),
    "no wishes": lambda p, f: p.sink.renegotiate(f, [], now=p.now),
    "five wishes": lambda p, f: p.sink.renegotiate(f, [ask("12V/1A")] * 5, now=p.now),
    "source without wishes": lambda p, f: p.source.renegotiate(f, [], now=p.now),
    "unknown": lambda p, f: p.sink.close_flow(f + 2, now=p.now),
    "unknown status": lambda p, f: p.sink.status(f + 2),
    "unknown samples": lambda p, f: p.source.send_samples(f + 2, [], now=p.now),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_raises_and_changes_nothing(misuse: str) -> None:
    pair = Pair()
    flow = pair.energise("12V/1.5A", "5V/0.5A")
    before = [end.status(flow) for end in pair.ends]
    with pytest.raises(LocalProtocolError):
        MISUSES[misuse](pair, flow)
    assert [end.status(flow) for end in pair.ends] == before
    assert [end.data_to_send() for end in pair.ends] == [b"", b""]


@pytest.mark.requirement("PTCP-9-01")
def test_only_one_proposal_may_be_open() -> None:
    pair = Pair()
    flow = pair.energise("12V/1.5A", "5V/0.5A")
    assert pair.sink.may_propose(flow)
    assert not pair.sink.may_propose(flow + 2)
    pair.sink.renegotiate(flow, [ask("12V/1A")], now=pair.now)
    assert not pair.sink.may_propose(flow)
    with pytest.raises(LocalProtocolError, match="proposal 2 is unanswered"):
        pair.sink.renegotiate(flow, [ask("12V/1A")], now=pair.now)


def test_a_grant_or_an_offer_needs_a_request() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    with pytest.raises(LocalProtocolError):
        pair.source.counter(flow, [(profile("12V/1A"), None)] * 9, WHY, now=pair.now)
    with pytest.raises(LocalProtocolError):
        pair.source.grant(flow, profile("12V/1A"), now=pair.now)


@pytest.mark.requirement("PTCP-4-06")
@pytest.mark.parametrize(
    ("interval_ms", "lease", "granted"),
    [
        (30_000, "91s", False),
        (30_000, "92s", True),
        (1_700, "5s", False),
        (1_700, "6s", True),
        (2_000, "6s", False),
        (2_000, "7s", True),
    ],
)
def test_a_lease_outlasts_the_probes_or_is_refused_108(
    interval_ms: int, lease: str, granted: bool
) -> None:
    pair = Pair()
    wish = Maintain(interval_ms, 3)
    flow = pair.request(ask("12V/1A"), maintain=wish)
    pair.source.grant(flow, profile(f"12V/1A,lease={lease}"), now=pair.now)
    pair.exchange()
    refusals = [event.refusal for event in pair.take(SINK, FlowRefused)]
    assert ([] if granted else [Reason.LEASE_RANGE]) == [one.code for one in refusals]


def test_an_offer_may_have_a_minimum_and_a_lease_of_its_own() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    offer = profile("12V/0.8A,lease=30s"), profile("12V/0.2A", ProfileType.MINIMUM)
    pair.source.counter(flow, [offer, (profile("9V/1A"), None)], WHY, now=pair.now)
    pair.exchange()
    offers = pair.one(SINK, PowerOffered).offers
    assert [one.offer.lease_s for one in offers] == [30, 60]
    assert [one.minimum is not None for one in offers] == [True, False]


@pytest.mark.requirement("PTCP-7-04")
@pytest.mark.parametrize(
    ("priority", "wanted_ms", "deadline_ms"),
    [(1, 100, 1000), (2, 100, 100), (2, 5, 100), (0, 90_000, 60_000), (0, None, 1000)],
)
def test_the_deadline_of_a_shed_is_kept_in_its_bounds(
    priority: int, wanted_ms: int | None, deadline_ms: int
) -> None:
    pair = Pair()
    flow = pair.energise(f"12V/1A,prio={priority}")
    ceiling = profile("12V/0.5A")
    pair.source.shed(flow, ceiling, refusal=WHY, deadline_ms=wanted_ms, now=pair.now)
    assert pair.source.get_timer() == pair.now + min(deadline_ms, 1000) * 1_000_000
    pair.exchange()
    assert pair.source.status(flow).profile.current_ma == 500  # type: ignore[union-attr]


@pytest.mark.requirement("PTCP-7-04")
def test_an_urgent_shed_holds_at_once() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, urgent=True, now=pair.now)
    assert pair.source.status(flow).profile.current_ma == 500  # type: ignore[union-attr]


def test_either_side_proposes_and_the_other_answers() -> None:
    pair = Pair()
    flow = pair.energise("12V/1.5A", "5V/0.5A")
    pair.take(SINK, PowerReady)
    pair.sink.renegotiate(flow, [ask("12V/1A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, True, profile=profile("12V/1A"), now=pair.now)
    pair.exchange()
    assert pair.one(SINK, PowerReady).profile.format() == "12V/1A,lease=60s"
    pair.source.renegotiate(flow, [ask("12V/1.2A")], WHY, now=pair.now)
    pair.exchange()
    pair.sink.answer(flow, True, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, PowerReady).profile.current_ma == 1200


def test_head_room_bounds_the_window() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    before = pair.sink.status(flow).limit_uj
    assert before == 24_000_000
    pair.sink.set_headroom(flow, 10, now=pair.now)
    pair.sink.set_headroom(flow, None, now=pair.now)
    assert pair.sink.status(flow).limit_uj == before


@pytest.mark.requirement("PTCP-13-01")
def test_shutdown_closes_each_flow_as_its_state_allows() -> None:
    pair = Pair()
    pair.energise(DC)
    pair.request(ask(AC))
    pair.source.shutdown(refusal=Refusal(Reason.DRAINING), now=pair.now)
    pair.source.shutdown(now=pair.now)
    pair.exchange()
    closed = pair.take(SOURCE, FlowClosed)
    assert {event.flow for event in closed} == {1, 3}
    assert pair.sink.flows == pair.source.flows == ()


def test_abort_says_why_once_and_then_nothing_may_be_asked() -> None:
    pair = Pair()
    flow = pair.energise(DC)
    pair.source.abort(WHY, now=pair.now)
    pair.source.abort(WHY, now=pair.now)
    pair.exchange()
    for side in (SINK, SOURCE):
        assert pair.one(side, ConnectionTerminated).refusal == WHY
        assert pair.one(side, FlowClosed).flow == flow
    said = [one for one in pair.said(SOURCE, Control) if isinstance(one, Control)]
    assert [one.options.reason for one in said if one.flow == 0] == [WHY]
    with pytest.raises(LocalProtocolError, match="the connection is over"):
        pair.sink.open_flow([ask(DC)], now=pair.now)
    with pytest.raises(LocalProtocolError, match="flow 1 is over"):
        pair.sink.close_flow(flow, now=pair.now)


@pytest.mark.requirement("PTCP-1-04")
@pytest.mark.parametrize("floor", ["9V/0.1A", "12V/1.1A", "12V/0.1A@50Hz", "12V/0.1A/split"])
def test_a_fallback_is_granted_with_less_current_and_nothing_else_changed(floor: str) -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A,prio=2"), fallback=profile("12V/0.1A"))
    grant = profile("12V/1A,prio=2")
    with pytest.raises(LocalProtocolError, match="differs in current only"):
        pair.source.grant(flow, grant, fallback=profile(floor), now=pair.now)
    pair.source.grant(flow, grant, fallback=profile("12V/0.1A"), now=pair.now)
    pair.exchange()
    granted = pair.one(SINK, PowerGranted)
    assert granted.fallback == granted.profile.with_type(ProfileType.FALLBACK, current_ma=100)


@pytest.mark.requirement("PTCP-1-04")
def test_a_sink_does_not_take_a_fallback_of_another_power() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    status = pair.source.status(flow)
    assert status.profile is not None
    other = status.profile.with_type(ProfileType.FALLBACK, voltage_mv=9_000, current_ma=1)
    ready = Ready(flow, 0, Options(contract=1, profiles=(status.profile, other)))
    pair.sink.renegotiate(flow, [ask("12V/1A")], now=pair.now)
    pair.pump(SINK)
    pair.sink.receive_data(encode_segment(Answer(flow, 0, True, Options(contract=2))), pair.now)
    octets = encode_segment(replace(ready, options=replace(ready.options, contract=2)))
    pair.sink.receive_data(octets, pair.now)
    pair.collect()
    assert pair.one(SINK, FlowClosed).refusal.code == Reason.BAD_OPTION  # type: ignore[union-attr]


def server(**config: int) -> PowerConnection:
    """Return the end that was connected to, with nothing received."""
    end = PowerConnection(
        client=False, config=ConnectionConfig(**config), entropy=counting_entropy()
    )
    end.start(START)
    return end


def first_syn() -> bytes:
    """Return the octets of the first SYN of a client."""
    pair = Pair()
    pair.sink.open_flow([ask("12V/1.5A", "5V/0.5A")], now=pair.now)
    return pair.sink.data_to_send()


def test_the_write_limit_follows_the_longest_lease() -> None:
    pair = Pair()
    assert pair.source.write_limit_ns == 65 * NS_PER_S
    pair.energise(grant="12V/1.5A,lease=304s")
    pair.energise(grant="12V/1.5A,lease=30s")
    assert pair.source.write_limit_ns == 309 * NS_PER_S


@pytest.mark.requirement("PTCP-14-02")
def test_without_a_whole_segment_in_5_s_the_connection_ends_507() -> None:
    end = server()
    end.receive_data(first_syn()[:-1], START + 4 * NS_PER_S)
    assert end.get_timer() == START + 5 * NS_PER_S
    end.handle_timer(START + 5 * NS_PER_S - 1)
    assert not end.is_terminated
    end.handle_timer(START + 5 * NS_PER_S)
    assert reasons(end.data_to_send()) == [(0, Reason.TIMEOUT)]
    assert end.is_terminated
    client = PowerConnection(client=True, config=ConnectionConfig(), entropy=counting_entropy())
    client.start(START)
    assert client.get_timer() is None


def reasons(octets: bytes) -> list[tuple[int, int]]:
    """Return (flow, code) of every RST in the octets."""
    return [
        (one.flow, one.options.reason.code)
        for one in segments(octets)
        if isinstance(one, Control) and one.flags == Flag.RST and one.options.reason is not None
    ]


@pytest.mark.requirement("PTCP-14-02")
def test_the_timer_is_the_earliest_of_flows_and_probes_and_found_once() -> None:
    end = server()
    end.receive_data(first_syn(), START)
    # whatever asked for it: nothing has a deadline before the owner has answered
    assert end.get_timer() is None
    end.grant(1, profile("12V/1.5A"), now=START)
    probe, offer = START + NS_PER_S, START + 2 * NS_PER_S
    assert [end.get_timer(), end.get_timer()] == [probe, probe]
    end.handle_timer(probe)
    # the next probe and T_OFFER fall together
    assert end.get_timer() == offer
    end.handle_timer(offer - 1)
    assert end.get_timer() == offer
    end.handle_timer(offer)
    assert reasons(end.data_to_send()) == [(1, Reason.TIMEOUT)]
    assert [type(event) for event in end.take_events()] == [PowerRequested, FlowClosed]


def test_the_earliest_deadline_of_several_flows_holds_whatever_their_order() -> None:
    for leases in (("6s", "60s"), ("60s", "6s")):
        pair = Pair()
        for lease in leases:
            pair.energise(f"12V/1A,lease={lease}")
        pair.pass_at(SINK, 5.8)
        due = pair.sink.get_timer()
        leases_until = [pair.sink.status(flow).lease_until_ns for flow in pair.sink.flows]
        assert due == min(time for time in leases_until if time is not None)


def test_a_connection_without_flows_probes_nobody_and_a_dead_one_has_no_timer() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    due = pair.sink.get_timer()
    assert due == pair.now + NS_PER_S
    pair.sink.handle_timer(due)
    assert pair.sink.data_to_send() == b""
    assert pair.sink.get_timer() == due + NS_PER_S
    assert not pair.sink.is_terminated
    pair.sink.abort(WHY, now=due)
    assert pair.sink.is_terminated
    pair.sink.handle_timer(due + 10 * NS_PER_S)
    assert pair.sink.get_timer() is None


def test_time_backwards_is_our_own_bug() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    calls: list[Callable[[int], object]] = [
        lambda now: pair.sink.handle_timer(now),
        lambda now: pair.sink.receive_eof(now),
        lambda now: pair.sink.receive_data(b"", now),
        lambda now: pair.sink.set_demand(flow, 1, now=now),
        lambda now: pair.sink.shutdown(now=now),
        lambda now: pair.sink.abort(WHY, now=now),
    ]
    for call in calls:
        with pytest.raises(LocalProtocolError, match="clock went back"):
            call(pair.now - 1)
    assert pair.sink.status(flow).state == "ENERGISED"


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-05")
def test_a_resumed_flow_needs_no_second_grant_even_if_its_syn_named_no_sampling() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    ticket = pair.one(SINK, TicketReceived).ticket
    pair.deliver(flow, 10)
    pair.cut()
    again = Pair(office=pair.office, now=pair.now)
    bare = Options(profiles=(profile("12V/1A"),), ticket=ticket)
    again.source.receive_data(encode_segment(Control(1, Flag.SYN, 120_000, bare)), again.now)
    again.collect()
    assert again.one(SOURCE, FlowResumed).esn_uj == 120_000
    with pytest.raises(LocalProtocolError, match="nothing was asked"):
        again.source.grant(1, profile("12V/1A"), now=again.now)
    assert again.source.status(1).state == "OFFERED"


def test_data_of_a_flow_that_is_over_is_counted_as_heat_of_nobody() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    assert pair.sink.stray_octets == 0
    pair.source.send_samples(flow, [pair.block(flow, 10)], now=pair.now)
    late = pair.source.data_to_send()
    pair.source.reset_flow(flow, WHY, now=pair.now)
    pair.pump(SOURCE)
    pair.sink.receive_data(late, pair.now)
    pair.collect()
    assert pair.sink.stray_octets == 8 + 10 * 8
    assert pair.one(SINK, HeatCounted).energy_uj == 0


def test_one_block_of_known_sums_is_sent_as_many_are() -> None:
    sent = []
    for alone in (False, True):
        pair = Pair()
        flow = pair.energise("12V/1A")
        blocks = [pair.block(flow, 10)]
        (sums,) = integrate_many(blocks, 20)
        if alone:
            assert pair.source.send_block(flow, blocks[0], sums, now=pair.now)
        else:
            assert pair.source.send_samples(flow, blocks, [sums], now=pair.now) == 1
        sent.append(pair.source.data_to_send())
        with pytest.raises(LocalProtocolError, match="not ours to supply"):
            pair.sink.send_block(flow, blocks[0], sums, now=pair.now)
        with pytest.raises(LocalProtocolError, match="not ours to supply"):
            pair.source.send_block(flow + 2, blocks[0], sums, now=pair.now)
    assert sent[0] == sent[1] != b""


@pytest.mark.requirement("PTCP-3.1-01")
def test_our_own_wishes_fit_the_sampling_or_are_misuse() -> None:
    pair = Pair()
    wye = ask("230V/1A@50Hz/wye")
    with pytest.raises(LocalProtocolError, match="one sampling for all asks"):
        pair.sink.open_flow([ask("230V/1A@50Hz"), wye], now=pair.now)
    assert pair.sink.flows == ()
    flow = pair.energise("230V/1A@50Hz")
    with pytest.raises(LocalProtocolError, match="109 SAMPLING"):
        pair.sink.renegotiate(flow, [wye], now=pair.now)
    assert pair.sink.may_propose(flow)


@pytest.mark.requirement("LEDG-6-02", "LEDG-6-03", "LEDG-7-06")
def test_the_verbs_of_receipts() -> None:
    pair = MeteredPair()
    flow = pair.energise(ours=meter_of(SINK, 1))
    pair.answers = pair.keeps = False
    pair.run(flow, 10)
    page = pair.one(SINK, PageReceived)
    copy = pair.books.answer(page)
    assert copy is not None
    with pytest.raises(LocalProtocolError, match="not ours to consume"):
        pair.source.countersign(flow, copy, now=pair.now)
    pair.sink.countersign(flow, copy, now=pair.now)
    pair.exchange()
    assert pair.one(SOURCE, PageSigned).octets == copy
    with pytest.raises(LocalProtocolError, match="not ours to supply"):
        pair.sink.keep_page(flow, copy, now=pair.now)
    pair.source.keep_page(flow, copy, now=pair.now)
    pair.run(flow, 110)
    assert pair.source.credit_left_uj(flow) == 0
    assert pair.sink.credit_left_uj(flow) > 0
    pair.sink.dispute(flow, Refusal(Reason.RECEIPT_INVALID, 1, 2), now=pair.now)
    pair.exchange()
    assert pair.source.status(flow).signed_uj == pair.sink.status(flow).signed_uj
    with pytest.raises(LocalProtocolError, match="the price is the source's"):
        pair.sink.renegotiate(flow, [ask("12V/1A")], tariff=NIGHT, now=pair.now)
    mark = Pages(meter_of(SINK), bytes(32), bytes(32), 1, None).mark()
    with pytest.raises(LocalProtocolError, match="the meter and the ticket of before"):
        pair.sink.open_flow([ask("12V/1A")], pages=mark, now=pair.now)
