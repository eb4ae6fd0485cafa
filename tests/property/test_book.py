"""The book against a plain ledger, and what repeats and reordering cannot change."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from powertcp.errors import LocalProtocolError, PowerRefused
from powertcp.ledger import MAX_AMOUNT, START, Account, Book, Entry, Kind, Transfer, transfer_key

NOON = 1_800_000_000_000_000_000
NAMES = ("sink:a", "source:main", "reservoir:r")
DELIVERIES = 100_000
WORLDS = 200


def key(number: int) -> bytes:
    return transfer_key(number.to_bytes(32, "big"), 0, "test", "", "")


def pair(number: int) -> tuple[str, str]:
    """The accounts of transfer `number`, so that what ends a reservation often fits it."""
    one = number % len(NAMES)
    return NAMES[one], NAMES[(one + 1 + number // len(NAMES) % 2) % len(NAMES)]


def made(number: int, names: tuple[str, str], amount: int, kind: Kind, pending: int) -> Transfer:
    return Transfer(
        key=key(number), debit=names[0], credit=names[1], unit="uJ", amount=amount, code=1,
        kind=kind, pending=key(pending) if kind in (Kind.POST_PENDING, Kind.VOID) else b"",
    )  # fmt: skip


def drawn(dice: random.Random) -> Transfer:
    """A transfer of any kind; most of those that end a reservation name one that may be open."""
    kind, held = dice.choice(list(Kind)), dice.randrange(6)
    amount = dice.choice([20, 20, 20, 19, 21, 1, MAX_AMOUNT - 20])
    if dice.random() < 0.1:
        one, two = dice.sample(NAMES, 2)
        return made(dice.randrange(60), (one, two), amount, kind, dice.randrange(60))
    match kind:
        case Kind.POST:
            number = dice.randrange(6, 60)
            return made(number, pair(number), amount, kind, 0)
        case Kind.PENDING:
            return made(held, pair(held), 20, kind, 0)
        case _:
            return made(dice.randrange(100, 200), pair(held), amount, kind, held)


@dataclass
class Plain:
    """A ledger as one would write it down: every sum from the list of what was posted."""

    posted: list[Transfer] = field(default_factory=list)
    floors: dict[str, int | None] = field(default_factory=dict)

    def debited(self, name: str) -> int:
        return sum(one.amount for one in self._moved() if one.debit == name)

    def credited(self, name: str) -> int:
        return sum(one.amount for one in self._moved() if one.credit == name)

    def reserved(self, name: str) -> int:
        return sum(one.amount for one in self.held().values() if one.debit == name)

    def held(self) -> dict[bytes, Transfer]:
        over = {one.pending for one in self.posted if one.pending}
        pending = {one.key: one for one in self.posted if one.kind is Kind.PENDING}
        return {name: one for name, one in pending.items() if name not in over}

    def may(self, one: Transfer) -> bool:
        if one.pending:
            held = self.held().get(one.pending)
            if held is None or (held.debit, held.credit) != (one.debit, one.credit):
                return False
            if one.amount > held.amount or (one.kind is Kind.VOID and one.amount != held.amount):
                return False
        floor = self.floors.get(one.debit)
        free = self.credited(one.debit) - self.debited(one.debit) - self.reserved(one.debit)
        if not one.pending and floor is not None and free - one.amount < floor:
            return False
        sums = (self.debited(one.debit), self.credited(one.credit), self.reserved(one.debit))
        return max(sums) + one.amount <= MAX_AMOUNT

    def post(self, batch: list[Transfer]) -> bool | None:
        """Return whether it is posted now, None if it was before."""
        known = {one.key: one for one in self.posted}
        if len({one.key for one in batch}) < len(batch):
            return False
        old = [one for one in batch if one.key in known]
        if old:
            return None if all(same(known.get(one.key), one) for one in batch) else False
        before = len(self.posted)
        for one in batch:
            if not self.may(one):
                del self.posted[before:]
                return False
            self.posted.append(one)
        return True

    def _moved(self) -> list[Transfer]:
        return [one for one in self.posted if one.kind in (Kind.POST, Kind.POST_PENDING)]


def same(known: Transfer | None, one: Transfer) -> bool:
    return known is not None and (known.debit, known.credit, known.amount, known.kind) == (
        one.debit, one.credit, one.amount, one.kind
    )  # fmt: skip


def replayed(book: Book, entries: list[Entry]) -> Book:
    again = Book()
    bare = [Account(id=one.id, name=one.name, unit=one.unit) for one in book.accounts()]
    again.restore(bare, (), 0, START)
    for entry in entries:
        again.replay(entry)
    return again


@pytest.mark.requirement("LEDG-7-03")
@pytest.mark.requirement("LEDG-7-05")
def test_the_book_decides_as_a_plain_ledger_does(seed: int) -> None:
    dice, told = random.Random(seed), Counter[str]()
    for _ in range(WORLDS):
        book, plain = Book(), Plain()
        entries: list[Entry] = []
        for _ in range(40):
            if dice.random() < 0.05:
                name, floor = dice.choice(NAMES), dice.choice([None, -100, -40, 0, 5])
                book.set_floor(name, "uJ", floor)
                plain.floors[name] = floor
            batch = [drawn(dice) for _ in range(dice.choice([1, 1, 1, 2, 3]))]
            told[decided(book, plain, batch, entries)] += 1
        told.update(Kind(entry.kind).name for entry in entries)
        compare(book, plain, entries)
    assert min(told[name] for name in ("posted", "repeated", "refused", *Kind.__members__)) > 50


def decided(book: Book, plain: Plain, batch: list[Transfer], entries: list[Entry]) -> str:
    """Let both decide; return what they agree on."""
    before = (book.seq, book.chain, book.accounts(), book.pending())
    due = plain.post(batch)
    try:
        made_now = book.post(batch, NOON)
    except (PowerRefused, LocalProtocolError):
        assert due is False
        assert (book.seq, book.chain, book.accounts(), book.pending()) == before
        return "refused"
    entries += made_now.entries
    assert due is (None if made_now.posted.is_repeat else True)
    assert set(book.trial_balance().values()) <= {0}
    return "repeated" if made_now.posted.is_repeat else "posted"


def compare(book: Book, plain: Plain, entries: list[Entry]) -> None:
    """The sums are those of the plain ledger, and of the journal replayed."""
    for account in book.accounts():
        assert account.debit == plain.debited(account.name)
        assert account.credit == plain.credited(account.name)
        assert account.reserved == plain.reserved(account.name)
    assert {entry.key for entry in book.pending()} == set(plain.held())
    again = replayed(book, entries)
    sums = [(a.name, a.debit, a.credit, a.reserved) for a in book.accounts()]
    assert [(a.name, a.debit, a.credit, a.reserved) for a in again.accounts()] == sums
    assert (again.seq, again.chain) == (book.seq, book.chain)


def pages(count: int, dice: random.Random) -> list[list[Transfer]]:
    """Batches of energy and money, as receipts make them."""
    batches = []
    for number in range(count):
        sink = f"sink:{dice.randrange(50)}"
        energy = made(number, (sink, "source:main"), dice.randrange(1, 10**9), Kind.POST, 0)
        money = Transfer(
            key=key(number + count), debit=f"payer:{sink}", credit="payee:main",
            unit="micro-EUR", amount=dice.randrange(1, 1000), code=10,
        )  # fmt: skip
        batches.append([energy, money] if number % 3 else [energy])
    return batches


@pytest.mark.requirement("LEDG-7-04")
def test_deliveries_that_repeat_and_reorder_come_to_the_same_balances(seed: int) -> None:
    dice = random.Random(seed)
    batches = pages(10_000, dice)
    once, often = Book(), Book()
    for batch in batches:
        once.post(batch, NOON)
    deliveries = [dice.choice(batches) for _ in range(DELIVERIES - len(batches))] + batches
    dice.shuffle(deliveries)
    told = Counter(often.post(batch, NOON + dice.randrange(10**9)).posted.is_repeat
                   for batch in deliveries)  # fmt: skip
    assert told == {False: len(batches), True: DELIVERIES - len(batches)}
    assert {one.name: (one.debit, one.credit) for one in often.accounts()} == {
        one.name: (one.debit, one.credit) for one in once.accounts()
    }
    assert often.seq == once.seq
    assert often.trial_balance() == {"uJ": 0, "micro-EUR": 0}
