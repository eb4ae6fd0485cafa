"""What a message of COPS says by the schema: JSON values from octets, and octets from values.

Shares no code with the hand-written codec. MPLampS section 6. The objects of RSVP in ClientSI and
in the data of a decision are octets in a message; `parse_inner` says what they are.
"""

import re

from construct import ConstructError, Struct, Terminated

from powertcp.wire.cops_schema import (
    CLIENT_TYPE,
    CLIENTS,
    HEADER,
    MOST,
    NUMBERS,
    OBJECT,
    OBJECTS,
    OPS,
    ORDERS,
    SOLICITED,
    name_of,
)
from powertcp.wire.rsvp_schema import ENTERPRISE, PRIVATE
from powertcp.wire.rsvp_schema import OBJECTS as RSVP_OBJECTS
from powertcp.wire.rsvp_values import Part, build_object, parse_object
from powertcp.wire.schema import Fields, Rejected, Values

INNER_MOST = 256
_WHOLE = {row.name: Struct(*row.struct.subcons, Terminated) for row in OBJECTS.values()}
_OCTETS = ("handle", "data", "content")


def _pattern(order: str) -> re.Pattern[str]:
    """Return an order of objects as an expression over their names; an INTEGRITY may end it."""
    words = [*order.split(), "INTEGRITY?"]
    return re.compile("".join(re.sub(r"(\w+)(\W?)", r"(?:\1 )\2", word) for word in words))


_PATTERNS = {op: [_pattern(order) for order in orders] for op, orders in ORDERS.items()}


def _head(octets: bytes) -> Fields:
    if len(octets) < 8:
        raise Rejected(502, len(octets), 0, "header")
    head = HEADER.parse(octets)
    if head.version >> 4 != 1:
        raise Rejected(501, head.version >> 4, 0, "version")
    if head.length % 4 or not 8 <= head.length <= MOST or head.length != len(octets):
        raise Rejected(502, head.length, 4, "message length")
    if head.op not in OPS:
        raise Rejected(504, head.op, 1, "op code")
    # MPLA-6-03
    if head.client_type not in CLIENTS[OPS[head.op]]:
        raise Rejected(504, head.client_type, 2, "client type")
    if head.version & 15 > (OPS[head.op] in SOLICITED):
        raise Rejected(503, head.version & 15, 0, "flags")
    return head


def _object(octets: bytes, at: int) -> tuple[str, Fields, int]:
    """Return name, fields and the offset of the next one. Raises Rejected."""
    size = int.from_bytes(octets[at : at + 2], "big")
    try:
        part = OBJECT.parse(octets[at : at + size + 4])
    except ConstructError as error:
        raise Rejected(502, 0, at, "length of an object") from error
    if (part.number, part.kind) not in OBJECTS:
        raise Rejected(505, part.number * 256 + part.kind, at, "object")
    row = OBJECTS[part.number, part.kind]
    try:
        fields = _WHOLE[row.name].parse(part.content)
    except ConstructError as error:
        raise Rejected(503, part.length, at, row.name) from error
    if any(is_wrong(fields) for is_wrong in row.rules):
        raise Rejected(503, part.length, at, row.name)
    return row.name, fields, at + part.length + -part.length % 4


def _said(name: str, it: Fields) -> Values:
    """Return the fields of an object as JSON has them."""
    values = {key: value for key, value in it.items() if key != "_io"}
    if name == "PEP_ID":
        values["name"] = name_of(it.name)
    for key in _OCTETS:
        if key in values:
            values[key] = values[key].hex()
    return {"object": name, **values}


def _taken(op: str, names: list[str]) -> int | None:
    """Return how many of these objects make a message of this op, None if it is not whole."""
    for count in range(len(names), -1, -1):
        text = "".join(f"{name} " for name in names[:count])
        if any(pattern.fullmatch(text) for pattern in _PATTERNS[op]):
            return count
    return None


def parse_message(octets: bytes) -> Values:
    """Return op, whether it is solicited, client type and objects. Raises Rejected."""
    head = _head(octets)
    objects: list[Values] = []
    starts = []
    at = 8
    while at < len(octets):
        starts.append(at)
        name, fields, at = _object(octets, at)
        objects.append(_said(name, fields))
    op = OPS[head.op]
    taken = _taken(op, [one["object"] for one in objects])
    if taken is None:
        raise Rejected(506, head.op, len(octets), "order")
    if taken < len(objects):
        number, kind = NUMBERS[objects[taken]["object"]]
        raise Rejected(505, number * 256 + kind, starts[taken], "object")
    return {
        "op": op,
        "solicited": bool(head.version & 1),
        "client_type": head.client_type,
        "objects": objects,
    }


def parse_inner(octets: bytes) -> list[Values]:
    """Return the objects of RSVP in a ClientSI or in a decision, ours checked. Raises Rejected.

    A standard one that the schema cannot read is FOREIGN: what a PATH says is not COPS.
    """
    found: list[Values] = []
    at = 0
    while at < len(octets):
        length = int.from_bytes(octets[at : at + 2], "big")
        if at + 4 > len(octets) or length < 4 or length % 4 or at + length > len(octets):
            raise Rejected(502, length, at, "length")
        if len(found) == INNER_MOST:
            raise Rejected(508, INNER_MOST + 1, at, "objects")
        part = Part(at, octets[at + 2], octets[at + 3], octets[at + 4 : at + length])
        found.append(_inner(part))
        at += length
    return found


def _inner(part: Part) -> Values:
    if part.number == 252 and len(part.content) < 4:
        raise Rejected(503, len(part.content), part.offset, "class")
    is_ours = part.number == 252 and part.content[:4] == ENTERPRISE.to_bytes(4, "big")
    # MPLA-4.4-01, MPLA-4.4-06
    if is_ours and part.kind in PRIVATE:
        try:
            return parse_object(part)
        except Rejected as fault:
            raise Rejected(503, fault.value, part.offset, fault.field) from fault
    if (part.number, part.kind) in RSVP_OBJECTS:
        try:
            return parse_object(part)
        except Rejected:
            pass
    return {"object": "FOREIGN", "number": part.number, "kind": part.kind,
            "content": part.content.hex()}  # fmt: skip


def build_inner(objects: list[Values]) -> bytes:
    """Return the octets of objects of RSVP."""
    return b"".join(build_object(one) for one in objects)


def _content(values: Values) -> bytes:
    raw = dict(values)
    name = raw["object"]
    if "inner" in raw:
        raw["data"] = build_inner(raw["inner"]).hex()
    if name == "PEP_ID":
        text = raw["name"].encode()
        raw["name"] = text + bytes(4 - len(text) % 4)
    for key in _OCTETS:
        if key in raw:
            raw[key] = bytes.fromhex(raw[key])
    octets: bytes = OBJECTS[NUMBERS[name]].struct.build(raw)
    return octets


def build_message(values: Values) -> bytes:
    """Return the octets of a message; `inner` may stand for `data`, as objects of RSVP."""
    body = b""
    for one in values["objects"]:
        number, kind = NUMBERS[one["object"]]
        content = _content(one)
        head = {"length": 4 + len(content), "number": number, "kind": kind}
        body += OBJECT.build({**head, "content": content, "padding": None})
    op = next(number for number, name in OPS.items() if name == values["op"])
    head = {"version": 0x10 + values["solicited"], "op": op, "length": 8 + len(body)}
    octets: bytes = HEADER.build({**head, "client_type": values.get("client_type", CLIENT_TYPE)})
    return octets + body
