"""Messages that come alike: where their objects are, learned from one and used for all others.

Of a street every PATH has the same objects of the same lengths, and so has every RESV. A layout
reads them with one look at all headers; what differs in any of them is left to `walk`, which says
what is wrong with it. MPLampS section 12.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple

from powertcp.errors import DecodeError
from powertcp.frozen import draft_of
from powertcp.mplamps.label import FIRST_FLOW_LABEL, MAX_LABEL
from powertcp.mplamps.power import (
    ENTERPRISE,
    PowerObject,
    PrivateType,
    TariffObject,
)
from powertcp.mplamps.rsvp.codec import OBJECTS, Header, code_of
from powertcp.mplamps.rsvp.grammar import GRAMMARS, OF_CIRCUIT, PROFILES, TARIFFS
from powertcp.mplamps.rsvp.messages import Circuit, Kind, Message, Path, Resv
from powertcp.mplamps.rsvp.objects import L3PID_IPV4, Class, Style
from powertcp.registry import Reason

FIRST_OBJECT: Final = 8
# as many shapes as the lamps of a city have; a shape more is read object by object
MAX_SIZES: Final = 512
MAX_ALIKE: Final = 4
_CACHED: Final = 1 << 12

_U32 = Struct(">I")
_POWER = code_of(Class.PRIVATE, PrivateType.POWER)
_TARIFF = code_of(Class.PRIVATE, PrivateType.TARIFF)
_FLOW_LABEL = code_of(Class.PRIVATE, PrivateType.FLOW_LABEL)
# one for each lamp: to look for them among those that were seen would be in vain
_OF_LAMP: Final = frozenset(
    (Class.SESSION, Class.SENDER_TEMPLATE, Class.FILTER_SPEC, Class.SESSION_ATTRIBUTE, Class.RRO)
)

_READ: Final = frozenset((*OBJECTS, _POWER, _TARIFF, _FLOW_LABEL))

_Read = Callable[[bytes, int, int], Any]


class _Place(NamedTuple):
    """Where an object is, header and all, and its class and C-Type."""

    at: int
    length: int
    code: int


class _Row(NamedTuple):
    """An object: the field it is, and where its content begins and ends."""

    field: str
    read: _Read
    at: int
    size: int


@lru_cache(maxsize=_CACHED)
def _value_of(code: int, content: bytes) -> object:
    return OBJECTS[code].decode(content, 0, len(content))


@lru_cache(maxsize=_CACHED)
def _power_of(kind: Kind, octets: bytes) -> PowerObject:
    value = PowerObject.from_wire(octets)
    second = value.second.type if value.second else None
    if (value.profile.type, second) not in PROFILES[kind]:
        raise DecodeError(0, "POWER", Reason.BAD_OPTION, value.profile.type)
    return value


@lru_cache(maxsize=_CACHED)
def _tariff_of(kind: Kind, octets: bytes) -> TariffObject:
    value = TariffObject.from_wire(octets)
    if value.kind is not TARIFFS[kind]:
        raise DecodeError(0, "TARIFF", Reason.BAD_OPTION, value.kind)
    return value


def _flow_label_at(octets: bytes, at: int, size: int) -> int:
    label = int(_U32.unpack_from(octets, at + 4)[0])
    if not FIRST_FLOW_LABEL <= label <= MAX_LABEL:
        raise DecodeError(at, "flow label", Reason.BAD_OPTION, label, MAX_LABEL)
    return label


def _reader(kind: Kind, code: int) -> tuple[str, _Read]:
    """Return the field of a private object, and what reads it from where its content begins."""
    if code == _FLOW_LABEL:
        return "flow_label", _flow_label_at
    if code == _POWER:
        return "power", lambda octets, at, size: _power_of(kind, octets[at - 4 : at + size])
    return "tariff", lambda octets, at, size: _tariff_of(kind, octets[at - 4 : at + size])


def _cached(code: int) -> _Read:
    return lambda octets, at, size: _value_of(code, octets[at : at + size])


class _Defaults(NamedTuple):
    """What a message has where an object is missing."""

    message: tuple[tuple[str, object], ...]
    circuit: tuple[tuple[str, object], ...]


_COMMON = (("message_id", None), ("acks", ()), ("others", ()))
# looking a member of an enumeration up takes as long as reading an object
_RESV, _WF = Kind.RESV, Style.WF
_DEFAULTS: Final = {
    Kind.PATH: _Defaults(
        (*_COMMON, ("tariff", None), ("route", ()), ("record", ()), ("l3pid", L3PID_IPV4)), ()
    ),
    Kind.RESV: _Defaults(
        (*_COMMON, ("confirm", None)), (("tariff", None), ("record", ()), ("sender", None))
    ),
}
_TYPES: Final = {Kind.PATH: Path, Kind.RESV: Resv}
_DRAFTS: Final = {kind: draft_of(of) for kind, of in _TYPES.items()}
_CircuitDraft = draft_of(Circuit)


class Layout:
    """Where the objects of a PATH, or of a RESV with one circuit, are."""

    __slots__ = ("_absent", "_expected", "_kind", "_of_circuit", "_of_message", "_unpack")

    def __init__(self, kind: Kind, places: Iterable[_Place]) -> None:
        """Take the objects of a message that was read without a fault, and has none to forward."""
        self._kind = kind
        fields = GRAMMARS[kind].fields
        of_message: list[_Row] = []
        of_circuit: list[_Row] = []
        form, expected, end = [">"], [], 0
        for at, length, code in places:
            is_private = code >> 8 == Class.PRIVATE
            form.append(f"{at - end}x" + ("II" if is_private else "I"))
            expected.append(length << 16 | code)
            end = at + 4
            if is_private:
                expected.append(ENTERPRISE)
                end = at + 8
                field, read = _reader(kind, code)
                is_of_circuit = kind is Kind.RESV
            else:
                number = code >> 8
                is_of_circuit = kind is Kind.RESV and number in OF_CIRCUIT
                field = OF_CIRCUIT[number] if is_of_circuit else fields[number]
                is_own = number in _OF_LAMP or number == Class.MESSAGE_ID
                read = OBJECTS[code].decode if is_own else _cached(code)
            rows = of_circuit if is_of_circuit else of_message
            rows.append(_Row(field, read, at + 4, length - 4))
        self._of_message, self._of_circuit = tuple(of_message), tuple(of_circuit)
        self._absent = _Defaults(
            _absent(_DEFAULTS[kind].message, of_message),
            _absent(_DEFAULTS[kind].circuit, of_circuit),
        )
        self._unpack = Struct("".join(form)).unpack_from
        self._expected = tuple(expected)

    def read(self, octets: bytes) -> Path | Resv | None:
        """Return the message, None if it has another layout or anything in it is wrong."""
        if self._unpack(octets) != self._expected:
            return None
        kind = self._kind
        message = _DRAFTS[kind]()
        for field, value in self._absent.message:
            setattr(message, field, value)
        try:
            for field, read, at, size in self._of_message:
                setattr(message, field, read(octets, at, size))
            if kind is _RESV:
                circuit = self._read_circuit(octets)
                if (message.style is _WF) != (circuit.sender is None):
                    return None
                message.circuits = (circuit,)
        except DecodeError:
            return None
        message.__class__ = _TYPES[kind]
        made: Path | Resv = message
        return made

    def _read_circuit(self, octets: bytes) -> Circuit:
        """Return the one circuit of a RESV. Raises DecodeError."""
        circuit = _CircuitDraft()
        for field, value in self._absent.circuit:
            setattr(circuit, field, value)
        for field, read, at, size in self._of_circuit:
            setattr(circuit, field, read(octets, at, size))
        circuit.__class__ = Circuit
        made: Circuit = circuit
        return made


def _absent(
    defaults: tuple[tuple[str, object], ...], rows: Iterable[_Row]
) -> tuple[tuple[str, object], ...]:
    """Return what the fields have of which there is no object."""
    present = {row.field for row in rows}
    return tuple((field, value) for field, value in defaults if field not in present)


def _places(octets: bytes) -> Iterator[_Place]:
    at = FIRST_OBJECT
    while at < len(octets):
        length, code = Header.unpack_from(octets, at)
        yield _Place(at, length, code)
        at += length


_known: dict[tuple[Kind, int], tuple[Layout, ...]] = {}


def read_alike(kind: Kind, octets: bytes) -> Path | Resv | None:
    """Return the message if one like it has come before, and nothing in it is wrong."""
    for layout in _known.get((kind, len(octets)), ()):
        message = layout.read(octets)
        if message is not None:
            return message
    return None


def learn_layout(octets: bytes, message: Message) -> None:
    """Remember where the objects of a message are that was read object by object."""
    match message:
        case Path():
            kind = Kind.PATH
        case Resv(circuits=(_,)):
            kind = Kind.RESV
        case _:
            return
    places = list(_places(octets))
    # one that is ignored may be anything
    if message.acks or message.others or not all(code in _READ for _, _, code in places):
        return
    key = kind, len(octets)
    alike = _known.pop(key, ())[1 - MAX_ALIKE :]
    # what is forgotten is read object by object, and learned again
    if len(_known) == MAX_SIZES:
        del _known[next(iter(_known))]
    _known[key] = (*alike, Layout(kind, places))
