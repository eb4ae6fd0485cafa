"""Splice: a plain TCP connection and a circuit, joined octet by octet in both directions.

What comes for the circuit is cut where segments begin; no octet is altered. MPLampS section 9.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from powertcp.drivers.lsp import LspStream
from powertcp.mplamps.cutter import Cutter
from powertcp.reclaim.track import End

CHUNK_OCTETS: Final = 64 * 1024
# SO_LINGER on, 0 s: close sends a TCP reset
_RESET: Final = struct.pack("ii", 1, 0)
_LOST = (trio.BrokenResourceError, trio.ClosedResourceError)

# octets that have passed: CLIENT is the end of the plain connection
Heed = Callable[[End, bytes], None]


def _unheeded(_: End, __: bytes) -> None:
    """Nobody wants to know."""


class _Joint:
    """Both directions of a splice. is_whole: whether neither end has broken."""

    def __init__(self, plain: trio.SocketStream, circuit: LspStream, heed: Heed) -> None:
        self.is_whole = True
        self._plain, self._circuit, self._heed = plain, circuit, heed
        self._upward = trio.CancelScope()

    async def run(self, first: bytes) -> None:
        """Pass octets on until both ends have finished, or one breaks."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_lost, partial(self._up, first), nursery.cancel_scope)
            nursery.start_soon(self._until_lost, self._down, nursery.cancel_scope)

    async def leave(self, event: trio.Event) -> None:
        """Pass nothing on to the circuit any more once `event` is set."""
        await event.wait()
        self._upward.cancel()

    async def _up(self, first: bytes) -> None:
        plain, circuit, cutter, data = self._plain, self._circuit, Cutter(), first
        with self._upward:
            while True:
                await circuit.send_pieces(cutter.cut(data))
                self._heed(End.CLIENT, data)
                data = bytes(await plain.receive_some(CHUNK_OCTETS))
                if not data:
                    break
        if not self._upward.cancelled_caught:
            await circuit.send_all(cutter.finish())
            await circuit.send_eof()
            return
        await circuit.send_eof()
        # unread it would make a reset of the close
        while await plain.receive_some(CHUNK_OCTETS):
            pass

    async def _down(self) -> None:
        while data := await self._circuit.receive_some():
            await self._plain.send_all(data)
            self._heed(End.SERVER, data)
        await self._plain.send_eof()

    async def _until_lost(
        self, pump: Callable[[], Awaitable[None]], scope: trio.CancelScope
    ) -> None:
        try:
            await pump()
        except _LOST:
            self.is_whole = False
            scope.cancel()


# MPLA-9-03, MPLA-9-04
async def splice(
    plain: trio.SocketStream,
    circuit: LspStream,
    first: bytes = b"",
    heed: Heed = _unheeded,
    leave: trio.Event | None = None,
) -> bool:
    """Pass octets on until both ends have finished; False when one of them broke.

    first: octets that were read of `plain` before. Both streams are closed afterwards, also when it
    is cancelled: by a reset where the other one broke. leave: once it is set the circuit is told the
    end, what is still under way from there is delivered, and what `plain` says is for nobody.
    """
    joint = _Joint(plain, circuit, heed)
    try:
        async with trio.open_nursery() as nursery:
            if leave is not None:
                nursery.start_soon(joint.leave, leave)
            await joint.run(first)
            nursery.cancel_scope.cancel()
        if not joint.is_whole:
            reset(plain)
            circuit.abort()
    finally:
        circuit.close()
        plain.socket.close()
    return joint.is_whole


def reset(plain: trio.SocketStream) -> None:
    """Let the close of a connection tell its peer that it broke."""
    if plain.socket.fileno() >= 0:
        plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
