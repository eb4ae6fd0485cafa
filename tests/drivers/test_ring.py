"""The ring of a feed: every signature, the last 64 blocks, whole pieces only."""

import pytest

from powertcp.drivers.ring import RING_BLOCKS, RING_PIECES, Ring
from powertcp.potcp.feed import Piece


def block(number: int) -> Piece:
    return Piece(f"b{number} ".encode(), is_block=True)


def signature(number: int) -> Piece:
    return Piece(f"s{number} ".encode(), is_block=False)


@pytest.mark.requirement("PTCP-12-02")
async def test_who_is_more_than_64_blocks_behind_loses_the_oldest_whole() -> None:
    ring = Ring()
    for number in range(RING_BLOCKS):
        ring.add(block(number))
    whole = ring.since(0)
    assert whole is not None
    assert (whole.octets.count(b"b"), whole.lost) == (RING_BLOCKS, 0)
    ring.add(signature(0))
    ring.add(block(RING_BLOCKS))
    ring.add(block(RING_BLOCKS + 1))
    found = ring.since(0)
    assert found is not None
    assert found.lost == 2
    assert found.octets.startswith(b"b2 b3 ")
    assert found.octets.endswith(b"b63 s0 b64 b65 ")


@pytest.mark.requirement("PTCP-12-02")
async def test_signatures_are_kept_for_who_is_behind() -> None:
    ring = Ring()
    for number in range(4 * RING_BLOCKS):
        ring.add(block(number))
        if number % 25 == 24:
            ring.add(signature(number))
    found = ring.since(0)
    assert found is not None
    assert found.lost == 3 * RING_BLOCKS
    assert found.octets.count(b"s") == 10


async def test_what_every_subscriber_has_is_forgotten_and_the_rest_is_bounded() -> None:
    ring = Ring()
    for number in range(100):
        ring.add(block(number))
    ring.trim(90)
    assert ring.since(89) is None
    found = ring.since(90)
    assert found is not None
    assert (found.octets.split()[0], found.lost) == (b"b90", 0)
    for number in range(RING_PIECES):
        ring.add(signature(number))
    ring.trim(90)
    assert ring.since(99) is None, "one above the limit"
    rest = ring.since(100)
    assert rest is not None
    assert rest.octets.count(b"s") == RING_PIECES
    ring.trim(ring.end + 5)
    rest = ring.since(ring.end)
    assert rest is not None
    assert rest.octets == b""
