"""Blocks that no sink banks: unsafe ones, unsolicited ones, lies, and what comes too late."""

import pytest

from powertcp.potcp.events import FlowClosed, FlowTripped, HeatCounted
from powertcp.reclaim.accounts import EXPLAIN_MEMORY
from powertcp.reclaim.flows import DRAIN_NS
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.policy import State
from powertcp.reclaim.track import End
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import Options, Sampling
from powertcp.wire.segments import Control, Credit, Data, Segment, Trip
from tests.conversation import SINK, SOURCE, Pair, ask, profile, segments
from tests.screens import (
    ACCEPT,
    GRANT,
    PROVIDER,
    RECLAIM,
    STRANGER,
    Besieged,
    Judged,
    ScreenedPair,
    firewall_of,
    joules,
    postings,
    power,
    told,
    worth,
)

J = 1_000_000
REJECT = f"{ACCEPT}\nrule state unsolicited -> reject 305"
DROP = f"{ACCEPT}\nrule state unsolicited -> drop"


def resets(segments: list[Segment]) -> list[Refusal | None]:
    return [
        one.options.reason for one in segments if isinstance(one, Control) and one.flags == Flag.RST
    ]


# ---- hard protection ----------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-03")
@pytest.mark.parametrize(
    ("volts_mv", "current_ua", "code"),
    [
        (13_201, 1_000_000, Reason.OVER_VOLTAGE),
        (400_000_000, 1_000_000, Reason.OVER_VOLTAGE),
        (12_000, 4_301_000, Reason.SHORT_CIRCUIT),
        (12_000, -1_000_000, Reason.REVERSE_POWER),
    ],
)
@pytest.mark.parametrize("policy", [ACCEPT, RECLAIM, REJECT, DROP])
def test_what_is_unsafe_trips_both_sides_whatever_the_policy_says(
    policy: str, volts_mv: int, current_ua: int, code: Reason
) -> None:
    pair = ScreenedPair(policy)
    flow = Pair.energise(pair, "12V/1A")
    pair.run(flow, 5)
    before = len(pair.were_told(SINK)), len(pair.were_told(SOURCE))
    pair.hear(SOURCE, encode_segment(power(flow, 6 * J, volts_mv, current_ua, counter=500)))
    pair.flush()
    # nothing of the block passed: each side hears TRIP with code, value and limit
    (to_sink,) = pair.were_told(SINK)[before[0] :]
    (to_source,) = pair.were_told(SOURCE)[before[1] :]
    assert isinstance(to_sink, Trip)
    assert isinstance(to_source, Trip)
    assert to_sink.urgent
    refusal = to_sink.options.reason
    assert refusal == to_source.options.reason
    assert refusal is not None
    assert refusal.code == code
    assert refusal.value > refusal.limit or code is Reason.REVERSE_POWER
    pair.exchange()
    assert [one.refusal.code for one in pair.take(SINK, FlowTripped)] == [code]
    assert pair.one(SINK, FlowClosed).esn_uj == 6 * J
    assert pair.one(SOURCE, FlowClosed).esn_uj == 6 * J
    heat_uj = worth((volts_mv, max(0, current_ua), 100))
    assert joules(pair.firewall) == (6 * J + heat_uj, 6 * J, 0, heat_uj)
    account = pair.account()
    assert (account.what, account.is_over) == ("tripped", True)
    assert pair.firewall.stored_uj == 0
    assert pair.screen.is_idle
    # each side's FIN+ACK was for us, and the connection serves the next flow
    assert pair.all(Hung) == []
    again = pair.energise("12V/1A")
    assert pair.run(again, 3) == 3


@pytest.mark.requirement("FWRL-3-03")
def test_blocks_behind_an_unsafe_one_of_the_same_read_are_heat_too() -> None:
    pair = ScreenedPair()
    pair.answers = False
    flow = pair.energise("12V/1A")
    spike = power(flow, 0, 400_000_000)
    octets = b"".join(encode_segment(one) for one in (spike, power(flow, 0, counter=100)))
    pair.hear(SOURCE, octets)
    heat_uj = worth((400_000_000, 1_000_000, 100)) + 1_200_000
    assert joules(pair.firewall) == (heat_uj, 0, 0, heat_uj)


