"""What both ends of a flow share: pairs of profiles, leases, endings, status."""

from collections.abc import Callable

import numpy as np
import pytest

from powertcp.dve import EnergyRegister, encode_block, integrate_many, window_samples_for
from powertcp.errors import BrokenInvariant, LocalProtocolError
from powertcp.potcp.config import QUEUE_SINK_TO_SOURCE, QUEUE_SOURCE_TO_SINK
from powertcp.potcp.events import (
    Alerted,
    Ask,
    FlowClosed,
    FlowTripped,
    HeatCounted,
    LeaseRenewed,
    PowerRequested,
    SamplesReceived,
)
from powertcp.potcp.flow import (
    Breach,
    Flow,
    ask_profiles,
    first_of,
    read_pairs,
    sampling_fault,
)
from powertcp.potcp.sink import SinkFlow
from powertcp.potcp.source import SourceFlow
from powertcp.potcp.states import Cause, Sink
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, Refusal
from powertcp.sources import Generator
from powertcp.units import NS_PER_S
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import Options, Sampling
from powertcp.wire.segments import Alert, Answer, Control, Ready, Reneg, Shed, Trip
from tests.conversation import SINK, SOURCE, Pair, ask, profile, segments

WHY = Refusal(Reason.BUDGET, 2, 1)


@pytest.mark.requirement("PTCP-1-03")
def test_asks_become_pairs_and_pairs_become_asks() -> None:
    asks = [ask("12V/2A", "12V/1A"), ask("5V/1A")]
    profiles = ask_profiles(asks, 0xBEEF)
    assert [one.tag for one in profiles] == [0xBEEF] * 3
    pairs = read_pairs(profiles, ProfileType.REQUEST, 4)
    assert [(most.voltage_mv, least is None) for most, least in pairs] == [
        (12_000, False),
        (5_000, True),
    ]
    assert first_of(profiles, ProfileType.MINIMUM) == pairs[0][1]
    assert first_of(profiles, ProfileType.GRANT) is None


@pytest.mark.requirement("PTCP-1-03", "PTCP-1-04")
def test_a_fallback_among_the_pairs_is_left_to_others() -> None:
    profiles = (profile("12V/2A"), profile("12V/1A", ProfileType.FALLBACK))
    assert read_pairs(profiles, ProfileType.REQUEST, 4) == ((profiles[0], None),)


@pytest.mark.requirement("PTCP-1-03")
@pytest.mark.parametrize(
    "kinds",
    [
        [ProfileType.MINIMUM],
        [ProfileType.REQUEST, ProfileType.MINIMUM, ProfileType.MINIMUM],
        [ProfileType.GRANT],
        [],
        [ProfileType.REQUEST] * 5,
    ],
)
def test_what_is_no_list_of_pairs_is_a_breach(kinds: list[ProfileType]) -> None:
    with pytest.raises(Breach):
        read_pairs(tuple(profile("12V/1A", kind) for kind in kinds), ProfileType.REQUEST, 4)


def test_a_minimum_of_another_kind_is_a_breach() -> None:
    pair = (profile("12V/1A"), profile("12V/1A@50Hz", ProfileType.MINIMUM))
    with pytest.raises(Breach):
        read_pairs(pair, ProfileType.REQUEST, 4)


@pytest.mark.requirement("PTCP-9-06")
def test_the_source_proposes_odd_and_the_sink_even_numbers_above_all_seen() -> None:
    pair = Pair()
    source, sink = SourceFlow(pair.source, 1), SinkFlow(pair.sink, 1)
    assert [source.next_contract() for _ in range(2)] == [1, 3]
    assert [sink.next_contract() for _ in range(2)] == [2, 4]
    assert source.take_contract(Options(contract=8)) == 8
    assert source.next_contract() == 9
    assert sink.take_contract(Options(contract=9)) == 9
    assert sink.next_contract() == 10


