"""What the signalling of a node reports: facts that somebody who knows power and routes answers.

MPLampS section 4.5. After PathArrived, PathRefused and ResvArrived a verb of `Rsvp` is called. Two
that are made for each message are not frozen.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import NamedTuple, TypeAlias

from powertcp.machine import Event
from powertcp.mplamps.power import PowerObject, TariffObject
from powertcp.mplamps.rsvp.messages import Path
from powertcp.mplamps.rsvp.objects import ErrorSpec, RecordedHop, Sender, Session


class CircuitId(NamedTuple):
    """A circuit: the session it belongs to, and its lamp with the LSP id."""

    session: Session
    sender: Sender


class LinkTo(NamedTuple):
    """A link of a node: address of the neighbour, and the label of its voltage.

    is_lamp: the neighbour is a lamp, which may ask for circuits of its own only.
    """

    address: IPv4Address
    label: int
    is_lamp: bool = False


class Cause(StrEnum):
    """Why a circuit is no more."""

    TORN = "torn"
    TIMED_OUT = "timed out"
    REPLACED = "replaced"


@dataclass(slots=True, kw_only=True)
class PathArrived(Event):
    """A PATH that is new. Answer with `forward`, at an ES with `answer`, or with `refuse`."""

    circuit: CircuitId
    link: int
    path: Path


@dataclass(slots=True, kw_only=True)
class ResvArrived(Event):
    """The source side grants `power`; `link` leads there, `flow_label` is wanted there.

    Close the circuit, then `answer`; a lamp has nobody to answer. is_new: it was open before.
    """

    circuit: CircuitId
    link: int
    flow_label: int
    power: PowerObject
    tariff: TariffObject | None
    record: tuple[RecordedHop, ...]
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRefused(Event):
    """The source side, or who makes the circuit in place of it, says no.

    Answer with `forward` over another link, or `pass_error`; a lamp whose state was removed has
    nothing to answer. is_removed: the circuit is no more on the source side, else it is in place.
    link: by which it went there.
    """

    circuit: CircuitId
    link: int
    error: ErrorSpec
    power: PowerObject | None
    offers: tuple[TariffObject, ...]
    is_removed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResvRefused(Event):
    """The lamp side refuses the RESV; the circuit is open there."""

    circuit: CircuitId
    error: ErrorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRemoved(Event):
    """The circuit is no more: give back its labels and its power."""

    circuit: CircuitId
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitOpened(Event):
    """The source side has ended its reservation; the PATH is still there. Open the entries."""

    circuit: CircuitId
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class ResvConfirmed(Event):
    """The RESV has come to the lamp; only where it was asked for."""

    circuit: CircuitId


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourLost(Event):
    """No HELLO has come for 3.5 intervals: what is known of it is stale, not gone."""

    link: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourFound(Event):
    """A neighbour that was lost speaks again, or one with another instance for the first time."""

    link: int
    is_new_instance: bool


RsvpEvent: TypeAlias = (
    PathArrived
    | ResvArrived
    | PathRefused
    | ResvRefused
    | CircuitRemoved
    | CircuitOpened
    | ResvConfirmed
    | NeighbourLost
    | NeighbourFound
)
