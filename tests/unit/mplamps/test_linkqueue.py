"""A full queue lets go of what matters least."""

import pytest

from powertcp.mplamps.label import stack_octets
from powertcp.mplamps.linkqueue import MAX_PACKETS, LinkQueue


def packet(tc: int, name: int) -> bytes:
    return stack_octets((230, 16), tc) + name.to_bytes(2, "big")


def test_packets_leave_in_the_order_in_which_they_came() -> None:
    queue = LinkQueue()
    assert queue.pop() is None
    packets = [packet(tc, tc) for tc in (3, 7, 0)]
    assert [queue.push(one) for one in packets] == [None, None, None]
    assert len(queue) == 3
    assert [queue.pop() for _ in range(4)] == [*packets, None]


@pytest.mark.requirement("MPLA-2.2-03")
def test_a_full_queue_drops_the_lowest_class_and_of_several_the_last() -> None:
    queue = LinkQueue()
    important = [packet(5, name) for name in range(MAX_PACKETS - 3)]
    low = [packet(1, name) for name in (100, 101, 102)]
    for one in (low[0], *important, low[1], low[2]):
        assert queue.push(one) is None
    assert queue.push(packet(5, 200)) == low[2]
    assert queue.push(packet(7, 201)) == low[1]
    assert queue.push(packet(0, 202)) == packet(0, 202)
    assert queue.push(packet(1, 203)) == packet(1, 203)
    assert queue.push(packet(2, 204)) == low[0]
    assert queue.push(packet(2, 205)) == packet(2, 205)
    assert len(queue) == MAX_PACKETS
    assert queue.push(packet(7, 206)) == packet(2, 204)
    assert queue.push(packet(5, 207)) == packet(5, 207)
