"""Double entry: what is decided here, in memory, becomes entries of a chain, all or nothing.

Every transfer debits one account and credits another of the same unit, in integers, so each unit
sums to zero at any moment. Balance means credit less debit.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from powertcp.errors import LocalProtocolError, PowerError, PowerRefused
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


class LedgerBroken(PowerError):
    """What is written is not what was written: `record` of `file` is where it shows."""

    def __init__(self, file: str, record: str, text: str) -> None:
        super().__init__(f"{file}: {record}: {text}")
        self.file = file
        self.record = record
        self.text = text


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


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the journal."""

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
    touched: tuple[Account, ...] = ()
    """Accounts as they are afterwards."""


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


class _Desk:
    """Where a batch is tried out before the book has it."""

    def __init__(
        self, rows: Mapping[str, _Row], pending: Mapping[int, Entry], seq: int, chain: bytes
    ) -> None:
        self._all_rows = rows
        self._all_pending = pending
        self._seq = seq
        self._chain = chain
        self.rows: dict[str, _Row] = {}
        self.opened: list[_Row] = []
        self.entries: list[Entry] = []
        self.begun: dict[int, Entry] = {}
        self.ended: set[int] = set()

    def row(self, name: str, unit: str) -> _Row:
        """Return a copy of the account `name`, which is opened if there is none."""
        row = self.rows.get(name)
        if row is None:
            known = self._all_rows.get(name)
            row = _Row(known.seen()) if known else self._open(name, unit)
            self.rows[name] = row
        if row.unit != unit:
            raise LocalProtocolError(f"account {name} is in {row.unit}, not in {unit}")
        return row

    def held(self, seq: int) -> Entry | None:
        """Return the pending transfer of entry `seq` unless it is posted or voided."""
        return None if seq in self.ended else self.begun.get(seq) or self._all_pending.get(seq)

    def post(self, transfer: Transfer, held: Entry | None, at_ns: int, link: int) -> None:
        """Add the entry of `transfer`; held: what it posts or voids."""
        debit, credit = (
            self.row(transfer.debit, transfer.unit),
            self.row(transfer.credit, transfer.unit),
        )
        if transfer.kind in (Kind.POST, Kind.PENDING):
            debit.bear(transfer.amount)
        self._seq += 1
        entry = Entry(
            self._seq, at_ns, int(transfer.kind), transfer.code, transfer.key, debit.id, credit.id,
            transfer.amount, held.seq if held else 0, link, transfer.memo,
        )  # fmt: skip
        _judge(entry, debit, credit, held)
        if (
            transfer.kind is Kind.PENDING
            and len(self._all_pending) + len(self.begun) >= MAX_PENDING
        ):
            raise _refused(Reason.LIMIT, MAX_PENDING + 1, MAX_PENDING, "pending transfers")
        _move(entry, debit, credit, held)
        self._chain = entry_chain(self._chain, entry)
        entry = replace(entry, chain=self._chain)
        self.entries.append(entry)
        if transfer.kind is Kind.PENDING:
            self.begun[entry.seq] = entry
        if held is not None:
            self.ended.add(held.seq)

    def _open(self, name: str, unit: str) -> _Row:
        count = len(self._all_rows) + len(self.opened)
        if count >= MAX_ACCOUNTS:
            raise _refused(Reason.LIMIT, count + 1, MAX_ACCOUNTS, "accounts")
        row = _Row(Account(id=count + 1, name=name, unit=unit))
        self.opened.append(row)
        return row


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
        return tuple(self._pending.values())

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
        _check_name(name, unit)
        desk = self._desk()
        row = desk.row(name, unit)
        row.floor = floor
        self._take(desk)
        return row.seen(), bool(desk.opened)

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
        desk = self._desk()
        link = self.seq + 1 if len(transfers) > 1 else 0
        for transfer in transfers:
            desk.post(transfer, self._held(transfer, desk), at_ns, link)
        self._take(desk)
        return Batch(
            posted=Posted(tuple(entry.seq for entry in desk.entries)),
            entries=tuple(desk.entries),
            opened=tuple(row.seen() for row in desk.opened),
            touched=tuple(row.seen() for row in desk.rows.values()),
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

    def _desk(self) -> _Desk:
        return _Desk(self._rows, self._pending, self.seq, self.chain)

    def _take(self, desk: _Desk) -> None:
        self._rows.update(desk.rows)
        self._by_id.update((row.id, row) for row in desk.rows.values())
        self._pending.update(desk.begun)
        for seq in desk.ended:
            del self._pending[seq]
        for entry in desk.entries:
            self._recent[entry.key] = entry
            self.seq, self.chain = entry.seq, entry.chain

    def _held(self, transfer: Transfer, desk: _Desk) -> Entry | None:
        """Return the reservation that `transfer` posts or voids."""
        if not transfer.pending:
            return None
        begun = next((one for one in desk.entries if one.key == transfer.pending), None)
        begun = begun or self.find(transfer.pending)
        held = desk.held(begun.seq) if begun else None
        if held is None:
            code = (
                Reason.ENERGY_QUOTA
                if transfer.unit.startswith(_ENERGY)
                else Reason.PAYMENT_REQUIRED
            )
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
    if len({transfer.key for transfer in transfers}) < len(transfers):
        raise LocalProtocolError("two transfers of a batch have the same key")
    for transfer in transfers:
        _check_name(transfer.debit, transfer.unit)
        _check_name(transfer.credit, transfer.unit)
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
    if len(transfer.memo.encode()) > MAX_MEMO_OCTETS:
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
