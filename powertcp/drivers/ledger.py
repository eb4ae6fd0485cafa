"""The ledger of a daemon: one thread writes it, in groups, and who waits is told after the commit."""

import errno
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from powertcp.crypto import KEY_OCTETS, SigningKey
from powertcp.drivers.daemon import make_private
from powertcp.errors import HostError, PowerRefused, known
from powertcp.ledger import Account, Kind, LedgerBroken, Posted, Transfer, transfer_key
from powertcp.machine import Entropy
from powertcp.registry import Reason, Refusal
from powertcp.store import (
    Answer,
    Event,
    Job,
    LedgerStore,
    PageRow,
    facts_text,
    read_secret,
    write_secret,
)

QUEUE = 1024  # jobs that wait; who comes when it is full waits to be let in
GROUP = 64  # records of one transaction; a larger one makes everybody wait
IN_A_ROW = 8  # groups, before others that want the thread of the store have their turn
HEAD_S = 60.0  # between two signed heads
PENDING_S = 600.0  # uptime after which a reservation is given back: five times what renews it

T = TypeVar("T")


class _Waiting:
    """A job and the task that waits for it."""

    __slots__ = ("answer", "job", "task")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.answer: Answer | None = None
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    def leave(self, _: object) -> trio.lowlevel.Abort:
        """Wait no more; the job is done all the same."""
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def tell(self, answer: Answer) -> None:
        """Let who waits go on; told again, nobody hears it."""
        task, self.task = self.task, None
        if task is not None:
            self.answer = answer
            trio.lowlevel.reschedule(task)