# ---- lies that a sink finds ---------------------------------------------------------------------


@pytest.mark.requirement("FWRL-1-03", "FWRL-3-04")
@pytest.mark.parametrize(
    ("block", "code"),
    [
        (power(1, 5 * J, counter=100), Reason.METER_MISMATCH),
        (power(1, 1_200_000, counter=107), Reason.SAMPLE_GAP),
        (Data(1, 1_200_000, False, b"\0\0\0\x64\x80\2\0\1" + bytes(16)), Reason.SAMPLE_GAP),
    ],
)
def test_a_lie_passes_to_its_sink_who_trips_and_is_heat(block: Data, code: Reason) -> None:
    pair = ScreenedPair(RECLAIM)
    pair.answers = False
    pair.energise("12V/1A")
    pair.say(SOURCE, power(1))
    pair.say(SOURCE, block)
    assert pair.one(SINK, FlowTripped).refusal.code == code
    heat_uj = worth((12_000, 1_000_000, 100)) if len(block.payload) > 100 else 0
    assert [one.energy_uj for one in pair.take(SINK, HeatCounted)] == [heat_uj]
    assert joules(pair.firewall) == (1_200_000 + heat_uj, 1_200_000, 0, heat_uj)
    assert pair.octets(SOURCE)[0] == pair.octets(SOURCE)[1]
    claimed_uj = 3_800_000 if code is Reason.METER_MISMATCH else 0
    assert pair.firewall.joules.claimed_uj == claimed_uj


@pytest.mark.requirement("FWRL-3-07")
@pytest.mark.parametrize("block", [power(1, 5 * J), power(1, 0, 12_000, 1_300_000)])
def test_what_passes_to_be_refused_is_marked_as_all_the_rest(block: Data) -> None:
    pair = ScreenedPair(f"{ACCEPT} \nrule power > 1W -> accept mark-ece")
    Pair.energise(pair, "12V/1A")
    pair.hear(SOURCE, encode_segment(block))
    (heard,) = segments(pair.legs[SINK].data_to_send())
    assert isinstance(heard, Data)
    assert heard.ece


# ---- unsolicited, in its four forms -------------------------------------------------------------

BEFORE_READY, BEYOND_CREDIT, TOO_MUCH, FROM_SINK = FORMS = range(4)


def unsolicited(form: int, policy: str) -> ScreenedPair:
    """Return a pair of which a block of that form has been heard: 1.2 J or 1.56 J."""
    pair = ScreenedPair(policy)
    pair.answers = False
    if form == BEFORE_READY:
        pair.request(ask("12V/1A"))
        pair.source.grant(1, profile("12V/1A"), now=pair.now)
        pair.exchange()
        pair.hear(SOURCE, encode_segment(power(1)))
        pair.flush()
        return pair
    flow = pair.energise("12V/1A")
    assert flow == 1
    if form == FROM_SINK:
        pair.hear(SINK, encode_segment(power(1)))
    elif form == TOO_MUCH:
        pair.hear(SOURCE, encode_segment(power(1, 0, 12_000, 1_300_000)))
    else:
        # the window is 24 J; its last block goes beyond
        for number in range(20):
            pair.hear(SOURCE, encode_segment(power(1, number * 1_200_000, counter=100 * number)))
        pair.flush()
        pair.legs[SINK].data_to_send()
        pair.hear(SOURCE, encode_segment(power(1, 24 * J, counter=2_000)))
    pair.flush()
    return pair


