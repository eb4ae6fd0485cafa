"""Random policies against an evaluator of their own model, and mutated ones, which open nothing.

The model is made first, as values and plain comparisons; its text is what the parser gets. Nothing of
the evaluator below knows how the package reads or looks up a rule.
"""

import operator
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from powertcp.profile import Waveform
from powertcp.reclaim.policy import Accept, Facts, Policy, Reclaim, Reject, State, Verdict, Way
from powertcp.reclaim.policy_lines import MAX_FAULTS, PolicyError
from tests.full import size
from tests.policies import ALICE, BOB, CAROL, EXAMPLE, MALLORY, load, name_of

SIGNS: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
# field of Facts, values about which rules ask, units by the power of ten of the base unit
NUMBERS: dict[str, tuple[str, list[int], dict[str, int]]] = {
    "voltage": ("voltage_mv", [0, 5_000, 12_000, 99_500, 230_000], {"mV": 0, "V": 3, "kV": 6}),
    "current": ("current_ma", [0, 40, 1_000, 16_000], {"mA": 0, "A": 3}),
    "power": ("power_mw", [1, 500_000, 1_000_000, 3_600_000], {"mW": 0, "W": 3, "kW": 6, "MW": 9}),
    "energy": ("energy_uj", [1, 10**6, 10**9, 36 * 10**8], {"uJ": 0, "mJ": 3, "J": 6, "kJ": 9}),
    "priority": ("priority", [1, 2, 8, 14, 15], {"": 0}),
    "frequency": ("frequency_chz", [0, 1_670, 5_000, 6_000], {"cHz": 0, "Hz": 2, "kHz": 5}),
    "load": ("load_percent", [0, 50, 90, 100], {"%": 0}),
}
SETS = """\
set low voltage 0V-12V 24V
set mains voltage 207V-253V 99V-132V
set inside net 10.0.0.0/8 fd00::/8
set lab net 10.1.2.0/24 192.0.2.7
set trusted keys authorized_watts
reservoir main capacity 5kWh
reservoir spare capacity 1Wh
"""
RANGES = {"low": [(0, 12_000), (24_000, 24_000)], "mains": [(207_000, 253_000), (99_000, 132_000)]}
NETS = {"inside": ["10.0.0.0/8", "fd00::/8"], "lab": ["10.1.2.0/24", "192.0.2.7/32"]}
ADDRESSES = [
    "10.0.0.1", "10.1.2.3", "192.0.2.7", "192.0.2.8", "fd00::1", "fe80::1", "::ffff:10.1.2.9",
]  # fmt: skip
KEYS = [ALICE, BOB, CAROL, MALLORY, bytes(32)]
# when the line of the third key ends
CAROL_UNTIL = 1_798_761_600
UUIDS = [bytes(16), bytes(range(16))]
TIMES = [0, 60, 719, 720, 1_380, 1_439]


@dataclass
class Match:
    """name: what tells it from others. holds: of the raw facts; .get gives None if unknown."""

    word: str
    text: str
    name: tuple[object, ...]
    holds: Callable[[dict[str, Any]], bool]


@dataclass
class Model:
    """A policy as values. rules: line, matches, verdict. text: what the parser gets."""

    text: str = SETS
    rules: list[tuple[int, list[Match], tuple[object, ...]]] = field(default_factory=list)
    default: tuple[int, tuple[object, ...]] = (0, ())

    def judge(self, facts: dict[str, Any]) -> tuple[int, tuple[object, ...]]:
        """Return line and verdict."""
        for line, matches, verdict in self.rules:
            if all(match.holds(facts) for match in matches):
                return line, verdict
        return self.default


# ---- making a model -----------------------------------------------------------------------------


def quantity(dice: random.Random, value: int, units: dict[str, int]) -> str:
    """Write `value` in a random unit, with the decimals it needs."""
    unit, exponent = dice.choice(list(units.items()))
    digits = str(value).rjust(exponent + 1, "0")
    if not exponent:
        return f"{digits}{unit}"
    whole, part = digits[:-exponent], digits[-exponent:].rstrip("0")
    return f"{whole}.{part}{unit}" if part else f"{whole}{unit}"


