"""The guard: a small process of its own that holds a powered command and outlives its consumer.

Run as `python -I -S SCRIPT guard.py CODE WORDS FD` by `powertcp.loads.command`; the standard
library only, so that it starts at once and nothing of the house can fail in it. CODE and WORDS
are descriptors as launch.py says, the words the path of an empty control group of version 2 or
`-`, then the command. FD is one end of a socket pair.

Lines from the consumer, each a verb and one integer:

    start 0         run the command, in a session of its own
    share PPM       draw at most this share of what it would draw; 0 pauses it
    fallback PPM    the share that stays when the lease is over; 0 pauses it
    lease NS        the lease lasts until this instant of CLOCK_BOOTTIME, which a suspend counts
    end MS          SIGTERM now, SIGKILL after so many milliseconds

Lines to the consumer: `guarding PID` of the guard, `started PID` of the command, `failed ERRNO`,
`lapsed 0`, `restored 0`, `ending 0`, and as the last one `exited STATUS` (0 when we ended it,
128 + n when a signal of others did).

What holds whatever happens:
- End of file on FD (the consumer died, even by SIGKILL) kills the whole tree at once.
- A lease that nobody renews caps or pauses the tree, also while the consumer is stopped.
- The guard is the reaper of all descendants, so that a daemon that left its session is found.
- Should the guard itself be killed, the kernel kills the command (PR_SET_PDEATHSIG), and its
  parent, the warden, which the rest falls to, kills that. The warden does so too when the
  consumer is gone and the guard has not ended, for example because it is stopped. Should the
  warden be killed, the guard kills its tree.
- Where the system lets it, the guard runs before ordinary processes: one that waits for a core
  keeps neither a share nor the end of a lease. The command gets back what it would have had.

A share is kept by stopping and continuing the whole tree in turn, about ten times a second, with
the control group's freezer where there is one and with SIGSTOP and SIGCONT elsewhere. That is a
share of what the command would use by itself, however many threads and processes it has; a quota
would bound a number of cores instead.
"""

import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

PPM = 1_000_000
PERIOD_NS = 100_000_000
# a slice shorter than this drowns in the latency of stopping a process
SLICE_NS = 5_000_000
MAX_PERIOD_NS = 1_000_000_000
# periods: a guard that comes late on a busy machine makes up for it, up to so much
MAX_DEBT = 4
# a suspended machine stops poll's clock: look at the lease at least this often
MAX_WAIT_NS = 500_000_000
KILL_PATIENCE_NS = 2_000_000_000
MAX_LINE = 256
# a guard that is stopped has so long after the end of its consumer
WARDEN_PATIENCE_MS = 1_000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def now_ns() -> int:
    """Return CLOCK_BOOTTIME, which goes on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def set_process_option(option: int, value: int) -> None:
    """Call prctl(2); OSError when the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def run_first() -> int:
    """Run this process before ordinary ones, if that is allowed; returns the niceness it had.

    It is not inherited, and a policy that the user chose for us is left alone.
    """
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
        try:
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, lowest)
        except OSError:
            return niceness
    return niceness


