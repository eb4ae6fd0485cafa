"""Exact prices: the cost of energy without drift, and the tariff document that a contract pins.

A document is JSON. `{"currency": "EUR", "price_micro_per_kwh": 312000}` is one price at all times,
in millionths of the currency unit per kWh. `"slots": [{"days": ["sat", "sun"], "from": "22:00",
"to": "06:00", "price_micro_per_kwh": -5000}]` gives another to hours of the week; a slot that ends
before it begins ends on the next day, one without days is of every day. Hours are counted
`utc_offset_min` minutes east of UTC all the year. The digest is that of the octets of the file, so
a party that holds the same file can prove which prices were agreed.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any, Final

import msgspec

from powertcp.errors import ConfigError
from powertcp.units import NS_PER_S
from powertcp.wire.options import Tariff

UJ_PER_KWH: Final = 3_600_000_000_000
# a million units per kWh: the cost of any page, 2^64 uJ, then fits its field of 64 bits
MAX_PRICE_MICRO: Final = 10**12
# a price list of some pages; read whole before anything is known about it
MAX_DOCUMENT_OCTETS: Final = 65_536
# one slot for each hour of a week
MAX_SLOTS: Final = 168

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTE_NS = 60 * NS_PER_S
_DAY = 1_440
_WEEK = 7 * _DAY
# 1 January 1970 was a Thursday
_EPOCH_MINUTE = 3 * _DAY
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_CURRENCY = re.compile(r"[A-Z]{3}")
_PATH = re.compile(r" - at `([^`]*)`")


def _rounded(price_micro: int, energy_uj: int) -> int:
    """Return the price of `energy_uj` rounded half to even, in exact integers."""
    whole, rest = divmod(price_micro * energy_uj, UJ_PER_KWH)
    twice = 2 * rest
    return whole + (twice > UJ_PER_KWH or (twice == UJ_PER_KWH and whole % 2 == 1))


def cost_micro(price_micro: int, base_uj: int, start_uj: int, end_uj: int) -> int:
    """Return the cost of the energy from `start_uj` to `end_uj`, millionths of the currency unit.

    price_micro: per kWh, may be negative, in force since the register showed `base_uj`.
    The costs of adjoining pages add up to that of the whole: no page rounds for itself.
    """
    # LEDG-6-04
    return _rounded(price_micro, end_uj - base_uj) - _rounded(price_micro, start_uj - base_uj)


class _Slot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hours of some days and their price."""

    begin: str = msgspec.field(name="from")
    to: str
    price_micro_per_kwh: int
    days: tuple[str, ...] = DAYS


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tariff document as it is written."""

    currency: str
    name: str = ""
    price_micro_per_kwh: int | None = None
    slots: tuple[_Slot, ...] = ()
    utc_offset_min: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffDocument:
    """Prices by the hour of the week, and the octets that commit to them.

    digest: BLAKE2s-256 of the octets. currency: ISO 4217. name: for people.
    minutes: of the week, from Monday 0:00 in the document's time, at which a price begins.
    prices: as many, millionths of the currency unit per kWh.
    """

    digest: bytes
    currency: str
    name: str
    utc_offset_min: int
    minutes: tuple[int, ...]
    prices: tuple[int, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether there is one price at all times."""
        return len(self.prices) == 1

    def price_at(self, unix_ns: int) -> int:
        """Return the price at an instant, millionths of the currency unit per kWh."""
        # a price that began before Monday is the last of the week before
        return self.prices[bisect_right(self.minutes, self._minute(unix_ns)) - 1]

    def next_change_ns(self, unix_ns: int) -> int | None:
        """Return the next instant after `unix_ns` with another price; None if there never is."""
        if self.is_fixed:
            return None
        minute = self._minute(unix_ns)
        later = bisect_right(self.minutes, minute)
        until = self.minutes[later] if later < len(self.minutes) else self.minutes[0] + _WEEK
        return (unix_ns // _MINUTE_NS + until - minute) * _MINUTE_NS

    def terms(self, unix_ns: int) -> Tariff:
        """Return what a contract pins at an instant: the digest, the currency and the price."""
        return Tariff(self.digest, self.currency, self.price_at(unix_ns))

    def _minute(self, unix_ns: int) -> int:
        """Return the minute of the week of an instant, in the time of the document."""
        return (unix_ns // _MINUTE_NS + self.utc_offset_min + _EPOCH_MINUTE) % _WEEK


def parse_tariff(octets: bytes, file: str) -> TariffDocument:
    """Read a tariff document; `file` is its name in errors.

    Raises ConfigError with the path of what is wrong: unknown keys, a currency that is none, a
    price beyond MAX_PRICE_MICRO, slots that overlap, hours without a price.
    """
    if len(octets) > MAX_DOCUMENT_OCTETS:
        raise ConfigError(file, "$", f"more than {MAX_DOCUMENT_OCTETS:,} octets")
    document = _decode(octets, file)
    if not _CURRENCY.fullmatch(document.currency):
        text = f'three capital letters (ISO 4217), got "{document.currency}"'
        raise ConfigError(file, "$.currency", text)
    if not -_DAY <= document.utc_offset_min <= _DAY:
        text = f"{document.utc_offset_min:,} min, at most a day: 1,440 min"
        raise ConfigError(file, "$.utc_offset_min", text)
    minutes, prices = _changes(_week(document, file))
    return TariffDocument(
        digest=blake2s(octets).digest(),
        currency=document.currency,
        name=document.name,
        utc_offset_min=document.utc_offset_min,
        minutes=minutes,
        prices=prices,
    )


def _decode(octets: bytes, file: str) -> _Document:
    """Return the fields of a document. Raises ConfigError."""
    try:
        return msgspec.convert(json.loads(octets, object_pairs_hook=_once), _Document)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PATH.search(text)
        raise ConfigError(file, found[1] if found else "$", _PATH.sub("", text)) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(file, "$", f"not a JSON document: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; two readers could take different ones of two equal keys."""
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise ValueError(f'the key "{twice}" stands twice')
    return table


def _week(document: _Document, file: str) -> list[int]:
    """Return the price of each minute of a week. Raises ConfigError."""
    if len(document.slots) > MAX_SLOTS:
        raise ConfigError(file, "$.slots", f"{len(document.slots)} slots, at most {MAX_SLOTS}")
    rest = document.price_micro_per_kwh
    if rest is not None:
        _check_price(rest, file, "$")
    owners: list[int | None] = [None] * _WEEK
    for number, slot in enumerate(document.slots):
        where = f"$.slots[{number}]"
        _check_price(slot.price_micro_per_kwh, file, where)
        for minute in _minutes(slot, file, where):
            if owners[minute] is not None:
                text = f"{_clock(minute)} is in slots[{owners[minute]}] too"
                raise ConfigError(file, where, text)
            owners[minute] = number
    if rest is None and None in owners:
        where = "$.slots" if document.slots else "$"
        text = f"no price for {_clock(owners.index(None))}: add slots or price_micro_per_kwh"
        raise ConfigError(file, where, text)
    slots = document.slots
    return [
        slots[owner].price_micro_per_kwh if owner is not None else rest or 0 for owner in owners
    ]


def _check_price(price_micro: int, file: str, where: str) -> None:
    if abs(price_micro) > MAX_PRICE_MICRO:
        text = f"{price_micro:,} is beyond {MAX_PRICE_MICRO:,}, a million units per kWh"
        raise ConfigError(file, f"{where}.price_micro_per_kwh", text)


def _minutes(slot: _Slot, file: str, where: str) -> Iterator[int]:
    """Yield each minute of the week that is in a slot. Raises ConfigError."""
    begin = _minute_of_day(slot.begin, file, f"{where}.from")
    end = _minute_of_day(slot.to, file, f"{where}.to")
    if begin == end:
        raise ConfigError(file, where, f"begins and ends at {slot.begin}")
    if end < begin:
        end += _DAY
    for day in slot.days:
        if day not in DAYS:
            raise ConfigError(file, f"{where}.days", f'a day of {", ".join(DAYS)}, got "{day}"')
        first = DAYS.index(day) * _DAY
        for minute in range(first + begin, first + end):
            yield minute % _WEEK


def _minute_of_day(text: str, file: str, where: str) -> int:
    if not _TIME.fullmatch(text):
        raise ConfigError(file, where, f'a time from 00:00 to 24:00, got "{text}"')
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _clock(minute: int) -> str:
    """Return "mon 06:00"."""
    day, rest = divmod(minute, _DAY)
    return f"{DAYS[day]} {rest // 60:02}:{rest % 60:02}"


def _changes(week: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the minutes at which the price becomes another one, and the prices."""
    minutes = tuple(at for at in range(_WEEK) if week[at] != week[at - 1]) or (0,)
    return minutes, tuple(week[at] for at in minutes)
