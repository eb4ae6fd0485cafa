"""What one flow holds of a breaker, what waits for it, and what is proposed to it."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from powertcp.potcp.events import Ask
from powertcp.potcp.negotiate import Choice
from powertcp.profile import PowerProfile, ProfileType, in_range
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Instant

DWELL_NS = 5 * NS_PER_S
CHANGES_PER_MINUTE = 6
_MINUTE_NS = 60 * NS_PER_S

Key = Hashable


def held_mw(profile: PowerProfile) -> int:
    """Return the power that a profile takes from a rating: rounded up to the mW."""
    return -(-profile.pairs * profile.voltage_mv * profile.current_ma // 1000)


@dataclass(slots=True)
class Holding:
    """What one flow holds, and what may be done to it.

    profile: the contract in force, or the greatest offer that may be accepted.
    amps: (supply, mA) held; several only while a counter-offer stands.
    desired, minimum: the range that was asked for. live: energised, so that it can be shed.
    outstanding: a proposal of ours is unanswered. ceiling_mw: by order of the operator,
    or what is left after an unused part was given back (`is_returned`).
    right_mw: what whoever draws may have at most, and `right` why; no order of the operator lifts it.
    changed: times of the last changes, at most six. not_before: no restore earlier.
    """

    key: Key
    peer: bytes
    age: int
    profile: PowerProfile
    mw: int
    amps: tuple[tuple[int, int], ...]
    desired: PowerProfile
    minimum: PowerProfile | None
    live: bool = False
    outstanding: bool = False
    ceiling_mw: int | None = None
    is_returned: bool = False
    refusal: Refusal | None = None
    changed: tuple[Instant, ...] = ()
    not_before: Instant = 0
    right_mw: int | None = None
    right: Refusal | None = None

    @property
    def supply(self) -> int:
        """Index of the supply that feeds the flow."""
        return self.amps[0][0]

    @property
    def most_mw(self) -> int | None:
        """What it may have by order and by right, None: no limit."""
        if self.ceiling_mw is None or self.right_mw is None:
            return self.right_mw if self.ceiling_mw is None else self.ceiling_mw
        return min(self.ceiling_mw, self.right_mw)

    @property
    def is_over(self) -> bool:
        """Whether it has more than that."""
        return self.most_mw is not None and self.mw > self.most_mw

    @property
    def is_beyond_right(self) -> bool:
        """Whether it has more than whoever draws may have."""
        return self.right_mw is not None and self.mw > self.right_mw

    def request_mw(self, supply: PowerProfile) -> int:
        """Return what it would take of `supply` if there were plenty."""
        current_ma = min(self.desired.current_ma, supply.current_ma)
        request = -(-supply.pairs * supply.voltage_mv * current_ma // 1000)
        return request if self.most_mw is None else min(request, self.most_mw)

    def why_shed(self, left_mw: int, because: str = "") -> Refusal:
        """Return why it is shed to `left_mw`; because: what the rating depends on."""
        if self.right is not None and self.is_beyond_right:
            return self.right
        by_order = self.ceiling_mw is not None and self.mw > self.ceiling_mw
        if by_order:
            code = Reason.BUDGET if self.is_returned else Reason.OPERATOR
            return Refusal(code, self.mw, left_mw)
        return Refusal(Reason.BUDGET, self.mw, left_mw, text=because, rule=because)

    def may_change(self, now: Instant) -> bool:
        """Say whether the dwell of PTCP-7-07 is over."""
        if not self.changed:
            return True
        if now - self.changed[-1] < DWELL_NS:
            return False
        return len(self.changed) < CHANGES_PER_MINUTE or now - self.changed[0] >= _MINUTE_NS

    def note_change(self, now: Instant) -> None:
        """Remember a change of this flow."""
        self.changed = (*self.changed[1 - CHANGES_PER_MINUTE :], now)


class Waiting(NamedTuple):
    """A request that is answered when others have been shed, or at `until`."""

    key: Key
    asks: Sequence[Ask]
    peer: bytes
    age: int
    until: Instant


class Admission(NamedTuple):
    """The answer to a request: a choice, or None while it waits for others to be shed."""

    choice: Choice | None
    supply: int = -1


class Change(NamedTuple):
    """What the driver shall propose: `raised` by RENEG, else by SHED with a ceiling."""

    key: Key
    profile: PowerProfile
    raised: bool
    urgent: bool
    refusal: Refusal


def hold(holding: Holding, profile: PowerProfile, supply: int) -> None:
    """Let `holding` stand for exactly `profile` of `supply`."""
    holding.profile, holding.mw = profile, held_mw(profile)
    holding.amps = ((supply, profile.current_ma),)


def promised_mw(holdings: Iterable[Holding]) -> int:
    """Return what was promised and is not connected yet."""
    return sum(one.mw for one in holdings if not one.live)


def with_power(profile: PowerProfile, power_mw: int) -> PowerProfile:
    """Return an OFFER at the voltage of `profile` with at most `power_mw`, as octets say it."""
    current_ma = power_mw * 1000 // (profile.pairs * profile.voltage_mv)
    return profile.with_type(ProfileType.OFFER, current_ma=current_ma).as_sent()


def range_of(asks: Sequence[Ask], grant: PowerProfile) -> tuple[PowerProfile, PowerProfile | None]:
    """Return the first range of `asks` that `grant` lies in."""
    for desired, minimum in asks:
        if in_range(grant, desired, minimum):
            return desired, minimum
    return grant, None


def least_mw_of(request: Waiting, grant: PowerProfile) -> int:
    """Return the least that `request` would take at the voltage of `grant`."""
    _, minimum = range_of(request.asks, grant)
    least_ma = (minimum or grant).current_ma
    return held_mw(grant.with_type(ProfileType.MINIMUM, current_ma=least_ma))


def rank_of(request: Waiting) -> tuple[int, int]:
    """Sort key of waiting requests: best class first, in it the oldest first."""
    return (request.asks[0].desired.effective_priority, request.age)


def worst_first(holding: Holding) -> tuple[int, int]:
    """Sort key of holdings: least class first, in it the youngest first."""
    return (-holding.desired.effective_priority, -holding.age)
