"""Locks and secrets."""

import fcntl
import os
from pathlib import Path

import pytest

from powertcp.errors import HostError
from powertcp.store import files


def test_a_lock_is_held_once_and_names_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_PAUSE_S", 0.0)
    path = tmp_path / "ledger.lock"
    lock = files.take_lock(path)
    with pytest.raises(HostError, match=f"which process {os.getpid()} writes"):
        files.take_lock(path)
    with files.while_unlocked(path) as is_unlocked:
        assert not is_unlocked
    with files.while_unlocked(path, is_ours=True) as is_unlocked:
        assert is_unlocked
    os.close(lock)
    with files.while_unlocked(path) as is_unlocked:
        assert is_unlocked
    os.close(files.take_lock(path))


def test_who_looks_keeps_a_writer_waiting_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.lock"
    with files.while_unlocked(path) as is_unlocked:
        assert is_unlocked, "without a file there is no writer"
    path.write_text("")
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda _: os.close(looking))
    os.close(files.take_lock(path))


def test_a_nameless_holder_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_PAUSE_S", 0.0)
    path = tmp_path / "ledger.lock"
    path.write_text("")
    holder = os.open(path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(HostError, match="which process unknown writes"):
        files.take_lock(path)
    os.close(holder)


def test_a_secret_is_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "meter.key"
    assert files.read_secret(path, 32) is None
    files.write_secret(path, bytes(range(32)))
    assert files.read_secret(path, 32) == bytes(range(32))
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["meter.key"]
    with pytest.raises(HostError, match="has not 31 octets"):
        files.read_secret(path, 31)
    with pytest.raises(HostError, match="has not 33 octets"):
        files.read_secret(path, 33)
    path.chmod(0o604)
    with pytest.raises(HostError, match="others may read"):
        files.read_secret(path, 32)


def test_errors_name_the_file(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "file"
    for call in (
        lambda: files.write_secret(nowhere, b"x"),
        lambda: files.make_file(nowhere),
        lambda: files.take_lock(nowhere),
        lambda: files.read_secret(tmp_path, 32),
    ):
        with pytest.raises(HostError, match=str(tmp_path)):
            call()


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "heads.log"
    files.append_line(path, "one\n")
    files.append_line(path, "two\n")
    assert path.read_text() == "one\ntwo\n"
