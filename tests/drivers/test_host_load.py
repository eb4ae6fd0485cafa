"""What a host draws, by the files that its kernel would show."""

from pathlib import Path

import pytest

from powertcp.drivers.host_load import SEARCH_NS, HostLoad, HostSpan
from powertcp.errors import HostError
from powertcp.linux import find_batteries, find_counters, find_zones
from powertcp.units import NS_PER_S

S = NS_PER_S
RANGE = 262_143_328_850


def put(folder: Path, **values: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n", encoding="ascii")
    return folder


def zone(root: Path, number: int, name: str, energy_uj: int) -> Path:
    folder = root / "sys/class/powercap" / f"intel-rapl:{number}"
    return put(folder, name=name, energy_uj=energy_uj, max_energy_range_uj=RANGE)


def battery(root: Path, name: str = "BAT0", **values: object) -> Path:
    folder = root / "sys/class/power_supply" / name
    return put(folder, **{"type": "Battery", "status": "Discharging"} | values)


def said(span: HostSpan | None) -> tuple[int, str, bool]:
    assert span is not None
    return span.energy_uj, span.source, span.is_measured


# -- counters ----------------------------------------------------------------------------------


@pytest.mark.requirement("FWRL-4-03")
def test_counters_of_all_packages_are_read_and_may_wrap(tmp_path: Path) -> None:
    zone(tmp_path, 0, "package-0", RANGE - 1_000_000)
    zone(tmp_path, 1, "package-1", 5)
    load = HostLoad(40_000, str(tmp_path))
    assert load.look(0) is None
    zone(tmp_path, 0, "package-0", 24_000_000)
    zone(tmp_path, 1, "package-1", 16_000_005)
    span = load.look(S)
    assert said(span) == (41_000_000, "powercap package-0, package-1", True)
    assert span is not None
    assert span.span_ns == S
    # nothing passed
    assert load.look(S) is None


def test_the_platform_counts_for_all_of_it(tmp_path: Path) -> None:
    zone(tmp_path, 0, "package-0", 5)
    zone(tmp_path, 1, "psys", 7)
    assert [one.name for one in find_counters(str(tmp_path))] == ["psys"]


def test_parts_of_a_package_and_limits_do_not_matter(tmp_path: Path) -> None:
    zone(tmp_path, 0, "package-0", 5)
    put(tmp_path / "sys/class/powercap/intel-rapl:0:0", name="core", energy_uj=5)
    assert [one.name for one in find_counters(str(tmp_path))] == ["package-0"]
    # none of it can be limited
    with pytest.raises(HostError):
        find_zones(str(tmp_path))
    put(tmp_path / "sys/class/powercap/intel-rapl:0", constraint_0_power_limit_uw=15_000_000)
    assert [one.name for one in find_zones(str(tmp_path))] == ["package-0"]


def test_a_kernel_without_counters_or_with_secret_ones_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="powercap"):
        find_counters(str(tmp_path))
    (tmp_path / "sys/class/powercap").mkdir(parents=True)
    with pytest.raises(HostError, match="powercap"):
        find_counters(str(tmp_path))
    put(tmp_path / "sys/class/powercap/intel-rapl:0", name="package-0")
    with pytest.raises(HostError, match="energy_uj"):
        find_counters(str(tmp_path))


def test_a_counter_that_goes_away_is_looked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = zone(tmp_path, 0, "package-0", 5)
    load = HostLoad(40_000, str(tmp_path))
    load.look(0)
    (folder / "energy_uj").unlink()
    assert said(load.look(S)) == (40_000_000, "40 W by the policy", False)
    assert "energy_uj" in caplog.text
    zone(tmp_path, 0, "package-0", 1_000)
    assert said(load.look(2 * S))[2] is False
    # found again, and it has to count first
    assert said(load.look(S + SEARCH_NS))[2] is False
    zone(tmp_path, 0, "package-0", 3_000)
    assert said(load.look(2 * S + SEARCH_NS)) == (2_000, "powercap package-0", True)


# -- batteries ---------------------------------------------------------------------------------


def test_a_battery_says_it_while_it_discharges(tmp_path: Path) -> None:
    battery(tmp_path, energy_now=40_000_000)
    load = HostLoad(None, str(tmp_path))
    assert load.look(0) is None
    battery(tmp_path, energy_now=39_990_000)
    assert said(load.look(3 * S)) == (36_000_000, "battery BAT0", True)
    battery(tmp_path, energy_now=39_990_000, status="Charging")
    assert load.look(4 * S) is None


def test_two_batteries_are_one_source_and_one_of_them_may_rest(tmp_path: Path) -> None:
    battery(tmp_path, power_now=10_000_000)
    battery(tmp_path, "BAT1", status="Not charging", power_now=0)
    load = HostLoad(None, str(tmp_path))
    load.look(0)
    assert said(load.look(S)) == (10_000_000, "battery BAT0, BAT1", True)


def test_current_and_voltage_do_for_power_whatever_their_sign(tmp_path: Path) -> None:
    battery(tmp_path, current_now=-1_500_000, voltage_now=12_000_000)
    [found] = find_batteries(str(tmp_path))
    reading = found.read()
    assert (reading.power_uw, reading.left_uj, reading.charge_uah) == (18_000_000, None, None)
    battery(tmp_path, energy_now="none", charge_now=3_000)
    assert found.read().left_uj is None
    assert found.read().charge_uah == 3_000


def test_only_what_the_machine_runs_on_is_its_battery(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="find a battery"):
        find_batteries(str(tmp_path))
    supplies = tmp_path / "sys/class/power_supply"
    put(supplies / "AC", type="Mains", online=1)
    put(supplies / "hidpp_battery_0", type="Battery", scope="Device", status="Discharging")
    put(supplies / "odd")
    with pytest.raises(HostError, match="find a battery"):
        find_batteries(str(tmp_path))
    battery(tmp_path, "BAT1", scope="System")
    assert [one.name for one in find_batteries(str(tmp_path))] == ["BAT1"]


# -- declared ----------------------------------------------------------------------------------


def test_what_is_declared_adds_up_however_time_is_cut(tmp_path: Path) -> None:
    load = HostLoad(7, str(tmp_path))
    load.look(0)
    spans = [load.look(S * part // 17) for part in range(1, 18)]
    assert sum(said(span)[0] for span in spans) == 7_000
    assert said(spans[0])[1:] == ("7 mW by the policy", False)


def test_nobody_may_know(tmp_path: Path) -> None:
    load = HostLoad(None, str(tmp_path))
    assert [load.look(0), load.look(S), load.look(2 * SEARCH_NS)] == [None, None, None]
