"""This machine's kernel; blocking, every path under an injectable root, no event loop."""

from powertcp.linux.cgroup import Group
from powertcp.linux.clock import is_synchronised
from powertcp.linux.rapl import Zone, find_zones
from powertcp.linux.sysfs import path_under, read_int, read_text, write_text

__all__ = [
    "Group",
    "Zone",
    "find_zones",
    "is_synchronised",
    "path_under",
    "read_int",
    "read_text",
    "write_text",
]
