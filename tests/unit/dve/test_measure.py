from collections.abc import Iterator
from fractions import Fraction
from itertools import repeat
from random import Random

import numpy as np
import pytest

from powertcp.dve.block import block_header, block_samples, cut_block, encode_block
from powertcp.dve.measure import (
    BlockSums,
    EnergyRegister,
    Window,
    WindowSums,
    integrate,
    integrate_many,
)
from powertcp.errors import BrokenInvariant, DecodeError
from powertcp.wire.options import Sampling

LOWEST = -(2**31)
END = 2**32
DC_100_SAMPLES = encode_block(0, np.tile([5_000, 500_000], (100, 1)))


def sine_cycle(counter: int = 0) -> bytes:
    turn = 2 * np.pi * np.arange(80) / 80
    peaks = np.sqrt(2) * np.array([230_000, 10_000_000])
    return encode_block(counter, np.rint(np.sin(turn)[:, None] * peaks).astype(np.int32))


def random_block(random: Random, counter: int, n: int, pairs: int, bits: int = 32) -> bytes:
    rows = [
        [random.getrandbits(bits) - (1 << bits - 1) for _ in range(2 * pairs)] for _ in repeat(0, n)
    ]
    return encode_block(counter, np.array(rows, np.int32))


def exact(payload: bytes) -> int:
    """Sum of v * i by the plainest means there are."""
    return sum(
        v * i
        for row in block_samples(payload).tolist()
        for v, i in zip(row[0::2], row[1::2], strict=True)
    )


def expected_sums(payload: bytes, window: int) -> BlockSums:
    """The sums of one block, sample by sample."""
    counter, sync, pairs, n = block_header(payload)
    rows = block_samples(payload).tolist()
    lengths: list[int] = []
    sums: tuple[list[list[int]], ...] = ([], [], [])
    for offset, row in enumerate(rows):
        begins = window and (counter + offset) % END % window == 0
        if offset == 0 or begins:
            lengths.append(0)
            for total in sums:
                total.append([0] * pairs)
        lengths[-1] += 1
        for pair in range(pairs):
            v, i = row[2 * pair], row[2 * pair + 1]
            for total, value in zip(sums, (v, v * v, i * i), strict=True):
                total[-1][pair] += value
    v_peak = max(abs(v) for row in rows for v in row[0::2])
    i_peak = max(abs(i) for row in rows for i in row[1::2])
    least_v2 = min(total for part in sums[1] for total in part)
    most_i2 = max(total for part in sums[2] for total in part)
    return BlockSums(
        counter, sync, pairs, n, exact(payload), v_peak, i_peak, window, lengths,
        sums[0], sums[1], sums[2],
        all(length == window for length in lengths), least_v2, most_i2,
    )  # fmt: skip


# ---- integrate ----------------------------------------------------------------------------------


@pytest.mark.requirement("PTCP-3.3-01", "PTCP-3.3-03")
def test_vectors_of_the_protocol() -> None:
    register = EnergyRegister(Sampling(rate_hz=1_000))
    assert register.add(integrate(DC_100_SAMPLES)) == 250_000
    register = EnergyRegister(Sampling(rate_hz=4_000))
    assert register.add(integrate(sine_cycle())) == 45_999_995
    for cycle in range(1, 50):
        register.add(integrate(sine_cycle(80 * cycle)))
    assert register.esn_uj == 2_299_999_772


@pytest.mark.requirement("PTCP-3.3-03")
@pytest.mark.parametrize("n", [1, 5, 16, 17, 100, 2_047])
@pytest.mark.parametrize("pairs", [1, 3])
def test_full_scale_samples_do_not_wrap(n: int, pairs: int) -> None:
    payload = encode_block(0, np.full((n, 2 * pairs), LOWEST, np.int32))
    assert integrate(payload) == n * pairs * 2**62
    samples = np.full((n, 2 * pairs), LOWEST, np.int32)
    samples[:, 1::2] = 2**31 - 1
    assert integrate(encode_block(0, samples)) == -n * pairs * 2**31 * (2**31 - 1)


@pytest.mark.requirement("PTCP-3.3-03")
def test_the_sum_is_exact_on_both_sides_of_the_guard() -> None:
    # 32 products of 2^29 * 2^29 are 2^63: the first bound that 64 bits cannot hold
    for peak in (2**29 - 1, 2**29, 2**29 + 1):
        payload = encode_block(0, np.full((32, 2), peak, np.int32))
        assert integrate(payload) == 32 * peak * peak
        assert integrate_many([payload])[0] == expected_sums(payload, 0)


@pytest.mark.parametrize("function", [integrate, lambda payload: integrate_many([payload])])
def test_a_block_of_wrong_length_is_502(function: object) -> None:
    assert callable(function)
    with pytest.raises(DecodeError) as caught:
        function(DC_100_SAMPLES[:-4])
    assert caught.value.code == 502


