"""Cancel everywhere: 4 KiB buffers, a cancel at every checkpoint, and no torn segment after it."""

import pytest
import trio
import trio.testing

from powertcp.drivers import CarriedStream, SegmentStream
from powertcp.errors import WireBroken
from tests.drivers.line_machine import END, Lines, Pair

PAYLOADS = [bytes([number % 256]) * (100 + 37 * number % 3000) for number in range(120)]
AFTER = [b"first after", b"second after"]


class CancelStep(trio.abc.Instrument):
    """Cancels this task's scope when it is about to run for the n-th time."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.scope = trio.CancelScope()
        self.task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def receive(stream: SegmentStream[bytes] | CarriedStream[bytes], count: int) -> list[bytes]:
    got: list[bytes] = []
    while len(got) < count:
        batch = await stream.receive_batch()
        assert batch
        got += batch
    return got


@pytest.mark.parametrize("number", range(40))
async def test_writer_cancelled_at_each_checkpoint_tears_nothing(
    small_pair: Pair, number: int
) -> None:
    ours, theirs = small_pair
    machine, peer = Lines(), Lines()
    async with trio.open_nursery() as doomed:
        writer = SegmentStream(ours, machine, nursery=doomed)
        for payload in PAYLOADS:
            writer.queue(machine.send, payload)
        for _ in range(number):  # each read lets the writer task go on by one checkpoint
            peer.receive_data(theirs.recv(1500), 0)
            await trio.testing.wait_all_tasks_blocked()
        assert doomed.child_tasks, "the writer task waits in its checkpoint"
        assert writer.queued
        doomed.cancel_scope.cancel()
    assert doomed.cancel_scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        writer.nursery = nursery
        reader = SegmentStream(theirs, peer, nursery=nursery)
        for mark in AFTER:
            writer.queue(machine.send, mark)
        got = await receive(reader, len(PAYLOADS) + len(AFTER))
        nursery.cancel_scope.cancel()
    assert got == PAYLOADS + AFTER
    assert peer.splitter.error is None


async def test_room_cancelled_while_it_waits_queues_nothing(small_pair: Pair) -> None:
    ours, theirs = small_pair
    async with trio.open_nursery() as nursery:
        machine = Lines()
        writer = SegmentStream(ours, machine, nursery=nursery)
        large = [bytes(10_000)] * 40
        for payload in large:
            writer.queue(machine.send, payload)
        before = writer.queued
        scope = trio.CancelScope()

        async def pump() -> None:
            with scope:
                await writer.room()
                writer.queue(machine.send, b"never")

        nursery.start_soon(pump)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert scope.cancelled_caught
        assert writer.queued == before
        for mark in AFTER:
            writer.queue(machine.send, mark)
        reader = SegmentStream(theirs, Lines(), nursery=nursery)
        assert await receive(reader, len(large) + 2) == large + AFTER
        await writer.room()
        nursery.cancel_scope.cancel()


async def test_room_cancelled_with_room_is_cancelled_all_the_same(small_pair: Pair) -> None:
    ours, _ = small_pair
    async with trio.open_nursery() as nursery:
        writer = SegmentStream(ours, Lines(), nursery=nursery)
        with trio.CancelScope() as scope:
            scope.cancel()
            await writer.room()
        assert scope.cancelled_caught


async def received_despite_a_cancel(
    nursery: trio.Nursery,
    number: int,
    machine: Lines,
    writer: SegmentStream[bytes] | CarriedStream[bytes],
    reader: SegmentStream[bytes] | CarriedStream[bytes],
) -> list[bytes]:
    """What arrives of PAYLOADS when receive_batch is cancelled at its checkpoint `number`."""

    async def feed() -> None:
        for payload in PAYLOADS:
            writer.queue(machine.send, payload)
            await trio.testing.wait_all_tasks_blocked()

    nursery.start_soon(feed)
    got: list[bytes] = []
    step = CancelStep(number)
    trio.lowlevel.add_instrument(step)
    with step.scope:
        while True:
            got += await reader.receive_batch()
    trio.lowlevel.remove_instrument(step)
    assert step.scope.cancelled_caught
    return got + await receive(reader, len(PAYLOADS) - len(got))


@pytest.mark.parametrize("number", range(1, 41))
async def test_receive_batch_cancelled_at_each_checkpoint_loses_no_event(
    small_pair: Pair, number: int
) -> None:
    ours, theirs = small_pair
    async with trio.open_nursery() as nursery:
        machine = Lines()
        writer = SegmentStream(ours, machine, nursery=nursery)
        reader = SegmentStream(theirs, Lines(), nursery=nursery)
        got = await received_despite_a_cancel(nursery, number, machine, writer, reader)
        assert got == PAYLOADS
        nursery.cancel_scope.cancel()


async def test_a_writer_cancelled_inside_send_all_breaks_the_stream_for_ever() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    machine = Lines()
    async with trio.open_nursery() as doomed:
        stream = CarriedStream(near, machine, nursery=doomed)
        stream.queue(machine.send, PAYLOADS[0])
        await trio.testing.wait_all_tasks_blocked()
        assert stream.queued
        doomed.cancel_scope.cancel()
    assert doomed.cancel_scope.cancelled_caught
    with pytest.raises(WireBroken):
        stream.queue(machine.send, b"late")
    with pytest.raises(WireBroken):
        await stream.room()
    with pytest.raises(WireBroken):
        await stream.receive_batch()
    await far.aclose()


async def test_a_carried_stream_delivers_both_ways_and_ends() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        ours, theirs = Lines(), Lines()
        one = CarriedStream(near, ours, nursery=nursery)
        two = CarriedStream(far, theirs, nursery=nursery)
        for payload in PAYLOADS:
            one.queue(ours.send, payload)
        assert await receive(two, len(PAYLOADS)) == PAYLOADS
        two.queue(theirs.send, b"back")
        assert await receive(one, 1) == [b"back"]
        await one.room()
        await one.aclose()
        assert await two.receive_batch() == [END]
        assert await two.receive_batch() == []


@pytest.mark.parametrize("number", range(1, 30))
async def test_a_carried_reader_cancelled_at_each_checkpoint_loses_no_event(number: int) -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        machine = Lines()
        writer = CarriedStream(near, machine, nursery=nursery)
        reader = CarriedStream(far, Lines(), nursery=nursery)
        got = await received_despite_a_cancel(nursery, number, machine, writer, reader)
        assert got == PAYLOADS
