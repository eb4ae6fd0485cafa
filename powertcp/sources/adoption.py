"""Contracts that another provider of the realm gave, and that go on here. DPDP section 10."""

from typing import Final

from powertcp.potcp.events import Ask
from powertcp.profile import PowerProfile
from powertcp.registry import Reason, Refusal
from powertcp.sources.breaker import Breaker
from powertcp.sources.holding import Key
from powertcp.units import Instant

_PROBE: Final = object()


# DPDP-10-05
def has_room(breaker: Breaker, profile: PowerProfile, peer: bytes, now: Instant) -> bool:
    """Return whether `profile` could be held now for a peer, nobody being shed for it."""
    supply, _ = adopt(breaker, _PROBE, profile, Ask(profile, profile), peer, now)
    breaker.release(_PROBE)
    return supply >= 0


def adopt(
    breaker: Breaker, key: Key, profile: PowerProfile, wanted: Ask, peer: bytes, now: Instant
) -> tuple[int, Refusal | None]:
    """Hold `profile`, which was given for `wanted`, as it is.

    Returns the supply, and why it cannot be had: nothing is held then, and the supply is -1.
    """
    admission = breaker.admit(key, (Ask(profile, profile),), peer, now)
    choice = admission.choice
    if choice is None or choice.grant is None:
        breaker.release(key)
        return -1, (choice.refusal if choice else None) or Refusal(Reason.NO_CAPACITY)
    breaker.accepted(key, profile)
    # what was shed there, below its minimum perhaps, is raised here
    holding = breaker.holdings[key]
    holding.desired, holding.minimum = wanted
    breaker.settled(key, profile)
    return admission.supply, None
