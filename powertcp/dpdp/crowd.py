"""Adverts that come faster than they are taken in: they wait, and the oldest go (7.1)."""

from collections import Counter, OrderedDict
from collections.abc import Collection
from typing import Final

from powertcp.dpdp.bucket import TokenBucket
from powertcp.dpdp.entry import Entry
from powertcp.units import NS_PER_S, Duration, Instant

# new adverts in a second, once the first crowd is in
NEW_PER_S: Final = 16
# a hall of 500 providers is there at once; what comes beyond is a flood
FIRST_CROWD: Final = 512
# adverts that wait: half a minute at that rate
MAX_WAITING: Final = 512
# adverts with one SRV target: outlets of a strip, providers on one host
MAX_PER_TARGET: Final = 64
_EVERY_NS: Final[Duration] = NS_PER_S // NEW_PER_S


class Crowd:
    """The waiting room of new adverts: first come, first in; a host has 64 places in it at most."""

    __slots__ = ("_bucket", "_places", "_waiting")

    def __init__(self, now: Instant) -> None:
        self._bucket = TokenBucket(FIRST_CROWD, _EVERY_NS, now)
        self._waiting: OrderedDict[str, Entry] = OrderedDict()
        self._places: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def put(self, entry: Entry) -> int:
        """Let an advert wait, or change what it says; returns how many others went for it."""
        key, target = entry.key, entry.service.target
        before = self._waiting.get(key)
        if before is not None and before.service.target == target:
            self._waiting[key] = entry
            return 0
        self.discard(key)
        lost = 0
        if self._places[target] >= MAX_PER_TARGET:
            same = (one for one in self._waiting.values() if one.service.target == target)
            lost = self._drop(next(same))
        elif len(self._waiting) >= MAX_WAITING:
            lost = self._drop(next(iter(self._waiting.values())))
        self._waiting[key] = entry
        self._places[target] += 1
        return lost

    def take(self, now: Instant) -> Entry | None:
        """Return the next one that may come in now, or None."""
        if not self._waiting or not self._bucket.take(now):
            return None
        entry = next(iter(self._waiting.values()))
        self.discard(entry.key)
        return entry

    def discard(self, key: str) -> None:
        """Let one go, if it waits."""
        entry = self._waiting.pop(key, None)
        if entry is not None:
            target = entry.service.target
            self._places[target] -= 1
            if not self._places[target]:
                del self._places[target]

    def keep(self, keys: Collection[str]) -> None:
        """Let all go but those named."""
        for key in [key for key in self._waiting if key not in keys]:
            self.discard(key)

    def get_timer(self) -> Instant | None:
        """Return when the next one may come in, or None when nobody waits."""
        return self._bucket.ready_at if self._waiting else None

    def _drop(self, entry: Entry) -> int:
        self.discard(entry.key)
        return 1
