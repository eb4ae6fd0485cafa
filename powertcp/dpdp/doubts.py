"""Removals that are not believed yet: who is asked once more, and when nobody answered (4-05)."""

from collections import OrderedDict
from typing import Final

from powertcp.units import NS_PER_S, Duration, Instant

# what a query may take
VERIFY_NS: Final[Duration] = 2 * NS_PER_S
# goodbyes that somebody sends for others cost one query of each name in this time
SPACING_NS: Final[Duration] = 2 * NS_PER_S
# queries at a time: what a driver resolves at a time
MAX_ASKED: Final = 16


class Doubts:
    """Names whose removal was reported. What is due is asked for or given up in `due`."""

    __slots__ = ("_asked", "_last", "_waiting")

    def __init__(self) -> None:
        # until when an answer counts; in the order of being asked, which is that of the deadlines
        self._asked: OrderedDict[str, Instant] = OrderedDict()
        # when each was asked for last, oldest first: who is asked for again was dropped before
        self._last: OrderedDict[str, Instant] = OrderedDict()
        # when each may be asked for, in the order of the reports
        self._waiting: dict[str, Instant] = {}

    def __contains__(self, key: str) -> bool:
        """Return whether the removal of `key` is open."""
        return key in self._asked or key in self._waiting

    def doubt(self, key: str, now: Instant) -> None:
        """Take a report of a removal; one more of a name in doubt changes nothing."""
        if key not in self:
            last = self._last.get(key)
            self._waiting[key] = now if last is None else max(now, last + SPACING_NS)

    def settle(self, key: str) -> None:
        """Close the matter: it was heard again, or is gone."""
        self._asked.pop(key, None)
        self._waiting.pop(key, None)

    def clear(self) -> None:
        """Close all."""
        self._asked.clear()
        self._last.clear()
        self._waiting.clear()

    def due(self, now: Instant) -> tuple[list[str], list[str]]:
        """Return the names to ask for now, and those for which nobody answered: they are closed."""
        lost = [key for key, until in self._asked.items() if until <= now]
        for key in lost:
            del self._asked[key]
        while self._last and next(iter(self._last.values())) + SPACING_NS <= now:
            self._last.popitem(last=False)
        free = MAX_ASKED - len(self._asked)
        asked = [key for key, at in self._waiting.items() if at <= now][:free]
        for key in asked:
            del self._waiting[key]
            self._last[key] = now
            # DPDP-4-05
            self._asked[key] = now + VERIFY_NS
        return asked, lost

    def get_timer(self) -> Instant | None:
        """Return when `due` has something to say, or None."""
        times = [next(iter(self._asked.values()))] if self._asked else []
        if len(self._asked) < MAX_ASKED and self._waiting:
            times.append(min(self._waiting.values()))
        return min(times, default=None)
