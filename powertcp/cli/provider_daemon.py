"""What `powertcp provider` does once its words are read: configuration, and the daemon."""

import errno
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

import powertcp
from powertcp.cli.config import Effective, ProviderOptions, check_lines, load
from powertcp.cli.output import Output, finish
from powertcp.cli.sealing import log_keys, provider_seal
from powertcp.cli.status import lines
from powertcp.drivers.authority import Authority, AuthorityConfig, read_authority
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.control import Control, Fields, Verb, ask, find_sockets
from powertcp.drivers.daemon import (
    Notifier,
    activated_sockets,
    listen_error,
    make_private,
    raise_file_limit,
    runtime_folder,
    set_up_logging,
    settle_memory,
    state_folder,
)
from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.feed import FeedConfig
from powertcp.drivers.feed_books import open_station
from powertcp.drivers.gatekeeper import Gatekeeper
from powertcp.drivers.groups import FEED_GROUPS, find_interface, parse_group
from powertcp.drivers.ledger import Ledger, open_ledger
from powertcp.drivers.provider import Provider, ProviderConfig, total_mw
from powertcp.drivers.provider_books import ProviderBooks
from powertcp.drivers.report import ProviderReport
from powertcp.drivers.sealing import sealed_limits
from powertcp.drivers.spool import spool_streams
from powertcp.drivers.tracer import open_tracer
from powertcp.errors import ConfigError, HostError, PowerError
from powertcp.ledger import MAX_AMOUNT
from powertcp.ledger.tariff import MAX_DOCUMENT_OCTETS, TariffDocument, parse_tariff
from powertcp.potcp import ConnectionConfig
from powertcp.potcp.config import BOUNDS
from powertcp.registry import Refusal
from powertcp.sources import Supply, make_source, parse_supply
from powertcp.units import NS_PER_S, format_duration, format_energy, format_power
from powertcp.vppn.access import OverLimit

_log = logging.getLogger("provider")

_NOT_KEYS = ("config", "check", "drain", "json", "verbose", "quiet")


def provide(arguments: Mapping[str, Any]) -> int:
    """Do what the words of `powertcp provider` say; returns the exit status."""
    flags = {name: value for name, value in arguments.items() if name not in _NOT_KEYS}

    def read() -> Effective[ProviderOptions]:
        return load(
            ProviderOptions, "provider", flags, config=arguments["config"], environ=os.environ
        )

    if arguments["drain"]:
        return _drain(read().options.control)
    effective = read()
    provider_config(effective.options)
    if arguments["check"]:
        read_who_may_draw(effective.options, is_start=True)
        provider_seal(effective.options, os.environ)
        _say_check(effective, as_json=arguments["json"])
        return 0
    spool_streams()
    level = logging.DEBUG if arguments["verbose"] else logging.INFO
    level = logging.WARNING if arguments["quiet"] else level
    set_up_logging(os.environ, level=level, form=effective.options.log_format)
    raise_file_limit()
    settle_memory()
    trio.run(_Daemon(read, as_json=arguments["json"]).run)
    finish(sys.stdout)
    return 0


def _say_check(effective: Effective[ProviderOptions], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(check_lines("provider", effective)))
        return
    keys = sum(origin in ("file", "environment") for origin in effective.origins.values())
    name = effective.file.name if effective.file else "command line"
    print(f"{name}: ok ({keys} keys)")


def provider_config(options: ProviderOptions) -> ProviderConfig:
    """Return what the driver needs. Raises ConfigError naming the key and what is wrong."""
    supplies: list[Supply] = []
    for text in options.supply:
        try:
            supplies.append(parse_supply(text))
        except ValueError as error:
            raise ConfigError("configuration", "supply", str(error)) from error
    feed = feed_config(options)
    if not supplies and feed is None:
        raise ConfigError(
            "configuration", "supply", "nothing to offer: --supply 12V/5A, for example"
        )
    for address in options.listen:
        parse_address(address)
    lease_s, rest = divmod(options.lease, NS_PER_S)
    if rest:
        raise ConfigError("configuration", "lease", "a lease is in whole seconds")
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
            raise ConfigError("configuration", name, said)
    if options.connections < 1:
        said = f"at least 1 is needed, got {options.connections}"
        raise ConfigError("configuration", "connections", said)
    if options.ramp is not None and options.ramp < 1:
        raise ConfigError("configuration", "ramp", "more than 0 W in a second is needed")
    if not 1 <= options.best_priority <= 15:
        said = f"a priority is 1..15, got {options.best_priority}"
        raise ConfigError("configuration", "best_priority", said)
    check_books(options)
    authority_config(options)
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
        raise ConfigError("configuration", "quota", said)
    if not options.ledger and (
        options.tariff or options.require_receipts or options.quota or options.feed
    ):
        raise ConfigError("configuration", "ledger", "receipts, prices, quotas and feeds need one")


