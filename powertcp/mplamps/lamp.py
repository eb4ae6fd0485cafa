"""A lamp: it asks for power, moves to better circuits before it leaves the old ones, asks again.

MPLampS sections 1, 4.9, 5 and 6. The states and what a PATH says are in `wishes`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from powertcp.errors import LocalProtocolError, PowerRefused
from powertcp.machine import Entropy, Trace
from powertcp.mplamps.choosing import choose, forget_choices, is_dearer, tariff_of
from powertcp.mplamps.delivery import Delivery
from powertcp.mplamps.label import NEUTRAL, traffic_class
from powertcp.mplamps.lfib import Lfib
from powertcp.mplamps.ports import Port
from powertcp.mplamps.power import TariffObject
from powertcp.mplamps.routing import MAX_TRIES, Routed, Router
from powertcp.mplamps.rsvp.errors import Case, case_of, fault_of
from powertcp.mplamps.rsvp.events import (
    Cause,
    CircuitId,
    CircuitOpened,
    PathArrived,
    PathRefused,
    ResvArrived,
)
from powertcp.mplamps.rsvp.machine import Rsvp
from powertcp.mplamps.rsvp.messages import Path
from powertcp.mplamps.rsvp.objects import ErrorSpec, Hop, Sender, Session, Style
from powertcp.mplamps.tcp import Endpoint
from powertcp.mplamps.ted import Unroutable
from powertcp.mplamps.wishes import (
    STEPS,
    LampChanged,
    LampState,
    Line,
    Model,
    Step,
    SupplierChanged,
    Tunnel,
    TunnelRow,
    Wish,
    attribute_of,
    refusal_of,
    row_of,
    token_bucket,
)
from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.units import NS_PER_S, Duration, Instant

# MPLA-4.9-02: how long the old circuit stays
OVERLAP_NS: Final[Duration] = NS_PER_S
# MPLA-4.6-04
MIN_RETRY_NS: Final[Duration] = 5 * NS_PER_S
MAX_RETRY_NS: Final[Duration] = 10 * NS_PER_S
MAX_TUNNELS: Final = 1024
_LAST_LSP: Final = 0xFFFF
_ROUTING: Final = 24
_NOBODY: Final = IPv4Address(0)

LampEvent: TypeAlias = LampChanged | SupplierChanged


class Lamp:
    """The tunnels of one lamp.

    names: of the nodes, for sentences. has_policeman: whether a lamp without preference asks its
    edge LSR for OFFERs, or takes the nearest source.
    """

    def __init__(
        self,
        name: str,
        address: IPv4Address,
        ports: Mapping[int, Port],
        router: Router,
        rsvp: Rsvp,
        lfib: Lfib,
        delivery: Delivery,
        entropy: Entropy,
        *,
        refresh_ms: int,
        has_policeman: bool,
        names: Mapping[IPv4Address, str],
        trace: Trace | None = None,
    ) -> None:
        """Begin dark."""
        self._name = name
        self._address = address
        self._ports = ports
        self._router = router
        self._rsvp = rsvp
        self._lfib = lfib
        self._delivery = delivery
        self._entropy = entropy
        self._refresh_ms = refresh_ms
        self._has_policeman = has_policeman
        self._names = names
        self._trace = trace
        self._tunnels: dict[int, Tunnel] = {}
        self._lines: dict[CircuitId, tuple[Tunnel, Line]] = {}
        self._events: list[LampEvent] = []
        self._last = 0

    # ---- what others see --------------------------------------------------------------------

    @property
    def state(self) -> LampState:
        """The best state of all tunnels."""
        if len(self._tunnels) == 1:
            return next(iter(self._tunnels.values())).state
        found = {tunnel.state for tunnel in self._tunnels.values()}
        return next((state for state in LampState if state in found), LampState.DARK)

    def tunnels(self) -> Iterator[TunnelRow]:
        """Yield the tunnels that are wanted, without those that only ask for OFFERs."""
        return (row_of(tunnel) for tunnel in self._tunnels.values() if not tunnel.is_probe)

    def lines(self) -> Iterator[tuple[Line, PowerProfile]]:
        """Yield the circuits, each with what is asked for in it; read only."""
        return ((line, tunnel.wish.request) for tunnel, line in self._lines.values())

    def next_event(self) -> LampEvent | None:
        """Drain one event."""
        return self._events.pop(0) if self._events else None

    def tunnel_of(self, session: Session) -> int | None:
        """Return the tunnel to which the inner connection of a session belongs."""
        tunnel = self._tunnels.get(session.tunnel)
        return tunnel.number if tunnel is not None and tunnel.es == session.es else None

    # ---- verbs ------------------------------------------------------------------------------

    def switch_on(self, wish: Wish, now: Instant) -> int:
        """Ask for power; return the number of the tunnel. LampChanged follows."""
        wish.check()
        return self._start(wish, now).number

    def _start(self, wish: Wish, now: Instant, replaces: int | None = None) -> Tunnel:
        if len(self._tunnels) >= MAX_TUNNELS:
            raise LocalProtocolError(f"a lamp has at most {MAX_TUNNELS:,} tunnels")
        number = self._last = 1 + self._last % _LAST_LSP
        while number in self._tunnels:
            number = self._last = 1 + self._last % _LAST_LSP
        tunnel = Tunnel(number, wish, _NOBODY)
        tunnel.replaces, tunnel.is_probe = replaces, replaces is not None
        self._tunnels[number] = tunnel
        self._ask(tunnel, now)
        return tunnel

    def switch_off(self, number: int, now: Instant) -> None:
        """Give up a tunnel: all of its circuits are torn."""
        tunnel = self._known(number)
        for line in self._lines_of(tunnel):
            self._tear(line, now)
        tunnel.current = tunnel.coming = None
        tunnel.old.clear()
        self._move(tunnel, Step.ENDED, now)
        del self._tunnels[number]
        for other in tuple(self._tunnels.values()):
            if other.is_probe and other.replaces == number:
                self.switch_off(other.number, now)

    def change(self, number: int, wish: Wish, now: Instant) -> None:
        """Want something else in a tunnel, or in another model: make before break. MPLA-4.9-02."""
        wish.check()
        tunnel = self._known(number)
        if wish.style is not tunnel.wish.style:
            raise LocalProtocolError("the style of a session cannot change")
        if tunnel.current is not None and tunnel.current.is_granted:
            tunnel.before = tunnel.before or tunnel.wish
        tunnel.wish = wish
        self.reroute(number, now)

    def reroute(self, number: int, now: Instant) -> None:
        """Ask for another circuit of a tunnel, and leave the old one once it is there."""
        tunnel = self._known(number)
        if tunnel.coming is not None:
            self._tear(tunnel.coming, now)
            tunnel.coming = None
        if tunnel.current is None or not tunnel.current.is_granted:
            if tunnel.current is not None:
                self._tear(tunnel.current, now)
                tunnel.current = None
            self._ask(tunnel, now)
            return
        # MPLA-4.9-02
        tunnel.coming = self._request(tunnel, now)
        if tunnel.coming is None:
            error = ErrorSpec.refusal(self._address, *fault_of(Case.NO_ROUTE))
            self._stay(tunnel, refusal_of(error, self._names), now)

    def _stay(self, tunnel: Tunnel, refusal: Refusal, now: Instant) -> None:
        """Keep the circuit in use, and what it is for; one that is in trouble is moved later."""
        tunnel.wish, tunnel.before = tunnel.before or tunnel.wish, None
        self._report(tunnel, refusal, now)
        if tunnel.is_troubled:
            self._retry_later(tunnel, now)

    def wish_of(self, number: int) -> Wish:
        """Return what a tunnel is for."""
        return self._known(number).wish

    def open_stream(self, number: int, now: Instant) -> Endpoint:
        """Open the inner connection of a tunnel that is signalled; then flush the ends."""
        tunnel = self._known(number)
        line = tunnel.current
        if line is None or not line.is_granted:
            raise LocalProtocolError(f"tunnel {number} is {tunnel.state.value}: no circuit to use")
        end = self._delivery.connect(line.circuit, tunnel.wish.request, now)
        self._delivery.flush(end)
        return end

    def bank(self, number: int, now: Instant) -> None:
        """Note that a verified block was banked in a tunnel."""
        self._move(self._known(number), Step.BANKED, now)

    def miss(self, number: int, now: Instant) -> None:
        """Note that no block has come for 2 block times."""
        self._move(self._known(number), Step.MISSED, now)

    def _known(self, number: int) -> Tunnel:
        tunnel = self._tunnels.get(number)
        if tunnel is None:
            raise LocalProtocolError(f"{self._name} has no tunnel {number}")
        return tunnel

    @staticmethod
    def _lines_of(tunnel: Tunnel) -> list[Line]:
        old = [line for _, line in tunnel.old]
        return [line for line in (*old, tunnel.coming, tunnel.current) if line is not None]

    # ---- asking -----------------------------------------------------------------------------

    def _ask(self, tunnel: Tunnel, now: Instant) -> None:
        """Send the first PATH of a tunnel, or the next one after all went wrong."""
        tunnel.retry_at = None
        self._move(tunnel, Step.ASKED, now)
        tunnel.current = self._request(tunnel, now)
        if tunnel.current is None:
            error = ErrorSpec.refusal(self._address, *fault_of(Case.NO_ROUTE))
            self._end_asking(tunnel, refusal_of(error, self._names), now, is_again=True)

    def _request(self, tunnel: Tunnel, now: Instant) -> Line | None:
        """Send a PATH of a tunnel with a new LSP id; None where there is no way."""
        port = self._port()
        if port is None:
            return None
        source = self._choose_source(tunnel, port, now)
        if source is None:
            return None
        if source != tunnel.es:
            # its connection was with the source before
            self._delivery.end_stream(self._session(tunnel), self._address, now)
        tunnel.es = source
        while True:
            tunnel.lsp = 1 + tunnel.lsp % _LAST_LSP
            circuit = CircuitId(self._session(tunnel), Sender(self._address, tunnel.lsp))
            if circuit not in self._lines:
                break
        line = Line(circuit, port.number)
        return line if self._send(tunnel, line, now) else None

    def _port(self) -> Port | None:
        """Return the first link that is up; a lamp has one, as a rule."""
        return next((port for port in self._ports.values() if port.is_up), None)

    def _session(self, tunnel: Tunnel) -> Session:
        lamp = _NOBODY if tunnel.wish.style is Style.WF else self._address
        return Session(tunnel.es, tunnel.number, lamp)

    def _choose_source(self, tunnel: Tunnel, port: Port, now: Instant) -> IPv4Address | None:
        """Return the source to ask: the edge LSR itself, to be told what there is. MPLA-6-06."""
        wish = tunnel.wish
        if tunnel.current is not None:
            # MPLA-4.9-02: the circuit that comes is one of the same session
            return tunnel.es
        if wish.es is not None:
            return wish.es
        if tunnel.choice is not None:
            return tunnel.choice.source
        # MPLA-6-06
        if self._has_policeman:
            return port.address
        request = wish.request
        rate = token_bucket(request).rate
        priority = attribute_of(wish, self._name).setup
        return self._router.nearest_source(request.power_mw, rate, priority, now)

    def _send(self, tunnel: Tunnel, line: Line, now: Instant, *, is_again: bool = False) -> bool:
        """Send the PATH of a circuit that is not known; False where there is no way."""
        path = self._path(tunnel, line)
        # MPLA-5-03
        if tunnel.wish.model is Model.PEER and not self._is_asking(tunnel, line):
            try:
                routed = self._find(path, now, is_again=is_again)
            except Unroutable:
                return False
            line.link, line.names = routed.link, routed.names
            path = replace(path, route=routed.route)
        port = self._ports[line.link]
        try:
            # MPLA-3-01
            line.phase = self._lfib.allocate(line.circuit, port.label, now, port.number)
        except PowerRefused:
            return False
        hop = Hop(self._address, port.number)
        path = replace(path, hop=hop, upstream_label=port.label, flow_label=line.phase)
        self._lines[line.circuit] = tunnel, line
        self._rsvp.request(path, port.number, now)
        return True

    def _find(self, path: Path, now: Instant, *, is_again: bool) -> Routed:
        find = self._router.again if is_again else self._router.find
        return find(path, path.power, now)

    def _is_asking(self, tunnel: Tunnel, line: Line) -> bool:
        """Whether a circuit is only to be told what there is."""
        return tunnel.es == self._ports[line.link].address

    def _path(self, tunnel: Tunnel, line: Line) -> Path:
        wish = tunnel.wish
        return Path(
            session=line.circuit.session,
            hop=Hop(self._address, line.link),
            refresh_ms=self._refresh_ms,
            attribute=attribute_of(wish, self._name),
            sender=line.circuit.sender,
            tspec=token_bucket(wish.request),
            upstream_label=NEUTRAL,
            flow_label=0,
            power=wish.power(),
            tariff=tariff_of(tunnel),
        )

    # ---- what comes -------------------------------------------------------------------------

    def take_path(self, event: PathArrived, now: Instant) -> None:
        """Refuse a PATH: nothing is behind a lamp."""
        self._rsvp.refuse(event.circuit, fault_of(Case.NO_ROUTE), now=now)

    def take_resv(self, event: ResvArrived, now: Instant) -> None:
        """Use the circuit that is granted, and leave the one before it a second later."""
        found = self._lines.get(event.circuit)
        if found is None:
            return
        tunnel, line = found
        before = line.quote
        line.grant, line.quote = event.power.profile, event.tariff
        port = self._ports[line.link]
        self._lfib.deliver(port.label, line.phase)
        labels = NEUTRAL, event.flow_label
        tc = traffic_class(attribute_of(tunnel.wish, self._name).holding)
        self._delivery.add_way(line.circuit, line.link, labels, tc)
        is_first, line.is_granted = not line.is_granted, True
        if line is tunnel.coming:
            self._take_over(tunnel, line, now)
        elif line is tunnel.current and is_first:
            if tunnel.replaces is not None and tunnel.replaces not in self._tunnels:
                # it was switched off meanwhile
                self.switch_off(tunnel.number, now)
                return
            tunnel.was_granted = True
            forget_choices(tunnel)
            self._move(tunnel, Step.GRANTED, now)
            self._replace_supplier(tunnel, now)
        elif line is tunnel.current and before is not None and line.quote is not None:
            self._take_price(tunnel, line, before, now)

    def _take_over(self, tunnel: Tunnel, line: Line, now: Instant) -> None:
        """Move the inner packets to a new circuit. MPLA-4.9-02."""
        # MPLA-4.9-01, MPLA-4.9-02
        self._delivery.use(line.circuit)
        if tunnel.current is not None:
            tunnel.old.append((now + OVERLAP_NS, tunnel.current))
        tunnel.current, tunnel.coming, tunnel.retry_at = line, None, None
        tunnel.before, tunnel.is_troubled = None, False
        self._report(tunnel, None, now)

    def take_opening(self, event: CircuitOpened, now: Instant) -> None:
        """Be without the power that was granted: give the circuit up, and ask again later."""
        found = self._lines.get(event.circuit)
        if found is None:
            return
        tunnel, line = found
        self._tear(line, now)
        if self._forget(tunnel, line) or line is not tunnel.current:
            return
        tunnel.current = None
        # MPLA-1-01
        step = Step.ENDED if event.cause is Cause.TIMED_OUT else Step.CUT
        self._move(tunnel, step, now)
        if self._promote(tunnel, now):
            return
        if tunnel.replaces is not None:
            self._end_change(tunnel, now)
        else:
            self._retry_later(tunnel, now)

    def _promote(self, tunnel: Tunnel, now: Instant) -> bool:
        """Wait for the circuit that comes, in place of the one that is no more; False without one."""
        if tunnel.coming is None:
            return False
        tunnel.current, tunnel.coming, tunnel.before = tunnel.coming, None, None
        self._move(tunnel, Step.ASKED, now)
        return True

    def take_refusal(self, event: PathRefused, now: Instant) -> None:
        """Take another way, another source, or wait; an error in place moves the circuit."""
        found = self._lines.get(event.circuit)
        if found is None:
            return
        tunnel, line = found
        is_blamed = self._router.blame(line.names, event.error, now)
        if not event.is_removed:
            # MPLA-5-01
            if line is tunnel.current and tunnel.coming is None and line.is_granted:
                tunnel.is_troubled = True
                self.reroute(tunnel.number, now)
            return
        self._release(line, now)
        if is_blamed and line.tries < MAX_TRIES:
            line.tries += 1
            line.is_granted = False
            if self._send(tunnel, line, now, is_again=True):
                return
        refusal = refusal_of(event.error, self._names, event.power, event.offers)
        if line is tunnel.coming:
            tunnel.coming = None
            self._stay(tunnel, refusal, now)
        elif self._forget(tunnel, line):
            return
        elif line is tunnel.current:
            tunnel.current = None
            self._take_last(tunnel, event, refusal, now)

    def _take_last(
        self, tunnel: Tunnel, event: PathRefused, refusal: Refusal, now: Instant
    ) -> None:
        """Go on without a circuit: with the next one, with an OFFER, later, or not at all."""
        if tunnel.coming is not None:
            self._move(tunnel, Step.CUT, now, refusal)
            self._promote(tunnel, now)
            return
        case = case_of(event.error)
        if self._choose(tunnel, case, event.offers):
            if tunnel.state is not LampState.REQUESTING:
                # MPLA-1-01: what it had is no more
                self._move(tunnel, Step.CUT, now, refusal)
            self._ask(tunnel, now)
            return
        is_shed = case is Case.PREEMPTED
        self._end_asking(tunnel, refusal, now, is_again=is_shed)

    def _end_asking(
        self, tunnel: Tunnel, refusal: Refusal, now: Instant, *, is_again: bool
    ) -> None:
        """Be dark, or where the lamp has had power shed; the latter asks again."""
        if tunnel.replaces is not None:
            self._move(tunnel, Step.REFUSED, now, refusal)
            self._end_change(tunnel, now)
            return
        tunnel.choice = None
        forget_choices(tunnel)
        is_again = is_again or tunnel.was_granted
        self._move(tunnel, Step.CUT if is_again else Step.REFUSED, now, refusal)
        if is_again and tunnel.current is None:
            self._retry_later(tunnel, now)

    def _end_change(self, tunnel: Tunnel, now: Instant) -> None:
        """Stay with the supplier in whose place a tunnel was to be signalled: that one is over."""
        del self._tunnels[tunnel.number]
        tunnel.state = LampState.DARK
        self._report(tunnel, None, now)

    def _forget(self, tunnel: Tunnel, line: Line) -> bool:
        """Take a circuit that is not in use out of its tunnel; False for the one in use."""
        if line is tunnel.coming:
            tunnel.coming = None
            return True
        kept = [row for row in tunnel.old if row[1] is not line]
        is_old = len(kept) < len(tunnel.old)
        tunnel.old = kept
        return is_old

    def _tear(self, line: Line, now: Instant) -> None:
        if line.circuit in self._lines:
            self._release(line, now)
            self._rsvp.tear(line.circuit, now)

    def _release(self, line: Line, now: Instant) -> None:
        """Give back what a circuit has here."""
        self._lfib.release(line.circuit, now)
        self._delivery.remove_way(line.circuit, now)
        del self._lines[line.circuit]

    # ---- the market -------------------------------------------------------------------------

    def _choose(self, tunnel: Tunnel, case: Case | None, offers: tuple[TariffObject, ...]) -> bool:
        """Take the best OFFER that is left; False if there is none. MPLA-6-06, MPLA-6-01."""
        before: TariffObject | None = None
        if tunnel.replaces is not None:
            old = self._tunnels.get(tunnel.replaces)
            before = old.current.quote if old is not None and old.current is not None else None
            if before is None:
                return False
        return choose(tunnel, case, offers, before)

    def _take_price(self, tunnel: Tunnel, line: Line, before: TariffObject, now: Instant) -> None:
        """Ask what else there is when the price has risen, or is above the LIMIT. MPLA-6-01."""
        quote = line.quote
        if quote is None or quote.price == before.price:
            return
        self._report(tunnel, None, now)
        is_free = self._has_policeman and tunnel.wish.es is None
        is_looking = any(one.replaces == tunnel.number for one in self._tunnels.values())
        is_dear = is_dearer(before, quote, tunnel.wish)
        # MPLA-6-01
        if is_free and is_dear and not is_looking and len(self._tunnels) < MAX_TUNNELS:
            self._start(tunnel.wish, now, tunnel.number)

    def _replace_supplier(self, tunnel: Tunnel, now: Instant) -> None:
        """Leave the supplier in whose place this tunnel is signalled. MPLA-4.9-03."""
        old = self._tunnels.get(tunnel.replaces) if tunnel.replaces is not None else None
        tunnel.replaces = None
        if old is None:
            return
        # MPLA-4.9-03
        self._events.append(SupplierChanged(old=old.number, new=tunnel.number, at=now))
        if old.current is None or not self._delivery.has_stream(old.current.circuit):
            old.end_at = now + OVERLAP_NS

    # ---- states and time --------------------------------------------------------------------

    def _move(
        self, tunnel: Tunnel, step: Step, now: Instant, refusal: Refusal | None = None
    ) -> None:
        state = STEPS.get((tunnel.state, step), tunnel.state)
        if state is not tunnel.state or refusal is not None:
            tunnel.state = state
            self._report(tunnel, refusal, now)

    def _report(self, tunnel: Tunnel, refusal: Refusal | None, now: Instant) -> None:
        if tunnel.is_probe:
            return
        line = tunnel.current
        # MPLA-1-01
        self._events.append(
            LampChanged(
                tunnel=tunnel.number,
                state=tunnel.state,
                refusal=refusal,
                circuit=line.circuit if line is not None else None,
                grant=line.grant if line is not None else None,
                quote=line.quote if line is not None else None,
                at=now,
            )
        )
        if self._trace is not None:
            said = {"node": self._name, "lamp": self._name, "tunnel": tunnel.number}
            reason = {"code": refusal.code, "sentence": refusal.text} if refusal is not None else {}
            self._trace("mplamps:lamp_changed", {**said, "state": tunnel.state.value, **reason})

    def _retry_later(self, tunnel: Tunnel, now: Instant) -> None:
        """Ask again after 5 to 10 s, by chance."""
        # MPLA-4.6-04
        share = int.from_bytes(self._entropy(4), "big")
        span_ns = MAX_RETRY_NS - MIN_RETRY_NS
        tunnel.retry_at = now + MIN_RETRY_NS + (span_ns * share >> 32)

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline in ns, or None."""
        times: list[Instant] = []
        for tunnel in self._tunnels.values():
            times += [at for at in (tunnel.retry_at, tunnel.end_at) if at is not None]
            times += [at for at, _ in tunnel.old]
        return min(times, default=None)

    def handle_timer(self, now: Instant) -> None:
        """Tear old circuits, ask again, leave old suppliers: what is due at `now`."""
        for tunnel in tuple(self._tunnels.values()):
            for at, line in tuple(tunnel.old):
                if at <= now:
                    # MPLA-4.9-02
                    self._tear(line, now)
                    tunnel.old.remove((at, line))
            if tunnel.end_at is not None and tunnel.end_at <= now:
                self.switch_off(tunnel.number, now)
            elif tunnel.retry_at is not None and tunnel.retry_at <= now:
                tunnel.retry_at = None
                self.reroute(tunnel.number, now)
