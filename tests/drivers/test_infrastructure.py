"""A host that runs on what its firewall has reclaimed: by share, above the floor, and said so."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from powertcp.drivers.host_load import HostSpan
from powertcp.drivers.infrastructure import MEAN_SPANS, Infrastructure, runtime_sentence
from powertcp.sources import Drawn, InfrastructureTerms, Reservoir, ReservoirTerms
from powertcp.units import NS_PER_S
from tests.drivers.test_host_load import zone

J = 1_000_000
TERMS = InfrastructureTerms(reservoir="main", declared_mw=40_000, share_percent=50)


def store(stored_uj: int = 1_000 * J, **more: object) -> Reservoir:
    made = replace(ReservoirTerms(name="main", capacity_uj=10_000 * J), **more)  # type: ignore[arg-type]
    return Reservoir(made, stored_uj)


def span(energy_uj: int, *, source: str = "powercap psys", is_measured: bool = True) -> HostSpan:
    return HostSpan(energy_uj=energy_uj, span_ns=NS_PER_S, source=source, is_measured=is_measured)


class Told:
    def __init__(self) -> None:
        self.draws: list[tuple[Drawn, HostSpan]] = []

    def __call__(self, drawn: Drawn, of: HostSpan) -> None:
        self.draws.append((drawn, of))


@pytest.mark.requirement("FWRL-4-03")
def test_the_share_of_what_is_measured_is_drawn_to_the_microjoule() -> None:
    reservoir, told = store(), Told()
    host = Infrastructure(replace(TERMS, share_percent=33), reservoir, told)
    # a third of 1 uJ is nothing yet, of the next two it is
    for _ in range(100):
        host.take(span(41 * J + 1))
    wall = 100 * (41 * J + 1)
    assert host.measured_uj == wall
    assert host.declared_uj == 0
    assert host.drawn_uj + host.missed_uj == wall * 33 // 100
    assert reservoir.out_uj == host.drawn_uj == sum(drawn.out_uj for drawn, _ in told.draws)
    assert reservoir.heat_uj == host.heat_uj
    assert reservoir.stored_uj == 1_000 * J - host.drawn_uj - host.heat_uj
    assert told.draws[0][1].energy_uj == 41 * J + 1


def test_an_empty_reservoir_pays_nothing_and_what_it_missed_is_counted() -> None:
    reservoir, told = store(110 * J, floor_percent=1), Told()
    host = Infrastructure(TERMS, reservoir, told)
    drawn = host.take(span(40 * J))
    assert drawn.out_uj == 95 * J // 10
    assert host.missed_uj == 20 * J - drawn.out_uj
    assert reservoir.stored_uj == reservoir.terms.floor_uj
    assert host.take(span(40 * J)) == Drawn(0, 0)
    assert len(told.draws) == 2


def test_what_is_promised_and_what_is_beyond_max_out_is_left_alone() -> None:
    reservoir = store(max_out_mw=1_000)
    host = Infrastructure(TERMS, reservoir, Told())
    assert host.take(span(40 * J)).out_uj == 2 * J
    reservoir.leak(0)
    reservoir.leak(NS_PER_S)
    assert host.take(span(40 * J)).out_uj == J
    host = Infrastructure(TERMS, reservoir := store(), Told())
    reservoir.promise(reservoir.free_uj - 5)
    assert host.take(span(40 * J)).out_uj == 5


@pytest.mark.requirement("FWRL-4-03")
def test_the_report_says_simulated_and_who_knows_the_power() -> None:
    host = Infrastructure(TERMS, store(4_000 * J), Told())
    assert host.sentence() == (
        "nobody measures what this host draws, and the policy does not declare it"
    )
    assert host.status()["wall_mw"] is None
    host.take(span(40 * J, source="40 W by the policy", is_measured=False))
    assert host.sentence().endswith("at the declared 40.0 W")
    for _ in range(MEAN_SPANS):
        host.take(span(20 * J))
    host.take(span(80 * J))
    assert host.power_mw == 21_000
    left_s = host.reservoir.drawable_uj // (21 * J)
    assert host.sentence() == (
        "reclaimed (simulated) energy would run this host for"
        f" {left_s // 60} min {left_s % 60} s at the measured 21.0 W"
    )
    status = host.status()
    assert (status["source"], status["is_measured"], status["wall_mw"]) == (
        "powercap psys", True, 21_000,
    )  # fmt: skip
    assert status["wall_measured_uj"] == MEAN_SPANS * 20 * J + 80 * J
    assert status["wall_declared_uj"] == 40 * J
    assert status["drawn_uj"] == host.drawn_uj


@pytest.mark.parametrize(
    ("energy_uj", "power_mw", "said"),
    [
        (11_520 * 41 * J, 41_000, "for 3 h 12 min at the measured 41.0 W"),
        (5_000_000 * J, 999, "for 1,390 h 16 min at the measured 1.0 W"),
        (125 * J, 1_000, "for 2 min 5 s at the measured 1.0 W"),
        (42 * J, 1_049, "for 40 s at the measured 1.0 W"),
        (0, 1_050, "for 0 s at the measured 1.1 W"),
        (5, 0, "draws nothing, at the measured 0.0 W"),
    ],
)
def test_hours_minutes_and_seconds(energy_uj: int, power_mw: int, said: str) -> None:
    assert runtime_sentence(energy_uj, power_mw, is_measured=True).endswith(said)


def test_other_terms_are_taken_on_the_way(tmp_path: Path) -> None:
    one, two, told = store(), store(), Told()
    host = Infrastructure(TERMS, one, told, root=str(tmp_path))
    host.take(span(10 * J))
    host.change(replace(TERMS, share_percent=100), two)
    assert host.take(span(10 * J)).out_uj == 10 * J
    assert (one.out_uj, two.out_uj) == (5 * J, 10 * J)
    host.change(replace(TERMS, declared_mw=None), two)
    assert host.terms.declared_mw is None


@pytest.mark.requirement("FWRL-4-03")
async def test_it_draws_each_second(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    zone(tmp_path, 0, "package-0", 0)
    reservoir, spans = store(), list[HostSpan]()
    done = trio.Event()

    def count(_: Drawn, of: HostSpan) -> None:
        spans.append(of)
        # 41 W more until the next look
        zone(tmp_path, 0, "package-0", 41 * J * len(spans))
        if len(spans) == 4:
            done.set()

    host = Infrastructure(TERMS, reservoir, count, root=str(tmp_path))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        await done.wait()
        nursery.cancel_scope.cancel()
    assert [one.energy_uj for one in spans] == [0, 41 * J, 41 * J, 41 * J]
    assert all(0 <= one.span_ns - NS_PER_S < NS_PER_S // 10 for one in spans)
    assert reservoir.out_uj == 3 * 41 * J // 2
