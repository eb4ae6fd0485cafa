"""The hand-written codecs and the construct schema agree: same values, same refusals."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from powertcp.dve.block import block_header
from powertcp.errors import DecodeError
from powertcp.profile import PowerProfile
from powertcp.registry import SegmentType
from powertcp.wire import Data, Splitter, decode_segment, encode_segment, walk_options
from powertcp.wire.schema import OPTIONS, TYPES, Rejected
from powertcp.wire.values import build, parse
from tests.full import size
from tests.wire_values import (
    in_kind_order,
    profile_from,
    profile_values,
    segment_from,
    segment_values,
    vectors,
)

SEEDS = [octets for _, about, octets in vectors() + vectors(bad=True)
         if about["layout"] == "segment" and len(octets) >= 20]  # fmt: skip
CANONICAL = [about["decoded"] for _, about, _ in vectors()
             if about["layout"] == "segment" and about.get("canonical", True)]  # fmt: skip
KEEPS_NONE = ("DATA", "CREDIT", "BLOCKED", "MAINTAIN", "TICKET", "COOKIE")


def by_hand(octets: bytes) -> Any:
    """Return the values of a whole segment, None if skipped, or (code, value) of the refusal."""
    splitter = Splitter()
    try:
        found = splitter.receive(octets)
        if splitter.error is not None:
            raise splitter.error
        segment = decode_segment(found[0])
        if isinstance(segment, Data):
            block_header(segment.payload)
    except DecodeError as error:
        return error.code, error.value
    return segment_values(segment)


def by_schema(octets: bytes) -> Any:
    try:
        values = parse("segment", octets)
    except Rejected as fault:
        return fault.code, fault.value
    if "skipped" in values:
        return None
    kept: dict[str, Any] = {"options": []} if values["type"] in KEEPS_NONE else {}
    if values["type"] == "MAINTAIN":
        kept["esn"] = 0  # flow 0 has none
    return {**in_kind_order(values), **kept}


def whole(octets: bytes) -> bytes:
    """Return `octets` with a length field that makes them one whole segment, if that can be."""
    start = octets[3] * 4
    size = len(octets) - start
    if start < 20 or size < 0:
        return octets
    return octets[:6] + size.to_bytes(2, "big") + octets[8:]


def is_whole(octets: bytes) -> bool:
    """Return whether the header is refused or says exactly the length of the octets."""
    length = int.from_bytes(octets[6:8], "big")
    refused = octets[:3] != b"PO\x01" or not 5 <= octets[3] <= 133 or length > 16384
    return refused or octets[3] * 4 + length == len(octets)


def option(kind: int, value: bytes, lie: int) -> bytes:
    return bytes((kind, max(0, min(255, len(value) + 2 + lie)))) + value


option_octets = st.one_of(
    st.builds(
        option,
        st.one_of(st.sampled_from(sorted(OPTIONS)), st.integers(0, 255)),
        st.one_of(
            st.sampled_from([2, 16, 4, 14, 32, 44, 18, 12, 20]).flatmap(
                lambda size: st.binary(min_size=size, max_size=size)
            ),
            st.binary(max_size=24),
        ),
        st.sampled_from([0, 0, 0, 0, 0, 0, 0, -1, 1]),
    ),
    st.sampled_from([b"\x01", b"\x00", bytes.fromhex("0312" + "4402002ee00005dc00000e1000001000")]),
)
areas = st.lists(option_octets, max_size=6).map(b"".join).map(
    lambda area: (area + bytes(-len(area) % 4))[:512]
)  # fmt: skip
payloads = st.one_of(
    st.just(b""),
    st.binary(max_size=40),
    st.sampled_from([1, 8, 16, 32, 380]).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    st.builds(
        lambda n, pairs: bytes(5) + bytes((pairs, 0, n)) + bytes(8 * n * pairs),
        st.integers(0, 4),
        st.integers(0, 4),
    ),
)


def fitting(kind: int) -> st.SearchStrategy[bytes]:
    """Octets of the length that a known option kind takes."""
    layout = OPTIONS[kind][1]
    return st.binary(min_size=layout.shortest, max_size=min(layout.longest, layout.shortest + 8))


sound = st.sampled_from(sorted(set(OPTIONS) - {2, 3, 6, 7, 9, 130})).flatmap(
    lambda kind: fitting(kind).map(lambda value: option(kind, value, 0))
)
profile_option = fitting(3).map(
    lambda value: option(3, bytes((0x40 | value[0] & 0x2F,)) + value[1:], 0)
)
sound_areas = st.lists(st.one_of(sound, profile_option), max_size=4).map(b"".join).map(
    lambda area: area + bytes(-len(area) % 4)
)  # fmt: skip


@st.composite
def segments(draw: st.DrawFn) -> bytes:
    """Octets of a whole segment: a sound header, any flags, options, payload."""
    kind = draw(st.one_of(st.sampled_from(sorted(TYPES)), st.integers(0, 255)))
    flags = draw(st.one_of(st.sampled_from([0, 1, 2, 4, 16, 17, 18]), st.integers(0, 255)))
    flow = draw(st.sampled_from([0, 1, 2, 2**32 - 1]))
    esn = draw(st.sampled_from([0, 1, 2**64 - 1]))
    area = draw(st.one_of(sound_areas, areas))
    layout = TYPES[kind].payload if kind in TYPES else None
    if layout is None or kind == 2 or draw(st.sampled_from([False, False, True])):
        payload = draw(payloads)
    else:
        payload = draw(st.binary(min_size=layout.shortest, max_size=min(layout.longest, 380)))
    head = b"PO\x01" + bytes((5 + len(area) // 4, kind, flags)) + len(payload).to_bytes(2, "big")
    return head + flow.to_bytes(4, "big") + esn.to_bytes(8, "big") + area + payload


@pytest.mark.requirement(
    "PTCP-2.1-04", "PTCP-2.2-01", "PTCP-2.2-02", "PTCP-2.2-03",
    "PTCP-2.3-01", "PTCP-2.3-02", "PTCP-2.3-03", "PTCP-2.3-05",
)  # fmt: skip
def test_any_segment_has_the_same_values_or_the_same_refusal() -> None:
    seen: dict[Any, int] = {}

    @hypothesis.settings(max_examples=size(1_200, 100_000), database=None)
    @hypothesis.given(segments())
    def check(octets: bytes) -> None:
        got = by_hand(octets)
        assert got == by_schema(octets)
        verdict = got[0] if isinstance(got, tuple) else "values" if got else "skipped"
        seen[verdict] = seen.get(verdict, 0) + 1

    check()
    assert seen["values"] >= 100
    assert set(seen) >= {"values", "skipped", 502, 503, 504, 505, 506}


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A vector with up to four octets changed, cut or added, its length field made right or not."""
    octets = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(octets) - 1))
        octets[at] = draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 127, 128])))
    if draw(st.booleans()):
        octets += draw(st.binary(max_size=12))
    return whole(bytes(octets))


