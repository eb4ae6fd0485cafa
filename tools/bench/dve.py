"""The full meter of 10,000 streams: MeterBank against NumPy called for one stream after another.

V I P Q S PF THD40 f over 200 ms at 4 kHz, float32 windows already filled. The value is how many
streams one core keeps up with: five windows of each stream a second.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import pi, sqrt

import numpy as np
import numpy.typing as npt

from powertcp.dve import Harmonic, MeterBank, Synth, default_sampling, encode_block
from powertcp.profile import PowerProfile
from tools.bench.harness import (
    WARM_UP_S,
    Options,
    Pair,
    Sample,
    Side,
    WrongResultError,
    bench,
    cpu_ns,
    pin,
)

STREAMS = 10_000
SMOKE_STREAMS = 1_000
SHAPES = 50
WINDOW_S = 0.2
N = 800
RATE_HZ = 4_000
ORDERS = 39  # the 40th of 50 Hz lies at half the sampling rate, where no phase is left
PEER_BATCH = 500
HARMONICS = (Harmonic(3, 50_000), Harmonic(5, 30_000), Harmonic(7, 10_000))
THD = sqrt(0.05**2 + 0.03**2 + 0.01**2)
LAG_DEGREES = 30.0
_Matrix = npt.NDArray[np.float32]


class Streams:
    """Windows of many meters: frequencies of 49.9 to 50.1 Hz, a power of its own for each."""

    def __init__(self, count: int) -> None:
        """Synthesise `count` streams."""
        profile = PowerProfile.parse("230V/16A@50Hz")
        sampling = default_sampling(profile)
        self.count = count
        self.bank = MeterBank(sampling, profile.frequency_chz, count)
        self.v: _Matrix = np.empty((count, N), np.float32)
        self.i: _Matrix = np.empty((count, N), np.float32)
        self.hz = np.empty(count)
        self.power_w = np.array([100.0 + k % 3_000 for k in range(count)])
        for shape in range(SHAPES):
            fine = replace(profile, frequency_chz=4_990 + 20 * shape // (SHAPES - 1))
            self.hz[shape::SHAPES] = fine.frequency_chz / 100
            synth = Synth(fine, sampling, HARMONICS, lag_degrees=LAG_DEGREES)
            members = range(shape, count, SHAPES)
            demands = [round(1_000 * self.power_w[k]) for k in members]
            for k, samples in zip(members, synth.blocks(shape, N, demands), strict=True):
                self.bank.append(k, encode_block(0, samples))
                self.v[k], self.i[k] = samples[:, 0], samples[:, 1]

    def check(self, found: dict[str, npt.NDArray[np.float64]]) -> None:
        """Raise WrongResultError unless these readings are those of the first streams."""
        some = len(found["hz"])
        wanted = {
            "v": (np.full(some, 230.0), 1e-4),
            "p": (self.power_w[:some], 2e-4),
            "thd": (np.full(some, THD), 1e-2),
            "hz": (self.hz[:some], 2e-5),
            "pf": (np.full(some, 0.865), 1e-2),
        }
        for name, (values, relative) in wanted.items():
            worst = float(np.abs(found[name] / values - 1).max())
            if not worst < relative:
                raise WrongResultError(f"{name} of {some} streams is wrong by up to {worst:.1e}")

    def ours(self) -> dict[str, npt.NDArray[np.float64]]:
        """Every reading of every stream."""
        readings = self.bank.readings()
        return {
            "v": readings.voltage_v[:, 0],
            "p": readings.power_w[:, 0],
            "thd": readings.thd[:, 0],
            "hz": readings.frequency_hz,
            "pf": readings.power_factor[:, 0],
        }


class OneByOne:
    """The same meter as a loop over streams: each formula once, in NumPy, nothing allocated twice."""

    def __init__(self, streams: Streams) -> None:
        """Prepare what all streams share: weights, phasors, bins."""
        self.streams = streams
        self.next = 0
        half = N // 2
        self.weights = ((1 - np.cos(2 * pi * np.arange(N) / N)) / N).astype(np.float32)
        halves = (1 - np.cos(2 * pi * np.arange(half) / half)) / half
        turns = 2 * pi * 50 / RATE_HZ * np.arange(N)
        self.phasor = (self.weights * np.exp(-1j * turns)).astype(np.complex64)
        self.first = (halves * np.exp(-1j * turns[:half])).astype(np.complex64)
        self.bins = slice(10, 10 * ORDERS + 1, 10)

    def batch(self, count: int) -> dict[str, npt.NDArray[np.float64]]:
        """Read the next `count` streams, one after another."""
        rows = [self.read(k % self.streams.count) for k in range(self.next, self.next + count)]
        self.next += count
        columns = np.array(rows)
        names = ("v", "a", "p", "q", "s", "pf", "thd", "hz")
        return {name: columns[:, column] for column, name in enumerate(names)}

    def read(self, k: int) -> tuple[float, ...]:
        """V I P Q S PF THD40 f of one stream."""
        v, i, weights = self.streams.v[k], self.streams.i[k], self.weights
        half = N // 2
        volts = 1e-3 * sqrt(float(v * v @ weights))
        amperes = 1e-6 * sqrt(float(i * i @ weights))
        watts = 1e-9 * float(v * i @ weights)
        lines = np.fft.rfft(v * weights)[self.bins]
        squares = lines.real**2 + lines.imag**2
        one = float(squares[0])
        thd = sqrt(max(float(squares.sum()) - one, 0.0) / one)
        reactive = 2e-9 * (complex(lines[0]) * complex(i @ self.phasor).conjugate()).imag
        positive = v >= 0
        rising = np.flatnonzero(positive[1:] > positive[:-1])
        begin, end = int(rising[0]), int(rising[-1])
        hz = (len(rising) - 1) * RATE_HZ / (end - begin)
        if abs(hz - 50) < 5:
            turned = complex(v[half:] @ self.first) * complex(v[:half] @ self.first).conjugate()
            hz = 50 + float(np.angle(turned)) * RATE_HZ / (2 * pi * half)
        apparent = volts * amperes
        return volts, amperes, watts, reactive, apparent, watts / apparent, thd, hz


def side(step: Callable[[], int], check: Callable[[], None]) -> Side:
    """Streams in real time per core, by the CPU time of all threads of the process."""

    def run(seconds: float) -> Sample:
        pin(0)
        check()
        warm = time.monotonic() + min(WARM_UP_S, seconds)
        while time.monotonic() < warm:
            step()
        done, end, cpu = 0, time.monotonic() + seconds, cpu_ns()
        while time.monotonic() < end:
            done += step()
        return Sample(WINDOW_S * done * 1e9 / (cpu_ns() - cpu))

    return run


def accuracy(streams: Streams) -> dict[str, float]:
    """How far off the worst stream is; plain_rms_ppm: a plain 200 ms RMS of the same samples."""
    found = streams.ours()
    plain = np.sqrt((streams.v.astype(np.float64) ** 2).mean(axis=1)) / 1_000
    return {
        "v_ppm": float(np.abs(found["v"] / 230 - 1).max() * 1e6),
        "plain_rms_ppm": float(np.abs(plain / 230 - 1).max() * 1e6),
        "mhz": float(np.abs(found["hz"] - streams.hz).max() * 1e3),
    }


@bench(
    "dve",
    unit="streams in real time per core",
    peer="NumPy, stream after stream",
    must=8,
    stretch=12,
)
def dve(options: Options) -> Pair:
    """V I P Q S PF THD40 f, 4 kHz, windows of 200 ms."""
    streams = Streams(SMOKE_STREAMS if options.smoke else STREAMS)
    single = OneByOne(streams)

    def all_at_once() -> int:
        return len(streams.ours()["hz"])

    def one_by_one() -> int:
        return len(single.batch(PEER_BATCH)["hz"])

    return Pair(
        side(all_at_once, lambda: streams.check(streams.ours())),
        side(one_by_one, lambda: streams.check(single.batch(PEER_BATCH))),
        figures=partial(accuracy, streams),
    )
