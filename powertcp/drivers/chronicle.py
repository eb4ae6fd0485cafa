"""What a provider says of its flows: one line per decision, the refusals kept for `explain`."""

import logging

from powertcp.drivers.session import FlowRecord
from powertcp.profile import PowerProfile
from powertcp.registry import Refusal
from powertcp.sources import Breaker, Explanation, Explanations
from powertcp.units import Instant, format_power

_log = logging.getLogger("provider")


class Chronicle:
    """The log of decisions. counts: how often each was made."""

    def __init__(self, breaker: Breaker, explanations: Explanations) -> None:
        """Tell of what `breaker` holds; remember in `explanations`."""
        self.counts: dict[str, int] = {}
        self._breaker = breaker
        self._explanations = explanations

    def note(
        self,
        record: FlowRecord,
        what: str,
        refusal: Refusal,
        now: Instant,
        *,
        wanted: PowerProfile | None = None,
        given: PowerProfile | None = None,
        extra: str = "",
    ) -> None:
        """Remember a decision for `explain` and say it."""
        self.counts[what] = self.counts.get(what, 0) + 1
        self._explanations.note(
            Explanation(
                flow=record.name,
                identity=record.rights.name if record.rights else "",
                what=what,
                refusal=refusal,
                now_ns=now,
                state=record.state,
                wanted=wanted,
                given=given,
            )
        )
        if _log.isEnabledFor(logging.INFO):
            self.say(record, what, extra, refusal.sentence())

    def say(self, record: FlowRecord, what: str, *words: str) -> None:
        """Say what became of a flow, and what of the rating is held."""
        if not _log.isEnabledFor(logging.INFO):
            return
        held = f"{format_power(self._breaker.held_mw)} of {format_power(self._breaker.rating_mw)}"
        rights = record.rights
        # a refusal has said which line it was
        if rights is not None and not any(rights.rule in word for word in words):
            words = (*words, f"{rights.name} by {rights.rule}")
        said = ", ".join(word for word in words if word)
        _log.info("flow %-24s %-9s %s  %s", record.name, what, said, held)
