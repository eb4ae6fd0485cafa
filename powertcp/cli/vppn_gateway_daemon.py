"""What `powertcp vppn gateway` does once its words are read: configuration, and the daemon."""

import errno
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio

import powertcp
from powertcp.cli.config import Effective, check_lines, load
from powertcp.cli.keys import identity_path, read_key
from powertcp.cli.output import Output, finish
from powertcp.cli.sealing import NO_KEM, log_keys
from powertcp.cli.status import lines
from powertcp.crypto import HAS_KEM, ExchangeKey
from powertcp.drivers.authority import AuthorityConfig, read_authority
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.control import Control, Fields, Verb
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
from powertcp.drivers.dial import format_address, listen, parse_address
from powertcp.drivers.ledger import open_ledger
from powertcp.drivers.spool import spool_streams
from powertcp.drivers.vppn_books import EmployeeBooks
from powertcp.drivers.vppn_desk import GatewayDesk
from powertcp.drivers.vppn_gateway import GatewayConfig, Upstream, VppnGateway
from powertcp.drivers.vppn_report import GatewayReport
from powertcp.errors import ConfigError, HostError, PowerError
from powertcp.registry import Reason, Refusal
from powertcp.vppn.config import SealConfig
from powertcp.vppn.identity import Algorithm, PublicKey
from powertcp.vppn.record import Privacy
from powertcp.wire.options import MAX_VIA

