"""The provider's end of a flow, in conversation with a real sink."""

from dataclasses import replace
from hashlib import blake2s

import numpy as np
import pytest

from powertcp.dve import encode_block
from powertcp.errors import LocalProtocolError
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Alerted,
    FlowClosed,
    FlowCut,
    FlowResumed,
    FlowTripped,
    LeaseLapsed,
    PowerAccepted,
    PowerOffered,
    PowerReady,
    PowerRequested,
    RenegotiationAnswered,
    RenegotiationRequested,
    ShedEnforced,
    TicketReceived,
)
from powertcp.potcp.source import SourceFlow
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import credit_segment, encode_segment
from powertcp.wire.options import Maintain, Options, Sampling
from powertcp.wire.segments import (
    DEMAND_MAX,
    Alert,
    Answer,
    Blocked,
    Control,
    Ready,
    Reneg,
    Shed,
    Ticket,
    Trip,
)
from tests.conversation import SINK, SOURCE, Pair, ask, profile, segments

WHY = Refusal(Reason.BUDGET, 60_000, 14_200)
LOW = profile("12V/0.5A", ProfileType.OFFER)


def powered(text: str = "12V/1A", **options: str) -> tuple[Pair, int]:
    pair = Pair()
    flow = pair.energise(text, **options)
    return pair, flow


def reason_of(pair: Pair, side: int = SOURCE) -> int:
    refusal = pair.one(side, FlowClosed).refusal
    assert refusal is not None
    return refusal.code


@pytest.mark.requirement("PTCP-4-01", "PTCP-4-09")
def test_a_syn_is_reported_with_all_it_asks() -> None:
    pair = Pair()
    pair.request(ask("230V/2A@50Hz", "230V/1A@50Hz"), ask("12V/1A"))
    requested = pair.one(SOURCE, PowerRequested)
    assert [wish.desired.format() for wish in requested.asks] == ["230V/2A@50Hz", "12V/1A"]
    assert requested.asks[0].minimum is not None
    assert requested.sampling == Sampling(4000)
    assert requested.fallback is None


@pytest.mark.requirement("PTCP-4-09")
def test_the_transcript_covers_syn_syn_ack_and_ack() -> None:
    pair = Pair()
    flow = pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    whole = pair.pump(SINK)
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    whole += pair.pump(SOURCE)
    whole += pair.pump(SINK)[:-36]
    held = pair.source._flows[flow]  # noqa: SLF001 - the transcript has no verb before receipts
    assert isinstance(held, SourceFlow)
    assert held.transcript == blake2s(whole).digest()


@pytest.mark.requirement("PTCP-4-03", "PTCP-14-02")
def test_a_grant_without_ack_is_released_after_t_offer() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    assert pair.office.half_open == 1
    pair.pass_at(SOURCE, 2)
    assert reason_of(pair) == Reason.TIMEOUT
    assert pair.office.half_open == 0


@pytest.mark.requirement("PTCP-4-04")
@pytest.mark.parametrize(
    ("options", "code"),
    [
        (Options(contract=3, profiles=(profile("12V/1A", ProfileType.GRANT),)), Reason.STATE),
        (Options(contract=1), Reason.STATE),
        (Options(profiles=(profile("12V/1A", ProfileType.GRANT),)), Reason.BAD_OPTION),
        (Options(contract=1, profiles=(profile("12V/2A", ProfileType.GRANT),)), Reason.NOT_OFFERED),
    ],
)
def test_an_ack_of_other_terms_is_reset(options: Options, code: int) -> None:
    pair = Pair()
    flow = pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.pump(SINK)
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.source.receive_data(encode_segment(Control(flow, Flag.ACK, 0, options)), pair.now)
    pair.collect()
    assert reason_of(pair) == code


@pytest.mark.requirement("PTCP-4-02", "PTCP-4-04")
def test_a_choice_within_the_offered_range_is_what_holds() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/2A"))
    offers = [(profile("12V/1A"), profile("12V/0.5A", ProfileType.MINIMUM))]
    pair.source.counter(flow, offers, WHY, now=pair.now)
    pair.exchange()
    pair.sink.accept(flow, profile("12V/0.8A,lease=60s"), now=pair.now)
    pair.exchange()
    assert pair.one(SOURCE, PowerAccepted).profile.current_ma == 800


@pytest.mark.requirement("PTCP-4-06")
def test_a_lease_shorter_than_the_probes_is_refused_108() -> None:
    pair = Pair(maintain_interval_ms=2000)
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A,lease=6s"), now=pair.now)
    pair.exchange()
    assert reason_of(pair, SINK) == Reason.LEASE_RANGE


@pytest.mark.requirement("PTCP-4-06", "PTCP-5-01")
def test_the_lease_of_a_later_flow_outlasts_the_probes_in_force() -> None:
    pair = Pair()
    pair.energise(maintain=Maintain(2000, 3))
    pair.take(SOURCE, FlowClosed)
    flow = pair.request(ask("12V/1A"), maintain=Maintain(1000, 3))
    pair.source.grant(flow, profile("12V/1A,lease=6s"), now=pair.now)
    pair.exchange()
    refusal = pair.one(SOURCE, FlowClosed).refusal
    assert refusal == Refusal(Reason.LEASE_RANGE, 6, 7)


