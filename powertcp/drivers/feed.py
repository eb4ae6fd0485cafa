"""The source of a feed on sockets: one emission to a multicast group and to TCP subscribers (P13).

Each piece is encoded once. Over TCP a sweep joins what is new, once for all subscribers that stand
at the same place, and sends it without waiting; who is more than 64 blocks behind loses the oldest.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.feed_receipts import SINK_KEY, ReceiptShelf
from powertcp.drivers.groups import FEED_GROUPS, TTL, Group, GroupSender
from powertcp.drivers.ring import Joined, Ring, Subscriber
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import Wire
from powertcp.dve import default_sampling, integrate_many
from powertcp.errors import HostError
from powertcp.machine import Event
from powertcp.potcp.feed import FeedSource, feed_segment, payload_max, refuse_feed
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag, Reason, Refusal
from powertcp.sources import Generator, Source
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant
from powertcp.wire.options import Feed

SWEEP_BLOCKS = 16
SWEEP_NS: Duration = 100 * NS_PER_MS
SWEEP_STEP = 64  # subscribers between two checkpoints: about 1 ms, P19
EMISSION_NS: Duration = 5 * NS_PER_S
AHEAD_S = EMISSION_NS // NS_PER_S + 1  # booked and not emitted after a crash, at most
_log = logging.getLogger("feed")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """What is broadcast, and where to. interface: multicast leaves by it, "" as routes say."""

    profile: PowerProfile
    groups: tuple[Group, ...] = FEED_GROUPS
    interface: str = ""
    ttl: int = TTL
    source: Source = field(default_factory=Source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """What the books are to say of an epoch, more than before: number counts from 0.

    energy_uj: told ahead of its time, so that a crash never leaves less in the books than was
    emitted, nor more than 6 s above; below 0 at the end of the epoch, by what was not emitted.
    """

    feed: Feed
    number: int
    energy_uj: int
    is_last: bool


class FeedStation:
    """Emits a feed by the wheel, to groups and to subscribers.

    key, sign: the meter key. next_epoch: gives each epoch; a HostError of it ends the feed with 602.
    emitted: told ahead each 5 s what may be emitted, and at the end what was not. receipts: a page
    file for what receivers sign and send.

    booked_uj: of this epoch in the books, which `book` counts: nothing is emitted beyond it. None:
    nobody keeps books.
    """

    def __init__(
        self,
        config: FeedConfig,
        wheel: Wheel,
        *,
        key: bytes,
        sign: Callable[[bytes], bytes],
        next_epoch: Callable[[], int],
        emitted: Callable[[Emission], None] | None = None,
        receipts: Path | None = None,
    ) -> None:
        """Prepare the first epoch; `start` opens sockets. Raises LocalProtocolError."""
        grant = config.profile.with_type(ProfileType.GRANT).as_sent()
        sampling = default_sampling(grant)
        self.config = config
        self.sender: GroupSender | None = None
        self.subscribers: dict[Wire[Event], Subscriber] = {}
        self.lost = 0  # blocks that slow subscribers lost
        self.emitted_uj = 0  # of epochs before this one
        self.booked_uj: int | None = None
        self.shelf = ReceiptShelf(key, receipts) if receipts else None
        self._wheel = wheel
        self._generator = Generator(grant, sampling, config.source, payload_max(grant, sampling))
        self._key, self._sign, self._next_epoch = key, sign, next_epoch
        self._emitted = emitted
        self._ring = Ring()
        self._counter = 0
        self._next: Instant = 0
        self._sweep_at: Instant | None = None
        self._unswept = 0
        self._told_uj = self._told_number = 0
        self._tell_at: Instant = 0
        self._due = trio.Event()
        self._running = False
        self._refusal: Refusal | None = None
        self.source = self._begin()

    @property
    def energy_uj(self) -> int:
        """Energy emitted since the start, in all epochs."""
        return self.emitted_uj + self.source.esn_uj

    def start(self) -> None:
        """Open the groups and begin to emit. Without any group only TCP is served."""
        try:
            config = self.config
            groups = config.groups
            self.sender = GroupSender(groups, interface=config.interface, ttl=config.ttl)
        except OSError as error:
            _log.warning("no group to send the feed to, TCP only: %s", error)
        now = now_ns()
        self._next, self._tell_at = now, now + EMISSION_NS
        self._running = True
        self._tell(is_last=False)
        self._wheel.arm(self, now)

    async def run(self) -> None:
        """Sweep whenever it is due, until cancelled; a step at a time."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            end, joined = self._ring.end, dict[int, Joined | None]()
            for count, one in enumerate(list(self.subscribers.values()), 1):
                self._sweep(one, end, joined)
                if not count % SWEEP_STEP:
                    await trio.lowlevel.checkpoint()
                    # pieces that came meanwhile are for the next sweep, unless none was joined yet
                    if self._ring.end != end:
                        end, joined = self._ring.end, {}
            slowest = min((one.at for one in self.subscribers.values()), default=end)
            self._ring.trim(slowest)
            await trio.lowlevel.checkpoint()

    def stop(self, refusal: Refusal | None = None) -> None:
        """Sign the rest, tell what was emitted, say FIN to subscribers, close the groups.

        refusal: why, and why whoever asks from now on hears nothing; None: the feed ends in order.
        Call it while the wires may still write; `close` is for afterwards.
        """
        if not self._running:
            return
        self._running, self._refusal = False, refusal
        self._wheel.disarm(self)
        self.source.finish()
        self._send_pieces()
        self._tell(is_last=True)
        joined: dict[int, Joined | None] = {}
        feed = self.source.feed
        end = refuse_feed(feed, refusal) if refusal else feed_segment(feed, Flag.FIN)
        for one in list(self.subscribers.values()):
            self._sweep(one, self._ring.end, joined)
            one.wire.push(end)
        self.subscribers.clear()
        if self.sender is not None:
            self.sender.close()

    def _begin(self) -> FeedSource:
        """Return the source of another epoch."""
        profile = self.config.profile.with_type(ProfileType.GRANT).as_sent()
        return FeedSource(
            key=self._key,
            sign=self._sign,
            epoch=self._next_epoch(),
            profile=profile,
            sampling=default_sampling(profile),
        )

    def close(self) -> None:
        """Stop without a word to subscribers; no page of a receiver is taken any more."""
        self.subscribers.clear()
        self.stop()
        if self.shelf is not None:
            self.shelf.close()

    def book(self, emission: Emission) -> None:
        """Take note that what was told is on the disk."""
        if self.booked_uj is not None and emission.feed == self.source.feed:
            self.booked_uj += emission.energy_uj

    # --- subscribers ---------------------------------------------------------------------------

    def subscribe(self, wire: Wire[Event], asked: Feed) -> bytes:
        """Let `wire` hear the feed if it is the one that was asked for; return the answer."""
        # PTCP-12-02
        if not self._running or not self.source.serves(asked):
            return refuse_feed(asked, self._refusal)
        if wire not in self.subscribers:
            self.subscribers[wire] = Subscriber(wire, self._ring.end)
        return self.source.confirm()

    def leave(self, wire: Wire[Event]) -> None:
        """Send nothing more to `wire`."""
        self.subscribers.pop(wire, None)

    def take_receipt(self, feed: Feed, page: bytes, meter: bytes = b"", peer: bytes = b"") -> bytes:
        """Take a page of the receiver `meter`, if it is of this epoch; return whose pages follow."""
        shelf, esn_uj = self.shelf, self.source.esn_uj
        if shelf is None or feed != self.source.feed:
            return meter
        return page[SINK_KEY] if shelf.take(feed, esn_uj, page, now_ns(), meter, peer) else meter

    def _sweep(self, one: Subscriber, end: int, joined: dict[int, Joined | None]) -> None:
        """Send one subscriber what is new to it, if it has read what was."""
        if one.at == end:
            return
        if one.at not in joined:
            joined[one.at] = self._ring.since(one.at)
        new = joined[one.at]
        if new is None:
            _log.info("a subscriber that reads nothing is cut off")
            self.leave(one.wire)
            one.wire.abort()
        elif one.wire.push(new[0]):
            # PTCP-12-02
            one.at = end
            one.lost += new[1]
            self.lost += new[1]

    # --- time ------------------------------------------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return when the next block, signature or sweep is due."""
        if not self._running:
            return None
        times = (self._next, self.source.get_timer(), self._sweep_at)
        return min(time for time in times if time is not None)

    def flush(self) -> bool:
        """Do nothing: a sweep flushes."""
        return True

    def handle_timer(self, now: Instant) -> None:
        """Emit what is due; blocks whose time is over are not made up."""
        if not self._running:
            return
        period = self._generator.period_ns
        if now >= self._next:
            self._next += period
            if self._next <= now:
                self._next = now - (now - self._next) % period + period
            if self.source.is_full:
                # PTCP-12-07
                self._begin_next()
                if not self._running:
                    return
            self._emit(now)
        self.source.handle_timer(now)
        self._send_pieces()
        if now >= self._tell_at:
            self._tell_at = now + EMISSION_NS
            self._tell(is_last=False)
        if self._sweep_at is None and self._unswept:
            self._sweep_at = now + SWEEP_NS - period if period < SWEEP_NS else now
        if self._sweep_at is not None and (now >= self._sweep_at or self._unswept >= SWEEP_BLOCKS):
            self._sweep_at, self._unswept = None, 0
            self._due.set()

    def _emit(self, now: Instant) -> None:
        """Emit one block, if it is in the books."""
        source = self.source
        payload, _, n, is_low = self._generator.block(self._counter, source.profile.power_mw)
        [sums] = integrate_many([payload], source.window_samples)
        # LEDG-8-02
        if self.booked_uj is not None and source.peek(sums) > self.booked_uj:
            return
        source.emit(payload, sums, ece=is_low, now=now)
        self._counter += n

    def _begin_next(self) -> None:
        """End an epoch and begin the next at counter 0; stop when there can be no next one."""
        try:
            following = self._begin()
        except HostError as error:
            _log.warning("no other epoch of the feed, it ends: %s", error)
            self.stop(Refusal(Reason.MAINTENANCE, rule="no other epoch can be begun"))
            return
        self.source.finish()
        self._send_pieces()
        self._tell(is_last=True)
        self.emitted_uj += self.source.esn_uj
        self._told_uj = self._told_number = self._counter = 0
        self.booked_uj = None if self.booked_uj is None else 0
        self.source = following
        self._tell(is_last=False)

    def _send_pieces(self) -> None:
        """Give new pieces to the groups and to the ring."""
        pieces = self.source.pieces()
        if self.sender is not None:
            self.sender.send([piece.octets for piece in pieces])
        for piece in pieces:
            self._ring.add(piece)
            self._unswept += piece.is_block

    def _tell(self, *, is_last: bool) -> None:
        """Tell the ledger what may be emitted until the next time, or in the end what was not."""
        source = self.source
        ahead_s = 0 if is_last else AHEAD_S
        # PTCP-12-03: the rate and 2 %, and a block
        ahead_uj = source.profile.power_mw * 1020 * ahead_s
        energy_uj = source.esn_uj + ahead_uj - self._told_uj
        if self._emitted is None or not energy_uj:
            return
        self._emitted(
            Emission(
                feed=source.feed, number=self._told_number, energy_uj=energy_uj, is_last=is_last
            )
        )
        self._told_uj += energy_uj
        self._told_number += 1
