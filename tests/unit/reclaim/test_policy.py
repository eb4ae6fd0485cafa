"""The policy of the reclaim firewall: the first matching rule decides, and says why."""

from ipaddress import ip_address

import pytest

from powertcp.reclaim.policy import (
    Accept,
    Drop,
    Facts,
    Infrastructure,
    Policy,
    Reclaim,
    Reject,
    State,
    Verdict,
    Way,
    said,
)
from powertcp.reclaim.policy_text import parse_policy
from powertcp.registry import Reason
from powertcp.sources.reservoir import ReservoirTerms
from tests.policies import ALICE, BOB, CAROL, EXAMPLE, MALLORY, load, name_of, rules

INSIDE = ip_address("10.0.0.7")
MAPPED = ip_address("::ffff:10.0.0.7")
OUTSIDE = ip_address("192.0.2.1")
# within 2026, before and after the line of the third key ends
NOW, LATER = 1_790_000_000, 1_800_000_000

JUDGED: list[tuple[Facts, int, Verdict]] = [
    (Facts(), 6, Reclaim("main")),
    (Facts(state=State.INVALID, is_sealed=True, peer=ALICE), 7, Reject(Reason.STATE)),
    (Facts(is_sealed=True, peer=ALICE), 8, Accept()),
    (Facts(is_sealed=True, peer=MALLORY), 9, Drop()),
    (Facts(is_sealed=True, peer=bytes(32)), 9, Drop()),
    (Facts(is_sealed=True), 9, Drop()),
    (Facts(is_sealed=False, peer=ALICE), 6, Reclaim("main")),
    (Facts(is_sealed=True, peer=CAROL, unix_s=NOW), 8, Accept()),
    (Facts(is_sealed=True, peer=CAROL, unix_s=LATER), 9, Drop()),
    (Facts(is_sealed=True, peer=CAROL), 9, Drop()),
    (Facts(way=Way.IN, state=State.NEW, power_mw=500_001), 10, Reject(Reason.WATT_LIMIT)),
    (Facts(way=Way.IN, state=State.NEW, power_mw=500_000), 6, Reclaim("main")),
    (Facts(way=Way.IN, state=State.NEW), 6, Reclaim("main")),
    (Facts(state=State.UNSOLICITED), 11, Reclaim("main", 1_000_000, 2_000_000_000)),
    (Facts(way=Way.OUT, voltage_mv=206_999, priority=9), 12, Reject(Reason.VOLTAGE_RANGE)),
    (Facts(way=Way.OUT, voltage_mv=207_000, priority=9), 15, Accept(100_000, 200_000_000)),
    (Facts(way=Way.OUT, voltage_mv=132_001, priority=15), 12, Reject(Reason.VOLTAGE_RANGE)),
    (Facts(way=Way.OUT, voltage_mv=12_000, priority=8), 15, Accept(100_000, 200_000_000)),
    (Facts(way=Way.OUT, priority=9), 15, Accept(100_000, 200_000_000)),
    (Facts(tariff_micro=400_001, currency="EUR"), 13, Reject(Reason.TARIFF)),
    (Facts(tariff_micro=400_000, currency="EUR"), 6, Reclaim("main")),
    (Facts(tariff_micro=900_000, currency="USD"), 6, Reclaim("main")),
    (Facts(tariff_micro=900_000), 6, Reclaim("main")),
    (Facts(src=INSIDE, dst=ip_address("fd00::1")), 14, Accept()),
    (Facts(src=MAPPED, dst=INSIDE), 14, Accept()),
    (Facts(src=INSIDE, dst=OUTSIDE), 6, Reclaim("main")),
    (Facts(src=INSIDE), 6, Reclaim("main")),
    (Facts(load_percent=91), 16, Accept(is_marking=True)),
    (Facts(load_percent=90), 6, Reclaim("main")),
]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(EXAMPLE)


@pytest.mark.requirement("FWRL-3-01")
@pytest.mark.parametrize(("facts", "line", "verdict"), JUDGED, ids=range(len(JUDGED)))
def test_the_first_matching_rule_decides(
    policy: Policy, facts: Facts, line: int, verdict: Verdict
) -> None:
    decision = policy.evaluate(facts)
    assert (decision.line, decision.verdict) == (line, verdict)
    assert decision.place == f"firewall.policy:{line}"


@pytest.mark.requirement("FWRL-3-01")
@pytest.mark.parametrize(("facts", "line", "verdict"), JUDGED, ids=range(len(JUDGED)))
def test_a_trace_says_of_each_rule_what_failed(
    policy: Policy, facts: Facts, line: int, verdict: Verdict
) -> None:
    steps = policy.trace(facts)
    assert [step.rule.number for step in steps] == list(range(len(steps)))
    assert all(step.failed in step.rule.matches and step.seen for step in steps[:-1])
    if line == policy.default_line:
        assert steps[-1].failed is not None
        assert len(steps) == len(policy.rules)
    else:
        assert (steps[-1].failed, steps[-1].rule.line) == (None, line)


def test_a_decision_names_rule_and_values(policy: Policy) -> None:
    facts = Facts(state=State.NEW, way=Way.IN, power_mw=1_000_000, voltage_mv=230_000)
    decision = policy.evaluate(facts)
    assert decision.text == "rule direction in state new power > 500W -> reject 204 log"
    assert decision.values == (("direction", "in"), ("state", "new"), ("power", "1 kW"))
    assert decision.is_logging
    failed = policy.trace(facts)[0]
    assert (failed.failed and failed.failed.text, failed.seen) == ("state invalid", "new")


def test_the_policy_statement_decides_when_no_rule_does(policy: Policy) -> None:
    decision = policy.evaluate(Facts())
    assert (decision.rule, decision.text) == (None, "policy reclaim main")
    assert (decision.values, decision.is_logging) == ((), False)


