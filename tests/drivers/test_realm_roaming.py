"""A process whose consumer roams within a realm three times: it runs on, and each joule counts once."""

import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.drivers.processes import running
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


@pytest.mark.requirement("DPDP-10-01")
@pytest.mark.requirement("DPDP-10-06")
async def test_a_process_does_not_notice_that_its_power_roams_three_times(tmp_path: Path) -> None:
    make_realm(tmp_path)
    script, paused = tmp_path / "spender.py", tmp_path / "paused"
    script.write_text(SPENDER)
    with hall() as (here, first, second):
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(member(tmp_path, first, 1, *PAGES))
            two = await stack.enter_async_context(member(tmp_path, second, 2, *PAGES))
            await one.until_logged("told of our flows")
            await two.until_logged("told of our flows")
            sink = await stack.enter_async_context(
                running(
                    tmp_path,
                    "consumer",
                    *WISH,
                    "--run",
                    f"{sys.executable} {script} {paused}",
                    "--state-dir",
                    str(tmp_path / "sink"),
                    before=inside(here),
                )  # fmt: skip
            )
            began = await sink.until("ready")
            await sink.until("readings", 3)
            halls = {"Hall 1": (first, 1, one), "Hall 2": (second, 2, two)}
            space, number, source = halls.pop(str(sink.all("found")[-1]["provider"]))
            other_space, other_number, other = halls.popitem()[1]
            # the cable to the one that gives power is pulled
            ip("-n", space, "link", "set", "e0", "down")
            moved = await sink.until("ready", 2)
            await other.until_logged("goes on here")
            await source.until_logged("goes on with another provider")
            # the other one drains, when the first one can be reached again
            ip("-n", space, "link", "set", "e0", "up")
            await sink.until("readings", 6)
            other.signal(signal.SIGTERM)
            drained = await sink.until("ready", 3)
            assert await other.end() == 0
            # it is there again, and the first one is killed
            again = await stack.enter_async_context(
                member(tmp_path, other_space, other_number, *PAGES)
            )
            await again.until_logged("told of our flows")
            await source.until_logged("told of our flows", 2)
            await sink.until("readings", 12)
            source.process.kill()
            killed = await sink.until("ready", 4)
            await sink.until("readings", 15)
            sink.signal(signal.SIGTERM)
            assert await sink.end() == 0
            again.signal(signal.SIGTERM)
            assert await again.end() == 0
    done = sink.events[-1]
    pause_s = float(paused.read_text())
    sys.stdout.write(f"roamed 3 times, longest pause {pause_s * 1000:.0f} ms\n")
    assert [event["resumed"] for event in (began, moved, drained, killed)] == [False, *[True] * 3]
    assert {event["contract"] for event in (began, moved, drained, killed)} == {1}
    assert not {"load ended", "lost", "lease over", "shed"} & set(sink.names())
    assert pause_s < MOST_PAUSE_S
    written = pages(tmp_path / "hall1", tmp_path / "hall2")
    sys.stdout.write(f"{len(written)} pages of two providers, {done['energy_uj']} uJ\n")
    assert (done["unsigned_uj"], done["disputed"]) == (0, 0)
    assert sum(page.energy_uj for page in written) == done["energy_uj"] == done["signed_uj"]
    assert [page.page for page in written] == list(range(len(written)))
    assert [page.start_uj for page in written[1:]] == [page.end_uj for page in written[:-1]]
