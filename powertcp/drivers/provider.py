"""The provider: accepts connections, lets the breaker decide, delivers, drains."""

import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import trio

from powertcp.drivers.admission import Admissions
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.delivery import Delivery
from powertcp.drivers.dial import accept, format_address
from powertcp.drivers.feed import FeedStation
from powertcp.drivers.feed_desk import heed_subscribers
from powertcp.drivers.hotspot import HotSpot
from powertcp.drivers.poll import Poll
from powertcp.drivers.provider_books import ProviderBooks
from powertcp.drivers.sealing import Seals, identity_of, log_tunnel
from powertcp.drivers.session import AddressLimit, Session, peer_of
from powertcp.drivers.tracer import TraceFile, Tracer
from powertcp.drivers.usage import SECONDS
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import SegmentMachine, Wire
from powertcp.machine import Event
from powertcp.potcp import ConnectionConfig, PowerConnection, TicketOffice
from powertcp.potcp.traced import TracedConnection
from powertcp.registry import Reason, Refusal
from powertcp.sources import Breaker, Explanations, Source, Supply
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant, format_power
from powertcp.vppn.config import SealConfig
from powertcp.vppn.tunnel import TunnelRekeyed

PER_ADDRESS = 64  # connections of one address without VPPN, protocol section 14
ACCEPTS_PER_STEP = 8  # each with its first read: 2 ms, P19
EMFILE_PAUSE_S = 0.1
DRAIN_NS = 5 * NS_PER_S
LOOK_AGAIN_NS = 100 * NS_PER_MS  # after a bug in a look at the plan
_log = logging.getLogger("provider")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """What a provider offers.

    supplies: voltages with their amperes. rating_mw: of all together. ramp_mw_per_s: how fast
    power is connected, None at once. per_peer_mw: most for one peer. per_address: connections of
    one address (IPv6: one /64). best_priority: best class anyone may have. seed: of everything
    that is spread at random. give_back_s: how long a flow that allows it is measured before what
    it does not use is reclaimed.
    """

    supplies: Sequence[Supply]
    rating_mw: int
    name: str = ""
    ramp_mw_per_s: int | None = None
    per_peer_mw: int | None = None
    per_address: int = PER_ADDRESS
    best_priority: int = 1
    seed: int = 0
    give_back_s: int = SECONDS
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    source: Source = field(default_factory=Source)


