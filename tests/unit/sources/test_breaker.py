"""A rating and what is left of it: admission, shedding, restoring, reload."""

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.sources.breaker import MAX_WAITING, WAIT_NS, Breaker
from powertcp.sources.holding import Change
from powertcp.sources.source import Supply, parse_supply
from powertcp.units import NS_PER_MS, NS_PER_S

S = NS_PER_S
ALICE, BOB = b"alice", b"bob"
BENCH = parse_supply("12V/50A")


def ask(request: str, minimum: str | None = None) -> list[Ask]:
    desired = PowerProfile.parse(request)
    least = PowerProfile.parse(minimum, ProfileType.MINIMUM) if minimum else None
    return [Ask(desired, least)]


def breaker(
    rating_mw: int = 60_000,
    *supplies: str,
    ramp_mw_per_s: int | None = None,
    per_peer_mw: int | None = None,
    best_priority: int = 1,
) -> Breaker:
    made = [parse_supply(text) for text in supplies] or [BENCH]
    return Breaker(
        rating_mw,
        made,
        draw=lambda n: n // 2,
        ramp_mw_per_s=ramp_mw_per_s,
        per_peer_mw=per_peer_mw,
        best_priority=best_priority,
    )


def power_up(
    pool: Breaker, key: str, request: str, minimum: str | None = None, now: int = 0,
    peer: bytes = ALICE,
) -> PowerProfile:  # fmt: skip
    admission = pool.admit(key, ask(request, minimum), peer, now)
    assert admission.choice is not None
    grant = admission.choice.grant
    assert grant is not None
    pool.accepted(key, grant)
    return grant


def settle(pool: Breaker, changes: list[Change]) -> dict[object, int]:
    for change in changes:
        pool.settled(change.key, change.profile)
    return {change.key: change.profile.power_mw for change in changes}


def test_admission_holds_and_release_gives_back_exactly_once() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/2A")
    assert (pool.held_mw, pool.held_ma, pool.free_mw) == (24_000, [2_000], 36_000)
    assert pool.release("a") == 24_000
    assert pool.release("a") == 0
    assert (pool.held_mw, pool.held_ma) == (0, [0])


def test_a_flow_is_admitted_once() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/1A")
    with pytest.raises(LocalProtocolError):
        pool.admit("a", ask("12V/1A"), ALICE, 0)


def test_beyond_the_rating_is_refused_with_the_free_power_and_a_time_to_retry() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/4A")
    choice = pool.admit("b", ask("12V/4A"), BOB, 0).choice
    assert choice is not None
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.NO_CAPACITY
    assert (choice.refusal.value, choice.refusal.limit) == (48_000, 12_000)
    assert choice.refusal.retry_ms > 0
    assert choice.offers[0][0].power_mw == 12_000


def test_what_the_rating_depends_on_is_said_to_who_gets_less() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/4A,prio=2", "12V/1A")
    pool.because = "reservoir main: 600 J above its floor"
    choice = pool.admit("b", ask("12V/5A,prio=9"), BOB, 0).choice
    assert choice is not None
    assert choice.refusal is not None
    assert choice.refusal.text == pool.because
    assert choice.refusal.sentence().startswith(
        "100 NO_CAPACITY: asked 60,000 mW, 12,000 mW free (reservoir main: 600 J above its floor)"
    )
    pool.release("b")
    pool.reload(24_000, [BENCH], 0)
    [change] = pool.plan(0)
    assert change.refusal == Refusal(
        Reason.BUDGET, 48_000, 24_000, text=pool.because, rule=pool.because
    )
    settle(pool, [change])
    pool.set_ceiling("a", 12_000)
    [ordered] = pool.plan(10 * S)
    assert ordered.refusal == Refusal(Reason.OPERATOR, 24_000, 12_000)


