"""A consumer without an address: it finds a provider, asks it, and the next one when it says no."""

import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from powertcp.dpdp.advert import provider_id
from powertcp.dpdp.engine import Browser
from powertcp.dpdp.entry import Address, Entry, Signed, Standing
from powertcp.dpdp.events import AdvertChanged, AdvertGone, AdvertSeen, Downgrade, IdClash
from powertcp.dpdp.known import KnownProvider
from powertcp.dpdp.select import (
    DEFAULT_PREFER,
    MAX_MEASURED,
    Candidate,
    Current,
    Situation,
)
from powertcp.dpdp.signing import verify
from powertcp.dpdp.trust import Shown, Trust
from powertcp.dpdp.txt import show_text
from powertcp.drivers.acquaintances import acquaint
from powertcp.drivers.appliance import Say
from powertcp.drivers.clock import unix_ns
from powertcp.drivers.daemon import now_ns, unix_offset_ns
from powertcp.drivers.discovery import Discovery, open_discovery
from powertcp.drivers.distance import measure, own_hosts
from powertcp.drivers.guide import Heed, Place, Sign
from powertcp.drivers.interfaces import Interface
from powertcp.drivers.needs import judge, make_need
from powertcp.drivers.neighbours import better_keys, neighbour
from powertcp.drivers.price import MaxPrice
from powertcp.drivers.searches import HINT_NS, Searches
from powertcp.errors import ConfigError, HostError, known
from powertcp.potcp.events import Ask
from powertcp.registry import Refusal
from powertcp.units import NS_PER_MS, NS_PER_S, Duration, Instant
from powertcp.vppn.config import SealConfig

