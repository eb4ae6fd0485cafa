"""What a consumer shows of its power: mean power, and V, I, Q, PF, THD, Hz of the last samples."""

from powertcp.potcp.events import SamplesReceived
from powertcp.wire.options import Sampling

WINDOW_S = 0.2  # of samples, measured when somebody looks
LEAST_SAMPLES = 8
_OCTETS_PER_PAIR = 8


class Display:
    """The last samples of a flow and the mean power since the last look."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self.sim = False
        self._samples = bytearray()
        self._sampling: Sampling | None = None
        self._energy_uj = 0  # and the number of samples since the last look
        self._count = 0

    def add(self, event: SamplesReceived, sampling: Sampling | None) -> int:
        """Take what arrived; returns its mean power in mW, by its own sample count."""
        self.sim = event.sim
        self._sampling = sampling
        self._energy_uj += event.energy_uj
        self._count += event.count
        if sampling is None or not event.count:
            return 0
        if event.samples:
            self._samples += event.samples
            keep = int(sampling.rate_hz * WINDOW_S) * sampling.pairs * _OCTETS_PER_PAIR
            del self._samples[
                : max(0, len(self._samples) - max(keep, _OCTETS_PER_PAIR * LEAST_SAMPLES))
            ]
        return mean_mw(event.energy_uj, event.count, sampling)

    def look(self, frequency_chz: int) -> dict[str, object]:
        """Return the readings since the last look: integers with the unit in the key.

        Power is that of the samples; without any since then it is 0 W, and nothing else is said.
        """
        is_dark = not self._count
        power_mw = mean_mw(self._energy_uj, self._count, self._sampling)
        facts: dict[str, object] = {"power_mw": power_mw, "simulated": self.sim}
        self._energy_uj = self._count = 0
        if is_dark or self._sampling is None or not self._samples:
            return facts
        return facts | measured(bytes(self._samples), self._sampling, frequency_chz)


def mean_mw(energy_uj: int, count: int, sampling: Sampling | None) -> int:
    """Return the mean power of `count` samples, rounded to the mW; 0 without samples."""
    if sampling is None or not count:
        return 0
    return (energy_uj * sampling.rate_hz + count * 500) // (count * 1000)


def measured(samples: bytes, sampling: Sampling, frequency_chz: int) -> dict[str, object]:
    """Return V, I, Q, S, PF, THD and frequency of interleaved samples; of the first pair."""
    import numpy

    from powertcp.dve.meter import measure

    columns = 2 * sampling.pairs
    words = numpy.frombuffer(samples, ">i4")
    table = words[: len(words) // columns * columns].reshape(-1, columns)
    if len(table) < LEAST_SAMPLES:
        return {}
    found = measure(table, sampling, frequency_chz)
    return {
        "voltage_mv": round(found.voltage_v[0] * 1000),
        "current_ma": round(found.current_a[0] * 1000),
        "reactive_mvar": round(found.total_reactive_var * 1000),
        "apparent_mva": round(found.total_apparent_va * 1000),
        "power_factor_ppm": round(found.power_factor[0] * 1_000_000),
        "thd_ppm": round(found.thd[0] * 1_000_000),
        "frequency_mhz": round(found.frequency_hz * 1000),
    }
