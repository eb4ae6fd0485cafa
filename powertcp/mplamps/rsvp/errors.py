"""One vocabulary of errors: what may go wrong, its code and value on the wire, and its reason.

MPLampS section 4.8: the code is the standard one where there is one, else 252 with a reason code
of Power over TCP as its value. People and Power over TCP are told the reason.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.power import ENTERPRISE, PowerObject, TariffObject
from powertcp.mplamps.rsvp.messages import Fault
from powertcp.mplamps.rsvp.objects import IN_PLACE, PRIVATE_ERROR, ErrorSpec
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import REASONS, Reason

_MICRO: Final = 1_000_000


class Case(Enum):
    """What a node answers with an error; the rows of the table in MPLampS section 4.8."""

    NO_ROOM = auto()
    NO_ROUTE = auto()
    POLICEMAN = auto()
    VOLTAGE = auto()
    WAVEFORM = auto()
    TARIFF = auto()
    PRIORITY = auto()
    UNPAID = auto()
    NO_PATH = auto()
    NO_SENDER = auto()
    MIXED_STYLES = auto()
    PREEMPTED = auto()
    BAD_ROUTE = auto()
    STRICT_HOP = auto()
    LOOSE_HOP = auto()
    LABEL_VALUE = auto()
    LOOP = auto()
    EXHAUSTED = auto()
    PROTOCOL = auto()
    UNKNOWN_CLASS = auto()
    UNKNOWN_TYPE = auto()
    OVER_CURRENT = auto()
    BAD_OBJECT = auto()


class _Row(NamedTuple):
    code: int
    value: int
    reason: Reason


def _private(reason: Reason) -> _Row:
    return _Row(PRIVATE_ERROR, int(reason), reason)


# MPLA-4.8-01
_TABLE: Final[Mapping[Case, _Row]] = {
    Case.NO_ROOM: _Row(1, 2, Reason.NO_CAPACITY),
    Case.NO_ROUTE: _Row(24, 5, Reason.NO_CAPACITY),
    Case.POLICEMAN: _Row(2, 0, Reason.POLICY),
    Case.VOLTAGE: _private(Reason.VOLTAGE_RANGE),
    Case.WAVEFORM: _private(Reason.WAVEFORM),
    Case.TARIFF: _private(Reason.TARIFF),
    Case.PRIORITY: _private(Reason.PRIORITY_DENIED),
    Case.UNPAID: _private(Reason.PAYMENT_REQUIRED),
    Case.NO_PATH: _Row(3, 0, Reason.STATE),
    Case.NO_SENDER: _Row(4, 0, Reason.STATE),
    Case.MIXED_STYLES: _Row(5, 0, Reason.STATE),
    Case.PREEMPTED: _Row(12, 0, Reason.BUDGET),
    Case.BAD_ROUTE: _Row(24, 1, Reason.STATE),
    Case.STRICT_HOP: _Row(24, 2, Reason.STATE),
    Case.LOOSE_HOP: _Row(24, 3, Reason.STATE),
    Case.LABEL_VALUE: _Row(24, 6, Reason.STATE),
    Case.LOOP: _Row(24, 7, Reason.STATE),
    Case.EXHAUSTED: _Row(24, 9, Reason.LIMIT),
    Case.PROTOCOL: _Row(24, 10, Reason.STATE),
    Case.UNKNOWN_CLASS: _Row(13, 0, Reason.UNSUPPORTED_OPTION),
    Case.UNKNOWN_TYPE: _Row(14, 0, Reason.UNSUPPORTED_OPTION),
    Case.OVER_CURRENT: _private(Reason.OVER_CURRENT),
    Case.BAD_OBJECT: _private(Reason.BAD_OPTION),
}
# the value of these is class and C-Type of the object, or says more than we tell apart
_ANY_VALUE: Final = frozenset(
    (
        Case.POLICEMAN, Case.NO_PATH, Case.NO_SENDER, Case.MIXED_STYLES, Case.PREEMPTED,
        Case.UNKNOWN_CLASS, Case.UNKNOWN_TYPE,
    )
)  # fmt: skip
_OBJECT_CASES: Final = frozenset((Case.UNKNOWN_CLASS, Case.UNKNOWN_TYPE))
_BY_FAULT: Final = {(row.code, row.value): case for case, row in _TABLE.items()}
_BY_CODE: Final = {_TABLE[case].code: case for case in _ANY_VALUE}
# what other nodes may say with a standard code whose value is not in the table
_CODES: Final[Mapping[int, Reason]] = {1: Reason.NO_CAPACITY, 24: Reason.STATE}
# reasons that belong to more than one case, or to one whose value says more
_SEVERAL: Final = frozenset((Reason.STATE, Reason.UNSUPPORTED_OPTION))
_BY_REASON: Final = {row.reason: case for case, row in reversed(list(_TABLE.items()))}


def fault_of(case: Case, value: int | None = None) -> Fault:
    """Return the code and the value with which a node answers in this case.

    value: class and C-Type, 0..65535, of an object that is unknown, and only then. Raises
    LocalProtocolError. MPLA-4.8-01.
    """
    row = _TABLE[case]
    if case in _OBJECT_CASES:
        if value is None or not 0 <= value <= 0xFFFF:
            raise LocalProtocolError(f"{case.name} states class and C-Type, got {value}")
        return Fault(row.code, value)
    if value is not None:
        raise LocalProtocolError(f"{case.name} has the value {row.value}, got {value}")
    return Fault(row.code, row.value)


def fault_for(reason: int) -> Fault:
    """Return the code and the value that stand for a reason, as that of a Refusal.

    100 is said as 1, 2: where there is no route use Case.NO_ROUTE. Raises LocalProtocolError for
    505 and 506, which several cases have in common: use `fault_of`. MPLA-4.8-01.
    """
    if reason in _SEVERAL:
        raise LocalProtocolError(f"several cases have the reason {reason}, name the case")
    case = _BY_REASON.get(Reason(reason)) if reason in REASONS else None
    # MPLA-4.8-01
    return fault_of(case) if case else Fault(PRIVATE_ERROR, reason)


def _is_foreign(error: ErrorSpec | Fault) -> bool:
    """Return whether the value of a private error has its meaning from another enterprise."""
    if error.code != PRIVATE_ERROR or not isinstance(error, ErrorSpec):
        return False
    return error.enterprise != ENTERPRISE


def case_of(error: ErrorSpec | Fault) -> Case | None:
    """Return the row of the table that an error belongs to; None if it is in none of them."""
    if _is_foreign(error):
        return None
    return _BY_FAULT.get((error.code, error.value)) or _BY_CODE.get(error.code)


def reason_of(error: ErrorSpec | Fault) -> int:
    """Return the reason code that people and Power over TCP are told, a Reason where it is one.

    An unknown value of code 252 is kept as it came; an error that has no row in the table is
    506, STATE, or the reason of its code. MPLA-4.8-01.
    """
    case = case_of(error)
    # MPLA-4.8-01
    if case is not None:
        return _TABLE[case].reason
    if error.code != PRIVATE_ERROR or _is_foreign(error):
        return _CODES.get(error.code, Reason.STATE)
    return Reason(error.value) if error.value in REASONS else error.value


def sentence_of(
    error: ErrorSpec,
    power: PowerObject | None = None,
    offers: Sequence[TariffObject] = (),
    names: Mapping[IPv4Address, str] | None = None,
    *,
    link: str = "",
) -> str:
    """Return what a PathErr says: "refused 100 NO_CAPACITY: c1 has 9,900 mW left at ..".

    power: REQUEST and REFUSE of the message. names: of nodes, an address stands for itself.
    link: where that is known, which link it is about, such as "link c1--h3 (400 V)".
    """
    reason = reason_of(error)
    row = REASONS.get(reason)
    verb = "in place" if error.flags & IN_PLACE else "refused"
    node = _name(error.node, names)
    said = _said(error, node, link or node, power)
    if offers:
        said += f"; {_said_of_offers(offers, names)}"
    return f"{verb} {reason} {row.name if row else f'REASON_{reason}'}: {said}"


def _name(address: IPv4Address, names: Mapping[IPv4Address, str] | None) -> str:
    return (names or {}).get(address) or str(address)


_PLAIN: Final[Mapping[Case, str]] = {
    Case.NO_ROUTE: "{node} has no way to the source",
    Case.POLICEMAN: "the policeman of {node} says no, or there is none to ask",
    Case.TARIFF: "{node} finds no supplier that is wanted at a price within the limit",
    Case.UNPAID: "what is unpaid at the meter of {node} has reached the credit",
    Case.NO_PATH: "{node} knows no PATH of this session",
    Case.NO_SENDER: "{node} knows the session, but not this circuit of it",
    Case.MIXED_STYLES: "{node} has this session with another style",
    Case.BAD_ROUTE: "the route that came to {node} is malformed or longer than 32 hops",
    Case.STRICT_HOP: "{node} is not the strict hop that comes next on the route",
    Case.LOOSE_HOP: "from {node} the loose hop that comes next on the route cannot be reached",
    Case.LABEL_VALUE: "the label that came to {node} is not that of the voltage of the link",
    Case.PROTOCOL: "{node} carries no other protocol than IPv4",
    Case.LOOP: "the route came back to {node}",
    Case.EXHAUSTED: "{node} has no label or no circuit left",
    Case.OVER_CURRENT: "the meter of {node} counted more than 125 % of the grant",
    Case.BAD_OBJECT: "POWER, FLOW_LABEL or TARIFF that came to {node} is missing or not valid",
}


def _said(error: ErrorSpec, node: str, place: str, power: PowerObject | None) -> str:
    case = case_of(error)
    refuse = power.second if power and power.second else None
    if refuse is not None and refuse.type is not ProfileType.REFUSE:
        refuse = None
    match case:
        case Case.NO_ROOM:
            return _said_of_room(place, power, refuse)
        case Case.PREEMPTED:
            lost = f" {power.profile.power_mw:,} mW" if power else ""
            return f"{place} had to take{lost or ' the power'} back: pre-empted or shed"
        case Case.VOLTAGE | Case.WAVEFORM | Case.PRIORITY:
            return _said_of_profile(case, node, power, refuse)
        case Case.UNKNOWN_CLASS | Case.UNKNOWN_TYPE:
            number, c_type = error.value >> 8, error.value & 0xFF
            return f"{node} does not know an object of class {number}, C-Type {c_type}"
        case None:
            return f"{node} answered with error {error.code}, value {error.value}"
        case _:
            return _PLAIN[case].format(node=node)


def _said_of_room(place: str, power: PowerObject | None, refuse: PowerProfile | None) -> str:
    if power is None or refuse is None:
        return f"{place} has not the power or the rate left"
    asked = power.profile.power_mw
    # MPLA-4.3-04
    priority = power.profile.effective_priority // 2
    if refuse.power_mw >= asked:
        return f"{place} has the {asked:,} mW at priority {priority}, but not the rate for them"
    return f"{place} has {refuse.power_mw:,} mW left at priority {priority}, asked {asked:,} mW"


def _said_of_profile(
    case: Case, node: str, power: PowerObject | None, refuse: PowerProfile | None
) -> str:
    what = {
        Case.VOLTAGE: "does not have this voltage",
        Case.WAVEFORM: "does not have this waveform, phases or frequency",
        Case.PRIORITY: "does not give so good a priority",
    }[case]
    asked = f", asked {power.profile.format()}" if power else ""
    has = f", it could do {refuse.format()}" if refuse else ""
    return f"{node} {what}{asked}{has}"


def _said_of_offers(offers: Sequence[TariffObject], names: Mapping[IPv4Address, str] | None) -> str:
    best, *others = offers
    source = f" from {_name(best.source, names)}" if int(best.source) else ""
    more = f", and {len(others)} more" if others else ""
    price = format_price(best.price, best.currency)
    return f"offered: {price} by supplier {best.supplier}{source}{more}"


def format_price(price: int, currency: str) -> str:
    """Return a price, millionths of the currency unit per kWh, as text: "0.2841 EUR/kWh"."""
    whole, part = divmod(abs(price), _MICRO)
    digits = f"{part:06}".rstrip("0").ljust(2, "0")
    return f"{'-' if price < 0 else ''}{whole:,}.{digits} {currency}/kWh"
