"""A consumer's path to a feed: the groups it hears, or the source it subscribes to."""

import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from powertcp.drivers.appliance import NO, NO_ANSWER, Appliance, refusal_facts
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import connect
from powertcp.drivers.feed_pages import PageDesk, ReceiptBook, Tops, recall
from powertcp.drivers.feed_power import FeedPower
from powertcp.drivers.feed_wish import FeedWish
from powertcp.drivers.groups import hear_groups
from powertcp.drivers.ledger import open_ledger
from powertcp.drivers.path import OPEN_S
from powertcp.drivers.patience import back_off_ns
from powertcp.drivers.stream import SegmentStream
from powertcp.drivers.wheel import Wheel
from powertcp.errors import WireBroken
from powertcp.machine import Event
from powertcp.potcp.epoch import Account
from powertcp.potcp.events import (
    ConnectionTerminated,
)
from powertcp.potcp.receiver import FeedPageDue, FeedReceiver
from powertcp.potcp.subscription import FeedSubscription
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_S, Instant
from powertcp.wire.options import Feed

DATAGRAMS_PER_WAKE = 64  # D10
DATAGRAM_OCTETS = 2048  # more than any datagram of a feed: a longer one is seen to be too long
GOODBYE_S = 5  # an orderly end takes no longer
# of a connection whose word is final: another attempt would hear it again
_HEARD = ("banked", "lost", "duplicates", "heat", "unsigned")
_FINAL = frozenset({Reason.NOT_OFFERED, Reason.IDENTITY_MISMATCH})


@asynccontextmanager
async def open_feed(
    wish: FeedWish | None, state: Path | None
) -> AsyncIterator[Callable[[Appliance, Wheel], "FeedLink"] | None]:
    """Open what a receiver keeps in `state`, if anything, and give what makes its path.

    None without a wish. Raises HostError and LedgerBroken as `open_ledger` does.
    """
    if wish is None:
        yield None
    elif state is None:
        yield lambda appliance, wheel: FeedLink(wish, appliance, wheel)
    else:
        async with open_ledger(state, os.urandom, unix_ns=unix_ns) as ledger:
            tops = Tops(state)
            accounts = await recall(ledger, tops)

            def make(appliance: Appliance, wheel: Wheel) -> FeedLink:
                store = f"store:{appliance.load.name.partition('[')[0]}"
                return FeedLink(wish, appliance, wheel, ReceiptBook(ledger, store, tops), accounts)

            yield make