NAME = "gateway"
_log = logging.getLogger(NAME)
_NOT_KEYS = ("config", "check", "json", "verbose", "quiet")
_CONFIGURATION = "configuration"


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of gateway.toml, named as the flags."""

    listen: tuple[str, ...] = ("[::]:3251",)
    upstream: tuple[str, ...] = ()
    upstream_peer: str = ""
    via: tuple[str, ...] = ()
    key: str = ""
    authorized: str = ""
    krl: tuple[str, ...] = ()
    krl_fail: Literal["closed", "open"] = "closed"
    connections: int = 64
    allow_classic: bool = False
    stealth: bool = False
    privacy: Literal["police", "private"] = "police"
    keylog: str = ""
    control: str = ""
    state_dir: str = ""
    log_format: Literal["text", "json"] = "text"


def relay_power(arguments: Mapping[str, Any]) -> int:
    """Do what the words of `powertcp vppn gateway` say; returns the exit status."""
    flags = {name: value for name, value in arguments.items() if name not in _NOT_KEYS}

    def read() -> Effective[GatewayOptions]:
        return load(GatewayOptions, NAME, flags, config=arguments["config"], environ=os.environ)

    effective = read()
    options = effective.options
    gateway_config(options, os.environ)
    if arguments["check"]:
        read_authority(authority_config(options), is_start=True)
        _say_check(effective, as_json=arguments["json"])
        return 0
    spool_streams()
    level = logging.DEBUG if arguments["verbose"] else logging.INFO
    level = logging.WARNING if arguments["quiet"] else level
    set_up_logging(os.environ, level=level, form=options.log_format)
    raise_file_limit()
    settle_memory()
    trio.run(_Daemon(read, as_json=arguments["json"]).run)
    finish(sys.stdout)
    return 0


def _say_check(effective: Effective[GatewayOptions], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(check_lines(NAME, effective)))
        return
    keys = sum(origin in ("file", "environment") for origin in effective.origins.values())
    name = effective.file.name if effective.file else "command line"
    print(f"{name}: ok ({keys} keys)")


def authority_config(options: GatewayOptions) -> AuthorityConfig:
    """Return where it stands who may draw what. Raises ConfigError."""
    if not options.authorized:
        said = "who may draw what? --authorized FILE"
        raise ConfigError(_CONFIGURATION, "authorized", said)
    return AuthorityConfig(
        authorized=options.authorized,
        krls=options.krl,
        is_krl_open=options.krl_fail == "open",
    )


def gateway_config(options: GatewayOptions, environ: Mapping[str, str]) -> GatewayConfig:
    """Return what the driver needs. Raises ConfigError naming the key and what is wrong."""
    authority_config(options)
    for address in options.listen:
        parse_address(address)
    upstreams = [_upstream(text, text) for text in options.upstream]
    vias = _vias(options.via)
    if not upstreams and not vias:
        said = "whose power? --upstream HOST[:PORT], for example 10.0.0.5"
        raise ConfigError(_CONFIGURATION, "upstream", said)
    if options.connections < 1:
        said = f"at least 1 is needed, got {options.connections}"
        raise ConfigError(_CONFIGURATION, "connections", said)
    if not HAS_KEM and not options.allow_classic:
        raise ConfigError(_CONFIGURATION, "key", NO_KEM)
    path = Path(options.key) if options.key else identity_path(environ)
    key = ExchangeKey(read_key(path, Algorithm.X25519).octets)
    seal = SealConfig(
        key=key,
        allow_classic=options.allow_classic,
        stealth=options.stealth,
        privacy=Privacy(options.privacy),
    )
    upstream_seal = None
    if options.upstream_peer:
        try:
            peer = PublicKey.parse(options.upstream_peer, Algorithm.X25519)
        except ValueError as error:
            raise ConfigError(_CONFIGURATION, "upstream_peer", str(error)) from error
        upstream_seal = SealConfig(key=key, peer=peer.octets, privacy=Privacy(options.privacy))
    return GatewayConfig(
        upstreams=upstreams,
        vias=vias,
        seal=seal,
        upstream_seal=upstream_seal,
        per_address=options.connections,
    )


def _upstream(name: str, text: str) -> Upstream:
    host, port = parse_address(text)
    return Upstream(format_address(host, port) if name == text else name, host, port)


def _vias(texts: tuple[str, ...]) -> dict[str, Upstream]:
    found: dict[str, Upstream] = {}
    for text in texts:
        name, equals, address = text.partition("=")
        if not equals or not name or not name.isascii() or not name.isprintable():
            said = f'a name and an address, for example lab=10.0.0.7, got "{text}"'
            raise ConfigError(_CONFIGURATION, "via", said)
        if len(name) > MAX_VIA or " " in name or name in found:
            said = f'"{name}" stands twice' if name in found else f"a name of 1..{MAX_VIA} letters"
            raise ConfigError(_CONFIGURATION, "via", said)
        found[name] = _upstream(name, address)
    return found


class _Daemon:
    """One run of the gateway with its control socket and signals."""

    def __init__(self, read: Callable[[], Effective[GatewayOptions]], *, as_json: bool) -> None:
        self._read = read
        self._json = as_json
        self._options = read().options
        config = gateway_config(self._options, os.environ)
        self._desk = GatewayDesk(authority_config(self._options), unix_ns)
        seal = log_keys(config.seal, self._options.keylog, os.environ)
        config = replace(config, seal=seal)
        self._gateway = VppnGateway(config, self._desk)
        self._report = GatewayReport(self._gateway, self._desk)
        self._notifier = Notifier(os.environ)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until drained or told to stop."""
        listeners = activated_sockets(os.environ)
        addresses = [] if listeners else [parse_address(text) for text in self._options.listen]
        try:
            listeners += listen(addresses)
        except OSError as error:
            raise listen_error(error, ", ".join(self._options.listen)) from error
        state = state_folder(os.environ, NAME, self._options.state_dir)
        path = Path(self._options.control) if self._options.control else (
            runtime_folder(os.environ, state) / f"{NAME}-{os.getpid()}.sock"
        )  # fmt: skip
        if not self._options.control:
            make_private(path.parent)
        with trio.open_signal_receiver(
            signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1
        ) as signals:
            async with AsyncExitStack() as stack:
                await self._keep_books(stack, state)
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    guarded = frozenset(("reload", "drain"))
                    control = Control(self._greeting(), self._verbs(), guarded=guarded)
                    await nursery.start(control.serve, path)
                    nursery.start_soon(self._heed, signals)
                    nursery.start_soon(self._notifier.watch)
                    nursery.start_soon(self._desk.run)
                    await self._serve(nursery, listeners)
                    nursery.cancel_scope.cancel()
        self._notifier.send(STOPPING=1)

    async def _keep_books(self, stack: AsyncExitStack, state: Path) -> None:
        """Open the ledger, in which employees have their accounts."""
        try:
            ledger = await stack.enter_async_context(
                open_ledger(state, os.urandom, unix_ns=unix_ns)
            )
        except HostError as error:
            if error.errno != errno.EAGAIN:
                raise
            said = f"{error}; give this one another --state-dir"
            raise ConfigError(_CONFIGURATION, "state_dir", said) from error
        books = EmployeeBooks(ledger, unix_ns)
        books.on_failure = self._stuck
        await stack.enter_async_context(books.keeping())
        self._desk.books = books

    def _stuck(self) -> None:
        """The ledger cannot be written any more."""
        self._desk.end_all(Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written"))

    async def _serve(self, nursery: trio.Nursery, listeners: list[socket.socket]) -> None:
        done = trio.Event()

        async def serve(
            *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
        ) -> None:
            await self._gateway.serve(listeners, task_status=task_status)
            done.set()

        where: list[str] = await nursery.start(serve)
        config = self._gateway.config
        inside = [*(one.name for one in config.upstreams), *config.vias]
        if self._json:
            said = json.dumps({"event": "listening", "addresses": where, "upstreams": inside})
        else:
            said = f"listening on {', '.join(where)}, power from {', '.join(inside)}"
        Output(sys.stdout).write(f"{said}\n")
        self._notifier.send(READY=1, STATUS=self._report.line())
        await done.wait()

    def _greeting(self) -> Fields:
        return {
            "powertcp": 1, "role": NAME, "pid": os.getpid(), "version": powertcp.__version__,
        }  # fmt: skip

    def _verbs(self) -> dict[str, Verb]:
        return {
            "status": self._report.status,
            "explain": self._report.explain,
            "reload": self._on_reload,
            "drain": self._on_drain,
        }

    async def _on_reload(self, _: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        return {"reloaded": self._reload()}

    async def _on_drain(self, _: Mapping[str, object]) -> Fields | Refusal:
        await trio.lowlevel.checkpoint()
        self._drain()
        return {"state": "draining"}

    def _drain(self) -> None:
        if self._nursery is not None and not self._gateway.draining:
            self._notifier.send(STOPPING=1)
            self._nursery.start_soon(self._gateway.drain)

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        """Act on signals: drain, at once the second time; reload; a status line."""
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR1:
                await self._log_status()
            elif self._gateway.draining:
                self._gateway.stop()
            else:
                self._drain()

    async def _log_status(self) -> None:
        """Log what `powertcp status --flows` shows of us."""
        status = await self._report.status({"flows": True})
        if isinstance(status, dict):
            for line in lines(self._greeting(), status):
                _log.info("status: %s", line)

    def _reload(self) -> bool:
        """Read who may draw what again: the whole of it valid, or the old one stays."""
        self._notifier.reloading()
        try:
            # VPPN-5-03
            options = self._read().options
            self._desk.take(read_authority(authority_config(options), is_start=False))
        except PowerError as error:
            _log.warning("configuration kept: %s", error)
            return False
        finally:
            self._notifier.send(READY=1, STATUS=self._report.line())
        return True
