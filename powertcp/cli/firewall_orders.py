"""`powertcp firewall load`, `list`, `trace` and `explain`: asked of the running firewall."""

import argparse
import json
import os
import socket
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from powertcp.cli.parser import Parser
from powertcp.errors import ConfigError, HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from powertcp.drivers.control import Fields

DONE = 0
NO = 1
USAGE = 2
NO_ANSWER = 3
ROLE = "firewall"
# rows of rules in one answer
ROWS = 150
EXAMPLES = {
    "load": """example:
  powertcp firewall load attic.policy

The whole of it is valid and in force at once, or the old one stays and each fault is told with line
and column. Without POLICY the file of before is read again.

exit status: 0 loaded, 2 usage or a policy that does not load, 3 no firewall answers""",
    "list": """example:
  powertcp firewall list

exit status: 0 done, 2 usage, 3 no firewall answers""",
    "trace": """example:
  powertcp firewall trace --peer 192.0.2.66

exit status: 0 done, 2 usage, 3 no firewall answers, or it ended""",
    "explain": """example:
  powertcp firewall explain 192.0.2.66:41772/1

exit status: 0 explained, 1 nothing is known of that flow, 2 usage, 3 no firewall answers""",
}
PURPOSES = {
    "load": "Let the running firewall go by a policy.",
    "list": "Show rules with hits and joules, reservoirs and flows of the running firewall.",
    "trace": "Show each evaluation of the policy, rule by rule.",
    "explain": "Say why a flow has what it has: the rule, its values, where the joules went.",
}


def build_parser(action: str) -> Parser:
    """Return the parser of `powertcp firewall ACTION`."""
    operand = {"load": "[POLICY]", "explain": "[FLOW]"}.get(action, "")
    parser = Parser(f"firewall {action}", PURPOSES[action], EXAMPLES[action], operand)
    add = parser.add_argument
    if action == "load":
        add("what", metavar="POLICY", nargs="?", default="", help="the file (the one of before)")
    if action == "explain":
        add("what", metavar="FLOW", nargs="?", default="", help="HOST:PORT/FLOW (the last ones)")
    if action == "trace":
        add("--peer", default="", metavar="ADDRESS", help="what it has to do with (everything)")
    if action == "list":
        add("--reset", action="store_true", help="count hits and joules of rules from 0 again")
    add("--control", default="", metavar="PATH", help="ask this socket (each firewall that runs)")
    add("--json", action="store_true", help="one JSON object per line")
    return parser


def main(action: str, argv: list[str]) -> int:
    """Run `powertcp firewall ACTION`; returns the exit status."""
    asked = build_parser(action).parse_args(argv)
    match action:
        case "load":
            return load(asked)
        case "list":
            return list_all(asked)
        case "trace":
            return trace(asked)
        case _:
            return explain(asked)


def _sockets(control: str) -> list[Path]:
    """Return the sockets of the firewalls of this user, or the one that is named."""
    from powertcp.drivers.control import find_sockets
    from powertcp.drivers.daemon import state_folder

    if control:
        return [Path(control)]
    found = find_sockets(os.environ, state_folder(os.environ, ROLE))
    return [path for path in found if path.name.startswith(f"{ROLE}-")]


def _answers(control: str, request: "Mapping[str, object]") -> "Iterator[tuple[Path, Fields]]":
    """Yield what each firewall answers."""
    from powertcp.drivers.control import ask

    for path in _sockets(control):
        try:
            greeting, answer = ask(path, request)
        except (OSError, HostError):
            continue
        if greeting.get("role") == ROLE:
            yield path, answer


def _nobody(action: str) -> int:
    print(f"powertcp firewall {action}: no running firewall answers", file=sys.stderr)
    return NO_ANSWER


def _refused(action: str, answer: "Fields") -> int:
    refusal = answer.get("refusal")
    said = refusal.get("sentence") if isinstance(refusal, dict) else answer
    print(f"powertcp firewall {action}: {said}", file=sys.stderr)
    return NO


# ---- load ---------------------------------------------------------------------------------------


def load(asked: argparse.Namespace) -> int:
    """Let each running firewall go by a policy; returns the exit status."""
    # it stands elsewhere, perhaps
    name = str(Path(asked.what).absolute()) if asked.what else ""
    request = {"op": "load", "policy": name}
    status = NO_ANSWER
    for _, answer in _answers(asked.control, request):
        found = answer.get("ok")
        if not isinstance(found, dict):
            return _refused("load", answer)
        status = max(DONE if status == NO_ANSWER else status, DONE if found["loaded"] else USAGE)
        if asked.json:
            print(json.dumps(found))
        else:
            _say_loaded(found)
    return _nobody("load") if status == NO_ANSWER else status


