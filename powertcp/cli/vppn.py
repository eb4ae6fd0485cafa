"""`powertcp vppn`: identities, and the texts that say who may draw what."""

from argparse import Namespace
from typing import NamedTuple

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp vppn keygen                              the identity of this user
  powertcp vppn show --qr                           its public half, and those of its meters
  powertcp vppn keygen --ca --out ca.key            the key of an employer
  powertcp vppn sign --ca ca.key --subject x25519:BASE64 --name alice@lamp \\
    --groups staff --limits "max-power=65W voltage=5V-20V" > alice.cert
  powertcp vppn revoke --ca ca.key --krl staff.krl 4711
  powertcp vppn codes --ca ca.key --codes guests.codes --name guest --count 20
  powertcp vppn redeem --ca ca.key --codes guests.codes --subject x25519:BASE64 < code
  powertcp vppn check authorized_watts alice.cert staff.krl
  powertcp vppn gateway --authorized authorized_watts --upstream 10.0.0.5

ACTION is keygen, show, sign, revoke, codes, redeem, check or gateway. A gateway has options of its own: powertcp
vppn gateway --help lists them.

A code is good for one certificate, within 30 days; its file has hashes only. Who runs the portal of a
hot spot redeems the code that a guest has typed, and gives it the certificate: redeem reads the code from
standard input, without CODE or for -, since others on the host see the words of a command.

A revocation list lasts 24 hours: revoke without SERIAL or KEY signs it anew. Key files are for
their owner alone (mode 0600); wider ones are refused.

exit status: 0 done, 1 a checked file is not valid or a code is not good, 2 usage"""


class _Action(NamedTuple):
    """What an action takes: whether it has words after it, options it needs and may have."""

    operand: str
    needed: tuple[str, ...]
    optional: tuple[str, ...]


ACTIONS = {
    "keygen": _Action("", (), ("out", "json")),
    "show": _Action("", (), ("key", "qr", "json")),
    "sign": _Action("", ("ca", "subject", "name"), ("groups", "limits", "hours", "json")),
    "revoke": _Action("SERIAL or KEY", ("ca", "krl"), ("json",)),
    "codes": _Action("", ("ca", "codes", "name"), ("count", "groups", "limits", "hours", "json")),
    "redeem": _Action("CODE", ("ca", "codes", "subject"), ("json",)),
    "check": _Action("FILE", (), ("json",)),
}
GATEWAY = "gateway"


def build_parser() -> Parser:
    """Return the parser of `powertcp vppn`."""
    purpose = "Make and show identities; sign, revoke and check who may draw what."
    parser = Parser("vppn", purpose, EXAMPLE, "ACTION [WHAT]...")
    add = parser.add_argument
    add("action", metavar="ACTION", choices=(*ACTIONS, GATEWAY), help="what to do")
    add(
        "what",
        metavar="WHAT",
        nargs="*",
        help="check: files; revoke: serials and keys; redeem: code (-, standard input)",
    )
    where = "$XDG_CONFIG_HOME/powertcp/identity"
    add("--out", metavar="FILE", help=f"keygen: the new key file ({where})")
    add("--key", metavar="FILE", help=f"show: this identity ({where})")
    add("--qr", action="store_true", help="show: the identity as a QR code")
    add(
        "--codes",
        metavar="FILE",
        help="codes, redeem: the codes of a hot spot; codes makes it if there is none",
    )
    add("--count", metavar="N", help="codes: so many, 1 to 1000 (1)")
    ca = "sign, revoke, codes, redeem: key file of the employer; keygen: make one (without FILE)"
    add("--ca", metavar="FILE", nargs="?", const="", help=ca)
    add("--subject", metavar="KEY", help="sign, redeem: whom it is for, x25519:BASE64")
    add("--name", metavar="NAME", help="sign, codes: what the books call it; codes adds digits")
    add(
        "--groups",
        metavar="NAME,..",
        help="sign, codes: groups for issuer lines of authorized_watts",
    )
    add(
        "--limits",
        metavar="WORDS",
        help='sign, codes: limits, as in authorized_watts ("max-power=65W")',
    )
    add("--hours", metavar="N", help="sign, codes: valid so long, 1 to 720 h (8 h)")
    add("--krl", metavar="FILE", help="revoke: the revocation list; made if there is none")
    add("--json", action="store_true", help="one JSON object per line")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp vppn`; returns the exit status."""
    if argv[:1] == [GATEWAY]:
        from powertcp.cli.vppn_gateway import main as relay

        return relay(argv[1:])
    parser = build_parser()
    arguments = parser.parse_action(argv, (*ACTIONS, GATEWAY))
    if arguments.action == GATEWAY:
        parser.error("gateway comes first: powertcp vppn gateway [OPTION]...")
    _check(parser, arguments)
    # the keys come with them: help and wrong words do without
    from powertcp.cli import credentials

    match arguments.action:
        case "keygen":
            return credentials.keygen(arguments)
        case "show":
            return credentials.show(arguments)
        case "sign":
            return credentials.sign(arguments)
        case "revoke":
            return credentials.revoke(arguments)
        case "codes" | "redeem":
            from powertcp.cli import vouchers

            made = arguments.action == "codes"
            return vouchers.codes(arguments) if made else vouchers.redeem_code(arguments)
        case _:
            from powertcp.cli.validity import check

            return check(arguments)


def _check(parser: Parser, arguments: Namespace) -> None:
    """Refuse what does not belong to the action."""
    name, action = arguments.action, ACTIONS[arguments.action]
    given = {key for key, value in vars(arguments).items() if value} - {"action", "what"}
    if name == "keygen":
        if arguments.ca:
            parser.error(f'keygen --ca takes no FILE, got "{arguments.ca}": --out names the file')
        if arguments.ca is not None and not arguments.out:
            parser.error("keygen --ca needs --out FILE")
    elif arguments.ca == "":
        parser.error("--ca needs the key file of the employer")
    takes = {*action.needed, *action.optional}
    if strange := sorted(given - takes):
        found = [key for key, it in ACTIONS.items() if strange[0] in (*it.needed, *it.optional)]
        takers = " and ".join(filter(None, (", ".join(found[:-1]), found[-1])))
        parser.error(f"--{strange[0]} is for {takers}, not for {name}")
    if missing := [option for option in action.needed if option not in given]:
        parser.error(f"{name} needs --{missing[0]}")
    if arguments.what and not action.operand:
        parser.error(f'{name} takes no word, got "{arguments.what[0]}"')
    if name == "check" and not arguments.what:
        parser.error("check needs a FILE")
    if name == "redeem" and len(arguments.what) > 1:
        parser.error("redeem takes one CODE, or none for standard input")
