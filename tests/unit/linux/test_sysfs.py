from powertcp.linux import path_under


def test_every_path_is_moved_under_the_root() -> None:
    assert path_under("/", "/sys/class/powercap") == "/sys/class/powercap"
    assert path_under("/tmp/fake", "/sys/class") == "/tmp/fake/sys/class"  # noqa: S108