def ack(grant: PowerProfile, flow: int = 1) -> bytes:
    options = Options(contract=1, profiles=(grant,))
    return encode_segment(Control(flow, Flag.ACK, 0, options))


def offered() -> tuple[Pair, PowerProfile]:
    """Return a pair of which the source has offered 0.5 to 1 A, and that offer."""
    pair = Pair()
    flow = pair.request(ask("12V/2A,prio=9"))
    offers = [(profile("12V/1A,prio=9"), profile("12V/0.5A", ProfileType.MINIMUM))]
    pair.source.counter(flow, offers, WHY, now=pair.now)
    pair.exchange()
    return pair, pair.one(SINK, PowerOffered).offers[0].offer


@pytest.mark.requirement("PTCP-4-04", "PTCP-4-06")
def test_an_ack_chooses_voltage_and_current_of_an_offer_and_nothing_else() -> None:
    pair, offer = offered()
    wish = replace(
        offer.with_type(ProfileType.GRANT),
        current_ma=700,
        lease_s=1_015_792,
        priority=1,
        energy_j=5,
        giveback=True,
        frequency_chz=0xFFFF,
    )
    pair.source.receive_data(ack(wish), pair.now)
    pair.collect()
    terms = pair.one(SOURCE, PowerAccepted).profile
    assert terms == replace(offer.with_type(ProfileType.GRANT), current_ma=700)
    assert (terms.lease_s, terms.priority, terms.energy_j) == (60, 9, 0)


@pytest.mark.requirement("PTCP-4-04")
def test_an_ack_with_the_tag_of_another_answer_is_reset_106() -> None:
    pair, offer = offered()
    pair.source.receive_data(
        ack(replace(offer, type=ProfileType.GRANT, tag=offer.tag ^ 1)), pair.now
    )
    pair.collect()
    assert reason_of(pair) == Reason.NOT_OFFERED


def test_a_ramp_that_never_ends_is_given_up() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    pair.pass_at(SOURCE, 6)
    assert reason_of(pair) == Reason.TIMEOUT


@pytest.mark.requirement("PTCP-7-04", "PTCP-7-05", "PTCP-9-02")
def test_a_shed_is_enforced_at_the_answer() -> None:
    pair, flow = powered("12V/1A,prio=1", fallback="12V/0.7A")
    pair.source.shed(flow, LOW, refusal=WHY, deadline_ms=100, now=pair.now)
    assert not pair.source.may_propose(flow)
    pair.exchange()
    enforced = pair.one(SOURCE, ShedEnforced)
    assert (enforced.contract, enforced.profile.current_ma) == (3, 500)
    (shed,) = pair.said(SOURCE, Shed)
    # priority 1 has a second at least
    assert isinstance(shed, Shed)
    assert shed.deadline_ms == 1000
    fallback = pair.source.status(flow).fallback
    assert fallback is not None
    assert fallback.current_ma == 500
    assert pair.source.may_propose(flow)


@pytest.mark.requirement("PTCP-7-05")
def test_a_shed_without_answer_is_enforced_at_its_deadline_and_stays_outstanding() -> None:
    pair, flow = powered()
    pair.source.shed(flow, LOW, refusal=WHY, now=pair.now)
    shed = pair.source.data_to_send()
    pair.pass_at(SOURCE, 1)
    pair.one(SOURCE, ShedEnforced)
    assert pair.source.status(flow).outstanding
    with pytest.raises(LocalProtocolError, match="unanswered"):
        pair.source.shed(flow, LOW, refusal=WHY, urgent=True, now=pair.now)
    pair.sink.receive_data(shed, pair.now)
    pair.exchange()
    assert not pair.source.status(flow).outstanding
    assert pair.sink.status(flow).profile == pair.source.status(flow).profile


@pytest.mark.requirement("PTCP-7-09")
@pytest.mark.parametrize(("urgent", "seconds"), [(False, 11), (True, 10)])
def test_a_shed_that_is_never_answered_ends_the_flow_after_t_answer(
    urgent: bool, seconds: int
) -> None:
    pair, flow = powered()
    pair.source.shed(flow, LOW, refusal=WHY, urgent=urgent, now=pair.now)
    pair.pump(SOURCE)
    pair.sink.data_to_send()
    pair.advance(seconds - 0.2)
    pair.one(SOURCE, ShedEnforced)
    assert pair.source.status(flow).outstanding
    pair.advance(0.4)
    assert reason_of(pair) == Reason.TIMEOUT
    assert flow not in pair.source.flows


@pytest.mark.requirement("PTCP-7-09")
def test_an_answer_that_a_silent_path_holds_up_is_waited_for() -> None:
    pair, flow = powered()
    pair.source.shed(flow, LOW, refusal=WHY, now=pair.now)
    for _ in range(30):
        pair.pass_at(SOURCE, 1)
    assert pair.source.status(flow).state == "ENERGISED"
    pair.exchange()
    assert not pair.source.status(flow).outstanding
    pair.advance(20)
    assert pair.source.may_propose(flow)


