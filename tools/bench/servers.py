"""Servers under load: the real provider, and the peers that answer from a table."""

import collections
import random
import select
import socket
import time
from collections.abc import Sequence

import numpy
import trio

from powertcp.drivers.daemon import settle_memory
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.dve import encode_block
from powertcp.sources import parse_supply
from powertcp.wire import data_header
from tools.bench.load import CONFIG, FIN, Answers, Pace
from tools.bench.steps import watchers
from tools.bench.streams import RECV, listener

RATING_MW = 144_000_000
SUPPLY = "12V/12000A"
SLOT_S = 0.01


def listening() -> socket.socket:
    """A socket for thousands of clients."""
    return listener(4096)


def provider(sock: socket.socket, instruments: Sequence[trio.abc.Instrument] = ()) -> None:
    """The real provider, its limits raised by configuration; until the process is ended."""
    config = ProviderConfig(
        supplies=[parse_supply(SUPPLY)],
        rating_mw=RATING_MW,
        per_address=100_000,
        connection=CONFIG,
    )
    sock.settimeout(0)
    settle_memory()
    trio.run(Provider(config).serve, [sock], instruments=[*instruments, *watchers()])


def table_tcp(sock: socket.socket, table: Answers) -> None:
    """trio.serve_tcp's own accept loop and a handler that answers from a table."""

    async def handle(stream: trio.SocketStream) -> None:
        for octets in (table.syn_ack, table.ready, table.fin_ack):
            if not await stream.receive_some():
                return
            await stream.send_all(octets)

    async def main() -> None:
        sock.settimeout(0)
        listening_stream = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        await trio.serve_listeners(handle, [listening_stream])

    trio.run(main)


class Bare:
    """A bare epoll loop with a wheel of 10 ms slots: the same octets, what it reads is dropped."""

    def __init__(self, sock: socket.socket, table: Answers, pace: Pace) -> None:
        """Listen; nothing ticks yet."""
        self._tick_uj, self._period = pace.tick_uj, round(1 / pace.rate_hz / SLOT_S)
        sock.settimeout(0)
        self._listener = sock
        self._table = table
        self._epoll = select.epoll()
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._socks: dict[int, socket.socket] = {}
        self._reads: dict[int, int] = {}
        self._slots: dict[int, list[int]] = collections.defaultdict(list)
        self._esn: dict[int, int] = {}
        self._chance = random.Random(1)
        self._block = encode_block(0, numpy.tile(numpy.array([12_000, 1_000_000]), (10, 1)))
        self._buffer = bytearray(RECV)

    def run(self) -> None:
        """Serve until the process is ended."""
        slot = int(time.monotonic() / SLOT_S)
        while True:
            wait = max(0.0, (slot + 1) * SLOT_S - time.monotonic())
            for number, _ in self._epoll.poll(wait, 256):
                if number == self._listener.fileno():
                    self._accept()
                else:
                    self._read(number)
            while (slot + 1) * SLOT_S <= time.monotonic():
                slot += 1
                self._tick(slot)

    def _accept(self) -> None:
        for _ in range(64):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = sock.fileno()
            self._socks[number], self._reads[number] = sock, 0
            self._epoll.register(number, select.EPOLLIN)

    def _read(self, number: int) -> None:
        sock = self._socks[number]
        size = sock.recv_into(self._buffer)
        reads = self._reads[number] = self._reads[number] + 1
        if not size:
            self._epoll.unregister(number)
            sock.close()
            del self._socks[number]
            self._esn.pop(number, None)
        elif reads == 1:
            sock.send(self._table.syn_ack)
        elif reads == 2:
            sock.send(self._table.ready)
            self._esn[number] = 0
            slot = int(time.monotonic() / SLOT_S) + 1 + self._chance.randrange(self._period)
            self._slots[slot].append(number)
        elif self._buffer[: len(FIN)] == FIN:
            sock.send(self._table.fin_ack)

    def _tick(self, slot: int) -> None:
        for number in self._slots.pop(slot, ()):
            esn = self._esn.get(number)
            if esn is None:
                continue
            self._esn[number] = esn + self._tick_uj
            self._socks[number].send(data_header(1, esn, len(self._block)) + self._block)
            self._slots[slot + self._period].append(number)
