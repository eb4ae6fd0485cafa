from powertcp.loads import Ceiling, Ended, Lease, Lost, Powered, Stale
from powertcp.loads.hostcap import orders_for
from powertcp.profile import PowerProfile


def test_events_become_caps_in_microwatts() -> None:
    powered = Powered(profile=PowerProfile.parse("10V/2A"), lease_ns=60, fallback_mw=5)
    assert orders_for(powered, 7) == [("lease", 67), ("fallback", 5000), ("cap", 20_000_000)]
    assert orders_for(Lease(until_ns=9), 0) == [("lease", 9)]
    assert orders_for(Ceiling(limit_mw=3, rated_mw=9), 0) == [("cap", 3000)]
    assert orders_for(Lost(returning=True), 0) == [("cap", 0)]
    assert orders_for(Stale(), 0) == orders_for(Ended(), 0) == []
