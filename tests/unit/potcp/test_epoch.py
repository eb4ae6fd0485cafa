"""What a receiver remembers of an epoch."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.potcp.epoch import (
    NO_ACCOUNT,
    STARTS_MAX,
    WINDOW_BLOCKS,
    Account,
    Block,
    Epoch,
    SeenBlocks,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.wire import Feed, Sampling

GRANT = PowerProfile.parse("12V/1A", ProfileType.GRANT)
OTHER_GRANT = PowerProfile.parse("12V/2A", ProfileType.GRANT)


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


def block(index: int, esn_uj: int, **terms: Any) -> Block:
    """Return a block of 10 samples of 12 V and 1 A."""
    plain = Block(
        feed=Feed(bytes(16), 1),
        profile=GRANT,
        sampling=Sampling(1000),
        esn_uj=esn_uj,
        counter=10 * index,
        n=10,
        ece=False,
        payload=b"",
    )
    return plain._replace(**terms)


@pytest.mark.requirement("PTCP-12-07")
def test_the_first_signed_block_settles_the_terms_of_all() -> None:
    epoch = Epoch(Feed(bytes(16), 1), bytes(32), NO_ACCOUNT, 0)
    first = block(4, 480_000)
    assert not epoch.has(first)
    terms = epoch.begin(first)
    assert terms is epoch.terms
    assert terms.fit(block(9, 0))
    for wrong in (
        {"n": 11},
        {"counter": 41},
        {"sampling": Sampling(500)},
        {"profile": OTHER_GRANT},
    ):
        assert not terms.fit(block(9, 0, **wrong))
    epoch.seen.add(4)
    assert epoch.has(first)
    assert not epoch.has(block(5, 0))


def test_what_the_source_says_it_emitted_spans_first_and_last() -> None:
    epoch = Epoch(Feed(bytes(16), 1), bytes(32), Account(3, 700, 5), 0)
    assert (epoch.page, epoch.page_start_uj, epoch.resumed) == (3, 700, True)
    epoch.begin(block(8, 960_000))
    assert epoch.energy.esn_uj == 700
    for index in (8, 7, 10):
        epoch.locate(block(index, 120_000 * index), index, 120_000)
    assert (epoch.first_index, epoch.signed_top, epoch.counted) == (7, 10, 3)
    assert (epoch.first_esn_uj, epoch.end_uj, epoch.heard_uj) == (840_000, 1_320_000, 360_000)


def test_starts_are_remembered_up_to_a_limit_and_older_ones_are_behind() -> None:
    epoch = Epoch(Feed(bytes(16), 1), bytes(32), NO_ACCOUNT, 0)
    assert not epoch.is_behind(0, 1)
    assert [epoch.note_start(first) for first in (10, 30, 20)] == [True, True, False]
    assert all(epoch.note_start(40 + number) for number in range(STARTS_MAX - 3))
    assert not epoch.is_behind(10, 1)
    assert epoch.note_start(1000)
    assert len(epoch.starts) == STARTS_MAX
    assert epoch.is_behind(10, 1)
    assert not epoch.is_behind(11, 1)


def test_a_signature_whose_last_block_is_too_old_is_behind() -> None:
    epoch = Epoch(Feed(bytes(16), 1), bytes(32), NO_ACCOUNT, 0)
    epoch.begin(block(0, 0))
    epoch.seen.add(WINDOW_BLOCKS + 100)
    assert epoch.is_behind(10 * 98, 3)
    assert not epoch.is_behind(10 * 98, 4)
