"""Whoever is killed or stopped of consumer, warden and guard: the command ends, nothing stays."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from powertcp.loads import CommandLoad, Ended, Powered, SupplySender, supply_line
from powertcp.loads.guard import children_of
from powertcp.profile import PowerProfile

S = 1_000_000_000
PROFILE = PowerProfile.parse("10V/1A")
# a daemon that shares neither session nor environment with the command
DAEMON = "env -i /usr/bin/env setsid /bin/sh -c 'echo $$ >> {0}; exec sleep 1000'"
TREE = DAEMON + " & echo $$ >> {0}; exec sleep 1000"
CONSUMER = """
import sys, trio
from powertcp.loads import CommandLoad, Powered, supply_line
from powertcp.profile import PowerProfile
async def main():
    sender, channel = supply_line()
    until_ns = round(trio.current_time() * 10**9) + 60 * 10**9
    sender.send(Powered(profile=PowerProfile.parse("10V/1A"), until_ns=until_ns))
    await CommandLoad(["sh", "-c", sys.argv[2]], root=sys.argv[1]).run(channel)
trio.run(main)
"""


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something the kernel does; the deadline is for a machine under load."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the kernel sets no trio.Event
            await trio.sleep(0.002)


def may_schedule() -> bool:
    """Whether this process has CAP_SYS_NICE."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    mask = next(row.split()[1] for row in rows if row.startswith("CapEff"))
    return bool(int(mask, 16) >> 23 & 1)


