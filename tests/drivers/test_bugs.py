"""A bug of ours that one connection brings to light ends that connection, and is told once."""

import logging
import socket

import pytest
import trio
import trio.testing

from powertcp.drivers.bugs import BUGS, MAX_TOLD, Bugs
from powertcp.drivers.poll import Poll
from powertcp.drivers.stream import SegmentStream
from powertcp.drivers.wheel import Wheel
from powertcp.errors import BrokenInvariant, LocalProtocolError, RemoteProtocolError
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS
from tests.drivers.line_machine import END, Lines, Pair

Met = list[logging.LogRecord]


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - any
        return caught


def test_what_a_peer_or_the_host_does_is_no_bug(bugs: Met) -> None:
    book = Bugs()
    assert not book.judge(OSError(28, "no space"))
    assert not book.judge(RemoteProtocolError(Refusal(Reason.STATE)))
    assert (book.count, bugs) == (0, [])


def test_a_bug_is_told_with_its_traceback_once_and_counted_each_time(bugs: Met) -> None:
    book = Bugs()
    for _ in range(3):
        assert book.judge(_raised(KeyError("x")))
    assert book.judge(_raised(LocalProtocolError("misuse")))
    assert book.count == 4
    assert [record.exc_info is not None for record in bugs] == [True, False, False, True]
    bugs.clear()


def test_so_many_places_are_told_with_a_traceback(bugs: Met) -> None:
    book = Bugs()
    for index in range(MAX_TOLD + 1):
        book.judge(type(f"Bug{index}", (Exception,), {})("new"))
    assert [record.exc_info is not None for record in bugs] == [True] * MAX_TOLD + [False]
    bugs.clear()


@pytest.mark.parametrize("error", [KeyError("flow"), BrokenInvariant("sums"), ZeroDivisionError()])
async def test_a_bug_ends_its_connection_and_no_other(
    small_pair: Pair, bugs: Met, error: Exception
) -> None:
    ours, theirs = small_pair
    other_ours, other_theirs = socket.socketpair()
    seen: list[bytes] = []

    def handle(events: list[bytes]) -> None:
        if END not in events:
            raise error

    before = BUGS.count
    poll = Poll()
    with other_ours, other_theirs:
        async with trio.open_nursery() as nursery:
            bad = SegmentStream(ours, Lines(), handle, nursery=nursery)
            good = SegmentStream(other_ours, Lines(), seen.extend, nursery=nursery)
            poll.register(bad)
            poll.register(good)
            nursery.start_soon(poll.run)
            for end in (theirs, other_theirs):
                peer = Lines()
                peer.send(b"a")
                end.send(peer.data_to_send())
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert (bad.closed, good.closed, seen) == (True, False, [b"a"])
            good.close()
            nursery.cancel_scope.cancel()
    poll.close()
    assert BUGS.count == before + 1
    assert len(bugs) == 1
    bugs.clear()


async def test_a_bug_of_a_deadline_ends_at_its_wire(
    autojump_clock: trio.testing.MockClock, bugs: Met
) -> None:
    called: list[int] = []

    class Good:
        def handle_timer(self, now: int) -> None:
            called.append(now)

        def flush(self) -> bool:
            return True

        def get_timer(self) -> int | None:
            return None

    class Bad(Good):
        def handle_timer(self, now: int) -> None:
            raise StopIteration

    wheel = Wheel()
    wheel.arm(Bad(), 100 * NS_PER_MS)
    wheel.arm(Good(), 100 * NS_PER_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wheel.run)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert (len(called), wheel.faults, len(bugs)) == (1, 1, 1)
    bugs.clear()
