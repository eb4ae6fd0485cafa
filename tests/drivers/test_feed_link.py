"""A consumer that hears a feed: over UDP and TCP, with its load, its receipts, its patience."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.feed_link import FeedLink, open_feed
from powertcp.drivers.feed_wish import FeedWish, parse_wish
from powertcp.drivers.groups import Group, GroupSender
from powertcp.drivers.guide import Named, Place
from powertcp.errors import ConfigError, HostError
from powertcp.ledger import Flags, Page
from powertcp.loads import make_load
from powertcp.registry import Reason
from powertcp.store import LedgerStore
from powertcp.units import NS_PER_S
from tests.drivers.feeding import Told, broadcasting, free_port
from tests.drivers.test_consumer import Said
from tests.feeds import KEY, OTHER_KEY, Broadcast


@asynccontextmanager
async def hearing(
    wish: FeedWish, said: Said, state: Path | None = None, **wishes: object
) -> AsyncIterator[Consumer]:
    """Give a consumer that will hear `wish`."""
    async with open_feed(wish, state) as heard:
        empty = Wishes(guide=Named(Place(host="", port=0)), asks=[], **wishes)  # type: ignore[arg-type]
        yield Consumer(empty, [make_load("none")], said, feed=heard)


def tcp(told: Told, **wish: object) -> FeedWish:
    return FeedWish(host=told.host, port=told.port, **wish)  # type: ignore[arg-type]


@pytest.mark.requirement("PTCP-12-01")
async def test_a_consumer_banks_a_feed_from_the_group_and_from_the_source() -> None:
    group = ("127.0.0.1", free_port())
    for_ns = 2 * NS_PER_S
    said = [Said(), Said()]
    async with broadcasting(groups=(group,)) as told:
        wishes = [FeedWish(groups=(group,)), tcp(told, wanted=told.station.source.feed.feed_id)]
        async with trio.open_nursery() as nursery:
            for wish, one in zip(wishes, said, strict=True):
                nursery.start_soon(run_to_end, wish, one, for_ns)
    for one in said:
        [joined] = one.all("joined")
        assert joined["feed"] == told.station.source.feed.feed_id.hex()
        assert joined["profile"] == "12V/0.5A"
        assert one.all("ready")
        [done] = one.all("done")
        # it ends with the signature that completes what was wanted
        assert isinstance(done["energy_uj"], int)
        assert 12_000_000 <= done["energy_uj"] <= 15_600_000
        assert done["simulated"]
        reading = one.all("readings")[-1]
        assert (reading["lost_blocks"], reading["forged"]) == (0, 0)


async def run_to_end(wish: FeedWish, said: Said, for_ns: int) -> None:
    async with hearing(wish, said, for_ns=for_ns) as consumer:
        assert await consumer.run() == 0


@pytest.mark.requirement("LEDG-6-05")
async def test_each_receiver_signs_its_own_pages_and_goes_on_after_a_restart(
    tmp_path: Path,
) -> None:
    async with broadcasting() as told:
        energies = []
        for _ in range(2):
            said = Said()
            async with hearing(tcp(told), said, tmp_path, for_ns=NS_PER_S) as consumer:
                assert await consumer.run() == 0
            [receipt] = said.all("receipt")
            energies.append(receipt["energy_uj"])
        with LedgerStore(tmp_path / "ledger.db", read_only=True) as store:
            pages = [Page.from_wire(row.body) for row in store.pages()]
            account = store.account(f"feed:{told.station.source.feed.feed_id.hex()}")
            held = store.account("store:none")
            assert store.verify() == []
    assert [page.page for page in pages] == [0, 1]
    assert [page.energy_uj for page in pages] == energies
    assert pages[0].end_uj == pages[1].start_uj
    assert [Flags.RESUMED in page.flags for page in pages] == [False, True]
    for page in pages:
        assert page.is_feed
        assert Flags.FINAL in page.flags
        assert Flags.SIMULATED in page.flags
        assert page.is_signed_by_sink()
        assert page.source_key == KEY.public
    assert account is not None
    assert held is not None
    assert account.balance == -held.balance == sum(page.energy_uj for page in pages)


async def test_a_state_folder_is_of_one_receiver_only(tmp_path: Path) -> None:
    async with open_feed(FeedWish(), tmp_path):
        with pytest.raises(HostError):
            async with open_feed(FeedWish(), tmp_path):
                pass
    async with open_feed(None, tmp_path) as heard:
        assert heard is None


async def test_the_load_loses_power_with_the_feed_and_gets_it_back() -> None:
    group = ("127.0.0.1", free_port())
    said = Said()
    async with hearing(FeedWish(groups=(group,)), said) as consumer, trio.open_nursery() as nursery:
        nursery.start_soon(consumer.run)
        async with broadcasting(groups=(group,)):
            await said.until("ready")
        await said.until("silent")
        async with broadcasting(groups=(group,), epoch=8):
            await said.until("ready", 2)
        assert [facts["epoch"] for facts in said.all("joined")] == [7, 8]
        nursery.start_soon(consumer.stop)
        await said.until("done")
        nursery.cancel_scope.cancel()


async def test_a_source_without_that_feed_is_exit_1() -> None:
    said = Said()
    async with broadcasting() as told, hearing(tcp(told, wanted=b"x" * 16), said) as consumer:
        assert await consumer.run() == 1
    [refused] = said.all("refused")
    assert refused["code"] == Reason.NOT_OFFERED


async def test_a_source_that_ends_its_feed_ends_the_receiver() -> None:
    said = Said()
    async with (
        broadcasting() as told,
        hearing(tcp(told), said) as consumer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(consumer.run)
        await said.until("ready")
        told.station.stop()
        await said.until("done")
    assert said.all("closed")


async def test_nobody_there_is_exit_3() -> None:
    said = Said()
    async with hearing(FeedWish(host="127.0.0.1", port=free_port()), said) as consumer:
        assert await consumer.run() == 3
    assert said.all("unreachable")


async def test_a_group_that_stays_silent_is_exit_3(autojump_clock: trio.testing.MockClock) -> None:
    said = Said()
    wish = FeedWish(groups=(("127.0.0.1", free_port()),), give_up_ns=30 * NS_PER_S)
    async with hearing(wish, said) as consumer:
        assert await consumer.run() == 3
    assert 30 <= trio.current_time() < 40
    [unheard] = said.all("unreachable")
    assert "no feed heard for 30 s" in str(unheard["sentence"])


@pytest.mark.parametrize(("for_s", "waited_s"), [(3, 3), (0.1, 2), (60, 30)])
async def test_a_silent_group_is_not_waited_for_longer_than_it_is_wanted(
    for_s: float, waited_s: int, autojump_clock: trio.testing.MockClock
) -> None:
    said = Said()
    wish = FeedWish(groups=(("127.0.0.1", free_port()),), give_up_ns=30 * NS_PER_S)
    async with hearing(wish, said, for_ns=round(for_s * NS_PER_S)) as consumer:
        assert await consumer.run() == 3
    assert waited_s <= trio.current_time() <= waited_s + 1
    [unheard] = said.all("unreachable")
    assert f"no feed heard for {waited_s} s" in str(unheard["sentence"])


async def test_a_feed_that_falls_silent_is_not_waited_for_longer_than_it_is_wanted() -> None:
    group = ("127.0.0.1", free_port())
    said = Said()
    wish = FeedWish(groups=(group,))
    status: list[int] = []

    async def run() -> None:
        async with hearing(wish, said, for_ns=3 * NS_PER_S) as consumer:
            status.append(await consumer.run())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        async with broadcasting(groups=(group,)):
            await said.until("ready")
    assert status == [3]
    assert said.names()[-2:] == ["unreachable", "done"]
    assert "no feed heard for 5 s" in str(said.all("unreachable")[0]["sentence"])


async def test_a_cut_path_is_taken_up_again() -> None:
    said = Said()
    async with (
        broadcasting() as told,
        hearing(tcp(told), said) as consumer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(consumer.run)
        await said.until("ready")
        [wire] = told.station.subscribers
        wire.abort()
        while not told.station.subscribers:
            await trio.testing.wait_all_tasks_blocked(0.01)
        [link] = consumer._links  # noqa: SLF001 - what it has banked is the point
        assert isinstance(link, FeedLink)
        banked = link.receiver.tally().banked
        while link.receiver.tally().banked == banked:
            await trio.testing.wait_all_tasks_blocked(0.01)
        consumer.abort()
    assert len(said.all("joined")) == 1, "the same epoch goes on"


def test_where_a_feed_is_heard_is_said_in_one_word() -> None:
    identifier = "00112233445566778899aabbccddeeff"
    wanted = bytes.fromhex(identifier)
    assert parse_wish("multicast") == FeedWish()
    assert parse_wish(identifier) == FeedWish(wanted=wanted)
    assert parse_wish(f"{identifier}@multicast", interface="lo").interface == "lo"
    assert parse_wish("provider.example:9") == FeedWish(host="provider.example", port=9)
    assert parse_wish(f"{identifier}@[::1]") == FeedWish(wanted=wanted, host="::1", port=3251)
    assert parse_wish("239.1.2.3:9").groups == (("239.1.2.3", 9),)
    assert parse_wish("[ff15::1]").groups == (("ff15::1", 3251),)
    assert parse_wish("[ff15::1]").where == "[ff15::1]:3251"
    assert parse_wish("host").where == "host:3251"
    with pytest.raises(ConfigError, match="32 hex digits"):
        parse_wish("lamp@provider.example")


@pytest.mark.requirement("PTCP-14-01")
async def test_strangers_in_the_group_cost_datagrams_and_nothing_else() -> None:
    group = ("127.0.0.1", free_port())
    said, random = Said(), Random(3)
    genuine = Broadcast(key=OTHER_KEY).emit(200)
    strange = [piece.octets for piece in genuine]
    async with broadcasting(groups=(group,)) as told:
        wish = FeedWish(groups=(group,), wanted=told.station.source.feed.feed_id)
        hearer = hearing(wish, said, for_ns=2 * NS_PER_S)
        async with hearer as consumer, trio.open_nursery() as nursery:
            nursery.start_soon(flood, group, strange, random)
            assert await consumer.run() == 0
            nursery.cancel_scope.cancel()
    [done] = said.all("done")
    assert isinstance(done["energy_uj"], int)
    assert done["energy_uj"] >= 12_000_000
    reading = said.all("readings")[-1]
    assert reading["lost_blocks"] == 0
    assert reading["heat_blocks"] == 0


async def flood(group: Group, strange: list[bytes], random: Random) -> None:
    """Send a thousand datagrams a second that are not of the feed."""
    sender = GroupSender([group])
    try:
        while True:
            for _ in range(20):
                sender.send([random.choice(strange), random.randbytes(random.randrange(1, 1400))])
                whole = bytearray(random.choice(strange))
                whole[random.randrange(len(whole))] ^= 1
                sender.send([bytes(whole)])
            await trio.sleep(0.06)
    finally:
        sender.close()


async def test_a_cancelled_receiver_leaves_no_socket_behind(tmp_path: Path) -> None:
    group = ("127.0.0.1", free_port())
    async with broadcasting(groups=(group,)) as told:
        for wish in (FeedWish(groups=(group,)), tcp(told)):
            before = len(os.listdir("/proc/self/fd"))
            for steps in range(0, 60, 4):
                said = Said()
                state = tmp_path / f"{bool(wish.host)}{steps}"
                with trio.CancelScope() as scope:
                    hearer = hearing(wish, said, state)
                    async with hearer as consumer, trio.open_nursery() as nursery:
                        nursery.start_soon(cancel_after, scope, steps)
                        await consumer.run()
                assert scope.cancelled_caught
            await trio.testing.wait_all_tasks_blocked(0.001)
            # what the provider accepted closes when it is told
            for _ in range(100):
                if len(os.listdir("/proc/self/fd")) <= before:
                    break
                await trio.sleep(0.05)
            assert len(os.listdir("/proc/self/fd")) <= before
        again = Said()
        async with hearing(tcp(told), again, for_ns=NS_PER_S) as consumer:
            assert await consumer.run() == 0


async def cancel_after(scope: trio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    scope.cancel()
