"""How far the times that we sign can be trusted."""

from powertcp.ledger import Clock
from powertcp.linux import is_synchronised


def clock_kind() -> Clock:
    """Return what a page says of its times: what the kernel says of its clock."""
    return Clock.SYNCHRONISED if is_synchronised() else Clock.UNSYNCHRONISED
