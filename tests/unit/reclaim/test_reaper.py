"""Harvesting: sources that nobody asked are answered as their sink would, within bounds."""

import pytest

from powertcp.potcp.events import FlowClosed, FlowRefused
from powertcp.reclaim.attack import AttackTerms
from powertcp.reclaim.harvest import SILENT_NS, SOURCE_MAX
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.policy import State
from powertcp.reclaim.reaper import DRAIN_NS
from powertcp.reclaim.screen import TargetWanted
from powertcp.reclaim.track import End
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import encode_segment, pack_segment
from powertcp.wire.options import Options, Sampling
from powertcp.wire.segments import (
    Alert,
    Answer,
    Blocked,
    Control,
    Credit,
    MaintainProbe,
    Ready,
    Receipt,
    Reneg,
    Segment,
    Shed,
    Trip,
)
from tests.conversation import SINK, SOURCE, START, Pair, ask, segments
from tests.policies import load
from tests.screens import (
    ACCEPT,
    GRANT,
    OTHER,
    RECLAIM,
    RESERVOIR,
    STRANGER,
    Besieged,
    Judged,
    ScreenedPair,
    data_with_options,
    firewall_of,
    joules,
    party,
    power,
    told,
    watts,
    worth,
)

J = 1_000_000
FIN_ACK = Flag.FIN | Flag.ACK
TIGHT = f"{RESERVOIR} max-in 1W\n{ACCEPT}\nrule state unsolicited -> reclaim main"


def small(capacity: str, more: str = "") -> str:
    """Return a policy whose reservoir stores 95 of 100."""
    return (
        f"reservoir main capacity {capacity} charge 95% discharge 95% {more}\n"
        f"{ACCEPT}\nrule state unsolicited -> reclaim main"
    )


def siege(policy: str = RECLAIM) -> Besieged:
    """Return an attack that was intercepted: 1.2 J of flow 1 came."""
    found = Besieged(policy)
    found.say(power(1))
    return found


def codes(answers: list[Segment]) -> list[int]:
    return [one.options.reason.code for one in answers
            if isinstance(one, Control) and one.options.reason is not None]  # fmt: skip


# ---- a sink as any other ------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-06", "FWRL-4-09")
def test_an_attack_is_kept_to_the_microjoule_and_hears_what_was_integrated() -> None:
    one = Besieged(RECLAIM, AttackTerms(duration_ns=5 * NS_PER_S))
    one.run(9)
    assert one.attack.sent_uj == 5_000 * J
    assert joules(one.firewall) == (5_000 * J, 0, 4_750 * J, 250 * J)
    # CREDIT whose ESN grows with what came, and FIN+ACK with all of it
    esns = [credit.esn for credit in one.of(Credit)]
    assert esns == sorted(set(esns))
    assert one.answers[-1] == Control(1, FIN_ACK, 5_000 * J)
    assert told(one.firewall) == ["intercepted", "closed"]
    assert one.account().is_over
    assert one.firewall.harvests == 0
    assert one.screen.is_idle
    assert one.leaked == b""


@pytest.mark.requirement("FWRL-4-06", "FWRL-4-05")
def test_credit_is_what_max_in_allows_and_who_keeps_to_it_loses_nothing() -> None:
    one = Besieged(TIGHT, AttackTerms(voltage_mv=10_000, current_ua=1_000_000))
    one.run(65)
    # 10 W were pushed, 1 W was wanted, with 2 s of it ahead
    in_uj, _, kept_uj, _ = joules(one.firewall)
    assert 60 * J <= in_uj <= 64 * J
    assert kept_uj == in_uj * 95 // 100
    assert in_uj == one.attack.sent_uj


@pytest.mark.requirement("FWRL-4-05")
def test_who_keeps_to_nothing_is_banked_up_to_max_in() -> None:
    terms = AttackTerms(voltage_mv=10_000, current_ua=1_000_000, honours_credit=False)
    one = Besieged(TIGHT, terms)
    one.run(65)
    in_uj, _, kept_uj, heat_uj = joules(one.firewall)
    assert in_uj == 600 * J == kept_uj + heat_uj
    assert 59 * J <= kept_uj * 100 // 95 <= 63 * J


