"""A run of blocks is measured as its blocks are, or not at all."""

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.dve import EnergyRegister, encode_block, integrate_many, integrate_run
from powertcp.wire.frames import HEADER_OCTETS, data_header
from powertcp.wire.options import Sampling


def run_of(blocks: list[bytes]) -> bytes:
    return b"".join(data_header(1, 0, len(block)) + block for block in blocks)


def blocks_of(values: list[list[int]], n: int, pairs: int = 1, counter: int = 0) -> list[bytes]:
    samples = [np.array(one, dtype=np.int64).reshape(n, 2 * pairs) for one in values]
    return [encode_block(counter + n * k, one) for k, one in enumerate(samples)]


@given(st.data())
def test_a_run_has_the_sums_of_its_blocks(data: st.DataObject) -> None:
    n, pairs = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 3))
    count = data.draw(st.integers(1, 6))
    bits = data.draw(st.integers(1, 20))
    value = st.integers(-(1 << bits), 1 << bits)
    size = 2 * n * pairs
    values = data.draw(
        st.lists(st.lists(value, min_size=size, max_size=size), min_size=count, max_size=count)
    )
    blocks = blocks_of(values, n, pairs, data.draw(st.integers(0, 1 << 31)))
    run = integrate_run(run_of(blocks), count, HEADER_OCTETS)
    assert run is not None
    singly = integrate_many(blocks)
    assert run.a == [one.a for one in singly]
    assert (run.counter, run.pairs, run.n) == (singly[0].counter, pairs, n)
    assert run.v_peak == max(one.v_peak for one in singly)
    assert run.i_peak == max(one.i_peak for one in singly)


def test_a_long_run_is_measured_a_cacheful_at_a_time() -> None:
    blocks = blocks_of([[12_000 + k, 500_000 - k] * 2040 for k in range(16)], 2040)
    run = integrate_run(run_of(blocks), 16, HEADER_OCTETS)
    assert run is not None
    assert run.a == [one.a for one in integrate_many(blocks)]
    assert (run.v_peak, run.i_peak) == (12_015, 500_000)


@pytest.mark.parametrize("spoil", ["gap", "shape", "wrap", "length", "great", "none"])
def test_what_is_no_plain_run_is_taken_block_by_block(spoil: str) -> None:
    start = (1 << 32) - 15 if spoil == "wrap" else 0
    sample = [-(1 << 31), -(1 << 31)] if spoil == "great" else [12_000, 500_000]
    blocks = blocks_of([sample * 10] * 2, 10, counter=0)
    if spoil == "gap":
        blocks[1] = encode_block(11, np.array([sample] * 10, dtype=np.int64))
    elif spoil == "shape":
        blocks[1] = encode_block(10, np.array([sample * 2] * 5, dtype=np.int64))
    elif spoil == "wrap":
        blocks = [encode_block(start, np.array([sample] * 10, dtype=np.int64)), blocks[1]]
    elif spoil == "length":
        blocks = [block[:-8] for block in blocks]
    found = integrate_run(run_of(blocks), 2, HEADER_OCTETS)
    assert (found is not None) == (spoil == "none")


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=20))
def test_a_register_says_where_each_block_of_a_run_ends(parts: list[int]) -> None:
    register, singly = EnergyRegister(Sampling(1000), 7), EnergyRegister(Sampling(1000), 7)
    ends = register.run(parts)
    assert register.esn_uj == 7
    assert ends == [singly.add(a) for a in parts]
    assert register.add(sum(parts)) == ends[-1]
    assert list(accumulate(parts))[-1] == register.a
