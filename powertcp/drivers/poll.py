"""Poll: one epoll task for all accepted sockets of a process (P3)."""

import select
from collections.abc import Callable

import trio

from powertcp.drivers.bugs import BUGS
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.wire import Pollable
from powertcp.units import NS_PER_MS, NS_PER_S

READY_PER_CALL = 256
STEP_NS = NS_PER_MS


class Poll:
    """Wakes for whatever is readable and calls it, one read each per turn.

    judge: told what a wire raises, which is then forgotten; what it raises itself ends `run`.
    """

    def __init__(self, judge: Callable[[Exception], object] = BUGS.judge) -> None:
        """Open the epoll descriptor; `close` closes it."""
        self._judge = judge
        self._epoll = select.epoll()
        self._wires: dict[int, Pollable] = {}

    def __len__(self) -> int:
        """Return the number of watched wires."""
        return len(self._wires)

    def register(self, wire: Pollable) -> None:
        """Watch `wire`; it is forgotten when it answers False or closes."""
        number = wire.fileno()
        self._epoll.register(number, select.EPOLLIN)
        self._wires[number] = wire
        wire.watcher = self

    def unregister(self, wire: Pollable) -> None:
        """Forget `wire`; before its descriptor is closed."""
        number = wire.fileno()
        if self._wires.get(number) is wire:
            del self._wires[number]
            self._epoll.unregister(number)
        wire.watcher = None

    def close(self) -> None:
        """Forget everything."""
        self._wires.clear()
        trio.lowlevel.notify_closing(self._epoll.fileno())
        self._epoll.close()

    async def run(self) -> None:
        """Serve until cancelled; after 1 ms of work others get their turn."""
        poll = self._epoll.poll
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            started = now_ns()
            while ready := poll(0, READY_PER_CALL):
                self._read(ready)
                if now_ns() - started > STEP_NS:
                    await trio.lowlevel.checkpoint()
                    started = now_ns()

    def _read(self, ready: list[tuple[int, int]]) -> None:
        """Let each wire that is ready read once."""
        wires, time = self._wires, trio.lowlevel.current_clock().current_time
        for number, _ in ready:
            wire = wires.get(number)
            if wire is None:
                continue
            try:
                # read anew: the wire before may have moved the clock of this one
                goes_on = wire.readable(round(time() * NS_PER_S))
            except Exception as error:  # noqa: BLE001 - ends at its wire
                self._judge(error)
                goes_on = False
            if not goes_on:
                self.unregister(wire)
