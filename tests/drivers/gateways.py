"""An employer's site of real processes: provider inside, gateway, and the words of its devices."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from powertcp.vppn.certificate import Certificate, issue_certificate
from powertcp.vppn.faults import tokens
from powertcp.vppn.identity import Algorithm, PublicKey, SecretKey
from powertcp.vppn.limits import parse_words
from tests.drivers.processes import Running, provider, running

GATE = SecretKey(Algorithm.X25519, bytes([0x31]) * 32)
INSIDE = SecretKey(Algorithm.X25519, bytes([0x32]) * 32)
ALICE = SecretKey(Algorithm.X25519, bytes([0x33]) * 32)
BOSS = SecretKey(Algorithm.ED25519, bytes([0x34]) * 32)
ALICE_LINE = f"key {ALICE.public} max-power=200W alice@lamp\n"


def write_key(path: Path, key: SecretKey) -> str:
    if not path.exists():
        path.touch(0o600)
        path.write_text(key.format())
    return str(path)


def certificate(
    limits: str = "max-power=65W",
    *,
    key: PublicKey = ALICE.public,
    name: str = "alice@lamp",
    begins: timedelta = timedelta(hours=-1),
    ends: timedelta = timedelta(hours=1),
    serial: int = 4711,
) -> bytes:
    now = datetime.now(UTC)
    return issue_certificate(
        Certificate(
            serial=serial,
            subject=key,
            name=name,
            groups=("staff",),
            limits=parse_words(tokens(limits))[0],
            not_before_s=round((now + begins).timestamp()),
            not_after_s=round((now + ends).timestamp()),
            issuer=BOSS.public,
        ),
        BOSS,
    )


@dataclass
class Gate:
    """A gateway that runs. words: of its devices."""

    process: Running
    address: str
    folder: Path
    watts: Path
    keys: Sequence[str] = ()
    states: dict[str, Path] = field(default_factory=dict)

    @property
    def control(self) -> str:
        return f"gateway-{self.process.pid}.sock"

    def device(
        self, *words: str, power: str = "12V/2A", time: str = "2s", name: str = "device"
    ) -> tuple[str, ...]:
        """Return the words of a consumer that draws through this gateway."""
        state = ("--state-dir", str(self.folder / name))
        seal = ("--vppn", self.address, "--peer", str(GATE.public))
        key = ("--key", write_key(self.folder / "alice", ALICE)) if "--key" not in words else ()
        wish = ("--request", power, "--for", time) if time else ("--request", power)
        return ("consumer", *seal, *key, *state, *wish, *words)


@asynccontextmanager
async def inside(
    folder: Path, *words: str, supply: str = "12V/20A", name: str = "inside"
) -> AsyncIterator[tuple[Running, str]]:
    """Run a provider inside, with its books in a folder of its own."""
    state = ("--supply", supply, "--state-dir", str(folder / name))
    async with provider(folder, *state, *words) as found:
        yield found


@asynccontextmanager
async def gateway(
    folder: Path,
    upstream: str,
    *words: str,
    authorized: str = ALICE_LINE,
    listen: str = "127.0.0.1:0",
    name: str = "gate",
) -> AsyncIterator[Gate]:
    """Run a gateway to `upstream`, "" for none but those of `words`."""
    watts = folder / "authorized_watts"
    watts.write_text(authorized)
    watts.chmod(0o644)
    given = ("--upstream", upstream) if upstream else ()
    async with running(
        folder, "vppn", "gateway", "--listen", listen, *given,
        "--key", write_key(folder / "gate.key", GATE), "--authorized", str(watts),
        "--state-dir", str(folder / name), *words,
    ) as one:  # fmt: skip
        listening = await one.until("listening")
        yield Gate(one, listening["addresses"][0], folder, watts)


def books(state: Path, *words: str) -> list[dict[str, Any]]:
    """Return what `powertcp ledger WORDS --json` says of the books in `state`."""
    command = [sys.executable, "-m", "powertcp", "ledger", *words]
    ran = subprocess.run(
        [*command, "--state-dir", str(state), "--json"], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]
