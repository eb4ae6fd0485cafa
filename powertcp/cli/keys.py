"""Key files and signed files: where they are, whose they may be, whole on the disk or not at all."""

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from powertcp.cli.books import find_state
from powertcp.cli.config import config_folder
from powertcp.errors import ConfigError, HostError
from powertcp.store.files import sync_folder
from powertcp.vppn.identity import Algorithm, SecretKey

# a key file has 60; what is longer is none
MAX_KEY_OCTETS = 256
_OTHERS = 0o077
_KEYGEN = {
    Algorithm.X25519: "powertcp vppn keygen --out FILE",
    Algorithm.ED25519: "powertcp vppn keygen --ca --out FILE",
}


def identity_path(environ: Mapping[str, str]) -> Path:
    """Return where the identity of this user is."""
    return config_folder(environ) / "identity"


def meter_key_paths(environ: Mapping[str, str]) -> list[Path]:
    """Return the meter keys that this user's daemons have made beside their ledgers."""
    return find_state(environ, "meter.key")[1]


def read_key(path: Path, algorithm: Algorithm) -> SecretKey:
    """Return the key in a file that is for its owner alone. Raises ConfigError with what to do."""
    try:
        # a pipe without a writer would hold us
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            octets = os.read(descriptor, MAX_KEY_OCTETS) if stat.S_ISREG(mode) else b""
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        text = f"there is no key; {_KEYGEN[algorithm]} makes one"
        raise ConfigError("key file", str(path), text) from error
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "read a key") from error
    if not stat.S_ISREG(mode):
        raise ConfigError("key file", str(path), "it is no file")
    # VPPN-5-06
    if mode & _OTHERS:
        text = f"mode {stat.S_IMODE(mode):04o}, others may use this key: chmod 600 {path}"
        raise ConfigError("key file", str(path), text)
    try:
        return SecretKey.parse(octets.decode("ascii", "replace"), algorithm)
    except ValueError as error:
        raise ConfigError("key file", str(path), str(error)) from error


def make_key(path: Path, key: SecretKey) -> None:
    """Write a new key file, for its owner alone. Raises ConfigError when there is a file already."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = _write_part(path, key.format().encode(), 0o600)
        try:
            # unlike a rename, this never takes the place of a key that somebody has
            os.link(part, path)
        finally:
            part.unlink()
        sync_folder(path.parent)
    except FileExistsError as error:
        text = "there is a file already; move it away, or name another with --out"
        raise ConfigError("key file", str(path), text) from error
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "write a key") from error


@contextmanager
def locked(path: Path, *, is_made: bool = False) -> Iterator[None]:
    """Wait until nobody else uses a file so: two that change what goes with it would lose a change.

    is_made: make it, for its owner alone, where there is none. Raises HostError.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_CREAT if is_made else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "lock a file") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, octets: bytes) -> None:
    """Put `octets` in the place of a file, or make it. Raises HostError; the file is as before."""
    try:
        part = _write_part(path, octets, 0o644)
        try:
            part.replace(path)
        except OSError:
            part.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "write a file") from error


def _write_part(path: Path, octets: bytes, mode: int) -> Path:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        while octets:
            octets = octets[os.write(descriptor, octets) :]
        os.fsync(descriptor)
    except OSError:
        part.unlink()
        raise
    finally:
        os.close(descriptor)
    return part