def test_the_energy_of_a_block_is_nothing_before_there_is_a_register() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    sums = integrate_many([pair.block(flow, 10)])[0]
    bare = SinkFlow(pair.sink, 9)
    assert bare.energy_of(sums) == 0
    sampling = pair.source.status(flow).sampling
    assert sampling is not None
    bare.register = EnergyRegister(sampling)
    assert bare.energy_of(sums) == 120_000
    bare.count_heat(7, WHY)
    assert bare.heat_uj == 7
    assert pair.sink.take_events()[-1] == HeatCounted(flow=9, energy_uj=7, refusal=WHY)


@pytest.mark.requirement("PTCP-5-02")
def test_a_lease_runs_from_the_time_the_probe_was_sent_and_never_backwards() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=5s")
    start = pair.sink.status(flow).lease_until_ns
    assert start == pair.now + 5 * NS_PER_S
    pair.advance(1.0)
    assert pair.sink.status(flow).lease_until_ns == pair.now + 5 * NS_PER_S
    assert pair.take(SINK, LeaseRenewed)
    bare = SinkFlow(pair.sink, 9)
    bare.renew(pair.now, pair.now)
    assert bare.lease_until is None
    with pytest.raises(BrokenInvariant):
        bare.start_lease(pair.now)


def test_a_base_flow_restores_and_knows_no_times_of_its_own() -> None:
    pair = Pair()

    class Plain(SinkFlow):
        """A flow with only what both sides share."""

    flow = Plain(pair.sink, 9)
    flow.lapsed = True
    Flow.restore(flow, pair.now)
    assert not flow.lapsed
    assert Flow.other_times(flow) == ()
    assert flow.ending is None
    assert Flow.next_time(flow) is None


@pytest.mark.requirement("PTCP-13-01")
def test_fin_is_answered_and_what_comes_late_is_dropped() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.source.close_flow(flow, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, FlowClosed).refusal == Refusal(Reason.NORMAL)
    assert pair.one(SOURCE, FlowClosed).refusal == Refusal(Reason.NORMAL)
    fins = [one for one in pair.said(SINK, Control) if isinstance(one, Control)]
    assert fins[-1].flags == Flag.FIN | Flag.ACK


@pytest.mark.requirement("PTCP-13-01")
def test_both_may_say_goodbye_at_once() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.source.close_flow(flow, refusal=WHY, now=pair.now)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    assert pair.sink.flows == pair.source.flows == ()
    for side in (SINK, SOURCE):
        assert pair.one(side, FlowClosed).flow == flow


def test_a_late_segment_after_fin_is_dropped() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    late = pair.source.data_to_send()
    pair.sink.close_flow(flow, now=pair.now)
    pair.sink.receive_data(late, pair.now)
    pair.exchange()
    assert pair.one(SINK, FlowClosed).refusal == Refusal(Reason.NORMAL)


@pytest.mark.requirement("PTCP-8-02")
def test_both_may_trip_at_once() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    for end in pair.ends:
        end.trip(flow, WHY, now=pair.now)
    pair.exchange()
    assert pair.sink.flows == pair.source.flows == ()
    assert len(pair.take(SINK, FlowTripped)) == 2


def test_a_trip_or_reset_without_reason_counts_as_the_operators() -> None:
    for octets in (encode_segment(Trip(1, 0)), encode_segment(Control(1, Flag.RST))):
        pair = Pair()
        pair.energise("12V/1A")
        pair.inject(SOURCE, octets)
        assert pair.one(SOURCE, FlowClosed).refusal == Refusal(Reason.OPERATOR)


def test_alerts_go_both_ways() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.inject(SOURCE, encode_segment(Alert(flow, 0, 3, Options(reason=WHY))))
    assert pair.one(SOURCE, Alerted).severity == 3
    held = SourceFlow(pair.source, flow)
    held.alert(1, WHY)
    pair.exchange()
    assert pair.one(SINK, Alerted).refusal == WHY


@pytest.mark.requirement("PTCP-14-02")
def test_timers_before_their_time_do_nothing() -> None:
    pair = Pair()
    flow = SinkFlow(pair.sink, 9)
    flow.state = Sink.SYN_SENT
    flow.arm(pair.now, 100)
    flow.pass_time(pair.now + 99)
    assert not flow.is_over
    assert flow.next_time() == pair.now + 100
    flow.pass_time(pair.now + 100)
    assert flow.is_over
    assert flow.may(Cause.OPEN)


