"""Follow a connection from the middle: state, contract and verified energy of each flow.

Plain segments of both directions come in the order in which they pass. Nothing here decides:
`Tracker.see` says what a segment means, and its caller passes it on, or does not.
"""

from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2s
from typing import Final, NamedTuple

from powertcp.dve import BlockSums, EnergyRegister, RunSums, block_header, integrate_many
from powertcp.errors import DecodeError
from powertcp.potcp.events import Ask
from powertcp.potcp.flow import Breach, first_of, read_asks, sampling_fault
from powertcp.potcp.protect import Protector, protector_of
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, OptionKind, Reason, Refusal
from powertcp.units import Instant
from powertcp.wire.frames import RawSegment, decode_segment, pack_segment, whole_segment
from powertcp.wire.options import Sampling
from powertcp.wire.segments import (
    Alert,
    Answer,
    Blocked,
    Control,
    CookieSegment,
    Credit,
    Data,
    FeedSegment,
    MaintainProbe,
    Ready,
    Receipt,
    Reneg,
    Segment,
    Shed,
    Ticket,
    Trip,
)

# PTCP-14-01: flows of one connection that are followed
FLOWS_MAX: Final = 256
_COUNTER: Final = 1 << 32
_SYN_ACK: Final = Flag.SYN | Flag.ACK
_FIN_ACK: Final = Flag.FIN | Flag.ACK
_CREDIT_MAX: Final = (1 << 64) - 1


class End(Enum):
    """Who says something: the side that opened the TCP connection, or the other."""

    CLIENT = auto()
    SERVER = auto()

    @property
    def other(self) -> "End":
        """The side it is said to."""
        return End.SERVER if self is End.CLIENT else End.CLIENT


class Phase(Enum):
    """How far a flow is, as both ends know it by now."""

    ASKED = auto()
    OFFERED = auto()
    LATCHED = auto()
    ENERGISED = auto()
    # FIN or TRIP passed, its answer did not
    ENDING = auto()
    OVER = auto()


class What(Enum):
    """What a segment means."""

    # SYN; again with the COOKIE that was asked for it is the same flow
    ASKED = auto()
    SENT_BACK = auto()
    # SYN+ACK
    OFFERED = auto()
    # ACK
    ACCEPTED = auto()
    READY = auto()
    # DATA under a contract, verified
    BLOCK = auto()
    # DATA that a sink does not bank: heat
    UNLAWFUL = auto()
    # DATA without READY, or of who is not the source
    UNSOLICITED = auto()
    CREDITED = auto()
    BLOCKED = auto()
    PROPOSED = auto()
    ANSWERED = auto()
    SHED = auto()
    TRIPPED = auto()
    CLOSING = auto()
    CLOSED = auto()
    RESET = auto()
    # a page of the source, and its copy with the sink's signature
    PAGE = auto()
    COPY = auto()
    TICKET = auto()
    ALERTED = auto()
    PROBE = auto()
    FEED = auto()
    # RST on flow 0
    TERMINATED = auto()
    # of a type that is skipped whole
    SKIPPED = auto()
    # of no flow that is followed
    STRAY = auto()
    # what no endpoint takes
    INVALID = auto()


