"""Why a flow was refused, shed or tripped: asked of the daemons that decided or were told."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from powertcp.cli.status import found_lines
from powertcp.drivers.control import Fields, ask, find_sockets
from powertcp.drivers.daemon import state_folder
from powertcp.errors import HostError
from powertcp.units import NS_PER_S

DONE = 0
NO = 1
NO_ANSWER = 3
ALL = "flows"
FLOW = re.compile(r".+:\d+/\d+")  # HOST:PORT/FLOW, as status and the log write it


def is_flow(what: str) -> bool:
    """Say whether `what` names a flow, or all of them."""
    return what == ALL or FLOW.fullmatch(what) is not None


def explain_flow(what: str, control: str, *, as_json: bool) -> int:
    """Print what the running daemons know of a flow, the last decision first; an exit status."""
    answered, found = False, 0
    for role, rows in _answers("" if what == ALL else what, control):
        answered = True
        found += len(rows)
        for row in rows:
            print(json.dumps({"role": role, **row}) if as_json else "\n".join(lines(role, row)))
    if not answered:
        print("powertcp explain: no running daemon answers", file=sys.stderr)
        return NO_ANSWER
    if not found and not as_json:
        word = "nothing was refused, shed or tripped" if what == ALL else f"nothing of flow {what}"
        print(f"powertcp explain: the running daemons know {word}", file=sys.stderr)
    return DONE if found or what == ALL else NO


def _answers(what: str, control: str) -> Iterator[tuple[str, list[Fields]]]:
    state = state_folder(os.environ, "provider")
    for path in [Path(control)] if control else find_sockets(os.environ, state):
        try:
            greeting, answer = ask(path, {"op": "explain", "what": what})
        except (OSError, HostError):
            continue
        ok = answer.get("ok")
        rows = ok.get("explanations") if isinstance(ok, dict) else []
        known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        yield str(greeting.get("role")), known


def lines(role: str, row: Mapping[str, object]) -> list[str]:
    """Return the text of one decision: what, when, why, and the powers before and after."""
    if role == "firewall":
        from powertcp.cli.firewall_text import explained

        return explained(row)
    ago_ns = row.get("ago_ns")
    ago = f"{ago_ns // NS_PER_S:,} s ago " if isinstance(ago_ns, int) else ""
    state = f", {row['state']}" if row.get("state") else ""
    powers = [
        f"{word} {row[key]}"
        for word, key in (("asked", "wanted"), ("given", "given"))
        if row.get(key)
    ]
    said = [f"flow {row['flow']}: {row['what']} {ago}({role}{state})"]
    said.append(f"  {row['sentence']}")
    said += found_lines(dict(row))
    rule = str(row.get("rule") or "")
    if row.get("identity"):
        by = f" by {rule}" if rule and rule not in str(row["sentence"]) else ""
        said.append(f"  identity {row['identity']}{by}")
    if powers:
        said.append("  " + ", ".join(powers))
    return said
