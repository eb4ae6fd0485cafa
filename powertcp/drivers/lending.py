"""An internal provider over a reservoir: it lends what was reclaimed, as long as there is enough.

It is a provider as any other, with listeners of its own, in the process of whoever fills the
reservoir. Its rating follows what is stored, its leases are short, and what it has delivered is
drawn to the microjoule.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from powertcp.drivers.dial import listen
from powertcp.drivers.loans import Loans, OnLent
from powertcp.drivers.offers import Identity
from powertcp.drivers.provider import Provider, ProviderConfig
from powertcp.drivers.reclaimed import ReclaimedPresence
from powertcp.drivers.sealing import sealed_limits
from powertcp.errors import LocalProtocolError
from powertcp.potcp import ConnectionConfig
from powertcp.sources import LendTerms, Reservoir, Source
from powertcp.units import format_energy
from powertcp.vppn.config import SealConfig

LEASE_S: Final = 10  # the longest; twice what a silent peer may take to be noticed
LOOK_S: Final = 1.0
HYSTERESIS_PERCENT: Final = 2  # above the threshold, once it was closed
STEPS: Final = 16  # of the rating: flows are not shed for each joule that is drawn

Fields = dict[str, object]


class Lender:
    """Lends from `reservoir` on `terms`.

    provider: as any other, for reports. loans: what flows draw. presence: what is said on the link,
    None for nothing.
    """

    def __init__(
        self,
        terms: LendTerms,
        reservoir: Reservoir,
        on_lent: OnLent,
        *,
        identity: Identity | None = None,
        per_address: int | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Prepare; nothing is opened yet.

        on_lent: told at least each second, by key or address, what was drawn by whom and what became
        heat for it: postings `lent:<who>` and `heat:<node>` of `reservoir:<name>`. identity: by
        which it is announced under the name that the terms give it.
        """
        self.terms = terms
        self.reservoir = reservoir
        config = self._config(terms)
        if per_address is not None:
            config = replace(config, per_address=per_address)
        self.provider = Provider(config, entropy=entropy)
        self.loans = Loans(reservoir, on_lent, LEASE_S)
        self.presence: ReclaimedPresence | None = None
        if identity is not None and terms.announce is not None:
            self.presence = ReclaimedPresence(
                self.provider, identity, terms.announce, lambda: reservoir.percent
            )
            self.provider.farewell = self.presence.withdraw
        admissions = self.provider.admissions
        # FWRL-4-04
        admissions.requests.most_lease_s = LEASE_S
        admissions.on_change = self.loans.begin
        admissions.on_closed = self.loans.end
        self._is_open = True

    @staticmethod
    def _config(terms: LendTerms) -> ProviderConfig:
        return ProviderConfig(
            supplies=[terms.supply],
            rating_mw=0,
            name=terms.announce or "",
            best_priority=terms.supply.profile.priority or 1,
            connection=ConnectionConfig(lease_s=LEASE_S),
            source=Source(name="reclaimed"),
        )

    def seal(self, config: SealConfig, *, is_required: bool) -> None:
        """Take sealed connections, and no SYN in clear if `is_required`; called before `run`."""
        limits = sealed_limits(self.provider.config.connection)
        self.provider.config = replace(self.provider.config, connection=limits)
        self.provider.seal(config, is_required=is_required)

    # -- running -----------------------------------------------------------------------------------

    async def run(
        self, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Lend until drained or cancelled; started with the address that is listened on.

        Raises OSError when that cannot be. Whatever ends it, all that was delivered is drawn
        afterwards; cancelled, connections are reset.
        """
        listeners = listen([self.terms.listen])
        self.look()
        try:
            async with trio.open_nursery() as nursery:
                if self.presence is not None:
                    places = [listener.getsockname()[:2] for listener in listeners]
                    self.presence.listening(places)
                    nursery.start_soon(self.presence.run)
                nursery.start_soon(self._keep)
                async with trio.open_nursery() as serving:
                    task_status.started(await serving.start(self.provider.serve, listeners))
                nursery.cancel_scope.cancel()
        finally:
            self.loans.close()

    async def _keep(self) -> None:
        while True:
            self.look()
            await trio.sleep_until(trio.current_time() + LOOK_S)

    async def drain(self) -> None:
        """Say goodbye and FIN 601 on every flow; `run` ends then."""
        await self.provider.drain()

    def look(self) -> None:
        """Draw what was delivered, and go by what is left; `run` does it each second."""
        self.loans.look()
        self._rate()

    def change(self, terms: LendTerms) -> None:
        """Lend on other terms. Raises LocalProtocolError for what is settled at the start."""
        for name in ("reservoir", "listen", "announce"):
            if getattr(terms, name) != getattr(self.terms, name):
                raise LocalProtocolError(f"{name} of what is lent is settled at the start")
        self.terms = terms
        breaker = self.provider.breaker
        breaker.best_priority = terms.supply.profile.priority or 1
        config = replace(self.provider.config, supplies=[terms.supply])
        self.provider.reload(replace(config, rating_mw=breaker.rating_mw))
        self.look()

    # -- how much ----------------------------------------------------------------------------------

    # FWRL-4-04
    def _rate(self) -> None:
        """Let the rating follow what is stored: for as long as a lease, nothing at the threshold."""
        breaker, offered_mw = self.provider.breaker, self._offered_mw()
        self._is_open = self._is_above_threshold()
        safe_mw = self.loans.safe_uj // (1000 * LEASE_S) if self._is_open else 0
        step_mw = max(1, offered_mw // STEPS)
        target_mw = offered_mw if safe_mw >= offered_mw else safe_mw - safe_mw % step_mw
        breaker.because = self._because(target_mw < offered_mw)
        # what is being filled and drawn at the same time does not shed and restore by turns
        if target_mw < breaker.rating_mw or safe_mw - breaker.rating_mw >= 2 * step_mw:
            self.provider.set_rating(target_mw)
            if self.presence is not None:
                self.presence.moved()

    def _threshold_percent(self) -> int:
        """Return the charge from which it lends, as it stands."""
        percent = self.terms.above_percent
        return percent if self._is_open else min(percent + HYSTERESIS_PERCENT, 100)

    def _is_above_threshold(self) -> bool:
        store = self.reservoir
        return store.stored_uj * 100 >= self._threshold_percent() * store.terms.capacity_uj

    def _offered_mw(self) -> int:
        """Return the most it ever lends."""
        offered_mw, most_mw = self.terms.supply.rating_mw, self.reservoir.terms.max_out_mw
        return offered_mw if most_mw is None else min(offered_mw, most_mw)

    def _because(self, is_short: bool) -> str:
        """Return what the reservoir has to do with it, "" for nothing."""
        store, name = self.reservoir, f"reservoir {self.terms.reservoir}"
        if not self._is_open:
            return f"{name}: {store.percent}% is stored, it lends from {self._threshold_percent()}%"
        return f"{name}: {format_energy(store.drawable_uj)} above its floor" if is_short else ""

    # -- what it tells -----------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether anything is lent now."""
        return self.provider.breaker.rating_mw > 0

    def status(self) -> Fields:
        """Return what a control socket or a page shows of it."""
        breaker = self.provider.breaker
        return {
            "reservoir": self.terms.reservoir,
            "offer": self.terms.supply.profile.format(),
            "is_open": self.is_open,
            "because": breaker.because,
            "above_percent": self.terms.above_percent,
            "percent": self.reservoir.percent,
            "rating_mw": breaker.rating_mw,
            "held_mw": breaker.held_mw,
            "flows": len(self.loans),
            "lent_uj": self.loans.out_uj,
            "heat_uj": self.loans.heat_uj,
            "unpaid_uj": self.loans.unpaid_uj,
            "is_announced": self.presence is not None and self.presence.is_announced,
        }
