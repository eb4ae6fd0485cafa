"""Scenarios played on the machines themselves: a hostile provider, the firewall, honest devices.

Nothing is mocked: what attacks, screens, harvests and is supplied is what a daemon runs, on a
virtual clock. The same scenario and seed give the same outcome. FWRL section 5.
"""

from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from powertcp.errors import LedgerBroken
from powertcp.reclaim.accounts import EXPLAIN_MEMORY, Joules
from powertcp.reclaim.attack import Attack, AttackTerms
from powertcp.reclaim.firewall import EVENTS_MAX, Firewall
from powertcp.reclaim.guest import Guest
from powertcp.reclaim.policy_text import parse_policy
from powertcp.reclaim.scenario import (
    ATTACKER,
    LAMP,
    TRUSTED,
    Check,
    Kind,
    Measured,
    Outcome,
    Scenario,
)
from powertcp.reclaim.screen import Screen
from powertcp.reclaim.stage import NODE, START, Actor, Instruments, Journal, Stage
from powertcp.reclaim.watch import Party, is_due
from powertcp.units import NS_PER_S, Duration, Instant, format_energy

# how much longer than its attack a scenario may take
SLACK_NS: Final[Duration] = 120 * NS_PER_S
# strangers whose first verdict is timed; their network is one for measurements
VERDICTS: Final = 200
_STRANGERS: Final = int(ip_address("198.18.0.1"))
_ROUNDS: Final = 64
_UJ_PER_MW_S: Final = 1_000
# the next connection: 9 W for a second
_NEXT_UJ: Final = 9_000_000
_ATTACKED: Final = Party("10.0.0.1:3251", ip_address("10.0.0.1"))
_PROVIDER: Final = Party(f"{TRUSTED}:3251", ip_address(TRUSTED))


