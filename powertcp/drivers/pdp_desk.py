"""What a policeman answers at his control socket: status, bills, and orders on prices."""

from collections.abc import Mapping
from typing import Final

import trio

from powertcp.drivers.control import Fields
from powertcp.drivers.pdp import PdpServer
from powertcp.drivers.pdp_notes import counted
from powertcp.errors import LocalProtocolError
from powertcp.mplamps.market import Bill, Market, Supplier
from powertcp.registry import Reason, Refusal

# millionths per kWh, as in the document of a market
MAX_PRICE: Final = 10**12
MAX_PAYMENT: Final = 10**18
# lines of one answer of the control socket
MAX_BILLS: Final = 250


def bill_fields(bill: Bill, market: Market) -> Fields:
    """Return a bill for programs, amounts in millionths of the currency unit."""
    found = market.suppliers.get(bill.supplier)
    return {
        "customer": bill.customer,
        "supplier": bill.supplier,
        "supplier_name": found.name if found else "",
        "energy_uj": bill.energy_uj,
        "amount_micro": bill.amount,
        "for_supply_micro": bill.for_supply,
        "for_network_micro": bill.for_network,
        "currency": market.currency,
    }


class PdpDesk:
    """Answers for one policeman."""

    def __init__(self, server: PdpServer) -> None:
        """Speak for `server`."""
        self._server = server
        self.orders = {
            "set-price": self.set_price,
            "withdraw": self.withdraw,
            "restore": self.restore,
            "pay": self.pay,
        }
        self.views = {"bills": self.bills}

    @property
    def _market(self) -> Market:
        return self._server.police.state.market

    # -- looks -------------------------------------------------------------------------------------

    def line(self) -> str:
        """Return one line for people."""
        police, topology = self._server.police, self._server.topology
        edges = sum(topology.is_edge(node.name) for node in topology.nodes)
        count = counted(len(police), "circuit")
        return f"{count}, {len(police.peps)} of {edges} edge LSRs are there"

    async def status(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Return what is supplied, by whom, at which prices."""
        await trio.lowlevel.checkpoint()
        server, police = self._server, self._server.police
        return {
            "state": "draining" if server.draining else f"serves {self.line()}",
            "circuits": len(police),
            "edges": [server.notes.name(pep) for pep in police.peps],
            "currency": self._market.currency,
            "suppliers": [self._supplier(row) for row in self._market.suppliers.values()],
            "counts": {**server.notes.counts, **police.counters},
            "residual_micro": police.residual(),
            "booked_uj": server.books.booked_uj,
            "fault": server.fault,
        }

    def _supplier(self, row: Supplier) -> Fields:
        police = self._server.police
        is_selling = row in police.state.sellers()
        return {
            "supplier": row.number,
            "name": row.name,
            "price_micro": police.state.price(row.number, self._server.now()),
            "is_selling": is_selling,
        }

    async def explain(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Return the last refusals, of the meter point LSR/LAMP or of all."""
        await trio.lowlevel.checkpoint()
        return {"explanations": self._server.notes.refusals(str(request.get("what") or ""))}

    async def bills(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Return bills, from number `from` on."""
        await trio.lowlevel.checkpoint()
        made, first = self._server.police.bills(), request.get("from", 0)
        if type(first) is not int or first < 0:
            return _said(f"from is a number, got {first!r}")
        some = made[first : first + MAX_BILLS]
        rows = [bill_fields(bill, self._market) for bill in some]
        return {"bills": rows, "count": len(made), "residual_micro": self._server.police.residual()}

    # -- orders ------------------------------------------------------------------------------------

    async def set_price(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Let a kWh of a supplier cost `price` millionths from now on."""
        supplier, price = request.get("supplier"), request.get("price")
        if type(supplier) is not int or type(price) is not int or abs(price) > MAX_PRICE:
            return _said(f"no price of supplier {supplier!r}: {price!r}")
        try:
            self._server.police.set_price(supplier, price, self._server.now())
        except LocalProtocolError as error:
            return _said(str(error))
        return await self._done({"supplier": supplier, "price_micro": price})

    async def withdraw(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Take a supplier out of the market; its circuits are ended."""
        supplier = request.get("supplier")
        if type(supplier) is not int:
            return _said(f"no supplier {supplier!r}")
        try:
            self._server.police.withdraw(supplier, self._server.now())
        except LocalProtocolError as error:
            return _said(str(error))
        return await self._done({"supplier": supplier, "is_selling": False})

    async def restore(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Let a supplier that was withdrawn sell again."""
        supplier = request.get("supplier")
        if type(supplier) is not int:
            return _said(f"no supplier {supplier!r}")
        try:
            self._server.police.readmit(supplier, self._server.now())
        except LocalProtocolError as error:
            return _said(str(error))
        return await self._done({"supplier": supplier, "is_selling": True})

    async def pay(self, request: Mapping[str, object]) -> Fields | Refusal:
        """Note that a customer has paid `amount` millionths."""
        customer, amount = request.get("customer"), request.get("amount")
        known = {row.customer for row in self._market.contracts.values()}
        known |= {bill.customer for bill in self._server.police.bills()}
        if customer not in known:
            return _said(f"no customer {customer!r} has a contract or a bill")
        if type(amount) is not int or not 0 < amount <= MAX_PAYMENT:
            return _said(f"no amount: {amount!r}")
        self._server.police.pay(str(customer), amount)
        return await self._done({"customer": str(customer), "amount_micro": amount})

    async def _done(self, answer: Fields) -> Fields | Refusal:
        """Answer when what was ordered is on the disk."""
        self._server.turn()
        if await self._server.books.written():
            return answer
        return Refusal(Reason.MAINTENANCE, rule=self._server.books.fault)


def _said(text: str) -> Refusal:
    return Refusal(Reason.POLICY, rule=text)
