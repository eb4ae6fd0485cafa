"""A token bucket in integers: how much may happen at once, and how often after that."""

from collections import deque

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


class Pace:
    """A token bucket that gives `most` tokens at most in any `span_ns`, too."""

    __slots__ = ("_bucket", "_span", "_taken")

    def __init__(self, bucket: TokenBucket, most: int, span_ns: Duration) -> None:
        self._bucket = bucket
        self._span = span_ns
        self._taken: deque[Instant] = deque(maxlen=most)

    def take(self, now: Instant) -> bool:
        """Take a token if there is one; returns whether."""
        if now < self.ready_at:
            return False
        self._taken.append(now)
        return self._bucket.take(now)

    @property
    def ready_at(self) -> Instant:
        """When a token is there: in the past if one is."""
        if len(self._taken) < (self._taken.maxlen or 0):
            return self._bucket.ready_at
        return max(self._bucket.ready_at, self._taken[0] + self._span)
