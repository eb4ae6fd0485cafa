"""The receiving half: the machine contract, limits, and whom a fault touches."""

import dataclasses
import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powertcp.dve import encode_block
from powertcp.errors import LocalProtocolError
from powertcp.machine import Event
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.connection import PowerConnection
from powertcp.potcp.events import (
    Alerted,
    ConnectionTerminated,
    FlowClosed,
    FlowCut,
    FlowRefused,
    FlowResumed,
    FlowTripped,
    HeatCounted,
    PowerRequested,
    RenegotiationAnswered,
    SamplesReceived,
    ShedReceived,
    TicketReceived,
)
from powertcp.potcp.feed import FeedAsked, FeedLeft, FeedReceiptReceived
from powertcp.potcp.intake import (
    CONTROL_QUEUE_MAX,
    NEGOTIATION_QUEUE_MAX,
    SEND_MAX,
    SENT_BACK_MAX,
)
from powertcp.potcp.states import Sink
from powertcp.profile import ProfileType
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_S
from powertcp.wire.frames import (
    credit_segment,
    data_header,
    encode_segment,
    maintain_segment,
    pack_segment,
)
from powertcp.wire.options import Feed, Options, Sampling
from powertcp.wire.segments import (
    Alert,
    Answer,
    Control,
    CookieSegment,
    FeedSegment,
    MaintainProbe,
    Ready,
    Receipt,
    Reneg,
    Segment,
    Shed,
    Trip,
)
from tests.conversation import (
    SINK,
    SOURCE,
    START,
    Pair,
    ask,
    counting_entropy,
    profile,
    segments,
    words_of,
)

WHY = Refusal(Reason.OPERATOR, 1, 2)
FEED = Feed(bytes(range(16)), 5)


def server(**config: int) -> PowerConnection:
    end = PowerConnection(
        client=False, config=ConnectionConfig(**config), entropy=counting_entropy()
    )
    end.start(START)
    return end


def syn(flow: int = 1) -> bytes:
    """Return the octets of a SYN for a flow of a client."""
    pair = Pair()
    pair.sink.open_flow([ask("12V/1.5A", "5V/0.5A")], now=pair.now)
    octets = bytearray(pair.sink.data_to_send())
    octets[8:12] = flow.to_bytes(4, "big")
    return bytes(octets)


def rst_codes(octets: bytes) -> list[tuple[int, int]]:
    """Return (flow, code) of every RST in the octets."""
    return [
        (one.flow, one.options.reason.code)
        for one in segments(octets)
        if isinstance(one, Control) and one.flags == Flag.RST and one.options.reason is not None
    ]


def energised() -> tuple[PowerConnection, bytes]:
    """Return a sink with an energised flow and the DATA octets its source sends next."""
    pair = Pair()
    flow = pair.energise(want_samples=True)
    octets = b""
    for _ in range(5):
        pair.source.send_samples(flow, [pair.block(flow, 7)], now=pair.now)
        pair.counters[flow] = pair.counters.get(flow, 0) + 7
        octets += pair.source.data_to_send()
    pair.sink.take_events()
    return pair.sink, octets + encode_segment(Alert(flow, 0, 2, Options(reason=WHY)))


