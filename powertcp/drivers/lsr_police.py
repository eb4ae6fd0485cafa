"""The line of an edge LSR to its policeman: one TCP connection at a time, made when the PEP wants it.

MPLampS section 6.
"""

import logging
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import connect
from powertcp.mplamps.cops import PORT, ServerAddress
from powertcp.mplamps.node import Node
from powertcp.units import NS_PER_S, Instant

# as long as a policeman may be silent: MPLA-6-02
CONNECT_S: Final = 1
RECEIVE_OCTETS: Final = 65_536
_log = logging.getLogger("lsr")


class PoliceLine:
    """Connects a node with the policeman at `address`. settle: sends what the node has to say."""

    def __init__(self, node: Node, address: IPv4Address, settle: Callable[[Instant], None]) -> None:
        """Begin without a connection; `run` serves."""
        self._node = node
        self._server = ServerAddress(address, PORT)
        self._settle = settle
        self._sock: socket.socket | None = None
        self._tail = b""
        self._at: Instant | None = None
        self._wanted = trio.Event()
        self._session = trio.CancelScope()
        self._more = trio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._sock is not None

    def want(self, at: Instant) -> None:
        """Close the connection, if there is one, and make another at this time."""
        self._at = at
        self._wanted.set()
        self._session.cancel()

    def send(self) -> None:
        """Send what the node has for the policeman; without a connection it is for nobody."""
        octets = self._node.cops_to_send()
        if octets and self._sock is not None:
            self._tail += octets
            self._push()

    def close(self) -> None:
        """Close the connection; `run` is cancelled by who has started it."""
        sock, self._sock = self._sock, None
        if sock is not None:
            trio.lowlevel.notify_closing(sock)
            sock.close()

    async def run(self) -> None:
        """Connect whenever that is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            at, self._at = self._at, None
            await trio.sleep_until((at or 0) / NS_PER_S)
            if self._wanted.is_set():
                continue
            with trio.CancelScope() as self._session:
                await self._serve()
            self.close()
            if not self._session.cancelled_caught:
                self._node.cops_eof(now_ns())
                self._settle(now_ns())

    async def _serve(self) -> None:
        """Make a connection and read it to its end."""
        sock = None
        try:
            with trio.move_on_after(CONNECT_S):
                sock = await connect(str(self._server.address), self._server.port, bind=self._bind)
        except OSError as error:
            _log.info("%s: no policeman at %s: %s", self._node.name, self._server.address, error)
        if sock is None:
            return
        self._sock, self._tail, self._more = sock, b"", trio.Event()
        self._node.cops_connect(self._server, now_ns())
        self._settle(now_ns())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            try:
                await self._read(sock)
            except trio.ClosedResourceError:
                _log.debug("%s: the line to the policeman was closed", self._node.name)
            except OSError as error:
                _log.info("%s: the policeman is gone: %s", self._node.name, error)
            nursery.cancel_scope.cancel()

    def _bind(self, sock: socket.socket) -> None:
        sock.bind((str(self._node.address), 0))

    async def _read(self, sock: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                octets = sock.recv(RECEIVE_OCTETS)
            except (BlockingIOError, InterruptedError):
                continue
            if not octets:
                return
            self._node.receive_cops(octets, now_ns())
            self._settle(now_ns())

    def _push(self) -> None:
        """Send until the kernel takes no more; then the writer goes on."""
        try:
            while self._tail and self._sock is not None:
                sent = self._sock.send(self._tail)
                self._tail = self._tail[sent:]
        except (BlockingIOError, InterruptedError):
            self._more.set()
        except OSError:
            # the reader sees the end
            self._tail = b""

    async def _write(self) -> None:
        """Go on with what the kernel did not take."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            if self._sock is None:
                return
            try:
                await trio.lowlevel.wait_writable(self._sock)
            except trio.ClosedResourceError:
                return
            self._push()