def _say_loaded(found: "Fields") -> None:
    if found["loaded"]:
        print(f"{found['file']}: in force, {found['rules']} rules, otherwise {found['otherwise']}")
        return
    faults = found.get("faults")
    for fault in faults if isinstance(faults, list) else []:
        place = f"{found['file']}:{fault['line']}:{fault['column']}"
        print(f"INVALID  {place}: {fault['text']}", file=sys.stderr)
    if error := found.get("error"):
        print(f"powertcp firewall load: {error}", file=sys.stderr)
    print("powertcp firewall load: the policy of before stays in force", file=sys.stderr)


# ---- list ---------------------------------------------------------------------------------------


def list_all(asked: argparse.Namespace) -> int:
    """Show what each running firewall goes by and holds; returns the exit status."""
    from powertcp.cli.firewall_text import listed

    seen = False
    for path, answer in _answers(asked.control, {"op": "list"}):
        found = answer.get("ok")
        if not isinstance(found, dict):
            return _refused("list", answer)
        seen = True
        _complete(path, found)
        print(json.dumps(found) if asked.json else "\n".join(listed(found)))
        if asked.reset:
            list(_answers(str(path), {"op": "reset"}))
    return DONE if seen else _nobody("list")


def _complete(path: Path, found: "Fields") -> None:
    """Add the rules that did not fit into the first answer."""
    rules = found["rules"]
    while isinstance(rules, list) and len(rules) < int(str(found["rule_count"])):
        answers = list(_answers(str(path), {"op": "list", "from": len(rules)}))
        more = answers[0][1].get("ok") if answers else None
        rows = more.get("rules") if isinstance(more, dict) else None
        if not isinstance(rows, list) or not rows:
            return
        rules += rows


# ---- explain ------------------------------------------------------------------------------------


def explain(asked: argparse.Namespace) -> int:
    """Say why a flow has what it has; returns the exit status."""
    from powertcp.cli.firewall_text import explained

    seen, rows = False, []
    for _, answer in _answers(asked.control, {"op": "explain", "what": asked.what}):
        seen = True
        found = answer.get("ok")
        told = found.get("explanations") if isinstance(found, dict) else None
        rows += told if isinstance(told, list) else []
    if not seen:
        return _nobody("explain")
    for row in rows:
        print(json.dumps(row) if asked.json else "\n".join(explained(row)))
    if not rows and not asked.json:
        said = f"nothing of flow {asked.what}" if asked.what else "of no flow that was refused"
        print(f"powertcp firewall explain: the running firewall knows {said}", file=sys.stderr)
    return DONE if rows or not asked.what else NO


# ---- trace --------------------------------------------------------------------------------------


def trace(asked: argparse.Namespace) -> int:
    """Show evaluations as they happen, until interrupted; returns the exit status."""
    from powertcp.cli.firewall_text import traced

    try:
        # an IPv6 prefix is what the ledger calls who has it
        read = ip_network if "/" in asked.peer else ip_address
        peer = str(read(asked.peer)) if asked.peer else ""
    except ValueError as error:
        raise ConfigError("command line", "--peer", str(error)) from error
    for path in _sockets(asked.control):
        try:
            lines = _follow(path, {"id": 1, "op": "subscribe", "channel": "trace", "peer": peer})
            for line in lines:
                print(json.dumps(line) if asked.json else "\n".join(traced(line)), flush=True)
        except OSError:
            continue
        except KeyboardInterrupt:
            return DONE
        print("powertcp firewall trace: the firewall has ended", file=sys.stderr)
        return NO_ANSWER
    return _nobody("trace")


def _follow(path: Path, request: "Mapping[str, object]") -> "Iterator[Fields]":
    """Yield the lines of a channel. Raises OSError when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.connect(str(path))
        end.sendall(json.dumps(request).encode() + b"\n")
        with end.makefile("rb") as lines:
            for octets in lines:
                line = json.loads(octets)
                if "t" in line:
                    yield line
                elif "ok" in line:
                    print(f"powertcp firewall trace: watching {path.name}", file=sys.stderr)
