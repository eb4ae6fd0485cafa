"""What an electricity source does with a circuit: whether it fits, what it holds, and the RESV.

MPLampS sections 4.5 and 4.6.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Final

from powertcp.errors import PowerRefused
from powertcp.machine import Trace
from powertcp.mplamps.delivery import Delivery
from powertcp.mplamps.label import NEUTRAL, traffic_class
from powertcp.mplamps.lfib import Lfib
from powertcp.mplamps.neutrals import Neutrals
from powertcp.mplamps.ports import Port
from powertcp.mplamps.power import PowerObject
from powertcp.mplamps.routing import Router
from powertcp.mplamps.rsvp.admission import LinkAdmission, NoRoom
from powertcp.mplamps.rsvp.errors import Case, fault_of
from powertcp.mplamps.rsvp.events import CircuitId, CircuitRemoved, PathArrived, ResvRefused
from powertcp.mplamps.rsvp.machine import Rsvp
from powertcp.mplamps.rsvp.messages import Fault, Path
from powertcp.mplamps.rsvp.state import style_of
from powertcp.mplamps.ted import Unroutable
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import Instant

# errors of a RESV: no PATH, no sender
_UNKNOWN: Final = (3, 4)
_ROUTING: Final = 24
_NO_ROOM: Final = fault_of(Case.NO_ROOM)
_PREEMPTED: Final = fault_of(Case.PREEMPTED)
_EXHAUSTED: Final = fault_of(Case.EXHAUSTED)
_WAVEFORM: Final = fault_of(Case.WAVEFORM)
_NO_POWER: Final = fault_of(Case.BAD_OBJECT)
_TARIFF: Final = fault_of(Case.TARIFF)
_NO_ROUTE: Final = fault_of(Case.NO_ROUTE)


class Served:
    """A circuit of this source. neutral: the flow label given out for it. grant: what it has."""

    __slots__ = ("circuit", "grant", "is_open", "lamp", "neutral", "path")

    def __init__(self, circuit: CircuitId, lamp: Port, path: Path) -> None:
        """Begin with a PATH that has come."""
        self.circuit = circuit
        self.lamp = lamp
        self.path = path
        self.neutral = 0
        self.grant: PowerProfile | None = None
        self.is_open = False


class Serving:
    """The circuits of one ES.

    supply: what it has, None: anything. suppliers: to whom it belongs, None: to all. lease_s: what
    a GRANT says, the lifetime of the soft state.
    """

    def __init__(
        self,
        address: IPv4Address,
        ports: Mapping[int, Port],
        router: Router,
        rsvp: Rsvp,
        lfib: Lfib,
        delivery: Delivery,
        capacity: LinkAdmission,
        *,
        supply: PowerProfile | None,
        suppliers: frozenset[int] | None,
        lease_s: int,
        trace: Trace | None = None,
    ) -> None:
        """Begin without circuits."""
        self._address = address
        self._ports = ports
        self._router = router
        self._rsvp = rsvp
        self._lfib = lfib
        self._delivery = delivery
        self._capacity = capacity
        self._supply = supply
        self._suppliers = suppliers
        self._lease_s = lease_s
        self._trace = trace
        self._served: dict[CircuitId, Served] = {}
        self._neutrals = Neutrals(lfib)

    def __len__(self) -> int:
        return len(self._served)

    @property
    def held_mw(self) -> int:
        """All that is held of the own capacity, in mW."""
        return self._capacity.held_mw

    def served(self) -> Iterator[Served]:
        """Yield the circuits in the order in which they came; read only."""
        return iter(self._served.values())

    def take_path(self, event: PathArrived, now: Instant) -> None:
        """Answer with RESV, or refuse and keep nothing."""
        served = Served(event.circuit, self._ports[event.link], event.path)
        fault, power = self._find_fault(served.path), None
        if fault is None:
            try:
                granted = self._admit(served, now)
                served.neutral = self._neutrals.take(served.circuit, served.lamp.number, now)
                self._lfib.deliver(NEUTRAL, served.neutral)
            except NoRoom as error:
                fault, power = _NO_ROOM, error.power
            except PowerRefused:
                fault = _EXHAUSTED
        if fault is not None:
            # MPLA-4.5-09
            self._drop(served, now)
            self._rsvp.refuse(served.circuit, fault, power=power, now=now)
            return
        self._served[served.circuit] = served
        # MPLA-4.4-02
        served.grant = granted.profile.with_type(ProfileType.GRANT, lease_s=self._lease_s)
        self._close(served, served.grant, now)

    def _find_fault(self, path: Path) -> Fault | None:
        """Return why this source is none for a PATH, None if it is one."""
        if path.session.es != self._address:
            return _NO_ROUTE
        request = path.power.profile
        # MPLA-4.5-02
        if not request.power_mw:
            return _NO_POWER
        if self._supply is not None and not request.same_kind(self._supply):
            return _WAVEFORM
        supplier = path.tariff.supplier if path.tariff is not None else 0
        if supplier and self._suppliers is not None and supplier not in self._suppliers:
            return _TARIFF
        try:
            self._router.finish(path)
        except Unroutable as error:
            return Fault(_ROUTING, error.fault)
        return None

    def _admit(self, served: Served, now: Instant) -> PowerObject:
        """Hold the power on the link and of the own capacity. Raises NoRoom, nobody pre-empted."""
        path, circuit = served.path, served.circuit
        style, rate, attribute = style_of(path), path.tspec.rate, path.attribute
        # the link may end others for this circuit only once it is sure of the own capacity
        room = self._capacity.find_room(circuit, style, path.power, rate, attribute.setup)
        # MPLA-4.5-03
        on_link = served.lamp.admit(circuit, path, room)
        # MPLA-4.6-02
        for other in on_link.preempted:
            self.end(other, _PREEMPTED, now)
        own = self._capacity.admit(
            circuit, style, on_link.power, rate, attribute.setup, attribute.holding
        )
        for other in own.preempted:
            self.end(other, _PREEMPTED, now)
        return own.power

    def _close(self, served: Served, grant: PowerProfile, now: Instant) -> None:
        lamp = served.lamp
        tc = traffic_class(served.path.attribute.holding)
        labels = lamp.label, served.path.flow_label
        served.is_open = True
        self._delivery.add_way(served.circuit, lamp.number, labels, tc)
        self._rsvp.answer(
            served.circuit, flow_label=served.neutral, power=PowerObject(grant), now=now
        )

    def remove(self, event: CircuitRemoved, now: Instant) -> None:
        """Forget a circuit; Rsvp has told the others."""
        served = self._served.get(event.circuit)
        if served is not None:
            self._drop(served, now)

    def end(self, circuit: CircuitId, fault: Fault, now: Instant) -> None:
        """End a circuit: pre-empted or shed."""
        self._drop(self._served[circuit], now)
        self._rsvp.end(circuit, fault, now=now)

    def withdraw(self, supplier: int | None, now: Instant) -> None:
        """End what is reserved for the circuits, of one supplier or all; their PATHs stay."""
        for served in self._served.values():
            tariff = served.path.tariff
            if served.is_open and supplier in (None, tariff.supplier if tariff else 0):
                self._open(served, now)
                self._rsvp.open(served.circuit, now)

    def take_resv_refusal(self, event: ResvRefused, now: Instant) -> None:
        """End the reservation of a circuit whose RESV was refused.

        A neighbour that knows nothing of the PATH has begun again, and will send it as new.
        """
        served = self._served.get(event.circuit)
        if served is None:
            return
        if event.error.code in _UNKNOWN:
            self._drop(served, now)
            self._rsvp.tear(event.circuit, now)
        elif served.is_open:
            self._open(served, now)

    def _open(self, served: Served, now: Instant) -> None:
        # MPLA-4.5-08
        served.is_open = False
        served.lamp.release(served.circuit)
        self._capacity.release(served.circuit)
        self._delivery.remove_way(served.circuit, now)
        if not served.circuit.session.is_shared:
            self._lfib.open_entry(NEUTRAL, served.neutral)

    def derate(self, port: Port, capacity_mw: int, now: Instant) -> None:
        """Set the capacity of a link, and shed what it has not any more."""
        for circuit in port.derate(capacity_mw):
            # MPLA-4.6-02
            self.end(circuit, _PREEMPTED, now)

    def _drop(self, served: Served, now: Instant) -> None:
        served.is_open = False
        # MPLA-4.5-08, MPLA-4.5-09
        served.lamp.release(served.circuit)
        self._capacity.release(served.circuit)
        self._lfib.release(served.circuit, now)
        if served.neutral:
            self._neutrals.give(served.circuit, served.lamp.number, now)
        self._delivery.remove_way(served.circuit, now)
        self._served.pop(served.circuit, None)
