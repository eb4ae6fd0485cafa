"""The ledger on disk: groups, refusals, pages, heads, one writer, read-only for good."""

import errno
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from powertcp.crypto import SigningKey
from powertcp.errors import BrokenInvariant, HostError, LocalProtocolError, PowerRefused
from powertcp.ledger import Kind, LedgerBroken, Posted
from powertcp.registry import Reason, Refusal
from powertcp.store import Answer, Job, LedgerStore, PageState, ledger
from tests.ledgers import METER, NOON, TRANSCRIPT, Rough, fill, page_row, transfer


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


def one(store: LedgerStore, job: Job) -> Answer:
    return store.commit([job], NOON)[0]


# ---- pages ---------------------------------------------------------------------------------------


@pytest.mark.requirement("LEDG-7-01")
def test_a_page_is_sent_then_countersigned_and_then_stays(store: LedgerStore) -> None:
    sent, signed = page_row(3, 0, PageState.SENT), page_row(3, 0, PageState.COUNTERSIGNED)
    assert store.page_state(TRANSCRIPT, 3, 0) is None
    for row, state in ((sent, 0), (sent, 0), (signed, 1), (signed, 1)):
        assert one(store, Job(page=row)) == Posted(())
        assert store.page_state(TRANSCRIPT, 3, 0) == state
    others = (
        sent,
        replace(signed, body=signed.body[:-1] + b"x"),
        replace(signed, state=PageState.DISPUTED),
        page_row(3, 0, PageState.DISPUTED),
    )
    for row in others:
        said = refusal(one(store, Job(page=replace(row, page=3))))
        assert (said.code, said.value) == (Reason.RECEIPT_INVALID, 3)
    assert store.page(TRANSCRIPT, 3, 0) == signed
    assert store.page(TRANSCRIPT, 3, 1) is None
    kinds = [event.kind for event in store.events()]
    assert kinds == ["page", "page"], "what changes nothing is no event"


def test_a_disputed_page_stays_disputed_and_unsigned(store: LedgerStore) -> None:
    sent = page_row(0, 1, PageState.SENT)
    one(store, Job(page=sent))
    disputed = replace(sent, state=PageState.DISPUTED)
    with_signature = replace(page_row(0, 1, PageState.COUNTERSIGNED), state=PageState.DISPUTED)
    assert isinstance(one(store, Job(page=with_signature)), PowerRefused)
    assert one(store, Job(page=disputed)) == Posted(())
    assert one(store, Job(page=disputed)) == Posted(())
    assert one(store, Job(page=sent)) == Posted(())
    assert isinstance(one(store, Job(page=page_row(0, 1, PageState.COUNTERSIGNED))), PowerRefused)
    assert store.page_state(TRANSCRIPT, 0, 1) is PageState.DISPUTED


def test_two_states_of_a_page_in_one_group(store: LedgerStore) -> None:
    sent, signed = page_row(0, 0, PageState.SENT), page_row(0, 0, PageState.COUNTERSIGNED)
    jobs = [Job(page=sent), Job(page=signed, transfers=(transfer(0),)), Job(page=signed)]
    assert store.commit(jobs, NOON) == [Posted(()), Posted((1,)), Posted(())]
    assert store.page(TRANSCRIPT, 0, 0) == signed
    assert store.verify() == []


def test_pages_are_found_by_flow_in_order(store: LedgerStore) -> None:
    other = bytes([9]) * 32
    for number in (2, 0, 1):
        store.put_page(TRANSCRIPT, number, 0, page_row(number, 0, PageState.SENT).body, 0, NOON)
    store.put_page(other, 7, 1, page_row(7, 1, PageState.SENT).body, 0, NOON)
    assert [row.page for row in store.pages(TRANSCRIPT)] == [0, 1, 2]
    assert [row.page for row in store.pages()] == [0, 1, 2, 7]
    last = store.last_page(TRANSCRIPT, 0)
    assert last is not None
    assert last.page == 2
    assert store.last_page(TRANSCRIPT, 1) is None
    with pytest.raises(LocalProtocolError):
        store.put_page(TRANSCRIPT, 8, 0, b"short", 0, NOON)


