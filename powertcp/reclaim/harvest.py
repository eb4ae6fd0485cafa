"""The firewall as the sink of power that nobody asked for: credit up to the head-room, banked.

Only integrated samples of clear segments are banked; what a header says is a claim. FWRL section 4.
"""

from typing import Final

from powertcp.dve import BlockSums, EnergyRegister
from powertcp.profile import PowerProfile
from powertcp.reclaim.accounts import FlowAccount
from powertcp.reclaim.bucket import BURST_MS, Bucket
from powertcp.sources import Reservoir, Split
from powertcp.units import NS_PER_MS, NS_PER_S, Instant
from powertcp.wire.frames import credit_segment
from powertcp.wire.options import Sampling
from powertcp.wire.segments import DEMAND_MAX

# FWRL-4-07, PTCP-3.2: what is assumed of samples that were never agreed upon
DEFAULT_SAMPLING: Final = Sampling(1000, 1_000_000, 1_000, 1, 0)
# FWRL-3-08: 1.1 of 1500 V, where low voltage of direct current ends
PEAK_MAX_MV: Final = 1_650_000
# PTCP-6-04: between two grants that are not urgent
GRANT_NS: Final = 100 * NS_PER_MS
# what may be under way of a source that no limit says the power of
OPEN_WINDOW_UJ: Final = 10_000_000_000
# FWRL-4-05: flows that are harvested at once
HARVESTS_MAX: Final = 64
# FWRL-4-05: of them of one source, so that none keeps others away
SOURCE_MAX: Final = 16
# FWRL-4-05: a source that has credit and sends nothing for so long makes room
SILENT_NS: Final = 10 * NS_PER_S
_NANO_PER_MILLI: Final = 1_000_000
_ESN_MAX: Final = (1 << 64) - 1


class Intake:
    """The way into one reservoir: what may come within max-in, and what was promised already.

    promised_uj: credit that was granted and not used yet, of all flows; it has room.
    """

    __slots__ = ("_bucket", "promised_uj", "reservoir")

    def __init__(self, reservoir: Reservoir, now: Instant) -> None:
        self.reservoir = reservoir
        self.promised_uj = 0
        self._bucket: Bucket | None = None
        self.change(now)

    def change(self, now: Instant) -> None:
        """Go by the terms of the reservoir."""
        most_mw, before = self.reservoir.terms.max_in_mw, self._bucket
        self._bucket = Bucket(most_mw, None, now) if most_mw else None
        # FWRL-3-02: terms that change nothing give nothing
        if before is not None and self._bucket is not None and before.is_like(self._bucket):
            self._bucket = before

    @property
    def rate_mw(self) -> int | None:
        """The most that comes in, None: no limit."""
        return self._bucket.rate_mw if self._bucket is not None else None

    # FWRL-4-02
    @property
    def is_full(self) -> bool:
        """Whether nothing more is wanted: full, and it stops then."""
        return self.reservoir.terms.is_stopping and not self.reservoir.room_uj

    # FWRL-4-05
    def free_uj(self, now: Instant) -> int:
        """Return what may still be promised: room that is not, within max-in."""
        reservoir = self.reservoir
        free_uj = _ESN_MAX
        if reservoir.terms.is_stopping:
            free_uj = reservoir.room_uj - self.promised_uj
        if self._bucket is not None:
            free_uj = min(free_uj, self._bucket.level(now))
        return max(0, free_uj)

    def promise(self, energy_uj: int, now: Instant) -> None:
        """Energy is on its way."""
        self.promised_uj += energy_uj
        if self._bucket is not None:
            self._bucket.take(energy_uj, now)

    def forget(self, energy_uj: int) -> None:
        """Energy that was promised does not come, or came."""
        self.promised_uj -= energy_uj


