"""The state tables of sink and source (protocol section 9), and nothing else.

A table maps (state, cause) to (action, next state). A pair that is not listed is a protocol error
(PTCP-9-08). `Flow.fire` is the only reader; an action is the name of a method of the flow.
"""

from enum import Enum, auto
from typing import Final


class _Member(Enum):
    """A value that is its own key: the tables are looked up for every segment."""

    __hash__ = object.__hash__


class Sink(_Member):
    """States of a consumer's end of a flow."""

    CLOSED = auto()
    SYN_SENT = auto()
    OFFERED = auto()
    LATCHED = auto()
    ENERGISED = auto()
    RENEG_SENT = auto()
    AWAIT_READY = auto()
    FIN_SENT = auto()
    TRIPPED = auto()
    SETTLING = auto()


class Source(_Member):
    """States of a provider's end of a flow; budget is held in all but LISTEN (PTCP-9-05)."""

    LISTEN = auto()
    OFFERED = auto()
    RAMPING = auto()
    ENERGISED = auto()
    SHED_SENT = auto()
    RENEG_SENT = auto()
    FIN_SENT = auto()
    TRIPPED = auto()
    HELD = auto()
    SETTLING = auto()


State = Sink | Source


class Cause(_Member):
    """What can happen to a flow: a segment came, a verb was called, time ran out."""

    # verbs
    OPEN = auto()
    ACCEPT = auto()
    DECLINE = auto()
    PROPOSE = auto()
    AGREE = auto()
    REJECT = auto()
    CLOSE = auto()
    VIOLATION = auto()
    GRANT = auto()
    COUNTER = auto()
    REFUSE = auto()
    STABLE = auto()
    SHED_NOW = auto()
    LOWER = auto()
    RESUMED = auto()
    COUNTERSIGN = auto()
    DISPUTE = auto()
    # segments
    SYN = auto()
    COOKIE = auto()
    SYN_ACK = auto()
    ACK = auto()
    READY = auto()
    DATA = auto()
    CREDIT = auto()
    BLOCKED = auto()
    RENEG = auto()
    ANSWER_ACCEPT = auto()
    ANSWER_REJECT = auto()
    SHED = auto()
    TRIP = auto()
    FIN = auto()
    FIN_ACK = auto()
    RST = auto()
    TICKET = auto()
    ALERT = auto()
    RECEIPT = auto()
    # the same segments while the last page lacks a signature, PTCP-13-01
    FIN_OWED = auto()
    TRIP_OWED = auto()
    SETTLED = auto()
    # time and the path
    TIMEOUT = auto()
    LAPSE = auto()
    CUT = auto()


# what the owner of a flow calls; all other causes come from the peer or the clock
VERBS: Final = frozenset(
    {
        Cause.OPEN,
        Cause.ACCEPT,
        Cause.DECLINE,
        Cause.PROPOSE,
        Cause.AGREE,
        Cause.REJECT,
        Cause.CLOSE,
        Cause.GRANT,
        Cause.COUNTER,
        Cause.REFUSE,
        Cause.STABLE,
        Cause.SHED_NOW,
        Cause.LOWER,
        Cause.COUNTERSIGN,
        Cause.DISPUTE,
    }
)

Table = dict[tuple[State, Cause], tuple[str, State]]


def _rows(states: list[State], cause: Cause, action: str, after: State | None) -> Table:
    """Return the same row for several states; `after` None keeps the state."""
    return {(state, cause): (action, after or state) for state in states}


_SINK_LIVE: list[State] = [Sink.ENERGISED, Sink.RENEG_SENT, Sink.AWAIT_READY]
_SINK_OPENING: list[State] = [Sink.SYN_SENT, Sink.OFFERED, Sink.LATCHED]
_SINK_ENDING: list[State] = [Sink.FIN_SENT, Sink.TRIPPED]
_SINK_ANY = _SINK_OPENING + _SINK_LIVE + _SINK_ENDING
_SINK_PAGED: list[State] = [*_SINK_LIVE, *_SINK_ENDING, Sink.SETTLING]

