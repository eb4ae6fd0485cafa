"""`powertcp mplamps trace`: the messages of a capture or a trace, and why lamps are dark."""

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp mplamps sim street:3 --capture street.pcapng
  powertcp mplamps trace street.pcapng                    every message, a line each
  powertcp mplamps trace street.pcapng --lamp lamp-2      what was said about one lamp
  powertcp mplamps trace street.pcapng --why              for each dark lamp: which node, which numbers

FILE is a capture (pcapng, as --capture of sim and lsr writes it), or a trace, JSON lines. Messages of RSVP
and COPS are shown, labelled packets counted.

Times are ms since the first message. Nodes have the names of the links of a capture; what these do not
tell, and the voltages of links, a TOPOLOGY knows, a file or the words of a generator.

exit status: 0 done, 1 a lamp is dark (--why) or nothing is said about it (--lamp), 2 usage, or FILE is neither"""


def build_parser() -> Parser:
    """Return the parser of `powertcp mplamps trace`."""
    purpose = "Show what lamps, routers, sources and policemen said, and why lamps are dark."
    parser = Parser("mplamps trace", purpose, EXAMPLE, "FILE")
    add = parser.add_argument
    add("file", metavar="FILE", help="a capture or a trace")
    add("--lamp", metavar="NAME", help="only this lamp, by its name or address (all)")
    add("--why", action="store_true", help="why each dark lamp is dark, instead of the messages")
    add("--all", action="store_true", help="Hello, Srefresh and Ack too; --json has them anyway")
    add("--topology", metavar="TOPOLOGY", help="names of nodes, voltages of links (those in FILE)")
    add("--json", action="store_true", help="one JSON object per line")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp mplamps trace`; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    # the codecs come with it: help and wrong words do without
    from powertcp.cli import lamp_trace

    topology = lamp_trace.find_topology(arguments)
    if arguments.why:
        return lamp_trace.explain(arguments, topology)
    return lamp_trace.show(arguments, topology)
