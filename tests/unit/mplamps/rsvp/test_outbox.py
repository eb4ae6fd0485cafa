"""What goes to a neighbour at its limits: of states, of what waits, of acknowledgements, of octets."""

from dataclasses import replace

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.mplamps.rsvp import (
    MAX_SENT,
    Ack,
    Acknowledgement,
    ForeignObject,
    Hello,
    Key,
    Message,
    MessageId,
    Path,
    PathTear,
    Settings,
    decode_message,
    path_key,
)
from powertcp.mplamps.rsvp.outbox import ACK_NS, AGAIN_NS, MAX_ATTACHED, MAX_OWED, Outbox
from powertcp.mplamps.rsvp.post import Post
from tests.conversation import counting_entropy
from tests.rsvp_messages import LAMP, PATH, SESSION, node

SAID = replace(PATH, message_id=None)
TEAR = PathTear(session=SESSION, hop=PATH.hop, sender=LAMP, tspec=PATH.tspec)
dropped: list[str] = []


def made(**settings: object) -> Outbox:
    dropped.clear()
    entropy = counting_entropy()
    return Outbox(node(1), Settings(**settings), 1, entropy, dropped.append, Post(), 1)  # type: ignore[arg-type]


def path(tunnel: int) -> Path:
    return replace(SAID, session=SESSION._replace(tunnel=tunnel))


def tear(tunnel: int) -> PathTear:
    return replace(TEAR, session=SESSION._replace(tunnel=tunnel))


def acks(count: int) -> list[Acknowledgement]:
    return [Acknowledgement(9, number) for number in range(count)]


def drained(outbox: Outbox) -> list[Message]:
    return [decode_message(octets).message for octets, _ in outbox.post.drain()]


def test_a_state_too_many_is_refused_and_another_one_of_the_same_key_is_not() -> None:
    outbox = made(max_states=2)
    outbox.send(path(1), 0)
    outbox.send(path(2), 0)
    with pytest.raises(LocalProtocolError, match=r"3 states for 10\.0\.0\.1, limit 2"):
        outbox.send(path(3), 0)
    outbox.send(path(2), 0)
    outbox.send(tear(1), 0)
    outbox.send(path(3), 0)
    assert outbox.states == 2
    assert len(drained(outbox)) == 5


@pytest.mark.requirement("MPLA-4.7-03")
def test_a_trigger_too_many_is_sent_once_and_asks_for_no_acknowledgement() -> None:
    outbox = made(max_triggers=2)
    for tunnel in (1, 2, 3):
        outbox.send(tear(tunnel), 0)
    marks = [one.message_id for one in drained(outbox) if isinstance(one, PathTear)]
    assert marks == [MessageId(1, 1), MessageId(1, 2), MessageId(1, 3, is_ack_desired=False)]
    assert outbox.waiting == 2
    outbox.acknowledged((Acknowledgement(1, 1), Acknowledgement(1, 3)), 0)
    outbox.send(tear(4), 0)
    assert outbox.waiting == 2


def test_a_tear_takes_the_place_of_the_one_before_it() -> None:
    outbox = made()
    outbox.send(tear(1), 0)
    outbox.send(tear(1), 0)
    assert outbox.waiting == 1
    outbox.send(path(1), 0)
    assert outbox.waiting == 1
    assert outbox.states == 1


@pytest.mark.requirement("MPLA-4.7-03")
def test_acknowledgements_wait_10_ms_and_100_of_them_not_at_all() -> None:
    outbox = made()
    outbox.owe(acks(MAX_OWED - 1), 0)
    assert drained(outbox) == []
    assert outbox.get_timer() == ACK_NS
    outbox.owe(acks(1), 5)
    assert drained(outbox) == [Ack(acks=(*acks(MAX_OWED - 1), *acks(1)))]
    assert outbox.get_timer() is None
    outbox.owe(acks(MAX_OWED + 1), 7)
    assert [len(one.acks) for one in drained(outbox) if isinstance(one, Ack)] == [MAX_OWED, 1]
    outbox.owe(acks(1), 9)
    outbox.handle_timer(9 + ACK_NS - 1)
    assert drained(outbox) == []
    outbox.handle_timer(9 + ACK_NS)
    assert drained(outbox) == [Ack(acks=tuple(acks(1)))]
    outbox.owe([], 9)
    assert outbox.get_timer() is None


def test_the_longest_ack_fits_into_a_datagram_with_integrity() -> None:
    outbox = made(key=Key(1, bytes(16)))
    outbox.owe(acks(MAX_OWED), 0)
    ((octets, _),) = outbox.post.drain()
    assert len(octets) <= MAX_SENT


