"""One contract that is wanted, the load it powers, and what becomes of both."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from powertcp.drivers.appetite import Appetite
from powertcp.drivers.display import Display
from powertcp.drivers.patience import NEVER, PASSING, Patience
from powertcp.drivers.quota import Quota
from powertcp.loads import (
    Ceiling,
    Delivered,
    Ended,
    Lease,
    Load,
    Lost,
    Powered,
    SupplyChannel,
    SupplyEvent,
    supply_line,
)
from powertcp.potcp.events import (
    Alerted,
    Ask,
    FlowClosed,
    FlowCut,
    FlowEvent,
    FlowRefused,
    FlowTripped,
    HeatCounted,
    LeaseLapsed,
    LeaseRestored,
    PageMark,
    PowerGranted,
    PowerOffered,
    PowerReady,
    SamplesReceived,
    ShedReceived,
    TicketReceived,
)
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.wire.options import Sampling, Tariff

if TYPE_CHECKING:
    from powertcp.drivers.flow_book import FlowBook

NO = 1
MORE_NS = 10 * NS_PER_S  # between two requests for what was given back
NO_ANSWER = 3
Say = Callable[[str, Mapping[str, object]], None]


def refusal_facts(refusal: Refusal | None) -> dict[str, object]:
    """Return a refusal as fields of an event."""
    if refusal is None:
        return {}
    return {
        "code": refusal.code,
        "reason": refusal.name,
        "sentence": refusal.sentence(),
        "value": refusal.value,
        "limit": refusal.limit,
        "retry_ms": refusal.retry_ms,
        "text": refusal.text,
    }


def tariff_facts(tariff: Tariff | None) -> dict[str, object]:
    """Return a price as fields of an event; none without one."""
    if tariff is None:
        return {}
    return {"currency": tariff.currency, "price_micro_per_kwh": tariff.price}


def _nowhere(refusal: Refusal) -> bool:
    """There is nobody else to ask."""
    return False


class Appliance:
    """A wish, its flow if there is one, and its load.

    say: told what happens, with units in the keys. fallback: what should stay granted after the
    lease. quota: how much is wanted. Times are those of `now_ns`.
    """

    def __init__(
        self,
        name: str,
        ask: Ask,
        load: Load,
        say: Say,
        fallback: PowerProfile | None = None,
        quota: Quota | None = None,
    ) -> None:
        """Want `ask` for `load`."""
        self.name = name
        self.ask = ask
        self.fallback = fallback
        self.quota = quota or Quota()
        self.appetite = Appetite(ask.minimum.power_mw if ask.minimum else 0)
        self.load = load
        self._say = say
        self._line, self.supply = supply_line()
        self.patience = Patience()
        self.display = Display()
        self.flow = 0
        self.feed = ""  # identifier of the feed that powers it, if one does
        self.heard: dict[str, object] = {}  # what became of its blocks, for readings
        self.flow_name = ""  # as the provider calls it: our HOST:PORT/FLOW
        self.ticket: bytes | None = None
        self.mark: PageMark | None = None  # where the receipts of the lost path stand
        # of a provider that drains another one is looked for, and the lease is lived on meanwhile
        self.may_roam = False
        # told a no: whether another provider is asked, so that it is not the end
        self.elsewhere: Callable[[Refusal], bool] = _nowhere
        self.book: FlowBook | None = None  # what the ledger knows of it, if one is kept
        self.granted: PowerGranted | None = None
        self.profile: PowerProfile | None = None
        self.was_ready = False  # power was on once
        self.energy_uj = 0
        self.esn_uj = 0
        self.heat_uj = 0
        self.lease_until: Instant = 0
        self._more_at: Instant = 0
        self._wants_other = False
        self.closing = False
        self.done = False
        self.status = 0
        self.reason: tuple[str, Mapping[str, object]] | None = None  # the last no, for `explain`
        self._powered = False  # what the load was told last
        self._refusal: Refusal | None = None
        self._tripped = False
        self._is_its_fault = False  # the provider's: no other load would fare better
        self._cut = False
        self._is_ready = False  # the flow there is was READY: only its lease powers the load

    @property
    def channel(self) -> SupplyChannel:
        """The load's end of the line."""
        return self.supply

    @property
    def rated_mw(self) -> int:
        """What the load is built for: the power it asks for."""
        return self.ask.desired.power_mw

    def say(self, event: str, facts: Mapping[str, object] | None = None) -> None:
        """Report `event` of this contract."""
        base: dict[str, object] = {"request": self.ask.desired.format(), "load": self.load.name}
        path: dict[str, object] = {"feed": self.feed} if self.feed else {}
        if self.flow:
            path = {"flow": self.flow}
        said = {**base, **path, **(facts or {})}
        if "sentence" in said:
            self.reason = (event, said)
        self._say(event, said)

    def is_on_lease(self, now: Instant) -> bool:
        """Whether the load lives on what is left of a lease: nobody gives it power."""
        return self._powered and not self.flow and self.lease_until > now

    # DPDP-10-04
    def say_rest(self, now: Instant) -> None:
        """Say how long the load lives on its lease while nobody gives it power."""
        rest_ms = max(0, self.lease_until - now) // NS_PER_MS
        said = f"no provider now: {self.load.name} lives on its lease for {rest_ms / 1000:.0f} s"
        self.say("living on", {"lease_ms": rest_ms, "sentence": said})

    def tell(self, event: SupplyEvent) -> None:
        """Tell the load."""
        self._line.send(event)

    def keeps_up(self) -> bool:
        """Look how the load keeps up; False when another demand follows from it."""
        contract_mw = self.profile.power_mw if self.profile else 0
        return not self.appetite.look(self._line.waiting, self._line.capacity, contract_mw)

    def want(self, ask: Ask) -> None:
        """Want another power, as soon as it may be proposed; of the same kind of samples."""
        self.ask, self._wants_other = ask, True

    def needs_more(self, now: Instant) -> bool:
        """Whether other terms are to be proposed: they were wanted, or what was given back could be used.

        Asked at intervals.
        """
        if self._wants_other:
            self._wants_other = False
            return True
        if self.profile is None or now < self._more_at:
            return False
        if not (self.profile.giveback or self.ask.desired.giveback):
            return False
        # PTCP-7-08
        limit_mw = self.profile.power_mw
        more = limit_mw < self.ask.desired.power_mw and self.appetite.demand_mw > limit_mw
        if more:
            self._more_at = now + MORE_NS
        return more

    def finish(self, status: int, refusal: Refusal | None = None) -> None:
        """It is over for good; the load ends."""
        if not self.done:
            self.done = True
            self.status = self.status or status
            self.tell(Ended(refusal=refusal))

    def end_load(self) -> None:
        """The contract is about to be closed by us."""
        self.closing = True
        self.tell(Ended())

    def renew(self, until: Instant) -> None:
        """The lease of the flow runs until `until`; before READY it powers nothing."""
        # PTCP-4-05
        if not self._is_ready:
            return
        self.lease_until = until
        if self._powered:
            self.tell(Lease(until_ns=until))

    def take(self, event: FlowEvent | SamplesReceived, now: Instant, lease_until: Instant) -> None:
        """Take one event of the flow."""
        if self.book is not None:
            self.book.take(event)
        match event:
            case SamplesReceived():
                self._bank(event)
            case PowerGranted():
                self.granted = event
                facts = self._terms(event.profile) | {"contract": event.contract}
                self.say("granted", facts | tariff_facts(event.tariff))
            case PowerReady():
                self._ready(event, now, lease_until)
            case ShedReceived():
                self._shed(event)
            case FlowRefused(refusal=refusal):
                self._refusal = refusal
            case PowerOffered(refusal=refusal, offers=offers):
                self._refusal = refusal or Refusal(Reason.NOT_OFFERED)
                self.say("offered", {"offers": [pair.offer.format() for pair in offers]})
            case FlowTripped(refusal=refusal, by_peer=by_peer):
                self._tripped, self._refusal = True, refusal
                self._is_its_fault = refusal.code == Reason.OVER_VOLTAGE
                self.say("tripped", refusal_facts(refusal) | {"by_peer": by_peer})
            case TicketReceived(ticket=ticket):
                self.ticket = ticket
            case FlowCut(esn_uj=esn_uj, pages=pages):
                self._cut, self._is_ready, self.esn_uj = True, False, esn_uj
                self.mark = pages
                self.say("cut", {"esn_uj": esn_uj})
            case FlowClosed():
                self._closed(event, now)
            case _:
                self._note(event)

    def _note(self, event: FlowEvent | SamplesReceived) -> None:
        """Take what changes the ceiling of the load or is only worth a line."""
        match event:
            case LeaseLapsed(fallback=fallback):
                limit_mw = fallback.power_mw if fallback else 0
                self.say("lease over", {"limit_mw": limit_mw})
                self._limit(limit_mw, None)
            case LeaseRestored(profile=profile):
                self.say("lease restored", {"limit_mw": profile.power_mw})
                self._limit(profile.power_mw, None)
            case HeatCounted(energy_uj=energy_uj, refusal=refusal):
                self.heat_uj += energy_uj
                self.say("heat", {"energy_uj": energy_uj} | refusal_facts(refusal))
            case Alerted(severity=severity, refusal=refusal):
                self.say("alert", {"severity": severity} | refusal_facts(refusal))

    def _terms(self, profile: PowerProfile) -> dict[str, object]:
        return {
            "profile": profile.format(),
            "voltage_mv": profile.voltage_mv,
            "current_ma": profile.current_ma,
            "power_mw": profile.power_mw,
            "lease_s": profile.lease_s,
        }

    @property
    def is_ready(self) -> bool:
        """Whether the flow there is was READY."""
        return bool(self.flow) and self._is_ready

    @property
    def is_off(self) -> bool:
        """Whether it tripped too often and waits for `reset`."""
        return self.patience.due == NEVER

    def answers_to(self, name: str) -> bool:
        """Whether people call the load so: its name, the command without its pid, its number."""
        return name in (self.name, self.load.name, self.load.name.partition("[")[0])

    def reset(self) -> None:
        """Let a load that tripped too often try again."""
        self.patience.reset()
        self.status = 0

    def _bank(self, event: SamplesReceived) -> None:
        self.energy_uj += event.energy_uj
        self.esn_uj = event.esn_uj
        sampling = self.granted.sampling if self.granted else None
        if sampling is not None:
            self.quota.take(event, sampling)
        power_mw = self.display.add(event, sampling)
        self.tell(
            Delivered(
                power_mw=power_mw,
                energy_uj=event.energy_uj,
                total_uj=self.energy_uj,
                samples=event.samples if self.load.wants_samples else None,
                sampling=sampling,
                sim=event.sim,
            )
        )

    def bank_late(self, event: SamplesReceived, sampling: Sampling | None) -> None:
        """Count what a provider had sent before it heard that it was left."""
        self.energy_uj += event.energy_uj
        if sampling is not None:
            self.quota.take(event, sampling)

    def _ready(self, event: PowerReady, now: Instant, lease_until: Instant) -> None:
        """First power, power that returned, or other terms of a flow that runs."""
        self.profile = event.profile
        self.patience.forgive()
        self._is_ready = True
        lapsed = self.lease_until <= now
        fresh = not self._powered or (lapsed and not event.resumed)
        self.lease_until = lease_until
        facts = self._terms(event.profile) | {
            "contract": event.contract,
            "resumed": event.resumed,
            "fallback_mw": event.fallback.power_mw if event.fallback else 0,
        }
        self.say("ready", facts)
        if fresh:
            if event.profile.power_mw:
                self.was_ready = True
                self._power_on(event)
        else:
            self.tell(Lease(until_ns=lease_until))
            self._limit(event.profile.power_mw, None)

    def _power_on(self, event: PowerReady) -> None:
        self._powered = True
        fallback_mw = event.fallback.power_mw if event.fallback else 0
        until_ns = self.lease_until
        profile = event.profile
        rated_mw = max(self.rated_mw, profile.power_mw)
        self.tell(
            Powered(profile=profile, until_ns=until_ns, fallback_mw=fallback_mw, rated_mw=rated_mw)
        )
        if profile.power_mw < rated_mw:
            self.tell(Ceiling(limit_mw=profile.power_mw, rated_mw=rated_mw))

    def _shed(self, event: ShedReceived) -> None:
        facts: dict[str, object] = {
            "limit_mw": event.ceiling.power_mw,
            "deadline_ms": event.deadline_ms,
            "restore_s": event.restore_s,
        }
        self.say("shed", facts | refusal_facts(event.refusal))
        self._limit(event.ceiling.power_mw, event.refusal)

    def _limit(self, limit_mw: int, refusal: Refusal | None) -> None:
        """Cap the load; power below the minimum is of no use to it."""
        minimum_mw = self.ask.minimum.power_mw if self.ask.minimum else 0
        limit_mw = 0 if limit_mw < minimum_mw else limit_mw
        self.tell(Ceiling(limit_mw=limit_mw, rated_mw=self.rated_mw, refusal=refusal))

    def _closed(self, event: FlowClosed, now: Instant) -> None:
        """Decide what the end of the flow means."""
        refusal = self._refusal or event.refusal
        self._refusal = None
        tripped, self._tripped = self._tripped, False
        # a path that was lost explains the end of one flow, not what is said on the next path
        cut, self._cut = self._cut or (event.truncated and refusal is None), False
        self._is_ready = False
        was_flow, self.flow = self.flow, 0
        self.esn_uj = event.esn_uj
        facts = {"esn_uj": event.esn_uj, "heat_uj": event.heat_uj, "truncated": event.truncated}
        if self.closing or was_flow == 0:
            self.say("closed", facts | refusal_facts(refusal))
            self.finish(0, refusal)
        elif tripped:
            self._trip(refusal, now)
        elif cut:
            return  # the link comes back, with the ticket if there is one
        elif refusal is None or refusal.code == Reason.NORMAL:
            self.say("closed", facts | refusal_facts(refusal))
            self.finish(0, refusal)
        elif refusal.code == Reason.DRAINING and self.may_roam and self._powered:
            # DPDP-10-04
            self.ticket = None
            self.say("drained", refusal_facts(refusal))
            self.patience.note_loss(now)
        elif refusal.code in PASSING and self.was_ready:
            self.say("lost", refusal_facts(refusal))
            self.lose(refusal, now)
        else:
            self._refused(refusal, now)

    def lose(self, refusal: Refusal | None, now: Instant) -> None:
        """The contract is gone and wanted back: the load pauses, the next SYN waits a little."""
        self.ticket = None
        self._powered = False
        self.patience.note_loss(now)
        self.tell(Lost(refusal=refusal, returning=True))

    def _refused(self, refusal: Refusal, now: Instant) -> None:
        # DPDP-6-02
        again = self.elsewhere(refusal) or self.patience.note_refusal(refusal, now)
        self.say("refused", refusal_facts(refusal) | {"again": again})
        if not again:
            self.finish(NO, refusal)
            return
        self._powered = False
        self.tell(Lost(refusal=refusal, returning=True))

    def _trip(self, refusal: Refusal | None, now: Instant) -> None:
        self.ticket = None
        self._powered = False
        self.tell(Lost(refusal=refusal, returning=True))
        is_its_fault, self._is_its_fault = self._is_its_fault, False
        is_on = self.patience.note_trip(now)
        if is_on and is_its_fault and refusal is not None and self.elsewhere(refusal):
            self.patience.due = 0
        if not is_on:
            self.status = NO
            self.say("off", {"trips": len(self.patience.trips)} | refusal_facts(refusal))
