"""Every pair of the two tables: listed ones name an action, all others are a protocol error."""

from collections import deque

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.potcp.events import FlowClosed
from powertcp.potcp.flow import Flow
from powertcp.potcp.sink import SinkFlow
from powertcp.potcp.source import SourceFlow
from powertcp.potcp.states import SINK, SOURCE, VERBS, Cause, Sink, Source, State, Table
from powertcp.registry import Reason
from powertcp.wire.segments import Control
from tests.conversation import Pair, segments

TABLES: list[tuple[Table, type[Sink | Source], type[Flow]]] = [
    (SINK, Sink, SinkFlow),
    (SOURCE, Source, SourceFlow),
]
# banked in groups, so the connection calls bank_block and the table only says where (P8)
BY_INTAKE = {"bank"}
UNLISTED: list[tuple[type[Flow], State, Cause]] = [
    (flow, state, cause)
    for table, states, flow in TABLES
    for state in states
    for cause in Cause
    if (state, cause) not in table
]


def test_the_sweep_covers_states_times_causes() -> None:
    listed = len(SINK) + len(SOURCE)
    assert listed + len(UNLISTED) == (len(Sink) + len(Source)) * len(Cause)
    assert len(UNLISTED) > 300


@pytest.mark.requirement("PTCP-9-08")
@pytest.mark.parametrize(("table", "states", "flow"), TABLES)
def test_each_row_names_an_action_of_its_flow_and_a_state_of_its_side(
    table: Table, states: type[Sink | Source], flow: type[Flow]
) -> None:
    for (state, _), (action, after) in table.items():
        assert isinstance(state, states)
        assert isinstance(after, states)
        assert action in BY_INTAKE or callable(getattr(flow, action))


@pytest.mark.requirement("PTCP-9-08")
def test_an_unlisted_verb_changes_nothing_and_an_unlisted_segment_resets() -> None:
    tried = 0
    for kind, state, cause in UNLISTED:
        pair = Pair()
        flow = kind(pair.sink, 1)
        flow.state = state
        if cause in VERBS:
            with pytest.raises(LocalProtocolError):
                flow.fire(cause, pair.now)
            assert flow.state is state
            assert pair.sink.data_to_send() == b""
            assert pair.sink.take_events() == []
        else:
            flow.fire(cause, pair.now)
            (reset,) = segments(pair.sink.data_to_send())
            assert isinstance(reset, Control)
            assert reset.options.reason is not None
            assert reset.options.reason.code == Reason.STATE
            (event,) = pair.sink.take_events()
            assert isinstance(event, FlowClosed)
            assert flow.state is kind.REST
        tried += 1
    assert tried == len(UNLISTED)


@pytest.mark.parametrize(("table", "states", "flow"), TABLES)
def test_every_state_can_be_reached_and_left(
    table: Table, states: type[Sink | Source], flow: type[Flow]
) -> None:
    reached, todo = {flow.REST}, deque([flow.REST])
    while todo:
        state = todo.popleft()
        for (before, _), (_, after) in table.items():
            if before is state and after not in reached:
                reached.add(after)
                todo.append(after)
    assert reached == set(states)
    for state in states:
        if state is not flow.REST:
            assert any(
                before is state and after is not state for (before, _), (_, after) in table.items()
            )


@pytest.mark.requirement("PTCP-9-05")
def test_only_the_resting_source_holds_no_budget() -> None:
    holding = {after for action, after in SOURCE.values() if action == "offer"}
    assert holding == {Source.OFFERED}
    releases = {
        action
        for (state, _), (action, after) in SOURCE.items()
        if after is Source.LISTEN and state is not Source.LISTEN
    }
    for action in releases:
        assert action in {
            "time_out",
            "refuse",
            "grace_over",
            "hand_over",
            "lapse_reset",
            "finish",
            "answer_fin",
            "take_trip",
            "take_reset",
            "abandon",
            "answer_late",
        }
