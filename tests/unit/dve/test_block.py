from dataclasses import replace
from random import Random

import numpy as np
import pytest

from powertcp.dve.block import (
    BLOCK_OCTETS_MAX,
    SIM,
    SYNC_GLOBAL,
    Samples,
    block_header,
    block_samples,
    block_samples_for,
    cut_block,
    default_sampling,
    encode_block,
    encode_rows,
    window_samples_for,
)
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.profile import FREQUENCY_ANY, PowerProfile
from powertcp.wire.options import Sampling

# parsed at collection: the first parse reads the profile table
DC = PowerProfile.parse("12V/1A")
TWO_SAMPLES = bytes.fromhex("00000005 80 01 0002 00001388 0007a120 ffffffff 80000000")


def samples(rows: list[list[int]], dtype: str = "i8") -> Samples:
    return np.array(rows, dtype)


@pytest.mark.requirement("PTCP-3.1-03")
def test_layout_is_header_then_interleaved_pairs() -> None:
    octets = encode_block(5, samples([[5000, 500_000], [-1, -(2**31)]]))
    assert octets == TWO_SAMPLES
    assert block_header(octets) == (5, SIM, 1, 2)
    assert block_samples(octets).tolist() == [[5000, 500_000], [-1, -(2**31)]]


def test_samples_are_a_view_of_the_payload() -> None:
    buffer = bytearray(TWO_SAMPLES)
    view = block_samples(memoryview(buffer))
    buffer[8:12] = b"\0\0\0\1"
    assert view[0, 0] == 1


def test_three_pairs_take_six_columns_and_a_chosen_sync() -> None:
    octets = encode_block(2**32 + 7, samples([[1, 2, 3, 4, 5, 6]], "i4"), sync=SYNC_GLOBAL)
    assert block_header(octets) == (7, SYNC_GLOBAL, 3, 1)
    assert block_samples(octets).tolist() == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.requirement("PTCP-3.1-03", "PTCP-2.2-02")
@pytest.mark.parametrize(
    ("octets", "field", "limit"),
    [
        (b"", "block", 8),
        (TWO_SAMPLES[:7], "block", 8),
        (TWO_SAMPLES[:-1], "n", 24),
        (TWO_SAMPLES + b"\0", "n", 24),
        (bytes.fromhex("0000000080010000"), "n", 16),
        (bytes.fromhex("0000000080000003"), "n", 16),
        (bytes.fromhex("00000000800a0667") + bytes(8 * 10 * 1639), "block", BLOCK_OCTETS_MAX),
    ],
)
def test_wrong_lengths_are_502(octets: bytes, field: str, limit: int) -> None:
    with pytest.raises(DecodeError) as caught:
        block_header(octets)
    assert (caught.value.code, caught.value.field) == (502, field)
    assert (caught.value.value, caught.value.limit) == (len(octets), limit)


def test_the_longest_block_a_segment_can_carry_is_taken() -> None:
    n = (BLOCK_OCTETS_MAX - 8) // 8
    octets = encode_block(0, np.zeros((n, 2), np.int32))
    assert block_header(octets) == (0, SIM, 1, n)
    with pytest.raises(LocalProtocolError, match="8191 samples of 1 pairs exceed 65,535"):
        encode_block(0, np.zeros((8191, 2), np.int32))


@pytest.mark.parametrize("shape", [(4,), (0, 2), (1, 3), (1, 8), (1, 0)])
def test_what_is_not_a_block_is_not_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(LocalProtocolError, match="n x 2, 4 or 6"):
        encode_block(0, np.zeros(shape, np.int32))


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_samples_never_wrap_silently(value: int) -> None:
    with pytest.raises(LocalProtocolError, match="coarser scale"):
        encode_block(0, samples([[value, 0]]))


def test_rows_are_the_blocks_of_a_cohort() -> None:
    cohort = np.arange(3 * 5 * 4, dtype=np.int32).reshape(3, 5, 4) - 30
    counters = [0, 2**32 - 1, 2**32 + 5]
    rows = encode_rows(counters, cohort, sync=SIM | SYNC_GLOBAL)
    expected = [
        encode_block(counter, block, SIM | SYNC_GLOBAL)
        for counter, block in zip(counters, cohort, strict=True)
    ]
    assert [bytes(row) for row in rows] == expected
    assert b"".join(rows) == b"".join(expected)


