"""What a provider answers to the events of its connections: the breaker's decisions as verbs."""

import logging
from collections.abc import Callable, Mapping
from typing import ParamSpec

from powertcp.drivers.billing import Billing
from powertcp.drivers.chronicle import Chronicle
from powertcp.drivers.delivery import Delivery
from powertcp.drivers.gatekeeper import END_MS, Gatekeeper
from powertcp.drivers.requests import Requests, terms_text
from powertcp.drivers.session import AddressLimit, FlowRecord, Session
from powertcp.drivers.takeover import take_over
from powertcp.drivers.usage import SECONDS, Usage
from powertcp.errors import known
from powertcp.machine import Event
from powertcp.potcp.events import (
    Alerted,
    Ask,
    ConnectionFresh,
    ConnectionStale,
    CreditReceived,
    FlowClosed,
    FlowClosing,
    FlowCut,
    FlowEvent,
    FlowResumed,
    FlowTripped,
    LeaseLapsed,
    LeaseRenewed,
    PageDisputed,
    PageSigned,
    PowerAccepted,
    PowerReady,
    PowerRequested,
    RenegotiationAnswered,
    RenegotiationRequested,
    ShedEnforced,
)
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.sources import Breaker, Change, Explanations
from powertcp.units import (
    NS_PER_S,
    Instant,
    format_energy,
    format_power,
)

ParamsT = ParamSpec("ParamsT")
IDLE_PER_ADDRESS = 64  # flows without power that are held over a cut
RELIEF_NS = 2 * NS_PER_S  # after CWR: two MAINTAIN intervals without a new mark
NEVER: Instant = 1 << 62
_log = logging.getLogger("provider")


