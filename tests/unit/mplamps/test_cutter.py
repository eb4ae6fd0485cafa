"""Octets of a splice: none altered, none lost, and each segment that carries energy begins a packet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.mplamps.cutter import Cutter
from powertcp.registry import Flag, SegmentType
from powertcp.wire.frames import HEADER, HEADER_OCTETS, pack_segment


def segment(kind: int, octets: int, flags: int = 0) -> bytes:
    return pack_segment(kind, flags, 1, 77, b"", bytes(range(256))[:octets] * 1)


DATA = segment(SegmentType.DATA, 24)
CREDIT = segment(SegmentType.CREDIT, 16)
FIN = segment(SegmentType.CTL, 0, Flag.FIN)
SEALED = segment(SegmentType.SEALED, 40)


def joined(pieces: list[tuple[bytes, bool]]) -> bytes:
    return b"".join(octets for octets, _ in pieces)


@pytest.mark.requirement("MPLA-9-03")
def test_each_data_header_begins_a_packet() -> None:
    pieces = Cutter().cut(CREDIT + DATA + CREDIT + DATA + SEALED + FIN)
    assert pieces == [
        (CREDIT, False),
        (DATA + CREDIT, True),
        (DATA, True),
        (SEALED, True),
        (FIN, True),
    ]


def test_it_knows_how_far_the_energy_is() -> None:
    cutter = Cutter()
    cutter.cut(pack_segment(SegmentType.CREDIT, 0, 1, 500, b"", bytes(16)))
    assert (cutter.esn_uj, cutter.metered) == (500, 0)
    cutter.cut(pack_segment(SegmentType.DATA, 0, 1, 400, b"", bytes(24)))
    cutter.cut(pack_segment(SegmentType.SEALED, 0, 1, (1 << 64) - 1, b"", bytes(24)))
    cutter.cut(pack_segment(SegmentType.MAINTAIN, 0, 0, 9000, b"", bytes(16)))
    assert (cutter.esn_uj, cutter.metered) == (500, 2)


def test_a_long_segment_goes_on_without_a_cut() -> None:
    long = segment(SegmentType.DATA, 200)
    cutter = Cutter()
    assert cutter.cut(long[:100]) == [(long[:100], True)]
    assert cutter.cut(long[100:150]) == [(long[100:150], False)]
    assert cutter.cut(long[150:] + FIN) == [(long[150:], False), (FIN, True)]
    assert cutter.finish() == b""


def test_a_header_that_is_not_whole_waits() -> None:
    cutter = Cutter()
    assert cutter.cut(CREDIT + DATA[:19]) == [(CREDIT, False)]
    assert cutter.cut(b"") == []
    assert cutter.cut(DATA[19:]) == [(DATA, True)]
    assert cutter.cut(DATA[:7]) == []
    assert cutter.finish() == DATA[:7]
    assert cutter.finish() == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n and more",
        b"PX",
        b"PO\x02",
        HEADER.pack(0x504F, 1, 4, 2, 0, 0, 0, 0),
    ],
)
def test_what_is_no_segment_is_passed_on_as_it_comes(garbage: bytes) -> None:
    cutter = Cutter()
    pieces = cutter.cut(DATA + garbage)
    assert joined(pieces) == DATA + garbage
    assert pieces[0][1]
    assert cutter.cut(DATA + DATA) == [(DATA + DATA, False)]
    assert cutter.finish() == b""


SEGMENTS = st.builds(
    segment, st.sampled_from(list(SegmentType)), st.integers(0, 200), st.integers(0, 255)
)


@given(st.lists(SEGMENTS, max_size=12), st.binary(max_size=30), st.data())
def test_any_chunking_loses_nothing_and_cuts_at_the_same_places(
    segments: list[bytes], rest: bytes, data: st.DataObject
) -> None:
    octets = b"".join(segments) + rest
    cutter, pieces = Cutter(), []
    at = 0
    while at < len(octets):
        size = data.draw(st.integers(1, 64))
        pieces += cutter.cut(octets[at : at + size])
        at += size
    pieces.append((cutter.finish(), False))
    assert joined(pieces) == octets
    begins, at = set(), 0
    for piece, is_first in pieces:
        if is_first:
            begins.add(at)
            assert len(piece) >= HEADER_OCTETS
        at += len(piece)
    wanted, at = set(), 0
    for one in segments:
        if one[4] in (SegmentType.DATA, SegmentType.CTL, SegmentType.SEALED):
            wanted.add(at)
        at += len(one)
    assert wanted <= begins
    assert begins <= {*wanted, *range(at, len(octets))}
