"""What all connections share: a policy, its reservoirs, and where the joules go."""

import pytest

from powertcp.ledger import Code
from powertcp.reclaim.accounts import AMOUNT_MAX, FlowAccount, Posting
from powertcp.reclaim.firewall import (
    BOOKED_MAX,
    EVENTS_MAX,
    OTHERS,
    PEERS_MAX,
    Firewall,
    refusal_of,
    stored_of,
)
from powertcp.reclaim.harvest import HARVESTS_MAX, SOURCE_MAX, Harvest
from powertcp.reclaim.layer import (
    ConnectionOpened,
    FlowEnded,
    FlowJudged,
    Hook,
    SecondPassed,
)
from powertcp.reclaim.policy import Accept, Decision, Drop, Facts, Policy, Reclaim, Reject, State
from powertcp.reclaim.watch import Party
from powertcp.registry import Reason, Refusal
from powertcp.sources import Drawn
from powertcp.units import NS_PER_S
from tests.policies import ALICE, load
from tests.screens import PROVIDER, STRANGER, firewall_of, joules, party, told

J = 1_000_000
MAIN = "reservoir main capacity 100J charge 95% discharge 95%"
POLICY = f"""\
{MAIN}
policy reject 206
rule state new -> accept log count fine
rule state unsolicited -> reclaim main count attacks
"""
NEW, UNSOLICITED = Facts(state=State.NEW), Facts(state=State.UNSOLICITED)


class Rejudged:
    """A connection that remembers when it was judged again."""

    def __init__(self, firewall: Firewall) -> None:
        self.times: list[int] = []
        firewall.screens[self] = None

    def judge_again(self, now: int) -> None:
        self.times.append(now)


def account(name: str = "192.0.2.1:5/1") -> FlowAccount:
    return FlowAccount(name, "192.0.2.1", 0)


def harvest(firewall: Firewall, one: FlowAccount) -> Harvest:
    return Harvest(1, one, firewall.intakes["main"], None)


# ---- deciding -----------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-1-02")
def test_a_decision_is_kept_with_what_it_was_made_of_and_counted() -> None:
    firewall, one = firewall_of(POLICY, now=0), account()
    seen: list[object] = []
    firewall.on_judged = lambda *what: seen.append(what)
    decision = firewall.judge(one, NEW, 0)
    assert (decision.verdict, decision.line) == (Accept(), 3)
    assert (one.decision, one.facts) == (decision, NEW)
    assert seen == [(one, NEW, decision)]
    firewall.pass_on(one, 5, 2)
    assert (firewall.rules[3].hits, firewall.rules[3].uj) == (1, 7)
    assert (firewall.counters["fine"].hits, firewall.counters["fine"].uj) == (1, 7)
    # the policy statement counts by its line, and has no counter
    other = account("b/1")
    assert firewall.judge(other, Facts(), 0).verdict == Reject(Reason.POLICY)
    firewall.burn(other, 3)
    assert (firewall.rules[2].hits, firewall.rules[2].uj) == (1, 3)
    assert set(firewall.counters) == {"fine"}


def test_energy_of_a_flow_that_was_never_judged_is_of_no_rule() -> None:
    firewall = firewall_of(POLICY, now=0)
    firewall.burn(account(), 3)
    assert (joules(firewall), firewall.rules) == ((3, 0, 0, 3), {})


def test_rules_see_the_load_and_the_clock() -> None:
    firewall = firewall_of(POLICY, now=0, clock=lambda: (61, 99))
    firewall.load_percent = 7
    facts = Facts(state=State.NEW)
    firewall.judge(account(), facts, 0)
    assert (facts.load_percent, facts.minute, facts.unix_s) == (7, 61, 99)


class Broken(Policy):
    """A policy that raises."""

    def evaluate(self, facts: Facts) -> Decision:
        raise ZeroDivisionError(str(facts.state))


@pytest.mark.requirement("FWRL-1-01")
def test_an_engine_that_raises_drops() -> None:
    firewall, one = firewall_of(Broken(file="x"), now=0), account()
    assert firewall.judge(one, NEW, 5).verdict == Drop()
    assert (firewall.failures, one.what) == (1, "failed")
    (event,) = firewall.events
    assert event.decision is not None
    assert event.decision.text == "ZeroDivisionError: new"
    assert event.is_logged


@pytest.mark.requirement("FWRL-1-01")
def test_a_reservoir_that_is_not_there_drops() -> None:
    policy = Policy(file="x", default=Reclaim("gone"), default_line=1)
    firewall = firewall_of(policy, now=0)
    assert firewall.judge(account(), NEW, 5).verdict == Drop()
    assert firewall.failures == 1


