"""The private objects of RSVP and COPS: POWER, FLOW_LABEL, TARIFF and METER, class 252.

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-------------------------------+---------------+---------------+
|            length             |   class 252   |    C-Type     |
+-------------------------------+---------------+---------------+
|                   enterprise number 32473                     |
+---------------------------------------------------------------+
|     POWER 1: profile, [profile]       FLOW_LABEL 2: label     |
|     TARIFF 3: supplier, source, currency, kind, price, ..     |
|     METER 4: flags, zero, s, uJ, packets, octets              |
+---------------------------------------------------------------+
```
MPLampS section 4.4. `parse_object` reads any of them; each codec reads and writes the whole
object, its header included.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from struct import Struct
from typing import Final, Self, TypeAlias

from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.frozen import draft_of
from powertcp.mplamps.label import FIRST_FLOW_LABEL, MAX_LABEL
from powertcp.profile import OCTETS as PROFILE_OCTETS
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason
from powertcp.wire.buffer import Buffer

CLASS: Final = 252
ENTERPRISE: Final = 32473
ANY_SOURCE: Final = IPv4Address(0)

_U32 = 0xFFFF_FFFF
_U64 = 0xFFFF_FFFF_FFFF_FFFF
_I63 = 1 << 63

_HEAD = Struct(">HBBI")
_FLOW_LABEL = Struct(">HBBII")
_LABEL = Struct(">I")
_TARIFF = Struct(">HBBIII3sBqII")
_METER = Struct(">HBBIB3sIQQQ")
_SHORT = _HEAD.size + PROFILE_OCTETS
_LONG = _HEAD.size + 2 * PROFILE_OCTETS
_CURRENCY = re.compile(r"[A-Z]{3}")
_ESTIMATED = 1
_FINAL = 2


class PrivateType(IntEnum):
    """C-Types of class 252 under our enterprise number."""

    POWER = 1
    FLOW_LABEL = 2
    TARIFF = 3
    METER = 4


class TariffKind(IntEnum):
    """What a TARIFF says: the most a lamp pays, what it pays, what it could have."""

    LIMIT = 0
    QUOTE = 1
    OFFER = 2


_KINDS = tuple(TariffKind)


def _bad(offset: int, field: str, value: int = 0, limit: int = 0) -> DecodeError:
    # MPLA-4.4-06
    return DecodeError(offset, field, Reason.BAD_OPTION, value, limit)


def _length(octets: Buffer, offset: int, kind: PrivateType, *lengths: int) -> int:
    """Return the length of the object of `kind` at `offset`, one of `lengths`, all of it there."""
    if offset + _HEAD.size > len(octets):
        raise _bad(offset, "object header", len(octets) - offset, _HEAD.size)
    length, number, c_type, enterprise = _HEAD.unpack_from(octets, offset)
    if (number, c_type, enterprise) != (CLASS, kind, ENTERPRISE):
        raise _bad(offset, f"header of {kind.name}", number << 8 | c_type, CLASS << 8 | kind)
    if length not in lengths or offset + length > len(octets):
        raise _bad(offset, f"length of {kind.name}", length, lengths[-1])
    return int(length)


# MPLA-4.4-02
_SEQUENCES = (
    (ProfileType.REQUEST, None),
    (ProfileType.REQUEST, ProfileType.MINIMUM),
    (ProfileType.GRANT, None),
    (ProfileType.REQUEST, ProfileType.REFUSE),
)


# MPLA-4.3-04
_UNSET_PRIORITY: Final = 4


def link_priority(request: PowerProfile) -> int:
    """Return the setup and holding priority, 0..7, that a REQUEST has on links. MPLA-4.3-04."""
    return request.priority // 2 if request.priority else _UNSET_PRIORITY


_SHORT_HEAD = _HEAD.pack(_SHORT, CLASS, PrivateType.POWER, ENTERPRISE)
_LONG_HEAD = _HEAD.pack(_LONG, CLASS, PrivateType.POWER, ENTERPRISE)


@dataclass(frozen=True, slots=True)
class PowerObject:
    """POWER: what is asked for, granted or refused, in mV and mA.

    profile: a REQUEST, or a GRANT. second: after a REQUEST a MINIMUM, or in an error the REFUSE
    that says what the node could do; None if there is none. MPLA-4.4-02.
    """

    profile: PowerProfile
    second: PowerProfile | None = None

    @classmethod
    def make(cls, profile: PowerProfile, second: PowerProfile | None = None) -> Self:
        """Return a validated object, its profiles as they are sent.

        Raises LocalProtocolError for profiles of types that do not go together.
        """
        types = (profile.type, second.type if second else None)
        if types not in _SEQUENCES:
            names = ", ".join(kind.name for kind in types if kind is not None)
            raise LocalProtocolError(f"POWER cannot hold {names}")
        return cls(profile.as_sent(), second.as_sent() if second else None)

    @classmethod
    def from_wire(cls, octets: Buffer, offset: int = 0) -> Self:
        """Decode the object at `offset`. Raises DecodeError 503."""
        length = _length(octets, offset, PrivateType.POWER, _SHORT, _LONG)
        body = bytes(octets[offset + _HEAD.size : offset + length])
        profile = second = None
        try:
            profile = PowerProfile.from_wire(body)
            second = PowerProfile.from_wire(body, PROFILE_OCTETS) if length == _LONG else None
        except DecodeError as error:
            at = offset + _HEAD.size + error.offset
            raise _bad(at, error.field, error.value, error.limit) from error
        if (profile.type, second.type if second else None) not in _SEQUENCES:
            raise _bad(offset + _HEAD.size, "types of the profiles", profile.type)
        return cls(profile, second)

    def to_wire(self) -> bytes:
        """Return 24 or 40 octets."""
        if self.second is None:
            return _SHORT_HEAD + self.profile.to_wire()
        return _LONG_HEAD + self.profile.to_wire() + self.second.to_wire()


_FLOW_LABEL_HEAD = _HEAD.pack(_FLOW_LABEL.size, CLASS, PrivateType.FLOW_LABEL, ENTERPRISE)


@dataclass(frozen=True, slots=True)
class FlowLabelObject:
    """FLOW_LABEL: the label, 16..1,048,575, under which its sender wants the packets. MPLA-4.4-03."""

    label: int

    @classmethod
    def make(cls, label: int) -> Self:
        """Return a validated object. Raises LocalProtocolError."""
        if not FIRST_FLOW_LABEL <= label <= MAX_LABEL:
            text = f"a flow label is {FIRST_FLOW_LABEL} to {MAX_LABEL:,}, got {label:,}"
            raise LocalProtocolError(text)
        return cls(label)

    @classmethod
    def from_wire(cls, octets: Buffer, offset: int = 0) -> Self:
        """Decode the object at `offset`. Raises DecodeError 503."""
        _length(octets, offset, PrivateType.FLOW_LABEL, _FLOW_LABEL.size)
        label = _FLOW_LABEL.unpack_from(octets, offset)[-1]
        # MPLA-4.4-03
        if not FIRST_FLOW_LABEL <= label <= MAX_LABEL:
            raise _bad(offset + _HEAD.size, "flow label", label, MAX_LABEL)
        return cls(label)

    def to_wire(self) -> bytes:
        """Return 12 octets."""
        return flow_label_octets(self.label)


def flow_label_octets(label: int) -> bytes:
    """Return the FLOW_LABEL of a label, 16..1,048,575."""
    return _FLOW_LABEL_HEAD + _LABEL.pack(label)


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffObject:
    """TARIFF: a price per kWh in millionths of the currency unit, may be negative. MPLA-4.4-04.

    supplier: 0 any. source: address of an ES, 0.0.0.0 any. currency: ISO 4217, three capital
    letters. tariff_id: as the supplier numbers it. valid_s: from now on, 0 not stated.
    """

    kind: TariffKind
    price: int
    currency: str
    supplier: int = 0
    source: IPv4Address = ANY_SOURCE
    tariff_id: int = 0
    valid_s: int = 0

    @classmethod
    def make(
        cls,
        kind: TariffKind,
        price: int,
        currency: str,
        *,
        supplier: int = 0,
        source: IPv4Address = ANY_SOURCE,
        tariff_id: int = 0,
        valid_s: int = 0,
    ) -> Self:
        """Return a validated object. Raises LocalProtocolError."""
        for name, value in (("supplier", supplier), ("tariff", tariff_id), ("valid s", valid_s)):
            if not 0 <= value <= _U32:
                raise LocalProtocolError(f"{name} is {value:,}, the limit is 0..{_U32:,}")
        if not -_I63 <= price < _I63:
            raise LocalProtocolError(f"a price of {price:,} does not fit 64 bits")
        if not _CURRENCY.fullmatch(currency):
            raise LocalProtocolError(f'a currency is three capital letters, got "{currency}"')
        return cls(
            kind=TariffKind(kind),
            price=price,
            currency=currency,
            supplier=supplier,
            source=source,
            tariff_id=tariff_id,
            valid_s=valid_s,
        )

    @classmethod
    def from_wire(cls, octets: Buffer, offset: int = 0) -> Self:
        """Decode the object at `offset`. Raises DecodeError 503."""
        _length(octets, offset, PrivateType.TARIFF, _TARIFF.size)
        fields = _TARIFF.unpack_from(octets, offset)
        supplier, source, currency, kind, price, tariff_id, valid_s = fields[4:]
        # MPLA-4.4-06
        if not (currency.isalpha() and currency.isupper()):
            at = offset + 16
            raise _bad(at, "currency", int.from_bytes(currency, "big"))
        if kind > TariffKind.OFFER:
            raise _bad(offset + 19, "kind of TARIFF", kind, TariffKind.OFFER)
        draft = _TariffDraft()
        draft.kind = _KINDS[kind]
        draft.price = price
        draft.currency = currency.decode("ascii")
        draft.supplier = supplier
        draft.source = IPv4Address(source) if source else ANY_SOURCE
        draft.tariff_id = tariff_id
        draft.valid_s = valid_s
        draft.__class__ = cls
        tariff: Self = draft
        return tariff

    def to_wire(self) -> bytes:
        """Return 36 octets."""
        return _TARIFF.pack(
            _TARIFF.size,
            CLASS,
            PrivateType.TARIFF,
            ENTERPRISE,
            self.supplier,
            int(self.source),
            self.currency.encode("ascii"),
            self.kind,
            self.price,
            self.tariff_id,
            self.valid_s,
        )


_TariffDraft = draft_of(TariffObject)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterObject:
    """METER: the register of a circuit since it was closed; only in COPS. MPLA-4.4-05.

    energy_uj, packets, octets: 0..2^64-1. seconds: 0..2^32-1. is_estimated: the energy is grant
    times time. is_final: no other report of this circuit follows.
    """

    seconds: int
    energy_uj: int
    packets: int
    octets: int
    is_estimated: bool = False
    is_final: bool = False

    @classmethod
    def make(
        cls,
        *,
        seconds: int,
        energy_uj: int,
        packets: int,
        octets: int,
        is_estimated: bool = False,
        is_final: bool = False,
    ) -> Self:
        """Return a validated object. Raises LocalProtocolError."""
        for name, value, limit in (
            ("seconds", seconds, _U32),
            ("energy_uj", energy_uj, _U64),
            ("packets", packets, _U64),
            ("octets", octets, _U64),
        ):
            if not 0 <= value <= limit:
                raise LocalProtocolError(f"{name} is {value:,}, the limit is 0..{limit:,}")
        return cls(
            seconds=seconds,
            energy_uj=energy_uj,
            packets=packets,
            octets=octets,
            is_estimated=is_estimated,
            is_final=is_final,
        )

    # MPLA-4.4-05
    @classmethod
    def from_wire(cls, octets: Buffer, offset: int = 0) -> Self:
        """Decode the object at `offset`. Raises DecodeError 503."""
        _length(octets, offset, PrivateType.METER, _METER.size)
        fields = _METER.unpack_from(octets, offset)
        flags, zero, seconds, energy_uj, packets, count = fields[4:]
        # MPLA-4.4-06
        if flags & ~(_ESTIMATED | _FINAL) or any(zero):
            raise _bad(offset + _HEAD.size, "flags and zero of METER", flags)
        return cls(
            seconds=seconds,
            energy_uj=energy_uj,
            packets=packets,
            octets=count,
            is_estimated=bool(flags & _ESTIMATED),
            is_final=bool(flags & _FINAL),
        )

    def to_wire(self) -> bytes:
        """Return 40 octets."""
        return _METER.pack(
            _METER.size,
            CLASS,
            PrivateType.METER,
            ENTERPRISE,
            self.is_estimated * _ESTIMATED | self.is_final * _FINAL,
            bytes(3),
            self.seconds,
            self.energy_uj,
            self.packets,
            self.octets,
        )


PrivateObject: TypeAlias = PowerObject | FlowLabelObject | TariffObject | MeterObject

_CODECS: dict[int, Callable[[Buffer, int], PrivateObject]] = {
    PrivateType.POWER: PowerObject.from_wire,
    PrivateType.FLOW_LABEL: FlowLabelObject.from_wire,
    PrivateType.TARIFF: TariffObject.from_wire,
    PrivateType.METER: MeterObject.from_wire,
}


def parse_object(octets: Buffer, offset: int = 0) -> PrivateObject | None:
    """Return the object of class 252 at `offset`, None for one to be forwarded unexamined.

    That is one of another enterprise number, or of a C-Type not known here. Raises DecodeError
    503 for one of ours that is malformed, and for one too short to name an enterprise.
    """
    if offset + _HEAD.size > len(octets):
        raise _bad(offset, "object header", len(octets) - offset, _HEAD.size)
    length, _, c_type, enterprise = _HEAD.unpack_from(octets, offset)
    if length < _HEAD.size:
        raise _bad(offset, "length", length, _HEAD.size)
    # MPLA-4.4-01
    if enterprise != ENTERPRISE or c_type not in _CODECS:
        return None
    return _CODECS[c_type](octets, offset)
