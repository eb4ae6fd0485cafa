"""The consumer's end of a flow, in conversation with a real source."""

from dataclasses import replace

import numpy as np
import pytest

from powertcp.dve import encode_block
from powertcp.errors import LocalProtocolError
from powertcp.potcp.events import (
    Alerted,
    FlowClosed,
    FlowCut,
    FlowRefused,
    FlowTripped,
    HeatCounted,
    LeaseLapsed,
    LeaseRestored,
    PowerAccepted,
    PowerGranted,
    PowerOffered,
    PowerReady,
    PowerRequested,
    RenegotiationAnswered,
    RenegotiationRequested,
    SamplesReceived,
    ShedReceived,
    TicketReceived,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import credit_segment, data_header, encode_segment
from powertcp.wire.options import Maintain, Options, Sampling
from powertcp.wire.segments import (
    Alert,
    Answer,
    Control,
    CookieSegment,
    MaintainProbe,
    Ready,
    Reneg,
    Shed,
    Trip,
)
from tests.conversation import SINK, SOURCE, Pair, ask, profile, segments

WHY = Refusal(Reason.BUDGET, 60_000, 14_200)


def samples_of(pair: Pair, flow: int, values: list[tuple[int, int]]) -> bytes:
    """Return DATA octets for the sink with the right ESN and counter and these samples."""
    status = pair.source.status(flow)
    payload = encode_block(pair.counters.get(flow, 0), np.array(values))
    return data_header(flow, status.esn_uj, len(payload)) + payload


@pytest.mark.requirement("PTCP-4-09")
def test_the_name_of_a_provider_behind_a_gateway_is_in_no_transcript() -> None:
    plain, named = Pair(), Pair()
    for pair, via in ((plain, None), (named, "lab")):
        pair.sink.open_flow([ask("12V/1A")], via=via, now=pair.now)
    octets = [pair.sink.data_to_send() for pair in (plain, named)]
    assert b"lab" in octets[1]
    # whoever relays the SYN takes VIA out of it
    named.source.receive_data(octets[0], named.now)
    requested = named.source.take_events()[0]
    assert isinstance(requested, PowerRequested)
    named.source.grant(requested.flow, requested.asks[0].desired, now=named.now)
    named.exchange()
    assert named.one(SINK, PowerGranted).profile.power_mw == 12_000
    assert named.one(SOURCE, PowerAccepted)


@pytest.mark.requirement("PTCP-4-01", "PTCP-4-05")
def test_a_grant_is_latched_and_power_flows_after_ready() -> None:
    pair = Pair()
    flow = pair.energise("12V/1.5A", "5V/0.5A")
    granted = pair.one(SINK, PowerGranted)
    ready = pair.one(SINK, PowerReady)
    assert granted.profile.format() == "12V/1.5A,lease=60s"
    assert (ready.contract, ready.resumed) == (1, False)
    pair.deliver(flow)
    banked = pair.one(SINK, SamplesReceived)
    assert (banked.count, banked.energy_uj, banked.esn_uj) == (100, 1_800_000, 1_800_000)
    assert banked.sim
    assert banked.samples is None


@pytest.mark.requirement("PTCP-4-08")
def test_a_syn_is_repeated_once_with_its_cookie() -> None:
    pair = Pair()
    pair.office.half_open = pair.office.half_open_cookie
    pair.request(ask("12V/1A"))
    syns = [s for s in pair.said(SINK, Control) if isinstance(s, Control)]
    assert [syn.options.cookie is not None for syn in syns] == [False, True]
    again = encode_segment(CookieSegment(1, 0, b"\1" * 32))
    pair.inject(SINK, again)
    assert pair.one(SINK, FlowClosed).refusal.code == Reason.STATE  # type: ignore[union-attr]


@pytest.mark.requirement("PTCP-4-01", "PTCP-4-07")
def test_a_counter_offer_is_accepted_within_its_range() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/2A"))
    offers = [(profile("12V/1A"), profile("12V/0.5A", ProfileType.MINIMUM))]
    pair.source.counter(flow, offers, WHY, now=pair.now)
    pair.exchange()
    offered = pair.one(SINK, PowerOffered)
    assert offered.refusal is not None
    assert offered.refusal.code == Reason.BUDGET
    chosen = replace(offered.offers[0].offer, current_ma=700)
    pair.sink.accept(flow, chosen, now=pair.now)
    pair.exchange()
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, PowerReady).profile.current_ma == 700
    assert pair.source.status(flow).esn_uj == 0


