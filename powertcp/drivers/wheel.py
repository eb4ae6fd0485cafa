"""Wheel: one timer task per process, 10 ms slots, awake for used slots only."""

import heapq
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from powertcp.drivers.bugs import BUGS
from powertcp.drivers.daemon import now_ns
from powertcp.units import NS_PER_MS, NS_PER_S, Instant

SLOT_NS = 10 * NS_PER_MS
STEP_NS = NS_PER_MS  # longest step without a checkpoint, P19
_log = logging.getLogger("wheel")


class Timed(Protocol):
    """What has deadlines: a wire, a ticking supply."""

    def handle_timer(self, now: Instant) -> None:
        """Do what is due; early calls do nothing."""

    def flush(self) -> object:
        """Send what that queued."""

    def get_timer(self) -> Instant | None:
        """Return the next deadline in ns, or None."""


class Wheel:
    """Deadlines of everything in this process, rounded up to 10 ms.

    A deadline that only moves later costs nothing: at its old slot the wire has nothing to do and
    names the new one. judge: says whether what a wire raises is a bug; what it raises itself ends
    `run`.
    """

    def __init__(
        self,
        clock: Callable[[], Instant] = now_ns,
        judge: Callable[[Exception], bool] = BUGS.judge,
    ) -> None:
        """Use `clock`, by default trio's, which MockClock drives."""
        self._clock = clock
        self._judge = judge
        self._slots: dict[int, dict[Timed, None]] = {}  # in the order of arming
        self._heap: list[int] = []
        self._at: dict[Timed, int] = {}  # the slot of each wire
        self._nap: trio.CancelScope | None = None
        self._nap_slot: int | None = None
        self.faults = 0

    def __len__(self) -> int:
        """Return the number of armed wires."""
        return len(self._at)

    def arm(self, wire: Timed, time_ns: Instant) -> None:
        """See to it that `wire` is called at `time_ns`, at most 10 ms later."""
        earlier = self._at.get(wire)
        if earlier is None or time_ns <= (earlier - 1) * SLOT_NS:
            self._arm_slot(wire, -(-time_ns // SLOT_NS))

    def disarm(self, wire: Timed) -> None:
        """Forget the deadlines of `wire`."""
        slot = self._at.pop(wire, None)
        if slot is not None:
            self._take_out(wire, slot)

    async def run(self) -> None:
        """Serve deadlines until cancelled."""
        while True:
            if self._heap and self._heap[0] * SLOT_NS <= self._clock():
                await self._serve(heapq.heappop(self._heap))
                await trio.lowlevel.checkpoint()
                continue
            self._nap_slot = self._heap[0] if self._heap else None
            with trio.CancelScope() as self._nap:
                if self._nap_slot is not None:
                    self._nap.deadline = self._nap_slot * SLOT_NS / NS_PER_S
                await trio.sleep_forever()
            self._nap = None

    def _arm_slot(self, wire: Timed, slot: int) -> None:
        earlier = self._at.get(wire)
        if earlier is not None:
            if earlier <= slot:
                return
            self._take_out(wire, earlier)
        self._at[wire] = slot
        wires = self._slots.get(slot)
        if wires is not None:
            wires[wire] = None
            return
        self._slots[slot] = {wire: None}
        heapq.heappush(self._heap, slot)
        if self._nap is not None and (self._nap_slot is None or slot < self._nap_slot):
            self._nap.cancel()

    def _take_out(self, wire: Timed, slot: int) -> None:
        wires = self._slots.get(slot)
        if wires is not None:
            wires.pop(wire, None)

    async def _serve(self, slot: int) -> None:
        """Call every wire of `slot`; after 1 ms others get their turn.

        Cancelled, the wires not yet called are armed again, so that a later `run` serves them.
        """
        wires = self._slots.pop(slot)
        now = started = self._clock()
        while wires:
            wire, _ = wires.popitem()
            if self._at.get(wire) != slot:
                continue  # it was taken out while it waited
            del self._at[wire]
            self._call(wire, now, slot)
            now = self._clock()
            if now - started > STEP_NS and wires:
                try:
                    await trio.lowlevel.checkpoint()
                except trio.Cancelled:
                    self._return(wires, slot)
                    raise
                now = started = self._clock()

    def _return(self, wires: Iterable[Timed], slot: int) -> None:
        for wire in wires:
            if self._at.get(wire) == slot:
                del self._at[wire]
                self._arm_slot(wire, slot + 1)

    def _call(self, wire: Timed, now: Instant, slot: int) -> None:
        """Run one wire's deadlines; its errors end at it (P12)."""
        try:
            wire.handle_timer(now)
            wire.flush()
            due = wire.get_timer()
        except Exception as error:  # noqa: BLE001 - ends at its wire
            self.faults += 1
            if not self._judge(error):
                _log.warning("timer of a connection: %s", error)
            return
        if due is not None:
            self._arm_slot(wire, max(-(-due // SLOT_NS), slot + 1))
