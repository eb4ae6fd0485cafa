"""The actions of `powertcp ledger`: which ledgers they are about, verify, and the way to the others."""

import os
import sys
from argparse import Namespace
from pathlib import Path

from powertcp.cli.books import (
    Asked,
    NoLedger,
    Rows,
    find_ledgers,
    is_ledger,
    ledger_at,
    open_ledger,
    read_pages,
)
from powertcp.cli.invoice import invoice
from powertcp.cli.journal import backup, export, show
from powertcp.errors import ConfigError, LedgerBroken
from powertcp.ledger.pairing import Span
from powertcp.ledger.verify import FlowVerdict, Verdict, verify_pages

DONE = 0
NO = 1
NO_ANSWER = 3
VERDICT_COLUMNS = (
    "file", "verdict", "transcript", "pages", "energy_uj", "cost_micro", "warnings", "page",
    "offset", "record", "reason",
)  # fmt: skip


def act(arguments: Namespace, span: Span) -> int:
    """Run the action that was asked for; returns the exit status."""
    try:
        form = "json" if arguments.json else "csv" if arguments.csv else "text"
        return _run(arguments, Asked(tuple(arguments.what), _ledgers(arguments), span, form))
    except NoLedger as none:
        print(f"powertcp ledger: {none}", file=sys.stderr)
        return NO_ANSWER
    except LedgerBroken as broken:
        print(f"powertcp ledger: {broken}", file=sys.stderr)
        return NO


def _ledgers(arguments: Namespace) -> tuple[Path, ...]:
    """Return the ledgers an action is about: named, or those of this user."""
    if arguments.action == "audit" and arguments.what:
        if arguments.state_dir:
            raise ConfigError("command line", "--state-dir", "audit has its ledgers as words")
        found = [ledger_at(name, has_pages=True) for name in arguments.what]
        return tuple(dict.fromkeys(path.resolve() for path in found))
    has_files = arguments.action == "verify" and arguments.what
    if has_files or (arguments.action == "invoice" and len(arguments.what) > 1):
        return ()
    if arguments.state_dir:
        return (ledger_at(arguments.state_dir),)
    return tuple(find_ledgers(os.environ))


def _run(arguments: Namespace, asked: Asked) -> int:
    match arguments.action:
        case "invoice":
            return invoice(asked, arguments.tariff or ())
        case "verify":
            return verify(asked, is_full=arguments.full)
        case "audit":
            from powertcp.cli import audit

            return audit.run(
                asked,
                diagram=arguments.sankey,
                is_metrics=arguments.prometheus,
                is_posted=arguments.post,
            )
        case "export":
            return export(asked)
        case "backup":
            return backup(asked)
        case _:
            return show(asked)


# ---- verify -------------------------------------------------------------------------------------


def verify(asked: Asked, *, is_full: bool) -> int:
    """Check ledgers, or pages of files; returns the exit status."""
    rows = Rows(asked.form, VERDICT_COLUMNS)
    rows.begin()
    files = [Path(name) / "ledger.db" if Path(name).is_dir() else Path(name) for name in asked.what]
    books = [*asked.ledgers, *(path for path in files if is_ledger(path))]
    pages = [str(path) for path in files if path not in books]
    status = DONE
    for path in books:
        if not _verify_ledger(path, rows, is_full=is_full):
            status = NO
    given = list(read_pages(pages))
    for name, octets in given:
        if not octets:
            said = {"file": name, "verdict": Verdict.INVALID.value, "reason": "it holds no pages"}
            rows.put(said, f"INVALID  {name}: it holds no pages")
            status = NO
    for verdict in verify_pages(given):
        rows.put(_verdict_record(verdict), str(verdict))
        if verdict.verdict is Verdict.INVALID:
            status = NO
    return status


def _verify_ledger(path: Path, rows: Rows, *, is_full: bool) -> bool:
    """Put what is wrong with a ledger, or that nothing is; return whether it is valid."""
    try:
        with open_ledger(path) as store:
            found = store.verify(full=is_full)
    except LedgerBroken as broken:
        said = {"file": str(path), "verdict": Verdict.INVALID.value}
        rows.put(said | {"record": broken.record, "reason": broken.text}, f"INVALID  {broken}")
        return False
    for finding in found:
        verdict = Verdict.VALID_WITH_WARNING if finding.is_warning else Verdict.INVALID
        record = {"file": str(path), "verdict": verdict.value}
        record |= {"record": finding.record, "reason": finding.text}
        rows.put(record, f"{verdict}  {path}: {finding}")
    if not found:
        what = "every record" if is_full else "the last records"
        rows.put({"file": str(path), "verdict": Verdict.VALID.value}, f"VALID  {path}: {what}")
    return all(finding.is_warning for finding in found)


def _verdict_record(verdict: FlowVerdict) -> dict[str, object]:
    is_invalid = verdict.verdict is Verdict.INVALID
    return {
        "file": verdict.file or None,
        "verdict": verdict.verdict.value,
        "transcript": verdict.transcript.hex(),
        "pages": verdict.pages,
        "energy_uj": verdict.energy_uj,
        "cost_micro": verdict.cost_micro,
        "warnings": "; ".join(verdict.warnings),
        "page": verdict.page if is_invalid else None,
        "offset": verdict.offset if is_invalid else None,
        "reason": verdict.reason or None,
    }
