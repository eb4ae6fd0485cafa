"""Double entry: what is decided here, in memory, becomes entries of a chain, all or nothing.

Every transfer debits one account and credits another of the same unit, in integers, so each unit
sums to zero at any moment. Balance means credit less debit.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from powertcp.errors import LedgerBroken, LocalProtocolError, PowerError, PowerRefused
from powertcp.registry import Reason, Refusal

KEY_OCTETS = 16
CHAIN_OCTETS = 32
START = bytes(CHAIN_OCTETS)
MAX_AMOUNT = (1 << 63) - 1  # what an INTEGER of the store holds
MAX_ACCOUNTS = 1_000_000  # peers come with new names; each costs 300 octets of memory
MAX_PENDING = 65_536  # as many reservations as flows of a process, all in memory
MAX_NAME_OCTETS = 255
MAX_UNIT_OCTETS = 32
MAX_MEMO_OCTETS = 512
MAX_BATCH = 64  # a batch is in one group of the writer

_FIXED = struct.Struct(">QQHH16sIIQQQH")
_ENERGY = "uJ"


class Kind(IntEnum):
    """What an entry does to its accounts."""

    POST = 0
    PENDING = 1
    POST_PENDING = 2
    VOID = 3


class Code(IntEnum):
    """Why a transfer was made; numbers that are not listed are kept."""

    RECEIPT = 1
    UNSIGNED = 2
    LOAD = 3
    LOSS = 4
    RESERVE = 5
    EMIT = 6
    BANK = 7
    MIRACLE = 8
    CLAIM = 9
    MONEY = 10
    RETURN = 11
    CORRECTION = 12
    RECLAIM = 13
    LEND = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """An amount that is to go from `credit` to `debit`."""

    key: bytes
    """16 octets of `transfer_key`: the same key is posted once."""
    debit: str
    """Name of the account that receives, for example sink:10.0.0.7."""
    credit: str
    """Name of the account that gives, for example source:main."""
    unit: str
    """Unit of both accounts: uJ, uJ-wall, uJ-claimed, micro-EUR, .."""
    amount: int
    """1..2^63-1 in that unit."""
    code: int
    """A `Code`, or a number of the caller's, 0..65535."""
    kind: Kind = Kind.POST
    pending: bytes = b""
    """Key of the pending transfer that is posted or voided, else empty."""
    memo: str = ""
    """At most 512 octets of UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account and its sums, in its unit."""

    id: int
    """1..2^32-1 in the order of opening."""
    name: str
    unit: str
    debit: int = 0
    credit: int = 0
    reserved: int = 0
    """What open pending transfers may still debit."""
    floor: int | None = None
    """What balance less reserved does not go below; None: no limit."""

    @property
    def balance(self) -> int:
        """Credit less debit."""
        return self.credit - self.debit

    @property
    def free(self) -> int | None:
        """What may still be debited; None: no limit."""
        return None if self.floor is None else self.balance - self.reserved - self.floor


class Entry(NamedTuple):
    """One row of the journal: a tuple, as a million of them are checked in one go."""

    seq: int
    """From 1, without gaps."""
    at_ns: int
    """Unix time; it may go backwards, the order is that of `seq`."""
    kind: int
    code: int
    key: bytes
    debit: int
    """Account id."""
    credit: int
    """Account id."""
    amount: int
    pending: int
    """Entry that is posted or voided, 0: none."""
    link: int
    """First entry of those that were committed together, 0: alone."""
    memo: str
    chain: bytes = b""


@dataclass(frozen=True, slots=True)
class Posted:
    """A batch that is in the journal."""

    seqs: tuple[int, ...]
    """Its entries, in the order of the transfers."""
    is_repeat: bool = False
    """Whether it was there before."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What `Book.post` decided: to be written before anybody is told."""

    posted: Posted
    entries: tuple[Entry, ...] = ()
    opened: tuple[Account, ...] = ()
    """Accounts that did not exist before."""
    touched: tuple[str, ...] = ()
    """Accounts whose sums changed."""


