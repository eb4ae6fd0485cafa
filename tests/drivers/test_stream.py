"""SegmentStream: one read per wake-up, one writer, honest ends."""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from powertcp.drivers import SegmentStream, Wheel
from powertcp.errors import LocalProtocolError, WireBroken
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Duration
from tests.drivers.line_machine import END, Lines, Pair


async def test_readable_hands_over_all_events_of_one_read(small_pair: Pair) -> None:
    ours, theirs = small_pair
    batches: list[list[bytes]] = []
    async with trio.open_nursery() as nursery:
        stream = SegmentStream(ours, Lines(), batches.append, nursery=nursery)
        peer = Lines()
        for payload in (b"a", b"b", b"c"):
            peer.send(payload)
        theirs.send(peer.data_to_send())
        assert stream.readable(0)
        assert batches == [[b"a", b"b", b"c"]]
        assert stream.readable(0), "nothing there is not the end"
        assert len(batches) == 1


async def test_flush_says_whether_anything_is_left_and_a_writer_goes_on(small_pair: Pair) -> None:
    ours, theirs = small_pair
    async with trio.open_nursery() as nursery:
        machine = Lines()
        stream = SegmentStream(ours, machine, nursery=nursery)
        machine.send(b"x")
        assert stream.flush()
        assert not nursery.child_tasks
        machine.send(bytes(16_000))
        machine.send(bytes(16_000))
        assert not stream.flush()
        assert len(nursery.child_tasks) == 1
        assert not stream.flush(), "only the writer task sends now"
        reader = SegmentStream(theirs, Lines(), nursery=nursery)
        got: list[bytes] = []
        while len(got) < 3:
            got += await reader.receive_batch()
        await trio.testing.wait_all_tasks_blocked()
        assert stream.queued == 0
        assert stream.flush()
        assert not nursery.child_tasks


async def test_end_of_stream_is_an_event_and_then_an_empty_batch(small_pair: Pair) -> None:
    ours, theirs = small_pair
    async with trio.open_nursery() as nursery:
        stream = SegmentStream(ours, Lines(), nursery=nursery)
        theirs.close()
        assert await stream.receive_batch() == [END]
        assert await stream.receive_batch() == []
        assert stream.closed
        assert stream.flush(), "a closed wire takes and forgets"


async def test_finish_sends_what_is_queued_before_it_says_goodbye(small_pair: Pair) -> None:
    ours, theirs = small_pair
    async with trio.open_nursery() as nursery:
        machine = Lines()
        stream = SegmentStream(ours, machine, nursery=nursery)
        for _ in range(20):
            machine.send(bytes(3000))
        stream.finish()
        reader = SegmentStream(theirs, Lines(), nursery=nursery)
        got: list[bytes] = []
        while batch := await reader.receive_batch():
            got += batch
        assert got == [bytes(3000)] * 20 + [END]
        await stream.read()
        assert stream.closed


async def test_closing_over_a_tail_breaks_the_wire(small_pair: Pair) -> None:
    ours, _ = small_pair
    async with trio.open_nursery() as nursery:
        machine = Lines()
        stream = SegmentStream(ours, machine, nursery=nursery)
        for _ in range(20):
            machine.send(bytes(3000))
        assert not stream.flush()
        stream.close()
        with pytest.raises(WireBroken):
            await stream.receive_batch()
        with pytest.raises(WireBroken):
            await stream.room()
        with pytest.raises(WireBroken):
            stream.queue(machine.send, b"late")


async def test_an_error_of_a_handler_ends_its_connection_only(
    small_pair: Pair, bugs: list[logging.LogRecord]
) -> None:
    ours, theirs = small_pair
    seen: list[bytes] = []

    def handle(events: list[bytes]) -> None:
        seen.extend(events)
        if END not in events:
            raise LocalProtocolError("misuse")

    async with trio.open_nursery() as nursery:
        closes: list[bool] = []
        stream = SegmentStream(
            ours, Lines(), handle, nursery=nursery, on_close=lambda: closes.append(True)
        )
        before = SegmentStream.faults
        peer = Lines()
        peer.send(b"a")
        theirs.send(peer.data_to_send())
        assert not stream.readable(0)
        assert stream.closed
        assert closes == [True]
        assert seen == [b"a", END]
        assert SegmentStream.faults == before + 1
        assert bugs.pop()