@pytest.mark.requirement("LEDG-8-03", "FWRL-3-04")
def test_what_headers_say_beyond_our_integral_is_a_claim_and_no_credit() -> None:
    one = Besieged(RECLAIM, AttackTerms(duration_ns=2 * NS_PER_S, claim_factor=10))
    one.run(9)
    assert joules(one.firewall) == (2_000 * J, 0, 1_900 * J, 100 * J)
    assert one.firewall.joules.claimed_uj == 18_000 * J == one.account().joules.claimed_uj


@pytest.mark.requirement("FWRL-3-08")
def test_a_spike_is_heat_and_the_flow_goes_on() -> None:
    one = siege()
    heat_uj = worth((400_000_000, 1_000_000, 100))
    one.say(power(1, 0, 400_000_000), power(1))
    assert joules(one.firewall) == (
        2_400_000 + heat_uj, 0, 2_280_000, 120_000 + heat_uj,
    )  # fmt: skip
    assert one.firewall.harvests == 1


@pytest.mark.requirement("FWRL-4-07")
def test_samples_count_whatever_their_header_says_of_them() -> None:
    one = siege()
    two = b"\0\0\0\x07\x80\2\0\1" + 4 * (1_000_000).to_bytes(4, "big")
    one.say(
        power(1, 77, counter=12345), data_with_options(1, 5, watts(12_000, 1_000_000), contract=9)
    )
    one.say(pack_segment(2, 0, 1, 0, b"", two))
    # two pairs of 1 kV and 1 A for a millisecond
    assert one.firewall.joules.in_uj == 3_600_000 + 2 * J


@pytest.mark.requirement("FWRL-4-08")
@pytest.mark.parametrize(
    ("segment", "answer", "what"),
    [
        (Control(1, Flag.FIN, 1_200_000), Control(1, FIN_ACK, 1_200_000), "closed"),
        (Control(1, Flag.RST, 0), None, "closed"),
        (Control(1, FIN_ACK, 0), None, "closed"),
        (Trip(1, 0, Options(reason=Refusal(Reason.BROWN_OUT))), Control(1, FIN_ACK, 1_200_000),
         "closed"),
        (Ready(1, 0, Options(contract=1, profiles=(GRANT,))), None, "intercepted"),
        (Receipt(1, 0, bytes(380)), None, "intercepted"),
        (Alert(1, 0, 1), None, "intercepted"),
        (Reneg(1, 0, Options(contract=5, profiles=(GRANT,))),
         Answer(1, 1_200_000, False, Options(contract=5, reason=Refusal(Reason.POLICY))),
         "intercepted"),
        (Shed(1, 0, False, 1_000, 0, Options(contract=7, profiles=(GRANT,))),
         Answer(1, 1_200_000, True, Options(contract=7)), "intercepted"),
    ],
)  # fmt: skip
def test_what_a_source_says_is_answered_as_a_sink_would(
    segment: Segment, answer: Segment | None, what: str
) -> None:
    one = siege()
    assert one.say(segment) == ([answer] if answer is not None else [])
    account = one.account()
    assert (account.what, account.is_over) == (what, what == "closed")
    assert one.firewall.harvests == (what != "closed")
    if isinstance(segment, Trip):
        assert account.refusal == Refusal(Reason.BROWN_OUT)


@pytest.mark.requirement("FWRL-3-04")
def test_a_goodbye_may_claim_more_than_came() -> None:
    one = siege()
    one.say(Control(1, Flag.FIN, 9 * J))
    assert one.firewall.joules.claimed_uj == 7_800_000


@pytest.mark.requirement("FWRL-4-08")
def test_a_source_that_waits_is_granted_what_there_is_room_for() -> None:
    one = siege(TIGHT)
    one.say(power(1, 0, 12_000, 2_000_000))
    assert one.say(Blocked(1, 0, 0)) == []
    one.now += NS_PER_S
    (credit,) = one.say(Blocked(1, 0, 0))
    assert isinstance(credit, Credit)
    assert credit.limit_uj == credit.esn + J


