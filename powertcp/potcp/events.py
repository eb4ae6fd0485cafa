"""What a connection reports: past facts, in the order in which they became true."""

from dataclasses import dataclass
from typing import NamedTuple

from powertcp.machine import Event
from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.units import Instant
from powertcp.wire.options import Entity, Maintain, Meter, Sampling, Tariff


class Ask(NamedTuple):
    """One wish of a SYN or RENEG: the most, and the least that would do (None: exactly the most)."""

    desired: PowerProfile
    minimum: PowerProfile | None = None


class Offer(NamedTuple):
    """One alternative of a counter-offer; with `minimum` anything between both."""

    offer: PowerProfile
    minimum: PowerProfile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEvent(Event):
    """An event of one flow.

    flow: its identifier, 1..2^32-1.
    """

    flow: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFacts:
    """One end's own numbers of the span that a page closes; LEDG-6-01.

    flow: its identifier on this connection; transcript: its name for good, also after a resume.
    page: number, from 0. contract, tariff: in force during the span. samples, digest: of every
    DVE block of the span in stream order, after a resume of those since. start_uj, end_uj: ESN.
    peer_key: the other side's meter key. previous: the page before as both signed it, b"" for page
    0. final: the flow closes. truncated: the sink tripped, so energy covers less than the digest.
    resumed: the span began on another connection. sim: some blocks were synthesised. at_ns: when the
    span ended here, on the connection's clock.
    """

    flow: int
    page: int
    transcript: bytes
    contract: int
    samples: int
    start_uj: int
    end_uj: int
    digest: bytes
    peer_key: bytes
    tariff: Tariff | None
    previous: bytes
    at_ns: Instant
    final: bool = False
    truncated: bool = False
    resumed: bool = False
    sim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMark:
    """Where the receipts of a sink's flow stand when its path is lost: `open_flow` takes it.

    page: next number. unanswered: a page that came and was not answered, b"" none: answer it with
    `countersign` on the flow that resumes this one. answered: the last page that both signed.
    """

    transcript: bytes
    peer_key: bytes
    page: int
    start_uj: int
    signed_uj: int
    contract: int
    tariff: Tariff | None
    unanswered: bytes
    answered: bytes
    sim: bool = False
    is_disputed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerRequested(FlowEvent):
    """Source: a SYN asks for power; answer with grant, counter or refuse.

    asks: best first. sampling: what the sink proposes. fallback: what it wants after a lapse. meter:
    it would sign receipts; who sells power only against them refuses None with 402.
    """

    asks: tuple[Ask, ...]
    sampling: Sampling
    maintain: Maintain
    fallback: PowerProfile | None
    entity: Entity | None
    meter: Meter | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerAccepted(FlowEvent):
    """Source: the ACK came; bring the output up, then call ready.

    profile: the accepted terms.
    """

    profile: PowerProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerGranted(FlowEvent):
    """Sink: SYN+ACK with a grant came and is acknowledged; power follows at PowerReady.

    meter: receipts are agreed: when they are due, and the source's key. None: no receipts.
    """

    contract: int
    profile: PowerProfile
    fallback: PowerProfile | None
    sampling: Sampling
    tariff: Tariff | None
    meter: Meter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOffered(FlowEvent):
    """Sink: a counter-offer came; accept one or decline."""

    offers: tuple[Offer, ...]
    sampling: Sampling
    refusal: Refusal | None
    tariff: Tariff | None = None
    meter: Meter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRefused(FlowEvent):
    """Sink: the request was refused; FlowClosed follows.

    best: the best the source could do, None when it did not say.
    """

    refusal: Refusal
    best: PowerProfile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReady(FlowEvent):
    """A READY took effect: from here on these are the terms."""

    contract: int
    profile: PowerProfile
    fallback: PowerProfile | None
    resumed: bool = False
    tariff: Tariff | None = None


@dataclass(slots=True, kw_only=True)
class SamplesReceived(Event):
    """Sink: blocks were verified and banked in this wake-up.

    count: samples. energy_uj: banked by them. esn_uj: energy verified so far.
    samples: their interleaved (v, i) octets, only for flows opened with want_samples.
    sim: synthesised, not measured. ece: congestion was marked on any of them.
    """

    flow: int
    count: int
    energy_uj: int
    esn_uj: int
    samples: bytes | None = None
    sim: bool = False
    ece: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatCounted(FlowEvent):
    """Energy that arrived and was not banked, with the reason."""

    energy_uj: int
    refusal: Refusal | None


