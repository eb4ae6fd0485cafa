"""What both ends of a flow have in common: contract, energy register, lease, table, endings.

`fire` is the only reader of the state tables; `SinkFlow` and `SourceFlow` hold the actions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from powertcp.dve import BlockSums, EnergyRegister
from powertcp.errors import LocalProtocolError, known
from powertcp.machine import Entropy, Event
from powertcp.potcp.causes import TYPE_OF
from powertcp.potcp.config import (
    QUEUE_SINK_TO_SOURCE,
    QUEUE_SOURCE_TO_SINK,
    ConnectionConfig,
)
from powertcp.potcp.events import (
    Alerted,
    Ask,
    FlowClosed,
    FlowTripped,
    HeatCounted,
    PageFacts,
    PageMark,
)
from powertcp.potcp.pages import Pages
from powertcp.potcp.protect import Protector, protector_of
from powertcp.potcp.states import VERBS, Cause, State, Table
from powertcp.potcp.tickets import TicketOffice
from powertcp.profile import PowerProfile, ProfileType, is_minimum_of
from powertcp.registry import Flag, Reason, Refusal, SegmentType
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.frames import encode_segment
from powertcp.wire.options import NO_OPTIONS, Options, Sampling, Tariff
from powertcp.wire.segments import Alert, Control, Trip

# makes the source's page of what it is told, signed
PageSigner = Callable[[PageFacts], bytes]
# (public key, message, signature): whether it is valid
SignatureCheck = Callable[[bytes, bytes, bytes], bool]
FIN_ACK = int(Flag.FIN | Flag.ACK)
NORMAL = Refusal(Reason.NORMAL)
MAX_ASKS = 4
MAX_OFFERS = 8
# the field has 32 bits: above this are numbers enough to answer and to close
MAX_CONTRACT = (1 << 32) - (1 << 16)
# samples per second, protocol section 3.2
MIN_RATE_HZ, MAX_RATE_HZ = 10, 100_000
# segments of which only so many may wait for a peer that does not read, R4; COOKIE answers a SYN
NEGOTIATION = frozenset(
    {
        SegmentType.CTL,
        SegmentType.READY,
        SegmentType.RENEG,
        SegmentType.ANSWER,
        SegmentType.SHED,
        SegmentType.TRIP,
        SegmentType.COOKIE,
    }
)


class Link(Protocol):
    """What a flow may ask of its connection."""

    config: ConnectionConfig
    entropy: Entropy
    office: TicketOffice
    party: bytes
    peer: bytes
    interval_ms: int
    misses: int
    moved: bool
    sign_page: PageSigner | None
    is_signed_by: SignatureCheck

    @property
    def is_stale(self) -> bool:
        """Whether the peer answers no probes."""

    def send(self, octets: bytes, *, negotiation: bool = False) -> None:
        """Queue a whole segment."""

    def emit(self, event: Event) -> None:
        """Report an event."""

    def drop(self, flow: "Flow", *, reset: bool) -> None:
        """Forget a flow that is over; `reset` when an RST ended it."""

    def agree_maintain(self, interval_ms: int, misses: int, now: Instant) -> None:
        """Fix the probe interval with the first flow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStatus:
    """A flow as it stands; energies in uJ, powers in mW, times in ns."""

    flow: int
    state: str
    is_source: bool
    contract: int
    profile: PowerProfile | None
    fallback: PowerProfile | None
    sampling: Sampling | None
    esn_uj: int
    acked_uj: int
    limit_uj: int
    demand_mw: int
    heat_uj: int
    lease_until_ns: Instant | None
    lapsed: bool
    outstanding: bool
    tariff: Tariff | None
    signed_uj: int | None


