"""Power is never granted beyond the rating: random arrivals, sheds, crashes, renegotiations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.sources.breaker import Breaker
from powertcp.sources.holding import Change
from powertcp.sources.source import parse_supply
from powertcp.units import NS_PER_S
from tests.full import size

SUPPLIES = [parse_supply(text) for text in ("5V/3A", "12V/10A", "230V/2A@50Hz", "3V/7A")]
S = NS_PER_S

requests = st.builds(
    lambda supply, volts, share, least, priority: (supply, volts, share, least, priority),
    st.sampled_from(SUPPLIES),
    st.booleans(),
    st.integers(1, 1200),
    st.integers(0, 1000),
    st.integers(0, 15),
)


def asks_of(row: tuple[object, bool, int, int, int]) -> list[Ask]:
    supply, any_voltage, share, least, priority = row
    profile = supply.profile  # type: ignore[attr-defined]
    current = max(1, profile.current_ma * share // 1000)
    desired = profile.with_type(ProfileType.REQUEST, current_ma=current, priority=priority)
    if least == 1000:
        return [Ask(desired)]
    low = profile.voltage_mv // 2 if any_voltage else profile.voltage_mv
    minimum = desired.with_type(
        ProfileType.MINIMUM, current_ma=current * least // 1000, voltage_mv=low
    )
    return [Ask(desired, minimum)]


class House(RuleBasedStateMachine):
    """A breaker, and beside it plain books of what every flow may draw at this moment."""

    proposed: dict[int, Change]

    @initialize(rating=st.integers(1, 700_000), per_peer=st.sampled_from([None, 50_000]))
    def start(self, rating: int, per_peer: int | None) -> None:
        self.now = 0
        self.pool = Breaker(rating, list(SUPPLIES), draw=lambda n: n // 3, per_peer_mw=per_peer)
        self.count = 0
        self.offered: dict[int, list[PowerProfile]] = {}  # SYN+ACK sent: any of them may come
        self.inforce: dict[int, PowerProfile] = {}
        self.proposed = {}
        self.pending: set[int] = set()
        self.may_exceed = False

    def take(self, key: int, choice: object) -> None:
        grant = choice.grant  # type: ignore[attr-defined]
        if grant is not None:
            self.offered[key] = [grant]
        elif choice.offers:  # type: ignore[attr-defined]
            self.offered[key] = [offer for offer, _ in choice.offers]  # type: ignore[attr-defined]

    @rule(row=requests, peer=st.sampled_from([b"a", b"b"]))
    def arrive(self, row: tuple[object, bool, int, int, int], peer: bytes) -> None:
        self.count += 1
        admission = self.pool.admit(self.count, asks_of(row), peer, self.now)
        if admission.choice is None:
            self.pending.add(self.count)
        else:
            self.take(self.count, admission.choice)

    @precondition(lambda self: self.offered)
    @rule(pick=st.integers(0, 99), share=st.integers(1, 100))
    def acknowledge(self, pick: int, share: int) -> None:
        key = sorted(self.offered)[pick % len(self.offered)]
        offers = self.offered.pop(key)
        profile = offers[pick % len(offers)]
        if len(offers) > 1:
            profile = profile.with_type(
                ProfileType.GRANT, current_ma=max(1, profile.current_ma * share // 100)
            )
        self.pool.accepted(key, profile)
        self.inforce[key] = profile

    @precondition(lambda self: self.offered or self.inforce or self.pending)
    @rule(pick=st.integers(0, 99), again=st.booleans())
    def crash(self, pick: int, again: bool) -> None:
        keys = sorted({*self.offered, *self.inforce, *self.pending})
        key = keys[pick % len(keys)]
        for book in (self.offered, self.inforce, self.proposed):
            book.pop(key, None)
        self.pending.discard(key)
        self.pool.release(key)
        if again:
            assert self.pool.release(key) == 0

    @precondition(lambda self: self.inforce)
    @rule(pick=st.integers(0, 99), row=requests)
    def renegotiate(self, pick: int, row: tuple[object, bool, int, int, int]) -> None:
        key = sorted(self.inforce)[pick % len(self.inforce)]
        if key in self.proposed:
            return  # glare: the source rejects it
        choice = self.pool.renegotiate(key, asks_of(row), self.now)
        if choice.grant is not None:
            self.inforce[key] = choice.grant

    @rule(step=st.integers(0, 12))
    def pass_time(self, step: int) -> None:
        self.now += step * S
        for change in self.pool.plan(self.now):
            assert isinstance(change.key, int)
            assert change.key not in self.proposed
            self.proposed[change.key] = change
        for key, admission in self.pool.retry(self.now):
            assert isinstance(key, int)
            self.pending.discard(key)
            self.take(key, admission.choice)

    @precondition(lambda self: self.proposed)
    @rule(pick=st.integers(0, 99), accepts=st.booleans())
    def answer(self, pick: int, accepts: bool) -> None:
        key = sorted(self.proposed)[pick % len(self.proposed)]
        change = self.proposed.pop(key)
        if accepts or not change.raised:  # a shed cannot be rejected
            self.inforce[key] = change.profile
        self.pool.settled(key, self.inforce[key])

    @rule(rating=st.integers(1, 700_000))
    def reload(self, rating: int) -> None:
        self.pool.reload(rating, SUPPLIES, self.now)

    @precondition(lambda self: self.inforce)
    @rule(pick=st.integers(0, 99), ceiling=st.one_of(st.none(), st.integers(0, 100_000)))
    def order(self, pick: int, ceiling: int | None) -> None:
        key = sorted(self.inforce)[pick % len(self.inforce)]
        self.pool.set_ceiling(key, ceiling)

    def drawn_uw(self) -> int:
        """What all flows may draw if each takes the most of its terms, uW."""
        total = 0
        for key in {*self.offered, *self.inforce}:
            terms = [*self.offered.get(key, ())]
            if key in self.inforce:
                terms.append(self.inforce[key])
            change = self.proposed.get(key)
            if change is not None and change.raised:
                terms.append(change.profile)
            total += max(t.pairs * t.voltage_mv * t.current_ma for t in terms)
        return total

    @invariant()
    def never_above_the_rating(self) -> None:
        if not hasattr(self, "pool"):
            return
        drawn = self.drawn_uw()
        assert drawn <= self.pool.held_mw * 1000
        assert self.pool.overloaded or drawn <= self.pool.rating_mw * 1000

    @invariant()
    def the_sums_are_those_of_the_holdings(self) -> None:
        if not hasattr(self, "pool"):
            return
        holdings = self.pool.holdings.values()
        assert self.pool.held_mw == sum(holding.mw for holding in holdings)
        for index, held in enumerate(self.pool.held_ma):
            assert held == sum(ma for h in holdings for at, ma in h.amps if at == index)

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        for key in range(self.count + 1):
            self.pool.release(key)
        assert (self.pool.held_mw, sum(self.pool.held_ma)) == (0, 0)


House.TestCase.settings = settings(
    max_examples=size(60, 3_000), stateful_step_count=40, deadline=None
)
TestHouse = pytest.mark.requirement("PTCP-9-05")(House.TestCase)


@pytest.mark.requirement("PTCP-7-06")
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(requests, min_size=1, max_size=8), lower=st.integers(1, 300_000))
def test_an_overload_is_over_when_the_planned_sheds_are_in_force(
    rows: list[tuple[object, bool, int, int, int]], lower: int
) -> None:
    pool = Breaker(600_000, list(SUPPLIES), draw=lambda n: 0)
    for key, row in enumerate(rows):
        choice = pool.admit(key, asks_of(row), b"", 0).choice
        if choice is not None and choice.grant is not None:
            pool.accepted(key, choice.grant)
        else:
            pool.release(key)
    pool.reload(lower, SUPPLIES, 0)
    for change in pool.plan(S):
        pool.settled(change.key, change.profile)
    assert not pool.overloaded