@pytest.mark.requirement("PTCP-4-04")
def test_an_owner_takes_nothing_that_was_not_offered_and_the_lease_that_was() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/2A"))
    pair.source.counter(flow, [(profile("12V/1A,lease=3600s"), None)], WHY, now=pair.now)
    pair.exchange()
    with pytest.raises(LocalProtocolError, match="12V/2A was not offered"):
        pair.sink.accept(flow, profile("12V/2A"), now=pair.now)
    assert pair.sink.status(flow).state == "OFFERED"
    pair.sink.accept(flow, profile("12V/1A,prio=1,lease=9s"), now=pair.now)
    pair.exchange()
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    mine, theirs = pair.sink.status(flow).profile, pair.source.status(flow).profile
    assert mine == theirs
    assert mine is not None
    assert (mine.lease_s, mine.priority) == (3568, 0)


@pytest.mark.requirement("PTCP-4-06")
@pytest.mark.parametrize(
    ("wishes", "lease", "code"),
    [
        (["12V/2A,lease=5s"], 5, None),
        (["12V/2A,lease=5s"], 6, Reason.LEASE_RANGE),
        (["12V/2A,lease=5s"], 3600, Reason.LEASE_RANGE),
        (["12V/2A,lease=5s", "12V/1.5A,lease=20s"], 20, None),
        (["12V/2A,lease=5s", "12V/1.5A,lease=20s"], 22, Reason.LEASE_RANGE),
        (["12V/2A,lease=5s", "12V/1.5A"], 3600, None),
        (["12V/2A"], 4, Reason.LEASE_RANGE),
    ],
)
def test_an_offer_of_a_lease_that_was_not_asked_for_is_reset_108_when_it_is_taken(
    wishes: list[str], lease: int, code: int | None
) -> None:
    pair = Pair()
    flow = pair.request(*map(ask, wishes))
    pair.source.counter(flow, [(profile(f"12V/1A,lease={lease}s"), None)], WHY, now=pair.now)
    pair.exchange()
    offered = pair.one(SINK, PowerOffered).offers[0].offer
    pair.sink.accept(flow, offered, now=pair.now)
    pair.exchange()
    closings = [pair.take(side, FlowClosed) for side in (SINK, SOURCE)]
    codes = [one.refusal and one.refusal.code for found in closings for one in found]
    assert codes == ([] if code is None else [code, code])
    if code is not None:
        assert pair.source.flows == pair.sink.flows == ()


def test_a_counter_offer_is_declined() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/2A"))
    pair.source.counter(flow, [(profile("12V/1A"), None)], WHY, now=pair.now)
    pair.exchange()
    pair.sink.decline(flow, WHY, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, FlowClosed).refusal == WHY
    assert pair.one(SOURCE, FlowClosed).refusal is not None


@pytest.mark.requirement("PTCP-4-07")
def test_a_refusal_says_why_and_what_would_do() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/2A"))
    pair.source.refuse(flow, replace(WHY, retry_ms=5000), profile("12V/1A"), now=pair.now)
    pair.exchange()
    refused = pair.one(SINK, FlowRefused)
    assert refused.refusal.retry_ms == 5000
    assert refused.best is not None
    assert refused.best.type is ProfileType.REFUSE
    assert pair.one(SINK, FlowClosed).flow == flow


def syn_ack(**changes: object) -> bytes:
    options: dict[str, object] = {
        "contract": 1,
        "profiles": (profile("12V/1A,lease=60s", ProfileType.GRANT),),
        "sampling": Sampling(1000),
        "maintain": Maintain(),
    }
    options.update(changes)
    esn = options.pop("esn", 0)
    flags = Flag.SYN | Flag.ACK
    return encode_segment(Control(1, flags, esn, Options(**options)))  # type: ignore[arg-type]