def test_a_page_of_which_the_transfers_are_refused_is_not_stored(store: LedgerStore) -> None:
    store.set_floor("sink:lamp", "uJ", 0, NOON)
    job = Job(page=page_row(0, 0, PageState.SENT), transfers=(transfer(0),))
    assert refusal(one(store, job)).code == Reason.ENERGY_QUOTA
    assert list(store.pages()) == []
    bad = Job(events=(("page", "{}"),), transfers=(transfer(1, debit="sink:free"),))
    assert isinstance(one(store, bad), LocalProtocolError)
    both = Job(floor=("sink:free", "uJ", 0), transfers=(transfer(1, debit="sink:free"),))
    assert isinstance(one(store, both), LocalProtocolError)
    assert list(store.entries()) == []
    assert store.account("sink:free") is None
    assert store.verify() == []


# ---- reading -------------------------------------------------------------------------------------


def test_what_was_written_can_be_asked_for(store: LedgerStore, path: Path) -> None:
    fill(store, 6)
    with LedgerStore(path, read_only=True) as reader:
        for ledger_now in (store, reader):
            lamp = ledger_now.account("sink:lamp")
            assert lamp is not None
            assert (lamp.debit, lamp.reserved, lamp.floor) == (6015, 2000, -(10**9))
            assert ledger_now.account("nobody") is None
            assert ledger_now.trial_balance() == {"uJ": 0, "micro-EUR": 0}
            assert [entry.kind for entry in ledger_now.pending()] == [Kind.PENDING]
            second = NOON + 10**9
            assert len(list(ledger_now.entries())) == 18
            assert len(list(ledger_now.entries(second, second + 1))) == 3
            assert [event.kind for event in ledger_now.events(second, second + 1)] == [
                "page", "page", "noted",
            ]  # fmt: skip
            entry = ledger_now.entry(transfer(2).key)
            assert entry is not None
            assert (entry.amount, ledger_now.entry(bytes(16))) == (1002, None)
            last = ledger_now.last_head()
            assert last is not None
            assert (last.number, [head.number for head in ledger_now.heads()]) == (2, [1, 2])


def test_a_ledger_opened_again_goes_on(path: Path) -> None:
    with LedgerStore(path) as store:
        for floor in (-1, -5000):
            store.set_floor("sink:lamp", "uJ", floor, NOON)
        hold = transfer(0, 3000, kind=Kind.PENDING, role="hold")
        store.append([(hold,)], NOON)
    with LedgerStore(path) as store:
        assert refusal(store.append([(transfer(1, 2001),)], NOON)[0]).code == Reason.ENERGY_QUOTA
        page = transfer(0, 2500, kind=Kind.POST_PENDING, pending=hold.key)
        assert store.append([(page,), (hold,)], NOON) == [
            Posted((2,)),
            Posted((1,), is_repeat=True),
        ]
        assert store.pending() == []
        assert store.verify() == []
        assert store.verify(full=False) == []


def test_a_backup_is_a_ledger(store: LedgerStore, path: Path, tmp_path: Path) -> None:
    fill(store, 3)
    target = tmp_path / "copies"
    target.mkdir()
    store.backup(target / "backup.db")
    with LedgerStore(target / "backup.db", read_only=True) as copy:
        assert copy.verify() == []
        assert list(copy.entries()) == list(store.entries())
    with pytest.raises(HostError, match="make a backup"):
        store.backup(target / "backup.db")
    assert (target / "backup.db").stat().st_mode & 0o777 == 0o600


def test_what_is_no_ledger_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"x" * 4096)
    with pytest.raises(LedgerBroken, match="file: it has 4096 octets"):
        LedgerStore(path)
    other = path.with_name("other.db")
    rough = sqlite3.connect(other)
    rough.execute("CREATE TABLE account (a)")
    rough.close()
    with pytest.raises(LedgerBroken, match="holds no ledger of this version"):
        LedgerStore(other, read_only=True)
    with pytest.raises(LedgerBroken, match=r"application and version are"):
        LedgerStore(other)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(HostError) as old:
        LedgerStore(path)
    assert old.value.errno == errno.ENOSYS


def test_a_closed_ledger_says_so(path: Path) -> None:
    store = LedgerStore(path)
    store.close()
    store.close()
    with pytest.raises(LocalProtocolError, match="is closed"):
        store.accounts()


def test_a_reader_does_not_write(store: LedgerStore, path: Path) -> None:
    store.append([(transfer(0),)], NOON)
    with LedgerStore(path, read_only=True) as reader:
        assert reader.is_read_only
        with pytest.raises(PowerRefused, match="602 MAINTENANCE"):
            reader.append([(transfer(1),)], NOON)