@dataclass(slots=True, eq=False)
class TrackedFlow:
    """One flow. sink: who opened it. opened_at: when its SYN passed.

    asks: of its SYN; who lets another wish of the sink pass puts it here, and in asked_before what
    holds if the source rejects it. contract, profile: in force,
    0 and None before READY. sampling: of SYN+ACK. ticket: that its SYN
    showed. handshake: octets of SYN, SYN+ACK and ACK. source_key, sink_key: of the meters, b"" for
    no receipts. page: the last one of the source. credit_uj: up to which the
    source may deliver. acked_uj: what the sink said to have verified. claimed_uj: what DATA said
    beyond what was verified. heat_uj: energy that no sink banks. fault: why nothing is verified any
    more. is_sent_back: the source wants the SYN again, with a COOKIE. taken: what
    the sink took of what was offered, before READY.
    """

    number: int
    sink: End
    opened_at: Instant
    asks: tuple[Ask, ...] = ()
    phase: Phase = Phase.ASKED
    contract: int = 0
    profile: PowerProfile | None = None
    sampling: Sampling | None = None
    ticket: bytes | None = None
    handshake: bytes = b""
    source_key: bytes = b""
    sink_key: bytes = b""
    page: bytes = b""
    base_uj: int = 0
    credit_uj: int = 0
    acked_uj: int = 0
    claimed_uj: int = 0
    heat_uj: int = 0
    counter: int | None = None
    register: EnergyRegister | None = None
    protector: Protector | None = None
    fault: Refusal | None = None
    is_sent_back: bool = False
    taken: PowerProfile | None = None
    asked_before: tuple[Ask, ...] = ()

    @property
    def verified_uj(self) -> int:
        """ESN by our own integral: what the sink banks of what passed."""
        esn_uj = self.register.esn_uj if self.register is not None else self.base_uj
        return min(esn_uj, max(self.credit_uj, self.base_uj))

    @property
    def transcript(self) -> bytes:
        """What names the flow for good, as its two ends compute it. PTCP-4-09."""
        return blake2s(self.handshake).digest()

    @property
    def is_metered(self) -> bool:
        """Whether both ends sign receipts."""
        return bool(self.source_key and self.sink_key)


class Sighting(NamedTuple):
    """What a segment means. flow: None on flow 0 and for a stray.

    energy_uj: of a block, or at a page what was verified before it.

    refusal: why a segment is invalid or a block is heat. asks: what the sink proposes, or what the
    source does, as if it had been asked for.
    """

    what: What
    flow: TrackedFlow | None = None
    segment: Segment | None = None
    energy_uj: int = 0
    refusal: Refusal | None = None
    asks: tuple[Ask, ...] = ()


