"""A light load for servers: epoll, prebuilt octets, every answer checked."""

import os
import random
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from powertcp.potcp import ConnectionConfig, PowerConnection
from powertcp.potcp.events import PowerAccepted, PowerRequested
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Flag
from powertcp.wire import (
    HEADER,
    Control,
    Maintain,
    Options,
    Sampling,
    credit_segment,
    encode_segment,
)
from tools.bench.harness import WrongResultError

LIMIT_UJ = 1 << 60
TAG = 0x1234
REQUEST = PowerProfile.parse("12V/1A,lease=3600s").with_type(ProfileType.REQUEST, tag=TAG)
GRANT = REQUEST.with_type(ProfileType.GRANT)
MAINTAIN = Maintain(30_000, 3)
CONFIG = ConnectionConfig(lease_s=3600, maintain_interval_ms=30_000)
ACK = encode_segment(Control(1, int(Flag.ACK), 0, Options(contract=1, profiles=(GRANT,))))
FIN = encode_segment(Control(1, int(Flag.FIN)))
LATCH = ACK + credit_segment(1, 0, LIMIT_UJ)
CREDITS = 1024  # made beforehand: the ticks a connection may live through
TICK_SAMPLES = 10
WATT = 12
SOURCES = 16
IP_BIND_ADDRESS_NO_PORT = 24
SYN_ACK_FLAGS, FIN_ACK_FLAGS = int(Flag.SYN | Flag.ACK), int(Flag.FIN | Flag.ACK)
CTL, DATA, READY = 1, 2, 5


class Pace:
    """How often a flow ticks, and the octets that depend on it.

    rate_hz: blocks of ten samples a second. tick_uj: energy of one.
    """

    def __init__(self, rate_hz: int = 1) -> None:
        """Prepare the octets."""
        self.rate_hz = rate_hz
        self.sampling = Sampling(TICK_SAMPLES * rate_hz)
        self.tick_uj = WATT * 1_000_000 // rate_hz
        wishes = Options(msp=16384, profiles=(REQUEST,), sampling=self.sampling, maintain=MAINTAIN)
        self.syn = encode_segment(Control(1, int(Flag.SYN), 0, wishes))
        self.credits = [
            credit_segment(1, number * self.tick_uj, LIMIT_UJ) for number in range(CREDITS)
        ]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a provider answers, octet for octet: the table of the peers."""

    syn_ack: bytes
    ready: bytes
    fin_ack: bytes


def answers(pace: Pace) -> Answers:
    """Let a real machine answer once."""
    chance = random.Random(1)
    machine = PowerConnection(client=False, config=CONFIG, entropy=chance.randbytes)
    machine.receive_data(pace.syn, 0)
    while not isinstance(machine.next_event(), PowerRequested):
        pass
    machine.grant(1, GRANT, sampling=pace.sampling, now=0)
    syn_ack = machine.data_to_send()
    machine.receive_data(LATCH, 0)
    while not isinstance(machine.next_event(), PowerAccepted):
        pass
    machine.ready(1, now=0)
    ready = machine.data_to_send()
    machine.receive_data(FIN, 0)
    return Answers(syn_ack, ready, machine.data_to_send())


class Client:
    """One connection of the load."""

    __slots__ = ("arrivals", "cut", "is_up", "sock", "ticks")

    def __init__(self, sock: socket.socket, syn: bytes) -> None:
        """Send SYN on a connected socket."""
        self.sock = sock
        self.cut = b""
        self.ticks = 0
        self.is_up = False
        self.arrivals: list[float] = []
        sock.settimeout(0)
        sock.send(syn)


class Load:
    """Many clients in one thread."""

    def __init__(self, address: tuple[str, int], pace: Pace, *, closes: bool) -> None:
        """Connect to `address` later. closes: say FIN as soon as READY has come."""
        self._pace = pace
        self._address = address
        self._closes = closes
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._opened = 0
        self.up = 0
        self.done = 0

    @property
    def clients(self) -> list[Client]:
        """The clients that are not over."""
        return list(self._clients.values())

    def open(self) -> None:
        """Connect one more client, from one of several addresses."""
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((f"127.0.0.{2 + self._opened % SOURCES}", 0))
        sock.connect(self._address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._opened += 1
        client = Client(sock, self._pace.syn)
        self._clients[sock.fileno()] = client
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def serve(self, until: Callable[[], bool]) -> None:
        """Answer what comes until `until` says so."""
        while not until():
            for number, _ in self._epoll.poll(0.01, 256):
                self._read(number)

    def _read(self, number: int) -> None:
        client = self._clients[number]
        octets = client.sock.recv(65536)
        if len(octets) == 108 and octets[4] == DATA and not client.cut:
            self._tick(client, octets)
            return
        if not octets:
            raise WrongResultError("the server closed a connection")
        octets = client.cut + octets
        at = 0
        while len(octets) - at >= HEADER.size:
            _, _, words, _, _, length, _, _ = HEADER.unpack_from(octets, at)
            end = at + 4 * words + length
            if end > len(octets):
                break
            if not self._segment(client, octets[at:end]):
                return
            at = end
        client.cut = octets[at:]

    def _segment(self, client: Client, octets: bytes) -> bool:
        """Answer one segment; False: the client is over."""
        kind, flags = octets[4], octets[5]
        if kind == DATA:
            self._tick(client, octets)
        elif kind == READY:
            client.is_up = True
            self.up += 1
            if self._closes:
                client.sock.send(FIN)
        elif kind == CTL and flags == SYN_ACK_FLAGS:
            client.sock.send(LATCH)
        elif kind == CTL and flags == FIN_ACK_FLAGS:
            self.done += 1
            self._close(client)
            return False
        elif kind == CTL:
            raise WrongResultError(f"refused: {octets.hex()}")
        return True

    def _tick(self, client: Client, octets: bytes) -> None:
        if not client.is_up:
            raise WrongResultError("DATA came before READY")
        esn = int.from_bytes(octets[12:20], "big")
        if esn != client.ticks * self._pace.tick_uj:
            raise WrongResultError(f"tick {client.ticks} began at {esn} uJ")
        client.ticks += 1
        client.arrivals.append(time.monotonic())
        if not self._closes:
            client.sock.send(self._pace.credits[client.ticks])

    def _close(self, client: Client) -> None:
        number = client.sock.fileno()
        self._epoll.unregister(number)
        del self._clients[number]
        client.sock.close()


def cpu_of(pid: int) -> float:
    """CPU seconds that another process has used, by its own clock."""
    return time.clock_gettime((~pid << 3) | 2)


def resident(pid: int) -> int:
    """Resident octets of another process."""
    with open(f"/proc/{pid}/statm") as table:
        return int(table.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
