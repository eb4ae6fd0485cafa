"""Handshakes: connect to READY, then FIN, 64 at a time, per CPU second of the server."""

import socket
import time
from collections.abc import Callable

from tools.bench.harness import (
    WARM_UP_S,
    Child,
    Options,
    Pair,
    Sample,
    Side,
    WrongResultError,
    bench,
    pin,
)
from tools.bench.inspection import profiled
from tools.bench.load import Load, Pace, answers, cpu_of
from tools.bench.servers import listening, provider, table_tcp

AT_A_TIME = 64
PACE = Pace()


def handshakes(serve: Callable[[socket.socket], None]) -> Side:
    """A side: `serve` in its own process under 64 clients at a time."""

    def run(seconds: float) -> Sample:
        sock = listening()
        server = Child(lambda: profiled(lambda: serve(sock)), 0)
        pin(1)
        load = Load(sock.getsockname(), PACE, closes=True)
        sock.close()
        opened = 0

        def until(end: float, least: int = 0) -> Callable[[], bool]:
            def over() -> bool:
                nonlocal opened
                while opened - load.done < AT_A_TIME:
                    load.open()
                    opened += 1
                return load.done >= least and time.monotonic() >= end

            return over

        # a server that has only just come up is no measure of either side
        load.serve(until(0, AT_A_TIME))
        load.serve(until(time.monotonic() + WARM_UP_S))
        done, cpu, wall = load.done, cpu_of(server.pid), time.monotonic()
        load.serve(until(wall + seconds))
        done, cpu, wall = load.done - done, cpu_of(server.pid) - cpu, time.monotonic() - wall
        server.end()
        if not done:
            raise WrongResultError("no handshake came to its end")
        return Sample(done / cpu, {"wall": done / wall})

    return run


@bench(
    "handshake",
    unit="handshakes/CPU s",
    peer="trio.serve_tcp, same octets from a table",
    must=1.0,
    stretch=2.0,
)
def handshake(options: Options) -> Pair:
    """SYN, choose, budget, SYN+ACK, ACK, transcript, READY, first CREDIT, FIN."""
    table = answers(PACE)
    return Pair(handshakes(provider), handshakes(lambda sock: table_tcp(sock, table)))
