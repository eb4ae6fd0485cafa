"""What the actions of `powertcp ledger` share: which ledger, which time, how a record is shown."""

import csv
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from powertcp.errors import ConfigError, HostError
from powertcp.ledger.pairing import Span
from powertcp.ledger.statement import joules, money
from powertcp.store import Event, LedgerStore
from powertcp.units import NS_PER_S, parse_duration_ns

NAME = "ledger.db"
# page files are read whole: 170,000 pages, four months of one flow
MAX_INPUT = 64 << 20
SQLITE_MAGIC = b"SQLite format 3\0"
# the suffix of page files
PAGES = ".ptr"
_PLACE = "name the folder in which a daemon keeps its ledger.db, or a copy of that file"
_OWNER = "its owner may read it, or copy it with powertcp ledger backup"
_SECONDS = re.compile(r"@(\d{1,10})(?:\.(\d{1,9}))?")
FOREVER = (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMS = '2026-11-21, 2026-11-21T18:04:01Z, @1795284241 or, so long ago, "7d"'


class NoLedger(Exception):
    """There is no ledger where ledgers are."""


class Asked(NamedTuple):
    """What was asked of an action."""

    what: tuple[str, ...]
    ledgers: tuple[Path, ...]
    span: Span
    form: str
    """text, json or csv."""


class Rows:
    """Records on standard output, one a line: for people, as JSON, or as CSV with a header."""

    def __init__(self, form: str, columns: Sequence[str]) -> None:
        """Write in `form`. columns: of the CSV."""
        self._form = form
        self._columns = columns
        self._csv = csv.writer(sys.stdout, lineterminator="\n")
        self._is_begun = False

    def put(self, record: Mapping[str, object], line: str) -> None:
        """Write one record, or its line for people."""
        if self._form == "json":
            print(json.dumps(record))
        elif self._form == "csv":
            self.begin()
            self._csv.writerow([_cell(record.get(name)) for name in self._columns])
        else:
            print(line)

    def begin(self) -> None:
        """Write the header of a CSV, also if no record follows."""
        if self._form == "csv" and not self._is_begun:
            self._csv.writerow(self._columns)
        self._is_begun = True

    def say(self, line: str) -> None:
        """Write a line for people only."""
        if self._form == "text":
            print(line)


def _cell(value: object) -> object:
    return "" if value is None else value


def cut(text: str, columns: int) -> str:
    """Return text that fits, with two dots for what is left out."""
    return text if len(text) <= columns else f"{text[: columns - 2]}.."


def amount_text(amount: int, unit: str) -> str:
    """Return an amount of an account to its last digit."""
    if unit.startswith("uJ"):
        return f"{joules(amount)}{unit[2:].replace('-', ' ')}"
    if unit.startswith("micro-"):
        return money(amount, unit.removeprefix("micro-"))
    return f"{amount:,} {unit}"


# ---- which ledger -------------------------------------------------------------------------------


def ledger_at(name: str, *, has_pages: bool = False) -> Path:
    """Return the ledger file that a folder or a file names.

    has_pages: a page file may be named as well. Raises NoLedger for a folder without a ledger,
    ConfigError for what can be none.
    """
    path = Path(name)
    try:
        is_folder = path.is_dir()
        file = path / NAME if is_folder else path
        if is_folder and not file.exists():
            raise NoLedger(f"no ledger in {path}; {_PLACE}")
        if not stat.S_ISREG(file.stat().st_mode):
            raise ConfigError("command line", str(file), f"it is no file; {_PLACE}")
        is_database = is_ledger(file)
    except HostError as error:
        raise _unusable(file, error.errno) from error
    except OSError as error:
        raise _unusable(path, error.errno or errno.EIO) from error
    # what a daemon keeps is a ledger, or a broken one
    if not is_database and file.name != NAME and not (has_pages and file.suffix == PAGES):
        raise ConfigError("command line", str(file), f"it is no ledger; {_PLACE}")
    return file


def _unusable(path: Path, number: int) -> ConfigError:
    what = _OWNER if number in (errno.EACCES, errno.EPERM) else _PLACE
    return ConfigError("command line", str(path), f"{os.strerror(number)}; {what}")


def find_state(environ: Mapping[str, str], name: str) -> tuple[Path, list[Path]]:
    """Return where this user's daemons keep their state, and the files `name` that they have."""
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        place, found = Path(given), [Path(given) / name]
    else:
        home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        place = Path(home) / "powertcp"
        found = sorted(place.glob(f"*/{name}"))
    return place, [path for path in found if path.is_file()]


def find_ledgers(environ: Mapping[str, str]) -> list[Path]:
    """Return the ledgers of this user's daemons. Raises NoLedger."""
    place, found = find_state(environ, NAME)
    if not found:
        raise NoLedger(f"no ledger in {place}; --state-dir PATH names one")
    return found


def only(ledgers: Sequence[Path]) -> Path:
    """Return the one ledger there is. Raises ConfigError when there is a choice."""
    if len(ledgers) > 1:
        names = ", ".join(str(path.parent) for path in ledgers)
        text = f"there are {len(ledgers)} ledgers, name one of {names}"
        raise ConfigError("command line", "--state-dir", text)
    return ledgers[0]


def is_ledger(path: Path) -> bool:
    """Return whether a file is a ledger, by its first octets. Raises HostError."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError as error:
        raise HostError(error.errno or errno.EIO, str(path), "read a file") from error


def open_ledger(path: Path) -> LedgerStore:
    """Open a ledger to read; a daemon may go on writing it. Raises HostError or LedgerBroken."""
    return LedgerStore(path, read_only=True)


def label(path: Path) -> str:
    """Return what a ledger is called: by its folder, or a copy by its file."""
    return path.absolute().parent.name if path.name == NAME else path.stem


def read_file(path: Path) -> bytes:
    """Return the octets of a file. Raises HostError, or ConfigError when there are too many."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_INPUT + 1)
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "read a file") from error
    if len(octets) > MAX_INPUT:
        raise ConfigError(str(path), "$", f"more than {MAX_INPUT:,} octets; give a shorter period")
    return octets


