"""Orders for a lamp that runs, by its control socket."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from powertcp.drivers.control import Fields, ask, find_sockets
from powertcp.drivers.daemon import state_folder
from powertcp.errors import HostError

DONE = 0
NO = 1
NO_ANSWER = 3
# a lamp answers once the network and the provider have, or have not for their time
WAIT_S = 20.0
_SPANS = ("lit", "signalled")


def order_lamp(arguments: Namespace) -> int:
    """Tell the running lamp of this name what to do; returns the exit status."""
    request: Fields = {"op": arguments.action}
    if arguments.words:
        request["what"] = arguments.words[0]
    found = next(_answers(arguments.name, request, arguments.control or ""), None)
    if found is None:
        print(f"powertcp mplamps lamp: no lamp {arguments.name} runs", file=sys.stderr)
        return NO_ANSWER
    refusal = found.get("refusal")
    if isinstance(refusal, dict):
        print(f"powertcp mplamps lamp: {refusal.get('sentence')}", file=sys.stderr)
        return NO
    answer = found.get("ok")
    if not isinstance(answer, dict):
        return NO_ANSWER
    if arguments.json:
        print(json.dumps({"lamp": arguments.name, **answer}))
    else:
        for line in lamp_lines(arguments.name, answer):
            print(line)
    return DONE


def _answers(name: str, request: Fields, control: str) -> Iterator[Fields]:
    """Yield what running lamps of this name answer; each is asked for its name before an order."""
    state = state_folder(os.environ, "lamp")
    for path in [Path(control)] if control else find_sockets(os.environ, state):
        try:
            greeting, _ = ask(path, {"op": "status"})
            if (greeting.get("role"), greeting.get("name")) == ("lamp", name):
                yield ask(path, request, WAIT_S)[1]
        except (OSError, HostError):
            continue


def lamp_lines(name: str, answer: Fields) -> list[str]:
    """Return the text of an answer: the state of the lamp, and a line for each tunnel."""
    text = [f"{name}: {answer.get('state')}"]
    rows = answer.get("tunnels")
    for row in rows if isinstance(rows, list) else []:
        after = next(
            (f", {key} after {took / 1000:.1f} ms" for key in _SPANS if (took := row[f"{key}_us"])),
            "",
        )
        text.append(
            f"  tunnel {row['tunnel']}: {row['state']}, {row['grant'] or 'nothing'} from"
            f" {row['source']}, LSP {row['lsp']}{after}"
        )
    return text
