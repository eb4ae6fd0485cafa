"""A live source: each inner connection of a lamp goes to its provider, another process or its own.

MPLampS section 9.
"""

import logging
import socket
from functools import partial
from ipaddress import IPv4Address, ip_address
from typing import Final

import trio

from powertcp.drivers.dial import connect, format_address, listen, parse_address
from powertcp.drivers.lsp import LspStream
from powertcp.drivers.lsr import LiveNode
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.splice import splice
from powertcp.mplamps.ends import MAX_OF_SOURCE
from powertcp.mplamps.node import StreamOpened
from powertcp.mplamps.topology import Node, NodeKind, Topology
from powertcp.profile import ProfileType
from powertcp.sources import Supply
from powertcp.units import format_power

# a provider that does not answer: the lamp is told by a reset
CONNECT_S: Final = 5
_log = logging.getLogger("lsr")


class SourceEnd:
    """Serves the inner connections of one ES. provider: host and port of who gives the power."""

    def __init__(self, live: LiveNode, provider: tuple[str, int], nursery: trio.Nursery) -> None:
        """Serve whatever StreamOpened tells of, in `nursery`."""
        self._live = live
        self._provider = provider
        self._nursery = nursery
        self.open = 0
        self.failed = 0

    def take(self, event: StreamOpened) -> None:
        """Serve a connection."""
        self._nursery.start_soon(self._serve, self._live.stream(event.end), event.lamp)

    # MPLA-9-04
    async def _serve(self, circuit: LspStream, lamp: IPv4Address) -> None:
        """Join a connection of a lamp with one to the provider."""
        self.open += 1
        try:
            plain = await self._dial(lamp)
            if plain is None:
                self.failed += 1
                circuit.abort()
            else:
                await splice(plain, circuit)
        finally:
            self.open -= 1
            circuit.close()

    async def _dial(self, lamp: IPv4Address) -> trio.SocketStream | None:
        """Connect to the provider, from the address of the lamp where it can be: it sees who draws."""
        host, port = self._provider
        bind = partial(_bind, lamp) if lamp.is_loopback and _is_loopback(host) else None
        sock = None
        try:
            with trio.move_on_after(CONNECT_S):
                sock = await connect(host, port, bind=bind)
        except OSError as error:
            _log.warning("%s: provider %s: %s", self._live.name, format_address(host, port), error)
        return None if sock is None else trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def _bind(lamp: IPv4Address, sock: socket.socket) -> None:
    sock.bind((str(lamp), 0))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def own_supplies(topology: Topology, node: Node) -> list[Supply]:
    """Return what an ES without a provider supplies: its supply, or whatever the lamps ask for."""
    capacity_mw = topology.capacity_of(node.name)
    if node.supply is not None:
        return [Supply(profile=node.supply.with_type(ProfileType.OFFER))]
    kinds = {
        (lamp.request.voltage_mv, lamp.request.frequency_chz, lamp.request.pairs): lamp.request
        for lamp in topology.of_kind(NodeKind.LAMP)
        if lamp.request is not None
    }
    return [
        Supply(
            profile=asked.with_type(
                ProfileType.OFFER, current_ma=capacity_mw * 1000 // asked.voltage_mv
            ).as_sent()
        )
        for asked in kinds.values()
    ]


async def serve_itself(
    topology: Topology,
    node: Node,
    *,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be the provider of an ES that has none, for this process alone; started with its address."""
    capacity_mw = topology.capacity_of(node.name)
    config = ProviderConfig(
        supplies=own_supplies(topology, node),
        rating_mw=capacity_mw,
        name=node.name,
        per_address=MAX_OF_SOURCE,
    )
    provider = Provider(config)
    async with trio.open_nursery() as nursery:
        where: list[str] = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
        _log.info("%s supplies %s itself, at %s", node.name, format_power(capacity_mw), where[0])
        task_status.started(parse_address(where[0]))


def provider_of(node: Node) -> tuple[str, int] | None:
    """Return host and port of the provider of an ES, None if it serves itself. Raises ConfigError."""
    return parse_address(node.provider) if node.provider else None
