"""Pages of receipts: 380 octets, two signatures, and what no page can hold."""

from dataclasses import replace
from hashlib import blake2s

import pytest

from powertcp.crypto import SigningKey, is_signed_by
from powertcp.errors import DecodeError, LocalProtocolError
from powertcp.ledger import (
    NO_HASH,
    NO_SIGNATURE,
    PAGE_OCTETS,
    Clock,
    Flags,
    Page,
    countersign,
    next_digest,
    page_hash,
    sign_as_source,
)
from powertcp.ledger.receipt import INVALID
from powertcp.registry import Reason
from powertcp.wire.feeds import feed_transcript

SOURCE = SigningKey(bytes(range(32)))
SINK = SigningKey(bytes(range(32, 64)))
PAGE = Page(
    flags=Flags.SIMULATED,
    clock=Clock.SYNCHRONISED,
    transcript=bytes([1]) * 32,
    contract=1,
    page=0,
    samples=60_000,
    start_uj=0,
    end_uj=1_080_000_000,
    start_ns=1_800_000_000_000_000_000,
    end_ns=1_800_000_060_000_000_000,
    source_key=SOURCE.public,
    sink_key=SINK.public,
)


@pytest.mark.requirement("LEDG-6-07")
def test_a_page_has_380_octets_and_comes_back_as_it_was() -> None:
    page = countersign(sign_as_source(PAGE, SOURCE), SINK)
    octets = page.to_wire()
    assert len(octets) == PAGE_OCTETS
    assert Page.from_wire(octets) == page
    assert page.energy_uj == 1_080_000_000
    assert page.is_signed_by_source()
    assert page.is_signed_by_sink()


@pytest.mark.requirement("LEDG-6-08")
def test_the_signatures_cover_what_the_specification_says() -> None:
    page = countersign(sign_as_source(PAGE, SOURCE), SINK)
    octets = page.to_wire()
    source = b"powertcp receipt source " + octets[:252]
    assert is_signed_by(SOURCE.public, source, octets[252:316])
    assert is_signed_by(SINK.public, b"powertcp receipt sink " + octets[:316], octets[316:])


def test_signing_again_as_source_drops_the_other_signature() -> None:
    page = countersign(sign_as_source(PAGE, SOURCE), SINK)
    again = sign_as_source(replace(page, samples=1), SOURCE)
    assert again.sink_signature == NO_SIGNATURE
    assert not again.is_signed_by_sink()


def test_a_stranger_cannot_countersign() -> None:
    with pytest.raises(LocalProtocolError, match="names another meter"):
        countersign(sign_as_source(PAGE, SOURCE), SOURCE)


@pytest.mark.requirement("LEDG-6-05")
def test_a_feed_page_is_signed_by_its_receiver_only() -> None:
    page = replace(PAGE, flags=Flags.FEED, transcript=feed_transcript(bytes(16), 9))
    with pytest.raises(LocalProtocolError, match="receiver only"):
        sign_as_source(page, SOURCE)
    signed = countersign(page, SINK)
    assert Page.from_wire(signed.to_wire()) == signed
    assert (signed.is_signed_by_source(), signed.is_signed_by_sink()) == (False, True)
    wrong = replace(signed, source_signature=bytes([1]) * 64)
    with pytest.raises(DecodeError) as caught:
        Page.from_wire(wrong.to_wire())
    assert (caught.value.field, caught.value.offset) == ("source_signature", 252)


@pytest.mark.requirement("LEDG-6-08")
def test_the_hash_of_a_page_is_the_same_before_and_after_it_came_back() -> None:
    sent = sign_as_source(PAGE, SOURCE)
    back = countersign(sent, SINK)
    assert page_hash(sent.to_wire()) == page_hash(back.to_wire())
    assert page_hash(sent.to_wire()) == blake2s(sent.to_wire()).digest()
    with pytest.raises(LocalProtocolError, match="379 octets"):
        page_hash(bytes(379))


@pytest.mark.requirement("LEDG-6-08")
def test_the_waveform_digest_chains_the_blocks() -> None:
    first = next_digest(NO_HASH, b"block 1")
    assert first == blake2s(bytes(32) + b"block 1").digest()
    assert next_digest(first, memoryview(b"block 2")) == blake2s(first + b"block 2").digest()


@pytest.mark.requirement("LEDG-6-07")
@pytest.mark.parametrize("octets", [0, 379, 381])
def test_only_380_octets_are_a_page(octets: int) -> None:
    with pytest.raises(DecodeError) as caught:
        Page.from_wire(bytes(octets))
    assert (caught.value.code, caught.value.value, caught.value.limit) == (502, octets, 380)


@pytest.mark.requirement("LEDG-6-07")
@pytest.mark.parametrize(
    ("offset", "octet", "field", "at"),
    [
        (0, 0, "version", 0),
        (0, 2, "version", 0),
        (1, 32, "flags", 1),
        (1, 128, "flags", 1),
        (2, 0, "clock", 2),
        (2, ord("s"), "clock", 2),
        (3, 1, "zero", 3),
        (52, 1, "end_uj", 60),
        (155, 1, "previous", 124),
    ],
)
def test_what_no_page_can_hold_is_named_with_its_offset(
    offset: int, octet: int, field: str, at: int
) -> None:
    octets = bytearray(PAGE.to_wire())
    octets[offset] = octet
    with pytest.raises(DecodeError) as caught:
        Page.from_wire(octets)
    assert (caught.value.code, caught.value.field, caught.value.offset) == (403, field, at)


def test_the_code_is_the_registered_one() -> None:
    assert Reason(INVALID) is Reason.RECEIPT_INVALID


@pytest.mark.parametrize(
    "page",
    [
        replace(PAGE, transcript=bytes(31)),
        replace(PAGE, sink_signature=bytes(63)),
        replace(PAGE, samples=1 << 64),
        replace(PAGE, page=-1),
        replace(PAGE, cost_micro=1 << 63),
    ],
)
def test_a_value_that_does_not_fit_is_a_bug_of_ours(page: Page) -> None:
    with pytest.raises(LocalProtocolError):
        page.to_wire()