class Harvest:
    """One flow whose power we keep: its integral, its credit.

    number: of the flow. sampling: as agreed upon, None for the default. profile: its contract, None
    for none. esn_uj: where it stood. limit: of the rule, None for none. credit_uj: what the source
    may still deliver of what was granted. refuse_at: when a full reservoir is told. claimed_uj:
    what its headers said beyond our integral. heard_at: when it sent or was told something last.
    """

    __slots__ = (
        "_grant_at",
        "_intake",
        "_limit",
        "_peak_lsb",
        "_power_mw",
        "_register",
        "account",
        "claimed_uj",
        "credit_uj",
        "heard_at",
        "number",
        "refuse_at",
        "sampling",
    )

    def __init__(
        self,
        number: int,
        account: FlowAccount,
        intake: Intake,
        limit: Bucket | None,
        *,
        sampling: Sampling | None = None,
        profile: PowerProfile | None = None,
        esn_uj: int = 0,
    ) -> None:
        self.number, self.account = number, account
        self._intake, self._limit = intake, limit
        self.credit_uj = self.claimed_uj = 0
        self.refuse_at: Instant | None = None
        self._grant_at: Instant | None = None
        self.heard_at: Instant | None = None
        self._power_mw = 0
        self.agree(sampling or DEFAULT_SAMPLING, profile, esn_uj)

    def agree(self, sampling: Sampling, profile: PowerProfile | None, esn_uj: int) -> None:
        """Go by a sampling and a contract from `esn_uj` on."""
        self.sampling = sampling
        self._register = EnergyRegister(sampling, esn_uj)
        peak_mv = PEAK_MAX_MV
        if profile is not None and profile.voltage_mv:
            peak_mv = min(
                peak_mv,
                profile.voltage_mv * (15_557 if profile.frequency_chz else 11_000) // 10_000,
            )
        self._peak_lsb = peak_mv * _NANO_PER_MILLI // sampling.nv_per_lsb

    @property
    def esn_uj(self) -> int:
        """Where the source stands by our own integral, as far as 64 bits say it."""
        return min(self._register.esn_uj, _ESN_MAX)

    @property
    def reservoir(self) -> str:
        """The name of its reservoir."""
        return self._intake.reservoir.terms.name

    @property
    def room_uj(self) -> int:
        """What its reservoir still takes."""
        return self._intake.reservoir.room_uj

    @property
    def power_mw(self) -> int:
        """The power of the last block."""
        return self._power_mw

    def go_by(self, intake: Intake, limit: Bucket | None) -> None:
        """Go by another rule: credit that was granted stays."""
        self._intake.promised_uj -= self.credit_uj
        intake.promised_uj += self.credit_uj
        # FWRL-3-02: what the same limit has passed stays counted
        if limit is None or self._limit is None or not self._limit.is_like(limit):
            self._limit = limit
        self._intake = intake

    # FWRL-3-04
    def take(self, sums: BlockSums, now: Instant) -> tuple[int, int]:
        """Integrate a block; return (what came, what of it may be banked), uJ.

        The rest is heat: beyond credit and limits, or the whole block beyond what is safe.
        """
        self.heard_at = now
        before_uj = self._register.esn_uj
        # FWRL-4-07, PTCP-3.1-02: what draws power is no gift
        if sums.a <= 0:
            return 0, 0
        came_uj = self._register.add(sums.a) - before_uj
        self._power_mw = came_uj * self.sampling.rate_hz // (sums.n * 1000)
        granted_uj = min(self.credit_uj, came_uj)
        self.credit_uj -= granted_uj
        self._intake.forget(granted_uj)
        # FWRL-3-08
        if sums.v_peak > self._peak_lsb:
            return came_uj, 0
        extra_uj = min(came_uj - granted_uj, self._free_uj(now))
        if extra_uj:
            self._promise(extra_uj, now)
            self._intake.forget(extra_uj)
        return came_uj, granted_uj + extra_uj

    def bank(self, energy_uj: int) -> Split:
        """Put energy into the reservoir."""
        return self._intake.reservoir.bank(energy_uj)

    # FWRL-4-06
    def grant(self, now: Instant) -> bytes | None:
        """Return CREDIT up to the head-room when less than half a window is left, or None.

        What leaves it below half is followed by the next one GRANT_NS later: a source that waits
        for each microjoule is not answered for each.
        """
        if self._grant_at is not None and now < self._grant_at:
            return None
        self._grant_at = None
        window_uj = self._window()
        if self.credit_uj * 2 > window_uj:
            return None
        more_uj = min(window_uj - self.credit_uj, self._free_uj(now))
        if more_uj <= 0:
            self._grant_at = now + GRANT_NS
            return None
        self._promise(more_uj, now)
        self.credit_uj += more_uj
        limit_uj = min(self.esn_uj + self.credit_uj, _ESN_MAX)
        if self.credit_uj * 2 <= window_uj:
            self._grant_at = now + GRANT_NS
        demand_mw = self._rate_mw() or DEMAND_MAX
        return credit_segment(self.number, self.esn_uj, limit_uj, demand_mw)

    @property
    def is_full(self) -> bool:
        """Whether its reservoir wants nothing more, and nothing is on the way. FWRL-4-02."""
        return self._intake.is_full and not self.credit_uj

    def close(self) -> None:
        """Nothing more comes."""
        self._intake.forget(self.credit_uj)
        self.credit_uj = 0

    # FWRL-4-05
    @property
    def silent_at(self) -> Instant | None:
        """When it has had credit and said nothing for too long; None without credit."""
        return self.heard_at + SILENT_NS if self.heard_at is not None and self.credit_uj else None

    def get_timer(self) -> Instant | None:
        """Return when it may grant again, a full reservoir is told, or it was silent too long."""
        times = (self._grant_at, self.refuse_at, self.silent_at)
        return min((at for at in times if at is not None), default=None)

    def _rate_mw(self) -> int | None:
        rates = [self._limit.rate_mw if self._limit else None, self._intake.rate_mw]
        return min((one for one in rates if one is not None), default=None)

    def _window(self) -> int:
        rate_mw = self._rate_mw()
        if rate_mw is None:
            return max(OPEN_WINDOW_UJ, self._power_mw * BURST_MS)
        return rate_mw * BURST_MS

    def _free_uj(self, now: Instant) -> int:
        free_uj = self._intake.free_uj(now)
        if self._limit is not None:
            free_uj = min(free_uj, self._limit.level(now))
        return max(0, free_uj)

    def _promise(self, energy_uj: int, now: Instant) -> None:
        self._intake.promise(energy_uj, now)
        if self._limit is not None:
            self._limit.take(energy_uj, now)