@pytest.mark.requirement("PTCP-7-04")
def test_an_urgent_shed_holds_at_once() -> None:
    pair, flow = powered()
    pair.source.shed(flow, LOW, refusal=WHY, urgent=True, now=pair.now)
    pair.collect()
    assert pair.one(SOURCE, ShedEnforced).profile.current_ma == 500
    pair.exchange()
    assert pair.sink.status(flow).state == "ENERGISED"


def test_a_shed_keeps_the_voltage() -> None:
    pair, flow = powered()
    with pytest.raises(LocalProtocolError, match="keeps the voltage"):
        pair.source.shed(flow, profile("5V/1A"), refusal=WHY, urgent=True, now=pair.now)
    with pytest.raises(LocalProtocolError, match="not above the contract"):
        pair.source.shed(flow, profile("12V/1.1A"), refusal=WHY, now=pair.now)
    assert not pair.source.status(flow).outstanding


@pytest.mark.requirement("PTCP-7-05", "PTCP-9-08")
def test_a_sink_cannot_reject_a_shed() -> None:
    pair, flow = powered()
    pair.source.shed(flow, LOW, refusal=WHY, now=pair.now)
    pair.source.data_to_send()
    pair.inject(SOURCE, encode_segment(Answer(flow, 0, False, Options(contract=3))))
    assert reason_of(pair) == Reason.STATE


@pytest.mark.requirement("PTCP-9-06")
@pytest.mark.parametrize("number", [5, 4])
def test_an_answer_to_another_contract_is_a_breach(number: int) -> None:
    pair, flow = powered()
    pair.source.shed(flow, LOW, refusal=WHY, now=pair.now)
    pair.source.data_to_send()
    pair.inject(SOURCE, encode_segment(Answer(flow, 0, True, Options(contract=number))))
    assert reason_of(pair) == Reason.STATE


@pytest.mark.requirement("PTCP-9-01", "PTCP-9-02")
def test_a_restore_is_a_proposal_with_one_answer() -> None:
    pair, flow = powered()
    pair.source.shed(flow, LOW, refusal=WHY, now=pair.now)
    pair.exchange()
    pair.source.renegotiate(flow, [ask("12V/1A")], now=pair.now)
    pair.exchange()
    pair.sink.answer(flow, True, now=pair.now)
    pair.exchange()
    assert pair.one(SOURCE, RenegotiationAnswered).accepted
    terms = pair.source.status(flow).profile
    assert terms is not None
    assert (terms.current_ma, terms.lease_s) == (1000, 60)


@pytest.mark.requirement("PTCP-14-02")
def test_a_proposal_nobody_answers_ends_the_flow() -> None:
    pair, flow = powered("12V/1A,lease=60s")
    pair.source.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.pass_at(SOURCE, 10)
    assert reason_of(pair) == Reason.TIMEOUT


@pytest.mark.requirement("PTCP-9-07")
def test_a_proposal_of_the_sink_loses_against_a_shed_that_comes_before_the_answer() -> None:
    pair, flow = powered()
    pair.sink.renegotiate(flow, [ask("12V/0.8A")], now=pair.now)
    pair.exchange()
    pair.one(SOURCE, RenegotiationRequested)
    pair.source.shed(flow, LOW, refusal=WHY, now=pair.now)
    pair.exchange()
    answers = [s for s in pair.said(SOURCE, Answer) if isinstance(s, Answer)]
    assert [(a.accepted, a.options.reason and a.options.reason.code) for a in answers] == [
        (False, 107)
    ]
    assert pair.sink.status(flow).profile == pair.source.status(flow).profile
    with pytest.raises(LocalProtocolError, match="nothing to answer"):
        pair.source.answer(flow, False, now=pair.now)


@pytest.mark.requirement("PTCP-9-07")
def test_a_proposal_that_meets_an_outstanding_shed_is_rejected_107() -> None:
    pair, flow = powered()
    pair.source.shed(flow, LOW, refusal=WHY, now=pair.now)
    pair.source.data_to_send()
    pair.pass_at(SOURCE, 1)
    wish = Reneg(flow, 0, Options(contract=4, profiles=(profile("12V/0.8A"),)))
    pair.source.receive_data(encode_segment(wish), pair.now)
    pair.pump(SOURCE)
    (answer,) = pair.said(SOURCE, Answer)
    assert isinstance(answer, Answer)
    assert not answer.accepted


def test_terms_outside_of_what_the_sink_proposed_are_our_own_bug() -> None:
    pair, flow = powered()
    pair.sink.renegotiate(flow, [ask("12V/0.8A")], now=pair.now)
    pair.exchange()
    with pytest.raises(LocalProtocolError, match="outside"):
        pair.source.answer(flow, True, profile=profile("12V/0.9A"), now=pair.now)
    with pytest.raises(LocalProtocolError, match="with a profile"):
        pair.source.answer(flow, True, now=pair.now)


def test_agreeing_to_nothing_is_our_own_bug() -> None:
    pair, flow = powered()
    with pytest.raises(LocalProtocolError, match="nothing to answer"):
        pair.source.answer(flow, True, profile=profile("12V/1A"), now=pair.now)


