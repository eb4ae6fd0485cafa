"""What the power in the reservoirs of a firewall is for: lenders, and a share of this host.

As the policy in force says; another policy changes, ends and begins them. FWRL-4-03, FWRL-4-04.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from powertcp.drivers.dial import format_address
from powertcp.drivers.host_load import HostSpan
from powertcp.drivers.infrastructure import Infrastructure
from powertcp.drivers.lending import Lender
from powertcp.drivers.offers import Identity
from powertcp.drivers.session import FlowRecord
from powertcp.ledger import Code
from powertcp.reclaim.firewall import Firewall
from powertcp.reclaim.policy import Lend, Policy
from powertcp.sources import Drawn, InfrastructureTerms, LendTerms, Supply

# between two attempts to listen where somebody else does
RETRY_S: Final = 2.0
# of seconds, until what is promised is in the ledger
AHEAD_S: Final = 2
# energy of the real world: no transfer joins it with that of the reservoirs. LEDG-8-03
WALL: Final = "uJ-wall"
_log = logging.getLogger("reservoir")

Fields = dict[str, object]
_Key = tuple[str, str, int, str | None]


class Reuse:
    """Lenders and infrastructure of `firewall`. identity: by which lenders are announced.

    per_address: connections of one address to a lender.
    """

    def __init__(
        self, firewall: Firewall, identity: Identity | None, *, per_address: int, root: str = "/"
    ) -> None:
        """Begin nothing yet. root: where this machine's files are."""
        self.lenders: dict[_Key, Lender] = {}
        self.infrastructure: Infrastructure | None = None
        # why a lender does not listen, by where it would
        self.faults: dict[str, str] = {}
        self._firewall, self._identity = firewall, identity
        self._per_address, self._root = per_address, root
        # called when a flow of a lender begins
        self.on_promise: Callable[[], None] = _nothing
        self._changed = trio.Event()
        self._is_over = self._is_halted = False
        # lenders that say goodbye
        self._leaving: set[Lender] = set()
        self._running: trio.CancelScope | None = None

    def change(self) -> None:
        """The policy is another one."""
        self._changed.set()

    async def run(self) -> None:
        """Lend and draw as the policy says, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                if not self._is_over:
                    await self._follow(nursery, self._firewall.policy)
                elif self._is_halted:
                    self._end_all(nursery)
                with trio.CancelScope() as scope:
                    if self.faults:
                        scope.deadline = trio.current_time() + RETRY_S
                    await self._changed.wait()

    async def drain(self) -> None:
        """End every flow of a lender with 601."""
        self._is_over = True
        async with trio.open_nursery() as nursery:
            for lender in tuple(self.lenders.values()):
                nursery.start_soon(lender.drain)

    # FWRL-1-01
    def halt(self) -> None:
        """Lend nothing more and draw nothing more: it cannot be written down."""
        self._is_over = self._is_halted = True
        self.change()

    def _end_all(self, nursery: trio.Nursery) -> None:
        if self._running is not None:
            self._running.cancel()
        for lender in self.lenders.values():
            self._leave(nursery, lender)

    def _leave(self, nursery: trio.Nursery, lender: Lender) -> None:
        if lender not in self._leaving:
            self._leaving.add(lender)
            nursery.start_soon(lender.drain)

    # -- lenders -------------------------------------------------------------------------------

    async def _follow(self, nursery: trio.Nursery, policy: Policy) -> None:
        self._follow_infrastructure(nursery, policy)
        wanted: Mapping[_Key, Lend] = {
            (one.reservoir, one.host, one.port, one.announce): one for one in policy.lends
        }
        for key, lender in tuple(self.lenders.items()):
            if key not in wanted:
                self._leave(nursery, lender)
            elif (terms := _terms(wanted[key])) != lender.terms:
                lender.change(terms)
        self.faults.clear()
        for key, lend in wanted.items():
            if key not in self.lenders:
                await self._begin(nursery, key, lend)

    async def _begin(self, nursery: trio.Nursery, key: _Key, lend: Lend) -> None:
        intake, where = self._firewall.intakes[lend.reservoir], format_address(lend.host, lend.port)
        lender = Lender(
            _terms(lend),
            intake.reservoir,
            partial(self._lent, lend.reservoir),
            identity=self._identity,
            per_address=self._per_address,
        )
        begun = lender.provider.admissions.on_change

        def promise(record: FlowRecord) -> None:
            begun(record)
            self.on_promise()

        lender.provider.admissions.on_change = promise
        try:
            places = await nursery.start(self._lend, key, lender)
            _log.info("lending %s from %s at %s", lend.offer.format(), lend.reservoir, places[0])
        except* OSError as errors:
            error = errors.exceptions[0]
            self.faults[where] = str(getattr(error, "strerror", None) or error)
            _log.warning("nothing is lent at %s: %s", where, self.faults[where])

    async def _lend(
        self, key: _Key, lender: Lender, *, task_status: trio.TaskStatus[list[str]]
    ) -> None:
        with self._kept(key, lender):
            async with trio.open_nursery() as running:
                task_status.started(await running.start(lender.run))

    @contextmanager
    def _kept(self, key: _Key, lender: Lender) -> Iterator[None]:
        """Know of a lender as long as it runs."""
        self.lenders[key] = lender
        try:
            yield
        finally:
            self._leaving.discard(lender)
            if self.lenders.get(key) is lender:
                del self.lenders[key]
            # another one may wait for its port
            self.change()

    def may_deliver(self) -> dict[str, int]:
        """Return what lenders may take out of each reservoir before it is written, uJ.

        That is what they have promised, and what they may promise within 2 s beside.
        """
        found: dict[str, int] = {}
        for lender in self.lenders.values():
            if len(lender.loans):
                name, rating_mw = lender.terms.reservoir, lender.provider.breaker.rating_mw
                found[name] = found.get(name, 0) + rating_mw * 1000 * AHEAD_S
        for name, ahead_uj in found.items():
            reservoir = self._firewall.intakes[name].reservoir
            out_uj = reservoir.promised_uj + ahead_uj
            cost_uj = -(-out_uj * 100 // reservoir.terms.discharge_percent)
            found[name] = min(cost_uj, reservoir.stored_uj)
        return found

    def _lent(self, reservoir: str, who: str, drawn: Drawn) -> None:
        self._firewall.drawn(reservoir, f"lent:{who}", drawn, Code.LEND)

    # -- infrastructure ------------------------------------------------------------------------

    def _follow_infrastructure(self, nursery: trio.Nursery, policy: Policy) -> None:
        said = policy.infrastructure
        if said is None:
            if self._running is not None:
                self._running.cancel()
            self.infrastructure = self._running = None
            return
        terms = InfrastructureTerms(
            reservoir=said.reservoir, declared_mw=said.power_mw, share_percent=said.share_percent
        )
        reservoir = self._firewall.intakes[said.reservoir].reservoir
        if self.infrastructure is not None:
            self.infrastructure.change(terms, reservoir)
            return
        self.infrastructure = Infrastructure(terms, reservoir, self._drawn, root=self._root)
        self._running = trio.CancelScope()
        nursery.start_soon(_run_within, self._running, self.infrastructure.run)

    # FWRL-4-03
    def _drawn(self, drawn: Drawn, span: HostSpan) -> None:
        infrastructure, firewall = self.infrastructure, self._firewall
        if infrastructure is None:
            return
        name = infrastructure.terms.reservoir
        firewall.drawn(name, f"infrastructure:{firewall.node}", drawn, Code.LOAD)
        wall = "measured" if span.is_measured else "declared"
        firewall.pending.add(
            f"host:{firewall.node}", f"wall:{wall}", span.energy_uj, Code.LOAD, WALL
        )

    # -- what it tells -------------------------------------------------------------------------

    def lending_fields(self) -> list[Fields]:
        """Return what a status says of the lenders."""
        told: list[Fields] = [lender.status() for lender in self.lenders.values()]
        faults: list[Fields] = [
            {"listen": where, "is_open": False, "because": why}
            for where, why in self.faults.items()
        ]
        return told + faults

    def infrastructure_fields(self) -> Fields | None:
        """Return what a status says of this host, None: it draws nothing of a reservoir."""
        if self.infrastructure is None:
            return None
        return {**self.infrastructure.status(), "sentence": self.infrastructure.sentence()}


def _nothing() -> None:
    """Nobody wants to know."""


async def _run_within(scope: trio.CancelScope, run: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await run()


def _terms(lend: Lend) -> LendTerms:
    return LendTerms(
        reservoir=lend.reservoir,
        supply=Supply(profile=lend.offer),
        above_percent=lend.above_percent,
        listen=(lend.host, lend.port),
        announce=lend.announce,
    )
