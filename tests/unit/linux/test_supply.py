"""What flowed out of a battery between two readings."""

import pytest

from powertcp.linux.supply import BatteryReading, drawn_uj
from powertcp.units import NS_PER_S

S = NS_PER_S


def reading(
    left_uj: int | None = None,
    charge_uah: int | None = None,
    voltage_uv: int | None = None,
    power_uw: int | None = None,
) -> BatteryReading:
    return BatteryReading(True, left_uj, charge_uah, voltage_uv, power_uw)


def test_its_count_of_energy_goes_before_everything() -> None:
    before, after = reading(90, 5_000, 12_000_000, 9), reading(80, 4_000, 12_000_000, 9)
    assert drawn_uj(before, after, S) == 10
    # a gauge that corrects itself gives nothing back
    assert drawn_uj(after, before, S) == 0


def test_charge_is_worth_the_voltage_at_which_it_flowed() -> None:
    before, after = reading(None, 5_000, 12_200_000), reading(None, 4_900, 11_800_000)
    # 0.1 mAh of 12 V are 1.2 mWh
    assert drawn_uj(before, after, S) == 1_200 * 3_600
    assert drawn_uj(after, before, S) == 0


def test_power_is_the_mean_of_both_ends() -> None:
    assert drawn_uj(reading(power_uw=10_000_000), reading(power_uw=12_000_000), 2 * S) == 22_000_000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (reading(), reading()),
        (reading(5), reading()),
        (reading(charge_uah=5), reading(charge_uah=4)),
        (reading(charge_uah=5, voltage_uv=1), reading(charge_uah=4)),
        (reading(power_uw=5), reading()),
        (reading(5), reading(4)._replace(is_discharging=False)),
        (reading(5)._replace(is_discharging=False), reading(4)),
    ],
)
def test_what_it_does_not_say_is_not_known(before: BatteryReading, after: BatteryReading) -> None:
    assert drawn_uj(before, after, S) is None
