"""Blocks that no sink banks: beyond what is safe, beyond what was agreed upon, of no flow at all.

Hard protection comes before the policy. FWRL-3-03, FWRL-3-04.
"""

from typing import Final

from powertcp.dve import BlockSums, EnergyRegister
from powertcp.potcp.events import Ask
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import refusal_of
from powertcp.reclaim.flows import DRAIN_NS, Flows
from powertcp.reclaim.harvest import DEFAULT_SAMPLING
from powertcp.reclaim.leg import Leg
from powertcp.reclaim.middle import Middle
from powertcp.reclaim.policy import Accept, Decision, Drop, Facts, Reclaim, State
from powertcp.reclaim.reaper import Reaper
from powertcp.reclaim.track import End, Sighting, TrackedFlow, What
from powertcp.reclaim.watch import Watch, facts_of, note_block, way_of
from powertcp.registry import Reason, Refusal
from powertcp.units import Instant
from powertcp.wire.frames import RawSegment, encode_segment
from powertcp.wire.options import Options, Sampling
from powertcp.wire.segments import Control, Trip

# FWRL-3-03: what no policy switches off
HARD: Final = frozenset((Reason.OVER_VOLTAGE, Reason.SHORT_CIRCUIT, Reason.REVERSE_POWER))
# FWRL-3-04: a block beyond what was agreed upon
BEYOND: Final = frozenset((Reason.CREDIT_OVERRUN, Reason.OVER_CURRENT))


