"""What the source of a feed leaves in its ledger: emissions, never less than there were.

Nothing is emitted before it is on the disk. A source that is killed leaves at most what it may emit
in 6 s in its books that nobody was sent.
"""

import errno
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from powertcp.drivers.feed import Emission, FeedConfig, FeedStation
from powertcp.drivers.ledger import Ledger
from powertcp.drivers.wheel import Wheel
from powertcp.errors import HostError, PowerRefused
from powertcp.ledger import Code, Transfer, transfer_key
from powertcp.ledger.memo import feed_memo
from powertcp.registry import Reason, Refusal
from powertcp.store import read_secret, write_secret
from powertcp.units import NS_PER_S
from powertcp.wire.feeds import feed_id, feed_transcript

VIRTUAL: Final = "uJ"
_EPOCH_OCTETS: Final = 4
_EPOCHS: Final = 1 << 8 * _EPOCH_OCTETS
# a clock from here on, January 2106, is not believed: what it would leave is for restarts
CLOCK_END_S: Final = _EPOCHS - (1 << 20)
_log = logging.getLogger("feed")


def next_epoch(state: Path, unix_s: int) -> int:
    """Return an epoch above every one that was used with `state`; by default it is Unix time.

    unix_s: any; one that is no time of an epoch, or of the last million, counts for nothing.
    Raises HostError. Written before it is used: no restart takes it again.
    """
    path = state / "feed.epoch"
    # PTCP-12-04
    last = int.from_bytes(read_secret(path, _EPOCH_OCTETS) or bytes(_EPOCH_OCTETS), "big")
    epoch = max(unix_s, last + 1) if unix_s < CLOCK_END_S else last + 1
    if epoch >= _EPOCHS:
        wanted = "begin another epoch (move meter.key away with this file: a new feed begins)"
        raise HostError(errno.EOVERFLOW, str(path), wanted)
    write_secret(path, epoch.to_bytes(_EPOCH_OCTETS, "big"))
    return epoch


class EmissionBook:
    """Posts what a feed emits, in the order in which it was told.

    on_posted: told of each emission that is on the disk. on_failure: called once, when the ledger takes no
    more: what cannot be written is not to be emitted.
    """

    def __init__(self, ledger: Ledger, supply: str) -> None:
        """Take the energy from `supply`, an account `source:<name>`."""
        self.on_posted: Callable[[Emission], None] | None = None
        self.on_failure: Callable[[], None] | None = None
        self._ledger = ledger
        self._supply = supply
        self._send, self._told = trio.open_memory_channel[Emission](math.inf)

    def emitted(self, emission: Emission) -> None:
        """Note an emission; `run` posts it."""
        self._send.send_nowait(emission)

    def close(self) -> None:
        """Nothing more is emitted: `run` ends with what was told."""
        self._send.close()

    async def run(self) -> None:
        """Post until `close`, cancelled or not; what the ledger refuses ends the feed."""
        with trio.CancelScope(shield=True):
            async for emission in self._told:
                try:
                    await self._ledger.post(emission_transfer(emission, self._supply))
                except PowerRefused as refused:
                    failure, self.on_failure = self.on_failure, None
                    # LEDG-7-07
                    if failure is not None:
                        said = "an emission is not in the ledger, the feed ends: %s"
                        _log.warning(said, refused)
                        failure()
                else:
                    if self.on_posted is not None:
                        self.on_posted(emission)


@asynccontextmanager
async def open_station(
    config: FeedConfig, wheel: Wheel, ledger: Ledger, state: Path
) -> AsyncIterator[FeedStation]:
    """Give the station of a feed whose emissions are posted, the last one before this ends.

    It signs with the meter key of `ledger`; `state` remembers its epochs, and keeps the pages that
    receivers sent in a page file. Raises HostError.
    """
    book = EmissionBook(ledger, f"source:{config.profile.format()}")
    station = FeedStation(
        config,
        wheel,
        key=ledger.meter.public,
        sign=ledger.meter.sign,
        next_epoch=lambda: next_epoch(state, time.time_ns() // NS_PER_S),
        emitted=book.emitted,
        receipts=state / f"feed-{feed_id(ledger.meter.public).hex()}.ptr",
    )
    station.booked_uj = 0
    no = Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written")
    book.on_posted, book.on_failure = station.book, partial(station.stop, no)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book.run)
        if station.shelf is not None:
            nursery.start_soon(station.shelf.run)
        try:
            yield station
        finally:
            station.close()
            book.close()


def emission_transfer(emission: Emission, supply: str) -> Transfer:
    """Return what is posted for energy that a feed emits, once whoever hears it.

    What was posted ahead and not emitted is corrected by an entry the other way round.
    """
    feed = emission.feed
    name = f"feed:{feed.feed_id.hex()}"
    is_more = emission.energy_uj > 0
    debit, credit = (name, supply) if is_more else (supply, name)
    transcript = feed_transcript(feed.feed_id, feed.epoch)
    return Transfer(
        key=transfer_key(transcript, emission.number, "emit", debit, credit),
        debit=debit,
        credit=credit,
        unit=VIRTUAL,
        amount=abs(emission.energy_uj),
        code=Code.EMIT if is_more else Code.CORRECTION,
        memo=feed_memo(feed.feed_id, feed.epoch, emission.number),
    )
