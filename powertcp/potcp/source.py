"""The provider's end of a flow: answers, holds, delivers under credit, sheds, trips, hands over."""

from hashlib import blake2s
from typing import ClassVar

from powertcp.dve import EnergyRegister
from powertcp.errors import LocalProtocolError, known
from powertcp.potcp.events import (
    Ask,
    FlowCut,
    FlowResumed,
    LeaseLapsed,
    PowerAccepted,
    PowerReady,
    PowerRequested,
    RenegotiationAnswered,
    RenegotiationRequested,
    ShedEnforced,
)
from powertcp.potcp.flow import (
    MAX_OFFERS,
    Breach,
    Link,
    ask_profiles,
    first_of,
    read_asks,
    read_pairs,
    sampling_fault,
)
from powertcp.potcp.metering import MeteredOutflow
from powertcp.potcp.states import SOURCE, Cause, Source, State, Table
from powertcp.potcp.terms import require_maintain, taken_of
from powertcp.potcp.tickets import Tenure
from powertcp.profile import PowerProfile, ProfileType, in_range
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import NO_OPTIONS, Maintain, Meter, Options, Sampling, Tariff
from powertcp.wire.segments import (
    Answer,
    Control,
    Ready,
    Reneg,
    Shed,
    Ticket,
)

UJ_PER_J = 1_000_000
SYN_ACK = int(Flag.SYN | Flag.ACK)


