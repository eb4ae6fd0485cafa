"""PowerProfile: the one value of the house and its one 16-octet encoding (protocol section 1).

```
 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+---+-----+-+-+-+---+---+-------+-------------------------------+
|ver|type |C|K|G|wav|pha| prio  |          voltage (24)         |
+---+-----+-+-+-+---+---+-------+---------------+---------------+
|    voltage    |                current (24)                   |
+---------------+---------------+-------------------------------+
|           frequency           |          energy DF16          |
+---------------+---------------+-------------------------------+
|   profile id  |  lease m4e4   |              tag              |
+---------------+---------------+-------------------------------+
```
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from struct import Struct
from typing import Self

from powertcp import data
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.frozen import draft_of
from powertcp.units import (
    parse_current_ma,
    parse_duration_ns,
    parse_energy_uj,
    parse_frequency_chz,
    parse_voltage_mv,
)

OCTETS = 16
FREQUENCY_ANY = 0xFFFF
MAX_24 = 0xFF_FFFF
MAX_MILLI = MAX_24 * 1000
MAX_MANTISSA = 0x1FFF
MAX_ENERGY_J = MAX_MANTISSA * 10**7
MAX_LEASE_S = ((16 + 15) << 15) - 16
_FIXED = Struct(">BBBHBHHHBBH")


class ProfileType(IntEnum):
    """What a profile says."""

    REQUEST = 0
    OFFER = 1
    GRANT = 2
    REFUSE = 3
    MINIMUM = 4
    FALLBACK = 5


class Waveform(IntEnum):
    """Shape of the voltage."""

    DC = 0
    SINE = 1
    ARBITRARY = 2
    BY_ID = 3


class Phases(IntEnum):
    """Arrangement of conductors; `pairs` is the number of voltage and current pairs."""

    ONE = 0
    SPLIT = 1
    DELTA = 2
    WYE = 3

    @property
    def pairs(self) -> int:
        """Number of measured pairs: 1, 2, 3, 3."""
        return (1, 2, 3, 3)[self]


def encode_energy(energy_j: int, *, up: bool) -> int:
    """Return the DF16 of `energy_j` (J), smallest exponent; what does not fit is rounded up or down.

    Never returns 0 (open-ended) for a positive energy. PTCP-1-01, PTCP-1-02.
    """
    if energy_j <= MAX_MANTISSA:
        return energy_j
    scale = 1
    for exponent in range(8):
        mantissa = -(-energy_j // scale) if up else energy_j // scale
        if mantissa <= MAX_MANTISSA:
            return exponent << 13 | mantissa
        scale *= 10
    return 7 << 13 | MAX_MANTISSA


def decode_energy(df16: int) -> int:
    """Return J of a DF16 value."""
    return int((df16 & MAX_MANTISSA) * 10 ** (df16 >> 13))


def decode_lease(m4e4: int) -> int:
    """Return seconds of an m4e4 octet."""
    return ((16 + (m4e4 & 15)) << (m4e4 >> 4)) - 16


def encode_lease(lease_s: int, *, up: bool) -> int:
    """Return the m4e4 octet of `lease_s`, smallest exponent, rounded up or down.

    A positive lease below 1 s cannot occur: the unit is the second. PTCP-1-01, PTCP-1-02.
    """
    total = min(lease_s, MAX_LEASE_S) + 16
    exponent = max(total.bit_length() - 5, 0)
    mantissa, rest = divmod(total, 1 << exponent)
    if rest and up:
        mantissa += 1
        if mantissa == 32:
            mantissa, exponent = 16, exponent + 1
    return exponent << 4 | (mantissa - 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerProfile:
    """A power: waveform, phases, priority, voltage, current, frequency, energy, lease.

    voltage_mv, current_ma: 0..16,777,215,000 (rms if AC, per conductor). priority: 0 unset,
    1 critical..15 least. frequency_chz: 0.01 Hz, 0 = DC, 0xFFFF = any. energy_j: 0 = open-ended.
    lease_s: 0 = not stated. tag: 0..65,535, echoed by answers.
    `__init__` trusts; `make` validates values, `from_wire` octets, `parse` text.
    """

    type: ProfileType
    voltage_mv: int
    current_ma: int
    waveform: Waveform = Waveform.DC
    phases: Phases = Phases.ONE
    priority: int = 0
    frequency_chz: int = 0
    energy_j: int = 0
    lease_s: int = 0
    profile_id: int = 0
    tag: int = 0
    giveback: bool = False

    @classmethod
    def make(
        cls,
        type: ProfileType,  # noqa: A002 - the wire document's word
        voltage_mv: int,
        current_ma: int,
        **fields: int,
    ) -> Self:
        """Return a validated profile; fields as of the class. Raises LocalProtocolError."""
        waveform = Waveform(fields.pop("waveform", 0))
        phases = Phases(fields.pop("phases", 0))
        giveback = bool(fields.pop("giveback", 0))
        profile = cls(
            type=ProfileType(type),
            voltage_mv=voltage_mv,
            current_ma=current_ma,
            waveform=waveform,
            phases=phases,
            giveback=giveback,
            **fields,
        )
        for name, limit in _LIMITS.items():
            value = getattr(profile, name)
            if not 0 <= value <= limit:
                raise LocalProtocolError(f"{name} is {value:,}, the limit is 0..{limit:,}")
        return profile

    @classmethod
    def from_wire(cls, octets: bytes | memoryview, offset: int = 0) -> Self:
        """Decode 16 octets at `offset`; accepts non-canonical values.

        Raises DecodeError 503 for fewer octets, another version or a reserved type. PTCP-1-05.
        """
        if len(octets) - offset < OCTETS:
            raise DecodeError(offset, "profile", 503, len(octets) - offset, OCTETS)
        head, shape, v_hi, v_lo, i_hi, i_lo, chz, energy, ident, lease, tag = _FIXED.unpack_from(
            octets, offset
        )
        kind = head >> 3 & 7
        if head >> 6 != 1 or kind > _LAST_TYPE:
            raise DecodeError(offset, "profile version and type", 503, head, 0x6F)
        scale = 1000 if head & 2 else 1
        draft = _Draft()
        draft.type = _TYPES[kind]
        draft.voltage_mv = (v_hi << 16 | v_lo) * scale
        draft.current_ma = (i_hi << 16 | i_lo) * scale
        draft.waveform = _WAVEFORMS[shape >> 6]
        draft.phases = _PHASES[shape >> 4 & 3]
        draft.priority = shape & 15
        draft.frequency_chz = chz
        draft.energy_j = (energy & MAX_MANTISSA) * _SCALES[energy >> 13]
        draft.lease_s = _LEASES[lease]
        draft.profile_id = ident
        draft.tag = tag
        draft.giveback = head & 1 != 0
        draft.__class__ = cls
        profile: Self = draft
        return profile

    # PTCP-1-05
    def to_wire(self) -> bytes:
        """Return the canonical 16 octets; what does not fit is rounded (PTCP-1-01, PTCP-1-02)."""
        volts, amps, kilo = self.voltage_mv, self.current_ma, 0
        if volts > MAX_24 or amps > MAX_24:
            kilo = 2
            volts = min((volts + 500) // 1000, MAX_24)
            # PTCP-1-02
            asks = self.type in (ProfileType.REQUEST, ProfileType.MINIMUM)
            amps = min(-(-amps // 1000) if asks else amps // 1000, MAX_24)
        energy, lease = self.energy_j, _LEASE_OCTETS.get(self.lease_s)
        if energy > MAX_MANTISSA or lease is None:
            grants = self.type in (ProfileType.GRANT, ProfileType.FALLBACK)
            energy = encode_energy(energy, up=not grants)
            lease = encode_lease(self.lease_s, up=not grants)
        return _FIXED.pack(
            0x44 | self.type << 3 | kilo | self.giveback,
            self.waveform << 6 | self.phases << 4 | self.priority,
            volts >> 16,
            volts & 0xFFFF,
            amps >> 16,
            amps & 0xFFFF,
            self.frequency_chz,
            energy,
            self.profile_id,
            lease,
            self.tag,
        )

    # PTCP-1-02
    def as_sent(self) -> Self:
        """Return what the octets of this profile say: itself where nothing is rounded."""
        exact = (
            self.voltage_mv <= MAX_24
            and self.current_ma <= MAX_24
            and self.energy_j <= MAX_MANTISSA
            and self.lease_s in _LEASE_OCTETS
        )
        return self if exact else self.from_wire(self.to_wire())

    @property
    def pairs(self) -> int:
        """Number of voltage and current pairs."""
        return _PAIRS[self.phases]

    @property
    def power_mw(self) -> int:
        """Greatest power: floor(pairs * V * I / 1000), mW."""
        return _PAIRS[self.phases] * self.voltage_mv * self.current_ma // 1000

    @property
    def effective_priority(self) -> int:
        """Priority with the unset value 0 handled as 8."""
        return self.priority or 8

    def with_type(self, type: ProfileType, **changes: int) -> Self:  # noqa: A002
        """Return a copy of another type, with `changes` to fields."""
        draft = _Draft()
        draft.voltage_mv = self.voltage_mv
        draft.current_ma = self.current_ma
        draft.waveform = self.waveform
        draft.phases = self.phases
        draft.priority = self.priority
        draft.frequency_chz = self.frequency_chz
        draft.energy_j = self.energy_j
        draft.lease_s = self.lease_s
        draft.profile_id = self.profile_id
        draft.tag = self.tag
        draft.giveback = self.giveback
        draft.type = type
        for name, value in changes.items():
            setattr(draft, name, value)
        draft.__class__ = self.__class__
        profile: Self = draft
        return profile

    def current_for(self, power_mw: int) -> int:
        """Return the greatest current (mA) at this voltage whose power is at most `power_mw`.

        Never above the current of this profile.
        """
        divisor = self.pairs * self.voltage_mv
        if divisor == 0:
            return 0
        return min(self.current_ma, (power_mw * 1000 + 999) // divisor)

    def same_kind(self, other: "PowerProfile") -> bool:
        """Return whether waveform and phases are equal and the frequencies agree."""
        return (
            self.waveform == other.waveform
            and self.phases == other.phases
            and (
                self.frequency_chz == other.frequency_chz
                or FREQUENCY_ANY in (self.frequency_chz, other.frequency_chz)
            )
        )

    @classmethod
    def parse(cls, text: str, type: ProfileType = ProfileType.REQUEST) -> Self:  # noqa: A002
        """Parse `V/I[@Hz][/phases][,prio=N][,energy=..][,lease=..][,giveback]`.

        Also the name of a row of data/profiles.toml. Raises ValueError with a sentence.
        """
        power, *words = text.strip().split(",")
        named = named_profiles().get(power)
        fields = dict(named) if named else _parse_power(power, text)
        for word in words:
            _parse_word(word.strip(), fields, text)
        try:
            return cls.make(type, **fields)
        except LocalProtocolError as error:
            raise ValueError(f'"{text}": {error}') from error

    def format(self) -> str:
        """Return the text form that `parse` reads back, tag and profile id left out."""
        text = f"{_plain(self.voltage_mv, 3)}V/{_plain(self.current_ma, 3)}A"
        if self.frequency_chz == FREQUENCY_ANY:
            text += "@any"
        elif self.frequency_chz or self.waveform is not Waveform.DC:
            text += f"@{_plain(self.frequency_chz, 2)}Hz"
        odd_dc = self.waveform is Waveform.DC and self.frequency_chz
        if odd_dc or self.waveform in (Waveform.ARBITRARY, Waveform.BY_ID):
            text += f"/{self.waveform.name.lower().replace('_', '-')}"
        if self.phases is not Phases.ONE:
            text += f"/{self.phases.name.lower()}"
        if self.priority:
            text += f",prio={self.priority}"
        if self.energy_j:
            text += f",energy={self.energy_j}J"
        if self.lease_s:
            text += f",lease={self.lease_s}s"
        return text + (",giveback" if self.giveback else "")


_LIMITS = {
    "voltage_mv": MAX_MILLI,
    "current_ma": MAX_MILLI,
    "priority": 15,
    "frequency_chz": 0xFFFF,
    "energy_j": MAX_ENERGY_J,
    "lease_s": MAX_LEASE_S,
    "profile_id": 255,
    "tag": 0xFFFF,
}
_TYPES = tuple(ProfileType)
_LAST_TYPE = int(ProfileType.FALLBACK)
_WAVEFORMS = tuple(Waveform)
_PHASES = tuple(Phases)
_SCALES = tuple(10**exponent for exponent in range(8))
_LEASES = tuple(decode_lease(octet) for octet in range(256))
# octets of the leases that need no rounding
_LEASE_OCTETS = {lease_s: octet for octet, lease_s in reversed(list(enumerate(_LEASES)))}
_PAIRS = (1, 2, 3, 3)
_Draft = draft_of(PowerProfile)


# PTCP-1-03
def in_range(profile: PowerProfile, most: PowerProfile, least: PowerProfile | None) -> bool:
    """Return whether `profile` lies in the range (least, most); without `least` exactly `most`."""
    if not profile.same_kind(most):
        return False
    if least is None:
        return (profile.voltage_mv, profile.current_ma) == (
            most.voltage_mv,
            most.current_ma,
        )
    return (
        least.voltage_mv <= profile.voltage_mv <= most.voltage_mv
        and least.current_ma <= profile.current_ma <= most.current_ma
    )


def is_minimum_of(least: PowerProfile, most: PowerProfile) -> bool:
    """Return whether MINIMUM `least` may follow `most`: same kind, frequency and tag."""
    return (
        least.type is ProfileType.MINIMUM
        and least.waveform == most.waveform
        and least.phases == most.phases
        and least.frequency_chz == most.frequency_chz
        and least.tag == most.tag
    )


# PTCP-1-04
def is_fallback_of(floor: PowerProfile, grant: PowerProfile) -> bool:
    """Return whether `floor` is the power of `grant` with another, not greater, current."""
    return (
        floor.waveform == grant.waveform
        and floor.phases == grant.phases
        and floor.frequency_chz == grant.frequency_chz
        and floor.voltage_mv == grant.voltage_mv
        and floor.current_ma <= grant.current_ma
    )


@cache
def named_profiles() -> dict[str, dict[str, int]]:
    """Return the rows of data/profiles.toml by name: fields of `PowerProfile.make`."""
    rows = data.load("profiles.toml")["profile"]
    if not isinstance(rows, list):
        raise LocalProtocolError("profiles.toml needs an array of tables named profile")
    return {
        row["name"]: _parse_power(row["power"], row["name"]) | {"profile_id": row["id"]}
        for row in rows
    }


def _plain(value: int, places: int) -> str:
    whole, part = divmod(value, 10**places)
    digits = str(part).zfill(places).rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def _parse_power(power: str, text: str) -> dict[str, int]:
    """Return the fields of `V/I[@Hz][/word]..`."""
    parts = power.split("/")
    if len(parts) < 2:
        raise ValueError(f'a power is V/I[@Hz][/phases], for example 230V/16A@50Hz, got "{text}"')
    volts, (amps, _, hertz) = parts[0], parts[1].partition("@")
    fields = {
        "voltage_mv": parse_voltage_mv(volts),
        "current_ma": parse_current_ma(amps),
    }
    if hertz:
        chz = FREQUENCY_ANY if hertz == "any" else parse_frequency_chz(hertz)
        fields["frequency_chz"] = chz
        fields["waveform"] = Waveform.SINE
    for word in parts[2:]:
        name = word.upper().replace("-", "_")
        if name in Phases.__members__:
            fields["phases"] = Phases[name]
        elif name in ("DC", "ARBITRARY", "BY_ID"):
            fields["waveform"] = Waveform[name]
        else:
            raise ValueError(f'phases are one, split, delta or wye, got "{word}" in "{text}"')
    return fields


def _parse_whole_s(text: str) -> int:
    seconds, rest = divmod(parse_duration_ns(text), 1_000_000_000)
    if rest:
        raise ValueError(f'a lease is in whole seconds, got "{text}"')
    return seconds


def _parse_whole_j(text: str) -> int:
    joules, rest = divmod(parse_energy_uj(text), 1_000_000)
    if rest:
        raise ValueError(f'an energy is in whole joules, got "{text}"')
    return joules


_WORDS: dict[str, tuple[str, Callable[[str], int]]] = {
    "prio": ("priority", int),
    "energy": ("energy_j", _parse_whole_j),
    "lease": ("lease_s", _parse_whole_s),
}


def _parse_word(word: str, fields: dict[str, int], text: str) -> None:
    """Read one of prio=, energy=, lease=, giveback into `fields`."""
    if word == "giveback":
        fields["giveback"] = 1
        return
    name, equals, value = word.partition("=")
    if name not in _WORDS or not equals:
        raise ValueError(f'unknown word "{word}" in "{text}": prio=, energy=, lease=, giveback')
    field, parse = _WORDS[name]
    try:
        fields[field] = parse(value)
    except ValueError as error:
        raise ValueError(f'{name} in "{text}": {error}') from error
