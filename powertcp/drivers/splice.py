"""Splice: a plain TCP connection and a circuit, joined octet by octet in both directions.

What comes for the circuit is cut where segments begin; no octet is altered. MPLampS section 9.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
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


# MPLA-9-03, MPLA-9-04
async def splice(
    plain: trio.SocketStream, circuit: LspStream, first: bytes = b"", heed: Heed = _unheeded
) -> bool:
    """Pass octets on until both ends have finished; False when one of them broke.

    first: octets that were read of `plain` before. Both streams are closed afterwards, also when it
    is cancelled: by a reset where the other one broke.
    """
    cutter = Cutter()
    whole = True

    async def up() -> None:
        data = first
        while True:
            await circuit.send_pieces(cutter.cut(data))
            heed(End.CLIENT, data)
            data = bytes(await plain.receive_some(CHUNK_OCTETS))
            if not data:
                await circuit.send_all(cutter.finish())
                await circuit.send_eof()
                return

    async def down() -> None:
        while data := await circuit.receive_some():
            await plain.send_all(data)
            heed(End.SERVER, data)
        await plain.send_eof()

    async def until_lost(pump: Callable[[], Awaitable[None]]) -> None:
        nonlocal whole
        try:
            await pump()
        except _LOST:
            whole = False
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_lost, up)
            nursery.start_soon(until_lost, down)
        if not whole:
            reset(plain)
            circuit.abort()
    finally:
        circuit.close()
        plain.socket.close()
    return whole


def reset(plain: trio.SocketStream) -> None:
    """Let the close of a connection tell its peer that it broke."""
    if plain.socket.fileno() >= 0:
        plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
