"""Double entry of energy and money: receipts, prices, the book, the audit of the first law."""

from powertcp.ledger.book import (
    Account,
    Batch,
    Book,
    Code,
    Entry,
    Kind,
    LedgerBroken,
    Posted,
    Transfer,
    entry_chain,
    transfer_key,
)

__all__ = [
    "Account",
    "Batch",
    "Book",
    "Code",
    "Entry",
    "Kind",
    "LedgerBroken",
    "Posted",
    "Transfer",
    "entry_chain",
    "transfer_key",
]
