"""Real processes under a real guard, with the freezer of a control group and with signals."""

import glob
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from powertcp.errors import HostError
from powertcp.linux import Group
from powertcp.loads import (
    Ceiling,
    CommandLoad,
    Ended,
    Lease,
    Lost,
    Powered,
    Stale,
    SupplySender,
    supply_line,
)
from powertcp.profile import PowerProfile

PROFILE = PowerProfile.parse("10V/1A")
S = 1_000_000_000
BUSY = [sys.executable, "-S", "-c", "while True: pass"]
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(params=["group", "signals"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The root of the machine, or one without control groups."""
    return "/" if request.param == "group" else str(tmp_path)


def now() -> int:
    return round(trio.current_time() * S)


def powered(lease_s: float = 60, fallback_mw: int = 0) -> Powered:
    return Powered(profile=PROFILE, until_ns=now() + round(lease_s * S), fallback_mw=fallback_mw)


def state(pid: int) -> str:
    """State letter of /proc, X when gone; a frozen process shows its group's state instead."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    letter = text.rpartition(")")[2].split()[0]
    return "X" if letter == "Z" else letter


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def is_alive(pid: int) -> bool:
    return state(pid) != "X"


def ignores(pid: int, number: int) -> bool:
    rows = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    mask = next(row.split()[1] for row in rows if row.startswith("SigIgn"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text(encoding="ascii").split()]


def left_groups() -> list[str]:
    # unlike Path.glob, glob.glob bears folders of others that go while it walks
    return glob.glob(f"/sys/fs/cgroup/**/powertcp-load-{os.getpid()}-*", recursive=True)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something the kernel does; the deadline is for a machine under load."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the kernel sets no trio.Event
            await trio.sleep(0.002)


def ran_ns(pids: list[int]) -> int:
    """Time the processes have run, to the nanosecond."""
    paths = [Path(f"/proc/{pid}/schedstat") for pid in pids]
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in paths)


def freezer_of(pid: int) -> Path | None:
    """The file that freezes the group a load was put into, None without one."""
    group = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").rpartition("0::/")[2].strip()
    found = glob.glob(f"/sys/fs/cgroup/**/{group}/cgroup.freeze", recursive=True)
    return Path(found[0]) if group and found else None


def may_run(pid: int, freezer: Path | None) -> bool:
    """Whether a process is neither stopped nor told to, be it that it waits for a core to obey."""
    if freezer is not None:
        return freezer.read_text(encoding="ascii").strip() == "0"
    rows = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    status = dict(row.split(":\t", 1) for row in rows)
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return status["State"][0] not in "Tt" and not pending >> (signal.SIGSTOP - 1) & 1


def part_on(pid: int, seconds: float) -> float:
    """Part of real time in which a process may run, however busy the machine is; in a thread."""
    freezer = freezer_of(pid)
    before = os.sched_getscheduler(0)
    # who looks must not wait for a core just when the tree has it; only root may ask for that
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        began = last = time.monotonic()
        was_on, on = may_run(pid, freezer), 0.0
        while last - began < seconds:
            time.sleep(0.002)
            is_on, now = may_run(pid, freezer), time.monotonic()
            on += (now - last) * (was_on + is_on) / 2
            was_on, last = is_on, now
        return on / (last - began)
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, before, os.sched_param(0))


async def paused(pids: list[int]) -> None:
    """Wait until the processes stand; fail if they go on after that."""
    with trio.fail_after(2):
        before = -1
        while ran_ns(pids) != before:
            before = ran_ns(pids)
            await trio.sleep(0.1)
    before = ran_ns(pids)
    await trio.sleep(0.5)
    assert ran_ns(pids) == before


class Run:
    """A load that runs, its line, and its status when it is done."""

    def __init__(self, load: CommandLoad, sender: SupplySender) -> None:
        self.load = load
        self.tell = sender.send
        self.status: int | None = None
        self.done = trio.Event()

    async def started(self) -> int:
        await until(lambda: self.load.pid)
        return self.load.pid


@asynccontextmanager
async def running(load: CommandLoad) -> AsyncIterator[Run]:
    """Run a load; at the end nothing of it is left."""
    sender, channel = supply_line()
    run = Run(load, sender)

    async def hold() -> None:
        run.status = await load.run(channel)
        run.done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        yield run
        nursery.cancel_scope.cancel()
    for pid in (load.pid, load.guard_pid):
        assert pid == 0 or not is_alive(pid)
    assert not left_groups()


async def test_a_command_starts_with_power_and_ends_with_it(root: str) -> None:
    async with running(CommandLoad("sleep 1000", root=root)) as run:
        await until(lambda: run.load.guard_pid)
        assert run.load.pid == 0
        run.tell(powered())
        pid = await run.started()
        assert run.load.name == f"sleep[{pid}]"
        run.tell(Stale())
        run.tell(Ended())
        await run.done.wait()
        assert run.status == 0


@pytest.mark.parametrize(
    ("words", "status"),
    [("sh -c 'exit 7'", 7), ("true", 0), ("sh -c 'kill -USR1 $$'", 128 + signal.SIGUSR1)],
)
async def test_the_status_of_the_command_is_ours(root: str, words: str, status: int) -> None:
    async with running(CommandLoad(words, root=root)) as run:
        run.tell(powered())
        await run.done.wait()
        assert run.status == status


async def test_a_closed_line_means_ended(root: str) -> None:
    sender, channel = supply_line()
    sender.send(powered())
    sender.close()
    assert await CommandLoad("sleep 1000", root=root).run(channel) == 0


async def test_sigterm_comes_first_and_sigkill_after_the_grace(root: str) -> None:
    stubborn = [
        sys.executable,
        "-S",
        "-c",
        "import signal,time\nsignal.signal(15,1)\ntime.sleep(99)",
    ]
    async with running(CommandLoad(stubborn, root=root, grace_ns=S // 5)) as run:
        run.tell(powered())
        pid = await run.started()
        await until(lambda: ignores(pid, signal.SIGTERM))
        began = time.monotonic()
        run.tell(Ended())
        await run.done.wait()
        assert run.status == 0
        assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("part", [25, 60])
async def test_a_ceiling_holds_the_share_of_a_whole_tree(root: str, part: int) -> None:
    two = f"{sys.executable} -S -c 'while True: pass' & exec {sys.executable} -S -c 'while True: pass'"
    async with running(CommandLoad(["sh", "-c", two], root=root)) as run:
        run.tell(powered())
        pid = await run.started()
        await until(lambda: children_of(pid))
        pids = [pid, *children_of(pid)]
        assert await trio.to_thread.run_sync(part_on, pid, 0.5) == 1
        run.tell(Ceiling(limit_mw=part, rated_mw=100))
        part_ran = await trio.to_thread.run_sync(part_on, pid, 10)
        assert part_ran == pytest.approx(part / 100, abs=0.05)
        run.tell(Ceiling(limit_mw=0, rated_mw=100))
        await paused(pids)
        run.tell(Ceiling(limit_mw=100, rated_mw=100))
        before = cpu_s(pid)
        await until(lambda: cpu_s(pid) > before)


async def test_lost_power_pauses_and_returning_power_continues(root: str) -> None:
    async with running(CommandLoad(BUSY, root=root)) as run:
        run.tell(powered())
        pid = await run.started()
        await until(lambda: cpu_s(pid) > 0.05)
        run.tell(Lost(returning=True))
        await paused([pid])
        assert is_alive(pid)
        run.tell(powered())
        before = cpu_s(pid)
        await until(lambda: cpu_s(pid) > before)
        run.tell(Lost(returning=False))
        await run.done.wait()
        assert run.status == 0


async def test_a_paused_command_can_be_ended(root: str) -> None:
    async with running(CommandLoad("sleep 1000", root=root)) as run:
        run.tell(powered())
        await run.started()
        run.tell(Lost(returning=True))
        run.tell(Ended())
        await run.done.wait()
        assert run.status == 0


async def test_on_shed_term_ends_the_command(root: str) -> None:
    async with running(CommandLoad("sleep 1000", root=root, on_shed="term")) as run:
        run.tell(powered())
        await run.started()
        run.tell(Ceiling(limit_mw=99, rated_mw=100))
        await run.done.wait()
        assert run.status == 0


@pytest.mark.requirement("PTCP-5-06")
async def test_a_lease_that_nobody_renews_pauses_until_it_is(root: str) -> None:
    async with running(CommandLoad(BUSY, root=root)) as run:
        run.tell(powered(lease_s=0.5))
        pid = await run.started()
        await paused([pid])
        before = cpu_s(pid)
        run.tell(Lease(until_ns=now() + 60 * S))
        await until(lambda: cpu_s(pid) > before)


async def test_a_daemon_that_left_its_session_ends_with_the_command(
    root: str, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    words = f"setsid sh -c 'echo $$ > {note}; exec sleep 1000' & sleep 1000"
    async with running(CommandLoad(["sh", "-c", words], root=root)) as run:
        run.tell(powered())
        await until(lambda: note.exists() and note.read_text().strip())
        daemon = int(note.read_text())
        run.tell(Ended())
        await run.done.wait()
        assert not is_alive(daemon)


async def test_a_killed_guard_takes_the_tree_with_it(root: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    words = f"setsid sh -c 'echo $$ > {note}; exec sleep 1000' & sleep 1000"
    async with running(CommandLoad(["sh", "-c", words], root=root)) as run:
        run.tell(powered())
        await until(lambda: note.exists() and note.read_text().strip())
        os.kill(run.load.guard_pid, signal.SIGKILL)
        await run.done.wait()
        assert run.status == 128 + signal.SIGKILL
        assert not is_alive(run.load.pid)
        await until(lambda: not is_alive(int(note.read_text())))


async def test_what_cannot_be_run_is_an_error_of_the_host(root: str, tmp_path: Path) -> None:
    _, channel = supply_line()
    with pytest.raises(HostError, match="run the command"):
        await CommandLoad("no-such-command-anywhere", root=root).run(channel)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF not really")
    broken.chmod(0o755)
    sender, channel = supply_line()
    sender.send(powered())
    with pytest.raises(HostError, match="run the command"):
        await CommandLoad([str(broken)], root=root).run(channel)


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.05, 0.3])
async def test_a_cancelled_load_leaves_nothing(root: str, delay_s: float) -> None:
    load = CommandLoad("sleep 1000", root=root)
    async with running(load) as run:
        run.tell(powered())
        await trio.sleep(delay_s)
    assert run.status is None


CONSUMER = """
import sys, trio
from powertcp.loads import CommandLoad, Powered, supply_line
from powertcp.profile import PowerProfile
async def main():
    sender, channel = supply_line()
    until_ns = round(trio.current_time() * 10**9) + int(sys.argv[2])
    sender.send(Powered(profile=PowerProfile.parse("10V/1A"), until_ns=until_ns))
    load = CommandLoad(["sh", "-c", sys.argv[3]], root=sys.argv[1])
    await load.run(channel)
trio.run(main)
"""
TREE = "setsid sh -c 'echo $$; exec sleep 1000' & echo $$; echo ready; while :; do :; done"


def start_consumer(root: str, lease_ns: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CONSUMER, root, str(lease_ns), TREE]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


async def consumer(root: str, lease_ns: int) -> tuple[subprocess.Popen[str], list[int]]:
    """A consumer process, and the processes it powers."""
    process = start_consumer(root, lease_ns)
    stdout = process.stdout
    assert stdout is not None
    lines: list[str] = []

    def read() -> None:
        while len(lines) < 3:
            lines.append(stdout.readline().strip())

    with trio.fail_after(10):
        await trio.to_thread.run_sync(read, abandon_on_cancel=True)
    return process, [int(line) for line in lines if line != "ready"]


@pytest.mark.requirement("PTCP-5-05")
async def test_nothing_outlives_a_killed_consumer(root: str) -> None:
    process, pids = await consumer(root, 60 * S)
    with process:
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        process.kill()
        began = time.monotonic()
        await until(lambda: not any(map(is_alive, pids)))
        assert time.monotonic() - began < 2


@pytest.mark.requirement("PTCP-5-05")
async def test_a_stopped_consumer_does_not_stretch_its_lease(root: str) -> None:
    process, pids = await consumer(root, S)
    with process:
        os.kill(process.pid, signal.SIGSTOP)
        await trio.sleep(1.3)
        before = ran_ns(pids)
        await trio.sleep(0.5)
        assert ran_ns(pids) == before
        assert all(map(is_alive, pids))
        process.kill()
        await until(lambda: not any(map(is_alive, pids)))


def test_a_group_counts_freezes_and_kills() -> None:
    try:
        group = Group.create(f"powertcp-load-{os.getpid()}-test")
    except HostError:
        # no version 2 hierarchy, or no permission: the tests above ran with signals only
        return
    with subprocess.Popen(["sleep", "1000"]) as process:
        Path(group.path, "cgroup.procs").write_text(str(process.pid), encoding="ascii")
        assert group.members() == [process.pid]
        group.freeze(frozen=True)
        group.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert group.cpu_time_us() >= 0
    assert group.remove()
    assert group.members() == []
