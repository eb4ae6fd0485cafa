"""Poll: one epoll task for many wires."""

import socket

import trio
import trio.testing

from powertcp.drivers import Poll, SegmentStream
from tests.drivers.line_machine import END, Lines


async def test_many_wires_one_task_and_closed_ones_are_forgotten() -> None:
    poll = Poll()
    pairs = [socket.socketpair() for _ in range(50)]
    got: dict[int, list[bytes]] = {number: [] for number in range(50)}
    async with trio.open_nursery() as nursery:
        for number, (ours, _) in enumerate(pairs):
            poll.register(SegmentStream(ours, Lines(), got[number].extend, nursery=nursery))
        nursery.start_soon(poll.run)
        for number, (_, theirs) in enumerate(pairs):
            peer = Lines()
            peer.send(b"%d" % number)
            theirs.send(peer.data_to_send())
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert [got[number] for number in range(50)] == [[b"%d" % n] for n in range(50)]
        assert len(poll) == 50
        for _, theirs in pairs:
            theirs.close()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(poll) == 0
        assert all(events[-1] == END for events in got.values())
        nursery.cancel_scope.cancel()
    poll.close()


async def test_a_wire_closed_by_us_leaves_the_poll_before_its_descriptor_closes() -> None:
    poll = Poll()
    ours, theirs = socket.socketpair()
    async with trio.open_nursery() as nursery:
        stream = SegmentStream(ours, Lines(), nursery=nursery)
        poll.register(stream)
        stream.close()
        assert len(poll) == 0
        again, other = socket.socketpair()
        poll.register(SegmentStream(again, Lines(), nursery=nursery))
        assert len(poll) == 1
    for end in (theirs, again, other):
        end.close()
    poll.close()


async def test_cancelled_and_run_again_it_goes_on() -> None:
    poll = Poll()
    ours, theirs = socket.socketpair()
    got: list[bytes] = []
    async with trio.open_nursery() as nursery:
        poll.register(SegmentStream(ours, Lines(), got.extend, nursery=nursery))
        peer = Lines()
        for count in range(1, 4):
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_when_idle, scope)
                await poll.run()
            assert scope.cancelled_caught
            peer.send(b"x")
            theirs.send(peer.data_to_send())
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_when_idle, scope)
                await poll.run()
            assert len(got) == count
    for end in (ours, theirs):
        end.close()
    poll.close()


async def _cancel_when_idle(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)
    scope.cancel()
