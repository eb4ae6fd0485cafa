"""Two ranges of power: whether what is offered and what is asked overlap (protocol section 1)."""

from typing import Final, NamedTuple

from powertcp.dpdp.advert import Offer
from powertcp.dpdp.why import Finding, Why
from powertcp.profile import Phases, PowerProfile, Waveform

_SHAPES: Final = {
    Waveform.DC: "DC",
    Waveform.SINE: "AC",
    Waveform.ARBITRARY: "arbitrary",
    Waveform.BY_ID: "as its profile says",
}


class Ask(NamedTuple):
    """One wish of a consumer: the most, and the least that would do (None: exactly the most)."""

    desired: PowerProfile
    minimum: PowerProfile | None = None

    @property
    def least(self) -> PowerProfile:
        """The least that would do."""
        return self.desired if self.minimum is None else self.minimum


class Overlap(NamedTuple):
    """What a provider offers of a wish. least_mv .. most_ma: corners of what both allow.

    is_full: the most that is asked is among it.
    """

    ask: Ask
    least_mv: int
    most_mv: int
    least_ma: int
    most_ma: int
    is_full: bool

    @property
    def least_mw(self) -> int:
        """Power of the least that is asked."""
        return self.ask.least.power_mw

    def is_within(self, free_mw: int) -> bool:
        """Return whether `free_mw` is enough for the least that is asked; 0 never is."""
        # DPDP-6-04
        return free_mw > 0 and free_mw >= self.least_mw

    def is_served(self, free_mw: int) -> bool:
        """Return whether all that is asked can be had with `free_mw`."""
        return self.is_full and free_mw > 0 and free_mw >= self.ask.desired.power_mw

    def served(self, free_mw: int) -> PowerProfile:
        """Return the most that can be expected with `free_mw`, which no handshake has promised."""
        desired = self.ask.desired
        most_mv = self.most_mv
        if least_mw_per_mv := desired.pairs * self.least_ma:
            # below the highest voltage when the least current at it would be too much power
            most_mv = max(self.least_mv, min(most_mv, free_mw * 1000 // least_mw_per_mv))
        most = desired.with_type(desired.type, voltage_mv=most_mv, current_ma=self.most_ma)
        return most.with_type(most.type, current_ma=most.current_for(free_mw))


class Misfit(NamedTuple):
    """Why an offer does not serve a wish. gap: how far off, in units of what is in the way."""

    finding: Finding
    gap: int

    @property
    def nearness(self) -> tuple[int, int]:
        """The greater the nearer to a fit."""
        return self.finding.why.place, -self.gap


# PTCP-1-03
def overlap(offer: Offer, ask: Ask) -> Overlap | Misfit:
    """Return what `offer` and `ask` have in common, or what keeps them apart.

    An offer states the greatest current of a flow: without a minimum it has any current below,
    but exactly its voltage.
    """
    most, desired, least = offer.offer, ask.desired, ask.least
    offered_least_mv = most.voltage_mv if offer.minimum is None else offer.minimum.voltage_mv
    # DPDP-3-04
    offered_least_ma = 0 if offer.minimum is None else offer.minimum.current_ma
    low_mv = max(offered_least_mv, least.voltage_mv)
    high_mv = min(most.voltage_mv, desired.voltage_mv)
    if low_mv > high_mv:
        numbers = (
            ("offered_least_mv", offered_least_mv),
            ("offered_mv", most.voltage_mv),
            ("asked_least_mv", least.voltage_mv),
            ("asked_mv", desired.voltage_mv),
        )
        return Misfit(Finding(Why.VOLTAGE, numbers), low_mv - high_mv)
    low_ma = max(offered_least_ma, least.current_ma)
    high_ma = min(most.current_ma, desired.current_ma)
    if low_ma > high_ma:
        numbers = (
            ("offered_least_ma", offered_least_ma),
            ("offered_ma", most.current_ma),
            ("asked_least_ma", least.current_ma),
            ("asked_ma", desired.current_ma),
        )
        return Misfit(Finding(Why.CURRENT, numbers), low_ma - high_ma)
    if not most.same_kind(desired):
        return _other_kind(most, desired)
    is_full = high_mv == desired.voltage_mv and high_ma == desired.current_ma
    return Overlap(ask, low_mv, high_mv, low_ma, high_ma, is_full)


def _other_kind(most: PowerProfile, desired: PowerProfile) -> Misfit:
    """Return how the kinds of power differ: waveform and phases, else the frequency."""
    if (most.waveform, most.phases) != (desired.waveform, desired.phases):
        words = (f"offers {_shape(most)}, ", f"asked {_shape(desired)}")
        return Misfit(Finding(Why.WAVEFORM, words=words), 0)
    offered, asked = most.frequency_chz, desired.frequency_chz
    numbers = (("offered_chz", offered), ("asked_chz", asked))
    return Misfit(Finding(Why.FREQUENCY, numbers), abs(offered - asked))


def _shape(power: PowerProfile) -> str:
    phases = "" if power.phases is Phases.ONE else f" {power.phases.name.lower()}"
    return f"{_SHAPES[power.waveform]}{phases}"


def format_asked(power: PowerProfile) -> str:
    """Return voltage, current and kind of a power, without priority, energy and lease."""
    return power.with_type(power.type, priority=0, energy_j=0, lease_s=0, giveback=False).format()
