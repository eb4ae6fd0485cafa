"""Every vector of the protocol draft, by the hand-written codecs and by the schema."""

from itertools import pairwise
from typing import Any

import pytest

from powertcp.dve.block import block_header
from powertcp.errors import DecodeError
from powertcp.ledger import Page, page_hash
from powertcp.profile import PowerProfile
from powertcp.wire import Data, Splitter, decode_segment, encode_segment
from powertcp.wire.schema import Rejected
from powertcp.wire.values import build, parse
from tests.wire_values import (
    in_kind_order,
    page_from,
    page_values,
    profile_from,
    profile_values,
    segment_from,
    segment_values,
    vectors,
)

GOOD = vectors()
BAD = vectors(bad=True)
PUBLISHED = {
    "profile-request-12v": "4402002ee00005dc00000e1000001000",
    "profile-grant-12v": "5402002ee00003e800000e1000231000",
    "profile-request-230v": "44430382700 03e801388000000 00beef",
    "profile-offer-220kv-delta": "4e60035b600007d0 1388000000000000",
    "syn-dc-lamp": "504f0115010200000000000100000000000000000204400003124402002ee00005dc0000"
    "0e1000001000031264020013880001f400000000000010000610000003e8000f4240000003e80100070603e803000000",
}


def hand_decode(layout: str, octets: bytes) -> dict[str, Any] | None:
    """Decode by the hand-written codecs; None for a segment that is skipped."""
    if layout == "profile":
        return profile_values(PowerProfile.from_wire(octets))
    if layout == "block":
        counter, sync, pairs, n = block_header(octets)
        samples = [int.from_bytes(octets[at : at + 4], "big", signed=True)
                   for at in range(8, 8 + 8 * n * pairs, 4)]  # fmt: skip
        return {"counter": counter, "sync": sync, "pairs": pairs, "samples": samples}
    if layout == "receipt":
        return page_values(Page.from_wire(octets))
    splitter = Splitter()
    found = splitter.receive(octets)
    if splitter.error is not None:
        raise splitter.error
    (raw,) = found
    segment = decode_segment(raw)
    if isinstance(segment, Data):
        block_header(segment.payload)
    return segment_values(segment)


def hand_encode(layout: str, values: dict[str, Any]) -> bytes:
    match layout:
        case "profile":
            return profile_from(values).to_wire()
        case "receipt":
            return page_from(values).to_wire()
        case _:
            return encode_segment(segment_from(values))


@pytest.mark.requirement("PTCP-1-05", "PTCP-2.1-03", "PTCP-2.2-03", "PTCP-2.3-05", "PTCP-3.1-03")
def test_there_are_vectors_enough() -> None:
    assert len(GOOD) >= 60
    assert len(BAD) >= 60


@pytest.mark.requirement("PTCP-1-05", "PTCP-2.2-03")
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_octets_printed_in_the_protocol_are_these(name: str) -> None:
    octets = {row[0]: row[2] for row in GOOD}[name]
    assert octets.hex() == PUBLISHED[name].replace(" ", "")


@pytest.mark.requirement("PTCP-1-01", "PTCP-1-05", "PTCP-2.2-03", "PTCP-2.3-05", "PTCP-3.1-03")
@pytest.mark.parametrize(("name", "about", "octets"), GOOD, ids=[row[0] for row in GOOD])
def test_good_vector(name: str, about: dict[str, Any], octets: bytes) -> None:
    assert about["valid"], name
    layout, decoded = about["layout"], about["decoded"]
    assert parse(layout, octets) == decoded
    got = hand_decode(layout, octets)
    if "skipped" in decoded:
        assert got is None
        return
    if layout == "segment":
        decoded = in_kind_order(decoded)
    if not about.get("canonical", True):
        # CREDIT, DATA and the like check options and keep none
        assert got in (decoded, {**decoded, "options": []})
        return
    assert got == decoded
    assert build(layout, decoded) == octets
    if layout != "block":
        assert hand_encode(layout, decoded) == octets


@pytest.mark.requirement(
    "PTCP-2.1-03", "PTCP-2.1-04", "PTCP-2.2-01", "PTCP-2.2-02",
    "PTCP-2.3-01", "PTCP-2.3-02", "PTCP-2.3-03",
)  # fmt: skip
@pytest.mark.parametrize(("name", "about", "octets"), BAD, ids=[row[0] for row in BAD])
def test_bad_vector(name: str, about: dict[str, Any], octets: bytes) -> None:
    assert not about["valid"], name
    expected = about["reject"], about["value"]
    with pytest.raises(Rejected) as by_schema:
        parse(about["layout"], octets)
    assert (by_schema.value.code, by_schema.value.value) == expected
    with pytest.raises(DecodeError) as by_hand:
        hand_decode(about["layout"], octets)
    assert (by_hand.value.code, by_hand.value.value) == expected


RECEIPTS = {name: octets for name, about, octets in GOOD if about["layout"] == "receipt"}


@pytest.mark.requirement("LEDG-6-07", "LEDG-6-08")
@pytest.mark.parametrize("name", RECEIPTS)
def test_the_signatures_of_a_page_are_those_of_the_vector(name: str) -> None:
    page = Page.from_wire(RECEIPTS[name])
    assert page.is_signed_by_source() is not page.is_feed
    assert page.is_signed_by_sink() is (name != "receipt-as-sent")


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-08")
def test_pages_of_the_vectors_follow_one_another() -> None:
    names = ("receipt-page-0", "receipt-page-1", "receipt-final")
    octets = [RECEIPTS[name] for name in names]
    for before, after in pairwise(octets):
        assert Page.from_wire(after).previous == page_hash(before)
    assert page_hash(RECEIPTS["receipt-as-sent"]) == page_hash(octets[0])