@pytest.mark.requirement("FWRL-1-01")
def test_a_firewall_that_stopped_rejects_everything_for_good() -> None:
    firewall = firewall_of(POLICY, now=0)
    screen = Rejudged(firewall)
    firewall.stop(Refusal(Reason.MAINTENANCE, rule="the ledger"), 7)
    firewall.stop(Refusal(Reason.OPERATOR), 8)
    assert screen.times == [7]
    assert firewall.is_shut
    decision = firewall.judge(account(), NEW, 9)
    assert (decision.verdict, decision.text) == (Reject(Reason.MAINTENANCE), "the ledger")
    firewall.take(load(POLICY), 10)
    last = firewall.judge(account(), NEW, 10)
    assert last.verdict == Reject(Reason.MAINTENANCE)
    assert refusal_of(last, NEW).rule == "the ledger"


# ---- what is told -------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-1-04")
def test_accepts_are_told_and_logged_where_their_rule_says_so() -> None:
    firewall, one, two = firewall_of(POLICY, now=0), account(), account("b/1")
    firewall.judge(one, NEW, 0)
    for what in ("accepted", "clamped"):
        firewall.tell(one, what, 1)
    firewall.judge(two, UNSOLICITED, 0)
    for what in ("accepted", "closed", "intercepted"):
        firewall.tell(two, what, 1, refusal=Refusal(Reason.POLICY) if what == "closed" else None)
    assert [event.is_logged for event in firewall.events] == [True, True, False, False, True]
    # a reason that was given once stays
    assert two.refusal == Refusal(Reason.POLICY)


def test_events_nobody_takes_are_bounded() -> None:
    firewall, one = firewall_of(POLICY, now=0), account()
    for number in range(EVENTS_MAX + 1):
        firewall.tell(one, str(number), 0)
    assert (len(firewall.events), told(firewall)[0]) == (EVENTS_MAX, "1")


# ---- energy -------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-5-01", "FWRL-4-01")
def test_every_joule_is_found_again_and_told_to_the_ledger() -> None:
    firewall, one = firewall_of(POLICY, now=0), account()
    firewall.pass_on(one, 7, 1)
    firewall.burn(one, 2)
    firewall.keep(one, harvest(firewall, one), 101, 100)
    firewall.claim(one, 50)
    assert firewall.draw("main", "sink:lamp", 19, Code.LEND) == Drawn(19, 1)
    sums = firewall.joules
    assert sums.fields() == {
        "in_uj": 111, "authorised_uj": 7, "reclaimed_uj": 75, "heat_uj": 10, "out_uj": 19,
        "claimed_uj": 50, "residual_uj": 0,
    }  # fmt: skip
    assert (one.joules.in_uj, one.joules.reclaimed_uj, one.joules.out_uj) == (111, 95, 0)
    assert firewall.stored_uj == 75
    assert firewall.take_postings() == [
        Posting("heat:fw", "intercepted:192.0.2.1", "uJ", 9, Code.BANK),
        Posting("reservoir:main", "intercepted:192.0.2.1", "uJ", 95, Code.BANK),
        Posting("claimed:192.0.2.1", "claims", "uJ-claimed", 50, Code.CLAIM),
        Posting("sink:lamp", "reservoir:main", "uJ", 19, Code.LEND),
        Posting("heat:fw", "reservoir:main", "uJ", 1, Code.LOSS),
    ]
    assert firewall.take_postings() == []


@pytest.mark.requirement("FWRL-3-04")
def test_claims_beyond_all_reason_count_as_the_most_there_is() -> None:
    firewall, one = firewall_of(POLICY, now=0), account()
    for _ in range(3):
        firewall.claim(one, 2**64)
    assert one.joules.claimed_uj == AMOUNT_MAX == 2**63 - 1
    two = account("b/1")
    firewall.claim(two, 2**64)
    (posting,) = firewall.take_postings()
    assert posting.amount == AMOUNT_MAX


@pytest.mark.requirement("FWRL-4-01")
def test_a_reservoir_begins_with_what_the_ledger_says_and_spills_what_is_too_much() -> None:
    balances = [("reservoir:main", 120 * J), ("heat:fw", 3), ("reservoir:gone", 5)]
    firewall = firewall_of(POLICY, now=0, stored=stored_of(balances))
    assert stored_of(balances) == {"main": 120 * J, "gone": 5}
    assert firewall.stored_uj == 100 * J
    assert firewall.take_postings() == [
        Posting("heat:fw", "reservoir:main", "uJ", 20 * J, Code.LOSS)
    ]
    assert firewall.joules.residual_uj == 0


