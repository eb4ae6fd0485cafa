"""The text of a policy: one statement a line, `#` comment, a line that ends in a backslash goes on.

```
reservoir main capacity 5kWh charge 95% discharge 95% leak 50mW max-in 2kW max-out 1kW floor 10% when-full stop
set mains voltage 207V-253V 99V-132V
policy reclaim main
rule direction in state new power > 500W -> reject 204 log
infrastructure from main power auto share 50%
lend from main offer 12V/5A,prio=5 above 20% listen [::]:3251 announce "reclaimed power"
test state=unsolicited power=1kW -> reclaim main
```
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from powertcp.errors import InvalidText, PowerError
from powertcp.profile import PowerProfile, ProfileType
from powertcp.reclaim import policy_values as values
from powertcp.reclaim.policy import Case, Infrastructure, Lend, Policy, Rule
from powertcp.reclaim.policy_cases import parse_case
from powertcp.reclaim.policy_facts import Verdict
from powertcp.reclaim.policy_lines import (
    MAX_FAULTS,
    Fault,
    PolicyError,
    Statement,
    Word,
    WrongWord,
    parsed,
    refuse,
    statements,
)
from powertcp.reclaim.policy_match import BoundKey, KeySet, Match, NamedSet, NetSet, VoltageSet
from powertcp.reclaim.policy_rules import (
    Names,
    Spoiled,
    modified,
    parse_matches,
    parse_modifiers,
    parse_verdict,
    unreached,
)
from powertcp.sources.reservoir import ReservoirTerms
from powertcp.vppn.authorized import Kind, parse_authorized
from powertcp.vppn.faults import shown

# an evaluation of so many takes some 50 us
MAX_RULES: Final = 10_000
MAX_SETS: Final = 256
# of one set, and of all: what the tables of voltages and networks grow by
MAX_MEMBERS: Final = 4_096
MAX_ALL_MEMBERS: Final = 16_384
# each one is some accounts of the ledger
MAX_RESERVOIRS: Final = 64
# each one is a provider with a socket of its own
MAX_LENDS: Final = 16
MAX_TESTS: Final = 10_000
# a label of a DNS name
MAX_ANNOUNCED: Final = 63

STATEMENTS: Final = ("reservoir", "set", "policy", "rule", "infrastructure", "lend", "test")
_FIRST: Final = ("reservoir", "set")
_KINDS: Final = ("keys", "voltage", "net")
_WHEN_FULL: Final = ("stop", "heat")
_DEFAULTS: Final = "policy accept, policy drop, policy reject CODE or policy reclaim NAME"

ValueT = TypeVar("ValueT")
Read = Callable[[str], bytes]
"""Returns the octets of a file that the policy names; raises PowerError or OSError."""


@dataclass(slots=True)
class _Draft:
    """What has been read so far; None is a statement that has faults."""

    reservoirs: dict[str, ReservoirTerms | None] = field(default_factory=dict)
    sets: dict[str, NamedSet | None] = field(default_factory=dict)
    members: int = 0
    default: tuple[Verdict, int, str] | None = None
    rules: list[tuple[Word, Rule]] = field(default_factory=list)
    infrastructure: Infrastructure | None = None
    lends: list[Lend] = field(default_factory=list)
    tests: list[Case] = field(default_factory=list)


def _nothing(name: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory", name)


# FWRL-3-02
def parse_policy(
    octets: bytes, file: str, read: Read = _nothing, *, is_lab: bool = False
) -> Policy:
    """Read a policy as a whole; `file` is its name in reasons.

    read: gives the file that a set of keys names. is_lab: a reservoir without losses may be.
    Raises PolicyError with the first MAX_FAULTS faults; then nothing of the text holds.
    """
    found, faults = statements(octets, file)
    draft = _Draft()
    parser = _Parser(draft, read, is_lab=is_lab)
    # what is named may stand behind what names it
    for is_first in (True, False):
        for statement in found:
            if is_first is not (statement.words[0].text in _FIRST):
                continue
            if (fault := parser.parse(statement)) is not None:
                faults.append(fault)
                if len(faults) >= MAX_FAULTS:
                    raise PolicyError(file, faults)
    ordered = [(word, rule.line, rule.matches) for word, rule in draft.rules]
    faults += unreached(ordered, MAX_FAULTS)
    # FWRL-3-15
    if draft.default is None and not parser.has_policy:
        text = f"there is no policy statement; expected {_DEFAULTS}"
        faults.append(Fault(octets.count(b"\n") + 1, 1, text, "", (_DEFAULTS,)))
    # FWRL-1-01
    if faults or draft.default is None:
        raise PolicyError(file, faults)
    default, line, text = draft.default
    return Policy(
        file=file,
        rules=tuple(rule for _, rule in draft.rules),
        default=default,
        default_line=line,
        default_text=text,
        reservoirs={name: terms for name, terms in draft.reservoirs.items() if terms},
        sets={name: one for name, one in draft.sets.items() if one},
        infrastructure=draft.infrastructure,
        lends=tuple(draft.lends),
        tests=tuple(draft.tests),
    )


class _Parser:
    """Parses statements, each as a whole, into a draft."""

    def __init__(self, draft: _Draft, read: Read, *, is_lab: bool) -> None:
        self.has_policy = False
        self._draft, self._read, self._is_lab = draft, read, is_lab
        self._names = Names(draft.sets, draft.reservoirs)
        self._parsers: Mapping[str, Callable[[Statement], None]] = {
            "reservoir": self._reservoir,
            "set": self._set,
            "policy": self._default,
            "rule": self._rule,
            "infrastructure": self._infrastructure,
            "lend": self._lend,
            "test": self._test,
        }

    def parse(self, statement: Statement) -> Fault | None:
        """Take one statement, or return what is wrong with it."""
        try:
            # FWRL-1-01
            self._parsers[statement.choose("statement", STATEMENTS).text](statement)
        except Spoiled:
            return None
        except WrongWord as error:
            return error.fault
        return None

    # ---- what others name -----------------------------------------------------------------------

    def _new(self, statement: Statement, what: str, known: Collection[str], most: int) -> str:
        """Return the next word, the name of something that has none yet."""
        # FWRL-3-15
        word = statement.take(f"the name of a {what}")
        name = parsed(word, values.NAME, values.parse_name)
        if name in known:
            refuse(word, f"there are two of {what} {name}", "another name")
        if len(known) == most:
            refuse(word, f"there are more than {most} of {what}", f"at most {most}")
        return name

    def _reservoir(self, statement: Statement) -> None:
        reservoirs = self._draft.reservoirs
        name = self._new(statement, "reservoir", reservoirs, MAX_RESERVOIRS)
        reservoirs[name] = None
        given: dict[str, object] = {}
        places: dict[str, Word] = {}
        while not statement.is_over:
            left = [word for word in _TERMS if word not in places]
            if statement.next in places:
                refuse(statement.place, f"{statement.next} stands twice", *left)
            word = statement.choose("term of a reservoir", left)
            places[word.text] = word
            given |= _TERMS[word.text](statement)
        if "capacity" not in places:
            refuse(statement.end, f"reservoir {name} has no capacity", "capacity")
        terms = ReservoirTerms(name=name, **given)  # type: ignore[arg-type]
        # FWRL-4-01
        for said in terms.faults(is_lab=self._is_lab):
            word = places.get(said.split()[0], places["capacity"])
            refuse(word, said, "a value in its range")
        reservoirs[name] = terms

    def _set(self, statement: Statement) -> None:
        name = self._new(statement, "set", self._draft.sets, MAX_SETS)
        self._draft.sets[name] = None
        match statement.choose("kind of a set", _KINDS).text:
            case "keys":
                found: NamedSet = self._keys(statement, name)
            case "voltage":
                ranges = self._members(statement, values.RANGE, values.parse_range)
                found = VoltageSet(name, ranges)
            case _:
                networks = self._members(statement, values.NETWORK, values.parse_network)
                found = NetSet(name, networks)
        self._draft.sets[name] = found

    def _members(
        self, statement: Statement, expected: str, parse: Callable[[str], ValueT]
    ) -> tuple[ValueT, ...]:
        found: list[ValueT] = []
        while not found or not statement.is_over:
            self._count(len(found) + 1, statement.place)
            found.append(statement.value(expected, parse))
        self._draft.members += len(found)
        return tuple(dict.fromkeys(found))

    def _count(self, members: int, word: Word) -> None:
        if members > MAX_MEMBERS:
            refuse(word, f"a set has at most {MAX_MEMBERS:,} members", "the end of the line")
        if self._draft.members + members > MAX_ALL_MEMBERS:
            text = f"all sets have at most {MAX_ALL_MEMBERS:,} members"
            refuse(word, text, "the end of the line")

    def _keys(self, statement: Statement, name: str) -> KeySet:
        word = statement.take("the name of a file")
        statement.finish()
        expected = "a file of authorized_watts"
        try:
            # FWRL-1-01
            watts = parse_authorized(self._read(word.text), word.text)
        except InvalidText as error:
            refuse(word, str(error), expected)
        except (PowerError, OSError) as error:
            refuse(word, f"it cannot be read: {error}", expected)
        denied = {rule.key for rule in watts.rules if rule.is_denied}
        keys = tuple(
            BoundKey(rule.key.octets, rule.name, rule.limits.networks, rule.limits.expires_s)
            for rule in watts.rules
            if rule.kind is Kind.KEY and rule.key is not None and rule.key not in denied
        )
        self._count(len(keys), word)
        self._draft.members += len(keys)
        return KeySet(name, keys)

    # ---- verdicts -------------------------------------------------------------------------------

    def _default(self, statement: Statement) -> None:
        self.has_policy = True
        # FWRL-3-15
        if self._draft.default is not None:
            other = self._draft.default[1]
            refuse(statement.words[0], f"line {other} is the policy already", "one policy")
        verdict, _ = parse_verdict(statement, self._names)
        statement.finish()
        self._draft.default = verdict, statement.line, statement.text

    def _rule(self, statement: Statement) -> None:
        rules = self._draft.rules
        if len(rules) == MAX_RULES:
            refuse(statement.words[0], f"there are more than {MAX_RULES:,} rules", "no more rules")
        matches: Sequence[Match] = parse_matches(statement, self._names)
        verdict, _ = parse_verdict(statement, self._names)
        modifiers = parse_modifiers(statement)
        rule = Rule(
            number=len(rules),
            line=statement.line,
            text=statement.text,
            matches=tuple(matches),
            verdict=modified(verdict, modifiers),
            is_logging="log" in modifiers.places,
            counter=modifiers.counter,
        )
        rules.append((statement.words[0], rule))

    # ---- what is done with a reservoir ----------------------------------------------------------

    def _infrastructure(self, statement: Statement) -> None:
        draft = self._draft
        if draft.infrastructure is not None:
            other = draft.infrastructure.line
            refuse(statement.words[0], f"line {other} is about the infrastructure already", "one")
        statement.choose("word", ("from",))
        reservoir = self._names.reservoir(statement)
        statement.choose("word", ("power",))
        power_mw = None
        if statement.next == "auto":
            statement.take()
        else:
            power_mw = statement.value(f"auto or {values.POWER.expected}", values.POWER.parse)
        statement.choose("word", ("share",))
        share = statement.value(values.PERCENT.expected, values.parse_percent_of_all)
        statement.finish()
        draft.infrastructure = Infrastructure(
            line=statement.line, reservoir=reservoir, power_mw=power_mw, share_percent=share
        )

    def _lend(self, statement: Statement) -> None:
        lends = self._draft.lends
        if len(lends) == MAX_LENDS:
            refuse(statement.words[0], f"there are more than {MAX_LENDS} lenders", "no more")
        statement.choose("word", ("from",))
        reservoir = self._names.reservoir(statement)
        statement.choose("word", ("offer",))
        offer = statement.value("a power (12V/5A,prio=5)", _parse_offer)
        statement.choose("word", ("above",))
        above = statement.value(values.PERCENT.expected, values.parse_percent_of_all)
        statement.choose("word", ("listen",))
        place = statement.take(values.LISTEN)
        host, port = parsed(place, values.LISTEN, values.parse_listen)
        if port and any((it.host, it.port) == (host, port) for it in lends):
            refuse(place, f"two lenders listen on {shown(place.text)}", "another address or port")
        announce = None
        if not statement.is_over:
            statement.choose("word", ("announce",))
            announce = _announcement(statement.take("a name in quotation marks"))
        statement.finish()
        lends.append(
            Lend(
                line=statement.line,
                reservoir=reservoir,
                offer=offer,
                above_percent=above,
                host=host,
                port=port,
                announce=announce,
            )
        )

    def _test(self, statement: Statement) -> None:
        tests = self._draft.tests
        if len(tests) == MAX_TESTS:
            refuse(statement.words[0], f"there are more than {MAX_TESTS:,} tests", "no more tests")
        tests.append(parse_case(statement, self._names))


# ---- values of one statement --------------------------------------------------------------------


def _term(name: str, quantity: values.Quantity) -> Callable[[Statement], dict[str, object]]:
    return lambda statement: {name: statement.value(quantity.expected, quantity.parse)}


def _when_full(statement: Statement) -> dict[str, object]:
    return {"is_stopping": statement.choose("answer", _WHEN_FULL).text == "stop"}


# what leaks is counted in uW, a power in mW: the next unit of the same number
_LEAKS: Final = (("uW", "mW"), ("mW", "W"), ("kW", "MW"), ("W", "kW"))


def _parse_leak(text: str) -> int:
    for unit, larger in _LEAKS:
        if text.endswith(unit):
            with suppress(ValueError):
                return values.POWER.parse(text.removesuffix(unit) + larger)
    raise ValueError(f"a leak is a power in whole uW, up to some kW, got {shown(text)}")


_LEAK: Final = values.Quantity(values.POWER.expected, _parse_leak)
_TERMS: Final[Mapping[str, Callable[[Statement], dict[str, object]]]] = {
    "capacity": _term("capacity_uj", values.ENERGY),
    "charge": _term("charge_percent", values.PERCENT),
    "discharge": _term("discharge_percent", values.PERCENT),
    "leak": _term("leak_uw", _LEAK),
    "max-in": _term("max_in_mw", values.POWER),
    "max-out": _term("max_out_mw", values.POWER),
    "floor": _term("floor_percent", values.PERCENT),
    "when-full": _when_full,
}


def _parse_offer(text: str) -> PowerProfile:
    return PowerProfile.parse(text, ProfileType.OFFER)


def _announcement(word: Word) -> str:
    if not word.text or len(word.text.encode()) > MAX_ANNOUNCED:
        refuse(word, f"an announced name has 1 to {MAX_ANNOUNCED} octets", "a shorter name")
    return word.text
