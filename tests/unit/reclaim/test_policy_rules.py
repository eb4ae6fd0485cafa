"""Rules from words: what goes together, which rules are hidden, and where looking for it ends."""

import pytest

from powertcp.reclaim.policy import Accept, Drop, Facts, NetSet, Reclaim, Reject, VoltageSet
from powertcp.reclaim.policy_lines import Fault, PolicyError, Statement, Word, WrongWord, statements
from powertcp.reclaim.policy_match import Compare, From, Match, TimeOfDay
from powertcp.reclaim.policy_rules import (
    BURST_S,
    MAX_COMPARED,
    MAX_SAME,
    Names,
    Spoiled,
    modified,
    parse_matches,
    parse_modifiers,
    parse_verdict,
    unreached,
)
from powertcp.registry import Reason
from tests.policies import name_of, rules

NAMES = Names(
    {"mains": VoltageSet("mains", ((207_000, 253_000),)), "bad": None}, {"main": 1, "b": None}
)
HEAD = Word("rule", 1, 1)


def statement(text: str) -> Statement:
    (found,), faults = statements(text.encode(), "p")
    assert faults == []
    return found


def matches(text: str, names: Names = NAMES) -> tuple[Match, ...]:
    return parse_matches(statement(text), names)


def fault(text: str) -> Fault:
    with pytest.raises(WrongWord) as caught:
        matches(text)
    return caught.value.fault


# ---- matches ------------------------------------------------------------------------------------


def test_matches_end_with_the_arrow() -> None:
    found = matches("power > 500W time 22:00-06:00 -> drop")
    assert found == (Compare("power", "", ">", 500_000), TimeOfDay("time", "", 1_320, 360))
    assert [one.text for one in found] == ["power > 500W", "time 22:00-06:00"]
    assert matches("->") == ()


def test_every_kind_of_match() -> None:
    key, octets = name_of(bytes(32)), "0" * 32
    for text in (
        "state new", "sealed no", "direction out", f"peer {key}", "peer unknown", "src ::/0", "dst 10.0.0.1",
        f"entity {octets}", "voltage != @mains", "waveform ac", "tariff <= -0.05EUR", f"feed {octets}",
    ):  # fmt: skip
        (found,) = matches(f"{text} ->")
        assert (found.text, found.word) == (text, text.split()[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("voltage > @mains ->", "a voltage is in a set or not"),
        ("src @mains ->", "the set mains has voltages; expected a set of networks"),
        ("tariff > 1EUR tariff < 2USD ->", "a price has one currency"),
    ],
)
def test_what_cannot_be_asked_for(text: str, said: str) -> None:
    assert said in fault(text).text


def test_a_number_may_stand_four_times() -> None:
    text = "power > 1W power != 5W power != 6W power < 9W"
    assert len(matches(f"{text} ->")) == MAX_SAME
    assert fault(f"{text} power != 7W ->").text.startswith("power stands more than 4 times")
    assert fault("sealed yes sealed yes ->").text.startswith("sealed stands twice")


@pytest.mark.parametrize(
    "text",
    [
        "power > 1W power <= 1W",
        "power = 1W power != 1W",
        "voltage = @mains voltage < 207V",
        "voltage = @mains voltage != @mains",
        "priority < 1",
        "priority > 15",
        "tariff > 1EUR tariff < 1EUR",
    ],
)
def test_what_no_value_is_cannot_be_asked_for(text: str) -> None:
    said = fault(f"{text} ->").text
    assert "never holds" in said or "no value is all of" in said


@pytest.mark.parametrize(
    "text",
    [
        "power >= 1W power <= 1W",
        "voltage = @mains voltage <= 207V",
        "voltage != @mains voltage != 5V",
        "priority <= 1",
        "priority != 15",
        "tariff >= 1EUR tariff <= 1EUR",
    ],
)
def test_what_one_value_is_can(text: str) -> None:
    assert matches(f"{text} ->")


def test_long_sets_are_not_compared() -> None:
    def names(count: int) -> Names:
        ranges = tuple((2 * n, 2 * n) for n in range(1, count + 1))
        return Names({"v": VoltageSet("v", ranges)}, {})

    text = "voltage = @v voltage < 1mV ->"
    with pytest.raises(WrongWord, match="no value is all of"):
        matches(text, names(MAX_COMPARED))
    assert matches(text, names(MAX_COMPARED + 1))


def test_one_network_is_one_set() -> None:
    names = Names({}, {})
    one, other, third = (matches(f"src {net} ->", names)[0] for net in ("::/8", "::/8", "::/9"))
    assert isinstance(one, From)
    assert isinstance(one.networks, NetSet)
    assert one == other != third


