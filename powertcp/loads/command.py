"""A command that runs only while it is powered: throttled, paused, continued and ended.

The command is held by a guard, a small process of its own (see guard.py), so that it neither
outlives its consumer nor its lease, whatever happens to the consumer.
"""

import errno
import logging
import math
import os
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import trio

from powertcp.errors import ConfigError, HostError
from powertcp.linux.cgroup import Group
from powertcp.loads import guard
from powertcp.loads.events import (
    Ceiling,
    Ended,
    Fresh,
    Lease,
    Lost,
    Powered,
    Stale,
    SupplyChannel,
    SupplyEvent,
)
from powertcp.loads.launch import launch
from powertcp.units import NS_PER_S, Duration, Instant

# SIGTERM, then as long until SIGKILL: T_DRAIN
GRACE_NS = 5 * NS_PER_S
# a guard that does not answer for so long after the grace is killed, and the command with it
GUARD_PATIENCE_S = 3.0
# so late a guard may say that the lease is over or that it ends the command; then it is killed
ANSWER_NS = NS_PER_S
MARK = "POWERTCP_LOAD"
KILLED = 128 + signal.SIGKILL

log = logging.getLogger(__name__)

Order = tuple[str, int]


class OnShed(StrEnum):
    """What a ceiling below the rating does to a command."""

    CAP = "cap"
    STOP = "stop"
    TERM = "term"


def _now_ns() -> Instant:
    return round(trio.current_time() * NS_PER_S)


