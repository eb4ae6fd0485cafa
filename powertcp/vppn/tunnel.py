"""A machine of plain segments behind a seal, or in clear where the peer begins so.

It is what a wire carries: sealed octets outside, plain ones inside. A sealing fault ends the
connection as a cut does, so that tickets stay good. VPPN sections 2.2 to 4.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Protocol

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Buffer, Event, StreamMachine
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import Instant
from powertcp.vppn.config import Identity
from powertcp.vppn.record import OTHER_MODE
from powertcp.vppn.session import Session
from powertcp.wire.frames import MAX_MSP, RawSegment, Splitter, decode_segment
from powertcp.wire.segments import Control

_SEALED: Final = int(SegmentType.SEALED)
# of a header: what says whether a segment is sealed
_TYPE_AT: Final = 4
# what is sealed at once: the peer's pace decides in which order the rest goes
SEND_MAX: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelOpened(Event):
    """The peer is there and has proven who it is. binding: names this channel and no other."""

    identity: Identity
    binding: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelRekeyed(Event):
    """An epoch is agreed, and the peer has proven again who it is."""

    identity: Identity
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelBroken(Event):
    """A sealing fault ends the connection."""

    refusal: Refusal


class Inner(StreamMachine[Event], Protocol):
    """What is carried."""

    party: bytes

    @property
    def peer_msp(self) -> int:
        """The greatest payload that the peer takes."""

    @property
    def queued(self) -> int:
        """Octets that data_to_send has not yet given out."""

    @property
    def is_terminated(self) -> bool:
        """Whether it is over; octets may remain to be sent."""

    def cut(self, refusal: Refusal | None, now: Instant) -> None:
        """End as at the end of the stream, for `refusal`."""


# nobody has proven them: for people only
_HINTS: Final[Mapping[int, str]] = {
    Reason.DECRYPT: "; another key than the expected one, or a pattern that it does not take",
    Reason.STATE: "; it does not seal",
}


class _Mode(Enum):
    # nothing was said or heard
    OPEN = auto()
    CLEAR = auto()
    SEALED = auto()
    # a stranger of a stealthy responder: nothing is said, nothing is heard
    DEAF = auto()
    OVER = auto()


class Tunnel:
    """`inner` through `session`; a StreamMachine for a wire.

    may_be_clear: whether a responder carries a connection that begins in clear.
    """

    __slots__ = (
        "_events",
        "_fault",
        "_head",
        "_inner",
        "_is_initiator",
        "_may_be_clear",
        "_mode",
        "_now",
        "_splitter",
        "session",
    )

    def __init__(
        self,
        inner: Inner,
        session: Session,
        now: Instant,
        *,
        is_initiator: bool,
        may_be_clear: bool = False,
    ) -> None:
        self._inner, self.session = inner, session
        self._is_initiator = is_initiator
        # VPPN-2.2-08
        self._may_be_clear = may_be_clear and not session.config.stealth
        self._mode = _Mode.SEALED if is_initiator else _Mode.OPEN
        self._now = now
        self._splitter = Splitter(MAX_MSP)
        self._events: deque[Event] = deque()
        # met while sealing; the connection ends at the next wake-up, which is due at once
        self._fault: DecodeError | None = None
        # the first octets, until they say whether the connection is sealed
        self._head = b""

    @property
    def is_sealed(self) -> bool:
        """Whether the peer is behind a seal."""
        return self._mode is _Mode.SEALED

    @property
    def identity(self) -> Identity | None:
        """Who the peer has proven to be, None as long as it has not."""
        return self.session.identity

    # --- the machine contract ----------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Octets that data_to_send has not yet given out, or will make."""
        if self._mode is _Mode.DEAF:
            return 0
        return self.session.queued + self._inner.queued + self.session.owes

    def start(self, now: Instant) -> None:
        """The TCP connection stands."""
        self._tick(now)
        if not self._is_initiator:
            self.session.start(now)

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the peer; never raises on their content."""
        self._tick(now)
        self._break_late(now)
        mode = self._mode
        if mode is _Mode.CLEAR:
            self._inner.receive_data(data, now)
            return
        if mode in (_Mode.DEAF, _Mode.OVER) or self._inner.is_terminated:
            return
        if mode is _Mode.OPEN:
            data = self._head + bytes(data)
            self._head = b""
            if len(data) <= _TYPE_AT:
                self._head = data
                return
            self._decide(data, now)
            if self._mode is not _Mode.SEALED:
                return
        for raw in self._splitter.receive(data):
            if not self._take(raw, now) or self._inner.is_terminated:
                return
        if self._splitter.error is not None:
            self._break(self._splitter.error, now)

    def receive_eof(self, now: Instant) -> None:
        """Take the end of the stream."""
        self._tick(now)
        self._mode = _Mode.OVER if self._mode is not _Mode.CLEAR else _Mode.CLEAR
        self.session.leave()
        self._inner.receive_eof(now)

    def data_to_send(self) -> bytes:
        """Drain whole segments: sealed ones, unless the connection is in clear."""
        inner, session = self._inner, self.session
        if self._mode is _Mode.CLEAR or (self._mode is _Mode.OPEN and self._may_be_clear):
            return inner.data_to_send()
        if self._mode is _Mode.SEALED:
            try:
                self._seal(inner, session)
            except DecodeError as error:
                # the time of the last octets may be older than that of the verbs since
                self._fault, self._mode = error, _Mode.OVER
        if inner.is_terminated:
            session.leave()
        if self._mode is not _Mode.SEALED:
            # nothing of it may go in clear
            while inner.data_to_send():
                pass
        return session.take_out()

    def next_event(self) -> Event | None:
        """Drain one event of the tunnel or of what it carries."""
        return self._events.popleft() if self._events else self._inner.next_event()

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline."""
        if self._fault is not None:
            return self._now
        times = (self._inner.get_timer(), self._session_timer())
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`."""
        self._tick(now)
        self._break_late(now)
        due = self._session_timer()
        if due is not None and now >= due:
            try:
                self.session.handle_timer(now)
            except DecodeError as error:
                self._break(error, now)
        self._inner.handle_timer(now)

    # --- inside ------------------------------------------------------------------------------

    def _tick(self, now: Instant) -> None:
        if now < self._now:
            raise LocalProtocolError(f"the clock went back from {self._now} to {now}")
        self._now = now

    def _break_late(self, now: Instant) -> None:
        """End the connection for a fault that was met while sealing."""
        error, self._fault = self._fault, None
        if error is not None:
            self._break(error, now)

    def _session_timer(self) -> Instant | None:
        if self._mode in (_Mode.CLEAR, _Mode.OVER) or self._inner.is_terminated:
            return None
        return self.session.get_timer()

    def _decide(self, data: bytes, now: Instant) -> None:
        """Let the first octets say whether the connection is sealed."""
        if data[_TYPE_AT] == _SEALED:
            self._mode = _Mode.SEALED
        # VPPN-2.2-03
        elif not self._may_be_clear:
            self._mode = _Mode.DEAF
        else:
            self._mode = _Mode.CLEAR
            self.session.leave()
            self._inner.receive_data(data, now)

    def _take(self, raw: RawSegment, now: Instant) -> bool:
        """Take a segment of a sealed connection; False when that was its last one."""
        session = self.session
        was_open, was_epoch = session.is_confirmed, session.epoch
        try:
            plain = session.receive(raw, now)
        except DecodeError as error:
            self._break(error, now, raw)
            return False
        if not was_open and session.is_confirmed and session.identity is not None:
            self._events.append(TunnelOpened(identity=session.identity, binding=session.binding))
        if session.epoch != was_epoch and session.identity is not None and session.epoch:
            self._events.append(TunnelRekeyed(identity=session.identity, epoch=session.epoch))
        if session.identity is not None:
            self._inner.party = session.identity.party
        if plain:
            self._inner.receive_data(plain, now)
        return True

    def _seal(self, inner: Inner, session: Session) -> None:
        """Seal what is queued, and never wait for more."""
        # VPPN-3-09
        while session.takes_plain and session.queued < SEND_MAX:
            plain = inner.data_to_send()
            if not plain and not session.owes:
                return
            session.put(plain, inner.peer_msp, self._now)

    def _break(self, error: DecodeError, now: Instant, raw: RawSegment | None = None) -> None:
        """End the connection for a sealing fault."""
        session = self.session
        # VPPN-2.2-03
        if session.config.stealth and not session.has_begun and error.code != Reason.TIMEOUT:
            self._mode = _Mode.DEAF
            return
        rule = _said_in_clear(raw) if error.code == Reason.SEAL_REQUIRED and raw else ""
        if error.field == OTHER_MODE:
            ours = session.config.privacy
            rule = f"the other end seals in {ours.other} mode, we in {ours}: --privacy is the same at both"
        refusal = Refusal(error.code, error.value, error.limit, rule=rule)
        session.give_up(refusal, now)
        self._mode = _Mode.OVER
        if not self._inner.is_terminated:
            self._events.append(TunnelBroken(refusal=refusal))
        self._inner.cut(refusal, now)


def _said_in_clear(raw: RawSegment) -> str:
    """Return what somebody on the path, or a peer without keys, said in clear; for people only."""
    try:
        segment = decode_segment(raw)
    except DecodeError:
        return "in clear"
    if isinstance(segment, Control) and segment.flags == Flag.RST and segment.options.reason:
        reason = segment.options.reason
        return f"the other end said in clear: {reason.sentence()}{_HINTS.get(reason.code, '')}"
    return "in clear"