class Provider:
    """A breaker with listeners: one poll task and one wheel for all connections.

    station: what it broadcasts, None for nothing; set before `serve`. farewell: what is awaited
    when it begins to drain, before anything is closed. hotspot: what forwards whoever holds a lease.
    """

    station: FeedStation | None
    farewell: Callable[[], Awaitable[None]] | None
    hotspot: HotSpot | None

    def __init__(
        self,
        config: ProviderConfig,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        tracer: Tracer | None = None,
        office: TicketOffice | None = None,
    ) -> None:
        """Prepare to serve; nothing is opened yet. tracer: makes a file of each connection.

        office: of tickets that others of a realm honour too, None for our own.
        """
        chance = random.Random(config.seed)
        self.config = config
        self.breaker = Breaker(
            config.rating_mw,
            list(config.supplies),
            chance.randrange,
            ramp_mw_per_s=config.ramp_mw_per_s,
            per_peer_mw=config.per_peer_mw,
            best_priority=config.best_priority,
        )
        self.wheel = Wheel()
        self.poll = Poll()
        self.office = office or TicketOffice(entropy)
        self.explanations = Explanations()
        self.delivery = Delivery(self.wheel, chance.randrange, self._congested, config.source)
        self.admissions = Admissions(
            self.breaker,
            self.delivery,
            self.explanations,
            spread=chance.randrange,
            shed_ms=config.connection.shed_ms,
            lease_s=config.connection.lease_s,
            give_back_s=config.give_back_s,
            wake=self._wake,
        )
        self.sessions: set[Session] = set()
        self.station = None
        self.farewell = None
        self.hotspot = None
        self.refused_connections = 0
        self._entropy = entropy
        self._seals: Seals | None = None
        self._tracer = tracer
        self._traces: dict[Session, TraceFile] = {}
        self._addresses = AddressLimit(config.per_address)
        self._nursery: trio.Nursery | None = None
        self._check_at: Instant | None = None
        self._left: list[Session] = []  # whose wires were closed since the last look
        self._drained = trio.Event()
        self._stop = trio.Event()

    def seal(self, config: SealConfig, *, is_required: bool) -> None:
        """Take sealed connections, and no SYN in clear if `is_required`; called before `serve`."""
        self._seals = Seals(config, self.office, self._entropy, is_required=is_required)
        self.admissions.needs_seal = is_required

    def keep_books(self, books: ProviderBooks) -> None:
        """Let `books` hold receipts and postings of all flows; called before `serve`."""
        self.admissions.billing.books = books
        books.on_failure = self._end_metered
        books.on_kept = self.admissions.billing.kept
        books.on_page = self.admissions.changed
        books.allowances.on_spent = self.admissions.billing.spent
        if books.pricing is not None:
            books.pricing.propose = self.admissions.billing.reprice

    # -- serving -----------------------------------------------------------------------------

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until drained or cancelled; started with the addresses of `listeners`.

        Cancelled, sockets are reset; flows are held by nobody any more.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.wheel.run)
                nursery.start_soon(self.poll.run)
                if self.station is not None:
                    self.station.start()
                    nursery.start_soon(self.station.run)
                for listener in listeners:
                    nursery.start_soon(self._accept_loop, listener)
                task_status.started([_address(listener) for listener in listeners])
                await self._stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            if self.station is not None:
                self.station.close()
            for session in list(self.sessions):
                session.wire.abort()
            self.poll.close()
            for listener in listeners:
                listener.close()

    async def _accept_loop(self, listener: socket.socket) -> None:
        """Accept what waits, a step at a time (P7, P19)."""
        while not self.admissions.draining:
            try:
                await trio.lowlevel.wait_readable(listener)
                accepted = accept(listener, ACCEPTS_PER_STEP)
            except trio.ClosedResourceError:
                return
            except OSError as error:
                _log.warning("accept: %s", error)
                await trio.sleep_until(trio.current_time() + EMFILE_PAUSE_S)
                continue
            now = now_ns()
            for sock, (host, port) in accepted:
                self._open(sock, host, port, now)

    def _open(self, sock: socket.socket, host: str, port: int, now: Instant) -> None:
        """Begin a session, unless its address has too many; the first read is made at once."""
        peer = peer_of(host)
        nursery = self._nursery
        # PTCP-14-01: counted before any object exists
        if nursery is None or not self._addresses.enter(peer):
            self.refused_connections += 1
            sock.close()
            _log.info("connection of %s refused: more than %d", host, self.config.per_address)
            return
        octets = peer + port.to_bytes(2, "big")
        trace = self._tracer.open("source", format_address(host, port)) if self._tracer else None
        kind = PowerConnection if trace is None else TracedConnection
        machine = kind(
            client=False,
            config=self.config.connection,
            entropy=self._entropy,
            office=self.office,
            peer=octets,
            trace=trace,
        )
        machine.unix_offset_ns = unix_offset_ns()
        session = Session(self, machine, host, port, peer)
        carrier: SegmentMachine[Event] = machine
        if self._seals is not None:
            carrier = session.tunnel = self._seals.wrap(machine, octets, now)
        if self.admissions.billing.books is not None:
            machine.sign_page = self.admissions.billing.books.signer(session)
        if trace is not None:
            self._traces[session] = trace
        wire = session.wire = Wire(
            sock,
            carrier,
            session.heed,
            nursery=nursery,
            wheel=self.wheel,
            on_close=session.leave,
            give_up=session.give_up,
            write_ns=session.write_limit_ns,
        )
        self.sessions.add(session)
        machine.start(now)
        if wire.readable(now) and not wire.closed:
            self.poll.register(wire)
        wire.rearm()

    def heed(self, session: Session, events: list[Event]) -> None:
        """Answer what a wake-up of `session` brought."""
        wire = session.wire
        if session.tunnel is not None:
            self._prove(session, events)
        self.admissions.handle(session, events, wire.now)
        needs_seal = self.admissions.needs_seal
        heed_subscribers(self.station, session, events, needs_seal=needs_seal)
        if self.hotspot is not None:
            self.hotspot.heed(session, events, wire.now)
        if session.machine.is_terminated:
            wire.finish()
        if wire.closed or self.admissions.draining:
            self._forget(session)

    def _prove(self, session: Session, events: list[Event]) -> None:
        """Take what the handshakes of a tunnel proved before anything is answered."""
        session.identity = identity_of(session.tunnel)
        log_tunnel(format_address(session.host, session.port), events, session.tunnel)
        # VPPN-4-02
        if any(type(event) is TunnelRekeyed for event in events):
            self.admissions.proved_again(session)

    def leave(self, session: Session) -> None:
        """Count a connection less: the wire of `session` is being closed."""
        self._addresses.leave(session.peer)
        if self.station is not None:
            self.station.leave(session.wire)
        if session.has_flows():
            self._left.append(session)
            self._wake(now_ns())
        self._forget(session)

    def _forget(self, session: Session) -> None:
        """Drop a session whose wire is gone and whose flows are over, grace included."""
        if session.wire.closed and not session.has_flows():
            self.sessions.discard(session)
            session.wire.retire()
            trace = self._traces.pop(session, None)
            if trace is not None:
                trace.close()
        if self.admissions.draining and not self._busy():
            self._drained.set()

    def _busy(self) -> bool:
        return any(not session.wire.closed for session in self.sessions)

    # -- checking ----------------------------------------------------------------------------

    def _congested(self) -> bool:
        return self.breaker.congested(self.admissions.drawn_mw)

    def _wake(self, when: Instant) -> None:
        """See to it that the breaker's plan is looked at by `when`."""
        if self._check_at is None or when < self._check_at:
            self._check_at = when
            self.wheel.arm(self, when)

    def get_timer(self) -> Instant | None:
        """Return when the plan is looked at next."""
        return self._check_at

    def handle_timer(self, now: Instant) -> None:
        """Look at the plan: shed, restore, answer who waited."""
        if self._check_at is None or now < self._check_at:
            return
        self._check_at = None
        left, self._left = self._left, []
        later: Instant | None = now + LOOK_AGAIN_NS
        try:
            for session in left:
                self.admissions.sweep(session)
                self._forget(session)
            later = self.admissions.check(now)
        finally:
            if later is not None:
                self._wake(later)

    def flush(self) -> bool:
        """Do nothing: each change flushes its own wire."""
        return True

    # -- orders ------------------------------------------------------------------------------

    def set_rating(self, rating_mw: int) -> None:
        """Change the rating; what is held above it is shed."""
        self.reload(replace(self.config, rating_mw=rating_mw, supplies=self._current()))

    def _current(self) -> list[Supply]:
        return [supply for supply in self.breaker.supplies if not supply.retiring]

    def set_ceiling(self, flow: str, ceiling_mw: int | None) -> bool:
        """Order a ceiling for a flow by name; False when there is no such flow."""
        for session in self.sessions:
            for record in session.flows.values():
                if record.name == flow and record in self.breaker.holdings:
                    self.breaker.set_ceiling(record, ceiling_mw)
                    self._wake(now_ns())
                    return True
        return False

    def reload(self, config: ProviderConfig) -> None:
        """Take rating and supplies of `config`; power that is delivered stays on."""
        now = now_ns()
        self.config = config
        self.breaker.reload(config.rating_mw, config.supplies, now)
        _log.info("rating %s, %d supplies", format_power(config.rating_mw), len(config.supplies))
        self._wake(now)

    @property
    def draining(self) -> bool:
        """Whether nobody new is served."""
        return self.admissions.draining

    # LEDG-7-07
    def _end_metered(self) -> None:
        """Say FIN 602 on every flow with receipts: nothing can be written down any more."""
        for session in list(self.sessions):
            for record in tuple(session.flows.values()):
                self.admissions.billing.end(record, now_ns())

    async def drain(self, most_ns: Duration = DRAIN_NS) -> None:
        """Say FIN 601 on every flow, wait at most T_DRAIN, then end `serve`."""
        self.admissions.draining = True
        # DPDP-4-03
        if self.farewell is not None:
            await self.farewell()
        refusal = Refusal(Reason.DRAINING)
        if self.station is not None:
            self.station.stop()
        for session in list(self.sessions):
            if not session.wire.closed:
                session.machine.shutdown(refusal=refusal, now=now_ns())
                session.wire.handle_timer(now_ns())
                session.wire.flush()
                if not session.has_flows():
                    session.wire.finish()
        if self._busy():
            with trio.move_on_after(most_ns / NS_PER_S):
                await self._drained.wait()
        self._stop.set()

    def stop(self) -> None:
        """End `serve` at once: connections are reset."""
        self._stop.set()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return format_address(host, port)


def total_mw(supplies: Iterable[Supply]) -> int:
    """Return the power of all supplies together: the rating when none was given."""
    return sum(supply.rating_mw for supply in supplies)