# LEDG-7-04
def transfer_key(transcript: bytes, page: int, role: str, debit: str, credit: str) -> bytes:
    """Return the 16 octets that name a transfer: equal wherever and whenever it is made again.

    transcript: 32 octets of the contract. page: of the receipt, or a counter of the caller's.
    role: what the transfer is for, for example "energy", "money".
    """
    hashed = hashlib.blake2s(transcript)
    hashed.update(page.to_bytes(4, "big"))
    for text in (role, debit, credit):
        octets = text.encode()
        hashed.update(len(octets).to_bytes(2, "big"))
        hashed.update(octets)
    return hashed.digest()[:KEY_OCTETS]


# LEDG-7-02
def entry_chain(previous: bytes, entry: Entry) -> bytes:
    """Return the chain value of `entry` after an entry whose chain value is `previous`."""
    memo = entry.memo.encode()
    fixed = _FIXED.pack(
        entry.seq, entry.at_ns, entry.kind, entry.code, entry.key, entry.debit, entry.credit,
        entry.amount, entry.pending, entry.link, len(memo),
    )  # fmt: skip
    return hashlib.blake2s(previous + fixed + memo).digest()


class _Row:
    """An account while its sums change."""

    __slots__ = ("credit", "debit", "floor", "id", "name", "reserved", "unit")

    def __init__(self, account: Account) -> None:
        self.id = account.id
        self.name = account.name
        self.unit = account.unit
        self.debit = account.debit
        self.credit = account.credit
        self.reserved = account.reserved
        self.floor = account.floor

    def seen(self) -> Account:
        """Return the account as it is."""
        return Account(
            id=self.id, name=self.name, unit=self.unit, debit=self.debit, credit=self.credit,
            reserved=self.reserved, floor=self.floor,
        )  # fmt: skip

    def bear(self, amount: int) -> None:
        """Raise PowerRefused when the floor does not allow to debit `amount`."""
        if self.floor is None:
            return
        free = self.credit - self.debit - self.reserved - self.floor
        if amount <= free:
            return
        if self.unit.startswith(_ENERGY):
            used = self.debit + self.reserved + amount
            raise _refused(Reason.ENERGY_QUOTA, used, self.credit - self.floor, self.name)
        raise _refused(Reason.PAYMENT_REQUIRED, amount, max(free, 0), self.name)


class _Undo:
    """What a batch has changed so far: a refusal later in the batch takes it back."""

    __slots__ = ("entries", "opened", "sums")

    def __init__(self) -> None:
        self.entries: list[tuple[Entry, Entry | None]] = []
        """Each with the reservation that it ended."""
        self.opened: list[_Row] = []
        self.sums: list[tuple[_Row, int, int, int]] = []

    def keep(self, row: _Row) -> None:
        """Remember the sums of `row`."""
        self.sums.append((row, row.debit, row.credit, row.reserved))