@pytest.mark.requirement("FWRL-4-09")
def test_a_probe_is_answered_where_nobody_else_is_there_to_do_it() -> None:
    one = Besieged()
    probe = MaintainProbe(7, 0, 99)
    assert one.say(probe) == []
    one.say(power(1))
    assert one.say(probe) == [MaintainProbe(0, 7, 99)]
    # an answer is not answered, nor is the far side's probe
    assert one.say(MaintainProbe(0, 7, 99)) == []
    one.other.receive_data(encode_segment(probe), one.now)
    assert one.other.data_to_send() == b""


@pytest.mark.requirement("FWRL-4-09")
def test_where_somebody_is_there_the_probe_is_theirs() -> None:
    pair = ScreenedPair(RECLAIM)
    Pair.energise(pair, "12V/1A")
    pair.hear(SOURCE, encode_segment(power(3)))
    pair.flush()
    before = len(pair.were_told(SINK))
    pair.hear(SOURCE, encode_segment(MaintainProbe(7, 0, 99)))
    pair.flush()
    assert pair.were_told(SINK)[before:] == [MaintainProbe(7, 0, 99)]


@pytest.mark.requirement("FWRL-3-13", "FWRL-4-06")
def test_a_source_whose_consumer_was_taken_away_is_granted_at_once() -> None:
    pair = ScreenedPair()
    Pair.energise(pair, "12V/1A")
    pair.hear(SOURCE, encode_segment(power(1)))
    pair.legs[SOURCE].data_to_send()
    pair.firewall.take(load(RECLAIM.replace("state unsolicited", "power > 1W")), pair.now)
    (credit,) = segments(pair.legs[SOURCE].data_to_send())
    assert isinstance(credit, Credit)
    assert (credit.flow, credit.esn) == (1, 1_200_000)


@pytest.mark.requirement("FWRL-4-06")
def test_each_source_is_granted_in_its_own_time() -> None:
    one = siege(TIGHT)
    one.say(power(1, 0, 12_000, 2_000_000))
    first = one.screen.get_timer()
    assert first is not None
    one.now += NS_PER_S // 20
    one.say(power(3, 0, 1_000))
    one.now = first
    one.screen.handle_timer(first)
    assert [credit.flow for credit in one.say() if isinstance(credit, Credit)] == [1]
    assert one.screen.get_timer() == first + NS_PER_S // 20


# ---- offers -------------------------------------------------------------------------------------


def offer(sampling: Sampling | None, *profiles: object) -> Control:
    options = Options(contract=3, profiles=profiles, sampling=sampling)  # type: ignore[arg-type]
    return Control(1, Flag.SYN | Flag.ACK, 0, options)


@pytest.mark.requirement("FWRL-4-08", "FWRL-4-07")
def test_an_offer_is_taken_with_its_sampling() -> None:
    one = Besieged()
    ack, credit = one.say(offer(Sampling(500), GRANT))
    assert ack == Control(1, Flag.ACK, 0, Options(contract=3, profiles=(GRANT,)))
    assert isinstance(credit, Credit)
    one.say(power(1))
    assert one.firewall.joules.in_uj == 2_400_000


@pytest.mark.requirement("FWRL-4-08")
def test_an_offer_of_nothing_certain_is_taken_too() -> None:
    ack, _ = Besieged().say(offer(Sampling(1000)))
    assert ack == Control(1, Flag.ACK, 0, Options(contract=3))


@pytest.mark.requirement("FWRL-4-08")
def test_an_offer_that_comes_after_power_leaves_its_scale_alone() -> None:
    one = siege()
    (ack,) = one.say(offer(Sampling(500), GRANT))
    assert isinstance(ack, Control)
    assert ack.flags == Flag.ACK
    one.say(power(1))
    assert one.firewall.joules.in_uj == 2_400_000


@pytest.mark.parametrize(
    "sampling", [None, Sampling(0), Sampling(1000, 0, 1_000), Sampling(1000, 1_000, 0)]
)
def test_an_offer_without_a_scale_is_refused(sampling: Sampling | None) -> None:
    one = siege()
    if sampling is None or sampling.rate_hz:
        answers = one.say(offer(sampling))
        assert codes(answers)[0] in (Reason.SAMPLING, Reason.BAD_OPTION)
        assert one.account().is_over
        return
    assert codes(one.say(offer(sampling)))


