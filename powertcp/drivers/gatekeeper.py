"""Who may draw what of a provider: each request is judged, each flow again when that may change."""

import ipaddress
import logging
from collections.abc import Callable, Sequence
from functools import partial

import trio

from powertcp.drivers.authority import (
    Authority,
    AuthorityConfig,
    marks_of,
    read_authority,
    read_lists_again,
)
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.provider_books import ProviderBooks
from powertcp.drivers.session import FlowRecord, Session
from powertcp.drivers.shares import House, Shares
from powertcp.drivers.verdict import Verdict, is_within, judge
from powertcp.drivers.windows import Windows
from powertcp.errors import ConfigError
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.sources import held_mw
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.vppn.access import Applicant, Rights, find_rights

# SHED gives so much time to who may draw no longer
END_MS = 10_000
WATCH_S = 10
LOOK_NS = 10 * NS_PER_S  # a clock of the wall may be set
RETRY_NS = 100 * NS_PER_MS
_POWERED = frozenset(("energised", "ramping", "resumed"))
_OVER = frozenset(("closing", "closed", "refused", "tripped"))
_log = logging.getLogger("provider")


class Gatekeeper:
    """Judges by authorized_watts, certificates and revocation lists; the files are read again whole.

    An identity is the key that a line names, or that a certificate speaks for; whoever a line about
    guests or clear power lets in is its address.
    """

    def __init__(self, config: AuthorityConfig, house: House, unix_ns: Callable[[], int]) -> None:
        """Read the files; judge the flows of `house`. Raises ConfigError for what cannot be used."""
        self.authority = read_authority(config, is_start=True)
        self._house = house
        self._unix_ns = unix_ns
        self._books: ProviderBooks | None = None
        self._shares = Shares(house, self, unix_ns)
        self._ending: dict[FlowRecord, tuple[Refusal, Instant]] = {}
        self._moment_ns: int | None = None  # Unix time at which something begins or ends

    async def begin(self, books: ProviderBooks | None) -> None:
        """Count quotas in `books`; called before there are flows."""
        self._books = books
        if books is not None:
            windows = Windows(books.ledger, self._unix_ns)
            await windows.load()
            self._shares.windows = books.allowances.windows = windows
            books.allowances.on_wait = self._shares.suspend

    # -- requests ------------------------------------------------------------------------------

    # VPPN-5-02
    def judge(self, record: FlowRecord, asks: Sequence[Ask]) -> Verdict:
        """Return what of `asks` may be granted to who asks on `record`, a SYN or a RENEG."""
        rights = self._appraise(record.session)
        if isinstance(rights, Refusal):
            return Verdict((), rights)
        if not self._shares.has_room(record, rights):
            return Verdict((), Refusal(Reason.NO_CAPACITY, rule="too many quotas are counted"))
        is_new = record not in self._shares
        if not is_new and (refusal := self._misfit(record, record.party, rights)) is not None:
            return Verdict((), refusal)
        if is_new:
            record.rights = rights
        else:
            self._shares.enter(record, rights)
        standing = self._shares.standing(record)
        verdict = judge(rights, asks, standing, self.authority.config.over)
        if is_new:
            if not verdict.asks:
                return verdict  # what is refused changes nothing
            self._shares.enter(record, rights)
        most_mw = max((held_mw(ask.desired) for ask in verdict.asks), default=0)
        self._shares.ask(record, most_mw)
        self._wait(rights)
        return verdict

    def is_within(self, record: FlowRecord, profile: PowerProfile) -> bool:
        """Return whether `profile` may be granted on a flow that was judged."""
        rights = record.rights
        return rights is not None and is_within(rights, profile, self._shares.standing(record))

    def _appraise(self, session: Session) -> Rights | Refusal:
        """Return what the other end of `session` may draw, or why nothing."""
        identity, authority = session.identity, self.authority
        applicant = Applicant(
            address=ipaddress.ip_address(session.host.partition("%")[0]),
            is_sealed=identity.is_sealed,
            key=identity.key,
            certificate=identity.certificate,
        )
        now_s = self._unix_ns() // NS_PER_S
        rights = find_rights(authority.watts, applicant, now_s, authority.revocations)
        if isinstance(rights, Rights) and rights.limits.quotas and self._books is None:
            return Refusal(Reason.POLICY, rule=f"{rights.rule} quota, and there is no ledger")
        return rights

    def leave(self, record: FlowRecord) -> None:
        """A flow is over."""
        self._ending.pop(record, None)
        self._shares.leave(record)

    # -- flows that there are ------------------------------------------------------------------

    # VPPN-5-03
    def reload(self, config: AuthorityConfig) -> None:
        """Read the files again and check every flow. Raises ConfigError; then the old ones stay."""
        self.take(read_authority(config, is_start=False))

    def take(self, authority: Authority) -> None:
        """Go by `authority` from now on, and check every flow at once."""
        self.authority = authority
        watts = authority.watts
        _log.info("authorized watts: %d lines of %s", len(watts.rules), watts.file)
        self.recheck()

    # VPPN-5-11
    async def watch(self) -> None:
        """Take each revocation list that is replaced, within WATCH_S; a bad one changes nothing."""
        seen = marks_of(self.authority.config.krls)
        while True:
            await trio.sleep(WATCH_S)
            marks = marks_of(self.authority.config.krls)
            if marks == seen:
                continue
            seen = marks
            try:
                self.take(read_lists_again(self.authority))
            except ConfigError as error:
                _log.warning("revocation lists kept: %s", error)

    # VPPN-4-02
    def proved_again(self, session: Session) -> None:
        """Evaluate again: a handshake proved the identity of `session` once more."""
        records = [record for record in session.flows.values() if record in self._shares]
        self._recheck(session, records)
        # what one of them may have changes with any of them: once for all of an identity
        for party in dict.fromkeys(record.party for record in records):
            self._shares.share(party)

    def recheck(self) -> None:
        """Evaluate every flow again: another file, another time, another window of a quota."""
        self._moment_ns = None
        records: dict[Session, list[FlowRecord]] = {}
        for record in self._shares.flows:
            records.setdefault(record.session, []).append(record)
        for session, flows in records.items():
            self._recheck(session, flows)
        self._shares.share_all()
        if self._books is not None:
            self._books.revise()

    def _recheck(self, session: Session, records: Sequence[FlowRecord]) -> None:
        """Evaluate flows of `session` again: a certificate is verified once for all of them."""
        if not records:
            return
        found = self._appraise(session)
        for record in records:
            self._ending.pop(record, None)
            if isinstance(found, Refusal):
                self.end(record, found)
            elif (refusal := self._misfit(record, record.party, found)) is not None:
                self.end(record, refusal)
            else:
                self._enter(record, found)
        if isinstance(found, Rights):
            self._wait(found)

    # VPPN-5-12
    def _misfit(self, record: FlowRecord, party: str, rights: Rights) -> Refusal | None:
        """Return why a flow that began for `party` may not go on by `rights`."""
        if record.party_by(rights) != party:
            return Refusal(Reason.IDENTITY_MISMATCH, rule=f"{rights.rule}, begun for {party}")
        if rights.limits.quotas and not record.metered:
            return Refusal(Reason.PAYMENT_REQUIRED, rule=f"{rights.rule} quota, and no receipts")
        return None

    def _enter(self, record: FlowRecord, rights: Rights) -> None:
        """Let a flow go on by `rights`."""
        self._shares.enter(record, rights)
        if rights.limits.quotas and self._books is not None:
            self._books.limited(record)

    def look(self, record: FlowRecord) -> None:
        """Share again what the identity of a flow may have: it waited for its power."""
        self._shares.look(record)

    def changed(self, record: FlowRecord) -> None:
        """The terms of a flow are others."""
        self._shares.changed(record)

    def moved(self, old: FlowRecord, new: FlowRecord) -> Refusal | None:
        """A ticket moved a flow; return why it may not be drawn where it is."""
        self._ending.pop(old, None)
        found = self._appraise(new.session)
        refusal = found if isinstance(found, Refusal) else self._misfit(new, old.party, found)
        if isinstance(found, Refusal) or refusal is not None:
            new.rights = old.rights  # by which its end is posted
            self._shares.leave(old)
            return refusal
        self._shares.move(old, new, found)
        self._enter(new, found)
        self._wait(found)
        return None

    # -- endings -------------------------------------------------------------------------------

    def end(self, record: FlowRecord, refusal: Refusal) -> None:
        """Shed a flow to 0 W, and close it then. VPPN-4-02."""
        if record not in self._ending:
            self._ending[record] = refusal, now_ns() + END_MS * NS_PER_MS
            self._house.wake(now_ns())

    def refusal(self, record: FlowRecord) -> Refusal | None:
        """Return why a flow is being ended, None if it is not."""
        ending = self._ending.get(record)
        return ending[0] if ending else None

    def check(self, now: Instant) -> Instant | None:
        """Do what is due; return when to call again, None: when there is news."""
        if self._moment_ns is not None and self._unix_ns() >= self._moment_ns:
            self.recheck()
        for record in tuple(self._ending):
            self._close(record, now)
        times = [now + RETRY_NS] if self._ending else []
        if self._moment_ns is not None:
            times.append(now + min(max(1, self._moment_ns - self._unix_ns()), LOOK_NS))
        return min(times, default=None)

    def _close(self, record: FlowRecord, now: Instant) -> None:
        """Close a flow once it is shed, or without that if nothing can be shed."""
        refusal, until = self._ending[record]
        holding, machine = self._house.breaker.holdings.get(record), record.session.machine
        if record.state in _OVER or holding is None or record.flow not in machine.flows:
            return
        if record.state in _POWERED and holding.mw and now < until:
            return
        self._house.quiet(record, "closing")
        close = partial(machine.close_flow, record.flow, refusal=refusal, now=now)
        self._house.attempt(record, now, close)

    def _wait(self, rights: Rights) -> None:
        """See to it that flows are looked at when `rights` end, or a list or window does."""
        moments = [each.expires_s for each in self.authority.revocations.lists]
        if rights.ends_s is not None:
            moments.append(rights.ends_s)
        if rights.limits.quotas and self._shares.windows is not None:
            moments.append(self._shares.windows.next_s())
        unix_ns, due = self._unix_ns(), self._moment_ns
        later = [ns for s in moments if (ns := s * NS_PER_S) > unix_ns]
        if later and (due is None or min(later) < due):
            self._moment_ns = min(later)
            self._house.wake(now_ns())
