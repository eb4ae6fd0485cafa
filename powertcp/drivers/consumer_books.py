"""The books of a consumer: one ledger for all its contracts, and where it is kept."""

import errno
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from powertcp.drivers.clock import clock_kind, unix_ns
from powertcp.drivers.flow_book import Contract, FlowBook, Job
from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.errors import ConfigError, HostError, PowerRefused
from powertcp.ledger import Clock
from powertcp.ledger.posting import SELF
from powertcp.machine import Entropy
from powertcp.potcp.config import RECEIPT_S, RECEIPT_UJ
from powertcp.registry import Reason, Refusal
from powertcp.store.files import while_unlocked
from powertcp.wire.options import Meter

UNSIGNED_S: Final = 60.0
MOST_FOLDERS: Final = 64  # consumers of one user at a time, each with a ledger


class ConsumerBooks:
    """Everything one consumer writes down; `keeping` runs it.

    clock: how far the times of pages can be trusted.
    on_failure: told once why the ledger cannot be written any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        receipt_s: int = RECEIPT_S,
        receipt_uj: int = RECEIPT_UJ,
        unix_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], Clock] | None = None,
        entropy: Entropy = os.urandom,
    ) -> None:
        """Write to `ledger`, and wish for a page each `receipt_s` or `receipt_uj`, 0: not by it."""
        self.ledger = ledger
        self.meter = Meter(receipt_s, receipt_uj, ledger.meter.public)
        self.unix_ns = unix_ns
        self.clock = clock or clock_kind
        self.entropy = entropy
        self.on_failure: Callable[[str], None] = _nothing
        self._flows: list[FlowBook] = []
        self._nursery: trio.Nursery | None = None

    def open(self, contract: Contract) -> FlowBook:
        """Return the book of one contract."""
        book = FlowBook(self, contract)
        self._flows.append(book)
        return book

    def close(self, book: FlowBook) -> None:
        """Forget a book that is over and was added to another."""
        self._flows.remove(book)

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Post what comes; at the end all that waits. Cancelled, what waits may be posted or not."""
        async with trio.open_nursery() as regular:
            regular.start_soon(self._post_regularly)
            regular.start_soon(self._watch)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                yield
                for book in self._flows:
                    book.end()
            regular.cancel_scope.cancel()

    def start(self, job: Job) -> None:
        """Run what posts for one contract."""
        if self._nursery is not None:
            self._nursery.start_soon(job)

    # LEDG-7-07
    def refusal(self) -> Refusal | None:
        """Return why no contract can be made; None: the ledger can be written."""
        if not self.ledger.is_read_only:
            return None
        return Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written")

    def currencies(self, there: str) -> set[str]:
        """Return the currencies in which we or the provider `there` were paid."""
        names = [f"{way}:{who}" for way in ("payer", "payee") for who in (SELF, there)]
        found = [account for name in names if (account := self.ledger.account(name))]
        return {account.unit.removeprefix("micro-") for account in found}

    async def _post_regularly(self) -> None:
        while True:
            await trio.sleep_until(trio.current_time() + UNSIGNED_S)
            for book in self._flows:
                book.post_unsigned()

    async def _watch(self) -> None:
        await self.ledger.wait_read_only()
        try:
            await self.ledger.sign_head()
        except PowerRefused as refused:
            # which says what the disk said
            self.on_failure(str(refused))


@asynccontextmanager
async def open_consumer_ledger(
    folder: Path, *, is_given: bool, entropy: Entropy = os.urandom
) -> AsyncIterator[Ledger]:
    """Open the ledger in `folder`; unless that was given, in the first of 64 that is free.

    Raises HostError and LedgerBroken as `open_ledger` does, ConfigError when it is in use.
    """
    numbers = range(2, 2 if is_given else MOST_FOLDERS + 1)
    others = [folder.with_name(f"{folder.name}.{number}") for number in numbers]
    async with AsyncExitStack() as stack:
        for path in (folder, *others):
            if others and not await trio.to_thread.run_sync(_is_free, path):
                continue
            try:
                ledger = await stack.enter_async_context(
                    open_ledger(path, entropy, unix_ns=unix_ns)
                )
            except HostError as error:
                if error.errno != errno.EAGAIN:
                    raise
                if is_given:
                    said = f"{error}; name another folder, or --no-ledger"
                    raise ConfigError("command line", "--state-dir", said) from error
            else:
                break
        else:
            said = f"{MOST_FOLDERS} ledgers are in use from {folder} on: name a folder"
            raise ConfigError("command line", "--state-dir", said)
        yield ledger


def _is_free(folder: Path) -> bool:
    """Say whether nobody writes the ledger in `folder`."""
    with while_unlocked(folder / "ledger.lock") as is_free:
        return is_free


def _nothing(_: str) -> None:
    """Do nothing: nobody wants to know."""