# ---- integrate_many -----------------------------------------------------------------------------


@pytest.mark.parametrize(("counter", "n"), [(5, 45), (5, 15), (10, 40), (0, 45), (0, 60)])
def test_parts_are_told_from_equal_parts(counter: int, n: int) -> None:
    block = random_block(Random(n), counter, n, 2, 24)
    assert integrate_many([block] * 4, 20) == [expected_sums(block, 20)] * 4


def test_no_blocks_have_no_sums() -> None:
    assert integrate_many([]) == []


@pytest.mark.requirement("PTCP-3.3-03", "PTCP-8-04", "PTCP-8-05")
@pytest.mark.parametrize("window", [0, 1, 7, 20, 80])
@pytest.mark.parametrize("pairs", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 4, 16, 20, 80])
@pytest.mark.parametrize("bits", [20, 32])
def test_groups_give_what_single_blocks_give(window: int, pairs: int, n: int, bits: int) -> None:
    random = Random(n * pairs + window)
    blocks = [random_block(random, n * k, n, pairs, bits) for k in range(5)]
    expected = [expected_sums(block, window) for block in blocks]
    assert integrate_many(blocks, window) == expected
    assert [sums for block in blocks for sums in integrate_many([block], window)] == expected
    assert [integrate(block) for block in blocks] == [sums.a for sums in expected]


@pytest.mark.requirement("PTCP-3.3-03")
def test_mixed_blocks_come_back_in_order() -> None:
    random = Random(7)
    blocks = [
        random_block(random, random.getrandbits(32), random.choice([1, 2, 20, 40]), pairs)
        for pairs in (1, 2, 3)
        for _ in range(20)
    ]
    random.shuffle(blocks)
    assert integrate_many(blocks, 20) == [expected_sums(block, 20) for block in blocks]


@pytest.mark.parametrize("counters", [[0, 20, 40, 65], [0, 20, 40, END - 3], [END - 20] * 4])
def test_equal_lengths_with_unequal_phases_or_a_wrap(counters: list[int]) -> None:
    random = Random(8)
    blocks = [random_block(random, counter, 20, 1) for counter in counters]
    assert integrate_many(blocks, 20) == [expected_sums(block, 20) for block in blocks]


