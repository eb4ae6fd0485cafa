"""What a load-switching router does with a circuit: route, admit, ask, label, and pass on.

MPLampS sections 4.5 to 4.9. Each step that fails leaves nothing behind.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from powertcp.errors import PowerRefused, known
from powertcp.machine import Trace
from powertcp.mplamps.cops import DeleteReason
from powertcp.mplamps.label import NEUTRAL
from powertcp.mplamps.lfib import Lfib, Out
from powertcp.mplamps.metering import Account, Forbidden, Metering, Permitted, Repriced, Ruling
from powertcp.mplamps.neutrals import Neutrals
from powertcp.mplamps.ports import Port
from powertcp.mplamps.power import PowerObject, TariffKind, TariffObject, link_priority
from powertcp.mplamps.routing import MAX_TRIES, Router
from powertcp.mplamps.rsvp.admission import NoRoom
from powertcp.mplamps.rsvp.errors import Case, fault_of
from powertcp.mplamps.rsvp.events import (
    Cause,
    CircuitId,
    CircuitOpened,
    CircuitRemoved,
    PathArrived,
    PathRefused,
    ResvArrived,
    ResvRefused,
)
from powertcp.mplamps.rsvp.machine import Rsvp
from powertcp.mplamps.rsvp.messages import Fault, Path
from powertcp.mplamps.ted import Unroutable
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import Instant

# of the nominal voltage of the link, MPLA-4.5-02
VOLTAGE_TOLERANCE_PERCENT: Final = 10
# MPLA-4.10-03: as many as a lamp has tunnels
MAX_LAMP_CIRCUITS: Final = 1024
# errors of a RESV: no PATH, no sender
_UNKNOWN: Final = (3, 4)
_ROUTING: Final = 24
_NO_ROOM: Final = fault_of(Case.NO_ROOM)
_PREEMPTED: Final = fault_of(Case.PREEMPTED)
_EXHAUSTED: Final = fault_of(Case.EXHAUSTED)
_VOLTAGE: Final = fault_of(Case.VOLTAGE)
_TARIFF: Final = fault_of(Case.TARIFF)
_PRIORITY: Final = fault_of(Case.PRIORITY)
_NO_POWER: Final = fault_of(Case.BAD_OBJECT)
_CAUSES: Final = {
    Cause.TORN: DeleteReason.TEAR,
    Cause.TIMED_OUT: DeleteReason.TIMEOUT,
    Cause.REPLACED: DeleteReason.ROUTE_CHANGE,
}


class Refused(Exception):
    """A step has failed: the error, and what the PathErr says with it."""

    def __init__(self, fault: Fault, power: PowerObject | None = None) -> None:
        super().__init__(fault)
        self.fault = fault
        self.power = power


class Crossing:
    """A circuit that crosses this node. phase, neutral: flow labels given out here, 0 for none.

    path, power: as it came, and what was admitted of it. route: the ERO from the next node on.
    names: of a route that was made here. flow: the neutral of the next node toward the source.
    grant, tariff: of the last RESV.
    """

    __slots__ = (
        "account",
        "circuit",
        "flow",
        "grant",
        "is_closed",
        "lamp",
        "names",
        "neutral",
        "path",
        "phase",
        "power",
        "route",
        "source",
        "tariff",
        "tries",
    )

    def __init__(self, circuit: CircuitId, lamp: Port, path: Path) -> None:
        """Begin with a PATH that has come on a link."""
        self.circuit = circuit
        self.lamp = lamp
        self.path = path
        self.power = path.power
        self.source: Port | None = None
        self.phase = self.neutral = self.flow = self.tries = 0
        self.route = path.route
        self.names: tuple[str, ...] = ()
        self.grant: PowerProfile | None = None
        self.tariff: TariffObject | None = None
        self.is_closed = False
        self.account: Account | None = None


class Switching:
    """The circuits of one LSR, between what it hears in RSVP and its label table.

    metering: of an edge LSR, else None.
    """

    def __init__(
        self,
        address: IPv4Address,
        ports: Mapping[int, Port],
        router: Router,
        rsvp: Rsvp,
        lfib: Lfib,
        metering: Metering | None,
        trace: Trace | None = None,
    ) -> None:
        """Begin without circuits."""
        self._trace = trace
        self._address = address
        self._ports = ports
        self._router = router
        self._rsvp = rsvp
        self._lfib = lfib
        self._metering = metering
        self._crossings: dict[CircuitId, Crossing] = {}
        # circuits by the number of the link that they came on
        self._of_link = dict.fromkeys(ports, 0)
        self._neutrals = Neutrals(lfib)

    def __len__(self) -> int:
        return len(self._crossings)

    def crossings(self) -> Iterator[Crossing]:
        """Yield the circuits in the order in which they came; read only."""
        return iter(self._crossings.values())

    # ---- PATH -------------------------------------------------------------------------------

    def take_path(self, event: PathArrived, now: Instant) -> None:
        """Take the steps of MPLA-4.5-02 to 4.5-07; what fails is answered, and nothing is left."""
        crossing = Crossing(event.circuit, self._ports[event.link], event.path)
        try:
            self._take_steps(crossing, now)
        except Refused as refused:
            # MPLA-4.5-09
            self._drop(crossing, DeleteReason.INSUFFICIENT_RESOURCES, now)
            self._rsvp.refuse(crossing.circuit, refused.fault, power=refused.power, now=now)

    def _take_steps(self, crossing: Crossing, now: Instant) -> None:
        lamp, path = crossing.lamp, crossing.path
        is_asked = path.session.es == self._address and self._may_ask(lamp)
        if lamp.is_lamp:
            _check_voltage(lamp, path.power.profile)
            _check_power(path.power.profile)
            _check_priority(path)
            self._check_limits(lamp)
        if not is_asked:
            self._route(crossing, now)
            self._admit(crossing, now)
        self._crossings[crossing.circuit] = crossing
        self._of_link[lamp.number] += 1
        if lamp.is_lamp and self._metering is not None:
            # MPLA-4.5-06
            account = self._metering.ask(crossing.circuit, path, lamp.address, lamp.number, now)
            crossing.account = account
            if self._metering.pep is not None:
                return
        self._forward(crossing, now)

    def _check_limits(self, lamp: Port) -> None:
        """Refuse a circuit that is one too many of a lamp, or for the policeman. Raises Refused."""
        # MPLA-4.10-03
        is_full = self._metering is not None and self._metering.is_full
        if is_full or self._of_link[lamp.number] >= MAX_LAMP_CIRCUITS:
            raise Refused(_EXHAUSTED)

    def _may_ask(self, lamp: Port) -> bool:
        """Whether a lamp that names no source is answered with OFFERs. MPLA-6-06."""
        # MPLA-6-06
        return lamp.is_lamp and self._metering is not None and self._metering.pep is not None

    def _route(self, crossing: Crossing, now: Instant, *, is_again: bool = False) -> None:
        """Find the next hop. Raises Refused."""
        find = self._router.again if is_again else self._router.find
        try:
            routed = find(crossing.path, crossing.power, now)
        except Unroutable as error:
            # MPLA-4.5-05
            raise Refused(Fault(_ROUTING, error.fault)) from error
        if routed.link == crossing.lamp.number:
            raise Refused(fault_of(Case.BAD_ROUTE))
        crossing.source = self._ports[routed.link]
        crossing.names = routed.names
        crossing.route = routed.route

    def _admit(self, crossing: Crossing, now: Instant) -> None:
        """Hold the power on the link to the lamp, and end what has to make room. Raises Refused."""
        try:
            # MPLA-4.5-03
            admitted = crossing.lamp.admit(crossing.circuit, crossing.path, crossing.path.power)
        except NoRoom as error:
            raise Refused(_NO_ROOM, error.power) from error
        crossing.power = admitted.power
        for circuit in admitted.preempted:
            # MPLA-4.6-02
            self.end(circuit, _PREEMPTED, DeleteReason.PREEMPTED, now)

    def _forward(self, crossing: Crossing, now: Instant) -> None:
        """Make the entry of the phase, open, and send the PATH on. Raises Refused."""
        source = crossing.source
        if source is None:
            # a lamp that names no source was permitted: its quote is what it could have
            raise Refused(_TARIFF)
        try:
            # MPLA-3-01, MPLA-4.5-07
            crossing.phase = self._lfib.allocate(crossing.circuit, source.label, now, source.number)
        except PowerRefused as error:
            raise Refused(_EXHAUSTED) from error
        self._rsvp.forward(
            crossing.circuit,
            source.number,
            flow_label=crossing.phase,
            route=crossing.route,
            power=crossing.power,
            now=now,
        )

    # ---- what the policeman says ------------------------------------------------------------

    def take_ruling(self, ruling: Ruling, now: Instant) -> None:
        """Go on with a circuit, refuse or end it, or tell its lamp what it costs."""
        crossing = self._crossings.get(ruling.circuit)
        if crossing is None:
            return
        match ruling:
            case Permitted(quote=quote):
                self._take_permission(crossing, quote, now)
            case Forbidden(circuit=circuit, fault=fault, offers=offers):
                if crossing.source is None or not crossing.phase:
                    self._drop(crossing, DeleteReason.DIRECTIVE, now)
                    self._rsvp.refuse(circuit, fault, offers=offers, now=now)
                else:
                    self.end(circuit, fault, DeleteReason.DIRECTIVE, now, offers)
            case Repriced():
                if crossing.is_closed:
                    self._answer(crossing, now)

    def _take_permission(self, crossing: Crossing, quote: TariffObject, now: Instant) -> None:
        # a policeman that has come back decides once more what has been decided
        if crossing.phase:
            return
        try:
            self._forward(crossing, now)
        except Refused as refused:
            offers: tuple[TariffObject, ...] = ()
            if refused.fault == _TARIFF:
                # MPLA-6-06
                offers = (replace(quote, kind=TariffKind.OFFER),)
            self._drop(crossing, DeleteReason.INSUFFICIENT_RESOURCES, now)
            self._rsvp.refuse(crossing.circuit, refused.fault, offers=offers, now=now)

    # ---- RESV -------------------------------------------------------------------------------

    def take_resv(self, event: ResvArrived, now: Instant) -> None:
        """Reserve what is granted, close both entries, and only then pass the RESV on."""
        crossing = self._crossings.get(event.circuit)
        if crossing is None:
            return
        crossing.flow = event.flow_label
        try:
            crossing.grant = self._reserve(crossing, event.power.profile, now)
            if not crossing.neutral:
                # MPLA-4.5-04
                crossing.neutral = self._neutrals.take(crossing.circuit, crossing.lamp.number, now)
        except Refused as refused:
            self._fail(crossing, refused.fault, now)
            return
        except PowerRefused:
            self._fail(crossing, _EXHAUSTED, now)
            return
        self._close(crossing, crossing.grant, now)
        if crossing.account is not None and crossing.account.handle is None:
            crossing.account.quote = event.tariff
        crossing.tariff = event.tariff
        self._answer(crossing, now)

    def _fail(self, crossing: Crossing, fault: Fault, now: Instant) -> None:
        self.end(crossing.circuit, fault, DeleteReason.INSUFFICIENT_RESOURCES, now)

    def _reserve(self, crossing: Crossing, grant: PowerProfile, now: Instant) -> PowerProfile:
        """Turn the hold into a reservation; what is granted beyond it is cut off. Raises Refused."""
        admission, grant_mw = crossing.lamp.admission, grant.power_mw
        # MPLA-4.5-04
        held_mw = admission.settle(crossing.circuit, grant_mw)
        if held_mw is None:
            self._admit(crossing, now)
            held_mw = known(admission.settle(crossing.circuit, grant_mw), "it was admitted")
        if held_mw >= grant_mw:
            return grant
        return grant.with_type(ProfileType.GRANT, current_ma=grant.current_for(held_mw))

    def _close(self, crossing: Crossing, grant: PowerProfile, now: Instant) -> None:
        lamp, source = crossing.lamp, known(crossing.source, "a RESV comes from the source side")
        meter = None
        if crossing.account is not None and self._metering is not None:
            meter = self._metering.close(crossing.account, grant.power_mw, now)
        # MPLA-3-01, MPLA-4.5-04
        phase = (Out(lamp.number, lamp.label, crossing.path.flow_label),)
        self._lfib.close_entry(source.label, crossing.phase, phase, meter)
        neutral = (Out(source.number, NEUTRAL, crossing.flow),)
        self._lfib.close_entry(NEUTRAL, crossing.neutral, neutral, meter)
        crossing.is_closed = True
        if self._trace is not None:
            self._say("lfib:breaker_closed", crossing)

    def _answer(self, crossing: Crossing, now: Instant) -> None:
        account = crossing.account
        tariff = crossing.tariff
        if account is not None and account.quote is not None:
            tariff = account.quote
        grant = known(crossing.grant, "a closed circuit has its grant")
        self._rsvp.answer(
            crossing.circuit,
            flow_label=crossing.neutral,
            power=PowerObject(grant),
            tariff=tariff,
            now=now,
        )

    # ---- what goes wrong --------------------------------------------------------------------

    def take_refusal(self, event: PathRefused, now: Instant) -> None:
        """Try another way if the route was made here, else pass the error on. MPLA-5-01."""
        crossing = self._crossings.get(event.circuit)
        if crossing is None:
            return
        is_blamed = self._router.blame(crossing.names, event.error, now)
        if event.is_removed:
            if is_blamed and crossing.tries < MAX_TRIES and self._try_again(crossing, now):
                return
            self._drop(crossing, DeleteReason.INSUFFICIENT_RESOURCES, now)
        # MPLA-5-01
        self._rsvp.pass_error(event.circuit, event, now)

    def _try_again(self, crossing: Crossing, now: Instant) -> bool:
        """Send the PATH another way; False if there is none."""
        try:
            self._route(crossing, now, is_again=True)
        except Refused:
            return False
        crossing.tries += 1
        self._free_labels(crossing, now)
        try:
            self._forward(crossing, now)
        except Refused:
            return False
        return True

    def take_opening(self, event: CircuitOpened, _: Instant) -> None:
        """Open both entries and end the reservation; labels and PATH stay. MPLA-4.5-08."""
        crossing = self._crossings.get(event.circuit)
        if crossing is not None:
            self._open(crossing)
            crossing.lamp.release(event.circuit)

    def take_resv_refusal(self, event: ResvRefused, now: Instant) -> None:
        """Open the entries of a circuit that is open on the lamp side.

        A neighbour that knows nothing of the PATH has begun again, and will send it as new.
        """
        crossing = self._crossings.get(event.circuit)
        if crossing is None:
            return
        if event.error.code in _UNKNOWN:
            self._drop(crossing, DeleteReason.ROUTE_CHANGE, now)
            self._rsvp.tear(event.circuit, now)
        else:
            self._open(crossing)

    def _open(self, crossing: Crossing) -> None:
        if not crossing.is_closed or crossing.source is None:
            return
        crossing.is_closed = False
        # MPLA-3-01, MPLA-4.5-08
        self._lfib.open_entry(crossing.source.label, crossing.phase)
        # a shared neutral stays closed for the others
        if not crossing.circuit.session.is_shared:
            self._lfib.open_entry(NEUTRAL, crossing.neutral)
        if self._trace is not None:
            self._say("lfib:breaker_opened", crossing)

    def remove(self, event: CircuitRemoved, now: Instant) -> None:
        """Forget a circuit; Rsvp has told the others. MPLA-4.5-08."""
        crossing = self._crossings.get(event.circuit)
        if crossing is not None:
            self._drop(crossing, _CAUSES[event.cause], now)

    def end(
        self,
        circuit: CircuitId,
        fault: Fault,
        reason: DeleteReason,
        now: Instant,
        offers: tuple[TariffObject, ...] = (),
    ) -> None:
        """End a circuit both ways: pre-empted, shed, by the policeman, for over-current."""
        crossing = self._crossings.get(circuit)
        if crossing is None:
            return
        self._drop(crossing, reason, now)
        self._rsvp.end(circuit, fault, offers=offers, now=now)

    def derate(self, port: Port, capacity_mw: int, now: Instant) -> None:
        """Set the capacity of a link toward lamps, and shed what it has not any more."""
        for circuit in port.derate(capacity_mw):
            # MPLA-4.6-02
            self.end(circuit, _PREEMPTED, DeleteReason.PREEMPTED, now)

    def _drop(self, crossing: Crossing, reason: DeleteReason, now: Instant) -> None:
        """Give back all that a circuit has here."""
        if crossing.is_closed and self._trace is not None:
            self._say("lfib:breaker_opened", crossing)
        crossing.is_closed = False
        # MPLA-4.5-08, MPLA-4.5-09
        crossing.lamp.release(crossing.circuit)
        self._free_labels(crossing, now)
        if crossing.account is not None and self._metering is not None:
            self._metering.end(crossing.account, reason, now)
        if self._crossings.pop(crossing.circuit, None) is not None:
            self._of_link[crossing.lamp.number] -= 1

    def _free_labels(self, crossing: Crossing, now: Instant) -> None:
        self._lfib.release(crossing.circuit, now)
        if crossing.neutral:
            self._neutrals.give(crossing.circuit, crossing.lamp.number, now)
        crossing.phase = crossing.neutral = 0
        crossing.is_closed = False

    def _say(self, name: str, crossing: Crossing) -> None:
        if self._trace is not None:
            session, sender = crossing.circuit
            said = {
                "node": str(self._address), "lamp": str(sender.lamp), "tunnel": session.tunnel,
                "lsp": sender.lsp, "link": crossing.lamp.number, "label": crossing.lamp.label,
            }  # fmt: skip
            self._trace(name, said)


def _check_voltage(lamp: Port, request: PowerProfile) -> None:
    """Refuse a contract voltage that is not that of the link. Raises Refused."""
    off_mv = abs(request.voltage_mv - lamp.voltage_mv)
    # MPLA-4.5-02
    if off_mv * 100 > lamp.voltage_mv * VOLTAGE_TOLERANCE_PERCENT:
        raise Refused(_VOLTAGE)


def _check_power(request: PowerProfile) -> None:
    """Refuse a circuit for nothing. Raises Refused."""
    # MPLA-4.5-02
    if not request.power_mw:
        raise Refused(_NO_POWER)


def _check_priority(path: Path) -> None:
    """Refuse priorities that are not those of the profile, which the policeman sees. Raises Refused."""
    attribute, own = path.attribute, link_priority(path.power.profile)
    # MPLA-4.3-04
    if (attribute.setup, attribute.holding) != (own, own):
        raise Refused(_PRIORITY)
