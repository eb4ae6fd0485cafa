"""Pages that receivers send to the source of a feed: which are taken, and where they are kept."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from powertcp.drivers.feed_receipts import (
    FILE_OCTETS,
    RECEIPTS_PER_PEER,
    RECEIPTS_PER_S,
    ReceiptShelf,
    append_pages,
)
from powertcp.drivers.feed_wish import FeedWish
from powertcp.drivers.session import peer_of
from powertcp.ledger import Clock, Flags, Page, countersign
from powertcp.units import NS_PER_S, Instant
from powertcp.wire import Feed
from powertcp.wire.feeds import feed_transcript
from tests.drivers.test_consumer import Said
from tests.drivers.test_feed_link import hearing
from tests.feeds import KEY, OTHER_KEY

FEED = Feed(bytes(16), 7)
EMITTED_UJ = 1_000_000


def page(number: int = 0, start_uj: int = 0, end_uj: int = 600_000, **fields: object) -> Page:
    """Return an unsigned page of a receiver."""
    plain = Page(
        flags=Flags.FEED,
        clock=Clock.SYNCHRONISED,
        transcript=feed_transcript(FEED.feed_id, FEED.epoch),
        contract=0,
        page=number,
        samples=100,
        start_uj=start_uj,
        end_uj=end_uj,
        start_ns=1,
        end_ns=2,
        source_key=KEY.public,
        sink_key=OTHER_KEY.public,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def signed(plain: Page) -> bytes:
    return countersign(plain, OTHER_KEY).to_wire()


@pytest.mark.requirement("LEDG-6-05")
async def test_a_page_is_taken_once_in_its_turn(tmp_path: Path) -> None:
    shelf = ReceiptShelf(KEY.public, tmp_path / "feed.ptr")
    first, second = signed(page()), signed(page(3, 700_000, 900_000))
    assert shelf.take(FEED, EMITTED_UJ, first, 0)
    assert not shelf.take(FEED, EMITTED_UJ, first, 0)
    assert shelf.take(FEED, EMITTED_UJ, second, 0)
    assert not shelf.take(FEED, EMITTED_UJ, signed(page(2, 900_000, 950_000)), 0)
    assert not shelf.take(FEED, EMITTED_UJ, signed(page(4, 800_000, 950_000)), 0)
    assert (shelf.receivers, shelf.signed_uj, shelf.refused) == (1, 800_000, 3)
    shelf.close()
    assert not shelf.take(FEED, EMITTED_UJ, signed(page(5, 900_000, 950_000)), 0)
    await shelf.run()
    assert (tmp_path / "feed.ptr").read_bytes() == first + second


@pytest.mark.requirement("LEDG-6-05")
@pytest.mark.parametrize(
    "octets",
    [
        b"no page",
        page().to_wire(),
        signed(page())[:-64] + bytes(64),
        signed(page(end_uj=EMITTED_UJ + 1)),
        signed(page(flags=Flags(0))),
        signed(page(source_key=OTHER_KEY.public)),
        signed(page(transcript=bytes(32))),
    ],
)
async def test_a_page_that_proves_nothing_is_not_taken(tmp_path: Path, octets: bytes) -> None:
    shelf = ReceiptShelf(KEY.public, tmp_path / "feed.ptr")
    assert not shelf.take(FEED, EMITTED_UJ, octets, 0)
    assert (shelf.receivers, shelf.signed_uj, shelf.refused) == (0, 0, 1)


@pytest.mark.requirement("LEDG-8-02")
async def test_a_connection_is_one_receiver(tmp_path: Path) -> None:
    shelf = ReceiptShelf(KEY.public, tmp_path / "feed.ptr")
    other = countersign(page(sink_key=KEY.public), KEY).to_wire()
    assert shelf.take(FEED, EMITTED_UJ, signed(page()), 0)
    assert not shelf.take(FEED, EMITTED_UJ, other, 0, OTHER_KEY.public)
    assert (shelf.receivers, shelf.refused) == (1, 1)
    second = signed(page(1, 600_000, 700_000))
    assert shelf.take(FEED, EMITTED_UJ, second, 0, OTHER_KEY.public)
    # a meter of its own has a connection of its own
    assert shelf.take(FEED, EMITTED_UJ, other, 0)
    assert (shelf.receivers, shelf.refused) == (2, 1)


@pytest.mark.requirement("PTCP-14-01")
async def test_one_address_has_a_share_of_what_is_looked_at(tmp_path: Path) -> None:
    shelf = ReceiptShelf(KEY.public, tmp_path / "feed.ptr")
    for _ in range(1000):
        assert not shelf.take(FEED, EMITTED_UJ, b"", 0, peer=b"flood")
    assert not shelf.take(FEED, EMITTED_UJ, signed(page()), 0, peer=b"flood")
    assert shelf.take(FEED, EMITTED_UJ, signed(page()), 0, peer=b"other")
    for number in range(RECEIPTS_PER_S - RECEIPTS_PER_PEER - 1):
        peer = number.to_bytes(4, "big")
        assert not shelf.take(FEED, EMITTED_UJ, b"", 0, peer=peer)
    later = signed(page(1, 600_000, 700_000))
    assert not shelf.take(FEED, EMITTED_UJ, later, 0, peer=b"other"), "all had enough"
    assert shelf.take(FEED, EMITTED_UJ, later, NS_PER_S, peer=b"other")


@pytest.mark.requirement("PTCP-14-01")
async def test_no_more_than_64_pages_a_second_of_one_address_are_looked_at(
    tmp_path: Path,
) -> None:
    shelf = ReceiptShelf(KEY.public, tmp_path / "feed.ptr")
    for _ in range(RECEIPTS_PER_PEER - 1):
        assert not shelf.take(FEED, EMITTED_UJ, b"", 0)
    assert shelf.take(FEED, EMITTED_UJ, signed(page()), 0)
    later = signed(page(1, 600_000, 700_000))
    assert not shelf.take(FEED, EMITTED_UJ, later, NS_PER_S - 1)
    assert shelf.take(FEED, EMITTED_UJ, later, NS_PER_S)


async def test_another_epoch_begins_another_account(tmp_path: Path) -> None:
    shelf = ReceiptShelf(KEY.public, tmp_path / "feed.ptr")
    assert shelf.take(FEED, EMITTED_UJ, signed(page()), 0)
    feed = Feed(FEED.feed_id, 8)
    transcript = feed_transcript(feed.feed_id, feed.epoch)
    assert shelf.take(feed, EMITTED_UJ, signed(page(transcript=transcript, end_uj=5)), 0)
    assert (shelf.receivers, shelf.signed_uj) == (1, 5)


async def test_the_file_is_mended_bounded_and_its_loss_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "feed.ptr"
    octets = signed(page())
    path.write_bytes(octets + octets[:100])
    append_pages(path, [octets])
    assert path.read_bytes() == octets + octets
    append_pages(tmp_path / "new.ptr", [octets])
    assert (tmp_path / "new.ptr").stat().st_mode & 0o777 == 0o600
    os.truncate(path, FILE_OCTETS - 380)
    append_pages(path, [octets])
    with pytest.raises(OSError, match="at most"):
        append_pages(path, [octets])
    shelf = ReceiptShelf(KEY.public, path)
    shelf.take(FEED, EMITTED_UJ, octets, 0)
    shelf.close()
    await shelf.run()
    assert "receipts of the feed are not kept" in caplog.text


@pytest.mark.requirement("LEDG-6-05")
@pytest.mark.parametrize("who_ends", ["receiver", "source"])
async def test_a_subscriber_sends_its_pages_to_the_source(
    tmp_path: Path, who_ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from powertcp.drivers.dial import listen, parse_address
    from powertcp.drivers.feed import FeedStation
    from powertcp.drivers.provider import Provider, ProviderConfig
    from tests.drivers.feeding import feed_config

    peers, may_look = [], ReceiptShelf._may_look  # noqa: SLF001 - whom it counts for is the point

    def spy(shelf: ReceiptShelf, peer: bytes, now: Instant) -> bool:
        peers.append(peer)
        return may_look(shelf, peer, now)

    monkeypatch.setattr(ReceiptShelf, "_may_look", spy)
    provider = Provider(ProviderConfig(supplies=[], rating_mw=0))
    path = tmp_path / "feed.ptr"
    provider.station = station = FeedStation(
        feed_config(),
        provider.wheel,
        key=KEY.public,
        sign=KEY.sign,
        next_epoch=lambda: 7,
        receipts=path,
    )
    shelf, said = station.shelf, Said()
    assert shelf is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shelf.run)
        addresses = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
        host, port = parse_address(addresses[0])
        wish = FeedWish(host=host, port=port)
        for_ns = NS_PER_S if who_ends == "receiver" else None
        async with hearing(wish, said, tmp_path / "sink", for_ns=for_ns) as consumer:
            nursery.start_soon(consumer.run)
            await said.until("ready")
            if who_ends == "source":
                # its last page comes after the feed has ended
                station.stop()
            await said.until("done")
        while not shelf.receivers:
            await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    [receipt] = said.all("receipt")
    assert peers == [peer_of("127.0.0.1")]
    assert shelf.signed_uj == receipt["energy_uj"]
    kept = Page.from_wire(path.read_bytes())
    assert kept.energy_uj == shelf.signed_uj
    assert kept.is_signed_by_sink()