def test_equal_lengths_with_unequal_headers() -> None:
    random = Random(9)
    blocks = [random_block(random, 0, 6 // pairs, pairs) for pairs in (1, 2, 3, 1)]
    assert integrate_many(blocks) == [expected_sums(block, 0) for block in blocks]


def test_equal_lengths_hide_no_wrong_header() -> None:
    bad = DC_100_SAMPLES[:7] + b"\x63" + DC_100_SAMPLES[8:]
    with pytest.raises(DecodeError):
        integrate_many([DC_100_SAMPLES] * 4 + [bad])


def test_a_group_larger_than_the_cache_is_taken_in_slices() -> None:
    random = Random(10)
    blocks = [random_block(random, 2_047 * k, 2_047, 1, 24) for k in range(9)]
    assert [sums.a for sums in integrate_many(blocks, 20)] == [exact(block) for block in blocks]


def test_peaks_of_the_most_negative_sample() -> None:
    for n in (1, 100):
        block = encode_block(0, np.tile(np.array([LOWEST, -5], np.int32), (n, 1)))
        sums = integrate_many([block])[0]
        assert (sums.v_peak, sums.i_peak) == (2**31, 5)


def test_views_are_taken_as_payloads() -> None:
    buffer = bytearray(DC_100_SAMPLES * 5)
    view, size = memoryview(buffer), len(DC_100_SAMPLES)
    views = [view[at : at + size] for at in range(0, len(buffer), size)]
    assert {sums.a for sums in integrate_many(views)} == {integrate(views[0])}
    for octets in (view, *views):
        octets.release()
    buffer.append(0)


# ---- EnergyRegister -----------------------------------------------------------------------------


@pytest.mark.requirement("PTCP-3.3-01")
def test_the_carry_below_one_microjoule_is_kept() -> None:
    register = EnergyRegister(Sampling(rate_hz=3))
    # one LSB is 10^-3 / 3 uJ
    assert [register.add(1) for _ in range(3_000)] == [count // 3_000 for count in range(1, 3_001)]


@pytest.mark.requirement("PTCP-3.3-01")
def test_the_esn_is_the_floor_also_of_negative_energy() -> None:
    register = EnergyRegister(Sampling(rate_hz=1_000))
    assert register.add(-1) == -1
    assert register.add(1) == 0


def test_peek_changes_nothing() -> None:
    register = EnergyRegister(Sampling(rate_hz=1_000), base_uj=7)
    assert register.peek(2_500_000) == 9
    assert (register.esn_uj, register.a) == (7, 0)
    assert register.add(2_500_000) == 9
    assert register.peek(500_000) == 10
    assert register.a == 2_500_000


@pytest.mark.requirement("PTCP-3.3-01", "PTCP-10-03")
def test_a_resumed_register_counts_on_from_its_base_without_the_old_carry() -> None:
    sampling = Sampling(rate_hz=1_000)
    first = EnergyRegister(sampling)
    first.add(1_999_999)
    resumed = EnergyRegister(sampling, base_uj=first.esn_uj)
    assert resumed.esn_uj == 1
    assert resumed.add(1) == 1
    assert resumed.add(999_999) == 2


@pytest.mark.requirement("PTCP-3.3-01")
def test_any_scale_and_rate_is_exact() -> None:
    random = Random(11)
    for _ in range(50):
        sampling = Sampling(
            random.randint(10, 100_000), random.getrandbits(32), random.getrandbits(32)
        )
        register = EnergyRegister(sampling, base_uj=random.getrandbits(60))
        base, total = register.esn_uj, 0
        for _ in range(20):
            a = random.getrandbits(75)
            total += a
            lsb = Fraction(sampling.nv_per_lsb * sampling.na_per_lsb, sampling.rate_hz * 10**12)
            assert register.add(a) == base + int(total * lsb)


# ---- WindowSums ---------------------------------------------------------------------------------


def counted(start: int, n: int) -> bytes:
    """A block whose voltage is the sample index and whose current is 1."""
    rows = [[(start + k) % END % 1_000, 1] for k in range(n)]
    return encode_block(start, np.array(rows, np.int32))


def windows_of(blocks: list[bytes], size: int) -> Iterator[Window]:
    collected = WindowSums(size)
    for sums in integrate_many(blocks, size):
        yield from collected.add(sums)


def window(index: int, size: int) -> Window:
    values = [k % 1_000 for k in range(index * size, (index + 1) * size)]
    return Window(index, size, [sum(values)], [sum(v * v for v in values)], [size])


@pytest.mark.requirement("PTCP-8-06", "PTCP-8-07", "PTCP-8-08")
def test_whole_windows_come_straight_out_of_a_block() -> None:
    assert list(windows_of([counted(0, 100)], 20)) == [window(k, 20) for k in range(5)]


@pytest.mark.requirement("PTCP-8-06", "PTCP-8-07", "PTCP-8-08")
def test_windows_do_not_depend_on_the_cutting() -> None:
    random = Random(12)
    expected = [window(k, 20) for k in range(10)]
    for _ in range(50):
        blocks = [counted(0, 210)]
        for _ in range(random.randrange(1, 40)):
            at = random.randrange(len(blocks))
            n = block_header(blocks[at])[3]
            if n > 1:
                blocks[at : at + 1] = cut_block(blocks[at], random.randrange(1, n))
        assert list(windows_of(blocks, 20)) == expected


def test_a_flow_joined_in_the_middle_begins_with_the_next_whole_window() -> None:
    assert list(windows_of([counted(13, 5), counted(18, 30)], 20)) == [window(1, 20)]


def test_a_gap_drops_the_window_it_is_in() -> None:
    blocks = [counted(0, 30), counted(35, 5), counted(40, 20)]
    assert list(windows_of(blocks, 20)) == [window(0, 20), window(2, 20)]


def test_a_window_cut_short_by_the_wrap_of_the_counter_is_dropped() -> None:
    # 2^32 is 16 modulo 20: 16 samples, then the wrap begins window 0
    blocks = [counted(END - 36, 30), counted(END - 6, 46)]
    found = list(windows_of(blocks, 20))
    assert [each.index for each in found] == [(END - 36) // 20, 0, 1]
    assert found[1:] == [window(0, 20), window(1, 20)]


def test_pairs_are_summed_apart() -> None:
    rows = np.tile(np.array([1, 2, 3, 4, 5, 6], np.int32), (3, 1))
    blocks = [encode_block(0, rows), encode_block(3, rows[:1])]
    assert list(windows_of(blocks, 4)) == [Window(0, 4, [4, 12, 20], [4, 36, 100], [16, 64, 144])]


def test_sums_of_another_window_are_our_own_bug() -> None:
    with pytest.raises(BrokenInvariant, match="another window"):
        WindowSums(20).add(integrate_many([counted(0, 1)], 10)[0])
    with pytest.raises(BrokenInvariant, match="at least one sample"):
        WindowSums(0)


def test_what_a_skipped_window_held_is_gone() -> None:
    collected = WindowSums(20)
    assert collected.add(integrate_many([counted(0, 7)], 20)[0]) == []
    collected.skip()
    # whole windows were judged elsewhere; the collection goes on at the next boundary
    (window,) = collected.add(integrate_many([counted(40, 20)], 20)[0])
    assert (window.n, collected.add(integrate_many([counted(60, 3)], 20)[0])) == (20, [])
