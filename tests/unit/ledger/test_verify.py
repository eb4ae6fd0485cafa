"""Receipts verified from their pages alone: what is proven, what is stated, what is named as wrong."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powertcp.crypto import SigningKey
from powertcp.ledger import (
    NO_HASH,
    NO_SIGNATURE,
    PAGE_OCTETS,
    Clock,
    Flags,
    Page,
    Verdict,
    cost_micro,
    countersign,
    page_hash,
    sign_as_source,
    verify_pages,
)
from powertcp.wire.feeds import feed_transcript

SOURCE = SigningKey(bytes(range(32)))
SINK = SigningKey(bytes(range(32, 64)))
OTHER = SigningKey(bytes(32))
START_NS = 1_800_000_000_000_000_000
MINUTE_NS = 60_000_000_000
PAGE_UJ = 1_080_000_007
PRICE_MICRO = 312_000
TARIFF = bytes([9]) * 32


def both(page: Page) -> Page:
    return countersign(sign_as_source(page, SOURCE), SINK)


def flow(count: int, name: int = 1) -> list[Page]:
    """Return a whole flow of pages without anything to state."""
    pages: list[Page] = []
    for number in range(count):
        start_uj, end_uj = number * PAGE_UJ, (number + 1) * PAGE_UJ
        page = Page(
            flags=Flags.FINAL if number == count - 1 else Flags(0),
            clock=Clock.SYNCHRONISED,
            transcript=bytes([name]) * 32,
            contract=1,
            page=number,
            samples=60_000,
            start_uj=start_uj,
            end_uj=end_uj,
            start_ns=START_NS + number * MINUTE_NS,
            end_ns=START_NS + (number + 1) * MINUTE_NS,
            cost_micro=cost_micro(PRICE_MICRO, 0, start_uj, end_uj),
            tariff=TARIFF,
            previous=page_hash(pages[-1].to_wire()) if pages else NO_HASH,
            source_key=SOURCE.public,
            sink_key=SINK.public,
        )
        pages.append(both(page))
    return pages


THREE = flow(3)
THOUSAND = b"".join(page.to_wire() for page in flow(1000))


def octets_of(pages: Sequence[Page]) -> bytes:
    return b"".join(page.to_wire() for page in pages)


def verdicts(*files: bytes) -> list[str]:
    """Return verdict, place and reason of each flow, in short."""
    found = verify_pages((f"f{number}", octets) for number, octets in enumerate(files))
    return [
        f"{it.verdict} {it.pages}"
        + (f" {it.file}:{it.offset} page {it.page}: {it.reason}" if it.reason else "")
        + "".join(f"; {warning}" for warning in it.warnings)
        for it in found
    ]


def relinked(pages: Sequence[Page]) -> list[Page]:
    """Sign pages again, each with the digest of the one before: what dishonest ends could do."""
    found: list[Page] = []
    for page in pages:
        previous = page_hash(found[-1].to_wire()) if found else page.previous
        found.append(both(replace(page, previous=previous)))
    return found


@pytest.mark.requirement("LEDG-6-06")
def test_a_thousand_pages_are_verified_from_their_octets_alone() -> None:
    (found,) = verify_pages([("pages.ptr", THOUSAND)])
    assert (found.verdict, found.pages, found.warnings) == (Verdict.VALID, 1000, ())
    assert found.energy_uj == 1000 * PAGE_UJ
    assert found.cost_micro == cost_micro(PRICE_MICRO, 0, 0, 1000 * PAGE_UJ)
    assert found.transcript == bytes([1]) * 32
    assert str(found).startswith("VALID  flow 0101010101010101  1,000 pages  1,080 kJ  cost 93,6")


@pytest.mark.requirement("LEDG-6-06")
@pytest.mark.parametrize("seed", range(4))
def test_one_flipped_bit_among_a_thousand_pages_names_its_page(seed: int) -> None:
    bit = random.Random(seed).randrange(8 * len(THOUSAND))
    octets = bytearray(THOUSAND)
    octets[bit // 8] ^= 1 << bit % 8
    first = bit // 8 // PAGE_OCTETS * PAGE_OCTETS
    found = verify_pages([("pages.ptr", bytes(octets))])
    assert all(it.verdict is Verdict.INVALID for it in found)
    assert any(first <= it.offset < first + PAGE_OCTETS and it.reason for it in found)


@pytest.mark.requirement("LEDG-6-06")
def test_each_bit_of_a_page_counts() -> None:
    octets = bytearray(THREE[1].to_wire())
    for bit in range(8 * PAGE_OCTETS):
        octets[bit // 8] ^= 1 << bit % 8
        (found,) = verify_pages([("pages.ptr", bytes(octets))])
        octets[bit // 8] ^= 1 << bit % 8
        assert (found.verdict, found.pages) == (Verdict.INVALID, 0), bit
    assert verdicts(bytes(octets)) == [
        "VALID WITH WARNING 1; pages before 1 are not here; the last page is not final"
    ]


@given(st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(dice: random.Random) -> None:
    pages = [page.to_wire() for page in [*THREE, *flow(2, name=2), *THREE]]
    dice.shuffle(pages)
    cut = dice.randrange(len(pages))
    files = b"".join(pages[:cut]), b"".join(pages[cut:])
    assert sorted(verdicts(*files)) == ["VALID 2", "VALID 3"]


@pytest.mark.requirement("LEDG-6-06")
def test_the_page_as_its_source_sent_it_may_stand_beside_the_signed_one() -> None:
    sent = replace(THREE[1], sink_signature=NO_SIGNATURE)
    assert verdicts(sent.to_wire(), octets_of(THREE)) == ["VALID 3"]
    assert verdicts(octets_of([THREE[0], sent, THREE[2]])) == [
        "INVALID 1 f0:696 page 1: the signature of the sink is missing or not valid"
    ]


@pytest.mark.requirement("LEDG-6-06")
def test_a_copy_with_a_wrong_signature_is_named_beside_the_right_one() -> None:
    wrong = replace(THREE[1], sink_signature=bytes([1]) * 64)
    (said,) = verdicts(octets_of(THREE), wrong.to_wire())
    assert said.startswith("INVALID 1 f1:316 page 1: the signature of the sink")


@pytest.mark.requirement("LEDG-6-06")
def test_two_pages_of_one_number_are_named() -> None:
    other = both(replace(THREE[1], samples=1))
    (said,) = verdicts(octets_of(THREE), other.to_wire())
    assert said == "INVALID 1 f1:0 page 1: there is another page of that number"


@pytest.mark.requirement("LEDG-6-06")
@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([THREE[0], THREE[2]], "f0:420 page 2: page 1 is missing"),
        (
            relinked([replace(THREE[0], flags=Flags.FINAL), *THREE[1:]]),
            "f0:381 page 1: it follows page 0, which is final",
        ),
        (
            [THREE[0], both(replace(THREE[1], previous=bytes([1]) * 32))],
            "f0:504 page 1: it does not hold the digest of the page before it",
        ),
        (
            relinked([THREE[0], replace(THREE[1], start_uj=PAGE_UJ - 1)]),
            f"f0:432 page 1: it starts at {PAGE_UJ - 1:,} uJ, the page before ends at {PAGE_UJ:,} uJ",
        ),
        (
            relinked([THREE[0], replace(THREE[1], start_ns=5)]),
            f"f0:448 page 1: it starts at 5 ns, the page before ends at {START_NS + MINUTE_NS:,} ns",
        ),
        (
            [THREE[0], countersign(sign_as_source(THREE[1], OTHER), SINK)],
            "f0:568 page 1: it names another meter as its source",
        ),
        (
            [
                THREE[0],
                countersign(
                    sign_as_source(replace(THREE[1], sink_key=OTHER.public), SOURCE), OTHER
                ),
            ],
            "f0:600 page 1: it names another meter as its sink",
        ),
    ],
)
def test_a_page_that_does_not_follow_is_named(pages: list[Page], expected: str) -> None:
    (said,) = verdicts(octets_of(pages))
    assert said == f"INVALID 1 {expected}"


@pytest.mark.requirement("LEDG-6-06")
def test_a_first_page_that_does_not_start_at_nothing() -> None:
    page = both(replace(THREE[0], start_uj=1, flags=Flags.FINAL))
    assert verdicts(page.to_wire()) == [
        "INVALID 0 f0:52 page 0: the first page starts at 1 uJ, not at 0 uJ"
    ]


@pytest.mark.requirement("LEDG-6-06")
def test_octets_that_are_no_page_are_named() -> None:
    whole = octets_of(THREE)
    assert verdicts(whole + whole[:100]) == [
        "INVALID 0 f0:1140 page 0: it has 100 of 380 octets",
    ]
    assert verdicts(whole[: 2 * PAGE_OCTETS] + whole[2 * PAGE_OCTETS : -1]) == [
        "INVALID 2 f0:760 page 2: it has 379 of 380 octets",
    ]
    octets = bytearray(whole)
    octets[PAGE_OCTETS + 2] = 7
    assert verdicts(bytes(octets)) == [
        "INVALID 1 f0:382 page 1: clock is 7, which no page can hold",
    ]
    assert verdicts(b"", b"x") == ["INVALID 0 f1:0 page 0: it has 1 of 380 octets"]
    assert verdicts() == []


@pytest.mark.requirement("LEDG-6-06")
@given(st.data())
def test_nothing_that_a_stranger_writes_is_valid_and_nothing_raises(data: st.DataObject) -> None:
    octets = bytearray(octets_of(THREE))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    found = verify_pages([("f", bytes(octets)), ("g", data.draw(st.binary(max_size=800)))])
    whole = {bytes(page.to_wire()) for page in THREE}
    parts = {bytes(octets[at : at + PAGE_OCTETS]) for at in range(0, len(octets), PAGE_OCTETS)}
    if parts == whole:
        return
    assert any(it.verdict is Verdict.INVALID for it in found) or parts < whole
    assert all(str(it) for it in found)


@pytest.mark.requirement("LEDG-6-06")
def test_what_is_wrong_with_a_page_alone_is_said_before_what_follows_from_it() -> None:
    page = replace(THREE[1], page=7)
    said = verdicts(octets_of([THREE[0], page, THREE[2]]))
    assert said == ["INVALID 1 f0:632 page 7: the signature of the source is not valid"]


@pytest.mark.requirement("LEDG-6-06")
@pytest.mark.parametrize(
    ("page", "warning"),
    [
        (replace(THREE[0], clock=Clock.UNSYNCHRONISED), "clock not synchronised: page 0"),
        (replace(THREE[0], clock=Clock.RELATIVE), "clock relative: page 0"),
        (replace(THREE[0], clock=Clock.INFORMATIVE), ""),
        (replace(THREE[0], end_ns=START_NS - 1), "clock went backwards: page 0"),
        (replace(THREE[0], flags=Flags.SIMULATED), "samples simulated: page 0"),
        (replace(THREE[0], flags=Flags.TRUNCATED), "ended by a trip: page 0"),
        (replace(THREE[0], flags=Flags.RESUMED), ""),
        (replace(THREE[0], tariff=NO_HASH), "cost without a tariff document: page 0"),
        (replace(THREE[0], tariff=NO_HASH, cost_micro=0), ""),
    ],
)
def test_what_is_stated_is_not_punished(page: Page, warning: str) -> None:
    final = both(replace(page, flags=page.flags | Flags.FINAL))
    expected = f"VALID WITH WARNING 1; {warning}" if warning else "VALID 1"
    assert verdicts(final.to_wire()) == [expected]
    assert verdicts(both(page).to_wire()) == [
        f"VALID WITH WARNING 1{'; ' if warning else ''}{warning}; the last page is not final"
    ]


@pytest.mark.requirement("LEDG-6-06")
def test_a_clock_that_went_backwards_verifies_with_a_warning() -> None:
    pages = [*THREE]
    pages[1] = replace(pages[1], end_ns=START_NS - MINUTE_NS)
    pages[2] = replace(pages[2], start_ns=START_NS - MINUTE_NS, end_ns=START_NS)
    assert verdicts(octets_of(relinked(pages))) == [
        "VALID WITH WARNING 3; clock went backwards: page 1"
    ]


@pytest.mark.requirement("LEDG-6-06")
def test_a_part_of_a_flow_says_what_is_not_there() -> None:
    pages = flow(8)
    assert verdicts(octets_of(pages[2:6])) == [
        "VALID WITH WARNING 4; pages before 2 are not here; the last page is not final"
    ]
    clocks = [
        replace(page, clock=Clock.RELATIVE if page.page in (1, 2, 5) else page.clock)
        for page in pages
    ]
    assert verdicts(octets_of(relinked(clocks))) == [
        "VALID WITH WARNING 8; clock relative: 3 pages from 1 to 5"
    ]
    assert (
        verdicts(octets_of(relinked(clocks[:3])))[0].split("; ")[1] == "clock relative: pages 1-2"
    )


@pytest.mark.requirement("LEDG-6-05", "LEDG-6-06")
def test_each_receiver_of_a_feed_has_a_flow_of_its_own() -> None:
    page = replace(
        THREE[0],
        flags=Flags.FEED | Flags.FINAL,
        transcript=feed_transcript(bytes(16), 9),
        source_signature=NO_SIGNATURE,
    )
    ours = countersign(page, SINK)
    theirs = countersign(replace(page, sink_key=OTHER.public), OTHER)
    assert verdicts(octets_of([ours, theirs])) == ["VALID 1", "VALID 1"]
    forged = replace(ours, sink_key=OTHER.public)
    assert verdicts(forged.to_wire()) == [
        "INVALID 0 f0:316 page 0: the signature of the sink is missing or not valid"
    ]


@pytest.mark.requirement("LEDG-6-06")
def test_who_left_a_feed_may_hear_its_epoch_again() -> None:
    left = countersign(
        replace(
            THREE[0],
            flags=Flags.FEED | Flags.FINAL,
            transcript=feed_transcript(bytes(16), 9),
            source_signature=NO_SIGNATURE,
        ),
        SINK,
    )
    for flags, said in (
        (Flags.RESUMED, "VALID 2"),
        (Flags(0), "INVALID 1 f0:381 page 1: it follows page 0, which is final"),
    ):
        again = replace(
            left,
            flags=Flags.FEED | Flags.FINAL | flags,
            page=1,
            start_uj=left.end_uj,
            end_uj=left.end_uj + 5,
            start_ns=left.end_ns,
            end_ns=left.end_ns + MINUTE_NS,
            previous=page_hash(left.to_wire()),
        )
        assert verdicts(octets_of([left, countersign(again, SINK)])) == [said]


def test_a_verdict_reads_as_one_line() -> None:
    (found,) = verify_pages([("a.ptr", octets_of([THREE[0], THREE[2]]))])
    assert str(found) == (
        "INVALID  flow 0101010101010101  1 page  1,080 J  cost 94 micro-units"
        "  a.ptr, octet 420: page 2: page 1 is missing"
    )
