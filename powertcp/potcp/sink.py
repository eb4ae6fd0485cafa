"""The consumer's end of a flow: asks, latches, verifies every block, banks, grants credit."""

from dataclasses import replace
from typing import ClassVar

from powertcp.dve import BlockSums, EnergyRegister
from powertcp.errors import BrokenInvariant, LocalProtocolError, known
from powertcp.potcp.events import (
    Ask,
    FlowCut,
    FlowRefused,
    LeaseLapsed,
    LeaseRestored,
    Offer,
    PowerGranted,
    PowerOffered,
    PowerReady,
    RenegotiationAnswered,
    RenegotiationRequested,
    SamplesReceived,
    ShedReceived,
    SupplyBlocked,
    TicketReceived,
)
from powertcp.potcp.flow import (
    MAX_OFFERS,
    Breach,
    Flow,
    Link,
    ask_profiles,
    first_of,
    read_pairs,
)
from powertcp.potcp.states import SINK, Cause, Sink, State, Table
from powertcp.potcp.terms import (
    fixed_of,
    floor_of,
    longest_lease,
    require_ceiling,
    require_granted,
    require_lease,
    require_maintain,
    require_ready,
    taken_of,
)
from powertcp.profile import PowerProfile, ProfileType, in_range
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.wire.frames import credit_segment, encode_segment
from powertcp.wire.options import Maintain, Options
from powertcp.wire.segments import (
    DEMAND_MAX,
    Answer,
    Blocked,
    Control,
    CookieSegment,
    Reneg,
    Shed,
    Ticket,
)

# a sink waits for READY at most its T_READY and the longest ramp
_RAMP_MAX_NS = 5 * NS_PER_S
# what the limit of a CREDIT can say
MAX_LIMIT_UJ = (1 << 64) - 1
_BANKING = frozenset(state for (state, cause), row in SINK.items() if row[0] == "bank")


