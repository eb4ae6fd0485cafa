"""Where the joules of a firewall go: flow by flow, rule by rule, and what the ledger is told.

All amounts are integer microjoules. What came in is what was passed on, kept and lost; what headers
claim beyond that is counted apart and never added to it. FWRL sections 1 and 5, LEDG-8-03.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from powertcp.ledger import Code
from powertcp.machine import Event
from powertcp.reclaim.policy import Decision, Facts
from powertcp.registry import Refusal
from powertcp.units import Instant

# PTCP-14-01: flows kept for `explain`
EXPLAIN_MEMORY: Final = 1024
ENERGY: Final = "uJ"
CLAIMED: Final = "uJ-claimed"
# what the ledger takes at once
AMOUNT_MAX: Final = (1 << 63) - 1


@dataclass(slots=True)
class Joules:
    """Sums of energy, uJ.

    in_uj: integrated. authorised_uj: passed on. reclaimed_uj: what the store has more of. heat_uj:
    lost. out_uj: taken from the store and used. claimed_uj: what headers say beyond what was
    verified; in no sum.
    """

    in_uj: int = 0
    authorised_uj: int = 0
    reclaimed_uj: int = 0
    heat_uj: int = 0
    out_uj: int = 0
    claimed_uj: int = 0

    # FWRL-5-01
    @property
    def residual_uj(self) -> int:
        """What is unaccounted for: 0."""
        return self.in_uj - self.authorised_uj - self.reclaimed_uj - self.heat_uj - self.out_uj

    def fields(self) -> dict[str, int]:
        """Return the sums by name."""
        return {
            "in_uj": self.in_uj,
            "authorised_uj": self.authorised_uj,
            "reclaimed_uj": self.reclaimed_uj,
            "heat_uj": self.heat_uj,
            "out_uj": self.out_uj,
            "claimed_uj": self.claimed_uj,
            "residual_uj": self.residual_uj,
        }


@dataclass(slots=True, eq=False)
class FlowAccount:
    """One flow through the firewall, as `explain` and `list` show it.

    name: ADDRESS:PORT/FLOW. peer: whose power it is, for `intercepted:`. other: the far side, as
    people see it. state: what became of it last. decision, facts: of the last evaluation. refusal:
    why it was refused, tripped or intercepted. holds: how often its credit was held back. line: of
    the policy that decided, 0: none did.
    """

    name: str
    peer: str
    opened_at: Instant
    other: str = ""
    what: str = "new"
    decision: Decision | None = None
    facts: Facts | None = None
    refusal: Refusal | None = None
    joules: Joules = field(default_factory=Joules)
    holds: int = 0
    line: int = 0
    is_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled(Event):
    """A flow was judged, and something came of it that its operator may want to know.

    what: accepted, clamped, refused, dropped, intercepted, tripped, closed, failed. is_logged: the
    rule says so, or it is no accept.
    """

    account: FlowAccount
    what: str
    now: Instant
    decision: Decision | None
    refusal: Refusal | None
    is_logged: bool


class Posting(NamedTuple):
    """What the ledger is to be told: an amount from `credit` to `debit`."""

    debit: str
    credit: str
    unit: str
    amount: int
    code: Code


class Pending:
    """What is not in the ledger yet, summed up.

    Bound: one sum for each pair of accounts, of at most what the ledger takes at once: beyond that
    is only what nobody could deliver, in lies and in heat.
    """

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str, Code], int] = {}

    def add(self, debit: str, credit: str, amount: int, code: Code, unit: str = ENERGY) -> None:
        """Let `amount` go from `credit` to `debit`."""
        if amount:
            key = (debit, credit, unit, code)
            # FWRL-3-04
            self._sums[key] = min(self._sums.get(key, 0) + amount, AMOUNT_MAX)

    def take(self) -> list[Posting]:
        """Return all of it, and begin anew."""
        sums, self._sums = self._sums, {}
        return [
            Posting(debit, credit, unit, amount, code)
            for (debit, credit, unit, code), amount in sums.items()
        ]

    def __len__(self) -> int:
        """Return how many postings wait."""
        return len(self._sums)


class FlowMemory:
    """The flows that are, and the last of those that were. Bound: EXPLAIN_MEMORY of the latter.

    ended: is told of each flow that is over, once.
    """

    def __init__(
        self,
        ended: Callable[[FlowAccount], None] = lambda _: None,
        limit: int = EXPLAIN_MEMORY,
    ) -> None:
        self._ended = ended
        self.live: dict[str, FlowAccount] = {}
        self._past: OrderedDict[str, FlowAccount] = OrderedDict()
        self._limit = limit

    def open(self, account: FlowAccount) -> None:
        """A flow begins."""
        self.live[account.name] = account

    # PTCP-13-03
    def close(self, account: FlowAccount) -> None:
        """A flow is over: it is remembered for a while."""
        if self.live.get(account.name) is account:
            del self.live[account.name]
        is_new, account.is_over = not account.is_over, True
        self._past[account.name] = account
        self._past.move_to_end(account.name)
        if len(self._past) > self._limit:
            self._past.popitem(last=False)
        if is_new:
            self._ended(account)

    def find(self, name: str) -> FlowAccount | None:
        """Return the flow of that name, None when nothing is known."""
        return self.live.get(name) or self._past.get(name)

    def last(self, count: int) -> list[FlowAccount]:
        """Return the last `count` flows that are over, newest first."""
        return list(reversed(self._past.values()))[:count]
