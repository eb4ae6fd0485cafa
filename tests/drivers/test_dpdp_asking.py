"""What discovery asks on a link: nothing when it is passive, else long enough, and not for ever."""

# ruff: noqa: SIM117 - one `async with` for each process reads better

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.drivers.processes import running
from tests.drivers.spaces import Peer, check_spaces, inside, pair, peer, spaces

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
TRY_S = 3.0
QUERY = re.compile(r"^([0-9.]+)\t.*_powertcp", re.MULTILINE)


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({"tshark": "tshark"})


async def saw(other: Peer, is_there: Callable[[str], bool], within_s: float = 30) -> str:
    return await trio.to_thread.run_sync(other.until, is_there, within_s)


def ethernet(space: str) -> str:
    """Return the address of Ethernet that a namespace sends from."""
    words = ["ip", "-n", space, "-j", "link", "show", "e0"]
    found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return str(found[0]["address"])


@pytest.mark.requirement("DPDP-7-06")
async def test_a_passive_look_finds_and_loses_a_provider_and_sends_no_query(tmp_path: Path) -> None:
    with pair() as (there, here):
        words = [
            *inside(there), "tshark", "-l", "-n", "-i", "e0", "-Y",
            f"mdns && dns.flags.response==0 && eth.src=={ethernet(here)}",
            "-T", "fields", "-e", "frame.time_epoch", "-e", "dns.qry.name",
        ]  # fmt: skip
        with peer(tmp_path, words) as shark:
            await saw(shark, lambda text: "Capturing" in text)
            async with running(
                tmp_path, "discover", "--passive", "--watch", before=inside(here)
            ) as watch:
                async with running(
                    tmp_path, "provider", "--supply", "12V/5A", "--listen", "[::]:3251",
                    before=inside(there),
                ) as source:  # fmt: skip
                    await source.until_logged("announced as")
                    await watch.until("new")
                    source.signal(signal.SIGTERM)
                    await watch.until("gone")
            # it would have been seen: who is not passive asks, on the same link
            asked_s = time.time()
            async with running(
                tmp_path, "discover", "--timeout", "1s", before=inside(here)
            ) as active:
                assert await active.end() == 3
            text = await saw(shark, lambda text: bool(QUERY.search(text)))
            assert min(float(at) for at in QUERY.findall(text)) > asked_s


def questions(mute: Peer) -> list[float]:
    """Return when it was asked about its name, in s after the first time."""
    return [float(text) for text in re.findall(r"asked ([0-9.]+)", mute.text)]


async def looked(folder: Path, space: str) -> tuple[list[dict[str, object]], float]:
    """Run `powertcp discover --all`; returns its objects and how many seconds it took."""
    began = time.monotonic()
    words = ("discover", "--all", "--timeout", "25s")
    async with running(folder, *words, before=inside(space)) as one:
        await one.end()
        await one.until_closed()
        return [dict(each) for each in one.events], time.monotonic() - began


@pytest.mark.requirement("DPDP-8-05")
@pytest.mark.parametrize("deaf_s", [TRY_S + 0.2, 2 * TRY_S + 0.2])
async def test_who_answers_the_second_or_third_try_is_found(tmp_path: Path, deaf_s: float) -> None:
    with spaces(1) as (space,):
        words = [*inside(space), sys.executable, "-m", "tests.drivers.mute"]
        with peer(tmp_path, [*words, "Lamp", "ptr", f"{deaf_s}"]) as mute:
            await saw(mute, lambda text: "ready" in text)
            (found,), took_s = await looked(tmp_path, space)
            assert (found["name"], found["standing"]) == ("Lamp", "good")
            assert took_s > deaf_s
            # each try asks more than once, and nobody was asked before it was time
            assert len(questions(mute)) >= 4


@pytest.mark.requirement("DPDP-8-05")
async def test_who_never_says_all_is_taken_as_far_as_it_is_known_after_three_tries(
    tmp_path: Path,
) -> None:
    with spaces(1) as (space,):
        words = [*inside(space), sys.executable, "-m", "tests.drivers.mute"]
        with peer(tmp_path, [*words, "Lamp", "srv", "-1"]) as mute:
            await saw(mute, lambda text: "ready" in text)
            (found,), took_s = await looked(tmp_path, space)
            assert (found["name"], found["port"]) == ("Lamp", 3251)
            # it has no TXT record
            assert found["standing"] in ("malformed", "unknown version")
            assert 3 * TRY_S <= took_s < 25
            # the last try ends 9 s after the first began
            last_s = questions(mute)[-1]
            assert 2 * TRY_S < last_s < 3 * TRY_S + 0.5
