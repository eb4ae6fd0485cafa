"""What a message of RSVP says by the schema: JSON values from octets, and octets from values.

Which objects a type of message has is written down here a second time: MPLampS sections 4.2 and 4.4.
Shares no code with the hand-written codec. Refused with a code of 500 and above is what is dropped,
for that reason; a lower one is the error of RSVP, and its value, with which the message is answered.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from construct import ConstError, ConstructError, Int8ub, Int16ub, Struct, Terminated

from powertcp.wire import values as plain
from powertcp.wire.rsvp_schema import (
    ADDRESS,
    ENTERPRISE,
    FORWARDED,
    HEADER,
    KNOWN,
    MOST,
    NUMBERS,
    OBJECTS,
    PRIVATE,
    TARIFF_KINDS,
    TYPES,
    recorded,
)
from powertcp.wire.schema import Fields, Rejected, Values


class Table(NamedTuple):
    """What a type of message is made of: how often each object at most, and which must be there.

    repeated: the objects of a flow descriptor, those of the sender they follow.
    """

    most: Mapping[str, int]
    needed: tuple[str, ...]
    repeated: tuple[str, ...] = ()


_OWN = {"POWER": 1, "FLOW_LABEL": 1, "TARIFF": 1}


def _table(needed: str, optional: str = "", more: Mapping[str, int] | None = None) -> Table:
    most = dict.fromkeys((*needed.split(), *optional.split(), "MESSAGE_ID", "INTEGRITY"), 1)
    return Table(most | dict(more or {}), tuple(needed.split()))


# MPLA-4.2-02
TABLES: Mapping[str, Table] = {
    "PATH": _table(
        "SESSION HOP TIME_VALUES LABEL_REQUEST SESSION_ATTRIBUTE SENDER_TEMPLATE SENDER_TSPEC"
        " UPSTREAM_LABEL",
        "ERO RRO",
        _OWN,
    ),
    "RESV": _table("SESSION HOP TIME_VALUES STYLE FLOWSPEC", "RESV_CONFIRM")._replace(
        repeated=("FILTER_SPEC", "LABEL", "RRO", *_OWN)
    ),
    "PATH_ERR": _table(
        "SESSION ERROR_SPEC SENDER_TEMPLATE SENDER_TSPEC", "", {"POWER": 1, "TARIFF": 8}
    ),
    "RESV_ERR": _table("SESSION HOP ERROR_SPEC STYLE FLOWSPEC", "FILTER_SPEC", {"POWER": 1}),
    "PATH_TEAR": _table("SESSION HOP SENDER_TEMPLATE SENDER_TSPEC"),
    "RESV_TEAR": _table("SESSION HOP STYLE", "FILTER_SPEC"),
    "RESV_CONF": _table("SESSION ERROR_SPEC RESV_CONFIRM STYLE FLOWSPEC", "FILTER_SPEC"),
    "ACK": Table({"INTEGRITY": 1}, ()),
    "SREFRESH": _table("MESSAGE_ID_LIST"),
    "HELLO": _table("HELLO"),
}
_ACKS = ("MESSAGE_ID_ACK", "MESSAGE_ID_NACK")
# MPLA-4.4-02, MPLA-4.4-04
_TYPES = {
    "PATH": (("REQUEST",), ("REQUEST", "MINIMUM")),
    "RESV": (("GRANT",),),
    "PATH_ERR": (("REQUEST", "REFUSE"),),
    "RESV_ERR": (("REQUEST", "REFUSE"),),
}
_KIND = {"PATH": "LIMIT", "RESV": "QUOTE", "PATH_ERR": "OFFER"}


def checksum_of(octets: bytes) -> int:
    """Return the checksum of a message whose own is left out of the sum; 0xFFFF instead of 0."""
    total = sum(octets[at] * 256 + octets[at + 1] for at in range(0, len(octets) - 1, 2) if at != 2)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total or 0xFFFF


_WHOLE = {
    row.name: Struct(*row.struct.subcons, Terminated)
    for row in (*OBJECTS.values(), *PRIVATE.values())
}


class Part(NamedTuple):
    """One object as it was cut."""

    offset: int
    number: int
    kind: int
    content: bytes


def _cut(octets: bytes) -> Iterator[Part]:
    at = 8
    while at < len(octets):
        length = int.from_bytes(octets[at : at + 2], "big")
        if length < 4 or length % 4 or at + length > len(octets):
            raise Rejected(502, length, at, "length")
        yield Part(at, octets[at + 2], octets[at + 3], octets[at + 4 : at + length])
        at += length


def _head(octets: bytes) -> Fields:
    if len(octets) > MOST:
        raise Rejected(508, len(octets), 0, "length")
    if len(octets) < 8:
        raise Rejected(502, len(octets), 0, "header")
    head = HEADER.parse(octets)
    if head.version >> 4 != 1:
        raise Rejected(501, head.version >> 4, 0, "version")
    if head.length != len(octets) or head.length % 4:
        raise Rejected(502, head.length, 6, "length")
    # MPLA-4.1-02
    if head.checksum and head.checksum % 0xFFFF != checksum_of(octets) % 0xFFFF:
        raise Rejected(503, head.checksum, 2, "checksum")
    if head.type not in TYPES:
        raise Rejected(504, head.type, 1, "type")
    return head


def parse_object(part: Part) -> Values:
    """Return the values of one object. Raises Rejected."""
    row = PRIVATE[part.kind] if part.number == 252 else OBJECTS[part.number, part.kind]
    size = len(part.content)
    is_private = part.number == 252
    length = (252, 503) if is_private else (502, size)
    if row.lengths and size not in row.lengths:
        raise Rejected(*length, part.offset, row.name)
    if row.name in ("ERO", "RRO") and size % 8:
        raise Rejected(24, 1, part.offset, row.name)
    try:
        fields = _WHOLE[row.name].parse(part.content)
    except ConstError as error:
        raise Rejected(503, 0, part.offset, row.name) from error
    except ConstructError as error:
        raise Rejected(*length, part.offset, row.name) from error
    for code, value, is_wrong in row.rules:
        if is_wrong(fields):
            raise Rejected(code, value, part.offset, row.name)
    return {"object": row.name, **_said(row.name, fields)}


def _said(name: str, it: Fields) -> Values:
    """Return the fields of an object as JSON has them."""
    values = {key: value for key, value in it.items() if key not in ("_io", "enterprise")}
    match name:
        case "ERROR_SPEC":
            values |= {"enterprise": it.enterprise} if it.code == 252 else {}
        case "SENDER_TSPEC" | "FLOWSPEC":
            values |= {key: int(values[key]) for key in ("rate", "bucket", "peak")}
        case "ERO":
            text = ADDRESS.parse
            values["hops"] = [
                {"node": text(hop.content), "loose": hop.kind > 127} for hop in it.hops
            ]
        case "RRO":
            values["hops"] = recorded(it)
        case "MESSAGE_ID":
            values = {"ack_desired": bool(it.flags & 1), "epoch": it.epoch, "number": it.number}
        case "MESSAGE_ID_LIST":
            values["numbers"] = list(it.numbers)
        case "SESSION_ATTRIBUTE":
            values = {key: values[key] for key in ("setup", "holding", "flags")}
            values["name"] = it.name.decode()
        case "POWER":
            values["profiles"] = [plain.parse("profile", octets) for octets in it.profiles]
        case "TARIFF":
            values |= {"currency": it.currency.decode(), "kind": TARIFF_KINDS[it.kind]}
        case "METER":
            del values["zero"]
    return {key: v.hex() if isinstance(v, bytes) else v for key, v in values.items()}


def _foreign(part: Part) -> Values:
    return {
        "object": "FOREIGN",
        "number": part.number,
        "kind": part.kind,
        "content": part.content.hex(),
    }


class _Reading:
    """The state of one pass over the objects of a message."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.table = TABLES[name]
        self.objects: list[Values] = []
        self.counts: dict[str, int] = {}
        self.groups: list[dict[str, Values]] = []
        self.answer: tuple[int, int] | None = None

    def blame(self, code: int, value: int, part: Part) -> None:
        """Note the first error to answer with; drop what has no answer."""
        if self.name not in ("PATH", "RESV"):
            raise Rejected(503 if code in (24, 252) else 505, value, part.offset, "class")
        self.answer = self.answer or (code, value)

    def take(self, part: Part) -> None:
        """Take one object."""
        is_ours = part.number == 252 and part.content[:4] == ENTERPRISE.to_bytes(4, "big")
        if part.number == 252 and len(part.content) < 4:
            self.blame(252, 503, part)
        elif is_ours and part.kind in PRIVATE:
            self._known(part)
        elif part.number == 252 or part.number in FORWARDED:
            # MPLA-4.3-01, MPLA-4.4-01
            self.objects.append(_foreign(part))
        elif (part.number, part.kind) in OBJECTS:
            self._known(part)
        elif part.number in KNOWN:
            if self._count_class(part):
                raise Rejected(506, part.number, part.offset, "class")
            self.blame(14, part.number * 256 + part.kind, part)
        elif 1 <= part.number < 128:
            self.blame(13, part.number * 256 + part.kind, part)
        elif part.number >= 192:
            self.objects.append(_foreign(part))

    def _count_class(self, part: Part) -> bool:
        """Count an unknown C-Type as its class; return whether that is one too many."""
        names = [name for name, pair in NUMBERS.items() if pair[0] == part.number]
        name = next((name for name in names if name in self.table.most), "")
        if name:
            self.counts[name] = self.counts.get(name, 0) + 1
        return self.counts.get(name, 0) > 1

    def _known(self, part: Part) -> None:
        row = PRIVATE[part.kind] if part.number == 252 else OBJECTS[part.number, part.kind]
        name = "HELLO" if row.name == "HELLO_ACK" else row.name
        is_private = part.number == 252
        if not is_private:
            self._place(name, part)
        try:
            values = parse_object(part)
        except Rejected as fault:
            if fault.code >= 500:
                raise
            self.blame(fault.code, fault.value, part)
            return
        if is_private:
            self._place(name, part)
            if not self._may_say(values):
                self.blame(252, 503, part)
                return
        self.objects.append(values)
        if name in self.table.repeated:
            self.groups[-1][name] = values

    def _place(self, name: str, part: Part) -> None:
        """Count an object. Raises Rejected 506 for one too many, 508 for a sender too many."""
        if name in _ACKS:
            self.counts["ACK"] = 1
            return
        if name not in self.table.repeated:
            self.counts[name] = self.counts.get(name, 0) + 1
            if self.counts[name] > self.table.most.get(name, 0):
                raise Rejected(506, part.number, part.offset, name)
            return
        is_head = name in ("FILTER_SPEC", "LABEL")
        if is_head and (not self.groups or name in self.groups[-1]):
            if len(self.groups) == 8:
                raise Rejected(508, 9, part.offset, name)
            self.groups.append({})
        elif not self.groups or name in self.groups[-1]:
            raise Rejected(506, part.number, part.offset, name)
        self.groups[-1][name] = {}

    def _may_say(self, values: Values) -> bool:
        """Return whether a private object says what it may say in this message."""
        if values["object"] == "POWER":
            types = tuple(profile["type"] for profile in values["profiles"])
            return types in _TYPES[self.name]
        return bool(values["object"] != "TARIFF" or values["kind"] == _KIND[self.name])

    def end(self, size: int) -> None:
        """Compare with the table. Raises Rejected."""
        if any(not self.counts.get(name) for name in self.table.needed):
            raise Rejected(506, 0, size, "class")
        if self.name == "ACK" and not self.counts.get("ACK"):
            raise Rejected(506, 24, size, "class")
        said = {values["object"] for values in self.objects}
        if self.name == "PATH" and not {"POWER", "FLOW_LABEL"} <= said:
            self.answer = self.answer or (252, 503)
        if self.name == "RESV" and not self.answer:
            self._end_groups(size)
        if self.answer:
            raise Rejected(*self.answer, 0, "message")

    def _end_groups(self, size: int) -> None:
        style = next(one["style"] for one in self.objects if one["object"] == "STYLE")
        senders = [group.get("FILTER_SPEC") for group in self.groups]
        whole = all("LABEL" in group for group in self.groups) and bool(self.groups)
        right = all((one is None) == (style == 17) for one in senders)
        if not whole or not right or any(senders.count(one) > 1 for one in senders):
            raise Rejected(506, 0, size, "class")
        if any(not {"POWER", "FLOW_LABEL"} <= set(group) for group in self.groups):
            self.answer = (252, 503)


