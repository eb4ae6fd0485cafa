"""The signalling of one node: messages of its neighbours in, facts out, verbs back, messages out.

MPLampS sections 4.5 to 4.9. What a node has to know of power, routes, labels and policy is not
here: an event says what has come, and a verb what becomes of it. Soft state and its end are here.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from powertcp.errors import LocalProtocolError
from powertcp.machine import Buffer, Entropy, Trace
from powertcp.mplamps.power import PowerObject, TariffObject
from powertcp.mplamps.rsvp.errors import Case, fault_of
from powertcp.mplamps.rsvp.events import (
    Cause,
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
from powertcp.mplamps.rsvp.keys import path_key, resv_key
from powertcp.mplamps.rsvp.liveness import Found, Lost
from powertcp.mplamps.rsvp.messages import (
    Circuit,
    Fault,
    Message,
    Path,
    PathErr,
    PathTear,
    Rejected,
    Resv,
    ResvConf,
    ResvErr,
    ResvTear,
)
from powertcp.mplamps.rsvp.neighbour import Arrival, Neighbour, Refreshed
from powertcp.mplamps.rsvp.objects import (
    IN_PLACE,
    STATE_REMOVED,
    ErrorSpec,
    Hop,
    RouteHop,
    Session,
    Style,
)
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.rsvp.speaker import Speaker
from powertcp.mplamps.rsvp.state import Circuits, CircuitState, Granted, lifetime_ns
from powertcp.mplamps.rsvp.verdict import find_excess, find_fault, find_resv_fault, is_same
from powertcp.mplamps.rsvp.wire import FIRST_TTL
from powertcp.units import Instant


class Rsvp:
    """The signalling state of a node. After each call take datagrams and events.

    drops: messages dropped, by why.
    """

    def __init__(
        self,
        node: IPv4Address,
        links: Mapping[int, LinkTo],
        settings: Settings,
        entropy: Entropy,
        now: Instant,
        trace: Trace | None = None,
    ) -> None:
        """Take the own address and the links by their numbers."""
        self._node = node
        self._links = dict(links)
        self._at = {to.address: number for number, to in links.items()}
        self._speaker = Speaker(node, links, settings, entropy, now, trace)
        self._post = self._speaker.post
        self.neighbours: Mapping[int, Neighbour] = self._speaker.neighbours
        """The neighbours by the numbers of their links."""
        self._circuits = Circuits()
        self._events: deque[RsvpEvent] = deque()
        self._arrived: list[tuple[int, Arrival, Instant]] = []
        self.drops: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._circuits)

    def circuits(self) -> Iterator[CircuitState]:
        """Yield the circuits in the order in which their PATHs came; read only."""
        return iter(self._circuits)

    def state(self, circuit: CircuitId) -> CircuitState | None:
        """Return a circuit, None if it is not known; read only."""
        return self._circuits.get(circuit)

    # ---- octets and time --------------------------------------------------------------------

    def receive_datagram(self, data: Buffer, peer: IPv4Address, now: Instant) -> None:
        """Take one datagram; never raises on its content."""
        link = self._at.get(peer)
        if link is None:
            # MPLA-4.1-01
            self.drops["not_neighbour"] += 1
            return
        self.receive(data, link, now)

    def receive(self, data: Buffer, link: int, now: Instant) -> None:
        """Take one datagram of the neighbour on a link; never raises on its content.

        Raises LocalProtocolError for a link that is none.
        """
        neighbour = self.neighbours.get(link)
        if neighbour is None:
            raise LocalProtocolError(f"{self._node} has no link {link}")
        arrivals = neighbour.receive(data, now)
        if len(arrivals) == 1 and not self._arrived:
            self._take_arrival(link, arrivals[0], now)
        elif arrivals:
            # of a bundle the next one waits until what is told of the one before it is answered
            self._arrived += [(link, arrival, now) for arrival in arrivals]
            self._take_arrival(*self._arrived.pop(0))
        if neighbour.changes:
            self._hear(link, now)

    def _take_arrival(self, link: int, arrival: Arrival, now: Instant) -> None:
        if isinstance(arrival, Refreshed):
            self._circuits.refresh(link, arrival.keys, now)
        else:
            self._take(link, arrival.message, arrival.ttl, now)

    def datagrams_to_send(self) -> list[tuple[bytes, int]]:
        """Drain datagrams, each with the number of its link."""
        return self._post.drain()

    def next_event(self) -> RsvpEvent | None:
        """Drain one event; None when there are no more."""
        while self._arrived and not self._events:
            self._take_arrival(*self._arrived.pop(0))
        return self._events.popleft() if self._events else None

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None; it may be that nothing is due at it."""
        return self._post.timer

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing."""
        at = self._post.timer
        if at is None or now < at:
            return
        for link in self._speaker.handle_timers(now):
            self._hear(link, now)
        for state in self._circuits.due(now):
            self._expire(state, now)
        self._speaker.reset_timer(self._circuits.next_end())

    # ---- verbs ------------------------------------------------------------------------------

    def request(self, path: Path, link: int, now: Instant) -> None:
        """Send the first PATH of a circuit of this lamp on `link`; hop and label are filled in.

        Raises LocalProtocolError for a known circuit, and for a link that is none.
        """
        circuit = CircuitId(path.session, path.sender)
        if circuit in self._circuits or link not in self._links:
            raise LocalProtocolError(f"LSP {path.sender.lsp} is known, or link {link} is none")
        state = CircuitState(circuit, path, 0, FIRST_TTL + 1)
        self._circuits.add(state)
        state.out_link, state.is_waiting = link, False
        self._speaker.path(state, path.flow_label, path.route, path.power, now)

    def forward(
        self,
        circuit: CircuitId,
        link: int,
        *,
        flow_label: int,
        route: tuple[RouteHop, ...],
        power: PowerObject,
        now: Instant,
    ) -> None:
        """Send the PATH on toward the source. MPLA-4.5-07.

        flow_label: under which this node wants packets toward the lamp. route: what is left of the
        ERO, this node taken off. Raises LocalProtocolError if no verb is owed.
        """
        state = self._owed(circuit)
        if link not in self._links or link == state.in_link:
            raise LocalProtocolError(f"link {link} does not lead on toward the source")
        self._leave(state, now, but=link)
        state.out_link, state.is_waiting = link, False
        self._speaker.path(state, flow_label, route, power, now)
        if state.style is Style.WF:
            self._share(state)

    def answer(
        self,
        circuit: CircuitId,
        *,
        flow_label: int,
        power: PowerObject,
        tariff: TariffObject | None = None,
        now: Instant,
    ) -> None:
        """Send RESV toward the lamp, at an ES for the PATH, elsewhere for what was granted.

        flow_label: under which this node wants packets toward the source. Equal values again send
        nothing. Raises LocalProtocolError for a circuit of this lamp, or one that is not known.
        """
        state = self._known(circuit)
        if not state.in_link or (state.out_link and state.granted is None):
            raise LocalProtocolError("there is nothing to answer")
        state.is_waiting = False
        passed = Granted(flow_label, power, tariff, self._speaker.record_back(state))
        if passed != state.passed:
            self._leave(state, now, but=state.out_link)
            state.passed = passed
            self._send_resv(state, now)

    def refuse(
        self,
        circuit: CircuitId,
        fault: Fault,
        *,
        power: PowerObject | None = None,
        offers: tuple[TariffObject, ...] = (),
        now: Instant,
    ) -> None:
        """Answer a PATH with PathErr; nothing of the circuit is left here. MPLA-4.5-09."""
        state = self._owed(circuit)
        self._end(state, ErrorSpec.refusal(self._node, *fault), power, offers, now)

    def pass_error(self, circuit: CircuitId, refused: PathRefused, now: Instant) -> None:
        """Send an error on toward the lamp; if the circuit was removed, nothing of it is left."""
        state = self._known(circuit)
        said = refused.error, refused.power, refused.offers
        if refused.is_removed:
            self._end(state, *said, now)
        elif state.in_link:
            self._speaker.path_err(state.in_link, state.path, *said, now)

    def end(
        self,
        circuit: CircuitId,
        fault: Fault,
        *,
        power: PowerObject | None = None,
        offers: tuple[TariffObject, ...] = (),
        now: Instant,
    ) -> None:
        """End a circuit both ways: PathErr toward the lamp, PathTear toward the source."""
        # MPLA-4.6-02
        state = self._known(circuit)
        self._end(state, ErrorSpec.refusal(self._node, *fault), power, offers, now)

    def tear(self, circuit: CircuitId, now: Instant) -> None:
        """End a circuit of this lamp: PathTear toward the source."""
        self._drop(self._known(circuit), now)

    def open(self, circuit: CircuitId, now: Instant) -> None:
        """End the reservation of a circuit: ResvTear toward the lamp; the PATH stays."""
        self._open(self._known(circuit), now)

    def lose(self, link: int) -> None:
        """Be told that a link is down: circuits over it are in place, and their lamps are told."""
        # MPLA-4.7-01
        error = ErrorSpec(self._node, IN_PLACE, *fault_of(Case.NO_ROUTE))
        for state in self._circuits:
            if state.out_link == link:
                self._refused(state, link, error, is_removed=False)

    def find(self, link: int, now: Instant) -> None:
        """Be told that a link is up again: all state is sent again."""
        self.neighbours[link].resend(now)

    # ---- what comes -------------------------------------------------------------------------

    def _take(self, link: int, message: Message, ttl: int, now: Instant) -> None:
        match message:
            case Path():
                self._take_path(link, message, ttl, now)
            case Resv():
                self._take_resv(link, message, now)
            case PathErr():
                self._take_path_err(link, message, now)
            case PathTear():
                self._take_path_tear(link, message, now)
            case ResvTear():
                self._take_resv_tear(link, message, now)
            case ResvErr():
                self._take_resv_err(link, message, now)
            case ResvConf():
                self._take_resv_conf(link, message, ttl, now)
            case Rejected():
                # MPLA-4.3-01, MPLA-4.4-06
                self._speaker.send(link, message.answer(Hop(self._node, link)), now)
            case _:
                self.drops["unexpected"] += 1

    def _take_path(self, link: int, path: Path, ttl: int, now: Instant) -> None:
        circuit = CircuitId(path.session, path.sender)
        state = self._circuits.get(circuit)
        if state is not None and state.in_link == link and is_same(state.path, path):
            # MPLA-4.5-01
            before, state.path = state.path, path
            state.expires = now + lifetime_ns(path.refresh_ms)
            self._expect(state, state.expires)
            if path.record != before.record:
                self._speaker.path_again(state, now)
            return
        fault = self._find_fault(link, path, state)
        if fault is not None or not ttl or (state is not None and not state.in_link):
            # a summary that names it is answered with NACK: it is no state here
            self.neighbours[link].unlearn(path_key(*circuit), now)
            if fault is None:
                self.drops["own_circuit" if ttl else "ttl"] += 1
                return
            # MPLA-4.5-09
            error = ErrorSpec.refusal(self._node, *fault)
            self._speaker.path_err(link, path, error, None, (), now)
            if state is not None and state.in_link == link:
                self._drop(state, now)
                self._events.append(CircuitRemoved(circuit=circuit, cause=Cause.TORN))
            return
        left = self._forget_replaced(state, now) if state is not None else 0
        state = CircuitState(circuit, path, link, ttl)
        state.left_link, state.others = left, path.others
        state.expires = now + lifetime_ns(path.refresh_ms)
        self._circuits.add(state)
        self._expect(state, state.expires)
        self._events.append(PathArrived(circuit=circuit, link=link, path=path))

    def _find_fault(self, link: int, path: Path, state: CircuitState | None) -> Fault | None:
        """Return why a PATH is refused whatever there is to be had, None if it is not."""
        fault = find_fault(path, self._node, self._links[link])
        if fault is None and state is None:
            fault = find_excess(path, len(self._circuits.of(path.session)), len(self._circuits))
            self.drops["limit"] += fault is not None
        return fault

    def _take_resv(self, link: int, resv: Resv, now: Instant) -> None:
        peers = self._circuits.of(resv.session)
        told: list[CircuitState] = []
        for circuit in resv.circuits:
            states = self._circuits.granted_by(link, resv.session, circuit.sender)
            told += states
            fault = find_resv_fault(resv, circuit, states, is_known=bool(peers))
            if fault is not None:
                self._speaker.refuse_resv(link, resv, fault, circuit.sender, now)
                self._unlearn_resv(resv.session, link, now)
                continue
            for state in states:
                self._grant(state, resv, circuit, now)
        if len(told) < len(peers):
            # a summary renews what the last RESV says, and nothing that it says no more
            for state in set(peers).difference(told):
                state.is_told = state.is_told and state.out_link != link

    def _grant(self, state: CircuitState, resv: Resv, circuit: Circuit, now: Instant) -> None:
        """Take what a RESV says of one circuit, and tell it if it is new."""
        was_granted = state.granted
        self._circuits.recent = state
        state.is_told = True
        state.granted_for = lifetime_ns(resv.refresh_ms)
        state.granted_expires = now + state.granted_for
        self._expect(state, state.granted_expires)
        granted = Granted(circuit.flow_label, circuit.power, circuit.tariff, circuit.record)
        if granted == was_granted:
            return
        state.granted, state.granted_others = granted, resv.others
        state.confirm = resv.confirm
        self._tell_granted(state, granted, is_new=was_granted is None)
        if not state.in_link:
            self._speaker.confirm(state, resv, now)

    def _tell_granted(self, state: CircuitState, granted: Granted, *, is_new: bool) -> None:
        self._events.append(ResvArrived(
            circuit=state.circuit, link=state.out_link, flow_label=granted.flow_label,
            power=granted.power, tariff=granted.tariff, record=granted.record, is_new=is_new,
        ))  # fmt: skip

    def _share(self, state: CircuitState) -> None:
        """Give a circuit of a shared session what the others of it have on its link."""
        for other in state.peers:
            if other.out_link == state.out_link and other.granted is not None:
                state.granted, state.granted_expires = other.granted, other.granted_expires
                state.granted_for = other.granted_for
                self._expect(state, state.granted_expires)
                self._tell_granted(state, other.granted, is_new=True)
                return

    def _take_path_err(self, link: int, message: PathErr, now: Instant) -> None:
        state = self._circuits.get(CircuitId(message.session, message.sender))
        if state is None or state.out_link != link:
            self.drops["no_path"] += 1
            return
        is_removed = bool(message.error.flags & STATE_REMOVED)
        if is_removed:
            self.neighbours[link].forget(path_key(*state.circuit))
            state.out_link, state.granted = 0, None
            state.is_waiting = True
            self._unlearn_resv(state.session, link, now)
            if not state.in_link:
                self._drop(state, now)
        said = message.power, message.offers
        self._refused(state, link, message.error, *said, is_removed=is_removed)

    def _refused(
        self,
        state: CircuitState,
        link: int,
        error: ErrorSpec,
        power: PowerObject | None = None,
        offers: tuple[TariffObject, ...] = (),
        *,
        is_removed: bool,
    ) -> None:
        self._events.append(PathRefused(
            circuit=state.circuit, link=link, error=error, power=power, offers=offers,
            is_removed=is_removed,
        ))  # fmt: skip

    def _take_path_tear(self, link: int, message: PathTear, now: Instant) -> None:
        state = self._circuits.get(CircuitId(message.session, message.sender))
        if state is None or state.in_link != link:
            self.drops["no_path"] += 1
            return
        # MPLA-4.5-08
        self._drop(state, now)
        self._events.append(CircuitRemoved(circuit=state.circuit, cause=Cause.TORN))

    def _take_resv_tear(self, link: int, message: ResvTear, now: Instant) -> None:
        for state in self._circuits.named(message.session, message.sender):
            if state.out_link == link and state.granted is not None:
                # MPLA-4.5-08
                self._end_grant(state, Cause.TORN, now)

    def _take_resv_err(self, link: int, message: ResvErr, now: Instant) -> None:
        named = self._circuits.named(message.session, message.sender)
        states = [one for one in named if one.in_link == link and one.passed is not None]
        for state in states:
            state.passed = None
            self._events.append(ResvRefused(circuit=state.circuit, error=message.error))
        if not states:
            return
        self._send_resv(states[0], now)
        for state in states:
            # what is shared still serves the lamps behind other links
            sharers = [one for one in named if one.out_link == state.out_link]
            is_shared = state.style is Style.WF
            if not state.out_link or (is_shared and any(one.passed for one in sharers)):
                continue
            for one in sharers if is_shared else (state,):
                one.granted = None
            self._speaker.resv_err(state, message.error, now)
            if is_shared:
                return

    def _take_resv_conf(self, link: int, message: ResvConf, ttl: int, now: Instant) -> None:
        for state in self._circuits.named(message.session, message.sender):
            if state.in_link != link:
                continue
            self._events.append(ResvConfirmed(circuit=state.circuit))
            if state.out_link and ttl > 1:
                onward = replace(message, message_id=None, acks=())
                self._speaker.send(state.out_link, onward, now, ttl=ttl - 1)

    def _send_resv(self, state: CircuitState, now: Instant) -> None:
        """Send what is granted to the session of a circuit on its link to the lamp."""
        self._speaker.resv(state.peers, state.session, state.in_link, now)

    # ---- ends -------------------------------------------------------------------------------

    def _end(
        self,
        state: CircuitState,
        error: ErrorSpec,
        power: PowerObject | None,
        offers: tuple[TariffObject, ...],
        now: Instant,
    ) -> None:
        """Send PathErr toward the lamp, PathTear toward the source, and keep nothing."""
        if state.in_link:
            self._speaker.path_err(state.in_link, state.path, error, power, offers, now)
        self._drop(state, now)
        self._unlearn(state, now)

    def _unlearn(self, state: CircuitState, now: Instant) -> None:
        """Let a summary that names the PATH be answered with NACK: it ended here."""
        if state.in_link:
            self.neighbours[state.in_link].unlearn(path_key(*state.circuit), now)

    def _unlearn_resv(self, session: Session, link: int, now: Instant) -> None:
        """As that, of the RESV of a session, if no circuit of it that is left has one of `link`."""
        if not any(one.out_link == link and one.granted for one in self._circuits.of(session)):
            self.neighbours[link].unlearn(resv_key(session), now)

    def _open(self, state: CircuitState, now: Instant) -> None:
        """End what was granted to the lamp side: ResvTear."""
        if state.passed is None:
            return
        state.passed = None
        # one tear of a shared session opens the circuits of all
        if state.style is not Style.WF or not any(
            one.passed is not None for one in state.peers if one.in_link == state.in_link
        ):
            self._speaker.resv_tear(state, now)
        self._send_resv(state, now)

    def _end_grant(self, state: CircuitState, cause: Cause, now: Instant) -> None:
        state.granted = None
        if state.in_link:
            self._open(state, now)
        self._events.append(CircuitOpened(circuit=state.circuit, cause=cause))

    def _leave(self, state: CircuitState, now: Instant, *, but: int) -> None:
        """Tear the circuit where its PATH went before it was replaced, unless it goes there again."""
        left, state.left_link = state.left_link, 0
        if left and left != but:
            self._speaker.path_tear(state, left, now)

    def _forget_replaced(self, state: CircuitState, now: Instant) -> int:
        """Forget a circuit whose PATH has changed; return the link by which it went on."""
        self._circuits.remove(state)
        if state.passed is not None:
            self._send_resv(state, now)
        if state.out_link:
            self._leave(state, now, but=state.out_link)
        self._events.append(CircuitRemoved(circuit=state.circuit, cause=Cause.REPLACED))
        return state.out_link or state.left_link

    def _drop(self, state: CircuitState, now: Instant) -> None:
        """Remove a circuit, tell the source side, and what else the lamp side still has."""
        self._circuits.remove(state)
        self._leave(state, now, but=state.out_link)
        if state.out_link:
            self._speaker.path_tear(state, state.out_link, now)
            self._unlearn_resv(state.session, state.out_link, now)
        if state.passed is not None:
            self._send_resv(state, now)

    def _known(self, circuit: CircuitId) -> CircuitState:
        state = self._circuits.get(circuit)
        if state is None:
            raise LocalProtocolError(f"no circuit of {circuit.sender.lamp}/{circuit.sender.lsp}")
        return state

    def _owed(self, circuit: CircuitId) -> CircuitState:
        state = self._known(circuit)
        if not state.is_waiting:
            raise LocalProtocolError(f"no PATH of {circuit.sender.lamp} waits for an answer")
        return state

    # ---- time -------------------------------------------------------------------------------

    def _hear(self, link: int, now: Instant) -> None:
        """Take what HELLO has told of a neighbour."""
        while (change := self.neighbours[link].next_change()) is not None:
            match change:
                case Lost():
                    self._events.append(NeighbourLost(link=link))
                    self.lose(link)
                case Found(is_new_instance=is_new_instance):
                    self._events.append(NeighbourFound(link=link, is_new_instance=is_new_instance))

    def _expect(self, state: CircuitState, at: Instant) -> None:
        self._circuits.expect(state, at)
        self._post.wake_at(at)

    def _expire(self, state: CircuitState, now: Instant) -> None:
        """End what was not refreshed in its lifetime; what was is looked at again later."""
        # MPLA-4.5-08
        if state.expires is not None and state.expires <= now:
            self._drop(state, now)
            self._unlearn(state, now)
            self._events.append(CircuitRemoved(circuit=state.circuit, cause=Cause.TIMED_OUT))
            return
        if state.granted is not None and state.granted_expires <= now:
            self._unlearn_resv(state.session, state.out_link, now)
            self._end_grant(state, Cause.TIMED_OUT, now)
        ends = [state.expires] if state.expires is not None else []
        ends += [state.granted_expires] if state.granted is not None else []
        if ends:
            self._circuits.expect(state, min(ends))
