"""`powertcp discover`: the providers on this link, which of them fits, and whom to believe."""

import argparse
import sys

from powertcp.cli.consumer import Request
from powertcp.cli.parser import Parser
from powertcp.errors import ConfigError
from powertcp.units import NS_PER_S, parse_duration_ns

EXAMPLE = """examples:
  powertcp discover
  powertcp discover --why --request 12V/1.5A --minimum 5V/0.5A --max-price 0.20
  powertcp discover --watch --json
  powertcp discover --pin c09e11d2

exit status: 0 something found, 2 usage, 3 nothing found"""
SOURCES = "reclaimed, battery, grid, feed"
MOST_S = 3600


def build_parser() -> Parser:
    """Return the parser of `powertcp discover`."""
    parser = Parser("discover", "Show the providers on this link; no power is asked for.", EXAMPLE)
    add = parser.add_argument
    add("--watch", action="store_true", help="one line for each change, until it is ended")
    add("--one", action="store_true", help="end with the first provider that can be used")
    add("--timeout", metavar="TIME", help="look so long; less when nothing new comes for 1.5s (3s)")
    add("--all", action="store_true", help="dead, malformed, suspect and full ones too")
    add("--feeds", action="store_true", help="broadcast feeds too")
    add("--interface", action="append", metavar="IF", help="look there only, repeatable (all)")
    add("--passive", action="store_true", help="ask nobody, hear what others are told")
    add("--why", action="store_true", help="for each why it would be chosen, or not")
    add("--request", action=Request, metavar="V/I[@Hz]", help="power to find, repeatable: 12V/1.5A")
    add("--minimum", action=Request, metavar="V/I[@Hz]", help="least for the --request before it")
    add("--max-price", metavar="PRICE", help="most that is paid per kWh: 0.30, 0.30EUR (no limit)")
    add("--src", metavar="LIST", help=f"only from these sources: {SOURCES} (any)")
    add("--trust", choices=("any", "site", "pinned"), help="the least level (what is configured)")
    add("--pin", metavar="ID", help="believe the provider with this id from now on")
    add(
        "--avahi-file", action="store_true", help="print a running provider for /etc/avahi/services"
    )
    add("--state-dir", metavar="DIR", help="known_providers (XDG state folder of the consumer)")
    add("--json", action="store_true", help="one JSON object per advert, every field raw and read")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp discover`; returns the exit status."""
    given = build_parser().parse_args(argv)
    _check(given)
    timeout_s = _timeout_s(given)
    # the event loop comes with them: help and wrong words do without
    if given.avahi_file:
        from powertcp.cli.avahi import print_service

        return print_service()
    from powertcp.cli.discovering import discover

    status = discover(given, timeout_s=timeout_s)
    sys.stdout.flush()
    return status


def _check(given: argparse.Namespace) -> None:
    """Raise ConfigError for words that do not go together."""
    alone = [
        name
        for name, is_given in (
            ("--watch", given.watch),
            ("--one", given.one),
            ("--why", given.why),
            ("--pin", given.pin),
            ("--avahi-file", given.avahi_file),
        )
        if is_given and not (name == "--why" and given.one)
    ]
    if len(alone) > 1:
        raise ConfigError("command line", alone[1], f"not together with {alone[0]}")
    for name, value in (("--max-price", given.max_price), ("--src", given.src)):
        if value and not given.request:
            raise ConfigError("command line", name, "it is about --request, which is not given")
    if given.why and not given.request:
        raise ConfigError("command line", "--why", "what for? --request 12V/1.5A, for example")


def _timeout_s(given: argparse.Namespace) -> float:
    """Return how long to look, without end for --watch unless a time is given."""
    if given.timeout is None:
        return float("inf") if given.watch else 3.0
    try:
        timeout_s = parse_duration_ns(given.timeout) / NS_PER_S
    except ValueError as error:
        raise ConfigError("command line", "--timeout", str(error)) from error
    if not 0 < timeout_s <= MOST_S:
        raise ConfigError("command line", "--timeout", f"up to 1h, got {given.timeout}")
    return timeout_s
