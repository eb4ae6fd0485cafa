"""Flows under the policy: judged at their terms, held to their rule, ended when they may not be."""

from dataclasses import replace

import pytest

from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    FlowRefused,
    PowerOffered,
    PowerReady,
    PowerRequested,
    RenegotiationAnswered,
    RenegotiationRequested,
    ShedReceived,
)
from powertcp.profile import ProfileType
from powertcp.reclaim.flows import DRAIN_NS, ENDED_MAX
from powertcp.reclaim.policy import State
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import Entity, Options
from powertcp.wire.segments import Answer, Control, CookieSegment, Credit, Reneg
from tests.conversation import SINK, SOURCE, ask, profile, segments
from tests.metered import DAY, NIGHT
from tests.screens import (
    ACCEPT,
    RECLAIM,
    RESERVOIR,
    Judged,
    ScreenedPair,
    data_with_options,
    joules,
    power,
    told,
)

GUID = bytes(range(16))


def refused(pair: ScreenedPair, side: int = SINK) -> Refusal:
    """Return what the one flow of a side was refused for."""
    if side == SINK and (found := pair.take(SINK, FlowRefused)):
        return found[0].refusal
    refusal = pair.one(side, FlowClosed).refusal
    assert refusal is not None
    return refusal


# ---- when it is judged --------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-01")
def test_a_flow_is_judged_at_its_syn_and_at_each_new_set_of_terms() -> None:
    pair = ScreenedPair()
    judged = Judged(pair.firewall)
    flow = pair.energise("12V/2A", "12V/0.5A")
    opening = [State.NEW, State.OFFERED, State.OFFERED, State.ENERGISED]
    assert judged.states == opening
    pair.run(flow, 20)
    # DATA and CREDIT are arithmetic
    assert judged.states == opening
    pair.sink.renegotiate(flow, [ask("12V/1A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, True, profile=profile("12V/1A"), now=pair.now)
    pair.exchange()
    assert judged.states[4:] == [State.RENEGOTIATING, State.ENERGISED]
    assert [one.current_ma for one in judged.facts[4:]] == [1_000, 1_000]
    pair.source.shed(
        flow, profile("12V/0.5A", ProfileType.OFFER), refusal=Refusal(Reason.BUDGET), now=pair.now
    )
    pair.exchange()
    assert judged.states[6:] == [State.RENEGOTIATING, State.ENERGISED]
    assert [one.current_ma for one in judged.facts[6:]] == [500, 500]
    assert told(pair.firewall)[0] == "accepted"


@pytest.mark.requirement("FWRL-3-11")
@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ("rule power > 30W -> reject 204\nrule voltage = 5V -> reject 101", Reason.VOLTAGE_RANGE),
        ("rule power > 20W -> reject 204\nrule voltage = 5V -> reject 101", Reason.WATT_LIMIT),
        ("rule state offered -> reject 310", Reason.RESERVOIR_FULL),
    ],
)
def test_of_several_asks_the_first_that_is_not_accepted_decides(rules: str, code: Reason) -> None:
    pair = ScreenedPair(f"{ACCEPT}\n{rules}")
    judged = Judged(pair.firewall)
    flow = pair.request(ask("12V/2A"), ask("5V/3A"))
    if code is Reason.RESERVOIR_FULL:
        assert judged.states == [State.NEW, State.NEW]
        pair.source.grant(flow, profile("5V/3A"), now=pair.now)
        pair.exchange()
    assert refused(pair).code == code


def test_what_the_handshake_says_of_price_and_entity_is_what_rules_see() -> None:
    pair = ScreenedPair()
    judged = Judged(pair.firewall)
    pair.request(ask("12V/1A"), entity=Entity(GUID, 1))
    pair.source.grant(1, profile("12V/1A"), tariff=DAY, now=pair.now)
    pair.exchange()
    assert [(one.entity, one.tariff_micro) for one in judged.facts] == [
        (GUID, None), (GUID, 312_000), (GUID, 312_000),
    ]  # fmt: skip
    assert judged.facts[2].currency == "EUR"


# ---- verdicts at a SYN --------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-06")
def test_a_rejected_syn_hears_the_rule_its_limit_and_the_best_that_would_pass() -> None:
    pair = ScreenedPair("policy accept\n\nrule direction out power > 30W -> reject 204")
    pair.request(ask("12V/3A"))
    event = pair.one(SINK, FlowRefused)
    refusal = event.refusal
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.WATT_LIMIT, 36_000, 30_000)
    assert refusal.text == "line 3"
    assert event.best is not None
    assert (event.best.type, event.best.power_mw) == (ProfileType.REFUSE, 30_000)
    assert (pair.passed[SOURCE], pair.told) == ([], [])
    assert pair.screen.is_idle
    (ruled,) = pair.firewall.events
    assert (ruled.what, ruled.is_logged) == ("refused", True)
    assert ruled.refusal is not None
    assert ruled.refusal.rule == "firewall.policy:3 rule direction out power > 30W -> reject 204"
    account = pair.account()
    assert (account.what, account.is_over, account.refusal) == ("refused", True, ruled.refusal)
    # and what is within the limit passes on the same connection
    pair.request(ask("12V/2.5A"))
    assert pair.one(SOURCE, PowerRequested).asks[0].desired.current_ma == 2_500


