"""Protection: windows judged together are judged as each alone."""

import random

import numpy as np
import pytest

from powertcp.dve import encode_block, integrate_many
from powertcp.potcp.protect import Protector, sums_of
from powertcp.profile import PowerProfile
from powertcp.registry import Reason
from powertcp.wire.options import Sampling

PROFILE = PowerProfile.parse("12V/1A")
SLOW = Sampling(10)  # a window of 20 ms is one sample


def _verdicts(columns: list[tuple[int, int]], cut: int) -> tuple[int | None, bool]:
    """The code of the first refusal and whether an alert was due, in blocks of `cut` samples."""
    protector = Protector(PROFILE, SLOW)
    alerted = False
    for at in range(0, len(columns), cut):
        block = encode_block(at, np.array(columns[at : at + cut]))
        [sums] = integrate_many([block], protector.window_samples)
        refusal = protector.check(sums)
        if refusal is not None:
            return refusal.code, alerted
        alerted = alerted or protector.take_alert() is not None
    return None, alerted


@pytest.mark.requirement("PTCP-8-06", "PTCP-8-07")
@pytest.mark.parametrize("seed", range(40))
def test_many_windows_in_a_block_are_judged_as_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    columns = [(12_000, 1_000_000)] * 20
    for _ in range(chance.randrange(3)):
        volts, amperes = chance.choice([(10_700, 1_000_000), (12_000, 1_300_000)])
        columns[chance.randrange(20)] = (volts, amperes)
    code, alerted = _verdicts(columns, 1)
    assert _verdicts(columns, 10)[0] == code
    if code is None:
        assert _verdicts(columns, 10)[1] == alerted


@pytest.mark.requirement("PTCP-8-06")
@pytest.mark.parametrize(
    ("amperes_ua", "code"), [(1_250_000, None), (1_250_001, Reason.OVER_CURRENT)]
)
def test_the_current_of_one_window_is_judged_at_the_limit(
    amperes_ua: int, code: Reason | None
) -> None:
    columns = [(12_000, 1_000_000)] * 9 + [(12_000, amperes_ua)]
    assert _verdicts(columns, 10)[0] == code


@pytest.mark.requirement("PTCP-3.1-02")
def test_energy_in_the_other_direction_is_refused_304() -> None:
    protector = Protector(PowerProfile.parse("12V/1A"), Sampling(1000))
    (sums,) = integrate_many([encode_block(0, np.array([[12_000, -1_000]] * 5))], 20)
    refusal = protector.check(sums)
    assert refusal is not None
    assert (refusal.code, refusal.value) == (Reason.REVERSE_POWER, -60)


@pytest.mark.requirement("PTCP-8-04", "PTCP-8-05")
@pytest.mark.parametrize(
    ("power", "sample", "code"),
    [
        ("12V/1A", (13_200, 0), None),
        ("12V/1A", (-13_201, 0), Reason.OVER_VOLTAGE),
        ("230V/1A@50Hz", (357_811, 0), None),
        ("230V/1A@50Hz", (357_812, 0), Reason.OVER_VOLTAGE),
        ("12V/1A", (0, 4_300_000), None),
        ("12V/1A", (0, -4_300_001), Reason.SHORT_CIRCUIT),
    ],
)
def test_peaks_at_the_limit_and_one_above(
    power: str, sample: tuple[int, int], code: int | None
) -> None:
    protector = Protector(PowerProfile.parse(power), Sampling(1000))
    (sums,) = integrate_many([encode_block(0, np.array([sample]))], protector.window_samples)
    refusal = protector.check(sums)
    assert (refusal.code if refusal else None) == code


@pytest.mark.requirement("PTCP-8-08")
@pytest.mark.parametrize(("volts", "code"), [(23_000, None), (23_100, Reason.WAVEFORM)])
def test_direct_voltage_under_an_ac_contract_is_refused_after_ten_windows(
    volts: int, code: int | None
) -> None:
    protector = Protector(PowerProfile.parse("230V/1A@50Hz"), Sampling(1000))
    window = protector.window_samples
    found = []
    for at in range(10):
        block = encode_block(at * window, np.array([(volts, 0)] * window))
        (sums,) = integrate_many([block], window)
        refusal = protector.check(sums)
        found.append(refusal.code if refusal else None)
    assert found == [None] * 9 + [code]


