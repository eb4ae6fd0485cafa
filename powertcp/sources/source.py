"""What a provider has to give: a supply, the Source protocol, and the factory behind `--source`."""

from dataclasses import dataclass, replace
from typing import Protocol

from powertcp.errors import ConfigError
from powertcp.profile import PowerProfile, ProfileType


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """One voltage a provider serves; its profile's current is the rating in amperes.

    retiring: flows that have it keep it, nobody gets it any more.
    """

    profile: PowerProfile
    retiring: bool = False

    @property
    def rating_mw(self) -> int:
        """Rating in mW: the power of the profile."""
        return self.profile.power_mw

    def feeds(self, profile: PowerProfile) -> bool:
        """Say whether `profile` is power of this supply: same kind, same voltage."""
        return self.profile.voltage_mv == profile.voltage_mv and self.profile.same_kind(profile)

    def retire(self) -> "Supply":
        """Return this supply closed for new flows."""
        return replace(self, retiring=True)


class Source(Protocol):
    """Where the energy of a provider comes from.

    Integers only: given + stored + lost == taken, in uJ.
    """

    name: str

    def rating_mw(self) -> int | None:
        """Return what the source can give at most, None for no limit of its own."""

    def take(self, energy_uj: int) -> int:
        """Take up to `energy_uj` for delivery; return what was there."""

    def give_back(self, energy_uj: int) -> None:
        """Return energy that was taken and never verified by a sink."""


class Mains:
    """A source without a bottom: what is taken is only counted."""

    name = "mains"

    def __init__(self) -> None:
        """Start with nothing taken."""
        self.taken_uj = 0

    def rating_mw(self) -> int | None:
        """Return None: the breaker's rating is the only limit."""
        return None

    def take(self, energy_uj: int) -> int:
        """Count and grant all of `energy_uj`."""
        self.taken_uj += energy_uj
        return energy_uj

    def give_back(self, energy_uj: int) -> None:
        """Count what came back."""
        self.taken_uj -= energy_uj


KINDS = ("mains",)


def make_source(spec: str) -> Source:
    """Return the source of `KIND[:ARGS]`. Raises ConfigError naming the known kinds."""
    kind, _, arguments = spec.partition(":")
    if kind == "mains" and not arguments:
        return Mains()
    raise ConfigError("--source", kind, f'unknown source "{spec}", known are: {", ".join(KINDS)}')


def parse_supply(text: str) -> Supply:
    """Return the supply that the text form of a profile names. Raises ValueError."""
    profile = PowerProfile.parse(text, ProfileType.OFFER)
    if not profile.current_ma or not profile.voltage_mv:
        raise ValueError(f'a supply needs a voltage and a current above 0, got "{text}"')
    return Supply(profile=profile)
