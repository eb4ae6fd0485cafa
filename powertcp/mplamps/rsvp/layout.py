"""Messages that come alike: where their objects are, learned from one and used for all others.

Of a street every PATH has the same objects of the same lengths, and so has every RESV. A layout
reads them with one look at all headers; what differs in any of them is left to `walk`, which says
what is wrong with it. MPLampS section 12.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from operator import attrgetter
from struct import Struct
from typing import Any, Final, NamedTuple

from powertcp.errors import DecodeError
from powertcp.frozen import ordered_maker_of
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
from powertcp.mplamps.rsvp.objects import Class, Style
from powertcp.mplamps.rsvp.walk import MAX_CACHED
from powertcp.registry import Reason

FIRST_OBJECT: Final = 8
# as many shapes as the lamps of a city have; a shape more is read object by object
MAX_SIZES: Final = 512
MAX_ALIKE: Final = 4
# objects of each class and C-Type that are known by their octets, of up to MAX_CACHED octets: some of
# every lamp of a city come again with each refresh and with each hop
_CACHED: Final = 1 << 16

_POWER = code_of(Class.PRIVATE, PrivateType.POWER)
_TARIFF = code_of(Class.PRIVATE, PrivateType.TARIFF)
_FLOW_LABEL = code_of(Class.PRIVATE, PrivateType.FLOW_LABEL)
# another one in each message: to look for them among those that were seen would be in vain
_NEVER_AGAIN: Final = frozenset((Class.MESSAGE_ID, Class.RRO))

_READ: Final = frozenset((*OBJECTS, _POWER, _TARIFF, _FLOW_LABEL))

_Read = Callable[[bytes], Any]


class _Place(NamedTuple):
    """Where an object is, header and all, and its class and C-Type."""

    at: int
    length: int
    code: int


class _Row(NamedTuple):
    """An object: the field it is, what reads its octets, and where these are."""

    field: str
    read: _Read
    where: slice


def _reader(code: int, *, is_cached: bool) -> _Read:
    """Return what reads the content of a standard object."""
    decode = OBJECTS[code].decode
    if not is_cached:
        return lambda content: decode(content, 0, len(content))
    return lru_cache(maxsize=_CACHED)(lambda content: decode(content, 0, len(content)))


def _power_reader(kind: Kind) -> _Read:
    """Return what reads a POWER, header and all, as a type of message may have it."""

    def read(octets: bytes) -> PowerObject:
        value = PowerObject.from_wire(octets)
        second = value.second.type if value.second else None
        if (value.profile.type, second) not in PROFILES[kind]:
            raise DecodeError(0, "POWER", Reason.BAD_OPTION, value.profile.type)
        return value

    return lru_cache(maxsize=_CACHED)(read)


def _tariff_reader(kind: Kind) -> _Read:
    """Return what reads a TARIFF, header and all, as a type of message may have it."""

    def read(octets: bytes) -> TariffObject:
        value = TariffObject.from_wire(octets)
        if value.kind is not TARIFFS[kind]:
            raise DecodeError(0, "TARIFF", Reason.BAD_OPTION, value.kind)
        return value

    return lru_cache(maxsize=_CACHED)(read)


@lru_cache(maxsize=_CACHED)
def _flow_label_of(octets: bytes) -> int:
    label = int.from_bytes(octets[8:], "big")
    if not FIRST_FLOW_LABEL <= label <= MAX_LABEL:
        raise DecodeError(0, "flow label", Reason.BAD_OPTION, label, MAX_LABEL)
    return label


def _nobody(_: bytes) -> None:
    """Return the sender of a circuit that is shared."""


_READERS: Final = {code: _reader(code, is_cached=code >> 8 not in _NEVER_AGAIN) for code in OBJECTS}
_LONG_READERS: Final = {code: _reader(code, is_cached=False) for code in OBJECTS}
_TYPES: Final = {Kind.PATH: Path, Kind.RESV: Resv}
# looking a member of an enumeration up takes as long as reading an object
_WF = Style.WF
_PRIVATE: Final[dict[tuple[Kind, int], tuple[str, _Read]]] = {
    key: row
    for kind in _TYPES
    for key, row in (
        ((kind, _FLOW_LABEL), ("flow_label", _flow_label_of)),
        ((kind, _POWER), ("power", _power_reader(kind))),
        ((kind, _TARIFF), ("tariff", _tariff_reader(kind))),
    )
}


class Layout:
    """Where the objects of a PATH, or of a RESV with one circuit, are."""

    __slots__ = ("_expected", "_make", "_make_circuit", "_of_circuit", "_of_message", "_unpack")

    def __init__(self, kind: Kind, places: Iterable[_Place]) -> None:
        """Take the objects of a message that was read without a fault, and has none to forward."""
        of_message: list[_Row] = []
        of_circuit: list[_Row] = []
        form, expected, end = [">"], [], 0
        for place in places:
            at, length, code = place
            is_private = code >> 8 == Class.PRIVATE
            form.append(f"{at - end}x" + ("II" if is_private else "I"))
            expected += [length << 16 | code, ENTERPRISE][: 1 + is_private]
            end = at + (8 if is_private else 4)
            row = _row(kind, place)
            is_of_circuit = kind is Kind.RESV and (is_private or code >> 8 in OF_CIRCUIT)
            (of_circuit if is_of_circuit else of_message).append(row)
        # so that there are few makers: one for each choice of objects, in whatever order they come
        of_message.sort(key=attrgetter("field"))
        self._unpack = Struct("".join(form)).unpack_from
        self._expected = tuple(expected)
        self._of_message = [(row.read, row.where) for row in of_message]
        self._make_circuit: Callable[..., Circuit] | None = None
        names = [row.field for row in of_message]
        if kind is Kind.RESV:
            if all(row.field != "sender" for row in of_circuit):
                of_circuit.append(_Row("sender", _nobody, slice(0)))
            of_circuit.sort(key=attrgetter("field"))
            self._make_circuit = ordered_maker_of(Circuit, *(row.field for row in of_circuit))
            names.append("circuits")
        self._of_circuit = [(row.read, row.where) for row in of_circuit]
        self._make = ordered_maker_of(_TYPES[kind], *names)

    def read(self, octets: bytes) -> Path | Resv | None:
        """Return the message, None if it has another layout or anything in it is wrong."""
        if self._unpack(octets) != self._expected:
            return None
        try:
            values = [read(octets[where]) for read, where in self._of_message]
            if self._make_circuit is None:
                path: Path = self._make(*values)
                return path
            circuit = self._make_circuit(*[read(octets[where]) for read, where in self._of_circuit])
        except DecodeError:
            return None
        resv: Resv = self._make(*values, (circuit,))
        return None if (resv.style is _WF) != (circuit.sender is None) else resv


def _row(kind: Kind, place: _Place) -> _Row:
    """Return how the object at a place is read."""
    at, length, code = place
    number = code >> 8
    if number == Class.PRIVATE:
        field, read = _PRIVATE[kind, code]
        return _Row(field, read, slice(at, at + length))
    is_of_circuit = kind is Kind.RESV and number in OF_CIRCUIT
    field = OF_CIRCUIT[number] if is_of_circuit else GRAMMARS[kind].fields[number]
    readers = _READERS if length <= MAX_CACHED else _LONG_READERS
    return _Row(field, readers[code], slice(at + 4, at + length))


def _places(octets: bytes) -> Iterator[_Place]:
    at = FIRST_OBJECT
    while at < len(octets):
        length, code = Header.unpack_from(octets, at)
        yield _Place(at, length, code)
        at += length


# by type and length of the message
_known: dict[int, tuple[Layout, ...]] = {}


def read_alike(kind: Kind, octets: bytes) -> Path | Resv | None:
    """Return the message if one like it has come before, and nothing in it is wrong."""
    for layout in _known.get(kind << 16 | len(octets), ()):
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
    key = kind << 16 | len(octets)
    alike = _known.pop(key, ())[1 - MAX_ALIKE :]
    # what is forgotten is read object by object, and learned again
    if len(_known) == MAX_SIZES:
        del _known[next(iter(_known))]
    _known[key] = (*alike, Layout(kind, places))
