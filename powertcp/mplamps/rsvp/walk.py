"""One pass over the objects of a message: what it says, or why it is dropped or refused.

MPLampS sections 4.2 to 4.4.
"""

from functools import lru_cache
from typing import Any, Final

from powertcp.errors import DecodeError
from powertcp.mplamps.power import (
    FlowLabelObject,
    PowerObject,
    PrivateObject,
    TariffObject,
    parse_object,
)
from powertcp.mplamps.rsvp.codec import KNOWN_CLASSES, OBJECTS, Header, RouteError, code_of
from powertcp.mplamps.rsvp.grammar import GRAMMARS, MESSAGES, OF_CIRCUIT, PROFILES, TARIFFS
from powertcp.mplamps.rsvp.integrity import INTEGRITY_SIZES, Integrity, integrity_at
from powertcp.mplamps.rsvp.messages import (
    MAX_SENDERS,
    Ack,
    Circuit,
    Fault,
    Hello,
    Kind,
    Message,
    Rejected,
    Resv,
    Srefresh,
)
from powertcp.mplamps.rsvp.objects import (
    NULL,
    PASSED_ON,
    PRIVATE_ERROR,
    Class,
    ForeignObject,
    Style,
)
from powertcp.registry import Reason

HEADER_OCTETS: Final = 8
UNKNOWN_CLASS: Final = 13
UNKNOWN_C_TYPE: Final = 14
_INTEGRITY = code_of(Class.INTEGRITY, 1)
# objects come again in each refresh and at each hop, and of a street many are equal; of these the
# values are kept, of at most as many objects of at most as many octets
CACHED: Final = 1 << 15
MAX_CACHED: Final = 64
_ALWAYS_NEW = code_of(Class.MESSAGE_ID, 1)


@lru_cache(maxsize=CACHED)
def _value_of(code: int, content: bytes) -> object:
    return OBJECTS[code].decode(content, 0, len(content))


@lru_cache(maxsize=CACHED)
def _private_of(octets: bytes) -> PrivateObject | None:
    return parse_object(octets)


def _decoded(octets: bytes, at: int, length: int, code: int) -> Any:  # noqa: ANN401  see OBJECTS
    """Return the value of the object at `at`. Raises DecodeError, with its offset in the message."""
    if length <= MAX_CACHED and code != _ALWAYS_NEW:
        try:
            return _value_of(code, octets[at + 4 : at + length])
        except DecodeError:
            pass
    return OBJECTS[code].decode(octets, at + 4, length - 4)


