"""What becomes of the energy in a reservoir: terms of lending it, and of running this host on it."""

from dataclasses import dataclass
from typing import Final

from powertcp.sources.source import Supply

MAX_DECLARED_MW: Final = 1_000_000_000  # a host of 1 MW is none


@dataclass(frozen=True, slots=True, kw_only=True)
class LendTerms:
    """An internal provider over a reservoir. `__init__` trusts; `faults` says what cannot be.

    supply: what is offered, its amperes those of all flows together, the priority of its profile
    (1 critical to 15 least, 0 any) the best that is served. above_percent: state of charge below
    which nothing is lent. listen: host and port, 0 for any. announce: its name on the link, None
    for nothing said.
    """

    reservoir: str
    supply: Supply
    above_percent: int = 0
    listen: tuple[str, int] = ("::", 3251)
    announce: str | None = None

    def faults(self) -> list[str]:
        """Return a sentence for each value that cannot be."""
        found = []
        if not 0 <= self.above_percent < 100:
            found.append(f"above {self.above_percent}% is not 0% to 99%")
        if not 0 <= self.listen[1] <= 65_535:
            found.append(f"port {self.listen[1]} is not 0 to 65535")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class InfrastructureTerms:
    """How much of what this host draws a reservoir pays for.

    declared_mw: what it draws where nothing measures it; None ("auto") has only what is measured.
    share_percent: 1 to 100 of it.
    """

    reservoir: str
    declared_mw: int | None = None
    share_percent: int = 100

    def faults(self) -> list[str]:
        """Return a sentence for each value that cannot be."""
        found = []
        if not 0 < self.share_percent <= 100:
            found.append(f"share {self.share_percent}% is not 1% to 100%")
        if self.declared_mw is not None and not 0 < self.declared_mw <= MAX_DECLARED_MW:
            found.append(f"power {self.declared_mw:,} mW is not 1 to {MAX_DECLARED_MW:,} mW")
        return found
