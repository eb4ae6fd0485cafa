"""`powertcp ledger`: the books of a node: what it took and gave, the bill, and the first law."""

import time
from argparse import Namespace
from typing import NamedTuple

from powertcp.cli.parser import Parser

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
    arguments = parser.parse_action(argv, ACTIONS)
    _check(parser, arguments)
    # the database and the keys come with it: help and wrong words do without
    from powertcp.cli.actions import act
    from powertcp.cli.books import parse_span

    try:
        span = parse_span(arguments.since, arguments.until, time.time_ns())
    except ValueError as error:
        parser.error(str(error))
    return act(arguments, span)


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
