from powertcp.linux import rapl


def test_only_whole_packages_are_capped() -> None:
    assert rapl.is_package("intel-rapl:0")
    assert rapl.is_package("intel-rapl:12")
    assert not rapl.is_package("intel-rapl:0:1")
    assert not rapl.is_package("intel-rapl")
    assert not rapl.is_package("intel-rapl-mmio:0")


def test_a_counter_that_wrapped_has_counted_on() -> None:
    assert rapl.counted_uj(100, 350, 1_000) == 250
    assert rapl.counted_uj(900, 150, 1_000) == 250
    assert rapl.counted_uj(7, 7, 1_000) == 0
