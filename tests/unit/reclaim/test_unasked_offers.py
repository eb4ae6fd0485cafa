"""SYN+ACK for which nobody asked: the firewall is the sink of what it offers, at its sampling."""

from dataclasses import replace

import pytest

from powertcp.reclaim.attack import AttackTerms, Style
from powertcp.reclaim.flows import DRAIN_NS
from powertcp.reclaim.policy import State
from powertcp.registry import Flag, Reason
from powertcp.units import NS_PER_S
from powertcp.wire.options import Options, Sampling
from powertcp.wire.segments import Control, Credit
from tests.screens import GRANT, RECLAIM, RESERVOIR, Besieged, Judged, joules, power, worth

ANSWER = AttackTerms(style=Style.ANSWER, duration_ns=2 * NS_PER_S)
SYN_ACK = Flag.SYN | Flag.ACK


def offer(sampling: Sampling | None, flow: int = 1) -> Control:
    return Control(flow, SYN_ACK, 0, Options(contract=1, profiles=(GRANT,), sampling=sampling))


@pytest.mark.requirement("FWRL-4-08")
def test_an_offer_nobody_asked_for_is_accepted_as_its_sink_would() -> None:
    siege = Besieged(RECLAIM, ANSWER)
    siege.run(2)
    taken = siege.of(Control)[0]
    assert (taken.flow, taken.flags, taken.options.contract) == (1, Flag.ACK, 1)
    (grant,) = taken.options.profiles
    assert (grant.voltage_mv, grant.current_ma) == (250_000, 4_000)
    assert isinstance(siege.answers[1], Credit)
    assert siege.attack.answers["Control"] >= 1
    assert joules(siege.firewall) == (2_000_000_000, 0, 1_900_000_000, 100_000_000)
    assert siege.leaked == b""


@pytest.mark.requirement("FWRL-4-07")
@pytest.mark.parametrize(
    "sampling",
    [Sampling(500), Sampling(1000, 10_000_000, 1_000), Sampling(2000, 1_000, 1_000_000)],
)
def test_samples_are_worth_what_the_offer_says(sampling: Sampling) -> None:
    terms = replace(ANSWER, sampling=sampling, voltage_mv=10_000, current_ua=1_000_000)
    siege = Besieged(RECLAIM, terms)
    siege.run(2)
    assert siege.attack.sent_uj == 20_000_000
    assert joules(siege.firewall)[0] == siege.attack.sent_uj
    assert siege.attack.claimed_uj == siege.firewall.joules.claimed_uj == 0


@pytest.mark.requirement("FWRL-4-07")
def test_an_offer_that_comes_after_power_changes_nothing_of_its_scale() -> None:
    siege = Besieged(RECLAIM)
    siege.say(power(1), offer(Sampling(10, 1_000_000_000, 1_000_000_000)), power(1, counter=100))
    assert joules(siege.firewall)[0] == 2 * worth((12_000, 1_000_000, 100))


@pytest.mark.requirement("FWRL-4-08", "FWRL-3-01")
def test_an_offer_is_judged_by_its_terms_as_unsolicited() -> None:
    siege = Besieged(f"{RESERVOIR}\npolicy drop\nrule power > 11W -> reject 204")
    judged = Judged(siege.firewall)
    (reset,) = siege.say(offer(Sampling(1000)))
    assert isinstance(reset, Control)
    assert reset.flags == Flag.RST
    reason = reset.options.reason
    assert reason is not None
    assert (reason.code, reason.value, reason.limit) == (Reason.WATT_LIMIT, 12_000, 11_000)
    assert judged.lines == [(State.UNSOLICITED, 3)]
    assert siege.account().is_over


def test_an_offer_that_may_pass_has_nobody_to_go_to() -> None:
    siege = Besieged("policy accept")
    (reset,) = siege.say(offer(Sampling(1000)))
    assert isinstance(reset, Control)
    assert reset.flags == Flag.RST
    assert siege.leaked == b""


def test_an_offer_that_is_dropped_closes_the_connection() -> None:
    siege = Besieged("policy drop")
    assert siege.say(offer(Sampling(1000))) == []
    assert siege.screen.is_over


@pytest.mark.parametrize("sampling", [None, Sampling(0), Sampling(1000, 0, 5)])
def test_an_offer_whose_samples_would_be_worth_nothing_is_refused(
    sampling: Sampling | None,
) -> None:
    siege = Besieged(RECLAIM)
    siege.say(offer(sampling))
    assert siege.of(Credit) == []
    assert [one.flags for one in siege.of(Control)] == [Flag.RST]
    assert siege.firewall.harvests == 0


def test_an_offer_that_was_under_way_when_its_flow_ended_is_no_attack() -> None:
    siege = Besieged(RECLAIM)
    siege.say(power(1))
    siege.say(Control(1, Flag.FIN, 1_200_000))
    judged = Judged(siege.firewall)
    assert siege.say(offer(Sampling(1000))) == []
    assert judged.states == []
    siege.wait(DRAIN_NS / NS_PER_S + 1)
    siege.say(offer(Sampling(1000)))
    assert judged.states[0] is State.UNSOLICITED


@pytest.mark.requirement("FWRL-4-09")
def test_the_firewall_says_what_it_integrated() -> None:
    siege = Besieged(RECLAIM, replace(ANSWER, claim_factor=10))
    siege.run(2)
    assert max(one.esn for one in siege.of(Credit)) <= siege.firewall.joules.in_uj
    goodbye = siege.of(Control)[-1]
    assert (goodbye.flags, goodbye.esn) == (Flag.FIN | Flag.ACK, 2_000_000_000)
    assert siege.firewall.joules.claimed_uj == 18_000_000_000