class Admissions:
    """Flows of all sessions against one breaker."""

    def __init__(
        self,
        breaker: Breaker,
        delivery: Delivery,
        explanations: Explanations,
        *,
        spread: Callable[[int], int],
        shed_ms: int = 1000,
        lease_s: int = 60,
        give_back_s: int = SECONDS,
        wake: Callable[[Instant], None],
    ) -> None:
        """Answer from `breaker`; wake(t) sees to it that `check` is called at t."""
        self.breaker = breaker
        self.billing = Billing(self)
        self.chronicle = Chronicle(breaker, explanations)
        self.requests = Requests(
            breaker, self.billing, self.chronicle, self, lease_s=lease_s, wake=wake
        )
        self.drawn_mw = 0
        self.returned_uj = 0
        self.delivered_uj = 0
        self.heat_uj = 0
        self.draining = False
        self.gate: Gatekeeper | None = None
        # of a realm: told of flows whose terms or receipts are others, of keys that are void, and
        # of those that another provider keeps as they may not go on here
        self.on_change: Callable[[FlowRecord], None] = nothing
        self.on_end: Callable[[int], None] = nothing
        self.on_return: Callable[[int], None] = nothing
        # told of each flow that is over, with its last registers
        self.on_closed: Callable[[FlowRecord, FlowClosed], None] = nothing_more
        self.needs_seal = False
        self._delivery = delivery
        self._spread = spread
        self._shed_ms = shed_ms
        self.wake = wake
        self._by_key: dict[int, FlowRecord] = {}
        self._ramping: set[FlowRecord] = set()
        self._idle = AddressLimit(IDLE_PER_ADDRESS)
        self._idlers: set[FlowRecord] = set()  # cut, and hold nothing
        self._give_back_s = give_back_s
        self._usages: dict[FlowRecord, Usage] = {}  # of flows that give back what they do not use

    async def guard(self, gate: Gatekeeper) -> None:
        """Let `gate` say who may draw what; called when there are books, before there are flows."""
        await gate.begin(self.billing.books)
        self.gate = self.requests.gate = gate

    # VPPN-4-02
    def proved_again(self, session: Session) -> None:
        """A handshake proved the identity of `session` again: judge its flows by that."""
        if self.gate is not None:
            self.gate.proved_again(session)

    # -- events ------------------------------------------------------------------------------

    def handle(self, session: Session, events: list[Event], now: Instant) -> None:
        """Answer the events of one wake-up of `session`.

        A bug met at one of them raises after all the others were answered: what they give back
        is not lost. No other session is touched, so that each machine sees one time per wake-up.
        """
        resumed = [event for event in events if type(event) is FlowResumed]
        if resumed:
            # PTCP-10-03: all has moved before an old path says what became of it there
            lost = [self._resume(session, event, now) for event in resumed]
            for old in dict.fromkeys(lost):
                if old is not None and old is not session:
                    old.wire.handle_timer(now)
                    old.wire.flush()
        bug: Exception | None = None
        for event in events:
            try:
                self._event(session, event, now)
            except Exception as error:  # noqa: BLE001 - raised below
                bug = bug or error
        if bug is not None:
            raise bug

    def _event(self, session: Session, event: Event, now: Instant) -> None:
        match event:
            case CreditReceived():
                self._credit(session, event, now)
            case PowerRequested():
                self._request(session, event, now)
            case ConnectionStale() | ConnectionFresh():
                self._path(session, now, stale=isinstance(event, ConnectionStale))
            case LeaseRenewed() if session.lapsed:
                self._path(session, now, stale=False)
            case PageSigned() | PageDisputed() | FlowClosing():
                self.billing.page(session, event)
            case FlowEvent():
                record = session.flows.get(event.flow)
                if record is not None:
                    self._flow_event(record, event, now)
            case _:
                pass

    def _flow_event(self, record: FlowRecord, event: FlowEvent, now: Instant) -> None:
        if not isinstance(event, FlowClosed) and record.flow not in record.session.machine.flows:
            return  # ended by what came later in the same wake-up; its FlowClosed follows
        match event:
            case PowerAccepted():
                self._accept(record, event.profile, now)
            case PowerReady():
                self._terms(record, event, now)
            case ShedEnforced():
                self._lowered(record, event.profile, now)
            case RenegotiationRequested():
                self.requests.renegotiate(record, event, now)
            case RenegotiationAnswered(accepted=False) if record.profile is not None:
                self.breaker.settled(record, record.profile)
                self.billing.rejected(record, event, now)
            case LeaseLapsed():
                record.session.lapsed = True
                self.breaker.hold_back(record, NEVER)
                lease_s = record.profile.lease_s if record.profile else 0
                self.chronicle.note(
                    record, "lapsed", Refusal(Reason.LEASE_EXPIRED, lease_s, lease_s), now
                )
            case FlowTripped():
                self.quiet(record, "tripped")
                self.chronicle.note(record, "tripped", event.refusal, now)
            case FlowCut():
                self.quiet(record, "cut")
                self.breaker.hold_back(record, NEVER)
                self.chronicle.say(record, "cut", "path lost, budget held")
                self._limit_idle(record, now)
            case Alerted() if event.refusal is not None:
                self.chronicle.say(record, "alert", event.refusal.sentence())
            case FlowClosed():
                self._close(record, event, now)
            case _:
                pass

    def _lowered(self, record: FlowRecord, profile: PowerProfile, now: Instant) -> None:
        """A shed is in force."""
        self.breaker.settled(record, profile)
        self.requests.settle_soon(now)
        if self._gate_refusal(record) is not None:
            self.wake(now)

    # -- handshake ---------------------------------------------------------------------------

    def _request(self, session: Session, event: PowerRequested, now: Instant) -> None:
        if event.flow not in session.machine.flows:
            return
        record = session.flows[event.flow] = FlowRecord(session, event.flow)
        record.sampling = event.sampling
        refusal = Refusal(Reason.DRAINING) if self.draining else None
        # VPPN-2.2-04
        if self.needs_seal and not session.identity.is_sealed:
            refusal = Refusal(Reason.SEAL_REQUIRED)
        self.requests.ask(record, event, now, refusal)

    def _accept(self, record: FlowRecord, profile: PowerProfile, now: Instant) -> None:
        """The sink took it: bring the output up, then READY."""
        if record.state != "resumed":
            self.breaker.accepted(record, profile)
        ramp_ns = self.breaker.ramp_ns(record, now)
        record.profile = profile
        record.state = "ramping"
        if ramp_ns:
            record.ready_at = now + ramp_ns
            self._ramping.add(record)
            self.wake(record.ready_at)
            return
        self._energise(record, now)

    def _energise(self, record: FlowRecord, now: Instant) -> None:
        record.session.machine.ready(record.flow, now=now)
        record.key = record.session.machine.key(record.flow)
        self._by_key[record.key] = record

    def _terms(self, record: FlowRecord, event: PowerReady, now: Instant) -> None:
        """New terms are in force on `record`."""
        first = record.cohort is None
        if record.profile is not None and not first:
            self.breaker.settled(record, event.profile)
        self.billing.terms(record, self.breaker.supplies[record.supply].profile, event.tariff)
        self._draw(record, -1)
        record.profile = event.profile
        record.state = "energised"
        record.demand_mw = record.session.machine.demand_mw(record.flow)
        self._draw(record, +1)
        if first and record.sampling is not None:
            holding = self.breaker.holdings[record]
            if holding.desired.giveback:
                esn_uj = record.session.machine.status(record.flow).esn_uj
                self._usages[record] = Usage(now, esn_uj, self._give_back_s)
                self.wake(now + NS_PER_S)
            supply = self.breaker.supplies[holding.supply].profile
            self._delivery.start(record, supply, record.sampling, now)
            if _log.isEnabledFor(logging.INFO):
                lease = (
                    f"lease {event.profile.lease_s} s, priority {event.profile.effective_priority}"
                )
                what = "resumed" if event.resumed else "granted"
                self.chronicle.say(record, what, terms_text(event.profile), lease)
        if self.gate is not None:
            self.gate.changed(record)
        self.changed(record)
        self.requests.settle_soon(now)

    def _credit(self, session: Session, event: CreditReceived, now: Instant) -> None:
        record = session.flows.get(event.flow)
        if record is None:
            return
        record.blocked = False
        if event.cwr:
            record.relieved_until = now + RELIEF_NS
        if event.demand_mw != record.demand_mw:
            self._draw(record, -1)
            record.demand_mw = event.demand_mw
            self._draw(record, +1)

    def _draw(self, record: FlowRecord, sign: int) -> None:
        """Count what `record` draws into the feeder's load, or out of it."""
        if sign > 0:
            most = record.profile.power_mw if record.profile else 0
            # PTCP-6-03
            record.wanted_mw = min(most, record.demand_mw)
        self.drawn_mw += sign * record.wanted_mw
        if sign < 0:
            record.wanted_mw = 0

    # -- changes -----------------------------------------------------------------------------

    def check(self, now: Instant) -> Instant | None:
        """Do what the breaker plans, and what ramps; return when to call again.

        What goes wrong for one flow ends its connection and nothing else.
        """
        for record in [one for one in self._ramping if (one.ready_at or 0) <= now]:
            if record in self._ramping:
                self._ramping.discard(record)
                record.ready_at = None
                self.attempt(record, now, self._energise, record, now)
        for record, usage in self._usages.items():
            self._measure(record, usage, now)
        self.requests.settle(now)
        for change in self.breaker.plan(now, self.is_busy):
            if isinstance(change.key, FlowRecord):
                self.attempt(change.key, now, self._change, change.key, change, now)
        times = [one.ready_at for one in self._ramping if one.ready_at is not None]
        if self._usages:
            times.append(now + NS_PER_S)
        if self.gate is not None:
            times.append(self.gate.check(now) or NEVER)
        times.append(self.breaker.next_check(now) or NEVER)
        later = min(times)
        return later if later < NEVER else None

    def _measure(self, record: FlowRecord, usage: Usage, now: Instant) -> None:
        """Look at what `record` draws; reclaim what it has not used for a minute. PTCP-7-08."""
        machine = record.session.machine
        if record.flow not in machine.flows:
            return
        used_mw = usage.look(now, machine.status(record.flow).esn_uj)
        # PTCP-7-08
        if used_mw is not None:
            self.breaker.give_back(record, used_mw)

    def attempt(
        self,
        record: FlowRecord,
        now: Instant,
        verb: Callable[ParamsT, None],
        *args: ParamsT.args,
        **kwargs: ParamsT.kwargs,
    ) -> None:
        """Call `verb` for a flow outside of a wake-up of its wire; hand over and send the rest."""
        wire = record.session.wire
        try:
            verb(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - ends at its connection
            if record.profile is not None:
                self.breaker.settled(record, record.profile)
            wire.fail(error)
        else:
            wire.handle_timer(now)
            wire.flush()

    def _change(self, record: FlowRecord, change: Change, now: Instant) -> None:
        machine = record.session.machine
        if self.is_busy(record):
            self.breaker.settled(record, known(record.profile, "an energised flow has terms"))
        elif change.raised:
            machine.renegotiate(record.flow, (Ask(change.profile),), now=now)
            self.chronicle.say(record, "restore", terms_text(change.profile))
        else:
            what = f"to {format_power(change.profile.power_mw)}"
            self.chronicle.note(
                record, "shed", change.refusal, now, given=change.profile, extra=what
            )
            ends = self._gate_refusal(record) is not None
            machine.shed(
                record.flow, change.profile, deadline_ms=END_MS if ends else self._shed_ms,
                refusal=change.refusal, urgent=change.urgent, now=now,
            )  # fmt: skip

    def _gate_refusal(self, record: FlowRecord) -> Refusal | None:
        """Return why whoever draws may draw no longer, None: nothing is against."""
        return self.gate.refusal(record) if self.gate is not None else None

    def is_busy(self, key: object) -> bool:
        """Say whether a proposal on this flow is still unanswered, or its path is not there."""
        if not isinstance(key, FlowRecord) or key.state != "energised":
            return True
        # PTCP-5-03: a stale path takes a SHED; raises are held back there
        if key.session.wire.closed:
            return True
        return not key.session.machine.may_propose(key.flow)

    # -- endings -----------------------------------------------------------------------------

    def _path(self, session: Session, now: Instant, *, stale: bool) -> None:
        """A connection became stale, or fresh again. PTCP-5-03: nobody starts a RENEG then."""
        session.stale, session.lapsed = stale, False
        for record in session.flows.values():
            # PTCP-7-07
            until = NEVER if stale else now + self._spread(10 * NS_PER_S)
            self.breaker.hold_back(record, until)
        later = self.breaker.next_check(now)
        if later is not None:
            self.wake(later)

    def _resume(self, session: Session, event: FlowResumed, now: Instant) -> Session | None:
        """A ticket moved a contract here: its power comes along, no joule twice.

        Returns the session that lost it: the caller lets that one say goodbye.
        """
        if event.origin is not None:
            take_over(self, session, event, event.origin, now)
            return None
        old = self._by_key.pop(event.key, None)
        if old is None:
            return None
        # DPDP-10-07: its tickets are void with the others of a realm, too
        self.on_end(event.key)
        record = session.flows[event.flow] = FlowRecord(session, event.flow)
        record.state, record.sampling, record.supply = "resumed", event.sampling, old.supply
        record.host, record.metered = old.host, old.metered
        self.quiet(old, "moved")
        self.billing.moved(old, record)
        excess = self.breaker.move(old, record, session.peer)
        # what a raise that nobody answered had put aside is free again
        self.breaker.settled(record, event.profile)
        self.spare(record, now)
        if self.gate is not None:
            excess = self.gate.moved(old, record) or excess
        # VPPN-2.2-04
        if self.needs_seal and not session.identity.is_sealed:
            excess = Refusal(Reason.SEAL_REQUIRED)
        if excess is not None:
            self.chronicle.note(record, "refused", excess, now, wanted=event.profile)
            session.machine.reset_flow(event.flow, excess, now=now)
        # PTCP-10-04: the old path closes with what was verified of it, from where the new one counts
        self.delivered_uj -= event.esn_uj
        return old.session

    # PTCP-7-06, PTCP-7-07
    def spare(self, record: FlowRecord, now: Instant) -> None:
        """Raise nothing on a flow that was just resumed."""
        self.breaker.hold_back(record, now + self._spread(10 * NS_PER_S))

    def changed(self, record: FlowRecord) -> None:
        """Terms or receipts of a flow are others: a realm is told of it."""
        self.on_change(record)

    def live(self) -> Mapping[int, FlowRecord]:
        """Return the flows that tickets may move, by key of the office."""
        return self._by_key

    # DPDP-10-06
    def leave(self, key: int) -> FlowRecord | None:
        """A flow goes on elsewhere: deliver nothing more, and return it; None: it is over."""
        record = self._by_key.pop(key, None)
        if record is not None:
            self.on_end(key)
            self.quiet(record, "moved")
        return record

    def _limit_idle(self, record: FlowRecord, now: Instant) -> None:
        """Keep few flows of a peer over a cut that hold nothing: no rating bounds their number."""
        # PTCP-14-01
        if self.breaker.holdings[record].mw:
            return
        if self._idle.enter(record.session.peer):
            self._idlers.add(record)
        else:
            record.session.machine.close_flow(record.flow, now=now)

    def quiet(self, record: FlowRecord, state: str) -> None:
        """Deliver nothing more on `record`."""
        self._draw(record, -1)
        self._usages.pop(record, None)
        self._delivery.stop(record)
        record.state = state

    def _close(self, record: FlowRecord, event: FlowClosed, now: Instant) -> None:
        """The flow is over: its budget returns here and in `sweep`, nowhere else."""
        is_denied = self._gate_refusal(record) is not None
        freed = self._drop(record)
        self.billing.closed(record, event)
        self.on_closed(record, event)
        self.delivered_uj += event.acked_uj
        self.returned_uj += max(0, event.esn_uj - event.acked_uj)
        self.heat_uj += event.heat_uj
        if freed or is_denied:
            reason = event.refusal or Refusal(Reason.NORMAL)
            if record.profile is None:
                # PTCP-13-03: why nothing was granted stays the last word
                self.chronicle.say(record, "closed", reason.sentence())
            else:
                extra = format_energy(event.acked_uj)
                self.chronicle.note(
                    record, "closed", reason, now, given=record.profile, extra=extra
                )
            if self.breaker.next_check(now) is not None:
                self.wake(now)

    def _drop(self, record: FlowRecord) -> int:
        """Forget a flow that is over; return the mW that it held."""
        record.session.flows.pop(record.flow, None)
        freed = self.breaker.release(record)
        if self._by_key.pop(record.key, None) is not None:
            self.on_end(record.key)
        self.requests.forget(record)
        self._ramping.discard(record)
        if record in self._idlers:
            self._idlers.discard(record)
            self._idle.leave(record.session.peer)
        self.quiet(record, "closed" if record.state != "refused" else "refused")
        return freed

    def sweep(self, session: Session) -> None:
        """Give back what flows hold that are over without having said so, by a bug of ours.

        Called when the wire of `session` is closed and all its events were handed over.
        """
        for record in list(session.flows.values()):
            # PTCP-9-05
            if record.flow not in session.machine.flows:
                _log.error("flow %s is over, its power was still held", record.name)
                self._drop(record)


def nothing(_: object) -> None:
    """Do nothing: nobody wants to know."""


def nothing_more(_: object, __: object) -> None:
    """Do nothing: nobody wants to know."""
