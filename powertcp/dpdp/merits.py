"""What speaks for a provider: its rank, step by step, and how to say it (section 6, DPDP-6-05)."""

import math
from hashlib import blake2s
from typing import Final, NamedTuple

from powertcp.dpdp.advert import Advert
from powertcp.dpdp.ranges import Overlap, format_asked
from powertcp.dpdp.trust import Verdict
from powertcp.dpdp.txt import show_text
from powertcp.dpdp.why import format_distance, format_tariff
from powertcp.profile import PowerProfile
from powertcp.units import NS_PER_MS, Duration

# this host, then the upper ends of the steps of distance; two more: beyond, and not measured
_STEPS: Final[tuple[Duration, ...]] = tuple(ms * NS_PER_MS for ms in (1, 5, 20, 100))
_UNMEASURED: Final = len(_STEPS) + 2
_DRAWS: Final = 1 << 64


class Rank(NamedTuple):
    """Where a provider stands, smallest first, compared from left to right.

    is_suspect, is_partly: 0 or 1. distrust: 0 pinned, 1 site, 2 any. is_other: 0 for the provider
    of the flow that is well. source: place among the preferred. tariff: 0 for a price that can be
    compared, and the price. distance: step of it. lot: drawn, weighted by `cap`. key: of the entry,
    where all else is equal.
    """

    is_suspect: int
    is_partly: int
    distrust: int
    is_other: int
    source: int
    tariff: tuple[int, int]
    distance: int
    lot: float
    key: str

    @property
    def worth(self) -> tuple[int, int, int, tuple[int, int]]:
        """The steps for which a flow may be moved: never for distance, never by lot."""
        # DPDP-10-03
        return self.is_partly, self.distrust, self.source, self.tariff


class Merits(NamedTuple):
    """What there is to say for a provider that passed every filter.

    verdict: how far it is believed, and what the handshake must prove. common: what it offers of
    the wish. free_mw: what it says to have for it. rtt: ns of one connect, 0 for this host, None
    where not measured. doubt: why it is suspect, "" if it is not.
    """

    rank: Rank
    advert: Advert
    verdict: Verdict
    common: Overlap
    free_mw: int
    rtt: Duration | None
    doubt: str

    @property
    def served(self) -> PowerProfile:
        """The most that can be expected."""
        return self.common.served(self.free_mw)

    @property
    def sentence(self) -> str:
        """What it is, for people: power, trust, source, price, distance."""
        words = [_power(self), _level(self), _source(self), _price(self)]
        if self.rtt is not None:
            words.append(format_distance(self.rtt))
        if not self.rank.is_other:
            words.append("in use")
        if self.doubt:
            words.append(f"suspect: {self.doubt}")
        return ", ".join(words)

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers of it, each by a name with its unit."""
        served, asked = self.served, self.common.ask.desired
        numbers = {
            "served_mv": served.voltage_mv,
            "served_ma": served.current_ma,
            "asked_mv": asked.voltage_mv,
            "asked_ma": asked.current_ma,
            "free_mw": self.free_mw,
        }
        return numbers if self.rtt is None else numbers | {"rtt_ns": self.rtt}

    def behind(self, first: "Merits") -> str:
        """Return by which step it stands behind `first`, with both values."""
        own, other = self.rank, first.rank
        differs = (
            name for name, mine, its in zip(own._fields, own, other, strict=True) if mine != its
        )
        match next(differs, ""):
            case "is_suspect":
                said = "suspects come last"
            case "is_partly":
                said = f"{_power(self)} after {_power(first)}"
            case "distrust":
                said = f"{_level(self)} after {_level(first)}"
            case "is_other":
                said = "the other one is in use"
            case "source":
                said = f"{_source(self)} after {_source(first)}"
            case "tariff":
                said = f"{_price(self)} after {_price(first)}"
            case "distance":
                said = f"{_far(self.rtt)} after {_far(first.rtt)}"
            case _:
                said = "by lot"
        return f"behind {first.advert.id.hex()[:8]}: {said}"


def _power(merits: Merits) -> str:
    asked = format_asked(merits.common.ask.desired)
    return (
        f"{format_asked(merits.served)} of {asked}" if merits.rank.is_partly else f"{asked} in full"
    )


def _level(merits: Merits) -> str:
    return str(merits.verdict.level)


# DPDP-7-02
def _source(merits: Merits) -> str:
    return show_text(merits.advert.source)


def _price(merits: Merits) -> str:
    return format_tariff(merits.advert.tariff)


def _far(rtt: Duration | None) -> str:
    return "distance not measured" if rtt is None else format_distance(rtt)


def distance_step(rtt: Duration | None) -> int:
    """Return the step of a distance in ns: 0 this host, then 1, 5, 20, 100 ms, more, unmeasured."""
    if rtt is None:
        return _UNMEASURED
    return 0 if rtt <= 0 else 1 + sum(rtt >= step for step in _STEPS)


# DPDP-6-01
def draw_lot(seed: bytes, provider: bytes, cap_mw: int) -> float:
    """Return the lot of a provider for the consumer that `seed` names, the smallest one wins.

    seed: any octets. provider: 16. Each provider wins with the probability of its share of all `cap_mw`,
    which is at least 1: exponential variates of that rate, so that a lot depends on nobody else's
    and a greater capacity never makes it worse.
    """
    octets = blake2s(seed + provider, digest_size=8).digest()
    chance = (int.from_bytes(octets) + 1) / _DRAWS
    return -math.log(chance) / cap_mw
