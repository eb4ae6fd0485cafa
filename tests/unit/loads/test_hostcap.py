from powertcp.loads import Ceiling, Ended, Lease, Lost, Powered, Stale
from powertcp.loads.hostcap import orders_for
from powertcp.profile import PowerProfile


def test_events_become_caps_in_microwatts() -> None:
    powered = Powered(profile=PowerProfile.parse("10V/2A"), until_ns=60, fallback_mw=5)
    assert orders_for(powered) == [("lease", 60), ("fallback", 5000), ("cap", 20_000_000)]
    assert orders_for(Lease(until_ns=9)) == [("lease", 9)]
    assert orders_for(Ceiling(limit_mw=3, rated_mw=9)) == [("cap", 3000)]
    assert orders_for(Lost(returning=True)) == [("cap", 0)]
    assert orders_for(Stale()) == orders_for(Ended()) == []
