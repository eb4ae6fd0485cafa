"""The books of a firewall: where the joules went, each second and at each change of a flow.

What one second brought is committed together. What cannot be written ends all power that passes:
who wants it is told 602. Of more than 64 events within a second the rest is one. FWRL-1-01,
FWRL-1-04, LEDG-7-07.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2s
from itertools import groupby
from operator import attrgetter
from typing import Final

import trio

from powertcp.drivers.ledger import Ledger
from powertcp.drivers.reserves import Reserves
from powertcp.errors import PowerRefused
from powertcp.ledger import Code, Kind, Transfer, transfer_key
from powertcp.ledger.book import MAX_AMOUNT, MAX_BATCH
from powertcp.reclaim.accounts import ENERGY, Posting
from powertcp.registry import Reason, Refusal

# FWRL-1-04
EVENTS_PER_S: Final = 64
# what waits for the disk; who brings more within a second is counted only
WAITING_MAX: Final = 4 * EVENTS_PER_S
_log = logging.getLogger("ledger")


class FirewallBooks:
    """Writes what a firewall has to post, and its audit log.

    take: returns what is to be posted. reserve: what may be delivered before the next time, by
    reservoir. on_failure: called once, when nothing can be written any more. booked_uj, lost_uj: energy that is in the ledger, and that it did not take. unbooked_uj:
    heat and claims beyond what an account holds. written, left_out: events that are in the audit
    log, and that are only counted there.
    """

    def __init__(
        self,
        ledger: Ledger,
        take: Callable[[], Sequence[Posting]],
        unix_ns: Callable[[], int],
        on_failure: Callable[[Refusal], None],
        *,
        node: str = "",
        reserve: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Write to `ledger` once `run` does."""
        self.ledger = ledger
        self.booked_uj = self.lost_uj = self.written = self.left_out = 0
        self._take, self._reserve, self._on_failure = take, reserve, on_failure
        # no other run of a firewall has it, so none has its keys
        said = b"firewall %d %d" % (unix_ns(), os.getpid())
        self._identity = blake2s(said + ledger.meter.public).digest()
        self._reserves = Reserves(ledger, self._identity, node)
        self._page = 0
        self._events: deque[tuple[str, Mapping[str, object]]] = deque()
        self._second, self._of_second, self._more = -1, 0, 0
        self._kick = trio.Event()
        self._is_failed = self._is_beyond = False
        self.unbooked_uj = 0

    @property
    def is_failed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._is_failed or self.ledger.is_read_only

    def fields(self) -> dict[str, object]:
        """Return what a status says of it."""
        return {
            "is_read_only": self.is_failed,
            "booked_uj": self.booked_uj,
            "lost_uj": self.lost_uj,
            "unbooked_uj": self.unbooked_uj,
            "events": self.written,
            "events_left_out": self.left_out,
        }

    # FWRL-1-04
    def note(self, kind: str, facts: Mapping[str, object]) -> None:
        """Write an event to the audit log; after the 64th of a second they are counted."""
        second = int(trio.current_time())
        if second != self._second:
            self._second, self._of_second = second, 0
        self._of_second += 1
        if self._of_second > EVENTS_PER_S or len(self._events) >= WAITING_MAX:
            self._more += 1
        else:
            self._events.append((kind, facts))
        self.kick()

    def kick(self) -> None:
        """Write what there is to write."""
        self._kick.set()

    async def run(self) -> None:
        """Write until cancelled; `finish` writes what is left."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while True:
                await self._kick.wait()
                self._kick = trio.Event()
                # what was taken of the firewall is nowhere else
                with trio.CancelScope(shield=True):
                    await self.write()

    async def finish(self) -> None:
        """Write what is left, once nothing more can come."""
        self._second, self._reserve = -1, dict
        await self.write()

    async def _watch(self) -> None:
        await self.ledger.wait_read_only()
        self._fail("the ledger cannot be written")

    async def write(self) -> None:
        """Post and record what there is; what does not go is lost, and told."""
        postings, events = list(self._fitting(self._take())), self._waiting_events()
        reserves = list(self._reserves.renewed(self._reserve()))
        self._page += 1
        for batch in _batches([self._transfer(one) for one in postings], reserves):
            await self._post(batch)
        # after the joules, and in one transaction: an attack that is told of delays no posting
        for at in range(0, len(events), EVENTS_PER_S):
            if self.is_failed:
                return
            some = events[at : at + EVENTS_PER_S]
            try:
                await self.ledger.record_all(some)
                self.written += len(some)
            except PowerRefused as refused:
                self._fail(str(refused))

    # FWRL-1-04
    def _fitting(self, postings: Sequence[Posting]) -> Iterator[Posting]:
        """Yield what the accounts hold: what an attacker may say or send fills none of them.

        Heat and claims end at half of what an account holds, so that what is banked has room.
        """
        added: Counter[str] = Counter()
        for one in postings:
            is_boundless = one.debit.startswith(("heat:", "claimed:")) and one.code is not Code.LOSS
            most = MAX_AMOUNT // 2 if is_boundless else MAX_AMOUNT
            room = min(
                most - self._turnover(one.debit) - added[one.debit],
                most - self._turnover(one.credit) - added[one.credit],
            )
            amount = max(0, min(one.amount, room))
            if amount < one.amount:
                self.unbooked_uj += one.amount - amount
                if not self._is_beyond:
                    self._is_beyond = True
                    _log.warning("%s, %s: more than a ledger holds", one.debit, one.credit)
            if amount:
                added[one.debit] += amount
                added[one.credit] += amount
                yield one._replace(amount=amount)

    def _turnover(self, name: str) -> int:
        """Return the greater side of an account."""
        account = self.ledger.account(name)
        return max(account.debit, account.credit) if account is not None else 0

    def _waiting_events(self) -> list[tuple[str, Mapping[str, object]]]:
        """Return the events to write; those that are only counted, once their second is over."""
        events = list(self._events)
        self._events.clear()
        if self._more and int(trio.current_time()) != self._second:
            events.append(("firewall more", {"count": self._more}))
            self.left_out += self._more
            self._more = 0
        return events

    async def _post(self, batch: Sequence[Transfer]) -> None:
        booked = (one.amount for one in batch if one.unit == ENERGY and one.kind is Kind.POST)
        energy_uj = sum(booked)
        try:
            if self.is_failed:
                raise PowerRefused(Refusal(Reason.MAINTENANCE))
            await self.ledger.post(*batch)
            self.booked_uj += energy_uj
        except PowerRefused as refused:
            self.lost_uj += energy_uj
            self._fail(str(refused))

    # LEDG-7-04
    def _transfer(self, one: Posting) -> Transfer:
        role = f"firewall {one.code.name.lower()}"
        return Transfer(
            key=transfer_key(self._identity, self._page, role, one.debit, one.credit),
            debit=one.debit,
            credit=one.credit,
            unit=one.unit,
            amount=one.amount,
            code=one.code,
        )

    # FWRL-1-01
    def _fail(self, why: str) -> None:
        if self._is_failed:
            return
        self._is_failed = True
        _log.error("nothing passes any more: %s", why)
        self._on_failure(Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written"))


def _batches(
    postings: Sequence[Transfer], reserves: Sequence[Transfer]
) -> Iterator[list[Transfer]]:
    """Yield what is committed together: all, or as many as may be, but of one peer always all.

    What came in comes first; what was delivered is with what may still be.
    """
    batch: list[Transfer] = []
    by_peer = attrgetter("credit")
    together = [list(found) for _, found in groupby(sorted(postings, key=by_peer), by_peer)]
    for found in [*together, list(reserves)]:
        if batch and len(batch) + len(found) > MAX_BATCH:
            yield batch
            batch = []
        batch += found
        while len(batch) > MAX_BATCH:
            yield batch[:MAX_BATCH]
            batch = batch[MAX_BATCH:]
    if batch:
        yield batch
