"""Orders to the running policeman: a price, a withdrawal and its end, a payment."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Final

from powertcp.drivers.control import Fields, ask, find_sockets
from powertcp.drivers.daemon import state_folder
from powertcp.errors import ConfigError, HostError

DONE: Final = 0
NO: Final = 1
NO_ANSWER: Final = 3
ROLE: Final = "pdp"
_DECIMAL = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,6}))?(?:/kWh)?")


def parse_micro(text: str, option: str) -> int:
    """Return a decimal number in millionths. Raises ConfigError."""
    found = _DECIMAL.fullmatch(text)
    if found is None:
        said = f'a number with at most 6 decimals, such as 0.40, got "{text[:40]}"'
        raise ConfigError("command line", option, said)
    micro = int(found[2] + (found[3] or "").ljust(6, "0"))
    return -micro if found[1] else micro


def parse_supplier(text: str, option: str) -> int:
    """Return the number of a supplier. Raises ConfigError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ConfigError("command line", option, f'a supplier is a number, got "{text[:40]}"')
    return int(text)


def request_of(name: str, text: str) -> Fields:
    """Return what is asked of the control socket. Raises ConfigError."""
    option = f"--{name.replace('_', '-')}"
    if name in ("withdraw", "restore"):
        return {"op": name, "supplier": parse_supplier(text, option)}
    who, equals, what = text.rpartition("=")
    if not equals:
        form = "ID=PRICE, such as 7=0.40" if name == "set_price" else "NAME=AMOUNT, such as Ada=50"
        raise ConfigError("command line", option, f'it is written {form}, got "{text[:40]}"')
    if name == "set_price":
        supplier, price = parse_supplier(who, option), parse_micro(what, option)
        return {"op": "set-price", "supplier": supplier, "price": price}
    return {"op": "pay", "customer": who, "amount": parse_micro(what, option)}


def order(name: str, text: str, control: str, *, as_json: bool) -> int:
    """Tell the running policeman; returns the exit status. Raises ConfigError."""
    request = request_of(name, text)
    state = state_folder(os.environ, ROLE)
    paths = [Path(control)] if control else [
        path for path in find_sockets(os.environ, state) if path.name.startswith(f"{ROLE}-")
    ]  # fmt: skip
    answers = [answer for path in paths if (answer := _ask(path, request)) is not None]
    if not answers:
        print("powertcp mplamps pdp: no running policeman answers", file=sys.stderr)
        return NO_ANSWER
    status = DONE
    for answer in answers:
        found = answer.get("ok")
        if not isinstance(found, dict):
            refusal = answer.get("refusal")
            said = refusal.get("sentence") if isinstance(refusal, dict) else answer
            print(f"powertcp mplamps pdp: {said}", file=sys.stderr)
            status = NO
        elif as_json:
            print(json.dumps(found))
        else:
            print(f"{name.replace('_', '-')} {text}: done")
    return status


def _ask(path: Path, request: Fields) -> Fields | None:
    try:
        greeting, answer = ask(path, request)
    except (OSError, HostError):
        return None
    return answer if greeting.get("role") == ROLE else None
