"""Matches in their plain form: known and unknown values, limits, and the spans that say the same."""

from ipaddress import ip_address, ip_network

import pytest

from powertcp.profile import Waveform
from powertcp.reclaim.policy_facts import Facts, State, Way
from powertcp.reclaim.policy_match import (
    COMPARING,
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
    merged,
    plain_address,
)

KEY, OTHER, ENDING = bytes(32), bytes([1]) * 32, bytes([2]) * 32
KEYS = KeySet(
    "keys",
    (BoundKey(KEY, "a", None, None), BoundKey(ENDING, "b", None, 5), BoundKey(ENDING, "c", (), 9)),
)
RANGES = VoltageSet("v", ((207, 253), (99, 132), (132, 140), (141, 150)))
NETS = NetSet("n", (ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
HOLDING: list[tuple[Match, Facts, Facts]] = [
    (Choice("state", "", State.NEW), Facts(state=State.NEW), Facts(state=State.STALE)),
    (Choice("sealed", "", value=False), Facts(is_sealed=False), Facts(is_sealed=True)),
    (Choice("direction", "", Way.IN), Facts(way=Way.IN), Facts(way=Way.OUT)),
    (Choice("entity", "", bytes(16)), Facts(entity=bytes(16)), Facts(entity=bytes(15))),
    (
        Shape("waveform", "", frozenset({Waveform.SINE})),
        Facts(waveform=Waveform.SINE),
        Facts(waveform=Waveform.DC),
    ),
    (PeerKey("peer", "", KEY), Facts(peer=KEY), Facts(peer=OTHER)),
    (PeerAmong("peer", "", KEYS), Facts(peer=KEY), Facts(peer=OTHER)),
    (PeerAmong("peer", "", KEYS), Facts(peer=ENDING, unix_s=8), Facts(peer=ENDING, unix_s=9)),
    (PeerAmong("peer", "", KEYS), Facts(peer=ENDING, unix_s=0), Facts(peer=ENDING)),
    (From("src", "", NETS), Facts(src=ip_address("10.0.0.1")), Facts(dst=ip_address("10.0.0.1"))),
    (
        From("dst", "", NETS),
        Facts(dst=ip_address("::ffff:10.0.0.1")),
        Facts(dst=ip_address("fe80::1")),
    ),
    (Compare("load", "", ">", 90), Facts(load_percent=91), Facts(load_percent=90)),
    (VoltageAmong("voltage", "", "=", RANGES), Facts(voltage_mv=253), Facts(voltage_mv=254)),
    (VoltageAmong("voltage", "", "!=", RANGES), Facts(voltage_mv=98), Facts(voltage_mv=99)),
    (
        Price("tariff", "", "!=", 5, "EUR"),
        Facts(tariff_micro=6, currency="EUR"),
        Facts(tariff_micro=6, currency="USD"),
    ),
    (TimeOfDay("time", "", 60, 120), Facts(minute=119), Facts(minute=120)),
    (TimeOfDay("time", "", 1_380, 60), Facts(minute=0), Facts(minute=60)),
]


@pytest.mark.requirement("FWRL-3-10")
@pytest.mark.parametrize(("match", "one", "other"), HOLDING, ids=range(len(HOLDING)))
def test_a_match_holds_for_what_it_asks_and_for_nothing_unknown(
    match: Match, one: Facts, other: Facts
) -> None:
    assert match.holds(one)
    assert not match.holds(other)
    assert not match.holds(Facts())


@pytest.mark.requirement("FWRL-3-10")
def test_only_an_unknown_peer_can_be_asked_for() -> None:
    match = PeerKey("peer", "", None)
    assert match.holds(Facts())
    assert not match.holds(Facts(peer=KEY))


SPANNED: list[tuple[Match, str, range]] = [
    *((Compare("load", "", sign, 7), "load_percent", range(20)) for sign in COMPARING),
    *((Price("tariff", "", sign, -2, "EUR"), "tariff_micro", range(-6, 6)) for sign in COMPARING),
    *(
        (VoltageAmong("voltage", "", sign, RANGES), "voltage_mv", range(300))
        for sign in ("=", "!=")
    ),
    (TimeOfDay("time", "", 60, 120), "minute", range(1_440)),
    (TimeOfDay("time", "", 1_380, 60), "minute", range(1_440)),
    (TimeOfDay("time", "", 0, 1_440), "minute", range(1_440)),
]


@pytest.mark.parametrize(("match", "name", "values"), SPANNED, ids=range(len(SPANNED)))
def test_spans_are_the_numbers_for_which_a_match_holds(
    match: Match, name: str, values: range
) -> None:
    assert isinstance(match, Compare | Price | VoltageAmong | TimeOfDay)
    spans = match.spans()
    for value in values:
        facts = Facts(currency="EUR")
        setattr(facts, name, value)
        inside = [
            (first is None or first <= value) and (end is None or value < end)
            for first, end in spans
        ]
        assert match.holds(facts) is any(inside)
        # a table of them is made by turning: none may lie over another
        assert sum(inside) <= 1


def test_two_texts_of_one_match_are_one() -> None:
    one, other = Compare("power", "power > 1W", ">", 1_000), Compare("power", "", ">", 1_000)
    assert one == other
    assert len({one, other}) == 1


def test_what_a_match_has_seen() -> None:
    assert Compare("power", "", ">", 1).seen(Facts(power_mw=12_000)) == "12 W"
    assert Compare("power", "", ">", 1).seen(Facts()) == "unknown"


def test_a_match_of_no_kind_holds_for_nothing() -> None:
    with pytest.raises(NotImplementedError):
        Match("state", "").holds(Facts())


def test_ranges_that_touch_are_one() -> None:
    assert merged([(5, 7), (1, 3), (3, 5), (9, 10)]) == [(1, 7), (9, 10)]
    assert merged([(1, 9), (2, 3)]) == [(1, 9)]
    assert merged([]) == []


def test_an_address_in_another_is_what_it_carries() -> None:
    plain = ip_address("10.0.0.1")
    assert plain_address(ip_address("::ffff:10.0.0.1")) == plain_address(plain) == plain
    assert plain_address(ip_address("fd00::1")) == ip_address("fd00::1")
