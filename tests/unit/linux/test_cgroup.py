from powertcp.linux import cgroup


def test_finds_the_version_2_hierarchy_beside_version_1() -> None:
    mounts = (
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
        "cgroup2 /sys/fs/cgroup/uni\\040fied cgroup2 rw 0 0\n"
    )
    assert cgroup.mount_point(mounts) == "/sys/fs/cgroup/uni fied"


def test_finds_nothing_where_only_version_1_is_mounted() -> None:
    assert cgroup.mount_point("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\nodd\n") is None


def test_own_group_is_the_row_of_version_2() -> None:
    assert cgroup.own_group("1:cpu:/other\n0::/user.slice/one.scope\n") == "/user.slice/one.scope"
    assert cgroup.own_group("0::/gone (deleted)\n") == "/gone"
    assert cgroup.own_group("1:cpu:/other\n") == "/"


def test_cpu_usage_is_read_from_cpu_stat() -> None:
    assert cgroup.cpu_usage_us("usage_usec 1234\nuser_usec 1000\n") == 1234
    assert cgroup.cpu_usage_us("nr_periods 0\n") == 0
