"""The messages between an edge LSR (PEP) and the policeman (PDP), RFC 2748 section 3.

The objects of RSVP inside them are octets here: what a PATH says is not COPS. MPLampS section 6.
"""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final, NamedTuple, TypeAlias

from powertcp.mplamps.power import PrivateObject


class Operation(IntEnum):
    """Op Codes."""

    REQUEST = 1
    DECISION = 2
    REPORT = 3
    DELETE = 4
    SYNCHRONIZE = 5
    OPEN = 6
    ACCEPT = 7
    CLOSE = 8
    KEEP_ALIVE = 9
    COMPLETE = 10


class Command(IntEnum):
    """What a decision does."""

    NULL = 0
    INSTALL = 1
    REMOVE = 2


class ReportKind(IntEnum):
    """What a report tells."""

    SUCCESS = 1
    FAILURE = 2
    ACCOUNTING = 3


class DeleteReason(IntEnum):
    """Why a PEP deletes a request; unknown numbers stay integers."""

    UNSPECIFIED = 1
    MANAGEMENT = 2
    PREEMPTED = 3
    TEAR = 4
    TIMEOUT = 5
    ROUTE_CHANGE = 6
    INSUFFICIENT_RESOURCES = 7
    DIRECTIVE = 8
    UNSUPPORTED_DECISION = 9
    UNKNOWN_HANDLE = 10
    TRANSIENT_HANDLE = 11
    MALFORMED_DECISION = 12
    UNKNOWN_OBJECT = 13


class ErrorCode(IntEnum):
    """What is wrong with a peer; unknown numbers stay integers."""

    BAD_HANDLE = 1
    BAD_HANDLE_REFERENCE = 2
    BAD_FORMAT = 3
    UNABLE = 4
    INFO_MISSING = 5
    UNSUPPORTED_CLIENT = 6
    OBJECT_MISSING = 7
    CLIENT_FAILURE = 8
    COMMUNICATION_FAILURE = 9
    UNSPECIFIED = 10
    SHUTTING_DOWN = 11
    REDIRECT = 12
    UNKNOWN_OBJECT = 13
    AUTHENTICATION_FAILURE = 14
    AUTHENTICATION_REQUIRED = 15


class Context(NamedTuple):
    """What a request is about: flags of R-Type, 1 admission; M-Type, 1 PATH."""

    r_type: int = 1
    m_type: int = 1


# what a PATH is asked for
PATH_CONTEXT: Final = Context()


class Interface(NamedTuple):
    """Where a message came from: the address of the lamp, the number of the link."""

    address: IPv4Address
    link: int


class Code(NamedTuple):
    """A code and its sub-code, of Reason and Error."""

    code: int
    sub_code: int = 0


class ServerAddress(NamedTuple):
    """Address and TCP port of a PDP."""

    address: IPv4Address
    port: int


class InnerObject(NamedTuple):
    """An object of RSVP inside a message; private: its value where it is one of ours.

    octets: the whole object with its header.
    """

    number: int
    c_type: int
    octets: bytes
    private: PrivateObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOpen:
    """OPN: a PEP says who it is, and which PDP it had before."""

    pep_id: str
    last_pdp: ServerAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAccept:
    """CAT: keep_alive_s: 0 without. accounting_s: at least between two meters, 0 none, None any."""

    keep_alive_s: int
    accounting_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """REQ: may this circuit be? info: the objects of its PATH."""

    handle: bytes
    interface: Interface
    info: bytes
    context: Context = PATH_CONTEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """DEC: data: TARIFF, or ERROR_SPEC and TARIFFs. is_solicited: the answer to a REQ."""

    handle: bytes
    command: Command
    data: bytes = b""
    is_error_triggered: bool = False
    is_solicited: bool = True
    context: Context = PATH_CONTEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionError:
    """DEC: the REQ was not understood."""

    handle: bytes
    error: Code
    is_solicited: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """RPT: info: METER. is_solicited: the answer to a DEC."""

    handle: bytes
    kind: ReportKind
    info: bytes = b""
    is_solicited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """DRQ: the circuit is no more."""

    handle: bytes
    reason: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class SynchronizeRequest:
    """SSQ: send your requests again. handle: that one, None all."""

    handle: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SynchronizeComplete:
    """SSC: they have been sent."""

    handle: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientClose:
    """CC: of_all: client type 0, the whole connection. redirect: which PDP to ask instead."""

    error: Code
    redirect: ServerAddress | None = None
    of_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """KA: I am there."""


Message: TypeAlias = (
    ClientOpen
    | ClientAccept
    | Request
    | Decision
    | DecisionError
    | Report
    | DeleteRequest
    | SynchronizeRequest
    | SynchronizeComplete
    | ClientClose
    | KeepAlive
)