def test_a_second_proposal_of_the_sink_before_the_answer_is_a_breach() -> None:
    pair, flow = powered()
    for number in (2, 4):
        options = Options(contract=number, profiles=(profile("12V/0.8A"),))
        pair.inject(SOURCE, encode_segment(Reneg(flow, 0, options)))
    assert reason_of(pair) == Reason.STATE


@pytest.mark.requirement("PTCP-5-04", "PTCP-5-05")
def test_a_lapse_without_fallback_ends_the_flow_307() -> None:
    pair, _ = powered("12V/1A,lease=5s")
    pair.pass_at(SOURCE, 4.9)
    assert pair.take(SOURCE, FlowClosed) == []
    pair.pass_at(SOURCE, 0.1)
    assert pair.one(SOURCE, LeaseLapsed).fallback is None
    assert reason_of(pair) == Reason.LEASE_EXPIRED


@pytest.mark.requirement("PTCP-5-04", "PTCP-1-04")
def test_a_lapse_caps_the_source_at_fallback_and_frees_the_rest() -> None:
    pair, flow = powered("12V/1A,lease=5s", fallback="12V/0.1A")
    pair.pass_at(SOURCE, 5)
    assert pair.one(SOURCE, ShedEnforced).profile.power_mw == 1_200
    pair.pass_at(SOURCE, 60)
    assert pair.take(SOURCE, FlowClosed) == []
    assert pair.source.demand_mw(flow) == 1_200
    assert pair.source.get_timer() is not None


@pytest.mark.requirement("PTCP-5-04")
def test_a_lapse_with_a_proposal_outstanding_ends_the_flow() -> None:
    pair, flow = powered("12V/1A,lease=5s", fallback="12V/0.1A")
    pair.source.shed(flow, LOW, refusal=WHY, deadline_ms=60_000, now=pair.now)
    pair.pass_at(SOURCE, 5)
    assert reason_of(pair) == Reason.LEASE_EXPIRED


@pytest.mark.requirement("PTCP-10-01")
def test_a_ticket_comes_after_ready_and_each_minute() -> None:
    pair, _ = powered()
    assert len(pair.said(SOURCE, Ticket)) == 1
    pair.advance(60.1)
    assert len(pair.said(SOURCE, Ticket)) == 1
    assert len(pair.take(SINK, TicketReceived)) == 2


@pytest.mark.requirement("PTCP-10-02", "PTCP-5-05")
def test_a_cut_holds_the_budget_for_t_grace() -> None:
    pair, flow = powered()
    pair.cut()
    assert pair.one(SOURCE, FlowCut).flow == flow
    assert pair.source.status(flow).state == "HELD"
    pair.pass_at(SOURCE, 9.9)
    assert pair.take(SOURCE, FlowClosed) == []
    pair.pass_at(SOURCE, 0.1)
    assert pair.one(SOURCE, FlowClosed).truncated


def test_a_held_flow_can_be_given_up_at_once() -> None:
    pair, flow = powered()
    pair.cut()
    pair.source.close_flow(flow, now=pair.now)
    pair.collect()
    assert pair.one(SOURCE, FlowClosed).truncated


@pytest.mark.requirement("PTCP-10-02", "PTCP-5-04")
def test_a_held_flow_ends_with_its_lease() -> None:
    pair = Pair(grace_ns=300 * NS_PER_S)
    pair.energise("12V/1A,lease=5s", fallback="12V/0.1A")
    pair.cut()
    pair.pass_at(SOURCE, 5)
    assert reason_of(pair) == Reason.LEASE_EXPIRED


def test_a_cut_before_ready_releases_at_once() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.cut()
    assert pair.one(SOURCE, FlowClosed).truncated
    other = Pair()
    other.request(ask("12V/1A"))
    other.cut()
    assert other.one(SOURCE, FlowClosed).truncated


def moved(verified: int | None = None, *, cut: bool = True) -> tuple[Pair, Pair, int]:
    """Return the old pair, a new one that resumes, and the energy the sink had verified."""
    old, flow = powered("12V/1A", fallback="12V/0.1A")
    old.deliver(flow)
    old.advance(0.6)
    old.deliver(flow, 1000)
    acked = old.source.status(flow).acked_uj
    old.deliver(flow, 50)
    esn = old.sink.status(flow).esn_uj
    assert (acked, esn) == (13_200_000, 13_800_000)
    ticket = old.take(SINK, TicketReceived)[-1].ticket
    if cut:
        old.cut()
    new = Pair(office=old.office, now=old.now)
    floor = profile("12V/0.1A", ProfileType.FALLBACK)
    x = esn if verified is None else verified
    new.request(ask("12V/1A"), ticket=ticket, esn_uj=x, fallback=floor)
    new.collect()
    old.collect()
    return old, new, esn


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-05")
@pytest.mark.parametrize("cut", [True, False])
def test_a_ticket_moves_the_contract_and_ends_the_old_path_603(cut: bool) -> None:
    old, new, esn = moved(cut=cut)
    resumed = new.one(SOURCE, FlowResumed)
    assert (resumed.esn_uj, resumed.returned_uj, resumed.contract) == (esn, 0, 1)
    assert reason_of(old) == Reason.HANDOVER
    new.source.ready(1, now=new.now)
    new.exchange()
    assert new.one(SOURCE, PowerReady).resumed
    assert new.source.status(1).fallback is not None


