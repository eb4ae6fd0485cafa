"""What waits for the disk: for each flow one thing after the other, for all of them at once."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from powertcp.drivers.ledger import Ledger
from powertcp.errors import PowerRefused

# jobs of all flows; a ledger so far behind is taken for a broken one
MAX_WAITING = 65_536
_log = logging.getLogger("ledger")

Job = Callable[[], Awaitable[object]]


class Line:
    """Jobs that are done in order, for what people call `name`; each with the energy it books."""

    __slots__ = ("is_draining", "jobs", "name")

    def __init__(self, name: str) -> None:
        """Begin with nothing to do."""
        self.name = name
        self.jobs: deque[tuple[Job, int]] = deque()
        self.is_draining = False


class Postings:
    """The jobs of all lines. on_behind: called when too many wait.

    waiting: how many. queued_uj, booked_uj, lost_uj: energy that waits, that is in the ledger, and
    that the ledger did not take.
    """

    def __init__(self, ledger: Ledger, on_behind: Callable[[], None]) -> None:
        """Take nothing before there is a nursery."""
        self.nursery: trio.Nursery | None = None
        self.waiting = self.queued_uj = self.booked_uj = self.lost_uj = 0
        self._ledger = ledger
        self._on_behind = on_behind
        self._is_behind = False
        self._settled = trio.Event()

    # LEDG-7-07
    @property
    def is_stuck(self) -> bool:
        """Whether nothing more can be written."""
        return self._ledger.is_read_only or self._is_behind

    def put(self, line: Line, job: Job, energy_uj: int = 0) -> None:
        """Do `job`, which books `energy_uj`, after those of this line that wait."""
        if self.nursery is None or self.is_stuck:
            self.lost_uj += energy_uj
            return
        self.waiting += 1
        self.queued_uj += energy_uj
        line.jobs.append((job, energy_uj))
        if not line.is_draining:
            line.is_draining = True
            self.nursery.start_soon(self._drain, line)
        if self.waiting > MAX_WAITING:
            self._is_behind = True
            _log.error("ledger: %d postings wait for the disk", self.waiting)
            self._on_behind()

    async def _drain(self, line: Line) -> None:
        try:
            while line.jobs:
                job, energy_uj = line.jobs[0]
                try:
                    await job()
                except PowerRefused as error:
                    self.lost_uj += energy_uj
                    _log.error("%s: %s", line.name, error)
                else:
                    self.booked_uj += energy_uj
                line.jobs.popleft()
                self.queued_uj -= energy_uj
                self.waiting -= 1
        finally:
            line.is_draining = False
            if not self.waiting:
                self._settled.set()

    async def settle(self) -> None:
        """Wait until nothing waits, or nothing can be written."""
        while self.waiting and not self.is_stuck:
            self._settled = trio.Event()
            await self._settled.wait()
