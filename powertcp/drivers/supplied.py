"""What the books of a provider know of one flow."""

from typing import TYPE_CHECKING, Final

from powertcp.drivers.postings import Line
from powertcp.drivers.session import FlowRecord

if TYPE_CHECKING:
    from powertcp.drivers.allowance import Allowance
    from powertcp.ledger import PageChain
    from powertcp.wire.options import Tariff

IDENTITY_OCTETS: Final = 32


class SuppliedFlow(Line):
    """What the books know of one flow: it outlives the paths on which the flow is resumed.

    record: the flow as it is now. here: its supply. there: its peer's key, or address. who: by what
    name it draws, for the memo. start_ns: Unix time of its first READY. identity: 32 octets that no
    other flow has. tariff: in force. allowance: what it has reserved, None without a quota.
    posted_uj: register at the last unsigned posting, the number-th. paged_uj: at the end of the last
    page that is on the disk with both signatures.
    """

    __slots__ = (
        "allowance",
        "chain",
        "here",
        "identity",
        "number",
        "paged_uj",
        "posted_uj",
        "record",
        "start_ns",
        "tariff",
        "there",
        "who",
    )

    def __init__(self, record: FlowRecord, here: str, start_ns: int, identity: bytes) -> None:
        super().__init__(record.name)
        self.record = record
        self.here = here
        self.there = record.party
        self.who = record.who
        self.start_ns = start_ns
        self.identity = identity
        self.chain: PageChain | None = None
        self.allowance: Allowance | None = None
        self.tariff: Tariff | None = None
        self.number = self.posted_uj = self.paged_uj = 0
