"""What `powertcp vppn gateway` does once its words are read: configuration, and the daemon."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from powertcp.cli.config import CONFIGURATION, DaemonOptions
from powertcp.cli.daemon import Command, enter_ledger, run_daemon
from powertcp.cli.sealing import daemon_seal, log_keys
from powertcp.drivers.authority import AuthorityConfig, read_authority
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.control import Channel, Fields, Verb
from powertcp.drivers.dial import format_address, parse_address
from powertcp.drivers.tracer import open_tracer
from powertcp.drivers.vppn_books import EmployeeBooks
from powertcp.drivers.vppn_desk import GatewayDesk
from powertcp.drivers.vppn_gateway import GatewayConfig, Upstream, VppnGateway
from powertcp.drivers.vppn_report import GatewayReport
from powertcp.errors import ConfigError
from powertcp.registry import Reason, Refusal
from powertcp.vppn.config import SealConfig
from powertcp.vppn.identity import Algorithm, PublicKey
from powertcp.wire.options import MAX_VIA

# what SIGHUP takes of the configuration
_RELOADED = ("authorized", "krl", "krl_fail", "upstream", "upstream_peer", "via")
_log = logging.getLogger("gateway")


class GatewayOptions(DaemonOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of gateway.toml, beside those of every daemon; named as the flags."""

    upstream: tuple[str, ...] = ()
    upstream_peer: str = ""
    via: tuple[str, ...] = ()


def relay_power(arguments: Mapping[str, Any]) -> int:
    """Do what the words of `powertcp vppn gateway` say; returns the exit status."""
    command = Command(
        name="gateway",
        options=GatewayOptions,
        check=lambda options: gateway_config(options, os.environ),
        inspect=lambda options: read_authority(authority_config(options), is_start=True),
        serve=_Relayed,
    )
    return run_daemon(command, arguments)


def authority_config(options: GatewayOptions) -> AuthorityConfig:
    """Return where it stands who may draw what. Raises ConfigError."""
    if not options.authorized:
        said = "who may draw what? --authorized FILE"
        raise ConfigError(CONFIGURATION, "authorized", said)
    return AuthorityConfig(
        authorized=options.authorized,
        krls=options.krl,
        is_krl_open=options.krl_fail == "open",
    )


def gateway_config(options: GatewayOptions, environ: Mapping[str, str]) -> GatewayConfig:
    """Return what the driver needs. Raises ConfigError naming the key and what is wrong."""
    authority_config(options)
    upstreams = [_upstream(text, text) for text in options.upstream]
    vias = _vias(options.via)
    if not upstreams and not vias:
        said = "whose power? --upstream HOST[:PORT], for example 10.0.0.5"
        raise ConfigError(CONFIGURATION, "upstream", said)
    seal = daemon_seal(options, environ)
    upstream_seal = None
    if options.upstream_peer:
        try:
            peer = PublicKey.parse(options.upstream_peer, Algorithm.X25519)
        except ValueError as error:
            raise ConfigError(CONFIGURATION, "upstream_peer", str(error)) from error
        upstream_seal = SealConfig(key=seal.key, peer=peer.octets, privacy=seal.privacy)
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
            raise ConfigError(CONFIGURATION, "via", said)
        if len(name) > MAX_VIA or " " in name or name in found:
            said = f'"{name}" stands twice' if name in found else f"a name of 1..{MAX_VIA} letters"
            raise ConfigError(CONFIGURATION, "via", said)
        found[name] = _upstream(name, address)
    return found


class _Relayed:
    """What is a gateway's own of its daemon: upstreams, who may draw, accounts of employees."""

    def __init__(self, options: GatewayOptions) -> None:
        config = gateway_config(options, os.environ)
        self._options = options
        self._desk = GatewayDesk(authority_config(options), unix_ns)
        seal = log_keys(config.seal, options.keylog, os.environ)
        self._tracer = open_tracer(options.trace)
        self.server = VppnGateway(replace(config, seal=seal), self._desk, tracer=self._tracer)
        self.report = GatewayReport(self.server, self._desk)
        self.facts: Fields = {}
        self.orders: Mapping[str, Verb] = {}
        self.views: Mapping[str, Verb] = {}
        self.channels: Mapping[str, Channel] = {}

    async def open(self, stack: AsyncExitStack, state: Path) -> None:
        """Open the ledger, in which employees have their accounts."""
        if self._tracer is not None:
            stack.callback(self._tracer.close)
        books = EmployeeBooks(await enter_ledger(stack, state), unix_ns)
        books.on_failure = self._stuck
        await stack.enter_async_context(books.keeping())
        self._desk.books = books

    def _stuck(self) -> None:
        """The ledger cannot be written any more."""
        self._desk.end_all(Refusal(Reason.MAINTENANCE, rule="the ledger cannot be written"))

    async def watch(self) -> None:
        """Look whose time is over."""
        await self._desk.run()

    def listening(self, where: Sequence[str]) -> tuple[Fields, str]:
        """Return what to say of the addresses that are served."""
        config = self.server.config
        inside = [*(one.name for one in config.upstreams), *config.vias]
        said = f"listening on {', '.join(where)}, power from {', '.join(inside)}"
        return {"upstreams": inside}, said

    # VPPN-5-03
    def reload(self, options: GatewayOptions) -> None:
        """Read who may draw what, and whose power it is, again. Raises PowerError."""
        config = gateway_config(options, os.environ)
        self._desk.take(read_authority(authority_config(options), is_start=False))
        self.server.take(config)
        before, now = msgspec.structs.asdict(self._options), msgspec.structs.asdict(options)
        if stays := [key for key in now if key not in _RELOADED and now[key] != before[key]]:
            _log.warning("settled at the start, a change needs a restart: %s", ", ".join(stays))
