"""This machine's kernel; blocking, every path under an injectable root, no event loop."""

from powertcp.linux.cgroup import Group
from powertcp.linux.rapl import Zone, find_zones
from powertcp.linux.sysfs import path_under, read_int, read_text, write_text

__all__ = [
    "Group",
    "Zone",
    "find_zones",
    "path_under",
    "read_int",
    "read_text",
    "write_text",
]
