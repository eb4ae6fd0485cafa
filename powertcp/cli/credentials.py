"""The actions of `powertcp vppn` that make, show and sign: keygen, show, sign, revoke."""

import io
import json
import os
import secrets
import time
from argparse import Namespace
from pathlib import Path
from typing import TypeVar

from powertcp.cli.books import read_file
from powertcp.cli.keys import (
    identity_path,
    locked,
    make_key,
    meter_key_paths,
    read_key,
    replace_file,
)
from powertcp.crypto import KEY_OCTETS, SigningKey
from powertcp.errors import ConfigError, LocalProtocolError, known
from powertcp.store import read_secret
from powertcp.units import NS_PER_S
from powertcp.vppn.certificate import (
    DEFAULT_VALIDITY_S,
    MAX_VALIDITY_S,
    Certificate,
    issue_certificate,
)
from powertcp.vppn.faults import check_name, tokens
from powertcp.vppn.identity import Algorithm, PublicKey, SecretKey
from powertcp.vppn.limits import Limits, format_moment, parse_groups, parse_words
from powertcp.vppn.revocation import MAX_VALIDITY_S as LIST_VALIDITY_S
from powertcp.vppn.revocation import RevocationList, issue_revocations, parse_revocations
from powertcp.vppn.signed import parse_serial

DONE = 0
HOUR_S = 3_600
# told apart by chance: two signings of one moment never share a number
MAX_SERIAL = (1 << 63) - 1
COMMAND_LINE = "command line"
T = TypeVar("T")


# ---- keygen, show -------------------------------------------------------------------------------


def keygen(arguments: Namespace) -> int:
    """Make a key file and print its public half; returns the exit status."""
    is_ca = arguments.ca is not None
    path = Path(arguments.out) if arguments.out else identity_path(os.environ)
    algorithm = Algorithm.ED25519 if is_ca else Algorithm.X25519
    key = SecretKey(algorithm, secrets.token_bytes(KEY_OCTETS))
    make_key(path, key)
    _say("issuer" if is_ca else "identity", key.public, path, as_json=arguments.json)
    return DONE


def show(arguments: Namespace) -> int:
    """Print the public halves of the identity and of the meters; returns the exit status."""
    path = Path(arguments.key) if arguments.key else identity_path(os.environ)
    public = read_key(path, Algorithm.X25519).public
    code = _qr(str(public)) if arguments.qr else ""
    _say("identity", public, path, as_json=arguments.json)
    if not arguments.key:
        for meter in meter_key_paths(os.environ):
            seed = known(read_secret(meter, KEY_OCTETS), "a key that was there a moment ago")
            signing = PublicKey(Algorithm.ED25519, SigningKey(seed).public)
            _say("meter", signing, meter, as_json=arguments.json)
    if code and not arguments.json:
        print(code)
    return DONE


def _say(role: str, key: PublicKey, path: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"role": role, "key": str(key), "file": str(path)}))
    else:
        print(f"{role:<8}  {key}  {path}")


def _qr(text: str) -> str:
    """Return a QR code of half blocks. Raises ConfigError without the extra that draws it."""
    try:
        import segno
    except ImportError as error:
        text = 'the QR code needs segno: pip install "powertcp[web]"'
        raise ConfigError(COMMAND_LINE, "--qr", text) from error
    out = io.StringIO()
    segno.make(text, error="m").terminal(out, compact=True)
    return out.getvalue().rstrip("\n")


# ---- sign ---------------------------------------------------------------------------------------


def sign(arguments: Namespace) -> int:
    """Print a certificate; returns the exit status."""
    key = read_key(Path(arguments.ca), Algorithm.ED25519)
    certificate = certify(
        key, arguments.subject, arguments.name, arguments.groups or "", arguments.limits or "",
        now_s=time.time_ns() // NS_PER_S, lasts_s=validity_s(arguments.hours),
    )  # fmt: skip
    say_certificate(*certificate, as_json=arguments.json)
    return DONE


