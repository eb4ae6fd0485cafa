"""What stands between the policy and a flow: ordered layers, asked by typed hooks, failing closed.

A layer sees what a flow is and what was decided so far, and may only be stricter. What fails ends
what it was asked about: a flow in question is dropped; after a flow or at a connection, that
connection is; at a second, nothing passes until the next one that it takes. FWRL-1-01, FWRL-3-09.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final, Protocol, TypeAlias

from powertcp.errors import PowerError
from powertcp.reclaim.accounts import Joules
from powertcp.reclaim.bucket import BURST_MS
from powertcp.reclaim.policy import (
    Accept,
    Address,
    Decision,
    Drop,
    Facts,
    Reclaim,
    Reject,
    Verdict,
)
from powertcp.registry import Reason
from powertcp.units import Instant

# of a limit: 1 TW, 1 TJ
LIMIT_MAX: Final = 10**18
# characters of what a layer says when it fails
SAID_MAX: Final = 200


# ---- hooks --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOpened:
    """Somebody connected, and has said something. Answer: None, or Drop: it is closed.

    connection: ADDRESS:PORT. src, dst: who connected and where that goes, None is not known yet.
    peer: key of who connected, if it proved one. now: ns of a clock that only runs forward.
    """

    connection: str
    src: Address | None
    dst: Address | None
    peer: bytes | None
    now: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowJudged:
    """The policy judged a flow. Answer: None to leave it at that, or a verdict no milder.

    flow: ADDRESS:PORT/FLOW. facts: all that is known, a copy of its own. decision: what the policy
    and the layers before this one say.
    """

    flow: str
    facts: Facts
    decision: Decision
    now: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEnded:
    """A flow is over. Answer: None.

    peer: whose power it was. other: the far side. what: how it ended. joules: a copy of its sums.
    """

    flow: str
    peer: str
    other: str
    what: str
    decision: Decision | None
    joules: Joules
    now: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPassed:
    """A second passed. Answer: None.

    joules: a copy of the sums of all flows. stored_uj: in each reservoir, a copy. load_percent: of
    the rating, None is not known.
    """

    joules: Joules
    stored_uj: Mapping[str, int]
    load_percent: int | None
    now: Instant


Hook: TypeAlias = ConnectionOpened | FlowJudged | FlowEnded | SecondPassed
HOOKS: Final[Mapping[str, type[Hook]]] = {
    "on_connection_opened": ConnectionOpened,
    "on_flow_judged": FlowJudged,
    "on_flow_ended": FlowEnded,
    "on_second_passed": SecondPassed,
}
_FACTS: Final = tuple(field.name for field in fields(Facts))
_facts_of = attrgetter(*_FACTS)
_NAMES: Final = {kind: name for name, kind in HOOKS.items()}


class LayerFailed(PowerError):
    """A layer could not decide. file, line: where it failed."""

    def __init__(self, said: str, file: str, line: int) -> None:
        super().__init__(said)
        self.file, self.line = file, line


class LayerDropped(LayerFailed):
    """A layer closes a connection, as it may: no failure of its own."""


class Layer(Protocol):
    """One layer. file: what reasons call it."""

    @property
    def file(self) -> str:
        """What reasons call it."""

    def line_of(self, kind: type[Hook]) -> int | None:
        """Return where it answers hooks of `kind`, None: it is not asked."""

    def handle(self, hook: Hook) -> object:
        """Answer a hook as its class says; whatever it raises ends what the hook is about."""


class Layers:
    """Layers in order; each sees what those before it have made of a decision."""

    __slots__ = ("_asked", "layers")

    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        self.layers = tuple(layers)
        self._asked: dict[type[Hook], tuple[tuple[Layer, int], ...]] = {}
        for kind in _NAMES:
            places = [(layer, layer.line_of(kind)) for layer in self.layers]
            self._asked[kind] = tuple((layer, line) for layer, line in places if line is not None)

    def asks(self, kind: type[Hook]) -> bool:
        """Return whether a layer answers hooks of `kind`."""
        return bool(self._asked[kind])

    # FWRL-3-09
    def judge(
        self,
        flow: str,
        facts: Facts,
        decision: Decision,
        reservoirs: Iterable[str],
        now: Instant,
    ) -> Decision:
        """Return `decision`, or what layers make of it. Raises LayerFailed: the flow is dropped.

        reservoirs: names that a verdict may use. facts: stay as they are.
        """
        for layer, line in self._asked[FlowJudged]:
            hook = FlowJudged(flow=flow, facts=_copy(facts), decision=decision, now=now)
            answer = _ask(layer, line, hook)
            if answer is None:
                continue
            try:
                verdict = _stricter(answer, decision.verdict, reservoirs)
            # one without its fields, which nobody made by its constructor
            except (ValueError, AttributeError) as error:
                said = f"{_NAMES[FlowJudged]} answered {error}"
                raise LayerFailed(said, layer.file, line) from None
            if verdict != decision.verdict:
                # FWRL-1-02
                text = f"{_NAMES[FlowJudged]}: {verdict}"
                before = ("before", f"{decision.verdict} by {decision.place}")
                values = (*decision.values, before)
                decision = Decision(verdict, decision.rule, line, text, layer.file, values)
        return decision

    # FWRL-1-01
    def tell(
        self, kind: type[Hook], make: Callable[[], Hook], *, may_drop: bool = False
    ) -> tuple[LayerFailed, ...]:
        """Tell all layers that ask for hooks of `kind`; return which failed.

        make: returns a hook that the layer may keep. may_drop: Drop is an answer; it is returned as
        a failure of that layer, with which it has in common that the connection is closed.
        """
        failed = []
        for layer, line in self._asked[kind]:
            try:
                answer = _ask(layer, line, make())
            except LayerFailed as error:
                failed.append(error)
                continue
            if may_drop and type(answer) is Drop:
                failed.append(LayerDropped(f"{_NAMES[kind]}: drop", layer.file, line))
            elif answer is not None:
                said = f"{_NAMES[kind]} answered {type(answer).__name__}, None is expected"
                failed.append(LayerFailed(said, layer.file, line))
        return tuple(failed)


def _copy(facts: Facts) -> Facts:
    return Facts(**dict(zip(_FACTS, _facts_of(facts), strict=True)))


def _ask(layer: Layer, line: int, hook: Hook) -> object:
    """Return the answer of a layer. Raises LayerFailed for whatever it raises."""
    try:
        return layer.handle(hook)
    except LayerFailed:
        raise
    # whatever it is, nothing passes
    except Exception as error:
        raise failure_of(error, layer.file, line) from error


def failure_of(error: BaseException, file: str, line: int) -> LayerFailed:
    """Return what is told of an error: the last line of `file` that it passed, else `line`."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    kind = type(error).__name__
    try:
        text = str(error)
    # an exception that cannot be said, whatever comes of it
    except BaseException:  # noqa: BLE001
        text = ""
    said = (f"{kind}: {text}" if text else kind)[:SAID_MAX]
    # half a surrogate pair is in no file and no ledger
    return LayerFailed(said.encode(errors="backslashreplace").decode(), file, line)


