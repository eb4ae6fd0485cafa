"""An upstream that may never answer: what it is sent is kept until it does, for the next one.

It is the machine of a wire, or what a tunnel carries, in front of the provider's leg of a relay.
Nothing of an upstream gets there before it has answered. VPPN section 6.
"""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from powertcp.errors import DecodeError
from powertcp.machine import Buffer, Event
from powertcp.reclaim.leg import Leg
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import Instant
from powertcp.wire.frames import MAX_MSP, RawSegment, Splitter, decode_segment
from powertcp.wire.segments import Control

# octets that are heard before an answer: probes, and what is no power at all
HEARD_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAnswered(Event):
    """An upstream has said something of a flow: it is the one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFailed(Event):
    """An upstream is gone before it has answered. refusal: why, None: it did not say."""

    refusal: Refusal | None


class Attempt:
    """`leg` as one upstream sees it; `leave` makes place for the next one.

    Bounds: what is kept of the device is what may wait for its provider; HEARD_MAX octets heard.
    """

    __slots__ = (
        "_events",
        "_given",
        "_heard",
        "_is_answered",
        "_is_over",
        "_leg",
        "_splitter",
        "party",
    )

    def __init__(self, leg: Leg) -> None:
        """Begin unanswered."""
        self.party = b""
        self._leg = leg
        self._events: deque[Event] = deque()
        self._given: list[bytes] = []
        self._heard = b""
        self._splitter = Splitter(MAX_MSP)
        self._is_answered = self._is_over = False

    @property
    def peer_msp(self) -> int:
        """The greatest payload that the upstream takes."""
        return self._leg.peer_msp

    @property
    def queued(self) -> int:
        """Octets that data_to_send has not yet given out."""
        return 0 if self._is_over else self._leg.queued

    @property
    def is_terminated(self) -> bool:
        """Whether nothing comes from here any more, or the relay is over."""
        return self._is_over or self._leg.is_terminated

    # VPPN-6-04
    def leave(self) -> None:
        """Nothing comes from here any more: all that was said is said to the next one."""
        given, self._given = self._given, []
        self._is_over, self._heard = True, b""
        self._leg.unsend(given)

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the upstream; never raises on their content."""
        if self._is_answered:
            self._leg.receive_data(data, now)
            return
        if self._is_over:
            return
        self._heard += bytes(data)
        for raw in self._splitter.receive(data):
            # VPPN-6-04
            if raw[2]:
                self._answer(now)
                return
            if (refusal := _termination(raw)) is not None:
                self._fail(refusal)
                return
        if (error := self._splitter.error) is not None:
            self._fail(Refusal(error.code, error.value, error.limit))
        elif len(self._heard) > HEARD_MAX:
            self._fail(Refusal(Reason.LIMIT, len(self._heard), HEARD_MAX))

    def receive_eof(self, now: Instant) -> None:
        """The upstream is gone."""
        self.cut(None, now)

    def cut(self, refusal: Refusal | None, now: Instant) -> None:
        """The upstream is gone, for `refusal` of whoever carries it."""
        if self._is_answered:
            self._leg.cut(refusal, now)
        elif not self._is_over:
            self._fail(refusal)

    def data_to_send(self) -> bytes:
        """Drain whole segments of the device."""
        if self._is_over:
            return b""
        octets = self._leg.data_to_send()
        if octets and not self._is_answered:
            self._given.append(octets)
        return octets

    def next_event(self) -> Event | None:
        """Drain one event of this attempt, or of the relay while it lasts."""
        if self._events:
            return self._events.popleft()
        return None if self._is_over else self._leg.next_event()

    def get_timer(self) -> Instant | None:
        """Return no deadline: whoever asks an upstream has one."""
        return None

    def handle_timer(self, now: Instant) -> None:
        """Do nothing."""

    def _answer(self, now: Instant) -> None:
        heard, self._heard = self._heard, b""
        self._is_answered, self._given = True, []
        self._events.append(UpstreamAnswered())
        self._leg.receive_data(heard, now)

    def _fail(self, refusal: Refusal | None) -> None:
        self._is_over, self._heard = True, b""
        self._events.append(UpstreamFailed(refusal=refusal))


def _termination(raw: RawSegment) -> Refusal | None:
    """Return why RST on flow 0 ends the connection, None for anything else."""
    with suppress(DecodeError):
        segment = decode_segment(raw)
        if isinstance(segment, Control) and segment.flags == Flag.RST:
            return segment.options.reason or Refusal(Reason.NORMAL)
    return None