@pytest.mark.requirement("FWRL-3-02", "FWRL-4-01")
def test_a_reservoir_keeps_its_energy_under_another_policy() -> None:
    firewall = firewall_of(POLICY, now=0, stored={"main": 50 * J, "spare": 9})
    screen = Rejudged(firewall)
    firewall.take(load(f"reservoir spare capacity 1J\n{POLICY.replace('100J', '20J')}"), 5)
    assert (screen.times, firewall.rules) == ([5], {})
    assert firewall.intakes["main"].reservoir.stored_uj == 20 * J
    assert firewall.intakes["spare"].reservoir.stored_uj == 9
    assert firewall.joules.heat_uj == 30 * J
    # one that is not named any more keeps what it has
    firewall.take(load("policy drop"), 6)
    assert firewall.stored_uj == 20 * J + 9


# ---- bounds -------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-05")
def test_one_connection_of_a_source_begins_in_a_second() -> None:
    firewall = firewall_of(POLICY, now=0)
    times = (0, 1, NS_PER_S - 1, NS_PER_S, NS_PER_S + 1, 3 * NS_PER_S)
    assert [firewall.admit("a", at) for at in times] == [True, False, False, True, False, True]
    for number in range(PEERS_MAX):
        assert firewall.admit(str(number), 3 * NS_PER_S)
    # only the last ones are remembered
    assert firewall.admit("a", 3 * NS_PER_S)


