"""What a consumer does with power: one coroutine per load, fed with Supply events."""

from powertcp.loads.command import CommandLoad, OnShed
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
from powertcp.loads.load import LOADS, make_load

__all__ = [
    "LOADS",
    "Ceiling",
    "CommandLoad",
    "Delivered",
    "Ended",
    "Fresh",
    "Lease",
    "Load",
    "Lost",
    "OnShed",
    "Powered",
    "Stale",
    "SupplyChannel",
    "SupplyEvent",
    "SupplySender",
    "make_load",
    "supply_line",
]
