"""The kernel's power-capping interface (powercap, intel-rapl): read energy, read and set limits.

Zones are the directories /sys/class/powercap/intel-rapl:N; constraint 0 is the long-term limit.
"""

import errno
import os

from powertcp.errors import HostError
from powertcp.linux.sysfs import path_under, read_int, read_text, write_text

POWERCAP = "/sys/class/powercap"
# more packages than any board has
MAX_ZONES = 64
PLATFORM = "psys"
_WANTED = "find the kernel's powercap zones (intel-rapl)"


class Zone:
    """One power zone: a processor package."""

    def __init__(self, path: str) -> None:
        """Speak of the zone at `path`."""
        self.path = path
        self.limit_path = f"{path}/constraint_0_power_limit_uw"

    @property
    def name(self) -> str:
        """The kernel's name of the zone, e.g. package-0."""
        return read_text(f"{self.path}/name", "read the name of a power zone")

    def limit_uw(self) -> int:
        """Return the limit in force, in microwatts."""
        return read_int(self.limit_path, "read the power limit")

    def set_limit_uw(self, limit_uw: int) -> None:
        """Set the limit; the kernel keeps its own bounds. HostError when it may not be written."""
        write_text(self.limit_path, str(limit_uw), "set the power limit")

    def min_uw(self) -> int:
        """Return the smallest limit the zone takes; 1 W where the kernel does not say."""
        try:
            return read_int(f"{self.path}/constraint_0_min_power_uw", "read the least limit")
        except HostError:
            return 1_000_000

    def max_uw(self) -> int:
        """Return the largest limit the zone takes; the limit in force where the kernel is mute."""
        try:
            return read_int(f"{self.path}/constraint_0_max_power_uw", "read the largest limit")
        except HostError:
            return self.limit_uw()

    def energy_uj(self) -> int:
        """Return the energy counter in microjoules; it wraps at `energy_range_uj`."""
        return read_int(f"{self.path}/energy_uj", "read the energy counter")

    def energy_range_uj(self) -> int:
        """Return the value at which the energy counter starts again."""
        return read_int(f"{self.path}/max_energy_range_uj", "read the energy range")


def find_zones(root: str = "/") -> list[Zone]:
    """Return the package zones of this machine whose power can be limited, in order.

    Raises HostError: ENOENT when the kernel offers none, EACCES when they may not be read.
    """
    zones = [zone for zone in _packages(root) if os.path.exists(zone.limit_path)]
    if not zones:
        raise HostError(errno.ENOENT, path_under(root, POWERCAP), _WANTED)
    return zones[:MAX_ZONES]


def find_counters(root: str = "/") -> list[Zone]:
    """Return the zones whose energy counters together are what this machine draws.

    That is the whole platform (psys) where the kernel counts it, else every package.
    Raises HostError: ENOENT when the kernel counts none, EACCES when only others may read it.
    """
    zones = _packages(root)[:MAX_ZONES]
    if not zones:
        raise HostError(errno.ENOENT, path_under(root, POWERCAP), _WANTED)
    for zone in zones:
        zone.energy_uj()
        zone.energy_range_uj()
    return [zone for zone in zones if zone.name == PLATFORM] or zones


def counted_uj(before_uj: int, after_uj: int, range_uj: int) -> int:
    """Return what a counter of `range_uj` has counted between two readings, wrapped once at most."""
    counted = after_uj - before_uj
    return counted if counted >= 0 else counted + range_uj


def _packages(root: str) -> list[Zone]:
    base = path_under(root, POWERCAP)
    try:
        names = sorted(os.listdir(base))[: MAX_ZONES * 8]
    except OSError as error:
        raise HostError(error.errno or 0, base, _WANTED) from error
    return [Zone(f"{base}/{name}") for name in names if is_package(name)]


def is_package(name: str) -> bool:
    """Whether a powercap directory is a whole package and not a part of one."""
    kind, _, number = name.partition(":")
    return kind == "intel-rapl" and number.isdecimal()
