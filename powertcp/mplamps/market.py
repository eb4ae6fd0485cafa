"""The market: suppliers, meter points, the decisions of the policeman, and exact bills.

A time is in ns since a midnight, that of 1970 or that before a simulation, so that it tells the
time of day. A price is in millionths of the currency unit per kWh, an amount in millionths of it.
MPLampS section 6; the document of a market is read by `tariffs`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final, NamedTuple, TypeAlias

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.units import NS_PER_S, Instant

# what a refusal carries, MPLampS section 4.10
MAX_OFFERS: Final = 8
UJ_PER_KWH: Final = 3_600_000_000_000
DAY_S: Final = 86_400
# the code of a refusal that has a reason of our own, and the standard codes of two that have none
PRIVATE_CODE: Final = 252
CAPACITY_CODE: Final = 1
POLICY_CODE: Final = 2
NO_BANDWIDTH: Final = 2


class PriceStep(NamedTuple):
    """From `at_s` seconds after midnight, 0..86,399, a kWh costs `price`."""

    at_s: int
    price: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplier:
    """A seller of energy. sources: its ESs, first preferred. steps: ascending, at least one.

    number: 1..2^32-1. capacity_mw: what it may have committed at a time.
    """

    number: int
    name: str
    sources: tuple[IPv4Address, ...]
    capacity_mw: int
    steps: tuple[PriceStep, ...]

    def step(self, now: Instant) -> int:
        """Return which of `steps` is in force; before the first of a day the last one is."""
        second = now // NS_PER_S % DAY_S
        begun = sum(step.at_s <= second for step in self.steps)
        return (begun or len(self.steps)) - 1

    def next_change(self, now: Instant) -> Instant | None:
        """Return when the next step begins, None if there is only one."""
        if len(self.steps) == 1:
            return None
        day = now // (DAY_S * NS_PER_S) * DAY_S
        starts = [day + step.at_s for step in self.steps]
        starts.append(starts[0] + DAY_S)
        return next(at * NS_PER_S for at in starts if at * NS_PER_S > now)


class MeterPoint(NamedTuple):
    """What identifies a customer: an edge LSR, and the number of its link to the lamp."""

    node: IPv4Address
    link: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a customer has agreed to at a meter point. supplier: 0 without preference.

    best_priority: 1..15, a lamp asks for none that is a lower number. credit: an amount, None
    without limit. fee: of the network, a price on top of the supplier's.
    """

    customer: str
    supplier: int = 0
    best_priority: int = 1
    credit: int | None = None
    fee: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What is agreed. serves_any: a meter point without contract gets one without terms."""

    currency: str
    suppliers: dict[int, Supplier]
    contracts: dict[MeterPoint, Contract]
    serves_any: bool = False

    def contract(self, point: MeterPoint) -> Contract | None:
        """Return the contract of a meter point, None if nothing is sold there."""
        contract = self.contracts.get(point)
        if contract is None and self.serves_any:
            return Contract(customer=f"{point.node}/{point.link}")
        return contract


class CircuitKey(NamedTuple):
    """A circuit: its session, (source, tunnel, lamp), and the number of the LSP."""

    session: tuple[IPv4Address, int, IPv4Address]
    lsp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an edge LSR asks for a circuit. priority: 1..15. power_mw: what the lamp asks.

    tariff: the LIMIT of the PATH, None without one. The source is that of the session, or the
    address of the edge LSR for a lamp without preference.
    """

    circuit: CircuitKey
    point: MeterPoint
    power_mw: int
    priority: int
    tariff: TariffObject | None = None

    @property
    def source(self) -> IPv4Address:
        """The address that is asked for power."""
        return self.circuit.session[0]


@dataclass(frozen=True, slots=True)
class Install:
    """The circuit may be had at this QUOTE, the fee of the network in it."""

    quote: TariffObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """The circuit may not be had. code, value: of the ERROR_SPEC. offers: what could be had."""

    code: int
    value: int
    text: str
    offers: tuple[TariffObject, ...] = ()


Decision: TypeAlias = Install | Remove


class Terms(NamedTuple):
    """How a circuit is supplied: what is to be kept of it. energy_uj: of its register, charged."""

    point: MeterPoint
    customer: str
    supplier: int
    power_mw: int
    price: int
    fee: int
    energy_uj: int


class Total(NamedTuple):
    """What a customer has had of a supplier: uJ, and uJ times price of supply and of network."""

    customer: str
    supplier: int
    energy_uj: int
    for_supply: int
    for_network: int


