"""Wheel: one task, 10 ms slots, deadlines rounded up."""

import logging
import sys

import trio
import trio.testing

from powertcp.drivers import Wheel
from powertcp.drivers.daemon import now_ns
from powertcp.errors import LocalProtocolError
from powertcp.units import NS_PER_MS, NS_PER_S

MS = NS_PER_MS


class Clocked:
    """Notes when it is called; the next deadline is the head of a list."""

    def __init__(self, *times: int) -> None:
        self.times = list(times)
        self.calls: list[int] = []
        self.flushes = 0

    def handle_timer(self, now: int) -> None:
        self.calls.append(now)
        while self.times and self.times[0] <= now:
            self.times.pop(0)

    def flush(self) -> None:
        self.flushes += 1

    def get_timer(self) -> int | None:
        return self.times[0] if self.times else None


async def turn(wheel: Wheel, until_s: float) -> None:
    with trio.CancelScope(deadline=until_s):
        await wheel.run()


async def test_a_deadline_is_served_at_most_one_slot_late(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wheel, wire = Wheel(), Clocked(123 * MS, 456 * MS)
    wheel.arm(wire, 123 * MS)
    await turn(wheel, 1)
    assert wire.calls == [130 * MS, 460 * MS]
    assert wire.flushes == 2
    assert len(wheel) == 0


async def test_an_earlier_deadline_replaces_and_a_later_one_is_free(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wheel, wire = Wheel(), Clocked(200 * MS)
    wheel.arm(wire, 500 * MS)
    wheel.arm(wire, 200 * MS)
    wheel.arm(wire, 900 * MS)
    await turn(wheel, 2)
    assert wire.calls == [200 * MS]


async def test_arming_wakes_a_sleeping_wheel(autojump_clock: trio.testing.MockClock) -> None:
    wheel, late, soon = Wheel(), Clocked(), Clocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wheel.run)
        await trio.testing.wait_all_tasks_blocked()
        wheel.arm(late, 5 * NS_PER_S)
        await trio.testing.wait_all_tasks_blocked()
        wheel.arm(soon, 1 * NS_PER_S)
        await trio.sleep(2)
        assert soon.calls == [1 * NS_PER_S]
        assert late.calls == []
        nursery.cancel_scope.cancel()


async def test_an_error_ends_at_its_wire(
    autojump_clock: trio.testing.MockClock, bugs: list[logging.LogRecord]
) -> None:
    class Bad(Clocked):
        def handle_timer(self, now: int) -> None:
            raise LocalProtocolError("misuse")

    wheel, good = Wheel(), Clocked()
    wheel.arm(Bad(), 100 * MS)
    wheel.arm(good, 100 * MS)
    await turn(wheel, 1)
    assert good.calls
    assert wheel.faults == 1
    assert bugs.pop()


async def test_disarmed_and_past_deadlines(autojump_clock: trio.testing.MockClock) -> None:
    wheel, gone, past = Wheel(), Clocked(), Clocked()
    await trio.sleep(1)
    wheel.arm(gone, 1_100 * MS)
    wheel.disarm(gone)
    wheel.arm(past, 1)
    await turn(wheel, 2)
    assert gone.calls == []
    assert past.calls == [1 * NS_PER_S]


async def test_a_machine_that_never_advances_is_called_once_per_slot(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Stuck(Clocked):
        def get_timer(self) -> int:
            return 1

    wheel, wire = Wheel(), Stuck()
    wheel.arm(wire, 1)
    await turn(wheel, 0.1)
    assert len(wire.calls) <= 11


async def test_cancelled_between_two_wires_the_rest_is_served_by_the_next_run() -> None:
    class Slow(Clocked):
        def handle_timer(self, now: int) -> None:
            super().handle_timer(now)
            end = now_ns() + 2 * MS
            while now_ns() < end:
                pass
            scope.cancel()

    wheel = Wheel()
    wires = [Slow() for _ in range(4)]
    for wire in wires:
        wheel.arm(wire, 1)
    for expected in range(1, 5):
        with trio.CancelScope() as scope:
            await wheel.run()
        assert scope.cancelled_caught
        assert sum(len(wire.calls) for wire in wires) == expected
    assert len(wheel) == 0


async def test_who_is_disarmed_is_kept_alive_by_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wheel, wire = Wheel(), Clocked(500 * MS)
    wheel.arm(wire, 500 * MS)
    wheel.arm(wire, 200 * MS)
    before = sys.getrefcount(wire)
    wheel.disarm(wire)
    # one entry among the deadlines, one in its slot
    assert sys.getrefcount(wire) == before - 2
    await turn(wheel, 1)
    assert wire.calls == []