# ---- verdicts of layers -------------------------------------------------------------------------


def _rank(verdict: Verdict) -> int:
    """Return how strict a verdict is. FWRL-3-09."""
    match verdict:
        case Accept(limit_mw=None, is_marking=False):
            return 0
        case Accept():
            return 1
        case Reclaim():
            return 2
        case Reject():
            return 3
        case Drop():
            return 4


# FWRL-3-09
def is_stricter(verdict: Verdict, than: Verdict) -> bool:
    """Return whether `verdict` is no milder than another one.

    From the mildest: accept, accept with a limit or mark-ece, reclaim, reject, drop. A limit is no
    milder with at most that power and that burst; without a burst it has 2 s of its power.
    """
    if isinstance(verdict, Accept) and isinstance(than, Accept):
        return _is_within(verdict, than) and verdict.is_marking >= than.is_marking
    if isinstance(verdict, Reclaim) and isinstance(than, Reclaim):
        return _is_within(verdict, than)
    return _rank(verdict) >= _rank(than)


def _is_within(verdict: Accept | Reclaim, than: Accept | Reclaim) -> bool:
    """Return whether a limit passes no more than another one."""
    if than.limit_mw is None:
        return True
    if verdict.limit_mw is None or verdict.limit_mw > than.limit_mw:
        return False
    return _burst(verdict.limit_mw, verdict.burst_uj) <= _burst(than.limit_mw, than.burst_uj)


def _burst(limit_mw: int, burst_uj: int | None) -> int:
    return limit_mw * BURST_MS if burst_uj is None else burst_uj


def _stricter(answer: object, than: Verdict, reservoirs: Iterable[str]) -> Verdict:
    """Return an answer as a verdict of ours. Raises ValueError: it is none, or a milder one.

    What an accept does not say stays as it was: the mark, and at most the burst that there was.
    """
    verdict: Verdict
    # exactly these: another class may be anything the next time it is looked at
    if type(answer) is Accept:
        limit_mw, burst_uj = _limits(answer, than)
        if type(answer.is_marking) is not bool:
            raise ValueError("an accept whose is_marking is neither True nor False")
        is_marking = answer.is_marking or (isinstance(than, Accept) and than.is_marking)
        verdict = Accept(limit_mw, burst_uj, is_marking)
    elif type(answer) is Reclaim:
        if type(answer.reservoir) is not str or answer.reservoir not in reservoirs:
            names = ", ".join(reservoirs) or "none"
            raise ValueError(f"a reclaim into no reservoir of the policy, there is: {names}")
        limit_mw, burst_uj = _limits(answer, than)
        verdict = Reclaim(answer.reservoir, limit_mw, burst_uj)
    elif type(answer) is Reject:
        if type(answer.code) not in (int, Reason) or answer.code not in set(Reason):
            raise ValueError("a reject with no code of the registry")
        verdict = Reject(Reason(answer.code))
    elif type(answer) is Drop:
        verdict = answer
    else:
        raise ValueError(f"{type(answer).__name__}, which is no verdict")
    if not is_stricter(verdict, than):
        raise ValueError(f"{verdict}, which is milder than {than}")
    return verdict


def _limits(answer: Accept | Reclaim, than: Verdict) -> tuple[int | None, int | None]:
    """Return limit and burst of an answer. Raises ValueError: one is no quantity."""
    limit_mw, burst_uj = answer.limit_mw, answer.burst_uj
    if limit_mw is None:
        if burst_uj is not None:
            raise ValueError("a burst without a limit")
        return None, None
    for name, value in (("limit_mw", limit_mw), ("burst_uj", burst_uj)):
        if value is None and name == "burst_uj":
            continue
        if type(value) is not int or not 0 < value <= LIMIT_MAX:
            raise ValueError(f"a {name} that is no whole number from 1 to {LIMIT_MAX:,}")
    if burst_uj is not None:
        return limit_mw, burst_uj
    burst_uj = limit_mw * BURST_MS
    if type(than) is type(answer) and isinstance(than, Accept | Reclaim) and than.limit_mw:
        burst_uj = min(burst_uj, _burst(than.limit_mw, than.burst_uj))
    return limit_mw, burst_uj
