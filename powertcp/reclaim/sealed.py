"""Power that no one in the middle can look into: sealed segments, and feeds whose octets are signed.

What is let pass is counted as claimed, what is not is cut: heat for whoever sent it, never credit
here. VPPN section 7, FWRL-2-02.
"""

from dataclasses import dataclass, field
from typing import Final

from powertcp.dve import EnergyRegister, integrate
from powertcp.errors import DecodeError
from powertcp.potcp.feed import ANY_FEED, feed_segment, refuse_feed
from powertcp.potcp.flow import sampling_fault
from powertcp.profile import PowerProfile
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.firewall import refusal_of
from powertcp.reclaim.leg import Leg
from powertcp.reclaim.middle import Middle
from powertcp.reclaim.policy import Accept, Decision, Drop, Facts, State
from powertcp.reclaim.track import End
from powertcp.reclaim.watch import facts_of, note_profile, way_of
from powertcp.registry import Flag, Reason, Refusal
from powertcp.units import Instant
from powertcp.wire.frames import RawSegment, decode_segment
from powertcp.wire.options import Feed
from powertcp.wire.segments import FeedSegment, Sealed

# PTCP-14-01: outer flows of a connection, and feeds, whose claims are followed
FLOWS_MAX: Final = 256
FEEDS_MAX: Final = 16
# VPPN-3-05: nothing is said of energy
_PRIVATE: Final = (1 << 64) - 1
_SYN_ACK: Final = Flag.SYN | Flag.ACK


@dataclass(slots=True, eq=False)
class _Passing:
    """What passes unseen. claims: ESN that was said last, by outer flow. profile: as it is said."""

    account: FlowAccount
    sender: End
    feed: Feed | None = None
    claims: dict[int, int] = field(default_factory=dict)
    profile: PowerProfile | None = None
    register: EnergyRegister | None = None
    is_marking: bool = False


