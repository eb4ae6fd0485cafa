"""What a received segment causes at a flow, and which segment type stands behind a cause."""

from powertcp.potcp.states import Cause
from powertcp.registry import Flag, SegmentType
from powertcp.wire.segments import (
    Alert,
    Blocked,
    CookieSegment,
    Credit,
    Ready,
    Receipt,
    Reneg,
    Shed,
    Ticket,
    Trip,
)

# segments of which the flow gets the options
OPTION_CAUSES: dict[type, Cause] = {
    Ready: Cause.READY,
    Reneg: Cause.RENEG,
    Trip: Cause.TRIP,
}
# segments that the flow gets whole
WHOLE_CAUSES: dict[type, Cause] = {
    Credit: Cause.CREDIT,
    Blocked: Cause.BLOCKED,
    Ticket: Cause.TICKET,
    CookieSegment: Cause.COOKIE,
    Alert: Cause.ALERT,
    Receipt: Cause.RECEIPT,
    Shed: Cause.SHED,
}
CTL_CAUSES: dict[int, Cause] = {
    int(Flag.SYN): Cause.SYN,
    int(Flag.SYN | Flag.ACK): Cause.SYN_ACK,
    int(Flag.ACK): Cause.ACK,
    int(Flag.FIN): Cause.FIN,
    int(Flag.FIN | Flag.ACK): Cause.FIN_ACK,
    int(Flag.RST): Cause.RST,
}
# PTCP-9-08: what RST 506 names; verbs and timers are no segments
TYPE_OF: dict[Cause, int] = {
    **{cause: int(SegmentType.CTL) for cause in CTL_CAUSES.values()},
    Cause.DATA: int(SegmentType.DATA),
    Cause.CREDIT: int(SegmentType.CREDIT),
    Cause.BLOCKED: int(SegmentType.BLOCKED),
    Cause.READY: int(SegmentType.READY),
    Cause.RENEG: int(SegmentType.RENEG),
    Cause.ANSWER_ACCEPT: int(SegmentType.ANSWER),
    Cause.ANSWER_REJECT: int(SegmentType.ANSWER),
    Cause.SHED: int(SegmentType.SHED),
    Cause.TRIP: int(SegmentType.TRIP),
    Cause.TICKET: int(SegmentType.TICKET),
    Cause.COOKIE: int(SegmentType.COOKIE),
    Cause.ALERT: int(SegmentType.ALERT),
    Cause.RECEIPT: int(SegmentType.RECEIPT),
    Cause.FIN_OWED: int(SegmentType.CTL),
    Cause.TRIP_OWED: int(SegmentType.TRIP),
}
