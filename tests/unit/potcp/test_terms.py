"""What an end lets the other one name."""

from collections.abc import Callable

import pytest

from powertcp.potcp.events import PageMark
from powertcp.potcp.flow import Breach
from powertcp.potcp.terms import (
    fixed_of,
    floor_of,
    is_within,
    least_lease_s,
    longest_lease,
    metered_of,
    require_ceiling,
    require_granted,
    require_lease,
    require_maintain,
    require_ready,
    require_resumed,
    require_terms,
    taken_of,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.wire.options import Maintain, Meter, Sampling
from tests.conversation import ask, profile

GRANT = profile("12V/1A,lease=60s", ProfileType.GRANT)


def floor(text: str) -> PowerProfile:
    return profile(text, ProfileType.FALLBACK)


def fault(call: Callable[..., object], *values: object) -> Refusal:
    with pytest.raises(Breach) as caught:
        call(*values)
    return caught.value.refusal


@pytest.mark.requirement("PTCP-9-03", "PTCP-1-03")
def test_terms_lie_in_the_range_of_a_wish_and_the_first_such_wish_is_known() -> None:
    wishes = (ask("5V/1A"), ask("12V/2A", "12V/0.5A"), ask("12V/1A"))
    assert require_terms(GRANT, wishes) is wishes[1]
    beyond = Refusal(Reason.NOT_OFFERED, 30_000, 24_000)
    assert fault(require_terms, profile("12V/2.5A"), wishes) == beyond


@pytest.mark.requirement("PTCP-4-04")
def test_a_choice_takes_voltage_and_current_of_the_first_offer_that_covers_it() -> None:
    offer = profile("12V/2A,prio=3,energy=9J,lease=3696s", ProfileType.OFFER)
    least = profile("9V/0.5A", ProfileType.MINIMUM)
    offers = ((profile("5V/1A", ProfileType.OFFER), None), (offer, least))
    taken = taken_of(offers, profile("10V/1A,prio=1,lease=5s"))
    assert taken == profile("10V/1A,prio=3,energy=9J,lease=3568s", ProfileType.GRANT)
    assert taken_of(offers, profile("8V/1A")) is None
    assert taken_of(((GRANT, None),), profile("12V/1A,prio=1")) is GRANT


@pytest.mark.requirement("PTCP-4-06")
def test_of_several_wishes_the_longest_lease_holds_and_one_that_states_none_allows_all() -> None:
    assert longest_lease([ask("5V/1A,lease=9s"), ask("12V/1A,lease=30s")]) == 30
    assert longest_lease([ask("5V/1A,lease=9s"), ask("12V/1A")]) == 3600


@pytest.mark.requirement("PTCP-4-01", "PTCP-10-03", "PTCP-4-06")
def test_the_longest_lease_is_what_was_asked_or_was_in_force() -> None:
    wishes = (ask("5V/1A,lease=9s"), ask("12V/1A,lease=30s"))
    assert require_granted(GRANT, wishes, None) == 30
    assert require_granted(GRANT, wishes, GRANT) == 60
    assert fault(require_granted, GRANT, wishes[:1], None).code == Reason.NOT_OFFERED
    assert fault(require_granted, GRANT, wishes[:1], profile("12V/0.9A")).code == Reason.NOT_OFFERED


@pytest.mark.requirement("PTCP-9-03", "PTCP-4-06")
def test_the_lease_of_a_contract_grows_with_an_own_proposal_only() -> None:
    wishes = (ask("12V/1A,lease=90s"),)
    assert require_ready(GRANT, 1, GRANT, None) == 60
    assert require_ready(GRANT, 2, GRANT, wishes) == 90
    assert require_ready(GRANT, 2, GRANT, (ask("12V/1A"),)) == 60
    assert require_ready(GRANT, 3, GRANT, wishes) == 60
    assert fault(require_ready, profile("12V/2A"), 3, GRANT, wishes).code == Reason.NOT_OFFERED


@pytest.mark.requirement("PTCP-3.2-01")
def test_a_source_fixes_what_was_proposed_or_a_lower_rate() -> None:
    proposed = Sampling(1000)
    for rate_hz in (10, 1000):
        assert fixed_of(proposed, Sampling(rate_hz)) == Sampling(rate_hz)
    for other in (Sampling(9), Sampling(1001), Sampling(1000, pairs=2), None):
        assert fault(fixed_of, proposed, other).code == Reason.SAMPLING
    assert fault(fixed_of, None, proposed).code == Reason.SAMPLING


@pytest.mark.requirement("PTCP-10-03")
def test_a_resumed_contract_is_that_of_before_or_less_or_what_was_asked() -> None:
    wishes = (ask("12V/2A"),)
    for text in ("12V/1A", "12V/0.3A", "12V/0A", "12V/2A"):
        require_resumed(profile(text), GRANT, wishes)
    for text in ("12V/1.1A", "230V/0.1A", "12V/1A@50Hz"):
        named = profile(text)
        refused = Refusal(Reason.NOT_OFFERED, named.power_mw, 24_000)
        assert fault(require_resumed, named, GRANT, wishes) == refused


@pytest.mark.requirement("PTCP-7-04")
def test_a_ceiling_lies_under_the_contract() -> None:
    for text in ("12V/1A", "12V/0.3A", "12V/0A"):
        require_ceiling(profile(text), GRANT)
    for text in ("12V/1.001A", "5V/1A", "12V/1A/split"):
        assert fault(require_ceiling, profile(text), GRANT).code == Reason.NOT_OFFERED


@pytest.mark.requirement("PTCP-4-01")
def test_a_proposal_is_within_a_wish_when_all_its_range_is() -> None:
    wish = ask("12V/1A", "9V/0.5A")
    for within in (ask("12V/1A"), ask("12V/0.1A"), ask("9V/1A"), ask("12V/1A", "9V/0A")):
        assert is_within(within, wish)
    for beyond in (
        ask("240V/0.05A"),
        ask("12V/1.001A"),
        ask("8V/1A"),
        ask("12V/1A", "8V/0.5A"),
        ask("12V/1A@50Hz"),
    ):
        assert not is_within(beyond, wish)
    assert not is_within(ask("9V/1A"), ask("12V/1A"))


@pytest.mark.requirement("PTCP-4-06")
@pytest.mark.parametrize(
    ("lease_s", "most_s", "limit"),
    [
        (4, 0, 5),
        (5, 0, None),
        (3600, 0, None),
        (3601, 0, 3600),
        (0, 60, 5),
        (60, 60, None),
        (61, 60, 60),
        (3696, 3696, 3600),
    ],
)
def test_a_lease_keeps_its_bounds_and_what_was_stated(
    lease_s: int, most_s: int, limit: int | None
) -> None:
    if limit is None:
        require_lease(lease_s, most_s, 1000, 3)
    else:
        refused = Refusal(Reason.LEASE_RANGE, lease_s, limit)
        assert fault(require_lease, lease_s, most_s, 1000, 3) == refused


@pytest.mark.requirement("PTCP-4-06")
def test_a_lease_outlasts_the_probes() -> None:
    require_lease(7, 0, 2000, 3)
    assert fault(require_lease, 6, 0, 2000, 3) == Refusal(Reason.LEASE_RANGE, 6, 7)
    silences = (0, 4_999, 5_000, 5_100, 5_999, 6_000)
    assert [least_lease_s(silence_ms) for silence_ms in silences] == [5, 5, 6, 6, 6, 7]


@pytest.mark.requirement("PTCP-1-04", "PTCP-4-06")
def test_a_fallback_differs_in_current_only_and_is_at_most_what_was_asked() -> None:
    assert floor_of((GRANT,), GRANT, None) is None
    low = floor("12V/0.1A")
    for wish in ("12V/0.1A", "5V/0.2A"):
        assert floor_of((GRANT, low), GRANT, floor(wish)) is low
    for text in ("9V/0.1A", "12V/1.1A"):
        assert fault(floor_of, (GRANT, floor(text)), GRANT, low).code == Reason.BAD_OPTION
    above = (GRANT, floor("12V/0.101A"))
    assert fault(floor_of, above, GRANT, low) == Refusal(Reason.NOT_OFFERED, 1_212, 1_200)
    assert fault(floor_of, (GRANT, low), GRANT, None) == Refusal(Reason.NOT_OFFERED, 1_200, 0)


@pytest.mark.requirement("PTCP-5-01", "PTCP-5-03", "PTCP-14-01")
@pytest.mark.parametrize(
    ("interval_ms", "misses", "value", "limit"),
    [
        (100, 2, None, 0),
        (30_000, 10, None, 0),
        (99, 2, 99, 100),
        (30_001, 10, 30_001, 30_000),
        (100, 1, 1, 2),
        (100, 11, 11, 10),
    ],
)
def test_probes_keep_their_bounds(
    interval_ms: int, misses: int, value: int | None, limit: int
) -> None:
    wish = Maintain(interval_ms, misses)
    if value is None:
        assert require_maintain(wish) is wish
        return
    refusal = fault(require_maintain, wish)
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.LIMIT, value, limit)


@pytest.mark.requirement("LEDG-6-10")
def test_receipts_need_both_sides_and_after_a_resume_the_same_meter() -> None:
    ours, theirs = Meter(60, 0, bytes(32)), Meter(10, 5, bytes([1]) * 32)
    assert metered_of(ours, theirs, None) == theirs
    assert metered_of(None, theirs, None) is None
    assert metered_of(ours, None, None) is None
    mark = PageMark(
        transcript=bytes(32), peer_key=theirs.key, page=7, start_uj=0, signed_uj=0, contract=1,
        tariff=None, unanswered=b"", answered=b"",
    )  # fmt: skip
    assert metered_of(ours, theirs, mark) == theirs
    for other in (None, ours):
        refusal = fault(metered_of, ours, other, mark)
        assert refusal == Refusal(Reason.RECEIPT_INVALID, 7, rule="another meter")
