"""Budget to flows: minima first, then strict priority with an equal water-fill in each class."""

from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import NamedTuple

UNSET_PRIORITY = 8  # what priority 0 of a profile is handled as


class Claim(NamedTuple):
    """What one flow asks of a budget.

    key: names the flow in the answer; unique within one call.
    priority: 1 critical .. 15 least; 0 is handled as 8.
    age: arrival number of the flow; the smaller is the older.
    minimum_mw: below this the flow is of no use and gets 0.
    request_mw: what the flow wants, not below minimum_mw.
    """

    key: Hashable
    priority: int
    age: int
    minimum_mw: int
    request_mw: int

    @property
    def rank(self) -> tuple[int, int]:
        """Sort key: best class first, in it the oldest first."""
        return (self.priority or UNSET_PRIORITY, self.age)


def allocate(budget_mw: int, flows: Sequence[Claim]) -> dict[Hashable, int]:
    """Return mW for each key: never more than `budget_mw` in all, nothing to a flow below its minimum.

    Deterministic: the order of `flows` does not matter, ties go to the oldest.
    """
    # PTCP-7-06
    ranked = sorted(flows, key=lambda claim: claim.rank)
    left = max(0, budget_mw)
    granted: dict[Hashable, int] = {}
    served: list[Claim] = []
    for claim in ranked:
        fits = claim.minimum_mw <= left
        granted[claim.key] = claim.minimum_mw if fits else 0
        if fits:
            left -= claim.minimum_mw
            served.append(claim)
    for _, members in groupby(served, key=lambda claim: claim.rank[0]):
        left = _water_fill(left, list(members), granted)
    return granted


def _water_fill(left: int, members: list[Claim], granted: dict[Hashable, int]) -> int:
    """Raise `members` of one class to a common level with `left` mW; return what remains."""
    need = sum(claim.request_mw - claim.minimum_mw for claim in members)
    if need <= left:
        for claim in members:
            granted[claim.key] = claim.request_mw
        return left - need
    low, high = 0, max(claim.request_mw for claim in members)
    while low < high:  # greatest level whose cost fits
        middle = (low + high + 1) // 2
        if sum(_at_level(claim, middle) - claim.minimum_mw for claim in members) <= left:
            low = middle
        else:
            high = middle - 1
    for claim in members:
        granted[claim.key] = _at_level(claim, low)
        left -= granted[claim.key] - claim.minimum_mw
    for claim in members:  # the rest, 1 mW each, to the oldest
        if left and granted[claim.key] == low < claim.request_mw:
            granted[claim.key] += 1
            left -= 1
    return left


def _at_level(claim: Claim, level_mw: int) -> int:
    return max(claim.minimum_mw, min(claim.request_mw, level_mw))
