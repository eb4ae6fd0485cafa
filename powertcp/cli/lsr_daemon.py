"""What `powertcp mplamps lsr` does once its words are read: configuration, and the daemon."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from powertcp.cli.config import CONFIGURATION, ServingOptions
from powertcp.cli.daemon import Command, run_daemon
from powertcp.cli.topologies import load_topology
from powertcp.drivers.control import Channel, Fields, Verb
from powertcp.drivers.lsr import names_to_run
from powertcp.drivers.lsr_keys import check_keyless, read_link_keys
from powertcp.drivers.lsr_server import LsrConfig, LsrServer
from powertcp.drivers.lsr_source import provider_of
from powertcp.drivers.tracer import open_tracer
from powertcp.errors import ConfigError

_log = logging.getLogger("lsr")


class LsrOptions(ServingOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of lsr.toml, beside those of every daemon; named as the flags."""

    listen: tuple[str, ...] = ()
    topology: str = ""
    node: tuple[str, ...] = ()
    all: bool = False
    keys: str = ""
    capture: str = ""


def switch_loads(arguments: Mapping[str, Any]) -> int:
    """Do what the words of `powertcp mplamps lsr` say; returns the exit status."""
    command = Command(
        name="lsr",
        options=LsrOptions,
        check=read_config,
        inspect=read_config,
        serve=_Switched,
    )
    return run_daemon(command, arguments)


def check_options(options: LsrOptions) -> None:
    """Raise ConfigError for what cannot be run."""
    if not options.topology:
        raise ConfigError(CONFIGURATION, "topology", "of which network? --topology FILE")
    if not options.node and not options.all:
        said = "which nodes? --node NAME, repeatable, or --all"
        raise ConfigError(CONFIGURATION, "node", said)
    if options.listen:
        raise ConfigError(CONFIGURATION, "listen", "nodes have the addresses of the topology")


def read_config(options: LsrOptions) -> LsrConfig:
    """Return what is to be run. Raises ConfigError or HostError."""
    check_options(options)
    topology = load_topology(options.topology)
    names = names_to_run(topology, options.node, is_all=options.all)
    nodes = [topology.node(name) for name in names]
    keys = read_link_keys(Path(options.keys)) if options.keys else None
    if keys is None:
        check_keyless(node.address for node in nodes)
    for node in nodes:
        provider_of(node)
    capture = Path(options.capture) if options.capture else None
    return LsrConfig(topology=topology, names=names, keys=keys, capture=capture)


class _Switched:
    """What is a router's own of its daemon: the nodes."""

    def __init__(self, options: LsrOptions) -> None:
        self._options = options
        config = read_config(options)
        self._tracer = open_tracer(options.trace)
        self.server = self.report = LsrServer(
            LsrConfig(
                topology=config.topology,
                names=config.names,
                keys=config.keys,
                capture=config.capture,
                tracer=self._tracer,
            )
        )
        self.facts: Fields = {"name": config.topology.name}
        self.orders: Mapping[str, Verb] = {}
        self.views: Mapping[str, Verb] = {}
        self.channels: Mapping[str, Channel] = {}

    async def open(self, stack: AsyncExitStack, state: Path) -> None:
        """Close the traces at the end."""
        if self._tracer is not None:
            stack.callback(self._tracer.close)

    async def watch(self) -> None:
        """Do nothing: the wheel calls."""

    def listening(self, where: Sequence[str]) -> tuple[Fields, str]:
        """Return what to say of the nodes that run."""
        names = list(self.server.lives)
        pairs = [f"{name} {address}" for name, address in zip(names, where, strict=True)]
        return {"nodes": names}, f"switching: {', '.join(pairs)}"

    def reload(self, options: LsrOptions) -> None:
        """Say what stays: all of it."""
        old, new = msgspec.structs.asdict(self._options), msgspec.structs.asdict(options)
        if stays := [key for key in new if new[key] != old[key]]:
            _log.warning("settled at the start, a change needs a restart: %s", ", ".join(stays))
