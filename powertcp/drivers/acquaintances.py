"""The file known_providers of a folder: read whole, written whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from powertcp.dpdp.known import FILE, MAX_KNOWN, KnownProvider, format_known, parse_known
from powertcp.drivers.daemon import make_private
from powertcp.errors import ConfigError, HostError

# a line has at most 560 octets
MAX_OCTETS: Final = 1024 * MAX_KNOWN


def read_acquaintances(folder: Path) -> dict[bytes, KnownProvider]:
    """Return whom this node has met, by id; nobody without a file.

    Raises HostError, and ConfigError that names the line which cannot be read.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_OCTETS + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise HostError(error.errno or 5, str(path), "read known providers") from error
    if len(octets) > MAX_OCTETS:
        raise ConfigError(str(path), "$", f"more than {MAX_OCTETS:,} octets")
    try:
        return parse_known(octets.decode(), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "$", "not a text in UTF-8") from error


def write_acquaintances(folder: Path, known: Mapping[bytes, KnownProvider]) -> None:
    """Write whom this node has met, for its owner alone; the folder is made. Raises HostError."""
    make_private(folder)
    part = ""
    try:
        descriptor, part = tempfile.mkstemp(prefix=f"{FILE}.", dir=folder)
        with open(descriptor, "wb") as file:
            file.write(format_known(known.values()).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, folder / FILE)
    except OSError as error:
        if part:
            with suppress(OSError):
                os.unlink(part)
        raise HostError(error.errno or 5, str(folder / FILE), "write known providers") from error