class Tree:
    """The processes of a command, by the file they write their ids to; none is left behind."""

    def __init__(self, note: Path) -> None:
        self.note = note
        self.words = TREE.format(note)

    def pids(self) -> list[int]:
        return [int(line) for line in self.note.read_text().split()] if self.note.exists() else []

    def alive(self) -> list[int]:
        return [pid for pid in self.pids() if is_alive(pid)]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    found = Tree(tmp_path / "pids")
    yield found
    for pid in found.alive():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=["group", "signals"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The root of the machine, or one without control groups."""
    return "/" if request.param == "group" else str(tmp_path)


class Run:
    """A load that runs, its line, and its status when it is done."""

    def __init__(self, load: CommandLoad, sender: SupplySender) -> None:
        self.load = load
        self.tell = sender.send
        self.status: int | None = None
        self.done = trio.Event()


@asynccontextmanager
async def running(words: list[str], root: str, lease_ns: int = 60 * S) -> AsyncIterator[Run]:
    sender, channel = supply_line()
    run = Run(CommandLoad(words, root=root), sender)

    async def hold() -> None:
        run.status = await run.load.run(channel)
        run.done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        until_ns = round(trio.current_time() * S) + lease_ns
        run.tell(Powered(profile=PROFILE, until_ns=until_ns))
        await until(lambda: run.load.pid)
        yield run
        nursery.cancel_scope.cancel()
    for pid in (run.load.pid, run.load.guard_pid, run.load.warden_pid):
        assert not is_alive(pid)


async def test_no_command_line_of_the_guard_names_the_package_or_the_command(root: str) -> None:
    async with running(["sh", "-c", "sleep 1000; : powertcp"], root) as run:
        for pid in (run.load.guard_pid, run.load.warden_pid):
            assert "powertcp" not in command_line(pid)
            assert "sleep" not in command_line(pid)


@pytest.mark.requirement("PTCP-5-05")
@pytest.mark.parametrize("victim", ["guard_pid", "warden_pid"])
async def test_a_killed_holder_takes_every_descendant_along(
    root: str, tree: Tree, victim: str
) -> None:
    async with running(["sh", "-c", tree.words], root) as run:
        await until(lambda: len(tree.pids()) == 2)
        os.kill(getattr(run.load, victim), signal.SIGKILL)
        await run.done.wait()
        await until(lambda: not tree.alive())
        assert run.status == 128 + signal.SIGKILL


def start_consumer(root: str, tree: Tree, nicer: int = 0) -> subprocess.Popen[bytes]:
    words = ["nice", "-n", str(nicer), sys.executable, "-c", CONSUMER, root, tree.words]
    return subprocess.Popen(words)


@asynccontextmanager
async def consumer(root: str, tree: Tree, nicer: int = 0) -> AsyncIterator[tuple[int, int, int]]:
    """A consumer process: its id, that of its warden, that of its guard."""
    with start_consumer(root, tree, nicer) as process:
        try:
            await until(lambda: len(tree.pids()) == 2)
            (warden,) = children_of(process.pid)
            (guard,) = children_of(warden)
            yield process.pid, warden, guard
        finally:
            process.kill()
    await until(lambda: not is_alive(warden) and not is_alive(guard))


@pytest.mark.parametrize("nicer", [0, 5])
async def test_the_guard_runs_first_and_the_command_like_its_consumer(
    root: str, tree: Tree, nicer: int
) -> None:
    async with consumer(root, tree, nicer) as (_, warden, guard):
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + nicer
        for pid in (warden, *tree.pids()):
            assert os.sched_getscheduler(pid) == os.SCHED_OTHER
            assert os.getpriority(os.PRIO_PROCESS, pid) == niceness
        if may_schedule():
            assert os.sched_getscheduler(guard) == os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.kill(guard, signal.SIGKILL)
        await until(lambda: not tree.alive())


@pytest.mark.requirement("PTCP-5-05")
async def test_killing_all_that_names_the_package_kills_the_command(root: str, tree: Tree) -> None:
    async with consumer(root, tree) as holders:
        named = [pid for pid in holders if "powertcp" in command_line(pid)]
        assert holders[0] in named
        for pid in named:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not tree.alive())


@pytest.mark.requirement("PTCP-5-05")
@pytest.mark.parametrize("stopped", [1, 2])
async def test_a_stopped_holder_does_not_save_the_command_of_a_killed_consumer(
    root: str, tree: Tree, stopped: int
) -> None:
    async with consumer(root, tree) as holders:
        os.kill(holders[stopped], signal.SIGSTOP)
        os.kill(holders[0], signal.SIGKILL)
        try:
            await until(lambda: not tree.alive())
        finally:
            if is_alive(holders[stopped]):
                os.kill(holders[stopped], signal.SIGCONT)


@pytest.mark.requirement("PTCP-5-06")
async def test_a_stopped_guard_does_not_stretch_the_lease(root: str, tree: Tree) -> None:
    async with running(["sh", "-c", tree.words], root, lease_ns=S // 2) as run:
        await until(lambda: len(tree.pids()) == 2)
        os.kill(run.load.guard_pid, signal.SIGSTOP)
        began = trio.current_time()
        await run.done.wait()
        assert trio.current_time() - began < 4
        assert run.status == 128 + signal.SIGKILL
        assert not tree.alive()


@pytest.mark.parametrize("stopped", ["guard_pid", "warden_pid"])
async def test_a_stopped_holder_does_not_keep_the_consumer(
    root: str, tree: Tree, stopped: str
) -> None:
    async with running(["sh", "-c", tree.words], root) as run:
        await until(lambda: len(tree.pids()) == 2)
        os.kill(getattr(run.load, stopped), signal.SIGSTOP)
        run.tell(Ended())
        with trio.fail_after(6):
            await run.done.wait()
        assert run.status == 0
        assert not tree.alive()


async def test_a_command_finds_signals_and_descriptors_as_a_shell_leaves_them(
    root: str, tmp_path: Path
) -> None:
    note = tmp_path / "found"
    words = f"grep SigIgn /proc/self/status > {note}; ls /proc/self/fd | wc -l >> {note}"
    async with running(["sh", "-c", words], root) as run:
        await run.done.wait()
        assert run.status == 0
    # 0, 1, 2 and the folder that ls reads
    assert note.read_text().split() == ["SigIgn:", "0" * 16, "4"]