# ---- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (encode_segment(Control(1, Flag.SYN, 0)), Reason.STATE),
        (encode_segment(Control(1, Flag.ACK, 0)), Reason.STATE),
        (pack_segment(2, 0, 1, 0, b"", bytes(9)), Reason.BAD_LENGTH),
        (pack_segment(3, 0, 1, 0, b"", bytes(9)), Reason.BAD_LENGTH),
    ],
)
def test_what_no_sink_takes_ends_the_harvest(octets: bytes, code: Reason) -> None:
    one = siege()
    answers = one.say(octets)
    assert codes(answers) == [code]
    (reset,) = answers
    assert isinstance(reset, Control)
    assert (reset.flags, reset.esn) == (Flag.RST, 1_200_000)
    assert (one.account().what, one.firewall.harvests) == ("refused", 0)


@pytest.mark.requirement("FWRL-3-14")
def test_faults_without_end_end_the_connection() -> None:
    one = Besieged()
    for number in range(1, 45, 2):
        if one.screen.is_over:
            break
        one.say(power(number), Control(number, Flag.SYN, 0))
    assert codes(one.answers) == [Reason.STATE] * 21 + [Reason.CHURN]
    assert one.firewall.harvests == 0
    assert one.firewall.flows.live == {}


# ---- bounds -------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-05")
def test_16_flows_of_a_source_are_harvested_and_not_one_more() -> None:
    firewall = firewall_of(RECLAIM)
    one, two = Besieged(firewall=firewall), Besieged(firewall=firewall, client=OTHER)
    for number in range(1, SOURCE_MAX + 1):
        (first,) = one.say(power(number))
        assert isinstance(first, Credit)
    assert firewall.harvests == SOURCE_MAX == 16
    assert codes(one.say(power(99))) == [Reason.LIMIT]
    in_uj = (SOURCE_MAX + 1) * 1_200_000
    kept_uj = SOURCE_MAX * 1_140_000
    assert joules(firewall) == (in_uj, 0, kept_uj, in_uj - kept_uj)
    # another source has room
    assert isinstance(two.say(power(1))[0], Credit)
    # one that ends makes room
    one.say(Control(2, Flag.RST, 0))
    one.now += DRAIN_NS + 1
    assert isinstance(one.say(power(99))[0], Credit)


@pytest.mark.requirement("FWRL-4-05")
def test_a_source_that_has_credit_and_sends_nothing_makes_room() -> None:
    one = Besieged()
    one.say(power(1))
    one.wait(SILENT_NS / NS_PER_S - 1)
    assert one.firewall.harvests == 1
    assert Reason.TIMEOUT in codes(one.wait(1))
    assert one.firewall.harvests == 0


@pytest.mark.requirement("FWRL-4-05")
def test_addresses_of_one_prefix_are_one_source() -> None:
    firewall = firewall_of(RECLAIM)
    names = ["[2001:db8::1]:1", "[2001:db8::ffff]:2", "[2001:db8:0:1::1]:3",
             "[::ffff:192.0.2.66]:4", "192.0.2.66:5"]  # fmt: skip
    found = [
        isinstance(Besieged(firewall=firewall, client=party(name)).say(power(1))[0], Credit)
        for name in names
    ]
    assert found == [True, False, True, True, False]


@pytest.mark.requirement("FWRL-4-05")
def test_flows_of_a_connection_that_began_may_all_be_harvested() -> None:
    one = Besieged()
    for number in (1, 3, 5):
        assert isinstance(one.say(power(number))[0], Credit)
    assert one.firewall.harvests == 3
    # what comes from the other side is of another source
    one.other.receive_data(encode_segment(power(2)), one.now)
    assert one.firewall.harvests == 4


# ---- full ---------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-02")
def test_a_full_reservoir_says_so_after_five_seconds() -> None:
    one = Besieged(small("95J"), AttackTerms(voltage_mv=10_000, current_ua=1_000_000))
    one.run(9.8)
    assert joules(one.firewall) == (99 * J, 0, 94_050_000, 4_950_000)
    one.run(30)
    assert joules(one.firewall) == (100 * J, 0, 95 * J, 5 * J)
    reset = one.of(Control)[-1]
    assert (reset.flags, reset.options.reason.code) == (Flag.RST, Reason.RESERVOIR_FULL)
    # 9.9 s until it was full, 5 s of waiting
    assert one.now == START + 14_900_000_000
    assert one.account().what == "refused"
    assert one.attack.credit_uj == 100 * J


