"""Energy is what the samples say, however a stream is cut, grouped or resumed."""

from random import Random

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from powertcp.dve.block import block_header, block_samples, cut_block, encode_block
from powertcp.dve.measure import BlockSums, EnergyRegister, WindowSums, integrate, integrate_many
from powertcp.wire.options import Sampling
from tests.full import size

EDGES = (-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1)
CUTTINGS = 200
WINDOW = 20


def stream(random: Random, n: int, pairs: int, counter: int = 0) -> bytes:
    """One long block: full scale, small, or at the edges of the number range."""
    bits = random.choice((8, 20, 32))
    rows = [
        [
            random.choice(EDGES)
            if random.random() < 0.1
            else random.randrange(-(1 << bits - 1), 1 << bits - 1)
            for _ in range(2 * pairs)
        ]
        for _ in range(n)
    ]
    return encode_block(counter, np.array(rows, np.int32))


def cut_up(random: Random, block: bytes, cuts: int) -> list[bytes]:
    """The same samples in up to cuts + 1 blocks."""
    n = block_header(block)[3]
    blocks, rest, done = [], block, 0
    for at in sorted(random.sample(range(1, n), min(cuts, n - 1))):
        first, rest = cut_block(rest, at - done)
        blocks.append(first)
        done = at
    return [*blocks, rest]


def by_hand(block: bytes) -> int:
    """Sum of v * i in Python integers."""
    rows = block_samples(block).tolist()
    return sum(v * i for row in rows for v, i in zip(row[0::2], row[1::2], strict=True))


@pytest.mark.requirement("PTCP-3.3-01", "PTCP-3.1-03")
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    pairs=st.integers(1, 3),
    n=st.integers(2, 400),
    rate_hz=st.integers(10, 100_000),
    nv=st.integers(1, 2**32 - 1),
    na=st.integers(1, 2**32 - 1),
    base_uj=st.integers(0, 2**63),
)
def test_any_cutting_gives_the_identical_esn(
    seed: int, pairs: int, n: int, rate_hz: int, nv: int, na: int, base_uj: int
) -> None:
    random = Random(seed)
    sampling = Sampling(rate_hz, nv, na, pairs)
    block = stream(random, n, pairs, random.getrandbits(32))
    whole = EnergyRegister(sampling, base_uj)
    esn = whole.add(integrate(block))
    assert esn == base_uj + by_hand(block) * nv * na // (rate_hz * 10**12)
    for _ in range(CUTTINGS // 25):
        parts = cut_up(random, block, random.randrange(1, n))
        alone, together = EnergyRegister(sampling, base_uj), EnergyRegister(sampling, base_uj)
        for part, sums in zip(parts, integrate_many(parts), strict=True):
            alone.add(integrate(part))
            assert together.peek(sums.a) == together.add(sums.a)
        assert alone.esn_uj == together.esn_uj == esn
        assert alone.a == together.a == whole.a


@pytest.mark.requirement("PTCP-3.3-01")
def test_one_stream_cut_at_random_200_times_gives_one_esn() -> None:
    random = Random(3251)
    sampling = Sampling(rate_hz=4_000)
    block = stream(random, 2_000, 1)
    esn = EnergyRegister(sampling).add(integrate(block))
    seen = set()
    for _ in range(CUTTINGS):
        register = EnergyRegister(sampling)
        parts = cut_up(random, block, random.randrange(1, 60))
        seen.add(tuple(map(len, parts)))
        for part in parts:
            register.add(integrate(part))
        assert register.esn_uj == esn
    assert len(seen) == CUTTINGS


@pytest.mark.requirement("PTCP-3.3-03")
@settings(max_examples=size(60, 10_000))
@given(seed=st.integers(0, 2**32), size=st.integers(1, 64), window=st.sampled_from([0, 1, 7, 20]))
def test_groups_are_their_single_blocks(seed: int, size: int, window: int) -> None:
    random = Random(seed)
    lengths = random.sample((1, 2, 10, 16, 17, 20, 40, 81), random.randint(1, 3))
    event(f"{len(lengths)} lengths")
    blocks = []
    for _ in range(size):
        counter = random.choice((0, 20, 21, 2**32 - 5, random.getrandbits(32)))
        blocks.append(stream(random, random.choice(lengths), random.randint(1, 3), counter))
    group = integrate_many(blocks, window)
    singles = [sums for block in blocks for sums in integrate_many([block], window)]
    assert group == singles
    assert [sums.a for sums in group] == [integrate(block) for block in blocks]
    assert [sums.a for sums in group] == [by_hand(block) for block in blocks]
    assert all(_adds_up(sums, block) for sums, block in zip(group, blocks, strict=True))


def _adds_up(sums: BlockSums, block: bytes) -> bool:
    """Whether the parts of a block together are the block."""
    columns = list(zip(*block_samples(block).tolist(), strict=True))
    v, i = columns[0::2], columns[1::2]
    return (
        sum(sums.lengths) == sums.n
        and _total(sums.sum_v) == [sum(column) for column in v]
        and _total(sums.sum_v2) == [sum(value * value for value in column) for column in v]
        and _total(sums.sum_i2) == [sum(value * value for value in column) for column in i]
        and sums.v_peak == max(abs(value) for column in v for value in column)
        and sums.i_peak == max(abs(value) for column in i for value in column)
    )


def _total(parts: list[list[int]]) -> list[int]:
    """Sums by pair, over all parts."""
    return [sum(column) for column in zip(*parts, strict=True)]


@pytest.mark.requirement("PTCP-8-06", "PTCP-8-07", "PTCP-8-08")
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 300), pairs=st.integers(1, 3))
def test_windows_are_the_same_for_every_cutting(seed: int, n: int, pairs: int) -> None:
    random = Random(seed)
    counter = random.choice((0, 13, 2**32 - 47))
    block = stream(random, n, pairs, counter)
    whole = WindowSums(WINDOW)
    expected = whole.add(integrate_many([block], WINDOW)[0])
    event(f"{min(len(expected), 3)} windows or more")
    assert all(window.n == WINDOW for window in expected)
    collected = WindowSums(WINDOW)
    found = []
    for sums in integrate_many(cut_up(random, block, random.randrange(1, n)), WINDOW):
        found += collected.add(sums)
    assert found == expected