@pytest.mark.requirement("FWRL-3-04", "FWRL-3-13")
@pytest.mark.parametrize("form", FORMS)
def test_reclaimed_it_is_kept_and_who_asked_is_told(form: int) -> None:
    pair = unsolicited(form, RECLAIM)
    passed_uj = 24 * J if form == BEYOND_CREDIT else 0
    block_uj = 1_560_000 if form == TOO_MUCH else 1_200_000
    kept_uj = block_uj * 95 // 100
    assert joules(pair.firewall) == (passed_uj + block_uj, passed_uj, kept_uj, block_uj - kept_uj)
    assert pair.firewall.stored_uj == kept_uj
    attacker, victim = (SINK, SOURCE) if form == FROM_SINK else (SOURCE, SINK)
    (refusal,) = resets(pair.were_told(victim))
    assert refusal is not None
    assert (refusal.code, refusal.text) == (Reason.POLICY, "line 3")
    # the other one has a sink, which says what it integrated
    last = pair.were_told(attacker)[-1]
    assert isinstance(last, Credit)
    assert last.esn == passed_uj + block_uj
    account = pair.account()
    assert (account.what, account.is_over) == ("intercepted", False)
    assert account.joules.reclaimed_uj == kept_uj
    assert pair.firewall.harvests == 1


@pytest.mark.requirement("FWRL-3-04", "FWRL-3-06")
@pytest.mark.parametrize("form", FORMS)
def test_rejected_both_hear_it_and_nothing_is_kept(form: int) -> None:
    pair = unsolicited(form, REJECT)
    found = [resets(pair.were_told(side)) for side in (SINK, SOURCE)]
    assert found[0] == found[1]
    (refusal,) = found[0]
    assert refusal is not None
    assert (refusal.code, refusal.text) == (Reason.UNSOLICITED, "line 2")
    assert pair.firewall.joules.reclaimed_uj == 0
    assert pair.firewall.joules.heat_uj == (1_560_000 if form == TOO_MUCH else 1_200_000)
    assert pair.account().is_over
    assert pair.screen.is_idle


@pytest.mark.requirement("FWRL-3-04", "FWRL-3-12")
@pytest.mark.parametrize("form", FORMS)
def test_dropped_nobody_hears_anything(form: int) -> None:
    pair = unsolicited(form, DROP)
    assert pair.screen.is_over
    assert [resets(pair.were_told(side)) for side in (SINK, SOURCE)] == [[], []]
    assert pair.firewall.joules.heat_uj == (1_560_000 if form == TOO_MUCH else 1_200_000)


@pytest.mark.requirement("FWRL-3-04")
@pytest.mark.parametrize("form", FORMS)
def test_accepted_it_passes_and_counts_as_heat(form: int) -> None:
    pair = unsolicited(form, ACCEPT)
    side = SINK if form == FROM_SINK else SOURCE
    block = pair.heard[side][-1]
    assert pair.octets(side)[1].endswith(block)
    assert pair.firewall.joules.heat_uj == (1_560_000 if form == TOO_MUCH else 1_200_000)
    assert pair.firewall.joules.reclaimed_uj == 0


@pytest.mark.requirement("FWRL-3-01", "FWRL-3-04")
def test_a_rule_sees_who_sends_and_what_the_block_measures() -> None:
    pair = ScreenedPair(RECLAIM)
    judged = Judged(pair.firewall)
    pair.energise("12V/1A")
    pair.say(SOURCE, power(1, 0, 11_000, 1_500_000))
    facts = judged.facts[-1]
    assert (facts.state, facts.way) == (State.UNSOLICITED, "in")
    assert (facts.src, facts.dst) == (PROVIDER.address, pair.screen.party.address)
    assert (facts.voltage_mv, facts.current_ma, facts.power_mw) == (11_000, 1_500, 16_500)


@pytest.mark.requirement("FWRL-4-05")
def test_what_may_not_be_harvested_is_heat_and_its_source_is_refused() -> None:
    pair = ScreenedPair(RECLAIM)
    pair.answers = False
    pair.energise("12V/1A")
    pair.firewall.admit(PROVIDER.account, pair.now)
    pair.hear(SOURCE, encode_segment(power(1, 0, 12_000, 1_300_000)))
    pair.flush()
    (refusal,) = resets(pair.were_told(SOURCE))
    assert refusal is not None
    assert refusal.code == Reason.CHURN
    assert joules(pair.firewall) == (1_560_000, 0, 0, 1_560_000)
    assert pair.account().is_over


