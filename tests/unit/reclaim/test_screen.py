"""One connection through the firewall: what passes, what is answered, how it ends."""

from collections.abc import Sequence

import pytest

from powertcp.potcp.events import FlowClosed, FlowCut, FlowRefused, FlowResumed, PowerRequested
from powertcp.reclaim.layer import ConnectionOpened, FlowEnded, FlowJudged, Hook
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.policy import State, Way
from powertcp.reclaim.screen import PARKED_MAX, REFUSALS_MAX, NameWanted, Screen, TargetWanted
from powertcp.reclaim.track import End
from powertcp.reclaim.watch import Party
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import encode_segment, pack_segment
from powertcp.wire.options import Feed, Options, Sampling, Seal
from powertcp.wire.segments import (
    Alert,
    Control,
    Credit,
    FeedSegment,
    MaintainProbe,
    Ready,
    Sealed,
    Segment,
    Ticket,
)
from tests.conversation import SINK, SOURCE, Pair, ask, profile, segments
from tests.metered import DAY, meter_of
from tests.policies import load
from tests.screens import (
    ACCEPT,
    DEVICE,
    GRANT,
    OTHER,
    PROVIDER,
    RECLAIM,
    UNREACHABLE,
    Besieged,
    Judged,
    ScreenedPair,
    data_with_options,
    firewall_of,
    joules,
    party,
    postings,
    power,
    ruled,
    told,
    watts,
)

J = 1_000_000
LAB: dict[str | None, Party] = {"lab:3251": PROVIDER}


