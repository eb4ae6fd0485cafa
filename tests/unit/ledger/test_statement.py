"""Statements: pages that both sides signed, once each, the same octets for whoever has them."""

import csv
import json
from hashlib import blake2s
from random import Random

import pytest

from powertcp.ledger.pairing import ALL_TIME, Span
from powertcp.ledger.receipt import Clock, Flags, Page, Side, countersign, sign_as_source
from powertcp.ledger.statement import (
    COLUMNS,
    Document,
    Given,
    Line,
    Note,
    Statement,
    csv_line,
    end_fields,
    in_order,
    joules,
    json_line,
    line_fields,
    money,
    text,
    utc,
)
from tests.books import SECOND, START_NS, Feed, Flow, Node, altered

FLOW = bytes([7]) * 32
KWH = 3_600_000_000_000
TARIFF = blake2s(b"{}").digest()
CURRENCIES = {TARIFF: Document(text='{"currency": "EUR",\n "price_micro": 312000}', currency="EUR")}


@pytest.fixture
def mains() -> Node:
    return Node("mains", 1)


@pytest.fixture
def lamp() -> Node:
    return Node("lamp", 2)


@pytest.fixture
def flow(mains: Node, lamp: Node) -> Flow:
    return Flow(FLOW, mains, lamp, price_micro=312_000, tariff=TARIFF)


def given(*pages: Page, side: Side = Side.SINK) -> list[Given]:
    return [Given(side, page.to_wire()) for page in pages]


def stated(pages: list[Given], span: Span = ALL_TIME) -> tuple[Statement, list[Line]]:
    statement = Statement("lamp", span, CURRENCIES)
    return statement, list(statement.lines(pages))


def forms(pages: list[Given], span: Span = ALL_TIME) -> tuple[str, str, str]:
    """Return a statement as text, JSON and CSV."""
    statement, lines = stated(pages, span)
    records = [line_fields(line) for line in lines] + end_fields(statement, "5 3f2a")
    as_json = "".join(json_line(record) for record in records)
    return text(statement, "5 3f2a"), as_json, "".join(csv_line(record) for record in records)