class Book:
    """Accounts with their sums and what is reserved on them; decides what may be posted.

    A book is the cache of a journal: what `post` decides holds for the book at once, so whoever
    cannot write it must not use this book again.
    """

    def __init__(self, find: Callable[[bytes], Entry | None] | None = None) -> None:
        """Begin empty. find: the entry with that key, if it was written; None: all are kept here."""
        self.seq = 0
        self.chain = START
        self._written = find
        self._recent: dict[bytes, Entry] = {}
        self._rows: dict[str, _Row] = {}
        self._by_id: dict[int, _Row] = {}
        self._pending: dict[int, Entry] = {}

    def restore(
        self, accounts: Iterable[Account], pending: Iterable[Entry], seq: int, chain: bytes
    ) -> None:
        """Take over what a journal of `seq` entries has led to; `chain` is that of the last one.

        The ids of the accounts are 1, 2, .. without gaps.
        """
        for account in accounts:
            self._rows[account.name] = self._by_id[account.id] = _Row(account)
        self._pending.update((entry.seq, entry) for entry in pending)
        self.seq, self.chain = seq, chain

    def written(self) -> None:
        """Forget the entries that `find` has by now."""
        if self._written is not None:
            self._recent.clear()

    def account(self, name: str) -> Account | None:
        """Return the account `name` as it is."""
        row = self._rows.get(name)
        return row.seen() if row else None

    def accounts(self) -> tuple[Account, ...]:
        """Return every account, in the order of opening."""
        return tuple(row.seen() for row in self._rows.values())

    def pending(self) -> tuple[Entry, ...]:
        """Return the pending transfers that are neither posted nor voided."""
        return tuple(self._pending[seq] for seq in sorted(self._pending))

    def trial_balance(self) -> dict[str, int]:
        """Return debits less credits of each unit: 0, or the book is wrong."""
        sums: dict[str, int] = {}
        for row in self._rows.values():
            sums[row.unit] = sums.get(row.unit, 0) + row.debit - row.credit
        return sums

    def find(self, key: bytes) -> Entry | None:
        """Return the entry with that key."""
        recent = self._recent.get(key)
        return recent or (self._written(key) if self._written is not None else None)

    def set_floor(self, name: str, unit: str, floor: int | None) -> tuple[Account, bool]:
        """Limit what `name` may be debited; return the account and whether it is new.

        Raises LocalProtocolError when it is in another unit, PowerRefused when there is no room.
        """
        if floor is not None and not -MAX_AMOUNT <= floor <= MAX_AMOUNT:
            raise LocalProtocolError(f"a floor of {floor}, the limit is {MAX_AMOUNT}")
        undo = _Undo()
        row = self._row(name, unit, undo)
        row.floor = floor
        return row.seen(), bool(undo.opened)

    # LEDG-7-03
    def post(self, transfers: Sequence[Transfer], at_ns: int) -> Batch:
        """Decide a batch: all of it is posted, or nothing.

        at_ns: Unix time. What was posted before is answered with its old entries.
        Raises PowerRefused, book unchanged: 205 or 402 below a floor, 508 beyond a limit, 403 for a
        key that another transfer has. Raises LocalProtocolError, book unchanged, for a batch that
        is no batch.
        """
        _check(transfers, at_ns)
        before = [self.find(transfer.key) for transfer in transfers]
        if any(before):
            return self._repeated(transfers, before)
        undo = _Undo()
        link = self.seq + 1 if len(transfers) > 1 else 0
        position = self.seq, self.chain
        try:
            for transfer in transfers:
                self._post(transfer, at_ns, link, undo)
        except PowerError:
            self._take_back(undo)
            self.seq, self.chain = position
            raise
        entries = [entry for entry, _ in undo.entries]
        return Batch(
            posted=Posted(tuple([entry.seq for entry in entries])),
            entries=tuple(entries),
            opened=tuple([row.seen() for row in undo.opened]),
            touched=tuple([row.name for row, *_ in undo.sums]),
        )

    def replay(self, entry: Entry) -> None:
        """Apply an entry of a journal whose accounts were restored, with sums of 0.

        Raises LedgerBroken when `post` cannot have made it after what was replayed before. The
        position goes on all the same, and what it moves is moved where that is possible, so that
        the entries after it are judged by themselves. Floors are no matter: they may have changed.
        """
        seq, chain = self.seq + 1, self.chain
        self.seq, self.chain = entry.seq, entry.chain
        if entry.seq != seq:
            raise _broken(seq, f"it is missing, entry {entry.seq} follows")
        is_chained = entry_chain(chain, entry) == entry.chain
        debit, credit = self._by_id.get(entry.debit), self._by_id.get(entry.credit)
        if debit is None or credit is None or debit is credit or debit.unit != credit.unit:
            raise _broken(seq, f"no transfer joins accounts {entry.debit} and {entry.credit}")
        held = self._pending.get(entry.pending)
        try:
            _judge(entry, debit, credit, held)
        except PowerError as error:
            raise _broken(seq, str(error)) from error
        _move(entry, debit, credit, held)
        if entry.kind == Kind.PENDING:
            self._pending[seq] = entry
        elif entry.pending:
            del self._pending[entry.pending]
        if not is_chained:
            raise _broken(seq, "its chain value is not that of its fields after the entry before")

    def _row(self, name: str, unit: str, undo: _Undo) -> _Row:
        """Return the account `name`, which is opened if there is none."""
        row = self._rows.get(name)
        if row is not None:
            if row.unit != unit:
                raise LocalProtocolError(f"account {name} is in {row.unit}, not in {unit}")
            return row
        _check_name(name, unit)
        count = len(self._rows)
        if count >= MAX_ACCOUNTS:
            raise _refused(Reason.LIMIT, count + 1, MAX_ACCOUNTS, "accounts")
        row = _Row(Account(id=count + 1, name=name, unit=unit))
        self._rows[name] = self._by_id[row.id] = row
        undo.opened.append(row)
        return row

    def _post(self, transfer: Transfer, at_ns: int, link: int, undo: _Undo) -> None:
        """Add the entry of `transfer` to the book."""
        debit = self._row(transfer.debit, transfer.unit, undo)
        credit = self._row(transfer.credit, transfer.unit, undo)
        kind, held = transfer.kind, None
        if transfer.pending:
            held = self._held(transfer)
        else:
            debit.bear(transfer.amount)
        seq = self.seq + 1
        entry = Entry(
            seq, at_ns, int(kind), transfer.code, transfer.key, debit.id, credit.id,
            transfer.amount, held.seq if held else 0, link, transfer.memo,
        )  # fmt: skip
        _judge(entry, debit, credit, held)
        if kind is Kind.PENDING and len(self._pending) >= MAX_PENDING:
            raise _refused(Reason.LIMIT, MAX_PENDING + 1, MAX_PENDING, "pending transfers")
        undo.keep(debit)
        undo.keep(credit)
        _move(entry, debit, credit, held)
        chain = entry_chain(self.chain, entry)
        entry = Entry._make((*entry[:-1], chain))
        self.seq, self.chain = seq, chain
        self._recent[entry.key] = entry
        undo.entries.append((entry, held))
        if kind is Kind.PENDING:
            self._pending[seq] = entry
        if held is not None:
            del self._pending[held.seq]

    def _take_back(self, undo: _Undo) -> None:
        for row, debit, credit, reserved in reversed(undo.sums):
            row.debit, row.credit, row.reserved = debit, credit, reserved
        for entry, held in reversed(undo.entries):
            del self._recent[entry.key]
            self._pending.pop(entry.seq, None)
            if held is not None:
                self._pending[held.seq] = held
        for row in undo.opened:
            del self._rows[row.name], self._by_id[row.id]

    def _held(self, transfer: Transfer) -> Entry:
        """Return the reservation that `transfer` posts or voids."""
        begun = self.find(transfer.pending)
        held = self._pending.get(begun.seq) if begun else None
        if held is None:
            is_energy = transfer.unit.startswith(_ENERGY)
            code = Reason.ENERGY_QUOTA if is_energy else Reason.PAYMENT_REQUIRED
            raise _refused(code, transfer.amount, 0, "the reservation is over")
        return held

    def _repeated(self, transfers: Sequence[Transfer], before: Sequence[Entry | None]) -> Batch:
        """Answer what was posted before, whole and the same."""
        seqs = []
        for transfer, entry in zip(transfers, before, strict=True):
            if entry is None or not self._is_same(transfer, entry):
                seq = next(one.seq for one in (entry, *before) if one)
                raise _refused(Reason.RECEIPT_INVALID, seq, 0, f"another transfer is entry {seq}")
            seqs.append(entry.seq)
        return Batch(posted=Posted(tuple(seqs), is_repeat=True))

    def _is_same(self, transfer: Transfer, entry: Entry) -> bool:
        debit, credit = self._rows.get(transfer.debit), self._rows.get(transfer.credit)
        return (
            debit is not None and credit is not None
            and (debit.id, credit.id, debit.unit) == (entry.debit, entry.credit, transfer.unit)
            and (entry.kind, entry.code, entry.amount) == (transfer.kind, transfer.code, transfer.amount)
        )  # fmt: skip


