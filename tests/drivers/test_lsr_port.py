"""Ports of a node: datagrams of neighbours in bursts, and queues for what the kernel does not take."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import trio

from powertcp.drivers.lsr_port import (
    BURST,
    MAX_DATAGRAM,
    MAX_MESSAGES,
    MessageQueue,
    Port,
    open_port,
)
from powertcp.mplamps.linkqueue import MAX_PACKETS, LinkQueue
from tests.drivers.addresses import base_address

PORT = 6635


@dataclass
class Ends:
    """A node with two neighbours, and a stranger."""

    sock: socket.socket
    near: socket.socket
    far: socket.socket
    stranger: socket.socket
    took: list[tuple[int, bytes]] = field(default_factory=list)
    bursts: int = 0
    dropped: list[str] = field(default_factory=list)
    tapped: list[tuple[int, bool, bytes]] = field(default_factory=list)

    def port(self, nursery: trio.Nursery, sock: socket.socket | None = None) -> Port:
        def done(_: int) -> None:
            self.bursts += 1

        links = {self.near.getsockname(): 1, self.far.getsockname(): 2}
        return Port(
            sock or self.sock,
            links,
            lambda link, octets, _: self.took.append((link, octets)),
            done,
            queue=LinkQueue,
            nursery=nursery,
            drop=self.dropped.append,
            tap=lambda link, went, octets: self.tapped.append((link, went, octets)),
        )


@pytest.fixture
def ends() -> Iterator[Ends]:
    base = base_address()
    socks = [open_port(str(base + number), PORT) for number in range(1, 5)]
    yield Ends(socks[0], socks[1], socks[2], socks[3])
    for sock in socks:
        sock.close()


@pytest.mark.requirement("MPLA-9-05")
@pytest.mark.requirement("MPLA-4.10-02")
@pytest.mark.requirement("MPLA-4.1-01")
async def test_only_neighbours_are_heard(ends: Ends, nursery: trio.Nursery) -> None:
    port = ends.port(nursery)
    here = ends.sock.getsockname()
    ends.near.sendto(b"near", here)
    ends.stranger.sendto(b"stranger", here)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        # the address of a neighbour, another port
        other.bind((ends.near.getsockname()[0], 0))
        other.sendto(b"another port", here)
    ends.far.sendto(b"far", here)
    await trio.lowlevel.wait_readable(ends.sock)
    assert port.readable(0)
    assert ends.took == [(1, b"near"), (2, b"far")]
    assert ends.dropped == ["not_neighbour"] * 2
    assert port.drops == {"not_neighbour": 2}
    assert ends.tapped == [(1, False, b"near"), (2, False, b"far")]


async def test_a_wake_up_takes_a_burst(ends: Ends, nursery: trio.Nursery) -> None:
    port = ends.port(nursery)
    for number in range(BURST + 3):
        ends.near.sendto(b"%d" % number, ends.sock.getsockname())
    assert port.readable(0)
    assert (len(ends.took), ends.bursts) == (BURST, 1)
    assert port.readable(0)
    assert (len(ends.took), ends.bursts) == (BURST + 3, 2)
    assert [octets for _, octets in ends.took] == [b"%d" % n for n in range(BURST + 3)]


async def test_a_datagram_beyond_the_limit_is_cut(ends: Ends, nursery: trio.Nursery) -> None:
    port = ends.port(nursery)
    ends.near.sendto(bytes(MAX_DATAGRAM + 100), ends.sock.getsockname())
    assert port.readable(0)
    # one octet more than is accepted: whoever decodes it sees that it is too long
    assert [len(octets) for _, octets in ends.took] == [MAX_DATAGRAM + 1]


async def test_what_the_host_refuses_is_counted_and_it_goes_on(
    ends: Ends, nursery: trio.Nursery
) -> None:
    here = ends.sock.getsockname()

    def take(link: int, octets: bytes, _: int) -> None:
        if octets == b"bad":
            raise OSError(5, "no memory")
        ends.took.append((link, octets))

    port = Port(
        ends.sock,
        {ends.near.getsockname(): 1},
        take,
        lambda _: None,
        queue=LinkQueue,
        nursery=nursery,
        drop=ends.dropped.append,
    )
    ends.near.sendto(b"bad", here)
    ends.near.sendto(b"good", here)
    assert port.readable(0)
    assert ends.took == [(1, b"good")]
    assert port.drops == {"receive": 1}
    assert ends.dropped == ["receive"]


class Full:
    """A socket that takes nothing until it `is_open`, as one whose buffer is full."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.is_open = False
        self.wanted = 0
        self.all_sent = trio.Event()
        self.sent: list[tuple[bytes, object]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)

    def sendto(self, octets: bytes, place: object) -> int:
        if not self.is_open:
            raise BlockingIOError
        self.sent.append((octets, place))
        if len(self.sent) == self.wanted:
            self.all_sent.set()
        return len(octets)


def packet(number: int, tc: int = 3) -> bytes:
    return bytes((0, 0, tc << 1, 64)) + number.to_bytes(2, "big")


@pytest.mark.requirement("MPLA-2.2-03")
async def test_what_the_kernel_does_not_take_waits_for_each_link(
    ends: Ends, nursery: trio.Nursery
) -> None:
    full = Full(ends.sock)
    port = ends.port(nursery, full)  # type: ignore[arg-type]
    near, far = ends.near.getsockname(), ends.far.getsockname()
    port.send(1, packet(1, tc=1))
    for number in range(2, MAX_PACKETS + 2):
        port.send(1, packet(number))
    port.send(2, packet(900))
    port.send(2, packet(901))
    # of the full queue the least important went
    assert ends.dropped == ["queue"]
    await trio.sleep(0.01)
    assert not full.sent
    full.wanted, full.is_open = MAX_PACKETS + 2, True
    with trio.fail_after(10):
        await full.all_sent.wait()
    assert [octets for octets, to in full.sent if to == near] == [
        packet(number) for number in range(2, MAX_PACKETS + 2)
    ]
    assert [octets for octets, to in full.sent if to == far] == [packet(900), packet(901)]
    port.send(1, packet(7))
    assert full.sent[-1] == (packet(7), near)
    assert len(ends.tapped) == len(full.sent)


async def test_a_link_without_a_route_is_as_one_that_loses(
    ends: Ends, nursery: trio.Nursery
) -> None:
    port = ends.port(nursery)
    port.send(1, bytes(70_000))
    assert port.drops == {"send": 1}
    port.send(1, b"next")
    assert ends.near.recv(100) == b"next"


async def test_closed_it_neither_takes_nor_sends(ends: Ends, nursery: trio.Nursery) -> None:
    full = Full(ends.sock)
    port = ends.port(nursery, full)  # type: ignore[arg-type]
    port.send(1, packet(1))
    await trio.lowlevel.checkpoint()
    port.close()
    port.close()
    port.send(1, packet(2))
    assert not port.readable(0)
    assert port.fileno() == -1
    assert not full.sent


def test_of_too_many_messages_the_oldest_goes() -> None:
    queue = MessageQueue()
    for number in range(MAX_MESSAGES):
        assert queue.push(b"%d" % number) is None
    assert queue.push(b"one more") == b"0"
    assert len(queue) == MAX_MESSAGES
    assert queue.pop() == b"1"