@pytest.mark.requirement("PTCP-3.2-01", "PTCP-4-01", "PTCP-9-06")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sampling": None}, Reason.SAMPLING),
        ({"sampling": Sampling(1001)}, Reason.SAMPLING),
        ({"sampling": Sampling(9)}, Reason.SAMPLING),
        ({"sampling": Sampling(1000, pairs=2)}, Reason.SAMPLING),
        ({"contract": None}, Reason.BAD_OPTION),
        ({"contract": 2}, Reason.STATE),
        ({"profiles": ()}, Reason.LIMIT),
        ({"profiles": (profile("12V/2A", ProfileType.GRANT),)}, Reason.NOT_OFFERED),
        ({"profiles": (profile("12V/2A", ProfileType.MINIMUM),)}, Reason.BAD_OPTION),
        ({"esn": 5}, Reason.METER_MISMATCH),
    ],
)
def test_a_syn_ack_that_breaks_a_rule_is_reset(changes: dict[str, object], code: int) -> None:
    pair = Pair()
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.sink.data_to_send()
    pair.inject(SINK, syn_ack(**changes))
    refusal = pair.one(SINK, FlowClosed).refusal
    assert refusal is not None
    assert refusal.code == code


def test_without_maintain_in_the_syn_ack_the_own_wish_holds() -> None:
    pair = Pair()
    pair.sink.open_flow([ask("12V/1A")], maintain=Maintain(2000, 4), now=pair.now)
    pair.inject(SINK, syn_ack(maintain=None))
    assert (pair.sink.interval_ms, pair.sink.misses) == (2000, 4)


@pytest.mark.requirement("PTCP-4-05")
def test_data_before_ready_is_heat_and_trips_305() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    payload = encode_block(0, np.array([[12_000, 1_000_000]] * 10))
    pair.sink.receive_data(data_header(flow, 0, len(payload)) + payload, pair.now)
    pair.collect()
    assert pair.one(SINK, HeatCounted).energy_uj == 120_000
    tripped = pair.one(SINK, FlowTripped)
    assert (tripped.refusal.code, tripped.by_peer) == (Reason.UNSOLICITED, False)


@pytest.mark.requirement("PTCP-9-01", "PTCP-9-03")
def test_other_terms_hold_from_ready_on() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.take(SINK, PowerReady)
    pair.sink.renegotiate(flow, [ask("12V/0.5A")], now=pair.now)
    with pytest.raises(LocalProtocolError, match="unanswered"):
        pair.sink.renegotiate(flow, [ask("12V/0.4A")], now=pair.now)
    pair.exchange()
    request = pair.one(SOURCE, RenegotiationRequested)
    assert request.contract % 2 == 0
    pair.source.answer(flow, True, profile=profile("12V/0.5A"), now=pair.now)
    pair.exchange()
    assert pair.one(SINK, RenegotiationAnswered).accepted
    assert pair.one(SINK, PowerReady).profile.current_ma == 500


