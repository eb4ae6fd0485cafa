"""The receiving half of a connection: segments to flows, limits, endings, the outgoing queue.

What a peer sends never raises (M2): a fault of a flow touches that flow only, a framing or churn
fault ends the connection. `PowerConnection` adds the verbs. Protocol sections 2 to 14.
"""

from dataclasses import replace
from struct import Struct

from powertcp.crypto import is_signed_by
from powertcp.dve import integrate_many
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Buffer, Entropy, Event, Trace
from powertcp.potcp.causes import CTL_CAUSES, OPTION_CAUSES, WHOLE_CAUSES
from powertcp.potcp.config import ConnectionConfig
from powertcp.potcp.events import (
    Alerted,
    ConnectionTerminated,
    HeatCounted,
)
from powertcp.potcp.feed import FeedAsked, FeedLeft, FeedReceiptReceived
from powertcp.potcp.flow import NEGOTIATION, Flow, PageSigner, SignatureCheck
from powertcp.potcp.liveness import Liveness
from powertcp.potcp.protect import sums_of
from powertcp.potcp.sink import SinkFlow
from powertcp.potcp.source import SourceFlow
from powertcp.potcp.states import Cause
from powertcp.potcp.tickets import TicketOffice
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.wire.frames import (
    RawSegment,
    Splitter,
    decode_segment,
    encode_segment,
    whole_segment,
)
from powertcp.wire.options import Options, encode_options
from powertcp.wire.segments import (
    Alert,
    Answer,
    Control,
    CookieSegment,
    Data,
    FeedSegment,
    MaintainProbe,
    Ready,
    Receipt,
    Reneg,
    Segment,
    Trip,
)

SEND_MAX = 256 * 1024
# what may wait for a peer that does not read, R4: control octets and negotiation segments
CONTROL_QUEUE_MAX = 64 * 1024
NEGOTIATION_QUEUE_MAX = 7 * 256
# SYNs that may wait for their repetition with a COOKIE: 20 a second in 0.8 s of path
SENT_BACK_MAX = 16
# earlier than any clock says
_BEFORE: Instant = -(1 << 63)
_DATA = int(SegmentType.DATA)
_CREDIT = int(SegmentType.CREDIT)
_unpack_n = Struct(">H").unpack_from


def _bare(control: Control) -> bytes:
    """Return the options of a SYN as a cookie covers them."""
    return encode_options(replace(control.options, cookie=None))


