"""What every test run shares: requirements, the audit hook, the trace tail, the seed, no silent skips."""

import collections
import hashlib
import json
import os
import random
import re
import sys
import tomllib
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
INTEROP = os.environ.get("POWERTCP_INTEROP") == "1"
TRACE_EVENTS = 50
REVIEW_TESTS = 5
PROPERTY = "requirements"

# machines under load are slow, not wrong: no per-example deadline; no health check is suppressed
# in CI the same examples each time: a landing does not depend on luck, the search goes on elsewhere
hypothesis.settings.register_profile(
    "house", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("house")


# ---- requirements -------------------------------------------------------------------------------


def _rows(name: str, table: str) -> dict[str, dict[str, Any]]:
    path = ROOT / "rfc" / name
    if not path.exists():
        return {}
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get(table, [])
    return {row["id"]: row for row in rows}


class Requirements:
    """Which requirement is shown by which test; adds up over the runs in build/requirements.json."""

    def __init__(self) -> None:
        self.rows = _rows("requirements.toml", "requirement")
        self.exempt = set(_rows("exceptions.toml", "exception"))
        self.of_test: dict[str, list[str]] = {}
        self.outcomes: dict[str, str] = {}
        self.review: list[str] = []

    def collect(self, items: list[pytest.Item]) -> None:
        """Have every test bear its ids to the report; an unknown id is a usage error."""
        for item in items:
            ids = [name for mark in item.iter_markers("requirement") for name in mark.args]
            unknown = sorted(set(ids) - set(self.rows))
            if unknown:
                raise pytest.UsageError(f"{item.nodeid}: no such requirement: {', '.join(unknown)}")
            if ids:
                item.user_properties.append((PROPERTY, ids))

    def take(self, report: pytest.TestReport) -> None:
        """Note how a test ended, which may have run in another process."""
        self.outcomes[report.nodeid] = report.outcome
        for key, ids in report.user_properties:
            if key == PROPERTY and isinstance(ids, list):
                self.of_test[report.nodeid] = ids

    def finish(self, path: Path) -> dict[str, Any]:
        """Merge this run into the file and return the whole table."""
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            old = {}
        ran = {nodeid.split("::")[0] for nodeid in self.outcomes}
        table: dict[str, Any] = {}
        for name, row in self.rows.items():
            digest = hashlib.sha256(row["text"].encode()).hexdigest()[:16]
            before = old.get(name, {})
            tests = {
                nodeid: outcome
                for nodeid, outcome in before.get("tests", {}).items()
                if (file := nodeid.split("::")[0]) not in ran and (ROOT / file).exists()
            }
            tests |= {
                nodeid: self.outcomes[nodeid]
                for nodeid, ids in self.of_test.items()
                if name in ids and nodeid in self.outcomes
            }
            if before.get("text") not in (None, digest) and tests:
                shown = sorted(tests)[:REVIEW_TESTS]
                more = f" and {len(tests) - len(shown)} more" * (len(tests) > len(shown))
                self.review.append(f"{name} has a new text, review {', '.join(shown)}{more}")
            table[name] = {"level": row["level"], "text": digest, "tests": tests}
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
        return table

    def uncovered(self, table: Mapping[str, Any]) -> tuple[int, list[str]]:
        """Return the number of MUSTs that need a test, and those without a passed one."""
        must = [
            name
            for name, row in table.items()
            if row["level"] == "MUST" and name not in self.exempt
        ]
        return len(must), [n for n in must if "passed" not in table[n]["tests"].values()]


REQUIREMENTS = Requirements()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("powertcp")
    group.addoption(
        "--requirements-strict",
        action="store_true",
        help="fail when a MUST of rfc/requirements.toml has neither a test nor an exception",
    )
    group.addoption("--seed", type=int, default=None, help="seed of the `seed` fixture")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(1 << 32)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (repeat with --seed {config.option.seed})"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    REQUIREMENTS.collect(items)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        REQUIREMENTS.take(report)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.option.collectonly or not REQUIREMENTS.rows:
        return
    table = REQUIREMENTS.finish(ROOT / "build" / "requirements.json")
    total, missing = REQUIREMENTS.uncovered(table)
    line = f"requirements: {total - len(missing)}/{total} covered"
    if missing and config.option.requirements_strict:
        line += f"; uncovered: {', '.join(missing)}"
    for text in [line, *REQUIREMENTS.review]:
        terminalreporter.write_line(text)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # with -n: who started the workers has all the reports
    if session.config.option.requirements_strict and not session.config.option.collectonly:
        table = REQUIREMENTS.finish(ROOT / "build" / "requirements.json")
        if REQUIREMENTS.uncovered(table)[1] and session.exitstatus == 0:
            session.exitstatus = 1


# ---- no silent skips ----------------------------------------------------------------------------

LISTED_SKIPS = [
    line.split()[0]
    for line in (ROOT / "tests" / "meta" / "skips.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]


def _refuse_skip(
    report: pytest.TestReport | pytest.CollectReport, keywords: Mapping[str, Any]
) -> None:
    """Turn a skip that nobody listed into a failure.

    Without POWERTCP_INTEROP a missing peer may skip; a kernel test may skip with an errno's name.
    """
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    if any(report.nodeid.startswith(prefix) for prefix in LISTED_SKIPS):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if "interop" in keywords and not INTEROP:
        return
    if "kernel" in keywords and (not INTEROP or re.search(r"\bE[A-Z]{3,}\b", reason)):
        return
    report.outcome = "failed"
    report.longrepr = f"{reason}; not listed in tests/meta/skips.txt"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report, collector.keywords)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report, item.keywords)
    events = item.stash.get(TRACE_KEY, None)
    if report.failed and events:
        report.sections.append((f"last {TRACE_EVENTS} trace events", "\n".join(events)))
    return report


# ---- the audit hook -----------------------------------------------------------------------------

FORBIDDEN = ("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system")
NAMED = ("open", "sqlite3.connect")
# rooms that touch this machine by design: files of their own temporary folder are theirs
TOUCHING_ROOMS = ("linux", "store", "loads", "cli", "drivers")
# what Hypothesis keeps for itself
OWN_FILES = ".hypothesis"
SOURCE_SUFFIXES = (".py", ".pyc", ".so")


class Audit:
    """Fails a test that opens a file, a socket, a database or a process.

    Late imports and the files that test tools keep for themselves are not the test's doing.
    """

    def __init__(self) -> None:
        self.armed = False
        self.temporary = ""
        self.seen: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Judge one audit event of the interpreter."""
        if not self.armed:
            return
        if event in NAMED:
            path = os.fsdecode(args[0]) if isinstance(args[0], str | bytes) else str(args[0])
            if path.endswith(SOURCE_SUFFIXES) or ".hypothesis" in path or _by_hypothesis():
                return
            # a database in memory is no file; SQLite is given files by their URI
            if path == ":memory:":
                return
            if self.temporary and path.removeprefix("file://").startswith(self.temporary):
                return
            event = f"{event} {path}"
        elif not event.startswith(FORBIDDEN):
            return
        self.seen.append(event)
        raise RuntimeError(f"a unit test must not touch the world: {event}")


def _by_hypothesis() -> bool:
    """Return whether the nearest caller outside the standard library's file tools is Hypothesis."""
    frame = sys._getframe(2)  # noqa: SLF001 - the only way to know the caller
    while frame.f_back and frame.f_globals.get("__name__") in ("ast", "os", "pathlib", "tempfile"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).startswith("hypothesis.")


AUDIT = Audit()
# in CPython 3.11 an audit hook lets a tracer run inside itself, which tears the data of coverage;
# the run without coverage has the hook
if sys.gettrace() is None:
    sys.addaudithook(AUDIT)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    parts = Path(pyfuncitem.nodeid.split("::")[0]).parts
    if parts[:2] not in (("tests", "unit"), ("tests", "property")):
        return (yield)
    touching = len(parts) > 2 and parts[2].removesuffix(".py") in TOUCHING_ROOMS
    AUDIT.temporary = str(pyfuncitem.funcargs.get("tmp_path", "")) if touching else ""
    AUDIT.seen.clear()
    AUDIT.armed = True
    try:
        result = yield
    finally:
        AUDIT.armed = False
    if AUDIT.seen:
        pytest.fail(f"a unit test must not touch the world: {', '.join(AUDIT.seen)}")
    return result


# ---- fixtures -----------------------------------------------------------------------------------

TRACE_KEY = pytest.StashKey[collections.deque[str]]()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of this run, printed in its header."""
    return int(request.config.option.seed)


@pytest.fixture
def trace(request: pytest.FixtureRequest) -> Callable[[str, Mapping[str, object]], None]:
    """Return a trace sink for machines; a failing test prints its last events."""
    events = request.node.stash.setdefault(TRACE_KEY, collections.deque(maxlen=TRACE_EVENTS))

    def note(name: str, data: Mapping[str, object]) -> None:
        events.append(f"{name} {dict(data)}")

    return note
