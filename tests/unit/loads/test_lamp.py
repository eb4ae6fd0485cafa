from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from powertcp.loads import Ceiling, Delivered, Fresh, Lease, Lost, Powered, Stale
from powertcp.loads.lamp import RAMP_S, REVERSAL_S, Bulb, Ramp, draw
from powertcp.profile import PowerProfile

POWERED = Powered(profile=PowerProfile.parse("10V/1A"), until_ns=60)


def test_brightness_is_delivered_over_rated() -> None:
    bulb = Bulb()
    bulb.obey(POWERED, 0.0)
    assert bulb.brightness(0.0) == 0.0
    bulb.obey(Delivered(power_mw=2500, energy_uj=1, total_uj=3_000_000), 1.0)
    assert bulb.brightness(1.0) == 0.25
    bulb.obey(Delivered(power_mw=99_000, energy_uj=1, total_uj=3_000_000), 1.0)
    assert bulb.brightness(1.0) == 1.0


def test_a_supply_that_delivers_nothing_gives_no_light() -> None:
    bulb = Bulb()
    bulb.obey(POWERED, 0.0)
    bulb.obey(Delivered(power_mw=2500, energy_uj=1, total_uj=1), 0.0)
    assert bulb.brightness(5.0) == 0.0


def test_the_line_says_what_happened() -> None:
    bulb = Bulb()
    bulb.obey(POWERED, 0.0)
    assert bulb.line(0.5).startswith("lamp  50 %")
    bulb.obey(Ceiling(limit_mw=2500, rated_mw=10_000), 0.0)
    assert "shed to" in bulb.line(0.25)
    bulb.obey(Ceiling(limit_mw=10_000, rated_mw=10_000), 0.0)
    assert bulb.line(1.0).endswith("powered")
    bulb.obey(Stale(), 0.0)
    assert bulb.line(1.0).endswith("provider silent")
    bulb.obey(Fresh(), 0.0)
    bulb.obey(Lease(until_ns=1), 0.0)
    assert bulb.line(1.0).endswith("powered")
    bulb.obey(Lost(returning=True), 0.0)
    assert bulb.line(0.0).endswith("dark")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=100))
def test_brightness_never_flashes(targets: list[float]) -> None:
    ramp = Ramp()
    ramp.step(0.0, 0.0)
    levels = [(0.0, 0.0)]
    for number, target in enumerate(targets, 1):
        levels.append((number * 0.1, ramp.step(target, number * 0.1)))
    reversals = []
    direction = 0
    for (before_s, before), (after_s, after) in pairwise(levels):
        assert abs(after - before) <= (after_s - before_s) / RAMP_S + 1e-9
        if after != before:
            way = 1 if after > before else -1
            if direction and way != direction:
                reversals.append(after_s)
            direction = way
    for earlier, later in pairwise(reversals):
        assert later - earlier >= REVERSAL_S - 1e-9


def test_a_frame_is_brighter_at_a_higher_level() -> None:
    assert "\x1b[38;2;40;40;40m" in draw(0.0, "x")
    assert "\x1b[38;2;255;214;140m" in draw(1.0, "x")
