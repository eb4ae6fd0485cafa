"""authorized_watts: a valid file, and broken ones that name line, column and the words expected."""

import pytest

from powertcp.errors import InvalidText
from powertcp.vppn.authorized import MAX_OCTETS, AuthorizedWatts, Kind, parse_authorized
from powertcp.vppn.identity import Algorithm, PublicKey

NODE = PublicKey(Algorithm.X25519, bytes(32))
BOSS = PublicKey(Algorithm.ED25519, bytes(32))
GOOD = f"""# who may draw what
key    {NODE}  max-power=65W voltage=5V-20V  alice@lamp   # her lamp
key    {NODE}  deny

issuer {BOSS} groups=staff max-power=200W quota=5kWh/day  employer
guest  max-power=10W priority=9
clear\tdeny nobody
"""


def parse(text: str) -> AuthorizedWatts:
    return parse_authorized(text.encode(), "watts")


def test_a_file_of_every_kind() -> None:
    watts = parse(GOOD)
    assert [(rule.line, rule.kind.value, rule.name) for rule in watts.rules] == [
        (2, "key", "alice@lamp"),
        (3, "key", ""),
        (5, "issuer", "employer"),
        (6, "guest", ""),
        (7, "clear", "nobody"),
    ]
    assert [rule.is_denied for rule in watts.rules] == [False, True, False, False, True]
    assert watts.rules[2].groups == ("staff",)
    assert [rule.line for rule in watts.about(Kind.KEY, NODE)] == [2, 3]
    assert watts.about(Kind.KEY, BOSS) == []
    assert watts.place(watts.rules[2]) == "watts:5 issuer"


def test_an_empty_file_allows_nothing_and_is_valid() -> None:
    assert parse("").rules == parse("# nothing\n").rules == ()


BROKEN = [
    ("gest max-power=1W", 1, 'a line begins with key, issuer, guest or clear, got "gest", did you'),
    ("max-power=1W", 1, "a line begins with key, issuer, guest or clear"),
    ("key", 4, "key needs a key: x25519:BASE64"),
    ("issuer   # soon", 7, "issuer needs a key: ed25519:BASE64"),
    (f"key {BOSS} max-power=1W", 5, "a key is x25519:BASE64, got"),
    (f"issuer {NODE} max-power=1W", 8, "a key is ed25519:BASE64, got"),
    ("key x25519:AAAA max-power=1W", 5, "44 letters of base64, got 4"),
    ("guest", 6, "a line says what is allowed, for example max-power=65W, or deny"),
    ("guest hot-spot", 15, "a line says what is allowed"),
    ("guest denny", 12, "a line says what is allowed"),
    (f"issuer {BOSS} groups=staff", 73, "it sets no limit"),
    ("guest max-powr=1W", 7, 'unknown word "max-powr", did you mean "max-power"?; known:'),
    ("guest priority=3 max-power", 27, "max-power needs a value: max-power=VALUE"),
    ("guest hot spot max-power=1W", 7, 'only the last one is a name, got "hot"'),
    ("guest max-power=1W two names", 20, 'only the last one is a name, got "two"'),
    ("guest max-power 1W", 16, "max-power needs a value"),
    ("guest deny max-power=1W", 7, "deny stands alone"),
    ("guest max-power=1W deny", 20, "deny stands alone"),
    ("guest max-power=1W max-power=2W", 20, "max-power stands twice"),
    ("guest max-power=1W hot,spot", 20, "a name has 1 to 64 signs"),
    ("guest groups=staff max-power=1W", 7, 'unknown word "groups"'),
    (f"issuer {BOSS} max-power=1W groups=a,,b", 81, "groups: a group has 1 to 64 signs"),
    ("clear voltage=20V-5V", 15, "a voltage range is LEAST-MOST"),
    ("clear max-power=65", 17, "a power needs a number and a unit (uW, mW, W, kW, MW)"),
    ("clear quota=5/day", 13, "an energy needs a number and a unit"),
]


@pytest.mark.requirement("VPPN-5-01")
@pytest.mark.parametrize(("line", "column", "said"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_names_its_place_and_what_would_do(line: str, column: int, said: str) -> None:
    with pytest.raises(InvalidText) as caught:
        parse(f"{GOOD}\n  # then\n{line}\n")
    (fault,) = caught.value.faults
    assert (fault.line, fault.column) == (10, column)
    assert said in fault.text


def test_there_are_twenty_broken_files() -> None:
    assert len(BROKEN) >= 20


@pytest.mark.requirement("VPPN-5-01")
def test_every_broken_line_is_told_and_none_holds() -> None:
    with pytest.raises(InvalidText) as caught:
        parse(f"guest\n{GOOD}clear\nkey\n")
    assert [fault.line for fault in caught.value.faults] == [1, 9, 10]
    assert str(caught.value).endswith("(and 2 more)")


@pytest.mark.requirement("VPPN-5-01")
def test_a_file_has_a_greatest_size() -> None:
    assert parse("#" * MAX_OCTETS).rules == ()
    with pytest.raises(InvalidText, match="1,048,577 octets, at most 1,048,576"):
        parse("#" * (MAX_OCTETS + 1))