@pytest.mark.requirement("PTCP-4-03")
def test_a_counter_offer_is_held_until_it_is_taken_or_given_up() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/4A")
    choice = pool.admit("b", ask("12V/4A"), BOB, 0).choice
    assert choice is not None
    assert pool.free_mw == 0
    offer = choice.offers[0][0].with_type(ProfileType.GRANT)
    pool.accepted("b", offer.with_type(ProfileType.GRANT, current_ma=500))
    assert pool.free_mw == 6_000
    assert pool.release("b") == 6_000


def test_a_supply_has_its_own_amperes() -> None:
    pool = breaker(1_000_000, "12V/2A", "5V/3A")
    power_up(pool, "a", "12V/1.5A")
    choice = pool.admit("b", ask("12V/1A"), ALICE, 0).choice
    assert choice is not None
    assert choice.grant is None
    power_up(pool, "c", "5V/3A")
    assert pool.held_ma == [2_000, 3_000]


def test_a_peer_has_its_own_limit() -> None:
    pool = breaker(per_peer_mw=20_000)
    power_up(pool, "a", "12V/1A")
    choice = pool.admit("b", ask("12V/1A"), ALICE, 0).choice
    assert choice is not None
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.WATT_LIMIT
    assert (choice.refusal.value, choice.refusal.limit) == (12_000, 20_000)
    pool.release("b")
    power_up(pool, "c", "12V/1A", peer=BOB)


def test_a_class_that_is_not_allowed_is_denied() -> None:
    choice = breaker(best_priority=4).admit("a", ask("12V/1A,prio=2"), ALICE, 0).choice
    assert choice is not None
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.PRIORITY_DENIED


def test_power_of_a_fraction_of_a_milliwatt_is_rounded_up() -> None:
    pool = breaker(1, "1V/50A")
    pool.supplies = [Supply(profile=PowerProfile.make(ProfileType.OFFER, 3, 50_000))]
    for key in range(10):
        request = PowerProfile.make(ProfileType.REQUEST, 3, 300)
        pool.admit(key, [Ask(request)], ALICE, 0)
    assert pool.held_mw <= 1


def test_a_better_claim_waits_until_others_are_shed() -> None:
    pool = breaker()
    power_up(pool, "low", "12V/5A,prio=9", "12V/1A")
    assert pool.admit("top", ask("12V/3A,prio=1"), BOB, 0).choice is None
    assert pool.retry(0) == []
    changes = pool.plan(10 * S)
    assert [(c.key, c.raised, c.profile.power_mw) for c in changes] == [("low", False, 24_000)]
    assert changes[0].refusal.code == Reason.BUDGET
    assert pool.plan(10 * S) == []
    settle(pool, changes)
    [(key, admission)] = pool.retry(10 * S)
    assert key == "top"
    assert admission.choice is not None
    assert admission.choice.grant is not None
    assert pool.held_mw == 60_000
    assert pool.explain("low") == changes[0].refusal
    assert pool.explain("top") is None


def test_a_lesser_claim_without_hope_is_refused_at_once() -> None:
    pool = breaker()
    power_up(pool, "top", "12V/5A,prio=1", "12V/1A")
    choice = pool.admit("low", ask("12V/5A,prio=9"), BOB, 0).choice
    assert choice is not None
    assert choice.grant is None


def test_waiting_ends_with_a_refusal_and_others_do_not_overtake() -> None:
    pool = breaker()
    power_up(pool, "low", "12V/5A,prio=9", "12V/1A")
    pool.admit("top", ask("12V/3A,prio=1"), BOB, 0)
    assert pool.admit("next", ask("12V/1A,prio=2"), BOB, 1).choice is None
    answers = dict(pool.retry(WAIT_NS + 1))
    assert set(answers) == {"top", "next"}
    for admission in answers.values():
        assert admission.choice is not None
        assert admission.choice.grant is None


def test_the_number_of_waiting_requests_is_limited() -> None:
    pool = breaker()
    power_up(pool, "low", "12V/5A,prio=9", "12V/0.001A")
    waiting = [
        pool.admit(key, ask("12V/0.01A,prio=1"), BOB, 0).choice is None
        for key in range(MAX_WAITING + 1)
    ]
    assert waiting.count(True) == MAX_WAITING
    assert not waiting[-1]
    assert pool.release(0) == 0
    assert len(pool.waiting) == MAX_WAITING - 1


