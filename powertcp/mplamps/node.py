"""One node of a network, lamp, source or load-switching router: its machines around one label table.

RSVP says what has come; routes, admission, labels and policemen say what becomes of it. A driver,
live or simulated, moves octets and time. MPLampS sections 4.5, 9 and 12.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any, Final, NamedTuple, TypeAlias

from powertcp.errors import LocalProtocolError, known
from powertcp.machine import Buffer, Entropy, Trace
from powertcp.mplamps.cops import Pep, ServerAddress
from powertcp.mplamps.delivery import (
    Delivery,
    StreamCut,
    StreamEvent,
    StreamOpened,
    StreamTimedOut,
)
from powertcp.mplamps.ends import Ends
from powertcp.mplamps.lamp import Lamp, LampEvent
from powertcp.mplamps.lfib import Delivery as Delivered
from powertcp.mplamps.lfib import Drop, Lfib, Owner, label_table
from powertcp.mplamps.metering import Metering, PolicemanWanted
from powertcp.mplamps.ports import Port, capacity_of, labels_of, ports_of
from powertcp.mplamps.power import TariffObject
from powertcp.mplamps.routing import Router
from powertcp.mplamps.rsvp.admission import LinkAdmission, Sharing
from powertcp.mplamps.rsvp.events import (
    CircuitId,
    CircuitOpened,
    CircuitRemoved,
    LinkTo,
    NeighbourFound,
    NeighbourLost,
    PathArrived,
    PathRefused,
    ResvArrived,
    ResvConfirmed,
    ResvRefused,
    RsvpEvent,
)
from powertcp.mplamps.rsvp.machine import Rsvp
from powertcp.mplamps.rsvp.objects import Sender, Session, Style
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.rsvp.state import lifetime_ns
from powertcp.mplamps.serving import Serving
from powertcp.mplamps.switching import Crossing, Switching
from powertcp.mplamps.tcp import Endpoint
from powertcp.mplamps.ted import Ted
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.mplamps.wishes import (
    LampChanged,
    LampState,
    Model,
    SupplierChanged,
    TunnelRow,
    Wish,
)
from powertcp.profile import PowerProfile, decode_lease, encode_lease
from powertcp.units import NS_PER_S, Instant

__all__ = [
    "CircuitRow",
    "LampChanged",
    "LampState",
    "Model",
    "Node",
    "NodeEvent",
    "NodeSettings",
    "PolicemanWanted",
    "StreamCut",
    "StreamOpened",
    "StreamTimedOut",
    "SupplierChanged",
    "TunnelRow",
    "Wish",
]

NodeEvent: TypeAlias = LampEvent | StreamEvent | PolicemanWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """How a node works. sharing: of the lamps of a shared session. suppliers: to whom an ES belongs.

    suppliers: None for all of them.
    """

    signalling: Settings = field(default_factory=Settings)
    sharing: Sharing = Sharing.SUM
    suppliers: frozenset[int] | None = None


class CircuitRow(NamedTuple):
    """A circuit as a manager of energy sees it: an outlet toward the lamp, an inlet from the source.

    lamp_link, source_link: 0 where the circuit ends here. grant: None while it is open.
    energy_uj: None where there is no meter.
    """

    owner: Owner
    lamp_link: int
    source_link: int
    request: PowerProfile
    grant: PowerProfile | None
    energy_uj: int | None
    packets: int
    is_closed: bool


class Node:
    """One lamp, source or LSR. After each call take octets, packets and events."""

    def __init__(
        self,
        topology: Topology,
        name: str,
        ted: Ted,
        settings: NodeSettings,
        entropy: Entropy,
        now: Instant,
        trace: Trace | None = None,
    ) -> None:
        """Begin without state; `ted` may be shared by all nodes of a process.

        A node that has crashed is begun once more. Raises LocalProtocolError for a PDP.
        """
        row = topology.node(name)
        if row.kind is NodeKind.PDP:
            raise LocalProtocolError(f"{name} is the policeman, and no node of the network")
        self.name = name
        self.kind = row.kind
        self.address = row.address
        self._topology = topology
        self._ports = ports_of(topology, name, ted, settings.sharing)
        for port in self._ports.values():
            port.forget()
        self.lfib = Lfib(
            labels_of(self._ports.values()), is_transformer=row.kind is NodeKind.TRANSFORMER
        )
        links = {
            port.number: LinkTo(port.address, port.label, port.is_lamp)
            for port in self._ports.values()
        }
        self.rsvp = Rsvp(row.address, links, settings.signalling, entropy, now, trace)
        self._router = Router(name, ted, self._ports)
        self._events: deque[NodeEvent] = deque()
        self._out: list[tuple[int, bytes]] = []
        self._delivery = (
            None
            if row.kind.is_lsr
            else Delivery(row.address, entropy, is_source=row.kind is NodeKind.ES)
        )
        self._metering: Metering | None = None
        self._switching: Switching | None = None
        self._serving: Serving | None = None
        self._lamp: Lamp | None = None
        self._handlers = _OF_LAMP
        self._at_circuits: Switching | Serving | Lamp
        if row.kind.is_lsr:
            self._handlers = _OF_ROUTER
            self._at_circuits = self._switching = self._make_switching(entropy, now, trace)
        elif row.kind is NodeKind.ES:
            self._handlers = _OF_SOURCE
            self._at_circuits = self._serving = self._make_serving(settings, trace)
        else:
            self._at_circuits = self._lamp = self._make_lamp(settings, entropy, trace)
        machines = self._metering, self._delivery, self._lamp
        self._timed = tuple(machine for machine in machines if machine is not None)
        self._pump(now)

    def _make_switching(self, entropy: Entropy, now: Instant, trace: Trace | None) -> Switching:
        if any(port.is_lamp for port in self._ports.values()):
            has_policeman = self._topology.pdp() is not None
            self._metering = Metering(Pep(self.address, entropy) if has_policeman else None, now)
        return Switching(
            self.address, self._ports, self._router, self.rsvp, self.lfib, self._metering, trace
        )

    def _make_serving(self, settings: NodeSettings, trace: Trace | None) -> Serving:
        lifetime_s = lifetime_ns(settings.signalling.refresh_ms) // NS_PER_S
        return Serving(
            self.address,
            self._ports,
            self._router,
            self.rsvp,
            self.lfib,
            known(self._delivery, "a source has ends"),
            capacity_of(self._topology, self.name, settings.sharing),
            supply=self._topology.node(self.name).supply,
            suppliers=settings.suppliers,
            # MPLA-4.4-02
            lease_s=decode_lease(encode_lease(lifetime_s, up=False)),
        )

    def _make_lamp(self, settings: NodeSettings, entropy: Entropy, trace: Trace | None) -> Lamp:
        return Lamp(
            self.name,
            self.address,
            self._ports,
            self._router,
            self.rsvp,
            self.lfib,
            known(self._delivery, "a lamp has ends"),
            entropy,
            refresh_ms=settings.signalling.refresh_ms,
            has_policeman=self._topology.pdp() is not None,
            names=_Names(self._topology),
            trace=trace,
        )

    # ---- octets -----------------------------------------------------------------------------

    def receive_rsvp(self, link: int, data: Buffer, now: Instant) -> None:
        """Take a datagram of RSVP that came on a link."""
        self.rsvp.receive(data, link, now)
        self._pump(now)

    def rsvp_to_send(self) -> list[tuple[bytes, int]]:
        """Drain datagrams of RSVP, each with the number of its link."""
        return self.rsvp.datagrams_to_send()

    def receive_packet(self, link: int, packet: bytes, now: Instant) -> Endpoint | None:
        """Take a labelled packet that came on a link; return the own end that has taken it."""
        verdict = self.lfib.forward(link, packet)
        match verdict:
            case Drop():
                return None
            case Delivered(owner, octets):
                return self._deliver(owner, octets, now)
            case _:
                self._out += verdict
                if self._metering is not None:
                    self._metering.watch(now)
                return None

    def packets_to_send(self) -> list[tuple[int, bytes]]:
        """Drain labelled packets, each with the number of its link, in their order."""
        out, self._out = self._out, []
        return out

    def _deliver(self, owner: Owner, octets: bytes, now: Instant) -> Endpoint | None:
        delivery = self._delivery
        if delivery is None:
            return None
        circuit = CircuitId(Session(*owner.session), Sender(*owner.sender))
        end = delivery.receive(circuit, octets, now)
        self._take_ends()
        return end

    # ---- the policeman ----------------------------------------------------------------------

    @property
    def pep(self) -> Pep | None:
        """The client of COPS, None where there is no policeman, or no lamp."""
        return self._metering.pep if self._metering is not None else None

    def cops_connect(self, server: ServerAddress, now: Instant) -> None:
        """Begin on a new connection to the policeman, as PolicemanWanted has asked."""
        self._asking().connect(server, now)

    def receive_cops(self, data: Buffer, now: Instant) -> None:
        """Take octets of the policeman."""
        self._asking().receive_data(data, now)
        self._pump(now)

    def cops_eof(self, now: Instant) -> None:
        """Take the end of the connection to the policeman, or that none can be made."""
        self._asking().receive_eof(now)
        self._pump(now)

    def cops_to_send(self) -> bytes:
        """Drain octets for the policeman."""
        return self._metering.data_to_send() if self._metering is not None else b""

    def _asking(self) -> Metering:
        if self._metering is None or self._metering.pep is None:
            raise LocalProtocolError(f"{self.name} asks no policeman")
        return self._metering

    # ---- events and time --------------------------------------------------------------------

    def next_event(self) -> NodeEvent | None:
        """Drain one event; None when there are no more."""
        return self._events.popleft() if self._events else None

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None; nothing may be due at it."""
        first = self.rsvp.get_timer()
        for machine in self._timed:
            at = machine.get_timer()
            if at is not None and (first is None or at < first):
                first = at
        return first

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing."""
        self.rsvp.handle_timer(now)
        for machine in self._timed:
            machine.handle_timer(now)
        self._pump(now)

    def _pump(self, now: Instant) -> None:
        """Let each machine know what another has said, until nobody says anything."""
        metering = self._metering
        while True:
            if (event := self.rsvp.next_event()) is not None:
                self._take(event, now)
            elif metering is not None and (ruling := metering.next_ruling()) is not None:
                known(self._switching, "an LSR has meters").take_ruling(ruling, now)
            else:
                break
        if metering is not None:
            while (wanted := metering.next_event()) is not None:
                self._events.append(wanted)
        if self._delivery is not None:
            self._take_ends()

    def _take_ends(self) -> None:
        """Take packets and events of the own ends, and what the lamp has to say."""
        delivery = known(self._delivery, "a lamp or a source has ends")
        self._out += delivery.packets_to_send()
        while (event := delivery.next_event()) is not None:
            self._events.append(event)
        if self._lamp is not None:
            while (change := self._lamp.next_event()) is not None:
                self._events.append(change)

    def _take(self, event: RsvpEvent, now: Instant) -> None:
        handle = self._handlers.get(type(event))
        if handle is not None:
            handle(self._at_circuits, event, now)
            return
        match event:
            case NeighbourLost(link=link):
                self._note_link(link, now, is_up=False)
            case NeighbourFound(link=link):
                self._note_link(link, now, is_up=True)
            case ResvConfirmed():
                return
            case _:
                return

    def _note_link(self, link: int, now: Instant, *, is_up: bool) -> None:
        """Keep away from a link whose other end is silent, until it is heard of again."""
        # MPLA-4.7-01
        self._ports[link].set_up(is_up=is_up)
        if is_up:
            self._router.include(link)
        else:
            self._router.exclude(link, now)

    def _port(self, link: int) -> Port:
        port = self._ports.get(link)
        if port is None:
            raise LocalProtocolError(f"{self.name} has no link {link}")
        return port

    # ---- verbs of a lamp --------------------------------------------------------------------

    @property
    def ends(self) -> Ends | None:
        """The inner connections of a lamp or source, None of an LSR."""
        return self._delivery.ends if self._delivery is not None else None

    @property
    def lamp_state(self) -> LampState:
        """The best state of the tunnels of a lamp."""
        return self._wishing().state

    def tunnels(self) -> Iterator[TunnelRow]:
        """Yield the tunnels of a lamp."""
        return self._wishing().tunnels()

    def _wishing(self) -> Lamp:
        if self._lamp is None:
            raise LocalProtocolError(f"{self.name} is no lamp")
        return self._lamp

    def switch_on(
        self,
        request: PowerProfile,
        now: Instant,
        *,
        minimum: PowerProfile | None = None,
        limit: TariffObject | None = None,
        supplier: int = 0,
        model: Model = Model.OVERLAY,
        style: Style = Style.SE,
        es: IPv4Address | None = None,
    ) -> int:
        """Ask for power; return the number of the tunnel. LampChanged follows. See `Wish`."""
        wish = Wish(
            request=request,
            minimum=minimum,
            limit=limit,
            supplier=supplier,
            model=model,
            style=style,
            es=es,
        )
        number = self._wishing().switch_on(wish, now)
        self._pump(now)
        return number

    def switch_off(self, tunnel: int, now: Instant) -> None:
        """Give up a tunnel; its inner connection should have ended before."""
        self._wishing().switch_off(tunnel, now)
        self._pump(now)

    def set_request(
        self,
        tunnel: int,
        request: PowerProfile,
        now: Instant,
        *,
        minimum: PowerProfile | None = None,
    ) -> None:
        """Want another power in a tunnel: make before break."""
        lamp = self._wishing()
        wish = replace(lamp.wish_of(tunnel), request=request, minimum=minimum)
        lamp.change(tunnel, wish, now)
        self._pump(now)

    def migrate(self, tunnel: int, model: Model, now: Instant) -> None:
        """Let somebody else make the routes of a tunnel: make before break. MPLA-5-03."""
        lamp = self._wishing()
        # MPLA-5-03
        lamp.change(tunnel, replace(lamp.wish_of(tunnel), model=model), now)
        self._pump(now)

    def reroute(self, tunnel: int, now: Instant) -> None:
        """Take another circuit in a tunnel: make before break."""
        self._wishing().reroute(tunnel, now)
        self._pump(now)

    def open_stream(self, tunnel: int, now: Instant) -> Endpoint:
        """Open the inner connection of a tunnel that is signalled; its SYN is sent at once."""
        end = self._wishing().open_stream(tunnel, now)
        self._take_ends()
        return end

    def flush_ends(self, now: Instant, end: Endpoint | None = None) -> None:
        """Take the packets of an end, or of all; call it after each call to an end."""
        known(self._delivery, "a lamp or a source has ends").flush(end)
        self._take_ends()

    def tunnel_of(self, end: Endpoint) -> int | None:
        """Return the tunnel whose inner connection an end is, None of none."""
        session = self._delivery.session_of(end) if self._delivery is not None else None
        return self._wishing().tunnel_of(session) if session is not None else None

    def lamp_banked(self, tunnel: int, now: Instant) -> None:
        """Be told that a verified block was banked in a tunnel: the lamp is lit."""
        self._wishing().bank(tunnel, now)
        self._take_ends()

    def lamp_flickered(self, tunnel: int, now: Instant) -> None:
        """Be told that no block has come for 2 block times."""
        self._wishing().miss(tunnel, now)
        self._take_ends()

    # ---- verbs of an operator ---------------------------------------------------------------

    def withdraw(self, now: Instant, supplier: int | None = None) -> None:
        """End what a source has reserved, for one supplier or for all."""
        if self._serving is None:
            raise LocalProtocolError(f"{self.name} is no source")
        self._serving.withdraw(supplier, now)
        self._pump(now)

    def derate(self, link: int, capacity_mw: int, now: Instant) -> None:
        """Set the capacity of a link toward lamps at its end toward the source; shed the rest."""
        port = self._port(link)
        if self._switching is not None:
            self._switching.derate(port, capacity_mw, now)
        elif self._serving is not None:
            self._serving.derate(port, capacity_mw, now)
        self._pump(now)

    def set_link(self, link: int, is_up: bool, now: Instant) -> None:
        """Be told that a link is down, or up again."""
        self._note_link(self._port(link).number, now, is_up=is_up)
        if is_up:
            self.rsvp.find(link, now)
        else:
            self.rsvp.lose(link)
        self._pump(now)

    def holds(self) -> dict[int, int]:
        """Return the mW held of each link toward lamps, by its number."""
        return {port.number: port.held_mw for port in self._ports.values()}

    def admission(self, link: int) -> LinkAdmission:
        """Return what is held of a link toward lamps; read only."""
        return self._port(link).admission

    def label_table(self) -> list[str]:
        """Return the canonical label table, with names. MPLA-8-01."""
        names = _Names(self._topology)
        return label_table(
            self.lfib,
            lambda address: names.get(address) or str(address),
            lambda link: self._topology.link(link).name,
        )

    def circuits(self, now: Instant) -> list[CircuitRow]:
        """Return the circuits of this node, in the order in which they came."""
        if self._switching is not None:
            return [
                self._row(
                    crossing.circuit,
                    (crossing.lamp.number, crossing.source.number if crossing.source else 0),
                    crossing.path.power.profile,
                    crossing.grant if crossing.is_closed else None,
                    self._energy(crossing, now),
                )
                for crossing in self._switching.crossings()
            ]
        if self._serving is not None:
            return [
                self._row(
                    served.circuit,
                    (served.lamp.number, 0),
                    served.path.power.profile,
                    served.grant if served.is_open else None,
                )
                for served in self._serving.served()
            ]
        return [
            self._row(line.circuit, (0, line.link), request, line.grant)
            for line, request in self._wishing().lines()
        ]

    def _energy(self, crossing: Crossing, now: Instant) -> int | None:
        if crossing.account is None or self._metering is None:
            return None
        return self._metering.read(crossing.account, now).energy_uj

    def _row(
        self,
        owner: Owner,
        links: tuple[int, int],
        request: PowerProfile,
        grant: PowerProfile | None,
        energy_uj: int | None = None,
    ) -> CircuitRow:
        packets = sum(entry.packets for entry in self.lfib.entries(owner))
        return CircuitRow(owner, *links, request, grant, energy_uj, packets, grant is not None)


class _Names(Mapping[IPv4Address, str]):
    """The names of the nodes by their addresses."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    def __getitem__(self, address: IPv4Address) -> str:
        node = self._topology.at(address)
        if node is None:
            raise KeyError(address)
        return node.name

    def __iter__(self) -> Iterator[IPv4Address]:
        return (node.address for node in self._topology.nodes)

    def __len__(self) -> int:
        return len(self._topology.nodes)


# what becomes of a circuit is for the machine of a router, of a source or of a lamp to say
_Handlers: TypeAlias = Mapping[type, Callable[[Any, Any, Instant], None]]
_OF_ROUTER: Final[_Handlers] = {
    PathArrived: Switching.take_path,
    ResvArrived: Switching.take_resv,
    PathRefused: Switching.take_refusal,
    ResvRefused: Switching.take_resv_refusal,
    CircuitRemoved: Switching.remove,
    CircuitOpened: Switching.take_opening,
}
_OF_SOURCE: Final[_Handlers] = {
    PathArrived: Serving.take_path,
    ResvRefused: Serving.take_resv_refusal,
    CircuitRemoved: Serving.remove,
}
_OF_LAMP: Final[_Handlers] = {
    PathArrived: Lamp.take_path,
    ResvArrived: Lamp.take_resv,
    PathRefused: Lamp.take_refusal,
    CircuitOpened: Lamp.take_opening,
}
