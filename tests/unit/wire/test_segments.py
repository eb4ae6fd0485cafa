from dataclasses import FrozenInstanceError

import pytest

from powertcp.wire.segments import DEMAND_MAX, Control, Credit, Trip


@pytest.mark.requirement("PTCP-2.2-03")
def test_hot_values_are_slotted_and_the_rest_is_frozen() -> None:
    credit = Credit(1, 2, 3)
    assert credit.demand_mw == DEMAND_MAX == 2**64 - 1
    assert not hasattr(credit, "__dict__")
    trip = Trip(1, 2)
    with pytest.raises(FrozenInstanceError):
        trip.flow = 2  # type: ignore[misc]
    assert Control(1, 2) == Control(1, 2, 0)