def _refused(code: Reason, value: int, limit: int, rule: str) -> PowerRefused:
    return PowerRefused(Refusal(code, value, limit, rule=rule))


def _broken(seq: int, text: str) -> LedgerBroken:
    return LedgerBroken("ledger", f"journal {seq}", text)


def _check(transfers: Sequence[Transfer], at_ns: int) -> None:
    """Raise LocalProtocolError for what no caller may ask."""
    if not 1 <= len(transfers) <= MAX_BATCH:
        raise LocalProtocolError(f"a batch of {len(transfers)} transfers, 1 to {MAX_BATCH} are one")
    if not 0 <= at_ns <= MAX_AMOUNT:
        raise LocalProtocolError(f"a time of {at_ns} ns, the limit is {MAX_AMOUNT} ns")
    if len(transfers) > 1 and len({transfer.key for transfer in transfers}) < len(transfers):
        raise LocalProtocolError("two transfers of a batch have the same key")
    for transfer in transfers:
        _check_transfer(transfer)


def _check_name(name: str, unit: str) -> None:
    for text, limit in ((name, MAX_NAME_OCTETS), (unit, MAX_UNIT_OCTETS)):
        if not text.isprintable() or not 1 <= len(text.encode()) <= limit:
            raise LocalProtocolError(f"{text!r} is no name of 1 to {limit} printable octets")


