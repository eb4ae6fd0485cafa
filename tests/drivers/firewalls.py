"""A firewall of its own process between real providers and consumers, and who attacks it."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powertcp.drivers.control import Fields
from tests.drivers.gateways import books
from tests.drivers.processes import Running, asked, process, running

POLICY = """\
reservoir main capacity 5kWh charge 95% discharge 95% max-in 2kW when-full stop
policy reclaim main
rule state invalid -> reject 506 log
rule sealed yes -> drop log
rule state unsolicited -> reclaim main limit 1kW burst 2kJ count attacks
rule direction in state new -> reject 204 log
rule power > 50W -> reject 204
rule direction out -> accept
"""


@dataclass
class Fire:
    """A firewall that runs. policy: its file, which may be written anew."""

    process: Running
    address: str
    folder: Path
    policy: Path
    name: str

    @property
    def control(self) -> str:
        return f"firewall-{self.process.pid}.sock"

    async def ask(self, **request: object) -> Fields:
        return await asked(self.folder, self.control, **request)

    def device(
        self, provider: str, *words: str, power: str = "12V/2A", time: str = "2s", name: str = "dev"
    ) -> tuple[str, ...]:
        """Return the words of a consumer that draws from `provider` through this firewall."""
        state = ("--state-dir", str(self.folder / name))
        wish = ("--request", power, "--for", time) if time else ("--request", power)
        return ("consumer", "--connect", provider, "--via", self.address, *state, *wish, *words)

    def accounts(self) -> dict[str, int]:
        """Return debit less credit of each account, of a ledger that verifies; nobody writes it."""
        books(self.folder / self.name, "verify", "--full")
        rows = books(self.folder / self.name, "show")
        return {str(row["account"]): row["debit"] - row["credit"] for row in rows}

    def events(self) -> list[dict[str, Any]]:
        """Return the audit log."""
        return books(self.folder / self.name, "show", "events")


@asynccontextmanager
async def firewall(
    folder: Path,
    *words: str,
    policy: str = POLICY,
    listen: str = "127.0.0.1:0",
    name: str = "fire",
    before: tuple[str, ...] = (),
) -> AsyncIterator[Fire]:
    """Run a firewall by `policy`."""
    file = folder / f"{name}.policy"
    file.write_text(policy)
    async with running(
        folder, "firewall", "run", str(file), "--listen", listen,
        "--state-dir", str(folder / name), *words, before=before,
    ) as one:  # fmt: skip
        listening = await one.until("listening")
        yield Fire(one, listening["addresses"][0], folder, file, name)


@asynccontextmanager
async def attacker(
    address: str, *words: str, before: tuple[str, ...] = ()
) -> AsyncIterator[Running]:
    """Attack the daemon at `address`; ended by its own pid. before: words that run it elsewhere."""
    host, _, port = address.rpartition(":")
    command = [sys.executable, "-m", "tests.drivers.attacker", host.strip("[]"), port, *words]
    async with process([*before, *command]) as one:
        yield one


def powertcp(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with the sockets under `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "powertcp", *words],
        capture_output=True, text=True, timeout=60, check=False,
        env=dict(os.environ)
        | {"XDG_RUNTIME_DIR": str(folder), "XDG_STATE_HOME": str(folder / "state"), "PATH": ""},
    )  # fmt: skip
