from powertcp.linux import rapl


def test_only_whole_packages_are_capped() -> None:
    assert rapl.is_package("intel-rapl:0")
    assert rapl.is_package("intel-rapl:12")
    assert not rapl.is_package("intel-rapl:0:1")
    assert not rapl.is_package("intel-rapl")
    assert not rapl.is_package("intel-rapl-mmio:0")
