"""Tests that stand in the policy they are about: facts, and the verdict that is expected of them."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from powertcp.errors import nearest
from powertcp.profile import Waveform
from powertcp.reclaim import policy_values as values
from powertcp.reclaim.policy import Accept, Case, Decision, Expected, KeySet, Policy, Reclaim
from powertcp.reclaim.policy_facts import UNKNOWN, Facts, State, Way
from powertcp.reclaim.policy_lines import Statement, Word, parsed, refuse
from powertcp.reclaim.policy_match import CHOICES, NUMBERS
from powertcp.reclaim.policy_rules import (
    ARROW,
    MATCHES,
    Names,
    Spoiled,
    modified,
    parse_modifiers,
    parse_verdict,
)
from powertcp.vppn.faults import shown

_LINE: Final = "line"
_PEER: Final = f"@NAME, a name in a set of keys, {values.KEY} or {UNKNOWN}"
_CHOSEN: Final[Mapping[str, Mapping[str, object]]] = {
    "state": {state.value: state for state in State},
    "sealed": {"yes": True, "no": False},
    "direction": {way.value: way for way in Way},
    "waveform": {shape.name.lower().replace("_", "-"): shape for shape in Waveform},
}
_READ: Final[Mapping[str, tuple[str, str, Callable[[str], object]]]] = {
    "src": ("src", values.ADDRESS, values.parse_address),
    "dst": ("dst", values.ADDRESS, values.parse_address),
    "entity": ("entity", values.ENTITY, values.parse_octets),
    "feed": ("feed", values.FEED, values.parse_octets),
    "time": ("minute", values.CLOCK, values.parse_moment),
}


class Outcome(NamedTuple):
    """What became of a test statement. differences: "expected .., found ..", () is as expected."""

    case: Case
    decision: Decision
    differences: tuple[str, ...]


def run_cases(policy: Policy) -> tuple[Outcome, ...]:
    """Evaluate the test statements of a policy, in its order."""
    found = []
    for case in policy.tests:
        decision = policy.evaluate(case.facts)
        found.append(Outcome(case, decision, tuple(_differences(case.expected, decision))))
    return tuple(found)


def _differences(expected: Expected, decision: Decision) -> list[str]:
    said = []
    if wanted := _verdict(expected, decision):
        said.append(wanted)
    line = expected.rule_line
    if line is not None and line != decision.line:
        said.append(f"expected line {line}, found line {decision.line}")
    rule = decision.rule
    if expected.is_logging and not decision.is_logging:
        said.append("expected log, found a verdict without it")
    counter = rule.counter if rule else None
    if expected.counter is not None and expected.counter != counter:
        said.append(f"expected count {expected.counter}, found {counter or 'no counter'}")
    return said


def _verdict(expected: Expected, decision: Decision) -> str:
    """Return how the verdicts differ in what is expected of them, "" if they do not."""
    wanted, found = expected.verdict, decision.verdict
    if isinstance(found, Accept | Reclaim):
        # what is not written is not expected
        limit_mw = found.limit_mw if expected.has_limit else None
        burst_uj = found.burst_uj if expected.has_burst else None
        if isinstance(found, Accept):
            seen: object = Accept(limit_mw, burst_uj, found.is_marking and expected.is_marking)
        else:
            seen = Reclaim(found.reservoir, limit_mw, burst_uj)
    else:
        seen = found
    return "" if seen == wanted else f"expected {wanted}, found {found}"


# ---- parsing ------------------------------------------------------------------------------------


def parse_case(statement: Statement, names: Names) -> Case:
    """Parse a test statement; its first word is taken."""
    fields: dict[str, object] = {}
    seen: set[str] = set()
    while True:
        word = statement.take("WORD=VALUE", ARROW)
        if word.text == ARROW and not word.is_quoted:
            break
        _fact(word, names, fields, seen)
    verdict, _ = parse_verdict(statement, names)
    modifiers = parse_modifiers(statement, (_LINE,))
    rule_line = None
    if not statement.is_over:
        statement.take()
        rule_line = statement.value("the number of a line", _parse_line)
    statement.finish()
    verdict = modified(verdict, modifiers)
    has_burst = "burst" in modifiers.places
    if not has_burst and isinstance(verdict, Reclaim):
        verdict = Reclaim(verdict.reservoir, verdict.limit_mw)
    elif not has_burst and isinstance(verdict, Accept):
        verdict = Accept(verdict.limit_mw, None, verdict.is_marking)
    expected = Expected(
        verdict=verdict,
        has_limit="limit" in modifiers.places,
        has_burst=has_burst,
        is_marking="mark-ece" in modifiers.places,
        is_logging="log" in modifiers.places,
        counter=modifiers.counter,
        rule_line=rule_line,
    )
    facts = Facts(**fields)  # type: ignore[arg-type]
    return Case(line=statement.line, text=statement.text, facts=facts, expected=expected)


def _parse_line(text: str) -> int:
    if not (text.isdecimal() and len(text) <= 7):
        raise ValueError(f"a line is a number, got {shown(text)}")
    return int(text)


def _fact(word: Word, names: Names, fields: dict[str, object], seen: set[str]) -> None:
    name, equals, text = word.text.partition("=")
    if name not in MATCHES or word.is_quoted:
        hint = nearest(name, MATCHES)
        expected = [f"{known}=VALUE" for known in MATCHES]
        refuse(word, f"{shown(name)} is no fact{hint}", *expected, ARROW)
    if not equals or not text:
        refuse(word.part(name, len(name)), f"{name} needs a value", f"{name}=VALUE")
    if name in seen:
        refuse(word, f"{name} stands twice", "another fact", ARROW)
    seen.add(name)
    value = word.part(text, len(name) + 1)
    if name in _CHOSEN:
        known = _CHOSEN[name]
        if text not in known:
            refuse(value, f"{shown(text)} is no {name}{nearest(text, known)}", *known)
        fields[CHOICES[name]] = known[text]
    elif name in NUMBERS:
        quantity = values.NUMBERS[name]
        fields[NUMBERS[name]] = parsed(value, quantity.expected, quantity.parse)
    elif name in _READ:
        field, expects, parse = _READ[name]
        fields[field] = parsed(value, expects, parse)
    elif name == "tariff":
        price = parsed(value, values.PRICE, values.parse_price)
        fields["tariff_micro"], fields["currency"] = price
    else:
        fields["peer"] = _peer(value, names)


def _peer(word: Word, names: Names) -> bytes | None:
    """Return the key that a test means: of a set the first, of a name the first that has it."""
    text = word.text
    if text == UNKNOWN:
        return None
    if text.startswith("x25519:"):
        return parsed(word, _PEER, values.parse_key)
    if text.startswith("@"):
        keys = names.set_of(word, KeySet).keys
        if not keys:
            refuse(word, f"the set {text[1:]} has no key", _PEER)
        return keys[0].key
    if any(one is None for one in names.sets.values()):
        raise Spoiled
    every = [key for one in names.sets.values() if isinstance(one, KeySet) for key in one.keys]
    found = next((bound.key for bound in every if bound.name == text), None)
    if found is None:
        called = [bound.name for bound in every if bound.name]
        refuse(word, f"no key is called {shown(text)}{nearest(text, called)}", _PEER)
    return found
