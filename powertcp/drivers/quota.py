"""How much of a contract is wanted: a time counted in samples, an energy in microjoules."""

from powertcp.dve import block_samples_for
from powertcp.potcp.events import SamplesReceived
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_S, Duration
from powertcp.wire.options import Sampling

BLOCKED_PERCENT = 110  # of contract power: a source that is blocked needed more than it sent before


class Quota:
    """What is left of `--for` and `--energy`; it ends with the block that completes it.

    The clock is that of the samples: neither waiting nor a slow network is power.
    """

    def __init__(self, for_ns: Duration | None = None, energy_uj: int | None = None) -> None:
        """Want `for_ns` of samples and `energy_uj`, whichever comes first; None: no end."""
        self._for_ns = for_ns
        self._limit_uj = energy_uj
        self._energy_uj = 0
        self._earlier_ns: Duration = 0  # of flows before, with another sampling
        self._count = 0
        self._rate_hz = 0
        self._last = (0, 0)  # samples and energy of the last wake-up

    @property
    def for_ns(self) -> Duration | None:
        """Time of samples that is wanted in all, None: no end."""
        return self._for_ns

    @property
    def powered_ns(self) -> Duration:
        """Time of the samples that were banked."""
        own = self._count * NS_PER_S // self._rate_hz if self._rate_hz else 0
        return self._earlier_ns + own

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is wanted."""
        timed = self._for_ns is not None and self.powered_ns >= self._for_ns
        return timed or (self._limit_uj is not None and self._energy_uj >= self._limit_uj)

    def take(self, event: SamplesReceived, sampling: Sampling) -> None:
        """Count what was banked."""
        if sampling.rate_hz != self._rate_hz:
            self._earlier_ns, self._count, self._rate_hz = self.powered_ns, 0, sampling.rate_hz
        self._count += event.count
        self._energy_uj += event.energy_uj
        if event.energy_uj:
            self._last = (event.count, event.energy_uj)

    def headroom_uj(
        self, profile: PowerProfile, sampling: Sampling, *, blocked: bool = False
    ) -> int | None:
        """Return the energy of the blocks that are still wanted and half a block; None: no end.

        blocked: the source has a block that does not fit what was granted last.
        """
        if self._for_ns is None and self._limit_uj is None:
            return None
        block = block_samples_for(profile, sampling)
        most_uj = profile.power_mw * 1000 * block // sampling.rate_hz
        count, energy_uj = self._last
        block_uj = energy_uj * block // count if count else most_uj
        if blocked:
            block_uj = max(block_uj, most_uj * BLOCKED_PERCENT // 100)
        block_uj = max(1, block_uj)
        blocks: list[int] = []
        if self._for_ns is not None:
            left = (self._for_ns - self.powered_ns) * sampling.rate_hz
            blocks.append(-(-left // (NS_PER_S * block)))
        if self._limit_uj is not None:
            blocks.append(-(-(self._limit_uj - self._energy_uj) // block_uj))
        return max(0, min(blocks)) * block_uj + block_uj // 2