@pytest.mark.requirement("PTCP-7-06")
def test_a_lower_rating_sheds_the_least_class_first() -> None:
    pool = breaker()
    power_up(pool, "top", "12V/2A,prio=1", "12V/1A")
    power_up(pool, "low", "12V/3A,prio=9", "12V/1A")
    pool.reload(40_000, pool.supplies, 20 * S)
    assert pool.overloaded
    assert settle(pool, pool.plan(20 * S)) == {"low": 15_996}
    assert not pool.overloaded
    assert pool.held_mw <= 40_000


def test_a_flow_below_its_minimum_is_suspended() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/5A")
    pool.reload(40_000, pool.supplies, 20 * S)
    assert settle(pool, pool.plan(20 * S)) == {"a": 0}
    pool.reload(60_000, pool.supplies, 40 * S)
    assert pool.plan(40 * S) == []
    assert settle(pool, pool.plan(46 * S)) == {"a": 60_000}


@pytest.mark.requirement("PTCP-7-07")
def test_a_flow_dwells_unless_the_rating_is_in_danger() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/5A", "12V/1A")
    pool.reload(50_000, pool.supplies, 10 * S)
    settle(pool, pool.plan(10 * S))
    pool.reload(40_000, pool.supplies, 12 * S)
    [change] = pool.plan(12 * S)
    assert change.urgent
    settle(pool, [change])
    pool.reload(60_000, pool.supplies, 13 * S)
    assert pool.plan(16 * S) == []
    assert settle(pool, pool.plan(30 * S)) == {"a": 60_000}


@pytest.mark.requirement("PTCP-7-07")
def test_at_most_six_changes_a_minute() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/5A", "12V/0.1A")
    count = 0
    for second in range(0, 60, 5):
        pool.set_ceiling("a", 50_000 - second * 100)
        count += len(settle(pool, pool.plan(second * S)))
    assert count == 6
    assert len(pool.plan(61 * S)) == 1


@pytest.mark.requirement("PTCP-7-06")
def test_a_restore_needs_105_percent_while_others_are_short() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/2.5A", "12V/0.5A")
    power_up(pool, "b", "12V/2.5A", "12V/0.5A")
    pool.reload(30_000, pool.supplies, 10 * S)
    settle(pool, pool.plan(10 * S))
    pool.reload(40_000, pool.supplies, 20 * S)
    raised = settle(pool, pool.plan(40 * S))
    assert raised == {"a": 20_000 - 8, "b": 19_044}  # 105 % of b's need is what a left
    pool.reload(60_000, pool.supplies, 60 * S)
    settle(pool, pool.plan(80 * S))
    assert pool.held_mw == 60_000


def test_an_ordered_ceiling_sheds_one_flow_and_lifting_it_restores() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/2A")
    power_up(pool, "b", "12V/2A")
    pool.set_ceiling("a", 6_000)
    changes = pool.plan(10 * S)
    assert [change.refusal.code for change in changes] == [Reason.OPERATOR]
    assert settle(pool, changes) == {"a": 6_000}
    assert pool.explain("a") is not None
    assert pool.plan(20 * S) == []
    pool.set_ceiling("a", None)
    assert settle(pool, pool.plan(20 * S)) == {"a": 24_000}
    assert pool.next_check(20 * S) is None


@pytest.mark.requirement("PTCP-7-08")
def test_an_unused_part_is_given_back_down_to_the_minimum_until_it_is_asked_for_again() -> None:
    pool = breaker(60_000)
    power_up(pool, "a", "12V/4A", "12V/1A")
    pool.give_back("a", 44_000)
    assert pool.plan(6 * S) == []
    pool.give_back("a", 5_000)
    [change] = pool.plan(6 * S)
    assert (change.raised, change.refusal.code) == (False, Reason.BUDGET)
    assert settle(pool, [change]) == {"a": 12_000}
    assert pool.held_mw == 12_000
    assert pool.plan(60 * S) == []
    assert pool.renegotiate("a", ask("12V/4A", "12V/1A"), 70 * S).grant is not None
    assert pool.held_mw == 48_000
    assert pool.explain("a") is None


