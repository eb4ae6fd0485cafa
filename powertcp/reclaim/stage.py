"""Where an attack is played: a virtual clock, a firewall, its ledger in memory, who takes part.

Everything is done in the order of the clock; the same seed gives the same octets. FWRL section 5.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2s
from typing import Final, NamedTuple, Protocol

import numpy as np

from powertcp.ledger import Account, Book, Entry, Transfer, transfer_key
from powertcp.machine import Buffer
from powertcp.reclaim.accounts import Joules, Posting
from powertcp.reclaim.firewall import Firewall, stored_of
from powertcp.reclaim.leg import Leg
from powertcp.reclaim.policy_text import parse_policy
from powertcp.reclaim.scenario import RESERVOIR, RuleHit, Scenario
from powertcp.reclaim.screen import Screen
from powertcp.units import NS_PER_S, Duration, Instant

# where the virtual clock begins, and Unix time at its 0
START: Final[Instant] = 1_000 * NS_PER_S
UNIX_NS: Final = 1_700_000_000 * NS_PER_S
NODE: Final = "firewall"
_BATCH: Final = 64


def _nothing() -> int:
    return 0


class Instruments(NamedTuple):
    """What a real machine says of itself; it decides nothing.

    wall_ns, cpu_ns: time of the wall, and of this process on a processor. resident_octets: memory.
    """

    wall_ns: Callable[[], int] = _nothing
    cpu_ns: Callable[[], int] = _nothing
    resident_octets: Callable[[], int] = _nothing


class Actor(Protocol):
    """Who does something at its time."""

    @property
    def is_over(self) -> bool:
        """Whether it does nothing any more."""

    def get_timer(self) -> Instant | None:
        """Return when it does something again."""

    def act(self, now: Instant) -> None:
        """Do what is due."""


class Journal:
    """A ledger in memory: what a firewall that is killed finds again. entries: all of them."""

    def __init__(self, name: str) -> None:
        """Begin empty."""
        self._book = Book()
        self._transcript = blake2s(name.encode()).digest()
        self.entries: list[Entry] = []
        self._opened: list[Account] = []
        self._batches = 0

    # FWRL-4-01
    def post(self, postings: Sequence[Posting], at_ns: int) -> None:
        """Write postings, each batch whole or not at all."""
        for first in range(0, len(postings), _BATCH):
            transfers = [
                self._transfer(posting, number)
                for number, posting in enumerate(postings[first : first + _BATCH])
            ]
            self._batches += 1
            batch = self._book.post(transfers, at_ns)
            self.entries += batch.entries
            self._opened += [Account(one.id, one.name, one.unit) for one in batch.opened]

    def _transfer(self, posting: Posting, number: int) -> Transfer:
        role = f"{number}"
        key = transfer_key(self._transcript, self._batches, role, posting.debit, posting.credit)
        return Transfer(
            key=key,
            debit=posting.debit,
            credit=posting.credit,
            unit=posting.unit,
            amount=posting.amount,
            code=posting.code,
        )

    @property
    def balances(self) -> list[tuple[str, int]]:
        """Return each account with what it received less what it gave."""
        return [(one.name, -one.balance) for one in self._book.accounts()]

    def sum_of(self, kind: str) -> int:
        """Return the sum of all accounts of a kind, e.g. `heat`: received less given."""
        return sum(amount for name, amount in self.balances if name.startswith(f"{kind}:"))

    @property
    def joules(self) -> Joules:
        """Return what it says of a firewall; what was authorised is in the books of others."""
        return Joules(
            in_uj=-self.sum_of("intercepted"),
            reclaimed_uj=self.sum_of("reservoir"),
            heat_uj=self.sum_of("heat"),
            out_uj=self.sum_of("lent"),
            claimed_uj=self.sum_of("claimed"),
        )

    def check(self) -> str:
        """Return what is wrong with it, "" for nothing: sums to 0, and replays to the same."""
        for unit, amount in self._book.trial_balance().items():
            if amount:
                return f"{amount:,} {unit} too much"
        again = Book()
        again.restore(self._opened, (), 0, bytes(32))
        for entry in self.entries:
            again.replay(entry)
        if again.accounts() != self._book.accounts():
            return "its entries lead to other balances"
        return ""

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self.entries)


class Stage:
    """One firewall on a virtual clock, which begins at START. instruments: measure its work.

    rng: the one source of chance. cpu_ns: what the firewall took of a real processor.
    """

    def __init__(self, scenario: Scenario, seed: int, instruments: Instruments) -> None:
        """Raise PolicyError for a policy that is none."""
        self.scenario = scenario
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.now = START
        self.journal = Journal(scenario.name)
        self.cpu_ns = 0
        self._cpu_ns = instruments.cpu_ns
        self._policy = parse_policy(scenario.policy.encode(), f"{scenario.name}.policy")
        self._hits: list[RuleHit] = []
        self._live = 0
        self.firewall = self._begin()

    def _begin(self) -> Firewall:
        """Return a firewall that knows what its ledger says, and nothing else."""
        stored = stored_of(self.journal.balances)
        self._tick_at = self.now + NS_PER_S
        return Firewall(self._policy, node=NODE, now=self.now, stored=stored)

    @property
    def stored_uj(self) -> int:
        """What the reservoir holds."""
        return self.firewall.intakes[RESERVOIR].reservoir.stored_uj

    # --- the firewall at work -----------------------------------------------------------------

    def feed(self, leg: Leg, octets: Buffer) -> None:
        """Hand octets to the firewall, as one read."""
        began = self._cpu_ns()
        leg.receive_data(octets, self.now)
        self.cpu_ns += self._cpu_ns() - began

    def wake(self, screen: Screen) -> None:
        """Let a connection do what is due."""
        at = screen.client.get_timer()
        if at is not None and at <= self.now:
            began = self._cpu_ns()
            screen.client.handle_timer(self.now)
            self.cpu_ns += self._cpu_ns() - began

    def tick(self) -> None:
        """Let a second end, up to the postings, which are not written yet."""
        self._tick_at += NS_PER_S
        self.firewall.tick(self.now)

    def post(self) -> None:
        """Write down what is not written yet."""
        began = self._cpu_ns()
        self.journal.post(self.firewall.take_postings(), UNIX_NS + self.now)
        self.cpu_ns += self._cpu_ns() - began

    # FWRL-3-02
    def reload(self) -> None:
        """Go by the other policy of the scenario from now on."""
        self._keep_hits()
        name = f"{self.scenario.name}-reloaded.policy"
        self._policy = parse_policy(self.scenario.reload.encode(), name)
        self.firewall.take(self._policy, self.now)

    def kill(self) -> None:
        """End the firewall as a kill -9 does, and begin anew with what the ledger says."""
        self._keep_hits()
        self._live = 0
        self.firewall = self._begin()

    def _keep_hits(self) -> None:
        """Add what the rules decided so far to what they decided before."""
        texts = {rule.line: rule.text for rule in self._policy.rules}
        known = {(hit.line, hit.text): hit for hit in self._hits}
        for line, count in sorted(self.firewall.rules.items()):
            key = line, texts.get(line, f"policy {self._policy.default}")
            before = known.get(key, RuleHit(*key, 0, 0))
            hits, energy_uj = before.hits + count.hits, before.energy_uj + count.uj
            known[key] = RuleHit(*key, hits, energy_uj)
        self._hits = list(known.values())

    def rules(self) -> tuple[RuleHit, ...]:
        """Return what every statement decided; called once, in the end."""
        self._keep_hits()
        return tuple(self._hits)

    # --- time ---------------------------------------------------------------------------------

    @property
    def tick_at(self) -> Instant:
        """When the second of the firewall ends."""
        return self._tick_at

    def run(self, actors: Iterable[Actor], until: Instant) -> None:
        """Let time pass until all are over, or until just before `until`."""
        waiting = [actor for actor in actors if not actor.is_over]
        while waiting:
            timers = [actor.get_timer() for actor in waiting]
            times = [at for at in timers if at is not None]
            if not times:
                return
            at = max(self.now, min(*times, self._tick_at))
            if at >= until:
                self.now = max(self.now, until)
                return
            self.now = at
            if at >= self._tick_at:
                self.tick()
                self.post()
            for actor, due in zip(waiting, timers, strict=True):
                if due is not None and due <= at:
                    actor.act(at)
            self._post_changes()
            waiting = [actor for actor in waiting if not actor.is_over]

    # FWRL-4-01
    def _post_changes(self) -> None:
        """Write down what there is when a flow began or ended."""
        live = len(self.firewall.flows.live)
        if live != self._live:
            self._live = live
            self.post()

    def wait(self, duration_ns: Duration) -> None:
        """Let nothing happen for a while."""
        until = self.now + duration_ns
        while self._tick_at <= until:
            self.now = self._tick_at
            self.tick()
            self.post()
        self.now = until