@pytest.mark.requirement("FWRL-4-02")
def test_what_arrives_at_a_full_reservoir_is_heat() -> None:
    one = siege(small("570mJ"))
    assert joules(one.firewall) == (1_200_000, 0, 570_000, 630_000)
    one.say(power(1))
    assert joules(one.firewall) == (2_400_000, 0, 570_000, 1_830_000)
    assert codes(one.wait(5.1)) == [Reason.RESERVOIR_FULL]
    refusal = one.account().refusal
    assert refusal is not None
    assert (refusal.value, refusal.limit) == (12_000_000, 0)


@pytest.mark.requirement("FWRL-4-02")
def test_room_that_comes_in_time_is_granted() -> None:
    one = siege(small("570mJ"))
    one.wait(4)
    one.firewall.intakes["main"].reservoir.draw(95_000)
    answers = one.wait(2)
    assert [type(answer) for answer in answers] == [Credit]
    assert answers[0].limit_uj - answers[0].esn == 105_263  # type: ignore[union-attr]
    assert one.firewall.harvests == 1


@pytest.mark.requirement("FWRL-4-02")
def test_room_that_somebody_else_was_promised_is_no_reason_to_refuse() -> None:
    firewall = firewall_of(small("1140mJ"))
    one, two = Besieged(firewall=firewall), Besieged(firewall=firewall, client=OTHER)
    one.say(power(1, 0, 1_000))
    two.say(power(1, 0, 1_000))
    assert two.of(Credit) == []
    two.now += 30 * NS_PER_S
    two.screen.handle_timer(two.now)
    assert two.say() == []
    assert firewall.harvests == 2


@pytest.mark.requirement("FWRL-4-02")
def test_room_is_looked_at_again_before_a_source_is_refused() -> None:
    one = siege(small("570mJ"))
    due = one.now + DRAIN_NS
    one.firewall.intakes["main"].reservoir.draw(95_000)
    one.firewall.intakes["main"].promised_uj += 10 * J
    one.now = due
    one.screen.handle_timer(due)
    assert one.say() == []
    assert one.firewall.harvests == 1


@pytest.mark.requirement("FWRL-4-02")
def test_a_reservoir_that_heats_goes_on() -> None:
    one = Besieged(small("95J", "when-full heat"), AttackTerms(voltage_mv=10_000, current_ua=J))
    one.run(70)
    assert joules(one.firewall) == (600 * J, 0, 95 * J, 505 * J)
    assert codes(one.answers) == []


@pytest.mark.requirement("FWRL-4-02", "FWRL-5-01")
def test_many_flows_that_a_full_reservoir_ends_are_nobodys_fault() -> None:
    pair = ScreenedPair(small("570mJ"))
    flow = Pair.energise(pair, "12V/1A")
    for number in range(2, 32, 2):
        pair.hear(SOURCE, encode_segment(power(number)))
    assert pair.firewall.harvests == 15
    pair.now += DRAIN_NS
    pair.screen.handle_timer(pair.now)
    assert codes(segments(pair.legs[SOURCE].data_to_send())) == [Reason.RESERVOIR_FULL] * 15
    assert (pair.firewall.harvests, pair.all(Hung)) == (0, [])
    assert pair.run(flow, 3) == 3


# ---- another policy -----------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-02")
@pytest.mark.parametrize(
    ("verdict", "code"), [("reject 305", Reason.UNSOLICITED), ("accept", Reason.POLICY)]
)
def test_a_policy_that_does_not_reclaim_ends_a_harvest(verdict: str, code: Reason) -> None:
    one = siege()
    judged = Judged(one.firewall)
    one.firewall.take(load(f"{ACCEPT}\nrule state unsolicited -> {verdict}"), one.now)
    assert codes(one.say()) == [code]
    facts = judged.facts[-1]
    assert (facts.state, facts.power_mw, facts.voltage_mv) == (State.UNSOLICITED, 12_000, 12_000)
    assert (facts.energy_uj, facts.src) == (1_200_000, STRANGER.address)
    assert (one.account().what, one.firewall.harvests) == ("refused", 0)
    # what is under way is heat, and what is stored stays
    assert one.say(power(1)) == []
    assert joules(one.firewall) == (2_400_000, 0, 1_140_000, 1_260_000)


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-12")
def test_a_policy_that_drops_ends_the_connection_of_a_harvest() -> None:
    one = siege()
    one.say(power(3))
    one.firewall.take(load(f"{ACCEPT}\nrule state unsolicited -> drop"), one.now)
    assert one.say() == []
    assert one.screen.is_over
    assert (one.firewall.harvests, one.firewall.flows.live) == (0, {})
    assert told(one.firewall)[-2:] == ["dropped", "cut"]


