"""Dusk, and what a simulation comes to in numbers."""

import statistics

import pytest

from powertcp.mplamps.engine import Engine, EngineSettings
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import NodeSettings
from powertcp.mplamps.rsvp import Style
from powertcp.mplamps.rsvp.admission import Sharing
from powertcp.mplamps.scenario import (
    CANDLE_NS,
    Overdraw,
    Spread,
    dusk,
    find_overdraws,
    outcome_of,
    spread_of,
)
from powertcp.mplamps.script import Act, Verb, parse_script
from powertcp.units import NS_PER_S

CITY = generate_topology("tree:10,10,2,5")


def simulated(
    script: str = "0s on *", spec: str = "street:3", *, style: Style = Style.SE,
    sharing: Sharing = Sharing.SUM, seconds: int = 5,
) -> Engine:  # fmt: skip
    topology = generate_topology(spec)
    settings = EngineSettings(node=NodeSettings(sharing=sharing), style=style)
    engine = Engine(topology, 1, settings)
    engine.play(parse_script(script, topology))
    engine.run(seconds * NS_PER_S)
    return engine


def test_without_spread_all_lamps_are_switched_on_at_once() -> None:
    (act,) = dusk(CITY, 1, 0)
    assert (act.at_ns, act.verb, len(act.names)) == (0, Verb.ON, 1000)


def test_a_spread_is_a_standard_deviation_around_three_of_them() -> None:
    acts = dusk(CITY, 1, 2 * NS_PER_S)
    times = [act.at_ns for act in acts]
    assert times == sorted(times)
    assert times[0] >= 0
    assert sorted(name for act in acts for name in act.names) == sorted(
        name for act in dusk(CITY, 1, 0) for name in act.names
    )
    assert abs(statistics.fmean(times) / NS_PER_S - 6) < 0.25
    assert abs(statistics.pstdev(times) / NS_PER_S - 2) < 0.2
    assert dusk(CITY, 1, 2 * NS_PER_S) == acts
    assert dusk(CITY, 2, 2 * NS_PER_S) != acts
    assert all(isinstance(act, Act) for act in acts)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([7], Spread(7, 7, 7)),
        ([3, 1, 2], Spread(2, 3, 3)),
        (list(range(1, 101)), Spread(50, 99, 100)),
        (list(range(1, 1001)), Spread(500, 990, 1000)),
    ],
)
def test_percentiles_are_of_the_nearest_rank(values: list[int], expected: Spread | None) -> None:
    assert spread_of(values) == expected


def test_an_outcome_counts_those_that_are_wanted() -> None:
    outcome = outcome_of(simulated("0s on lamp-[12]\n2s off lamp-2"), is_powered=False)
    assert (outcome.lamps, outcome.wanted, outcome.met, outcome.lit) == (3, 1, 1, None)
    # both were signalled, one of them is not wanted any more
    assert outcome.signalled == 2
    assert outcome.unlit == []
    assert outcome.residual_mw == 0
    assert outcome.to_signalled is not None
    assert outcome.candles == outcome.to_signalled.p99 / CANDLE_NS


def test_a_lamp_without_power_is_not_lit_where_power_is_sent() -> None:
    outcome = outcome_of(simulated(), is_powered=True)
    assert (outcome.signalled, outcome.met, outcome.lit) == (3, 0, 0)
    assert (outcome.to_lit, outcome.candles) == (None, None)
    assert outcome.unlit == ["lamp-1", "lamp-2", "lamp-3"]


def test_nobody_lights_a_candle_in_the_dark() -> None:
    outcome = outcome_of(simulated("9s on *"), is_powered=False)
    assert (outcome.wanted, outcome.met, outcome.candles) == (0, 0, None)


@pytest.mark.requirement("MPLA-4.6-01")
def test_a_maximum_where_a_sum_should_be_is_an_overdraw() -> None:
    shared = {"spec": "tree:1,1,3", "style": Style.WF}
    assert find_overdraws(simulated(**shared)) == []  # type: ignore[arg-type]
    (found,) = find_overdraws(simulated(**shared, sharing=Sharing.MAX))  # type: ignore[arg-type]
    assert found == Overdraw("es1/1", "es1--c1", 3 * 59_800, 59_800)
    assert found.chi == 3.0
    assert found.sentence() == (
        "first law: violated on session es1/1, chi = 3.0: link es1--c1 holds 59,800 mW and"
        " delivers 179,400 mW"
    )
    assert Overdraw("es1/1", "a--b", 1, 0).chi == float("inf")