class SealedPower:
    """The sealed power and the feeds of one connection."""

    __slots__ = ("_feeds", "_middle", "_sealed")

    def __init__(self, middle: Middle) -> None:
        self._middle = middle
        self._sealed: _Passing | None = None
        self._feeds: dict[bytes, _Passing] = {}

    def take(self, leg: Leg, raw: RawSegment, now: Instant) -> None:
        """Take a SEALED or FEED segment."""
        try:
            segment = decode_segment(raw)
        except DecodeError as error:
            self._middle.fail(leg, Refusal(error.code, error.value, error.limit), now)
            return
        if leg.end is End.CLIENT and self._middle.target is None:
            self._middle.park(None, raw)
        elif isinstance(segment, Sealed):
            self._take_sealed(leg, raw, segment, now)
        elif isinstance(segment, FeedSegment):
            self._take_feed(leg, raw, segment, now)

    @property
    def is_idle(self) -> bool:
        """Whether nothing passes."""
        return self._sealed is None and not self._feeds

    @property
    def _outside(self) -> End:
        """The side that is not protected: what is claimed is claimed by it."""
        return End.SERVER if self._middle.is_client_inside else End.CLIENT

    # --- sealed -------------------------------------------------------------------------------

    # FWRL-2-02
    def _take_sealed(self, leg: Leg, raw: RawSegment, segment: Sealed, now: Instant) -> None:
        passing, profiles = self._sealed, segment.options.profiles
        is_new = passing is None
        if passing is None:
            account = self._middle.account_of(0, self._outside, now, "sealed")
            passing = _Passing(account, leg.end)
        state = State.NEW if is_new else State.ENERGISED
        # FWRL-3-11
        for profile in profiles or ((None,) if is_new else ()):
            passing.profile = profile
            if not self._judge(leg, passing, state, segment, now):
                return
        self._sealed = passing
        self._count(leg.end, passing, segment)
        self._middle.want()
        self._middle.pass_raw(leg, raw, is_marked=passing.is_marking)

    def _judge(
        self, leg: Leg, passing: _Passing, state: State, segment: Sealed | None, now: Instant
    ) -> bool:
        decision, facts = self._decide(passing, state, now)
        verdict = decision.verdict
        if isinstance(verdict, Accept):
            passing.is_marking = verdict.is_marking
            return True
        # it is claimed, not integrated: never credited
        if segment is not None and segment.esn != _PRIVATE:
            self._claim(leg.end, passing, segment.esn)
        self._refuse(leg, passing, decision, facts, now)
        return False

    def _decide(self, passing: _Passing, state: State, now: Instant) -> tuple[Decision, Facts]:
        middle = self._middle
        way = way_of(passing.sender, is_client_inside=middle.is_client_inside)
        facts = facts_of(state, way, middle.ends(passing.sender))
        facts.is_sealed = passing.feed is None
        if passing.feed is not None and passing.feed.feed_id != ANY_FEED:
            facts.feed = passing.feed.feed_id
        if passing.profile is not None:
            note_profile(facts, passing.profile)
        if facts.peer is None and facts.is_sealed:
            facts.peer = self._bound_key()
        return middle.firewall.judge(passing.account, facts, now), facts

    def _bound_key(self) -> bytes | None:
        """Return the key that the operator binds to the address outside, or inside."""
        middle = self._middle
        for party in reversed(middle.ends(End.CLIENT if middle.is_client_inside else End.SERVER)):
            if party is not None and party.address is not None:
                key = middle.firewall.peer_at(party.address)
                if key is not None:
                    return key
        return None

    def _refuse(
        self, leg: Leg, passing: _Passing, decision: Decision, facts: Facts, now: Instant
    ) -> None:
        """Cut: what was sealed cannot be answered in clear once it is under way."""
        firewall = self._middle.firewall
        refusal = refusal_of(decision, facts)
        is_silent = isinstance(decision.verdict, Drop) or self._sealed is not None
        firewall.tell(passing.account, "dropped" if is_silent else "refused", now, refusal=refusal)
        firewall.flows.close(passing.account)
        self._sealed = None
        if is_silent:
            self._middle.drop(leg, now)
        else:
            self._middle.fail(leg, refusal, now)

    def _claim(self, sender: End, passing: _Passing, energy_uj: int) -> None:
        whose, _ = self._middle.ends(sender)
        firewall = self._middle.firewall
        firewall.claim(passing.account, energy_uj, firewall.known_as(whose.account))

    def _count(self, sender: End, passing: _Passing, segment: Sealed) -> None:
        """Count what headers say that was delivered while it passed here."""
        if segment.esn == _PRIVATE:
            return
        before_uj = passing.claims.get(segment.flow)
        if before_uj is None:
            if len(passing.claims) < FLOWS_MAX:
                passing.claims[segment.flow] = segment.esn
        elif segment.esn > before_uj:
            passing.claims[segment.flow] = segment.esn
            self._claim(sender, passing, segment.esn - before_uj)

    # --- feeds --------------------------------------------------------------------------------

    # FWRL-3-16
    def _take_feed(self, leg: Leg, raw: RawSegment, segment: FeedSegment, now: Instant) -> None:
        feed = segment.options.feed
        if feed is None:
            self._middle.fail(leg, Refusal(Reason.BAD_OPTION, 0), now)
            return
        passing = self._feeds.get(feed.feed_id)
        if passing is None and segment.flags == _SYN_ACK:
            passing = self._name(leg, feed, now)
        if passing is None:
            if segment.flags != Flag.SYN or len(self._feeds) >= FEEDS_MAX:
                # nobody asked for it
                return
            account = self._middle.account_of(0, self._outside, now, f"feed-{feed.feed_id.hex()}")
            passing = _Passing(account, leg.end, feed)
            decision, facts = self._decide(passing, State.NEW, now)
            if not isinstance(decision.verdict, Accept):
                self._refuse_feed(leg, passing, decision, facts, now)
                return
            passing.is_marking = decision.verdict.is_marking
            self._feeds[feed.feed_id] = passing
        self._measure(leg, passing, segment)
        self._middle.want()
        self._middle.pass_raw(leg, raw, is_marked=passing.is_marking)
        if segment.flags & Flag.FIN:
            self._leave_feed(feed.feed_id, now)

    # FWRL-3-16
    def _name(self, leg: Leg, feed: Feed, now: Instant) -> _Passing | None:
        """Judge by its name what was asked for without one; None: nobody asked, or it may not be."""
        passing = self._feeds.get(ANY_FEED)
        if passing is None or passing.sender is leg.end:
            return None
        del self._feeds[ANY_FEED]
        asked, passing.feed = passing.feed, feed
        decision, facts = self._decide(passing, State.OFFERED, now)
        if isinstance(decision.verdict, Accept):
            self._feeds[feed.feed_id] = passing
            passing.is_marking = decision.verdict.is_marking
            return passing
        passing.feed = asked
        leg.send(feed_segment(feed, Flag.FIN))
        self._refuse_feed(leg, passing, decision, facts, now)
        return None

    def _measure(self, leg: Leg, passing: _Passing, segment: FeedSegment) -> None:
        """Integrate a block of a feed that passes."""
        if segment.flags & ~Flag.ECE or leg.end is passing.sender or not segment.payload:
            return
        sampling = segment.options.sampling
        # one that no sample has a worth at is for who hears the feed to refuse
        if passing.register is None and sampling is not None and not sampling_fault(sampling, ()):
            passing.register = EnergyRegister(sampling)
        if passing.register is None:
            return
        try:
            a = integrate(segment.payload)
        except DecodeError:
            return
        before_uj = passing.register.esn_uj
        energy_uj = passing.register.add(max(0, a)) - before_uj
        self._middle.firewall.pass_on(passing.account, energy_uj)

    def _refuse_feed(
        self, leg: Leg, passing: _Passing, decision: Decision, facts: Facts, now: Instant
    ) -> None:
        middle = self._middle
        refusal = refusal_of(decision, facts)
        is_dropped = isinstance(decision.verdict, Drop)
        what = "dropped" if is_dropped else "refused"
        middle.firewall.tell(passing.account, what, now, refusal=refusal)
        middle.firewall.flows.close(passing.account)
        if is_dropped or passing.feed is None:
            middle.drop(leg, now)
            return
        middle.leg(passing.sender).send(refuse_feed(passing.feed, refusal))
        middle.churn(leg, now)

    def _leave_feed(self, name: bytes, now: Instant) -> None:
        passing = self._feeds.pop(name)
        self._middle.firewall.tell(passing.account, "closed", now)
        self._middle.firewall.flows.close(passing.account)

    # --- the connection -----------------------------------------------------------------------

    # FWRL-3-02
    def judge_again(self, now: Instant) -> None:
        """Judge what passes again; what may not any more is cut."""
        for name, feed in tuple(self._feeds.items()):
            decision, facts = self._decide(feed, State.ENERGISED, now)
            if not isinstance(decision.verdict, Accept):
                self._leave_feed(name, now)
                self._middle.fail(self._middle.leg(feed.sender), refusal_of(decision, facts), now)
                return
            feed.is_marking = decision.verdict.is_marking
        if self._sealed is not None:
            leg = self._middle.leg(self._sealed.sender)
            self._judge(leg, self._sealed, State.ENERGISED, None, now)

    def close(self, now: Instant) -> None:
        """The connection is over."""
        for name in tuple(self._feeds):
            self._leave_feed(name, now)
        sealed, self._sealed = self._sealed, None
        if sealed is not None:
            self._middle.firewall.tell(sealed.account, "closed", now)
            self._middle.firewall.flows.close(sealed.account)