def test_a_rejected_proposal_leaves_the_old_terms() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.sink.renegotiate(flow, [ask("12V/0.5A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, False, refusal=WHY, now=pair.now)
    pair.exchange()
    answered = pair.one(SINK, RenegotiationAnswered)
    assert (answered.accepted, answered.refusal and answered.refusal.code) == (False, 309)
    assert pair.sink.status(flow).outstanding is False
    assert pair.sink.get_timer() is not None


@pytest.mark.requirement("PTCP-9-07")
def test_in_glare_the_source_wins_and_each_proposal_has_one_answer() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.sink.renegotiate(flow, [ask("12V/0.5A")], now=pair.now)
    terms = ask("12V/0.7A")
    pair.source.renegotiate(flow, [terms], now=pair.now)
    pair.exchange()
    answered = pair.one(SINK, RenegotiationAnswered)
    assert (answered.accepted, answered.refusal and answered.refusal.code) == (False, 107)
    pair.one(SINK, RenegotiationRequested)
    pair.sink.answer(flow, True, now=pair.now)
    pair.exchange()
    assert pair.sink.status(flow).profile == pair.source.status(flow).profile
    assert len(pair.said(SINK, Answer)) == len(pair.said(SOURCE, Answer)) == 1


def test_an_own_proposal_is_void_when_the_sink_yields_to_a_shed() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.sink.renegotiate(flow, [ask("12V/0.5A")], now=pair.now)
    ceiling = profile("12V/0.3A", ProfileType.OFFER)
    pair.source.shed(flow, ceiling, refusal=WHY, now=pair.now)
    pair.exchange()
    shed = pair.one(SINK, ShedReceived)
    assert (shed.deadline_ms, shed.ceiling.current_ma, shed.urgent) == (1000, 300, False)
    assert not pair.one(SINK, RenegotiationAnswered).accepted
    assert pair.sink.status(flow).state == "ENERGISED"
    assert pair.sink.status(flow).profile == pair.source.status(flow).profile


def test_a_proposal_of_the_source_may_be_rejected() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.source.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    pair.one(SINK, RenegotiationRequested)
    pair.sink.answer(flow, False, refusal=WHY, now=pair.now)
    pair.exchange()
    assert not pair.one(SOURCE, RenegotiationAnswered).accepted
    with pytest.raises(LocalProtocolError, match="nothing to answer"):
        pair.sink.answer(flow, False, now=pair.now)
    with pytest.raises(LocalProtocolError, match="nothing to answer"):
        pair.sink.answer(flow, True, now=pair.now)


def energised_sink() -> tuple[Pair, int]:
    pair = Pair()
    flow = pair.energise("12V/1A")
    return pair, flow


GRANT = profile("12V/1A,lease=60s", ProfileType.GRANT)


def shed_to(text: str) -> bytes:
    options = Options(contract=3, profiles=(profile(text, ProfileType.OFFER),))
    return encode_segment(Shed(1, 0, False, 1000, 0, options))


@pytest.mark.requirement("PTCP-9-01", "PTCP-9-06", "PTCP-7-04")
@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (encode_segment(Shed(1, 0, False, 1000, 0, Options(contract=3))), Reason.BAD_OPTION),
        (encode_segment(Shed(1, 0, True, 5, 0, Options(contract=3))), Reason.LIMIT),
        (encode_segment(Shed(1, 0, False, 99, 0, Options(contract=3))), Reason.LIMIT),
        (shed_to("12V/1.001A"), Reason.NOT_OFFERED),
        (shed_to("230V/16A"), Reason.NOT_OFFERED),
        (shed_to("9V/1A"), Reason.NOT_OFFERED),
        (shed_to("12V/1A@50Hz"), Reason.NOT_OFFERED),
        (encode_segment(Reneg(1, 0, Options(contract=2, profiles=(GRANT,)))), Reason.STATE),
        (encode_segment(Reneg(1, 0, Options(contract=3))), Reason.LIMIT),
        (encode_segment(Answer(1, 0, False, Options(contract=8))), Reason.STATE),
        (encode_segment(Ready(1, 0, Options(contract=1, profiles=(GRANT,)))), Reason.STATE),
        (credit_segment(1, 0, 5), Reason.STATE),
    ],
)
def test_what_a_source_may_not_send_resets_the_flow(octets: bytes, code: int) -> None:
    pair, _ = energised_sink()
    pair.inject(SINK, octets)
    refusal = pair.one(SINK, FlowClosed).refusal
    assert refusal is not None
    assert refusal.code == code


def test_a_second_proposal_before_the_answer_resets_the_flow() -> None:
    pair, _ = energised_sink()
    wish = (profile("12V/1A"),)
    for number in (3, 5):
        reneg = Reneg(1, 0, Options(contract=number, profiles=wish))
        pair.inject(SINK, encode_segment(reneg))
    assert pair.one(SINK, FlowClosed).refusal is not None


@pytest.mark.parametrize("options", [Options(contract=1), Options(contract=7, profiles=(GRANT,))])
def test_a_first_ready_without_terms_or_of_another_contract_resets(options: Options) -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    pair.inject(SINK, encode_segment(Ready(flow, 0, options)))
    assert pair.one(SINK, FlowClosed).refusal is not None


@pytest.mark.requirement("PTCP-5-06")
def test_a_lapsed_lease_caps_at_fallback_until_a_probe_is_answered() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=5s", fallback="12V/0.1A")
    pair.take(SINK, LeaseLapsed)
    pair.pass_at(SINK, 5)
    lapsed = pair.one(SINK, LeaseLapsed)
    assert lapsed.fallback is not None
    assert lapsed.fallback.current_ma == 100
    assert pair.sink.status(flow).demand_mw == 1_200
    # only the probe of this instant is on its way; its answer renews from when it was sent
    (probe,) = [one for one in segments(pair.sink.data_to_send()) if isinstance(one, MaintainProbe)]
    echo = encode_segment(MaintainProbe(0, probe.nonce, probe.time_ns))
    pair.sink.receive_data(echo, pair.now)
    pair.collect()
    assert pair.one(SINK, LeaseRestored).profile.current_ma == 1000
    assert not pair.sink.status(flow).lapsed


def test_without_fallback_a_lapse_means_nothing_may_be_drawn() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=5s")
    pair.pass_at(SINK, 5)
    assert pair.one(SINK, LeaseLapsed).fallback is None
    assert pair.sink.status(flow).demand_mw == 0


@pytest.mark.requirement("PTCP-5-04", "PTCP-5-06")
def test_a_frozen_provider_comes_back_to_both_ends_energised_at_fallback() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=5s", fallback="12V/0.1A")
    for _ in range(80):
        pair.pass_at(SINK, 0.1)
    pair.one(SINK, LeaseLapsed)
    pair.source.handle_timer(pair.now)
    pair.exchange()
    shed = pair.one(SINK, ShedReceived)
    assert (shed.urgent, shed.refusal and shed.refusal.code) == (True, 307)
    states = pair.sink.status(flow), pair.source.status(flow)
    assert [status.state for status in states] == ["ENERGISED"] * 2
    assert [status.profile and status.profile.current_ma for status in states] == [100, 100]
    pair.one(SINK, LeaseRestored)


@pytest.mark.requirement("PTCP-5-02")
def test_a_late_answer_cannot_extend_a_lease() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=5s")
    start = pair.now
    pair.now += NS_PER_S
    pair.sink.handle_timer(pair.now)
    probe = pair.sink.data_to_send()
    pair.now += 3 * NS_PER_S
    pair.inject(SOURCE, probe)
    assert pair.sink.status(flow).lease_until_ns == start + 6 * NS_PER_S


@pytest.mark.requirement("PTCP-8-02", "PTCP-8-01")
def test_after_a_trip_what_still_comes_is_heat_and_fin_ack_ends_it() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    block = pair.block(flow, 10)
    pair.source.send_samples(flow, [block], now=pair.now)
    late = pair.source.data_to_send()
    pair.sink.trip(flow, WHY, now=pair.now)
    pair.sink.receive_data(late, pair.now)
    ready = Ready(flow, 0, Options(contract=1, profiles=(GRANT,)))
    pair.sink.receive_data(encode_segment(ready), pair.now)
    pair.collect()
    assert pair.one(SINK, HeatCounted).energy_uj == 120_000
    pair.exchange()
    closed = pair.one(SINK, FlowClosed)
    assert (closed.refusal, closed.heat_uj, closed.esn_uj) == (WHY, 120_000, 0)
    assert pair.one(SOURCE, FlowTripped).by_peer


@pytest.mark.requirement("PTCP-8-02")
def test_a_trip_of_the_source_is_answered_with_fin_ack() -> None:
    pair, flow = energised_sink()
    pair.inject(SINK, encode_segment(Trip(flow, 0, Options(reason=WHY))))
    assert pair.one(SINK, FlowTripped).by_peer
    assert pair.one(SINK, FlowClosed).refusal == WHY
    fin = [s for s in pair.said(SINK, Control) if isinstance(s, Control) and s.flags & Flag.FIN]
    assert len(fin) == 1


def test_an_alert_is_reported() -> None:
    pair, flow = energised_sink()
    pair.inject(SINK, encode_segment(Alert(flow, 0, 2, Options(reason=WHY))))
    alert = pair.one(SINK, Alerted)
    assert (alert.severity, alert.refusal) == (2, WHY)


@pytest.mark.requirement("PTCP-14-02")
@pytest.mark.parametrize("seconds", [5])
def test_no_answer_to_a_syn_ends_in_507(seconds: int) -> None:
    pair = Pair()
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.pass_at(SINK, seconds)
    closed = pair.one(SINK, FlowClosed)
    assert closed.refusal == Refusal(Reason.TIMEOUT, 5000, 5000)


@pytest.mark.requirement("PTCP-10-02", "PTCP-13-01")
def test_a_cut_after_power_flowed_keeps_the_ticket() -> None:
    pair, flow = energised_sink()
    assert pair.one(SINK, TicketReceived).lifetime_s == 3600
    pair.cut()
    assert pair.one(SINK, FlowCut).flow == flow
    assert pair.one(SINK, FlowClosed).truncated


def test_a_cut_before_power_flowed_is_only_an_ending() -> None:
    pair = Pair()
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.cut()
    assert pair.take(SINK, FlowCut) == []
    assert pair.one(SINK, FlowClosed).truncated


def test_closing_before_power_flows_is_a_reset() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, FlowClosed).refusal == Refusal(Reason.NORMAL)
    assert pair.one(SOURCE, FlowClosed).flow == flow


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-04", "PTCP-10-05")
def test_a_resumed_flow_goes_on_from_what_the_sink_verified() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.deliver(flow)
    ticket = pair.take(SINK, TicketReceived)[-1].ticket
    verified = pair.sink.status(flow).esn_uj
    pair.cut()
    again = Pair(office=pair.office, now=pair.now)
    resumed = again.request(ask("12V/1A"), ticket=ticket, esn_uj=verified)
    again.source.ready(resumed, now=again.now)
    again.exchange()
    ready = again.one(SINK, PowerReady)
    assert ready.resumed
    assert again.deliver(resumed, 10) == 1
    assert again.sink.status(resumed).esn_uj == again.source.status(resumed).esn_uj
    assert again.sink.status(resumed).esn_uj == verified + 120_000