def number(dice: random.Random, word: str) -> Match:
    name, values, units = NUMBERS[word]
    sign, value = dice.choice(list(SIGNS)), dice.choice(values)
    text = f"{word} {sign} {quantity(dice, value, units)}"

    def holds(facts: dict[str, Any]) -> bool:
        found = facts.get(name)
        return found is not None and SIGNS[sign](found, value)

    return Match(word, text, (word, sign, value), holds)


def voltage_set(dice: random.Random, _: str) -> Match:
    name, sign = dice.choice(list(RANGES)), dice.choice(["=", "!="])

    def holds(facts: dict[str, Any]) -> bool:
        found = facts.get("voltage_mv")
        if found is None:
            return False
        inside = any(found in range(least, most + 1) for least, most in RANGES[name])
        return inside if sign == "=" else not inside

    return Match("voltage", f"voltage {sign} @{name}", ("voltage", sign, name), holds)


def choice(dice: random.Random, word: str) -> Match:
    name, texts = {
        "state": ("state", {one.value: one for one in State}),
        "direction": ("way", {"in": Way.IN, "out": Way.OUT}),
        "sealed": ("is_sealed", {"yes": True, "no": False}),
        "entity": ("entity", {one.hex(): one for one in UUIDS}),
        "feed": ("feed", {one.hex(): one for one in UUIDS}),
    }[word]
    text, value = dice.choice(list(texts.items()))  # type: ignore[attr-defined]
    return Match(word, f"{word} {text}", (word, text), lambda facts: facts.get(name) == value)


def waveform(dice: random.Random, word: str) -> Match:
    text = dice.choice(["dc", "ac", "any"])

    def holds(facts: dict[str, Any]) -> bool:
        found = facts.get("waveform")
        return found is not None and (text == "any" or (found == Waveform.DC) is (text == "dc"))

    return Match(word, f"waveform {text}", (word, text), holds)


def network(dice: random.Random, word: str) -> Match:
    name = dice.choice([*NETS, "10.0.0.0/16", "::/0", "0.0.0.0/0"])
    nets = [ip_network(one) for one in NETS.get(name, [name])]

    def holds(facts: dict[str, Any]) -> bool:
        found = facts.get(word)
        if found is None:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(net.version == found.version and found in net for net in nets)

    text = f"{word} @{name}" if name in NETS else f"{word} {name}"
    return Match(word, text, (word, name), holds)


def peer(dice: random.Random, word: str) -> Match:
    kind = dice.choice(["unknown", "@trusted", *KEYS])

    def holds(facts: dict[str, Any]) -> bool:
        found = facts.get("peer")
        if kind == "unknown":
            return found is None
        if kind == "@trusted":
            until_s = CAROL_UNTIL if facts.get("unix_s") is not None else 0
            in_time = bool((facts.get("unix_s") or 0) < until_s)
            return found in (ALICE, BOB) or (found == CAROL and in_time)
        return bool(found == kind)

    text = name_of(kind) if isinstance(kind, bytes) else kind
    return Match(word, f"peer {text}", (word, kind), holds)


def tariff(dice: random.Random, word: str) -> Match:
    sign, micro, currency = dice.choice(list(SIGNS)), dice.choice([-50_000, 0, 400_000]), "EUR"
    currency = dice.choice(["EUR", "EUR", "USD"])

    def holds(facts: dict[str, Any]) -> bool:
        found = facts.get("tariff_micro")
        return facts.get("currency") == currency and found is not None and SIGNS[sign](found, micro)

    amount = {-50_000: "-0.05", 0: "0", 400_000: "0.40"}[micro]
    return Match(word, f"tariff {sign} {amount}{currency}", (word, sign, micro, currency), holds)