def test_what_an_operator_ordered_is_not_lifted_by_asking() -> None:
    pool = breaker(60_000)
    power_up(pool, "a", "12V/4A", "12V/1A")
    pool.set_ceiling("a", 24_000)
    pool.give_back("a", 5_000)
    assert settle(pool, pool.plan(6 * S)) == {"a": 24_000}


def test_a_rejected_raise_gives_back_what_it_held() -> None:
    pool = breaker()
    grant = power_up(pool, "a", "12V/2A")
    pool.set_ceiling("a", 6_000)
    [shed] = pool.plan(10 * S)
    settle(pool, [shed])
    pool.set_ceiling("a", None)
    [change] = pool.plan(20 * S)
    assert change.raised
    assert pool.held_mw == 24_000
    pool.settled("a", shed.profile)
    assert pool.held_mw == 6_000
    assert grant.power_mw == 24_000


def test_nothing_is_raised_on_a_stale_path() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/2A")
    pool.set_ceiling("a", 6_000)
    settle(pool, pool.plan(0))
    pool.set_ceiling("a", None)
    pool.hold_back("a", 100 * S)
    assert pool.plan(50 * S) == []
    assert len(pool.plan(100 * S)) == 1


def test_the_sink_renegotiates_within_what_is_free() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/2A")
    power_up(pool, "b", "12V/2A")
    choice = pool.renegotiate("a", ask("12V/4A"), 0)
    assert choice.grant is None
    assert choice.offers == ()
    assert pool.held_mw == 48_000
    choice = pool.renegotiate("a", ask("12V/3A"), 0)
    assert choice.grant is not None
    assert pool.held_mw == 60_000
    assert pool.renegotiate("a", ask("12V/1A"), 0).grant is not None
    assert pool.held_mw == 36_000
    assert pool.renegotiate("a", ask("5V/1A"), 0).grant is None


def test_reload_keeps_flows_of_a_supply_that_is_gone() -> None:
    pool = breaker(100_000, "12V/5A", "5V/3A")
    power_up(pool, "a", "12V/1A")
    pool.reload(100_000, [parse_supply("5V/2A"), parse_supply("9V/1A")], 0)
    assert [supply.retiring for supply in pool.supplies] == [True, False, False]
    choice = pool.admit("b", ask("12V/1A"), ALICE, 0).choice
    assert choice is not None
    assert choice.grant is None
    power_up(pool, "c", "9V/1A")
    assert pool.held_ma == [1_000, 0, 1_000]
    assert pool.plan(100 * S) == []


def test_a_rising_rating_spreads_restores_at_random() -> None:
    pool = breaker()
    power_up(pool, "a", "12V/5A", "12V/1A")
    pool.reload(30_000, pool.supplies, 0)
    settle(pool, pool.plan(10 * S))
    pool.reload(60_000, pool.supplies, 20 * S)
    assert pool.plan(24 * S) == []
    assert len(pool.plan(25 * S)) == 1


def test_ramps_follow_one_another_and_a_long_queue_is_refused() -> None:
    pool = breaker(120_000, ramp_mw_per_s=20_000)
    assert breaker().ramp_ns("a", 0) == 0
    power_up(pool, "a", "12V/2A")
    power_up(pool, "b", "12V/2A")
    assert pool.ramp_ns("a", 0) == 1_200_000_000
    assert pool.ramp_ns("b", 0) == 2_400_000_000
    power_up(pool, "c", "12V/2A")
    assert pool.ramp_ns("c", 0) == 3_600_000_000
    choice = pool.admit("d", ask("12V/1A"), ALICE, 0).choice
    assert choice is not None
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.BUDGET
    assert (choice.refusal.value, choice.refusal.limit) == (12_000, 8_000)
    assert choice.refusal.retry_ms > 0
    assert [offer.power_mw for offer, _ in choice.offers] == [7_992]