class Breach(Exception):
    """The peer broke a rule of this flow; `refusal` goes into the RST."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class Flow:
    """One flow at one end. `link`: its connection; `id`: its identifier."""

    TABLE: ClassVar[Table]
    REST: ClassVar[State]
    is_source: ClassVar[bool] = False
    # receipts, once power flows under a METER of both sides; kept: of the flow that is resumed
    pages: Pages | None
    kept: Pages | PageMark | None

    __slots__ = (
        "acked_uj",
        "contract",
        "deadline",
        "demand_mw",
        "ending",
        "fallback",
        "heat_uj",
        "id",
        "kept",
        "lapsed",
        "lease_until",
        "limit_uj",
        "link",
        "minimum_mv",
        "most_mw",
        "outstanding",
        "pages",
        "peer_proposal",
        "profile",
        "protector",
        "register",
        "sampling",
        "state",
        "tariff",
        "timeout_from",
        "top_contract",
        "unread",
    )

    def __init__(self, link: Link, flow: int) -> None:
        self.link = link
        self.id = flow
        self.state: State = self.REST
        self.contract = 0
        self.profile: PowerProfile | None = None
        self.fallback: PowerProfile | None = None
        self.sampling: Sampling | None = None
        self.register: EnergyRegister | None = None
        self.protector: Protector | None = None
        self.tariff: Tariff | None = None
        self.pages = self.kept = None
        self.minimum_mv = 0
        # power of the terms in force
        self.most_mw = 0
        self.acked_uj = 0
        self.limit_uj = 0
        self.demand_mw = 0
        self.heat_uj = 0
        self.lease_until: Instant | None = None
        self.lapsed = False
        # why we close or tripped
        self.ending: Refusal | None = None
        self.deadline: Instant | None = None
        self.timeout_from: Instant = 0
        # our unanswered RENEG or SHED: its contract number, 0 none (PTCP-9-01)
        self.outstanding = 0
        # the peer's proposal that our owner has not answered
        self.peer_proposal: tuple[int, tuple[Ask, ...]] | None = None
        self.top_contract = 0
        # negotiation segments that wait for a peer that does not read
        self.unread = 0

    # --- the table ---------------------------------------------------------------------------

    def fire(self, cause: Cause, now: Instant, *args: object) -> None:
        """Act on `cause`: look up the pair, move, then act; an unlisted pair is an error.

        Raises LocalProtocolError, state unchanged, when a verb does not fit the state.
        """
        self.link.moved = True
        row = self.TABLE.get((self.state, cause))
        if row is None:
            if cause in VERBS:
                raise LocalProtocolError(f"flow {self.id}: {cause.name} in state {self.state.name}")
            # PTCP-9-08
            self.breach(Refusal(Reason.STATE, TYPE_OF.get(cause, 0), self.state.value), now)
            return
        before = self.state
        action, self.state = row
        try:
            getattr(self, action)(now, *args)
        except LocalProtocolError:
            self.state = before
            raise
        except Breach as breach:
            self.breach(breach.refusal, now)

    def may(self, cause: Cause) -> bool:
        """Return whether the table lists `cause` for the present state."""
        return (self.state, cause) in self.TABLE

    @property
    def is_over(self) -> bool:
        """Whether the flow is at rest."""
        return self.state is self.REST

    # --- segments every flow sends -----------------------------------------------------------

    @property
    def esn_uj(self) -> int:
        """Energy of this side so far, uJ."""
        return self.register.esn_uj if self.register else 0

    def control(self, flags: int, options: Options = NO_OPTIONS) -> bytes:
        """Queue a CTL segment; returns its octets for the transcript."""
        octets = encode_segment(Control(self.id, flags, self.esn_uj, options))
        self.negotiate(octets)
        return octets

    def negotiate(self, octets: bytes) -> None:
        """Queue a negotiation segment; one more than may wait unread is a breach. PTCP-9-04."""
        # PTCP-9-04
        most = QUEUE_SOURCE_TO_SINK if self.is_source else QUEUE_SINK_TO_SOURCE
        if self.unread >= most:
            raise Breach(Refusal(Reason.LIMIT, self.unread + 1, most, rule="unread segments"))
        self.unread += 1
        self.link.send(octets, negotiation=True)

    def reset(self, refusal: Refusal) -> None:
        """Queue RST with a reason, however much waits: it is the last word."""
        octets = encode_segment(Control(self.id, Flag.RST, self.esn_uj, Options(reason=refusal)))
        self.link.send(octets, negotiation=True)

    def arm(self, now: Instant, duration: int) -> None:
        """Start the one deadline of the present state."""
        self.timeout_from = now
        self.deadline = now + duration

    def next_contract(self) -> int:
        """Return the number of a proposal: source odd, sink even, above all others. PTCP-9-06."""
        # PTCP-9-06
        step = 1 if (self.top_contract % 2 == 0) == self.is_source else 2
        self.top_contract += step
        return self.top_contract

    def take_contract(self, options: Options, *, theirs: bool = True) -> int:
        """Return the CONTRACT number of a segment; `theirs`: it must have the peer's parity."""
        number = options.contract
        if number is None:
            raise Breach(Refusal(Reason.BAD_OPTION, 4, rule="CONTRACT is missing"))
        # PTCP-9-06
        if number > MAX_CONTRACT:
            raise Breach(Refusal(Reason.LIMIT, number, MAX_CONTRACT, rule="contract number"))
        if theirs and (number == 0 or (number % 2 == 1) == self.is_source):
            raise Breach(Refusal(Reason.STATE, number, rule="contract of the wrong parity"))
        self.top_contract = max(self.top_contract, number)
        return number

    # --- terms and energy --------------------------------------------------------------------

    def read_wishes(self, options: Options) -> tuple[Ask, ...]:
        """Return the wishes of a RENEG; those that the sampling cannot carry are a breach."""
        asks = read_asks(options.profiles)
        fault = sampling_fault(known(self.sampling, "terms hold under a sampling"), asks)
        if fault is not None:
            raise Breach(fault)
        return asks

    def adopt(self, contract: int, profile: PowerProfile, fallback: PowerProfile | None) -> None:
        """Put terms in force: with another power limits and windows start anew, energy does not."""
        before = self.profile
        # PTCP-5-02: another lease counts from the same probe, whatever READY says it in
        if self.lease_until is not None and before is not None:
            self.lease_until += (profile.lease_s - before.lease_s) * NS_PER_S
        self.contract, self.profile, self.fallback = contract, profile, fallback
        self.most_mw = profile.power_mw
        sampling = known(self.sampling, "terms hold under a sampling")
        self.protector = protector_of(self.protector, profile, sampling, self.minimum_mv)

    def energy_of(self, sums: BlockSums) -> int:
        """Return the energy of one block in uJ, never negative."""
        if self.register is None:
            return 0
        return max(0, self.register.peek(sums.a) - self.register.esn_uj)

    def count_heat(self, energy_uj: int, refusal: Refusal | None) -> None:
        """Count energy that is not banked."""
        self.heat_uj += energy_uj
        self.link.emit(HeatCounted(flow=self.id, energy_uj=energy_uj, refusal=refusal))

    # PTCP-5-02
    def renew(self, sent: Instant, now: Instant) -> None:
        """A probe sent at `sent` was answered: the lease runs from then."""
        if self.lease_until is None:
            return
        terms = known(self.profile, "a lease belongs to terms")
        self.lease_until = max(self.lease_until, sent + terms.lease_s * NS_PER_S)
        if self.lapsed and self.lease_until > now:
            self.restore(now)

    def start_lease(self, since: Instant) -> None:
        """Start the lease of the contract in force at `since`."""
        terms = known(self.profile, "a lease belongs to terms")
        self.lease_until = since + terms.lease_s * NS_PER_S
        self.lapsed = False

    def restore(self, now: Instant) -> None:
        """Undo a lapse."""
        self.lapsed = False

    # --- endings -----------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Whether the last page still lacks a signature. PTCP-13-01."""
        return self.pages is not None and self.pages.is_owed

    @property
    def signed_uj(self) -> int | None:
        """Energy that countersigned pages cover; None: no receipts."""
        pages = self.pages or self.kept
        return None if pages is None else pages.signed_uj

    def breach(self, refusal: Refusal, now: Instant) -> None:
        """The peer broke a rule: RST with the reason, and the flow is over."""
        self.reset(refusal)
        self.end(refusal, reset=True)

    def end(self, refusal: Refusal | None, *, truncated: bool = False, reset: bool = False) -> None:
        """The flow is over: report it once and leave the connection."""
        self.state = self.REST
        self.deadline = self.lease_until = None
        self.link.emit(
            FlowClosed(
                flow=self.id,
                refusal=refusal,
                truncated=truncated,
                esn_uj=self.esn_uj,
                acked_uj=self.acked_uj if self.is_source else self.esn_uj,
                heat_uj=self.heat_uj,
                signed_uj=self.signed_uj,
            )
        )
        self.link.drop(self, reset=reset)

    def send_fin(self, now: Instant, refusal: Refusal | None = None) -> None:
        """Say goodbye; the peer answers FIN+ACK. PTCP-13-01."""
        # PTCP-13-01
        reason = refusal or NORMAL
        self.control(Flag.FIN, Options(reason=reason))
        self.farewell(reason)
        self.arm(now, self.link.config.drain_ns)

    def farewell(self, refusal: Refusal) -> None:
        """Remember why we close, for FlowClosed; the lease no longer matters."""
        self.ending = refusal
        self.peer_proposal = self.lease_until = None

    def send_trip(self, now: Instant, refusal: Refusal) -> None:
        """Protection acts: TRIP with code, value and limit. PTCP-8-02."""
        # PTCP-8-02
        options = Options(reason=refusal)
        self.negotiate(encode_segment(Trip(self.id, self.esn_uj, options)))
        self.link.emit(FlowTripped(flow=self.id, refusal=refusal, by_peer=False))
        self.farewell(refusal)
        self.arm(now, self.link.config.drain_ns)

    def take_trip(self, now: Instant, options: Options) -> None:
        """The peer tripped: nothing more is banked; FIN+ACK. PTCP-8-02."""
        refusal = options.reason or Refusal(Reason.OPERATOR)
        self.link.emit(FlowTripped(flow=self.id, refusal=refusal, by_peer=True))
        self.control(FIN_ACK)
        self.end(refusal)

    def answer_fin(self, now: Instant, options: Options) -> None:
        """The peer closes: FIN+ACK, and the flow is over. PTCP-13-01."""
        self.control(FIN_ACK)
        self.end(options.reason or NORMAL)

    def take_reset(self, now: Instant, options: Options) -> None:
        """The peer reset the flow."""
        self.end(options.reason or Refusal(Reason.OPERATOR), reset=True)

    def finish(self, now: Instant, options: Options) -> None:
        """FIN+ACK came."""
        self.end(self.ending)

    def time_out(self, now: Instant) -> None:
        """A deadline of the present state passed: RST 507."""
        waited, limit = now - self.timeout_from, (self.deadline or now) - self.timeout_from
        refusal = Refusal(Reason.TIMEOUT, waited // 1_000_000, limit // 1_000_000)
        self.reset(refusal)
        self.end(refusal, reset=True)

    def note_alert(self, now: Instant, alert: Alert) -> None:
        """Report what the peer alerted."""
        refusal = alert.options.reason
        self.link.emit(Alerted(flow=self.id, severity=alert.severity, refusal=refusal))

    def drop(self, now: Instant, *_: object) -> None:
        """A lawful segment that no longer matters."""

    def alert(self, severity: int, refusal: Refusal) -> None:
        """Queue an ALERT."""
        options = Options(reason=refusal)
        self.link.send(encode_segment(Alert(self.id, self.esn_uj, severity, options)))

    # --- time --------------------------------------------------------------------------------

    def next_time(self) -> Instant | None:
        """Return the earliest deadline of this flow."""
        earliest, lease = self.deadline, self.lease_until
        if lease is not None and not self.lapsed and (earliest is None or lease < earliest):
            earliest = lease
        for time in self.other_times():
            if time is not None and (earliest is None or time < earliest):
                earliest = time
        return earliest

    def other_times(self) -> tuple[Instant | None, ...]:
        """Deadlines of the one side only."""
        return ()

    def pass_time(self, now: Instant) -> None:
        """Do what is due."""
        if self.lease_until is not None and not self.lapsed and now >= self.lease_until:
            self.fire(Cause.LAPSE, now)
        if self.deadline is not None and now >= self.deadline:
            self.fire(Cause.TIMEOUT, now)

    def status(self) -> FlowStatus:
        """Return the flow as it stands."""
        return FlowStatus(
            flow=self.id,
            state=self.state.name,
            is_source=self.is_source,
            contract=self.contract,
            profile=self.profile,
            fallback=self.fallback,
            sampling=self.sampling,
            esn_uj=self.esn_uj,
            acked_uj=self.acked_uj if self.is_source else self.esn_uj,
            limit_uj=self.limit_uj,
            demand_mw=self.demand_mw,
            heat_uj=self.heat_uj,
            lease_until_ns=self.lease_until,
            lapsed=self.lapsed,
            outstanding=bool(self.outstanding),
            tariff=self.tariff,
            signed_uj=self.signed_uj,
        )


def ask_profiles(asks: "tuple[Ask, ...] | list[Ask]", tag: int) -> tuple[PowerProfile, ...]:
    """Return REQUEST [MINIMUM] pairs as they stand in a SYN or RENEG, with one tag."""
    profiles: list[PowerProfile] = []
    for desired, minimum in asks:
        profiles.append(desired.with_type(ProfileType.REQUEST, tag=tag))
        if minimum is not None:
            profiles.append(minimum.with_type(ProfileType.MINIMUM, tag=tag))
    return tuple(profiles)


# PTCP-1-03
def read_pairs(
    profiles: tuple[PowerProfile, ...], kind: ProfileType, most: int
) -> tuple[tuple[PowerProfile, PowerProfile | None], ...]:
    """Return (profile, minimum) pairs of `kind`; other types but FALLBACK are a breach."""
    pairs: list[tuple[PowerProfile, PowerProfile | None]] = []
    for profile in profiles:
        if profile.type is kind:
            pairs.append((profile, None))
        elif profile.type is ProfileType.MINIMUM and pairs and pairs[-1][1] is None:
            if not is_minimum_of(profile, pairs[-1][0]):
                raise Breach(Refusal(Reason.BAD_OPTION, 3, rule="MINIMUM of another kind"))
            pairs[-1] = (pairs[-1][0], profile)
        elif profile.type is not ProfileType.FALLBACK:
            raise Breach(Refusal(Reason.BAD_OPTION, 3, rule=f"{profile.type.name} out of place"))
    if not pairs or len(pairs) > most:
        raise Breach(Refusal(Reason.LIMIT, len(pairs), most, rule=f"{kind.name} profiles"))
    return tuple(pairs)


def read_asks(profiles: tuple[PowerProfile, ...]) -> tuple[Ask, ...]:
    """Return the wishes of a SYN or RENEG, at most 4; anything else is a breach."""
    return tuple(Ask(*pair) for pair in read_pairs(profiles, ProfileType.REQUEST, MAX_ASKS))


# PTCP-3.1-01
def sampling_fault(sampling: Sampling, asks: Iterable[Ask]) -> Refusal | None:
    """Return why blocks under `sampling` could not carry each of `asks`, None when they can."""
    rate = sampling.rate_hz
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        limit = MIN_RATE_HZ if rate < MIN_RATE_HZ else MAX_RATE_HZ
        return Refusal(Reason.SAMPLING, rate, limit)
    for ask in asks:
        if ask.desired.pairs != sampling.pairs:
            return Refusal(Reason.SAMPLING, sampling.pairs, ask.desired.pairs, rule="pairs")
    return None


def first_of(profiles: tuple[PowerProfile, ...], kind: ProfileType) -> PowerProfile | None:
    """Return the first profile of `kind`."""
    return next((profile for profile in profiles if profile.type is kind), None)