def time(dice: random.Random, word: str) -> Match:
    first, end = dice.sample(TIMES, 2)

    def holds(facts: dict[str, Any]) -> bool:
        found = facts.get("minute")
        if found is None:
            return False
        return bool((found - first) % 1440 < (end - first) % 1440)

    text = "-".join(f"{one // 60:02}:{one % 60:02}" for one in (first, end))
    return Match(word, f"time {text}", (word, first, end), holds)


MAKERS: list[tuple[str, Callable[[random.Random, str], Match]]] = [
    *((word, number) for word in NUMBERS),
    *((word, choice) for word in ("state", "state", "direction", "sealed", "entity", "feed")),
    ("voltage", voltage_set), ("waveform", waveform), ("peer", peer), ("tariff", tariff),
    ("src", network), ("dst", network), ("time", time),
]  # fmt: skip
# every number that can tell the matches of one word apart
PROBES = {
    word: [value + step for value in values for step in (-1, 0, 1)] + [-(10**12), 10**12]
    for word, (_, values, _) in NUMBERS.items()
} | {"tariff": [-50_001, -50_000, -49_999, -1, 0, 1, 399_999, 400_000, 400_001]}
PROBES["voltage"] += [99_000, 150_000, 207_000, 12_001, 24_000, 24_001, 300_000]
PROBES["priority"] = list(range(1, 16))


def can_hold(matches: list[Match]) -> bool:
    """Return whether some number is all that the matches of one word ask for."""
    word = matches[0].word
    name = "tariff_micro" if word == "tariff" else NUMBERS[word][0]
    currency = matches[0].name[-1]
    facts = [{name: value, "currency": currency} for value in PROBES[word]]
    return any(all(match.holds(one) for match in matches) for one in facts)


def matches_of_a_rule(dice: random.Random, *, is_one_of_many: bool) -> list[Match]:
    """Return matches that a rule may have together; few when there are few rules."""
    found: list[Match] = []
    for _ in range(dice.choice([4, 5, 6] if is_one_of_many else [1, 1, 2, 2, 2, 3, 4])):
        word, make = dice.choice(MAKERS)
        match = make(dice, word)
        same = [other for other in found if other.word == word]
        if word in PROBES:
            if not can_hold([*same, match]) or len(same) == 4:
                continue
            if word == "tariff" and any(it.name[-1] != match.name[-1] for it in same):
                continue
        elif same:
            continue
        found.append(match)
    return found


def verdict_of(dice: random.Random) -> tuple[str, tuple[object, ...]]:
    """Return the text of a verdict, and its value."""
    kind = dice.choice(["accept", "accept", "drop", "reject", "reclaim"])
    if kind == "drop":
        return "drop", ("drop",)
    if kind == "reject":
        code = dice.choice([100, 206, 506])
        return f"reject {code}", ("reject", code)
    name = dice.choice(["main", "spare"])
    text, limit, burst = f"reclaim {name}" if kind == "reclaim" else "accept", None, None
    if dice.random() < 0.5:
        limit = burst = dice.choice([1, 500, 1_000, 2_500_000])
        burst *= 2_000
        text += f" limit {quantity(dice, limit, {'mW': 0, 'W': 3, 'kW': 6})}"
        if dice.random() < 0.5:
            burst = dice.choice([1, 2_000_000, 3_500_000_000])
            text += f" burst {quantity(dice, burst, {'uJ': 0, 'J': 6, 'kJ': 9})}"
    if kind == "reclaim":
        return text, ("reclaim", name, limit, burst)
    marking = dice.random() < 0.3
    return text + " mark-ece" * marking, ("accept", limit, burst, marking)


def value_of(verdict: Verdict) -> tuple[object, ...]:
    """Return a verdict as the model has it."""
    match verdict:
        case Accept():
            return "accept", verdict.limit_mw, verdict.burst_uj, verdict.is_marking
        case Reject():
            return "reject", verdict.code.value
        case Reclaim():
            return "reclaim", verdict.reservoir, verdict.limit_mw, verdict.burst_uj
        case _:
            return ("drop",)


