"""`powertcp vppn check`: whether authorized_watts, certificates and revocation lists are valid."""

import json
import stat
import time
from argparse import Namespace
from pathlib import Path

from powertcp.cli.books import read_file
from powertcp.errors import Fault, HostError, InvalidText
from powertcp.units import NS_PER_S
from powertcp.vppn.access import judge_time
from powertcp.vppn.authorized import parse_authorized
from powertcp.vppn.certificate import MAGIC as CERTIFICATE
from powertcp.vppn.certificate import parse_certificate
from powertcp.vppn.limits import format_moment
from powertcp.vppn.revocation import MAGIC as REVOCATIONS
from powertcp.vppn.revocation import parse_revocations

DONE = 0
NO = 1
SECRET = b"-secret:"
_WRITERS = 0o022


def check(arguments: Namespace) -> int:
    """Say of each file whether it is valid, or line, column and reason; returns the exit status."""
    now_s = time.time_ns() // NS_PER_S
    status = DONE
    for name in arguments.what:
        kind, said, faults = _judge(Path(name), now_s)
        if faults:
            status = NO
        if arguments.json:
            rows = [fault._asdict() for fault in faults]
            row = {"file": name, "kind": kind, "valid": not faults, "text": said, "faults": rows}
            print(json.dumps(row))
            continue
        for fault in faults:
            print(f"INVALID  {name}:{fault.line}:{fault.column}: {fault.text}")
        if not faults:
            print(f"VALID  {name}: {said}")
    return status


def _judge(path: Path, now_s: int) -> tuple[str, str, tuple[Fault, ...]]:
    """Return what a file is, what to say if it is valid, and what is wrong with it."""
    octets = read_file(path)
    kind = "authorized_watts"
    try:
        if octets.startswith(f"{CERTIFICATE} ".encode()):
            kind = "certificate"
            return kind, *_certificate(octets, path, now_s)
        if octets.startswith(f"{REVOCATIONS} ".encode()):
            kind = "revocation list"
            return kind, *_revocations(octets, path, now_s)
        # nothing of a secret is printed
        if SECRET in octets.partition(b"\n")[0]:
            text = "it is a secret key; powertcp vppn show --key FILE prints its public half"
            return "secret key", "", (Fault(1, 1, text),)
        return kind, *_authorized(octets, path)
    except InvalidText as invalid:
        return kind, "", invalid.faults


def _authorized(octets: bytes, path: Path) -> tuple[str, tuple[Fault, ...]]:
    watts = parse_authorized(octets, str(path))
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "look at a file") from error
    if mode & _WRITERS:
        text = f"mode {mode:04o}, others may write who draws power: chmod go-w {path}"
        return "", (Fault(1, 1, text),)
    count = len(watts.rules)
    said = f"authorized_watts, {count:,} {'rule' if count == 1 else 'rules'}"
    listed = [rule for rule in watts.rules if rule.limits.tariff]
    if not listed:
        return said, ()
    # a daemon has one price list, or none
    own = listed[0].limits.tariff
    other = next((rule for rule in listed if rule.limits.tariff != own), None)
    if other is None:
        return f"{said}, for a provider whose --tariff is {own} and for no gateway", ()
    column = octets.decode().split("\n")[other.line - 1].index("tariff=") + 1
    text = f'no daemon has both "{own}" and "{other.limits.tariff}" as its price list'
    return "", (Fault(other.line, column, text),)


def _certificate(octets: bytes, path: Path, now_s: int) -> tuple[str, tuple[Fault, ...]]:
    found = parse_certificate(octets, str(path))
    if refusal := judge_time(found, now_s):
        limits = 1 if found.limits_line else 0
        first = 5 + limits + (1 if found.groups else 0)
        is_over = found.not_after_s <= now_s
        line, column = (first + 1, 11) if is_over else (first, 12)
        return "", (Fault(line, column, f"{refusal.code} {refusal.name}: {refusal.rule}"),)
    until = format_moment(found.not_after_s)
    return f"certificate {found.serial} of {found.name} until {until}", ()


def _revocations(octets: bytes, path: Path, now_s: int) -> tuple[str, tuple[Fault, ...]]:
    found = parse_revocations(octets, str(path))
    until = format_moment(found.expires_s)
    if found.expires_s <= now_s:
        text = f"it expired {until}; powertcp vppn revoke --ca FILE --krl {path} signs it anew"
        return "", (Fault(4, 9, text),)
    count = len(found.serials) + len(found.keys)
    return f"revocation list of {count:,} until {until}", ()
