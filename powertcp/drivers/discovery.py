"""Finds providers on the link: what the resolver sees goes to the table, what the table wants is asked.

Discovery is a hint. Nothing here is needed by a flow, and nothing that fails here ends one.
"""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from powertcp.dpdp.advert import TYPE_TCP, TYPE_UDP
from powertcp.dpdp.engine import Browser
from powertcp.dpdp.entry import Address, Entry, Service, key_of
from powertcp.dpdp.events import Flooded, VerifyWanted
from powertcp.dpdp.links import Subnet
from powertcp.dpdp.trust import Trust
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.mdns import Mdns, open_mdns
from powertcp.drivers.sightings import Sighting
from powertcp.machine import Event
from powertcp.units import NS_PER_S

KINDS: Final = (TYPE_TCP, TYPE_UDP)
CLOCK_S: Final = 5.0  # how late it may be seen that the clock was set
RESOLVE_MS: Final = 3000
TRIES: Final = 3
MAX_EVENTS: Final = 1024  # that nobody has taken
MAX_RESOLVED: Final = 2048  # names that are asked for at a time: a table full
_log = logging.getLogger("dpdp")


class Discovery:
    """What is found. events: what is new, as the table tells it; a full channel loses events.

    `snapshot` is all there is, also of what was lost. has_lost: events were, and it is for whoever
    takes them to look at the snapshot and to clear it. on_goodbye: called with the key of an advert
    that is said to be gone; whether it is is verified then.
    """

    def __init__(self, mdns: Mdns, browser: Browser, *, is_passive: bool = False) -> None:
        """Browse with `mdns` once `run`; without asking anybody anything if `is_passive`."""
        self.mdns = mdns
        self.has_lost = False
        self.on_goodbye: Callable[[str], None] = _nothing
        self._browser = browser
        self._is_passive = is_passive
        self._send, self.events = trio.open_memory_channel[Event](MAX_EVENTS)
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._is_browsing = False
        self._armed = trio.Event()
        mdns.heed.append(self._moved)

    @property
    def fault(self) -> str:
        """Why nothing can be found, "" when it can."""
        return self.mdns.fault

    @property
    def is_asking(self) -> bool:
        """Whether something that was seen is not known yet."""
        return bool(self._asked) or not self._is_browsing

    def snapshot(self) -> list[Entry]:
        """Return every advert that is known, whatever is wrong with it."""
        return self._browser.entries()

    def failed(self, provider: bytes, address: Address) -> None:
        """A provider did not answer there."""
        self._do(lambda now: self._browser.failed(provider, address, now))

    def believe(self, trust: Trust) -> None:
        """Judge by this trust from now on: somebody was met."""
        self._do(lambda now: self._browser.believe(trust, now))

    def succeeded(self, provider: bytes, address: Address) -> None:
        """A flow came about there."""
        self._do(lambda now: self._browser.succeeded(provider, address, now))

    # -- the resolver --------------------------------------------------------------------------

    async def run(self) -> None:
        """Take what is seen; until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._moved()
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._keep_clock)
                while True:
                    found, has_lost = await self.mdns.inbox.take()
                    for sighting in found:
                        self._see(sighting)
                    if has_lost:
                        await self._read_again()
            finally:
                # the resolver may tell of something until it is closed, too
                self._nursery = None

    def _moved(self) -> None:
        """The resolver was opened, or speaks on other interfaces."""
        subnets = [
            Subnet(each.name, address.network)
            for each in self.mdns.chosen
            for address in each.addresses
        ]
        self._do(lambda now: self._browser.local_subnets(subnets, now))
        if self.mdns.resolver is not None and self._nursery is not None and not self._is_browsing:
            self._is_browsing = True
            self._nursery.start_soon(self._browse)

    async def _browse(self) -> None:
        resolver = self.mdns.resolver
        if resolver is not None:
            await self.mdns.call(lambda: resolver.browse(KINDS, is_passive=self._is_passive))

    async def _read_again(self) -> None:
        """Look at everything that the resolver holds: some of what was seen is lost."""
        resolver = self.mdns.resolver
        if resolver is None:
            return
        names = await self.mdns.call(resolver.names, KINDS)
        for kind, instance in names:
            self._see(Sighting(kind, instance, resolver.recall(kind, instance), is_gone=False))
        keys = {key_of(kind, instance) for kind, instance in names}
        self._do(lambda now: self._browser.overflow(keys, now))

    def _see(self, sighting: Sighting) -> None:
        if sighting.is_gone:
            self._do(lambda now: self._browser.removed(sighting.key, now))
            self.on_goodbye(sighting.key)
        elif sighting.service is not None:
            service = sighting.service
            self._do(lambda now: self._browser.heard(service, now))
        elif sighting.key not in self._asked and len(self._asked) < MAX_RESOLVED:
            self._asked[sighting.key] = None
            if self._nursery is not None:
                self._nursery.start_soon(self._resolve, sighting)

    async def _resolve(self, sighting: Sighting) -> None:
        """Ask for what is missing; what is missing then stays so."""
        resolver, kind, instance = self.mdns.resolver, sighting.kind, sighting.instance
        found: Service | None = None
        if resolver is not None:
            # DPDP-8-05
            for _ in range(0 if self._is_passive else TRIES):
                found = await self.mdns.call(resolver.resolve, kind, instance, RESOLVE_MS)
                if found is not None:
                    break
            found = found or await self.mdns.call(resolver.recall, kind, instance)
        self._asked.pop(sighting.key, None)
        if found is not None:
            service = found
            self._do(lambda now: self._browser.heard(service, now))

    async def _verify(self, wanted: VerifyWanted) -> None:
        """Ask once whether what is said to be gone is gone."""
        resolver, service = self.mdns.resolver, wanted.service
        found: Service | None = None
        if resolver is not None:
            ask = resolver.recall if self._is_passive else resolver.verify
            found = await self.mdns.call(ask, service.kind, service.instance)
        self._do(lambda now: self._browser.verified(wanted.key, found, now))

    # -- the table -----------------------------------------------------------------------------

    def _do(self, verb: Callable[[int], object]) -> None:
        verb(now_ns())
        self._pump()

    def _pump(self) -> None:
        while (event := self._browser.next_event()) is not None:
            if isinstance(event, VerifyWanted):
                if self._nursery is not None:
                    self._nursery.start_soon(self._verify, event)
                continue
            if isinstance(event, Flooded):
                _log.warning("%d adverts are ignored: more than anybody needs", event.lost)
            try:
                self._send.send_nowait(event)
            except trio.WouldBlock:
                self.has_lost = True
        self._armed.set()

    async def _keep_time(self) -> None:
        while True:
            due = self._browser.get_timer()
            self._armed = trio.Event()
            with trio.move_on_at(float("inf") if due is None else due / NS_PER_S):
                await self._armed.wait()
                continue
            self._do(self._browser.handle_timer)

    async def _keep_clock(self) -> None:
        """Look whether the clock was set, or the host slept: signatures end by Unix time."""
        while True:
            await trio.sleep(CLOCK_S)
            self._do(lambda now: self._browser.set_clock(unix_offset_ns(), now))


@asynccontextmanager
async def open_discovery(
    interfaces: Sequence[str] = (), *, browser: Browser | None = None, is_passive: bool = False
) -> AsyncIterator[Discovery]:
    """Find providers on `interfaces`, or on all that are up with multicast, until the block ends.

    browser: a table that knows pins, sites and who was met before. Raises HostError when the
    interfaces cannot be read, ConfigError for a name that none has; nothing else is an error.
    """
    async with open_mdns(interfaces) as mdns, trio.open_nursery() as nursery:
        table = Browser(now_ns()) if browser is None else browser
        found = Discovery(mdns, table, is_passive=is_passive)
        nursery.start_soon(found.run)
        try:
            yield found
        finally:
            nursery.cancel_scope.cancel()


def _nothing(_: str) -> None:
    """Do nothing: nobody wants to know."""