def test_pages_energy_cost_and_what_commits_to_them(flow: Flow) -> None:
    pages = [flow.deliver(KWH // 2), flow.deliver(KWH), flow.deliver(0)]
    statement, lines = stated(given(*pages))
    assert [line.page for line in lines] == pages
    (total,) = statement.totals()
    assert (total.side, total.currency, total.pages) == (Side.SINK, "EUR", 3)
    assert (total.energy_uj, total.cost_micro) == (KWH * 3 // 2, 468_000)
    octets = b"".join(page.to_wire() for page in pages)
    assert statement.digest == blake2s(octets).hexdigest()
    assert (statement.notes, statement.faults) == ([], 0)


def test_the_text_of_a_statement(flow: Flow) -> None:
    flow.flags = Flags.SIMULATED
    shown = forms(given(flow.deliver(1_204_331_000), flow.deliver(9)))[0].splitlines()
    assert shown[0] == "Statement for lamp, all pages"
    assert shown[2] == "received by this party"
    assert shown[4].split() == [
        "07070707", "2", "2026-09-21T14:13:20Z", "2026-09-21T14:15:20Z", "1,204.331009", "J",
        TARIFF.hex()[:6], "(simulated)",
    ]  # fmt: skip
    assert shown[5] == "total 2 pages: 1,204.331009 J, 0.000104 EUR"
    assert shown[7] == f'tariff {TARIFF.hex()}: {{"currency": "EUR", "price_micro": 312000}}'
    assert shown[8].startswith("pages ")
    assert shown[9] == "head 5 3f2a"
    assert all(len(line) <= 100 for line in shown[:7])


@pytest.mark.requirement("LEDG-8-03")
def test_two_auditors_get_the_same_octets(mains: Node, lamp: Node, flow: Flow) -> None:
    other = Flow(bytes([9]) * 32, mains, lamp, price_micro=-5_000)
    pages = [flow.deliver(energy) for energy in (3, 5, KWH)]
    pages += [other.deliver(energy) for energy in (KWH, 2)]
    sent = [altered(page, sink_signature=bytes(64)) for page in pages]
    wanted = forms(in_order(given(*pages)))
    random = Random(3)
    for _ in range(20):
        mixed = given(*pages, *random.choices(pages, k=4), *random.choices(sent, k=4))
        random.shuffle(mixed)
        assert forms(in_order(mixed)) == wanted


def test_a_period_takes_the_pages_that_ended_in_it(flow: Flow) -> None:
    pages = given(*[flow.deliver(10**n) for n in range(4)])
    first = Span(None, START_NS + 120 * SECOND)
    second = Span(START_NS + 120 * SECOND, None)
    sums = [stated(pages, span)[0].totals()[0].energy_uj for span in (first, second)]
    assert sums == [1, 1110]
    assert stated(pages, second)[0].notes == []
    assert "the beginning to 2026-09-21T14:15:20Z" in forms(pages, first)[0]
    assert "2026-09-21T14:15:20Z to the end" in forms(pages, second)[0]


def test_energy_given_and_energy_taken_are_not_added_up(mains: Node, lamp: Node) -> None:
    taken = Flow(FLOW, mains, lamp).deliver(10)
    back = Flow(bytes([9]) * 32, lamp, mains).deliver(3)
    pages = [*given(taken), *given(back, side=Side.SOURCE)]
    statement, _ = stated(in_order(pages))
    assert [(total.side, total.energy_uj) for total in statement.totals()] == [
        (Side.SOURCE, 3),
        (Side.SINK, 10),
    ]
    shown = forms(in_order(pages))[0]
    assert shown.index("delivered by this party") < shown.index("received by this party")
    assert "none" in shown
    assert "units" not in shown
    dear = Flow(bytes([5]) * 32, mains, lamp, price_micro=7_000_000).deliver(KWH)
    assert "total 1 page: 3,600,000.000000 J, 7.000000 units" in forms(given(dear))[0]


def test_costs_in_unlike_currencies_are_not_added_up(mains: Node, lamp: Node, flow: Flow) -> None:
    other = Flow(bytes([9]) * 32, mains, lamp, price_micro=1_000_000, tariff=bytes([5]) * 32)
    statement, _ = stated(given(flow.deliver(KWH), other.deliver(KWH)))
    assert [(total.currency, total.cost_micro) for total in statement.totals()] == [
        ("", 1_000_000),
        ("EUR", 312_000),
    ]
    assert dict(statement.documents()) == {bytes([5]) * 32: None, TARIFF: CURRENCIES[TARIFF]}
    assert "its document is not at hand" in text(statement, "")
    assert "head" not in text(statement, "")


def test_a_change_of_tariff_is_a_line_of_its_own(flow: Flow) -> None:
    first = flow.deliver(10)
    flow.tariff = bytes(32)
    statement, _ = stated(given(first, flow.deliver(4)))
    assert [(piece.tariff, piece.energy_uj) for piece in statement.pieces()] == [
        (TARIFF, 10),
        (bytes(32), 4),
    ]


def test_a_page_that_only_its_source_signed_is_noted_and_not_counted(flow: Flow) -> None:
    pages = given(flow.deliver(10), flow.next_page(5))
    statement, lines = stated(pages)
    assert len(lines) == 1
    assert statement.notes == [
        "not countersigned: 0707070707070707 page 1: its sink has not signed it"
    ]
    assert statement.faults == 0


@pytest.mark.parametrize("side", ["source", "sink"])
def test_a_wrong_signature_is_a_fault(flow: Flow, side: str) -> None:
    page = flow.deliver(10)
    statement, lines = stated(given(altered(page, **{f"{side}_signature": bytes([1]) * 64})))
    assert (lines, statement.faults) == ([], 1)
    assert f"the signature of its {side} is wrong" in statement.notes[0]


def test_a_page_that_cannot_be_read_is_a_fault(flow: Flow) -> None:
    octets = flow.deliver(10).to_wire()
    for broken in (octets[:-1], b"\x07" + octets[1:]):
        statement, lines = stated([Given(Side.SINK, broken)])
        assert (lines, statement.counts) == ([], {Note.UNREADABLE: 1})


def test_unlike_pages_of_one_number_count_neither(flow: Flow, mains: Node, lamp: Node) -> None:
    page = flow.deliver(10)
    other = countersign(sign_as_source(altered(page, end_uj=11), mains.meter), lamp.meter)
    statement, lines = stated(in_order(given(page, other)))
    assert (lines, statement.counts) == ([], {Note.UNLIKE: 1})


def test_missing_pages_and_a_chain_that_does_not_fit(flow: Flow, mains: Node, lamp: Node) -> None:
    pages = [flow.deliver(1) for _ in range(6)]
    statement, _ = stated(given(pages[0], pages[2], pages[5]))
    assert statement.notes == [
        "pages missing: 0707070707070707 page 2: page 1 before it not here",
        "pages missing: 0707070707070707 page 5: pages 3 to 4 before it not here",
    ]
    assert statement.faults == 0
    loose = altered(pages[1], previous=bytes([1]) * 32)
    loose = countersign(sign_as_source(loose, mains.meter), lamp.meter)
    assert stated(given(pages[0], loose))[0].counts == {Note.CHAIN: 1}


def test_a_resumed_flow_goes_on_under_another_transcript(
    flow: Flow, mains: Node, lamp: Node
) -> None:
    pages = [flow.deliver(1), flow.deliver(2)]
    flow.transcript, flow.flags = bytes([3]) * 32, Flags.RESUMED
    pages.append(flow.deliver(4))
    flow.flags = Flags(0)
    pages.append(flow.deliver(8))
    statement, _ = stated(in_order(given(*pages)))
    assert (statement.totals()[0].energy_uj, statement.notes) == (15, [])
    assert len(statement.pieces()) == 2
    statement, _ = stated(in_order(given(*pages[2:])))
    assert statement.notes == [
        "pages missing: 0303030303030303 page 2: the page that it resumes after is not here"
    ]


def test_a_flow_that_begins_with_a_resume_misses_no_page(flow: Flow) -> None:
    flow.flags, flow.esn_uj = Flags.RESUMED, 40
    statement, _ = stated(given(flow.deliver(2)))
    assert (statement.totals()[0].energy_uj, statement.notes) == (2, [])


def test_a_remark_changes_no_sum(flow: Flow) -> None:
    statement, _ = stated(given(flow.deliver(2)))
    before = statement.totals()
    statement.remark("the lamp is nice")
    assert (statement.totals(), statement.faults) == (before, 0)
    assert "note: the lamp is nice" in text(statement, "")
    assert "more" not in text(statement, "")


def test_what_is_wrong_in_another_period_is_not_noted(flow: Flow) -> None:
    pages = [flow.deliver(1) for _ in range(4)]
    unlike = altered(pages[1], end_uj=7)
    later = Span(pages[2].end_ns, None)
    statement, lines = stated(in_order(given(unlike, *pages[1:])), later)
    assert ([line.page for line in lines], statement.notes) == (
        pages[2:],
        ["pages missing: 0707070707070707 page 2: pages 0 to 1 before it not here"],
    )


def test_only_so_many_notes_are_listed(flow: Flow) -> None:
    pages = given(*[flow.next_page(1) for _ in range(60)])
    shown = forms(pages)[0]
    assert shown.count("note: not countersigned") == 50
    assert "note: 10 more" in shown
    assert "no pages" in shown


def test_a_page_of_a_feed_needs_its_receiver_only(mains: Node, lamp: Node) -> None:
    feed = Feed(1, mains)
    pages = [feed.receive(lamp, 5), feed.receive(lamp, 6)]
    statement, _ = stated(in_order(given(*pages)))
    assert (statement.totals()[0].energy_uj, statement.notes) == (11, [])
    assert "feed" in text(statement, "")


def test_a_clock_that_is_not_set_is_stated_and_not_punished(
    flow: Flow, mains: Node, lamp: Node
) -> None:
    page = altered(flow.deliver(5), clock=Clock.UNSYNCHRONISED, flags=Flags.TRUNCATED)
    page = countersign(sign_as_source(page, mains.meter), lamp.meter)
    statement, lines = stated(given(page))
    assert (len(lines), statement.faults) == (1, 0)
    assert "truncated clock U" in text(statement, "")


def test_records_carry_units_in_their_keys(flow: Flow) -> None:
    _, as_json, as_csv = forms(given(flow.deliver(10), flow.next_page(1)))
    records = [json.loads(line) for line in as_json.splitlines()]
    assert [record["record"] for record in records] == [
        "page",
        "total",
        "tariff",
        "note",
        "statement",
    ]
    assert records[0]["energy_uj"] == 10
    assert records[-1]["party"] == "lamp"
    rows = list(csv.DictReader(as_csv.splitlines(), fieldnames=COLUMNS))
    assert [row["record"] for row in rows] == [record["record"] for record in records]
    assert rows[1]["energy_uj"] == "10"
    assert rows[1]["pages"] == "1"
    assert rows[-1]["hash"] == records[-1]["hash"]


def test_numbers_are_exact_in_text() -> None:
    assert joules(1_204_331_000_001) == "1,204,331.000001 J"
    assert money(-105, "EUR") == "-0.000105 EUR"
    assert utc(0) == "1970-01-01T00:00:00Z"
    assert utc(2**64 - 1).startswith("2554-")
