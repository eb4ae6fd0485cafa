"""HELLO: instances of both ends, and what is believed of a neighbour."""

import pytest

from powertcp.mplamps.rsvp import Found, Hello, Lost
from powertcp.mplamps.rsvp.liveness import Liveness
from tests.conversation import counting_entropy

MS = 1_000_000
INTERVAL = 300 * MS


def made(interval_ns: int | None = INTERVAL) -> Liveness:
    return Liveness(interval_ns, counting_entropy(), 0)


def hello(source: int, destination: int = 0, *, is_ack: bool = False) -> Hello:
    return Hello(source=source, destination=destination, is_ack=is_ack)


@pytest.mark.requirement("MPLA-4.7-05")
def test_a_late_timer_does_not_double_the_hellos() -> None:
    one = made()
    assert one.handle_timer(0) is not None
    assert one.handle_timer(INTERVAL - 1) is None
    assert one.handle_timer(INTERVAL + 10 * MS) is not None
    assert one.hello_at == 2 * INTERVAL
    assert one.handle_timer(3 * INTERVAL) is not None
    assert one.hello_at == 3 * INTERVAL + INTERVAL // 2


@pytest.mark.requirement("MPLA-4.7-01")
def test_after_a_loss_the_instance_is_another_and_that_of_the_other_is_not_known() -> None:
    one = made()
    first = one.handle_timer(0)
    one.receive(hello(9), 0)
    before = one.handle_timer(INTERVAL)
    one.receive(hello(9, is_ack=True), INTERVAL)
    assert one.lost_at == INTERVAL + 7 * INTERVAL // 2
    after = one.handle_timer(one.lost_at)
    assert first is not None
    assert before is not None
    assert after is not None
    assert (first.destination, before.destination, after.destination) == (0, 9, 0)
    assert first.source == before.source != after.source
    assert one.next_change() == Lost()
    assert one.lost_at is None


@pytest.mark.requirement("MPLA-4.7-01")
def test_an_instance_that_is_over_does_not_come_back() -> None:
    one = made()
    assert one.receive(hello(9), 0)[1:] == (True, False)
    assert one.receive(hello(10), 0)[1:] == (True, True)
    assert one.receive(hello(9), 0) == (None, False, False)
    assert [one.next_change() for _ in range(2)] == [Found(is_new_instance=True), None]


@pytest.mark.requirement("MPLA-4.7-01")
def test_who_is_heard_for_the_first_time_after_a_loss_is_new() -> None:
    one = made()
    one.handle_timer(2_000 * MS)
    answer, counts, is_start = one.receive(hello(9), 2_001 * MS)
    assert answer is not None
    assert (answer.is_ack, counts, is_start) == (True, True, True)
    assert [one.next_change() for _ in range(2)] == [Lost(), Found(is_new_instance=True)]


def test_an_answer_is_not_answered_and_counts() -> None:
    one = made()
    request = one.handle_timer(0)
    assert request is not None
    assert one.receive(hello(9, request.source, is_ack=True), 5)[:2] == (None, True)
    assert one.receive(hello(9, request.source + 1, is_ack=True), 5)[:2] == (None, False)
    assert one.lost_at == 5 + 7 * INTERVAL // 2


def test_without_interval_nothing_is_due() -> None:
    one = made(None)
    assert one.hello_at is one.lost_at is None
    assert one.handle_timer(10**12) is None
    assert one.receive(hello(9), 0)[1]
    assert one.lost_at is None
    assert one.is_alive


def test_an_instance_is_never_0() -> None:
    one = Liveness(INTERVAL, bytes, 0)
    assert one.handle_timer(0) == hello(1)
