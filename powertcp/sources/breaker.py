"""A rating and what is left of it: admit, hold, shed, restore, explain.

All sums are integers. What a flow holds is its contract's power rounded up to the mW, and its
current; the sum of both over all flows never rises above the rating and the supply's amperes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from powertcp.errors import LocalProtocolError, invariant
from powertcp.potcp.allocate import Claim, allocate
from powertcp.potcp.events import Ask
from powertcp.potcp.negotiate import Choice, choose
from powertcp.profile import PowerProfile, in_range
from powertcp.registry import Reason, Refusal
from powertcp.sources.holding import (
    Admission,
    Change,
    Holding,
    Key,
    Waiting,
    held_mw,
    hold,
    least_mw_of,
    promised_mw,
    range_of,
    rank_of,
    with_power,
    worst_first,
)
from powertcp.sources.ramp import Ramp
from powertcp.sources.source import Supply
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

SPREAD_NS = 10 * NS_PER_S
RESTORE_PERCENT = 105
CONGESTED_PERCENT = 90
GIVE_BACK_PERCENT = 90  # of what is held: a use above that leaves nothing worth a change
MAX_WAITING = 256  # requests that wait until others are shed; more are refused at once
WAIT_NS = 3 * NS_PER_S  # below T_OPEN, so that the sink still listens to the answer
RETRY_MS = 5_000
CHECK_SOON_NS = 100 * NS_PER_MS
STEP_PERCENT = 2  # smaller raises that do not reach the request are not worth a change

Draw = Callable[[int], int]
Busy = Callable[[Key], bool]


def _never(_: Key) -> bool:
    return False


@dataclass(slots=True)
class Breaker:
    """A rating shared by flows. Keys are any hashable names, peers are octets.

    rating_mw: never exceeded. supplies: each with its own amperes. ramp_mw_per_s: how fast power
    may be connected, None at once. per_peer_mw: the most one peer may hold. best_priority: the
    best class anyone may ask for. draw(n) returns 0..n-1 and spreads restores. because: what the
    rating depends on, said to whoever gets less for want of it.
    """

    rating_mw: int
    supplies: list[Supply]
    draw: Draw
    ramp_mw_per_s: int | None = None
    per_peer_mw: int | None = None
    best_priority: int = 1
    because: str = ""
    held_mw: int = 0
    held_ma: list[int] = field(default_factory=list)
    holdings: dict[Key, Holding] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    _peers: dict[bytes, int] = field(default_factory=dict)
    _arrivals: int = 0
    _ramp: Ramp | None = None
    _wanting: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Start with nothing held."""
        self.held_ma = [0] * len(self.supplies)
        if self.ramp_mw_per_s:
            self._ramp = Ramp(self.ramp_mw_per_s)

    # -- admission ---------------------------------------------------------------------------

    def admit(self, key: Key, asks: Sequence[Ask], peer: bytes, now: Instant) -> Admission:
        """Answer a request and hold what the answer promises until `release`.

        The choice is None when power of lesser claims is being shed for it: call `plan` and
        later `retry`.
        """
        if key in self.holdings:
            raise LocalProtocolError(f"flow {key} holds power already")
        self._arrivals += 1
        permitted = self._permitted(asks)
        if not permitted:
            return Admission(Choice(None, -1, refusal=self._denial(asks)))
        request = Waiting(key, permitted, peer, self._arrivals, now + WAIT_NS)
        stands_back = bool(self.waiting) and any(
            rank_of(other) <= rank_of(request) for other in self.waiting
        )
        choice = self._choose(request, none_free=stands_back)
        if choice.grant is None and self._shedding_helps(request, choice):
            self.waiting.append(request)
            return Admission(None)
        return self._conclude(request, self._ramped(request, choice, now))

    def retry(self, now: Instant) -> list[tuple[Key, Admission]]:
        """Answer the waiting requests that can be served, and those whose time is over."""
        answered: list[tuple[Key, Admission]] = []
        overtaken = False
        for request in sorted(self.waiting, key=rank_of):
            # nobody overtakes a better claim that still waits
            choice = self._choose(request, none_free=overtaken)
            full = choice.grant is not None and held_mw(choice.grant) >= self._most(request)
            if full or now >= request.until:
                self.waiting.remove(request)
                choice = self._ramped(request, choice, now)
                answered.append((request.key, self._conclude(request, choice)))
            else:
                overtaken = True
        return answered

    def release(self, key: Key) -> int:
        """Give back what `key` holds or waits for; return mW, 0 for a flow that held nothing."""
        # PTCP-9-05: held exactly while the flow is not LISTEN, given back once
        holding = self.holdings.pop(key, None)
        if holding is None:
            self.waiting = [request for request in self.waiting if request.key != key]
            return 0
        self._wanting.discard(key)
        self._account(holding, -1)
        return holding.mw

    def accepted(self, key: Key, profile: PowerProfile) -> None:
        """Hold exactly what the sink took of a grant or a counter-offer, from now on `live`."""
        holding = self.holdings[key]
        if not in_range(profile, holding.desired, holding.minimum):
            holding.desired, holding.minimum = profile, None
        self._lower(holding, profile)
        holding.live = True
        self._note_want(holding)

    def move(self, old: Key, new: Key, peer: bytes) -> Refusal | None:
        """Let `new` take over what `old` holds: a flow that was resumed on another path.

        Returns why `peer` may not have it: end `new` then.
        """
        holding = self.holdings.pop(old)
        self._account(holding, -1)
        holding.key, holding.peer, holding.outstanding = new, peer, False
        holding.live = True
        self._account(holding, +1)
        self.holdings[new] = holding
        if old in self._wanting:
            self._wanting.discard(old)
            self._wanting.add(new)
        total_mw = self._peers.get(peer, 0)
        if self.per_peer_mw is None or not holding.mw or total_mw <= self.per_peer_mw:
            return None
        return Refusal(Reason.WATT_LIMIT, total_mw, self.per_peer_mw)

    def ramp_ns(self, key: Key, now: Instant) -> Duration:
        """Return how long the output of `key` needs to come up; flows ramp one after another."""
        if self._ramp is None:
            return 0
        return self._ramp.connect(self.holdings[key].mw, now)

    # -- renegotiation -----------------------------------------------------------------------

    def renegotiate(self, key: Key, asks: Sequence[Ask], now: Instant) -> Choice:
        """Answer a RENEG of the sink; a grant is held from now on in place of the old terms."""
        holding = self.holdings[key]
        index = holding.supply
        permitted = self._permitted(asks)
        if not permitted:
            return Choice(None, -1, refusal=self._denial(asks))
        self._account(holding, -1)
        request = Waiting(key, permitted, holding.peer, holding.age, now)
        # what was given back may be asked for again, an order stands
        ordered_mw = None if holding.is_returned else holding.ceiling_mw
        choice = self._choose(request, only=index, ceiling_mw=ordered_mw)
        choice = self._ramped(request, choice, now, holding)
        if choice.grant is not None:
            if self._ramp is not None:
                self._ramp.connect(max(0, held_mw(choice.grant) - holding.mw), now)
            hold(holding, choice.grant, index)
            if holding.is_returned:
                holding.ceiling_mw, holding.is_returned = None, False
            holding.desired, holding.minimum = range_of(permitted, choice.grant)
            holding.note_change(now)
        self._account(holding, +1)
        self._note_want(holding)
        return choice._replace(offers=(), offer_supplies=())

    def settled(self, key: Key, profile: PowerProfile) -> None:
        """Note that a proposal of ours took effect or was rejected: `profile` is in force."""
        holding = self.holdings.get(key)
        if holding is not None:
            holding.outstanding = False
            self._lower(holding, profile)
            self._note_want(holding)

    def hold_back(self, key: Key, until: Instant) -> None:
        """Raise nothing on `key` before `until`: its path is stale, or it has just come back."""
        holding = self.holdings.get(key)
        if holding is not None:
            holding.not_before = until

    # -- shedding and restoring --------------------------------------------------------------

    def plan(self, now: Instant, is_busy: Busy = _never) -> list[Change]:
        """Return the changes that are due now; each counts as proposed when this returns.

        is_busy(key) excludes flows that cannot take a proposal now. Sheds come when the rating has fallen, a ceiling was ordered, or a better claim waits;
        raises when at least 105 % of the need is free.
        """
        over = self.overloaded
        if not (over or self.waiting or self._wanting):
            return []
        targets = self._targets(self.waiting)
        changes = list(self._sheds(targets, now, is_busy, over=over))
        if not over and not self.waiting and self.free_mw:
            changes.extend(self._raises(targets, now, is_busy))
        return changes

    @property
    def overloaded(self) -> bool:
        """Say whether more is held than the rating or a supply has: only after a change of them."""
        if self.held_mw > self.rating_mw:
            return True
        for held, supply in zip(self.held_ma, self.supplies, strict=True):
            if held > supply.profile.current_ma:
                return True
        return False

    def congested(self, drawn_mw: int) -> bool:
        """Say whether the feeder runs above 90 % with `drawn_mw`."""
        # PTCP-7-01
        return drawn_mw * 100 > self.rating_mw * CONGESTED_PERCENT

    def set_ceiling(self, key: Key, ceiling_mw: int | None) -> None:
        """Order at most `ceiling_mw` for one flow, None lifts the order. Raises KeyError."""
        holding = self.holdings[key]
        holding.ceiling_mw, holding.is_returned = ceiling_mw, False
        self._note_want(holding)

    def set_right(self, key: Key, most_mw: int | None, why: Refusal | None) -> None:
        """Let a flow have at most `most_mw` by right, None: no limit, whatever is ordered. KeyError."""
        holding = self.holdings[key]
        holding.right_mw, holding.right = most_mw, why
        self._note_want(holding)

    def give_back(self, key: Key, used_mw: int) -> None:
        """Keep only `used_mw` of a flow, its minimum at least, until its sink asks again."""
        holding = self.holdings[key]
        ordered = holding.ceiling_mw is not None and not holding.is_returned
        least = holding.minimum or holding.desired
        voltage_mv = self.supplies[holding.supply].profile.voltage_mv
        keep_mw = max(used_mw, -(-least.pairs * voltage_mv * least.current_ma // 1000))
        # PTCP-7-08
        if not ordered and keep_mw * 100 <= holding.mw * GIVE_BACK_PERCENT:
            self.set_ceiling(key, keep_mw)
            holding.is_returned = True

    def reload(self, rating_mw: int, supplies: Sequence[Supply], now: Instant) -> None:
        """Change both; a rise spreads restores over 10 s, flows of a supply that is gone keep it."""
        merged = [
            next((new for new in supplies if new.feeds(old.profile)), old.retire())
            for old in self.supplies
        ]
        merged += [
            new for new in supplies if not any(old.feeds(new.profile) for old in self.supplies)
        ]
        rises = rating_mw > self.rating_mw
        self.held_ma += [0] * (len(merged) - len(self.supplies))
        self.supplies, self.rating_mw = merged, rating_mw
        if rises:
            # PTCP-7-07
            for key in self._wanting:
                self.holdings[key].not_before = now + self.draw(SPREAD_NS)

    def next_check(self, now: Instant) -> Instant | None:
        """Return when `plan` and `retry` should be called again, None while nothing waits."""
        if self.waiting or self.overloaded:
            return now + CHECK_SOON_NS
        return now + NS_PER_S if self._wanting else None

    @property
    def free_mw(self) -> int:
        """What is left of the rating, never below 0."""
        return max(0, self.rating_mw - self.held_mw)

    def explain(self, key: Key) -> Refusal | None:
        """Return why `key` has less than it asked for, None if it has all or is unknown."""
        holding = self.holdings.get(key)
        return holding.refusal if holding else None

    # -- inside --------------------------------------------------------------------------------

    def _account(self, holding: Holding, sign: int) -> None:
        self.held_mw += sign * holding.mw
        for index, ma in holding.amps:
            self.held_ma[index] += sign * ma
        left = self._peers.get(holding.peer, 0) + sign * holding.mw
        if left:
            self._peers[holding.peer] = left
        else:
            self._peers.pop(holding.peer, None)
        invariant(self.held_mw >= 0, "no more is given back than was held")

    def _lower(self, holding: Holding, profile: PowerProfile) -> None:
        """Hold `profile` in place of something that was not smaller."""
        mw = held_mw(profile)
        invariant(mw <= holding.mw, "a contract is never above what is held")
        if mw == holding.mw and [ma for _, ma in holding.amps] == [profile.current_ma]:
            holding.profile = profile
            return
        index = holding.supply
        if len(holding.amps) > 1:
            index = next(i for i, _ in holding.amps if self.supplies[i].feeds(profile))
        self._account(holding, -1)
        hold(holding, profile, index)
        self._account(holding, +1)

    def _note_want(self, holding: Holding) -> None:
        """Remember flows that have less than they asked for, forget the others."""
        if holding.is_over or (holding.live and holding.mw < self._request_mw(holding)):
            self._wanting.add(holding.key)
        else:
            self._wanting.discard(holding.key)
            if holding.most_mw is None:
                holding.refusal = None

    def _permitted(self, asks: Sequence[Ask]) -> Sequence[Ask]:
        """Return the wishes of classes that anyone may ask for."""
        best = self.best_priority
        return asks if best == 1 else [ask for ask in asks if not 0 < ask[0].priority < best]

    def _denial(self, asks: Sequence[Ask]) -> Refusal:
        return Refusal(Reason.PRIORITY_DENIED, asks[0].desired.priority, self.best_priority)

    def _ramped(
        self, request: Waiting, choice: Choice, now: Instant, holding: Holding | None = None
    ) -> Choice:
        """Return `choice`, or the one that the ramp allows; `holding` is what it replaces."""
        ramp = self._ramp
        if ramp is None:
            return choice
        has_mw, only = (holding.mw, holding.supply) if holding else (0, None)
        waiting_mw = promised_mw(self.holdings.values())
        room_mw = has_mw + ramp.room_mw(waiting_mw, now)
        most = [choice.grant] if choice.grant else [offer for offer, _ in choice.offers]
        paced = choice
        if max(map(held_mw, most), default=0) > room_mw:
            paced = self._choose(request, only=only, ceiling_mw=room_mw, code=Reason.BUDGET)
        asked_mw = request.asks[0].desired.power_mw
        if paced.grant is not None:
            if holding is None:
                ramp.served(request.peer, asked_mw, now)
            return paced
        if choice.grant is None:
            return paced._replace(refusal=choice.refusal)
        step = self._choose(
            request, only=only, ceiling_mw=has_mw + ramp.step_mw, code=Reason.BUDGET
        )
        least_mw = least_mw_of(request, step.grant or choice.grant)
        if step.grant is None:  # more than the ramp ever brings up at once
            refusal = ramp.refusal(least_mw, has_mw + ramp.step_mw)
        else:
            fits_at = ramp.fits_at(least_mw - has_mw, waiting_mw, now)
            if holding is None:
                fits_at = ramp.turn(request.peer, asked_mw, least_mw, fits_at, now)
            refusal = ramp.refusal(least_mw, room_mw, fits_at - now)
        return paced._replace(refusal=refusal)

    def _choose(
        self,
        request: Waiting,
        *,
        only: int | None = None,
        ceiling_mw: int | None = None,
        code: Reason = Reason.OPERATOR,
        none_free: bool = False,
        all_free: bool = False,
    ) -> Choice:
        """Run `choose` on what is free for this peer, of supply `only` if it is given."""
        budget_mw = self.rating_mw if all_free else self.rating_mw - self.held_mw
        limited = False
        if self.per_peer_mw is not None:
            peer_mw = self.per_peer_mw - self._peers.get(request.peer, 0)
            limited = peer_mw < budget_mw
            budget_mw = min(budget_mw, peer_mw)
        ordered = ceiling_mw is not None and ceiling_mw < budget_mw
        if ceiling_mw is not None and ordered:
            budget_mw = ceiling_mw
        first, last = (0, len(self.supplies)) if only is None else (only, only + 1)
        profiles = [supply.profile for supply in self.supplies[first:last]]
        free_ma = [
            profile.current_ma - (0 if all_free else held)
            for profile, held in zip(profiles, self.held_ma[first:last], strict=True)
        ]
        if only is None:
            for index, supply in enumerate(self.supplies):
                if supply.retiring:
                    free_ma[index] = 0
        budget_mw = 0 if none_free else max(0, budget_mw)
        choice = choose(request.asks, profiles, budget_mw, free_ma)
        refusal = choice.refusal
        if refusal is None:
            return choice._replace(supply_index=choice.supply_index + first) if first else choice
        if refusal.code == Reason.NO_CAPACITY:
            if ordered:
                refusal = Refusal(code, refusal.value, budget_mw)
            elif limited and self.per_peer_mw is not None:
                refusal = Refusal(Reason.WATT_LIMIT, refusal.value, self.per_peer_mw)
            else:
                said = self.because
                refusal = replace(refusal, retry_ms=RETRY_MS, text=said, rule=said)
        return choice._replace(refusal=refusal)

    def _conclude(self, request: Waiting, choice: Choice) -> Admission:
        """Hold what `choice` promises."""
        if choice.grant is not None:
            desired, minimum = range_of(request.asks, choice.grant)
            profile, supply = choice.grant, choice.supply_index
            mw = held_mw(profile)
            amps: tuple[tuple[int, int], ...] = ((supply, profile.current_ma),)
        elif choice.offers:
            offers = [offer for offer, _ in choice.offers]
            profile = max(offers, key=held_mw)
            desired, minimum = profile, None
            most: dict[int, int] = {}
            for offer, supply in zip(offers, choice.offer_supplies, strict=True):
                most[supply] = max(most.get(supply, 0), offer.current_ma)
            mw, amps, supply = held_mw(profile), tuple(most.items()), choice.offer_supplies[0]
        else:
            return Admission(choice)
        holding = Holding(
            request.key, request.peer, request.age, profile, mw, amps, desired, minimum
        )
        self.holdings[request.key] = holding
        self._account(holding, +1)
        # PTCP-4-03
        # a rating or a supply just lowered may be exceeded by older promises, never by this one
        invariant(not mw or self.held_mw <= self.rating_mw, "no promise is beyond the rating")
        for index, ma in amps:
            left_ma = self.supplies[index].profile.current_ma - self.held_ma[index]
            invariant(not ma or left_ma >= 0, "no promise is beyond its supply")
        return Admission(choice, supply)

    def _most(self, request: Waiting) -> int:
        """Return the mW that `request` may expect once the planned sheds are in force."""
        return self._targets(self.waiting).get(request.key, 0)

    def _shedding_helps(self, request: Waiting, choice: Choice) -> bool:
        """Say whether others would be shed so that `request` gets at least its minimum."""
        refusal = choice.refusal
        if refusal is None or refusal.code != Reason.NO_CAPACITY:
            return False
        if len(self.waiting) >= MAX_WAITING:
            return False
        return self._targets([*self.waiting, request]).get(request.key, 0) > 0

    def _request_mw(self, holding: Holding) -> int:
        """Return what a live flow would take if there were plenty."""
        return holding.request_mw(self.supplies[holding.supply].profile)

    def _claim(self, holding: Holding) -> Claim:
        request_mw = self._request_mw(holding)
        least = holding.minimum or holding.desired
        voltage_mv = self.supplies[holding.supply].profile.voltage_mv
        minimum_mw = -(-least.pairs * voltage_mv * least.current_ma // 1000)
        rank = holding.desired.priority
        return Claim(holding.key, rank, holding.age, min(minimum_mw, request_mw), request_mw)

    def _waiting_claim(self, request: Waiting) -> tuple[int, Claim] | None:
        """Return supply and claim of a waiting request, None when it cannot be served at all."""
        choice = self._choose(request, all_free=True)
        if choice.grant is None:
            return None
        least_mw = least_mw_of(request, choice.grant)
        priority = choice.grant.priority
        most_mw = held_mw(choice.grant)
        claim = Claim(request.key, priority, request.age, min(least_mw, most_mw), most_mw)
        return choice.supply_index, claim

    def _targets(self, waiting: Sequence[Waiting]) -> dict[Key, int]:
        """Share rating and amperes among the live flows and `waiting`, in mW.

        First each supply among its own flows, then the rating among all of them.
        """
        by_supply: dict[int, list[Claim]] = {}
        fixed_mw, fixed_ma = 0, [0] * len(self.supplies)
        for holding in self.holdings.values():
            if holding.live:
                by_supply.setdefault(holding.supply, []).append(self._claim(holding))
                continue
            fixed_mw += holding.mw
            for index, ma in holding.amps:
                fixed_ma[index] += ma
        for request in waiting:
            found = self._waiting_claim(request)
            if found is not None:
                by_supply.setdefault(found[0], []).append(found[1])
        capped: list[Claim] = []
        for index, claims in by_supply.items():
            supply = self.supplies[index].profile
            per_ma = supply.pairs * supply.voltage_mv
            share_mw = per_ma * max(0, supply.current_ma - fixed_ma[index]) // 1000
            granted = allocate(share_mw, claims)
            capped.extend(
                claim._replace(request_mw=granted[claim.key])
                for claim in claims
                if granted[claim.key]
            )
        return allocate(self.rating_mw - fixed_mw, capped)

    def _sheds(
        self, targets: dict[Key, int], now: Instant, is_busy: Busy, *, over: bool
    ) -> Iterator[Change]:
        """Yield the sheds that are due, the least claim first."""
        needed = over or bool(self.waiting)
        some = list(self.holdings.values()) if needed else [
            self.holdings[key] for key in self._wanting
        ]  # fmt: skip
        for holding in sorted(some, key=worst_first):
            target_mw = targets.get(holding.key, 0)
            if not holding.live or holding.outstanding or target_mw >= holding.mw:
                continue
            if not (needed or holding.is_over):
                continue
            # PTCP-7-07
            dwells = not holding.may_change(now)
            if (dwells and not (over or holding.is_beyond_right)) or is_busy(holding.key):
                continue
            profile = with_power(holding.profile, target_mw)
            holding.refusal = holding.why_shed(held_mw(profile), self.because)
            holding.outstanding = True
            holding.note_change(now)
            self._wanting.add(holding.key)
            yield Change(holding.key, profile, raised=False, urgent=dwells, refusal=holding.refusal)

    def _raises(self, targets: dict[Key, int], now: Instant, is_busy: Busy) -> Iterator[Change]:
        """Yield the restores that are due, the best claim first; what they need is held."""
        wanting = [self.holdings[key] for key in self._wanting]
        contended = (
            self.held_mw
            + sum(max(0, self._request_mw(holding) - holding.mw) for holding in wanting)
            > self.rating_mw
        )
        for holding in sorted(wanting, key=worst_first, reverse=True):
            if holding.outstanding or now < holding.not_before or not holding.may_change(now):
                continue
            if self._ramp is not None and self._ramp.free > now:
                return
            profile = self._raised(holding, targets.get(holding.key, 0), now, contended=contended)
            if profile is None or is_busy(holding.key):
                continue
            need_mw = held_mw(profile) - holding.mw
            if self._ramp is not None:
                self._ramp.connect(need_mw, now)
            self._account(holding, -1)
            hold(holding, profile, holding.supply)
            self._account(holding, +1)
            holding.outstanding = True
            holding.note_change(now)
            yield Change(
                holding.key, profile, raised=True, urgent=False, refusal=Refusal(Reason.NORMAL)
            )

    def _raised(
        self, holding: Holding, target_mw: int, now: Instant, *, contended: bool
    ) -> PowerProfile | None:
        """Return the terms to which `holding` may rise now, None when it is not worth a change."""
        supply = self.supplies[holding.supply].profile
        room_mw = self.rating_mw - self.held_mw + holding.mw
        room_ma = supply.current_ma - self.held_ma[holding.supply] + holding.amps[0][1]
        if self.per_peer_mw is not None:
            others_mw = self._peers.get(holding.peer, 0) - holding.mw
            room_mw = min(room_mw, self.per_peer_mw - others_mw)
        if self._ramp is not None:
            # one step of a ramp is at most what it brings up before T_READY, promises first
            ramp_mw = self._ramp.room_mw(promised_mw(self.holdings.values()), now)
            room_mw = min(room_mw, holding.mw + ramp_mw)
        # PTCP-7-06: 105 % of the need must be free, unless nobody is short of anything any more
        percent = RESTORE_PERCENT if contended else 100
        target_mw = min(target_mw, room_mw * 100 // percent)
        profile = with_power(holding.profile, target_mw)
        current_ma = min(profile.current_ma, room_ma * 100 // percent, holding.desired.current_ma)
        profile = profile.with_type(profile.type, current_ma=max(0, current_ma))
        least = holding.minimum or holding.desired
        below = holding.most_mw is None and profile.current_ma < least.current_ma
        gain_mw, request_mw = held_mw(profile) - holding.mw, self._request_mw(holding)
        small = gain_mw * 100 < request_mw * STEP_PERCENT and held_mw(profile) < request_mw
        small = small and not self.ramp_mw_per_s
        return None if gain_mw <= 0 or below or small else profile
