"""Energy that each address may have in all: reserved in the ledger before it is delivered.

A flow has reserved what two pages of it can state, so that flows of one address share what is left.
What both sign is posted out of the reservation and the next one is made in the same commit; the end
of the flow gives the rest back. LEDG-7-05.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import trio

from powertcp.drivers.ledger import Ledger
from powertcp.drivers.session import FlowRecord
from powertcp.errors import PowerRefused
from powertcp.ledger import MAX_AMOUNT, Code, Flags, Kind, Page, Side, Transfer, transfer_key
from powertcp.registry import Reason, Refusal
from powertcp.store import PageState
from powertcp.wire.options import Meter

PAGES = 2  # that a flow has reserved at a time
LEAST_S = 4  # of its power, whatever a page holds: pages are a second apart and take a way back
QUOTA_PAGES = 16  # at least, in a quota: eight flows have two each
LOOK_S = 1.0  # how late a flow without a rest is closed
ENERGY = "uJ"
_log = logging.getLogger("ledger")


class Allowance:
    """What one flow has reserved. is_last: nothing more can be reserved."""

    __slots__ = ("held", "is_last", "meter", "name", "number", "seed", "source")

    def __init__(self, seed: bytes, name: str, source: str, meter: Meter) -> None:
        """Reserve on account `name` what `source` gives; seed: 32 octets that name the flow.

        Its pages are due as `meter` says, or more often.
        """
        self.seed = seed
        self.name = name
        self.source = source
        self.meter = meter
        self.held: Transfer | None = None
        self.number = 0
        self.is_last = False

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
        )


class Holder(Protocol):
    """A flow and what it has reserved."""

    record: FlowRecord
    allowance: Allowance | None


class Allowances:
    """The limit of every address, and the reservations of its flows.

    on_spent: told of a flow that has delivered all it may. quota_uj: what each address may have in
    all, None: no limit. exempt: accounts that some flow without a reservation is posted on: the
    ledger takes all of that.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Limit nobody."""
        self.on_spent: Callable[[FlowRecord, Refusal], None] = _ignore
        self.quota_uj: int | None = None
        self.exempt: frozenset[str] = frozenset()
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

    def refusal(self, host: str) -> Refusal | None:
        """Return why an address gets nothing more, None: something is left."""
        used_uj = self._used_uj(f"sink:{host}")
        if self.quota_uj is None or used_uj < self.quota_uj:
            return None
        return Refusal(Reason.ENERGY_QUOTA, used_uj, self.quota_uj)

    def _used_uj(self, name: str) -> int:
        account = self._ledger.account(name)
        return account.debit - account.credit + account.reserved if account else 0

    def _free_uj(self, name: str) -> int:
        """Return what may be reserved by the quota, and by the floor that the account has."""
        account = self._ledger.account(name)
        by_floor = account.free if account else None
        free_uj = MAX_AMOUNT if by_floor is None else by_floor
        if self.quota_uj is not None:
            free_uj = min(free_uj, self.quota_uj - self._used_uj(name))
        return max(0, free_uj)

    def _floor(self, name: str) -> int | None:
        """Return the floor of an account: not above what was reserved under a larger quota."""
        if self.quota_uj is None or name in self.exempt:
            return None
        return -max(self.quota_uj, self._used_uj(name))

    # LEDG-7-05
    async def begin(self, allowance: Allowance, record: FlowRecord) -> None:
        """Power flows: reserve for it; until that is on the disk nothing is delivered."""
        await self._ledger.set_floor(allowance.name, ENERGY, self._floor(allowance.name))
        await self._reserve(allowance, record, 0)

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
        await self.widen(allowance, book.record)

    async def _reserve(self, allowance: Allowance, record: FlowRecord, start_uj: int) -> None:
        amount_uj = min(self._free_uj(allowance.name), self._most_uj(allowance, record))
        if amount_uj > 0:
            transfer = allowance.reservation(amount_uj)
            with suppress(PowerRefused):
                await self._ledger.post(transfer)
                self._hold(allowance, record, transfer, start_uj)
                return
        self._spent(allowance, record)

    # LEDG-7-05
    async def widen(self, allowance: Allowance, record: FlowRecord) -> None:
        """Reserve more for a flow whose terms changed, if they take more than it has reserved."""
        held = allowance.held
        if held is None:
            return
        free_uj = self._free_uj(allowance.name)
        amount_uj = min(held.amount + free_uj, self._most_uj(allowance, record))
        if amount_uj <= held.amount:
            return
        key = transfer_key(allowance.seed, allowance.number, "widen", held.debit, held.credit)
        freed = replace(held, key=key, kind=Kind.VOID, pending=held.key)
        again = allowance.reservation(amount_uj)
        # another flow may take what is free meanwhile: then this one keeps what it has
        with suppress(PowerRefused):
            await self._ledger.post(freed, again)
            start_uj = (record.allowed_uj or 0) - held.amount
            self._hold(allowance, record, again, start_uj)

    async def post(
        self, allowance: Allowance, record: FlowRecord, page: Page, transfers: tuple[Transfer, ...]
    ) -> None:
        """Post a page that both have signed out of what is reserved, and reserve again."""
        held, is_final = allowance.held, Flags.FINAL in page.flags
        if held is None or not page.energy_uj:
            await self._store(page, transfers)
            return
        energy, *money = transfers
        taken = replace(energy, kind=Kind.POST_PENDING, pending=held.key)
        rest_uj = held.amount - page.energy_uj
        wanted_uj = min(self._free_uj(allowance.name) + rest_uj, self._most_uj(allowance, record))
        # another flow may take what is free meanwhile; what this one holds stays its own: it has
        # delivered some of that since the page
        for amount_uj in () if is_final else dict.fromkeys((wanted_uj, rest_uj)):
            if amount_uj <= 0:
                continue
            again = allowance.reservation(amount_uj)
            with suppress(PowerRefused):
                await self._store(page, (taken, *money, again))
                self._hold(allowance, record, again, page.end_uj)
                return
        try:
            await self._store(page, (taken, *money))
        except PowerRefused:
            # the reservation of a flow that stood still was given back: what is signed is posted
            await self._store(page, transfers)
        allowance.held = None
        if not is_final:
            await self._reserve(allowance, record, page.end_uj)

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

    def _hold(
        self, allowance: Allowance, record: FlowRecord, transfer: Transfer, start_uj: int
    ) -> None:
        allowance.held = transfer
        allowance.number += 1
        allowance.is_last = transfer.amount < self._most_uj(allowance, record)
        record.allowed_uj = start_uj + transfer.amount
        record.blocked = False

    async def keep(self, books: Iterable[Holder]) -> None:
        """Look each second who has had all there is, and keep what the others hold; never returns."""
        while True:
            await trio.sleep_until(trio.current_time() + LOOK_S)
            for book in tuple(books):
                allowance = book.allowance
                if allowance is not None and allowance.held is not None:
                    # a flow that lives may still deliver it
                    self._ledger.renew(allowance.held)
                if allowance is not None and allowance.is_last and book.record.blocked:
                    self._spent(allowance, book.record)

    def _spent(self, allowance: Allowance, record: FlowRecord) -> None:
        allowance.is_last = True
        refusal = self.refusal(allowance.name.partition(":")[2])
        self.on_spent(record, refusal or Refusal(Reason.ENERGY_QUOTA, 0, self.quota_uj or 0))


def _ignore(record: FlowRecord, refusal: Refusal) -> None:
    """Nobody wants to know."""
    _log.info("%s: %s", record.name, refusal.sentence())
