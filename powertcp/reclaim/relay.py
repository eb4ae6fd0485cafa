"""A relay between a device and its provider: plain segments pass octet for octet, or not at all.

Two legs, one for each TCP connection, share a relay. A leg is the machine of a wire, or what a
tunnel carries. Who gives the relay to a device judges its requests; what is refused is answered
here and never passed on. VPPN section 6.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from powertcp.errors import LocalProtocolError
from powertcp.machine import Buffer, Event
from powertcp.potcp.events import Ask
from powertcp.potcp.feed import refuse_feed
from powertcp.profile import PowerProfile, ProfileType
from powertcp.reclaim.endings import Endings
from powertcp.reclaim.leg import Hung, Leg
from powertcp.reclaim.track import End, Phase, Sighting, TrackedFlow, Tracker, What
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_S, Instant
from powertcp.vppn.record import MAX_PLAIN
from powertcp.wire.frames import (
    RawSegment,
    Splitter,
    encode_segment,
    whole_segment,
)
from powertcp.wire.options import Options
from powertcp.wire.segments import Alert, Answer, Control, FeedSegment, Receipt, Reneg

# PTCP-13-02: what is refused here within a second
REFUSALS_MAX: Final = 20
_FIN_ACK: Final = Flag.FIN | Flag.ACK
_WARNING: Final = 2


class Denial(NamedTuple):
    """Why a request is not passed on, and the best that may be asked for."""

    refusal: Refusal
    best: PowerProfile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamWanted(Event):
    """The first request that may pass is here: connect, then call `connected`.

    via: the name of an upstream, None: any. resumes: a ticket of the device is on its way.
    """

    via: str | None
    resumes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Event):
    """Something of a flow passed that its keeper may want to know."""

    sighting: Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyHeld(Event):
    """A page with the device's signature waits: call `release` with `number` when it is written.

    page: 380 octets. Nothing of the device passes it. LEDG-7-06.
    """

    flow: TrackedFlow
    page: bytes
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied(Event):
    """A request was answered here."""

    flow: TrackedFlow
    asks: tuple[Ask, ...]
    denial: Denial


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLeft(Event):
    """A flow is over. refusal: why, as it was said. is_cut: its path is gone, it may be resumed."""

    flow: TrackedFlow
    refusal: Refusal | None
    is_cut: bool = False


# (flow, asks, via): a SYN that wants the upstream `via`, None any; a RENEG wants None
Judge = Callable[[TrackedFlow, tuple[Ask, ...], str | None], Denial | None]

# what is worth an event of its own; the rest passes in silence
_TOLD: Final = frozenset(
    (
        What.READY,
        What.BLOCK,
        What.UNLAWFUL,
        What.UNSOLICITED,
        What.CREDITED,
        What.PAGE,
        What.TICKET,
        What.TRIPPED,
        What.OFFERED,
    )
)


# VPPN-3-07
def _too_long(raw: RawSegment, octets: bytes, msp: int) -> Refusal | None:
    """Return why a segment is not taken: its payload is above `msp`, or it fits into no seal."""
    for size, limit in ((len(raw[5]), msp), (len(octets), MAX_PLAIN)):
        if size > limit:
            return Refusal(Reason.LIMIT, size, limit)
    return None


class Relay:
    """What is between a device, who opened its connection, and its provider.

    judge: says why a request may not pass, None: it may. Bounds: the 256 flows of the tracker; what
    is queued for one side is bounded by who reads the other.
    """

    def __init__(self, judge: Judge, is_sealed: Callable[[], bool]) -> None:
        """Begin unproven: nothing passes before `proven`. is_sealed: whether the device is."""
        self.tracker = Tracker()
        self.device = Leg(self, End.CLIENT)
        self.provider = Leg(self, End.SERVER)
        self.is_over = False
        self.via: str | None = None
        self._judge, self._is_sealed = judge, is_sealed
        self._early: list[bytes] | None = []
        self._is_wanted = False
        self._endings = Endings(self.tracker, self._say_to, self._left)
        self._copies = 0
        self._refusals: deque[Instant] = deque(maxlen=REFUSALS_MAX + 1)

    # --- orders ------------------------------------------------------------------------------

    def proven(self, now: Instant) -> None:
        """The device has proven who it is: what it said meanwhile is taken now. VPPN-2.3-03."""
        early, self._early = self._early or [], None
        for octets in early:
            self.device.receive_data(octets, now)

    def end(self, flow: TrackedFlow, refusal: Refusal, now: Instant) -> None:
        """End a flow: FIN upstream, the last page passes, FIN to the device. VPPN-6-05."""
        if flow.number not in self._endings and self.tracker.flow(flow.number) is flow:
            self._endings.begin(flow, refusal, now)

    def end_all(self, refusal: Refusal, now: Instant) -> None:
        """End every flow."""
        for flow in self.tracker.flows:
            self.end(flow, refusal, now)

    def is_ending(self, flow: TrackedFlow) -> bool:
        """Whether we end a flow."""
        return flow.number in self._endings

    @property
    def is_idle(self) -> bool:
        """Whether there is no flow, nor one that is being ended."""
        return not self.tracker.flows and not self._endings

    def alert(self, flow: TrackedFlow, refusal: Refusal) -> None:
        """Tell the device what is about to end. VPPN-6-05."""
        # VPPN-6-05
        esn_uj, options = flow.verified_uj, Options(reason=refusal)
        self.device.send(encode_segment(Alert(flow.number, esn_uj, _WARNING, options)))

    def refuse(self, flow: TrackedFlow, denial: Denial) -> None:
        """Answer a SYN with RST, and forget its flow. VPPN-6-02."""
        # VPPN-6-02
        tag = flow.asks[0].desired.tag if flow.asks else 0
        best = denial.best
        profiles = (best.with_type(ProfileType.REFUSE, tag=tag),) if best is not None else ()
        options = Options(reason=denial.refusal, profiles=profiles)
        self._say(self._leg(flow.sink), Control(flow.number, Flag.RST, 0, options))
        self.tracker.forget(flow)

    def give_up(self, flow: TrackedFlow, denial: Denial) -> None:
        """Refuse a SYN that was to pass, because there is nobody to pass it to."""
        self.refuse(flow, denial)
        self.device.events.append(FlowLeft(flow=flow, refusal=denial.refusal))

    def reset(self, flow: TrackedFlow, refusal: Refusal) -> None:
        """Say RST to both sides of a flow, and forget it."""
        control = Control(flow.number, Flag.RST, flow.verified_uj, Options(reason=refusal))
        self._say(self.device, control)
        upstream = Control(flow.number, Flag.RST, flow.acked_uj, Options(reason=refusal))
        self._say(self.provider, upstream)
        self._endings.drop(flow)
        self.tracker.forget(flow)

    # --- what comes --------------------------------------------------------------------------

    def receive(self, leg: Leg, data: Buffer, splitter: Splitter, now: Instant) -> None:
        """Take octets of one side."""
        if self.is_over:
            return
        if self._early is not None and leg is self.device:
            # VPPN-2.2-04
            if not self._is_sealed():
                self._fail(leg, Refusal(Reason.SEAL_REQUIRED))
                return
            # at most what one wake-up brings: who is not proven is heard no further
            self._early.append(bytes(data))
            return
        for raw in splitter.receive(data):
            self._take(leg, raw, now)
            if self.is_over:
                return
        if splitter.error is not None:
            error = splitter.error
            # PTCP-2.1-03
            self._fail(leg, Refusal(error.code, error.value, error.limit))

    def _take(self, leg: Leg, raw: RawSegment, now: Instant) -> None:
        sighting = self.tracker.see(leg.end, raw, now)
        if raw[2] in self._endings and self._endings.take(leg.end, raw, sighting.segment, now):
            return
        if not self._may_pass(leg, raw, sighting, now):
            return
        self._pass(leg, raw, sighting)

    # VPPN-6-01
    def _pass(self, leg: Leg, raw: RawSegment, sighting: Sighting) -> None:
        """Hand a segment to the other side as it came, and tell of it."""
        flow, what, segment = sighting.flow, sighting.what, sighting.segment
        # VPPN-6-04: VIA is for us
        is_syn = what is What.ASKED and flow is not None
        octets = flow.handshake if is_syn and flow is not None else whole_segment(raw)
        other = self._leg(leg.end.other)
        if (too_long := _too_long(raw, octets, other.peer_msp)) is not None:
            self._refuse_segment(leg, raw, sighting._replace(refusal=too_long))
            return
        # LEDG-7-06
        if what is What.COPY and flow is not None and isinstance(segment, Receipt):
            self._copies += 1
            other.hold(self._copies)
            leg.events.append(CopyHeld(flow=flow, page=segment.page, number=self._copies))
        other.send(octets)
        if isinstance(segment, Control) and segment.options.msp is not None:
            leg.peer_msp = segment.options.msp
        if what in _TOLD:
            leg.events.append(Seen(sighting=sighting))
        elif what in (What.RESET, What.CLOSED) and flow is not None:
            reason = segment.options.reason if isinstance(segment, Control) else None
            # PTCP-10-03: its ticket moved it to another path
            is_cut = (leg.end, reason and reason.code) == (End.SERVER, Reason.HANDOVER)
            leg.events.append(FlowLeft(flow=flow, refusal=reason, is_cut=is_cut))
        elif what is What.TERMINATED:
            reason = segment.options.reason if isinstance(segment, Control) else None
            self._hang(leg, reason, is_cut=False)

    def _may_pass(self, leg: Leg, raw: RawSegment, sighting: Sighting, now: Instant) -> bool:
        """Return whether a segment goes on; if not, it is answered here or dropped."""
        what, flow = sighting.what, sighting.flow
        if what is What.ASKED and flow is not None:
            return self._may_ask(leg, flow, sighting, now)
        if what is What.PROPOSED and flow is not None:
            return self._may_propose(leg, flow, sighting, now)
        if what in (What.ACCEPTED, What.READY) and flow is not None:
            return self._may_hold(leg, flow, now)
        if what is What.INVALID:
            self._refuse_segment(leg, raw, sighting)
            if flow is None:
                self._count(leg, now)
            return False
        if what is What.FEED:
            # power that nobody here verifies is not given
            self._refuse_feed(leg, sighting, now)
            return False
        if what is What.STRAY:
            if raw[1] == Flag.FIN and isinstance(sighting.segment, Control):
                self._say(leg, Control(raw[2], _FIN_ACK, 0))
                if not self.tracker.has_crossed(raw[2]):
                    self._count(leg, now)
            return False
        return True

    # VPPN-6-02
    def _may_ask(self, leg: Leg, flow: TrackedFlow, sighting: Sighting, now: Instant) -> bool:
        """Judge a SYN."""
        syn = sighting.segment
        via = syn.options.via if isinstance(syn, Control) else None
        denial: Denial | None
        if leg is self.provider:
            denial = Denial(Refusal(Reason.POLICY, rule="a gateway takes no power"))
        elif self._is_wanted and via != self.via:
            # one connection upstream for each of a device
            denial = Denial(Refusal(Reason.POLICY, rule="VIA: this connection goes elsewhere"))
        else:
            denial = self._judge(flow, flow.asks, via)
        if denial is not None:
            # it may have passed before, and was sent back
            self.refuse(flow, denial)
            leg.events.append(FlowLeft(flow=flow, refusal=None))
            self._deny(leg, flow, flow.asks, denial, now)
            return False
        if not self._is_wanted:
            self._is_wanted, self.via = True, via
            leg.events.append(UpstreamWanted(via=via, resumes=flow.ticket is not None))
        return True

    # VPPN-6-02
    def _may_propose(self, leg: Leg, flow: TrackedFlow, sighting: Sighting, now: Instant) -> bool:
        """Judge a RENEG of either side: one above the limits is rejected here."""
        reneg, asks = sighting.segment, sighting.asks
        denial = self._judge(flow, asks, None)
        if denial is None or not isinstance(reneg, Reneg):
            if leg.end is flow.sink:
                flow.asks, flow.asked_before = asks, flow.asked_before or flow.asks
            return True
        self._deny(leg, flow, asks, denial, now)
        # VPPN-6-02
        options = Options(contract=reneg.options.contract, reason=denial.refusal)
        esn_uj = flow.verified_uj if leg.end is flow.sink else flow.acked_uj
        leg.send(encode_segment(Answer(flow.number, esn_uj, accepted=False, options=options)))
        return False

    # VPPN-6-02
    def _may_hold(self, leg: Leg, flow: TrackedFlow, now: Instant) -> bool:
        """Judge the terms that ACK takes or READY puts in force, whatever was asked for."""
        terms = flow.taken or flow.profile
        # what is being ended is measured to its end
        if terms is None or flow.number in self._endings:
            return True
        denial = self._judge(flow, (Ask(terms, None),), None)
        if denial is None:
            return True
        self.reset(flow, denial.refusal)
        leg.events.append(FlowLeft(flow=flow, refusal=denial.refusal))
        self._count(leg, now)
        return False

    def _deny(
        self, leg: Leg, flow: TrackedFlow, asks: tuple[Ask, ...], denial: Denial, now: Instant
    ) -> None:
        """Tell of a request that is answered here."""
        leg.events.append(Denied(flow=flow, asks=asks, denial=denial))
        self._count(leg, now)

    def _count(self, leg: Leg, now: Instant) -> None:
        """Too much that is answered here within a second ends the connection."""
        times = self._refusals
        times.append(now)
        # PTCP-13-02
        if len(times) > REFUSALS_MAX and now - times[0] < NS_PER_S:
            self._fail(leg, Refusal(Reason.CHURN, len(times), REFUSALS_MAX))

    def _refuse_segment(self, leg: Leg, raw: RawSegment, sighting: Sighting) -> None:
        """What no endpoint takes: RST on its flow to both sides, or the end of the connection."""
        refusal = sighting.refusal or Refusal(Reason.STATE, raw[0])
        if raw[2] == 0:
            self._fail(leg, refusal)
        elif sighting.flow is not None:
            flow = sighting.flow
            if flow.phase is not Phase.OVER:
                self.reset(flow, refusal)
            leg.events.append(FlowLeft(flow=flow, refusal=refusal))
        elif raw[1] & Flag.RST == 0:
            self._say(leg, Control(raw[2], Flag.RST, 0, Options(reason=refusal)))

    def _refuse_feed(self, leg: Leg, sighting: Sighting, now: Instant) -> None:
        segment = sighting.segment
        feed = segment.options.feed if isinstance(segment, FeedSegment) else None
        if feed is not None and isinstance(segment, FeedSegment) and segment.flags == Flag.SYN:
            leg.send(refuse_feed(feed, Refusal(Reason.POLICY, rule="no feeds by this gateway")))
            self._count(leg, now)

    # --- endings -----------------------------------------------------------------------------

    def _left(self, end: End, flow: TrackedFlow, refusal: Refusal) -> None:
        self.tracker.forget(flow)
        self._leg(end).events.append(FlowLeft(flow=flow, refusal=refusal))

    def get_timer(self) -> Instant | None:
        """Return when patience with the next ending is over."""
        return self._endings.get_timer()

    def handle_timer(self, now: Instant) -> None:
        """Reset what does not end by itself."""
        self._endings.handle_timer(now)

    # --- the connection ----------------------------------------------------------------------

    def cut(self, end: End, refusal: Refusal | None, now: Instant) -> None:
        """One side is gone: the other sees a cut, its tickets stay good. VPPN-6-04."""
        if not self.is_over:
            self._hang(self._leg(end), refusal, is_cut=True)

    def close(self, refusal: Refusal) -> None:
        """End the connection with RST on flow 0 to both sides."""
        if not self.is_over:
            self._fail(self.device, refusal)

    def _fail(self, leg: Leg, refusal: Refusal) -> None:
        """The connection is over for what one side did."""
        if self.is_over:
            return
        for each in (self.device, self.provider):
            self._say(each, Control(0, Flag.RST, 0, Options(reason=refusal)))
        self._hang(leg, refusal, is_cut=False)

    def _hang(self, leg: Leg, refusal: Refusal | None, *, is_cut: bool) -> None:
        self.is_over = True
        for flow, why in self._endings.clear():
            leg.events.append(FlowLeft(flow=flow, refusal=why))
        for flow in self.tracker.flows:
            self.tracker.forget(flow)
            leg.events.append(FlowLeft(flow=flow, refusal=refusal, is_cut=is_cut))
        leg.events.append(Hung(end=leg.end, refusal=refusal))

    def _leg(self, end: End) -> Leg:
        return self.device if end is End.CLIENT else self.provider

    def _say_to(self, end: End, said: Control | bytes) -> None:
        leg = self._leg(end)
        if isinstance(said, bytes):
            leg.send(said)
        else:
            self._say(leg, said)

    def _say(self, leg: Leg, control: Control) -> None:
        with suppress(LocalProtocolError):
            leg.send(encode_segment(control))
