"""Double entry: what is decided here, in memory, becomes entries of a chain, all or nothing.

Every transfer debits one account and credits another of the same unit, in integers, so each unit
sums to zero at any moment. Balance means credit less debit.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
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