class Tracker:
    """The flows of one connection. Bound: 256 flows; a SYN beyond that is invalid."""

    __slots__ = ("_flows", "_highest", "_over")

    def __init__(self) -> None:
        self._flows: dict[int, TrackedFlow] = {}
        self._highest = {End.CLIENT: 0, End.SERVER: 0}
        # the last flows that ended, of which a goodbye may be under way
        self._over: dict[int, None] = {}

    @property
    def flows(self) -> tuple[TrackedFlow, ...]:
        """The flows that are not over, the oldest first."""
        return tuple(self._flows.values())

    def flow(self, number: int) -> TrackedFlow | None:
        """Return the flow of that identifier, None if there is none."""
        return self._flows.get(number)

    def forget(self, flow: TrackedFlow) -> None:
        """A flow is over, by what its caller said."""
        flow.phase = Phase.OVER
        if self._flows.pop(flow.number, None) is not None:
            self._over[flow.number] = None
            if len(self._over) > FLOWS_MAX:
                del self._over[next(iter(self._over))]

    def has_crossed(self, number: int) -> bool:
        """Whether something of a flow that is over was under way when it ended; once for each."""
        return self._over.pop(number, number) is None

    def see(self, sender: End, raw: RawSegment, now: Instant) -> Sighting:
        """Take one segment of `sender`; never raises on its content."""
        try:
            segment = decode_segment(raw)
            if segment is None:
                return Sighting(What.SKIPPED)
            return self._see(sender, segment, raw, now)
        except DecodeError as error:
            refusal = Refusal(error.code, error.value, error.limit)
        except Breach as breach:
            refusal = breach.refusal
        return Sighting(What.INVALID, self._flows.get(raw[2]), None, 0, refusal)

    def block(self, flow: TrackedFlow, sender: End, esn: int, sums: BlockSums) -> Sighting:
        """Take one DATA without options, whose sums are known: `see` does the same with more."""
        return _measured(flow, sender, None, esn, sums)

    def run(self, flow: TrackedFlow, sender: End, said: list[int], run: RunSums) -> int | None:
        """Take the blocks of a run, whose headers said these ESN; return their energy.

        None, and nothing was taken: one of them may be no block that a sink banks.
        """
        register, protector, sampling = flow.register, flow.protector, flow.sampling
        if (
            sender is flow.sink
            or register is None
            or protector is None
            or sampling is None
            or flow.fault is not None
            or run.pairs != sampling.pairs
            or flow.counter not in (None, run.counter)
            or min(run.a) < 0
        ):
            return None
        before_uj = register.esn_uj
        ends = register.run(run.a)
        # PTCP-3.3-02, PTCP-6-02
        if said != [before_uj, *ends[:-1]] or ends[-1] > max(flow.credit_uj, flow.base_uj):
            return None
        if not protector.passes(run.v_peak, run.i_peak):
            return None
        flow.counter = (run.counter + run.n * len(run.a)) % _COUNTER
        return register.add(sum(run.a)) - before_uj

    def _see(self, sender: End, segment: Segment, raw: RawSegment, now: Instant) -> Sighting:
        if isinstance(segment, MaintainProbe):
            return Sighting(What.PROBE, None, segment)
        if isinstance(segment, FeedSegment):
            return Sighting(What.FEED, None, segment)
        number = raw[2]
        if number == 0:
            return _on_connection(segment)
        if isinstance(segment, Control) and segment.flags == Flag.SYN:
            return self._open(sender, segment, raw, now)
        if isinstance(segment, Data):
            # PTCP-2.2-02: of a block that nobody takes, too
            block_header(segment.payload)
        flow = self._flows.get(number)
        if flow is None:
            return Sighting(What.STRAY, None, segment)
        if sender is flow.sink:
            # PTCP-2.1-02
            flow.acked_uj = max(flow.acked_uj, min(raw[3], flow.verified_uj))
        if isinstance(segment, Control):
            return self._control(flow, sender, segment, raw)
        if isinstance(segment, Data):
            return _block(flow, sender, segment)
        if isinstance(segment, Receipt):
            return _page(flow, sender, segment)
        return _of_flow(flow, sender, segment)

    # --- opening and closing -----------------------------------------------------------------

    def _open(self, sender: End, syn: Control, raw: RawSegment, now: Instant) -> Sighting:
        number, options = syn.flow, syn.options
        flow = self._flows.get(number)
        # PTCP-2.1-06
        is_repeat = flow is not None and flow.is_sent_back and options.cookie is not None
        if not is_repeat:
            # PTCP-2.1-01
            if (number % 2 == 1) != (sender is End.CLIENT):
                raise Breach(Refusal(Reason.STATE, number, rule="parity"))
            # PTCP-2.1-06
            if number <= self._highest[sender]:
                used = Refusal(Reason.STATE, number, self._highest[sender], rule="identifiers rise")
                raise Breach(used)
            # PTCP-14-01
            if len(self._flows) >= FLOWS_MAX:
                raise Breach(Refusal(Reason.LIMIT, len(self._flows) + 1, FLOWS_MAX))
        asks = read_asks(options.profiles)
        self._highest[sender] = max(self._highest[sender], number)
        if flow is None or not is_repeat:
            flow = TrackedFlow(number, sender, now)
        flow.asks, flow.is_sent_back = asks, False
        flow.ticket, flow.handshake = options.ticket, _without_via(raw, syn)
        flow.base_uj = flow.acked_uj = syn.esn
        flow.sink_key = options.meter.key if options.meter is not None else b""
        self._flows[number] = flow
        return Sighting(What.ASKED, flow, syn)

    def _control(
        self, flow: TrackedFlow, sender: End, control: Control, raw: RawSegment
    ) -> Sighting:
        flags = control.flags
        if flags == Flag.RST:
            self.forget(flow)
            return Sighting(What.RESET, flow, control)
        if flags == Flag.FIN:
            flow.phase = Phase.ENDING
            return Sighting(What.CLOSING, flow, control)
        if flags == _FIN_ACK:
            self.forget(flow)
            return Sighting(What.CLOSED, flow, control)
        is_source = sender is not flow.sink
        if flags == _SYN_ACK and is_source and flow.phase is Phase.ASKED:
            return _offer(flow, control, raw)
        if flags == Flag.ACK and not is_source and flow.phase is Phase.OFFERED:
            flow.handshake += whole_segment(raw)
            flow.phase = Phase.LATCHED
            flow.taken = first_of(control.options.profiles, ProfileType.GRANT)
            return Sighting(What.ACCEPTED, flow, control)
        # PTCP-9-08
        return Sighting(What.INVALID, flow, control, 0, Refusal(Reason.STATE, flags))


