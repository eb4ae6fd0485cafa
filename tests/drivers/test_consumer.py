"""The consumer against a real provider on the loopback."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.daemon import now_ns
from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.guide import Named, Place
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.loads import make_load
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.sources import Supply
from powertcp.units import NS_PER_MS, NS_PER_S


class Said:
    """What a consumer reports, and a way to wait for it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []
        self._news = trio.Event()

    def __call__(self, event: str, facts: Mapping[str, object]) -> None:
        self.events.append((event, facts))
        self._news.set()
        self._news = trio.Event()

    def names(self) -> list[str]:
        return [event for event, _ in self.events if event != "readings"]

    def all(self, name: str) -> list[Mapping[str, object]]:
        return [facts for event, facts in self.events if event == name]

    async def until(self, name: str, count: int = 1) -> None:
        while len(self.all(name)) < count:
            await self._news.wait()

    async def until_powered(self) -> None:
        while not any(facts["energy_uj"] for facts in self.all("readings")):
            await self._news.wait()


@asynccontextmanager
async def providing(
    *supplies: str, rating_mw: int = 3_600_000, ramp_mw_per_s: int | None = None
) -> AsyncIterator[tuple[Provider, str]]:
    offered = [Supply(profile=PowerProfile.parse(text, ProfileType.OFFER)) for text in supplies]
    provider = Provider(
        ProviderConfig(supplies=offered, rating_mw=rating_mw, ramp_mw_per_s=ramp_mw_per_s)
    )
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
        yield provider, addresses[0]
        nursery.cancel_scope.cancel()


def consumer(address: str, said: Said, *requests: str, **wishes: object) -> Consumer:
    host, port = parse_address(address)
    asks = [Ask(PowerProfile.parse(text, ProfileType.REQUEST)) for text in requests]
    return Consumer(
        Wishes(guide=Named(Place(host=host, port=port)), asks=asks, **wishes),  # type: ignore[arg-type]
        [make_load("none") for _ in requests],
        said,
    )


@pytest.mark.requirement("PTCP-11-01")
@pytest.mark.parametrize(("mux", "connections"), [(False, 2), (True, 1)])
async def test_two_powers_at_once_and_equal_registers(mux: bool, connections: int) -> None:
    said = Said()
    async with providing("5V/3A", "230V/16A@50Hz") as (provider, address):
        sink = consumer(address, said, "5V/1A", "230V/2A@50Hz", mux=mux, for_ns=2 * NS_PER_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run)
            await said.until("ready", 2)
            assert len(provider.sessions) == connections
        sums = provider.admissions
        assert sums.delivered_uj + sums.returned_uj == sum(one.energy_uj for one in sink.appliances)
        assert all(one.energy_uj > 0 for one in sink.appliances)
        assert provider.breaker.free_mw == 3_600_000
    reading = next(facts for facts in said.all("readings") if "voltage_mv" in facts)
    assert reading["simulated"]


@pytest.mark.requirement("PTCP-13-02")
async def test_many_powers_of_one_connection_are_asked_for_no_faster_than_the_peer_bears() -> None:
    said = Said()
    async with providing("12V/50A") as (provider, address):
        sink = consumer(address, said, *["12V/0.1A"] * 25, mux=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run)
            await said.until("ready", 25)
            assert len(provider.sessions) == 1
            sink.abort()
    assert "disconnected" not in said.names()


async def test_a_refusal_names_its_numbers_and_is_exit_1() -> None:
    said = Said()
    async with providing("230V/16A@50Hz") as (_, address):
        assert await consumer(address, said, "12V/1A").run() == 1
    refused = said.all("refused")[0]
    assert refused["code"] == 101
    assert (refused["value"], refused["limit"]) == (12_000, 230_000)


@pytest.mark.requirement("PTCP-4-07")
async def test_who_is_refused_for_the_ramp_is_served_when_the_ramp_is_free() -> None:
    said = Said()
    async with providing("12V/50A", ramp_mw_per_s=10_000) as (_, address):
        sink = consumer(address, said, "12V/2A", "12V/2A")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run)
            with trio.fail_after(3):
                await said.until("granted", 2)
            sink.abort()
    refused = said.all("refused")
    assert {facts["code"] for facts in refused} == {309}
    assert all(facts["again"] for facts in refused)
    assert refused[0]["text"] == "connects 10,000 mW in a second"