def model_of(dice: random.Random, rules: int) -> Model:
    """Return a random policy of up to so many rules, none of which hides another."""
    model = Model()
    lines = model.text.splitlines()
    seen: list[set[tuple[object, ...]]] = []
    for _ in range(rules):
        matches = matches_of_a_rule(dice, is_one_of_many=rules > 100)
        asked = {match.name for match in matches}
        if not matches or any(other <= asked for other in seen):
            continue
        seen.append(asked)
        text, verdict = verdict_of(dice)
        words = ["rule", *(match.text for match in matches), "->", text]
        line = dice.choice([" ", "  ", "\t", " \\\n    "]).join(words)
        line += dice.choice(["", " log", " count hits", "   # why"])
        at = sum(one.count("\n") + 1 for one in lines) + 1
        model.rules.append((at, matches, verdict))
        lines.append(line)
        lines += [""] * (dice.random() < 0.1) + ["# more"] * (dice.random() < 0.1)
    text, verdict = dice.choice(
        [("accept", ("accept", None, None, False)), ("drop", ("drop",)), ("reject 206", ("reject", 206)),
         ("reclaim main", ("reclaim", "main", None, None))]
    )  # fmt: skip
    model.default = sum(one.count("\n") + 1 for one in lines) + 1, verdict
    model.text = "\n".join([*lines, f"policy {text}", ""])
    return model


def facts_of(dice: random.Random) -> dict[str, Any]:
    """Return random facts, near what rules ask for; a field that is not there is not known."""
    every: dict[str, list[Any]] = {
        "state": list(State), "way": list(Way), "is_sealed": [True, False], "peer": KEYS,
        "src": [ip_address(one) for one in ADDRESSES], "dst": [ip_address(one) for one in ADDRESSES],
        "entity": [*UUIDS, bytes(15) + b"\1"], "feed": UUIDS, "waveform": list(Waveform),
        "tariff_micro": PROBES["tariff"], "currency": ["EUR", "EUR", "USD", "CHF"],
        "minute": [*TIMES, 1, 59, 718, 721, 900], "unix_s": [CAROL_UNTIL - 1, CAROL_UNTIL],
    }  # fmt: skip
    every |= {name: PROBES[word] for word, (name, _, _) in NUMBERS.items()}
    unknown = dice.choice([0.0, 0.2, 0.8])
    return {name: dice.choice(some) for name, some in every.items() if dice.random() >= unknown}


# ---- what must hold -----------------------------------------------------------------------------


def compare(dice: random.Random, rules: int, flows: int) -> set[int]:
    """Compare one policy with its model; returns the lines that decided."""
    model = model_of(dice, rules)
    policy = load(model.text)
    again = load("\n".join([SETS, *(rule.text for rule in policy.rules), policy.default_text]))
    assert [rule.line for rule in policy.rules] == [line for line, _, _ in model.rules]
    lines = set()
    for _ in range(flows):
        raw = facts_of(dice)
        facts = Facts(**raw)
        decision = policy.evaluate(facts)
        assert (decision.line, value_of(decision.verdict)) == model.judge(raw)
        same = again.evaluate(facts)
        assert (same.verdict, same.values) == (decision.verdict, decision.values)
        assert (same.rule and same.rule.number) == (decision.rule and decision.rule.number)
        last = policy.trace(facts)[-1:]
        assert [step.rule for step in last if step.failed is None] == (
            [decision.rule] if decision.rule else []
        )
        lines.add(decision.line)
    return lines


@pytest.mark.requirement("FWRL-3-01", "FWRL-3-10", "FWRL-3-05")
def test_random_policies_decide_as_their_model_does() -> None:
    dice = random.Random(3251)
    decided = [compare(dice, dice.choice([1, 3, 10, 40]), 50) for _ in range(size(80, 1_960))]
    # it proves nothing when one rule decides all
    assert sum(map(len, decided)) > 4 * len(decided)
    # more rules than one block of the index holds
    far = [max(compare(dice, 1_500, 200)) for _ in range(size(1, 10))]
    assert max(far) > 1_200


