"""`powertcp firewall`: the reclaim firewall, which keeps the power that it is attacked with."""

from argparse import Namespace
from typing import NamedTuple

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp firewall run attic.policy         the daemon: what attacks it fills a reservoir
  powertcp firewall list                     of the running one: rules, hits and joules, reservoirs
  powertcp firewall check attic.policy       every fault with line, column and what was expected
  powertcp firewall test attic.policy        its test statements, and what became of each
  powertcp firewall check --json a b         one JSON object per policy
  powertcp firewall check a --script night.py   a script as well: it is run, as it is when it is loaded
  powertcp firewall simulate all             ten attacks, and what must come of each
  powertcp firewall nft --iface eth0         the rules of nftables that divert to it; loads none

ACTION is run, load, list, trace or explain, whose options `powertcp firewall ACTION --help` shows, or
check, test, simulate or nft.

A policy has one statement a line: reservoir, set, policy, rule, infrastructure, lend, test. The first rule
whose matches all hold decides; policy says what becomes of the rest. Files of keys that it names are
looked for in its own folder.

SCENARIO is S1 to S10, or all: the attacks of the specification, played on a virtual clock by a hostile
provider, a firewall and honest devices. The same seed gives the same lines, apart from what was
measured of this host (--no-host).

exit status: 0 done, 1 a test statement or a scenario differs, 2 usage, or a policy that does not load"""


class _Action(NamedTuple):
    """What an action takes: words after it at least and at most, what they are, its options."""

    least: int
    most: int | None
    operand: str
    options: tuple[str, ...]


# the daemon, and what is asked of the running one: parsers of their own
ORDERS = ("load", "list", "trace", "explain")
DAEMON = ("run", *ORDERS)
# an action is a row here, its options in `build_parser`, a case in `_run` and a module of its own
ACTIONS = {
    "check": _Action(1, None, "a POLICY", ("json", "lab", "script")),
    "test": _Action(1, None, "a POLICY", ("json", "lab")),
    "simulate": _Action(1, None, "a SCENARIO, or all", ("json", "seed", "no_host")),
    "nft": _Action(0, 0, "", ("mode", "iface", "dport", "to")),
}


def build_parser() -> Parser:
    """Return the parser of `powertcp firewall`."""
    purpose = (
        "Read the policy of a reclaim firewall: is it valid, does it do what its tests expect."
    )
    parser = Parser("firewall", purpose, EXAMPLE, "ACTION [WHAT]...")
    add = parser.add_argument
    add("action", metavar="ACTION", choices=(*DAEMON, *ACTIONS), help="what to do")
    add("what", metavar="FILE", nargs="*", help="check, test: policies; simulate: scenarios")
    add("--lab", action="store_true", help="check, test: a reservoir may have no losses")
    add("--script", metavar="FILE", action="append", help="check: Python hooks as well; repeats")
    add("--seed", metavar="N", type=int, help="simulate: of all chance in it (1)")
    add("--no-host", action="store_true", help="simulate: no times and memory of this host")
    add("--json", action="store_true", help="one JSON object per line")
    add("--mode", metavar="MODE", help="nft: redirect (default) or tproxy")
    add("--iface", metavar="NAME", action="append", help="nft: connections come in by it; repeats")
    add("--dport", metavar="PORT", type=int, help="nft: connections to this port (default 3251)")
    add("--to", metavar="PORT", type=int, help="nft: go to this one of this host (default 3261)")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp firewall`; returns the exit status."""
    if argv and argv[0] == "run":
        from powertcp.cli.firewall_run import main as run

        return run(argv[1:])
    if argv and argv[0] in ORDERS:
        from powertcp.cli.firewall_orders import main as order

        return order(argv[0], argv[1:])
    parser = build_parser()
    arguments = parser.parse_action(argv, (*DAEMON, *ACTIONS))
    if arguments.action in DAEMON:
        parser.error(f"{arguments.action} comes first, its options after it")
    _check(parser, arguments)
    return _run(parser, arguments)


def _run(parser: Parser, arguments: Namespace) -> int:
    """Import the module of an action and run it: help and wrong words do without."""
    match arguments.action:
        case "check":
            from powertcp.cli.firewall_policy import check

            return check(arguments)
        case "simulate":
            from powertcp.cli.firewall_simulate import simulate

            return simulate(arguments)
        case "nft":
            from powertcp.cli.firewall_nft import nft

            return nft(parser, arguments)
        case _:
            from powertcp.cli.firewall_policy import test

            return test(arguments)


def _check(parser: Parser, arguments: Namespace) -> None:
    """Refuse what does not belong to the action."""
    name, action = arguments.action, ACTIONS[arguments.action]
    given = {key for key, value in vars(arguments).items() if value} - {"action", "what"}
    if strange := sorted(given - set(action.options)):
        option = strange[0].replace("_", "-")
        takers = " and ".join(key for key, it in ACTIONS.items() if strange[0] in it.options)
        parser.error(f"--{option} is for {takers}, not for {name}")
    if len(arguments.what) < action.least:
        parser.error(f"{name} needs {action.operand}")
    if action.most is not None and len(arguments.what) > action.most:
        word = arguments.what[action.most]
        parser.error(f'{name} takes {action.most or "no"} word, got "{word}" as well')
