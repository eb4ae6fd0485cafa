from dataclasses import fields, replace
from math import cos, radians, sin, sqrt

import numpy as np
import pytest

from powertcp.dve.block import default_sampling, encode_block
from powertcp.dve.meter import BankReadings, MeterBank, Readings, measure
from powertcp.dve.waveform import Harmonic, Synth
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import PowerProfile
from powertcp.wire.options import Sampling

# parsed at collection: the first parse reads the profile table
AC = PowerProfile.parse("230V/16A@50Hz")
DC = PowerProfile.parse("12V/1.5A")
WYE = PowerProfile.parse("230V/16A@50Hz/wye")
SPLIT = PowerProfile.parse("120V/15A@60Hz/split")
SHAPE = (Harmonic(3, 50_000), Harmonic(5, 30_000, 40.0), Harmonic(21, 10_000))


def bank_of(profile: PowerProfile, spans: list[np.ndarray], nominal_chz: int) -> MeterBank:
    """A bank whose streams hold these spans, appended in blocks of 100 samples."""
    bank = MeterBank(default_sampling(profile), nominal_chz, len(spans))
    for stream, span in enumerate(spans):
        full = [
            bank.append(stream, encode_block(at, span[at : at + 100]))
            for at in range(0, len(span), 100)
        ]
        assert full == [False] * (len(full) - 1) + [True]
    return bank


def close(ours: Readings, plain: Readings, relative: float = 2e-4) -> None:
    """Every reading of both is the same, up to float32 and the window's response."""
    for each in fields(Readings):
        if each.name == "frequency_hz":
            assert ours.frequency_hz == pytest.approx(plain.frequency_hz, abs=1e-3)
            continue
        scale = max(plain.apparent_va) if each.name == "reactive_var" else 0.0
        expected = pytest.approx(
            getattr(plain, each.name), rel=relative, abs=relative * scale + 1e-5
        )
        assert getattr(ours, each.name) == expected


# ---- one stream ---------------------------------------------------------------------------------


def test_direct_voltage_and_current() -> None:
    samples = Synth(DC, default_sampling(DC)).block(0, 200, 12_000)
    readings = measure(samples, default_sampling(DC), 0)
    assert readings.voltage_v == pytest.approx((12.0,))
    assert readings.current_a == pytest.approx((1.0,))
    assert readings.power_w == pytest.approx((12.0,))
    assert readings.power_factor == pytest.approx((1.0,))
    assert (readings.reactive_var, readings.thd) == ((0.0,), (0.0,))
    assert (readings.frequency_hz, readings.unbalance) == (0.0, 0.0)


@pytest.mark.parametrize("lag", [0.0, 30.0, 60.0, -45.0])
def test_reactive_power_is_positive_when_the_current_lags(lag: float) -> None:
    samples = Synth(AC, default_sampling(AC), lag_degrees=lag).block(77, 800, 1_000_000)
    readings = measure(samples, default_sampling(AC), 5_000)
    apparent = 1_000 / cos(radians(lag))
    assert readings.voltage_v == pytest.approx((230.0,), rel=1e-6)
    assert readings.power_w == pytest.approx((1_000.0,), rel=1e-5)
    assert readings.apparent_va == pytest.approx((apparent,), rel=1e-5)
    assert readings.reactive_var == pytest.approx((apparent * sin(radians(lag)),), abs=0.01)
    assert readings.power_factor == pytest.approx((cos(radians(lag)),), rel=1e-5)
    assert readings.frequency_hz == pytest.approx(50.0, abs=1e-5)


@pytest.mark.parametrize("chz", [4_701, 4_990, 5_000, 5_013, 5_100, 5_480])
def test_frequency_and_rms_need_no_whole_cycles(chz: int) -> None:
    off = replace(AC, frequency_chz=chz)
    samples = Synth(off, default_sampling(AC), SHAPE, lag_degrees=20.0).block(31, 800, 2_000_000)
    readings = measure(samples, default_sampling(AC), 5_000)
    # Hann weights: 0.0012 % on V where plain 200 ms are wrong by up to 0.56 %
    assert readings.voltage_v == pytest.approx((230.0,), rel=2e-5)
    assert readings.frequency_hz == pytest.approx(chz / 100, abs=1e-3)
    assert readings.thd == pytest.approx((sqrt(0.05**2 + 0.03**2 + 0.01**2),), rel=2e-3)


@pytest.mark.parametrize("chz", [3_300, 6_000, 10_000, 40_000])
def test_a_frequency_far_from_the_contract_is_found_by_its_crossings(chz: int) -> None:
    far = replace(AC, frequency_chz=chz)
    samples = Synth(far, default_sampling(AC)).block(5, 800, 2_000_000)
    readings = measure(samples, default_sampling(AC), 5_000)
    assert readings.frequency_hz == pytest.approx(chz / 100, rel=1e-4)


def test_silence_reads_as_zero() -> None:
    readings = measure(np.zeros((800, 2), np.int32), default_sampling(AC), 5_000)
    assert (readings.voltage_v, readings.current_a, readings.power_w) == ((0.0,),) * 3
    assert (readings.power_factor, readings.thd) == ((0.0,), (0.0,))


def test_direct_voltage_under_an_ac_contract_has_no_frequency() -> None:
    samples = np.tile(np.array([230_000, 1_000_000], np.int32), (800, 1))
    plain = measure(samples, default_sampling(AC), 5_000)
    assert plain.voltage_v == pytest.approx((230.0,))
    assert (plain.frequency_hz, plain.thd, plain.reactive_var) == (0.0, (0.0,), (0.0,))
    close(bank_of(AC, [samples], 5_000).readings().of(0), plain)


