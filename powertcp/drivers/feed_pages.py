"""The receipts of a receiver: pages it signs by itself, in its ledger before anybody sees them."""

import errno
import time
from collections.abc import Callable, Mapping
from hashlib import blake2s
from pathlib import Path
from struct import Struct
from typing import Final

import trio

from powertcp.drivers.clock import clock_kind, stamp
from powertcp.drivers.ledger import Ledger
from powertcp.errors import HostError, PowerRefused
from powertcp.ledger import Code, Page, Side, Transfer, feed_page, transfer_key
from powertcp.ledger.memo import feed_memo
from powertcp.ledger.pairing import PageState
from powertcp.potcp.epoch import Account
from powertcp.potcp.receiver import FeedPageDue
from powertcp.store import read_secret, write_secret
from powertcp.wire.options import Feed

VIRTUAL: Final = "uJ"
# feeds a receiver has heard; the files are read at start
TOPS_MAX: Final = 1024
PAGES: Final = 64  # pages that wait for the ledger
_TOP: Final = Struct(">32sQ")
_CHECK_OCTETS: Final = 8  # an altered top would bank twice, or never again


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
        """Return the newest block by transcript. Raises HostError, also for an altered file."""
        found: dict[bytes, int] = {}
        for path in sorted(self._state.glob("feed-*.top"))[:TOPS_MAX]:
            octets = read_secret(path, _TOP.size + _CHECK_OCTETS)
            if octets is None:
                continue
            said, check = octets[: _TOP.size], octets[_TOP.size :]
            if check != _check(said):
                raise HostError(errno.EIO, str(path), "go on with what was banked, altered since")
            transcript, top = _TOP.unpack(said)
            found[transcript] = top
        return found

    def write(self, feed: bytes, transcript: bytes, top: int) -> None:
        """Remember `top`, durably. Raises HostError."""
        said = _TOP.pack(transcript, top)
        write_secret(self._state / f"feed-{feed.hex()}.top", said + _check(said))


def _check(said: bytes) -> bytes:
    return blake2s(said, digest_size=_CHECK_OCTETS).digest()


async def recall(ledger: Ledger, tops: Tops) -> Mapping[bytes, Account]:
    """Return where the accounts of epochs go on after an earlier run, by transcript.

    Raises HostError, PowerRefused 602.
    """
    await trio.lowlevel.checkpoint()
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
        self._unix_ns = unix_ns or time.time_ns
        self._last: dict[bytes, bytes] = {}  # the page before, b"": none
        self._began_ns, _ = stamp(self._unix_ns(), clock_kind())

    # LEDG-6-05
    async def sign(self, due: FeedPageDue) -> bytes:
        """Return the page that is due, 380 octets, signed and committed.

        Raises PowerRefused 602 when the ledger cannot be written: the page does not exist then.
        """
        if due.transcript not in self._last:
            row = await self._ledger.last_page(due.transcript, Side.SINK)
            self._last[due.transcript] = row.body if row is not None else b""
        last, now = self._last[due.transcript], stamp(self._unix_ns(), clock_kind())
        octets = feed_page(due, last, self._began_ns, *now, self._ledger.meter)
        page = Page.from_wire(octets)
        # before the page: what it holds is never banked again, whatever happens now
        self._tops.write(due.feed.feed_id, due.transcript, due.top)
        banked = [bank_transfer(page, due.feed, self._store)] if page.energy_uj else []
        await self._ledger.post_page(
            page.transcript, page.page, Side.SINK, octets, PageState.COUNTERSIGNED, *banked
        )
        self._last[due.transcript] = octets
        return octets


class PageDesk:
    """Signs the pages of one receiver in their order.

    books: None: nothing is signed. say: told of each page. send: gives the source its copy.
    """

    def __init__(
        self,
        books: ReceiptBook | None,
        say: Callable[[str, Mapping[str, object]], None],
        send: Callable[[Feed, bytes], None],
    ) -> None:
        """Sign nothing yet; `run` does."""
        self._books = books
        self._say = say
        self._send = send
        self._put, self._due = trio.open_memory_channel[FeedPageDue](PAGES)
        self._signed = trio.Event()

    def put(self, due: FeedPageDue) -> None:
        """Let a page be signed; one too many for the disk is not."""
        try:
            self._put.send_nowait(due)
        except trio.WouldBlock:
            self._say("unsigned", {"energy_uj": due.end_uj - due.start_uj})

    async def finish(self) -> None:
        """Wait until every page is signed; no more may come."""
        self._put.close()
        await self._signed.wait()

    async def run(self) -> None:
        """Sign pages and have them in the ledger; the source gets a copy."""
        async for due in self._due:
            if self._books is None:
                continue
            facts: dict[str, object] = {"energy_uj": due.end_uj - due.start_uj}
            try:
                page = await self._books.sign(due)
            except (PowerRefused, HostError) as error:
                self._say("unsigned", facts | {"sentence": str(error)})
                continue
            self._say("receipt", facts | {"page": due.page})
            self._send(due.feed, page)
        self._signed.set()