def restore_niceness(niceness: int) -> None:
    """Give a child of ours the niceness that `run_first` returned."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except OSError:
        # below 0 and not allowed: it runs at 0
        return


def period_ns(share: int) -> int:
    """Return the length of one on-off period for a share of 1..PPM-1."""
    shorter = min(share, PPM - share)
    return min(MAX_PERIOD_NS, max(PERIOD_NS, SLICE_NS * PPM // shorter))


class Duty:
    """On and off in turn so that the share holds over time, late wake-ups included.

    What one slice had too much is taken from the next: `debt_ns` is time on above the share.
    """

    def __init__(self) -> None:
        """Begin without debt."""
        self.debt_ns = 0

    def account(self, share: int, elapsed_ns: int, is_running: bool) -> None:
        """Note that the tree ran, or stood, for `elapsed_ns` while `share` was due."""
        due = share * elapsed_ns // PPM
        debt = self.debt_ns + (elapsed_ns if is_running else 0) - due
        bound = MAX_DEBT * period_ns(share)
        self.debt_ns = max(-bound, min(bound, debt))

    def next_slice(self, share: int, is_running: bool) -> int:
        """Return how long the slice that begins now shall last."""
        period = period_ns(share)
        on = share * period // PPM
        if is_running:
            return max(SLICE_NS // 5, on - self.debt_ns)
        return max(SLICE_NS // 5, self.debt_ns * PPM // share)


class Supply:
    """What the consumer said last: pure, so that it is tested without a process."""

    def __init__(self) -> None:
        """Begin without a lease, which is a lapsed one."""
        self.wants_start = False
        self.share = PPM
        self.fallback = 0
        self.lease_ns = 0
        self.is_lapsed = False
        self.grace_ms: int | None = None

    def obey(self, line: str) -> None:
        """Take one line; ValueError when it is none of ours."""
        verb, _, text = line.partition(" ")
        value = int(text)
        match verb:
            case "start":
                self.wants_start = True
            case "share":
                self.share = max(0, min(PPM, value))
            case "fallback":
                self.fallback = max(0, min(PPM, value))
            case "lease":
                self.lease_ns = value
            case "end":
                self.grace_ms = max(0, value)
            case _:
                raise ValueError(line)

    # PTCP-5-06
    def check_lease(self, now: int) -> bool:
        """Compare the lease with the clock; True when it lapsed or was restored just now."""
        was_lapsed, self.is_lapsed = self.is_lapsed, now >= self.lease_ns
        return was_lapsed != self.is_lapsed

    def effective_share(self) -> int:
        """Return the share that is due now, in PPM."""
        return min(self.share, self.fallback) if self.is_lapsed else self.share


class Tree:
    """The command and all that descends from it."""

    def __init__(self, group: str | None) -> None:
        """Hold nothing yet; `group` is an empty control group, None where there is none."""
        self.group = group
        self.niceness = 0
        self.pid = 0
        self.status: int | None = None
        self.is_running = True

    def start(self, argv: Sequence[str]) -> int:
        """Run the command, stopped at nothing; returns 0, or the errno of exec."""
        go_r, go_w = os.pipe()
        fail_r, fail_w = os.pipe()
        guard = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(go_w)
            _become(argv, guard, self.niceness, go_r, fail_w)
        os.close(go_r)
        os.close(fail_w)
        self.pid = pid
        if self.group is not None:
            try:
                write_file(f"{self.group}/cgroup.procs", str(pid))
            except OSError:
                self.group = None
        os.write(go_w, b"g")
        os.close(go_w)
        with os.fdopen(fail_r, "rb") as failed:
            text = failed.read()
        return int(text or b"0")

    def descendants(self) -> list[int]:
        """Return every process below this one, the command first."""
        found: list[int] = []
        waiting = [os.getpid()]
        while waiting:
            children = children_of(waiting.pop())
            found += children
            waiting += children
        return found

    def run(self, is_running: bool) -> None:
        """Let the whole tree go on, or stop it."""
        if is_running == self.is_running:
            return
        self.is_running = is_running
        if self.group is not None:
            try:
                write_file(f"{self.group}/cgroup.freeze", "0" if is_running else "1")
            except OSError:
                self.group = None
            else:
                return
        self.signal_all(signal.SIGCONT if is_running else signal.SIGSTOP)

    def signal_all(self, number: int) -> None:
        """Signal every descendant, those too that are born meanwhile."""
        seen: set[int] = set()
        if self.pid and self.status is None:
            signal_quietly(-self.pid, number)
        while True:
            fresh = [pid for pid in self.descendants() if pid not in seen]
            if not fresh:
                return
            for pid in fresh:
                signal_quietly(pid, number)
            seen.update(fresh)

    def terminate(self) -> None:
        """Ask the whole tree to end; stopped processes are continued to hear it."""
        self.run(is_running=True)
        self.signal_all(signal.SIGTERM)
        self.signal_all(signal.SIGCONT)

    def reap(self) -> bool:
        """Collect the dead; False when no process is left at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """Kill everything at once and wait until it is dead, KILL_PATIENCE_NS at most."""
        deadline = now_ns() + KILL_PATIENCE_NS
        if self.group is not None:
            try:
                write_file(f"{self.group}/cgroup.kill", "1")
            except OSError:
                self.group = None
        while True:
            self.signal_all(signal.SIGKILL)
            if not self.reap() or now_ns() > deadline:
                break
            time.sleep(0.002)
        if self.group is not None:
            try:
                os.rmdir(self.group)
            except OSError:
                return