# ---- mutations ----------------------------------------------------------------------------------

VOCABULARY = [
    "policy", "accept", "drop", "rule", "->", "reject", "206", "reclaim", "main", "set", "net", "voltage",
    "reservoir", "@mains", "@nobody", "!=", ">", "500W", "1kWh", "#", "\\", '"', "limit", "burst", "log",
    "test", "state=new", "line", "-1", "99999999999999999999W", "x25519:", "\u0661V", "\t", "\r", "\0",
]  # fmt: skip
SAYS = re.compile(r"policy(?:[ \t]+|\\\n)+(accept|drop|reject|reclaim)(?=[ \t\n]|$)")


def mutated(dice: random.Random, text: str) -> str:
    """Return a text with some signs, words or lines gone, doubled, moved or put in."""
    for _ in range(dice.choice([1, 1, 2, 5])):
        lines = text.split("\n")
        at, sign = dice.randrange(len(lines)), dice.randrange(len(text) + 1)
        match dice.randrange(8):
            case 0:
                text = text[:sign] + text[sign + 1 :]
            case 1:
                text = text[:sign] + chr(dice.choice([dice.randrange(256), 32, 10])) + text[sign:]
            case 2:
                text = text[:sign] + dice.choice(VOCABULARY) + text[sign:]
            case 3:
                text = "\n".join([*lines[:at], *lines[at + 1 :]])
            case 4:
                text = "\n".join([*lines[:at], lines[at], *lines[at:]])
            case 5:
                words = lines[at].split(" ")
                words[dice.randrange(len(words))] = dice.choice(VOCABULARY)
                text = "\n".join([*lines[:at], " ".join(words), *lines[at + 1 :]])
            case 6:
                text = text[:sign]
            case _:
                words = lines[at].split()
                dice.shuffle(words)
                text = "\n".join([*lines[:at], " ".join(words), *lines[at + 1 :]])
    return text


def judged(dice: random.Random, text: str) -> Policy | None:
    """Load a text, whatever it is; check that it opens nothing that does not stand in it."""
    policy: Policy | None
    try:
        policy = load(text)
    except PolicyError as error:
        faults = error.faults
        policy = None
    if policy is None:
        assert 0 < len(faults) <= MAX_FAULTS
        assert all(fault.line > 0 and fault.column > 0 for fault in faults)
        assert all(fault.text and fault.expected for fault in faults)
        return None
    said = SAYS.findall(text)
    assert value_of(policy.default)[0] in said
    if isinstance(policy.default, Accept):
        assert "accept" in said
    accepting = sum(isinstance(rule.verdict, Accept) for rule in policy.rules)
    assert accepting <= len(re.findall("accept", text))
    for _ in range(3):
        facts = Facts(**facts_of(dice))
        decision = policy.evaluate(facts)
        passed = [step.rule for step in policy.trace(facts) if step.failed is None]
        assert passed == ([decision.rule] if decision.rule else [])
    return policy


@pytest.mark.requirement("FWRL-1-01", "FWRL-3-15")
def test_mutated_policies_load_or_are_refused_and_open_nothing() -> None:
    dice = random.Random(206)
    loaded = 0
    count = size(1_500, 10_000)
    for _ in range(count):
        text = EXAMPLE if dice.random() < 0.5 else model_of(dice, 6).text
        loaded += judged(dice, mutated(dice, text)) is not None
    assert count // 20 < loaded < count * 19 // 20


@pytest.mark.requirement("FWRL-1-01")
def test_octets_at_random_are_refused() -> None:
    dice = random.Random(500)
    for _ in range(size(300, 3_000)):
        words = [dice.choice(VOCABULARY) for _ in range(dice.randrange(40))]
        judged(dice, dice.choice([" ", "\n", ""]).join(words))
