"""Following a connection from the middle: what each segment means, and what is verified."""

import random

import pytest

from powertcp.dve import RunSums, integrate_many, integrate_run
from powertcp.potcp.events import Ask
from powertcp.profile import ProfileType
from powertcp.reclaim.track import FLOWS_MAX, End, Phase, Sighting, Tracker, What
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import Splitter, data_header, encode_segment
from powertcp.wire.options import Meter, Options, Sampling
from powertcp.wire.segments import (
    Alert,
    Answer,
    Blocked,
    Control,
    CookieSegment,
    Credit,
    Data,
    FeedSegment,
    MaintainProbe,
    Ready,
    Receipt,
    Reneg,
    Segment,
    Shed,
    Ticket,
    Trip,
)
from tests.conversation import SINK, SOURCE, Pair, profile

GRANT = profile("12V/1A", ProfileType.GRANT)
RATE = Sampling(1000)


class Watched(Pair):
    """Two ends that a tracker listens to."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = Tracker()
        self.seen: list[What] = []

    def pump(self, side: int) -> bytes:
        octets = super().pump(side)
        for raw in Splitter(65535).receive(octets):
            end = End.CLIENT if side == SINK else End.SERVER
            self.seen.append(self.tracker.see(end, raw, self.now).what)
        return octets


def saw(tracker: Tracker, end: End, segment: Segment, now: int = 0) -> Sighting:
    (raw,) = Splitter(65535).receive(encode_segment(segment))
    return tracker.see(end, raw, now)


def syn(number: int = 1, **options: object) -> Control:
    given = {"profiles": (profile("12V/1A"),), "sampling": RATE} | options
    return Control(number, Flag.SYN, 0, Options(**given))  # type: ignore[arg-type]


def powered(credit_uj: int = 10**9) -> Tracker:
    """Return a tracker with flow 1 under 12 V, 1 A."""
    tracker = Tracker()
    saw(tracker, End.CLIENT, syn())
    answer = Options(contract=1, profiles=(GRANT,), sampling=RATE)
    saw(tracker, End.SERVER, Control(1, Flag.SYN | Flag.ACK, 0, answer))
    saw(tracker, End.CLIENT, Control(1, Flag.ACK, 0, Options(contract=1, profiles=(GRANT,))))
    saw(tracker, End.CLIENT, Credit(1, 0, credit_uj))
    saw(tracker, End.SERVER, Ready(1, 0, Options(contract=1, profiles=(GRANT,))))
    return tracker


def block(counter: int = 0, volts: int = 12_000, samples: int = 100) -> bytes:
    head = counter.to_bytes(4, "big") + b"\0\1" + samples.to_bytes(2, "big")
    sample = volts.to_bytes(4, "big", signed=True) + (1_000_000).to_bytes(4, "big")
    return head + sample * samples


def test_a_flow_is_followed_from_its_syn_to_its_end() -> None:
    pair = Watched()
    flow = pair.energise("12V/1A")
    (tracked,) = pair.tracker.flows
    assert (tracked.phase, tracked.contract, tracked.sink) == (Phase.ENERGISED, 1, End.CLIENT)
    assert tracked.profile == pair.source.status(flow).profile
    pair.deliver(flow)
    pair.deliver(flow)
    assert tracked.verified_uj == pair.sink.status(flow).esn_uj == 2_400_000
    assert tracked.opened_at == pair.now
    for _ in range(20):
        pair.advance(0.1)
        pair.deliver(flow)
    assert 2_400_000 < tracked.acked_uj <= tracked.verified_uj == 26_400_000
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    assert pair.tracker.flows == ()
    assert tracked.phase is Phase.OVER
    assert set(pair.seen) == {
        What.ASKED, What.OFFERED, What.ACCEPTED, What.READY, What.CREDITED, What.BLOCK,
        What.TICKET, What.PROBE, What.CLOSING, What.CLOSED,
    }  # fmt: skip


@pytest.mark.requirement("PTCP-8-06", "PTCP-9-03")
def test_another_frequency_has_other_windows() -> None:
    pair = Watched()
    flow = pair.energise("230V/260mA@50Hz")
    (tracked,) = pair.tracker.flows
    pair.deliver(flow, 130)
    slow = profile("230V/260mA@5Hz")
    pair.sink.renegotiate(flow, [Ask(slow)], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, accept=True, profile=slow, now=pair.now)
    pair.exchange()
    for _ in range(12):
        pair.deliver(flow, 130)
    assert tracked.fault is None
    assert tracked.verified_uj == pair.sink.status(flow).esn_uj > 0
    assert tracked.protector is not None
    assert tracked.protector.watches(slow)


def test_terms_hold_from_ready_on_and_not_before() -> None:
    pair = Watched()
    flow = pair.energise("12V/2A", "12V/0.5A")
    (tracked,) = pair.tracker.flows
    pair.source.shed(
        flow, profile("12V/1A", ProfileType.OFFER), refusal=Refusal(Reason.BUDGET), now=pair.now
    )
    pair.exchange()
    assert tracked.profile is not None
    assert tracked.profile.current_ma == 1000
    assert tracked.contract == 3
    assert [What.SHED in pair.seen, What.ANSWERED in pair.seen] == [True, True]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Data(1, 0, False, block(7)), Reason.SAMPLE_GAP),
        (Data(1, 5, False, block(100)), Reason.METER_MISMATCH),
        (Data(1, 1_200_000, False, block(100, volts=400_000)), Reason.OVER_VOLTAGE),
    ],
)
def test_what_a_sink_does_not_bank_is_heat_here_too(data: Data, code: Reason) -> None:
    tracker = powered()
    assert saw(tracker, End.SERVER, Data(1, 0, False, block())).energy_uj == 1_200_000
    sighting = saw(tracker, End.SERVER, data)
    assert sighting.what is What.UNLAWFUL
    assert sighting.refusal is not None
    assert sighting.refusal.code == code
    (flow,) = tracker.flows
    assert flow.verified_uj == 1_200_000
    assert flow.heat_uj == sighting.energy_uj > 0
    # and nothing after it is banked either
    assert saw(tracker, End.SERVER, Data(1, 1_200_000, False, block(100))).what is What.UNLAWFUL
    assert flow.verified_uj == 1_200_000


def test_pairs_are_those_of_the_sampling() -> None:
    tracker = powered()
    two = b"\0\0\0\0\0\2\0\1" + bytes(16)
    refusal = saw(tracker, End.SERVER, Data(1, 0, False, two)).refusal
    assert refusal == Refusal(Reason.SAMPLE_GAP, 2, 1)


def test_what_comes_beyond_credit_is_verified_up_to_it() -> None:
    tracker = powered(credit_uj=1_000_000)
    sighting = saw(tracker, End.SERVER, Data(1, 0, False, block()))
    assert (sighting.what, sighting.energy_uj) == (What.UNLAWFUL, 1_000_000)
    (flow,) = tracker.flows
    assert (flow.verified_uj, flow.heat_uj) == (1_000_000, 200_000)


def test_a_claim_of_the_header_is_only_a_claim() -> None:
    tracker = powered()
    saw(tracker, End.SERVER, Data(1, 9_000_000, False, block()))
    (flow,) = tracker.flows
    assert (flow.verified_uj, flow.claimed_uj) == (0, 9_000_000)


def test_an_acknowledgement_of_more_than_there_was_is_cut() -> None:
    tracker = powered()
    saw(tracker, End.SERVER, Data(1, 0, False, block()))
    saw(tracker, End.CLIENT, Credit(1, 99_000_000, 10**9))
    assert tracker.flows[0].acked_uj == 1_200_000


def test_a_resumed_flow_goes_on_at_its_energy() -> None:
    tracker = Tracker()
    saw(tracker, End.CLIENT, Control(1, Flag.SYN, 700, syn(ticket=b"x" * 40).options))
    options = Options(contract=3, profiles=(GRANT,), sampling=RATE)
    saw(tracker, End.SERVER, Control(1, Flag.SYN | Flag.ACK, 700, options))
    (flow,) = tracker.flows
    assert (flow.verified_uj, flow.base_uj, flow.ticket) == (700, 700, b"x" * 40)


def test_power_without_a_contract_is_unsolicited() -> None:
    tracker = Tracker()
    assert saw(tracker, End.SERVER, Data(1, 0, False, block())).what is What.STRAY
    saw(tracker, End.CLIENT, syn())
    assert saw(tracker, End.SERVER, Data(1, 0, False, block())).what is What.UNSOLICITED
    assert saw(powered(), End.CLIENT, Data(1, 0, False, block())).what is What.UNSOLICITED


def test_receipts_are_told_from_their_copies() -> None:
    tracker = Tracker()
    saw(tracker, End.CLIENT, syn(meter=Meter(60, 0, b"k" * 32)))
    options = Options(contract=1, profiles=(GRANT,), sampling=RATE, meter=Meter(60, 0, b"s" * 32))
    saw(tracker, End.SERVER, Control(1, Flag.SYN | Flag.ACK, 0, options))
    (flow,) = tracker.flows
    assert (flow.sink_key, flow.source_key, flow.is_metered) == (b"k" * 32, b"s" * 32, True)
    assert saw(tracker, End.SERVER, Receipt(1, 0, bytes(380))).what is What.PAGE
    assert saw(tracker, End.CLIENT, Receipt(1, 0, bytes(380))).what is What.COPY


def test_via_is_in_no_transcript() -> None:
    plain, named = Tracker(), Tracker()
    saw(plain, End.CLIENT, syn())
    sighting = saw(named, End.CLIENT, syn(via="laboratory-2"))
    assert named.flows[0].transcript == plain.flows[0].transcript
    assert named.flows[0].handshake == encode_segment(syn())
    assert isinstance(sighting.segment, Control)
    assert sighting.segment.options.via == "laboratory-2"


def test_a_repeated_syn_with_its_cookie_is_the_same_flow() -> None:
    tracker = Tracker()
    saw(tracker, End.CLIENT, syn())
    assert saw(tracker, End.SERVER, CookieSegment(1, 0, b"c" * 32)).what is What.SENT_BACK
    assert saw(tracker, End.CLIENT, syn(cookie=b"c" * 32)).what is What.ASKED
    assert len(tracker.flows) == 1
    assert saw(tracker, End.CLIENT, syn()).what is What.INVALID


@pytest.mark.parametrize(
    ("end", "segment", "what"),
    [
        (End.SERVER, Blocked(1, 0, 5), What.BLOCKED),
        (End.CLIENT, Reneg(1, 0, Options(contract=2, profiles=(profile("12V/0.5A"),))), What.PROPOSED),
        (End.SERVER, Reneg(1, 0, Options(contract=3, profiles=(GRANT.with_type(ProfileType.OFFER),))), What.PROPOSED),
        (End.SERVER, Answer(1, 0, True, Options(contract=2)), What.ANSWERED),
        (End.SERVER, Shed(1, 0, False, 1000, 0, Options(contract=3)), What.SHED),
        (End.CLIENT, Trip(1, 0), What.TRIPPED),
        (End.SERVER, Ticket(1, 0, 60, b"t"), What.TICKET),
        (End.SERVER, Alert(1, 0, 2), What.ALERTED),
        (End.SERVER, Alert(0, 0, 2), What.ALERTED),
        (End.CLIENT, MaintainProbe(1, 0, 0), What.PROBE),
        (End.CLIENT, Control(0, Flag.RST, 0), What.TERMINATED),
        (End.CLIENT, FeedSegment(0, Flag.SYN, 0, Options(), b""), What.FEED),
        (End.CLIENT, Control(1, Flag.FIN, 0), What.CLOSING),
        (End.SERVER, Control(1, Flag.FIN | Flag.ACK, 0), What.CLOSED),
        (End.SERVER, Control(1, Flag.RST, 0), What.RESET),
        # of the wrong side, in the wrong place
        (End.SERVER, Credit(1, 0, 5), What.INVALID),
        (End.CLIENT, Shed(1, 0, False, 1000), What.INVALID),
        (End.CLIENT, Ready(1, 0, Options(profiles=(GRANT,))), What.INVALID),
        (End.SERVER, Ready(1, 0, Options()), What.INVALID),
        (End.CLIENT, Ticket(1, 0, 60, b"t"), What.INVALID),
        (End.SERVER, CookieSegment(1, 0, b"c" * 32), What.INVALID),
        (End.SERVER, Control(1, Flag.SYN | Flag.ACK, 0), What.INVALID),
        (End.CLIENT, Control(1, Flag.ACK, 0), What.INVALID),
        (End.CLIENT, Control(0, Flag.FIN, 0), What.INVALID),
        (End.CLIENT, Reneg(1, 0, Options(contract=2)), What.INVALID),
        (End.CLIENT, syn(2), What.INVALID),
        (End.CLIENT, syn(1), What.INVALID),
        (End.CLIENT, Control(3, Flag.FIN, 0), What.STRAY),
    ],
)  # fmt: skip
def test_what_each_segment_means(end: End, segment: Segment, what: What) -> None:
    assert saw(powered(), end, segment).what is what


def test_a_proposal_carries_what_would_be_drawn() -> None:
    asked = profile("12V/0.5A")
    reneg = Reneg(1, 0, Options(contract=2, profiles=(asked,)))
    assert saw(powered(), End.CLIENT, reneg).asks[0].desired == asked
    offer = profile("12V/3A", ProfileType.OFFER)
    reneg = Reneg(1, 0, Options(contract=3, profiles=(offer,)))
    assert [one.desired for one in saw(powered(), End.SERVER, reneg).asks] == [offer]


@pytest.mark.parametrize("sampling", [None, Sampling(1), Sampling(1000, nv_per_lsb=0)])
def test_a_sampling_that_no_meter_keeps_is_invalid(sampling: Sampling | None) -> None:
    tracker = Tracker()
    saw(tracker, End.CLIENT, syn())
    options = Options(contract=1, profiles=(GRANT,), sampling=sampling)
    sighting = saw(tracker, End.SERVER, Control(1, Flag.SYN | Flag.ACK, 0, options))
    assert sighting.what is What.INVALID


def test_a_tracker_follows_256_flows_and_no_more() -> None:
    tracker = Tracker()
    for number in range(FLOWS_MAX):
        assert saw(tracker, End.CLIENT, syn(2 * number + 1)).what is What.ASKED
    sighting = saw(tracker, End.CLIENT, syn(2 * FLOWS_MAX + 1))
    assert sighting.refusal == Refusal(Reason.LIMIT, FLOWS_MAX + 1, FLOWS_MAX)
    assert len(tracker.flows) == FLOWS_MAX
    tracker.forget(tracker.flows[0])
    assert saw(tracker, End.CLIENT, syn(2 * FLOWS_MAX + 1)).what is What.ASKED
    assert tracker.flow(2 * FLOWS_MAX + 1) is tracker.flows[-1]


def test_a_type_that_is_skipped_whole_is_skipped() -> None:
    octets = bytearray(encode_segment(MaintainProbe(1, 0, 0)))
    octets[4] = 0x90
    (raw,) = Splitter(65535).receive(bytes(octets))
    assert Tracker().see(End.CLIENT, raw, 0).what is What.SKIPPED


@pytest.mark.parametrize("seed", range(20))
def test_no_octets_raise_or_grow_anything(seed: int) -> None:
    chance = random.Random(seed)
    pair = Pair()
    flow = pair.energise("12V/1A")
    for _ in range(3):
        pair.deliver(flow)
    said = [encode_segment(one) for side in (SINK, SOURCE) for one in pair.sent[side]]
    tracker = powered()
    for now in range(300):
        octets = bytearray(chance.choice(said))
        for _ in range(chance.randrange(4)):
            octets[chance.randrange(4, len(octets))] = chance.randrange(256)
        # a length that does not fit its octets is the splitter's business
        for raw in Splitter(65535).receive(bytes(octets)):
            tracker.see(chance.choice(list(End)), raw, now * NS_PER_S)
    assert len(tracker.flows) <= FLOWS_MAX


def test_flows_that_ended_are_remembered_once_each_and_no_more_than_there_may_be() -> None:
    tracker = Tracker()
    for number in range(FLOWS_MAX + 1):
        saw(tracker, End.CLIENT, syn(2 * number + 1))
        saw(tracker, End.CLIENT, Control(2 * number + 1, Flag.RST, 0))
    assert not tracker.has_crossed(1)
    assert tracker.has_crossed(3)
    assert not tracker.has_crossed(3)
    assert tracker.has_crossed(2 * FLOWS_MAX + 1)


# ---- runs of blocks -----------------------------------------------------------------------------


def run_of(count: int = 3, counter: int = 0, volts: int = 12_000) -> RunSums:
    """Return the sums of blocks that follow each other, of 1.2 J each at 12 V."""
    one = data_header(1, 0, len(block()))
    octets = b"".join(one + block(counter + 100 * n, volts) for n in range(count))
    run = integrate_run(octets, count, len(one))
    assert run is not None
    return run


def test_a_run_is_taken_as_its_blocks_are() -> None:
    singly, at_once = powered(), powered()
    for tracker, turn in ((singly, 0), (at_once, 3)):
        saw(tracker, End.SERVER, Data(1, 0, False, block()))
        said = [1_200_000 * n for n in range(1, 4)]
        if turn:
            assert tracker.run(tracker.flows[0], End.SERVER, said, run_of(3, 100)) == 3_600_000
        else:
            for n, esn in enumerate(said, 1):
                saw(tracker, End.SERVER, Data(1, esn, False, block(100 * n)))
    one, other = singly.flows[0], at_once.flows[0]
    assert (one.verified_uj, one.counter, one.fault) == (4_800_000, 400, None)
    assert (other.verified_uj, other.counter, other.fault) == (4_800_000, 400, None)
    # and both go on alike
    for tracker in (singly, at_once):
        sighting = saw(tracker, End.SERVER, Data(1, 4_800_000, False, block(400)))
        assert sighting.what is What.BLOCK


LAWFUL = [0, 1_200_000, 2_400_000]


@pytest.mark.parametrize(
    ("sender", "said", "run", "credit_uj"),
    [
        # of its sink, of pairs, counters, energies or peaks that are not as they should be
        (End.CLIENT, LAWFUL, run_of(), 10**9),
        (End.SERVER, LAWFUL, run_of()._replace(pairs=2), 10**9),
        (End.SERVER, LAWFUL, run_of()._replace(a=[1, 2, -1]), 10**9),
        (End.SERVER, [0, 1_200_000, 9], run_of(), 10**9),
        (End.SERVER, [5, 1_200_000, 2_400_000], run_of(), 10**9),
        (End.SERVER, LAWFUL, run_of(), 3_599_999),
        (End.SERVER, LAWFUL, run_of()._replace(v_peak=13_201), 10**9),
        (End.SERVER, LAWFUL, run_of()._replace(i_peak=9_000_000), 10**9),
    ],
)
def test_a_run_that_may_hold_an_unlawful_block_is_not_taken(
    sender: End, said: list[int], run: RunSums, credit_uj: int
) -> None:
    tracker = powered(credit_uj)
    (flow,) = tracker.flows
    assert tracker.run(flow, sender, said, run) is None
    assert (flow.verified_uj, flow.counter, flow.fault, flow.heat_uj) == (0, None, None, 0)
    assert tracker.run(flow, End.SERVER, LAWFUL[:1], run_of(1)) == 1_200_000


def test_a_run_goes_on_where_the_samples_were() -> None:
    tracker = powered()
    (flow,) = tracker.flows
    assert tracker.run(flow, End.SERVER, LAWFUL, run_of(counter=77)) == 3_600_000
    assert tracker.run(flow, End.SERVER, [3_600_000], run_of(1, 300)) is None
    assert tracker.run(flow, End.SERVER, [3_600_000], run_of(1, 377)) == 1_200_000


def test_without_terms_or_behind_a_fault_no_run_is_taken() -> None:
    tracker = Tracker()
    saw(tracker, End.CLIENT, syn())
    assert tracker.run(tracker.flows[0], End.SERVER, LAWFUL, run_of()) is None
    faulty = powered()
    saw(faulty, End.SERVER, Data(1, 7, False, block()))
    assert faulty.run(faulty.flows[0], End.SERVER, LAWFUL, run_of()) is None


def test_behind_a_fault_a_block_is_as_harmful_as_it_is() -> None:
    def codes(*blocks: Data, credit_uj: int = 10**9) -> list[int]:
        tracker = powered(credit_uj)
        found = (saw(tracker, End.SERVER, one).refusal for one in blocks)
        return [one.code for one in found if one is not None]

    lie = Data(1, 7, False, block())
    assert codes(lie, Data(1, 0, False, block())) == [Reason.METER_MISMATCH] * 2
    spike = Data(1, 0, False, block(volts=400_000))
    assert codes(lie, spike) == [Reason.METER_MISMATCH, Reason.OVER_VOLTAGE]
    assert codes(lie, lie, credit_uj=1_199_999) == [Reason.CREDIT_OVERRUN] * 2


def test_a_flow_ends_once_and_its_sides_are_two() -> None:
    tracker = powered()
    (flow,) = tracker.flows
    tracker.forget(flow)
    tracker.forget(flow)
    assert tracker.has_crossed(1)
    assert [end.other for end in End] == [End.SERVER, End.CLIENT]


def test_a_block_whose_sums_are_known_is_taken_as_any_other() -> None:
    tracker = powered()
    (flow,) = tracker.flows
    assert flow.protector is not None
    [sums] = integrate_many([block()], flow.protector.window_samples)
    assert tracker.block(flow, End.SERVER, 0, sums).energy_uj == 1_200_000
    assert tracker.block(flow, End.SERVER, 0, sums).what is What.UNLAWFUL
    assert flow.verified_uj == 1_200_000


def test_a_proposal_that_is_rejected_leaves_what_was_asked_for_before() -> None:
    tracker = powered()
    (flow,) = tracker.flows
    before, flow.asks = flow.asks, (Ask(profile("12V/2A")),)
    for accepted, asks in ((True, flow.asks), (False, before)):
        flow.asked_before = before
        saw(tracker, End.SERVER, Answer(1, 0, accepted, Options(contract=3)))
        assert (flow.asks, flow.asked_before) == (asks, ())
