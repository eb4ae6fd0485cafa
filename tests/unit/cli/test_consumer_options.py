"""What a consumer is told of receipts."""

import pytest

from powertcp.cli.consumer_options import parse_receipts


@pytest.mark.parametrize(
    ("text", "receipts"),
    [
        ("60s/360kJ", (60, 360_000_000_000)),
        ("60s", (60, 0)),
        ("1h/", (3600, 0)),
        ("360kJ", (0, 360_000_000_000)),
        ("/1kWh", (0, 3_600_000_000_000)),
        ("1.9s", (1, 0)),
        ("24h/1000000kWh", (86_400, 3_600_000_000_000_000_000)),
    ],
)
def test_receipts_are_due_by_time_and_energy(text: str, receipts: tuple[int, int]) -> None:
    assert parse_receipts(text) == receipts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("500ms", "each second at most"),
        ("0s/0J", "each second at most"),
        ("/", "each second at most"),
        ("25h", "at least each day"),
        ("2000000kWh", "each GWh"),
        ("60", "a duration needs a number"),
        ("60s/5", "an energy"),
    ],
)
def test_what_cannot_be_due_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_receipts(text)