@pytest.mark.requirement("FWRL-1-01")
def test_a_policy_that_says_nothing_drops() -> None:
    decision = Policy(file="none").evaluate(Facts(state=State.NEW, is_sealed=False))
    assert (decision.verdict, decision.line) == (Drop(), 0)
    assert decision.text == "no policy statement: drop"


def test_what_else_a_policy_says(policy: Policy) -> None:
    assert policy.reservoirs == {
        "main": ReservoirTerms(
            name="main",
            capacity_uj=18_000_000_000_000,
            charge_percent=95,
            discharge_percent=95,
            leak_uw=50_000,
            max_in_mw=2_000_000,
            max_out_mw=1_000_000,
            floor_percent=10,
            is_stopping=True,
        )
    }
    assert policy.infrastructure == Infrastructure(
        line=18, reservoir="main", power_mw=None, share_percent=50
    )
    (lend,) = policy.lends
    assert (lend.reservoir, lend.above_percent, lend.announce) == ("main", 20, "reclaimed power")
    assert (lend.offer.format(), lend.host, lend.port) == ("12V/5A,prio=5", "::", 3251)
    assert policy.rules[4].counter == "attacks"
    assert list(policy.sets) == ["trusted", "mains", "inside"]


def test_who_is_inside(policy: Policy) -> None:
    assert [policy.is_inside(one) for one in (INSIDE, MAPPED, OUTSIDE)] == [True, True, False]
    assert rules("").is_inside(INSIDE) is None
    assert rules("set inside voltage 1V\n").is_inside(INSIDE) is None


BOUND = [
    ("10.1.1.1", ALICE),
    ("10.1.2.1", BOB),
    ("::ffff:10.1.2.1", BOB),
    ("fd00::1", BOB),
    ("10.2.0.1", None),
    ("10.3.0.1", CAROL),
    ("fe80::1", None),
]


@pytest.mark.parametrize(("address", "key"), BOUND)
def test_the_key_that_is_bound_to_an_address(
    policy: Policy, address: str, key: bytes | None
) -> None:
    assert policy.peer_at(ip_address(address), NOW) == key
    assert policy.peer_at(ip_address(address), NOW, "trusted") == key
    assert policy.peer_at(ip_address(address), NOW, "inside") is None
    assert policy.peer_at(ip_address(address), NOW, "nobody") is None


def test_a_line_that_has_ended_binds_no_address(policy: Policy) -> None:
    assert policy.peer_at(ip_address("10.3.0.1"), LATER) is None
    assert policy.peer_at(ip_address("10.3.0.1")) is None


def test_of_networks_of_one_size_two_keys_are_none() -> None:
    def bound(*keys: bytes) -> bytes | None:
        lines = [f"key {name_of(key)} max-power=1W from=10.0.0.0/8,10.1.0.0/16\n" for key in keys]
        octets = "".join(lines).encode()
        policy = parse_policy(b"set a keys x\npolicy drop\n", "p", lambda _: octets)
        return policy.peer_at(ip_address("10.1.0.1"))

    assert [bound(ALICE), bound(ALICE, ALICE), bound(ALICE, BOB)] == [ALICE, ALICE, None]
    assert bound(ALICE, BOB, ALICE) is None


def test_what_the_engine_has_to_watch(policy: Policy) -> None:
    assert (policy.energy_marks_uj, policy.watches_load, policy.watches_time) == ((), True, True)
    marked = rules(
        "rule energy > 10J energy <= 1kJ -> accept\n"
        "rule energy >= 5J energy != 10J -> drop\n"
        "rule energy < 2J -> accept\n"
        "rule energy = 1uJ load <= 1% -> accept"
    )
    assert marked.energy_marks_uj == (
        1, 2, 2_000_000, 5_000_000, 10_000_000, 10_000_001, 1_000_000_001,
    )  # fmt: skip
    assert (marked.watches_load, marked.watches_time) == (True, False)
    for text in ("rule time 01:00-02:00 -> accept", "rule peer unknown -> drop"):
        assert rules(text).watches_time is ("time" in text)
        assert not rules(text).watches_load


def test_all_that_is_known_of_facts() -> None:
    facts = Facts(
        state=State.NEW, way=Way.OUT, is_sealed=True, peer=ALICE, src=INSIDE, voltage_mv=12_000,
        current_ma=40, power_mw=480, energy_uj=3_000_000, priority=8, frequency_chz=1_670,
        tariff_micro=-50_000, currency="EUR", load_percent=7, minute=61, feed=bytes(16),
    )  # fmt: skip
    assert said(facts) == (
        ("state", "new"),
        ("sealed", "yes"),
        ("direction", "out"),
        ("peer", "x25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("src", "10.0.0.7"),
        ("voltage", "12 V"),
        ("current", "40 mA"),
        ("power", "480 mW"),
        ("energy", "3 J"),
        ("priority", "8"),
        ("frequency", "16.7 Hz"),
        ("tariff", "-0.05 EUR/kWh"),
        ("load", "7 %"),
        ("time", "01:01"),
        ("feed", "00" * 16),
    )
    assert said(Facts()) == ()


def test_more_rules_than_one_block_of_the_index_holds() -> None:
    text = "".join(f"rule power = {watts}W sealed no -> accept\n" for watts in range(1, 2_501))
    policy = rules(text)
    for watts in (1, 1_024, 1_025, 2_048, 2_049, 2_500):
        assert policy.evaluate(Facts(power_mw=watts * 1000, is_sealed=False)).line == watts
        assert policy.evaluate(Facts(power_mw=watts * 1000, is_sealed=True)).line == 2_502
        assert policy.evaluate(Facts(power_mw=watts * 1000 + 1, is_sealed=False)).line == 2_502