def certify(
    key: SecretKey, subject: str, name: str, groups: str, limits: str, *, now_s: int, lasts_s: int
) -> tuple[Certificate, bytes]:
    """Return a certificate from now on, and its octets. Raises ConfigError."""
    try:
        certificate = Certificate(
            serial=secrets.randbelow(MAX_SERIAL) + 1,
            subject=PublicKey.parse(subject),
            name=check_name(name, "a name"),
            groups=parse_groups(groups) if groups else (),
            limits=_limits(limits),
            not_before_s=now_s,
            not_after_s=now_s + lasts_s,
            issuer=key.public,
        )
        return certificate, issue_certificate(certificate, key)
    except (ValueError, LocalProtocolError) as error:
        raise ConfigError(COMMAND_LINE, "sign", str(error)) from error


def say_certificate(certificate: Certificate, octets: bytes, *, as_json: bool) -> None:
    """Print a certificate."""
    if as_json:
        record = {
            "serial": certificate.serial,
            "not_after_s": certificate.not_after_s,
            "certificate": octets.decode(),
        }
        print(json.dumps(record))
    else:
        print(octets.decode(), end="")


def _limits(text: str) -> Limits:
    if "#" in text:
        raise ValueError("a certificate has no comments")
    return parse_words(tokens(text))[0]


def validity_s(text: str | None) -> int:
    """Return how long a certificate lasts, in s, of its hours. Raises ConfigError."""
    most = MAX_VALIDITY_S // HOUR_S
    if text is None:
        return DEFAULT_VALIDITY_S
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= most):
        raise ConfigError(COMMAND_LINE, "sign", f'--hours is 1 to {most} h, got "{text}"')
    return int(text) * HOUR_S


# ---- revoke -------------------------------------------------------------------------------------


def revoke(arguments: Namespace) -> int:
    """Add to a revocation list and sign it anew; returns the exit status."""
    path, ca = Path(arguments.krl), Path(arguments.ca)
    key = read_key(ca, Algorithm.ED25519)
    serials, keys = _taken_back(arguments.what)
    expires_s = time.time_ns() // NS_PER_S + LIST_VALIDITY_S
    with locked(ca):
        count, added = _extend(path, key, serials, keys, expires_s)
    if arguments.json:
        record = {"file": str(path), "revoked": count, "added": added, "expires_s": expires_s}
        print(json.dumps(record))
    else:
        until = format_moment(expires_s)
        print(f"{path}: {count:,} revoked, {added:,} of them new, expires {until}")
    return DONE


def _extend(
    path: Path, key: SecretKey, serials: set[int], keys: set[PublicKey], expires_s: int
) -> tuple[int, int]:
    """Write a list with more in it; returns how much it takes back, and how much of that is new."""
    before = _read_list(path, key)
    old_serials, old_keys = (set(before.serials), set(before.keys)) if before else (set(), set())
    try:
        octets = issue_revocations(
            key, expires_s - LIST_VALIDITY_S, expires_s, serials | old_serials, keys | old_keys
        )
    except LocalProtocolError as error:
        raise ConfigError(COMMAND_LINE, "revoke", str(error)) from error
    replace_file(path, octets)
    added = len(serials - old_serials) + len(keys - old_keys)
    return len(old_serials) + len(old_keys) + added, added


def _taken_back(words: list[str]) -> tuple[set[int], set[PublicKey]]:
    serials: set[int] = set()
    keys: set[PublicKey] = set()
    for word in words:
        try:
            if ":" in word:
                keys.add(PublicKey.parse(word))
            else:
                serials.add(parse_serial(word))
        except ValueError as error:
            raise ConfigError(COMMAND_LINE, "revoke", str(error)) from error
    return serials, keys


def _read_list(path: Path, key: SecretKey) -> RevocationList | None:
    """Return the list that is there, None where there is none. Raises ConfigError."""
    if not path.exists():
        return None
    found = parse_revocations(read_file(path), str(path))
    if found.issuer != key.public:
        text = f"it is of {found.issuer}, and the key of --ca is {key.public}"
        raise ConfigError(str(path), "line 2, column 8", text)
    return found
