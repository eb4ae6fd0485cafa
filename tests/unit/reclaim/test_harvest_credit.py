"""What a harvested source is offered: as much as the reservoir has room for, all of them together."""

import pytest

from powertcp.reclaim.attack import AttackTerms
from powertcp.reclaim.harvest import OPEN_WINDOW_UJ
from powertcp.units import NS_PER_MS, NS_PER_S
from powertcp.wire.segments import DEMAND_MAX, Blocked, Credit
from tests.screens import RESERVOIR, Besieged, joules, power

BLOCK_UJ = 100_000_000


def policy(reservoir: str = RESERVOIR, modifiers: str = "") -> str:
    return f"{reservoir}\npolicy drop\nrule state unsolicited -> reclaim main{modifiers}"


SMALL = policy("reservoir main capacity 950J charge 95% discharge 95%")


@pytest.mark.requirement("FWRL-4-06")
@pytest.mark.parametrize(
    ("text", "window_uj", "demand_mw"),
    [
        (policy(modifiers=" limit 1kW"), 2_000_000_000, 1_000_000),
        (policy(modifiers=" limit 1kW burst 500J"), 500_000_000, 1_000_000),
        (policy(f"{RESERVOIR} max-in 500W"), 1_000_000_000, 500_000),
        (policy(f"{RESERVOIR} max-in 500W", " limit 2kW"), 1_000_000_000, 500_000),
        (SMALL, 1_000_000_000, DEMAND_MAX),
        (policy(), BLOCK_UJ + OPEN_WINDOW_UJ, DEMAND_MAX),
    ],
)
def test_the_first_offer_is_two_seconds_or_the_room(
    text: str, window_uj: int, demand_mw: int
) -> None:
    siege = Besieged(text, AttackTerms())
    siege.exchange()
    (credit,) = siege.of(Credit)
    assert (credit.flow, credit.esn, credit.demand_mw) == (1, BLOCK_UJ, demand_mw)
    assert credit.limit_uj <= window_uj + BLOCK_UJ
    assert credit.limit_uj >= min(window_uj, 500_000_000)


@pytest.mark.requirement("FWRL-4-06")
def test_all_flows_together_are_offered_no_more_than_there_is_room() -> None:
    siege = Besieged(SMALL, AttackTerms(flows=4, duration_ns=5 * NS_PER_S))
    promised: dict[int, int] = {}
    siege.run(5)
    for one in siege.of(Credit):
        promised[one.flow] = max(promised.get(one.flow, 0), one.limit_uj)
    # 1000 J come in at 95 %: the room that one was promised is nobody else's
    assert sum(promised.values()) == 1_000_000_000
    assert siege.attack.sent_uj == 1_000_000_000 + 3 * BLOCK_UJ
    assert siege.firewall.stored_uj == 950_000_000
    assert joules(siege.firewall)[3] == 50_000_000 + 3 * BLOCK_UJ


@pytest.mark.requirement("FWRL-4-06")
def test_credit_is_given_again_at_half_of_the_window() -> None:
    siege = Besieged(policy(modifiers=" limit 1kW"), AttackTerms(duration_ns=20 * NS_PER_S))
    siege.run(20)
    assert siege.attack.sent_uj == 20_000_000_000
    assert siege.of(Blocked) == []
    assert siege.attack.blocked == 0
    limits = [one.limit_uj for one in siege.of(Credit)]
    assert limits == sorted(set(limits))
    # in each second at most ten: 100 ms apart
    assert len(limits) <= 200
    assert joules(siege.firewall)[2:] == (19_000_000_000, 1_000_000_000)


@pytest.mark.requirement("FWRL-4-06", "FWRL-4-05")
def test_what_was_never_granted_is_banked_up_to_the_limits() -> None:
    siege = Besieged(
        policy(modifiers=" limit 500W burst 500J"),
        AttackTerms(honours_credit=False, duration_ns=10 * NS_PER_S),
    )
    siege.run(9.95)
    came, authorised, kept, heat = joules(siege.firewall)
    assert (came, authorised) == (10_000_000_000, 0)
    # 500 J at once, and then 500 W
    most_uj = (500_000_000 + 500_000 * 9_950) * 95 // 100
    assert most_uj - BLOCK_UJ <= kept <= most_uj
    assert heat == came - kept


@pytest.mark.requirement("FWRL-4-06")
def test_blocked_is_answered_when_there_is_room_again() -> None:
    siege = Besieged(policy(modifiers=" limit 100W burst 100J"))
    siege.say(power(1, volts_mv=100_000, current_ua=10_000_000))
    before = siege.of(Credit)
    siege.say(Blocked(1, BLOCK_UJ, BLOCK_UJ))
    assert siege.of(Credit) == before
    assert siege.screen.get_timer() is not None
    siege.wait(1)
    siege.say(Blocked(1, BLOCK_UJ, BLOCK_UJ))
    assert siege.of(Credit)[-1].limit_uj > BLOCK_UJ
    assert siege.now >= NS_PER_MS