class SinkFlow(Flow):
    """One flow that we consume."""

    TABLE: ClassVar[Table] = SINK
    REST: ClassVar[State] = Sink.CLOSED

    __slots__ = (
        "asks",
        "base_uj",
        "batch",
        "before",
        "blocks",
        "cap_mw",
        "counter",
        "credit_at",
        "ece_at",
        "ece_seen",
        "full_uj",
        "last_credit",
        "minimum_mw",
        "offers",
        "resuming",
        "rise_at",
        "syn",
        "wanted_mw",
        "wants_samples",
    )

    def __init__(self, link: Link, flow: int, *, wants_samples: bool = False) -> None:
        super().__init__(link, flow)
        self.wants_samples = wants_samples
        self.asks: tuple[Ask, ...] = ()
        self.offers: tuple[tuple[PowerProfile, PowerProfile | None], ...] = ()
        self.syn = Options()
        self.base_uj = 0
        self.before: PowerProfile | None = None
        self.resuming = False
        self.counter: int | None = None
        self.full_uj: int | None = None  # the ESN at which the store is full
        # the owner's wish, and the ceiling that congestion leaves of it (PTCP-7-02)
        self.wanted_mw = DEMAND_MAX
        self.cap_mw: int | None = None
        self.minimum_mw = 0
        self.ece_at: Instant | None = None
        self.ece_seen = False
        self.rise_at: Instant | None = None
        self.credit_at: Instant | None = None
        self.last_credit: Instant | None = None
        self.batch: SamplesReceived | None = None
        self.blocks: list[bytes] = []

    @property
    def esn_uj(self) -> int:
        """Energy verified and banked so far, uJ: what came beyond credit is not. PTCP-6-02."""
        # PTCP-6-02
        return min(self.register.esn_uj, self.limit_uj) if self.register else 0

    @property
    def banks(self) -> bool:
        """Whether a block that comes now is verified and banked."""
        return self.state in _BANKING

    # --- opening -----------------------------------------------------------------------------

    def send_syn(
        self,
        now: Instant,
        asks: tuple[Ask, ...],
        syn: Options,
        base_uj: int,
        before: PowerProfile | None,
    ) -> None:
        """Queue the SYN. base_uj, before: energy verified and terms in force when resuming."""
        self.asks, self.syn, self.base_uj, self.before = asks, syn, base_uj, before
        self.resuming = syn.ticket is not None
        self._queue_syn(syn)
        self.arm(now, self.link.config.open_ns)

    def _queue_syn(self, options: Options) -> None:
        octets = encode_segment(Control(self.id, Flag.SYN, self.base_uj, options))
        self.negotiate(octets)

    def repeat_syn(self, now: Instant, segment: CookieSegment) -> None:
        """Repeat the SYN with the cookie, once."""
        if self.syn.cookie is not None:
            raise Breach(Refusal(Reason.STATE, 0x0D, rule="a second COOKIE"))
        self.syn = replace(self.syn, cookie=segment.cookie)
        self._queue_syn(self.syn)

    def weigh(self, now: Instant, esn_uj: int, options: Options) -> None:
        """Look at a SYN+ACK: latch a grant that was asked for, report a counter-offer."""
        contract = self.take_contract(options, theirs=not self.resuming)
        sampling = fixed_of(self.syn.sampling, options.sampling)
        if self.resuming and esn_uj != self.base_uj:
            self.resuming, self.base_uj = False, 0
        if esn_uj != self.base_uj:
            raise Breach(Refusal(Reason.METER_MISMATCH, esn_uj, self.base_uj))
        self.contract, self.sampling = contract, sampling
        wish = require_maintain(options.maintain or self.syn.maintain or Maintain())
        self.link.agree_maintain(wish.interval_ms, wish.misses, now)
        self.deadline = None
        grant = first_of(options.profiles, ProfileType.GRANT)
        if grant is None:
            self.offers = read_pairs(options.profiles, ProfileType.OFFER, MAX_OFFERS)
            self.arm(now, self.link.config.open_ns)
            offers = tuple(Offer(*pair) for pair in self.offers)
            self.link.emit(
                PowerOffered(flow=self.id, offers=offers, sampling=sampling, refusal=options.reason)
            )
            return
        before = (self.before or self.asks[0].desired) if self.resuming else None
        most_s = require_granted(grant, self.asks, before)
        require_lease(grant.lease_s, most_s, self.link.interval_ms, self.link.misses)
        fallback = self._floor_of(options, grant)
        self.link.emit(
            PowerGranted(
                flow=self.id,
                contract=contract,
                profile=grant,
                fallback=fallback,
                sampling=sampling,
                tariff=options.tariff,
            )
        )
        self.fire(Cause.ACCEPT, now, grant, fallback)

    def latch(
        self, now: Instant, profile: PowerProfile, fallback: PowerProfile | None = None
    ) -> None:
        """Accept terms: ACK echoes them, and the first CREDIT goes with it. PTCP-4-04."""
        grant = taken_of(self.offers, profile) if self.offers else profile
        if grant is None:
            raise LocalProtocolError(f"flow {self.id}: {profile.format()} was not offered")
        if self.offers:
            # PTCP-4-06
            most_s = longest_lease(self.asks)
            require_lease(grant.lease_s, most_s, self.link.interval_ms, self.link.misses)
        sampling = known(self.sampling, "SYN+ACK fixed the sampling")
        self.register = EnergyRegister(sampling, self.base_uj)
        self.limit_uj = self.base_uj
        ask = next((ask for ask in self.asks if in_range(grant, *ask)), self.asks[0])
        if ask.minimum is not None:
            self.minimum_mv, self.minimum_mw = ask.minimum.voltage_mv, ask.minimum.power_mw
        self.adopt(self.contract, grant, fallback)
        self.control(Flag.ACK, Options(contract=self.contract, profiles=(grant,)))
        self.start_lease(now)
        self.grant_credit(now)
        self.arm(now, self.link.config.ready_ns + _RAMP_MAX_NS)

    def decline(self, now: Instant, refusal: Refusal | None = None) -> None:
        """Give up before power flowed."""
        reason = refusal or Refusal(Reason.NORMAL)
        self.reset(reason)
        self.end(reason, reset=True)

    def take_reset(self, now: Instant, options: Options) -> None:
        """RST: refused while opening, otherwise the end of the flow."""
        refusal = options.reason or Refusal(Reason.OPERATOR)
        if self.state is Sink.CLOSED and self.profile is None:
            best = first_of(options.profiles, ProfileType.REFUSE)
            self.link.emit(FlowRefused(flow=self.id, refusal=refusal, best=best))
        self.end(refusal, reset=True)

    def energise(self, now: Instant, options: Options) -> None:
        """READY: the terms named here hold from now on. PTCP-9-03."""
        # PTCP-9-03
        contract = self.take_contract(options, theirs=False)
        grant = first_of(options.profiles, ProfileType.GRANT)
        if grant is None:
            raise Breach(Refusal(Reason.BAD_OPTION, 3, rule="READY without GRANT"))
        if contract != self._awaited():
            raise Breach(Refusal(Reason.STATE, contract, self._awaited(), rule="contract of READY"))
        first = self.peer_proposal is None
        proposal = self.peer_proposal[1] if self.peer_proposal else None
        most_s = require_ready(grant, contract, self._terms(), proposal)
        require_lease(grant.lease_s, most_s, self.link.interval_ms, self.link.misses)
        self.adopt(contract, grant, self._floor_of(options, grant))
        self.deadline = self.peer_proposal = None
        was_lapsed = self.lapsed
        # PTCP-5-06: a READY is no answered probe, but it lifts a lapse
        if was_lapsed:
            self.start_lease(now)
        self.link.emit(
            PowerReady(
                flow=self.id,
                contract=contract,
                profile=grant,
                fallback=self.fallback,
                resumed=first and self.resuming,
            )
        )
        if was_lapsed:
            self.link.emit(LeaseRestored(flow=self.id, profile=grant))
        self.grant_credit(now)

    def _floor_of(self, options: Options, grant: PowerProfile) -> PowerProfile | None:
        return floor_of(options.profiles, grant, first_of(self.syn.profiles, ProfileType.FALLBACK))

    def _terms(self) -> PowerProfile:
        return known(self.profile, "a flow that was latched has terms")

    def _awaited(self) -> int:
        """The contract that the next READY must name."""
        return self.peer_proposal[0] if self.peer_proposal else self.contract

    # --- banking -----------------------------------------------------------------------------

    def check_block(self, sums: BlockSums, stated_esn: int) -> Refusal | None:
        """Return why a block is not banked: gap, meter, protection; in this order."""
        register, sampling, protector = self.register, self.sampling, self.protector
        if register is None or sampling is None or protector is None:
            raise BrokenInvariant("a sink that banks has register, sampling and protection")
        # PTCP-3.1-01
        if sums.pairs != sampling.pairs:
            return Refusal(Reason.SAMPLE_GAP, sums.pairs, sampling.pairs)
        if self.counter is not None and sums.counter != self.counter:
            return Refusal(Reason.SAMPLE_GAP, sums.counter, self.counter)
        # PTCP-3.3-02
        if stated_esn != register.esn_uj:
            return Refusal(Reason.METER_MISMATCH, stated_esn, register.esn_uj)
        return protector.check(sums)

    def bank_block(
        self, now: Instant, sums: BlockSums, stated_esn: int, payload: memoryview, *, ece: bool
    ) -> None:
        """Verify one block and bank it, or trip."""
        register = known(self.register, "a sink that banks has a register")
        refusal = self.check_block(sums, stated_esn)
        if refusal is not None:
            self._report()
            self.count_heat(self.energy_of(sums), refusal)
            self.fire(Cause.VIOLATION, now, refusal)
            return
        self.counter = (sums.counter + sums.n) & 0xFFFF_FFFF
        before = register.esn_uj
        after = register.peek(sums.a)
        # PTCP-6-02
        if after > self.limit_uj:
            over = Refusal(Reason.CREDIT_OVERRUN, after, self.limit_uj)
            banked = self.limit_uj - before
            register.add(sums.a)
            self._note(sums, banked, self.limit_uj, payload, ece=ece)
            self._report()
            self.count_heat(after - self.limit_uj, over)
            self.fire(Cause.VIOLATION, now, over)
            return
        register.add(sums.a)
        self._note(sums, after - before, after, payload, ece=ece)
        protector = self.protector
        if protector is not None and protector.alert is not None:
            self.alert(2, protector.alert)
            protector.alert = None

    def _note(
        self, sums: BlockSums, energy_uj: int, esn_uj: int, payload: memoryview, *, ece: bool
    ) -> None:
        batch = self.batch
        if batch is None:
            batch = self.batch = SamplesReceived(flow=self.id, count=0, energy_uj=0, esn_uj=0)
        batch.count += sums.n
        batch.energy_uj += energy_uj
        batch.esn_uj = esn_uj
        batch.sim = batch.sim or payload[4] & 0x80 != 0
        if ece:
            batch.ece = self.ece_seen = True
        if self.wants_samples:
            self.blocks.append(bytes(payload[8:]))

    def _report(self) -> SamplesReceived | None:
        """Emit what was banked since the last call: before whatever ended the banking."""
        batch, self.batch = self.batch, None
        if batch is not None:
            if self.wants_samples:
                batch.samples = b"".join(self.blocks)
                self.blocks.clear()
            self.link.emit(batch)
        return batch

    def flush_batch(self, now: Instant) -> None:
        """Report what was banked since the last call and consider new credit."""
        batch = self._report()
        if batch is None:
            return
        if not self.banks or self.state is Sink.FIN_SENT:
            return
        if batch.ece:
            self._ease(now)
        self._consider_credit(now)

    # --- credit and demand -------------------------------------------------------------------

    @property
    def window_uj(self) -> int:
        """Credit window: 2 s at contract power, or the store's head-room. PTCP-6-04."""
        # PTCP-6-04
        power = known(self.profile, "credit is granted on terms").power_mw
        window = power * self.link.config.window_ns // NS_PER_MS
        return window if self.full_uj is None else min(window, max(0, self.full_uj - self.esn_uj))

    def demand_now(self) -> int:
        """Return the demand to state: the wish under the ceilings of congestion and lapse."""
        demand = self.wanted_mw
        if self.cap_mw is not None:
            demand = min(demand, self.cap_mw)
        # PTCP-5-06
        if self.lapsed:
            demand = min(demand, self.fallback.power_mw if self.fallback else 0)
        return demand

    def grant_credit(self, now: Instant, *, cwr: bool = False) -> None:
        """Queue CREDIT: limit never falls; states the demand. PTCP-6-01, PTCP-6-03."""
        # PTCP-6-01
        # a window may be wider than the field: power and time have 64 bits together
        self.limit_uj = min(max(self.limit_uj, self.esn_uj + self.window_uj), MAX_LIMIT_UJ)
        self.last_credit, self.credit_at = now, None
        self.demand_mw = self.demand_now()
        self.link.send(credit_segment(self.id, self.esn_uj, self.limit_uj, self.demand_mw, cwr))

    def _consider_credit(self, now: Instant) -> None:
        window, left = self.window_uj, self.limit_uj - self.esn_uj
        if 2 * left > window:
            return
        earliest = (self.last_credit or 0) + self.link.config.credit_gap_ns
        if 10 * left < window or now >= earliest:
            self.grant_credit(now)
        elif self.credit_at is None:
            self.credit_at = earliest

    def set_headroom(self, now: Instant, headroom_uj: int | None) -> None:
        """Bound the window by what the store takes from now on; what is banked fills it."""
        present = max(self.esn_uj, self.base_uj)
        self.full_uj = None if headroom_uj is None else present + headroom_uj
        if self.banks and self.state is not Sink.FIN_SENT:
            self._consider_credit(now)

    def set_demand(self, now: Instant, demand_mw: int) -> None:
        """State another demand, at most once per credit gap."""
        self.wanted_mw = demand_mw
        earliest = (self.last_credit or 0) + self.link.config.credit_gap_ns
        if not self.banks or self.state is Sink.FIN_SENT or self.demand_now() == self.demand_mw:
            return
        if self.last_credit is None or now >= earliest:
            self.grant_credit(now)
        else:
            self.credit_at = earliest

    # PTCP-7-02
    def _ease(self, now: Instant) -> None:
        """Lower the demand by an eighth, at most once per probe interval, and say CWR."""
        interval = self.link.interval_ms * NS_PER_MS
        if self.ece_at is not None and now < self.ece_at + interval:
            return
        self.ece_at, self.rise_at = now, now + interval
        self.ece_seen = False
        contract = known(self.profile, "a sink that banks has terms").power_mw
        present = min(self.demand_now(), contract)
        self.cap_mw = max(present - -(-present // 8), self.minimum_mw)
        self.grant_credit(now, cwr=True)

    def _rise(self, now: Instant) -> None:
        """Without ECE for an interval the ceiling of congestion rises by 1/32."""
        contract = known(self.profile, "congestion was of a contract").power_mw
        self.cap_mw = known(self.cap_mw, "congestion left a ceiling")
        if not self.ece_seen:
            self.cap_mw += max(1, contract // 32)
        self.ece_seen = False
        if self.cap_mw >= contract:
            self.cap_mw = self.rise_at = None
        else:
            self.rise_at = now + self.link.interval_ms * NS_PER_MS
        self.grant_credit(now)

    def note_blocked(self, now: Instant, blocked: Blocked) -> None:
        """BLOCKED: the source waits; grant again if there is room."""
        self.link.emit(SupplyBlocked(flow=self.id, limit_uj=blocked.limit_uj))
        if self.esn_uj + self.window_uj > self.limit_uj:
            self.grant_credit(now)

    # --- renegotiation -----------------------------------------------------------------------

    def propose(self, now: Instant, asks: tuple[Ask, ...]) -> None:
        """Ask for other terms."""
        tag = int.from_bytes(self.link.entropy(2), "big")
        number = self.next_contract()
        profiles = ask_profiles(asks, tag)
        options = Options(contract=number, profiles=profiles)
        self.negotiate(encode_segment(Reneg(self.id, self.esn_uj, options)))
        self.outstanding = number
        self.asks = asks
        self.arm(now, self.link.config.answer_ns)

    def accepted(self, now: Instant, options: Options) -> None:
        """Our proposal was accepted; READY follows."""
        number = self._answered(options)
        self.outstanding = 0
        self.peer_proposal = (number, self.asks)
        self.arm(now, self.link.config.ready_ns + _RAMP_MAX_NS)
        self.link.emit(
            RenegotiationAnswered(
                flow=self.id, contract=number, accepted=True, refusal=options.reason
            )
        )

    def rejected(self, now: Instant, options: Options) -> None:
        """Our proposal was rejected: the old terms stand."""
        number = self._answered(options)
        self.outstanding = 0
        if self.state is Sink.ENERGISED:
            self.deadline = None
        self.link.emit(
            RenegotiationAnswered(
                flow=self.id, contract=number, accepted=False, refusal=options.reason
            )
        )

    def _answered(self, options: Options) -> int:
        number = self.take_contract(options, theirs=False)
        if number != self.outstanding:
            raise Breach(Refusal(Reason.STATE, number, self.outstanding, rule="contract of ANSWER"))
        return number

    def yield_power(self, now: Instant, shed: Shed) -> None:
        """SHED: accept the ceiling; a sink cannot reject it. PTCP-7-05."""
        # PTCP-7-05
        number = self.take_contract(shed.options)
        ceiling = first_of(shed.options.profiles, ProfileType.OFFER)
        if ceiling is None:
            raise Breach(Refusal(Reason.BAD_OPTION, 3, rule="SHED without OFFER"))
        require_ceiling(ceiling, self._terms())
        self._answer(number, accepted=True)
        self.peer_proposal = (number, (Ask(ceiling),))
        self.arm(now, shed.deadline_ms * NS_PER_MS + self.link.config.ready_ns + _RAMP_MAX_NS)
        self.link.emit(
            ShedReceived(
                flow=self.id,
                contract=number,
                ceiling=ceiling,
                deadline_ms=shed.deadline_ms,
                restore_s=shed.restore_s,
                refusal=shed.options.reason,
                urgent=shed.urgent,
            )
        )

    def consider(self, now: Instant, options: Options) -> None:
        """RENEG of the source: our owner answers."""
        number = self.take_contract(options)
        asks = self.read_wishes(options)
        if self.peer_proposal is not None:
            raise Breach(Refusal(Reason.STATE, 6, rule="a second RENEG"))
        self.peer_proposal = (number, asks)
        self.link.emit(
            RenegotiationRequested(flow=self.id, contract=number, asks=asks, refusal=options.reason)
        )

    def agree(self, now: Instant) -> None:
        """Accept the source's proposal; READY follows. PTCP-9-02."""
        # PTCP-9-02
        if self.peer_proposal is None:
            raise LocalProtocolError(f"flow {self.id}: nothing to answer")
        self._answer(self.peer_proposal[0], accepted=True)
        self.arm(now, self.link.config.ready_ns + _RAMP_MAX_NS)

    def reject(self, now: Instant, refusal: Refusal | None = None) -> None:
        """Reject the source's proposal: the old terms stand."""
        if self.peer_proposal is None:
            raise LocalProtocolError(f"flow {self.id}: nothing to answer")
        self._answer(self.peer_proposal[0], accepted=False, refusal=refusal)
        self.peer_proposal = None

    def _answer(self, number: int, *, accepted: bool, refusal: Refusal | None = None) -> None:
        options = Options(contract=number, reason=refusal)
        octets = encode_segment(Answer(self.id, self.esn_uj, accepted, options))
        self.negotiate(octets)

    # --- lease, ticket, endings --------------------------------------------------------------

    # PTCP-5-06
    def lapse(self, now: Instant) -> None:
        """The lease is over: demand and load fall to FALLBACK at once."""
        self.lapsed = True
        self.link.emit(LeaseLapsed(flow=self.id, fallback=self.fallback))
        self.grant_credit(now)

    def restore(self, now: Instant) -> None:
        """A probe was answered after a lapse."""
        self.lapsed = False
        terms = known(self.profile, "a lease belongs to terms")
        self.link.emit(LeaseRestored(flow=self.id, profile=terms))
        self.grant_credit(now)

    def keep_ticket(self, now: Instant, segment: Ticket) -> None:
        """Report a resume ticket."""
        self.link.emit(
            TicketReceived(flow=self.id, ticket=segment.ticket, lifetime_s=segment.lifetime_s)
        )

    def heat(self, now: Instant, energy_uj: int) -> None:
        """DATA after a trip is heat. PTCP-8-01."""
        # PTCP-8-01
        self.count_heat(energy_uj, self.ending)

    def unsolicited(self, now: Instant, energy_uj: int) -> None:
        """DATA before READY: heat, TRIP 305. PTCP-4-05."""
        # PTCP-4-05
        refusal = Refusal(Reason.UNSOLICITED, energy_uj)
        self.count_heat(energy_uj, refusal)
        self.send_trip(now, refusal)

    def farewell(self, refusal: Refusal) -> None:
        """Remember why we close."""
        super().farewell(refusal)
        self.credit_at = self.rise_at = None

    def cut(self, now: Instant) -> None:
        """The path is lost; a ticket may resume the flow. PTCP-13-01."""
        if self.profile is not None and self.lease_until is not None:
            self.link.emit(FlowCut(flow=self.id, esn_uj=self.esn_uj))
        self.end(self.ending, truncated=self.ending is None)

    def other_times(self) -> tuple[Instant | None, ...]:
        """Credit and congestion have their own timers."""
        return (self.credit_at, self.rise_at)

    def pass_time(self, now: Instant) -> None:
        """Do what is due."""
        super().pass_time(now)
        if self.credit_at is not None and now >= self.credit_at and not self.is_over:
            self.grant_credit(now)
        if self.rise_at is not None and now >= self.rise_at and not self.is_over:
            self._rise(now)
