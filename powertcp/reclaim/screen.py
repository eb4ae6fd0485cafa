"""One connection under the policy of a firewall: plain segments pass octet for octet, or not at all.

Two legs, one for each TCP connection. What the policy lets pass is forwarded as it came, ECE
excepted; what it reclaims is answered here. FWRL sections 1 to 4.
"""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from powertcp.dve import BlockSums, EnergyRegister, integrate_many
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.machine import Buffer, Event
from powertcp.potcp.events import Ask
from powertcp.potcp.protect import sums_of
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import Firewall, refusal_of
from powertcp.reclaim.harvest import DEFAULT_SAMPLING
from powertcp.reclaim.leg import Hung, Leg
from powertcp.reclaim.policy import Accept, Decision, Drop, Facts, Reclaim, State
from powertcp.reclaim.reaper import Reaper
from powertcp.reclaim.sealed import SealedPower
from powertcp.reclaim.track import End, Phase, Sighting, TrackedFlow, Tracker, What
from powertcp.reclaim.watch import (
    STATES,
    Party,
    Watch,
    facts_of,
    is_due,
    note_block,
    terms_of,
    way_of,
)
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.frames import (
    MAX_WORDS,
    MIN_WORDS,
    RawSegment,
    Splitter,
    decode_segment,
    encode_segment,
    pack_segment,
    whole_segment,
)
from powertcp.wire.options import Options
from powertcp.wire.segments import Answer, Control, Data, Ready, Reneg, Segment, Shed, Trip

