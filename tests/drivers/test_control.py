"""The control socket: greeting, verbs, refusals, limits, stale and live sockets."""

import json
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from powertcp.drivers.control import (
    CLIENTS,
    LINE_OCTETS,
    QUEUE_LINES,
    Control,
    Fields,
    ask,
    find_sockets,
    may_command,
    open_listener,
)
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.report import ProviderReport
from powertcp.errors import ConfigError
from powertcp.registry import Refusal
from powertcp.sources import parse_supply


@asynccontextmanager
async def controlled(path: Path) -> AsyncIterator[Provider]:
    provider = Provider(ProviderConfig(supplies=[parse_supply("12V/5A")], rating_mw=60_000))
    report = ProviderReport(provider)

    async def refuse(_: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        return Refusal(206)

    verbs = {
        "status": report.status, "explain": report.explain, "set": report.set, "drain": refuse,
    }  # fmt: skip
    control = Control({"powertcp": 1, "role": "provider"}, verbs, guarded=frozenset(("set",)))
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, path)
        yield provider
        nursery.cancel_scope.cancel()


async def question(path: Path, **request: object) -> Fields:
    _, answer = await trio.to_thread.run_sync(partial(ask, path, request))
    return answer


async def test_status_set_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "provider-1.sock"
    async with controlled(path) as provider:
        answer = await question(path, op="status", flows=True)
        status = answer["ok"]
        assert isinstance(status, dict)
        assert (status["rating_mw"], status["flows"], status["state"]) == (60_000, [], "ready")
        assert (await question(path, op="set", rating_mw=50_000))["ok"] == {"rating_mw": 50_000}
        assert provider.breaker.rating_mw == 50_000
        for request in (
            {"op": "nothing"},
            {"op": "set"},
            {"op": "set", "flow": "x", "ceiling_mw": 1},
        ):
            refusal = (await question(path, **request))["refusal"]
            assert isinstance(refusal, dict)
            assert refusal["code"] == 506
        refusal = (await question(path, op="drain"))["refusal"]
        assert isinstance(refusal, dict)
        assert refusal["code"] == 206
        assert (await question(path, op="explain"))["ok"] == {"explanations": []}
    assert not path.exists()


async def test_a_subscriber_gets_status_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    async with controlled(path):
        stream = await trio.open_unix_socket(path)
        await stream.send_all(b'{"id":1,"op":"subscribe","channels":["status"]}\nno json\n')
        seen = b""
        with trio.fail_after(8):
            while seen.count(b"\n") < 4:
                seen += await stream.receive_some()
        lines = [json.loads(line) for line in seen.splitlines()[:4]]
        assert lines[0]["role"] == "provider"
        assert any(line.get("t") == "status" for line in lines)
        assert any("refusal" in line for line in lines)
        await stream.aclose()


async def test_a_line_that_does_not_end_closes_its_client_only(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    async with controlled(path):
        stream = await trio.open_unix_socket(path)
        with trio.fail_after(8):
            try:
                await stream.send_all(b"x" * 200_000)
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        await stream.aclose()
        assert "ok" in await question(path, op="status")


def test_a_live_socket_is_refused_and_a_stale_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    listener = open_listener(path)
    with pytest.raises(ConfigError):
        open_listener(path)
    listener.close()
    again = open_listener(path)
    assert path.stat().st_mode & 0o007 == 0
    again.close()
    with pytest.raises(OSError, match=r"refused|file"):
        ask(path, {"op": "status"})


def test_sockets_are_found_and_orders_need_a_right(tmp_path: Path) -> None:
    folder = tmp_path / "powertcp"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(folder / "provider-1.sock"))
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert folder / "provider-1.sock" in find_sockets(environ, tmp_path / "state" / "provider")
    assert may_command(0, 1)
    assert not may_command(54_321, 1)


# --- limits: at each, and one above ------------------------------------------------------------


async def say(stream: trio.SocketStream, octets: bytes) -> list[dict[str, object]]:
    """Send octets; return the lines that come until the first answer, or the end."""
    await stream.send_all(octets)
    seen = b""
    lines: list[dict[str, object]] = []
    while not any("id" in line for line in lines):
        octets = await stream.receive_some()
        if not octets:
            break
        seen += octets
        *whole, seen = seen.split(b"\n")
        lines += [json.loads(line) for line in whole]
    return lines