@pytest.mark.requirement("PTCP-4-07")
@pytest.mark.parametrize("early_or_late", [80, 97, 100, 104, 120])
def test_all_who_ask_at_once_are_connected_one_after_the_other(early_or_late: int) -> None:
    pool = breaker(600_000, ramp_mw_per_s=6_000)
    due = dict.fromkeys("abcdefgh", 0)
    up: dict[str, int] = {}
    while due:
        key = min(due, key=lambda one: (due[one], one))
        now = due.pop(key)
        choice = pool.admit(key, ask("12V/2A"), ALICE, now).choice
        assert choice is not None
        if choice.grant is not None:
            pool.accepted(key, choice.grant)
            up[key] = now + pool.ramp_ns(key, now)
            assert len(up) * 24_000 <= 6_000 * up[key] // S
            continue
        assert choice.refusal is not None
        assert choice.refusal.code == Reason.BUDGET
        assert choice.refusal.retry_ms > 0
        pool.release(key)
        due[key] = now + choice.refusal.retry_ms * NS_PER_MS * early_or_late // 100
    assert len(up) == 8
    assert max(up.values()) < 60 * S


@pytest.mark.requirement("PTCP-4-05")
def test_a_raise_leaves_the_ramp_to_what_was_promised_before() -> None:
    pool = breaker(600_000, ramp_mw_per_s=6_000)
    power_up(pool, "a", "12V/10A", "12V/0.1A")
    pool.ramp_ns("a", 0)
    choice = pool.admit("b", ask("12V/1.5A"), BOB, 20 * S).choice
    assert choice is not None
    assert choice.grant is not None
    raised = pool.plan(20 * S)
    assert [change.profile.power_mw for change in raised] == [24_000 + 6_000]
    settle(pool, raised)
    pool.accepted("b", choice.grant)
    # 6 W and 18 W at 6 W a second
    assert pool.ramp_ns("b", 20 * S) == 4 * S


@pytest.mark.requirement("PTCP-4-05")
def test_what_comes_back_on_another_path_keeps_nobody_waiting_longer_than_it_takes() -> None:
    pool = breaker(600_000, ramp_mw_per_s=6_000)
    now = 0
    for index in range(10):
        power_up(pool, f"{index}", "12V/2A", now=now)
        now += pool.ramp_ns(f"{index}", now)
    for _ in range(3):
        # a path flaps: all come back at once, and all are up in time for READY
        for index in range(10):
            pool.move(f"{index}", "new", ALICE)
            pool.move("new", f"{index}", ALICE)
            assert 0 < pool.ramp_ns(f"{index}", now) <= 4 * S
        now += 4 * S
    choice = pool.admit("late", ask("12V/2A"), BOB, now).choice
    assert choice is not None
    assert choice.grant is not None


def test_a_shortage_stays_a_shortage_while_the_ramp_is_busy() -> None:
    pool = breaker(30_000, ramp_mw_per_s=6_000)
    power_up(pool, "a", "12V/2A")
    pool.ramp_ns("a", 0)
    choice = pool.admit("b", ask("12V/2A"), ALICE, 0).choice
    assert choice is not None
    assert choice.refusal is not None
    assert choice.refusal.code == Reason.NO_CAPACITY
    assert choice.refusal.limit == 6_000


def test_what_cannot_come_up_in_time_is_not_promised_and_what_can_rises_by_steps() -> None:
    pool = breaker(100_000, ramp_mw_per_s=1_000)
    choice = pool.admit("a", ask("12V/5A"), ALICE, 0).choice
    assert choice is not None
    assert choice.grant is None
    assert choice.refusal is not None
    assert (choice.refusal.code, choice.refusal.limit) == (Reason.BUDGET, 4_000)
    assert choice.refusal.retry_ms == 0, "60 W never come up in 4 s"
    pool.release("a")
    grant = power_up(pool, "b", "12V/5A", "12V/0.1A")
    assert grant.power_mw == 3_996
    assert pool.ramp_ns("b", 0) == 3_996_000_000
    held, now = pool.held_mw, 4 * S
    while pool.next_check(now) is not None and now < 300 * S:
        now += S
        settle(pool, pool.plan(now))
        assert pool.held_mw - held <= 4_000
        held = pool.held_mw
        assert held <= now // S * 1_000 + 4_000
    assert pool.held_mw == 60_000


