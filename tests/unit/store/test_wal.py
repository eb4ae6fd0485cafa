"""The write-ahead log is judged before SQLite recovers it."""

import os
import struct
from pathlib import Path

import pytest

from powertcp.errors import HostError
from powertcp.store import LedgerStore
from powertcp.store.wal import FRAME_HEADER, LOG_HEADER, check_files, check_length, check_log
from tests.ledgers import NOON, copy, fill, transfer

COMMITS = 6


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A ledger whose last commits are in the log alone."""
    path = tmp_path / "running" / "ledger.db"
    path.parent.mkdir()
    with LedgerStore(path) as store:
        fill(store, 1)
    with LedgerStore(path) as store:
        for page in range(50, 50 + COMMITS):
            store.append([(transfer(page),)], NOON)
        return copy(path, tmp_path / "killed")


def log_of(path: Path) -> Path:
    return path.with_name("ledger.db-wal")


def index_of(path: Path) -> Path:
    return path.with_name("ledger.db-shm")


def frames(path: Path) -> list[tuple[int, bool]]:
    """Return the offset of each frame and whether it ends a commit."""
    octets = log_of(path).read_bytes()
    step = FRAME_HEADER + struct.unpack(">I", octets[8:12])[0]
    return [
        (at, octets[at + 4 : at + 8] != bytes(4)) for at in range(LOG_HEADER, len(octets), step)
    ]


def flip(path: Path, at: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[at] ^= 0x10
    path.write_bytes(octets)


def said(path: Path) -> list[tuple[str, bool]]:
    return [(finding.record, finding.is_warning) for finding in check_files(path)]


@pytest.mark.requirement("LEDG-7-08")
def test_a_whole_log_and_none_are_right(killed: Path) -> None:
    assert said(killed) == []
    index_of(killed).unlink()
    assert said(killed) == []
    with LedgerStore(killed) as store:
        assert store.verify() == []
    assert not log_of(killed).exists()
    assert said(killed) == []


@pytest.mark.requirement("LEDG-7-08")
@pytest.mark.parametrize("where", [0, 5, 12, 30])
def test_an_altered_frame_is_named_by_its_number_with_or_without_the_index(
    killed: Path, where: int
) -> None:
    at, _ = frames(killed)[1]
    flip(log_of(killed), at + where)
    assert said(killed) == [("ledger.db-wal frame 2", False)]
    index_of(killed).unlink()
    assert said(killed) == [("ledger.db-wal frame 2", False)]


@pytest.mark.requirement("LEDG-7-08")
def test_the_index_tells_a_lost_last_commit_from_one_that_was_never_acknowledged(
    killed: Path,
) -> None:
    last = len(frames(killed))
    flip(log_of(killed), frames(killed)[-1][0] + 40)
    assert said(killed) == [(f"ledger.db-wal frame {last}", False)]
    index_of(killed).unlink()
    assert said(killed) == [(f"ledger.db-wal frame {last}", True)]
    with LedgerStore(killed) as store:
        assert [finding.is_warning for finding in store.verify()] == [True]
        assert len(list(store.entries())) == 3 + COMMITS - 1


def test_a_commit_whose_end_was_not_written_is_a_warning(killed: Path) -> None:
    whole = frames(killed)
    ends = [number for number, (_, is_commit) in enumerate(whole) if is_commit]
    index_of(killed).unlink()
    os.truncate(log_of(killed), whole[ends[-1]][0])
    assert said(killed) == [(f"ledger.db-wal frame {ends[-1] + 1}", True)]
    os.truncate(log_of(killed), whole[ends[-2] + 1][0])
    assert said(killed) == []


def test_a_part_of_a_frame_at_the_end_is_a_warning(killed: Path) -> None:
    index_of(killed).unlink()
    os.truncate(log_of(killed), log_of(killed).stat().st_size - 1)
    assert [is_warning for _, is_warning in said(killed)] == [True]


@pytest.mark.requirement("LEDG-7-08")
@pytest.mark.parametrize("at", [0, 9, 17, 25])
def test_an_altered_header_is_named(killed: Path, at: int) -> None:
    flip(log_of(killed), at)
    assert said(killed) == [("ledger.db-wal", False)]


def test_a_log_of_which_the_header_alone_is_there_lost_commits(killed: Path) -> None:
    os.truncate(log_of(killed), LOG_HEADER)
    assert said(killed) == [("ledger.db-wal frame 1", False)]
    log_of(killed).unlink()
    assert said(killed)[0] == ("ledger.db-wal frame 1", False)
    index_of(killed).unlink()
    assert said(killed) == []


@pytest.mark.parametrize("at", [3, 17, 41, 60])
def test_an_index_that_does_not_check_is_no_witness(killed: Path, at: int) -> None:
    flip(index_of(killed), at)
    assert said(killed) == []
    octets = bytearray(index_of(killed).read_bytes())
    octets[48 : 2 * 48] = octets[:48]
    index_of(killed).write_bytes(octets)
    flip(log_of(killed), frames(killed)[-1][0] + 40)
    warned = [is_warning for _, is_warning in said(killed)]
    assert warned == [at != 60], "the copies are the same again where the second was altered"


def test_an_index_of_another_log_is_no_witness(killed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "ledger.db"
    other.parent.mkdir()
    with LedgerStore(other) as store:
        fill(store, 1)
        index_of(killed).write_bytes(index_of(other).read_bytes())
    assert said(killed) == []


@pytest.mark.requirement("LEDG-7-08")
def test_a_database_without_log_has_the_length_of_its_header(killed: Path) -> None:
    with LedgerStore(killed):
        pass
    size = killed.stat().st_size
    for length in (size - 1, size - 4096, size + 1, 50):
        os.truncate(killed, length)
        assert [finding.record for finding in check_length(killed)] == ["file"]
    os.truncate(killed, 0)
    assert check_length(killed) == []


def test_pages_of_64_kib_have_a_length_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    octets = bytearray(2 * 65_536)
    octets[16:18], octets[28:32] = (1).to_bytes(2, "big"), (2).to_bytes(4, "big")
    path.write_bytes(octets)
    assert check_length(path) == []


def test_what_cannot_be_read_is_an_error_of_the_host(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with pytest.raises(HostError, match="read the ledger"):
        check_length(path)
    log_of(path).mkdir()
    with pytest.raises(HostError, match="read the log of the ledger"):
        check_log(path)
