"""Live nodes of an MPLampS network: their sockets, timers, streams, and the line to the policeman.

One process may run many nodes. Each has UDP 3455 (RSVP) and UDP 6635 (labelled packets) at its own
address; nothing of it needs root. MPLampS section 9.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from typing import Final

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.lsp import LspStream
from powertcp.drivers.lsr_capture import CaptureFile
from powertcp.drivers.lsr_keys import LinkKeys
from powertcp.drivers.lsr_police import PoliceLine
from powertcp.drivers.lsr_port import MessageQueue, Port, open_port
from powertcp.drivers.poll import Poll
from powertcp.drivers.tracer import Tracer
from powertcp.drivers.wheel import Wheel
from powertcp.errors import BrokenInvariant, ConfigError
from powertcp.machine import Trace
from powertcp.mplamps.lfib import Drop
from powertcp.mplamps.linkqueue import LinkQueue
from powertcp.mplamps.node import (
    Node,
    NodeEvent,
    NodeSettings,
    PolicemanWanted,
    StreamCut,
    StreamTimedOut,
)
from powertcp.mplamps.rsvp import PORT as RSVP_PORT
from powertcp.mplamps.rsvp.settings import Settings
from powertcp.mplamps.tcp import Endpoint
from powertcp.mplamps.ted import Ted
from powertcp.mplamps.topology import NodeKind, Topology
from powertcp.units import NS_PER_MS, Duration, Instant

# MPLA-9-05: RFC 7510
MPLS_PORT: Final = 6635
# MPLA-4.7-05
HELLO_NS: Final[Duration] = 300 * NS_PER_MS
_DROPS: Final = {drop.value: drop for drop in Drop}
_log = logging.getLogger("lsr")


def live_settings(keys: LinkKeys | None = None) -> NodeSettings:
    """Return how a live node works: HELLO each 300 ms, signed if there are keys."""
    return NodeSettings(
        signalling=Settings(
            hello_ns=HELLO_NS,
            key=keys.key if keys is not None else None,
            keys=keys.secrets if keys is not None else {},
            # a node that begins again goes on after all it has ever said
            first_sequence=time.time_ns(),
        )
    )


def end_daemon(error: Exception) -> bool:
    """Raise what a node has raised as a bug: it must not go on deaf. P12 is for connections."""
    raise BrokenInvariant(f"a node cannot go on: {error!r}") from error


def _attentive_wheel() -> Wheel:
    return Wheel(judge=end_daemon)


def _attentive_poll() -> Poll:
    return Poll(judge=end_daemon)


@dataclass(slots=True)
class Carrier:
    """What the nodes of a process share. capture, tracer: None for none.

    keys: None where no neighbour signs.
    """

    topology: Topology
    nursery: trio.Nursery
    ted: Ted
    keys: LinkKeys | None = None
    capture: CaptureFile | None = None
    tracer: Tracer | None = None
    wheel: Wheel = field(default_factory=_attentive_wheel)
    poll: Poll = field(default_factory=_attentive_poll)

    async def run(self) -> None:
        """Serve sockets and deadlines until cancelled. Raises BrokenInvariant for a bug of a node."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.wheel.run)
                nursery.start_soon(self.poll.run)
        finally:
            self.poll.close()

    def trace(self, name: str) -> Trace | None:
        """Return the trace of a node, None for none."""
        return self.tracer.open("lsr", name) if self.tracer is not None else None


