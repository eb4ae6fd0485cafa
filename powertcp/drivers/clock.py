"""What time it is for pages and entries, and how far that can be trusted."""

import time
from typing import Final

from powertcp.ledger import Clock
from powertcp.linux import is_synchronised

# what a page and an entry hold, 1970 to 2262; no span of entries holds the last instant of 63 bits
LAST_NS: Final = (1 << 63) - 2


def stamp(now_ns: int, clock: Clock) -> tuple[int, Clock]:
    """Return a time that a page can hold and its clock: of another century it is not to be trusted."""
    held_ns = min(max(0, now_ns), LAST_NS)
    return held_ns, clock if held_ns == now_ns else Clock.UNSYNCHRONISED


def unix_ns() -> int:
    """Return Unix time in ns; a clock before 1970 or after 2262 stands still there."""
    return stamp(time.time_ns(), Clock.SYNCHRONISED)[0]


def clock_kind() -> Clock:
    """Return what a page says of its times: what the kernel says of its clock."""
    return Clock.SYNCHRONISED if is_synchronised() else Clock.UNSYNCHRONISED
