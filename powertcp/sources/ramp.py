"""How fast power may be connected, and whose turn is when: a queue that nobody has to keep."""

from dataclasses import dataclass, field
from typing import NamedTuple

from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant

MAX_RAMP_NS = 4 * NS_PER_S  # T_READY is at most 5 s
MAX_TURNS = 256
RETRY_MIN_NS = 200 * NS_PER_MS
RETRY_MAX_NS = 60 * NS_PER_S
LATE_NS = NS_PER_S  # at most so much later than its turn, for a sink that comes 20 % early


class _Turn(NamedTuple):
    """When a request that was refused will fit; it comes back between `first` and `last`."""

    peer: bytes
    asked_mw: int
    due: Instant
    end: Instant
    first: Instant
    last: Instant


@dataclass(slots=True)
class Ramp:
    """At most `mw_per_s` more power in each second, one flow after the other.

    free: when all that was connected is up. Turns only say when to ask again: whoever asks
    while there is room is served, so that nobody holds up others by not coming back.
    """

    mw_per_s: int
    free: Instant = 0
    _turns: list[_Turn] = field(default_factory=list)

    @property
    def step_mw(self) -> int:
        """The most that comes up before T_READY, on an idle ramp."""
        return self.mw_per_s * MAX_RAMP_NS // NS_PER_S

    def connect(self, mw: int, now: Instant) -> Duration:
        """Connect `mw` more after all that came before; return the time until they are up.

        What comes back on another path was promised before: it is up before T_READY, however much
        else comes back, and nobody waits for it longer than that.
        """
        up_at = max(now, self.free) + self._time_of(mw)
        self.free = min(up_at, now + MAX_RAMP_NS)
        return self.free - now

    def room_mw(self, promised_mw: int, now: Instant) -> int:
        """Return what may be promised beside `promised_mw` so that it is up before T_READY."""
        left_ns = MAX_RAMP_NS - max(0, self.free - now)
        return max(0, self.mw_per_s * left_ns // NS_PER_S - promised_mw)

    def fits_at(self, mw: int, promised_mw: int, now: Instant) -> Instant:
        """Return when there is room for `mw`, which is at most what an idle ramp has."""
        up_at = max(now, self.free) + self._time_of(mw + promised_mw)
        return max(now, up_at - MAX_RAMP_NS)

    def served(self, peer: bytes, asked_mw: int, now: Instant) -> None:
        """Note that a request was admitted: its turn, if it had one, is over."""
        turn = self._turn_of(peer, asked_mw, now)
        if turn is not None:
            self._turns.remove(turn)

    def turn(self, peer: bytes, asked_mw: int, mw: int, fits_at: Instant, now: Instant) -> Instant:
        """Give a refused request for `mw` its turn, at `fits_at` or later; return when.

        A request that comes back keeps its turn, a new one is due after all others.
        """
        turn = self._turn_of(peer, asked_mw, now)
        if turn is not None:
            self._turns.remove(turn)
            due = max(fits_at, turn.due)
        else:
            due = max(fits_at, max((one.end for one in self._turns), default=0))
        wait_ns = self._retry_ns(due - now)
        if len(self._turns) < MAX_TURNS:
            first, last = now + wait_ns * 3 // 4, now + wait_ns * 5 // 4 + LATE_NS
            end = due + self._time_of(mw)
            self._turns.append(_Turn(peer, asked_mw, due, end, first, last))
        return due

    def refusal(self, asked_mw: int, room_mw: int, wait_ns: Duration | None = None) -> Refusal:
        """Say that only `room_mw` may be connected now, and when to ask again: None is never."""
        # PTCP-4-07
        retry_ms = 0 if wait_ns is None else self._retry_ns(wait_ns) // NS_PER_MS
        said = f"connects {self.mw_per_s:,} mW in a second"
        return Refusal(Reason.BUDGET, asked_mw, room_mw, retry_ms, text=said, rule=said)

    @staticmethod
    def _retry_ns(wait_ns: Duration) -> Duration:
        late_ns = wait_ns + min(wait_ns // 4, LATE_NS)
        return min(max(late_ns, RETRY_MIN_NS), RETRY_MAX_NS)

    def _turn_of(self, peer: bytes, asked_mw: int, now: Instant) -> _Turn | None:
        """Return the first turn that a request of `peer` for `asked_mw` may come back for."""
        self._turns = [one for one in self._turns if now <= one.last]
        own = [
            one
            for one in self._turns
            if one.first <= now and one.peer == peer and one.asked_mw == asked_mw
        ]
        return min(own, key=lambda one: one.due, default=None)

    def _time_of(self, mw: int) -> Duration:
        return -(-mw * NS_PER_S // self.mw_per_s)
