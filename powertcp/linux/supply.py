"""Batteries of this machine (power_supply class): what flows out of them while they discharge."""

import errno
import os
from typing import Final, NamedTuple

from powertcp.errors import HostError
from powertcp.linux.sysfs import path_under, read_int, read_text
from powertcp.units import NS_PER_S, Duration

POWER_SUPPLY: Final = "/sys/class/power_supply"
MAX_SUPPLIES: Final = 64  # more than any board has
UJ_PER_UWH: Final = 3600


class BatteryReading(NamedTuple):
    """What a battery says at one moment; None where it does not say.

    left_uj: energy that is left, by its own count. charge_uah: charge that is left. voltage_uv: at its
    terminals. power_uw: what flows.
    """

    is_discharging: bool
    left_uj: int | None = None
    charge_uah: int | None = None
    voltage_uv: int | None = None
    power_uw: int | None = None


class Battery:
    """One battery that the machine runs on."""

    def __init__(self, path: str) -> None:
        """Speak of the battery at `path`."""
        self.path = path
        self.name = os.path.basename(path)

    def read(self) -> BatteryReading:
        """Return what it says now. Raises HostError when it is gone."""
        status = read_text(f"{self.path}/status", "read the state of a battery")
        left_uwh, voltage_uv = self._number("energy_now"), self._number("voltage_now")
        power_uw, current_ua = self._number("power_now"), self._number("current_now")
        if power_uw is None and voltage_uv is not None and current_ua is not None:
            power_uw = voltage_uv * current_ua // 10**6
        return BatteryReading(
            is_discharging=status == "Discharging",
            left_uj=None if left_uwh is None else left_uwh * UJ_PER_UWH,
            charge_uah=self._number("charge_now"),
            voltage_uv=voltage_uv,
            power_uw=power_uw,
        )

    def _number(self, name: str) -> int | None:
        """Return a value without its sign, on which drivers do not agree; None without one."""
        try:
            return abs(read_int(f"{self.path}/{name}", "read a battery"))
        except HostError:
            return None


def drawn_uj(before: BatteryReading, after: BatteryReading, span_ns: Duration) -> int | None:
    """Return what flowed out between two readings that are `span_ns` apart; None: not known.

    By its count of energy, or of charge, else by the power at both ends. While a battery is charged
    it does not say what the machine draws.
    """
    if not (before.is_discharging and after.is_discharging):
        return None
    if before.left_uj is not None and after.left_uj is not None:
        return max(0, before.left_uj - after.left_uj)
    charged, voltage = (before.charge_uah, after.charge_uah), (before.voltage_uv, after.voltage_uv)
    if charged[0] is not None and charged[1] is not None and None not in voltage:
        mean_uv = sum(uv for uv in voltage if uv is not None) // 2
        return max(0, charged[0] - charged[1]) * mean_uv * UJ_PER_UWH // 10**6
    if before.power_uw is not None and after.power_uw is not None:
        return (before.power_uw + after.power_uw) * span_ns // (2 * NS_PER_S)
    return None


def find_batteries(root: str = "/") -> list[Battery]:
    """Return the batteries that this machine runs on, in order; not those of its peripherals.

    Raises HostError: ENOENT when there is none.
    """
    base = path_under(root, POWER_SUPPLY)
    wanted = "find a battery"
    try:
        names = sorted(os.listdir(base))[:MAX_SUPPLIES]
    except OSError as error:
        raise HostError(error.errno or 0, base, wanted) from error
    found = [Battery(f"{base}/{name}") for name in names if _runs_machine(f"{base}/{name}")]
    if not found:
        raise HostError(errno.ENOENT, base, wanted)
    return found


def _runs_machine(path: str) -> bool:
    try:
        if read_text(f"{path}/type", "read the type of a power supply") != "Battery":
            return False
    except HostError:
        return False
    try:
        return read_text(f"{path}/scope", "read the scope of a battery") != "Device"
    except HostError:
        # that of a machine has none
        return True
