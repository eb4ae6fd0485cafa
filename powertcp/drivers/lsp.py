"""LspStream: a trio Stream through a circuit, over the inner TCP connection of a lamp or a source."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.machine import Buffer
from powertcp.mplamps.packet import WINDOW
from powertcp.mplamps.tcp import Ended, Endpoint, PeerFinished, State
from powertcp.registry import Refusal

_OVER = (State.CLOSED, State.TIME_WAIT)


class _Alone:
    """Lets one task at a time use one side of a stream."""

    __slots__ = ("_is_used", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_used = False

    @contextmanager
    def use(self) -> Iterator[None]:
        """Be the one. Raises trio.BusyResourceError when there is another."""
        if self._is_used:
            raise trio.BusyResourceError(self._text)
        self._is_used = True
        try:
            yield
        finally:
            self._is_used = False


class LspStream(trio.abc.HalfCloseableStream):
    """A stream whose octets the owner of `end` carries: it calls `turn` after whatever comes.

    send: called after each use of `end`: its packets are to leave. refusal: why the connection
    broke, None as long as it has not. Octets that nobody reads are kept up to a window of 65,535;
    a peer that goes on to send gives up after 8 tries.
    """

    refusal: Refusal | None

    def __init__(self, end: Endpoint, send: Callable[[], None]) -> None:
        """Take over `end`, which nobody else may use but to move packets and time."""
        self.end = end
        self.refusal = None
        self._send = send
        self._sender = _Alone("another task sends on this stream")
        self._receiver = _Alone("another task receives from this stream")
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_closed = self._has_eof = False
        self._has_peer_finished = self._is_broken = False
        self._look()

    # -- by who carries it ---------------------------------------------------------------------

    def turn(self) -> bool:
        """Look what came for this stream; False once nothing can come any more."""
        self._look()
        is_over = self.end.state in _OVER
        if self._is_closed and self.end.unread and not is_over:
            # nobody will ever read that: the peer is told
            self.end.abort()
            self._send()
        self._waiting.unpark_all()
        return not is_over

    def _look(self) -> None:
        while (event := self.end.next_event()) is not None:
            match event:
                case PeerFinished():
                    self._has_peer_finished = True
                case Ended(refusal=refusal):
                    self.refusal = refusal
                    self._is_broken = refusal is not None
                case _:
                    pass

    # -- the stream ----------------------------------------------------------------------------

    async def send_all(self, data: Buffer) -> None:
        """Send octets; returns when the connection has taken them, which is not the peer.

        Raises trio.ClosedResourceError, trio.BrokenResourceError, trio.BusyResourceError.
        Cancelled before there is room, nothing was sent; later, a part.
        """
        await self.send_pieces([(data, False)])

    async def send_pieces(self, pieces: Sequence[tuple[Buffer, bool]]) -> None:
        """Send octets, each piece with whether it begins a packet; otherwise as `send_all`."""
        with self._sender.use():
            await trio.lowlevel.checkpoint()
            self._check_sending()
            for data, begins in pieces:
                left, begins_here = memoryview(data), begins
                while left:
                    await self._room()
                    part = left[: self.end.room]
                    self.end.send(part, now_ns(), starts_packet=begins_here)
                    left, begins_here = left[len(part) :], False
            self._send()

    async def wait_send_all_might_not_block(self) -> None:
        """Return when there is room for octets; raises as `send_all`."""
        with self._sender.use():
            await trio.lowlevel.checkpoint()
            self._check_sending()
            await self._room()

    async def send_eof(self) -> None:
        """Send the end of our octets; what the peer sends can still be received."""
        with self._sender.use():
            await trio.lowlevel.checkpoint()
            if self._is_closed:
                raise trio.ClosedResourceError("this stream is closed")
            if not self._has_eof:
                self._has_eof = True
                self.end.close(now_ns())
                self._send()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return octets of the peer, at least one, or b"" at their end.

        Raises trio.ClosedResourceError, trio.BrokenResourceError, trio.BusyResourceError.
        Cancelled, no octet is lost.
        """
        if max_bytes is not None and not isinstance(max_bytes, int):
            raise TypeError("max_bytes must be an integer >= 1")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be >= 1")
        with self._receiver.use():
            await trio.lowlevel.checkpoint()
            while True:
                if self._is_closed:
                    raise trio.ClosedResourceError("this stream is closed")
                if self.end.unread:
                    return self.end.read(max_bytes or WINDOW)
                if self._has_peer_finished:
                    return b""
                if self.end.state in _OVER:
                    raise trio.BrokenResourceError(self._why())
                await self._waiting.park()

    async def aclose(self) -> None:
        """Send what is queued, then the end, and receive nothing more."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Do what `aclose` does, without waiting."""
        if self._is_closed:
            return
        self._is_closed = True
        if self.end.unread:
            self.end.abort()
        else:
            self.end.close(now_ns())
        self._send()
        self._waiting.unpark_all()

    async def wait_over(self) -> None:
        """Return when nothing is under way any more in either direction; after `close`."""
        await trio.lowlevel.checkpoint()
        while self.end.state not in _OVER:
            await self._waiting.park()

    def abort(self) -> None:
        """Close with a reset: what is queued is dropped."""
        self._is_closed = True
        if self.end.state not in _OVER:
            self.end.abort()
            self._send()
        self._waiting.unpark_all()

    # -- within --------------------------------------------------------------------------------

    def _why(self) -> str:
        refusal = self.refusal
        return (refusal.text or refusal.sentence()) if refusal else "the connection is over"

    def _check_sending(self) -> None:
        if self._is_closed or self._has_eof:
            raise trio.ClosedResourceError("this stream is closed for sending")
        if self._is_broken or not self.end.may_send:
            raise trio.BrokenResourceError(self._why())

    async def _room(self) -> None:
        """Wait until the connection takes octets. Raises when it never will."""
        if self.end.room <= 0:
            self._send()
        while self.end.room <= 0:
            await self._waiting.park()
            self._check_sending()
