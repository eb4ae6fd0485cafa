"""Feeds for driver tests: a provider with a station, receivers of all kinds. Not collected."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from powertcp.drivers.dial import listen, parse_address
from powertcp.drivers.feed import Emission, FeedConfig, FeedStation
from powertcp.drivers.groups import Group
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.errors import HostError
from powertcp.profile import PowerProfile, ProfileType
from tests.feeds import KEY


def free_port() -> int:
    """Return a UDP port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def feed_config(power: str = "12V/0.5A", groups: tuple[Group, ...] = ()) -> FeedConfig:
    """Return a feed that stays on this host."""
    profile = PowerProfile.parse(power, ProfileType.OFFER)
    return FeedConfig(profile=profile, groups=groups, interface="lo")


class Told:
    """A provider whose feed is on, and what it said it emitted."""

    def __init__(self, provider: Provider, station: FeedStation, address: str) -> None:
        self.provider = provider
        self.station = station
        self.host, self.port = parse_address(address)
        self.emissions: list[Emission] = []

    @property
    def emitted_uj(self) -> int:
        return sum(emission.energy_uj for emission in self.emissions)


@asynccontextmanager
async def broadcasting(
    power: str = "12V/0.5A", groups: tuple[Group, ...] = (), *, epoch: int = 7, epochs: int = 100
) -> AsyncIterator[Told]:
    """Run a provider that broadcasts `power`; the disk is full when it has begun `epochs`."""
    provider = Provider(ProviderConfig(supplies=[], rating_mw=0))
    emissions: list[Emission] = []
    free = iter(range(epoch, epoch + epochs))

    def next_epoch() -> int:
        for number in free:
            return number
        raise HostError(errno.ENOSPC, "feed.epoch", "begin another epoch")

    station = provider.station = FeedStation(
        feed_config(power, groups),
        provider.wheel,
        key=KEY.public,
        sign=KEY.sign,
        next_epoch=next_epoch,
        emitted=emissions.append,
    )
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(provider.serve, listen([("127.0.0.1", 0)]))
        told = Told(provider, station, addresses[0])
        told.emissions = emissions
        yield told
        nursery.cancel_scope.cancel()
