"""`powertcp mplamps`: lamps switched by labels that are volts (RFC 3251)."""

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp mplamps topology generate street:3 --pdp > street.toml
  powertcp mplamps topology check street.toml
  powertcp mplamps topology show tree:1,1,1,1,1
  powertcp mplamps sim tree:1,1,1,1,1
  powertcp mplamps storm --style ff
  powertcp mplamps pdp --topology street.toml --market market.toml

VERB is topology, sim, storm, trace, pdp, lsr or lamp. A verb has options of its own: powertcp mplamps sim --help lists them.

A TOPOLOGY is a file, or the words of a generator: tree:A,B,..,Z (fan-outs, the last one of lamps in a
house), street:N, ring:N, ladder:N.

exit status: 0 done, 1 the answer is no, 2 usage, or a topology that is none"""

# a verb is a row here, a case in `main` and a module of its own
VERBS = {
    "topology": "make, check and show networks of lamps",
    "sim": "simulate a network, message by message",
    "storm": "switch on all lamps of a city at dusk",
    "trace": "the messages of a capture, and why lamps are dark",
    "pdp": "decide on circuits, price and bill their energy",
    "lsr": "run sources and load-switching routers",
    "lamp": "run a lamp, or tell one that runs what to do",
}


def build_parser() -> Parser:
    """Return the parser of `powertcp mplamps`."""
    purpose = "Mostly Pointless Lamp Switching: networks whose labels are volts."
    parser = Parser("mplamps", purpose, EXAMPLE, "VERB [WORD]...")
    parser.add_argument("verb", metavar="VERB", choices=tuple(VERBS), help="what to do")
    parser.add_argument("words", metavar="WORD", nargs="*", help="as the VERB has it")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp mplamps`; returns the exit status."""
    verb = argv[0] if argv else ""
    if verb not in VERBS:
        parser = build_parser()
        words = parser.parse_action(argv, VERBS)
        parser.error(f"{words.verb} comes first: powertcp mplamps {words.verb} [WORD]...")
    match verb:
        case "topology":
            from powertcp.cli.mplamps_topology import main as topology

            return topology(argv[1:])
        case "trace":
            from powertcp.cli.mplamps_trace import main as trace

            return trace(argv[1:])
        case "pdp":
            from powertcp.cli.mplamps_pdp import main as police

            return police(argv[1:])
        case "lsr":
            from powertcp.cli.mplamps_lsr import main as switch_loads

            return switch_loads(argv[1:])
        case "lamp":
            from powertcp.cli.mplamps_lamp import main as light

            return light(argv[1:])
        case _:
            from powertcp.cli.mplamps_sim import main as simulate

            return simulate(verb, argv[1:])
