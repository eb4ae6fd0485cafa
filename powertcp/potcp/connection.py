"""PowerConnection: segments of one TCP connection to flows and back, a StreamMachine.

Octets and `now` in; octets, events and a deadline out. Verbs are synchronous (M1) and raise
LocalProtocolError, state unchanged, when they do not fit. Protocol sections 4 to 13.
"""

from collections.abc import Sequence

from powertcp.dve import BlockSums, default_sampling
from powertcp.errors import LocalProtocolError
from powertcp.machine import Event
from powertcp.potcp.events import (
    Ask,
    Offer,
    PageMark,
)
from powertcp.potcp.flow import MAX_ASKS, MAX_OFFERS, Flow, FlowStatus, sampling_fault
from powertcp.potcp.intake import Intake
from powertcp.potcp.sink import SinkFlow
from powertcp.potcp.source import SourceFlow
from powertcp.potcp.states import Cause
from powertcp.potcp.terms import least_lease_s
from powertcp.profile import (
    PowerProfile,
    ProfileType,
    decode_lease,
    encode_lease,
    is_fallback_of,
)
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.options import Entity, Maintain, Meter, Options, Sampling, Tariff


class PowerConnection(Intake):
    """One connection with its verbs; every verb takes `now`, ns on the connection's clock."""

    __slots__ = ()

    @property
    def is_terminated(self) -> bool:
        """Whether the connection is over; octets may remain to be sent."""
        return self._terminated

    @property
    def write_limit_ns(self) -> int:
        """How long a peer may read nothing before the connection is aborted, T_WRITE."""
        leases = [flow.profile.lease_s for flow in self._flows.values() if flow.profile]
        lease_s = max(leases, default=self.config.lease_s)
        return lease_s * NS_PER_S + self.config.write_extra_ns

    @property
    def flows(self) -> tuple[int, ...]:
        """Identifiers of the flows that are not over."""
        return tuple(self._flows)

    def take_events(self) -> list[Event]:
        """Drain all events."""
        events, self._events = self._events, []
        return events

    # --- time ----------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return the earliest deadline; looked for only after something that may move it."""
        if self.moved:
            self.moved = False
            self._earliest = self._find_timer()
        return self._earliest

    def _find_timer(self) -> Instant | None:
        earliest = self._syn_deadline
        for flow in self._flows.values():
            time = flow.next_time()
            if time is not None and (earliest is None or time < earliest):
                earliest = time
        if self._liveness is not None and not self._terminated:
            probe = self._liveness.probe_at
            if earliest is None or probe < earliest:
                earliest = probe
        return earliest

    def handle_timer(self, now: Instant) -> None:
        """Do what is due at `now`."""
        self._tick(now)
        self.moved = True
        if self._syn_deadline is not None and now >= self._syn_deadline:
            limit = self.config.syn_ns // 1_000_000
            self._fail(Refusal(Reason.TIMEOUT, limit, limit), now)
            return
        # PTCP-14-02
        for flow in list(self._flows.values()):
            time = flow.next_time()
            if time is not None and now >= time:
                flow.pass_time(now)
        if self._terminated or self._liveness is None:
            return
        if now >= self._liveness.probe_at:
            if not self._flows:
                self._liveness.idle(now)
                return
            self._liveness.probe(self, now)

    # PTCP-5-01
    def silence_ms(self, wish: Maintain) -> int:
        """Return after how long a silent peer is STALE, once a flow that wishes `wish` is open."""
        if self._liveness is not None:
            # PTCP-5-01: the first flow fixed both for all
            return self.interval_ms * self.misses
        return max(wish.interval_ms, self.config.maintain_interval_ms) * wish.misses

    # --- verbs of the sink -------------------------------------------------------------------

    def open_flow(
        self,
        asks: Sequence[Ask],
        *,
        sampling: Sampling | None = None,
        maintain: Maintain | None = None,
        fallback: PowerProfile | None = None,
        ticket: bytes | None = None,
        esn_uj: int = 0,
        before: PowerProfile | None = None,
        entity: Entity | None = None,
        want_samples: bool = False,
        meter: Meter | None = None,
        pages: PageMark | None = None,
        via: str | None = None,
        now: Instant,
    ) -> int:
        """Ask for power; returns the flow. Best ask first, at most 4. Sends SYN.

        fallback: what should stay granted when the lease lapses. ticket, esn_uj, before: resume a
        flow of which `esn_uj` is verified and `before` were the terms, by default the first ask.
        meter: when we wish for receipts, and our meter's key. pages: with a ticket, the receipts so
        far, of FlowCut; then `meter` has the key of before. via: the provider that a gateway is to
        choose, by its name there.
        Raises LocalProtocolError at 256 flows or without an ask.
        """
        self._usable(now)
        if not 1 <= len(asks) <= MAX_ASKS:
            raise LocalProtocolError(f"{len(asks)} asks, 1..{MAX_ASKS} are allowed")
        if len(self._flows) >= self.config.flows:
            raise LocalProtocolError(f"{len(self._flows)} flows, {self.config.flows} are allowed")
        if pages is not None and (meter is None or ticket is None):
            raise LocalProtocolError("receipts go on with the meter and the ticket of before")
        chosen = sampling or default_sampling(asks[0].desired)
        if (fault := sampling_fault(chosen, asks)) is not None:
            raise LocalProtocolError(f"one sampling for all asks: {fault.sentence()}")
        flow = SinkFlow(self, self._next_flow, wants_samples=want_samples)
        tag = int.from_bytes(self.entropy(2), "big")
        profiles = [p.with_type(p.type, tag=tag) for ask in asks for p in ask if p is not None]
        if fallback is not None:
            profiles.append(fallback.with_type(ProfileType.FALLBACK, tag=tag))
        config = self.config
        syn = Options(
            msp=config.msp,
            profiles=tuple(profiles),
            sampling=chosen,
            maintain=maintain or Maintain(config.maintain_interval_ms, config.maintain_misses),
            ticket=ticket,
            entity=entity,
            meter=meter,
            via=via,
        )
        tagged = tuple(
            Ask(
                ask[0].with_type(ask[0].type, tag=tag).as_sent(),
                ask[1] and ask[1].with_type(ask[1].type, tag=tag).as_sent(),
            )
            for ask in asks
        )
        self._flows[flow.id] = flow
        self._next_flow += 2
        flow.fire(Cause.OPEN, now, tagged, syn, esn_uj, before, pages)
        return flow.id

    def accept(self, flow: int, profile: PowerProfile, *, now: Instant) -> None:
        """Take one of the offers of PowerOffered, or a profile within its range."""
        self._sink(flow, now).fire(Cause.ACCEPT, now, profile, None)

    def decline(self, flow: int, refusal: Refusal | None = None, *, now: Instant) -> None:
        """Decline the offers: RST."""
        self._sink(flow, now).fire(Cause.DECLINE, now, refusal)

    def set_demand(self, flow: int, demand_mw: int, *, now: Instant) -> None:
        """State the power wanted now, mW; DEMAND_MAX = the contract's maximum."""
        self._sink(flow, now).set_demand(now, demand_mw)

    def set_headroom(self, flow: int, headroom_uj: int | None, *, now: Instant) -> None:
        """Limit credit to what a store can still take, uJ; banking fills it. None = no limit."""
        self._sink(flow, now).set_headroom(now, headroom_uj)

    def page_mark(self, flow: int, *, now: Instant) -> PageMark | None:
        """Return where the receipts of a flow stand, as FlowCut says it; None: it has none.

        With it and a ticket the flow goes on elsewhere, while nothing is read here any more.
        """
        return self._sink(flow, now).page_mark

    # LEDG-6-02
    def countersign(self, flow: int, octets: bytes, *, now: Instant) -> None:
        """Answer PageReceived: the page with our signature, 380 octets, after it is on disk.

        Raises LocalProtocolError for octets that are not the page under way.
        """
        self._sink(flow, now).fire(Cause.COUNTERSIGN, now, octets)

    def dispute(self, flow: int, refusal: Refusal, *, now: Instant) -> None:
        """Answer PageReceived: the page is not what we counted; ALERT with both numbers."""
        self._sink(flow, now).fire(Cause.DISPUTE, now, refusal)

    # --- verbs of the source -----------------------------------------------------------------

    def grant(
        self,
        flow: int,
        profile: PowerProfile,
        *,
        fallback: PowerProfile | None = None,
        sampling: Sampling | None = None,
        tariff: Tariff | None = None,
        meter: Meter | None = None,
        now: Instant,
    ) -> None:
        """Grant a request: SYN+ACK, the budget is held from here. PTCP-4-06.

        profile: within an asked range; without a lease it gets the configured one. meter: receipts
        are agreed if the SYN asked for them too, each as often as the stricter wish says; the
        connection needs its `sign_page` then.
        """
        source = self._source(flow, now)
        request = source.request
        if request.sampling is None:
            raise LocalProtocolError(f"flow {flow}: nothing was asked")
        # PTCP-4-06
        lease_s = self._lease_s(profile)
        least = least_lease_s(self.silence_ms(request.maintain or Maintain()))
        if lease_s < least:
            refusal = Refusal(Reason.LEASE_RANGE, lease_s, least)
            source.fire(Cause.REFUSE, now, refusal, None)
            return
        granted = profile.with_type(ProfileType.GRANT, lease_s=lease_s, tag=source.tag)
        profiles = [granted]
        if fallback is not None:
            # PTCP-1-04
            if not is_fallback_of(fallback, granted):
                raise LocalProtocolError(f"flow {flow}: a fallback differs in current only")
            floor_ma = fallback.current_ma
            profiles.append(granted.with_type(ProfileType.FALLBACK, current_ma=floor_ma))
        chosen = sampling or request.sampling
        source.fire(Cause.GRANT, now, tuple(profiles), chosen, None, tariff, meter)

    def _lease_s(self, profile: PowerProfile) -> int:
        """Return a lease that its octet can say, so that both ends count alike."""
        return decode_lease(encode_lease(profile.lease_s or self.config.lease_s, up=False))

    def counter(
        self,
        flow: int,
        offers: Sequence[Offer | tuple[PowerProfile, PowerProfile | None]],
        refusal: Refusal,
        *,
        sampling: Sampling | None = None,
        tariff: Tariff | None = None,
        meter: Meter | None = None,
        now: Instant,
    ) -> None:
        """Make a counter-offer: SYN+ACK with OFFER [MINIMUM] pairs, at most 8, and the reason."""
        source = self._source(flow, now)
        if not 1 <= len(offers) <= MAX_OFFERS or source.request.sampling is None:
            raise LocalProtocolError(f"{len(offers)} offers, 1..{MAX_OFFERS} are allowed")
        profiles: list[PowerProfile] = []
        for offer, minimum in offers:
            lease_s = self._lease_s(offer)
            profiles.append(offer.with_type(ProfileType.OFFER, lease_s=lease_s, tag=source.tag))
            if minimum is not None:
                profiles.append(minimum.with_type(ProfileType.MINIMUM, tag=source.tag))
        chosen = sampling or source.request.sampling
        source.fire(Cause.COUNTER, now, tuple(profiles), chosen, refusal, tariff, meter)

    def refuse(
        self, flow: int, refusal: Refusal, best: PowerProfile | None = None, *, now: Instant
    ) -> None:
        """Refuse a request: RST with the reason and the best we could do."""
        self._source(flow, now).fire(Cause.REFUSE, now, refusal, best)

    def ready(self, flow: int, *, now: Instant) -> None:
        """The output is stable within 2 %: READY."""
        self._source(flow, now).fire(Cause.STABLE, now)

    def send_samples(
        self,
        flow: int,
        blocks: Sequence[bytes],
        sums: Sequence[BlockSums] | None = None,
        *,
        ece: bool = False,
        now: Instant,
    ) -> int:
        """Queue blocks while credit lasts; returns how many were taken, the rest was not queued."""
        source = self._flows.get(flow)
        if type(source) is not SourceFlow:
            raise LocalProtocolError(f"flow {flow} is not ours to supply")
        return source.send_blocks(now, blocks, sums, ece=ece)

    def send_block(
        self, flow: int, block: bytes, sums: BlockSums, *, ece: bool = False, now: Instant
    ) -> bool:
        """Queue one block whose sums are known, as `send_samples` does; False: not taken."""
        source = self._flows.get(flow)
        if type(source) is not SourceFlow:
            raise LocalProtocolError(f"flow {flow} is not ours to supply")
        return source.send_block(now, block, sums, ece=ece)

    def shed(
        self,
        flow: int,
        ceiling: PowerProfile,
        *,
        refusal: Refusal,
        deadline_ms: int | None = None,
        restore_s: int = 0,
        urgent: bool = False,
        now: Instant,
    ) -> None:
        """Lower a flow to `ceiling` (same voltage) at the answer or the deadline. PTCP-7-04."""
        source = self._source(flow, now)
        if urgent:
            source.fire(Cause.LOWER, now, ceiling, refusal, restore_s)
            return
        wanted = self.config.shed_ms if deadline_ms is None else deadline_ms
        critical = source.profile is not None and source.profile.priority == 1
        deadline = min(max(wanted, 1000 if critical else 100), 60_000)
        source.fire(Cause.SHED_NOW, now, ceiling, deadline, refusal, restore_s)

    def may_propose(self, flow: int) -> bool:
        """Return whether a RENEG or SHED may be sent now: energised, nothing outstanding."""
        found = self._flows.get(flow)
        return found is not None and found.may(Cause.PROPOSE) and not found.outstanding

    def credit_left_uj(self, flow: int) -> int:
        """Return what the source may still deliver, uJ."""
        source = self._flows[flow]
        if isinstance(source, SourceFlow) and source.is_withheld:
            return 0
        return source.limit_uj - source.esn_uj

    def demand_mw(self, flow: int) -> int:
        """Return the power the sink wants now, mW."""
        return self._flows[flow].demand_mw

    def key(self, flow: int) -> int:
        """Return the office's key of an energised source flow, as in FlowResumed."""
        source = self._flows.get(flow)
        return source.key if isinstance(source, SourceFlow) else 0

    # LEDG-7-06
    def keep_page(self, flow: int, octets: bytes, *, now: Instant) -> None:
        """Answer PageSigned: the copy is on disk. One that is no longer awaited is no news."""
        self._source(flow, now).keep_page(now, octets)

    # --- verbs of both -----------------------------------------------------------------------

    def renegotiate(
        self,
        flow: int,
        asks: Sequence[Ask],
        refusal: Refusal | None = None,
        *,
        tariff: Tariff | None = None,
        now: Instant,
    ) -> None:
        """Propose other terms: RENEG with 1 to 4 asks, best first.

        tariff: of a source: another price, in force with the terms; None: it stays. LEDG-6-04.
        Raises LocalProtocolError while a proposal of ours is unanswered. PTCP-9-01.
        """
        found = self._live(flow, now)
        if not 1 <= len(asks) <= MAX_ASKS:
            raise LocalProtocolError(f"{len(asks)} asks, 1..{MAX_ASKS} are allowed")
        if found.sampling is not None and (fault := sampling_fault(found.sampling, asks)):
            raise LocalProtocolError(f"flow {flow}: {fault.sentence()}")
        # PTCP-9-01
        if found.outstanding:
            raise LocalProtocolError(f"flow {flow}: proposal {found.outstanding} is unanswered")
        if isinstance(found, SourceFlow):
            found.fire(Cause.PROPOSE, now, tuple(asks), refusal, tariff)
        elif tariff is not None:
            raise LocalProtocolError(f"flow {flow}: the price is the source's to propose")
        else:
            found.fire(Cause.PROPOSE, now, tuple(asks))

    def answer(
        self,
        flow: int,
        accept: bool,
        *,
        profile: PowerProfile | None = None,
        fallback: PowerProfile | None = None,
        refusal: Refusal | None = None,
        now: Instant,
    ) -> None:
        """Answer RenegotiationRequested; a source names the terms it grants."""
        found = self._live(flow, now)
        if not accept:
            found.fire(Cause.REJECT, now, refusal)
        elif isinstance(found, SourceFlow):
            if profile is None:
                raise LocalProtocolError("a source accepts with a profile")
            lease_s = profile.lease_s or (found.profile.lease_s if found.profile else 0)
            terms = profile.with_type(ProfileType.GRANT, lease_s=lease_s)
            found.fire(Cause.AGREE, now, terms, fallback)
        else:
            found.fire(Cause.AGREE, now)

    def close_flow(self, flow: int, *, refusal: Refusal | None = None, now: Instant) -> None:
        """Close a flow: FIN once power flows, RST before."""
        self._live(flow, now).fire(Cause.CLOSE, now, refusal)

    def trip(self, flow: int, refusal: Refusal, *, now: Instant) -> None:
        """Trip a flow for `refusal`."""
        self._live(flow, now).fire(Cause.VIOLATION, now, refusal)

    def reset_flow(self, flow: int, refusal: Refusal, *, now: Instant) -> None:
        """End a flow at once: RST with the reason."""
        self._live(flow, now).breach(refusal, now)

    def shutdown(self, *, refusal: Refusal | None = None, now: Instant) -> None:
        """Close every flow; the owner waits for their FlowClosed."""
        self._tick(now)
        for flow in list(self._flows.values()):
            if flow.may(Cause.CLOSE):
                flow.fire(Cause.CLOSE, now, refusal)

    def abort(self, refusal: Refusal, *, now: Instant) -> None:
        """End the connection at once: RST on flow 0."""
        self._tick(now)
        if not self._terminated:
            self._fail(refusal, now)

    def status(self, flow: int) -> FlowStatus:
        """Return a flow as it stands. Raises LocalProtocolError when it is over."""
        found = self._flows.get(flow)
        if found is None:
            raise LocalProtocolError(f"flow {flow} is over")
        return found.status()

    @property
    def stray_octets(self) -> int:
        """Octets of DATA on flows already over: heat of which no contract says how much."""
        return self._stray_heat

    def _usable(self, now: Instant) -> None:
        self._tick(now)
        self.moved = True
        if self._terminated:
            raise LocalProtocolError("the connection is over")

    def _live(self, flow: int, now: Instant) -> Flow:
        self._tick(now)
        self.moved = True
        found = self._flows.get(flow)
        if found is None:
            raise LocalProtocolError(f"flow {flow} is over")
        return found

    def _sink(self, flow: int, now: Instant) -> SinkFlow:
        found = self._live(flow, now)
        if not isinstance(found, SinkFlow):
            raise LocalProtocolError(f"flow {flow} is not ours to consume")
        return found

    def _source(self, flow: int, now: Instant) -> SourceFlow:
        found = self._live(flow, now)
        if not isinstance(found, SourceFlow):
            raise LocalProtocolError(f"flow {flow} is not ours to supply")
        return found