async def test_nobody_there_is_exit_3() -> None:
    said = Said()
    assert await consumer("127.0.0.1:1", said, "12V/1A").run() == 3
    assert said.names() == ["unreachable", "done"]


@pytest.mark.parametrize(
    ("request_", "wish", "banked_uj"),
    [
        ("12V/1A", {"energy_uj": 3_000_000}, 3_600_000),
        ("230V/1A@50Hz", {"energy_uj": 100_000_000}, 101_199_984),
        ("230V/1A@50Hz", {"for_ns": 1 * NS_PER_S}, 229_999_964),
        ("12V/1A", {"for_ns": 3 * NS_PER_S}, 36_000_000),
    ],
)
async def test_it_ends_with_the_block_that_completes_time_or_energy(
    request_: str, wish: dict[str, int], banked_uj: int
) -> None:
    said = Said()
    async with providing("12V/5A", "230V/16A@50Hz") as (provider, address):
        sink = consumer(address, said, request_, **wish)
        assert await sink.run() == 0
        sums = provider.admissions
        assert (sums.delivered_uj, sums.returned_uj) == (sink.appliances[0].energy_uj, 0)
    assert abs(sink.appliances[0].energy_uj - banked_uj) < 100


@pytest.mark.requirement("PTCP-10-03")
async def test_a_cut_path_is_resumed_with_the_ticket_and_no_joule_is_lost() -> None:
    said = Said()
    async with providing("12V/5A") as (provider, address):
        sink = consumer(address, said, "12V/1A", for_ns=4 * NS_PER_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run)
            await said.until_powered()
            for session in list(provider.sessions):
                session.wire.abort()
                session.machine.receive_eof(now_ns())
                session.wire.handle_timer(now_ns())
        assert [facts["resumed"] for facts in said.all("ready")] == [False, True]
        sums = provider.admissions
        assert sink.appliances[0].energy_uj == sink.appliances[0].esn_uj
        assert sums.delivered_uj + sums.returned_uj >= sink.appliances[0].energy_uj


async def test_stop_is_orderly_and_abort_is_not() -> None:
    async with providing("12V/5A") as (_, address):
        for how in ("stop", "abort"):
            said = Said()
            sink = consumer(address, said, "12V/1A")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sink.run)
                await said.until_powered()
                if how == "stop":
                    nursery.start_soon(sink.stop)
                    await said.until("closed")
                    await said.until("done")
                    nursery.cancel_scope.cancel()
                else:
                    sink.abort()
            assert sink.appliances[0].done


async def test_a_shed_reaches_the_load_and_a_restore_is_accepted() -> None:
    said = Said()
    async with providing("12V/5A", rating_mw=20_000) as (provider, address):
        sink = Consumer(
            Wishes(
                guide=Named(Place(host="127.0.0.1", port=parse_address(address)[1])),
                asks=[
                    Ask(
                        PowerProfile.parse("12V/1A", ProfileType.REQUEST),
                        PowerProfile.parse("12V/0.2A", ProfileType.MINIMUM),
                    )
                ],
                for_ns=14 * NS_PER_S,
            ),
            [make_load("none")],
            said,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run)
            await said.until_powered()
            provider.set_rating(6_000)
            await said.until("shed")
            provider.set_rating(20_000)
        powers = [facts["power_mw"] for facts in said.all("ready")]
        assert powers == [12_000, 6_000, 12_000]


async def test_cancelled_it_leaves_nothing_open() -> None:
    said = Said()
    async with providing("12V/5A") as (provider, address):
        for wait_ms in (0, 5, 20, 60, 200):
            with trio.move_on_after(wait_ms * NS_PER_MS / NS_PER_S) as scope:
                await consumer(address, said, "12V/1A").run()
            assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert all(session.wire.closed for session in provider.sessions)
