"""`powertcp vppn gateway`: the employer's power for devices anywhere, from providers inside."""

from powertcp.cli.parser import Parser

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
    add("--listen", action="append", metavar="ADDR", help="HOST:PORT, repeatable ([::]:3251)")
    add("--upstream", action="append", metavar="HOST[:PORT]", help="a provider, the first first")
    add("--upstream-peer", metavar="KEY", help="seal towards providers: their x25519:... (clear)")
    add(
        "--via",
        action="append",
        metavar="NAME=HOST[:PORT]",
        help="a provider that devices may name",
    )
    add("--key", metavar="FILE", help="our identity, of powertcp vppn keygen (XDG: identity)")
    add("--authorized", metavar="FILE", help="authorized_watts: who may draw what")
    add("--krl", action="append", metavar="FILE", help="revocation list, repeatable (none)")
    add(
        "--krl-fail", choices=("closed", "open"),
        help="certificates without a fresh list: refused, or not (closed)",
    )  # fmt: skip
    add("--connections", type=int, metavar="N", help="of one address or IPv6 /64 (64)")
    add(
        "--allow-classic", action="store_true", default=None,
        help="handshakes without ML-KEM too, where both sides do",
    )  # fmt: skip
    add(
        "--stealth", action="store_true", default=None,
        help="no answer at all to whoever does not know our key",
    )  # fmt: skip
    add(
        "--privacy", choices=("police", "private"),
        help="police: length and ESN tell who listens what appliance runs; private: padded (police)",
    )  # fmt: skip
    add("--keylog", metavar="FILE", help="write every key: who has it reads all power (off)")
    add("--control", metavar="PATH", help="control socket (gateway-PID.sock)")
    add("--state-dir", metavar="DIR", help="ledger, meter key, control socket")
    add("--log-format", choices=("text", "json"), help="of the log on stderr (text)")
    add("--config", metavar="FILE", help="TOML file (XDG, then /etc/powertcp/gateway.toml)")
    add("--check", action="store_true", help="decode the configuration and exit")
    add("--json", action="store_true", help="one JSON object per line on stdout")
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="say less")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp vppn gateway`; returns the exit status."""
    arguments = vars(build_parser().parse_args(argv))
    # the event loop and keys come with it: help and wrong words do without
    from powertcp.cli.vppn_gateway_daemon import relay_power

    return relay_power(arguments)
