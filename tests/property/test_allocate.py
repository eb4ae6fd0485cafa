"""Budgets shared a milliwatt at a time, and by `allocate`: the same to the last milliwatt."""

from collections.abc import Hashable
from random import Random

import pytest

from powertcp.potcp.allocate import Claim, allocate
from tests.full import size

BUDGETS = size(4_000, 100_000)
UNSET = 8


def by_the_milliwatt(budget_mw: int, flows: list[Claim]) -> dict[Hashable, int]:
    """Minima in order of class and age; then 1 mW to whoever of the best class has least."""
    ranked = sorted(flows, key=lambda claim: (claim.priority or UNSET, claim.age))
    granted: dict[Hashable, int] = {}
    served: list[Claim] = []
    for claim in ranked:
        fits = claim.minimum_mw <= budget_mw
        granted[claim.key] = claim.minimum_mw if fits else 0
        if fits:
            served.append(claim)
            budget_mw -= claim.minimum_mw
    while budget_mw:
        short = [claim for claim in served if granted[claim.key] < claim.request_mw]
        if not short:
            break
        best = min(claim.priority or UNSET for claim in short)
        mates = [claim for claim in short if (claim.priority or UNSET) == best]
        granted[min(mates, key=lambda claim: (granted[claim.key], claim.age)).key] += 1
        budget_mw -= 1
    return granted


def claims(random: Random) -> list[Claim]:
    """Return up to eight flows of few classes, so that they meet."""
    flows = []
    for key in range(random.randrange(9)):
        minimum = random.choice((0, 0, random.randrange(12)))
        request = minimum + random.choice((0, random.randrange(15)))
        flows.append(Claim(key, random.choice((0, 1, 7, 8, 9)), key, minimum, request))
    random.shuffle(flows)
    return flows


@pytest.mark.requirement("PTCP-7-06")
def test_random_budgets_are_kept_without_inversion_and_the_same_every_time() -> None:
    random = Random(76)
    exhausted = unserved = 0
    for _ in range(BUDGETS):
        flows, budget = claims(random), random.randrange(60)
        granted = allocate(budget, flows)
        assert sum(granted.values()) <= budget
        assert granted == allocate(budget, flows[::-1]) == by_the_milliwatt(budget, flows)
        short = [c.rank[0] for c in flows if 0 < granted[c.key] < c.request_mw]
        for claim in flows:
            above = granted[claim.key] > claim.minimum_mw
            assert not (above and short and min(short) < claim.rank[0])
        exhausted += sum(granted.values()) == budget > 0
        unserved += any(c.minimum_mw and not granted[c.key] for c in flows)
    assert min(exhausted, unserved) > BUDGETS // 20


@pytest.mark.requirement("PTCP-7-06")
def test_great_budgets_scale() -> None:
    random = Random(77)
    for _ in range(size(200, 5_000)):
        flows = claims(random)
        factor = random.randrange(1, 10**9)
        great = [
            claim._replace(
                minimum_mw=claim.minimum_mw * factor, request_mw=claim.request_mw * factor
            )
            for claim in flows
        ]
        budget = random.randrange(60)
        small, large = allocate(budget, flows), allocate(budget * factor, great)
        # a coarse share is within one step of the fine one
        for key, power in large.items():
            assert abs(power - small[key] * factor) <= factor
