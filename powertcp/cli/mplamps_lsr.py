"""`powertcp mplamps lsr`: live nodes of a network, sources and load-switching routers."""

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp mplamps lsr --topology street.toml --all
  powertcp mplamps lsr --topology street.toml --node s1 --node s2 --capture street.pcapng
  powertcp mplamps lsr --topology grid.toml --node c1 --keys /etc/powertcp/link.keys

Each node has UDP 3455 (RSVP) and UDP 6635 (labelled packets) at its own address; on one host a topology
with --base 127.80.0.0 needs no root. A source with a provider joins lamps with it, any other serves them
itself. Lamps and the policeman are commands of their own.

On an address that others can reach neighbours sign: --keys FILE, mode 0600, a number and a secret in
hexadecimal on each line; messages are sent under the first key and taken under any.

signals: TERM, INT end (sources withdraw, other circuits are re-routed), USR1 logs a status.
exit status: 0 done, 2 usage or configuration, 70 a bug"""


def build_parser() -> Parser:
    """Return the parser of `powertcp mplamps lsr`."""
    parser = Parser("mplamps lsr", "Run sources and load-switching routers on UDP.", EXAMPLE)
    add = parser.add_argument
    add("--topology", metavar="FILE", help="the network: a file, or street:N and the like")
    add("--node", action="append", metavar="NAME", help="run this node, repeatable")
    everything = "run all nodes but lamps and the policeman"
    add("--all", action="store_true", default=None, help=everything)
    add("--keys", metavar="FILE", help="keys of links (none: on the loopback only)")
    add("--capture", metavar="FILE", help="a pcapng of all links of these nodes (none)")
    add("--control", metavar="PATH", help="control socket (lsr-PID.sock)")
    add("--state-dir", metavar="DIR", help="control socket, where there is no runtime folder")
    add("--trace", metavar="DIR", help="a file of events of each node (none)")
    add("--log-format", choices=("text", "json"), help="of the log on stderr (text)")
    add("--config", metavar="FILE", help="TOML file (XDG, then /etc/powertcp/lsr.toml)")
    add("--check", action="store_true", help="read configuration, topology and keys, and exit")
    add("--json", action="store_true", help="one JSON object per line on stdout")
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="say less")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp mplamps lsr`; returns the exit status."""
    arguments = vars(build_parser().parse_args(argv))
    # the event loop comes with it: help and wrong words do without
    from powertcp.cli.lsr_daemon import switch_loads

    return switch_loads(arguments)