def parse_message(octets: bytes) -> Values:
    """Return type, ttl and objects of a message, but no Bundle. Raises Rejected."""
    head = _head(octets)
    reading = _Reading(TYPES[head.type])
    for part in _cut(octets):
        reading.take(part)
    reading.end(len(octets))
    return {"type": reading.name, "ttl": head.ttl, "objects": reading.objects}


def build_object(values: Values) -> bytes:
    """Return the octets of one object."""
    name = values["object"]
    if name == "FOREIGN":
        number, kind = values["number"], values["kind"]
        content = bytes.fromhex(values["content"])
    else:
        number, kind = NUMBERS[name]
        row = PRIVATE[kind] if number == 252 else OBJECTS[number, kind]
        content = row.struct.build(_raw(name, values))
    return bytes(
        Struct("length" / Int16ub, "number" / Int8ub, "kind" / Int8ub).build(
            {"length": len(content) + 4, "number": number, "kind": kind}
        )
        + content
    )


def _raw(name: str, values: Values) -> Values:
    """Return the fields of an object as construct takes them."""
    raw = {"enterprise": None, **values}
    match name:
        case "ERO":
            raw["hops"] = [
                {"kind": 128 * hop["loose"] + 1, "length": 8, "prefix": 32,
                 "content": ADDRESS.build(hop["node"])} for hop in values["hops"]
            ]  # fmt: skip
        case "RRO":
            raw["hops"] = [raw_one for hop in values["hops"] for raw_one in _raw_hop(hop)]
        case "MESSAGE_ID":
            raw["flags"] = int(values["ack_desired"])
        case "SESSION_ATTRIBUTE":
            name_octets = values["name"].encode()
            raw |= {"name": name_octets, "size": len(name_octets)}
            raw["rest"] = bytes(-len(name_octets) % 4)
        case "POWER":
            raw["profiles"] = [plain.build("profile", one) for one in values["profiles"]]
        case "TARIFF":
            raw |= {"currency": values["currency"].encode()}
            raw["kind"] = TARIFF_KINDS.index(values["kind"])
        case "METER":
            raw["zero"] = bytes(3)
        case "INTEGRITY":
            raw |= {key: bytes.fromhex(values[key]) for key in ("key_id", "digest")}
    return raw


def _raw_hop(hop: Values) -> list[Values]:
    first, second, *rest = ADDRESS.build(hop["node"])
    raw = [{"kind": 1, "length": 8, "second": first, "third": second,
            "rest": bytes((*rest, 32, 0))}]  # fmt: skip
    for name, flags in (("phase", 128), ("neutral", 0)):
        if name in hop:
            label = hop[name].to_bytes(4, "big")
            raw.append({"kind": 3, "length": 8, "second": flags, "third": 1, "rest": label})
    return raw


def build_message(values: Values) -> bytes:
    """Return the octets of a message with these values, and its checksum."""
    body = b"".join(build_object(one) for one in values["objects"])
    kind = next(number for number, name in TYPES.items() if name == values["type"])
    head = {"version": 0x11, "type": kind, "checksum": 0, "ttl": values["ttl"]}
    octets = HEADER.build({**head, "length": 8 + len(body)}) + body
    return bytes(octets[:2] + checksum_of(octets).to_bytes(2, "big") + octets[4:])
