"""Segments: the 20-octet header, the splitter of a stream, the codec of each segment type.

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------------------------------+---------------+---------------+
|       magic 0x504F "PO"       |   version 1   |  data offset  |   in 32-bit words, 5..133
+---------------+---------------+---------------+---------------+
|     type      |     flags     |        payload length         |   0..65535, cap: MSP
+---------------+---------------+-------------------------------+
|                        flow identifier                        |
+---------------------------------------------------------------+
|              energy sequence number (ESN), 64 bits            |
|                                                               |
+---------------------------------------------------------------+
|  options, zero-padded to a multiple of 4   |  payload ...     |
```
PoTCP sections 2.1 and 2.2.
"""

from collections.abc import Callable
from struct import Struct
from struct import error as struct_error
from typing import Any

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.registry import Flag, Reason, SegmentType
from powertcp.wire.buffer import Buffer
from powertcp.wire.options import decode_options, encode_options, walk_options
from powertcp.wire.segments import (
    DEMAND_MAX,
    Alert,
    Answer,
    Blocked,
    Control,
    CookieSegment,
    Credit,
    Data,
    FeedSegment,
    MaintainProbe,
    Ready,
    Receipt,
    Reneg,
    Sealed,
    Segment,
    Shed,
    Ticket,
    Trip,
)

__all__ = [
    "CTL_COMBINATIONS",
    "CTL_FLAGS",
    "DEFAULT_MSP",
    "DEMAND_MAX",
    "HEADER",
    "HEADER_OCTETS",
    "MAX_MSP",
    "MAX_WORDS",
    "Alert",
    "Answer",
    "Blocked",
    "Control",
    "CookieSegment",
    "Credit",
    "Data",
    "FeedSegment",
    "MaintainProbe",
    "RawSegment",
    "Ready",
    "Receipt",
    "Reneg",
    "Sealed",
    "Segment",
    "Shed",
    "Splitter",
    "Ticket",
    "Trip",
    "check_header",
    "credit_segment",
    "data_header",
    "decode_segment",
    "encode_segment",
    "maintain_segment",
    "pack_segment",
    "read_credit",
    "whole_segment",
]

MAGIC = 0x504F
VERSION = 1
HEADER = Struct(">HBBBBHIQ")
HEADER_OCTETS = 20
MIN_WORDS = 5
# 20 octets of header and 512 of options (PTCP-2.3-03)
MAX_WORDS = 133
# PTCP-2.3-03: what a receiver takes unless its MSP option says otherwise
DEFAULT_MSP = 16384
MAX_MSP = 65535
RECEIPT_OCTETS = 380
COOKIE_OCTETS = 32
TICKET_OCTETS = 230

# type, flags, flow, ESN, options, payload; the views die with the caller's buffer
RawSegment = tuple[int, int, int, int, memoryview, memoryview]

# the first four octets of a header as one number: magic, version, data offset
_FAST = Struct(">IBBHIQ")
_PLAIN = MAGIC << 16 | VERSION << 8 | MIN_WORDS
_VERSIONED = MAGIC << 8 | VERSION
_NOTHING = memoryview(b"")
_unpack = _FAST.unpack_from
_pack = HEADER.pack
_CREDIT = Struct(">QQ")
_CREDIT_WHOLE = Struct(">HBBBBHIQQQ")
_MAINTAIN = Struct(">IIQ")
_MAINTAIN_WHOLE = Struct(">HBBBBHIQIIQ")
_BLOCKED = Struct(">Q")
_SHED = Struct(">II")
_TICKET_HEAD = Struct(">I")

CTL_FLAGS = int(Flag.FIN | Flag.SYN | Flag.RST | Flag.ACK)
_SEALED_FLAGS = Flag.SYN | Flag.ACK | Flag.ECE
_FEED_FLAGS = Flag.SYN | Flag.ACK | Flag.FIN | Flag.PSH | Flag.ECE
# PTCP-2.2-03
CTL_COMBINATIONS = frozenset(
    int(flags)
    for flags in (
        Flag.SYN,
        Flag.SYN | Flag.ACK,
        Flag.ACK,
        Flag.FIN,
        Flag.FIN | Flag.ACK,
        Flag.RST,
    )
)


