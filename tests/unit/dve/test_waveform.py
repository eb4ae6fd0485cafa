from dataclasses import replace
from math import pi, sqrt

import numpy as np
import numpy.typing as npt
import pytest

from powertcp.dve.block import (
    SIM,
    block_header,
    block_samples,
    default_sampling,
    encode_block,
    window_samples_for,
)
from powertcp.dve.measure import EnergyRegister, integrate
from powertcp.dve.waveform import Harmonic, Synth, VoltageEvent, sag, spike, step, swell
from powertcp.errors import LocalProtocolError
from powertcp.profile import FREQUENCY_ANY, PowerProfile
from powertcp.wire.options import Sampling

# parsed at collection: the first parse reads the profile table
DC = PowerProfile.parse("12V/1.5A")
AC = PowerProfile.parse("230V/16A@50Hz")
ALL_ONES = 2**64 - 1


def synth(
    profile: PowerProfile,
    harmonics: tuple[Harmonic, ...] = (),
    noise_ppm: int = 0,
    events: tuple[VoltageEvent, ...] = (),
    seed: int = 0,
    lag_degrees: float = 0.0,
) -> Synth:
    sampling = default_sampling(profile)
    return Synth(profile, sampling, harmonics, noise_ppm, events, seed, lag_degrees)


def rms(values: npt.NDArray[np.int32]) -> float:
    return float(np.sqrt((values.astype(np.float64) ** 2).mean()))


def mean_mw(profile: PowerProfile, samples: npt.NDArray[np.int32]) -> float:
    register = EnergyRegister(default_sampling(profile))
    register.add(integrate(encode_block(0, samples)))
    return register.esn_uj * default_sampling(profile).rate_hz / len(samples) / 1_000


# ---- direct voltage -----------------------------------------------------------------------------


@pytest.mark.requirement("PTCP-3.3-01")
def test_the_dc_vector_of_the_protocol() -> None:
    profile = PowerProfile.parse("5V/0.5A")
    samples = synth(profile).block(0, 100, ALL_ONES)
    assert samples.tolist() == [[5_000, 500_000]] * 100


def test_dc_current_is_rounded_down_to_the_demand() -> None:
    samples = synth(DC).block(7, 3, 10_001)
    assert samples.tolist() == [[12_000, 833_416]] * 3


@pytest.mark.parametrize("demand_mw", [0, -5])
def test_no_demand_draws_no_current(demand_mw: int) -> None:
    assert synth(DC).block(0, 2, demand_mw).tolist() == [[12_000, 0]] * 2
    assert not synth(AC).currents(0, 80, [demand_mw]).any()


def test_split_dc_has_two_poles() -> None:
    profile = PowerProfile.parse("190V/10A/split")
    samples = synth(profile).block(0, 10, 1_000_000)
    assert samples[0].tolist() == [190_000, 2_631_578, -190_000, -2_631_578]
    assert mean_mw(profile, samples) == pytest.approx(1_000_000, rel=1e-6)


# ---- alternating voltage ------------------------------------------------------------------------


@pytest.mark.requirement("PTCP-3.3-01")
def test_the_ac_vectors_of_the_protocol() -> None:
    profile = PowerProfile.parse("230V/10A@50Hz")
    generated = synth(profile)
    register = EnergyRegister(default_sampling(profile))
    for cycle in range(50):
        register.add(integrate(encode_block(80 * cycle, generated.block(80 * cycle, 80, ALL_ONES))))
        if not cycle:
            assert register.esn_uj == 45_999_995
    assert register.esn_uj == 2_299_999_772


