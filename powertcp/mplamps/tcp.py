"""A minimal TCP endpoint inside a circuit: packets and `now` in, packets and octets out.

What is not in order is dropped and asked for again (go-back-N), each segment is acknowledged, and
nothing slows a sender but the window: the circuit has reserved what it needs. MPLampS section 9,
RFC 9293 and RFC 6298.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address
from typing import Final

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Event
from powertcp.mplamps.packet import DEFAULT_MSS, MSS, WINDOW, Packet
from powertcp.profile import PowerProfile
from powertcp.registry import DEFAULT_PORT, Flag, Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant
from powertcp.wire.buffer import Buffer

# RFC 6298, section 2.1; the bounds are those of MPLA-9-01
FIRST_RTO_NS: Final[Duration] = NS_PER_S
MIN_RTO_NS: Final[Duration] = 200 * NS_PER_MS
MAX_RTO_NS: Final[Duration] = 4 * NS_PER_S
MAX_TRIES: Final = 8
DUPLICATES: Final = 3
# the time in which the peer may send its FIN once more
LINGER_NS: Final[Duration] = 2 * MAX_RTO_NS
# octets that wait for their acknowledgment: two windows, so that a sender never runs dry
MAX_BACKLOG: Final = 2 * WINDOW
_U32 = 0xFFFF_FFFF
_HALF = 1 << 31
_SYN, _FIN, _RST, _PSH, _ACK = (
    int(flag) for flag in (Flag.SYN, Flag.FIN, Flag.RST, Flag.PSH, Flag.ACK)
)


class State(Enum):
    """The states of RFC 9293, section 3.3.2."""

    CLOSED = auto()
    LISTEN = auto()
    SYN_SENT = auto()
    SYN_RECEIVED = auto()
    ESTABLISHED = auto()
    FIN_WAIT_1 = auto()
    FIN_WAIT_2 = auto()
    CLOSE_WAIT = auto()
    CLOSING = auto()
    LAST_ACK = auto()
    TIME_WAIT = auto()


class Step(Enum):
    """What moves an endpoint from state to state."""

    CLOSE = auto()
    FIN = auto()
    FIN_ACKNOWLEDGED = auto()


# a pair that is not here leaves the state as it is
STEPS: Final = {
    (State.ESTABLISHED, Step.CLOSE): State.FIN_WAIT_1,
    (State.CLOSE_WAIT, Step.CLOSE): State.LAST_ACK,
    (State.ESTABLISHED, Step.FIN): State.CLOSE_WAIT,
    (State.FIN_WAIT_1, Step.FIN): State.CLOSING,
    (State.FIN_WAIT_2, Step.FIN): State.TIME_WAIT,
    (State.FIN_WAIT_1, Step.FIN_ACKNOWLEDGED): State.FIN_WAIT_2,
    (State.CLOSING, Step.FIN_ACKNOWLEDGED): State.TIME_WAIT,
    (State.LAST_ACK, Step.FIN_ACKNOWLEDGED): State.CLOSED,
}
_UNOPENED = (State.CLOSED, State.LISTEN, State.SYN_SENT)
# RFC 9293, section 3.10.5: no reset
_CLOSED_BY_BOTH = (State.CLOSING, State.LAST_ACK, State.TIME_WAIT)
_MAY_SEND = (State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED, State.CLOSE_WAIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Event):
    """Both ends have spoken. request: what the SYN of the peer asked for, None if nothing."""

    request: PowerProfile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFinished(Event):
    """The peer sends no more octets; what it sent before can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Event):
    """The last event. refusal: None when both sides have closed, else 507 or a reset (506)."""

    refusal: Refusal | None


@dataclass(slots=True)
class _Piece:
    """What has been sent and is not acknowledged."""

    seq: int
    end: int
    flags: int
    payload: bytes
    sent_at: Instant
    is_timed: bool = True


def _after(one: int, other: int) -> int:
    """Return how far sequence number `one` is after `other`, negative if it is before."""
    return ((one - other + _HALF) & _U32) - _HALF


