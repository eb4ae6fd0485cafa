"""Bounded reads and writes of the small files by which the kernel is asked and told."""

import os

from powertcp.errors import HostError

# a sysfs attribute is at most one page; cgroup.procs of a large group is cut here
MAX_READ = 65536


def path_under(root: str, path: str) -> str:
    """Return absolute `path` moved under `root` ("/" leaves it alone)."""
    return os.path.join(root, path.lstrip("/"))


def read_text(path: str, wanted: str) -> str:
    """Return the text of a kernel file without surrounding white space, MAX_READ octets at most.

    wanted: what for, said in the HostError that every OSError becomes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, MAX_READ).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(error.errno or 0, path, wanted) from error


def read_int(path: str, wanted: str) -> int:
    """Return the decimal integer a kernel file holds.

    Raises HostError: errno of the read, or EINVAL (22) when it is not a number.
    """
    text = read_text(path, wanted)
    try:
        return int(text)
    except ValueError as error:
        raise HostError(22, path, f"{wanted}: not a number: {text[:32]!r}") from error


def write_text(path: str, text: str, wanted: str) -> None:
    """Write `text` in one write to an existing kernel file; every OSError becomes HostError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(error.errno or 0, path, wanted) from error
