"""What a consumer is told: flags before environment before file before defaults."""

import argparse
import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from powertcp.errors import ConfigError

ResultT = TypeVar("ResultT")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of consumer.toml, named as the flags; quantities are texts with units.

    request and minimum go together by position; "" stands for no minimum. run powers the first
    request, load the ones after it, in order.
    """

    connect: str = ""
    request: tuple[str, ...] = ()
    minimum: tuple[str, ...] = ()
    voltage: str = ""
    current: str = ""
    run: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    on_shed: str = "cap"
    for_: str = msgspec.field(name="for", default="")
    energy: str = ""
    mux: bool = False
    give_up: str = "10min"
    control: str = ""
    json: bool = False
    verbose: bool = False
    quiet: bool = False


KEYS = tuple(field.encode_name for field in msgspec.structs.fields(Options))


def find_file(flag: str | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file: the named one, or the first that exists."""
    named = flag or environ.get("POWERTCP_CONFIG", "")
    if named:
        return Path(named)
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    places = (Path(home) / "powertcp" / "consumer.toml", Path("/etc/powertcp/consumer.toml"))
    return next((place for place in places if place.is_file()), None)


def read_file(path: Path) -> dict[str, Any]:
    """Read one TOML file. Raises ConfigError naming file, key and the nearest known key."""
    try:
        table: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(str(path), "$", error.strerror or str(error)) from error
    except msgspec.DecodeError as error:
        raise ConfigError(str(path), "$", str(error)) from error
    for key in table:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, 1, 0.5)
            hint = f', did you mean "{close[0]}"?' if close else ""
            raise ConfigError(str(path), "$", f'unknown key "{key}"{hint}')
    return table


def settle(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Options, str]:
    """Merge flags over the file over the defaults; also return the name of the file, "" for none."""
    path = find_file(given.config, environ)
    table = read_file(path) if path is not None else {}
    pairs = given.request or []
    flags: dict[str, Any] = {
        "connect": given.connect,
        "request": [request for request, _ in pairs] or None,
        "minimum": [minimum or "" for _, minimum in pairs] or None,
        "run": given.run,
        "load": given.load,
        "on_shed": given.on_shed,
        "for": given.for_,
        "energy": given.energy,
        "mux": given.mux,
        "give_up": given.give_up,
        "control": given.control,
        "json": given.json,
        "verbose": given.verbose or None,
        "quiet": given.quiet or None,
    }
    merged = table | {key: value for key, value in flags.items() if value is not None}
    file = str(path) if path is not None else ""
    if merged.get("voltage") and merged.get("current") and not merged.get("request"):
        merged["request"] = [f"{merged['voltage']}/{merged['current']}"]
    try:
        return msgspec.convert(merged, Options), file
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at ")
        raise ConfigError(file or "command line", place.strip("`") or "$", text) from error


def read(path: str, text: str, parse: Callable[[str], ResultT]) -> ResultT | None:
    """Parse a quantity; "" is none. Raises ConfigError with the parser's sentence."""
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError("command line", path, str(error)) from error