@pytest.mark.requirement("MPLA-4.7-03")
def test_some_acknowledgements_go_with_a_message_and_an_ack_takes_the_rest() -> None:
    outbox = made()
    outbox.owe(acks(MAX_ATTACHED + 1), 0)
    outbox.send(path(1), 0)
    (said,) = drained(outbox)
    assert isinstance(said, Path)
    assert said.acks == tuple(acks(MAX_ATTACHED))
    outbox.handle_timer(ACK_NS)
    assert drained(outbox) == [Ack(acks=tuple(acks(MAX_ATTACHED + 1)[MAX_ATTACHED:]))]


@pytest.mark.requirement("MPLA-4.1-01", "MPLA-4.7-03")
def test_a_message_without_room_takes_none_and_one_that_is_too_long_is_refused() -> None:
    outbox = made()
    outbox.send(path(1), 0)
    ((octets, _),) = outbox.post.drain()
    room = MAX_SENT - len(octets) - 4
    outbox.owe(acks(1), 0)
    with pytest.raises(LocalProtocolError, match="limit 1,472"):
        outbox.send(replace(path(2), others=(ForeignObject(200, 1, bytes(room + 4)),)), 0)
    assert outbox.post.drain() == []
    assert outbox.states == 1
    outbox.send(replace(path(2), others=(ForeignObject(200, 1, bytes(room)),)), 0)
    (said,) = drained(outbox)
    assert isinstance(said, Path)
    assert (said.acks, said.message_id) == ((), MessageId(1, 2))
    outbox.handle_timer(ACK_NS)
    assert drained(outbox) == [Ack(acks=tuple(acks(1)))]


@pytest.mark.parametrize("said", [PATH, replace(SAID, acks=(Acknowledgement(1, 1),)),
                                  Hello(source=1, destination=0)])  # fmt: skip
def test_who_sends_gives_no_number(said: Path) -> None:
    with pytest.raises(LocalProtocolError, match="these are set here"):
        made().send(said, 0)


def test_an_epoch_has_24_bits() -> None:
    Outbox(node(1), Settings(), 0xFF_FFFF, bytes, dropped.append, Post(), 1)
    with pytest.raises(LocalProtocolError, match="epoch"):
        Outbox(node(1), Settings(), 0x100_0000, bytes, dropped.append, Post(), 1)


@pytest.mark.requirement("MPLA-4.7-04")
def test_an_acknowledgement_of_nothing_says_nothing() -> None:
    outbox = made()
    outbox.send(path(1), 0)
    outbox.send(tear(2), 0)
    outbox.post.drain()
    foreign = (Acknowledgement(2, 1), Acknowledgement(1, 7), Acknowledgement(1, 7, is_nack=True))
    outbox.acknowledged((*foreign, Acknowledgement(1, 2, is_nack=True)), 0)
    assert outbox.waiting == 2
    assert drained(outbox) == []
    outbox.acknowledged((Acknowledgement(1, 1), Acknowledgement(1, 1), Acknowledgement(1, 2)), 0)
    assert outbox.waiting == 0


@pytest.mark.requirement("MPLA-4.7-04")
def test_a_state_that_was_never_acknowledged_is_still_refreshed() -> None:
    outbox = made()
    outbox.send(path(1), 0)
    for at in range(9):
        outbox.handle_timer(at * AGAIN_NS[-1])
    assert dropped == ["unanswered"]
    assert outbox.sent(path_key(path(1).session, LAMP)) == path(1)
    outbox.post.drain()
    outbox.acknowledged((Acknowledgement(1, 1, is_nack=True),), 0)
    (said,) = drained(outbox)
    assert isinstance(said, Path)
    assert said.message_id == MessageId(1, 2)


def test_the_time_of_a_refresh_is_by_chance_within_its_bounds() -> None:
    for octet, expected in ((0, 50), (255, 149)):
        outbox = Outbox(
            node(1), Settings(refresh_ns=100), 1, bytes([octet]).__mul__, dropped.append, Post(), 1
        )
        outbox.send(path(1), 0)
        outbox.acknowledged((Acknowledgement(1, 1),), 0)
        assert outbox.get_timer() == expected


@pytest.mark.requirement("MPLA-4.1-01")
def test_what_is_too_long_without_company_is_refused_too() -> None:
    outbox = made(is_reliable=False)
    with pytest.raises(LocalProtocolError, match="limit 1,472"):
        outbox.send(replace(path(2), others=(ForeignObject(200, 1, bytes(1_400)),)), 0)
    assert outbox.get_timer() is None
