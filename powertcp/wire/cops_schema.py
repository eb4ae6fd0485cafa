"""The objects of COPS, declared in construct: the oracle of their codec.

Shares no code with what it checks: numbers, layouts and rules are written down here a second time.
MPLampS section 6; RFC 2748 sections 2.1 and 2.2. A message is refused with a reason code.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from construct import Bytes, GreedyBytes, Int8ub, Int16ub, Int32ub, Padding, Struct

from powertcp.wire.rsvp_schema import ADDRESS
from powertcp.wire.schema import Fields

MOST = 65_536
CLIENT_TYPE = 1
HANDLE_MOST = 64
NAME_MOST = 255

# RFC 2748 section 2.1
HEADER = Struct(
    "version" / Int8ub * "version 1 in the upper half; flag 1 solicited",
    "op" / Int8ub * "Op Code",
    "client_type" / Int16ub * "1 RSVP, 0 the connection",
    "length" / Int32ub * "of the message, octets",
)
OPS = {
    1: "REQ", 2: "DEC", 3: "RPT", 4: "DRQ", 5: "SSQ", 6: "OPN", 7: "CAT", 8: "CC", 9: "KA",
    10: "SSC",
}  # fmt: skip


class Declared(NamedTuple):
    """One object: its name, its content, and what of its fields is refused (503)."""

    name: str
    struct: Struct
    rules: Sequence[Callable[[Fields], bool]] = ()


_INTERFACE = Struct("address" / ADDRESS, "link" / Int32ub * "number, from 1")
_CODE = Struct("code" / Int16ub, "sub_code" / Int16ub)
_SERVER = Struct("address" / ADDRESS, Padding(2), "port" / Int16ub * "of TCP")
_TIMER = Struct(Padding(2), "seconds" / Int16ub)
_DATA = Struct("data" / GreedyBytes * "objects of RSVP")


def name_of(content: bytes) -> str | None:
    """Return the text of a PEPID, None if it is none: printable ASCII, a zero, zeros."""
    octets = content.rstrip(b"\0")
    is_text = all(32 <= octet <= 126 for octet in octets)
    has_zero = len(octets) < len(content)
    return octets.decode() if is_text and has_zero and 1 <= len(octets) <= NAME_MOST else None


# RFC 2748 section 2.2; MPLA-6-04
OBJECTS: Mapping[tuple[int, int], Declared] = {
    (1, 1): Declared(
        "HANDLE",
        Struct("handle" / GreedyBytes * "as the PEP chose it"),
        (lambda it: not 1 <= len(it.handle) <= HANDLE_MOST,),
    ),
    (2, 1): Declared(
        "CONTEXT",
        Struct("r_type" / Int16ub * "1 admission", "m_type" / Int16ub * "1 PATH"),
    ),
    (3, 1): Declared("IN_INTERFACE", _INTERFACE),
    (4, 1): Declared("OUT_INTERFACE", _INTERFACE),
    (5, 1): Declared("REASON", _CODE),
    (6, 1): Declared(
        "DECISION_FLAGS",
        Struct(
            "command" / Int16ub * "0 null, 1 install, 2 remove",
            "flags" / Int16ub * "1 trigger error",
        ),
        (lambda it: it.command > 2,),
    ),
    (6, 3): Declared("REPLACEMENT", _DATA),
    (8, 1): Declared("ERROR", _CODE),
    (9, 1): Declared("CLIENT_SI", _DATA),
    (9, 2): Declared("NAMED_CLIENT_SI", _DATA),
    (10, 1): Declared("KEEP_ALIVE_TIMER", _TIMER),
    (11, 1): Declared(
        "PEP_ID",
        Struct("name" / GreedyBytes * "ASCII, ended by a zero, then zeros"),
        (lambda it: name_of(it.name) is None,),
    ),
    (12, 1): Declared(
        "REPORT_TYPE",
        Struct("report" / Int16ub * "1 success, 2 failure, 3 accounting", Padding(2)),
        (lambda it: not 1 <= it.report <= 3,),
    ),
    (13, 1): Declared("REDIRECT", _SERVER),
    (14, 1): Declared("LAST_PDP", _SERVER),
    (15, 1): Declared("ACCOUNTING_TIMER", _TIMER),
    (16, 1): Declared("INTEGRITY", Struct("content" / GreedyBytes * "not verified")),
}
NUMBERS = {row.name: pair for pair, row in OBJECTS.items()}
OBJECT = Struct(
    "length" / Int16ub * "octets, header too, padding not",
    "number" / Int8ub * "C-Num",
    "kind" / Int8ub * "C-Type",
    "content" / Bytes(lambda this: this.length - 4),
    "padding" / Padding(lambda this: -this.length % 4),
)
# RFC 2748 section 3: objects in their order; ? once or not, * any number
ORDERS: Mapping[str, Sequence[str]] = {
    "REQ": ("HANDLE CONTEXT IN_INTERFACE OUT_INTERFACE? CLIENT_SI*",),
    "DEC": ("HANDLE ERROR", "HANDLE CONTEXT DECISION_FLAGS REPLACEMENT?"),
    "RPT": ("HANDLE REPORT_TYPE CLIENT_SI*",),
    "DRQ": ("HANDLE REASON",),
    "SSQ": ("HANDLE?",),
    "OPN": ("PEP_ID NAMED_CLIENT_SI? LAST_PDP?",),
    "CAT": ("KEEP_ALIVE_TIMER ACCOUNTING_TIMER?",),
    "CC": ("ERROR REDIRECT?",),
    "KA": ("",),
    "SSC": ("HANDLE?",),
}
CLIENTS = dict.fromkeys(ORDERS, (CLIENT_TYPE,)) | {"KA": (0,), "CC": (CLIENT_TYPE, 0)}
SOLICITED = ("DEC", "RPT")
