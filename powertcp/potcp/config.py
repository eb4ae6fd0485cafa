"""Limits and timers of a connection (protocol section 14), each with its default and bounds."""

from dataclasses import dataclass, fields
from typing import Final

from powertcp.errors import LocalProtocolError
from powertcp.units import NS_PER_MS, NS_PER_S, Duration

MS = NS_PER_MS
S = NS_PER_S
# when receipts are due, as METER says it: each minute and each 100 Wh
RECEIPT_S: Final = 60
RECEIPT_UJ: Final = 360_000_000_000

# field: (least, most), protocol section 14
BOUNDS: dict[str, tuple[int, int]] = {
    "msp": (1024, 65535),
    "lease_s": (5, 3600),
    "maintain_interval_ms": (100, 30_000),
    "maintain_misses": (2, 10),
    "offer_ns": (200 * MS, 10 * S),
    "ready_ns": (0, 5 * S),
    "grace_ns": (0, 300 * S),
    "shed_ms": (100, 60_000),
    ## power-over-tcp#Features
    ## "an endpoint has access to several connections carrying different configurations of current
    ## and voltage."
    "flows": (1, 256),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConfig:
    """What one connection allows and how long it waits; durations in ns unless named otherwise.

    msp: greatest payload we accept, octets. lease_s: lease we grant. window_ns: credit window as
    time at contract power. half_open: flows in OFFERED above which a SYN needs a COOKIE is the
    business of whoever sees all connections: `TicketOffice.needs_cookie`. receipt_ns: how long a
    page may lack the sink's signature before delivery stops, unpaid_ns: and then before FIN.
    Raises LocalProtocolError for a value outside BOUNDS.
    """

    msp: int = 16384
    lease_s: int = 60
    maintain_interval_ms: int = 1000
    maintain_misses: int = 3
    syn_ns: Duration = 5 * S
    open_ns: Duration = 5 * S
    offer_ns: Duration = 2 * S
    ready_ns: Duration = 1 * S
    answer_ns: Duration = 10 * S
    drain_ns: Duration = 5 * S
    grace_ns: Duration = 10 * S
    shed_ms: int = 1000
    credit_gap_ns: Duration = 100 * MS
    window_ns: Duration = 2 * S
    blocked_ns: Duration = 1 * S
    write_extra_ns: Duration = 5 * S
    ticket_ns: Duration = 60 * S
    ticket_life_s: int = 3600
    flows: int = 256
    churn_per_s: int = 20
    receipt_ns: Duration = 10 * S
    unpaid_ns: Duration = 60 * S

    def __post_init__(self) -> None:
        """Refuse a value outside its bounds."""
        for field in fields(self):
            low, high = BOUNDS.get(field.name, (0, 1 << 62))
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise LocalProtocolError(
                    f"{field.name} is {value:,}, the limit is {low:,}..{high:,}"
                )


# negotiation segments one side may have waiting, R4
QUEUE_SINK_TO_SOURCE = 4
QUEUE_SOURCE_TO_SINK = 7
EXPLAIN_MEMORY = 1024
