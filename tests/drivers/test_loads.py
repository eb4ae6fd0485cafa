"""Lamp, hum, hostcap, none and the line that feeds them; kernel files under a root of the test."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trio
import trio.testing

from powertcp.errors import HostError
from powertcp.linux import find_zones, read_int, read_text, write_text
from powertcp.loads import (
    Ceiling,
    Delivered,
    Ended,
    Lease,
    Lost,
    Powered,
    Stale,
    make_load,
    supply_line,
)
from powertcp.loads.events import MAX_PENDING
from powertcp.loads.hostcap import STATE_FILE, HostCap
from powertcp.loads.none import NoneLoad
from powertcp.profile import PowerProfile
from powertcp.wire.options import Sampling

S = 1_000_000_000
AC = PowerProfile.parse("230V/1A@50Hz")
POWERED = Powered(profile=AC, until_ns=60 * S)
ORIGINAL_UW = 65_000_000


def now() -> int:
    return round(trio.current_time() * S)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for what another process does; the deadline is for a machine under load."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - another process sets no trio.Event
            await trio.sleep(0.002)


def delivered(power_mw: int = 1000, samples: bytes | None = None) -> Delivered:
    sampling = Sampling(4000) if samples is not None else None
    return Delivered(
        power_mw=power_mw, energy_uj=100, total_uj=500, samples=samples, sampling=sampling
    )


# ---- the line -----------------------------------------------------------------------------------


async def test_a_slow_load_never_holds_its_sender_and_loses_no_control_event() -> None:
    sender, channel = supply_line(capacity=4)
    sender.send(POWERED)
    for _ in range(100):
        assert sender.send(delivered())
        assert sender.send(Lease(until_ns=1))
    assert sender.send(Stale())
    assert sender.merged > 0
    load = NoneLoad()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run, channel)
        await trio.testing.wait_all_tasks_blocked()
        sender.send(delivered())
        sender.send(Ended())
    # merged, not lost
    assert load.total_uj == 101 * 100


async def test_a_load_that_does_not_read_at_all_is_cut_off() -> None:
    sender, channel = supply_line()
    for _ in range(MAX_PENDING):
        assert sender.send(Stale())
    assert not sender.send(Stale())
    assert not sender.send(Stale())
    load = NoneLoad()
    assert await load.run(channel) == 0
    assert load.events == MAX_PENDING


async def test_a_load_that_is_gone_is_told_nothing() -> None:
    sender, channel = supply_line()
    channel.close()
    assert not sender.send(POWERED)
    sender.close()


async def test_none_follows_its_limit() -> None:
    sender, channel = supply_line()
    load = NoneLoad()
    for event in (POWERED, Ceiling(limit_mw=7, rated_mw=9), delivered(), Lost(returning=True)):
        sender.send(event)
    sender.close()
    assert await load.run(channel) == 0
    assert (load.limit_mw, load.total_uj, load.powered) == (7, 100, False)


# ---- lamp ---------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_lamp_prints_a_line_a_second_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    sender, channel = supply_line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_load("lamp", out=out).run, channel)
        sender.send(POWERED)
        sender.send(delivered(power_mw=AC.power_mw))
        # real time: the lamp writes in a thread, which a mock clock does not wait for
        await until(lambda: out.getvalue().count("\n") >= 2)
        sender.send(Ended())
    assert "\nlamp 100 %" in out.getvalue()
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_lamp_leaves_the_terminal_as_it_was(cancelled: bool) -> None:
    out = Terminal()
    sender, channel = supply_line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_load("lamp", out=out).run, channel)
        sender.send(POWERED)
        sender.send(delivered(power_mw=AC.power_mw))
        await until(lambda: "lamp 100 %" in out.getvalue())
        if cancelled:
            nursery.cancel_scope.cancel()
        else:
            sender.send(Ended())
    text = out.getvalue()
    assert text.startswith("\x1b[?1049h")
    assert text.endswith("\x1b[?1049l")
    assert "lamp 100 %" in text


class Closed(io.StringIO):
    def write(self, _text: str, /) -> int:
        raise ValueError("I/O operation on closed file")


async def test_a_lamp_whose_output_is_closed_shines_on_unseen() -> None:
    sender, channel = supply_line()
    sender.send(POWERED)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_load("lamp", out=Closed()).run, channel)
        await trio.sleep(0.2)
        assert sender.send(Ended())


# ---- hum ----------------------------------------------------------------------------------------


def mains() -> bytes:
    words = np.zeros((400, 2), ">i4")
    words[:, 0] = 325_269 * np.sin(2 * np.pi * 50 * np.arange(400) / 4000)
    return words.tobytes()


def frames(path: Path) -> int:
    try:
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (8000, 2, 1)
            count: int = file.getnframes()
            return count
    except (EOFError, FileNotFoundError):
        return 0


async def test_a_hum_is_a_valid_file_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "hum.wav"
    sender, channel = supply_line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_load(f"hum={path}").run, channel)
        sender.send(POWERED)
        for _ in range(10):
            sender.send(delivered(samples=mains()))
        await until(lambda: frames(path) >= 7990)
        sender.send(Lost(returning=True))
        await until(lambda: frames(path) >= 7990 + 2400)
        nursery.cancel_scope.cancel()
    assert frames(path) >= 7990 + 2400


async def test_a_hum_that_cannot_sound_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, channel = supply_line()
    with pytest.raises(HostError) as caught:
        await make_load(f"hum={tmp_path}/no/such/place.wav").run(channel)
    assert caught.value.errno == errno.ENOENT
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=r"hum=FILE\.wav"):
        await make_load("hum").run(channel)


async def test_a_player_is_fed_and_gone_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = tmp_path / "heard"
    player = tmp_path / "aplay"
    player.write_text(f"#!/bin/sh\nexec /bin/cat > {heard}\n", encoding="ascii")
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    sender, channel = supply_line()
    sender.send(POWERED)
    for _ in range(10):
        sender.send(delivered(samples=mains()))
    sender.send(Ended())
    assert await make_load("hum").run(channel) == 0
    assert heard.stat().st_size >= 2 * (7990 + 2400)


# ---- the host -----------------------------------------------------------------------------------


@pytest.fixture
def limit(tmp_path: Path) -> Path:
    """The limit file of a machine with one package and a part of it."""
    for name in ("intel-rapl", "intel-rapl:0", "intel-rapl:0:0"):
        zone = tmp_path / "sys/class/powercap" / name
        zone.mkdir(parents=True)
        (zone / "name").write_text("package-0\n", encoding="ascii")
        (zone / "constraint_0_power_limit_uw").write_text(f"{ORIGINAL_UW}\n", encoding="ascii")
        (zone / "constraint_0_max_power_uw").write_text("90000000\n", encoding="ascii")
        (zone / "energy_uj").write_text("123\n", encoding="ascii")
        (zone / "max_energy_range_uj").write_text("456\n", encoding="ascii")
    return tmp_path / "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"


def in_force(limit: Path) -> int:
    return int(limit.read_text(encoding="ascii").strip() or "0")


def test_zones_are_whole_packages_with_their_figures(tmp_path: Path, limit: Path) -> None:
    (zone,) = find_zones(str(tmp_path))
    assert (zone.name, zone.limit_uw(), zone.max_uw(), zone.min_uw()) == (
        "package-0", ORIGINAL_UW, 90_000_000, 1_000_000,
    )  # fmt: skip
    assert (zone.energy_uj(), zone.energy_range_uj()) == (123, 456)
    (limit.parent / "constraint_0_max_power_uw").unlink()
    assert zone.max_uw() == ORIGINAL_UW
    zone.set_limit_uw(5)
    assert in_force(limit) == 5


def test_kernel_files_that_fail_say_which_and_why(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    for call in (lambda: read_text(path, "ask"), lambda: write_text(path, "1", "tell")):
        with pytest.raises(HostError) as caught:
            call()
        assert (caught.value.errno, caught.value.path) == (errno.ENOENT, path)
    Path(path).write_text("many\n", encoding="ascii")
    with pytest.raises(HostError, match="not a number: 'many'"):
        read_int(path, "ask")


async def test_a_host_without_limits_is_an_error(tmp_path: Path) -> None:
    _, channel = supply_line()
    with pytest.raises(HostError) as caught:
        await HostCap(root=str(tmp_path)).run(channel)
    assert caught.value.errno == errno.ENOENT
    (tmp_path / "sys/class/powercap").mkdir(parents=True)
    with pytest.raises(HostError, match="powercap zones"):
        await HostCap(root=str(tmp_path)).run(channel)


@pytest.mark.requirement("PTCP-5-06")
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_host_is_capped_and_restored(tmp_path: Path, limit: Path, cancelled: bool) -> None:
    sender, channel = supply_line()
    powered = Powered(
        profile=PowerProfile.parse("10V/4A"), until_ns=now() + 60 * S, fallback_mw=3000
    )
    state = tmp_path / STATE_FILE.lstrip("/")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(HostCap(root=str(tmp_path)).run, channel)
        sender.send(powered)
        await until(lambda: in_force(limit) == 40_000_000)
        assert json.loads(state.read_text())["original_uw"] == {str(limit): ORIGINAL_UW}
        sender.send(Ceiling(limit_mw=10_000, rated_mw=40_000))
        await until(lambda: in_force(limit) == 10_000_000)
        sender.send(Lease(until_ns=now() + S // 5))
        await until(lambda: in_force(limit) == 3_000_000)
        sender.send(Lease(until_ns=now() + 60 * S))
        await until(lambda: in_force(limit) == 10_000_000)
        sender.send(Lost(returning=True))
        await until(lambda: in_force(limit) == 1_000_000)
        if cancelled:
            nursery.cancel_scope.cancel()
        else:
            sender.send(Ended())
    assert in_force(limit) == ORIGINAL_UW
    assert not state.exists()


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")


async def test_a_killed_keeper_is_noticed_and_made_good(tmp_path: Path, limit: Path) -> None:
    sender, channel = supply_line()
    sender.send(Powered(profile=PowerProfile.parse("10V/4A"), until_ns=now() + 60 * S))
    load = HostCap(root=str(tmp_path))
    caught: list[HostError] = []

    async def hold() -> None:
        try:
            await load.run(channel)
        except HostError as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await until(lambda: in_force(limit) == 40_000_000)
        assert "powertcp" not in command_line(load.keeper_pid)
        os.kill(load.keeper_pid, signal.SIGKILL)
    assert caught[0].errno == errno.ECHILD
    assert in_force(limit) == ORIGINAL_UW


HOST = """
import sys, trio
from powertcp.loads import Powered, supply_line
from powertcp.loads.hostcap import HostCap
from powertcp.profile import PowerProfile
async def main():
    sender, channel = supply_line()
    sender.send(Powered(profile=PowerProfile.parse("10V/4A"), until_ns=round(trio.current_time() * 10**9) + 10**11))
    await HostCap(root=sys.argv[1]).run(channel)
