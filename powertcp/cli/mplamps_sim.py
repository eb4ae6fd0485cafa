"""`powertcp mplamps sim` and `storm`: a network of lamps in simulated time."""

from powertcp.cli.parser import Parser

SIM_EXAMPLE = """examples:
  powertcp mplamps sim tree:1,1,1,1,1                  one lamp: every message, the label tables
  powertcp mplamps sim street:3 night.txt --until 90s  what a script says
  powertcp mplamps sim street:3 --power                with Power over TCP in every circuit
  powertcp mplamps sim street:3 --capture dusk.pcapng --json

A TOPOLOGY is a file, or the words of a generator: tree:A,B,..,Z, street:N, ring:N, ladder:N. A SCRIPT is a
file with one act a line, such as
  0s on *                       0s off lamp-1                 2s set lamp-1 230V/1A@50Hz
  3s migrate lamp-1 peer        4s cut s1--c1                 5s mend s1--c1
  6s derate c1--h1 40W          7s crash s1                   8s restart s1
  9s pdp-down                   10s pdp-up                    11s price 7 0.40
in any order; names are patterns, as of files. Without a SCRIPT it is "0s on *".

The nodes are the machines of the live commands, and every message is its octets. Time is simulated from
2002-04-01T00:00:00Z on: the same words give the same trace, capture and label tables. A lamp is
signalled when its circuit is closed, and lit when its first block is verified and banked: for that it takes
--power, else lit and lit_ns are null. first_law_residual_uj is what sources have sent, less what lamps have
verified, less the blocks that were cut off with their circuits.

exit status: 0 done, 1 a lamp that should be lit (without --power: signalled) is not, 2 usage, or a topology or script that is none"""

STORM_EXAMPLE = """examples:
  powertcp mplamps storm                               10,000 lamps of a city at dusk
  powertcp mplamps storm tree:5,5,5,2,5 --style ff --json
  powertcp mplamps storm ring:50 --spread 2s --reliable
  powertcp mplamps storm tree:1,2,10,2,5 --power       all lit, to the microjoule

Every lamp is switched on at once, or with --spread around three spreads after dusk; the storm ends as soon
as no lamp waits for an answer, with --power not before each was lit once, or has had a circuit without a
block for 5 s. The TOPOLOGY is by default tree:10,10,10,2,5. Messages are not numbered, so that PATHs and
RESVs are twice the sum of the depths of all lamps; --reliable shows what numbers, acknowledgements and
retransmissions add. With --power 10,000 lamps take ten minutes and 1 GB; a terminal shows how far it is.

exit status: 0 done, 1 a lamp that should be lit (without --power: signalled) is not, 2 usage, or a topology that is none"""


def build_parser(verb: str) -> Parser:
    """Return the parser of `powertcp mplamps sim` or `storm`."""
    if verb == "storm":
        purpose = "Switch on all lamps of a city at dusk, in simulated time."
        parser = Parser("mplamps storm", purpose, STORM_EXAMPLE, "[TOPOLOGY]")
        parser.add_argument("topology", metavar="TOPOLOGY", nargs="?", help="a file or a generator")
        parser.add_argument(
            "--spread", metavar="TIME", default="0s",
            help="standard deviation of when lamps are switched on (0s)",
        )  # fmt: skip
        reliable = "number messages, acknowledge them and send them again"
        parser.add_argument("--reliable", action="store_true", help=reliable)
    else:
        purpose = (
            "Simulate a network of lamps: signalling, labels, policemen, and with --power energy."
        )
        parser = Parser("mplamps sim", purpose, SIM_EXAMPLE, "TOPOLOGY [SCRIPT]")
        parser.add_argument("topology", metavar="TOPOLOGY", help="a file or a generator")
        parser.add_argument(
            "script", metavar="SCRIPT", nargs="?", help='acts, one a line ("0s on *")'
        )
    _add_options(parser, "60s" if verb == "sim" else "until no lamp waits")
    return parser


def _add_options(parser: Parser, until: str) -> None:
    add = parser.add_argument
    add("--until", metavar="TIME", help=f"how long, in simulated time ({until})")
    add("--seed", metavar="N", type=int, default=1, help="of the dice: another night (1)")
    add("--model", choices=("overlay", "peer"), default="overlay",
        help="who finds the way: the edge LSR, overlay (the default), or the lamp, peer")  # fmt: skip
    add("--style", choices=("se", "ff", "wf"), default="se",
        help="what circuits share: one session, se (the default), nothing, ff, or all, wf")  # fmt: skip
    add("--kirchhoff", choices=("sum", "max"), default="sum",
        help="what a shared link holds with wf: the sum (the default), or as RFC 2205 the max")  # fmt: skip
    add("--metric", choices=("igp", "tariff"), default="igp",
        help="paths of least metrics, igp (the default), or of least fees, tariff")  # fmt: skip
    add("--power", action="store_true", help="send power over TCP in every circuit")
    add("--market", metavar="FILE", help="suppliers, tariffs and customers: needs a pdp")
    add("--refresh", metavar="TIME", default="30s", help="period of soft state (30s)")
    add("--hello", action="store_true", help="send HELLO each 300 ms")
    add("--service", metavar="TIME", default="500us",
        help="how long a message occupies a node (500us)")  # fmt: skip
    add("--suppress-sanity", action="store_true", help="no warnings about the topology")
    add("--capture", metavar="FILE", help="write all packets, pcapng")
    add("--trace", metavar="FILE", help="write all events, JSON-SEQ")
    add("--json", action="store_true", help="one JSON object")


def main(verb: str, argv: list[str]) -> int:
    """Run `powertcp mplamps sim` or `storm`; returns the exit status."""
    arguments = build_parser(verb).parse_intermixed_args(argv)
    from powertcp.cli import lamp_simulation

    return lamp_simulation.run(verb, arguments)