class Intake:
    """One connection: who opened it, its flows, its probes.

    client: whether we opened the TCP connection (odd flows are ours, PTCP-2.1-01).
    entropy: source of nonces and tags. office: cookies and tickets shared by a provider's
    connections. peer: octets of the peer's address, for cookies. unix_offset_ns: from our clock to
    Unix time, as said on the wire; decides nothing. wrapping: octets a carrier adds to a segment.
    sign_page: makes the pages of flows that we supply. is_signed_by: checks the other side's.
    """

    __slots__ = (
        "_ahead", "_churn", "_clock", "_control_octets", "_crossing", "_earliest", "_events",
        "_flows", "_group", "_is_started", "_liveness", "_negotiations", "_next_flow", "_out",
        "_peer_top", "_sent_back", "_splitter", "_stray_heat", "_syn_deadline", "_terminated",
        "_trace", "client", "config", "entropy", "interval_ms", "is_signed_by", "misses", "moved",
        "office", "party", "peer", "peer_msp", "queued", "sign_page", "unix_offset_ns", "wrapping",
    )  # fmt: skip

    def __init__(
        self,
        *,
        client: bool,
        config: ConnectionConfig,
        entropy: Entropy,
        office: TicketOffice | None = None,
        peer: bytes = b"",
        trace: Trace | None = None,
    ) -> None:
        self.client, self.config, self.entropy, self.peer = client, config, entropy, peer
        self.office = office or TicketOffice(entropy)
        self.interval_ms, self.misses = config.maintain_interval_ms, config.maintain_misses
        self.peer_msp, self.wrapping = 16384, 0
        # who a carrier has proven the peer to be, b"" without one: tickets are good for it alone
        self.party = b""
        self.unix_offset_ns: Duration = 0
        self.sign_page: PageSigner | None = None
        self.is_signed_by: SignatureCheck = is_signed_by
        self._trace, self._splitter = trace, Splitter(config.msp)
        self._flows: dict[int, Flow] = {}
        self._events: list[Event] = []
        self._out: list[bytes] = []
        # octets that data_to_send has not yet given out
        self.queued = 0
        self._control_octets = self._negotiations = self._ahead = 0
        self._next_flow = 1 if client else 2
        self._peer_top = 0
        self._clock: Instant = _BEFORE
        self._liveness: Liveness | None = None
        self._syn_deadline: Instant | None = None
        self._terminated = self._is_started = False
        # whether a deadline may have changed since `_earliest` was found
        self.moved = True
        self._earliest: Instant | None = None
        self._group: list[tuple[SinkFlow, int, bool, memoryview]] = []
        # times of the peer's last openings and stray resets, PTCP-13-02
        self._churn: list[Instant] = []
        # of `_crossing`: flows ended by RST of which no stray RST has come yet
        self._stray_heat = self._crossing = 0
        # flows whose SYN was answered with a COOKIE only
        self._sent_back: tuple[int, ...] = ()

    # --- the machine contract ----------------------------------------------------------------

    def start(self, now: Instant) -> None:
        """The TCP connection stands: a server waits T_SYN for the first whole segment."""
        self._tick(now)
        if not self.client and not self._is_started:
            self._syn_deadline = now + self.config.syn_ns
            self.moved = True
        self._is_started = True

    def receive_data(self, data: Buffer, now: Instant) -> None:
        """Take octets of the peer; never raises on their content."""
        if now < self._clock:
            self._tick(now)
        self._clock = now
        if self._terminated:
            return
        if not self._is_started:
            self.start(now)
        splitter = self._splitter
        for raw in splitter.receive(data):
            self._syn_deadline = None
            if raw[0] == _DATA and self._take_data(raw):
                continue
            if self._group:
                self._settle(now)
            if raw[0] == _CREDIT:
                flow = self._flows.get(raw[2])
                if type(flow) is SourceFlow and flow.take_plain_credit(raw):
                    continue
            self._take(raw, now)
            if self._terminated:
                return
        if self._group:
            self._settle(now)
        if splitter.error is not None:
            error = splitter.error
            # PTCP-2.1-03
            self._fail(Refusal(error.code, error.value, error.limit), now)

    def receive_eof(self, now: Instant) -> None:
        """The path ended: live flows of a source are held, those of a sink are cut."""
        self.cut(None, now)

    def cut(self, refusal: Refusal | None, now: Instant) -> None:
        """End as at the end of the stream, for `refusal` of whoever carries us: nothing is said."""
        self._tick(now)
        if self._terminated:
            return
        self._settle(now)
        for flow in list(self._flows.values()):
            flow.fire(Cause.CUT, now)
        self._terminate(refusal)

    def data_to_send(self) -> bytes:
        """Drain whole segments, at most 256 KiB and one segment; b"" when there are none."""
        out = self._out
        if self.queued <= SEND_MAX:
            octets = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self.queued = self._control_octets = self._ahead = 0
            if self._negotiations:
                self._note_read()
            return octets
        size = count = 0
        while size < SEND_MAX:
            size += len(out[count])
            count += 1
        octets = b"".join(out[:count])
        del out[:count]
        self.queued -= size
        self._ahead = max(0, self._ahead - count)
        self._control_octets = self._control_octets if self._ahead else 0
        if self._negotiations:
            self._note_read()
        return octets

    # PTCP-9-04
    def _note_read(self) -> None:
        """Count anew what still waits, for each flow and in all: the peer took the rest."""
        for flow in self._flows.values():
            flow.unread = 0
        self._negotiations = 0
        for octets in self._out:
            if octets[4] in NEGOTIATION:
                self._negotiations += 1
                found = self._flows.get(int.from_bytes(octets[8:12], "big"))
                if found is not None:
                    found.unread += 1

    def next_event(self) -> Event | None:
        """Drain one event; None when there are no more."""
        return self._events.pop(0) if self._events else None

    # --- what flows ask of us (Link) ---------------------------------------------------------

    def send(self, octets: bytes, *, negotiation: bool = False) -> None:
        """Queue a whole segment; negotiation goes before the blocks of other flows."""
        self.queued += len(octets)
        if negotiation:
            self._negotiations += 1
            out = self._out
            # PTCP-11-02, PTCP-2.1-02: never before what its ESN counts
            if (
                out
                and out[-1][4] == _DATA
                and all(octets[8:12] != one[8:12] for one in out[self._ahead :])
            ):
                self._put_ahead(octets)
                return
        self._out.append(octets)

    # PTCP-11-02
    def _put_ahead(self, octets: bytes) -> None:
        """Queue a segment before all blocks, behind what else was put there."""
        self._out.insert(self._ahead, octets)
        self._ahead += 1

    @property
    def is_stale(self) -> bool:
        """Whether the peer answers no probes. PTCP-5-03."""
        return self._liveness is not None and self._liveness.is_stale

    def emit(self, event: Event) -> None:
        """Queue an event."""
        self._events.append(event)

    def drop(self, flow: Flow, *, reset: bool) -> None:
        """Forget a flow that is over."""
        self._flows.pop(flow.id, None)
        self.moved = True
        # PTCP-13-02: an RST of the peer may cross ours
        self._crossing = min(self._crossing + reset, self.config.flows)

    # PTCP-5-01
    def agree_maintain(self, interval_ms: int, misses: int, now: Instant) -> None:
        """Fix interval and misses with the first flow; probes begin."""
        if self._liveness is None:
            self.interval_ms, self.misses = interval_ms, misses
            self._liveness = Liveness(interval_ms, misses, now)

    # --- receiving ---------------------------------------------------------------------------

    def _tick(self, now: Instant) -> None:
        if now < self._clock:
            raise LocalProtocolError(f"the clock went back from {self._clock} to {now}")
        self._clock = now

    def _take_data(self, raw: RawSegment) -> bool:
        """Collect a DATA segment of a sink that banks; False: not this way."""
        flow = self._flows.get(raw[2])
        if type(flow) is not SinkFlow or not flow.banks or raw[4]:
            return False
        payload = raw[5]
        size = len(payload)
        if size < 16 or size != 8 + 8 * payload[5] * _unpack_n(payload, 6)[0]:
            return False
        self._group.append((flow, raw[3], raw[1] & 0x40 != 0, payload))
        return True

    def _settle(self, now: Instant) -> None:
        """Integrate the collected blocks together and apply them one by one. PTCP-3.3-03."""
        group = self._group
        self._group, self.moved = [], True
        # PTCP-3.3-03
        sums = sums_of([item[0].protector for item in group], [item[3] for item in group])
        for (flow, esn, ece, payload), measured in zip(group, sums, strict=True):
            if flow.banks:
                flow.bank_block(now, measured, esn, payload, ece=ece)
            elif not flow.is_over:
                # PTCP-8-01
                flow.witness(measured, payload)
                flow.fire(Cause.DATA, now, flow.energy_of(measured))
        for flow in dict.fromkeys([item[0] for item in group]):
            flow.flush_batch(now)

    def _take(self, raw: RawSegment, now: Instant) -> None:
        """Take a segment of any type by the tables, and look at what waits for the peer then."""
        self.moved = True
        self._take_any(raw, now)
        if self._control_octets or self._negotiations:
            self._check_queue(now)

    def _take_any(self, raw: RawSegment, now: Instant) -> None:
        try:
            segment = decode_segment(raw)
        except DecodeError as error:
            self._refuse_segment(raw, Refusal(error.code, error.value, error.limit), now)
            return
        if segment is None:
            return
        if type(segment) is MaintainProbe:
            self._take_probe(segment, now)
        elif raw[2] == 0:
            self._take_connection(segment, now)
        else:
            self._take_flow(segment, raw, now)

    def _refuse_segment(self, raw: RawSegment, refusal: Refusal, now: Instant) -> None:
        """A segment that does not decode: RST on its flow, or on the connection. PTCP-11-02."""
        # PTCP-11-02
        flow = self._flows.get(raw[2])
        if flow is not None:
            flow.breach(refusal, now)
        elif raw[2] == 0:
            self._fail(refusal, now)
        else:
            flags = raw[1] if raw[0] == SegmentType.CTL else 0
            # PTCP-13-02
            is_over = flags & (Flag.SYN | Flag.RST) and self._is_churn(now)
            if not is_over and not flags & Flag.RST:
                self._reset_unknown(raw[2], refusal)

    def _reset_unknown(self, flow: int, refusal: Refusal) -> None:
        octets = encode_segment(Control(flow, Flag.RST, 0, Options(reason=refusal)))
        self.send(octets, negotiation=True)

    def _take_connection(self, segment: Segment, now: Instant) -> None:
        """Segments of flow 0."""
        match segment:
            case Control(flags=Flag.RST, options=options):
                self._end_all(options.reason or Refusal(Reason.OPERATOR), now)
            case Alert(severity=severity, options=options):
                self.emit(Alerted(flow=0, severity=severity, refusal=options.reason))
            case FeedSegment() | Receipt() if self._take_feed(segment, now):
                return
            case _:
                self._fail(Refusal(Reason.STATE, 0), now)

    def _take_feed(self, segment: FeedSegment | Receipt, now: Instant) -> bool:
        """Tell who accepted the connection what a subscriber says; False: it has no place here."""
        feed = segment.options.feed
        if self.client or feed is None:
            return False
        if isinstance(segment, Receipt):
            self.emit(FeedReceiptReceived(feed=feed, page=segment.page))
            return True
        # PTCP-12-02
        if segment.flags == Flag.FIN:
            self.emit(FeedLeft(feed=feed))
        # PTCP-13-02
        elif segment.flags == Flag.SYN and not self._is_churn(now):
            self.emit(FeedAsked(feed=feed))
        return segment.flags in (Flag.SYN, Flag.FIN)

    def _take_flow(self, segment: Segment, raw: RawSegment, now: Instant) -> None:
        flow = self._flows.get(raw[2])
        if flow is None:
            self._take_unknown(segment, raw, now)
            return
        if isinstance(flow, SourceFlow) and (refusal := flow.acknowledge(raw[3])) is not None:
            flow.breach(refusal, now)
            return
        kind = type(segment)
        if isinstance(segment, Control):
            self._take_control(flow, segment, raw, now)
        elif isinstance(segment, Data):
            self._take_odd_data(flow, segment, now)
        elif isinstance(segment, Answer):
            cause = Cause.ANSWER_ACCEPT if segment.accepted else Cause.ANSWER_REJECT
            flow.fire(cause, now, segment.options)
        elif isinstance(segment, Ready | Reneg | Trip):
            owes = kind is Trip and flow.owes
            flow.fire(Cause.TRIP_OWED if owes else OPTION_CAUSES[kind], now, segment.options)
        elif kind in WHOLE_CAUSES:
            flow.fire(WHOLE_CAUSES[kind], now, segment)
        else:
            # SEALED and FEED need an agreement of their own, PTCP-9-08
            flow.breach(Refusal(Reason.STATE, raw[0], flow.state.value), now)

    def _take_control(self, flow: Flow, control: Control, raw: RawSegment, now: Instant) -> None:
        cause = CTL_CAUSES[control.flags]
        if cause is Cause.SYN_ACK:
            if control.options.msp is not None:
                self.peer_msp = control.options.msp
            flow.fire(cause, now, control.esn, control.options, whole_segment(raw))
        elif cause is Cause.ACK:
            # PTCP-4-09
            flow.fire(cause, now, control.options, whole_segment(raw))
        elif cause is Cause.SYN:
            flow.breach(Refusal(Reason.STATE, 1, rule="a second SYN"), now)
        else:
            owes = cause is Cause.FIN and flow.owes
            flow.fire(Cause.FIN_OWED if owes else cause, now, control.options)

    def _take_odd_data(self, flow: Flow, segment: Data, now: Instant) -> None:
        """DATA that carries options, is wrong, unsolicited, or comes after a trip."""
        payload = memoryview(segment.payload)
        if isinstance(flow, SinkFlow) and flow.banks:
            if payload[5] * int.from_bytes(payload[6:8], "big") * 8 + 8 != len(payload):
                flow.breach(Refusal(Reason.BAD_LENGTH, len(payload)), now)
                return
            self._group.append((flow, segment.esn, segment.ece, payload))
            self._settle(now)
            return
        try:
            sums = integrate_many([payload])[0]
        except DecodeError as error:
            flow.breach(Refusal(error.code, error.value, error.limit), now)
            return
        if isinstance(flow, SinkFlow):
            flow.witness(sums, payload)
        flow.fire(Cause.DATA, now, flow.energy_of(sums))

    def _take_unknown(self, segment: Segment, raw: RawSegment, now: Instant) -> None:
        """A segment for no live flow: a SYN opens one, leftovers of an old one are dropped."""
        number = raw[2]
        if isinstance(segment, Control) and segment.flags == Flag.SYN:
            self._take_syn(segment, raw, now)
            return
        theirs = (number % 2 == 1) != self.client
        known = number <= self._peer_top if theirs else number < self._next_flow
        if isinstance(segment, Data):
            self._stray_heat += len(segment.payload)
            self.emit(HeatCounted(flow=number, energy_uj=0, refusal=None))
        if isinstance(segment, Control) and segment.flags == Flag.FIN and known:
            self.send(encode_segment(Control(number, Flag.FIN | Flag.ACK)), negotiation=True)
        if isinstance(segment, Control) and segment.flags == Flag.RST:
            if known and self._crossing:
                self._crossing -= 1
            else:
                self._is_churn(now)
        elif not known:
            # PTCP-9-08
            self._reset_unknown(number, Refusal(Reason.STATE, raw[0], 0))

    def _take_syn(self, control: Control, raw: RawSegment, now: Instant) -> None:
        number, options, office = control.flow, control.options, self.office
        is_proven = options.cookie is not None and self._has_cookie(control, now)
        is_repeat = is_proven and number in self._sent_back
        self._sent_back = tuple(each for each in self._sent_back if each != number)
        # PTCP-13-02
        if not is_repeat and self._is_churn(now):
            return
        # PTCP-2.1-01
        if (number % 2 == 1) == self.client:
            self._reset_unknown(number, Refusal(Reason.STATE, number, rule="parity"))
            return
        # PTCP-2.1-06
        if number <= self._peer_top and not is_repeat:
            used = Refusal(Reason.STATE, number, self._peer_top, rule="identifiers rise")
            self._reset_unknown(number, used)
            return
        # PTCP-11-01
        if len(self._flows) >= self.config.flows:
            full = Refusal(Reason.LIMIT, len(self._flows) + 1, self.config.flows)
            self._reset_unknown(number, full)
            return
        if office.needs_cookie and not is_proven:
            self._send_back(control, now)
            return
        if office.is_full:
            full = Refusal(Reason.LIMIT, office.half_open + 1, office.half_open_refuse, 1000)
            self._reset_unknown(number, full)
            return
        if options.msp is not None:
            self.peer_msp = options.msp
        self._peer_top = max(self._peer_top, number)
        flow = SourceFlow(self, number)
        self._flows[number] = flow
        octets = whole_segment(raw)
        if options.ticket is None or not flow.resume(now, control, octets):
            flow.fire(Cause.SYN, now, control, octets)

    # PTCP-4-08
    def _has_cookie(self, control: Control, now: Instant) -> bool:
        """Return whether a SYN carries the cookie that it was given."""
        bare = _bare(control)
        return self.office.has_cookie(control.options.cookie, self.peer, control.flow, bare, now)

    # PTCP-4-08
    def _send_back(self, control: Control, now: Instant) -> None:
        """Give a SYN its cookie and forget all of it but the identifier."""
        number = control.flow
        cookie = self.office.cookie(self.peer, number, _bare(control), now)
        # PTCP-2.1-06
        self._sent_back = (*self._sent_back, number)[-SENT_BACK_MAX:]
        self.send(encode_segment(CookieSegment(number, 0, cookie)), negotiation=True)

    def _take_probe(self, probe: MaintainProbe, now: Instant) -> None:
        """Answer a probe at once; an answer renews every lease. PTCP-5-01, PTCP-5-02."""
        if not probe.nonce and not probe.echo:
            return
        if self._liveness is None:
            self._liveness = Liveness(self.interval_ms, self.misses, now)
        if probe.nonce:
            # PTCP-5-01
            self._liveness.answer(self, probe)
        if not probe.echo:
            return
        sent = self._liveness.echoed(self, probe.echo)
        # PTCP-5-02
        if sent is not None:
            for flow in list(self._flows.values()):
                flow.renew(sent, now)

    # --- limits and endings ------------------------------------------------------------------

    def send_control(self, octets: bytes) -> None:
        """Queue a segment that answers the peer unasked: bounded by CONTROL_QUEUE_MAX, R4."""
        self._control_octets += len(octets)
        self.queued += len(octets)
        self._put_ahead(octets)

    # PTCP-13-02
    def _is_churn(self, now: Instant) -> bool:
        """Count an opening or a stray reset of the peer; whether it was one too many a second."""
        times, limit = self._churn, self.config.churn_per_s
        times.append(now)
        if len(times) <= limit or now - times.pop(0) >= NS_PER_S:
            return False
        refusal = Refusal(Reason.CHURN, limit + 1, limit)
        self.send(encode_segment(Alert(0, 0, 3, Options(reason=refusal))))
        self._fail(refusal, now)
        return True

    def _check_queue(self, now: Instant) -> None:
        """End the connection when a peer that does not read makes too much wait. PTCP-9-04."""
        # PTCP-9-04
        if self._control_octets > CONTROL_QUEUE_MAX:
            self._fail(Refusal(Reason.LIMIT, self._control_octets, CONTROL_QUEUE_MAX), now)
        elif self._negotiations > NEGOTIATION_QUEUE_MAX:
            self._fail(Refusal(Reason.LIMIT, self._negotiations, NEGOTIATION_QUEUE_MAX), now)

    def _fail(self, refusal: Refusal, now: Instant) -> None:
        """The connection is over for `refusal`: RST on flow 0, budgets are released."""
        if self._terminated:
            return
        self.send(encode_segment(Control(0, Flag.RST, 0, Options(reason=refusal))))
        self._end_all(refusal, now)

    def _end_all(self, refusal: Refusal | None, now: Instant) -> None:
        self._terminated = True
        for flow in list(self._flows.values()):
            flow.end(refusal, reset=False)
        self._terminate(refusal)

    def _terminate(self, refusal: Refusal | None) -> None:
        self._terminated = True
        self._syn_deadline = self._liveness = None
        self.moved = True
        self.emit(ConnectionTerminated(refusal=refusal))
