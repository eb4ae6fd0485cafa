"""The time that pages hold, from a clock that may be wrong."""

import time

import pytest

from powertcp.drivers import clock
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.ledger import Clock

LAST = (1 << 63) - 2


@pytest.mark.parametrize(
    ("now", "held", "kind"),
    [
        (-1, 0, "U"),
        (0, 0, "S"),
        (LAST, LAST, "S"),
        (LAST + 1, LAST, "U"),
    ],
)
def test_a_time_that_no_page_holds_is_not_trusted(now: int, held: int, kind: str) -> None:
    assert clock.stamp(now, Clock.SYNCHRONISED) == (held, Clock(kind))


async def test_a_host_before_1970_stands_at_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: -315_360_000_000_000_000)
    assert clock.unix_ns() == 0
    # what probes say is not below 0
    assert unix_offset_ns() + now_ns() >= 0
