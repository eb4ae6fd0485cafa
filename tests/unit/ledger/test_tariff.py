"""Exact prices: no drift whatever the pages, and half to even for both signs."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.ledger import cost_micro

UJ_PER_KWH = 3_600_000_000_000
PRICES = st.integers(-(10**12), 10**12)
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
    assert cost_micro(10**12, 0, 0, 2**64 - 1) < 2**63
    assert cost_micro(-(10**12), 0, 0, 2**64 - 1) >= -(2**63)
