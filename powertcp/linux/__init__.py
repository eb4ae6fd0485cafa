"""This machine's kernel; blocking, every path under an injectable root, no event loop."""

from powertcp.linux.cgroup import Group
from powertcp.linux.clock import is_synchronised
from powertcp.linux.rapl import Zone, find_counters, find_zones
from powertcp.linux.supply import Battery, find_batteries
from powertcp.linux.sysfs import path_under, read_int, read_text, write_text

__all__ = [
    "Battery",
    "Group",
    "Zone",
    "find_batteries",
    "find_counters",
    "find_zones",
    "is_synchronised",
    "path_under",
    "read_int",
    "read_text",
    "write_text",
]
