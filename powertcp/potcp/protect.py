"""Protection: every block is checked against the contract, in integers, before it counts (section 8).

Source and sink run the same `Protector` over the same sums, so both decide alike.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import isqrt
from typing import Final, NamedTuple

from powertcp.dve import BlockSums, Window, WindowSums, integrate_many, window_samples_for
from powertcp.machine import Buffer
from powertcp.profile import PowerProfile, Waveform
from powertcp.registry import Reason, Refusal
from powertcp.wire.options import Sampling

# windows over which an AC voltage must average to nothing, PTCP-8-08
MEAN_WINDOWS: Final = 10
# different contracts whose limits are remembered
LIMITS_MAX: Final = 256
_NANO_PER_MILLI: Final = 1_000_000


class Limits(NamedTuple):
    """The limits of equal contracts in units of their samples, one object for all of them.

    v_peak, i_peak: of one sample, LSB. i_mean_square, v_least_square: numerators of n * (1.25 I)^2
    and n * (0.9 V)^2, see the checks. i_most, v_least: sums of a whole window, LSB^2, up to and
    from which it is calm. window_samples: in a window. has_mean: AC must average to nothing.
    v_even: sum of v of a window, LSB: ten of which none is above it average to nothing. i_sure: of
    one sample, LSB: where none is above it, no window is.
    """

    v_peak: int
    i_peak: int
    i_mean_square: int
    v_least_square: int
    i_most: int
    v_least: int
    window_samples: int
    has_mean: bool
    v_even: int
    i_sure: int

    def is_calm(self, sums: BlockSums) -> bool:
        """Return whether a block is whole windows, none near a limit: what the loop finds, at once.

        Windows are equally long, so the extreme ones speak for all but the mean of AC.
        """
        return (
            sums.is_whole
            and sums.window_samples == self.window_samples
            and sums.most_i2 <= self.i_most
            and sums.least_v2 >= self.v_least
        )


@lru_cache(maxsize=LIMITS_MAX)
def _limits(
    voltage_mv: int,
    current_ma: int,
    minimum_mv: int,
    waveform: Waveform,
    sampling: Sampling,
    window: int,
) -> Limits:
    scale_i, scale_v = sampling.na_per_lsb, sampling.nv_per_lsb
    i_mean_square = 25 * (current_ma * _NANO_PER_MILLI) ** 2
    v_least_square = 81 * (minimum_mv * _NANO_PER_MILLI) ** 2
    return Limits(
        # PTCP-8-04
        v_peak=(11_000 if waveform is Waveform.DC else 15_557) * voltage_mv * 100 // scale_v,
        # PTCP-8-05
        i_peak=43 * current_ma * 100_000 // scale_i,
        i_mean_square=i_mean_square,
        v_least_square=v_least_square,
        i_most=window * i_mean_square // (16 * scale_i * scale_i),
        v_least=-(-window * v_least_square // (100 * scale_v * scale_v)),
        window_samples=window,
        has_mean=waveform is Waveform.SINE,
        v_even=window * voltage_mv * _NANO_PER_MILLI // (10 * scale_v),
        i_sure=5 * current_ma * _NANO_PER_MILLI // (4 * scale_i),
    )


def sums_of(protectors: Sequence["Protector | None"], blocks: Sequence[Buffer]) -> list[BlockSums]:
    """Return the sums of blocks of several flows, each cut by the window of its protector."""
    if len(set(protectors)) == 1 and protectors[0] is not None:
        return integrate_many(blocks, protectors[0].window_samples)
    windows: dict[int, list[int]] = {}
    for index, protector in enumerate(protectors):
        windows.setdefault(protector.window_samples if protector else 0, []).append(index)
    sums: dict[int, BlockSums] = {}
    for window, members in windows.items():
        found = integrate_many([blocks[index] for index in members], window)
        sums.update(zip(members, found, strict=True))
    return [sums[index] for index in range(len(blocks))]


def protector_of(
    before: "Protector | None", profile: PowerProfile, sampling: Sampling, minimum_mv: int = 0
) -> "Protector":
    """Return the protector of terms that come into force: `before` if it watches the same power.

    Its windows go on then: another lease or price is no way out of one that has begun.
    """
    if before is not None and before.watches(profile):
        return before
    return Protector(profile, sampling, minimum_mv)


class Protector:
    """The limits of one contract and what earlier blocks left open.

    profile: the contract in force. minimum_mv: the least voltage (mV) allowed under it, 0: V.
    """

    __slots__ = (
        "_alerted",
        "_even",
        "_has_parts",
        "_limits",
        "_means",
        "_profile",
        "_sampling",
        "_windows",
        "alert",
        "minimum_mv",
        "window_samples",
    )

    def __init__(self, profile: PowerProfile, sampling: Sampling, minimum_mv: int = 0) -> None:
        self._profile = profile
        self._sampling = sampling
        self.minimum_mv = minimum_mv or profile.voltage_mv
        self.window_samples = window_samples_for(profile, sampling)
        self._limits = _limits(
            profile.voltage_mv,
            profile.current_ma,
            self.minimum_mv,
            profile.waveform,
            sampling,
            self.window_samples,
        )
        # made with the first block that is not calm
        self._windows: WindowSums | None = None
        # whether `_windows` may hold a part of a window
        self._has_parts = False
        self._means: deque[list[int]] | None = None
        # windows since one was above `Limits.v_even`
        self._even = 0
        self._alerted = False
        # the under-voltage of which nobody was told yet
        self.alert: Refusal | None = None

    def watches(self, profile: PowerProfile) -> bool:
        """Return whether limits and windows of `profile` are these, in the same sampling."""
        ours = self._profile
        return (ours.voltage_mv, ours.current_ma, ours.waveform, ours.frequency_chz) == (
            profile.voltage_mv,
            profile.current_ma,
            profile.waveform,
            profile.frequency_chz,
        )

    def check(self, sums: BlockSums) -> Refusal | None:
        """Return why the block must not be sent or banked, None when it may.

        `sums` come from `integrate_many` with `window_samples`; blocks in stream order.
        """
        if (refusal := self.check_peaks(sums)) is not None:
            return refusal
        limits = self._limits
        if limits.is_calm(sums):
            if self._has_parts and self._windows is not None:
                self._windows.skip()
                self._has_parts = False
            self._alerted = False
            return self._check_means(sums.sum_v) if limits.has_mean else None
        self._has_parts = True
        if self._windows is None:
            self._windows = WindowSums(self.window_samples)
        for window in self._windows.add(sums):
            refusal = self._check_window(window)
            if refusal is not None:
                return refusal
        return None

    def passes(self, v_peak: int, i_peak: int) -> bool:
        """Return whether a run of blocks of energy above 0 needs no closer look, and note it.

        For who stands in the middle: an under-voltage is not looked for, its sink will see it; a
        window that began before the run is not completed. Never true of AC, whose mean counts.
        """
        limits = self._limits
        if limits.has_mean or v_peak > limits.v_peak or i_peak > limits.i_sure:
            return False
        if self._has_parts and self._windows is not None:
            self._windows.skip()
            self._has_parts = False
        return True

    def check_peaks(self, sums: BlockSums) -> Refusal | None:
        """Return why a block must not pass whatever was before it: its direction, its peaks."""
        if sums.a < 0:
            # PTCP-3.1-02
            return Refusal(Reason.REVERSE_POWER, self._energy_uj(sums.a))
        limits = self._limits
        if sums.v_peak > limits.v_peak:
            return self._peak(Reason.OVER_VOLTAGE, sums.v_peak, limits.v_peak, volts=True)
        if sums.i_peak > limits.i_peak:
            return self._peak(Reason.SHORT_CIRCUIT, sums.i_peak, limits.i_peak, volts=False)
        return None

    def take_alert(self) -> Refusal | None:
        """Return the under-voltage found since the last call, once per dip. PTCP-8-07."""
        alert, self.alert = self.alert, None
        return alert

    def _check_window(self, window: Window) -> Refusal | None:
        scale_i = self._sampling.na_per_lsb
        worst = max(window.sum_i2)
        # PTCP-8-06
        if 16 * worst * scale_i * scale_i > window.n * self._limits.i_mean_square:
            rms = _rms_milli(worst, window.n, scale_i)
            return Refusal(Reason.OVER_CURRENT, rms, self._profile.current_ma * 5 // 4)
        self._check_dip(window)
        if self._profile.waveform is Waveform.SINE:
            return self._check_means((window.sum_v,))
        return None

    def _check_dip(self, window: Window) -> None:
        # PTCP-8-07
        scale = self._sampling.nv_per_lsb
        least = min(window.sum_v2)
        low = 100 * least * scale * scale < window.n * self._limits.v_least_square
        if low and not self._alerted:
            rms = _rms_milli(least, window.n, scale)
            self.alert = Refusal(Reason.UNDER_VOLTAGE, rms, self.minimum_mv * 9 // 10)
        self._alerted = low

    def _check_means(self, windows: Iterable[list[int]]) -> Refusal | None:
        """Take the sums of v of the next windows, and judge ten at a time."""
        # PTCP-8-08
        means = self._means
        if means is None:
            means = self._means = deque(maxlen=MEAN_WINDOWS)
        most = self._limits.v_even
        for sum_v in windows:
            means.append(sum_v)
            self._even += 1
            for column in sum_v:
                if not -most <= column <= most:
                    self._even = 0
            if self._even < MEAN_WINDOWS and len(means) == MEAN_WINDOWS:
                refusal = self._check_mean(means)
                if refusal is not None:
                    return refusal
        return None

    def _check_mean(self, means: "deque[list[int]]") -> Refusal | None:
        scale = self._sampling.nv_per_lsb
        samples = MEAN_WINDOWS * self.window_samples
        mean = max(abs(sum(column)) for column in zip(*means, strict=True))
        if 10 * mean * scale <= samples * self._profile.voltage_mv * _NANO_PER_MILLI:
            return None
        value = mean * scale // (samples * _NANO_PER_MILLI)
        return Refusal(Reason.WAVEFORM, value, self._profile.voltage_mv // 10)

    def _peak(self, reason: Reason, measured: int, limit: int, *, volts: bool) -> Refusal:
        scale = self._sampling.nv_per_lsb if volts else self._sampling.na_per_lsb
        return Refusal(
            reason, -(-measured * scale // _NANO_PER_MILLI), limit * scale // _NANO_PER_MILLI
        )

    def _energy_uj(self, a: int) -> int:
        sampling = self._sampling
        return a * sampling.nv_per_lsb * sampling.na_per_lsb // (sampling.rate_hz * 10**12)


def _rms_milli(sum_squares: int, n: int, scale: int) -> int:
    """Return the root mean square in mV or mA, rounded up; for people, decides nothing."""
    from_mean = sum_squares * scale * scale // n
    root = isqrt(from_mean)
    return -(-root // _NANO_PER_MILLI)