trio.run(main)
"""


def start_host(root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", HOST, str(root)])


async def test_a_killed_consumer_leaves_the_host_as_it_was(tmp_path: Path, limit: Path) -> None:
    with start_host(tmp_path) as process:
        await until(lambda: in_force(limit) == 40_000_000)
        process.kill()
        await until(lambda: in_force(limit) == ORIGINAL_UW)
        await until(lambda: not (tmp_path / STATE_FILE.lstrip("/")).exists())


async def test_originals_survive_the_loss_of_consumer_and_keeper(
    tmp_path: Path, limit: Path
) -> None:
    state = tmp_path / STATE_FILE.lstrip("/")
    state.parent.mkdir(parents=True)
    # of a keeper whose process id nobody has
    state.write_text(
        json.dumps({"pid": 2**22 + 1, "original_uw": {str(limit): 50_000_000}}), encoding="ascii"
    )
    sender, channel = supply_line()
    sender.send(Ended())
    assert await HostCap(root=str(tmp_path)).run(channel) == 0
    assert in_force(limit) == 50_000_000
    state.write_text("[]", encoding="ascii")
    with pytest.raises(HostError, match="not a state file"):
        await HostCap(root=str(tmp_path)).run(channel)


async def test_two_consumers_do_not_cap_one_host(tmp_path: Path, limit: Path) -> None:
    with start_host(tmp_path) as process:
        await until(lambda: in_force(limit) == 40_000_000)
        _, channel = supply_line()
        with pytest.raises(HostError) as caught:
            await HostCap(root=str(tmp_path)).run(channel)
        assert caught.value.errno == errno.EBUSY
        process.kill()
        await until(lambda: in_force(limit) == ORIGINAL_UW)
