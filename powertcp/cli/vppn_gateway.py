"""`powertcp vppn gateway`: the employer's power for devices anywhere, from providers inside."""

from powertcp.cli.daemon_options import add_access, add_listening, add_running
from powertcp.cli.parser import Parser
from powertcp.cli.sealing import add_daemon

EXAMPLE = """example:
  powertcp vppn gateway --listen [::]:3251 --authorized authorized_watts --upstream 10.0.0.5

A device draws through it with `powertcp consumer --vppn HOST --peer KEY`; KEY is what
`powertcp vppn show` prints here. What an employee had stands on the account employee:NAME of the
ledger.

signals: TERM, INT drain (a second one resets), HUP reads the files again, USR1 logs a status.
exit status: 0 done, 2 usage or configuration, 70 a bug"""


def build_parser() -> Parser:
    """Return the parser of `powertcp vppn gateway`."""
    purpose = "Give devices anywhere, behind a seal, the power of providers inside."
    parser = Parser("vppn gateway", purpose, EXAMPLE)
    add = parser.add_argument
    add_listening(parser)
    add("--upstream", action="append", metavar="HOST[:PORT]", help="a provider, the first first")
    add("--upstream-peer", metavar="KEY", help="seal towards providers: their x25519:... (clear)")
    add(
        "--via",
        action="append",
        metavar="NAME=HOST[:PORT]",
        help="a provider that devices may name",
    )
    add_access(parser)
    add_daemon(parser)
    add_running(parser, "gateway")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp vppn gateway`; returns the exit status."""
    arguments = vars(build_parser().parse_args(argv))
    # the event loop and keys come with it: help and wrong words do without
    from powertcp.cli.vppn_gateway_daemon import relay_power

    return relay_power(arguments)
