"""Synthesised voltage and current: DC and AC, harmonics, noise, sags, swells, steps and spikes.

A waveform is a pure function of its arguments and the sample index: any cutting, any order and
any process gives the same integers. All of it carries SIM on the wire, for nobody measured it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, gcd, pi, radians, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from powertcp.dve.block import encode_rows
from powertcp.errors import LocalProtocolError
from powertcp.profile import FREQUENCY_ANY, Phases, PowerProfile
from powertcp.wire.options import Sampling

# a longer period is computed for each span instead of being kept as a table
TABLE_MAX: Final = 8_192
PPM: Final = 1_000_000
# active power relative to V * I: below this nothing but reactive power would flow
ACTIVE_MIN: Final = 0.01

_CHZ_PER_HZ = 100
_NOMINAL_CHZ = 5_000
_I32_MAX = (1 << 31) - 1
_PHASE_DEGREES: Final = {
    Phases.ONE: (0.0,),
    Phases.SPLIT: (0.0, 180.0),
    Phases.DELTA: (0.0, -120.0, 120.0),
    Phases.WYE: (0.0, -120.0, 120.0),
}
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Harmonic:
    """One harmonic of an AC voltage: order >= 2, ppm of the fundamental, phase of its own."""

    order: int
    ppm: int
    degrees: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VoltageEvent:
    """A disturbance of the voltage from sample `start` on, for `count` samples (None: for ever).

    gain_ppm multiplies the voltage and, as in any resistive load, the current;
    offset_mv is added to the voltage alone. Events that overlap act one after the other.
    """

    start: int
    count: int | None = None
    gain_ppm: int = PPM
    offset_mv: int = 0


def sag(start: int, count: int, residual_ppm: int) -> VoltageEvent:
    """Return a dip to `residual_ppm` of the voltage, below 1,000,000."""
    if not 0 <= residual_ppm < PPM:
        raise LocalProtocolError(f"a sag to {residual_ppm:,} ppm is none, 0 to 999,999 is")
    return VoltageEvent(start=start, count=count, gain_ppm=residual_ppm)


def swell(start: int, count: int, peak_ppm: int) -> VoltageEvent:
    """Return a rise to `peak_ppm` of the voltage, above 1,000,000."""
    if peak_ppm <= PPM:
        raise LocalProtocolError(f"a swell to {peak_ppm:,} ppm is none, above 1,000,000 is")
    return VoltageEvent(start=start, count=count, gain_ppm=peak_ppm)


def step(start: int, gain_ppm: int) -> VoltageEvent:
    """Return a lasting change of the voltage to `gain_ppm` from sample `start` on."""
    return VoltageEvent(start=start, gain_ppm=gain_ppm)


def spike(start: int, offset_mv: int, count: int = 1) -> VoltageEvent:
    """Return a spike: `offset_mv` on top of the voltage, for one sample unless told otherwise."""
    return VoltageEvent(start=start, count=count, offset_mv=offset_mv)


class Synth:
    """Voltage and current of one supply, for any span of sample indices.

    profile: voltage (rms if AC), frequency, phases, and the largest power.
    harmonics: of the voltage and, as in a resistive load, of the current; the rms of the whole
        remains the profile's voltage. AC only.
    noise_ppm: rms of noise on the voltage, in ppm of the profile's voltage.
    events: disturbances by sample index.
    seed: of the noise; equal seeds give equal samples.
    lag_degrees: how far the current's fundamental lags the voltage (inductive: positive), within
        about +-89; the current grows so that the active power remains the demand. AC only.

    Pair 1 leads: 2 and 3 follow by 120 and 240 degrees, split phase by 180 (DC: minus).
    Delta is described
    against its virtual star point, as the profile is. Indices are not taken modulo 2^32.
    """

    def __init__(
        self,
        profile: PowerProfile,
        sampling: Sampling,
        harmonics: Sequence[Harmonic] = (),
        noise_ppm: int = 0,
        events: Sequence[VoltageEvent] = (),
        seed: int = 0,
        lag_degrees: float = 0.0,
    ) -> None:
        """Raise LocalProtocolError for what no such supply can have."""
        if sampling.pairs != profile.pairs:
            raise LocalProtocolError(
                f"sampling of {sampling.pairs} pairs for a profile of {profile.pairs}"
            )
        chz = profile.frequency_chz
        self._chz = _NOMINAL_CHZ if chz == FREQUENCY_ANY else chz
        if not self._chz and (harmonics or lag_degrees):
            raise LocalProtocolError("direct voltage has neither harmonics nor a phase")
        if any(harmonic.order < 2 for harmonic in harmonics):
            raise LocalProtocolError("the first harmonic is the fundamental, orders begin at 2")
        self.profile = profile
        self.sampling = sampling
        self.events = tuple(events)
        self._harmonics = tuple(harmonics)
        self._noise = noise_ppm / PPM
        self._seed = seed
        self._lag = lag_degrees
        self._active = _active_share(harmonics, lag_degrees)
        if self._active < ACTIVE_MIN:
            raise LocalProtocolError(
                f"a lag of {lag_degrees} degrees leaves {self._active:.3f} of the current to carry"
                f" power, at least {ACTIVE_MIN} is needed"
            )
        self._turn = _CHZ_PER_HZ * sampling.rate_hz
        period = self._turn // gcd(self._chz, self._turn)
        self._period = period if period <= TABLE_MAX else 0
        self._v_table = self._periodic(0, period, 0.0) if self._period else None
        self._i_table = self._periodic(0, period, lag_degrees) if self._period else None
        self._v_lsb = profile.voltage_mv * 1_000_000 / sampling.nv_per_lsb
        self._mv_lsb = 1_000_000 / sampling.nv_per_lsb

    def voltage(self, counter: int, n: int) -> npt.NDArray[np.int32]:
        """Return the voltage of samples counter .. counter + n - 1 in LSB, shape (n, pairs)."""
        relative = self._span(counter, n, 0.0)
        if self._noise:
            relative = relative + self._noise * self._noise_of(counter, n)
        gain, offset_mv = self._disturbance(counter, n)
        lsb = relative * gain * self._v_lsb + offset_mv * self._mv_lsb
        return _round(lsb)

    def currents(self, counter: int, n: int, demands_mw: Sequence[int]) -> npt.NDArray[np.int32]:
        """Return the currents that draw each demand, in LSB, shape (demands, n, pairs).

        A demand above the profile's power is met with the profile's power. The mean power over
        whole cycles is the demand, as far as whole LSB allow; DC currents are rounded down.
        """
        gain, _ = self._disturbance(counter, n)
        rms = np.array([self._current_lsb(demand) for demand in demands_mw], np.float64)
        shape = self._span(counter, n, self._lag) * gain
        lsb = rms[:, np.newaxis, np.newaxis] * shape
        return _round(lsb)

    def block(self, counter: int, n: int, demand_mw: int) -> npt.NDArray[np.int32]:
        """Return samples of shape (n, 2 * pairs), columns v1, i1, ..., for `encode_block`."""
        samples: npt.NDArray[np.int32] = self.blocks(counter, n, [demand_mw])[0]
        return samples

    def blocks(self, counter: int, n: int, demands_mw: Sequence[int]) -> npt.NDArray[np.int32]:
        """Return the samples of a cohort, shape (demands, n, 2 * pairs): one voltage for all."""
        pairs = self.sampling.pairs
        samples = np.empty((len(demands_mw), n, 2 * pairs), np.int32)
        samples[:, :, 0::2] = self.voltage(counter, n)
        samples[:, :, 1::2] = self.currents(counter, n, demands_mw)
        return samples

    def cohort(
        self, at: int, n: int, counters: Sequence[int], demands_mw: Sequence[int]
    ) -> list[memoryview]:
        """Return one payload per flow: samples at .. at + n - 1 of the bus, SIM set.

        counters: each flow's own sample counter; `at` is the index on the bus they share.
        """
        return encode_rows(counters, self.blocks(at, n, demands_mw))

    def _current_lsb(self, demand_mw: int) -> float:
        """Return the rms current of one pair in LSB that draws `demand_mw`."""
        profile = self.profile
        demand = min(max(demand_mw, 0), profile.power_mw)
        if not demand:
            return 0.0
        # an mW is an mV * mA / 1000, and 10^6 nA are an mA
        na = demand * 10**9
        volts = profile.pairs * profile.voltage_mv
        if not self._chz:
            return float(na // (volts * self.sampling.na_per_lsb))
        return float(na / (volts * self.sampling.na_per_lsb * self._active))

    def _span(self, counter: int, n: int, lag_degrees: float) -> _Floats:
        """Return the undisturbed shape relative to its rms, shape (n, pairs)."""
        table = self._i_table if lag_degrees else self._v_table
        if table is None:
            return self._periodic(counter, n, lag_degrees)
        start = counter % self._period
        if start + n <= self._period:
            return table[start : start + n]
        return table[(start + np.arange(n)) % self._period]

    def _periodic(self, counter: int, n: int, lag_degrees: float) -> _Floats:
        """Compute the shape relative to its rms from exact phases, shape (n, pairs)."""
        if not self._chz:
            poles = [1.0, -1.0] if self.profile.phases is Phases.SPLIT else 1.0
            return np.full((n, self.sampling.pairs), poles)
        index = np.arange(n, dtype=np.int64) + counter % self._turn
        turns = (index * self._chz % self._turn) / self._turn
        offsets = np.array(_PHASE_DEGREES[self.profile.phases]) - lag_degrees
        angle = 2 * pi * turns[:, np.newaxis] + np.radians(offsets)
        shape = np.sin(angle)
        square = 1.0
        for harmonic in self._harmonics:
            ratio = harmonic.ppm / PPM
            shape += ratio * np.sin(harmonic.order * angle + radians(harmonic.degrees))
            square += ratio * ratio
        relative: _Floats = shape * sqrt(2 / square)
        return relative

    def _noise_of(self, counter: int, n: int) -> _Floats:
        """Return noise of rms 1, nearly Gaussian, a function of seed, index and pair alone."""
        pairs = self.sampling.pairs
        first = (counter * pairs + (self._seed << 40)) % (1 << 64)
        state = np.arange(n * pairs, dtype=np.uint64) + np.uint64(first)
        state = (state + np.uint64(1)) * _GOLDEN
        state = (state ^ (state >> np.uint64(30))) * _MIX_1
        state = (state ^ (state >> np.uint64(27))) * _MIX_2
        state ^= state >> np.uint64(31)
        # four uniform values of 16 bits: mean 4 * 32767.5, variance 4 * 65536^2 / 12
        total = state.view(np.uint16).reshape(-1, 4).sum(axis=1, dtype=np.int64)
        noise: _Floats = (total - 131_070) * (sqrt(3) / 65_536)
        return noise.reshape(n, pairs)

    def _disturbance(self, counter: int, n: int) -> tuple[_Floats | float, _Floats | float]:
        """Return gain and offset in mV over a span, shape (n, 1); plain numbers without events."""
        if not self.events:
            return 1.0, 0.0
        gain = np.ones((n, 1))
        offset_mv = np.zeros((n, 1))
        for event in self.events:
            start = max(event.start - counter, 0)
            end = n if event.count is None else min(event.start + event.count - counter, n)
            if start < end:
                gain[start:end] *= event.gain_ppm / PPM
                offset_mv[start:end] += event.offset_mv
        return gain, offset_mv


def _active_share(harmonics: Sequence[Harmonic], lag_degrees: float) -> float:
    """Return P / (V * I) of a current that is the voltage delayed by `lag_degrees`."""
    lag = radians(lag_degrees)
    squares = [(1, 1.0)] + [(each.order, (each.ppm / PPM) ** 2) for each in harmonics]
    total = sum(square for _, square in squares)
    return sum(square * cos(order * lag) for order, square in squares) / total


def _round(lsb: _Floats) -> npt.NDArray[np.int32]:
    """Round to whole LSB; what 32 bits cannot hold is held at the end of the scale."""
    return np.clip(np.rint(lsb), -_I32_MAX, _I32_MAX).astype(np.int32)
