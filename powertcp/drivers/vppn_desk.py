"""Who may draw what through a gateway: requests are judged, flows ended when their time is over."""

import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, NamedTuple

import trio

from powertcp.drivers.authority import (
    Authority,
    AuthorityConfig,
    marks_of,
    read_authority,
    read_lists_again,
)
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.vppn_books import EmployeeBooks
from powertcp.drivers.vppn_gateway import RelaySession
from powertcp.errors import ConfigError
from powertcp.ledger.memo import who_memo
from powertcp.machine import Event
from powertcp.potcp.events import Ask
from powertcp.potcp.pages import Claim
from powertcp.profile import PowerProfile
from powertcp.reclaim.relay import CopyHeld, Denial, Denied, FlowLeft, Seen
from powertcp.reclaim.track import Phase, Sighting, TrackedFlow, What
from powertcp.registry import Reason, Refusal
from powertcp.sources import Explanation, Explanations
from powertcp.units import NS_PER_S
from powertcp.vppn.access import Allowed, Applicant, OverLimit, Rights, Wish, find_rights
from powertcp.vppn.authorized import Kind
from powertcp.wire.segments import Receipt, Ticket

LOOK_S: Final = 1.0
# revocation lists are looked at so often
REREAD_S: Final = 10
# VPPN-6-05: ALERT comes so long before a certificate ends, or at such a part of a quota
ALERT_S: Final = 10
ALERT_PERCENT: Final = 90
# VPPN-6-03: such a part of a quota is written at once
QUOTA_PARTS: Final = 100
_NOTHING: Final = PowerProfile.parse("1V/0A")
_log = logging.getLogger("gateway")


class Admitted(NamedTuple):
    """Who a device is, by the files as they stand. name: of its account."""

    rights: Rights | Refusal
    name: str