def chunkings(octets: bytes, seed: int) -> list[list[bytes]]:
    """Return the octets whole, one by one, and cut at random."""
    rng = random.Random(seed)
    cuts = sorted(rng.randrange(len(octets) + 1) for _ in range(len(octets) // 20 + 2))
    edges = itertools.pairwise([0, *cuts, len(octets)])
    return [[octets], [bytes([octet]) for octet in octets], [octets[a:b] for a, b in edges]]


def merged(events: Sequence[Event]) -> list[Event]:
    """Return events with neighbouring SamplesReceived of a flow made one."""
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if (
            isinstance(event, SamplesReceived)
            and isinstance(last, SamplesReceived)
            and event.flow == last.flow
        ):
            found[-1] = dataclasses.replace(
                event,
                count=event.count + last.count,
                energy_uj=event.energy_uj + last.energy_uj,
                samples=(last.samples or b"") + (event.samples or b"") or None,
                sim=event.sim or last.sim,
                ece=event.ece or last.ece,
            )
        else:
            found.append(event)
    return found


def under_any_chunking(
    make: Callable[[], PowerConnection], octets: bytes, seed: int = 0
) -> list[Event]:
    """Check that three chunkings give equal events and answers; returns the events."""
    outcomes: list[tuple[list[Event], bytes]] = []
    for parts in chunkings(octets, seed):
        end = make()
        for part in parts:
            buffer = bytearray(part)
            end.receive_data(buffer, START)
            # a view held across the call would be a BufferError
            buffer += b"grown"
            buffer[:] = b"\xa5" * len(buffer)
        outcomes.append((merged(end.take_events()), end.data_to_send()))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] == outcomes[2]
    return outcomes[0][0]


# --- the machine contract ----------------------------------------------------------------------


def test_three_chunkings_of_an_opening_and_of_delivery_are_equal() -> None:
    opening = syn() + syn(3) + maintain_segment(9, 0, 1) + syn(2) + syn(1)
    events = under_any_chunking(server, opening)
    assert [type(one) for one in events] == [PowerRequested, PowerRequested, FlowClosed]
    _, octets = energised()
    events = under_any_chunking(lambda: energised()[0], octets, seed=3)
    assert [type(one) for one in events] == [SamplesReceived, Alerted]


@given(st.binary(max_size=120), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_garbage_ends_the_connection_and_never_raises(garbage: bytes, seed: int) -> None:
    for octets in (garbage, b"PO\x01\x05" + garbage, syn() + garbage):
        under_any_chunking(server, octets, seed)


def test_timers_early_late_and_time_backwards() -> None:
    def with_flow() -> PowerConnection:
        end = server()
        end.receive_data(syn(), START)
        end.grant(1, ask("12V/1.5A").desired, now=START)
        end.take_events()
        end.data_to_send()
        return end

    for make in (server, with_flow, lambda: energised()[0]):
        end = make()
        due = end.get_timer()
        assert due is not None
        end.handle_timer(due - 1)
        assert (end.take_events(), end.data_to_send(), end.get_timer()) == ([], b"", due)
        late = due + 3_600 * NS_PER_S
        end.handle_timer(late)
        after = end.get_timer()
        assert after is None or after > late
        for back in (end.handle_timer, end.receive_eof):
            with pytest.raises(LocalProtocolError, match="clock went back"):
                back(late - 1)
        with pytest.raises(LocalProtocolError, match="clock went back"):
            end.receive_data(b"", late - 1)


def test_the_queue_is_drained_in_whole_segments_of_at_most_256_kib() -> None:
    pair = Pair(msp=65535)
    flow = pair.energise("12V/1A")
    samples = np.array([[12_000, 0]] * 8_000, np.int32)
    piece = encode_block(0, samples)
    count = 2 * SEND_MAX // len(piece)
    blocks = [encode_block(8_000 * at, samples) for at in range(count)]
    assert pair.source.send_samples(flow, blocks, now=pair.now) == count
    whole = pair.source.queued
    assert whole == count * (len(piece) + 20)
    drained = []
    while octets := pair.source.data_to_send():
        assert len(octets) < SEND_MAX + len(piece) + 20
        assert words_of(octets)[0] == 0x504F
        drained.append(len(octets))
    assert sum(drained) == whole
    assert len(drained) == 2
    assert pair.source.queued == 0


# --- parity, flow 0 ---------------------------------------------------------------------


@pytest.mark.requirement("PTCP-2.1-01")
def test_a_syn_of_the_wrong_parity_is_reset_506() -> None:
    end = server()
    end.receive_data(syn(2), START)
    assert rst_codes(end.data_to_send()) == [(2, Reason.STATE)]
    client = PowerConnection(client=True, config=ConnectionConfig(), entropy=counting_entropy())
    client.receive_data(syn(1), START)
    assert rst_codes(client.data_to_send()) == [(1, Reason.STATE)]
    client.receive_data(syn(2), START)
    (request,) = client.take_events()
    assert isinstance(request, PowerRequested)
    assert request.flow == 2


@pytest.mark.requirement("PTCP-2.1-06")
def test_an_identifier_is_never_used_again() -> None:
    end = server()
    end.receive_data(syn(3) + encode_segment(Control(3, Flag.RST, 0, Options(reason=WHY))), START)
    end.take_events()
    for number in (3, 1):
        end.receive_data(syn(number), START)
        assert rst_codes(end.data_to_send()) == [(number, Reason.STATE)]
        assert end.take_events() == []
    end.receive_data(syn(5), START)
    (request,) = end.take_events()
    assert isinstance(request, PowerRequested)
    assert request.flow == 5


@pytest.mark.requirement("PTCP-2.1-01")
def test_either_end_may_be_the_sink_and_numbers_its_flows_by_parity() -> None:
    pair = Pair()
    flows = [pair.source.open_flow([ask("5V/1A")], now=pair.now) for _ in range(2)]
    flows += [pair.sink.open_flow([ask("5V/1A")], now=pair.now) for _ in range(2)]
    assert flows == [2, 4, 1, 3]


@pytest.mark.requirement("PTCP-2.1-01")
@pytest.mark.parametrize(
    ("segment", "code"),
    [
        (Control(0, Flag.SYN), Reason.STATE),
        (CookieSegment(0, 0, bytes(32)), Reason.STATE),
    ],
)
def test_what_flow_0_may_not_carry_ends_the_connection(
    segment: Control | CookieSegment, code: int
) -> None:
    end = server()
    end.receive_data(encode_segment(segment) + syn(), START)
    assert rst_codes(end.data_to_send()) == [(0, code)]
    assert [type(one) for one in end.take_events()] == [ConnectionTerminated]


def test_alert_and_rst_on_flow_0_are_reported() -> None:
    end = server()
    reason = Options(reason=WHY)
    end.receive_data(encode_segment(Alert(0, 0, 1, reason)), START)
    end.receive_data(encode_segment(Control(0, Flag.RST, 0, reason)), START)
    end.receive_data(syn(), START)
    end.receive_eof(START)
    alerted, over = end.take_events()
    assert isinstance(alerted, Alerted)
    assert over == ConnectionTerminated(refusal=WHY)
    bare = server()
    bare.receive_data(encode_segment(Control(0, Flag.RST)), START)
    assert bare.next_event() == ConnectionTerminated(refusal=Refusal(Reason.OPERATOR))


# --- unknown flows, faults of one flow ---------------------------------------------------------


@pytest.mark.requirement("PTCP-9-08", "PTCP-11-02")
def test_segments_for_unknown_flows() -> None:
    end = server()
    block = encode_block(0, np.ones((2, 2), np.int32))
    for octets, codes in [
        (encode_segment(Control(5, Flag.ACK)), [(5, Reason.STATE)]),
        (encode_segment(Control(4, Flag.FIN)), [(4, Reason.STATE)]),
        (encode_segment(Control(7, Flag.RST)), []),
        (data_header(9, 0, len(block)) + block, [(9, Reason.STATE)]),
        (pack_segment(0x40, 0, 11, 0, b"", b""), [(11, Reason.UNSUPPORTED_TYPE)]),
        (pack_segment(0x90, 0, 11, 0, b"", b""), []),
        (pack_segment(1, 4, 13, 0, b"\x05\x02\0\0", b""), []),
        (pack_segment(1, 4, 0, 0, b"\x05\x02\0\0", b""), [(0, Reason.BAD_OPTION)]),
    ]:
        end.receive_data(octets, START)
        assert rst_codes(end.data_to_send()) == codes
    heat = [one for one in end.take_events() if isinstance(one, HeatCounted)]
    assert [one.flow for one in heat] == [9]
    assert end.stray_octets == len(block)


def test_leftovers_of_a_flow_that_is_over_are_dropped_and_fin_is_answered() -> None:
    pair = Pair()
    flow = pair.energise()
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    for end in pair.ends:
        end.receive_data(encode_segment(Control(flow, Flag.ACK)), pair.now)
        assert end.data_to_send() == b""
        end.receive_data(encode_segment(Control(flow, Flag.FIN)), pair.now)
        (said,) = segments(end.data_to_send())
        assert isinstance(said, Control)
        assert said.flags == Flag.FIN | Flag.ACK


BROKEN = {
    "bad option": (pack_segment(1, 1, 1, 0, b"\x05\x02\0\0", b""), Reason.BAD_OPTION),
    "critical option": (pack_segment(1, 1, 1, 0, b"\xc8\x04\0\0", b""), Reason.UNSUPPORTED_OPTION),
    "unknown type": (pack_segment(0x40, 0, 1, 0, b"", b""), Reason.UNSUPPORTED_TYPE),
    "length": (pack_segment(2, 0, 1, 0, b"", b"\0" * 15), Reason.BAD_LENGTH),
    "length of samples": (pack_segment(2, 0, 1, 0, b"", b"\0" * 16), Reason.BAD_LENGTH),
    "flags": (pack_segment(1, 3, 1, 0, b"", b""), Reason.STATE),
    "second SYN": (syn(1), Reason.STATE),
    "receipt": (pack_segment(11, 0, 1, 0, b"", b"\0" * 380), Reason.STATE),
    "deadline": (
        encode_segment(Shed(1, 0, False, 99, 0, Options(contract=3))),
        Reason.LIMIT,
    ),
    "urgent deadline": (
        encode_segment(Shed(1, 0, True, 1, 0, Options(contract=3))),
        Reason.LIMIT,
    ),
}


@pytest.mark.requirement("PTCP-11-02")
@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_of_one_flow_leaves_the_others_alone(name: str) -> None:
    octets, code = BROKEN[name]
    pair = Pair()
    broken, well = pair.energise("5V/3A"), pair.energise("230V/10A@50Hz")
    pair.inject(SINK, octets)
    assert pair.one(SINK, FlowClosed).refusal.code == code  # type: ignore[union-attr]
    assert pair.one(SOURCE, FlowClosed).flow == broken
    assert pair.sink.flows == pair.source.flows == (well,)
    assert pair.deliver(well, 100) == 1
    assert pair.sink.status(well).esn_uj == pair.source.status(well).esn_uj > 0


@pytest.mark.requirement("PTCP-11-02", "PTCP-2.1-03")
@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"XX\x01\x05" + bytes(16), Reason.BAD_MAGIC),
        (b"PO\x02\x05" + bytes(16), Reason.BAD_VERSION),
        (b"PO\x01\x04" + bytes(16), Reason.BAD_LENGTH),
        (b"PO\x01\x86" + bytes(16), Reason.LIMIT),
        (b"PO\x01\x05\x02\0\x40\x01" + bytes(12), Reason.LIMIT),
    ],
)
def test_a_framing_fault_closes_the_connection_with_all_its_flows(octets: bytes, code: int) -> None:
    pair = Pair()
    flows = {pair.energise("5V/3A"), pair.energise("230V/10A@50Hz")}
    pair.inject(SOURCE, octets)
    for side in (SINK, SOURCE):
        over = pair.one(side, ConnectionTerminated)
        assert over.refusal is not None
        assert over.refusal.code == code
        assert {one.flow for one in pair.take(side, FlowClosed)} == flows


