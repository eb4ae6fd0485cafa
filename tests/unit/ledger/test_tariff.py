"""Exact prices: no drift whatever the pages, half to even for both signs, documents by the hour."""

import json
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from hashlib import blake2s
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.errors import ConfigError
from powertcp.ledger import MAX_PRICE_MICRO, TariffDocument, cost_micro, parse_tariff
from powertcp.ledger.tariff import MAX_DOCUMENT_OCTETS, MAX_SLOTS
from powertcp.wire import Tariff

UJ_PER_KWH = 3_600_000_000_000
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
NIGHT: dict[str, Any] = {"from": "22:00", "to": "06:00", "price_micro_per_kwh": 180_000}
PRICES = st.integers(-(MAX_PRICE_MICRO), MAX_PRICE_MICRO)
ENERGIES = st.integers(0, 2**64 - 1)


def in_decimals(price: int, energy: int) -> int:
    with localcontext(prec=80) as context:
        context.rounding = ROUND_HALF_EVEN
        return int((Decimal(price) * energy / UJ_PER_KWH).to_integral_value())


@pytest.mark.requirement("LEDG-6-04")
@given(PRICES, ENERGIES)
def test_the_cost_is_that_of_decimal_arithmetic(price: int, energy: int) -> None:
    assert cost_micro(price, 0, 0, energy) == in_decimals(price, energy)


@pytest.mark.requirement("LEDG-6-04")
@given(PRICES, st.lists(ENERGIES, min_size=3, max_size=20))
def test_the_pages_cost_what_the_whole_costs(price: int, registers: list[int]) -> None:
    base, *ends = sorted(registers)
    bounds = [base, *ends]
    pages = sum(cost_micro(price, base, *pair) for pair in zip(bounds, ends, strict=False))
    assert pages == cost_micro(price, base, base, ends[-1]) == in_decimals(price, ends[-1] - base)


@pytest.mark.requirement("LEDG-6-04")
def test_halves_go_to_the_even_side_for_both_signs() -> None:
    half = UJ_PER_KWH // 2
    costs = [cost_micro(price, 0, 0, half) for price in (1, 3, 5, -1, -3, -5)]
    assert costs == [0, 2, 2, 0, -2, -2]


def test_any_page_of_the_dearest_tariff_fits_its_field() -> None:
    assert cost_micro(MAX_PRICE_MICRO, 0, 0, 2**64 - 1) < 2**63
    assert cost_micro(-(MAX_PRICE_MICRO), 0, 0, 2**64 - 1) >= -(2**63)


# --- documents --------------------------------------------------------------------------------


def document(**fields: Any) -> TariffDocument:
    return parse_tariff(json.dumps({"currency": "EUR", **fields}).encode(), "t.json")