@pytest.mark.requirement("PTCP-10-04")
def test_a_ticket_nobody_knows_is_a_plain_syn() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"), ticket=b"no such ticket", esn_uj=9)
    assert pair.one(SINK, Alerted).refusal == Refusal(Reason.TICKET_INVALID)
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    assert not pair.one(SINK, PowerReady).resumed
    assert pair.sink.status(flow).esn_uj == 0


@pytest.mark.requirement("PTCP-1-04")
def test_a_fallback_of_another_power_in_the_answer_is_reset() -> None:
    pair = Pair()
    flow = pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    grant = profile("12V/1A,lease=60s", ProfileType.GRANT)
    floor = profile("9V/0.1A,lease=60s", ProfileType.FALLBACK)
    options = Options(contract=1, profiles=(grant, floor), sampling=Sampling(1000))
    syn_ack = Control(flow, Flag.SYN | Flag.ACK, 0, options)
    pair.sink.receive_data(encode_segment(syn_ack), pair.now)
    pair.collect()
    refusal = pair.one(SINK, FlowClosed).refusal
    assert refusal is not None
    assert (refusal.code, refusal.rule) == (Reason.BAD_OPTION, "FALLBACK of another power")


def offered_12v() -> tuple[Pair, int]:
    """Return a pair whose sink has sent the ACK of a GRANT of 12 V/1 A."""
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    return pair, flow