class LiveNode:
    """One node on its sockets. heed: told each event that is not the carrier's own business."""

    def __init__(
        self, name: str, carrier: Carrier, heed: Callable[["LiveNode", NodeEvent], None]
    ) -> None:
        """Begin at once. Raises ConfigError when its address is not ours to use, or taken."""
        topology = carrier.topology
        self.name = name
        self._carrier = carrier
        self._heed = heed
        self._streams: dict[Endpoint, LspStream] = {}
        # ends that a packet or a call has concerned since the last turn
        self._concerned: dict[Endpoint, None] = {}
        self._is_settling = self._is_stirred = False
        address = topology.node(name).address
        socks = _open_ports(name, address)
        self.node = Node(
            topology,
            name,
            carrier.ted,
            live_settings(carrier.keys),
            os.urandom,
            now_ns(),
            carrier.trace(name),
        )
        self._neighbours = {
            link.number: topology.node(link.other(name)).address for link in topology.links_of(name)
        }
        make = partial(self._make_port, socks)
        self.rsvp = make(0, RSVP_PORT, self.node.receive_rsvp, MessageQueue)
        self.packets = make(1, MPLS_PORT, self._receive_packet, LinkQueue)
        self._police: PoliceLine | None = None
        if self.node.pep is not None and (pdp := topology.pdp()) is not None:
            self._police = PoliceLine(self.node, pdp.address, self.settle)
            carrier.nursery.start_soon(self._police.run)
        for port in (self.rsvp, self.packets):
            carrier.poll.register(port)
        self.settle(now_ns())

    def _make_port(
        self,
        socks: Sequence[socket.socket],
        index: int,
        number: int,
        take: Callable[[int, bytes, Instant], object],
        queue: Callable[[], MessageQueue | LinkQueue],
    ) -> Port:
        capture = self._carrier.capture
        return Port(
            socks[index],
            {(str(place), number): link for link, place in self._neighbours.items()},
            take,
            self.turn,
            queue=queue,
            nursery=self._carrier.nursery,
            drop=self._drop,
            tap=None if capture is None else partial(self._tap, capture, number),
        )

    # ---- one turn ---------------------------------------------------------------------------

    def turn(self, now: Instant) -> None:
        """Send and tell what follows from what came.

        A stream is looked at only when a packet or a call has concerned its end since the last turn;
        of one that is cut or that time has closed the node tells.
        """
        self.settle(now)
        while self._concerned:
            end, _ = self._concerned.popitem()
            stream = self._streams.get(end)
            if stream is not None and not stream.turn():
                self._streams.pop(end, None)

    def settle(self, now: Instant) -> None:
        """Send and tell what a call of the node has made; call it after each."""
        self._is_stirred = True
        if self._is_settling:
            return
        self._is_settling = True
        try:
            while self._is_stirred:
                self._is_stirred = False
                self._send()
                while (event := self.node.next_event()) is not None:
                    self._take(event)
                    self._is_stirred = True
        finally:
            self._is_settling = False
        at = self.node.get_timer()
        if at is not None:
            self._carrier.wheel.arm(self, max(at, now))

    def _send(self) -> None:
        for octets, link in self.node.rsvp_to_send():
            self.rsvp.send(link, octets)
        for link, octets in self.node.packets_to_send():
            self.packets.send(link, octets)
        if self._police is not None:
            self._police.send()

    def _take(self, event: NodeEvent) -> None:
        match event:
            case PolicemanWanted(at=at) if self._police is not None:
                self._police.want(at)
            case StreamCut(end=end) | StreamTimedOut(end=end):
                stream = self._streams.pop(end, None)
                if stream is not None:
                    stream.turn()
                self._heed(self, event)
            case _:
                self._heed(self, event)

    def _receive_packet(self, link: int, octets: bytes, now: Instant) -> None:
        end = self.node.receive_packet(link, octets, now)
        if end is not None:
            self._concerned[end] = None

    def _drop(self, reason: str) -> None:
        if reason in _DROPS:
            # MPLA-3-04
            self.node.lfib.count(_DROPS[reason])

    # ---- streams ----------------------------------------------------------------------------

    @property
    def streams(self) -> int:
        """Streams of ends that are not over."""
        return len(self._streams)

    def stream(self, end: Endpoint) -> LspStream:
        """Return the stream of an end of this node; who asks for it closes it."""
        stream = self._streams.get(end)
        if stream is None:
            stream = self._streams[end] = LspStream(end, partial(self._flush_end, end))
            # it may be over already
            self._concerned[end] = None
        return stream

    def _flush_end(self, end: Endpoint) -> None:
        now = now_ns()
        self._concerned[end] = None
        self.node.flush_ends(now, end)
        self.settle(now)

    # ---- time -------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline of the node."""
        return self.node.get_timer()

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`."""
        try:
            self.node.handle_timer(now)
            self.turn(now)
        except OSError as error:
            # the host's no: what was due is due again
            _log.warning("%s: %s", self.name, error)
            self.rsvp.drops["timer"] += 1

    def flush(self) -> bool:
        """Do nothing: each turn sends what it has made."""
        return True

    # ---- what it tells ----------------------------------------------------------------------

    def drops(self) -> dict[str, int]:
        """Return what was dropped, by reason; of messages as "rsvp:reason"."""
        packets = {drop.value: count for drop, count in self.node.lfib.drops.items() if count}
        messages = self.node.rsvp.drops + self.rsvp.drops
        for neighbour in self.node.rsvp.neighbours.values():
            messages += neighbour.drops
        return packets | {f"rsvp:{reason}": count for reason, count in messages.items()}

    def neighbours(self) -> dict[str, bool]:
        """Return for each link whether its other end is alive, as far as is known."""
        link = self._carrier.topology.link
        found = self.node.rsvp.neighbours
        return {link(number).name: one.is_alive for number, one in found.items()}

    # ---- capture and end --------------------------------------------------------------------

    def _tap(self, capture: CaptureFile, port: int, link: int, went: bool, octets: bytes) -> None:
        other = self._neighbours[link]
        if went:
            capture.take(link, self.node.address, other, port, octets)
        elif not capture.is_here(other):
            capture.take(link, other, self.node.address, port, octets)

    def close(self) -> None:
        """Close the sockets; what the neighbours keep of us is stale, not gone."""
        self._carrier.wheel.disarm(self)
        if self._police is not None:
            self._police.close()
        for stream in tuple(self._streams.values()):
            stream.abort()
        self.rsvp.close()
        self.packets.close()


def _open_ports(name: str, address: IPv4Address) -> list[socket.socket]:
    """Return the sockets of a node, bound to its own address. Raises ConfigError."""
    opened: list[socket.socket] = []
    try:
        for port in (RSVP_PORT, MPLS_PORT):
            opened.append(open_port(str(address), port))
    except OSError as error:
        for sock in opened:
            sock.close()
        said = f"cannot have {address}, UDP {port}: {error.strerror}"
        raise ConfigError("topology", name, said) from error
    return opened


def names_to_run(topology: Topology, names: Sequence[str], *, is_all: bool) -> list[str]:
    """Return the nodes that a process runs: those named, or all sources and LSRs.

    Raises ConfigError for a name that is none, a lamp or a PDP: these are commands of their own.
    """
    wanted = list(names)
    if is_all:
        kinds = (NodeKind.ES, NodeKind.TRANSFORMER, NodeKind.SWITCH)
        wanted += [node.name for node in topology.of_kind(*kinds)]
    for name in wanted:
        if name not in topology:
            said = f'no node of topology {topology.name} is called "{name}"'
            raise ConfigError("command line", "--node", said)
        kind = topology.node(name).kind
        if kind is NodeKind.LAMP:
            said = f"{name} is a lamp: powertcp mplamps lamp run {name}"
            raise ConfigError("command line", "--node", said)
        if kind is NodeKind.PDP:
            raise ConfigError("command line", "--node", f"{name} is the pdp: powertcp mplamps pdp")
    return list(dict.fromkeys(wanted))
