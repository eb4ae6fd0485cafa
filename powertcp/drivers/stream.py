"""SegmentStream: a wire with what clients, tests and the conformance suite await."""

import socket
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.wheel import Wheel
from powertcp.drivers.wire import ROOM_LOW, WRITE_NS, EventT, SegmentMachine, Wire
from powertcp.errors import WireBroken
from powertcp.registry import Refusal
from powertcp.units import NS_PER_MS, Duration, Instant

__all__ = ["SegmentMachine", "SegmentStream"]

ROOM_HIGH = 256 * 1024  # `room` blocks above, D3
READS_PER_TURN = 16  # D1
ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


class SegmentStream(Wire[EventT], Generic[EventT]):
    """A wire whose events go to `handle` or, without it, to `receive_batch`."""

    __slots__ = ("_pending", "_wake")

    def __init__(
        self,
        sock: socket.socket | None,
        machine: SegmentMachine[EventT],
        handle: Callable[[list[EventT]], None] | None = None,
        *,
        nursery: trio.Nursery,
        wheel: Wheel | None = None,
        on_close: Callable[[], None] | None = None,
        give_up: Callable[[Refusal, Instant], None] | None = None,
        write_ns: Duration | Callable[[], Duration] = WRITE_NS,
    ) -> None:
        """Take over `sock`, which nobody else may touch from here on."""
        super().__init__(
            sock,
            machine,
            handle or self._keep,
            nursery=nursery,
            wheel=wheel,
            on_close=on_close,
            give_up=give_up,
            write_ns=write_ns,
        )
        self._pending: list[EventT] | None = None
        self._wake: trio.CancelScope | None = None

    async def read(self) -> None:
        """Serve the reading side until no more will come: the reader task of a client (D6)."""
        while not self.ended:
            try:
                await trio.lowlevel.wait_readable(self.fileno())
            except trio.ClosedResourceError:
                return
            turn = now_ns()
            for _ in range(READS_PER_TURN):
                if not self.readable(now_ns()) or now_ns() - turn > NS_PER_MS:
                    break

    async def receive_batch(self) -> list[EventT]:
        """Return at least one event, or [] at the end of the stream.

        Raises WireBroken. Cancelled, no event is lost.
        """
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if self._pending:
                batch, self._pending = self._pending, None
                return batch
            if self.ended or not self.readable(now_ns()):
                batch, self._pending = self._pending or [], None
                return batch
            if not self._pending:
                await self._wait_data()

    def queue(
        self, verb: Callable[ParamsT, ResultT], *args: ParamsT.args, **kwargs: ParamsT.kwargs
    ) -> ResultT:
        """Call a verb of the machine, hand over its events, flush. Raises WireBroken."""
        self._check()
        result = verb(*args, **kwargs)
        self._drain()
        self.flush()
        return result

    async def room(self) -> None:
        """Wait while more than 256 KiB are queued, until 64 KiB are.

        Raises WireBroken. Cancelled, nothing was queued.
        """
        self._check()
        if self.queued <= ROOM_HIGH or self.flush():
            await trio.lowlevel.checkpoint()
            self._check()
            return
        while self.queued > ROOM_LOW:
            if self._roomy is None:
                self._roomy = trio.Event()
            await self._roomy.wait()
            self._check()

    def _check(self) -> None:
        if self._broken:
            raise WireBroken(
                "the writer died inside a segment: the flow resumes on a new connection"
            )

    def _keep(self, events: list[EventT]) -> None:
        self._pending = [*(self._pending or ()), *events]
        if self._wake is not None:
            self._wake.cancel()

    async def _wait_data(self) -> None:
        with trio.CancelScope() as self._wake:
            try:
                await trio.lowlevel.wait_readable(self.fileno())
            except (trio.ClosedResourceError, ValueError):
                return
            finally:
                self._wake = None

    def _awake(self) -> None:
        super()._awake()
        if self._wake is not None:
            self._wake.cancel()
