"""What values and verdicts are called."""

import pytest

from powertcp.profile import Waveform
from powertcp.reclaim.policy_facts import (
    SAYING,
    UNITS_OF_ENERGY,
    UNITS_OF_POWER,
    Accept,
    Drop,
    Facts,
    Reclaim,
    Reject,
    Verdict,
    clock,
    say,
    written,
)
from powertcp.registry import Reason


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Accept(), "accept"),
        (Accept(is_marking=True), "accept mark-ece"),
        (Accept(100_000, 200_000_000, is_marking=True), "accept limit 100W burst 200J mark-ece"),
        (Accept(1_500), "accept limit 1500mW"),
        (Drop(), "drop"),
        (Reject(Reason.POLICY), "reject 206"),
        (Reclaim("main"), "reclaim main"),
        (Reclaim("main", 2_000_000, 1), "reclaim main limit 2kW burst 1uJ"),
    ],
)
def test_a_verdict_is_called_as_a_policy_has_it(verdict: Verdict, text: str) -> None:
    assert str(verdict) == text


def test_a_quantity_in_the_largest_unit_that_keeps_it_whole() -> None:
    assert [written(mw, UNITS_OF_POWER) for mw in (1, 1_000, 1_001, 5_000_000)] == [
        "1mW", "1W", "1001mW", "5kW",
    ]  # fmt: skip
    assert [written(uj, UNITS_OF_ENERGY) for uj in (1, 10**3, 10**6, 10**12)] == [
        "1uJ", "1mJ", "1J", "1MJ",
    ]  # fmt: skip


@pytest.mark.requirement("FWRL-1-02")
@pytest.mark.parametrize(
    ("word", "facts", "text"),
    [
        ("sealed", Facts(is_sealed=False), "no"),
        ("tariff", Facts(tariff_micro=400_000, currency="EUR"), "0.4 EUR/kWh"),
        ("tariff", Facts(tariff_micro=-2_000_000, currency="EUR"), "-2 EUR/kWh"),
        ("tariff", Facts(tariff_micro=1), "unknown"),
        ("tariff", Facts(currency="EUR"), "unknown"),
        ("waveform", Facts(waveform=Waveform.BY_ID), "by-id"),
        ("time", Facts(minute=1_439), "23:59"),
        ("load", Facts(load_percent=0), "0 %"),
        ("power", Facts(power_mw=0), "0 mW"),
        ("entity", Facts(entity=bytes(16)), "00" * 16),
    ],
)
def test_a_value_is_called_with_its_unit(word: str, facts: Facts, text: str) -> None:
    assert say(word, facts) == text


def test_what_is_not_known_is_called_so() -> None:
    assert {say(word, Facts()) for word in SAYING} == {"unknown"}
    assert clock(61) == "01:01"