# VPPN-6-04
def _without_via(raw: RawSegment, syn: Control) -> bytes:
    """Return the octets of a SYN without the option VIA, which is for whoever relays it."""
    if syn.options.via is None:
        return whole_segment(raw)
    area, kept, at = bytes(raw[4]), bytearray(), 0
    while at < len(area) and area[at] != OptionKind.END:
        size = 1 if area[at] == OptionKind.NOP else area[at + 1]
        if area[at] != OptionKind.VIA:
            kept += area[at : at + size]
        at += size
    kept += bytes(-len(kept) % 4)
    return pack_segment(raw[0], raw[1], raw[2], raw[3], bytes(kept), b"")


def _on_connection(segment: Segment) -> Sighting:
    if isinstance(segment, Control) and segment.flags == Flag.RST:
        return Sighting(What.TERMINATED, None, segment)
    if isinstance(segment, Alert):
        return Sighting(What.ALERTED, None, segment)
    return Sighting(What.INVALID, None, segment, 0, Refusal(Reason.STATE, 0))


def _offer(flow: TrackedFlow, control: Control, raw: RawSegment) -> Sighting:
    """SYN+ACK: sampling and meters are settled; a resumed flow goes on at the ESN it says."""
    options, sampling = control.options, control.options.sampling
    if sampling is None or not sampling.nv_per_lsb or not sampling.na_per_lsb:
        raise Breach(Refusal(Reason.SAMPLING, 0))
    if (fault := sampling_fault(sampling, flow.asks)) is not None:
        raise Breach(fault)
    flow.phase = Phase.OFFERED
    flow.handshake += whole_segment(raw)
    flow.sampling = sampling
    flow.source_key = options.meter.key if options.meter is not None else b""
    # PTCP-10-03
    flow.base_uj = flow.acked_uj = flow.credit_uj = control.esn
    flow.register = EnergyRegister(sampling, control.esn)
    return Sighting(What.OFFERED, flow, control)


# --- power ---------------------------------------------------------------------------------------


def _block(flow: TrackedFlow, sender: End, data: Data) -> Sighting:
    """Integrate one block, and look at it as its sink does."""
    protector = flow.protector
    [sums] = integrate_many([data.payload], protector.window_samples if protector else 0)
    return _measured(flow, sender, data, data.esn, sums)


def _measured(
    flow: TrackedFlow, sender: End, data: Data | None, esn: int, sums: BlockSums
) -> Sighting:
    """Look at a block of `sums` as its sink does. data: None if nobody wants it."""
    register, protector = flow.register, flow.protector
    if sender is flow.sink or flow.profile is None or register is None:
        return Sighting(What.UNSOLICITED, flow, data, 0, Refusal(Reason.UNSOLICITED, 0))
    before_uj = register.esn_uj
    energy_uj = max(0, register.peek(sums.a) - before_uj)
    refusal = flow.fault or _fault(flow, esn, sums)
    if refusal is not None:
        # what is wrong with it already does not make it harmless
        refusal = _harm(flow, sums) or refusal
    elif protector is not None:
        refusal = protector.check(sums)
    if refusal is not None:
        flow.fault = flow.fault or refusal
        flow.heat_uj += energy_uj
        return Sighting(What.UNLAWFUL, flow, data, energy_uj, refusal)
    credit_uj = max(flow.credit_uj, flow.base_uj)
    flow.counter = (sums.counter + sums.n) % _COUNTER
    esn_uj = register.add(sums.a)
    # PTCP-6-02
    if esn_uj > credit_uj:
        banked_uj = max(0, credit_uj - before_uj)
        flow.fault = Refusal(Reason.CREDIT_OVERRUN, esn_uj, flow.credit_uj)
        flow.heat_uj += energy_uj - banked_uj
        return Sighting(What.UNLAWFUL, flow, data, banked_uj, flow.fault)
    return Sighting(What.BLOCK, flow, data, energy_uj)


