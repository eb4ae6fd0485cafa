"""A service file of avahi for a running provider, where a second responder is forbidden (static)."""

import os
import sys
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from powertcp.dpdp.txt import split_txt
from powertcp.errors import DecodeError

DONE = 0
NO_ANSWER = 3
# of one moment: another program does not renew them
_LEFT_OUT = frozenset(("exp", "sig"))


def print_service() -> int:
    """Print the file for the first provider of this user that answers; returns the exit status."""
    from powertcp.drivers.control import ask, find_sockets
    from powertcp.drivers.daemon import state_folder

    for path in find_sockets(os.environ, state_folder(os.environ, "provider")):
        if not path.name.startswith("provider"):
            continue
        try:
            _, answer = ask(path, {"op": "status"})
        except OSError:
            continue
        status = answer.get("ok")
        adverts = status.get("adverts") if isinstance(status, Mapping) else None
        if isinstance(adverts, list) and adverts:
            print("\n".join(service_file([each for each in adverts if isinstance(each, Mapping)])))
            return DONE
    print("powertcp discover: no running provider has something to announce", file=sys.stderr)
    return NO_ANSWER


def service_file(adverts: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the lines for adverts as `status` tells them: name, kind, port, txt in hex."""
    lines = [
        '<?xml version="1.0" standalone="no"?>',
        '<!DOCTYPE service-group SYSTEM "avahi-service.dtd">',
        "<service-group>",
        f"  <name>{_text(adverts[0]['name'])}</name>",
    ]
    for each in adverts:
        kind = str(each["kind"]).removesuffix(".local.")
        lines += [
            "  <service>",
            f"    <type>{_text(kind)}</type>",
            f"    <port>{each['port']}</port>",
        ]
        lines += [
            f"    <txt-record>{_text(pair)}</txt-record>" for pair in _pairs(str(each["txt"]))
        ]
        lines.append("  </service>")
    return [*lines, "</service-group>"]


def _pairs(txt: str) -> list[str]:
    try:
        pairs = split_txt(bytes.fromhex(txt))
    except (DecodeError, ValueError):
        return []
    return [
        key if value is None else f"{key}={value.decode('utf-8', 'replace')}"
        for key, value in pairs
        if key not in _LEFT_OUT
    ]


def _text(value: object) -> str:
    return escape(str(value))
