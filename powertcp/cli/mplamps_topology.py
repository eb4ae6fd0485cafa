"""`powertcp mplamps topology`: make, import, check and show networks of lamps, and their paths."""

from argparse import Namespace
from typing import NamedTuple

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp mplamps topology generate street:3 --pdp --base 127.80.0.0 > street.toml
  powertcp mplamps topology generate tree:10,10,10,2,5 > city.toml
  powertcp mplamps topology import topohub:sndlib/germany50 --lamps 10000 > germany.toml
  powertcp mplamps topology check street.toml           every fault with line and column
  powertcp mplamps topology show street.toml            nodes with addresses, links with labels
  powertcp mplamps topology paths street.toml --es es1  the path of every lamp to a source

ACTION is generate, import, check, show or paths.

tree:A,B,..,Z has fan-outs, the last one of lamps in a house; its voltages, counted from the lamps, are
230 V, 400 V, 20 kV, 110 kV and 380 kV, and more levels add 20 kV. street:N has two substations, a cabinet
and N houses, ring:N a ring of N transformers, ladder:N two rails with N rungs; each house has one lamp.

A grid to import is pandapower:NAME, simbench:CODE or topohub:GROUP/NAME, of the libraries that powertcp[grid]
installs: its buses or cities are routers, its loads districts of houses with as many lamps as they have
power for, at most --lamps in all. With ,LAMPS after it it can be used wherever a TOPOLOGY is wanted.

A check warns where lamps ask for more than the feeder before them carries, unless it is told to suppress
its sanity.

A path has the least sum of metrics, or with --metric tariff of fees, among links that carry what its lamp
asks for; no other lamp is on yet. Of equal ones that over links of lower numbers is taken.

exit status: 0 done, 1 a lamp has no path, 2 usage, or a topology that is none"""


class _Action(NamedTuple):
    """What an action takes: the most words after it, what they are, its options."""

    most: int | None
    operand: str
    options: tuple[str, ...]


ACTIONS = {
    "generate": _Action(1, "a GENERATOR, such as street:3", ("base", "pdp")),
    "import": _Action(1, "a grid, such as pandapower:mv_oberrhein", ("lamps", "base", "pdp")),
    "check": _Action(None, "a TOPOLOGY", ("suppress_sanity", "json")),
    "show": _Action(1, "a TOPOLOGY", ("json",)),
    "paths": _Action(1, "a TOPOLOGY", ("es", "metric", "json")),
}


def build_parser() -> Parser:
    """Return the parser of `powertcp mplamps topology`."""
    purpose = "Make, import, check and show networks of lamps and sources, and the paths in them."
    parser = Parser("mplamps topology", purpose, EXAMPLE, "ACTION [TOPOLOGY]...")
    add = parser.add_argument
    add("action", metavar="ACTION", choices=tuple(ACTIONS), help="what to do")
    add(
        "what", metavar="TOPOLOGY", nargs="*", help="a file, or tree:.., street:N, ring:N, ladder:N"
    )
    add("--lamps", metavar="N", type=int, help="import: at most so many lamps (1000)")
    addresses = "generate, import: nodes have the addresses after it (10.0.0.0)"
    add("--base", metavar="ADDR", help=addresses)
    add("--pdp", action="store_true", help="generate, import: with a policy decision point")
    add("--suppress-sanity", action="store_true", help="check: no warnings")
    add("--es", metavar="NAME", help="paths: to this source (the only one)")
    metric = "paths: the least metrics, igp (the default), or fees, tariff"
    add("--metric", metavar="METRIC", choices=("igp", "tariff"), help=metric)
    add("--json", action="store_true", help="check, show, paths: one JSON object per line")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp mplamps topology`; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_action(argv, ACTIONS)
    _check_words(parser, arguments)
    # the library that decodes documents comes with it: help and wrong words do without
    from powertcp.cli import topologies

    match arguments.action:
        case "generate":
            return topologies.generate(arguments)
        case "import":
            return topologies.import_grid(arguments)
        case "check":
            return topologies.check(arguments)
        case "paths":
            from powertcp.cli import lamp_paths

            return lamp_paths.show(arguments)
        case _:
            return topologies.show(arguments)


def _check_words(parser: Parser, arguments: Namespace) -> None:
    """Refuse what does not belong to the action."""
    name, action = arguments.action, ACTIONS[arguments.action]
    given = {key for key, value in vars(arguments).items() if value} - {"action", "what"}
    if strange := sorted(given - set(action.options)):
        option = strange[0].replace("_", "-")
        takers = " and ".join(key for key, it in ACTIONS.items() if strange[0] in it.options)
        parser.error(f"--{option} is for {takers}, not for {name}")
    if not arguments.what:
        parser.error(f"{name} needs {action.operand}")
    if action.most is not None and len(arguments.what) > action.most:
        word = arguments.what[action.most]
        parser.error(f'{name} takes {action.most} word, got "{word}" as well')