@pytest.mark.parametrize(
    "text",
    [
        "230V/16A@50Hz",
        "120V/15A@60Hz",
        "120V/15A@60Hz/split",
        "230V/32A@50Hz/wye",
        "400V/32A@50Hz/delta",
        "115V/10A@400Hz",
    ],
)
@pytest.mark.parametrize("lag_degrees", [0.0, 37.0, -60.0])
def test_voltage_is_rms_and_the_mean_power_the_demand(text: str, lag_degrees: float) -> None:
    profile = PowerProfile.parse(text)
    generated = synth(
        profile, (Harmonic(3, 50_000, 10.0), Harmonic(5, 20_000)), 0, (), 0, lag_degrees
    )
    n = window_samples_for(profile, default_sampling(profile))
    samples = generated.block(12_345, n, 900_000)
    for pair in range(profile.pairs):
        assert rms(samples[:, 2 * pair]) == pytest.approx(profile.voltage_mv, rel=1e-4)
    assert mean_mw(profile, samples) == pytest.approx(900_000, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "degrees"),
    [("120V/15A@60Hz/split", 180), ("230V/32A@50Hz/wye", 120), ("230V/32A@50Hz/delta", 120)],
)
def test_pair_two_follows_pair_one(text: str, degrees: int) -> None:
    profile = PowerProfile.parse(text)
    v = synth(profile).voltage(0, 240)
    # the value of pair 1 is seen in pair 2 so many samples later
    turned = np.exp(-2j * pi * np.arange(240) / 80) @ v
    found = np.angle(turned[0] * np.conj(turned[1]), deg=True)
    assert abs(found) == pytest.approx(degrees, abs=0.01)
    if profile.pairs == 3:
        assert found > 0
        assert np.abs(v.sum(axis=1)).max() <= 2


def test_a_lag_is_inductive() -> None:
    samples = synth(AC, lag_degrees=45.0).block(0, 80, 500_000)
    # 45 degrees are ten samples of eighty
    assert samples[10, 1] == 0
    assert samples[0, 1] < 0


def test_any_frequency_is_made_with_50_hz() -> None:
    profile = replace(PowerProfile.parse("230V/1A@50Hz"), frequency_chz=FREQUENCY_ANY)
    generated = Synth(profile, Sampling(rate_hz=4_000))
    expected = Synth(PowerProfile.parse("230V/1A@50Hz"), Sampling(rate_hz=4_000))
    assert generated.voltage(3, 90).tolist() == expected.voltage(3, 90).tolist()


def test_harmonics_shape_the_voltage_and_keep_its_rms() -> None:
    plain, shaped = (
        synth(AC).voltage(0, 80),
        synth(AC, (Harmonic(3, 100_000, 180.0),)).voltage(0, 80),
    )
    assert rms(shaped) == pytest.approx(rms(plain), rel=1e-5)
    assert shaped.max() > plain.max()
    spectrum = np.abs(np.fft.rfft(shaped[:, 0]))
    assert spectrum[3] / spectrum[1] == pytest.approx(0.1, rel=1e-4)


# ---- determinism --------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", ["@50Hz", "@49.99Hz", "", "@50Hz/wye"])
@pytest.mark.requirement("PTCP-3.1-03")
def test_a_span_does_not_depend_on_how_it_is_cut(frequency: str) -> None:
    profile = PowerProfile.parse("230V/16A" + frequency)
    events = (sag(95, 20, 500_000), step(150, 900_000), spike(60, 10_000_000))
    generated = synth(profile, noise_ppm=2_000, events=events, seed=5)
    start = 2**32 - 50
    whole = generated.block(start, 200, 1_000_000).tolist()
    parts = [generated.block(start + at, 10, 1_000_000).tolist() for at in range(0, 200, 10)]
    assert [row for part in parts for row in part] == whole
    near = generated.block(0, 200, 1_000_000).tolist()
    singles = [generated.block(at, 1, 1_000_000).tolist()[0] for at in range(200)]
    assert singles == near


def test_equal_seeds_give_equal_noise_and_others_do_not() -> None:
    first = synth(AC, noise_ppm=1_000, seed=1).voltage(0, 800)
    assert (synth(AC, noise_ppm=1_000, seed=1).voltage(0, 800) == first).all()
    assert (synth(AC, noise_ppm=1_000, seed=2).voltage(0, 800) != first).any()


