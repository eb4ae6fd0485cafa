"""`powertcp provider`: offer power; a breaker that admits, meters and sheds."""

from powertcp.cli.daemon_options import add_access, add_listening, add_running
from powertcp.cli.hotspot import add_hotspot
from powertcp.cli.parser import Parser
from powertcp.cli.sealing import add_provider

EXAMPLE = """example:
  powertcp provider --supply 12V/5A --supply 230V/16A@50Hz --rating 3.6kW --listen [::]:3251

signals: TERM, INT drain (a second one resets), HUP reads the files again, USR1 logs a status.
exit status: 0 done, 2 usage or configuration, 3 no running provider, 70 a bug"""


def build_parser() -> Parser:
    """Return the parser of `powertcp provider`."""
    parser = Parser("provider", "Offer power: a breaker that admits, meters and sheds.", EXAMPLE)
    add = parser.add_argument
    add("--supply", action="append", metavar="PROFILE", help="a voltage to offer, repeatable")
    add_listening(parser)
    add("--rating", metavar="POWER", help="of all supplies together (their sum)")
    add(
        "--source",
        metavar="KIND[:ARGS]",
        help="mains, or with faults: mains:sag=70%%@10s/500ms (mains)",
    )
    add("--name", help="what people see (HOST power)")
    add(
        "--no-mdns", dest="mdns", action="store_false", default=None,
        help="announce nothing on the link",
    )  # fmt: skip
    add("--ramp", metavar="POWER", help="connect at most so much in a second (at once)")
    add("--per-peer", metavar="POWER", help="most for one address or IPv6 /64 (no limit)")
    add("--best-priority", type=int, metavar="N", help="best class anyone may have (1)")
    add_access(parser, " (anybody)")
    add(
        "--over-limit", choices=("refuse", "offer"),
        help="of a request above a limit: refuse it, or offer less (refuse)",
    )  # fmt: skip
    add_provider(parser)
    add_hotspot(parser)
    add("--lease", metavar="TIME", help="of a grant whose request states none (60s)")
    add("--grace", metavar="TIME", help="hold power after a lost path (10s)")
    add("--seed", type=int, metavar="N", help="of what is spread at random (0)")
    add("--feed", metavar="PROFILE", help="broadcast this power, by multicast and to subscribers")
    add("--feed-to", action="append", metavar="GROUP", help="GROUP[:PORT], repeatable (IPv4, IPv6)")
    add("--feed-interface", metavar="IF", help="multicast leaves by it (as routes say)")
    add("--ttl", type=int, metavar="N", help="routers that multicast may pass, 1..255 (1: none)")
    add("--tariff", metavar="FILE", help="prices that receipts are billed at (none)")
    add(
        "--require-receipts", action="store_true", default=None,
        help="power only who countersigns receipts",
    )  # fmt: skip
    add("--quota", metavar="ENERGY", help="most for one address or IPv6 /64 in all (no limit)")
    add(
        "--no-ledger", dest="ledger", action="store_false", default=None,
        help="write nothing down, sign no receipts",
    )  # fmt: skip
    add("--realm", metavar="FILE", help="providers whose contracts go on with each other (none)")
    add("--member", metavar="ADDR", help="which one of --realm this is: where others tell it")
    add("--drain", action="store_true", help="tell a running provider to drain")
    add_running(parser, "provider")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp provider`; returns the exit status."""
    arguments = vars(build_parser().parse_args(argv))
    # the event loop, arrays and keys come with it: help and wrong words do without
    from powertcp.cli.provider_daemon import provide

    return provide(arguments)
