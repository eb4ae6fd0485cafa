"""The keeper: a small process of its own that writes power limits and always puts them back.

Run as `python -I -S SCRIPT keeper.py CODE WORDS` by `powertcp.loads.hostcap`; standard library
only. CODE and WORDS are descriptors as launch.py says, the words STATE and FLOOR:ORIGINAL:PATH of
each limit. STATE is a file that names the originals while any limit may differ from them. FLOOR
and ORIGINAL are microwatts; no limit is ever written that is not between them.

Lines on standard input, each a verb and one integer:

    cap UW          hold the zones to so many microwatts in total, shared as the originals are
    fallback UW     the cap that stays when the lease is over
    lease NS        the lease lasts until this instant of CLOCK_BOOTTIME

Lines on standard output: `ready 0` once STATE is written, `failed ERRNO` when a limit could not
be written, after which it restores and ends; `restored 0` as the last one.

End of file, from an orderly end or from SIGKILL of the consumer, restores every original and
removes STATE. Should the keeper itself be killed, the consumer restores; should both be, the next
consumer finds STATE, and takes the originals from it instead of from the kernel.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

MAX_WAIT_MS = 500


class Limit(NamedTuple):
    """One limit of the kernel: its file, and the bounds of what is written there."""

    floor_uw: int
    original_uw: int
    path: str


def parse_limit(text: str) -> Limit:
    """Read FLOOR:ORIGINAL:PATH."""
    floor, original, path = text.split(":", 2)
    return Limit(int(floor), int(original), path)


def shares_uw(cap_uw: int, limits: Sequence[Limit]) -> list[int]:
    """Share a cap among limits as their originals are; never above an original, nor below a floor."""
    total = sum(limit.original_uw for limit in limits)
    return [
        max(min(limit.floor_uw, limit.original_uw), min(limit.original_uw, part))
        for limit in limits
        for part in [cap_uw * limit.original_uw // total if total else 0]
    ]


class Caps:
    """What the consumer said last; pure."""

    def __init__(self) -> None:
        """Begin without a lease."""
        self.cap_uw = 0
        self.fallback_uw = 0
        self.lease_ns = 0

    def obey(self, line: str) -> None:
        """Take one line; ValueError when it is none of ours."""
        verb, _, text = line.partition(" ")
        value = int(text)
        match verb:
            case "cap":
                self.cap_uw = value
            case "fallback":
                self.fallback_uw = value
            case "lease":
                self.lease_ns = value
            case _:
                raise ValueError(line)

    # PTCP-5-06
    def effective_uw(self, now: int) -> int:
        """Return the cap in force at `now`."""
        if now >= self.lease_ns:
            return min(self.cap_uw, self.fallback_uw)
        return self.cap_uw


def write_limit(path: str, limit_uw: int) -> int:
    """Write one limit; returns 0 or the errno."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, str(limit_uw).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno or 1
    return 0


def write_state(path: str, limits: Sequence[Limit]) -> None:
    """Write the state file, whole or not at all."""
    text = json.dumps({"pid": os.getpid(), "original_uw": {x.path: x.original_uw for x in limits}})
    fresh = f"{path}.{os.getpid()}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    os.replace(fresh, path)


def restore(state: str, limits: Sequence[Limit]) -> bool:
    """Put every original back; the state file goes only when all of them are."""
    failed = [limit.path for limit in limits if write_limit(limit.path, limit.original_uw)]
    if failed:
        return False
    try:
        os.unlink(state)
    except FileNotFoundError:
        return True
    return True


def say(line: str) -> None:
    """Tell the consumer; it may be gone."""
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        return


def keep(limits: Sequence[Limit]) -> None:
    """Write limits as told and as the lease says, until the end of file or a failure."""
    caps = Caps()
    is_told = False
    rest = b""
    written: list[int] = []
    poller = select.poll()
    poller.register(0, select.POLLIN)
    while True:
        wanted = shares_uw(caps.effective_uw(time.clock_gettime_ns(time.CLOCK_BOOTTIME)), limits)
        if is_told and wanted != written:
            for limit, limit_uw in zip(limits, wanted, strict=True):
                if error := write_limit(limit.path, limit_uw):
                    say(f"failed {error}")
                    return
            written = wanted
        left_ms = (caps.lease_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1_000_000 + 1
        if not poller.poll(min(MAX_WAIT_MS, left_ms) if left_ms > 0 else MAX_WAIT_MS):
            continue
        data = os.read(0, 4096)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            caps.obey(line.decode("ascii"))
            is_told = True


def main(arguments: Sequence[str]) -> int:
    """Keep the limits named by the arguments; see the top of this file."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    code, words = map(int, arguments[1:])
    os.close(code)
    with os.fdopen(words, "rb") as file:
        state, *texts = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    limits = [parse_limit(text) for text in texts]
    try:
        write_state(state, limits)
    except OSError as error:
        say(f"failed {error.errno or 1}")
        return 1
    say("ready 0")
    try:
        keep(limits)
    finally:
        is_restored = restore(state, limits)
    if is_restored:
        say("restored 0")
    return 0 if is_restored else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