class Cut:
    """Octets in pieces of one size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, octets: bytes) -> Sequence[bytes]:
        return [octets[at : at + self.size] for at in range(0, len(octets), self.size)]


def by_the_byte(pair: ScreenedPair, side: int, *said: Segment | bytes) -> None:
    """Let one side speak without either machine hearing of it."""
    pair.hear(
        side, b"".join(one if isinstance(one, bytes) else encode_segment(one) for one in said)
    )


def reset_of(octets: bytes) -> Refusal:
    (reset,) = segments(octets)
    assert isinstance(reset, Control)
    assert reset.options.reason is not None
    return reset.options.reason


# ---- what passes --------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-1-03")
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_segments_pass_octet_for_octet_and_receipts_agree(size: int) -> None:
    pair = ScreenedPair(chunk=Cut(size))
    flow = pair.energise("12V/1A", tariff=DAY)
    pair.run(flow, 20)
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    pair.source.answer(flow, True, profile=profile("12V/2A"), now=pair.now)
    pair.exchange()
    pair.run(flow, 20)
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    for side in (SINK, SOURCE):
        said, heard = pair.octets(side)
        assert said == heard
    closed = [pair.one(side, FlowClosed) for side in (SINK, SOURCE)]
    assert [(one.esn_uj, one.signed_uj) for one in closed] == [(72 * J, 72 * J)] * 2
    assert pair.books.differences == []
    assert joules(pair.firewall) == (72 * J, 72 * J, 0, 0)
    assert pair.firewall.joules.claimed_uj == 0
    assert postings(pair.firewall) == {}
    assert told(pair.firewall) == ["accepted", "powered", "powered", "closed"]
    assert pair.screen.is_idle


@pytest.mark.requirement("FWRL-5-01")
def test_flows_beside_an_attack_lose_nothing() -> None:
    pair = ScreenedPair(RECLAIM)
    flows = [pair.energise("12V/0.75A") for _ in range(5)]
    attack = Besieged(firewall=pair.firewall, now=pair.now, ticks=False)
    for number in range(30):
        for flow in flows:
            assert pair.run(flow, 1) == 1, number
        attack.run((pair.now - attack.now) / NS_PER_S)
    for flow in flows:
        pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    closed = pair.take(SINK, FlowClosed)
    assert [one.signed_uj for one in closed] == [27 * J] * 5
    in_uj, passed_uj, kept_uj, heat_uj = joules(pair.firewall)
    assert passed_uj == 135 * J
    assert in_uj - passed_uj == attack.attack.sent_uj == kept_uj + heat_uj


@pytest.mark.requirement("FWRL-1-03")
def test_a_flow_is_resumed_over_another_connection() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule direction out -> accept limit 20W burst 40J")
    flow = pair.energise("12V/1A")
    pair.run(flow, 20)
    ticket = [one for one in pair.were_told(SINK) if isinstance(one, Ticket)][-1].ticket
    before = pair.sink.status(flow).profile
    pair.cut_one(SINK)
    pair.exchange()
    mark = pair.one(SINK, FlowCut)
    assert mark.esn_uj == 24 * J
    assert told(pair.firewall)[-1] == "cut"
    again = ScreenedPair(firewall=pair.firewall, books=pair.books, office=pair.office, now=pair.now)
    assert before is not None
    resumed = again.request(
        ask("12V/1A"),
        ticket=ticket,
        esn_uj=24 * J,
        before=before,
        meter=meter_of(SINK),
        pages=mark.pages,
    )
    if again.source.status(resumed).state == "RAMPING":
        again.source.ready(resumed, now=again.now)
        again.exchange()
    assert again.take(SOURCE, FlowResumed)
    assert again.run(resumed, 20) == 20
    assert again.sink.status(resumed).esn_uj == 48 * J
    assert joules(pair.firewall) == (48 * J, 48 * J, 0, 0)
    for side in (SINK, SOURCE):
        assert again.octets(side)[0] == again.octets(side)[1]


@pytest.mark.requirement("FWRL-1-03")
def test_probes_alerts_and_what_nobody_knows_pass_between_both() -> None:
    pair = ScreenedPair()
    pair.request(ask("12V/1A"))
    said: list[Segment] = [MaintainProbe(7, 0, 9), Alert(0, 0, 1), Alert(1, 0, 2)]
    unknown = pack_segment(0x90, 0, 1, 0, b"", b"elective")
    by_the_byte(pair, SOURCE, *said, unknown)
    before = pair.octets(SOURCE)[0]
    # of no flow that was let pass, nobody knows what it carries
    by_the_byte(pair, SOURCE, *(pack_segment(0x90, 0, of, 0, b"", b"hidden") for of in (0, 3)))
    pair.flush()
    assert pair.octets(SOURCE)[1] == before
    assert unknown in before


@pytest.mark.requirement("FWRL-1-03")
def test_what_is_of_no_flow_does_not_pass() -> None:
    pair = ScreenedPair()
    Pair.energise(pair, "12V/1A")
    before = pair.octets(SOURCE)[1]
    by_the_byte(pair, SOURCE, Ready(9, 0, Options(contract=1, profiles=(GRANT,))),
                Control(9, Flag.FIN | Flag.ACK), Credit(9, 0, 1))  # fmt: skip
    by_the_byte(pair, SOURCE, Control(9, Flag.FIN))
    # a goodbye that crossed ours is answered
    assert segments(pair.legs[SOURCE].data_to_send()) == [Control(9, Flag.FIN | Flag.ACK)]
    pair.flush()
    assert pair.octets(SOURCE)[1] == before


def test_before_there_is_a_far_side_nothing_is_said_to_it() -> None:
    pair = ScreenedPair()
    by_the_byte(pair, SINK, MaintainProbe(7, 0, 9), pack_segment(0x90, 0, 0, 0, b"", b"x"))
    assert (pair.legs[SOURCE].data_to_send(), pair.all(TargetWanted)) == (b"", [])
    by_the_byte(pair, SINK, Control(0, Flag.RST))
    assert pair.legs[SOURCE].data_to_send() == b""
    assert pair.hung == Hung(end=End.CLIENT, refusal=None)


@pytest.mark.requirement("FWRL-3-05")
def test_a_side_that_ends_the_connection_ends_it_for_both() -> None:
    pair = ScreenedPair()
    flow = Pair.energise(pair, "12V/1A")
    pair.run(flow, 2)
    pair.source.abort(Refusal(Reason.MAINTENANCE), now=pair.now)
    pair.exchange()
    assert pair.hung.end is End.SERVER
    assert pair.hung.refusal is not None
    assert pair.hung.refusal.code == Reason.MAINTENANCE
    assert (told(pair.firewall)[-1], pair.firewall.screens) == ("cut", {})
    assert pair.octets(SOURCE)[0] == pair.octets(SOURCE)[1]


def test_what_a_side_can_take_is_noted_for_who_writes_to_it() -> None:
    pair = ScreenedPair(msp=9_000)
    assert [leg.peer_msp for leg in pair.legs] != [9_000, 9_000]
    Pair.energise(pair, "12V/1A")
    assert [leg.peer_msp for leg in pair.legs] == [9_000, 9_000]


def test_a_trip_of_either_side_passes_and_is_told() -> None:
    pair = ScreenedPair()
    flow = Pair.energise(pair, "12V/1A")
    pair.sink.trip(flow, Refusal(Reason.BROWN_OUT), now=pair.now)
    pair.exchange()
    assert told(pair.firewall)[-2:] == ["tripped", "closed"]
    assert ruled(pair.firewall, "tripped").refusal == Refusal(Reason.BROWN_OUT)


# ---- where it goes ------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-2-03")
@pytest.mark.parametrize("size", [1, 7, 13, 1 << 20])
def test_what_follows_a_request_waits_with_it_however_it_is_cut(size: int) -> None:
    pair = ScreenedPair(target=None, names=LAB, chunk=Cut(size))
    pair.resolves = False
    options = Options(profiles=(profile("12V/1A"),), via="lab:3251")
    probes = [MaintainProbe(number, 0, 0) for number in range(1, 9)]
    half = encode_segment(Alert(1, 0, 1))
    by_the_byte(pair, SINK, Control(1, Flag.SYN, 0, options), *probes, half[:9])
    assert pair.told == [NameWanted(via="lab:3251")]
    assert pair.legs[SOURCE].data_to_send() == b""
    pair.screen.settle(PROVIDER, None, pair.now)
    by_the_byte(pair, SINK, half[9:])
    plain = Control(1, Flag.SYN, 0, Options(profiles=(profile("12V/1A"),)))
    assert segments(pair.legs[SOURCE].data_to_send()) == [plain, *probes, Alert(1, 0, 1)]
    assert (pair.screen.target, pair.screen.via) == (PROVIDER, "lab:3251")


@pytest.mark.requirement("FWRL-2-03")
def test_a_name_that_leads_nowhere_refuses_the_request_and_not_what_follows() -> None:
    pair = ScreenedPair(target=None, names=LAB)
    pair.request(ask("12V/1A"), via="nowhere:1")
    assert pair.one(SINK, FlowRefused).refusal.code == Reason.POLICY
    pair.request(ask("12V/1A"), via="lab:3251")
    assert pair.one(SOURCE, PowerRequested).flow == 3
    assert pair.account(1).what == "refused"


@pytest.mark.requirement("FWRL-2-03")
def test_a_request_without_a_name_goes_to_the_default() -> None:
    pair = ScreenedPair(target=None, names={None: PROVIDER})
    pair.request(ask("12V/1A"))
    assert pair.all(NameWanted) == [NameWanted(via=None)]
    assert len(pair.take(SOURCE, PowerRequested)) == 1


@pytest.mark.requirement("FWRL-2-03")
def test_a_request_that_cannot_be_read_goes_where_others_do_and_is_refused_there() -> None:
    pair = ScreenedPair(target=None, names={None: PROVIDER})
    by_the_byte(pair, SINK, pack_segment(1, Flag.SYN, 1, 0, b"\x0e\xff\0\0", b""))
    assert pair.all(NameWanted) == [NameWanted(via=None)]
    assert reset_of(pair.legs[SINK].data_to_send()).code == Reason.BAD_OPTION
    assert pair.all(TargetWanted) == []


@pytest.mark.requirement("FWRL-2-03")
def test_sealed_power_that_leads_nowhere_is_dropped() -> None:
    pair = ScreenedPair(target=None)
    by_the_byte(pair, SINK, Sealed(0, Flag.SYN, 0, Options(seal=Seal(0, 0)), bytes(64)))
    assert pair.all(NameWanted) == [NameWanted(via=None)]
    assert pair.screen.is_dropped
    assert pair.legs[SINK].data_to_send() == b""


def waiting() -> ScreenedPair:
    pair = ScreenedPair(target=None)
    pair.resolves = False
    by_the_byte(pair, SINK, Control(1, Flag.SYN, 0, Options(profiles=(profile("12V/1A"),))))
    return pair


def filler(octets: int) -> bytes:
    """Return a segment of a type that is skipped, so many octets long."""
    return pack_segment(0x90, 0, 0, 0, b"", bytes(octets - 20))


@pytest.mark.requirement("FWRL-5-01")
def test_what_waits_is_bounded() -> None:
    for more, ends in ((0, False), (4, True)):
        pair = waiting()
        room = PARKED_MAX - len(pair.heard[SINK][0])
        while room > 60_000:
            by_the_byte(pair, SINK, filler(32_000))
            room -= 32_000
        by_the_byte(pair, SINK, filler(room + more))
        assert pair.screen.is_over is ends
        if ends:
            assert pair.hung.refusal == Refusal(Reason.LIMIT, PARKED_MAX + 4, PARKED_MAX)


def test_garbage_behind_a_request_that_waits_ends_the_connection() -> None:
    pair = waiting()
    by_the_byte(pair, SINK, b"GET / HTTP/1.1\r\n\r\n....")
    assert reset_of(pair.legs[SINK].data_to_send()).code == Reason.BAD_MAGIC
    # it is settled too late
    pair.screen.settle(PROVIDER, None, pair.now)
    assert pair.screen.target is None


def test_nobody_asked_where_it_goes() -> None:
    pair = ScreenedPair(target=None)
    pair.screen.settle(OTHER, None, pair.now)
    assert pair.screen.target is None


@pytest.mark.requirement("FWRL-2-03")
def test_a_far_side_that_cannot_be_had_refuses_all_who_asked() -> None:
    pair = ScreenedPair()
    pair.unreachable = UNREACHABLE
    pair.request(ask("12V/1A"))
    assert pair.one(SINK, FlowRefused).refusal.code == Reason.NO_CAPACITY
    assert pair.screen.is_over
    assert pair.hung == Hung(end=End.SERVER, refusal=None)
    pair.screen.give_up(UNREACHABLE, pair.now)
    assert len(pair.all(Hung)) == 1


def test_the_far_side_is_judged_by_its_address_wherever_that_was_learnt() -> None:
    pair = ScreenedPair(target=None, names={None: PROVIDER})
    judged = Judged(pair.firewall)
    pair.request(ask("12V/1A"))
    assert (judged.facts[0].src, judged.facts[0].dst) == (DEVICE.address, PROVIDER.address)
    assert judged.facts[0].way is Way.OUT
    assert pair.account().other == DEVICE.name
    assert pair.account().peer == PROVIDER.account


def test_of_an_unknown_far_side_nothing_is_known() -> None:
    screen = Screen(firewall_of(ACCEPT), DEVICE, None, is_client_inside=True)
    assert screen.ends(End.CLIENT) == (DEVICE, None)
    assert screen.ends(End.SERVER) == (DEVICE, DEVICE)
    assert screen.account_of(1, End.CLIENT, 0).other == ""


# ---- what is no power ---------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-2-01")
@pytest.mark.parametrize("head", [b"GET ", b"PO\x02\x05", b"PO\x01\x04", b"PO\x01\x86"])
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_other_octets_are_closed_without_a_word(head: bytes, size: int) -> None:
    pair = ScreenedPair(chunk=Cut(size))
    by_the_byte(pair, SINK, head + b"more of it")
    assert pair.screen.is_dropped
    assert [leg.data_to_send() for leg in pair.legs] == [b"", b""]


@pytest.mark.requirement("FWRL-2-01")
def test_other_octets_pass_where_they_may_until_the_firewall_shuts() -> None:
    pair = ScreenedPair(passes_other=True)
    by_the_byte(pair, SINK, b"GET ", b"/ HTTP/1.1")
    assert pair.all(TargetWanted) == [TargetWanted()]
    by_the_byte(pair, SOURCE, b"HTTP/1.1 200 OK")
    assert [leg.data_to_send() for leg in pair.legs] == [b"HTTP/1.1 200 OK", b"GET / HTTP/1.1"]
    assert not pair.screen.is_idle
    pair.reload("policy drop")
    assert not pair.screen.is_over
    pair.firewall.stop(Refusal(Reason.MAINTENANCE), pair.now)
    assert pair.screen.is_dropped


@pytest.mark.requirement("FWRL-2-01")
def test_other_octets_pass_to_a_known_place_only() -> None:
    pair = ScreenedPair(target=None, passes_other=True)
    by_the_byte(pair, SINK, b"GET /")
    assert pair.screen.is_dropped


# ---- what no endpoint takes ---------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-14")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_broken_framing_ends_the_connection_for_both(side: int) -> None:
    pair = ScreenedPair()
    Pair.energise(pair, "12V/1A")
    by_the_byte(pair, side, b"\0" * 20)
    resets = [reset_of(leg.data_to_send()) for leg in pair.legs]
    assert [one.code for one in resets] == [Reason.BAD_MAGIC] * 2
    assert pair.hung.end is (End.CLIENT if side == SINK else End.SERVER)
    assert told(pair.firewall)[-1] == "cut"
    # nothing is heard any more
    by_the_byte(pair, side, power(1))
    assert joules(pair.firewall) == (0, 0, 0, 0)


@pytest.mark.requirement("FWRL-3-14", "FWRL-1-03")
@pytest.mark.parametrize(
    ("policy", "what"), [(ACCEPT, "refused"), (f"{ACCEPT}\nrule state invalid -> drop", "dropped")]
)
def test_an_invalid_segment_of_a_flow_ends_the_flow_and_does_not_pass(
    policy: str, what: str
) -> None:
    pair = ScreenedPair(policy)
    judged = Judged(pair.firewall)
    Pair.energise(pair, "12V/1A")
    pair.flush()
    before = pair.octets(SOURCE)[1]
    by_the_byte(pair, SOURCE, pack_segment(2, 0, 1, 0, b"", bytes(9)))
    heard = [leg.data_to_send() for leg in pair.legs]
    assert judged.states[-1] is State.INVALID
    assert pair.account().what == what
    if what == "refused":
        assert [reset_of(one).code for one in heard] == [Reason.BAD_LENGTH] * 2
        assert pair.screen.is_idle
    else:
        assert heard == [b"", b""]
        assert pair.screen.is_dropped
    assert pair.octets(SOURCE)[1] == before


@pytest.mark.parametrize(
    ("octets", "is_answered", "is_over"),
    [
        # a SYN of the wrong parity, an RST that cannot be read, both of no flow
        (encode_segment(Control(2, Flag.SYN, 0, Options(profiles=(GRANT,)))), True, False),
        (pack_segment(1, Flag.RST, 9, 0, b"\xff\xff\0\0", b""), False, False),
        # on flow 0 it is of the connection
        (encode_segment(Control(0, Flag.FIN)), True, True),
        (encode_segment(power(0)), True, True),
    ],
)
def test_invalid_segments_of_no_flow(octets: bytes, is_answered: bool, is_over: bool) -> None:
    pair = ScreenedPair(RECLAIM)
    by_the_byte(pair, SINK, octets)
    assert bool(pair.legs[SINK].data_to_send()) is is_answered
    assert pair.screen.is_over is is_over
    assert told(pair.firewall)[0] == "refused"
    assert pair.firewall.harvests == 0
    assert pair.firewall.flows.live == {}


@pytest.mark.requirement("FWRL-3-14")
def test_20_refusals_within_a_second_are_answered_and_one_more_ends_it() -> None:
    pair = ScreenedPair("policy reject 206")

    def syn(number: int) -> Control:
        return Control(2 * number + 1, Flag.SYN, 0, Options(profiles=(profile("12V/1A"),)))

    for number in range(REFUSALS_MAX):
        by_the_byte(pair, SINK, syn(number))
    pair.now += NS_PER_S
    by_the_byte(pair, SINK, *(syn(number) for number in range(20, 40)))
    assert not pair.screen.is_over
    by_the_byte(pair, SINK, syn(40))
    assert pair.hung.refusal == Refusal(Reason.CHURN, 21, 20)


# ---- blocks -------------------------------------------------------------------------------------


def test_blocks_of_several_flows_in_one_read_are_each_of_their_own() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule energy >= 2J -> accept limit 100W")
    one, two = Pair.energise(pair, "12V/1A"), Pair.energise(pair, "12V/1A")
    by_the_byte(pair, SOURCE, *(
        power(flow, 1_200_000 * n, counter=100 * n) for n in range(3) for flow in (one, two)
    ), power(9))  # fmt: skip
    assert pair.account(one).joules.authorised_uj == 3_600_000
    assert pair.account(two).joules.authorised_uj == 3_600_000
    assert joules(pair.firewall) == (8_400_000, 7_200_000, 0, 1_200_000)


def test_blocks_beside_a_broken_one_are_taken_singly() -> None:
    pair = ScreenedPair(RECLAIM)
    flow = Pair.energise(pair, "12V/1A")
    broken = pack_segment(2, 0, 7, 0, b"", bytes(9))
    said: list[Segment | bytes] = [
        power(flow),
        broken,
        power(flow, 1_200_000, counter=100),
        power(4),
    ]
    by_the_byte(pair, SOURCE, *said, power(flow, 2_400_000, 400_000_000, counter=200))
    assert pair.firewall.joules.authorised_uj == 2_400_000
    assert pair.firewall.harvests == 1
    assert pair.account(flow).what == "tripped"
    heard = segments(pair.legs[SINK].data_to_send())
    assert [type(one).__name__ for one in heard] == ["Data", "Data", "Trip"]


def test_blocks_with_options_pass_with_them() -> None:
    pair = ScreenedPair()
    flow = Pair.energise(pair, "12V/1A")
    octets = data_with_options(flow, 0, watts(12_000, 1_000_000), contract=1)
    by_the_byte(pair, SOURCE, octets, data_with_options(9, 0, watts(1, 1), contract=1))
    assert pair.legs[SINK].data_to_send() == octets
    assert joules(pair.firewall) == (1_200_000, 1_200_000, 0, 0)


def test_options_do_not_hide_what_is_unsafe() -> None:
    pair = ScreenedPair()
    flow = Pair.energise(pair, "12V/1A")
    by_the_byte(pair, SOURCE, data_with_options(flow, 0, watts(400_000, 1_000_000), contract=1))
    assert pair.account(flow).what == "tripped"


@pytest.mark.requirement("FWRL-3-07")
def test_a_block_that_is_marked_already_passes_as_it_is() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule power > 1W -> accept mark-ece")
    flow = Pair.energise(pair, "12V/1A")
    marked = power(flow)
    marked.ece = True
    by_the_byte(pair, SOURCE, marked)
    assert pair.legs[SINK].data_to_send() == encode_segment(marked)
    by_the_byte(pair, SOURCE, power(flow, 1_200_000, counter=100))
    (heard,) = segments(pair.legs[SINK].data_to_send())
    assert heard == power(flow, 1_200_000, counter=100) or getattr(heard, "ece", False)


def test_a_contract_and_its_first_blocks_may_come_in_one_read() -> None:
    pair = ScreenedPair()
    flow = pair.request(ask("12V/1A"))
    pair.source.grant(flow, profile("12V/1A"), now=pair.now)
    pair.exchange()
    ready = Ready(flow, 0, Options(contract=1, profiles=(GRANT,)))
    by_the_byte(pair, SOURCE, ready, power(flow), power(flow, 1_200_000, 400_000, counter=100))
    assert pair.firewall.joules.authorised_uj == 1_200_000
    assert pair.account(flow).what == "tripped"


# ---- what is answered here ----------------------------------------------------------------------


@pytest.mark.requirement("FWRL-2-03")
def test_a_connection_that_goes_somewhere_goes_nowhere_else() -> None:
    pair = ScreenedPair(target=None, names={**LAB, "hall:3251": OTHER})
    pair.request(ask("12V/1A"), via="lab:3251")
    pair.request(ask("12V/1A"), via="hall:3251")
    assert pair.one(SINK, FlowRefused).refusal.code == Reason.POLICY
    pair.request(ask("12V/1A"), via="lab:3251")
    pair.request(ask("12V/1A"))
    assert [one.flow for one in pair.take(SOURCE, PowerRequested)] == [1, 5, 7]


def test_what_a_rule_holds_back_or_rejects_does_not_pass() -> None:
    pair = ScreenedPair(
        f"{ACCEPT}\nrule state renegotiating -> reject 206\n"
        "rule state offered voltage = 5V -> reject 101\n"
        "rule direction out -> accept limit 1W burst 1J"
    )
    flow = Pair.energise(pair, "12V/1A")
    pair.request(ask("5V/1A"))
    before = len(b"".join(pair.passed[SOURCE]))
    pair.sink.renegotiate(flow, [ask("12V/2A")], now=pair.now)
    pair.exchange()
    by_the_byte(pair, SINK, Credit(flow, 0, 30 * J))
    pair.flush()
    assert len(b"".join(pair.passed[SOURCE])) == before
    pair.source.grant(3, profile("5V/1A"), now=pair.now)
    pair.exchange()
    assert pair.one(SINK, FlowRefused).refusal.code == Reason.VOLTAGE_RANGE


def test_what_nobody_asked_for_is_answered_here_alone() -> None:
    pair = ScreenedPair(RECLAIM)
    offer = Options(contract=1, profiles=(GRANT,), sampling=Sampling(1000))
    by_the_byte(pair, SOURCE, Control(1, Flag.SYN | Flag.ACK, 0, offer))
    assert pair.legs[SINK].data_to_send() == b""
    # the number is taken until its source is done
    pair.request(ask("12V/1A"))
    assert pair.one(SINK, FlowRefused).refusal.code == Reason.POLICY


def test_a_source_goes_on_alone_until_it_is_done_or_gone() -> None:
    for is_cut in (False, True):
        pair = ScreenedPair(RECLAIM)
        Pair.energise(pair, "12V/1A")
        sink, source = pair.legs
        by_the_byte(pair, SOURCE, power(4))
        sink.data_to_send()
        sink.receive_eof(pair.now)
        assert (pair.screen.is_over, sink.next_event()) == (
            False,
            Hung(end=End.CLIENT, refusal=None),
        )
        by_the_byte(pair, SOURCE, Alert(0, 0, 1), MaintainProbe(3, 0, 0))
        assert (sink.data_to_send(), pair.screen.is_over) == (b"", False)
        if is_cut:
            source.receive_eof(pair.now)
        else:
            by_the_byte(pair, SOURCE, Control(4, Flag.FIN, 0))
        assert pair.screen.is_over
        assert pair.firewall.harvests == 0


def test_sealed_power_for_who_is_gone_goes_nowhere() -> None:
    pair = ScreenedPair(RECLAIM)
    sink, _ = pair.legs
    by_the_byte(pair, SINK, Sealed(0, Flag.SYN, 0, Options(seal=Seal(0, 0)), bytes(64)))
    by_the_byte(pair, SOURCE, power(4))
    sink.receive_eof(pair.now)
    by_the_byte(pair, SOURCE, Sealed(1, 0, 9 * J, Options(seal=Seal(0, 0)), bytes(64)))
    assert (sink.data_to_send(), pair.screen.is_over) == (b"", False)


def test_of_sealed_power_the_far_side_is_wanted_once() -> None:
    pair = ScreenedPair()
    for counter in range(3):
        by_the_byte(pair, SINK, Sealed(0, Flag.SYN, 0, Options(seal=Seal(0, counter)), bytes(64)))
    assert pair.all(TargetWanted) == [TargetWanted()]


def test_what_says_everything_to_nobody_is_not_wanted() -> None:
    pair = ScreenedPair(RECLAIM)
    by_the_byte(pair, SINK, power(1), power(3))
    by_the_byte(pair, SINK, Control(1, Flag.FIN), b"\0" * 20)
    assert pair.legs[SOURCE].data_to_send() == b""
    assert pair.all(TargetWanted) == []


# ---- layers -------------------------------------------------------------------------------------


class Failing:
    """A layer that raises at one kind of hook."""

    file = "failing.py"

    def __init__(self, kind: type[Hook]) -> None:
        self.kind = kind

    def line_of(self, kind: type[Hook]) -> int | None:
        return 1 if kind is self.kind else None

    def handle(self, hook: Hook) -> object:
        raise RuntimeError(type(hook).__name__)


@pytest.mark.requirement("FWRL-1-01")
@pytest.mark.parametrize("kind", [ConnectionOpened, FlowJudged])
def test_a_layer_that_raises_lets_nothing_pass(kind: type[Hook]) -> None:
    pair = ScreenedPair(rules={"layers": (Failing(kind),)})
    pair.request(ask("12V/1A"))
    assert (pair.passed, pair.screen.is_dropped) == ([[], []], True)
    assert "failed" in told(pair.firewall)
    assert pair.firewall.condemned == set()


@pytest.mark.requirement("FWRL-1-01")
def test_a_layer_that_raises_at_an_end_ends_the_connection() -> None:
    pair = ScreenedPair(rules={"layers": (Failing(FlowEnded),)})
    first, second = Pair.energise(pair, "12V/1A"), Pair.energise(pair, "12V/1A")
    by_the_byte(pair, SINK, Control(first, Flag.RST, 0), Credit(second, 0, 99 * J))
    assert pair.screen.is_dropped
    assert pair.legs[SOURCE].data_to_send() == b""


# ---- endings and orders -------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-1-01")
def test_a_firewall_that_stops_ends_all_and_opens_no_more() -> None:
    pair = ScreenedPair(RECLAIM)
    flow = Pair.energise(pair, "12V/1A")
    pair.run(flow, 2)
    by_the_byte(pair, SOURCE, power(4))
    pair.firewall.stop(Refusal(Reason.MAINTENANCE, rule="the ledger"), pair.now)
    heard = [segments(leg.data_to_send()) for leg in pair.legs]
    codes = [[one.options.reason.code for one in side if isinstance(one, Control)
              and one.options.reason] for side in heard]  # fmt: skip
    # of each flow, and of the connection
    assert codes == [[Reason.MAINTENANCE] * 2, [Reason.MAINTENANCE] * 3]
    assert pair.screen.is_over
    assert pair.firewall.joules.reclaimed_uj == 1_140_000
    again = ScreenedPair(firewall=pair.firewall)
    again.request(ask("12V/1A"))
    assert again.take(SINK, FlowRefused)[-1].refusal.code == Reason.MAINTENANCE
    by_the_byte(again, SOURCE, power(6))
    assert (pair.firewall.harvests, pair.firewall.joules.reclaimed_uj) == (0, 1_140_000)


def test_a_connection_may_be_ended_from_here() -> None:
    pair = ScreenedPair()
    Pair.energise(pair, "12V/1A")
    pair.screen.close(Refusal(Reason.DRAINING), pair.now)
    assert [reset_of(leg.data_to_send()).code for leg in pair.legs] == [Reason.DRAINING] * 2
    for order in (
        pair.screen.close,
        lambda refusal, now: pair.screen.cut(End.CLIENT, refusal, now),
    ):
        order(Refusal(Reason.OPERATOR), pair.now)
    pair.screen.drop(pair.legs[SINK], pair.now)
    pair.screen.judge_again(pair.now)
    pair.screen.handle_timer(pair.now)
    assert (pair.screen.get_timer(), pair.screen.is_dropped) == (None, False)
    assert len([leg.next_event() for leg in pair.legs if leg.events]) == 1


def test_all_flows_are_ended_as_we_drain() -> None:
    pair = ScreenedPair(RECLAIM)
    flow = Pair.energise(pair, "12V/1A")
    pair.run(flow, 2)
    pair.screen.end_all(Refusal(Reason.DRAINING), pair.now)
    pair.flush()
    closed = [pair.one(side, FlowClosed).refusal for side in (SINK, SOURCE)]
    assert [one.code for one in closed if one] == [Reason.DRAINING] * 2
    assert not pair.screen.is_over
    assert pair.account(flow).what == "closed"


def test_a_feed_and_sealed_power_keep_a_connection_from_being_idle() -> None:
    pair = ScreenedPair()
    ask_for = FeedSegment(0, Flag.SYN, 0, Options(feed=Feed(bytes(16), 0)), b"")
    by_the_byte(pair, SINK, ask_for)
    assert not pair.screen.is_idle
    sealed = ScreenedPair()
    by_the_byte(sealed, SINK, Sealed(0, Flag.SYN, 0, Options(seal=Seal(0, 0)), bytes(64)))
    assert not sealed.screen.is_idle
    sealed.reload(f"{ACCEPT}\nrule sealed yes -> drop")
    assert sealed.screen.is_over


@pytest.mark.requirement("FWRL-3-02")
def test_a_device_that_roams_is_judged_where_it_is() -> None:
    pair = ScreenedPair(f"{ACCEPT}\nrule direction out power > 6W src 10.0.0.7 -> reject 206")
    pair.request(ask("12V/1A"))
    assert pair.one(SINK, FlowRefused).refusal.code == Reason.POLICY
    moved = ScreenedPair(firewall=pair.firewall, client=party("10.0.0.8:4711"), now=pair.now)
    flow = moved.energise("12V/1A")
    assert moved.run(flow, 3) == 3


@pytest.mark.requirement("FWRL-3-02")
def test_a_policy_that_ends_one_kind_of_passage_leaves_the_others_unjudged() -> None:
    siege = Besieged()
    siege.say(power(1))
    siege.firewall.take(load("policy drop"), siege.now)
    assert siege.screen.is_dropped
    assert told(siege.firewall) == ["intercepted", "dropped"]
