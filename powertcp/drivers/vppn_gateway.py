"""The gateway of a VPPN: it ends the tunnels of devices and relays their power from providers."""

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple, Protocol

import trio

from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.dial import accept, connect, format_address
from powertcp.drivers.poll import Poll
from powertcp.drivers.relay_wire import RelayWire
from powertcp.drivers.sealing import Seals, identity_of, log_tunnel
from powertcp.drivers.session import CLEAR, AddressLimit, Identity, party_of, peer_of
from powertcp.drivers.tracer import Tracer
from powertcp.drivers.vppn_trace import SideTraces
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import SegmentMachine
from powertcp.machine import Event
from powertcp.potcp import TicketOffice
from powertcp.potcp.events import Ask
from powertcp.reclaim.attempt import Attempt, UpstreamAnswered, UpstreamFailed
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.relay import Denial, FlowLeft, Relay, UpstreamWanted
from powertcp.reclaim.track import End, Phase, TrackedFlow
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.vppn.config import SealConfig
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Tunnel, TunnelOpened, TunnelRekeyed

PER_ADDRESS: Final = 64  # connections of one address, protocol section 14
ACCEPTS_PER_STEP: Final = 8
EMFILE_PAUSE_S: Final = 0.1
# of T_OPEN, which a device waits: until when one provider must have answered
DIAL_S: Final = 4.0
# T_DRAIN for the provider, once more for the device
DRAIN_NS: Final = 10 * NS_PER_S
# what an operator may do about an upstream that hangs up
CLOSED: Final = "closed without an answer, its --connections may be too few for this address"
_log = logging.getLogger("gateway")


class Upstream(NamedTuple):
    """A provider inside. name: what accounts and logs call it."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Where power comes from.

    upstreams: asked in this order. vias: by the name that VIA gives. seal: how devices are sealed.
    upstream_seal: how providers are, None: in clear. per_address: connections of one address.
    """

    upstreams: Sequence[Upstream]
    seal: SealConfig
    vias: Mapping[str, Upstream] = field(default_factory=dict)
    upstream_seal: SealConfig | None = None
    per_address: int = PER_ADDRESS


class Desk(Protocol):
    """Who decides what a device may draw, and counts it."""

    def admit(self, session: "RelaySession") -> None:
        """A handshake proved who `session` is."""

    def judge(
        self, session: "RelaySession", flow: TrackedFlow, asks: tuple[Ask, ...]
    ) -> Denial | None:
        """Return why a request may not pass."""

    def heed(self, session: "RelaySession", events: Sequence[Event]) -> None:
        """Take note of what passed."""

    def close(self, session: "RelaySession") -> None:
        """Forget `session`: both its sides are gone."""


class RelaySession:
    """One device: its wire, its relay, the wire of its provider."""

    def __init__(self, host: str, port: int, peer: bytes, traces: SideTraces) -> None:
        """Begin without wires."""
        self.traces = traces
        self.host, self.port, self.peer = host, port, peer
        self.identity: Identity = CLEAR
        self.upstream: Upstream | None = None
        self.tunnel: Tunnel | None = None
        self.device: RelayWire | None = None
        self.provider: RelayWire | None = None
        self.is_dialling = self.is_hanging = self.is_leaving = False
        # of the upstream that is asked: what became of it, "" that it answered, None nothing yet
        self.attempt: Attempt | None = None
        self.outcome: str | None = None
        self.decided = trio.Event()
        self.relay: Relay
        self.on_cut: Callable[[], None] = self.hang

    @property
    def where(self) -> str:
        """The device as people see it: ADDRESS:PORT."""
        return format_address(self.host, self.port)

    @property
    def party(self) -> str:
        """Its address for the books."""
        return party_of(self.host)

    def name_of(self, flow: TrackedFlow) -> str:
        """A flow as people see it: ADDRESS:PORT/FLOW."""
        return f"{self.where}/{flow.number}"

    @property
    def wires(self) -> tuple[RelayWire, ...]:
        """The wires that there are."""
        return tuple(wire for wire in (self.device, self.provider) if wire is not None)

    @property
    def is_closed(self) -> bool:
        """Whether both sides are gone."""
        return not self.is_dialling and all(wire.closed for wire in self.wires)

    def backlog(self, end: End) -> int:
        """Return what waits for one side, octets."""
        wire = self.device if end is End.CLIENT else self.provider
        if wire is not None and not wire.closed:
            return wire.queued
        leg = self.relay.device if end is End.CLIENT else self.relay.provider
        return leg.queued

    def flush(self) -> None:
        """Send what waits for both sides."""
        for wire in self.wires:
            wire.flush()
            wire.rearm()

    def ask(self, upstream: Upstream) -> None:
        """Begin to ask an upstream."""
        self.upstream, self.outcome, self.decided = upstream, None, trio.Event()

    def decide(self, outcome: str) -> None:
        """Take note of what became of the upstream that is asked."""
        self.outcome = outcome
        self.decided.set()

    # VPPN-6-04
    def abandon(self) -> None:
        """Leave an upstream that has not answered: what it was told waits for the next one."""
        wire, attempt = self.provider, self.attempt
        self.upstream = self.provider = self.attempt = None
        if self.device is not None:
            self.device.partner = None
        if wire is not None:
            wire.partner = None
            wire.abort()
            wire.retire()
        if attempt is not None:
            attempt.leave()

    def release(self, number: int) -> None:
        """What the provider is not to hear before it is written may go now. LEDG-7-06."""
        self.relay.provider.release(number)
        self.flush()
        if self.is_hanging:
            self.hang()

    # VPPN-6-03
    def lose(self) -> None:
        """A page could not be written: it never passes, the device shows it on its next path."""
        refusal = Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written")
        self.relay.cut(End.SERVER, refusal, now_ns())
        self.relay.provider.drop()
        self.on_cut()

    def hang(self) -> None:
        """End both sides, after what waits for them."""
        self.is_hanging = True
        if self.device is not None:
            self.device.finish()
        if self.provider is not None and not self.relay.provider.is_held:
            self.provider.finish()