def test_two_promises_share_one_ramp() -> None:
    pool = breaker(100_000, ramp_mw_per_s=10_000)
    for key, expected in (("a", 30_000), ("b", 9_996)):
        choice = pool.admit(key, ask("12V/2.5A", "12V/0.1A"), ALICE, 0).choice
        assert choice is not None
        assert choice.grant is not None
        assert choice.grant.power_mw == expected


def test_a_renegotiation_keeps_to_the_ramp() -> None:
    pool = breaker(100_000, ramp_mw_per_s=1_000)
    power_up(pool, "a", "12V/1mA")
    assert pool.renegotiate("a", ask("12V/5A"), 10 * S).grant is None
    granted = pool.renegotiate("a", ask("12V/5A", "12V/0.1A"), 10 * S).grant
    assert granted is not None
    assert granted.power_mw == 4_008
    refused = pool.renegotiate("a", ask("12V/0.4A"), 10 * S)
    assert refused.grant is None
    assert refused.refusal is not None
    assert refused.refusal.code == Reason.BUDGET
    assert refused.refusal.retry_ms > 0
    assert pool.renegotiate("a", ask("12V/0.1A"), 10 * S).grant is not None


def test_restores_keep_to_the_ramp() -> None:
    pool = breaker(100_000, ramp_mw_per_s=10_000)
    for key in ("a", "b"):
        power_up(pool, key, "12V/2A")
        pool.set_ceiling(key, 2_000)
    settle(pool, pool.plan(0))
    for key in ("a", "b"):
        pool.set_ceiling(key, None)
    assert len(settle(pool, pool.plan(20 * S))) == 1
    assert pool.plan(21 * S) == []
    assert len(settle(pool, pool.plan(23 * S))) == 1


def test_a_resumed_flow_takes_its_holding_along() -> None:
    pool = breaker()
    power_up(pool, "old", "12V/2A")
    pool.set_ceiling("old", 1_000)
    pool.move("old", "new", BOB)
    assert pool.held_mw == 24_000
    assert pool.release("old") == 0
    assert pool.release("new") == 24_000
    assert pool.next_check(0) is None


@pytest.mark.requirement("PTCP-7-01")
def test_the_feeder_is_congested_above_90_percent() -> None:
    pool = breaker(100_000)
    assert not pool.congested(90_000)
    assert pool.congested(90_001)


def test_a_wish_that_may_be_nothing_is_granted_under_a_rating_that_was_just_lowered() -> None:
    pool = breaker(60_000)
    power_up(pool, "a", "12V/5A")
    pool.reload(30_000, pool.supplies, 0)
    assert pool.overloaded
    nothing = power_up(pool, "b", "12V/1A", "12V/0A")
    assert nothing.current_ma == 0
    assert (pool.held_mw, pool.next_check(0)) == (60_000, 100_000_000)
    assert pool.release("b") == 0


def test_a_share_that_shrinks_without_need_is_no_reason_to_shed() -> None:
    pool = breaker(40_000)
    power_up(pool, "a", "12V/5A", "12V/1A")
    pool.reload(60_000, pool.supplies, 0)
    power_up(pool, "b", "12V/5A", "12V/1A")
    assert [pool.holdings[key].mw for key in "ab"] == [39_996, 20_004]
    # both would get 30 W now, but a flow that stands is not moved for the sake of equality
    assert pool.plan(100 * S) == []
    assert pool.next_check(0) == S
    pool.release("a")
    assert settle(pool, pool.plan(100 * S)) == {"b": 60_000}
    assert pool.next_check(0) is None


