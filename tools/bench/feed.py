"""Fan-out of a feed: one emission to 1,000 receivers, deliveries per CPU second of the source.

Our side is a whole provider: blocks are made, checked, signed, put into the ring and swept. The
peers send octets that were made before. Receivers live in a process of their own, which says when
it has everything; the source waits for that after every 16 blocks, so nobody outruns anybody.
"""

import os
import selectors
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial

import trio

from powertcp.crypto import SigningKey
from powertcp.drivers.feed import SWEEP_BLOCKS, FeedConfig, FeedStation
from powertcp.drivers.groups import Group, GroupSender, hear_groups
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.wheel import Wheel
from powertcp.potcp.feed import ANY_FEED, feed_segment
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag
from powertcp.wire.options import Feed
from tools.bench.harness import (
    WARM_UP_S,
    Child,
    Options,
    Pair,
    Sample,
    Side,
    WrongResultError,
    bench,
    cpu_ns,
    measured,
    pin,
    raise_open_files,
)
from tools.bench.inspection import profiled
from tools.bench.servers import listening

RECEIVERS = 1000
SMOKE_RECEIVERS = 100
# 139 samples of 400 Hz fill a datagram, 1,196 octets; 16 of them are 70 ms, so a sweep is 16 blocks
FAST = "115V/10A@400Hz"
# a block each 20 ms: what is new in 100 ms is 5 blocks
SLOW = "230V/1A@50Hz"
GROUP_HOST = "239.255.80.84"
READ_OCTETS = 1 << 20
OPEN_S = 10.0
_TOTAL = struct.Struct(">Q")


class Readers:
    """A process with all receivers: told how many octets each is to have, it answers when so."""

    def __init__(self, open_all: Callable[[], list[socket.socket]]) -> None:
        """Fork it, on the CPU that the source does not have. open_all: opens the receivers."""
        asked, self._ask = os.pipe()
        self._heard, answer = os.pipe()
        ours = self._ask, self._heard

        def work() -> None:
            for number in ours:
                os.close(number)
            _read_all(open_all(), asked, answer)

        self._child = Child(work, 1)
        os.close(asked)
        os.close(answer)

    def wait_open(self) -> None:
        """Wait until all receivers are open."""
        if not os.read(self._heard, 1):
            self._child.result()

    def wait_for(self, octets: int) -> None:
        """Wait until each receiver has `octets` in all. Raises WrongResultError."""
        os.write(self._ask, _TOTAL.pack(octets))
        if not os.read(self._heard, 1):
            raise WrongResultError(f"not every receiver got {octets:,} octets")

    def end(self) -> None:
        """Let the process end."""
        os.close(self._ask)
        self._child.result()
        os.close(self._heard)


def _read_all(sockets: list[socket.socket], asked: int, answer: int) -> None:
    """Serve `Readers`: read each socket until it has what is asked for."""
    os.write(answer, b"o")
    got = dict.fromkeys(sockets, 0)
    buffer = bytearray(READ_OCTETS)
    with selectors.EpollSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        while octets := os.read(asked, _TOTAL.size):
            (total,) = _TOTAL.unpack(octets)
            left = {sock for sock in sockets if got[sock] < total}
            late = time.monotonic() + OPEN_S
            while left:
                for key, _ in selector.select(OPEN_S):
                    sock = key.fileobj
                    if not isinstance(sock, socket.socket):
                        continue
                    with suppress(BlockingIOError):
                        while got[sock] < total:
                            got[sock] += sock.recv_into(buffer)
                    if got[sock] >= total:
                        left.discard(sock)
                if time.monotonic() > late:
                    os._exit(1)
            os.write(answer, b"a")
    for sock in sockets:
        sock.close()


def subscribers(address: tuple[str, int], count: int) -> list[socket.socket]:
    """Connect `count` receivers that subscribe; their SYN+ACK is read before they are open."""
    sockets = []
    for _ in range(count):
        sock = socket.create_connection(address)
        sock.sendall(feed_segment(Feed(ANY_FEED, 0), Flag.SYN))
        sockets.append(sock)
    for sock in sockets:
        # SYN+ACK: nothing else is sent before all are there
        sock.settimeout(OPEN_S)
        sock.recv(4096)
        sock.settimeout(0)
    return sockets