@dataclass(slots=True)
class _Supply:
    """A circuit that is supplied: by whom, at which prices, and its register so far."""

    point: MeterPoint
    customer: str
    supplier: int
    power_mw: int
    price: int
    fee: int
    quote: TariffObject
    energy_uj: int = 0
    coming: TariffObject | None = None


@dataclass(slots=True)
class _Account:
    """What a customer has had of a supplier, in uJ and in uJ times price."""

    energy_uj: int = 0
    supply: int = 0
    fees: int = 0


class Bill(NamedTuple):
    """What a customer pays for the energy of one supplier: amount == for_supply + for_network."""

    customer: str
    supplier: int
    energy_uj: int
    amount: int
    for_supply: int
    for_network: int


class MarketState:
    """Who is supplied at which price, and what is owed."""

    def __init__(self, market: Market) -> None:
        """Begin without circuits and debts."""
        self.market = market
        self.backward = 0
        self._prices: dict[int, int] = {}
        self._withdrawn: set[int] = set()
        # who is not in the market that is gone by
        self._gone: set[int] = set()
        self._supplies: dict[CircuitKey, _Supply] = {}
        self._sessions: dict[object, dict[CircuitKey, _Supply]] = {}
        self._committed: Counter[int] = Counter()
        self._accounts: dict[tuple[str, int], _Account] = {}
        self._owed: Counter[str] = Counter()
        self._paid: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._supplies)

    def set_price(self, supplier: int, price: int) -> None:
        """Set a price that holds from now on, whatever the time of day.

        Raises LocalProtocolError for a supplier that is withdrawn, or not in the market.
        """
        self._find(supplier)
        if supplier in self._withdrawn:
            raise LocalProtocolError(f"supplier {supplier} is withdrawn: restore it first")
        self._prices[supplier] = price

    def withdraw(self, supplier: int) -> list[CircuitKey]:
        """Take a supplier that can deliver no longer out of the market, until it is readmitted.

        Returns its circuits. They stay supplied, at the old price, until they are released. Raises
        LocalProtocolError for a supplier that is not in the market.
        """
        self._find(supplier)
        self._withdrawn.add(supplier)
        return [key for key, supply in self._supplies.items() if supply.supplier == supplier]

    def readmit(self, supplier: int) -> None:
        """Let a supplier that was withdrawn sell again.

        Raises LocalProtocolError for one that is not withdrawn, or not in the market.
        """
        self._find(supplier)
        if supplier not in self._withdrawn:
            raise LocalProtocolError(f"supplier {supplier} is not withdrawn")
        self._withdrawn.remove(supplier)

    def _find(self, supplier: int) -> None:
        if supplier not in self.market.suppliers or supplier in self._gone:
            raise LocalProtocolError(f"no supplier {supplier} in the market")

    @property
    def withdrawn(self) -> list[int]:
        """The suppliers of the market that were withdrawn, ascending."""
        return sorted(self._withdrawn - self._gone)

    def take(self, market: Market) -> None:
        """Go by another market; prices that were set hold no longer, who is not in it sells nothing.

        Raises LocalProtocolError for one in another currency.
        """
        before = self.market
        if market.currency != before.currency:
            text = f"prices are in {before.currency}, not in {market.currency}"
            raise LocalProtocolError(text)
        self._gone = before.suppliers.keys() - market.suppliers.keys()
        self.market = replace(market, suppliers=before.suppliers | market.suppliers)
        self._prices.clear()

    def sellers(self) -> list[Supplier]:
        """Return the suppliers that sell."""
        rows = self.market.suppliers.values()
        return [row for row in rows if row.number not in self._withdrawn | self._gone]

    def price(self, supplier: int, now: Instant) -> int:
        """Return what a kWh of a supplier in the market costs, without the fee of the network."""
        row = self.market.suppliers[supplier]
        own = self._prices.get(supplier)
        return row.steps[row.step(now)].price if own is None else own

    def tariff(
        self, kind: TariffKind, supplier: int, source: IPv4Address, fee: int, now: Instant
    ) -> TariffObject:
        """Return the QUOTE or OFFER of a supplier for energy of one of its sources.

        A tariff is numbered as the step of the day that it is, from 1.
        """
        row = self.market.suppliers[supplier]
        is_set = supplier in self._prices
        change = None if is_set else row.next_change(now)
        left = 0 if change is None else max(1, (change - now) // NS_PER_S)
        return TariffObject(
            kind=kind,
            price=self.price(supplier, now) + fee,
            currency=self.market.currency,
            supplier=supplier,
            source=source,
            tariff_id=len(row.steps) + 1 if is_set else row.step(now) + 1,
            valid_s=left,
        )

    def room_mw(self, supplier: int, circuit: CircuitKey) -> int:
        """Return what a supplier can commit to a circuit; those of its session count once.

        That is the greatest of them, as on the links (MPLampS section 4.6).
        """
        own = self._share(circuit.session, supplier)
        free = self.market.suppliers[supplier].capacity_mw - self._committed[supplier]
        return free + own

    def unpaid(self, customer: str) -> int:
        """Return what a customer has had and not paid, in uJ times price."""
        return self._owed[customer] - self._paid[customer] * UJ_PER_KWH

    def pay(self, customer: str, amount: int) -> None:
        """Note a payment."""
        self._paid[customer] += amount

    # ---- circuits ---------------------------------------------------------------------------

    def commit(self, request: Request, decision: Install, now: Instant) -> None:
        """Supply a circuit as `decide` has answered; one that is supplied has the new terms.

        The register of a circuit goes on; its energy until now is reported first.
        """
        contract = self.market.contract(request.point)
        quote = decision.quote
        if contract is None:
            raise LocalProtocolError(f"no contract at {request.point}")
        before = self._supplies.get(request.circuit)
        if before is not None:
            self.release(request.circuit)
        supply = _Supply(
            request.point, contract.customer, quote.supplier, request.power_mw,
            self.price(quote.supplier, now), contract.fee, quote,
            before.energy_uj if before else 0,
        )  # fmt: skip
        self._move(request.circuit, supply)

    def release(self, circuit: CircuitKey) -> None:
        """Supply a circuit no longer; what it has had stays owed."""
        if circuit in self._supplies:
            self._move(circuit, None)

    def amend(self, circuit: CircuitKey, power_mw: int) -> None:
        """A circuit that is supplied asks for another power, at the terms that it has."""
        supply = self._supplies[circuit]
        self._move(circuit, replace(supply, power_mw=power_mw))

    def terms(self, circuit: CircuitKey) -> Terms | None:
        """Return how a circuit is supplied, None if it is not."""
        one = self._supplies.get(circuit)
        if one is None:
            return None
        return Terms(
            one.point, one.customer, one.supplier, one.power_mw, one.price, one.fee, one.energy_uj
        )

    def restore(self, circuit: CircuitKey, terms: Terms) -> None:
        """Supply a circuit as it was supplied before; a supplier that is not there sells nothing."""
        number = terms.supplier
        if number not in self.market.suppliers:
            row = Supplier(
                number=number, name=f"supplier {number}", sources=(), capacity_mw=0,
                steps=(PriceStep(0, terms.price),),
            )  # fmt: skip
            self.market = replace(self.market, suppliers=self.market.suppliers | {number: row})
            self._gone.add(number)
        quote = TariffObject(
            kind=TariffKind.QUOTE,
            price=terms.price + terms.fee,
            currency=self.market.currency,
            supplier=number,
            source=circuit.session[0],
        )
        self._move(circuit, _Supply(*terms[:6], quote, terms.energy_uj))

    def report(
        self,
        circuit: CircuitKey,
        energy_uj: int,
        *,
        is_answer: bool = False,
        is_late: bool = False,
    ) -> int:
        """Charge a circuit up to its register, at the price in force, and return the uJ charged.

        is_answer: the meter is read because of `requote`; from here on the new price is in force.
        is_late: the answer was lost: the lower of both prices is charged, then the new one is in
        force. A register that has run backward is counted and charges nothing.
        """
        supply = self._supplies.get(circuit)
        if supply is None:
            return 0
        used = energy_uj - supply.energy_uj
        if used < 0:
            self.backward += 1
            used = 0
        supply.energy_uj += used
        if is_late and supply.coming is not None:
            supply.price = min(supply.price, supply.coming.price - supply.fee)
        account = self._accounts.setdefault((supply.customer, supply.supplier), _Account())
        account.energy_uj += used
        account.supply += used * supply.price
        account.fees += used * supply.fee
        self._owed[supply.customer] += used * (supply.price + supply.fee)
        # MPLA-6-01
        if (is_answer or is_late) and supply.coming is not None:
            supply.price = supply.coming.price - supply.fee
            supply.quote, supply.coming = supply.coming, None
        return used

    def requote(self, now: Instant) -> Iterator[tuple[CircuitKey, TariffObject]]:
        """Yield each circuit whose price has changed, with its new QUOTE, each once.

        The old price is charged until the `report` that answers. The caller sends at most 1,000
        decisions a second. MPLA-6-01.
        """
        for circuit in self._supplies:
            quote = self.requote_one(circuit, now)
            if quote is not None:
                yield circuit, quote

    def requote_one(self, circuit: CircuitKey, now: Instant) -> TariffObject | None:
        """Return the new QUOTE of a circuit as `requote` yields it, None if there is none."""
        supply = self._supplies[circuit]
        newest = supply.coming or supply.quote
        if newest.price == self.price(supply.supplier, now) + supply.fee:
            return None
        supply.coming = self.tariff(
            TariffKind.QUOTE, supply.supplier, newest.source, supply.fee, now
        )
        return supply.coming

    # ---- bills ------------------------------------------------------------------------------

    def total(self, customer: str, supplier: int) -> Total:
        """Return what a customer has had of a supplier."""
        one = self._accounts.get((customer, supplier), _Account())
        return Total(customer, supplier, one.energy_uj, one.supply, one.fees)

    def restore_total(self, total: Total) -> None:
        """Take what a customer had of a supplier before; it is owed."""
        account = _Account(*total[2:])
        self._accounts[total.customer, total.supplier] = account
        self._owed[total.customer] += account.supply + account.fees

    def bills(self) -> list[Bill]:
        """Return what each customer pays for what each supplier has delivered, exact.

        The amount is rounded once, so is the part of the network; the supplier gets the rest, so
        that nothing is left over.
        """
        # MPLA-6-07
        made = []
        for (customer, supplier), account in sorted(self._accounts.items()):
            amount = amount_of(account.supply + account.fees)
            fees = amount_of(account.fees)
            made.append(Bill(customer, supplier, account.energy_uj, amount, amount - fees, fees))
        return made

    def _share(self, session: object, supplier: int) -> int:
        circuits = self._sessions.get(session, {}).values()
        return max((one.power_mw for one in circuits if one.supplier == supplier), default=0)

    def _move(self, circuit: CircuitKey, supply: _Supply | None) -> None:
        """Put a circuit in place, or None: remove it, and keep the sums of the suppliers."""
        old = self._supplies.get(circuit)
        touched = {one.supplier for one in (old, supply) if one is not None}
        session = self._sessions.setdefault(circuit.session, {})
        before = {number: self._share(circuit.session, number) for number in touched}
        if supply is None:
            del self._supplies[circuit], session[circuit]
        else:
            self._supplies[circuit] = session[circuit] = supply
        for number in touched:
            self._committed[number] += self._share(circuit.session, number) - before[number]
        if not session:
            del self._sessions[circuit.session]


def amount_of(product: int) -> int:
    """Return the amount of a sum of uJ times price: divided once, rounded half to even."""
    # MPLA-6-07
    whole, rest = divmod(product, UJ_PER_KWH)
    return whole + (2 * rest > UJ_PER_KWH or (2 * rest == UJ_PER_KWH and whole % 2))


def find_residual(bills: Iterable[Bill]) -> int:
    """Return what customers pay less what suppliers and network get: 0."""
    # MPLA-6-07
    return sum(bill.amount - bill.for_supply - bill.for_network for bill in bills)


# ---- what a lamp does ---------------------------------------------------------------------------


def is_within(tariff: TariffObject, limit: TariffObject | None) -> bool:
    """Whether a lamp with this LIMIT, None without one, pays a tariff."""
    if limit is None:
        return True
    fits = limit.supplier in (0, tariff.supplier)
    return fits and tariff.currency == limit.currency and tariff.price <= limit.price


def choose_offer(
    offers: Iterable[TariffObject], limit: TariffObject | None = None
) -> TariffObject | None:
    """Return the cheapest OFFER within the limit, of equal ones that of the lower supplier."""
    # MPLA-6-06
    fit = [offer for offer in offers if is_within(offer, limit)]
    return min(fit, key=lambda offer: (offer.price, offer.supplier), default=None)


def find_better(
    quote: TariffObject, offers: Iterable[TariffObject], limit: TariffObject | None = None
) -> TariffObject | None:
    """Return the OFFER of another supplier to which a lamp changes, None if it stays.

    It changes when its QUOTE is above its LIMIT, or more than 5 % above what it can get.
    """
    # MPLA-6-01
    others = [offer for offer in offers if offer.supplier != quote.supplier]
    best = choose_offer(others, limit)
    if best is None or (limit is not None and not is_within(quote, limit)):
        return best
    is_dear = best.currency == quote.currency and 20 * (quote.price - best.price) > abs(best.price)
    return best if is_dear else None
