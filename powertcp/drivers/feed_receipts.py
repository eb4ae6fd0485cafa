"""Pages that receivers of a feed signed and sent to its source: judged, counted, kept in a file.

They prove nothing about what other receivers got: what they add up to is a lower bound.
"""

import logging
import math
import os
from pathlib import Path
from typing import NamedTuple

import trio

from powertcp.errors import DecodeError
from powertcp.ledger import PAGE_OCTETS, Page
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.feeds import feed_transcript
from powertcp.wire.options import Feed

# looked at in a second, of one address: a page of each connection it may have, 8 ms of signatures
RECEIPTS_PER_PEER = 64
# of all: ten addresses, 83 ms
RECEIPTS_PER_S = 640
# receivers of an epoch of which the last page is remembered: 12 MB
RECEIVERS_MAX = 65_536
# of the file: 176,000 pages, a day of 120 receivers; then it is to be taken away
FILE_OCTETS = 64 << 20
# where a page names its receiver
SINK_KEY = slice(220, 252)
_log = logging.getLogger("feed")


class _Last(NamedTuple):
    page: int
    end_uj: int


class ReceiptShelf:
    """Takes pages of one feed. key: the meter key of its source. path: where pages are kept.

    receivers, signed_uj: of the epoch that runs. refused: pages that did not fit, or came too fast.
    """

    def __init__(self, key: bytes, path: Path) -> None:
        """Remember nobody yet; `run` writes."""
        self.signed_uj = 0
        self.refused = 0
        self._key = key
        self._path = path
        self._feed: Feed | None = None
        self._last: dict[bytes, _Last] = {}
        self._closed = False
        self._second: Instant = -NS_PER_S
        self._looks: dict[bytes, int] = {}  # of this second, by address
        self._send, self._taken = trio.open_memory_channel[bytes](math.inf)

    @property
    def receivers(self) -> int:
        """How many meters signed pages of this epoch."""
        return len(self._last)

    # LEDG-6-05
    def take(
        self,
        feed: Feed,
        emitted_uj: int,
        octets: bytes,
        now: Instant,
        meter: bytes = b"",
        peer: bytes = b"",
    ) -> bool:
        """Take a page of `feed`, of which `emitted_uj` was emitted in this epoch; whether it fits.

        meter: of the receiver whose pages came before on this connection, which is one receiver:
        else one peer could be as many as it has keys. peer: the address it came from, which has a
        share of what is looked at.

        A page fits if its receiver signed it, it follows the one before, and says no more than was
        emitted. What is not of this epoch is in the receiver's own ledger only.
        """
        # LEDG-8-02
        if meter and octets[SINK_KEY] != meter:
            self.refused += 1
            return False
        page = self._read(octets) if self._may_look(peer, now) else None
        if self._closed or page is None or not self._fits(page, feed, emitted_uj):
            self.refused += 1
            return False
        self._last[page.sink_key] = _Last(page.page, page.end_uj)
        self.signed_uj += page.energy_uj
        self._send.send_nowait(octets)
        return True

    def _may_look(self, peer: bytes, now: Instant) -> bool:
        """Count a look at a page of `peer`; False when it, or all of them, had enough of them."""
        if now - self._second >= NS_PER_S:
            self._second = now
            self._looks.clear()
        looks = self._looks.get(peer, 0)
        # PTCP-14-01
        if looks >= RECEIPTS_PER_PEER or sum(self._looks.values()) >= RECEIPTS_PER_S:
            return False
        self._looks[peer] = looks + 1
        return True

    def _read(self, octets: bytes) -> Page | None:
        try:
            return Page.from_wire(octets)
        except DecodeError:
            return None

    def _fits(self, page: Page, feed: Feed, emitted_uj: int) -> bool:
        """Say whether a page is what its receiver may have signed."""
        if feed != self._feed:
            self._feed, self.signed_uj = feed, 0
            self._last.clear()
        last = self._last.get(page.sink_key)
        follows = last is None or (page.page > last.page and page.start_uj >= last.end_uj)
        return (
            page.is_feed
            and page.source_key == self._key
            and page.transcript == feed_transcript(feed.feed_id, feed.epoch)
            and page.end_uj <= emitted_uj
            and follows
            and (last is not None or len(self._last) < RECEIVERS_MAX)
            and page.is_signed_by_sink()
        )

    def close(self) -> None:
        """Take nothing more: `run` ends with what was taken."""
        self._closed = True
        self._send.close()

    async def run(self) -> None:
        """Write pages until `close`, cancelled or not; what the disk refuses is said and dropped."""
        with trio.CancelScope(shield=True):
            async for octets in self._taken:
                pages = [octets]
                while True:
                    try:
                        pages.append(self._taken.receive_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                try:
                    await trio.to_thread.run_sync(append_pages, self._path, pages)
                except OSError as error:
                    _log.warning("receipts of the feed are not kept: %s", error)


def append_pages(path: Path, pages: list[bytes]) -> None:
    """Append whole pages to a page file. Raises OSError, also at 64 MiB."""
    with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        size = file.tell()
        if size + PAGE_OCTETS * len(pages) > FILE_OCTETS:
            raise OSError(None, f"{path} holds {size:,} octets, {FILE_OCTETS:,} at most")
        # a crash may have cut the last page
        file.truncate(size - size % PAGE_OCTETS)
        file.write(b"".join(pages))
