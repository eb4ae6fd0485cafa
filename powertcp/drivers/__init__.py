"""Sockets, tasks and clocks: protocols meet the world here, under trio."""

from powertcp.drivers.carried import CarriedStream
from powertcp.drivers.dial import accept, connect, format_address, listen, parse_address
from powertcp.drivers.poll import Poll
from powertcp.drivers.stream import SegmentMachine, SegmentStream
from powertcp.drivers.wheel import Wheel

__all__ = [
    "CarriedStream",
    "Poll",
    "SegmentMachine",
    "SegmentStream",
    "Wheel",
    "accept",
    "connect",
    "format_address",
    "listen",
    "parse_address",
]