def _means(offsets_mv: list[int], cut: int) -> tuple[int, int | None]:
    """After how many samples a 50 Hz voltage with these offsets per cycle trips, and why."""
    power, sampling = PowerProfile.parse("230V/1A@50Hz"), Sampling(4000)
    protector = Protector(power, sampling)
    size = protector.window_samples
    angles = 2 * np.pi * np.arange(size) / size
    rows = [
        np.stack((np.rint(310_000 * np.sin(angles)) + offset, 100_000 * np.sin(angles)), axis=1)
        for offset in offsets_mv
    ]
    columns = np.concatenate(rows).astype(np.int64)
    for at in range(0, len(columns), cut):
        block = encode_block(at, columns[at : at + cut])
        [sums] = integrate_many([block], protector.window_samples)
        refusal = protector.check(sums)
        if refusal is not None:
            return (at + cut) // size, refusal.code
    return len(columns) // size, None


@pytest.mark.requirement("PTCP-8-08")
@pytest.mark.parametrize("seed", range(60))
def test_means_of_whole_cycles_are_judged_as_those_of_cut_ones(seed: int) -> None:
    chance = random.Random(seed)
    offsets = [
        chance.choice((-40_000, 0, 0, 22_999, 23_000, 23_001, chance.choice((24_000, 45_000))))
        for _ in range(40)
    ]
    whole = _means(offsets, 80)
    # every other block ends within a cycle: no window is judged by its extremes
    assert _means(offsets, 40) == whole
    assert _means(offsets, 160)[1] == whole[1]


@pytest.mark.requirement("PTCP-8-08")
@pytest.mark.parametrize(("offset_mv", "after"), [(23_000, None), (23_001, 10), (-23_001, 10)])
def test_ten_cycles_that_do_not_average_to_nothing_trip(offset_mv: int, after: int | None) -> None:
    expected = (10, Reason.WAVEFORM) if after else (30, None)
    assert _means([offset_mv] * 30, 80) == expected
    assert _means([offset_mv] * 30, 40) == expected


def test_sums_of_several_flows_are_those_of_each_alone() -> None:
    dc = Protector(PowerProfile.parse("12V/1A"), Sampling(1000))
    slow = Protector(PowerProfile.parse("230V/1A@50Hz"), Sampling(4000))
    blocks = [encode_block(count, np.full((80 + count, 2), count + 1)) for count in range(6)]
    for protectors in ([dc] * 6, [dc, slow] * 3, [dc, None] * 3, [None] * 6):
        expected = [
            integrate_many([block], one.window_samples if one else 0)[0]
            for one, block in zip(protectors, blocks, strict=True)
        ]
        assert sums_of(protectors, blocks) == expected


@pytest.mark.requirement("PTCP-8-04", "PTCP-8-06")
def test_a_run_below_every_limit_needs_no_closer_look() -> None:
    protector = Protector(PROFILE, Sampling(1000))
    assert protector.passes(13_200, 1_250_000)
    assert not protector.passes(13_201, 1_250_000)
    assert not protector.passes(13_200, 1_250_001)
    # the mean of AC counts, which no peak tells
    assert not Protector(PowerProfile.parse("230V/1A@50Hz"), Sampling(4000)).passes(1, 1)


@pytest.mark.requirement("PTCP-8-06")
def test_a_run_ends_the_window_that_was_open() -> None:
    protector = Protector(PROFILE, Sampling(1000))
    # half a window of 20 samples, and another half ten samples later: no whole one
    for at in (0, 20):
        block = encode_block(at, np.array([(12_000, 2_000_000)] * 10))
        [sums] = integrate_many([block], protector.window_samples)
        assert protector.check(sums) is None
        assert protector.passes(12_000, 1_000_000)