def check_header(head: int, length: int, msp: int) -> None:
    """Raise DecodeError unless a header may be followed; PTCP-2.1-03.

    head: its first four octets. length: payload length, or 0 if not known yet. msp: the cap.
    """
    words = head & 0xFF
    # PTCP-2.1-03
    if head >> 16 != MAGIC:
        raise DecodeError(0, "magic", Reason.BAD_MAGIC, head >> 16, MAGIC)
    if head >> 8 != _VERSIONED:
        raise DecodeError(2, "version", Reason.BAD_VERSION, head >> 8 & 0xFF, VERSION)
    if words < MIN_WORDS:
        raise DecodeError(3, "data offset", Reason.BAD_LENGTH, words, MIN_WORDS)
    # PTCP-2.3-03
    if words > MAX_WORDS:
        raise DecodeError(3, "data offset", Reason.LIMIT, words, MAX_WORDS)
    if length > msp:
        raise DecodeError(6, "payload length", Reason.LIMIT, length, msp)


class Splitter:
    """Cuts a stream of octets into raw segments.

    msp: greatest payload taken, octets; may be changed between two calls.
    error: why framing broke, or None; it never heals (PTCP-2.1-03).
    """

    __slots__ = ("_kept", "_need", "error", "msp")

    def __init__(self, msp: int = DEFAULT_MSP) -> None:
        """Start at the first octet of a stream."""
        self.msp = msp
        self.error: DecodeError | None = None
        self._kept: bytearray | None = None
        self._need = HEADER_OCTETS

    @property
    def pending(self) -> int:
        """Octets kept of a segment that is not complete: at most 532 + msp."""
        return 0 if self._kept is None else len(self._kept)

    def receive(self, data: Buffer) -> list[RawSegment]:
        """Return the segments that `data` completes, in order.

        Their views lie in `data` (that of a cut segment in a copy): drop them before `data` is
        changed. After a framing fault the segments before it are returned, `error` is set, and
        every later call returns nothing.
        """
        if self.error is not None:
            return []
        view = memoryview(data)
        size = len(view)
        if size >= HEADER_OCTETS and self._kept is None:
            # one whole segment without options, as most reads of a quiet connection bring
            head, kind, flags, length, flow, esn = _unpack(view)
            if head == _PLAIN and length == size - HEADER_OCTETS and length <= self.msp:
                return [(kind, flags, flow, esn, _NOTHING, view[HEADER_OCTETS:])]
        found: list[RawSegment] = []
        at = 0
        try:
            if self._kept is not None:
                at = self._complete(self._kept, view, found)
            if at >= 0:
                self._split(view, at, found)
        except DecodeError as error:
            # PTCP-2.1-03
            self.error = error.with_traceback(None)
            self._kept = None
        return found

    def _split(self, view: memoryview, at: int, found: list[RawSegment]) -> None:
        """Append the segments of `view` from `at` on, keep the octets of one that is cut."""
        size = len(view)
        last = size - HEADER_OCTETS
        msp = self.msp
        append = found.append
        while at <= last:
            head, kind, flags, length, flow, esn = _unpack(view, at)
            body = at + HEADER_OCTETS
            if head == _PLAIN and length <= msp:
                end = body + length
                if end > size:
                    break
                append((kind, flags, flow, esn, _NOTHING, view[body:end]))
            else:
                check_header(head, length, msp)
                start = at + ((head & 0xFF) << 2)
                end = start + length
                if end > size:
                    break
                append((kind, flags, flow, esn, view[body:start], view[start:end]))
            at = end
        if at < size:
            self._keep(view[at:])

    def _keep(self, view: memoryview) -> None:
        """Copy the octets of a cut segment, after what is known of its header was checked."""
        self._need = HEADER_OCTETS
        self._check_kept(view)
        self._kept = bytearray(view)

    def _check_kept(self, view: Buffer) -> None:
        """Check as much of a header as `view` holds and note the length of the whole segment."""
        size = len(view)
        if size >= HEADER_OCTETS:
            head, _, _, length, _, _ = _unpack(view, 0)
            check_header(head, length, self.msp)
            self._need = ((head & 0xFF) << 2) + length
        elif size >= 4:
            check_header(int.from_bytes(view[:4], "big"), 0, self.msp)

    def _complete(self, kept: bytearray, view: memoryview, found: list[RawSegment]) -> int:
        """Complete the segment that was `kept` from `view`.

        Returns the offset of the next segment, or -1 if all of `view` was kept.
        """
        at = 0
        while len(kept) < self._need:
            if at == len(view):
                return -1
            part = view[at : at + self._need - len(kept)]
            kept += part
            at += len(part)
            if self._need == HEADER_OCTETS:
                self._check_kept(kept)
        self._kept = None
        self._split(memoryview(kept), 0, found)
        return at


# --- decoding ---------------------------------------------------------------------------------


