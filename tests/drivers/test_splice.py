"""Splices: octets of a plain connection through a circuit and back, unaltered, to both ends' ends."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from powertcp.drivers.splice import splice
from powertcp.mplamps.tcp import State
from powertcp.reclaim.track import End
from powertcp.registry import SegmentType
from powertcp.wire.frames import pack_segment
from tests.drivers.circuits import Line, line

DATA = pack_segment(SegmentType.DATA, 0, 1, 7, b"", bytes(24))
CREDIT = pack_segment(SegmentType.CREDIT, 0, 1, 7, b"", bytes(16))


@asynccontextmanager
async def spliced(
    made: Line, first: bytes = b"", leave: trio.Event | None = None
) -> AsyncIterator[tuple[trio.SocketStream, list[bool], list[tuple[End, bytes]]]]:
    """Splice the lamp's end; yields the other end of the plain connection."""
    ours, theirs = trio.socket.socketpair()
    results: list[bool] = []
    seen: list[tuple[End, bytes]] = []

    async def run() -> None:
        heed = lambda end, octets: seen.append((end, bytes(octets)))  # noqa: E731
        results.append(await splice(trio.SocketStream(ours), made.lamp, first, heed, leave))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield trio.SocketStream(theirs), results, seen
        finally:
            nursery.cancel_scope.cancel()
            theirs.close()


async def received(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    got = b""
    while len(got) < size:
        data = await stream.receive_some()
        assert data
        got += data
    return got


@pytest.mark.requirement("MPLA-9-03")
async def test_octets_pass_both_ways_and_each_block_begins_a_packet() -> None:
    stuff = CREDIT + DATA + DATA + CREDIT + DATA
    async with line() as made, spliced(made, CREDIT) as (plain, results, seen):
        await plain.send_all(stuff)
        assert await received(made.es, len(CREDIT + stuff)) == CREDIT + stuff
        starts = [p.payload[:4] for p in made.carried["lamp"] if p.payload[4:5] == DATA[4:5]]
        assert starts == [DATA[:4]] * 3
        await made.es.send_all(b"answer")
        assert await received(plain, 6) == b"answer"
        await plain.send_eof()
        assert await made.es.receive_some() == b""
        await made.es.send_all(b"late")
        assert await received(plain, 4) == b"late"
        await made.es.send_eof()
        assert await plain.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked()
        assert results == [True]
        assert b"".join(o for end, o in seen if end is End.CLIENT) == CREDIT + stuff
        assert b"".join(o for end, o in seen if end is End.SERVER) == b"answerlate"


async def test_a_header_that_never_becomes_whole_is_sent_at_the_end() -> None:
    async with line() as made, spliced(made) as (plain, _, __):
        await plain.send_all(DATA[:11])
        await plain.send_eof()
        assert await received(made.es, 11) == DATA[:11]
        assert await made.es.receive_some() == b""


async def test_a_circuit_that_breaks_resets_the_consumer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = await trio.open_tcp_stream(*server.getsockname())
        sock, _ = server.accept()
    ours = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    async with line() as made, trio.open_nursery() as nursery:
        nursery.start_soon(splice, ours, made.lamp)
        await trio.testing.wait_all_tasks_blocked()
        made.es.abort()
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive_some()
    await theirs.aclose()


async def test_a_consumer_that_breaks_resets_the_circuit() -> None:
    async with line() as made, spliced(made) as (plain, results, _):
        await made.es.send_all(b"unread")
        await trio.testing.wait_all_tasks_blocked()
        # a socket that is closed with octets unread tells its peer so
        plain.socket.close()
        await made.es.send_all(b"more")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await made.es.receive_some()
        assert results == [False]


async def test_cancelled_it_leaves_nothing_open() -> None:
    async with line() as made:
        ours, theirs = trio.socket.socketpair()
        with theirs:
            with trio.move_on_after(0) as scope:
                await splice(trio.SocketStream(ours), made.lamp)
            assert scope.cancelled_caught
            assert made.lamp.end.state in (State.FIN_WAIT_1, State.FIN_WAIT_2)
            assert await theirs.recv(10) == b""


@pytest.mark.requirement("MPLA-9-03")
async def test_told_to_leave_it_delivers_what_is_under_way() -> None:
    leave = trio.Event()
    async with line() as made, spliced(made, b"", leave) as (plain, results, _):
        await plain.send_all(DATA + CREDIT[:9])
        assert await received(made.es, len(DATA)) == DATA
        leave.set()
        while await made.es.receive_some():
            pass
        # for nobody, and yet no reset
        await plain.send_all(DATA)
        await made.es.send_all(DATA)
        await made.es.send_eof()
        assert await received(plain, len(DATA)) == DATA
        assert await plain.receive_some() == b""
        await plain.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert results == [True]