def test_noise_has_the_rms_asked_for_and_no_mean() -> None:
    quiet, noisy = synth(DC), synth(DC, noise_ppm=10_000, seed=3)
    noise = noisy.voltage(0, 20_000) - quiet.voltage(0, 20_000)
    assert rms(noise) == pytest.approx(120, rel=0.03)
    assert abs(noise.mean()) < 3
    pairs = synth(PowerProfile.parse("230V/1A@50Hz/wye"), noise_ppm=10_000).voltage(0, 8_000)
    assert abs(pairs.astype(np.float64).sum(axis=1).std() / (2_300 * sqrt(3)) - 1) < 0.05


# ---- events -------------------------------------------------------------------------------------


def test_events_change_voltage_and_current_only_while_they_last() -> None:
    events = (sag(10, 5, 400_000), swell(20, 5, 1_200_000), step(30, 900_000))
    samples = synth(DC, events=events).block(0, 40, 12_000)
    volts = [12_000] * 10 + [4_800] * 5 + [12_000] * 5 + [14_400] * 5 + [12_000] * 5 + [10_800] * 10
    assert samples[:, 0].tolist() == volts
    assert samples[:, 1].tolist() == [1_000_000 * v // 12_000 for v in volts]


def test_a_spike_is_one_sample_of_voltage() -> None:
    samples = synth(DC, events=(spike(3, 10_000_000),)).block(0, 5, 12_000)
    assert samples[:, 0].tolist() == [12_000, 12_000, 12_000, 10_012_000, 12_000]
    assert samples[:, 1].tolist() == [1_000_000] * 5


def test_overlapping_events_act_one_after_the_other() -> None:
    events = (step(0, 500_000), VoltageEvent(start=1, count=1, gain_ppm=500_000, offset_mv=7))
    assert synth(DC, events=events).voltage(0, 3).tolist() == [[6_000], [3_007], [6_000]]


def test_a_spike_beyond_the_scale_is_held_at_its_end() -> None:
    v = synth(DC, events=(spike(0, 3 * 10**9), spike(1, -3 * 10**9))).voltage(0, 2)
    assert v.tolist() == [[2**31 - 1], [-(2**31) + 1]]


# ---- cohorts ------------------------------------------------------------------------------------


def test_a_cohort_has_one_voltage_and_a_current_each() -> None:
    profile = PowerProfile.parse("230V/16A@50Hz/wye")
    generated = synth(profile)
    demands = [0, 1_000, 500_000, ALL_ONES]
    counters = [0, 80, 160, 2**32 - 1]
    payloads = generated.cohort(400, 80, counters, demands)
    for payload, counter, demand in zip(payloads, counters, demands, strict=True):
        assert block_header(payload) == (counter, SIM, 3, 80)
        assert (block_samples(payload) == generated.block(400, 80, demand)).all()


# ---- refusals -----------------------------------------------------------------------------------


def test_sampling_must_have_the_pairs_of_the_profile() -> None:
    with pytest.raises(LocalProtocolError, match="2 pairs for a profile of 1"):
        Synth(AC, Sampling(rate_hz=4_000, pairs=2))


def test_direct_voltage_has_neither_harmonics_nor_phase() -> None:
    with pytest.raises(LocalProtocolError, match="direct voltage"):
        synth(DC, (Harmonic(2, 1_000),))
    with pytest.raises(LocalProtocolError, match="direct voltage"):
        synth(DC, lag_degrees=10.0)


def test_the_fundamental_is_no_harmonic() -> None:
    with pytest.raises(LocalProtocolError, match="begin at 2"):
        synth(AC, (Harmonic(1, 1_000),))


@pytest.mark.parametrize("lag_degrees", [90.0, -120.0, 180.0])
def test_a_current_that_carries_no_power_is_refused(lag_degrees: float) -> None:
    with pytest.raises(LocalProtocolError, match="carry power"):
        synth(AC, lag_degrees=lag_degrees)


def test_sags_fall_and_swells_rise() -> None:
    with pytest.raises(LocalProtocolError, match="a sag to 1,000,000 ppm"):
        sag(0, 1, 1_000_000)
    with pytest.raises(LocalProtocolError, match="a swell to 1,000,000 ppm"):
        swell(0, 1, 1_000_000)
