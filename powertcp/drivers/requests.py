"""What a provider answers to who asks for power, or for other terms: grant, offer or refusal."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from powertcp.drivers.billing import Billing, Office
from powertcp.drivers.chronicle import Chronicle
from powertcp.drivers.session import FlowRecord
from powertcp.drivers.verdict import Verdict
from powertcp.potcp import PowerConnection
from powertcp.potcp.events import Ask, Offer, PowerRequested, RenegotiationRequested
from powertcp.potcp.negotiate import Choice
from powertcp.potcp.terms import least_lease_s
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.sources import Admission, Breaker
from powertcp.sources.generator import too_fine
from powertcp.units import Instant, format_current, format_voltage

if TYPE_CHECKING:
    from powertcp.drivers.gatekeeper import Gatekeeper


class Requests:
    """The requests of all flows against one breaker. gate: who may draw what, None: anybody.

    most_lease_s: of a source that may run dry, None for any other: no lease is longer, nothing stays
    granted when it lapses, and what is not used is given back.
    """

    def __init__(
        self,
        breaker: Breaker,
        billing: Billing,
        chronicle: Chronicle,
        office: Office,
        *,
        lease_s: int,
        wake: Callable[[Instant], None],
    ) -> None:
        """Answer from `breaker`; wake(t) sees to it that `settle` is called at t."""
        self._breaker = breaker
        self._billing = billing
        self._chronicle = chronicle
        self._office = office
        self._lease_s = lease_s
        self._wake = wake
        self.gate: Gatekeeper | None = None
        self.most_lease_s: int | None = None
        self._waiting: dict[FlowRecord, tuple[PowerRequested, Verdict]] = {}

    def ask(
        self, record: FlowRecord, event: PowerRequested, now: Instant, refusal: Refusal | None
    ) -> None:
        """Answer a SYN, now or once others have been shed; with `refusal`, whatever it asks for."""
        record.metered = event.meter is not None
        verdict = Verdict((), refusal) if refusal is not None else self._judge(record, event.asks)
        refusal = self._unfit(record, event) if verdict.asks else verdict.refusal
        if refusal is not None:
            best = verdict.best if self._is_supplied(verdict.best) else None
            self._refuse(record, event, Choice(None, -1, refusal=refusal, best=best), now)
            return
        admission = self._breaker.admit(record, verdict.asks, record.session.peer, now)
        if admission.choice is None:
            record.state = "waiting"
            self._waiting[record] = event, verdict
            self._wake(now)
            return
        self._answer(record, event, verdict, admission, now)

    # VPPN-5-02
    def _judge(self, record: FlowRecord, asks: tuple[Ask, ...]) -> Verdict:
        # FWRL-4-04
        if self.most_lease_s is not None:
            asks = tuple(_shortened(ask, self.most_lease_s) for ask in asks)
        return Verdict(asks) if self.gate is None else self.gate.judge(record, asks)

    # DPDP-10-05
    def judge_moved(self, record: FlowRecord, profile: PowerProfile) -> Refusal | None:
        """Return why a contract that another provider of the realm gave may not go on here."""
        verdict = self._judge(record, (Ask(profile, profile),))
        return verdict.refusal or self._billing.refusal(record)

    def _is_supplied(self, profile: PowerProfile | None) -> bool:
        return profile is not None and any(one.feeds(profile) for one in self._breaker.supplies)

    def _unfit(self, record: FlowRecord, event: PowerRequested) -> Refusal | None:
        """Return why nothing could be granted whatever is free."""
        # LEDG-7-07
        if (refusal := self._billing.refusal(record)) is not None:
            return refusal
        sampling, desired = event.sampling, event.asks[0].desired
        # PTCP-3.2-01
        if not 10 <= sampling.rate_hz <= 100_000:
            limit = 10 if sampling.rate_hz < 10 else 100_000
            return Refusal(Reason.SAMPLING, sampling.rate_hz, limit)
        if sampling.pairs != desired.pairs or sampling.encoding:
            return Refusal(Reason.SAMPLING, sampling.pairs, desired.pairs, text="pairs differ")
        return None

    def _answer(
        self,
        record: FlowRecord,
        event: PowerRequested,
        verdict: Verdict,
        admission: Admission,
        now: Instant,
    ) -> None:
        """Say what the breaker decided."""
        choice, machine = self._permitted(record, verdict, admission), record.session.machine
        if choice.grant is None and not choice.offers:
            self._breaker.release(record)
            self._refuse(record, event, choice, now)
            return
        record.supply = admission.supply
        granted = (choice.grant,) if choice.grant else tuple(offer for offer, _ in choice.offers)
        unfit = next(filter(None, (too_fine(one, event.sampling) for one in granted)), None)
        if unfit is None and choice.grant is not None:
            unfit = self._lease_refusal(machine, choice.grant, event)
        if unfit is not None:
            self._breaker.release(record)
            self._refuse(record, event, Choice(None, -1, refusal=unfit), now)
            return
        meter, tariff = self._billing.offer(record)
        if choice.grant is None:
            refusal = choice.refusal or Refusal(Reason.NO_CAPACITY)
            record.state = "offered"
            self._chronicle.note(record, "offered", refusal, now, wanted=event.asks[0].desired)
            machine.counter(
                record.flow, choice.offers, refusal, sampling=event.sampling,
                tariff=tariff, meter=meter, now=now,
            )  # fmt: skip
            return
        record.state = "granted"
        wished = event.fallback if self.most_lease_s is None else None
        fallback = _fallback(choice.grant, wished)
        machine.grant(
            record.flow, choice.grant, fallback=fallback, sampling=event.sampling,
            tariff=tariff, meter=meter, now=now,
        )  # fmt: skip

    # VPPN-5-02
    def _permitted(self, record: FlowRecord, verdict: Verdict, admission: Admission) -> Choice:
        """Return what the breaker decided as far as whoever asks may have it."""
        choice = admission.choice or Choice(None, -1, refusal=Refusal(Reason.NO_CAPACITY))
        if self.gate is None:
            return choice
        if (ended := self.gate.refusal(record)) is not None:
            return Choice(None, -1, refusal=ended)
        if choice.grant is not None and verdict.refusal is None:
            return choice
        offers = choice.offers
        if choice.grant is not None:
            offers = (Offer(choice.grant.with_type(ProfileType.OFFER)),)
        offers = tuple(one for one in offers if self.gate.is_within(record, one[0]))
        best = choice.best if choice.best and self.gate.is_within(record, choice.best) else None
        refusal = verdict.refusal or choice.refusal
        return Choice(None, -1, offers, refusal, best)

    def _lease_refusal(
        self, machine: PowerConnection, grant: PowerProfile, event: PowerRequested
    ) -> Refusal | None:
        """Refuse a lease that ends before a lost connection could be noticed."""
        # PTCP-4-06
        least_s = least_lease_s(machine.silence_ms(event.maintain))
        lease_s = grant.lease_s or self._lease_s
        return Refusal(Reason.LEASE_RANGE, lease_s, least_s) if lease_s < least_s else None

    def _refuse(
        self, record: FlowRecord, event: PowerRequested, choice: Choice, now: Instant
    ) -> None:
        refusal = choice.refusal or Refusal(Reason.NO_CAPACITY)
        record.state = "refused"
        self._chronicle.note(record, "refused", refusal, now, wanted=event.asks[0].desired)
        record.session.machine.refuse(record.flow, refusal, choice.best, now=now)

    # -- once others have been shed ------------------------------------------------------------

    def settle_soon(self, now: Instant) -> None:
        """See to it that requests that wait are looked at, once this wake-up is over."""
        if self._breaker.waiting:
            self._wake(now)

    def settle(self, now: Instant) -> None:
        """Answer the requests that waited for others to be shed."""
        if not self._breaker.waiting:
            return
        for key, admission in self._breaker.retry(now):
            if isinstance(key, FlowRecord) and key in self._waiting:
                event, verdict = self._waiting.pop(key)
                answer = partial(self._answer, key, event, verdict, admission, now)
                self._office.attempt(key, now, answer)
                if self.gate is not None:
                    self.gate.look(key)

    def forget(self, record: FlowRecord) -> None:
        """Answer nothing more on a flow that is over."""
        self._waiting.pop(record, None)
        if self.gate is not None:
            self.gate.leave(record)

    # -- other terms -------------------------------------------------------------------------

    def renegotiate(self, record: FlowRecord, event: RenegotiationRequested, now: Instant) -> None:
        """Answer a RENEG."""
        machine = record.session.machine
        verdict = self._judge(record, event.asks)
        unfit = verdict.refusal or self._billing.unmetered(record) or self._too_fine(record, event)
        if unfit is None:
            choice = self._breaker.renegotiate(record, verdict.asks, now)
        else:
            choice = Choice(None, -1, refusal=unfit)
        if choice.grant is None or record.profile is None:
            refusal = choice.refusal or Refusal(Reason.NO_CAPACITY)
            self._chronicle.note(record, "kept", refusal, now, wanted=event.asks[0].desired)
            machine.answer(record.flow, accept=False, refusal=refusal, now=now)
            return
        grant = choice.grant.with_type(ProfileType.GRANT, lease_s=record.profile.lease_s)
        machine.answer(record.flow, accept=True, profile=grant, now=now)
        self._chronicle.say(record, "changed", terms_text(grant))

    def _too_fine(self, record: FlowRecord, event: RenegotiationRequested) -> Refusal | None:
        """Refuse terms that the samples of this flow could not say."""
        if record.profile is None or record.sampling is None:
            return None
        supply = self._breaker.supplies[record.supply].profile
        most_ma = max(ask.desired.current_ma for ask in event.asks)
        most = record.profile.with_type(
            ProfileType.GRANT, current_ma=min(most_ma, supply.current_ma)
        )
        return too_fine(most, record.sampling)


def terms_text(profile: PowerProfile) -> str:
    """Return voltage and current for people."""
    return f"{format_voltage(profile.voltage_mv)} {format_current(profile.current_ma)}"


def _shortened(ask: Ask, most_s: int) -> Ask:
    """Return a wish with G, and a lease of at most `most_s`; one below 5 s stays, and is refused."""
    desired = ask.desired
    lease_s = min(desired.lease_s or most_s, most_s)
    return Ask(desired.with_type(desired.type, lease_s=lease_s, giveback=True), ask.minimum)


def _fallback(grant: PowerProfile, wished: PowerProfile | None) -> PowerProfile | None:
    """Return the fallback under `grant`: at most what was wished, the same but for the current."""
    if wished is None:
        return None
    current_ma = min(wished.current_ma, grant.current_ma)
    return grant.with_type(ProfileType.FALLBACK, current_ma=current_ma)
