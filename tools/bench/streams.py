"""Both ends of a stream in two processes: counted, timed and compared."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.bench.harness import WARM_UP_S, Child, Sample, Side, WrongResultError, cpu_ns
from tools.bench.inspection import profiled

RECV = 262144
BATCH = 65536
TCP_NOTSENT_LOWAT = 25


class Span:
    """The counts of one end: everything, and what came after the warm-up."""

    __slots__ = ("_cpu", "_end", "_mark", "_start", "_wall", "octets", "total")

    def __init__(self, seconds: float) -> None:
        """Start the clock; `seconds` are measured after the warm-up."""
        now = time.monotonic()
        self._start = now + min(WARM_UP_S, seconds)
        self._end = self._start + seconds
        self._mark = -1
        self._cpu = 0
        self._wall = now
        self.total = 0
        self.octets = 0

    def add(self, segments: int, octets: int) -> bool:
        """Count; False once the time is over."""
        self.total += segments
        self.octets += octets
        now = time.monotonic()
        if self._mark < 0:
            if now >= self._start:
                self._mark, self._cpu, self._wall = self.total, cpu_ns(), now
            return True
        return now < self._end

    def answer(self, **also: int) -> dict[str, Any]:
        """What the process of this end reports, with what else both ends must agree on."""
        if self._mark < 0 or self.total == self._mark:
            raise WrongResultError("nothing was transferred after the warm-up")
        return {
            "segments": self.total - self._mark,
            "cpu": cpu_ns() - self._cpu,
            "wall": time.monotonic() - self._wall,
            "agree": {"segments": self.total, "octets": self.octets, **also},
        }


End = Callable[[socket.socket, float], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Ends:
    """A sender, given a connected socket, and a receiver, given a listening one."""

    sender: End
    receiver: End


def listener(backlog: int = 16) -> socket.socket:
    """A listening socket on a free port of 127.0.0.1."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    return sock


def connected(address: tuple[str, int]) -> socket.socket:
    """A blocking connection without Nagle's delay."""
    sock = socket.create_connection(address)
    set_options(sock)
    return sock


def accepted(listening: socket.socket) -> socket.socket:
    """The first connection of a listening socket, blocking, without Nagle's delay."""
    sock, _ = listening.accept()
    listening.close()
    set_options(sock)
    return sock


def set_options(sock: socket.socket) -> None:
    """The options of the product's own sockets, for both sides of a pair."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 131072)


def both_ends(ends: Ends) -> Side:
    """A side whose value is segments per CPU second, the CPU of both ends added."""

    def run(seconds: float) -> Sample:
        listening = listener()
        address = listening.getsockname()

        def send() -> dict[str, Any]:
            listening.close()
            return profiled(lambda: ends.sender(connected(address), seconds))

        receiver = Child(lambda: profiled(lambda: ends.receiver(listening, seconds)), 1)
        sender = Child(send, 0)
        listening.close()
        sent, got = sender.result(), receiver.result()
        if sent["agree"] != got["agree"]:
            raise WrongResultError(f"sent {sent['agree']}, received {got['agree']}")
        cost = sent["cpu"] / sent["segments"] + got["cpu"] / got["segments"]
        return Sample(
            1e9 / cost,
            {
                "wall": got["segments"] / got["wall"],
                "send_ns": sent["cpu"] / sent["segments"],
                "receive_ns": got["cpu"] / got["segments"],
            },
        )

    return run