@dataclass(slots=True, kw_only=True)
class CreditReceived(Event):
    """Source: a CREDIT wants another power, relieves the feeder, or lets delivery go on.

    A CREDIT that says nothing of these only moves what `status` shows. limit_uj: delivery is
    allowed up to there. acked_uj: what the sink has verified. demand_mw: the power wanted now;
    the contract's maximum where the sink said "all". cwr: it has reduced.
    """

    flow: int
    limit_uj: int
    acked_uj: int
    demand_mw: int
    cwr: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyBlocked(FlowEvent):
    """Sink: the source is out of credit at `limit_uj`."""

    limit_uj: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedReceived(FlowEvent):
    """Sink: the source lowers the ceiling; the machine has answered.

    ceiling: OFFER with the new current (0 suspends). deadline_ms: enforced at the latest then.
    restore_s: expected duration, 0 unknown. urgent: at once.
    """

    contract: int
    ceiling: PowerProfile
    deadline_ms: int
    restore_s: int
    refusal: Refusal | None
    urgent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedEnforced(FlowEvent):
    """Source: a ceiling is in force and READY is queued; the difference may be given to others."""

    contract: int
    profile: PowerProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class RenegotiationRequested(FlowEvent):
    """The other side proposes new terms; answer accept or reject.

    tariff: a source proposes this one; None: the price stays.
    """

    contract: int
    asks: tuple[Ask, ...]
    refusal: Refusal | None
    tariff: Tariff | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenegotiationAnswered(FlowEvent):
    """Our proposal was accepted (terms change at PowerReady) or rejected."""

    contract: int
    accepted: bool
    refusal: Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStale(Event):
    """Probes stay unanswered; power goes on until the lease ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFresh(Event):
    """A probe was answered again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewed(Event):
    """A probe was answered: leases run from `sent_ns`, the time the probe was sent."""

    sent_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLapsed(FlowEvent):
    """The lease is over: at most `fallback` may be drawn or delivered (None: nothing)."""

    fallback: PowerProfile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRestored(FlowEvent):
    """Sink: after a lapse a probe was answered; the contract's terms hold again."""

    profile: PowerProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTripped(FlowEvent):
    """Protection acted: nothing more is banked on this flow; FlowClosed follows."""

    refusal: Refusal
    by_peer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerted(FlowEvent):
    """The peer alerted us. severity: 1 info, 2 warning, 3 critical."""

    severity: int
    refusal: Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketReceived(FlowEvent):
    """Sink: with this ticket the flow can be resumed on another connection."""

    ticket: bytes
    lifetime_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowCut(FlowEvent):
    """The path was lost under a live flow; the source holds budget and contract for T_GRACE.

    pages: sink: where its receipts stand; give it to `open_flow` with the ticket.
    """

    esn_uj: int
    pages: PageMark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What another provider of the realm knows of a flow that goes on here. DPDP-10-05.

    desired, minimum: the range that was asked for. start_ns: Unix time of its first READY.
    signed_uj: energy that pages cover which both have signed, None: no receipts.
    """

    desired: PowerProfile
    minimum: PowerProfile | None
    start_ns: int
    signed_uj: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowResumed(FlowEvent):
    """Source: a ticket moved a contract to this flow; FlowClosed of the old flow says 603.

    key: office key of the old flow. esn_uj: resumed ESN. returned_uj: sent but never verified,
    goes back to the supply. origin: of a flow that another provider of the realm held, None: we did.
    """

    key: int
    contract: int
    profile: PowerProfile
    fallback: PowerProfile | None
    sampling: Sampling
    esn_uj: int
    returned_uj: int
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowClosed(FlowEvent):
    """The flow is over; a source releases its budget exactly here, once.

    truncated: the path ended without FIN. esn_uj: final energy of this side. acked_uj: verified by
    the sink. heat_uj: arrived, not banked. signed_uj: covered by pages that both signed, so that
    what is above it has no receipt; None: receipts were not agreed.
    """

    refusal: Refusal | None
    truncated: bool
    esn_uj: int
    acked_uj: int
    heat_uj: int
    signed_uj: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReceived(FlowEvent):
    """Sink: a page came; compare it, then `countersign` or `dispute`, at any later time.

    octets: the page, signed by the source. facts: our own numbers at its place in the stream.
    """

    octets: bytes
    facts: PageFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSigned(FlowEvent):
    """Source: the page that we sent came back with the sink's signature, which is valid.

    Write it down, then call `keep_page`: until then no other page is made and no FIN answered.
    """

    octets: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDisputed(FlowEvent):
    """Source: the sink does not sign the page under way."""

    octets: bytes
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyWithheld(FlowEvent):
    """Source: no countersigned page came in time; blocks are taken again after PageSigned."""

    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowClosing(FlowEvent):
    """The peer closes; the last page is being signed. No power flows, FlowClosed follows."""

    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionTerminated(Event):
    """Nothing more will be received or may be asked; octets may remain to be sent."""

    refusal: Refusal | None