def share_ppm(part_mw: int, whole_mw: int) -> int:
    """Return part / whole in millionths, 0..1,000,000; a load rated at nothing has no share."""
    if whole_mw <= 0:
        return 0
    return max(0, min(guard.PPM, part_mw * guard.PPM // whole_mw))


class Orders:
    """What the guard is told on each Supply event; pure.

    An order is a verb of guard.py and its number; a lease is in the clock the event came in.
    """

    def __init__(self, on_shed: OnShed = OnShed.CAP, grace_ns: Duration = GRACE_NS) -> None:
        """Order what `on_shed` says; from SIGTERM to SIGKILL it takes `grace_ns`."""
        self._on_shed = on_shed
        self._end = ("end", grace_ns // 1_000_000)
        self._is_powered = False

    def obey(self, event: SupplyEvent) -> list[Order]:
        """Return the orders that follow from `event`; a lease is in the clock the event came in."""
        match event:
            case Powered(until_ns=until_ns, fallback_mw=fallback_mw, full_mw=full_mw):
                self._is_powered = True
                return [
                    ("lease", until_ns),
                    ("fallback", share_ppm(fallback_mw, full_mw)),
                    ("share", guard.PPM),
                    ("start", 0),
                ]
            case Lease(until_ns=until_ns):
                return [("lease", until_ns)]
            case Ceiling(limit_mw=limit_mw, rated_mw=rated_mw):
                return self._shed(share_ppm(limit_mw, rated_mw))
            case Lost(returning=True):
                self._is_powered = False
                return [("share", 0)]
            case Lost() | Ended():
                return [self._end]
            case _:
                return []

    def _shed(self, share: int) -> list[Order]:
        if not self._is_powered:
            return []
        if share == guard.PPM or self._on_shed is OnShed.CAP:
            return [("share", share)]
        return [("share", 0)] if self._on_shed is OnShed.STOP else [self._end]


class Answers:
    """What the guard owes a word about, and until when; pure. Times as in the orders."""

    def __init__(self) -> None:
        """Expect nothing yet."""
        self._lease_ns = 0
        self._is_lapsed = True
        self._end_ns: int | None = None
        self._has_begun = False
        self._is_ending = False
        self._patience_ns = 0

    def ordered(self, order: Order, now: Instant) -> None:
        """Note what the guard was told at `now`."""
        match order:
            case ("lease", until_ns):
                self._lease_ns = until_ns
            case ("end", grace_ms) if not self._is_ending:
                self._is_ending = True
                self._patience_ns = grace_ms * 1_000_000 + round(GUARD_PATIENCE_S * NS_PER_S)
                # one that is not up yet has nothing to end
                self._end_ns = now + (ANSWER_NS if self._has_begun else self._patience_ns)

    def heard(self, verb: str, now: Instant) -> None:
        """Note what the guard said at `now`."""
        self._has_begun = True
        match verb:
            case "started" | "restored":
                self._is_lapsed = False
            case "lapsed":
                self._is_lapsed = True
            case "ending":
                self._end_ns = now + self._patience_ns

    @property
    def is_ending(self) -> bool:
        """Whether the end was ordered."""
        return self._is_ending

    # PTCP-5-06
    def due_ns(self) -> Instant | None:
        """Return when the guard is taken for stopped unless it speaks; None while it owes nothing."""
        if self._is_ending:
            return self._end_ns
        return None if self._is_lapsed else self._lease_ns + ANSWER_NS


class GuardLink:
    """The consumer's end of the socket to a guard; sending never waits."""

    def __init__(self, wire: socket.socket) -> None:
        """Take over `wire`."""
        self._wire = wire
        self._wire.settimeout(0.0)
        self._rest = b""

    def tell(self, verb: str, value: int) -> bool:
        """Send one order; False when the guard takes no more. That it died, `hear` says."""
        if verb == "lease":
            value += guard.now_ns() - round(trio.current_time() * NS_PER_S)
        try:
            self._wire.send(f"{verb} {value}\n".encode())
        except BlockingIOError:
            return False
        except OSError as error:
            log.debug("the guard is gone: %s", error)
        return True

    async def hear(self) -> list[Order]:
        """Return what the guard said next; [] at the end of file."""
        while True:
            await trio.lowlevel.wait_readable(self._wire)
            said = self.hear_now()
            if said is not None:
                return said

    def hear_now(self) -> list[Order] | None:
        """Return what waits, [] at the end of file, None when nothing waits."""
        try:
            data = self._wire.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if data and not lines:
            return None
        return [(line.split()[0].decode(), int(line.split()[1])) for line in lines]

    def hang_up(self) -> None:
        """Say nothing more: the guard kills what it holds at once, and says so."""
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket: the guard kills everything it still holds."""
        self._wire.close()


def marked_processes(mark: str) -> list[int]:
    """Return the processes of this user that carry `mark` in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                environment = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if wanted in environment.split(b"\0"):
                found.append(int(entry))
    return found


def kill_marked(mark: str) -> int:
    """Kill every process that carries `mark`, and those they fork meanwhile; returns how many."""
    killed: set[int] = set()
    while True:
        fresh = [pid for pid in marked_processes(mark) if pid not in killed]
        if not fresh:
            return len(killed)
        for pid in fresh:
            guard.signal_quietly(pid, signal.SIGKILL)
        killed.update(fresh)


class CommandLoad:
    """Runs a command while it is powered.

    argv: the command and its arguments, or one string that is split as a shell would.
    on_shed: cap (throttle in proportion), stop (pause) or term (end) while shed.
    root: where /proc and the control groups are found. grace_ns: from SIGTERM to SIGKILL.
    out: descriptor of its standard output, default ours.
    name: the command with its process id once it runs. pid: that id, 0 before. guard_pid and
    warden_pid: the processes that hold it, see guard.py.
    Raises ConfigError when the command is empty or `on_shed` unknown.
    """

    wants_samples = False

    def __init__(
        self,
        argv: Sequence[str] | str,
        *,
        on_shed: str = "cap",
        root: str = "/",
        grace_ns: Duration = GRACE_NS,
        out: int | None = None,
    ) -> None:
        """Check the words; nothing is started before `run`."""
        try:
            self.argv = shlex.split(argv) if isinstance(argv, str) else list(argv)
        except ValueError as error:
            raise ConfigError("--run", str(argv), str(error)) from error
        if not self.argv:
            raise ConfigError("--run", str(argv), "no command")
        try:
            self._on_shed = OnShed(on_shed)
        except ValueError as error:
            choices = ", ".join(OnShed)
            raise ConfigError("--on-shed", on_shed, f"not one of {choices}") from error
        self.name = os.path.basename(self.argv[0])[:24]
        self.pid = 0
        self.guard_pid = 0
        self.warden_pid = 0
        self._root = root
        self._grace_ns = grace_ns
        self._out = out
        self._group: Group | None = None
        self._status: int | None = None
        self._failure = 0
        self._link: GuardLink | None = None
        self._guard_fd: int | None = None
        self._answers = Answers()
        self._patience = trio.CancelScope()
        self._is_deaf = self._is_over = False

    def hurry(self) -> None:
        """End the command at once, whatever is left of its grace."""
        if self._link is not None:
            self._link.hang_up()

    def cpu_time_us(self) -> int | None:
        """CPU time of the command and all its children; None without a control group."""
        if self._group is None:
            return None
        try:
            return self._group.cpu_time_us()
        except HostError:
            return None

    async def run(self, supply: SupplyChannel) -> int:
        """Hold the command under a guard until either ends.

        Returns its status if it ended by itself, 128 + n if signal n of others killed it, and 0
        if it was ended here. Raises HostError when it cannot be run.
        After cancellation it was sent SIGTERM, and SIGKILL after the grace; no process is left.
        """
        if shutil.which(self.argv[0]) is None:
            raise HostError(errno.ENOENT, self.argv[0], "run the command")
        mark = f"{os.getpid()}-{time.monotonic_ns()}"
        try:
            self._group = Group.create(f"powertcp-load-{mark}", self._root)
        except HostError as error:
            log.info("the command is stopped by signals: %s", error)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await self._open_guard(theirs, mark)
        except BaseException:
            ours.close()
            if self._group is not None:
                self._group.remove()
            raise
        link = self._link = GuardLink(ours)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, supply, link)
                await self._listen(link)
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(self._grace_ns / NS_PER_S + 3 * GUARD_PATIENCE_S, shield=True):
                await self._finish(link, process)
            self._sweep(link, process, mark)
        if self._failure:
            raise HostError(self._failure, self.argv[0], "run the command")
        if self._status is None:
            return 0 if self._answers.is_ending else KILLED
        return self._status

    async def _open_guard(self, theirs: socket.socket, mark: str) -> trio.Process:
        group = "-" if self._group is None else self._group.path
        process = await launch(
            guard.__file__,
            [group, *self.argv],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, MARK: mark},
            out=self._out,
        )
        self.warden_pid = process.pid
        return process

    async def _obey(self, supply: SupplyChannel, link: GuardLink) -> None:
        """Turn Supply events into orders; the end of the channel is Ended."""
        orders = Orders(self._on_shed, self._grace_ns)
        async for event in supply:
            self._tell_operator(event)
            for order in orders.obey(event):
                self._tell(link, order)
            if isinstance(event, Ended):
                return
        self._tell(link, orders.obey(Ended())[0])

    def _tell(self, link: GuardLink, order: Order) -> None:
        """Order something, and expect an answer where one is due."""
        self._answers.ordered(order, _now_ns())
        if link.tell(*order):
            self._patience.deadline = self._deadline()
        else:
            # a guard that does not read cannot keep the lease
            self._is_deaf = True
            self._patience.cancel()

    def _deadline(self) -> float:
        due = self._answers.due_ns()
        return math.inf if due is None else due / NS_PER_S

    async def _hear(self, link: GuardLink) -> list[Order]:
        """Return what the guard said next; [] when it is gone, or stopped and now killed."""
        if not self._is_deaf:
            with trio.CancelScope(deadline=self._deadline()) as self._patience:
                return await link.hear()
            said = link.hear_now()
            if said is not None:
                return said
        log.warning("%s: the guard does not answer; killing what it holds", self.name)
        if self.guard_pid:
            guard.signal_quietly(self.guard_pid, signal.SIGKILL)
        return []

    async def _listen(self, link: GuardLink) -> None:
        """Note what the guard says, until it has nothing more to say."""
        while said := await self._hear(link):
            for verb, value in said:
                self._answers.heard(verb, _now_ns())
                match verb:
                    case "guarding":
                        self.guard_pid = value
                        # gone already, or a kernel without: then nothing is waited for
                        with suppress(OSError):
                            self._guard_fd = os.pidfd_open(value)
                    case "started":
                        self.pid = value
                        self.name = f"{self.name}[{value}]"
                    case "failed":
                        self._failure = value
                    case "exited":
                        self._status, self._is_over = value, True
                        return
                    case "lapsed":
                        log.warning("%s: the lease is over", self.name)
                    case "restored":
                        log.info("%s: the lease is restored", self.name)
        self._is_over = True

    async def _finish(self, link: GuardLink, process: trio.Process) -> None:
        """End the command if it still runs, and wait for the guard to be gone."""
        if not self._is_over:
            self._tell(link, ("end", self._grace_ns // 1_000_000))
            await self._listen(link)
        link.close()
        with trio.move_on_after(GUARD_PATIENCE_S):
            await process.wait()
            # no child of ours: where the warden was killed, nobody waited for it
            if self._guard_fd is not None:
                await trio.lowlevel.wait_readable(self._guard_fd)
        if process.returncode is None:
            process.kill()
            await process.wait()

    def _sweep(self, link: GuardLink, process: trio.Process, mark: str) -> None:
        """Leave nothing behind, also where the guard was killed."""
        link.close()
        if self._guard_fd is not None:
            os.close(self._guard_fd)
            self._guard_fd = None
        if process.returncode is None:
            process.kill()
        if process.returncode != 0:
            log.warning("%s: the guard died; killing what it held", self.name)
            if self._group is not None:
                try:
                    self._group.kill()
                except HostError as error:
                    log.warning("%s", error)
            kill_marked(mark)
        if self._group is not None:
            self._group.remove()
            self._group = None

    def _tell_operator(self, event: SupplyEvent) -> None:
        match event:
            case Stale():
                log.warning("%s: the provider does not answer, running on the lease", self.name)
            case Fresh():
                log.info("%s: the provider answers again", self.name)
            case Lost(refusal=refusal) if refusal is not None:
                log.warning("%s: power lost, %s", self.name, refusal.sentence())
            case _:
                pass
