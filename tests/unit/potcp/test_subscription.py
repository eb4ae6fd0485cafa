"""A feed over TCP: asked for, confirmed, heard, left."""

from collections.abc import Callable

import pytest

from powertcp.errors import LocalProtocolError
from powertcp.potcp.events import Alerted, ConnectionTerminated, SamplesReceived
from powertcp.potcp.feed import ANY_FEED, feed_segment, refuse_feed
from powertcp.potcp.receiver import FeedJoined, FeedPageDue, FeedReceiver
from powertcp.potcp.subscription import OPEN_NS, FeedSubscription
from powertcp.registry import Flag, Reason, Refusal
from powertcp.wire import Control, Credit, Feed, FeedSegment, Options, Receipt, encode_segment
from powertcp.wire.frames import pack_segment
from tests.contract import at_random, octet_by_octet, whole
from tests.conversation import segments
from tests.feeds import OTHER_KEY, SECOND, Broadcast, events


def subscribed(wanted: bytes = b"") -> FeedSubscription:
    """Return a subscription that has said its SYN."""
    subscription = FeedSubscription(FeedReceiver(wanted=wanted), wanted=wanted)
    subscription.start(SECOND)
    return subscription


def ending(subscription: FeedSubscription) -> Refusal | None:
    """Drain the events; the last is the end, return its reason."""
    last = events(subscription)[-1]
    assert isinstance(last, ConnectionTerminated)
    assert subscription.is_terminated
    return last.refusal


@pytest.mark.requirement("PTCP-12-02")
@pytest.mark.parametrize("chunking", [whole, octet_by_octet, at_random(3), at_random(4)])
def test_a_subscriber_asks_hears_and_leaves(chunking: Callable[[bytes], list[bytes]]) -> None:
    broadcast, subscription = Broadcast(), subscribed()
    [syn] = segments(subscription.data_to_send())
    assert syn == FeedSegment(0, Flag.SYN, 0, Options(feed=Feed(ANY_FEED, 0)), b"")
    pieces = broadcast.emit(10)
    octets = broadcast.source.confirm() + b"".join(piece.octets for piece in pieces)
    for part in chunking(octets):
        subscription.receive_data(part, 2 * SECOND)
    assert subscription.is_confirmed
    found = events(subscription)
    assert [type(event) for event in found] == [FeedJoined, SamplesReceived, SamplesReceived]
    assert subscription.receiver.esn_uj == broadcast.source.esn_uj == 6_000_000
    subscription.leave(3 * SECOND)
    [page] = events(subscription)
    assert isinstance(page, FeedPageDue)
    assert page.final
    subscription.send_receipt(page.feed, bytes(380))
    assert subscription.queued
    fin, receipt = segments(subscription.data_to_send())
    assert fin == FeedSegment(0, Flag.FIN, 0, Options(feed=broadcast.source.feed), b"")
    assert receipt == Receipt(0, 0, bytes(380), Options(feed=broadcast.source.feed))
    assert subscription.queued == 0
    subscription.receive_eof(4 * SECOND)
    assert ending(subscription) is None


def test_who_wants_one_feed_takes_no_other() -> None:
    broadcast, other = Broadcast(), Broadcast(key=OTHER_KEY)
    wanted = broadcast.source.feed.feed_id
    subscription = subscribed(wanted)
    [syn] = segments(subscription.data_to_send())
    assert isinstance(syn, FeedSegment)
    assert syn.options.feed == Feed(wanted, 0)
    subscription.receive_data(other.source.confirm(), SECOND)
    refusal = ending(subscription)
    assert refusal is not None
    assert refusal.code == Reason.IDENTITY_MISMATCH
    [rst] = segments(subscription.data_to_send())
    assert isinstance(rst, Control)
    assert rst.flags == Flag.RST


@pytest.mark.requirement("PTCP-12-06")
def test_a_confirmation_with_a_key_of_another_name_is_refused() -> None:
    broadcast, other = Broadcast(), Broadcast(key=OTHER_KEY)
    options = Options(
        profiles=(broadcast.source.profile,),
        sampling=broadcast.sampling,
        meter=other.source.meter,
        feed=broadcast.source.feed,
    )
    subscription = subscribed()
    octets = encode_segment(FeedSegment(0, Flag.SYN | Flag.ACK, 0, options, b""))
    subscription.receive_data(octets, SECOND)
    refusal = ending(subscription)
    assert refusal is not None
    assert refusal.code == Reason.IDENTITY_MISMATCH


