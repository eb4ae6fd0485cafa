"""Readings for people and meters: V, I, P, Q, S, PF, THD, frequency, unbalance; floats, never energy.

Units are V, A, W, var, VA and Hz; power factor, THD and unbalance are ratios. Everything is
weighted by a Hann window, so a span need not hold whole cycles. Reactive power is that of the
fundamental: positive when the current lags (inductive), negative when it leads (capacitive).
THD is the rms of the voltage's harmonics 2 to 40, as far as they lie below half the sampling
rate, relative to its fundamental. `measure` is the definition; `MeterBank` does the same for
thousands of streams at once, in float32 and by matrices.
"""

from dataclasses import dataclass
from math import pi
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from powertcp.dve.block import Samples, block_samples
from powertcp.errors import LocalProtocolError
from powertcp.machine import Buffer
from powertcp.wire.options import Sampling

THD_ORDER_MAX: Final = 40
# streams computed together: their windows and products stay within the second-level cache
ROWS_MAX: Final = 256
# half windows this long tell frequencies apart within +- 5 Hz
WINDOW_MS: Final = 200

_CHZ_PER_HZ = 100
_TINY = 1e-20
# bins from the centre of a Hann window beyond which its response is not divided out
_BINS_MAX = 1.5
_STEPS_PER_BIN = 8_192
_F32 = npt.NDArray[np.float32]
_F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What a meter shows of one stream; tuples have one entry per pair.

    voltage_v, current_a: rms. power_w: active power. reactive_var: of the fundamental, inductive
    positive. apparent_va: V * I. power_factor: P / S, 0 without power. thd: of the voltage.
    frequency_hz: of pair 1, 0 for DC and silence. unbalance: negative to positive sequence of three voltages,
    the difference to the mean of two, 0 for one.
    """

    voltage_v: tuple[float, ...]
    current_a: tuple[float, ...]
    power_w: tuple[float, ...]
    reactive_var: tuple[float, ...]
    apparent_va: tuple[float, ...]
    power_factor: tuple[float, ...]
    thd: tuple[float, ...]
    frequency_hz: float
    unbalance: float

    @property
    def total_power_w(self) -> float:
        """Active power of all pairs."""
        return sum(self.power_w)

    @property
    def total_reactive_var(self) -> float:
        """Reactive power of all pairs, inductive positive."""
        return sum(self.reactive_var)

    @property
    def total_apparent_va(self) -> float:
        """Apparent power of all pairs."""
        return sum(self.apparent_va)


@dataclass(frozen=True, slots=True, kw_only=True)
class BankReadings:
    """The readings of a bank: arrays [stream, pair], the last two [stream]; see `Readings`."""

    voltage_v: _F64
    current_a: _F64
    power_w: _F64
    reactive_var: _F64
    apparent_va: _F64
    power_factor: _F64
    thd: _F64
    frequency_hz: _F64
    unbalance: _F64

    def of(self, stream: int) -> Readings:
        """Return the readings of one stream."""
        return Readings(
            voltage_v=tuple(self.voltage_v[stream].tolist()),
            current_a=tuple(self.current_a[stream].tolist()),
            power_w=tuple(self.power_w[stream].tolist()),
            reactive_var=tuple(self.reactive_var[stream].tolist()),
            apparent_va=tuple(self.apparent_va[stream].tolist()),
            power_factor=tuple(self.power_factor[stream].tolist()),
            thd=tuple(self.thd[stream].tolist()),
            frequency_hz=float(self.frequency_hz[stream]),
            unbalance=float(self.unbalance[stream]),
        )


def measure(samples: Samples, sampling: Sampling, frequency_chz: int) -> Readings:
    """Return the readings of one span of samples, shape (n, 2 * pairs), as `block_samples` gives.

    frequency_chz: the contract's frequency in 0.01 Hz, 0 for DC. The measured frequency is sought
    within a quarter of the sampling rate and refined within +- 1 / span of its neighbourhood.
    Best from 4 cycles on. The plain twin of `MeterBank`.
    """
    v = samples[:, 0::2].astype(np.float64) * (sampling.nv_per_lsb / 1e9)
    i = samples[:, 1::2].astype(np.float64) * (sampling.na_per_lsb / 1e9)
    n, pairs = v.shape
    weights = _hann(n)
    voltage, current = np.sqrt(weights @ (v * v)), np.sqrt(weights @ (i * i))
    power = weights @ (v * i)
    hz, reactive, thd, unbalance = 0.0, np.zeros(pairs), np.zeros(pairs), 0.0
    if frequency_chz:
        hz = _frequency(v[:, 0], sampling.rate_hz, frequency_chz / _CHZ_PER_HZ)
    if hz > 0:
        turns = np.arange(n) * (hz / sampling.rate_hz)
        orders = range(1, 1 + _orders(hz, sampling.rate_hz))
        rotations = [weights * np.exp(-2j * pi * order * turns) for order in orders]
        spectrum = np.array([rotation @ v for rotation in rotations])
        reactive = 2 * (spectrum[0] * np.conj(rotations[0] @ i)).imag
        harmonics = np.sqrt((np.abs(spectrum[1:]) ** 2).sum(axis=0))
        thd = harmonics / np.maximum(np.abs(spectrum[0]), _TINY)
        unbalance = float(_unbalance(spectrum[:1])[0])
    return _readings(voltage, current, power, reactive, thd, hz, unbalance)


def _readings(
    voltage: _F64, current: _F64, power: _F64, reactive: _F64, thd: _F64, hz: float, skew: float
) -> Readings:
    apparent = voltage * current
    return Readings(
        voltage_v=tuple(voltage.tolist()),
        current_a=tuple(current.tolist()),
        power_w=tuple(power.tolist()),
        reactive_var=tuple(reactive.tolist()),
        apparent_va=tuple(apparent.tolist()),
        power_factor=tuple(_factor(power, apparent).tolist()),
        thd=tuple(thd.tolist()),
        frequency_hz=hz,
        unbalance=skew,
    )


def _frequency(v: _F64, rate_hz: int, near_hz: float) -> float:
    """Return the frequency of `v` by the phase between its two halves, twice refined."""
    crossings = float(_crossing_hz(v[np.newaxis, :], rate_hz)[0])
    half = len(v) // 2
    limit_hz = rate_hz / (2 * half)
    hz = near_hz if abs(crossings - near_hz) < limit_hz else crossings
    weights = _hann(half)
    for _ in range(3):
        rotation = weights * np.exp(-2j * pi * np.arange(half) * (hz / rate_hz))
        first, second = rotation @ v[:half], rotation @ v[half : 2 * half]
        turned = np.exp(-2j * pi * half * hz / rate_hz)
        hz += float(np.angle(second * turned * np.conj(first))) * rate_hz / (2 * pi * half)
    return hz


class MeterBank:
    """Meters of many streams of equal sampling: windows filled as blocks arrive, computed at once.

    sampling: of every stream. frequency_chz: of the contract, 0 for DC. streams: how many.
    `append` blocks, ask for `readings` when the windows are full, then `clear`.
    """

    def __init__(
        self, sampling: Sampling, frequency_chz: int, streams: int, window_ms: int = WINDOW_MS
    ) -> None:
        """Allocate the windows, 8 octets per sample and pair."""
        self.sampling = sampling
        self.streams = streams
        self.window_samples = sampling.rate_hz * window_ms // 1_000
        if self.window_samples < 2:
            raise LocalProtocolError(f"{window_ms} ms at {sampling.rate_hz} Hz hold no two samples")
        shape = (streams, sampling.pairs, self.window_samples)
        self._v = np.zeros(shape, np.float32)
        self._i = np.zeros(shape, np.float32)
        self._filled = [0] * streams
        self._hz = frequency_chz / _CHZ_PER_HZ
        self._orders = _orders(self._hz, sampling.rate_hz) if frequency_chz else 0
        self._weights = _hann(self.window_samples).astype(np.float32)
        self._basis = self._make_basis()
        self._fundamental = self._basis[:, [0, self._orders]].copy()
        self._gain_table = _hann_gains()
        self._scratch = np.empty((max(1, ROWS_MAX // sampling.pairs), *shape[1:]), np.float32)

    def append(self, stream: int, payload: Buffer) -> bool:
        """Add the samples of one block to a window; return whether that window is full.

        What a full window cannot hold is dropped. Raises DecodeError 502 for a bad block.
        """
        samples = block_samples(payload)
        at = self._filled[stream]
        end = min(at + len(samples), self.window_samples)
        self._v[stream, :, at:end] = samples[: end - at, 0::2].T
        self._i[stream, :, at:end] = samples[: end - at, 1::2].T
        self._filled[stream] = end
        return end == self.window_samples

    def is_full(self, stream: int) -> bool:
        """Return whether the window of a stream is full: its readings mean something."""
        return self._filled[stream] == self.window_samples

    def clear(self) -> None:
        """Begin new windows; samples not yet overwritten would count, so fill them first."""
        self._filled = [0] * self.streams

    def readings(self) -> BankReadings:
        """Compute every stream from its window as it stands."""
        streams, pairs = self.streams, self.sampling.pairs
        out = _Columns(streams, pairs)
        rows = max(1, ROWS_MAX // pairs)
        for at in range(0, streams, rows):
            self._compute(slice(at, min(at + rows, streams)), out)
        volt, ampere = self.sampling.nv_per_lsb / 1e9, self.sampling.na_per_lsb / 1e9
        voltage = np.sqrt(out.vv) * volt
        current = np.sqrt(out.ii) * ampere
        power = out.vi * (volt * ampere)
        apparent = voltage * current
        return BankReadings(
            voltage_v=voltage,
            current_a=current,
            power_w=power,
            reactive_var=out.q * (volt * ampere),
            apparent_va=apparent,
            power_factor=_factor(power, apparent),
            thd=out.thd,
            frequency_hz=out.hz,
            unbalance=out.skew,
        )

    def _compute(self, streams: slice, out: "_Columns") -> None:
        """Compute one cacheful of streams."""
        v, i = self._v[streams], self._i[streams]
        product = self._scratch[: len(v)]
        out.vv[streams] = np.multiply(v, v, out=product) @ self._weights
        out.ii[streams] = np.multiply(i, i, out=product) @ self._weights
        out.vi[streams] = np.multiply(v, i, out=product) @ self._weights
        if not self._orders:
            return
        pairs, n = v.shape[1:]
        v = v.reshape(-1, n)
        spectrum = v @ self._basis
        i_cos, i_sin = (i.reshape(-1, n) @ self._fundamental).T
        hz = self._hann_hz(v, spectrum[:, -4:].astype(np.float64))
        gains = self._gains(np.abs(hz - self._hz))
        # without a frequency there is nothing to be harmonic or in quadrature to
        gains *= (hz > 0)[:, np.newaxis]
        v_cos, v_sin = spectrum[:, : self._orders], spectrum[:, self._orders : -4]
        squares = (v_cos * v_cos + v_sin * v_sin) * gains
        reactive = 2 * gains[:, 0] * (v_cos[:, 0] * i_sin - v_sin[:, 0] * i_cos)
        thd = np.sqrt(squares[:, 1:].sum(axis=1) / np.maximum(squares[:, 0], _TINY))
        out.q[streams] = reactive.reshape(-1, pairs)
        out.thd[streams] = thd.reshape(-1, pairs)
        out.hz[streams] = hz.reshape(-1, pairs)[:, 0]
        if pairs > 1:
            phasors = v_cos[:, 0] - 1j * v_sin[:, 0]
            out.skew[streams] = _unbalance(phasors.reshape(-1, pairs))

    def _gains(self, off_hz: _F64) -> _F32:
        """Return what undoes the Hann window's loss of power, [row, order], off the nominal hz."""
        steps = off_hz * (self.window_samples / self.sampling.rate_hz * _STEPS_PER_BIN)
        orders = np.arange(1, self._orders + 1, dtype=np.float32)
        index = np.multiply.outer(steps.astype(np.float32), orders)
        np.minimum(index, _BINS_MAX * _STEPS_PER_BIN, out=index)
        gains: _F32 = self._gain_table[index.astype(np.int32)]
        return gains

    def _hann_hz(self, v: _F32, halves: _F64) -> _F64:
        """Return the frequency of each row: by crossings, then by the phase of its halves."""
        rate_hz, half = self.sampling.rate_hz, self.window_samples // 2
        first = halves[:, 0] - 1j * halves[:, 1]
        second = halves[:, 2] - 1j * halves[:, 3]
        limit_hz = rate_hz / (2 * half)
        hz: _F64 = self._hz + np.angle(second * np.conj(first)) * (limit_hz / pi)
        # as many rising crossings as the nominal frequency has: not further off than the limit
        positive = v >= 0
        rising = positive[:, 1:] > positive[:, :-1]
        count = np.bitwise_count(np.packbits(rising, axis=1)).sum(axis=1, dtype=np.uint32)
        doubtful = np.flatnonzero(count != round(self._hz * self.window_samples / rate_hz))
        if len(doubtful):
            crossings = _crossing_hz(v[doubtful], rate_hz)
            far = np.abs(crossings - self._hz) >= limit_hz
            hz[doubtful[far]] = crossings[far]
        return hz

    def _make_basis(self) -> _F32:
        """Return the DFT matrix: cos of each order, sin of each, then the halves of the first."""
        n, half = self.window_samples, self.window_samples // 2
        turns: _F64 = np.arange(n, dtype=np.float64) * (self._hz / self.sampling.rate_hz)
        cos_sin = [_cos_sin(_hann(n), order * turns) for order in range(1, self._orders + 1)]
        columns = [cos for cos, _ in cos_sin] + [sin for _, sin in cos_sin]
        for start in (0, half):
            weights = np.zeros(n)
            weights[start : start + half] = _hann(half)
            columns += _cos_sin(weights, turns)
        return np.array(columns, np.float32).T.copy()