# nothing new for so long: those are all there are. Who answers a question waits 20 to 120 ms (RFC
# 6762 6), so that the last answer is here 100 ms after the first, and what its way takes
QUIET_NS: Final[Duration] = 120 * NS_PER_MS
SETTLE_NS: Final[Duration] = NS_PER_S  # after the first that would do
LEAST_WAIT_NS: Final[Duration] = NS_PER_S
MOST_WAIT_NS: Final[Duration] = 30 * NS_PER_S
MOST_DEAD_NS: Final[Duration] = 3600 * NS_PER_S
_log = logging.getLogger("dpdp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How providers are looked for.

    seal: how power is sealed, without the provider's key, None in clear. statics: providers that are
    asked when nobody is found, named by hand. folder: of known_providers.
    """

    trust: Trust
    folder: Path
    seal: SealConfig | None = None
    max_price: MaxPrice | None = None
    sources: frozenset[str] | None = None
    prefer: tuple[str, ...] = DEFAULT_PREFER
    statics: tuple[Place, ...] = ()
    interfaces: tuple[str, ...] = ()


class Finder:
    """A guide that finds providers on the link. searches: those that go on, for who asks."""

    may_roam = True

    def __init__(self, search: Search, discovery: Discovery, say: Say, seed: bytes) -> None:
        """Look as `search` says; `say` is told what is found and why it is chosen."""
        self._search, self._discovery, self._say, self._seed = search, discovery, say, seed
        self._news = trio.Event()
        self._news_ns: Instant = now_ns()
        self._rtt: dict[str, Duration] = {}
        # who has refused, by id; those named by hand, by name; and until when
        self._waits: dict[bytes, Instant] = {}
        self._static_waits: dict[str, tuple[Instant, int]] = {}
        self._trust = search.trust
        self.searches = Searches(self, lambda: discovery.fault)
        self._has_hinted = False
        self._heed: list[Heed] = []
        self._nursery: trio.Nursery | None = None
        discovery.on_goodbye = lambda key: self._tell(key, Sign.GOODBYE)

    async def run(self) -> None:
        """Hear what is found; until cancelled."""
        if self._search.trust.warning:
            # DPDP-7-08
            self._say("warning", {"sentence": self._search.trust.warning})
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._hear()
            finally:
                # power may be heard of until the last connection is closed
                self._nursery = None

    async def _hear(self) -> None:
        async for event in self._discovery.events:
            self._discovery.has_lost = False
            self._news_ns = now_ns()
            if isinstance(event, AdvertSeen):
                self._heed_return(event.entry)
            self._news.set()
            self._news = trio.Event()
            if isinstance(event, AdvertSeen | AdvertChanged | AdvertGone):
                is_gone = isinstance(event, AdvertGone) and not event.is_crowded_out
                self._tell(event.entry.key, Sign.GONE if is_gone else Sign.OTHER)
            if isinstance(event, Downgrade | IdClash):
                name = show_text(event.entry.service.instance)
                more = event.text if isinstance(event, Downgrade) else "two of one id"
                self._say("suspect", {"provider": name, "sentence": f"{name}: {more}"})

    def _heed_return(self, entry: Entry) -> None:
        """Who is announced anew has begun anew: what it has refused before is asked soon."""
        wanted = entry.advert.id if entry.advert is not None else b""
        if wanted in self._waits:
            soon = now_ns() + LEAST_WAIT_NS
            self._waits[wanted] = min(self._waits[wanted], soon)

    # -- the guide -----------------------------------------------------------------------------

    async def place(self, asks: Sequence[Ask], current: Current | None = None) -> Place:
        """Return the best provider for all of `asks`; waits while there is none."""
        with self.searches.open(asks) as began:
            return await self._look(asks, current, began)

    async def _look(self, asks: Sequence[Ask], current: Current | None, began: Instant) -> Place:
        since: Instant | None = None
        while True:
            now = now_ns()
            kept = self._kept(asks, now, current)
            since = since or now if kept else None
            due = self._settled_at(since, now)
            if kept and due <= now:
                await self._measure([each.entry for each in kept[:MAX_MEASURED]])
                if again := self._kept(asks, now_ns(), current):
                    best, settled_ns = again[0], now_ns() - (since or now)
                    return self._take(best, best.entry.addresses[0], settled_ns)
                continue
            # DPDP-8-01
            if not kept and now - began >= SETTLE_NS // 3 and (named := self._static(now)):
                return named
            self._hint(asks, began, now)
            await self._wait(due if kept else self._next(began, now))

    def failed(self, place: Place) -> bool:
        """Nobody answered there: it is dead for 30 s and more, and another one is asked."""
        if place.entry is not None and place.entry.advert is not None:
            address = known(place.address, "an advert leads to an address")
            self._discovery.failed(place.entry.advert.id, address)
            self._rtt.pop(place.entry.key, None)
        else:
            _, times = self._static_waits.get(str(place), (0, 0))
            pause = min(MOST_WAIT_NS << min(times, 8), MOST_DEAD_NS)
            self._static_waits[str(place)] = (now_ns() + pause, times + 1)
        return True

    def other(
        self,
        place: Place,
        asks: Sequence[Ask],
        keys: Sequence[str] = (),
        without: Interface | None = None,
    ) -> Place | None:
        """Return whom to move to from `place`, None for nobody.

        keys: of adverts, empty: any. without: an interface that has no link.
        """
        found = neighbour(self._kept(asks, now_ns()), place, keys, without)
        return None if found is None else self._take(*found, 0)

    def better(self, place: Place, asks: Sequence[Ask], held_mw: int) -> Sequence[str]:
        """Return the keys of adverts that a flow of `held_mw` may be moved to by choice."""
        current = Current(place.provider, held_mw)
        return better_keys(self.candidates(asks, now_ns(), current), place)

    def listen(self, heed: Heed) -> None:
        """Tell `heed` of every advert what is news: by its key."""
        self._heed.append(heed)

    def _tell(self, key: str, sign: Sign) -> None:
        for heed in self._heed:
            heed(key, sign)

    # DPDP-6-02
    def refused(self, place: Place, refusal: Refusal) -> bool:
        """It is left alone for as long as it said, 1..30 s, and another one is asked."""
        said = refusal.retry_ms * NS_PER_MS or MOST_WAIT_NS
        pause = min(max(said, LEAST_WAIT_NS), MOST_WAIT_NS)
        until = now_ns() + round(pause * random.uniform(0.8, 1.2))
        entry = place.entry
        if entry is not None and entry.standing is Standing.SUSPECT:
            # DPDP-5-03: two of one id; the no of one is not that of the other
            return self.failed(place)
        if place.entry is not None and place.entry.advert is not None:
            now = now_ns()
            self._waits = {one: time for one, time in self._waits.items() if time > now}
            self._waits[place.entry.advert.id] = until
        else:
            self._static_waits[str(place)] = (until, 0)
        return True

    def powered(self, place: Place, shown: Shown) -> None:
        """It gives power: it is remembered with the keys it has shown."""
        entry = place.entry
        if entry is None or entry.advert is None:
            self._static_waits.pop(str(place), None)
            return
        self._discovery.succeeded(entry.advert.id, known(place.address, "an advert has one"))
        self._waits.pop(entry.advert.id, None)
        now_s, service = unix_ns() // NS_PER_S, entry.service
        named = service.instance, service.kind, service.port
        # DPDP-7-04: by the key that was shown just now
        signed = verify(service.txt, *named, shown.meter_key, now_s)
        is_site = place.proof is not None and shown.issuer in place.proof.sites
        met = KnownProvider(
            id=entry.advert.id,
            first_s=now_s,
            last_s=now_s,
            name=entry.service.instance,
            meter_key=shown.meter_key,
            exchange_key=shown.static_key,
            site_key=shown.issuer if is_site else None,
            has_signed=signed is Signed.GOOD,
        )
        # an id that is not proved is nobody's to remember keys of
        is_proved = shown.meter_key is not None and provider_id(shown.meter_key) == met.id
        if is_proved and (shown.signs or not shown.static_key) and self._nursery is not None:
            self._nursery.start_soon(self._remember, met, entry.signed is Signed.GOOD)

    # -- choosing ------------------------------------------------------------------------------

    def candidates(
        self, asks: Sequence[Ask], now: Instant, current: Current | None = None
    ) -> list[Candidate]:
        """Return every advert with what speaks for it or against it, those for the first of `asks`.

        An advert that does not do for one of the others is against it.
        """
        is_sealed = self._search.seal is not None
        situation = Situation(now=now, rtt=self._rtt, waits=self._waits, current=current)
        need = make_need(
            asks,
            max_price=self._search.max_price,
            sources=self._search.sources,
            prefer=self._search.prefer,
            can_seal=is_sealed,
            is_sealed_only=is_sealed,
        )
        return judge(self._discovery.snapshot(), need, self._trust, self._seed, situation)

    def _kept(
        self, asks: Sequence[Ask], now: Instant, current: Current | None = None
    ) -> list[Candidate]:
        return [
            one
            for one in self.candidates(asks, now, current)
            if one.merits is not None and one.entry.addresses
        ]

    def _take(self, best: Candidate, address: Address, settled_ns: Duration) -> Place:
        """Return where the best candidate is, and say why it is the best.

        settled_ns: since the first was seen that would do.
        """
        entry = best.entry
        verdict = known(best.merits, "it was kept").verdict
        seal, key = self._search.seal, verdict.proof.static_key
        if seal is not None:
            seal = replace(seal, peer=key)
        name = show_text(entry.service.instance)
        self._say(
            "found",
            {
                "provider": name,
                "id": entry.advert.id.hex() if entry.advert else "",
                "address": str(address),
                "sentence": f"{name} at {address}: {best.sentence}",
                "settled_ms": settled_ns // NS_PER_MS,
                **best.numbers,
            },
        )
        host = f"{address.host}%{address.scope}" if address.scope else address.host
        return Place(
            host=host,
            port=address.port,
            seal=seal,
            proof=verdict.proof,
            entry=entry,
            address=address,
        )

    def named(self, now: Instant) -> list[tuple[str, Instant]]:
        """Return who is named by hand, and until when each is left alone; 0 for not at all."""
        names = [str(place) for place in self._search.statics]
        return [(name, self._static_waits.get(name, (0, 0))[0]) for name in names]

    def _static(self, now: Instant) -> Place | None:
        """Return a provider that was named by hand and may be asked now."""
        for place in self._search.statics:
            until, _ = self._static_waits.get(str(place), (0, 0))
            if until <= now:
                self._say("found", {"address": str(place), "sentence": f"{place}, named by hand"})
                return place
        return None

    # -- waiting -------------------------------------------------------------------------------

    def _settled_at(self, since: Instant | None, now: Instant) -> Instant:
        """Return when it is time to choose: when nothing new has come for a while."""
        if since is None:
            return now
        return min(since + SETTLE_NS, self._news_ns + QUIET_NS)

    def _next(self, began: Instant, now: Instant) -> Instant:
        """Return when there may be somebody to ask without news."""
        times = [*self._waits.values(), *(until for until, _ in self._static_waits.values())]
        times += [entry.dead_until_ns for entry in self._discovery.snapshot()]
        times += [began + HINT_NS, began + SETTLE_NS // 3]
        return min((time for time in times if time > now), default=now + MOST_WAIT_NS)

    async def _wait(self, until: Instant) -> None:
        with trio.move_on_at(until / NS_PER_S):
            await self._news.wait()

    def _hint(self, asks: Sequence[Ask], began: Instant, now: Instant) -> None:
        """Say once what may be the matter when nothing is found."""
        if not self._has_hinted and now - began >= HINT_NS:
            self._has_hinted = True
            sentence = self.searches.hint(self.candidates(asks, now))
            self._say("searching", {"sentence": sentence})

    # -- the link ------------------------------------------------------------------------------

    async def _measure(self, entries: Sequence[Entry]) -> None:
        """Measure how far those are that are not measured yet; one alone needs no comparison."""
        unknown = [entry for entry in entries if entry.key not in self._rtt]
        if len(entries) > 1 and unknown:
            here = {entry.key for entry in self._discovery.snapshot()}
            self._rtt = {key: rtt for key, rtt in self._rtt.items() if key in here}
            self._rtt |= await measure(unknown, own_hosts(self._discovery.mdns.chosen))

    async def _remember(self, met: KnownProvider, is_vouched: bool) -> None:
        """Write down who was met; that it cannot be written is no reason to go without power."""
        folder = self._search.folder

        try:
            write = partial(acquaint, folder, met, is_vouched=is_vouched)
            found = await trio.to_thread.run_sync(write)
        except (HostError, ConfigError) as error:
            _log.warning("%s", error)
            return
        self._trust = replace(self._trust, known=found)
        self._discovery.believe(self._trust)


@asynccontextmanager
async def open_finder(search: Search, say: Say, seed: bytes) -> AsyncIterator[Finder]:
    """Find providers until the block ends. Raises HostError, ConfigError as `open_discovery` does."""
    browser = Browser(now_ns(), trust=search.trust, unix_offset_ns=unix_offset_ns())
    async with (
        open_discovery(search.interfaces, browser=browser) as discovery,
        trio.open_nursery() as nursery,
    ):
        finder = Finder(search, discovery, say, seed)
        nursery.start_soon(finder.run)
        try:
            yield finder
        finally:
            nursery.cancel_scope.cancel()
