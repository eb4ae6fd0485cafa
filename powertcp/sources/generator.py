"""Samples for a cohort: blocks of one supply at one sampling, with their exact sums.

The waveform of a clean source is a pure function of the sample index, so blocks that begin at the same phase and
carry the same demand differ in their counter only: such a block is made and summed once, and
its octets serve every flow that wants it.
"""

from collections.abc import Iterator
from math import gcd
from typing import NamedTuple

from powertcp.dve import (
    BLOCK_HEADER,
    BLOCK_HEADER_OCTETS,
    SIM,
    BlockSums,
    Synth,
    block_samples_for,
    encode_block,
    window_samples_for,
)
from powertcp.dve.measure import integrate_many
from powertcp.dve.waveform import PPM, VoltageEvent
from powertcp.profile import FREQUENCY_ANY, PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.sources.source import Source
from powertcp.units import NS_PER_S, Duration
from powertcp.wire.options import Sampling

MAX_TEMPLATE_OCTETS = 8 << 20  # of all kept templates of a generator
MIN_DC_SAMPLES = 10  # a block of slow DC sampling holds that many, or one second of them
CLEAN = Source()
# limits of section 8, ppm of the contract
OVER_VOLTAGE_DC_PPM = 1_100_000
OVER_VOLTAGE_AC_PPM = 1_555_700
SHORT_CIRCUIT_PPM = 4_300_000
_MAX_SAMPLE = (1 << 31) - 1
_WRAP = 1 << 32


class Tick(NamedTuple):
    """One block: its payload, its sums, the samples in it; is_low: the voltage sags in it."""

    payload: bytes
    sums: BlockSums
    n: int
    is_low: bool = False


class Generator:
    """Blocks of one supply at one sampling."""

    __slots__ = (
        "_body_octets",
        "_cycle",
        "_events",
        "_repeats",
        "_sampling",
        "_synth",
        "_templates",
        "n",
        "period_ns",
        "window_samples",
    )

    def __init__(
        self,
        supply: PowerProfile,
        sampling: Sampling,
        source: Source = CLEAN,
        msp: int = 16_384,
    ) -> None:
        """Prepare blocks of at most `msp` octets. Raises LocalProtocolError."""
        self._events = tuple(fault.event(sampling.rate_hz) for fault in source.disturbances)
        self._repeats = not source.noise_ppm
        self._synth = Synth(
            supply,
            sampling,
            source.harmonics if supply.frequency_chz else (),
            noise_ppm=source.noise_ppm,
            events=self._events,
        )
        self._sampling = sampling
        n = block_samples_for(supply, sampling, msp)
        if supply.frequency_chz == 0:
            room = (msp - BLOCK_HEADER_OCTETS) // (8 * sampling.pairs)
            n = min(max(n, min(MIN_DC_SAMPLES, sampling.rate_hz)), room)
        self.n = n
        self.period_ns: Duration = n * NS_PER_S // sampling.rate_hz
        self.window_samples = window_samples_for(supply, sampling)
        self._cycle = _period(supply, sampling)
        self._templates: dict[tuple[int, int, int], tuple[bytes, BlockSums]] = {}
        self._body_octets = 8 * n * sampling.pairs

    def block(self, counter: int, demand_mw: int) -> Tick:
        """Return the block that begins at sample `counter` and draws `demand_mw`.

        counter: index since the flow began, not reduced modulo 2^32.
        """
        wire_counter = counter % _WRAP
        if wire_counter + self.n > _WRAP or not self._regular(counter):
            return self._fresh(counter, demand_mw)
        # the cutting into windows goes by the counter on the wire
        key = (demand_mw, counter % self._cycle, wire_counter % self.window_samples)
        found = self._templates.get(key)
        if found is None:
            fresh = self._fresh(counter, demand_mw)
            if len(self._templates) * self._body_octets >= MAX_TEMPLATE_OCTETS:
                self._templates.clear()
            self._templates[key] = (fresh.payload[BLOCK_HEADER_OCTETS:], fresh.sums)
            return fresh
        body, sums = found
        header = BLOCK_HEADER.pack(wire_counter, SIM, sums.pairs, self.n)
        return Tick(header + body, sums._replace(counter=wire_counter), self.n)

    def _within(self, counter: int) -> Iterator[VoltageEvent]:
        """Yield the disturbances of the block at `counter`."""
        end = counter + self.n
        for event in self._events:
            if event.start < end and counter < event.start + (event.count or 0):
                yield event

    def _regular(self, counter: int) -> bool:
        """Say whether the block at `counter` is one that repeats: no noise, no disturbance."""
        return self._repeats and not any(self._within(counter))

    def _fresh(self, counter: int, demand_mw: int) -> Tick:
        """Make and sum one block: what every template comes from."""
        samples = self._synth.block(counter, self.n, demand_mw)
        payload = encode_block(counter, samples)
        [sums] = integrate_many([payload], self.window_samples)
        low = any(event.gain_ppm < PPM for event in self._within(counter))
        return Tick(payload, sums, self.n, low)


def too_fine(profile: PowerProfile, sampling: Sampling) -> Refusal | None:
    """Return why 32 bits do not hold samples of `profile` at this scale, None if they do.

    What must fit is all that section 8 allows: up to the limits of over-voltage and short circuit.
    """
    ppm = OVER_VOLTAGE_AC_PPM if profile.frequency_chz else OVER_VOLTAGE_DC_PPM
    peak_nv = profile.voltage_mv * ppm
    peak_na = profile.current_ma * SHORT_CIRCUIT_PPM
    # PTCP-3.2-01
    for peak, scale, unit in (
        (peak_nv, sampling.nv_per_lsb, "nV"),
        (peak_na, sampling.na_per_lsb, "nA"),
    ):
        least = -(-peak // _MAX_SAMPLE)
        if scale < least:
            text = f"a step of {scale:,} {unit} is too fine, {least:,} {unit} are needed"
            return Refusal(Reason.SAMPLING, sampling.rate_hz, sampling.rate_hz, text=text)
    return None


def _period(supply: PowerProfile, sampling: Sampling) -> int:
    """Return after how many samples the waveform repeats."""
    chz = supply.frequency_chz
    if chz in (0, FREQUENCY_ANY):
        return 1 if chz == 0 else sampling.rate_hz
    turn = 100 * sampling.rate_hz
    return turn // gcd(chz, turn)
