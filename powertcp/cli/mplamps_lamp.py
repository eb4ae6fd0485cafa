"""`powertcp mplamps lamp`: one lamp of a live network, and orders for one that runs."""

from argparse import Namespace

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp mplamps lamp run lamp-1 --topology street.toml --load lamp
  powertcp mplamps lamp run lamp-1 --topology street.toml --run 'sha256sum /dev/zero'
  powertcp mplamps lamp run lamp-1 --topology street.toml --splice 127.0.0.1:33251
  powertcp mplamps lamp set lamp-1 230V/1A@50Hz
  powertcp mplamps lamp migrate lamp-1 peer

ACTION is run, on, off, set, migrate or status.

run asks the network for power. With --load or --run the lamp is switched on at once, and draws what it is
granted; with --splice consumers connect, and each gets a circuit for the REQUEST in its first segment. A
consumer that is refused is told by whom and why.

on, off, set, migrate and status are for a lamp that runs; set and migrate make the new circuit before they
break the old one. A model is overlay (the edge router finds the way) or peer (the lamp does). off tells the
source of each consumer of a splice that the path ends, which is no FIN, and ends it once what is under way
is delivered, after 2 s at the latest.

signals: TERM, INT end in order, at once the second time; USR1 logs the state.
exit status: 0 done (with --run: the command's own), 1 refused, 2 usage or configuration, 3 no such lamp
runs, 70 a bug"""

# how many words an action takes after the name of the lamp
ACTIONS = {"run": 0, "on": 0, "off": 0, "set": 1, "migrate": 1, "status": 0}
_RUN_ONLY = (
    "topology", "request", "minimum", "supplier", "max_price", "model", "load", "run", "splice",
    "for_", "keys", "capture", "trace", "state_dir", "no_ledger", "on_shed",
)  # fmt: skip


def build_parser() -> Parser:
    """Return the parser of `powertcp mplamps lamp`."""
    purpose = "Run one lamp of a network whose labels are volts, or tell one that runs what to do."
    parser = Parser("mplamps lamp", purpose, EXAMPLE, "ACTION NAME [PROFILE|MODEL]")
    add = parser.add_argument
    add("action", metavar="ACTION", choices=tuple(ACTIONS), help="what to do")
    add("name", metavar="NAME", help="of the lamp in the topology")
    add("words", metavar="WORD", nargs="*", help="set: a PROFILE, migrate: a MODEL")
    add("--topology", metavar="FILE", help="the network: a file, or street:N and the like")
    add("--request", metavar="V/I[@Hz]", help="power (what the topology says of the lamp)")
    add("--minimum", metavar="V/I[@Hz]", help="what it would do with (it would not)")
    add("--supplier", metavar="ID", help="whose power (the contract's, else the cheapest)")
    add("--max-price", metavar="PRICE", help="most that is paid per kWh: 0.30, 0.30EUR (no limit)")
    add("--model", metavar="MODEL", choices=("overlay", "peer"), help="who finds the way (overlay)")
    add("--load", metavar="LOAD", help="lamp, hum[=FILE.wav], hostcap, none")
    add("--run", metavar="CMD", help="a command that runs while powered")
    add("--splice", metavar="ADDR", help="HOST:PORT where consumers connect")
    add("--for", dest="for_", metavar="TIME", help="end after this time of samples: 60s (no end)")
    add("--on-shed", choices=("cap", "stop", "term"), help="the command while shed (cap)")
    add("--keys", metavar="FILE", help="keys of links (none: on the loopback only)")
    add("--capture", metavar="FILE", help="a pcapng of the link of the lamp (none)")
    add("--trace", metavar="DIR", help="a file of events (none)")
    add("--state-dir", metavar="DIR", help="ledger and meter key (XDG state folder)")
    add("--no-ledger", action="store_true", help="keep no books, sign no receipts")
    add("--control", metavar="PATH", help="control socket (lamp-PID.sock)")
    add("--json", action="store_true", help="one JSON object per line on stdout")
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="say less")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp mplamps lamp`; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_action(argv, ACTIONS)
    _check_words(parser, arguments)
    # the event loop comes with it: help and wrong words do without
    if arguments.action == "run":
        from powertcp.cli.lamp_run import run_lamp

        return run_lamp(arguments)
    from powertcp.cli.lamp_orders import order_lamp

    return order_lamp(arguments)


def _check_words(parser: Parser, arguments: Namespace) -> None:
    """Refuse what does not belong to the action."""
    action, words = arguments.action, arguments.words
    if len(words) != ACTIONS[action]:
        what = {"set": "a PROFILE, such as 230V/1A@50Hz", "migrate": "a MODEL: overlay or peer"}
        parser.error(f"{action} takes {what.get(action, 'nothing more')} after the name")
    if action == "run":
        if not arguments.topology:
            parser.error("run needs --topology FILE")
        given = [key for key in ("load", "run", "splice") if getattr(arguments, key)]
        if len(given) != 1:
            parser.error("run needs one of --load, --run and --splice")
        return
    if strange := next((key for key in _RUN_ONLY if getattr(arguments, key)), ""):
        option = strange.strip("_").replace("_", "-")
        parser.error(f"--{option} is for run, not for {action}")
    if action == "set":
        _check_profile(parser, words[0])
    if action == "migrate" and words[0] not in ("overlay", "peer"):
        parser.error(f'a model is overlay or peer, got "{words[0]}"')


def _check_profile(parser: Parser, text: str) -> None:
    from powertcp.errors import LocalProtocolError
    from powertcp.profile import PowerProfile, ProfileType

    try:
        PowerProfile.parse(text, ProfileType.REQUEST)
    except (ValueError, LocalProtocolError) as error:
        parser.error(str(error))