@pytest.mark.requirement("PTCP-2.1-03", "PTCP-2.2-02", "PTCP-2.3-02")
def test_any_mutated_vector_has_the_same_values_or_the_same_refusal() -> None:
    reached = 0

    @hypothesis.settings(max_examples=size(800, 100_000), database=None)
    @hypothesis.given(mutated())
    def check(octets: bytes) -> None:
        nonlocal reached
        if is_whole(octets):
            reached += 1
            assert by_hand(octets) == by_schema(octets)

    check()
    assert reached >= 250


@pytest.mark.requirement("PTCP-2.2-03", "PTCP-2.3-05")
def test_what_one_encodes_the_other_decodes() -> None:
    rows = CANONICAL
    assert len(rows) >= 50
    for values in rows:
        octets = encode_segment(segment_from(values))
        assert by_schema(octets) == by_hand(build("segment", values))
        assert octets == build("segment", values)


@pytest.mark.requirement("PTCP-2.1-02", "PTCP-2.2-03")
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_numbers_survive_at_every_width(flow: int, esn: int, limit: int) -> None:
    head = {"flags": [], "flow": flow, "esn": esn, "options": []}
    for kind, payload in (
        (SegmentType.CREDIT, {"limit_uj": limit, "demand_mw": esn}),
        (SegmentType.BLOCKED, {"limit_uj": limit}),
    ):
        values = {"type": kind.name, **head, "payload": payload}
        octets = encode_segment(segment_from(values))
        assert octets == build("segment", values)
        assert by_hand(octets) == values


@pytest.mark.requirement("PTCP-2.3-01", "PTCP-2.3-02", "PTCP-2.3-03")
@hypothesis.settings(max_examples=500)
@hypothesis.given(areas)
def test_walking_options_refuses_what_decoding_refuses(area: bytes) -> None:
    head = b"PO\x01" + bytes((5 + len(area) // 4, 5, 0, 0, 0)) + bytes(12)
    refusal = None
    try:
        walk_options(area)
    except DecodeError as error:
        refusal = error.code, error.value
    got = by_hand(head + area)
    assert got == refusal if refusal else isinstance(got, dict)


# --- profiles ---------------------------------------------------------------------------------


@pytest.mark.requirement("PTCP-1-01", "PTCP-1-05")
@hypothesis.settings(max_examples=500)
@hypothesis.given(st.binary(min_size=15, max_size=15), st.integers(0, 255))
def test_any_16_octets_are_the_same_profile_or_the_same_refusal(tail: bytes, head: int) -> None:
    for first in (head, 0x40 | head & 0x3F):
        octets = bytes((first,)) + tail
        try:
            expected: Any = parse("profile", octets)
        except Rejected as fault:
            expected = fault.code, fault.value
        try:
            got: Any = profile_values(PowerProfile.from_wire(octets))
        except DecodeError as error:
            got = error.code, error.value
        assert got == expected
        if isinstance(got, dict):
            assert profile_from(got).to_wire() == build("profile", expected)


profiles = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["REQUEST", "OFFER", "GRANT", "REFUSE", "MINIMUM", "FALLBACK"]),
        "voltage_mv": st.one_of(st.integers(0, 2**24 + 1500), st.integers(0, (2**24 - 1) * 1000)),
        "current_ma": st.one_of(st.integers(0, 2**24 + 1500), st.integers(0, (2**24 - 1) * 1000)),
        "waveform": st.sampled_from(["DC", "SINE", "ARBITRARY", "BY_ID"]),
        "phases": st.sampled_from(["ONE", "SPLIT", "DELTA", "WYE"]),
        "priority": st.integers(0, 15),
        "frequency_chz": st.integers(0, 65535),
        "energy_j": st.one_of(st.integers(0, 100_000), st.integers(0, 8191 * 10**7)),
        "lease_s": st.one_of(st.integers(0, 5000), st.integers(0, 1_015_792)),
        "profile_id": st.integers(0, 255),
        "tag": st.integers(0, 65535),
        "giveback": st.booleans(),
    }
)


@pytest.mark.requirement("PTCP-1-01", "PTCP-1-02")
@hypothesis.settings(max_examples=500)
@hypothesis.given(profiles)
def test_any_profile_is_rounded_to_the_same_octets(values: dict[str, Any]) -> None:
    octets = profile_from(values).to_wire()
    assert octets == build("profile", values)
    # K may fall to 0 when rounding made the value fit; the value stays
    value = PowerProfile.from_wire(octets)
    assert PowerProfile.from_wire(value.to_wire()) == value
