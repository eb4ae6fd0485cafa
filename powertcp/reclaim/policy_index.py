"""Rules made fast: for each word a table from its value to the rules that this word lets through.

Rules are taken in blocks; a set of rules of a block is an integer with a bit for each. Each lane looks
one value up, by a dictionary or by bisection, and gives the rules that ask nothing of it or whose match
holds. The rules for which all matches hold are those in all lanes; the first one is the lowest bit.
The cost does not depend on which rule it is, nor on what a stranger says.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from powertcp.errors import LocalProtocolError
from powertcp.reclaim.policy_facts import Facts
from powertcp.reclaim.policy_match import (
    CHOICES,
    NUMBERS,
    BoundKey,
    Choice,
    Compare,
    From,
    Match,
    PeerAmong,
    PeerKey,
    Price,
    Shape,
    Span,
    TimeOfDay,
    VoltageAmong,
    merged,
    plain_address,
)

# rules whose sets fit few machine words each: a table of this many limits takes 0.3 MB
BLOCK: Final = 1024

Lane: TypeAlias = Callable[[Facts], int]
Bits: TypeAlias = int
"""A set of rules: bit n is rule n of the block."""


class _Block(NamedTuple):
    """first: number of its first rule. every: all its rules."""

    first: int
    every: Bits
    lanes: tuple[Lane, ...]


class Index:
    """The first rule that matches, for rules that are lists of matches."""

    __slots__ = ("_blocks",)

    def __init__(self, rules: Sequence[Sequence[Match]]) -> None:
        """Make the tables."""
        self._blocks = [
            _block(first, rules[first : first + BLOCK]) for first in range(0, len(rules), BLOCK)
        ]

    # FWRL-3-01
    def first(self, facts: Facts) -> int | None:
        """Return the number of the first rule all of whose matches hold, None if there is none."""
        for first, every, lanes in self._blocks:
            found = every
            for lane in lanes:
                found &= lane(facts)
            if found:
                return first + (found & -found).bit_length() - 1
        return None


_PEER: Final = "peer"
_NETS: Final = ("src", "dst")
_TARIFF: Final = "tariff"
_TIME: Final = "time"


def _block(first: int, rules: Sequence[Sequence[Match]]) -> _Block:
    """Sort the matches of some rules into lanes: the second match of a word has a lane of its own."""
    sorted_: dict[tuple[str, int], dict[Match, Bits]] = defaultdict(lambda: defaultdict(int))
    for number, matches in enumerate(rules):
        taken: dict[str, int] = defaultdict(int)
        for match in matches:
            sorted_[match.word, taken[match.word]][match] |= 1 << number
            taken[match.word] += 1
    every = (1 << len(rules)) - 1
    lanes = [_lane(word, asked, every) for (word, _), asked in sorted_.items()]
    return _Block(first, every, tuple(lanes))


def _lane(word: str, asked: Mapping[Match, Bits], every: Bits) -> Lane:
    rest = every
    for bits in asked.values():
        rest &= ~bits
    if word in CHOICES:
        return _choices(CHOICES[word], asked, rest)
    if word in NUMBERS:
        return _numbers(NUMBERS[word], _table(_spanned(asked), rest), rest)
    if word in _NETS:
        return _networks(word, asked, rest)
    if word == _PEER:
        return _peers(asked, rest)
    if word == _TARIFF:
        return _prices(asked, rest)
    if word == _TIME:
        return _numbers("minute", _table(_spanned(asked), rest), rest)
    raise LocalProtocolError(f"no lane for the word {word}")


# ---- values that are equal or not ---------------------------------------------------------------


def _choices(name: str, asked: Mapping[Match, Bits], rest: Bits) -> Lane:
    table: dict[Hashable, Bits] = defaultdict(lambda: rest)
    for match, bits in asked.items():
        values: Iterable[Hashable] = ()
        if isinstance(match, Choice):
            values = (match.value,)
        elif isinstance(match, Shape):
            values = match.shapes
        for value in values:
            table[value] |= bits
    get, found = attrgetter(name), dict(table)
    return lambda facts: found.get(get(facts), rest)


def _peers(asked: Mapping[Match, Bits], rest: Bits) -> Lane:
    table: dict[bytes | None, Bits] = defaultdict(lambda: rest)
    ending: dict[bytes, list[tuple[BoundKey, Bits]]] = defaultdict(list)
    for match, bits in asked.items():
        if isinstance(match, PeerKey):
            table[match.key] |= bits
        elif isinstance(match, PeerAmong):
            for bound in match.keys.keys:
                if bound.until_s is None:
                    table[bound.key] |= bits
                else:
                    ending[bound.key].append((bound, bits))
    found = dict(table)

    def lane(facts: Facts) -> Bits:
        peer = facts.peer
        bits = found.get(peer, rest)
        if peer in ending:
            for bound, more in ending[peer]:
                if bound.is_good(facts.unix_s):
                    bits |= more
        return bits

    return lane


# ---- values in spans ----------------------------------------------------------------------------


class _Table(NamedTuple):
    """Rules by value: those of places[n] from limits[n - 1] up to below limits[n]."""

    limits: list[int]
    places: list[Bits]

    def at(self, value: int) -> Bits:
        """Return the rules for `value`."""
        return self.places[bisect_right(self.limits, value)]


def _table(asked: Iterable[tuple[Iterable[Span], Bits]], rest: Bits) -> _Table:
    """Sweep over the ends of all spans. Spans of one entry do not overlap."""
    below, turning = rest, defaultdict[int, Bits](int)
    for spans, bits in asked:
        for first, end in spans:
            if first is None:
                below ^= bits
            else:
                turning[first] ^= bits
            if end is not None:
                turning[end] ^= bits
    limits = sorted(turning)
    places = [below]
    for limit in limits:
        places.append(places[-1] ^ turning[limit])
    return _Table(limits, places)


def _spanned(asked: Mapping[Match, Bits]) -> list[tuple[Iterable[Span], Bits]]:
    kinds = (Compare, VoltageAmong, TimeOfDay, Price)
    return [(match.spans(), bits) for match, bits in asked.items() if isinstance(match, kinds)]


def _numbers(name: str, table: _Table, rest: Bits) -> Lane:
    get, (limits, places) = attrgetter(name), table

    def lane(facts: Facts) -> Bits:
        value = get(facts)
        return rest if value is None else places[bisect_right(limits, value)]

    return lane


def _prices(asked: Mapping[Match, Bits], rest: Bits) -> Lane:
    sorted_: dict[str, dict[Match, Bits]] = defaultdict(dict)
    for match, bits in asked.items():
        if isinstance(match, Price):
            sorted_[match.currency][match] = bits
    tables = {currency: _table(_spanned(some), rest) for currency, some in sorted_.items()}

    def lane(facts: Facts) -> Bits:
        table = tables.get(facts.currency or "")
        if table is None or facts.tariff_micro is None:
            return rest
        return table.at(facts.tariff_micro)

    return lane


def _networks(word: str, asked: Mapping[Match, Bits], rest: Bits) -> Lane:
    tables = {}
    for version in (4, 6):
        spanned = [
            (_addresses(match, version), bits)
            for match, bits in asked.items()
            if isinstance(match, From)
        ]
        tables[version] = _table(spanned, rest)
    get = attrgetter(word)

    def lane(facts: Facts) -> Bits:
        address = get(facts)
        if address is None:
            return rest
        if address.version == 6:
            address = plain_address(address)
        return tables[address.version].at(int(address))

    return lane


def _addresses(match: From, version: int) -> list[tuple[int, int]]:
    """Return the addresses of one version that it names, as numbers."""
    return merged(
        (int(network.network_address), int(network.broadcast_address) + 1)
        for network in match.networks.networks
        if network.version == version
    )
