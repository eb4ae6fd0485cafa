"""The options by which a provider is a hot spot: added, read, checked."""

import argparse
from typing import TYPE_CHECKING

from powertcp.errors import ConfigError

if TYPE_CHECKING:
    from powertcp.cli.config import ProviderOptions
    from powertcp.dpdp.leases import HotSpotConfig

_CONFIGURATION = "configuration"
_KEYS = ("hotspot", "inside", "outside")


def add_hotspot(parse: argparse.ArgumentParser) -> None:
    """Add the options of a hot spot."""
    add = parse.add_argument
    add(
        "--hotspot", choices=("guest", "ticket"),
        help="forward who holds a lease of power: anybody, or members only (forward nobody)",
    )  # fmt: skip
    add("--inside", metavar="IF", help="interface of a hot spot where its guests are")
    add("--outside", metavar="IF", help="interface that its guests may use (any)")


def hotspot_config(options: "ProviderOptions") -> "HotSpotConfig | None":
    """Return who is forwarded, None without a hot spot. Raises ConfigError naming what is wrong."""
    if not options.hotspot:
        for name in _KEYS[1:]:
            if getattr(options, name):
                raise ConfigError(_CONFIGURATION, name, "it is about --hotspot, which is not given")
        return None
    from powertcp.dpdp.leases import TICKET, HotSpotConfig, check_name

    if not options.inside:
        said = "where are its guests? --inside wlan0, for example"
        raise ConfigError(_CONFIGURATION, "inside", said)
    for name in _KEYS[1:]:
        try:
            check_name(getattr(options, name) or options.inside)
        except ValueError as error:
            raise ConfigError(_CONFIGURATION, name, str(error)) from error
    if options.outside == options.inside:
        raise ConfigError(_CONFIGURATION, "outside", f"{options.inside} is the inside already")
    # DPDP-9-01
    if options.hotspot == TICKET and (options.seal == "off" or not options.authorized):
        said = "who has a ticket is told by --authorized FILE and --seal req or --seal opt"
        raise ConfigError(_CONFIGURATION, "hotspot", said)
    return HotSpotConfig(kind=options.hotspot, inside=options.inside, outside=options.outside)


def check_hotspot_stays(before: "ProviderOptions", now: "ProviderOptions") -> None:
    """Raise ConfigError for another hot spot: it is settled at the start."""
    for name in _KEYS:
        if getattr(before, name) != getattr(now, name):
            raise ConfigError(_CONFIGURATION, name, "a hot spot is settled at the start")