def test_the_order_of_harmonics_ends_below_half_the_rate() -> None:
    # 50 Hz at 240 Hz: the second harmonic is the last one below 120 Hz
    samples = Synth(AC, Sampling(rate_hz=240), (Harmonic(2, 100_000),)).block(0, 480, 1_000_000)
    assert measure(samples, Sampling(rate_hz=240), 5_000).thd == pytest.approx((0.1,), rel=1e-3)
    assert measure(samples[::2], Sampling(rate_hz=120), 5_000).thd == (0.0,)


def test_totals_are_those_of_all_pairs() -> None:
    samples = Synth(WYE, default_sampling(WYE), lag_degrees=30.0).block(0, 800, 6_000_000)
    readings = measure(samples, default_sampling(WYE), 5_000)
    assert readings.total_power_w == pytest.approx(6_000, rel=1e-5)
    assert readings.total_apparent_va == pytest.approx(6_000 / cos(radians(30)), rel=1e-5)
    assert readings.total_reactive_var == pytest.approx(
        6_000 * sin(radians(30)) / cos(radians(30)), rel=1e-4
    )


def test_unbalance_of_three_voltages() -> None:
    samples = Synth(WYE, default_sampling(WYE)).block(0, 800, 6_000_000)
    assert measure(samples, default_sampling(WYE), 5_000).unbalance == pytest.approx(0.0, abs=1e-5)
    samples[:, 4] //= 2
    # a, b and c / 2: positive sequence 2.5 / 3, negative sequence 0.5 / 3
    assert measure(samples, default_sampling(WYE), 5_000).unbalance == pytest.approx(0.2, rel=1e-4)
    samples[:, [0, 2]] = samples[:, [2, 0]]
    assert measure(samples, default_sampling(WYE), 5_000).unbalance > 1


def test_unbalance_of_two_voltages() -> None:
    samples = Synth(SPLIT, default_sampling(SPLIT)).block(0, 960, 1_000_000)
    samples[:, 2] = samples[:, 2] * 9 // 10
    readings = measure(samples, default_sampling(SPLIT), 6_000)
    assert readings.unbalance == pytest.approx(0.1 / 0.95, rel=1e-3)


# ---- many streams -------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [AC, WYE, SPLIT])
def test_a_bank_reads_what_each_stream_reads_alone(profile: PowerProfile) -> None:
    sampling = default_sampling(profile)
    chz = profile.frequency_chz
    spans = []
    # more rows than one chunk holds, frequencies within half a hertz
    for stream in range(270 // profile.pairs):
        off = replace(profile, frequency_chz=chz + stream % 11 - 5)
        generated = Synth(off, sampling, SHAPE[:2], 0, (), 0, stream % 90 - 45)
        spans.append(generated.block(stream, sampling.rate_hz // 5, 500_000 + stream))
    found = bank_of(profile, spans, chz).readings()
    assert isinstance(found, BankReadings)
    assert found.voltage_v.shape == (len(spans), profile.pairs)
    for stream in range(0, len(spans), 17):
        close(found.of(stream), measure(spans[stream], sampling, chz))
    close(found.of(len(spans) - 1), measure(spans[-1], sampling, chz))


def test_frequencies_far_and_near_in_one_bank() -> None:
    sampling = default_sampling(AC)
    hz = (4_610, 5_000, 5_390, 6_000, 3_300)
    spans = [Synth(replace(AC, frequency_chz=chz), sampling).block(9, 800, 10**6) for chz in hz]
    found = bank_of(AC, spans, 5_000).readings()
    assert (100 * found.frequency_hz).tolist() == pytest.approx(list(hz), abs=0.1)
    assert found.voltage_v[:, 0].tolist() == pytest.approx([230.0] * len(hz), rel=1e-4)


def test_a_bank_of_direct_current() -> None:
    spans = [Synth(DC, default_sampling(DC)).block(0, 200, demand) for demand in (0, 6_000, 12_000)]
    found = bank_of(DC, spans, 0).readings()
    assert found.power_w[:, 0].tolist() == pytest.approx([0.0, 6.0, 12.0], rel=1e-5)
    assert found.power_factor[:, 0].tolist() == pytest.approx([0.0, 1.0, 1.0])
    for array in (found.reactive_var, found.thd, found.frequency_hz, found.unbalance):
        assert not array.any()


def test_a_window_takes_what_it_can_hold_and_begins_anew() -> None:
    sampling = default_sampling(AC)
    span = Synth(AC, sampling).block(0, 800, 1_000_000)
    bank = MeterBank(sampling, 5_000, 2)
    assert (bank.streams, bank.window_samples) == (2, 800)
    assert not bank.append(1, encode_block(0, span[:500]))
    assert not bank.is_full(1)
    assert bank.append(1, encode_block(500, np.concatenate([span[500:], span])))
    assert bank.append(1, encode_block(0, span))
    assert bank.is_full(1)
    assert not bank.is_full(0)
    close(bank.readings().of(1), measure(span, sampling, 5_000))
    assert bank.readings().of(0).voltage_v == (0.0,)
    bank.clear()
    assert not bank.is_full(1)
    assert bank.append(1, encode_block(0, span // 2))
    assert bank.readings().of(1).voltage_v == pytest.approx((115.0,), rel=1e-4)


def test_a_bad_block_is_502_and_leaves_the_window() -> None:
    bank = MeterBank(default_sampling(AC), 5_000, 1)
    with pytest.raises(DecodeError):
        bank.append(0, bytes(9))
    assert not bank.readings().voltage_v.any()


def test_a_window_of_one_sample_measures_nothing() -> None:
    with pytest.raises(LocalProtocolError, match="50 ms at 20 Hz hold no two samples"):
        MeterBank(Sampling(rate_hz=20), 0, 1, window_ms=50)
