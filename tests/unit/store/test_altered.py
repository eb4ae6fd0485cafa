"""Altered ledgers: any octet of any record, octets of the files, truncated files, taken-back logs."""

import os
import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from powertcp.errors import HostError
from powertcp.ledger import LedgerBroken
from powertcp.store import LedgerStore
from tests.ledgers import (
    METER,
    NOON,
    TABLES,
    Dump,
    Rough,
    copy,
    dump,
    fill,
    found,
    names,
    rows,
    transfer,
)

LONG = os.environ.get("POWERTCP_LONG", "0") != "0"
ALTERED_OCTETS = 10_000 if LONG else 120
KEYS = {
    "journal": ("seq",), "event": ("seq",), "head": ("number",), "account": ("id",),
    "receipt": ("transcript", "page", "side"), "reservation": ("seq",),
}  # fmt: skip


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A ledger that was closed."""
    path = tmp_path / "written" / "ledger.db"
    path.parent.mkdir()
    with LedgerStore(path) as store:
        fill(store)
    return path


def altered(value: object, dice: random.Random) -> object:
    """Return `value` with one octet or one digit other than it was."""
    match value:
        case bytes():
            at = dice.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << dice.randrange(8)]) + value[at + 1 :]
        case str():
            at = dice.randrange(len(value) + 1)
            if at == len(value):
                return value + "x"
            return (
                value[:at] + chr((ord(value[at]) ^ 1 << dice.randrange(5)) or 1) + value[at + 1 :]
            )
        case int():
            return value ^ 1 << dice.randrange(62)
        case _:
            return 7


@pytest.mark.requirement("LEDG-7-01")
@pytest.mark.requirement("LEDG-7-02")
@pytest.mark.requirement("LEDG-7-08")
@pytest.mark.parametrize("table", TABLES)
def test_any_octet_of_any_record_that_changes_is_named(
    written: Path, tmp_path: Path, table: str, seed: int
) -> None:
    dice = random.Random(seed)
    tried = Counter[str]()
    all_rows = list(rows(written, table))
    columns = list(all_rows[0])
    picked = [(row, column) for row in all_rows for column in columns]
    for number, (row, column) in enumerate(
        picked if LONG else dice.sample(picked, min(30, len(picked)))
    ):
        path = copy(written, tmp_path / str(number))
        change = altered(row[column], dice)
        if column in KEYS[table] and isinstance(change, int) and column != "side":
            change |= 1 << 40  # a number that no other row has
        where = " AND ".join(f"{key} = ?" for key in KEYS[table])
        try:
            with Rough(path) as hand:
                hand.run("PRAGMA ignore_check_constraints = ON")
                hand.run("PRAGMA foreign_keys = OFF")
                keys = [row[key] for key in KEYS[table]]
                hand.run(f"UPDATE {table} SET {column} = ? WHERE {where}", change, *keys)  # noqa: S608
        except Exception as error:
            raise AssertionError(f"{table} {row} {column} {change!r}: {error}") from error
        said = found(path)
        tried[column] += 1
        due = "reservation" if table == "reservation" else names(row, table)
        assert due in said, (row, column, change, said)
        if table != "account":
            refuses(path)
    assert all(tried[column] for column in columns) or not LONG
    assert sum(tried.values()) >= len(columns)


def refuses(path: Path) -> None:
    """A daemon does not start on it, or what is altered is no balance and not at the end."""
    try:
        with LedgerStore(path) as store:
            assert store.verify() != []
    except LedgerBroken:
        pass


def taken_back(path: Path, before: Dump) -> bool:
    """Say whether a ledger is accepted though its records are not those of `before`."""
    if found(path):
        return False
    if dump(path) != before:
        return True
    with LedgerStore(path) as store:
        assert store.verify() == []
    return dump(path) != before


def flipped(path: Path, dice: random.Random) -> tuple[str, int]:
    """Alter one octet of `path`."""
    octets = bytearray(path.read_bytes())
    at = dice.randrange(len(octets))
    octets[at] ^= dice.randrange(1, 256)
    path.write_bytes(octets)
    return path.name, at


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A ledger as a writer leaves it that is killed: the last commits are in the log."""
    path = tmp_path / "running" / "ledger.db"
    path.parent.mkdir()
    with LedgerStore(path) as store:
        fill(store, 4)
        for page in range(50, 60):
            store.append([(transfer(page),)], NOON)
        return copy(path, tmp_path / "killed")