def _length(raw: RawSegment, octets: int) -> memoryview:
    """Return the payload if it has `octets` octets. PTCP-2.2-02."""
    payload = raw[5]
    if len(payload) != octets:
        raise DecodeError(6, "payload length", Reason.BAD_LENGTH, len(payload), octets)
    return payload


def _decode_control(raw: RawSegment) -> Control:
    flags = raw[1] & CTL_FLAGS
    if flags not in CTL_COMBINATIONS:  # PTCP-2.1-04
        raise DecodeError(5, "flags", Reason.STATE, raw[1])
    if raw[5]:
        _length(raw, 0)
    return Control(raw[2], flags, raw[3], decode_options(raw[4]))


def _decode_data(raw: RawSegment) -> Data:
    _, flags, flow, esn, options, payload = raw
    size = len(payload)
    if size < 16 or size & 7:  # PTCP-2.2-02
        raise DecodeError(6, "payload length", Reason.BAD_LENGTH, size, 16)
    if options:
        walk_options(options)
    # PTCP-2.1-04
    return Data(flow, esn, flags & 0x40 != 0, payload)


def _decode_credit(raw: RawSegment) -> Credit:
    limit_uj, demand_mw = _CREDIT.unpack(_length(raw, 16))
    if raw[4]:
        walk_options(raw[4])
    return Credit(raw[2], raw[3], limit_uj, demand_mw, raw[1] & 0x80 != 0)


def read_credit(raw: RawSegment) -> tuple[int, int, bool] | None:
    """Return (limit_uj, demand_mw, cwr) of a CREDIT without options, None to decode in full."""
    if raw[4] or len(raw[5]) != _CREDIT.size:
        return None
    limit_uj, demand_mw = _CREDIT.unpack(raw[5])
    return limit_uj, demand_mw, raw[1] & 0x80 != 0


def _decode_blocked(raw: RawSegment) -> Blocked:
    (limit_uj,) = _BLOCKED.unpack(_length(raw, 8))
    walk_options(raw[4])
    return Blocked(raw[2], raw[3], limit_uj)


def _decode_ready(raw: RawSegment) -> Ready:
    _length(raw, 0)
    return Ready(raw[2], raw[3], decode_options(raw[4]))


def _decode_reneg(raw: RawSegment) -> Reneg:
    _length(raw, 0)
    return Reneg(raw[2], raw[3], decode_options(raw[4]))


def _decode_answer(raw: RawSegment) -> Answer:
    verdict = _length(raw, 1)[0]
    options = decode_options(raw[4])
    if verdict > 1:
        raise DecodeError(len(raw[4]) + HEADER_OCTETS, "verdict", Reason.STATE, verdict, 1)
    return Answer(raw[2], raw[3], verdict == 0, options)


def _decode_shed(raw: RawSegment) -> Shed:
    deadline_ms, restore_s = _SHED.unpack(_length(raw, 8))
    options = decode_options(raw[4])
    return Shed(raw[2], raw[3], raw[1] & 0x20 != 0, deadline_ms, restore_s, options)


def _decode_trip(raw: RawSegment) -> Trip:
    _length(raw, 0)
    return Trip(raw[2], raw[3], decode_options(raw[4]), raw[1] & 0x20 != 0)


def _decode_maintain(raw: RawSegment) -> MaintainProbe:
    payload = _length(raw, 16)
    if raw[2]:  # PTCP-2.2-03
        raise DecodeError(8, "flow identifier", Reason.STATE, raw[2])
    if raw[4]:
        walk_options(raw[4])
    nonce, echo, time_ns = _MAINTAIN.unpack(payload)
    return MaintainProbe(nonce, echo, time_ns)


def _decode_receipt(raw: RawSegment) -> Receipt:
    page = bytes(_length(raw, RECEIPT_OCTETS))
    return Receipt(raw[2], raw[3], page, decode_options(raw[4]))


def _decode_ticket(raw: RawSegment) -> Ticket:
    payload = bytes(raw[5])
    if not 5 <= len(payload) <= 4 + TICKET_OCTETS:  # PTCP-2.2-02
        limit = 5 if len(payload) < 5 else 4 + TICKET_OCTETS
        raise DecodeError(6, "payload length", Reason.BAD_LENGTH, len(payload), limit)
    walk_options(raw[4])
    (lifetime_s,) = _TICKET_HEAD.unpack_from(payload)
    return Ticket(raw[2], raw[3], lifetime_s, payload[4:])


