"""Energy that each address may have in all: reserved in the ledger before it is delivered.

A flow has reserved what two pages of it can state, so that flows of one address share what is left.
What both sign is posted out of the reservation and the next one is made in the same commit; the end
of the flow gives the rest back. LEDG-7-05.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from powertcp.drivers.ledger import Ledger
from powertcp.drivers.postings import Job
from powertcp.drivers.session import FlowRecord
from powertcp.errors import PowerRefused
from powertcp.ledger import (
    MAX_AMOUNT,
    Code,
    Flags,
    Kind,
    Page,
    Side,
    Transfer,
    transfer_key,
)
from powertcp.registry import Reason, Refusal
from powertcp.store import PageState
from powertcp.wire.options import Meter

if TYPE_CHECKING:
    from powertcp.drivers.windows import Windows

PAGES = 2  # that a flow has reserved at a time
LEAST_S = 4  # of its power, whatever a page holds: pages are a second apart and take a way back
QUOTA_PAGES = 16  # at least, in a quota: eight flows have two each
LOOK_S = 1.0  # how late a flow without a rest is closed
ENERGY = "uJ"
_log = logging.getLogger("ledger")


class Allowance:
    """What one flow has reserved.

    is_last: less than it may have, as no more was left. is_spent: it ends for want of more.
    """

    __slots__ = ("held", "is_last", "is_spent", "meter", "name", "number", "seed", "source", "who")

    def __init__(self, seed: bytes, name: str, source: str, meter: Meter, who: str = "") -> None:
        """Reserve on account `name` what `source` gives; seed: 32 octets that name the flow.

        Its pages are due as `meter` says, or more often. who: draws, for the memo.
        """
        self.who = who
        self.seed = seed
        self.name = name
        self.source = source
        self.meter = meter
        self.held: Transfer | None = None
        self.number = 0
        self.is_last = self.is_spent = False

    def reservation(self, amount_uj: int) -> Transfer:
        """Return the transfer that reserves `amount_uj` next."""
        key = transfer_key(self.seed, self.number, "reserve", self.name, self.source)
        return Transfer(
            key=key,
            debit=self.name,
            credit=self.source,
            unit=ENERGY,
            amount=amount_uj,
            code=Code.RESERVE,
            kind=Kind.PENDING,
            memo=self.who,
        )


class Holder(Protocol):
    """A flow and what it has reserved.

    record: as it is now, a ticket may move it meanwhile. is_draining: something of it is being
    written.
    """

    record: FlowRecord
    allowance: Allowance | None
    is_draining: bool


H = TypeVar("H", bound=Holder)


class Allowances:
    """The limit of every address, and the reservations of its flows.

    on_spent: told of a flow that has delivered all it may. on_wait: told of one that waits for the
    next window of its quota, and, with None, that it need not any more. quota_uj: what each address may have in
    all, None: no limit. windows: what identities may have in an hour, day or month. exempt: accounts that flows without a reservation are posted on, with their
    number: the ledger takes all of that, so that nothing but taking turns keeps others to the quota.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Limit nobody."""
        self.on_spent: Callable[[FlowRecord, Refusal], None] = _ignore
        self.on_wait: Callable[[FlowRecord, Refusal | None], None] = _ignore
        self.quota_uj: int | None = None
        self.windows: Windows | None = None
        self.exempt: Counter[str] = Counter()
        self._turns: dict[str, trio.Lock] = {}
        self._ledger = ledger

    # LEDG-7-05
    def _most_uj(self, allowance: Allowance, record: FlowRecord) -> int:
        """Return what two pages of a flow can state: their energy, or its power in their time."""
        meter = allowance.meter
        most_uj = PAGES * meter.receipt_uj
        if record.profile is None:
            return most_uj
        second_uj = record.profile.power_mw * 1000
        return max(LEAST_S * second_uj, min(most_uj, PAGES * meter.receipt_s * second_uj))

    def refusal(self, record: FlowRecord) -> Refusal | None:
        """Return why whom a flow is for gets nothing more, None: something is left."""
        name, windows = f"sink:{record.party}", self.windows
        if windows is not None and (refusal := windows.refusal(name, record.rights)) is not None:
            return refusal
        return self._refusal(name)

    def _refusal(self, name: str) -> Refusal | None:
        """Return why an account gets nothing more by the quota of every address."""
        used_uj = self._used_uj(name)
        if self.quota_uj is None or used_uj < self.quota_uj:
            return None
        return Refusal(Reason.ENERGY_QUOTA, used_uj, self.quota_uj)

    def limit_uj(self, name: str, record: FlowRecord) -> int | None:
        """Return what an account may have had in all by now for a flow of it, None: no limit."""
        return self._least(self.windows.most_uj(name, record.rights) if self.windows else None)

    def _account_limit_uj(self, name: str) -> int | None:
        """Return the same for all flows of an account: what the one that may have most has."""
        return self._least(self.windows.account_most_uj(name) if self.windows else None)

    def _least(self, most_uj: int | None) -> int | None:
        limits = [uj for uj in (self.quota_uj, most_uj) if uj is not None]
        return min(limits, default=None)

    def _used_uj(self, name: str) -> int:
        account = self._ledger.account(name)
        return account.debit - account.credit + account.reserved if account else 0

    def _free_uj(self, name: str, record: FlowRecord) -> int:
        """Return what may be reserved by the quota, and by the floor that the account has."""
        account = self._ledger.account(name)
        by_floor = account.free if account else None
        free_uj = MAX_AMOUNT if by_floor is None else by_floor
        if (limit_uj := self.limit_uj(name, record)) is not None:
            free_uj = min(free_uj, limit_uj - self._used_uj(name))
        return max(0, free_uj)

    def _floor(self, name: str) -> int | None:
        """Return the floor of an account: not above what was reserved under a larger quota."""
        limit_uj = self._account_limit_uj(name)
        if limit_uj is None or name in self.exempt:
            return None
        return -max(limit_uj, self._used_uj(name))

    def _turn(self, name: str) -> AbstractAsyncContextManager[None]:
        """Let who reserves see what others before it reserved, where the floor is not its own."""
        is_mixed = self.windows is not None and self.windows.is_mixed(name)
        if name not in self.exempt and not is_mixed:
            return nullcontext()
        return self._turns.setdefault(name, trio.Lock())

    # LEDG-7-05
    async def included(self, name: str) -> None:
        """A flow that account `name` was exempt for is over; after the last one it has a floor."""
        self.exempt[name] -= 1
        if self.exempt[name] > 0:
            return
        del self.exempt[name]
        if name in self._turns and not self._turns[name].locked():
            del self._turns[name]
        if self._account_limit_uj(name) is not None and self._ledger.account(name) is not None:
            await self._ledger.set_floor(name, ENERGY, self._floor(name))

    # LEDG-7-05
    async def begin(self, book: Holder, start_uj: int = 0) -> None:
        """Power flows: reserve for it; until that is on the disk nothing is delivered.

        start_uj: ESN up to which it is posted already.
        """
        allowance = book.allowance
        if allowance is None or allowance.held is not None:
            return
        async with self._turn(allowance.name):
            await self._ledger.set_floor(allowance.name, ENERGY, self._floor(allowance.name))
            await self._reserve(book, allowance, start_uj)

    # LEDG-7-05
    async def revise(self, book: Holder) -> None:
        """The quota is another one: a flow keeps what it has reserved, and has more of a larger."""
        allowance = book.allowance
        if allowance is None:
            return
        account, floor = self._ledger.account(allowance.name), self._floor(allowance.name)
        lowest = account.floor if account else None
        if lowest is not None and (floor is None or floor < lowest):
            await self._ledger.set_floor(allowance.name, ENERGY, floor)
        async with self._turn(allowance.name):
            if allowance.held is None and allowance.is_last:
                await self._reserve(book, allowance, book.record.allowed_uj or 0)
            else:
                await self._widen(book, allowance)

    async def _reserve(self, book: Holder, allowance: Allowance, start_uj: int) -> None:
        before_uj, amount_uj = MAX_AMOUNT + 1, self._next_uj(book, allowance)
        # less again, if another flow took of it meanwhile
        while 0 < amount_uj < before_uj:
            transfer = allowance.reservation(amount_uj)
            with suppress(PowerRefused):
                posted = await self._ledger.post(transfer)
                # what was reserved before is not there for this flow
                if not posted.is_repeat:
                    self._hold(book, allowance, transfer, start_uj)
                    return
            before_uj, amount_uj = amount_uj, self._next_uj(book, allowance)
        book.record.allowed_uj = start_uj
        self._spent(book, allowance)

    def _next_uj(self, book: Holder, allowance: Allowance, own_uj: int = 0) -> int:
        """Return what a flow may reserve that gives `own_uj` back for it."""
        free_uj = self._free_uj(allowance.name, book.record) + own_uj
        return min(free_uj, self._most_uj(allowance, book.record))

    # LEDG-7-05
    async def widen(self, book: Holder) -> None:
        """Reserve more for a flow whose terms changed, if they take more than it has reserved."""
        allowance = book.allowance
        if allowance is not None:
            async with self._turn(allowance.name):
                await self._widen(book, allowance)

    async def _widen(self, book: Holder, allowance: Allowance) -> bool:
        """Reserve more for a flow that has some; return whether there was more."""
        held = allowance.held
        if held is None:
            return False
        amount_uj = self._next_uj(book, allowance, held.amount)
        if amount_uj <= held.amount:
            return False
        key = transfer_key(allowance.seed, allowance.number, "widen", held.debit, held.credit)
        freed = replace(held, key=key, kind=Kind.VOID, pending=held.key)
        again = allowance.reservation(amount_uj)
        # another flow may take what is free meanwhile: then this one keeps what it has
        with suppress(PowerRefused):
            posted = await self._ledger.post(freed, again)
            if not posted.is_repeat:
                start_uj = (book.record.allowed_uj or 0) - held.amount
                self._hold(book, allowance, again, start_uj)
                return True
        return False

    # LEDG-7-05
    async def post(self, book: Holder, page: Page, transfers: tuple[Transfer, ...]) -> None:
        """Post a page that both have signed out of what is reserved, and reserve again."""
        allowance = book.allowance
        if allowance is None or not page.energy_uj:
            await self._store(page, transfers)
            return
        async with self._turn(allowance.name):
            if Flags.FINAL in page.flags or not await self._post_on(
                book, allowance, page, transfers
            ):
                await self._post_last(allowance, page, transfers)
                if Flags.FINAL not in page.flags:
                    await self._reserve(book, allowance, page.end_uj)

    async def _post_on(
        self, book: Holder, allowance: Allowance, page: Page, transfers: tuple[Transfer, ...]
    ) -> bool:
        """Post a page and reserve again in the same commit; return whether that was possible."""
        held = allowance.held
        if held is None:
            return False
        energy, *money = transfers
        taken = replace(energy, kind=Kind.POST_PENDING, pending=held.key)
        rest_uj = held.amount - page.energy_uj
        wanted_uj = self._next_uj(book, allowance, rest_uj)
        # another flow may take what is free meanwhile; what this one holds stays its own, under
        # terms that take less too: it has delivered some of that since the page
        for amount_uj in dict.fromkeys((max(wanted_uj, rest_uj), rest_uj)):
            if amount_uj <= 0:
                continue
            again = allowance.reservation(amount_uj)
            with suppress(PowerRefused):
                await self._store(page, (taken, *money, again))
                self._hold(book, allowance, again, page.end_uj)
                return True
        return False

    async def _post_last(
        self, allowance: Allowance, page: Page, transfers: tuple[Transfer, ...]
    ) -> None:
        """Post a page; nothing is reserved afterwards. What both have signed is always posted."""
        held = allowance.held
        energy, *money = transfers
        batch = transfers
        if held is not None:
            batch = (replace(energy, kind=Kind.POST_PENDING, pending=held.key), *money)
        try:
            await self._store(page, batch)
        except PowerRefused as refused:
            if refused.refusal.code != Reason.ENERGY_QUOTA:
                raise
            await self._post_beyond(allowance, held, page, transfers)
        allowance.held = None

    async def _post_beyond(
        self, allowance: Allowance, held: Transfer | None, page: Page,
        transfers: tuple[Transfer, ...],
    ) -> None:  # fmt: skip
        """Post a page that states more than `held`, or whose reservation was given back."""
        name, batches = allowance.name, [transfers]
        if held is not None:
            key = transfer_key(allowance.seed, allowance.number, "beyond", held.debit, held.credit)
            freed = replace(held, key=key, kind=Kind.VOID, pending=held.key)
            batches.insert(0, (freed, *transfers))
        self.exempt[name] += 1
        await self._ledger.set_floor(name, ENERGY, None)
        refused: PowerRefused | None = None
        for batch in batches:
            try:
                await self._store(page, batch)
            except PowerRefused as error:
                refused = error
            else:
                refused = None
                break
        await self.included(name)
        if refused is not None:
            raise refused

    async def _store(self, page: Page, transfers: tuple[Transfer, ...]) -> None:
        state, body = PageState.COUNTERSIGNED, page.to_wire()
        await self._ledger.post_page(
            page.transcript, page.page, Side.SOURCE, body, state, *transfers
        )

    async def end(
        self, allowance: Allowance, unsigned_uj: int = 0, unacknowledged_uj: int = 0
    ) -> None:
        """The flow is over: what it still has reserved is free again, but for what it had of it.

        unsigned_uj: what it verified and signed no page for is posted: who signs nothing has no more
        than others. unacknowledged_uj: what it was sent beyond that stays reserved until it expires.
        """
        held, allowance.held = allowance.held, None
        if held is None:
            return
        key = transfer_key(allowance.seed, allowance.number, "end", held.debit, held.credit)
        freed = replace(held, key=key, kind=Kind.VOID, pending=held.key)
        unsigned_uj = min(unsigned_uj, held.amount)
        if unsigned_uj:
            freed = replace(freed, kind=Kind.POST_PENDING, amount=unsigned_uj, code=Code.UNSIGNED)
        rest_uj = min(unacknowledged_uj, held.amount - unsigned_uj)
        again = (allowance.reservation(rest_uj),) if rest_uj else ()
        await self._ledger.post(freed, *again)

    def _hold(self, book: Holder, allowance: Allowance, transfer: Transfer, start_uj: int) -> None:
        allowance.held = transfer
        allowance.number += 1
        allowance.is_spent = False
        allowance.is_last = transfer.amount < self._most_uj(allowance, book.record)
        book.record.allowed_uj = start_uj + transfer.amount
        book.record.blocked = False

    async def keep(self, books: Iterable[H], put: Callable[[H, Job], None]) -> None:
        """Look each second who has had all there is, and keep what the others hold; never returns.

        put: does a job in the turn of a flow.
        """
        while True:
            await trio.sleep_until(trio.current_time() + LOOK_S)
            for book in tuple(books):
                allowance = book.allowance
                if allowance is None:
                    continue
                if allowance.held is not None:
                    # a flow that lives may still deliver it
                    self._ledger.renew(allowance.held)
                if allowance.is_last and book.record.blocked:
                    if allowance.is_spent:
                        self._spent(book, allowance)
                    elif not book.is_draining:
                        put(book, partial(self._go_on, book, allowance))

    # LEDG-7-05
    async def _go_on(self, book: Holder, allowance: Allowance) -> None:
        """Reserve for a flow that has had all it could: others may have given back since then."""
        held = allowance.held
        if not (allowance.is_last and book.record.blocked):
            return
        async with self._turn(allowance.name):
            if held is None:
                await self._reserve(book, allowance, book.record.allowed_uj or 0)
                return
            if await self._widen(book, allowance):
                return
        # another one that looked in the same second may have left some: there is a next second
        if self._next_uj(book, allowance, held.amount) <= held.amount:
            self._spent(book, allowance)

    def _spent(self, book: Holder, allowance: Allowance) -> None:
        allowance.is_last = allowance.is_spent = True
        name, windows, rights = allowance.name, self.windows, book.record.rights
        refusal = self._refusal(name)
        if refusal is None and windows is not None and windows.most_uj(name, rights) is not None:
            # what is renewed is waited for, and others may give back
            later = windows.refusal(name, rights)
            allowance.is_spent = later is not None
            self.on_wait(book.record, later)
            return
        self.on_spent(book.record, refusal or Refusal(Reason.ENERGY_QUOTA, 0, self.quota_uj or 0))


def _ignore(record: FlowRecord, refusal: Refusal | None) -> None:
    """Nobody wants to know."""
    _log.info("%s: %s", record.name, refusal.sentence() if refusal else "goes on")
