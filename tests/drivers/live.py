"""Live nodes within the process of a test, on real sockets of the loopback."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.lsr import Carrier, LiveNode, names_to_run
from powertcp.drivers.lsr_keys import LinkKeys
from powertcp.drivers.lsr_lamp import LiveLamp, Terms
from powertcp.drivers.lsr_source import SourceEnd
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.mplamps.generators import generate_topology
from powertcp.mplamps.node import NodeEvent, StreamOpened
from powertcp.mplamps.ted import Ted
from powertcp.mplamps.topology import Topology
from powertcp.sources import parse_supply
from tests.drivers.addresses import base_address

NEVER_S = 20


async def until(is_so: Callable[[], bool], within_s: float = NEVER_S) -> None:
    """Wait for what nobody tells: a look each 10 ms."""
    for _ in range(round(within_s * 100)):
        if is_so():
            return
        await trio.sleep(0.01)
    assert is_so()


class Town:
    """Nodes by name, lamps by name, and what lamps have said."""

    def __init__(self, topology: Topology, carrier: Carrier) -> None:
        self.topology, self.carrier = topology, carrier
        self.lives: dict[str, LiveNode] = {}
        self.sources: dict[str, SourceEnd] = {}
        self.said: list[dict[str, Any]] = []
        self.events: list[tuple[str, NodeEvent]] = []
        self._news = trio.Event()

    def run(self, name: str, provider: tuple[str, int] | None = None) -> LiveNode:
        live = self.lives[name] = LiveNode(name, self.carrier, self._heed)
        if provider is not None:
            self.sources[name] = SourceEnd(live, provider, self.carrier.nursery)
        return live

    def lamp(self, name: str, terms: Terms | None = None) -> LiveLamp:
        lamp = LiveLamp(name, self.carrier, terms or Terms(), self._say)
        self.lives[name] = lamp.live
        return lamp

    def _heed(self, live: LiveNode, event: NodeEvent) -> None:
        self.events.append((live.name, event))
        if isinstance(event, StreamOpened) and live.name in self.sources:
            self.sources[live.name].take(event)
        self.tell()

    def _say(self, event: str, facts: Any) -> None:
        self.said.append({"event": event, **facts})
        self.tell()

    def tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        with trio.move_on_after(NEVER_S):
            while not is_so():
                await self._news.wait()
        assert is_so(), self.said

    async def until_state(self, state: str, count: int = 1) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [one for one in self.said if one.get("state") == state]

        await self.until(lambda: len(found()) >= count)
        return found()[count - 1]

    async def until_alive(self) -> None:
        """Wait until all neighbours that run have heard of each other."""
        await until(lambda: all(self._alive()))

    def _alive(self) -> list[bool]:
        link = self.topology.link
        return [
            one.is_alive
            for name, live in self.lives.items()
            for number, one in live.node.rsvp.neighbours.items()
            if link(number).other(name) in self.lives
        ]


@asynccontextmanager
async def town(
    plan: str | Topology = "street:3",
    *,
    provider: tuple[str, int] | None = None,
    names: Sequence[str] | None = None,
    keys: LinkKeys | None = None,
) -> AsyncIterator[Town]:
    """Run sources and LSRs of a plan; provider: host and port of who serves the sources."""
    topology = generate_topology(plan, base=base_address()) if isinstance(plan, str) else plan
    async with trio.open_nursery() as nursery:
        made = Town(topology, Carrier(topology, nursery, Ted(topology), keys=keys))
        nursery.start_soon(made.carrier.run)
        try:
            for name in names_to_run(topology, names or (), is_all=names is None):
                kind = topology.node(name).kind.value
                made.run(name, provider if kind == "es" else None)
            yield made
        finally:
            for live in made.lives.values():
                live.close()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def provided(
    supply: str = "230V/16A@50Hz",
) -> AsyncIterator[tuple[Provider, tuple[str, int]]]:
    """Run a provider in this process; yields it with its address."""
    one = parse_supply(supply)
    provider = Provider(ProviderConfig(supplies=[one], rating_mw=one.rating_mw))
    async with trio.open_nursery() as nursery:
        where: list[str] = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
        yield provider, parse_address(where[0])
        nursery.cancel_scope.cancel()
