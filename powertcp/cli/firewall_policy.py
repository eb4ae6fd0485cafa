"""`powertcp firewall check` and `test`: policies as they stand in files."""

import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TextIO

from powertcp.errors import ConfigError, HostError
from powertcp.reclaim.layer import HOOKS
from powertcp.reclaim.policy import Policy
from powertcp.reclaim.policy_cases import Outcome, run_cases
from powertcp.reclaim.policy_lines import MAX_OCTETS, PolicyError
from powertcp.reclaim.policy_text import parse_policy

DONE = 0
NO = 1
USAGE = 2
# the number of an I/O error that has none
_EIO = 5


def load_policy(path: Path, *, is_lab: bool = False) -> Policy:
    """Read a policy and the files of keys that it names, which stand beside it.

    Raises HostError if it cannot be read, PolicyError if it is not valid.
    """

    def read(name: str) -> bytes:
        return _read(path.parent / name)

    return parse_policy(_read(path), str(path), read, is_lab=is_lab)


def _read(path: Path) -> bytes:
    """Return what a file holds, at most one octet more than a policy or a file of keys may have."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            return file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise HostError(error.errno or _EIO, str(path), "read a file") from error


def _at_once(name: str, flags: int) -> int:
    # a pipe that nobody writes into is empty
    return os.open(name, flags | os.O_NONBLOCK)


def check(arguments: Namespace) -> int:
    """Say of each policy what it holds, or what is wrong with it; returns the exit status."""
    status = DONE
    for name in arguments.what:
        try:
            policy = load_policy(Path(name), is_lab=arguments.lab)
        except PolicyError as error:
            status = USAGE
            _say_faults(name, error, sys.stdout, as_json=arguments.json)
            continue
        if arguments.json:
            print(json.dumps({"file": name, "valid": True, "faults": [], **_counts(policy)}))
        else:
            counts = ", ".join(_count(number, what) for what, number in _counts(policy).items())
            print(f"VALID  {name}: {counts}; otherwise {policy.default}")
    for name in arguments.script or ():
        status = max(status, _check_script(name, as_json=arguments.json))
    return status


def _check_script(name: str, *, as_json: bool) -> int:
    """Say of a script which hooks it has, or what is wrong with it; returns the exit status."""
    # the event loop comes with it
    from powertcp.drivers.scripting import load_scripts

    try:
        [script] = load_scripts([Path(name)])
    except ConfigError as error:
        row = {"file": name, "valid": False, "faults": [{"place": error.path, "text": error.text}]}
        print(json.dumps(row) if as_json else f"INVALID  {error}")
        return USAGE
    hooks = {hook: script.lines[kind] for hook, kind in HOOKS.items() if kind in script.lines}
    if as_json:
        print(json.dumps({"file": name, "valid": True, "faults": [], "hooks": hooks}))
    else:
        said = ", ".join(f"{hook} in line {line}" for hook, line in hooks.items())
        print(f"VALID  {name}: {said}")
    return DONE


def _counts(policy: Policy) -> dict[str, int]:
    return {
        "rules": len(policy.rules),
        "sets": len(policy.sets),
        "reservoirs": len(policy.reservoirs),
        "lenders": len(policy.lends),
        "tests": len(policy.tests),
    }


def _count(number: int, what: str) -> str:
    return f"{number:,} {what[:-1] if number == 1 else what}"


def _say_faults(name: str, error: PolicyError, stream: TextIO, *, as_json: bool) -> None:
    if as_json:
        rows = [fault._asdict() for fault in error.faults]
        print(json.dumps({"file": name, "valid": False, "faults": rows}), file=stream)
        return
    for fault in error.faults:
        print(f"INVALID  {name}:{fault.line}:{fault.column}: {fault.text}", file=stream)


def test(arguments: Namespace) -> int:
    """Run the test statements of each policy; returns the exit status."""
    status = DONE
    for name in arguments.what:
        try:
            policy = load_policy(Path(name), is_lab=arguments.lab)
        except PolicyError as error:
            status = USAGE
            stream = sys.stdout if arguments.json else sys.stderr
            _say_faults(name, error, stream, as_json=arguments.json)
            continue
        outcomes = run_cases(policy)
        differing = sum(bool(outcome.differences) for outcome in outcomes)
        status = max(status, NO if differing else DONE)
        for outcome in outcomes:
            print(json.dumps(_row(name, outcome)) if arguments.json else _sentence(name, outcome))
        if not arguments.json:
            said = f"{differing:,} of them as not expected" if differing else "all as expected"
            print(f"{name}: {_count(len(outcomes), 'tests')}{', ' + said if outcomes else ''}")
    return status


def _sentence(name: str, outcome: Outcome) -> str:
    case, decision = outcome.case, outcome.decision
    found = f"{decision.verdict} by line {decision.line}"
    if not outcome.differences:
        return f"ok      {name}:{case.line}: {found}"
    said = "; ".join(outcome.differences)
    return f"DIFFERS {name}:{case.line}: {said} ({found}: {decision.text})"


def _row(name: str, outcome: Outcome) -> dict[str, object]:
    case, decision = outcome.case, outcome.decision
    return {
        "file": name,
        "line": case.line,
        "text": case.text,
        "ok": not outcome.differences,
        "differences": outcome.differences,
        "verdict": str(decision.verdict),
        "decided_by": {"line": decision.line, "text": decision.text},
        "values": dict(decision.values),
    }