# ---- heads ---------------------------------------------------------------------------------------


def test_a_head_is_signed_when_there_is_something_new(store: LedgerStore, path: Path) -> None:
    first = store.sign_head(METER, NOON)
    assert store.sign_head(METER, NOON + 1) == first
    store.append([(transfer(0),)], NOON)
    second = store.sign_head(METER, NOON - 5)
    assert (second.number, second.seq, second.events, second.at_ns) == (2, 1, 2, NOON - 5)
    third = store.sign_head(SigningKey(bytes(32)), NOON)
    assert third.number == 3, "a new key signs at once"
    assert path.with_name("heads.log").read_text().count("\n") == 3
    assert store.verify() == []


# ---- when the disk refuses -----------------------------------------------------------------------


def broken_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("powertcp.store.files.append_line", refuse)


@pytest.mark.requirement("LEDG-7-07")
def test_a_head_that_cannot_be_logged_makes_it_read_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LedgerStore(path) as store:
        with monkeypatch.context() as patch:
            broken_line(patch)
            with pytest.raises(HostError, match="No space left"):
                store.sign_head(METER, NOON)
        assert store.is_read_only
        with pytest.raises(PowerRefused):
            store.append([(transfer(0),)], NOON)
    with LedgerStore(path) as store:
        assert path.with_name("heads.log").read_text().count("\n") == 1
        assert store.verify() == []


