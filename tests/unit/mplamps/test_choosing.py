"""Which supplier a lamp takes."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from powertcp.mplamps.choosing import (
    MAX_CHOICES,
    choose,
    forget_choices,
    is_dearer,
    tariff_of,
)
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.mplamps.rsvp.errors import Case
from powertcp.mplamps.wishes import Tunnel, Wish
from powertcp.profile import PowerProfile

SOURCES = [IPv4Address(f"10.0.0.{number}") for number in (1, 2, 3)]
WISH = Wish(request=PowerProfile.parse("230V/260mA@50Hz"))


def tariff(kind: TariffKind, price: int, supplier: int) -> TariffObject:
    source = SOURCES[supplier - 7] if supplier else IPv4Address(0)
    return TariffObject(kind=kind, price=price, currency="EUR", supplier=supplier, source=source)


def offers(**prices: int) -> tuple[TariffObject, ...]:
    """Return an OFFER of each supplier: `_7=210_000` is 0.21 EUR/kWh of supplier 7."""
    return tuple(tariff(TariffKind.OFFER, price, int(name[1:])) for name, price in prices.items())


def tunnel(**wish: object) -> Tunnel:
    return Tunnel(1, replace(WISH, **wish), SOURCES[0])  # type: ignore[arg-type]


LIMIT = tariff(TariffKind.LIMIT, 300_000, 0)
THREE = offers(_7=450_000, _8=300_000, _9=250_000)


def chosen(one: Tunnel) -> int:
    """Return the supplier that is asked for, 0 for none."""
    return one.choice.supplier if one.choice is not None else 0


@pytest.mark.requirement("MPLA-6-06")
def test_the_cheapest_offer_is_taken_and_asked_for() -> None:
    one = tunnel(limit=LIMIT)
    assert tariff_of(one) == LIMIT
    assert choose(one, Case.TARIFF, THREE)
    assert tariff_of(one) == replace(LIMIT, supplier=9, source=SOURCES[2])


@pytest.mark.requirement("MPLA-6-06")
@pytest.mark.parametrize("case", [Case.NO_ROOM, Case.NO_ROUTE])
def test_the_next_one_is_taken_where_there_is_no_room_or_no_way(case: Case) -> None:
    one = tunnel(limit=LIMIT)
    assert choose(one, Case.TARIFF, THREE)
    assert choose(one, case, ())
    assert chosen(one) == 8
    assert not choose(one, case, ()), "the third is above the limit"


@pytest.mark.requirement("MPLA-6-06")
def test_nothing_above_the_limit_is_taken() -> None:
    one = tunnel(limit=replace(LIMIT, price=249_999))
    assert not choose(one, Case.TARIFF, THREE)
    assert chosen(one) == 0


def test_a_supplier_that_is_wanted_is_the_only_one() -> None:
    one = tunnel(supplier=8)
    assert choose(one, Case.TARIFF, THREE)
    assert chosen(one) == 8
    assert not choose(one, Case.NO_ROOM, ())


@pytest.mark.parametrize(
    ("case", "wish"), [(None, {}), (Case.PREEMPTED, {}), (Case.TARIFF, {"es": SOURCES[0]})]
)
def test_nothing_is_chosen_for_other_errors_or_where_the_source_is_wanted(
    case: Case | None, wish: dict[str, object]
) -> None:
    assert not choose(tunnel(**wish), case, THREE)


def test_an_offer_of_no_source_leads_nowhere() -> None:
    nowhere = replace(THREE[0], source=IPv4Address(0))
    assert not choose(tunnel(), Case.TARIFF, (nowhere,))


def test_choices_in_a_row_are_bounded_until_they_are_forgotten() -> None:
    one = tunnel()
    for _ in range(MAX_CHOICES):
        assert choose(one, Case.TARIFF, THREE)
    assert not choose(one, Case.TARIFF, THREE)
    forget_choices(one)
    assert (one.offers, one.full) == ((), set())
    assert choose(one, Case.TARIFF, THREE)


@pytest.mark.requirement("MPLA-6-01")
@pytest.mark.parametrize(
    ("price", "best", "supplier"),
    [(262_500, 250_000, 0), (262_501, 250_000, 9), (240_000, 250_000, 0)],
)
def test_a_lamp_leaves_for_what_is_more_than_5_percent_cheaper(
    price: int, best: int, supplier: int
) -> None:
    one = tunnel()
    quote = tariff(TariffKind.QUOTE, price, 7)
    assert choose(one, Case.TARIFF, offers(_9=best), quote) is bool(supplier)
    assert chosen(one) == supplier


@pytest.mark.requirement("MPLA-6-01")
@pytest.mark.parametrize(
    ("before", "now", "is_looking"),
    [(250_000, 250_000, False), (250_000, 250_001, True), (400_000, 350_000, True)],
)
def test_a_price_that_rises_or_is_above_the_limit_makes_a_lamp_look_around(
    before: int, now: int, is_looking: bool
) -> None:
    quotes = [tariff(TariffKind.QUOTE, price, 7) for price in (before, now)]
    assert is_dearer(quotes[0], quotes[1], replace(WISH, limit=LIMIT)) is is_looking