# --- DATA --------------------------------------------------------------------------------------


def outcome(pieces: list[bytes]) -> tuple[object, ...]:
    pair = Pair()
    pair.energise("5V/3A")
    pair.sink.take_events()
    for octets in pieces:
        pair.sink.receive_data(octets, pair.now)
    events = merged(pair.sink.take_events())
    said = [one for one in segments(pair.sink.data_to_send()) if isinstance(one, Control)]
    return events, said, pair.sink.flows


@pytest.mark.requirement("PTCP-3.3-03")
@pytest.mark.parametrize("position", range(12))
def test_a_group_of_blocks_equals_one_at_a_time_with_a_fault_at_every_position(
    position: int,
) -> None:
    pair = Pair()
    flow = pair.energise("5V/3A")
    pieces = []
    esn = 0
    for at in range(12):
        volts = 10_000_000 if at == position else 5_000
        block = encode_block(3 * at, np.array([[volts, 1_000_000]] * 3, np.int32))
        pieces.append(data_header(flow, esn, len(block)) + block)
        esn += 15_000
    whole, single = outcome([b"".join(pieces)]), outcome(pieces)
    assert whole == single
    tripped = [one for one in whole[0] if isinstance(one, FlowTripped)]  # type: ignore[attr-defined]
    assert [one.refusal.code for one in tripped] == [Reason.OVER_VOLTAGE]
    banked = [one for one in whole[0] if isinstance(one, SamplesReceived)]  # type: ignore[attr-defined]
    assert sum(one.energy_uj for one in banked) == 15_000 * position