def ready_of(number: int, text: str, *more: PowerProfile) -> bytes:
    terms = (profile(text, ProfileType.GRANT), *more)
    return encode_segment(Ready(1, 0, Options(contract=number, profiles=terms)))


def closed_for(pair: Pair) -> int:
    refusal = pair.one(SINK, FlowClosed).refusal
    assert refusal is not None
    return refusal.code


@pytest.mark.requirement("PTCP-9-03")
@pytest.mark.parametrize(
    "text",
    [
        "230V/1A,lease=60s",
        "12V/1.001A,lease=60s",
        "12V/0.5A,lease=60s",
        "12V/1A@50Hz,lease=60s",
        "12V/1A/split,lease=60s",
        "16000000V/16000000A,lease=60s",
    ],
)
def test_a_first_ready_names_what_was_acknowledged_or_is_reset_106(text: str) -> None:
    pair, _ = offered_12v()
    pair.inject(SINK, ready_of(1, text))
    assert closed_for(pair) == Reason.NOT_OFFERED


@pytest.mark.requirement("PTCP-9-03", "PTCP-7-05")
@pytest.mark.parametrize("text", ["12V/0.6A,lease=60s", "5V/0.5A,lease=60s"])
def test_a_ready_after_a_shed_names_its_ceiling_or_is_reset_106(text: str) -> None:
    pair, flow = energised_sink()
    ceiling = (profile("12V/0.5A", ProfileType.OFFER),)
    shed = Shed(flow, 0, False, 1000, 0, Options(contract=3, profiles=ceiling))
    pair.inject(SINK, encode_segment(shed) + ready_of(3, text))
    assert closed_for(pair) == Reason.NOT_OFFERED


