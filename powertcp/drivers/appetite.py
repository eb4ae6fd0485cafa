"""How much power a load keeps up with: a slow reader gets less, it never stalls the connection."""

from powertcp.wire import DEMAND_MAX

LEAST_SHARE = 16  # of the contract: below that a slow load is not lowered any more


class Appetite:
    """The demand that follows from what a load has left unread, looked at once a second.

    Its line full: half of it, down to the minimum; nearly empty again: everything.
    """

    def __init__(self, minimum_mw: int) -> None:
        """Never go below `minimum_mw`, under which the power is of no use."""
        self._minimum_mw = minimum_mw
        self.demand_mw = DEMAND_MAX

    def look(self, waiting: int, capacity: int, contract_mw: int) -> bool:
        """Take note of `waiting` events on a line of `capacity`; True when the demand changed."""
        before = self.demand_mw
        if waiting >= capacity:
            least_mw = max(self._minimum_mw, contract_mw // LEAST_SHARE)
            half_mw = min(before, contract_mw) // 2
            self.demand_mw = max(half_mw, min(least_mw, contract_mw))
        elif 4 * waiting < capacity:
            self.demand_mw = DEMAND_MAX
        return self.demand_mw != before
