"""Thousands of consumers on one provider: a DATA out and a CREDIT in, each second and flow."""

import socket
import statistics
import time
from collections.abc import Callable, Mapping

from tools.bench.harness import (
    Child,
    MissingError,
    Options,
    Pair,
    Sample,
    Side,
    WrongResultError,
    bench,
    pin,
    raise_open_files,
)
from tools.bench.inspection import profiled
from tools.bench.load import Client, Load, Pace, answers, cpu_of, resident
from tools.bench.servers import Bare, listening, provider
from tools.bench.steps import Board, Longest

UNIT = "% of a core"
PEER = "bare epoll and wheel, same octets"
SETTLE_S, MEASURE_S = 2.0, 8.0
AT_A_TIME = 64
SPARE_FILES = 64
LAG_MS = 50.0
SMOKE_COUNT = 500


def ticking(
    serve: Callable[[socket.socket], None], count: int, pace: Pace, board: Board | None = None
) -> Side:
    """A side: `serve` in its own process under `count` clients that give credit.

    board: where `serve` notes its longest step.
    """

    def run(seconds: float) -> Sample:
        try:
            raise_open_files(count + SPARE_FILES)
        except MissingError as missing:
            raise MissingError(f"{missing} for {count} connections") from None
        sock = listening()
        server = Child(lambda: profiled(lambda: serve(sock)), 0)
        pin(1)
        load = Load(sock.getsockname(), pace, closes=False)
        sock.close()
        time.sleep(1.0)
        before = resident(server.pid)
        opened = 0

        def all_up() -> bool:
            nonlocal opened
            while opened < count and opened - load.up < AT_A_TIME:
                load.open()
                opened += 1
            return load.up == count

        load.serve(all_up)
        begin = time.monotonic() + min(SETTLE_S, seconds)
        load.serve(lambda: time.monotonic() >= begin)
        if board is not None:
            board.clear()
        cpu, wall = cpu_of(server.pid), time.monotonic()
        load.serve(lambda: time.monotonic() >= wall + seconds)
        end = time.monotonic()
        cpu = cpu_of(server.pid) - cpu
        longest = {} if board is None else {"longest_step_ms": board.longest / 1e6}
        memory = resident(server.pid) - before
        server.end()
        sample = _sample(load.clients, count, pace, cpu, (wall, end), memory)
        return Sample(sample.value, {**sample.extra, **longest})

    return run


def _sample(
    clients: list[Client],
    count: int,
    pace: Pace,
    cpu: float,
    span: tuple[float, float],
    memory: int,
) -> Sample:
    wall, end = span
    if len(clients) != count:
        raise WrongResultError(f"{len(clients)} connections of {count} are left")
    ticks, lags = 0, []
    for client in clients:
        arrivals = [at for at in client.arrivals if wall <= at < end]
        ticks += len(arrivals)
        # the phase of a client is that of its earliest tick
        phases = [at - number / pace.rate_hz for number, at in enumerate(arrivals)]
        first = min(phases, default=0.0)
        lags += [(phase - first) * 1000 for phase in phases]
    cuts = statistics.quantiles(lags, n=100) if len(lags) > 1 else [0.0] * 99
    return Sample(
        100 * cpu / (end - wall),
        {
            "ticks_per_s": ticks / (end - wall),
            "lag_p50_ms": cuts[49],
            "lag_p99_ms": cuts[98],
            "kib_per_connection": memory / count / 1024,
        },
    )


def _pair(count: int, options: Options) -> Pair:
    number = options.count or (min(count, SMOKE_COUNT) if options.smoke else count)
    pace = Pace(options.rate)
    table, board = answers(pace), Board()

    def bounds(extra: Mapping[str, float]) -> bool:
        due = number * pace.rate_hz
        full = 0.99 * due <= extra["ticks_per_s"] <= 1.01 * due
        return full and extra["lag_p99_ms"] < LAG_MS

    def ours(sock: socket.socket) -> None:
        provider(sock, [Longest(board)])

    def bare(sock: socket.socket) -> None:
        Bare(sock, table, pace).run()

    return Pair(ticking(ours, number, pace, board), ticking(bare, number, pace), bounds)


@bench("ticks-1k", unit=UNIT, peer=PEER, seconds=MEASURE_S, lower=True)
def ticks_1k(options: Options) -> Pair:
    """1,000 consumers."""
    return _pair(1_000, options)


@bench("ticks-5k", unit=UNIT, peer=PEER, seconds=MEASURE_S, lower=True)
def ticks_5k(options: Options) -> Pair:
    """5,000 consumers."""
    return _pair(5_000, options)


@bench("ticks-10k", unit=UNIT, peer=PEER, must=0.33, stretch=0.6, seconds=MEASURE_S, lower=True)
def ticks_10k(options: Options) -> Pair:
    """10,000 consumers: contract 12 V, 1 A DC, 10 samples a second in one block."""
    return _pair(10_000, options)
