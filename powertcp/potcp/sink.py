"""The consumer's end of a flow: asks, latches, verifies every block, banks, grants credit."""

from dataclasses import replace
from typing import ClassVar

from powertcp.dve import EnergyRegister
from powertcp.errors import LocalProtocolError, known
from powertcp.potcp.events import (
    Ask,
    FlowCut,
    FlowRefused,
    LeaseLapsed,
    LeaseRestored,
    Offer,
    PageMark,
    PowerGranted,
    PowerOffered,
    PowerReady,
    RenegotiationAnswered,
    RenegotiationRequested,
    ShedReceived,
    TicketReceived,
)
from powertcp.potcp.flow import (
    MAX_OFFERS,
    Breach,
    Link,
    ask_profiles,
    first_of,
    read_pairs,
)
from powertcp.potcp.metering import MeteredInflow
from powertcp.potcp.states import SINK, Cause, Sink, State, Table
from powertcp.potcp.terms import (
    fixed_of,
    floor_of,
    longest_lease,
    metered_of,
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
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import Maintain, Options
from powertcp.wire.segments import (
    Answer,
    Control,
    CookieSegment,
    Reneg,
    Shed,
    Ticket,
)

# a sink waits for READY at most its T_READY and the longest ramp
_RAMP_MAX_NS = 5 * NS_PER_S


class SinkFlow(MeteredInflow):
    """One flow that we consume."""

    TABLE: ClassVar[Table] = SINK
    REST: ClassVar[State] = Sink.CLOSED

    __slots__ = (
        "asks",
        "before",
        "offers",
        "resuming",
        "syn",
    )

    def __init__(self, link: Link, flow: int, *, wants_samples: bool = False) -> None:
        super().__init__(link, flow, wants_samples=wants_samples)
        self.asks: tuple[Ask, ...] = ()
        self.offers: tuple[tuple[PowerProfile, PowerProfile | None], ...] = ()
        self.syn = Options()
        self.before: PowerProfile | None = None
        self.resuming = False

    # --- opening -----------------------------------------------------------------------------

    def send_syn(
        self,
        now: Instant,
        asks: tuple[Ask, ...],
        syn: Options,
        base_uj: int,
        before: PowerProfile | None,
        mark: PageMark | None,
    ) -> None:
        """Queue the SYN. base_uj, before, mark: energy, terms and receipts when resuming."""
        self.meter, self.kept = syn.meter, mark
        self.asks, self.syn, self.base_uj, self.before = asks, syn, base_uj, before
        self.resuming = syn.ticket is not None
        self._queue_syn(syn)
        self.arm(now, self.link.config.open_ns)

    def _queue_syn(self, options: Options) -> None:
        octets = encode_segment(Control(self.id, Flag.SYN, self.base_uj, options))
        # PTCP-4-09: VIA is for whoever relays the SYN, and ends there
        bare = octets
        if options.via is not None:
            bare = encode_segment(
                Control(self.id, Flag.SYN, self.base_uj, replace(options, via=None))
            )
        self.handshake = bare
        self.negotiate(octets)

    def repeat_syn(self, now: Instant, segment: CookieSegment) -> None:
        """Repeat the SYN with the cookie, once."""
        if self.syn.cookie is not None:
            raise Breach(Refusal(Reason.STATE, 0x0D, rule="a second COOKIE"))
        self.syn = replace(self.syn, cookie=segment.cookie)
        self._queue_syn(self.syn)

    def weigh(self, now: Instant, esn_uj: int, options: Options, octets: bytes) -> None:
        """Look at a SYN+ACK: latch a grant that was asked for, report a counter-offer."""
        contract = self.take_contract(options, theirs=not self.resuming)
        sampling = fixed_of(self.syn.sampling, options.sampling)
        if self.resuming and esn_uj != self.base_uj:
            self.resuming, self.base_uj, self.kept = False, 0, None
        if esn_uj != self.base_uj:
            raise Breach(Refusal(Reason.METER_MISMATCH, esn_uj, self.base_uj))
        self.contract, self.sampling, self.tariff = contract, sampling, options.tariff
        self.handshake += octets
        self.peer_meter = metered_of(self.meter, options.meter, self.kept)
        wish = require_maintain(options.maintain or self.syn.maintain or Maintain())
        self.link.agree_maintain(wish.interval_ms, wish.misses, now)
        self.deadline = None
        grant = first_of(options.profiles, ProfileType.GRANT)
        if grant is None:
            self.offers = read_pairs(options.profiles, ProfileType.OFFER, MAX_OFFERS)
            self.arm(now, self.link.config.open_ns)
            offers = tuple(Offer(*pair) for pair in self.offers)
            self.link.emit(
                PowerOffered(
                    flow=self.id,
                    offers=offers,
                    sampling=sampling,
                    refusal=options.reason,
                    tariff=options.tariff,
                    meter=self.peer_meter,
                )
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
                meter=self.peer_meter,
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
        self.handshake += self.control(Flag.ACK, Options(contract=self.contract, profiles=(grant,)))
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
        self.tariff = self.offered_tariff or self.tariff
        self.deadline = self.peer_proposal = self.offered_tariff = None
        self.open_pages(now)
        self.relabel()
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
                tariff=self.tariff,
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
        # PTCP-7-04
        lawful = shed.deadline_ms == 0 if shed.urgent else 100 <= shed.deadline_ms <= 60_000
        if not lawful:
            raise Breach(Refusal(Reason.LIMIT, shed.deadline_ms, 60_000))
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
        self.peer_proposal, self.offered_tariff = (number, asks), options.tariff
        self.link.emit(
            RenegotiationRequested(
                flow=self.id,
                contract=number,
                asks=asks,
                refusal=options.reason,
                tariff=options.tariff,
            )
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
        self.peer_proposal = self.offered_tariff = None

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

    @property
    def page_mark(self) -> PageMark | None:
        """Where the receipts stand, for a ticket that resumes the flow."""
        return self.pages.mark() if self.pages else self.kept

    def cut(self, now: Instant) -> None:
        """The path is lost; a ticket may resume the flow. PTCP-13-01."""
        if self.profile is not None and self.lease_until is not None:
            self.link.emit(FlowCut(flow=self.id, esn_uj=self.esn_uj, pages=self.page_mark))
        self.end(self.ending, truncated=self.ending is None)
