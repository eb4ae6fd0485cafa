"""What becomes of the wishes of one request under the rights of who asks; pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Refusal
from powertcp.vppn.access import Allowed, OverLimit, Rights, Wish
from powertcp.vppn.limits import Period


class Verdict(NamedTuple):
    """What may be answered from; nothing where `asks` is empty.

    refusal: why nothing, or why what may be offered is not what was asked. best: of type REFUSE,
    the most that is within the limits.
    """

    asks: tuple[Ask, ...] = ()
    refusal: Refusal | None = None
    best: PowerProfile | None = None


class Standing(NamedTuple):
    """What counts beside a wish: power of other flows, energy of each window, the Unix time."""

    held_mw: int
    used_uj: Mapping[Period, int]
    now_s: int


# VPPN-5-02
def judge(rights: Rights, asks: Sequence[Ask], standing: Standing, over: OverLimit) -> Verdict:
    """Return the wishes as far as they are within `rights`, or what may be offered in their place."""
    within: list[Ask] = []
    offers: list[PowerProfile] = []
    refusals: list[Refusal] = []
    for ask in asks:
        wish = Wish(
            most=ask.desired, least=ask.minimum, held_mw=standing.held_mw, used_uj=standing.used_uj
        )
        found = rights.allow(wish, standing.now_s, OverLimit.OFFER)
        if isinstance(found, Allowed) and not found.is_counter:
            within.append(Ask(found.most, _least(ask.minimum, rights)))
            continue
        refused = rights.allow(wish, standing.now_s, OverLimit.REFUSE)
        if isinstance(refused, Refusal):
            refusals.append(refused)
        if isinstance(found, Allowed):
            offers.append(found.most.as_sent())
    if within:
        return Verdict(tuple(within))
    refusal = refusals[0] if refusals else None
    best = offers[0].with_type(ProfileType.REFUSE) if offers else None
    if over is OverLimit.OFFER and offers:
        least = [one.with_type(ProfileType.MINIMUM, current_ma=1) for one in offers]
        return Verdict(tuple(map(Ask, offers, least)), refusal, best)
    return Verdict((), refusal, best)


def _least(minimum: PowerProfile | None, rights: Rights) -> PowerProfile | None:
    """Return the lower end of a range that begins no lower than the voltage that is allowed."""
    if minimum is None or minimum.voltage_mv >= rights.limits.least_mv:
        return minimum
    return minimum.with_type(ProfileType.MINIMUM, voltage_mv=rights.limits.least_mv)


def is_within(rights: Rights, profile: PowerProfile, standing: Standing) -> bool:
    """Return whether all of `profile` may be granted."""
    wish = Wish(most=profile, held_mw=standing.held_mw, used_uj=standing.used_uj)
    return isinstance(rights.allow(wish, standing.now_s, OverLimit.REFUSE), Allowed)
