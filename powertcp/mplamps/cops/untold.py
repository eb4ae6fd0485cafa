"""Last meters of circuits that ended while there was no policeman to tell them to."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from powertcp.mplamps.cops.messages import DeleteReason, Interface
from powertcp.mplamps.power import MeterObject

# the one that has waited longest is forgotten
MAX_UNTOLD: Final = 100_000


class LastMeter(NamedTuple):
    """A circuit that ended: what was asked for it, why it ended, and its final meter."""

    handle: bytes
    interface: Interface
    info: bytes
    reason: DeleteReason
    meter: MeterObject


class Untold:
    """What a policeman is told when he is back, at most MAX_UNTOLD circuits."""

    def __init__(self) -> None:
        """Begin with none."""
        # how many were forgotten because too many waited
        self.dropped = 0
        self._waiting: dict[bytes, LastMeter] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, last: LastMeter) -> None:
        """Keep one, and forget the oldest beyond MAX_UNTOLD."""
        self._waiting[last.handle] = last
        if len(self._waiting) > MAX_UNTOLD:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1

    def drain(self) -> Iterator[LastMeter]:
        """Return all, oldest first; none is kept."""
        waiting, self._waiting = self._waiting, {}
        return iter(waiting.values())
