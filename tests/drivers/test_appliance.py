"""One wanted contract: what refusals, trips, sheds and losses do to its load and its next SYN."""

from collections.abc import Mapping

import pytest

from powertcp.drivers.appliance import Appliance
from powertcp.drivers.patience import NEVER, back_off_ns
from powertcp.loads import Ceiling, Ended, Lease, Lost, Powered, SupplyEvent, make_load
from powertcp.potcp.events import (
    Ask,
    FlowClosed,
    FlowCut,
    FlowRefused,
    FlowTripped,
    LeaseLapsed,
    LeaseRestored,
    PowerReady,
    ShedReceived,
)
from powertcp.profile import PowerProfile, ProfileType
from powertcp.registry import Reason, Refusal
from powertcp.units import NS_PER_MS, NS_PER_S

S = NS_PER_S
DESIRED = PowerProfile.parse("12V/1A", ProfileType.REQUEST)
MINIMUM = PowerProfile.parse("12V/0.5A", ProfileType.MINIMUM)


class House:
    """An appliance with what it said and what its load was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.one = Appliance("1", Ask(DESIRED, MINIMUM), make_load("none"), self._say)
        self.one.flow = 1

    def _say(self, event: str, facts: Mapping[str, object]) -> None:
        self.said.append(event)

    def told(self) -> list[SupplyEvent]:
        waiting = self.one.supply.statistics().current_buffer_used
        return [self.one.supply.receive_nowait() for _ in range(waiting)]

    def ready(self, now: int = 0, *, amperes: str = "1A", resumed: bool = False) -> None:
        grant = PowerProfile.parse(f"12V/{amperes},lease=60s", ProfileType.GRANT)
        event = PowerReady(flow=1, contract=1, profile=grant, fallback=None, resumed=resumed)
        self.one.take(event, now, now + 60 * S)

    def closed(self, refusal: Refusal | None, now: int = 0) -> None:
        event = FlowClosed(
            flow=1, refusal=refusal, truncated=False, esn_uj=0, acked_uj=0, heat_uj=0
        )
        self.one.take(event, now, 0)

    def trip(self, now: int) -> None:
        refusal = Refusal(Reason.OVER_VOLTAGE, 10_000_000, 13_200)
        self.one.flow = 1
        self.one.take(FlowTripped(flow=1, refusal=refusal, by_peer=False), now, 0)
        self.closed(refusal, now)


async def test_the_first_ready_powers_the_load_and_later_ones_are_ceilings() -> None:
    house = House()
    house.ready()
    (powered,) = house.told()
    assert isinstance(powered, Powered)
    assert powered.until_ns == 60 * S
    house.ready(1 * S, amperes="0.6A")
    assert Ceiling(limit_mw=7_200, rated_mw=12_000) in house.told()


async def test_a_grant_below_what_was_asked_for_is_a_ceiling_from_the_start() -> None:
    house = House()
    house.ready(amperes="0.6A")
    powered, ceiling = house.told()
    assert isinstance(powered, Powered)
    assert powered.full_mw == 12_000
    assert ceiling == Ceiling(limit_mw=7_200, rated_mw=12_000)
    house.ready(1 * S, amperes="1A")
    assert house.told()[-1] == Ceiling(limit_mw=12_000, rated_mw=12_000)


async def test_shed_below_the_minimum_is_no_power_at_all() -> None:
    house = House()
    house.ready()
    house.told()
    for amperes, limit_mw in (("0.6A", 7_200), ("0.4A", 0)):
        ceiling = PowerProfile.parse(f"12V/{amperes}", ProfileType.OFFER)
        house.one.take(
            ShedReceived(
                flow=1,
                contract=3,
                ceiling=ceiling,
                deadline_ms=1000,
                restore_s=0,
                refusal=Refusal(Reason.BUDGET),
                urgent=False,
            ),
            0,
            0,
        )
        (told,) = house.told()
        assert isinstance(told, Ceiling)
        assert told.limit_mw == limit_mw


@pytest.mark.requirement("PTCP-4-07")
async def test_a_refusal_is_tried_again_after_its_retry_three_times_in_all() -> None:
    house = House()
    refusal = Refusal(Reason.NO_CAPACITY, 60_000, 14_200, retry_ms=5000)
    for attempt in (1, 2, 3):
        house.one.flow = 1
        house.one.take(FlowRefused(flow=1, refusal=refusal, best=None), 0, 0)
        house.closed(refusal)
        assert house.one.done == (attempt == 3)
        assert 4000 * NS_PER_MS <= house.one.patience.due <= 6000 * NS_PER_MS
    assert house.one.status == 1


@pytest.mark.requirement("PTCP-4-07")
async def test_power_that_is_only_connected_later_is_asked_for_until_the_patience_ends() -> None:
    house = House()
    house.one.patience.give_up_ns = 60 * S
    refusal = Refusal(Reason.BUDGET, 24_000, 23, retry_ms=5000)
    now = tries = 0
    while not house.one.done:
        assert now < 60 * S
        house.one.flow = 1
        house.one.take(FlowRefused(flow=1, refusal=refusal, best=None), now, 0)
        house.closed(refusal, now)
        now, tries = house.one.patience.due, tries + 1
    assert tries >= 10
    assert house.one.status == 1


@pytest.mark.requirement("PTCP-4-07")
async def test_a_turn_beyond_the_patience_is_not_waited_for() -> None:
    house = House()
    refusal = Refusal(Reason.BUDGET, 24_000, 23, retry_ms=(1 << 32) - 1)
    house.one.flow = 1
    house.one.take(FlowRefused(flow=1, refusal=refusal, best=None), 0, 0)
    house.closed(refusal, 0)
    assert (house.one.done, house.one.status) == (True, 1)


@pytest.mark.requirement("PTCP-4-07")
async def test_a_refusal_without_retry_is_final() -> None:
    house = House()
    house.one.take(FlowRefused(flow=1, refusal=Refusal(Reason.VOLTAGE_RANGE), best=None), 0, 0)
    house.closed(Refusal(Reason.VOLTAGE_RANGE))
    assert house.one.done
    assert isinstance(house.told()[-1], Ended)


@pytest.mark.requirement("PTCP-8-03")
async def test_trips_wait_longer_each_time_and_five_in_ten_minutes_end_in_off() -> None:
    house = House()
    house.ready()
    waits = []
    now = 0
    for _ in range(4):
        house.trip(now)
        waits.append((house.one.patience.due - now) // S)
        now = house.one.patience.due
    assert waits == [1, 2, 4, 8]
    house.trip(now)
    assert house.one.is_off
    assert not house.one.done
    assert house.one.status == 1
    assert house.one.answers_to("none")
    house.one.reset()
    assert house.one.patience.due == 0
    assert house.one.status == 0


@pytest.mark.requirement("PTCP-8-03")
async def test_trips_older_than_ten_minutes_do_not_count() -> None:
    house = House()
    house.ready()
    for number in range(12):
        house.trip(number * 200 * S)
    assert house.one.patience.due < NEVER
    assert not house.one.is_off


def test_back_off_doubles_up_to_sixteen_seconds() -> None:
    assert [back_off_ns(times) // S for times in range(1, 8)] == [1, 2, 4, 8, 16, 16, 16]


async def test_a_cut_tells_the_load_nothing_the_lease_carries_it() -> None:
    house = House()
    house.ready()
    house.told()
    house.one.take(FlowCut(flow=1, esn_uj=5), 1, 0)
    house.closed(None, 1)
    assert house.told() == []
    assert house.one.flow == 0
    assert not house.one.done
    house.one.flow = 3
    house.ready(2 * S, resumed=True)
    assert not any(isinstance(event, Powered) for event in house.told())


async def test_a_cut_explains_one_end_and_no_refusal_on_the_next_path() -> None:
    house = House()
    house.ready()
    house.one.take(FlowCut(flow=1, esn_uj=5), 0, 0)
    house.closed(Refusal(Reason.MAINTAIN_LOST), 0)
    house.told()
    house.one.flow = 3
    house.closed(Refusal(Reason.CURRENT_RANGE, 2_000, 1_000), 1 * S)
    assert house.said[-1] == "refused"
    assert (house.one.done, house.one.status) == (True, 1)
    assert isinstance(house.told()[-1], Ended)


async def test_a_path_lost_before_any_answer_decides_nothing() -> None:
    house = House()
    event = FlowClosed(flow=1, refusal=None, truncated=True, esn_uj=0, acked_uj=0, heat_uj=0)
    house.one.take(event, 0, 0)
    assert (house.one.done, house.one.flow) == (False, 0)


@pytest.mark.requirement("PTCP-4-05")
async def test_a_lease_without_ready_powers_nothing() -> None:
    house = House()
    house.ready()
    house.one.take(FlowCut(flow=1, esn_uj=5), 0, 0)
    house.closed(None, 0)
    house.told()
    house.one.flow = 3
    house.one.renew(300 * S)
    assert house.told() == []
    assert house.one.lease_until == 60 * S
    house.ready(2 * S, resumed=True)
    house.told()
    house.one.renew(300 * S)
    assert house.told() == [Lease(until_ns=300 * S)]


async def test_a_provider_that_drains_pauses_the_load_and_is_asked_again() -> None:
    house = House()
    house.ready()
    house.told()
    house.closed(Refusal(Reason.DRAINING))
    assert house.told() == [Lost(refusal=Refusal(Reason.DRAINING), returning=True)]
    assert house.one.patience.due == 1 * S
    house.one.flow = 1
    house.ready(5 * S)
    powered, *_ = house.told()
    assert isinstance(powered, Powered)


async def test_all_energy_delivered_is_a_success() -> None:
    house = House()
    house.ready()
    house.closed(Refusal(Reason.NORMAL))
    assert house.one.done
    assert house.one.status == 0


@pytest.mark.requirement("PTCP-5-06")
async def test_a_lapsed_lease_caps_the_load_until_it_is_restored() -> None:
    house = House()
    house.ready()
    house.told()
    house.one.take(LeaseLapsed(flow=1, fallback=None), 0, 0)
    house.one.take(LeaseRestored(flow=1, profile=DESIRED), 0, 0)
    assert house.told() == [
        Ceiling(limit_mw=0, rated_mw=12_000),
        Ceiling(limit_mw=12_000, rated_mw=12_000),
    ]
