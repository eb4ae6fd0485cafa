"""Configuration of a command: flags > environment > file > defaults, decoded strictly."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_type_hints

import msgspec

from powertcp.errors import ConfigError, nearest
from powertcp.units import parse_duration_ns, parse_energy_uj, parse_power_mw

COMMAND_LINE = "command line"
# of a command, wherever a value of it came from
CONFIGURATION = "configuration"
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_PATH = re.compile(r" - at `\$?([^`]*)`")
StructT = TypeVar("StructT", bound=msgspec.Struct)


class PowerMw(int):
    """A power in mW, written with its unit."""


class EnergyUj(int):
    """An energy in uJ, written with its unit."""


class DurationNs(int):
    """A duration in ns, written with its unit."""


_QUANTITIES: dict[type, Callable[[str], int]] = {
    PowerMw: parse_power_mw,
    DurationNs: parse_duration_ns,
    EnergyUj: parse_energy_uj,
}


def decode_quantity(kind: type, value: object) -> object:
    """Decode a quantity with its unit: the hook of every configuration."""
    parse = _QUANTITIES.get(kind)
    if parse is None:
        raise ValueError(f"{kind.__name__} is not a quantity")
    if not isinstance(value, str):
        raise ValueError(f'a quantity is a text with a unit, got "{value}"')
    return kind(parse(value))


class ServingOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of every daemon: where it listens, where it writes."""

    listen: tuple[str, ...] = ("[::]:3251",)
    connections: int = 64
    control: str = ""
    state_dir: str = ""
    trace: str = ""
    log_format: Literal["text", "json"] = "text"


class DaemonOptions(ServingOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of daemons that are asked for power: who may draw, how it is sealed."""

    authorized: str = ""
    krl: tuple[str, ...] = ()
    krl_fail: Literal["closed", "open"] = "closed"
    key: str = ""
    stealth: bool = False
    allow_classic: bool = False
    privacy: Literal["police", "private"] = "police"
    keylog: str = ""
    cert: str = ""


class ProviderOptions(DaemonOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of provider.toml, beside those of every daemon; named as the flags."""

    supply: tuple[str, ...] = ()
    source: str = "mains"
    rating: PowerMw | None = None
    name: str = ""
    ramp: PowerMw | None = None
    per_peer: PowerMw | None = None
    best_priority: int = 1
    over_limit: Literal["refuse", "offer"] = "refuse"
    seal: Literal["req", "opt", "off"] = "off"
    lease: DurationNs = DurationNs(60_000_000_000)
    grace: DurationNs = DurationNs(10_000_000_000)
    seed: int = 0
    feed: str = ""
    feed_to: tuple[str, ...] = ()
    feed_interface: str = ""
    ttl: int = 1
    tariff: str = ""
    require_receipts: bool = False
    quota: EnergyUj | None = None
    ledger: bool = True
    mdns: bool = True
    hotspot: Literal["", "guest", "ticket"] = ""
    inside: str = ""
    outside: str = ""
    realm: str = ""
    member: str = ""


class Effective(NamedTuple, Generic[StructT]):
    """A decoded configuration, where each value came from, and the file that was read."""

    options: StructT
    origins: dict[str, str]
    file: Path | None


def config_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of this user's configuration."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    return Path(home) / "powertcp"


def find_file(command: str, flag: str | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file of `command`: the named one, else the first that exists; never merged."""
    named = flag or environ.get("POWERTCP_CONFIG", "")
    if named:
        return Path(named)
    places = (config_folder(environ), Path("/etc/powertcp"))
    return next((p for place in places if (p := place / f"{command}.toml").is_file()), None)


def load(
    kind: type[StructT],
    command: str,
    flags: Mapping[str, object],
    *,
    config: str | None,
    environ: Mapping[str, str],
) -> Effective[StructT]:
    """Decode `command`'s configuration; flags that are None were not given.

    Raises ConfigError naming file, path and the nearest known key.
    """
    file = find_file(command, config, environ)
    table = read_table(file) if file is not None else {}
    if file is not None:
        decode(kind, table, str(file))
    given = {name: value for name, value in flags.items() if value is not None}
    decode(kind, given, COMMAND_LINE)
    folder = environ.get("POWERTCP_TRACEDIR", "")
    around = {"trace": folder} if folder and "trace" in kind.__struct_fields__ else {}
    options = decode(kind, {**table, **around, **given}, str(file or COMMAND_LINE))
    how = "environment" if not config and environ.get("POWERTCP_CONFIG") else "file"
    origins = {
        name: "flag"
        if name in given
        else "environment"
        if name in around
        else how
        if name in table
        else "default"
        for name in kind.__struct_encode_fields__
    }
    return Effective(options, origins, file)


def read_table(file: Path) -> dict[str, Any]:
    """Read one TOML file. Raises ConfigError with one line."""
    try:
        table: dict[str, Any] = msgspec.toml.decode(file.read_bytes())
    except OSError as error:
        raise ConfigError(str(file), "$", error.strerror or str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), "$", str(error)) from error
    return table


def decode(kind: type[StructT], table: Mapping[str, object], where: str) -> StructT:
    """Turn a table into `kind`. Raises ConfigError naming path and the nearest known key."""
    try:
        return msgspec.convert(dict(table), kind, dec_hook=decode_quantity)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PATH.search(text)
        named = found[1].lstrip(".").replace("_", "-") if found else ""
        path = (
            f"--{named}" if where == COMMAND_LINE and named else "$" + (found[1] if found else "")
        )
        text = _PATH.sub("", text)
        unknown = _UNKNOWN.search(text)
        if unknown:
            hint = nearest(unknown[1], kind.__struct_encode_fields__)
            text = f'unknown key "{unknown[1]}"{hint}'
        raise ConfigError(where, path, text) from error


def check_lines(command: str, effective: Effective[StructT]) -> dict[str, object]:
    """Return the effective configuration with the origin of each value, for `--check --json`."""
    hints = get_type_hints(type(effective.options))
    values: dict[str, object] = {}
    for name, origin in effective.origins.items():
        value = getattr(effective.options, name)
        unit = "_mw" if "PowerMw" in str(hints[name]) else ""
        unit = "_ns" if "DurationNs" in str(hints[name]) else unit
        values[name + unit] = {"value": value, "origin": origin}
    return {"command": command, "file": str(effective.file or ""), "options": values}
