"""The policeman of a network: one end of COPS for each edge LSR, one market, and the books.

A carrier feeds octets and time, sends what `data_to_send` returns on each connection that `ready`
names, and closes those that `is_closed` says. `now` is ns since a midnight, as in `market`.
MPLampS section 6.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final

from powertcp.errors import PowerRefused, known
from powertcp.machine import Buffer
from powertcp.mplamps.blotter import (
    CircuitAdmitted,
    CircuitEnded,
    CircuitMetered,
    CircuitRefused,
    CircuitReleased,
    CircuitRequoted,
    MarketTaken,
    MeterDoubted,
    PaymentTaken,
    PepJoined,
    PepLeft,
    PolicemanEvent,
    PriceStepped,
    Standing,
    SupplierReadmitted,
    SupplierWithdrawn,
)
from powertcp.mplamps.cops import (
    CircuitDeleted,
    CircuitReported,
    CircuitRequested,
    Code,
    ConnectionLost,
    ErrorCode,
    Pdp,
    PepOpened,
    ReportKind,
    StateSynchronized,
)
from powertcp.mplamps.deciding import decide
from powertcp.mplamps.market import (
    CAPACITY_CODE,
    Bill,
    CircuitKey,
    Install,
    Market,
    MarketState,
    Remove,
    Request,
    Terms,
    Total,
    find_residual,
)
from powertcp.mplamps.petition import decide_standing, edge_of, read_request, refusal_octets
from powertcp.mplamps.power import TariffKind, TariffObject
from powertcp.mplamps.topology import Node, Topology
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, Instant

# MPLA-6-01: decisions that nobody asked for, 1,000 a second
PER_TICK: Final = 10
# circuits that are looked at for them
LOOKS: Final = 1_000
TICK_NS: Final = 10 * NS_PER_MS
# connections that have not said who they are; the others are one for each edge LSR
MAX_UNOPENED: Final = 64
# an over-current protection opens at 125 % of the grant, after one second
MAX_OVER: Final = 2
SLACK_S: Final = 60
# what a journal can hold of one charge
_MAX_CHARGE_UJ: Final = 1 << 62


@dataclass(slots=True, eq=False)
class _Circuit:
    """A circuit that is supplied.

    number: of the connection on which it was asked for, 0 for an earlier policeman's. is_told: a
    new price was told, and the meter has not answered. is_late: it was told again, so that an
    answer may have been lost. is_ended: it was removed, and not deleted yet. is_due: it waits to be
    looked at.
    """

    pep: IPv4Address
    handle: bytes
    request: Request
    number: int = 0
    is_told: bool = False
    is_late: bool = False
    is_ended: bool = False
    is_due: bool = False


class _Line:
    """One connection. vouched: the address of the peer, None if anybody may say to be anyone."""

    def __init__(self, vouched: IPv4Address | None, now: Instant) -> None:
        self.pdp = Pdp(now)
        self.vouched = vouched
        self.edge: Node | None = None
        self.has_state = False
        self.asked: set[bytes] = set()
        self.is_over = False


class Policeman:
    """The PDP of a network. counters: what was dropped or refused to peers that err, by what."""

    def __init__(self, topology: Topology, market: Market, now: Instant) -> None:
        """Begin without connections, circuits and debts."""
        self.state = MarketState(market)
        self.counters: Counter[str] = Counter()
        self._topology = topology
        self._lines: dict[int, _Line] = {}
        self._unopened = 0
        self._last = 0
        self._at: dict[IPv4Address, int] = {}
        self._circuits: dict[IPv4Address, dict[bytes, _Circuit]] = {}
        self._keys: dict[CircuitKey, _Circuit] = {}
        self._events: deque[PolicemanEvent] = deque()
        self._ready: dict[int, None] = {}
        self._timers: list[tuple[Instant, int]] = []
        self._due: deque[_Circuit] = deque()
        self._tick_at = now
        self._prices: dict[int, int] = {}
        self._step_at: Instant | None = None
        self._read_prices(now)

    def __len__(self) -> int:
        return len(self._keys)

    # ---- connections ----------------------------------------------------------------------------

    def connect(self, now: Instant, vouched: IPv4Address | None = None) -> int:
        """Take a new connection and return its number.

        vouched: the address that the peer has for sure: it can then say to be no other. Raises
        PowerRefused 508 while 64 connections have not said who they are.
        """
        # MPLA-4.10-03
        if self._unopened >= MAX_UNOPENED:
            self.counters["too many connections"] += 1
            raise PowerRefused(Refusal(Reason.LIMIT, MAX_UNOPENED + 1, MAX_UNOPENED))
        self._unopened += 1
        self._last += 1
        line = self._lines[self._last] = _Line(vouched, now)
        at = line.pdp.get_timer()
        if at is not None:
            heapq.heappush(self._timers, (at, self._last))
        return self._last

    def receive_data(self, number: int, data: Buffer, now: Instant) -> None:
        """Take octets of a connection; never raises on their content."""
        line = self._lines.get(number)
        if line is not None:
            line.pdp.receive_data(data, now)
            self._heed(number, line, now)

    def receive_eof(self, number: int, now: Instant) -> None:
        """Take the end of a connection."""
        line = self._lines.get(number)
        if line is not None:
            line.pdp.receive_eof(now)
            self._heed(number, line, now)

    def data_to_send(self, number: int) -> bytes:
        """Drain octets for a connection; after the last ones of one that is closed it is forgotten."""
        line = self._lines.get(number)
        if line is None:
            return b""
        octets = line.pdp.data_to_send()
        if line.is_over:
            del self._lines[number]
        return octets

    def is_closed(self, number: int) -> bool:
        """Whether a connection is to be closed, once its octets are sent."""
        line = self._lines.get(number)
        return line is None or line.is_over

    def ready(self) -> tuple[int, ...]:
        """Drain the numbers of the connections that may have octets to send, or are closed."""
        found = tuple(self._ready)
        self._ready.clear()
        return found

    def close(self, now: Instant) -> None:
        """End every connection: the policeman goes off duty."""
        for number, line in tuple(self._lines.items()):
            line.pdp.close(Code(ErrorCode.SHUTTING_DOWN))
            self._heed(number, line, now)

    def next_event(self) -> PolicemanEvent | None:
        """Drain one event."""
        return self._events.popleft() if self._events else None

    @property
    def peps(self) -> tuple[IPv4Address, ...]:
        """The edge LSRs that are connected."""
        return tuple(self._at)

    def standings(self) -> list[Standing]:
        """Return every circuit that is supplied."""
        return [found for one in self._keys.values() if (found := self._standing(one))]

    # ---- what people say ------------------------------------------------------------------------

    def set_price(self, supplier: int, price: int, now: Instant) -> None:
        """Let a kWh cost `price` from now on, whatever the time of day; its circuits are told.

        Raises LocalProtocolError for a supplier that is withdrawn, or not in the market.
        """
        self.state.set_price(supplier, price)
        self._read_prices(now)
        self._events.append(PriceStepped(supplier=supplier, price=price, is_set=True))
        self._look_at(now, supplier)

    def withdraw(self, supplier: int, now: Instant) -> None:
        """Take a supplier out of the market: its circuits are ended, with OFFERs of the others.

        Raises LocalProtocolError for a supplier that is not in the market.
        """
        self.state.withdraw(supplier)
        self._events.append(SupplierWithdrawn(supplier=supplier))
        self._look_at(now, supplier)

    def readmit(self, supplier: int, now: Instant) -> None:
        """Let a supplier that was withdrawn sell again.

        Raises LocalProtocolError for one that is not withdrawn, or not in the market.
        """
        self.state.readmit(supplier)
        self._read_prices(now)
        self._events.append(SupplierReadmitted(supplier=supplier))

    def pay(self, customer: str, amount: int) -> None:
        """Note that a customer has paid an amount, millionths of the currency unit."""
        self.state.pay(customer, amount)
        self._events.append(PaymentTaken(customer=customer, amount=amount))

    def take(self, market: Market, now: Instant) -> None:
        """Go by another market; each circuit is looked at again.

        Raises LocalProtocolError, nothing changed, for one in another currency.
        """
        self.state.take(market)
        self._read_prices(now)
        self._events.append(MarketTaken())
        self._look_at(now)

    def bills(self) -> list[Bill]:
        """Return what each customer owes each supplier and the network for all that was metered."""
        return self.state.bills()

    def residual(self) -> int:
        """Return what customers pay less what suppliers and network get: 0."""
        return find_residual(self.state.bills())

    # ---- what is kept ---------------------------------------------------------------------------

    def restore(
        self,
        standings: Iterable[Standing],
        totals: Iterable[Total],
        *,
        prices: Mapping[int, int] = MappingProxyType({}),
        withdrawn: Iterable[int] = (),
        paid: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Go on with what an earlier policeman has supplied and charged, before anybody connects.

        prices: that people had set, by supplier. withdrawn: suppliers. paid: by customer. Edge LSRs
        that have these circuits ask for them again.
        """
        suppliers = self.state.market.suppliers
        for number in suppliers.keys() & prices.keys():
            self.state.set_price(number, prices[number])
        for number in suppliers.keys() & set(withdrawn):
            self.state.withdraw(number)
        for customer, amount in paid.items():
            self.state.pay(customer, amount)
        for one in standings:
            self._put(_Circuit(one.pep, one.handle, one.request()))
            self.state.restore(one.circuit, one.terms)
        for total in totals:
            self.state.restore_total(total)
        self._read_prices(self._tick_at)

    def _standing(self, circuit: _Circuit) -> Standing | None:
        terms = self.state.terms(circuit.request.circuit)
        if terms is None:
            return None
        request = circuit.request
        return Standing(circuit.pep, circuit.handle, request.circuit, request.priority, terms)

    # ---- time -----------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or one before it, or None."""
        times = [self._timers[0][0]] if self._timers else []
        if self._step_at is not None:
            times.append(self._step_at)
        if self._due:
            times.append(self._tick_at)
        return min(times, default=None)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`: give up who is silent, step prices, tell them."""
        while self._timers and self._timers[0][0] <= now:
            _, number = heapq.heappop(self._timers)
            line = self._lines.get(number)
            if line is None:
                continue
            line.pdp.handle_timer(now)
            self._heed(number, line, now)
            at = line.pdp.get_timer()
            if at is not None:
                heapq.heappush(self._timers, (at, number))
        if self._step_at is not None and now >= self._step_at:
            self._step(now)
        self._tell(now)

    def _read_prices(self, now: Instant) -> None:
        """Note the prices in force, and when the day changes one of them."""
        rows = self.state.market.suppliers.values()
        self._prices = {row.number: self.state.price(row.number, now) for row in rows}
        changes = (row.next_change(now) for row in self.state.sellers())
        self._step_at = min((at for at in changes if at is not None), default=None)

    def _step(self, now: Instant) -> None:
        # MPLA-6-01
        before = self._prices
        self._read_prices(now)
        for supplier, price in self._prices.items():
            if price != before[supplier]:
                self._events.append(PriceStepped(supplier=supplier, price=price, is_set=False))
                self._look_at(now, supplier)

    def _look_at(self, now: Instant, supplier: int | None = None) -> None:
        """Look at the circuits of a supplier, or all, as fast as decisions may be sent."""
        for key, circuit in self._keys.items():
            terms = self.state.terms(key)
            if terms is not None and supplier in (None, terms.supplier):
                self._look(circuit)
        self._tell(now)

    def _look(self, circuit: _Circuit) -> None:
        if not circuit.is_due:
            circuit.is_due = True
            self._due.append(circuit)

    # MPLA-6-01
    def _tell(self, now: Instant) -> None:
        """Look at circuits until 10 decisions are sent, if 10 ms have passed since the last ones."""
        if now < self._tick_at:
            return
        sent = 0
        for _ in range(LOOKS):
            if not self._due or sent == PER_TICK:
                break
            circuit = self._due.popleft()
            circuit.is_due = False
            sent += self._review(circuit, now)
        if sent:
            self._tick_at = now + TICK_NS

    def _review(self, circuit: _Circuit, now: Instant) -> bool:
        """Tell a circuit its new price, or end it; return whether a decision was sent."""
        number = circuit.number
        terms = self.state.terms(circuit.request.circuit)
        if self._at.get(circuit.pep) != number or terms is None or circuit.is_ended:
            # who comes back asks again
            return False
        pdp = self._lines[number].pdp
        decision = decide_standing(circuit.request, terms.supplier, self.state, now)
        if isinstance(decision, Remove) and decision.code != CAPACITY_CODE:
            # MPLA-6-06
            octets = refusal_octets(circuit.pep, decision)
            pdp.remove(circuit.handle, octets, is_answer=False)
            circuit.is_ended = True
            standing = Standing(*self._names(circuit), terms)
            self._events.append(CircuitEnded(standing=standing, refusal=decision))
        elif circuit.is_told:
            # told when the meter has answered to the price before
            return False
        else:
            quote = self.state.requote_one(circuit.request.circuit, now)
            if quote is None:
                return False
            # MPLA-6-01
            pdp.install(circuit.handle, quote, is_answer=False)
            circuit.is_told = True
            standing = Standing(*self._names(circuit), terms)
            self._events.append(CircuitRequoted(standing=standing, quote=quote))
        self._ready[number] = None
        return True

    def _names(self, circuit: _Circuit) -> tuple[IPv4Address, bytes, CircuitKey, int]:
        return circuit.pep, circuit.handle, circuit.request.circuit, circuit.request.priority

    # ---- what edge LSRs say ---------------------------------------------------------------------

    def _heed(self, number: int, line: _Line, now: Instant) -> None:
        """Act on what the machine of a connection has to say."""
        self._ready[number] = None
        while (event := line.pdp.next_event()) is not None:
            match event:
                case PepOpened():
                    self._open(number, line, event, now)
                case ConnectionLost():
                    self._leave(number, line)
                case _ if line.edge is None or line.is_over:
                    continue
                case CircuitRequested():
                    self._judge(number, line, event, now)
                case CircuitReported():
                    self._report(line.edge.address, event, now)
                case CircuitDeleted(handle=handle):
                    if circuit := self._of(line.edge.address).get(handle):
                        self._release(circuit)
                case StateSynchronized():
                    self._complete(line, line.edge.address)

    # MPLA-6-03
    def _open(self, number: int, line: _Line, event: PepOpened, now: Instant) -> None:
        """Let in an edge LSR of the topology; its earlier connection is over."""
        edge = edge_of(self._topology, event.pep_id)
        if edge is None or line.vouched not in (None, edge.address):
            self.counters["stranger"] += 1
            line.pdp.close(Code(ErrorCode.AUTHENTICATION_FAILURE))
            return
        if line.edge is not None:
            self.counters["opened twice"] += 1
            line.pdp.close(Code(ErrorCode.CLIENT_FAILURE))
            return
        earlier = self._at.get(edge.address)
        if earlier is not None:
            self._lines[earlier].pdp.close(Code(ErrorCode.SHUTTING_DOWN))
            self._heed(earlier, self._lines[earlier], now)
        line.edge, line.has_state = edge, event.has_state
        self._unopened -= 1
        self._at[edge.address] = number
        self._events.append(PepJoined(pep=edge.address, has_state=event.has_state))
        if not event.has_state:
            for circuit in tuple(self._of(edge.address).values()):
                self._release(circuit)

    def _leave(self, number: int, line: _Line) -> None:
        """A connection is over; what its edge LSR has stays as it is. MPLA-6-02."""
        line.is_over = True
        if line.edge is None:
            self._unopened -= 1
        elif self._at.get(line.edge.address) == number:
            del self._at[line.edge.address]
            self._events.append(PepLeft(pep=line.edge.address))

    def _complete(self, line: _Line, pep: IPv4Address) -> None:
        """An edge LSR has asked again for all that it has: the rest is no more."""
        if not line.has_state:
            return
        line.has_state = False
        for handle, circuit in tuple(self._of(pep).items()):
            if handle not in line.asked:
                self._release(circuit)
        line.asked.clear()

    def _judge(self, number: int, line: _Line, event: CircuitRequested, now: Instant) -> None:
        """Decide on a circuit and tell the edge LSR."""
        edge = known(line.edge, "who asks has said who it is")
        pep = edge.address
        if line.has_state:
            line.asked.add(event.handle)
        request = read_request(self._topology, edge, event.interface, event.info)
        decision: Install | Remove
        if isinstance(request, Remove):
            decision = request
        else:
            circuit = _Circuit(pep, event.handle, request, number)
            decision = self._decide(circuit, now)
        if isinstance(decision, Remove):
            # MPLA-6-04
            line.pdp.remove(event.handle, refusal_octets(pep, decision))
            self.counters["refused"] += 1
            has_offers = decision.value == Reason.TARIFF and bool(decision.offers)
            is_enquiry = has_offers and isinstance(request, Request) and request.source == pep
            self._events.append(
                CircuitRefused(
                    pep=pep, interface=event.interface, refusal=decision, is_enquiry=is_enquiry
                )
            )
        else:
            line.pdp.install(event.handle, decision.quote)

    def _decide(self, circuit: _Circuit, now: Instant) -> Install | Remove:
        """Decide on a circuit; one that is installed is supplied then."""
        key = circuit.request.circuit
        before, terms = self._of(circuit.pep).get(circuit.handle), self.state.terms(key)
        if before is not None and before.request.circuit == key and terms is not None:
            # what waits of it is looked at no more
            circuit.is_told, before.is_ended = before.is_told, True
            return self._decide_again(circuit, terms, now)
        for other in (before, self._keys.get(key)):
            if other is not None and self._keys.get(other.request.circuit) is other:
                self.counters["replaced"] += 1
                self._release(other)
        decision = decide(circuit.request, self.state, now)
        if isinstance(decision, Install):
            self.state.commit(circuit.request, decision, now)
            self._put(circuit)
            self._say_admitted(circuit, decision.quote, is_again=False)
        return decision

    # MPLA-6-04
    def _decide_again(self, circuit: _Circuit, terms: Terms, now: Instant) -> Install | Remove:
        """Decide on a circuit that is supplied: it stays with its supplier, charged as it was."""
        request = circuit.request
        decision = decide_standing(request, terms.supplier, self.state, now)
        self._put(circuit)
        if isinstance(decision, Remove):
            circuit.is_ended = True
            return decision
        key = request.circuit
        self.state.amend(key, request.power_mw)
        is_new = self.state.requote_one(key, now) is not None
        # what was told before may have been lost, or the answer
        circuit.is_told = circuit.is_late = is_new or circuit.is_told
        source = key.session[0]
        quote = self.state.tariff(TariffKind.QUOTE, terms.supplier, source, terms.fee, now)
        self._say_admitted(circuit, quote, is_again=True)
        return Install(quote)

    def _say_admitted(self, circuit: _Circuit, quote: TariffObject, *, is_again: bool) -> None:
        standing = self._standing(circuit)
        if standing is not None:
            self._events.append(CircuitAdmitted(standing=standing, quote=quote, is_again=is_again))

    def _report(self, pep: IPv4Address, event: CircuitReported, now: Instant) -> None:
        """Charge a circuit up to its register. MPLA-6-07."""
        circuit, meter = self._of(pep).get(event.handle), event.meter
        if circuit is None:
            self.counters["report of nobody"] += 1
            return
        key = circuit.request.circuit
        terms = self.state.terms(key)
        if meter is None or terms is None:
            return
        most_uj = MAX_OVER * terms.power_mw * (meter.seconds + SLACK_S) * 1000
        if meter.energy_uj > min(most_uj, terms.energy_uj + _MAX_CHARGE_UJ):
            self.counters["meter doubted"] += 1
            self._events.append(
                MeterDoubted(standing=Standing(*self._names(circuit), terms), meter=meter)
            )
            return
        is_answer = event.is_answer and event.kind is ReportKind.ACCOUNTING and circuit.is_told
        is_late = circuit.is_late and not is_answer
        # MPLA-6-01
        used = self.state.report(key, meter.energy_uj, is_answer=is_answer, is_late=is_late)
        if is_answer or is_late:
            circuit.is_told = circuit.is_late = False
            self._look(circuit)
        standing = self._standing(circuit)
        if standing is not None and (standing.terms != terms or meter.is_final):
            total = self.state.total(terms.customer, terms.supplier)
            self._events.append(
                CircuitMetered(
                    standing=standing, used_uj=used, total=total, is_final=meter.is_final
                )
            )
        contract = self.state.market.contract(terms.point)
        if contract is not None and contract.credit is not None:
            self._look(circuit)
        self._tell(now)

    # ---- circuits -------------------------------------------------------------------------------

    def _of(self, pep: IPv4Address) -> dict[bytes, _Circuit]:
        return self._circuits.setdefault(pep, {})

    def _put(self, circuit: _Circuit) -> None:
        self._of(circuit.pep)[circuit.handle] = circuit
        self._keys[circuit.request.circuit] = circuit

    def _release(self, circuit: _Circuit) -> None:
        standing = self._standing(circuit)
        key = circuit.request.circuit
        del self._of(circuit.pep)[circuit.handle], self._keys[key]
        circuit.is_ended = True
        self.state.release(key)
        if standing is not None:
            self._events.append(CircuitReleased(standing=standing))