class FeedLink:
    """Hears one feed for one load, over whatever path the wish names.

    books: signs receipts; without it none are. accounts: what an earlier run banked.
    """

    def __init__(
        self,
        wish: FeedWish,
        appliance: Appliance,
        wheel: Wheel,
        books: ReceiptBook | None = None,
        accounts: Mapping[bytes, Account] | None = None,
    ) -> None:
        """Serve `appliance`; `run` listens."""
        self._wish = wish
        self._each = appliance
        self._wheel = wheel
        self.receiver = FeedReceiver(wanted=wish.wanted, want_samples=True, accounts=accounts or {})
        self._stream: SegmentStream[Event] | None = None
        self._subscription: FeedSubscription | None = None
        self._power = FeedPower(appliance, wish.where)
        self._losses = 0
        self._gone = trio.Event()
        self._ending = trio.Event()
        self._scope = trio.CancelScope()
        self._pages = PageDesk(books, appliance.say, self._send_page)

    @property
    def wanted(self) -> list[Appliance]:
        """The load, while it is not over."""
        return [] if self._each.done else [self._each]

    async def run(self) -> None:
        """Hear the feed until the load has had enough, or patience ends.

        Cancelled, what no page holds yet is in no ledger.
        """
        self._power.heard_at = now_ns()
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pages.run)
                nursery.start_soon(self._hear)
                await self._ending.wait()
                self._leave(now_ns())
                await self._pages.finish()
                if self._stream is not None:
                    self._stream.finish()
                    with trio.move_on_after(GOODBYE_S):
                        await self._gone.wait()
                nursery.cancel_scope.cancel()
        if not self._each.done:
            self._each.finish(0)

    def close(self) -> None:
        """End in order: the last page is signed."""
        if not self._each.done:
            self._each.end_load()
        self._ending.set()

    def abort(self) -> None:
        """End at once; what no page holds yet is in no ledger."""
        self._each.closing = True
        if self._stream is not None:
            self._stream.abort()
        self._scope.cancel()

    def close_one(self, appliance: Appliance) -> None:
        """End because the load did or has had enough."""
        appliance.end_load()
        self._ending.set()

    def kick(self) -> None:
        """Do nothing: a receiver has nothing to send."""

    def feed(self) -> None:
        """Look whether patience ends; called once a second."""
        if self._each.done or self._ending.is_set():
            return
        silent = now_ns() - self._power.heard_at
        patience = self._wish.patience_ns(self._each.quota.for_ns, is_heard=self._each.was_ready)
        if silent >= patience:
            self._unheard(f"no feed heard for {silent // NS_PER_S} s")

    # --- paths -----------------------------------------------------------------------------------

    async def _hear(self) -> None:
        """Hear the groups, or one connection after the other, until cancelled."""
        while True:
            try:
                if self._wish.host:
                    await self._subscribe()
                else:
                    await self._listen()
            except OSError as error:
                self._unreachable(error)
            if self._ending.is_set():
                await trio.sleep_forever()
            base = back_off_ns(self._losses) if self._losses else NS_PER_S // 10
            wait = round(base * random.uniform(0.8, 1.2))
            await trio.sleep_until((now_ns() + wait) / NS_PER_S)

    async def _listen(self) -> None:
        """Hear the groups until cancelled."""
        sockets = hear_groups(self._wish.groups, interface=self._wish.interface)
        self._each.say("listening", {"where": self._wish.where})
        try:
            async with trio.open_nursery() as nursery:
                for sock in sockets:
                    nursery.start_soon(self._read, sock)
        finally:
            self._wheel.disarm(self)
            for sock in sockets:
                trio.lowlevel.notify_closing(sock)
                sock.close()

    async def _read(self, sock: socket.socket) -> None:
        """Take datagrams, up to 64 a wake-up (D10)."""
        buffer = memoryview(bytearray(DATAGRAM_OCTETS))
        while True:
            await trio.lowlevel.wait_readable(sock)
            now = now_ns()
            for _ in range(DATAGRAMS_PER_WAKE):
                try:
                    count, peer = sock.recvfrom_into(buffer)
                except OSError:
                    # nothing there, or what the kernel says of an interface that goes
                    break
                self.receiver.receive_datagram(buffer[:count], peer[:2], now)
            self.handle_timer(now)
            if (due := self.get_timer()) is not None:
                self._wheel.arm(self, due)

    async def _subscribe(self) -> None:
        """One connection, from SYN to its end."""
        sock = None
        with trio.move_on_after(OPEN_S):
            sock = await connect(self._wish.host, self._wish.port)
        if sock is None:
            raise TimeoutError(f"no answer within {OPEN_S} s")
        machine = FeedSubscription(self.receiver, wanted=self._wish.wanted)
        async with trio.open_nursery() as nursery:
            stream = SegmentStream(sock, machine, self._handle, nursery=nursery, wheel=self._wheel)
            self._stream, self._subscription = stream, machine
            try:
                stream.queue(machine.start, now_ns())
                await stream.read()
            finally:
                stream.abort()
                self._stream = self._subscription = None
                self._gone.set()
            nursery.cancel_scope.cancel()

    def _unreachable(self, error: OSError) -> None:
        """Nobody answers: final for who never had power, else until the patience ends."""
        self._losses += 1
        if not self._each.was_ready:
            self._unheard(error.strerror or str(error))

    def _unheard(self, why: str) -> None:
        where = self._wish.where
        self._each.say("unreachable", {"provider": where, "sentence": f"{where}: {why}"})
        self._each.finish(NO_ANSWER)
        self._ending.set()

    # --- time, of a receiver without a stream ----------------------------------------------------

    def get_timer(self) -> Instant | None:
        """Return what the receiver waits for."""
        return self.receiver.get_timer()

    def handle_timer(self, now: Instant) -> None:
        """Do what is due, hand over events."""
        self.receiver.handle_timer(now)
        events: list[Event] = []
        while (event := self.receiver.next_event()) is not None:
            events.append(event)
        if events:
            self._handle(events)

    def flush(self) -> bool:
        """Do nothing: a receiver sends nothing."""
        return True

    # --- events ----------------------------------------------------------------------------------

    def _handle(self, events: list[Event]) -> None:
        """Take the events of one wake-up."""
        now = now_ns()
        for event in events:
            match event:
                case FeedPageDue():
                    self._pages.put(event)
                case ConnectionTerminated(refusal=refusal):
                    self._terminated(refusal)
                case _:
                    self._power.take(event, now)
        if self._power.heard_at == now:
            self._losses = 0
        tally = self.receiver.tally()
        self._each.heard = {f"{name}_blocks": getattr(tally, name) for name in _HEARD}
        self._each.heard |= {"lost_uj": tally.lost_uj, "forged": tally.forged}
        if self._each.quota.is_spent and not self._each.closing:
            self.close()

    def _terminated(self, refusal: Refusal | None) -> None:
        """The connection is over: for good when the source says so."""
        each = self._each
        if self._ending.is_set() or refusal is None:
            return
        if refusal.code in _FINAL:
            each.say("refused", refusal_facts(refusal) | {"again": False})
            each.finish(NO, refusal)
            self._ending.set()
        elif refusal.code == Reason.NORMAL:
            each.say("closed", {"esn_uj": self.receiver.esn_uj} | refusal_facts(refusal))
            self.close()
        else:
            self._losses += 1
            each.say("disconnected", refusal_facts(refusal))
            if self._stream is not None:
                # the source may leave the connection open: the next one asks again
                self._stream.finish()

    def _leave(self, now: Instant) -> None:
        """Close the last page, and say goodbye where somebody listens."""
        stream, machine = self._stream, self._subscription
        if stream is None or machine is None or stream.closed or machine.is_terminated:
            self.receiver.leave(now)
            self.handle_timer(now)
        else:
            stream.queue(machine.leave, now)

    def _send_page(self, feed: Feed, page: bytes) -> None:
        """Give the source a copy of what was signed, if it is there."""
        stream, machine = self._stream, self._subscription
        if stream is not None and machine is not None and machine.may_send_receipt:
            with suppress(WireBroken):
                stream.queue(machine.send_receipt, feed, page)
