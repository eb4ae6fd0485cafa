"""What a policeman writes into the audit log, and what those lines have led to."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from powertcp.errors import LedgerBroken
from powertcp.mplamps.blotter import (
    CircuitAdmitted,
    CircuitMetered,
    CircuitReleased,
    MarketTaken,
    PaymentTaken,
    PolicemanEvent,
    PriceStepped,
    Standing,
    SupplierReadmitted,
    SupplierWithdrawn,
)
from powertcp.mplamps.market import CircuitKey, MeterPoint, Terms, Total
from powertcp.store import Event

Facts = Mapping[str, object]


def _standing_facts(one: Standing) -> dict[str, object]:
    (es, tunnel, lamp), lsp = one.circuit
    terms = one.terms
    return {
        "pep": str(one.pep),
        "handle": one.handle.hex(),
        "es": str(es),
        "tunnel": tunnel,
        "lamp": str(lamp),
        "lsp": lsp,
        "priority": one.priority,
        "node": str(terms.point.node),
        "link": terms.point.link,
        "customer": terms.customer,
        "supplier": terms.supplier,
        "power_mw": terms.power_mw,
        "price": terms.price,
        "fee": terms.fee,
        "register_uj": terms.energy_uj,
    }


def _fact(facts: Facts, name: str) -> int:
    value = facts[name]
    if not isinstance(value, int):
        raise TypeError(name)
    return value


def _text(facts: Facts, name: str) -> str:
    value = facts[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _address(facts: Facts, name: str) -> IPv4Address:
    return IPv4Address(_text(facts, name))


def _standing_of(facts: Facts) -> Standing:
    session = _address(facts, "es"), _fact(facts, "tunnel"), _address(facts, "lamp")
    return Standing(
        _address(facts, "pep"),
        bytes.fromhex(_text(facts, "handle")),
        CircuitKey(session, _fact(facts, "lsp")),
        _fact(facts, "priority"),
        Terms(
            MeterPoint(_address(facts, "node"), _fact(facts, "link")),
            _text(facts, "customer"),
            _fact(facts, "supplier"),
            _fact(facts, "power_mw"),
            _fact(facts, "price"),
            _fact(facts, "fee"),
            _fact(facts, "register_uj"),
        ),
    )


def facts_of(event: PolicemanEvent, currency: str) -> tuple[str, Facts] | None:
    """Return kind and facts of an event that is to be kept, None for another one."""
    match event:
        case CircuitAdmitted(standing=standing):
            return "market-circuit", _standing_facts(standing) | {"currency": currency}
        case CircuitMetered(standing=standing, used_uj=used, total=total):
            return "market-meter", _standing_facts(standing) | {
                "used_uj": used,
                "total_uj": total.energy_uj,
                "for_supply": total.for_supply,
                "for_network": total.for_network,
            }
        case CircuitReleased(standing=standing):
            return "market-release", {"pep": str(standing.pep), "handle": standing.handle.hex()}
        case PriceStepped(supplier=supplier, price=price, is_set=True):
            return "market-price", {"supplier": supplier, "price": price}
        case SupplierWithdrawn(supplier=supplier):
            return "market-withdrawal", {"supplier": supplier}
        case SupplierReadmitted(supplier=supplier):
            return "market-restoration", {"supplier": supplier}
        case PaymentTaken(customer=customer, amount=amount):
            return "market-payment", {"customer": customer, "amount": amount}
        case MarketTaken():
            return "market-taken", {}
        case _:
            return None


@dataclass(slots=True)
class Kept:
    """What the lines so far have led to. currency: "" as long as there is none. number: of charges."""

    standings: dict[tuple[IPv4Address, bytes], Standing] = field(default_factory=dict)
    totals: dict[tuple[str, int], Total] = field(default_factory=dict)
    prices: dict[int, int] = field(default_factory=dict)
    withdrawn: set[int] = field(default_factory=set)
    paid: Counter[str] = field(default_factory=Counter)
    currency: str = ""
    number: int = 0

    def take(self, event: Event) -> None:
        """Take a line of the audit log. Raises LedgerBroken for one of ours that is none."""
        try:
            self._take(event.kind, event.data())
        except (KeyError, TypeError, ValueError) as error:
            text = f"it is no line of a market: {error!r}"
            raise LedgerBroken("ledger", f"event {event.seq}", text) from error

    def _take(self, kind: str, facts: Facts) -> None:
        match kind:
            case "market-circuit":
                self._stand(_standing_of(facts))
                self.currency = _text(facts, "currency")
            case "market-meter":
                standing = _standing_of(facts)
                self._stand(standing)
                key = standing.terms.customer, standing.terms.supplier
                sums = [_fact(facts, one) for one in ("total_uj", "for_supply", "for_network")]
                self.totals[key] = Total(*key, *sums)
                self.number += 1
            case "market-release":
                key_ = _address(facts, "pep"), bytes.fromhex(_text(facts, "handle"))
                self.standings.pop(key_, None)
            case "market-price":
                self.prices[_fact(facts, "supplier")] = _fact(facts, "price")
            case "market-withdrawal":
                self.withdrawn.add(_fact(facts, "supplier"))
            case "market-restoration":
                self.withdrawn.discard(_fact(facts, "supplier"))
            case "market-payment":
                self.paid[_text(facts, "customer")] += _fact(facts, "amount")
            case "market-taken":
                self.prices.clear()
            case _:
                # of the store, or of another daemon
                return

    def _stand(self, standing: Standing) -> None:
        self.standings[standing.pep, standing.handle] = standing
