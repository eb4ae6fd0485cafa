"""A network of the bench's own: what a measured process makes goes when the process ends."""

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import powertcp
from tools.bench.harness import MissingError

CLONE_NEWNS, CLONE_NEWNET = 0x0002_0000, 0x4000_0000
END_S = 2.0
ROOT = Path(powertcp.__file__).parents[1]
# whatever a command of ours loads is compiled before it is measured, as a package is when installed
_WARM = (
    "import powertcp.cli.main, powertcp.cli.discovering, powertcp.cli.provider_daemon;"
    "import powertcp.cli.consumer_ledger, powertcp.cli.readings, powertcp.drivers.consumer;"
    "import powertcp.drivers.finder, powertcp.drivers.dpdp, powertcp.drivers.desk"
)


def need_tools(tools: Mapping[str, str]) -> None:
    """Raise MissingError for the first of `tools` that is not there: tool -> Debian package."""
    for tool, package in tools.items():
        if shutil.which(tool) is None:
            raise MissingError(f"{tool}: apt install {package}")


def leave(flags: int) -> None:
    """Take this process, and what it starts, out of the namespaces that `flags` name."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(flags):
        number = ctypes.get_errno()
        raise MissingError(f"namespaces: unshare: {errno.errorcode[number]}, run it as root")


def run(*words: str) -> None:
    """Run a tool of the system; MissingError with what it said when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{' '.join(words[:3])}: {done.stderr.strip()}")


def alone() -> None:
    """Give this process a network of its own with a loopback, and a /run of its own."""
    need_tools({"ip": "iproute2", "mount": "mount"})
    leave(CLONE_NEWNET | CLONE_NEWNS)
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("ip", "link", "set", "lo", "up")


def cable(pid: int) -> None:
    """Lay a cable from here to the network of process `pid`: e0 at both ends; here 10.9.255.1/16."""
    run("ip", "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", f"{pid}")
    plug("10.9.255.1/16", "fe80::ff/64")


def plug(*addresses: str) -> None:
    """Bring e0 up with these addresses, in use at once, and no others."""
    run("ip", "link", "set", "e0", "addrgenmode", "none")
    run("ip", "link", "set", "e0", "up")
    for address in addresses:
        run("ip", "addr", "add", address, "dev", "e0", *(["nodad"] if ":" in address else []))


@cache
def _compiled(owner: int) -> str:
    """Compile what commands load, once for the process `owner`; the folder of the bytecode."""
    folder = tempfile.TemporaryDirectory(prefix="powertcp-bench-")
    _kept.append(folder)
    subprocess.run(
        [sys.executable, "-c", _WARM], cwd=ROOT, env=_environment(folder.name), check=True
    )
    return folder.name


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _environment(bytecode: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    found = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # where the libraries are
    path = os.pathsep.join(filter(None, [str(ROOT), *found]))
    return kept | {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONPATH": path}


class Commands:
    """Runs `powertcp` as an installed one: compiled, with sockets and state in its own folder."""

    def __init__(self) -> None:
        """Compile what is run; call it before the rounds begin."""
        self._bytecode = _compiled(os.getpid())

    @contextlib.contextmanager
    def running(
        self, folder: Path, *words: str, log: int = subprocess.DEVNULL
    ) -> Iterator["subprocess.Popen[str]"]:
        """Run `powertcp WORDS` until the block ends; its lines are read from `stdout`."""
        environment = _environment(self._bytecode) | {
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
        }
        words = (sys.executable, "-m", "powertcp", *words)
        with started(words, env=environment, log=log) as process:
            yield process


@contextlib.contextmanager
def started(
    words: Sequence[str], *, env: Mapping[str, str] | None = None, log: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[str]"]:
    """Run a program until the block ends; what it started goes with it."""
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
        env=env, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
