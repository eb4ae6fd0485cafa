"""The files that say who may draw what: authorized_watts and revocation lists, whole or not at all."""

import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from powertcp.errors import ConfigError, Fault, InvalidText
from powertcp.vppn.access import OverLimit
from powertcp.vppn.authorized import MAX_OCTETS, AuthorizedWatts, parse_authorized
from powertcp.vppn.revocation import MAX_OCTETS as LIST_OCTETS
from powertcp.vppn.revocation import RevocationList, Revocations, parse_revocations

_OTHERS_WRITE: Final = 0o022
_log = logging.getLogger("provider")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityConfig:
    """Where it stands who may draw what.

    authorized: path of authorized_watts. krls: paths of revocation lists. is_krl_open: certificates
    hold without a fresh list of their issuer. over: what a request above a limit gets. tariff: name
    of the price list that there is, "" for none. has_ledger: quotas can be kept.
    """

    authorized: str
    krls: tuple[str, ...] = ()
    is_krl_open: bool = False
    over: OverLimit = OverLimit.REFUSE
    tariff: str = ""
    has_ledger: bool = True


class Authority(NamedTuple):
    """Files that were read, and how to go by them."""

    watts: AuthorizedWatts
    revocations: Revocations
    config: AuthorityConfig


class InvalidFile(ConfigError):
    """A file that cannot be used, by file:line:column."""

    def __init__(self, file: str, faults: Sequence[Fault]) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(file, f"{first.line}:{first.column}", f"{first.text}{more}")
        self.args = (f"{file}:{first.line}:{first.column}: {first.text}{more}",)


# VPPN-5-03
def read_authority(config: AuthorityConfig, *, is_start: bool) -> Authority:
    """Read every file. Raises ConfigError for one that cannot be used.

    At the start a revocation list may be missing: what that means is `is_krl_open`'s to say.
    """
    octets = _read(config.authorized, MAX_OCTETS)
    _check_mode(config.authorized)
    try:
        watts = parse_authorized(octets, config.authorized)
        lists, unreadable = _read_lists(config.krls, is_start=is_start)
    except InvalidText as invalid:
        raise InvalidFile(invalid.file, invalid.faults) from invalid
    if faults := _unkept(watts, octets.decode().split("\n"), config):
        raise InvalidFile(config.authorized, faults)
    return Authority(watts, Revocations(lists, unreadable, config.is_krl_open), config)


Marks = tuple[tuple[int, int, int] | None, ...]


def marks_of(paths: Sequence[str]) -> Marks:
    """Return what tells whether one of the files is another one than before."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            state = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((state.st_ino, state.st_size, state.st_mtime_ns))
    return tuple(found)


def read_lists_again(authority: Authority) -> Authority:
    """Return `authority` with the revocation lists as they are now. Raises ConfigError."""
    config = authority.config
    try:
        lists, unreadable = _read_lists(config.krls, is_start=False)
    except InvalidText as invalid:
        raise InvalidFile(invalid.file, invalid.faults) from invalid
    return authority._replace(revocations=Revocations(lists, unreadable, config.is_krl_open))


def _read(path: str, most: int) -> bytes:
    """Return a file, and one octet more than `most` of what is too long."""
    try:
        # a pipe without a writer would hold us
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidFile(path, [Fault(1, 1, "it is no file")])
            return file.read(most + 1)
    except OSError as error:
        raise InvalidFile(path, [Fault(1, 1, error.strerror or str(error))]) from error


def _check_mode(path: str) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & _OTHERS_WRITE:
        text = f"mode {mode:04o}, others may write who draws power: chmod go-w {path}"
        raise InvalidFile(path, [Fault(1, 1, text)])


# VPPN-5-05
def _read_lists(
    paths: Sequence[str], *, is_start: bool
) -> tuple[tuple[RevocationList, ...], tuple[str, ...]]:
    """Return the lists, and the names of those that cannot be read."""
    lists: list[RevocationList] = []
    unreadable: list[str] = []
    for path in paths:
        try:
            octets = _read(path, LIST_OCTETS)
        except InvalidFile as fault:
            if not is_start:
                raise
            _log.warning("revocation list: %s", fault)
            unreadable.append(path)
        else:
            lists.append(parse_revocations(octets, path))
    return tuple(lists), tuple(unreadable)


def _unkept(watts: AuthorizedWatts, lines: list[str], config: AuthorityConfig) -> list[Fault]:
    """Return the limits that nobody here could keep."""
    faults: list[Fault] = []
    for rule in watts.rules:
        line, tariff = lines[rule.line - 1], rule.limits.tariff
        if tariff and tariff != config.tariff:
            own = f'that of --tariff is "{config.tariff}"' if config.tariff else "there is none"
            text = f'no price list here is named "{tariff}": {own}'
            faults.append(Fault(rule.line, line.index("tariff=") + 1, text))
        if rule.limits.quotas and not config.has_ledger:
            text = "a quota needs the ledger, and --no-ledger leaves it out"
            faults.append(Fault(rule.line, line.index("quota=") + 1, text))
    return faults
