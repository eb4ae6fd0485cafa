"""`powertcp firewall run`: power passes by a policy, and what attacks it fills a reservoir."""

from powertcp.cli.daemon_options import add_running
from powertcp.cli.parser import Parser

EXAMPLE = """example:
  powertcp firewall run attic.policy
  powertcp consumer --connect 10.0.0.5 --via 127.0.0.1 --request 12V/1.5A --load lamp

explicit: consumers connect here with --via and name their provider. redirect, tproxy: nftables
diverts connections here, see powertcp firewall nft. What comes in, goes out and is lost stands in
the ledger: intercepted:, reservoir:, heat:.

signals: TERM, INT drain (a second one resets), HUP reads policy and scripts again, USR1 logs a
status.
exit status: 0 done, 2 usage, configuration or a policy that does not load, 70 a bug"""


def build_parser() -> Parser:
    """Return the parser of `powertcp firewall run`."""
    purpose = "Let power pass by a policy, and keep what attacks."
    parser = Parser("firewall run", purpose, EXAMPLE, "POLICY")
    add = parser.add_argument
    add("policy", metavar="POLICY", nargs="?", help="the file of the policy")
    add(
        "--mode", choices=("explicit", "redirect", "tproxy"), help="how connections come (explicit)"
    )
    add("--listen", action="append", metavar="ADDR", help="HOST:PORT, repeatable (127.0.0.1:3261)")
    add("--upstream", metavar="HOST[:PORT]", help="explicit: for who names no provider (none)")
    add("--other", choices=("close", "pass"), help="connections that are no power (close)")
    add("--rating", metavar="W", help="of the feeder, for rules on load (none)")
    add("--name", metavar="NAME", help="of this node in accounts (host name)")
    add("--script", action="append", metavar="FILE", help="Python hooks, repeatable (none)")
    add("--live", action="store_true", default=None, help="show powers each second (in a terminal)")
    add("--no-live", dest="live", action="store_false", help="show nothing but the log")
    add("--no-mdns", dest="mdns", action="store_false", default=None, help="announce no lender")
    add("--script-limit", metavar="TIME", help="for a hook to answer in, to 1s (50ms)")
    add("--lab", action="store_true", default=None, help="a reservoir may have no losses")
    add("--connections", type=int, metavar="N", help="of one address or IPv6 /64 (64)")
    add_running(parser, "firewall")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp firewall run`; returns the exit status."""
    arguments = vars(build_parser().parse_args(argv))
    # the event loop comes with it: help and wrong words do without
    from powertcp.cli.firewall_daemon import filter_power

    return filter_power(arguments)