# ---- of no flow that there is -------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-04", "FWRL-3-13")
@pytest.mark.parametrize("side", list(End))
def test_power_out_of_the_blue_is_kept_whichever_side_it_comes_from(side: End) -> None:
    siege = Besieged(RECLAIM, side=side)
    judged = Judged(siege.firewall)
    (grant,) = siege.say(power(7))
    assert isinstance(grant, Credit)
    assert (grant.flow, grant.esn) == (7, 1_200_000)
    assert joules(siege.firewall) == (1_200_000, 0, 1_140_000, 60_000)
    assert (siege.leaked, judged.states) == (b"", [State.UNSOLICITED])
    whose = STRANGER if side is End.CLIENT else PROVIDER
    assert siege.account(7).peer == whose.account
    assert judged.facts[0].src == whose.address
    assert postings(siege.firewall) == {
        ("reservoir:main", f"intercepted:{whose.account}", "uJ"): 1_140_000,
        ("heat:fw", f"intercepted:{whose.account}", "uJ"): 60_000,
    }


@pytest.mark.requirement("FWRL-3-04", "FWRL-3-06")
@pytest.mark.parametrize("verdict", ["accept", "reject 305"])
def test_power_out_of_the_blue_goes_to_nobody(verdict: str) -> None:
    siege = Besieged(f"{ACCEPT}\nrule state unsolicited -> {verdict}")
    (reset,) = siege.say(power(7))
    (refusal,) = resets([reset])
    assert refusal is not None
    assert refusal.code == (Reason.POLICY if verdict == "accept" else Reason.UNSOLICITED)
    assert refusal.text == "line 2"
    assert joules(siege.firewall) == (1_200_000, 0, 0, 1_200_000)
    assert (siege.leaked, siege.account(7).what) == (b"", "refused")
    # the rest of what was under way is heat, and not worth a word
    assert siege.say(power(7, 1_200_000), power(7, 2_400_000)) == []
    assert joules(siege.firewall) == (3_600_000, 0, 0, 3_600_000)
    assert siege.account(7).joules.heat_uj == 3_600_000


@pytest.mark.requirement("FWRL-3-12")
def test_power_out_of_the_blue_that_is_dropped_hears_nothing() -> None:
    siege = Besieged(DROP)
    assert siege.say(power(7)) == []
    assert siege.screen.is_over
    assert joules(siege.firewall) == (1_200_000, 0, 0, 1_200_000)
    assert told(siege.firewall) == ["dropped"]


def test_heat_of_a_flow_that_is_forgotten_is_counted_all_the_same() -> None:
    siege = Besieged(REJECT)
    siege.say(power(7))
    for number in range(EXPLAIN_MEMORY):
        siege.firewall.flows.close(
            siege.screen.account_of(number, End.CLIENT, siege.now, f"x{number}")
        )
    assert siege.firewall.flows.find("192.0.2.66:4711/7") is None
    siege.say(power(7, 1_200_000))
    assert joules(siege.firewall) == (2_400_000, 0, 0, 2_400_000)


def test_what_draws_power_has_no_energy() -> None:
    siege = Besieged(REJECT)
    siege.say(power(7, 0, 12_000, -1_000_000))
    assert joules(siege.firewall) == (0, 0, 0, 0)


@pytest.mark.requirement("FWRL-4-05")
def test_a_second_connection_of_an_attacker_within_a_second_is_refused() -> None:
    firewall = firewall_of(RECLAIM)
    first = Besieged(firewall=firewall)
    second = Besieged(firewall=firewall)
    other = Besieged(firewall=firewall, client=PROVIDER)
    assert isinstance(first.say(power(1))[0], Credit)
    (refusal,) = resets(second.say(power(1)))
    assert refusal is not None
    assert refusal.code == Reason.CHURN
    assert isinstance(other.say(power(1))[0], Credit)
    # the second one stays refused, the third one comes late enough
    third = Besieged(firewall=firewall, now=first.now + NS_PER_S)
    assert isinstance(third.say(power(1))[0], Credit)
    assert firewall.harvests == 3


