"""The messages of RSVP with Tariff Extensions, as values: what they say, not how it is written.

MPLampS section 4.2. Numbers of messages, times in ms. Every message of a session may carry the
number by which it is acknowledged, acknowledgements of others, and objects forwarded unexamined.
"""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final, NamedTuple, TypeAlias

from powertcp.frozen import maker_of
from powertcp.mplamps.power import PowerObject, TariffObject
from powertcp.mplamps.rsvp.objects import (
    L3PID_IPV4,
    Acknowledgement,
    Attribute,
    ErrorSpec,
    ForeignObject,
    Hop,
    MessageId,
    RecordedHop,
    RouteHop,
    Sender,
    Session,
    Style,
    TokenBucket,
)

# MPLA-4.4-04: as many as a policeman names with a refusal
MAX_OFFERS: Final = 8
# section 4.10: the senders of one session
MAX_SENDERS: Final = 8


class Kind(IntEnum):
    """Types of messages."""

    PATH = 1
    RESV = 2
    PATH_ERR = 3
    RESV_ERR = 4
    PATH_TEAR = 5
    RESV_TEAR = 6
    RESV_CONF = 7
    BUNDLE = 12
    ACK = 13
    SREFRESH = 15
    HELLO = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """What every message of a session may carry beside its own objects."""

    message_id: MessageId | None = None
    acks: tuple[Acknowledgement, ...] = ()
    others: tuple[ForeignObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Path(Numbered):
    """A lamp asks for power; runs toward the source.

    upstream_label: the volts of the link. flow_label: under which the sender of this message wants
    packets toward the lamp. route: empty for no ERO. record: empty for no RRO, latest hop first.
    """

    session: Session
    hop: Hop
    refresh_ms: int
    attribute: Attribute
    sender: Sender
    tspec: TokenBucket
    upstream_label: int
    flow_label: int
    power: PowerObject
    tariff: TariffObject | None = None
    route: tuple[RouteHop, ...] = ()
    record: tuple[RecordedHop, ...] = ()
    l3pid: int = L3PID_IPV4


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """What a RESV grants to one sender, or with style WF to all; `sender` is then None."""

    sender: Sender | None
    flow_label: int
    power: PowerObject
    label: int = 0
    tariff: TariffObject | None = None
    record: tuple[RecordedHop, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resv(Numbered):
    """A source grants power; runs toward the lamp. circuits: 1 to 8."""

    session: Session
    hop: Hop
    refresh_ms: int
    style: Style
    flowspec: TokenBucket
    circuits: tuple[Circuit, ...]
    confirm: IPv4Address | None = None


# one of each goes to the next node for every circuit: as their constructors, but faster
make_path, make_circuit, make_resv = maker_of(Path), maker_of(Circuit), maker_of(Resv)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathErr(Numbered):
    """A PATH is refused; runs toward the lamp. offers: what it could have had, up to 8."""

    session: Session
    error: ErrorSpec
    sender: Sender
    tspec: TokenBucket
    power: PowerObject | None = None
    offers: tuple[TariffObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResvErr(Numbered):
    """A RESV is refused; runs toward the source."""

    session: Session
    hop: Hop
    error: ErrorSpec
    style: Style
    flowspec: TokenBucket
    sender: Sender | None = None
    power: PowerObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTear(Numbered):
    """A circuit is given up by its lamp; runs toward the source."""

    session: Session
    hop: Hop
    sender: Sender
    tspec: TokenBucket


@dataclass(frozen=True, slots=True, kw_only=True)
class ResvTear(Numbered):
    """A circuit is given up by its source; runs toward the lamp."""

    session: Session
    hop: Hop
    style: Style
    sender: Sender | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResvConf(Numbered):
    """The RESV that asked for it is confirmed; runs toward the source."""

    session: Session
    error: ErrorSpec
    confirm: IPv4Address
    style: Style
    flowspec: TokenBucket
    sender: Sender | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Acknowledgements alone, 1 or more."""

    acks: tuple[Acknowledgement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Srefresh(Numbered):
    """State of these numbers is still wanted: 1 to 364 of one epoch."""

    epoch: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Numbered):
    """Is somebody there? Instances of who sends it and, 0 if not known, of who should get it."""

    source: int
    destination: int
    is_ack: bool = False


class Fault(NamedTuple):
    """Code and value of the error with which a message is answered."""

    code: int
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Numbered):
    """A PATH or RESV that changes nothing and is answered with an error. MPLA-4.3-01, MPLA-4.4-06.

    kind: PATH or RESV. echoed: its objects that the answer repeats, as they came, SESSION first.
    """

    kind: Kind
    fault: Fault
    echoed: tuple[bytes, ...]

    def answer(self, node: Hop) -> "ErrorAnswer":
        """Return the PathErr or ResvErr of `node`, sent by its link `node.link`."""
        error = ErrorSpec.refusal(node.node, *self.fault)
        kind = Kind.PATH_ERR if self.kind == Kind.PATH else Kind.RESV_ERR
        return ErrorAnswer(kind=kind, hop=node, error=error, echoed=self.echoed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer(Numbered):
    """A PathErr or ResvErr around objects as they came; PathErr has no HOP."""

    kind: Kind
    hop: Hop
    error: ErrorSpec
    echoed: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Messages that came as one; never sent. MPLA-4.2-03."""

    received: "tuple[Received, ...]"


Message: TypeAlias = (
    Path
    | Resv
    | PathErr
    | ResvErr
    | PathTear
    | ResvTear
    | ResvConf
    | Ack
    | Srefresh
    | Hello
    | Rejected
    | Bundle
)
Sendable: TypeAlias = (
    Path
    | Resv
    | PathErr
    | ResvErr
    | PathTear
    | ResvTear
    | ResvConf
    | Ack
    | Srefresh
    | Hello
    | ErrorAnswer
)


class Received(NamedTuple):
    """A message as it came: with Send_TTL, and the key and number of its INTEGRITY if it had one.

    Whether the number is greater than all before it is for the receiver to say: MPLA-4.10-01.
    """

    message: Message
    ttl: int
    key_id: int | None = None
    sequence: int | None = None
