"""The full verification names the record, whatever was done to it, and goes on."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from powertcp.errors import HostError
from powertcp.ledger import LedgerBroken
from powertcp.store import LedgerStore, facts_text, verify
from powertcp.store.reads import Reads
from powertcp.store.rows import Event, event_chain
from tests.ledgers import METER, NOON, TRANSCRIPT, Rough, fill, found, transfer

RECEIPT = f"receipt {TRANSCRIPT.hex()}"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with LedgerStore(path) as store:
        fill(store, 5)
    return path


def rechain(hand: Rough, path: Path, kind: str, facts: str) -> None:
    """Add an event whose chain value is right, as whoever can compute it would."""
    with LedgerStore(path, read_only=True) as store:
        last = list(store.events())[-1]
    event = Event(last.seq + 1, NOON, kind, facts)
    chain = event_chain(last.chain, event)
    hand.run("INSERT INTO event VALUES (?, ?, ?, ?, ?)", event.seq, NOON, kind, facts, chain)


SPOILED: dict[str, tuple[str, ...]] = {
    # one record missing, one of another number, one too many
    "journal 4": ("DELETE FROM journal WHERE seq = 4",),
    "event 6": ("UPDATE event SET seq = 999 WHERE seq = 6",),
    "head 1": ("UPDATE head SET number = 9 WHERE number = 1",),
    "account 2": ("DELETE FROM account WHERE id = 2",),
    "account 9": ("INSERT INTO account (id, name, unit) VALUES (9, 'nobody', 'uJ')",),
    "account 1": ("UPDATE account SET floor = NULL WHERE id = 1",),
    "account 3": ("UPDATE account SET name = 'payer:lomp' WHERE id = 3",),
    f"{RECEIPT}:2:0": ("DELETE FROM receipt WHERE page = 2",),
    f"{RECEIPT}:3:0": ("UPDATE receipt SET state = 0 WHERE page = 3",),
    f"{RECEIPT}:4:1": ("UPDATE receipt SET side = 1 WHERE page = 4",),
    "reservation": ("DELETE FROM reservation",),
    "journal 12": ("DELETE FROM journal WHERE seq >= 12",),
    # fields that are not of their type in the file
    "journal 5": ("UPDATE journal SET kind = -1 WHERE seq = 5",),
    "event 5": ("UPDATE event SET at = -1 WHERE seq = 5",),
    "journal 6": ("UPDATE journal SET kind = 7 WHERE seq = 6",),
}


@pytest.mark.requirement("LEDG-7-08")
@pytest.mark.parametrize("record", SPOILED)
def test_the_record_is_named(written: Path, record: str) -> None:
    with Rough(written) as hand:
        hand.run("PRAGMA foreign_keys = OFF")
        for statement in SPOILED[record]:
            hand.run(statement)
    assert record in found(written)


@pytest.mark.requirement("LEDG-7-08")
def test_a_head_over_another_chain_value_and_over_what_is_not_there(written: Path) -> None:
    with LedgerStore(written) as store:
        store.append([(transfer(70),)], NOON)
        store.sign_head(METER, NOON)
    with Rough(written) as hand:
        hand.run("UPDATE journal SET chain = zeroblob(32) WHERE seq = 16")
    said = found(written)
    assert said.count("journal 16") == 2, "by the chain and by the head"
    with Rough(written) as hand:
        hand.run("DELETE FROM journal WHERE seq = 16")
    assert "journal 16" in found(written)


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("account", facts_text({"id": 1, "name": "sink:lamp", "unit": "uJ"})),
        ("account", facts_text({"id": 77, "name": "sink:lamp", "unit": "uJ"})),
        ("account", facts_text({"id": 77})),
        ("floor", facts_text({"account": "sink:lamp"})),
        ("page", "no JSON"),
        ("page", "[]"),
    ],
)
def test_an_event_that_no_ledger_writes_is_named_though_its_chain_value_is_right(
    written: Path, kind: str, facts: str
) -> None:
    with Rough(written) as hand:
        rechain(hand, written, kind, facts)
    with LedgerStore(written, read_only=True) as store:
        last = list(store.events())[-1].seq
    assert f"event {last}" in found(written)


def test_a_page_of_which_no_event_tells_and_one_without_a_page(written: Path) -> None:
    with Rough(written) as hand:
        body = b"x" * 380
        hand.run("INSERT INTO receipt VALUES (?, 77, 0, ?, 0)", TRANSCRIPT, body)
        facts = {"body": "", "page": 88, "side": 0, "state": 0, "transcript": TRANSCRIPT.hex()}
        rechain(hand, written, "page", facts_text(facts))
    said = found(written)
    assert f"{RECEIPT}:77:0" in said
    assert f"{RECEIPT}:88:0" in said


TABLES = ("journal", "event", "receipt", "account", "head")


@pytest.mark.requirement("LEDG-7-08")
@pytest.mark.parametrize("table", TABLES)
def test_where_sqlite_cannot_go_on_the_next_record_is_named(
    written: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "journal": "entries", "event": "events", "receipt": "pages", "account": "accounts",
        "head": "heads",
    }[table]  # fmt: skip

    def torn(*given: object, **named: object) -> object:
        yield from ()
        raise sqlite3.DatabaseError("database disk image is malformed")

    with LedgerStore(written, read_only=True) as store:
        monkeypatch.setattr(f"powertcp.store.reads.Reads.{rows}", torn)
        said = [finding.record for finding in store.verify()]
    first = f"{table} 1"
    assert first in said or (table == "head" and "file" in said)


def test_a_flood_of_findings_ends(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_MOST_FINDINGS", 3)
    with Rough(written) as hand:
        hand.run("UPDATE journal SET at = at + 1")
    assert len(found(written)) == 3


def test_structure_is_judged_by_sqlite_itself(written: Path) -> None:
    with Rough(written) as hand:
        hand.run("PRAGMA writable_schema = ON")
        hand.run(
            "UPDATE sqlite_schema SET sql = replace(sql, '= 16', '= 15') WHERE name = 'journal'"
        )
    said = found(written)
    assert "table journal" in said or "file" in said


def test_another_version_is_refused(written: Path) -> None:
    with Rough(written) as hand:
        hand.run("PRAGMA user_version = 2")
    assert found(written) == ["file"]
    with pytest.raises(LedgerBroken, match="application and version are"):
        LedgerStore(written)


def test_signed_heads_that_cannot_be_read(written: Path) -> None:
    log = written.with_name("heads.log")
    log.unlink()
    log.mkdir()
    with pytest.raises(HostError, match="read the signed heads"):
        LedgerStore(written)


def test_lines_that_are_too_many_or_too_few(written: Path) -> None:
    log = written.with_name("heads.log")
    whole = log.read_text()
    log.write_text(whole + "3 more\n")
    assert found(written) == ["head 3"]
    log.write_text("")
    assert found(written) == ["heads.log line 1"]
    log.write_bytes(b"\xff" + whole.encode()[1:])
    assert found(written) == ["heads.log line 1"]


def test_the_tail_is_judged_from_where_it_begins(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "TAIL", 3)
    with LedgerStore(written) as store:
        assert store.verify(full=False) == []
    with Rough(written) as hand:
        hand.run("PRAGMA foreign_keys = OFF")
        hand.run("DELETE FROM journal WHERE seq = 12")
    with pytest.raises(LedgerBroken, match="journal 13"):
        LedgerStore(written)


WRONG: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "journal 2": ("entries", lambda row: row._replace(memo=7)),
    "event 2": ("events", lambda row: replace(row, facts=b"octets")),
    "head 2": ("heads", lambda row: replace(row, chain="text")),
    f"{RECEIPT}:1:0": ("pages", lambda row: replace(row, body="text")),
    "receipt text:1:0": ("pages", lambda row: replace(row, transcript="text")),
}


@pytest.mark.requirement("LEDG-7-08")
@pytest.mark.parametrize("record", WRONG)
def test_a_field_that_is_of_another_type_in_the_file_is_named(
    written: Path, record: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, change = WRONG[record]
    read: Callable[..., Iterator[Any]] = getattr(Reads, rows)

    def changed(self: Reads, *given: object, **named: object) -> Iterator[Any]:
        for number, row in enumerate(read(self, *given, **named)):
            yield change(row) if number == 1 else row

    with LedgerStore(written, read_only=True) as store:
        monkeypatch.setattr(Reads, rows, changed)
        assert record in [finding.record for finding in store.verify()]
        if rows in ("entries", "events"):
            assert record in [finding.record for finding in store.verify(full=False)]


def test_a_structure_that_sqlite_cannot_judge_is_a_finding(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reads.all

    def torn(self: Reads, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        if statement == "PRAGMA integrity_check":
            raise sqlite3.DatabaseError("database disk image is malformed")
        if statement == "PRAGMA quick_check":
            yield ("row 1 missing from index",)
        else:
            yield from read(self, statement, *values)

    with LedgerStore(written, read_only=True) as store:
        monkeypatch.setattr(Reads, "all", torn)
        assert [finding.record for finding in store.verify()] == ["file"]
        assert [str(one) for one in store.verify(full=False)] == ["file: row 1 missing from index"]