@pytest.mark.requirement("PTCP-9-03")
@pytest.mark.parametrize(
    ("text", "code"), [("12V/0.6A,lease=60s", None), ("12V/0.9A,lease=60s", Reason.NOT_OFFERED)]
)
def test_a_ready_after_an_own_proposal_lies_in_its_range(text: str, code: int | None) -> None:
    pair, flow = energised_sink()
    pair.sink.renegotiate(flow, [ask("12V/0.8A", "12V/0.5A")], now=pair.now)
    pair.sink.data_to_send()
    answer = Answer(flow, 0, True, Options(contract=2))
    pair.sink.receive_data(encode_segment(answer) + ready_of(2, text), pair.now)
    pair.collect()
    found = [one.refusal for one in pair.take(SINK, FlowClosed)]
    assert [one and one.code for one in found] == ([code] if code else [])


@pytest.mark.requirement("PTCP-4-06")
@pytest.mark.parametrize(
    ("wish", "closes"), [(None, True), ("12V/0.05A", True), ("12V/0.1A", False)]
)
def test_no_fallback_above_the_one_that_was_asked_for_is_taken(
    wish: str | None, closes: bool
) -> None:
    pair = Pair()
    asked = profile(wish, ProfileType.FALLBACK) if wish else None
    pair.sink.open_flow([ask("12V/1A")], fallback=asked, now=pair.now)
    pair.sink.data_to_send()
    floor = profile("12V/0.1A,lease=60s", ProfileType.FALLBACK)
    pair.sink.receive_data(syn_ack(profiles=(GRANT, floor)), pair.now)
    pair.collect()
    found = [one.refusal and one.refusal.code for one in pair.take(SINK, FlowClosed)]
    assert found == ([Reason.NOT_OFFERED] if closes else [])


@pytest.mark.requirement("PTCP-4-06")
def test_no_fallback_comes_with_ready_that_was_not_asked_for() -> None:
    pair, _ = offered_12v()
    floor = profile("12V/0.1A,lease=60s", ProfileType.FALLBACK)
    pair.inject(SINK, ready_of(1, "12V/1A,lease=60s", floor))
    assert closed_for(pair) == Reason.NOT_OFFERED


@pytest.mark.requirement("PTCP-4-06")
@pytest.mark.parametrize(
    ("wish", "lease", "closes"),
    [
        ("12V/1A,lease=5s", 1_015_792, True),
        ("12V/1A,lease=5s", 6, True),
        ("12V/1A,lease=5s", 5, False),
        ("12V/1A", 0, True),
        ("12V/1A", 4, True),
        ("12V/1A", 3_568, False),
        ("12V/1A", 3_696, True),
        # 61 s do not fit the octet, the request says 64 s
        ("12V/1A,lease=61s", 64, False),
        ("12V/1A,lease=61s", 68, True),
    ],
)
def test_a_lease_out_of_bounds_or_longer_than_stated_is_reset_108(
    wish: str, lease: int, closes: bool
) -> None:
    pair = Pair()
    pair.sink.open_flow([ask(wish)], now=pair.now)
    pair.sink.data_to_send()
    grant = replace(profile("12V/1A", ProfileType.GRANT), lease_s=lease)
    pair.sink.receive_data(syn_ack(profiles=(grant,)), pair.now)
    pair.collect()
    found = [one.refusal and one.refusal.code for one in pair.take(SINK, FlowClosed)]
    assert found == ([Reason.LEASE_RANGE] if closes else [])


@pytest.mark.requirement("PTCP-4-06", "PTCP-9-03")
@pytest.mark.parametrize(
    ("number", "wish", "lease", "closes"),
    [
        (1, "", 64, True),
        (1, "", 56, False),
        (2, "12V/1A", 64, True),
        (2, "12V/1A,lease=80s", 80, False),
        (2, "12V/1A,lease=80s", 84, True),
        # of the source: it cannot lend for longer than was agreed
        (3, "12V/1A,lease=80s", 80, True),
        (3, "12V/1A,lease=80s", 60, False),
    ],
)
def test_a_lease_grows_with_an_own_proposal_only(
    number: int, wish: str, lease: int, closes: bool
) -> None:
    pair, flow = offered_12v() if number == 1 else energised_sink()
    answer = b""
    if number == 2:
        pair.sink.renegotiate(flow, [ask(wish)], now=pair.now)
        answer = encode_segment(Answer(flow, 0, True, Options(contract=number)))
    elif number == 3:
        options = Options(contract=number, profiles=(profile(wish),))
        pair.sink.receive_data(encode_segment(Reneg(flow, 0, options)), pair.now)
        pair.sink.answer(flow, True, now=pair.now)
    pair.sink.data_to_send()
    grant = replace(profile("12V/1A", ProfileType.GRANT), lease_s=lease)
    ready = Ready(flow, 0, Options(contract=number, profiles=(grant,)))
    pair.sink.receive_data(answer + encode_segment(ready), pair.now)
    pair.collect()
    found = [one.refusal and one.refusal.code for one in pair.take(SINK, FlowClosed)]
    assert found == ([Reason.LEASE_RANGE] if closes else [])


