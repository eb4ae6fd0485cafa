"""What `powertcp provider` does once its words are read: configuration, and the daemon."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from powertcp.cli.config import CONFIGURATION, ProviderOptions
from powertcp.cli.daemon import Command, enter_ledger, reader, run_daemon
from powertcp.cli.hotspot import check_hotspot_stays, hotspot_config
from powertcp.cli.sealing import log_keys, provider_seal
from powertcp.dpdp.leases import GUEST
from powertcp.drivers.authority import Authority, AuthorityConfig, read_authority
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.control import Channel, Fields, Verb, ask, find_sockets
from powertcp.drivers.daemon import make_private, state_folder
from powertcp.drivers.dial import format_address, parse_address
from powertcp.drivers.feed import FeedConfig
from powertcp.drivers.feed_books import open_station
from powertcp.drivers.gatekeeper import Gatekeeper
from powertcp.drivers.groups import FEED_GROUPS, find_interface, parse_group
from powertcp.drivers.hotspot import open_hotspot
from powertcp.drivers.ledger import Ledger
from powertcp.drivers.offers import Identity, identity_octets
from powertcp.drivers.presence import Presence
from powertcp.drivers.provider import Provider, ProviderConfig, total_mw
from powertcp.drivers.provider_books import ProviderBooks
from powertcp.drivers.realm import open_realm
from powertcp.drivers.realm_file import Realm, read_realm
from powertcp.drivers.report import ProviderReport
from powertcp.drivers.sealing import sealed_limits
from powertcp.drivers.tracer import open_tracer
from powertcp.errors import ConfigError
from powertcp.ledger import MAX_AMOUNT
from powertcp.ledger.tariff import MAX_DOCUMENT_OCTETS, TariffDocument, parse_tariff
from powertcp.potcp import ConnectionConfig, TicketOffice
from powertcp.potcp.config import BOUNDS
from powertcp.sources import Supply, make_source, parse_supply
from powertcp.units import NS_PER_S, format_duration, format_energy, format_power
from powertcp.vppn.access import OverLimit

_log = logging.getLogger("provider")


def provide(arguments: Mapping[str, Any]) -> int:
    """Do what the words of `powertcp provider` say; returns the exit status."""
    command = Command(
        name="provider",
        options=ProviderOptions,
        check=provider_config,
        inspect=_inspect,
        serve=_Provided,
    )
    if arguments["drain"]:
        return _drain(reader(command, arguments)().options.control)
    return run_daemon(command, arguments)


def _inspect(options: ProviderOptions) -> None:
    read_who_may_draw(options, is_start=True)
    provider_seal(options, os.environ)
    realm_of(options)


def provider_config(options: ProviderOptions) -> ProviderConfig:
    """Return what the driver needs. Raises ConfigError naming the key and what is wrong."""
    supplies: list[Supply] = []
    for text in options.supply:
        try:
            supplies.append(parse_supply(text))
        except ValueError as error:
            raise ConfigError(CONFIGURATION, "supply", str(error)) from error
    feed = feed_config(options)
    if not supplies and feed is None:
        raise ConfigError(CONFIGURATION, "supply", "nothing to offer: --supply 12V/5A, for example")
    lease_s, rest = divmod(options.lease, NS_PER_S)
    if rest:
        raise ConfigError(CONFIGURATION, "lease", "a lease is in whole seconds")
    # PTCP-14-01
    for name, given, (least, most) in (
        (
            "lease",
            options.lease,
            (BOUNDS["lease_s"][0] * NS_PER_S, BOUNDS["lease_s"][1] * NS_PER_S),
        ),
        ("grace", options.grace, BOUNDS["grace_ns"]),
    ):
        if not least <= given <= most:
            said = (
                f"{format_duration(least)}..{format_duration(most)}, got {format_duration(given)}"
            )
            raise ConfigError(CONFIGURATION, name, said)
    if options.ramp is not None and options.ramp < 1:
        raise ConfigError(CONFIGURATION, "ramp", "more than 0 W in a second is needed")
    if not 1 <= options.best_priority <= 15:
        said = f"a priority is 1..15, got {options.best_priority}"
        raise ConfigError(CONFIGURATION, "best_priority", said)
    check_books(options)
    authority_config(options)
    hotspot_config(options)
    connection = ConnectionConfig(lease_s=lease_s, grace_ns=int(options.grace))
    if options.seal != "off":
        connection = sealed_limits(connection)
    return ProviderConfig(
        supplies=supplies,
        rating_mw=rating_for_flows_mw(options, supplies, feed),
        name=options.name,
        ramp_mw_per_s=None if options.ramp is None else int(options.ramp),
        per_peer_mw=None if options.per_peer is None else int(options.per_peer),
        per_address=options.connections,
        best_priority=options.best_priority,
        seed=options.seed,
        connection=connection,
        source=make_source(options.source),
    )


def check_books(options: ProviderOptions) -> None:
    """Raise ConfigError for prices and limits that no ledger could keep."""
    read_tariff(options.tariff)
    # LEDG-7-03
    if options.quota is not None and not 1 <= options.quota <= MAX_AMOUNT:
        said = f"an account holds 1 uJ..{format_energy(MAX_AMOUNT)}"
        raise ConfigError(CONFIGURATION, "quota", said)
    if not options.ledger and (
        options.tariff or options.require_receipts or options.quota or options.feed
    ):
        raise ConfigError(CONFIGURATION, "ledger", "receipts, prices, quotas and feeds need one")


def authority_config(options: ProviderOptions) -> AuthorityConfig | None:
    """Return where it stands who may draw what, None: anybody may. Raises ConfigError."""
    if not options.authorized:
        for name, given in (("krl", options.krl), ("over_limit", options.over_limit == "offer")):
            if given:
                said = "it is about --authorized FILE, which is not given"
                raise ConfigError(CONFIGURATION, name, said)
        return None
    tariff = read_tariff(options.tariff)
    return AuthorityConfig(
        authorized=options.authorized,
        krls=options.krl,
        is_krl_open=options.krl_fail == "open",
        over=OverLimit(options.over_limit),
        tariff=tariff.name if tariff else "",
        has_ledger=options.ledger,
    )


def read_who_may_draw(options: ProviderOptions, *, is_start: bool) -> Authority | None:
    """Return who may draw what, None: anybody may. Raises ConfigError naming what is wrong."""
    config = authority_config(options)
    return read_authority(config, is_start=is_start) if config is not None else None


def check_seal_stays(before: ProviderOptions, now: ProviderOptions) -> None:
    """Raise ConfigError for another way of sealing: it is settled at the start."""
    for name in ("seal", "stealth", "key", "allow_classic", "privacy", "keylog"):
        if getattr(before, name) != getattr(now, name):
            raise ConfigError(CONFIGURATION, name, "how power is sealed is settled at the start")


# DPDP-10-05
def realm_of(options: ProviderOptions) -> tuple[Realm, int] | None:
    """Return the realm and which of its members this is, None without one. Raises ConfigError."""
    if not options.realm:
        if options.member:
            said = "it is one of --realm FILE, which is not given"
            raise ConfigError(CONFIGURATION, "member", said)
        return None
    realm = read_realm(options.realm)
    if not options.ledger:
        raise ConfigError(CONFIGURATION, "ledger", "a realm needs one: its receipts go on")
    if not options.member:
        said = ", ".join(format_address(*each) for each in realm.members)
        raise ConfigError(CONFIGURATION, "member", f"which of {said} is this?")
    return realm, realm.number_of(options.member)


def office_of(realm: tuple[Realm, int]) -> TicketOffice:
    """Return who gives tickets that all of the realm honour."""
    return TicketOffice(os.urandom, key=realm[0].ticket_key, member=realm[1])


def check_realm_stays(before: ProviderOptions, now: ProviderOptions) -> None:
    """Raise ConfigError for another realm: it is settled at the start."""
    for name in ("realm", "member"):
        if getattr(before, name) != getattr(now, name):
            raise ConfigError(CONFIGURATION, name, "it is settled at the start")


def read_tariff(path: str) -> TariffDocument | None:
    """Read a tariff document, None without one. Raises ConfigError naming what is wrong."""
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            octets = file.read(MAX_DOCUMENT_OCTETS + 1)
    except OSError as error:
        raise ConfigError(path, "$", error.strerror or str(error)) from error
    return parse_tariff(octets, path)


def rating_for_flows_mw(
    options: ProviderOptions, supplies: list[Supply], feed: FeedConfig | None
) -> int:
    """Return what flows may have: of a rating that was given, what the feed leaves."""
    if options.rating is None:
        return total_mw(supplies)
    held_mw = feed.profile.power_mw if feed is not None else 0
    # PTCP-12-03: nobody asks for what is broadcast, so it is held from the start
    if held_mw > options.rating:
        said = f"a feed of {format_power(held_mw)} is above the rating"
        raise ConfigError(CONFIGURATION, "feed", said)
    return int(options.rating) - held_mw


def feed_config(options: ProviderOptions) -> FeedConfig | None:
    """Return what is broadcast, None for nothing. Raises ConfigError naming what is wrong."""
    if not options.feed:
        return None
    try:
        profile = parse_supply(options.feed).profile
    except ValueError as error:
        raise ConfigError(CONFIGURATION, "feed", str(error)) from error
    if not 1 <= options.ttl <= 255:
        said = f"multicast passes 1..255 routers, got {options.ttl}"
        raise ConfigError(CONFIGURATION, "ttl", said)
    find_interface(options.feed_interface)
    return FeedConfig(
        profile=profile,
        groups=tuple(parse_group(text) for text in options.feed_to) or FEED_GROUPS,
        interface=options.feed_interface,
        ttl=options.ttl,
        source=make_source(options.source),
    )


def _drain(control: str) -> int:
    """Tell the running provider to drain: the named one, or the only one there is."""
    state = state_folder(os.environ, "provider")
    paths = [Path(control)] if control else [
        path for path in find_sockets(os.environ, state) if path.name.startswith("provider")
    ]  # fmt: skip
    told = 0
    for path in paths:
        try:
            _, answer = ask(path, {"op": "drain"})
        except OSError:
            continue
        if "ok" not in answer:
            print(f"powertcp provider: {path}: {answer.get('refusal')}", file=sys.stderr)
            return 1
        told += 1
    if not told:
        print("powertcp provider: no running provider answers", file=sys.stderr)
        return 3
    return 0


class _Provided:
    """What is a provider's own of its daemon: who may draw, how it is sealed, books, a feed."""

    def __init__(self, options: ProviderOptions) -> None:
        self._options = options
        self._tracer = open_tracer(options.trace)
        self._realm = realm_of(options)
        self.server = Provider(
            provider_config(options),
            tracer=self._tracer,
            office=office_of(self._realm) if self._realm else None,
        )
        authority = authority_config(options)
        self._gate = Gatekeeper(authority, self.server.admissions, unix_ns) if authority else None
        self._seal = seal = provider_seal(options, os.environ)
        self._presence: Presence | None = None
        self._is_served = trio.Event()
        if seal is not None:
            config = log_keys(seal[0], options.keylog, os.environ)
            self.server.seal(config, is_required=seal[1])
            if authority is None:
                _log.warning("sealed power for whoever knows our key: there is no --authorized")
        self.report = ProviderReport(self.server)
        self.facts: Fields = {"name": options.name}
        self.orders = {"set": self.report.set}
        self.views: Mapping[str, Verb] = {}
        self.channels: Mapping[str, Channel] = {}

    async def open(self, stack: AsyncExitStack, state: Path) -> None:
        """Open books and feed, and let nobody draw who may not."""
        if self._tracer is not None:
            stack.callback(self._tracer.close)
        ledger = await self._keep_books(stack, state) if self._options.ledger else None
        if self._gate is not None:
            await self.server.admissions.guard(self._gate)
        if ledger is not None:
            await self._broadcast(stack, state, ledger)
        await self._forward(stack)
        self._introduce(state, ledger)
        if self._realm is not None:
            opened = open_realm(*self._realm, self.server)
            self.report.realm = await stack.enter_async_context(opened)

    def _introduce(self, state: Path, ledger: Ledger | None) -> None:
        """Settle what is told to the link: who hides from strangers tells nothing."""
        options = self._options
        if options.stealth or not (options.mdns or ledger):
            return
        if ledger is None:
            make_private(state)
        key = ledger.meter if ledger else None
        secret = self._seal[0].key if self._seal else None
        hotspot = self.server.hotspot
        identity = Identity(
            id=identity_octets(state, key),
            key=key,
            exchange_key=secret.public if secret else None,
            seal=options.seal if secret else None,
            hot=options.hotspot if hotspot is not None and hotspot.is_forwarding else "",
        )
        self._presence = Presence(self.server, identity, options.name)
        self.report.adverts = self._presence.adverts
        if options.mdns:
            self.server.farewell = self._presence.withdraw

    async def _keep_books(self, stack: AsyncExitStack, state: Path) -> Ledger:
        """Open the ledger, and let the provider write down what it delivers."""
        meter = self._realm[0].meter_seed if self._realm else None
        ledger = await enter_ledger(stack, state, ", or --no-ledger", meter=meter)
        books = ProviderBooks(
            ledger,
            tariff=read_tariff(self._options.tariff),
            requires_receipts=self._options.require_receipts,
            quota_uj=self._options.quota,
        )
        await stack.enter_async_context(books.keeping())
        self.server.keep_books(books)
        return ledger

    async def _broadcast(self, stack: AsyncExitStack, state: Path, ledger: Ledger) -> None:
        """Give the provider its feed, if there is one, with a ledger of what it emits."""
        config = feed_config(self._options)
        if config is not None:
            opened = open_station(config, self.server.wheel, ledger, state)
            self.server.station = await stack.enter_async_context(opened)

    async def _forward(self, stack: AsyncExitStack) -> None:
        """Let the provider forward whoever holds a lease, if it is a hot spot."""
        config = hotspot_config(self._options)
        if config is None:
            return
        if config.kind == GUEST and not self._options.authorized:
            _log.warning("a hot spot without --authorized: guests have all they ask for")
        self.server.hotspot = await stack.enter_async_context(open_hotspot(config))

    async def watch(self) -> None:
        """Look whose time is over, forward who has power, and announce what is offered."""
        async with trio.open_nursery() as nursery:
            if self.server.hotspot is not None:
                nursery.start_soon(self.server.hotspot.run)
            if self._gate is not None:
                nursery.start_soon(self._gate.watch)
            await self._is_served.wait()
            if self._presence is not None and self._options.mdns:
                await self._presence.run()

    def listening(self, where: Sequence[str]) -> tuple[Fields, str]:
        """Return what to say of the addresses that are served."""
        if self._presence is not None:
            self._presence.listening([parse_address(text) for text in where])
        self._is_served.set()
        config, station = self.server.config, self.server.station
        facts: Fields = {"rating_mw": config.rating_mw}
        if station is not None:
            facts["feed"] = station.source.feed.feed_id.hex()
        hotspot = self.server.hotspot
        if hotspot is not None:
            facts["hotspot"] = hotspot.facts()
        name = f' as "{config.name}"' if config.name else ""
        rating = format_power(config.rating_mw)
        more = self._on_air() + (f", {hotspot.line()}" if hotspot is not None else "")
        return facts, f"listening on {', '.join(where)}{name}, rating {rating}{more}"

    def _on_air(self) -> str:
        """Return what is broadcast, for people."""
        station = self.server.station
        if station is None:
            return ""
        feed, groups = station.source.feed, station.sender.groups if station.sender else []
        where = ", ".join([*groups, "TCP"])
        return f", feed {feed.feed_id.hex()} of {station.source.profile.format()} to {where}"

    def reload(self, options: ProviderOptions) -> None:
        """Go by other options, except for what is settled at the start. Raises PowerError."""
        config = provider_config(options)
        # VPPN-5-03
        authority = read_who_may_draw(options, is_start=False)
        if (authority is None) != (self._gate is None):
            said = "whether a file says who may draw is settled at the start"
            raise ConfigError(CONFIGURATION, "authorized", said)
        check_seal_stays(self._options, options)
        check_hotspot_stays(self._options, options)
        check_realm_stays(self._options, options)
        self._reprice(read_tariff(options.tariff))
        self._limit(options)
        self.server.reload(config)
        if self._gate is not None and authority is not None:
            self._gate.take(authority)

    def _reprice(self, document: TariffDocument | None) -> None:
        """Go by another price list; whether there are prices at all is settled at the start."""
        books = self.server.admissions.billing.books
        if document is not None and books is not None and books.pricing is not None:
            books.pricing.replace(document)

    def _limit(self, options: ProviderOptions) -> None:
        """Go by another quota, and require receipts or not. Raises ConfigError without a ledger."""
        books = self.server.admissions.billing.books
        if books is not None:
            books.limit(requires_receipts=options.require_receipts, quota_uj=options.quota)
        elif options.require_receipts or options.quota is not None:
            said = "receipts and quotas need one, and it is opened at the start only"
            raise ConfigError(CONFIGURATION, "ledger", said)
