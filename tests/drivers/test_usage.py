"""What a flow does not use is given back, and had again when it is needed."""

import pytest
import trio

from powertcp.drivers.consumer import Consumer, Wishes
from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.guide import Named, Place
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.usage import Usage
from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile, ProfileType
from powertcp.sources import parse_supply
from powertcp.units import NS_PER_S
from tests.drivers.test_appetite import Dozing
from tests.drivers.test_consumer import Said


@pytest.mark.requirement("PTCP-7-08")
def test_a_minute_of_looks_gives_the_95th_percentile_and_a_tenth_more() -> None:
    usage, esn_uj = Usage(0, 1_000), 1_000
    verdicts = []
    for second in range(1, 121):
        # 12 W in 3 seconds of each minute, 6 W in the others: the peaks are above the percentile
        esn_uj += 12_000_000 if second % 20 == 0 else 6_000_000
        verdicts.append(usage.look(second * NS_PER_S, esn_uj))
    assert [verdict for verdict in verdicts if verdict is not None] == [6_600, 6_600]
    assert verdicts[59] == verdicts[119] == 6_600


def test_looks_that_follow_each_other_too_closely_do_not_count() -> None:
    usage = Usage(0, 0, seconds=2)
    assert usage.look(NS_PER_S // 10, 5_000_000) is None
    assert usage.look(NS_PER_S, 5_000_000) is None
    assert usage.look(2 * NS_PER_S, 10_000_000) == 5_500


@pytest.mark.requirement("PTCP-7-08")
async def test_what_is_not_used_is_reclaimed_and_asked_for_again() -> None:
    said, load = Said(), Dozing()
    config = ProviderConfig(
        supplies=[parse_supply("230V/16A@50Hz")], rating_mw=3_680_000, give_back_s=3
    )
    provider = Provider(config)
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
        host, port = parse_address(address)
        ask = Ask(
            PowerProfile.parse("230V/1A@50Hz,giveback", ProfileType.REQUEST),
            PowerProfile.parse("230V/0.3A@50Hz", ProfileType.MINIMUM),
        )
        sink = Consumer(Wishes(guide=Named(Place(host=host, port=port)), asks=[ask]), [load], said)
        nursery.start_soon(sink.run)
        await said.until("shed")
        await said.until("ready", 2)
        kept_mw = said.all("ready")[1]["power_mw"]
        assert isinstance(kept_mw, int)
        assert 69_000 <= kept_mw <= 207_000
        assert provider.breaker.held_mw == kept_mw
        # the load wakes up and keeps up with everything again
        load.awake.set()
        while said.all("ready")[-1]["power_mw"] != 230_000:
            await said.until("ready", len(said.all("ready")) + 1)
        assert provider.breaker.held_mw == 230_000
        await sink.stop()
        nursery.cancel_scope.cancel()
