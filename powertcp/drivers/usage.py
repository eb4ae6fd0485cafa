"""What a flow really draws, second by second: how much of an unused reservation is given back."""

from powertcp.units import NS_PER_S, Instant

SECONDS = 60
PERCENTILE = 95
MARGIN_PERCENT = 110


class Usage:
    """Measured power of one flow that may be reclaimed (G)."""

    __slots__ = ("_at", "_esn_uj", "_powers", "_seconds")

    def __init__(self, now: Instant, esn_uj: int, seconds: int = SECONDS) -> None:
        """Measure from `now` on; every `seconds` looks make a verdict."""
        self._at, self._esn_uj = now, esn_uj
        self._seconds = seconds
        self._powers: list[int] = []

    def look(self, now: Instant, esn_uj: int) -> int | None:
        """Take the register once a second; at the end of each minute return the mW to keep.

        That is 1.1 times the 95th percentile of the mean power of each second. PTCP-7-08.
        """
        passed = now - self._at
        if passed < NS_PER_S // 2:
            return None
        # PTCP-7-08
        self._powers.append((esn_uj - self._esn_uj) * NS_PER_S // (passed * 1000))
        self._at, self._esn_uj = now, esn_uj
        if len(self._powers) < self._seconds:
            return None
        powers, self._powers = sorted(self._powers), []
        high = powers[-(-len(powers) * PERCENTILE // 100) - 1]
        return -(-high * MARGIN_PERCENT // 100)