def unix_ns(date: datetime) -> int:
    return (date - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


@pytest.mark.requirement("LEDG-6-04")
def test_the_digest_is_that_of_the_octets_as_they_are() -> None:
    octets = b'{"currency": "EUR", "price_micro_per_kwh": 312000}\n'
    tariff = parse_tariff(octets, "t.json")
    assert tariff.is_fixed
    assert tariff.next_change_ns(0) is None
    assert tariff.terms(10**18) == Tariff(blake2s(octets).digest(), "EUR", 312_000)
    assert parse_tariff(octets + b" ", "t.json").digest != tariff.digest


def test_a_slot_over_midnight_and_the_price_of_the_rest() -> None:
    tariff = document(price_micro_per_kwh=312_000, slots=[NIGHT], name="day and night")
    assert (tariff.name, tariff.is_fixed) == ("day and night", False)
    prices = [tariff.price_at(unix_ns(MONDAY + hour * HOUR)) for hour in range(24)]
    assert prices == [180_000] * 6 + [312_000] * 16 + [180_000] * 2
    change = tariff.next_change_ns(unix_ns(MONDAY + 3 * HOUR) + 1)
    assert change == unix_ns(MONDAY + 6 * HOUR)
    assert tariff.next_change_ns(change) == unix_ns(MONDAY + 22 * HOUR)


def test_negative_prices_of_some_days_in_the_documents_own_time() -> None:
    sun = {"days": ["sun"], "from": "12:00", "to": "24:00", "price_micro_per_kwh": -41_000}
    tariff = document(price_micro_per_kwh=0, slots=[sun], utc_offset_min=60)
    sunday = MONDAY - 24 * HOUR
    assert tariff.price_at(unix_ns(sunday + 11 * HOUR) - 1) == 0
    assert tariff.price_at(unix_ns(sunday + 11 * HOUR)) == -41_000
    assert tariff.price_at(unix_ns(sunday + 23 * HOUR) - 1) == -41_000
    assert tariff.price_at(unix_ns(sunday + 23 * HOUR)) == 0
    assert tariff.next_change_ns(unix_ns(MONDAY)) == unix_ns(MONDAY + 6 * 24 * HOUR + 11 * HOUR)
    assert tariff.next_change_ns(unix_ns(sunday)) == unix_ns(sunday + 11 * HOUR)
    west = document(price_micro_per_kwh=0, slots=[sun], utc_offset_min=-60)
    assert west.price_at(unix_ns(sunday + 13 * HOUR) - 1) == 0
    assert west.price_at(unix_ns(sunday + 13 * HOUR)) == -41_000


def test_the_night_of_sunday_ends_on_monday() -> None:
    tariff = document(price_micro_per_kwh=1, slots=[{**NIGHT, "days": ["sun"]}])
    assert tariff.price_at(unix_ns(MONDAY + 5 * HOUR)) == 180_000
    assert tariff.price_at(unix_ns(MONDAY + 6 * HOUR)) == 1


def test_slots_of_one_price_are_one_price() -> None:
    day = {"from": "06:00", "to": "22:00", "price_micro_per_kwh": 180_000}
    tariff = document(slots=[NIGHT, day])
    assert tariff.is_fixed
    assert tariff.price_at(0) == 180_000


@given(
    st.lists(st.integers(-5, 5), min_size=2, max_size=24),
    st.integers(0, 2**63),
    st.integers(-720, 840),
)
def test_the_price_holds_until_the_next_change(
    prices: list[int], start_ns: int, offset_min: int
) -> None:
    bounds = [24 * 60 * at // len(prices) for at in range(len(prices) + 1)]
    slots = [
        {"from": clock(begin), "to": clock(end), "price_micro_per_kwh": price}
        for price, (begin, end) in zip(prices, pairwise(bounds), strict=True)
    ]
    tariff = document(slots=slots, utc_offset_min=offset_min)
    change_ns = tariff.next_change_ns(start_ns)
    if change_ns is None:
        assert len(set(prices)) == 1
        return
    assert start_ns < change_ns <= start_ns + 7 * 86_400 * 10**9
    price = tariff.price_at(start_ns)
    assert price == tariff.price_at((start_ns + change_ns) // 2) == tariff.price_at(change_ns - 1)
    assert price != tariff.price_at(change_ns)
    minute = (start_ns // 60_000_000_000 + offset_min) % 1440
    assert price == next(
        price for price, end in zip(prices, bounds[1:], strict=True) if minute < end
    )


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


FIXED = {"price_micro_per_kwh": 1}


@pytest.mark.parametrize(
    ("fields", "path", "text"),
    [
        ({}, "$", "no price for mon 00:00: add slots or price_micro_per_kwh"),
        ({"slots": [NIGHT]}, "$.slots", "no price for mon 06:00"),
        ({**FIXED, "currency": "eur"}, "$.currency", 'three capital letters (ISO 4217), got "eur"'),
        ({**FIXED, "colour": 1}, "$", "unknown field `colour`"),
        ({"price_micro_per_kwh": 1.5}, "$.price_micro_per_kwh", "Expected `int | null`"),
        ({"price_micro_per_kwh": "1"}, "$.price_micro_per_kwh", "Expected `int | null`"),
        (
            {"price_micro_per_kwh": MAX_PRICE_MICRO + 1},
            "$.price_micro_per_kwh",
            "1,000,000,000,001 is beyond 1,000,000,000,000",
        ),
        ({**FIXED, "utc_offset_min": 1441}, "$.utc_offset_min", "1,441 min, at most a day"),
        ({**FIXED, "slots": [NIGHT] * (MAX_SLOTS + 1)}, "$.slots", "169 slots, at most 168"),
        ({**FIXED, "slots": [NIGHT, NIGHT]}, "$.slots[1]", "mon 22:00 is in slots[0] too"),
        ({**FIXED, "slots": [{**NIGHT, "to": "22:00"}]}, "$.slots[0]", "begins and ends at 22:00"),
        ({**FIXED, "slots": [{**NIGHT, "to": "24:01"}]}, "$.slots[0].to", 'got "24:01"'),
        ({**FIXED, "slots": [{**NIGHT, "from": "6:00"}]}, "$.slots[0].from", 'got "6:00"'),
        ({**FIXED, "slots": [{**NIGHT, "days": ["Mon"]}]}, "$.slots[0].days", 'got "Mon"'),
        (
            {**FIXED, "slots": [{**NIGHT, "price_micro_per_kwh": -(10**12) - 1}]},
            "$.slots[0].price_micro_per_kwh",
            "-1,000,000,000,001 is beyond",
        ),
        ({**FIXED, "slots": [{"to": "06:00"}]}, "$.slots[0]", "missing required field `from`"),
    ],
)
def test_what_is_wrong_with_a_document_is_named(
    fields: dict[str, Any], path: str, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        document(**fields)
    assert (caught.value.file, caught.value.path) == ("t.json", path)
    assert text in caught.value.text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", "not a JSON document"),
        (b"\xff\xfe\xfd", "not a JSON document"),
        (b"[" * 60_000, "not a JSON document"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"currency": "EUR", "currency": "USD"}', 'the key "currency" stands twice'),
        (b" " * (MAX_DOCUMENT_OCTETS + 1), "more than 65,536 octets"),
    ],
)
def test_octets_that_are_no_document(octets: bytes, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_tariff(octets, "t.json")
    assert caught.value.path == "$"
    assert text in caught.value.text


def test_documents_at_their_limits() -> None:
    octets = b'{"currency": "EUR", "price_micro_per_kwh": -1000000000000}'
    longest = octets.ljust(MAX_DOCUMENT_OCTETS)
    assert parse_tariff(longest, "t.json").price_at(0) == -MAX_PRICE_MICRO
    hours = [
        {"days": [day], "from": clock(60 * hour), "to": clock(60 * hour + 60),
         "price_micro_per_kwh": 100 * number + hour}
        for number, day in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
        for hour in range(24)
    ]  # fmt: skip
    tariff = document(slots=hours)
    assert len(tariff.prices) == MAX_SLOTS
    assert tariff.price_at(unix_ns(MONDAY + 25 * HOUR)) == 101
