"""The flows of one connection through the firewall: each judged at its terms, held to its rule.

What passes is followed by a `Tracker`; here stands what the policy said of it. FWRL section 3.
"""

from collections.abc import Sequence
from typing import Final

from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import refusal_of
from powertcp.reclaim.leg import Leg
from powertcp.reclaim.middle import Middle
from powertcp.reclaim.policy import Accept, Decision, Drop, Facts, Reclaim, State
from powertcp.reclaim.reaper import Reaper
from powertcp.reclaim.track import End, Phase, TrackedFlow, Tracker
from powertcp.reclaim.watch import STATES, Watch, facts_of, in_force, is_due, terms_of, way_of
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.wire.frames import RawSegment, encode_segment, whole_segment
from powertcp.wire.options import Options
from powertcp.wire.segments import Answer, Control, Reneg

# T_DRAIN: for so long DATA of a flow that ended may have been under way
DRAIN_NS: Final = 5 * NS_PER_S
# flows of a connection of which it is known that they just ended
ENDED_MAX: Final = 512


class Flows:
    """The flows of one connection. Bound: the 256 of the tracker, ENDED_MAX that just ended.

    watches: what the policy said of each, by its number.
    """

    __slots__ = ("_ended", "_middle", "_reaper", "tracker", "watches")

    def __init__(self, middle: Middle, reaper: Reaper) -> None:
        self.tracker = Tracker()
        self.watches: dict[int, Watch] = {}
        self._middle, self._reaper = middle, reaper
        self._ended: dict[int, Instant] = {}

    def open(self, flow: TrackedFlow, sender: End, now: Instant) -> Watch:
        """A SYN is here, perhaps again."""
        watch = self.watches.get(flow.number)
        if watch is None:
            self._ended.pop(flow.number, None)
            account = self._middle.account_of(flow.number, sender.other, now)
            watch = self.watches[flow.number] = Watch(account)
        return watch

    # --- judging ------------------------------------------------------------------------------

    # FWRL-3-01, FWRL-3-11
    def judge(
        self, flow: TrackedFlow, state: State, terms: tuple[Ask, ...], now: Instant
    ) -> tuple[Decision, Facts]:
        """Judge each of several terms: the first that is not accepted decides."""
        middle, watch = self._middle, self.watches[flow.number]
        ends = middle.ends(flow.sink)
        way = way_of(flow.sink, is_client_inside=middle.is_client_inside)
        for ask in terms or (None,):
            facts = facts_of(state, way, ends, flow=flow, ask=ask, watch=watch)
            decision = middle.firewall.judge(watch.account, facts, now)
            if not isinstance(decision.verdict, Accept):
                break
        return decision, facts

    def may_ask(self, leg: Leg, flow: TrackedFlow, now: Instant) -> bool:
        """Judge a SYN; one that may not pass is answered."""
        decision, facts = self.judge(flow, State.NEW, flow.asks, now)
        verdict = decision.verdict
        if isinstance(verdict, Accept):
            self.go_by(flow, verdict, now)
            self._middle.firewall.tell(self.watches[flow.number].account, "accepted", now)
            return True
        if isinstance(verdict, Drop):
            self.refuse(flow, decision, facts, now)
        else:
            self.deny(leg, flow, refusal_of(decision, facts), now)
        return False

    def deny(self, leg: Leg, flow: TrackedFlow, refusal: Refusal, now: Instant) -> None:
        """Answer a SYN with RST {REFUSE, REASON}. FWRL-3-06."""
        # FWRL-3-06
        profiles = (_best(flow.asks[0].desired, refusal),) if flow.asks else ()
        options = Options(reason=refusal, profiles=profiles)
        self._middle.say(leg, Control(flow.number, Flag.RST, 0, options))
        self.leave(flow, "refused", refusal, now)
        self._middle.churn(leg, now)

    # FWRL-3-11
    def may_take(
        self, flow: TrackedFlow, said: Sequence[PowerProfile], now: Instant, *, is_shed: bool
    ) -> bool:
        """Judge each profile that a segment says, and last what it brings into force."""
        held = () if is_shed else in_force(flow)
        asks = [Ask(one, None) for one in said]
        terms = (*(one for one in asks if one not in held), *held) or terms_of(flow)
        if not is_shed:
            return self.may_hold(flow, STATES[flow.phase], terms, now)
        decision, facts = self.judge(flow, State.RENEGOTIATING, terms, now)
        if not isinstance(decision.verdict, Accept):
            # the rule of the contract in force stays the one to go by
            self.refuse(flow, decision, facts, now)
            return False
        return True

    def may_hold(
        self, flow: TrackedFlow, state: State, terms: tuple[Ask, ...], now: Instant
    ) -> bool:
        """Judge terms of a flow that passed before; end it when they may not be."""
        decision, facts = self.judge(flow, state, terms, now)
        if isinstance(decision.verdict, Accept):
            self.go_by(flow, decision.verdict, now)
            return True
        self.refuse(flow, decision, facts, now)
        return False

    # FWRL-3-11
    def may_propose(
        self, leg: Leg, flow: TrackedFlow, reneg: Reneg, asks: tuple[Ask, ...], now: Instant
    ) -> bool:
        """Judge a RENEG of either side: one that may not be is rejected here."""
        watch = self.watches[flow.number]
        before, watch.tariff = watch.tariff, reneg.options.tariff or watch.tariff
        decision, facts = self.judge(flow, State.RENEGOTIATING, asks, now)
        verdict = decision.verdict
        if isinstance(verdict, Accept):
            if leg.end is flow.sink:
                flow.asks, flow.asked_before = asks, flow.asked_before or flow.asks
            return True
        watch.tariff = before
        if isinstance(verdict, Drop):
            self.refuse(flow, decision, facts, now)
            return False
        refusal = refusal_of(decision, facts)
        self._middle.firewall.tell(watch.account, "refused", now, refusal=refusal)
        options = Options(contract=reneg.options.contract, reason=refusal)
        esn_uj = flow.verified_uj if leg.end is flow.sink else flow.acked_uj
        leg.send(encode_segment(Answer(flow.number, esn_uj, accepted=False, options=options)))
        self._middle.churn(leg, now)
        return False

    def go_by(self, flow: TrackedFlow, verdict: Accept, now: Instant) -> None:
        """Let a flow go on under what its rule says."""
        firewall, watch = self._middle.firewall, self.watches[flow.number]
        gate, limit = watch.gate, firewall.limit_of(verdict, now)
        if gate is not None:
            # PTCP-10-03: credit of a resumed flow counts from where it goes on
            gate.credit_uj = max(gate.credit_uj, flow.base_uj)
        if gate is not None and limit is not None and gate.is_of(limit):
            watch.is_marking = verdict.is_marking
        else:
            octets = watch.go_by(verdict, limit, flow.credit_uj, now)
            if octets is not None:
                flow.credit_uj = gate.wanted_uj if gate is not None else flow.credit_uj
                self._middle.leg(flow.sink.other).send(octets)
        energy_uj, marks = flow.verified_uj, firewall.energy_marks_uj
        watch.mark_uj = next((mark for mark in marks if mark > energy_uj), None)

    # FWRL-3-02
    def judge_again(self, now: Instant, *, is_quiet: bool) -> None:
        """Judge every flow again. is_quiet: nothing was heard of one side for a while."""
        for flow in self.tracker.flows:
            if flow.number in self.watches:
                state = STATES[flow.phase]
                if is_quiet and state is State.ENERGISED:
                    state = State.STALE
                self.may_hold(flow, state, terms_of(flow), now)

    # --- credit -------------------------------------------------------------------------------

    # FWRL-3-05
    def may_credit(self, flow: TrackedFlow, raw: RawSegment, now: Instant) -> bool:
        """Say whether CREDIT passes now; what does not is let go later as it came."""
        watch = self.watches[flow.number]
        gate = watch.gate
        if gate is None:
            return True
        octets = gate.offer(whole_segment(raw), flow.credit_uj, now)
        # what its source was not told of is no credit
        flow.credit_uj = gate.credit_uj
        if octets is not None:
            return True
        watch.account.holds = gate.holds
        if watch.account.what != "clamped":
            self._middle.firewall.tell(watch.account, "clamped", now)
        return False

    def get_timer(self) -> Instant | None:
        """Return when held credit may pass."""
        watches = self.watches.values()
        gates = (watch.gate.get_timer() for watch in watches if watch.gate)
        endings = (watch.ends_by for watch in watches)
        return min((at for at in (*gates, *endings) if at is not None), default=None)

    # FWRL-3-03
    def begin_end(self, flow: TrackedFlow, now: Instant) -> None:
        """FIN or TRIP passed: it is answered within T_DRAIN of each side, or reset."""
        watch = self.watches.get(flow.number)
        if watch is not None and watch.ends_by is None:
            watch.ends_by = now + 2 * DRAIN_NS

    def handle_timer(self, now: Instant) -> None:
        """Let go the credit that may pass by now."""
        for flow in self.tracker.flows:
            watch = self.watches.get(flow.number)
            gate = watch.gate if watch is not None else None
            octets = gate.handle_timer(now) if gate is not None else None
            if octets is not None and gate is not None:
                flow.credit_uj = gate.credit_uj
                self._middle.leg(flow.sink.other).send(octets)
            if watch is not None and is_due(watch.ends_by, now):
                most_ms = 2 * DRAIN_NS // NS_PER_MS
                late = Refusal(Reason.TIMEOUT, most_ms, most_ms)
                self.reset_both(flow, late)
                self.leave(flow, "refused", late, now)

    # --- energy -------------------------------------------------------------------------------

    def count(self, watch: Watch) -> None:
        """Count what passed of a flow since the last time."""
        if watch.passed_uj:
            self._middle.firewall.pass_on(watch.account, watch.passed_uj)
            watch.passed_uj = 0

    def claim(self, flow: TrackedFlow, watch: Watch) -> None:
        """Count what headers of a flow claimed since the last time. LEDG-8-03."""
        if flow.claimed_uj > watch.claimed_uj:
            self._middle.firewall.claim(watch.account, flow.claimed_uj - watch.claimed_uj)
            watch.claimed_uj = flow.claimed_uj

    # --- endings ------------------------------------------------------------------------------

    # FWRL-3-06, FWRL-3-12, FWRL-3-13
    def refuse(self, flow: TrackedFlow, decision: Decision, facts: Facts, now: Instant) -> None:
        """End a flow that passed before: RST to both sides, or the whole connection in silence."""
        verdict, watch = decision.verdict, self.watches[flow.number]
        if isinstance(verdict, Drop):
            self.leave(flow, "dropped", None, now)
            self._middle.drop(self._middle.leg(flow.sink), now)
            return
        refusal = refusal_of(decision, facts)
        is_powered = flow.phase in (Phase.LATCHED, Phase.ENERGISED)
        if isinstance(verdict, Reclaim) and is_powered:
            source = self._middle.leg(flow.sink.other)
            self.reset(flow, flow.sink, refusal)
            self.forget(flow)
            account, number = watch.account, flow.number
            esn_uj = flow.register.esn_uj if flow.register is not None else 0
            why = self._reaper.begin(source, number, account, verdict, flow, esn_uj, now)
            if why is None:
                self._reaper.grant(source, number, now)
            else:
                self._middle.refuse_stray(source, number, account, why, now)
            return
        self.reset_both(flow, refusal)
        self.leave(flow, "refused", refusal, now)

    def reset(self, flow: TrackedFlow, end: End, refusal: Refusal) -> None:
        """Say RST of a flow to one side."""
        esn_uj = flow.verified_uj if end is flow.sink else flow.acked_uj
        control = Control(flow.number, Flag.RST, esn_uj, Options(reason=refusal))
        self._middle.say(self._middle.leg(end), control)

    def reset_both(self, flow: TrackedFlow, refusal: Refusal) -> None:
        """Say RST of a flow to both sides."""
        for end in End:
            self.reset(flow, end, refusal)

    def forget(self, flow: TrackedFlow) -> None:
        """A flow is no flow of the tracker any more."""
        self.tracker.forget(flow)
        watch = self.watches.pop(flow.number, None)
        if watch is not None:
            self.count(watch)

    def leave(self, flow: TrackedFlow, what: str, refusal: Refusal | None, now: Instant) -> None:
        """A flow is over."""
        watch = self.watches.get(flow.number)
        self.forget(flow)
        self.note_end(flow.number, now)
        if watch is not None and not watch.account.is_over:
            self.close(watch.account, what, refusal, now)

    def close(self, account: FlowAccount, what: str, refusal: Refusal | None, now: Instant) -> None:
        """Nothing more comes to an account."""
        self._middle.firewall.tell(account, what, now, refusal=refusal)
        self._middle.firewall.flows.close(account)

    def leave_all(self, what: str, refusal: Refusal | None, now: Instant) -> None:
        """Every flow is over."""
        for flow in self.tracker.flows:
            self.leave(flow, what, refusal, now)

    def note_end(self, number: int, now: Instant) -> None:
        """What comes of a flow that just ended was under way."""
        self._ended.pop(number, None)
        self._ended[number] = now
        if len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def has_just_ended(self, number: int, now: Instant) -> bool:
        """Whether what comes of a flow may have been under way when it ended."""
        at = self._ended.get(number)
        return at is not None and now - at <= DRAIN_NS


# FWRL-3-06
def _best(asked: PowerProfile, refusal: Refusal) -> PowerProfile:
    """Return the REFUSE profile: as much of what was asked for as the limit of the rule leaves."""
    current_ma = 0
    if refusal.code == Reason.WATT_LIMIT and asked.voltage_mv:
        most_ma = refusal.limit * 1000 // (asked.pairs * asked.voltage_mv)
        current_ma = max(0, min(asked.current_ma, most_ma))
    return asked.with_type(ProfileType.REFUSE, current_ma=current_ma).as_sent()
