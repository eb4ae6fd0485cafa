"""`powertcp ledger` on files as daemons leave them, and on files as accidents leave them."""

import csv
import io
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from hashlib import blake2s
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from powertcp.cli import books as books_of_command
from powertcp.cli.main import main
from powertcp.ledger.audit import audit
from powertcp.ledger.book import Code
from powertcp.ledger.pairing import PageState
from powertcp.ledger.receipt import PAGE_OCTETS, Flags, Page, Side, countersign
from powertcp.store import LedgerStore
from powertcp.wire.feeds import feed_id
from tests.books import SECOND, START_NS, Feed, Flow, Node, altered, save, transfer

FLOW = bytes([7]) * 32
FEED = feed_id(Node("mains", 1).meter.public)
SHORT = f"feed {FEED.hex()[:4]}.."
TARIFF = '{"currency": "EUR", "price_micro_per_kwh": 312000}'
DIGEST = blake2s(TARIFF.encode()).digest()
KWH = 3_600_000_000_000

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return tmp_path / "powertcp"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def ran(*words: object) -> tuple[int, list[str], str]:
        status = main(["ledger", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return ran


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


@pytest.fixture
def mains() -> Node:
    return Node("mains", 1)


@pytest.fixture
def lamp() -> Node:
    return Node("lamp", 2)


@pytest.fixture
def flow(mains: Node, lamp: Node) -> Flow:
    """Three countersigned pages of 1.5 kWh together, one on its way."""
    flow = Flow(FLOW, mains, lamp, price_micro=312_000, tariff=DIGEST)
    for energy in (KWH, KWH // 2, 0):
        flow.deliver(energy)
    flow.next_page(77)
    return flow


@pytest.fixture
def books(home: Path, mains: Node, lamp: Node, flow: Flow) -> tuple[Path, Path]:
    """The ledgers of a provider and a consumer, where their daemons have them."""
    lamp.post(transfer(FLOW, 0, "load:lamp", "store:lamp", 5, Code.LOAD))
    mains.post(transfer(FLOW, 9, "sink:10.0.0.9", "source:mains", 7, Code.UNSIGNED, memo=""))
    return save(mains, home / "provider"), save(lamp, home / "consumer")


# ---- show ---------------------------------------------------------------------------------------


def test_every_account_and_the_trial_balance(run: Run, books: tuple[Path, Path]) -> None:
    status, lines, _ = run("show", "--state-dir", books[0])
    assert status == 0
    assert [line.split()[0] for line in lines] == [
        "account", "sink:lamp", "source:mains", "sink:10.0.0.9", "trial", "head",
    ]  # fmt: skip
    assert lines[1].split() == [
        "sink:lamp", "5,400,000.000000", "J", "0.000000", "J", "-5,400,000.000000", "J",
    ]  # fmt: skip
    assert lines[4] == "trial balance 0.000000 J"
    assert all(len(line) <= 100 for line in lines)


def test_accounts_for_programs(run: Run, books: tuple[Path, Path]) -> None:
    rows = objects(run("show", "--json", "--state-dir", books[0].parent)[1])
    assert rows[0] == {
        "account": "sink:lamp", "unit": "uJ", "debit": KWH * 3 // 2, "credit": 0,
        "balance": -KWH * 3 // 2, "reserved": 0, "floor": None,
    }  # fmt: skip
    lines = run("show", "--csv", "--state-dir", books[0])[1]
    assert [row["account"] for row in csv.DictReader(lines)] == [row["account"] for row in rows]


def test_accounts_of_a_period_have_what_came_in_it(run: Run, books: tuple[Path, Path]) -> None:
    since = START_NS // SECOND + 61
    rows = objects(run("show", "--json", "--since", f"@{since}", "--state-dir", books[0])[1])
    assert (rows[0]["account"], rows[0]["debit"]) == ("sink:lamp", KWH // 2)


def test_the_entries_of_one_account(run: Run, books: tuple[Path, Path]) -> None:
    status, lines, _ = run("show", "sink:10.0.0.9", "--state-dir", books[0])
    assert (status, len(lines)) == (0, 2)
    assert lines[0].endswith("0.000007 J  sink:10.0.0.9 <- source:mains")
    status, _, said = run("show", "sink:lam", "--state-dir", books[0])
    assert status == 1
    assert said == ('powertcp ledger: no account is named "sink:lam", did you mean "sink:lamp"?\n')


def test_tables_of_a_ledger(run: Run, books: tuple[Path, Path]) -> None:
    here = ("--state-dir", books[0])
    journal = run("show", "journal", *here)[1]
    assert [line.split()[2] for line in journal] == ["RECEIPT", "RECEIPT", "UNSIGNED"]
    receipts = run("show", "receipts", *here)[1]
    assert [line.split()[3] for line in receipts] == ["countersigned"] * 3 + ["sent"]
    assert "account" in run("show", "events", *here)[1][0]
    for table in ("journal", "receipts", "events"):
        lines = run("show", table, *here)[1]
        assert all(len(line) <= 100 for line in lines)
        rows = objects(run("show", table, "--json", *here)[1])
        assert len(rows) == len(lines)
        assert len(list(csv.DictReader(run("show", table, "--csv", *here)[1]))) == len(lines)
    late = f"@{START_NS // SECOND + 121}"
    assert len(run("show", "receipts", "--since", late, *here)[1]) == 2


def test_floors_reservations_and_codes_of_others_are_shown(run: Run, tmp_path: Path) -> None:
    from dataclasses import replace

    from powertcp.ledger.book import Kind

    path = tmp_path / "ledger.db"
    with LedgerStore(path) as store:
        store.set_floor("sink:x", "uJ", -1000, START_NS)
        pending = transfer(FLOW, 0, "sink:x", "source:m", 40, Code.RESERVE)
        money = transfer(FLOW, 1, "payer:x", "payee:self", 5, Code.MONEY, unit="micro-EUR")
        other = transfer(FLOW, 2, "a", "b", 3, Code.LOAD, unit="beans")
        rows = [replace(pending, kind=Kind.PENDING), money, replace(other, code=999)]
        for row in rows:
            store.append([(row,)], START_NS)
        store.put_event("policy", {"peer": "\x1b[31m"}, START_NS)
    accounts = "\n".join(run("show", "--state-dir", path)[1])
    assert "reserved 0.000040 J  not below -0.001000 J" in accounts
    assert "trial balance 0.000000 EUR" in accounts
    assert "trial balance 0 beans" in accounts
    assert "no head is signed" in accounts
    journal = run("show", "journal", "--state-dir", path)[1]
    assert journal[0].endswith("sink:x <- source:m PENDING")
    assert " 999 " in journal[2]
    assert "\x1b" not in "".join(run("show", "events", "--state-dir", path)[1])


# ---- which ledger, which words ------------------------------------------------------------------


def test_the_only_ledger_is_found(run: Run, home: Path, mains: Node, flow: Flow) -> None:
    save(mains, home / "provider")
    assert run("show")[0] == 0
    assert flow.page == 4


def test_of_several_ledgers_one_is_named(run: Run, books: tuple[Path, Path]) -> None:
    status, lines, said = run("show")
    assert (status, lines) == (2, [])
    assert f"there are 2 ledgers, name one of {books[1].parent}, {books[0].parent}" in said
    assert said.count("\n") == 1


def test_a_state_directory_of_a_service_comes_first(
    run: Run, books: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{books[1].parent}:/elsewhere")
    assert run("show", "load:lamp")[0] == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("show",), 3, "no ledger in "),
        (("show", "--state-dir", "/nowhere"), 2, "/nowhere: No such file"),
        (("audit", "/nowhere"), 2, "/nowhere: No such file"),
        ((), 2, "an ACTION is needed: show, invoice"),
        (("--json",), 2, "an ACTION is needed"),
        (("shwo",), 2, 'did you mean "show"?'),
        (("show", "a", "b"), 2, 'show takes 1 word, got "b" as well'),
        (("invoice",), 2, "invoice needs a PARTY"),
        (("backup",), 2, "backup needs a FILE"),
        (("show", "--full"), 2, "--full is for verify, not for show"),
        (("verify", "--since", "1h"), 2, "--since is for show and invoice and export and audit"),
        (("show", "--json", "--csv"), 2, "choose one of"),
        (("show", "--since", "yesterday"), 2, '"yesterday" is no time: 2026-11-21'),
        (("show", "--since", "1969-01-01"), 2, "is before 1970"),
        (("show", "--since", "@5", "--until", "@5"), 2, '"@5" is not after'),
        (("audit", "--post", "--since", "1h"), 2, "--post is for all of time"),
        (("audit", "x", "--state-dir", "y"), 2, "audit has its ledgers as words"),
        (("show", "--jsno"), 2, 'did you mean "--json"?'),
    ],
)
def test_wrong_words_are_one_line(
    run: Run, home: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    assert not home.exists()
    ended, lines, errors = run(*words)
    assert (ended, lines) == (status, [])
    assert said in errors
    assert errors.count("\n") == 1


def test_places_without_a_ledger_say_what_to_name(run: Run, tmp_path: Path) -> None:
    place = "; name the folder in which a daemon keeps its ledger.db, or a copy of that file"
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder" / "ledger.db").mkdir(parents=True)
    (tmp_path / "text").write_text("root:x:0:0:root:/root:/bin/sh\n" * 20)
    (tmp_path / "loop").symlink_to("loop")
    for name, status, said in (
        ("empty", 3, f"no ledger in {tmp_path / 'empty'}{place}"),
        ("folder", 2, f"{tmp_path / 'folder' / 'ledger.db'}: it is no file{place}"),
        ("text", 2, f"{tmp_path / 'text'}: it is no ledger{place}"),
        ("loop", 2, f"{tmp_path / 'loop'}: Too many levels of symbolic links{place}"),
        ("text/x", 2, f"{tmp_path / 'text' / 'x'}: Not a directory{place}"),
        ("x" * 300, 2, f"{tmp_path / ('x' * 300)}: File name too long{place}"),
        ("none", 2, f"{tmp_path / 'none'}: No such file or directory{place}"),
    ):
        for words in (("show", "--state-dir", tmp_path / name), ("audit", tmp_path / name)):
            ended, lines, errors = run(*words)
            assert (ended, lines) == (status, []), name
            assert errors.endswith(f"{said}\n"), name
            assert errors.count("\n") == 1


@pytest.mark.parametrize("closed", ["", "ledger.db"])
def test_a_ledger_of_somebody_else(run: Run, books: tuple[Path, Path], closed: str) -> None:
    folder = books[0].parent
    # what comes with the command comes before others take over
    assert run("show", "--state-dir", folder)[0] == 0
    mine = os.geteuid()
    (folder / closed).chmod(0)
    if not mine:
        # nobody: root may read everything
        os.seteuid(65534)
    try:
        status, lines, said = run("show", "--state-dir", folder)
    finally:
        os.seteuid(mine)
        (folder / closed).chmod(0o700)
    assert (status, lines) == (2, [])
    assert ": Permission denied; its owner may read it, or copy it with powertcp" in said
    assert str(folder) in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [("verify",), ("invoice", "lamp")])
def test_a_file_that_is_not_there(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    status, lines, said = run(*words, tmp_path / "nowhere")
    assert (status, lines) == (2, [])
    assert said.endswith("nowhere: No such file or directory\n")


@pytest.mark.parametrize(
    ("since", "pages"),
    [
        ("2026-09-21", 4),
        ("2026-09-21T14:15:00Z", 3),
        ("2026-09-21T16:15:00+02:00", 3),
        ("@1790000100.5", 3),
        ("36500d", 4),
        ("99999999d", 4),
        ("0s", 0),
        ("@9999999999", 0),
        ("9999-12-31", 0),
    ],
)
def test_times_as_people_write_them(
    run: Run, books: tuple[Path, Path], since: str, pages: int
) -> None:
    here = ("--since", since, "--state-dir", books[0])
    lines = run("show", "receipts", *here)[1]
    assert len(lines) == pages
    for words in (("show",), ("export",), ("invoice", "lamp")):
        assert run(*words, *here)[0] == 0
    assert run("show", "journal", "--until", since, "--state-dir", books[0])[0] == 0


# ---- invoice ------------------------------------------------------------------------------------


def test_an_invoice_by_name_and_by_meter(
    run: Run, books: tuple[Path, Path], lamp: Node, tmp_path: Path
) -> None:
    document = tmp_path / "tariff.json"
    document.write_text(TARIFF)
    here = ("--state-dir", books[0], "--tariff", document)
    status, lines, _ = run("invoice", "lamp", *here)
    assert (status, lines[0]) == (0, "Statement for lamp, all pages")
    assert "total 3 pages: 5,400,000.000000 J, 0.468000 EUR" in lines
    assert f"tariff {DIGEST.hex()}: {TARIFF}" in lines
    assert lines[-1].startswith("head 3 ")
    key = lamp.meter.public.hex()
    by_key = run("invoice", key[:10].upper(), *here)[1]
    assert by_key[0] == f"Statement for {key}, all pages"
    assert by_key[1:] == lines[1:]
    assert run("invoice", key[:10], *here)[1] == by_key


def test_two_auditors_with_page_files_get_the_same_octets(
    run: Run, books: tuple[Path, Path], lamp: Node, tmp_path: Path
) -> None:
    pages = [held.octets for held in lamp.pages.values()]
    one, two = tmp_path / "one.ptr", tmp_path / "two.ptr"
    one.write_bytes(b"".join(pages))
    two.write_bytes(b"".join(reversed([*pages, pages[0]])))
    key = lamp.meter.public.hex()
    for form in ((), ("--json",), ("--csv",)):
        first = run("invoice", key, one, *form)
        assert first[0] == 0
        assert run("invoice", key[:16], two, *form) == first
        assert run("invoice", key, two, one, *form) == first
    wanted = objects(run("invoice", key, one, "--json")[1])[-1]["hash"]
    assert objects(run("invoice", key, "--json", "--state-dir", books[0])[1])[-1]["hash"] == wanted


def test_the_tariff_a_daemon_wrote_down_is_printed(
    run: Run, books: tuple[Path, Path], lamp: Node
) -> None:
    with LedgerStore(books[0]) as store:
        store.put_event("tariff", {"document": TARIFF}, START_NS)
        store.put_event("tariff", {"document": "nonsense"}, START_NS)
        store.put_event("tariff", {"digest": "00"}, START_NS)
    lines = run("invoice", "lamp", "--state-dir", books[0])[1]
    assert f"tariff {DIGEST.hex()}: {TARIFF}" in lines
    assert "total 3 pages: 5,400,000.000000 J, 0.468000 EUR" in lines


def test_the_currency_of_money_that_was_posted_is_known(
    run: Run, home: Path, mains: Node, lamp: Node, flow: Flow
) -> None:
    row = transfer(FLOW, 0, "payer:lamp", "payee:self", 5, Code.MONEY, unit="micro-CHF")
    mains.post(row)
    path = save(mains, home / "provider")
    assert flow.page == 4
    for party in ("lamp", lamp.meter.public.hex()):
        lines = run("invoice", party, "--state-dir", path)[1]
        assert "total 3 pages: 5,400,000.000000 J, 0.468000 CHF" in lines
        assert f"tariff {DIGEST.hex()}: its document is not at hand" in lines


def test_energy_without_pages_is_told_and_not_billed(run: Run, books: tuple[Path, Path]) -> None:
    lines = run("invoice", "10.0.0.9", "--state-dir", books[0])[1]
    assert "note: 0.000007 J were posted without pages and are not in the sums" in lines
    assert "no pages" in lines


def test_a_consumer_sees_the_bill_of_its_provider(run: Run, books: tuple[Path, Path]) -> None:
    lines = run("invoice", "mains", "--state-dir", books[1])[1]
    assert "delivered by this party" in lines
    assert run("invoice", "from:mains", "--state-dir", books[1])[1][2:] == lines[2:]


def test_a_feed_has_its_pages_by_its_account(run: Run, home: Path, mains: Node, lamp: Node) -> None:
    feed = Feed(1, mains)
    feed.receive(lamp, 9)
    path = save(lamp, home / "consumer")
    lines = run("invoice", FEED.hex(), "--state-dir", path)[1]
    assert any(line.startswith("total 1 page: 0.000009 J") for line in lines)


def test_a_party_nobody_knows(run: Run, books: tuple[Path, Path]) -> None:
    status, lines, said = run("invoice", "lmp", "--state-dir", books[0])
    assert (status, lines) == (1, [])
    assert said == 'powertcp ledger: no pages of "lmp", did you mean "lamp"?\n'


def test_a_meter_has_enough_digits(run: Run, tmp_path: Path, mains: Node) -> None:
    first = Flow(FLOW, mains, Node("a", 2)).deliver(5)
    twin = altered(first, sink_key=first.sink_key[:31] + b"\0")
    pages = tmp_path / "pages.ptr"
    pages.write_bytes(first.to_wire() + twin.to_wire())
    status, _, said = run("invoice", first.sink_key.hex()[:20], pages)
    assert (status, "2 meters begin with" in said) == (2, True)
    assert run("invoice", "0" * 20, pages)[0] == 1


def test_pages_that_are_not_right_are_faults(run: Run, tmp_path: Path, flow: Flow) -> None:
    page = flow.deliver(5)
    pages = tmp_path / "pages.ptr"
    pages.write_bytes(altered(page, end_uj=page.end_uj + 1).to_wire())
    status, lines, _ = run("invoice", page.sink_key.hex(), pages)
    assert status == 1
    assert any("the signature of its source is wrong" in line for line in lines)


def test_a_ledger_is_no_page_file(run: Run, books: tuple[Path, Path]) -> None:
    status, _, said = run("invoice", "00112233", books[0])
    assert (status, "it is a ledger, which --state-dir names" in said) == (2, True)


def test_page_files_have_an_end(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books_of_command, "MAX_INPUT", PAGE_OCTETS)
    one, two = tmp_path / "1.ptr", tmp_path / "2.ptr"
    one.write_bytes(bytes(PAGE_OCTETS))
    two.write_bytes(bytes(PAGE_OCTETS + 1))
    assert run("invoice", "00112233", one)[0] == 1
    assert "more than 380 octets" in run("invoice", "00112233", two)[2]
    assert "more than 380 octets in all files" in run("invoice", "00112233", one, one)[2]


# ---- verify -------------------------------------------------------------------------------------


def test_ledgers_in_order(run: Run, books: tuple[Path, Path]) -> None:
    status, lines, _ = run("verify", "--full")
    assert status == 0
    assert lines == [f"VALID  {path}: every record" for path in reversed(books)]
    assert run("verify", books[0].parent)[1] == [f"VALID  {books[0]}: the last records"]


def test_pages_prove_themselves(run: Run, books: tuple[Path, Path], tmp_path: Path) -> None:
    pages = tmp_path / "pages.ptr"
    pages.write_bytes(exported(run, books[0]))
    status, lines, _ = run("verify", pages)
    assert status == 0
    assert lines[0].startswith("VALID WITH WARNING  flow 0707070707070707  3 pages")
    octets = bytearray(pages.read_bytes())
    octets[PAGE_OCTETS + 60] ^= 1
    pages.write_bytes(octets)
    status, lines, _ = run("verify", pages, "--json")
    (verdict,) = objects(lines)
    assert (status, verdict["verdict"], verdict["page"]) == (1, "INVALID", 1)
    assert run("verify", pages, books[0])[0] == 1
    assert run("verify", pages, "--csv")[1][0].startswith("file,verdict,transcript")


def exported(run: Run, path: Path, *words: str) -> bytes:
    octets = io.BytesIO()
    out = io.TextIOWrapper(octets)
    kept, sys.stdout = sys.stdout, out
    try:
        assert main(["ledger", "export", "pages", "--state-dir", str(path), *words]) == 0
    finally:
        sys.stdout = kept
    assert run("show", "--state-dir", path)[0] == 0
    return octets.getvalue()


@pytest.mark.parametrize("action", ["show", "verify", "audit", "export", "invoice", "backup"])
def test_files_that_are_no_ledger(run: Run, tmp_path: Path, action: str) -> None:
    words = {"invoice": ["lamp"], "backup": [str(tmp_path / "copy")], "audit": []}.get(action, [])
    for number, octets in enumerate((b"", b"SQLite format 3\0" + bytes(4080), b"toast" * 999)):
        path = tmp_path / f"{number}.db"
        path.write_bytes(octets)
        asked = [path] if action in ("audit", "verify") else [*words, "--state-dir", path]
        status, _, said = run(action, *asked)
        # it begins as a database does, or it was named as pages: its content is not in order
        wanted = 1 if number == 1 or action == "verify" else 2
        assert status == wanted, (action, number, said)
        assert said.count("\n") <= 1


def test_forged_events_are_shown_as_they_are(run: Run, books: tuple[Path, Path]) -> None:
    database = sqlite3.connect(books[0])
    for number, facts in enumerate(("toast", "[1]", '"\x1b"'), 10):
        row = (number, START_NS, "tariff", facts, bytes(32))
        database.execute("DROP TRIGGER IF EXISTS event_grows")
        database.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", row)
    database.commit()
    database.close()
    here = ("--state-dir", books[0])
    rows = objects(run("show", "events", "--json", *here)[1])
    assert [row["facts"] for row in rows[-3:-1]] == [{"text": "toast"}, {"text": "[1]"}]
    assert "\x1b" not in "".join(run("show", "events", *here)[1])
    assert run("invoice", "lamp", *here)[0] == 0
    assert run("audit", books[0])[0] == 1


def test_an_altered_ledger_is_named_and_not_audited(run: Run, books: tuple[Path, Path]) -> None:
    database = sqlite3.connect(books[0])
    database.execute("DROP TRIGGER journal_update")
    database.execute("UPDATE journal SET amount = amount + 1 WHERE seq = 2")
    database.commit()
    database.close()
    status, lines, said = run("audit", *books)
    assert (status, lines) == (1, [])
    assert f"{books[0]}: journal 2: its chain value" in said
    status, lines, _ = run("verify", "--full", books[0])
    assert status == 1
    assert any(line.startswith("INVALID") and "journal 2" in line for line in lines)


def test_a_truncated_ledger_is_refused(run: Run, books: tuple[Path, Path], tmp_path: Path) -> None:
    octets = books[0].read_bytes()
    for size in (100, 1000, 5000, len(octets) // 2, len(octets) - 4096):
        path = tmp_path / f"cut-{size}.db"
        path.write_bytes(octets[:size])
        status, lines, _ = run("verify", "--full", path)
        assert status == 1, size
        assert lines[-1].startswith("INVALID")
        status, lines, said = run("audit", path)
        assert (status, lines) == (1, []), size
        assert said


def test_a_folder_that_cannot_be_written(
    run: Run, books: tuple[Path, Path], tmp_path: Path, mains: Node
) -> None:
    folder = tmp_path / "frozen"
    folder.mkdir()
    shutil.copy(books[0], folder / "ledger.db")
    folder.chmod(0o500)
    try:
        for words in (("show",), ("verify", "--full"), ("export",), ("invoice", "lamp")):
            assert run(*words, "--state-dir", folder)[0] == 0, words
        assert run("audit", folder)[0] == 0
    finally:
        folder.chmod(0o700)
    assert mains.entries


def test_a_ledger_that_is_being_written(run: Run, books: tuple[Path, Path]) -> None:
    with LedgerStore(books[0]) as store:
        row = transfer(FLOW, 10, "sink:x", "source:mains", 7, Code.UNSIGNED, memo="")
        store.append([(row,)], START_NS)
        assert run("show", "sink:x", "--state-dir", books[0])[0] == 0
        assert run("verify", "--full", "--state-dir", books[0])[0] == 0
        status, _, said = run("audit", *books, "--post")
        assert (status, said) == (0, "")


# ---- export and backup --------------------------------------------------------------------------


def test_everything_is_written_out(run: Run, books: tuple[Path, Path]) -> None:
    rows = objects(run("export", "--state-dir", books[0])[1])
    counts = {
        kind: sum(row["record"] == kind for row in rows) for kind in ("entry", "page", "head")
    }
    assert counts == {"entry": 3, "page": 4, "head": 1}
    assert Page.from_wire(bytes.fromhex(next(row["body"] for row in rows if "body" in row)))
    late = run("export", "--since", "0s", "--state-dir", books[0])[1]
    assert {row["record"] for row in objects(late)} == {"account"}


def test_one_table_is_written_out(run: Run, books: tuple[Path, Path]) -> None:
    here = ("--state-dir", books[0])
    assert len(objects(run("export", "journal", *here)[1])) == 3
    assert len(objects(run("export", "receipts", *here)[1])) == 4
    assert len(objects(run("export", "events", *here)[1])) > 3
    assert run("export", "--csv", *here)[1][0].startswith("seq,at_ns,kind")
    assert run("export", "all", "--csv", *here)[0] == 2
    status, _, said = run("export", "jornal", *here)
    assert (status, 'did you mean "journal"?' in said) == (2, True)


def test_pages_are_written_out_as_octets(run: Run, books: tuple[Path, Path], mains: Node) -> None:
    octets = exported(run, books[0])
    signed = [held for held in mains.pages.values() if held.state == PageState.COUNTERSIGNED]
    assert octets == b"".join(held.octets for held in sorted(signed))
    assert exported(run, books[0], "--since", f"@{START_NS // SECOND + 121}") == signed[-1].octets


def test_octets_are_not_written_to_a_terminal(
    run: Run, books: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    out = io.TextIOWrapper(Terminal())
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["ledger", "export", "pages", "--state-dir", str(books[0])]) == 2
    monkeypatch.undo()
    assert run("--json")[0] == 2


def test_a_page_that_cannot_be_read_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with LedgerStore(path) as store:
        store.put_page(FLOW, 0, 0, b"\x07" + bytes(379), 1, START_NS)
    here = ("--state-dir", path)
    status, lines, _ = run("show", "receipts", *here)
    assert (status, "unreadable" in lines[0]) == (1, True)
    assert run("export", "receipts", *here)[0] == 1
    status, lines, _ = run("export", *here)
    assert (status, objects(lines)[0]["record"]) == (1, "page")


def test_a_copy_is_complete_and_never_over_a_file(
    run: Run, books: tuple[Path, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    status, lines, _ = run("backup", copy, "--state-dir", books[0])
    assert status == 0
    assert lines[0].startswith(f"{copy}: 3 entries, head 3 ")
    assert run("verify", "--full", copy)[0] == 0
    assert run("audit", copy)[1] == run("audit", books[0])[1][:1] + [
        line.replace("provider", "copy    ", 1) if line.startswith("provider") else line
        for line in run("audit", books[0])[1][1:]
    ]
    octets = copy.read_bytes()
    status, _, said = run("backup", copy, "--state-dir", books[0])
    assert (status, "File exists" in said, copy.read_bytes() == octets) == (2, True, True)
    (row,) = objects(run("backup", tmp_path / "other.db", "--json", "--state-dir", books[0])[1])
    assert row["entries"] == 3


def test_a_copy_of_a_ledger_that_is_broken_is_told(
    run: Run, books: tuple[Path, Path], tmp_path: Path
) -> None:
    database = sqlite3.connect(books[0])
    database.execute("UPDATE account SET debit = debit + 1 WHERE id = 1")
    database.commit()
    database.close()
    status, _, said = run("backup", tmp_path / "copy.db", "--state-dir", books[0])
    assert (status, "account" in said) == (1, True)
    assert run("show", "--state-dir", books[0])[0] == 1


# ---- audit --------------------------------------------------------------------------------------


def test_the_sentence_stands_at_the_end(run: Run, books: tuple[Path, Path]) -> None:
    status, lines, _ = run("audit")
    assert status == 0
    assert lines[-1] == "First law: obeyed to 0 uJ on 1 unicast flow."
    assert lines[1].split()[0] == "consumer"
    assert all(len(line) <= 100 for line in lines)
    assert run("audit", books[1], books[0], books[0].parent)[1] == lines


@pytest.fixture
def broadcast(home: Path, mains: Node) -> list[Path]:
    """A feed of 59.1 kJ that three lamps received, one of them less; and a flow that was cut."""
    feed = Feed(3, mains)
    feed.emit(59_100_000_000)
    lamps = [Node(f"lamp-{number}", 10 + number) for number in range(3)]
    for lamp, energy in zip(lamps, (59_100_000_000, 59_100_000_000, 59_000_000_000), strict=True):
        feed.receive(lamp, energy)
    flow = Flow(FLOW, mains, lamps[0], flags=Flags.SIMULATED)
    flow.deliver(1_000_000)
    flow.sign(flow.next_page(5))
    mains.post(
        transfer(FLOW, 3, "claimed:thief", "claims", 540, Code.CLAIM, unit="uJ-claimed"),
        transfer(FLOW, 3, "wall:host", "grid", 2_000_000, Code.LOAD, unit="uJ-wall"),
        transfer(FLOW, 3, "sink:10.0.0.9", "source:mains", 7, Code.UNSIGNED),
    )
    return [save(node, home / node.name) for node in (mains, *lamps)]


def test_a_broadcast_violates_the_first_law(run: Run, broadcast: list[Path]) -> None:
    status, lines, _ = run("audit")
    text = "\n".join(lines)
    assert status == 0
    assert lines[-1] == (
        "First law: obeyed to 0 uJ on 1 unicast flow;"
        f" violated by 118.1 kJ (chi = 2.99) on {SHORT}, as specified in 2007."
    )
    for said in (
        "pages        1 in both books, 1.000000 J (simulated)",
        "1 in one book only, 0.000005 J",
        "without page 0.000007 J",
        "from outside 0.000005 J, to outside 0.000007 J",
        "; wall 2.000000 J, ratio 88,600.500006",
        "claimed      0.000540 J, in no sum",
        f"feed {FEED.hex()} emitted 59.1 kJ, 3 receivers 177.2 kJ, chi 2.99",
        f"equity:first-law:{FEED.hex()} 118,100.000000 J",
        "in flight: 0707070707070707 page 1: signed on one side only of mains and lamp-0, 5 uJ",
    ):
        assert said in text, said
    assert sum("1 pages    0 gaps" in line for line in lines) == 3
    alone = run("audit", broadcast[1])[1]
    assert "2 with nodes not audited, 1.000005 J" in "\n".join(alone)
    assert f"feed {FEED.hex()} emitted ?, 1 receiver 59.1 kJ, chi -" in alone


def test_what_receivers_sent_to_the_source_counts(
    run: Run, home: Path, mains: Node, tmp_path: Path
) -> None:
    feed = Feed(3, mains)
    feed.emit(100)
    lamps = [Node(f"lamp-{number}", 10 + number) for number in range(3)]
    pages = [feed.receive(lamp, 90).to_wire() for _ in range(2) for lamp in lamps]
    unicast = Flow(FLOW, mains, lamps[0]).deliver(5).to_wire()
    path = save(mains, home / "provider")
    kept = home / "provider" / f"feed-{FEED.hex()}.ptr"
    # a page twice, one that is no page of a feed, and one that a crash has cut
    kept.write_bytes(b"".join([*pages[3:], *pages, unicast, pages[0][:100]]))
    status, lines, _ = run("audit")
    assert f"feed {FEED.hex()} emitted 100 uJ, 3 receivers 540 uJ, chi 5.40" in lines
    assert (status, f"cut: {kept}: 100 of 380 octets of its last page" in lines) == (0, True)
    assert lines[-1].endswith(f"violated by 440 uJ (chi = 5.40) on {SHORT}, as specified in 2007.")
    elsewhere = kept.rename(tmp_path / "sent.ptr")
    assert "obeyed (chi = 0.00) on feed" in run("audit")[1][-1]
    status, lines, _ = run("audit", path, elsewhere)
    assert (status, "violated by 440 uJ" in lines[-1]) == (0, True)
    # the books of receivers say the same again
    save(lamps[0], home / "lamp")
    assert "violated by 440 uJ" in run("audit", home / "lamp", path, elsewhere)[1][-1]
    octets = bytearray(elsewhere.read_bytes())
    octets[60] ^= 1
    elsewhere.write_bytes(octets)
    status, lines, _ = run("audit", path, elsewhere)
    assert (status, any(line.startswith("forged: page files: feed ") for line in lines)) == (
        1,
        True,
    )
    assert run("audit", path, tmp_path / "no.ptr")[0] == 2


def test_an_audit_for_programs(run: Run, broadcast: list[Path]) -> None:
    rows = objects(run("audit", "--json")[1])
    kinds = [row["record"] for row in rows]
    assert kinds == ["node"] * 4 + ["feed"] + ["receiver"] * 3 + ["finding", "law"]
    law = rows[-1]
    assert (law["miracle_uj"], law["residual_uj"], law["claimed_uj"]) == (118_100_000_000, 0, 540)
    assert rows[4]["chi_ppm"] == 2_998_307
    given = law["generated_uj"] + law["in_uj"] + law["miracle_uj"]
    terms = ("delivered_uj", "used_uj", "stored_uj", "heat_uj", "lost_uj")
    assert given == law["verified_uj"] == sum(law[term] for term in terms)
    table = list(csv.DictReader(run("audit", "--csv")[1]))
    assert [row["record"] for row in table] == kinds
    assert {row["residual_uj"] for row in table} == {"0", ""}
    assert len(broadcast) == 4


def test_losses_are_stated(run: Run, home: Path, mains: Node) -> None:
    feed = Feed(3, mains)
    feed.emit(100)
    feed.receive(mains, 40)
    save(mains, home / "provider")
    assert "  not received 0.000060 J" in run("audit")[1]


def test_a_period_is_named(run: Run, books: tuple[Path, Path]) -> None:
    status, lines, _ = run("audit", "--since", "2026-09-21", "--until", "2026-09-22", *books)
    assert (status, lines[0]) == (0, "2026-09-21T00:00:00Z to 2026-09-22T00:00:00Z")


def test_metrics_are_exact(run: Run, broadcast: list[Path]) -> None:
    lines = run("audit", "--prometheus")[1]
    assert (
        f'powertcp_audit_feed_joules{{feed="{FEED.hex()}",term="miracle"}} 118100.000000' in lines
    )
    assert f'powertcp_audit_feed_chi{{feed="{FEED.hex()}"}} 2.998307' in lines
    assert 'powertcp_audit_residual_microjoules{node="mains"} 0' in lines
    assert 'powertcp_audit_energy_joules{node="lamp-0",term="in"} 59101.000005' in lines
    assert "powertcp_audit_wall_joules 2.000000" in lines
    names = [line.split("{")[0].split()[0] for line in lines if not line.startswith("#")]
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == set(names)
    alone = run("audit", broadcast[1], "--prometheus")[1]
    assert not any("chi{" in line or "emitted" in line.split("}")[0][-9:] for line in alone)


def test_metrics_without_feeds(run: Run, books: tuple[Path, Path]) -> None:
    assert "powertcp_audit_faults 0" in run("audit", "--prometheus")[1]
    assert not any("feed" in line for line in run("audit", *books, "--prometheus")[1])


def test_the_diagram_is_written(run: Run, broadcast: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "law.svg"
    assert run("audit", "--sankey", path)[0] == 0
    assert "miracle" in "".join(ElementTree.parse(path).getroot().itertext())
    status, _, said = run("audit", "--sankey", tmp_path / "no" / "law.svg")
    assert (status, "cannot write the diagram" in said) == (2, True)
    assert len(broadcast) == 4


def test_the_miracle_is_posted_once(run: Run, broadcast: list[Path]) -> None:
    name = f"equity:first-law:{FEED.hex()}"
    assert run("show", name, "--state-dir", broadcast[0])[0] == 1
    for _ in range(2):
        status, lines, _ = run("audit", "--post")
        assert (status, "violated by 118.1 kJ" in lines[-1]) == (0, True)
    assert len(run("show", name, "--state-dir", broadcast[0])[1]) == 2
    assert run("audit")[1][-1] == lines[-1]
    assert run("verify", "--full")[0] == 0


@pytest.mark.parametrize(("now_ns", "held_ns"), [(-5, 0), (1 << 63, (1 << 63) - 2)])
def test_the_miracle_is_posted_by_any_clock(
    run: Run, broadcast: list[Path], monkeypatch: pytest.MonkeyPatch, now_ns: int, held_ns: int
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    assert run("audit", "--post")[0] == 0
    with LedgerStore(broadcast[0], read_only=True) as store:
        assert [entry.at_ns for entry in store.entries()][-1] == held_ns


def test_the_miracle_waits_for_the_daemon_to_end(run: Run, broadcast: list[Path]) -> None:
    with LedgerStore(broadcast[0]):
        status, _, said = run("audit", "--post")
    assert status == 2
    assert "which process" in said


def test_a_refused_posting_is_told(run: Run, broadcast: list[Path]) -> None:
    with LedgerStore(broadcast[0]) as store:
        store.set_floor(f"feed:{FEED.hex()}", "uJ", -59_100_000_000, START_NS)
    status, _, said = run("audit", "--post")
    assert (status, "205" in said) == (1, True)


def test_books_of_one_name_are_told_apart(run: Run, books: tuple[Path, Path]) -> None:
    lamp = Node("lamp", 9)
    Flow(bytes([1]) * 32, Node("x", 8), lamp).deliver(1)
    other = save(lamp, books[0].parent.parent / "else" / "provider")
    lines = run("audit", books[0], other)[1]
    assert lines[1].startswith(str(other))
    assert lines[2].startswith(str(books[0]))


def test_a_page_that_comes_between_two_looks_is_not_missing(
    run: Run, home: Path, mains: Node, lamp: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Flow(FLOW, mains, lamp)
    flow.deliver(10)
    late = countersign(flow.next_page(5), lamp.meter)
    flow.settle(late)
    save(mains, home / "provider")
    path = save(lamp, home / "consumer")
    assert "missing: 0707070707070707 page 1, 5 uJ: held by provider" in "".join(run("audit")[1])
    looks = []

    def look(*given: Any) -> Any:
        looks.append(1)
        law = audit(*given)
        if len(looks) == 1:
            flow.sign(late)
            with LedgerStore(path) as store:
                held = lamp.pages[FLOW, 1, int(Side.SINK), lamp.meter.public]
                row = transfer(FLOW, 1, "store:lamp", "from:mains", 5, Code.RECEIPT)
                store.append([(row,)], START_NS)
                store.put_page(FLOW, 1, 1, held.octets, 1, START_NS)
        return law

    monkeypatch.setattr("powertcp.cli.audit.audit", look)
    status, lines, _ = run("audit")
    assert (status, len(looks)) == (0, 2)
    assert lines[-1] == "First law: obeyed to 0 uJ on 1 unicast flow."


def test_books_that_do_not_agree_end_with_1(
    run: Run, home: Path, mains: Node, lamp: Node, flow: Flow
) -> None:
    page = Page.from_wire(next(iter(lamp.pages.values())).octets)
    lamp.hold(altered(page, end_uj=1), Side.SINK, PageState.COUNTERSIGNED)
    save(mains, home / "provider")
    save(lamp, home / "consumer")
    status, lines, _ = run("audit")
    assert (status, flow.page) == (1, 4)
    assert "First law: not shown on 1 unicast flow, 2 faults in these books." in lines