# PTCP-9-08
SINK: Table = {
    (Sink.CLOSED, Cause.OPEN): ("send_syn", Sink.SYN_SENT),
    (Sink.SYN_SENT, Cause.COOKIE): ("repeat_syn", Sink.SYN_SENT),
    (Sink.SYN_SENT, Cause.SYN_ACK): ("weigh", Sink.OFFERED),
    (Sink.OFFERED, Cause.ACCEPT): ("latch", Sink.LATCHED),
    (Sink.OFFERED, Cause.DECLINE): ("decline", Sink.CLOSED),
    (Sink.LATCHED, Cause.READY): ("energise", Sink.ENERGISED),
    (Sink.ENERGISED, Cause.PROPOSE): ("propose", Sink.RENEG_SENT),
    (Sink.RENEG_SENT, Cause.ANSWER_ACCEPT): ("accepted", Sink.AWAIT_READY),
    (Sink.RENEG_SENT, Cause.ANSWER_REJECT): ("rejected", Sink.ENERGISED),
    (Sink.AWAIT_READY, Cause.READY): ("energise", Sink.ENERGISED),
    (Sink.AWAIT_READY, Cause.ANSWER_REJECT): ("rejected", Sink.AWAIT_READY),
    (Sink.ENERGISED, Cause.ANSWER_REJECT): ("rejected", Sink.ENERGISED),
    **_rows([Sink.ENERGISED, Sink.RENEG_SENT], Cause.SHED, "yield_power", Sink.AWAIT_READY),
    **_rows([Sink.ENERGISED, Sink.RENEG_SENT], Cause.RENEG, "consider", None),
    **_rows([Sink.ENERGISED, Sink.RENEG_SENT], Cause.AGREE, "agree", Sink.AWAIT_READY),
    **_rows([Sink.ENERGISED, Sink.RENEG_SENT], Cause.REJECT, "reject", None),
    **_rows(_SINK_LIVE, Cause.DATA, "bank", None),
    **_rows(_SINK_LIVE, Cause.BLOCKED, "note_blocked", None),
    **_rows(_SINK_LIVE, Cause.TICKET, "keep_ticket", None),
    **_rows([Sink.LATCHED, *_SINK_LIVE], Cause.LAPSE, "lapse", None),
    **_rows(_SINK_LIVE, Cause.CLOSE, "send_fin", Sink.FIN_SENT),
    **_rows(_SINK_LIVE, Cause.VIOLATION, "send_trip", Sink.TRIPPED),
    # PTCP-4-05
    **_rows([Sink.OFFERED, Sink.LATCHED], Cause.DATA, "unsolicited", Sink.TRIPPED),
    **_rows(_SINK_OPENING, Cause.CLOSE, "decline", Sink.CLOSED),
    **_rows([Sink.FIN_SENT], Cause.DATA, "bank", None),
    **_rows([Sink.FIN_SENT], Cause.VIOLATION, "send_trip", Sink.TRIPPED),
    **_rows([Sink.TRIPPED], Cause.DATA, "heat", None),
    **{
        (state, cause): ("drop", state)
        for state in _SINK_ENDING
        for cause in (
            Cause.RENEG,
            Cause.SHED,
            Cause.ANSWER_ACCEPT,
            Cause.ANSWER_REJECT,
            Cause.BLOCKED,
            Cause.TICKET,
        )
    },
    **_rows(_SINK_ENDING, Cause.READY, "note_ready", None),
    **_rows(_SINK_ENDING, Cause.FIN_ACK, "finish", Sink.CLOSED),
    **_rows([*_SINK_ANY, Sink.SETTLING], Cause.ALERT, "note_alert", None),
    **_rows(_SINK_ANY, Cause.FIN, "answer_fin", Sink.CLOSED),
    **_rows([*_SINK_ANY, Sink.SETTLING], Cause.RST, "take_reset", Sink.CLOSED),
    **_rows(_SINK_ANY, Cause.TRIP, "take_trip", Sink.CLOSED),
    **_rows([*_SINK_ANY, Sink.SETTLING], Cause.CUT, "cut", Sink.CLOSED),
    # PTCP-13-01
    **_rows(_SINK_PAGED, Cause.RECEIPT, "take_page", None),
    **_rows([*_SINK_OPENING, *_SINK_PAGED], Cause.COUNTERSIGN, "countersign", None),
    **_rows(_SINK_PAGED, Cause.DISPUTE, "dispute", None),
    **_rows(_SINK_LIVE + _SINK_ENDING, Cause.FIN_OWED, "settle", Sink.SETTLING),
    **_rows(_SINK_LIVE + _SINK_ENDING, Cause.TRIP_OWED, "settle_trip", Sink.SETTLING),
    (Sink.SETTLING, Cause.DATA): ("heat", Sink.SETTLING),
    (Sink.SETTLING, Cause.SETTLED): ("answer_late", Sink.CLOSED),
    (Sink.SETTLING, Cause.TIMEOUT): ("answer_late", Sink.CLOSED),
    (Sink.SETTLING, Cause.FIN_ACK): ("finish", Sink.CLOSED),
    **_rows(_SINK_ANY, Cause.TIMEOUT, "time_out", Sink.CLOSED),
}

