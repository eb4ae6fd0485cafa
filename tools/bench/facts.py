"""What is said about the machine a bench ran on; never its name or a path."""

import importlib.metadata
import os
import pathlib
import platform
import re


def cpu_model() -> str:
    """The CPU as the kernel names it, without trade marks."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return re.sub(r"\((R|TM)\)| CPU|Processor", "", found[1]).strip() if found else "unknown CPU"


def version(package: str) -> str:
    """The installed version of a package, `absent` if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def kernel() -> str:
    """System, release up to the minor number, architecture."""
    release = ".".join(platform.release().split("-")[0].split(".")[:2])
    return f"{platform.system()} {release} {platform.machine()}"


def cores() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def machine_line() -> str:
    """One line for `--json`."""
    return (
        f"{kernel()}, {cpu_model()} x {cores()}, Python {platform.python_version()}, "
        f"trio {version('trio')}, load {os.getloadavg()[0]:.1f}"
    )


def congestion_control() -> str:
    """The TCP congestion control a new socket gets."""
    try:
        return pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    except OSError:
        return "unknown"


def machine_facts() -> list[str]:
    """The head of a results file."""
    packages = ("trio", "numpy", "construct", "cryptography", "websockets", "noiseprotocol")
    return [
        f"machine: {kernel()}, {cpu_model()} x {cores()}, {platform.python_implementation()} "
        f"{platform.python_version()}",
        f"congestion control: {congestion_control()}",
        "versions: " + ", ".join(f"{name} {version(name)}" for name in packages),
    ]


def host_class() -> str:
    """A short name of the kind of machine, fit for a file name."""
    words = re.findall(r"[a-z0-9]+", cpu_model().lower())
    kind = next((word for word in words if word not in {"intel", "amd", "r", "tm"}), "cpu")
    return f"{platform.machine()}-{kind}-{cores()}cpu"