def test_the_status_says_what_stands() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A", fallback="12V/0.1A")
    pair.deliver(flow)
    for end, is_source in ((pair.sink, False), (pair.source, True)):
        status = end.status(flow)
        assert (status.state, status.is_source, status.contract) == ("ENERGISED", is_source, 1)
        assert status.esn_uj == 1_200_000
        assert status.acked_uj == (0 if is_source else 1_200_000)
        assert not status.lapsed
        assert not status.outstanding


def test_the_source_resets_a_flow_by_its_own_rule() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    pair.source.reset_flow(flow, WHY, now=pair.now)
    pair.exchange()
    assert pair.one(SINK, FlowClosed).refusal == WHY


@pytest.mark.requirement("PTCP-9-06", "PTCP-9-08")
def test_a_breach_inside_an_action_resets_and_a_verb_out_of_place_does_not() -> None:
    for options in (Options(profiles=(profile("12V/0.8A"),)), Options(contract=3)):
        pair = Pair()
        flow = pair.energise("12V/1A")
        pair.inject(SOURCE, encode_segment(Reneg(flow, 0, options)))
        assert pair.one(SOURCE, FlowClosed).refusal is not None
    pair = Pair()
    flow = pair.energise("12V/1A")
    with pytest.raises(LocalProtocolError, match="STABLE in state ENERGISED"):
        pair.source.ready(flow, now=pair.now)
    pair.inject(SOURCE, encode_segment(Control(flow, Flag.ACK, 0, Options(contract=1))))
    refusal = pair.one(SOURCE, FlowClosed).refusal
    assert refusal is not None
    assert refusal.code == Reason.STATE


@pytest.mark.requirement("PTCP-5-02", "PTCP-5-06")
def test_a_renewal_after_a_lapse_restores_the_flow() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=5s", fallback="12V/0.1A")
    pair.pass_at(SINK, 5)
    assert pair.sink.status(flow).lapsed
    pair.pass_at(SOURCE, 0)
    pair.advance(1.2)
    assert not pair.sink.status(flow).lapsed
    assert not pair.source.status(flow).lapsed


def limit_of(pair: Pair, side: int) -> tuple[int, int]:
    """Return value and limit of the one RST 508 that ended a flow on `side`."""
    refusal = pair.one(side, FlowClosed).refusal
    assert refusal is not None
    assert refusal.code == Reason.LIMIT
    return refusal.value, refusal.limit


@pytest.mark.requirement("PTCP-9-04")
def test_seven_segments_of_a_source_wait_for_a_peer_that_does_not_read_and_not_eight() -> None:
    pair = Pair()
    flow, other = pair.energise("12V/1A"), pair.energise("5V/1A")
    pair.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=pair.now)
    # each wish while the shed is unanswered is rejected 107 at once: SHED and six ANSWERs
    wishes = [
        encode_segment(Reneg(flow, 0, Options(contract=number, profiles=(profile("12V/1A"),))))
        for number in range(4, 18, 2)
    ]
    for octets in wishes[:6]:
        pair.source.receive_data(octets, pair.now)
    pair.collect()
    assert pair.take(SOURCE, FlowClosed) == []
    pair.source.receive_data(wishes[6], pair.now)
    pair.collect()
    assert limit_of(pair, SOURCE) == (8, QUEUE_SOURCE_TO_SINK) == (8, 7)
    said = segments(pair.source.data_to_send())
    assert [type(one) for one in said] == [Shed, *[Answer] * 6, Control]
    assert isinstance(said[-1], Control)
    assert (said[-1].flow, said[-1].flags) == (flow, Flag.RST)
    # the other flow of the connection is none the worse
    assert pair.source.flows == (other,)


