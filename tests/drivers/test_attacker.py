"""The hostile provider as a process: what it says it sent is what arrives."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from powertcp.dve import EnergyRegister, integrate
from powertcp.registry import Flag
from powertcp.wire.frames import (
    MAX_MSP,
    Splitter,
    credit_segment,
    decode_segment,
    encode_segment,
)
from powertcp.wire.options import Sampling
from powertcp.wire.segments import Control, Data

ROOT = Path(__file__).parents[2]


class Victim:
    """A sink that has asked for nothing: it counts, grants `credit_uj` and answers FIN."""

    def __init__(self, credit_uj: int) -> None:
        self.register = EnergyRegister(Sampling(1000))
        self.credit_uj = credit_uj
        self.first = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        splitter = Splitter(MAX_MSP)
        async with stream:
            await stream.send_all(credit_segment(1, 0, self.credit_uj))
            while octets := await stream.receive_some(65536):
                for raw in splitter.receive(octets):
                    segment = decode_segment(raw)
                    if isinstance(segment, Data):
                        self.register.add(integrate(segment.payload))
                        self.first.set()
                    if isinstance(segment, Control) and segment.flags == Flag.FIN:
                        await stream.send_all(
                            encode_segment(Control(1, Flag.FIN | Flag.ACK, self.register.esn_uj))
                        )


@asynccontextmanager
async def attacking(*words: str) -> AsyncIterator[trio.Process]:
    """Run the attacker; it is ended by its own pid."""
    command = (sys.executable, "-m", "tests.drivers.attacker", *words)
    async with trio.open_nursery() as nursery:
        run: Any = trio.run_process
        start = partial(run, command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
        process: trio.Process = await nursery.start(start)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)


class Told:
    """The JSON lines that a process prints."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self._pipe, self._kept = process.stdout, b""

    async def next(self) -> dict[str, Any]:
        while b"\n" not in self._kept:
            octets = await self._pipe.receive_some(65536)
            assert octets, "it ended without a word"
            self._kept += octets
        line, _, self._kept = self._kept.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said


@pytest.mark.parametrize(
    ("words", "credit_uj", "sent_uj"),
    [
        (("--power", "1kW", "--for", "500ms"), 10**12, 500_000_000),
        (("--power", "1kW", "--for", "500ms"), 123_456_789, 123_456_789),
        (("--power", "2kW", "--for", "300ms", "--ignore-credit"), 1, 600_000_000),
    ],
)
async def test_what_it_says_it_sent_arrives(
    words: tuple[str, ...], credit_uj: int, sent_uj: int
) -> None:
    victim = Victim(credit_uj)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, victim.serve, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]
        async with attacking("127.0.0.1", str(port), *words) as process:
            told = Told(process)
            assert (await told.next())["event"] == "connected"
            done = await told.next()
        nursery.cancel_scope.cancel()
    assert done["sent_uj"] == victim.register.esn_uj == sent_uj
    assert (done["end"], done["credit_uj"], done["claimed_uj"]) == ("over", credit_uj, 0)
    assert done["answers"] == {"Credit": 1, "Control": 1}


async def test_it_waits_for_who_connects_and_tells_what_it_sent_when_it_is_ended() -> None:
    victim = Victim(10**12)
    async with attacking("127.0.0.1", "0", "--listen", "--for", "1h", "--claim", "10") as process:
        told = Told(process)
        port = (await told.next())["port"]
        async with trio.open_nursery() as nursery:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            nursery.start_soon(victim.serve, stream)
            assert (await told.next())["event"] == "connected"
            await victim.first.wait()
            process.send_signal(signal.SIGTERM)
            done = await told.next()
    assert done["end"] == "ended"
    assert done["sent_uj"] == victim.register.esn_uj >= 100_000_000
    assert done["claimed_uj"] == 9 * (done["sent_uj"] - 100_000_000)