_POWERED: list[State] = [Source.ENERGISED, Source.SHED_SENT, Source.RENEG_SENT]
_SOURCE_OPENING: list[State] = [Source.OFFERED, Source.RAMPING]
_SOURCE_ENDING: list[State] = [Source.FIN_SENT, Source.TRIPPED]
_SOURCE_WIRED = _SOURCE_OPENING + _POWERED + _SOURCE_ENDING
_SOURCE_PAGED: list[State] = [*_POWERED, *_SOURCE_ENDING, Source.SETTLING]

SOURCE: Table = {
    (Source.LISTEN, Cause.SYN): ("ask_owner", Source.LISTEN),
    (Source.LISTEN, Cause.GRANT): ("offer", Source.OFFERED),
    (Source.LISTEN, Cause.COUNTER): ("offer", Source.OFFERED),
    (Source.LISTEN, Cause.REFUSE): ("refuse", Source.LISTEN),
    (Source.LISTEN, Cause.RST): ("abandon", Source.LISTEN),
    (Source.LISTEN, Cause.CUT): ("abandon", Source.LISTEN),
    (Source.LISTEN, Cause.CLOSE): ("refuse", Source.LISTEN),
    (Source.OFFERED, Cause.ACK): ("latch", Source.RAMPING),
    (Source.OFFERED, Cause.TIMEOUT): ("time_out", Source.LISTEN),
    (Source.RAMPING, Cause.STABLE): ("energise", Source.ENERGISED),
    (Source.RAMPING, Cause.TIMEOUT): ("time_out", Source.LISTEN),
    **_rows(_SOURCE_OPENING, Cause.CLOSE, "refuse", Source.LISTEN),
    (Source.ENERGISED, Cause.RENEG): ("consider", Source.ENERGISED),
    (Source.ENERGISED, Cause.AGREE): ("agree", Source.ENERGISED),
    (Source.ENERGISED, Cause.REJECT): ("reject", Source.ENERGISED),
    (Source.ENERGISED, Cause.SHED_NOW): ("send_shed", Source.SHED_SENT),
    (Source.ENERGISED, Cause.PROPOSE): ("propose", Source.RENEG_SENT),
    (Source.ENERGISED, Cause.ANSWER_ACCEPT): ("late_answer", Source.ENERGISED),
    (Source.ENERGISED, Cause.LOWER): ("lower", Source.ENERGISED),
    # PTCP-7-09
    (Source.ENERGISED, Cause.TIMEOUT): ("time_out", Source.LISTEN),
    (Source.SHED_SENT, Cause.ANSWER_ACCEPT): ("shed_answered", Source.ENERGISED),
    (Source.SHED_SENT, Cause.TIMEOUT): ("shed_deadline", Source.ENERGISED),
    (Source.RENEG_SENT, Cause.ANSWER_ACCEPT): ("proposal_accepted", Source.ENERGISED),
    (Source.RENEG_SENT, Cause.ANSWER_REJECT): ("proposal_rejected", Source.ENERGISED),
    (Source.RENEG_SENT, Cause.TIMEOUT): ("time_out", Source.LISTEN),
    # PTCP-9-07
    **_rows([Source.SHED_SENT, Source.RENEG_SENT], Cause.RENEG, "consider", None),
    **_rows(_POWERED, Cause.CREDIT, "take_credit", None),
    **_rows([Source.RAMPING], Cause.CREDIT, "take_credit", None),
    **_rows([Source.HELD], Cause.TIMEOUT, "grace_over", Source.LISTEN),
    **_rows([Source.HELD], Cause.RESUMED, "hand_over", Source.LISTEN),
    **_rows([Source.HELD], Cause.LAPSE, "lapse_reset", Source.LISTEN),
    **_rows([Source.HELD], Cause.CLOSE, "grace_over", Source.LISTEN),
    **_rows(_POWERED, Cause.RESUMED, "hand_over", Source.LISTEN),
    # PTCP-5-04
    **_rows(_POWERED, Cause.LAPSE, "lapse_reset", Source.LISTEN),
    **_rows(_POWERED, Cause.CLOSE, "send_fin", Source.FIN_SENT),
    **_rows(_POWERED, Cause.VIOLATION, "send_trip", Source.TRIPPED),
    **{
        (state, cause): ("drop", state)
        for state in (*_SOURCE_ENDING, Source.SETTLING)
        for cause in (Cause.ANSWER_ACCEPT, Cause.ANSWER_REJECT, Cause.RENEG, Cause.CREDIT)
    },
    **_rows(_SOURCE_ENDING, Cause.FIN_ACK, "finish", Source.LISTEN),
    **_rows(_SOURCE_ENDING, Cause.TIMEOUT, "time_out", Source.LISTEN),
    **_rows([*_SOURCE_WIRED, Source.SETTLING], Cause.ALERT, "note_alert", None),
    **_rows([Source.LISTEN, *_SOURCE_WIRED], Cause.FIN, "answer_fin", Source.LISTEN),
    **_rows([Source.LISTEN, *_SOURCE_WIRED], Cause.TRIP, "take_trip", Source.LISTEN),
    **_rows([*_SOURCE_WIRED, Source.SETTLING], Cause.RST, "take_reset", Source.LISTEN),
    **_rows(
        [*_SOURCE_OPENING, *_SOURCE_ENDING, Source.SETTLING], Cause.CUT, "abandon", Source.LISTEN
    ),
    # PTCP-13-01
    **_rows(_SOURCE_PAGED, Cause.RECEIPT, "take_copy", None),
    **_rows(_POWERED + _SOURCE_ENDING, Cause.FIN_OWED, "settle", Source.SETTLING),
    **_rows(_SOURCE_PAGED, Cause.TRIP_OWED, "settle_trip", Source.SETTLING),
    (Source.SETTLING, Cause.SETTLED): ("answer_late", Source.LISTEN),
    (Source.SETTLING, Cause.TIMEOUT): ("answer_late", Source.LISTEN),
    (Source.SETTLING, Cause.FIN_ACK): ("finish", Source.LISTEN),
    # PTCP-10-02
    **_rows(_POWERED, Cause.CUT, "hold", Source.HELD),
}

__all__ = ["SINK", "SOURCE", "Cause", "Sink", "Source", "State", "Table"]
