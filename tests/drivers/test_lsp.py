"""LspStream: what any trio stream promises, and what is its own."""

import pytest
import trio
import trio.testing

from powertcp.drivers.lsp import LspStream
from powertcp.mplamps.tcp import MAX_BACKLOG, State
from powertcp.registry import Reason
from tests.drivers.circuits import Line, line


async def test_it_keeps_the_contract_of_streams(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def pair() -> tuple[LspStream, LspStream]:
        made = Line()
        nursery.start_soon(made.run)
        while made.es.end.state is not State.ESTABLISHED:
            await trio.lowlevel.checkpoint()
        return made.lamp, made.es

    async def clogged() -> tuple[LspStream, LspStream]:
        one, other = await pair()
        for stream in (one, other):
            while stream.end.room:
                await stream.send_all(bytes(stream.end.room))
                await trio.testing.wait_all_tasks_blocked()
        return one, other

    await trio.testing.check_half_closeable_stream(pair, clogged)
    nursery.cancel_scope.cancel()


async def test_octets_and_their_end_come_once_and_in_order() -> None:
    octets = bytes(range(256)) * 2048
    async with line() as made:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.lamp.send_all, octets)
            got = b""
            while len(got) < len(octets):
                got += await made.es.receive_some(5000)
        assert got == octets
        await made.lamp.send_eof()
        assert await made.es.receive_some() == b""
        await made.es.send_all(b"still there")
        assert await made.lamp.receive_some() == b"still there"
        await made.es.aclose()
        assert await made.lamp.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked()
        assert made.ended == {made.lamp, made.es}


@pytest.mark.requirement("MPLA-9-03")
async def test_a_piece_begins_a_packet() -> None:
    async with line() as made:
        await made.es.send_pieces([(b"one", False), (b"two", True), (b"three", False)])
        await trio.testing.wait_all_tasks_blocked()
        sent = [packet.payload for packet in made.carried["es"] if packet.payload]
        assert sent == [b"one", b"two", b"three"]
        assert await made.lamp.receive_some() == b"onetwothree"


async def test_what_comes_for_who_has_closed_resets_the_connection() -> None:
    async with line() as made:
        await made.es.send_all(b"unread")
        await trio.testing.wait_all_tasks_blocked()
        await made.lamp.aclose()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError, match="reset"):
            await made.es.send_all(b"x")
        assert made.es.refusal is not None
        assert made.es.refusal.code == Reason.STATE
        with pytest.raises(trio.BrokenResourceError, match="reset"):
            await made.es.receive_some()


async def test_octets_that_come_after_the_close_reset_the_connection() -> None:
    async with line() as made:
        await made.lamp.aclose()
        assert await made.es.receive_some() == b""
        await made.es.send_all(b"too late")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError, match="reset"):
            await made.es.send_all(b"x")


async def test_a_reset_says_so_to_both_sides() -> None:
    async with line() as made:
        made.lamp.abort()
        made.lamp.abort()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.ClosedResourceError):
            await made.lamp.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="reset"):
            await made.es.receive_some()
        assert not made.lamp.turn()


@pytest.mark.requirement("MPLA-9-01")
async def test_a_circuit_that_carries_nothing_breaks_after_eight_tries(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with line() as made:
        made.is_cut = True
        await made.lamp.send_all(b"nobody hears")
        with pytest.raises(trio.BrokenResourceError):
            await made.lamp.receive_some()
        assert made.lamp.refusal is not None
        assert made.lamp.refusal.code == Reason.TIMEOUT


async def test_cancelled_it_loses_nothing_and_works_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """At each checkpoint of each call, then the stream is used twice more."""
    async with line() as made:
        cancelled = 0
        for steps in range(1, 6):
            for call in ("send_all", "receive_some", "wait_send_all_might_not_block"):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    if call == "send_all":
                        await made.lamp.send_all(b"never sent")
                    elif call == "receive_some":
                        await made.es.receive_some()
                    else:
                        await made.lamp.wait_send_all_might_not_block()
                cancelled += scope.cancelled_caught
            await made.lamp.send_all(b"a" * steps)
            assert await made.es.receive_some() == b"a" * steps
        assert cancelled == 15
        with trio.move_on_after(0.02) as scope:
            await made.es.receive_some()
        assert scope.cancelled_caught
        await made.lamp.send_all(b"after")
        assert await made.es.receive_some() == b"after"


async def test_who_sends_too_much_waits_and_nothing_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    octets = bytes(3 * MAX_BACKLOG)
    async with line() as made:
        with trio.move_on_after(0.05) as scope:
            await made.lamp.send_all(octets)
        assert scope.cancelled_caught
        part = MAX_BACKLOG - made.lamp.end.room
        assert part == MAX_BACKLOG
        got = 0
        while made.lamp.end.backlog or made.es.end.unread:
            got += len(await made.es.receive_some())
            await trio.lowlevel.checkpoint()
        assert got >= part
