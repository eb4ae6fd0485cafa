"""What each type of message is made of: which objects, how often, and what they may say.

MPLampS sections 4.2 and 4.4.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from powertcp.mplamps.power import FlowLabelObject, PowerObject, TariffKind, TariffObject
from powertcp.mplamps.rsvp.messages import (
    MAX_OFFERS,
    Kind,
    Message,
    Path,
    PathErr,
    PathTear,
    ResvConf,
    ResvErr,
    ResvTear,
)
from powertcp.mplamps.rsvp.objects import Class
from powertcp.profile import ProfileType


class Grammar(NamedTuple):
    """What a type of message is made of.

    fields: class to name of the field, for objects that stand at most once. required: of these,
    what must be there. private: types of objects of class 252, and how often they may stand.
    """

    fields: Mapping[int, str]
    required: frozenset[int]
    private: Mapping[type, int]
    echoed: tuple[int, ...] = ()


_NAMES = {
    Class.SESSION: "session",
    Class.HOP: "hop",
    Class.TIME: "refresh_ms",
    Class.ERROR_SPEC: "error",
    Class.STYLE: "style",
    Class.FLOWSPEC: "flowspec",
    Class.FILTER_SPEC: "sender",
    Class.SENDER_TEMPLATE: "sender",
    Class.TSPEC: "tspec",
    Class.RESV_CONFIRM: "confirm",
    Class.LABEL_REQUEST: "l3pid",
    Class.ERO: "route",
    Class.RRO: "record",
    Class.HELLO: "hello",
    Class.MESSAGE_ID: "message_id",
    Class.MESSAGE_ID_LIST: "list",
    Class.UPSTREAM_LABEL: "upstream_label",
    Class.SESSION_ATTRIBUTE: "attribute",
}


def _grammar(
    *required: Class,
    optional: tuple[Class, ...] = (),
    private: Mapping[type, int] | None = None,
    echoed: tuple[Class, ...] = (),
) -> Grammar:
    fields = {int(number): _NAMES[number] for number in (*required, *optional, Class.MESSAGE_ID)}
    return Grammar(fields, frozenset(required), private or {}, echoed)


# MPLA-4.2-02
GRAMMARS: Final[dict[Kind, Grammar]] = {
    Kind.PATH: _grammar(
        Class.SESSION,
        Class.HOP,
        Class.TIME,
        Class.LABEL_REQUEST,
        Class.SESSION_ATTRIBUTE,
        Class.SENDER_TEMPLATE,
        Class.TSPEC,
        Class.UPSTREAM_LABEL,
        optional=(Class.ERO, Class.RRO),
        private={FlowLabelObject: 1, PowerObject: 1, TariffObject: 1},
        echoed=(Class.SESSION, Class.SENDER_TEMPLATE, Class.TSPEC),
    ),
    Kind.RESV: _grammar(
        Class.SESSION,
        Class.HOP,
        Class.TIME,
        Class.STYLE,
        Class.FLOWSPEC,
        optional=(Class.RESV_CONFIRM,),
        private={FlowLabelObject: 1, PowerObject: 1, TariffObject: 1},
        echoed=(Class.SESSION, Class.STYLE, Class.FLOWSPEC),
    ),
    Kind.PATH_ERR: _grammar(
        Class.SESSION,
        Class.ERROR_SPEC,
        Class.SENDER_TEMPLATE,
        Class.TSPEC,
        private={PowerObject: 1, TariffObject: MAX_OFFERS},
    ),
    Kind.RESV_ERR: _grammar(
        Class.SESSION,
        Class.HOP,
        Class.ERROR_SPEC,
        Class.STYLE,
        Class.FLOWSPEC,
        optional=(Class.FILTER_SPEC,),
        private={PowerObject: 1},
    ),
    Kind.PATH_TEAR: _grammar(Class.SESSION, Class.HOP, Class.SENDER_TEMPLATE, Class.TSPEC),
    Kind.RESV_TEAR: _grammar(Class.SESSION, Class.HOP, Class.STYLE, optional=(Class.FILTER_SPEC,)),
    Kind.RESV_CONF: _grammar(
        Class.SESSION,
        Class.ERROR_SPEC,
        Class.RESV_CONFIRM,
        Class.STYLE,
        Class.FLOWSPEC,
        optional=(Class.FILTER_SPEC,),
    ),
    Kind.ACK: Grammar({}, frozenset(), {}),
    Kind.SREFRESH: _grammar(Class.MESSAGE_ID_LIST),
    Kind.HELLO: _grammar(Class.HELLO),
}
# what opens or completes the flow descriptor of a sender in a RESV
OF_CIRCUIT: Mapping[int, str] = {
    Class.FILTER_SPEC: "sender",
    Class.LABEL: "label",
    Class.RRO: "record",
}
MESSAGES: Mapping[Kind, Callable[..., Message]] = {
    Kind.PATH: Path,
    Kind.PATH_ERR: PathErr,
    Kind.RESV_ERR: ResvErr,
    Kind.PATH_TEAR: PathTear,
    Kind.RESV_TEAR: ResvTear,
    Kind.RESV_CONF: ResvConf,
}
# MPLA-4.4-02
PROFILES: Mapping[Kind, frozenset[tuple[ProfileType, ProfileType | None]]] = {
    Kind.PATH: frozenset(((ProfileType.REQUEST, None), (ProfileType.REQUEST, ProfileType.MINIMUM))),
    Kind.RESV: frozenset(((ProfileType.GRANT, None),)),
    Kind.PATH_ERR: frozenset(((ProfileType.REQUEST, ProfileType.REFUSE),)),
    Kind.RESV_ERR: frozenset(((ProfileType.REQUEST, ProfileType.REFUSE),)),
}
# MPLA-4.4-04
TARIFFS: Mapping[Kind, TariffKind] = {
    Kind.PATH: TariffKind.LIMIT,
    Kind.RESV: TariffKind.QUOTE,
    Kind.PATH_ERR: TariffKind.OFFER,
}
