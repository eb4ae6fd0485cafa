"""The vectors of feeds are a feed: a receiver banks it, a source makes the same octets."""

from typing import Any

import pytest

from powertcp.crypto import SigningKey
from powertcp.dve import integrate_many
from powertcp.ledger import Page
from powertcp.potcp.events import SamplesReceived
from powertcp.potcp.feed import FeedSource
from powertcp.potcp.receiver import FeedPageDue, FeedReceiver
from powertcp.potcp.subscription import FeedSubscription
from powertcp.profile import PowerProfile, ProfileType
from powertcp.wire import Receipt, Sampling
from powertcp.wire.feeds import feed_id, feed_transcript
from tests.conversation import segments
from tests.feeds import SECOND, events, hear
from tests.wire_values import vectors

VECTORS: dict[str, bytes] = {name: octets for name, _, octets in vectors()}
KEY = SigningKey(b"\x01" * 32)
PAIR = ["feed-block-0", "feed-block-1", "feed-signature"]


def banked(*names: str) -> FeedReceiver:
    receiver = FeedReceiver(wanted=feed_id(KEY.public))
    hear(receiver, [VECTORS[name] for name in names])
    return receiver


@pytest.mark.requirement("PTCP-12-01", "PTCP-12-05", "PTCP-12-06")
@pytest.mark.parametrize("names", [PAIR, PAIR[::-1], [PAIR[0], "feed-block-1-ece", PAIR[2]]])
def test_a_receiver_banks_the_vectors(names: list[str]) -> None:
    receiver = banked(*names)
    assert receiver.esn_uj == 360_000
    assert receiver.tally().banked == 2


@pytest.mark.requirement("PTCP-12-01")
def test_a_block_that_another_signature_covers_is_not_banked() -> None:
    receiver = banked("feed-block-0", "feed-signature-one", "feed-signature-most")
    assert receiver.esn_uj == 0
    assert receiver.tally().pending == 1


@pytest.mark.requirement("PTCP-12-04", "PTCP-12-05", "PTCP-12-07")
def test_a_source_makes_the_octets_of_the_vectors() -> None:
    grant = PowerProfile.parse("12V/1.5A", ProfileType.GRANT)
    source = FeedSource(
        key=KEY.public, sign=KEY.sign, epoch=7, profile=grant, sampling=Sampling(1000)
    )
    for index in range(2):
        [segment] = segments(VECTORS[f"feed-block-{index}"])
        payload: Any = getattr(segment, "payload", b"")
        [sums] = integrate_many([payload], source.window_samples)
        source.emit(payload, sums, now=SECOND)
        if not index:
            confirm = source.confirm()
    source.finish()
    assert [piece.octets for piece in source.pieces()] == [VECTORS[name] for name in PAIR]
    assert confirm == VECTORS["feed-confirm"]


@pytest.mark.requirement("PTCP-12-02")
def test_a_subscriber_speaks_the_vectors() -> None:
    subscription = FeedSubscription(FeedReceiver())
    subscription.start(0)
    assert subscription.data_to_send() == VECTORS["feed-subscribe-any"]
    subscription.receive_data(VECTORS["feed-confirm"], 1)
    subscription.receive_data(b"".join(VECTORS[name] for name in PAIR), 1)
    assert [type(event) for event in events(subscription)][-1] is SamplesReceived
    subscription.leave(2)
    assert subscription.data_to_send() == VECTORS["feed-end"]


@pytest.mark.requirement("LEDG-6-05")
def test_the_receipt_of_the_vectors_says_what_was_banked() -> None:
    receiver = banked(*PAIR)
    receiver.leave(2 * SECOND)
    due = next(event for event in events(receiver) if isinstance(event, FeedPageDue))
    [segment] = segments(VECTORS["feed-receipt"])
    assert isinstance(segment, Receipt)
    assert segment.options.feed == due.feed
    page = Page.from_wire(segment.page)
    assert page.is_feed
    assert page.is_signed_by_sink()
    expected = feed_transcript(due.feed.feed_id, due.feed.epoch)
    assert page.transcript == due.transcript == expected
    assert (page.samples, page.start_uj, page.end_uj) == (due.samples, due.start_uj, due.end_uj)
    assert (page.digest, page.source_key) == (due.digest, due.key)
