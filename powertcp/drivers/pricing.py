"""Prices by the hour: each change of price is proposed to every flow whose receipts pin the old one."""

from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from powertcp.drivers.session import FlowRecord
from powertcp.ledger.tariff import TariffDocument
from powertcp.wire.options import Tariff

LOOK_S = 1.0  # how late a change of price may be proposed
Propose = Callable[[FlowRecord, Tariff], None]


class Priced(Protocol):
    """A flow with the terms that are in force on it."""

    record: FlowRecord
    tariff: Tariff | None


class Pricing:
    """The price of now, and who has another one. propose: sends a RENEG unless one is unanswered."""

    def __init__(self, document: TariffDocument, unix_ns: Callable[[], int]) -> None:
        """Go by `document`; unix_ns tells Unix time."""
        self.document = document
        self.propose: Propose | None = None
        self._unix_ns = unix_ns

    def terms(self) -> Tariff:
        """Return what a contract that is made now pins."""
        return self.document.terms(self._unix_ns())

    # LEDG-6-04
    async def keep(self, priced: Iterable[Priced]) -> None:
        """Look each second who has a price of before; runs until it is cancelled."""
        before = self.terms()
        is_changing = False
        while not self.document.is_fixed:
            await trio.sleep_until(trio.current_time() + LOOK_S)
            terms = self.terms()
            is_changing = is_changing or terms != before
            before = terms
            if is_changing and self.propose is not None:
                late = [each for each in tuple(priced) if each.tariff != terms]
                for each in late:
                    self.propose(each.record, terms)
                is_changing = bool(late)