@pytest.mark.requirement("FWRL-3-06")
def test_a_refusal_without_a_limit_of_power_leaves_nothing_to_ask_for() -> None:
    pair = ScreenedPair("policy reject 206")
    pair.request(ask("12V/3A"))
    event = pair.one(SINK, FlowRefused)
    assert (event.refusal.code, event.refusal.value) == (Reason.POLICY, 1)
    assert event.best is not None
    assert (event.best.voltage_mv, event.best.current_ma) == (12_000, 0)


@pytest.mark.requirement("FWRL-3-06")
def test_a_syn_without_asks_is_refused_without_a_profile() -> None:
    pair = ScreenedPair("policy reject 206")
    pair.say(SINK, Control(1, Flag.SYN, 0, Options(ticket=b"t" * 40)))
    (reset,) = pair.were_told(SINK)
    assert isinstance(reset, Control)
    assert reset.options.profiles == ()


@pytest.mark.requirement("FWRL-3-12")
def test_a_dropped_syn_closes_the_connection_without_a_word() -> None:
    pair = ScreenedPair("policy drop")
    pair.request(ask("12V/1A"))
    assert pair.passed == [[], []]
    assert (pair.screen.is_over, pair.hung.refusal) == (True, None)
    assert told(pair.firewall) == ["dropped"]
    assert pair.account().is_over
    assert pair.firewall.screens == {}


@pytest.mark.requirement("FWRL-3-13")
def test_a_syn_has_no_source_to_harvest_and_is_refused() -> None:
    pair = ScreenedPair(f"{RESERVOIR}\npolicy reclaim main")
    pair.request(ask("12V/1A"))
    refusal = refused(pair)
    assert (refusal.code, refusal.value, refusal.text) == (Reason.POLICY, 2, "line 2")
    assert pair.passed[SOURCE] == []
    assert pair.firewall.harvests == 0


# ---- verdicts at later terms --------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-06")
def test_an_offer_that_may_not_be_is_refused_to_both() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule tariff > 0.30EUR -> reject 104")
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), tariff=DAY, now=pair.now)
    pair.exchange()
    sink, source = refused(pair), refused(pair, SOURCE)
    assert sink == source
    assert (sink.code, sink.value, sink.limit) == (Reason.TARIFF, 312_000, 300_000)
    assert pair.screen.is_idle
    assert told(pair.firewall) == ["accepted", "refused"]


@pytest.mark.requirement("FWRL-3-13")
def test_power_that_does_not_flow_yet_is_refused_and_not_harvested() -> None:
    pair = ScreenedPair(f"{RESERVOIR}\n{ACCEPT}\nrule state offered power > 5W -> reclaim main")
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    assert [refused(pair, side).code for side in (SINK, SOURCE)] == [Reason.POLICY] * 2
    assert pair.firewall.harvests == 0


@pytest.mark.requirement("FWRL-3-12")
def test_a_dropped_offer_closes_both_connections_with_all_their_flows() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule state offered voltage = 5V -> drop")
    pair.energise("12V/1A")
    told_before = [len(pair.were_told(side)) for side in (SINK, SOURCE)]
    flow = pair.request(ask("5V/1A"))
    told_before[SOURCE] += 1
    pair.source.grant(flow, profile("5V/1A"), now=pair.now)
    pair.exchange()
    assert [len(pair.were_told(side)) for side in (SINK, SOURCE)] == told_before
    assert pair.screen.is_over
    assert told(pair.firewall)[-2:] == ["dropped", "cut"]
    assert pair.firewall.flows.live == {}