@pytest.mark.requirement("PTCP-9-04")
def test_four_segments_of_a_sink_wait_for_a_peer_that_does_not_read_and_not_five() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")

    def shed(number: int) -> None:
        """Shed and be ready again, as often as a source may without reading an answer."""
        ceiling = profile("12V/0.5A", ProfileType.OFFER)
        terms = profile("12V/0.5A,lease=60s", ProfileType.GRANT)
        asked = Shed(flow, 0, False, 1000, 0, Options(contract=number, profiles=(ceiling,)))
        ready = Ready(flow, 0, Options(contract=number, profiles=(terms,)))
        pair.sink.receive_data(encode_segment(asked) + encode_segment(ready), pair.now)
        pair.collect()

    for number in (3, 5, 7, 9):
        shed(number)
    assert pair.sink.status(flow).contract == 9
    pair.take(SINK, FlowClosed)
    shed(11)
    assert limit_of(pair, SINK) == (5, QUEUE_SINK_TO_SOURCE) == (5, 4)
    answers = [one for one in segments(pair.sink.data_to_send()) if isinstance(one, Answer)]
    assert len(answers) == 4


@pytest.mark.requirement("PTCP-9-04")
def test_a_verb_beyond_the_limit_ends_the_flow_and_is_no_bug_of_ours() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A", "5V/0.5A")
    for number in (2, 4, 6):  # ANSWER and READY each
        asked = Reneg(flow, 0, Options(contract=number, profiles=(profile("12V/1A"),)))
        pair.source.receive_data(encode_segment(asked), pair.now)
        pair.source.answer(flow, True, profile=profile("12V/1A"), now=pair.now)
    pair.source.renegotiate(flow, [ask("12V/0.9A")], now=pair.now)
    with_seven = pair.source.queued
    pair.source.trip(flow, WHY, now=pair.now)
    pair.collect()
    assert limit_of(pair, SOURCE) == (8, 7)
    assert pair.take(SOURCE, FlowTripped) == []
    assert pair.source.queued - with_seven == 44
    assert pair.source.flows == ()


@pytest.mark.requirement("PTCP-9-04")
def test_a_peer_that_reads_may_negotiate_for_ever() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A", "5V/0.5A")
    for current_ma in range(1000, 900, -1):
        wish = profile("12V/1A").with_type(ProfileType.REQUEST, current_ma=current_ma)
        pair.sink.renegotiate(flow, [Ask(wish)], now=pair.now)
        pair.exchange()
        pair.source.answer(flow, True, profile=wish, now=pair.now)
        pair.exchange()
    assert pair.sink.status(flow).profile.current_ma == 901  # type: ignore[union-attr]


def test_a_verb_that_finds_nothing_to_do_leaves_the_state_as_it_was() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    before = pair.sink.status(flow)
    with pytest.raises(LocalProtocolError, match="nothing to answer"):
        pair.sink.answer(flow, True, now=pair.now)
    assert pair.sink.status(flow) == before
    assert pair.sink.data_to_send() == b""


@pytest.mark.requirement("PTCP-3.1-01", "PTCP-3.2-01")
@pytest.mark.parametrize(
    ("sampling", "texts", "fault"),
    [
        (Sampling(10), ["12V/1A"], None),
        (Sampling(100_000), ["12V/1A"], None),
        (Sampling(9), ["12V/1A"], (9, 10)),
        (Sampling(0), ["12V/1A"], (0, 10)),
        (Sampling(100_001), ["12V/1A"], (100_001, 100_000)),
        (Sampling(4000, pairs=3), ["230V/1A@50Hz/wye"], None),
        (Sampling(4000, pairs=3), ["230V/1A@50Hz/wye", "230V/1A@50Hz"], (3, 1)),
        (Sampling(4000), ["230V/1A@50Hz", "230V/1A@50Hz/split"], (1, 2)),
    ],
)
def test_one_sampling_carries_every_wish(
    sampling: Sampling, texts: list[str], fault: tuple[int, int] | None
) -> None:
    asks = [ask(text) for text in texts]
    found = sampling_fault(sampling, asks)
    assert (found and (found.value, found.limit)) == fault
    pair = Pair()
    wishes = Options(profiles=ask_profiles(asks, 7), sampling=sampling)
    pair.source.receive_data(encode_segment(Control(1, Flag.SYN, 0, wishes)), pair.now)
    pair.collect()
    assert len(pair.take(SOURCE, PowerRequested)) == (fault is None)
    closed = [one.refusal for one in pair.take(SOURCE, FlowClosed)]
    assert closed == ([] if found is None else [found])
    if found is not None:
        with pytest.raises(LocalProtocolError, match="109 SAMPLING"):
            pair.sink.open_flow(asks, sampling=sampling, now=pair.now)