async def test_a_line_of_64_kib_is_answered_and_one_octet_more_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    request = b'{"id":1,"op":"explain"}'
    async with controlled(path):
        for length, verdict in ((LINE_OCTETS, "ok"), (LINE_OCTETS + 1, "refusal")):
            async with await trio.open_unix_socket(path) as stream:
                answer = (await say(stream, request.ljust(length) + b"\n"))[-1]
                assert verdict in answer
        refusal = answer["refusal"]
        assert isinstance(refusal, dict)
        assert (refusal["code"], refusal["value"]) == (502, LINE_OCTETS + 1)


async def test_a_line_without_end_is_borne_up_to_64_kib(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    async with controlled(path):
        async with await trio.open_unix_socket(path) as stream:
            greeting = await stream.receive_some()
            assert b'"role"' in greeting
            await stream.send_all(b" " * LINE_OCTETS)
            assert "refusal" in (await say(stream, b"\n"))[-1]
        async with await trio.open_unix_socket(path) as stream:
            await stream.receive_some()
            await stream.send_all(b" " * (LINE_OCTETS + 1))
            assert await stream.receive_some() == b""


async def test_64_clients_are_served_and_the_next_is_closed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    async with controlled(path), AsyncExitStack() as clients:
        streams = [
            await clients.enter_async_context(await trio.open_unix_socket(path))
            for _ in range(CLIENTS)
        ]
        for stream in streams:
            assert b'"role"' in await stream.receive_some()
        async with await trio.open_unix_socket(path) as refused:
            assert await refused.receive_some() == b""
        assert "ok" in (await say(streams[-1], b'{"id":1,"op":"explain"}\n'))[-1]
        await streams[0].aclose()
        while True:  # a place is free as soon as the end of a client was seen
            async with await trio.open_unix_socket(path) as again:
                if b'"role"' in await again.receive_some():
                    break


class Counted:
    """A status verb of long lines that counts how often it was asked."""

    def __init__(self, enough: int) -> None:
        self.count = 0
        self.enough = enough
        self.is_enough = trio.Event()

    async def __call__(self, _: Mapping[str, object]) -> Fields:
        self.count += 1
        if self.count >= self.enough:
            self.is_enough.set()
        await trio.lowlevel.checkpoint()
        return {"n": self.count, "text": "x" * 50_000}


async def test_who_subscribes_five_times_gets_each_line_once(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    mock_clock.rate = 50.0
    status, path = Counted(10), tmp_path / "p.sock"
    control = Control({"powertcp": 1}, {"status": status}, guarded=frozenset())
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, path)
        async with await trio.open_unix_socket(path) as stream:
            begun = trio.current_time()
            await stream.send_all(b'{"id":1,"op":"subscribe"}\n' * 5)
            await status.is_enough.wait()
            # five pushes a second would be there in two
            assert trio.current_time() - begun >= 8
        nursery.cancel_scope.cancel()


async def test_a_client_that_does_not_read_loses_lines_and_is_told_how_many(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    mock_clock.rate = 100.0
    status, path = Counted(QUEUE_LINES + 40), tmp_path / "p.sock"
    control = Control({"powertcp": 1}, {"status": status}, guarded=frozenset())
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, path)
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b'{"id":1,"op":"subscribe"}\n')
            await status.is_enough.wait()
            seen = b""
            while b'"lost"' not in seen:
                seen += await stream.receive_some()
        nursery.cancel_scope.cancel()
    lines = [json.loads(line) for line in seen.split(b"\n")[:-1]]
    at = next(at for at, line in enumerate(lines) if line.get("t") == "lost")
    before = [line["n"] for line in lines[:at] if line.get("t") == "status"]
    # what waited is in order and without a gap, then the gap is named
    assert before == list(range(1, len(before) + 1))
    assert len(before) >= QUEUE_LINES
    assert lines[at]["n"] > 0


class Told(logging.Handler):
    """Notes that something was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.event = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "accept" in record.getMessage():
            self.event.set()


async def test_without_descriptors_whoever_asks_waits_and_the_daemon_stays(tmp_path: Path) -> None:
    path, told = tmp_path / "p.sock", Told()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    logging.getLogger("control").addHandler(told)
    async with controlled(path):
        with socket.socket(socket.AF_UNIX) as end:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            spare: list[int] = []
            try:
                with suppress(OSError):
                    while True:
                        spare.append(os.dup(0))
                end.connect(str(path))
                await told.event.wait()
            finally:
                for number in spare:
                    os.close(number)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                logging.getLogger("control").removeHandler(told)
            end.settimeout(5)
            assert b'"role"' in await trio.to_thread.run_sync(end.recv, 1000)