def _harm(flow: TrackedFlow, sums: BlockSums) -> Refusal | None:
    """Return how a faulty block breaks a peak limit, or the credit of its flow besides."""
    if flow.protector is not None and (refusal := flow.protector.check_peaks(sums)) is not None:
        return refusal
    ends_uj = flow.register.peek(sums.a) if flow.register is not None else 0
    if ends_uj > max(flow.credit_uj, flow.base_uj):
        return Refusal(Reason.CREDIT_OVERRUN, ends_uj, flow.credit_uj)
    return None


def _fault(flow: TrackedFlow, esn: int, sums: BlockSums) -> Refusal | None:
    """Return what is wrong with a block before its limits are looked at."""
    sampling, register = flow.sampling, flow.register
    # PTCP-3.1-01
    if sampling is not None and sums.pairs != sampling.pairs:
        return Refusal(Reason.SAMPLE_GAP, sums.pairs, sampling.pairs)
    if flow.counter is not None and sums.counter != flow.counter:
        return Refusal(Reason.SAMPLE_GAP, sums.counter, flow.counter)
    # PTCP-3.3-02
    if register is not None and esn != register.esn_uj:
        flow.claimed_uj += max(0, esn - register.esn_uj)
        return Refusal(Reason.METER_MISMATCH, esn, register.esn_uj)
    return None


def _page(flow: TrackedFlow, sender: End, receipt: Receipt) -> Sighting:
    if sender is flow.sink:
        return Sighting(What.COPY, flow, receipt)
    flow.page = receipt.page
    return Sighting(What.PAGE, flow, receipt, flow.verified_uj)


# --- terms ---------------------------------------------------------------------------------------


def _of_flow(flow: TrackedFlow, sender: End, segment: Segment) -> Sighting:
    is_source = sender is not flow.sink
    match segment:
        case Credit() if not is_source:
            flow.credit_uj = min(max(flow.credit_uj, segment.limit_uj), _CREDIT_MAX)
            return Sighting(What.CREDITED, flow, segment)
        case Blocked() if is_source:
            return Sighting(What.BLOCKED, flow, segment)
        case Ready() if is_source:
            return _ready(flow, segment)
        case Reneg():
            asks = () if is_source else read_asks(segment.options.profiles)
            offered = [one for one in segment.options.profiles if one.type is ProfileType.OFFER]
            return Sighting(
                What.PROPOSED, flow, segment, asks=asks or tuple(Ask(one, None) for one in offered)
            )
        case Answer():
            if is_source:
                _answered(flow, segment)
            return Sighting(What.ANSWERED, flow, segment)
        case Shed() if is_source:
            return Sighting(What.SHED, flow, segment)
        case Trip():
            flow.phase = Phase.ENDING
            flow.fault = flow.fault or segment.options.reason or Refusal(Reason.OPERATOR)
            return Sighting(What.TRIPPED, flow, segment)
        case Ticket() if is_source:
            return Sighting(What.TICKET, flow, segment)
        case CookieSegment() if is_source and flow.phase is Phase.ASKED:
            flow.is_sent_back = True
            return Sighting(What.SENT_BACK, flow, segment)
        case Alert():
            return Sighting(What.ALERTED, flow, segment)
        case _:
            # PTCP-9-08
            return Sighting(What.INVALID, flow, segment, 0, Refusal(Reason.STATE, 0))


def _answered(flow: TrackedFlow, answer: Answer) -> None:
    """What the sink proposed holds, or what it asked for before."""
    if not answer.accepted and flow.asked_before:
        flow.asks = flow.asked_before
    flow.asked_before = ()


def _ready(flow: TrackedFlow, ready: Ready) -> Sighting:
    """The contract it names is in force for both. PTCP-9-03."""
    grant = first_of(ready.options.profiles, ProfileType.GRANT)
    if grant is None or flow.sampling is None or flow.phase in (Phase.ASKED, Phase.OFFERED):
        return Sighting(What.INVALID, flow, ready, 0, Refusal(Reason.STATE, 0))
    if flow.phase is Phase.LATCHED:
        flow.phase = Phase.ENERGISED
    flow.profile, flow.taken = grant, None
    flow.contract = ready.options.contract or flow.contract
    least = min((one.minimum.voltage_mv for one in flow.asks if one.minimum), default=0)
    flow.protector = protector_of(flow.protector, grant, flow.sampling, least)
    return Sighting(What.READY, flow, ready)
