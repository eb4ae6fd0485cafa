"""A network in simulated time: its nodes are the live machines, its messages are octets.

A heap of (time, number, what, who, with what) is all there is; without clock, dice of a seed. What
is in a script is done at its time. MPLampS section 8.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from heapq import heappop, heappush
from typing import Final

from powertcp.errors import LocalProtocolError, known
from powertcp.machine import Event, StreamMachine, Trace
from powertcp.mplamps.attachment import Attachment, Attachments, Take
from powertcp.mplamps.lamprecord import LampRecord
from powertcp.mplamps.node import (
    LampChanged,
    LampState,
    Model,
    Node,
    NodeEvent,
    NodeSettings,
    PolicemanWanted,
    StreamTimedOut,
)
from powertcp.mplamps.policeman import Policeman
from powertcp.mplamps.policing import Listen, Policing
from powertcp.mplamps.recorder import Recorder
from powertcp.mplamps.rsvp import Style
from powertcp.mplamps.script import Act, Verb
from powertcp.mplamps.tcp import Endpoint
from powertcp.mplamps.ted import Metric, Ted
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.mplamps.wires import Dice, Wire
from powertcp.units import NS_PER_US, Duration, Instant

SERVICE_NS: Final[Duration] = 500 * NS_PER_US
MAX_SEED: Final = (1 << 64) - 1
# PATH, RESV, their errors and tears occupy a node; what keeps neighbours in touch does not
_LAST_SERVED: Final = 6
_LAMP_CHANGED: Final = "mplamps:lamp_changed"
_ARRIVE, _SERVE, _PACKET, _FREE, _TIMER, _CALL = range(6)

Watch = Callable[[str, NodeEvent, Instant], None]
Observe = Callable[[Wire, bytes, Instant], None]
Disturb = Callable[[Wire, bytes, Instant], Iterable[tuple[bytes, Duration]]]
Release = Callable[[str, int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How a network is simulated. service_ns: how long a message occupies a node that is no lamp.

    model, style: with which lamps are switched on. suppliers: to which ones a source belongs, by
    its name; one that is not named belongs to all.
    """

    node: NodeSettings
    metric: Metric = Metric.IGP
    service_ns: Duration = SERVICE_NS
    model: Model = Model.OVERLAY
    style: Style = Style.SE
    suppliers: Mapping[str, frozenset[int]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Seat:
    """A node with its wires. node: None while it has crashed."""

    name: str
    node: Node | None
    is_served: bool
    is_policed: bool
    wires: dict[int, Wire] = field(default_factory=dict)
    busy_until: Instant = 0
    timer_at: Instant | None = None
    lives: int = 1
    messages: int = 0
    attachments: Attachments | None = None


class Engine:
    """A simulated network. now: simulated ns since it was made.

    lamps: what became of each. watch: is called with every event of a node; observe: with every
    message of RSVP as it is sent; release: with lamp and tunnel before that is switched off, and
    returns whether it does that itself, later. disturb: is given each message of RSVP on its way,
    and returns what comes out of the wire in its place, each with how much later, in ns.
    """

    def __init__(
        self,
        topology: Topology,
        seed: int,
        settings: EngineSettings,
        *,
        recorder: Recorder | None = None,
        policeman: Policeman | None = None,
    ) -> None:
        """Make all nodes, at time 0. Raises LocalProtocolError for a seed beyond 64 bits."""
        if not 0 <= seed <= MAX_SEED:
            raise LocalProtocolError(f"a seed is 0 to {MAX_SEED:,}, got {seed:,}")
        self.topology = topology
        self.now: Instant = 0
        self.events = 0
        self.acts_left = 0
        self.waiting: set[str] = set()
        """Lamps that have sent a PATH and have no answer yet, or with power never a block."""
        self.patience_ns: Duration | None = None
        """With power, how long a lamp whose circuit is closed waits for its first block; else None."""
        self.recorder = recorder or Recorder(topology)
        self.watch: Watch | None = None
        self.observe: Observe | None = None
        self.release: Release | None = None
        self.disturb: Disturb | None = None
        self.ted = Ted(topology, settings.metric)
        self.lamps = {node.name: LampRecord(node.name) for node in topology.of_kind(NodeKind.LAMP)}
        self._settings = settings
        self._seed = seed
        self._heap: list[tuple[Instant, int, int, object, object]] = []
        self._number = 0
        self._stops_settled = False
        self._is_stopped = False
        self._seats: dict[str, _Seat] = {}
        self._targets: list[_Seat] = []
        self._policing = self._police(policeman)
        self._handlers: tuple[Callable[[object, object], None], ...] = (  # by kind
            self._arrive, self._serve, self._packet, self._free, self._timer, self._call,
        )  # type: ignore[assignment] # fmt: skip
        self._build()

    def _police(self, policeman: Policeman | None) -> Policing | None:
        at = self.topology.pdp()
        if at is None or policeman is None:
            return None
        return Policing(
            at.address, at.name, policeman, self.recorder, self.at, self.settle, self._seed
        )

    def _build(self) -> None:
        topology = self.topology
        for place in topology.nodes:
            if place.kind is NodeKind.PDP:
                continue
            is_policed = self._policing is not None and topology.is_edge(place.name)
            is_served = place.kind is not NodeKind.LAMP
            seat = _Seat(place.name, None, is_served, is_policed)
            seat.node = self._make_node(seat)
            self._seats[place.name] = seat
        for link in topology.links:
            for source in (link.a, link.b):
                wire = Wire(topology, link, source, len(self._targets), self._seed)
                self._seats[source].wires[link.number] = wire
                self._targets.append(self._seats[wire.target])
        for seat in self._seats.values():
            self._settle(seat)

    def _make_node(self, seat: _Seat) -> Node:
        dice = Dice(self._seed, f"node {seat.name} {seat.lives}")
        trace = self._tracer(seat.name) if self.recorder.is_traced else None
        settings = self._settings.node
        if seat.name in self._settings.suppliers:
            settings = replace(settings, suppliers=self._settings.suppliers[seat.name])
        return Node(self.topology, seat.name, self.ted, settings, dice, self.now, trace)

    def _tracer(self, name: str) -> Trace:
        def trace(what: str, data: object) -> None:
            # what becomes of a lamp is noted for the hash too, where its event is taken
            if what != _LAMP_CHANGED and isinstance(data, dict):
                self.recorder.detail(what, {"node": name, **data}, self.now)

        return trace

    # ---- running ------------------------------------------------------------------------------

    def run(self, until: Instant) -> None:
        """Do all that happens up to `until`, which is the time then."""
        while self.step(1 << 20, until):
            pass

    def run_settled(self, until: Instant) -> None:
        """Do what happens until all acts are done and no lamp waits, or `until`."""
        while self.step(1 << 20, until, is_settled=True):
            pass

    def step(self, max_events: int, until: Instant, *, is_settled: bool = False) -> bool:
        """Do up to `max_events`, none after `until`; return whether some are left before it.

        is_settled: stop as soon as all acts are done and no lamp waits.
        """
        heap, handlers = self._heap, self._handlers
        self._stops_settled = is_settled
        self._is_stopped = is_settled and self.is_settled
        left = max_events
        while left and heap and heap[0][0] <= until and not self._is_stopped:
            self.now, _, kind, who, what = heappop(heap)
            handlers[kind](who, what)
            left -= 1
        self.events += max_events - left
        if self._is_stopped:
            return False
        if heap and heap[0][0] <= until:
            return True
        self.now = max(self.now, until) if not is_settled else self.now
        return False

    @property
    def is_settled(self) -> bool:
        """Whether all acts are done and no lamp waits."""
        return not self.waiting and not self.acts_left

    def at(self, time: Instant, call: Callable[[Instant], None]) -> None:
        """Call something at a time, not before now."""
        self._push(max(time, self.now), _CALL, call, None)

    def _push(self, at: Instant, kind: int, who: object, what: object) -> None:
        self._number += 1
        heappush(self._heap, (at, self._number, kind, who, what))

    # ---- what happens -------------------------------------------------------------------------

    def _call(self, call: Callable[[Instant], None], _: None) -> None:
        call(self.now)

    # MPLA-8-02
    def _arrive(self, seat: _Seat, what: tuple[Wire, bytes]) -> None:
        """A message comes out of a wire: it waits until the node has served those before it."""
        wire, octets = what
        if wire.is_cut or seat.node is None:
            wire.lost += 1
        elif seat.is_served and octets[1] <= _LAST_SERVED and self._settings.service_ns:
            begin = seat.busy_until
            if begin < self.now:
                begin = self.now
            seat.busy_until = done = begin + self._settings.service_ns
            self._number += 1
            heappush(self._heap, (done, self._number, _SERVE, seat, (seat.node, wire, octets)))
        else:
            self._serve(seat, (seat.node, wire, octets))

    def _serve(self, seat: _Seat, what: tuple[Node, Wire, bytes]) -> None:
        node, wire, octets = what
        # it may have crashed while the message waited
        if seat.node is node:
            seat.messages += 1
            node.receive_rsvp(wire.number, octets, self.now)
            self._settle(seat)

    def _packet(self, seat: _Seat, what: tuple[Wire, bytes]) -> None:
        wire, packet = what
        if wire.is_cut or seat.node is None:
            wire.lost += 1
            return
        end = seat.node.receive_packet(wire.number, packet, self.now)
        if end is not None and seat.attachments is not None:
            seat.attachments.touch(end)
        self._settle(seat)

    def _timer(self, seat: _Seat, at: Instant) -> None:
        if seat.timer_at != at or seat.node is None:
            return
        seat.timer_at = None
        seat.node.handle_timer(self.now)
        if seat.attachments is not None:
            seat.attachments.handle_timer(self.now)
        self._settle(seat)

    def _free(self, wire: Wire, _: None) -> None:
        """A limited link has sent a packet: the next one goes."""
        packet = wire.queue.pop() if wire.is_free(self.now) else None
        if packet is not None:
            self._put(wire, packet)

    # ---- what a node says -----------------------------------------------------------------------

    def settle(self, name: str) -> None:
        """Take what a node has to say after a call to it, or to an endpoint of it."""
        seat = self._seats[name]
        if seat.attachments is not None:
            seat.attachments.touch_all()
        self._settle(seat)

    def _settle(self, seat: _Seat) -> None:
        node = seat.node
        if node is None:
            return
        while True:
            while (event := node.next_event()) is not None:
                self._take(seat, event)
            attachments = seat.attachments
            if attachments is None or not attachments.pump(node, self.now):
                break
        for octets, link in node.rsvp_to_send():
            self._send(seat, link, octets)
        for link, packet in node.packets_to_send():
            self._send_packet(seat.wires[link], packet)
        if seat.is_policed and self._policing is not None:
            self._policing.flush(node, self.now)
        at = node.get_timer()
        own = seat.attachments.get_timer() if seat.attachments is not None else None
        if own is not None and (at is None or own < at):
            at = own
        if at is not None and (seat.timer_at is None or at < seat.timer_at):
            seat.timer_at = at = max(at, self.now)
            self._push(at, _TIMER, seat, at)

    def _send(self, seat: _Seat, link: int, octets: bytes) -> None:
        wire, now = seat.wires[link], self.now
        if wire.is_cut:
            wire.lost += 1
            return
        self.recorder.message(wire, octets, now)
        if self.observe is not None:
            self.observe(wire, octets, now)
        at = now + wire.plain_ns if wire.is_plain else wire.control(len(octets), now)
        if at is None:
            return
        target = self._targets[wire.index]
        if self.disturb is not None:
            for other, late_ns in self.disturb(wire, octets, now):
                self._push(at + late_ns, _ARRIVE, target, (wire, other))
            return
        self._number += 1
        heappush(self._heap, (at, self._number, _ARRIVE, target, (wire, octets)))

    def _send_packet(self, wire: Wire, packet: bytes) -> None:
        if wire.is_cut:
            wire.lost += 1
        elif wire.is_free(self.now) and not len(wire.queue):
            self._put(wire, packet)
        else:
            if not len(wire.queue):
                self._push(wire.free_at, _FREE, wire, None)
            # MPLA-2.2-03
            if wire.queue.push(packet) is not None:
                wire.lost += 1

    def _put(self, wire: Wire, packet: bytes) -> None:
        self.recorder.labelled(wire, packet, self.now)
        at = wire.packet(len(packet), self.now)
        if wire.is_limited and len(wire.queue):
            self._push(wire.free_at, _FREE, wire, None)
        if at is not None:
            self._push(at, _PACKET, self._targets[wire.index], (wire, packet))

    def _take(self, seat: _Seat, event: NodeEvent) -> None:
        match event:
            case LampChanged():
                if seat.attachments is not None:
                    seat.attachments.touch_all()
                self._take_lamp(seat, event)
            case StreamTimedOut(end=end) if seat.attachments is not None:
                seat.attachments.touch(end)
            case PolicemanWanted(at=at) if self._policing is not None:
                self._want_policeman(seat, at)
        if self.watch is not None:
            self.watch(seat.name, event, self.now)

    def _want_policeman(self, seat: _Seat, at: Instant) -> None:
        node, policing = seat.node, self._policing

        def connect(now: Instant) -> None:
            if node is not None and policing is not None and seat.node is node:
                policing.connect(node, now)

        self.at(at, connect)

    def _take_lamp(self, seat: _Seat, event: LampChanged) -> None:
        record, now = self.lamps[seat.name], self.now
        state = known(seat.node, "only a node that is up has events").lamp_state
        record.take(event, state, now)
        self._take_waiting(record)
        data: dict[str, object] = {
            "node": seat.name,
            "lamp": seat.name,
            "tunnel": event.tunnel,
            "state": event.state.value,
        }
        if event.refusal is not None:
            data["code"] = int(event.refusal.code)
            data["sentence"] = event.refusal.text or event.refusal.sentence()
        self.recorder.event(_LAMP_CHANGED, data, now)

    def _take_waiting(self, record: LampRecord) -> None:
        """Note whether a lamp waits: if it is for a block, not for ever."""
        if record.state is LampState.REQUESTING:
            self.waiting.add(record.name)
        elif record.state is LampState.SIGNALLED and not (
            self.patience_ns is None or record.lit_at
        ):
            record.patient_until = until = self.now + self.patience_ns
            self.waiting.add(record.name)
            self.at(until, lambda _: self._lose_patience(record, until))
        else:
            self._leave_waiting(record.name)

    def _lose_patience(self, record: LampRecord, until: Instant) -> None:
        if record.state is LampState.SIGNALLED and record.patient_until == until:
            self._leave_waiting(record.name)

    def _leave_waiting(self, name: str) -> None:
        self.waiting.discard(name)
        self._is_stopped = self._stops_settled and self.is_settled

    # ---- inner connections ----------------------------------------------------------------------

    def attach(
        self, name: str, end: Endpoint, machine: StreamMachine[Event], take: Take
    ) -> Attachment:
        """Put a machine on an end of an inner connection; `take` is told its events.

        Call `settle` after a verb of the machine.
        """
        attachment = Attachment(end, machine, take)
        seat = self._seats[name]
        if seat.attachments is None:
            seat.attachments = Attachments()
        seat.attachments.add(attachment)
        return attachment

    def detach(self, name: str, end: Endpoint) -> None:
        """Take the machine off an end that was aborted."""
        attachments = self._seats[name].attachments
        if attachments is not None:
            attachments.remove(end)

    def settle_later(self, name: str) -> None:
        """Settle a node after all that happens now: for calls from within."""
        self.at(self.now, lambda _: self.settle(name))

    # ---- acts -----------------------------------------------------------------------------------

    def play(self, acts: Iterable[Act]) -> None:
        """Do each act at its time."""
        for act in acts:
            self.acts_left += 1
            self.at(act.at_ns, lambda now, act=act: self._play(act))  # type: ignore[misc]

    def drop_acts(self) -> None:
        """Do none of the acts that are left."""
        self.acts_left = 0

    def _play(self, act: Act) -> None:
        if not self.acts_left:
            return
        self.acts_left -= 1
        names = act.names if len(act.names) <= 8 else (*act.names[:8], "..")
        links = [self.topology.link(number).name for number in act.links]
        data = {"act": str(act.verb), "nodes": names, "links": links}
        self.recorder.event("mplamps:act_done", data, self.now)
        self.do(act)
        if self._stops_settled and self.is_settled:
            self._is_stopped = True

    def do(self, act: Act) -> None:
        """Do an act now, whatever its time."""
        for name in act.names:
            self._do_at(self._seats[name], act)
        for number in act.links:
            self._do_link(number, act)
        if self._policing is not None and not act.names and not act.links:
            match act.verb:
                case Verb.PDP_DOWN:
                    self._policing.take_down(self.now)
                case Verb.PDP_UP:
                    self._policing.bring_up(self.now)
                case Verb.PRICE:
                    self._policing.set_price(act.supplier, act.price, self.now)

    def _do_at(self, seat: _Seat, act: Act) -> None:
        if act.verb is Verb.CRASH:
            self._crash(seat)
        elif act.verb is Verb.RESTART:
            if seat.node is None:
                seat.lives += 1
                seat.node = self._make_node(seat)
        elif seat.node is not None:
            self._do_lamp(seat, seat.node, act)
        self._settle(seat)

    def _crash(self, seat: _Seat) -> None:
        seat.node, seat.timer_at, seat.busy_until = None, None, 0
        seat.attachments = None
        if self._policing is not None and seat.is_policed:
            self._policing.forget(seat.name, self.now)
        if seat.name in self.lamps:
            self.lamps[seat.name].state = LampState.DARK
            self.waiting.discard(seat.name)

    def _do_lamp(self, seat: _Seat, node: Node, act: Act) -> None:
        record = self.lamps[seat.name]
        tunnels = [row.number for row in node.tunnels()]
        match act.verb:
            case Verb.ON if not (record.is_wanted and tunnels):
                self._switch_on(record, node)
            case Verb.OFF:
                record.is_wanted = False
                for tunnel in tunnels:
                    if self.release is None or not self.release(record.name, tunnel):
                        node.switch_off(tunnel, self.now)
            case Verb.SET:
                request = known(act.profile, "an act that sets has a profile")
                for tunnel in tunnels:
                    node.set_request(tunnel, request, self.now)
            case Verb.MIGRATE:
                other = Model.PEER if record.model is Model.OVERLAY else Model.OVERLAY
                record.model = Model(act.model) if act.model else other
                for tunnel in tunnels:
                    node.migrate(tunnel, record.model, self.now)

    def _switch_on(self, record: LampRecord, node: Node) -> None:
        settings = self._settings
        request = known(self.topology.node(record.name).request, "a lamp has a request")
        record.switch_on(settings.model, self.now)
        node.switch_on(request, self.now, model=settings.model, style=settings.style)

    def _do_link(self, number: int, act: Act) -> None:
        link = self.topology.link(number)
        for name in (link.a, link.b):
            seat = self._seats[name]
            if act.verb is not Verb.DERATE:
                seat.wires[number].cut(is_cut=act.verb is Verb.CUT)
        for name in (link.a, link.b):
            seat = self._seats[name]
            if seat.node is None:
                continue
            if act.verb is Verb.DERATE:
                seat.node.derate(number, act.power_mw, self.now)
            else:
                seat.node.set_link(number, act.verb is Verb.MEND, self.now)
            self._settle(seat)

    def listen(self, listen: Listen) -> None:
        """Have `listen` be told what the policeman does, if there is one."""
        if self._policing is not None:
            self._policing.listen = listen

    # ---- looking --------------------------------------------------------------------------------

    def node(self, name: str) -> Node | None:
        """Return a node, None while it has crashed. Raises LocalProtocolError for no such name."""
        if name not in self._seats:
            raise LocalProtocolError(f'"{name}" is no node with a label table')
        return self._seats[name].node

    def nodes(self) -> Iterable[Node]:
        """Yield the nodes that are up, in the order of the topology."""
        return (seat.node for seat in self._seats.values() if seat.node is not None)

    def recorded_labels(self, lamp: str) -> list[int]:
        """Return the phase labels that the RRO of a lamp's circuit has, from the source on.

        [] if it has none.
        """
        node = self.node(lamp)
        if node is None:
            return []
        for state in node.rsvp.circuits():
            if state.granted is not None:
                record = state.granted.record
                return [hop.phase for hop in reversed(record) if hop.phase is not None]
        return []

    def busiest(self) -> tuple[str, int]:
        """Return the node that has taken most messages of RSVP, and how many."""
        seat = max(self._seats.values(), key=lambda seat: seat.messages)
        return seat.name, seat.messages

    def lost(self) -> int:
        """Return how many messages and packets were lost on links."""
        return sum(wire.lost for seat in self._seats.values() for wire in seat.wires.values())

    # MPLA-8-01
    def labels_hash(self) -> str:
        """Return the SHA-256 of the canonical label tables of all nodes."""
        found = sha256()
        for node in self.nodes():
            for line in node.label_table():
                found.update(f"{node.name} {line}\n".encode())
        return found.hexdigest()
