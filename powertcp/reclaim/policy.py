"""The policy of the reclaim firewall: rules in order, the first that matches decides.

A policy is loaded as a whole (policy_text) and never changed: a reload is another policy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from powertcp.profile import PowerProfile
from powertcp.reclaim.policy_facts import (
    SAYING,
    UNKNOWN,
    Accept,
    Address,
    Drop,
    Facts,
    Reclaim,
    Reject,
    State,
    Verdict,
    Way,
    say,
)
from powertcp.reclaim.policy_index import Index
from powertcp.reclaim.policy_match import (
    Compare,
    KeySet,
    Match,
    NamedSet,
    NetSet,
    PeerAmong,
    VoltageSet,
    plain_address,
)
from powertcp.sources.reservoir import ReservoirTerms

__all__ = [
    "INSIDE",
    "NO_POLICY",
    "Accept",
    "Address",
    "Case",
    "Decision",
    "Drop",
    "Expected",
    "Facts",
    "Infrastructure",
    "KeySet",
    "Lend",
    "Match",
    "NamedSet",
    "NetSet",
    "Policy",
    "Reclaim",
    "Reject",
    "Rule",
    "State",
    "Step",
    "Verdict",
    "VoltageSet",
    "Way",
    "said",
]

# the set of networks that says which side is ours
INSIDE: Final = "inside"
# a policy that was made without a text
NO_POLICY: Final = "no policy statement: drop"
# FWRL-1-01
_DROP: Final = Drop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. number: from 0. line: its first. text: the statement without comment."""

    number: int
    line: int
    text: str
    matches: tuple[Match, ...]
    verdict: Verdict
    is_logging: bool = False
    counter: str | None = None


class Decision(NamedTuple):
    """A verdict and why. rule: None is the policy statement. values: of its matches, with units."""

    verdict: Verdict
    rule: Rule | None
    line: int
    text: str
    file: str
    values: tuple[tuple[str, str], ...]

    @property
    def place(self) -> str:
        """File and line, as reasons name it."""
        return f"{self.file}:{self.line}"

    @property
    def is_logging(self) -> bool:
        """Whether the rule asks for a line in the log."""
        return self.rule is not None and self.rule.is_logging


class Step(NamedTuple):
    """One rule of a trace. failed: the first match that does not hold. seen: the value it saw."""

    rule: Rule
    failed: Match | None
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Infrastructure:
    """The host runs from a reservoir. power_mw: its draw, None is measured. share_percent: of it."""

    line: int
    reservoir: str
    power_mw: int | None
    share_percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lend:
    """An internal provider over a reservoir.

    offer: what it has. above_percent: of the capacity; below it the offer is withdrawn. host, port:
    where it listens. announce: the name of its advert, None is not announced.
    """

    line: int
    reservoir: str
    offer: PowerProfile
    above_percent: int
    host: str
    port: int
    announce: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a test statement expects. verdict: limit and burst count only if they are written.

    rule_line: of the rule or the policy statement that decides. None, False: not said.
    """

    verdict: Verdict
    has_limit: bool = False
    has_burst: bool = False
    is_marking: bool = False
    is_logging: bool = False
    counter: str | None = None
    rule_line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A test statement of the policy: facts, and what is to become of them."""

    line: int
    text: str
    facts: Facts
    expected: Expected


@dataclass(slots=True, kw_only=True, eq=False)
class Policy:
    """A whole, valid policy; nothing of it is ever changed.

    file: its name in reasons. default: when no rule matches, by `default_line`; what is made without
    a text drops.
    """

    file: str
    rules: tuple[Rule, ...] = ()
    default: Verdict = _DROP
    default_line: int = 0
    default_text: str = NO_POLICY
    reservoirs: Mapping[str, ReservoirTerms] = field(default_factory=dict)
    sets: Mapping[str, NamedSet] = field(default_factory=dict)
    infrastructure: Infrastructure | None = None
    lends: tuple[Lend, ...] = ()
    tests: tuple[Case, ...] = ()
    _index: Index = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the tables of the rules."""
        self._index = Index([rule.matches for rule in self.rules])

    # FWRL-3-01
    def evaluate(self, facts: Facts) -> Decision:
        """Return what the first matching rule says, or the policy statement when none matches."""
        number = self._index.first(facts)
        if number is None:
            return Decision(self.default, None, self.default_line, self.default_text, self.file, ())
        rule = self.rules[number]
        values = tuple([(match.word, match.seen(facts)) for match in rule.matches])
        return Decision(rule.verdict, rule, rule.line, rule.text, self.file, values)

    def trace(self, facts: Facts) -> tuple[Step, ...]:
        """Return what became of each rule, up to the one that decides."""
        steps = []
        for rule in self.rules:
            failed = next((match for match in rule.matches if not match.holds(facts)), None)
            steps.append(Step(rule, failed, failed.seen(facts) if failed else ""))
            if failed is None:
                break
        return tuple(steps)

    # ---- what an engine has to watch ------------------------------------------------------------

    @property
    def energy_marks_uj(self) -> tuple[int, ...]:
        """Energies, in order, from which on another rule may match: a flow that gets there is judged."""
        marks = {
            end
            for match in self._matches()
            if isinstance(match, Compare) and match.word == "energy"
            for span in match.spans()
            for end in span
            if end
        }
        return tuple(sorted(marks))

    @property
    def watches_load(self) -> bool:
        """Whether a rule asks for the load."""
        return any(match.word == "load" for match in self._matches())

    @property
    def watches_time(self) -> bool:
        """Whether a rule asks for the time, or for a key that ends at one."""
        return any(
            match.word == "time"
            or (isinstance(match, PeerAmong) and any(key.until_s for key in match.keys.keys))
            for match in self._matches()
        )

    def _matches(self) -> Iterable[Match]:
        return (match for rule in self.rules for match in rule.matches)

    # ---- sets -----------------------------------------------------------------------------------

    def is_inside(self, address: Address) -> bool | None:
        """Return whether `address` is in the networks called `inside`, None without such a set."""
        inside = self.sets.get(INSIDE)
        return inside.holds(address) if isinstance(inside, NetSet) else None

    def peer_at(
        self, address: Address, unix_s: int | None = None, name: str | None = None
    ) -> bytes | None:
        """Return the key that the operator binds to `address`, in the set `name` or in any.

        The smallest network that has it decides. None: no line names it, or the best ones name
        different keys. unix_s: without it, a line that has an end has ended.
        """
        inside = plain_address(address)
        sets = [self.sets.get(name)] if name is not None else list(self.sets.values())
        best, keys = -1, set[bytes]()
        for one in sets:
            for bound in one.keys if isinstance(one, KeySet) else ():
                if bound.networks is None or not bound.is_good(unix_s):
                    continue
                for network in bound.networks:
                    if inside in network and network.prefixlen >= best:
                        keys = {bound.key} | (keys if network.prefixlen == best else set())
                        best = network.prefixlen
        return keys.pop() if len(keys) == 1 else None


def said(facts: Facts) -> tuple[tuple[str, str], ...]:
    """Return everything that is known of `facts`, in the words of the policy."""
    found = ((word, say(word, facts)) for word in SAYING)
    return tuple((word, text) for word, text in found if text != UNKNOWN)
