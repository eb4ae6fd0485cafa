"""A lender on the link: an advert of reclaimed power while there is some, with what is left of it."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from powertcp.dpdp.advert import TYPE_TCP, Advert
from powertcp.drivers.announce import Announcement, host_name
from powertcp.drivers.mdns import open_mdns
from powertcp.drivers.offers import Identity, flow_advert
from powertcp.drivers.presence import Presence
from powertcp.drivers.provider import Provider
from powertcp.errors import ConfigError, HostError

REFRESH_S: Final = 60.0  # how old a charge is that nothing else made news of
_log = logging.getLogger("dpdp")


class ReclaimedPresence(Presence):
    """What a lender announces under `name`. percent: returns the charge of its reservoir."""

    def __init__(
        self, provider: Provider, identity: Identity, name: str, percent: Callable[[], int]
    ) -> None:
        """Prepare to announce `provider`."""
        super().__init__(provider, identity, name)
        self._lender, self._who, self._percent = provider, identity, percent
        self._moved = trio.Event()

    def moved(self) -> None:
        """Take note that the rating is another one: it may have closed, or opened again."""
        self._moved.set()

    @property
    def is_announced(self) -> bool:
        """Whether others can find it."""
        return any(each.is_announced for each in self._spoken)

    # FWRL-4-04
    async def run(self) -> None:
        """Announce whenever something is lent, until cancelled; nothing of mDNS is an error."""
        try:
            async with open_mdns(self._interfaces()) as mdns:
                host = host_name()
                while True:
                    await self._until_open()
                    announcement = self._announcement(mdns, TYPE_TCP, host)
                    self._spoken = [announcement]
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(announcement.run)
                        await self._until_closed(announcement)
                        await announcement.withdraw()
                    self._spoken = []
        except* (HostError, ConfigError) as errors:
            _log.warning("not announced: %s", errors.exceptions[0])

    async def withdraw(self) -> None:
        """Say goodbye, in 1 s at most: nobody new is to come."""
        await super().withdraw()
        self.moved()

    async def _until_open(self) -> None:
        while self._flows() is None:
            await self._wait()

    async def _until_closed(self, announcement: Announcement) -> None:
        """Wait until nothing is lent any more; meanwhile let others know what is left."""
        said, due_s = self._percent(), trio.current_time() + REFRESH_S
        while self._flows() is not None:
            with trio.move_on_at(due_s):
                await self._wait()
            if trio.current_time() >= due_s:
                if self._percent() != said and announcement.refresh():
                    said = self._percent()
                due_s = trio.current_time() + REFRESH_S

    async def _wait(self) -> None:
        await self._moved.wait()
        self._moved = trio.Event()

    def _flows(self) -> Advert | None:
        if self._lender.draining:
            return None
        advert = flow_advert(self._lender, self._who)
        return None if advert is None else replace(advert, soc=self._percent())
