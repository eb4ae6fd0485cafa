"""What becomes of the wishes of a request under a line: within, offered, refused."""

from dataclasses import replace

import pytest

from powertcp.drivers.verdict import Standing, Verdict, is_within, judge
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason
from powertcp.vppn.access import OverLimit, Rights
from powertcp.vppn.limits import Limits, Period

LIMITS = Limits(power_mw=65_000, least_mv=5_000, most_mv=20_000)
NONE = Standing(0, {}, 0)


def rights(limits: Limits = LIMITS) -> Rights:
    return Rights("alice", "file:1 key", limits, (("file:1 key", limits),))


def ask(request: str, minimum: str | None = None) -> Ask:
    least = PowerProfile.parse(minimum, ProfileType.MINIMUM) if minimum else None
    return Ask(PowerProfile.parse(request), least)


def judged(*asks: Ask, over: OverLimit = OverLimit.REFUSE, held_mw: int = 0) -> Verdict:
    return judge(rights(), asks, NONE._replace(held_mw=held_mw), over)


@pytest.mark.requirement("VPPN-5-02")
def test_a_range_is_cut_to_what_is_within() -> None:
    [cut] = judged(ask("48V/5A", "3V/0.1A")).asks
    assert (cut.desired.voltage_mv, cut.desired.power_mw) == (20_000, 65_000)
    assert cut.minimum is not None
    assert cut.minimum.voltage_mv == 5_000


@pytest.mark.requirement("VPPN-5-02")
def test_of_several_wishes_those_within_are_left() -> None:
    verdict = judged(ask("20V/5A"), ask("20V/3A"), ask("12V/9A"))
    assert [one.desired.power_mw for one in verdict.asks] == [60_000]
    assert verdict.refusal is None


@pytest.mark.requirement("VPPN-5-02")
def test_what_is_over_is_refused_for_the_first_wish_and_offered_where_that_is_wanted() -> None:
    refused = judged(ask("20V/5A"), ask("12V/9A"), held_mw=5_000)
    assert refused.asks == ()
    assert refused.refusal is not None
    assert (refused.refusal.value, refused.refusal.limit) == (100_000, 60_000)
    assert refused.best is not None
    assert (refused.best.type, refused.best.power_mw) == (ProfileType.REFUSE, 60_000)
    offered = judged(ask("20V/5A"), ask("12V/9A"), over=OverLimit.OFFER, held_mw=5_000)
    assert [one.desired.power_mw for one in offered.asks] == [60_000, 60_000]
    assert offered.refusal == refused.refusal


def test_nothing_is_offered_of_a_quota_that_is_used_up() -> None:
    limits = replace(LIMITS, quotas=((Period.DAY, 7),))
    standing = Standing(0, dict.fromkeys(Period, 7), 1_795_262_400)
    verdict = judge(rights(limits), [ask("20V/5A")], standing, OverLimit.OFFER)
    assert (verdict.asks, verdict.best) == ((), None)
    assert verdict.refusal is not None
    assert verdict.refusal.code == Reason.ENERGY_QUOTA
    assert not is_within(rights(limits), PowerProfile.parse("20V/1A"), standing)
    assert is_within(
        rights(limits), PowerProfile.parse("20V/1A"), NONE._replace(used_uj={Period.DAY: 6})
    )