def read_pages(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and octets of page files. Raises HostError or ConfigError."""
    left = MAX_INPUT
    for name in names:
        octets = read_file(Path(name))
        left -= len(octets)
        if left < 0:
            raise ConfigError(name, "$", f"more than {MAX_INPUT:,} octets in all files")
        yield name, octets


# ---- which time ---------------------------------------------------------------------------------


def parse_time(text: str, now_ns: int) -> int:
    """Return an instant as Unix time in ns. Raises ValueError with a sentence."""
    if found := _SECONDS.fullmatch(text):
        return int(found[1]) * NS_PER_S + int((found[2] or "").ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return max(0, now_ns - _ago(text))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    passed = moment - _EPOCH
    seconds = passed.days * 86_400 + passed.seconds
    if seconds < 0:
        raise ValueError(f'"{text}" is before 1970')
    return seconds * NS_PER_S + passed.microseconds * 1000


def _ago(text: str) -> int:
    try:
        return parse_duration_ns(text)
    except ValueError:
        raise ValueError(f'"{text}" is no time: {_FORMS}') from None


def parse_span(since: str | None, until: str | None, now_ns: int) -> Span:
    """Return the span of two texts. Raises ValueError with a sentence."""
    span = Span(
        None if since is None else parse_time(since, now_ns),
        None if until is None else parse_time(until, now_ns),
    )
    if span.since_ns is not None and span.until_ns is not None and span.until_ns <= span.since_ns:
        raise ValueError(f'--until "{until}" is not after --since "{since}"')
    return span


def bounds(span: Span) -> tuple[int, int]:
    """Return a span as the store takes it."""
    since, until = span.since_ns or 0, FOREVER if span.until_ns is None else span.until_ns
    return min(since, FOREVER), min(until, FOREVER)


def facts_of(event: Event) -> dict[str, object]:
    """Return the facts of an event; of a forged one that holds no object, its text."""
    try:
        found: object = event.data()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"text": event.facts}
