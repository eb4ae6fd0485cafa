"""What a segment causes, and what a protocol error says of it."""

import pytest

from powertcp.potcp.causes import CTL_CAUSES, OPTION_CAUSES, TYPE_OF, WHOLE_CAUSES
from powertcp.potcp.events import FlowClosed
from powertcp.potcp.states import SINK as SINK_TABLE
from powertcp.potcp.states import SOURCE as SOURCE_TABLE
from powertcp.potcp.states import Cause, Sink, Source
from powertcp.registry import Reason, Refusal, SegmentType
from powertcp.wire.frames import credit_segment, encode_segment
from powertcp.wire.options import Options
from powertcp.wire.segments import Answer, Blocked, Control, Ready
from tests.conversation import SINK, SOURCE, Pair, ask


@pytest.mark.requirement("PTCP-9-08")
def test_each_cause_that_a_segment_has_names_its_type() -> None:
    caused = {*CTL_CAUSES.values(), *OPTION_CAUSES.values(), *WHOLE_CAUSES.values()}
    caused |= {Cause.DATA, Cause.SHED, Cause.ANSWER_ACCEPT, Cause.ANSWER_REJECT}
    caused |= {Cause.FIN_OWED, Cause.TRIP_OWED}
    assert set(TYPE_OF) == caused
    assert {SegmentType(number) for number in TYPE_OF.values()} < set(SegmentType)


@pytest.mark.requirement("PTCP-9-08")
@pytest.mark.parametrize(
    ("side", "octets", "kind", "state"),
    [
        (SINK, credit_segment(1, 0, 5), 3, Sink.ENERGISED),
        (SINK, encode_segment(Control(1, 0x12)), 1, Sink.ENERGISED),
        (SOURCE, encode_segment(Blocked(1, 0, 5)), 4, Source.ENERGISED),
        (SOURCE, encode_segment(Ready(1, 0, Options(contract=1))), 5, Source.ENERGISED),
        (SOURCE, encode_segment(Answer(1, 0, False, Options(contract=1))), 7, Source.ENERGISED),
    ],
)
def test_a_protocol_error_names_the_segment_type_and_the_state(
    side: int, octets: bytes, kind: int, state: Sink | Source
) -> None:
    pair = Pair()
    flow = pair.energise("12V/1A")
    assert pair.ends[side].status(flow).state == state.name
    pair.ends[side].receive_data(octets, pair.now)
    pair.collect()
    assert pair.one(side, FlowClosed).refusal == Refusal(Reason.STATE, kind, state.value)


def test_a_timer_that_no_state_expects_is_no_segment() -> None:
    assert (Sink.CLOSED, Cause.LAPSE) not in SINK_TABLE
    assert (Source.LISTEN, Cause.TIMEOUT) not in SOURCE_TABLE
    pair = Pair()
    flow = pair.request(ask("12V/1A"))
    pair.source.trip(flow, Refusal(Reason.OPERATOR), now=pair.now)
    pair.collect()
    refusal = pair.one(SOURCE, FlowClosed).refusal
    assert refusal == Refusal(Reason.STATE, 0, Source.LISTEN.value)
