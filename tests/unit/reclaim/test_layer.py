"""Layers over the policy: in order, never milder, and what fails lets nothing pass."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pytest

from powertcp.ledger import Code
from powertcp.reclaim.accounts import FlowAccount, Joules
from powertcp.reclaim.firewall import Firewall, refusal_of
from powertcp.reclaim.layer import (
    HOOKS,
    ConnectionOpened,
    FlowEnded,
    FlowJudged,
    Hook,
    LayerDropped,
    LayerFailed,
    Layers,
    SecondPassed,
    failure_of,
    is_stricter,
)
from powertcp.reclaim.policy import Accept, Decision, Drop, Facts, Reclaim, Reject, State, Verdict
from powertcp.reclaim.watch import Party
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S
from powertcp.wire.frames import encode_segment
from powertcp.wire.segments import Control
from tests.conversation import SINK, SOURCE, ask
from tests.policies import load
from tests.screens import DEVICE, PROVIDER, STRANGER, ScreenedPair, power

FILE: Final = "night.py"
POLICY: Final = """\
reservoir main capacity 1kWh
reservoir spare capacity 1kWh
policy drop
rule state new power > 500W -> reject 204
rule state new power > 100W -> accept limit 100W burst 50J mark-ece count big
rule state new              -> accept
rule state unsolicited      -> reclaim main limit 1kW burst 2kJ
"""
OPEN, LIMITED, REFUSED = 6, 5, 4


@dataclass
class Layer:
    """Answers hooks by functions; remembers what it was asked."""

    answers: dict[type[Hook], Callable[[Hook], object]]
    file: str = FILE
    asked: list[Hook] = field(default_factory=list)

    def line_of(self, kind: type[Hook]) -> int | None:
        return 7 if kind in self.answers else None

    def handle(self, hook: Hook) -> object:
        self.asked.append(hook)
        return self.answers[type(hook)](hook)


def says(answer: object, kind: type[Hook] = FlowJudged) -> Layer:
    return Layer({kind: lambda _: answer})


def fail(_: Hook) -> object:
    raise ZeroDivisionError("division by zero")


def fails(kind: type[Hook] = FlowJudged) -> Layer:
    return Layer({kind: fail})


def facts(power_mw: int = 50_000, state: State = State.NEW) -> Facts:
    return Facts(state=state, power_mw=power_mw)


def firewall(*layers: Layer) -> Firewall:
    return Firewall(load(POLICY), node="fw", now=0, layers=layers)


def account(name: str = "192.0.2.1:4711/1") -> FlowAccount:
    return FlowAccount(name, "192.0.2.1", 0)


def judge(*layers: Layer, of: Facts | None = None) -> Decision:
    return firewall(*layers).judge(account(), of or facts(), 0)


class Judged:
    """A connection that counts how often it was judged again."""

    def __init__(self) -> None:
        self.count = 0

    def judge_again(self, now: int) -> None:
        self.count += 1


# ---- order --------------------------------------------------------------------------------------


# FWRL-1-02
@pytest.mark.requirement("FWRL-3-09", "FWRL-1-02")
def test_a_layer_makes_a_verdict_stricter_and_is_named_for_it() -> None:
    decision = judge(says(Reject(Reason.POLICY)))
    assert decision.verdict == Reject(Reason.POLICY)
    assert decision.place == f"{FILE}:7"
    assert decision.text == "on_flow_judged: reject 206"
    assert decision.values[-1] == ("before", f"accept by firewall.policy:{OPEN}")
    refusal = refusal_of(decision, facts())
    assert refusal.rule == f"{FILE}:7 on_flow_judged: reject 206"
    assert refusal.text == "line 7"


@pytest.mark.parametrize("answer", [None, Accept()])
def test_a_layer_that_changes_nothing_leaves_the_rule_as_the_reason(answer: object) -> None:
    decision = judge(says(answer))
    assert (decision.verdict, decision.line, decision.file) == (Accept(), OPEN, "firewall.policy")


def test_layers_are_asked_in_order_each_after_what_the_one_before_it_said() -> None:
    first, second, third = says(Accept(50_000)), says(None), says(Reclaim("main"))
    decision = judge(first, second, third)
    seen = [one.asked[0] for one in (first, second, third)]
    verdicts = [hook.decision.verdict for hook in seen if isinstance(hook, FlowJudged)]
    limited = Accept(50_000, 100_000_000)
    assert verdicts == [Accept(), limited, limited]
    assert decision.verdict == Reclaim("main")


def test_a_later_layer_cannot_take_back_what_an_earlier_one_said() -> None:
    decision = judge(says(Drop()), says(Accept()))
    assert decision.verdict == Drop()
    assert decision.text == "on_flow_judged answered accept, which is milder than drop"


def test_layers_that_ask_for_nothing_are_not_asked() -> None:
    layer = Layer({})
    wall = firewall(layer)
    wall.judge(account(), facts(), 0)
    wall.meet(Party("192.0.2.1:4711", None), None, 0)
    wall.tick(NS_PER_S)
    wall.flows.close(account())
    assert not layer.asked
    assert not wall.condemned


def test_every_hook_has_a_name_that_says_what_happened() -> None:
    assert set(HOOKS.values()) == {ConnectionOpened, FlowJudged, FlowEnded, SecondPassed}
    for name, kind in HOOKS.items():
        words = "".join(
            f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__
        )
        assert name == f"on{words}"


# ---- never milder -------------------------------------------------------------------------------

ORDER: Final[tuple[Verdict, ...]] = (
    Accept(),
    Accept(200_000),
    Accept(100_000, 50_000_000, is_marking=True),
    Reclaim("main"),
    Reclaim("main", 1_000_000, 2_000_000_000),
    Reject(Reason.WATT_LIMIT),
    Drop(),
)


@pytest.mark.requirement("FWRL-3-09")
@pytest.mark.parametrize("low", range(len(ORDER)))
@pytest.mark.parametrize("high", range(len(ORDER)))
def test_verdicts_are_ordered_from_the_mildest(low: int, high: int) -> None:
    assert is_stricter(ORDER[high], ORDER[low]) is (high >= low)


@pytest.mark.parametrize(
    ("verdict", "than"),
    [
        (Accept(1000), Accept(1000, 1)),
        (Accept(1000, 3_000_000), Accept(1000)),
        (Accept(1000), Accept(is_marking=True)),
        (Accept(is_marking=True), Accept(1000)),
        (Reclaim("main"), Reclaim("main", 1000)),
        (Reclaim("main", 1001), Reclaim("main", 1000)),
    ],
)
def test_a_part_that_is_milder_makes_the_whole_milder(verdict: Verdict, than: Verdict) -> None:
    assert not is_stricter(verdict, than)


@pytest.mark.parametrize(
    ("verdict", "than"),
    [
        (Accept(500), Accept(1000)),
        (Reject(Reason.POLICY), Reject(Reason.WATT_LIMIT)),
        (Reclaim("spare", 1000), Reclaim("main", 1000)),
    ],
)
def test_what_is_as_strict_may_be_said(verdict: Verdict, than: Verdict) -> None:
    assert is_stricter(verdict, than)


def test_what_an_accept_does_not_say_stays_as_the_rule_has_it() -> None:
    decision = judge(says(Accept(60_000)), of=facts(200_000))
    assert decision.verdict == Accept(60_000, 50_000_000, is_marking=True)
    decision = judge(says(Accept(10_000)), of=facts(200_000))
    assert decision.verdict == Accept(10_000, 20_000_000, is_marking=True)
    decision = judge(says(Accept(10_000, 1)), of=facts(200_000))
    assert decision.verdict == Accept(10_000, 1, is_marking=True)


class Sly(Accept):
    """An accept that may be anything later."""


class Whole(int):
    """A number that may be anything later."""


@pytest.mark.requirement("FWRL-3-09", "FWRL-1-01")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (True, "bool, which is no verdict"),
        ("drop", "str, which is no verdict"),
        (Accept, "type, which is no verdict"),
        ((), "tuple, which is no verdict"),
        (0, "int, which is no verdict"),
        (Sly(), "Sly, which is no verdict"),
        (Accept(0), "a limit_mw that is no whole number from 1 to"),
        (Accept(-5), "a limit_mw that is no whole number"),
        (Accept(True), "a limit_mw that is no whole number"),
        (Accept(1.5), "a limit_mw that is no whole number"),  # type: ignore[arg-type]
        (Accept(Whole(5)), "a limit_mw that is no whole number"),
        (Accept(10**18 + 1), "a limit_mw that is no whole number"),
        (Accept(5, 0), "a burst_uj that is no whole number"),
        (Accept(5, -1), "a burst_uj that is no whole number"),
        (Accept(None, 5), "a burst without a limit"),
        (Accept(is_marking=1), "is_marking is neither"),  # type: ignore[arg-type]
        (Reclaim("attic"), "a reclaim into no reservoir of the policy, there is: main, spare"),
        (Reclaim(5), "a reclaim into no reservoir"),  # type: ignore[arg-type]
        (Reclaim("main", -1), "a limit_mw that is no whole number"),
        (Reject(7), "a reject with no code"),  # type: ignore[arg-type]
        (Reject("206"), "a reject with no code"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_no_verdict_drops(answer: object, said: str) -> None:
    wall = firewall(says(answer))
    decision = wall.judge(account(), facts(), 0)
    assert decision.verdict == Drop()
    assert said in decision.text
    assert decision.place == f"{FILE}:7"
    assert wall.failures == 1


@pytest.mark.requirement("FWRL-3-09")
@pytest.mark.parametrize(
    ("answer", "power_mw"),
    [
        (Accept(), 600_000),
        (Reclaim("main"), 600_000),
        (Accept(), 200_000),
        (Accept(100_001, 1), 200_000),
        (Accept(100_000, 50_000_001), 200_000),
    ],
)
def test_a_milder_answer_drops_what_it_wanted_to_pass(answer: object, power_mw: int) -> None:
    wall = firewall(says(answer))
    assert wall.judge(account(), facts(power_mw), 0).verdict == Drop()
    assert wall.failures == 1


def test_a_code_may_be_its_number() -> None:
    decision = judge(says(Reject(204)))  # type: ignore[arg-type]
    assert decision.verdict == Reject(Reason.WATT_LIMIT)


def test_a_refusal_of_a_layer_does_not_show_the_limit_of_a_rule_that_accepted() -> None:
    of = facts(200_000)
    refusal = refusal_of(judge(says(Reject(Reason.WATT_LIMIT)), of=of), of)
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.WATT_LIMIT, 200_000, 0)


# ---- failing closed -----------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-1-01", "FWRL-3-09")
def test_a_layer_that_raises_drops_the_flow_and_is_counted_with_its_place() -> None:
    wall = firewall(fails())
    flow = account()
    decision = wall.judge(flow, facts(), 5)
    assert decision.verdict == Drop()
    assert decision.text == "ZeroDivisionError: division by zero"
    assert wall.failures == 1
    event = wall.events.pop()
    assert (event.what, event.is_logged, event.account) == ("failed", True, flow)
    assert event.decision == decision
    assert decision.line == 7


def test_the_line_of_a_failure_is_the_last_one_of_its_file() -> None:
    try:
        fail(SecondPassed(joules=Joules(), stored_uj={}, load_percent=None, now=0))
    except ZeroDivisionError as error:
        here = failure_of(error, __file__, 1)
        other = failure_of(error, "other.py", 3)
    assert here.line == fail.__code__.co_firstlineno + 1
    assert (other.file, other.line) == ("other.py", 3)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise self


def test_an_error_that_cannot_be_said_and_a_long_one_are_cut_short() -> None:
    assert str(failure_of(Unspeakable(), FILE, 1)) == "Unspeakable"
    assert str(failure_of(KeyError(), FILE, 1)) == "KeyError"
    assert len(str(failure_of(ValueError("x" * 10_000), FILE, 1))) == 200


def test_a_layer_cannot_change_what_others_see() -> None:
    def spoil(hook: Hook) -> object:
        assert isinstance(hook, FlowJudged)
        hook.facts.power_mw, hook.facts.state = 1, State.CLOSING
        return None

    second = says(None)
    wall, of, flow = firewall(Layer({FlowJudged: spoil}), second), facts(200_000), account()
    decision = wall.judge(flow, of, 0)
    assert (of.power_mw, of.state, decision.line) == (200_000, State.NEW, LIMITED)
    seen = second.asked[0]
    assert isinstance(seen, FlowJudged)
    assert (seen.facts, seen.flow) == (of, flow.name)


def test_hits_and_joules_stay_with_the_rule_that_decided_before() -> None:
    wall, flow = firewall(says(Reject(Reason.POLICY))), account()
    wall.judge(flow, facts(200_000), 0)
    wall.burn(flow, 1000)
    assert (wall.rules[LIMITED].hits, wall.rules[LIMITED].uj) == (1, 1000)
    assert (wall.counters["big"].hits, wall.counters["big"].uj) == (1, 1000)
    assert set(wall.rules) == {LIMITED}


def test_what_is_stopped_asks_no_layer() -> None:
    layer = says(None)
    wall = firewall(layer)
    assert not wall.is_shut
    wall.stop(Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written"), 0)
    assert wall.is_shut
    assert isinstance(wall.judge(account(), facts(), 0).verdict, Reject)
    assert not layer.asked


# ---- connections and ends -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"), [(None, []), (Drop(), ["dropped"]), (Accept(), ["failed"])]
)
def test_a_layer_may_drop_a_connection_and_say_nothing_else(
    answer: object, said: list[str]
) -> None:
    layer = says(answer, ConnectionOpened)
    wall, name = firewall(layer), "192.0.2.1:4711"
    wall.meet(Party(name, None, b"k" * 32), None, 9)
    hook = ConnectionOpened(connection=name, src=None, dst=None, peer=b"k" * 32, now=9)
    assert layer.asked == [hook]
    assert wall.condemned == ({name} if said else set())
    assert [event.what for event in wall.events] == said
    assert wall.failures == said.count("failed")


@pytest.mark.requirement("FWRL-1-01")
@pytest.mark.parametrize("layer", [fails(FlowEnded), says(Drop(), FlowEnded)])
def test_a_layer_that_fails_after_a_flow_condemns_its_connection(layer: Layer) -> None:
    wall, flow = firewall(layer), account()
    wall.flows.open(flow)
    wall.tell(flow, "closed", 5)
    wall.flows.close(flow)
    wall.flows.close(flow)
    assert wall.condemned == {"192.0.2.1:4711"}
    assert wall.failures == 1
    assert flow.what == "closed"


def test_the_end_of_a_flow_shows_its_joules() -> None:
    layer = says(None, FlowEnded)
    wall, flow = firewall(layer), account()
    wall.judge(flow, facts(), 4)
    wall.pass_on(flow, 70, 3)
    wall.tell(flow, "closed", 5)
    wall.flows.close(flow)
    [hook] = layer.asked
    assert isinstance(hook, FlowEnded)
    assert (hook.flow, hook.peer, hook.what, hook.now) == (flow.name, "192.0.2.1", "closed", 5)
    assert (hook.joules.in_uj, hook.joules.authorised_uj, hook.joules.heat_uj) == (73, 70, 3)
    assert hook.joules is not flow.joules
    assert hook.decision == flow.decision


# ---- seconds ------------------------------------------------------------------------------------


def test_a_second_shows_what_there_is() -> None:
    layer = says(None, SecondPassed)
    wall = Firewall(load(POLICY), node="fw", now=0, layers=[layer], stored={"main": 500})
    wall.tick(NS_PER_S)
    [hook] = layer.asked
    assert isinstance(hook, SecondPassed)
    assert hook.stored_uj == {"main": 500, "spare": 0}
    assert hook.joules is not wall.joules
    with pytest.raises(TypeError):
        hook.stored_uj["main"] = 1  # type: ignore[index]


@pytest.mark.requirement("FWRL-1-01", "FWRL-3-09")
def test_a_layer_that_fails_at_a_second_shuts_until_it_takes_one() -> None:
    is_good = [False, False, True]

    def second(_: Hook) -> object:
        return None if is_good.pop(0) else 1 // 0

    wall, judged = firewall(Layer({SecondPassed: second})), Judged()
    wall.screens[judged] = None
    assert wall.judge(account(), facts(), 0).verdict == Accept()
    wall.tick(NS_PER_S)
    assert wall.is_shut
    decision = wall.judge(account(), facts(), NS_PER_S)
    assert (decision.verdict, decision.file) == (Drop(), FILE)
    wall.tick(2 * NS_PER_S)
    assert wall.is_shut
    wall.tick(3 * NS_PER_S)
    assert not wall.is_shut
    assert wall.judge(account(), facts(), 3 * NS_PER_S).verdict == Accept()
    # the flows are judged at once, not in each second that is like the one before
    assert (judged.count, wall.failures) == (2, 2)


def test_flows_are_judged_again_each_minute_as_long_as_a_layer_judges() -> None:
    minute = [60]
    wall = Firewall(
        load(POLICY), node="fw", now=0, layers=[says(None)], clock=lambda: (minute[0], None)
    )
    judged = Judged()
    wall.screens[judged] = None
    wall.tick(NS_PER_S)
    wall.tick(2 * NS_PER_S)
    before = judged.count
    minute[0] = 61
    wall.tick(3 * NS_PER_S)
    assert judged.count == before + 1


@pytest.mark.requirement("FWRL-3-02")
def test_layers_are_taken_with_a_policy_or_stay() -> None:
    wall, judged = firewall(fails(SecondPassed)), Judged()
    wall.screens[judged] = None
    wall.tick(NS_PER_S)
    wall.take(load(POLICY), NS_PER_S)
    assert wall.is_shut
    wall.take(load(POLICY), NS_PER_S, [says(Drop())])
    assert not wall.is_shut
    assert wall.judge(account(), facts(), NS_PER_S).verdict == Drop()
    wall.take(load(POLICY), NS_PER_S, [])
    assert wall.judge(account(), facts(), NS_PER_S).verdict == Accept()
    assert judged.count == 4


# ---- the stack ----------------------------------------------------------------------------------


def test_all_layers_are_told_even_after_one_that_failed() -> None:
    first, second = fails(SecondPassed), says(None, SecondPassed)
    layers = Layers([first, second])
    hook = SecondPassed(joules=Joules(), stored_uj={}, load_percent=None, now=0)
    [failed] = layers.tell(SecondPassed, lambda: hook)
    assert isinstance(failed, LayerFailed)
    assert not isinstance(failed, LayerDropped)
    assert second.asked == [hook]
    assert layers.asks(SecondPassed)
    assert not layers.asks(FlowJudged)


def test_a_layer_may_say_itself_where_it_failed() -> None:
    def refuse(_: Hook) -> object:
        raise LayerFailed("no answer", "far.py", 99)

    decision = judge(Layer({FlowJudged: refuse}))
    assert (decision.text, decision.place) == ("no answer", "far.py:99")


def test_what_is_drawn_is_seen_at_the_next_second() -> None:
    layer = says(None, SecondPassed)
    wall = Firewall(load(POLICY), node="fw", now=0, layers=[layer], stored={"main": 10**9})
    wall.draw("main", "infrastructure:fw", 10**6, Code.LOSS)
    wall.tick(NS_PER_S)
    [hook] = layer.asked
    assert isinstance(hook, SecondPassed)
    assert hook.joules.out_uj == 10**6
    assert hook.stored_uj["main"] < 10**9


# ---- on a connection ----------------------------------------------------------------------------


def screened(*layers: Layer) -> ScreenedPair:
    return ScreenedPair("policy accept", rules={"layers": layers})


@pytest.mark.requirement("FWRL-1-01", "FWRL-3-09")
@pytest.mark.parametrize("kind", [ConnectionOpened, FlowJudged])
def test_nothing_passes_after_a_layer_that_raises(kind: type[Hook]) -> None:
    pair = screened(fails(kind))
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.exchange()
    assert (pair.screen.is_over, pair.passed) == (True, [[], []])
    assert (pair.firewall.failures, pair.firewall.condemned) == (1, set())


def test_a_connection_is_shown_once_and_may_be_dropped() -> None:
    layer = says(Drop(), ConnectionOpened)
    pair = screened(layer)
    pair.sink.open_flow([ask("12V/1A")], now=pair.now)
    pair.exchange()
    [hook] = layer.asked
    assert isinstance(hook, ConnectionOpened)
    assert (hook.connection, hook.src) == (DEVICE.name, DEVICE.address)
    assert (hook.dst, hook.peer) == (PROVIDER.address, None)
    assert (pair.screen.is_over, pair.passed, pair.firewall.failures) == (True, [[], []], 0)


@pytest.mark.requirement("FWRL-1-01")
def test_a_layer_that_fails_after_a_flow_closes_the_other_flows_of_its_connection() -> None:
    pair, other = screened(fails(FlowEnded)), ScreenedPair("policy accept")
    first, second = pair.energise("12V/1A"), pair.energise("12V/1A")
    passed = [len(octets) for octets in pair.passed]
    reset = encode_segment(Control(first, Flag.RST, 0))
    block = encode_segment(power(second, 1_200_000))
    pair.say(SOURCE, reset + block)
    assert pair.screen.is_over
    # not even what came in the same read
    assert [len(octets) for octets in pair.passed] == passed
    assert pair.firewall.joules.authorised_uj == 0
    assert not pair.firewall.condemned
    assert not other.screen.is_over


def test_a_layer_that_fails_at_an_end_by_time_or_policy_closes_the_connection() -> None:
    pair = screened(fails(FlowEnded))
    pair.energise("12V/1A")
    pair.energise("12V/0.5A")
    pair.reload("policy drop\nrule power <= 6W -> accept\nrule power > 6W -> reject 204")
    assert pair.screen.is_over
    assert pair.firewall.failures == 2


@pytest.mark.requirement("FWRL-1-01", "FWRL-3-09")
def test_a_layer_that_fails_at_a_second_closes_every_connection() -> None:
    layer = Layer({SecondPassed: lambda _: None})
    pair = screened(layer)
    other = ScreenedPair(firewall=pair.firewall, client=STRANGER, passes_other=True)
    pair.energise("12V/1A")
    other.hear(SINK, b"GET / HTTP/1.1")
    other.flush()
    pair.advance(1)
    assert not pair.screen.is_over
    assert other.passed[SOURCE] == [b"GET / HTTP/1.1"]
    layer.answers[SecondPassed] = fail
    pair.advance(1)
    assert pair.screen.is_over
    assert other.screen.is_over
    late = ScreenedPair(firewall=pair.firewall, client=STRANGER, passes_other=True)
    late.hear(SINK, b"GET / HTTP/1.1")
    assert late.screen.is_over
    assert late.passed == [[], []]
