"""`powertcp status`: what the running daemons of this user do, asked through their sockets."""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from powertcp.cli.parser import Parser
from powertcp.errors import HostError
from powertcp.units import format_energy, format_power

if TYPE_CHECKING:
    from powertcp.drivers.control import Fields

EXAMPLE = """example:
  powertcp status --flows --watch

exit status: 0 done, 2 usage, 3 no daemon answers"""


def build_parser() -> Parser:
    """Return the parser of `powertcp status`."""
    parser = Parser("status", "Show every running daemon: supplies, flows, energy.", EXAMPLE)
    add = parser.add_argument
    add("--watch", action="store_true", help="draw again each second")
    add("--flows", action="store_true", help="one line for each flow")
    add("--json", action="store_true", help="one JSON object per daemon and line")
    add("--control", metavar="PATH", help="ask this socket only")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp status`; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    # the event loop comes with them: help and wrong words do without
    from powertcp.drivers.control import find_sockets
    from powertcp.drivers.daemon import state_folder

    state = state_folder(os.environ, "provider")
    while True:
        paths = [Path(arguments.control)] if arguments.control else find_sockets(os.environ, state)
        answers = [found for path in paths if (found := _ask(path, flows=arguments.flows))]
        if not answers and not arguments.watch:
            print("powertcp status: no running daemon answers", file=sys.stderr)
            return 3
        if arguments.watch and not arguments.json and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        for greeting, answer in answers:
            if arguments.json:
                print(json.dumps({**greeting, **answer}), flush=True)
            else:
                print("\n".join(lines(greeting, answer)), flush=True)
        if not arguments.watch:
            return 0
        time.sleep(1)


def _ask(path: Path, *, flows: bool) -> "tuple[Fields, Fields] | None":
    from powertcp.drivers.control import ask

    try:
        greeting, answer = ask(path, {"op": "status", "flows": flows})
    except (OSError, HostError):
        return None
    found = answer.get("ok")
    return (greeting, found) if isinstance(found, dict) else None


def lines(greeting: "Fields", status: "Fields") -> list[str]:
    """Return the text of one daemon's status, at most 100 columns."""
    name = f' "{greeting["name"]}"' if greeting.get("name") else ""
    head = f"{greeting.get('role')}{name} pid {greeting.get('pid')}: {status.get('state')}"
    if "reservoirs" in status:
        from powertcp.cli.firewall_text import status_lines

        return status_lines(head, status)
    if "devices" in status:
        text = [head + _relayed(status)]
    elif "rating_mw" in status:
        text = _offered(head, status)
    else:
        return [head, *_searches(status)]
    if isinstance(ledger := status.get("ledger"), dict):
        state = "cannot be written" if ledger.get("is_read_only") else "writes"
        text.append(
            f"  ledger {state}: {_whole(ledger, 'pages'):,} pages,"
            f" {format_energy(_whole(ledger, 'booked_uj'))} booked,"
            f" {format_energy(_whole(ledger, 'open_uj'))} open,"
            f" {format_energy(_whole(ledger, 'unsigned_uj'))} never signed,"
            f" residual {format_energy(_whole(ledger, 'residual_uj'))}"
        )
    if isinstance(feed := status.get("feed"), dict):
        text += _feed(feed)
    if isinstance(spot := status.get("hotspot"), dict):
        text.append(_hotspot(spot))
    if bugs := _whole(status, "bugs"):
        text.append(
            f"  {bugs} bugs of powertcp ended a connection each: their tracebacks are in the log"
        )
    for flow in _rows(status, "flows"):
        text += _flow(flow)
    return text


def _relayed(status: "Fields") -> str:
    """Return what a gateway relays."""
    return (
        f", {status.get('flow_count')} flows of {_power(status, 'contract_mw')} for"
        f" {status.get('devices')} devices,"
        f" {format_energy(_whole(status, 'energy_uj'))} verified (simulated),"
        f" heat {format_energy(_whole(status, 'heat_uj'))}"
    )


def _offered(head: str, status: "Fields") -> list[str]:
    """Return the lines of what a provider delivers and holds."""
    text = [
        f"{head}, {_power(status, 'delivered_mw')} delivered, {_power(status, 'reserved_mw')} held of"
        f" {_power(status, 'rating_mw')}",
        f"  {status.get('flow_count')} flows on {status.get('connections')} connections,"
        f" {format_energy(_whole(status, 'energy_uj'))} acknowledged (simulated),"
        f" heat {format_energy(_whole(status, 'heat_uj'))}",
    ]
    text += [
        f"  {supply.get('text')!s:<24} {_power(supply, 'delivered_mw'):>12} delivered"
        f" {_power(supply, 'reserved_mw'):>12} held of {_power(supply, 'rating_mw')}"
        for supply in _rows(status, "supplies")
    ]
    return text


def _flow(flow: "Fields") -> list[str]:
    """Return the lines of one flow."""
    text = [
        f"  {flow.get('id')!s:<28} {flow.get('state')!s:<10} {flow.get('text')!s:<22}"
        f" {_power(flow, 'power_mw'):>10} {format_energy(_whole(flow, 'energy_uj')):>14}"
    ]
    if flow.get("rule"):
        text.append(f"    {flow.get('name')} by {flow['rule']}")
    if flow.get("refusal"):
        text.append(f"    {flow['refusal']}")
    return text


def _feed(feed: "Fields") -> list[str]:
    """Return the lines of a broadcast."""
    groups = feed.get("groups")
    where = ", ".join([*map(str, groups if isinstance(groups, list) else []), "TCP"])
    return [
        f"  feed {feed.get('text')!s} to {where}, epoch {feed.get('epoch')}",
        f"  {feed.get('subscribers')} subscribers,"
        f" {format_energy(_whole(feed, 'energy_uj'))} emitted (simulated),"
        f" {format_energy(_whole(feed, 'signed_uj'))} signed by {feed.get('receivers')} receivers",
    ]


def _searches(status: "Fields") -> list[str]:
    """Return the lines of what a consumer looks for, and whom it has found."""
    text: list[str] = []
    for search in _rows(status, "searches"):
        wanted = search.get("wanted")
        named = ", ".join(map(str, wanted)) if isinstance(wanted, list) else ""
        text.append(f"  {named}: {search.get('sentence')}")
        text += found_lines(search)
    return text


def found_lines(search: "Fields") -> list[str]:
    """Return a line for each provider that a search has found, as `discover --why` has it."""
    rows = _rows(search, "found")
    width = max((len(str(row.get("verdict"))) for row in rows), default=0)
    text = [
        f"    {row.get('short')!s:<8}  {row.get('verdict')!s:<{width}}  {row.get('sentence')}"
        for row in rows
    ]
    more = _whole(search, "count") - len(rows)
    if more > 0:
        text.append(f"    and {more:,} more: powertcp discover --why")
    if search.get("hint"):
        text.append(f"    {search['hint']}")
    return text


def _hotspot(spot: "Fields") -> str:
    """Return the line of a hot spot."""
    beyond = f" to {spot['outside']}" if spot.get("outside") else ""
    where = f"  hot spot ({spot.get('kind')}) on {spot.get('inside')}{beyond}"
    if not spot.get("forwarding"):
        return f"{where}: power only: {spot.get('fault')}"
    count = _whole(spot, "addresses")
    fault = f"; {spot['fault']}" if spot.get("fault") else ""
    return f"{where}: {count:,} address{'es' if count != 1 else ''} forwarded{fault}"


def _rows(fields: "Fields", name: str) -> "list[Fields]":
    found = fields.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _whole(fields: "Fields", name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0


def _power(fields: "Fields", name: str) -> str:
    return format_power(_whole(fields, name))