@pytest.mark.requirement("PTCP-12-02")
def test_a_source_without_the_feed_says_so() -> None:
    subscription = subscribed()
    subscription.receive_data(refuse_feed(Feed(ANY_FEED, 0)), SECOND)
    alert, end = events(subscription)
    assert isinstance(alert, Alerted)
    assert isinstance(end, ConnectionTerminated)
    assert end.refusal is not None
    assert end.refusal.code == Reason.NOT_OFFERED


def test_a_source_that_ends_its_feed_ends_the_subscription_and_hears_the_last_page() -> None:
    broadcast, subscription = Broadcast(), subscribed()
    feed = broadcast.source.feed
    subscription.data_to_send()
    subscription.receive_data(broadcast.source.confirm(), SECOND)
    subscription.receive_data(feed_segment(feed, Flag.FIN), SECOND)
    refusal = ending(subscription)
    assert refusal is not None
    assert refusal.code == Reason.NORMAL
    with pytest.raises(LocalProtocolError):
        subscription.leave(SECOND)
    with pytest.raises(LocalProtocolError):
        subscription.start(SECOND)
    assert subscription.may_send_receipt
    subscription.send_receipt(feed, bytes(380))
    [receipt] = segments(subscription.data_to_send())
    assert receipt == Receipt(0, 0, bytes(380), Options(feed=feed))
    subscription.receive_data(b"anything", SECOND)
    subscription.receive_eof(SECOND)
    assert events(subscription) == []
    assert not subscription.may_send_receipt
    with pytest.raises(LocalProtocolError):
        subscription.send_receipt(feed, bytes(380))


def test_no_answer_within_5_s_ends_the_subscription() -> None:
    subscription = subscribed()
    assert subscription.get_timer() == SECOND + OPEN_NS
    subscription.handle_timer(SECOND + OPEN_NS - 1)
    assert not subscription.is_terminated
    subscription.handle_timer(SECOND + OPEN_NS)
    refusal = ending(subscription)
    assert refusal is not None
    assert (refusal.code, refusal.value) == (Reason.TIMEOUT, 5000)
    assert subscription.get_timer() is None


def test_a_subscription_starts_once() -> None:
    with pytest.raises(LocalProtocolError):
        subscribed().start(SECOND)


@pytest.mark.requirement("PTCP-12-03")
@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (encode_segment(Credit(0, 0, 5)), Reason.STATE),
        (encode_segment(FeedSegment(0, Flag.SYN, 0, Options(), b"")), Reason.STATE),
        (encode_segment(FeedSegment(0, Flag.SYN | Flag.ACK, 0, Options(), b"")), Reason.STATE),
        (encode_segment(Control(0, Flag.RST)), Reason.OPERATOR),
        (
            encode_segment(Control(0, Flag.RST, 0, Options(reason=Refusal(Reason.CHURN)))),
            Reason.CHURN,
        ),
        (pack_segment(0x55, 0, 0, 0, b"", b""), Reason.UNSUPPORTED_TYPE),
        (b"HTTP/1.1 200 OK\r\n\r\n", Reason.BAD_MAGIC),
    ],
)
def test_what_no_feed_sends_ends_the_subscription(octets: bytes, code: int) -> None:
    subscription = subscribed()
    subscription.receive_data(octets, SECOND)
    refusal = ending(subscription)
    assert refusal is not None
    assert refusal.code == code
    assert not subscription.may_send_receipt


@pytest.mark.requirement("PTCP-12-04")
def test_a_block_that_fits_no_datagram_is_not_of_a_feed_over_tcp_either() -> None:
    broadcast, subscription = Broadcast(), subscribed()
    source = broadcast.source
    options = Options(feed=source.feed, sampling=source.sampling, profiles=(source.profile,))
    payload = (0).to_bytes(4, "big") + b"\x80\x01" + (150).to_bytes(2, "big") + bytes(1200)
    octets = encode_segment(FeedSegment(0, 0, 0, options, payload))
    subscription.receive_data(octets, SECOND)
    assert subscription.receiver.tally().malformed == 1
    assert not subscription.is_terminated


def test_after_the_end_nothing_is_due_and_time_runs_forwards_still() -> None:
    subscription = subscribed()
    subscription.receive_eof(2 * SECOND)
    assert ending(subscription) is None
    subscription.handle_timer(3 * SECOND)
    assert events(subscription) == []
    for late in (subscription.receive_eof, subscription.handle_timer):
        with pytest.raises(LocalProtocolError):
            late(SECOND)


def test_types_that_may_be_skipped_are_skipped() -> None:
    subscription = subscribed()
    subscription.receive_data(pack_segment(0x99, 0, 0, 0, b"", b"later"), SECOND)
    assert not subscription.is_terminated
    assert events(subscription) == []
