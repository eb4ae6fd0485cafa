"""What `powertcp mplamps pdp` does once its words are read: configuration, and the daemon."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from powertcp.cli.config import CONFIGURATION, ServingOptions
from powertcp.cli.daemon import Command, enter_ledger, run_daemon
from powertcp.cli.topologies import load_topology
from powertcp.drivers.control import Channel, Fields, Verb
from powertcp.drivers.pdp import PdpServer
from powertcp.drivers.pdp_books import NETWORK, SUPPLIER, MarketBooks
from powertcp.drivers.pdp_desk import PdpDesk
from powertcp.drivers.pdp_lines import Kept
from powertcp.drivers.pdp_notes import counted
from powertcp.errors import ConfigError, HostError
from powertcp.ledger.book import MAX_NAME_OCTETS
from powertcp.mplamps.market import Market
from powertcp.mplamps.plans import MAX_CHARACTERS
from powertcp.mplamps.tariffs import parse_market
from powertcp.mplamps.topology import Topology

# what SIGHUP takes of the configuration
_RELOADED = ("market",)
# before the name of a customer in the name of an account
_LONGEST_KIND = len("payer:")
_EIO = 5
_log = logging.getLogger("pdp")


class PdpOptions(ServingOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of pdp.toml, beside those of every daemon; named as the flags."""

    listen: tuple[str, ...] = ()
    topology: str = ""
    market: str = ""


def police(arguments: Mapping[str, Any]) -> int:
    """Do what the words of `powertcp mplamps pdp` say; returns the exit status."""
    command = Command(
        name="pdp",
        options=PdpOptions,
        check=check_options,
        inspect=read_plans,
        serve=_Policing,
    )
    return run_daemon(command, arguments)


def check_options(options: PdpOptions) -> None:
    """Raise ConfigError for what cannot be served."""
    for name, what in (("topology", "of which network"), ("market", "by which prices")):
        if not getattr(options, name):
            raise ConfigError(CONFIGURATION, name, f"{what}? --{name} FILE")


def read_plans(options: PdpOptions) -> tuple[Topology, Market]:
    """Return the topology and the market of the files. Raises ConfigError or HostError."""
    check_options(options)
    topology = load_topology(options.topology)
    market = read_market(options.market, topology)
    if not options.listen and topology.pdp() is None:
        said = "the topology has no node of kind pdp: where? --listen ADDRESS"
        raise ConfigError(CONFIGURATION, "listen", said)
    return topology, market


def read_market(name: str, topology: Topology) -> Market:
    """Return the market of a file. Raises ConfigError or HostError."""
    try:
        with Path(name).open("rb") as file:
            text = file.read(MAX_CHARACTERS + 1).decode()
    except OSError as error:
        raise HostError(error.errno or _EIO, name, "read a market") from error
    except UnicodeDecodeError as error:
        raise ConfigError(name, "$", "it is not UTF-8") from error
    market = parse_market(text, name, topology)
    for contract in market.contracts.values():
        customer = contract.customer
        most = MAX_NAME_OCTETS - _LONGEST_KIND
        if len(customer.encode()) > most or not customer.isprintable():
            said = f"a customer has at most {most} printable octets, got {customer[:40]!r}"
            raise ConfigError(name, "customer", said)
        if customer == NETWORK or customer.startswith(SUPPLIER):
            raise ConfigError(name, "customer", f'the books call another party "{customer[:40]}"')
    return market


class _Policing:
    """What is a policeman's own of his daemon: the market, the books, the edge LSRs."""

    def __init__(self, options: PdpOptions) -> None:
        self._options = options
        topology, market = read_plans(options)
        self.server = PdpServer(topology, market)
        self.report = PdpDesk(self.server)
        self.facts: Fields = {"name": topology.name}
        self.orders: Mapping[str, Verb] = self.report.orders
        self.views: Mapping[str, Verb] = self.report.views
        self.channels: Mapping[str, Channel] = {}

    async def open(self, stack: AsyncExitStack, state: Path) -> None:
        """Open the books and go on where they end."""
        ledger = await enter_ledger(stack, state)
        kept = Kept()
        await ledger.read_events(kept.take)
        check_currency(kept, self.server.market, self._options.market)
        books = MarketBooks(ledger, self.server.market.currency, kept)
        self.server.begin(books, kept)
        await stack.enter_async_context(books.keeping())

    async def watch(self) -> None:
        """Do nothing: the wheel calls."""

    def listening(self, where: Sequence[str]) -> tuple[Fields, str]:
        """Return what to say of the addresses that are served."""
        market = self.server.police.state.market
        count, circuits = len(market.suppliers), len(self.server.police)
        sellers = counted(count, "supplier")
        said = f"listening on {', '.join(where)}, {sellers}, prices in {market.currency}"
        if circuits:
            said += f", {counted(circuits, 'circuit')} of before"
        return {"suppliers": count, "currency": market.currency, "circuits": circuits}, said

    def reload(self, options: PdpOptions) -> None:
        """Read the market again, the whole of it or nothing. Raises PowerError."""
        check_options(options)
        market = read_market(options.market, self.server.topology)
        before = self.server.police.state.market.currency
        if market.currency != before:
            said = f"prices are in {before} until a restart, not in {market.currency}"
            raise ConfigError(options.market, "currency", said)
        self.server.police.take(market, self.server.now())
        self.server.turn()
        said = f"market read again: {counted(len(market.suppliers), 'supplier')}"
        if away := self.server.police.state.withdrawn:
            said += f"; withdrawn, until --restore: {', '.join(map(str, away))}"
        _log.info("%s", said)
        old, new = msgspec.structs.asdict(self._options), msgspec.structs.asdict(options)
        if stays := [key for key in new if key not in _RELOADED and new[key] != old[key]]:
            _log.warning("settled at the start, a change needs a restart: %s", ", ".join(stays))


def check_currency(kept: Kept, market: Market, name: str) -> None:
    """Raise ConfigError for a market in another currency than the books are in."""
    if kept.currency not in ("", market.currency):
        said = f"the books are in {kept.currency}, not in {market.currency}: another --state-dir"
        raise ConfigError(name, "currency", said)