class Endpoint:
    """One end of one connection. Its owner moves packets and time, and reads in time.

    After each call take `packets_to_send`, `next_event` until None, `read`, and `get_timer`. Octets
    that are not read are kept up to a window; what comes then is dropped, and a peer that has sent
    it 8 times gives up.
    """

    __slots__ = (
        "_acked_at",
        "_backlog",
        "_backoff",
        "_cuts",
        "_deadline",
        "_duplicates",
        "_events",
        "_flight",
        "_has_fin",
        "_mss",
        "_next",
        "_out",
        "_patience_ns",
        "_peer_window",
        "_received",
        "_recover",
        "_request",
        "_rto_ns",
        "_rttvar_ns",
        "_sent",
        "_srtt_ns",
        "_tries",
        "_unacked",
        "_unread",
        "_waiting",
        "local",
        "local_port",
        "peer",
        "peer_port",
        "state",
    )

    def __init__(self, local: IPv4Address, local_port: int, first_seq: int) -> None:
        """Take the own address, and the first sequence number, 32 bits of entropy."""
        self.local = local
        self.local_port = local_port
        self.peer = IPv4Address(0)
        self.peer_port = 0
        self.state = State.CLOSED
        self._unacked = self._next = self._recover = first_seq & _U32
        self._received = 0
        self._request: PowerProfile | None = None
        self._mss = DEFAULT_MSS
        self._peer_window = WINDOW
        # octets not yet sent, how many were, and before which of all a packet begins
        self._waiting = bytearray()
        self._sent = 0
        self._cuts: deque[int] = deque()
        self._flight: deque[_Piece] = deque()
        self._backlog = 0
        self._has_fin = False
        self._unread = bytearray()
        self._out: list[bytes] = []
        self._events: deque[Event] = deque()
        self._rto_ns = FIRST_RTO_NS
        self._srtt_ns = self._rttvar_ns = 0
        self._backoff = self._tries = self._duplicates = 0
        self._patience_ns = 0
        self._acked_at = 0
        self._deadline: Instant | None = None

    # --- verbs --------------------------------------------------------------------------------

    def connect(
        self, peer: IPv4Address, request: PowerProfile, now: Instant, port: int = DEFAULT_PORT
    ) -> None:
        """Open toward `peer`; the SYN carries `request`. Raises LocalProtocolError if opened."""
        self._expect_new()
        self.peer, self.peer_port = peer, port
        self._request = request
        self.state = State.SYN_SENT
        self._put(_SYN, b"", now)

    def listen(self) -> None:
        """Wait for the SYN of whoever comes first. Raises LocalProtocolError if opened."""
        self._expect_new()
        # MPLA-3-05
        self.state = State.LISTEN

    def send(self, octets: Buffer, now: Instant, *, starts_packet: bool = False) -> None:
        """Queue octets, at most `room` of them. starts_packet: the first one begins a packet.

        Raises LocalProtocolError, state unchanged, for more, and when this end has closed.
        """
        if not self.may_send:
            raise LocalProtocolError(f"nothing can be sent in {self.state.name}")
        if len(octets) > self.room:
            raise LocalProtocolError(f"{len(octets):,} octets, room for {self.room:,}")
        # MPLA-9-03
        if starts_packet and octets:
            self._cuts.append(self._sent + len(self._waiting))
        self._waiting += octets
        self._backlog += len(octets)
        self._flush(now)

    def close(self, now: Instant) -> None:
        """Send FIN after what is queued; octets of the peer still come. Does nothing twice.

        An end that has not opened, and has nothing to send, ends at once.
        """
        is_idle = self.state is State.SYN_SENT and not self._waiting
        if is_idle or self.state is State.LISTEN:
            self._end(None)
        elif self.may_send:
            self._has_fin = True
            self._flush(now)

    def abort(self) -> None:
        """Send RST, unless both sides have closed, and forget everything.

        Ended is not told to who does it.
        """
        if self.state not in _UNOPENED and self.state not in _CLOSED_BY_BOTH:
            self._reply(_RST | _ACK, self._next)
        self._forget()
        self.state = State.CLOSED

    def read(self, limit: int = WINDOW) -> bytes:
        """Return octets of the peer, at most `limit`, in order; b"" if there are none yet."""
        octets = bytes(self._unread[:limit])
        del self._unread[:limit]
        return octets

    @property
    def may_send(self) -> bool:
        """Whether `send` takes octets: this end has begun to open, and has not closed."""
        return self.state in _MAY_SEND and not self._has_fin

    @property
    def unread(self) -> int:
        """Octets that `read` would return."""
        return len(self._unread)

    @property
    def room(self) -> int:
        """Octets that `send` takes now."""
        return MAX_BACKLOG - self._backlog

    @property
    def backlog(self) -> int:
        """Octets queued that the peer has not acknowledged."""
        return self._backlog

    # --- the machine --------------------------------------------------------------------------

    def receive_packet(self, octets: Buffer, now: Instant) -> bool:
        """Take one IPv4 packet. Returns False for one that is malformed or of another connection."""
        try:
            packet = Packet.from_wire(octets)
        except DecodeError:
            return False
        return self.receive(packet, now)

    def receive(self, packet: Packet, now: Instant) -> bool:
        """Take one packet that has been decoded; see `receive_packet`."""
        if (packet.destination, packet.destination_port) != (self.local, self.local_port):
            return False
        if self.state is State.LISTEN:
            return self._accept(packet, now)
        if (packet.source, packet.source_port) != (self.peer, self.peer_port):
            return False
        if self.state is State.CLOSED:
            return False
        if self.state is State.SYN_SENT:
            self._receive_answer(packet, now)
        else:
            self._receive_open(packet, now)
        return True

    def gives_way_to(self, packet: Packet) -> bool:
        """Whether this connection is over for its peer too, who asks for a new one.

        RFC 9293, section 3.6.1: a SYN beyond all that has come ends TIME-WAIT.
        """
        is_syn = packet.flags & (_SYN | _ACK | _RST) == _SYN
        is_over = self.state is State.TIME_WAIT
        return is_over and is_syn and _after(packet.seq, self._received) > 0

    def packets_to_send(self) -> list[bytes]:
        """Drain packets for the peer, in the order in which they are to go."""
        out, self._out = self._out, []
        return out

    def next_event(self) -> Event | None:
        """Drain one event; None when there are no more."""
        return self._events.popleft() if self._events else None

    def get_timer(self) -> Instant | None:
        """Return when something is sent again, or forgotten; None when nothing waits."""
        return self._deadline

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`; early calls do nothing."""
        if self._deadline is None or now < self._deadline:
            return
        if self.state is State.TIME_WAIT:
            self._forget()
            self.state = State.CLOSED
            return
        self._patience_ns += self._timeout_ns
        # MPLA-9-01
        if self._tries == MAX_TRIES:
            waited_ms = (now - self._acked_at) // NS_PER_MS
            limit_ms = self._patience_ns // NS_PER_MS
            self._end(Refusal(Reason.TIMEOUT, waited_ms, limit_ms, requirement="MPLA-9-01"))
            return
        self._tries += 1
        self._backoff += 1
        self._resend(now)

    # --- opening ------------------------------------------------------------------------------

    def _expect_new(self) -> None:
        if self.state is not State.CLOSED or self._events or self.peer_port:
            raise LocalProtocolError(f"an endpoint opens once, this one is {self.state.name}")

    def _accept(self, packet: Packet, now: Instant) -> bool:
        """Answer the SYN that this end listens for."""
        if packet.flags & (_SYN | _ACK | _RST | _FIN) != _SYN:
            return False
        self.peer, self.peer_port = packet.source, packet.source_port
        self._learn(packet)
        self.state = State.SYN_RECEIVED
        self._put(_SYN | _ACK, b"", now)
        return True

    def _learn(self, packet: Packet) -> None:
        """Take from a SYN what it says of the peer."""
        self._received = (packet.seq + 1) & _U32
        self._mss = max(1, min(MSS, packet.mss or DEFAULT_MSS))
        self._peer_window = packet.window
        if self.state is State.LISTEN:
            self._request = packet.request

    def _receive_answer(self, packet: Packet, now: Instant) -> None:
        """Take what comes before the SYN+ACK: that, or a reset."""
        is_ours = packet.flags & _ACK and packet.ack == self._next
        if packet.flags & _RST:
            if is_ours:
                self._end(Refusal(Reason.STATE, text="the peer reset the connection"))
        elif packet.flags & _ACK and not is_ours:
            self._reply(_RST, packet.ack)
        elif packet.flags & _SYN and is_ours:
            self._learn(packet)
            self.state = State.ESTABLISHED
            self._acknowledge(packet, now)
            self._events.append(Opened(request=None))
            self._reply(_ACK, self._next)
            self._flush(now)

    # --- receiving ----------------------------------------------------------------------------

    def _receive_open(self, packet: Packet, now: Instant) -> None:
        """RFC 9293, section 3.10.7.4: the segment of an open connection."""
        flags = packet.flags
        offset = _after(packet.seq, self._received)
        if flags & _RST:
            # only the very next number resets: RFC 5961, section 3
            if offset == 0:
                self._end(Refusal(Reason.STATE, text="the peer reset the connection"))
            elif 0 < offset < WINDOW:
                self._reply(_ACK, self._next)
            return
        if flags & _SYN:
            # once more the SYN, or its answer: the peer has not heard ours
            if self.state is State.SYN_RECEIVED:
                self._resend(now)
            else:
                self._reply(_ACK, self._next)
            return
        if not flags & _ACK or offset >= WINDOW or offset < -WINDOW:
            self._reply(_ACK, self._next)
            return
        if self.state is State.SYN_RECEIVED:
            if packet.ack != self._next:
                self._reply(_RST, packet.ack)
                return
            self.state = State.ESTABLISHED
            self._events.append(Opened(request=self._request))
        if not self._acknowledge(packet, now):
            return
        if packet.length:
            self._take(packet, -offset, now)
        self._flush(now)

    def _take(self, packet: Packet, known: int, now: Instant) -> None:
        """Take the octets and the FIN of a packet whose first `known` numbers were taken before."""
        room = WINDOW - len(self._unread)
        fresh = packet.payload[known:] if known >= 0 else b""
        # go-back-N: what is not next, or has no room, is as lost
        may_take = (self.state, Step.FIN) in STEPS and len(fresh) <= room
        if may_take and 0 <= known < packet.length:
            self._unread += fresh
            self._received = (self._received + packet.length - known) & _U32
            if packet.flags & _FIN:
                self._events.append(PeerFinished())
                self._step(Step.FIN, now)
        # MPLA-9-01
        self._reply(_ACK, self._next)

    def _acknowledge(self, packet: Packet, now: Instant) -> bool:
        """Take the acknowledgment and the window of a packet; False if it ends the matter."""
        ahead = _after(packet.ack, self._unacked)
        if _after(packet.ack, self._next) > 0:
            self._reply(_ACK, self._next)
            return False
        if ahead < 0:
            return True
        is_same = packet.window == self._peer_window
        self._peer_window = packet.window
        if ahead:
            self._progress(packet.ack, now)
        elif self._flight and not packet.length and is_same:
            self._duplicates += 1
            # MPLA-9-01
            if self._duplicates == DUPLICATES and _after(self._unacked, self._recover) >= 0:
                self._recover = self._next
                self._resend(now)
        return self.state is not State.CLOSED

    def _progress(self, ack: int, now: Instant) -> None:
        """Forget what the peer has, and measure how long it took."""
        self._unacked = ack
        self._duplicates = self._tries = self._backoff = self._patience_ns = 0
        self._acked_at = now
        has_fin = False
        while self._flight and _after(ack, self._flight[0].end) >= 0:
            piece = self._flight.popleft()
            self._backlog -= len(piece.payload)
            has_fin = bool(piece.flags & _FIN)
            if piece.is_timed and piece.end == ack:
                self._measure(now - piece.sent_at)
        self._deadline = now + self._timeout_ns if self._flight else None
        if has_fin:
            self._step(Step.FIN_ACKNOWLEDGED, now)

    def _measure(self, rtt_ns: Duration) -> None:
        """RFC 6298, sections 2.2 and 2.3."""
        if self._srtt_ns == 0:
            self._srtt_ns, self._rttvar_ns = rtt_ns, rtt_ns // 2
        else:
            self._rttvar_ns += (abs(self._srtt_ns - rtt_ns) - self._rttvar_ns) // 4
            self._srtt_ns += (rtt_ns - self._srtt_ns) // 8
        self._rto_ns = self._srtt_ns + 4 * self._rttvar_ns

    @property
    def _timeout_ns(self) -> Duration:
        # MPLA-9-01
        return min(max(self._rto_ns, MIN_RTO_NS) << self._backoff, MAX_RTO_NS)

    def _step(self, step: Step, now: Instant) -> None:
        """Move by the table; the end of the last FIN is the end of the connection."""
        self.state = STEPS.get((self.state, step), self.state)
        if self.state is State.TIME_WAIT:
            self._events.append(Ended(refusal=None))
            self._deadline = now + LINGER_NS
        elif self.state is State.CLOSED:
            self._end(None)

    # --- sending ------------------------------------------------------------------------------

    def _flush(self, now: Instant) -> None:
        """Send what waits and fits the window, then the FIN."""
        if self.state in _UNOPENED or self.state is State.SYN_RECEIVED:
            return
        while self._waiting:
            left = self._peer_window - _after(self._next, self._unacked)
            size = min(len(self._waiting), self._mss)
            while self._cuts and self._cuts[0] <= self._sent:
                self._cuts.popleft()
            # MPLA-9-03
            if self._cuts:
                size = min(size, self._cuts[0] - self._sent)
            if size > left:
                # a window that stays shut is tried with one packet: RFC 9293, section 3.8.6.1
                if self._flight:
                    return
                size = min(size, max(left, 1))
            payload = bytes(self._waiting[:size])
            del self._waiting[:size]
            self._sent += size
            self._put(_ACK | (0 if self._waiting else _PSH), payload, now)
        if self._has_fin and (self.state, Step.CLOSE) in STEPS:
            self._put(_FIN | _ACK, b"", now)
            self._step(Step.CLOSE, now)

    def _put(self, flags: int, payload: bytes, now: Instant) -> None:
        """Send a piece for the first time, and keep it until it is acknowledged."""
        length = len(payload) + bool(flags & (_SYN | _FIN))
        piece = _Piece(self._next, (self._next + length) & _U32, flags, payload, now)
        self._next = piece.end
        if not self._flight:
            self._acked_at = now
            self._deadline = now + self._timeout_ns
        self._flight.append(piece)
        self._emit(piece)

    def _resend(self, now: Instant) -> None:
        """Go back to the first octet that is lost, and send from there again."""
        # MPLA-9-01
        for piece in self._flight:
            piece.is_timed = False
            self._emit(piece)
        self._deadline = now + self._timeout_ns

    def _emit(self, piece: _Piece) -> None:
        self._reply(piece.flags, piece.seq, piece.payload)

    def _reply(self, flags: int, seq: int, payload: bytes = b"") -> None:
        """Make one packet."""
        is_syn = bool(flags & _SYN)
        packet = Packet(
            source=self.local,
            destination=self.peer,
            source_port=self.local_port,
            destination_port=self.peer_port,
            seq=seq,
            ack=self._received if flags & _ACK else 0,
            flags=flags,
            # MPLA-9-02
            mss=MSS if is_syn else None,
            request=self._request if is_syn and not flags & _ACK else None,
            payload=payload,
        )
        self._out.append(packet.to_wire())

    def _end(self, refusal: Refusal | None) -> None:
        """Be closed, and say why."""
        if self.state is not State.TIME_WAIT:
            self._events.append(Ended(refusal=refusal))
        self.state = State.CLOSED
        self._forget()

    def _forget(self) -> None:
        """Drop what is queued, but what is to be read."""
        self._waiting.clear()
        self._cuts.clear()
        self._flight.clear()
        self._backlog = 0
        self._deadline = None
