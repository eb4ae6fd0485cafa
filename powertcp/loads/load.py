"""The factory behind `--load`; the events and the Load protocol it speaks of are beside it."""

import sys
from typing import TextIO

from powertcp.errors import ConfigError
from powertcp.loads.events import (
    Ceiling,
    Delivered,
    Ended,
    Fresh,
    Lease,
    Load,
    Lost,
    Powered,
    Stale,
    SupplyChannel,
    SupplyEvent,
    SupplySender,
    supply_line,
)

__all__ = [
    "LOADS",
    "Ceiling",
    "Delivered",
    "Ended",
    "Fresh",
    "Lease",
    "Load",
    "Lost",
    "Powered",
    "Stale",
    "SupplyChannel",
    "SupplyEvent",
    "SupplySender",
    "make_load",
    "supply_line",
]

LOADS = ("lamp", "hum", "hum=FILE.wav", "hostcap", "none", "run=COMMAND")


def make_load(
    spec: str, *, on_shed: str = "cap", root: str = "/", out: TextIO | None = None
) -> Load:
    """Build the load that `spec` names: one of LOADS.

    on_shed: what a ceiling does to a command: cap, stop or term. root: where /sys and /run are
    found. out: where the lamp shines and commands write, default standard output.
    Raises ConfigError on an unknown name.
    """
    kind, _, argument = spec.partition("=")
    match kind, bool(argument):
        case "lamp", False:
            from powertcp.loads.lamp import Lamp

            return Lamp(out if out is not None else sys.stdout)
        case "hum", _:
            from powertcp.loads.hum import Hum

            return Hum(argument or None)
        case "hostcap", False:
            from powertcp.loads.hostcap import HostCap

            return HostCap(root=root)
        case "none", False:
            from powertcp.loads.none import NoneLoad

            return NoneLoad()
        case "run", True:
            from powertcp.loads.command import CommandLoad

            fd = None if out is None else out.fileno()
            return CommandLoad(argument, on_shed=on_shed, root=root, out=fd)
        case _:
            raise ConfigError("--load", spec, f"no such load; one of {', '.join(LOADS)}")