@pytest.mark.requirement("PTCP-3.1-02")
def test_a_block_of_negative_energy_trips_304_at_both_ends() -> None:
    pair = Pair()
    flow = pair.energise("12V/1.5A")
    back = encode_block(0, np.array([[12_000, -1_000]] * 10, np.int32))
    pair.inject(SINK, data_header(flow, 0, len(back)) + back)
    for side in (SINK, SOURCE):
        assert pair.one(side, FlowTripped).refusal.code == Reason.REVERSE_POWER
    other = Pair()
    flow = other.energise("12V/1.5A")
    assert other.source.send_samples(flow, [back], now=other.now) == 0
    other.exchange()
    assert other.one(SINK, FlowTripped).refusal.code == Reason.REVERSE_POWER


@pytest.mark.requirement("PTCP-3.3-02")
@pytest.mark.parametrize(("esn", "energy"), [(0, 1_800_000), (1, 0)])
def test_data_with_options_is_metered_like_any_other(esn: int, energy: int) -> None:
    pair = Pair()
    flow = pair.energise("12V/1.5A")
    block = pair.block(flow, 100)
    pair.inject(SINK, pack_segment(SegmentType.DATA, Flag.ECE, flow, esn, b"\1\1\1\1", block))
    banked = pair.take(SINK, SamplesReceived)
    assert sum(one.energy_uj for one in banked) == energy
    assert [one.ece for one in banked] == [True] * len(banked)
    codes = [one.refusal.code for one in pair.take(SINK, FlowTripped)]
    assert codes == ([] if energy else [Reason.METER_MISMATCH])


def test_data_sent_to_a_source_is_a_fault_of_that_flow() -> None:
    pair = Pair()
    flow = pair.energise("12V/1.5A")
    block = pair.block(flow, 10)
    pair.inject(SOURCE, data_header(flow, 0, len(block)) + block)
    assert pair.one(SOURCE, FlowClosed).refusal.code == Reason.STATE  # type: ignore[union-attr]
    flow = pair.energise("12V/1.5A")
    pair.inject(SOURCE, data_header(flow, 0, 16) + bytes(16))
    assert pair.take(SOURCE, FlowClosed)[0].refusal.code == Reason.BAD_LENGTH  # type: ignore[union-attr]


@pytest.mark.requirement("PTCP-9-08", "PTCP-13-01", "PTCP-8-02")
@pytest.mark.parametrize("trips", [False, True])
def test_a_sink_may_leave_while_its_request_waits(trips: bool) -> None:
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    why = Options(reason=Refusal(Reason.NORMAL))
    leave = Trip(flow, 0, why) if trips else Control(flow, Flag.FIN, 0, why)
    pair.source.receive_data(encode_segment(leave), pair.now)
    pair.collect()
    (said,) = segments(pair.source.data_to_send())
    assert isinstance(said, Control)
    assert said.flags == Flag.FIN | Flag.ACK
    assert pair.one(SOURCE, FlowClosed).refusal == Refusal(Reason.NORMAL)


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.requirement("PTCP-13-02")
@pytest.mark.parametrize(("count", "over"), [(20, False), (21, True)])
def test_more_than_20_openings_in_a_second_is_churn(count: int, over: bool) -> None:
    end = server()
    end.receive_data(b"".join(syn(2 * at + 1) for at in range(count)), START)
    assert end.is_terminated is over
    said = segments(end.data_to_send())
    alerts = [one for one in said if isinstance(one, Alert)]
    assert [one.options.reason for one in alerts] == [Refusal(Reason.CHURN, 21, 20)] * over
    assert len(end.flows) == (0 if over else 20)