def test_rows_need_a_counter_each() -> None:
    with pytest.raises(LocalProtocolError, match="1 counters for 2 rows"):
        encode_rows([0], np.zeros((2, 1, 2), np.int32))


@pytest.mark.requirement("PTCP-3.1-03")
def test_a_block_can_be_cut_at_any_sample() -> None:
    random = Random(3251)
    for pairs in (1, 2, 3):
        block = np.array(
            [[random.getrandbits(31) for _ in range(2 * pairs)] for _ in range(9)], np.int32
        )
        octets = encode_block(2**32 - 4, block)
        for at in range(1, 9):
            first, rest = cut_block(octets, at)
            assert block_header(first) == (2**32 - 4, SIM, pairs, at)
            assert block_header(rest) == ((2**32 - 4 + at) % 2**32, SIM, pairs, 9 - at)
            joined = np.concatenate([block_samples(first), block_samples(rest)])
            assert joined.tolist() == block.tolist()


@pytest.mark.parametrize("at", [-1, 0, 2, 3])
def test_neither_part_of_a_cut_is_empty(at: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"2 samples before sample {at}"):
        cut_block(TWO_SAMPLES, at)


@pytest.mark.requirement("PTCP-3.2-01")
@pytest.mark.parametrize(
    ("text", "rate_hz", "pairs", "window", "block"),
    [
        ("12V/1.5A", 1_000, 1, 20, 100),
        ("230V/16A@50Hz", 4_000, 1, 80, 80),
        ("120V/15A@60Hz", 4_800, 1, 80, 80),
        ("115V/10A@400Hz", 32_000, 1, 640, 640),
        ("15kV/10A@16.7Hz", 1_336, 1, 80, 80),
        ("120V/15A@60Hz/split", 4_800, 2, 80, 80),
        ("230V/32A@50Hz/wye", 4_000, 3, 80, 80),
        ("230V/32A@50Hz/delta", 4_000, 3, 80, 80),
        ("5V/1A@0.1Hz", 10, 1, 100, 100),
        ("5V/1A@655Hz", 52_400, 1, 1_040, 1_040),
        ("5V/1A@655Hz/wye", 52_400, 3, 1_040, 682),
    ],
)
def test_defaults_of_the_protocol(
    text: str, rate_hz: int, pairs: int, window: int, block: int
) -> None:
    profile = PowerProfile.parse(text)
    sampling = default_sampling(profile)
    assert (sampling.rate_hz, sampling.pairs) == (rate_hz, pairs)
    assert (sampling.nv_per_lsb, sampling.na_per_lsb) == (1_000_000, 1_000)
    assert window_samples_for(profile, sampling) == window
    assert block_samples_for(profile, sampling) == block


def test_any_frequency_is_sampled_at_4000_hz() -> None:
    profile = replace(PowerProfile.parse("230V/1A@50Hz"), frequency_chz=FREQUENCY_ANY)
    sampling = default_sampling(profile)
    assert sampling.rate_hz == 4_000
    assert window_samples_for(profile, sampling) == 80
    assert block_samples_for(profile, sampling) == 80


@pytest.mark.parametrize(
    ("rate_hz", "window", "block"), [(10, 1, 1), (74, 1, 7), (75, 2, 8), (100_000, 2_000, 2_047)]
)
def test_slow_and_fast_direct_current(rate_hz: int, window: int, block: int) -> None:
    sampling = Sampling(rate_hz=rate_hz)
    assert window_samples_for(DC, sampling) == window
    assert block_samples_for(DC, sampling) == block


def test_a_smaller_maximum_payload_shortens_the_block() -> None:
    assert block_samples_for(DC, default_sampling(DC), msp=408) == 50


def test_a_window_has_a_sample_even_when_the_rate_is_below_the_frequency() -> None:
    profile = PowerProfile.parse("115V/10A@400Hz")
    assert window_samples_for(profile, Sampling(rate_hz=10)) == 1


@pytest.mark.parametrize(
    ("text", "nv", "na"),
    [("220kV/2000A@50Hz/delta", 1_000_000, 10_000), ("5000kV/300A", 10_000_000, 10_000)],
)
def test_the_scale_grows_when_limits_would_not_fit(text: str, nv: int, na: int) -> None:
    sampling = default_sampling(PowerProfile.parse(text))
    assert (sampling.nv_per_lsb, sampling.na_per_lsb) == (nv, na)