class Walk:
    """The objects of one message, gathered in one pass over its octets."""

    __slots__ = (
        "_acks", "_circuit", "_circuits", "_counts", "_echo", "_fault", "_fields", "_found",
        "_grammar", "_kind", "_octets", "_others", "integrity",
    )  # fmt: skip

    def __init__(self, octets: bytes, kind: Kind) -> None:
        self._octets = octets
        self._kind = kind
        self._grammar = GRAMMARS[kind]
        self._found: set[int] = set()
        self._fields: dict[str, Any] = {}
        self._acks: list[Any] = []
        self._others: list[ForeignObject] = []
        self._circuits: list[dict[str, Any]] = []
        self._circuit: dict[str, Any] = {}
        self._counts: dict[type, int] = {}
        self._echo: dict[int, bytes] = {}
        self._fault: Fault | None = None
        self.integrity: Integrity | None = None

    def run(self) -> None:
        """Gather the objects. Raises DecodeError for what is dropped."""
        octets = self._octets
        end = len(octets)
        at = HEADER_OCTETS
        fields, found, known = self._grammar.fields, self._found, OBJECTS
        unpack = Header.unpack_from
        while at < end:
            length, code = unpack(octets, at)
            # MPLA-4.2-02
            if length < 4 or length & 3 or at + length > end:
                raise DecodeError(at, "length", Reason.BAD_LENGTH, length, end - at)
            number = code >> 8
            row = known.get(code)
            if row is None or number not in fields:
                self._other(at, length, code)
            else:
                if number in found:
                    raise DecodeError(at, fields[number], Reason.STATE, number)
                found.add(number)
                if not row.shortest <= length - 4 <= row.longest:
                    raise DecodeError(at, fields[number], Reason.BAD_LENGTH, length)
                try:
                    value = _decoded(octets, at, length, code)
                except RouteError:
                    # MPLA-4.3-05
                    self._blame(24, 1)
                else:
                    self._fields[fields[number]] = value
            at += length

    def _blame(self, code: int, value: int) -> None:
        """Note the first reason to answer with an error."""
        if self._fault is None:
            self._fault = Fault(code, value)

    def _can_answer(self) -> bool:
        return bool(self._grammar.echoed)

    def _other(self, at: int, length: int, code: int) -> None:
        """Take what is no field of this message: private, of a circuit, unknown or out of place."""
        number = code >> 8
        if number == Class.PRIVATE:
            self._private(at, length)
        elif number == Class.MESSAGE_ID_ACK and code in OBJECTS:
            self._acks.append(self._decoded(at, length, code))
        elif number in OF_CIRCUIT and code in OBJECTS and self._kind is Kind.RESV:
            self._of_circuit(at, length, code)
        elif code == _INTEGRITY:
            self._integrity(at, length)
        elif number in KNOWN_CLASSES:
            if code in OBJECTS:
                # MPLA-4.2-02
                raise DecodeError(at, "class", Reason.STATE, number)
            self._unknown(at, length, UNKNOWN_C_TYPE, code)
        elif number in PASSED_ON or number >> 6 == 3:
            # MPLA-4.3-01
            content = self._octets[at + 4 : at + length]
            self._others.append(ForeignObject(number, code & 0xFF, content))
        elif number >> 7 == 0 and number != NULL:
            self._unknown(at, length, UNKNOWN_CLASS, code)

    def _unknown(self, at: int, length: int, error: int, code: int) -> None:
        # MPLA-4.3-01
        if not self._can_answer():
            raise DecodeError(at, "class", Reason.UNSUPPORTED_OPTION, code)
        number = code >> 8
        if number in self._found:
            raise DecodeError(at, "class", Reason.STATE, number)
        if number in self._grammar.fields:
            self._found.add(number)
            self._echo[number] = self._octets[at : at + length]
        self._blame(error, code)

    def _decoded(self, at: int, length: int, code: int) -> Any:  # noqa: ANN401  as the row says
        row = OBJECTS[code]
        if not row.shortest <= length - 4 <= row.longest:
            raise DecodeError(at, "length", Reason.BAD_LENGTH, length)
        return _decoded(self._octets, at, length, code)

    def _integrity(self, at: int, length: int) -> None:
        if self.integrity is not None:
            raise DecodeError(at, "INTEGRITY", Reason.STATE, Class.INTEGRITY)
        if length not in INTEGRITY_SIZES:
            raise DecodeError(at, "INTEGRITY", Reason.BAD_LENGTH, length)
        self.integrity = integrity_at(self._octets, at, length)

    def _of_circuit(self, at: int, length: int, code: int) -> None:
        """Take an object of a flow descriptor; a second one of its class begins the next."""
        # MPLA-4.2-01
        name = OF_CIRCUIT[code >> 8]
        is_head = name != "record"
        if is_head and (not self._circuits or name in self._circuit):
            if len(self._circuits) == MAX_SENDERS:
                raise DecodeError(at, name, Reason.LIMIT, MAX_SENDERS + 1, MAX_SENDERS)
            self._circuit = {}
            self._circuits.append(self._circuit)
            self._counts = {}
        elif not self._circuits or name in self._circuit:
            raise DecodeError(at, name, Reason.STATE, code >> 8)
        self._circuit[name] = ()
        try:
            self._circuit[name] = self._decoded(at, length, code)
        except RouteError:
            # MPLA-4.3-05
            self._blame(24, 1)

    def _private(self, at: int, length: int) -> None:
        """Take an object of class 252: one of ours, else it is forwarded."""
        octets = self._octets[at : at + length]
        try:
            value = _private_of(octets)
            if value is None:
                # MPLA-4.4-01
                self._others.append(ForeignObject(Class.PRIVATE, octets[3], octets[4:]))
                return
            kind = type(value)
            seen = self._counts[kind] = self._counts.get(kind, 0) + 1
            if seen > self._grammar.private.get(kind, 0):
                # MPLA-4.2-02, MPLA-4.4-05
                raise DecodeError(at, kind.__name__, Reason.STATE, Class.PRIVATE)
            self._keep(at, value)
        except DecodeError as error:
            if error.code != Reason.BAD_OPTION or not self._can_answer():
                raise
            # MPLA-4.4-06
            self._blame(PRIVATE_ERROR, Reason.BAD_OPTION)

    def _keep(self, at: int, value: PrivateObject) -> None:
        """Keep a private object, if it says what it may say here. Raises DecodeError 503."""
        kind = self._kind
        to = self._circuit if kind is Kind.RESV else self._fields
        if kind is Kind.RESV and not self._circuits:
            # MPLA-4.2-01: it belongs to the sender or the LABEL before it
            raise DecodeError(at, "flow descriptor", Reason.STATE, Class.PRIVATE)
        match value:
            case FlowLabelObject():
                to["flow_label"] = value.label
            case PowerObject():
                second = value.second.type if value.second else None
                if (value.profile.type, second) not in PROFILES[kind]:
                    raise DecodeError(at, "POWER", Reason.BAD_OPTION, value.profile.type)
                to["power"] = value
            case TariffObject():
                if value.kind is not TARIFFS[kind]:
                    raise DecodeError(at, "TARIFF", Reason.BAD_OPTION, value.kind)
                if kind is Kind.PATH_ERR:
                    to["offers"] = (*to.get("offers", ()), value)
                else:
                    to["tariff"] = value

    def message(self) -> Message:
        """Return the message. Raises DecodeError for what is missing."""
        kind, grammar = self._kind, self._grammar
        # MPLA-4.2-02
        if missing := grammar.required - self._found:
            at = len(self._octets)
            raise DecodeError(at, "class", Reason.STATE, min(missing))
        fields = self._fields
        if kind is Kind.ACK:
            if not self._acks:
                raise DecodeError(HEADER_OCTETS, "class", Reason.STATE, Class.MESSAGE_ID_ACK)
            return Ack(acks=tuple(self._acks))
        fields["acks"] = tuple(self._acks)
        fields["others"] = tuple(self._others)
        if kind is Kind.RESV and self._fault is None:
            self._check_circuits()
        if kind is Kind.PATH and not ("power" in fields and "flow_label" in fields):
            # MPLA-4.5-01
            self._blame(PRIVATE_ERROR, Reason.BAD_OPTION)
        if self._fault is not None:
            return self._rejected(self._fault)
        match kind:
            case Kind.RESV:
                return Resv(circuits=tuple(Circuit(**one) for one in self._circuits), **fields)
            case Kind.SREFRESH:
                epoch, numbers = fields.pop("list")
                return Srefresh(epoch=epoch, numbers=numbers, **fields)
            case Kind.HELLO:
                source, destination, is_ack = fields.pop("hello")
                return Hello(source=source, destination=destination, is_ack=is_ack, **fields)
        return MESSAGES[kind](**fields)

    def _check_circuits(self) -> None:
        """Compare the flow descriptors with the style; drop what is not whole."""
        end = len(self._octets)
        if not self._circuits:
            raise DecodeError(end, "class", Reason.STATE, Class.LABEL)
        is_shared = self._fields.get("style") is Style.WF
        senders = set()
        for circuit in self._circuits:
            if "label" not in circuit:
                raise DecodeError(end, "class", Reason.STATE, Class.LABEL)
            if is_shared == ("sender" in circuit):
                raise DecodeError(end, "class", Reason.STATE, Class.FILTER_SPEC)
            senders.add(circuit.setdefault("sender", None))
            if not ("power" in circuit and "flow_label" in circuit):
                self._blame(PRIVATE_ERROR, Reason.BAD_OPTION)
        if len(senders) < len(self._circuits):
            raise DecodeError(end, "class", Reason.STATE, Class.FILTER_SPEC)

    def _rejected(self, fault: Fault) -> Rejected:
        """Return what is answered with an error, with the objects that the answer repeats."""
        wanted = self._grammar.echoed
        echo = self._echo
        for at, length, number in self._places():
            if number in wanted:
                echo.setdefault(number, self._octets[at : at + length])
        return Rejected(
            kind=self._kind,
            fault=fault,
            echoed=tuple(echo[number] for number in wanted),
            message_id=self._fields.get("message_id"),
            acks=tuple(self._acks),
        )

    def _places(self) -> list[tuple[int, int, int]]:
        """Return (offset, length, class) of each object."""
        places = []
        at = HEADER_OCTETS
        while at < len(self._octets):
            length, code = Header.unpack_from(self._octets, at)
            places.append((at, length, code >> 8))
            at += length
        return places
