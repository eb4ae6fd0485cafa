"""A store of energy with losses, in integers: nothing appears, nothing is lost unseen.

What is banked, drawn and leaked is split into what is useful and what is heat; at any moment all
that came in is what is stored, what went out and what became heat, to the microjoule.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from powertcp.errors import LocalProtocolError
from powertcp.units import NS_PER_S, Duration, Instant

MAX_NAME: Final = 64
# an account of the ledger holds 63 bits
MAX_CAPACITY_UJ: Final = 2**62
# charge and discharge of a store that is none of a laboratory: a loop of its own power must lose
MAX_PERCENT: Final = 99
# how far apart draws of a steady load may lie and still have all of max-out
BURST_NS: Final = 2 * NS_PER_S
UW_PER_MW: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservoirTerms:
    """What a reservoir is. `__init__` trusts; `faults` says what cannot be.

    capacity_uj: all it holds. charge_percent, discharge_percent: what is left of a joule on its
    way in and out. leak_uw: what it loses at rest. max_in_mw, max_out_mw: None has no limit.
    floor_percent: of the capacity, below it nothing goes out. is_stopping: whether it takes nothing
    more when full; otherwise the rest becomes heat.
    """

    name: str
    capacity_uj: int
    charge_percent: int = 95
    discharge_percent: int = 95
    leak_uw: int = 0
    max_in_mw: int | None = None
    max_out_mw: int | None = None
    floor_percent: int = 0
    is_stopping: bool = True

    @property
    def floor_uj(self) -> int:
        """What stays in it, rounded up."""
        return -(-self.capacity_uj * self.floor_percent // 100)

    def faults(self, *, is_lab: bool = False) -> list[str]:
        """Return a sentence for each value that cannot be. is_lab: a store without losses may be."""
        # FWRL-4-01
        best = 100 if is_lab else MAX_PERCENT
        found = []
        if not 0 < len(self.name) <= MAX_NAME:
            found.append(f"a name has 1 to {MAX_NAME} letters, this one {len(self.name)}")
        if not 0 < self.capacity_uj <= MAX_CAPACITY_UJ:
            found.append(f"capacity {self.capacity_uj:,} uJ is not 1 to {MAX_CAPACITY_UJ:,} uJ")
        for what, percent in (
            ("charge", self.charge_percent),
            ("discharge", self.discharge_percent),
        ):
            if not 0 < percent <= best:
                found.append(f"{what} {percent}% is not 1% to {best}%")
        if not 0 <= self.floor_percent < 100:
            found.append(f"floor {self.floor_percent}% is not 0% to 99%")
        if self.leak_uw < 0:
            found.append(f"leak {self.leak_uw:,} uW is below 0")
        for what, most_mw in (("max-in", self.max_in_mw), ("max-out", self.max_out_mw)):
            if most_mw is not None and most_mw <= 0:
                found.append(f"{what} {most_mw:,} mW is not above 0")
        return found


class Split(NamedTuple):
    """What became of energy that came in: kept, and lost on the way or because there was no room."""

    stored_uj: int
    heat_uj: int


class Drawn(NamedTuple):
    """What a draw gave: delivered, and lost on the way; the store has less by both."""

    out_uj: int
    heat_uj: int


class Reservoir:
    """Stored energy under `terms`.

    stored_uj: never below 0, never above the capacity. promised_uj: of what can be drawn, kept for
    draws to come. in_uj, out_uj, heat_uj: totals since it was made, so that stored_uj == (stored at
    the beginning) + in_uj - out_uj - heat_uj.
    """

    __slots__ = (
        "_at", "_carry", "_quota_uj", "heat_uj", "in_uj", "out_uj", "promised_uj", "stored_uj",
        "terms",
    )  # fmt: skip

    def __init__(self, terms: ReservoirTerms, stored_uj: int = 0) -> None:
        """Begin with `stored_uj`, e.g. what the ledger says.

        Raises LocalProtocolError when that is not 0 to the capacity: after a change of the capacity
        begin with the old terms and `change` them, so that what is spilt is seen.
        """
        if not 0 <= stored_uj <= terms.capacity_uj:
            said = f"{stored_uj:,} uJ stored, {terms.name} holds 0 to {terms.capacity_uj:,} uJ"
            raise LocalProtocolError(said)
        self.terms = terms
        self.stored_uj = stored_uj
        self.in_uj = self.out_uj = self.heat_uj = self.promised_uj = 0
        self._at: Instant | None = None
        self._carry = 0  # of the leak, below 1 uJ: uW ns
        self._quota_uj = self._burst_uj()

    # -- in ----------------------------------------------------------------------------------------

    # FWRL-4-02
    @property
    def room_uj(self) -> int:
        """Return what may come in without a loss to fullness; 0 when nothing of it would be kept."""
        free_uj = self.terms.capacity_uj - self.stored_uj
        room_uj = free_uj * 100 // self.terms.charge_percent
        return room_uj if room_uj * self.terms.charge_percent // 100 else 0

    # FWRL-4-01
    def bank(self, energy_uj: int) -> Split:
        """Take `energy_uj` in, 0 or more; what does not fit is heat, and so is the loss."""
        _not_negative(energy_uj)
        free_uj = self.terms.capacity_uj - self.stored_uj
        kept_uj = min(energy_uj * self.terms.charge_percent // 100, free_uj)
        self.stored_uj += kept_uj
        self.in_uj += energy_uj
        self.heat_uj += energy_uj - kept_uj
        return Split(kept_uj, energy_uj - kept_uj)

    # -- out ---------------------------------------------------------------------------------------

    @property
    def above_floor_uj(self) -> int:
        """Return what is stored above the floor, before the loss on the way out."""
        return max(0, self.stored_uj - self.terms.floor_uj)

    @property
    def drawable_uj(self) -> int:
        """Return the most that a draw gives now: what is above the floor, less the loss."""
        return self.above_floor_uj * self.terms.discharge_percent // 100

    @property
    def free_uj(self) -> int:
        """Return what can be drawn and is promised to nobody."""
        return max(0, self.drawable_uj - self.promised_uj)

    @property
    def available_uj(self) -> int:
        """Return what may be drawn at most now without a promise: free, and within max-out.

        max-out is a mean: what was not drawn may be drawn later, for BURST_NS at most, and what was
        drawn beyond it is waited for. Time passes in `leak`.
        """
        if self._quota_uj is None:
            return self.free_uj
        return max(0, min(self.free_uj, self._quota_uj))

    def promise(self, energy_uj: int) -> None:
        """Keep `energy_uj` more for draws to come; less than 0 keeps less.

        What is promised does not leak. Raises LocalProtocolError, nothing changed, for more than is
        free, or when less would be kept than nothing.
        """
        if energy_uj > self.free_uj or self.promised_uj + energy_uj < 0:
            said = f"{energy_uj:,} uJ promised, {self.free_uj:,} uJ free, {self.promised_uj:,} kept"
            raise LocalProtocolError(said)
        self.promised_uj += energy_uj

    # FWRL-4-01
    def draw(self, energy_uj: int) -> Drawn:
        """Give `energy_uj`, 0 or more, or as much of it as there is above the floor.

        What was delivered already must be drawn whatever max-out says: only the floor binds here.
        A draw of what was promised takes that promise back with `promise`.
        """
        _not_negative(energy_uj)
        out_uj = min(energy_uj, self.drawable_uj)
        taken_uj = self._taken_uj(out_uj)
        self.stored_uj -= taken_uj
        self.out_uj += out_uj
        self.heat_uj += taken_uj - out_uj
        if self._quota_uj is not None:
            self._quota_uj -= out_uj
        return Drawn(out_uj, taken_uj - out_uj)

    def lose(self, energy_uj: int) -> Drawn:
        """Give `energy_uj` as `draw` does, of which nobody has anything: all of it is heat."""
        drawn = self.draw(energy_uj)
        self.out_uj -= drawn.out_uj
        self.heat_uj += drawn.out_uj
        return Drawn(0, drawn.out_uj + drawn.heat_uj)

    def _taken_uj(self, out_uj: int) -> int:
        """Return what the store has less when `out_uj` went out of it at once."""
        return -(-out_uj * 100 // self.terms.discharge_percent)

    # -- time --------------------------------------------------------------------------------------

    # FWRL-4-01
    def leak(self, now: Instant) -> int:
        """Let time pass until `now`, not before the last one; return the uJ that leaked: heat.

        The first call only begins. It leaks below the floor, never below 0; what is promised waits to
        leak until it was drawn or is free. Call it each second.
        Raises LocalProtocolError, state unchanged, when time runs backwards.
        """
        if self._at is None:
            self._at = now
        if now < self._at:
            raise LocalProtocolError(f"time runs backwards: {now} after {self._at}")
        passed_ns, self._at = now - self._at, now
        self._refill(passed_ns)
        due_uj, self._carry = divmod(self.terms.leak_uw * passed_ns + self._carry, NS_PER_S)
        kept_uj = 0
        if self.promised_uj:
            kept_uj = self.terms.floor_uj + self._taken_uj(self.promised_uj)
        lost_uj = min(due_uj, max(0, self.stored_uj - kept_uj))
        if kept_uj:
            self._carry += (due_uj - lost_uj) * NS_PER_S
        self.stored_uj -= lost_uj
        self.heat_uj += lost_uj
        return lost_uj

    def _refill(self, passed_ns: Duration) -> None:
        most_uj = self._burst_uj()
        if most_uj is None or self._quota_uj is None:
            self._quota_uj = most_uj
            return
        more_uj = _energy_uj(self.terms.max_out_mw or 0, passed_ns)
        self._quota_uj = min(most_uj, self._quota_uj + more_uj)

    def _burst_uj(self) -> int | None:
        most_mw = self.terms.max_out_mw
        return None if most_mw is None else _energy_uj(most_mw, BURST_NS)

    # -- orders ------------------------------------------------------------------------------------

    def change(self, terms: ReservoirTerms) -> int:
        """Go on under other terms; return what a smaller one cannot hold any more: heat.

        It may promise more than it has then: whoever was promised something looks again.
        """
        spilt_uj = max(0, self.stored_uj - terms.capacity_uj)
        self.terms = terms
        self.stored_uj -= spilt_uj
        self.heat_uj += spilt_uj
        self._quota_uj = self._burst_uj()
        return spilt_uj

    @property
    def percent(self) -> int:
        """State of charge, 0 to 100, rounded down."""
        return self.stored_uj * 100 // self.terms.capacity_uj


def _energy_uj(power_mw: int, span_ns: Duration) -> int:
    return power_mw * UW_PER_MW * span_ns // NS_PER_S


def _not_negative(energy_uj: int) -> None:
    if energy_uj < 0:
        raise LocalProtocolError(f"{energy_uj:,} uJ is no amount of energy")
