"""The reclaim firewall on sockets: connections come, are judged, and go where they may.

Two wires around one `Screen`. What is decided is said by the core; here are names, addresses,
connections and time. FWRL section 2.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import connect, format_address, parse_address
from powertcp.drivers.relaying import PER_ADDRESS, Pair, RelayServer
from powertcp.drivers.tracer import Tracer
from powertcp.drivers.vppn_trace import SideTraces
from powertcp.errors import ConfigError, HostError, known
from powertcp.linux.origin import is_own, make_transparent, original_destination
from powertcp.machine import Event
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.layer import Layer
from powertcp.reclaim.leg import Hung, Leg
from powertcp.reclaim.policy import Policy
from powertcp.reclaim.policy_match import plain_address
from powertcp.reclaim.screen import NameWanted, Screen, TargetWanted
from powertcp.reclaim.track import End
from powertcp.reclaim.watch import Party
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Duration, Instant

# of T_OPEN, which a device waits: for the name and for the connection, together
DIAL_S: Final = 4.0
# names that are looked up at once; who comes later waits for its turn, within DIAL_S
LOOKUPS_MAX: Final = 8
# T_SYN: who has said nothing of use until then is closed without a word
SYN_NS: Final[Duration] = 5 * NS_PER_S
_log = logging.getLogger("firewall")


class Mode(StrEnum):
    """How connections come: by name, diverted with another address, diverted with their own."""

    EXPLICIT = "explicit"
    REDIRECT = "redirect"
    TPROXY = "tproxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallConfig:
    """How it is connected. upstream: for who names nobody, explicit mode only, None for none.

    passes_other: whether other protocols pass. per_address: connections of one address.
    """

    mode: Mode = Mode.EXPLICIT
    upstream: tuple[str, int] | None = None
    passes_other: bool = False
    per_address: int = PER_ADDRESS


class Filtered(Pair):
    """One connection through the firewall. until_s: when patience with its far side is over.

    quiet_since: since when it has neither flows nor a far side, None: it has.
    """

    def __init__(
        self,
        host: str,
        port: int,
        peer: bytes,
        screen: Screen,
        traces: SideTraces,
        now: Instant,
    ) -> None:
        """Begin without wires. traces: of what is on them."""
        super().__init__(host, port, peer)
        self.screen, self.traces = screen, traces
        self.until_s: float | None = None
        self.scope = trio.CancelScope()
        self.quiet_since: Instant | None = now

    def leg(self, end: End) -> Leg:
        """Return one side of the screen."""
        return self.screen.leg(end)

    @property
    def has_news(self) -> bool:
        """Whether something happened to it outside of a wake-up."""
        legs = (self.screen.client, self.screen.server)
        return any(leg.queued or leg.events for leg in legs)

    def wire_of(self, end: End) -> None:
        """Say goodbye to one side, after what waits for it."""
        wire = self.client if end is End.CLIENT else self.server
        if wire is not None:
            wire.finish()


class FirewallServer(RelayServer[Filtered]):
    """A firewall that serves. on_news: called after a turn of work that the core tells of."""

    def __init__(
        self, config: FirewallConfig, firewall: Firewall, tracer: Tracer | None = None
    ) -> None:
        """Prepare to serve; nothing is opened yet. tracer: makes two files of each connection."""
        super().__init__(config.per_address, _log)
        self._tracer = tracer
        self.config, self.firewall = config, firewall
        self.on_news: Callable[[], None] = _nothing
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)
        self._is_bound = False

    def prepare(self, listeners: Sequence[socket.socket]) -> None:
        """Let listeners take what is for others. Raises HostError where they may not."""
        if self.config.mode is not Mode.TPROXY:
            return
        for listener in listeners:
            try:
                make_transparent(listener)
            except OSError as error:
                said = "take connections for others (CAP_NET_ADMIN)"
                raise HostError(error.errno or 0, "IP_TRANSPARENT", said) from error

    # -- who comes -----------------------------------------------------------------------------

    def begin(
        self, sock: socket.socket, host: str, port: int, peer: bytes, now: Instant
    ) -> Filtered | None:
        """Begin with a connection, unless it was going to ourselves."""
        try:
            client, target = party_at(host, port), self._target_of(sock)
        except (OSError, ValueError) as error:
            _log.info("connection of %s closed: %s", format_address(host, port), error)
            sock.close()
            return None
        screen = Screen(
            self.firewall,
            client,
            target,
            is_client_inside=self._is_inside(self.firewall.policy, client),
            passes_other=self.config.passes_other,
        )
        traces = SideTraces(self._tracer, "firewall")
        pair = Filtered(host, port, peer, screen, traces, now)
        nursery = known(self.nursery, "nobody comes before there is a nursery")
        machine = traces.follow(End.CLIENT, pair.where, screen.client)
        pair.client = self.wire(pair, sock, machine, End.CLIENT, nursery)
        return pair

    # FWRL-2-04
    def _target_of(self, sock: socket.socket) -> Party | None:
        """Return where a connection was going, None: it will say. Raises ValueError: to us."""
        if self.config.mode is Mode.EXPLICIT:
            return None
        here = sock.getsockname()[:2]
        there = here if self.config.mode is Mode.TPROXY else original_destination(sock)
        if there is None:
            raise ValueError("it was not diverted, it was going to the firewall itself")
        self._refuse_loop(*there)
        return party_at(*there)

    def _refuse_loop(self, host: str, port: int) -> None:
        """Raise ValueError for an address that leads here: it would be relayed without end.

        One that is unspecified is refused, too: rules would see another one than it leads to.
        """
        if plain_address(ip_address(host.partition("%")[0])).is_unspecified:
            raise ValueError(f"{format_address(host, port)} is no address of anybody")
        if port in self.ports and is_own(host):
            raise ValueError(f"{format_address(host, port)} is the firewall itself")

    # FWRL-2-05
    def _is_inside(self, policy: Policy, client: Party) -> bool:
        inside = policy.is_inside(client.address) if client.address is not None else None
        return self.config.mode is Mode.EXPLICIT if inside is None else inside

    # -- where it goes -------------------------------------------------------------------------

    # FWRL-2-03
    async def _settle(self, pair: Filtered, via: str | None) -> None:
        """Find out where a connection goes: to what its first request names, or the default."""
        party, refusal = None, None
        try:
            host, port = self._named(via)
            with trio.CancelScope(deadline=self._patience(pair)) as pair.scope:
                party = await self._look_up(host, port)
        except ValueError as error:
            refusal = Refusal(Reason.POLICY, text=str(error), rule=str(error))
        except OSError as error:
            said = f"VIA {via}: {error.strerror or error}"
            refusal = Refusal(Reason.NO_CAPACITY, 0, 0, 1000, text=said, rule=said)
        if party is None and refusal is None:
            said = f"VIA {via}: no address within {DIAL_S:g} s"
            refusal = Refusal(Reason.NO_CAPACITY, 0, 0, 1000, text=said, rule=said)
        pair.is_dialling = False
        pair.screen.settle(party, refusal, now_ns())
        self._go_on(pair)

    def _named(self, via: str | None) -> tuple[str, int]:
        """Return what VIA names. Raises ValueError with a sentence."""
        if via is None:
            if self.config.upstream is None:
                raise ValueError("name the provider: VIA HOST:PORT")
            return self.config.upstream
        try:
            return parse_address(via)
        except ConfigError as error:
            raise ValueError(f"VIA {via}: {error.text}") from error

    async def _look_up(self, host: str, port: int) -> Party:
        """Return the one address that is judged and then connected to.

        Raises OSError when there is none, ValueError when it leads here.
        """
        try:
            ip_address(host)
        except ValueError:
            host = await trio.to_thread.run_sync(
                _first_address, host, port, limiter=self._lookups, abandon_on_cancel=True
            )
        self._refuse_loop(host, port)
        return party_at(host, port)

    async def _dial(self, pair: Filtered) -> None:
        """Connect to the far side."""
        target = known(pair.screen.target, "it is known where a connection goes")
        host, port = parse_address(target.name)
        sock, why = None, f"no answer within {DIAL_S:g} s"
        try:
            with trio.CancelScope(deadline=self._patience(pair)) as pair.scope:
                sock = await connect(host, port, bind=self._source_of(pair, host))
        except OSError as error:
            why = error.strerror or str(error)
        pair.is_dialling = False
        if sock is None:
            self._no_target(pair, f"{target.name}: {why}")
        elif pair.screen.is_over or self.nursery is None:
            sock.close()
        else:
            name = f"{pair.where}-{target.name}"
            machine = pair.traces.follow(End.SERVER, name, pair.screen.server)
            pair.join(self.wire(pair, sock, machine, End.SERVER, self.nursery), now_ns())
        self._go_on(pair)

    def _source_of(self, pair: Filtered, host: str) -> Callable[[socket.socket], None] | None:
        """Return what gives a socket the address of the client, None: it has our own."""
        if self.config.mode is not Mode.TPROXY or (":" in pair.host) is not (":" in host):
            return None

        def bind(sock: socket.socket) -> None:
            try:
                make_transparent(sock)
                sock.bind((pair.host, 0))
            except PermissionError as error:
                if not self._is_bound:
                    _log.warning("the far side sees our own address: %s", error.strerror)
                self._is_bound = True

        return bind

    def _no_target(self, pair: Filtered, said: str) -> None:
        """Nobody is there: who asked hears it."""
        if pair.screen.is_over:
            return
        _log.warning("%s: no far side: %s", pair.where, said)
        refusal = Refusal(Reason.NO_CAPACITY, 0, 0, 1000, text=said, rule=said)
        pair.screen.give_up(refusal, now_ns())

    def _patience(self, pair: Filtered) -> float:
        """Return until when name and connection may take, together."""
        if pair.until_s is None or pair.server is not None:
            pair.until_s = trio.current_time() + DIAL_S
        return pair.until_s

    def _go_on(self, pair: Filtered) -> None:
        """Go on with a connection that waited."""
        self.drain_events(pair)
        if pair.client is not None:
            pair.client.resume()
        self.forget(pair)

    # -- events --------------------------------------------------------------------------------

    def heed(self, pair: Filtered, end: End, events: list[Event]) -> None:
        """Act on what a wake-up of either side brought."""
        pair.traces.tell(end, events)
        for event in events:
            match event:
                case NameWanted(via=via) if self.nursery is not None:
                    pair.is_dialling = True
                    self.nursery.start_soon(self._settle, pair, via)
                case TargetWanted() if self.nursery is not None:
                    pair.is_dialling = True
                    self.nursery.start_soon(self._dial, pair)
                case Hung(end=gone):
                    # the other side may still have something that is wanted
                    if pair.screen.is_over:
                        self.hang(pair)
                    else:
                        pair.wire_of(gone)
                case _:
                    pass
        if not pair.screen.is_over:
            self.look(pair)

    def hang(self, pair: Filtered) -> None:
        """End both sides: after what waits for them, or at once."""
        pair.is_hanging = True
        pair.scope.cancel()
        for wire in pair.wires:
            # FWRL-3-12
            if pair.screen.is_dropped:
                wire.abort()
            else:
                wire.finish()
        self.forget(pair)

    def is_idle(self, pair: Filtered) -> bool:
        """Whether a connection has no flow."""
        return pair.screen.is_idle

    def end_all(self, pair: Filtered, now: Instant) -> None:
        """End every flow, and what nobody can look into, with 601."""
        refusal = Refusal(Reason.DRAINING)
        pair.screen.end_all(refusal, now)
        if not pair.screen.is_idle:
            pair.screen.close(refusal, now)
        self.drain_events(pair)

    def closed(self, pair: Filtered) -> None:
        """Both sides are gone: so is what stood between them."""
        pair.screen.close(Refusal(Reason.NORMAL), now_ns())
        pair.traces.close()

    def turned(self) -> None:
        """A wire has done a turn of work: what was ruled is told."""
        if self.firewall.events:
            self.on_news()

    # -- time and orders -----------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Let a second pass: for the core, and for who says nothing."""
        self.firewall.tick(now)
        for pair in tuple(self.sessions):
            self._watch_quiet(pair, now)
        self.spread()

    # FWRL-2-01
    def _watch_quiet(self, pair: Filtered, now: Instant) -> None:
        screen = pair.screen
        if screen.is_over:
            return
        if pair.server is not None or pair.is_dialling or not screen.is_idle:
            pair.quiet_since = None
        elif pair.quiet_since is None:
            pair.quiet_since = now
        elif now - pair.quiet_since >= SYN_NS:
            screen.drop(screen.client, now)

    def spread(self) -> None:
        """Send what was queued outside of a wake-up, as all flows were judged again."""
        for pair in tuple(self.sessions):
            if pair.has_news:
                self.drain_events(pair)
        self.turned()

    # FWRL-3-02
    def take(self, policy: Policy, now: Instant, layers: Sequence[Layer] | None = None) -> None:
        """Go by `policy` from now on. layers: None: the same."""
        for pair in self.sessions:
            pair.screen.is_client_inside = self._is_inside(policy, pair.screen.party)
        self.firewall.take(policy, now, layers)
        self.spread()

    # FWRL-1-01
    def shut(self, refusal: Refusal, now: Instant) -> None:
        """Let nothing pass any more, for `refusal`."""
        self.firewall.stop(refusal, now)
        self.spread()


def party_at(host: str, port: int) -> Party:
    """Return who is at an address. Raises ValueError for what is none."""
    address = plain_address(ip_address(host))
    return Party(format_address(str(address), port), address)


def _first_address(host: str, port: int) -> str:
    """Return the first address of a name, blocking. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host} is no name of a host") from error
    return str(found[0][4][0])


def _nothing() -> None:
    """Nobody wants to know."""
