"""What a policeman notes: circuits as they are kept, and what happened to them and to the market.

MPLampS section 6; `policeman` reports these events, a carrier writes them down.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import NamedTuple, TypeAlias

from powertcp.machine import Event
from powertcp.mplamps.cops import Interface
from powertcp.mplamps.market import CircuitKey, Remove, Request, Terms, Total
from powertcp.mplamps.power import MeterObject, TariffObject


class Standing(NamedTuple):
    """A circuit that is supplied, as it is to be kept: whose, which one, at what terms.

    pep, handle: the edge LSR, and its number for the circuit.
    """

    pep: IPv4Address
    handle: bytes
    circuit: CircuitKey
    priority: int
    terms: Terms

    def request(self) -> Request:
        """Return what was asked for, without a LIMIT."""
        return Request(
            circuit=self.circuit,
            point=self.terms.point,
            power_mw=self.terms.power_mw,
            priority=self.priority,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PepJoined(Event):
    """An edge LSR has opened. has_state: it asks again for what it has."""

    pep: IPv4Address
    has_state: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PepLeft(Event):
    """The connection of an edge LSR is gone; its circuits stay."""

    pep: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitAdmitted(Event):
    """A circuit is supplied from now on at this quote. is_again: it was supplied before."""

    standing: Standing
    quote: TariffObject
    is_again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRefused(Event):
    """A circuit was asked for by an edge LSR, of a link to a lamp, and refused.

    is_enquiry: the lamp has no preference and asked its edge LSR, to be told the OFFERs.
    """

    pep: IPv4Address
    interface: Interface
    refusal: Remove
    is_enquiry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitMetered(Event):
    """A circuit was charged. used_uj: since it was charged before. total: what is owed by it."""

    standing: Standing
    used_uj: int
    total: Total
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDoubted(Event):
    """A METER says more than the circuit can have carried: nothing is charged."""

    standing: Standing
    meter: MeterObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRequoted(Event):
    """A circuit has been told another price, in force when its meter has answered."""

    standing: Standing
    quote: TariffObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitEnded(Event):
    """The edge LSR has been told to end a circuit; its last METER follows."""

    standing: Standing
    refusal: Remove


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReleased(Event):
    """A circuit is supplied no longer."""

    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceStepped(Event):
    """A kWh of a supplier has another price. is_set: by a person, and not by the time of day."""

    supplier: int
    price: int
    is_set: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplierWithdrawn(Event):
    """A supplier sells nothing more."""

    supplier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplierReadmitted(Event):
    """A supplier that was withdrawn sells again."""

    supplier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentTaken(Event):
    """A customer has paid an amount."""

    customer: str
    amount: int


@dataclass(frozen=True, slots=True)
class MarketTaken(Event):
    """Another market is gone by; prices that people had set hold no longer."""


PolicemanEvent: TypeAlias = (
    PepJoined
    | PepLeft
    | CircuitAdmitted
    | CircuitRefused
    | CircuitMetered
    | MeterDoubted
    | CircuitRequoted
    | CircuitEnded
    | CircuitReleased
    | PriceStepped
    | SupplierWithdrawn
    | SupplierReadmitted
    | PaymentTaken
    | MarketTaken
)
