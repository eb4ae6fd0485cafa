"""Daemons whose standard output takes nothing: the power stays on."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.drivers.processes import asked, provider, running

CLOSED = "<&- >&- 2>&-"
GOODBYE_S = 6  # from SIGTERM to the end: 1 s each for goodbyes, mDNS and the last lines, twice
UNREAD = pytest.mark.parametrize("unread", ["stdout", "stderr", "both"])


@contextmanager
def full_pipe() -> Iterator[int]:
    """Yield the writing end of a pipe that is full and that nobody reads."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        try:
            while True:
                os.write(writing, b"." * 4096)
        except BlockingIOError:
            os.set_blocking(writing, True)
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@asynccontextmanager
async def unheard(unread: str, folder: Path, *words: str) -> AsyncIterator[trio.Process]:
    """Run `powertcp WORDS` with the streams that `unread` names in a full pipe."""
    with full_pipe() as pipe:
        out, errors = (
            pipe if unread in (name, "both") else subprocess.DEVNULL
            for name in ("stdout", "stderr")
        )
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "powertcp", *words, "--json", "-v"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        )
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()


async def ends_soon(process: trio.Process) -> int:
    """Tell a process to end; returns its exit status, fails when it takes too long."""
    process.terminate()
    with trio.fail_after(GOODBYE_S):
        return await process.wait()


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


@UNREAD
async def test_a_consumer_that_nobody_reads_is_powered_beyond_its_lease(
    tmp_path: Path, unread: str
) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (one, address):
        connect = ["consumer", "--connect", address]
        request = ["--request", "12V/1A,lease=5s"]
        async with unheard(unread, tmp_path, *connect, *request) as process:
            # the other one is the clock: it lives longer than a lease
            async with running(tmp_path, *connect, "--request", "12V/1A", "--for", "7s") as two:
                assert await two.end() == 0
            status = await asked(tmp_path, f"provider-{one.pid}.sock", op="status", flows=True)
            flows = status["flows"]
            assert isinstance(flows, list)
            assert [flow["state"] for flow in flows] == ["energised"]
            assert await ends_soon(process) == 0
        assert "307 LEASE_EXPIRED" not in one.log


@UNREAD
async def test_a_provider_that_nobody_reads_serves_and_ends(tmp_path: Path, unread: str) -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    words = ["provider", "--supply", "12V/5A", "--listen", address]
    async with unheard(unread, tmp_path, *words) as process:
        request = ["--request", "12V/1A", "--for", "1s"]
        status = 3
        with trio.fail_after(20):
            while status == 3:
                async with running(tmp_path, "consumer", "--connect", address, *request) as two:
                    status = await two.end()
        assert status == 0
        assert await ends_soon(process) == 0


async def test_a_reader_loses_nothing_and_has_every_line_in_order(tmp_path: Path) -> None:
    async with provider(tmp_path, "--supply", "12V/5A") as (_, address):
        asked_for = ["--request", "12V/1A", "--energy", "12J"]
        async with running(tmp_path, "consumer", "--connect", address, *asked_for) as two:
            assert await two.end() == 0
            await two.until_closed()
            names = two.names()
            assert (names[0], names[-1]) == ("granted", "done")
            times = [event["time_ms"] for event in two.events]
            assert times == sorted(times)
            assert "lost" not in two.log


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