class Ledger:
    """The ledger while it is open; `open_ledger` makes it.

    Cancelled while it waits, a call may have been done or not: the same transfers, page or floor
    given again are done once.
    """

    def __init__(
        self,
        store: LedgerStore,
        meter: SigningKey,
        *,
        unix_ns: Callable[[], int] = time.time_ns,
        head_s: float = HEAD_S,
        pending_s: float = PENDING_S,
    ) -> None:
        """Write `store`, whose reservations begin their interval again. meter: signs heads."""
        self.meter = meter
        self._store = store
        self._unix_ns = unix_ns
        self._head_s = head_s
        self._pending_s = pending_s
        self._queue: deque[_Waiting] = deque()
        self._idle, self._full = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()
        self._is_closed = False
        self._thread = trio.Lock()
        self._given_up = trio.Event()
        self._group: list[_Waiting] = []
        self._done: deque[tuple[list[_Waiting], list[Answer]]] = deque()
        self._held: dict[bytes, tuple[float, Transfer]] = {}
        names = {account.id: account for account in store.accounts()}
        for entry in store.pending():
            debit, credit = names[entry.debit], names[entry.credit]
            self._hold(Transfer(
                key=entry.key, debit=debit.name, credit=credit.name, unit=debit.unit,
                amount=entry.amount, code=entry.code, kind=Kind.PENDING, memo=entry.memo,
            ))  # fmt: skip

    @property
    def is_read_only(self) -> bool:
        """Whether the ledger cannot be written any more: no new contract, METER flows end."""
        return self._store.is_read_only

    @property
    def reserved(self) -> tuple[Transfer, ...]:
        """Pending transfers that are neither posted nor voided, the oldest first."""
        return tuple(transfer for _, transfer in self._held.values())

    async def wait_read_only(self) -> None:
        """Wait until the ledger cannot be written any more."""
        await self._given_up.wait()

    def account(self, name: str) -> Account | None:
        """Return the account as it was committed last."""
        return self._store.account(name)

    def accounts(self) -> tuple[Account, ...]:
        """Return every account as it was committed last."""
        return tuple(self._store.accounts())

    # LEDG-7-06
    async def post(self, *transfers: Transfer) -> Posted:
        """Post transfers, all or nothing; they are on the disk when this returns.

        Raises PowerRefused: 205, 402, 508 or 403 as `Book.post` says, 602 when the ledger is
        read-only. Raises LocalProtocolError for transfers that are none.
        """
        return await self._do(Job(transfers=transfers))

    # LEDG-7-06
    async def post_page(
        self,
        transcript: bytes,
        page: int,
        side: int,
        body: bytes,
        state: int,
        *transfers: Transfer,
    ) -> Posted:
        """Store a page of a receipt and post its transfers, all or nothing; raises as `post`.

        side: which end of the flow we are, 0 source, 1 sink. state: 0 sent, 1 countersigned, 2
        disputed. The same page may come again, and once with the signature that it lacked; any
        other page of that number is refused with 403.
        """
        row = PageRow(transcript, page, side, body, state)
        return await self._do(Job(page=row, transfers=transfers))

    async def record(self, kind: str, facts: Mapping[str, object]) -> None:
        """Add a line to the audit log; raises as `post`."""
        await self.record_all([(kind, facts)])

    async def record_all(self, events: Iterable[tuple[str, Mapping[str, object]]]) -> None:
        """Add lines to the audit log, all or nothing, in this order; raises as `post`."""
        await self.record_and_post(events)

    async def record_and_post(
        self, events: Iterable[tuple[str, Mapping[str, object]]], *transfers: Transfer
    ) -> None:
        """Add lines to the audit log and post transfers, all or nothing; raises as `post`."""
        lines = tuple((kind, facts_text(facts)) for kind, facts in events)
        await self._do(Job(transfers=transfers, events=lines))

    async def read_events(self, take: Callable[[Event], None]) -> None:
        """Let `take` have each line of the audit log, the oldest first, in the store's thread."""

        def read() -> None:
            for event in self._store.events():
                take(event)

        await self._in_thread(read)

    async def set_floor(self, name: str, unit: str, floor: int | None) -> None:
        """Limit what the account `name` may be debited: its balance stays above `floor`."""
        await self._do(Job(floor=(name, unit, floor)))

    async def last_page(self, transcript: bytes, side: int) -> PageRow | None:
        """Return the page of a flow with the highest number: where a resumed flow goes on."""
        return await self._in_thread(lambda: self._store.last_page(transcript, side))

    async def debited(self, since_ns: int) -> dict[str, int]:
        """Return what each account has received less what it gave, from since_ns on."""
        return await self._in_thread(lambda: self._store.debited(since_ns))

    async def write(self) -> None:
        """Commit what comes until `close`; cancelling does not end it before that."""
        with trio.CancelScope(shield=True):
            try:
                while self._queue or not self._is_closed:
                    if self._queue:
                        await self._commit()
                    else:
                        await self._idle.park()
            finally:
                self.close()
                self._tell()
                for waiting in (*self._group, *self._queue):
                    waiting.tell(self._refused())

    async def keep(self) -> None:
        """Sign heads and give back what was reserved too long, until the ledger is read-only."""
        next_head = trio.current_time()
        with suppress(PowerRefused):
            while not self.is_read_only:
                now = trio.current_time()
                if now >= next_head:
                    await self.sign_head()
                    next_head = now + self._head_s
                await self._expire(now)
                first = next(iter(self._held.values()), None)
                await trio.sleep_until(min(next_head, first[0] if first else now + self._pending_s))

    # LEDG-7-05
    def renew(self, transfer: Transfer) -> None:
        """Let what is reserved begin its interval again: whoever it is for still lives."""
        if self._held.pop(transfer.key, None) is not None:
            self._hold(transfer)

    async def sign_head(self) -> None:
        """Sign where the ledger stands. Raises PowerRefused 602 when it is read-only."""
        await self._in_thread(lambda: self._store.sign_head(self.meter, self._now()))

    def close(self) -> None:
        """Take no more jobs; `write` ends when it has done those it has."""
        self._is_closed = True
        self._idle.unpark_all()
        self._full.unpark_all()

    @property
    def _is_over(self) -> bool:
        """Whether no more jobs are taken."""
        return self._is_closed or self.is_read_only

    async def _do(self, job: Job) -> Posted:
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._queue) >= QUEUE and not self._is_over:
            # cancelled after it was let in, it comes in all the same: its job lets the next one in
            await self._full.park()
        if self._is_over:
            raise self._refused()
        waiting = _Waiting(job)
        self._queue.append(waiting)
        if self._idle:
            self._idle.unpark()
        await trio.lowlevel.wait_task_rescheduled(waiting.leave)
        if isinstance(waiting.answer, Posted):
            return waiting.answer
        raise known(waiting.answer, "a job that is done has an answer")

    def _take(self) -> list[_Waiting]:
        """Take what waits, at most a group: a lone job waits for nothing."""
        group = [self._queue.popleft()]
        records = group[0].job.records
        while self._queue:
            records += self._queue[0].job.records
            if records > GROUP:
                break
            group.append(self._queue.popleft())
        return group

    async def _commit(self) -> None:
        """Commit groups of what waits; who waited for one goes on while the next is written."""
        token = trio.lowlevel.current_trio_token()

        def commit() -> None:
            # of the queue, the thread of the store takes and the tasks append
            for _ in range(IN_A_ROW):
                if not self._queue:
                    break
                self._group = self._take()
                answers = self._store.commit([one.job for one in self._group], self._now())
                self._done.append((self._group, answers))
                self._group = []
                token.run_sync_soon(self._tell)

        try:
            await self._in_thread(commit)
        except PowerRefused as refused:
            self._done.append((self._group, [refused] * len(self._group)))
            self._group = []
        self._tell()

    # LEDG-7-06
    def _tell(self) -> None:
        """Tell what came of the jobs that are on the disk."""
        while self._done:
            group, answers = self._done.popleft()
            for waiting, answer in zip(group, answers, strict=True):
                if isinstance(answer, Posted) and not answer.is_repeat:
                    self._note(waiting.job)
                waiting.tell(answer)
            if self._full:
                self._full.unpark(count=len(group))

    # LEDG-7-07
    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Call in the one thread of the store. Raises PowerRefused 602 when the disk refuses."""
        try:
            async with self._thread:
                return await _threaded(call)
        except (HostError, LedgerBroken) as error:
            raise self._refused() from error
        finally:
            if self.is_read_only:
                self._given_up.set()
                # who is refused lets nobody else in
                self._full.unpark_all()

    def _refused(self) -> PowerRefused:
        why = self._store.fault or "the ledger is closed"
        return PowerRefused(Refusal(Reason.MAINTENANCE, rule=str(why)))

    def _now(self) -> int:
        return max(0, self._unix_ns())

    def _note(self, job: Job) -> None:
        """Remember what is reserved from now on, forget what is not."""
        for transfer in job.transfers:
            if transfer.kind is Kind.PENDING:
                self._hold(transfer)
            elif transfer.pending:
                self._held.pop(transfer.pending, None)

    def _hold(self, transfer: Transfer) -> None:
        self._held[transfer.key] = (trio.current_time() + self._pending_s, transfer)

    # LEDG-7-05
    async def _expire(self, now: float) -> None:
        """Void what was reserved an interval of uptime ago, the oldest first."""
        for held in [held for until, held in self._held.values() if until <= now]:
            key = transfer_key(held.key, 0, "expired", held.debit, held.credit)
            void = Transfer(
                key=key, debit=held.debit, credit=held.credit, unit=held.unit, amount=held.amount,
                code=held.code, kind=Kind.VOID, pending=held.key,
            )  # fmt: skip
            self._held.pop(held.key, None)
            with suppress(PowerRefused):
                await self.post(void)


async def _threaded(call: Callable[[], T]) -> T:
    """Return what `call` returns in a thread; cancelled, it waits for that all the same."""
    task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()
    deliver = partial(token.run_sync_soon, trio.lowlevel.reschedule, task)
    trio.lowlevel.start_thread_soon(call, deliver)
    answer: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
    return answer


def meter_key(state: Path, entropy: Entropy) -> SigningKey:
    """Return the key in `meter.key` of `state`; the first call makes it. Raises HostError."""
    path = state / "meter.key"
    seed = read_secret(path, KEY_OCTETS)
    if seed is None:
        seed = entropy(KEY_OCTETS)
        write_secret(path, seed)
    return SigningKey(seed)


def _open(state: Path, entropy: Entropy, seed: bytes | None) -> tuple[SigningKey, LedgerStore]:
    """Open store and key; a key that is new to both may follow another, an altered one may not."""
    path = state / "meter.key"
    # who has its lock makes the key: two that start at once would each make one
    store = LedgerStore(state / "ledger.db")
    try:
        is_new = not path.exists()
        if seed is not None and is_new:
            write_secret(path, seed)
        meter, last = meter_key(state, entropy), store.last_head()
        if seed is not None and meter.public != SigningKey(seed).public:
            said = "sign with the key of a realm: it has one of its own, give another --state-dir"
            raise HostError(errno.EEXIST, str(path), said)
        # LEDG-7-08
        if last is not None and last.key != meter.public and not is_new:
            said = "another key signed it; without the file a new key is made"
            raise LedgerBroken(str(path), f"head {last.number}", said)
    except BaseException:
        store.close()
        raise
    return meter, store


@asynccontextmanager
async def open_ledger(
    state: Path,
    entropy: Entropy,
    *,
    unix_ns: Callable[[], int] = time.time_ns,
    head_s: float = HEAD_S,
    pending_s: float = PENDING_S,
    meter: bytes | None = None,
) -> AsyncIterator[Ledger]:
    """Open the ledger in the folder `state`, which is made; its last head is signed at the end.

    meter: the seed of the key that signs, 32 octets, None: that of the folder.

    Raises HostError when the folder cannot be used or another process has the ledger, LedgerBroken
    when it is not as it was written.
    """
    make_private(state)
    key, store = await trio.to_thread.run_sync(_open, state, entropy, meter)
    ledger = Ledger(store, key, unix_ns=unix_ns, head_s=head_s, pending_s=pending_s)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.write)
            nursery.start_soon(ledger.keep)
            try:
                yield ledger
            finally:
                ledger.close()
                nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True), suppress(PowerRefused):
            await ledger.sign_head()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.close)
