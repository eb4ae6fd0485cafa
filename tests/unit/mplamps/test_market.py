"""Decisions rule by rule, time of day, commitments, offers, and bills to the last millionth."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.deciding import decide
from powertcp.mplamps.market import (
    DAY_S,
    MAX_OFFERS,
    UJ_PER_KWH,
    CircuitKey,
    Contract,
    Install,
    Market,
    MarketState,
    MeterPoint,
    PriceStep,
    Remove,
    Request,
    Supplier,
    Terms,
    Total,
    amount_of,
    choose_offer,
    find_better,
    find_residual,
    is_within,
)
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.units import NS_PER_S

HOUSE = IPv4Address("10.0.0.4")
LAMP = IPv4Address("10.0.0.5")
POINT = MeterPoint(HOUSE, 4)
ES = [IPv4Address(f"10.0.1.{number}") for number in range(20)]
NOON = 12 * 3600 * NS_PER_S


def seller(number: int, *prices: int, **changes: object) -> Supplier:
    steps = tuple(PriceStep(6 * 3600 * at, price) for at, price in enumerate(prices))
    row = Supplier(
        number=number,
        name=f"seller {number}",
        sources=(ES[number],),
        capacity_mw=10**6,
        steps=steps,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def state(*suppliers: Supplier, any_point: bool = False, **terms: object) -> MarketState:
    contract = replace(Contract(customer="Ada", best_priority=8, fee=10), **terms)  # type: ignore[arg-type]
    rows = {row.number: row for row in suppliers}
    return MarketState(
        Market(currency="EUR", suppliers=rows, contracts={POINT: contract}, serves_any=any_point)
    )


def circuit(lsp: int = 1, source: IPv4Address = ES[7], tunnel: int = 1) -> CircuitKey:
    return CircuitKey((source, tunnel, LAMP), lsp)


def limit(price: int, supplier: int = 0, currency: str = "EUR") -> TariffObject:
    return TariffObject.make(TariffKind.LIMIT, price, currency, supplier=supplier)


def ask(**changes: object) -> Request:
    row = Request(circuit=circuit(), point=POINT, power_mw=59_800, priority=9)
    return replace(row, **changes)  # type: ignore[arg-type]


def removed(request: Request, market: MarketState, now: int = NOON) -> tuple[int, int]:
    answer = decide(request, market, now)
    assert isinstance(answer, Remove)
    assert answer.text
    return answer.code, answer.value


def installed(request: Request, market: MarketState, now: int = NOON) -> Install:
    answer = decide(request, market, now)
    assert isinstance(answer, Install), answer
    return answer


def offer(supplier: int, price: int, currency: str = "EUR") -> TariffObject:
    return TariffObject.make(TariffKind.OFFER, price, currency, supplier=supplier)


def test_prices_follow_the_time_of_day() -> None:
    row = seller(7, 100, 200, 300)
    row = replace(row, steps=row.steps[1:])
    at = 6 * 3600 * NS_PER_S
    prices = [row.steps[row.step(now)].price for now in (0, at - 1, at, 2 * at - 1, 2 * at, 4 * at)]
    assert prices == [300, 300, 200, 200, 300, 300]
    assert [row.next_change(now) for now in (0, at, 2 * at)] == [at, 2 * at, 5 * at]
    assert seller(7, 100).next_change(NOON) is None


def test_a_quote_tells_price_with_fee_source_and_how_long() -> None:
    market = state(seller(7, 100, 200))
    quote = installed(ask(), market, 3600 * NS_PER_S).quote
    assert quote == TariffObject.make(
        TariffKind.QUOTE, 110, "EUR", supplier=7, source=ES[7], tariff_id=1, valid_s=5 * 3600
    )
    assert installed(ask(), market, 3600 * NS_PER_S - 1).quote.valid_s == 5 * 3600
    assert installed(ask(), market, 6 * 3600 * NS_PER_S - 1).quote.valid_s == 1
    market.set_price(7, 500)
    quote = installed(ask(), market).quote
    assert (quote.price, quote.tariff_id, quote.valid_s) == (510, 3, 0)
    with pytest.raises(LocalProtocolError, match="no supplier 8"):
        market.set_price(8, 1)


@pytest.mark.requirement("MPLA-6-05")
def test_the_meter_point_identifies_the_customer() -> None:
    elsewhere = ask(point=MeterPoint(HOUSE, 5))
    assert removed(elsewhere, state(seller(7, 100))) == (2, 0)
    market = state(seller(7, 100), any_point=True)
    answer = installed(replace(elsewhere, priority=1), market)
    assert answer.quote.price == 100, "no fee without a contract"
    market.commit(elsewhere, answer, NOON)
    market.report(elsewhere.circuit, UJ_PER_KWH)
    assert [bill.customer for bill in market.bills()] == ["10.0.0.4/5"]
    with pytest.raises(LocalProtocolError, match="no contract"):
        state(seller(7, 100)).commit(elsewhere, answer, NOON)


@pytest.mark.requirement("MPLA-6-05")
def test_each_rule_answers_with_its_code_in_its_order() -> None:
    market = state(seller(7, 100, capacity_mw=59_800), credit=1)
    market.commit(ask(), installed(ask(), market), NOON)
    market.report(circuit(), UJ_PER_KWH)
    bad = ask(
        point=MeterPoint(HOUSE, 9), priority=7, tariff=limit(109, 8), power_mw=59_801,
        circuit=circuit(source=ES[8]),
    )  # fmt: skip
    steps: list[tuple[dict[str, object], tuple[int, int]]] = [
        ({}, (2, 0)),
        ({"point": POINT}, (252, 105)),
        ({"priority": 8}, (252, 104)),
        ({"tariff": limit(109)}, (252, 104)),
        ({"tariff": limit(110, currency="CHF")}, (252, 104)),
        ({"tariff": limit(110)}, (252, 104)),
        ({"circuit": circuit()}, (1, 2)),
        ({"power_mw": 59_800}, (252, 402)),
    ]
    said = set()
    for change, expected in steps:
        bad = replace(bad, **change)  # type: ignore[arg-type]
        assert removed(bad, market) == expected, change
        said.add(getattr(decide(bad, market, NOON), "text", ""))
    assert len(said) == len(steps), "each says something of its own"
    market.pay("Ada", 110)
    installed(bad, market)


@pytest.mark.requirement("MPLA-6-05")
def test_the_supplier_is_that_of_the_request_then_the_contract_then_the_cheapest() -> None:
    sellers = seller(7, 100), seller(3, 90), seller(2, 90)
    assert installed(ask(circuit=circuit(source=ES[2])), state(*sellers)).quote.supplier == 2
    market = state(*sellers, supplier=7)
    assert installed(ask(), market).quote.supplier == 7
    own = ask(circuit=circuit(source=ES[3]), tariff=limit(100, 3))
    assert installed(own, market).quote.supplier == 3


@pytest.mark.requirement("MPLA-6-05")
def test_equal_states_give_equal_decisions_and_are_not_changed() -> None:
    market, other = state(seller(7, 100)), state(seller(7, 100))
    first = decide(ask(), market, NOON)
    assert first == decide(ask(), market, NOON) == decide(ask(), other, NOON)
    assert len(market) == 0


@pytest.mark.requirement("MPLA-6-05")
def test_a_supplier_commits_no_more_than_it_has_and_a_session_counts_once() -> None:
    market = state(seller(7, 100, capacity_mw=100))
    first = ask(power_mw=60)
    market.commit(first, installed(first, market), NOON)
    second = ask(power_mw=41, circuit=circuit(tunnel=2))
    assert removed(second, market) == (1, 2)
    again = ask(power_mw=100, circuit=circuit(lsp=2))
    market.commit(again, installed(again, market), NOON)
    assert len(market) == 2
    assert removed(replace(second, power_mw=1), market) == (1, 2)
    market.release(again.circuit)
    second = replace(second, power_mw=40)
    market.commit(second, installed(second, market), NOON)
    assert market.room_mw(7, circuit(tunnel=3)) == 0
    for row in (first, second, second):
        market.release(row.circuit)
    assert (len(market), market.room_mw(7, circuit())) == (0, 100)


@pytest.mark.requirement("MPLA-6-06")
def test_a_refusal_of_a_tariff_carries_the_cheapest_offers() -> None:
    many = [seller(n, 200 - 10 * n, sources=(ES[n], ES[n + 10])) for n in range(1, 10)]
    market = state(*many, seller(10, 1, capacity_mw=1))
    answer = decide(ask(circuit=circuit(source=HOUSE), tariff=limit(200, 9)), market, NOON)
    assert isinstance(answer, Remove)
    assert len(answer.offers) == MAX_OFFERS
    assert [one.supplier for one in answer.offers] == [9, 8, 7, 6, 5, 4, 3, 2]
    assert [one.source for one in answer.offers] == [ES[n] for n in range(9, 1, -1)]
    assert {one.kind for one in answer.offers} == {TariffKind.OFFER}
    best = choose_offer(answer.offers, limit(200))
    assert best is not None
    request = ask(circuit=circuit(source=best.source), tariff=limit(200, best.supplier))
    assert installed(request, market).quote.price == best.price == 120
    few = decide(ask(circuit=circuit(source=HOUSE)), state(many[0], many[1]), NOON)
    assert isinstance(few, Remove)
    assert [one.source for one in few.offers] == [ES[2], ES[12], ES[1], ES[11]]


@pytest.mark.requirement("MPLA-6-06")
def test_a_lamp_takes_the_cheapest_offer_within_its_limit_and_of_equal_ones_the_lower() -> None:
    offers = [offer(3, 100), offer(2, 100), offer(1, 101), offer(4, 50, "CHF")]
    best = choose_offer(offers, limit(100))
    assert best is not None
    assert best.supplier == 2
    assert choose_offer(offers, limit(99)) is None
    only = choose_offer(offers, limit(200, 1))
    assert only is not None
    assert only.supplier == 1
    assert is_within(offer(1, 5), None)


@pytest.mark.requirement("MPLA-6-01")
@pytest.mark.parametrize(
    ("price", "best", "bound", "changes"),
    [
        (105, 100, None, False),
        (106, 100, None, True),
        (106, 105, 105, True),
        (106, 100, 99, False),
        (-94, -100, None, True),
        (-95, -100, None, False),
        (1, 0, None, True),
    ],
)
def test_a_lamp_changes_above_its_limit_or_five_percent(
    price: int, best: int, bound: int | None, changes: bool
) -> None:
    quote = replace(offer(7, price), kind=TariffKind.QUOTE)
    most = None if bound is None else limit(bound)
    found = find_better(quote, [offer(7, best - 9), offer(8, best)], most)
    assert (found == offer(8, best)) is changes
    assert found is None or changes


@pytest.mark.requirement("MPLA-6-01")
def test_the_old_price_holds_until_the_meter_is_read() -> None:
    market = state(seller(7, 100))
    market.commit(ask(), installed(ask(), market), NOON)
    assert list(market.requote(NOON)) == []
    market.set_price(7, 400)
    [(key, quote)] = market.requote(NOON)
    assert (key, quote.price, quote.kind) == (circuit(), 410, TariffKind.QUOTE)
    assert list(market.requote(NOON)) == [], "each once"
    assert market.report(key, UJ_PER_KWH) == UJ_PER_KWH
    assert market.report(key, 2 * UJ_PER_KWH, is_answer=True) == UJ_PER_KWH
    assert market.report(key, 3 * UJ_PER_KWH, is_answer=True) == UJ_PER_KWH
    [bill] = market.bills()
    assert bill == ("Ada", 7, 3 * UJ_PER_KWH, 110 + 110 + 410, 600, 30)


@pytest.mark.requirement("MPLA-6-07")
def test_bills_are_exact_and_nothing_is_left_over() -> None:
    market = state(seller(7, 150_000), seller(8, -3), fee=80_001)
    for number, uj in ((7, 1_234_567_891_234), (8, 999_999_999_999)):
        key = circuit(source=ES[number])
        request = ask(circuit=key, tariff=limit(10**6, number))
        market.commit(request, installed(request, market), NOON)
        assert market.report(key, uj // 3) + market.report(key, uj) == uj
        market.release(key)
        assert market.report(key, 2 * uj) == 0
    first, second = market.bills()
    assert first.amount == round(1_234_567_891_234 * 230_001 / UJ_PER_KWH)
    assert second.amount == round(999_999_999_999 * 79_998 / UJ_PER_KWH)
    assert first.for_supply + first.for_network == first.amount
    assert find_residual((first, second)) == 0
    half = UJ_PER_KWH // 2
    assert [amount_of(n * half) for n in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]
    assert [amount_of(half + 1), amount_of(half - 1), amount_of(-half - 1)] == [1, 0, -1]


def test_a_register_that_runs_backward_is_counted_and_charges_nothing() -> None:
    market = state(seller(7, 100))
    market.commit(ask(), installed(ask(), market), NOON)
    assert [market.report(circuit(), uj) for uj in (100, 40, 110)] == [100, 0, 10]
    assert market.backward == 1


def test_a_circuit_with_new_terms_keeps_its_register() -> None:
    market = state(seller(7, 100))
    for _ in range(2):
        market.commit(ask(), installed(ask(), market), NOON)
        market.report(circuit(), 100)
    assert [bill.energy_uj for bill in market.bills()] == [100]


def test_a_bankrupt_supplier_sells_no_more_and_its_circuits_are_named() -> None:
    market = state(seller(7, 100), seller(8, 200))
    market.commit(ask(), installed(ask(), market), NOON)
    assert market.withdraw(7) == [circuit()]
    answer = decide(ask(tariff=limit(500, 7)), market, NOON)
    assert isinstance(answer, Remove)
    assert answer.value == 104
    assert [one.supplier for one in answer.offers] == [8]
    market.withdraw(8)
    assert removed(ask(), market) == (252, 104)
    answer = decide(ask(), market, NOON)
    assert isinstance(answer, Remove)
    assert (answer.text, answer.offers) == ("no supplier sells anything", ())


def test_a_supplier_that_was_withdrawn_is_readmitted_and_sells_as_before() -> None:
    market = state(seller(7, 100))
    market.set_price(7, 300)
    market.withdraw(7)
    assert market.withdrawn == [7]
    with pytest.raises(LocalProtocolError, match="supplier 7 is withdrawn: restore it first"):
        market.set_price(7, 100)
    market.readmit(7)
    assert (market.withdrawn, installed(ask(), market).quote.price) == ([], 310)
    for number, said in ((7, "supplier 7 is not withdrawn"), (8, "no supplier 8 in the market")):
        with pytest.raises(LocalProtocolError, match=said):
            market.readmit(number)


def test_a_supplier_that_leaves_the_document_sells_again_when_it_comes_back() -> None:
    market = state(seller(7, 100), seller(8, 200))
    whole = market.market
    market.take(replace(whole, suppliers={8: whole.suppliers[8]}))
    with pytest.raises(LocalProtocolError, match="no supplier 7"):
        market.set_price(7, 100)
    assert [row.number for row in market.sellers()] == [8]
    market.withdraw(8)
    market.take(whole)
    assert [row.number for row in market.sellers()] == [7]
    assert market.withdrawn == [8]


@pytest.mark.requirement("MPLA-6-05", "MPLA-6-06")
def test_who_asks_for_more_than_any_has_left_is_told_that_and_not_that_nobody_sells() -> None:
    market = state(seller(7, 100), seller(8, 90))
    enquiry = ask(circuit=circuit(source=HOUSE), power_mw=10**6 + 1)
    answer = decide(enquiry, market, NOON)
    assert isinstance(answer, Remove)
    assert (answer.code, answer.value) == (252, 104)
    best = choose_offer(answer.offers)
    assert best is not None
    assert best.supplier == 8
    chosen = replace(enquiry, circuit=circuit(source=best.source), tariff=limit(500, 8))
    refused = decide(chosen, market, NOON)
    assert isinstance(refused, Remove)
    assert (refused.code, refused.value) == (1, 2)
    assert refused.text == "asked 1,000,001 mW, seller 8 has 1,000,000 mW left"


def test_days_repeat() -> None:
    market = state(seller(7, 100, 200))
    later = 400 * DAY_S * NS_PER_S
    assert decide(ask(), market, NOON) == decide(ask(), market, NOON + later)


# ---- what is kept ---------------------------------------------------------------------------------


@pytest.mark.requirement("MPLA-6-07")
def test_what_is_restored_goes_on_where_it_ended() -> None:
    first = state(seller(7, 100))
    first.commit(ask(), installed(ask(), first), NOON)
    assert first.report(circuit(), 1_000) == 1_000
    terms, total = first.terms(circuit()), first.total("Ada", 7)
    assert terms == Terms(POINT, "Ada", 7, 59_800, 100, 10, 1_000)
    assert total == Total("Ada", 7, 1_000, 100_000, 10_000)
    second = state(seller(7, 300))
    second.restore(circuit(), terms)
    second.restore_total(total)
    assert second.room_mw(7, circuit(tunnel=2)) == 10**6 - 59_800
    assert (second.unpaid("Ada"), second.bills()) == (first.unpaid("Ada"), first.bills())
    quote = second.requote_one(circuit(), NOON)
    assert quote is not None
    assert quote.price == 310
    assert second.requote_one(circuit(), NOON) is None, "it is told once"
    assert second.report(circuit(), 1_500, is_answer=True) == 500
    assert second.report(circuit(), 1_600) == 100
    assert second.total("Ada", 7) == Total("Ada", 7, 1_600, 180_000, 16_000)
    assert second.terms(circuit(lsp=9)) is None


@pytest.mark.requirement("MPLA-6-07")
@pytest.mark.parametrize(("before", "after"), [(100, 300), (300, 100)])
def test_an_answer_that_was_lost_is_charged_at_the_lower_price(before: int, after: int) -> None:
    market = state(seller(7, before))
    market.commit(ask(), installed(ask(), market), NOON)
    market.set_price(7, after)
    assert market.requote_one(circuit(), NOON)
    market.report(circuit(), 10, is_late=True)
    assert market.total("Ada", 7).for_supply == 1_000
    market.report(circuit(), 20)
    assert market.total("Ada", 7).for_supply == 1_000 + 10 * after


def test_a_circuit_of_a_supplier_that_is_gone_is_billed_and_nothing_is_sold() -> None:
    market = state(seller(7, 100))
    market.restore(circuit(), Terms(POINT, "Ada", 9, 59_800, 250, 10, 0))
    market.report(circuit(), 2)
    assert market.total("Ada", 9) == Total("Ada", 9, 2, 500, 20)
    assert [row.number for row in market.sellers()] == [7]


def test_another_market_ends_prices_that_were_set() -> None:
    market = state(seller(7, 100), seller(8, 100))
    market.set_price(7, 500)
    market.take(state(seller(7, 120)).market)
    assert market.price(7, NOON) == 120
    assert [row.number for row in market.sellers()] == [7], "who is not in it sells nothing"
    assert market.price(8, NOON) == 100
    with pytest.raises(LocalProtocolError, match="in EUR, not in SEK"):
        market.take(replace(market.market, currency="SEK"))


def test_a_circuit_may_ask_for_another_power() -> None:
    market = state(seller(7, 100))
    market.commit(ask(), installed(ask(), market), NOON)
    market.amend(circuit(), 100_000)
    assert market.room_mw(7, circuit(tunnel=2)) == 900_000
