"""A subscription: the same feed over TCP, where multicast does not reach (PoTCP section 12).

`FeedSubscription` is the StreamMachine of the subscriber; what it hears goes to a `FeedReceiver`.
"""

from typing import Final

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Buffer, Event
from powertcp.potcp.events import (
    Alerted,
    ConnectionTerminated,
)
from powertcp.potcp.feed import ANY_FEED, feed_segment
from powertcp.potcp.receiver import FeedReceiver
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant
from powertcp.wire.feeds import feed_id
from powertcp.wire.frames import RawSegment, Splitter, decode_segment, encode_segment
from powertcp.wire.options import Feed, Options
from powertcp.wire.segments import Alert, Control, FeedSegment, Receipt

# T_OPEN: from SYN to SYN+ACK
OPEN_NS: Final[Duration] = 5 * NS_PER_S

_FEED: Final = int(SegmentType.FEED)
_CONFIRM: Final = int(Flag.SYN | Flag.ACK)
_NAMED: Final = int(Flag.SYN | Flag.ACK | Flag.FIN | Flag.PSH)


class FeedSubscription:
    """Subscribes, hands what comes to `receiver`, leaves. wanted: a feed id, b"" any.

    Its events are those of the receiver and at last ConnectionTerminated.
    """

    def __init__(self, receiver: FeedReceiver, *, wanted: bytes = b"") -> None:
        """Prepare; `start` says the SYN."""
        self.receiver = receiver
        self._asked = Feed(wanted or ANY_FEED, 0)
        self._splitter = Splitter()
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._open_by: Instant | None = None
        self._refusal: Refusal | None = None
        self._terminated = self._is_gone = False
        self._confirmed: Feed | None = None
        self._clock: Instant = -(1 << 63)
        self.queued = 0

    @property
    def is_terminated(self) -> bool:
        """Whether the subscription is over; octets may remain to be sent."""
        return self._terminated

    @property
    def is_confirmed(self) -> bool:
        """Whether the source said that we hear it."""
        return self._confirmed is not None

    def start(self, now: Instant) -> None:
        """Ask for the feed: FEED with SYN. PTCP-12-02."""
        if self._open_by is not None or self._confirmed is not None or self._terminated:
            raise LocalProtocolError("a subscription starts once")
        self._tick(now)
        # PTCP-12-02
        self._send(feed_segment(self._asked, Flag.SYN))
        self._open_by = now + OPEN_NS

    def leave(self, now: Instant) -> None:
        """Close the last page and say FEED with FIN; send the receipt before the octets end."""
        if self._terminated:
            raise LocalProtocolError("the subscription is over")
        self._tick(now)
        self.receiver.leave(now)
        # PTCP-12-02
        self._send(feed_segment(self._confirmed or self._asked, Flag.FIN))
        self._open_by = None

    @property
    def may_send_receipt(self) -> bool:
        """Whether the source may still hear of pages: also after it ended its feed by FIN."""
        return not self._is_gone

    def send_receipt(self, feed: Feed, page: bytes) -> None:
        """Give the source a page that we signed, 380 octets. PTCP-12-03."""
        if self._is_gone:
            raise LocalProtocolError("the subscription is over")
        self._send(encode_segment(Receipt(0, 0, page, Options(feed=feed))))

    # --- the machine contract ------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the source; never raises on their content."""
        self._tick(now)
        if self._terminated:
            return
        for raw in self._splitter.receive(data):
            self._take(raw, now)
            if self._terminated:
                return
        error = self._splitter.error
        if error is not None:
            # PTCP-2.1-03
            self._fail(Refusal(error.code, error.value, error.limit))

    def receive_eof(self, now: Instant) -> None:
        """The path ended: what is signed is banked already."""
        self._tick(now)
        if not self._terminated:
            self._end(self._refusal)
        self._is_gone = True

    def data_to_send(self) -> bytes:
        """Drain whole segments."""
        octets = b"".join(self._out)
        self._out.clear()
        self.queued = 0
        return octets

    def next_event(self) -> Event | None:
        """Drain one event, those of the receiver first."""
        event = self.receiver.next_event()
        if event is None and self._events:
            event = self._events.pop(0)
        return event

    def get_timer(self) -> Instant | None:
        """Return when the answer must be here, or what the receiver waits for."""
        if self._terminated:
            return None
        times = (self._open_by, self.receiver.get_timer())
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: Instant) -> None:
        """Do what is due; after the end nothing, the receiver goes on with its next path."""
        self._tick(now)
        if self._terminated:
            return
        self.receiver.handle_timer(now)
        if self._open_by is not None and now >= self._open_by:
            waited_ms = OPEN_NS // NS_PER_MS
            self._fail(Refusal(Reason.TIMEOUT, waited_ms, waited_ms))

    # --- inside ------------------------------------------------------------------------------------

    def _tick(self, now: Instant) -> None:
        if now < self._clock:
            raise LocalProtocolError(f"the clock went back from {self._clock} to {now}")
        self._clock = now

    def _take(self, raw: RawSegment, now: Instant) -> None:
        if raw[0] == _FEED and raw[1] & _NAMED in (0, Flag.PSH):
            # blocks and signatures are judged by what they say, not by who carries them
            self.receiver.take(raw, now)
            return
        try:
            segment = decode_segment(raw)
        except DecodeError as error:
            self._fail(Refusal(error.code, error.value, error.limit))
            return
        match segment:
            case None:
                return
            case FeedSegment(flags=flags) if flags & _NAMED == _CONFIRM:
                self._confirm(segment.options)
            case FeedSegment(flags=flags) if flags & _NAMED == Flag.FIN:
                self._end(self._refusal or Refusal(Reason.NORMAL))
            case Alert(flow=0, severity=severity, options=options):
                self._refusal = options.reason
                self._events.append(Alerted(flow=0, severity=severity, refusal=options.reason))
            case Control(flow=0, flags=Flag.RST, options=options):
                self._is_gone = True
                self._end(options.reason or Refusal(Reason.OPERATOR))
            case _:
                # PTCP-9-08: no credit, shed or lease belongs to a feed, PTCP-12-03
                self._fail(Refusal(Reason.STATE, raw[0]))

    def _confirm(self, options: Options) -> None:
        """Take the SYN+ACK if it names the feed that was asked for and the key it is signed with."""
        feed, meter = options.feed, options.meter
        asked = self._asked.feed_id
        if feed is None or meter is None or options.sampling is None or not options.profiles:
            self._fail(Refusal(Reason.STATE, _FEED, rule="FEED SYN+ACK without its options"))
        elif feed.feed_id != feed_id(meter.key) or asked not in (ANY_FEED, feed.feed_id):
            # PTCP-12-06
            self._fail(Refusal(Reason.IDENTITY_MISMATCH))
        else:
            self._confirmed, self._open_by = feed, None

    def _send(self, octets: bytes) -> None:
        self._out.append(octets)
        self.queued += len(octets)

    def _fail(self, refusal: Refusal) -> None:
        """End for `refusal`, and say so."""
        self._send(encode_segment(Control(0, Flag.RST, 0, Options(reason=refusal))))
        self._is_gone = True
        self._end(refusal)

    def _end(self, refusal: Refusal | None) -> None:
        self._terminated = True
        self._open_by = None
        self._events.append(ConnectionTerminated(refusal=refusal))