@pytest.mark.requirement("PTCP-10-03")
def test_what_was_sent_and_never_verified_goes_back() -> None:
    old, flow = powered("12V/1A")
    old.deliver(flow)
    verified = old.sink.status(flow).esn_uj
    ticket = old.take(SINK, TicketReceived)[-1].ticket
    old.source.send_samples(flow, [old.block(flow, 50)], now=old.now)
    old.cut()
    new = Pair(office=old.office, now=old.now)
    new.request(ask("12V/1A"), ticket=ticket, esn_uj=verified)
    assert new.one(SOURCE, FlowResumed).returned_uj == 600_000
    new.source.ready(1, now=new.now)
    new.exchange()
    assert new.deliver(1, 10) == 1
    assert new.sink.status(1).esn_uj == new.source.status(1).esn_uj == verified + 120_000


def delivered_in_all(pair: Pair, flow: int) -> int:
    """Deliver until the source closes, at most 100 blocks of 1.2 J; returns its ESN then."""
    for _ in range(100):
        if flow not in pair.source.flows:
            break
        pair.deliver(flow)
        pair.advance(0.1)
    return pair.one(SOURCE, FlowClosed).esn_uj


@pytest.mark.requirement("PTCP-6-06", "PTCP-10-03")
def test_granted_energy_counts_on_over_a_resume() -> None:
    old, flow = powered("12V/1A,energy=6J")
    for _ in range(3):
        old.deliver(flow)
    verified = old.sink.status(flow).esn_uj
    ticket = old.take(SINK, TicketReceived)[-1].ticket
    old.cut()
    new = Pair(office=old.office, now=old.now)
    again = new.request(ask("12V/1A,energy=6J"), ticket=ticket, esn_uj=verified)
    new.source.ready(again, now=new.now)
    new.exchange()
    assert delivered_in_all(new, again) == 6_000_000


@pytest.mark.requirement("PTCP-6-06")
@pytest.mark.parametrize(
    ("first", "wish", "energy_j", "total_uj"),
    [
        ("12V/1A,energy=6J", "12V/1A", 6, 6_000_000),
        ("12V/1A,energy=6J", "12V/1A,energy=6J", 6, 6_000_000),
        ("12V/1A,energy=6J", "12V/1A,energy=12J", 12, 2_400_000 + 12_000_000),
        ("12V/1A", "12V/1A,energy=6J", 6, 2_400_000 + 6_000_000),
    ],
)
def test_granted_energy_stays_over_a_change_that_states_no_other(
    first: str, wish: str, energy_j: int, total_uj: int
) -> None:
    pair, flow = powered(first)
    for _ in range(2):
        pair.deliver(flow)
    pair.sink.renegotiate(flow, [ask(wish)], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, True, profile=profile(wish), now=pair.now)
    pair.exchange()
    for end in (pair.sink, pair.source):
        terms = end.status(flow).profile
        assert terms is not None
        assert terms.energy_j == energy_j
    assert delivered_in_all(pair, flow) == total_uj


@pytest.mark.requirement("PTCP-6-06", "PTCP-7-05")
def test_a_shed_does_not_renew_the_energy() -> None:
    pair, flow = powered("12V/1A,energy=6J")
    pair.deliver(flow)
    pair.source.shed(flow, LOW, refusal=WHY, now=pair.now)
    pair.exchange()
    assert delivered_in_all(pair, flow) == 6_000_000


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-04")
@pytest.mark.parametrize("cut", [True, False])
def test_the_old_path_closes_with_what_the_sink_had_verified(cut: bool) -> None:
    old, _, esn = moved(cut=cut)
    closed = old.one(SOURCE, FlowClosed)
    assert (closed.esn_uj, closed.acked_uj) == (esn, esn)


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-04")
def test_a_resume_that_dies_before_its_ack_has_delivered_what_it_began_with() -> None:
    old, flow = powered("12V/1A")
    old.deliver(flow)
    verified = old.sink.status(flow).esn_uj
    ticket = old.take(SINK, TicketReceived)[-1].ticket
    old.cut()
    new = Pair(office=old.office, now=old.now)
    new.sink.open_flow([ask("12V/1A")], ticket=ticket, esn_uj=verified, now=new.now)
    new.pump(SINK)
    assert new.source.status(1).acked_uj == verified
    new.cut()
    closed = new.one(SOURCE, FlowClosed)
    assert (closed.esn_uj, closed.acked_uj) == (verified, verified)


@pytest.mark.requirement("PTCP-10-03")
@pytest.mark.parametrize("verified", [13_199_999, 13_800_001])
def test_an_esn_that_cannot_be_is_a_plain_syn(verified: int) -> None:
    _, new, _ = moved(verified)
    assert new.take(SOURCE, FlowResumed) == []
    assert new.one(SINK, Alerted).refusal == Refusal(Reason.TICKET_INVALID)
    new.one(SOURCE, PowerRequested)