def test_a_busy_flow_is_neither_shed_nor_raised_until_it_is_free() -> None:
    pool = breaker(60_000)
    power_up(pool, "a", "12V/5A", "12V/1A")
    pool.reload(30_000, pool.supplies, 0)
    assert pool.plan(0, lambda key: key == "a") == []
    settle(pool, pool.plan(0))
    pool.reload(60_000, pool.supplies, 0)
    assert pool.plan(100 * S, lambda key: key == "a") == []
    assert settle(pool, pool.plan(100 * S)) == {"a": 60_000}


def test_a_raise_keeps_to_the_limit_of_its_peer() -> None:
    pool = breaker(100_000, per_peer_mw=36_000)
    power_up(pool, "a", "12V/3A", "12V/1A")
    pool.set_ceiling("a", 12_000)
    settle(pool, pool.plan(0))
    power_up(pool, "b", "12V/1A")
    pool.set_ceiling("a", None)
    # 36 W for the peer, 12 W of them held by the other flow
    assert settle(pool, pool.plan(100 * S)) == {"a": 24_000}


def test_what_is_said_of_a_flow_that_is_gone_is_forgotten() -> None:
    pool = breaker()
    grant = power_up(pool, "a", "12V/1A")
    pool.release("a")
    pool.settled("a", grant)
    pool.hold_back("a", 10 * S)
    assert (pool.held_mw, pool.explain("a"), pool.next_check(0)) == (0, None, None)


def test_a_resumed_flow_still_wants_what_it_lacked() -> None:
    pool = breaker(60_000)
    power_up(pool, "old", "12V/5A", "12V/1A")
    pool.reload(30_000, pool.supplies, 0)
    settle(pool, pool.plan(0))
    pool.move("old", "new", BOB)
    pool.reload(60_000, pool.supplies, 0)
    assert settle(pool, pool.plan(100 * S)) == {"new": 60_000}


def test_a_resumed_flow_that_lacked_nothing_lacks_nothing() -> None:
    pool = breaker()
    power_up(pool, "old", "12V/1A")
    pool.move("old", "new", BOB)
    assert (pool.held_mw, pool.next_check(0), pool.plan(100 * S)) == (12_000, None, [])


def test_a_supply_that_was_lowered_is_no_hindrance_to_others() -> None:
    pool = breaker(500_000, "12V/5A", "5V/5A")
    power_up(pool, "a", "12V/4A")
    pool.reload(500_000, [parse_supply("12V/2A"), parse_supply("5V/5A")], 0)
    assert pool.overloaded
    assert power_up(pool, "b", "5V/1A").power_mw == 5_000
    choice = pool.admit("c", ask("12V/1A"), BOB, 0).choice
    assert choice is not None
    assert choice.grant is None


@pytest.mark.requirement("PTCP-1-02")
@pytest.mark.parametrize(
    ("supply", "request_text", "held_ma"),
    [
        ("12.5V/20000A", "13V/17000A", 17_000_000),
        ("12.5V/20000A", "13V/1A", 1_000),
        ("20000.5V/10A", "20001V/1A", 1_000),
    ],
)
def test_power_of_a_supply_that_octets_round_is_held_as_it_is_said(
    supply: str, request_text: str, held_ma: int
) -> None:
    pool = breaker(10**12, supply)
    grant = power_up(pool, "a", request_text)
    assert pool.supplies[0].feeds(grant)
    assert pool.held_ma == [held_ma]
    assert pool.release("a") == held_ma * grant.voltage_mv // 1000


def test_what_is_accepted_of_a_rounded_supply_stays_with_it() -> None:
    pool = breaker(10**12, "12V/1A")
    pool.supplies = [Supply(profile=PowerProfile.parse("12.5V/20000A", ProfileType.OFFER))]
    grant = power_up(pool, "a", "13V/17000A", "12V/10000A")
    pool.settled("a", grant.with_type(ProfileType.GRANT, current_ma=12_000_000))
    assert pool.held_ma == [12_000_000]


