"""The control socket: greeting, verbs, refusals, limits, stale and live sockets."""

import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from powertcp.drivers.control import Control, Fields, ask, find_sockets, may_command, open_listener
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