def plain(address: tuple[str, int], count: int) -> list[socket.socket]:
    """Connect `count` receivers that say nothing."""
    sockets = [socket.create_connection(address) for _ in range(count)]
    for sock in sockets:
        sock.settimeout(0)
    return sockets


def station(power: str, wheel: Wheel, groups: tuple[Group, ...] = ()) -> FeedStation:
    """Return a feed of `power`."""
    key = SigningKey(bytes(32))
    profile = PowerProfile.parse(power, ProfileType.OFFER)
    config = FeedConfig(profile=profile, groups=groups, interface="lo")
    return FeedStation(config, wheel, key=key.public, sign=key.sign, next_epoch=lambda: 1)


class Kept(GroupSender):
    """In the place of the groups: keeps what is emitted, or counts its octets."""

    def __init__(self) -> None:
        """Send to nobody."""
        super().__init__(())
        self.datagrams: list[bytes] = []
        self.octets = 0

    def send(self, datagrams: Iterable[bytes]) -> None:
        """Count, and keep the first 16."""
        for octets in datagrams:
            self.octets += len(octets)
            if len(self.datagrams) < SWEEP_BLOCKS:
                self.datagrams.append(octets)


class Clocked:
    """A feed whose clock is the bench: each step emits 16 blocks, as fast as that goes."""

    def __init__(self, feed: FeedStation) -> None:
        """Drive `feed`, which has started."""
        self._feed = feed
        self._clock = feed.get_timer() or 0
        self.kept = feed.sender = Kept()

    def emit(self) -> int:
        """Emit 16 blocks; returns their octets with those of signatures."""
        before, end = self.kept.octets, self._feed.source.blocks + SWEEP_BLOCKS
        while self._feed.source.blocks < end:
            self._clock = max(self._clock + 1, self._feed.get_timer() or 0)
            self._feed.handle_timer(self._clock)
        return self.kept.octets - before


def made(power: str) -> list[bytes]:
    """Return 16 blocks as a feed emits them: what the peers send."""

    async def emit() -> list[bytes]:
        feed = station(power, Wheel())
        feed.start()
        clocked = Clocked(feed)
        clocked.emit()
        await trio.lowlevel.checkpoint()
        return [octets for octets in clocked.kept.datagrams if not octets[5]]

    return trio.run(emit)


async def paced(
    step: Callable[[], Awaitable[int]], readers: Readers, receivers: int, seconds: float
) -> Sample:
    """Repeat `step`, which sends 16 blocks and returns their octets; count deliveries."""
    total = await step()
    readers.wait_for(total)
    warm = time.monotonic() + min(WARM_UP_S, seconds)
    while time.monotonic() < warm:
        total += await step()
        readers.wait_for(total)
    steps, wall, cpu = 0, time.monotonic(), cpu_ns()
    while time.monotonic() < wall + seconds:
        total += await step()
        readers.wait_for(total)
        steps += 1
    spent, wall = cpu_ns() - cpu, time.monotonic() - wall
    deliveries = steps * SWEEP_BLOCKS * receivers
    return Sample(
        deliveries * 1e9 / spent,
        {"wall": deliveries / wall, "us_per_delivery": spent / deliveries / 1000},
    )


def fanout(power: str, receivers: int) -> Side:
    """Our side: a provider with a feed and subscribers on its listener."""

    def run(seconds: float) -> Sample:
        raise_open_files(receivers + 100)
        sock = listening()
        readers = Readers(partial(subscribers, sock.getsockname(), receivers))
        pin(0)
        return profiled(lambda: trio.run(_fanout, power, sock, readers, receivers, seconds))

    return run


