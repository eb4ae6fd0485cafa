"""known_providers: written whole for its owner alone, read whole or refused with the line."""

from pathlib import Path

import pytest

from powertcp.dpdp.known import FILE, KnownProvider
from powertcp.drivers.acquaintances import MAX_OCTETS, read_acquaintances, write_acquaintances
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