async def test_events_caused_by_a_handler_come_after_those_it_was_given(small_pair: Pair) -> None:
    ours, theirs = small_pair
    order: list[bytes] = []
    machine = Lines()
    async with trio.open_nursery() as nursery:

        def handle(events: list[bytes]) -> None:
            for event in events:
                order.append(event)
                if event == b"first":
                    stream.queue(machine.events.append, b"caused")

        stream = SegmentStream(ours, machine, handle, nursery=nursery)
        peer = Lines()
        peer.send(b"first")
        peer.send(b"second")
        theirs.send(peer.data_to_send())
        stream.readable(0)
    assert order == [b"first", b"second", b"caused"]


async def given_up(
    ours: socket.socket, write_ns: Duration | Callable[[], Duration], before: Callable[[], object]
) -> tuple[float, list[Refusal]]:
    """Write to a peer that reads nothing, after `before`: when it is given up, in s, and why."""
    refusals: list[Refusal] = []
    closed = trio.Event()
    async with trio.open_nursery() as nursery:
        wheel = Wheel()
        nursery.start_soon(wheel.run)
        machine = Lines()
        stream = SegmentStream(
            ours,
            machine,
            nursery=nursery,
            wheel=wheel,
            write_ns=write_ns,
            on_close=closed.set,
            give_up=lambda refusal, _: refusals.append(refusal),
        )
        before()
        for _ in range(20):
            stream.queue(machine.send, bytes(3000))
        start = trio.current_time()
        await closed.wait()
        took = trio.current_time() - start
        nursery.cancel_scope.cancel()
    return took, refusals


@pytest.mark.requirement("PTCP-14-01")
async def test_a_peer_that_reads_nothing_is_given_up_after_t_write(
    small_pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    took, refusals = await given_up(small_pair[0], 2 * NS_PER_S, lambda: None)
    assert 2.0 <= took <= 2.1
    assert [refusal.code for refusal in refusals] == [Reason.TIMEOUT]


@pytest.mark.requirement("PTCP-14-01")
async def test_t_write_is_asked_for_when_it_begins_to_run(
    small_pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    limits = [65 * NS_PER_S]
    # a flow with a lease of 5 s has come
    took, refusals = await given_up(
        small_pair[0], lambda: limits[-1], lambda: limits.append(10 * NS_PER_S)
    )
    assert 10.0 <= took <= 10.1
    assert [refusal.value for refusal in refusals] == [10_000]


async def test_room_waits_above_256_kib_until_64_are_left(small_pair: Pair) -> None:
    ours, theirs = small_pair
    async with trio.open_nursery() as nursery:
        machine = Lines()
        stream = SegmentStream(ours, machine, nursery=nursery)
        for _ in range(30):
            stream.queue(machine.send, bytes(10_000))
        reader = SegmentStream(theirs, Lines(), nursery=nursery)
        nursery.start_soon(reader.read)
        await stream.room()
        assert stream.queued <= 64 * 1024
        nursery.cancel_scope.cancel()


async def test_timers_wake_whoever_waits_for_events(
    small_pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    ours, _ = small_pair

    class Bell(Lines):
        def handle_timer(self, now: int) -> None:
            super().handle_timer(now)
            if self.fired and not self.events:
                self.events.append(b"ding")

    async with trio.open_nursery() as nursery:
        wheel = Wheel()
        nursery.start_soon(wheel.run)
        machine = Bell()
        stream = SegmentStream(ours, machine, nursery=nursery, wheel=wheel)
        machine.timer = 500 * NS_PER_MS
        stream.flush()
        assert b"ding" in await stream.receive_batch()
        nursery.cancel_scope.cancel()


async def test_a_reset_by_the_peer_is_an_end(small_pair: Pair) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    async with trio.open_nursery() as nursery:
        stream = SegmentStream(server, Lines(), nursery=nursery)
        peer = SegmentStream(client, Lines(), nursery=nursery)
        peer.abort()
        with suppress(OSError):
            assert await stream.receive_batch() == [END]
        assert stream.closed
