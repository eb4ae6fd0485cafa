"""Scene "light": a provider process, a consumer that powers a prime counter, live readings."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import trio

import powertcp
from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import parse_address
from powertcp.drivers.guide import Named, Place
from powertcp.drivers.panel import Panel
from powertcp.loads import primes
from powertcp.loads.command import CommandLoad
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_S, Duration, format_power

CYCLE_S = 20  # of a scene without end: full, halved from 30 %, full again from 65 %
HEADROOM_PERCENT = 125  # rating above the request: below 90 % load nobody is asked to save
GOODBYE_S = 5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SHELL = 'exec "$0" "$1" > "$2"'


class Light:
    """The scene; `run` plays it, `summary` says what was measured.

    request: what the process asks for. for_ns: how long, None until Ctrl-C.
    """

    def __init__(
        self, *, request: str, for_ns: Duration | None, panel: Panel, environ: Mapping[str, str]
    ) -> None:
        """Prepare the scene; nothing is started yet."""
        self._desired = PowerProfile.parse(request, ProfileType.REQUEST)
        self._for_ns = for_ns
        self._panel = panel
        self._environ = environ
        self._rating_mw = self._desired.power_mw * HEADROOM_PERCENT // 100
        self._now_mw = self._rating_mw
        self._primes = ""
        self._cpu: tuple[int, int] = (0, 0)
        self._rate_ppm = 0
        self._source_uj = self._sink_uj = 0
        self._grid: trio.Process | None = None
        self._load: CommandLoad | None = None
        self._consumer: Consumer | None = None
        self._rest = b""

    def summary(self) -> dict[str, int]:
        """Return both registers and the count."""
        digits = self._primes.split(" ")[0].replace(",", "")
        return {
            "source_uj": self._source_uj,
            "sink_uj": self._sink_uj,
            "difference_uj": self._source_uj - self._sink_uj,
            "primes": int(digits) if digits.isdecimal() else 0,
        }

    async def run(self) -> int:
        """Play the scene; returns the exit status. Leaves no process behind."""
        with tempfile.TemporaryDirectory(prefix="powertcp-") as folder:
            output = Path(folder) / "primes"
            self._grid = await self._start_grid()
            try:
                host, port = parse_address(str((await self._hear_grid())["listening"]))
                self._panel.say(
                    f"provider process {self._grid.pid} on {host}:{port},"
                    f" rated {format_power(self._rating_mw)}"
                )
                return await self._play(host, port, output)
            finally:
                with trio.move_on_after(GOODBYE_S, shield=True):
                    await self._end_grid(self._grid)
                if self._grid.returncode is None:
                    self._grid.kill()

    async def _play(self, host: str, port: int, output: Path) -> int:
        self._load = CommandLoad(
            ["sh", "-c", _SHELL, sys.executable, primes.__file__, str(output)], on_shed="cap"
        )
        self._load.name = "primes"
        least = self._desired.with_type(
            ProfileType.MINIMUM, current_ma=max(1, self._desired.current_ma // 10)
        )
        wishes = Wishes(
            guide=Named(Place(host=host, port=port)),
            asks=[Ask(self._desired, least)],
            for_ns=self._for_ns,
            give_up_ns=10 * NS_PER_S,
        )
        self._consumer = Consumer(wishes, [self._load], lambda *said: self._hear(output, *said))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._story)
            status = await self._consumer.run()
            nursery.cancel_scope.cancel()
        await self._tell_grid({"sums": True})
        self._source_uj = cast("int", (await self._hear_grid())["source_uj"])
        self._sink_uj = sum(each.energy_uj for each in self._consumer.appliances)
        return status

    async def _story(self) -> None:
        """Halve the rating and restore it, once or again and again."""
        length = self._for_ns or CYCLE_S * NS_PER_S
        start = now_ns()
        while True:
            for percent, rating_mw in ((30, self._rating_mw // 2), (65, self._rating_mw)):
                await trio.sleep_until((start + length * percent // 100) / NS_PER_S)
                self._now_mw = rating_mw
                word = "restored" if rating_mw == self._rating_mw else "halved"
                self._panel.say(f"rating {word}: {format_power(rating_mw)}")
                await self._tell_grid({"rating_mw": rating_mw})
            start += length

    def _hear(self, output: Path, event: str, facts: Mapping[str, object]) -> None:
        """Show what the consumer reports."""
        if event == "readings":
            self._count(output)
            power_mw = cast("int", facts["power_mw"])
            shown = {
                "rating_mw": self._now_mw,
                "rated_mw": self._desired.power_mw,
                "power_mw": power_mw,
                "energy_uj": cast("int", facts["energy_uj"]),
                "rate_ppm": self._rate_ppm,
            }
            volts = cast("int", facts.get("voltage_mv", 0)) / 1000
            amperes = cast("int", facts.get("current_ma", 0)) / 1000
            line = (
                f"{power_mw / 1000:6.2f} W  {volts:.2f} V  {amperes:.3f} A"
                f"  {shown['energy_uj'] / 1e6:,.3f} J"
                f"  lease {cast('int', facts['lease_ms']) // 1000} s  (simulated)"
            )
            share = f"CPU {self._rate_ppm / 1e4:3.0f} %"
            self._panel.show(shown, line, f"{share}  {self._primes or 'counting primes'}")
        elif event in ("ready", "shed", "refused", "tripped", "cut", "unreachable", "load failed"):
            power = facts.get("power_mw", facts.get("limit_mw"))
            size = f" {format_power(cast('int', power))}" if power is not None else ""
            reason = f": {facts['sentence']}" if facts.get("sentence") else ""
            self._panel.say(f"{event}{size}{reason}")

    def _count(self, output: Path) -> None:
        """Read how far the counter is and which share of a core it got since the last look."""
        load = self._load
        if load is None or not load.pid:
            return
        try:
            lines = output.read_text().splitlines()
            fields = Path(f"/proc/{load.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return
        if lines:
            self._primes = lines[-1]
        used, now = int(fields[11]) + int(fields[12]), now_ns()
        before, at = self._cpu
        if at and now > at:
            self._rate_ppm = (used - before) * 10**15 // (_TICKS_PER_S * (now - at))
        self._cpu = (used, now)

    async def _start_grid(self) -> trio.Process:
        root = str(Path(powertcp.__file__).parent.parent)
        path = os.pathsep.join(part for part in (root, self._environ.get("PYTHONPATH")) if part)
        supply = self._desired.with_type(ProfileType.OFFER, current_ma=60_000).format()
        process: trio.Process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "powertcp.drivers.grid", str(self._rating_mw), supply],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**self._environ, "PYTHONPATH": path},
        )
        return process

    async def _tell_grid(self, order: Mapping[str, object]) -> None:
        if self._grid is not None and self._grid.stdin is not None:
            try:
                await self._grid.stdin.send_all(json.dumps(order).encode() + b"\n")
            except trio.BrokenResourceError:
                self._panel.say("the provider process is gone")

    async def _hear_grid(self) -> dict[str, object]:
        """Return the next answer. Raises OSError when the provider process is gone."""
        while b"\n" not in self._rest:
            out = self._grid.stdout if self._grid is not None else None
            data = await out.receive_some() if out is not None else b""
            if not data:
                raise ConnectionError("the provider process ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, object] = json.loads(line)
        return answer

    async def _end_grid(self, grid: trio.Process) -> None:
        if grid.stdin is not None:
            await grid.stdin.aclose()
        await grid.wait()