@pytest.mark.requirement("PTCP-10-04")
def test_a_ticket_works_once() -> None:
    old, flow = powered("12V/1A")
    ticket = old.take(SINK, TicketReceived)[-1].ticket
    old.cut()
    esn = 0
    for attempt in range(2):
        new = Pair(office=old.office, now=old.now)
        new.request(ask("12V/1A"), ticket=ticket, esn_uj=esn)
        assert len(new.take(SOURCE, FlowResumed)) == 1 - attempt
    assert flow == 1


@pytest.mark.requirement("PTCP-8-02", "PTCP-13-01")
@pytest.mark.parametrize("flags", [Flag.FIN, Flag.RST])
def test_fin_and_reset_of_the_sink_release(flags: int) -> None:
    pair, flow = powered()
    pair.inject(SOURCE, encode_segment(Control(flow, flags, 0, Options(reason=WHY))))
    assert reason_of(pair) == WHY.code


def test_a_reset_without_reason_counts_as_the_operators() -> None:
    pair, flow = powered()
    pair.inject(SOURCE, encode_segment(Control(flow, Flag.RST)))
    assert reason_of(pair) == Reason.OPERATOR


@pytest.mark.requirement("PTCP-8-02")
def test_a_trip_of_the_sink_is_answered_with_fin_ack() -> None:
    pair, flow = powered()
    pair.inject(SOURCE, encode_segment(Trip(flow, 0, Options(reason=WHY))))
    assert pair.one(SOURCE, FlowTripped).by_peer
    assert reason_of(pair) == WHY.code


@pytest.mark.requirement("PTCP-13-01")
def test_a_goodbye_nobody_answers_ends_after_t_drain() -> None:
    pair, flow = powered()
    pair.source.close_flow(flow, refusal=Refusal(Reason.DRAINING), now=pair.now)
    late = encode_segment(Answer(flow, 0, True, Options(contract=3)))
    pair.source.receive_data(late, pair.now)
    pair.collect()
    assert pair.take(SOURCE, FlowClosed) == []
    pair.pass_at(SOURCE, 5)
    assert reason_of(pair) == Reason.TIMEOUT


def test_closing_before_ready_is_a_refusal() -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.close_flow(flow, now=pair.now)
    pair.exchange()
    assert reason_of(pair, SINK) == Reason.DRAINING


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (Options(profiles=(profile("12V/1A"),)), Reason.SAMPLING),
        (
            Options(profiles=(profile("12V/1A"),), sampling=Sampling(1000), via="gate:1"),
            Reason.POLICY,
        ),
        (Options(sampling=Sampling(1000)), Reason.LIMIT),
        (
            Options(profiles=(profile("1V/1A"),) * 5, sampling=Sampling(1000)),
            Reason.LIMIT,
        ),
        (
            Options(
                profiles=(profile("12V/1A"), profile("5V/1A@50Hz", ProfileType.MINIMUM)),
                sampling=Sampling(1000),
            ),
            Reason.BAD_OPTION,
        ),
    ],
)
@pytest.mark.requirement("PTCP-1-03", "PTCP-2.3-03")
def test_a_syn_that_asks_nothing_clear_is_reset(options: Options, code: int) -> None:
    pair = Pair()
    pair.inject(SOURCE, encode_segment(Control(1, Flag.SYN, 0, options)))
    assert reason_of(pair) == code


def test_ready_is_in_stream_order_with_data() -> None:
    pair, flow = powered()
    pair.said(SOURCE, Ready)
    pair.source.send_samples(flow, [pair.block(flow, 10)], now=pair.now)
    pair.source.shed(flow, LOW, refusal=WHY, urgent=True, now=pair.now)
    kinds = [type(segment).__name__ for segment in segments_of(pair)]
    assert kinds == ["Data", "Shed", "Ready"]


def segments_of(pair: Pair) -> list[object]:
    pair.sent[SOURCE].clear()
    pair.pump(SOURCE)
    return list(pair.sent[SOURCE])


def test_a_range_is_served_with_its_minimum_as_the_least_voltage() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A", "5V/0.5A", grant="9V/1A")
    block = encode_block(0, np.array([[5_000, 1_000_000]] * 100))
    assert pair.source.send_samples(flow, [block], now=pair.now) == 1
    assert pair.said(SOURCE, Alert) == []


@pytest.mark.requirement("PTCP-9-06")
def test_a_proposal_must_carry_a_contract_of_the_sinks_parity() -> None:
    for options in (Options(profiles=(profile("12V/0.8A"),)), Options(contract=3)):
        pair, flow = powered()
        pair.inject(SOURCE, encode_segment(Reneg(flow, 0, options)))
        assert reason_of(pair) in (Reason.BAD_OPTION, Reason.STATE)


@pytest.mark.requirement("PTCP-9-07")
def test_a_proposal_while_ours_is_open_is_rejected_107() -> None:
    pair, flow = powered()
    pair.source.renegotiate(flow, [ask("12V/2A", "12V/1A")], now=pair.now)
    pair.source.data_to_send()
    wish = Reneg(flow, 0, Options(contract=2, profiles=(profile("12V/0.8A"),)))
    pair.source.receive_data(encode_segment(wish), pair.now)
    pair.pump(SOURCE)
    (answer,) = pair.said(SOURCE, Answer)
    assert isinstance(answer, Answer)
    assert answer.options.reason is not None
    assert answer.options.reason.code == Reason.GLARE


