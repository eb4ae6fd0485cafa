"""The file of a realm: its name, its secret, and where its providers hear of each other."""

import base64
import binascii
import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path
from typing import Annotated, Final

import msgspec

from powertcp.crypto import KEY_OCTETS, SigningKey
from powertcp.drivers.dial import format_address, parse_address
from powertcp.errors import ConfigError, HostError
from powertcp.store import write_secret

MAX_FILE_OCTETS: Final = 16_384
MAX_NAME: Final = 63
MIN_MEMBERS: Final = 2
MAX_MEMBERS: Final = 16
DEFAULT_PORT: Final = 3252
_OTHERS: Final = 0o077


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    secret: str
    members: Annotated[
        tuple[str, ...], msgspec.Meta(min_length=MIN_MEMBERS, max_length=MAX_MEMBERS)
    ]


@dataclass(frozen=True, slots=True)
class Realm:
    """Providers of one operator. secret: 32 octets. members: where each hears of the others."""

    name: str
    secret: bytes
    members: tuple[tuple[str, int], ...]

    @property
    def ticket_key(self) -> bytes:
        """The key that seals tickets, 32 octets."""
        return self._derived(b"tickets")

    @property
    def link_key(self) -> bytes:
        """The key that members prove to each other, 32 octets."""
        return self._derived(b"links")

    @property
    def meter(self) -> SigningKey:
        """The key that signs pages and adverts of every member."""
        return SigningKey(self._derived(b"meter"))

    @property
    def meter_seed(self) -> bytes:
        """The seed of `meter`, 32 octets."""
        return self._derived(b"meter")

    # DPDP-10-08
    def _derived(self, what: bytes) -> bytes:
        return blake2s(key=self.secret, person=what).digest()

    def number_of(self, member: str) -> int:
        """Return the place of a member, from 1. Raises ConfigError when it is none."""
        place = parse_address(member, default_port=DEFAULT_PORT)
        if place not in self.members:
            said = ", ".join(format_address(*each) for each in self.members)
            raise ConfigError("command line", "member", f"{member} is none of {said}")
        return self.members.index(place) + 1


def parse_members(texts: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Parse where members listen. Raises ConfigError naming the one that is wrong, or twice."""
    members: list[tuple[str, int]] = []
    for text in texts:
        member = parse_address(text, default_port=DEFAULT_PORT)
        if not member[1]:
            raise ConfigError("command line", text, "a member listens on a port of 1..65535")
        if member in members:
            raise ConfigError("command line", text, "a member is named twice")
        members.append(member)
    return tuple(members)


def read_realm(path: str) -> Realm:
    """Read the file of a realm. Raises ConfigError naming what is wrong, HostError."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise HostError(errno.EPERM, path, "use a secret that others may read")
            octets = file.read(MAX_FILE_OCTETS + 1)
    except OSError as error:
        raise ConfigError(path, "$", error.strerror or str(error)) from error
    if len(octets) > MAX_FILE_OCTETS:
        raise ConfigError(path, "$", f"a realm has at most {MAX_FILE_OCTETS} octets")
    try:
        found = msgspec.toml.decode(octets, type=_File)
        secret = base64.b64decode(found.secret, validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise ConfigError(path, "$", str(error)) from error
    try:
        members = parse_members(found.members)
    except ConfigError as error:
        raise ConfigError(path, "members", f'"{error.path}": {error.text}') from error
    if len(secret) != KEY_OCTETS:
        raise ConfigError(path, "secret", f"32 octets in base64, got {len(secret)}")
    return Realm(found.name, secret, members)


def write_realm(path: Path, realm: Realm) -> None:
    """Make the file of a realm, for its owner alone. Raises HostError, also when there is one."""
    if path.exists():
        raise HostError(errno.EEXIST, str(path), "make the file of a realm")
    members = "".join(f"  {json.dumps(format_address(*each))},\n" for each in realm.members)
    text = (
        f"name = {json.dumps(realm.name)}\n"
        f'secret = "{base64.b64encode(realm.secret).decode()}"\n'
        f"members = [\n{members}]\n"
    )
    write_secret(path, text.encode())
