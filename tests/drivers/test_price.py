"""What a consumer pays at most."""

import pytest

from powertcp.drivers.price import MaxPrice, parse_price
from powertcp.registry import Reason
from powertcp.wire.options import Tariff


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("0.30", MaxPrice(300_000)),
        ("0.3 EUR", MaxPrice(300_000, "EUR")),
        ("1EUR/kWh", MaxPrice(1_000_000, "EUR")),
        ("-0.000001", MaxPrice(-1)),
        ("12/kWh", MaxPrice(12_000_000)),
    ],
)
def test_a_price_is_exact(text: str, price: MaxPrice) -> None:
    assert parse_price(text) == price


@pytest.mark.parametrize("text", ["", "dear", "0.0000001", ".3", "0,30", "1 euro", "--1", "0.3kWh"])
def test_what_is_no_price_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="a price per kWh is a number like"):
        parse_price(text)


def test_only_a_dearer_tariff_or_another_currency_is_refused() -> None:
    limit = MaxPrice(300_000, "EUR")
    assert limit.refusal(None) is None
    assert limit.refusal(Tariff(bytes(32), "EUR", 300_000)) is None
    assert limit.refusal(Tariff(bytes(32), "EUR", -5)) is None
    assert MaxPrice(300_000).refusal(Tariff(bytes(32), "CHF", 300_000)) is None
    dear = limit.refusal(Tariff(bytes(32), "EUR", 300_001))
    assert dear is not None
    assert dear.code == Reason.TARIFF
    assert dear.sentence() == (
        "104 TARIFF: the tariff is not acceptable: 300,001, limit 300,000 (micro-EUR per kWh)"
    )
    foreign = limit.refusal(Tariff(bytes(32), "CHF", 1))
    assert foreign is not None
    assert "paid is in EUR, not in CHF" in foreign.sentence()
