"""`powertcp realm`: the file by which providers of one operator go on with each other's contracts."""

import json
import os
from pathlib import Path

from powertcp.cli.parser import Parser

EXAMPLE = """examples:
  powertcp realm new hall.realm --name hall 10.0.0.1 10.0.0.2
  powertcp realm show hall.realm
  powertcp provider --supply 12V/5A --realm hall.realm --member 10.0.0.1

ACTION is new or show. `new` writes the file with a new secret; each provider gets a copy of it, for
its owner alone (mode 0600). A MEMBER is HOST[:PORT] where a provider hears of the others (3252): an
address of a network that guests do not reach.

Who has the file can sign receipts and take over contracts of the realm. All providers of a realm
have one id, and one meter key; with --seal they need one --key, too.

exit status: 0 done, 2 usage or configuration"""

ACTIONS = ("new", "show")


def build_parser() -> Parser:
    """Return the parser of `powertcp realm`."""
    purpose = "Make and show the file of a realm: providers that share their contracts."
    parser = Parser("realm", purpose, EXAMPLE, "ACTION FILE [MEMBER]...")
    add = parser.add_argument
    add("action", metavar="ACTION", choices=ACTIONS, help="what to do")
    add("file", metavar="FILE", help="of the realm")
    add("members", metavar="MEMBER", nargs="*", help="new: where each provider hears of the others")
    add("--name", help="new: what people call it (the name of FILE)")
    add("--json", action="store_true", help="one JSON object")
    return parser


def main(argv: list[str]) -> int:
    """Run `powertcp realm`; returns the exit status."""
    parser = build_parser()
    words = parser.parse_action(argv, ACTIONS)
    # keys come with it: help and wrong words do without
    from powertcp.crypto import KEY_OCTETS
    from powertcp.dpdp.advert import provider_id
    from powertcp.drivers.dial import format_address
    from powertcp.drivers.realm_file import (
        MAX_MEMBERS,
        MAX_NAME,
        MIN_MEMBERS,
        Realm,
        parse_members,
        read_realm,
        write_realm,
    )

    if words.action == "new":
        if not MIN_MEMBERS <= len(words.members) <= MAX_MEMBERS:
            parser.error(
                f"a realm has {MIN_MEMBERS}..{MAX_MEMBERS} members, got {len(words.members)}"
            )
        members = parse_members(words.members)
        path = Path(words.file)
        name = words.name or path.stem
        if len(name) > MAX_NAME:
            parser.error(f"a name has 1..{MAX_NAME} signs, got {len(name)}")
        write_realm(path, Realm(name, os.urandom(KEY_OCTETS), members))
    elif words.members or words.name:
        parser.error("show takes a FILE and nothing else")
    realm = read_realm(words.file)
    facts = {
        "name": realm.name,
        "id": provider_id(realm.meter.public).hex(),
        "members": [format_address(*each) for each in realm.members],
    }
    if words.json:
        print(json.dumps(facts))
    else:
        print(f"realm {realm.name}, id {facts['id']}")
        for number, each in enumerate(realm.members, 1):
            print(f"  member {number}: {format_address(*each)}")
    return 0
