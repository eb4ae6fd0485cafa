"""What the segments say: one value per segment type (PoTCP section 2.2).

The three that pass by the thousand, Data, Credit and MaintainProbe, are slotted but not frozen.
"""

from dataclasses import dataclass

from powertcp.wire.buffer import Buffer
from powertcp.wire.options import NO_OPTIONS, Options

# CREDIT.demand: the contract's maximum
DEMAND_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Control:
    """CTL: opens, accepts, closes or resets. flags: one of `CTL_COMBINATIONS`."""

    flow: int
    flags: int
    esn: int = 0
    options: Options = NO_OPTIONS


@dataclass(slots=True)
class Data:
    """DATA: a block of samples. esn: energy delivered before it, uJ. ece: the feeder is congested.

    payload: a view of the receive buffer, or the octets to send.
    """

    flow: int
    esn: int
    ece: bool
    payload: Buffer


@dataclass(slots=True)
class Credit:
    """CREDIT: deliver up to limit_uj (absolute ESN) at demand_mw. cwr: demand was reduced."""

    flow: int
    esn: int
    limit_uj: int
    demand_mw: int = DEMAND_MAX
    cwr: bool = False


@dataclass(slots=True)
class MaintainProbe:
    """MAINTAIN: a probe (nonce != 0) or the answer to one (echo = its nonce). time_ns: Unix time."""

    nonce: int
    echo: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Blocked:
    """BLOCKED: the source waits for credit beyond limit_uj."""

    flow: int
    esn: int
    limit_uj: int


@dataclass(frozen=True, slots=True)
class Ready:
    """READY: the contract named in the options is in force."""

    flow: int
    esn: int
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class Reneg:
    """RENEG: proposes other terms."""

    flow: int
    esn: int
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class Answer:
    """ANSWER: accepts or rejects the proposal whose contract number the options name."""

    flow: int
    esn: int
    accepted: bool
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class Shed:
    """SHED: a lower ceiling from the deadline on. urgent: at once. restore_s: 0 = not known."""

    flow: int
    esn: int
    urgent: bool
    deadline_ms: int
    restore_s: int = 0
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class Trip:
    """TRIP: a protection limit was passed; the REASON says which."""

    flow: int
    esn: int
    options: Options = NO_OPTIONS
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """RECEIPT: one page of a receipt, 380 octets."""

    flow: int
    esn: int
    page: bytes
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class Ticket:
    """TICKET: an opaque resume ticket of 1..230 octets and how long it lasts, s."""

    flow: int
    esn: int
    lifetime_s: int
    ticket: bytes


@dataclass(frozen=True, slots=True)
class CookieSegment:
    """COOKIE: 32 octets to be repeated in the SYN."""

    flow: int
    esn: int
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Alert:
    """ALERT: something to know. severity: 1 info, 2 warning, 3 critical."""

    flow: int
    esn: int
    severity: int
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class Sealed:
    """SEALED: encrypted segments, or a message of the handshake (SYN, SYN+ACK, ACK)."""

    flow: int
    flags: int
    esn: int
    options: Options
    payload: bytes


@dataclass(frozen=True, slots=True)
class FeedSegment:
    """FEED: a block of a broadcast, or its signatures (PSH), or a subscription."""

    flow: int
    flags: int
    esn: int
    options: Options
    payload: bytes


Segment = (
    Control
    | Data
    | Credit
    | Blocked
    | Ready
    | Reneg
    | Answer
    | Shed
    | Trip
    | MaintainProbe
    | Receipt
    | Ticket
    | CookieSegment
    | Alert
    | Sealed
    | FeedSegment
)