# PTCP-13-02: what is refused here within a second
REFUSALS_MAX: Final = 20
# T_DRAIN: for so long DATA of a flow that ended may have been under way
DRAIN_NS: Final = 5 * NS_PER_S
# octets of the client that wait until it is known where they go
PARKED_MAX: Final = 256 * 1024
# nothing heard for so long is stale: three probes of the default interval
STALE_NS: Final = 3 * NS_PER_S
_FIN_ACK: Final = Flag.FIN | Flag.ACK
_DATA: Final = int(SegmentType.DATA)
_HEAD: Final = 4
# FWRL-3-03: what no policy switches off
_HARD: Final = (Reason.OVER_VOLTAGE, Reason.SHORT_CIRCUIT, Reason.REVERSE_POWER)
# FWRL-3-04: a block beyond what was agreed upon
_BEYOND: Final = (Reason.CREDIT_OVERRUN, Reason.OVER_CURRENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameWanted(Event):
    """A request wants to go somewhere: resolve it, then call `settle`. via: None: the default."""

    via: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetWanted(Event):
    """Something waits for the far side: connect to it, or call `give_up`."""


class Screen:
    """What is between a client, who opened its connection, and where that goes.

    client, target: who they are; target None: it is yet to be named. is_client_inside: which side
    is protected. passes_other: octets that are not PoTCP pass, to a known target. Bounds: the 256
    flows of the tracker, PARKED_MAX octets; what is queued for one side is bounded by who reads the
    other.
    """

    def __init__(
        self,
        firewall: Firewall,
        client: Party,
        target: Party | None,
        *,
        is_client_inside: bool,
        passes_other: bool = False,
    ) -> None:
        self.firewall, self.party, self.target = firewall, client, target
        self.client, self.server = Leg(self, End.CLIENT), Leg(self, End.SERVER)
        self.tracker = Tracker()
        self.is_over = self.is_opaque = False
        self.via: str | None = None
        self.is_client_inside = is_client_inside
        self._passes_other = passes_other
        self._watches: dict[int, Watch] = {}
        self._reaper = Reaper(self)
        self._sealed = SealedPower(self)
        self._parked: bytearray | None = None
        self._head: bytearray | None = bytearray()
        self._is_wanted = False
        # a side that is gone while the other is being harvested
        self._gone: End | None = None
        self._ended: dict[int, Instant] = {}
        self._refusals: deque[Instant] = deque(maxlen=REFUSALS_MAX + 1)
        self._heard: dict[End, Instant] = {}
        firewall.screens[self] = None

    # --- who is where -------------------------------------------------------------------------

    def leg(self, end: End) -> Leg:
        """Return one side."""
        return self.client if end is End.CLIENT else self.server

    def ends(self, sender: End) -> tuple[Party, Party | None]:
        """Return who sends, and the other."""
        if sender is End.CLIENT:
            return self.party, self.target
        return self.target or self.party, self.party

    def name_of(self, number: int | str) -> str:
        """Return a flow as people see it: ADDRESS:PORT/FLOW."""
        return f"{self.party.name}/{number}"

    def account_of(self, number: int, source: End, now: Instant, what: str = "") -> FlowAccount:
        """Open the account of a flow whose power `source` sends. what: if not its number, its name."""
        whose, other = self.ends(source)
        account = FlowAccount(
            self.name_of(what or number),
            whose.account,
            now,
            other.name if other is not None else "",
        )
        self.firewall.flows.open(account)
        return account

    @property
    def has_server(self) -> bool:
        """Whether there is a far side, or will be."""
        return self._is_wanted and self._gone is not End.SERVER

    # --- the target ---------------------------------------------------------------------------

    def settle(self, target: Party | None, refusal: Refusal | None, now: Instant) -> None:
        """Go on with what waits: it goes to `target`, or nowhere for `refusal`."""
        parked, self._parked = self._parked, None
        if self.is_over or parked is None:
            return
        if target is None:
            self.fail(self.client, refusal or Refusal(Reason.POLICY, text="no target"), now)
            return
        self.target = target
        self.client.receive_data(bytes(parked), now)

    def give_up(self, refusal: Refusal, now: Instant) -> None:
        """The far side does not answer: whoever asked for it is refused."""
        if self.is_over:
            return
        for flow in self.tracker.flows:
            self._answer_no(flow, self.client, refusal)
            self._leave(flow, "refused", refusal, now)
        self.cut(End.SERVER, None, now)

    def park(self, via: str | None, raw: RawSegment) -> None:
        """Let a request and all that follows wait until it is known where it goes."""
        self._parked = bytearray(whole_segment(raw))
        self.client.events.append(NameWanted(via=via))

    def want(self) -> None:
        """Something passes to the far side: it must be there."""
        if not self._is_wanted:
            self._is_wanted = True
            self.client.events.append(TargetWanted())

    # --- what comes ---------------------------------------------------------------------------

    def receive(self, leg: Leg, data: Buffer, splitter: Splitter, now: Instant) -> None:
        """Take octets of one side; never raises on their content."""
        if self.is_over:
            return
        self._heard[leg.end] = now
        if self.is_opaque:
            self.leg(leg.end.other).send(bytes(data))
            return
        if self._parked is not None and leg is self.client:
            self._parked += data
            if len(self._parked) > PARKED_MAX:
                self.fail(leg, Refusal(Reason.LIMIT, len(self._parked), PARKED_MAX), now)
            return
        if self._head is not None and leg is self.client:
            self._head += data
            if len(self._head) < _HEAD:
                return
            data, self._head = bytes(self._head), None
            if not _is_power(data):
                self._take_other(data, now)
                return
        self._take_all(leg, splitter.receive(data), now)
        if splitter.error is not None and not self.is_over:
            error = splitter.error
            # PTCP-2.1-03
            self.fail(leg, Refusal(error.code, error.value, error.limit), now)

    # FWRL-2-01
    def _take_other(self, data: bytes, now: Instant) -> None:
        """The client speaks something else."""
        if not self._passes_other or self.target is None or self.firewall.stopped is not None:
            self.drop(self.client, now)
            return
        self.is_opaque = True
        self.want()
        self.server.send(data)

    def _take_all(self, leg: Leg, raws: list[RawSegment], now: Instant) -> None:
        known = self._sums(leg, raws)
        touched: dict[int, Watch] = {}
        for index, raw in enumerate(raws):
            sums = known[index] if known is not None else None
            if sums is not None and not raw[4] and not self._reaper.takes(leg.end, raw[2]):
                self._take_block(leg, raw, sums, touched, now)
            elif self._reaper.takes(leg.end, raw[2]):
                self._reaper.take(leg, raw, sums, now)
            else:
                self._take(leg, raw, now)
            if self.is_over:
                break
            if self._parked is not None:
                for rest in raws[index + 1 :]:
                    self._parked += whole_segment(rest)
                break
        for watch in touched.values():
            self._count(watch)

    def _count(self, watch: Watch) -> None:
        """Count what passed of a flow since the last time."""
        if watch.passed_uj or watch.heat_uj:
            self.firewall.pass_on(watch.account, watch.passed_uj, watch.heat_uj)
            watch.passed_uj = watch.heat_uj = 0

    def _sums(self, leg: Leg, raws: list[RawSegment]) -> list[BlockSums | None] | None:
        """Integrate the blocks of one read together, None if there are none."""
        places = [index for index, raw in enumerate(raws) if raw[0] == _DATA]
        if not places:
            return None
        protectors = []
        for index in places:
            flow = self.tracker.flow(raws[index][2])
            protectors.append(flow.protector if flow is not None else None)
        try:
            sums = sums_of(protectors, [raws[index][5] for index in places])
        except DecodeError:
            # the faulty one is found when they are taken singly
            return None
        found: list[BlockSums | None] = [None] * len(raws)
        for index, one in zip(places, sums, strict=True):
            found[index] = one
        return found

    def _take_block(
        self,
        leg: Leg,
        raw: RawSegment,
        sums: BlockSums,
        touched: dict[int, Watch],
        now: Instant,
    ) -> None:
        """Take DATA without options: of a flow under a contract this is arithmetic only."""
        flow, watch = self.tracker.flow(raw[2]), self._watches.get(raw[2])
        if flow is None or watch is None:
            self._stray_block(leg, raw, sums, now)
            return
        sighting = self.tracker.block(flow, leg.end, raw[3], sums)
        if sighting.what is not What.BLOCK:
            self._odd_block(leg, raw, sums, sighting, watch, now)
            return
        watch.passed_uj += sighting.energy_uj
        touched[raw[2]] = watch
        self.pass_raw(leg, raw, is_marked=watch.is_marking)
        if watch.mark_uj is not None and flow.verified_uj >= watch.mark_uj:
            self._judge_flow(flow, STATES[flow.phase], terms_of(flow), now)

    def _take(self, leg: Leg, raw: RawSegment, now: Instant) -> None:
        if raw[0] in (SegmentType.SEALED, SegmentType.FEED):
            self._sealed.take(leg, raw, now)
            return
        if (via := self._via_wanted(leg, raw)) is not None:
            self.park(via[0], raw)
            return
        sighting = self.tracker.see(leg.end, raw, now)
        flow, what, segment = sighting.flow, sighting.what, sighting.segment
        if isinstance(segment, Data):
            self._take_data(leg, raw, segment, sighting, now)
        elif what is What.ASKED and flow is not None:
            self._asked(leg, raw, flow, sighting, now)
        elif what is What.INVALID:
            self._invalid(leg, raw, sighting, now)
        elif flow is not None:
            self._take_of_flow(leg, raw, flow, sighting, now)
        else:
            self._take_of_nobody(leg, raw, sighting, now)

    def _take_of_nobody(self, leg: Leg, raw: RawSegment, sighting: Sighting, now: Instant) -> None:
        """Take what is of no flow: of the connection, or too late."""
        what, segment = sighting.what, sighting.segment
        if what is What.STRAY:
            # PTCP-13-01: a goodbye that crossed ours
            if raw[1] == Flag.FIN and isinstance(segment, Control):
                self.say(leg, Control(raw[2], _FIN_ACK, 0))
            return
        if self._has_other(leg):
            self.pass_raw(leg, raw)
        elif what is What.PROBE:
            self._reaper.answer_probe(leg, segment)
        if what is What.TERMINATED:
            reason = segment.options.reason if isinstance(segment, Control) else None
            self._hang(leg, reason, now)

    def _has_other(self, leg: Leg) -> bool:
        """Whether somebody is on the other side of `leg`."""
        return self._is_wanted and self._gone is not leg.end.other

    def _via_wanted(self, leg: Leg, raw: RawSegment) -> tuple[str | None] | None:
        """Return where a first SYN wants to go when nobody knows yet, in a tuple; else None."""
        if (
            leg is not self.client
            or self.target is not None
            or raw[:2] != (SegmentType.CTL, Flag.SYN)
        ):
            return None
        with suppress(DecodeError):
            segment = decode_segment(raw)
            return (segment.options.via,) if isinstance(segment, Control) else (None,)
        return None

    # --- requests and terms -------------------------------------------------------------------

    # FWRL-3-01
    def _asked(
        self, leg: Leg, raw: RawSegment, flow: TrackedFlow, sighting: Sighting, now: Instant
    ) -> None:
        """Judge a SYN."""
        syn = sighting.segment
        options = syn.options if isinstance(syn, Control) else Options()
        watch = self._watches.get(flow.number)
        if watch is None:
            self._ended.pop(flow.number, None)
            account = self.account_of(flow.number, leg.end.other, now)
            watch = self._watches[flow.number] = Watch(account)
        watch.entity = options.entity
        via = options.via
        if leg is self.client and self._is_wanted and via is not None and via != self.via:
            refusal = Refusal(Reason.POLICY, rule="VIA: this connection goes elsewhere")
            self._answer_no(flow, leg, refusal)
            self._leave(flow, "refused", refusal, now)
            return
        if self._judge_flow(flow, State.NEW, flow.asks, now, opener=leg):
            if leg is self.client and not self._is_wanted:
                self.via = via
                self.want()
            # VIA is for us
            self.leg(leg.end.other).send(flow.handshake)
            self._note_msp(leg, options)

    def _take_of_flow(
        self, leg: Leg, raw: RawSegment, flow: TrackedFlow, sighting: Sighting, now: Instant
    ) -> None:
        """Take what is said of a flow after its SYN."""
        what, segment, watch = sighting.what, sighting.segment, self._watches[flow.number]
        if what is What.PROPOSED:
            if not self._may_propose(leg, flow, sighting, now):
                return
        elif what in (What.OFFERED, What.ACCEPTED, What.READY, What.SHED):
            options = segment.options if isinstance(segment, Control | Ready | Shed) else Options()
            watch.tariff = options.tariff or watch.tariff
            terms = tuple(Ask(one, None) for one in options.profiles[:1]) or terms_of(flow)
            state = State.RENEGOTIATING if what is What.SHED else STATES[flow.phase]
            self._note_msp(leg, options)
            if not self._judge_flow(flow, state, terms, now):
                return
        elif what is What.CREDITED and watch.gate is not None:
            octets = watch.gate.offer(whole_segment(raw), flow.credit_uj, now)
            if octets is None:
                if watch.account.what != "clamped":
                    self.firewall.tell(watch.account, "clamped", now)
                watch.account.holds = watch.gate.holds
                return
        self.pass_raw(leg, raw)
        self._after(leg, flow, sighting, now)

    def _after(self, leg: Leg, flow: TrackedFlow, sighting: Sighting, now: Instant) -> None:
        """A segment of a flow passed."""
        segment = sighting.segment
        if sighting.what in (What.RESET, What.CLOSED):
            reason = segment.options.reason if isinstance(segment, Control) else None
            self._leave(flow, "closed", reason, now)
        elif sighting.what is What.READY:
            self.firewall.tell(self._watches[flow.number].account, "powered", now)
        elif sighting.what is What.TRIPPED:
            self.firewall.tell(
                self._watches[flow.number].account, "tripped", now, refusal=flow.fault
            )

    def _may_propose(self, leg: Leg, flow: TrackedFlow, sighting: Sighting, now: Instant) -> bool:
        """Judge a RENEG of either side: one that may not be is rejected here."""
        reneg = sighting.segment
        watch = self._watches[flow.number]
        if isinstance(reneg, Reneg):
            before, watch.tariff = watch.tariff, reneg.options.tariff or watch.tariff
            decision, facts = self._judge(flow, State.RENEGOTIATING, sighting.asks, now)
            verdict = decision.verdict
            if isinstance(verdict, Accept):
                self._go_by(flow, verdict, now)
                if leg.end is flow.sink:
                    flow.asks, flow.asked_before = sighting.asks, flow.asked_before or flow.asks
                return True
            watch.tariff = before
            if isinstance(verdict, Drop):
                self._refuse(flow, decision, facts, now)
                return False
            # FWRL-3-07
            refusal = refusal_of(decision, facts)
            self.firewall.tell(watch.account, "refused", now, refusal=refusal)
            options = Options(contract=reneg.options.contract, reason=refusal)
            esn_uj = flow.verified_uj if leg.end is flow.sink else flow.acked_uj
            leg.send(encode_segment(Answer(flow.number, esn_uj, accepted=False, options=options)))
            self.churn(leg, now)
        return False

    def _judge(
        self, flow: TrackedFlow, state: State, terms: tuple[Ask, ...], now: Instant
    ) -> tuple[Decision, Facts]:
        """Judge each of several terms: the first that is not accepted decides."""
        watch = self._watches[flow.number]
        ends, way = self.ends(flow.sink), way_of(flow.sink, is_client_inside=self.is_client_inside)
        source = ends[1] if ends[1] is not None else ends[0]
        for ask in terms or (None,):
            facts = facts_of(state, way, ends, flow=flow, ask=ask, watch=watch)
            facts.is_sealed = facts.is_sealed or source.key is not None
            decision = self.firewall.judge(watch.account, facts, now)
            if not isinstance(decision.verdict, Accept):
                break
        return decision, facts

    # FWRL-3-01
    def _judge_flow(
        self,
        flow: TrackedFlow,
        state: State,
        terms: tuple[Ask, ...],
        now: Instant,
        *,
        opener: Leg | None = None,
    ) -> bool:
        """Judge a flow; return whether it goes on. opener: who is answered when it only asks."""
        decision, facts = self._judge(flow, state, terms, now)
        verdict = decision.verdict
        if isinstance(verdict, Accept):
            self._go_by(flow, verdict, now)
            return True
        if opener is not None and not isinstance(verdict, Drop):
            refusal = refusal_of(decision, facts)
            self._answer_no(flow, opener, refusal)
            self._leave(flow, "refused", refusal, now)
            self.churn(opener, now)
            return False
        self._refuse(flow, decision, facts, now)
        return False

    def _go_by(self, flow: TrackedFlow, verdict: Accept, now: Instant) -> None:
        """Let a flow go on under what its rule says."""
        watch = self._watches[flow.number]
        gate, limit = watch.gate, self.firewall.limit_of(verdict, now)
        if gate is not None and limit is not None and gate.is_of(limit):
            limit, watch.is_marking = None, verdict.is_marking
        else:
            octets = watch.go_by(verdict, limit, flow.credit_uj)
            if octets is not None:
                self.leg(flow.sink.other).send(octets)
        energy_uj, marks = flow.verified_uj, self.firewall.policy.energy_marks_uj
        watch.mark_uj = next((mark for mark in marks if mark > energy_uj), None)

    # FWRL-3-02
    def judge_again(self, now: Instant) -> None:
        """Judge every flow again: by another policy, load or time."""
        if self.is_over:
            return
        if self.is_opaque:
            if self.firewall.stopped is not None:
                self.drop(self.client, now)
            return
        for flow in self.tracker.flows:
            if not self.is_over and flow.number in self._watches:
                self._judge_flow(flow, self._state_of(flow, now), terms_of(flow), now)
        if not self.is_over:
            self._reaper.judge_again(now)
        if not self.is_over:
            self._sealed.judge_again(now)

    def _state_of(self, flow: TrackedFlow, now: Instant) -> State:
        state = STATES[flow.phase]
        quiet = any(now - at > STALE_NS for at in self._heard.values())
        return State.STALE if quiet and state is State.ENERGISED else state

    # --- power that nobody asked for ----------------------------------------------------------

    def _take_data(
        self,
        leg: Leg,
        raw: RawSegment,
        data: Data,
        sighting: Sighting,
        now: Instant,
    ) -> None:
        """Take DATA singly: with options, or beside one that no decoder takes."""
        flow = sighting.flow
        watch = self._watches.get(raw[2]) if flow is not None else None
        if flow is None or watch is None:
            self._stray_block(leg, raw, integrate_many([data.payload])[0], now)
        elif sighting.what is What.BLOCK:
            self.firewall.pass_on(watch.account, sighting.energy_uj)
            self.pass_raw(leg, raw, is_marked=watch.is_marking)
        else:
            self._odd_block(leg, raw, integrate_many([data.payload])[0], sighting, watch, now)

    def _odd_block(
        self,
        leg: Leg,
        raw: RawSegment,
        sums: BlockSums,
        sighting: Sighting,
        watch: Watch,
        now: Instant,
    ) -> None:
        """A block that its sink does not bank."""
        flow, refusal = sighting.flow, sighting.refusal or Refusal(Reason.UNSOLICITED)
        if flow is None:
            return
        self._count(watch)
        energy_uj = _energy_of(flow, sums)
        if flow.claimed_uj > watch.claimed_uj:
            self.firewall.claim(watch.account, flow.claimed_uj - watch.claimed_uj)
            watch.claimed_uj = flow.claimed_uj
        if sighting.what is What.UNSOLICITED or refusal.code in _BEYOND:
            self._unsolicited(leg, raw, sums, flow, watch, energy_uj, now)
        elif refusal.code in _HARD:
            # FWRL-3-03
            self.firewall.burn(watch.account, energy_uj)
            self._trip(flow, refusal, now)
        else:
            # its sink says TRIP: it is no power of use, and no secret
            self.firewall.burn(watch.account, energy_uj)
            self.pass_raw(leg, raw)

    # FWRL-3-03
    def _trip(self, flow: TrackedFlow, refusal: Refusal, now: Instant) -> None:
        """Say TRIP to both sides: each answers, and neither hears the other's answer."""
        for end in End:
            esn_uj = flow.acked_uj if end is flow.sink.other else flow.verified_uj
            trip = Trip(flow.number, esn_uj, Options(reason=refusal), urgent=True)
            self._send(self.leg(end), trip)
        self._leave(flow, "tripped", refusal, now)

    # FWRL-3-04
    def _unsolicited(
        self,
        leg: Leg,
        raw: RawSegment,
        sums: BlockSums,
        flow: TrackedFlow,
        watch: Watch,
        energy_uj: int,
        now: Instant,
    ) -> None:
        """Judge power that nobody asked for, on a flow that somebody else has."""
        facts = self._attack_facts(leg.end, sums, flow)
        decision = self.firewall.judge(watch.account, facts, now)
        verdict = decision.verdict
        if isinstance(verdict, Accept):
            self.firewall.burn(watch.account, energy_uj)
            self.pass_raw(leg, raw)
            return
        if isinstance(verdict, Reclaim):
            refusal = refusal_of(decision, facts, Reason.POLICY)
            if leg.end is not flow.sink:
                self._answer_no(flow, self.leg(flow.sink), refusal)
            else:
                self._reset(flow, self.leg(leg.end.other), refusal)
            self._forget(flow, now)
            why = self._reaper.begin(leg, flow.number, watch.account, verdict, flow, now)
            if why is None:
                self._reaper.take(leg, raw, sums, now)
                return
            self.firewall.burn(watch.account, energy_uj)
            self.refuse_stray(leg, flow.number, watch.account, why, now)
            return
        self.firewall.burn(watch.account, energy_uj)
        self._refuse(flow, decision, facts, now)

    def _stray_block(self, leg: Leg, raw: RawSegment, sums: BlockSums, now: Instant) -> None:
        """DATA of no flow that there is: under way when it ended, or an attack."""
        number = raw[2]
        register = EnergyRegister(DEFAULT_SAMPLING)
        energy_uj = register.add(max(0, sums.a))
        if now - self._ended.get(number, -DRAIN_NS - 1) <= DRAIN_NS:
            account = self.firewall.flows.find(self.name_of(number))
            if account is not None:
                self.firewall.burn(account, energy_uj)
            return
        account = self.account_of(number, leg.end, now)
        facts = self._attack_facts(leg.end, sums, None)
        decision = self.firewall.judge(account, facts, now)
        verdict = decision.verdict
        why: Refusal | None = None
        if isinstance(verdict, Reclaim):
            why = self._reaper.begin(leg, number, account, verdict, None, now)
            if why is None:
                self._reaper.take(leg, raw, sums, now)
                return
        self.firewall.burn(account, energy_uj)
        if isinstance(verdict, Drop):
            self.drop_stray(leg, number, account, now)
        else:
            self.refuse_stray(leg, number, account, why or refusal_of(decision, facts), now)

    def _attack_facts(self, sender: End, sums: BlockSums, flow: TrackedFlow | None) -> Facts:
        way = way_of(sender, is_client_inside=self.is_client_inside)
        facts = facts_of(State.UNSOLICITED, way, self.ends(sender), flow=flow)
        note_block(facts, sums, (flow.sampling if flow else None) or DEFAULT_SAMPLING)
        return facts

    def drop_stray(self, leg: Leg, number: int, account: FlowAccount, now: Instant) -> None:
        """Close the connection for what is no flow of the tracker."""
        self.firewall.tell(account, "dropped", now)
        self.firewall.flows.close(account)
        self.drop(leg, now)

    def refuse_stray(
        self, leg: Leg, number: int, account: FlowAccount, refusal: Refusal, now: Instant
    ) -> None:
        """Say RST to what is no flow of the tracker."""
        self._note_end(number, now)
        self.say(leg, Control(number, Flag.RST, 0, Options(reason=refusal)))
        self.firewall.tell(account, "refused", now, refusal=refusal)
        self.firewall.flows.close(account)
        self.churn(leg, now)

    # --- refusals and endings -----------------------------------------------------------------

    def _invalid(self, leg: Leg, raw: RawSegment, sighting: Sighting, now: Instant) -> None:
        """What no endpoint takes never passes; the policy says how that is answered."""
        refusal = sighting.refusal or Refusal(Reason.STATE, raw[0])
        flow = sighting.flow
        watch = self._watches.get(raw[2]) if flow is not None else None
        known = self.firewall.flows.find(self.name_of(raw[2]))
        account = watch.account if watch is not None else known
        if account is None or account.is_over:
            account = self.account_of(raw[2], leg.end, now)
        way = way_of(leg.end, is_client_inside=self.is_client_inside)
        facts = facts_of(State.INVALID, way, self.ends(leg.end), flow=flow)
        decision = self.firewall.judge(account, facts, now)
        if isinstance(decision.verdict, Drop):
            self.firewall.tell(account, "dropped", now, refusal=refusal)
            self.drop(leg, now)
            return
        if raw[2] == 0:
            self.fail(leg, refusal, now)
        elif flow is not None and watch is not None:
            if flow.phase is not Phase.OVER:
                self._reset_both(flow, refusal)
            self._leave(flow, "refused", refusal, now)
        else:
            if raw[1] & Flag.RST == 0:
                self.say(leg, Control(raw[2], Flag.RST, 0, Options(reason=refusal)))
            self.firewall.tell(account, "refused", now, refusal=refusal)
            self.firewall.flows.close(account)
        self.churn(leg, now)

    def _refuse(self, flow: TrackedFlow, decision: Decision, facts: Facts, now: Instant) -> None:
        """End a flow that passed before: RST to both sides, or the whole connection in silence."""
        verdict, watch = decision.verdict, self._watches.get(flow.number)
        if isinstance(verdict, Drop):
            if watch is not None:
                self.firewall.tell(watch.account, "dropped", now)
            self.drop(self.client, now)
            return
        refusal = refusal_of(decision, facts)
        source = self.leg(flow.sink.other)
        is_powered = flow.phase in (Phase.LATCHED, Phase.ENERGISED)
        if isinstance(verdict, Reclaim) and is_powered and watch is not None:
            self._answer_no(flow, self.leg(flow.sink), refusal)
            self._forget(flow, now)
            if self._reaper.begin(source, flow.number, watch.account, verdict, flow, now) is None:
                self._reaper.grant(source, flow.number, now)
                return
        self._reset_both(flow, refusal)
        self._leave(flow, "refused", refusal, now)

    def _answer_no(self, flow: TrackedFlow, leg: Leg, refusal: Refusal) -> None:
        """Say RST to who asked for a flow. FWRL-3-06."""
        esn_uj = flow.verified_uj if flow.phase is not Phase.ASKED else 0
        self.say(leg, Control(flow.number, Flag.RST, esn_uj, Options(reason=refusal)))

    def _reset(self, flow: TrackedFlow, leg: Leg, refusal: Refusal) -> None:
        esn_uj = flow.acked_uj if leg.end is not flow.sink else flow.verified_uj
        self.say(leg, Control(flow.number, Flag.RST, esn_uj, Options(reason=refusal)))

    def _reset_both(self, flow: TrackedFlow, refusal: Refusal) -> None:
        for end in End:
            self._reset(flow, self.leg(end), refusal)

    def _forget(self, flow: TrackedFlow, now: Instant) -> None:
        """A flow is no flow of the tracker any more."""
        self.tracker.forget(flow)
        watch = self._watches.pop(flow.number, None)
        if watch is not None:
            self._count(watch)

    def _leave(self, flow: TrackedFlow, what: str, refusal: Refusal | None, now: Instant) -> None:
        """A flow is over."""
        watch = self._watches.get(flow.number)
        self._forget(flow, now)
        self._note_end(flow.number, now)
        if watch is not None:
            self.firewall.tell(watch.account, what, now, refusal=refusal)
            self.firewall.flows.close(watch.account)

    def _note_end(self, number: int, now: Instant) -> None:
        """What comes of a flow that just ended was under way."""
        self._ended.pop(number, None)
        self._ended[number] = now
        if len(self._ended) > 2 * 256:
            del self._ended[next(iter(self._ended))]

    def note_harvest_over(self, number: int, now: Instant) -> None:
        """A harvest ended: with nobody left, so does the connection."""
        self._note_end(number, now)
        if self._gone is not None and not self._reaper.count:
            self._finish(Hung(end=self._gone, refusal=None), now)

    def churn(self, leg: Leg, now: Instant) -> None:
        """Too much that is answered here within a second ends the connection."""
        times = self._refusals
        times.append(now)
        # PTCP-13-02
        if len(times) > REFUSALS_MAX and now - times[0] < NS_PER_S:
            self.fail(leg, Refusal(Reason.CHURN, len(times), REFUSALS_MAX), now)

    # --- time ---------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return when held credit may pass, or a harvest has something to say."""
        gates = (watch.gate.get_timer() for watch in self._watches.values() if watch.gate)
        times = [at for at in (*gates, self._reaper.get_timer()) if at is not None]
        return min(times, default=None)

    def handle_timer(self, now: Instant) -> None:
        """Let go what may pass by now."""
        if self.is_over:
            return
        for flow in self.tracker.flows:
            watch = self._watches.get(flow.number)
            gate = watch.gate if watch is not None else None
            if gate is not None and is_due(gate.get_timer(), now):
                octets = gate.handle_timer(now)
                if octets is not None:
                    self.leg(flow.sink.other).send(octets)
        self._reaper.handle_timer(now)

    # --- the connection -----------------------------------------------------------------------

    def cut(self, end: End, refusal: Refusal | None, now: Instant) -> None:
        """One side is gone; the other goes on only as long as it is being harvested."""
        if self.is_over:
            return
        self._hang(self.leg(end), refusal, now)

    def close(self, refusal: Refusal, now: Instant) -> None:
        """End the connection with RST on flow 0 to both sides."""
        if not self.is_over:
            self.fail(self.client, refusal, now)

    def end_all(self, refusal: Refusal, now: Instant) -> None:
        """End every flow with a reason, e.g. as we drain."""
        for flow in self.tracker.flows:
            self._reset_both(flow, refusal)
            self._leave(flow, "closed", refusal, now)
        self._reaper.end_all(refusal, now)

    @property
    def is_idle(self) -> bool:
        """Whether there is no flow."""
        return not self.tracker.flows and not self._reaper.count and not self.is_opaque

    def drop(self, leg: Leg, now: Instant) -> None:
        """Close the connection without a word."""
        for each in (self.client, self.server):
            each.drop_all()
        self._finish(Hung(end=leg.end, refusal=None), now)

    def fail(self, leg: Leg, refusal: Refusal, now: Instant) -> None:
        """The connection is over for what one side did."""
        if self.is_over:
            return
        for each in (self.client, self.server):
            self.say(each, Control(0, Flag.RST, 0, Options(reason=refusal)))
        self._finish(Hung(end=leg.end, refusal=refusal), now)

    def _hang(self, leg: Leg, refusal: Refusal | None, now: Instant) -> None:
        for flow in self.tracker.flows:
            self._leave(flow, "cut", refusal, now)
        self._reaper.cut(leg.end, now)
        if self._gone is None and self._reaper.has(leg.end.other):
            self._gone = leg.end
            leg.events.append(Hung(end=leg.end, refusal=refusal))
            return
        self._finish(Hung(end=leg.end, refusal=refusal), now)

    def _finish(self, hung: Hung, now: Instant) -> None:
        if self.is_over:
            return
        self.is_over = True
        for flow in self.tracker.flows:
            self._leave(flow, "cut", hung.refusal, now)
        for end in End:
            self._reaper.cut(end, now)
        self._sealed.close(now)
        self.firewall.screens.pop(self, None)
        self.leg(hung.end).events.append(hung)

    # --- saying -------------------------------------------------------------------------------

    # FWRL-1-03
    def pass_raw(self, leg: Leg, raw: RawSegment, *, is_marked: bool = False) -> None:
        """Hand a segment to the other side as it came; PTCP-2.1-05: with ECE if that is marked."""
        other = self.leg(leg.end.other)
        if self._gone is other.end or not self._is_wanted:
            return
        if len(raw[5]) > other.peer_msp:
            refusal = Refusal(Reason.LIMIT, len(raw[5]), other.peer_msp)
            self.say(leg, Control(raw[2], Flag.RST, 0, Options(reason=refusal)))
            return
        if is_marked and not raw[1] & Flag.ECE:
            # PTCP-2.1-05
            flags = raw[1] | Flag.ECE
            other.send(pack_segment(raw[0], flags, raw[2], raw[3], bytes(raw[4]), bytes(raw[5])))
            return
        other.send(whole_segment(raw))

    def _note_msp(self, leg: Leg, options: Options) -> None:
        if options.msp is not None:
            leg.peer_msp = options.msp

    def say(self, leg: Leg, control: Control) -> None:
        """Say something of our own to one side."""
        self._send(leg, control)

    def _send(self, leg: Leg, segment: Segment) -> None:
        if leg.end is self._gone or (leg is self.server and not self._is_wanted):
            return
        with suppress(LocalProtocolError):
            leg.send(encode_segment(segment))


# FWRL-2-01
def _is_power(head: bytes) -> bool:
    """Say whether octets begin like a segment: magic, version and a legal offset."""
    return head[:3] == b"\x50\x4f\x01" and MIN_WORDS <= head[3] <= MAX_WORDS


def _energy_of(flow: TrackedFlow, sums: BlockSums) -> int:
    """Return the energy of a block at the sampling of its flow, uJ."""
    register = EnergyRegister(flow.sampling or DEFAULT_SAMPLING)
    return register.add(max(0, sums.a))
