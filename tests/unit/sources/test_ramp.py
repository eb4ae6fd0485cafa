"""Turns of a ramp: when to ask again, who keeps a place, and what is never worth asking."""

from powertcp.registry import Reason
from powertcp.sources.ramp import MAX_TURNS, RETRY_MAX_NS, Ramp
from powertcp.units import NS_PER_MS, NS_PER_S

S = NS_PER_S
ALICE, BOB = b"alice", b"bob"


def turn(ramp: Ramp, mw: int, now: int = 0, peer: bytes = ALICE) -> int:
    return ramp.turn(peer, mw, mw, ramp.fits_at(mw, 0, now), now)


def test_there_is_room_when_enough_of_the_ramp_is_over() -> None:
    ramp = Ramp(6_000)
    assert ramp.room_mw(0, 0) == ramp.step_mw == 24_000
    assert ramp.connect(24_000, 0) == 4 * S
    assert ramp.room_mw(0, 1 * S) == 6_000
    assert ramp.room_mw(2_000, 1 * S) == 4_000
    assert ramp.fits_at(6_000, 0, 0) == 1 * S
    assert ramp.fits_at(6_000, 6_000, 0) == 2 * S
    assert ramp.fits_at(24_000, 0, 9 * S) == 9 * S


def test_refused_requests_get_turns_one_after_the_other() -> None:
    ramp = Ramp(6_000)
    ramp.connect(24_000, 0)
    assert [turn(ramp, 24_000) // S for _ in range(7)] == [4, 8, 12, 16, 20, 24, 28]


def test_a_request_that_comes_back_early_keeps_its_turn_and_gives_it_up_when_served() -> None:
    ramp = Ramp(6_000)
    ramp.connect(24_000, 0)
    assert [turn(ramp, 24_000), turn(ramp, 24_000, peer=BOB)] == [4 * S, 8 * S]
    assert turn(ramp, 24_000, 39 * S // 10) == 4 * S
    ramp.connect(24_000, 4 * S)
    ramp.served(ALICE, 24_000, 4 * S)
    assert turn(ramp, 24_000, 79 * S // 10, peer=BOB) == 8 * S
    assert turn(ramp, 24_000, 79 * S // 10) == 12 * S


def test_turns_nobody_came_for_are_forgotten_and_their_number_is_bounded() -> None:
    ramp = Ramp(6_000)
    ramp.connect(24_000, 0)
    latest = max(turn(ramp, 24_000) for _ in range(3 * MAX_TURNS))
    assert latest <= (MAX_TURNS + 1) * 4 * S
    assert ramp.room_mw(0, 4 * S) == 24_000
    assert turn(ramp, 24_000, 10 * RETRY_MAX_NS) == 10 * RETRY_MAX_NS


def test_the_refusal_says_what_the_ramp_allows_and_when_to_ask_again() -> None:
    ramp = Ramp(6_000)
    refusal = ramp.refusal(24_000, 23, 2 * S)
    assert (refusal.code, refusal.value, refusal.limit) == (Reason.BUDGET, 24_000, 23)
    assert refusal.retry_ms == 2_500
    assert "connects 6,000 mW in a second" in refusal.sentence()
    assert ramp.refusal(24_000, 23, 0).retry_ms == 200
    assert ramp.refusal(24_000, 23, 900 * S).retry_ms == RETRY_MAX_NS // NS_PER_MS
    assert ramp.refusal(60_000, 24_000).retry_ms == 0