def authority_config(options: ProviderOptions) -> AuthorityConfig | None:
    """Return where it stands who may draw what, None: anybody may. Raises ConfigError."""
    if not options.authorized:
        for name, given in (("krl", options.krl), ("over_limit", options.over_limit == "offer")):
            if given:
                said = "it is about --authorized FILE, which is not given"
                raise ConfigError("configuration", name, said)
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
            raise ConfigError("configuration", name, "how power is sealed is settled at the start")


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
        raise ConfigError("configuration", "feed", said)
    return int(options.rating) - held_mw


def feed_config(options: ProviderOptions) -> FeedConfig | None:
    """Return what is broadcast, None for nothing. Raises ConfigError naming what is wrong."""
    if not options.feed:
        return None
    try:
        profile = parse_supply(options.feed).profile
    except ValueError as error:
        raise ConfigError("configuration", "feed", str(error)) from error
    if not 1 <= options.ttl <= 255:
        said = f"multicast passes 1..255 routers, got {options.ttl}"
        raise ConfigError("configuration", "ttl", said)
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


class _Daemon:
    """One run of the provider with its control socket and signals."""

    def __init__(self, read: Callable[[], Effective[ProviderOptions]], *, as_json: bool) -> None:
        self._read = read
        self._json = as_json
        self._options = read().options
        self._tracer = open_tracer(self._options.trace)
        self._provider = Provider(provider_config(self._options), tracer=self._tracer)
        authority = authority_config(self._options)
        self._gate = (
            Gatekeeper(authority, self._provider.admissions, unix_ns) if authority else None
        )
        if (seal := provider_seal(self._options, os.environ)) is not None:
            config = log_keys(seal[0], self._options.keylog, os.environ)
            self._provider.seal(config, is_required=seal[1])
            if authority is None:
                _log.warning("sealed power for whoever knows our key: there is no --authorized")
        self._report = ProviderReport(self._provider)
        self._notifier = Notifier(os.environ)
        self._ledger: Ledger | None = None
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until drained or told to stop."""
        listeners = activated_sockets(os.environ)
        addresses = [] if listeners else [parse_address(text) for text in self._options.listen]
        try:
            listeners += listen(addresses)
        except OSError as error:
            raise listen_error(error, ", ".join(self._options.listen)) from error
        state = state_folder(os.environ, "provider", self._options.state_dir)
        path = Path(self._options.control) if self._options.control else (
            runtime_folder(os.environ, state) / f"provider-{os.getpid()}.sock"
        )  # fmt: skip
        if not self._options.control:
            make_private(path.parent)
        with trio.open_signal_receiver(
            signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1
        ) as signals:
            async with AsyncExitStack() as stack:
                await self._keep_books(stack, state)
                if self._gate is not None:
                    await self._provider.admissions.guard(self._gate)
                await self._broadcast(stack, state)
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    verbs, guarded = self._verbs(), frozenset(("set", "reload", "drain"))
                    control = Control(self._greeting(), verbs, guarded=guarded)
                    await nursery.start(control.serve, path)
                    nursery.start_soon(self._heed, signals)
                    nursery.start_soon(self._notifier.watch)
                    if self._gate is not None:
                        nursery.start_soon(self._gate.watch)
                    await self._serve(nursery, listeners)
                    nursery.cancel_scope.cancel()
        self._notifier.send(STOPPING=1)
        if self._tracer is not None:
            self._tracer.close()

    async def _keep_books(self, stack: AsyncExitStack, state: Path) -> None:
        """Open the ledger, and let the provider write down what it delivers."""
        if not self._options.ledger:
            return
        try:
            self._ledger = await stack.enter_async_context(
                open_ledger(state, os.urandom, unix_ns=unix_ns)
            )
        except HostError as error:
            if error.errno != errno.EAGAIN:
                raise
            said = f"{error}; give this one another --state-dir, or --no-ledger"
            raise ConfigError("configuration", "state_dir", said) from error
        books = ProviderBooks(
            self._ledger,
            tariff=read_tariff(self._options.tariff),
            requires_receipts=self._options.require_receipts,
            quota_uj=self._options.quota,
        )
        await stack.enter_async_context(books.keeping())
        self._provider.keep_books(books)

    async def _broadcast(self, stack: AsyncExitStack, state: Path) -> None:
        """Give the provider its feed, if there is one, with a ledger of what it emits."""
        config, ledger = feed_config(self._options), self._ledger
        if config is None or ledger is None:
            return
        wheel = self._provider.wheel
        opened = open_station(config, wheel, ledger, state)
        self._provider.station = await stack.enter_async_context(opened)

    async def _serve(self, nursery: trio.Nursery, listeners: list[socket.socket]) -> None:
        done = trio.Event()

        async def serve(
            *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
        ) -> None:
            await self._provider.serve(listeners, task_status=task_status)
            done.set()

        where: list[str] = await nursery.start(serve)
        config = self._provider.config
        rating = format_power(config.rating_mw)
        name = f' as "{config.name}"' if config.name else ""
        if self._json:
            facts = {"event": "listening", "addresses": where, "rating_mw": config.rating_mw}
            if self._provider.station is not None:
                facts["feed"] = self._provider.station.source.feed.feed_id.hex()
            said = json.dumps(facts)
        else:
            said = f"listening on {', '.join(where)}{name}, rating {rating}{self._on_air()}"
        Output(sys.stdout).write(f"{said}\n")
        self._notifier.send(READY=1, STATUS=self._report.line())
        await done.wait()

    def _on_air(self) -> str:
        """Return what is broadcast, for people."""
        station = self._provider.station
        if station is None:
            return ""
        feed, groups = station.source.feed, station.sender.groups if station.sender else []
        where = ", ".join([*groups, "TCP"])
        return f", feed {feed.feed_id.hex()} of {station.source.profile.format()} to {where}"

    def _greeting(self) -> Fields:
        return {
            "powertcp": 1, "role": "provider", "name": self._options.name, "pid": os.getpid(),
            "version": powertcp.__version__,
        }  # fmt: skip

    def _verbs(self) -> dict[str, Verb]:
        return {
            "status": self._report.status,
            "explain": self._report.explain,
            "set": self._report.set,
            "reload": self._on_reload,
            "drain": self._on_drain,
        }

    async def _on_reload(self, _: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        return {"reloaded": self._reload()}

    async def _on_drain(self, _: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        if self._nursery is not None:
            self._nursery.start_soon(self._provider.drain)
        return {"state": "draining"}

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        """Act on signals: drain, at once the second time; reload; a status line."""
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR1:
                await self._log_status()
            elif self._provider.admissions.draining:
                self._provider.stop()
            elif self._nursery is not None:
                self._notifier.send(STOPPING=1)
                self._nursery.start_soon(self._provider.drain)

    async def _log_status(self) -> None:
        """Log what `powertcp status --flows` shows of us."""
        status = await self._report.status({"flows": True})
        if isinstance(status, dict):
            for line in lines(self._greeting(), status):
                _log.info("status: %s", line)

    def _reprice(self, document: TariffDocument | None) -> None:
        """Go by another price list; whether there are prices at all is settled at the start."""
        books = self._provider.admissions.billing.books
        if document is not None and books is not None and books.pricing is not None:
            books.pricing.replace(document)

    def _limit(self, options: ProviderOptions) -> None:
        """Go by another quota, and require receipts or not. Raises ConfigError without a ledger."""
        books = self._provider.admissions.billing.books
        if books is not None:
            books.limit(requires_receipts=options.require_receipts, quota_uj=options.quota)
        elif options.require_receipts or options.quota is not None:
            said = "receipts and quotas need one, and it is opened at the start only"
            raise ConfigError("configuration", "ledger", said)

    def _reload(self) -> bool:
        """Read the configuration again: the whole of it valid, or the old one stays."""
        self._notifier.reloading()
        try:
            options = self._read().options
            config = provider_config(options)
            # VPPN-5-03
            authority = read_who_may_draw(options, is_start=False)
            if (authority is None) != (self._gate is None):
                said = "whether a file says who may draw is settled at the start"
                raise ConfigError("configuration", "authorized", said)
            check_seal_stays(self._options, options)
            self._reprice(read_tariff(options.tariff))
            self._limit(options)
            self._provider.reload(config)
            if self._gate is not None and authority is not None:
                self._gate.take(authority)
        except PowerError as error:
            _log.warning("configuration kept: %s", error)
            return False
        finally:
            self._notifier.send(READY=1, STATUS=self._report.line())
        return True