@pytest.mark.requirement("FWRL-3-01")
def test_a_counter_offer_is_judged_as_it_is_made() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule state offered current > 2A -> reject 204")
    flow = pair.request(ask("12V/3A", "12V/1A"))
    offers = [(profile("12V/2A"), None)]
    pair.source.counter(flow, offers, Refusal(Reason.NO_CAPACITY), now=pair.now)
    pair.exchange()
    assert pair.one(SINK, PowerOffered).offers[0].offer.current_ma == 2_000


# ---- proposals ----------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-11")
def test_a_proposal_of_the_sink_beyond_the_rule_is_rejected_here_and_the_contract_stays() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule state renegotiating power > 20W -> reject 204 log")
    flow = pair.energise("12V/1A")
    before = pair.sink.status(flow).profile
    heard = len(b"".join(pair.passed[SOURCE]))
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    answer = pair.one(SINK, RenegotiationAnswered)
    assert answer.refusal is not None
    assert (answer.accepted, answer.refusal.code) == (False, Reason.WATT_LIMIT)
    assert (answer.refusal.value, answer.refusal.limit) == (24_000, 20_000)
    assert pair.sink.status(flow).profile == before == pair.source.status(flow).profile
    assert len(b"".join(pair.passed[SOURCE])) == heard
    assert pair.run(flow, 5) == 5
    # one that may be passes, and holds
    pair.sink.renegotiate(flow, [ask("12V/1.5A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, True, profile=profile("12V/1.5A"), now=pair.now)
    pair.exchange()
    assert pair.take(SINK, PowerReady)[-1].profile.current_ma == 1_500


@pytest.mark.requirement("FWRL-3-11")
def test_a_price_of_the_source_beyond_the_rule_is_rejected_here_and_the_old_one_stays() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule state renegotiating tariff > 0EUR -> reject 104")
    judged = Judged(pair.firewall)
    flow = pair.request(ask("12V/2A"))
    pair.source.grant(flow, profile("12V/2A"), tariff=NIGHT, now=pair.now)
    pair.exchange()
    pair.source.ready(flow, now=pair.now)
    pair.exchange()
    pair.run(flow, 3)
    offers = [Ask(profile("12V/1A", ProfileType.OFFER))]
    pair.source.renegotiate(flow, offers, tariff=DAY, now=pair.now)
    pair.exchange()
    answer = pair.one(SOURCE, RenegotiationAnswered)
    assert answer.refusal is not None
    assert (answer.accepted, answer.refusal.code) == (False, Reason.TARIFF)
    assert pair.take(SINK, RenegotiationRequested) == []
    # it is not the price of later terms
    pair.source.renegotiate(flow, offers, now=pair.now)
    pair.exchange()
    assert judged.facts[-1].tariff_micro == NIGHT.price
    assert len(pair.take(SINK, RenegotiationRequested)) == 1


@pytest.mark.requirement("FWRL-3-11")
def test_a_proposal_that_the_source_rejects_leaves_what_was_asked_for() -> None:
    pair = ScreenedPair()
    judged = Judged(pair.firewall)
    flow = pair.energise("12V/1A")
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, False, now=pair.now)
    pair.exchange()
    pair.reload(ACCEPT)
    assert judged.facts[-1].current_ma == 1_000


@pytest.mark.requirement("FWRL-3-12")
def test_a_dropped_proposal_closes_the_connection() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule state renegotiating -> drop")
    flow = pair.energise("12V/1A")
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    assert pair.screen.is_over
    assert pair.take(SINK, RenegotiationAnswered) == []


@pytest.mark.requirement("FWRL-3-14")
def test_proposals_without_end_end_the_connection() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule state renegotiating -> reject 204")
    flow = pair.energise("12V/1A")
    for count in range(21):
        assert pair.screen.is_over is False, count
        terms = Options(contract=100 + count, profiles=(profile("12V/2A"),))
        pair.hear(SINK, encode_segment(Reneg(flow, 0, terms)))
    assert pair.hung.refusal is not None
    assert (pair.hung.refusal.code, pair.hung.refusal.value) == (Reason.CHURN, 21)
    answers = segments(pair.legs[SINK].data_to_send())
    assert [type(one) for one in answers] == [Answer] * 21 + [Control]


@pytest.mark.requirement("FWRL-3-01")
def test_a_shed_that_may_not_be_ends_the_flow() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule state renegotiating current < 1A -> reject 206")
    flow = pair.energise("12V/2A", "12V/0.5A")
    pair.source.shed(
        flow, profile("12V/0.5A", ProfileType.OFFER), refusal=Refusal(Reason.BUDGET), now=pair.now
    )
    pair.exchange()
    assert pair.take(SINK, ShedReceived) == []
    assert [refused(pair, side).code for side in (SINK, SOURCE)] == [Reason.POLICY] * 2


# ---- limits -------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-05", "FWRL-1-03")
def test_a_limit_holds_credit_back_and_rewrites_nothing() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule direction out -> accept limit 5W burst 5J")
    flow = pair.energise("12V/1A")
    blocks = pair.run(flow, 600)
    said = pair.said(SINK, Credit)
    heard = [one for one in pair.were_told(SOURCE) if isinstance(one, Credit)]
    # each that passed was said so, in that order, and not all did
    rest = iter(said)
    assert all(one in rest for one in heard)
    assert len(heard) < len(said)
    # everything else passed
    assert pair.octets(SOURCE)[0] == pair.octets(SOURCE)[1]
    # 60 s at 5 W, and the burst
    energy_uj = pair.sink.status(flow).esn_uj
    assert 250_000_000 <= energy_uj <= 300_000_000 + 5_000_000
    assert blocks * 1_200_000 == energy_uj == pair.firewall.joules.authorised_uj
    account = pair.account()
    assert account.what == "clamped"
    assert account.holds > 5
    assert told(pair.firewall)[-2:] == ["powered", "clamped"]
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    assert pair.screen.is_idle
    assert joules(pair.firewall) == (energy_uj, energy_uj, 0, 0)


@pytest.mark.requirement("FWRL-3-05")
def test_credit_that_waits_is_let_go_at_its_time() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule direction out -> accept limit 1W burst 1J")
    flow = pair.energise("12V/1A")
    pair.say(SINK, Credit(flow, 0, 24_000_000 + 1_000_000))
    # the bucket has a joule, and saves up for the rest
    due = pair.screen.get_timer()
    assert due is not None
    assert due - pair.now == 24 * NS_PER_S
    before = len(pair.were_told(SOURCE))
    pair.screen.handle_timer(due - 1)
    assert pair.flush() == b""
    pair.now = due
    pair.screen.handle_timer(due)
    pair.flush()
    assert pair.were_told(SOURCE)[before:] == [Credit(flow, 0, 25_000_000)]
    assert pair.screen.get_timer() is None


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-05")
def test_a_limit_that_changes_nothing_ends_nothing_and_gives_no_new_burst() -> None:
    text = f"{ACCEPT}\nrule direction out -> accept limit 1W burst 30J"
    pair = ScreenedPair(text)
    flow = pair.energise("12V/1A")
    pair.say(SINK, Credit(flow, 0, 50_000_000))
    due = pair.screen.get_timer()
    assert due is not None
    for _ in range(3):
        pair.reload(text)
        assert pair.screen.get_timer() == due
    pair.reload(ACCEPT)
    assert pair.source.status(flow).state == "ENERGISED"
    assert Credit(flow, 0, 50_000_000) in pair.were_told(SOURCE)
    assert pair.screen.get_timer() is None


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-05")
def test_a_limit_in_mid_flow_holds_from_the_next_credit_on() -> None:
    pair = ScreenedPair()
    flow = pair.energise("12V/1A")
    assert pair.run(flow, 20) == 20
    pair.reload(f"{ACCEPT}\nrule direction out -> accept limit 2W burst 2J")
    before_uj = pair.sink.status(flow).esn_uj
    pair.run(flow, 600)
    grown_uj = pair.sink.status(flow).esn_uj - before_uj
    # what was granted before, a window, the burst, and 60 s at 2 W
    assert 120_000_000 <= grown_uj <= 120_000_000 + 2 * 24_000_000 + 2_000_000
    # a stricter one holds what already waits
    pair.reload(f"{ACCEPT}\nrule direction out -> accept limit 1W burst 1J")
    before_uj = pair.sink.status(flow).esn_uj
    pair.run(flow, 600)
    assert pair.sink.status(flow).esn_uj - before_uj <= 60_000_000 + 2 * 24_000_000


@pytest.mark.requirement("FWRL-3-07", "FWRL-3-01")
def test_data_is_marked_while_the_verdict_stands_and_not_after() -> None:
    pair = ScreenedPair(
        f"{ACCEPT}\nrule load > 90% -> accept mark-ece", rules={"rating_mw": 10_000}
    )
    flow = pair.energise("12V/1A")
    pair.run(flow, 25)
    assert pair.firewall.load_percent == 120
    said, heard = pair.octets(SOURCE)
    assert said != heard
    # ECE is all that was changed, and the sink reduced
    assert len(said) == len(heard)
    changed = {(a, b) for a, b in zip(said, heard, strict=True) if a != b}
    assert changed == {(0, Flag.ECE)}
    pair.advance(3)
    assert pair.firewall.load_percent == 0
    quiet = [len(octets) for octets in pair.octets(SOURCE)]
    pair.run(flow, 5)
    said, heard = pair.octets(SOURCE)
    assert said[quiet[0] :] == heard[quiet[1] :]


@pytest.mark.requirement("FWRL-3-05")
def test_each_flow_waits_for_its_own_credit() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule direction out -> accept limit 1W burst 24J")
    flows = [pair.energise("12V/1A"), pair.energise("12V/1A")]
    for seconds, flow in enumerate(flows, 1):
        pair.say(SINK, Credit(flow, 0, 24_000_000 + seconds * 1_000_000))
    before = pair.now
    for flow in flows:
        pair.now = pair.screen.get_timer() or 0
        pair.screen.handle_timer(pair.now)
        pair.flush()
        last = pair.were_told(SOURCE)[-1]
        assert isinstance(last, Credit)
        assert (last.flow, pair.now - before) == (flow, flows.index(flow) * NS_PER_S + NS_PER_S)


# ---- energy, load, time -------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-01")
def test_energy_that_crosses_a_limit_is_judged_at_the_block_that_crosses() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule energy >= 6J -> reject 205")
    flow = pair.energise("12V/1A")
    assert pair.run(flow, 20) == 5
    refusal = refused(pair)
    assert (refusal.code, refusal.value, refusal.limit) == (
        Reason.ENERGY_QUOTA, 6_000_000, 6_000_000,
    )  # fmt: skip
    assert joules(pair.firewall) == (6_000_000, 6_000_000, 0, 0)


@pytest.mark.requirement("FWRL-3-01")
def test_options_of_a_block_hide_no_limit_of_energy() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule energy >= 2J -> reject 205")
    pair.answers = False
    flow = pair.energise("12V/1A")
    for number in range(2):
        block = power(flow, 1_200_000 * number, counter=100 * number)
        pair.say(SOURCE, data_with_options(flow, block.esn, bytes(block.payload), contract=1))
    said, heard = pair.octets(SOURCE)
    assert heard.startswith(said)
    assert refused(pair).code == Reason.ENERGY_QUOTA
    assert joules(pair.firewall) == (2_400_000, 2_400_000, 0, 0)


@pytest.mark.requirement("FWRL-3-01")
def test_every_mark_of_energy_is_judged_once() -> None:
    pair = ScreenedPair(
        f"{ACCEPT}\nrule energy < 2J -> accept\nrule energy < 4J -> accept limit 100W"
    )
    judged = Judged(pair.firewall)
    flow = pair.energise("12V/1A")
    before = len(judged.lines)
    pair.run(flow, 10)
    assert judged.lines[before:] == [(State.ENERGISED, 3), (State.ENERGISED, 1)]
    assert [one.energy_uj for one in judged.facts[before:]] == [2_400_000, 4_800_000]


@pytest.mark.requirement("FWRL-3-01")
def test_time_that_crosses_a_limit_is_judged() -> None:
    minute = [8 * 60]
    pair = ScreenedPair(
        f"{ACCEPT}\nrule time 09:00-17:00 -> reject 206",
        rules={"clock": lambda: (minute[0], None)},
    )
    flow = pair.energise("12V/1A")
    pair.run(flow, 15)
    assert pair.screen.is_idle is False
    minute[0] = 9 * 60
    pair.run(flow, 15)
    assert refused(pair).code == Reason.POLICY
    assert pair.screen.is_idle


@pytest.mark.requirement("FWRL-3-01")
def test_what_is_silent_for_three_probes_is_stale() -> None:
    pair = ScreenedPair()
    judged = Judged(pair.firewall)
    pair.energise("12V/1A")
    pair.now += 3 * NS_PER_S
    pair.firewall.take(pair.firewall.policy, pair.now)
    pair.now += 1
    pair.firewall.take(pair.firewall.policy, pair.now)
    assert judged.states[-2:] == [State.ENERGISED, State.STALE]


def test_a_flow_of_which_nothing_flows_is_judged_by_what_was_asked() -> None:
    pair = ScreenedPair()
    judged = Judged(pair.firewall)
    pair.request(ask("12V/1A"), ask("5V/1A"))
    pair.now += 9 * NS_PER_S
    pair.firewall.take(pair.firewall.policy, pair.now)
    assert judged.states[-2:] == [State.NEW, State.NEW]
    assert [one.voltage_mv for one in judged.facts[-2:]] == [12_000, 5_000]


# ---- another policy -----------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-02")
def test_flows_survive_a_policy_that_accepts_them_to_the_octet() -> None:
    pair = ScreenedPair()
    flow = pair.energise("12V/1A")
    for _ in range(10):
        pair.run(flow, 3)
        pair.reload(f"{ACCEPT}\nrule power > 100W -> drop")
    for side in (SINK, SOURCE):
        assert pair.octets(side)[0] == pair.octets(side)[1]
    assert pair.sink.status(flow).esn_uj == 36_000_000 == pair.firewall.joules.authorised_uj


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-06")
def test_a_policy_that_rejects_a_flow_ends_it_for_both() -> None:
    pair = ScreenedPair()
    flow = pair.energise("12V/1A")
    other = pair.energise("5V/1A")
    pair.run(flow, 5)
    pair.reload(f"{ACCEPT}\nrule voltage > 6V -> reject 101")
    sink, source = pair.one(SINK, FlowClosed), pair.one(SOURCE, FlowClosed)
    assert (sink.flow, source.flow) == (flow, flow)
    assert sink.refusal == source.refusal
    assert sink.esn_uj == source.esn_uj == 6_000_000
    assert pair.run(other, 5) == 5


@pytest.mark.requirement("FWRL-3-13", "FWRL-3-02")
def test_a_policy_that_reclaims_a_flow_takes_the_place_of_its_consumer() -> None:
    pair = ScreenedPair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 5)
    pair.reload(f"{RESERVOIR}\n{ACCEPT}\nrule state energised -> reclaim main")
    refusal = refused(pair)
    assert (refusal.code, refusal.text) == (Reason.POLICY, "line 3")
    # the source goes on where it was, with us
    assert pair.source.status(flow).state == "ENERGISED"
    assert pair.run(flow, 5) == 5
    assert joules(pair.firewall) == (12_000_000, 6_000_000, 5_700_000, 300_000)
    assert pair.source.status(flow).esn_uj == 12_000_000
    account = pair.account()
    assert (account.what, account.joules.in_uj) == ("intercepted", 12_000_000)
    pair.source.close_flow(flow, now=pair.now)
    pair.exchange()
    closed = pair.one(SOURCE, FlowClosed)
    assert (closed.truncated, closed.acked_uj) == (False, 12_000_000)
    assert pair.firewall.harvests == 0
    assert pair.screen.is_idle


@pytest.mark.requirement("FWRL-4-05", "FWRL-3-13")
def test_a_flow_that_may_not_be_harvested_is_refused_to_its_source_too() -> None:
    pair = ScreenedPair()
    pair.energise("12V/1A")
    # one connection of a peer begins in a second
    pair.firewall.admit("198.51.100.7", pair.now)
    pair.reload(f"{RESERVOIR}\n{ACCEPT}\nrule state energised -> reclaim main")
    assert refused(pair).code == Reason.POLICY
    assert refused(pair, SOURCE).code == Reason.CHURN
    assert pair.account().what == "refused"
    assert pair.screen.is_idle


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-12")
def test_a_policy_that_drops_a_flow_ends_all_of_its_connection_at_once() -> None:
    pair = ScreenedPair()
    pair.energise("12V/1A")
    pair.energise("5V/1A")
    judged = Judged(pair.firewall)
    pair.reload(f"{ACCEPT}\nrule voltage = 12V -> drop")
    assert pair.screen.is_over
    assert len(judged.lines) == 1
    assert told(pair.firewall)[-2:] == ["dropped", "cut"]


# ---- endings ------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-06")
def test_what_was_under_way_when_a_flow_ended_is_heat_and_no_attack() -> None:
    pair = ScreenedPair(RECLAIM)
    flow = pair.energise("12V/1A")
    pair.firewall.take(pair.firewall.policy, pair.now)
    pair.screen.end_all(Refusal(Reason.MAINTENANCE), pair.now)
    # the source has not heard of it yet
    pair.say(SOURCE, power(flow))
    assert joules(pair.firewall) == (1_200_000, 0, 0, 1_200_000)
    assert pair.account().joules.heat_uj == 1_200_000
    # later it is one
    pair.now += DRAIN_NS + 1
    pair.say(SOURCE, power(flow, 1_200_000))
    assert pair.firewall.harvests == 1


@pytest.mark.requirement("FWRL-3-14")
def test_more_requests_than_may_be_refused_are_refused_once() -> None:
    pair = ScreenedPair()
    for _ in range(23):
        pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.hear(SINK, pair.sink.data_to_send())
    pair.legs[SOURCE].data_to_send()
    pair.screen.give_up(Refusal(Reason.NO_CAPACITY), pair.now)
    pair.flush()
    assert pair.screen.is_over
    assert pair.firewall.flows.live == {}
    assert told(pair.firewall).count("refused") == 21
    assert told(pair.firewall).count("cut") == 2


def test_of_flows_that_ended_the_last_ones_are_known() -> None:
    pair = ScreenedPair("policy reject 206")
    for number in range(1, 2 * ENDED_MAX + 3, 2):
        pair.now += NS_PER_S
        pair.say(SINK, Control(number, Flag.SYN, 0, Options(profiles=(profile("12V/1A"),))))
    last = 2 * ENDED_MAX + 1
    before = len(told(pair.firewall))
    pair.say(SOURCE, power(last))
    assert len(told(pair.firewall)) == before
    assert pair.firewall.joules.heat_uj == 1_200_000


def test_a_number_that_is_asked_for_again_is_a_new_flow() -> None:
    pair = ScreenedPair()
    flow = pair.energise("12V/1A")
    pair.run(flow, 2)
    pair.screen.end_all(Refusal(Reason.OPERATOR), pair.now)
    pair.exchange()
    assert pair.take(SINK, FlowClosed)
    again = pair.energise("12V/1A")
    assert again != flow
    assert pair.run(again, 2) == 2
    assert pair.account(again).joules.authorised_uj == 2_400_000


def test_a_syn_that_comes_again_with_its_cookie_is_one_flow() -> None:
    pair = ScreenedPair()
    options = Options(profiles=(profile("12V/1A"),))
    pair.hear(SINK, encode_segment(Control(1, Flag.SYN, 0, options)))
    pair.hear(SOURCE, encode_segment(CookieSegment(1, 0, b"c" * 32)))
    again = replace(options, cookie=b"c" * 32)
    pair.hear(SINK, encode_segment(Control(1, Flag.SYN, 0, again)))
    assert list(pair.firewall.flows.live) == ["10.0.0.7:4711/1"]
    assert told(pair.firewall) == ["accepted", "accepted"]


@pytest.mark.requirement("LEDG-8-03")
def test_claims_of_headers_are_counted_once() -> None:
    pair = ScreenedPair()
    pair.answers = False
    flow = pair.energise("12V/1A")
    pair.say(SOURCE, power(flow, 5_000_000))
    assert pair.firewall.joules.claimed_uj == 5_000_000
    assert pair.account().joules.claimed_uj == 5_000_000
    pair.say(SOURCE, power(flow, 5_000_000, counter=100))
    assert pair.firewall.joules.claimed_uj == 5_000_000


@pytest.mark.requirement("FWRL-3-03")
def test_a_goodbye_that_nobody_answers_is_reset() -> None:
    pair = ScreenedPair()
    flow = pair.energise("12V/1A")
    pair.hear(SINK, encode_segment(Control(flow, Flag.FIN, 0)))
    for leg in pair.legs:
        leg.data_to_send()
    due = pair.screen.get_timer()
    assert due == pair.now + 2 * DRAIN_NS
    # said again it is no new one
    pair.now += NS_PER_S
    pair.hear(SINK, encode_segment(Control(flow, Flag.FIN, 0)))
    assert pair.screen.get_timer() == due
    pair.now = due
    pair.screen.handle_timer(due)
    found = [segments(leg.data_to_send())[-1] for leg in pair.legs]
    assert [one.options.reason.code for one in found
            if isinstance(one, Control) and one.options.reason] == [Reason.TIMEOUT] * 2  # fmt: skip
    assert pair.screen.is_idle
