"""The light of a lamp, seen from its splice: the first verified block, and blocks that stay away.

MPLampS section 1. Where a seal hides the samples, the ESN of a header is believed.
"""

from collections.abc import Callable
from typing import Final

from powertcp.drivers.daemon import now_ns
from powertcp.mplamps.cutter import Cutter
from powertcp.mplamps.wishes import BLOCKS_PER_S
from powertcp.reclaim.track import End, Tracker
from powertcp.units import NS_PER_S, Duration, Instant
from powertcp.wire.frames import MAX_MSP, Splitter

# of a block, where blocks do not come less often
BLOCK_NS: Final[Duration] = NS_PER_S // BLOCKS_PER_S
# blocks are at most so long
MAX_BLOCK_NS: Final[Duration] = NS_PER_S


class LightWatch:
    """Follows one connection. banked, missed: called when the lamp is lit, and when it flickers.

    wake: sees to it that `handle_timer` is called at a time.
    """

    def __init__(
        self,
        banked: Callable[[Instant], None],
        missed: Callable[[Instant], None],
        wake: Callable[["LightWatch", Instant], None],
    ) -> None:
        """Begin in the dark."""
        self._banked, self._missed, self._wake = banked, missed, wake
        self._tracker: Tracker | None = Tracker()
        self._splitters = {end: Splitter(MAX_MSP) for end in End}
        self._blocks = Cutter()
        self._count = 0
        self._came_at: Instant | None = None
        # how long a block is shows when the second one comes
        self._block_ns: Duration | None = None
        self._is_lit = False

    # MPLA-1-01
    def look(self, sender: End, octets: bytes) -> None:
        """Look at what one end has sent; CLIENT is the lamp's consumer."""
        now = now_ns()
        is_new = False
        if sender is End.SERVER:
            self._blocks.cut(octets)
            is_new, self._count = self._blocks.metered > self._count, self._blocks.metered
        if self._tracker is not None:
            if not self._verify(self._tracker, sender, octets, now):
                return
            self._tracker = None
            self._splitters.clear()
            is_new = True
        if is_new:
            self._take_block(now)

    def _verify(self, tracker: Tracker, sender: End, octets: bytes, now: Instant) -> bool:
        """Follow the connection until a block is verified."""
        for raw in self._splitters[sender].receive(octets):
            tracker.see(sender, raw, now)
        is_verified = any(flow.verified_uj > flow.base_uj for flow in tracker.flows)
        # under a seal nothing can be verified from outside
        return is_verified or (not tracker.flows and self._blocks.esn_uj > 0)

    def _take_block(self, now: Instant) -> None:
        if self._came_at is not None and (self._is_lit or self._block_ns is None):
            gap_ns = min(now - self._came_at, MAX_BLOCK_NS)
            self._block_ns = max(self._block_ns or BLOCK_NS, gap_ns)
        self._came_at = now
        if not self._is_lit:
            self._is_lit = True
            self._banked(now)
        self._wake(self, now + self._patience_ns)

    @property
    def _patience_ns(self) -> Duration:
        return 2 * (self._block_ns or MAX_BLOCK_NS)

    def get_timer(self) -> Instant | None:
        """Return when blocks have stayed away for too long."""
        if self._came_at is None or not self._is_lit:
            return None
        return self._came_at + self._patience_ns

    def handle_timer(self, now: Instant) -> None:
        """Say that the lamp flickers, if no block came."""
        at = self.get_timer()
        if at is not None and now >= at:
            self._is_lit = False
            self._missed(now)

    def flush(self) -> bool:
        """Do nothing: there is nothing to send."""
        return True