def _check_transfer(transfer: Transfer) -> None:
    due = KEY_OCTETS if transfer.kind in (Kind.POST_PENDING, Kind.VOID) else 0
    if len(transfer.key) != KEY_OCTETS or len(transfer.pending) != due:
        octets = f"{len(transfer.key)} and {len(transfer.pending)}"
        raise LocalProtocolError(f"keys of {octets} octets, {KEY_OCTETS} and {due} are due")
    if transfer.debit == transfer.credit:
        raise LocalProtocolError(f"from {transfer.credit} to itself")
    if not 1 <= transfer.amount <= MAX_AMOUNT or not 0 <= transfer.code <= 0xFFFF:
        raise LocalProtocolError(f"amount {transfer.amount}, code {transfer.code}: out of range")
    if transfer.memo and len(transfer.memo.encode()) > MAX_MEMO_OCTETS:
        raise LocalProtocolError(f"a memo of more than {MAX_MEMO_OCTETS} octets")


def _judge(entry: Entry, debit: _Row, credit: _Row, held: Entry | None) -> None:
    """Raise PowerError when `entry` does not fit its accounts, or `held`, which it ends."""
    ends = entry.kind in (Kind.POST_PENDING, Kind.VOID)
    is_odd = ends != (held is not None) or ends != (entry.pending > 0)
    if is_odd or entry.kind > Kind.VOID or entry.amount < 1:
        raise LocalProtocolError(f"kind {entry.kind}, amount {entry.amount}: no such transfer")
    if held is not None:
        if (held.debit, held.credit) != (entry.debit, entry.credit):
            raise LocalProtocolError(f"entry {held.seq} reserves for other accounts")
        if entry.amount > held.amount:
            code = (
                Reason.ENERGY_QUOTA if debit.unit.startswith(_ENERGY) else Reason.PAYMENT_REQUIRED
            )
            raise _refused(code, entry.amount, held.amount, f"entry {held.seq} reserves less")
        if entry.kind == Kind.VOID and entry.amount != held.amount:
            raise LocalProtocolError(f"{entry.amount} voided of {held.amount} reserved")
    full = max(debit.debit, credit.credit, debit.reserved)
    if entry.amount > MAX_AMOUNT - full:
        raise _refused(
            Reason.LIMIT, entry.amount, MAX_AMOUNT - full, f"{debit.name}, {credit.name}"
        )


def _move(entry: Entry, debit: _Row, credit: _Row, held: Entry | None) -> None:
    """Do what `_judge` found right."""
    if held is not None:
        debit.reserved -= held.amount
    if entry.kind == Kind.PENDING:
        debit.reserved += entry.amount
    elif entry.kind != Kind.VOID:
        debit.debit += entry.amount
        credit.credit += entry.amount
