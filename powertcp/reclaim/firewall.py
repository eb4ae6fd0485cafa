"""The reclaim firewall: one policy and its reservoirs for all connections, and where the joules go.

It decides, splits and counts; `Screen` lets pass or not, a driver owns sockets and the ledger. What
fails, fails closed: no segment passes on an exception. FWRL sections 1, 3 and 4.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Protocol, TypeVar

from powertcp.ledger import Code
from powertcp.reclaim.accounts import (
    AMOUNT_MAX,
    CLAIMED,
    FlowAccount,
    FlowMemory,
    Joules,
    Pending,
    Posting,
    Ruled,
)
from powertcp.reclaim.bucket import Bucket
from powertcp.reclaim.harvest import HARVESTS_MAX, SOURCE_MAX, Harvest, Intake
from powertcp.reclaim.layer import (
    ConnectionOpened,
    FlowEnded,
    FlowJudged,
    Hook,
    Layer,
    LayerDropped,
    LayerFailed,
    Layers,
    SecondPassed,
)
from powertcp.reclaim.policy import (
    Accept,
    Address,
    Decision,
    Drop,
    Facts,
    Policy,
    Reclaim,
    Reject,
)
from powertcp.reclaim.policy_match import Compare, Price
from powertcp.reclaim.watch import Party
from powertcp.registry import Reason, Refusal
from powertcp.sources import Drawn, Reservoir, ReservoirTerms
from powertcp.units import NS_PER_S, Instant

# events that wait for who logs them; the oldest go first
EVENTS_MAX: Final = 4096
# PTCP-14-01: peers of which it is known when they were harvested last
PEERS_MAX: Final = 1024
# FWRL-1-04: peers with an account of their own; an attack from many addresses does not fill the disk
BOOKED_MAX: Final = 4096
OTHERS: Final = "others"

KeyT = TypeVar("KeyT")


class Rejudged(Protocol):
    """A connection whose flows are judged again when the policy changes."""

    def judge_again(self, now: Instant) -> None:
        """Judge every flow again."""


class RuleCount:
    """How often a rule decided, and the energy it decided on."""

    __slots__ = ("hits", "uj")

    def __init__(self) -> None:
        self.hits = self.uj = 0


class Firewall:
    """What all connections share. node: what `heat:` is called. rating_mw: of the feeder, None: none.

    layers: what may be stricter than the policy, in order. clock: returns the minute of the day and
    Unix time in s, None for what is not known.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        node: str,
        now: Instant,
        stored: Mapping[str, int] | None = None,
        rating_mw: int | None = None,
        layers: Sequence[Layer] = (),
        clock: Callable[[], tuple[int | None, int | None]] = lambda: (None, None),
    ) -> None:
        """Begin under `policy`. stored: uJ in each reservoir, as the ledger says."""
        self.policy = policy
        self.node, self.rating_mw, self.layers = node, rating_mw, Layers(layers)
        self.joules, self.flows, self.pending = Joules(), FlowMemory(self._ended), Pending()
        self.rules: dict[int, RuleCount] = {}
        self.counters: dict[str, RuleCount] = {}
        self.events: deque[Ruled] = deque(maxlen=EVENTS_MAX)
        self.screens: dict[Rejudged, None] = {}
        self.intakes: dict[str, Intake] = {}
        # banked_uj: all that ever came into a reservoir
        self.harvests = self.failures = self.banked_uj = 0
        self.load_percent: int | None = None
        # why nothing may pass any more, None: it may
        self.stopped: Refusal | None = None
        # the layer that did not take the last second: nothing passes until it takes one
        self.failed: LayerFailed | None = None
        # connections, as ADDRESS:PORT, that their screens are to drop
        self.condemned: set[str] = set()
        self._now = now
        self._stored = dict(stored or {})
        # when the last harvest of a peer began
        self._begun: dict[str, Instant] = {}
        self._harvested: Counter[str] = Counter()
        self._booked: set[str] = set()
        self._clock = clock
        self._seconds: deque[tuple[Instant, int]] = deque(maxlen=2)
        # who wants to see each evaluation
        self.on_judged: Callable[[FlowAccount, Facts, Decision], None] | None = None
        self._marks_uj: tuple[int, ...] = ()
        self._watched: tuple[int | None, int | None] = (None, None)
        self._fill(now)

    # -- policy --------------------------------------------------------------------------------

    # FWRL-3-02
    def take(self, policy: Policy, now: Instant, layers: Sequence[Layer] | None = None) -> None:
        """Go by `policy` from now on; every flow is judged again at once. layers: None: the same."""
        self.policy = policy
        self.rules = {}
        if layers is not None:
            self.layers, self.failed = Layers(layers), None
        self._fill(now)
        self._judge_all(now)

    @property
    def energy_marks_uj(self) -> tuple[int, ...]:
        """Energies of a flow at which another rule may decide, in order."""
        return self._marks_uj

    def _fill(self, now: Instant) -> None:
        """Have the reservoirs of the policy; one that it does not name any more keeps its energy."""
        self._marks_uj = self.policy.energy_marks_uj
        for name, terms in self.policy.reservoirs.items():
            intake = self.intakes.get(name)
            if intake is None:
                intake = self.intakes[name] = Intake(_begin(terms, self._stored.pop(name, 0)), now)
            lost_uj = intake.reservoir.leak(now) + intake.reservoir.change(terms)
            intake.change(now)
            self._lose(name, lost_uj)

    def _judge_all(self, now: Instant) -> None:
        for screen in tuple(self.screens):
            screen.judge_again(now)

    def stop(self, refusal: Refusal, now: Instant) -> None:
        """Let nothing pass any more, e.g. as the ledger cannot be written. FWRL-1-01."""
        if self.stopped is None:
            self.stopped = refusal
            self._judge_all(now)

    # FWRL-1-01
    def judge(self, account: FlowAccount, facts: Facts, now: Instant) -> Decision:
        """Return what becomes of a flow; whatever fails on the way, it is dropped."""
        facts.load_percent = self.load_percent
        facts.minute, facts.unix_s = self._clock()
        self._now, policy = now, self.policy
        account.line = 0
        if self.stopped is not None:
            verdict = Reject(Reason(self.stopped.code))
            return self._settle(
                account, facts, Decision(verdict, None, 0, self.stopped.rule, policy.file, ())
            )
        if self.failed is not None:
            return self._settle(account, facts, _dropped(self.failed))
        try:
            decision = policy.evaluate(facts)
            account.line = decision.line
            decision = self.layers.judge(account.name, facts, decision, policy.reservoirs, now)
        # whatever it is, nothing passes
        except Exception as error:  # noqa: BLE001
            decision = self._failed(account, error, now)
        if isinstance(decision.verdict, Reclaim) and decision.verdict.reservoir not in self.intakes:
            decision = self._failed(account, KeyError(decision.verdict.reservoir), now)
        return self._settle(account, facts, decision)

    def _settle(self, account: FlowAccount, facts: Facts, decision: Decision) -> Decision:
        account.decision, account.facts = decision, facts
        _count_of(self.rules, account.line).hits += 1
        counter = decision.rule.counter if decision.rule is not None else None
        if counter is not None:
            _count_of(self.counters, counter).hits += 1
        if self.on_judged is not None:
            self.on_judged(account, facts, decision)
        return decision

    def _failed(self, account: FlowAccount, error: Exception, now: Instant) -> Decision:
        if not isinstance(error, LayerFailed):
            error = LayerFailed(f"{type(error).__name__}: {error}", self.policy.file, 0)
        decision = _dropped(error)
        # one that drops what it may drop has not failed
        is_failure = not isinstance(error, LayerDropped)
        self.failures += is_failure
        self.tell(account, "failed" if is_failure else "dropped", now, decision=decision)
        return decision

    # -- layers --------------------------------------------------------------------------------

    @property
    def is_shut(self) -> bool:
        """Whether nothing passes, not even what no rule is asked about."""
        return self.stopped is not None or self.failed is not None

    # FWRL-1-01
    def meet(self, client: Party, target: Party | None, now: Instant) -> None:
        """Tell layers of a connection; one that fails at it condemns it."""

        def hook() -> Hook:
            return ConnectionOpened(
                connection=client.name,
                src=client.address,
                dst=target.address if target is not None else None,
                peer=client.key,
                now=now,
            )

        for error in self.layers.tell(ConnectionOpened, hook, may_drop=True):
            self._failed(FlowAccount(client.name, client.account, now), error, now)
            self.condemned.add(client.name)

    def _ended(self, account: FlowAccount) -> None:
        """Tell layers of a flow that is over; one that fails at it condemns its connection."""

        def hook() -> Hook:
            return FlowEnded(
                flow=account.name,
                peer=account.peer,
                other=account.other,
                what=account.what,
                decision=account.decision,
                joules=replace(account.joules),
                now=self._now,
            )

        for error in self.layers.tell(FlowEnded, hook):
            name = account.name.rpartition("/")[0]
            self._failed(FlowAccount(name, account.peer, self._now), error, self._now)
            self.condemned.add(name)

    def _pass_second(self, now: Instant) -> bool:
        """Tell layers of a second; return whether that opened or shut the firewall."""

        def hook() -> Hook:
            stored = {name: one.reservoir.stored_uj for name, one in self.intakes.items()}
            return SecondPassed(
                joules=replace(self.joules),
                stored_uj=MappingProxyType(stored),
                load_percent=self.load_percent,
                now=now,
            )

        before, self.failed = self.failed, None
        for error in self.layers.tell(SecondPassed, hook):
            self._failed(FlowAccount(self.node, self.node, now), error, now)
            self.failed = self.failed or error
        return (before is None) is not (self.failed is None)

    # FWRL-1-02
    def tell(
        self,
        account: FlowAccount,
        what: str,
        now: Instant,
        *,
        decision: Decision | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        """Remember and report what became of a flow."""
        self._now, account.what = now, what
        account.refusal = refusal or account.refusal
        decision = decision or account.decision
        is_logging = decision is not None and decision.rule is not None and decision.rule.is_logging
        self.events.append(
            Ruled(
                account=account,
                what=what,
                now=now,
                decision=decision,
                refusal=refusal,
                is_logged=is_logging or what not in ("accepted", "closed"),
            )
        )

    # -- energy --------------------------------------------------------------------------------

    def pass_on(self, account: FlowAccount, energy_uj: int, heat_uj: int = 0) -> None:
        """Energy goes to who asked for it; of the rest of its block nothing is of use."""
        for joules in (account.joules, self.joules):
            joules.in_uj += energy_uj + heat_uj
            joules.authorised_uj += energy_uj
            joules.heat_uj += heat_uj
        self._weigh(account, energy_uj + heat_uj)
        self.pending.add(f"heat:{self.node}", f"intercepted:{account.peer}", heat_uj, Code.BANK)

    def burn(self, account: FlowAccount, energy_uj: int) -> None:
        """Energy that nobody gets."""
        self.pass_on(account, 0, energy_uj)

    # LEDG-8-03
    def claim(self, account: FlowAccount, energy_uj: int, peer: str = "") -> None:
        """A header says that so much more was delivered than anybody verified.

        peer: who says so, if not whose power the account has.
        """
        # FWRL-3-04
        energy_uj = min(energy_uj, AMOUNT_MAX - account.joules.claimed_uj)
        account.joules.claimed_uj += energy_uj
        self.joules.claimed_uj += energy_uj
        debit = f"claimed:{peer or account.peer}"
        self.pending.add(debit, "claims", energy_uj, Code.CLAIM, CLAIMED)

    # FWRL-4-01
    def keep(self, account: FlowAccount, harvest: Harvest, came_uj: int, bankable_uj: int) -> None:
        """Energy of a harvest: what may be is banked, all the rest is heat."""
        split = harvest.bank(bankable_uj)
        heat_uj = came_uj - split.stored_uj
        self.banked_uj += split.stored_uj
        for joules in (account.joules, self.joules):
            joules.in_uj += came_uj
            joules.reclaimed_uj += split.stored_uj
            joules.heat_uj += heat_uj
        self._weigh(account, came_uj)
        peer = f"intercepted:{account.peer}"
        self.pending.add(f"reservoir:{harvest.reservoir}", peer, split.stored_uj, Code.BANK)
        self.pending.add(f"heat:{self.node}", peer, heat_uj, Code.BANK)

    # FWRL-4-03
    def draw(self, name: str, debit: str, energy_uj: int, code: Code) -> Drawn:
        """Take energy out of a reservoir for `debit`, at most what is above its floor."""
        drawn = self.intakes[name].reservoir.draw(energy_uj)
        self.drawn(name, debit, drawn, code)
        return drawn

    def drawn(self, name: str, debit: str, drawn: Drawn, code: Code) -> None:
        """Energy was taken out of a reservoir for `debit`."""
        self.joules.reclaimed_uj -= drawn.out_uj + drawn.heat_uj
        self.joules.out_uj += drawn.out_uj
        self.joules.heat_uj += drawn.heat_uj
        self.pending.add(debit, f"reservoir:{name}", drawn.out_uj, code)
        self.pending.add(f"heat:{self.node}", f"reservoir:{name}", drawn.heat_uj, Code.LOSS)

    def _lose(self, name: str, energy_uj: int) -> None:
        self.joules.reclaimed_uj -= energy_uj
        self.joules.heat_uj += energy_uj
        self.pending.add(f"heat:{self.node}", f"reservoir:{name}", energy_uj, Code.LOSS)

    def _weigh(self, account: FlowAccount, energy_uj: int) -> None:
        decision = account.decision
        if decision is None:
            return
        _count_of(self.rules, account.line).uj += energy_uj
        if decision.rule is not None and decision.rule.counter is not None:
            _count_of(self.counters, decision.rule.counter).uj += energy_uj

    # -- harvests ------------------------------------------------------------------------------

    # FWRL-4-05
    def too_many(self, origin: str) -> Refusal | None:
        """Return why no more flow of `origin` may be harvested, None: it may."""
        found = self._harvested[origin]
        if found >= SOURCE_MAX:
            return Refusal(Reason.LIMIT, found + 1, SOURCE_MAX)
        if self.harvests >= HARVESTS_MAX:
            return Refusal(Reason.LIMIT, HARVESTS_MAX + 1, HARVESTS_MAX)
        return None

    # FWRL-4-05
    def count_harvest(self, origin: str, change: int) -> None:
        """One more flow of `origin` is harvested (1), or one less (-1)."""
        self.harvests += change
        self._harvested[origin] += change
        if not self._harvested[origin]:
            del self._harvested[origin]

    # FWRL-4-05
    def admit(self, peer: str, now: Instant) -> bool:
        """Say whether a connection of `peer` may be harvested: one begins in a second."""
        if now - self._begun.get(peer, now - NS_PER_S) < NS_PER_S:
            return False
        self._begun.pop(peer, None)
        self._begun[peer] = now
        if len(self._begun) > PEERS_MAX:
            del self._begun[next(iter(self._begun))]
        return True

    # FWRL-1-04
    def known_as(self, peer: str) -> str:
        """Return what the ledger calls a peer: one of the first BOOKED_MAX, or all the others."""
        if peer in self._booked:
            return peer
        if len(self._booked) >= BOOKED_MAX:
            return OTHERS
        self._booked.add(peer)
        return peer

    def peer_at(self, address: Address) -> bytes | None:
        """Return the key that the operator binds to an address, None if there is none."""
        return self.policy.peer_at(address, self._clock()[1])

    def limit_of(self, verdict: Accept | Reclaim, now: Instant) -> Bucket | None:
        """Return the bucket of a limit, None for none."""
        if verdict.limit_mw is None:
            return None
        return Bucket(verdict.limit_mw, verdict.burst_uj, now)

    # -- time ----------------------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Let a second pass: reservoirs leak, the load is measured, what it decides is judged."""
        for name, intake in self.intakes.items():
            self._lose(name, intake.reservoir.leak(now))
        self._measure(now)
        policy = self.policy
        # a layer may look at the time
        watches_time = policy.watches_time or self.layers.asks(FlowJudged)
        seen = (
            self.load_percent if policy.watches_load else None,
            self._clock()[0] if watches_time else None,
        )
        if self._pass_second(now) or seen != self._watched:
            self._watched = seen
            self._judge_all(now)

    def _measure(self, now: Instant) -> None:
        joules = self.joules
        self._seconds.append((now, joules.in_uj))
        if self.rating_mw is None or len(self._seconds) < 2:
            return
        (began, before_uj), (ended, after_uj) = self._seconds
        if ended > began:
            power_mw = (after_uj - before_uj) * (NS_PER_S // 1000) // (ended - began)
            self.load_percent = power_mw * 100 // self.rating_mw

    def take_postings(self) -> list[Posting]:
        """Return what the ledger is to be told since the last time."""
        return self.pending.take()

    @property
    def stored_uj(self) -> int:
        """What all reservoirs hold."""
        return sum(intake.reservoir.stored_uj for intake in self.intakes.values())


def _count_of(counts: dict[KeyT, RuleCount], key: KeyT) -> RuleCount:
    found = counts.get(key)
    if found is None:
        found = counts[key] = RuleCount()
    return found


def _dropped(error: LayerFailed) -> Decision:
    """Return what becomes of a flow when that fails."""
    return Decision(Drop(), None, error.line, str(error), error.file, ())


def _begin(terms: ReservoirTerms, stored_uj: int) -> Reservoir:
    """Return a reservoir with what the ledger says; `change` spills what is too much."""
    most = max(terms.capacity_uj, stored_uj)
    return Reservoir(ReservoirTerms(name=terms.name, capacity_uj=most), stored_uj)


# FWRL-3-06
def refusal_of(decision: Decision, facts: Facts, code: int | None = None) -> Refusal:
    """Return what a refused flow is told: the code of the rule, its number, and the rule."""
    verdict = decision.verdict
    if code is None:
        code = verdict.code if isinstance(verdict, Reject) else Reason.POLICY
    value, limit = _numbers(code, decision, facts)
    if not decision.line:
        # no statement decided: nothing passes
        return Refusal(code, value, limit, text=decision.text, rule=decision.text)
    where = f"{decision.file}:{decision.line}"
    return Refusal(
        code, value, limit, text=f"line {decision.line}", rule=f"{where} {decision.text}"
    )


def _numbers(code: int, decision: Decision, facts: Facts) -> tuple[int, int]:
    """Return value and limit in the unit of `code`; of a policy the line of the rule."""
    values = {
        "mW": ("power", facts.power_mw),
        "mV": ("voltage", facts.voltage_mv),
        "mA": ("current", facts.current_ma),
        "uJ": ("energy", facts.energy_uj),
    }
    if code == Reason.POLICY:
        return decision.line, 0
    if code == Reason.TARIFF:
        word, value = "tariff", facts.tariff_micro
    elif code == Reason.PRIORITY_DENIED:
        word, value = "priority", facts.priority
    else:
        word, value = values.get(Refusal(code).unit, ("", 0))
    return value or 0, _limit_of(decision, word)


def _limit_of(decision: Decision, word: str) -> int:
    """Return what the deciding rule compares `word` with, 0 if it does not."""
    rule = decision.rule
    # the limits of a rule say nothing of what a layer decided
    for match in rule.matches if rule is not None and rule.text == decision.text else ():
        if match.word == word and isinstance(match, Compare):
            return match.value
        if match.word == word and isinstance(match, Price):
            return match.micro
    return 0


def stored_of(balances: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return uJ by name of reservoir from the accounts of a ledger: (name, debit less credit)."""
    kind = "reservoir:"
    return {name.removeprefix(kind): uj for name, uj in balances if name.startswith(kind)}
