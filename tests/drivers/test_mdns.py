"""What the resolver's threads tell trio, and what happens when there is no resolver."""

import errno
import threading

import pytest
import trio
import zeroconf

from powertcp.dpdp.advert import TYPE_TCP
from powertcp.drivers import dpdp
from powertcp.drivers.mdns import MAX_WAITING, Inbox, open_mdns
from powertcp.drivers.sightings import Sighting


def sighting(instance: str, *, is_gone: bool = False) -> Sighting:
    return Sighting(TYPE_TCP, instance, None, is_gone)


async def test_of_what_is_seen_of_one_name_the_last_is_taken_whatever_its_case() -> None:
    inbox = Inbox()
    for each in (sighting("Lamp"), sighting("lamp", is_gone=True), sighting("Oven")):
        inbox.put(each)
    found, has_lost = await inbox.take()
    assert [(each.instance, each.is_gone) for each in found] == [("lamp", True), ("Oven", False)]
    assert not has_lost


async def test_sightings_of_other_threads_wake_who_waits() -> None:
    inbox = Inbox()
    taken: list[str] = []

    async def take() -> None:
        while len(taken) < 400:
            found, _ = await inbox.take()
            taken.extend(each.instance for each in found)

    def see(first: int) -> None:
        for number in range(first, 400, 4):
            inbox.put(sighting(f"{number}"))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            for first in range(4):
                nursery.start_soon(trio.to_thread.run_sync, see, first)
    assert sorted(map(int, taken)) == list(range(400))


async def test_more_names_than_fit_are_lost_and_that_is_said() -> None:
    inbox = Inbox()
    for number in range(MAX_WAITING + 1):
        inbox.put(sighting(f"{number}"))
    found, has_lost = await inbox.take()
    assert (len(found), has_lost) == (MAX_WAITING, True)
    inbox.put(sighting("again"))
    assert await inbox.take() == ([sighting("again")], False)


def test_what_is_seen_after_trio_has_ended_is_nobodys_business() -> None:
    async def make() -> Inbox:
        return Inbox()

    inbox = trio.run(make)
    thread = threading.Thread(target=inbox.put, args=(sighting("late"),))
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError):
        trio.lowlevel.current_trio_token()


# ---- a resolver that cannot be opened -----------------------------------------------------------


@pytest.mark.requirement("DPDP-8-01")
@pytest.mark.parametrize(
    "error",
    [
        zeroconf.NotRunningException(),
        zeroconf.EventLoopBlocked(),
        OSError(errno.ENODEV, "No such device"),
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("No adapter found for interface"),
        ValueError("it is no address"),
    ],
    ids=lambda error: f"{type(error).__name__}",
)
async def test_a_resolver_that_raises_at_the_start_is_warned_of_once_and_opened_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    left, pauses = [error] * 3, []

    def opened(*_: object, **__: object) -> object:
        if left:
            raise left.pop()
        return real(interfaces=["127.0.0.1"])

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    real = zeroconf.Zeroconf
    monkeypatch.setattr(dpdp, "Zeroconf", opened)
    monkeypatch.setattr("powertcp.drivers.mdns.trio.sleep", sleep)
    async with open_mdns(["lo"]) as mdns:
        with trio.fail_after(10):
            await mdns.opened.wait()
        assert mdns.resolver is not None
        assert mdns.fault == ""
    assert pauses[:3] == [5, 10, 20]
    said = [
        record.getMessage() for record in caplog.records if "cannot speak mDNS" in record.message
    ]
    assert len(said) == 1
    assert said[0].endswith("it is tried again")