def test_a_name_that_is_spoiled_spoils_what_names_it() -> None:
    for text in ("voltage = @bad ->", "src @bad ->", "peer @bad ->"):
        with pytest.raises(Spoiled):
            matches(text)
    with pytest.raises(Spoiled):
        NAMES.reservoir(statement("b"))
    assert NAMES.reservoir(statement("main")) == "main"


def test_a_name_that_is_none_without_any_says_what_would_make_it_one() -> None:
    empty = Names({}, {})
    with pytest.raises(WrongWord, match="expected a set of networks"):
        empty.set_of(Word("@n", 1, 1), NetSet)
    with pytest.raises(WrongWord, match="expected a reservoir statement of this name"):
        empty.reservoir(statement("main"))


# ---- verdicts -----------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-3-05")
def test_a_burst_is_two_seconds_of_its_limit_unless_it_is_written() -> None:
    assert BURST_S == 2
    for text, burst_uj in (("limit 100W", 200_000_000), ("limit 100W burst 1J", 1_000_000)):
        found = statement(f"accept {text}")
        verdict, _ = parse_verdict(found, NAMES)
        assert modified(verdict, parse_modifiers(found)) == Accept(100_000, burst_uj)


def test_verdicts() -> None:
    for text, verdict in (("reject 206", Reject(Reason.POLICY)), ("reclaim main", Reclaim("main"))):
        found, word = parse_verdict(statement(text), NAMES)
        assert (found, word.text) == (verdict, text.split()[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accept log log", "log stands twice"),
        ("accept burst 1J", "burst stands after its limit"),
        ("accept limit 0W", "it is above 0"),
        ("drop limit 1W", "limit does not go with drop"),
        ("reclaim main mark-ece", "mark-ece does not go with reclaim"),
    ],
)
def test_modifiers_that_do_not_go_together(text: str, said: str) -> None:
    found = statement(text)
    verdict, _ = parse_verdict(found, NAMES)
    with pytest.raises(WrongWord, match=said):
        modified(verdict, parse_modifiers(found))


def test_a_verdict_takes_what_goes_with_it() -> None:
    for text, verdict in (
        ("drop log", Drop()),
        ("reclaim main limit 1W burst 1J", Reclaim("main", 1_000, 1_000_000)),
        ("accept mark-ece", Accept(is_marking=True)),
    ):
        found = statement(text)
        assert modified(parse_verdict(found, NAMES)[0], parse_modifiers(found)) == verdict


def test_modifiers_end_where_something_else_may_follow() -> None:
    found = statement("log count a line 5")
    modifiers = parse_modifiers(found, ("line",))
    assert (list(modifiers.places), modifiers.counter) == (["log", "count"], "a")
    assert found.next == "line"
    with pytest.raises(WrongWord, match='"line" is no modifier'):
        parse_modifiers(statement("log line 5"))


# ---- rules that are hidden ----------------------------------------------------------------------


def hidden(*texts: str) -> list[int]:
    asked = [
        (Word("rule", line, 1), line, matches(f"{text} ->")) for line, text in enumerate(texts, 1)
    ]
    return [it.line for it in unreached(asked, 20)]


def test_a_rule_behind_one_that_asks_less_is_hidden() -> None:
    assert hidden("sealed yes", "sealed yes peer unknown") == [2]
    assert hidden("sealed yes peer unknown", "sealed yes") == []
    assert hidden("sealed yes", "state new", "state new sealed yes") == [3]
    assert hidden("", "state new", "") == [2, 3]
    assert hidden("power > 1W", "power > 1000mW") == [2]
    assert hidden("power > 1W", "power > 2W") == []


def test_a_fault_names_the_line_that_hides() -> None:
    with pytest.raises(PolicyError, match=r"line 2, column 1: .* line 1 matches all that it does"):
        rules("rule sealed yes -> drop\nrule state new sealed yes -> accept\n")


def test_looking_for_what_is_hidden_ends() -> None:
    many = [f"power > {n}W sealed yes state new direction in" for n in range(1, MAX_COMPARED + 2)]
    # all of them are under their own number, which is the rarest: only that is looked at
    assert hidden(*many, f"{many[-1]} peer unknown") == [len(many) + 1]
    twice = [(HEAD, 1, matches("->")), *[(HEAD, n, matches("sealed yes ->")) for n in range(2, 9)]]
    assert len(unreached(twice, 3)) == 3


def test_rules_that_are_not_hidden_decide() -> None:
    policy = rules("rule sealed yes peer unknown -> drop\nrule sealed yes -> accept")
    assert policy.evaluate(Facts(is_sealed=True)).line == 1
    assert policy.evaluate(Facts(is_sealed=True, peer=bytes(32))).line == 2
