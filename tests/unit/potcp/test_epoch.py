"""What a receiver remembers of an epoch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.potcp.epoch import WINDOW_BLOCKS, SeenBlocks


@pytest.mark.requirement("PTCP-12-01")
def test_a_block_is_a_duplicate_within_8128_blocks_and_older_ones_are_not_taken() -> None:
    seen = SeenBlocks()
    assert not seen.has(0)
    seen.add(0)
    assert seen.has(0)
    seen.add(WINDOW_BLOCKS - 1)
    assert seen.has(0)
    assert not seen.has(1)
    seen.add(1)
    seen.add(WINDOW_BLOCKS)
    assert seen.has(1)
    assert not seen.has(2)
    assert seen.has(0), "one above the window: too old to tell"
    seen.add(10 * WINDOW_BLOCKS)
    assert seen.has(9 * WINDOW_BLOCKS)
    assert not seen.has(9 * WINDOW_BLOCKS + 1)
    assert seen.top == 10 * WINDOW_BLOCKS


def test_after_a_restart_everything_up_to_the_top_was_seen() -> None:
    seen = SeenBlocks(40)
    assert all(seen.has(index) for index in range(41))
    assert not seen.has(41)
    seen.add(42)
    assert not seen.has(41)
    assert seen.has(40)


@given(st.lists(st.integers(0, 3 * WINDOW_BLOCKS), max_size=60))
def test_the_window_agrees_with_a_set(indices: list[int]) -> None:
    seen, known, top = SeenBlocks(), set[int](), -1
    for index in indices:
        expected = index in known or index <= top - WINDOW_BLOCKS
        assert seen.has(index) is expected
        if not expected:
            seen.add(index)
            known.add(index)
            top = max(top, index)
