"""The ledger under kill -9, on a full disk, in a folder that cannot be written, beside another."""

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from powertcp.errors import HostError
from powertcp.ledger import Posted
from powertcp.store import LedgerStore
from tests.ledgers import METER, NOON, fill, transfer

ROOT = Path(__file__).resolve().parent.parent.parent
LOAD = Path(__file__).with_name("ledger_load.py")
# POWERTCP_LONG=1: 200 kills, any other number: as many
LONG = int(os.environ.get("POWERTCP_LONG", "0"))
KILLS = {0: 8, 1: 200}.get(LONG, LONG)
FAST_KILLS = 1000 if LONG else 20
TASKS = 40
NOBODY = 65534


@contextmanager
def load(folder: Path, first: int, *, limit: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that posts from page `first` on; killed by its own pid at the end."""
    process = subprocess.Popen(
        [sys.executable, str(LOAD), str(folder), str(first), str(limit), str(TASKS)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[bytes]) -> list[list[str]]:
    """Read to the end; a line that was cut is none."""
    assert process.stdout is not None
    octets = process.stdout.read()
    whole = octets[: octets.rfind(b"\n") + 1]
    return [line.split() for line in whole.decode().splitlines()]


def first_line(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"


@pytest.mark.requirement("LEDG-7-04")
@pytest.mark.requirement("LEDG-7-06")
def test_a_ledger_that_is_killed_has_all_that_was_acknowledged_once(
    tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    dice = random.Random(seed)
    path = tmp_path / "ledger.db"
    acknowledged: dict[int, int] = {}
    first = 0
    for kill in range(KILLS):
        with load(tmp_path, first) as process:
            first_line(process)
            time.sleep(dice.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
            said = {int(page): int(seq) for page, seq in lines(process)}
        with LedgerStore(path) as store:
            assert set(store.trial_balance().values()) <= {0}
            for page, seq in said.items():
                entry = store.entry(transfer(page).key)
                assert entry is not None, f"page {page} was acknowledged and is not there"
                assert entry.seq == seq
            acknowledged |= said
            # some are done though nobody was told: they are asked for again, and done once
            for page in range(first, first + TASKS, 4):
                amount = page % 1000 + 1
                answer = store.append([(transfer(page, amount),)], NOON)[0]
                assert isinstance(answer, Posted)
                assert answer.is_repeat or page not in said
            first = max([first, *said]) + TASKS + 4 & ~3
            if kill % 50 == 49 or kill == KILLS - 1:
                assert [finding for finding in store.verify() if not finding.is_warning] == []
    with LedgerStore(path, read_only=True) as store:
        entries = list(store.entries())
        assert len({entry.key for entry in entries}) == len(entries)
        assert (
            acknowledged.items()
            <= {
                page: entry.seq
                for page in acknowledged
                if (entry := store.entry(transfer(page).key)) is not None
            }.items()
        )
        assert store.verify() == []
    assert len(acknowledged) >= KILLS, "the load did something"
    record_property("kills", KILLS)
    record_property("acknowledged", len(acknowledged))
    record_property("entries", len(entries))


def append_on(path: Path, first: int, writing: int) -> None:
    """Append groups from page `first` on and say the last page of each that is committed."""
    with LedgerStore(path) as store:
        os.write(writing, b"open\n")
        for page in itertools.count(first, 64):
            batches = [(transfer(number),) for number in range(page, page + 64)]
            store.append(batches, NOON)
            os.write(writing, f"{page + 63}\n".encode())


@pytest.mark.requirement("LEDG-7-06")
def test_a_store_that_is_killed_has_every_group_whole(
    tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    dice = random.Random(seed)
    path = tmp_path / "ledger.db"
    first = 0
    for kill in range(FAST_KILLS):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                append_on(path, first, writing)
            finally:
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            assert said.readline() == b"open\n"
            # every other one is killed after a group, however slow the machine is
            told = [int(said.readline())] if kill % 2 else []
            time.sleep(dice.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            rest = said.read().splitlines(keepends=True)
            told += [int(line) for line in rest if line[-1:] == b"\n"]
        os.waitpid(child, 0)
        with LedgerStore(path) as store:
            last = max([first - 1, *told])
            entry = store.entry(transfer(last).key) if last >= 0 else None
            entries = entry.seq if entry else 0
            count = store.accounts()[0].debit // 1000 if store.accounts() else 0
            assert entries == last + 1, "what was acknowledged is there"
            assert count in (last + 1, last + 65), "a group is there whole or not at all"
            assert set(store.trial_balance().values()) <= {0}
            if kill % 100 == 99 or kill == FAST_KILLS - 1:
                assert [finding for finding in store.verify() if not finding.is_warning] == []
        first = count
    record_property("kills", FAST_KILLS)
    record_property("entries", first)
    assert first >= FAST_KILLS // 2 * 64


@pytest.mark.requirement("LEDG-7-07")
@pytest.mark.parametrize("limit", [60_000, 200_000, 700_000] + [4_400_000] * bool(LONG))
def test_on_a_full_disk_it_is_read_only_and_right_after_a_restart(
    tmp_path: Path, limit: int
) -> None:
    path = tmp_path / "ledger.db"
    with LedgerStore(path) as store:
        fill(store, 2)
    with load(tmp_path, 1000, limit=limit) as process:
        first_line(process)
        said = lines(process)
        assert process.wait() == 0
    assert [line for line in said if line[0] == "refused"] == [["refused", "602"]] * TASKS
    done = {int(page): int(seq) for page, seq in said if page != "refused"}
    with LedgerStore(path) as store:
        assert [finding for finding in store.verify() if not finding.is_warning] == []
        assert set(store.trial_balance().values()) == {0}
        for page, seq in done.items():
            entry = store.entry(transfer(page).key)
            assert entry is not None
            assert entry.seq == seq
        again = store.append([(transfer(999_996),)], NOON)
        assert isinstance(again[0], Posted)
        assert store.verify() == [] or all(found.is_warning for found in store.verify())


def as_nobody(work: Callable[[], str]) -> str:
    """Return what `work` says in a process of a user for whom the modes of files count."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.requirement("LEDG-7-07")
def test_in_a_folder_that_cannot_be_written_it_can_be_read_and_says_why_no_more() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "ledger.db"
        with LedgerStore(path) as store:
            fill(store, 2)
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o555)

        def work(*, read_only: bool) -> str:
            try:
                with LedgerStore(path, read_only=read_only) as store:
                    return f"{store.verify()} {len(list(store.entries()))}"
            except HostError as error:
                return str(error)

        assert as_nobody(partial(work, read_only=True)) == "[] 6"
        said = as_nobody(partial(work, read_only=False))
        assert said == f"cannot lock the ledger: {folder}/ledger.lock: Permission denied"
        folder.chmod(0o755)


def test_a_new_ledger_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot lock the ledger.*No such file"):
        LedgerStore(tmp_path / "nowhere" / "ledger.db")
    with pytest.raises(HostError, match=r"ledger\.db"):
        LedgerStore(tmp_path / "ledger.db", read_only=True)


def test_a_second_process_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    with load(tmp_path, 0) as process:
        first_line(process)
        wanted = f"cannot open the ledger, which process {process.pid} writes: .*ledger.lock"
        with pytest.raises(HostError, match=wanted):
            LedgerStore(tmp_path / "ledger.db")
        # readers are welcome meanwhile
        with LedgerStore(tmp_path / "ledger.db", read_only=True) as store:
            store.verify()
            store.backup(tmp_path / "backup.db")
        process.send_signal(signal.SIGKILL)
        process.wait()
        with LedgerStore(tmp_path / "ledger.db") as store:
            store.sign_head(METER, NOON)
    with LedgerStore(tmp_path / "backup.db", read_only=True) as copy:
        assert copy.verify() == []
