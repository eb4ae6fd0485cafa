"""What people are told of a policeman: the log, and the last refusals."""

import logging
from collections import Counter, deque
from ipaddress import IPv4Address
from typing import Final

from powertcp.drivers.control import Fields
from powertcp.mplamps.blotter import (
    CircuitAdmitted,
    CircuitEnded,
    CircuitMetered,
    CircuitRefused,
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
from powertcp.mplamps.market import PRIVATE_CODE, Remove
from powertcp.mplamps.topology import Topology
from powertcp.registry import Reason
from powertcp.units import format_power

# as many as a person reads
MAX_REFUSALS: Final = 64
# the reasons of standard codes: no room, and the policeman says no
_NO_ROOM: Final = 1
_log = logging.getLogger("pdp")


def reason_of(refusal: Remove) -> int:
    """Return the reason code that people are told for a refusal."""
    if refusal.code == PRIVATE_CODE:
        return refusal.value
    return Reason.NO_CAPACITY if refusal.code == _NO_ROOM else Reason.POLICY


class Notes:
    """Log lines with the names of the topology, counts, and the last refusals."""

    def __init__(self, topology: Topology) -> None:
        """Begin with nothing."""
        self.counts: Counter[str] = Counter()
        self._topology = topology
        self._refusals: deque[Fields] = deque(maxlen=MAX_REFUSALS)

    def take(self, event: PolicemanEvent) -> None:
        """Take note of what happened."""
        match event:
            case PepJoined(pep=pep, has_state=has_state):
                again = ", asks again for what it has" if has_state else ""
                _log.info("edge LSR %s is there%s", self.name(pep), again)
            case PepLeft(pep=pep):
                _log.info("edge LSR %s is gone, its circuits stay", self.name(pep))
            case CircuitAdmitted(standing=standing, quote=quote, is_again=is_again):
                self.counts["admitted again" if is_again else "admitted"] += 1
                power, price = format_power(standing.terms.power_mw), money(quote.price)
                _log.debug(
                    "%s: %s for %s from supplier %d at %s %s/kWh",
                    self.where(standing), power, standing.terms.customer, quote.supplier,
                    price, quote.currency,
                )  # fmt: skip
            case CircuitMetered():
                self.counts["metered"] += 1
            case CircuitRefused(pep=pep, interface=interface, refusal=refusal):
                where = f"{self.name(pep)}/{self.name(interface.address)}"
                if event.is_enquiry:
                    self.counts["asked for offers"] += 1
                    _log.info("%s asked for offers: %d", where, len(refusal.offers))
                else:
                    self._refuse(where, refusal)
            case CircuitEnded(standing=standing, refusal=refusal):
                self._refuse(self.where(standing), refusal, "a circuit was ended")
            case MeterDoubted(standing=standing, meter=meter):
                self.counts["meter doubted"] += 1
                _log.warning(
                    "%s: a METER of %d uJ in %d s is more than %d mW can have given",
                    self.where(standing), meter.energy_uj, meter.seconds, standing.terms.power_mw,
                )  # fmt: skip
            case PriceStepped() | SupplierWithdrawn() | SupplierReadmitted():
                _say_of_supplier(event)
            case PaymentTaken(customer=customer, amount=amount):
                _log.info("%s has paid %s", customer, money(amount))
            case _:
                return

    def _refuse(self, where: str, refusal: Remove, what: str = "a circuit was refused") -> None:
        reason = reason_of(refusal)
        self.counts["refused"] += 1
        _log.info("%s: %s: %d, %s", where, what, reason, refusal.text)
        self._refusals.append(
            {
                "flow": where,
                "what": what,
                "wanted": "",
                "given": "",
                "code": reason,
                "sentence": refusal.text,
                "value": refusal.value,
                "limit": 0,
            }
        )

    def refusals(self, what: str = "") -> list[Fields]:
        """Return the last refusals, of a meter point or of all."""
        return [one for one in self._refusals if what in ("", one["flow"])]

    def where(self, standing: Standing) -> str:
        """Return a circuit as the market has its meter point: LSR/LAMP."""
        return f"{self.name(standing.pep)}/{self.name(standing.circuit.session[2])}"

    def name(self, address: IPv4Address) -> str:
        """Return the name of the node with an address, or the address."""
        node = self._topology.at(address)
        return node.name if node is not None else str(address)


def _say_of_supplier(event: PriceStepped | SupplierWithdrawn | SupplierReadmitted) -> None:
    match event:
        case PriceStepped(supplier=supplier, price=price, is_set=is_set):
            how = "by order" if is_set else "by the time of day"
            _log.info("supplier %d: %s/kWh, %s", supplier, money(price), how)
        case SupplierWithdrawn(supplier=supplier):
            _log.warning("supplier %d sells nothing more", supplier)
        case SupplierReadmitted(supplier=supplier):
            _log.info("supplier %d sells again", supplier)


def counted(number: int, noun: str) -> str:
    """Return "1 circuit", "2,000 circuits"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def money(micro: int) -> str:
    """Return millionths of a currency unit as decimal number: "0.2841", "-0.05"."""
    whole, part = divmod(abs(micro), 10**6)
    digits = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro < 0 else ''}{whole:,}.{digits}"
