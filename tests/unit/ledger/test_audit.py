"""The first law, from books of nodes that meet: what is owed is held, what is in went out."""

from dataclasses import replace

import pytest

from powertcp.crypto import SigningKey
from powertcp.errors import LedgerBroken
from powertcp.ledger.audit import FirstLaw, audit
from powertcp.ledger.book import Code, Entry, Kind
from powertcp.ledger.memo import feed_memo
from powertcp.ledger.pairing import Fault, Held, PageState, Span
from powertcp.ledger.receipt import Flags, Side, countersign
from powertcp.wire.feeds import feed_id
from tests.books import SECOND, START_NS, Feed, Flow, Node, altered, transfer

KJ = 1_000_000_000
FEED = feed_id(Node("mains", 1).meter.public)
SHORT = f"feed {FEED.hex()[:4]}.."
FLOW = bytes([7]) * 32


@pytest.fixture
def mains() -> Node:
    return Node("mains", 1)


@pytest.fixture
def lamp() -> Node:
    return Node("lamp", 2)


def faults(law: FirstLaw) -> list[Fault]:
    return [finding.fault for finding in law.findings]


@pytest.mark.requirement("LEDG-8-01")
def test_a_page_that_both_hold_leaves_nothing_over(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    for energy in (1, 17, 0, 5 * KJ):
        flow.deliver(energy)
    law = audit([mains.shown(), lamp.shown()])
    giver, taker = law.nodes[1], law.nodes[0]
    assert (giver.name, giver.generated_uj, giver.delivered_uj) == (
        "mains",
        5 * KJ + 18,
        5 * KJ + 18,
    )
    assert (taker.taken_uj, taker.stored_uj, taker.residual_uj) == (5 * KJ + 18, 5 * KJ + 18, 0)
    assert (law.pairing.paired, law.pairing.flows, law.pairing.outside) == (4, 1, 0)
    assert (law.residual_uj, law.outside_in_uj, law.outside_out_uj, law.broken) == (0, 0, 0, 0)
    assert law.sentence() == "First law: obeyed to 0 uJ on 1 unicast flow."
    assert giver.meters == (mains.meter.public.hex(),)


def test_a_resumed_flow_is_one_flow(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    flow.deliver(10)
    flow.transcript, flow.flags = bytes([3]) * 32, Flags.RESUMED
    flow.deliver(10)
    law = audit([mains.shown(), lamp.shown()])
    assert (law.pairing.flows, law.pairing.paired) == (1, 2)


def test_energy_that_is_used_or_lost_leaves_the_store(mains: Node, lamp: Node) -> None:
    Flow(FLOW, mains, lamp).deliver(1000)
    lamp.post(
        transfer(FLOW, 0, "load:lamp", "store:lamp", 900, Code.LOAD),
        transfer(FLOW, 0, "heat:lamp", "store:lamp", 30, Code.LOSS),
    )
    node = audit([lamp.shown()]).nodes[0]
    assert (node.taken_uj, node.used_uj, node.heat_uj, node.stored_uj) == (1000, 900, 30, 70)
    assert node.residual_uj == 0


def test_a_book_alone_shows_what_came_from_outside(mains: Node, lamp: Node) -> None:
    Flow(FLOW, mains, lamp).deliver(1000)
    law = audit([lamp.shown()])
    assert (law.pairing.outside, law.pairing.outside_uj) == (1, 1000)
    assert (law.outside_in_uj, law.outside_out_uj, law.findings) == (1000, 0, ())
    assert audit([mains.shown()]).outside_out_uj == 1000


def test_energy_without_pages_is_told_apart(mains: Node) -> None:
    mains.post(transfer(FLOW, 0, "sink:10.0.0.9", "source:mains", 44, Code.UNSIGNED, memo=""))
    node = audit([mains.shown()]).nodes[0]
    assert (node.unsigned_uj, node.delivered_uj, node.residual_uj) == (44, 44, 0)


# ---- pages that do not pair ----


def test_a_page_on_its_way_is_listed_and_breaks_nothing(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    flow.deliver(10)
    flow.sign(flow.next_page(5))
    law = audit([mains.shown(), lamp.shown()])
    assert (law.pairing.open_pages, law.pairing.open_uj, law.broken) == (1, 5, 0)
    assert law.findings[0].sentence.endswith("signed on one side only of mains and lamp, 5 uJ")
    sent = Flow(bytes([8]) * 32, mains, lamp)
    sent.next_page(3)
    law = audit([mains.shown(), lamp.shown()])
    assert (faults(law), law.broken) == ([Fault.IN_FLIGHT] * 2, 0)
    assert law.findings[1].sentence.endswith("page 0, 3 uJ: held by mains, not by lamp")


@pytest.mark.requirement("LEDG-8-01")
def test_a_countersigned_page_that_the_sink_does_not_have_is_missing(
    mains: Node, lamp: Node
) -> None:
    flow = Flow(FLOW, mains, lamp)
    flow.deliver(10)
    flow.settle(countersign(flow.next_page(5), lamp.meter))
    law = audit([mains.shown(), lamp.shown()])
    assert faults(law) == [Fault.MISSING]
    assert "not shown on 1 unicast flow, 1 fault" in law.sentence()


def test_only_so_many_of_one_kind_are_listed_and_all_are_counted(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    flow.deliver(10)
    for _ in range(30):
        flow.settle(countersign(flow.next_page(1), lamp.meter))
    law = audit([mains.shown(), lamp.shown()])
    assert law.pairing.open_pages == 30
    assert len(law.findings) == 20
    assert law.broken == 21


def test_unlike_pages_of_two_books_name_both_energies(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    page = flow.deliver(10)
    lamp.hold(altered(page, end_uj=11), Side.SINK, PageState.COUNTERSIGNED)
    law = audit([mains.shown(), lamp.shown()])
    assert faults(law) == [Fault.DIFFERENT, Fault.UNPOSTED]
    assert "10 uJ and 11 uJ" in law.findings[0].sentence


@pytest.mark.parametrize("field", ["source_signature", "sink_signature"])
def test_a_forged_page_of_a_book_alone_is_found(mains: Node, lamp: Node, field: str) -> None:
    page = Flow(FLOW, mains, lamp).deliver(10)
    mains.hold(altered(page, **{field: bytes(64)}), Side.SOURCE, PageState.COUNTERSIGNED)
    assert faults(audit([mains.shown()])) == [Fault.FORGED]


def test_a_disputed_page_is_listed(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    page = flow.next_page(10)
    lamp.hold(page, Side.SINK, PageState.DISPUTED)
    assert faults(audit([mains.shown(), lamp.shown()])) == [Fault.DISPUTED]
    assert faults(audit([lamp.shown()])) == [Fault.DISPUTED]
    assert audit([lamp.shown()]).broken == 0


def test_a_page_that_cannot_be_read_or_lies_under_another_name(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    key = (FLOW, flow.deliver(10).page, int(Side.SOURCE), lamp.meter.public)
    held = mains.pages[key]
    mains.pages[key] = held._replace(octets=b"\x02" + held.octets[1:])
    law = audit([mains.shown()])
    assert faults(law) == [Fault.UNREADABLE, Fault.UNPOSTED]
    assert "field version" in law.findings[0].sentence
    mains.pages[key] = held._replace(page=3)
    assert faults(audit([mains.shown()])) == [Fault.MISFILED, Fault.UNPOSTED]


def test_a_book_and_its_copy_are_not_two_nodes(mains: Node, lamp: Node) -> None:
    Flow(FLOW, mains, lamp).deliver(10)
    copy = Node("copy", 1)
    copy.pages = mains.pages
    law = audit([mains.shown(), copy.shown(), lamp.shown()])
    assert Fault.TWICE in faults(law)
    assert any("books of one meter" in finding.sentence for finding in law.findings)


def test_energy_that_no_page_shows_or_no_entry(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    flow.deliver(10)
    lamp.post(transfer(FLOW, 9, "store:lamp", "from:mains", 5, Code.RECEIPT))
    law = audit([mains.shown(), lamp.shown()])
    assert faults(law) == [Fault.UNPOSTED]
    assert law.findings[0].sentence == "lamp: 15 uJ of flows are posted, its pages say 10 uJ"


@pytest.mark.requirement("LEDG-8-01")
def test_an_account_of_no_kind_leaves_a_residual(mains: Node) -> None:
    mains.post(transfer(FLOW, 0, "toaster:1", "source:mains", 44, Code.LOAD))
    mains.post(transfer(FLOW, 1, "equity:mine", "source:mains", 6, Code.LOAD))
    law = audit([mains.shown()])
    assert (law.nodes[0].residual_uj, law.residual_uj) == (50, 50)
    assert faults(law) == [Fault.UNCLASSED, Fault.UNCLASSED, Fault.RESIDUAL]
    assert law.sentence() == "First law: broken by 50 uJ in these books, 0 unicast flows."


def test_a_half_signed_page_with_a_wrong_signature_is_forged(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    page = flow.sign(flow.next_page(5))
    lamp.hold(altered(page, sink_signature=bytes(64)), Side.SINK, PageState.COUNTERSIGNED)
    assert faults(audit([mains.shown(), lamp.shown()])) == [Fault.FORGED]


def test_an_entry_without_its_account_is_a_broken_book(mains: Node) -> None:
    mains.entries.append(Entry(1, START_NS, 0, 1, bytes(16), 7, 8, 1, 0, 0, ""))
    with pytest.raises(LedgerBroken, match="mains: entry 1: no account has the number 7"):
        audit([mains.shown()])


# ---- feeds ----


@pytest.fixture
def feed(mains: Node) -> Feed:
    return Feed(3, mains)


def receivers(count: int) -> list[Node]:
    return [Node(f"lamp-{number}", 100 + number) for number in range(count)]


@pytest.mark.requirement("LEDG-8-02")
def test_a_feed_gives_more_than_it_took(mains: Node, feed: Feed) -> None:
    lamps = receivers(3)
    feed.emit(59_100_000_000)
    for lamp in lamps:
        feed.receive(lamp, 59_100_000_000)
    law = audit([mains.shown(), *(lamp.shown() for lamp in lamps)])
    (of_feed,) = law.feeds
    assert (of_feed.emitted_uj, of_feed.received_uj) == (59_100_000_000, 177_300_000_000)
    assert (of_feed.miracle_uj, of_feed.lost_uj, of_feed.chi_ppm) == (118_200_000_000, 0, 3_000_000)
    assert law.residual_uj == 0
    assert law.sentence() == (
        "First law: obeyed to 0 uJ on 0 unicast flows;"
        f" violated by 118.2 kJ (chi = 3.00) on {SHORT}, as specified in 2007."
    )
    assert (law.outside_in_uj, law.outside_out_uj) == (0, 0)
    assert law.given_uj == law.total("stored_uj") == 177_300_000_000
    assert law.broken == 0


def test_losses_lower_what_is_received(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.emit(1000)
    feed.receive(lamp, 900)
    law = audit([mains.shown(), lamp.shown()])
    (of_feed,) = law.feeds
    assert (of_feed.miracle_uj, of_feed.lost_uj, of_feed.chi_ppm) == (0, 100, 900_000)
    assert of_feed.closing() is None
    assert law.sentence().endswith(f"; obeyed (chi = 0.90) on {SHORT}.")


@pytest.mark.requirement("LEDG-8-02")
def test_copies_at_the_emitter_count_once(mains: Node, feed: Feed) -> None:
    lamps = receivers(2)
    feed.emit(100)
    for lamp in lamps:
        for _ in range(3):
            mains.hold(feed.receive(lamp, 30), Side.SOURCE, PageState.COUNTERSIGNED)
    both = audit([mains.shown(), *(lamp.shown() for lamp in lamps)])
    alone = audit([mains.shown()])
    for law in (both, alone):
        assert law.feeds[0].received_uj == 180
        assert law.feeds[0].miracle_uj == 80
        assert [receiver.pages for receiver in law.feeds[0].receivers.values()] == [3, 3]
    assert (both.outside_out_uj, both.outside_in_uj) == (0, 0)
    assert (alone.outside_out_uj, alone.outside_in_uj) == (180, 0)


@pytest.mark.requirement("LEDG-8-02")
def test_a_page_without_a_right_signature_does_not_count(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.emit(10)
    page = feed.receive(lamp, 10)
    mains.hold(altered(page, end_uj=10_000), Side.SOURCE, PageState.COUNTERSIGNED)
    law = audit([mains.shown(), lamp.shown()])
    assert (law.feeds[0].received_uj, faults(law)) == (10, [Fault.FORGED])
    assert faults(audit([mains.shown()])) == [Fault.FORGED]


@pytest.mark.requirement("PTCP-12-06", "LEDG-8-02")
def test_a_page_that_names_another_source_than_that_of_its_feed_does_not_count(
    mains: Node, lamp: Node, feed: Feed
) -> None:
    (honest,) = receivers(1)
    feed.emit(10)
    feed.receive(honest, 10)
    page = feed.page_of(lamp, 9)
    strange = countersign(altered(page, source_key=lamp.meter.public), lamp.meter)
    sent = Held(page.transcript, page.page, Side.SOURCE, PageState.COUNTERSIGNED, strange.to_wire())
    law = audit([mains.shown(), honest.shown()], evidence=[sent])
    assert (law.feeds[0].received_uj, len(law.feeds[0].receivers)) == (10, 1)
    assert (faults(law), law.broken) == ([Fault.STRANGE_SOURCE], 1)
    assert law.findings[0].sentence == (
        f"page files: feed {page.transcript.hex()[:16]} page 0 of receiver"
        f" {lamp.meter.public.hex()[:16]}: {lamp.meter.public.hex()[:16]} is not the source of feed"
        f" {FEED.hex()[:16]}, not counted, 9 uJ"
    )
    # in the book of a receiver: what it posted has no page
    feed.receive(lamp, 7)
    lamp.pages.clear()
    lamp.hold(
        countersign(altered(feed.page_of(lamp, 7), source_key=lamp.meter.public), lamp.meter),
        Side.SINK,
        PageState.COUNTERSIGNED,
    )
    law = audit([mains.shown(), honest.shown(), lamp.shown()])
    assert law.feeds[0].received_uj == 10
    assert faults(law) == [Fault.STRANGE_SOURCE, Fault.UNPOSTED]


def test_of_two_unlike_pages_the_lesser_counts(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.emit(10)
    page = feed.receive(lamp, 10)
    other = countersign(altered(page, end_uj=4), lamp.meter)
    mains.hold(other, Side.SOURCE, PageState.COUNTERSIGNED)
    law = audit([mains.shown(), lamp.shown()])
    assert law.feeds[0].received_uj == 4
    assert faults(law) == [Fault.EQUIVOCAL, Fault.UNPOSTED]


def test_pages_that_overlap_count_once_and_gaps_are_listed(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.emit(100)
    feed.receive(lamp, 10)
    feed.pages[lamp.name] = (1, 4)
    mains.hold(feed.page_of(lamp, 10), Side.SOURCE, PageState.COUNTERSIGNED)
    feed.pages[lamp.name] = (5, 40)
    mains.hold(feed.page_of(lamp, 10), Side.SOURCE, PageState.COUNTERSIGNED)
    law = audit([mains.shown(), lamp.shown()])
    (receiver,) = law.feeds[0].receivers.values()
    assert (receiver.energy_uj, receiver.pages, receiver.gaps) == (10 + 4 + 10, 3, 1)
    assert Fault.OVERLAP in faults(law)


def test_a_receiver_that_signs_more_than_was_emitted_is_named(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.emit(10)
    feed.receive(lamp, 11)
    law = audit([mains.shown(), lamp.shown()])
    assert (faults(law), law.broken) == ([Fault.ABOVE_EMISSION], 0)
    assert law.findings[0].sentence.endswith("signed 11 uJ of an epoch, 10 uJ were emitted")


def test_each_epoch_bounds_what_a_receiver_can_have(mains: Node) -> None:
    (lamp,) = receivers(1)
    first, second = (Feed(epoch, mains) for epoch in (1, 2))
    first.emit(100)
    second.emit(50)
    second.receive(lamp, 140)
    law = audit([mains.shown(), lamp.shown()])
    assert (faults(law), law.broken) == ([Fault.ABOVE_EMISSION], 0)
    assert law.findings[0].sentence.endswith("signed 140 uJ of an epoch, 50 uJ were emitted")
    # an epoch that its source never began
    Feed(3, mains).receive(lamp, 7)
    law = audit([mains.shown(), lamp.shown()])
    assert any("signed 7 uJ of an epoch, 0 uJ were" in it.sentence for it in law.findings)


@pytest.mark.requirement("LEDG-8-01")
def test_a_receiver_holds_what_it_sent_to_the_source(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.emit(1000)
    pages = [feed.receive(lamp, 5), *(feed.page_of(lamp, 7) for _ in range(25))]
    sent = [
        Held(it.transcript, it.page, Side.SOURCE, PageState.COUNTERSIGNED, it.to_wire())
        for it in pages
    ]
    law = audit([mains.shown(), lamp.shown()], evidence=sent)
    # 20 are named, the rest is counted
    assert faults(law) == [Fault.MISSING] * 20
    assert law.findings[0].sentence.endswith("page 1, 7 uJ: signed by lamp-0, not held by it")
    assert law.broken == 21
    until = Span(None, pages[1].end_ns)
    assert faults(audit([mains.shown(), lamp.shown()], until, sent)) == []
    # whose book is not here: that it signed is enough
    assert faults(audit([mains.shown()], evidence=sent)) == []


def test_a_ledger_beside_its_copy_is_no_second_emission(mains: Node, feed: Feed) -> None:
    feed.emit(10)
    law = audit([mains.shown(), replace(mains.shown(), name="copy")])
    assert (faults(law), law.broken) == ([Fault.TWICE], 1)
    assert law.findings[0].sentence.startswith("copy and mains are books of one meter ")


def test_the_end_of_an_epoch_alone_is_no_miracle(mains: Node, feed: Feed) -> None:
    feed.emit(100)
    mains.clock_ns += 10 * SECOND
    memo = feed_memo(FEED, feed.epoch, 1)
    mains.post(
        transfer(feed.transcript, 1, feed.supply, feed.account, 60, Code.CORRECTION, memo=memo)
    )
    (whole,) = audit([mains.shown()]).feeds
    assert whole.emitted_uj == 40
    law = audit([mains.shown()], Span(START_NS + 5 * SECOND, None))
    (of_feed,) = law.feeds
    assert (of_feed.emitted_uj, of_feed.miracle_uj, of_feed.chi_ppm) == (None, 0, None)
    assert (law.residual_uj, law.outside_out_uj, law.given_uj) == (0, -60, -60)
    assert "not known on feed" in law.sentence()


def test_evidence_that_is_of_no_feed_is_whole_all_the_same(
    mains: Node, lamp: Node, feed: Feed
) -> None:
    feed.emit(10)
    page = Flow(FLOW, mains, lamp).deliver(5)
    whole, sunk = page.to_wire(), feed.page_of(lamp, 9).to_wire()
    for octets, wanted in (
        (whole, []),
        (whole[:100] + b"x" + whole[101:], [Fault.FORGED]),
        (sunk, []),
        # the flag that says it is of a feed
        (sunk[:1] + b"\0" + sunk[2:], [Fault.FORGED]),
    ):
        held = Held(
            octets[4:36],
            int.from_bytes(octets[40:44], "big"),
            Side.SOURCE,
            PageState.COUNTERSIGNED,
            octets,
        )
        assert faults(audit([mains.shown()], evidence=[held])) == wanted


def test_without_the_emitters_book_nothing_is_said_to_be_violated(feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.receive(lamp, 11)
    law = audit([lamp.shown()])
    (of_feed,) = law.feeds
    assert (of_feed.emitted_uj, of_feed.miracle_uj, of_feed.lost_uj) == (None, 0, 0)
    assert of_feed.chi_ppm is None
    assert law.outside_in_uj == 11
    assert f"not known on {SHORT}, whose emission is in none of these books" in law.sentence()


def test_pages_of_a_feed_that_no_account_names(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    mains.hold(feed.page_of(lamp, 5), Side.SOURCE, PageState.COUNTERSIGNED)
    law = audit([mains.shown()])
    assert (faults(law), law.feeds) == ([Fault.UNKNOWN_FEED], ())


def test_epochs_of_one_feed_are_one_feed(mains: Node) -> None:
    (lamp,) = receivers(1)
    for epoch in (1, 2):
        feed = Feed(epoch, mains)
        feed.emit(10)
        feed.receive(lamp, 10)
    (of_feed,) = audit([mains.shown(), lamp.shown()]).feeds
    assert (of_feed.emitted_uj, of_feed.received_uj, of_feed.miracle_uj) == (20, 20, 0)


def test_the_miracle_is_posted_once(mains: Node, feed: Feed) -> None:
    lamps = receivers(2)
    feed.emit(10)
    for lamp in lamps:
        feed.receive(lamp, 9)
    books = [mains, *lamps]
    closing = audit([node.shown() for node in books]).feeds[0].closing()
    assert closing is not None
    assert (closing.amount, closing.credit) == (8, f"equity:first-law:{FEED.hex()}")
    mains.post(closing)
    law = audit([node.shown() for node in books])
    assert law.feeds[0].closing() is None
    assert (law.nodes[2].miracle_uj, law.nodes[2].residual_uj) == (8, 0)
    assert (law.feeds[0].emitted_uj, law.feeds[0].posted_uj, law.miracle_uj) == (10, 8, 8)
    assert (law.outside_in_uj, law.outside_out_uj) == (0, 0)


def test_a_correction_takes_back_an_emission_or_a_reception(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.emit(10)
    feed.receive(lamp, 6)
    code = Code.CORRECTION
    mains.post(transfer(FLOW, 0, "source:mains", feed.account, 3, code, memo="wrong"))
    lamp.post(transfer(FLOW, 0, feed.account, "store:lamp", 2, code, memo="wrong"))
    law = audit([mains.shown(), lamp.shown()])
    assert law.feeds[0].emitted_uj == 7
    assert [node.residual_uj for node in law.nodes] == [0, 0]
    assert law.nodes[0].taken_uj == 4


def test_a_feed_whose_emission_was_taken_back_has_no_ratio(mains: Node, feed: Feed) -> None:
    feed.emit(10)
    code = Code.CORRECTION
    mains.post(transfer(FLOW, 0, "source:mains", feed.account, 10, code, memo="wrong"))
    law = audit([mains.shown()])
    assert (law.feeds[0].emitted_uj, law.feeds[0].chi_ppm) == (0, None)
    assert law.sentence().endswith(f"; obeyed (chi = -) on {SHORT}.")


def test_names_of_a_forged_ledger_do_nothing_to_a_terminal(mains: Node) -> None:
    mains.post(transfer(FLOW, 0, "feed:kitchen", "source:mains", 5, Code.EMIT, memo=""))
    mains.post(transfer(FLOW, 1, "toaster:1", "source:mains", 6, Code.LOAD))
    book = mains.shown()
    accounts = {
        number: account._replace(name=account.name.replace("k", "\x1b").replace("toa", "\n"))
        for number, account in book.accounts.items()
    }
    law = audit([replace(book, accounts=accounts)])
    assert law.findings[0].sentence.startswith("mains: account \\x0aster:1 with 6 uJ")
    assert "on feed \\x1bitc.." in law.sentence()
    assert law.sentence().isprintable()
    assert law.feeds[0].closing() is None


def test_a_feed_whose_name_is_no_id_has_a_closing_of_its_own(mains: Node, feed: Feed) -> None:
    feed.emit(5)
    feed.receive(mains, 5)
    law = audit([mains.shown()]).feeds[0]
    first = replace(law, feed="kitchen", emitted_uj=3).closing()
    second = replace(law, emitted_uj=3).closing()
    assert first is not None
    assert second is not None
    assert (first.amount, first.credit) == (2, "equity:first-law:kitchen")
    assert first.key != second.key


# ---- units and time ----


@pytest.mark.requirement("LEDG-8-03")
def test_claims_and_wall_energy_are_units_of_their_own(mains: Node) -> None:
    mains.post(
        transfer(FLOW, 0, "claimed:thief", "claims", 540, Code.CLAIM, unit="uJ-claimed"),
        transfer(FLOW, 0, "wall:host", "grid", 77, Code.LOAD, unit="uJ-wall"),
        transfer(FLOW, 0, "sink:x", "source:mains", 7, Code.UNSIGNED),
    )
    law = audit([mains.shown()])
    assert [law.moved(unit) for unit in ("uJ", "uJ-wall", "uJ-claimed")] == [7, 77, 540]
    assert (law.total("generated_uj"), law.residual_uj) == (7, 0)


def test_a_span_counts_what_happened_in_it(mains: Node, lamp: Node) -> None:
    flow = Flow(FLOW, mains, lamp)
    for energy in (1, 10, 100):
        flow.deliver(energy)
    since = START_NS + 61 * SECOND
    law = audit([mains.shown(), lamp.shown()], Span(since, since + 60 * SECOND))
    assert (law.pairing.paired, law.pairing.paired_uj, law.total("generated_uj")) == (1, 10, 10)
    assert law.residual_uj == 0
    later = audit([mains.shown()], Span(START_NS + 999 * SECOND))
    assert (later.pairing.flows, later.total("generated_uj")) == (0, 0)


def test_a_span_does_not_make_a_gap_of_a_feed(mains: Node, feed: Feed) -> None:
    (lamp,) = receivers(1)
    feed.emit(10)
    feed.receive(lamp, 4)
    feed.receive(lamp, 5)
    law = audit([mains.shown(), lamp.shown()], Span(START_NS + 2 * SECOND))
    (receiver,) = law.feeds[0].receivers.values()
    assert (receiver.energy_uj, receiver.gaps) == (5, 0)


def test_reserved_energy_is_not_moved(mains: Node) -> None:
    row = transfer(FLOW, 0, "sink:x", "source:mains", 7, Code.RESERVE)
    mains.post(replace(row, kind=Kind.PENDING))
    assert audit([mains.shown()]).total("delivered_uj") == 0


def test_the_order_of_books_does_not_matter(mains: Node, lamp: Node, feed: Feed) -> None:
    Flow(FLOW, mains, lamp).deliver(5)
    feed.emit(5)
    feed.receive(lamp, 5)
    forth = audit([mains.shown(), lamp.shown()])
    back = audit([lamp.shown(backwards=True), mains.shown(backwards=True)])
    assert forth == back


def test_what_is_lost_of_all_feeds_is_summed(mains: Node, feed: Feed) -> None:
    feed.emit(10)
    Feed(1, mains, meter=SigningKey(bytes(32))).emit(5)
    assert audit([mains.shown()]).lost_uj == 15