class Attacker:
    """A hostile provider on a connection of its own."""

    def __init__(self, stage: Stage, terms: AttackTerms, port: int = 4711) -> None:
        """Connect to the firewall; power comes from the first `act` on."""
        self._stage = stage
        self.attack = Attack(terms)
        self._is_begun = False
        self._answer_at: Instant | None = None
        party = Party(f"{ATTACKER}:{port}", ip_address(ATTACKER))
        self.screen = Screen(stage.firewall, party, _ATTACKED, is_client_inside=False)

    @property
    def is_over(self) -> bool:
        """Whether it gave up, or was cut off."""
        return self.attack.is_over or self.screen.is_over

    def get_timer(self) -> Instant | None:
        """Return when more power comes, or the firewall has something to say."""
        if not self._is_begun:
            return self._stage.now
        power_at, answer_at = self.attack.get_timer(), self.screen.client.get_timer()
        self._answer_at = answer_at
        if power_at is None or answer_at is None:
            return answer_at if power_at is None else power_at
        return min(power_at, answer_at)

    def act(self, now: Instant) -> None:
        """Hear what was said, then push what is due."""
        self._is_begun = True
        client = self.screen.client
        if is_due(self._answer_at, now):
            self._stage.wake(self.screen)
        for _ in range(_ROUNDS):
            if said := client.data_to_send():
                self.attack.receive(said, now)
            octets = self.attack.data_to_send(now)
            if octets:
                self._stage.feed(client, octets)
            elif not said:
                break
        while client.next_event() is not None:
            pass

    def half(self, now: Instant) -> int:
        """Push the block that is due, of which only half arrives; return what it was worth, uJ."""
        before_uj = self.attack.sent_uj
        octets = self.attack.data_to_send(now)
        self._stage.feed(self.screen.client, octets[: len(octets) // 2])
        return self.attack.sent_uj - before_uj

    def leave(self) -> None:
        """Hang up."""
        self.screen.client.receive_eof(self._stage.now)


class Operator:
    """Takes another policy after so many blocks of an attack."""

    def __init__(self, stage: Stage, attacker: Attacker) -> None:
        self._stage, self._attacker = stage, attacker
        self.is_over = False

    def get_timer(self) -> Instant | None:
        """Return when there is something to do."""
        is_due = self._attacker.attack.blocks >= self._stage.scenario.reload_after
        return self._stage.now if is_due else None

    def act(self, now: Instant) -> None:
        """Reload."""
        self.is_over = True
        self._stage.reload()
        # its connection hears of it at once
        self._attacker.act(now)


def play(scenario: Scenario, seed: int = 1, instruments: Instruments | None = None) -> Outcome:
    """Play a scenario. seed: of all chance in it. instruments: what measures the real work.

    Without instruments nothing of the outcome depends on the machine that plays.
    """
    stage = Stage(scenario, seed, instruments or Instruments())
    outcome = _Play(stage, seed).outcome()
    if instruments is None:
        return outcome
    spans = sorted(first_verdicts(scenario, seed, instruments, VERDICTS))
    measured = Measured(
        verdicts=len(spans),
        verdict_p50_ns=_at_percent(spans, 50),
        verdict_p99_ns=_at_percent(spans, 99),
        cpu_ns=stage.cpu_ns,
        resident_octets=instruments.resident_octets(),
    )
    return replace(outcome, measured=measured)


def _at_percent(ordered: list[int], percent: int) -> int:
    return ordered[-(-len(ordered) * percent // 100) - 1]


def first_verdicts(
    scenario: Scenario, seed: int, instruments: Instruments, count: int
) -> list[int]:
    """Return how long the first decision on each of `count` strangers took, ns.

    Measured from the first octets that a firewall has of one, all else being there.
    """
    policy = parse_policy(scenario.policy.encode(), f"{scenario.name}.policy")
    firewall = Firewall(policy, node=NODE, now=START)
    octets = Attack(replace(scenario.attack, seed=seed)).data_to_send(START)
    spans = []
    for number in range(count):
        address = ip_address(_STRANGERS + number)
        party = Party(f"{address}:4711", address)
        screen = Screen(firewall, party, _ATTACKED, is_client_inside=False)
        began = instruments.wall_ns()
        screen.client.receive_data(octets, START)
        spans.append(instruments.wall_ns() - began)
        screen.client.receive_eof(START)
    return spans


class _Play:
    """One scenario under way: who takes part, and what is found in the end."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.scenario = stage, stage.scenario
        self.terms = replace(self.scenario.attack, seed=seed)
        self.checks: list[Check] = []
        self.sent_uj = self.blocks = 0
        # of what was sent: what a kill cut in its middle
        self.cut_uj = 0
        # what firewalls that were killed had in the journal
        self.posted_uj = 0

    def outcome(self) -> Outcome:
        """Play it, and look at everything afterwards."""
        stage, kind = self.stage, self.scenario.kind
        match kind:
            case Kind.KILLS:
                joules = self._kills()
            case Kind.DRAW:
                joules = self._draw()
            case _:
                joules = self._attack()
        took_ns, rules = stage.now - START, stage.rules()
        self._check_left()
        self._check_next()
        self._check_journal()
        return Outcome(
            scenario=self.scenario,
            joules=joules,
            sent_uj=self.sent_uj,
            blocks=self.blocks,
            virtual_ns=took_ns,
            rules=rules,
            checks=tuple(self.checks),
        )

    def _run(self, *actors: Actor) -> None:
        until = self.stage.now + self.terms.duration_ns + SLACK_NS
        self.stage.run(actors, until)
        self.stage.post()
        idle = [actor for actor in actors if not actor.is_over]
        if idle:
            self._check(not idle, f"{len(idle)} of {len(actors)} did not come to an end")

    def _check(self, is_held: bool, said: str) -> None:
        self.checks.append(Check(is_held, said))

    # --- attacks ------------------------------------------------------------------------------

    def _attack(self) -> Joules:
        """Let the attack end by itself, beside whoever else is there."""
        attacker = Attacker(self.stage, self.terms)
        actors: list[Actor] = [attacker]
        guests = self._guests(_PROVIDER) if self.scenario.kind is Kind.GUESTS else []
        actors += guests
        if self.scenario.kind is Kind.RELOAD:
            actors.append(Operator(self.stage, attacker))
        self._run(*actors)
        self._retire(attacker)
        joules = replace(self.stage.firewall.joules)
        came_uj = joules.in_uj - joules.authorised_uj
        said = (
            f"{format_energy(self.sent_uj)} of attack were sent, {format_energy(came_uj)} counted"
        )
        self._check(came_uj == self.sent_uj, said)
        self._check_guests(guests)
        return joules

    def _retire(self, attacker: Attacker) -> None:
        attacker.leave()
        self.sent_uj += attacker.attack.sent_uj
        self.blocks += attacker.attack.blocks

    def _guests(self, provider: Party | None) -> list[Guest]:
        scenario = self.scenario
        return [
            Guest(self.stage, number + 1, scenario.guest_terms, scenario.guest_s, provider)
            for number in range(scenario.guests)
        ]

    # FWRL-4-04
    def _draw(self) -> Joules:
        """Let a device draw what the attack left; only that counts."""
        self._attack()
        before = replace(self.stage.firewall.joules)
        guests = self._guests(None)
        self._run(*guests)
        self._check_guests(guests)
        after = self.stage.firewall.joules
        return Joules(
            after.in_uj - before.in_uj,
            after.authorised_uj - before.authorised_uj,
            after.reclaimed_uj - before.reclaimed_uj,
            after.heat_uj - before.heat_uj,
            after.out_uj - before.out_uj,
            after.claimed_uj - before.claimed_uj,
        )

    # FWRL-5-01
    def _check_guests(self, guests: list[Guest]) -> None:
        """What devices had is what their receipts prove, and all of what they asked for."""
        if not guests:
            return
        power_mw = guests[0].power_mw
        due_uj = power_mw * _UJ_PER_MW_S * self.scenario.guest_s
        good = sum(guest.verified_uj == guest.receipt_uj == due_uj for guest in guests)
        said = f"{good} of {len(guests)} devices have a signed receipt of {format_energy(due_uj)}"
        self._check(good == len(guests), said)

    # --- kills --------------------------------------------------------------------------------

    # FWRL-4-01
    def _kills(self) -> Joules:
        """Kill the firewall at random moments; what is left is what its ledger says."""
        stage, scenario = self.stage, self.scenario
        end = stage.now + self.terms.duration_ns
        moments = sorted(stage.rng.integers(0, self.terms.duration_ns, scenario.kills).tolist())
        kinds = stage.rng.integers(0, 4, scenario.kills).tolist()
        attacker = Attacker(stage, self.terms)
        lost_uj = most_uj = wrong = 0
        for number, (moment, kind) in enumerate(zip(moments, kinds, strict=True)):
            self._go_on(attacker, START + moment, kind)
            posted_uj = stage.journal.joules.in_uj - self.posted_uj
            unposted_uj = stage.firewall.joules.in_uj - posted_uj
            most_uj, lost_uj = max(most_uj, unposted_uj), lost_uj + unposted_uj
            self.posted_uj += posted_uj
            self._retire(attacker)
            stage.kill()
            wrong += stage.stored_uj != stage.journal.sum_of("reservoir")
            rest = replace(self.terms, duration_ns=max(0, end - stage.now))
            attacker = Attacker(stage, rest, 4712 + number)
        self._run(attacker)
        self._retire(attacker)
        self._judge_kills(lost_uj, most_uj, wrong)
        return stage.journal.joules

    def _go_on(self, attacker: Attacker, moment: Instant, kind: int) -> None:
        """Let the attack go on until a moment at which the firewall is killed.

        kind: 0 then; 1 in the middle of the segment after it; 2 in the middle of the posting after
        it; 3 just after that.
        """
        stage = self.stage
        stage.run([attacker], moment)
        if kind == 0 or attacker.is_over:
            return
        if kind == 1:
            stage.run([attacker], max(stage.now, attacker.attack.get_timer() or stage.now))
            self.cut_uj += attacker.half(stage.now)
            return
        stage.run([attacker], stage.tick_at)
        stage.tick()
        if kind == 2:
            stage.firewall.take_postings()
        else:
            stage.post()

    def _judge_kills(self, lost_uj: int, most_uj: int, wrong: int) -> None:
        kills, journal = self.scenario.kills, self.stage.journal.joules
        second_uj = self.terms.power_mw * _UJ_PER_MW_S
        said = f"stored is what the journal says after {kills - wrong:,} of {kills:,} kills"
        self._check(not wrong and self.stage.stored_uj == journal.reclaimed_uj, said)
        said = (
            f"a kill lost {format_energy(most_uj)} at most, of {format_energy(second_uj)} a second"
        )
        self._check(most_uj <= second_uj, said)
        found_uj = journal.in_uj + lost_uj + self.cut_uj
        said = (
            f"of {format_energy(self.sent_uj)} {format_energy(journal.in_uj)} is in the journal,"
            f" {format_energy(lost_uj)} lost with a kill, {format_energy(self.cut_uj)} cut by one"
        )
        self._check(found_uj == self.sent_uj, said)

    # --- afterwards ---------------------------------------------------------------------------

    def _check_left(self) -> None:
        """Nothing stays behind but what is remembered, within its bounds."""
        firewall = self.stage.firewall
        promised_uj = sum(
            intake.promised_uj + intake.reservoir.promised_uj
            for intake in firewall.intakes.values()
        )
        left = len(firewall.flows.live) + len(firewall.screens) + firewall.harvests
        kept = len(firewall.flows.last(EXPLAIN_MEMORY + 1))
        is_bounded = kept <= EXPLAIN_MEMORY and len(firewall.events) <= EVENTS_MAX
        said = f"{left} flows or connections and {format_energy(promised_uj)} of credit are left"
        self._check(not left and not promised_uj and is_bounded, said)
        self._check(not firewall.failures, f"{firewall.failures} exceptions")

    # FWRL-5-01
    def _check_next(self) -> None:
        """Whoever comes next is served: a device that asks the provider it trusts."""
        stage = self.stage
        before_uj = stage.firewall.joules.authorised_uj
        stage.wait(NS_PER_S)
        guest = Guest(stage, 200, LAMP, 1, _PROVIDER)
        stage.run([guest], stage.now + SLACK_NS)
        stage.post()
        passed_uj = stage.firewall.joules.authorised_uj - before_uj
        is_served = guest.is_over and guest.verified_uj == guest.receipt_uj == passed_uj == _NEXT_UJ
        self._check(is_served, f"the next connection had {format_energy(guest.verified_uj)}")

    # FWRL-4-01
    def _check_journal(self) -> None:
        """The ledger says the same as the firewall, and of itself that it is in order."""
        stage, joules = self.stage, self.stage.firewall.joules
        journal = stage.journal
        try:
            wrong = journal.check()
        except LedgerBroken as error:
            wrong = str(error)
        if journal.joules.reclaimed_uj != stage.stored_uj:
            wrong = f"{format_energy(stage.stored_uj)} is stored"
        elif self.scenario.kind is not Kind.KILLS:
            wrong = wrong or _difference(journal, joules)
        self._check(
            not wrong,
            f"the journal of {len(journal):,} entries balances" + (wrong and f": {wrong}"),
        )


def _difference(journal: Journal, joules: Joules) -> str:
    """Return in what a ledger and a firewall differ, "" for nothing."""
    said = journal.joules
    said.authorised_uj = joules.authorised_uj
    said.in_uj += joules.authorised_uj
    return "" if said == joules else f"{said.fields()} is not {joules.fields()}"
