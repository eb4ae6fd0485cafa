"""What the host tells a daemon, and what a daemon makes of it."""

import os
import stat
from pathlib import Path

import pytest

from powertcp.drivers.daemon import Notifier, activated_sockets, make_private
from powertcp.errors import ConfigError, HostError


def test_a_watchdog_is_fed_at_half_of_its_interval() -> None:
    assert Notifier({}).watchdog_s == 0
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_s == 15
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog_s == 0


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "٣"])
def test_a_number_of_the_service_manager_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f'WATCHDOG_USEC: a whole number is needed, got "{text}"'):
        Notifier({"WATCHDOG_USEC": text})
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": text}
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        activated_sockets(environ)
    assert not environ


def test_descriptors_that_are_meant_for_others_are_left_alone() -> None:
    assert activated_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "abc"}) == []
    assert activated_sockets({}) == []


def test_an_activated_descriptor_that_is_no_socket_is_named() -> None:
    # no descriptor is as high as that
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1048577", "LISTEN_FDNAMES": ""}
    environ["LISTEN_FDNAMES"] = ":".join(["metrics"] * 1_048_576)
    with pytest.raises(ConfigError, match="descriptor 1048579 is no socket: Bad file descriptor"):
        activated_sockets(environ)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o720, 0o777])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(HostError, match="use a folder that others may write"):
        make_private(folder)


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "a" / "b").chmod(0o755)
    make_private(tmp_path / "a" / "b")