@pytest.mark.requirement("FWRL-3-02")
def test_a_policy_may_name_another_reservoir() -> None:
    one = siege()
    text = RECLAIM.replace("main", "other")
    one.firewall.take(load(f"{RESERVOIR}\n{text}"), one.now)
    one.say(power(1))
    stored = {name: one.reservoir.stored_uj for name, one in one.firewall.intakes.items()}
    assert stored == {"main": 1_140_000, "other": 1_140_000}


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-13")
def test_judging_again_gives_no_new_burst() -> None:
    text = f"{RECLAIM} limit 1W burst 1J"
    one = siege(text)
    for _ in range(5):
        one.firewall.take(load(text), one.now)
        one.say(power(1))
    assert one.firewall.stored_uj == 950_000


def test_a_harvest_without_facts_is_judged_as_unsolicited() -> None:
    one = siege()
    one.account().facts = None
    judged = Judged(one.firewall)
    one.firewall.take(load(RECLAIM), one.now)
    assert (judged.facts[0].state, judged.facts[0].power_mw) == (State.UNSOLICITED, 12_000)


# ---- endings ------------------------------------------------------------------------------------


def test_all_harvests_are_ended_with_a_reason() -> None:
    one = siege()
    one.say(power(3))
    one.screen.end_all(Refusal(Reason.MAINTENANCE), one.now)
    assert codes(one.say()) == [Reason.MAINTENANCE] * 2
    assert one.screen.is_idle
    assert not one.screen.is_over


def test_a_source_that_is_gone_is_forgotten() -> None:
    one = siege()
    assert one.firewall.intakes["main"].promised_uj > 0
    one.leg.receive_eof(one.now)
    assert one.firewall.intakes["main"].promised_uj == 0
    assert (one.account().what, one.firewall.harvests) == ("cut", 0)
    assert one.screen.is_over


@pytest.mark.requirement("FWRL-4-05")
def test_a_source_goes_on_being_harvested_when_its_consumer_is_gone() -> None:
    pair = ScreenedPair(RECLAIM)
    flow = Pair.energise(pair, "12V/1A")
    pair.run(flow, 3)
    sink, source = pair.legs
    pair.hear(SOURCE, encode_segment(power(2)))
    sink.data_to_send()
    sink.receive_eof(pair.now)
    source.data_to_send()
    assert sink.next_event() == Hung(end=End.CLIENT, refusal=None)
    assert not pair.screen.is_over
    # what would have gone to the consumer goes nowhere, and probes are answered here
    pair.hear(SOURCE, encode_segment(power(2)) + encode_segment(MaintainProbe(9, 0, 1)))
    assert segments(source.data_to_send()) == [MaintainProbe(0, 9, 1)]
    pair.screen.end_all(Refusal(Reason.OPERATOR), pair.now)
    assert sink.data_to_send() == b""
    assert pair.firewall.joules.reclaimed_uj == 2_280_000
    # its end is the end of the connection
    assert pair.screen.is_over
    assert sink.next_event() == Hung(end=End.CLIENT, refusal=None)


@pytest.mark.requirement("FWRL-3-13")
def test_a_request_for_a_flow_that_is_being_harvested_is_refused() -> None:
    pair = ScreenedPair(RECLAIM)
    pair.hear(SOURCE, encode_segment(power(1)))
    pair.request(ask("12V/1A"))
    assert pair.one(SINK, FlowRefused).refusal.code == Reason.POLICY
    assert pair.take(SINK, FlowClosed)
    assert pair.all(TargetWanted) == []
    flow = Pair.energise(pair, "12V/1A")
    assert pair.run(flow, 2) == 2
