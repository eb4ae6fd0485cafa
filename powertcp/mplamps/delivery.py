"""The ends of the inner connections of a lamp or a source, and the circuit that each goes by.

A lamp sends under the neutral of the circuit it has chosen, a source under the volts of the circuit
on which the newest packet came. MPLampS sections 3, 4.9, 4.10 and 9.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, NamedTuple, TypeAlias

from powertcp.errors import LocalProtocolError
from powertcp.machine import Entropy, Event
from powertcp.mplamps.ends import Ends
from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.rsvp.events import CircuitId
from powertcp.mplamps.rsvp.objects import Session
from powertcp.mplamps.tcp import Endpoint, State
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_S, Duration, Instant

# how long an end waits for another circuit of its session when the last one is gone
ORPHAN_NS: Final[Duration] = 2 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened(Event):
    """A lamp has opened an inner connection to this source; its octets are those of `end`."""

    end: Endpoint
    lamp: IPv4Address
    circuit: CircuitId
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCut(Event):
    """An inner connection has no circuit any more, or another has taken it; the end was aborted."""

    end: Endpoint
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTimedOut(Event):
    """An inner connection has closed because it has waited in vain, or long enough."""

    end: Endpoint
    at: Instant


StreamEvent: TypeAlias = StreamOpened | StreamCut | StreamTimedOut


class _Way(NamedTuple):
    """A circuit by which packets leave: its link, and the stack that they get."""

    circuit: CircuitId
    link: int
    stack: bytes


class _Stream:
    """An end, the session it belongs to, and the way of its packets."""

    __slots__ = ("end", "orphan_at", "session", "way")

    def __init__(self, end: Endpoint, session: Session, way: _Way) -> None:
        self.end = end
        self.session = session
        self.way: _Way | None = way
        self.orphan_at: Instant | None = None


class Delivery:
    """What is delivered to a node's own ends, and what they send.

    strays: packets from another address than that of the lamp or source of their circuit.
    """

    def __init__(self, local: IPv4Address, entropy: Entropy, *, is_source: bool) -> None:
        """Take the own address."""
        self.ends = Ends(local, entropy, is_source=is_source)
        self.strays = 0
        self._is_source = is_source
        self._ways: dict[CircuitId, _Way] = {}
        # of the circuits of a shared session: the newest of each lamp
        self._shared: dict[tuple[Session, bytes], CircuitId] = {}
        self._streams: dict[Endpoint, _Stream] = {}
        self._of: dict[Session, _Stream] = {}
        self._out: list[tuple[int, bytes]] = []
        self._events: list[StreamEvent] = []
        # not after the first deadline of all ends
        self._timer: Instant | None = None

    # ---- circuits ---------------------------------------------------------------------------

    def add_way(self, circuit: CircuitId, link: int, labels: tuple[int, int], tc: int) -> None:
        """Let packets leave by a circuit. labels: of the volts or the neutral, and of the flow."""
        # MPLA-2.2-03, MPLA-2.2-04
        way = self._ways[circuit] = _Way(circuit, link, stack_octets(labels, tc))
        if circuit.session.is_shared:
            self._shared[circuit.session, circuit.sender.lamp.packed] = circuit
        stream = self._of.get(_of_lamp(circuit))
        if stream is not None and (stream.way is None or stream.way.circuit == circuit):
            stream.way, stream.orphan_at = way, None

    def remove_way(self, circuit: CircuitId, now: Instant) -> None:
        """Let no packet leave by a circuit; an end that goes by it waits 2 s for another one."""
        if self._ways.pop(circuit, None) is None:
            return
        key = circuit.session, circuit.sender.lamp.packed
        if self._shared.get(key) == circuit:
            del self._shared[key]
        session = _of_lamp(circuit)
        stream = self._of.get(session)
        if stream is None or stream.way is None or stream.way.circuit != circuit:
            return
        stream.way = next(
            (way for one, way in self._ways.items() if _of_lamp(one) == session), None
        )
        if stream.way is None:
            stream.orphan_at = now + ORPHAN_NS
            self._wake(stream.orphan_at)

    def use(self, circuit: CircuitId) -> None:
        """Let the end of a session go by this circuit of it. MPLA-4.9-02."""
        stream = self._of.get(_of_lamp(circuit))
        if stream is not None and circuit in self._ways:
            # MPLA-4.9-02
            stream.way, stream.orphan_at = self._ways[circuit], None

    # ---- ends -------------------------------------------------------------------------------

    def connect(self, circuit: CircuitId, request: PowerProfile, now: Instant) -> Endpoint:
        """Open the inner connection of a circuit of this lamp; then `flush`.

        Raises LocalProtocolError if the circuit is not there or has one, PowerRefused 508 beyond
        1,024 connections of this lamp. MPLA-9-04.
        """
        way = self._ways.get(circuit)
        before = self._of.get(_of_lamp(circuit))
        # it has had all of its peer, and only waits for what may come late
        if before is not None and before.end.state is State.TIME_WAIT:
            self._cut(before, now)
        # MPLA-9-04
        if way is None or self.has_stream(circuit):
            raise LocalProtocolError("a circuit that is signalled carries one connection")
        end = self.ends.connect(circuit.session.es, request, now)
        self._join(end, circuit, way)
        return end

    def has_stream(self, circuit: CircuitId) -> bool:
        """Whether the session of a circuit has an inner connection that is not closed."""
        stream = self._of.get(_of_lamp(circuit))
        return stream is not None and stream.end.state is not State.CLOSED

    def end_stream(self, session: Session, lamp: IPv4Address, now: Instant) -> None:
        """Cut the inner connection of a lamp in a session that has no circuit, and gets none."""
        stream = self._of.get(session._replace(lamp=lamp))
        if stream is not None and stream.way is None:
            self._cut(stream, now)

    def session_of(self, end: Endpoint) -> Session | None:
        """Return the session of an end, None if it has none any more."""
        stream = self._streams.get(end)
        return stream.session if stream is not None else None

    def receive(self, circuit: CircuitId, packet: bytes, now: Instant) -> Endpoint | None:
        """Take a packet that was delivered from a circuit; return the end that has taken it.

        circuit: as the label says, of a shared session without its lamp.
        """
        way = self._find_way(circuit, packet)
        if way is None:
            self.strays += 1
            return None
        end = self.ends.receive_packet(packet, now)
        if end is None:
            self._out += [(way.link, way.stack + octets) for octets in self.ends.packets_to_send()]
            return None
        stream = self._streams.get(end)
        if stream is None:
            stream = self._accept(end, way, now)
        elif self._is_source and stream.way is not way:
            # MPLA-4.9-02
            stream.way, stream.orphan_at = way, None
        self._flush(stream)
        return end

    def flush(self, end: Endpoint | None = None) -> None:
        """Take the packets of an end, or of all; call it after each call to an end."""
        if end is None:
            for stream in tuple(self._streams.values()):
                self._flush(stream)
        elif end in self._streams:
            self._flush(self._streams[end])

    def packets_to_send(self) -> list[tuple[int, bytes]]:
        """Drain packets with their stacks, each with the number of its link."""
        out, self._out = self._out, []
        return out

    def next_event(self) -> StreamEvent | None:
        """Drain one event."""
        return self._events.pop(0) if self._events else None

    def get_timer(self) -> Instant | None:
        """Return a time at which something may be due, or None."""
        return self._timer

    def handle_timer(self, now: Instant) -> None:
        """Do what is due; early calls do nothing."""
        if self._timer is None or now < self._timer:
            return
        for stream in tuple(self._streams.values()):
            if stream.orphan_at is not None and now >= stream.orphan_at:
                self._cut(stream, now)
        self.ends.handle_timer(now)
        self._timer = None
        for stream in tuple(self._streams.values()):
            if stream.end.state is State.CLOSED:
                self._events.append(StreamTimedOut(end=stream.end, at=now))
            self._flush(stream)
            self._wake(stream.orphan_at)

    # ---- inside -----------------------------------------------------------------------------

    def _find_way(self, circuit: CircuitId, packet: bytes) -> _Way | None:
        """Return the way back of a packet, None if it is not from the other end of its circuit."""
        sender = packet[12:16]
        if circuit.session.is_shared and self._is_source:
            named = self._shared.get((circuit.session, sender))
            return self._ways[named] if named is not None else None
        other = circuit.sender.lamp if self._is_source else circuit.session.es
        # the address of another lamp would have its answers
        return self._ways.get(circuit) if sender == other.packed else None

    def _accept(self, end: Endpoint, way: _Way, now: Instant) -> _Stream:
        """Take a connection of a lamp; the one that its session had before is over."""
        before = self._of.get(_of_lamp(way.circuit))
        # MPLA-9-04
        if before is not None:
            self._cut(before, now)
        stream = self._join(end, way.circuit, way)
        lamp = way.circuit.sender.lamp
        self._events.append(StreamOpened(end=end, lamp=lamp, circuit=way.circuit, at=now))
        return stream

    def _join(self, end: Endpoint, circuit: CircuitId, way: _Way) -> _Stream:
        session = _of_lamp(circuit)
        stream = self._streams[end] = self._of[session] = _Stream(end, session, way)
        self._wake(end.get_timer())
        return stream

    def _cut(self, stream: _Stream, now: Instant) -> None:
        if stream.end.state is not State.CLOSED:
            stream.end.abort()
            self._events.append(StreamCut(end=stream.end, at=now))
        self._flush(stream)

    def _forget(self, stream: _Stream) -> None:
        self._streams.pop(stream.end, None)
        self.ends.forget(stream.end)
        if self._of.get(stream.session) is stream:
            del self._of[stream.session]

    def _flush(self, stream: _Stream) -> None:
        packets = stream.end.packets_to_send()
        way = stream.way
        # what has no way is as lost: it is sent again
        if way is not None:
            self._out += [(way.link, way.stack + packet) for packet in packets]
        if stream.end.state is State.CLOSED:
            self._forget(stream)
        else:
            self._wake(stream.end.get_timer())

    def _wake(self, at: Instant | None) -> None:
        if at is not None and (self._timer is None or at < self._timer):
            self._timer = at


def _of_lamp(circuit: CircuitId) -> Session:
    """Return the session of a circuit, of a shared one that part which is the lamp's."""
    session = circuit.session
    return session._replace(lamp=circuit.sender.lamp) if session.is_shared else session
