"""The gateway of a VPPN: it ends the tunnels of devices and relays their power from providers."""

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import trio

from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.dial import connect
from powertcp.drivers.relaying import PER_ADDRESS, Pair, RelayServer
from powertcp.drivers.sealing import Seals, identity_of, log_tunnel
from powertcp.drivers.session import CLEAR, Identity
from powertcp.drivers.tracer import Tracer
from powertcp.drivers.vppn_trace import SideTraces
from powertcp.errors import known
from powertcp.machine import Event
from powertcp.potcp import TicketOffice
from powertcp.potcp.events import Ask
from powertcp.reclaim.attempt import Attempt, UpstreamAnswered, UpstreamFailed
from powertcp.reclaim.leg import Hung, Leg
from powertcp.reclaim.relay import Denial, FlowLeft, Relay, UpstreamWanted
from powertcp.reclaim.track import End, Phase, TrackedFlow
from powertcp.registry import Reason, Refusal
from powertcp.units import Instant
from powertcp.vppn.config import SealConfig
from powertcp.vppn.session import Session
from powertcp.vppn.tunnel import Tunnel, TunnelOpened, TunnelRekeyed

if TYPE_CHECKING:
    from powertcp.drivers.wire import SegmentMachine

# of T_OPEN, which a device waits: until when one provider must have answered
DIAL_S: Final = 4.0
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


class RelaySession(Pair):
    """One device: its wire, its relay, the wire of its provider."""

    def __init__(self, host: str, port: int, peer: bytes, traces: SideTraces) -> None:
        """Begin without wires."""
        super().__init__(host, port, peer)
        self.traces = traces
        self.identity: Identity = CLEAR
        self.upstream: Upstream | None = None
        self.tunnel: Tunnel | None = None
        # of the upstream that is asked: what became of it, "" that it answered, None nothing yet
        self.attempt: Attempt | None = None
        self.outcome: str | None = None
        self.decided = trio.Event()
        self.relay: Relay
        self.on_cut: Callable[[], None] = self.hang

    def name_of(self, flow: TrackedFlow) -> str:
        """A flow as people see it: ADDRESS:PORT/FLOW."""
        return f"{self.where}/{flow.number}"

    def leg(self, end: End) -> Leg:
        """Return one side of the relay."""
        return self.relay.device if end is End.CLIENT else self.relay.provider

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
        wire, attempt = self.server, self.attempt
        self.upstream = self.server = self.attempt = None
        if self.client is not None:
            self.client.partner = None
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
        if self.client is not None:
            self.client.finish()
        if self.server is not None and not self.relay.provider.is_held:
            self.server.finish()


class VppnGateway(RelayServer[RelaySession]):
    """A relay for all devices, whose tunnels end here, and their providers."""

    def __init__(
        self,
        config: GatewayConfig,
        desk: Desk,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        tracer: Tracer | None = None,
    ) -> None:
        """Prepare to serve; nothing is opened yet. tracer: makes two files of each device."""
        super().__init__(config.per_address, _log)
        self.config, self.desk = config, desk
        self._entropy, self._tracer = entropy, tracer
        self._seals = Seals(config.seal, TicketOffice(entropy), entropy, is_required=True)

    def begin(
        self, sock: socket.socket, host: str, port: int, peer: bytes, now: Instant
    ) -> RelaySession | None:
        """Begin the session of a device."""
        session = RelaySession(host, port, peer, SideTraces(self._tracer))
        nursery = known(self.nursery, "nobody comes before there is a nursery")

        def is_sealed() -> bool:
            return session.tunnel is not None and session.tunnel.is_sealed

        session.relay = Relay(partial(self._judge, session), is_sealed)
        session.on_cut = partial(self.drain_events, session)
        octets = peer + port.to_bytes(2, "big")
        session.tunnel = self._seals.carry(session.relay.device, octets, now)
        machine = session.traces.follow(End.CLIENT, session.where, session.tunnel)
        session.client = self.wire(session, sock, machine, End.CLIENT, nursery)
        return session

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
        if session.client is not None:
            session.client.resume()
        self.forget(session)

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
        self.drain_events(session)

    def _connect(self, session: RelaySession, sock: socket.socket) -> None:
        """Ask a provider: what waits for one goes to it."""
        nursery, relay = self.nursery, session.relay
        if nursery is None or session.client is None or relay.is_over:
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
        session.join(self.wire(session, sock, machine, End.SERVER, nursery), now)

    # -- events ------------------------------------------------------------------------------

    def heed(self, session: RelaySession, end: End, events: list[Event]) -> None:
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
                case UpstreamWanted() if self.nursery is not None:
                    session.is_dialling = True
                    self.nursery.start_soon(self._dial, session, event)
                case UpstreamAnswered():
                    session.decide("")
                case UpstreamFailed(refusal=refusal):
                    # a provider that has enough of an address says nothing
                    session.decide(refusal.sentence() if refusal is not None else CLOSED)
                case _:
                    pass
        self.desk.heed(session, events)
        if any(isinstance(event, Hung) for event in events):
            self.hang(session)
        elif any(isinstance(event, FlowLeft) for event in events):
            self.look(session)

    def hang(self, session: RelaySession) -> None:
        """One side is gone: so is the other, after what waits for it. VPPN-6-04."""
        session.hang()
        session.decided.set()
        self.forget(session)

    def is_idle(self, session: RelaySession) -> bool:
        """Whether nothing is relayed for a device."""
        return session.relay.is_idle

    def end_all(self, session: RelaySession, now: Instant) -> None:
        """Say FIN 601 on every flow to both sides."""
        session.relay.end_all(Refusal(Reason.DRAINING), now)

    def closed(self, session: RelaySession) -> None:
        """Both sides of a session are gone."""
        self.desk.close(session)
        session.traces.close()

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