@pytest.mark.requirement("PTCP-3.1-01", "PTCP-3.2-01")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_other_phases_need_another_flow(side: int) -> None:
    pair = Pair()
    flow = pair.energise("230V/1A@50Hz", "230V/0.1A@50Hz")
    other = ask("230V/1A@50Hz/wye")
    with pytest.raises(LocalProtocolError, match="109 SAMPLING"):
        pair.ends[side].renegotiate(flow, [other], now=pair.now)
    number = 3 if side == SINK else 2  # of the peer
    wishes = Options(contract=number, profiles=ask_profiles([other], 7))
    pair.ends[side].receive_data(encode_segment(Reneg(flow, 0, wishes)), pair.now)
    pair.collect()
    refusal = pair.one(side, FlowClosed).refusal
    assert refusal is not None
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.SAMPLING, 1, 3)


@pytest.mark.requirement("PTCP-9-06", "PTCP-14-01")
@pytest.mark.parametrize(
    ("side", "number", "code"),
    [
        (SOURCE, 0, Reason.STATE),
        (SOURCE, 0xFFFF_0000, None),
        (SOURCE, 0xFFFF_0002, Reason.LIMIT),
        (SOURCE, 0xFFFF_FFFE, Reason.LIMIT),
        (SINK, 0xFFFE_FFFF, None),
        (SINK, 0xFFFF_0001, Reason.LIMIT),
        (SINK, 0xFFFF_FFFF, Reason.LIMIT),
    ],
)
def test_a_proposal_leaves_numbers_to_go_on_with(side: int, number: int, code: int | None) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    wishes = Options(contract=number, profiles=ask_profiles([ask("12V/0.5A")], 7))
    pair.ends[side].receive_data(encode_segment(Reneg(flow, 0, wishes)), pair.now)
    pair.collect()
    found = [one.refusal and one.refusal.code for one in pair.take(side, FlowClosed)]
    assert found == ([code] if code else [])
    if code is None:
        pair.ends[side].answer(flow, False, now=pair.now)
        pair.ends[side].renegotiate(flow, [ask("12V/0.8A")], now=pair.now)
        assert pair.ends[side].data_to_send()


@pytest.mark.requirement("PTCP-14-02")
def test_the_next_time_is_the_earliest_whoever_set_it() -> None:
    pair = Pair()
    flow = SinkFlow(pair.sink, 9)
    assert Flow.esn_uj.fget(flow) == 0  # type: ignore[attr-defined]
    assert flow.next_time() is None
    flow.arm(pair.now, 500)
    flow.credit_at = pair.now + 300
    assert flow.next_time() == pair.now + 300
    flow.credit_at = pair.now + 700
    assert flow.next_time() == pair.now + 500


FREQUENCIES = (60, 50, 5, 60, 50)


def swing(side: int, deliver: Callable[[Pair, int], None]) -> tuple[Pair, int]:
    """Renegotiate the same volts and amperes from frequency to frequency; deliver under each."""
    pair = Pair()
    flow = pair.energise("230V/260mA@50Hz")
    for hertz in FREQUENCIES:
        deliver(pair, flow)
        text = f"230V/260mA@{hertz}Hz"
        pair.ends[side].renegotiate(flow, [ask(text)], now=pair.now)
        pair.exchange()
        pair.ends[1 - side].answer(flow, accept=True, profile=profile(text), now=pair.now)
        pair.exchange()
        status = pair.sink.status(flow)
        assert status.profile is not None
        assert status.profile.frequency_chz == 100 * hertz
        deliver(pair, flow)
    assert not pair.take(SINK, FlowTripped)
    return pair, flow


