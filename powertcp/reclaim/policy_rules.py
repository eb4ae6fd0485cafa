"""Rules of a policy from words: matches, verdicts, modifiers; and rules that can never decide."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeVar

from powertcp.errors import nearest
from powertcp.reclaim import policy_values as values
from powertcp.reclaim.policy_facts import (
    UNKNOWN,
    Accept,
    Drop,
    Reclaim,
    Reject,
    State,
    Verdict,
    Way,
)
from powertcp.reclaim.policy_lines import Fault, Statement, Word, listed, parsed, refuse
from powertcp.reclaim.policy_match import (
    CHOICES,
    COMPARING,
    NUMBERS,
    Choice,
    Compare,
    From,
    KeySet,
    Match,
    NamedSet,
    NetSet,
    Network,
    PeerAmong,
    PeerKey,
    Price,
    Shape,
    Span,
    TimeOfDay,
    VoltageAmong,
    VoltageSet,
)
from powertcp.vppn.faults import shown

ARROW: Final = "->"
MATCHES: Final = (
    "state", "sealed", "direction", "peer", "src", "dst", "entity", "voltage", "current", "power",
    "energy", "priority", "waveform", "frequency", "tariff", "load", "time", "feed",
)  # fmt: skip
VERDICTS: Final = ("accept", "drop", "reject", "reclaim")
MODIFIERS: Final = ("limit", "burst", "mark-ece", "log", "count")
# two limits and what lies between them is left out
MAX_SAME: Final = 4
# earlier rules that a rule is compared with, of those that share its rarest match, and ranges of a
# set: what comes behind is not looked at, so that a long policy loads in seconds
MAX_COMPARED: Final = 256
# a bucket holds so long a time of its rate, unless a burst is written
BURST_S: Final = 2
# the values that can be: what lies outside is never seen
_PRIORITIES: Final[Span] = (1, 16)
_DAY: Final[Span] = (0, 1440)

SetT = TypeVar("SetT", KeySet, VoltageSet, NetSet)
_KINDS: Final[Mapping[type, str]] = {KeySet: "keys", VoltageSet: "voltages", NetSet: "networks"}


class Spoiled(Exception):
    """A statement cannot be judged, since one that it names has faults of its own."""


@dataclass(frozen=True, slots=True)
class Names:
    """What rules may name; None is one that is spoiled."""

    sets: Mapping[str, NamedSet | None]
    reservoirs: Mapping[str, object | None]
    _networks: dict[Network, NetSet] = field(default_factory=dict)

    def network(self, network: Network) -> NetSet:
        """Return the set of one network, the same for each rule that writes it."""
        return self._networks.setdefault(network, NetSet(str(network), (network,)))

    def set_of(self, word: Word, kind: type[SetT]) -> SetT:
        """Return the set that "@NAME" names."""
        name = word.text.removeprefix("@")
        known = [key for key, it in self.sets.items() if it is None or isinstance(it, kind)]
        if name not in self.sets:
            hint = nearest(name, known)
            expected = [f"@{key}" for key in known[:8]] or [f"a set of {_KINDS[kind]}"]
            refuse(word, f"there is no set {shown(name)}{hint}", *expected)
        found = self.sets[name]
        if found is None:
            raise Spoiled
        if not isinstance(found, kind):
            has = _KINDS[type(found)]
            refuse(word, f"the set {name} has {has}", f"a set of {_KINDS[kind]}")
        return found

    def reservoir(self, statement: Statement) -> str:
        """Return the next word, the name of a reservoir."""
        word = statement.take("the name of a reservoir")
        if word.text not in self.reservoirs:
            hint = nearest(word.text, self.reservoirs)
            expected = list(self.reservoirs)[:8] or ["a reservoir statement of this name"]
            refuse(word, f"there is no reservoir {shown(word.text)}{hint}", *expected)
        if self.reservoirs[word.text] is None:
            raise Spoiled
        return word.text


# ---- matches ------------------------------------------------------------------------------------


def parse_matches(statement: Statement, names: Names) -> tuple[Match, ...]:
    """Take words up to and with the arrow."""
    found: list[Match] = []
    taken: Counter[str] = Counter()
    while True:
        word = statement.choose("match", (*MATCHES, ARROW))
        if word.text == ARROW:
            return tuple(found)
        taken[word.text] += 1
        most = MAX_SAME if word.text in (*NUMBERS, "tariff") else 1
        if taken[word.text] > most:
            often = f"stands more than {most} times" if most > 1 else "stands twice"
            refuse(word, f"{word.text} {often}", "another match", ARROW)
        first = statement.at - 1
        match = _match(word.text, statement, names)
        text = " ".join(it.text for it in statement.words[first : statement.at])
        found.append(replace(match, text=text))
        if taken[word.text] > 1:
            _check_together(found, word)
        elif _is_empty([match]):
            refuse(word, f"{text} never holds", "a match that can hold")


def _match(word: str, statement: Statement, names: Names) -> Match:
    if word == "voltage":
        return _voltage(statement, names)
    if word in NUMBERS:
        sign = statement.choose("comparison", COMPARING).text
        quantity = values.NUMBERS[word]
        return Compare(word, "", sign, statement.value(quantity.expected, quantity.parse))
    if word in CHOICES:
        return _choice(word, statement)
    if word == "peer":
        return _peer(statement, names)
    if word in ("src", "dst"):
        return _from(word, statement, names)
    if word == "tariff":
        sign = statement.choose("comparison", COMPARING).text
        micro, currency = statement.value(values.PRICE, values.parse_price)
        return Price(word, "", sign, micro, currency)
    first, end = statement.value(values.TIMES, values.parse_times)
    return TimeOfDay(word, "", first, end)


def _voltage(statement: Statement, names: Names) -> Match:
    sign = statement.choose("comparison", COMPARING)
    if not statement.next.startswith("@"):
        quantity = values.NUMBERS["voltage"]
        return Compare("voltage", "", sign.text, statement.value(quantity.expected, quantity.parse))
    if sign.text not in ("=", "!="):
        refuse(sign, f"a voltage is in a set or not, got {shown(sign.text)}", "=", "!=")
    return VoltageAmong("voltage", "", sign.text, names.set_of(statement.take(), VoltageSet))


def _choice(word: str, statement: Statement) -> Match:
    match word:
        case "state":
            return Choice(word, "", State(statement.choose("state", State).text))
        case "sealed":
            return Choice(word, "", statement.choose("answer", ("yes", "no")).text == "yes")
        case "direction":
            return Choice(word, "", Way(statement.choose("direction", Way).text))
        case "waveform":
            return Shape(word, "", values.SHAPES[statement.choose("waveform", values.SHAPES).text])
        case "entity":
            return Choice(word, "", statement.value(values.ENTITY, values.parse_octets))
        case _:
            return Choice(word, "", statement.value(values.FEED, values.parse_octets))


def _peer(statement: Statement, names: Names) -> Match:
    expected = ("@NAME", values.KEY, UNKNOWN)
    word = statement.take(*expected)
    if word.text.startswith("@"):
        return PeerAmong("peer", "", names.set_of(word, KeySet))
    if word.text == UNKNOWN:
        return PeerKey("peer", "", None)
    return PeerKey("peer", "", parsed(word, listed(expected), values.parse_key))


def _from(name: str, statement: Statement, names: Names) -> Match:
    expected = ("@NAME", values.NETWORK)
    word = statement.take(*expected)
    if word.text.startswith("@"):
        return From(name, "", names.set_of(word, NetSet))
    network = parsed(word, listed(expected), values.parse_network)
    return From(name, "", names.network(network))


def _check_together(found: Sequence[Match], word: Word) -> None:
    """Refuse the last match if nothing that it holds for is left by those of the same word."""
    same = [match for match in found if match.word == word.text]
    if len({it.currency for it in same if isinstance(it, Price)}) > 1:
        refuse(word, "a price has one currency", "another match", ARROW)
    if _is_empty(same):
        said = listed(match.text for match in same)
        refuse(word, f"no value is all of {said}", "matches that can hold together")


def _is_empty(matches: Sequence[Match]) -> bool:
    """Return whether no number is in all of them."""
    left: list[Span] = [(None, None)]
    if matches[0].word == "priority":
        left = [_PRIORITIES]
    elif matches[0].word == "time":
        left = [_DAY]
    for match in matches:
        if isinstance(match, VoltageAmong) and len(match.ranges.ranges) > MAX_COMPARED:
            return False
        if isinstance(match, Compare | VoltageAmong | Price | TimeOfDay):
            left = [both for one in left for other in match.spans() if (both := _both(one, other))]
    return not left


def _both(one: Span, other: Span) -> Span | None:
    firsts = [first for first in (one[0], other[0]) if first is not None]
    ends = [end for end in (one[1], other[1]) if end is not None]
    first, end = max(firsts, default=None), min(ends, default=None)
    if first is not None and end is not None and first >= end:
        return None
    return first, end


# ---- verdicts -----------------------------------------------------------------------------------


def parse_verdict(statement: Statement, names: Names) -> tuple[Verdict, Word]:
    """Take a verdict without modifiers; also return its word."""
    word = statement.choose("verdict", VERDICTS)
    match word.text:
        case "accept":
            return Accept(), word
        case "drop":
            return Drop(), word
        case "reject":
            return Reject(statement.value(values.CODE, values.parse_code)), word
        case _:
            return Reclaim(names.reservoir(statement)), word


class Modified(NamedTuple):
    """What follows a verdict. places: the words that were written."""

    limit_mw: int | None
    burst_uj: int | None
    counter: str | None
    places: Mapping[str, Word]


def parse_modifiers(statement: Statement, more: Sequence[str] = ()) -> Modified:
    """Take modifiers, each once, to the end of the line or a word of `more`."""
    places: dict[str, Word] = {}
    limit_mw = burst_uj = counter = None
    while not statement.is_over and statement.next not in more:
        left = [name for name in MODIFIERS if name not in places]
        if statement.next in places:
            refuse(statement.place, f"{statement.next} stands twice", *left)
        if "limit" not in places and "burst" in left:
            left.remove("burst")
        if statement.next == "burst" and "limit" not in places:
            refuse(statement.place, "burst stands after its limit", *left)
        word = statement.choose("modifier", (*left, *more))
        places[word.text] = word
        if word.text == "limit":
            limit_mw = statement.value(values.POWER.expected, _positive(values.POWER))
        elif word.text == "burst":
            burst_uj = statement.value(values.ENERGY.expected, _positive(values.ENERGY))
        elif word.text == "count":
            counter = statement.value(values.NAME, values.parse_name)
    return Modified(limit_mw, burst_uj, counter, places)


def _positive(quantity: values.Quantity) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = quantity.parse(text)
        if not value:
            raise ValueError(f"it is above 0, got {shown(text)}")
        return value

    return parse


def modified(verdict: Verdict, modifiers: Modified) -> Verdict:
    """Return the verdict with what follows it; raises the fault of a modifier that it cannot have."""
    limit_mw, burst_uj = modifiers.limit_mw, modifiers.burst_uj
    # FWRL-3-05
    if limit_mw is not None and burst_uj is None:
        burst_uj = limit_mw * BURST_S * 1000
    places = modifiers.places
    if isinstance(verdict, Accept):
        return Accept(limit_mw, burst_uj, "mark-ece" in places)
    if "mark-ece" in places:
        _unfit(places["mark-ece"], verdict, "log", "count")
    if isinstance(verdict, Reclaim):
        return Reclaim(verdict.reservoir, limit_mw, burst_uj)
    if "limit" in places:
        _unfit(places["limit"], verdict, "log", "count")
    return verdict


def _unfit(word: Word, verdict: Verdict, *expected: str) -> None:
    name = str(verdict).split()[0]
    refuse(word, f"{word.text} does not go with {name}", *expected)


# ---- rules that can never decide ----------------------------------------------------------------


def unreached(rules: Sequence[tuple[Word, int, Sequence[Match]]], most: int) -> list[Fault]:
    """Return a fault for rules behind one that asks less: word of each, its line, its matches.

    What a rule asks is compared as it is written: that 500 W are more than 400 W is not seen.
    """
    often = Counter(match for _, _, matches in rules for match in matches)
    earlier: dict[Match, list[tuple[int, frozenset[Match]]]] = {}
    faults: list[Fault] = []
    everything: int | None = None
    for word, line, matches in rules:
        asked = frozenset(matches)
        covering = everything or next(
            (
                other
                for match in matches
                for other, less in earlier.get(match, [])[:MAX_COMPARED]
                if less <= asked
            ),
            None,
        )
        if covering is not None:
            text = f"the rule is never reached: line {covering} matches all that it does"
            expected = "a rule that asks less, or this one before it"
            faults.append(Fault(*word[1:3], f"{text}; expected {expected}", word.text, (expected,)))
            if len(faults) == most:
                break
        elif not asked:
            everything = line
        else:
            rarest = min(matches, key=lambda match: often[match])
            earlier.setdefault(rarest, []).append((line, asked))
    return faults
