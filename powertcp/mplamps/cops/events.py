"""What both ends of COPS report: to the edge LSR what was decided, to the policeman who asks.

MPLampS section 6.
"""

from dataclasses import dataclass
from typing import TypeAlias

from powertcp.machine import Event
from powertcp.mplamps.cops.messages import Code, Interface, ReportKind
from powertcp.mplamps.power import MeterObject, TariffObject
from powertcp.units import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitDecided(Event):
    """Go on with the circuit at this quote, or with None refuse it with the objects of `data`.

    data: ERROR_SPEC and OFFERs; empty if there is nobody to ask: error 2, value 0. is_local: decided
    here. A circuit that was decided before and is refused now is to be torn down and deleted.
    """

    handle: bytes
    quote: TariffObject | None
    data: bytes = b""
    is_local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChanged(Event):
    """Report the meter as the answer, then send the RESV with this quote."""

    handle: bytes
    quote: TariffObject


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterWanted(Event):
    """It is time for a meter of the circuit."""

    handle: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost(Event):
    """Close the connection; retry_at: when a PEP connects again, None for a PDP."""

    retry_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PepOpened(Event):
    """An edge LSR is there. has_state: its circuits come again now."""

    pep_id: str
    has_state: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRequested(Event):
    """Answer with `install` or `remove`. info: the objects of the PATH."""

    handle: bytes
    interface: Interface
    info: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReported(Event):
    """A circuit is closed, has failed, or was metered. is_answer: to a decision."""

    handle: bytes
    kind: ReportKind
    meter: MeterObject | None
    is_answer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitDeleted(Event):
    """A circuit is no more."""

    handle: bytes
    reason: Code


@dataclass(frozen=True, slots=True)
class StateSynchronized(Event):
    """All circuits of the edge LSR have been requested again."""


PepEvent: TypeAlias = CircuitDecided | PriceChanged | MeterWanted | ConnectionLost
PdpEvent: TypeAlias = (
    PepOpened
    | CircuitRequested
    | CircuitReported
    | CircuitDeleted
    | StateSynchronized
    | ConnectionLost
)
