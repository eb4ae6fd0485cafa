"""The books of a policeman: what was agreed and charged, each METER with its energy and money.

A charge, the register it goes up to and the sums it leads to are one transaction: who begins again
charges nothing twice, and leaves nothing out that an edge LSR still meters.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from hashlib import blake2s
from typing import Final, NamedTuple

import trio

from powertcp.drivers.ledger import Ledger
from powertcp.drivers.pdp_lines import Facts, Kept, facts_of
from powertcp.errors import PowerRefused
from powertcp.ledger import Code, Transfer, transfer_key
from powertcp.mplamps.blotter import CircuitMetered, PolicemanEvent
from powertcp.mplamps.market import Total, amount_of

ENERGY: Final = "uJ"
# what accounts call parties that are no customers
NETWORK: Final = "network"
SUPPLIER: Final = "supplier-"
# lines and transfers of one transaction, so that nobody waits long for it
MAX_LINES: Final = 20
_IDENTITY: Final = b"powertcp mplamps market"
_log = logging.getLogger("pdp")


class Amounts(NamedTuple):
    """What of a total is posted as money, in millionths of the currency unit."""

    for_supply: int
    for_network: int


def amounts_of(total: Total) -> Amounts:
    """Return the amounts of a total as they are on its bill: the sum is rounded once."""
    for_network = amount_of(total.for_network)
    return Amounts(amount_of(total.for_supply + total.for_network) - for_network, for_network)


class _Line(NamedTuple):
    """What is written together."""

    kind: str
    facts: Facts
    transfers: tuple[Transfer, ...]


class MarketBooks:
    """The lines and postings of a policeman, in their order; `keeping` writes them.

    booked_uj, waiting: energy in the ledger since the beginning, lines that are not on the disk.
    """

    def __init__(self, ledger: Ledger, currency: str, kept: Kept) -> None:
        """Go on where `kept` ends."""
        self.ledger = ledger
        self.on_failure: Callable[[], None] = _nothing
        self.booked_uj = 0
        self.fault = ""
        self._currency, self._unit = currency, f"micro-{currency}"
        self._number = kept.number
        self._posted = {key: amounts_of(total) for key, total in kept.totals.items()}
        self._lines: deque[_Line] = deque()
        self._put = self._written = 0
        # what is done once so many lines are on the disk
        self._after: deque[tuple[int, Callable[[], None]]] = deque()
        self._sleepers: set[trio.Event] = set()
        self._news = trio.Event()
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Lines that are not on the disk."""
        return self._put - self._written

    def put(self, events: Iterable[PolicemanEvent]) -> None:
        """Write what of the events is to be kept."""
        for event in events:
            found = facts_of(event, self._currency)
            if found is None or self.fault:
                continue
            transfers: tuple[Transfer, ...] = ()
            if isinstance(event, CircuitMetered):
                transfers = self._transfers(event)
            self._lines.append(_Line(*found, transfers))
            self._put += 1
            self._news.set()

    def when_written(self, call: Callable[[], None]) -> None:
        """Call at once if nothing waits, else as soon as all that waits now is on the disk.

        Never if that cannot be written.
        """
        if not self.waiting:
            call()
        elif not self.fault:
            self._after.append((self._put, call))

    async def written(self) -> bool:
        """Wait until all that waits now is on the disk; False if it cannot be written."""
        if self.waiting and not self.fault:
            done = trio.Event()
            self._sleepers.add(done)
            self._after.append((self._put, done.set))
            try:
                await done.wait()
            finally:
                self._sleepers.discard(done)
        else:
            await trio.lowlevel.checkpoint()
        return not self.fault

    def _transfers(self, event: CircuitMetered) -> tuple[Transfer, ...]:
        """Return energy and money of a charge; a sum that is rounded down gives back."""
        terms, total = event.standing.terms, event.total
        seller = f"{SUPPLIER}{terms.supplier}"
        made = []
        self._number += 1
        if event.used_uj:
            sides = f"sink:{terms.customer}", f"source:{seller}"
            made.append(self._transfer("energy", *sides, ENERGY, event.used_uj))
        key = terms.customer, terms.supplier
        before, now = self._posted.get(key, Amounts(0, 0)), amounts_of(total)
        self._posted[key] = now
        for role, payee, more in (
            ("money", seller, now.for_supply - before.for_supply),
            ("fee", NETWORK, now.for_network - before.for_network),
        ):
            payer = terms.customer
            if more < 0:
                payer, payee = payee, payer
            if more:
                sides = f"payer:{payer}", f"payee:{payee}"
                made.append(self._transfer(role, *sides, self._unit, abs(more)))
        return tuple(made)

    def _transfer(self, role: str, debit: str, credit: str, unit: str, amount: int) -> Transfer:
        identity = blake2s(_IDENTITY + self._number.to_bytes(8, "big")).digest()
        return Transfer(
            key=transfer_key(identity, 0, role, debit, credit),
            debit=debit,
            credit=credit,
            unit=unit,
            amount=amount,
            code=Code.UNSIGNED if unit == ENERGY else Code.MONEY,
        )

    # -- running -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Write what comes; at the end all that waits."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            try:
                yield
            finally:
                self._is_closed = True
                self._news.set()

    async def _write(self) -> None:
        while not self.fault:
            if self._lines:
                await self._commit()
            elif self._is_closed:
                return
            else:
                self._news = trio.Event()
                await self._news.wait()

    async def _commit(self) -> None:
        some = [self._lines.popleft() for _ in range(min(MAX_LINES, len(self._lines)))]
        transfers = [transfer for line in some for transfer in line.transfers]
        try:
            await self.ledger.record_and_post(
                [(line.kind, line.facts) for line in some], *transfers
            )
        except PowerRefused as refused:
            self.fault = str(refused)
            _log.error("ledger: %s", refused)
            self._after.clear()
            for sleeper in self._sleepers:
                sleeper.set()
            self.on_failure()
            return
        self._written += len(some)
        self.booked_uj += sum(one.amount for one in transfers if one.unit == ENERGY)
        while self._after and self._after[0][0] <= self._written:
            self._after.popleft()[1]()


def _nothing() -> None:
    """Nobody wants to know."""