@pytest.mark.requirement("PTCP-13-02")
@pytest.mark.parametrize(("later_ns", "over"), [(NS_PER_S - 1, True), (NS_PER_S, False)])
def test_no_second_holds_more_than_20_openings_wherever_it_begins(
    later_ns: int, over: bool
) -> None:
    end = server()
    for at in range(20):
        end.receive_data(syn(2 * at + 1), START + NS_PER_S // 2 + at)
    assert not end.is_terminated
    end.receive_data(syn(41), START + NS_PER_S // 2 + later_ns)
    assert end.is_terminated is over


@pytest.mark.requirement("PTCP-13-02", "PTCP-14-01")
def test_resets_of_flows_that_never_were_are_churn() -> None:
    end = server()
    rst = Control(9, Flag.RST, 0, Options(reason=Refusal(Reason.OPERATOR)))
    end.receive_data(encode_segment(rst) * 20, START)
    assert (end.is_terminated, end.data_to_send()) == (False, b"")
    end.receive_data(encode_segment(rst), START)
    assert end.is_terminated


@pytest.mark.requirement("PTCP-13-02")
@pytest.mark.parametrize("octets", [Control(5, Flag.ACK), Alert(7, 0, 2, Options(reason=WHY))])
def test_our_own_resets_are_no_churn_of_the_peer(octets: Segment) -> None:
    end = server()
    end.receive_data(encode_segment(octets) * 40, START)
    assert len(rst_codes(end.data_to_send())) == 40
    assert not end.is_terminated


@pytest.mark.requirement("PTCP-13-02")
@pytest.mark.parametrize("side", [SINK, SOURCE])
def test_any_number_of_flows_may_be_reset_at_once_by_one_end_or_both(side: int) -> None:
    pair = Pair()
    flows = []
    for _ in range(25):
        flows.append(pair.energise("12V/0.1A"))
        pair.advance(0.1)
    for flow in flows:
        pair.ends[side].reset_flow(flow, WHY, now=pair.now)
        # those of the other end cross
        pair.ends[1 - side].reset_flow(flow, WHY, now=pair.now)
    pair.exchange()
    assert [end.flows for end in pair.ends] == [(), ()]
    assert not any(end.is_terminated for end in pair.ends)
    # of each flow one may cross, what comes then is counted
    pair.advance(1.1)
    again = encode_segment(Control(flows[0], Flag.RST, 0, Options(reason=WHY)))
    pair.ends[side].receive_data(again * 20, pair.now)
    assert not pair.ends[side].is_terminated
    pair.ends[side].receive_data(again, pair.now)
    assert pair.ends[side].is_terminated


@pytest.mark.requirement("PTCP-13-02")
def test_wishes_that_fit_nothing_leave_the_flow_that_does() -> None:
    pair = Pair()
    good = pair.energise("12V/0.1A")
    for _ in range(14):
        flow = pair.request(ask("13V/0.1A"))
        offers = [(profile("12V/0.1A", ProfileType.OFFER), None)]
        pair.source.counter(flow, offers, WHY, now=pair.now)
        pair.exchange()
        pair.sink.decline(flow, now=pair.now)
        pair.exchange()
    assert pair.sink.flows == pair.source.flows == (good,)


@pytest.mark.requirement("PTCP-13-02")
@pytest.mark.parametrize(("flag", "answers"), [(Flag.SYN, 20), (Flag.RST, 0)])
def test_openings_and_resets_that_do_not_decode_are_churn_too(flag: Flag, answers: int) -> None:
    end = server()
    octets = pack_segment(SegmentType.CTL, int(flag), 1, 0, bytes([0xFF] * 4), b"")
    end.receive_data(octets * 20, START)
    assert not end.is_terminated
    assert len(rst_codes(end.data_to_send())) == answers
    end.receive_data(octets, START)
    assert end.is_terminated
    assert [flow for flow, _ in rst_codes(end.data_to_send())] == [0]


@pytest.mark.requirement("PTCP-13-02", "PTCP-4-08")
def test_a_syn_repeated_with_its_cookie_is_no_second_opening() -> None:
    pair = Pair()
    pair.office.half_open = pair.office.half_open_cookie
    for _ in range(20):
        pair.request(ask("5V/0.1A"))
    assert len(pair.said(SOURCE, CookieSegment)) == 20
    assert len(pair.source.flows) == 20
    # the cookie is good once
    last = encode_segment(pair.said(SINK, Control)[-1])
    pair.sink.reset_flow(pair.sink.flows[-1], WHY, now=pair.now)
    pair.exchange()
    pair.source.receive_data(last, pair.now)
    assert pair.source.is_terminated


@pytest.mark.requirement("PTCP-2.1-06", "PTCP-4-08")
@pytest.mark.parametrize(("later", "kept"), [(1, True), (15, True), (16, False)])
def test_a_syn_keeps_its_identifier_while_its_cookie_is_under_way(later: int, kept: bool) -> None:
    pair = Pair()
    assert SENT_BACK_MAX == 16
    office = pair.office
    office.half_open = office.half_open_cookie
    first = pair.sink.open_flow([ask("5V/1A")], now=pair.now)
    for _ in range(later):
        pair.sink.open_flow([ask("5V/1A")], now=pair.now)
    pair.source.receive_data(pair.sink.data_to_send(), pair.now)
    office.half_open = 0
    last = pair.sink.open_flow([ask("5V/1A")], now=pair.now)
    pair.exchange()
    assert last in pair.source.flows
    assert (first in pair.source.flows) is kept
    assert set(pair.source.flows) == set(pair.sink.flows)


@pytest.mark.requirement("PTCP-2.1-06", "PTCP-4-08")
def test_a_cookie_gives_back_no_identifier_that_was_used_meanwhile() -> None:
    pair = Pair()
    office = pair.office
    office.half_open = office.half_open_cookie
    first = pair.sink.open_flow([ask("5V/1A")], now=pair.now)
    bare = pair.sink.data_to_send()
    pair.source.receive_data(bare, pair.now)
    office.half_open = 0
    pair.source.receive_data(bare, pair.now)
    assert pair.source.flows == (first,)
    pair.source.reset_flow(first, WHY, now=pair.now)
    cookie, _ = segments(pair.source.data_to_send())
    pair.sink.receive_data(encode_segment(cookie), pair.now)
    pair.source.receive_data(pair.sink.data_to_send(), pair.now)
    assert first not in pair.source.flows
    assert rst_codes(pair.source.data_to_send()) == [(first, Reason.STATE)]


@pytest.mark.requirement("PTCP-13-02")
def test_churn_is_counted_per_second_and_refused_syns_leave_nothing() -> None:
    end = server(flows=1)
    for second in range(4):
        now = START + second * NS_PER_S
        end.receive_data(b"".join(syn(10 * second + 2 * at + 1) for at in range(5)), now)
        assert len(end.flows) == 1
    assert not end.is_terminated
    assert len(end.take_events()) == 1


@pytest.mark.requirement("PTCP-14-01", "PTCP-4-08")
def test_half_open_flows_need_a_cookie_and_then_are_refused() -> None:
    pair = Pair()
    pair.office.half_open = 255
    pair.request(ask("5V/1A"))
    assert pair.said(SOURCE, CookieSegment) == []
    pair.office.half_open = 1023
    pair.request(ask("5V/1A"))
    assert len(pair.said(SOURCE, CookieSegment)) == 1
    assert len(pair.take(SOURCE, PowerRequested)) == 2
    pair.office.half_open = 1024
    pair.request(ask("5V/1A"))
    assert len(pair.said(SOURCE, CookieSegment)) == 1
    refused = pair.one(SINK, FlowRefused).refusal
    assert (refused.code, refused.value, refused.limit) == (Reason.LIMIT, 1025, 1024)
    assert refused.retry_ms == 1000


@pytest.mark.requirement("PTCP-9-04", "PTCP-14-01")
def test_a_peer_that_floods_probes_and_never_reads_is_cut_off_508() -> None:
    end = server()
    probe = maintain_segment(7, 0, 1)
    at_limit = CONTROL_QUEUE_MAX // len(probe)
    for _ in range(at_limit):
        end.receive_data(probe, START)
    assert not end.is_terminated
    end.receive_data(probe * 2, START)
    assert end.is_terminated
    assert end.queued < CONTROL_QUEUE_MAX + 200
    end.receive_data(probe * 1000, START)
    assert end.queued < CONTROL_QUEUE_MAX + 200
    assert rst_codes(end.data_to_send()) == [(0, Reason.LIMIT)]


@pytest.mark.requirement("PTCP-9-04")
def test_a_peer_that_reads_may_probe_for_ever() -> None:
    end = server()
    probe = maintain_segment(7, 0, 1)
    for _ in range(5):
        end.receive_data(probe * 1000, START)
        assert len(segments(end.data_to_send())) == 1000
    assert not end.is_terminated


@pytest.mark.requirement("PTCP-9-04")
def test_goodbyes_of_old_flows_that_nobody_reads_are_bounded() -> None:
    pair = Pair()
    flow = pair.energise()
    pair.sink.close_flow(flow, now=pair.now)
    pair.exchange()
    fin = encode_segment(Control(flow, Flag.FIN))
    pair.source.receive_data(fin * 1792, pair.now)
    assert not pair.source.is_terminated
    pair.source.receive_data(fin, pair.now)
    assert pair.source.is_terminated


def test_an_answer_to_no_probe_and_an_end_without_flows_are_harmless() -> None:
    end = server()
    end.receive_data(encode_segment(MaintainProbe(0, 5, 1)), START)
    end.receive_eof(START)
    assert end.take_events() == [ConnectionTerminated(refusal=None)]
    end.handle_timer(START + NS_PER_S)
    assert end.data_to_send() == b""


# --- what every segment does to its flow -------------------------------------------------------


@pytest.mark.requirement("PTCP-13-01", "PTCP-10-02")
def test_an_end_without_goodbye_cuts_every_flow_and_is_the_last_event() -> None:
    pair = Pair()
    flows = pair.energise("5V/3A"), pair.energise("230V/10A@50Hz")
    for end in pair.ends:
        end.take_events()
        end.receive_eof(pair.now)
        events = end.take_events()
        assert [one.flow for one in events if isinstance(one, FlowCut)] == list(flows)
        assert events[-1] == ConnectionTerminated(refusal=None)
    # the sink's flows are over, the source holds its own for T_GRACE
    assert (pair.sink.flows, pair.source.flows) == ((), flows)
    closed = [one for one in pair.sink.take_events() if isinstance(one, FlowClosed)]
    assert closed == []


@pytest.mark.requirement("PTCP-9-02", "PTCP-7-04", "PTCP-7-05")
@pytest.mark.parametrize("accepted", [True, False])
def test_an_answer_and_a_shed_reach_their_flow(*, accepted: bool) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A", "5V/0.5A")
    pair.sink.renegotiate(flow, [ask("12V/0.5A")], now=pair.now)
    pair.pump(SINK)
    answer = Answer(flow, 0, accepted, Options(contract=2))
    pair.inject(SINK, encode_segment(answer))
    assert pair.one(SINK, RenegotiationAnswered).accepted is accepted
    other = Pair()
    flow = other.energise("12V/1A")
    other.source.shed(flow, profile("12V/0.5A"), refusal=WHY, now=other.now)
    other.exchange()
    assert other.one(SINK, ShedReceived).deadline_ms == 1000


def test_the_largest_payload_of_the_peer_is_16384_until_it_says_otherwise() -> None:
    pair = Pair(msp=65535)
    assert [end.peer_msp for end in pair.ends] == [16384, 16384]
    pair.energise()
    assert [end.peer_msp for end in pair.ends] == [65535, 65535]
    bare = Pair()
    wish = Options(profiles=(profile("12V/1A"),), sampling=Sampling(1000))
    bare.source.receive_data(encode_segment(Control(1, Flag.SYN, 0, wish)), bare.now)
    assert (bare.source.peer_msp, bare.source.flows) == (16384, (1,))
    flow = bare.sink.open_flow([ask("12V/1A")], now=bare.now)
    grant = profile("12V/1A,lease=60s", ProfileType.GRANT)
    terms = Options(contract=1, profiles=(grant,), sampling=Sampling(1000))
    bare.sink.receive_data(encode_segment(Control(flow, Flag.SYN | Flag.ACK, 0, terms)), bare.now)
    assert (bare.sink.peer_msp, bare.sink.status(flow).state) == (16384, "LATCHED")


@pytest.mark.requirement("PTCP-10-03", "PTCP-10-04")
@pytest.mark.parametrize("fallback", [None, "12V/0.1A"])
def test_a_ticket_moves_a_flow_once_and_an_unknown_one_is_a_plain_syn(fallback: str | None) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A", fallback=fallback)
    pair.deliver(flow, 10)
    ticket = pair.one(SINK, TicketReceived).ticket
    pair.cut()
    again = Pair(office=pair.office, now=pair.now)
    floor = profile(fallback, ProfileType.FALLBACK) if fallback else None
    again.request(ask("12V/1A"), ticket=ticket, esn_uj=120_000, fallback=floor)
    resumed = again.one(SOURCE, FlowResumed)
    assert (resumed.esn_uj, resumed.returned_uj) == (120_000, 0)
    assert (resumed.fallback is None) is (fallback is None)
    assert again.source.status(1).state == "RAMPING"
    again.request(ask("12V/1A"), ticket=ticket, esn_uj=120_000)
    assert again.one(SOURCE, PowerRequested).flow == 3
    refusal = again.one(SINK, Alerted).refusal
    assert refusal is not None
    assert refusal.code == Reason.TICKET_INVALID


@pytest.mark.requirement("PTCP-5-02")
def test_an_answered_probe_renews_every_flow_from_the_time_it_was_sent() -> None:
    pair = Pair()
    flows = pair.energise("12V/1A,lease=30s"), pair.energise("5V/1A,lease=10s")
    pair.now += NS_PER_S
    pair.sink.handle_timer(pair.now)
    sent = pair.now
    (probe,) = segments(pair.sink.data_to_send())
    assert isinstance(probe, MaintainProbe)
    pair.now += NS_PER_S // 2
    pair.sink.receive_data(encode_segment(MaintainProbe(0, probe.nonce, 1)), pair.now)
    until = [pair.sink.status(flow).lease_until_ns for flow in flows]
    assert until == [sent + 30 * NS_PER_S, sent + 10 * NS_PER_S]


# --- limits of what waits ----------------------------------------------------------------------


@pytest.mark.requirement("PTCP-9-04", "PTCP-8-01")
def test_a_flow_that_ends_inside_a_group_takes_nothing_of_the_rest() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    terms = profile("12V/1A,lease=60s", ProfileType.GRANT)
    for number in (3, 5, 7, 9):  # four answers that nobody reads
        ceiling = Options(contract=number, profiles=(profile("12V/1A", ProfileType.OFFER),))
        ready = Options(contract=number, profiles=(terms,))
        octets = encode_segment(Shed(flow, 0, False, 1000, 0, ceiling))
        pair.sink.receive_data(octets + encode_segment(Ready(flow, 0, ready)), pair.now)
    pair.collect()
    wrong = encode_block(0, np.array([[10_000_000, 1_000_000]] * 10, np.int32))
    octets = data_header(flow, 0, len(wrong)) + wrong
    pair.sink.receive_data(octets * 3, pair.now)
    pair.collect()
    # no room for a TRIP: RST 508, and the two blocks behind are not even heat of this flow
    refusal = pair.one(SINK, FlowClosed).refusal
    assert refusal is not None
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.LIMIT, 5, 4)
    assert len(pair.take(SINK, HeatCounted)) == 1
    assert pair.take(SINK, SamplesReceived) == []
    assert pair.sink.flows == ()


@pytest.mark.requirement("PTCP-9-04")
@pytest.mark.parametrize("reads", [False, True])
def test_what_the_peer_has_taken_no_longer_counts_and_what_waits_does(*, reads: bool) -> None:
    pair = Pair(msp=65535)
    flow = pair.energise("12V/1A", "5V/0.5A")
    pair.inject(SOURCE, credit_segment(flow, 0, 10**12))

    def wish(number: int) -> None:
        asked = Reneg(flow, 0, Options(contract=number, profiles=(profile("12V/1A"),)))
        pair.source.receive_data(encode_segment(asked), pair.now)
        pair.source.answer(flow, True, profile=profile("12V/1A"), now=pair.now)

    wish(2)  # ANSWER and READY before the bulk, two of each behind it
    samples = np.array([[12_000, 0]] * 8_000, np.int32)
    blocks = [encode_block(8_000 * at, samples) for at in range(6)]
    assert pair.source.send_samples(flow, blocks, now=pair.now) == 6
    wish(4)
    wish(6)
    # the last word of a flow that is over counts for no other
    pair.source.receive_data(encode_segment(Control(99, Flag.ACK)), pair.now)
    if reads:
        assert len(pair.source.data_to_send()) >= SEND_MAX
        assert pair.source.queued > len(blocks[0])
    wish(8)
    assert pair.source.flows == ((flow,) if reads else ())


@pytest.mark.requirement("PTCP-9-04", "PTCP-13-02")
def test_two_limits_at_once_end_the_connection_once() -> None:
    end = server(churn_per_s=NEGOTIATION_QUEUE_MAX)
    odd = syn(8)
    end.receive_data(odd * NEGOTIATION_QUEUE_MAX, START)
    # what we say ourselves fills the queue too, and is looked at when the peer speaks
    end.open_flow([ask("5V/1A")], now=START)
    assert not end.is_terminated
    end.receive_data(odd * 9, START)
    closed, over = end.take_events()
    assert isinstance(closed, FlowClosed)
    assert isinstance(over, ConnectionTerminated)
    assert over.refusal is not None
    assert over.refusal.code == Reason.CHURN
    codes = rst_codes(end.data_to_send())
    assert codes.count((0, Reason.CHURN)) == 1
    assert len(codes) == NEGOTIATION_QUEUE_MAX + 1


@pytest.mark.requirement("PTCP-9-04")
@pytest.mark.parametrize("size", [1, 7, 36, 37, 100_000])
def test_a_flood_ends_alike_however_it_is_cut(size: int) -> None:
    flood = maintain_segment(7, 0, 1) * (CONTROL_QUEUE_MAX // 36 + 50)
    end = server()
    for at in range(0, len(flood), size):
        end.receive_data(flood[at : at + size], START)
    (over,) = end.take_events()
    assert isinstance(over, ConnectionTerminated)
    assert over.refusal is not None
    most = CONTROL_QUEUE_MAX // 36 + 1
    assert (over.refusal.value, over.refusal.limit) == (most * 36, CONTROL_QUEUE_MAX)
    assert len(segments(end.data_to_send())) == most + 1


# --- what goes first ---------------------------------------------------------------------------


def kinds(octets: bytes) -> list[tuple[str, int]]:
    return [(type(one).__name__, getattr(one, "flow", 0)) for one in segments(octets)]


@pytest.mark.requirement("PTCP-11-02", "PTCP-2.1-02")
def test_control_goes_before_the_blocks_of_other_flows_and_keeps_its_own_order() -> None:
    pair = Pair()
    one, two = pair.energise("12V/1A"), pair.energise("12V/1A")
    for _ in range(3):
        assert pair.source.send_samples(one, [pair.block(one, 100)], now=pair.now) == 1
        pair.counters[one] = pair.counters.get(one, 0) + 100
    why = Refusal(Reason.BUDGET)
    low = profile("12V/0.5A", ProfileType.OFFER)
    pair.source.shed(two, low, refusal=why, urgent=True, now=pair.now)
    probes = encode_segment(MaintainProbe(7, 0, 1)) + encode_segment(MaintainProbe(8, 0, 2))
    pair.source.receive_data(probes, pair.now)
    pair.source.shed(one, low, refusal=why, now=pair.now)
    octets = pair.source.data_to_send()
    assert kinds(octets) == [
        ("Shed", two),
        ("Ready", two),
        ("MaintainProbe", 0),
        ("MaintainProbe", 0),
        ("Data", one),
        ("Data", one),
        ("Data", one),
        ("Shed", one),
    ]
    pair.sink.receive_data(octets, pair.now)
    pair.exchange()
    assert [pair.sink.status(flow).state for flow in (one, two)] == ["ENERGISED"] * 2
    assert pair.sink.status(one).esn_uj == 3_600_000


@pytest.mark.requirement("PTCP-11-02", "PTCP-9-04")
def test_what_was_put_ahead_is_out_with_the_first_part_of_a_long_queue() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    blocks = 40
    for _ in range(blocks):
        pair.source.receive_data(credit_segment(flow, 0, 1 << 40), pair.now)
        assert pair.source.send_samples(flow, [pair.block(flow, 1000)], now=pair.now) == 1
        pair.counters[flow] = pair.counters.get(flow, 0) + 1000
    pair.source.receive_data(encode_segment(MaintainProbe(7, 0, 1)), pair.now)
    first = kinds(pair.source.data_to_send())
    assert first[0] == ("MaintainProbe", 0)
    pair.source.receive_data(encode_segment(MaintainProbe(8, 0, 1)), pair.now)
    rest = kinds(pair.source.data_to_send())
    assert rest[0] == ("MaintainProbe", 0)
    assert len(first) + len(rest) == blocks + 2


@pytest.mark.requirement("PTCP-5-03")
def test_a_connection_is_stale_until_a_probe_is_answered() -> None:
    pair = Pair()
    pair.energise()
    assert not pair.sink.is_stale
    for second in range(1, 5):
        pair.pass_at(SINK, 1)
        assert pair.sink.is_stale is (second == 4)
    pair.pass_at(SOURCE, 0)
    pair.exchange()
    assert not pair.sink.is_stale
    assert not server().is_stale


def named(flags: int, feed: Feed | None = FEED) -> bytes:
    """Return a FEED segment of flags and a feed."""
    return encode_segment(FeedSegment(0, flags, 0, Options(feed=feed), b""))


@pytest.mark.requirement("PTCP-12-02")
def test_who_accepts_connections_hears_of_subscribers() -> None:
    end = server()
    end.receive_data(named(Flag.SYN), START)
    page = Receipt(0, 0, bytes(range(190)) * 2, Options(feed=FEED))
    end.receive_data(encode_segment(page) + named(Flag.FIN), START)
    assert end.take_events() == [
        FeedAsked(feed=FEED),
        FeedReceiptReceived(feed=FEED, page=page.page),
        FeedLeft(feed=FEED),
    ]
    assert not end.is_terminated
    assert end.data_to_send() == b""


@pytest.mark.requirement("PTCP-9-08")
@pytest.mark.parametrize(
    "octets",
    [
        named(Flag.SYN, None),
        named(Flag.SYN | Flag.ACK),
        named(0),
        named(Flag.PSH),
        encode_segment(Receipt(0, 0, bytes(380))),
    ],
)
def test_other_words_of_a_feed_end_the_connection(octets: bytes) -> None:
    end = server()
    end.receive_data(octets, START)
    assert rst_codes(end.data_to_send()) == [(0, Reason.STATE)]


@pytest.mark.requirement("PTCP-9-08")
def test_who_opened_the_connection_is_no_source_of_feeds() -> None:
    pair = Pair()
    pair.sink.receive_data(named(Flag.SYN), pair.now)
    assert rst_codes(pair.sink.data_to_send()) == [(0, Reason.STATE)]


@pytest.mark.requirement("PTCP-13-02")
def test_subscribing_again_and_again_is_churn() -> None:
    end = server()
    end.receive_data(named(Flag.SYN) * 20, START)
    assert len(end.take_events()) == 20
    assert not end.is_terminated
    end.receive_data(named(Flag.SYN), START)
    assert rst_codes(end.data_to_send())[-1] == (0, Reason.CHURN)


@pytest.mark.requirement("PTCP-9-08")
def test_a_word_of_a_feed_on_a_flow_resets_the_flow_506() -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    word = FeedSegment(flow, Flag.PSH, 0, Options(feed=FEED), b"")
    pair.inject(SINK, encode_segment(word))
    closed = pair.one(SINK, FlowClosed)
    assert closed.refusal == Refusal(Reason.STATE, SegmentType.FEED, Sink.ENERGISED.value)
    assert pair.sink.is_terminated is False
