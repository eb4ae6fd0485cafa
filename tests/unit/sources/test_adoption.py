"""A contract that another provider gave is held as it is, or not at all; nobody is shed for it."""

import pytest

from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason
from powertcp.sources.adoption import adopt, has_room
from powertcp.sources.breaker import Breaker
from powertcp.sources.source import parse_supply
from powertcp.units import NS_PER_S

S = NS_PER_S
ALICE, BOB = b"alice", b"bob"


def breaker(
    rating_mw: int = 60_000,
    *supplies: str,
    per_peer_mw: int | None = None,
    best_priority: int = 1,
) -> Breaker:
    made = [parse_supply(text) for text in supplies or ("12V/50A",)]
    return Breaker(
        rating_mw,
        made,
        draw=lambda n: n // 2,
        per_peer_mw=per_peer_mw,
        best_priority=best_priority,
    )


def granted(text: str) -> PowerProfile:
    return PowerProfile.parse(text, ProfileType.GRANT)


def wanted(text: str, minimum: str | None = None) -> Ask:
    least = PowerProfile.parse(minimum, ProfileType.MINIMUM) if minimum else None
    return Ask(PowerProfile.parse(text), least)


def facts_of(pool: Breaker) -> tuple[object, ...]:
    return pool.held_mw, list(pool.held_ma), dict(pool.holdings), list(pool.waiting)


@pytest.mark.requirement("DPDP-10-05")
def test_what_another_one_gave_is_held_as_it_is() -> None:
    pool = breaker()
    supply, refusal = adopt(pool, "a", granted("12V/2A"), wanted("12V/4A", "12V/1A"), ALICE, 0)
    assert (supply, refusal) == (0, None)
    assert (pool.held_mw, pool.held_ma) == (24_000, [2_000])
    holding = pool.holdings["a"]
    assert holding.live
    assert (holding.desired, holding.minimum) == wanted("12V/4A", "12V/1A")
    # it is raised to what was asked for in its time, as where it came from
    (change,) = pool.plan(20 * S)
    assert (change.key, change.raised, change.profile.current_ma) == ("a", True, 4_000)


@pytest.mark.requirement("DPDP-10-05")
@pytest.mark.parametrize("now_a", ["0.5A", "0A"])
def test_what_was_shed_below_its_minimum_is_raised_again(now_a: str) -> None:
    pool = breaker()
    profile = granted(f"12V/{now_a}")
    assert has_room(pool, profile, ALICE, 0)
    supply, _ = adopt(pool, "a", profile, wanted("12V/4A", "12V/1A"), ALICE, 0)
    assert supply == 0
    assert pool.held_mw == profile.power_mw
    assert (pool.holdings["a"].desired, pool.holdings["a"].minimum) == wanted("12V/4A", "12V/1A")
    (change,) = pool.plan(20 * S)
    assert change.profile.current_ma == 4_000


@pytest.mark.requirement("DPDP-10-05")
@pytest.mark.parametrize(
    ("pool", "text", "code"),
    [
        (breaker(23_999), "12V/2A", Reason.NO_CAPACITY),
        (breaker(60_000, "12V/1A"), "12V/2A", None),
        (breaker(60_000, "230V/16A@50Hz"), "12V/2A", Reason.VOLTAGE_RANGE),
        (breaker(60_000, per_peer_mw=20_000), "12V/2A", None),
        (breaker(60_000, best_priority=4), "12V/2A,prio=2", Reason.PRIORITY_DENIED),
    ],
)
def test_what_cannot_be_had_is_not_held_in_part(
    pool: Breaker, text: str, code: Reason | None
) -> None:
    before = facts_of(pool)
    supply, refusal = adopt(pool, "a", granted(text), wanted(text), ALICE, 0)
    assert supply == -1
    assert refusal is not None
    assert code in (None, refusal.code)
    assert facts_of(pool) == before
    assert pool.plan(20 * S) == []


@pytest.mark.requirement("DPDP-10-05")
def test_nobody_is_shed_for_what_comes_from_elsewhere() -> None:
    pool = breaker(24_000)
    grant = pool.admit("least", [wanted("12V/2A,prio=15", "12V/0.1A")], BOB, 0)
    assert grant.choice is not None
    assert grant.choice.grant is not None
    pool.accepted("least", grant.choice.grant)
    before = facts_of(pool)
    assert not has_room(pool, granted("12V/1A,prio=1"), ALICE, 10 * S)
    supply, refusal = adopt(
        pool, "best", granted("12V/1A,prio=1"), wanted("12V/1A,prio=1"), ALICE, 10 * S
    )
    assert supply == -1
    assert refusal is not None
    assert refusal.code == Reason.NO_CAPACITY
    assert facts_of(pool) == before
    assert pool.plan(10 * S) == []


@pytest.mark.requirement("DPDP-10-05")
def test_to_look_whether_there_is_room_changes_nothing() -> None:
    pool = breaker(24_000)
    before = facts_of(pool)
    for _ in range(1000):
        assert has_room(pool, granted("12V/2A"), ALICE, 0)
        assert not has_room(pool, granted("12V/2.001A"), ALICE, 0)
    assert facts_of(pool) == before
