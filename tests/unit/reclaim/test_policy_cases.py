"""Test statements of a policy: what they say, and how a decision differs from what they expect."""

from ipaddress import ip_address

import pytest

from powertcp.profile import Waveform
from powertcp.reclaim.policy import Case, Facts, State, Way
from powertcp.reclaim.policy_cases import run_cases
from powertcp.reclaim.policy_lines import PolicyError
from powertcp.reclaim.policy_text import parse_policy
from tests.policies import ALICE, BOB, EXAMPLE, load, name_of, rules

POLICY = """\
reservoir main capacity 1kWh
reservoir spare capacity 1kWh
set trusted keys authorized_watts
rule state new -> accept limit 100W burst 1kJ mark-ece log count seen
rule state stale -> reclaim main limit 1kW
rule state closing -> reject 206
rule state offered -> drop
rule state energised -> accept
"""
DIFFERENCES = [
    ("state=new -> accept", []),
    ("state=new -> accept limit 100W burst 1kJ mark-ece log count seen line 4", []),
    ("state=new -> accept burst", None),
    ("state=new -> accept limit 101W", ["expected accept limit 101W, found"]),
    ("state=new -> accept limit 100W burst 2kJ", ["expected accept limit 100W burst 2kJ, found"]),
    ("state=new -> accept count others", ["expected count others, found seen"]),
    ("state=new -> accept line 5", ["expected line 5, found line 4"]),
    ("state=new -> drop line 3", ["expected drop, found accept", "expected line 3, found line 4"]),
    ("state=stale -> reclaim main", []),
    ("state=stale -> reclaim main limit 1kW burst 2kJ", []),
    ("state=stale -> reclaim main limit 1kW burst 3kJ", ["expected reclaim main limit 1kW burst"]),
    ("state=stale -> reclaim spare", ["expected reclaim spare, found reclaim main"]),
    ("state=stale -> reclaim main log", ["expected log, found a verdict without it"]),
    ("state=stale -> reclaim main count x", ["expected count x, found no counter"]),
    ("state=closing -> reject 206", []),
    ("state=closing -> reject 100", ["expected reject 100, found reject 206"]),
    ("state=offered -> drop", []),
    ("state=energised -> accept mark-ece", ["expected accept mark-ece, found accept"]),
    ("state=invalid -> drop line 10", []),
    ("-> drop log", ["expected log, found a verdict without it"]),
    ("-> drop count x", ["expected count x, found no counter"]),
]


@pytest.mark.parametrize(("text", "said"), DIFFERENCES, ids=range(len(DIFFERENCES)))
def test_how_a_decision_differs_from_what_is_expected(text: str, said: list[str] | None) -> None:
    if said is None:
        with pytest.raises(Exception, match="burst stands after its limit"):
            rules(f"{POLICY}test {text}")
        return
    policy = rules(f"{POLICY}test {text}")
    (outcome,) = run_cases(policy)
    assert len(outcome.differences) == len(said)
    for found, begin in zip(outcome.differences, said, strict=True):
        assert found.startswith(begin)


def test_the_tests_of_the_example_are_as_expected() -> None:
    outcomes = run_cases(load(EXAMPLE))
    assert [outcome.case.line for outcome in outcomes] == [21, 22]
    assert not any(outcome.differences for outcome in outcomes)


def case(facts: str) -> Case:
    text = f"set trusted keys authorized_watts\nset empty net ::/0\ntest {facts} -> drop"
    return rules(text).tests[0]


def test_every_word_of_a_test() -> None:
    found = case(
        "state=new sealed=yes direction=in peer=unknown src=10.0.0.1 dst=fd00::1"
        " entity=00112233-4455-6677-8899-aabbccddeeff voltage=230V current=4A power=1kW energy=2kJ"
        " priority=9 waveform=by-id frequency=50Hz tariff=0.40EUR load=91% time=23:59"
        " feed=000102030405060708090A0B0C0D0E0F"
    )
    assert found.facts == Facts(
        state=State.NEW,
        is_sealed=True,
        way=Way.IN,
        src=ip_address("10.0.0.1"),
        dst=ip_address("fd00::1"),
        entity=bytes.fromhex("00112233445566778899aabbccddeeff"),
        voltage_mv=230_000,
        current_ma=4_000,
        power_mw=1_000_000,
        energy_uj=2_000_000_000,
        priority=9,
        waveform=Waveform.BY_ID,
        frequency_chz=5_000,
        tariff_micro=400_000,
        currency="EUR",
        load_percent=91,
        minute=1_439,
        feed=bytes(range(16)),
    )
    assert (found.line, found.text.split()[:2]) == (3, ["test", "state=new"])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("unknown", None),
        ("@trusted", ALICE),
        ("bob@drill", BOB),
        (name_of(BOB), BOB),
    ],
)
def test_who_the_peer_of_a_test_is(text: str, key: bytes | None) -> None:
    assert case(f"peer={text}").facts.peer == key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stat=new", '"stat" is no fact, did you mean "state"?; expected state=VALUE'),
        ("state", "state needs a value; expected state=VALUE"),
        ("state=new state=new", "state stands twice"),
        ("state=open", '"open" is no state; expected new, offered'),
        ("power=1V", "expected a power"),
        ("time=24:00", "expected a time of day"),
        ("tariff=1", "expected a price per kWh"),
    ],
)
def test_a_fact_that_is_none(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        case(text)
    assert said in caught.value.faults[0].text


def test_who_a_name_is_cannot_be_said_of_a_set_with_faults() -> None:
    with pytest.raises(PolicyError) as caught:
        rules("set a keys nowhere\ntest peer=alice -> drop\n")
    assert [fault.line for fault in caught.value.faults] == [1]


def test_a_line_is_a_number() -> None:
    with pytest.raises(PolicyError, match="a line is a number"):
        rules("test state=new -> drop line 12345678\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("peer=bob", 'no key is called "bob", did you mean "bob@drill"?'),
        ("peer=@empty", "the set empty has networks; expected a set of keys"),
        ("peer=@nobody", 'there is no set "nobody"'),
        ("peer=x25519:AAAA", "44 letters of base64"),
    ],
)
def test_a_peer_that_nobody_is(text: str, said: str) -> None:
    with pytest.raises(Exception, match=r"line 3, column 11") as caught:
        case(text)
    assert said in str(caught.value)


def test_a_set_without_keys_is_nobody() -> None:
    text = b"policy drop\nset a keys none\ntest peer=@a -> drop\n"
    with pytest.raises(Exception, match="the set a has no key"):
        parse_policy(text, "p", lambda _: b"guest max-power=1W\n")
