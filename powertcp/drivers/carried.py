"""CarriedStream: a machine on any trio Stream (TLS, memory, a circuit), where sends must be awaited.

The writer task is the only caller of send_all. Where it dies inside one, the peer may have seen
half a segment: the stream is BROKEN for ever.
"""

from typing import Generic

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.stream import SegmentStream
from powertcp.drivers.wire import EventT, SegmentMachine

CHUNK_OCTETS = 64 * 1024


class CarriedStream(SegmentStream[EventT], Generic[EventT]):
    """A SegmentStream over a trio Stream; events wait for `receive_batch`."""

    __slots__ = ("_carrier", "_sending")

    def __init__(
        self, carrier: trio.abc.Stream, machine: SegmentMachine[EventT], *, nursery: trio.Nursery
    ) -> None:
        """Take over `carrier`, which nobody else may touch from here on."""
        super().__init__(None, machine, nursery=nursery)
        self._carrier: trio.abc.Stream | None = carrier
        self._sending = 0

    @property
    def closed(self) -> bool:
        """Whether the carrier is gone."""
        return self._carrier is None

    @property
    def queued(self) -> int:
        """Octets that the carrier has not yet taken."""
        return self._sending + self.machine.queued

    def flush(self) -> bool:
        """See to it that the writer task exists while anything is queued."""
        if self.closed:
            self._discard()
        elif not self._writing and self.queued:
            self._writing = True
            self.nursery.start_soon(self._write)
        return not self.queued

    async def receive_batch(self) -> list[EventT]:
        """Return at least one event, or [] at the end of the stream.

        Raises WireBroken. Cancelled, no event is lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            self._check()
            carrier = self._carrier
            if self._pending or carrier is None or self._eof:
                await trio.lowlevel.cancel_shielded_checkpoint()
                batch, self._pending = self._pending or [], None
                return batch
            try:
                data = await carrier.receive_some(CHUNK_OCTETS)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if data:
                self._take(data, now_ns())
            else:
                self._take_eof(now_ns())

    async def aclose(self) -> None:
        """Close the carrier."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            await carrier.aclose()
        else:
            await trio.lowlevel.checkpoint()

    async def _write(self) -> None:
        """Send what is queued; nobody else does."""
        done = False
        try:
            while self._carrier is not None:
                data = self.machine.data_to_send()
                if not data:
                    break
                self._sending = len(data)
                await self._carrier.send_all(data)
                self._sending = 0
                if self._roomy is not None:
                    self._roomy.set()
                    self._roomy = None
            done = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self._writing = False
            if not done:
                self._break()
        if self._ending:
            await self._carrier_eof()

    def _all_sent(self) -> None:
        """The writer task says goodbye itself."""

    async def _carrier_eof(self) -> None:
        if self._carrier is not None and isinstance(self._carrier, trio.abc.HalfCloseableStream):
            try:
                await self._carrier.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    def _break(self) -> None:
        """Half a segment may have left: nothing after it would be understood."""
        self._broken = True
        self._sending = 0
        self._carrier = None
        self._awake()
