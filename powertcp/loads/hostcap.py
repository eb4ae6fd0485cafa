"""The whole host as a load: the kernel's power limits follow the power that is delivered.

A keeper, a small process of its own (see keeper.py), writes the limits: it lowers them when the
lease is over and restores the originals when this process ends, however it ends.
"""

import errno
import json
import logging
import os
import subprocess
from pathlib import Path

import trio

from powertcp.errors import BrokenInvariant, HostError
from powertcp.linux.rapl import find_zones
from powertcp.linux.sysfs import path_under, read_text
from powertcp.loads import guard, keeper
from powertcp.loads.events import Ceiling, Ended, Lease, Lost, Powered, SupplyChannel, SupplyEvent
from powertcp.loads.launch import launch
from powertcp.units import NS_PER_S

STATE_DIRECTORY = "/run/powertcp"
STATE_FILE = f"{STATE_DIRECTORY}/hostcap.json"
PATIENCE_S = 3.0
WANTED = "cap the power of this host"

log = logging.getLogger(__name__)

Order = tuple[str, int]


def orders_for(event: SupplyEvent) -> list[Order]:
    """Return what the keeper is told on `event`; a lease is in the clock the event came in."""
    match event:
        case Powered(profile=profile, until_ns=until_ns, fallback_mw=fallback_mw):
            return [
                ("lease", until_ns),
                ("fallback", fallback_mw * 1000),
                ("cap", profile.power_mw * 1000),
            ]
        case Lease(until_ns=until_ns):
            return [("lease", until_ns)]
        case Ceiling(limit_mw=limit_mw):
            return [("cap", limit_mw * 1000)]
        case Lost():
            return [("cap", 0)]
        case _:
            return []


def original_limits(root: str) -> list[keeper.Limit]:
    """Return the limits of this host as they were before any cap of ours.

    Raises HostError when the kernel has none, when one may not be written, or EBUSY while another
    consumer caps this host.
    """
    kept = _kept_originals(path_under(root, STATE_FILE))
    limits = []
    for zone in find_zones(root):
        if not os.access(zone.limit_path, os.W_OK):
            raise HostError(errno.EACCES, zone.limit_path, WANTED)
        original = kept.get(zone.limit_path)
        floor = zone.min_uw()
        limits.append(
            keeper.Limit(floor, zone.limit_uw() if original is None else original, zone.limit_path)
        )
    return limits


def _kept_originals(state: str) -> dict[str, int]:
    """Return what a keeper left behind that was killed together with its consumer."""
    if not os.path.exists(state):
        return {}
    try:
        kept = json.loads(read_text(state, WANTED))
        pid, originals = int(kept["pid"]), kept["original_uw"]
        found = {str(path): int(limit) for path, limit in originals.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(errno.EINVAL, state, f"{WANTED}: not a state file") from error
    if _is_keeper(pid):
        raise HostError(errno.EBUSY, state, f"{WANTED}: process {pid} does already")
    return found


def _is_keeper(pid: int) -> bool:
    try:
        return b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class HostCap:
    """Caps this host to the power that is granted; restores it on any exit.

    root: where /sys and /run are found.
    """

    name = "hostcap"
    wants_samples = False

    def __init__(self, *, root: str = "/") -> None:
        """Nothing is read or written before `run`."""
        self._root = root
        self._state = path_under(root, STATE_FILE)
        self.keeper_pid = 0

    async def run(self, supply: SupplyChannel) -> int:
        """Cap until Ended; 0. HostError when this host has no limits, or does not let us.

        After cancellation the original limits are in force.
        """
        limits = original_limits(self._root)
        process = await self._open_keeper(limits)
        failure: list[int] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, process, failure, nursery.cancel_scope)
                await self._obey(supply, process)
                nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(PATIENCE_S, shield=True):
                await self._close(process)
            self._restore(process, limits)
        if failure:
            raise HostError(failure[0], limits[0].path, WANTED)
        return 0

    async def _open_keeper(self, limits: list[keeper.Limit]) -> trio.Process:
        try:
            os.makedirs(os.path.dirname(self._state), mode=0o755, exist_ok=True)
        except OSError as error:
            raise HostError(error.errno or 0, self._state, WANTED) from error
        process = await launch(
            keeper.__file__,
            [self._state, *(f"{one.floor_uw}:{one.original_uw}:{one.path}" for one in limits)],
            pipe=subprocess.PIPE,
        )
        self.keeper_pid = process.pid
        return process

    async def _obey(self, supply: SupplyChannel, process: trio.Process) -> None:
        stdin = process.stdin
        if stdin is None:
            raise BrokenInvariant("the keeper was opened with a pipe")
        async for event in supply:
            now = round(trio.current_time() * NS_PER_S)
            text = ""
            for verb, value in orders_for(event):
                if verb == "lease":
                    value += guard.now_ns() - now
                text += f"{verb} {value}\n"
            if text:
                try:
                    await stdin.send_all(text.encode())
                except trio.BrokenResourceError:
                    # the keeper is gone; whoever watches it says why
                    await trio.sleep_forever()
            if isinstance(event, Ended):
                return

    async def _watch(
        self, process: trio.Process, failure: list[int], scope: trio.CancelScope
    ) -> None:
        """End the load when the keeper fails or dies."""
        stdout = process.stdout
        if stdout is None:
            raise BrokenInvariant("the keeper was opened with a pipe")
        said = b""
        while True:
            data = await stdout.receive_some(4096)
            said += data
            if not data:
                break
        errors = [line.split()[1] for line in said.splitlines() if line.startswith(b"failed ")]
        failure.append(int(errors[0]) if errors else errno.ECHILD)
        scope.cancel()

    async def _close(self, process: trio.Process) -> None:
        """Close the keeper's input: it restores and ends."""
        if process.stdin is not None:
            await process.stdin.aclose()
        await process.wait()

    def _restore(self, process: trio.Process, limits: list[keeper.Limit]) -> None:
        """Restore here what a killed keeper could not."""
        if process.returncode == 0:
            return
        process.kill()
        log.warning("the keeper of the power limits died; restoring them here")
        if not keeper.restore(self._state, limits):
            log.warning("a power limit could not be restored; originals are in %s", self._state)
