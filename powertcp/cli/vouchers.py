"""The actions of `powertcp vppn` for a hot spot's guests: codes, and what one is redeemed for."""

import json
import os
import secrets
import sys
import time
from argparse import Namespace
from contextlib import AbstractContextManager
from pathlib import Path

from powertcp.cli.books import read_file
from powertcp.cli.credentials import (
    COMMAND_LINE,
    DONE,
    HOUR_S,
    certify,
    say_certificate,
    validity_s,
)
from powertcp.cli.keys import locked, read_key, replace_file
from powertcp.errors import ConfigError
from powertcp.units import NS_PER_S
from powertcp.vppn.identity import Algorithm
from powertcp.vppn.limits import format_moment
from powertcp.vppn.vouchers import (
    CODE_OCTETS,
    MAX_CODES,
    Voucher,
    digest_of,
    format_code,
    format_vouchers,
    name_of,
    parse_vouchers,
    redeem,
)

NO = 1
CODE_S = 30 * 24 * HOUR_S  # a code that nobody redeems for so long is none any more
MOST_AT_ONCE = 1_000
MAX_TYPED = 256  # octets: a code has 19, and some put blanks in between


def codes(arguments: Namespace) -> int:
    """Print new codes, each on a line; the file has their hashes. Returns the exit status."""
    path, key = _real(arguments.codes), read_key(Path(arguments.ca), Algorithm.ED25519)
    now_s, words = time.time_ns() // NS_PER_S, (arguments.groups or "", arguments.limits or "")
    lasts_s, count = validity_s(arguments.hours), _count(arguments.count)
    made = [format_code(secrets.token_bytes(CODE_OCTETS)) for _ in range(count)]
    # what no certificate could say is refused now, not when the guest stands there
    name = name_of(arguments.name, digest_of(made[0]))
    certify(key, str(key.public), name, *words, now_s=now_s, lasts_s=lasts_s)
    if "|" in words[1]:
        raise ConfigError(COMMAND_LINE, "--limits", "limits have no |")
    with _turn(path):
        before = _read(path) if path.exists() else {}
        there = {one: each for one, each in before.items() if each.until_s > now_s}
        if len(there) + count > MAX_CODES:
            said = f"{len(there):,} codes are there, at most {MAX_CODES:,}"
            raise ConfigError(COMMAND_LINE, "--count", said)
        for digest in map(digest_of, made):
            there[digest] = Voucher(
                digest=digest, until_s=now_s + CODE_S, hours=lasts_s // HOUR_S,
                name=name_of(arguments.name, digest), groups=words[0], limits=words[1],
            )  # fmt: skip
        replace_file(path, format_vouchers(there).encode())
    until_s = now_s + CODE_S
    for code in made:
        print(json.dumps({"code": code, "until_s": until_s}) if arguments.json else code)
    if not arguments.json:
        print(f"{count:,} codes, good until {format_moment(until_s)}", file=sys.stderr)
    return DONE


def redeem_code(arguments: Namespace) -> int:
    """Print the certificate that a code is good for; returns the exit status, 1 for no such code."""
    path, key = _real(arguments.codes), read_key(Path(arguments.ca), Algorithm.ED25519)
    if not path.exists():
        raise ConfigError(COMMAND_LINE, "--codes", f"no such file: {path}")
    code = _typed(*arguments.what)
    with _turn(path):
        before, now_s = _read(path), time.time_ns() // NS_PER_S
        found, said = redeem(before, code, now_s)
        if found is None:
            print(f"powertcp vppn: {said}", file=sys.stderr)
            return NO
        # a subject that is no key costs nobody the code
        certificate = certify(
            key, arguments.subject, found.name, found.groups, found.limits,
            now_s=now_s, lasts_s=found.hours * HOUR_S,
        )  # fmt: skip
        # written before it is given: a crash costs a code, and gives nobody two
        replace_file(path, format_vouchers({**before, found.digest: found}).encode())
    say_certificate(*certificate, as_json=arguments.json)
    return DONE


def _typed(word: str = "-") -> str:
    """Return a code: a word of the command line, or `-` for a line of standard input."""
    if word != "-":
        return word
    return sys.stdin.buffer.readline(MAX_TYPED).decode("utf-8", "replace").strip()


def _real(name: str) -> Path:
    """Return where the codes are: a link that is replaced by a file would leave them unspent."""
    return Path(os.path.realpath(name))


def _turn(path: Path) -> AbstractContextManager[None]:
    """Wait for a turn with the codes, whichever key signs: each change makes another file of them."""
    return locked(path.with_name(f"{path.name}.lock"), is_made=True)


def _read(path: Path) -> dict[bytes, Voucher]:
    """Return the codes of a file. Raises HostError, ConfigError."""
    return parse_vouchers(read_file(path).decode("utf-8", "replace"), str(path))


def _count(text: str | None) -> int:
    if text is None:
        return 1
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:5]) <= MOST_AT_ONCE):
        raise ConfigError(COMMAND_LINE, "--count", f"1 to {MOST_AT_ONCE:,}, got {text[:20]}")
    return int(text[:5])
