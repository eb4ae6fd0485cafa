"""The matches of a rule, each in its plain form: does it hold for these facts.

An unknown value makes a match not hold, also with `!=`; only `peer unknown` asks for one.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from powertcp.profile import Waveform
from powertcp.reclaim.policy_facts import Address, Facts, say

Network: TypeAlias = IPv4Network | IPv6Network
Span: TypeAlias = tuple[int | None, int | None]
"""From the first value up to below the second one; None is no end."""

COMPARING: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
DAY_MIN: Final = 24 * 60

# the attribute of Facts that a word is about
NUMBERS: Final[Mapping[str, str]] = {
    "voltage": "voltage_mv",
    "current": "current_ma",
    "power": "power_mw",
    "energy": "energy_uj",
    "priority": "priority",
    "frequency": "frequency_chz",
    "load": "load_percent",
}
CHOICES: Final[Mapping[str, str]] = {
    "state": "state",
    "sealed": "is_sealed",
    "direction": "way",
    "entity": "entity",
    "feed": "feed",
    "waveform": "waveform",
}


def plain_address(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one carries, or the address itself."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


# ---- sets ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BoundKey:
    """A key that a set names. networks: where it may come from, None is not said. until_s: Unix."""

    key: bytes
    name: str
    networks: tuple[Network, ...] | None
    until_s: int | None

    def is_good(self, unix_s: int | None) -> bool:
        """Return whether it has not ended; without a time, whether it never does."""
        return self.until_s is None or (unix_s is not None and unix_s < self.until_s)


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """Keys of an authorized_watts file, in its order."""

    name: str
    keys: tuple[BoundKey, ...]
    _of: dict[bytes, list[BoundKey]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Sort by key."""
        for bound in self.keys:
            self._of.setdefault(bound.key, []).append(bound)

    def holds(self, key: bytes, unix_s: int | None) -> bool:
        """Return whether a line that has not ended names `key`."""
        return any(bound.is_good(unix_s) for bound in self._of.get(key, ()))


@dataclass(frozen=True, slots=True, eq=False)
class VoltageSet:
    """Ranges of voltage, both ends included, mV."""

    name: str
    ranges: tuple[tuple[int, int], ...]

    def holds(self, voltage_mv: int) -> bool:
        """Return whether a range has it."""
        return any(least <= voltage_mv <= most for least, most in self.ranges)


@dataclass(frozen=True, slots=True, eq=False)
class NetSet:
    """Networks of addresses."""

    name: str
    networks: tuple[Network, ...]

    def holds(self, address: Address) -> bool:
        """Return whether a network has it; an IPv4 address in an IPv6 one counts as such."""
        inside = plain_address(address)
        return any(inside in network for network in self.networks)


NamedSet: TypeAlias = KeySet | VoltageSet | NetSet


# ---- matches ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule asks of one value. word: of the policy. text: as it is written there."""

    word: str
    text: str = field(compare=False)

    def holds(self, facts: Facts) -> bool:
        """Return whether it does."""
        raise NotImplementedError

    def seen(self, facts: Facts) -> str:
        """Return the value it looked at, with its unit."""
        return say(self.word, facts)


@dataclass(frozen=True, slots=True)
class Choice(Match):
    """One value of few, or one octet string: state, sealed, direction, entity, feed."""

    value: str | bool | bytes

    def holds(self, facts: Facts) -> bool:
        """Return whether the value is the one."""
        # FWRL-3-10
        found = getattr(facts, CHOICES[self.word])
        return found is not None and found == self.value


@dataclass(frozen=True, slots=True)
class Shape(Match):
    """A waveform among some."""

    shapes: frozenset[Waveform]

    def holds(self, facts: Facts) -> bool:
        """Return whether it is one of them."""
        return facts.waveform in self.shapes


@dataclass(frozen=True, slots=True)
class PeerKey(Match):
    """One key of the other end; None: it is not known."""

    key: bytes | None

    def holds(self, facts: Facts) -> bool:
        """Return whether it is the one."""
        return facts.peer == self.key


@dataclass(frozen=True, slots=True)
class PeerAmong(Match):
    """A key of a set."""

    keys: KeySet

    def holds(self, facts: Facts) -> bool:
        """Return whether the set names it."""
        return facts.peer is not None and self.keys.holds(facts.peer, facts.unix_s)


@dataclass(frozen=True, slots=True)
class From(Match):
    """An address, src or dst, in one of some networks."""

    networks: NetSet

    def holds(self, facts: Facts) -> bool:
        """Return whether it is in one."""
        address = facts.src if self.word == "src" else facts.dst
        return address is not None and self.networks.holds(address)


@dataclass(frozen=True, slots=True)
class Compare(Match):
    """A number against a limit, in the base unit of the word."""

    sign: str
    value: int

    def holds(self, facts: Facts) -> bool:
        """Return whether the comparison does."""
        # FWRL-3-10
        found = getattr(facts, NUMBERS[self.word])
        return found is not None and COMPARING[self.sign](found, self.value)

    def spans(self) -> tuple[Span, ...]:
        """Return the numbers for which it holds."""
        return spans(self.sign, self.value, self.value)


@dataclass(frozen=True, slots=True)
class VoltageAmong(Match):
    """A voltage in a set of ranges (=), or in none of them (!=)."""

    sign: str
    ranges: VoltageSet

    def holds(self, facts: Facts) -> bool:
        """Return whether it is."""
        found = facts.voltage_mv
        return found is not None and self.ranges.holds(found) is (self.sign == "=")

    def spans(self) -> tuple[Span, ...]:
        """Return the voltages for which it holds."""
        inside = merged((least, most + 1) for least, most in self.ranges.ranges)
        if self.sign == "=":
            return tuple(inside)
        ends = [None, *(end for span in inside for end in span), None]
        return tuple(zip(ends[::2], ends[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class Price(Match):
    """A price per kWh against a limit in the same currency; another currency is no known price."""

    sign: str
    micro: int
    currency: str

    def holds(self, facts: Facts) -> bool:
        """Return whether the comparison does."""
        # FWRL-3-10
        return (
            facts.tariff_micro is not None
            and facts.currency == self.currency
            and COMPARING[self.sign](facts.tariff_micro, self.micro)
        )

    def spans(self) -> tuple[Span, ...]:
        """Return the prices for which it holds."""
        return spans(self.sign, self.micro, self.micro)


@dataclass(frozen=True, slots=True)
class TimeOfDay(Match):
    """Minutes of the local day from `first` to below `end`; over midnight when `end` is not later."""

    first: int
    end: int

    def holds(self, facts: Facts) -> bool:
        """Return whether it is that time."""
        minute = facts.minute
        if minute is None:
            return False
        if self.first < self.end:
            return self.first <= minute < self.end
        return minute >= self.first or minute < self.end

    def spans(self) -> tuple[Span, ...]:
        """Return the minutes for which it holds."""
        if self.first < self.end:
            return ((self.first, self.end),)
        return ((None, self.end), (self.first, None))


def spans(sign: str, least: int, most: int) -> tuple[Span, ...]:
    """Return the integers that compare so with least..most (one value, but for = and !=)."""
    match sign:
        case "=":
            return ((least, most + 1),)
        case "!=":
            return ((None, least), (most + 1, None))
        case "<":
            return ((None, least),)
        case "<=":
            return ((None, most + 1),)
        case ">":
            return ((most + 1, None),)
        case _:
            return ((least, None),)


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return half-open ranges in order, those joined that touch."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return found
