"""A subscription keeps the machine contract; a receiver banks the same whatever the path does."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powertcp.potcp.events import ConnectionTerminated, SamplesReceived
from powertcp.potcp.feed import Piece
from powertcp.potcp.receiver import FeedReceiver
from powertcp.potcp.subscription import FeedSubscription
from powertcp.wire import DEFAULT_MSP
from powertcp.wire.frames import HEADER
from tests.contract import (
    Subject,
    check_chunkings,
    check_clock,
    check_deterministic,
    check_end,
    check_garbage,
    check_limit,
    check_misuse,
    check_timers,
    play,
)
from tests.feeds import OTHER_KEY, SECOND, Broadcast, events, hear


def ignore(machine: FeedSubscription, event: object, now: int) -> None:
    """Do nothing: a receiver has no say."""


def subscribed() -> FeedSubscription:
    machine = FeedSubscription(FeedReceiver(want_samples=True))
    machine.start(SECOND)
    return machine


def talk() -> list[tuple[int, bytes]]:
    """Return what a source says: the confirmation, then 40 blocks with their signatures."""
    broadcast = Broadcast()
    turns = [(SECOND, broadcast.source.confirm())]
    for _ in range(8):
        pieces = broadcast.emit(5)
        turns.append((broadcast.now, b"".join(piece.octets for piece in pieces)))
    return turns


def merged(found: list[object]) -> list[object]:
    """Make one of the samples of a talk: how they come apart depends on how octets came."""
    samples = [event for event in found if isinstance(event, SamplesReceived)]
    rest = [event for event in found if not isinstance(event, SamplesReceived)]
    total = (sum(e.count for e in samples), sum(e.energy_uj for e in samples))
    return [*rest, *total, b"".join(event.samples or b"" for event in samples)]


SUBJECT = Subject(
    make=subscribed,
    react=ignore,
    misuse={"a second start": lambda machine, now: machine.start(now)},
    ended=ConnectionTerminated,
    start=SECOND,
    turns=talk(),
    merge=merged,
)


def test_the_talk_is_heard() -> None:
    machine, heard = play(SUBJECT)
    assert machine.is_confirmed
    assert machine.receiver.esn_uj == 40 * 600_000
    assert heard.octets[0]


def test_the_machine_contract() -> None:
    check_misuse(SUBJECT)
    check_end(SUBJECT)
    check_clock(SUBJECT)
    check_timers(SUBJECT)
    check_chunkings(SUBJECT)
    check_deterministic(SUBJECT)


@pytest.mark.parametrize("garbage", [b"\0" * 40, bytes(range(256)), b"GET / HTTP/1.1\r\n\r\n" * 3])
def test_garbage_ends_in_one_event(garbage: bytes) -> None:
    check_garbage(SUBJECT, garbage)


def test_the_longest_payload_and_one_octet_more() -> None:
    sizes = (DEFAULT_MSP, DEFAULT_MSP + 1)
    at, above = (HEADER.pack(0x504F, 1, 5, 0x90, 0, size, 0, 0) + bytes(size) for size in sizes)
    check_limit(SUBJECT, at, above)


PIECES = Broadcast("230V/1A@50Hz").emit(60)


def bank_all() -> int:
    receiver = FeedReceiver()
    hear(receiver, PIECES)
    return receiver.esn_uj


TOTAL_UJ = bank_all()


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, len(PIECES) - 1), max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_order_and_any_duplicates_bank_the_same(random: Random, again: list[int]) -> None:
    pieces = [*PIECES, *(PIECES[index] for index in again)]
    random.shuffle(pieces)
    receiver = FeedReceiver()
    hear(receiver, pieces)
    signed = 50
    assert receiver.esn_uj == TOTAL_UJ
    assert receiver.tally().banked == signed
    assert receiver.tally().lost == 0
    total = sum(e.energy_uj for e in events(receiver) if isinstance(e, SamplesReceived))
    assert total == TOTAL_UJ


@given(st.randoms(use_true_random=False), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_whatever_is_lost_nothing_is_banked_that_did_not_arrive(
    random: Random, loss: float
) -> None:
    strangers: list[Piece | bytes] = [*Broadcast(key=OTHER_KEY).emit(10), random.randbytes(100)]
    arrived: list[Piece | bytes] = [piece for piece in PIECES if random.random() >= loss]
    heard = len([piece for piece in arrived if isinstance(piece, Piece) and piece.is_block])
    mixed = [*arrived, *strangers]
    random.shuffle(mixed)
    receiver = FeedReceiver(wanted=Broadcast().source.feed.feed_id)
    hear(receiver, mixed)
    tally = receiver.tally()
    assert tally.banked + tally.pending == heard
    assert receiver.esn_uj <= TOTAL_UJ
    assert tally.forged == 0
    assert tally.banked + tally.lost <= 50
