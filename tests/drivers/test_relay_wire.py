"""Wires of a relay: what one side does not take, the other is not asked for."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.poll import Poll
from powertcp.drivers.relay_wire import OWN_HIGH, ROOM_HIGH, RelayWire
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import RECEIVE_OCTETS
from powertcp.reclaim.leg import Hung
from powertcp.reclaim.relay import Relay
from powertcp.wire.frames import maintain_segment

if TYPE_CHECKING:
    from powertcp.machine import Event

PROBES = maintain_segment(1, 0, 0) * 60_000
KERNEL = 16 * 1024


class Middle:
    """A relay on two socket pairs; `device` and `provider` are the far ends."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.relay = Relay(lambda _flow, _asks, _via: None, lambda: True)
        self.relay.proven(now_ns())
        self.events: list[Event] = []
        self.closed: list[str] = []
        wheel, self.poll = Wheel(), Poll()
        nursery.start_soon(wheel.run)
        nursery.start_soon(self.poll.run)
        ends = [socket.socketpair() for _ in range(2)]
        for pair in ends:
            for one in pair:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
        self.device, self.provider = (trio.socket.from_stdlib_socket(far) for _, far in ends)
        legs = (self.relay.device, self.relay.provider)
        self.wires: list[RelayWire] = []
        for number, ((near, _), leg) in enumerate(zip(ends, legs, strict=True)):
            self.wires.append(
                RelayWire(
                    near,
                    leg,
                    self.events.extend,
                    poll=self.poll,
                    backlog=partial(self.waits, 1 - number),
                    nursery=nursery,
                    wheel=wheel,
                    on_close=lambda: self.closed.append("closed"),
                )
            )
        self.wires[0].partner, self.wires[1].partner = self.wires[1], self.wires[0]
        for wire in self.wires:
            wire.begin(now_ns())

    def waits(self, number: int) -> int:
        return self.wires[number].queued

    def close(self) -> None:
        for wire in self.wires:
            wire.abort()
        for far in (self.device, self.provider):
            far.close()


@asynccontextmanager
async def relaying() -> AsyncIterator[tuple[Middle, trio.Nursery]]:
    """A relay in the middle; at the end nothing of it is open."""
    async with trio.open_nursery() as nursery:
        middle = Middle(nursery)
        try:
            yield middle, nursery
        finally:
            middle.close()
            nursery.cancel_scope.cancel()
    middle.poll.close()


async def pour(sock: trio.socket.SocketType, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[await sock.send(view) :]


async def drain(sock: trio.socket.SocketType, count: int) -> None:
    while count > 0:
        count -= len(await sock.recv(1 << 16))


@pytest.mark.parametrize("up", [True, False], ids=["device", "provider"])
async def test_a_side_that_does_not_read_stops_the_other(up: bool) -> None:
    async with relaying() as (middle, nursery):
        near, far = (middle.device, middle.provider)[:: 1 if up else -1]
        reading = middle.wires[0 if up else 1]
        writing = middle.wires[1 if up else 0]
        nursery.start_soon(pour, near, PROBES)
        with trio.fail_after(10):
            while not reading.is_paused:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        # what one read brings may come on top of it
        assert ROOM_HIGH < writing.queued <= ROOM_HIGH + RECEIVE_OCTETS
        assert len(middle.poll) == 1
        came = 0
        with trio.fail_after(10):
            while came < len(PROBES):
                came += len(await far.recv(1 << 16))
        assert came == len(PROBES)
        assert not reading.is_paused


async def test_a_side_that_does_not_read_what_it_is_answered_is_heard_no_more() -> None:
    async with relaying() as (middle, nursery):
        wire, leg = middle.wires[0], middle.relay.device
        answers = maintain_segment(1, 0, 0) * 3_000
        count = OWN_HIGH // len(answers) + 2
        for _ in range(count):
            leg.send(answers)
        wire.flush()
        assert wire.queued > OWN_HIGH
        nursery.start_soon(pour, middle.device, PROBES)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.is_paused
        assert middle.wires[1].queued == 0
        with trio.fail_after(10):
            await drain(middle.device, count * len(answers))
            # it is heard again
            await drain(middle.provider, len(PROBES))
        assert not wire.is_paused


async def test_the_end_of_one_side_is_told() -> None:
    async with relaying() as (middle, _):
        await pour(middle.device, PROBES[:3600])
        middle.device.close()
        came = 0
        with trio.fail_after(10):
            while came < 3600:
                came += len(await middle.provider.recv(1 << 16))
            while not any(isinstance(one, Hung) for one in middle.events):
                await trio.lowlevel.checkpoint()
        middle.wires[1].finish()
        assert await middle.provider.recv(1) == b""
