"""Where a consumer keeps its books, and how often it wishes for a receipt."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from powertcp.cli.consumer_options import Options, parse_receipts, read
from powertcp.drivers.consumer_books import (
    ConsumerBooks,
    open_consumer_ledger,
)
from powertcp.drivers.daemon import state_folder
from powertcp.potcp.config import RECEIPT_S, RECEIPT_UJ


@asynccontextmanager
async def open_books(options: Options, *, is_kept: bool) -> AsyncIterator[ConsumerBooks | None]:
    """Open the books of a consumer; None with `--no-ledger` or unless they are to be kept.

    Raises ConfigError, HostError and LedgerBroken with a sentence.
    """
    if options.no_ledger or not is_kept:
        yield None
        return
    receipt_s, receipt_uj = read("--receipts", options.receipts, parse_receipts) or (
        RECEIPT_S,
        RECEIPT_UJ,
    )
    is_given = bool(options.state_dir or os.environ.get("STATE_DIRECTORY"))
    folder = Path(state_folder(os.environ, "consumer", options.state_dir))
    async with open_consumer_ledger(folder, is_given=is_given) as ledger:
        yield ConsumerBooks(ledger, receipt_s=receipt_s, receipt_uj=receipt_uj)
