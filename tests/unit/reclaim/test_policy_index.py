"""The tables of rules: they find what the plain form finds, whatever is asked."""

from ipaddress import ip_address, ip_network

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.profile import Waveform
from powertcp.reclaim.policy_facts import Facts, State
from powertcp.reclaim.policy_index import BLOCK, Index
from powertcp.reclaim.policy_match import (
    BoundKey,
    Choice,
    Compare,
    From,
    KeySet,
    Match,
    NetSet,
    PeerAmong,
    PeerKey,
    Price,
    Shape,
    TimeOfDay,
    VoltageAmong,
    VoltageSet,
)

KEY, ENDING = bytes(32), bytes([2]) * 32
KEYS = KeySet("k", (BoundKey(KEY, "", None, None), BoundKey(ENDING, "", None, 9)))
V4, V6 = ip_network("10.0.0.0/8"), ip_network("fd00::/8")
NEW = Choice("state", "", State.NEW)
RULES: list[list[Match]] = [
    [NEW, Compare("power", "", ">", 5), Compare("power", "", "<", 9)],
    [Choice("sealed", "", value=True), PeerAmong("peer", "", KEYS)],
    [PeerKey("peer", "", ENDING), Choice("sealed", "", value=False)],
    [From("src", "", NetSet("", (V4, V6))), From("dst", "", NetSet("", (V6,)))],
    [Price("tariff", "", ">", 5, "EUR")],
    [Price("tariff", "", ">", 7, "USD"), NEW],
    [VoltageAmong("voltage", "", "=", VoltageSet("", ((1, 3), (3, 4), (8, 9))))],
    [VoltageAmong("voltage", "", "!=", VoltageSet("", ((0, 20),))), NEW],
    [TimeOfDay("time", "", 1_380, 60)],
    [Shape("waveform", "", frozenset({Waveform.SINE, Waveform.ARBITRARY}))],
    [PeerKey("peer", "", None), NEW],
]
FACTS = [
    Facts(),
    *(Facts(state=State.NEW, power_mw=power, peer=KEY) for power in (4, 5, 6, 8, 9)),
    *(
        Facts(is_sealed=sealed, peer=peer, unix_s=now)
        for sealed in (True, False)
        for peer in (KEY, ENDING, bytes([3]) * 32)
        for now in (None, 8, 9)
    ),
    Facts(src=ip_address("10.1.1.1"), dst=ip_address("fd00::1")),
    Facts(src=ip_address("::ffff:10.1.1.1"), dst=ip_address("fd00::1")),
    Facts(src=ip_address("fd00::"), dst=ip_address("fdff:ffff::")),
    Facts(src=ip_address("fd00::"), dst=ip_address("fe00::")),
    Facts(src=ip_address("fd00::")),
    *(
        Facts(src=ip_address(one), dst=ip_address("fd00::"))
        for one in ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0")
    ),
    *(
        Facts(tariff_micro=price, currency=currency, state=State.NEW, peer=KEY)
        for price in (None, 5, 6, 8)
        for currency in (None, "EUR", "USD", "CHF")
    ),
    *(Facts(voltage_mv=mv, state=State.NEW, peer=KEY) for mv in range(-1, 23)),
    *(Facts(minute=minute) for minute in (0, 59, 60, 1_379, 1_380, 1_439)),
    *(Facts(waveform=shape) for shape in Waveform),
    Facts(state=State.NEW),
]


def plain(rules: list[list[Match]], facts: Facts) -> int | None:
    found = (n for n, matches in enumerate(rules) if all(one.holds(facts) for one in matches))
    return next(found, None)


@pytest.mark.requirement("FWRL-3-01")
def test_the_first_rule_is_the_one_of_the_plain_form() -> None:
    index = Index(RULES)
    found = [index.first(facts) for facts in FACTS]
    assert found == [plain(RULES, facts) for facts in FACTS]
    assert set(found) == {None, *range(len(RULES))}


def test_rules_of_any_order() -> None:
    for at in range(len(RULES)):
        turned = RULES[at:] + RULES[:at]
        index = Index(turned)
        assert [index.first(it) for it in FACTS] == [plain(turned, it) for it in FACTS]


def test_no_rules_and_one_that_asks_nothing() -> None:
    assert Index([]).first(Facts()) is None
    assert Index([[NEW], []]).first(Facts()) == 1
    assert Index([[NEW], []]).first(Facts(state=State.NEW)) == 0


@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1])
def test_each_rule_of_each_block_is_found(count: int) -> None:
    index = Index([[Compare("energy", "", "=", number)] for number in range(count)])
    for number in (0, BLOCK - 2, BLOCK - 1, BLOCK, count - 1, count):
        found = index.first(Facts(energy_uj=number))
        assert found == (number if number < count else None)


def test_a_word_of_no_lane_is_a_bug() -> None:
    with pytest.raises(LocalProtocolError, match="no lane for the word colour"):
        Index([[Match("colour", "")]])
