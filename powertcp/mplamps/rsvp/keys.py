"""What a message is about: the key under which the later one of two holds.

MPLampS section 4.7; RFC 2961 section 4.5.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from powertcp.mplamps.rsvp.memory import StateKey
from powertcp.mplamps.rsvp.messages import (
    ErrorAnswer,
    Path,
    PathErr,
    PathTear,
    Rejected,
    Resv,
    ResvConf,
    ResvErr,
    ResvTear,
)
from powertcp.mplamps.rsvp.objects import Sender, Session

Signal: TypeAlias = Path | Resv | PathErr | ResvErr | PathTear | ResvTear | ResvConf | ErrorAnswer
Heard: TypeAlias = Path | Resv | PathErr | ResvErr | PathTear | ResvTear | ResvConf | Rejected


def path_key(session: Session, sender: Sender) -> StateKey:
    """Return what a PATH and its tear are about."""
    return "path", session, sender


def resv_key(session: Session) -> StateKey:
    """Return what a RESV is about: all that the session has on a link."""
    return "resv", session


def tear_key(session: Session, sender: Sender | None) -> StateKey:
    """Return what a ResvTear is about: the RESV, or only what it says of one sender."""
    return resv_key(session) if sender is None else ("resv", session, sender)


KEYS: Final[dict[type, Callable[[Any], StateKey]]] = {
    # as `path_key` and `resv_key`: one of each is made for each message
    Path: lambda message: ("path", message.session, message.sender),
    PathTear: lambda message: path_key(message.session, message.sender),
    Resv: lambda message: ("resv", message.session),
    ResvTear: lambda message: tear_key(message.session, message.sender),
    PathErr: lambda message: ("patherr", message.session, message.sender),
    ResvErr: lambda message: ("resverr", message.session, message.sender),
    ResvConf: lambda message: ("resvconf", message.session, message.sender),
    ErrorAnswer: lambda message: ("answer", message.kind, message.echoed),
    Rejected: lambda message: ("rejected", message.kind, message.echoed),
}
STATES: Final = frozenset((Path, Resv))


def key_of(message: Signal | Heard) -> StateKey:
    """Return what a message is about: of two with one key the later one holds."""
    return KEYS[type(message)](message)
