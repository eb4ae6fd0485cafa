"""What one end knows of its receipts, page by page."""

from hashlib import blake2s

import pytest

from powertcp.potcp.pages import (
    FINAL_BIT,
    NO_DIGEST,
    PAGE_OCTETS,
    RESUMED_BIT,
    SIGNED_OCTETS,
    SIM_BIT,
    Claim,
    Pages,
)
from powertcp.wire.options import Meter
from tests.metered import DAY, NIGHT, SINK_KEY, SOURCE_KEY, Books

METER = Meter(60, 0, SOURCE_KEY.public)
TRANSCRIPT = bytes(range(32))
BLOCKS = [bytes([number]) * 24 for number in range(3)]


def pages() -> Pages:
    return Pages(METER, SINK_KEY.public, TRANSCRIPT, 1, DAY)


def sent(one: Pages, end_uj: int, *, final: bool = False) -> bytes:
    """Have a page signed and put it under way."""
    octets = Books().sign(one.facts(1, end_uj, 7, final=final))
    one.open, one.open_end_uj, one.is_open_final = octets, end_uj, final
    one.begin(end_uj, 3, NIGHT)
    return octets


@pytest.mark.requirement("LEDG-6-01", "LEDG-6-08")
def test_the_digest_is_of_every_block_in_order() -> None:
    one = pages()
    assert not one.has_news(0)
    assert one.has_news(1)
    expected = NO_DIGEST
    for block in BLOCKS:
        one.note(block, 2, 1)
        expected = blake2s(expected + block).digest()
    facts = one.facts(5, 9, 7)
    assert (facts.flow, facts.samples, facts.digest) == (5, 6, expected)
    assert (facts.start_uj, facts.end_uj, facts.at_ns, facts.sim) == (0, 9, 7, False)
    one.note(memoryview(BLOCKS[0]), 1, SIM_BIT | 1)
    one.note(BLOCKS[1], 1, 1)
    assert one.facts(5, 9, 7).sim
    assert one.has_news(0)


@pytest.mark.requirement("LEDG-6-01")
def test_a_page_follows_the_one_that_both_have_signed() -> None:
    one = pages()
    one.note(BLOCKS[0], 2, 0)
    copy = sent(one, 100)[:SIGNED_OCTETS] + bytes(64)
    assert (one.number, one.start_uj, one.signed_uj, one.samples) == (0, 100, 0, 0)
    assert (one.contract, one.tariff) == (3, NIGHT)
    assert one.is_owed
    one.close(copy)
    assert (one.number, one.signed_uj, one.open, one.is_done) == (1, 100, b"", False)
    facts = one.facts(1, 120, 8)
    assert (facts.page, facts.start_uj, facts.previous) == (1, 100, copy)
    sent(one, 120, final=True)
    one.close(copy)
    assert one.is_done
    assert not one.is_owed


@pytest.mark.requirement("LEDG-6-12")
def test_a_page_that_is_taken_back_leaves_its_number_and_its_terms() -> None:
    one = pages()
    one.note(BLOCKS[0], 2, SIM_BIT)
    sent(one, 100)
    one.withdraw()
    facts = one.facts(1, 60, 8)
    assert (facts.page, facts.start_uj, facts.contract, facts.tariff) == (0, 0, 1, DAY)
    assert facts.sim
    assert one.is_due


@pytest.mark.requirement("LEDG-6-02")
def test_pages_that_wait_are_looked_at_one_by_one() -> None:
    one = pages()
    assert one.look() is None
    first, second = one.facts(1, 10, 1), one.facts(1, 20, 2, final=True)
    one.waiting = ((b"first", first), (b"second", second))
    assert one.look() == (b"first", first)
    assert one.look() is None
    one.close(b"copy")
    found = one.look()
    assert found is not None
    assert (found[0], found[1].page, found[1].previous) == (b"second", 1, b"copy")
    assert one.is_open_final


@pytest.mark.requirement("LEDG-6-12")
@pytest.mark.parametrize("is_open", [False, True])
def test_the_receipts_of_a_lost_path_go_on(is_open: bool) -> None:
    one = pages()
    one.note(BLOCKS[0], 2, SIM_BIT)
    octets = sent(one, 100, final=True)
    if not is_open:
        one.close(octets)
    one.note(BLOCKS[1], 2, SIM_BIT)
    two = Pages.of(one.mark(), METER)
    assert (two.number, two.start_uj, two.signed_uj) == (1 - is_open, 100, 100 * (not is_open))
    assert (two.open, two.copy) == ((octets, b"") if is_open else (b"", octets))
    assert two.is_open_final is is_open
    assert (two.samples, two.resumed, two.sim, two.is_fresh) == (0, True, True, True)
    two.begin(100, 3, NIGHT)
    assert two.resumed
    two.note(BLOCKS[2], 2, 0)
    two.begin(120, 3, NIGHT)
    assert not two.resumed


@pytest.mark.requirement("LEDG-6-12")
def test_a_page_of_the_lost_path_says_itself_what_it_counted() -> None:
    one = pages()
    one.note(BLOCKS[0], 2, 0)
    one.resumed = True
    octets = sent(one, 100, final=True)
    claim = Claim.of(octets)
    assert len(octets) == PAGE_OCTETS
    assert claim.flags == FINAL_BIT | RESUMED_BIT
    assert (claim.transcript, claim.contract, claim.page) == (TRANSCRIPT, 1, 0)
    assert (claim.samples, claim.start_uj, claim.end_uj) == (2, 0, 100)
    two = Pages.of(pages().mark(), METER)
    two.contract, two.tariff = 3, NIGHT
    two.recall(claim)
    facts = two.facts(1, 100, 8)
    assert (facts.samples, facts.digest, facts.resumed) == (2, claim.digest, True)
    assert (facts.contract, facts.tariff) == (1, DAY)
