"""The book: batches whole or not at all, floors, reservations, keys, chain values."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from powertcp.errors import LocalProtocolError, PowerRefused
from powertcp.ledger import (
    MAX_AMOUNT,
    START,
    Account,
    Book,
    Code,
    Entry,
    Kind,
    LedgerBroken,
    Posted,
    Transfer,
    entry_chain,
    transfer_key,
)
from powertcp.ledger import book as book_module
from powertcp.registry import Reason, Refusal

NOON = 1_800_000_000_000_000_000
TRANSCRIPT = bytes([7]) * 32


def transfer(
    page: int,
    amount: int = 1000,
    *,
    debit: str = "sink:lamp",
    credit: str = "source:main",
    unit: str = "uJ",
    kind: Kind = Kind.POST,
    pending: bytes = b"",
    role: str = "energy",
) -> Transfer:
    return Transfer(
        key=transfer_key(TRANSCRIPT, page, role, debit, credit),
        debit=debit, credit=credit, unit=unit, amount=amount, code=Code.RECEIPT, kind=kind,
        pending=pending,
    )  # fmt: skip


def refusal(call: Callable[[], object]) -> Refusal:
    with pytest.raises(PowerRefused) as refused:
        call()
    assert isinstance(refused.value.refusal, Refusal)
    return refused.value.refusal


def account(book: Book, name: str) -> Account:
    found = book.account(name)
    assert found is not None
    return found


def state(book: Book) -> tuple[object, ...]:
    return book.seq, book.chain, book.accounts(), book.pending()


# ---- posting -------------------------------------------------------------------------------------


@pytest.mark.requirement("LEDG-7-03")
def test_a_transfer_debits_one_account_and_credits_another() -> None:
    book = Book()
    batch = book.post([transfer(0, 700)], NOON)
    assert batch.posted == Posted((1,))
    assert [one.name for one in batch.opened] == ["sink:lamp", "source:main"]
    assert batch.touched == ("sink:lamp", "source:main")
    assert [(one.id, one.debit, one.credit) for one in book.accounts()] == [
        (1, 700, 0),
        (2, 0, 700),
    ]
    assert account(book, "sink:lamp").balance == -700
    assert account(book, "source:main").balance == 700
    assert book.trial_balance() == {"uJ": 0}
    assert book.account("nobody") is None


@pytest.mark.requirement("LEDG-7-03")
def test_energy_and_its_money_are_posted_together_or_not_at_all() -> None:
    book = Book()
    book.post([transfer(0)], NOON)
    before = state(book)
    money = transfer(1, 5, debit="payer:lamp", credit="payee:main", unit="micro-EUR", role="money")
    book.set_floor("payer:lamp", "micro-EUR", -4)
    floored = state(book)
    assert refusal(lambda: book.post([transfer(1), money], NOON)).code == Reason.PAYMENT_REQUIRED
    assert state(book) == floored != before
    batch = book.post([transfer(1), replace(money, amount=4)], NOON)
    assert [entry.link for entry in batch.entries] == [2, 2]
    assert book.post([transfer(2)], NOON).entries[0].link == 0
    assert book.trial_balance() == {"uJ": 0, "micro-EUR": 0}


@pytest.mark.requirement("LEDG-7-03")
def test_an_account_has_one_unit() -> None:
    book = Book()
    book.post([transfer(0)], NOON)
    before = state(book)
    with pytest.raises(LocalProtocolError, match="sink:lamp is in uJ, not in uJ-wall"):
        book.post([transfer(1, credit="source:other", unit="uJ-wall")], NOON)
    assert state(book) == before


@pytest.mark.requirement("LEDG-7-03")
def test_a_sum_beyond_63_bits_is_refused_and_never_wrapped() -> None:
    book = Book()
    book.post([transfer(0, MAX_AMOUNT - 1)], NOON)
    said = refusal(lambda: book.post([transfer(1, 2)], NOON))
    assert (said.code, said.value, said.limit) == (Reason.LIMIT, 2, 1)
    # the other side of the transfer overflows as well
    refused = transfer(2, 2, debit="sink:other")
    assert refusal(lambda: book.post([refused], NOON)).code == Reason.LIMIT
    assert book.account("sink:other") is None
    book.post([transfer(3, 1)], NOON)
    assert account(book, "sink:lamp").debit == MAX_AMOUNT
    pending = transfer(4, MAX_AMOUNT, debit="sink:held", kind=Kind.PENDING)
    held = Book()
    held.post([pending], NOON)
    more = transfer(5, 1, debit="sink:held", kind=Kind.PENDING)
    assert refusal(lambda: held.post([more], NOON)).code == Reason.LIMIT


MISUSES = {
    "no transfer": (),
    "too many": tuple(transfer(page) for page in range(65)),
    "the same key twice": (transfer(0), transfer(0)),
    "to itself": (transfer(0, debit="a", credit="a"),),
    "nothing": (transfer(0, 0),),
    "too much": (transfer(0, MAX_AMOUNT + 1),),
    "a short key": (replace(transfer(0), key=b"short"),),
    "a reservation that nobody asks for": (replace(transfer(0), pending=bytes(16)),),
    "a reservation that is not named": (replace(transfer(0), kind=Kind.VOID),),
    "a code beyond 16 bits": (replace(transfer(0), code=65_536),),
    "an account without name": (transfer(0, debit=""),),
    "a long name": (transfer(0, debit="x" * 256),),
    "a name with a line feed": (transfer(0, debit="a\nb"),),
    "a long unit": (transfer(0, unit="u" * 33),),
    "a long memo": (replace(transfer(0), memo="\u00e9" * 257),),
}


@pytest.mark.parametrize("name", MISUSES)
def test_what_is_no_batch_is_a_bug_of_ours_and_changes_nothing(name: str) -> None:
    book = Book()
    book.post([transfer(99)], NOON)
    before = state(book)
    with pytest.raises(LocalProtocolError):
        book.post(MISUSES[name], NOON)
    assert state(book) == before


@pytest.mark.parametrize("at_ns", [-1, MAX_AMOUNT + 1])
def test_a_time_that_is_none_is_a_bug_of_ours(at_ns: int) -> None:
    with pytest.raises(LocalProtocolError, match="a time of"):
        Book().post([transfer(0)], at_ns)


def test_the_largest_batch_name_unit_and_memo_are_taken() -> None:
    book = Book()
    long = transfer(0, debit="x" * 255, unit="u" * 32, credit="y" * 255)
    book.post([replace(long, memo="\u00e9" * 256, code=65_535)], NOON)
    batch = book.post([transfer(page) for page in range(1, 65)], NOON)
    assert len(batch.entries) == 64


def test_a_clock_that_goes_backwards_only_shows_in_the_times() -> None:
    book = Book()
    first = book.post([transfer(0)], NOON).entries[0]
    second = book.post([transfer(1)], NOON - 10**12).entries[0]
    assert (first.seq, second.seq) == (1, 2)
    assert second.at_ns < first.at_ns


def test_more_accounts_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "MAX_ACCOUNTS", 3)
    book = Book()
    book.post([transfer(0)], NOON)
    book.post([transfer(1, debit="sink:other")], NOON)
    said = refusal(lambda: book.post([transfer(2, debit="sink:third")], NOON))
    assert (said.code, said.value, said.limit) == (Reason.LIMIT, 4, 3)
    assert refusal(lambda: book.set_floor("sink:third", "uJ", 0)).code == Reason.LIMIT
    book.post([transfer(2)], NOON)


# ---- keys ----------------------------------------------------------------------------------------


@pytest.mark.requirement("LEDG-7-04")
def test_the_key_is_that_of_the_specification() -> None:
    octets = TRANSCRIPT + (5).to_bytes(4, "big")
    for text in ("energy", "sink:a", "source:b"):
        octets += len(text).to_bytes(2, "big") + text.encode()
    key = transfer_key(TRANSCRIPT, 5, "energy", "sink:a", "source:b")
    assert key == hashlib.blake2s(octets).digest()[:16]
    others = {
        transfer_key(TRANSCRIPT, 6, "energy", "sink:a", "source:b"),
        transfer_key(bytes(32), 5, "energy", "sink:a", "source:b"),
        transfer_key(TRANSCRIPT, 5, "money", "sink:a", "source:b"),
        transfer_key(TRANSCRIPT, 5, "energy", "sink:as", "ource:b"),
        transfer_key(TRANSCRIPT, 5, "energy", "source:b", "sink:a"),
    }
    assert len(others | {key}) == 6


@pytest.mark.requirement("LEDG-7-04")
def test_the_same_batch_again_is_answered_with_its_old_entries() -> None:
    book = Book()
    pair = [transfer(0), transfer(0, 7, role="loss", debit="heat:n")]
    posted = book.post(pair, NOON).posted
    book.post([transfer(1)], NOON)
    before = state(book)
    again = book.post(pair, NOON + 1)
    assert again.posted == Posted(posted.seqs, is_repeat=True)
    assert (again.entries, again.opened, again.touched) == ((), (), ())
    assert state(book) == before


@pytest.mark.requirement("LEDG-7-04")
@pytest.mark.parametrize(
    "other",
    [
        replace(transfer(0), amount=999),
        replace(transfer(0), code=Code.LOSS),
        replace(transfer(0), debit="sink:unknown"),
        replace(transfer(0), credit="sink:second", debit="source:main"),
        replace(transfer(0), kind=Kind.PENDING),
    ],
)
def test_another_transfer_of_the_same_key_is_refused(other: Transfer) -> None:
    book = Book()
    book.post([transfer(9, debit="sink:second")], NOON)
    book.post([transfer(0)], NOON)
    before = state(book)
    said = refusal(lambda: book.post([other], NOON))
    assert (said.code, said.value) == (Reason.RECEIPT_INVALID, 2)
    assert state(book) == before


@pytest.mark.requirement("LEDG-7-04")
def test_a_batch_of_which_a_part_is_posted_is_refused() -> None:
    book = Book()
    book.post([transfer(0)], NOON)
    said = refusal(lambda: book.post([transfer(1), transfer(0)], NOON))
    assert (said.code, said.value, book.seq) == (Reason.RECEIPT_INVALID, 1, 1)


@pytest.mark.requirement("LEDG-7-04")
def test_written_entries_are_asked_for_where_they_are() -> None:
    written: dict[bytes, Entry] = {}
    book = Book(written.get)
    first = book.post([transfer(0)], NOON)
    assert book.post([transfer(0)], NOON).posted.is_repeat
    written.update({entry.key: entry for entry in first.entries})
    book.written()
    assert book.find(transfer(0).key) == first.entries[0]
    assert book.post([transfer(0)], NOON).posted == Posted((1,), is_repeat=True)
    kept = Book()
    kept.post([transfer(0)], NOON)
    kept.written()
    assert kept.find(transfer(0).key) is not None


# ---- floors and reservations ---------------------------------------------------------------------


@pytest.mark.requirement("LEDG-7-05")
def test_a_floor_bounds_what_is_debited() -> None:
    book = Book()
    account_now, is_new = book.set_floor("sink:lamp", "uJ", -1500)
    assert (account_now.floor, account_now.free, is_new) == (-1500, 1500, True)
    book.post([transfer(0)], NOON)
    said = refusal(lambda: book.post([transfer(1, 501)], NOON))
    assert said.sentence() == ("205 ENERGY_QUOTA: used 1,501 uJ of a quota of 1,500 uJ (sink:lamp)")
    book.post([transfer(1, 500)], NOON)
    assert account(book, "sink:lamp").free == 0
    assert not book.set_floor("sink:lamp", "uJ", None)[1]
    book.post([transfer(2)], NOON)
    assert account(book, "sink:lamp").free is None


@pytest.mark.requirement("LEDG-7-05")
def test_what_is_paid_in_may_be_spent() -> None:
    book = Book()
    book.set_floor("payer:lamp", "micro-EUR", 0)
    page = transfer(0, 3, debit="payer:lamp", credit="payee:main", unit="micro-EUR")
    said = refusal(lambda: book.post([page], NOON))
    assert (said.code, said.value, said.limit) == (Reason.PAYMENT_REQUIRED, 3, 0)
    top_up = transfer(1, 5, debit="cash", credit="payer:lamp", unit="micro-EUR")
    book.post([top_up], NOON)
    book.post([page], NOON)
    assert account(book, "payer:lamp").free == 2
    with pytest.raises(LocalProtocolError, match="a floor of"):
        book.set_floor("payer:lamp", "micro-EUR", MAX_AMOUNT + 1)
    with pytest.raises(LocalProtocolError, match="is in micro-EUR"):
        book.set_floor("payer:lamp", "uJ", 0)
    with pytest.raises(LocalProtocolError, match="no name"):
        book.set_floor("", "uJ", 0)


@pytest.mark.requirement("LEDG-7-05")
def test_exposure_never_exceeds_what_is_reserved() -> None:
    book = Book()
    book.set_floor("sink:lamp", "uJ", -2000)
    held = transfer(0, 1500, kind=Kind.PENDING, role="hold")
    book.post([held], NOON)
    now = account(book, "sink:lamp")
    assert (now.debit, now.reserved, now.free) == (0, 1500, 500)
    assert refusal(lambda: book.post([transfer(1, 501)], NOON)).code == Reason.ENERGY_QUOTA
    second = transfer(2, 501, kind=Kind.PENDING, role="hold")
    assert refusal(lambda: book.post([second], NOON)).code == Reason.ENERGY_QUOTA
    page = transfer(0, 1501, kind=Kind.POST_PENDING, pending=held.key)
    said = refusal(lambda: book.post([page], NOON))
    assert (said.code, said.value, said.limit) == (Reason.ENERGY_QUOTA, 1501, 1500)
    # the page posts what was used and reserves again, in one batch
    again = transfer(1, 800, kind=Kind.PENDING, role="hold")
    batch = book.post([replace(page, amount=1200), again], NOON)
    assert [entry.pending for entry in batch.entries] == [1, 0]
    now = account(book, "sink:lamp")
    assert (now.debit, now.reserved, now.free) == (1200, 800, 0)
    assert [entry.seq for entry in book.pending()] == [3]


@pytest.mark.requirement("LEDG-7-05")
def test_a_reservation_ends_once() -> None:
    book = Book()
    held = transfer(0, 1500, kind=Kind.PENDING, role="hold")
    book.post([held], NOON)
    void = transfer(0, 1500, kind=Kind.VOID, pending=held.key, role="void")
    with pytest.raises(LocalProtocolError, match="1400 voided of 1500"):
        book.post([replace(void, amount=1400)], NOON)
    with pytest.raises(LocalProtocolError, match="other accounts"):
        book.post([replace(void, credit="source:else")], NOON)
    book.post([void], NOON)
    assert account(book, "sink:lamp").reserved == 0
    assert account(book, "sink:lamp").debit == 0
    late = transfer(0, 10, kind=Kind.POST_PENDING, pending=held.key)
    said = refusal(lambda: book.post([late], NOON))
    assert (said.code, said.rule) == (Reason.ENERGY_QUOTA, "the reservation is over")
    money = replace(late, unit="micro-EUR", pending=bytes(16), debit="payer:z", credit="payee:z")
    assert refusal(lambda: book.post([money], NOON)).code == Reason.PAYMENT_REQUIRED
    cash = transfer(5, 9, debit="payer:x", unit="micro-EUR", credit="payee:y", kind=Kind.PENDING)
    book.post([cash], NOON)
    more = replace(cash, key=bytes(16), kind=Kind.POST_PENDING, pending=cash.key, amount=10)
    assert refusal(lambda: book.post([more], NOON)).code == Reason.PAYMENT_REQUIRED


def test_a_batch_may_end_what_it_began() -> None:
    book = Book()
    held = transfer(0, 15, kind=Kind.PENDING, role="hold")
    page = transfer(0, 10, kind=Kind.POST_PENDING, pending=held.key)
    batch = book.post([held, page], NOON)
    assert [entry.pending for entry in batch.entries] == [0, 1]
    assert book.pending() == ()
    assert account(book, "sink:lamp").debit == 10


def test_what_a_refused_batch_ended_is_open_again() -> None:
    book = Book()
    book.set_floor("sink:lamp", "uJ", -100)
    held = transfer(0, 50, kind=Kind.PENDING, role="hold")
    book.post([held], NOON)
    before = state(book)
    page = transfer(0, 40, kind=Kind.POST_PENDING, pending=held.key)
    again = transfer(1, 50, kind=Kind.PENDING, role="hold")
    new = transfer(2, 500, role="other", credit="source:new")
    assert refusal(lambda: book.post([page, again, new], NOON)).code == Reason.ENERGY_QUOTA
    assert state(book) == before
    assert book.find(page.key) is None
    assert book.post([page, again], NOON).posted == Posted((2, 3))


def test_more_reservations_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "MAX_PENDING", 2)
    book = Book()
    for page in range(2):
        book.post([transfer(page, kind=Kind.PENDING)], NOON)
    third = transfer(2, kind=Kind.PENDING)
    said = refusal(lambda: book.post([third], NOON))
    assert (said.code, said.value, said.limit) == (Reason.LIMIT, 3, 2)
    book.post([transfer(2)], NOON)


# ---- the chain -----------------------------------------------------------------------------------


@pytest.mark.requirement("LEDG-7-02")
def test_the_chain_value_is_that_of_the_specification() -> None:
    book = Book()
    held = replace(transfer(0, 9, kind=Kind.PENDING), memo="\u20ac")
    one = book.post([held], NOON).entries[0]
    fixed = (
        (1).to_bytes(8, "big") + NOON.to_bytes(8, "big") + (1).to_bytes(2, "big")
        + (1).to_bytes(2, "big") + held.key + (1).to_bytes(4, "big") + (2).to_bytes(4, "big")
        + (9).to_bytes(8, "big") + bytes(8) + bytes(8) + (3).to_bytes(2, "big") + b"\xe2\x82\xac"
    )  # fmt: skip
    assert one.chain == hashlib.blake2s(bytes(32) + fixed).digest() == book.chain
    two = book.post([transfer(1)], NOON).entries[0]
    assert two.chain == entry_chain(one.chain, two) == book.chain


def accounts_only(book: Book) -> Book:
    """Return a book with the accounts of `book`, all of them empty."""
    fresh = Book()
    bare = [Account(id=one.id, name=one.name, unit=one.unit) for one in book.accounts()]
    fresh.restore(bare, (), 0, START)
    return fresh


def entries_of(book: Book) -> list[Entry]:
    """Post some of everything; return the entries."""
    held = transfer(0, 50, kind=Kind.PENDING, role="hold")
    page = transfer(0, 40, kind=Kind.POST_PENDING, pending=held.key)
    other = transfer(1, 50, kind=Kind.PENDING, role="hold")
    void = transfer(1, 50, kind=Kind.VOID, pending=other.key, role="void")
    money = transfer(2, 5, debit="payer:a", credit="payee:b", unit="micro-EUR", role="money")
    last = transfer(3, 8, kind=Kind.PENDING, role="hold")
    batches = [[held], [page, other], [void], [transfer(2), money], [last]]
    return [entry for batch in batches for entry in book.post(batch, NOON).entries]


@pytest.mark.requirement("LEDG-7-01")
def test_a_journal_replayed_comes_to_the_same_book() -> None:
    book = Book()
    entries = entries_of(book)
    again = accounts_only(book)
    for entry in entries:
        again.replay(entry)
    assert state(again) == state(book)
    restored = Book()
    restored.restore(book.accounts(), book.pending(), book.seq, book.chain)
    assert state(restored) == state(book)
    transfers = [transfer(7), transfer(8, debit="sink:new")]
    assert restored.post(transfers, NOON).entries == book.post(transfers, NOON).entries


def rechained(entry: Entry, chain: bytes) -> Entry:
    return entry._replace(chain=entry_chain(chain, entry))


FORGED = {
    "another amount, an old chain value": lambda entry: entry._replace(amount=entry.amount + 1),
    "another time": lambda entry: entry._replace(at_ns=entry.at_ns + 1),
    "another memo": lambda entry: entry._replace(memo="x"),
    "another key": lambda entry: entry._replace(key=bytes(16)),
}
FORGED_WELL = {
    "an unknown account": lambda entry: entry._replace(debit=77),
    "to itself": lambda entry: entry._replace(debit=entry.credit),
    "another unit": lambda entry: entry._replace(debit=3),
    "an unknown kind": lambda entry: entry._replace(kind=9),
    "a kind below all": lambda entry: entry._replace(kind=2),
    "no amount": lambda entry: entry._replace(amount=0),
    "ends nothing": lambda entry: entry._replace(pending=1),
}


@pytest.mark.requirement("LEDG-7-02")
@pytest.mark.parametrize("name", FORGED)
def test_a_changed_entry_is_named_and_the_next_is_judged_by_itself(name: str) -> None:
    book = Book()
    entries = entries_of(book)
    again = accounts_only(book)
    broken = []
    for number, entry in enumerate(entries, 1):
        try:
            again.replay(FORGED[name](entry) if number == 5 else entry)
        except LedgerBroken as error:
            broken.append(error.record)
    assert broken == ["journal 5"]
    assert again.chain == book.chain


@pytest.mark.parametrize("name", FORGED_WELL)
def test_an_entry_that_no_batch_makes_is_named_though_its_chain_value_is_right(name: str) -> None:
    book = Book()
    entries = entries_of(book)
    again = accounts_only(book)
    for entry in entries[:4]:
        again.replay(entry)
    with pytest.raises(LedgerBroken, match="journal 5"):
        again.replay(rechained(FORGED_WELL[name](entries[4]), again.chain))


def test_a_missing_entry_is_named() -> None:
    book = Book()
    entries = entries_of(book)
    again = accounts_only(book)
    again.replay(entries[0])
    with pytest.raises(LedgerBroken, match="journal 2: it is missing, entry 3 follows"):
        again.replay(entries[2])