# ---- offers that nobody asked for ---------------------------------------------------------------


def offer(flow: int = 1, **options: object) -> Control:
    given = {"contract": 1, "profiles": (GRANT,), "sampling": None} | options
    return Control(flow, Flag.SYN | Flag.ACK, 0, Options(**given))  # type: ignore[arg-type]


@pytest.mark.requirement("FWRL-4-08")
@pytest.mark.parametrize(
    ("policy", "answers"), [(REJECT, [Reason.UNSOLICITED]), (ACCEPT, [Reason.POLICY]), (DROP, [])]
)
def test_an_offer_that_is_not_reclaimed_is_refused(policy: str, answers: list[Reason]) -> None:
    siege = Besieged(policy)
    judged = Judged(siege.firewall)
    assert [one.code for one in resets(siege.say(offer())) if one] == answers
    assert siege.screen.is_over is (policy == DROP)
    assert (judged.facts[0].state, judged.facts[0].power_mw) == (State.UNSOLICITED, 12_000)
    assert siege.leaked == b""


@pytest.mark.requirement("FWRL-4-08")
def test_an_offer_that_is_reclaimed_is_accepted() -> None:
    siege = Besieged()
    taken, grant = siege.say(offer(sampling=Sampling(1000)))
    assert taken == Control(1, Flag.ACK, 0, Options(contract=1, profiles=(GRANT,)))
    assert isinstance(grant, Credit)
    assert siege.firewall.harvests == 1


@pytest.mark.requirement("FWRL-4-08")
def test_an_offer_without_terms_is_judged_without() -> None:
    siege = Besieged(REJECT)
    judged = Judged(siege.firewall)
    siege.say(offer(profiles=()))
    assert judged.facts[0].power_mw is None


@pytest.mark.requirement("FWRL-4-05")
def test_an_offer_that_may_not_be_harvested_is_refused() -> None:
    siege = Besieged()
    siege.firewall.admit(STRANGER.account, siege.now)
    assert [one.code for one in resets(siege.say(offer())) if one] == [Reason.CHURN]


def test_an_offer_that_comes_too_late_is_no_attack() -> None:
    pair = ScreenedPair(REJECT)
    flow = pair.request(ask("12V/1A"))
    pair.sink.reset_flow(flow, Refusal(Reason.OPERATOR), now=pair.now)
    pair.hear(SINK, pair.sink.data_to_send())
    # the RST and the offer cross
    before = len(told(pair.firewall))
    pair.hear(SOURCE, encode_segment(offer(flow)))
    assert pair.legs[SOURCE].data_to_send() == encode_segment(
        Control(flow, Flag.RST, 0, Options(reason=Refusal(Reason.OPERATOR)))
    )
    assert len(told(pair.firewall)) == before
    pair.now += DRAIN_NS + 1
    pair.hear(SOURCE, encode_segment(offer(flow)))
    assert told(pair.firewall)[before:] == ["refused"]


@pytest.mark.requirement("FWRL-3-03")
def test_a_flow_that_goes_on_after_its_faulty_block_is_over() -> None:
    pair = ScreenedPair()
    Pair.energise(pair, "12V/1A")
    lie = encode_segment(power(1, 5 * J))
    for seconds, passes in ((0, True), (1, False), (5, False)):
        pair.now += seconds * NS_PER_S
        pair.hear(SOURCE, lie)
        # its sink refuses the first one; the others are heat
        heard = pair.legs[SINK].data_to_send()
        assert (heard == lie) is passes
    assert [one.code for one in resets(segments(heard)) if one] == [Reason.METER_MISMATCH]
    assert pair.account().what == "refused"
    assert joules(pair.firewall) == (3_600_000, 0, 0, 3_600_000)
