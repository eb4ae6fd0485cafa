"""Prices by the hour: each change of price is proposed to every flow whose receipts pin the old one."""

from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from powertcp.drivers.session import FlowRecord
from powertcp.errors import ConfigError
from powertcp.ledger.tariff import TariffDocument
from powertcp.wire.options import Tariff

LOOK_S = 1.0  # how late a change of price may be proposed
OFFERED_S = 60.0  # what was offered at the price of before takes effect within this time
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

    # LEDG-7-03
    def replace(self, document: TariffDocument) -> None:
        """Go by another document of the same currency; it is proposed to every flow.

        Raises ConfigError for another currency: an account has one unit.
        """
        check_currency(document, self.document.currency)
        self.document = document

    def terms(self) -> Tariff:
        """Return what a contract that is made now pins."""
        return self.document.terms(self._unix_ns())

    # LEDG-6-04
    async def keep(self, priced: Iterable[Priced]) -> None:
        """Look each second who has a price of before; runs until it is cancelled."""
        before = self.terms()
        until = trio.current_time()
        while True:
            await trio.sleep_until(trio.current_time() + LOOK_S)
            terms, now = self.terms(), trio.current_time()
            if terms != before:
                before, until = terms, now + OFFERED_S
            if now <= until and self.propose is not None:
                late = [each for each in tuple(priced) if each.tariff != terms]
                for each in late:
                    self.propose(each.record, terms)
                until = now + OFFERED_S if late else until


def check_currency(document: TariffDocument, currency: str) -> None:
    """Raise ConfigError when prices are not in the currency of a ledger."""
    if document.currency != currency:
        said = (
            f"prices in {document.currency}, the accounts are in {currency}:"
            " another --state-dir has accounts of its own"
        )
        raise ConfigError("configuration", "tariff", said)
