"""When the next SYN of a contract is due: after refusals, trips, losses; and when it is never."""

import random
from dataclasses import dataclass, field

from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

TRIES = 3  # PTCP-4-07
GIVE_UP_NS = 600 * NS_PER_S
TRIPS = 5  # PTCP-8-03: in TRIP_WINDOW_NS, then off
TRIP_WINDOW_NS = 600 * NS_PER_S
BACK_OFF_MAX_S = 16
# between two SYNs of a connection: 16 a second, four less than the peer bears (PTCP-13-02)
OPEN_GAP_NS = NS_PER_S // 16
NEVER: Instant = 1 << 62
# the provider goes, or lost sight of us: not an answer to the request
PASSING = frozenset({Reason.TIMEOUT, *range(Reason.DRAINING, Reason.OPERATOR)}) | {
    Reason.LEASE_EXPIRED,
    Reason.MAINTAIN_LOST,
}


def back_off_ns(times: int) -> Duration:
    """Return 1, 2, 4, 8, 16 s after the 1st, 2nd, .. time."""
    return min(1 << max(0, times - 1), BACK_OFF_MAX_S) * NS_PER_S


@dataclass(slots=True)
class Patience:
    """How often a contract was refused, tripped or lost, and when it is tried again."""

    due: Instant = 0
    refusals: int = 0
    losses: int = 0
    trips: list[Instant] = field(default_factory=list)
    give_up_ns: Duration = GIVE_UP_NS
    paced_since: Instant | None = None  # power was there, but could not be connected yet

    def forgive(self) -> None:
        """Power is on: refusals and losses are forgotten, trips are not."""
        self.refusals = self.losses = 0
        self.paced_since = None

    def reset(self) -> None:
        """Begin anew, at once."""
        self.trips.clear()
        self.due = 0

    def note_refusal(self, refusal: Refusal, now: Instant) -> bool:
        """Count a refusal; False when it is final, else `due` is its retry time +-20 %."""
        # PTCP-4-07
        due = now + round(refusal.retry_ms * NS_PER_MS * random.uniform(0.8, 1.2))
        if refusal.code == Reason.BUDGET and refusal.retry_ms > 0:
            since = self.paced_since = now if self.paced_since is None else self.paced_since
            # a turn that comes after the patience is no use
            is_final = due - since >= self.give_up_ns
        else:
            self.refusals += 1
            is_final = refusal.retry_ms <= 0 or self.refusals >= TRIES
        if is_final:
            return False
        self.due = due
        return True

    def note_loss(self, now: Instant) -> None:
        """Count a contract that went away without being refused."""
        self.losses += 1
        self.due = now + back_off_ns(self.losses)

    def note_trip(self, now: Instant) -> bool:
        """Count a trip; False when there were too many: off until `reset`."""
        # PTCP-8-03
        self.trips = [time for time in self.trips if now - time < TRIP_WINDOW_NS]
        self.trips.append(now)
        is_off = len(self.trips) >= TRIPS
        self.due = NEVER if is_off else now + back_off_ns(len(self.trips))
        return not is_off