def test_an_alert_of_the_sink_is_reported() -> None:
    pair, flow = powered()
    pair.inject(SOURCE, encode_segment(Alert(flow, 0, 1, Options(reason=WHY))))
    assert pair.one(SOURCE, Alerted).severity == 1


@pytest.mark.requirement("PTCP-5-02")
def test_an_answered_probe_ends_a_lapse_to_fallback() -> None:
    pair, flow = powered("12V/1A,lease=5s", fallback="12V/0.1A")
    pair.pass_at(SOURCE, 5)
    pair.exchange()
    pair.advance(2.0)
    assert not pair.source.status(flow).lapsed


@pytest.mark.requirement("PTCP-9-02", "PTCP-9-03")
def test_agreed_terms_hold_from_ready_and_lower_the_demand() -> None:
    pair, flow = powered("12V/1.5A", minimum="5V/0.5A", fallback="12V/0.1A")
    pair.sink.renegotiate(flow, [ask("12V/1A")], now=pair.now)
    pair.exchange()
    asked = pair.one(SOURCE, RenegotiationRequested)
    floor = profile("12V/0.05A", ProfileType.FALLBACK)
    pair.source.answer(flow, True, profile=asked.asks[0].desired, fallback=floor, now=pair.now)
    status = pair.source.status(flow)
    assert status.profile is not None
    assert (status.contract, status.profile.current_ma) == (2, 1000)
    assert status.fallback == status.profile.with_type(ProfileType.FALLBACK, current_ma=50)
    assert pair.source.demand_mw(flow) == 12_000
    pair.exchange()
    assert pair.sink.status(flow).contract == 2


def floors_of(*ends: PowerConnection) -> list[tuple[int, int] | None]:
    """Return voltage and current of the fallback at each end."""
    floors = [end.status(end.flows[0]).fallback for end in ends]
    return [(floor.voltage_mv, floor.current_ma) if floor else None for floor in floors]


@pytest.mark.requirement("PTCP-1-04", "PTCP-5-04", "PTCP-7-05")
@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize("proposer", ["source", "sink"])
def test_a_fallback_comes_back_with_the_power_that_was_shed_below_it(
    proposer: str, *, urgent: bool
) -> None:
    pair, flow = powered("12V/4A,lease=5s", minimum="9V/1A", fallback="12V/1A")
    ceiling = profile("12V/4A", ProfileType.OFFER)
    deadline_ms = 0 if urgent else 500
    for current_ma in (500, 0):
        less = replace(ceiling, current_ma=current_ma)
        pair.source.shed(flow, less, refusal=WHY, deadline_ms=deadline_ms, now=pair.now)
        pair.exchange()
        assert floors_of(*pair.ends) == [(12_000, current_ma)] * 2
    restored = ask("9V/4A,lease=5s")
    if proposer == "source":
        pair.source.renegotiate(flow, [restored], now=pair.now)
        pair.exchange()
        pair.sink.answer(flow, True, now=pair.now)
    else:
        pair.sink.renegotiate(flow, [restored], now=pair.now)
        pair.exchange()
        pair.source.answer(flow, True, profile=restored.desired, now=pair.now)
    pair.exchange()
    # of the power in force, with the current that was granted
    assert floors_of(*pair.ends) == [(9_000, 1000)] * 2
    pair.pass_at(SOURCE, 5)
    lapsed = pair.one(SOURCE, LeaseLapsed).fallback
    assert lapsed is not None
    assert lapsed.power_mw == 9_000
    assert pair.source.status(flow).state == "ENERGISED"


@pytest.mark.requirement("PTCP-1-04", "PTCP-10-03")
def test_a_fallback_comes_back_with_the_power_after_a_resume() -> None:
    old, flow = powered("12V/4A", fallback="12V/1A")
    none = profile("12V/0A", ProfileType.OFFER)
    old.source.shed(flow, none, refusal=WHY, now=old.now)
    old.exchange()
    ticket = old.take(SINK, TicketReceived)[-1].ticket
    old.cut()
    new = Pair(office=old.office, now=old.now)
    floor = profile("12V/1A", ProfileType.FALLBACK)
    new.request(ask("12V/4A"), ticket=ticket, before=none, fallback=floor)
    assert new.one(SOURCE, FlowResumed).fallback is not None
    new.source.ready(1, now=new.now)
    new.exchange()
    assert floors_of(*new.ends) == [(12_000, 0)] * 2
    new.source.renegotiate(1, [ask("12V/4A")], now=new.now)
    new.exchange()
    new.sink.answer(1, True, now=new.now)
    new.exchange()
    assert floors_of(*new.ends) == [(12_000, 1000)] * 2


