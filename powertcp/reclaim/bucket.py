"""Energy in a time: a bucket of microjoules that refills at a power, and what waits for it.

Credit of an accepted flow is held back until the bucket allows it, and let go as it came. FWRL-3-05.
"""

from typing import Final

from powertcp.units import NS_PER_S, Duration, Instant

# mW * ns = pJ
_PJ_PER_UJ: Final = 1_000_000
# credit for longer than that is looked at again then
WAIT_MAX_NS: Final = 3600 * NS_PER_S
# the burst of a limit that names none: what it passes in this time, PTCP-6-04
BURST_MS: Final = 2000


class Bucket:
    """At most `burst_uj` at once and `rate_mw` in the long run. It begins full.

    rate_mw, burst_uj: above 0; a burst of None is 2 s of the rate. saving_uj: what it saves up for,
    beyond the burst.
    """

    __slots__ = ("_at", "_level_pj", "burst_uj", "rate_mw", "saving_uj")

    def __init__(self, rate_mw: int, burst_uj: int | None, now: Instant) -> None:
        self.rate_mw = rate_mw
        self.burst_uj = rate_mw * BURST_MS if burst_uj is None else burst_uj
        self._level_pj = self.burst_uj * _PJ_PER_UJ
        self._at = now
        self.saving_uj = 0

    def is_like(self, other: "Bucket") -> bool:
        """Return whether the other one has the same limit."""
        return (self.rate_mw, self.burst_uj) == (other.rate_mw, other.burst_uj)

    def level(self, now: Instant) -> int:
        """Return what may pass now, uJ; below 0 when more has passed than may."""
        if now > self._at:
            level_pj = self._level_pj + self.rate_mw * (now - self._at)
            self._level_pj = min(max(self.burst_uj, self.saving_uj) * _PJ_PER_UJ, level_pj)
            self._at = now
        return self._level_pj // _PJ_PER_UJ

    def go_on(self, level_uj: int, now: Instant) -> None:
        """Hold no more than `level_uj`: what another limit has left."""
        self._level_pj = min(self.level(now), level_uj) * _PJ_PER_UJ

    def take(self, energy_uj: int, now: Instant) -> None:
        """Let `energy_uj` pass; the level may fall below 0."""
        self.level(now)
        self._level_pj -= energy_uj * _PJ_PER_UJ

    def wait_ns(self, energy_uj: int, now: Instant) -> Duration:
        """Return after how long `energy_uj` may pass; 0: now. More than the burst is saved up for."""
        self.level(now)
        missing_pj = energy_uj * _PJ_PER_UJ - self._level_pj
        return max(0, -(-missing_pj // self.rate_mw))


class CreditGate:
    """CREDIT of one flow under a limit: held back whole, the newest one only, never rewritten.

    credit_uj: limit of the last CREDIT that was let go. held: one that waits.
    """

    __slots__ = ("_bucket", "_due", "_limit_uj", "credit_uj", "held", "holds")

    def __init__(self, bucket: Bucket, credit_uj: int) -> None:
        """Begin with credit up to `credit_uj` let go. holds: how often credit was held back."""
        self._bucket = bucket
        self.credit_uj = credit_uj
        self.held: bytes | None = None
        self.holds = 0
        self._limit_uj = credit_uj
        self._due: Instant = 0

    def is_of(self, bucket: Bucket) -> bool:
        """Return whether the limit is that of `bucket`: what it has passed stays counted."""
        return self._bucket.is_like(bucket)

    # FWRL-3-05
    def offer(self, octets: bytes, limit_uj: int, now: Instant) -> bytes | None:
        """Take a CREDIT up to `limit_uj`; return it when it may pass now, None while it waits."""
        self._limit_uj = max(self._limit_uj, limit_uj)
        wanted_uj = self._limit_uj - self.credit_uj
        wait_ns = self._bucket.wait_ns(wanted_uj, now) if wanted_uj > 0 else 0
        if wait_ns > 0:
            self.holds += self.held is None
            self.held, self._due = octets, now + min(wait_ns, WAIT_MAX_NS)
            self._bucket.saving_uj = wanted_uj
            return None
        return self._let_go(octets, now)

    def get_timer(self) -> Instant | None:
        """Return when what is held may pass."""
        return self._due if self.held is not None else None

    def handle_timer(self, now: Instant) -> bytes | None:
        """Return what was held, once it may pass."""
        if self.held is None or now < self._due:
            return None
        return self.offer(self.held, self._limit_uj, now)

    def _let_go(self, octets: bytes, now: Instant) -> bytes:
        self._bucket.take(self._limit_uj - self.credit_uj, now)
        self.credit_uj, self.held = self._limit_uj, None
        self._bucket.saving_uj = 0
        return octets

    def level(self, now: Instant) -> int:
        """Return what its limit would let go now."""
        return self._bucket.level(now)

    @property
    def wanted_uj(self) -> int:
        """The limit of the CREDIT that came last, let go or not."""
        return self._limit_uj
