"""A process whose consumer roams within a realm three times: it runs on, and each joule counts once."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.drivers.processes import Running, running
from tests.drivers.spaces import check_spaces, inside, ip
from tests.drivers.test_realm import WISH, hall, make_realm, member, pages

pytestmark = [pytest.mark.kernel, pytest.mark.interop]
# a page of a receipt each few seconds
PAGES = ("--quota", "480J")
MOST_PAUSE_S = 0.3
# notes the longest time in which it did not run
SPENDER = """
import sys, time
last, worst = time.monotonic(), 0.0
while True:
    time.sleep(0.002)
    now = time.monotonic()
    if now - last > worst:
        worst = now - last
        with open(sys.argv[1], "w") as file:
            file.write(str(worst))
    last = now
"""


@pytest.fixture(scope="module", autouse=True)
def _allowed() -> None:
    """Skip with the reason: an async test would lose it."""
    check_spaces({})


@asynccontextmanager
async def spending(folder: Path, space: str, *words: str) -> AsyncIterator[Running]:
    """Power a process that notes its pauses in `paused`."""
    script = folder / "spender.py"
    script.write_text(SPENDER)
    command = f"{sys.executable} {script} {folder / 'paused'}"
    words = (*WISH, "--run", command, "--state-dir", str(folder / "sink"), *words)
    async with running(folder, "consumer", *words, before=inside(space)) as sink:
        yield sink


async def roam_three_times(folder: Path, here: str, first: str, second: str) -> Running:
    """Roam by a cable that is pulled, a drain, and a kill; return the consumer, which has ended."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(member(folder, first, 1, *PAGES))
        two = await stack.enter_async_context(member(folder, second, 2, *PAGES))
        for each in (one, two):
            await each.until_logged("told of our flows")
        sink = await stack.enter_async_context(spending(folder, here))
        await sink.until("ready")
        await sink.until("readings", 3)
        is_first = sink.all("found")[-1]["provider"] == "Hall 1"
        source, other = (one, two) if is_first else (two, one)
        space, other_space = (first, second) if is_first else (second, first)
        ip("-n", space, "link", "set", "e0", "down")
        await sink.until("ready", 2)
        await other.until_logged("goes on here")
        await source.until_logged("goes on with another provider")
        # the other one drains, when the first one can be reached again
        ip("-n", space, "link", "set", "e0", "up")
        await sink.until("readings", 6)
        other.signal(signal.SIGTERM)
        await sink.until("ready", 3)
        assert await other.end() == 0
        # it is there again, and the first one is killed
        number = 2 if is_first else 1
        again = await stack.enter_async_context(member(folder, other_space, number, *PAGES))
        await again.until_logged("told of our flows")
        await source.until_logged("told of our flows", 2)
        await sink.until("readings", 12)
        source.process.kill()
        await sink.until("ready", 4)
        await sink.until("readings", 15)
        sink.signal(signal.SIGTERM)
        assert await sink.end() == 0
        again.signal(signal.SIGTERM)
        assert await again.end() == 0
    return sink


@pytest.mark.requirement("DPDP-10-01")
@pytest.mark.requirement("DPDP-10-06")
async def test_a_process_does_not_notice_that_its_power_roams_three_times(tmp_path: Path) -> None:
    make_realm(tmp_path)
    with hall() as (here, first, second):
        sink = await roam_three_times(tmp_path, here, first, second)
    done, pause_s = sink.events[-1], float((tmp_path / "paused").read_text())
    sys.stdout.write(f"roamed 3 times, longest pause {pause_s * 1000:.0f} ms\n")
    assert [one["resumed"] for one in sink.all("ready")] == [False, True, True, True]
    assert {one["contract"] for one in sink.all("ready")} == {1}
    assert not {"load ended", "lost", "lease over", "shed"} & set(sink.names())
    assert pause_s < MOST_PAUSE_S
    written = pages(tmp_path / "hall1", tmp_path / "hall2")
    sys.stdout.write(f"{len(written)} pages of two providers, {done['energy_uj']} uJ\n")
    assert (done["unsigned_uj"], done["disputed"]) == (0, 0)
    assert sum(page.energy_uj for page in written) == done["energy_uj"] == done["signed_uj"]
    assert [page.page for page in written] == list(range(len(written)))
    assert [page.start_uj for page in written[1:]] == [page.end_uj for page in written[:-1]]
