"""Token buckets: what may happen at once, how often after that, and never more in a minute."""

from hypothesis import given
from hypothesis import strategies as st

from powertcp.dpdp.bucket import Pace, TokenBucket
from powertcp.units import NS_PER_S, Instant

START = 5 * NS_PER_S
EVERY = 6 * NS_PER_S
TIMES = st.lists(st.integers(0, 20 * NS_PER_S), max_size=60)


def test_a_bucket_is_full_at_first_and_gets_a_token_each_time() -> None:
    bucket = TokenBucket(3, EVERY, START)
    assert [bucket.take(START) for _ in range(4)] == [True, True, True, False]
    assert bucket.ready_at == START + EVERY
    assert not bucket.take(START + EVERY - 1)
    assert bucket.take(START + EVERY)
    assert not bucket.take(START + EVERY)


def test_a_bucket_holds_no_more_than_its_size() -> None:
    bucket = TokenBucket(3, EVERY, START)
    later = START + 100 * EVERY
    assert [bucket.take(later) for _ in range(4)] == [True, True, True, False]


@given(TIMES)
def test_no_span_of_time_sees_more_than_the_size_and_what_came_in_it(gaps: list[int]) -> None:
    bucket, now, taken = TokenBucket(3, EVERY, 0), 0, list[Instant]()
    for gap in gaps:
        now += gap
        is_there = bucket.ready_at <= now
        assert bucket.take(now) is is_there
        if is_there:
            taken.append(now)
    for at, first in enumerate(taken):
        for count, last in enumerate(taken[at:], 1):
            assert count <= 3 + (last - first) // EVERY


@given(TIMES)
def test_a_pace_keeps_to_its_minute_as_well(gaps: list[int]) -> None:
    pace, now, taken = Pace(TokenBucket(3, EVERY, 0), 10, 60 * NS_PER_S), 0, list[Instant]()
    for gap in gaps:
        now += gap // 4
        is_there = pace.ready_at <= now
        assert pace.take(now) is is_there
        if is_there:
            taken.append(now)
    assert all(
        later - first >= 60 * NS_PER_S for first, later in zip(taken, taken[10:], strict=False)
    )


def test_a_pace_that_is_used_up_waits_for_the_minute_and_not_for_a_token() -> None:
    pace, now, taken = Pace(TokenBucket(3, EVERY, 0), 10, 60 * NS_PER_S), 0, 0
    while now < 60 * NS_PER_S:
        taken += pace.take(now)
        now += NS_PER_S
    assert taken == 10
    assert pace.ready_at == 60 * NS_PER_S
    assert pace.take(60 * NS_PER_S)