class GatewayDesk:
    """Judges by authorized_watts, certificates, revocation lists and quotas of the ledger."""

    def __init__(
        self, config: AuthorityConfig, unix_ns: Callable[[], int], *, is_start: bool = True
    ) -> None:
        """Read the files. Raises ConfigError for what cannot be used."""
        self.authority = read_authority(config, is_start=is_start)
        self.books: EmployeeBooks | None = None
        self.explanations = Explanations()
        self.counts: dict[str, int] = {}
        self._unix_ns = unix_ns
        self._admitted: dict[RelaySession, Admitted] = {}
        self._flows: dict[TrackedFlow, RelaySession] = {}
        self._alerted: set[tuple[TrackedFlow, int]] = set()
        self._marks = marks_of(config.krls)
        # revocation lists that have expired
        self._stale = 0

    @property
    def flows(self) -> tuple[tuple[TrackedFlow, RelaySession], ...]:
        """Every flow that was asked for and is not over, with its device."""
        return tuple(self._flows.items())

    def admitted(self, session: RelaySession) -> Admitted | None:
        """Return who `session` is."""
        return self._admitted.get(session)

    # -- requests ------------------------------------------------------------------------------

    def admit(self, session: RelaySession) -> None:
        """A handshake proved who `session` is, for the first time or again. VPPN-4-02."""
        self._appraise(session)
        for flow, of in self.flows:
            if of is session:
                self._may_go_on(session, flow)

    def _appraise(self, session: RelaySession) -> Admitted:
        identity, authority = session.identity, self.authority
        applicant = Applicant(
            address=ipaddress.ip_address(session.host.partition("%")[0]),
            is_sealed=identity.is_sealed,
            key=identity.key,
            certificate=identity.certificate,
        )
        now_s = self._unix_ns() // NS_PER_S
        rights = find_rights(authority.watts, applicant, now_s, authority.revocations)
        admitted = self._count(session, rights)
        self._admitted[session] = admitted
        return admitted

    def _count(self, session: RelaySession, rights: Rights | Refusal) -> Admitted:
        """Count for whom `session` draws from now on, and for nobody else."""
        name = ""
        if not isinstance(rights, Refusal):
            is_named = rights.kind in (Kind.KEY, Kind.ISSUER)
            name = rights.name if is_named else session.party
        self._uncount(session, name)
        if isinstance(rights, Refusal) or self.books is None:
            return Admitted(rights, name)
        windows = self.books.windows
        if rights.limits.quotas and not windows.has_room(name, rights):
            return Admitted(Refusal(Reason.NO_CAPACITY, rule="too many quotas are counted"), "")
        windows.note(name, rights, session)
        return Admitted(rights, name)

    def _uncount(self, session: RelaySession, name: str = "") -> None:
        """A session draws no more for whom it drew, unless that is `name`."""
        before = self._admitted.get(session)
        if before is not None and before.name != name and self.books is not None:
            self.books.windows.drop(before.name, session)

    # VPPN-6-02
    def judge(
        self, session: RelaySession, flow: TrackedFlow, asks: tuple[Ask, ...]
    ) -> Denial | None:
        """Return why a SYN or RENEG may not pass, None: it may."""
        admitted = self._appraise(session)
        rights = admitted.rights
        if isinstance(rights, Refusal):
            return Denial(rights)
        if self.books is None or self.books.is_stuck:
            return Denial(Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written"))
        now_s, held_mw = self._unix_ns() // NS_PER_S, self._held_mw(admitted.name, flow)
        used_uj = self.books.used_uj(admitted.name)
        for ask in asks:
            wish = Wish(most=ask.desired, held_mw=held_mw, used_uj=used_uj)
            refusal = rights.allow(wish, now_s, OverLimit.REFUSE)
            if isinstance(refusal, Refusal):
                best = rights.allow(wish, now_s, OverLimit.OFFER)
                return Denial(refusal, best.most.as_sent() if isinstance(best, Allowed) else None)
        self._flows[flow] = session
        return None

    def _held_mw(self, name: str, flow: TrackedFlow) -> int:
        """Return what the other flows of an employee have, or may be granted."""
        return sum(
            claim_mw(one)
            for one, session in self._flows.items()
            if one is not flow
            and self._admitted[session].name == name
            and not self._is_moved(one, flow)
        )

    def _is_moved(self, old: TrackedFlow, flow: TrackedFlow) -> bool:
        """Return whether `flow` is `old` on another path, as its ticket says."""
        account = self.books.of(old) if self.books is not None else None
        if account is None or flow.ticket not in account.tickets:
            return False
        # PTCP-10-03: a ticket that did not help begins a new flow
        return flow.phase is Phase.ASKED or flow.base_uj > 0

    # -- what passed ---------------------------------------------------------------------------

    def heed(self, session: RelaySession, events: Sequence[Event]) -> None:
        """Count what passed, tell of it, and end what has had enough."""
        touched: set[TrackedFlow] = set()
        for event in events:
            match event:
                case Seen(sighting=sighting) if sighting.flow is not None:
                    self._see(session, sighting, sighting.flow)
                    if sighting.what is What.BLOCK:
                        touched.add(sighting.flow)
                case CopyHeld(flow=flow, page=page, number=number):
                    done = partial(session.release, number)
                    if self.books is not None:
                        where = session.name_of(flow)
                        self.books.copy_came(flow, where, page, done, session.lose)
                    else:
                        done()
                case Denied(flow=flow, asks=asks, denial=denial):
                    wanted = asks[0].desired if asks else None
                    self._note(session, flow, "refused", denial.refusal, wanted)
                case FlowLeft(flow=flow, refusal=refusal, is_cut=is_cut):
                    self._left(session, flow, refusal, is_cut=is_cut)
        self._weigh(session, touched)

    def _see(self, session: RelaySession, sighting: Sighting, flow: TrackedFlow) -> None:
        books, segment = self.books, sighting.segment
        if books is None:
            return
        account = books.of(flow)
        match sighting.what:
            case What.READY:
                self._powered(session, flow, books)
            case What.TICKET if account is not None and isinstance(segment, Ticket):
                account.note_ticket(segment.ticket)
            case What.PAGE if isinstance(segment, Receipt):
                books.page_passed(flow, Claim.of(segment.page).end_uj, sighting.energy_uj)
            case What.UNLAWFUL if sighting.refusal is not None:
                self._note(session, flow, "heat", sighting.refusal)
            case What.TRIPPED:
                self._note(session, flow, "tripped", flow.fault or Refusal(Reason.OPERATOR))
            case _:
                pass

    def _powered(self, session: RelaySession, flow: TrackedFlow, books: EmployeeBooks) -> None:
        """READY: a contract is in force."""
        admitted, upstream = self._admitted[session], session.upstream
        if isinstance(admitted.rights, Refusal) or upstream is None or flow.profile is None:
            return
        rights = admitted.rights
        who = who_memo(rights.name, rights.serial)
        books.open(flow, admitted.name, upstream.name, who, session.name_of(flow))
        self.counts["granted"] = self.counts.get("granted", 0) + 1
        _log.info(
            "flow %-24s powered   %s, %s by %s, from %s",
            session.name_of(flow), flow.profile.format(), rights.name, rights.rule, upstream.name,
        )  # fmt: skip

    def _left(
        self, session: RelaySession, flow: TrackedFlow, refusal: Refusal | None, *, is_cut: bool
    ) -> None:
        self._flows.pop(flow, None)
        self._alerted = {one for one in self._alerted if one[0] is not flow}
        if self.books is not None:
            self.books.left(flow, is_cut=is_cut)
        if flow.profile is not None or refusal is not None:
            what = "cut" if is_cut else "closed" if flow.profile is not None else "refused"
            self._note(session, flow, what, refusal or Refusal(Reason.NORMAL))

    def _note(
        self,
        session: RelaySession,
        flow: TrackedFlow,
        what: str,
        refusal: Refusal,
        wanted: PowerProfile | None = None,
    ) -> None:
        """Remember a decision for `explain` and say it."""
        admitted = self._admitted.get(session)
        name = session.name_of(flow)
        self.counts[what] = self.counts.get(what, 0) + 1
        self.explanations.note(
            Explanation(
                flow=name,
                identity=admitted.name if admitted else "",
                what=what,
                refusal=refusal,
                now_ns=now_ns(),
                state=flow.phase.name.lower(),
                wanted=wanted or (flow.asks[0].desired if flow.asks else None),
                given=flow.profile,
            )
        )
        who = admitted.name if admitted and admitted.name else str(session.identity.key or "")
        _log.info("flow %-24s %-9s %s, %s", name, what, refusal.sentence(), who)

    # -- endings -------------------------------------------------------------------------------

    # VPPN-6-05
    def _weigh(self, session: RelaySession, touched: Collection[TrackedFlow]) -> None:
        """End the flows of an employee who has had the quota; tell of it at 90 %.

        touched: flows of `session` of which energy passed.
        """
        books = self.books
        if books is None or not touched:
            return
        for flow in touched:
            books.note(flow)
        admitted = self._admitted[session]
        rights = admitted.rights
        if isinstance(rights, Refusal) or not rights.limits.quotas:
            return
        least_uj = min(quota_uj for _, quota_uj in rights.limits.quotas)
        books.post_bare(admitted.name, -(-least_uj // QUOTA_PARTS))
        used_uj = books.used_uj(admitted.name)
        now_s = self._unix_ns() // NS_PER_S
        refusal = rights.allow(Wish(most=_NOTHING, used_uj=used_uj), now_s, OverLimit.REFUSE)
        if isinstance(refusal, Refusal) and refusal.code == Reason.ENERGY_QUOTA:
            for one, of in self.flows:
                if self._admitted[of].name == admitted.name:
                    self._end(of, one, refusal)
            return
        for period, quota_uj in rights.limits.quotas:
            if used_uj[period] * 100 >= quota_uj * ALERT_PERCENT:
                end_s = period.window(now_s)[1]
                retry_ms = (end_s - now_s) * 1000
                near = Refusal(Reason.ENERGY_QUOTA, used_uj[period], quota_uj, retry_ms)
                for flow in touched:
                    self._alert(session, flow, near, end_s)

    def _alert(self, session: RelaySession, flow: TrackedFlow, refusal: Refusal, key: int) -> None:
        if (flow, key) in self._alerted or flow.phase is not Phase.ENERGISED:
            return
        self._alerted.add((flow, key))
        session.relay.alert(flow, refusal)
        session.flush()

    def _end(self, session: RelaySession, flow: TrackedFlow, refusal: Refusal) -> None:
        if not session.relay.is_ending(flow):
            _log.info("flow %-24s ends      %s", session.name_of(flow), refusal.sentence())
            session.relay.end(flow, refusal, now_ns())
            session.flush()

    def _may_go_on(self, session: RelaySession, flow: TrackedFlow) -> bool:
        """Return whether its device may still draw, for whom the flow began; if not, end it."""
        rights, name = self._admitted[session]
        account = self.books.of(flow) if self.books is not None else None
        # VPPN-4-02
        if isinstance(rights, Refusal):
            self._end(session, flow, rights)
        # VPPN-5-12
        elif account is not None and account.name != name:
            rule = f"{rights.rule}, begun for {account.name}"
            self._end(session, flow, Refusal(Reason.IDENTITY_MISMATCH, rule=rule))
        return not session.relay.is_ending(flow)

    def end_all(self, refusal: Refusal) -> None:
        """End every flow: nothing can be written down any more. LEDG-7-07."""
        for flow, session in self.flows:
            self._end(session, flow, refusal)

    def close(self, session: RelaySession) -> None:
        """Forget a device whose connection is over."""
        for flow, of in self.flows:
            if of is session:
                self._left(session, flow, None, is_cut=True)
        self._uncount(session)
        self._admitted.pop(session, None)

    # -- files and time ------------------------------------------------------------------------

    # VPPN-5-03
    def take(self, authority: Authority) -> None:
        """Go by `authority` from now on, and check every flow at once."""
        self.authority = authority
        watts = authority.watts
        _log.info("authorized watts: %d lines of %s", len(watts.rules), watts.file)
        self.recheck()

    def recheck(self) -> None:
        """Evaluate every device and every flow again."""
        for session in tuple(self._admitted):
            self._appraise(session)
        held_mw: Counter[str] = Counter()
        # VPPN-6-02: the oldest first; what has no power yet is judged when it comes into force
        for flow, session in sorted(self.flows, key=lambda one: one[0].opened_at):
            rights, name = self._admitted[session]
            if not self._may_go_on(session, flow) or flow.profile is None:
                continue
            if isinstance(rights, Refusal) or self.books is None:
                continue
            used_uj = self.books.used_uj(name)
            wish = Wish(most=flow.profile, held_mw=held_mw[name], used_uj=used_uj)
            found = rights.allow(wish, self._unix_ns() // NS_PER_S, OverLimit.REFUSE)
            if isinstance(found, Refusal):
                self._end(session, flow, found)
            else:
                held_mw[name] += flow.profile.power_mw

    async def run(self) -> None:
        """Look each second whose time is over, and at the lists; never returns."""
        looks = 0
        while True:
            await trio.sleep_until(trio.current_time() + LOOK_S)
            looks += 1
            if looks % REREAD_S == 0:
                self._reread()
            self.check()

    # VPPN-5-11
    def _reread(self) -> None:
        """Take revocation lists that were replaced; what is not valid changes nothing."""
        marks = marks_of(self.authority.config.krls)
        if marks == self._marks:
            return
        self._marks = marks
        try:
            self.take(read_lists_again(self.authority))
        except ConfigError as error:
            _log.warning("revocation lists kept: %s", error)

    # VPPN-6-05
    def check(self) -> None:
        """End flows whose certificate or line ended; tell those whose does soon."""
        now_s = self._unix_ns() // NS_PER_S
        stale = sum(one.expires_s <= now_s for one in self.authority.revocations.lists)
        if stale != self._stale:
            self._stale = stale
            self.recheck()
        for flow, session in self.flows:
            # a request may have told who it is by now
            self._may_go_on(session, flow)
        for session, admitted in tuple(self._admitted.items()):
            rights = admitted.rights
            if isinstance(rights, Refusal):
                continue
            ends_s = rights.ends_s
            if ends_s is not None and ends_s <= now_s:
                self.admit(session)
            elif ends_s is not None and ends_s - now_s <= ALERT_S:
                soon = Refusal(Reason.CERT_EXPIRED, ends_s, now_s, rule=rights.rule)
                for flow, of in self.flows:
                    if of is session:
                        self._alert(session, flow, soon, ends_s)


def claim_mw(flow: TrackedFlow) -> int:
    """Return the most that a flow has, or may be granted without being asked again."""
    asked_mw = max((ask.desired.power_mw for ask in flow.asks), default=0)
    terms = (one.power_mw for one in (flow.profile, flow.taken) if one is not None)
    return max([asked_mw, *terms])
