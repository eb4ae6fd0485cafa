"""Discovery cancelled at every step of its tasks: no thread, no socket and no record is left."""

import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from powertcp.dpdp.advert import TYPE_TCP, Advert
from powertcp.dpdp.announcer import Announcer
from powertcp.dpdp.trust import Trust
from powertcp.drivers.announce import Announcement
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.discovery import open_discovery
from powertcp.drivers.finder import Finder, Search, open_finder
from powertcp.drivers.mdns import Mdns, open_mdns
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from tests.drivers.responders import OFFER

pytestmark = pytest.mark.kernel
LOOPBACK = ("lo",)
LATE_S = 6.0  # what a thread that nobody waits for takes to see that it is over
NAME = f"cancel {os.getpid()}"
ADVERT = Advert(id=os.getpid().to_bytes(16, "big"), offers=(OFFER,), cap_mw=60_000, source="grid")
Work = Callable[[], Awaitable[None]]


class CancelAny(trio.abc.Instrument):
    """Cancels a scope when any task is about to run for the n-th time."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.scope = trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


def threads() -> set[threading.Thread]:
    """Return the threads that are not those which trio keeps for the next call."""
    return {each for each in threading.enumerate() if not each.name.startswith("Trio thread")}


def sockets() -> set[str]:
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(os.readlink(each))
    return {each for each in found if each.startswith("socket:")}


async def settled(is_so: Callable[[], bool]) -> bool:
    """Wait until `is_so`; threads of another library tell nobody when they end."""
    with trio.move_on_after(LATE_S):
        while not is_so():  # noqa: ASYNC110
            await trio.sleep(0.02)
    return is_so()


async def cancelled_at(number: int, work: Work) -> bool:
    """Cancel `work` at its step `number`; returns whether it came that far."""
    step = CancelAny(number)
    trio.lowlevel.add_instrument(step)
    try:
        with step.scope:
            await work()
    finally:
        trio.lowlevel.remove_instrument(step)
    return step.left <= 0


async def everywhere(work: Work, *, steps: range, least: int) -> None:
    """Cancel `work` at each of `steps` that there are, and look what is left.

    least: of them must be reached.
    """
    await trio.to_thread.run_sync(lambda: None)
    tasks = trio.lowlevel.current_statistics().tasks_living
    had, reached = (threads(), sockets()), 0
    for number in steps:
        was_cancelled = await cancelled_at(number, work)
        reached += was_cancelled
        assert trio.lowlevel.current_statistics().tasks_living == tasks, number
        assert await settled(lambda: threads() <= had[0]), (number, threads() - had[0])
        assert await settled(lambda: sockets() <= had[1]), (number, sockets() - had[1])
        if not was_cancelled:
            break
    assert reached >= least


async def test_a_resolver_cancelled_at_each_step_is_closed() -> None:
    async def work() -> None:
        async with open_mdns(LOOPBACK) as mdns:
            await mdns.opened.wait()

    await everywhere(work, steps=range(1, 60), least=8)


@pytest.mark.parametrize("is_passive", [False, True], ids=["asks", "hears"])
async def test_discovery_cancelled_at_each_step_is_closed(is_passive: bool) -> None:
    async def work() -> None:
        async with open_discovery(LOOPBACK, is_passive=is_passive) as found:
            await found.mdns.opened.wait()
            while found.is_asking:  # noqa: ASYNC110 - nobody is told when it has asked
                await trio.sleep(0.01)
            await found.mdns.call(threading.active_count)  # after the call that browses

    await everywhere(work, steps=range(1, 80), least=12)


async def test_a_finder_cancelled_at_each_step_is_closed_and_searches_no_more(
    tmp_path: Path,
) -> None:
    search = Search(trust=Trust(), folder=tmp_path, interfaces=LOOPBACK)
    finders: list[Finder] = []

    async def work() -> None:
        async with open_finder(search, lambda event, facts: None, b"") as finder:
            finders.append(finder)
            with trio.move_on_after(0.05):
                # more than anybody here has
                await finder.place(
                    [Ask(PowerProfile.make(ProfileType.REQUEST, 400_000, 9_000_000))]
                )

    await everywhere(work, steps=range(1, 80), least=8)
    for finder in finders:
        assert await finder.searches.facts() == []


def announcement(mdns: Mdns) -> Announcement:
    announcer = Announcer(
        NAME, now_ns(), rating_mw=60_000, port=3251, host=f"c{os.getpid()}.local.",
        entropy=os.urandom,
    )  # fmt: skip
    return Announcement(
        mdns, announcer, lambda: ADVERT, kind=TYPE_TCP, port=3251,
        host=f"c{os.getpid()}.local.", listening=["127.0.0.1"],
    )  # fmt: skip


async def test_an_announcement_cancelled_at_each_step_is_taken_back() -> None:
    async def work() -> None:
        async with open_mdns(LOOPBACK) as mdns, trio.open_nursery() as nursery:
            one = announcement(mdns)
            nursery.start_soon(one.run)
            await mdns.opened.wait()
            while not one.is_announced:  # noqa: ASYNC110 - nor when it has announced
                await trio.sleep(0.2)
            await one.withdraw()
            assert not one.is_announced
            nursery.cancel_scope.cancel()

    # the name is probed for 1.7 s: the steps of that are alike, and every fifth is cancelled
    await everywhere(work, steps=range(1, 90, 5), least=7)
    seen: list[str] = []
    async with open_discovery(LOOPBACK) as found:
        with trio.move_on_after(1):
            async for _ in found.events:
                seen += [each.service.instance for each in found.snapshot()]
    assert NAME not in seen