@pytest.mark.requirement("FWRL-4-05")
def test_64_harvests_are_enough_and_16_of_one_source() -> None:
    firewall = firewall_of(POLICY, now=0)
    for number in range(HARVESTS_MAX):
        assert firewall.too_many(str(number // SOURCE_MAX)) is None
        firewall.count_harvest(str(number // SOURCE_MAX), 1)
    assert firewall.too_many("0") == Refusal(Reason.LIMIT, SOURCE_MAX + 1, SOURCE_MAX)
    assert firewall.too_many("other") == Refusal(Reason.LIMIT, HARVESTS_MAX + 1, HARVESTS_MAX)
    firewall.count_harvest("0", -1)
    assert firewall.too_many("0") is None


def test_a_limit_is_a_bucket_of_its_own() -> None:
    firewall = firewall_of(POLICY, now=0)
    assert firewall.limit_of(Accept(), 0) is None
    bucket = firewall.limit_of(Reclaim("main", 1_000, 5), 0)
    assert bucket is not None
    assert (bucket.rate_mw, bucket.burst_uj) == (1_000, 5)


def test_the_operator_binds_keys_to_addresses() -> None:
    firewall = firewall_of(f"set trusted keys authorized_watts\n{POLICY}", now=0)
    inside, outside = party("10.1.3.4:1").address, party("192.0.2.1:1").address
    assert inside is not None
    assert outside is not None
    assert (firewall.peer_at(inside), firewall.peer_at(outside)) == (ALICE, None)
    assert Party("lamp", None).account == "lamp"


# ---- time ---------------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-01")
def test_each_second_reservoirs_leak() -> None:
    leaky = POLICY.replace("discharge 95%", "discharge 95% leak 1W")
    firewall = firewall_of(leaky, now=0, stored={"main": 5 * J})
    firewall.tick(3 * NS_PER_S)
    assert (firewall.stored_uj, firewall.joules.heat_uj) == (2 * J, 3 * J)
    assert firewall.joules.residual_uj == 0


@pytest.mark.requirement("FWRL-3-01")
def test_the_load_is_the_power_of_the_last_second_and_judged_when_it_changes() -> None:
    firewall = firewall_of("policy drop\nrule load > 50% -> drop", now=0, rating_mw=10_000)
    screen, one = Rejudged(firewall), account()
    firewall.tick(0)
    assert firewall.load_percent is None
    for second, power_w in enumerate((8, 8, 3), 1):
        firewall.pass_on(one, power_w * J)
        firewall.tick(second * NS_PER_S)
        assert firewall.load_percent == power_w * 10
    # the same instant again is no time to measure in
    firewall.tick(3 * NS_PER_S)
    assert firewall.load_percent == 30
    assert screen.times == [NS_PER_S, 3 * NS_PER_S]


def test_without_a_rating_there_is_no_load_and_without_a_rule_no_judging() -> None:
    firewall = firewall_of("policy drop\nrule load > 50% -> drop", now=0)
    screen = Rejudged(firewall)
    for second in range(3):
        firewall.tick(second * NS_PER_S)
    assert (firewall.load_percent, screen.times) == (None, [])


@pytest.mark.requirement("FWRL-3-01")
def test_the_time_of_day_is_judged_each_minute_where_a_rule_looks_at_it() -> None:
    minutes = iter((1, 1, 1, 2, 2, 2, 2))
    firewall = firewall_of(
        "policy drop\nrule time 00:02-00:03 -> drop", now=0, clock=lambda: (next(minutes), None)
    )
    screen = Rejudged(firewall)
    for second in range(6):
        firewall.tick(second * NS_PER_S)
    assert screen.times == [0, 3 * NS_PER_S]


# ---- what who is refused is told ----------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-06")
@pytest.mark.parametrize(
    ("rule", "facts", "code", "value", "limit"),
    [
        ("power > 500W -> reject 204", {"power_mw": 600_000}, 204, 600_000, 500_000),
        ("voltage > 5V -> reject 101", {"voltage_mv": 12_000}, 101, 12_000, 5_000),
        ("current > 1A -> reject 102", {"current_ma": 2_000}, 102, 2_000, 1_000),
        ("energy > 5J -> reject 205", {"energy_uj": 6 * J}, 205, 6 * J, 5 * J),
        ("priority > 8 -> reject 105", {"priority": 9}, 105, 9, 8),
        ("tariff > 0.40EUR -> reject 104", {"tariff_micro": 500_000, "currency": "EUR"}, 104,
         500_000, 400_000),
        ("power > 500W -> reject 104", {"power_mw": 600_000}, 104, 0, 0),
        ("power > 500W -> reject 506", {"power_mw": 600_000}, 506, 0, 0),
        ("power > 500W -> reject 206", {"power_mw": 600_000}, 206, 1, 0),
        ("power > 500W -> drop", {"power_mw": 600_000}, 206, 1, 0),
    ],
)  # fmt: skip
def test_a_refusal_names_the_rule_the_value_and_its_limit(
    rule: str, facts: dict[str, object], code: int, value: int, limit: int
) -> None:
    seen = Facts(**facts)  # type: ignore[arg-type]
    decision = load(f"rule {rule}\npolicy accept").evaluate(seen)
    refusal = refusal_of(decision, seen)
    assert (refusal.code, refusal.value, refusal.limit) == (code, value, limit)
    assert (refusal.text, refusal.rule) == ("line 1", f"firewall.policy:1 rule {rule}")


@pytest.mark.requirement("FWRL-3-06")
def test_a_refusal_for_energy_of_a_rule_about_something_else_has_no_limit() -> None:
    seen = Facts(power_mw=600_000, energy_uj=7)
    decision = load("rule power > 500W state new -> reject 205\npolicy accept").evaluate(
        Facts(power_mw=600_000, energy_uj=7, state=State.NEW)
    )
    refusal = refusal_of(decision, seen)
    assert (refusal.value, refusal.limit) == (7, 0)


@pytest.mark.requirement("FWRL-3-06")
def test_a_refusal_by_no_rule_has_no_limit() -> None:
    decision = load("policy reject 204").evaluate(NEW)
    refusal = refusal_of(decision, Facts(power_mw=7))
    assert (refusal.value, refusal.limit) == (7, 0)
    # another code than that of the verdict
    assert refusal_of(decision, NEW, Reason.POLICY).value == 1
    # what a layer made of a rule has not the limit of the rule
    policy = load("rule power > 5W -> reject 204\npolicy accept")
    facts = Facts(power_mw=6_000)
    layered = policy.evaluate(facts)._replace(text="on_flow_judged: reject 204")
    assert refusal_of(layered, facts).limit == 0


# ---- layers -------------------------------------------------------------------------------------


class Says:
    """A layer that answers one kind of hook, or raises what it has to say."""

    file = "night.py"

    def __init__(self, kind: type[Hook], answer: object) -> None:
        self.kind, self.answer = kind, answer
        self.hooks: list[Hook] = []

    def line_of(self, kind: type[Hook]) -> int | None:
        return 3 if kind is self.kind else None

    def handle(self, hook: Hook) -> object:
        self.hooks.append(hook)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.requirement("FWRL-3-09", "FWRL-1-01")
def test_a_layer_that_raises_drops_and_is_named() -> None:
    layer = Says(FlowJudged, RuntimeError("no"))
    firewall, one = firewall_of(POLICY, now=0, layers=(layer,)), account()
    decision = firewall.judge(one, NEW, 0)
    assert (decision.verdict, decision.file, decision.line) == (Drop(), "night.py", 3)
    assert decision.text == "RuntimeError: no"
    assert (firewall.failures, told(firewall)) == (1, ["failed"])
    # the rule that it was asked about is what was hit
    assert firewall.rules[3].hits == 1
    # with other layers the same policy lets it pass
    firewall.take(load(POLICY), 1, layers=())
    assert firewall.judge(account("b/1"), NEW, 1).verdict == Accept()


@pytest.mark.requirement("FWRL-1-01")
@pytest.mark.parametrize(
    ("answer", "what", "failures"), [(Drop(), "dropped", 0), (RuntimeError("no"), "failed", 1)]
)
def test_a_connection_that_a_layer_does_not_want_is_condemned(
    answer: object, what: str, failures: int
) -> None:
    layer = Says(ConnectionOpened, answer)
    firewall = firewall_of(POLICY, now=0, layers=(layer,))
    for target in (None, PROVIDER):
        firewall.meet(STRANGER, target, 7)
    first, second = layer.hooks
    assert isinstance(first, ConnectionOpened)
    assert isinstance(second, ConnectionOpened)
    assert (first.dst, second.dst) == (None, PROVIDER.address)
    assert (second.src, second.connection, second.now) == (STRANGER.address, STRANGER.name, 7)
    assert firewall.condemned == {STRANGER.name}
    assert told(firewall) == [what] * 2
    assert firewall.failures == 2 * failures


@pytest.mark.requirement("FWRL-1-01")
def test_a_layer_that_fails_at_an_end_condemns_the_connection() -> None:
    layer = Says(FlowEnded, "what?")
    firewall, one = firewall_of(POLICY, now=0, layers=(layer,)), account()
    firewall.flows.open(one)
    firewall.pass_on(one, 9)
    firewall.tell(one, "closed", 5)
    firewall.flows.close(one)
    (hook,) = layer.hooks
    assert isinstance(hook, FlowEnded)
    assert (hook.flow, hook.what, hook.joules.in_uj, hook.now) == (one.name, "closed", 9, 5)
    assert firewall.condemned == {"192.0.2.1:5"}


@pytest.mark.requirement("FWRL-1-01")
def test_a_layer_that_does_not_take_a_second_shuts_the_firewall_until_it_takes_one() -> None:
    layer = Says(SecondPassed, RuntimeError("no"))
    firewall = firewall_of(POLICY, now=0, layers=(layer,), stored={"main": 5})
    screen = Rejudged(firewall)
    for second in (1, 2):
        firewall.tick(second * NS_PER_S)
    assert firewall.is_shut
    assert firewall.judge(account(), NEW, 2 * NS_PER_S).verdict == Drop()
    (hook, _) = layer.hooks
    assert isinstance(hook, SecondPassed)
    assert hook.stored_uj == {"main": 5}
    layer.answer = None
    firewall.tick(3 * NS_PER_S)
    assert not firewall.is_shut
    # judged again when it shut and when it opened
    assert screen.times == [NS_PER_S, 3 * NS_PER_S]
    assert firewall.judge(account(), NEW, 3 * NS_PER_S).verdict == Accept()


def test_marks_of_energy_are_those_of_the_policy() -> None:
    firewall = firewall_of("policy drop\nrule energy >= 5J -> drop", now=0)
    assert firewall.energy_marks_uj == (5 * J,)


# ---- names and sources --------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-05")
def test_a_source_has_a_share_of_the_harvests() -> None:
    firewall = firewall_of(POLICY, now=0)
    for _ in range(SOURCE_MAX):
        assert firewall.too_many("a") is None
        firewall.count_harvest("a", 1)
    assert firewall.too_many("a") == Refusal(Reason.LIMIT, SOURCE_MAX + 1, SOURCE_MAX)
    assert firewall.too_many("b") is None
    firewall.count_harvest("a", -SOURCE_MAX)
    assert (firewall.too_many("a"), firewall.harvests) == (None, 0)


@pytest.mark.requirement("FWRL-1-04")
def test_of_attackers_the_ledger_knows_the_first_ones_by_name() -> None:
    firewall = firewall_of(POLICY, now=0)
    names = [firewall.known_as(str(number)) for number in range(BOOKED_MAX + 2)]
    assert names == [*map(str, range(BOOKED_MAX)), OTHERS, OTHERS]
    assert firewall.known_as("0") == "0"