def closed_at(pair: Pair, flow: int) -> int:
    """Close the flow; return the energy that both ends end with, uJ."""
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    sink, source = pair.one(SINK, FlowClosed), pair.one(SOURCE, FlowClosed)
    assert sink.esn_uj == sink.acked_uj == source.esn_uj == source.acked_uj
    assert not sink.truncated
    assert not source.truncated
    return source.esn_uj


@pytest.mark.requirement("PTCP-8-06", "PTCP-9-03")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_another_frequency_has_other_windows_at_both_ends(side: int) -> None:
    generators: dict[PowerProfile, Generator] = {}
    counter = banked = 0

    def deliver(pair: Pair, flow: int) -> None:
        nonlocal counter, banked
        status = pair.source.status(flow)
        terms, sampling = status.profile, status.sampling
        assert terms is not None
        assert sampling is not None
        generator = generators.setdefault(terms, Generator(terms, sampling))
        for _ in range(7):
            tick = generator.block(counter, terms.power_mw)
            assert pair.source.send_block(flow, tick.payload, tick.sums, now=pair.now)
            counter += tick.n
            pair.exchange()
        got = [one.energy_uj for one in pair.take(SINK, SamplesReceived)]
        assert len(got) == 7
        banked += sum(got)

    pair, flow = swing(side, deliver)
    assert closed_at(pair, flow) == banked > 0


@pytest.mark.requirement("PTCP-8-06")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_a_slow_wave_is_no_over_current_after_a_fast_one(side: int) -> None:
    def deliver(pair: Pair, flow: int) -> None:
        for _ in range(12):
            assert pair.deliver(flow, 130) == 1

    pair, flow = swing(side, deliver)
    assert not pair.take(SOURCE, FlowTripped)
    assert closed_at(pair, flow) > 0


@pytest.mark.requirement("PTCP-9-03", "PTCP-2.3-02")
def test_a_block_made_under_other_terms_is_cut_anew() -> None:
    pair = Pair()
    flow = pair.energise("230V/260mA@60Hz")
    status = pair.source.status(flow)
    assert status.profile is not None
    assert status.sampling is not None
    old = Generator(status.profile, status.sampling)
    first, made = old.block(0, 59_800), old.block(old.n, 59_800)
    # what is under way when the terms change
    assert pair.source.send_block(flow, first.payload, first.sums, now=pair.now)
    wish = ask("230V/260mA@50Hz")
    pair.sink.renegotiate(flow, [wish], now=pair.now)
    pair.pump(SINK)
    pair.source.answer(flow, accept=True, profile=wish.desired, now=pair.now)
    # what was made under the terms before, and comes with them already in force
    assert pair.source.send_block(flow, made.payload, made.sums, now=pair.now)
    pair.exchange()
    assert [one.count for one in pair.take(SINK, SamplesReceived)] == [first.n, made.n]
    pair.counters[flow] = 2 * old.n
    assert pair.deliver(flow, 80) == 1
    assert closed_at(pair, flow) > 0


@pytest.mark.requirement("PTCP-8-06")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_another_lease_goes_on_with_the_window_that_was_begun(side: int) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A,lease=60s")
    sampling = pair.source.status(flow).sampling
    assert sampling is not None
    half = window_samples_for(profile("12V/1A"), sampling) // 2
    # 1.3 A are too much over a whole window
    row = (12 * 10**9 // sampling.nv_per_lsb, 13 * 10**8 // sampling.na_per_lsb)
    blocks = [encode_block(at, np.array([row] * half)) for at in (0, half)]
    assert pair.source.send_samples(flow, blocks[:1], now=pair.now) == 1
    wish = profile("12V/1A,lease=30s")
    pair.ends[side].renegotiate(flow, [Ask(wish)], now=pair.now)
    pair.exchange()
    pair.ends[1 - side].answer(flow, accept=True, profile=wish, now=pair.now)
    pair.exchange()
    assert pair.source.send_samples(flow, blocks[1:], now=pair.now) == 0
    pair.exchange()
    assert pair.one(SOURCE, FlowTripped).refusal.code == Reason.OVER_CURRENT
