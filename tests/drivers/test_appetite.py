"""A slow load lowers the demand of its contract; the reader of the connection never waits."""

import pytest
import trio

from powertcp.drivers.appetite import Appetite
from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.dial import parse_address
from powertcp.drivers.guide import Named, Place
from powertcp.loads import Ended, SupplyChannel
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.wire import DEMAND_MAX
from tests.drivers.test_consumer import Said, providing


def test_a_full_line_halves_the_demand_down_to_the_minimum_and_an_empty_one_lifts_it() -> None:
    appetite = Appetite(3_000)
    seen = []
    for waiting in (0, 127, 128, 200, 300, 400, 100, 31):
        appetite.look(waiting, 128, 12_000)
        seen.append(appetite.demand_mw)
    assert seen == [DEMAND_MAX, DEMAND_MAX, 6_000, 3_000, 3_000, 3_000, 3_000, DEMAND_MAX]


def test_without_a_minimum_a_sixteenth_stays() -> None:
    appetite = Appetite(0)
    for _ in range(10):
        appetite.look(128, 128, 16_000)
    assert appetite.demand_mw == 1_000
    assert not appetite.look(128, 128, 16_000)


class Dozing:
    """A load that does not read until it is woken."""

    name = "dozing"
    wants_samples = False

    def __init__(self) -> None:
        self.awake = trio.Event()

    async def run(self, supply: SupplyChannel) -> int:
        await self.awake.wait()
        async for event in supply:
            if isinstance(event, Ended):
                break
        return 0


@pytest.mark.requirement("PTCP-6-03")
async def test_a_load_that_does_not_read_gets_less_and_the_connection_lives() -> None:
    said, load = Said(), Dozing()
    async with providing("230V/16A@50Hz") as (provider, address):
        host, port = parse_address(address)
        ask = Ask(
            PowerProfile.parse("230V/1A@50Hz", ProfileType.REQUEST),
            PowerProfile.parse("230V/0.5A@50Hz", ProfileType.MINIMUM),
        )
        sink = Consumer(Wishes(guide=Named(Place(host=host, port=port)), asks=[ask]), [load], said)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.run)
            await said.until("demand")
            assert said.all("demand")[0]["demand_mw"] == 115_000
            while not any(110_000 < one["power_mw"] < 120_000 for one in said.all("readings")):  # type: ignore[operator]
                await said.until("readings", len(said.all("readings")) + 1)
            assert provider.admissions.drawn_mw == 115_000
            assert said.all("readings")[-1]["lease_ms"] > 55_000  # type: ignore[operator]
            load.awake.set()
            await said.until("demand", 2)
            assert said.all("demand")[1]["demand_mw"] == 230_000
            await sink.stop()
            nursery.cancel_scope.cancel()