@pytest.mark.requirement("PTCP-5-01", "PTCP-5-03")
@pytest.mark.parametrize(
    "wish", [Maintain(0, 0), Maintain(65535, 255), Maintain(99, 3), Maintain(1000, 1)]
)
def test_probes_out_of_bounds_are_reset_508_at_either_end(wish: Maintain) -> None:
    pair = Pair()
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.sink.data_to_send()
    pair.sink.receive_data(syn_ack(maintain=wish), pair.now)
    pair.collect()
    assert closed_for(pair) == Reason.LIMIT
    other = Pair()
    other.request(ask("12V/1A"), maintain=wish)
    assert other.take(SOURCE, PowerRequested) == []
    assert closed_for(other) == Reason.LIMIT


def resumed_sink(grant: str, before: str | None = "12V/0.5A,lease=60s") -> Pair:
    """Return a pair whose sink resumes a contract and is answered with `grant`."""
    pair = Pair()
    terms = profile(before, ProfileType.GRANT) if before else None
    wish = [ask("12V/1A", "12V/0.4A")]
    pair.sink.open_flow(wish, ticket=b"t" * 9, esn_uj=9, before=terms, now=pair.now)
    pair.sink.data_to_send()
    terms_now = (profile(grant, ProfileType.GRANT),)
    pair.sink.receive_data(syn_ack(profiles=terms_now, contract=3, esn=9), pair.now)
    pair.collect()
    return pair


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-05")
@pytest.mark.parametrize(
    ("grant", "before", "code"),
    [
        ("12V/0.5A,lease=60s", "12V/0.5A,lease=60s", None),
        ("12V/0.5A,lease=60s", None, None),
        # a SHED, or a restore, whose READY was lost with the path
        ("12V/0.1A,lease=60s", "12V/0.5A,lease=60s", None),
        ("12V/1A,lease=60s", "12V/0.5A,lease=60s", None),
        ("12V/1.1A,lease=60s", "12V/0.5A,lease=60s", Reason.NOT_OFFERED),
        ("230V/16A,lease=60s", "12V/0.5A,lease=60s", Reason.NOT_OFFERED),
        ("230V/16A,lease=60s", None, Reason.NOT_OFFERED),
        ("12V/0.5A,lease=64s", "12V/0.5A,lease=60s", Reason.LEASE_RANGE),
    ],
)
def test_a_resumed_flow_takes_the_contract_in_force_and_no_other(
    grant: str, before: str | None, code: int | None
) -> None:
    pair = resumed_sink(grant, before)
    found = [one.refusal and one.refusal.code for one in pair.take(SINK, FlowClosed)]
    assert found == ([code] if code else [])


@pytest.mark.requirement("PTCP-5-06")
def test_new_terms_end_a_lapse() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=5s", "12V/0.1A", fallback="12V/0.1A")
    pair.sink.renegotiate(flow, [ask("12V/0.5A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, True, profile=profile("12V/0.5A"), now=pair.now)
    pair.pass_at(SINK, 5)
    assert pair.sink.status(flow).lapsed
    # READY comes before any probe is answered
    pair.pump(SOURCE)
    assert not pair.sink.status(flow).lapsed
    assert pair.take(SINK, LeaseRestored)


@pytest.mark.requirement("PTCP-5-02")
@pytest.mark.parametrize(("wish", "lease_s"), [("12V/0.5A", 60), ("12V/0.5A,lease=80s", 80)])
def test_other_terms_do_not_begin_the_lease_anew_at_either_end(wish: str, lease_s: int) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=60s")
    began = pair.now
    pair.now += 20 * NS_PER_S
    pair.sink.renegotiate(flow, [ask(wish)], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, True, profile=profile(wish), now=pair.now)
    pair.exchange()
    for end in pair.ends:
        status = end.status(flow)
        assert status.contract == 2
        assert status.lease_until_ns == began + lease_s * NS_PER_S
