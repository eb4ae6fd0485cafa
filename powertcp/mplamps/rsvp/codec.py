"""Octets of the standard objects of RSVP: a decoder and an encoder for each value of `objects`.

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------------------------------+---------------+---------------+
|      length, header too       |     class     |    C-Type     |
+-------------------------------+---------------+---------------+
|                      content, a multiple of 4 octets          |
```
MPLampS section 4.3; layouts of RFC 2205, 2210, 2747, 2961, 3209 and 3473. A decoder gets the octets
of a message, where the content of the object begins, and how long it is; the length was compared
with the table before. Addresses are IPv4.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address
from math import isfinite
from struct import Struct
from typing import Final, NamedTuple

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.mplamps.address import address_of
from powertcp.mplamps.label import MAX_LABEL, MAX_PRIORITY
from powertcp.mplamps.rsvp.objects import (
    MAX_EPOCH,
    MAX_HOPS,
    MAX_IDS,
    MAX_NAME,
    PRIVATE_ERROR,
    Acknowledgement,
    Attribute,
    Class,
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
from powertcp.registry import Reason

Header = Struct(">HH")
_U32 = Struct(">I")
_SESSION = Struct(">I2xHI")
_SENDER = Struct(">I2xH")
_PAIR = Struct(">II")
_ERROR = Struct(">IBBH")
_BUCKET = Struct(">BxHBxHBBHfffII")
_WORDS = _BUCKET.size
_ROUTE = Struct(">BBIBB")
_RECORDED_LABEL = Struct(">BBBBI")
_ATTRIBUTE = Struct(">BBBB")
_LABEL_REQUEST = Struct(">2xH")
# longer names of lamps are encoded each time: what peers say is kept in few octets
_SHORT_NAME = 64

# an address and both of its labels, as they are sent
_LABELLED = Struct(">HIBBIIII")
_NODE_HEAD, _PHASE_HEAD, _NEUTRAL_HEAD = 0x0108, 0x0308_8001, 0x0308_0001


def code_of(number: int, kind: int) -> int:
    """Return class and C-Type as one number, the key of the tables."""
    return number << 8 | kind


def enclose(number: int, kind: int, content: bytes) -> bytes:
    """Return an object: its header, then `content`, whose length must be a multiple of 4."""
    return Header.pack(4 + len(content), number << 8 | kind) + content


def bad(at: int, field: str, value: int = 0, limit: int = 0) -> DecodeError:
    """Return the error for a value that the layout does not allow; `at` counts in the message."""
    return DecodeError(at, field, Reason.BAD_OPTION, value, limit)


class RouteError(DecodeError):
    """An ERO or RRO that is answered with error 24, value 1."""


def _bad_route(at: int) -> RouteError:
    return RouteError(at, "route", Reason.BAD_OPTION)


# --- decoders: (message, where the content begins, its length) -> value ----------------------------


def session_at(octets: bytes, at: int, size: int) -> Session:
    """Decode SESSION 1/7."""
    es, tunnel, lamp = _SESSION.unpack_from(octets, at)
    return Session(address_of(es), tunnel, address_of(lamp))


def hop_at(octets: bytes, at: int, size: int) -> Hop:
    """Decode RSVP_HOP 3/1."""
    node, link = _PAIR.unpack_from(octets, at)
    return Hop(address_of(node), link)


def number_at(octets: bytes, at: int, size: int) -> int:
    """Decode an object that is one number of 32 bits: TIME_VALUES 5/1."""
    return int(_U32.unpack_from(octets, at)[0])


def address_at(octets: bytes, at: int, size: int) -> IPv4Address:
    """Decode an object that is one address: RESV_CONFIRM 15/1."""
    return address_of(_U32.unpack_from(octets, at)[0])


def label_at(octets: bytes, at: int, size: int) -> int:
    """Decode LABEL 16/1 or UPSTREAM_LABEL 35/1: one label of 20 bits."""
    label = int(_U32.unpack_from(octets, at)[0])
    if label > MAX_LABEL:
        raise bad(at, "label", label, MAX_LABEL)
    return label


def error_at(octets: bytes, at: int, size: int) -> ErrorSpec:
    """Decode ERROR_SPEC 6/1: with code 252, and only then, an enterprise number follows."""
    node, flags, code, value = _ERROR.unpack_from(octets, at)
    wanted = 12 if code == PRIVATE_ERROR else 8
    if size != wanted:
        raise DecodeError(at - 4, "ERROR_SPEC", Reason.BAD_LENGTH, size + 4, wanted + 4)
    private = _U32.unpack_from(octets, at + 8)[0] if size == 12 else 0
    return ErrorSpec(address_of(node), flags, code, value, private)


def style_at(octets: bytes, at: int, size: int) -> Style:
    """Decode STYLE 8/1."""
    word = _U32.unpack_from(octets, at)[0]
    try:
        return _STYLES[word]
    except KeyError:
        raise bad(at, "STYLE", word, Style.SE) from None


_STYLES = {int(style): style for style in Style}
_TSPEC_HEADER = (0, 7, 1, 6, 127, 0, 5)
_FLOWSPEC_HEADER = (0, 7, 5, 6, 127, 0, 5)


def tspec_at(octets: bytes, at: int, size: int) -> TokenBucket:
    """Decode SENDER_TSPEC 12/2."""
    return _bucket_at(octets, at, "SENDER_TSPEC", _TSPEC_HEADER)


def flowspec_at(octets: bytes, at: int, size: int) -> TokenBucket:
    """Decode FLOWSPEC 9/2 of the controlled-load service."""
    return _bucket_at(octets, at, "FLOWSPEC", _FLOWSPEC_HEADER)


def _bucket_at(octets: bytes, at: int, field: str, header: tuple[int, ...]) -> TokenBucket:
    words = _BUCKET.unpack_from(octets, at)
    if words[:7] != header:
        raise bad(at, field, words[2], header[2])
    rate, bucket, peak, least, greatest = words[7:]
    if not (rate >= 0 and bucket >= 0 and peak >= 0 and isfinite(rate + bucket + peak)):
        raise bad(at + 12, field)
    return TokenBucket(int(rate), int(bucket), int(peak), least, greatest)


def sender_at(octets: bytes, at: int, size: int) -> Sender:
    """Decode SENDER_TEMPLATE 11/7 or FILTER_SPEC 10/7."""
    lamp, lsp = _SENDER.unpack_from(octets, at)
    return Sender(address_of(lamp), lsp)


def label_request_at(octets: bytes, at: int, size: int) -> int:
    """Decode LABEL_REQUEST 19/1: the protocol that the circuit carries."""
    return int(_LABEL_REQUEST.unpack_from(octets, at)[0])


def route_at(octets: bytes, at: int, size: int) -> tuple[RouteHop, ...]:
    """Decode ERO 20/1. Raises RouteError for more than 32 hops, and what is no IPv4 address of 32 bits."""
    # MPLA-4.3-05
    if size % _ROUTE.size or not 0 < size <= MAX_HOPS * _ROUTE.size:
        raise _bad_route(at)
    hops = []
    for start in range(at, at + size, _ROUTE.size):
        kind, length, node, prefix, _ = _ROUTE.unpack_from(octets, start)
        if kind & 0x7F != 1 or length != 8 or prefix != 32:
            raise _bad_route(at)
        hops.append(RouteHop(address_of(node), kind > 0x7F))
    return tuple(hops)


def record_at(octets: bytes, at: int, size: int) -> tuple[RecordedHop, ...]:
    """Decode RRO 21/1: each address may be followed by one label of each direction.

    Raises RouteError for more than 32 hops, and for other subobjects.
    """
    # MPLA-4.3-05
    if size % _ROUTE.size or not 0 < size <= 3 * MAX_HOPS * _ROUTE.size:
        raise _bad_route(at)
    if not size % _LABELLED.size:
        starts = range(at, at + size, _LABELLED.size)
        try:
            return tuple([_labelled(octets[start : start + _LABELLED.size]) for start in starts])
        except _OtherError:
            pass
    hops: list[RecordedHop] = []
    for start in range(at, at + size, _ROUTE.size):
        kind, length, number, prefix, _ = _ROUTE.unpack_from(octets, start)
        if length != 8:
            raise _bad_route(at)
        if kind == 1 and prefix == 32 and len(hops) < MAX_HOPS:
            hops.append(RecordedHop(address_of(number)))
        elif kind == 3 and hops:
            hops[-1] = _with_label(at, hops[-1], *_RECORDED_LABEL.unpack_from(octets, start)[2:])
        else:
            raise _bad_route(at)
    return tuple(hops)


class _OtherError(ValueError):
    """Octets that are not an address with both labels as they are sent."""


@lru_cache(maxsize=1 << 16)
def _labelled(octets: bytes) -> RecordedHop:
    """Return an address with both labels as they are sent. Raises _OtherError for anything else."""
    head, number, prefix, _, phase_head, phase, neutral_head, neutral = _LABELLED.unpack(octets)
    heads = _NODE_HEAD, 32, _PHASE_HEAD, _NEUTRAL_HEAD
    if (head, prefix, phase_head, neutral_head) != heads or max(phase, neutral) > MAX_LABEL:
        raise _OtherError
    return RecordedHop(address_of(number), phase, neutral)


def _with_label(at: int, hop: RecordedHop, flags: int, kind: int, label: int) -> RecordedHop:
    """Return a hop with one label more; the flag 0x80 says that it is that of the other direction."""
    if kind != 1 or label > MAX_LABEL:
        raise _bad_route(at)
    if flags & 0x80 and hop.phase is None:
        return hop._replace(phase=label)
    if not flags & 0x80 and hop.neutral is None:
        return hop._replace(neutral=label)
    raise _bad_route(at)


def attribute_at(octets: bytes, at: int, size: int) -> Attribute:
    """Decode SESSION_ATTRIBUTE 207/7."""
    setup, holding, flags, length = _ATTRIBUTE.unpack_from(octets, at)
    if length > size - 4:
        raise DecodeError(at + 3, "SESSION_ATTRIBUTE", Reason.BAD_LENGTH, length, size - 4)
    if setup > MAX_PRIORITY or holding > MAX_PRIORITY:
        raise bad(at, "SESSION_ATTRIBUTE", max(setup, holding), MAX_PRIORITY)
    try:
        name = octets[at + 4 : at + 4 + length].decode()
    except UnicodeDecodeError as error:
        raise bad(at + 4 + error.start, "SESSION_ATTRIBUTE") from None
    return Attribute(setup, holding, flags, name)


def message_id_at(octets: bytes, at: int, size: int) -> MessageId:
    """Decode MESSAGE_ID 23/1."""
    word, number = _PAIR.unpack_from(octets, at)
    return MessageId(word & MAX_EPOCH, number, bool(word >> 24 & 1))


def ack_at(octets: bytes, at: int, size: int) -> Acknowledgement:
    """Decode MESSAGE_ID_ACK 24/1."""
    word, number = _PAIR.unpack_from(octets, at)
    return Acknowledgement(word & MAX_EPOCH, number)


def nack_at(octets: bytes, at: int, size: int) -> Acknowledgement:
    """Decode MESSAGE_ID_NACK 24/2."""
    word, number = _PAIR.unpack_from(octets, at)
    return Acknowledgement(word & MAX_EPOCH, number, is_nack=True)


def id_list_at(octets: bytes, at: int, size: int) -> tuple[int, tuple[int, ...]]:
    """Decode MESSAGE_ID_LIST 25/1: the epoch and 1 to 364 numbers."""
    count = size // 4 - 1
    if not 1 <= count <= MAX_IDS:
        raise DecodeError(at - 4, "MESSAGE_ID_LIST", Reason.LIMIT, count, MAX_IDS)
    word, *numbers = _words(count + 1).unpack_from(octets, at)
    return word & MAX_EPOCH, tuple(numbers)


@lru_cache(maxsize=MAX_IDS + 2)
def _words(count: int) -> Struct:
    return Struct(f">{count}I")


def hello_request_at(octets: bytes, at: int, size: int) -> tuple[int, int, bool]:
    """Decode HELLO 22/1: instances of source and destination, and False: no acknowledgement."""
    source, destination = _PAIR.unpack_from(octets, at)
    return source, destination, False


def hello_ack_at(octets: bytes, at: int, size: int) -> tuple[int, int, bool]:
    """Decode HELLO 22/2, the answer to a request."""
    source, destination = _PAIR.unpack_from(octets, at)
    return source, destination, True


class ObjectRow(NamedTuple):
    """How to decode one class and C-Type; shortest, longest: bounds of its content in octets."""

    shortest: int
    longest: int
    decode: Callable[[bytes, int, int], object]


def _fixed(size: int, decode: Callable[[bytes, int, int], object]) -> ObjectRow:
    return ObjectRow(size, size, decode)


_ANY = 4096
OBJECTS: Final[dict[int, ObjectRow]] = {
    code_of(Class.SESSION, 7): _fixed(12, session_at),
    code_of(Class.HOP, 1): _fixed(8, hop_at),
    code_of(Class.TIME, 1): _fixed(4, number_at),
    code_of(Class.ERROR_SPEC, 1): ObjectRow(8, 12, error_at),
    code_of(Class.STYLE, 1): _fixed(4, style_at),
    code_of(Class.FLOWSPEC, 2): _fixed(_WORDS, flowspec_at),
    code_of(Class.FILTER_SPEC, 7): _fixed(8, sender_at),
    code_of(Class.SENDER_TEMPLATE, 7): _fixed(8, sender_at),
    code_of(Class.TSPEC, 2): _fixed(_WORDS, tspec_at),
    code_of(Class.RESV_CONFIRM, 1): _fixed(4, address_at),
    code_of(Class.LABEL, 1): _fixed(4, label_at),
    code_of(Class.LABEL_REQUEST, 1): _fixed(4, label_request_at),
    code_of(Class.ERO, 1): ObjectRow(0, _ANY, route_at),
    code_of(Class.RRO, 1): ObjectRow(0, _ANY, record_at),
    code_of(Class.HELLO, 1): _fixed(8, hello_request_at),
    code_of(Class.HELLO, 2): _fixed(8, hello_ack_at),
    code_of(Class.MESSAGE_ID, 1): _fixed(8, message_id_at),
    code_of(Class.MESSAGE_ID_ACK, 1): _fixed(8, ack_at),
    code_of(Class.MESSAGE_ID_ACK, 2): _fixed(8, nack_at),
    code_of(Class.MESSAGE_ID_LIST, 1): ObjectRow(4, _ANY, id_list_at),
    code_of(Class.UPSTREAM_LABEL, 1): _fixed(4, label_at),
    code_of(Class.SESSION_ATTRIBUTE, 7): ObjectRow(4, _ANY, attribute_at),
}
KNOWN_CLASSES: Final = frozenset(code >> 8 for code in OBJECTS) | {Class.INTEGRITY, Class.PRIVATE}


# --- encoders: value -> object ---------------------------------------------------------------------


# each circuit is in all messages of its session, and so are its lamp and LSP
@lru_cache(maxsize=1 << 16)
def session_object(value: Session) -> bytes:
    """Encode SESSION."""
    return b"\0\x10\x01\x07" + _SESSION.pack(int(value.es), value.tunnel, int(value.lamp))


@lru_cache(maxsize=1 << 16)
def hop_object(value: Hop) -> bytes:
    """Encode RSVP_HOP."""
    return b"\0\x0c\x03\x01" + _PAIR.pack(int(value.node), value.link)


@lru_cache(maxsize=1 << 10)
def time_object(refresh_ms: int) -> bytes:
    """Encode TIME_VALUES, ms."""
    return b"\0\x08\x05\x01" + _U32.pack(refresh_ms)


def error_object(value: ErrorSpec) -> bytes:
    """Encode ERROR_SPEC; with code 252 the enterprise number follows."""
    octets = _ERROR.pack(int(value.node), value.flags, value.code, value.value)
    if value.code == PRIVATE_ERROR:
        octets += _U32.pack(value.enterprise)
    return enclose(Class.ERROR_SPEC, 1, octets)


@lru_cache(maxsize=1 << 10)
def style_object(value: Style) -> bytes:
    """Encode STYLE."""
    return b"\0\x08\x08\x01" + _U32.pack(value)


@lru_cache(maxsize=1 << 10)
def tspec_object(value: TokenBucket) -> bytes:
    """Encode SENDER_TSPEC. Rates above 2^24 octets/s are rounded to what a float of 32 bits has."""
    return b"\0\x24\x0c\x02" + _BUCKET.pack(*_TSPEC_HEADER, *value)


@lru_cache(maxsize=1 << 10)
def flowspec_object(value: TokenBucket) -> bytes:
    """Encode FLOWSPEC of the controlled-load service."""
    return b"\0\x24\x09\x02" + _BUCKET.pack(*_FLOWSPEC_HEADER, *value)


@lru_cache(maxsize=1 << 16)
def template_object(value: Sender) -> bytes:
    """Encode SENDER_TEMPLATE."""
    return b"\0\x0c\x0b\x07" + _SENDER.pack(int(value.lamp), value.lsp)


@lru_cache(maxsize=1 << 16)
def filter_object(value: Sender) -> bytes:
    """Encode FILTER_SPEC."""
    return b"\0\x0c\x0a\x07" + _SENDER.pack(int(value.lamp), value.lsp)


def confirm_object(value: IPv4Address) -> bytes:
    """Encode RESV_CONFIRM."""
    return b"\0\x08\x0f\x01" + _U32.pack(int(value))


@lru_cache(maxsize=1 << 10)
def label_object(value: int) -> bytes:
    """Encode LABEL."""
    return b"\0\x08\x10\x01" + _U32.pack(value)


@lru_cache(maxsize=1 << 10)
def upstream_label_object(value: int) -> bytes:
    """Encode UPSTREAM_LABEL."""
    return b"\0\x08\x23\x01" + _U32.pack(value)


@lru_cache(maxsize=1 << 10)
def label_request_object(l3pid: int) -> bytes:
    """Encode LABEL_REQUEST."""
    return b"\0\x08\x13\x01" + _LABEL_REQUEST.pack(l3pid)


@lru_cache(maxsize=1 << 12)
def route_object(hops: tuple[RouteHop, ...]) -> bytes:
    """Encode ERO. Raises LocalProtocolError for none or more than 32 hops."""
    made = [_ROUTE.pack(0x81 if hop.is_loose else 1, 8, int(hop.node), 32, 0) for hop in hops]
    _check_hops(len(made))
    return enclose(Class.ERO, 1, b"".join(made))


def record_object(hops: Iterable[RecordedHop]) -> bytes:
    """Encode RRO, the latest hop first. Raises LocalProtocolError for none or more than 32 hops."""
    made = [
        _recorded(hop)
        if hop.phase is None or hop.neutral is None
        else _LABELLED.pack(
            _NODE_HEAD, int(hop.node), 32, 0, _PHASE_HEAD, hop.phase, _NEUTRAL_HEAD, hop.neutral
        )
        for hop in hops
    ]
    _check_hops(len(made))
    return enclose(Class.RRO, 1, b"".join(made))


def _recorded(hop: RecordedHop) -> bytes:
    """Return the subobjects of one hop: its address, and the labels that were recorded."""
    octets = _ROUTE.pack(1, 8, int(hop.node), 32, 0)
    if hop.phase is not None:
        octets += _RECORDED_LABEL.pack(3, 8, 0x80, 1, hop.phase)
    if hop.neutral is not None:
        octets += _RECORDED_LABEL.pack(3, 8, 0, 1, hop.neutral)
    return octets


def _check_hops(count: int) -> None:
    # MPLA-4.3-05
    if not 1 <= count <= MAX_HOPS:
        raise LocalProtocolError(f"{count} hops, a route has 1 to {MAX_HOPS}")


def attribute_object(value: Attribute) -> bytes:
    """Encode SESSION_ATTRIBUTE. Raises LocalProtocolError for a name of more than 255 octets."""
    return _attribute(value) if len(value.name) <= _SHORT_NAME else _attribute.__wrapped__(value)


@lru_cache(maxsize=1 << 16)
def _attribute(value: Attribute) -> bytes:
    name = value.name.encode()
    if len(name) > MAX_NAME:
        raise LocalProtocolError(f"the name of a lamp has {len(name)} octets, limit {MAX_NAME}")
    head = _ATTRIBUTE.pack(value.setup, value.holding, value.flags, len(name))
    return enclose(Class.SESSION_ATTRIBUTE, 7, head + name + bytes(-len(name) % 4))


def message_id_object(value: MessageId) -> bytes:
    """Encode MESSAGE_ID."""
    return b"\0\x0c\x17\x01" + _PAIR.pack(value.is_ack_desired << 24 | value.epoch, value.number)


def ack_object(value: Acknowledgement) -> bytes:
    """Encode MESSAGE_ID_ACK or MESSAGE_ID_NACK."""
    head = b"\0\x0c\x18\x02" if value.is_nack else b"\0\x0c\x18\x01"
    return head + _PAIR.pack(value.epoch, value.number)


def id_list_object(epoch: int, numbers: tuple[int, ...]) -> bytes:
    """Encode MESSAGE_ID_LIST. Raises LocalProtocolError for none or more than 364 numbers."""
    if not 1 <= len(numbers) <= MAX_IDS:
        raise LocalProtocolError(f"{len(numbers)} message ids, a list has 1 to {MAX_IDS}")
    return enclose(Class.MESSAGE_ID_LIST, 1, _words(len(numbers) + 1).pack(epoch, *numbers))


def hello_object(source: int, destination: int, *, is_ack: bool) -> bytes:
    """Encode HELLO, a request or its answer."""
    return enclose(Class.HELLO, 2 if is_ack else 1, _PAIR.pack(source, destination))


def foreign_object(value: ForeignObject) -> bytes:
    """Encode an object as it came."""
    return enclose(value.number, value.kind, value.content)
