"""A limit in time: what may pass at once, what in the long run, and CREDIT that waits for it."""

import pytest

from powertcp.reclaim.bucket import BURST_MS, WAIT_MAX_NS, Bucket, CreditGate
from powertcp.units import NS_PER_S

START = 7 * NS_PER_S
ONE, TWO, THREE = b"one", b"two", b"three"


@pytest.mark.requirement("FWRL-3-05")
def test_a_bucket_begins_full_and_refills_at_its_rate() -> None:
    bucket = Bucket(1_000, 5_000_000, START)
    assert bucket.level(START) == 5_000_000
    bucket.take(5_000_000, START)
    assert bucket.level(START) == 0
    assert bucket.level(START + NS_PER_S) == 1_000_000
    # a third of a microjoule is not lost
    assert bucket.level(START + NS_PER_S + 333) == 1_000_000
    assert bucket.level(START + NS_PER_S + 1_000) == 1_000_001
    # and never above the burst
    assert bucket.level(START + 3_600 * NS_PER_S) == 5_000_000


def test_a_burst_that_is_not_said_is_two_seconds_of_the_rate() -> None:
    assert Bucket(1_500, None, START).burst_uj == 1_500 * BURST_MS == 3_000_000


def test_time_that_runs_backwards_gives_nothing() -> None:
    bucket = Bucket(1_000, 1_000_000, START)
    bucket.take(1_000_000, START)
    assert bucket.level(START - NS_PER_S) == 0
    assert bucket.level(START + NS_PER_S // 2) == 500_000


@pytest.mark.requirement("FWRL-3-05")
def test_the_level_may_fall_below_nothing_and_is_waited_for() -> None:
    bucket = Bucket(1_000, 1_000_000, START)
    bucket.take(3_000_000, START)
    assert bucket.level(START) == -2_000_000
    assert bucket.wait_ns(1_000_000, START) == 3 * NS_PER_S
    assert bucket.wait_ns(1, START) == 2 * NS_PER_S + 1_000
    assert bucket.wait_ns(1_000_000, START + 3 * NS_PER_S) == 0


@pytest.mark.requirement("FWRL-3-05")
def test_credit_passes_as_it_came_while_the_bucket_holds_it() -> None:
    gate = CreditGate(Bucket(1_000, 2_000_000, START), 0)
    assert gate.offer(ONE, 2_000_000, START) == ONE
    assert (gate.credit_uj, gate.held, gate.get_timer()) == (2_000_000, None, None)
    assert gate.handle_timer(START) is None


@pytest.mark.requirement("FWRL-3-05")
def test_the_newest_credit_alone_waits_for_all_that_was_asked() -> None:
    gate = CreditGate(Bucket(1_000, 2_000_000, START), 0)
    assert gate.offer(ONE, 2_000_000, START) == ONE
    assert gate.offer(TWO, 3_000_000, START) is None
    assert gate.get_timer() == START + NS_PER_S
    assert gate.offer(THREE, 3_500_000, START) is None
    due = START + NS_PER_S * 3 // 2
    assert (gate.get_timer(), gate.holds) == (due, 1)
    assert gate.handle_timer(due - 1) is None
    assert gate.handle_timer(due) == THREE
    assert (gate.credit_uj, gate.get_timer()) == (3_500_000, None)


@pytest.mark.requirement("FWRL-3-05")
def test_more_than_the_burst_is_saved_up_for_and_nothing_is_borrowed() -> None:
    gate = CreditGate(Bucket(1_000, 2_000_000, START), 0)
    assert gate.offer(ONE, 10_000_000, START) is None
    due = START + 8 * NS_PER_S
    assert (gate.get_timer(), gate.wanted_uj, gate.credit_uj) == (due, 10_000_000, 0)
    # more is wanted meanwhile: what was saved counts
    assert gate.offer(TWO, 11_000_000, START + 4 * NS_PER_S) is None
    assert gate.get_timer() == START + 9 * NS_PER_S
    assert gate.handle_timer(START + 9 * NS_PER_S) == TWO
    assert gate.offer(THREE, 11_500_000, START + 9 * NS_PER_S) is None
    assert gate.get_timer() == START + 9 * NS_PER_S + NS_PER_S // 2


@pytest.mark.requirement("FWRL-3-05")
def test_credit_without_an_end_never_passes() -> None:
    gate = CreditGate(Bucket(1_000, 2_000_000, START), 0)
    now = START
    assert gate.offer(ONE, (1 << 64) - 1, now) is None
    for _ in range(3):
        assert gate.get_timer() == now + WAIT_MAX_NS
        now += WAIT_MAX_NS
        assert gate.handle_timer(now) is None


@pytest.mark.requirement("FWRL-3-05")
def test_credit_that_adds_nothing_passes_and_takes_nothing() -> None:
    bucket = Bucket(1_000, 1_000_000, START)
    gate = CreditGate(bucket, 5_000_000)
    assert gate.offer(ONE, 4_000_000, START) == ONE
    assert gate.offer(TWO, 5_000_000, START) == TWO
    assert (gate.credit_uj, bucket.level(START)) == (5_000_000, 1_000_000)


def test_an_older_limit_that_comes_again_adds_nothing_to_what_waits() -> None:
    gate = CreditGate(Bucket(1_000, 1_000_000, START), 0)
    gate.offer(ONE, 1_000_000, START)
    gate.offer(TWO, 2_000_000, START)
    # a demand changed: the same credit, said later
    assert gate.offer(THREE, 2_000_000, START) is None
    assert (gate.held, gate.get_timer(), gate.holds) == (THREE, START + NS_PER_S, 1)


def test_the_mean_power_of_any_conversation_is_the_limit() -> None:
    gate = CreditGate(Bucket(10_000, 20_000_000, START), 0)
    limit_uj, let_go = 0, []
    for step in range(600):
        now = START + step * NS_PER_S // 10
        limit_uj = max(limit_uj, gate.credit_uj + 9_000_000)
        if gate.offer(b"c", limit_uj, now) or gate.handle_timer(now):
            let_go.append((now, gate.credit_uj))
    ended, credit_uj = let_go[-1]
    most_uj = 20_000_000 + 10_000 * (ended - START) // 1_000_000
    assert most_uj - 9_000_000 <= credit_uj <= most_uj


def test_a_gate_knows_the_limit_it_goes_by() -> None:
    gate = CreditGate(Bucket(1_000, None, START), 0)
    assert gate.is_of(Bucket(1_000, 2_000_000, START + 1))
    assert not gate.is_of(Bucket(1_000, 1_000_000, START))
    assert not gate.is_of(Bucket(2_000, 2_000_000, START))


@pytest.mark.requirement("FWRL-3-02", "FWRL-3-05")
def test_a_limit_after_another_one_holds_no_more_than_that_had_left() -> None:
    gate = CreditGate(Bucket(1_000, 1_000_000, START), 0)
    gate.offer(ONE, 700_000, START)
    assert gate.level(START) == 300_000
    for left_uj, level_uj in ((300_000, 300_000), (-5, -5), (9_000_000, 2_000_000)):
        bucket = Bucket(2_000, 2_000_000, START)
        bucket.go_on(left_uj, START)
        assert bucket.level(START) == level_uj
