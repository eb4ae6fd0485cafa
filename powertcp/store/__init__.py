"""A daemon's persistent state in SQLite: the append-only ledger, its pages, audit log and heads."""

from powertcp.store.files import read_secret, write_secret
from powertcp.store.ledger import Answer, LedgerStore
from powertcp.store.rows import Event, Finding, Head, Job, PageRow, PageState, facts_text

__all__ = [
    "Answer",
    "Event",
    "Finding",
    "Head",
    "Job",
    "LedgerStore",
    "PageRow",
    "PageState",
    "facts_text",
    "read_secret",
    "write_secret",
]
