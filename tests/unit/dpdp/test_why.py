"""Reasons for people: prices, distances, and a sentence with both numbers for every filter."""

import pytest

from powertcp.dpdp.advert import FREE, Tariff
from powertcp.dpdp.why import Finding, Why, format_distance, format_price, format_tariff


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (250_000, "0.25"),
        (200_000, "0.20"),
        (0, "0.00"),
        (312_500, "0.3125"),
        (-50_000, "-0.05"),
        (1, "0.000001"),
        (1_234_000_000, "1,234.00"),
    ],
)
def test_a_price_has_two_decimals_or_more(micro: int, text: str) -> None:
    assert format_price(micro) == text


def test_a_tariff_is_stated_free_or_neither() -> None:
    assert format_tariff(Tariff(currency="EUR", micro_per_kwh=250_000)) == "0.25 EUR/kWh"
    assert format_tariff(FREE) == "free"
    assert format_tariff(None) == "price not stated"


@pytest.mark.parametrize(
    ("rtt_ns", "text"),
    [
        (0, "same host"),
        (1, "0.0 ms"),
        (449_999, "0.4 ms"),
        (450_000, "0.5 ms"),
        (99_949_999, "99.9 ms"),
        (100_000_000, "100 ms"),
        (120_400_000, "120 ms"),
        (1_500_000_000, "1,500 ms"),
    ],
)
def test_a_distance_is_read_in_milliseconds(rtt_ns: int, text: str) -> None:
    assert format_distance(rtt_ns) == text


VOLTAGES = ("offered_least_mv", "offered_mv", "asked_least_mv", "asked_mv")
CURRENTS = ("offered_least_ma", "offered_ma", "asked_least_ma", "asked_ma")


@pytest.mark.parametrize(
    ("why", "numbers", "sentence"),
    [
        (
            Why.VOLTAGE,
            dict(zip(VOLTAGES, (230_000, 230_000, 5_000, 12_000), strict=True)),
            "offers 230 V, asked 5 V to 12 V",
        ),
        (
            Why.VOLTAGE,
            dict(zip(VOLTAGES, (5_000, 12_000, 48_000, 48_000), strict=True)),
            "offers 5 V to 12 V, asked 48 V",
        ),
        (
            Why.CURRENT,
            dict(zip(CURRENTS, (0, 3_000, 5_000, 6_000), strict=True)),
            "offers up to 3 A, asked at least 5 A",
        ),
        (
            Why.CURRENT,
            dict(zip(CURRENTS, (2_000, 3_000, 0, 1_500), strict=True)),
            "offers at least 2 A, asked up to 1.5 A",
        ),
        (
            Why.FREQUENCY,
            {"offered_chz": 5_000, "asked_chz": 6_000},
            "offers 50 Hz, asked 60 Hz",
        ),
        (Why.FULL, {"free_mw": 2_000, "asked_least_mw": 2_500}, "2 W free, asked 2.5 W"),
        (Why.DEAD, {"wait_ns": 30 * 10**9}, "did not answer, asked again in 30 s"),
        (Why.REFUSED, {"wait_ns": 12 * 10**9}, "has refused, asked again in 12 s"),
    ],
)
def test_a_sentence_has_the_numbers_of_both_sides(
    why: Why, numbers: dict[str, int], sentence: str
) -> None:
    assert Finding(why, tuple(numbers.items())).sentence == sentence


def test_other_sentences_are_their_words() -> None:
    assert Finding(Why.SOURCE, words=("grid", ", asked ", "battery")).sentence == (
        "grid, asked battery"
    )


@pytest.mark.requirement("DPDP-6-04")
def test_filters_stand_in_the_order_in_which_they_are_tried() -> None:
    named = (Why.VERSION, Why.MALFORMED, Why.DEAD, Why.SEAL, Why.TRUST, Why.VOLTAGE, Why.CURRENT)
    later = (Why.WAVEFORM, Why.FREQUENCY, Why.FULL, Why.TARIFF, Why.SOURCE)
    places = [why.place for why in named + later]
    assert places == sorted(places)
    assert min(places) > Why.NEXT.place > Why.CHOSEN.place