class _Columns:
    """The raw results of a bank in LSB, filled chunk by chunk."""

    __slots__ = ("hz", "ii", "q", "skew", "thd", "vi", "vv")

    def __init__(self, streams: int, pairs: int) -> None:
        self.vv, self.ii, self.vi, self.q, self.thd = np.zeros((5, streams, pairs))
        self.hz, self.skew = np.zeros((2, streams))


def _cos_sin(weights: _F64, turns: _F64) -> tuple[_F64, _F64]:
    return weights * np.cos(2 * pi * turns), weights * np.sin(2 * pi * turns)


def _hann(n: int) -> _F64:
    """Return the periodic Hann weights of n samples; their sum is 1."""
    weights: _F64 = (1 - np.cos(2 * pi * np.arange(n) / n)) / n
    return weights


def _hann_gains() -> _F32:
    """Return 1 / power that a Hann window leaves of a line, by 1/8192 bin off its centre."""
    bins = np.arange(round(_BINS_MAX * _STEPS_PER_BIN) + 1) / _STEPS_PER_BIN
    # the formula is 0 / 0 at one bin, where the response is a half
    bins[_STEPS_PER_BIN] += 1e-6
    return ((1 - bins * bins) / np.sinc(bins)).astype(np.float32) ** 2


def _orders(hz: float, rate_hz: int) -> int:
    """Return how many orders, at most 40, lie below half the sampling rate; at least one."""
    return max(1, min(THD_ORDER_MAX, -int(-rate_hz / (2 * hz) // 1) - 1))


def _crossing_hz(v: npt.NDArray[Any], rate_hz: int) -> _F64:
    """Return frequencies by the first and last rising zero crossing of each row, 0 without two."""
    positive = v >= 0
    rising = positive[:, 1:] > positive[:, :-1]
    count = rising.sum(axis=1)
    rows, last = np.arange(len(v)), rising.shape[1] - 1
    times = []
    for at in (rising.argmax(axis=1), last - rising[:, ::-1].argmax(axis=1)):
        below, above = v[rows, at].astype(np.float64), v[rows, at + 1].astype(np.float64)
        times.append(at - below / np.maximum(above - below, _TINY))
    span = np.maximum(times[1] - times[0], _TINY)
    return np.where(count > 1, (count - 1) * rate_hz / span, 0.0)


def _factor(power: _F64, apparent: _F64) -> _F64:
    """Return P / S, 0 where there is no apparent power."""
    return np.where(apparent > 0, power / np.maximum(apparent, _TINY), 0.0)


def _unbalance(phasors: npt.NDArray[np.complexfloating]) -> _F64:
    """Return the unbalance of voltages [stream, pair]; see `Readings`."""
    pairs = phasors.shape[1]
    if pairs == 1:
        return np.zeros(len(phasors))
    if pairs == 2:
        one, two = np.abs(phasors[:, 0]), np.abs(phasors[:, 1])
        skew: _F64 = 2 * np.abs(one - two) / np.maximum(one + two, _TINY)
        return skew
    turn = np.exp(2j * pi / 3)
    positive = np.abs(phasors @ np.array([1, turn, turn**2]))
    negative = np.abs(phasors @ np.array([1, turn**2, turn]))
    ratio: _F64 = negative / np.maximum(positive, _TINY)
    return ratio
