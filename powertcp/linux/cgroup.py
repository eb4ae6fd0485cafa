"""Control groups, version 2: freeze, kill and time a tree of processes as one thing.

Only the core files are used (`cgroup.procs`, `cgroup.freeze`, `cgroup.kill`, `cpu.stat`), which
every group has on kernel 5.14 and later without any controller, also where version 1 hierarchies
are mounted beside it. The version 1 freezer is not used: what it froze cannot be killed.
"""

import os
import time
from typing import Self

from powertcp.errors import HostError
from powertcp.linux.sysfs import path_under, read_text, write_text


def mount_point(mounts: str) -> str | None:
    """Return where the version 2 hierarchy is mounted, from the text of /proc/self/mounts."""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] == "cgroup2":
            return fields[1].replace("\\040", " ")
    return None


def own_group(membership: str) -> str:
    """Return the version 2 group of a process, from the text of /proc/PID/cgroup."""
    for line in membership.splitlines():
        if line.startswith("0::"):
            return line[3:].removesuffix(" (deleted)")
    return "/"


def cpu_usage_us(stat: str) -> int:
    """Return the CPU time in microseconds from the text of cpu.stat."""
    for line in stat.splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value)
    return 0


class Group:
    """One control group of ours, below the group this process is in."""

    def __init__(self, path: str) -> None:
        """Speak of the group at `path`, which exists."""
        self.path = path

    @classmethod
    def create(cls, name: str, root: str = "/") -> Self:
        """Make the group `name`; HostError when there is no version 2 or no permission."""
        wanted = "make a control group"
        mounts = path_under(root, "/proc/self/mounts")
        at = mount_point(read_text(mounts, wanted))
        if at is None:
            raise HostError(2, mounts, f"{wanted}: no cgroup2 is mounted")
        own = own_group(read_text(path_under(root, "/proc/self/cgroup"), wanted))
        path = path_under(root, f"{at}{own.rstrip('/')}/{name}")
        try:
            os.mkdir(path, 0o755)
        except OSError as error:
            raise HostError(error.errno or 0, path, wanted) from error
        group = cls(path)
        if not os.access(f"{path}/cgroup.kill", os.W_OK):
            group.remove()
            raise HostError(2, f"{path}/cgroup.kill", f"{wanted}: kernel before 5.14")
        return group

    def members(self) -> list[int]:
        """Return the process ids in the group; [] when the group is gone."""
        try:
            text = read_text(f"{self.path}/cgroup.procs", "list a control group")
        except HostError:
            return []
        return [int(pid) for pid in text.split()]

    def freeze(self, frozen: bool) -> None:
        """Stop every process of the group, or let all of them go on."""
        write_text(f"{self.path}/cgroup.freeze", str(int(frozen)), "freeze a control group")

    def cpu_time_us(self) -> int:
        """Return the CPU time of all that ever ran in the group, in microseconds."""
        return cpu_usage_us(read_text(f"{self.path}/cpu.stat", "read a group's CPU time"))

    def kill(self) -> None:
        """Send SIGKILL to every process of the group, frozen or not."""
        write_text(f"{self.path}/cgroup.kill", "1", "kill a control group")

    def remove(self, patience_ns: int = 1_000_000_000) -> bool:
        """Remove the group; False when it still has processes after `patience_ns`."""
        deadline = time.monotonic_ns() + patience_ns
        while True:
            try:
                os.rmdir(self.path)
            except FileNotFoundError:
                return True
            except OSError:
                if time.monotonic_ns() > deadline:
                    return False
                time.sleep(0.005)
            else:
                return True
