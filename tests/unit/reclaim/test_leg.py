"""One side of what stands in the middle: its queue, what waits in it, what it hands on."""

from powertcp.machine import Buffer
from powertcp.reclaim.leg import SEND_MAX, Hung, Leg
from powertcp.reclaim.track import End
from powertcp.registry import Reason, Refusal
from powertcp.wire.frames import Splitter


class Ears:
    """What stands between: it writes down what it is told."""

    def __init__(self) -> None:
        self.is_over = False
        self.heard: list[object] = []

    def receive(self, leg: Leg, data: Buffer, splitter: Splitter, now: int) -> None:
        assert splitter.error is None
        self.heard.append((leg.end, bytes(data), now))

    def cut(self, end: End, refusal: Refusal | None, now: int) -> None:
        self.heard.append((end, refusal, now))

    def get_timer(self) -> int | None:
        return 42

    def handle_timer(self, now: int) -> None:
        self.heard.append(now)


def leg(end: End = End.CLIENT) -> tuple[Leg, Ears]:
    ears = Ears()
    return Leg(ears, end), ears


def test_what_comes_goes_to_what_stands_between() -> None:
    one, ears = leg(End.SERVER)
    refusal = Refusal(Reason.OPERATOR)
    one.receive_data(b"abc", 1)
    one.cut(refusal, 2)
    one.receive_eof(3)
    assert ears.heard == [
        (End.SERVER, b"abc", 1), (End.SERVER, refusal, 2), (End.SERVER, None, 3),
    ]  # fmt: skip
    assert not one.is_terminated
    ears.is_over = True
    assert one.is_terminated


def test_the_side_of_the_client_keeps_the_time() -> None:
    client, ears = leg()
    assert client.get_timer() == 42
    client.handle_timer(43)
    assert ears.heard == [43]
    server, ears = leg(End.SERVER)
    assert server.get_timer() is None
    server.handle_timer(43)
    assert ears.heard == []


def test_events_come_in_their_order() -> None:
    one, _ = leg()
    events = [Hung(end=end, refusal=None) for end in End]
    one.events.extend(events)
    assert [one.next_event(), one.next_event(), one.next_event()] == [*events, None]


def test_what_is_sent_comes_whole_and_at_most_so_much_at_once() -> None:
    one, _ = leg()
    assert one.data_to_send() == b""
    one.send(b"ab")
    assert (one.queued, one.data_to_send(), one.queued) == (2, b"ab", 0)
    large = bytes(SEND_MAX - 1)
    for octets in (large, b"cd", b"ef"):
        one.send(octets)
    assert one.data_to_send() == large + b"cd"
    assert (one.queued, one.data_to_send()) == (2, b"ef")


def test_what_is_said_behind_something_held_waits_for_it() -> None:
    one, _ = leg()
    one.send(b"before")
    one.hold(1)
    one.send(b"one")
    one.hold(2)
    one.send(b"two")
    assert (one.is_held, one.data_to_send(), one.queued) == (True, b"before", 6)
    # the second is written first, and still waits for the first
    one.release(2)
    assert one.data_to_send() == b""
    one.release(1)
    assert (one.is_held, one.data_to_send()) == (False, b"onetwo")
    one.release(9)
    assert one.data_to_send() == b""


def test_what_waits_can_be_forgotten_and_all_the_rest_too() -> None:
    one, _ = leg()
    one.send(b"said")
    one.hold(1)
    one.send(b"held")
    one.drop()
    assert (one.is_held, one.queued) == (False, 4)
    one.hold(2)
    one.send(b"held")
    one.drop_all()
    assert (one.is_held, one.queued, one.data_to_send()) == (False, 0, b"")


def test_what_was_given_out_in_vain_is_said_before_the_rest() -> None:
    one, _ = leg()
    one.send(b"one")
    one.send(b"two")
    given = [one.data_to_send()]
    one.send(b"three")
    one.unsend([*given, b"and"])
    assert one.queued == len(b"onetwoandthree")
    assert one.data_to_send() == b"onetwoandthree"
