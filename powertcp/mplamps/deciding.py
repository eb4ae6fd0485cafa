"""What the policeman decides on a circuit that is asked for, by the rules of the market.

MPLampS section 6; who is supplied, and at which price, is in `market`.
"""

from powertcp.mplamps.market import (
    CAPACITY_CODE,
    MAX_OFFERS,
    NO_BANDWIDTH,
    POLICY_CODE,
    PRIVATE_CODE,
    UJ_PER_KWH,
    Contract,
    Decision,
    Install,
    MarketState,
    Remove,
    Request,
    amount_of,
)
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.registry import Reason
from powertcp.units import Instant


def decide(request: Request, state: MarketState, now: Instant) -> Decision:
    """Answer a request by the first rule that fails; nothing is changed. MPLA-6-05."""
    # MPLA-6-05
    contract = state.market.contract(request.point)
    if contract is None:
        text = f"no contract at link {request.point.link} of {request.point.node}"
        return Remove(code=POLICY_CODE, value=0, text=text)
    if request.priority < contract.best_priority:
        text = f"asked priority {request.priority}, the best is {contract.best_priority}"
        return Remove(code=PRIVATE_CODE, value=Reason.PRIORITY_DENIED, text=text)
    asked = request.tariff.supplier if request.tariff else 0
    number = asked or contract.supplier or _cheapest(state, now)
    if said := _said_of_tariff(request, number, contract, state, now):
        offers = _offers(request, contract, state, now)
        return Remove(code=PRIVATE_CODE, value=Reason.TARIFF, text=said, offers=offers)
    supplier = state.market.suppliers[number]
    room = state.room_mw(number, request.circuit)
    if request.power_mw > room:
        text = f"asked {request.power_mw:,} mW, {supplier.name} has {max(room, 0):,} mW left"
        return Remove(code=CAPACITY_CODE, value=NO_BANDWIDTH, text=text)
    if contract.credit is not None:
        owed = state.unpaid(contract.customer)
        if owed >= contract.credit * UJ_PER_KWH:
            text = f"{contract.customer} owes {amount_of(owed):,} of a credit of "
            text += f"{contract.credit:,} millionths"
            return Remove(code=PRIVATE_CODE, value=Reason.PAYMENT_REQUIRED, text=text)
    source = request.circuit.session[0]
    return Install(state.tariff(TariffKind.QUOTE, number, source, contract.fee, now))


def _cheapest(state: MarketState, now: Instant) -> int:
    """Return the supplier of the lowest price, of equal ones the lower, 0 if there is none."""
    numbers = [supplier.number for supplier in state.sellers()]
    return min(numbers, key=lambda number: (state.price(number, now), number), default=0)


def _said_of_tariff(
    request: Request, number: int, contract: Contract, state: MarketState, now: Instant
) -> str:
    """Return why a supplier does not fit a request, "" if it does."""
    supplier = next((row for row in state.sellers() if row.number == number), None)
    if supplier is None:
        return f"supplier {number} sells nothing" if number else "no supplier sells anything"
    limit = request.tariff
    price = state.price(number, now) + contract.fee
    if limit is not None:
        if limit.currency != state.market.currency:
            return f"the limit is in {limit.currency}, prices are in {state.market.currency}"
        if price > limit.price:
            return f"a kWh of {supplier.name} is {price:,} millionths, the limit {limit.price:,}"
    if request.circuit.session[0] not in supplier.sources:
        return f"{request.circuit.session[0]} is no source of {supplier.name}"
    return ""


def _offers(
    request: Request, contract: Contract, state: MarketState, now: Instant
) -> tuple[TariffObject, ...]:
    """Return up to 8 OFFERs of what has room, or of all where nothing has, the cheapest first.

    Who asks for an offer that has no room is told so in numbers, and not that there is no supplier.
    The first source of each supplier comes before the second of any, so that one of many sources
    does not hide the others.
    """
    # MPLA-6-06
    sellers, wanted = state.sellers(), request.power_mw
    roomy = [row for row in sellers if state.room_mw(row.number, request.circuit) >= wanted]
    rows = [
        (at, state.price(supplier.number, now), supplier.number, source)
        for supplier in roomy or sellers
        for at, source in enumerate(supplier.sources)
    ]
    chosen = sorted(rows)[:MAX_OFFERS]
    chosen.sort(key=lambda row: (row[1], row[2], row[0]))
    return tuple(
        state.tariff(TariffKind.OFFER, number, source, contract.fee, now)
        for _, _, number, source in chosen
    )
