"""What the standard objects of RSVP say: one immutable value each, as MPLampS uses them.

MPLampS section 4.3. How they are written in octets is in `codec`. Addresses are IPv4.
"""

from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from powertcp.mplamps.power import ENTERPRISE

# MPLA-4.3-05: more hops than any path of a grid has
MAX_HOPS: Final = 32
# what fits into a message of 1472 octets
MAX_IDS: Final = 364
L3PID_IPV4: Final = 0x0800
LABEL_RECORDING: Final = 0x02
SE_DESIRED: Final = 0x04
IN_PLACE: Final = 0x01
STATE_REMOVED: Final = 0x04
PRIVATE_ERROR: Final = 252
MAX_NAME: Final = 255
MAX_EPOCH: Final = 0xFF_FFFF


class Class(IntEnum):
    """Classes of objects that have a place in a message of section 4.2."""

    SESSION = 1
    HOP = 3
    INTEGRITY = 4
    TIME = 5
    ERROR_SPEC = 6
    STYLE = 8
    FLOWSPEC = 9
    FILTER_SPEC = 10
    SENDER_TEMPLATE = 11
    TSPEC = 12
    RESV_CONFIRM = 15
    LABEL = 16
    LABEL_REQUEST = 19
    ERO = 20
    RRO = 21
    HELLO = 22
    MESSAGE_ID = 23
    MESSAGE_ID_ACK = 24
    MESSAGE_ID_LIST = 25
    UPSTREAM_LABEL = 35
    SESSION_ATTRIBUTE = 207
    PRIVATE = 252


# MPLA-4.3-01: SCOPE, ADSPEC, POLICY_DATA, RECOVERY_LABEL, LABEL_SET, PROTECTION, CHALLENGE,
# SUGGESTED_LABEL, ACCEPTABLE_LABEL_SET, RESTART_CAP, NOTIFY_REQUEST, ADMIN_STATUS
PASSED_ON: Final = frozenset((7, 13, 14, 34, 36, 37, 64, 129, 130, 131, 195, 196))
# RFC 2205 A.0: its content is ignored
NULL: Final = 0


class Style(IntEnum):
    """How senders share a reservation: each its own, those named, or all (section 4.6)."""

    FF = 0x0A
    WF = 0x11
    SE = 0x12


class Session(NamedTuple):
    """What circuits belong to: ES, number of the tunnel, and the lamp, 0.0.0.0 if it is shared."""

    es: IPv4Address
    tunnel: int
    lamp: IPv4Address

    @property
    def is_shared(self) -> bool:
        """Whether all lamps share the session (style WF)."""
        return not int(self.lamp)


class Hop(NamedTuple):
    """The node that sent the message, and by which of its links: a number from 1."""

    node: IPv4Address
    link: int


class ErrorSpec(NamedTuple):
    """Which node refuses, and why: code and value of RFC 2205; with 252 a reason of PoTCP.

    flags: IN_PLACE, STATE_REMOVED. enterprise: who gave the value its meaning, with code 252 only.
    """

    node: IPv4Address
    flags: int
    code: int
    value: int
    enterprise: int = 0

    @classmethod
    def refusal(cls, node: IPv4Address, code: int, value: int) -> "ErrorSpec":
        """Return an error that says that state was removed. MPLA-4.3-06."""
        # MPLA-4.3-06
        private = ENTERPRISE if code == PRIVATE_ERROR else 0
        return cls(node, STATE_REMOVED, code, value, private)


class TokenBucket(NamedTuple):
    """What a circuit carries: rate and peak in octets/s, bucket, least and greatest packet."""

    rate: int
    bucket: int
    peak: int
    least: int
    greatest: int


class Sender(NamedTuple):
    """A circuit of a session: the lamp and the LSP id, 0..65535."""

    lamp: IPv4Address
    lsp: int


class RouteHop(NamedTuple):
    """A hop of an ERO: a node, or if loose any way that leads to it."""

    node: IPv4Address
    is_loose: bool = False


class RecordedHop(NamedTuple):
    """A hop of an RRO: a node, and its labels of phase and neutral if they were recorded."""

    node: IPv4Address
    phase: int | None = None
    neutral: int | None = None


class Attribute(NamedTuple):
    """SESSION_ATTRIBUTE: priorities 0 (best) .. 7, flags, and the name of the lamp.

    flags: LABEL_RECORDING, SE_DESIRED. name: at most 255 octets of UTF-8.
    """

    setup: int
    holding: int
    flags: int
    name: str


class MessageId(NamedTuple):
    """Number of a message: epoch of 24 bits, drawn at each start, and a number of 32 bits."""

    epoch: int
    number: int
    is_ack_desired: bool = True


class Acknowledgement(NamedTuple):
    """A message was received, or if `is_nack` a summary named one that nobody knows."""

    epoch: int
    number: int
    is_nack: bool = False


class ForeignObject(NamedTuple):
    """An object that is forwarded unexamined: class, C-Type, content."""

    number: int
    kind: int
    content: bytes