def test_a_class_that_is_not_allowed_is_denied_in_every_wish() -> None:
    pool = breaker(best_priority=5)
    wishes = [*ask("5V/1A"), *ask("12V/1A,prio=1"), *ask("12V/2A,prio=6")]
    choice = pool.admit("a", wishes, ALICE, 0).choice
    assert choice is not None
    assert choice.grant is not None
    assert (choice.grant.priority, choice.grant.current_ma) == (6, 2_000)
    pool.accepted("a", choice.grant)
    refused = pool.renegotiate("a", ask("12V/3A,prio=1"), 0)
    assert refused.grant is None
    assert refused.refusal is not None
    assert (refused.refusal.code, refused.refusal.limit) == (Reason.PRIORITY_DENIED, 5)
    assert pool.held_mw == 24_000


def test_an_ordered_ceiling_stands_whatever_the_sink_asks_for() -> None:
    pool = breaker(100_000)
    power_up(pool, "a", "12V/4A", "12V/0.1A")
    pool.set_ceiling("a", 12_000)
    settle(pool, pool.plan(10 * S))
    refused = pool.renegotiate("a", ask("12V/4A"), 20 * S)
    assert refused.grant is None
    assert refused.refusal is not None
    assert (refused.refusal.code, refused.refusal.limit) == (Reason.OPERATOR, 12_000)
    granted = pool.renegotiate("a", ask("12V/4A", "12V/0.5A"), 20 * S).grant
    assert granted is not None
    assert granted.power_mw == pool.held_mw == 12_000


def test_a_ceiling_ordered_while_a_raise_is_unanswered_is_enforced_after_it() -> None:
    pool = breaker(100_000)
    grant = power_up(pool, "a", "12V/4A", "12V/0.1A")
    pool.set_ceiling("a", 12_000)
    settle(pool, pool.plan(10 * S))
    pool.set_ceiling("a", None)
    [raised] = pool.plan(20 * S)
    pool.set_ceiling("a", 6_000)
    pool.settled("a", raised.profile)
    assert pool.held_mw == grant.power_mw
    assert settle(pool, pool.plan(30 * S)) == {"a": 6_000}


def test_a_flow_that_moves_to_a_peer_of_its_own_limit_must_fit_it() -> None:
    pool = breaker(100_000, per_peer_mw=24_000)
    power_up(pool, "a", "12V/2A", peer=ALICE)
    power_up(pool, "b", "12V/1A", peer=BOB)
    excess = pool.move("a", "c", BOB)
    assert excess is not None
    assert (excess.code, excess.value, excess.limit) == (Reason.WATT_LIMIT, 36_000, 24_000)
    assert pool.release("c") == 24_000
    assert pool.move("b", "d", ALICE) is None


def test_what_somebody_may_have_is_shed_at_once_and_no_order_lifts_it() -> None:
    pool = breaker()
    power_up(pool, "lamp", "12V/5A")
    why = Refusal(Reason.WATT_LIMIT, 60_000, 24_000, rule="authorized_watts:3 clear")
    pool.set_right("lamp", 24_000, why)
    [change] = pool.plan(now=S)
    assert (change.profile.power_mw, change.refusal) == (24_000, why)
    settle(pool, [change])
    pool.set_ceiling("lamp", None)
    # within the dwell of five seconds too
    pool.set_right("lamp", 0, why)
    [change] = pool.plan(now=S + 1)
    assert change.profile.power_mw == 0
    assert change.urgent
    settle(pool, [change])
    assert pool.plan(now=60 * S) == []
    assert pool.explain("lamp") == why


def test_a_right_that_is_given_back_is_restored_under_an_order() -> None:
    pool = breaker()
    power_up(pool, "lamp", "12V/5A")
    pool.set_right("lamp", 0, Refusal(Reason.ENERGY_QUOTA, 7, 7))
    settle(pool, pool.plan(now=S))
    pool.set_ceiling("lamp", 36_000)
    pool.set_right("lamp", None, None)
    [change] = pool.plan(now=20 * S)
    assert (change.raised, change.profile.power_mw) == (True, 36_000)
