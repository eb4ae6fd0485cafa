"""Whatever is asked, metered and priced: never above a capacity, and no millionth left over."""

from fractions import Fraction
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.mplamps.deciding import decide
from powertcp.mplamps.market import (
    UJ_PER_KWH,
    CircuitKey,
    Contract,
    Install,
    Market,
    MarketState,
    MeterPoint,
    PriceStep,
    Request,
    Supplier,
    amount_of,
    find_residual,
)

HOUSE, LAMP = IPv4Address("10.0.0.4"), IPv4Address("10.0.0.5")
CAPACITY_MW = 1_000
SUPPLIERS = {
    number: Supplier(
        number=number, name=str(number), sources=(IPv4Address(number),), capacity_mw=CAPACITY_MW,
        steps=(PriceStep(0, 1000 * number), PriceStep(43_200, 1500 - number)),
    )
    for number in (1, 2, 3)
}  # fmt: skip
CONTRACTS = {
    MeterPoint(HOUSE, link): Contract(customer=f"customer {link % 2}", supplier=link, fee=7 * link)
    for link in (1, 2, 3)
}
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "report", "answer", "price", "release"]),
        st.integers(1, 3),
        st.integers(1, 3),
        st.integers(0, 2 * UJ_PER_KWH),
    ),
    max_size=40,
)


@pytest.mark.requirement("MPLA-6-05", "MPLA-6-07")
@given(ACTS)
def test_capacity_holds_and_bills_close(acts: list[tuple[str, int, int, int]]) -> None:
    state = MarketState(Market(currency="EUR", suppliers=SUPPLIERS, contracts=CONTRACTS))
    registers: dict[CircuitKey, int] = {}
    live: dict[CircuitKey, Request] = {}
    charged = 0
    for at, (act, link, lsp, value) in enumerate(acts):
        now = at * 3600 * 10**9
        key = CircuitKey((IPv4Address(link), lsp, LAMP), lsp)
        if act == "ask" and key not in live:
            request = Request(
                circuit=key, point=MeterPoint(HOUSE, link), power_mw=value % 700, priority=8
            )
            answer = decide(request, state, now)
            if isinstance(answer, Install):
                state.commit(request, answer, now)
                live[key], registers[key] = request, 0
        elif act in ("report", "answer") and key in live:
            registers[key] += value
            charged += state.report(key, registers[key], is_answer=act == "answer")
        elif act == "price":
            state.set_price(link, value % 5_000 - 1_000)
            list(state.requote(now))
        elif act == "release":
            state.release(key)
            live.pop(key, None)
        for number in SUPPLIERS:
            used = sum(one.power_mw for row, one in live.items() if int(row.session[0]) == number)
            assert used <= CAPACITY_MW
    bills = state.bills()
    assert sum(bill.energy_uj for bill in bills) == charged
    assert find_residual(bills) == 0
    paid = sum(bill.amount for bill in bills)
    assert paid == sum(bill.for_supply + bill.for_network for bill in bills)


@pytest.mark.requirement("MPLA-6-07")
@given(st.integers(-(10**30), 10**30))
def test_an_amount_is_that_of_exact_fractions(product: int) -> None:
    assert amount_of(product) == round(Fraction(product, UJ_PER_KWH))
