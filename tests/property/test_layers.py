"""Whatever layers answer, nothing passes that the policy would not let pass."""

from typing import Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from powertcp.reclaim import Accept, Decision, Drop, Facts, Hook, Reclaim, Reject, State, Verdict
from powertcp.reclaim.layer import FlowJudged, LayerFailed, Layers
from powertcp.registry import Reason

INF: Final = float("inf")
RESERVOIRS: Final = ("main", "spare")
KINDS: Final = (Accept, Reclaim, Reject, Drop)
limits = st.one_of(st.none(), st.integers(1, 10**7))
bursts = st.integers(1, 10**10)
nonsense = st.one_of(
    st.integers(-5, 5), st.text(max_size=3), st.booleans(), st.floats(), st.binary(max_size=2)
)


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    """A verdict as a policy has it."""
    limit_mw = draw(limits)
    burst_uj = draw(st.one_of(st.none(), bursts)) if limit_mw is not None else None
    kind = draw(st.sampled_from(KINDS))
    if kind is Accept:
        return Accept(limit_mw, burst_uj, draw(st.booleans()))
    if kind is Reclaim:
        return Reclaim(draw(st.sampled_from(RESERVOIRS)), limit_mw, burst_uj)
    return Reject(draw(st.sampled_from(list(Reason)))) if kind is Reject else Drop()


# what no policy has: fields of any type
wild = st.one_of(
    st.builds(Accept, nonsense, nonsense, nonsense),
    st.builds(Reclaim, nonsense, nonsense, nonsense),
    st.builds(Reject, nonsense),
    st.just(Accept),
    st.lists(verdicts(), max_size=2),
    nonsense,
)
answers = st.one_of(st.none(), verdicts(), wild, st.just(KeyError("x")))


class Layer:
    """Answers what it is told to, or raises it."""

    file = "layer.py"

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def line_of(self, kind: type[Hook]) -> int | None:
        return 1 if kind is FlowJudged else None

    def handle(self, hook: Hook) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def kind_of(verdict: Verdict) -> int:
    return KINDS.index(type(verdict))


def passes(verdict: Verdict) -> tuple[float, float]:
    """Return what of credit passes, or is banked: mW and uJ at once."""
    if not isinstance(verdict, Accept | Reclaim):
        return 0, 0
    if verdict.limit_mw is None:
        return INF, INF
    burst_uj = verdict.burst_uj if verdict.burst_uj is not None else 2000 * verdict.limit_mw
    return verdict.limit_mw, burst_uj


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Verdict, list[object]]:
    """What a rule says, and layers after it: each stricter than the one before, or nearly so."""
    drawn = draw(st.lists(verdicts(), min_size=1, max_size=4))
    drawn.sort(key=lambda one: (kind_of(one), *(-amount for amount in passes(one))))
    said: list[object] = [draw(st.sampled_from((one, None))) for one in drawn[1:]]
    return drawn[0], said


@pytest.mark.requirement("FWRL-3-09", "FWRL-1-01")
@settings(max_examples=1000)
@given(st.one_of(conversations(), st.tuples(verdicts(), st.lists(answers, min_size=1, max_size=2))))
def test_no_answers_make_a_verdict_milder(asked: tuple[Verdict, list[object]]) -> None:
    rule, said = asked
    decision = Decision(rule, None, 5, "a rule", "a.policy", ())
    facts = Facts(state=State.NEW)
    try:
        found = Layers(map(Layer, said)).judge("a/1", facts, decision, RESERVOIRS, 0).verdict
    except LayerFailed:
        event("failed")
        return
    event(f"{type(rule).__name__} to {type(found).__name__}")
    assert type(found) in KINDS
    assert kind_of(found) >= kind_of(rule)
    if kind_of(found) == kind_of(rule):
        for now, before in zip(passes(found), passes(rule), strict=True):
            assert now <= before
    if isinstance(found, Accept) and isinstance(rule, Accept):
        assert found.is_marking >= rule.is_marking
    if isinstance(found, Reclaim):
        assert found.reservoir in RESERVOIRS
    if isinstance(found, Reject):
        assert isinstance(found.code, Reason)
    # whatever passes has passed every layer
    assert not any(isinstance(one, Exception) for one in said)
    if isinstance(found, Accept):
        assert all(one is None or type(one) is Accept for one in said)
