"""A live street of the tests: documents, and commands that run it, at addresses of its own."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.plans import format_topology, parse_topology
from tests.drivers.addresses import base_address
from tests.drivers.processes import Facts, Running, running

SUPPLY = "230V/16A@50Hz"
REQUEST = "230V/260mA@50Hz"


class Street:
    """The files of a street with three houses, and how its commands are run.

    provider: address of who gives the power, "" for the source itself.
    """

    def __init__(self, folder: Path, provider: str = "", market: str = "", more: str = "") -> None:
        self.folder = folder
        self.base = base_address()
        made = generate_topology("street:3", base=self.base, has_pdp=bool(market))
        text = format_topology(made)
        if more:
            # another source at the second substation
            assert "link = [\n" in text
            node, link = "]\nlink = [\n", '  {a = "es2", b = "s2", voltage = "110kV"},\n'
            text = text.replace(node, f"  {more},\n{node}{link}")
        if provider:
            plain = 'name = "es1", kind = "es", '
            assert plain in text
            text = text.replace(plain, f'{plain}provider = "{provider}", ')
        self.topology = parse_topology(text, "street")
        self.file, self.market = folder / "street.toml", folder / "market.toml"
        self.file.write_text(text)
        self.market.write_text(market)

    @property
    def names(self) -> list[str]:
        """Return the nodes that an lsr runs."""
        return [n.name for n in self.topology.nodes if n.kind.is_lsr or n.kind.value == "es"]

    @asynccontextmanager
    async def switched(self, *words: str) -> AsyncIterator[Running]:
        """Run nodes in one process; all of them without words."""
        nodes = words or ("--all",)
        plan = "--topology", str(self.file)
        async with running(self.folder, "mplamps", "lsr", *plan, *nodes) as one:
            await one.until("listening")
            yield one

    @asynccontextmanager
    async def switched_apart(self) -> AsyncIterator[dict[str, Running]]:
        """Run each node in a process of its own."""
        async with AsyncExitStack() as stack:
            started: dict[str, Running] = {}

            async def start(name: str) -> None:
                started[name] = await stack.enter_async_context(self.switched("--node", name))

            for name in self.names:
                await start(name)
            yield started

    @asynccontextmanager
    async def policed(self) -> AsyncIterator[Running]:
        """Run the policeman at his node."""
        words = "--topology", str(self.file), "--market", str(self.market)
        state = "--state-dir", str(self.folder / "police")
        async with running(self.folder, "mplamps", "pdp", *words, *state, "-v") as one:
            await one.until("listening")
            yield one

    def bills(self) -> list[dict[str, Any]]:
        """Return the lines of `pdp --bill --json`."""
        words = "--topology", str(self.file), "--market", str(self.market)
        state = "--state-dir", str(self.folder / "police")
        command = [sys.executable, "-m", "powertcp", "mplamps", "pdp", *words, *state]
        done = subprocess.run(
            [*command, "--bill", "--json"], capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    @asynccontextmanager
    async def lamp(self, name: str, *words: str) -> AsyncIterator[Running]:
        """Run a lamp."""
        plan = "--topology", str(self.file)
        async with running(self.folder, "mplamps", "lamp", "run", name, *plan, *words) as one:
            yield one

    @asynccontextmanager
    async def spliced(self, name: str, *words: str) -> AsyncIterator[tuple[Running, str]]:
        """Run a lamp that consumers connect to; yields it with its address."""
        async with self.lamp(name, "--splice", "127.0.0.1:0", *words) as one:
            listening = await one.until("listening")
            yield one, listening["addresses"][0]

    async def order(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run `powertcp mplamps lamp` with an order."""
        return await self._run("lamp", *words)

    async def police(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run `powertcp mplamps pdp` with an order."""
        return await self._run("pdp", *words)

    async def _run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        environ = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }
        return await trio.run_process(
            [sys.executable, "-m", "powertcp", "mplamps", *words],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environ,
        )


async def until_state(lamp: Running, state: str, count: int = 1) -> Facts:
    """Wait until a lamp is in a state, for the `count`th time."""
    return await lamp.until("lamp", count, when=lambda facts: facts["state"] == state)


def states(lamp: Running) -> list[str]:
    """Return the states of a lamp, one after the other."""
    return [str(facts["state"]) for facts in lamp.all("lamp")]
