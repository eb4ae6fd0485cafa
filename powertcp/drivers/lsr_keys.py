"""The keys under which neighbours of an MPLampS network sign what they say: a file for its owner alone.

A line of it is the number of a key, 1..2^48-1, and its secret, 16 to 64 octets in hexadecimal. Messages
are sent under the first key and taken under any; `#` begins a comment.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from powertcp.errors import ConfigError, HostError
from powertcp.mplamps.rsvp import Key
from powertcp.mplamps.rsvp.integrity import MAX_KEY_ID, MIN_SECRET

# of one file: some to be sent under later, some that neighbours still send under
MAX_KEYS: Final = 16
# a longer one is hashed, and no stronger: RFC 2104
MAX_SECRET: Final = 64
MAX_FILE_OCTETS: Final = 16_384
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class LinkKeys:
    """key: messages are sent under it. secrets: of all keys by their numbers."""

    key: Key
    secrets: Mapping[int, bytes]


def read_link_keys(path: Path) -> LinkKeys:
    """Return the keys of a file. Raises ConfigError with what to do, HostError."""
    octets = _read_private(path)
    secrets: dict[int, bytes] = {}
    for number, line in enumerate(octets.decode("utf-8", "replace").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        key_id, secret = _parse_key(words, f"{path}:{number}")
        if key_id in secrets:
            raise ConfigError("key file", f"{path}:{number}", f"a second key {key_id}")
        secrets[key_id] = secret
    if not 1 <= len(secrets) <= MAX_KEYS:
        raise ConfigError("key file", str(path), f"1 to {MAX_KEYS} keys, got {len(secrets)}")
    first = next(iter(secrets))
    return LinkKeys(Key(first, secrets[first]), secrets)


# MPLA-4.10-01
def check_keyless(addresses: Iterable[IPv4Address]) -> None:
    """Raise ConfigError for an address that others can reach: nobody signs there without keys."""
    for address in addresses:
        if not address.is_loopback:
            said = f"{address} is no loopback address, neighbours must sign there: --keys FILE"
            raise ConfigError("command line", "--keys", said)


def _read_private(path: Path) -> bytes:
    """Return what a file holds that is for its owner alone."""
    try:
        # a pipe without a writer would hold us
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            octets = os.read(descriptor, MAX_FILE_OCTETS + 1) if stat.S_ISREG(mode) else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "read keys") from error
    if not stat.S_ISREG(mode) or len(octets) > MAX_FILE_OCTETS:
        raise ConfigError("key file", str(path), f"a file of at most {MAX_FILE_OCTETS:,} octets")
    # MPLA-4.10-01
    if mode & _OTHERS:
        text = f"mode {stat.S_IMODE(mode):04o}, others may use these keys: chmod 600 {path}"
        raise ConfigError("key file", str(path), text)
    return octets


def _parse_key(words: list[str], place: str) -> tuple[int, bytes]:
    """Return number and secret of a line. Raises ConfigError, which never tells the secret."""
    if len(words) != 2:
        raise ConfigError("key file", place, "a key is a number and a secret in hexadecimal")
    number, text = words
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= MAX_KEY_ID):
        said = f"a key has a number of 1..{MAX_KEY_ID:,}, got {number[:20]}"
        raise ConfigError("key file", place, said)
    try:
        secret = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError("key file", place, "the secret is not hexadecimal") from error
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        said = f"a secret has {MIN_SECRET} to {MAX_SECRET} octets, this one {len(secret)}"
        raise ConfigError("key file", place, said)
    return int(number), secret
