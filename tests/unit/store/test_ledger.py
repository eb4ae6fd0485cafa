"""The ledger on disk: groups, refusals, pages, heads, one writer, read-only for good."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from powertcp.crypto import SigningKey
from powertcp.errors import HostError, PowerRefused
from powertcp.ledger import Code, LedgerBroken, Posted, Transfer, transfer_key
from powertcp.registry import Reason, Refusal
from powertcp.store import LedgerStore

NOON = 1_800_000_000_000_000_000
TRANSCRIPT = bytes([7]) * 32
METER = SigningKey(bytes(range(32)))


def transfer(page: int, amount: int = 1000, *, debit: str = "sink:lamp") -> Transfer:
    key = transfer_key(TRANSCRIPT, page, "energy", debit, "source:main")
    return Transfer(
        key=key, debit=debit, credit="source:main", unit="uJ", amount=amount, code=Code.RECEIPT
    )


def refusal(answer: object) -> Refusal:
    assert isinstance(answer, PowerRefused)
    assert isinstance(answer.refusal, Refusal)
    return answer.refusal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path: Path) -> Iterator[LedgerStore]:
    with LedgerStore(path) as opened:
        yield opened


@pytest.mark.requirement("LEDG-7-06")
def test_a_group_is_one_transaction_and_a_refused_batch_takes_nothing_from_the_others(
    store: LedgerStore, path: Path
) -> None:
    store.set_floor("sink:poor", "uJ", 0, NOON)
    poor = transfer(1, debit="sink:poor")
    answers = store.append([(transfer(0),), (poor,), (transfer(2), transfer(3))], NOON)
    assert (answers[0], answers[2]) == (Posted((1,)), Posted((2, 3)))
    assert refusal(answers[1]).code == Reason.ENERGY_QUOTA
    with LedgerStore(path, read_only=True) as other:
        assert [(entry.seq, entry.link) for entry in other.entries()] == [(1, 0), (2, 2), (3, 2)]
        assert other.verify() == []


@pytest.mark.requirement("LEDG-7-07")
def test_after_an_error_of_the_disk_the_ledger_is_read_only_for_good(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LedgerStore(path)
    store.append([(transfer(0),)], NOON)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("powertcp.store.ledger.BUSY_S", 0.0)
    store.close()
    blocker.close()
    store = LedgerStore(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(HostError, match="database is locked"):
        store.append([(transfer(1),)], NOON)
    blocker.close()
    assert store.is_read_only
    with pytest.raises(PowerRefused) as refused:
        store.append([(transfer(1),)], NOON)
    assert refusal(refused.value).code == Reason.MAINTENANCE
    with pytest.raises(PowerRefused):
        store.sign_head(METER, NOON)
    assert [entry.seq for entry in store.entries()] == [1]
    assert store.verify() == []
    store.close()
    with LedgerStore(path) as again:
        assert again.append([(transfer(1),)], NOON) == [Posted((2,))]


@pytest.mark.requirement("LEDG-7-08")
def test_a_daemon_refuses_to_start_on_a_changed_record_and_names_it(path: Path) -> None:
    with LedgerStore(path) as store:
        store.append([(transfer(page),) for page in range(5)], NOON)
        store.sign_head(METER, NOON)
    rough = sqlite3.connect(path, isolation_level=None)
    rough.execute("DROP TRIGGER journal_update")
    sql = rough.execute("SELECT sql FROM sqlite_schema WHERE name = 'journal_delete'").fetchone()[0]
    rough.execute("UPDATE journal SET amount = amount + 1 WHERE seq = 3")
    rough.execute(sql.replace("journal_delete", "journal_update").replace("DELETE", "UPDATE"))
    rough.close()
    with pytest.raises(LedgerBroken) as broken:
        LedgerStore(path)
    assert (broken.value.file, broken.value.record) == (str(path), "journal 3")


def test_a_reader_sees_one_moment_while_the_writer_goes_on(store: LedgerStore, path: Path) -> None:
    store.append([(transfer(0),)], NOON)
    with LedgerStore(path, read_only=True) as reader:
        with reader.at_one_moment():
            store.append([(transfer(1),)], NOON)
            store.put_page(TRANSCRIPT, 0, 0, bytes(380), 0, NOON)
            assert [entry.seq for entry in reader.entries()] == [1]
            assert list(reader.pages()) == []
        assert [entry.seq for entry in reader.entries()] == [1, 2]
        assert reader.verify() == []