class SourceFlow(MeteredOutflow):
    """One flow that we supply."""

    TABLE: ClassVar[Table] = SOURCE
    REST: ClassVar[State] = Source.LISTEN
    is_source: ClassVar[bool] = True

    __slots__ = (
        "asks",
        "floor_ma",
        "half_open",
        "key",
        "offers",
        "proposed",
        "proposed_tariff",
        "request",
        "resumed",
        "syn",
        "tag",
        "ticket_at",
        "wishes",
    )

    def __init__(self, link: Link, flow: int) -> None:
        super().__init__(link, flow)
        self.asks: tuple[Ask, ...] = ()
        self.request = NO_OPTIONS
        self.syn = b""
        self.tag = 0
        self.half_open = False
        self.offers: tuple[tuple[PowerProfile, PowerProfile | None], ...] = ()
        self.proposed: PowerProfile | None = None
        self.proposed_tariff: Tariff | None = None
        # current of the FALLBACK that was granted, whatever terms lowered it since; None: none
        self.floor_ma: int | None = None
        self.ticket_at: Instant | None = None
        self.key = 0
        self.resumed = False
        # what a ticket must come with again, PTCP-10-03
        self.wishes: tuple[PowerProfile, ...] = ()

    # --- opening -----------------------------------------------------------------------------

    def ask_owner(self, now: Instant, control: Control, octets: bytes) -> None:
        """A SYN: report what it asks for. PTCP-4-01."""
        options = control.options
        self.asks = read_asks(options.profiles)
        if options.sampling is None:
            raise Breach(Refusal(Reason.SAMPLING, 0, 0, rule="SAMPLING is missing"))
        fault = sampling_fault(options.sampling, self.asks)
        if fault is not None:
            raise Breach(fault)
        if options.maintain is not None:
            require_maintain(options.maintain)
        if options.via is not None:
            raise Breach(Refusal(Reason.POLICY, 0, rule="VIA: this is no gateway"))
        self.request, self.syn = options, octets
        self.tag = self.asks[0][0].tag
        self.link.emit(
            PowerRequested(
                flow=self.id,
                asks=self.asks,
                sampling=options.sampling,
                maintain=options.maintain or Maintain(),
                fallback=first_of(options.profiles, ProfileType.FALLBACK),
                entity=options.entity,
                meter=options.meter,
            )
        )

    # PTCP-10-03
    def resume(self, now: Instant, control: Control, octets: bytes) -> bool:
        """Try the ticket of a SYN; False: ALERT 406, it is a plain SYN."""
        request = first_of(control.options.profiles, ProfileType.REQUEST)
        ticket, meter = control.options.ticket, control.options.meter
        redeem = self.link.office.redeem
        tenure = redeem(ticket, request, control.esn, now, meter, self.link.party)
        # PTCP-10-04
        if tenure is None or request is None:
            self.alert(2, Refusal(Reason.TICKET_INVALID))
            return False
        self.request, self.syn = control.options, octets
        self.tag, self.wishes, self.floor_ma = request.tag, tenure.wishes, tenure.floor_ma
        self.resumed, self.start_uj, self.minimum_mv = True, control.esn, tenure.minimum_mv
        self.acked_uj = control.esn
        self._end_at(tenure.until_uj)
        # PTCP-10-05
        self.contract = self.top_contract = tenure.contract
        self.asks = (Ask(tenure.profile),)
        self.key, self.tariff, self.kept = tenure.key, tenure.tariff, tenure.pages
        self.link.emit(
            FlowResumed(
                flow=self.id,
                key=tenure.key,
                contract=tenure.contract,
                profile=tenure.profile,
                fallback=tenure.fallback,
                sampling=tenure.sampling,
                esn_uj=control.esn,
                returned_uj=tenure.returned_uj(control.esn),
                origin=tenure.origin,
            )
        )
        granted = tenure.profile.with_type(ProfileType.GRANT, tag=self.tag)
        profiles = (granted,) if tenure.fallback is None else (granted, tenure.fallback)
        ours = tenure.pages.meter if tenure.pages else None
        self.fire(Cause.GRANT, now, profiles, tenure.sampling, None, tenure.tariff, ours)
        return True

    def offer(
        self,
        now: Instant,
        profiles: tuple[PowerProfile, ...],
        sampling: Sampling,
        refusal: Refusal | None,
        tariff: Tariff | None,
        meter: Meter | None,
    ) -> None:
        """Queue SYN+ACK and hold the budget for T_OFFER. PTCP-4-03."""
        agreed = self.agree_meter(meter, self.request.meter)
        # PTCP-4-03
        config = self.link.config
        if self.contract == 0:
            self.contract = self.next_contract()
        self.sampling, self.tariff = sampling, tariff
        wish = self.request.maintain or Maintain()
        interval = max(wish.interval_ms, config.maintain_interval_ms)
        self.link.agree_maintain(interval, wish.misses, now)
        options = Options(
            msp=config.msp,
            profiles=profiles,
            contract=self.contract,
            sampling=sampling,
            maintain=Maintain(self.link.interval_ms, self.link.misses),
            tariff=tariff,
            meter=agreed,
            cookie=self.draw_cookie(),
            reason=refusal,
        )
        grant = first_of(profiles, ProfileType.GRANT)
        self.fallback = first_of(profiles, ProfileType.FALLBACK)
        if self.fallback is not None and not self.resumed:
            self.floor_ma = self.fallback.current_ma
        if grant is not None:
            self.offers = ((grant, None),)
        else:
            self.offers = read_pairs(profiles, ProfileType.OFFER, MAX_OFFERS)
        self.syn += self.control(SYN_ACK, options)
        self.arm(now, config.offer_ns)
        self._count_half_open(1)

    def _count_half_open(self, change: int) -> None:
        if self.half_open != (change > 0):
            self.half_open = change > 0
            self.link.office.half_open += change

    def refuse(
        self, now: Instant, refusal: Refusal | None = None, best: PowerProfile | None = None
    ) -> None:
        """Answer RST with the best we could do. PTCP-4-07."""
        # PTCP-4-07
        reason = refusal or Refusal(Reason.DRAINING)
        profiles = (best.with_type(ProfileType.REFUSE, tag=self.tag),) if best else ()
        self.control(Flag.RST, Options(reason=reason, profiles=profiles))
        self.end(reason, reset=True)

    # PTCP-4-04
    def latch(self, now: Instant, options: Options, octets: bytes) -> None:
        """ACK: the sink took what was offered; the output is brought up."""
        number = self.take_contract(options, theirs=False)
        grant = first_of(options.profiles, ProfileType.GRANT)
        if number != self.contract or grant is None:
            raise Breach(Refusal(Reason.STATE, number, self.contract, rule="contract of ACK"))
        terms = taken_of(self.offers, grant) if grant.tag == self.tag else None
        if terms is None:
            offered = self.offers[0][0].power_mw
            raise Breach(Refusal(Reason.NOT_OFFERED, grant.power_mw, offered))
        self._count_half_open(-1)
        # PTCP-4-09
        self.transcript = blake2s(self.syn + octets).digest()
        ask = next((ask for ask in self.asks if in_range(terms, *ask)), None)
        # PTCP-7-03
        if ask and ask[1] is not None:
            self.minimum_mv = ask[1].voltage_mv
        sampling = known(self.sampling, "SYN+ACK fixed the sampling")
        self.register = EnergyRegister(sampling, self.start_uj)
        self.acked_uj = self.limit_uj = self.start_uj
        if not self.resumed and terms.energy_j:
            self._end_at(self.start_uj + terms.energy_j * UJ_PER_J)
        self.adopt(self.contract, terms, self.fallback)
        self.demand_mw = terms.power_mw
        if not self.resumed:
            self.wishes = tuple(wish for wish, _ in self.asks)
        # what was asked has been answered
        self.request, self.syn, self.asks, self.offers = NO_OPTIONS, b"", (), ()
        self.arm(now, self.link.config.ready_ns + 5_000 * NS_PER_MS)
        self.link.emit(PowerAccepted(flow=self.id, profile=terms))

    def energise(self, now: Instant) -> None:
        """The output is stable: READY. PTCP-4-05."""
        # PTCP-4-05
        self.deadline = None
        self.key = self.link.office.enrol(self)
        self.start_lease(now)
        self._queue_ready()
        self.open_pages(now)
        self._send_ticket(now)

    def _queue_ready(self) -> None:
        profile = known(self.profile, "READY has terms")
        terms = (profile,) if self.fallback is None else (profile, self.fallback)
        options = Options(contract=self.contract, profiles=terms)
        self.negotiate(encode_segment(Ready(self.id, self.esn_uj, options)))
        self.link.emit(
            PowerReady(
                flow=self.id,
                contract=self.contract,
                profile=profile,
                fallback=self.fallback,
                resumed=self.resumed,
                tariff=self.tariff,
            )
        )

    def _send_ticket(self, now: Instant) -> None:
        """Give the sink a new ticket. PTCP-10-01."""
        # PTCP-10-01
        config = self.link.config
        self.ticket_at = now + config.ticket_ns
        tenure = known(self.tenure(), "a flow that delivers can be moved")
        ticket = self.link.office.issue(tenure, self.transcript, config.ticket_life_s, now)
        segment = Ticket(self.id, self.esn_uj, config.ticket_life_s, ticket)
        self.link.send(encode_segment(segment))

    # --- renegotiation and shedding ----------------------------------------------------------

    def consider(self, now: Instant, options: Options) -> None:
        """RENEG of the sink: our owner answers; glare is answered here. PTCP-9-07."""
        number = self.take_contract(options)
        asks = self.read_wishes(options)
        # PTCP-9-07
        if self.outstanding:
            self._answer(
                number, accepted=False, refusal=Refusal(Reason.GLARE, number, self.outstanding)
            )
            return
        if self.peer_proposal is not None:
            raise Breach(Refusal(Reason.STATE, 6, rule="a second RENEG"))
        self.peer_proposal = (number, asks)
        self.link.emit(
            RenegotiationRequested(flow=self.id, contract=number, asks=asks, refusal=options.reason)
        )

    def agree(self, now: Instant, profile: PowerProfile, fallback: PowerProfile | None) -> None:
        """Accept the sink's proposal: ANSWER and READY with `profile`.

        fallback: grants another one; None keeps what was granted, as far as `profile` goes.
        """
        if self.peer_proposal is None:
            raise LocalProtocolError(f"flow {self.id}: nothing to answer")
        number, asks = self.peer_proposal
        if not any(in_range(profile, *ask) for ask in asks):
            raise LocalProtocolError(f"flow {self.id}: terms outside of what was asked for")
        self.peer_proposal = None
        if fallback is not None:
            self.floor_ma = fallback.current_ma
        self._answer(number, accepted=True)
        self._change(now, number, profile.with_type(ProfileType.GRANT))

    def reject(self, now: Instant, refusal: Refusal | None = None) -> None:
        """Reject the sink's proposal."""
        if self.peer_proposal is None:
            raise LocalProtocolError(f"flow {self.id}: nothing to answer")
        number, self.peer_proposal = self.peer_proposal[0], None
        self._answer(number, accepted=False, refusal=refusal)

    def _answer(self, number: int, *, accepted: bool, refusal: Refusal | None = None) -> None:
        options = Options(contract=number, reason=refusal)
        octets = encode_segment(Answer(self.id, self.esn_uj, accepted, options))
        self.negotiate(octets)

    def _change(
        self, now: Instant, number: int, profile: PowerProfile, tariff: Tariff | None = None
    ) -> None:
        """Put terms in force and say READY; energy that they do not state anew stays as it is."""
        self.turn_page(now)
        self.tariff = tariff or self.tariff
        before_j = known(self.profile, "a contract changes").energy_j
        # PTCP-6-06
        if profile.energy_j in (0, before_j):
            profile = profile.with_type(ProfileType.GRANT, energy_j=before_j)
        else:
            self._end_at(self.esn_uj + profile.energy_j * UJ_PER_J)
        self.adopt(number, profile, self._floor(profile))
        self.relabel()
        # PTCP-6-03
        self.demand_mw = min(self.wanted_mw, profile.power_mw)
        self.proposed = None
        self._queue_ready()

    # PTCP-6-06
    def _end_at(self, until_uj: int) -> None:
        """Deliver up to this ESN and no more; 0: open-ended."""
        self.until_uj = until_uj
        self.is_watched = self.is_watched or until_uj != 0

    # PTCP-9-01
    def _propose(self) -> int:
        """Take the next contract number for a proposal; a pending one of the sink loses."""
        if self.outstanding:
            raise LocalProtocolError(f"flow {self.id}: proposal {self.outstanding} is unanswered")
        if self.peer_proposal is not None:
            self.reject(0, Refusal(Reason.GLARE, self.peer_proposal[0]))
        self.outstanding = self.next_contract()
        return self.outstanding

    def propose(
        self,
        now: Instant,
        asks: tuple[Ask, ...],
        refusal: Refusal | None = None,
        tariff: Tariff | None = None,
    ) -> None:
        """RENEG: offer other terms, a restore for example, or another price."""
        number = self._propose()
        profiles = ask_profiles(asks, int.from_bytes(self.link.entropy(2), "big"))
        options = Options(contract=number, profiles=profiles, tariff=tariff, reason=refusal)
        self.proposed_tariff = tariff
        self.negotiate(encode_segment(Reneg(self.id, self.esn_uj, options)))
        profile = known(self.profile, "a powered flow has terms")
        self.proposed = asks[0].desired.with_type(ProfileType.GRANT, lease_s=profile.lease_s)
        self.arm(now, self.link.config.answer_ns)

    def _ceiling(self, ceiling: PowerProfile) -> PowerProfile:
        """Return the terms of a shed: the contract's with the ceiling's current."""
        profile = known(self.profile, "a powered flow has terms")
        if ceiling.voltage_mv != profile.voltage_mv:
            raise LocalProtocolError(f"flow {self.id}: a shed keeps the voltage")
        if ceiling.current_ma > profile.current_ma:
            raise LocalProtocolError(f"flow {self.id}: a shed is not above the contract")
        return profile.with_type(ProfileType.GRANT, current_ma=ceiling.current_ma).as_sent()

    def send_shed(
        self,
        now: Instant,
        ceiling: PowerProfile,
        deadline_ms: int,
        refusal: Refusal,
        restore_s: int,
    ) -> None:
        """SHED with a deadline. PTCP-7-04."""
        terms = self._ceiling(ceiling)
        self._queue_shed(terms, deadline_ms, refusal, restore_s, urgent=False)
        self.proposed = terms
        self.arm(now, deadline_ms * NS_PER_MS)

    def lower(self, now: Instant, ceiling: PowerProfile, refusal: Refusal, restore_s: int) -> None:
        """SHED at once, for protection or a lapse; the answer comes late. PTCP-7-04."""
        terms = self._ceiling(ceiling)
        number = self._queue_shed(terms, 0, refusal, restore_s, urgent=True)
        self._change(now, number, terms)
        self.link.emit(ShedEnforced(flow=self.id, contract=number, profile=terms))
        self._await_answer(now)

    # PTCP-1-04
    def _floor(self, terms: PowerProfile) -> PowerProfile | None:
        """Return what stays of the granted fallback under `terms`: never above them."""
        if self.floor_ma is None:
            return None
        current_ma = min(self.floor_ma, terms.current_ma)
        return terms.with_type(ProfileType.FALLBACK, current_ma=current_ma)

    # PTCP-7-04
    def _queue_shed(
        self,
        terms: PowerProfile,
        deadline_ms: int,
        refusal: Refusal,
        restore_s: int,
        *,
        urgent: bool,
    ) -> int:
        number = self._propose()
        options = Options(
            contract=number, profiles=(terms.with_type(ProfileType.OFFER),), reason=refusal
        )
        segment = Shed(self.id, self.esn_uj, urgent, deadline_ms, restore_s, options)
        self.negotiate(encode_segment(segment))
        return number

    def _take_answer(self, options: Options) -> int:
        number = self.take_contract(options, theirs=False)
        if number != self.outstanding:
            raise Breach(Refusal(Reason.STATE, number, self.outstanding, rule="contract of ANSWER"))
        self.outstanding = 0
        return number

    def late_answer(self, now: Instant, options: Options) -> None:
        """The answer to a SHED whose deadline had passed."""
        self._take_answer(options)
        self.deadline = None

    def shed_answered(self, now: Instant, options: Options) -> None:
        """The sink yields: enforce the ceiling."""
        self._enforce(now, self._take_answer(options))

    # PTCP-7-05
    def shed_deadline(self, now: Instant) -> None:
        """No answer by the deadline: enforce the ceiling; the proposal stays outstanding."""
        self._enforce(now, self.outstanding)
        self._await_answer(now)

    # PTCP-7-09
    def _await_answer(self, now: Instant) -> None:
        """The ceiling of a SHED is in force: its answer has T_ANSWER to come."""
        self.arm(now, self.link.config.answer_ns)

    def _enforce(self, now: Instant, number: int) -> None:
        self.deadline = None
        terms = known(self.proposed, "a shed has terms")
        self._change(now, number, terms)
        self.link.emit(ShedEnforced(flow=self.id, contract=number, profile=terms))

    def proposal_accepted(self, now: Instant, options: Options) -> None:
        """Our RENEG was accepted: READY."""
        number = self._take_answer(options)
        self.deadline = None
        self.link.emit(
            RenegotiationAnswered(
                flow=self.id, contract=number, accepted=True, refusal=options.reason
            )
        )
        terms = known(self.proposed, "a proposal has terms")
        self._change(now, number, terms, self.proposed_tariff)

    def proposal_rejected(self, now: Instant, options: Options) -> None:
        """Our RENEG was rejected: the old terms stand."""
        number = self._take_answer(options)
        self.deadline = self.proposed = None
        self.link.emit(
            RenegotiationAnswered(
                flow=self.id, contract=number, accepted=False, refusal=options.reason
            )
        )

    # --- lease -------------------------------------------------------------------------------

    def pass_time(self, now: Instant) -> None:
        """Do what is due; a lapse caps at FALLBACK or resets. PTCP-5-04."""
        over = self.lease_until is not None and not self.lapsed and now >= self.lease_until
        floor = self.fallback.power_mw if self.fallback else 0
        # PTCP-5-04
        if over and floor and not self.outstanding and self.state is Source.ENERGISED:
            self._lapse_to_fallback(now)
        # PTCP-7-09: nor do we know what came while we slept
        if self.state is Source.ENERGISED and self.deadline is not None:
            slept = now - self.deadline > NS_PER_S
            if self.link.is_stale or slept:
                self._await_answer(now)
        super().pass_time(now)
        if self.blocked_at is not None and now >= self.blocked_at and self.delivers:
            self.queue_blocked(now)
        if self.ticket_at is not None and now >= self.ticket_at and self.delivers:
            self._send_ticket(now)
        self.pass_pages(now)

    def _lapse_to_fallback(self, now: Instant) -> None:
        self.link.emit(LeaseLapsed(flow=self.id, fallback=self.fallback))
        self.lapsed = True
        self.fire(Cause.LOWER, now, self.fallback, self._lapse_reason(), 0)

    def _lapse_reason(self) -> Refusal:
        lease = known(self.profile, "a lease belongs to terms").lease_s
        return Refusal(Reason.LEASE_EXPIRED, lease, lease)

    def lapse_reset(self, now: Instant) -> None:
        """The lease is over and nothing stays granted: RST 307."""
        self.link.emit(LeaseLapsed(flow=self.id, fallback=None))
        reason = self._lapse_reason()
        self.reset(reason)
        self.end(reason, reset=True)

    def other_times(self) -> tuple[Instant | None, ...]:
        """BLOCKED and TICKET are repeated while power flows."""
        times = (self.blocked_at, self.ticket_at) if self.delivers else ()
        return times if self.pages is None else (*times, *self.page_times())

    # --- endings and resume ------------------------------------------------------------------

    def farewell(self, refusal: Refusal) -> None:
        """Remember why we close; nothing more is delivered."""
        super().farewell(refusal)
        self.link.office.leave(self.key)

    def end(self, refusal: Refusal | None, *, truncated: bool = False, reset: bool = False) -> None:
        """The flow is over; its owner releases the budget at FlowClosed."""
        self._count_half_open(-1)
        self.link.office.leave(self.key)
        super().end(refusal, truncated=truncated, reset=reset)

    def abandon(self, now: Instant, *_: object) -> None:
        """The path or the sink went away before or after power flowed."""
        self.end(self.ending, truncated=True)

    # PTCP-10-02, PTCP-5-05
    def hold(self, now: Instant) -> None:
        """The path is lost: keep budget and contract for T_GRACE."""
        self.link.emit(FlowCut(flow=self.id, esn_uj=self.esn_uj))
        self.arm(now, self.link.config.grace_ns)

    def grace_over(self, now: Instant, *_: object) -> None:
        """Nobody resumed the flow."""
        self.end(None, truncated=True)

    def tenure(self) -> Tenure | None:
        """Return the contract as it stands, for a ticket."""
        profile, sampling = self.profile, self.sampling
        if profile is None or sampling is None or not self.may(Cause.RESUMED):
            return None
        return Tenure(
            key=self.key,
            contract=self.contract,
            profile=profile,
            fallback=self.fallback,
            sampling=sampling,
            minimum_mv=self.minimum_mv,
            acked_uj=self.acked_uj,
            sent_uj=self.esn_uj,
            limit_uj=self.limit_uj,
            until_uj=self.until_uj,
            wishes=self.wishes,
            floor_ma=self.floor_ma,
            tariff=self.tariff,
            pages=self.pages,
            party=self.link.party,
        )

    def move(self, now: Instant, esn_uj: int) -> None:
        """A ticket moved the contract: end this path."""
        self.fire(Cause.RESUMED, now, esn_uj)

    # PTCP-10-03
    def hand_over(self, now: Instant, esn_uj: int) -> None:
        """The contract continues elsewhere from `esn_uj`: it is acknowledged here, RST 603."""
        self.acked_uj = esn_uj
        reason = Refusal(Reason.HANDOVER)
        self.reset(reason)
        self.end(reason, reset=True)
