"""Network namespaces that a test makes and removes, and avahi as an independent peer in one."""

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

NEEDS = {"ip": "iproute2", "sysctl": "procps", "unshare": "util-linux", "nsenter": "util-linux"}
AVAHI = {
    "avahi-daemon": "avahi-daemon", "avahi-browse": "avahi-utils",
    "avahi-publish": "avahi-utils", "dbus-daemon": "dbus",
}  # fmt: skip
SLOW_S = 30.0


def need(tools: dict[str, str]) -> None:
    """Skip the test, which is a failure where every peer is asked for, without one of `tools`."""
    for tool, package in tools.items():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: apt install {package}")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def spaces(count: int) -> Iterator[list[str]]:
    """Make namespaces with a loopback that is up; skip with the errno where that is refused."""
    need(NEEDS)
    names = [f"ptcp{os.getpid()}-{number}" for number in range(count)]
    made: list[str] = []
    try:
        for name in names:
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"ip netns add: {_errno_of(error.stderr)} {error.stderr.strip()}")
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in made:
            ip("netns", "del", name)


def _errno_of(said: str) -> str:
    """Return the name of the error that a tool has told in words."""
    names = [name for number, name in errno.errorcode.items() if os.strerror(number) in said]
    return names[0] if names else "EPERM"


def check_spaces(tools: dict[str, str]) -> None:
    """Skip, before a test runs, without one of `tools` or where no namespace can be made."""
    need(tools)
    with spaces(1):
        pass


@contextmanager
def pair() -> Iterator[tuple[str, str]]:
    """Make two namespaces with a cable between them: e0 at both ends, 10.9.0.1 and 10.9.0.2."""
    with spaces(2) as (one, two):
        ip("-n", one, "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", two)
        for number, name in ((1, one), (2, two)):
            # no time is lost on finding that nobody else has these addresses
            ip("netns", "exec", name, "sysctl", "-q", "net.ipv6.conf.e0.accept_dad=0")
            ip("-n", name, "addr", "add", f"10.9.0.{number}/24", "dev", "e0")
            ip("-n", name, "link", "set", "e0", "up")
        yield one, two


def inside(name: str) -> tuple[str, ...]:
    """Return the words before a command that runs it in a namespace, in the same process."""
    return ("ip", "netns", "exec", name)


class Peer:
    """A program whose lines are read as they come, in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", path: Path) -> None:
        self.process, self._path = process, path

    @property
    def text(self) -> str:
        return self._path.read_text(encoding="utf-8", errors="replace")

    def until(self, is_there: Callable[[str], bool], within_s: float = SLOW_S) -> str:
        """Wait for what it prints; another program tells nobody but its file."""
        end = time.monotonic() + within_s
        while not is_there(self.text):
            if time.monotonic() > end:
                raise AssertionError(f"{self.process.args!r}: {self.text}")
            time.sleep(0.02)
        return self.text


@contextmanager
def peer(folder: Path, words: Sequence[str]) -> Iterator[Peer]:
    """Run a program until the block ends; it and what it started are ended by their group."""
    path = folder / f"peer-{len(list(folder.iterdir()))}.log"
    with path.open("wb") as log:
        process = _start(words, log)
        try:
            yield Peer(process, path)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(words: Sequence[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


class Avahi:
    """avahi-daemon with a bus of its own, alone in a namespace."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def words(self, *words: str) -> tuple[str, ...]:
        """Return the words that run a program which finds this daemon."""
        return ("nsenter", f"--target={self._pid}", "--mount", "--net", *words)


_CONF = """[server]
host-name={name}
use-ipv4=yes
use-ipv6=yes
allow-interfaces={interface}
ratelimit-interval-usec=1000000
ratelimit-burst=1000
[publish]
publish-hinfo=no
publish-workstation=no
"""
_SCRIPT = """mount -t tmpfs tmpfs /run && mkdir -p /run/dbus /run/avahi-daemon || exit 9
dbus-daemon --system --nofork --nopidfile &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f {conf}
"""


@contextmanager
def avahi(
    folder: Path, space: str, *, interface: str = "e0", name: str = "peer"
) -> Iterator[Avahi]:
    """Run avahi in a namespace, on one interface, as host `name`.local."""
    need(AVAHI)
    conf = folder / f"avahi-{space}.conf"
    conf.write_text(_CONF.format(name=name, interface=interface), encoding="utf-8")
    words = [*inside(space), "unshare", "-m", "sh", "-c", _SCRIPT.format(conf=conf)]
    with peer(folder, words) as daemon:
        daemon.until(lambda text: "Server startup complete" in text)
        yield Avahi(daemon.process.pid)
