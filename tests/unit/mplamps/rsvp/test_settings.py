"""How a node signals: periods and keys."""

import pytest

from powertcp.mplamps.rsvp import Key, Settings
from powertcp.mplamps.rsvp.settings import HELLO_NS

SECRET = bytes(range(16))


@pytest.mark.requirement("MPLA-4.7-02", "MPLA-4.7-05")
def test_the_periods_are_30_s_and_300_ms() -> None:
    assert Settings().refresh_ms == 30_000
    assert Settings().hello_ns is None
    assert HELLO_NS == 300_000_000


@pytest.mark.requirement("MPLA-4.10-01")
def test_the_own_key_is_accepted_beside_those_of_neighbours() -> None:
    assert Settings().accepted is None
    assert Settings(key=Key(1, SECRET)).accepted == {1: SECRET}
    both = Settings(key=Key(1, SECRET), keys={2: SECRET[::-1]})
    assert both.accepted == {1: SECRET, 2: SECRET[::-1]}
