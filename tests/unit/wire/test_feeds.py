"""The names of a feed, octet by octet."""

from hashlib import blake2s

import pytest

from powertcp.wire.feeds import feed_id, feed_transcript

KEY = bytes(range(32))
FEED = bytes(range(16))


@pytest.mark.requirement("PTCP-12-06")
def test_the_id_of_a_feed_is_bound_to_its_key() -> None:
    assert feed_id(KEY) == blake2s(b"powertcp feed id 1" + KEY).digest()[:16]


@pytest.mark.requirement("LEDG-6-05")
def test_the_transcript_of_a_feed_is_that_of_its_id_and_epoch() -> None:
    expected = blake2s(b"powertcp feed" + FEED + b"\0\0\0\x09").digest()
    assert feed_transcript(FEED, 9) == expected
