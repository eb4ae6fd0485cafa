"""Whether a neighbour is there, and whether it is the one that was there before: HELLO.

MPLampS section 4.7; RFC 3209 section 5.3. An instance is a number that a node draws when it starts,
and again when it has lost the neighbour.
"""

from dataclasses import dataclass
from typing import TypeAlias

from powertcp.machine import Entropy
from powertcp.mplamps.rsvp.messages import Hello
from powertcp.units import Duration, Instant


@dataclass(frozen=True, slots=True)
class Lost:
    """No HELLO has come for 3.5 intervals: what is known of the neighbour is stale."""


@dataclass(frozen=True, slots=True)
class Found:
    """A neighbour that was lost speaks, or one speaks that has another instance than before."""

    is_new_instance: bool


Change: TypeAlias = Lost | Found


class Liveness:
    """Instances of both ends of a link, and when the neighbour was heard. It is there at first."""

    def __init__(self, interval_ns: Duration | None, entropy: Entropy, now: Instant) -> None:
        """Begin; interval_ns: None if no HELLO is sent, only answered."""
        self._entropy = entropy
        self._interval_ns = interval_ns
        self._instance = self._drawn()
        self._other = 0
        self._last_other = 0
        self._former = 0
        self.changes: list[Change] = []
        """What `next_change` drains."""
        self.is_alive = True
        self.hello_at: Instant | None = None if interval_ns is None else now
        self.lost_at: Instant | None = None
        self._heard(now)

    def next_change(self) -> Change | None:
        """Drain one change."""
        return self.changes.pop(0) if self.changes else None

    def receive(self, hello: Hello, now: Instant) -> tuple[Hello | None, bool, bool]:
        """Take a HELLO; return the answer if it wants one, whether it counts, and is a new start.

        It counts unless it has no instance, one that is over, or speaks to another than this node.
        """
        source = hello.source
        if not source or source == self._former:
            return None, False, False
        if hello.destination not in (0, self._instance):
            return None, False, False
        is_other = source != self._last_other
        is_start = is_other and (bool(self._last_other) or not self.is_alive)
        if is_start or not self.is_alive:
            self.changes.append(Found(is_other))
            self.is_alive = True
        if is_other:
            self._former = self._last_other
        self._other = self._last_other = source
        self._heard(now)
        answer = None if hello.is_ack else self._hello(is_ack=True)
        return answer, True, is_start

    def handle_timer(self, now: Instant) -> Hello | None:
        """Return a HELLO if one is due; notice that none has come."""
        # MPLA-4.7-01
        if self.lost_at is not None and now >= self.lost_at:
            self.lost_at = None
            self.is_alive = False
            self._other = 0
            # rfc3209 section 5.3: after a loss the instance is another one
            self._instance = self._drawn()
            self.changes.append(Lost())
        if self._interval_ns is None or self.hello_at is None or now < self.hello_at:
            return None
        # MPLA-4.7-05
        self.hello_at = max(self.hello_at + self._interval_ns, now + self._interval_ns // 2)
        return self._hello(is_ack=False)

    def _hello(self, *, is_ack: bool) -> Hello:
        return Hello(source=self._instance, destination=self._other, is_ack=is_ack)

    def _heard(self, now: Instant) -> None:
        if self._interval_ns is not None:
            # MPLA-4.7-01
            self.lost_at = now + 7 * self._interval_ns // 2

    def _drawn(self) -> int:
        return int.from_bytes(self._entropy(4), "big") or 1
