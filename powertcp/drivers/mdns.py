"""The resolver as trio's tasks see it: opened when it can be, on the interfaces that there are.

mDNS is never needed: what fails is said once, and tried again after 5, 10, 20 .. 300 s.
"""

import errno
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from powertcp.drivers.interfaces import Interface, Watch, speakers
from powertcp.drivers.sightings import Sighting
from powertcp.errors import HostError, known

if TYPE_CHECKING:
    from powertcp.drivers.dpdp import Resolver

MAX_WAITING: Final = 4096  # names that were seen and not looked at: two tables full
THREADS: Final = 16
FIRST_RETRY_S: Final = 5.0
LAST_RETRY_S: Final = 300.0
CLOSE_S: Final = 1.0
_log = logging.getLogger("dpdp")
ValueT = TypeVar("ValueT")


class Inbox:
    """Sightings on their way from the resolver's threads: of each name the last one.

    Whatever comes, trio is woken once for all that waits.
    """

    def __init__(self) -> None:
        """Begin empty; called by a task of trio."""
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._waiting: dict[str, Sighting] = {}
        self._has_lost = self._is_called = False
        self._news = trio.Event()

    def put(self, sighting: Sighting) -> None:
        """Leave a sighting; from any thread, never waits. More than 4096 names are lost."""
        with self._lock:
            if sighting.key in self._waiting or len(self._waiting) < MAX_WAITING:
                self._waiting[sighting.key] = sighting
            else:
                self._has_lost = True
            if self._is_called:
                return
            self._is_called = True
        # trio has ended before the resolver
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._call)

    def _call(self) -> None:
        self._news.set()

    async def take(self) -> tuple[list[Sighting], bool]:
        """Wait for sightings; return them, and whether some were lost."""
        await self._news.wait()
        with self._lock:
            found, self._waiting = self._waiting, {}
            has_lost, self._has_lost = self._has_lost, False
            self._is_called, self._news = False, trio.Event()
        return list(found.values()), has_lost


class Mdns:
    """A resolver, None while there is none, and `fault` says why.

    opened: set once there is one. chosen: interfaces it speaks on. heed: called when one of the two is another.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Look at the interfaces: `names`, or all that can. Raises HostError, ConfigError."""
        self.resolver: Resolver | None = None
        self.fault = ""
        self.opened = trio.Event()
        self.inbox = Inbox()
        self.heed: list[Callable[[], None]] = []
        self._watch = Watch(names)
        self._limiter = trio.CapacityLimiter(THREADS)
        self._moved = trio.Event()

    @property
    def chosen(self) -> tuple[Interface, ...]:
        """The interfaces, as they are now."""
        return self._watch.chosen

    async def call(self, function: Callable[..., ValueT], *arguments: object) -> ValueT:
        """Let a thread do what may wait; cancelled, it is left to end by itself."""
        return await trio.to_thread.run_sync(
            function, *arguments, limiter=self._limiter, abandon_on_cancel=True
        )

    async def run(self) -> None:
        """Open the resolver and keep it on the interfaces that there are; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch.run, self._on_move)
            await self._open()
            while True:
                await self._moved.wait()
                self._moved = trio.Event()
                self._tell()
                resolver = known(self.resolver, "it was opened")
                try:
                    await self.call(resolver.set_speakers, speakers(self.chosen))
                except HostError as error:
                    _log.warning("%s", error)

    # DPDP-8-01
    async def _open(self) -> None:
        """Try until it can be opened."""
        pause_s = FIRST_RETRY_S
        while self.resolver is None:
            try:
                # not abandoned: it would stay open
                self.resolver = await trio.to_thread.run_sync(
                    partial(_make, speakers(self.chosen), self.inbox.put)
                )
            except HostError as error:
                if not self.fault:
                    _log.warning("%s; it is tried again", error)
                self.fault = str(error)
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, LAST_RETRY_S)
        self.fault = ""
        self.opened.set()
        self._tell()

    async def close(self) -> None:
        """Say goodbye and end, in 1 s at most."""
        resolver, self.resolver = self.resolver, None
        if resolver is not None:
            with trio.move_on_after(CLOSE_S, shield=True):
                await trio.to_thread.run_sync(resolver.close, abandon_on_cancel=True)

    def _on_move(self) -> None:
        names = ", ".join(each.name for each in self.chosen)
        _log.info("interfaces: %s", names or "none")
        self._moved.set()

    def _tell(self) -> None:
        for heed in self.heed:
            heed()


@asynccontextmanager
async def open_mdns(names: Sequence[str] = ()) -> AsyncIterator[Mdns]:
    """Keep a resolver on the interfaces `names`, or on all that are up with multicast.

    Raises HostError when the interfaces cannot be read, ConfigError for a name that none has.
    Nothing else about mDNS is an error: see `Mdns.fault`.
    """
    mdns = Mdns(names)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mdns.run)
            try:
                yield mdns
            finally:
                nursery.cancel_scope.cancel()
    finally:
        # a resolver that was being opened is there only now
        with trio.CancelScope(shield=True):
            await mdns.close()


def _make(words: Sequence[str | int], tell: Callable[[Sighting], None]) -> "Resolver":
    """Load zeroconf and open it, in a thread. Raises HostError."""
    try:
        from powertcp.drivers.dpdp import Resolver
    except ImportError as error:
        raise HostError(errno.ENOPKG, "zeroconf", "speak mDNS") from error
    return Resolver(words, tell)
