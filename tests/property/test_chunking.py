"""A stream of segments gives equal segments and an equal fault however it is cut."""

import itertools
import random
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from powertcp.wire import DEFAULT_MSP, Splitter
from tests.wire_values import vectors

GOOD = [octets for _, about, octets in vectors() if about["layout"] == "segment"]
FRAMING = [octets for name, about, octets in vectors(bad=True)
           if about["layout"] == "segment" and "PTCP-2.1-03" in about["requirement"]]  # fmt: skip


def copied(found: list[Any]) -> list[tuple[Any, ...]]:
    """Return raw segments with their views copied."""
    return [(*raw[:4], bytes(raw[4]), bytes(raw[5])) for raw in found]


def split(pieces: list[bytes]) -> tuple[list[Any], Any, int]:
    """Return what a splitter makes of the pieces, through one buffer that is written over."""
    splitter = Splitter()
    found = []
    for piece in pieces:
        buffer = bytearray(piece)
        raws = splitter.receive(buffer)
        found += copied(raws)
        raws.clear()
        # PTCP-2.3-03: nothing of the caller's buffer is held, or this is a BufferError
        buffer += b"\xff"
        buffer[:] = b"\xff" * len(buffer)
        assert splitter.pending <= 532 + DEFAULT_MSP
    error = splitter.error
    fault = (error.code, error.value, error.field) if error else None
    return found, fault, splitter.pending


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.requirement("PTCP-2.2-03")
def test_three_chunkings_of_every_vector_in_one_stream() -> None:
    assert len(GOOD) >= 50
    stream = b"".join(GOOD)
    whole = split([stream])
    assert len(whole[0]) == len(GOOD)
    assert whole[1:] == (None, 0)
    assert split([bytes((octet,)) for octet in stream]) == whole
    for seed in range(20):
        rng = random.Random(seed)
        places = [rng.randrange(len(stream)) for _ in range(rng.randrange(1, 200))]
        assert split(cut(stream, places)) == whole


@pytest.mark.requirement("PTCP-2.1-03")
@pytest.mark.parametrize("fault", FRAMING, ids=[octets[:8].hex() for octets in FRAMING])
def test_a_framing_fault_is_found_alike_and_never_heals(fault: bytes) -> None:
    stream = GOOD[0] + GOOD[1] + fault + GOOD[2]
    whole = split([stream])
    assert len(whole[0]) == 2
    assert whole[1] is not None
    assert whole[2] == 0
    assert split([bytes((octet,)) for octet in stream]) == whole
    assert split(cut(stream, [7, 99, 150])) == whole


@pytest.mark.requirement("PTCP-2.1-03")
@hypothesis.given(
    st.lists(st.sampled_from(GOOD + FRAMING), min_size=1, max_size=6).map(b"".join),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.integers(0, 30),
)
def test_any_stream_under_any_chunking(stream: bytes, places: list[int], lost: int) -> None:
    stream = stream[: len(stream) - lost]
    assert split(cut(stream, places)) == split([stream])


@pytest.mark.requirement("PTCP-2.1-03")
@hypothesis.given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_garbage_under_any_chunking(garbage: bytes, places: list[int]) -> None:
    assert split(cut(garbage, places)) == split([garbage])
