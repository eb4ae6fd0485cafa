"""Daemons whose standard output takes nothing: the power stays on."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.drivers.processes import provider

CLOSED = "<&- >&- 2>&-"


@pytest.mark.parametrize("where", [">/dev/full", ">/dev/full 2>&1", CLOSED, "| true"])
@pytest.mark.parametrize("words", ["", "--json"])
async def test_a_consumer_that_cannot_speak_is_powered_to_the_end(
    tmp_path: Path, where: str, words: str
) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (one, address):
        command = f"{sys.executable} -m powertcp consumer --connect {address}"
        command += f" --request 12V/1A --for 1s {words} {where}"
        ran = await trio.run_process(
            ["bash", "-c", f"set -o pipefail; {command}"],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            check=False,
        )
        assert ran.returncode == 0
        assert "Traceback" not in one.log


async def test_a_provider_without_streams_serves(tmp_path: Path) -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    words = f"-m powertcp provider --supply 12V/5A --listen {address} {CLOSED}"
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(trio.run_process, env=environment),
            ["bash", "-c", f"exec {sys.executable} {words}"],
        )
        with trio.fail_after(30):
            status = 3
            while status == 3:
                asked = ["--connect", address, "--request", "12V/1A", "--for", "1s"]
                ran = await trio.run_process(
                    [sys.executable, "-m", "powertcp", "consumer", *asked],
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                )
                status = ran.returncode
        assert status == 0
        process.terminate()