@pytest.mark.requirement("PTCP-9-02")
def test_a_restore_the_sink_rejects_leaves_the_old_terms() -> None:
    pair, flow = powered()
    pair.source.renegotiate(flow, [ask("12V/1.5A")], now=pair.now)
    pair.exchange()
    pair.sink.answer(flow, False, refusal=WHY, now=pair.now)
    pair.exchange()
    answered = pair.one(SOURCE, RenegotiationAnswered)
    assert (answered.accepted, answered.refusal) == (False, WHY)
    status = pair.source.status(flow)
    assert status.profile is not None
    assert (status.contract, status.profile.current_ma) == (1, 1000)
    assert pair.source.may_propose(flow)


@pytest.mark.requirement("PTCP-6-05", "PTCP-14-02")
def test_blocked_is_repeated_each_second_until_credit_comes() -> None:
    pair, flow = powered()
    block = pair.block(flow, 8_000)
    assert pair.source.send_samples(flow, [block], now=pair.now) == 0
    pair.source.data_to_send()
    for second in (1, 2):
        due = pair.source.get_timer()
        assert due is not None
        pair.pass_at(SOURCE, 1)
        said = segments(pair.source.data_to_send())
        assert [type(one) for one in said].count(Blocked) == 1, second
    pair.source.receive_data(credit_segment(flow, 0, 10**9), pair.now)
    pair.pass_at(SOURCE, 1)
    assert Blocked not in [type(one) for one in segments(pair.source.data_to_send())]


@pytest.mark.requirement("PTCP-10-04")
def test_a_flow_that_cannot_be_moved_is_named_in_no_ticket() -> None:
    pair = Pair()
    opening = SourceFlow(pair.source, 1)
    assert opening.tenure() is None
    pair, flow = powered()
    pair.source.close_flow(flow, now=pair.now)
    # its owner said goodbye: the ticket that was given is void
    ticket = pair.one(SINK, TicketReceived).ticket
    again = Pair(office=pair.office, now=pair.now)
    again.request(ask("12V/1A"), ticket=ticket)
    assert again.take(SOURCE, FlowResumed) == []


@pytest.mark.requirement("PTCP-3.1-01", "PTCP-3.2-01")
@pytest.mark.parametrize(
    ("sampling", "value", "limit"),
    [
        (Sampling(0), 0, 10),
        (Sampling(2**32 - 1), 2**32 - 1, 100_000),
        (Sampling(50, pairs=2), 2, 1),
    ],
)
def test_a_syn_whose_samples_nobody_could_make_is_reset_109(
    sampling: Sampling, value: int, limit: int
) -> None:
    pair = Pair()
    wish = Options(profiles=(profile("12V/1A"),), sampling=sampling)
    pair.source.receive_data(encode_segment(Control(1, Flag.SYN, 0, wish)), pair.now)
    pair.collect()
    refusal = pair.one(SOURCE, FlowClosed).refusal
    assert refusal is not None
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.SAMPLING, value, limit)
    assert pair.take(SOURCE, PowerRequested) == []


@pytest.mark.requirement("PTCP-6-03")
@pytest.mark.parametrize(
    ("said_mw", "shed_mw", "restored_mw"),
    [(DEMAND_MAX, 6_000, 12_000), (8_000, 6_000, 8_000), (3_000, 3_000, 3_000), (0, 0, 0)],
)
@pytest.mark.parametrize("again", [False, True])
def test_a_demand_outlives_a_shed_and_its_restore(
    said_mw: int, shed_mw: int, restored_mw: int, again: bool
) -> None:
    pair, flow = powered()
    octets = credit_segment(flow, 0, 24_000_000, said_mw)
    pair.source.receive_data(octets, pair.now)
    pair.source.shed(flow, LOW, refusal=WHY, urgent=True, now=pair.now)
    # a sink that says nothing more of its demand than it did, at either contract
    answer = Answer(flow, 0, True, Options(contract=3))
    pair.source.receive_data(encode_segment(answer) + (octets if again else b""), pair.now)
    assert pair.source.demand_mw(flow) == shed_mw
    pair.source.renegotiate(flow, [ask("12V/1A")], now=pair.now)
    answer = Answer(flow, 0, True, Options(contract=5))
    pair.source.receive_data(encode_segment(answer), pair.now)
    assert pair.source.demand_mw(flow) == restored_mw


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-04")
@pytest.mark.parametrize(("text", "resumes"), [("12V/1.5A", True), ("230V/16A", False)])
def test_a_resume_asks_again_for_what_was_asked_or_is_a_plain_syn(text: str, resumes: bool) -> None:
    old = Pair()
    flow = old.energise("12V/1.5A", "12V/0.5A", grant="12V/1A")
    ticket = old.take(SINK, TicketReceived)[-1].ticket
    for _ in range(2):  # and once more with what the first resume left
        old.cut()
        new = Pair(office=old.office, now=old.now + 1)
        flow = new.request(ask(text), ticket=ticket, before=profile("12V/1A,lease=60s"))
        assert len(new.take(SOURCE, FlowResumed)) == resumes
        if not resumes:
            assert new.one(SINK, Alerted).refusal == Refusal(Reason.TICKET_INVALID)
            assert len(new.one(SOURCE, PowerRequested).asks) == 1
            return
        new.source.ready(flow, now=new.now)
        new.exchange()
        ticket = new.take(SINK, TicketReceived)[-1].ticket
        old = new
