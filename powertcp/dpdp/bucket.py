"""A token bucket in integers: how much may happen at once, and how often after that."""

from powertcp.units import Duration, Instant


class TokenBucket:
    """`size` tokens at most, full at first, one more each `every_ns`."""

    __slots__ = ("_every", "_full_at", "_size")

    def __init__(self, size: int, every_ns: Duration, now: Instant) -> None:
        self._size = size
        self._every = every_ns
        self._full_at = now

    def take(self, now: Instant) -> bool:
        """Take a token if there is one; returns whether."""
        if now < self.ready_at:
            return False
        self._full_at = max(self._full_at, now) + self._every
        return True

    @property
    def ready_at(self) -> Instant:
        """When a token is there: in the past if one is."""
        return self._full_at - (self._size - 1) * self._every
