"""Runs the host on a reservoir: a share of what it draws of the wall is drawn there too.

Both are energies, and never one sum: of the wall is what is measured or declared, simulated is what
comes out of a reservoir.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from powertcp.drivers.daemon import now_ns
from powertcp.drivers.host_load import HostLoad, HostSpan
from powertcp.sources import Drawn, InfrastructureTerms, Reservoir
from powertcp.units import NS_PER_S

LOOK_S: Final = 1.0
MEAN_SPANS: Final = 60  # of the power that people are told

OnDrawn = Callable[[Drawn, HostSpan], None]
Fields = dict[str, object]


class Infrastructure:
    """The share of the host's draw that `reservoir` pays for.

    measured_uj, declared_uj: of the wall. drawn_uj, heat_uj: of the reservoir. missed_uj: the part of
    the share that it had not, above its floor and within max-out.
    """

    def __init__(
        self,
        terms: InfrastructureTerms,
        reservoir: Reservoir,
        on_drawn: OnDrawn,
        *,
        root: str = "/",
    ) -> None:
        """Draw nothing yet.

        on_drawn: told each second what was drawn, and of what it is a share: postings
        `infrastructure:<host>` and `heat:<node>` of `reservoir:<name>`, and those of the wall in their
        own unit. It is told of spans for which nothing was drawn, too. root: where this machine's
        files are.
        """
        self.terms = terms
        self.reservoir = reservoir
        self.measured_uj = self.declared_uj = self.drawn_uj = self.heat_uj = self.missed_uj = 0
        self._on_drawn = on_drawn
        self._load = HostLoad(terms.declared_mw, root)
        self._spans: deque[HostSpan] = deque(maxlen=MEAN_SPANS)
        self._rest = 0  # of the share, below 1 uJ: hundredths
        self._root = root

    async def run(self) -> None:
        """Draw each second, until cancelled."""
        while True:
            # a battery may take milliseconds to answer
            span = await trio.to_thread.run_sync(partial(self._load.look, now_ns()))
            if span is not None:
                self.take(span)
            await trio.sleep_until(trio.current_time() + LOOK_S)

    # FWRL-4-03
    def take(self, span: HostSpan) -> Drawn:
        """Draw the share of what the host drew in `span`, as far as there is so much."""
        self._spans.append(span)
        if span.is_measured:
            self.measured_uj += span.energy_uj
        else:
            self.declared_uj += span.energy_uj
        share, self._rest = divmod(span.energy_uj * self.terms.share_percent + self._rest, 100)
        drawn = self.reservoir.draw(min(share, self.reservoir.available_uj))
        self.drawn_uj += drawn.out_uj
        self.heat_uj += drawn.heat_uj
        self.missed_uj += share - drawn.out_uj
        self._on_drawn(drawn, span)
        return drawn

    def change(self, terms: InfrastructureTerms, reservoir: Reservoir) -> None:
        """Go on under other terms, with another reservoir perhaps."""
        if terms.declared_mw != self.terms.declared_mw:
            self._load = HostLoad(terms.declared_mw, self._root)
        self.terms, self.reservoir = terms, reservoir

    # -- what it tells -----------------------------------------------------------------------------

    @property
    def power_mw(self) -> int | None:
        """What the host draws: the mean of a minute by the same source; None when nobody knows."""
        if not self._spans:
            return None
        source = self._spans[-1].source
        alike = [span for span in self._spans if span.source == source]
        spent_ns = sum(span.span_ns for span in alike)
        return sum(span.energy_uj for span in alike) * NS_PER_S // (spent_ns * 1000)

    def sentence(self) -> str:
        """Return for how long the reservoir would run this host, and who says at what power."""
        is_measured = bool(self._spans) and self._spans[-1].is_measured
        return runtime_sentence(self.reservoir.drawable_uj, self.power_mw, is_measured=is_measured)

    def status(self) -> Fields:
        """Return what a control socket or a page shows of it; of the wall: wall_..."""
        last = self._spans[-1] if self._spans else None
        return {
            "reservoir": self.terms.reservoir,
            "share_percent": self.terms.share_percent,
            "source": last.source if last else "",
            "is_measured": last.is_measured if last else False,
            "wall_mw": self.power_mw,
            "wall_measured_uj": self.measured_uj,
            "wall_declared_uj": self.declared_uj,
            "drawn_uj": self.drawn_uj,
            "heat_uj": self.heat_uj,
            "missed_uj": self.missed_uj,
            "sentence": self.sentence(),
        }


# FWRL-4-03
def runtime_sentence(energy_uj: int, power_mw: int | None, *, is_measured: bool) -> str:
    """Return "reclaimed (simulated) energy would run this host for 3 h 12 min at the measured 41.0 W"."""
    if power_mw is None:
        return "nobody measures what this host draws, and the policy does not declare it"
    how = "measured" if is_measured else "declared"
    watts, tenths = divmod((power_mw + 50) // 100, 10)
    at = f"at the {how} {watts:,}.{tenths} W"
    if not power_mw:
        return f"this host draws nothing, {at}"
    spent = _hours(energy_uj // (power_mw * 1000))
    return f"reclaimed (simulated) energy would run this host for {spent} {at}"


def _hours(seconds: int) -> str:
    """Return "3 h 12 min", "12 min 5 s" or "42 s"."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
