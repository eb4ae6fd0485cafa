"""Where a consumer keeps its books, and how often it wishes for a receipt."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from powertcp.cli.consumer_options import Options, read
from powertcp.drivers.consumer_books import (
    RECEIPT_S,
    RECEIPT_UJ,
    ConsumerBooks,
    open_consumer_ledger,
)
from powertcp.drivers.daemon import state_folder
from powertcp.drivers.dial import format_address, parse_address
from powertcp.units import NS_PER_S, parse_duration_ns, parse_energy_uj

MAX_RECEIPT_S = 24 * 3600
MAX_RECEIPT_UJ = 1 << 62


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
    there = format_address(*parse_address(options.connect))
    async with open_consumer_ledger(folder, is_given=is_given) as ledger:
        yield ConsumerBooks(ledger, there=there, receipt_s=receipt_s, receipt_uj=receipt_uj)


def parse_receipts(text: str) -> tuple[int, int]:
    """Parse "60s/360kJ", "60s" or "360kJ" to s and uJ; 0: not by this measure.

    Raises ValueError with a sentence.
    """
    time, bar, energy = text.partition("/")
    if not bar and time.strip().endswith(("J", "Wh")):
        time, energy = "", time
    receipt_s = parse_duration_ns(time) // NS_PER_S if time else 0
    receipt_uj = parse_energy_uj(energy) if energy else 0
    if not 0 <= receipt_s <= MAX_RECEIPT_S or not 0 <= receipt_uj <= MAX_RECEIPT_UJ:
        raise ValueError(f"a receipt is due at least once a day, got {text}")
    if not receipt_s and not receipt_uj:
        raise ValueError(f"a receipt is due each second at most, got {text}")
    return receipt_s, receipt_uj