def write_file(path: str, text: str) -> None:
    """Write a kernel file in one write."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def signal_quietly(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def children_of(pid: int) -> list[int]:
    """Return the children of all threads of a process; [] when it is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
        except OSError:
            continue
    return found


def _become(argv: Sequence[str], guard: int, niceness: int, go: int, failed: int) -> None:
    """Turn the forked child into the command; never returns."""
    try:
        os.setsid()
        restore_niceness(niceness)
        set_process_option(PR_SET_PDEATHSIG, signal.SIGKILL)
        # the guard died before prctl: nobody would kill us any more
        if os.getppid() != guard or os.read(go, 1) != b"g":
            os._exit(127)
        for number in (
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGPIPE,
            signal.SIGXFSZ,
            signal.SIGCHLD,
        ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], list(argv))  # noqa: S606 - the command the user asked for, no shell
    except OSError as error:
        os.write(failed, str(error.errno or 1).encode())
    os._exit(127)


class Guard:
    """The loop between the socket, the clock and the tree."""

    def __init__(self, wire: socket.socket, tree: Tree, argv: Sequence[str]) -> None:
        """Guard `argv` for the consumer at the other end of `wire`."""
        self.wire = wire
        self.tree = tree
        self.argv = argv
        self.supply = Supply()
        self.duty = Duty()
        self.rest = b""
        self.has_started = False
        self.is_ending = False
        self.kill_ns: int | None = None
        self.flip_ns = 0
        self.seen_ns = now_ns()

    def say(self, line: str) -> None:
        """Tell the consumer; one that does not listen is no reason to stop."""
        try:
            self.wire.send(line.encode() + b"\n", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return

    def hear(self) -> bool:
        """Take what the consumer wrote; False at the end of file."""
        try:
            data = self.wire.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.supply.obey(line.decode("ascii"))
        return len(self.rest) <= MAX_LINE

    def begin(self) -> bool:
        """Start the command once it is wanted; False when it cannot be started."""
        self.has_started = True
        error = self.tree.start(self.argv)
        if error:
            self.tree.kill()
            self.say(f"failed {error}")
            return False
        self.seen_ns = now_ns()
        self.throttle(self.seen_ns)
        self.say(f"started {self.tree.pid}")
        if self.supply.is_lapsed:
            self.say("lapsed 0")
        return True

    def throttle(self, now: int) -> None:
        """Stop or continue the tree as the share in force asks."""
        share = self.supply.effective_share()
        elapsed, self.seen_ns = now - self.seen_ns, now
        if share in (0, PPM):
            self.duty.debt_ns = 0
            self.flip_ns = 0
            self.tree.run(is_running=share == PPM)
            return
        self.duty.account(share, elapsed, self.tree.is_running)
        if now < self.flip_ns:
            return
        self.tree.run(is_running=self.flip_ns == 0 or not self.tree.is_running)
        self.flip_ns = now + self.duty.next_slice(share, self.tree.is_running)

    def step(self) -> bool:
        """Do what is due; False when all is over."""
        now = now_ns()
        if self.supply.check_lease(now) and self.has_started:
            self.say("lapsed 0" if self.supply.is_lapsed else "restored 0")
        if self.supply.grace_ms is not None and not self.is_ending:
            self.is_ending = True
            self.kill_ns = now + self.supply.grace_ms * 1_000_000
            self.say("ending 0")
            if self.has_started:
                self.tree.terminate()
        if not self.has_started:
            if self.is_ending:
                return False
            return not self.supply.wants_start or self.begin()
        self.tree.reap()
        if self.tree.status is not None:
            return False
        if self.is_ending:
            return self.kill_ns is None or now < self.kill_ns
        self.throttle(now)
        return True

    def wait_ms(self) -> int:
        """Return how long nothing is due, rounded up so that the loop does not spin."""
        now = now_ns()
        due = [now + MAX_WAIT_NS]
        if not self.supply.is_lapsed and self.supply.lease_ns:
            due.append(self.supply.lease_ns)
        if self.kill_ns is not None:
            due.append(self.kill_ns)
        elif self.has_started and self.flip_ns:
            due.append(self.flip_ns)
        return max(0, -((now - min(due)) // 1_000_000))

    def exit_status(self) -> int:
        """Return what the consumer shall exit with."""
        status = self.tree.status
        if self.is_ending or status is None:
            return 0
        return status if status >= 0 else 128 - status

    def serve(self, wakeup: int, warden: int) -> None:
        """Guard until the command, the consumer, the warden or the power is gone."""
        poller = select.poll()
        for descriptor in (self.wire.fileno(), wakeup, warden):
            poller.register(descriptor, select.POLLIN)
        self.say(f"guarding {os.getpid()}")
        is_heard = True
        try:
            while is_heard and self.step():
                for descriptor, _ in poller.poll(self.wait_ms()):
                    if descriptor == wakeup:
                        os.read(wakeup, 4096)
                    else:
                        is_heard = is_heard and descriptor != warden and self.hear()
        finally:
            if self.has_started:
                self.tree.kill()
        self.say(f"exited {self.exit_status()}")


def watch_children() -> int:
    """Return a descriptor that is readable after a child ended."""
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return wake_r


def ward(wire: socket.socket, tree: Tree, wakeup: int) -> bool:
    """Wait for the guard, `tree.pid`, then kill what it left; True if it ended well."""
    poller = select.poll()
    poller.register(wakeup, select.POLLIN)
    # a hang-up only: what the consumer says is for the guard
    poller.register(wire.fileno(), 0)
    deadline = 0
    while tree.reap() and tree.status is None:
        wait_ms = deadline - now_ns() // 1_000_000 if deadline else None
        if wait_ms is not None and wait_ms <= 0:
            break
        for descriptor, _ in poller.poll(wait_ms):
            if descriptor == wakeup:
                os.read(wakeup, 4096)
            else:
                deadline = now_ns() // 1_000_000 + WARDEN_PATIENCE_MS
                poller.unregister(descriptor)
    is_well = tree.status == 0
    tree.kill()
    return is_well


def read_words(descriptor: int) -> list[str]:
    """Return what we were told, and close the descriptor."""
    with os.fdopen(descriptor, "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]


def main(arguments: Sequence[str]) -> int:
    """Guard one command; see the top of this file."""
    code, words, descriptor = map(int, arguments[1:])
    os.close(code)
    group, *argv = read_words(words)
    wire = socket.socket(fileno=descriptor)
    wire.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    set_process_option(PR_SET_CHILD_SUBREAPER, 1)
    tree = Tree(None if group == "-" else group)
    alive_r, alive_w = os.pipe()
    tree.pid = os.fork()
    if tree.pid:
        os.close(alive_r)
        return 0 if ward(wire, tree, watch_children()) else 1
    os.close(alive_w)
    os.setsid()
    tree.niceness = run_first()
    set_process_option(PR_SET_CHILD_SUBREAPER, 1)
    Guard(wire, tree, argv).serve(watch_children(), alive_r)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
