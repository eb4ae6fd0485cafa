"""The options by which a consumer finds its provider: read, checked, ready for a driver."""

import argparse
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from powertcp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from powertcp.cli.consumer_options import Options
    from powertcp.dpdp.trust import Trust
    from powertcp.drivers.appliance import Say
    from powertcp.drivers.consumer import Consumer, Wishes
    from powertcp.drivers.desk import Desk
    from powertcp.drivers.finder import Search
    from powertcp.drivers.guide import Place
    from powertcp.vppn.config import SealConfig

SOURCES = "reclaimed, battery, grid, feed"
_COMMAND_LINE = "command line"
_SEED_OCTETS = 16
_SEARCH = ("interface", "pin", "prefer", "roam", "site", "src", "static", "trust")


def add_finding(parse: argparse.ArgumentParser) -> None:
    """Add the options of a consumer that finds its provider: without --connect."""
    add = parse.add_argument
    add(
        "--trust",
        choices=("any", "site", "pinned"),
        help="whom to take power from (by --pin, --site)",
    )
    add("--pin", action="append", metavar="KEY", help="trust this provider: x25519:.., id:..")
    add("--site", action="append", metavar="KEY", help="trust whom this site certifies: ed25519:..")
    add("--static", action="append", metavar="HOST[:PORT]", help="ask there if nobody is found")
    add("--prefer", metavar="LIST", help=f"sources, the best first ({SOURCES})")
    add("--src", metavar="LIST", help="only from these sources (any)")
    add("--interface", action="append", metavar="IF", help="look there only, repeatable (all)")


def check_named(options: "Options") -> None:
    """Raise ConfigError for options of a search beside the address of a provider."""
    plain = type(options)()
    for name in _SEARCH:
        if getattr(options, name) != getattr(plain, name):
            said = "it is about a search: --connect, --vppn and --feed say where power comes from"
            raise ConfigError(_COMMAND_LINE, f"--{name}", said)


def read_search(options: "Options", seal: "SealConfig | None") -> "Search":
    """Return how providers are looked for. Raises ConfigError, HostError."""
    from powertcp.cli.consumer_options import read
    from powertcp.dpdp.known import KeyKind, parse_key
    from powertcp.dpdp.select import DEFAULT_PREFER
    from powertcp.dpdp.trust import Level, Pin, Trust
    from powertcp.drivers.acquaintances import read_acquaintances
    from powertcp.drivers.daemon import state_folder
    from powertcp.drivers.finder import Search
    from powertcp.drivers.price import parse_price
    from powertcp.vppn.identity import Algorithm, PublicKey

    folder = Path(state_folder(os.environ, "consumer", options.state_dir))
    pins = [read("--pin", text, Pin.parse) for text in options.pin]
    if seal is not None and seal.peer is not None:
        pins.append(Pin.parse(str(PublicKey(Algorithm.X25519, seal.peer))))
    if seal is None and any(pin and pin.kind == KeyKind.X25519 for pin in pins):
        said = "a provider shows its key when power is sealed: it needs --seal"
        raise ConfigError(_COMMAND_LINE, "--pin", said)
    sites = [
        read("--site", text, lambda given: parse_key(given, KeyKind.ED25519))
        for text in options.site
    ]
    if sites and seal is None:
        said = "a provider shows its certificate when power is sealed: it needs --seal"
        raise ConfigError(_COMMAND_LINE, "--site", said)
    try:
        trust = Trust.make(
            Level(options.trust) if options.trust else None,
            [pin for pin in pins if pin],
            [site for site in sites if site],
            read_acquaintances(folder),
        )
    except ValueError as error:
        raise ConfigError(_COMMAND_LINE, "--trust", str(error)) from error
    sources = _sources("--src", options.src)
    return Search(
        trust=trust,
        folder=folder,
        seal=seal,
        max_price=read("--max-price", options.max_price, parse_price),
        sources=frozenset(sources) if sources else None,
        prefer=_sources("--prefer", options.prefer) or DEFAULT_PREFER,
        statics=tuple(_static(text, seal, trust) for text in options.static),
        interfaces=options.interface,
    )


def _sources(flag: str, text: str) -> tuple[str, ...]:
    """Return the words of a list; others than we know may be announced, too."""
    words = tuple(word.strip() for word in text.split(",")) if text else ()
    if any(not word or not word.isascii() or not word.isprintable() for word in words):
        raise ConfigError(_COMMAND_LINE, flag, f"sources, for example {SOURCES}, got {text}")
    return words


def _static(text: str, seal: "SealConfig | None", trust: "Trust") -> "Place":
    from powertcp.drivers.dial import parse_address
    from powertcp.drivers.guide import Place

    if seal is not None and seal.peer is None:
        said = "without an advert nobody knows its key: sealed power needs --peer"
        raise ConfigError(_COMMAND_LINE, "--static", said)
    try:
        proof = trust.judge_named(seal.peer if seal is not None else None)
    except ValueError as error:
        raise ConfigError(_COMMAND_LINE, "--static", str(error)) from error
    host, port = parse_address(text)
    return Place(host=host, port=port, seal=seal, proof=proof)


@asynccontextmanager
async def guided(wishes: "Wishes", search: "Search | None", say: "Say") -> "AsyncIterator[Wishes]":
    """Let a search name the provider, as long as the block lasts; None: it is named already."""
    if search is None:
        yield wishes
        return
    from dataclasses import replace

    from powertcp.drivers.finder import open_finder

    async with open_finder(search, say, os.urandom(_SEED_OCTETS)) as finder:
        yield replace(wishes, guide=finder)


def desk(consumer: "Consumer", wishes: "Wishes") -> "Desk":
    """Return who answers `powertcp status` for a consumer; of a search it tells whom it has found."""
    from powertcp.drivers.desk import Desk
    from powertcp.drivers.finder import Finder

    guide = wishes.guide
    return Desk(consumer, guide.searches.facts) if isinstance(guide, Finder) else Desk(consumer)
