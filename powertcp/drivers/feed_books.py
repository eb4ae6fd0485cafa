"""What feeds leave in a ledger: emissions at the source, pages signed by each receiver."""

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from struct import Struct
from typing import Final

import trio

from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.feed import Emission, FeedConfig, FeedStation
from powertcp.drivers.ledger import Ledger
from powertcp.drivers.wheel import Wheel
from powertcp.errors import PowerRefused
from powertcp.ledger import (
    NO_HASH,
    Clock,
    Code,
    Flags,
    Page,
    Side,
    Transfer,
    countersign,
    feed_transcript,
    page_hash,
    transfer_key,
)
from powertcp.ledger.memo import feed_memo
from powertcp.ledger.pairing import PageState
from powertcp.linux import is_synchronised
from powertcp.potcp.epoch import Account
from powertcp.potcp.feed import feed_id
from powertcp.potcp.receiver import FeedPageDue
from powertcp.store import read_secret, write_secret
from powertcp.units import NS_PER_S
from powertcp.wire.options import Feed

VIRTUAL: Final = "uJ"
# feeds a receiver has heard; the files are read at start
TOPS_MAX: Final = 1024
_EPOCH_OCTETS: Final = 4
_TOP: Final = Struct(">32sQ")
_log = logging.getLogger("feed")


def next_epoch(state: Path, unix_s: int) -> int:
    """Return an epoch above every one that was used with `state`; by default it is Unix time.

    Raises HostError. Written before it is used: no restart takes it again.
    """
    path = state / "feed.epoch"
    # PTCP-12-04
    last = int.from_bytes(read_secret(path, _EPOCH_OCTETS) or bytes(_EPOCH_OCTETS), "big")
    epoch = max(unix_s, last + 1)
    write_secret(path, epoch.to_bytes(_EPOCH_OCTETS, "big"))
    return epoch


class EmissionBook:
    """Posts what a feed emitted, in the order in which it was told."""

    def __init__(self, ledger: Ledger, supply: str) -> None:
        """Take the energy from `supply`, an account `source:<name>`."""
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
        """Post until `close`, cancelled or not; what the ledger refuses is said and dropped."""
        with trio.CancelScope(shield=True):
            async for emission in self._told:
                try:
                    await self._ledger.post(emission_transfer(emission, self._supply))
                except PowerRefused as refused:
                    _log.warning("an emission is not in the ledger: %s", refused)


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


def bank_transfer(page: Page, feed: Feed, store: str) -> Transfer:
    """Return what is posted for energy that a receiver banked, with the page that says so."""
    credit = f"feed:{feed.feed_id.hex()}"
    return Transfer(
        key=transfer_key(page.transcript, page.page, "bank", store, credit),
        debit=store,
        credit=credit,
        unit=VIRTUAL,
        amount=page.energy_uj,
        code=Code.BANK,
        memo=feed_memo(feed.feed_id, feed.epoch, page.page),
    )


class Tops:
    """Of each feed the epoch and the newest block that a page holds: one small file each."""

    def __init__(self, state: Path) -> None:
        """Keep them in the folder `state`."""
        self._state = state

    def read(self) -> dict[bytes, int]:
        """Return the newest block by transcript. Raises HostError."""
        found: dict[bytes, int] = {}
        for path in sorted(self._state.glob("feed-*.top"))[:TOPS_MAX]:
            octets = read_secret(path, _TOP.size)
            if octets is not None:
                transcript, top = _TOP.unpack(octets)
                found[transcript] = top
        return found

    def write(self, feed: bytes, transcript: bytes, top: int) -> None:
        """Remember `top`, durably. Raises HostError."""
        write_secret(self._state / f"feed-{feed.hex()}.top", _TOP.pack(transcript, top))


async def recall(ledger: Ledger, tops: Tops) -> Mapping[bytes, Account]:
    """Return where the accounts of epochs go on after an earlier run, by transcript.

    Raises HostError, PowerRefused 602.
    """
    accounts: dict[bytes, Account] = {}
    for transcript, top in tops.read().items():
        row = await ledger.last_page(transcript, Side.SINK)
        page = Page.from_wire(row.body) if row is not None else None
        following = (0, 0) if page is None else (page.page + 1, page.end_uj)
        accounts[transcript] = Account(*following, top)
    return accounts


class ReceiptBook:
    """Signs the pages of a receiver, and has them in the ledger before anybody sees them.

    store: the account that banks, `store:<load>`.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: str,
        tops: "Tops",
        *,
        unix_ns: Callable[[], int] | None = None,
    ) -> None:
        """Sign with the meter key of `ledger`; `tops` remembers what is banked."""
        self._ledger = ledger
        self._store = store
        self._tops = tops
        self._unix_ns = unix_ns or _unix_ns
        self._last: dict[bytes, tuple[bytes, int]] = {}  # hash and end of the page before
        self._began_ns = self._unix_ns()

    # LEDG-6-05
    async def sign(self, due: FeedPageDue) -> bytes:
        """Return the page that is due, 380 octets, signed and committed.

        Raises PowerRefused 602 when the ledger cannot be written: the page does not exist then.
        """
        if due.transcript not in self._last:
            row = await self._ledger.last_page(due.transcript, Side.SINK)
            found = (NO_HASH, self._began_ns)
            if row is not None:
                found = page_hash(row.body), Page.from_wire(row.body).end_ns
            self._last[due.transcript] = found
        previous, start_ns = self._last[due.transcript]
        page = self._page(due, previous, start_ns)
        octets = page.to_wire()
        # before the page: what it holds is never banked again, whatever happens now
        self._tops.write(due.feed.feed_id, due.transcript, due.top)
        post = partial(
            self._ledger.post_page,
            page.transcript,
            page.page,
            Side.SINK,
            octets,
            PageState.COUNTERSIGNED,
        )
        if page.energy_uj:
            await post(bank_transfer(page, due.feed, self._store))
        else:
            await post()
        self._last[due.transcript] = page_hash(octets), page.end_ns
        return octets

    def _page(self, due: FeedPageDue, previous: bytes, start_ns: int) -> Page:
        flags = Flags.FEED
        for is_set, flag in (
            (due.final, Flags.FINAL),
            (due.resumed, Flags.RESUMED),
            (due.sim, Flags.SIMULATED),
        ):
            flags |= flag if is_set else Flags(0)
        key = self._ledger.meter
        page = Page(
            flags=flags,
            clock=Clock.SYNCHRONISED if is_synchronised() else Clock.UNSYNCHRONISED,
            transcript=due.transcript,
            contract=0,
            page=due.page,
            samples=due.samples,
            start_uj=due.start_uj,
            end_uj=due.end_uj,
            start_ns=start_ns,
            end_ns=max(start_ns, self._unix_ns()),
            previous=previous,
            digest=due.digest,
            source_key=due.key,
            sink_key=key.public,
        )
        return countersign(page, key)


def _unix_ns() -> int:
    return now_ns() + unix_offset_ns()
