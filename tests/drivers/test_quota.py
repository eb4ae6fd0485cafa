"""What is left of `--for` and `--energy`, counted in samples; and the power of samples."""

import pytest

from powertcp.drivers.display import Display
from powertcp.drivers.quota import Quota
from powertcp.dve import default_sampling
from powertcp.potcp.events import SamplesReceived
from powertcp.profile import PowerProfile, ProfileType
from powertcp.units import NS_PER_S

AC = PowerProfile.parse("230V/1A@50Hz", ProfileType.GRANT)
DC = PowerProfile.parse("12V/1A", ProfileType.GRANT)
CYCLE_UJ = 4_599_999


def cycles(count: int, energy_uj: int = CYCLE_UJ) -> SamplesReceived:
    energy_uj *= count
    return SamplesReceived(flow=1, count=80 * count, energy_uj=energy_uj, esn_uj=0)


def test_time_is_that_of_the_samples_and_credit_ends_with_the_last_block() -> None:
    quota, sampling = Quota(60 * NS_PER_S), default_sampling(AC)
    assert quota.headroom_uj(AC, sampling) == 3000 * 4_600_000 + 2_300_000
    for left in range(2999, 0, -1):
        quota.take(cycles(1), sampling)
        assert quota.headroom_uj(AC, sampling) == left * CYCLE_UJ + CYCLE_UJ // 2
        assert not quota.is_spent
    quota.take(cycles(1), sampling)
    assert quota.is_spent
    assert quota.powered_ns == 60 * NS_PER_S


def test_energy_ends_with_the_block_that_completes_it() -> None:
    quota, sampling = Quota(energy_uj=10_000_000), default_sampling(AC)
    for _ in range(3):
        assert not quota.is_spent
        assert (quota.headroom_uj(AC, sampling) or 0) >= CYCLE_UJ
        quota.take(cycles(1), sampling)
    assert quota.is_spent


def test_a_blocked_source_gets_room_for_a_block_of_contract_power() -> None:
    quota, sampling = Quota(2 * NS_PER_S), default_sampling(DC)
    quota.take(SamplesReceived(flow=1, count=1900, energy_uj=190_000, esn_uj=0), sampling)
    assert quota.headroom_uj(DC, sampling) == 15_000
    assert (quota.headroom_uj(DC, sampling, blocked=True) or 0) > 1_200_000


def test_another_flow_with_another_sampling_goes_on_where_the_first_ended() -> None:
    quota = Quota(2 * NS_PER_S)
    quota.take(cycles(50), default_sampling(AC))
    quota.take(SamplesReceived(flow=3, count=500, energy_uj=1, esn_uj=0), default_sampling(DC))
    assert quota.powered_ns == 1_500_000_000


def test_without_an_end_nothing_is_rationed() -> None:
    quota = Quota()
    quota.take(cycles(1000), default_sampling(AC))
    assert quota.headroom_uj(AC, default_sampling(AC)) is None
    assert not quota.is_spent


@pytest.mark.requirement("PTCP-3.3-03")
def test_shown_power_is_that_of_the_samples_whenever_they_arrived() -> None:
    display, sampling = Display(), default_sampling(AC)
    for _ in range(3):
        display.add(cycles(17), sampling)
    assert display.look(AC.frequency_chz)["power_mw"] == 230_000
    # in the dark there is no voltage and no current to tell of either
    assert display.look(AC.frequency_chz) == {"power_mw": 0, "simulated": False}
