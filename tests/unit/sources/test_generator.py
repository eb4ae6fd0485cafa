"""Blocks of a supply: continuous, exact, equal to what is made afresh."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powertcp.dve import EnergyRegister, block_samples, default_sampling
from powertcp.dve.measure import integrate, integrate_many
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason
from powertcp.sources.generator import Generator, too_fine
from powertcp.sources.source import make_source
from powertcp.wire.options import Sampling

DC = PowerProfile.parse("12V/5A", ProfileType.OFFER)
MAINS = PowerProfile.parse("230V/16A@50Hz", ProfileType.OFFER)
RAIL = PowerProfile.parse("230V/16A@16.7Hz", ProfileType.OFFER)


def test_default_blocks_are_100_ms_of_dc_and_20_ms_of_ac() -> None:
    assert Generator(DC, default_sampling(DC)).period_ns == 100_000_000
    assert Generator(MAINS, default_sampling(MAINS)).period_ns == 20_000_000


def test_slow_sampling_gives_ten_samples_a_block() -> None:
    slow = Generator(DC, Sampling(rate_hz=10))
    assert (slow.n, slow.period_ns) == (10, 1_000_000_000)
    assert len(slow.block(0, 12_000).payload) == 88


def test_a_template_differs_from_a_fresh_block_in_nothing() -> None:
    generator = Generator(MAINS, default_sampling(MAINS))
    first = generator.block(0, 230_000)
    again = generator.block(800, 230_000)
    fresh = Generator(MAINS, default_sampling(MAINS)).block(800, 230_000)
    assert again == fresh
    assert first.payload[8:] == again.payload[8:]


@settings(max_examples=60, deadline=None)
@given(
    supply=st.sampled_from([DC, MAINS, RAIL]),
    rate=st.sampled_from([100, 997, 1336, 4000]),
    start=st.sampled_from([0, 17, (1 << 32) - 150, (1 << 32) - 40, (1 << 33) + 5]),
    demands=st.lists(st.integers(0, 60_000), min_size=1, max_size=6),
)
def test_sums_are_those_of_the_octets(
    supply: PowerProfile, rate: int, start: int, demands: list[int]
) -> None:
    generator = Generator(supply, Sampling(rate_hz=rate))
    counter = start
    for demand in demands * 2:
        tick = generator.block(counter, demand)
        [sums] = integrate_many([tick.payload], generator.window_samples)
        assert tick.sums == sums
        assert integrate(tick.payload) == sums.a
        counter += tick.n


def test_the_mean_power_is_the_demand_to_a_thousandth() -> None:
    for supply in (DC, MAINS):
        sampling = default_sampling(supply)
        generator = Generator(supply, sampling)
        register, counter = EnergyRegister(sampling), 0
        while counter < sampling.rate_hz:
            tick = generator.block(counter, 30_000)
            register.add(tick.sums.a)
            counter += tick.n
        assert abs(register.esn_uj - 30_000_000) <= 30_000


def test_three_phases() -> None:
    wye = PowerProfile.parse("230V/32A@50Hz/wye", ProfileType.OFFER)
    tick = Generator(wye, default_sampling(wye)).block(0, 3_000_000)
    assert block_samples(tick.payload).shape == (80, 6)


def test_templates_are_bounded() -> None:
    generator = Generator(DC, Sampling(rate_hz=100_000), msp=65_535)
    for demand in range(300):
        generator.block(0, demand * 10)
    assert generator.block(0, 10).sums.n == 8_190


@pytest.mark.requirement("PTCP-7-03")
def test_a_sag_falls_on_its_samples_and_on_no_others() -> None:
    sampling = default_sampling(DC)
    source = make_source("mains:sag=50%@1s/200ms")
    faulty, clean = Generator(DC, sampling, source), Generator(DC, sampling)
    for number in range(20):
        counter = number * clean.n
        tick, plain = faulty.block(counter, 12_000), clean.block(counter, 12_000)
        # a resistive load: half the voltage, half the current, a quarter of the power
        inside = 10 <= number < 12
        assert abs(tick.sums.a * (4 if inside else 1) - plain.sums.a) <= plain.sums.a // 1000
        assert inside == (tick.payload[8:] != plain.payload[8:])
        assert inside == tick.is_low


def test_noise_makes_every_block_its_own() -> None:
    sampling = default_sampling(DC)
    generator = Generator(DC, sampling, make_source("mains:noise=1%,harmonic=3/5%"))
    bodies = {generator.block(number * generator.n, 12_000).payload[8:] for number in range(8)}
    assert len(bodies) == 8


@pytest.mark.requirement("PTCP-3.2-01")
@pytest.mark.parametrize("supply", [DC, MAINS, PowerProfile.parse("220kV/2000A@50Hz/delta")])
def test_the_default_scale_holds_every_sample_that_may_be(supply: PowerProfile) -> None:
    assert too_fine(supply, default_sampling(supply)) is None


@pytest.mark.requirement("PTCP-3.2-01")
@pytest.mark.parametrize(
    ("nv", "na", "word"),
    [(6, 3, "nV"), (7, 2, "nA"), (7, 3, None), (2**32 - 1, 2**32 - 1, None)],
)
def test_a_scale_that_would_clip_is_refused_with_the_one_that_is_needed(
    nv: int, na: int, word: str | None
) -> None:
    terms = PowerProfile.parse("12V/1.2A")
    refusal = too_fine(terms, Sampling(1000, nv, na))
    assert (refusal is None) == (word is None)
    if refusal is not None and word is not None:
        assert refusal.code == Reason.SAMPLING
        assert word in refusal.text