def _decode_cookie(raw: RawSegment) -> CookieSegment:
    cookie = bytes(_length(raw, COOKIE_OCTETS))
    walk_options(raw[4])
    return CookieSegment(raw[2], raw[3], cookie)


def _decode_alert(raw: RawSegment) -> Alert:
    severity = _length(raw, 1)[0]
    options = decode_options(raw[4])
    if not 1 <= severity <= 3:
        raise DecodeError(len(raw[4]) + HEADER_OCTETS, "severity", Reason.STATE, severity, 3)
    return Alert(raw[2], raw[3], severity, options)


def _decode_sealed(raw: RawSegment) -> Sealed:
    options = decode_options(raw[4])
    return Sealed(raw[2], raw[1] & _SEALED_MASK, raw[3], options, bytes(raw[5]))


def _decode_feed(raw: RawSegment) -> FeedSegment:
    options = decode_options(raw[4])
    return FeedSegment(raw[2], raw[1] & _FEED_MASK, raw[3], options, bytes(raw[5]))


def _refuse_type(raw: RawSegment) -> None:
    # PTCP-2.2-01
    raise DecodeError(4, "type", Reason.UNSUPPORTED_TYPE, raw[0])


def _skip_type(_: RawSegment) -> None:
    # PTCP-2.2-01
    return None


_SEALED_MASK = int(_SEALED_FLAGS)
_FEED_MASK = int(_FEED_FLAGS)
# PTCP-2.2-03
_KNOWN: dict[int, Callable[[RawSegment], Segment | None]] = {
    SegmentType.CTL: _decode_control,
    SegmentType.DATA: _decode_data,
    SegmentType.CREDIT: _decode_credit,
    SegmentType.BLOCKED: _decode_blocked,
    SegmentType.READY: _decode_ready,
    SegmentType.RENEG: _decode_reneg,
    SegmentType.ANSWER: _decode_answer,
    SegmentType.SHED: _decode_shed,
    SegmentType.TRIP: _decode_trip,
    SegmentType.MAINTAIN: _decode_maintain,
    SegmentType.RECEIPT: _decode_receipt,
    SegmentType.TICKET: _decode_ticket,
    SegmentType.COOKIE: _decode_cookie,
    SegmentType.ALERT: _decode_alert,
    SegmentType.SEALED: _decode_sealed,
    SegmentType.FEED: _decode_feed,
}
_TABLE = tuple(_KNOWN.get(kind, _refuse_type if kind < 0x80 else _skip_type) for kind in range(256))


def decode_segment(raw: RawSegment) -> Segment | None:
    """Return the typed value of a raw segment; None for an unknown type that is to be skipped.

    Data keeps a view of the payload; everything else is copied.
    Raises DecodeError for the flow of the segment: 502, 503, 504, 505, 506, 508. Offsets count
    from the segment's first octet. Checked in this order: type, flags, payload length, SEALED
    and FEED payloads belong to their own rooms.
    """
    return _TABLE[raw[0]](raw)


# --- encoding ---------------------------------------------------------------------------------


def data_header(flow: int, esn: int, payload_octets: int, ece: bool = False) -> bytes:
    """Return the 20 octets before a DATA payload of `payload_octets`."""
    return _pack(MAGIC, VERSION, 5, 2, 0x40 if ece else 0, payload_octets, flow, esn)


def credit_segment(
    flow: int,
    esn: int,
    limit_uj: int,
    demand_mw: int = DEMAND_MAX,
    cwr: bool = False,
) -> bytes:
    """Return a whole CREDIT segment, 36 octets."""
    return _CREDIT_WHOLE.pack(
        MAGIC, VERSION, 5, 3, 0x80 if cwr else 0, 16, flow, esn, limit_uj, demand_mw
    )


def maintain_segment(nonce: int, echo: int, time_ns: int) -> bytes:
    """Return a whole MAINTAIN segment, 36 octets."""
    return _MAINTAIN_WHOLE.pack(MAGIC, VERSION, 5, 10, 0, 16, 0, 0, nonce, echo, time_ns)


def pack_segment(
    kind: int, flags: int, flow: int, esn: int, options: bytes, payload: Buffer
) -> bytes:
    """Return header, encoded options and payload; options are a multiple of 4 octets."""
    words = MIN_WORDS + (len(options) >> 2)
    head = _pack(MAGIC, VERSION, words, kind, flags, len(payload), flow, esn)
    return head + options + payload if payload else head + options


def whole_segment(raw: RawSegment) -> bytes:
    """Return the octets of a segment as they were received."""
    return pack_segment(raw[0], raw[1], raw[2], raw[3], bytes(raw[4]), bytes(raw[5]))


