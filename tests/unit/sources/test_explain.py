"""The memory of decisions: the last one of each flow, the last 1024 flows."""

import pytest

from powertcp.registry import Reason, Refusal
from powertcp.sources.explain import EXPLAIN_MEMORY, Explanation, Explanations


def decision(flow: int, what: str = "refused") -> Explanation:
    return Explanation(flow=str(flow), what=what, refusal=Refusal(Reason.NO_CAPACITY), now_ns=flow)


@pytest.mark.requirement("PTCP-13-03")
def test_the_last_1024_flows_are_kept() -> None:
    memory = Explanations()
    for flow in range(EXPLAIN_MEMORY + 1):
        memory.note(decision(flow))
    assert len(memory) == EXPLAIN_MEMORY
    assert memory.about("0") is None
    assert memory.about("1") is not None
    assert [one.flow for one in memory.last(2)] == ["1024", "1023"]


def test_the_last_word_on_a_flow_replaces_the_one_before() -> None:
    memory = Explanations()
    memory.note(decision(1, "shed"))
    memory.note(decision(2))
    memory.note(decision(1, "tripped"))
    found = memory.about("1")
    assert found is not None
    assert found.what == "tripped"
    assert [one.flow for one in memory.last(9)] == ["1", "2"]
