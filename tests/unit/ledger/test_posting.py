"""What a page becomes in the books of its two ends."""

import pytest

from powertcp.crypto import SigningKey
from powertcp.ledger import Book, Clock, Code, Entry, Page, Side, Transfer
from powertcp.ledger.posting import page_transfers, unsigned_transfers

SOURCE, SINK = SigningKey(bytes(32)), SigningKey(bytes([1]) * 32)
FLOW = bytes(range(32))


def page(energy_uj: int = 540, cost_micro: int = 7, number: int = 0) -> Page:
    return Page(
        clock=Clock.SYNCHRONISED,
        transcript=FLOW,
        contract=1,
        page=number,
        samples=100,
        start_uj=1000 * number,
        end_uj=1000 * number + energy_uj,
        start_ns=1,
        end_ns=2,
        cost_micro=cost_micro,
        source_key=SOURCE.public,
        sink_key=SINK.public,
    )


def ways(transfers: tuple[Transfer, ...]) -> list[tuple[str, str, str, int, int]]:
    return [(it.debit, it.credit, it.unit, it.amount, it.code) for it in transfers]


def test_a_provider_owes_its_supply_what_the_sink_took() -> None:
    assert ways(
        page_transfers(page(), Side.SOURCE, here="12V/5A", there="10.0.0.7", currency="EUR")
    ) == [
        ("sink:10.0.0.7", "source:12V/5A", "uJ", 540, Code.RECEIPT),
        ("payer:10.0.0.7", "payee:self", "micro-EUR", 7, Code.MONEY),
    ]


def test_a_consumer_stores_it_and_its_load_uses_it() -> None:
    transfers = page_transfers(
        page(), Side.SINK, here="1", there="bench", load="lamp", currency="EUR"
    )
    assert ways(transfers) == [
        ("store:1", "from:bench", "uJ", 540, Code.RECEIPT),
        ("load:lamp", "store:1", "uJ", 540, Code.LOAD),
        ("payer:self", "payee:bench", "micro-EUR", 7, Code.MONEY),
    ]
    stored = page_transfers(page(), Side.SINK, here="1", there="bench", currency="EUR")
    assert ways(stored)[0][:2] == ("store:1", "from:bench")
    assert len(stored) == 2


@pytest.mark.requirement("LEDG-6-04")
@pytest.mark.parametrize("side", list(Side))
def test_a_negative_cost_is_paid_by_who_delivers(side: Side) -> None:
    paid = page_transfers(page(cost_micro=-7), side, here="a", there="b", currency="EUR")[-1]
    source, sink = ("self", "b") if side is Side.SOURCE else ("b", "self")
    assert (paid.debit, paid.credit, paid.amount) == (f"payer:{source}", f"payee:{sink}", 7)


def test_nothing_is_posted_of_nothing() -> None:
    for side in Side:
        assert page_transfers(page(0, 0), side, here="a", there="b", currency="EUR") == ()
        assert unsigned_transfers(FLOW, 0, 0, side, here="a", there="b") == ()
    free = page_transfers(page(5, 0), Side.SOURCE, here="a", there="b", currency="EUR")
    assert [it.unit for it in free] == ["uJ"]


def test_energy_without_a_page_says_so() -> None:
    taken = unsigned_transfers(FLOW, 3, 9, Side.SINK, here="1", there="bench", load="lamp")
    assert ways(taken) == [
        ("store:1", "from:bench", "uJ", 9, Code.UNSIGNED),
        ("load:lamp", "store:1", "uJ", 9, Code.LOAD),
    ]
    given = unsigned_transfers(FLOW, 3, 9, Side.SOURCE, here="a", there="b")
    assert ways(given) == [("sink:b", "source:a", "uJ", 9, Code.UNSIGNED)]


@pytest.mark.requirement("LEDG-7-04")
def test_each_posting_has_a_key_of_its_own_and_the_same_one_each_time() -> None:
    made: list[Transfer] = []
    for side in Side:
        for number in range(3):
            made += page_transfers(
                page(number=number), side, here="a", there="b", load="l", currency="EUR"
            )
            made += unsigned_transfers(FLOW, number, 9, side, here="a", there="b", load="l")
    assert len({it.key for it in made}) == len(made) == 24
    known: dict[bytes, Entry] = {}
    book = Book(known.get)
    for transfer in made:
        known.update((it.key, it) for it in book.post((transfer,), 1).entries)
        book.written()
        assert book.post((transfer,), 2).posted.is_repeat
        book.written()
