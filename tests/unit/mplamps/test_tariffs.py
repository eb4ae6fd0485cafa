"""The document of a market: read, and refused with line and column."""

from ipaddress import IPv4Address

import pytest

from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.market import Contract, MeterPoint, PriceStep
from powertcp.mplamps.plans import MAX_CHARACTERS, InvalidPlan
from powertcp.mplamps.tariffs import MAX_STEPS, MAX_SUPPLIERS, parse_market

STREET = generate_topology("street:3", base=IPv4Address("127.80.0.0"), has_pdp=True)
MARKET = """currency = "EUR"
default = "any"
supplier = [{id = 7, name = "Watt and Sons", sources = ["es1"], capacity = "2MW", prices = [
  {at = "00:00", price = "0.2100/kWh"},
  {at = "22:30", price = "-0.01/kWh"}]}]
[[meter]]
at = "h1/lamp-1"
customer = "Ada"
supplier = 7
best_priority = 8
credit = "50.00"
fee = "0.0800/kWh"
"""


def faults(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(InvalidPlan) as caught:
        parse_market(text, "market.toml", STREET)
    return [(fault.line, fault.column, fault.text) for fault in caught.value.faults]


@pytest.mark.requirement("MPLA-6-05")
def test_every_key_of_a_document() -> None:
    market = parse_market(MARKET, "market.toml", STREET)
    assert (market.currency, market.serves_any) == ("EUR", True)
    seller = market.suppliers[7]
    assert (seller.name, seller.capacity_mw) == ("Watt and Sons", 2 * 10**9)
    assert seller.sources == (STREET.node("es1").address,)
    assert seller.steps == (PriceStep(0, 210_000), PriceStep(81_000, -10_000))
    link = STREET.between("h1", "lamp-1")
    assert link is not None
    point = MeterPoint(STREET.node("h1").address, link.number)
    ada = Contract(customer="Ada", supplier=7, best_priority=8, credit=50_000_000, fee=80_000)
    assert market.contracts == {point: ada}
    assert market.contract(point) == ada


def test_what_is_left_out() -> None:
    market = parse_market('currency = "CHF"', "market.toml", STREET)
    assert (market.suppliers, market.contracts, market.serves_any) == ({}, {}, False)
    text = MARKET.replace('capacity = "2MW", ', "")
    market = parse_market(text, "market.toml", STREET)
    assert market.suppliers[7].capacity_mw == STREET.capacity_of("es1")


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "text"),
    [
        ('"EUR"', '"Euro"', 1, 12, 'a currency is three capital letters, got "Euro"'),
        ("currency =", "currenzy =", 1, 1, 'unknown key "currenzy", did you mean "currency"?'),
        ('"any"', '"ane"', 2, 11, 'a kind is any, none, got "ane", did you mean "any"?'),
        ("capacity =", "capazity =", 3, 65, 'unknown key "capazity", did you mean "capacity"?'),
        ("id = 7", "id = 0", 3, 19, "an id is 1 to 4,294,967,295, got 0"),
        ('["es1"]', '["es2"]', 3, 57, '"es2" is no ES of the topology, did you mean "es1"?'),
        ('["es1"]', "[]", 3, 56, "sources are at least one, each once"),
        ('"22:30"', '"24:30"', 5, 9, 'a time of day is HH:MM, 00:00 to 23:59, got "24:30"'),
        ('"22:30"', '"00:00"', 5, 9, "prices are in the order of the day, each time once"),
        ("{at = ", "{ad = ", 4, 4, 'unknown key "ad", did you mean "at"?'),
        ('"-0.01/kWh"', '"1000001/kWh"', 5, 26, "a price is at most 1,000,000 per kWh"),
        ('"h1/lamp-1"', '"h2/lamp-1"', 7, 6, 'a meter point is LSR/LAMP, neighbours in the '
         'topology, got "h2/lamp-1"'),
        ('"h1/lamp-1"', '"h1/c1"', 7, 6, "a meter point is LSR/LAMP, neighbours in the topology, "
         'got "h1/c1"'),
        ('"Ada"', '""', 8, 12, "a customer has a name"),
        ("supplier = 7", "supplier = 8", 9, 12, "no supplier 8 in this market"),
        ("best_priority = 8", "best_priority = 16", 10, 17, "a priority is 1 to 15, got 16"),
        ('"50.00"', '"-50"', 11, 10, 'an amount is a number such as "50.00", got "-50"'),
        ('"50.00"', "50", 11, 10, 'a text is needed, such as "2MW" or "0.21/kWh", got 50'),
        ('"0.0800/kWh"', '"1000001/kWh"', 12, 7, "a fee is at most 1,000,000 per kWh"),
        ('customer = "Ada"', "", 6, 1, 'the key "customer" is missing'),
        ("[[meter]]", "[[meter", 6, 8, "Expected ']]' at the end of an array declaration"),
    ],
)  # fmt: skip
def test_a_fault_tells_line_and_column(
    old: str, new: str, line: int, column: int, text: str
) -> None:
    assert old in MARKET
    found = faults(MARKET.replace(old, new, 1))
    assert (line, column, text) in found, found


def test_what_is_there_twice() -> None:
    twice = MARKET + MARKET[MARKET.index("[[meter]]") :]
    assert faults(twice) == [(14, 6, "the meter point h1/lamp-1 is there already")]


def test_tables_have_a_limit_each() -> None:
    row = '{{id = {}, name = "s", sources = ["es1"], prices = [{}]}}'
    step = '{at = "00:00", price = "1/kWh"}'

    def text(suppliers: int, steps: int = 1) -> str:
        times = ", ".join(
            step.replace("00:00", f"{at // 60:02}:{at % 60:02}") for at in range(steps)
        )
        rows = ", ".join(row.format(number, times) for number in range(1, suppliers + 1))
        return f'currency = "EUR"\nsupplier = [{rows}]\n'

    parse_market(text(MAX_SUPPLIERS), "market.toml", STREET)
    assert faults(text(MAX_SUPPLIERS + 1)) == [(2, 12, "65 suppliers, at most 64")]
    parse_market(text(1, MAX_STEPS), "market.toml", STREET)
    assert faults(text(1, MAX_STEPS + 1))[0][2] == "prices are 1 to 96, got 97"
    assert faults(text(1, 0))[0][2] == "prices are 1 to 96, got 0"
    twice = text(2).replace("id = 2", "id = 1")
    assert faults(twice)[0][2] == "supplier 1 is there already"
    assert faults(" " * (MAX_CHARACTERS + 1))[0][2].startswith("67,108,865 characters")