class Intruder:
    """What the firewall does about blocks that nobody asked for, on one connection."""

    __slots__ = ("_flows", "_middle", "_reaper")

    def __init__(self, middle: Middle, flows: Flows, reaper: Reaper) -> None:
        self._middle, self._flows, self._reaper = middle, flows, reaper

    def take(
        self,
        leg: Leg,
        raw: RawSegment,
        sums: BlockSums,
        flow: TrackedFlow,
        sighting: Sighting,
        now: Instant,
    ) -> None:
        """Take a block of a flow that its sink does not bank."""
        refusal, watch = (
            sighting.refusal or Refusal(Reason.UNSOLICITED),
            self._flows.watches[flow.number],
        )
        firewall = self._middle.firewall
        self._flows.count(watch)
        self._flows.claim(flow, watch)
        energy_uj = energy_of(flow.sampling, sums)
        if sighting.what is What.UNSOLICITED or refusal.code in BEYOND:
            self._judge(leg, raw, sums, flow, watch, now)
        elif refusal.code in HARD:
            # FWRL-3-03
            firewall.burn(watch.account, energy_uj)
            self._trip(flow, refusal, now)
        else:
            firewall.burn(watch.account, energy_uj)
            self._pass_faulty(leg, raw, flow, refusal, now)

    # FWRL-3-03
    def _pass_faulty(
        self, leg: Leg, raw: RawSegment, flow: TrackedFlow, refusal: Refusal, now: Instant
    ) -> None:
        """Give the sink the one block on which it says TRIP; a flow that goes on after it is over."""
        watch = self._flows.watches[flow.number]
        if watch.faulty_since is None:
            watch.faulty_since = now
            self._middle.pass_raw(leg, raw, is_marked=watch.is_marking)
        elif now - watch.faulty_since > DRAIN_NS:
            self._flows.reset_both(flow, refusal)
            self._flows.leave(flow, "refused", refusal, now)

    # FWRL-3-03
    def _trip(self, flow: TrackedFlow, refusal: Refusal, now: Instant) -> None:
        """Say TRIP to both sides: each answers, and neither hears the other's answer."""
        for end in End:
            esn_uj = flow.verified_uj if end is flow.sink else flow.acked_uj
            trip = Trip(flow.number, esn_uj, Options(reason=refusal), urgent=True)
            self._middle.leg(end).send(encode_segment(trip))
        self._flows.leave(flow, "tripped", refusal, now)

    # FWRL-3-04
    def _judge(
        self,
        leg: Leg,
        raw: RawSegment,
        sums: BlockSums,
        flow: TrackedFlow,
        watch: Watch,
        now: Instant,
    ) -> None:
        """Judge power that nobody asked for, on a flow that somebody has."""
        account, firewall = watch.account, self._middle.firewall
        energy_uj = energy_of(flow.sampling, sums)
        decision, facts = self._decide(leg.end, sums, flow, account, now)
        verdict = decision.verdict
        if isinstance(verdict, Accept):
            firewall.burn(account, energy_uj)
            self._middle.pass_raw(leg, raw, is_marked=verdict.is_marking)
            return
        if not isinstance(verdict, Reclaim):
            firewall.burn(account, energy_uj)
            self._flows.refuse(flow, decision, facts, now)
            return
        # FWRL-3-13
        self._flows.reset(flow, leg.end.other, refusal_of(decision, facts, Reason.POLICY))
        self._flows.forget(flow)
        esn_uj = _esn_before(flow, leg.end, raw, sums)
        why = self._reaper.begin(leg, flow.number, account, verdict, flow, esn_uj, now)
        if why is None:
            self._reaper.take(leg, raw, sums, now)
        else:
            firewall.burn(account, energy_uj)
            self._middle.refuse_stray(leg, flow.number, account, why, now)

    def take_stray(self, leg: Leg, raw: RawSegment, sums: BlockSums, now: Instant) -> None:
        """DATA of no flow that there is: under way when it ended, or an attack."""
        middle, number = self._middle, raw[2]
        firewall, energy_uj = middle.firewall, energy_of(None, sums)
        if self._flows.has_just_ended(number, now):
            name = middle.name_of(number)
            known = firewall.flows.find(name)
            if known is None:
                whose, _ = middle.ends(leg.end)
                known = FlowAccount(name, firewall.known_as(whose.account), now)
            firewall.burn(known, energy_uj)
            return
        account = middle.account_of(number, leg.end, now)
        decision, facts = self._decide(leg.end, sums, None, account, now)
        verdict = decision.verdict
        why: Refusal | None = None
        if isinstance(verdict, Reclaim):
            why = self._reaper.begin(leg, number, account, verdict, None, 0, now)
            if why is None:
                self._reaper.take(leg, raw, sums, now)
                return
        firewall.burn(account, energy_uj)
        self._turn_away(leg, number, account, decision, why or refusal_of(decision, facts), now)

    # FWRL-4-08
    def take_offer(self, leg: Leg, raw: RawSegment, offer: Control, now: Instant) -> None:
        """SYN+ACK of no flow that there is: too late, or of who wants to push power."""
        middle, number = self._middle, offer.flow
        if self._flows.has_just_ended(number, now):
            return
        account = middle.account_of(number, leg.end, now)
        way = way_of(leg.end, is_client_inside=middle.is_client_inside)
        profiles = offer.options.profiles
        ask = Ask(profiles[0]) if profiles else None
        facts = facts_of(State.UNSOLICITED, way, middle.ends(leg.end), ask=ask)
        decision = middle.firewall.judge(account, facts, now)
        verdict = decision.verdict
        why: Refusal | None = None
        if isinstance(verdict, Reclaim):
            why = self._reaper.begin(leg, number, account, verdict, None, 0, now)
            if why is None:
                self._reaper.take(leg, raw, None, now)
                return
        self._turn_away(leg, number, account, decision, why or refusal_of(decision, facts), now)

    def _turn_away(
        self,
        leg: Leg,
        number: int,
        account: FlowAccount,
        decision: Decision,
        refusal: Refusal,
        now: Instant,
    ) -> None:
        if isinstance(decision.verdict, Drop):
            self._middle.drop_stray(leg, number, account, now)
        else:
            self._middle.refuse_stray(leg, number, account, refusal, now)

    def _decide(
        self,
        sender: End,
        sums: BlockSums,
        flow: TrackedFlow | None,
        account: FlowAccount,
        now: Instant,
    ) -> tuple[Decision, Facts]:
        middle = self._middle
        way = way_of(sender, is_client_inside=middle.is_client_inside)
        facts = facts_of(State.UNSOLICITED, way, middle.ends(sender), flow=flow)
        note_block(facts, sums, (flow.sampling if flow else None) or DEFAULT_SAMPLING)
        return middle.firewall.judge(account, facts, now), facts


# FWRL-4-09
def _esn_before(flow: TrackedFlow, sender: End, raw: RawSegment, sums: BlockSums) -> int:
    """Return where a source stood before a block, which may be counted by now."""
    register = flow.register
    if register is None or sender is flow.sink:
        return 0
    before_uj = register.peek(-sums.a)
    # only what began where it should have is counted
    return before_uj if before_uj == raw[3] else register.esn_uj


def energy_of(sampling: Sampling | None, sums: BlockSums) -> int:
    """Return the energy of a block by itself, uJ; one that draws power has none."""
    return EnergyRegister(sampling or DEFAULT_SAMPLING).add(max(0, sums.a))
