"""Commands as processes of their own, their events read as they come; ended by their own pid."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from powertcp.drivers.control import Fields, ask

NEVER_S = 30
Facts = Mapping[str, Any]


class Running:
    """A `powertcp` command: the JSON lines it printed, its log, its process."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.events: list[Facts] = []
        self.log = ""
        self._silent = False
        self._news = trio.Event()

    @property
    def pid(self) -> int:
        return self.process.pid

    def names(self) -> list[str]:
        regular = ("readings", "receipt")
        return [name for one in self.events if (name := str(one.get("event"))) not in regular]

    def all(self, name: str) -> list[Facts]:
        return [one for one in self.events if one.get("event") == name]

    async def until(
        self,
        name: str,
        count: int = 1,
        *,
        when: Callable[[Facts], bool] = lambda _: True,
        within_s: float = NEVER_S,
    ) -> Facts:
        """Wait for the `count`th event of this name for which `when` holds."""
        found: list[Facts] = []

        def is_there() -> bool:
            found[:] = [one for one in self.all(name) if when(one)]
            return len(found) >= count

        await self._hear(f"{name} {count}", is_there, within_s)
        return found[count - 1]

    async def until_logged(self, text: str, count: int = 1) -> None:
        await self._hear(text, lambda: self.log.count(text) >= count)

    async def until_closed(self) -> None:
        """Wait for the end of its standard output."""
        await self._hear("end", lambda: self._silent)

    async def _hear(
        self, wanted: str, is_there: Callable[[], bool], within_s: float = NEVER_S
    ) -> None:
        """Wait until `is_there`; fail with all that was heard when it cannot come any more."""
        with trio.move_on_after(within_s):
            while not is_there() and not self._silent:
                await self._news.wait()
        if not is_there():
            raise AssertionError(f"no {wanted}: {self.names()}\n{self.events[-1:]}\n{self.log}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> int:
        """Wait for the process to end by itself; returns its exit status."""
        with trio.fail_after(NEVER_S):
            return await self.process.wait()

    async def read_events(self) -> None:
        out, rest = self.process.stdout, b""
        if out is None:
            return
        async for data in out:
            *lines, rest = (rest + data).split(b"\n")
            self.events += [json.loads(line) for line in lines]
            self._tell()
        self._silent = True
        self._tell()

    async def read_log(self) -> None:
        log = self.process.stderr
        if log is None:
            return
        async for data in log:
            self.log += data.decode("utf-8", "replace")
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def running(
    folder: Path, *words: str, before: Sequence[str] = (), **environment: str
) -> AsyncIterator[Running]:
    """Run `powertcp WORDS --json` with its sockets and state under `folder`.

    before: words that run it elsewhere, in a namespace of the test. Where there are none a provider
    announces itself to nobody.
    """
    quiet = ["--no-mdns"] if words[0] == "provider" and not before else []
    command = [*before, sys.executable, "-m", "powertcp", *words, *quiet, "--json"]
    environ = {"XDG_RUNTIME_DIR": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    async with process(command, **(environ | environment)) as one:
        yield one
    assert "a bug of powertcp" not in one.log, one.log


@asynccontextmanager
async def process(command: Sequence[str], **environment: str) -> AsyncIterator[Running]:
    """Run a command that prints JSON lines; it is ended by its own pid."""
    started: trio.Process = await trio.lowlevel.open_process(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    async with trio.open_nursery() as nursery:
        one = Running(started)
        nursery.start_soon(one.read_events)
        nursery.start_soon(one.read_log)
        try:
            yield one
        finally:
            with trio.CancelScope(shield=True):
                if started.returncode is None:
                    started.kill()
                await started.wait()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def provider(folder: Path, *words: str) -> AsyncIterator[tuple[Running, str]]:
    """Run a provider on a free port of the loopback; yields it with its address."""
    async with running(folder, "provider", "--listen", "127.0.0.1:0", *words) as one:
        listening = await one.until("listening")
        yield one, listening["addresses"][0]


async def asked(folder: Path, name: str, **request: object) -> Fields:
    """Ask the control socket `name` under `folder`; returns what it answered in "ok"."""
    path = folder / "powertcp" / name
    _, answer = await trio.to_thread.run_sync(partial(ask, path, request))
    found = answer["ok"]
    assert isinstance(found, dict)
    return found
