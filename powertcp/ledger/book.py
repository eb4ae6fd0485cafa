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
_MEMO = 10  # the fields of an entry before its memo


class Kind(IntEnum):
    """What an entry does to its accounts."""

    POST = 0
    PENDING = 1
    POST_PENDING = 2
    VOID = 3


# plain numbers: asked for several times in each posting
_PENDING, _VOID = int(Kind.PENDING), int(Kind.VOID)
_ENDS = (int(Kind.POST_PENDING), _VOID)


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


class Account(NamedTuple):
    """One account and its sums, in its unit; a tuple, as each posting makes two."""

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


class Posted(NamedTuple):
    """A batch that is in the journal."""

    seqs: tuple[int, ...]
    """Its entries, in the order of the transfers."""
    is_repeat: bool = False
    """Whether it was there before."""


class Batch(NamedTuple):
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
    return _chained(previous, entry[:_MEMO], entry.memo)


def _chained(previous: bytes, fixed: tuple[int | bytes | str, ...], memo: str) -> bytes:
    octets = memo.encode()
    return hashlib.blake2s(previous + _FIXED.pack(*fixed, len(octets)) + octets).digest()


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
            self.id, self.name, self.unit, self.debit, self.credit, self.reserved, self.floor
        )

    def bear(self, amount: int, floor: int) -> None:
        """Raise PowerRefused when `floor`, which is its own, does not allow to debit `amount`."""
        free = self.credit - self.debit - self.reserved - floor
        if amount <= free:
            return
        if self.unit.startswith(_ENERGY):
            used = self.debit + self.reserved + amount
            raise _refused(Reason.ENERGY_QUOTA, used, self.credit - floor, self.name)
        raise _refused(Reason.PAYMENT_REQUIRED, amount, max(free, 0), self.name)


# an entry that a batch has added, the reservation that it ended, and its two accounts
_Step = tuple[Entry, Entry | None, _Row, _Row]


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
        if recent is not None or self._written is None:
            return recent
        return self._written(key)

    def set_floor(self, name: str, unit: str, floor: int | None) -> tuple[Account, bool]:
        """Limit what `name` may be debited; return the account and whether it is new.

        Raises LocalProtocolError when it is in another unit, PowerRefused when there is no room.
        """
        if floor is not None and not -MAX_AMOUNT <= floor <= MAX_AMOUNT:
            raise LocalProtocolError(f"a floor of {floor}, the limit is {MAX_AMOUNT}")
        opened: list[_Row] = []
        row = self._row(name, unit, opened)
        row.floor = floor
        return row.seen(), bool(opened)

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
        steps: list[_Step] = []
        opened: list[_Row] = []
        link = self.seq + 1 if len(transfers) > 1 else 0
        position = self.seq, self.chain
        try:
            for transfer in transfers:
                self._post(transfer, at_ns, link, opened, steps)
        except PowerError:
            self._take_back(steps, opened)
            self.seq, self.chain = position
            raise
        seqs: list[int] = []
        entries: list[Entry] = []
        touched: list[str] = []
        for entry, _, debit, credit in steps:
            seqs.append(entry.seq)
            entries.append(entry)
            touched += (debit.name, credit.name)
        new = tuple([row.seen() for row in opened]) if opened else ()
        return Batch(Posted(tuple(seqs)), tuple(entries), new, tuple(touched))

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
        if entry.kind == _PENDING:
            self._pending[seq] = entry
        elif entry.pending:
            del self._pending[entry.pending]
        if not is_chained:
            raise _broken(seq, "its chain value is not that of its fields after the entry before")

    def _row(self, name: str, unit: str, opened: list[_Row]) -> _Row:
        """Return the account `name`; if there is none, open it and add it to `opened`."""
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
        opened.append(row)
        return row

    def _post(
        self, transfer: Transfer, at_ns: int, link: int, opened: list[_Row], steps: list[_Step]
    ) -> None:
        """Add the entry of `transfer`; refused, it has opened accounts at most."""
        unit, amount, memo = transfer.unit, transfer.amount, transfer.memo
        debit = self._row(transfer.debit, unit, opened)
        credit = self._row(transfer.credit, unit, opened)
        kind, held = int(transfer.kind), None
        if transfer.pending:
            held = self._held(transfer)
        elif debit.floor is not None:
            debit.bear(amount, debit.floor)
        seq, pending = self.seq + 1, held.seq if held else 0
        fixed = (
            seq, at_ns, kind, int(transfer.code), transfer.key, debit.id, credit.id, amount,
            pending, link,
        )  # fmt: skip
        entry = Entry(*fixed, memo, _chained(self.chain, fixed, memo))
        _judge(entry, debit, credit, held)
        if kind == _PENDING and len(self._pending) >= MAX_PENDING:
            raise _refused(Reason.LIMIT, MAX_PENDING + 1, MAX_PENDING, "pending transfers")
        _move(entry, debit, credit, held)
        self.seq, self.chain = seq, entry.chain
        self._recent[entry.key] = entry
        if kind == _PENDING:
            self._pending[seq] = entry
        if held is not None:
            del self._pending[held.seq]
        steps.append((entry, held, debit, credit))

    def _take_back(self, steps: Sequence[_Step], opened: Sequence[_Row]) -> None:
        for entry, held, debit, credit in reversed(steps):
            _move(entry, debit, credit, held, -1)
            del self._recent[entry.key]
            self._pending.pop(entry.seq, None)
            if held is not None:
                self._pending[held.seq] = held
        for row in opened:
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
    due = KEY_OCTETS if transfer.kind in _ENDS else 0
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
    ends = entry.kind in _ENDS
    is_odd = ends != (held is not None) or ends != (entry.pending > 0)
    if is_odd or entry.kind > _VOID or entry.amount < 1:
        raise LocalProtocolError(f"kind {entry.kind}, amount {entry.amount}: no such transfer")
    if held is not None:
        if (held.debit, held.credit) != (entry.debit, entry.credit):
            raise LocalProtocolError(f"entry {held.seq} reserves for other accounts")
        if entry.amount > held.amount:
            code = (
                Reason.ENERGY_QUOTA if debit.unit.startswith(_ENERGY) else Reason.PAYMENT_REQUIRED
            )
            raise _refused(code, entry.amount, held.amount, f"entry {held.seq} reserves less")
        if entry.kind == _VOID and entry.amount != held.amount:
            raise LocalProtocolError(f"{entry.amount} voided of {held.amount} reserved")
    full = max(debit.debit, credit.credit, debit.reserved)
    if entry.amount > MAX_AMOUNT - full:
        raise _refused(
            Reason.LIMIT, entry.amount, MAX_AMOUNT - full, f"{debit.name}, {credit.name}"
        )


def _move(entry: Entry, debit: _Row, credit: _Row, held: Entry | None, times: int = 1) -> None:
    """Do what `_judge` found right, or with `times` -1 take it back."""
    amount = entry.amount * times
    if held is not None:
        debit.reserved -= held.amount * times
    if entry.kind == _PENDING:
        debit.reserved += amount
    elif entry.kind != _VOID:
        debit.debit += amount
        credit.credit += amount