_URGENT = int(Flag.URG)


def _of_options(kind: int) -> Callable[[Any], bytes]:
    """Return the encoder of a type that is header and options."""

    def encode(it: Any) -> bytes:  # noqa: ANN401
        return pack_segment(kind, 0, it.flow, it.esn, encode_options(it.options), b"")

    return encode


def _encode_control(it: Control) -> bytes:
    area = encode_options(it.options)
    words = MIN_WORDS + (len(area) >> 2)
    return _pack(MAGIC, VERSION, words, 1, it.flags, 0, it.flow, it.esn) + area


def _encode_data(it: Data) -> bytes:
    return data_header(it.flow, it.esn, len(it.payload), it.ece) + it.payload


def _encode_credit(it: Credit) -> bytes:
    return credit_segment(it.flow, it.esn, it.limit_uj, it.demand_mw, it.cwr)


def _encode_blocked(it: Blocked) -> bytes:
    return pack_segment(4, 0, it.flow, it.esn, b"", _BLOCKED.pack(it.limit_uj))


def _encode_answer(it: Answer) -> bytes:
    verdict = b"\0" if it.accepted else b"\1"
    return pack_segment(7, 0, it.flow, it.esn, encode_options(it.options), verdict)


def _encode_shed(it: Shed) -> bytes:
    area, payload = encode_options(it.options), _SHED.pack(it.deadline_ms, it.restore_s)
    return pack_segment(8, _URGENT if it.urgent else 0, it.flow, it.esn, area, payload)


def _encode_trip(it: Trip) -> bytes:
    area = encode_options(it.options)
    return pack_segment(9, _URGENT if it.urgent else 0, it.flow, it.esn, area, b"")


def _encode_maintain(it: MaintainProbe) -> bytes:
    return maintain_segment(it.nonce, it.echo, it.time_ns)


def _fitting(octets: bytes, least: int, most: int) -> bytes:
    """Return octets of which a row of section 2.2 takes `least` to `most`."""
    if not least <= len(octets) <= most:
        raise LocalProtocolError(f"{len(octets)} octets where {least}..{most} fit")
    return octets


def _encode_receipt(it: Receipt) -> bytes:
    page = _fitting(it.page, RECEIPT_OCTETS, RECEIPT_OCTETS)
    return pack_segment(11, 0, it.flow, it.esn, encode_options(it.options), page)


def _encode_ticket(it: Ticket) -> bytes:
    payload = _TICKET_HEAD.pack(it.lifetime_s) + _fitting(it.ticket, 1, TICKET_OCTETS)
    return pack_segment(12, 0, it.flow, it.esn, b"", payload)


def _encode_cookie(it: CookieSegment) -> bytes:
    cookie = _fitting(it.cookie, COOKIE_OCTETS, COOKIE_OCTETS)
    return pack_segment(13, 0, it.flow, it.esn, b"", cookie)


def _encode_alert(it: Alert) -> bytes:
    if not 1 <= it.severity <= 3:
        raise LocalProtocolError(f"severity {it.severity} where 1..3 fit")
    area = encode_options(it.options)
    return pack_segment(14, 0, it.flow, it.esn, area, bytes((it.severity,)))


def _encode_outer(kind: int) -> Callable[[Any], bytes]:
    """Return the encoder of SEALED or FEED: flags, options and payload as they are."""

    def encode(it: Any) -> bytes:  # noqa: ANN401
        area = encode_options(it.options)
        return pack_segment(kind, it.flags, it.flow, it.esn, area, it.payload)

    return encode


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Control: _encode_control,
    Data: _encode_data,
    Credit: _encode_credit,
    Blocked: _encode_blocked,
    Ready: _of_options(5),
    Reneg: _of_options(6),
    Answer: _encode_answer,
    Shed: _encode_shed,
    Trip: _encode_trip,
    MaintainProbe: _encode_maintain,
    Receipt: _encode_receipt,
    Ticket: _encode_ticket,
    CookieSegment: _encode_cookie,
    Alert: _encode_alert,
    Sealed: _encode_outer(0x10),
    FeedSegment: _encode_outer(0x11),
}


def encode_segment(segment: Segment) -> bytes:
    """Return the octets of a whole segment.

    Raises LocalProtocolError when a value does not fit its field.
    """
    try:
        return _ENCODERS[type(segment)](segment)
    except struct_error as error:
        raise LocalProtocolError(f"{type(segment).__name__} does not fit: {error}") from error