class VppnGateway:
    """Listeners, one poll task and one wheel for all devices and providers."""

    def __init__(
        self,
        config: GatewayConfig,
        desk: Desk,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        tracer: Tracer | None = None,
    ) -> None:
        """Prepare to serve; nothing is opened yet. tracer: makes two files of each device."""
        self.config, self.desk = config, desk
        self.wheel, self.poll = Wheel(), Poll()
        self.sessions: set[RelaySession] = set()
        self.refused_connections = 0
        self.draining = False
        self._entropy, self._tracer = entropy, tracer
        self._seals = Seals(config.seal, TicketOffice(entropy), entropy, is_required=True)
        self._addresses = AddressLimit(config.per_address)
        self._nursery: trio.Nursery | None = None
        self._gone: list[RelaySession] = []
        self._drained, self._stop = trio.Event(), trio.Event()

    # -- serving -----------------------------------------------------------------------------

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until drained or cancelled; started with the addresses of `listeners`."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.wheel.run)
                nursery.start_soon(self.poll.run)
                for listener in listeners:
                    nursery.start_soon(self._accept_loop, listener)
                task_status.started([format_address(*one.getsockname()[:2]) for one in listeners])
                await self._stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            for session in tuple(self.sessions):
                for wire in session.wires:
                    wire.abort()
            self.poll.close()
            for listener in listeners:
                listener.close()

    async def _accept_loop(self, listener: socket.socket) -> None:
        while not self.draining:
            try:
                await trio.lowlevel.wait_readable(listener)
                accepted = accept(listener, ACCEPTS_PER_STEP)
            except trio.ClosedResourceError:
                return
            except OSError as error:
                _log.warning("accept: %s", error)
                await trio.sleep_until(trio.current_time() + EMFILE_PAUSE_S)
                continue
            for sock, (host, port) in accepted:
                self._open(sock, host, port, now_ns())

    def _open(self, sock: socket.socket, host: str, port: int, now: Instant) -> None:
        """Begin a session, unless its address has too many."""
        peer, nursery = peer_of(host), self._nursery
        # PTCP-14-01
        if nursery is None or self.draining or not self._addresses.enter(peer):
            self.refused_connections += 1
            sock.close()
            _log.info("connection of %s refused: more than %d", host, self.config.per_address)
            return
        session = RelaySession(host, port, peer, SideTraces(self._tracer))

        def is_sealed() -> bool:
            return session.tunnel is not None and session.tunnel.is_sealed

        session.relay = Relay(partial(self._judge, session), is_sealed)
        session.on_cut = partial(self._drain_events, session)
        octets = peer + port.to_bytes(2, "big")
        session.tunnel = self._seals.carry(session.relay.device, octets, now)
        machine = session.traces.follow(End.CLIENT, session.where, session.tunnel)
        session.device = self._wire(session, sock, machine, End.CLIENT, nursery)
        self.sessions.add(session)
        session.device.begin(now)

    def _wire(
        self,
        session: RelaySession,
        sock: socket.socket,
        machine: SegmentMachine[Event],
        end: End,
        nursery: trio.Nursery,
    ) -> RelayWire:
        return RelayWire(
            sock,
            machine,
            partial(self._heed, session, end),
            poll=self.poll,
            backlog=partial(self._backlog, session, end.other),
            nursery=nursery,
            wheel=self.wheel,
            on_close=partial(self._leave, session, end),
        )

    def _backlog(self, session: RelaySession, end: End) -> int:
        """Return what waits for one side; all that a provider is not there yet for is too much."""
        if end is End.SERVER and session.is_dialling:
            return 1 << 62
        return session.backlog(end)

    # -- upstream ----------------------------------------------------------------------------

    def _judge(
        self, session: RelaySession, flow: TrackedFlow, asks: tuple[Ask, ...], via: str | None
    ) -> Denial | None:
        if self.draining:
            return Denial(Refusal(Reason.DRAINING))
        # VPPN-6-04
        if via is not None and via not in self.config.vias:
            said = f"VIA {via}: no such upstream"
            return Denial(Refusal(Reason.POLICY, rule=said, text=said))
        denial = self.desk.judge(session, flow, asks)
        # VPPN-6-04: whoever may not draw is told no names
        if (
            denial is None
            and via is None
            and flow.phase is Phase.ASKED
            and not self.config.upstreams
        ):
            said = f"name one: VIA {', '.join(self.config.vias)}"
            return Denial(Refusal(Reason.POLICY, rule=said, text=said))
        return denial

    async def _dial(self, session: RelaySession, wanted: UpstreamWanted) -> None:
        """Find a provider for `session`, in the order of the operator. VPPN-6-04."""
        config = self.config
        # VPPN-6-04
        asked = list(config.upstreams)
        if wanted.via is not None:
            asked = [config.vias[wanted.via]] if wanted.via in config.vias else []
        failed: list[str] = []
        until = trio.current_time() + DIAL_S
        for number, upstream in enumerate(asked):
            session.ask(upstream)
            with trio.move_on_after((until - trio.current_time()) / (len(asked) - number)):
                await self._ask(session, upstream)
            if session.outcome == "" or session.relay.is_over:
                break
            failed.append(f"{upstream.name}: {session.outcome or 'no answer'}")
            session.abandon()
        session.is_dialling = False
        if session.outcome != "":
            self._no_upstream(session, wanted, "; ".join(failed))
        elif failed:
            name = session.upstream.name if session.upstream else ""
            _log.warning("%s: power from %s: %s", session.where, name, "; ".join(failed))
        if session.device is not None:
            session.device.resume()
        self._forget(session)

    async def _ask(self, session: RelaySession, upstream: Upstream) -> None:
        """Wait for what becomes of one upstream."""
        try:
            sock = await connect(upstream.host, upstream.port)
        except (OSError, UnicodeError) as error:
            session.decide(str(getattr(error, "strerror", None) or error))
            return
        self._connect(session, sock)
        await session.decided.wait()

    def _no_upstream(self, session: RelaySession, wanted: UpstreamWanted, why: str) -> None:
        """Nobody gives power: a new request hears that, a resumed one waits for another try."""
        if session.relay.is_over:
            return
        _log.warning("%s: no upstream: %s", session.where, why)
        if not wanted.resumes:
            for flow in session.relay.tracker.flows:
                asked_mw = max((ask.desired.power_mw for ask in flow.asks), default=0)
                said = "no provider answers the gateway"
                refusal = Refusal(Reason.NO_CAPACITY, asked_mw, 0, 1000, rule=why, text=said)
                session.relay.give_up(flow, Denial(refusal))
        session.relay.cut(End.SERVER, None, now_ns())
        self._drain_events(session)

    def _drain_events(self, session: RelaySession) -> None:
        """Handle what happened outside of a wake-up: to a provider that is not there."""
        events: list[Event] = []
        for leg in (session.relay.device, session.relay.provider):
            while (event := leg.next_event()) is not None:
                events.append(event)
        self._heed(session, End.SERVER, events)
        session.flush()

    def _connect(self, session: RelaySession, sock: socket.socket) -> None:
        """Ask a provider: what waits for one goes to it."""
        nursery, relay, device = self._nursery, session.relay, session.device
        if nursery is None or device is None or relay.is_over:
            sock.close()
            return
        now = now_ns()
        session.attempt = Attempt(relay.provider)
        machine: SegmentMachine[Event] = session.attempt
        if (seal := self.config.upstream_seal) is not None:
            tunnel_session = Session(
                seal, is_initiator=True, entropy=self._entropy, unix_offset_ns=unix_offset_ns()
            )
            machine = Tunnel(session.attempt, tunnel_session, now, is_initiator=True)
        upstream = session.upstream.name if session.upstream else ""
        machine = session.traces.follow(End.SERVER, f"{session.where}-{upstream}", machine)
        session.provider = self._wire(session, sock, machine, End.SERVER, nursery)
        session.provider.partner, device.partner = device, session.provider
        session.provider.now = now
        session.provider.begin(now)
        session.flush()

    # -- events ------------------------------------------------------------------------------

    def _heed(self, session: RelaySession, end: End, events: list[Event]) -> None:
        """Act on what a wake-up of either side brought."""
        session.traces.tell(end, events)
        upstream = session.upstream.name if session.upstream else ""
        log_tunnel(session.where if end is End.CLIENT else upstream, events)
        for event in events:
            match event:
                case TunnelOpened() | TunnelRekeyed() if end is End.CLIENT:
                    # VPPN-4-02
                    session.identity = identity_of(session.tunnel)
                    self.desk.admit(session)
                    session.relay.proven(now_ns())
                case UpstreamWanted() if self._nursery is not None:
                    session.is_dialling = True
                    self._nursery.start_soon(self._dial, session, event)
                case UpstreamAnswered():
                    session.decide("")
                case UpstreamFailed(refusal=refusal):
                    # a provider that has enough of an address says nothing
                    session.decide(refusal.sentence() if refusal is not None else CLOSED)
                case _:
                    pass
        self.desk.heed(session, events)
        if any(isinstance(event, Hung) for event in events):
            self._hang(session)
        elif any(isinstance(event, FlowLeft) for event in events):
            self._look(session)

    def _hang(self, session: RelaySession) -> None:
        """One side is gone: so is the other, after what waits for it. VPPN-6-04."""
        session.hang()
        session.decided.set()
        self._forget(session)

    def _look(self, session: RelaySession) -> None:
        """Hang up on whoever has no flow left, once we drain."""
        if self.draining and session.relay.is_idle:
            self._hang(session)

    def _leave(self, session: RelaySession, end: End) -> None:
        """The wire of one side is being closed."""
        if end is End.CLIENT:
            self._addresses.leave(session.peer)
        self._forget(session)

    def get_timer(self) -> Instant | None:
        """Return when `handle_timer` is due: as soon as somebody left."""
        return now_ns() if self._gone else None

    def handle_timer(self, now: Instant) -> None:
        """Forget who left, once its wires have said all they had to."""
        gone, self._gone = self._gone, []
        for session in gone:
            self.sessions.discard(session)
            self.desk.close(session)
            for wire in session.wires:
                wire.partner = None
                wire.retire()
            session.traces.close()
        if self.draining and not self.sessions:
            self._drained.set()

    def flush(self) -> bool:
        """Do nothing: each change flushes its own wires."""
        return True

    def _forget(self, session: RelaySession) -> None:
        if session.is_closed and session in self.sessions and not session.is_leaving:
            session.is_leaving = True
            self._gone.append(session)
            self.wheel.arm(self, now_ns())

    # -- orders ------------------------------------------------------------------------------

    def take(self, config: GatewayConfig) -> None:
        """Ask the upstreams of `config` from now on; devices that have one keep it."""
        before = self.config
        self.config = replace(
            before,
            upstreams=config.upstreams,
            vias=config.vias,
            upstream_seal=config.upstream_seal,
        )
        names = [*(one.name for one in config.upstreams), *config.vias]
        if [*(one.name for one in before.upstreams), *before.vias] != names:
            _log.info("power from %s", ", ".join(names))

    async def drain(self, most_ns: Duration = DRAIN_NS) -> None:
        """Say FIN 601 on every flow to both sides, wait for that, then end `serve`."""
        self.draining = True
        refusal = Refusal(Reason.DRAINING)
        for session in tuple(self.sessions):
            session.relay.end_all(refusal, now_ns())
            session.flush()
            self._look(session)
        if self.sessions:
            with trio.move_on_after(most_ns / NS_PER_S):
                await self._drained.wait()
        self._stop.set()

    def stop(self) -> None:
        """End `serve` at once: connections are reset."""
        self._stop.set()