@pytest.mark.requirement("LEDG-7-07")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SQLITE_FULL", errno.ENOSPC),
        ("SQLITE_IOERR_FSYNC", errno.EIO),
        ("SQLITE_READONLY_DBMOVED", errno.EROFS),
        ("SQLITE_CANTOPEN", errno.EACCES),
        ("SQLITE_NOMEM", errno.ENOMEM),
    ],
)
def test_each_error_of_the_disk_is_told_and_ends_the_writing(
    store: LedgerStore, monkeypatch: pytest.MonkeyPatch, name: str, expected: int
) -> None:
    def refuse(self: LedgerStore, *given: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = name
        raise error

    monkeypatch.setattr(LedgerStore, "_write", refuse)
    with pytest.raises(HostError, match=name) as told:
        store.append([(transfer(0),)], NOON)
    assert told.value.errno == expected
    assert store.fault is told.value
    assert store.account("sink:lamp") is None, "what was not committed is not shown"
    assert list(store.entries()) == []


def test_a_corrupt_page_met_while_writing_is_told_as_broken(
    store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: LedgerStore, *given: object) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorname = "SQLITE_CORRUPT"
        raise error

    monkeypatch.setattr(LedgerStore, "_write", refuse)
    with pytest.raises(LedgerBroken, match="malformed"):
        store.append([(transfer(0),)], NOON)
    assert store.is_read_only


def test_a_bug_of_ours_leaves_no_half_a_group(
    store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> object:
        raise BrokenInvariant("a bug")

    monkeypatch.setattr(ledger, "next_event", bug)
    with pytest.raises(BrokenInvariant):
        store.append([(transfer(0),)], NOON)
    assert store.is_read_only
    assert list(store.entries()) == []


# ---- triggers ------------------------------------------------------------------------------------

FORBIDDEN = {
    "journal is append-only": ("UPDATE journal SET amount = 1", "DELETE FROM journal"),
    "event is append-only": ("UPDATE event SET json = ''", "DELETE FROM event"),
    "head is append-only": ("UPDATE head SET at = 1", "DELETE FROM head"),
    "receipt is append-only": ("DELETE FROM receipt",),
    "receipt keeps its pages": (
        "UPDATE receipt SET page = 9",
        "UPDATE receipt SET state = 0",
        "UPDATE receipt SET body = zeroblob(380)",
        "UPDATE receipt SET side = 1",
        "UPDATE receipt SET transcript = zeroblob(32)",
    ),
    "journal grows by one": (
        "INSERT INTO journal SELECT seq + 7, at, kind, code, zeroblob(16), debit, credit, amount,"
        " pending, link, memo, chain FROM journal LIMIT 1",
    ),
    "event grows by one": ("INSERT INTO event SELECT 1, at, kind, json, chain FROM event LIMIT 1",),
}


@pytest.mark.requirement("LEDG-7-01")
@pytest.mark.parametrize("rule", FORBIDDEN)
def test_the_tables_themselves_refuse_to_forget(store: LedgerStore, path: Path, rule: str) -> None:
    fill(store, 2)
    other = sqlite3.connect(path, isolation_level=None)
    for statement in FORBIDDEN[rule]:
        with pytest.raises(sqlite3.IntegrityError, match=rule):
            other.execute(statement)
    other.close()
    assert store.verify() == []


# ---- what a start checks -------------------------------------------------------------------------

SPOILED: dict[str, Callable[[Rough], None]] = {
    "account": lambda hand: hand.run("UPDATE account SET debit = debit + 1 WHERE id = 1"),
    "account 1": lambda hand: hand.run("UPDATE account SET reserved = 7 WHERE id = 1"),
    "event 3": lambda hand: hand.run("UPDATE event SET at = at + 1 WHERE seq = 3"),
    "head 2": lambda hand: hand.run("UPDATE head SET signature = zeroblob(64) WHERE number = 2"),
    "journal 9": lambda hand: hand.run("DELETE FROM journal WHERE seq = 9"),
}


@pytest.mark.requirement("LEDG-7-08")
@pytest.mark.parametrize("record", SPOILED)
def test_a_start_checks_the_tail_the_sums_and_the_last_head(path: Path, record: str) -> None:
    with LedgerStore(path) as store:
        fill(store, 5)
    with Rough(path) as hand:
        hand.run("PRAGMA foreign_keys = OFF")
        SPOILED[record](hand)
    with pytest.raises(LedgerBroken) as broken:
        LedgerStore(path)
    assert broken.value.record == record


@pytest.mark.requirement("LEDG-7-08")
def test_what_lies_before_the_tail_is_found_by_the_full_verification(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("powertcp.store.verify.TAIL", 4)
    with LedgerStore(path) as store:
        fill(store, 5)
    with Rough(path) as hand:
        hand.run("UPDATE journal SET at = at + 1 WHERE seq = 10")
        hand.run("UPDATE journal SET at = at + 1 WHERE seq = 11")
    with LedgerStore(path) as store:
        assert [finding.record for finding in store.verify()] == ["journal 10", "journal 11"]
        assert store.verify(full=False) == []
    with Rough(path) as hand:
        hand.run("UPDATE journal SET at = at + 1 WHERE seq = 12")
    with pytest.raises(LedgerBroken, match="journal 12"):
        LedgerStore(path)


def test_a_folder_that_cannot_be_written_is_read_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LedgerStore(path) as store:
        fill(store, 2)
    monkeypatch.setattr("os.access", lambda *_: False)
    with LedgerStore(path, read_only=True) as reader:
        assert reader.verify() == []
        assert [file.name for file in path.parent.glob("ledger.db-*")] == []


def test_a_file_system_without_shared_memory_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoWal(sqlite3.Connection):
        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
            if statement == "PRAGMA journal_mode = WAL":
                statement = "SELECT 'delete'"
            return super().execute(statement, *values)  # type: ignore[arg-type]

    connect = sqlite3.connect

    def opened(*given: object, **named: object) -> sqlite3.Connection:
        return connect(*given, factory=NoWal, **named)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", opened)
    with pytest.raises(HostError, match="keep the ledger in mode delete, WAL is needed"):
        LedgerStore(path)


def test_words_of_sqlite_that_are_no_text_are_told_as_broken(
    store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: object) -> object:
        b"\xff".decode()
        return None

    monkeypatch.setattr("powertcp.store.reads.Reads.accounts", torn)
    with pytest.raises(LedgerBroken, match="can't decode byte 0xff"):
        store.accounts()


def test_a_backup_has_heads_but_no_log_of_them(store: LedgerStore, tmp_path: Path) -> None:
    fill(store, 2)
    copy = tmp_path / "copy.db"
    store.backup(copy)
    store.close()
    with LedgerStore(copy) as writer:
        writer.append([(transfer(5),)], NOON)
        head = writer.sign_head(METER, NOON)
        assert writer.verify() == []
    assert f"{head.number} {head.seq} " not in (tmp_path / "heads.log").read_text()


def test_what_moved_since_a_time_is_summed(store: LedgerStore) -> None:
    store.append([(transfer(1, 5),)], 100)
    store.append([(transfer(2, 7),)], 200)
    assert store.debited(200) == {"sink:lamp": 7, "source:main": -7}
    assert store.debited(0) == {"sink:lamp": 12, "source:main": -12}
    assert store.debited(201) == {}
