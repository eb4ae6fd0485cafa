"""`powertcp ledger`: the books of a node: what it took and gave, the bill, and the first law."""

import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

from powertcp.cli.books import (
    Asked,
    NoLedger,
    Rows,
    find_ledgers,
    is_ledger,
    ledger_at,
    open_ledger,
    parse_span,
)
from powertcp.cli.invoice import invoice, read_pages
from powertcp.cli.journal import backup, export, show
from powertcp.cli.parser import Parser
from powertcp.errors import ConfigError
from powertcp.ledger.book import LedgerBroken
from powertcp.ledger.verify import FlowVerdict, Verdict, verify_pages

DONE = 0
NO = 1
NO_ANSWER = 3
EXAMPLE = """examples:
  powertcp ledger show                                  what every account came to
  powertcp ledger show journal --since 1h               also receipts, events, an account's name
  powertcp ledger invoice lamp-3 --since 2026-11-01     one party's pages, energy and cost
  powertcp ledger verify --full                         every record of the ledger
  powertcp ledger verify FILE.ptr                       pages of receipts, from nothing but them
  powertcp ledger export pages > FILE.ptr               also journal, receipts, events, all
  powertcp ledger audit A/ledger.db B/ledger.db         the first law over both
  powertcp ledger backup FILE                           a copy as of one moment

ACTION is show, invoice, verify, export, audit or backup. A daemon may go on writing meanwhile.

PARTY of an invoice is the name of an account without its kind (lamp-3 of sink:lamp-3), or at least
8 digits of a meter key; only with those, page files may follow it.

exit status: 0 done, 1 books or pages are not in order, 2 usage, 3 there is no ledger"""


class _Action(NamedTuple):
    """What an action takes: operands at least and at most, and the options of its own."""

    least: int
    most: int | None
    options: tuple[str, ...]


ACTIONS = {
    "show": _Action(0, 1, ("since", "until", "json", "csv", "state_dir")),
    "invoice": _Action(1, None, ("since", "until", "json", "csv", "state_dir", "tariff")),
    "verify": _Action(0, None, ("full", "json", "csv", "state_dir")),
    "export": _Action(0, 1, ("since", "until", "json", "csv", "state_dir")),
    "audit": _Action(
        0, None, ("since", "until", "json", "csv", "state_dir", "sankey", "prometheus", "post")
    ),
    "backup": _Action(1, 1, ("json", "csv", "state_dir")),
}
VERDICT_COLUMNS = (
    "file", "verdict", "transcript", "pages", "energy_uj", "cost_micro", "warnings", "page",
    "offset", "record", "reason",
)  # fmt: skip


def build_parser() -> Parser:
    """Return the parser of `powertcp ledger`."""
    purpose = "Read the books: accounts, signed pages, bills, and whether the first law is obeyed."
    parser = Parser("ledger", purpose, EXAMPLE, "ACTION [WHAT]...")
    add = parser.add_argument
    add("action", metavar="ACTION", choices=tuple(ACTIONS), help="what to do")
    add("what", metavar="WHAT", nargs="*", help="account, party, table or files, by ACTION")
    place = "folder of the ledger, or a ledger file (default: the one of this user's daemons)"
    add("--state-dir", metavar="PATH", help=place)
    when = "2026-11-21, 2026-11-21T18:04:01Z, @SECONDS, or so long ago: 7d"
    add("--since", metavar="TIME", help=f"from this time on: {when}")
    add("--until", metavar="TIME", help="before this time")
    add("--full", action="store_true", help="verify: every record, not only the last 10,000")
    add("--tariff", metavar="FILE", action="append", help="invoice: a tariff document to print")
    add("--sankey", metavar="FILE", help="audit: write the diagram (SVG)")
    add("--prometheus", action="store_true", help="audit: print metrics")
    add("--post", action="store_true", help="audit: post what nobody generated to equity:first-law")
    add("--json", action="store_true", help="one JSON object per line")
    add("--csv", action="store_true", help="comma-separated values")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp ledger`; returns the exit status."""
    parser = build_parser()
    if not {"-h", "--help"} & set(argv) and all(word.startswith("-") for word in argv):
        parser.error(f"an ACTION is needed: {', '.join(ACTIONS)}")
    arguments = parser.parse_intermixed_args(argv)
    _check(parser, arguments)
    try:
        span = parse_span(arguments.since, arguments.until, time.time_ns())
    except ValueError as error:
        parser.error(str(error))
    try:
        form = "json" if arguments.json else "csv" if arguments.csv else "text"
        return _run(arguments, Asked(tuple(arguments.what), _ledgers(arguments), span, form))
    except NoLedger as none:
        print(f"powertcp ledger: {none}", file=sys.stderr)
        return NO_ANSWER
    except LedgerBroken as broken:
        print(f"powertcp ledger: {broken}", file=sys.stderr)
        return NO


def _check(parser: Parser, arguments: Namespace) -> None:
    """Refuse what does not belong to the action."""
    name, action = arguments.action, ACTIONS[arguments.action]
    given = {key for key, value in vars(arguments).items() if value} - {"action", "what"}
    if strange := sorted(given - set(action.options)):
        option = strange[0].replace("_", "-")
        takers = " and ".join(key for key, it in ACTIONS.items() if strange[0] in it.options)
        parser.error(f"--{option} is for {takers}, not for {name}")
    count = len(arguments.what)
    if count < action.least:
        parser.error(f"{name} needs {'a PARTY' if name == 'invoice' else 'a FILE'}")
    if action.most is not None and count > action.most:
        parser.error(
            f'{name} takes {action.most} word, got "{arguments.what[action.most]}" as well'
        )
    if arguments.post and given & {"since", "until"}:
        parser.error("--post is for all of time, without --since and --until")
    if len(given & {"json", "csv", "prometheus"}) > 1:
        parser.error("choose one of --json, --csv and --prometheus")


def _ledgers(arguments: Namespace) -> tuple[Path, ...]:
    """Return the ledgers an action is about: named, or those of this user."""
    if arguments.action == "audit" and arguments.what:
        if arguments.state_dir:
            raise ConfigError("command line", "--state-dir", "audit has its ledgers as words")
        found = [ledger_at(name) for name in arguments.what]
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