async def _fanout(
    power: str, sock: socket.socket, readers: Readers, receivers: int, seconds: float
) -> Sample:
    provider = Provider(ProviderConfig(supplies=[], rating_mw=0, per_address=receivers))
    # a wheel that stands still: the clock of this feed is the bench
    feed = provider.station = station(power, Wheel())
    sock.settimeout(0)
    async with trio.open_nursery() as nursery:
        await nursery.start(provider.serve, [sock])
        await trio.to_thread.run_sync(readers.wait_open)
        clocked = Clocked(feed)
        last = next(reversed(feed.subscribers.values()))

        async def step() -> int:
            """Emit 16 blocks and see them swept to the last subscriber."""
            octets, at = clocked.emit(), last.at
            while last.at == at:
                await trio.lowlevel.checkpoint()
            return octets

        sample = await paced(step, readers, receivers, seconds)
        if len(feed.subscribers) != receivers or feed.lost:
            raise WrongResultError(f"{len(feed.subscribers)} subscribers, {feed.lost} blocks lost")
        nursery.cancel_scope.cancel()
    readers.end()
    return sample


def awaited(receivers: int) -> Side:
    """The naive peer: each block is sent to one receiver after the other, each send awaited."""

    def run(seconds: float) -> Sample:
        raise_open_files(receivers + 100)
        sock, blocks = listening(), made(FAST)
        readers = Readers(partial(plain, sock.getsockname(), receivers))
        pin(0)
        return trio.run(_awaited, blocks, sock, readers, receivers, seconds)

    return run


async def _awaited(
    blocks: list[bytes], sock: socket.socket, readers: Readers, receivers: int, seconds: float
) -> Sample:
    sock.settimeout(None)
    streams = []
    for _ in range(receivers):
        accepted, _ = await trio.to_thread.run_sync(sock.accept)
        streams.append(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))
    readers.wait_open()

    async def step() -> int:
        for octets in blocks:
            for stream in streams:
                await stream.send_all(octets)
        return sum(map(len, blocks))

    sample = await paced(step, readers, receivers, seconds)
    for stream in streams:
        await stream.aclose()
    readers.end()
    return sample


def multicast(receivers: int) -> Side:
    """The other peer: the kernel copies each datagram to every socket that joined the group."""

    def run(seconds: float) -> Sample:
        raise_open_files(receivers + 100)
        blocks, group = made(FAST), (GROUP_HOST, _free_port())
        readers = Readers(lambda: hear_groups([group] * receivers, interface="lo"))
        pin(0)
        readers.wait_open()
        sender = GroupSender([group], interface="lo")

        async def step() -> int:
            sender.send(blocks)
            await trio.lowlevel.checkpoint()
            return sum(map(len, blocks))

        sample = trio.run(paced, step, readers, receivers, seconds)
        sender.close()
        readers.end()
        return sample

    return run


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _five(receivers: int) -> dict[str, float]:
    """Return what a delivery costs when a sweep has 5 blocks, as a feed of 50 Hz has them."""
    sample = measured(fanout(SLOW, receivers), 0.5)
    return {"us_per_delivery_5_blocks": sample.extra["us_per_delivery"]}


@bench(
    "feed-fanout",
    unit="deliveries/CPU s",
    peer="send_all awaited per receiver",
    must=10.0,
    stretch=50.0,
    seconds=1.0,
)
def feed_fanout(options: Options) -> Pair:
    """FEED of 1,196 octets to 1,000 TCP receivers, 16 blocks a sweep."""
    receivers = SMOKE_RECEIVERS if options.smoke else options.count or RECEIVERS
    figures = None if options.smoke else partial(_five, receivers)
    return Pair(fanout(FAST, receivers), awaited(receivers), figures=figures)


@bench(
    "feed-multicast",
    unit="deliveries/CPU s",
    peer="UDP multicast, as many sockets joined",
    must=0.5,
    stretch=1.0,
    seconds=1.0,
)
def feed_multicast(options: Options) -> Pair:
    """The same by TCP against the kernel's own fan-out."""
    receivers = SMOKE_RECEIVERS if options.smoke else options.count or RECEIVERS
    return Pair(fanout(FAST, receivers), multicast(receivers))
