"""known_providers: written whole for its owner alone, read whole or refused with the line."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from powertcp.dpdp.known import FILE, KnownProvider
from powertcp.drivers import acquaintances
from powertcp.drivers.acquaintances import (
    LOCK,
    MAX_OCTETS,
    acquaint,
    read_acquaintances,
    write_acquaintances,
)
from powertcp.errors import ConfigError, HostError

BENCH = KnownProvider(id=bytes(16), first_s=1, last_s=2, name="Bench", is_pinned=True)


def test_who_was_met_is_there_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert read_acquaintances(folder) == {}
    write_acquaintances(folder, {BENCH.id: BENCH})
    assert read_acquaintances(folder) == {BENCH.id: BENCH}
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_file_that_cannot_be_read_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text("# who\nnobody\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2"):
        read_acquaintances(tmp_path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_acquaintances(tmp_path)
    path.write_bytes(b"#" * (MAX_OCTETS + 1))
    with pytest.raises(ConfigError, match="more than"):
        read_acquaintances(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(HostError, match="read known providers"):
        read_acquaintances(tmp_path)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_acquaintances(tmp_path, {BENCH.id: BENCH})
    other = tmp_path / "other"
    (other / FILE).mkdir(parents=True)
    (other / FILE / "in the way").touch()
    with pytest.raises(HostError, match="write known providers"):
        write_acquaintances(other, {})
    assert [path.name for path in other.iterdir()] == [FILE]
    assert read_acquaintances(tmp_path) == {BENCH.id: BENCH}


# as two consumers of one state folder do, each with another provider every time
MEETS = """
import sys
from pathlib import Path
from powertcp.dpdp.known import KnownProvider
from powertcp.drivers.acquaintances import acquaint
first, folder = int(sys.argv[1]), Path(sys.argv[2])
sys.stdin.readline()
for number in range(first, first + 40):
    acquaint(folder, KnownProvider(id=number.to_bytes(16, "big"), first_s=1, last_s=number))
"""


@pytest.mark.requirement("DPDP-7-04")
def test_two_processes_that_meet_providers_at_once_lose_none(tmp_path: Path) -> None:
    acquaint(tmp_path, BENCH)
    words = [sys.executable, "-c", MEETS]
    both = [
        subprocess.Popen([*words, str(first), str(tmp_path)], stdin=subprocess.PIPE)
        for first in (1000, 2000, 3000)
    ]
    for one in both:
        # they begin when all are there, each with its first
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.flush()
    for one in both:
        one.communicate()
        assert one.returncode == 0
    met = {int.from_bytes(provider, "big") for provider in read_acquaintances(tmp_path)}
    assert met == {0, *range(1000, 1040), *range(2000, 2040), *range(3000, 3040)}
    assert read_acquaintances(tmp_path)[BENCH.id].is_pinned
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, LOCK]


def test_who_is_stopped_with_the_lock_holds_nobody_up_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquaintances, "LOCK_S", 0.05)
    acquaint(tmp_path, BENCH)
    lock = os.open(tmp_path / LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(HostError, match="write known providers"):
            acquaint(tmp_path, BENCH)
    finally:
        os.close(lock)
    assert acquaint(tmp_path, BENCH) == {BENCH.id: BENCH}