@pytest.mark.requirement("LEDG-7-08")
@pytest.mark.parametrize("state", ["closed", "killed"])
def test_no_altered_octet_of_a_file_is_accepted_in_silence(
    written: Path, killed: Path, tmp_path: Path, state: str, seed: int
) -> None:
    dice = random.Random(seed)
    source = written if state == "closed" else killed
    before = dump(copy(source, tmp_path / "same"))
    files = sorted(file.name for file in source.parent.iterdir() if file.name != "ledger.lock")
    assert ("ledger.db-wal" in files) == (state == "killed")
    silent, told = [], Counter[bool]()
    for _ in range(ALTERED_OCTETS // 2):
        path = copy(source, tmp_path / "trial")
        where = flipped(path.with_name(dice.choice(files)), dice)
        told[bool(found(path))] += 1
        if taken_back(path, before):
            silent.append(where)
        shutil.rmtree(path.parent)
    assert silent == []
    assert told[True] >= ALTERED_OCTETS // 20, told


@pytest.mark.requirement("LEDG-7-08")
def test_a_truncated_database_is_refused(written: Path, tmp_path: Path) -> None:
    size = written.stat().st_size
    lengths = {0, 1, 99, 100, 4095, 4096, size - 1, *range(0, size, size // 40)}
    for length in sorted(lengths):
        path = copy(written, tmp_path / str(length))
        os.truncate(path, length)
        assert found(path) != [], length
        with pytest.raises((LedgerBroken, HostError)):
            LedgerStore(path)


@pytest.mark.requirement("LEDG-7-08")
def test_a_truncated_log_beside_its_index_is_refused(killed: Path, tmp_path: Path) -> None:
    size = killed.with_name("ledger.db-wal").stat().st_size
    for length in sorted({0, 31, 32, 33, size - 1, *range(0, size, size // 40)}):
        path = copy(killed, tmp_path / str(length))
        os.truncate(path.with_name("ledger.db-wal"), length)
        for _ in range(2):  # whoever looks leaves the evidence
            assert found(path) == ["file"], length
        with pytest.raises(LedgerBroken, match=r"ledger\.db-wal"):
            LedgerStore(path)


def test_a_truncated_log_alone_gives_a_ledger_that_ends_earlier_or_is_refused(
    killed: Path, tmp_path: Path
) -> None:
    size = killed.with_name("ledger.db-wal").stat().st_size
    opened = []
    for length in sorted({0, 32, size - 1, *range(0, size, size // 40)}):
        path = copy(killed, tmp_path / str(length))
        path.with_name("ledger.db-shm").unlink()
        os.truncate(path.with_name("ledger.db-wal"), length)
        try:
            store = LedgerStore(path)
        except LedgerBroken:  # a head was signed over what is not there any more
            continue
        with store:
            opened.append(len(list(store.entries())))
            assert all(finding.is_warning for finding in store.verify())
            assert set(store.trial_balance().values()) <= {0}
    assert len(set(opened)) > 3
    assert max(opened) < len(list(rows(copy(killed, tmp_path / "whole"), "journal")))


@pytest.mark.requirement("LEDG-7-08")
def test_a_ledger_that_was_put_back_is_refused(written: Path, tmp_path: Path) -> None:
    earlier = copy(written, tmp_path / "earlier")
    with LedgerStore(written) as store:
        store.append([(transfer(99),)], NOON)
        store.sign_head(METER, NOON)
    written.write_bytes(earlier.read_bytes())
    assert found(written) == ["head 5"]
    with pytest.raises(LedgerBroken, match=r"head 5: it is missing, heads\.log has it"):
        LedgerStore(written)


def test_a_line_of_the_signed_heads_that_changed_is_named(written: Path) -> None:
    log = written.with_name("heads.log")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], lines[1].replace("a", "b", 1), *lines[2:]]))
    assert found(written) == ["heads.log line 2"]
    log.write_text("".join(lines[:2]))
    assert found(written) == ["heads.log line 3"]
    with pytest.raises(LedgerBroken, match=r"heads.log line 3: 2 heads are missing"):
        LedgerStore(written)


@pytest.mark.parametrize("cut", [0, 1, 60])
def test_the_line_of_the_last_head_is_completed(written: Path, cut: int) -> None:
    log = written.with_name("heads.log")
    whole = log.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    log.write_bytes(whole[: len(whole) - len(last) + cut])
    with LedgerStore(written) as store:
        assert store.verify() == []
    assert log.read_bytes() == whole


def test_a_deleted_record_is_named(written: Path, tmp_path: Path) -> None:
    for table, where in (
        ("journal", "seq = 5"),
        ("event", "seq = 5"),
        ("head", "number = 2"),
        ("receipt", "page = 3"),
        ("account", "id = 2"),
    ):
        path = copy(written, tmp_path / table)
        first = next(row for row in rows(written, table) if where.partition(" = ")[2] in {
            str(row.get(where.partition(" = ")[0]))
        })  # fmt: skip
        with Rough(path) as hand:
            hand.run(f"DELETE FROM {table} WHERE {where}")  # noqa: S608
        assert names(first, table) in found(path)


def test_a_removed_trigger_and_a_foreign_table_are_named(written: Path) -> None:
    rough = sqlite3.connect(written, isolation_level=None)
    rough.execute("DROP TRIGGER journal_update")
    rough.execute("CREATE TABLE other (a)")
    rough.close()
    assert found(written) == ["table other", "trigger journal_update"]
    with pytest.raises(LedgerBroken, match="table other: it is not as this program makes it"):
        LedgerStore(written)
