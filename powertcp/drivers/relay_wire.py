"""A wire of a relay: it reads only as long as both sides take what comes."""

import socket
from collections.abc import Callable
from typing import Final

import trio

from powertcp.drivers.poll import Poll
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import SegmentMachine, Wire
from powertcp.machine import Event
from powertcp.units import Instant

# octets that may wait for one side before the other is read no more; and one read beyond that
ROOM_HIGH: Final = 256 * 1024
# octets that may wait for a side itself before it is read no more: what the other may have left for
# it, and as much again that it was answered
OWN_HIGH: Final = 1024 * 1024
# it is read again when no more than this waits
ROOM_LOW: Final = 64 * 1024


def _nothing() -> None:
    """Nobody wants to know."""


class RelayWire(Wire[Event]):
    """One side of a relay; `partner` is the other one, None as long as there is none.

    backlog: octets that wait for the other side. on_turn: called after each turn of work.
    """

    __slots__ = ("_backlog", "_is_paused", "_on_turn", "_poll", "partner")

    def __init__(
        self,
        sock: socket.socket,
        machine: SegmentMachine[Event],
        handle: Callable[[list[Event]], None],
        *,
        poll: Poll,
        backlog: Callable[[], int],
        nursery: trio.Nursery,
        wheel: Wheel,
        on_close: Callable[[], None],
        on_turn: Callable[[], None] = _nothing,
    ) -> None:
        """Take over `sock`, which nobody else may touch from here on."""
        super().__init__(sock, machine, handle, nursery=nursery, wheel=wheel, on_close=on_close)
        self.partner: RelayWire | None = None
        self._poll = poll
        self._backlog, self._on_turn = backlog, on_turn
        self._is_paused = False

    @property
    def is_paused(self) -> bool:
        """Whether it is not read, because one of both does not take what is for it."""
        return self._is_paused

    def begin(self, now: Instant) -> None:
        """Read what is there, and whatever comes."""
        if self.readable(now) and not self.closed:
            self._poll.register(self)
        self.rearm()

    def readable(self, now: Instant) -> bool:
        """Read once and let the other side send; False when no more will come, or not now."""
        # PTCP-14-01
        if self._backlog() > ROOM_HIGH or self.queued > OWN_HIGH:
            self._is_paused = True
            return False
        goes_on = super().readable(now)
        self.pass_on()
        return goes_on

    def handle_timer(self, now: Instant) -> None:
        """Do what is due; the other side may have something to say then."""
        super().handle_timer(now)
        self.pass_on()

    def pass_on(self) -> None:
        """Let the other side send what waits for it."""
        if self.partner is not None:
            self.partner.flush()
        self._on_turn()

    def resume(self) -> None:
        """Read again, if that stopped and there is room."""
        waits = max(self._backlog(), self.queued)
        if self._is_paused and not self.closed and waits <= ROOM_LOW:
            self._is_paused = False
            if self.watcher is None:
                self._poll.register(self)

    def _push(self) -> bool:
        done = super()._push()
        self.resume()
        if self.partner is not None:
            self.partner.resume()
        return done
